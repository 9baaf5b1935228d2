"""A table and its images, looked at before a training: nothing is changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from finecorr.checking.advice import advise_on_columns, give_advice
from finecorr.checking.browser import write_page
from finecorr.checking.columns import look_at_columns
from finecorr.checking.duplicates import look_at_duplicates
from finecorr.checking.files import Read, read_files
from finecorr.checking.findings import Finding, Section
from finecorr.checking.intensities import look_at_intensities
from finecorr.checking.labels import look_at_labels
from finecorr.checking.options import CheckOptions
from finecorr.checking.splits import look_at_splits
from finecorr.checking.subjects import look_at_subjects
from finecorr.checking.text import refusal_text, text_of
from finecorr.data.image_options import AugmentationOptions, ImageOptions
from finecorr.data.options import TableOptions
from finecorr.data.records import write_record
from finecorr.data.table import ImageTable, read_table
from finecorr.files import check_folder
from finecorr.models.options import TrainingOptions

PAGE = "check.html"
FINDINGS = "check.csv"


@dataclass(frozen=True)
class Check:
    """What was found."""

    table: ImageTable
    sections: Sequence[Section]

    @property
    def findings(self) -> pd.DataFrame:
        """`kind`, `row`, `image` (where there are some) and `group`, which are empty for what is of
        the whole, and `what`."""
        found = pd.DataFrame(
            [self._row(finding) for section in self.sections for finding in section.findings],
            columns=["kind", "row", "image", "group", "what"],
        ).astype({"row": "Int64"})
        return found if self.table.features is None else found.drop(columns="image")

    @property
    def refused(self) -> str | None:
        """Why `train` would not start, with all rows at fault; None where it would."""
        return refusal_text(self.table, self.sections)

    def text(self) -> str:
        """For a terminal."""
        return text_of(self.table, self.sections)

    def _row(self, finding: Finding) -> tuple[str, int | None, str, str, str]:
        if finding.case is None:
            return finding.kind, None, "", "", finding.what
        case, table = finding.case, self.table
        group = str(table.groups[case])
        return finding.kind, int(table.rows[case]), table.names[case], group, finding.what


def check(
    table_options: TableOptions,
    image_options: ImageOptions,
    training_options: TrainingOptions,
    options: CheckOptions,
) -> Check:
    """Looks at a table and its images. With `options.out`, that folder gets `check.html` and
    `check.csv`, in the place of those of an earlier check.

    Raises:
        InputError: a flag is at fault, or the table cannot be read at all. What else `train` would
            refuse is in `Check.refused`.
    """
    for part in (image_options, training_options, options):
        part.check()
    training_options.check_input(table_options, image_options, AugmentationOptions())
    if options.out is not None:
        check_folder(options.out)
    faults: list[str] = []
    table = read_table(table_options.absolute(), found=faults)
    splits, of_splits = look_at_splits(table, options, training_options.seed)
    labels = [look_at_labels(table, target) for target in range(len(table.target_columns))]
    subjects = look_at_subjects(table, table_options)
    if table.features is not None:
        read = Read({}, [], [], [])
        columns = look_at_columns(table, faults, splits)
        advice = advise_on_columns(table, splits, training_options)
        sections = [columns, *labels, subjects, of_splits, advice]
    else:
        read, files = read_files(table, faults, image_options, options.decode)
        pretrained = training_options.weights != "none"
        sections = [
            files,
            look_at_intensities(read, image_options, pretrained),
            *labels,
            subjects,
            look_at_duplicates(table, read, splits),
            of_splits,
            give_advice(table, read, splits, table_options, image_options, training_options),
        ]
    found = Check(table, sections)
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
        write_record(options.out / FINDINGS, found.findings)
        write_page(options.out / PAGE, table, sections, read, image_options)
    return found

"""What the flags of a training could better be, by what is in the table."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from finecorr.checking.files import Read
from finecorr.checking.findings import Finding, Section, some
from finecorr.data.decoding import NO_SIZE, geometry
from finecorr.data.image_options import ImageOptions, check_lengths
from finecorr.data.lengths import SAME, pixel_sizes
from finecorr.data.options import TableOptions, name_and_unit
from finecorr.data.table import ImageTable
from finecorr.errors import InputError
from finecorr.models.options import TrainingOptions

_STEPS, _POPULATION, _SMALL = 4, 16, 200
_WIDE = 20
"""Ratio of pixel sizes that is implausible."""
_UNITS = ("mm", "cm", "m", "um", "µm", "inch")
_SCALES = ((0, 1), (0, 10), (0, 100), (1, 5), (1, 10), (1, 100))
_OPINION = ("mos", "quality", "opinion")
_LOST, _BLOWN_UP = 4, 2
_CERTAIN = (0.9, 0.95)


@dataclass(frozen=True)
class _Sizes:
    """Sizes of pixels by the files, for `finecorr.data.lengths`."""

    rows: NDArray[np.intp]
    factors: NDArray[np.float64]
    pixel_sizes: NDArray[np.float64]

    @property
    def lost(self) -> NDArray[np.bool_]:
        """Those are not among them."""
        return np.zeros(len(self), dtype=np.bool_)

    def __len__(self) -> int:
        return len(self.rows)


def give_advice(
    table: ImageTable,
    read: Read,
    splits: NDArray[np.str_] | None,
    options: TableOptions,
    images: ImageOptions,
    training: TrainingOptions,
) -> Section:
    lines: list[str] = []
    found: list[Finding] = []
    try:
        check_lengths(options, images)
    except InputError as fault:
        found.append(Finding("lengths", str(fault), refused=True))
    if splits is not None:
        found += _steps(table, splits, training)
        found += _intervals(table, splits, training)
    found += _task(table, options, images)
    if any(options.lengths):
        # Of volumes, the files alone say it.
        by_table = replace(table, pixel_sizes=None) if images.volumes else table
        more, of_sizes = _pixel_sizes(by_table, read)
        lines += more
        found += of_sizes
    more, of_shapes = _shapes(read, images)
    return Section("Advice", [*lines, *more], [*found, *of_shapes])


def advise_on_columns(
    table: ImageTable, splits: NDArray[np.str_] | None, training: TrainingOptions
) -> Section:
    """The same of a table of feature columns."""
    if splits is None:
        return Section("Advice", [])
    return Section(
        "Advice", [], [*_steps(table, splits, training), *_intervals(table, splits, training)]
    )


def _steps(table: ImageTable, splits: NDArray[np.str_], training: TrainingOptions) -> list[Finding]:
    rows = (splits == "train") & table.labelled
    images, step = int(rows.sum()), training.step_size
    found = []
    if step * _STEPS > images:
        smaller = images // _STEPS
        remedy = f"--batch-size {smaller} or " if smaller >= _POPULATION else ""
        steps = some(max(images // step, 1), "step")
        what = (
            f"an epoch of {images} {table.kind} has {steps} of {step}: give {remedy}more --epochs"
        )
        found.append(Finding("few steps", what))
    elif step < _POPULATION:
        what = (
            f"the correlation of {step} {table.kind} is mostly chance: --population 64 computes it "
            "over more"
        )
        found.append(Finding("small population", what))
    if images < _SMALL:
        what = (
            f"with {images} {table.kind} to train on, the test on one split says little: finecorr "
            f"compare --folds 5 tests on all {table.kind}"
        )
        found.append(Finding("small table", what))
    return found


def _intervals(
    table: ImageTable, splits: NDArray[np.str_], training: TrainingOptions
) -> list[Finding]:
    """Whether limits of predictions can be had from the validation subjects."""
    subjects = len(set(table.groups[(splits == "validation") & table.labelled]))
    needed = {level: round(level / (1 - level)) for level in _CERTAIN}
    if not subjects and training.patience:
        what = "--patience needs validation rows: give --split-fractions a share for them"
        return [Finding("no validation", what, refused=True)]
    if subjects >= max(needed.values()):
        return []
    wanted = [f"--interval {level:g} needs {n}" for level, n in needed.items() if n > subjects]
    what = f"{some(subjects, 'validation subject')}: {', and '.join(wanted)}"
    return [Finding("few validation subjects", what)]


def _task(table: ImageTable, options: TableOptions, images: ImageOptions) -> list[Finding]:
    """Whether the flags suit what is predicted."""
    found = []
    for i, column in enumerate(table.target_columns):
        labels = table.targets[:, i]
        labels = labels[np.isfinite(labels)]
        if not len(labels):
            continue
        unit = (options.units[i] if options.units else None) or name_and_unit(column)[1]
        if unit in _UNITS and not options.lengths[i]:
            what = (
                f"{column} is in {unit}: if it is a length in the image, give --pixel-size-column, "
                "or --length-columns if the files hold the pixel size"
            )
            found.append(Finding("a length?", what))
        named = any(word in column.lower() for word in _OPINION)
        scale = any(low <= labels.min() and labels.max() <= high for low, high in _SCALES)
        if images.view == "fit" and scale and (named or table.standard_errors is not None):
            what = f"{column} looks like the quality of an image: see --task quality"
            found.append(Finding("quality?", what))
    return found


def _pixel_sizes(table: ImageTable, read: Read) -> tuple[list[str], list[Finding]]:
    if not read.frames:
        return [], []
    by_file = [
        read.headers[frame.path].shape(frame.number).pixel_size or NO_SIZE for frame in read.frames
    ]
    sizes = _Sizes(
        np.array([frame.case for frame in read.frames]),
        np.ones(len(read.frames)),
        np.array(by_file),
    )
    found = _disagreeing(table, sizes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what it says is found above
        try:
            known = pixel_sizes(table, sizes)
        except InputError as fault:
            return [], [*found, *_refused(table, sizes, str(fault))]
    low, high = known.min(), known.max()
    line = f"pixels from {low:.4g} to {high:.4g} wide, in the unit of the lengths"
    if high / low > _WIDE:
        far = np.abs(np.log(known / np.median(known)))
        for place in np.flatnonzero(far > np.log(_WIDE) / 2):
            what = f"pixels are {known[place]:.4g} wide; the median is {np.median(known):.4g}"
            found.append(Finding("implausible pixel size", what, int(sizes.rows[place])))
        if far.max() <= np.log(_WIDE) / 2:
            found.append(Finding("implausible pixel size", line))
    return [line], found


def _refused(table: ImageTable, sizes: _Sizes, fault: str) -> list[Finding]:
    """Rows that have none, or what else is refused."""
    by_table = np.full(len(sizes), np.nan)
    if table.pixel_sizes is not None:
        by_table = table.pixel_sizes[sizes.rows]
    none = np.isnan(by_table) & np.isnan(sizes.pixel_sizes[:, -1])
    if not none.any():
        return [Finding("pixel sizes", fault, refused=True)]
    what = "neither its file nor the table holds its pixel size"
    cases = dict.fromkeys(int(case) for case in sizes.rows[none])
    return [Finding("no pixel size", what, case, refused=True) for case in cases]


def _disagreeing(table: ImageTable, sizes: _Sizes) -> list[Finding]:
    """Sizes by the table that are not those of the files."""
    if table.pixel_sizes is None:
        return []
    by_table = table.pixel_sizes[sizes.rows]
    ratio = sizes.pixel_sizes / by_table[:, None]
    return [
        Finding(
            "pixel sizes disagree",
            f"{by_table[place]:.4g} in the table, {sizes.pixel_sizes[place, 1]:.4g} mm in the "
            "file: the table's is taken",
            int(sizes.rows[place]),
        )
        for place in np.flatnonzero((np.abs(ratio - 1) > SAME).any(axis=1))
    ]


def _shapes(read: Read, images: ImageOptions) -> tuple[list[str], list[Finding]]:
    """How far images are reduced, or blown up."""
    if not read.headers:
        return [], []
    if images.volumes:
        return _cut(read, images)
    shapes = np.array([header.largest.size for header in read.headers.values()])
    height, width = images.size
    if images.view == "crops":
        small = int((shapes < images.size).any(axis=1).sum())
        if not small:
            return [], []
        what = (
            f"{small} of {some(len(shapes), 'file')} are smaller than --crop-size {height} {width}"
        )
        return [], [Finding("smaller than a crop", f"{what}: they are mirrored at their edges")]
    factor = float(np.median((shapes / [height, width]).max(axis=1)))
    typical = f"{height} x {width} pixels (--image-size)"
    if factor > _LOST:
        what = f"the median image is reduced {factor:.1f} times to {typical}: details are lost"
        return [], [Finding("much larger than --image-size", what)]
    if factor < 1 / _BLOWN_UP:
        what = f"the median image is enlarged {1 / factor:.1f} times to {typical}"
        return [], [Finding("much smaller than --image-size", f"{what}: a smaller one is faster")]
    if f"{factor:.1f}" == "1.0":
        return [f"the median image is about {typical} large"], []
    said = f"reduced {factor:.1f} times" if factor >= 1 else f"enlarged {1 / factor:.1f} times"
    return [f"the median image is {said} to {typical}"], []


def _cut(read: Read, images: ImageOptions) -> tuple[list[str], list[Finding]]:
    """How many volumes are larger than what is seen; and how far their voxels are reduced."""
    shapes = [header.largest for header in read.headers.values()]
    found = [geometry(shape, images) for shape in shapes]
    cut = sum(one.unfit for one in found)
    typical = f"{images.description} (--image-size)"
    # How many times the finest side of a voxel goes into what becomes of it.
    factor = float(
        np.median(
            [
                shape.pixel_size[-1] / one.factor / min(shape.pixel_size)
                for shape, one in zip(shapes, found, strict=True)
                if shape.pixel_size is not None
            ]
        )
    )
    what = f"voxels of the median volume become {factor:.1f} times as long, in {typical}"
    if not cut:
        return [what], []
    of = f"{cut} of {some(len(shapes), 'volume')} are larger than {typical}"
    return [what], [Finding("larger than --image-size", f"{of}: they are cut at their edges")]

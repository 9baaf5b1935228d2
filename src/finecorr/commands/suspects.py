"""`finecorr suspects`: labels that may be wrong."""

from __future__ import annotations

from pathlib import Path

from jsonargparse import Namespace

from finecorr.comparison.compare import SUSPECTS
from finecorr.comparison.options import ComparisonOptions
from finecorr.comparison.suspects import find_suspects
from finecorr.evaluation.contradiction import SUSPICIOUS
from finecorr.flags import CROSS_VALIDATION
from finecorr.report.trainings import REPORT

_SHOWN = 20


def run(options: Namespace) -> None:
    trained = Path(options.run)
    out = trained / "suspects" if options.out is None else Path(options.out)
    chosen = {name: options[name] for name in CROSS_VALIDATION}
    suspects, folder = find_suspects(trained, ComparisonOptions(out, **chosen))
    count = int((suspects["score"] >= SUSPICIOUS).sum())
    shown = suspects.head(_SHOWN).to_string(index=False, float_format="{:.4g}".format)
    print(
        f"{count} of {len(suspects)} labels are further than {SUSPICIOUS} robust standard "
        f"deviations from what their images suggest; the worst:\n{shown}\n"
        f"all are in {folder / SUSPECTS}, the worst with their images in {folder / REPORT}"
    )

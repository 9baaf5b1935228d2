"""What a comparison of losses says, in words."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd

SIGNIFICANCE = 0.05
LOWER_IS_BETTER = frozenset({"MAE", "RMSE", "RMSE mapped"})
"""These measures have the target's unit; the others have none."""
WITHOUT_BEST = frozenset({"bias", "LLoA", "ULoA"})
"""These measures of an error are to be near zero, and are not compared."""


class Kind(NamedTuple):
    """What is compared, in words."""

    one: str
    many: str


LOSSES = Kind("loss", "losses")
MODELS = Kind("model", "models")


class Verdict(NamedTuple):
    """Which loss won, by how much, how sure; or that the data cannot tell."""

    headline: str
    explanation: str


def best_first(metrics: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The rows of one metric, from the best loss to the worst; undefined values are last.

    Args:
        metrics: as for `verdict`.
        metric: which of them.
    """
    rows = metrics[metrics["metric"] == metric]
    # Of two with the same value, the one that the others were tested against.
    rows = rows.assign(tested=rows["p"].notna())
    ascending = [metric in LOWER_IS_BETTER, True]
    return rows.sort_values(["value", "tested"], ascending=ascending, ignore_index=True)


def verdict(
    metrics: pd.DataFrame, metric: str, unit: str | None = None, kind: Kind = LOSSES
) -> Verdict:
    """Says which loss has the best `metric`, by how much and how sure.

    A loss wins where it is better than each other one with p < 0.05.

    Args:
        metrics: a row for each loss and metric, with the columns `loss`, `metric`, `value`,
            `low` and `high` (95 % interval), and `p`, of the difference from the best loss, after
            correction for the number of comparisons. For the best itself, and where no test was
            possible, `p` is NaN. A `value` is NaN where predictions of a training are constant.
        metric: the one that decides.
        unit: of the target.
        kind: what is compared, if not losses.
    """
    rows = best_first(metrics, metric)
    if rows.empty:
        return Verdict("There is nothing to compare.", f"No {kind.one} has {metric}.")
    defined, undefined = rows.dropna(subset="value"), rows[rows["value"].isna()]
    if defined.empty:
        reason = "The predictions of at least one training are constant."
        return Verdict(f"{metric} is undefined.", reason)
    best, others = defined.iloc[0], defined.iloc[1:]
    value = measure_text(metric, best["value"], unit)
    note = ""
    if len(undefined):
        note = f" For {_listed(undefined['loss'].tolist())}, {metric} is undefined."
    if others.empty:
        return Verdict(
            f"{best['loss']} has {metric} {value}.",
            f"The 95 % interval is {interval_text(metric, best['low'], best['high'], unit)}. "
            f"There is no other {kind.one} to compare it with.{note}",
        )
    if (others["p"] < SIGNIFICANCE).all():
        return _clear(best, others, metric, unit, kind, note)
    return _close(best, others, metric, unit, kind, note)


def _corrected(others: pd.DataFrame) -> str:
    return f", corrected for {len(others)} comparisons" if len(others) > 1 else ""


def _clear(
    best: pd.Series[Any],
    others: pd.DataFrame,
    metric: str,
    unit: str | None,
    kind: Kind,
    note: str,
) -> Verdict:
    """All others are worse."""
    second = others.iloc[0]
    gap = _gap(metric, abs(best["value"] - second["value"]), unit)
    side = "below" if metric in LOWER_IS_BETTER else "above"
    rank = "the next best, " if len(others) > 1 else ""
    beaten = f"than each of the {len(others)} other {kind.many} " if len(others) > 1 else ""
    return Verdict(
        f"{best['loss']} predicts best.",
        f"Its {metric} of {measure_text(metric, best['value'], unit)} is {gap} {side} that of "
        f"{rank}{second['loss']} ({measure_text(metric, second['value'], unit)}). It is better "
        f"{beaten}by more than chance explains "
        f"({_at_most(others['p'])}{_corrected(others)}).{note}",
    )


def _close(
    best: pd.Series[Any],
    others: pd.DataFrame,
    metric: str,
    unit: str | None,
    kind: Kind,
    note: str,
) -> Verdict:
    """Some of the others may be as good."""
    worse = others[others["p"] < SIGNIFICANCE]
    close = others.drop(worse.index)
    rivals = [
        f"{row['loss']} ({measure_text(metric, row['value'], unit)}, {p_text(row['p'])})"
        for row in close.to_dict("records")
    ]
    order = "lowest" if metric in LOWER_IS_BETTER else "highest"
    chance = (
        f"{best['loss']} has the {order} {metric}, "
        f"{measure_text(metric, best['value'], unit)}, but the difference from {_listed(rivals)} "
        f"may be chance{_corrected(others)}."
    )
    if worse.empty:
        return Verdict(f"The data cannot tell which {kind.one} is best.", f"{chance}{note}")
    subject = (
        f"The other {kind.one} is" if len(worse) == 1 else f"The other {len(worse)} {kind.many} are"
    )
    rest = f"{subject} worse ({_at_most(worse['p'])})."
    return Verdict(
        f"{_listed([best['loss'], *close['loss']])} predict best.",
        f"The data cannot tell them apart: {chance} {rest}{note}",
    )


def measure_text(metric: str, value: float, unit: str | None = None) -> str:
    """A value of a metric, with its unit if it has one."""
    if not np.isfinite(value):
        return "undefined"
    if metric in LOWER_IS_BETTER:
        return f"{number_text(value)} {unit}" if unit else number_text(value)
    return f"{value:.3f}"


def interval_text(metric: str, low: float, high: float, unit: str | None = None) -> str:
    """An interval of a metric."""
    if not (np.isfinite(low) and np.isfinite(high)):
        return "undefined"
    return f"{measure_text(metric, low)} to {measure_text(metric, high, unit)}"


def number_text(value: float) -> str:
    """A number of three digits, or as many as it has before the point below a million."""
    return f"{value:.0f}" if 999.5 <= abs(value) < 1e6 else f"{value:#.3g}".removesuffix(".")


def p_text(p: float) -> str:
    """A p-value as papers print it."""
    if np.isnan(p):
        return "not tested"
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"


def _at_most(p: pd.Series[float]) -> str:
    if len(p) == 1 or p.max() < 0.001:
        return p_text(p.max())
    return f"p ≤ {p.max():.2g}"


def _gap(metric: str, gap: float, unit: str | None) -> str:
    text = measure_text(metric, gap, unit)
    return "less than 0.001" if text == "0.000" else text


def _listed(names: list[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)

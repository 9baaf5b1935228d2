"""Figures of predictions against the truth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from finecorr.evaluation.agreement import agreement, limits_of_agreement
from finecorr.files import replacing

_POINT: dict[str, Any] = {"s": 16, "alpha": 0.6, "linewidths": 0, "color": "#1f5fa8"}
_LINE: dict[str, Any] = {"color": "#c0392b", "linewidth": 1.2}
_NAME: dict[str, Any] = {"parse_math": False}
"""Of a text in which a name is, whose dollars are dollars."""
_PANEL_SIDE = 4.2
"""Inches."""


@dataclass(frozen=True)
class Panel:
    """What one panel of a figure shows."""

    title: str
    quantity: str
    """The target with its unit, as the axes name it."""
    prediction: NDArray[np.float64]
    """`(n,)`"""
    target: NDArray[np.float64]
    """`(n,)`, without NaN."""


def scatter(panels: Sequence[Panel], path: Path) -> None:
    """Writes a PNG with predictions against truth, a panel each, all on the same scale where
    they show the same quantity."""
    _write(panels, path, _scatter)


def bland_altman(panels: Sequence[Panel], path: Path) -> None:
    """Writes a PNG with errors against the mean of prediction and truth, a panel each, with bias
    and limits of agreement."""
    _write(panels, path, _bland_altman)


def _write(panels: Sequence[Panel], path: Path, draw: Callable[[Axes, Panel], None]) -> None:
    columns = min(len(panels), 3)
    rows = -(-len(panels) // columns)
    size = (columns * _PANEL_SIDE, rows * _PANEL_SIDE)
    figure = Figure(figsize=size, dpi=150, layout="constrained")
    same = len({panel.quantity for panel in panels}) == 1
    axes = figure.subplots(rows, columns, squeeze=False, sharex=same, sharey=same).ravel()
    for axis, panel in zip(axes, panels, strict=False):
        draw(axis, panel)
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelleft=True, labelbottom=True)
    for axis in axes[len(panels) :]:
        axis.set_visible(False)
    with replacing(path) as temporary:
        figure.savefig(temporary)


def _scatter(axis: Axes, panel: Panel) -> None:
    both = np.concatenate([panel.prediction, panel.target])
    ends = [both.min(), both.max()]
    axis.plot(ends, ends, **_LINE, zorder=1, label="prediction = truth")
    axis.scatter(panel.target, panel.prediction, **_POINT)
    value = agreement(panel.prediction, panel.target)
    axis.set_title(
        f"{panel.title}\nPLCC {value['PLCC']:.3f}   SRCC {value['SRCC']:.3f}   "
        f"MAE {value['MAE']:.3g}",
        fontsize=10,
        **_NAME,
    )
    axis.set_xlabel(f"true {panel.quantity}", **_NAME)
    axis.set_ylabel(f"predicted {panel.quantity}", **_NAME)
    axis.legend(frameon=False, fontsize=8, loc="upper left")


def _bland_altman(axis: Axes, panel: Panel) -> None:
    mean = (panel.prediction + panel.target) / 2
    bias, low, high = limits_of_agreement(panel.prediction, panel.target)
    axis.scatter(mean, panel.prediction - panel.target, **_POINT)
    for level, style, name in ((bias, "-", "bias"), (low, "--", "limit"), (high, "--", "limit")):
        axis.axhline(level, linestyle=style, **_LINE)
        axis.annotate(
            f"{name} {level:+.3g}",
            (1, level),
            xycoords=("axes fraction", "data"),
            xytext=(-2, 3),
            textcoords="offset points",
            ha="right",
            fontsize=8,
            color=_LINE["color"],
        )
    axis.set_title(f"{panel.title}\nbias and 95 % limits of agreement", fontsize=10, **_NAME)
    axis.set_xlabel(f"mean of predicted and true\n{panel.quantity}", **_NAME)
    axis.set_ylabel("predicted - true")

"""The intensities of the decoded pictures, and what --intensity and --rgb make of them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from finecorr.checking.decoding import Frame, Measures
from finecorr.checking.files import Read
from finecorr.checking.findings import Finding, Section, some
from finecorr.data.image_options import ImageOptions

_EMPTY = 0.02
"""Share of an image's range in which nearly all its pixels are, where it is nearly empty."""
_SATURATED = 0.25
_FULL = 0.5
"""Share of a type's range from which on it is used."""
_CUT = 0.9
"""Share of the pixels that --intensity makes black or white, where it does not fit."""
_FEW = 0.2
"""Share of the images up to which they are the odd ones."""
_LIKE, _TURNED = 0.3, -0.3
"""Correlation with the mean image: of most, and of one that is turned."""


def look_at_intensities(read: Read, options: ImageOptions, pretrained: bool) -> Section:
    """
    Args:
        read: the pictures.
        options: what the network sees of them.
        pretrained: whether it starts from weights, which may need three channels.
    """
    title, measures = "Intensities", read.measures
    if not measures:
        return Section(title, ["no image could be decoded"])
    found = [
        *_each(read, "constant image", lambda m: m.high == m.low, lambda m: f"all is {m.low:g}"),
        *_each(
            read,
            "nearly empty image",
            lambda m: m.high > m.low and m.narrow < _EMPTY,
            lambda m: f"98 % of its pixels are within {m.narrow:.1%} of its range",
        ),
        *_each(
            read,
            "saturated image",
            lambda m: m.high > m.low and m.bright >= _SATURATED,
            lambda m: f"{m.bright:.0%} of its pixels have the highest value, {m.highest:g}",
        ),
        *_each(
            read,
            "--intensity does not fit",
            lambda m: options.intensity != ("image",) and m.high > m.low and m.outside >= _CUT,
            lambda m: (
                f"{m.outside:.0%} of its pixels become black or white ({m.low:g} to {m.high:g})"
            ),
        ),
        *_turned(read),
        *_odd_colours(read),
    ]
    lines, of_range = _range(measures, options)
    more, of_colour = _colours(measures, options, pretrained)
    lines += [
        *more,
        *_share(measures, "bright low values (MONOCHROME1), which are inverted", "inverted"),
        *_share(measures, "a window, which --intensity image follows", "windowed"),
        *_share(measures, "padding or transparency, which becomes black", "padding"),
    ]
    return Section(title, lines, [*found, *of_range, *of_colour])


def _each(
    read: Read, kind: str, wrong: Callable[[Measures], bool], what: Callable[[Measures], str]
) -> list[Finding]:
    return [
        Finding(kind, what(measured), frame.case)
        for frame, measured in zip(read.decoded, read.measures, strict=True)
        if wrong(measured)
    ]


def _share(measures: list[Measures], what: str, name: str) -> list[str]:
    count = sum(bool(getattr(measured, name)) for measured in measures)
    return [f"{count} of {some(len(measures), 'image')} with {what}"] if count else []


def _range(measures: list[Measures], options: ImageOptions) -> tuple[list[str], list[Finding]]:
    """What of the range of their type is used."""
    low, high = min(m.low for m in measures), max(m.high for m in measures)
    lines = [f"values from {low:g} to {high:g}"]
    limits = {(m.lowest, m.highest) for m in measures}
    if len(limits) > 1:
        types = ", ".join(_interval(*limit) for limit in sorted(limits, key=str))
        kind = "types that differ"
        what = f"the types of the files hold {types}: with --intensity type, each has a scale"
        found = [Finding(kind, what)] if options.intensity == ("type",) else []
        return [*lines, f"their types hold {types}"], found
    ((lowest, highest),) = limits
    if lowest is None or highest is None:
        return [*lines, "real numbers: --intensity type is not for them"], []
    used = (high - low) / (highest - lowest)
    lines[0] += f", which is {used:.0%} of what their type holds ({_interval(lowest, highest)})"
    if used > _FULL:
        return lines, []
    advice = f"--intensity type would be dark or pale; --intensity {low:g} {high:g} keeps exposure"
    if options.intensity == ("type",):
        return lines, [Finding("range that is hardly used", advice)]
    return [*lines, advice], []


def _interval(low: float | None, high: float | None) -> str:
    return "real numbers" if low is None or high is None else f"{low:g} to {high:g}"


def _colours(
    measures: list[Measures], options: ImageOptions, pretrained: bool
) -> tuple[list[str], list[Finding]]:
    """What is said of all; what becomes of it, by --rgb."""
    count, coloured = len(measures), sum(m.coloured for m in measures)
    stored = sum(m.channels == 3 for m in measures)
    lines = [f"{coloured} of {some(count, 'image')} in colour"]
    if stored > coloured:
        lines[0] += f"; {stored - coloured} more have three channels, all grey"
    if options.rgb and not coloured and not pretrained:
        what = "--rgb, and no image has colour: without it, the network reads a third"
        return lines, [Finding("grey as colour", what)]
    if not options.rgb and coloured > count / 2:
        return lines, [
            Finding("colour left out", "the network sees grey values: --rgb keeps the colours")
        ]
    return lines, []


def _odd_colours(read: Read) -> list[Finding]:
    """Few in colour among grey ones, or grey among coloured ones."""
    share = np.mean([measured.coloured for measured in read.measures])
    if 0 < share <= _FEW:
        return _each(read, "colour among grey", lambda m: m.coloured, lambda _: "is in colour")
    if 1 - _FEW <= share < 1:
        return _each(read, "grey among colour", lambda m: not m.coloured, lambda _: "is grey")
    return []


def _turned(read: Read) -> list[Finding]:
    """Dark where the others are bright, in a set whose images are alike."""
    small = torch.stack([measured.small for measured in read.measures]).flatten(1)
    small = small - small.mean(1, keepdim=True)
    small = small / small.norm(dim=1, keepdim=True).clamp_min(1e-9)
    mean = small.mean(0)
    like = (small @ mean / mean.norm().clamp_min(1e-9)).numpy()
    if len(like) < 10 or np.quantile(like, 0.25) < _LIKE:
        return []
    frames: list[Frame] = read.decoded
    return [
        Finding(
            "inverted image",
            f"is dark where the others are bright: it correlates by {like[i]:.2f} with their mean",
            frames[i].case,
        )
        for i in np.flatnonzero(like < _TURNED)
    ]

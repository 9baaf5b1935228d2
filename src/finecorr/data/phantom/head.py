"""Heads of random size, shape and place, and their exact circumference."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

Array = NDArray[np.floating[Any]]  # of 32 bits within the renderer, for speed
Range = tuple[float, float]


@dataclass(frozen=True)
class Ranges:
    """Ranges the random heads and images are drawn from, after those of the HC18 data set."""

    trimester_shares: tuple[float, float, float] = (0.16, 0.62, 0.22)
    trimester_circumferences: tuple[Range, Range, Range] = ((45, 135), (140, 215), (215, 345))  # mm
    cephalic_index: Range = (0.70, 0.90)  # short axis / long axis of the skull
    relative_perimeter: Range = (1.00, 2.25)  # perimeter in pixels / reference length of the image
    tilt_deviation: float = 0.25  # rad, of the long axis from horizontal
    skull_thickness: Range = (0.055, 0.085)  # of the short semi-axis
    sector_half_angle: Range = (0.42, 0.68)  # rad
    rectangle_half_angle: Range = (0.15, 0.40)  # rad
    rectangle_share: float = 0.3
    axial_spread: Range = (0.45, 0.7)  # pixels, at 0.5 mm per pixel
    lateral_spread: Range = (0.9, 1.6)  # pixels, at 0.5 mm per pixel
    depth_loss: Range = (2, 16)  # dB over the depth of the image, after time-gain compensation
    gain: Range = (-4, 5)  # dB
    dynamic_range: Range = (46, 56)  # dB shown between black and white
    frame_counts: tuple[float, float, float] = (0.8, 0.17, 0.03)  # shares of 1, 2, 3 frames


RANGES = Ranges()


@dataclass(frozen=True)
class Head:
    """Outer contour of the skull (an ellipse) and its place in the image."""

    semi_axes: tuple[float, float]  # mm, long and short
    pixel_size: float  # mm
    centre: tuple[float, float]  # pixels, x and y; whole numbers are the centres of pixels
    orientation: float  # rad, from the x axis of the image (right) towards its y axis (down)
    anatomy: int = 0  # seed of what the frames of a subject share: brain, surroundings, field

    @property
    def circumference(self) -> float:
        """Perimeter of the ellipse in mm."""
        long, short = self.semi_axes
        return float(4 * long * special.ellipe(1 - (short / long) ** 2))

    def contour(self, count: int = 90) -> Array:
        """Points (x, y) on the ellipse, in pixels; shape (count, 2)."""
        angle = np.linspace(0, 2 * np.pi, count, endpoint=False)
        long, short = (axis / self.pixel_size for axis in self.semi_axes)
        cos, sin = math.cos(self.orientation), math.sin(self.orientation)
        along, across = long * np.cos(angle), short * np.sin(angle)
        x, y = along * cos - across * sin, along * sin + across * cos
        return np.stack([x + self.centre[0], y + self.centre[1]], axis=1)

    def within(self, height: int, width: int) -> Head:
        """The same head, zoomed out and shifted as far as needed to lie within the image."""
        half_width, half_height = (np.ptp(self.contour(), axis=0) / 2).tolist()
        zoom_out = max(1.0, half_width / (0.47 * width), half_height / (0.46 * height))
        free_x, free_y = width / 2 - half_width / zoom_out, height / 2 - half_height / zoom_out
        middle_x, middle_y = (width - 1) / 2, (height - 1) / 2
        x = float(np.clip(self.centre[0], middle_x - free_x, middle_x + free_x))
        y = float(np.clip(self.centre[1], middle_y - free_y, middle_y + free_y))
        return replace(self, pixel_size=self.pixel_size * zoom_out, centre=(x, y))


def random_head(rng: np.random.Generator, height: int = 136, width: int = 192) -> Head:
    """Draws a head of random size, shape, zoom and place that fits an image of the given size."""
    trimester = rng.choice(3, p=RANGES.trimester_shares)
    lowest, highest = RANGES.trimester_circumferences[trimester]
    circumference = rng.triangular(lowest, (lowest + highest) / 2, highest)
    unit = Head((1.0, rng.uniform(*RANGES.cephalic_index)), 1.0, (0, 0), 0.0)
    long, short = (axis * circumference / unit.circumference for axis in unit.semi_axes)
    reference = min(width, height * math.sqrt(2))
    perimeter = reference * rng.uniform(*RANGES.relative_perimeter)
    head = Head(
        semi_axes=(long, short),
        pixel_size=circumference / perimeter,
        centre=(width * (0.5 + 0.10 * rng.normal()), height * (0.52 + 0.08 * rng.normal())),
        orientation=RANGES.tilt_deviation * rng.normal() + np.pi * rng.integers(2),
        anatomy=int(rng.integers(2**31)),
    )
    return head.within(height, width)


def moved_head(rng: np.random.Generator, head: Head, height: int, width: int) -> Head:
    """The head as another frame of the same examination shows it."""
    x, y = head.centre
    return replace(
        head,
        pixel_size=head.pixel_size * rng.uniform(0.95, 1.05),
        centre=(x + 0.03 * width * rng.normal(), y + 0.03 * height * rng.normal()),
        orientation=head.orientation + 0.06 * rng.normal(),
    ).within(height, width)

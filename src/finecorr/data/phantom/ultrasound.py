"""How a scanner shows a head.

Scatterers and reflectors are laid out on a grid of beams and depths, attenuated along each beam,
blurred by the point-spread function of the probe, log-compressed, and only then converted to the
pixels of a sector or rectangular field.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, special

from finecorr.data.phantom.head import RANGES, Array, Head, Range

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class _Field:
    """Visible field of a curved probe: beams fan out downwards from an apex above the image."""

    apex: tuple[float, float]  # pixels, x and y
    radii: tuple[float, float]  # pixels from the apex, at the probe and at the greatest depth
    half_angle: float  # rad


def _field(rng: np.random.Generator, head: Head, height: int, width: int) -> _Field:
    contour = head.contour()
    corners = np.array([(0, 0), (width, 0), (0, height), (width, height)], dtype=np.float64)
    rectangle = rng.random() < RANGES.rectangle_share
    limits = RANGES.rectangle_half_angle if rectangle else RANGES.sector_half_angle
    half_angle = rng.uniform(*limits)
    slope = math.tan(half_angle)
    apex_x = width / 2 + (head.centre[0] - width / 2) * rng.uniform(0, 0.6)
    shown = corners if rectangle else contour
    # Half the width of the field at the top edge of the image at which it holds all of `shown`.
    needed = float(np.max(np.abs(shown[:, 0] - apex_x) - slope * shown[:, 1]))
    top = needed if rectangle else max(rng.uniform(0.17, 0.28) * width, needed + 0.01 * width)
    apex_y = -top / slope
    near, far = -apex_y + np.array([rng.uniform(-0.04, 0.05), rng.uniform(0.97, 1.15)]) * height
    distances = np.hypot(contour[:, 0] - apex_x, contour[:, 1] - apex_y)
    near, far = float(min(near, distances.min() - 2)), float(max(far, distances.max() + 2))
    if rectangle:
        near = min(near, -apex_y)
        far = float(np.hypot(corners[:, 0] - apex_x, corners[:, 1] - apex_y).max())
    return _Field((apex_x, apex_y), (near, far), half_angle)


def _smooth_noise(rng: np.random.Generator, shape: tuple[int, int], rows: int, cols: int) -> Array:
    """Noise of mean 0 and deviation about 1, with `rows` x `cols` independent cells."""
    bases: list[Array] = []
    for count, cells in zip(shape, (rows, cols), strict=True):
        offset = np.linspace(0, cells, count)[:, None] - np.arange(-1, cells + 2)
        basis = np.exp(-(offset**2)).astype(np.float32)
        bases.append(basis / np.sqrt(np.sum(basis**2, axis=1, keepdims=True)))
    coarse = rng.standard_normal((rows + 3, cols + 3), dtype=np.float32)
    return np.asarray(bases[0] @ coarse @ bases[1].T)


def _stroke(x: Array, y: Array, centre: Range, half: Range, angle: float = 0.0) -> Array:
    """A soft-edged bar with the given half length and half thickness, of height 1."""
    cos, sin = math.cos(angle), math.sin(angle)
    dx, dy = x - centre[0], y - centre[1]
    along, across = (dx * cos + dy * sin) / half[0], (dy * cos - dx * sin) / half[1]
    return np.asarray(np.exp(-np.square(np.square(along)) - np.square(across)))


def render(rng: np.random.Generator, head: Head, height: int, width: int) -> NDArray[np.uint8]:
    anatomy = np.random.default_rng(head.anatomy)
    field = _field(anatomy, head, height, width)
    shape = (int(1.25 * height), width)
    radius = np.linspace(*field.radii, shape[0], dtype=np.float32)[:, None]
    angle = np.linspace(-field.half_angle, field.half_angle, shape[1], dtype=np.float32)[None]
    beam_x, beam_y = np.sin(angle), np.cos(angle)
    step = (field.radii[1] - field.radii[0]) / shape[0]
    depth = (radius - field.radii[0]) / (field.radii[1] - field.radii[0])

    # Coordinates u, v of the head (1 at the ends of its axes) and signed distance to the skull.
    dx = field.apex[0] + radius * beam_x - head.centre[0]
    dy = field.apex[1] + radius * beam_y - head.centre[1]
    cos, sin = math.cos(head.orientation), math.sin(head.orientation)
    long, short = (axis / head.pixel_size for axis in head.semi_axes)
    u, v = (dx * cos + dy * sin) / long, (dy * cos - dx * sin) / short
    level = np.sqrt(u * u + v * v) + 1e-6
    slope_u, slope_v = u / (level * long), v / (level * short)
    steepness = np.sqrt(slope_u * slope_u + slope_v * slope_v) + 1e-6
    distance = (level - 1) / steepness
    normal_x, normal_y = slope_u * cos - slope_v * sin, slope_u * sin + slope_v * cos
    facing = np.abs(normal_x * beam_x + normal_y * beam_y) / steepness

    thickness = max(anatomy.uniform(*RANGES.skull_thickness) * short, 1.6)
    outward = distance / thickness
    rim = np.abs(outward) < 2.5
    reflectors = np.zeros_like(u)
    reflectors[rim] = _skull(anatomy, np.arctan2(v[rim], u[rim]), outward[rim], facing[rim])
    scatter, reflection = _brain(anatomy, u, v, distance < 1)
    around = _surroundings(anatomy, depth, distance / short, shape)
    inside = special.expit(-(distance + thickness / 2) / 0.6)
    # Echoes thrown to and fro between probe and skull blur the half of the brain near the probe.
    scatter += rng.uniform(0, 9) * np.clip(-dy / short, 0, 1)
    decibels = around + (scatter - around) * inside
    reflectors += reflection * inside

    # A closer view is blurrier in pixels, though less than in proportion: probes differ too.
    spread = math.sqrt(0.5 / head.pixel_size * min(height / 136, width / 192))
    axial = spread * rng.uniform(*RANGES.axial_spread) / step
    arc = 2 * field.half_angle * sum(field.radii) / 2
    lateral = spread * rng.uniform(*RANGES.lateral_spread) * shape[1] / arc
    loss = _loss(rng, np.abs(outward + 0.5) < 0.5, step / thickness, depth, angle)
    amplitude = _echo(rng, decibels, reflectors, (axial, lateral))
    shown = 20 * np.log10(amplitude + 1e-4) - loss + rng.uniform(*RANGES.gain)
    dynamic_range = rng.uniform(*RANGES.dynamic_range)
    grey = 255 * np.clip(1 + shown / dynamic_range, 0, 1) ** 1.7
    return _to_pixels(grey, field, height, width)


def _skull(rng: np.random.Generator, around: Array, outward: Array, facing: Array) -> Array:
    """Echo of the skull: two tables, sutures, and the scalp.

    `around` is the angle about the centre (rad), `outward` the distance from the outer edge in
    thicknesses of the skull, `facing` the cosine between beam and skull normal.
    """
    angles = np.linspace(-np.pi, np.pi, 720)
    strength, width = np.ones(720), np.ones(720)
    for order in range(1, 25):
        wave = np.cos(order * angles + rng.uniform(0, 2 * np.pi)) * rng.normal()
        strength += 0.34 * wave / order**0.7
        width += 0.08 * wave / order**0.5
    for _ in range(rng.integers(1, 6)):
        gap = (angles - rng.uniform(-np.pi, np.pi) + np.pi) % (2 * np.pi) - np.pi
        strength *= 1 - rng.uniform(0.6, 1) * np.exp(-((gap / rng.uniform(0.03, 0.08)) ** 2))
    step = np.rint((around / (2 * np.pi) + 0.5) * 719).astype(np.intp)
    inward = -outward / np.clip(width, 0.6, 1.4).astype(np.float32)[step]
    tables = np.exp(-np.square((outward + 0.25) / 0.25))
    tables += np.exp(-np.square((inward - 0.8) / 0.32)) * 0.6
    tables += np.exp(-np.square((outward - 1.0) / 0.3)) * 0.06
    echo = rng.uniform(0.005, 0.06) + facing ** rng.uniform(2, 6)
    brightness = np.clip(strength, 0.04, 1.6) * rng.uniform(0.9, 3.2)
    return np.asarray(tables * echo * brightness.astype(np.float32)[step])


def _brain(rng: np.random.Generator, u: Array, v: Array, inside: Mask) -> tuple[Array, Array]:
    """Scatter (dB) and reflections of the brain in the coordinates of the head."""
    shape = (u.shape[0], u.shape[1])

    def noise(rows: int, cols: int) -> Array:
        return _smooth_noise(rng, shape, rows, cols)[inside]

    # Bent coordinates, since nothing in a brain is straight.
    x, y = u[inside] + 0.04 * noise(14, 14), v[inside] + 0.025 * noise(14, 14)
    scatter = rng.uniform(-38, -30) + rng.uniform(2, 5) * noise(34, 26)
    side = 1 if rng.random() < 0.5 else -1
    for sign, clarity in ((side, 1.0), (-side, rng.uniform(0, 0.8))):
        centre, tilt = (rng.uniform(-0.5, -0.3), sign * rng.uniform(0.32, 0.45)), rng.normal() * 0.2
        scatter -= 10 * clarity * _stroke(x, y, centre, (0.40, 0.20), tilt)
        centre = (centre[0] + rng.uniform(-0.1, 0.1), centre[1])
        choroid = _stroke(x, y, centre, (rng.uniform(0.12, 0.28), rng.uniform(0.09, 0.14)), tilt)
        scatter += rng.uniform(18, 30) * clarity * choroid
    # Midline, walls of the cavum septi pellucidi, and whatever else lies across the beams.
    cavum = rng.uniform(0.35, 0.5)
    visible = np.clip(0.3 + 0.7 * noise(16, 16), 0, 1.2)
    lines = 0.4 * _stroke(x, y, (0, 0), (0.93, 0.018), 0.02 * rng.normal()) * visible
    for edge in (-0.06, 0.06):
        walls = _stroke(x, y, (cavum, edge), (0.12, 0.018))
        lines += rng.uniform(0, 0.5) * walls
    for _ in range(rng.integers(4, 11)):
        centre = (rng.uniform(-0.65, 0.65), rng.uniform(-0.5, 0.5))
        half = (rng.uniform(0.03, 0.14), rng.uniform(0.012, 0.025))
        fold = _stroke(x, y, centre, half, 0.35 * rng.normal())
        lines += rng.uniform(0.05, 0.4) * fold
    both = np.zeros((2, *shape), np.float32)
    both[:, inside] = scatter, lines
    return both[0], both[1]


def _surroundings(
    rng: np.random.Generator, depth: Array, distance: Array, shape: tuple[int, int]
) -> Array:
    """Scatter (dB) outside the head: layers under the probe, uterine wall, amniotic fluid."""
    layers = 5 * _smooth_noise(rng, shape, 50, 3) * np.exp(-depth / 0.12)
    tissue = rng.uniform(-29, -20) + 5 * _smooth_noise(rng, shape, 7, 7) + layers
    tissue += 3 * _smooth_noise(rng, shape, 45, 16)
    # Fluid gathers near the head and seldom reaches the probe or the far wall.
    pocket = _smooth_noise(rng, shape, 6, 6) + rng.uniform(-0.5, 1.3)
    pocket -= 2 * np.maximum(distance, 0) + 3 * np.exp(-depth / 0.08)
    wall = np.exp(-np.square((pocket + 0.2) / 0.15)) * rng.uniform(0, 9)
    fluid = special.expit(8 * pocket)
    return np.asarray(tissue + wall - rng.uniform(12, 20) * fluid)


def _loss(rng: np.random.Generator, bone: Mask, step: float, depth: Array, angle: Array) -> Array:
    """Attenuation (dB): shadows of the skull, depth, poor contact of the probe, edges of the field.

    `step` is the distance between depths in thicknesses of the skull.
    """
    # A beam that grazes the skull stays in it longest, hence the shadows at the sides of the head.
    loss = rng.uniform(0.6, 3) * step * np.cumsum(bone, axis=0, dtype=np.float32)
    loss = ndimage.gaussian_filter1d(np.minimum(loss, 20), rng.uniform(2, 5), axis=1, truncate=2)
    loss += rng.uniform(*RANGES.depth_loss) * depth
    contact = _smooth_noise(rng, (1, angle.size), 1, 9)
    loss += rng.uniform(0, 9) * special.expit(4 * (contact - 1.2)) * np.minimum(1, 4 * depth)
    loss += rng.uniform(0, 8) * (angle / angle.max()) ** 4
    return np.asarray(loss)


def _echo(
    rng: np.random.Generator, decibels: Array, reflectors: Array, spread: tuple[float, float]
) -> Array:
    """Amplitude of the echo: speckle averaged over two looks (compounding), plus reflections."""
    # Keeps the mean power of the speckle independent of the width of the blur.
    scale = math.sqrt(4 * math.pi * spread[0] * spread[1])
    scatterers = scale * np.exp(decibels * (math.log(10) / 20))
    amplitude = np.zeros_like(decibels)
    for _ in range(2):
        parts = rng.standard_normal((2, *decibels.shape), dtype=np.float32)
        parts[0] *= scatterers + 0.25 * reflectors
        parts[0] += reflectors
        parts[1] *= scatterers
        real, imaginary = ndimage.gaussian_filter(parts, (0, *spread), truncate=2.5)
        amplitude += np.sqrt(np.square(real) + np.square(imaginary)) / 2
    return amplitude


def _to_pixels(grey: Array, field: _Field, height: int, width: int) -> NDArray[np.uint8]:
    y, x = np.mgrid[:height, :width].astype(np.float32)
    dx, dy = x - field.apex[0], y - field.apex[1]
    row = (
        (np.sqrt(dx * dx + dy * dy) - field.radii[0])
        / (field.radii[1] - field.radii[0])
        * (grey.shape[0] - 1)
    )
    col = (np.arctan2(dx, dy) / field.half_angle + 1) / 2 * (grey.shape[1] - 1)
    pixels = ndimage.map_coordinates(grey, [row, col], order=1, cval=0)
    return np.asarray(np.rint(pixels), np.uint8)

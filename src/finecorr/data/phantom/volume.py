"""Ultrasound-like volumes of a head whose volume and length are known exactly."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from nibabel.nifti1 import Nifti1Image
from nibabel.orientations import apply_orientation, inv_ornt_aff
from numpy.typing import NDArray
from scipy import ndimage, special
from scipy.spatial.transform import Rotation
from tqdm import tqdm

from finecorr.files import replacing

Points = NDArray[np.float64]
_LEAST = 16
_LONG = (30.0, 60.0)  # mm, half of the head from front to back
_SHARES = ((0.72, 0.9), (0.75, 0.95))  # of that, half of it from side to side, and from top to base
_VENTRICLE = ((0.25, 0.5), (0.1, 0.3), (0.15, 0.35))  # of the axes of the head
_SKULL = (2.5, 4.0)  # mm
_TILT = 0.25  # rad, of the head about each axis
_FIELD = (1.1, 1.5)  # of the head's length, what the volume shows
_THICK = (1.0, 1.8)  # of a voxel's side, the distance of slices


@dataclass(frozen=True)
class Ellipsoid:
    """A body, in mm from the centre of the volume, to superior, posterior and left."""

    semi_axes: tuple[float, float, float]
    centre: tuple[float, float, float]
    turned: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """A rotation vector, in rad."""

    @property
    def volume(self) -> float:
        """In ml."""
        return 4 / 3 * math.pi * math.prod(self.semi_axes) / 1000

    @property
    def length(self) -> float:
        """Of the longest axis, in mm."""
        return 2 * max(self.semi_axes)

    def distance(self, points: Points) -> Points:
        """`(...)`: how far outside of it points `(..., 3)` are, in mm, about; exactly 0 on it."""
        own = (points - self.centre) @ Rotation.from_rotvec(self.turned).as_matrix()
        axes = np.array(self.semi_axes)
        level = np.linalg.norm(own / axes, axis=-1)
        steepness = np.linalg.norm(own / axes**2, axis=-1) / np.maximum(level, 1e-9)
        return np.asarray((level - 1) / np.maximum(steepness, 1e-9))


@dataclass(frozen=True)
class VolumePhantom:
    """A volume of a head with a ventricle, and their exact sizes."""

    image: NDArray[np.uint8]
    """`(depth, height, width)`: to superior, posterior and left."""
    spacing: tuple[float, float, float]
    """In mm."""
    head: Ellipsoid
    """The outer surface of its skull."""
    ventricle: Ellipsoid


def volume_phantom(rng: np.random.Generator, *, side: int = 40) -> VolumePhantom:
    """Draws one.

    Args:
        rng: the source of head, place, voxels and speckle.
        side: voxels of the volume's height and width; its slices are as many or fewer.

    Raises:
        ValueError: fewer than 16 voxels.
    """
    if side < _LEAST:
        raise ValueError(f"volumes of {side} voxels: choose at least {_LEAST}")
    long = rng.uniform(*_LONG)
    across, up = (long * rng.uniform(*shares) for shares in _SHARES)
    extent = 2 * long * rng.uniform(*_FIELD)
    room = extent / 2 - long
    turned = tuple((_TILT * rng.standard_normal(3)).tolist())
    head = Ellipsoid((up, long, across), tuple(rng.uniform(-room, room, 3).tolist()), turned)
    inner = tuple(
        axis * rng.uniform(*share)
        for axis, share in zip((long, up, across), _VENTRICLE, strict=True)
    )
    ventricle = Ellipsoid((inner[1], inner[0], inner[2]), head.centre, turned)
    voxel = extent / side
    thick = voxel * rng.uniform(*_THICK)
    spacing = (thick, voxel, voxel)
    size = (math.ceil(extent / thick), side, side)
    return VolumePhantom(_shown(rng, head, ventricle, size, spacing), spacing, head, ventricle)


def centres(size: tuple[int, ...], spacing: tuple[float, ...]) -> Points:
    """`(*size, 3)`: of voxels, in mm from the centre of the volume."""
    axes = [(np.arange(n) - (n - 1) / 2) * step for n, step in zip(size, spacing, strict=True)]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)


def write_volume_phantoms(
    folder: Path, subjects: int = 200, *, seed: int = 0, side: int = 40
) -> Path:
    """Writes volumes and their table.

    Args:
        folder: gets `images/*.nii.gz`, whose axes are in any order, and, once all of them are
            written, `table.csv`: `image`, `head volume (ml)`, `head length (mm)` and
            `ventricle volume (ml)`.
        subjects: number of volumes, each of another subject.
        seed: of the subjects; one does not depend on how many there are.
        side: see `volume_phantom`.

    Returns:
        The path of the table.

    Raises:
        ValueError: an argument is out of its range.
    """
    if subjects < 1:
        raise ValueError(f"subjects is {subjects}: ask for at least 1")
    images = Path(folder) / "images"
    images.mkdir(parents=True, exist_ok=True)
    rows = []
    for subject in tqdm(range(subjects), "drawing phantoms", leave=False, disable=None):
        rng = np.random.default_rng([seed, subject])
        drawn = volume_phantom(rng, side=side)
        name = f"images/{subject:03d}.nii.gz"
        in_any_order(drawn, rng).to_filename(Path(folder) / name)
        rows.append((name, drawn.head.volume, drawn.head.length, drawn.ventricle.volume))
    columns = ["image", "head volume (ml)", "head length (mm)", "ventricle volume (ml)"]
    path = Path(folder) / "table.csv"
    with replacing(path) as temporary:
        pd.DataFrame(rows, columns=columns).to_csv(temporary, index=False)
    return path


def in_any_order(phantom: VolumePhantom, rng: np.random.Generator) -> Nifti1Image:
    """As a file may have it: its axes in any order, and running either way."""
    order = np.stack([rng.permutation(3), rng.choice([-1, 1], 3)], axis=1)
    affine = np.eye(4)
    depth, height, width = phantom.spacing
    # Of nibabel's axes, to the right, anterior and superior.
    affine[:3, :3] = [[0, 0, -width], [0, -height, 0], [depth, 0, 0]]
    stored = apply_orientation(phantom.image, order)
    image = Nifti1Image(stored, affine @ inv_ornt_aff(order, phantom.image.shape))
    image.header.set_xyzt_units("mm")
    return image


def _shown(
    rng: np.random.Generator,
    head: Ellipsoid,
    ventricle: Ellipsoid,
    size: tuple[int, int, int],
    spacing: tuple[float, float, float],
) -> NDArray[np.uint8]:
    """Echoes of tissue, skull, brain and fluid, in speckle, blurred and log-compressed."""
    points = centres(size, spacing)
    outside, skull = head.distance(points), rng.uniform(*_SKULL)
    soft = np.mean(spacing) / 2  # A voxel shows what is in all of it.

    def within(distance: Points) -> Points:
        return np.asarray(special.expit(-2 * distance / soft))

    decibels = rng.uniform(-34, -26) + 4 * _smooth(rng, size, 6)
    brain = rng.uniform(-24, -18) + 2 * _smooth(rng, size, 3)
    fluid = rng.uniform(-48, -42)
    inside = within(outside + skull)
    brain = brain + (fluid - brain) * within(ventricle.distance(points))
    decibels = decibels + (brain - decibels) * inside
    bone = within(outside) - inside
    decibels = decibels + (rng.uniform(-6, 0) - decibels) * np.clip(bone, 0, 1)
    blur = [rng.uniform(0.4, 0.7) for _ in size]
    parts = rng.standard_normal((2, *size))
    parts = ndimage.gaussian_filter(parts, (0, *blur))
    speckle = np.sqrt(np.square(parts / parts.std()).sum(0) / 2)
    shown = decibels + 20 * np.log10(speckle + 0.1) + rng.uniform(-3, 3)
    grey = 255 * np.clip(1 + shown / rng.uniform(48, 56), 0, 1)
    return np.asarray(np.rint(grey), np.uint8)


def _smooth(rng: np.random.Generator, size: tuple[int, int, int], width: float) -> Points:
    """Noise of mean 0 and deviation 1."""
    noise = ndimage.gaussian_filter(rng.standard_normal(size), width, mode="wrap")
    return np.asarray(noise / noise.std())

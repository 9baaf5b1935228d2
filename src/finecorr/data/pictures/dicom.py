"""DICOM images, of one frame and of many."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut, apply_voi_lut
from pydicom.pixels.utils import pixel_array
from pydicom.uid import UID

from finecorr.data.pictures import DICOM_SUFFIXES
from finecorr.data.pictures.picture import Header, Picture, Shape, Values

_CENTIMETRE, _TWO_DIMENSIONAL = 3, 1  # as regions of ultrasound name them
_SAME = 1e-3
_SHARED, _SINGLE = "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"
_SIZES = ("PixelSpacing", "PixelAspectRatio", "SequenceOfUltrasoundRegions")
_WINDOW = ("WindowCenter", "WindowWidth", "VOILUTFunction")


class Place(NamedTuple):
    """Where a slice, or a frame, is in the body; None for what it does not say."""

    path: Path
    frame: int
    series: str
    rows: int
    columns: int
    bits: int
    size: tuple[float, float] | None
    """Height and width of a pixel in mm."""
    directions: tuple[float, ...] | None
    """To the left, posterior and superior: along its rows, and down its columns."""
    position: tuple[float, ...] | None
    """Of the centre of its first pixel, in mm."""
    window: str
    """How it is to be shown."""


def has_pixels(path: Path) -> bool:
    """Whether a DICOM file is an image: an index, a report or a plan is none."""
    return "Rows" in _dataset(path)


def is_other(path: Path) -> bool:
    """Whether a DICOM file says that it is no image, but an index, a report or a plan."""
    kind = _dataset(path).file_meta.get("MediaStorageSOPClassUID", UID(""))
    return kind.is_valid and "Image Storage" not in kind.name


def header(path: Path) -> Header:
    """What the file says before it is decoded."""
    dataset = _dataset(path)
    frames = _frames(path, dataset)
    bits = int(dataset.get("BitsStored") or 0)
    return Header(_shapes(dataset, frames), frames, "DICOM", bits)


def _frames(path: Path, dataset: Dataset) -> int:
    """How many there are."""
    if "Rows" not in dataset:
        raise ValueError("this DICOM file holds no pixels")
    said = dataset.get("NumberOfFrames")
    frames = 1 if said is None else int(said)
    if frames > path.stat().st_size:
        raise ValueError(f"it says that it has {frames} frames, and is too short for them")
    return frames


def places(path: Path) -> list[Place]:
    """Where each frame of a file is, by its header."""
    dataset = _dataset(path)
    found = []
    for frame in range(_frames(path, dataset)):
        said = _with_groups(dataset, _groups(dataset, frame))
        directions, position = (
            _numbers(said, name, count)
            for name, count in (("ImageOrientationPatient", 6), ("ImagePositionPatient", 3))
        )
        found.append(
            Place(
                path,
                frame,
                str(said.get("SeriesInstanceUID", "")),
                int(said.Rows),
                int(said.Columns),
                int(said.get("BitsStored") or 0),
                _pixel_size(said),
                directions,
                position,
                # A table of how values are shown is that of its own slice.
                f"table of {path} {frame}"
                if said.get("VOILUTSequence")
                else repr([str(said.get(name)) for name in _WINDOW]),
            )
        )
    return found


def _numbers(dataset: Dataset, name: str, count: int) -> tuple[float, ...] | None:
    """Those of an element; None where it has not so many."""
    found = tuple(float(value) for value in dataset.get(name) or ())
    return found if len(found) == count and np.isfinite(found).all() else None


def read(path: Path, frame: int) -> Picture:
    """One frame, from 0; no other is decoded."""
    dataset = _of_frame(_dataset(path), frame)
    stored = pixel_array(path, index=frame)
    stored = stored.astype(stored.dtype.newbyteorder("="), copy=False)
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        stored = apply_color_lut(stored, dataset)
        limits = np.iinfo(stored.dtype)
        return _picture(dataset, stored, (float(limits.min), float(limits.max)))
    if stored.ndim == 3:
        return _picture(dataset, stored, _stored_range(dataset))
    values, lowest, highest = _in_unit(dataset, stored)
    return _picture(
        dataset,
        values,
        (lowest, highest),
        unit=_unit(dataset),
        inverted=dataset.PhotometricInterpretation == "MONOCHROME1",
        window=partial(_shown, dataset) if _has_window(dataset) else None,
        valid=_valid(dataset, stored),
    )


def _dataset(path: Path) -> Dataset:
    # Without its first 132 bytes, it is one by its name.
    return dcmread(path, stop_before_pixels=True, force=path.suffix.lower() in DICOM_SUFFIXES)


def _of_frame(dataset: Dataset, frame: int) -> Dataset:
    """What is said of all frames, or of this one, where a file of one frame says it."""
    groups = _groups(dataset, frame)
    if not groups:
        return dataset
    flat = _with_groups(dataset, groups)
    flat.file_meta = dataset.file_meta
    flat.set_original_encoding(*dataset.original_encoding)
    return flat


def _groups(dataset: Dataset, frame: int) -> list[Dataset]:
    return [*dataset.get(_SHARED, [])[:1], *dataset.get(_SINGLE, [])[frame : frame + 1]]


def _with_groups(dataset: Dataset, groups: list[Dataset]) -> Dataset:
    flat = Dataset()
    flat.update(dataset)
    for group in groups:
        for element in group:
            if element.VR == "SQ" and element.value:
                flat.update(element.value[0])
    return flat


def _shapes(dataset: Dataset, frames: int) -> list[Shape]:
    """Of each frame, or the one that all have."""
    said = Dataset()
    said.update({dataset[name].tag: dataset[name] for name in _SIZES if name in dataset})
    # Of those beyond the last that says something of itself, one is as the other.
    own = min(len(dataset.get(_SINGLE, [])) + 1, max(frames, 1))
    shapes = []
    for frame in range(own):
        size, aspect = _pixel(_with_groups(said, _groups(dataset, frame)))
        shapes.append(Shape(int(dataset.Rows), int(dataset.Columns), size, aspect))
    if len(set(shapes)) == 1:
        return shapes[:1]
    return shapes + shapes[-1:] * (frames - own)


def _picture(
    dataset: Dataset, values: Values, limits: tuple[float | None, float | None], **said: Any
) -> Picture:
    size, aspect = _pixel(dataset)
    return Picture(
        values[None] if values.ndim == 2 else np.moveaxis(values, -1, 0),
        *limits,
        pixel_size=size,
        aspect=aspect,
        **said,
    )


def _pixel(dataset: Dataset) -> tuple[tuple[float, float] | None, float]:
    """Height and width of a pixel in mm, if that is known, and its height in its width."""
    size = _pixel_size(dataset)
    ratio = [float(side) for side in dataset.get("PixelAspectRatio") or (1, 1)]
    aspect = ratio[0] / ratio[1] if min(ratio) > 0 else 1.0
    return size, aspect if size is None else size[0] / size[1]


def _in_unit(dataset: Dataset, stored: Values) -> tuple[Values, float | None, float | None]:
    """The values in the unit of the file, and the lowest and highest that there can be."""
    ends = np.array(_stored_range(dataset), dtype=np.float64)
    if stored.dtype.kind == "f":
        ends[:] = np.nan
    if dataset.get("ModalityLUTSequence"):
        values = apply_modality_lut(stored, dataset)
        lowest, highest = 0.0, 2.0 ** int(dataset.ModalityLUTSequence[0].LUTDescriptor[2]) - 1
        return values, lowest, highest
    slope = float(dataset.get("RescaleSlope") or 1)
    intercept = float(dataset.get("RescaleIntercept") or 0)
    if (slope, intercept) != (1, 0):
        stored, ends = stored * slope + intercept, ends * slope + intercept
    if np.isnan(ends).any():
        return stored, None, None
    return stored, float(ends.min()), float(ends.max())


def _stored_range(dataset: Dataset) -> tuple[float, float]:
    bits = int(dataset.get("BitsStored") or 0)
    if dataset.get("PixelRepresentation"):
        return -(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1
    return 0.0, 2.0**bits - 1


def _unit(dataset: Dataset) -> str | None:
    if dataset.get("RescaleType"):
        return str(dataset.RescaleType)
    return "HU" if dataset.get("Modality") == "CT" else None


def _has_window(dataset: Dataset) -> bool:
    """Whether it says how it is to be shown; a width below 1 is no width (PS3.3 C.11.2.1.2)."""
    if dataset.get("VOILUTSequence"):
        return True
    if dataset.get("WindowCenter") is None or dataset.get("WindowWidth") is None:
        return False
    width = dataset.WindowWidth
    first = float(width if isinstance(width, (int, float)) else width[0])
    return first >= 1 or (first > 0 and dataset.get("VOILUTFunction") == "LINEAR_EXACT")


def _shown(dataset: Dataset, values: Values) -> NDArray[np.floating]:
    if float(dataset.get("RescaleSlope") or 1) < 0:
        # pydicom would show low values bright: by the slope it finds the dark end of what it makes.
        said, dataset = dataset, Dataset()
        dataset.update(said)
        dataset.set_original_encoding(*said.original_encoding)
        del dataset.RescaleSlope
    return np.asarray(apply_voi_lut(values, dataset), dtype=np.float64)


def _valid(dataset: Dataset, stored: Values) -> NDArray[np.bool_] | None:
    if dataset.get("PixelPaddingValue") is None:
        return None
    limit = dataset.get("PixelPaddingRangeLimit")
    ends = [dataset.PixelPaddingValue, dataset.PixelPaddingValue if limit is None else limit]
    # As the pixels are: writers take the sign bit of a padding value for a digit.
    low, high = sorted(np.array(ends).astype(stored.dtype))
    valid = (stored < low) | (stored > high)
    return None if valid.all() else np.asarray(valid)


def _pixel_size(dataset: Dataset) -> tuple[float, float] | None:
    """Height and width of a pixel in mm. A radiograph's `ImagerPixelSpacing` is that of the
    detector, and not of the body before it."""
    spacing = dataset.get("PixelSpacing")
    if not spacing:
        return _ultrasound_pixel_size(dataset)
    size = (float(spacing[0]), float(spacing[1]))
    return size if min(size) > 0 else None


def _ultrasound_pixel_size(dataset: Dataset) -> tuple[float, float] | None:
    """Of the image's two-dimensional regions, if all say the same."""
    sizes = [
        (abs(float(region.PhysicalDeltaY)) * 10, abs(float(region.PhysicalDeltaX)) * 10)
        for region in dataset.get("SequenceOfUltrasoundRegions", [])
        if region.get("RegionSpatialFormat") == _TWO_DIMENSIONAL
        and region.get("PhysicalUnitsXDirection") == _CENTIMETRE
        and region.get("PhysicalUnitsYDirection") == _CENTIMETRE
    ]
    if not sizes or np.min(sizes) <= 0 or not np.allclose(sizes, sizes[0], rtol=_SAME, atol=0):
        return None
    return sizes[0]

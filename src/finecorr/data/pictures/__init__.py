"""Files of pictures: what each says of itself, whatever its format."""

from __future__ import annotations

from pathlib import Path

from finecorr.data.pictures import dicom, raster
from finecorr.data.pictures.picture import Header, Picture

__all__ = [
    "SUFFIXES",
    "Header",
    "Picture",
    "check_size",
    "fault_of",
    "header",
    "is_picture",
    "read",
]

SUFFIXES = raster.SUFFIXES | dicom.SUFFIXES


def is_picture(path: Path) -> bool:
    """Whether a file is to be read as a picture: by its name or, under any other, by its content.

    A DICOM file without pixels (an index, a report) is none, whatever its name.
    """
    if dicom.is_dicom(path):
        return dicom.has_pixels(path)
    return path.suffix.lower() in SUFFIXES or raster.is_raster(path)


def header(path: Path) -> Header:
    """What a file says before it is decoded.

    Raises:
        ValueError, OSError and others, by the format's reader: it cannot be read.
    """
    return dicom.header(path) if _is_dicom(path) else raster.header(path)


def read(path: Path, frame: int = 0) -> Picture:
    """One frame of a file, from 0.

    Raises:
        ValueError, OSError and others, by the format's reader: it cannot be read.
    """
    return dicom.read(path, frame) if _is_dicom(path) else raster.read(path, frame)


def check_size(header: Header, megapixels: float) -> None:
    """Raises ValueError if there is no frame, or one has more pixels than that."""
    if header.frames < 1:
        raise ValueError(f"it says that it has {header.frames} frames")
    if header.height * header.width > megapixels * 1e6:
        raise ValueError(
            f"it has {header.width} x {header.height} pixels, more than --max-megapixels "
            f"{megapixels:g} allows"
        )


def fault_of(error: Exception) -> str:
    """Why a reader could not read a picture, in a line."""
    lines = str(error).strip().splitlines()
    return f"cannot be read as an image: {lines[-1] if lines else type(error).__name__}"


def _is_dicom(path: Path) -> bool:
    return path.suffix.lower() in dicom.SUFFIXES or dicom.is_dicom(path)

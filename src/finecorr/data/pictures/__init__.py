"""Files of pictures: what each says of itself, whatever its format."""

from __future__ import annotations

from pathlib import Path

from finecorr.data.pictures import raster
from finecorr.data.pictures.picture import Header, Picture, Shape

__all__ = [
    "DICOM_SUFFIXES",
    "SUFFIXES",
    "Header",
    "Picture",
    "Shape",
    "check_size",
    "fault_of",
    "header",
    "is_picture",
    "read",
]

DICOM_SUFFIXES = frozenset({".dcm", ".dicom", ".dic", ".ima"})
SUFFIXES = raster.SUFFIXES | DICOM_SUFFIXES
_PREAMBLE, _MAGIC = 128, b"DICM"


def is_picture(path: Path) -> bool:
    """Whether a file is to be read as a picture: by its name or, under any other, by its content.

    A DICOM file without pixels (an index, a report) is none, whatever its name.
    """
    if _begins_as_dicom(path):
        from finecorr.data.pictures import dicom

        return dicom.has_pixels(path)
    return path.suffix.lower() in SUFFIXES or raster.is_raster(path)


def header(path: Path) -> Header:
    """What a file says before it is decoded.

    Raises:
        ValueError, OSError and others, by the format's reader: it cannot be read.
    """
    if not _is_dicom(path):
        return raster.header(path)
    from finecorr.data.pictures import dicom

    return dicom.header(path)


def read(path: Path, frame: int = 0) -> Picture:
    """One frame of a file, from 0.

    Raises:
        ValueError, OSError and others, by the format's reader: it cannot be read.
    """
    if not _is_dicom(path):
        return raster.read(path, frame)
    from finecorr.data.pictures import dicom

    return dicom.read(path, frame)


def check_size(header: Header, megapixels: float) -> None:
    """Raises ValueError if there is no frame, or one has more pixels than that."""
    if header.frames < 1:
        raise ValueError(f"it says that it has {header.frames} frames")
    largest = header.largest
    if largest.height * largest.width > megapixels * 1e6:
        raise ValueError(
            f"it has {largest.width} x {largest.height} pixels, more than --max-megapixels "
            f"{megapixels:g} allows"
        )


def fault_of(error: Exception) -> str:
    """Why a reader could not read a picture, in a line."""
    lines = str(error).strip().splitlines()
    return f"cannot be read as an image: {lines[-1] if lines else type(error).__name__}"


def _is_dicom(path: Path) -> bool:
    return path.suffix.lower() in DICOM_SUFFIXES or _begins_as_dicom(path)


def _begins_as_dicom(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(_PREAMBLE + len(_MAGIC))[_PREAMBLE:] == _MAGIC

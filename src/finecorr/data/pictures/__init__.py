"""Files of pictures and volumes: what each says of itself, whatever its format."""

from __future__ import annotations

import math
from pathlib import Path
from types import ModuleType

from finecorr.data.pictures import raster
from finecorr.data.pictures.picture import Header, Picture, Shape

__all__ = [
    "DICOM_SUFFIXES",
    "SUFFIXES",
    "Header",
    "Picture",
    "Shape",
    "begins_as_dicom",
    "check_size",
    "fault_of",
    "header",
    "is_dicom",
    "is_picture",
    "is_slice",
    "read",
]

DICOM_SUFFIXES = frozenset({".dcm", ".dicom", ".dic", ".ima"})
SUFFIXES = raster.SUFFIXES | DICOM_SUFFIXES
NIFTI_SUFFIXES = (".nii", ".nii.gz")
_PREAMBLE, _MAGIC = 128, b"DICM"
_PICTURES = "where a picture is read (train takes volumes by --image-size DEPTH HEIGHT WIDTH)"
_VOLUMES = "where a volume is read (train takes pictures by --image-size HEIGHT WIDTH)"


def is_picture(path: Path) -> bool:
    """Whether a file is to be read as a picture or volume: by its name or, under any other, by its
    content.

    A DICOM file without pixels (an index, a report) is none, whatever its name.
    """
    if begins_as_dicom(path):
        from finecorr.data.pictures import dicom

        return dicom.has_pixels(path)
    return path.suffix.lower() in SUFFIXES or _is_nifti(path) or raster.is_raster(path)


def is_slice(path: Path) -> bool:
    """Whether a file is one slice of a DICOM series, which its folder stands for."""
    if not is_dicom(path):
        return False
    from finecorr.data.pictures import dicom

    return dicom.has_pixels(path) and dicom.header(path).frames == 1


def header(path: Path, *, volumes: bool = False) -> Header:
    """What a file says before it is decoded.

    Args:
        path: of the file; of a volume it may be the folder of a DICOM series.
        volumes: whether volumes are read, and no pictures. A DICOM file of several frames is a
            volume then, and else as many pictures.

    Raises:
        ValueError, OSError and others, by the format's reader: it cannot be read, or it is a
            picture where volumes are read, or a volume where pictures are.
    """
    found: Header = _reader(path, volumes).header(path)
    deep = found.largest.depth is not None
    if deep and not volumes:
        size = " x ".join(map(str, found.largest.size))
        raise ValueError(f"it is a volume of {size} voxels, {_PICTURES}")
    if volumes and not deep:
        raise ValueError(f"it is a flat picture, {_VOLUMES}")
    return found


def read(path: Path, frame: int = 0, *, volumes: bool = False) -> Picture:
    """One frame of a file, from 0; or one of its volumes.

    Raises:
        ValueError, OSError and others, by the format's reader: it cannot be read.
    """
    found: Picture = _reader(path, volumes).read(path, frame)
    return found


def check_size(header: Header, megapixels: float) -> None:
    """Raises ValueError if there is no frame, or one has more pixels, or voxels, than that."""
    if header.frames < 1:
        raise ValueError(f"it says that it has {header.frames} frames")
    largest = header.largest
    if math.prod(largest.size) <= megapixels * 1e6:
        return
    size = f"{largest.width} x {largest.height} pixels"
    if largest.depth is not None:
        size = f"{' x '.join(map(str, largest.size))} voxels"
    raise ValueError(f"it has {size}, more than --max-megapixels {megapixels:g} allows")


def fault_of(error: Exception) -> str:
    """Why a reader could not read a picture, in a line."""
    lines = str(error).strip().splitlines()
    return f"cannot be read as an image: {lines[-1] if lines else type(error).__name__}"


def _reader(path: Path, volumes: bool) -> ModuleType:
    """The module that reads such a file."""
    if path.is_dir():
        if not volumes:
            raise ValueError(f"a folder is a DICOM series, a volume, {_PICTURES}")
        from finecorr.data.pictures import series

        return series
    if _is_nifti(path):
        from finecorr.data.pictures import nifti

        return nifti
    if not is_dicom(path):
        return raster
    if volumes:
        from finecorr.data.pictures import series

        return series
    from finecorr.data.pictures import dicom

    return dicom


def _is_nifti(path: Path) -> bool:
    return path.name.lower().endswith(NIFTI_SUFFIXES)


def is_dicom(path: Path) -> bool:
    """Whether a file is one, by its name or its content."""
    return path.suffix.lower() in DICOM_SUFFIXES or begins_as_dicom(path)


def begins_as_dicom(path: Path) -> bool:
    """Whether it is one by its content."""
    with path.open("rb") as file:
        return file.read(_PREAMBLE + len(_MAGIC))[_PREAMBLE:] == _MAGIC

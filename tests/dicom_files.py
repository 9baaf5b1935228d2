"""DICOM files, and folders of them, for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid


def write_dicom(path: Path, stored: np.ndarray, **said: Any) -> Path:
    """A grey DICOM file that says all that is given."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    dataset.SOPClassUID = SecondaryCaptureImageStorage
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset.Rows, dataset.Columns = stored.shape[-2:]
    if stored.ndim == 3:
        dataset.NumberOfFrames = len(stored)
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 8 * stored.dtype.itemsize
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(stored.dtype.kind == "i")
    dataset.PixelData = stored.tobytes()
    for name, value in said.items():
        setattr(dataset, name, value)
    dataset.save_as(path, enforce_file_format=True)
    return path


def write_series(
    folder: Path,
    volume: np.ndarray,
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0),
    *,
    axes: tuple[int, int, int] = (0, 1, 2),
    turned: tuple[bool, bool, bool] = (False, False, False),
    turn: np.ndarray | None = None,
    **said: Any,
) -> Path:
    """A folder of slices, whose names say nothing of their order.

    Args:
        folder: made for it.
        volume: `(depth, height, width)`: to superior, posterior and left.
        spacing: of it in mm.
        axes: which of its axes the slices are along, the rows below each other, and the columns.
        turned: which of these run backwards.
        turn: a rotation `(3, 3)` of the body, of left, posterior and superior.
        said: what each slice says besides.
    """
    folder.mkdir()
    steps = (np.eye(3) if turn is None else turn)[
        :, ::-1
    ] * spacing  # columns: depth, height, width
    origin = np.array([-20.0, 7.5, 100.0])
    stored = volume.transpose(axes)
    for axis in range(3):
        if turned[axis]:
            origin = origin + steps[:, axes[axis]] * (stored.shape[axis] - 1)
            stored = np.flip(stored, axis)
    sign = [-1 if back else 1 for back in turned]
    across, down, along = (steps[:, axes[axis]] * sign[axis] for axis in range(3))
    names = np.random.default_rng(0).permutation(len(stored))
    one = {"SeriesInstanceUID": "1.2.3", **said}
    one["PixelSpacing"] = [float(np.linalg.norm(down)), float(np.linalg.norm(along))]
    one["ImageOrientationPatient"] = [
        *(along / np.linalg.norm(along)).tolist(),
        *(down / np.linalg.norm(down)).tolist(),
    ]
    for number, name in enumerate(names.tolist()):
        position = (origin + across * number).tolist()
        write_dicom(
            folder / f"{name:03d}.dcm",
            np.ascontiguousarray(stored[number]),
            ImagePositionPatient=position,
            **one,
        )
    return folder

"""Volumes: what their files say, in which order they come, and what the network sees of them."""

from __future__ import annotations

import gzip
import itertools
import math
import shutil
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nibabel.orientations import apply_orientation, inv_ornt_aff
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import MediaStorageDirectoryStorage
from scipy.spatial.transform import Rotation

from dicom_files import write_dicom, write_series
from finecorr.data import pictures
from finecorr.data.decoding import seen, unpacked
from finecorr.data.folder import read_folder
from finecorr.data.image_options import ImageOptions, check_lengths
from finecorr.data.images import Images, note_unfit
from finecorr.data.lengths import pixel_sizes
from finecorr.data.options import TableOptions
from finecorr.data.phantom.volume import centres, volume_phantom, write_volume_phantoms
from finecorr.data.pictures import Header, Picture, Shape
from finecorr.data.pictures.orientation import orientation_of
from finecorr.data.view import fit_volume, slices
from finecorr.errors import InputError, InputWarning

SPACING = (3.0, 0.5, 0.8)
VOLUME = np.random.default_rng(0).integers(-900, 1200, (4, 6, 5), dtype=np.int16)
"""To superior, posterior and left."""
ORDERS = [
    (axes, turned)
    for axes in itertools.permutations(range(3))
    for turned in itertools.product((False, True), repeat=3)
]


def _affine(spacing: tuple[float, float, float] = SPACING) -> np.ndarray:
    """Of the volume's axes to the right, anterior and superior."""
    affine = np.eye(4)
    depth, height, width = spacing
    affine[:3, :3] = [[0, 0, -width], [0, -height, 0], [depth, 0, 0]]
    affine[:3, 3] = 3, -40, 12
    return affine


def _nifti(path: Path, values: np.ndarray = VOLUME, affine: Any = None, **said: Any) -> Path:
    kind = said.pop("kind", nibabel.Nifti1Image)
    image = kind(values, _affine() if affine is None else affine)
    for name, value in said.items():
        image.header[name] = value
    nibabel.save(image, path)
    return path


def _changed(path: Path, to: Path, **said: Any) -> Path:
    """A file with another header, which nibabel itself would not write."""
    stored = bytearray(path.read_bytes())
    header = nibabel.Nifti1Header(bytes(stored[:348]), check=False)
    for name, value in said.items():
        header[name] = value
    stored[:348] = header.binaryblock
    to.write_bytes(stored)
    return to


def _read(path: Path, frame: int = 0) -> Picture:
    """Where it says before it is read what it is then."""
    header = pictures.header(path, volumes=True)
    picture = pictures.read(path, frame, volumes=True)
    size = tuple(picture.values.shape[1:])
    assert header.shape(frame) == Shape.of(size, picture.pixel_size)
    return picture


def _fault(path: Path, *, volumes: bool = True) -> str:
    try:
        pictures.header(path, volumes=volumes)
        pictures.read(path, volumes=volumes)
    except (ValueError, OSError, EOFError) as error:
        return str(error)
    pytest.fail(f"{path} was read")


def _series(folder: Path, **said: Any) -> Path:
    return write_series(folder, VOLUME, SPACING, **said)


# ---- one order, whatever the file's --------------------------------------------------------------


def test_a_nifti_is_the_same_in_all_48_orders_of_its_axes(tmp_path: Path) -> None:
    for axes, turned in ORDERS:
        order = np.stack([axes, np.where(turned, -1, 1)], axis=1)
        stored = apply_orientation(VOLUME, order)
        affine = _affine() @ inv_ornt_aff(order, VOLUME.shape)
        picture = _read(_nifti(tmp_path / "a.nii", stored, affine))
        np.testing.assert_array_equal(picture.values[0], VOLUME)
        assert picture.pixel_size == pytest.approx(SPACING)


def test_a_series_is_the_same_in_any_order_of_its_axes(tmp_path: Path) -> None:
    """Axial, coronal and sagittal ones, and from either end: some that have each."""
    for number, (axes, turned) in enumerate(ORDERS[::5]):
        picture = _read(_series(tmp_path / str(number), axes=axes, turned=turned))
        np.testing.assert_array_equal(picture.values[0], VOLUME)
        assert picture.pixel_size == pytest.approx(SPACING)


@pytest.mark.parametrize("spacing", [None, (2.0,), (2.0, 1.0, 0.7)])
def test_both_formats_give_the_same_image(tmp_path: Path, spacing: Any) -> None:
    options = ImageOptions(image_size=(32, 40, 36), spacing=spacing)
    values = np.random.default_rng(1).integers(0, 3000, (9, 20, 24), dtype=np.int16)
    said: dict[str, Any] = {"RescaleSlope": 2, "RescaleIntercept": -1024}
    series = write_series(tmp_path / "a", values, SPACING, axes=(2, 0, 1), **said)
    plain = _changed(
        _nifti(tmp_path / "a.nii", values), tmp_path / "b.nii", scl_slope=2, scl_inter=-1024
    )
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(plain.read_bytes()))
    found = [seen(_read(path), options) for path in (series, tmp_path / "a.nii.gz")]
    assert found[0].image.shape == (1, 32, 40, 36)
    for one, other in (found, found[::-1]):
        assert torch.equal(one.image, other.image)
        assert one.pixel_size == pytest.approx(other.pixel_size)
        assert one.factor == pytest.approx(other.factor)


@given(
    st.tuples(*[st.floats(-0.6, 0.6)] * 3),
    st.tuples(*[st.floats(0.2, 6)] * 3),
    st.permutations(range(3)),
    st.tuples(*[st.sampled_from([-1, 1])] * 3),
)
def test_oblique_axes_are_the_closest_ones_with_their_own_spacing(
    turn: tuple[float, ...], spacing: tuple[float, ...], axes: list[int], signs: tuple[int, ...]
) -> None:
    # At most 0.35 rad in all, so that which is the closest is plain.
    rotation = Rotation.from_rotvec(0.35 * np.array(turn)).as_matrix()
    upright = _affine((1, 1, 1))[:3, :3]
    affine = np.eye(4)
    affine[:3, :3] = rotation @ upright[:, axes] * signs * np.array(spacing)[axes]
    found = orientation_of(affine)
    assert found.pixel_size == pytest.approx(spacing, rel=1e-5)
    stored = np.flip(VOLUME.transpose(axes), tuple(i for i in range(3) if signs[i] < 0))
    np.testing.assert_array_equal(found.upright(stored), VOLUME)


# ---- NIfTI ---------------------------------------------------------------------------------------


def test_a_nifti_says_what_its_values_are(tmp_path: Path) -> None:
    path = _nifti(tmp_path / "a.nii")
    header = pictures.header(path, volumes=True)
    assert header == Header([Shape.of(VOLUME.shape, header.largest.pixel_size)], 1)
    assert (header.format, header.bits) == ("NIfTI", 16)
    picture = _read(path)
    assert (picture.lowest, picture.highest) == (-(2**15), 2**15 - 1)
    scaled = _read(_changed(path, tmp_path / "b.nii", scl_slope=-0.5, scl_inter=7))
    np.testing.assert_allclose(scaled.values[0], VOLUME * -0.5 + 7)
    assert (scaled.lowest, scaled.highest) == (-0.5 * (2**15 - 1) + 7, 0.5 * 2**15 + 7)
    # A slope of 0 is none.
    plain = _read(_changed(path, tmp_path / "c.nii", scl_slope=0, scl_inter=7))
    np.testing.assert_array_equal(plain.values[0], VOLUME)
    real = _read(_nifti(tmp_path / "d.nii", VOLUME.astype(np.float32)))
    assert (real.lowest, real.highest) == (None, None)


@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".NII"])
@pytest.mark.parametrize("type_", [">i2", "<i2", ">f4", "u1"])
def test_other_forms_of_nifti(tmp_path: Path, kind: Any, ending: str, type_: str) -> None:
    values = np.abs(VOLUME % 100).astype(type_)
    path = tmp_path / f"a{ending}"
    plain = tmp_path / ("b.nii.gz" if ending.endswith("gz") else "b.nii")
    image = kind(values, _affine(), kind.header_class(endianness=type_[0].replace("u", "<")))
    image.set_data_dtype(type_)
    nibabel.save(image, plain)
    picture = _read(plain.rename(path))
    np.testing.assert_array_equal(picture.values[0], values)
    assert pictures.is_picture(path)


def test_where_the_axes_point_is_said_by_sform_qform_or_sizes_alone(tmp_path: Path) -> None:
    path = _nifti(tmp_path / "a.nii", VOLUME, np.diag([3.0, 0.5, 0.8, 1]))
    turned = VOLUME.transpose(2, 1, 0)[:, ::-1, ::-1]  # from right, anterior and superior
    for sform, qform in ((1, 1), (1, 0), (0, 1)):
        picture = _read(_changed(path, tmp_path / "b.nii", sform_code=sform, qform_code=qform))
        np.testing.assert_array_equal(picture.values[0], turned)
        assert picture.pixel_size == pytest.approx((0.8, 0.5, 3))
    # The sform counts where both are there.
    srow = np.array([6.0, 0, 0, 0], dtype=np.float32)
    path = _changed(path, tmp_path / "c.nii", sform_code=1, qform_code=1, srow_x=srow)
    assert _read(path).pixel_size == pytest.approx((0.8, 0.5, 6))
    none = _read(_changed(path, tmp_path / "d.nii", sform_code=0, qform_code=0))
    assert none.pixel_size == pytest.approx((0.8, 0.5, 3))
    expected = nibabel.as_closest_canonical(nibabel.load(tmp_path / "d.nii"))
    assert isinstance(expected, nibabel.Nifti1Image)
    canonical = np.asarray(expected.dataobj).transpose(2, 1, 0)[:, ::-1, ::-1]
    np.testing.assert_array_equal(none.values[0], canonical)


@pytest.mark.parametrize(("unit", "millimetres"), [(0, 1), (1, 1000), (2, 1), (3, 0.001), (10, 1)])
def test_lengths_of_a_nifti_are_in_its_unit(tmp_path: Path, unit: int, millimetres: float) -> None:
    picture = _read(_nifti(tmp_path / "a.nii", xyzt_units=unit))
    assert picture.pixel_size == pytest.approx([side * millimetres for side in SPACING])


def test_the_fourth_axis_of_a_nifti_are_frames(tmp_path: Path) -> None:
    values = np.stack([VOLUME, VOLUME[::-1], VOLUME * 0], axis=3)
    for ending in (".nii", ".nii.gz"):
        path = _nifti(tmp_path / f"a{ending}", values)
        assert pictures.header(path, volumes=True).frames == 3
        for frame in range(3):
            np.testing.assert_array_equal(_read(path, frame).values[0], values[..., frame])
    path = _nifti(tmp_path / "b.nii", VOLUME[..., None, None])
    assert pictures.header(path, volumes=True).frames == 1
    _read(path)


def test_a_slice_is_a_picture(tmp_path: Path) -> None:
    """As it is looked at: the superior end of a coronal or sagittal one is at the top."""
    for axis, expected, sides in (
        (0, VOLUME[0], (0.5, 0.8)),
        (1, VOLUME[::-1, 0], (3, 0.8)),
        (2, VOLUME[::-1, :, 0], (3, 0.5)),
    ):
        path = _nifti(tmp_path / "a.nii", VOLUME.take([0], axis))
        header, picture = pictures.header(path), pictures.read(path)
        np.testing.assert_array_equal(picture.values[0], expected)
        assert picture.pixel_size == pytest.approx(sides)
        assert picture.aspect == pytest.approx(sides[0] / sides[1])
        assert header.shape(0) == Shape.of(expected.shape, picture.pixel_size)
        assert "flat picture" in _fault(path)


@pytest.mark.parametrize(
    ("said", "fault"),
    [
        ({"pixdim": [1, 0, 1, 1, 1, 1, 1, 1], "sform_code": 0}, "how large its voxels are"),
        ({"pixdim": [1, -2, 1, 1, 1, 1, 1, 1], "sform_code": 0}, "how large its voxels are"),
        ({"pixdim": [1, np.nan, 1, 1, 1, 1, 1, 1], "sform_code": 0}, "how large its voxels are"),
        ({"srow_x": [0, 0, 0, 0]}, "how large its voxels are"),
        ({"srow_x": [0, 0, np.inf, 0]}, "how large its voxels are"),
        ({"srow_x": [0, 0.1, -0.8, 0]}, "sheared"),
        ({"xyzt_units": 5}, "unit"),
        ({"dim": [3, 400, 600, 500, 1, 1, 1, 1]}, "shorter"),
        ({"dim": [4, 4, 6, 5, 2, 1, 1, 1]}, "shorter"),
        ({"dim": [3, 4, -6, 5, 1, 1, 1, 1]}, "its size is 4 x -6 x 5"),
        ({"dim": [9, 4, 6, 5, 1, 1, 1, 1]}, " axes"),
        ({"dim": [5, 4, 1, 5, 1, 6, 1, 1]}, "5 axes"),
        ({"datatype": 128, "bitpix": 24}, "colours"),
        ({"datatype": 32, "bitpix": 64}, "complex"),
        ({"vox_offset": 1e6}, "shorter"),
        ({"vox_offset": 100}, "shorter"),
        ({"magic": b"ni1"}, "another file"),
        ({"magic": b"abc"}, "no NIfTI"),
    ],
)
def test_a_nifti_that_is_not_what_it_says(tmp_path: Path, said: dict[str, Any], fault: str) -> None:
    path = _changed(_nifti(tmp_path / "a.nii"), tmp_path / "b.nii", **said)
    assert fault in _fault(path)


def test_a_damaged_nifti(tmp_path: Path) -> None:
    whole = _nifti(tmp_path / "a.nii").read_bytes()
    packed = gzip.compress(whole)
    for name, content in {
        "empty.nii": b"",
        "short.nii": whole[:100],
        "cut.nii": whole[:-1],
        "text.nii.gz": b"no gzip at all",
        "cut.nii.gz": packed[: len(packed) // 2],
        "flipped.nii.gz": packed[:-8] + bytes(8),
    }.items():
        path = tmp_path / name
        path.write_bytes(content)
        assert _fault(path)
    # A few bytes that say that they are very many.
    dim = [4, 4, 6, 5, 30000, 1, 1, 1]
    many = _changed(tmp_path / "a.nii", tmp_path / "b.nii", dim=dim).read_bytes()
    (tmp_path / "many.nii.gz").write_bytes(gzip.compress(many))
    assert "shorter" in _fault(tmp_path / "many.nii.gz")


# ---- DICOM ---------------------------------------------------------------------------------------


def test_a_series_says_what_its_values_are(tmp_path: Path) -> None:
    folder = _series(tmp_path / "a", RescaleSlope=1, RescaleIntercept=-1024, Modality="CT")
    header = pictures.header(folder, volumes=True)
    assert (header.frames, header.format, header.bits) == (1, "DICOM series", 16)
    picture = _read(folder)
    np.testing.assert_array_equal(picture.values[0], VOLUME - 1024.0)
    assert picture.unit == "HU"
    assert (picture.lowest, picture.highest) == (-(2**15) - 1024, 2**15 - 1 - 1024)
    inverted = _read(_series(tmp_path / "b", PhotometricInterpretation="MONOCHROME1"))
    assert inverted.inverted


def test_each_slice_has_its_own_slope(tmp_path: Path) -> None:
    """As those of PET have."""
    folder = write_series(tmp_path / "a", np.ones((3, 4, 4), np.int16))
    for path in folder.iterdir():
        dataset = dcmread(path)
        dataset.RescaleSlope = dataset.ImagePositionPatient[2] - 90
        dataset.RescaleIntercept = 0
        dataset.save_as(path)
    assert _read(folder).values[0, :, 0, 0].tolist() == [10, 11, 12]


def test_a_window_counts_where_all_slices_have_it(tmp_path: Path) -> None:
    folder = _series(tmp_path / "a", WindowCenter=100, WindowWidth=50)
    options = ImageOptions(image_size=(32, 32, 32))
    assert _read(folder).window is not None
    image = unpacked(seen(_read(folder), options).image)
    other = next(folder.iterdir())
    dataset = dcmread(other)
    dataset.WindowWidth = 51
    dataset.save_as(other)
    assert _read(folder).window is None
    plain = unpacked(seen(_read(_series(tmp_path / "b")), options).image)
    assert torch.equal(unpacked(seen(_read(folder), options).image), plain)
    assert not torch.equal(image, plain)


def test_padding_is_no_picture(tmp_path: Path) -> None:
    volume = VOLUME.copy()
    volume[1, 2, 3] = -2000
    folder = write_series(tmp_path / "a", volume, axes=(1, 2, 0), PixelPaddingValue=-2000)
    valid = _read(folder).valid
    assert valid is not None
    assert (np.argwhere(~valid) == [[1, 2, 3]]).all()


def test_what_else_is_in_the_folder_is_left_out(tmp_path: Path) -> None:
    folder = _series(tmp_path / "a")
    (folder / "notes.txt").write_text("of the patient")
    (folder / ".hidden.dcm").write_bytes(b"")
    index = Dataset()
    index.file_meta = dcmread(next(folder.glob("0*.dcm"))).file_meta
    index.file_meta.MediaStorageSOPClassUID = MediaStorageDirectoryStorage
    index.PatientName = "nobody"
    index.save_as(folder / "DICOMDIR", enforce_file_format=True)
    (folder / "more").mkdir()
    np.testing.assert_array_equal(_read(folder).values[0], VOLUME)


def _one(folder: Path, **said: Any) -> None:
    """Another slice, or one that says something else."""
    path = sorted(folder.iterdir())[1]
    dataset = dcmread(path)
    for name, value in said.items():
        setattr(dataset, name, value)
    dataset.save_as(path)


def _without_one(folder: Path) -> None:
    middle = sorted(folder.iterdir(), key=lambda p: dcmread(p).ImagePositionPatient[2])[1]
    middle.unlink()


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (_without_one, "some are missing: 3 mm between most, and 6 mm between numbers"),
        (lambda f: shutil.copy(next(f.iterdir()), f / "again.dcm"), "at the place of another"),
        (lambda f: _one(f, SeriesInstanceUID="1.2.4"), "2 series"),
        (lambda f: _one(f, PixelSpacing=[0.5, 0.9]), "size of their pixels"),
        (lambda f: _one(f, ImageOrientationPatient=[0, 1, 0, 0, 0, 1]), "where they point"),
        (lambda f: _one(f, ImagePositionPatient=None), "1 of its 4 slices do not say where"),
        (lambda f: _one(f, PixelSpacing=None), "do not say how large their pixels"),
        (lambda f: _one(f, Rows=5, PixelData=bytes(50)), "differ in size: 5 x 5 and 5 x 6"),
        (lambda f: _one(f, RescaleType="US", RescaleSlope=1, RescaleIntercept=0), "units"),
        (lambda f: [path.unlink() for path in f.iterdir()], "holds no DICOM slices"),
        (lambda f: [path.unlink() for path in sorted(f.iterdir())[1:]], "single slice"),
        (lambda f: next(f.iterdir()).write_bytes(b"x" * 200), "is damaged"),
        (lambda f: next(f.iterdir()).write_bytes(b""), "is damaged"),
    ],
)
def test_a_folder_that_is_not_one_volume(tmp_path: Path, change: Any, fault: str) -> None:
    folder = write_series(tmp_path / "a", VOLUME[[0, 1, 2, 3]], SPACING)
    if fault.startswith("some are missing"):
        folder = write_series(tmp_path / "b", np.concatenate([VOLUME, VOLUME]), SPACING)
    change(folder)
    assert fault in _fault(folder)


def test_a_tilted_gantry_is_refused(tmp_path: Path) -> None:
    folder = _series(tmp_path / "a")
    for path in folder.iterdir():
        dataset = dcmread(path)
        z = float(dataset.ImagePositionPatient[2])
        dataset.ImagePositionPatient = [-20, 7.5 + 0.1 * (z - 100), z]
        dataset.save_as(path)
    assert "tilted gantry" in _fault(folder)


def test_rounded_positions_are_even(tmp_path: Path) -> None:
    """Of slices 0.625 mm apart, in hundredths of a mm."""
    folder = write_series(tmp_path / "a", VOLUME, (0.625, 1, 1))
    for path in folder.iterdir():
        dataset = dcmread(path)
        x, y, z = dataset.ImagePositionPatient
        dataset.ImagePositionPatient = [x, y, round(float(z), 2)]
        dataset.save_as(path)
    assert _read(folder).pixel_size == pytest.approx((0.625, 1, 1), rel=0.01)


def _frames(path: Path, positions: bool) -> Path:
    """All slices in a file."""
    order, parts = [2, 0, 3, 1], []
    for number in order:
        part = Dataset()
        if positions:
            place, plane, size = Dataset(), Dataset(), Dataset()
            place.ImagePositionPatient = [0, 0, 3.0 * number]
            plane.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
            size.PixelSpacing = [0.5, 0.8]
            part.PlanePositionSequence = Sequence([place])
            part.PlaneOrientationSequence = Sequence([plane])
            part.PixelMeasuresSequence = Sequence([size])
        parts.append(part)
    return write_dicom(path, VOLUME[order], PerFrameFunctionalGroupsSequence=Sequence(parts))


def test_a_file_whose_frames_have_places_is_a_volume(tmp_path: Path) -> None:
    path = _frames(tmp_path / "a.dcm", True)
    picture = _read(path)
    np.testing.assert_array_equal(picture.values[0], VOLUME)
    assert picture.pixel_size == pytest.approx(SPACING)
    # As pictures, its frames are what they always were.
    assert pictures.header(path).frames == 4
    np.testing.assert_array_equal(pictures.read(path, 1).values[0], VOLUME[0])
    assert "frames (a film?) do not say where" in _fault(_frames(tmp_path / "b.dcm", False))


def test_a_picture_is_no_volume_and_a_volume_no_picture(tmp_path: Path) -> None:
    from PIL import Image

    Image.new("L", (8, 9)).save(tmp_path / "a.png")
    assert "train takes pictures by --image-size HEIGHT WIDTH" in _fault(tmp_path / "a.png")
    write_dicom(tmp_path / "a.dcm", VOLUME[0])
    assert "name the folder of its series" in _fault(tmp_path / "a.dcm")
    three = "train takes volumes by --image-size DEPTH HEIGHT WIDTH"
    assert three in _fault(_nifti(tmp_path / "a.nii"), volumes=False)
    assert three in _fault(_series(tmp_path / "a"), volumes=False)


def test_the_limit_is_on_voxels(tmp_path: Path) -> None:
    header = pictures.header(_nifti(tmp_path / "a.nii"), volumes=True)
    pictures.check_size(header, 120e-6)
    with pytest.raises(ValueError, match="4 x 6 x 5 voxels, more than --max-megapixels"):
        pictures.check_size(header, 119e-6)


# ---- what the network sees -----------------------------------------------------------------------


def _slowly(volume: np.ndarray, size: tuple[int, ...], steps: tuple[float, ...]) -> np.ndarray:
    """Each sample by itself: a mean of all voxels, weighted by a triangle along each axis."""
    out = np.zeros(size)
    for place in np.ndindex(*size):
        weights = []
        for axis in range(3):
            n = volume.shape[axis]
            at = (place[axis] - (size[axis] - 1) / 2) * steps[axis] + (n - 1) / 2
            own = [max(0.0, 1 - abs(i - at) / max(steps[axis], 1)) for i in range(n)]
            if not -0.5 <= at <= n - 0.5:
                own = [0.0] * n
            weights.append(np.array(own) / (sum(own) or 1))
        out[place] = np.einsum("ijk,i,j,k", volume, *weights)
    return out


@given(
    st.tuples(*[st.integers(1, 7)] * 3),
    st.tuples(*[st.integers(1, 6)] * 3),
    st.tuples(*[st.floats(0.3, 3.3)] * 3),
)
def test_resampling_is_the_weighted_mean_of_all_voxels(
    before: tuple[int, ...], after: tuple[int, ...], steps: tuple[float, ...]
) -> None:
    volume = np.random.default_rng(0).random(before)
    found = fit_volume(torch.from_numpy(volume)[None], after, steps)
    # Where a sample is at the very end of a volume, rounding decides.
    ends = [
        abs(abs((i - (n - 1) / 2) * step) - side / 2) < 1e-5
        for n, side, step in zip(after, before, steps, strict=True)
        for i in range(n)
    ]
    if not any(ends):
        np.testing.assert_allclose(found[0], _slowly(volume, after, steps), atol=1e-12)


def test_resampling_keeps_what_is_constant_and_what_is_linear() -> None:
    depth, height, width = np.meshgrid(*[np.arange(40.0)] * 3, indexing="ij")
    ramp = torch.from_numpy(2 * depth - height + 0.5 * width)[None]
    for step in (0.5, 1.0, 2.0, 2.5):
        at = (np.arange(8) - 3.5) * step + 19.5
        d, h, w = np.meshgrid(at, at, at, indexing="ij")
        found = fit_volume(ramp, (8, 8, 8), (step,) * 3)[0]
        np.testing.assert_allclose(found, 2 * d - h + 0.5 * w, atol=0.05)
        assert torch.allclose(
            fit_volume(torch.ones_like(ramp), (8, 8, 8), (step,) * 3), torch.ones(()).double()
        )
    same = torch.rand(1, 4, 5, 6)
    assert torch.equal(fit_volume(same, (4, 5, 6), (1.0, 1.0, 1.0)), same)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_what_the_grid_cannot_show_does_not_alias(axis: int) -> None:
    """A wave of 2.4 voxels, of which every fourth voxel alone would make one of 6 samples."""
    wave = torch.cos(2 * math.pi * torch.arange(96.0) / 2.4)
    view = [1, 1, 1]
    view[axis] = 96
    volume = wave.view(1, *view).expand(1, 96, 96, 96)
    found = fit_volume(volume, (24, 24, 24), (4.0,) * 3)[:, 2:-2, 2:-2, 2:-2]
    assert found.abs().max() < 0.03
    assert wave[::4].abs().max() > 0.9


def _images(folder: Path, options: ImageOptions, **said: Any) -> Images:
    return Images(read_folder(folder, TableOptions(folder, **said), volumes=True), options)


@pytest.mark.parametrize("spacing", [None, (1.0,), (2.0, 0.4, 0.5)])
def test_the_scale_by_headers_is_that_of_the_volumes(tmp_path: Path, spacing: Any) -> None:
    _nifti(tmp_path / "a.nii", np.ones((30, 50, 60), np.uint8))
    _nifti(tmp_path / "b.nii.gz", VOLUME)
    write_series(tmp_path / "c", VOLUME, SPACING, axes=(1, 0, 2))
    options = ImageOptions(image_size=(32, 40, 48), spacing=spacing)
    images = _images(tmp_path, options)
    assert images.in_memory
    for i, path in enumerate(sorted(tmp_path.iterdir())):
        found = seen(_read(path), options)
        assert images.factors[i] == found.factor
        assert tuple(images.shapes[i]) == found.geometry.size == (32, 40, 48)
        assert images.unfit[i] == found.unfit
        np.testing.assert_array_equal(images.pixel_sizes[i], found.pixel_size)
        assert torch.equal(images[i], unpacked(found.image))
    sides = pixel_sizes(read_folder(tmp_path, TableOptions(tmp_path), volumes=True), images)
    if spacing is None:
        # Of 30 x 3 mm, 50 x 0.5 and 60 x 0.8, the first needs the largest voxels.
        assert sides[0] == pytest.approx(90 / 32)
        assert not images.unfit.any()
    else:
        assert sides == pytest.approx([np.prod(spacing * (3 // len(spacing))) ** (1 / 3)] * 3)
        assert images.unfit.tolist() == [True, False, False]
        with pytest.warns(InputWarning, match="1 of 3 volumes are larger than --image-size"):
            note_unfit(tmp_path, images)


def test_a_body_is_as_large_as_its_file_says(tmp_path: Path) -> None:
    """A box of 60 x 20 x 32 mm, in voxels that are no cubes."""
    body = np.zeros((30, 80, 80), np.uint8)
    body[5:25, 20:60, 20:60] = 255
    _nifti(tmp_path / "a.nii", body)
    for spacing in (None, (1.5,), (3.0, 1.0, 2.0)):
        options = ImageOptions(image_size=(64, 64, 64), spacing=spacing)
        images = _images(tmp_path, options)
        sides = pixel_sizes(read_folder(tmp_path, TableOptions(tmp_path), volumes=True), images)
        volume = float(images[0].double().sum()) * float(sides[0]) ** 3
        assert volume == pytest.approx(60 * 20 * 32, rel=0.005)
        if spacing is None or len(spacing) == 1:
            middle = images[0][0, 32, 32].double().sum() * sides[0]
            assert float(middle) == pytest.approx(32, rel=0.01)


def test_a_damaged_volume_is_named(tmp_path: Path) -> None:
    _nifti(tmp_path / "a.nii")
    _series(tmp_path / "b")
    next((tmp_path / "b").iterdir()).unlink()
    next((tmp_path / "b").iterdir()).unlink()
    (tmp_path / "c.nii.gz").write_bytes(b"nothing")
    with pytest.raises(InputError) as raised:
        _images(tmp_path, ImageOptions(image_size=(32, 32, 32)))
    assert "c.nii.gz" in str(raised.value)


def test_the_middle_slices_stand_as_they_are_looked_at() -> None:
    volume = torch.zeros(1, 4, 6, 5)
    volume[0, 3, 3, 2] = 1  # superior
    volume[0, 2, 0, 2] = 2  # anterior
    volume[0, 2, 3, 4] = 3  # left
    found = slices(volume)
    assert found.shape == (1, 4 + 6, 5 + 6)
    shown = found[0].numpy()
    coronal, sagittal, axial = shown[:4, :5], shown[:4, 5:], shown[4:, :5]
    assert (coronal[0, 2], coronal[1, 4]) == (1, 3)
    assert (sagittal[0, 3], sagittal[1, 0]) == (1, 2)
    assert (axial[0, 2], axial[3, 4]) == (2, 3)
    assert not found[0, 4:, 5:].any()
    picture = torch.rand(1, 4, 5)
    assert slices(picture) is picture


# ---- options and folders -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "fault"),
    [
        ({"image_size": (32, 32, 32), "view": "crops"}, "--view crops is for pictures"),
        ({"image_size": (32, 32, 16)}, "--image-size must be from 32 32 32"),
        ({"image_size": (32, 32, 999)}, "--image-size must be from 32 32 32"),
        ({"image_size": (32,)}, "not 1 numbers"),
        ({"image_size": (32, 32, 32, 32)}, "not 4 numbers"),
        ({"spacing": (1.0,)}, "--spacing is for volumes"),
        ({"image_size": (32, 32, 32), "spacing": (1.0, 2.0)}, "--spacing must be one number"),
        ({"image_size": (32, 32, 32), "spacing": (0.0,)}, "--spacing must be one number"),
        ({"image_size": (32, 32, 32), "spacing": (1.0, 1.0, np.nan)}, "--spacing must be one"),
    ],
)
def test_options_that_do_not_go_together(said: dict[str, Any], fault: str) -> None:
    with pytest.raises(InputError, match=fault):
        ImageOptions(**said).check()


def test_what_is_learnt_in_voxels() -> None:
    volumes = ImageOptions(image_size=(32, 32, 32))
    columns = ("a", "b", "c")
    table = TableOptions(
        Path(), target_columns=columns, length_columns=("a",), volume_columns=("c",)
    )
    assert table.lengths == (1, 0, 3)
    check_lengths(table, volumes)
    check_lengths(table, ImageOptions(image_size=(32, 32, 32), spacing=(2.0,)))
    with pytest.raises(InputError, match="needs volumes"):
        check_lengths(table, ImageOptions())
    uneven = ImageOptions(image_size=(32, 32, 32), spacing=(2.0, 1.0, 1.0))
    with pytest.raises(InputError, match="which must be cubes"):
        check_lengths(table, uneven)
    alone = TableOptions(Path(), target_columns=("c",), volume_columns=("c",))
    check_lengths(alone, uneven)
    with pytest.raises(InputError, match="--pixel-size-column is for pictures"):
        check_lengths(TableOptions(Path(), pixel_size_column="size"), volumes)


def test_a_folder_of_volumes(tmp_path: Path) -> None:
    _nifti(tmp_path / "a.nii.gz")
    (tmp_path / "deep").mkdir()
    _series(tmp_path / "deep" / "b")
    (tmp_path / "deep" / "b" / "notes.txt").write_text("x")
    _frames(tmp_path / "deep" / "c.dcm", True)
    with pytest.warns(InputWarning, match="notes.txt"):
        table = read_folder(tmp_path, TableOptions(tmp_path), volumes=True)
    assert table.names == ["a.nii.gz", "deep/b", "deep/c.dcm"]
    with pytest.warns(InputWarning, match="notes.txt"):
        alone = read_folder(tmp_path / "deep" / "b", TableOptions(tmp_path), volumes=True)
    assert alone.names == ["b"]
    assert alone.images == [(tmp_path / "deep" / "b",)]


# ---- the phantom ---------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_the_labels_of_a_phantom_are_those_of_its_shape(seed: int) -> None:
    drawn = volume_phantom(np.random.default_rng(seed), side=24)
    assert drawn.image.shape[1:] == (24, 24)
    fine = (1.4, 1.5, 1.6)
    size = tuple(
        math.ceil(n * side / step)
        for n, side, step in zip(drawn.image.shape, drawn.spacing, fine, strict=True)
    )
    points = centres(size, fine)
    for body in (drawn.head, drawn.ventricle):
        inside = body.distance(points) < 0
        assert inside.sum() * math.prod(fine) / 1000 == pytest.approx(body.volume, rel=0.03)
        assert not np.concatenate([inside[[0, -1]].ravel(), inside[:, [0, -1]].ravel()]).any()
    own = points[drawn.head.distance(points) < 0]
    far = np.linalg.norm(own - own.mean(0), axis=1).max()
    assert 2 * far == pytest.approx(drawn.head.length, rel=0.03)


def test_phantoms_are_the_same_again(tmp_path: Path) -> None:
    first = write_volume_phantoms(tmp_path / "a", 2, side=16)
    second = write_volume_phantoms(tmp_path / "b", 3, side=16)
    assert second.read_text().startswith(first.read_text())
    one, other = (_read(path.parent / "images" / "001.nii.gz") for path in (first, second))
    np.testing.assert_array_equal(one.values, other.values)
    with pytest.raises(ValueError, match="at least"):
        write_volume_phantoms(tmp_path / "c", 1, side=8)

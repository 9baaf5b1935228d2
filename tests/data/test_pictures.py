"""What a file says of itself counts."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngImageFile, PngInfo
from pydicom import Dataset, dcmread, examples
from pydicom.sequence import Sequence
from pydicom.uid import RLELossless

from dicom_files import write_dicom
from finecorr.data.pictures import SUFFIXES, Header, Shape, check_size, header, is_picture, read
from finecorr.data.view import scaled

FILES = Path(pydicom.__file__).parent / "data" / "test_files"
GREY = np.array([[0, 50, 100], [150, 200, 250]], np.uint8)


def _save(path: Path, pixels: np.ndarray, **options: Any) -> Path:
    Image.fromarray(pixels).save(path, **options)
    return path


def _shown(path: Path, frame: int = 0) -> torch.Tensor:
    return scaled(read(path, frame))[0]


# Of every format that Pillow reads


@pytest.mark.parametrize(
    "suffix", [".png", ".bmp", ".dib", ".tif", ".pgm", ".gif", ".jp2", ".tga", ".pcx", ".sgi"]
)
def test_grey_is_what_it_was(tmp_path: Path, suffix: str) -> None:
    path = _save(tmp_path / f"a{suffix}", GREY)
    assert header(path) == Header([Shape(2, 3)], 1)
    picture = read(path)
    np.testing.assert_array_equal(picture.values[0], GREY)
    assert (picture.lowest, picture.highest) == (0, 255)
    assert is_picture(path)


@pytest.mark.parametrize("suffix", [".jpg", ".jfif", ".webp", ".avif"])
def test_lossy_formats_are_nearly_what_they_were(tmp_path: Path, suffix: str) -> None:
    pixels = np.kron(GREY, np.ones((16, 16), np.uint8))
    path = _save(tmp_path / f"a{suffix}", pixels, quality=95)
    error = np.abs(read(path).values.astype(float).mean(0) - pixels)
    assert error.mean() < 3


@pytest.mark.parametrize(
    ("dtype", "values", "limits"),
    [
        (np.int8, [-94, 0, 100], (-128, 127)),
        (np.uint16, [0, 1000, 60000], (0, 65535)),
        (np.int16, [-1000, 0, 3000], (-(2**31), 2**31 - 1)),  # Pillow has 32 bits for it
        (np.int32, [-70000, 0, 2**30], (-(2**31), 2**31 - 1)),
        (np.uint32, [0, 2**31, 2**32 - 1], (0, 2**32 - 1)),
        (np.float32, [-0.5, 0.25, 1e6], (None, None)),
    ],
)
def test_more_than_8_bits(
    tmp_path: Path, dtype: Any, values: list[float], limits: tuple[float | None, float | None]
) -> None:
    pixels = np.array([values], dtype)
    picture = read(_tiff(tmp_path / "a.tif", pixels))
    np.testing.assert_array_equal(picture.values[0], pixels)
    assert (picture.lowest, picture.highest) == limits


def _tiff(path: Path, pixels: np.ndarray, *, photometric: int = 1) -> Path:
    """A plain TIFF of one grey strip, byte for byte: Pillow does not write all that it reads."""
    height, width = pixels.shape
    bits = 8 * pixels.dtype.itemsize
    sample_format = {"u": 1, "i": 2, "f": 3}[pixels.dtype.kind]
    data = pixels.astype(pixels.dtype.newbyteorder("<")).tobytes()
    tags = [
        *((256, width), (257, height), (258, bits), (259, 1), (262, photometric)),
        *((273, 8 + 2 + 12 * 11 + 4), (277, 1), (278, height), (279, len(data)), (284, 1)),
        (339, sample_format),
    ]
    entries = b"".join(
        np.array([tag, 4], "<u2").tobytes() + np.array([1, value], "<u4").tobytes()
        for tag, value in tags
    )
    head = b"II*\0" + np.array([8], "<u4").tobytes() + np.array([len(tags)], "<u2").tobytes()
    path.write_bytes(head + entries + b"\0\0\0\0" + data)
    return path


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_tiff_whose_zero_is_white(tmp_path: Path, dtype: Any) -> None:
    pixels = np.array([[0, 50, 200]], dtype)
    white, black = (_tiff(tmp_path / f"{zero}.tif", pixels, photometric=zero) for zero in (0, 1))
    torch.testing.assert_close(_shown(white), 1 - _shown(black))


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path: Path, suffix: str, orientation: int) -> None:
    """A photograph that its tag turns is the same as the upright one."""
    upright = np.kron(GREY, np.ones((16, 16), np.uint8))
    turned: dict[int, np.ndarray] = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.T,
        6: np.rot90(upright),
        7: upright[::-1, ::-1].T,
        8: np.rot90(upright, -1),
    }
    exif = Image.Exif()
    exif[274] = orientation
    image = Image.fromarray(np.ascontiguousarray(turned[orientation]))
    path = tmp_path / f"a{suffix}"
    image.save(path, exif=exif)
    shown = read(path).values.astype(float).mean(0)
    assert shown.shape == upright.shape
    assert np.abs(shown - upright).mean() < 6


def check_header(path: Path) -> Header:
    """What it says before it is decoded, as it is decoded."""
    found = header(path)
    for frame in range(found.frames):
        picture = read(path, frame)
        height, width = picture.values.shape[1:]
        shape = Shape(height, width, picture.pixel_size, picture.aspect)
        assert found.shape(frame) == shape, (path, frame)
    return found


@pytest.mark.parametrize(
    "suffix",
    [
        *(".png", ".jpg", ".jfif", ".webp", ".avif", ".tif", ".bmp", ".dib", ".gif", ".jp2"),
        *(".pgm", ".ppm", ".sgi", ".pcx", ".tga"),
    ],
)
def test_the_header_says_the_size_of_the_upright_image(tmp_path: Path, suffix: str) -> None:
    assert {suffix} <= SUFFIXES
    for orientation in range(9):
        exif = Image.Exif()
        if orientation:
            exif[274] = orientation
        path = tmp_path / f"{orientation}{suffix}"
        Image.new("RGB", (24, 16), "red").convert("L").save(path, exif=exif)
        check_header(path)


def test_the_header_says_how_each_page_is_turned(tmp_path: Path) -> None:
    pages = [Image.new("L", size, 9) for size in ((16, 12), (20, 12), (16, 12))]
    for page, orientation in zip(pages, (6, 1, 8), strict=True):
        page.encoderinfo = {"tiffinfo": {274: orientation}}
    path = tmp_path / "a.tif"
    pages[0].save(path, save_all=True, append_images=pages[1:], tiffinfo={274: 6})
    shapes = check_header(path).shapes
    assert list(shapes) == [Shape(16, 12), Shape(12, 20), Shape(16, 12)]


def test_a_png_that_says_after_its_pixels_how_it_is_turned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No other one is decoded for it."""
    exif = Image.Exif()
    exif[274] = 6
    xmp = PngInfo()
    xmp.add_itxt("XML:com.adobe.xmp", '<x tiff:Orientation="8"/>')
    image = Image.new("L", (24, 16))
    image.save(tmp_path / "exif.png", exif=exif)
    image.save(tmp_path / "xmp.png", pnginfo=xmp)
    for name, kind in (("exif", b"eXIf"), ("xmp", b"iTXt")):
        whole = (tmp_path / f"{name}.png").read_bytes()
        start = whole.index(kind) - 4
        stop = start + 12 + int.from_bytes(whole[start : start + 4])
        end = whole.index(b"IEND") - 4
        late = whole[:start] + whole[stop:end] + whole[start:stop] + whole[end:]
        (tmp_path / f"late_{name}.png").write_bytes(late)
        for path in (tmp_path / f"{name}.png", tmp_path / f"late_{name}.png"):
            assert list(check_header(path).shapes) == [Shape(24, 16)]
    image.save(tmp_path / "plain.png")
    monkeypatch.setattr(PngImageFile, "load", None)
    for name in ("plain", "exif", "xmp"):
        header(tmp_path / f"{name}.png")


def test_a_palette_is_looked_up(tmp_path: Path) -> None:
    grey = np.array([[0, 200], [100, 50]], np.uint8)
    Image.fromarray(grey).convert("RGB").quantize(8).save(tmp_path / "a.png")
    torch.testing.assert_close(
        _shown(tmp_path / "a.png"), torch.from_numpy(grey) / 200, atol=0.02, rtol=0
    )


@pytest.mark.parametrize("mode", ["P", "L", "RGB", "LA", "RGBA"])
def test_where_an_image_is_transparent_there_is_none(tmp_path: Path, mode: str) -> None:
    """Whatever colour hides there; half of it is half as bright."""
    path = tmp_path / "a.png"
    if mode in ("LA", "RGBA"):
        alpha = np.array([[255, 255, 128, 0]], np.uint8)
        levels = np.array([[20, 100, 200, 255]], np.uint8)
        image = Image.merge("LA", (Image.fromarray(levels), Image.fromarray(alpha)))
        image.convert(mode).save(path)
        expected = [20, 100, 200 * 128 / 255]
    else:
        levels = np.array([[20, 100, 60, 255]], np.uint8)
        if mode == "P":
            image = Image.fromarray(np.array([[0, 1, 2, 3]], np.uint8), "P")
            image.putpalette([level for level in levels[0] for _ in range(3)])
            image.save(path, transparency=3)
        else:
            hidden = 255 if mode == "L" else (255, 255, 255)
            Image.fromarray(levels).convert(mode).save(path, transparency=hidden)
        expected = [20, 100, 60]
    picture = read(path)
    assert picture.valid is not None
    np.testing.assert_array_equal(picture.valid, [[True, True, True, False]])
    np.testing.assert_allclose(picture.values[0, 0, :3], expected, atol=0.5)
    low, high = min(expected), max(expected)
    wanted = torch.tensor([*((level - low) / (high - low) for level in expected), 0.0])
    torch.testing.assert_close(_shown(path)[0], wanted, atol=0.01, rtol=0)


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "1"])
def test_colours_of_other_kinds(tmp_path: Path, mode: str) -> None:
    pixels = np.kron(GREY, np.ones((16, 16), np.uint8))
    image = Image.fromarray(pixels).convert("RGB").convert(mode)
    path = tmp_path / "a.tif"
    image.save(path)
    expected = np.asarray(image.convert("RGB")).mean(axis=2)
    np.testing.assert_allclose(read(path).values.mean(axis=0), expected, atol=1)


@pytest.mark.parametrize("suffix", [".tif", ".gif", ".webp", ".png"])
def test_pages_are_counted_and_each_can_be_read(tmp_path: Path, suffix: str) -> None:
    levels = (40, 120, 200)
    pages = [Image.new("L", (16, 12), level) for level in levels]
    path = tmp_path / f"a{suffix}"
    pages[0].save(path, save_all=True, append_images=pages[1:], lossless=True)
    assert header(path).frames == 3
    for frame, level in enumerate(levels):
        np.testing.assert_allclose(read(path, frame).values, level, atol=2)


def test_pages_that_are_all_reduced_are_pages(tmp_path: Path) -> None:
    pages = [Image.new("L", (8, 8), level) for level in (1, 2)]
    for page in pages:
        page.encoderinfo = {"tiffinfo": {254: 1}}
    path = tmp_path / "a.tif"
    pages[0].save(path, save_all=True, append_images=pages[1:], tiffinfo={254: 1})
    assert header(path).frames == 2


def test_the_largest_page_counts(tmp_path: Path) -> None:
    pages = [Image.new("L", size, 1) for size in ((8, 8), (300, 200))]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    assert header(tmp_path / "a.tif") == Header([Shape(8, 8), Shape(200, 300)], 2)
    with pytest.raises(ValueError, match="it has 300 x 200 pixels"):
        check_size(header(tmp_path / "a.tif"), 0.05)


def test_more_frames_than_the_file_can_hold(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", GREY, NumberOfFrames=20_000_000)
    with pytest.raises(ValueError, match="20000000 frames, and is too short"):
        header(path)
    with pytest.raises(ValueError, match="-1 frames"):
        check_size(header(write_dicom(tmp_path / "b.dcm", GREY, NumberOfFrames=-1)), 1)


@pytest.mark.parametrize("sequence", ["ModalityLUTSequence", "VOILUTSequence"])
@pytest.mark.parametrize("representation", ["US", "OW"])
def test_look_up_tables(tmp_path: Path, sequence: str, representation: str) -> None:
    table = np.array([100, 500, 900, 1000], np.uint16)
    lut = Dataset()
    lut.LUTDescriptor = [4, 0, 16]
    if sequence == "ModalityLUTSequence":
        lut.ModalityLUTType = "US"
    data = table.tolist() if representation == "US" else table.tobytes()
    lut.add_new(0x00283006, representation, data)
    stored = np.array([[0, 1, 2, 3]], np.uint16)
    path = write_dicom(tmp_path / "a.dcm", stored, **{sequence: Sequence([lut])})
    expected = torch.from_numpy((table - 100.0) / 900).float()
    torch.testing.assert_close(_shown(path)[0], expected)


def test_a_reduced_copy_within_a_tiff_is_no_page(tmp_path: Path) -> None:
    large, small = Image.new("L", (64, 64), 9), Image.new("L", (8, 8), 9)
    small.encoderinfo = {"tiffinfo": {254: 1}}
    large.save(tmp_path / "a.tif", save_all=True, append_images=[small])
    with Image.open(tmp_path / "a.tif") as image:
        image.seek(1)
        assert image.tag_v2.get(254) == 1  # type: ignore[attr-defined]
    assert header(tmp_path / "a.tif").frames == 1


def test_the_previews_of_a_photograph_are_no_pages(tmp_path: Path) -> None:
    photograph, preview = Image.new("L", (64, 48), 90), Image.new("L", (16, 12), 90)
    photograph.save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[preview])
    assert header(tmp_path / "a.jpg") == Header([Shape(48, 64)], 1)


def test_no_other_program_is_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Pillow starts Ghostscript for an EPS file, whatever its name."""
    path = tmp_path / "a.png"
    Image.new("L", (8, 8)).save(path, "EPS")
    with Image.open(path) as image:
        assert image.format == "EPS"

    def started(*_: object, **__: object) -> None:
        raise AssertionError("a program was started")

    monkeypatch.setattr(subprocess, "check_call", started)
    monkeypatch.setattr(subprocess, "Popen", started)
    with pytest.raises(ValueError, match="a format that is not read here"):
        read(path)
    assert not is_picture(path.rename(tmp_path / "a.eps"))


# DICOM


def test_an_inverted_dicom_looks_as_its_twin(tmp_path: Path) -> None:
    stored = np.array([[0, 100, 4095]], np.uint16)
    one = write_dicom(tmp_path / "1.dcm", stored, PhotometricInterpretation="MONOCHROME1")
    two = write_dicom(tmp_path / "2.dcm", 4095 - stored)
    torch.testing.assert_close(_shown(one), _shown(two))


@pytest.mark.parametrize("inverted", [False, True])
def test_padding_is_no_part_of_the_picture(tmp_path: Path, inverted: bool) -> None:
    stored = np.array([[-2000, 0, 500, 1000]], np.int16)
    said = {"PhotometricInterpretation": "MONOCHROME1"} if inverted else {}
    path = write_dicom(tmp_path / "a.dcm", stored, PixelPaddingValue=-2000, **said)
    inside = [1, 0.5, 0] if inverted else [0, 0.5, 1]
    torch.testing.assert_close(_shown(path)[0], torch.tensor([0.0, *inside]))


def test_a_range_of_padding(tmp_path: Path) -> None:
    stored = np.array([[0, 5, 10, 110, 210]], np.uint16)
    path = write_dicom(tmp_path / "a.dcm", stored, PixelPaddingValue=0, PixelPaddingRangeLimit=5)
    torch.testing.assert_close(_shown(path)[0], torch.tensor([0.0, 0, 0, 0.5, 1]))


def test_the_window_is_that_of_the_file(tmp_path: Path) -> None:
    """Black and white at 40 -+ 200 HU, after the rescale slope (PS3.3 C.11.2.1.2.1)."""
    hounsfield = np.array([[-1000, -160.5, 39.5, 239.5, 3000]])
    stored = ((hounsfield + 1024) * 2).astype(np.int16)
    path = write_dicom(
        tmp_path / "a.dcm",
        stored,
        Modality="CT",
        RescaleSlope=0.5,
        RescaleIntercept=-1024,
        WindowCenter=40,
        WindowWidth=401,
    )
    picture = read(path)
    np.testing.assert_allclose(picture.values[0], hounsfield)
    assert picture.unit == "HU"
    assert (picture.lowest, picture.highest) == (-32768 / 2 - 1024, 32767 / 2 - 1024)
    torch.testing.assert_close(
        _shown(path)[0], torch.tensor([0.0, 0, 0.5, 1, 1]), atol=1e-3, rtol=0
    )


def test_a_window_is_not_turned_by_a_slope_below_0(tmp_path: Path) -> None:
    stored = np.array([[0, 100, 200, 250]], np.uint8)
    said = {"RescaleIntercept": 250, "WindowCenter": 150.5, "WindowWidth": 101}
    path = write_dicom(tmp_path / "a.dcm", stored, RescaleSlope=-1, **said)
    np.testing.assert_array_equal(read(path).values[0], [[250, 150, 50, 0]])
    torch.testing.assert_close(_shown(path)[0], torch.tensor([1.0, 0.5, 0, 0]))


@pytest.mark.parametrize("width", [0, None, [0, 10]])
def test_a_window_without_a_width_is_none(tmp_path: Path, width: Any) -> None:
    stored = np.array([[0, 500, 1000]], np.int16)
    path = write_dicom(tmp_path / "a.dcm", stored, WindowCenter=40, WindowWidth=width)
    torch.testing.assert_close(_shown(path)[0], torch.tensor([0.0, 0.5, 1]))


def test_bits_that_are_not_stored_count_for_nothing(tmp_path: Path) -> None:
    """Overlays lie in the upper bits of old files."""
    values = np.array([[0, 1000, 4000]], np.uint16)
    stored = values | np.array([[0x8000, 0, 0x1000]], np.uint16)
    path = write_dicom(tmp_path / "a.dcm", stored, BitsStored=12, HighBit=11)
    picture = read(path)
    np.testing.assert_array_equal(picture.values[0], values)
    assert (picture.lowest, picture.highest) == (0, 4095)


def test_palette_and_colour() -> None:
    palette = read(Path(examples.get_path("palette_color")))
    assert palette.values.shape == (3, 350, 800)
    assert palette.values.std(axis=0).max() > 0
    assert read(Path(examples.get_path("rgb_color"))).values.shape == (3, 240, 320)


def test_one_frame_of_many(tmp_path: Path) -> None:
    path = Path(examples.get_path("ybr_color"))
    found = check_header(path)
    assert (found.frames, found.largest[:2]) == (30, (240, 320))
    assert not np.array_equal(read(path, 0).values, read(path, 29).values)
    stored = np.stack([np.full((4, 5), level, np.uint8) for level in (10, 20, 30)])
    stored[:, 0, 0] = 0
    path = write_dicom(tmp_path / "a.dcm", stored)
    for frame, level in enumerate((10, 20, 30)):
        np.testing.assert_array_equal(read(path, frame).values[0], stored[frame])
        assert read(path, frame).values.max() == level


def test_frames_that_say_something_of_their_own(tmp_path: Path) -> None:
    """As enhanced DICOM does: in sequences for all frames, and for each."""
    stored = np.array([[[0, 1, 2]], [[0, 1, 2]]], np.uint16)
    measures, first, second = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing = [0.5, 0.25]
    shared = Dataset()
    shared.PixelMeasuresSequence = Sequence([measures])
    frames = []
    for part, slope in ((first, 10), (second, -10)):
        part.RescaleSlope, part.RescaleIntercept, part.RescaleType = slope, 5, "US"
        frame = Dataset()
        frame.PixelValueTransformationSequence = Sequence([part])
        frames.append(frame)
    path = write_dicom(
        tmp_path / "a.dcm",
        stored,
        SharedFunctionalGroupsSequence=Sequence([shared]),
        PerFrameFunctionalGroupsSequence=Sequence(frames),
    )
    np.testing.assert_allclose(read(path, 0).values, [[[5, 15, 25]]])
    np.testing.assert_allclose(read(path, 1).values, [[[5, -5, -15]]])
    assert read(path, 1).pixel_size == (0.5, 0.25)
    assert read(path, 1).aspect == 2


def test_the_header_of_a_dicom_file_says_what_is_read(tmp_path: Path) -> None:
    stored = np.zeros((3, 4, 5), np.uint8)
    region = Dataset()
    region.RegionSpatialFormat, region.PhysicalUnitsXDirection = 1, 3
    region.PhysicalUnitsYDirection, region.PhysicalDeltaX, region.PhysicalDeltaY = 3, 0.01, 0.02
    for said in (
        {},
        {"PixelSpacing": [0.3, 0.2]},
        {"PixelSpacing": [0, 0], "PixelAspectRatio": [2, 1]},
        {"PixelAspectRatio": [0, 1]},
        {"ImagerPixelSpacing": [1, 1]},
        {"SequenceOfUltrasoundRegions": Sequence([region])},
    ):
        assert len(check_header(write_dicom(tmp_path / "a.dcm", stored, **said)).shapes) == 1
    own = []
    for spacing in ([0.5, 0.5], None, [0.5, 0.25]):
        frame = Dataset()
        if spacing is not None:
            measures = Dataset()
            measures.PixelSpacing = spacing
            frame.PixelMeasuresSequence = Sequence([measures])
        own.append(frame)
    for count in (1, 2, 3):
        sequence = {"PerFrameFunctionalGroupsSequence": Sequence(own[:count])}
        path = write_dicom(tmp_path / "a.dcm", stored, PixelSpacing=[0.2, 0.2], **sequence)
        assert len(check_header(path).shapes) == 3
    assert header(path).shape(2) == Shape(4, 5, (0.5, 0.25), 2)
    alike = {"PerFrameFunctionalGroupsSequence": Sequence(own[:1] * 3)}
    assert len(check_header(write_dicom(tmp_path / "a.dcm", stored, **alike)).shapes) == 1


def test_pixel_sizes(tmp_path: Path) -> None:
    stored = np.arange(12, dtype=np.uint8).reshape(3, 4)
    assert read(write_dicom(tmp_path / "a.dcm", stored)).pixel_size is None
    path = write_dicom(tmp_path / "a.dcm", stored, PixelSpacing=[0.3, 0.2])
    assert read(path).pixel_size == (0.3, 0.2)
    assert read(path).aspect == pytest.approx(1.5)
    # That of the detector of a radiograph, not of the body before it.
    assert (
        read(write_dicom(tmp_path / "a.dcm", stored, ImagerPixelSpacing=[1, 1])).pixel_size is None
    )
    path = write_dicom(tmp_path / "a.dcm", stored, PixelAspectRatio=[2, 1])
    assert (read(path).pixel_size, read(path).aspect) == (None, 2)


def test_pixel_size_of_ultrasound(tmp_path: Path) -> None:
    """In centimetres, for each region of the screen; only one that all agree on is the image's."""
    stored = np.arange(12, dtype=np.uint8).reshape(3, 4)

    def region(kind: int, unit: int, delta: float) -> Dataset:
        part = Dataset()
        part.RegionSpatialFormat = kind
        part.PhysicalUnitsXDirection = part.PhysicalUnitsYDirection = unit
        part.PhysicalDeltaX, part.PhysicalDeltaY = delta, -delta
        return part

    def size(*regions: Dataset) -> tuple[float, ...] | None:
        path = write_dicom(
            tmp_path / "a.dcm", stored, SequenceOfUltrasoundRegions=Sequence(list(regions))
        )
        return read(path).pixel_size

    assert size(region(1, 3, 0.02)) == pytest.approx((0.2, 0.2))
    # A spectrum, whose axis is time, is no picture of the body.
    assert size(region(1, 3, 0.02), region(3, 4, 0.5)) == pytest.approx((0.2, 0.2))
    assert size(region(1, 3, 0.02), region(1, 3, 0.03)) is None
    assert size(region(3, 4, 0.5)) is None


@pytest.mark.parametrize(
    "name",
    [
        *("CT_small", "MR_small_RLE", "MR_small_bigendian", "MR_small_implicit", "693_J2KI"),
        *("MR_small_jp2klossless", "MR_small_jpeg_ls_lossless", "JPEGLSNearLossless_16"),
        *("SC_rgb_jpeg_gdcm", "SC_rgb_jpeg_lossy_gdcm", "SC_rgb_rle_2frame", "examples_overlay"),
        *("SC_ybr_full_422_uncompressed", "rtdose_rle", "J2K_pixelrep_mismatch"),
    ],
)
def test_transfer_syntaxes(name: str) -> None:
    path = FILES / f"{name}.dcm"
    shown = scaled(read(path, check_header(path).frames - 1))
    assert (float(shown.min()), float(shown.max())) == (0, 1)


def test_compressed_is_the_same_as_plain() -> None:
    plain = read(FILES / "MR_small.dcm").values
    for name in ("RLE", "jp2klossless", "jpeg_ls_lossless", "bigendian", "implicit"):
        np.testing.assert_array_equal(read(FILES / f"MR_small_{name}.dcm").values, plain)


def test_one_frame_of_a_compressed_file_does_not_take_the_memory_of_all(tmp_path: Path) -> None:
    """200 frames of 1 megapixel, most of it nothing, are a file of 2 MB."""
    frames = np.zeros((200, 1000, 1000), np.uint8)
    frames[:, 0, 0] = 1
    path = write_dicom(tmp_path / "plain.dcm", frames)
    dataset = dcmread(path)
    dataset.compress(RLELossless)
    dataset.save_as(tmp_path / "a.dcm")
    code = (
        "import resource, sys; from pathlib import Path; from finecorr.data.pictures import read; "
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss; "
        "read(Path(sys.argv[1]), 150); "
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "a.dcm")]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(result.stdout) < 60_000  # KB


# Which files are pictures


def test_pictures_are_known_by_their_content(tmp_path: Path) -> None:
    shutil.copy(FILES / "CT_small.dcm", tmp_path / "IM0001")
    shutil.copy(FILES / "CT_small.dcm", tmp_path / "a.IMA")
    _save(tmp_path / "a.png", GREY).rename(tmp_path / "scan")
    (tmp_path / "notes").write_text("no image")
    shutil.copy(FILES / "test-SR.dcm", tmp_path / "report.dcm")
    shutil.copy(FILES / "dicomdirtests" / "DICOMDIR", tmp_path / "DICOMDIR")
    found = {path.name: is_picture(path) for path in tmp_path.iterdir()}
    assert found == {
        "IM0001": True,
        "a.IMA": True,
        "scan": True,
        "notes": False,
        "report.dcm": False,
        "DICOMDIR": False,
    }
    assert read(tmp_path / "IM0001").values.shape == (1, 128, 128)


def test_a_dicom_file_without_its_first_bytes(tmp_path: Path) -> None:
    whole = (FILES / "CT_small.dcm").read_bytes()
    (tmp_path / "a.dcm").write_bytes(whole[132:])
    np.testing.assert_array_equal(
        read(tmp_path / "a.dcm").values, read(FILES / "CT_small.dcm").values
    )


def test_a_report_is_no_image() -> None:
    with pytest.raises(ValueError, match="holds no pixels"):
        header(FILES / "test-SR.dcm")

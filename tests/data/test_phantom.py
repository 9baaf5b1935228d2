from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy import ndimage

from finecorr.data.phantom import Head, phantom, random_head, write_phantoms

CIRCUMFERENCE = "head circumference (mm)"
HEAD = Head((62.0, 48.0), pixel_size=0.9, centre=(95.0, 70.0), orientation=0.2, anatomy=3)


def outline(head: Head, scale: float = 1.0, count: int = 100_000) -> np.ndarray:
    """Points (x, y) in pixels on the ellipse of the head, scaled about its centre."""
    t = np.linspace(0, 2 * np.pi, count, endpoint=False)
    a, b = (scale * axis / head.pixel_size for axis in head.semi_axes)
    turn = np.exp(1j * head.orientation)
    z = (a * np.cos(t) + 1j * b * np.sin(t)) * turn + complex(*head.centre)
    return np.stack([z.real, z.imag], axis=1)


@pytest.fixture(scope="module")
def table_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_phantoms(tmp_path_factory.mktemp("phantoms"), 30, seed=1)


@pytest.mark.parametrize("seed", range(5))
def test_circumference_is_the_perimeter_in_pixels_times_the_pixel_size(seed: int) -> None:
    head = random_head(np.random.default_rng(seed))
    points = outline(head)
    perimeter = np.linalg.norm(points - np.roll(points, 1, axis=0), axis=1).sum()
    drawn = phantom(np.random.default_rng(seed), head=head)
    assert drawn.pixel_size == head.pixel_size
    assert drawn.circumference == pytest.approx(perimeter * drawn.pixel_size, rel=1e-7)


def test_a_circle_has_the_circumference_of_a_circle() -> None:
    assert replace(HEAD, semi_axes=(50.0, 50.0)).circumference == pytest.approx(np.pi * 100)


def test_the_contour_of_a_head_is_its_ellipse() -> None:
    np.testing.assert_allclose(HEAD.contour(50), outline(HEAD, count=50))


@pytest.mark.parametrize(
    "head",
    [
        HEAD,
        replace(HEAD, centre=(80.0, 60.0), orientation=-0.4, anatomy=8),
        replace(HEAD, semi_axes=(25.0, 20.0), pixel_size=0.5, orientation=1.3, anatomy=11),
    ],
)
def test_the_bright_rim_lies_just_inside_the_ellipse(head: Head) -> None:
    frames = [phantom(np.random.default_rng(k), head=replace(head, anatomy=k)) for k in range(6)]
    image = np.mean([frame.image for frame in frames], axis=0)
    # One pixel along the short axis, the scale at which the profile below is sampled.
    pixel = head.pixel_size / head.semi_axes[1]
    offsets = np.arange(-12, 13)
    profile = np.array(
        [
            ndimage.map_coordinates(image, outline(head, 1 + k * pixel, 360).T[::-1], order=1)
            for k in offsets
        ]
    ).mean(axis=1)
    assert -5 <= offsets[profile.argmax()] <= 0
    # Outside, the brightness has halved within three pixels of the ellipse.
    assert profile[offsets >= 3].max() < 0.6 * profile.max()


def test_random_heads_fit_the_image_and_resemble_hc18() -> None:
    heads = [random_head(np.random.default_rng(seed)) for seed in range(300)]
    for head in heads:
        points = head.contour()
        assert points.min() > -0.51
        assert (points.max(axis=0) < (191.51, 135.51)).all()
    sizes = np.array([head.circumference for head in heads])
    zooms = np.array([head.pixel_size for head in heads])
    assert sizes.min() > 44
    assert sizes.max() < 346
    assert 160 < np.median(sizes) < 200
    # Pixels alone do not tell the size, nor does the pixel size alone.
    assert np.std(sizes / zooms) / np.mean(sizes / zooms) > 0.1
    assert np.corrcoef(sizes, zooms)[0, 1] < 0.97


@pytest.mark.parametrize(("height", "width"), [(136, 192), (32, 32), (64, 160), (150, 90)])
def test_images_are_grey_of_the_size_asked_for_and_show_something(height: int, width: int) -> None:
    image = phantom(np.random.default_rng(2), height=height, width=width).image
    assert image.shape == (height, width)
    assert image.dtype == np.uint8
    assert 10 < image.mean() < 130
    assert image.max() > 150


def test_frames_of_a_head_differ_only_in_what_the_generator_decides() -> None:
    first, again = (phantom(np.random.default_rng(5), head=HEAD).image for _ in range(2))
    other = phantom(np.random.default_rng(6), head=HEAD).image
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    smooth = [ndimage.gaussian_filter(image.astype(float), 2).ravel() for image in (first, other)]
    assert np.corrcoef(smooth)[0, 1] > 0.8


def test_table_and_files_agree(table_path: Path) -> None:
    table = pd.read_csv(table_path)
    assert list(table.columns) == ["filename", "pixel size(mm)", CIRCUMFERENCE]
    written = sorted(path.name for path in (table_path.parent / "images").iterdir())
    assert written == sorted(table["filename"])
    assert table["filename"].str.fullmatch(r"\d{3}_[23]?HC\.png").all()
    assert sorted(path.name for path in table_path.parent.iterdir()) == ["images", "table.csv"]
    with Image.open(table_path.parent / "images" / "000_HC.png") as image:
        assert (image.mode, image.size) == ("L", (192, 136))


def test_frames_of_a_subject_share_the_circumference(table_path: Path) -> None:
    table = pd.read_csv(table_path)
    groups = table.groupby(table["filename"].str[:3])
    assert len(groups) == 30
    assert groups.size().between(1, 3).all()
    assert (groups.size() == 1).mean() > 0.5
    assert groups.size().max() > 1
    assert (groups[CIRCUMFERENCE].nunique() == 1).all()
    assert groups[CIRCUMFERENCE].first().nunique() == 30
    assert table["pixel size(mm)"].nunique() == len(table)


def test_the_same_seed_gives_the_same_bytes_however_many_there_are(
    table_path: Path, tmp_path: Path
) -> None:
    fewer = write_phantoms(tmp_path / "fewer", 4, seed=1)
    rows = len(pd.read_csv(fewer))
    pd.testing.assert_frame_equal(pd.read_csv(fewer), pd.read_csv(table_path)[:rows])
    for image in (fewer.parent / "images").iterdir():
        assert image.read_bytes() == (table_path.parent / "images" / image.name).read_bytes()
    other = write_phantoms(tmp_path / "other", 1, seed=2)
    name = "images/000_HC.png"
    assert (other.parent / name).read_bytes() != (fewer.parent / name).read_bytes()


def test_wrong_labels_come_from_other_rows_and_leave_the_rest_alone(
    table_path: Path, tmp_path: Path
) -> None:
    right = pd.read_csv(table_path)
    table = pd.read_csv(write_phantoms(tmp_path, 30, seed=1, wrong_labels=0.2))
    wrong = table["wrong label"] == 1
    assert set(table["wrong label"]) == {0, 1}
    assert wrong.sum() == round(0.2 * len(table))
    untouched = [CIRCUMFERENCE, "pixel size(mm)", "filename"]
    pd.testing.assert_frame_equal(table.loc[~wrong, untouched], right.loc[~wrong, untouched])
    assert table.loc[wrong, CIRCUMFERENCE].isin(right[CIRCUMFERENCE]).all()
    assert (table.loc[wrong, CIRCUMFERENCE] != right.loc[wrong, CIRCUMFERENCE]).any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"subjects": 0}, "at least 1"),
        ({"wrong_labels": 1.0}, "give a fraction"),
        ({"wrong_labels": -0.1}, "give a fraction"),
        ({"height": 31}, "at least 32"),
        ({"width": 31}, "at least 32"),
    ],
)
def test_arguments_out_of_range_are_refused_before_anything_is_written(
    tmp_path: Path, arguments: dict[str, float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        write_phantoms(tmp_path / "none", **arguments)  # type: ignore[arg-type]
    assert not (tmp_path / "none").exists()


def test_a_phantom_too_small_to_show_anything_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 32"):
        phantom(np.random.default_rng(0), height=16)

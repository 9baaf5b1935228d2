"""Images at the resolution of their files: what a training and a prediction see of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from finecorr.data import crops
from finecorr.data.crops import RandomCrops, WholeImages, WithEpoch
from finecorr.data.dataset import Batch, ImageDataset
from finecorr.data.image_options import ImageOptions
from finecorr.data.images import Images, note_unfit
from finecorr.data.loading import prediction_loader
from finecorr.data.options import TableOptions
from finecorr.data.table import ImageTable, read_table
from finecorr.errors import InputError, InputWarning

CROPS = ImageOptions(view="crops", crop_size=(32, 40), intensity=("type",), rgb=True)
SHAPES = [(50, 60), (32, 40), (80, 45), (50, 60), (90, 90)]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> ImageTable:
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for i, (height, width) in enumerate(SHAPES):
        pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    names = [f"{i}.png" for i in range(len(SHAPES))]
    pd.DataFrame({"image": names, "target": np.arange(len(SHAPES))}).to_csv(
        folder / "table.csv", index=False
    )
    return read_table(TableOptions(folder / "table.csv"))


def _dataset(table: ImageTable, options: ImageOptions = CROPS) -> tuple[ImageDataset, Images]:
    images = Images(table, options)
    return ImageDataset(table, images, (False,)), images


def _pixels(table: ImageTable, index: int) -> torch.Tensor:
    with Image.open(table.images[index][0]) as image:
        return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255


def _crops(table: ImageTable, seed: int, epoch: int, workers: int = 0) -> list[Batch]:
    dataset, images = _dataset(table)
    rows = RandomCrops(dataset, images, [0, 1, 2, 4], seed)
    sampler = WithEpoch(rows, 1, 0, shuffle=True, seed=seed)
    sampler.set_epoch(epoch)
    return list(DataLoader(rows, 1, sampler=sampler, num_workers=workers))


def _same(first: Iterable[Batch], second: Iterable[Batch]) -> bool:
    return all(
        torch.equal(a["image"], b["image"]) and torch.equal(a["index"], b["index"])
        for a, b in zip(first, second, strict=True)
    )


def test_native_images_are_their_pixels_and_take_a_byte_each(table: ImageTable) -> None:
    for options in (CROPS, replace(CROPS, cache_mb=0)):
        images = Images(table, options)
        assert images.shapes.tolist() == [list(shape) for shape in SHAPES]
        for index in range(len(SHAPES)):
            assert torch.equal(images[index], _pixels(table, index))
            crop = images.crop(index, (0, 1))
            height, width = crop.shape[1:]
            assert torch.equal(crop, _pixels(table, index)[:, :height, 1 : 1 + width])
    assert {image.dtype for image in Images(table, CROPS)._kept.values()} == {torch.uint8}


def test_a_random_crop_is_a_part_of_its_image(table: ImageTable) -> None:
    for batch in _crops(table, 0, 0):
        index = int(batch["index"])
        whole, crop = _pixels(table, index), batch["image"][0]
        assert crop.shape == (3, 32, 40)
        places = whole.unfold(1, 32, 1).unfold(2, 40, 1)
        assert (places == crop[:, None, None]).flatten(3).all(3).all(0).any()


def test_crops_follow_seed_and_epoch_and_nothing_else(table: ImageTable) -> None:
    first = _crops(table, 0, 3)
    assert _same(first, _crops(table, 0, 3))
    assert _same(first, _crops(table, 0, 3, workers=1))
    by_index = [
        sorted(_crops(table, *draw), key=lambda b: int(b["index"]))
        for draw in ((0, 3), (0, 4), (1, 3))
    ]
    for other in by_index[1:]:
        assert not torch.equal(by_index[0][0]["image"], other[0]["image"])


def test_a_prediction_sees_each_image_whole_and_once(table: ImageTable) -> None:
    dataset, _ = _dataset(table)
    seen: dict[int, torch.Tensor] = {}
    for batch in prediction_loader(dataset, [0, 2, 3, 4], 64):
        for index, image in zip(batch["index"].tolist(), batch["image"], strict=True):
            assert index not in seen
            seen[index] = image
    assert sorted(seen) == [0, 2, 3, 4]
    assert all(torch.equal(image, _pixels(table, index)) for index, image in seen.items())


def test_a_prediction_sees_the_crops_of_a_grid(table: ImageTable) -> None:
    dataset, _ = _dataset(table, replace(CROPS, test_crops=4))
    batches = list(prediction_loader(dataset, [0, 4], 3))
    assert [len(batch["row"]) for batch in batches] == [3, 3, 2]
    indices = torch.cat([batch["index"] for batch in batches]).tolist()
    assert indices == [0] * 4 + [4] * 4
    crops = torch.cat([batch["image"] for batch in batches])
    whole = _pixels(table, 4)
    corners = [whole[:, top : top + 32, left : left + 40] for top in (0, 58) for left in (0, 50)]
    assert all(torch.equal(crops[4 + i], corner) for i, corner in enumerate(corners))


def test_large_images_come_in_small_batches(
    table: ImageTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crops, "PIXELS_ON_GPU", 2**22)
    monkeypatch.setattr(crops, "PIXELS_ON_CPU", 2**22)
    dataset, images = _dataset(table)
    sizes = [[100, 100]] * 5 + [[4000, 3000]] * 2 + [[1000, 1000]] * 5
    images.shapes = np.array(sizes)
    batches = WholeImages(dataset, images, range(1, 12), 3)._batches
    assert sorted(index for batch in batches for index in batch) == list(range(1, 12))
    assert sorted(map(len, batches)) == [1, 1, 1, 2, 3, 3]
    assert all(len({tuple(sizes[index]) for index in batch}) == 1 for batch in batches)


def test_images_smaller_than_a_crop_are_counted(table: ImageTable) -> None:
    large = replace(CROPS, crop_size=(64, 64))
    images = Images(table, large)
    assert images.unfit.tolist() == [True, True, True, True, False]
    with pytest.warns(InputWarning, match="4 of 5 images are smaller than --crop-size"):
        note_unfit(table.source, images)
    assert images.shapes.tolist() == [[64, 64], [64, 64], [80, 64], [64, 64], [90, 90]]
    assert all(images[i].shape[1:] == tuple(images.shapes[i]) for i in range(5))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"crop_size": (16, 64)}, "--crop-size must be from 32 32"),
        ({"test_crops": -1}, "--test-crops must be from 0"),
        ({"view": "fit", "test_crops": 4}, "--test-crops is for --view crops"),
        ({"intensity": (300.0, -100.0)}, "not 300 -100"),
        ({"intensity": ("image", 3.0)}, "not image 3"),
        ({"intensity": ()}, "--intensity must be image, type, or two numbers"),
        ({"intensity": (0.0, float("inf"))}, "--intensity must be"),
    ],
)
def test_options_out_of_range(options: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        replace(CROPS, **options).check()  # type: ignore[arg-type]

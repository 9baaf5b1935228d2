from __future__ import annotations

from pathlib import Path

import pytest
import torch

from finecorr.data.options import ImageOptions, TableOptions
from finecorr.errors import InputError
from finecorr.models.regressor import Architecture, Regressor
from finecorr.trained import bundle


@pytest.fixture
def model() -> bundle.Bundle:
    torch.manual_seed(0)
    regressor = Regressor(Architecture("resnet10-narrow", 3, (32, 48), 2)).eval()
    table = TableOptions(
        Path("/data/table.csv"),
        Path("/data"),
        target_columns=("a (mm)", "b"),
        pixel_size_column="mm",
        length_columns=("a (mm)",),
    )
    return bundle.Bundle(regressor, table, ImageOptions(image_size=(32, 48), rgb=True))


def test_what_is_saved_is_loaded(model: bundle.Bundle, tmp_path: Path) -> None:
    bundle.save(model, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [bundle.FILE]
    loaded = bundle.load(tmp_path)
    assert (loaded.table, loaded.images) == (model.table, model.images)
    image = torch.rand(2, 3, 32, 48)
    assert torch.equal(loaded.regressor(image), model.regressor(image))


def test_damaged_or_foreign_files_are_refused(model: bundle.Bundle, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no trained model"):
        bundle.load(tmp_path)
    bundle.save(model, tmp_path)
    whole = (tmp_path / bundle.FILE).read_bytes()
    (tmp_path / bundle.FILE).write_bytes(whole[:-100])
    with pytest.raises(InputError, match="damaged"):
        bundle.load(tmp_path)
    torch.save({"weights": torch.zeros(2)}, tmp_path / bundle.FILE)
    with pytest.raises(InputError, match="damaged"):
        bundle.load(tmp_path)

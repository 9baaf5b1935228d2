"""A trained model in a program: `finecorr.load`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, overload

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor

from finecorr.data.frames import raise_faults
from finecorr.data.pictures.arrays import is_array, pictures_of
from finecorr.data.table import ImageTable
from finecorr.errors import InputError
from finecorr.models.streaming import Outcome, Row
from finecorr.trained import bundle
from finecorr.trained.bundle import Bundle, Target
from finecorr.trained.inputs import (
    PixelSize,
    check_features,
    is_image,
    note_views,
    of_paths,
    overridden,
    sized,
    unlabelled,
)
from finecorr.trained.options import PredictionOptions
from finecorr.trained.predictor import Predictor, rows_of
from finecorr.trained.provenance import Provenance

Files = str | Path | Sequence[str | Path] | pd.DataFrame
InMemory = NDArray[Any] | Tensor | Sequence[NDArray[Any] | Tensor]
"""Pictures: see `finecorr.data.pictures.arrays.pictures_of`."""
Images = Files | InMemory
"""What `Model.predict` takes."""
_NONE = "no image to predict for"


class Model:
    """A trained model, as `finecorr.load` gives it.

    What is known of several whose predictions are averaged is known of the first.
    """

    def __init__(self, *bundles: Bundle) -> None:
        self.bundles = bundles
        self.bundle = bundles[0]
        """Its network and all that is known of it."""

    def __repr__(self) -> str:
        what = ", ".join(
            f"{target.name!r}, in {target.unit}" if target.unit else repr(target.name)
            for target in self.targets
        )
        more = f", and {len(self.bundles) - 1} more" if len(self.bundles) > 1 else ""
        return f"Model of {what}: {self.network} on {self.preprocessing}{more}"

    @property
    def targets(self) -> tuple[Target, ...]:
        """What it predicts: names and units, and how they are learnt."""
        return self.bundle.targets

    @property
    def network(self) -> str:
        """Its name."""
        return self.bundle.regressor.architecture.network

    @property
    def preprocessing(self) -> str:
        """What the network sees of an image or a row, in words; `bundle.images` has the options."""
        images, sees = self.bundle.images, self.bundle.sees
        if self.bundle.encoding is not None:
            return sees
        return f"{sees}, intensity {' '.join(map(str, images.intensity))}"

    @property
    def provenance(self) -> Provenance:
        """How it was trained, on what, and with which versions; its licence and note."""
        return self.bundle.provenance

    @property
    def test_results(self) -> pd.DataFrame:
        """`target`, `metric`, `value`, and the limits `low` and `high` of its 95 % interval, on the
        test split of its training."""
        columns = ["target", "metric", "value", "low", "high"]
        rows = [asdict(measure) for measure in self.provenance.test]
        frame = pd.DataFrame(rows, columns=columns)
        return frame.astype(dict.fromkeys(columns[2:], float))

    @overload
    def predict(
        self,
        images: Files,
        *,
        pixel_size: PixelSize | None = None,
        interval: float | None = None,
        tta: int = 1,
        image_root: str | Path | None = None,
    ) -> pd.DataFrame: ...

    @overload
    def predict(
        self,
        images: InMemory,
        *,
        pixel_size: PixelSize | None = None,
        interval: float | None = None,
        tta: int = 1,
    ) -> pd.DataFrame | NDArray[np.float64]: ...

    def predict(
        self,
        images: Images,
        *,
        pixel_size: PixelSize | None = None,
        interval: float | None = None,
        tta: int = 1,
        image_root: str | Path | None = None,
    ) -> pd.DataFrame | NDArray[np.float64]:
        """Predictions in the unit of the targets.

        Args:
            images: the path of an image, of a folder of images or of a table; several paths of
                images; a DataFrame with the columns of the training's table, of which the targets
                are not needed; or pictures in memory: see
                `finecorr.data.pictures.arrays.pictures_of`.
            pixel_size: the side of a pixel of the images, in the unit of the targets, or one for
                each; "file" for what their files say, in mm. For a model of lengths.
            interval: also `low` and `high`, which hold the truth with this probability.
            tta: versions of each image that are predicted, and averaged.
            image_root: the folder that paths in a DataFrame start from (default: this one).

        Returns:
            Of paths and tables a DataFrame: `image` (and `frame`; or `row` for a model of feature
            columns), and the columns of
            `finecorr.trained.predictor.Predictor.frames`; an image that cannot be read has the
            reason in `fault`. Of pictures in memory an array `(n, targets)`, or with `interval` or
            `tta` a DataFrame of these columns.

        Raises:
            InputError: the table, an option or a picture in memory is at fault.
        """
        options = PredictionOptions(interval=interval, tta=tta)
        predictor = Predictor(self.bundles, options)
        rows, table = self._rows(images, pixel_size, image_root)
        parts = list(predictor.frames(rows))
        if not parts:
            raise InputError(_NONE)
        found = pd.concat([frame for frame, _ in parts], ignore_index=True)
        outcomes = [outcome for _, part in parts for outcome in part]
        if table is None:
            _check_faults(outcomes)
            found = found.drop(columns="fault")
            if interval is None and tta == 1:
                return found[list(predictor.targets)].to_numpy()
            return found
        differing = [row for row, outcome in enumerate(outcomes) if outcome.differs]
        unfit = sum(outcome.unfit for outcome in outcomes)
        note_views(table, unfit, differing, volumes=self.bundle.images.volumes)
        found.insert(0, *table.known_by)
        if table.frames is not None:
            found.insert(1, "frame", np.maximum(table.frames, 0) + 1)
        if isinstance(images, pd.DataFrame):
            found.index = images.index
        return found

    def features(
        self, images: Images, *, image_root: str | Path | None = None
    ) -> NDArray[np.float64]:
        """`(n, d)`: the features that the network has of each image, or row of a table (of several
        images, the means).

        Raises:
            InputError: an image cannot be read.
        """
        predictor = Predictor([self.bundle], PredictionOptions())
        bundle = self.bundle
        size = 1.0 if any(bundle.table.lengths) and not bundle.images.volumes else None
        rows, _ = self._rows(images, size, image_root)
        outcomes = list(predictor.outcomes(rows))
        if not outcomes:
            raise InputError(_NONE)
        _check_faults(outcomes)
        return np.stack([outcome.features for outcome in outcomes])

    def _rows(
        self, images: Images, pixel_size: PixelSize | None, root: str | Path | None
    ) -> tuple[Iterable[Row], ImageTable | None]:
        """Of pictures in memory there is no table."""
        columns = self.bundle.table
        _check_kind(images)
        if self.bundle.encoding is not None and not isinstance(images, str | Path | pd.DataFrame):
            raise InputError(
                "the model predicts from columns of a table: give a DataFrame, or its path"
            )
        volumes = self.bundle.images.volumes
        if is_array(images) and volumes:
            raise InputError(
                "arrays do not say where their axes point, and how large their voxels are: give "
                "the paths of NIfTI files, or of folders of DICOM slices"
            )
        if is_array(images):
            try:
                pictures = pictures_of(images)
            except ValueError as error:
                raise InputError(str(error)) from error
            count = len(pictures)
            table = sized(of_paths([Path()] * count, columns), columns, pixel_size)
            rows = zip(pictures, rows_of(table), strict=True)
            return [replace(row, pictures=(picture,)) for picture, row in rows], None
        if isinstance(images, list | tuple):
            table = of_paths([Path(path) for path in images], columns)
        elif (
            isinstance(images, str | Path)
            and self.bundle.encoding is None
            and is_image(Path(images))
        ):
            table = of_paths([Path(images)], columns)
        else:
            frame = images if isinstance(images, pd.DataFrame) else None
            given: dict[str, Any] = {
                "table": Path(images) if isinstance(images, str | Path) else Path()
            }
            if (frame is not None and self.bundle.encoding is None) or root is not None:
                given["image_root"] = Path(root or ".")
            chosen = overridden(columns, given)
            table = unlabelled(chosen, sizes=pixel_size is None, frame=frame, volumes=volumes)
            check_features(table, self.bundle.encoding)
        table = sized(table, columns, pixel_size, volumes=volumes)
        return rows_of(table), table


def load(path: str | Path, *others: str | Path) -> Model:
    """A trained model, ready to predict.

    Args:
        path: the folder of a run, or its `model.safetensors`; nothing in it can execute code.
        others: further models of the same targets, whose predictions are averaged with its own; how
            far they differ is in the columns `sd`.

    Raises:
        InputError: it is none, or damaged, or needs a network that is not installed.
    """
    return Model(*(bundle.load(Path(one)) for one in (path, *others)))


def _check_kind(images: Any) -> None:
    several = images if isinstance(images, list | tuple) and not is_array(images) else ()
    strange = [one for one in several if not isinstance(one, str | Path)]
    if not is_array(images) and not isinstance(images, str | Path | list | tuple | pd.DataFrame):
        strange = [images]
    if strange:
        where = "in a list" if several else ""
        raise InputError(
            "images are a path, a list of paths, a DataFrame, or arrays or tensors, not "
            f"{type(strange[0]).__name__} {where}".rstrip()
        )


def _check_faults(outcomes: Sequence[Outcome]) -> None:
    faults = [f"image {i}: {found.fault}" for i, found in enumerate(outcomes) if found.fault]
    raise_faults(Path("the images"), faults, "these images")

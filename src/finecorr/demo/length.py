"""Mean squared error and the fine-grained correlation loss, on head circumferences of which one in
ten is wrong."""

from __future__ import annotations

from pathlib import Path

from finecorr.data.image_options import AugmentationOptions, ImageOptions
from finecorr.data.options import TableOptions
from finecorr.data.phantom import write_phantoms
from finecorr.demo.trial import Contender, Trial, claim, say
from finecorr.models.options import TrainingOptions
from finecorr.run_options import RunOptions

LOSSES = ("mse", "fine_grained")
SUBJECTS = 600
EPOCHS = 40
WRONG_LABELS = 0.1
IMAGES = ImageOptions(image_size=(68, 96))
TARGET = "head circumference (mm)"


def run(out: Path, overwrite: bool) -> str:
    """The demo in a folder: what it found, as text."""
    images = out / "phantoms"
    claim(out, images, overwrite)
    say(f"Drawing ultrasound-like images of {SUBJECTS} heads into {images}")
    table = TableOptions(
        write_phantoms(images, SUBJECTS),
        image_root=images / "images",
        image_columns=("filename",),
        target_columns=(TARGET,),
        group_pattern=r"^(\d+)_",
        pixel_size_column="pixel size(mm)",
    )
    say(f"{WRONG_LABELS:.0%} of the training labels are replaced by those of others")
    contenders = [
        Contender(
            loss,
            IMAGES,
            AugmentationOptions(),
            TrainingOptions(
                loss=loss, network="resnet10-narrow", epochs=EPOCHS, learning_rate=2e-3
            ),
            RunOptions(out=out / loss, corrupt_labels=WRONG_LABELS, overwrite=overwrite),
        )
        for loss in LOSSES
    ]
    return Trial(
        contenders,
        table,
        IMAGES,
        "Two losses on synthetic heads, with wrong labels among the training data",
        {"Wrong labels on purpose": f"{WRONG_LABELS:.0%} of the training rows"},
        "images with true labels (MAE in mm)",
    ).run(out)

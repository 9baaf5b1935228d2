"""The whole image, small and stretched to full contrast, and crops of it as it is: what each view
shows of how badly an image was degraded."""

from __future__ import annotations

from pathlib import Path

from finecorr.data.degradation.degrading import TABLE, write_degradations
from finecorr.data.degradation.options import MEANING, DegradationOptions
from finecorr.data.image_options import AugmentationOptions, ImageOptions
from finecorr.data.options import TableOptions
from finecorr.data.phantom import write_phantoms
from finecorr.demo.trial import Contender, Trial, claim, say
from finecorr.models.options import TrainingOptions
from finecorr.report.verdict import Kind
from finecorr.run_options import RunOptions

SUBJECTS = 80
SIZE = (272, 384)
VERSIONS = 4
KINDS = ("blur", "speckle", "gain", "compression")
"""Without shadow and attenuation, which are larger than a crop and seen in both views."""
AT_ONCE = 2
EPOCHS = 18
SPLIT = (0.8, 0.0, 0.2)
TARGET = "severity"
FIT = ImageOptions(image_size=(68, 96))
CROPS = ImageOptions(view="crops", crop_size=(96, 96), intensity=("type",))
VIEWS = {
    # What --task score does to images, and what --task quality does to them.
    "fit, image": (FIT, AugmentationOptions(zoom=0.0)),
    "crops, type": (
        CROPS,
        AugmentationOptions(rotation=0.0, shift=0.0, zoom=0.0, gain=0.0, gamma=0.0),
    ),
}


def run(out: Path, overwrite: bool) -> str:
    """The demo in a folder: what it found, as text."""
    images = out / "degraded"
    claim(out, images, overwrite)
    height, width = SIZE
    say(f"Drawing ultrasound-like images of {SUBJECTS} heads, and degrading them, into {images}")
    heads, versions = images / "heads", images / "versions"
    write_phantoms(heads, SUBJECTS, height=height, width=width)
    made = DegradationOptions(versions, r"^(\d+)_", kinds=KINDS, versions=VERSIONS, at_once=AT_ONCE)
    count = len(write_degradations(heads / "images", made))
    table = TableOptions(versions / TABLE, target_columns=(TARGET,), group_column="group")
    say(
        f"{count} images of {height} x {width} pixels, most of them degraded in known steps "
        f"({', '.join(KINDS)})"
    )
    contenders = [
        Contender(
            name,
            view,
            augmentation,
            TrainingOptions(
                network="resnet10-narrow", epochs=EPOCHS, batch_size=32, learning_rate=2e-3
            ),
            RunOptions(
                out=out / view.view, split_fractions=SPLIT, mapped=True, overwrite=overwrite
            ),
        )
        for name, (view, augmentation) in VIEWS.items()
    ]
    say(MEANING)
    return Trial(
        contenders,
        table,
        CROPS,
        "How badly was an image degraded? Two views of synthetic heads. (This is no human opinion "
        "of quality.)",
        {
            "Severity": f"{MEANING} Degradations: {', '.join(KINDS)}; up to "
            f"{AT_ONCE} at once, in {made.steps} steps",
            "fit, image": f"{FIT.description}; the darkest and the brightest value of each image "
            "are black and white; turned, shifted and brightened for training",
            "crops, type": f"{CROPS.description}, grey as in the file; mirrored for training",
            "Both": f"the same network, loss, seed and {EPOCHS} epochs",
        },
        "images of other heads (MAE in severity)",
        Kind("view", "views"),
    ).run(out)

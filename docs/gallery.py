"""The pages of the gallery: made by the program, on a few synthetic images, and put into the site.

    python docs/gallery.py FOLDER    # two to three minutes on two cores

MkDocs calls `on_files`, which takes what is there, and says of what is not how it is made; and
`on_post_build`, which fails where a public name has no documentation.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import zlib
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

FOLDER = Path(__file__).resolve().parents[1] / "gallery"
PAGES = ("comparison", "quality", "check")
_MISSING = "<!doctype html><title>finecorr</title><p>`make docs` makes this page."
_PUBLIC = (
    *("finecorr", "finecorr.losses", "finecorr.metrics"),
    *("finecorr.functional", "finecorr.functional.baselines"),
)


def make(folder: Path) -> None:
    """Writes the pages into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        made = {
            "comparison": _comparison(work),
            "quality": _quality(work),
            "check": _check(work),
        }
        for page in PAGES:
            shutil.copyfile(made[page], folder / f"{page}.html")


def _comparison(work: Path) -> Path:
    table = _phantoms(work / "comparison", subjects=120)
    out = work / "compared"
    flags = ["--losses", "mse,fine_grained", "--corrupt-labels", "0.1", "--workers", "2"]
    flags += ["--folds", "2", "--seeds", "1", "--epochs", "25", "--learning-rate", "2e-3"]
    flags += ["--image-size", "48", "68", "--network", "resnet10-narrow", "--batch-size", "32"]
    _finecorr("compare", *table, *flags, "--out", out)
    return out / "report.html"


def _quality(work: Path) -> Path:
    _finecorr("demo", "--task", "quality", "--out", work / "demo")
    return work / "demo" / "report.html"


def _check(work: Path) -> Path:
    """With a fault of each kind that is met most often."""
    import pandas as pd
    from PIL import Image, ImageEnhance

    table = _phantoms(work / "faulty", subjects=60)
    rows = pd.read_csv(table[0])
    images = work / "faulty" / "images"
    names = list(rows["filename"])

    (images / names[5]).write_bytes((images / names[5]).read_bytes()[:900])  # cut off
    Image.new("L", (192, 136), 12).save(images / names[11])  # of one value
    bright = ImageEnhance.Brightness(Image.open(images / names[17])).enhance(6)
    bright.save(images / names[17])  # saturated
    with Image.open(images / names[23]) as head:
        head.resize((150, 106)).save(images / names[31])  # the same picture, of another subject
    length = rows.columns[2]
    rows.loc[40, length] /= 10  # in centimetres
    rows.loc[47, length] = 999  # a code for a missing label
    rows.to_csv(table[0], index=False)
    _finecorr("check", *table, "--out", work / "checked", refused=True)
    return work / "checked" / "check.html"


def _phantoms(folder: Path, subjects: int) -> list[str]:
    """Their table, and the flags with which it is read."""
    from finecorr.data.phantom import write_phantoms

    table = write_phantoms(folder, subjects)
    flags = {
        "--image-root": str(folder / "images"),
        "--image-columns": "filename",
        "--target-columns": "head circumference (mm)",
        "--group-pattern": r"^(\d+)_",
        "--pixel-size-column": "pixel size(mm)",
    }
    return [str(table), *(word for flag in flags.items() for word in flag)]


def _finecorr(*arguments: str | Path, refused: bool = False) -> None:
    """The command; a check of what a training would refuse ends with 2."""
    command = [sys.executable, "-m", "finecorr", *map(str, arguments)]
    code = subprocess.run(command).returncode
    if code != (2 if refused else 0):
        raise SystemExit(f"{' '.join(command)} ended with {code}")


def on_files(files: Any, *, config: Any) -> Any:
    """Adds the pages, which are in no repository."""
    from mkdocs.structure.files import File

    for page in PAGES:
        made, uri = FOLDER / f"{page}.html", f"gallery/{page}.html"
        if made.exists():
            files.append(File.generated(config, uri, abs_src_path=str(made)))
        else:
            files.append(File.generated(config, uri, content=_MISSING))
    return files


def on_post_build(*, config: Any) -> None:
    """Compares what is public with the inventory of what is documented."""
    from mkdocs.exceptions import PluginError

    inventory = Path(config["site_dir"], "objects.inv").read_bytes()
    compressed = inventory.split(b"\n", 4)[4]
    documented = {line.split()[0] for line in zlib.decompress(compressed).decode().splitlines()}
    missing = []
    for room in map(import_module, _PUBLIC):
        for name in room.__all__:
            value = getattr(room, name)
            homes = {room.__name__, getattr(value, "__module__", room.__name__)}
            if isinstance(value, ModuleType) or {f"{home}.{name}" for home in homes} & documented:
                continue
            missing.append(f"{room.__name__}.{name}")
    if missing:
        raise PluginError(f"public, and on no page: {', '.join(missing)}")


if __name__ == "__main__":
    make(Path(sys.argv[1]))

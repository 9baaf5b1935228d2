"""Data sets of reference images, each distorted in several ways and degrees."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from finecorr.data.frames import Frame, raise_faults
from finecorr.data.layouts import matlab
from finecorr.data.layouts.published import (
    Folder,
    Layout,
    frame_of,
    numbers_of,
    read_columns,
    texts,
)
from finecorr.errors import InputError, spelled

_TID2013 = (
    "additive Gaussian noise",
    "additive noise in color components",
    "spatially correlated noise",
    "masked noise",
    "high frequency noise",
    "impulse noise",
    "quantization noise",
    "Gaussian blur",
    "image denoising",
    "JPEG compression",
    "JPEG2000 compression",
    "JPEG transmission errors",
    "JPEG2000 transmission errors",
    "non eccentricity pattern noise",
    "local block-wise distortions",
    "mean shift",
    "contrast change",
    "change of color saturation",
    "multiplicative Gaussian noise",
    "comfort noise",
    "lossy compression of noisy images",
    "image color quantization with dither",
    "chromatic aberrations",
    "sparse sampling and reconstruction",
)
_KADID10K = (
    "Gaussian blur",
    "lens blur",
    "motion blur",
    "color diffusion",
    "color shift",
    "color quantization",
    "color saturation 1",
    "color saturation 2",
    "JPEG2000",
    "JPEG",
    "white noise",
    "white noise in color component",
    "impulse noise",
    "multiplicative noise",
    "denoise",
    "brighten",
    "darken",
    "mean shift",
    "jitter",
    "non-eccentricity patch",
    "pixelate",
    "quantization",
    "color block",
    "high sharpen",
    "contrast change",
)
_CSIQ = {
    "noise": "AWGN",
    "blur": "BLUR",
    "contrast": "contrast",
    "fnoise": "fnoise",
    "jpeg": "JPEG",
    "jpeg 2000": "jpeg2000",
}
"""Kinds of distortion as the scores spell them, and as the names of the images do."""
_LIVE = {"jp2k": 227, "jpeg": 233, "wn": 174, "gblur": 174, "fastfading": 174}
"""How many images each folder has, in the order of the scores."""


def _tid2013(folder: Folder) -> Frame:
    """`image`, `MOS`, `MOS_se`, `reference`, `distortion`, `level`.

    A mean of 35 whole numbers cannot have a standard deviation as small as those of mos_std.txt,
    which are the standard errors of the means.
    """
    path = folder.file("mos_with_names.txt")
    lines = _lines(path)
    errors = _lines(folder.file("mos_std.txt"))
    if len(errors) != len(lines):
        raise InputError(
            f"{path}: {len(lines)} lines, and mos_std.txt has {len(errors)}: these files do not "
            "belong together"
        )
    faults = [
        f"line {number}: {spelled(line)!r} is not a score and a name"
        for number, line in lines.items()
        if len(line.split()) != 2
    ]
    raise_faults(path, faults)
    scores, names = zip(*(line.split() for line in lines.values()), strict=True)
    return frame_of(
        {
            "image": [folder.spelled(f"distorted_images/{name}") for name in names],
            "MOS": scores,
            "MOS_se": list(errors.values()),
            **_parts(path, dict(zip(lines, names, strict=True)), _TID2013),
        },
        np.array(list(lines), dtype=np.int64),
    )


def _lines(path: Path) -> dict[int, str]:
    """The lines of a text with something in them, by their numbers."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeError as error:
        raise InputError(f"{path}: it is no text: {error}") from error
    filled = {number: line for number, line in enumerate(lines, 1) if line.strip()}
    if not filled:
        raise InputError(f"{path}: the table has no rows")
    return filled


def _kadid10k(folder: Folder) -> Frame:
    """`image`, `MOS`, `MOS_sd`, `reference`, `distortion`, `level`.

    What the file calls dmos is high where the quality is, and what it calls var is the standard
    deviation of the opinions.
    """
    path = folder.file("dmos.csv")
    frame = read_columns(path, ["dist_img", "dmos", "var"])
    names = frame.cells["dist_img"]
    return frame_of(
        {
            "image": [folder.spelled(f"images/{name}") for name in names],
            "MOS": frame.cells["dmos"],
            "MOS_sd": frame.cells["var"],
            **_parts(path, dict(zip(frame.rows.tolist(), names, strict=True)), _KADID10K),
        },
        frame.rows,
    )


def _parts(path: Path, names: dict[int, str], distortions: tuple[str, ...]) -> dict[str, list[str]]:
    """`reference`, `distortion` and `level`, as names such as i01_24_5.bmp say; by their rows."""
    found = {
        row: re.fullmatch(r"(i[0-9]{1,4})_([0-9]{1,4})_([0-9]{1,4})\.\w+", name.strip(), re.I)
        for row, name in names.items()
    }
    faults = [
        f"row {row}: {spelled(names[row])!r} does not name a reference, one of "
        f"{len(distortions)} distortions and a level, as I01_01_1.bmp does"
        for row, match in found.items()
        if match is None or not 1 <= int(match[2]) <= len(distortions)
    ]
    raise_faults(path, faults)
    matches = [match for match in found.values() if match is not None]
    return {
        "reference": [match[1].upper() for match in matches],
        "distortion": [distortions[int(match[2]) - 1] for match in matches],
        "level": [str(int(match[3])) for match in matches],
    }


def _csiq(folder: Folder) -> Frame:
    """`image`, `1 - DMOS`, `DMOS_sd`, `reference`, `distortion`, `level`."""
    path = folder.file("csiq.DMOS.xlsx")
    frame = read_columns(
        path, ["image", "dst_type", "dst_lev", "dmos_std", "dmos"], sheet="all_by_image"
    )
    kinds = frame.cells["dst_type"].str.strip().str.lower()
    faults = [
        f"row {row}: column 'dst_type' is {spelled(kind)!r}, not one of {', '.join(_CSIQ)}"
        for row, kind in zip(frame.rows, kinds, strict=True)
        if kind not in _CSIQ
    ]
    raise_faults(path, faults)
    distortions = [_CSIQ[kind] for kind in kinds]
    references, levels = frame.cells["image"], frame.cells["dst_lev"]
    return frame_of(
        {
            "image": [
                folder.spelled(f"dst_imgs/{distortion}/{reference}.{distortion}.{level}.png")
                for reference, distortion, level in zip(
                    references, distortions, levels, strict=True
                )
            ],
            "1 - DMOS": texts(1 - numbers_of(path, frame, "dmos")),
            "DMOS_sd": frame.cells["dmos_std"],
            "reference": references,
            "distortion": distortions,
            "level": levels,
        },
        frame.rows,
    )


def _live(folder: Folder) -> Frame:
    """`image`, `100 - DMOS`, `DMOS_sd`, `reference`, `distortion`, without copies of references.

    Where the scores before their realignment are there, too, `100 - DMOS (dmos.mat)`.
    """
    path = folder.file("dmos_realigned.mat")
    scores, deviations, copies = (
        matlab.read_numbers(path, name) for name in ("dmos_new", "dmos_std", "orgs")
    )
    references = matlab.read_names(folder.file("refnames_all.mat"), "refnames_all")
    images = [
        (kind, f"{kind}/img{number}.bmp")
        for kind, count in _LIVE.items()
        for number in range(1, count + 1)
    ]
    vectors = {"dmos_new": scores, "dmos_std": deviations, "orgs": copies}
    first = folder.file("dmos.mat")
    if first.exists():
        vectors["dmos"] = matlab.read_numbers(first, "dmos")
        if not np.array_equal(matlab.read_numbers(first, "orgs"), copies):
            raise InputError(f"{path}: its orgs are not those of dmos.mat")
    counts = {name: len(values) for name, values in vectors.items()}
    for name, count in {**counts, "refnames_all": len(references)}.items():
        if count != len(images):
            raise InputError(
                f"{folder.path}: {name} has {count} entries, and release 2 has {len(images)} images"
            )
    kept = np.flatnonzero(copies == 0)
    columns = {
        "image": [folder.spelled(images[i][1]) for i in kept],
        "100 - DMOS": texts(100 - scores[kept]),
        "DMOS_sd": texts(deviations[kept]),
        "reference": [references[i] for i in kept],
        "distortion": [images[i][0] for i in kept],
    }
    if "dmos" in vectors:
        columns["100 - DMOS (dmos.mat)"] = texts(100 - vectors["dmos"][kept])
    return frame_of(columns, kept + 1)


LAYOUTS = {
    "tid2013": Layout(
        "TID2013",
        (("mos_with_names.txt",), ("mos_std.txt",), ("distorted_images",)),
        "https://www.ponomarenko.info/tid2013.htm",
        _tid2013,
    ),
    "kadid10k": Layout(
        "KADID-10k",
        (("dmos.csv",), ("images",)),
        "https://database.mmsp-kn.de/kadid-10k-database.html",
        _kadid10k,
    ),
    "csiq": Layout(
        "CSIQ",
        (("csiq.DMOS.xlsx",), ("dst_imgs",)),
        "https://s2.smu.edu/~eclarson/csiq.html",
        _csiq,
    ),
    "live": Layout(
        "LIVE Image Quality Assessment Database, release 2",
        (("dmos_realigned.mat",), ("refnames_all.mat",), *((kind,) for kind in _LIVE)),
        "https://live.ece.utexas.edu/research/Quality/subjective.htm, and its realigned scores "
        "under 'Update to Release 2' there",
        _live,
    ),
}

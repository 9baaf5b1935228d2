"""Data sets of photographs as people take them, without references."""

from __future__ import annotations

import warnings

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
from finecorr.errors import InputError, InputWarning

_KONIQ_SETS = "koniq10k_distributions_sets.csv"
_KONIQ_SCORES = "koniq10k_scores_and_distributions.csv"
_KONIQ_IMAGES = ("1024x768", "512x384")
_KONIQ_TOLERANCE = 0.01
"""By which scores from 0 to 100 may differ in the two files, which round differently."""
_LIVEC = ("AllImages_release", "AllMOS_release", "AllStdDev_release")
_SPAQ_SCORES = "Annotations/MOS and Image attribute scores.xlsx"
_SPAQ_ATTRIBUTES = ("Brightness", "Colorfulness", "Contrast", "Noisiness", "Sharpness")
_BIQ2021 = {"train": "Train (Images and MOS).csv", "test": "Test (Images and MOS).csv"}


def _koniq10k(folder: Folder) -> Frame:
    """`image`, `MOS_zscore`, `MOS`, `MOS_sd`, `observers`, `split`.

    The column MOS of the file with the official split is what the other file calls MOS_zscore.
    MOS, from 1 to 5, is the mean of the opinions c1 to c5, and SD is in its unit.
    """
    path = folder.file(_KONIQ_SETS)
    opinions = [f"c{opinion}" for opinion in range(1, 6)]
    frame = read_columns(path, ["image_name", *opinions, "c_total", "MOS", "SD", "set"])
    shares = np.stack([numbers_of(path, frame, opinion) for opinion in opinions])
    raise_faults(
        path,
        [
            f"row {row}: {', '.join(opinions)} must count people: none below 0, and not all 0"
            for row, of_row in zip(frame.rows, shares.T, strict=True)
            if not (of_row >= 0).all() or of_row.sum() <= 0
        ],
    )
    names = frame.cells["image_name"].to_list()
    if folder.file(_KONIQ_SCORES).exists():
        _check_koniq10k(folder, dict(zip(names, numbers_of(path, frame, "MOS"), strict=True)))
    sizes = [size for size in _KONIQ_IMAGES if folder.file(size).exists()]
    if len(sizes) > 1:
        warnings.warn(
            f"{folder.path}: of the images in {' and '.join(sizes)}, those in {sizes[0]} are read",
            InputWarning,
            stacklevel=2,
        )
    return frame_of(
        {
            "image": [folder.spelled(f"{sizes[0]}/{name}") for name in names],
            "MOS_zscore": frame.cells["MOS"],
            "MOS": texts(np.arange(1, 6) @ shares / shares.sum(axis=0)),
            "MOS_sd": frame.cells["SD"],
            "observers": frame.cells["c_total"],
            "split": frame.cells["set"].replace("training", "train"),
        },
        frame.rows,
    )


def _check_koniq10k(folder: Folder, scores: dict[str, float]) -> None:
    """Raises InputError if the file of scores without a split has others."""
    path = folder.file(_KONIQ_SCORES)
    frame = read_columns(path, ["image_name", "MOS_zscore"])
    values = numbers_of(path, frame, "MOS_zscore")
    others = dict(zip(frame.cells["image_name"], values, strict=True))
    faults = [
        f"{name}: {scores.get(name, 'nothing')} in {_KONIQ_SETS}, and "
        f"{others.get(name, 'nothing')} in {_KONIQ_SCORES}"
        for name in {**scores, **others}
        if not abs(scores.get(name, np.nan) - others.get(name, np.nan)) <= _KONIQ_TOLERANCE
    ]
    raise_faults(folder.path, faults, "one of the two files")


def _livec(folder: Folder) -> Frame:
    """`image`, `MOS`, `MOS_sd`, without the images that the observers were trained with."""
    paths = [folder.file(f"Data/{name}.mat") for name in _LIVEC]
    names = matlab.read_names(paths[0], _LIVEC[0])
    scores = [
        matlab.read_numbers(path, name) for path, name in zip(paths[1:], _LIVEC[1:], strict=True)
    ]
    if {len(values) for values in scores} != {len(names)}:
        raise InputError(
            f"{folder.path}: {_LIVEC[0]} has {len(names)} entries, {_LIVEC[1]} {len(scores[0])} "
            f"and {_LIVEC[2]} {len(scores[1])}: these files do not belong together"
        )
    # t1.bmp to t7.bmp, in a folder of their own.
    kept = np.array([not name.lower().startswith("t") for name in names])
    return frame_of(
        {
            "image": [
                folder.spelled(f"Images/{name}")
                for name, keep in zip(names, kept, strict=True)
                if keep
            ],
            "MOS": texts(scores[0][kept]),
            "MOS_sd": texts(scores[1][kept]),
        },
        np.flatnonzero(kept) + 1,
    )


def _spaq(folder: Folder) -> Frame:
    """`image`, `MOS`, and the attributes, as they are published."""
    scores = ("MOS", *_SPAQ_ATTRIBUTES)
    frame = read_columns(folder.file(_SPAQ_SCORES), ["Image name", *scores])
    images = [folder.spelled(f"TestImage/{name}") for name in frame.cells["Image name"]]
    return frame_of({"image": images, **{s: frame.cells[s] for s in scores}}, frame.rows)


def _biq2021(folder: Folder) -> Frame:
    """`image`, `MOS`, `subset` (of the three sources), `split`; training rows come first."""
    names, scores, splits = [], [], []
    for split, name in _BIQ2021.items():
        cells = read_columns(folder.file(name), ["Image Name", "MOS"]).cells
        names += cells["Image Name"].to_list()
        scores += cells["MOS"].to_list()
        splits += [split] * len(cells)
    return frame_of(
        {
            "image": [folder.spelled(f"Images/{name}") for name in names],
            "MOS": scores,
            "subset": [name[:4] for name in names],
            "split": splits,
        },
        np.arange(1, len(names) + 1),
    )


LAYOUTS = {
    "koniq10k": Layout(
        "KonIQ-10k",
        ((_KONIQ_SETS,), _KONIQ_IMAGES),
        "https://database.mmsp-kn.de/koniq-10k-database.html, and the file with the official "
        "split in metadata/ of https://github.com/subpic/koniq",
        _koniq10k,
    ),
    "livec": Layout(
        "LIVE in the Wild Image Quality Challenge",
        (*((f"Data/{name}.mat",) for name in _LIVEC), ("Images",)),
        "https://live.ece.utexas.edu/research/ChallengeDB/",
        _livec,
    ),
    "spaq": Layout(
        "SPAQ",
        ((_SPAQ_SCORES,), ("TestImage",)),
        "https://github.com/h4nwei/SPAQ",
        _spaq,
    ),
    "biq2021": Layout(
        "BIQ2021",
        (*((name,) for name in _BIQ2021.values()), ("Images",)),
        "https://github.com/nisarahmedrana/BIQ2021",
        _biq2021,
    ),
}

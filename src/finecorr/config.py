"""What a run is called with, as its folder has it."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import yaml

from finecorr.data.options import TableOptions
from finecorr.errors import InputError
from finecorr.files import replacing
from finecorr.plain import plain

CONFIG = "config.yaml"


def read_config(run: Path) -> dict[str, Any]:
    """What `train` was called with, flat as the flags are; empty where the run does not say it.

    Args:
        run: its folder, or a file in it.

    Raises:
        InputError: the file is damaged.
    """
    path = (run.parent if run.is_file() else run) / CONFIG
    if not path.is_file():
        return {}
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is damaged: {error}") from error
    if not isinstance(config, dict):
        raise InputError(f"{path} is damaged: it names no options")
    return config


def with_table(run: Path, columns: TableOptions) -> TableOptions:
    """The columns of a run's model, with the table and the folder of images that its training had,
    as far as the run's folder says it."""
    config = read_config(run)
    table, root = config.get("table"), config.get("image_root")
    if isinstance(table, str) and columns.feature_columns is not None:
        return replace(columns, table=Path(table))
    if isinstance(table, str) and isinstance(root, str):
        return replace(columns, table=Path(table), image_root=Path(root))
    return columns


def config_of(table: TableOptions, *options: Any) -> dict[str, Any]:
    """All options that decide what a run becomes, flat as the flags are.

    Args:
        table: where the images and their scores are.
        options: the other dataclasses that `finecorr.runs.run.train` takes.
    """
    config: dict[str, Any] = {}
    for part in (table.absolute(), *options):
        config.update(asdict(part))
    for name in ("out", "overwrite", "resume"):
        del config[name]
    if config["weights"] not in ("pretrained", "none"):
        config["weights"] = str(Path(config["weights"]).absolute())
    return {name: plain(value) for name, value in config.items()}


def write_config(path: Path, config: dict[str, Any]) -> None:
    """Writes what `finecorr train --config` reads."""
    with replacing(path) as temporary:
        text = yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
        temporary.write_text(text, encoding="utf-8")


def differences(run: Path, config: dict[str, Any]) -> list[str]:
    """The flags in which a run that is in a folder differs from one of that `config_of`."""
    before = read_config(run)
    return [
        f"--{name.replace('_', '-')}"
        for name in config
        if name != "tolerate" and config[name] != before.get(name)
    ]

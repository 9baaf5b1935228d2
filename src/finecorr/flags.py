"""Flags: those of each command, from the options that they are, and back."""

from __future__ import annotations

import re
from argparse import SUPPRESS
from collections.abc import Callable, Collection, Sequence
from dataclasses import MISSING, Field, fields
from pathlib import Path
from types import NoneType
from typing import Any, Literal, NoReturn, get_args, get_origin, get_type_hints

import jsonargparse
from jsonargparse import ActionYesNo, Namespace

from finecorr import demo
from finecorr.checking.options import CheckOptions
from finecorr.comparison.options import ComparisonOptions
from finecorr.data.degradation.options import MEANING, DegradationOptions
from finecorr.data.image_options import AugmentationOptions, ImageOptions
from finecorr.data.options import TableOptions
from finecorr.data.presets import PRESETS
from finecorr.errors import InputError
from finecorr.help import HelpFormatter, listed
from finecorr.models.options import TrainingOptions
from finecorr.run_options import RunOptions
from finecorr.tasks import TASKS
from finecorr.trained.options import Format, PredictionOptions

_OF_TRAININGS = (TableOptions, ImageOptions, AugmentationOptions, TrainingOptions)
TRAIN_OPTIONS = (*_OF_TRAININGS, RunOptions)
CHECK_OPTIONS = (*_OF_TRAININGS, CheckOptions)
COMPARE_OPTIONS = (*_OF_TRAININGS, ComparisonOptions)
# The losses have flags of their own.
_NOT_COMPARED = {(TrainingOptions, "loss"), (TrainingOptions, "loss_options")}
CROSS_VALIDATION = ("folds", "seeds", "workers", "executor")
"""The options of a comparison that `suspects` has, too."""
_EVALUATED = ("within", "score_columns", "sd_column", "observers")
"""The options of a table that say how predictions are evaluated."""
_OF_MODEL = ("feature_columns", "category_columns")
# Splits and weights are for training only, and the table is not a flag.
_OVERRIDABLE = [
    option
    for option in fields(TableOptions)
    if option.name not in ("table", "units", "split_column", "weight_column", *_OF_MODEL)
]
_INHERITED = (
    "Flags that are not given are those of the training, but for --image-root where there is "
    "another table: it starts from that table's folder."
)
_PRESETS = listed(
    "--preset NAME DIR stands for the flags of a published data set that is in the folder DIR",
    [(name, preset.explanation) for name, preset in PRESETS.items()],
)
_TASKS = listed(
    "--task NAME stands for these flags, which others override",
    [(name, f"{task.meaning}: {' '.join(task.flags())}") for name, task in TASKS.items()],
)
_TITLES: dict[type, str] = {
    TableOptions: "the table",
    ImageOptions: "what the network sees of an image",
    AugmentationOptions: "how training images vary; 0 is none",
    TrainingOptions: "the training",
    RunOptions: "the splits and the run",
    CheckOptions: "the splits and the check",
    ComparisonOptions: "the comparison",
    PredictionOptions: "the predictions",
}


class ArgumentParser(jsonargparse.ArgumentParser):
    """With mistakes in a line, and a short --help."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, formatter_class=HelpFormatter, **settings)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        command = self.prog.replace(" [options]", "")
        said = re.sub(r'Parser key "([\w.]+)"([^:]*):\s*', _named, message.strip())
        for kind, meaning in (("int", "whole number"), ("float", "number"), ("str", "text")):
            said = said.replace(f"a <class '{kind}'>", f"a {meaning}")
        raise InputError(f"{said}\n({command} --help lists what there is)") from ex


def _named(key: re.Match[str]) -> str:
    return f"--{key[1].replace('_', '-')}{key[2]}: "


def _of_trainings(
    usage: str,
    description: str,
    kinds: Sequence[type],
    *,
    without: Collection[tuple[type, str]] = (),
    config: str = "YAML file of flags, as in a run's folder",
) -> ArgumentParser:
    """With the flags of these options, but for some, after `--config` and `--task`."""
    parser = ArgumentParser(usage=usage, description=description, epilog=f"{_TASKS}\n\n{_PRESETS}")
    parser.add_argument("--config", action="config", help=config)
    # For --help: it is replaced before the flags are read.
    parser.add_argument(
        "--task", type=str, default=SUPPRESS, help="flags that go together: see below"
    )
    for kind in kinds:
        _add_all(parser, kind, [o for o in fields(kind) if (kind, o.name) not in without])
    return parser


def _add_all(parser: ArgumentParser, kind: type, options: Sequence[Field[Any]]) -> None:
    """The flags of some options, under their title; the table is the positional argument."""
    if not options:
        return
    group = parser.add_argument_group(_TITLES[kind])
    for option in options:
        _add(parser if option.name == "table" else group, kind, option)


def _train() -> ArgumentParser:
    return _of_trainings(
        "finecorr train TABLE --target-columns NAME ... --out FOLDER [flags]",
        "Train a model on a table and evaluate it.",
        TRAIN_OPTIONS,
    )


def _check() -> ArgumentParser:
    return _of_trainings(
        "finecorr check TABLE --target-columns NAME ... [flags]",
        "Look at a table and its images before a training, and change nothing. The flags are those "
        "of train, so that its command can be checked word for word.",
        (*CHECK_OPTIONS, RunOptions),
        without={(RunOptions, option.name) for option in fields(CheckOptions)},
    )


def _evaluate() -> ArgumentParser:
    parser = ArgumentParser(
        usage="finecorr evaluate RUN [TABLE ...] --out FOLDER [flags]",
        description="Evaluate a model on the rows of a table that its training has not seen, or of "
        "several tables, side by side; --preset may be given several times, too. "
        f"{_INHERITED} Another table or target does not inherit --score-columns, --sd-column and "
        "--observers, nor another table --within.",
        epilog=_PRESETS,
    )
    parser.add_argument("run", type=str, help="folder of a trained run")
    _add_overrides(
        parser, "tables of images and scores (default: the training's)", _OVERRIDABLE, "*"
    )
    parser.add_argument("--out", type=str, required=True, help="folder for the evaluation")
    _add_switch(parser, "all-rows", "also rows of subjects that training has seen")
    mapped = "also PLCC and RMSE after the logistic mapping (default: as the training)"
    _add_switch(parser, "mapped", mapped, default=None)
    asked = [option for option in fields(PredictionOptions) if option.name != "pixel_size"]
    _add_all(parser, PredictionOptions, asked)
    _add_ensemble(parser)
    _add_switch(parser, "overwrite", "replace the evaluation that is in the folder")
    return parser


def _predict() -> ArgumentParser:
    parser = ArgumentParser(
        usage="finecorr predict RUN [TABLE | FOLDER | IMAGE] --out FILE [flags]",
        description=f"Predict for every row of a table or image of a folder. {_INHERITED}",
        epilog=_PRESETS,
    )
    parser.add_argument("run", type=str, help="folder of a trained run, or its model's file")
    _add_overrides(
        parser,
        "table, folder of images, or image (default: the training's table)",
        [option for option in _OVERRIDABLE if option.name not in _EVALUATED],
    )
    parser.add_argument("--out", type=str, required=True, help="CSV file for the predictions")
    _add_all(parser, PredictionOptions, fields(PredictionOptions))
    _add_ensemble(parser)
    _add_switch(parser, "overwrite", "replace the file")
    return parser


def _compare() -> ArgumentParser:
    return _of_trainings(
        "finecorr compare TABLE --target-columns NAME ... --out FOLDER [flags]",
        "Train several losses on the same splits of a table and compare them on the rows that each "
        "training has not seen. The same command goes on where it stopped.",
        COMPARE_OPTIONS,
        without=_NOT_COMPARED,
        config="YAML file of flags",
    )


def _suspects() -> ArgumentParser:
    parser = ArgumentParser(
        description="List the labels that predictions of models which have not seen them "
        "contradict most: they may be wrong. The models are trained as the run was; a folder of "
        "`compare` has what is needed, if a loss of it weighs labels. The same command goes "
        "on where it stopped."
    )
    parser.add_argument("run", type=str, help="folder of a trained run, or of a comparison")
    for option in fields(ComparisonOptions):
        if option.name in CROSS_VALIDATION:
            _add(parser, ComparisonOptions, option)
    parser.add_argument(
        "--out", type=str | None, default=None, help="folder for it (default: RUN/suspects)"
    )
    return parser


def _degrade() -> ArgumentParser:
    parser = ArgumentParser(
        description="Write degraded versions of the images of a folder, and a table of how "
        f"severely each was degraded: a task to try losses on. {MEANING}"
    )
    parser.add_argument("images", type=str, help="folder of images")
    for option in fields(DegradationOptions):
        _add(parser, DegradationOptions, option)
    return parser


def _demo() -> ArgumentParser:
    parser = ArgumentParser(description=demo.__doc__)
    explained_tasks = "; ".join(f"{name}: {words}" for name, words in demo.TASKS.items())
    parser.add_argument("--task", type=demo.Task, default="length", help=explained_tasks)
    parser.add_argument("--out", type=str, default="demo", help="folder for the result")
    _add_switch(parser, "overwrite", "replace the demo that is in the folder")
    return parser


def _losses() -> ArgumentParser:
    return ArgumentParser(description="List the losses that --loss knows.")


def _export() -> ArgumentParser:
    parser = ArgumentParser(
        description="Write a model, with what is done to an image before it, as one file that "
        "needs neither finecorr nor the run's folder."
    )
    parser.add_argument("run", type=str, help="folder of a trained run, or its model's file")
    parser.add_argument(
        "--format",
        type=Format,
        required=True,
        help="onnx, for ONNX Runtime and others; torch, for torch.export.load",
    )
    parser.add_argument("--out", type=str, required=True, help="the file")
    _add_switch(parser, "overwrite", "replace the file")
    return parser


COMMANDS: dict[str, tuple[str, Callable[[], ArgumentParser]]] = {
    "check": ("what is odd about a table and its images, before a training", _check),
    "train": ("a table of images and scores to a model", _train),
    "evaluate": ("a model and a table to metrics", _evaluate),
    "predict": ("a model and images to predictions", _predict),
    "export": ("a model to a file for other programs", _export),
    "compare": ("which loss serves a table best", _compare),
    "suspects": ("labels that may be wrong", _suspects),
    "degrade": ("images to worse ones, in known steps", _degrade),
    "demo": ("see it work, on synthetic images", _demo),
    "losses": ("the losses to choose from", _losses),
}
"""What each does, and its parser."""


def parser_of(called: str | None) -> ArgumentParser:
    """The parser, with the flags of the command that is called; of the others it knows the names.

    Args:
        called: the command, or what stands in its place.
    """
    parser = ArgumentParser(
        prog="finecorr",
        description="Train regressors whose predictions correlate with the truth.",
        allow_abbrev=False,
    )
    commands = parser.add_subcommands(dest="subcommand")
    for name, (meaning, made) in COMMANDS.items():
        flags = made() if name == called else ArgumentParser()
        commands.add_subcommand(name, flags, help=meaning)
    return parser


def _add(parser: Any, cls: type, option: Field[Any]) -> None:
    """One field of a dataclass as a flag of a parser, or of a group of one."""
    kind = get_type_hints(cls)[option.name]
    help_text = option.metadata["help"]
    if option.name == "table":
        # Without a default, which would override the table of a configuration file.
        parser.add_argument("table", nargs="?", type=str, default=SUPPRESS, help=help_text)
        return
    if kind is bool:
        _add_switch(parser, _flag(option)[2:], help_text)
        return
    default = option.default
    if option.default_factory is not MISSING:
        default = option.default_factory()
    settings: dict[str, Any] = {"help": help_text, "default": default}
    if default is MISSING:
        settings = {"help": help_text, "required": True}
    settings.update(_argument_type(kind))
    if isinstance(settings.get("default"), tuple):
        settings["default"] = list(settings["default"])
    parser.add_argument(_flag(option), **settings)


def _add_switch(parser: Any, name: str, help_text: str, default: bool | None = False) -> None:
    """`--NAME`, and `--no-NAME`."""
    parser.add_argument(
        f"--{name}", action=ActionYesNo(no_prefix="no-"), default=default, help=help_text
    )


def _add_ensemble(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--ensemble",
        type=str,
        nargs="*",
        default=[],
        help="further runs, whose predictions are averaged with those of the first; sd is how far "
        "they differ",
    )


def _argument_type(kind: Any) -> dict[str, Any]:
    """The argparse settings for the type of a field."""
    members = [member for member in get_args(kind) if member is not type(None)]
    for member in [kind, *members]:
        if get_origin(member) is tuple:
            parts = get_args(member)
            return {"type": parts[0], "nargs": "*" if parts[-1] is Ellipsis else len(parts)}
    if Path in [kind, *members]:
        return {"type": str if kind is Path else str | None}
    return {"type": kind}


def _add_overrides(
    parser: ArgumentParser,
    table_help: str,
    overridable: Sequence[Field[Any]],
    tables: Literal["?", "*"] = "?",
) -> None:
    parser.add_argument("table", nargs=tables, type=str | None, default=None, help=table_help)
    group = parser.add_argument_group(_TITLES[TableOptions])
    for option in overridable:
        kind, help_text = get_type_hints(TableOptions)[option.name], option.metadata["help"]
        if kind is bool:
            _add_switch(group, _flag(option)[2:], help_text, default=None)
            continue
        settings = _argument_type(kind)
        if "nargs" not in settings:
            settings["type"] = settings["type"] | None
        group.add_argument(_flag(option), default=None, help=help_text, **settings)


def _flag(option: Field[Any]) -> str:
    return f"--{option.name.replace('_', '-')}"


def build(cls: type, options: Namespace) -> Any:
    """The dataclass with the values of its flags."""
    if cls is TableOptions and "table" not in options:
        raise InputError("which table? Give its path, or --preset, or a --config that names it")
    values = {name: options[name] for name in (o.name for o in fields(cls)) if name in options}
    for option in fields(cls):
        empty = option.name in values and values[option.name] is None
        if empty and NoneType not in get_args(get_type_hints(cls)[option.name]):
            raise InputError(f"{_flag(option)} needs a value: leave it out, or do not say null")
    return cls(**_typed(cls, values))


def overrides(options: Namespace) -> dict[str, Any]:
    """The fields of TableOptions whose flags were given."""
    names = ["table", *(option.name for option in _OVERRIDABLE)]
    given = {name: options[name] for name in names if options.get(name) not in (None, [])}
    return _typed(TableOptions, given)


def _typed(cls: type, values: dict[str, Any]) -> dict[str, Any]:
    """Lists as tuples and texts as paths, where the dataclass has them."""
    kinds = get_type_hints(cls)
    typed = {}
    for name, value in values.items():
        if isinstance(value, list):
            value = tuple(value)
        elif isinstance(value, str) and Path in (kinds[name], *get_args(kinds[name])):
            value = Path(value)
        typed[name] = value
    return typed

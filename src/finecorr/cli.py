"""The commands: thin, each one call into the rooms below."""

from __future__ import annotations

import io
import re
import sys
import warnings
from argparse import SUPPRESS
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, Field, fields
from pathlib import Path
from types import NoneType
from typing import Any, Literal, NoReturn, get_args, get_origin, get_type_hints

import jsonargparse
from jsonargparse import ActionYesNo, Namespace

from finecorr import demo, evaluating, losses, predicting, runs
from finecorr.comparison.compare import SUSPECTS, compare, explain
from finecorr.comparison.options import ComparisonOptions
from finecorr.comparison.plan import Data
from finecorr.comparison.suspects import find_suspects
from finecorr.cross_tables import evaluate_tables, text
from finecorr.data.degradation.degrading import TABLE, write_degradations
from finecorr.data.degradation.options import MEANING, DegradationOptions
from finecorr.data.options import AugmentationOptions, ImageOptions, TableOptions
from finecorr.data.presets import PRESETS, expand_presets, one_preset_each
from finecorr.errors import InputError, InputWarning, Interrupted, Stopped
from finecorr.evaluation.suspects import SUSPICIOUS
from finecorr.files import refusal
from finecorr.models.options import TrainingOptions
from finecorr.pages import REPORT
from finecorr.run_options import RunOptions
from finecorr.tasks import expand_task, explained

_USER_ERROR = 2
_INTERRUPTED = 130
_TRAIN_OPTIONS = (
    TableOptions,
    ImageOptions,
    AugmentationOptions,
    TrainingOptions,
    RunOptions,
)
_COMPARE_OPTIONS = (
    TableOptions,
    ImageOptions,
    AugmentationOptions,
    TrainingOptions,
    ComparisonOptions,
)
# The losses have flags of their own.
_NOT_COMPARED = {(TrainingOptions, "loss"), (TrainingOptions, "loss_options")}
_DRAWN = ("--folds", "--repeats")
"""Flags that draw the splits, in the place of those that a preset names."""
_CROSS_VALIDATION = ("folds", "seeds", "workers", "executor")
"""The options of a comparison that `suspects` has, too."""
_SUSPECTS_SHOWN = 20
_EVALUATED = ("within", "score_columns", "sd_column", "observers")
"""The options of a table that say how predictions are evaluated."""
# Splits and weights are for training only, and the table is not a flag.
_OVERRIDABLE = [
    option
    for option in fields(TableOptions)
    if option.name not in ("table", "split_column", "weight_column")
]
_INHERITED = (
    "Flags that are not given are those of the training, but for --image-root where there is "
    "another table: it starts from that table's folder."
)
_PRESET = (
    "--preset NAME DIR stands for the flags of a published data set in the folder DIR: "
    f"{'; '.join(f'{name} ({preset.explanation})' for name, preset in PRESETS.items())}."
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit code: 0, 2 for a user's mistake, 130 for Ctrl-C."""
    # Where the terminal has no letter for it, a name is spelled in numbers.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        with _remarks():
            parser = _parser()
            words = list(sys.argv[1:] if arguments is None else arguments)
            calls = []
            for call in one_preset_each(words):
                given = _expanded(call)
                if given[:1] in (["train"], ["compare"]):
                    without = {"loss"} if given[0] == "compare" else set()
                    given = expand_task(given, without)
                calls.append(parser.parse_args(_config_first(given)))
            options = [call[call.subcommand] for call in calls]
            if calls[0].subcommand == "evaluate":
                if "--preset" in words and any(len(call.table or ()) > 1 for call in options):
                    raise InputError("evaluate takes tables, or --preset, and not both at once")
                _evaluate(options)
            else:
                _COMMANDS[calls[0].subcommand](options[0])
    except InputError as error:
        print(f"finecorr: error: {error}", file=sys.stderr)
        return _USER_ERROR
    # What the system refuses (a full disk, say) is no fault in the program.
    except OSError as error:
        print(f"finecorr: error: {refusal(error)}", file=sys.stderr)
        return _USER_ERROR
    except (Interrupted, KeyboardInterrupt) as stop:
        print(f"\ninterrupted{stop}", file=sys.stderr)
        return _INTERRUPTED
    return 0


class ArgumentParser(jsonargparse.ArgumentParser):
    """With mistakes in a line."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        command = self.prog.replace(" [options]", "")
        said = re.sub(r'Parser key "([\w.]+)"([^:]*):\s*', _named, message.strip())
        for kind, meaning in (("int", "whole number"), ("float", "number"), ("str", "text")):
            said = said.replace(f"a <class '{kind}'>", f"a {meaning}")
        raise InputError(f"{said}\n({command} --help lists what there is)") from ex


def _named(key: re.Match[str]) -> str:
    return f"--{key[1].replace('_', '-')}{key[2]}: "


@contextmanager
def _remarks() -> Iterator[None]:
    """Shows each `InputWarning` once, as a line."""
    shown: set[str] = set()
    with warnings.catch_warnings():
        warnings.simplefilter("always", InputWarning)
        others = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
            if not issubclass(category, InputWarning):
                others(message, category, *place, **more)
            elif str(message) not in shown:
                shown.add(str(message))
                print(f"finecorr: note: {message}", file=sys.stderr)

        warnings.showwarning = show
        yield


def _expanded(arguments: list[str]) -> list[str]:
    """With the flags of a preset; what the user says of the splits counts, and not its column."""
    given = expand_presets(arguments)
    flags = [argument.partition("=")[0] for argument in arguments]
    drawn = next((flag for flag in _DRAWN if flag in flags), None)
    if drawn is None or "--split-column" in flags or "--split-column" not in given:
        return given
    warnings.warn(
        f"the split that comes with the data set is left out, as {drawn} draws others",
        InputWarning,
        stacklevel=2,
    )
    return [*given, "--split-column", "null"]


def _config_first(arguments: list[str]) -> list[str]:
    """`COMMAND --config FILE` before all else, as what comes later overrides what came before."""
    for at, argument in enumerate(arguments[1:], 1):
        if argument == "--config" or argument.startswith("--config="):
            end = at + (2 if argument == "--config" else 1)
            return [arguments[0], *arguments[at:end], *arguments[1:at], *arguments[end:]]
    return arguments


def _check_task(options: Namespace) -> None:
    """On the command line, it has been replaced by then."""
    if "task" in options:
        raise InputError(
            "--config: task is for the command line, where it stands for other flags: give "
            f"--task {options.task} there, or write those into the file"
        )


def _train(options: Namespace) -> None:
    _check_task(options)
    parts = [_build(cls, options) for cls in _TRAIN_OPTIONS]
    instead = " in the place of --overwrite" if options.overwrite else ""
    goes_on = f"the same command with --resume{instead} goes on from here"
    try:
        evaluation = runs.train(*parts)
    except (Interrupted, KeyboardInterrupt) as stop:
        if not (Path(options.out) / runs.CONFIG).exists():
            raise
        raise Interrupted(f"; {goes_on}") from stop
    except (Stopped, OSError) as error:
        if not (Path(options.out) / runs.CONFIG).exists():
            raise
        what = refusal(error) if isinstance(error, OSError) else error
        raise InputError(f"{what}; then {goes_on}") from error
    print(f"test split: {evaluation.summary()}\nwritten to {options.out}")


def _evaluate(calls: Sequence[Namespace]) -> None:
    """One call, or one for each preset."""
    options = calls[0]
    run, out = Path(options.run), Path(options.out)
    how: dict[str, Any] = {
        "all_rows": options.all_rows,
        "mapped": options.mapped,
        "predict_per": options.predict_per,
        "overwrite": options.overwrite,
    }
    tables = [
        {**_overrides(call), **({} if table is None else {"table": Path(table)})}
        for call in calls
        for table in call.table or [None]
    ]
    if len(tables) > 1:
        print(f"{text(evaluate_tables(run, tables, out, **how))}written to {out}")
        return
    evaluation, left_out = evaluating.evaluate(run, tables[0], out, **how)
    if left_out:
        print(f"left out: {left_out} rows of subjects that training or validation have seen")
    print(f"{evaluation.summary()}\nwritten to {options.out}")


def _predict(options: Namespace) -> None:
    predictions = predicting.predict(
        Path(options.run),
        _overrides(options),
        Path(options.out),
        pixel_size=options.pixel_size,
        predict_per=options.predict_per,
        overwrite=options.overwrite,
    )
    print(f"{len(predictions)} predictions written to {options.out}")


def _compare(options: Namespace) -> None:
    _check_task(options)
    options.losses = [name for names in options.losses for name in names.split(",")]
    table, images, augmentation, training, comparison = (
        _build(cls, options) for cls in _COMPARE_OPTIONS
    )
    outcome = compare(Data(table, images, augmentation), training, comparison)
    print(f"{outcome.text()}\nwritten to {options.out}")
    if outcome.failures:
        count = len(outcome.failures)
        failed = f"{count} training{'s' if count > 1 else ''} failed, and may be started again:"
        lines = [failed, *map(explain, outcome.failures)]
        raise InputError("\n  ".join(lines))


def _suspects(options: Namespace) -> None:
    run = Path(options.run)
    out = run / "suspects" if options.out is None else Path(options.out)
    chosen = {name: options[name] for name in _CROSS_VALIDATION}
    suspects, folder = find_suspects(run, ComparisonOptions(out, **chosen))
    count = int((suspects["score"] >= SUSPICIOUS).sum())
    shown = suspects.head(_SUSPECTS_SHOWN).to_string(index=False, float_format="{:.4g}".format)
    print(
        f"{count} of {len(suspects)} labels are further than {SUSPICIOUS} robust standard "
        f"deviations from what their images suggest; the worst:\n{shown}\n"
        f"all are in {folder / SUSPECTS}, the worst with their images in {folder / REPORT}"
    )


def _degrade(options: Namespace) -> None:
    made = _build(DegradationOptions, options)
    table = write_degradations(Path(options.images), made)
    originals = table["original"].nunique()
    print(
        f"{len(table)} images, versions of {originals}, with their severity in {made.out / TABLE}\n"
        f"{MEANING}"
    )


def _demo(options: Namespace) -> None:
    print(demo.run(options.task, Path(options.out), overwrite=options.overwrite))


def _losses(options: Namespace) -> None:
    explanations = losses.available()
    width = max(map(len, explanations))
    for name, explanation in explanations.items():
        print(f"{name:{width}}  {explanation}")


_COMMANDS = {
    "train": _train,
    "predict": _predict,
    "compare": _compare,
    "suspects": _suspects,
    "degrade": _degrade,
    "demo": _demo,
    "losses": _losses,
}


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="finecorr",
        description="Train regressors whose predictions correlate with the truth.",
        allow_abbrev=False,
    )
    commands = parser.add_subcommands(dest="subcommand")

    train = ArgumentParser(description=f"Train a model on a table and evaluate it. {_PRESET}")
    train.add_argument("--config", action="config", help="YAML file of flags, as in a run's folder")
    _add_task(train)
    for cls in _TRAIN_OPTIONS:
        for option in fields(cls):
            _add(train, cls, option)
    commands.add_subcommand("train", train, help="a table of images and scores to a model")

    evaluate = ArgumentParser(
        description="Evaluate a model on the rows of a table that its training has not seen, or of "
        "several tables, side by side; --preset may be given several times, too. "
        f"{_INHERITED} Another table or target does not inherit --score-columns, --sd-column and "
        f"--observers, nor another table --within. {_PRESET}"
    )
    evaluate.add_argument("run", type=str, help="folder of a trained run")
    _add_overrides(
        evaluate, "tables of images and scores (default: the training's)", _OVERRIDABLE, "*"
    )
    evaluate.add_argument("--out", type=str, required=True, help="folder for the evaluation")
    evaluate.add_argument(
        "--all-rows", action="store_true", help="also rows of subjects that training has seen"
    )
    evaluate.add_argument(
        "--mapped",
        action=ActionYesNo(no_prefix="no-"),
        default=None,
        help="also PLCC and RMSE after the logistic mapping (default: as the training)",
    )
    _add_per(evaluate, "and its mean label with that")
    evaluate.add_argument(
        "--overwrite", action="store_true", help="replace the evaluation that is in the folder"
    )
    commands.add_subcommand("evaluate", evaluate, help="a model and a table to metrics")

    predict = ArgumentParser(
        description=f"Predict for every row of a table or image of a folder. {_INHERITED} {_PRESET}"
    )
    predict.add_argument("run", type=str, help="folder of a trained run")
    _add_overrides(
        predict,
        "table, or folder of images (default: the training's table)",
        [option for option in _OVERRIDABLE if option.name not in _EVALUATED],
    )
    predict.add_argument("--out", type=str, required=True, help="CSV file for the predictions")
    predict.add_argument(
        "--pixel-size",
        type=float | Literal["file"] | None,
        default=None,
        help="of all images, where no column has it; 'file' for what their files say, in mm",
    )
    _add_per(predict, "which --group-column or --group-pattern names")
    predict.add_argument("--overwrite", action="store_true", help="replace the file")
    commands.add_subcommand("predict", predict, help="a model and images to predictions")

    compared = ArgumentParser(
        description="Train several losses on the same splits of a table and compare them on the "
        "rows that each training has not seen. The same command goes on where it stopped. "
        f"{_PRESET}"
    )
    compared.add_argument("--config", action="config", help="YAML file of flags")
    _add_task(compared)
    for kind in _COMPARE_OPTIONS:
        for option in fields(kind):
            if (kind, option.name) not in _NOT_COMPARED:
                _add(compared, kind, option)
    commands.add_subcommand("compare", compared, help="which loss serves a table best")

    suspects = ArgumentParser(
        description="List the labels that predictions of models which have not seen them "
        "contradict most: they may be wrong. The models are trained as the run was; a folder of "
        "`compare` has what is needed, if a loss of it weighs labels. The same command goes "
        "on where it stopped."
    )
    suspects.add_argument("run", type=str, help="folder of a trained run, or of a comparison")
    for option in fields(ComparisonOptions):
        if option.name in _CROSS_VALIDATION:
            _add(suspects, ComparisonOptions, option)
    suspects.add_argument(
        "--out", type=str | None, default=None, help="folder for it (default: RUN/suspects)"
    )
    commands.add_subcommand("suspects", suspects, help="labels that may be wrong")

    degraded = ArgumentParser(
        description="Write degraded versions of the images of a folder, and a table of how "
        f"severely each was degraded: a task to try losses on. {MEANING}"
    )
    degraded.add_argument("images", type=str, help="folder of images")
    for option in fields(DegradationOptions):
        _add(degraded, DegradationOptions, option)
    commands.add_subcommand("degrade", degraded, help="images to worse ones, in known steps")

    demonstrate = ArgumentParser(description=demo.__doc__)
    explained_tasks = "; ".join(f"{name}: {words}" for name, words in demo.TASKS.items())
    demonstrate.add_argument("--task", type=demo.Task, default="length", help=explained_tasks)
    demonstrate.add_argument("--out", type=str, default="demo", help="folder for the result")
    demonstrate.add_argument(
        "--overwrite", action="store_true", help="replace the demo that is in the folder"
    )
    commands.add_subcommand("demo", demonstrate, help="see it work, on synthetic images")

    commands.add_subcommand(
        "losses",
        ArgumentParser(description="List the losses that --loss knows."),
        help="the losses to choose from",
    )
    return parser


def _add(parser: ArgumentParser, cls: type, option: Field[Any]) -> None:
    """One field of a dataclass as a flag; the table is the positional argument."""
    kind = get_type_hints(cls)[option.name]
    help_text = option.metadata["help"]
    if option.name == "table":
        # Without a default, which would override the table of a configuration file.
        parser.add_argument("table", nargs="?", type=str, default=SUPPRESS, help=help_text)
        return
    if kind is bool:
        parser.add_argument(
            _flag(option), action=ActionYesNo(no_prefix="no-"), default=False, help=help_text
        )
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


def _add_task(parser: ArgumentParser) -> None:
    """For --help: it is replaced before the flags are read."""
    help_text = f"defaults of other flags: {explained()}"
    parser.add_argument("--task", type=str, default=SUPPRESS, help=help_text.replace("%", "%%"))


def _add_per(parser: ArgumentParser, more: str) -> None:
    parser.add_argument(
        "--predict-per",
        type=predicting.Per,
        default="row",
        help=f"'subject' for the mean prediction of each subject, {more}",
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
    for option in overridable:
        kind, help_text = get_type_hints(TableOptions)[option.name], option.metadata["help"]
        if kind is bool:
            parser.add_argument(_flag(option), action="store_true", default=None, help=help_text)
            continue
        settings = _argument_type(kind)
        if "nargs" not in settings:
            settings["type"] = settings["type"] | None
        parser.add_argument(_flag(option), default=None, help=help_text, **settings)


def _flag(option: Field[Any]) -> str:
    return f"--{option.name.replace('_', '-')}"


def _build(cls: type, options: Namespace) -> Any:
    """The dataclass with the values of its flags."""
    if cls is TableOptions and "table" not in options:
        raise InputError("which table? Give its path, or --preset, or a --config that names it")
    values = {name: options[name] for name in (o.name for o in fields(cls)) if name in options}
    for option in fields(cls):
        empty = option.name in values and values[option.name] is None
        if empty and NoneType not in get_args(get_type_hints(cls)[option.name]):
            raise InputError(f"{_flag(option)} needs a value: leave it out, or do not say null")
    return cls(**_typed(cls, values))


def _overrides(options: Namespace) -> dict[str, Any]:
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

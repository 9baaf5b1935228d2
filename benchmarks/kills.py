"""Whether what is killed goes on to the same end: the commands, killed in each of their phases.

    python benchmarks/kills.py                      # up to half an hour
    python benchmarks/kills.py --only predict train --rounds 1

Each command is run once to its end, on a few phantoms, which shows when each of its phases begins
and ends. Then it is started again and killed at a random moment of one of them, and called once
more, with --resume where there is something to resume. What it has written in the end must be, byte
for byte, what it writes when nobody disturbs it, and no hidden file may be left.

The table has a line for each kill: which phase and signal, when, how the command ended, whether the
next call succeeded, which files are not the same, and what is left. The exit code is 1 if
anything was lost. It needs Linux, which says what a process has started.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from finecorr.data.phantom import write_phantoms

KILL, TERM, INT = signal.SIGKILL, signal.SIGTERM, signal.SIGINT
_POLL_SECONDS = 0.002
_CLOCK_SECONDS = 0.02
"""How far the times of files may be behind."""
_ATTEMPTS = 6
"""Of hitting a phase: a short one may be over before the signal is there."""
_MOST_SECONDS = 300.0
TABLE_FLAGS = (
    *("--image-columns", "filename", "--target-columns", "head circumference (mm)"),
    *("--group-pattern", r"^(\d+)_", "--pixel-size-column", "pixel size(mm)"),
)
SMALL = ("--image-size", "48", "68", "--network", "resnet10-narrow", "--batch-size", "16")
LAST, MODEL = "checkpoints/last.ckpt", "model.safetensors"
EVALUATED = ("metrics.csv", "predictions.csv", "scatter.png", "bland_altman.png")
TRAINED = (MODEL, *EVALUATED, "outliers.csv", "splits.csv", "config.yaml")


@dataclass(frozen=True)
class Phase:
    """What a command does from one sign to the next. A sign is a pattern of a file in its folder,
    or, where it begins with a colon, of its parent, that it has written; or, with a quotation mark,
    a text that it prints; None for the start, or the end, of the process."""

    name: str
    begins: str | None = None
    ends: str | None = None


@dataclass(frozen=True)
class Job:
    """A command, what it writes, and where it is killed."""

    name: str
    flags: tuple[str, ...]
    """TABLE and RUN stand for the phantoms and a trained run."""
    files: tuple[str, ...]
    """Patterns of those that must be the same in the end."""
    finished: str | None
    """The file that says that nothing is left to be done; None where the next call finds out."""
    plan: tuple[tuple[Phase, tuple[str, ...]], ...]
    """Each phase with the kills in it: a signal, and whom it is for."""
    over: tuple[str, ...] = ()
    """Flags of a run that is there before."""
    elsewhere: bool = False
    """Whether --out is on another file system than the folder for temporary files."""


START, LOADING = Phase("the first half second"), Phase("modules are loaded")
READING = Phase("images are read", None, "splits.csv")
FIRST = Phase("the first epoch", "config.yaml", LAST)
EPOCHS = Phase("epochs", LAST, '"epoch 4/4')
CHECKPOINT = Phase("a checkpoint is written", "checkpoints/.*.ckpt")
CALIBRATION = Phase("calibration", '"epoch 4/4', "outliers.csv")
EVALUATION = Phase("evaluation", "outliers.csv", "predictions.csv")
FIGURES = Phase("figures", "predictions.csv", "metrics.csv")
SAVING = Phase("the model is written", "metrics.csv", MODEL)
TIDYING = Phase("the model is there", MODEL)
ALL = ("KILL", "TERM", "INT")
TRAIN = ("train", "TABLE", *TABLE_FLAGS, *SMALL, "--epochs", "4")
WORKERS = ("--cache-mb", "0", "--loading-workers", "2")
RUN_OF_COMPARISON = "runs/*/*/*"
BOTH = ("--losses", "mse", "fine_grained", "--folds", "2", "--seeds", "1", "--workers", "2")
COMPARED = (
    *("results.csv", "predictions.parquet", "summary.md", "summary.tex", "suspects.csv"),
    *("report.html", *(f"{RUN_OF_COMPARISON}/{name}" for name in TRAINED)),
)

JOBS = (
    Job(
        "train",
        TRAIN,
        TRAINED,
        MODEL,
        (
            (START, ALL),
            (LOADING, ALL),
            (READING, ALL),
            (FIRST, ALL),
            (EPOCHS, ALL),
            (CHECKPOINT, ALL),
            (CALIBRATION, ALL),
            (EVALUATION, ("KILL", "INT")),
            (FIGURES, ALL),
            (SAVING, ("KILL", "TERM")),
            (TIDYING, ("KILL", "INT")),
        ),
    ),
    Job(
        "train, loading workers",
        (*TRAIN, *WORKERS),
        TRAINED,
        MODEL,
        (
            (FIRST, ("KILL child",)),
            (EPOCHS, ("KILL", "KILL child", "TERM", "INT group")),
            (CALIBRATION, ("KILL",)),
        ),
    ),
    Job(
        "train, two processes",
        (*TRAIN, "--batch-size", "8", "--devices", "2"),
        TRAINED,
        MODEL,
        (
            (FIRST, ("KILL", "KILL child", "INT group")),
            (EPOCHS, ("KILL", "KILL child", "TERM", "INT group")),
            (CHECKPOINT, ("KILL",)),
            (CALIBRATION, ("KILL", "KILL child", "INT group")),
            (FIGURES, ("KILL", "TERM")),
        ),
    ),
    Job(
        "train, stopped early",
        (*TRAIN, "--epochs", "30", "--patience", "1"),
        TRAINED,
        MODEL,
        ((Phase("epochs", LAST, "outliers.csv"), ALL), (FIGURES, ("KILL",))),
    ),
    Job(
        "train, another file system",
        TRAIN,
        TRAINED,
        MODEL,
        ((EPOCHS, ("KILL",)), (CHECKPOINT, ("KILL",)), (FIGURES, ("TERM",))),
        elsewhere=True,
    ),
    Job(
        "train --overwrite",
        (*TRAIN, "--overwrite"),
        TRAINED,
        MODEL,
        (
            (Phase("the old run is laid aside", ".repl*", "config.yaml"), ("KILL", "INT")),
            (EPOCHS, ("KILL",)),
            (SAVING, ("KILL",)),
            (TIDYING, ("KILL",)),
        ),
        over=(*TRAIN, "--epochs", "1", "--seed", "1"),
    ),
    Job(
        "evaluate",
        ("evaluate", "RUN"),
        (*EVALUATED, "report.html"),
        "metrics.csv",
        (
            (START, ("INT",)),
            (Phase("images are read", None, ":.*/predictions.csv"), ("KILL",)),
            (Phase("files are written", ":.*/predictions.csv", "metrics.csv"), ALL),
        ),
    ),
    Job(
        "predict",
        ("predict", "RUN"),
        ("predictions.csv",),
        "predictions.csv",
        ((START, ("INT",)), (Phase("predictions", None, "predictions.csv"), ("KILL", "INT"))),
    ),
    Job(
        "compare",
        ("compare", "TABLE", *TABLE_FLAGS, *SMALL, "--epochs", "4", *BOTH),
        COMPARED,
        None,
        (
            (START, ("INT group",)),
            (Phase("trainings start", "runs", f"{RUN_OF_COMPARISON}/config.yaml"), ("INT group",)),
            (
                Phase("epochs", f"{RUN_OF_COMPARISON}/{LAST}", f"{RUN_OF_COMPARISON}/{MODEL}"),
                ("KILL", "KILL grandchild", "KILL group", "TERM", "INT group"),
            ),
            (
                Phase("the last trainings", f"{RUN_OF_COMPARISON}/{MODEL}", "predictions.parquet"),
                ("KILL", "INT group"),
            ),
            (Phase("tables and page", "predictions.parquet", "report.html"), ("KILL",)),
        ),
    ),
)


class Command:
    """A command that runs, in a group of processes of its own."""

    def __init__(self, flags: Sequence[str], out: Path, log: Path) -> None:
        self._out, self._log = out, log
        with log.open("w") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "finecorr", *flags],
                stdout=file,
                stderr=file,
                start_new_session=True,
                # What is started in the background of a shell ignores SIGINT.
                preexec_fn=lambda: signal.signal(INT, signal.SIG_DFL),
            )
        self._started, self._since = time.monotonic(), time.time() - _CLOCK_SECONDS

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._started

    def printed(self) -> str:
        return self._log.read_text(errors="replace")

    def shows(self, sign: str | None) -> bool:
        """Whether a sign is there; None is the end."""
        if sign is None:
            return self.process.poll() is not None
        if sign.startswith('"'):
            return sign[1:] in self.printed()
        if sign.startswith(":"):
            return any(map(self.wrote, self._out.parent.glob(sign[1:])))
        return any(map(self.wrote, self._out.glob(sign)))

    def wrote(self, path: Path) -> bool:
        """Whether a file is there, and was not there before."""
        try:
            return path.stat().st_mtime >= self._since
        except OSError:
            return False

    def wait(self, done: Callable[[], bool]) -> None:
        while not done() and self.process.poll() is None:
            time.sleep(_POLL_SECONDS)
            if self.seconds > _MOST_SECONDS:
                raise TimeoutError(f"it does not end:\n{self.printed()}")

    def send(self, kill: str) -> bool:
        """Sends "SIGNAL", to the process itself, or "SIGNAL WHOM"; returns whether there is one."""
        name, _, whom = kill.partition(" ")
        number, pid = signal.Signals[f"SIG{name}"], self.process.pid
        if self.process.poll() is not None:
            return False
        if whom == "group":
            os.killpg(pid, number)
            return True
        found = [pid]
        for _ in range({"": 0, "child": 1, "grandchild": 2}[whom]):
            found = [child for parent in found for child in children(parent)]
        if whom:  # not those that only look after the others
            found = [child for child in found if "resource_tracker" not in words_of(child)]
        if found:
            os.kill(found[-1], number)
        return bool(found)

    def end(self) -> None:
        """Of it and of all that it has started in its group."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, KILL)
            self.process.wait()


def children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task")
    return [int(n) for task in tasks.glob("*/children") for n in task.read_text().split()]


def words_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
    except OSError:
        return ""


@dataclass(frozen=True)
class Killed:
    """One kill, and what came of it."""

    job: str
    phase: str
    signal: str
    at: str
    ended: str
    again: str
    other: str
    """Files that are not the same."""
    left: str

    @property
    def survived(self) -> bool:
        return self.again in ("goes on", "was done") and not self.other and not self.left


class Trial:
    """A command, undisturbed and killed, always in the same folder."""

    def __init__(self, job: Job, table: Path, run: Path, root: Path) -> None:
        self.job = job
        self._logs = root
        self._home = root / "killed"
        # A folder that nothing else is in: what is left beside the result is seen, too.
        self.out = self._home / "out"
        names: dict[str, tuple[str, ...]] = {
            "TABLE": (str(table), "--image-root", str(table.parent / "images")),
            "RUN": (str(run),),
        }
        target = self.out / "predictions.csv" if job.name == "predict" else self.out
        self._flags = [*self._expanded(job.flags, names), "--out", str(target)]
        self._over = [*self._expanded(job.over, names), "--out", str(target)]
        self._reference, self._before = root / "reference", root / "before"

    @staticmethod
    def _expanded(flags: Sequence[str], names: dict[str, tuple[str, ...]]) -> list[str]:
        return [word for flag in flags for word in names.get(flag, (flag,))]

    def undisturbed(self) -> None:
        """What it writes, and when its phases begin and end."""
        signs = {sign for phase, _ in self.job.plan for sign in (phase.begins, phase.ends)}
        self._clear()
        if self.job.over:
            self._run(self._over)
            self.out.rename(self._before)
        self._prepare()
        seen: dict[str | None, float] = {}
        with self._started(self._flags) as command:

            def look() -> bool:
                for sign in signs - set(seen):
                    if sign is not None and command.shows(sign):
                        seen[sign] = command.seconds
                return False

            command.wait(look)
            look()
            seen[None] = command.seconds
            if command.process.returncode:
                raise SystemExit(f"{self.job.name} fails undisturbed:\n{command.printed()}")
        self._seen = seen
        self.out.rename(self._reference)

    def kill(self, phase: Phase, kill: str, rng: random.Random) -> Killed:
        """Kills it in that phase, and calls it again."""
        for attempt in range(_ATTEMPTS):
            self._prepare()
            with self._started(self._flags) as command:
                at = self._strike(command, phase, kill, rng, 0.5**attempt)
                command.wait(lambda: False)
                if at is not None:
                    break
        else:
            return Killed(self.job.name, phase.name, kill, "never hit", "", "", "", "")
        ended = str(command.process.returncode)
        # What its loading processes print when it is dead is Python's, and it cannot be mended.
        if "Traceback" in command.printed() and command.process.returncode != -KILL:
            ended += ", traceback"
        again = self._again(command)
        left = [path for path in self._home.rglob(".*") if self.out != path]
        return Killed(
            self.job.name,
            phase.name,
            kill,
            f"{at:.2f} s",
            ended,
            again,
            ", ".join(self._other()),
            ", ".join(sorted(str(path.relative_to(self._home)) for path in left)),
        )

    def _strike(
        self, command: Command, phase: Phase, kill: str, rng: random.Random, share: float
    ) -> float | None:
        """When it was sent; None where the phase was over by then."""
        begin = 0.0 if phase.begins is None else self._seen[phase.begins]
        end = self._seen[phase.ends]
        if phase is START:
            end = 0.5
        elif phase is LOADING:
            begin, end = 0.5, 0.6 * self._seen["splits.csv"]
        elif phase.begins is None:  # what comes before is the start of Python and its modules
            begin = 0.6 * end
        elif phase is CHECKPOINT:
            begin, end = 0.0, 0.01
            number = rng.randrange(4)
            for _ in range(number):
                command.wait(lambda: command.shows(phase.begins))
                command.wait(lambda: not command.shows(phase.begins))
        if phase.begins is not None:
            command.wait(lambda: command.shows(phase.begins))
            delay = rng.random() * share * (end - begin)
        else:
            delay = begin + rng.random() * share * (end - begin)
        time.sleep(delay)
        late = phase.ends is not None and command.shows(phase.ends)
        if phase is not TIDYING:
            late |= self._finished(command)
        at = command.seconds
        sent = not late and command.send(kill)
        if not sent:
            command.end()
        return at if sent else None

    def _finished(self, command: Command) -> bool:
        return self.job.finished is not None and command.wrote(self.out / self.job.finished)

    def _again(self, command: Command) -> str:
        """How the next call went."""
        if self._finished(command):
            return "was done"
        flags = self._flags
        if self.job.name.startswith("train") and command.wrote(self.out / "config.yaml"):
            flags = [*(flag for flag in flags if flag != "--overwrite"), "--resume"]
        code, printed = self._run(flags, check=False)
        return "goes on" if code == 0 else f"exit {code}: {printed.strip().splitlines()[-1]}"

    def _other(self) -> list[str]:
        """The files that are not those of the undisturbed command, byte for byte."""
        names = {
            str(path.relative_to(folder))
            for folder in (self._reference, self.out)
            for pattern in self.job.files
            for path in folder.glob(pattern)
        }
        both = [[folder / name for folder in (self._reference, self.out)] for name in sorted(names)]
        return [
            str(one.relative_to(self._reference))
            for one, other in both
            if not one.exists() or not other.exists() or one.read_bytes() != other.read_bytes()
        ]

    def _prepare(self) -> None:
        self._clear()
        if self.job.over:
            shutil.copytree(self._before, self.out)

    def _clear(self) -> None:
        shutil.rmtree(self._home, ignore_errors=True)
        self._home.mkdir()

    def _run(self, flags: Sequence[str], *, check: bool = True) -> tuple[int, str]:
        with self._started(flags) as command:
            command.wait(lambda: False)
            code, printed = command.process.returncode, command.printed()
        if check and code:
            raise SystemExit(f"{self.job.name} fails undisturbed:\n{printed}")
        return code, printed

    @contextmanager
    def _started(self, flags: Sequence[str]) -> Iterator[Command]:
        command = Command(flags, self.out, self._logs / "log.txt")
        try:
            yield command
        finally:
            command.end()


def trials(jobs: Sequence[Job], root: Path, rounds: int, rng: random.Random) -> Iterator[Killed]:
    table = write_phantoms(root / "phantoms", 80, height=68, width=96)
    run = root / "run"
    if any("RUN" in job.flags for job in jobs):
        _train(table, run)
    for number, job in enumerate(jobs):
        base = Path("/dev/shm") if job.elsewhere else root
        with tempfile.TemporaryDirectory(dir=base, prefix=f"kills-{number}-") as folder:
            trial = Trial(job, table, run, Path(folder))
            trial.undisturbed()
            for _, (phase, kills) in itertools.product(range(rounds), job.plan):
                for kill in kills:
                    yield trial.kill(phase, kill, rng)


def _train(table: Path, run: Path) -> None:
    images = ("--image-root", str(table.parent / "images"))
    flags = ["train", str(table), *images, *TRAIN[2:], "--out", str(run)]
    subprocess.run([sys.executable, "-m", "finecorr", *flags], check=True, capture_output=True)


def sums(killed: Sequence[Killed]) -> pd.DataFrame:
    """By job and phase."""
    frame = pd.DataFrame(
        [
            {
                "job": one.job,
                "phase": one.phase,
                "kills": 1,
                "next call succeeds": one.again in ("goes on", "was done"),
                "same bytes": not one.other,
                "nothing left": not one.left,
                "tracebacks": "traceback" in one.ended,
            }
            for one in killed
        ]
    )
    table = frame.groupby(["job", "phase"], sort=False).sum().astype(int).reset_index()
    total = {"job": "all", "phase": "", **table.iloc[:, 2:].sum().to_dict()}
    return pd.concat([table, pd.DataFrame([total])], ignore_index=True)


def markdown(frame: pd.DataFrame) -> str:
    lines = [list(frame.columns), ["---"] * len(frame.columns), *frame.astype(str).to_numpy()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [job.name for job in JOBS]
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="JOB")
    parser.add_argument("--phase", help="only phases whose name has this text", default="")
    parser.add_argument("--signal", help="only signals with this text", default="")
    parser.add_argument("--rounds", type=int, default=1, help="kills of each kind")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--out", type=Path, help="folder for kills.csv, with all kills")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    killed: list[Killed] = []
    with tempfile.TemporaryDirectory(prefix="kills-") as folder:
        chosen = [
            replace(
                job,
                plan=tuple(
                    (phase, tuple(kill for kill in kills if options.signal in kill))
                    for phase, kills in job.plan
                    if options.phase in phase.name
                ),
            )
            for job in JOBS
            if job.name in options.only
        ]
        for one in trials(chosen, Path(folder), options.rounds, random.Random(options.seed)):
            killed.append(one)
            print(one, file=sys.stderr, flush=True)
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
        pd.DataFrame(killed).to_csv(options.out / "kills.csv", index=False)
    print(markdown(pd.DataFrame(killed)), markdown(sums(killed)), sep="\n\n")
    return 0 if all(one.survived for one in killed) else 1


if __name__ == "__main__":
    sys.exit(main())

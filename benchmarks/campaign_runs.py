"""What the parts of `campaign.py` share: small training runs, their processes, and whether two runs are the same, bit for bit."""

import functools
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import elman
from elman.errors import ElmanError
from elman.series.model import SeriesModel
from elman.text.model import TextModel
from elman.training.runs import Run
from elman.training.storage import read_arrays

DEADLINE_SECONDS = 240.0
"""What none of these processes takes, on a machine with other work too."""


@dataclass(frozen=True)
class Case:
    """One kind of training: `elman train KIND DATA FLAGS`."""

    name: str
    kind: str
    flags: str


_TEXT = "--checkpoint-every 25 --validate-every 100 --sample-length 30 --block 5"
_SERIES = "--target y --horizon 6 --lookback 24 --checkpoint-every 20 --validate-every 50 --block 5 --no-baselines"

CASES = (
    Case(
        "text, GRU, dropout, running mean, samples",
        "text",
        f"{_TEXT} --steps 700 --hidden 10 --batch 3 --unroll 7 --optimizer adamw --dropout 0.2 --recurrent-dropout 0.1 "
        "--average 0.99 --sample-every 150 --seed 5",
    ),
    Case(
        "text, LSTM, two layers, streams that restart at random places",
        "text",
        f"{_TEXT} --steps 500 --cell lstm --layers 2 --hidden 12 --batch 4 --unroll 9 --layer-norm --residual "
        "--stream-length 40 --restart random",
    ),
    Case("text, the classic program", "text", f"{_TEXT} --preset min-char-rnn --steps 1500"),
    Case(
        "text, Elman, float64, patience",
        "text",
        "--checkpoint-every 10 --validate-every 10 --block 5 --steps 5000 --cell elman --hidden 8 --batch 2 --unroll 6 "
        "--dtype float64 --optimizer sgd --learning-rate 2 --patience 3 --sample-every 0",
    ),
    Case(
        "series, GRU, streams, dropout",
        "series",
        f"{_SERIES} --steps 400 --hidden 8 --batch 4 --unroll 12 --dropout 0.1",
    ),
    Case(
        "series, LSTM, windows, two members",
        "series",
        f"{_SERIES} --steps 300 --method windows --cell lstm --hidden 6 --batch 8 --members 2",
    ),
    Case(
        "series, Elman, float64, trained again with the validation part",
        "series",
        f"{_SERIES} --steps 300 --cell elman --hidden 6 --batch 3 --unroll 10 --dtype float64 --refit",
    ),
    Case(
        "series, GRU, whole paths, patience",
        "series",
        f"{_SERIES} --steps 5000 --hidden 6 --batch 2 --unroll 8 --path --patience 2 --optimizer sgd --learning-rate 3",
    ),
)


class Workshop:
    """A folder with data, a cache of its own and the runs; `start` begins a process in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.text, self.table, self.cache = folder / "words.txt", folder / "hours.csv", folder / "cache"
        self.cache.mkdir(parents=True, exist_ok=True)
        # The program as it stands now: what is changed in a checkout meanwhile would be a fault of another kind.
        self.source = folder / "source"
        ours = Path(elman.__file__).parent
        shutil.copytree(ours, self.source / "elman", ignore=shutil.ignore_patterns("__pycache__"))
        draw = random.Random(1)
        vocabulary = ["the", "state", "of", "a", "network", "is", "what", "it", "remembers", "and", "learns"]
        self.text.write_text("".join(draw.choice(vocabulary) + (" " if at % 9 else ".\n") for at in range(1500)))
        lines = ["time,y,x"]
        for hour in range(1200):
            wave = 10 * math.sin(hour / 24 * 2 * math.pi)
            lines.append(
                f"2024-{1 + hour // 672:02d}-{1 + hour // 24 % 28:02d} {hour % 24:02d}:00,{wave + draw.gauss(0, 1):.2f},{wave:.2f}"
            )
        self.table.write_text("\n".join(lines) + "\n")

    def environment(self, **more: str) -> dict[str, str]:
        """Of every process: an own cache, the program as it was at the beginning."""
        return {
            **os.environ,
            "PYTHONPATH": str(self.source),
            "XDG_CACHE_HOME": str(self.cache),
            "POLARS_MAX_THREADS": "2",
            "COLUMNS": "400",
            **more,
        }

    def arguments(self, case: Case, path: Path) -> list[str]:
        """What begins the run at `path`, or goes on with it where there is one."""
        if (path / "config.toml").exists():
            return ["train", "--resume", str(path)]
        data = self.text if case.kind == "text" else self.table
        return ["train", case.kind, str(data), "--run", str(path), *case.flags.split()]

    def start(
        self,
        arguments: list[str],
        *,
        prefix: tuple[str, ...] = (),
        **more: str,
    ) -> "Process":
        """`elman ARGUMENTS` as a process of its own."""
        return Process([*prefix, sys.executable, "-m", "elman", *arguments], self.environment(**more))

    def run(self, case: Case, path: Path, **how: Any) -> "Ended":
        """Begin or go on with a run, and wait for the end."""
        return self.start(self.arguments(case, path), **how).end(DEADLINE_SECONDS)


@dataclass(frozen=True)
class Ended:
    """How a process ended: its exit status (negative: a signal) and what it wrote to standard error."""

    status: int
    errors: str
    seconds: float

    @property
    def in_words(self) -> str:
        """The way of the end, by which cases are counted."""
        lines = [line for line in self.errors.splitlines() if line.strip()]
        if self.status == 0:
            return "went on to the end"
        if self.status < 0:
            return f"ended by {signal.Signals(-self.status).name}"
        if "Traceback" in self.errors:
            return "traceback"
        said = [line for line in lines if line.startswith("elman: error: ")]
        if self.status == 2 and len(said) == 1 and lines[-1] == said[0]:
            return "refused in one line"
        return f"status {self.status}"


class Process:
    """A child process whose words go to a file that has no name, so that nobody has to read along."""

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        self.words = tempfile.TemporaryFile()  # noqa: SIM115 (closed by `end`)
        self.began = time.monotonic()
        self.child = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self.words,
        )

    def ended_within(self, seconds: float) -> bool:
        """Wait so long at most."""
        try:
            self.child.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def kill(self) -> "Ended":
        """SIGKILL, and what had been written before."""
        self.child.kill()
        return self.end(DEADLINE_SECONDS)

    def end(self, seconds: float) -> "Ended":
        """Wait for the end; a process that takes longer is killed, and its status says so."""
        if not self.ended_within(seconds):
            self.child.kill()
            self.child.wait()
        taken = time.monotonic() - self.began
        with self.words as file:
            file.seek(0)
            return Ended(self.child.returncode, file.read().decode(errors="replace"), taken)


@dataclass(frozen=True)
class Reference:
    """The undisturbed run of a case."""

    case: Case
    path: Path
    seconds: float


def references(workshop: Workshop, cases: tuple[Case, ...]) -> list[Reference]:
    """Every case once, undisturbed, and a second time for the seconds that a run takes whose programs are compiled already."""
    found = []
    for number, case in enumerate(cases):
        for attempt in ("cold", "reference"):
            path = workshop.folder / f"{attempt}-{number}"
            ended = workshop.run(case, path)
            if ended.status:
                raise SystemExit(f"{case.name}: an undisturbed run ends with {ended.status}: {ended.errors[-2000:]}")
        cold = differences(workshop.folder / f"cold-{number}", path, case)
        if cold:
            raise SystemExit(f"{case.name}: two undisturbed runs differ: {cold}")
        shutil.rmtree(workshop.folder / f"cold-{number}")
        found.append(Reference(case, path, ended.seconds))
        print(f"{case.name}: {ended.seconds:.1f} s, {len(read_losses(path))} updates", flush=True)
    return found


def read_losses(path: Path) -> list[float]:
    """The losses of a run, in order."""
    return [loss for event in Run(path).events("update") for loss in event["loss"]]


def differences(found: Path, expected: Path, case: Case) -> str:
    """What is not the same in two runs that are over, in words; empty where all is. Wall-clock times are left out."""
    try:
        return _differences(found, expected, case)
    except (ElmanError, OSError, ValueError, KeyError) as error:
        return f"cannot be read: {type(error).__name__}: {error}"


def _differences(found: Path, expected: Path, case: Case) -> str:
    losses, others = read_losses(found), read_losses(expected)
    if losses != others:
        first = next((at for at, pair in enumerate(zip(losses, others, strict=False)) if pair[0] != pair[1]), "length")
        return f"losses ({len(losses)}, {len(others)}, first at {first})"
    for kind in ("validation", "sample"):
        if _timeless(Run(found).events(kind)) != _timeless(Run(expected).events(kind)):
            return f"events of kind {kind}"
    ends = [Run(path).last_event("end") for path in (found, expected)]
    if not all(ends) or any(
        ends[0][name] != ends[1][name] for name in ("ending", "iteration", "validation", "best_iteration")
    ):
        return "the end"
    names = {path.relative_to(expected) for path in expected.rglob("*") if path.is_file()}
    own = {path.relative_to(found) for path in found.rglob("*") if path.is_file() and not is_leftover(path)}
    # Which of the checkpoints before the last are kept depends on when they were taken.
    missing = {str(name) for name in names ^ own if name.parent.name != "checkpoints"}
    if missing:
        return f"files {sorted(missing)}"
    last = max(name for name in names if name.parent.name == "checkpoints" and "refit" not in name.parts)
    for name in [
        last,
        *sorted(name for name in names if name.suffix == ".safetensors" and name.parent.name != "checkpoints"),
    ]:
        kind = "checkpoint" if name == last else "bundle"
        if not same_arrays(found / name, expected / name, kind):
            return f"arrays of {name}"
    if case.kind == "series":
        figures = [_timeless_tree(json.loads((path / "evaluation.json").read_text())) for path in (found, expected)]
        if figures[0] != figures[1]:
            return "evaluation.json"
        SeriesModel.load(found)
    else:
        TextModel.load(found)
    return "" if "</html>" in (found / "report.html").read_text() else "report.html"


def same_arrays(found: Path, expected: Path, kind: str) -> bool:
    """Whether two containers hold the same bits."""
    arrays, others = (read_arrays(path, kind=kind)[0] for path in (found, expected))
    same_names = arrays.keys() == others.keys()
    return same_names and all(arrays[name].tobytes() == others[name].tobytes() for name in arrays)


_TIMES = frozenset({"elapsed", "seconds", "minutes"})


def _timeless(events: Any) -> list[dict[str, Any]]:
    return [{name: value for name, value in event.items() if name not in _TIMES} for event in events]


def _timeless_tree(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {name: _timeless_tree(value) for name, value in tree.items() if name not in ("seconds", "minutes")}
    return [_timeless_tree(value) for value in tree] if isinstance(tree, list) else tree


def is_leftover(path: Path) -> bool:
    """Whether a file is one that a killed process had not finished."""
    return path.name.startswith(".") and path.suffix in (".tmp", ".partial")


def damage(path: Path) -> list[str]:
    """What is damaged in a run folder, at any moment of a run: whatever has its name must be whole."""
    found = []
    for file in sorted(path.rglob("*")) if path.is_dir() else []:
        try:
            if is_leftover(file):
                continue
            if file.suffix == ".safetensors":
                read_arrays(file, kind="checkpoint" if file.parent.name == "checkpoints" else "bundle")
            elif file.name == "config.toml":
                _ = Run(file.parent).description
            elif file.name == "events.jsonl":
                list(Run(file.parent).events())
            elif file.suffix == ".json":
                json.loads(file.read_text())
            elif file.suffix == ".html" and "</html>" not in file.read_text():
                found.append(f"{file.name} is cut off")
        except (ElmanError, ValueError, OSError) as error:
            found.append(f"{file.name}: {error}")
    return found


PHASES = {
    "start": "training",
    "resume": "training",
    "update": "training",
    "recovery": "training",
    "validation": "after a validation",
    "sample": "after a sample",
    "checkpoint": "writing a checkpoint",
    "end": "after the end: scores and report",
}


@dataclass(frozen=True)
class Trace:
    """What a run had logged, and left half written, at one moment."""

    events: int
    leftovers: frozenset[str]

    @classmethod
    def of(cls, path: Path) -> "Trace":
        """Of the run at `path` now, which need not be there yet."""
        folders = (folder for folder in (path, path / "refit") if (folder / "config.toml").exists())
        events = sum(1 for folder in folders for _ in Run(folder).events())
        return cls(events, frozenset(str(name) for name in path.rglob(".*") if is_leftover(name)))


def phase(path: Path, before: Trace) -> str:
    """Where a process was when it was killed, by what it has logged and left since `before`."""
    if not (path / "config.toml").exists():
        return "before the run folder"
    now = Trace.of(path)
    if now.leftovers - before.leftovers:
        return "while a file was being written"
    if now.events == before.events:
        return "starting, before its first event"
    latest = path / "refit" if (path / "refit" / "events.jsonl").exists() else path
    return PHASES[[event["kind"] for event in Run(latest).events()][-1]]


def limited(size: int) -> tuple[str, ...]:
    """What a command begins with so that it has an address space of so many bytes."""
    return ("sh", "-c", 'ulimit -v "$0" && exec "$@"', str(size // 1024))


@functools.cache
def shim(folder: Path) -> Path | None:
    """The library of faults, compiled; None where there is no C compiler."""
    compiler, target = shutil.which("cc") or shutil.which("gcc"), folder / "shim.so"
    if compiler is None or not sys.platform.startswith("linux"):
        return None
    source = Path(__file__).with_name("campaign_shim.c")
    subprocess.run([compiler, "-O1", "-shared", "-fPIC", "-o", target, source, "-ldl"], check=True)
    return target

"""A run is a folder: everything that shows, resumes or uses a training run reads it, also while it is being written.

config.toml         what was asked for, with every value that was chosen from the data
events.jsonl        one JSON object per line, each with `kind`: start, update, validation, sample, checkpoint, recovery, end
checkpoints/        the last two complete states
best.safetensors    the bundle with the best weights so far
lock                held by the process that writes
"""

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import filelock

from elman.config import from_toml, suggestion, to_toml
from elman.errors import BundleError, RunError
from elman.training.checkpoint import Checkpoints
from elman.training.storage import is_temporary, write_atomically

CONFIG_NAME = "config.toml"
EVENTS_NAME = "events.jsonl"
BEST_NAME = "best.safetensors"

LEFTOVER_SECONDS = 600.0
"""A temporary file older than this is of a process that is gone."""


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 53


_NEEDED = {
    "update": frozenset({"iteration", "loss"}),
    "validation": frozenset({"iteration"}),
    "sample": frozenset({"iteration", "text"}),
}
"""By kind of event, what everybody who reads the log relies on."""

_FITS: dict[str, Callable[[Any], bool]] = {
    "iteration": _is_count,
    "loss": lambda value: isinstance(value, list) and all(map(_is_number, value)),
    "text": lambda value: isinstance(value, str),
    "baselines": lambda value: isinstance(value, dict),
    **dict.fromkeys(("nats", "mae", "elapsed"), _is_number),
}


class Run:
    """A run folder, opened for reading. `Run.create` makes one; `writing()` takes the lock and gives the log of events."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        try:
            if not (self.path / CONFIG_NAME).is_file():
                raise RunError(_not_a_run(self.path))
        except OSError as error:
            raise RunError(f"the run folder {self.path} cannot be read: {error.strerror}; check its name") from None

    @classmethod
    def create(cls, path: Path | str, description: dict[str, Any]) -> "Run":
        """Make the folder and write its `config.toml` from `description` (tables of plain values).

        Raises: `RunError` where a run already stands there or the folder cannot be written.
        """
        path = Path(path)
        try:
            if (path / CONFIG_NAME).exists():
                raise RunError(
                    f"{path} already holds a run: continue it with `elman train --resume {path}`, or name another folder"
                )
            path.mkdir(parents=True, exist_ok=True)
            # A temporary file is of a process that was killed while it wrote the `config.toml` that is about to be written.
            names = (entry.name for entry in path.iterdir() if not is_temporary(entry.name))
            foreign = next((name for name in names if name not in ("lock", "input.txt")), None)
        except OSError as error:
            raise RunError(f"cannot make the run folder {path}: {error.strerror}; name another with --run") from None
        if foreign is not None:
            raise RunError(f"{path} is not empty (it holds {foreign}): name a new folder with --run")
        write_atomically(path / CONFIG_NAME, to_toml(description).encode())
        return cls(path)

    @property
    def description(self) -> dict[str, Any]:
        """The tables of `config.toml`."""
        file = self.path / CONFIG_NAME
        try:
            return from_toml(file.read_text(encoding="utf-8"), str(file))
        except (OSError, UnicodeDecodeError) as error:
            raise RunError(f"{file} cannot be read: {error}") from None

    def settings_and_facts(self, task: str, newest: int) -> tuple[dict[str, Any], dict[str, Any]]:
        """The tables of settings, and the `[run]` table, of a run of `task` whose format is at most `newest`.

        Raises: `RunError` when the run is of another task or format, or has no such table.
        """
        tables = self.description
        facts = tables.pop("run", None)
        if not isinstance(facts, dict) or not isinstance(facts.get("format"), int):
            raise RunError(f"{self.path / CONFIG_NAME} has no [run] table with a format: it was not written by elman")
        if facts["format"] > newest:
            raise RunError(
                f"{self.path} was written by a newer elman (format {facts['format']}, this one reads {newest}): upgrade"
            )
        if facts.get("task") != task:
            raise RunError(f"{self.path} is a run of task {facts.get('task')!r}; a {task} run is expected here")
        return tables, facts

    @property
    def best_path(self) -> Path:
        """Where the best weights are, once there are any."""
        return self.path / BEST_NAME

    @property
    def checkpoints(self) -> Checkpoints:
        """The folder of complete states."""
        return Checkpoints(self.path)

    def events(self, kind: str | None = None) -> Iterator[dict[str, Any]]:
        """The logged events in order, or those of one kind; a last line that is still being written is left out."""
        try:
            with open(self.path / EVENTS_NAME, "rb") as file:
                for number, line in enumerate(file, 1):
                    if not line.endswith(b"\n"):
                        return
                    event = self._parse(line, number)
                    if kind is None or event["kind"] == kind:
                        yield event
        except FileNotFoundError:
            return

    def last_event(self, kind: str) -> dict[str, Any] | None:
        """The newest event of a kind, or None."""
        last = None
        for event in self.events(kind):
            last = event
        return last

    def _parse(self, line: bytes, number: int) -> dict[str, Any]:
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            event = None
        if not isinstance(event, dict) or not isinstance(event.get("kind"), str):
            raise RunError(f"{self.path / EVENTS_NAME}, line {number} is damaged: it is no JSON object with a `kind`")
        lacking = _NEEDED.get(event["kind"], frozenset()) - event.keys()
        wrong = [name for name, fits in _FITS.items() if name in event and not fits(event[name])]
        if lacking or wrong:
            raise RunError(
                f"{self.path / EVENTS_NAME}, line {number} is damaged: {min(lacking or wrong)!r} of its {event['kind'][:40]!r} "
                f"{'is missing' if lacking else 'is not what it should be'}; restore it from a copy"
            )
        return event

    def validated(self, figure: str) -> list[tuple[int, float]]:
        """(iteration, `figure`) of every validation.

        Raises: `RunError` where one lacks it: the run is of another task, or its log was edited.
        """
        found = []
        for event in self.events("validation"):
            if figure not in event:
                raise RunError(
                    f"{self.path / EVENTS_NAME} has a validation at update {event['iteration']} without {figure!r}: "
                    f"the run is of another task, or its log was edited"
                )
            found.append((event["iteration"], event[figure]))
        return found

    @contextlib.contextmanager
    def writing(self) -> Iterator["EventLog"]:
        """Hold the run's lock and append to its events.

        Raises: `RunError` where another process is writing to the run.
        """
        lock = filelock.FileLock(self.path / "lock")
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            raise RunError(f"{self.path} is being written by another process: wait for it or stop it first") from None
        except OSError as error:
            raise RunError(f"cannot write to {self.path}: {error.strerror}; check who may write there") from None
        try:
            try:
                log = EventLog(self.path / EVENTS_NAME)
            except OSError as error:
                raise RunError(
                    f"cannot write to {self.path / EVENTS_NAME}: {error.strerror}; check what it is and who may write it"
                ) from None
            self._tidy()
            with log:
                yield log
        finally:
            lock.release()

    def _tidy(self) -> None:
        """Remove what a killed process left half written. Not what is new: a report may be being written beside the training."""
        with contextlib.suppress(OSError):  # it is in nobody's way
            for entry in list(self.path.iterdir()):
                if is_temporary(entry.name) and time.time() - entry.stat().st_mtime > LEFTOVER_SECONDS:
                    entry.unlink()


class EventLog:
    """Appends events to `events.jsonl`, one line each, handed to the system at once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = open(path, "ab")  # noqa: SIM115 (closed by __exit__)

    def __enter__(self) -> "EventLog":
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):  # every line was flushed; what a full disk refused has been reported
            self._file.close()

    def write(self, kind: str, **values: Any) -> None:
        """Append one event. Raises `RunError` on a full disk."""
        line = json.dumps({"kind": kind, **values}, ensure_ascii=False, allow_nan=False) + "\n"
        with self._refusals():
            self._file.write(line.encode())
            self._file.flush()

    def position(self) -> int:
        """Length of the log in bytes, after everything written so far is safely on disk."""
        with self._refusals():
            os.fsync(self._file.fileno())
        return self._file.tell()

    def truncate(self, position: int) -> None:
        """Forget what was logged behind `position`: what a checkpoint does not know of will happen again.

        Raises: `RunError` where the log is shorter than that: then it is not the one that the checkpoint knows.
        """
        length = self._file.seek(0, os.SEEK_END)
        if length < position:
            raise RunError(
                f"{self.path} has {length} bytes, but the last checkpoint knows of {position}: "
                f"restore it from a copy, or start a new run"
            )
        with self._refusals():
            self._file.truncate(position)
        self._file.seek(0, os.SEEK_END)

    @contextlib.contextmanager
    def _refusals(self) -> Iterator[None]:
        """Inside, what the system refuses is a `RunError`."""
        try:
            yield
        except OSError as error:
            raise RunError(
                f"cannot write to {self.path}: {error.strerror}; free some space there and go on with --resume: "
                f"the last checkpoint is kept"
            ) from None


def bundle_of(path: Path | str) -> Path:
    """The bundle at `path`, or the best one of the run folder there.

    Raises: `RunError` for a folder that is no run, `BundleError` for a run that has none yet.
    """
    path = Path(path)
    if not path.is_dir():
        return path
    best = Run(path).best_path
    if not best.exists():
        raise BundleError(f"{path} has no {best.name} yet: wait for its first validation, or train it longer")
    return best


def default_run_path(name: str, folder: Path | str = "runs") -> Path:
    """`runs/NAME-YYYYMMDD-HHMMSS`, with a number behind it where that is taken."""
    stem = f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
    path, number = Path(folder) / stem, 2
    while path.exists():
        path, number = Path(folder) / f"{stem}-{number}", number + 1
    return path


def _not_a_run(path: Path) -> str:
    if not path.exists():
        siblings = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        hint = suggestion(path.name, siblings)
        return f"there is no run folder {path}{hint or ': name the folder that `elman train` made'}"
    if path.is_file():
        return f"{path} is a file, not a run folder: name the folder that `elman train` made"
    return f"{path} is not a run folder: it has no {CONFIG_NAME}; name the folder that `elman train` made"

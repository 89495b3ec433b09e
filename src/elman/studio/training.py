"""Trainings that the studio starts: each is `elman train` in a process of its own, which survives the page and the studio.

What a training says goes to a file in `.studio/` of the folder of runs, and who it is stands beside it, so that a studio that was
started again can still stop it. Stopping is what Ctrl-C does: the run ends where nothing is lost and can go on later.
"""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from elman.config import Config, Option, options
from elman.errors import ConfigError, DataError, RunError
from elman.training.progress import printable

MOST_UPLOADED = 2 << 30
"""Bytes of a file that may be uploaded; a larger one is better named by its path, and not copied."""

KEPT_LINES = 12
_TAIL = 1 << 16


@dataclass(frozen=True)
class Started:
    """A training that the studio began."""

    name: str
    process: int
    log: Path

    @property
    def alive(self) -> bool:
        """Whether the process is still this training, and no other that got its number since."""
        if self.process in _CHILDREN:
            return _CHILDREN[self.process].poll() is None
        try:
            words = Path(f"/proc/{self.process}/cmdline").read_bytes().split(b"\0")
        except OSError:
            return False
        return b"train" in words and os.fsencode(self.name) in map(os.path.basename, words)

    def said(self) -> list[str]:
        """The last lines of what it said, without what would move a terminal's cursor."""
        try:
            with open(self.log, "rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL))
                text = file.read().decode("utf-8", "replace")
        except OSError:
            return []
        lines = [line.split("\r")[-1].rstrip() for line in text.splitlines()]
        return [printable(line)[:300] for line in lines if line.strip()][-KEPT_LINES:]


class Trainings:
    """Starts, finds and stops the trainings of a folder of runs."""

    def __init__(self, runs: Path, data_folder: Path | None) -> None:
        self.runs, self.data_folder = runs, data_folder
        self.folder = runs / ".studio"

    def start(self, kind: str, source: str, name: str, settings: dict[str, Any], preset: str = "") -> Started:
        """Begin a training of `kind` on `source`; its run is `name` in the folder of runs.

        Raises: `ConfigError` for settings, a name or a source that cannot be; `RunError` where the folder cannot be written or
        has a run of that name.
        """
        if not source.strip():
            raise ConfigError("there is nothing to train on: choose data that is at hand, upload a file or give a path")
        Config().replace(**settings)
        path = self.runs / checked_name(name)
        if path.exists():
            raise RunError(f"there is already a run named {name!r} in {self.runs}: choose another name")
        words = [
            "train",
            kind,
            *flags_of(kind, settings),
            *(["--preset", preset] if preset else []),
            "--run",
            str(path),
        ]
        if self.data_folder is not None:
            words += ["--data-dir", str(self.data_folder)]
        return self._begin(name, [*words, "--no-samples"] if kind == "text" else words, source)

    def resume(self, name: str) -> Started:
        """Go on with a run of the folder.

        Raises: `RunError` where there is no such run, or where the studio is training it already. A process that somebody else
        began is told by the run's lock, and what was started here says so and ends.
        """
        path = self.runs / checked_name(name)
        if not (path / "config.toml").is_file():
            raise RunError(f"there is no run {name!r} in {self.runs}")
        return self._begin(name, ["train", "--resume", str(path)])

    def stop(self, name: str) -> bool:
        """Ask a training that the studio began to stop as Ctrl-C does. False where it is not running, or somebody else began it."""
        found = self.started(name)
        if found is None or not found.alive:
            return False
        os.kill(found.process, signal.SIGINT)
        return True

    def started(self, name: str) -> Started | None:
        """The training of that name, if the studio began it."""
        try:
            found = json.loads((self.folder / f"{name}.json").read_text(encoding="utf-8"))
            return Started(name, int(found["process"]), self.folder / f"{name}.log")
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def all(self) -> list[Started]:
        """Everything that the studio began here, newest first."""
        try:
            files = sorted(self.folder.glob("*.json"), key=lambda file: file.stat().st_mtime, reverse=True)
        except OSError:
            return []
        return [found for file in files[:50] if (found := self.started(file.stem)) is not None]

    def upload_path(self, name: str) -> Path:
        """A new file for what is uploaded: its own name made harmless, in a folder of the studio's.

        Raises: `RunError` where it cannot be made.
        """
        folder = self.folder / "uploads"
        stem, suffix = os.path.splitext(re.split(r"[/\\]", name)[-1])
        stem = re.sub(r"[^\w-]+", "-", stem).strip("-")[:60] or "upload"
        suffix = re.sub(r"[^\w.]", "", suffix)[:12]
        path, number = folder / f"{stem}{suffix}", 2
        try:
            folder.mkdir(parents=True, exist_ok=True)
            while True:
                try:
                    path.touch(exist_ok=False)  # taken from now on, whoever else uploads the same name
                    return path
                except FileExistsError:
                    path, number = folder / f"{stem}-{number}{suffix}", number + 1
        except OSError as error:
            raise RunError(f"cannot write in {folder}: {error.strerror}; check who may write there") from None

    def _begin(self, name: str, words: list[str], source: str = "") -> Started:
        with _STARTING:
            return self._begin_alone(name, words, source)

    def _begin_alone(self, name: str, words: list[str], source: str) -> Started:
        before = self.started(name)
        if before is not None and before.alive:
            raise RunError(f"the run {name!r} is being trained already: stop it first, or choose another name")
        log = self.folder / f"{name}.log"
        # Behind `--`, whatever a source is called, it is no flag.
        command = [sys.executable, "-m", "elman", *words, *(["--", source] if source else [])]
        environment = {**os.environ, "TERM": "dumb", "COLUMNS": "120"}
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with open(log, "wb") as output:
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env=environment,
                    start_new_session=True,
                )
            (self.folder / f"{name}.json").write_text(json.dumps({"process": process.pid, "began": time.time()}))
        except OSError as error:
            raise RunError(f"cannot begin a training in {self.runs}: {error.strerror or error}") from None
        _CHILDREN[process.pid] = process
        return Started(name, process.pid, log)


_STARTING = threading.Lock()
"""Held while a training is started: two clicks at once begin one, and the second is told."""

_CHILDREN: dict[int, subprocess.Popen] = {}
"""Processes that this studio started: asked now and then, so that none is left as a zombie."""


def reap() -> None:
    """Let go of trainings that have ended."""
    for number in [number for number, child in _CHILDREN.items() if child.poll() is not None]:
        del _CHILDREN[number]


def checked_name(name: str) -> str:
    """The name of a run, which is that of a folder.

    >>> checked_name("my run")
    'my run'

    Raises: `ConfigError` for one that leads elsewhere or that no folder can have.
    """
    name = name.strip()
    if not name or len(name) > 100 or name.startswith((".", "-")) or re.search(r'[/\\\x00-\x1f:*?"<>|]', name):
        raise ConfigError(
            f"a run cannot be called {name[:40]!r}: letters, digits, spaces, - and _, not beginning with . or -"
        )
    return name


def flags_of(kind: str, settings: dict[str, Any]) -> list[str]:
    """The command line's words for settings; those left to the program are left out.

    >>> flags_of("text", {"hidden": 64, "layer_norm": True, "dropout": None})
    ['--hidden=64', '--layer-norm']
    """
    known, words = {option.name: option for option in options_of(kind)}, []
    for name, value in settings.items():
        option = known[name]
        if value is None or value in ((), ""):
            continue
        if option.kind is bool:
            words.append(option.flag if value else option.flag.replace("--", "--no-", 1))
        elif option.many:
            words += [option.flag, *map(str, value)]
        else:
            words.append(f"{option.flag}={value}")
    return words


def options_of(kind: str) -> Iterable[Option]:
    """The settings that a training of `kind` knows."""
    return [option for option in options() if option.group in ("network", "training", kind)]


def problem_of(error: Exception, names: Iterable[str]) -> str:
    """The setting that an error is about; empty where it is about none of `names`."""
    words = re.findall(r"[a-z_]+", str(error))[:3]
    return next((name for name in words if name in set(names)), "")


async def keep_upload(trainings: Trainings, file: Any) -> Path:
    """Keep an uploaded file. Raises: `DataError` for one that is too large or empty."""
    size = file.size()
    if size > MOST_UPLOADED:
        raise DataError(
            f"{file.name} has {size:,} bytes; at most {MOST_UPLOADED:,} are uploaded: give its path instead"
        )
    if size == 0:
        raise DataError(f"{file.name} is empty")
    path = trainings.upload_path(file.name)
    try:
        await file.save(path)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise RunError(f"{file.name} cannot be kept: {error.strerror}") from None
    return path

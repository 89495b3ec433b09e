"""The runs of a folder, followed while they are written: each log is read once for all who look, and only what is new of it.

A run folder is whatever somebody left there: damaged, half copied, gone while it is looked at. None of that is an exception here;
a `WatchedRun` says its problem in words and keeps what it had read.
"""

import json
import math
import os
import threading
import time
from array import array
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from elman.config import from_toml
from elman.errors import ConfigError
from elman.reports.timeline import symbols_per_loss
from elman.training.runs import BEST_NAME, CONFIG_NAME, EVENTS_NAME

FRESH_SECONDS = 0.15
"""A log that was read less than this ago is not looked at again, however many ask."""

ALIVE_SECONDS = 60.0
"""Where the system does not tell who holds a lock, a run that wrote this recently is taken to be training."""

MOST_POINTS = 250
"""Points of a curve that are handed out, each the mean of what it stands for: more are only more to send and to draw."""

MOST_RUNS = 500
_CHUNK = 1 << 22


@dataclass
class Sample:
    """What the network wrote after `iteration` updates; validation: the newest loss by then, or None."""

    iteration: int
    text: str
    validation: float | None
    elapsed: float | None


@dataclass
class Curves:
    """Everything logged so far, one number per update or per block of updates."""

    losses: array = field(default_factory=lambda: array("f"))
    starts: array = field(default_factory=lambda: array("q"))
    sizes: array = field(default_factory=lambda: array("q"))
    learning_rate: array = field(default_factory=lambda: array("d"))
    gradient_norm: array = field(default_factory=lambda: array("d"))
    speed: array = field(default_factory=lambda: array("d"))

    def add(self, event: dict[str, Any]) -> None:
        """One event of kind `update`."""
        losses = event["loss"]
        if not isinstance(losses, list):
            raise TypeError("the losses of an update are a list")
        try:
            found = array("f", losses)
        except TypeError:
            found = array("f", map(_number, losses))
        first = int(event["iteration"])
        if not 0 <= first < 1 << 53:
            raise ValueError("updates are counted from 0, and floats count them exactly")
        rates = [_number(event.get(name)) for name in ("learning_rate", "gradient_norm", "symbols_per_second")]
        # Nothing is kept of an event before all of it is known to be sound.
        self.starts.append(first)
        self.sizes.append(len(losses))
        self.losses.extend(found)
        for curve, rate in zip((self.learning_rate, self.gradient_norm, self.speed), rates, strict=True):
            curve.append(rate)


class WatchedRun:
    """One run folder; `refresh` reads what was added to it since the last time."""

    def __init__(self, path: Path) -> None:
        self.path, self.name = path, path.name
        self._lock = threading.Lock()
        self._read_at = -math.inf
        self._forget()

    def _forget(self) -> None:
        self.description: dict[str, Any] = {}
        self.start: dict[str, Any] = {}
        self.end: dict[str, Any] | None = None
        self.curves = Curves()
        self.validations: list[tuple[int, float]] = []
        self.samples: list[Sample] = []
        self.elapsed: float | None = None
        self.problem = ""
        self.version = 0
        """Grows with everything that is read: who has seen this number has seen it all."""
        self._thin: dict[tuple[str, str, int], tuple[int, list[list[float]]]] = {}
        self._position, self._line, self._inode = 0, 0, -1
        self._newest = b""  # the line before `_position`

    @property
    def kind(self) -> str:
        """ "text", "series", or "" where the folder does not say."""
        about = self.description.get("run")
        kind = about.get("task") if isinstance(about, dict) else None
        return kind if kind in ("text", "series") else ""

    @property
    def iteration(self) -> int:
        """Updates so far."""
        return int(self.curves.starts[-1] + self.curves.sizes[-1]) if self.curves.starts else 0

    @property
    def best(self) -> float | None:
        """The best figure of validation: nats per symbol, or the mean absolute error."""
        return min((score for _, score in self.validations), default=None)

    @property
    def has_model(self) -> bool:
        """Whether there are weights to use."""
        return (self.path / BEST_NAME).is_file()

    @property
    def state(self) -> str:
        """ "training", "finished", "stopped" or "broken"."""
        if self.problem and not self.description:
            return "broken"
        if self.end is not None:
            return "finished"
        return "training" if _is_written(self.path) else "stopped"

    def refresh(self, *, at_least: float = FRESH_SECONDS) -> int:
        """Read what is new, if nobody did in the last `at_least` seconds. Returns `version`."""
        with self._lock:
            if time.monotonic() - self._read_at >= at_least:
                try:
                    self._read()
                except OSError as error:
                    self._say(error.strerror or "it cannot be read")
                self._read_at = time.monotonic()
            return self.version

    def _say(self, problem: str) -> None:
        if problem != self.problem:
            self.problem, self.version = problem, self.version + 1

    def _read(self) -> None:
        if not self.description:
            self._describe()
        events = self.path / EVENTS_NAME
        if not events.exists():
            self._say("" if (self.path / CONFIG_NAME).exists() else "gone")
            return
        with open(events, "rb") as file:
            status = os.fstat(file.fileno())
            if status.st_ino != self._inode or not self._goes_on(file):
                # Another log stands in its place, or a resumed run has cut off what will happen again.
                description, version = self.description, self.version
                self._forget()
                self.description, self.version, self._inode = description, version + 1, status.st_ino
            file.seek(self._position)
            rest = b""
            while chunk := file.read(_CHUNK):
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    if not self._take(line):
                        return
        self._say("")

    def _goes_on(self, file: BinaryIO) -> bool:
        """Whether the newest line that was read still stands where it stood: a log that was cut off may have grown since."""
        file.seek(self._position - len(self._newest))
        return file.read(len(self._newest)) == self._newest

    def _describe(self) -> None:
        file = self.path / CONFIG_NAME
        try:
            self.description = from_toml(file.read_text(encoding="utf-8"), str(file))
        except FileNotFoundError:
            raise OSError(0, f"{CONFIG_NAME} is missing: this is no run folder") from None
        except (UnicodeDecodeError, ConfigError) as error:
            raise OSError(0, f"{CONFIG_NAME} is damaged: {error}") from None

    def _take(self, line: bytes) -> bool:
        """One whole line of the log; False where it is damaged: behind it nothing is believed."""
        try:
            self._event(json.loads(line.decode()))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError):
            self._say(f"line {self._line + 1} of {EVENTS_NAME} is damaged")
            return False
        self._newest = line + b"\n"
        self._position += len(self._newest)
        self._line += 1
        self.version += 1
        return True

    def _event(self, event: dict[str, Any]) -> None:
        kind = event["kind"]
        elapsed = event.get("elapsed")
        # Before anything is kept: a line that is damaged is read again as soon as the log grows.
        elapsed = float(elapsed) if isinstance(elapsed, int | float) else self.elapsed
        if kind == "update":
            self.curves.add(event)
        elif kind == "validation":
            score = event["nats"] if "nats" in event else event["mae"]
            self.validations.append((int(event["iteration"]), float(score)))
        elif kind == "sample":
            newest = self.validations[-1][1] if self.validations else None
            sample = Sample(int(event["iteration"]), str(event["text"]), newest, event.get("elapsed"))
            if self.samples and self.samples[-1].iteration == sample.iteration:
                self.samples.pop()
            self.samples.append(sample)
        elif kind == "start":
            self.start = event
        elif kind == "resume":
            self.end = None
        elif kind == "end":
            self.end = event
        self.elapsed = elapsed

    def loss_curve(self, scale: str = "linear", points: int = MOST_POINTS) -> list[list[float]]:
        """[update, mean loss], thinned to about `points` stretches that are equally wide on the scale, "linear" or "log"."""
        return self._thinned("losses", scale, points)

    def block_curve(self, name: str, scale: str = "linear", points: int = MOST_POINTS) -> list[list[float]]:
        """[update, value] of `learning_rate`, `gradient_norm` or `speed`, thinned in the same way."""
        return self._thinned(name, scale, points)

    def _thinned(self, name: str, scale: str, points: int) -> list[list[float]]:
        """A curve as far as it was read, thinned once for all who look; another thread may be reading on."""
        with self._lock:
            version, found = self._thin.get((name, scale, points), (-1, []))
            if version != self.version:
                found = self._thinned_anew(name, scale, points)
                self._thin[name, scale, points] = self.version, found
            return found

    def _thinned_anew(self, name: str, scale: str, points: int) -> list[list[float]]:
        values = np.array(getattr(self.curves, name), np.float64)
        if not len(values):
            return []
        starts = np.array(self.curves.starts)
        if name != "losses":
            return _means(starts + 1, values, scale, points)
        sizes = np.array(self.curves.sizes)
        numbers = np.repeat(starts - (np.cumsum(sizes) - sizes), sizes) + np.arange(len(values)) + 1
        symbols = symbols_per_loss(self.description) if self.kind == "text" else 1
        return _means(numbers, values / symbols, scale, points)


class RunsIndex:
    """The runs below a folder. One for all pages of a studio."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._runs: dict[Path, WatchedRun] = {}
        self._lock = threading.Lock()

    def runs(self) -> list[WatchedRun]:
        """The runs that are there now, newest first, and what was read of them; at most `MOST_RUNS`. Call it off the event loop."""
        try:
            paths = [entry for entry in self.folder.iterdir() if entry.is_dir() and not entry.name.startswith(".")]
        except OSError:
            paths = []
        paths = sorted(paths, key=_changed, reverse=True)[:MOST_RUNS]
        found = [self.run(path) for path in paths]
        for run in found:
            run.refresh(at_least=2.0)
        return [run for run in found if run.description or run.problem]

    def run(self, path: Path) -> WatchedRun:
        """The run at `path`, watched from now on."""
        with self._lock:
            return self._runs.setdefault(path, WatchedRun(path))

    def named(self, name: str) -> WatchedRun | None:
        """The run of that name in the folder, or at that path; None where there is none and none was read before."""
        path = self.folder / name
        known = self._runs.get(path)
        return known or (self.run(path) if name and (path / CONFIG_NAME).is_file() else None)


def _means(numbers: np.ndarray, values: np.ndarray, scale: str, points: int) -> list[list[float]]:
    """Means over stretches of equal width; what is not finite is left out."""
    keep = np.isfinite(values)
    numbers, values = numbers[keep], values[keep]
    if len(values) <= points:
        return [[float(n), float(f"{v:.5g}")] for n, v in zip(numbers, values, strict=True)]
    places = np.log(numbers) if scale == "log" else numbers.astype(float)
    stretch = ((places - places[0]) * (points / max(places[-1] - places[0], 1e-12))).astype(int).clip(0, points - 1)
    counts = np.bincount(stretch, minlength=points)
    some = counts > 0
    at = np.bincount(stretch, numbers, minlength=points)[some] / counts[some]
    mean = np.bincount(stretch, values, minlength=points)[some] / counts[some]
    return [[round(float(n), 1), float(f"{v:.5g}")] for n, v in zip(at, mean, strict=True)]


def _number(value: Any) -> float:
    return value if type(value) is float else float(value) if isinstance(value, int) else math.nan


def _changed(path: Path) -> float:
    try:
        events = path / EVENTS_NAME
        return (events if events.exists() else path).stat().st_mtime
    except OSError:
        return 0.0


def _is_written(path: Path) -> bool:
    """Whether a process holds the run's lock, which is never touched: Linux says so, elsewhere the age of the log does."""
    try:
        inode = (path / "lock").stat().st_ino
        locks = Path("/proc/locks").read_text()
        return any(line.split()[5].rsplit(":", 1)[-1] == str(inode) for line in locks.splitlines() if "->" not in line)
    except (OSError, IndexError):
        return time.time() - _changed(path) < ALIVE_SECONDS

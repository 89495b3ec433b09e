"""What a person sees while a network trains: a live line in a terminal, plain lines elsewhere, nothing in a library call."""

import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.status import Status as Waiting
from rich.table import Table
from rich.text import Text

WAITING_SECONDS = 2.0
"""What takes no longer needs no line of progress."""


@dataclass(frozen=True)
class Status:
    """Where a run stands. Times in seconds; losses in the unit of the task's loss; None: not known yet.

    noun: what is learnt from, "characters" or "forecasts". in_words: a validation score as people read it.
    """

    iteration: int
    steps: int | None
    progress: float
    elapsed: float
    seconds_left: float
    loss: float | None
    smoothed: float | None
    validation: float | None
    best: float | None
    learning_rate: float | None = None
    gradient_norm: float | None = None
    symbols_per_second: float | None = None
    noun: str = "characters"
    in_words: Callable[[float], str] = field(default=lambda nats: in_bits(nats))


class Reporter:
    """Says nothing: the interface, and what a library call uses."""

    def working(self, stage: str, share: float) -> None:
        """Something before the training takes time: "reading", "encoding", ...; `share` of it, 0 to 1, is done."""

    def started(self, status: Status) -> None:
        """Training starts, or goes on."""

    def updated(self, status: Status) -> None:
        """A block of updates is done."""

    def validated(self, status: Status, better: bool) -> None:
        """A validation is done; `better`: it is the best so far."""

    def sampled(self, status: Status, text: str) -> None:
        """A sample was taken for the timeline."""

    def message(self, text: str) -> None:
        """Something the user should know."""

    def finished(self, status: Status, ending: str) -> None:
        """Training is over: "finished", "stopped early" or "interrupted"."""

    def pause(self) -> None:
        """Stop showing what goes on: a stage is over, or an error is to be told."""


class PlainReporter(Reporter):
    """One line every few seconds and at every validation, for logs and pipes."""

    def __init__(self, stream: TextIO | None = None, every_seconds: float = 5.0, samples: bool = True) -> None:
        self.stream = stream or sys.stderr
        self.every_seconds = every_seconds
        self.samples = samples
        self._next = 0.0

    def working(self, stage: str, share: float) -> None:
        if self._next == 0.0:
            self._next = time.monotonic() + WAITING_SECONDS  # what is soon over is not worth a line
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + self.every_seconds
            self.message(f"{stage}: {share:.0%}")

    def updated(self, status: Status) -> None:
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + self.every_seconds
            self.message(f"{describe(status)}  {duration(status.seconds_left)} left")

    def validated(self, status: Status, better: bool) -> None:
        if status.validation is not None:
            self.message(
                f"update {status.iteration:,}: validation {status.in_words(status.validation)}{' (best)' if better else ''}"
            )

    def sampled(self, status: Status, text: str) -> None:
        if self.samples:
            self.message(f"--- {title_of(status)} ---\n{text}\n---")

    def message(self, text: str) -> None:
        print(text, file=self.stream, flush=True)

    def finished(self, status: Status, ending: str) -> None:
        self.message(f"{ending} at update {status.iteration:,} after {duration(status.elapsed)}")


class TerminalReporter(Reporter):
    """A live panel at the foot of the terminal; samples scroll by above it."""

    def __init__(self, console: Console | None = None, samples: bool = True) -> None:
        self.console = console or Console(stderr=True)
        self.samples = samples
        self._live: Live | None = None
        self._status: Status | None = None
        self._waiting: Waiting | None = None

    def working(self, stage: str, share: float) -> None:
        if self._waiting is None:
            self._waiting = self.console.status("")
            self._waiting.start()
        self._waiting.update(f"{stage}: {share:.0%}" if share > 0 else stage)

    def started(self, status: Status) -> None:
        self.pause()
        self._status = status
        self._live = Live(self._panel(), console=self.console, refresh_per_second=4, transient=True)
        self._live.start()

    def updated(self, status: Status) -> None:
        self._status = status
        if self._live is not None:
            self._live.update(self._panel())

    def validated(self, status: Status, better: bool) -> None:
        if status.validation is not None:
            style = "green" if better else "yellow"
            line = f"update {status.iteration:>7,}  validation {status.in_words(status.validation)}"
            self.console.print(Text(line + ("  best so far" if better else ""), style=style))

    def sampled(self, status: Status, text: str) -> None:
        if self.samples:
            panel = Panel(Text(printable(text)), title=title_of(status), title_align="left", border_style="cyan")
            self.console.print(panel)

    def message(self, text: str) -> None:
        self.console.print(Text(text))

    def pause(self) -> None:
        for display in (self._live, self._waiting):
            if display is not None:
                display.stop()
        self._live = self._waiting = None

    def finished(self, status: Status, ending: str) -> None:
        self.pause()
        style = "bold green" if ending != "interrupted" else "bold yellow"
        self.console.print(
            Text(f"{ending} at update {status.iteration:,} after {duration(status.elapsed)}", style=style)
        )

    def _panel(self) -> Group:
        status = self._status
        assert status is not None
        bar = Table.grid(padding=(0, 1), expand=True)
        bar.add_column(ratio=1)
        bar.add_column(justify="right", no_wrap=True)
        left = "starting" if status.iteration == 0 else f"{duration(status.seconds_left)} left"
        bar.add_row(ProgressBar(total=1.0, completed=status.progress), f"{status.progress:4.0%}  {left}")
        return Group(bar, Text(describe(status), overflow="ellipsis", no_wrap=True))


def describe(status: Status) -> str:
    """One line with everything: "update 1,200  loss 1.523  validation 1.601 nats (2.310 bits)  ..."."""
    parts = [f"update {status.iteration:,}" + (f" of {status.steps:,}" if status.steps else "")]
    if status.loss is not None:
        parts.append(f"loss {status.loss:.3f}")
    if status.validation is None and status.smoothed is not None:
        parts.append(f"smoothed {status.smoothed:.3f}")
    if status.validation is not None:
        parts.append(f"validation {status.in_words(status.validation)}")
    if status.learning_rate is not None:
        parts.append(f"rate {status.learning_rate:.2g}")
    if status.gradient_norm is not None:
        parts.append(f"gradient {status.gradient_norm:.2g}")
    if status.symbols_per_second is not None:
        parts.append(f"{rate(status.symbols_per_second)} {status.noun}/s")
    return "  ".join(parts)


def title_of(status: Status) -> str:
    """ "sample at update 300, smoothed loss 85.2": the heading of a sample, with the best figure there is."""
    title = f"sample at update {status.iteration:,}"
    if status.validation is not None:
        return f"{title}, validation {status.validation:.3f} nats"
    return title if status.smoothed is None else f"{title}, smoothed loss {status.smoothed:.3f}"


def in_bits(nats: float) -> str:
    """ "1.498 nats (2.161 bits) per character"."""
    return f"{nats:.3f} nats ({nats / math.log(2):.3f} bits)"


def rate(value: float) -> str:
    """ "950", "52.1 k", "1.25 M"."""
    if value >= 1e6:
        return f"{value / 1e6:.2f} M"
    return f"{value / 1e3:.1f} k" if value >= 1e4 else f"{value:,.0f}"


def duration(seconds: float) -> str:
    """ "45 s", "3 min 05 s", "2 h 10 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def printable(text: str) -> str:
    """`text` with control characters, which could move a terminal's cursor, shown as dots; newlines and tabs stay."""
    return "".join(c if c in "\n\t" or (c.isprintable() or ord(c) > 0x9F) else "·" for c in text)


def reporter_for(stream: TextIO | None = None, *, quiet: bool = False, samples: bool = True) -> Reporter:
    """A live panel where `stream` (standard error by default) is a terminal, plain lines where it is not."""
    stream = stream or sys.stderr
    if quiet:
        return Reporter()
    if stream.isatty():
        return TerminalReporter(Console(file=stream), samples=samples)
    return PlainReporter(stream, samples=samples)

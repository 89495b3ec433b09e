"""What a run wrote while it learned, from noise to sentences, in a terminal (lecture L11).

A *moment* is a sample with what was known of the run when it was taken. The log is read once for all of them, so that a run that is
being written is seen as it was at one instant.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.panel import Panel
from rich.text import Text

from elman.text.run import TextRun
from elman.training.loop import SAMPLE_MILESTONES
from elman.training.progress import duration, in_bits, printable

RECENT_UPDATES = 50
"""A single update's loss is noise: what is called the training loss at a moment is the mean over this many updates before it."""


@dataclass(frozen=True)
class Moment:
    """A sample of the timeline. Losses in nats per symbol, `elapsed` in seconds; None: not known at that time.

    validation: the newest validation loss at that time. training: the mean loss of the updates just before.
    """

    iteration: int
    text: str
    validation: float | None
    training: float | None
    elapsed: float | None

    @property
    def loss(self) -> str:
        """The best figure there is, in words: "validation 1.492 nats (2.152 bits)"; empty where there is none."""
        if self.validation is not None:
            return f"validation {in_bits(self.validation)}"
        return "" if self.training is None else f"training {in_bits(self.training)}"


@dataclass
class History:
    """Everything the log of a run says, read in one pass. Losses are in nats per symbol, whatever the run adds up."""

    description: dict[str, Any]
    start: dict[str, Any] = field(default_factory=dict)
    end: dict[str, Any] | None = None
    iterations: list[int] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    blocks: list[dict[str, Any]] = field(default_factory=list)
    validations: list[tuple[int, float]] = field(default_factory=list)
    moments: list[Moment] = field(default_factory=list)
    elapsed: float = 0.0

    @property
    def iteration(self) -> int:
        """The updates done."""
        return self.iterations[-1] + 1 if self.iterations else 0

    @property
    def best(self) -> tuple[int, float] | None:
        """(iteration, nats) of the best validation."""
        return min(self.validations, key=lambda pair: pair[1], default=None)

    @property
    def training(self) -> float | None:
        """The mean loss of the last updates."""
        recent = self.losses[-RECENT_UPDATES:]
        return sum(recent) / len(recent) if recent else None

    @property
    def baselines(self) -> dict[str, Any]:
        """What the log's first line says that other methods score; empty where it says nothing."""
        found = self.start.get("baselines")
        return found if isinstance(found, dict) else {}


def read_history(run: TextRun) -> History:
    """The whole log of `run`, up to the last complete line. Raises: `RunError` where a line is damaged."""
    history = History(run.description)
    scale = symbols_per_loss(history.description)
    for event in run.events():
        kind = event["kind"]
        history.elapsed = event.get("elapsed", history.elapsed)
        if kind == "start":
            history.start = event
        elif kind == "resume":
            history.end = None
        elif kind == "end":
            history.end = event
        elif kind == "update":
            finite = [(event["iteration"] + i, x / scale) for i, x in enumerate(event["loss"]) if math.isfinite(x)]
            history.iterations += [iteration for iteration, _ in finite]
            history.losses += [loss for _, loss in finite]
            history.blocks.append({name: value for name, value in event.items() if name != "loss"})
        elif kind == "validation" and "nats" in event:
            history.validations.append((event["iteration"], event["nats"]))
        elif kind == "sample":
            newest = history.validations[-1][1] if history.validations else None
            moment = Moment(event["iteration"], event["text"], newest, history.training, event.get("elapsed"))
            if history.moments and history.moments[-1].iteration == moment.iteration:
                history.moments.pop()
            history.moments.append(moment)
    return history


def symbols_per_loss(description: dict[str, Any]) -> int:
    """What a logged training loss is to be divided by: the symbols of an update where the run adds them up, else 1."""
    training = description.get("training", {})
    if not isinstance(training, dict) or training.get("reduction") != "sum":
        return 1
    batch, unroll = training.get("batch", 1), training.get("unroll", 1)
    return batch * unroll if isinstance(batch, int) and isinstance(unroll, int) and batch * unroll > 0 else 1


def timeline_facts(run: TextRun) -> list[dict[str, Any]]:
    """Every sample of `run`, oldest first, as plain values for `--json`.

    Keys: `iteration`, `text`, `validation` and `training` (nats per symbol, or None), `elapsed` (seconds).
    """
    return [vars(moment).copy() for moment in read_history(run).moments]


def show_timeline(run: TextRun, console: Console, *, iteration: int | None = None, every: bool = False) -> None:
    """Print samples of `run`, oldest first: those nearest to the lecture's iterations and the last one.

    iteration: only the sample nearest to it. every: all samples.
    """
    history = read_history(run)
    if not history.moments:
        console.print(Text(_why_empty(run, history)))
        return
    moments = history.moments if every else chosen_moments(history.moments)
    if iteration is not None:
        wanted = iteration
        moments = [min(history.moments, key=lambda moment: abs(moment.iteration - wanted))]
        if moments[0].iteration != iteration:
            console.print(Text(f"the sample nearest to update {iteration:,}:", style="dim"))
    for moment in moments:
        title = Text(_heading(moment), style="bold")
        panel = Panel(Text(printable(moment.text)), title=title, title_align="left", border_style="cyan")
        # Whatever the console does elsewhere: within a frame a long line is folded and not cut.
        console.print(panel, soft_wrap=False)
    console.print(Text(_footer(history, len(moments)), style="dim"))


def chosen_moments(moments: Sequence[Moment]) -> list[Moment]:
    """The moments nearest to 100, 300, 700, 2000, the doublings from there, and the last; of a shorter run, first and last."""
    last = moments[-1].iteration
    targets = [*milestones(last), last] if last >= SAMPLE_MILESTONES[0] else [moments[0].iteration, last]
    nearest = {min(range(len(moments)), key=lambda i: abs(moments[i].iteration - target)) for target in targets}
    return [moments[index] for index in sorted(nearest)]


def milestones(last: int) -> Iterator[int]:
    """The iterations up to `last` that the timeline stops at: 100, 300, 700, 2000, 4000, 8000, ...

    >>> from elman.reports.timeline import milestones
    >>> list(milestones(5000))
    [100, 300, 700, 2000, 4000]
    """
    yield from (milestone for milestone in SAMPLE_MILESTONES if milestone <= last)
    milestone = SAMPLE_MILESTONES[-1] * 2
    while milestone <= last:
        yield milestone
        milestone *= 2


def _heading(moment: Moment) -> str:
    parts = [f"update {moment.iteration:,}"]
    if moment.loss:
        parts.append(moment.loss)
    if moment.elapsed is not None:
        parts.append(f"after {duration(moment.elapsed)}")
    return " · ".join(parts)


def _footer(history: History, shown: int) -> str:
    total = len(history.moments)
    parts = [f"{shown:,} of {total:,} samples" if shown < total else f"{total:,} sample{'s' if total > 1 else ''}"]
    if history.end is None:
        parts.append(f"the run has not ended; it is at update {history.iteration:,}")
    return "; ".join(parts)


def _why_empty(run: TextRun, history: History) -> str:
    every = history.description.get("training", {}).get("sample_every")
    if every == 0:
        return f"{run.path} has no samples: it was told to take none (sample_every = 0)"
    ended = history.end is not None
    first = SAMPLE_MILESTONES[0] if every is None else every
    state = f"it ended at update {history.iteration:,}" if ended else f"it is at update {history.iteration:,}"
    return f"{run.path} has no samples{'' if ended else ' yet'}: {state}, and the first is due at update {first:,}"

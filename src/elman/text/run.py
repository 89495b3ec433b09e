"""A text run as a person meets it: its model, its figures, its samples; a notebook shows them by itself."""

import html
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from elman.text.model import TextModel
from elman.training.runs import Run


@dataclass(frozen=True)
class Sample:
    """A sample of the timeline: what the network wrote after `iteration` updates."""

    iteration: int
    text: str


class TextRun(Run):
    """A run of a text model. `TextRun(path)` opens one, also while it is being trained."""

    def __init__(self, path: Path | str, *, interrupted: bool = False) -> None:
        Run.__init__(self, path)
        self.interrupted = interrupted

    def model(self) -> TextModel:
        """The model with the best weights so far."""
        return TextModel.load(self.path)

    @property
    def samples(self) -> list[Sample]:
        """The timeline of samples, oldest first (lecture L11)."""
        return [Sample(event["iteration"], event["text"]) for event in self.events("sample")]

    @property
    def validations(self) -> list[tuple[int, float]]:
        """(iteration, nats per character) of every validation."""
        return self.validated("nats")

    @property
    def losses(self) -> list[float]:
        """The raw loss of every update, in order."""
        return [loss for event in self.events("update") for loss in event["loss"]]

    @property
    def baselines(self) -> dict[str, Any]:
        """What knowing nothing, letter frequencies and n-grams score on the same held-out text, in nats per character."""
        start = self.last_event("start")
        return dict(start.get("baselines", {})) if start else {}

    @property
    def best(self) -> float | None:
        """The best validation loss, in nats per character."""
        return min((nats for _, nats in self.validations), default=None)

    def figure(self) -> Any:
        """The loss curve as a Matplotlib figure: updates, validations, and the baselines as lines."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(8, 4), layout="constrained")
        axes = figure.subplots()
        losses = self.losses
        width = max(1, len(losses) // 400)
        means = [sum(losses[i : i + width]) / len(losses[i : i + width]) for i in range(0, len(losses), width)]
        axes.plot([i + width / 2 for i in range(0, len(losses), width)], means, color="#9db4c0", label="training")
        if self.validations:
            axes.plot(*zip(*self.validations, strict=True), "o-", color="#1f6f8b", label="validation")
        for name, label in (("unigram", "letter frequencies"), ("ngram", "n-grams")):
            nats = self.baselines.get(name)
            if nats is not None:
                axes.axhline(nats, linestyle="--", linewidth=1, color="#c08552")
                axes.annotate(label, (0, nats), xytext=(4, 3), textcoords="offset points", color="#c08552", fontsize=8)
        axes.set_xlabel("update")
        axes.set_ylabel("loss, nats per character")
        axes.legend(frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
        return figure

    def __repr__(self) -> str:
        best = "not validated yet" if self.best is None else f"best validation {self.best:.4f} nats per character"
        return f"TextRun({str(self.path)!r}: {len(self.losses)} updates, {best}, {len(self.samples)} samples)"

    def _repr_html_(self) -> str:
        """What a notebook shows: the curve, and the samples from noise to sentences."""
        buffer = io.StringIO()
        self.figure().savefig(buffer, format="svg")
        drawing = buffer.getvalue()
        samples = "".join(
            f"<h4>update {sample.iteration:,}</h4><pre dir='auto' style='white-space:pre-wrap'>{html.escape(sample.text)}</pre>"
            for sample in self.samples
        )
        return f"<p>{html.escape(repr(self))}</p>{drawing[drawing.index('<svg') :]}<details open>{samples}</details>"

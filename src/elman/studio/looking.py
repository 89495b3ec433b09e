"""One text or one stretch of a series with everything that the page Inside shows of it: computed once, or when it is asked for.

The numbers are `elman.insight`'s; here they are kept together and handed out as the views want them. What computes (`rank`,
`memory`, `trajectory`, `gradient`, `attribution`) is called off the event loop.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from elman.errors import DataError
from elman.insight.attribution import Attribution, attribution
from elman.insight.connectivity import what_moved
from elman.insight.features import Feature, series_features, text_features
from elman.insight.memory import Memory, memory
from elman.insight.subjects import Subject, series_subject, text_subject
from elman.insight.surprise import Surprise, text_surprise
from elman.insight.tracing import trace
from elman.insight.units import Activity, Ranking, Saturation, Trajectory, activity_of, rank_units, trajectory
from elman.series import trainer as series_trainer
from elman.series.model import SeriesModel
from elman.series.panel import Panel
from elman.text import trainer as text_trainer
from elman.text.model import TextModel
from elman.text.vocabulary import name_symbols
from elman.training.engine import precision
from elman.training.runs import Run

MOST_CHARACTERS = 10_000
"""Of a text that is looked into at once."""

MOST_STEPS = 5_000
"""Of a series that is looked into at once."""

MEASURED = 2048
"""Steps over which the memory is measured: enough for places that differ, and a moment's work."""

RANKED = 12
"""Units that a ranking shows."""

ALTERNATIVES = 6
"""Symbols that are shown as what was expected of a character."""


@dataclass(frozen=True, eq=False)
class Look:
    """What text and series share: a subject, its units' values (h, of an LSTM tanh(c)), and features of its steps.

    opened: by layer and name, how far the gates are open, `[time, hidden]`, as 16-bit numbers: they are only for coloring.
    """

    subject: Subject
    activity: Activity
    opened: tuple[dict[str, np.ndarray], ...]
    known: dict[str, Feature]

    @property
    def labels(self) -> tuple[str, ...]:
        """What each step is called."""
        return self.subject.labels

    @property
    def sizes(self) -> list[int]:
        """Units of each layer, bottom first."""
        return [values.shape[1] for values in self.activity.values]

    @property
    def gates(self) -> list[str]:
        """Names of the gates that open and close; none for an Elman cell."""
        return list(self.activity.gates[0])

    @property
    def features(self) -> list[str]:
        """Names of the features that vary over the steps, the others left out."""
        return [name for name, feature in self.known.items() if np.ptp(feature.columns(), axis=0).max() > 0]

    def unit(self, layer: int, unit: int) -> np.ndarray:
        """The value of a unit at every step, `[time]`."""
        return self.activity.unit(layer, unit)

    def gate(self, layer: int, name: str, unit: int) -> np.ndarray:
        """How far a unit's gate is open at every step, `[time]`, from 0 to 1."""
        return self.opened[layer][name][:, unit].astype(np.float32)

    def saturation(self, name: str) -> list[Saturation]:
        """How often a gate is nearly shut and nearly open, by layer."""
        return [gates[name] for gates in self.activity.gates]

    def rank(self, feature: str) -> Ranking:
        """The units that follow a feature best.

        Raises: `DataError` where the feature does not vary in both halves, or the steps are too few.
        """
        found = rank_units(self.activity, [self.known[feature]], count=RANKED)
        if not found:
            raise DataError(f"{feature} does not vary in both halves: look at more")
        return found[0]

    def memory(self) -> Memory:
        """How far back the state remembers, over the first `MEASURED` steps."""
        subject = self.subject
        return memory(replace(subject, xs=subject.xs[:MEASURED], labels=subject.labels[:MEASURED]))

    def trajectory(self) -> Trajectory:
        """The path of the top layer in two dimensions."""
        return trajectory(self.activity.values[-1])


@dataclass(frozen=True, eq=False)
class TextLook(Look):
    """A text. left_out: characters that the model does not know, in words; empty where it knows all."""

    model: TextModel
    expected: Surprise
    left_out: str
    _moved: dict[int, np.ndarray] = field(default_factory=dict, repr=False)

    @property
    def losses(self) -> np.ndarray:
        """-log p of each character in nats; 0 for the first, which nothing foretold."""
        return np.nan_to_num(self.expected.losses)

    def gradient(self, place: int) -> np.ndarray:
        """What moved the probability of the character at `place`, `[time]`: gradient x input of the earlier characters."""
        if place not in self._moved:
            with precision(self.subject.dtype):
                self._moved[place] = what_moved(self.subject.network, self.subject.xs, place)
        return self._moved[place]

    def probability(self, place: int) -> float:
        """With which each character was expected."""
        return float(np.exp(-self.expected.losses[place]))

    def alternatives(self, place: int) -> list[tuple[str, float]]:
        """What could have stood at `place`, the likeliest first; nothing for the first character."""
        codes, chances = self.expected.alternatives[place], self.expected.probabilities[place]
        decode = self.model.vocabulary.decode
        return [
            (decode(np.asarray([code])), float(chance))
            for code, chance in zip(codes, chances, strict=True)
            if code >= 0
        ]


@dataclass(frozen=True, eq=False)
class SeriesLook(Look):
    """A stretch of a series. measured: the target at every step, NaN where it was not."""

    model: SeriesModel
    panel: Panel
    measured: np.ndarray

    @property
    def target(self) -> str:
        """The column that is forecast."""
        return self.model.encoding.target

    def attribution(self, place: int) -> Attribution:
        """What moved the forecast made at step `place`."""
        assert self.subject.rows is not None
        return attribution(self.model, self.panel, int(self.subject.rows[place]))


def look_at_text(model: TextModel, text: str) -> TextLook:
    """Look into a text; characters that the model does not know are left out, and it says which.

    Raises: `DataError` where nothing is left, or too much is given.
    """
    if len(text) > MOST_CHARACTERS:
        raise DataError(f"{len(text):,} characters are too many to look at: give at most {MOST_CHARACTERS:,}")
    unknown = model.vocabulary.unknown(text)
    known = model.vocabulary.decode(model.vocabulary.encode(text, unknown="skip"))
    subject = text_subject(model, known)
    expected = text_surprise(model, known, top=ALTERNATIVES)
    features = text_features("".join(subject.labels))
    left_out = name_symbols(unknown) if unknown else ""
    return TextLook(subject, *_activity(subject), features, model, expected, left_out)


def look_at_series(model: SeriesModel, panel: Panel, steps: int) -> SeriesLook:
    """Look into the last steps of the panel's first series, through the first of the model's members.

    Raises: `DataError` for a number of steps that cannot be shown.
    """
    if not 2 <= steps <= MOST_STEPS:
        raise DataError(f"{steps} steps cannot be shown: give 2 to {MOST_STEPS:,}")
    subject = series_subject(model, panel, steps=steps)
    assert subject.rows is not None
    target = model.encoding.target
    features = series_features(panel, subject.rows, target)
    measured = panel.column(target)[subject.rows]
    return SeriesLook(subject, *_activity(subject), features, model, panel, measured)


def _activity(subject: Subject) -> tuple[Activity, tuple[dict[str, np.ndarray], ...]]:
    """The units' values and the gates; the rest of the trace, which is large, is not kept."""
    with precision(subject.dtype):
        traced = trace(subject.network, subject.xs)
    seen = activity_of(traced)
    opened = tuple(
        {name: layer.gates[name].astype(np.float16) for name in gates}
        for layer, gates in zip(traced.layers, seen.gates, strict=True)
    )
    return seen, opened


def text_for(source: str, path: Path, model: TextModel, length: int) -> str:
    """The text to look at: "held_out" from the run at `path`, or a "sample" of the model's own.

    Raises: `DataError` for a length that cannot be shown, or where the run's text is not what it was.
    """
    if not 2 <= length <= MOST_CHARACTERS:
        raise DataError(f"{length} characters cannot be shown: give 2 to {MOST_CHARACTERS:,}")
    if source == "sample":
        return model.sample(length=length, seed=0)
    ready = text_trainer.reopen(Run(path))
    if len(ready.held_out) == 0:
        raise DataError(f"{path} held nothing out (--validation 0): give a text of your own")
    return model.vocabulary.decode(np.asarray(ready.held_out[:length]))


def panel_of(path: Path) -> Panel:
    """The table that the series run at `path` was trained on, read again.

    Raises: `DataError` where it is not at hand any more.
    """
    return series_trainer.reopen(Run(path)).panel

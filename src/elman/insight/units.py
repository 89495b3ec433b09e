"""What single units do: which feature each follows, how saturated its gates are, where it is on, and the path of all of them.

A unit's value is its h, and of an LSTM tanh(c): what it keeps, on the scale of what it shows (as in Karpathy, Johnson & Li 2015,
"Visualizing and understanding recurrent networks"). Whoever looks at hundreds of units finds one that follows anything, so units
are chosen on the first half of a sequence and scored on the second, beside what the same search finds for a feature that is none.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from elman.errors import ConfigError, DataError
from elman.insight.features import Feature
from elman.insight.subjects import Subject
from elman.insight.tracing import LayerTrace, Trace, trace_pieces
from elman.training.engine import precision

LOW, HIGH = 0.1, 0.9
"""A gate below or above is saturated (Karpathy, Johnson & Li 2015, figure 4)."""

ON = 0.3
"""A unit is on where its value passes this, in the direction it is asked in (a threshold as in Strobelt et al. 2018, "LSTMVis")."""


@dataclass(frozen=True, eq=False)
class Saturation:
    """Of one gate, by unit `[hidden]`: its mean, and the shares of steps at which it is shut (below 0.1) and open (above 0.9)."""

    mean: np.ndarray
    shut: np.ndarray
    open: np.ndarray


@dataclass(frozen=True, eq=False)
class Activity:
    """All units over one sequence: of each layer the values `[steps, hidden]` and, by the gate's name, its saturation."""

    values: tuple[np.ndarray, ...]
    gates: tuple[dict[str, Saturation], ...]

    def unit(self, layer: int, unit: int) -> np.ndarray:
        """One unit's values `[steps]`.

        Raises: `ConfigError` for a layer or a unit that is not there.
        """
        if not 0 <= layer < len(self.values):
            raise ConfigError(f"there is no layer {layer + 1}: the network has {len(self.values)}, counted from 1")
        count = self.values[layer].shape[1]
        if not 0 <= unit < count:
            raise ConfigError(f"there is no unit {unit + 1} in layer {layer + 1}: it has {count}, counted from 1")
        return self.values[layer][:, unit]


def activity(subject: Subject) -> Activity:
    """Run the subject's sequence and keep what is about units: 4 bytes per step and unit, whatever else a trace would hold."""
    with precision(subject.dtype):
        return _gathered(trace_pieces(subject.network, subject.xs))


def activity_of(trace: Trace) -> Activity:
    """The same from a trace that is at hand."""
    return _gathered([trace])


def _gathered(pieces: Iterable[Trace]) -> Activity:
    values: list[list[np.ndarray]] = []
    sums: list[dict[str, np.ndarray]] = []
    steps = 0
    for piece in pieces:
        if not values:
            values, sums = [[] for _ in piece.layers], [{} for _ in piece.layers]
        steps += len(piece.top)
        for kept, totals, layer in zip(values, sums, piece.layers, strict=True):
            kept.append(unit_values(layer))
            for name, gate in layer.gates.items():
                if name != "candidate":
                    found = np.stack([gate.sum(0, np.float64), (gate < LOW).sum(0), (gate > HIGH).sum(0)])
                    totals[name] = totals.get(name, 0) + found
    gates = tuple({name: Saturation(*(total / steps)) for name, total in totals.items()} for totals in sums)
    return Activity(tuple(np.concatenate(kept) for kept in values), gates)


def unit_values(layer: LayerTrace) -> np.ndarray:
    """`[time, hidden]`: h, and of an LSTM tanh(c)."""
    is_lstm = layer.carry.shape[1] != layer.hidden.shape[1]
    return np.tanh(layer.memory) if is_lstm else layer.hidden


@dataclass(frozen=True)
class Follower:
    """A unit that follows a feature. score: its correlation on the second half, which had no say; chosen_by: on the first half.

    Layers and units are counted from 0 here and from 1 where people read them.
    """

    layer: int
    unit: int
    score: float
    chosen_by: float


@dataclass(frozen=True, eq=False)
class Ranking:
    """The best followers of a feature, and what the same search scores on nine decoys of it at the most."""

    feature: Feature
    best: tuple[Follower, ...]
    chance: float


def rank_units(activity: Activity, features: Iterable[Feature], *, count: int = 5) -> list[Ranking]:
    """For each feature the `count` units that follow it best, the features that are followed best first.

    A feature on a line: Pearson's correlation, with its sign. A circle: the correlation with that mixture of sine and cosine which
    suits the first half best. A feature that does not vary in both halves is left out.

    Raises: `DataError` for fewer than 20 steps.

        >>> line = np.arange(40.0)
        >>> seen = Activity((np.stack([np.cos(line), -line], axis=1),), ({},))
        >>> [(one.unit, round(one.score, 3)) for one in rank_units(seen, [Feature("line", "", line)], count=1)[0].best]
        [(1, -1.0)]
    """
    steps = len(activity.values[0])
    if steps < 20:
        raise DataError(f"{steps} steps are too few to rank units by: give at least 20")
    states = np.concatenate(activity.values, axis=1)
    halves = _standardized(states[: steps // 2]), _standardized(states[steps // 2 :])
    places = [(layer, unit) for layer, values in enumerate(activity.values) for unit in range(values.shape[1])]
    rankings = []
    for feature in features:
        columns = feature.columns()
        if min(np.ptp(half, axis=0).max() for half in (columns[: steps // 2], columns[steps // 2 :])) == 0:
            continue
        found, held_out = _scores(*halves, [columns, *feature.decoys()])
        order = np.argsort(-np.abs(found[0]), kind="stable")[:count]
        best = tuple(
            Follower(layer, unit, float(held_out[0, place]), float(found[0, place]))
            for place, (layer, unit) in ((int(place), places[place]) for place in order)
        )
        by_chance = np.take_along_axis(held_out[1:], np.abs(found[1:]).argmax(1)[:, None], 1)
        rankings.append(Ranking(feature, best, float(np.abs(by_chance).max())))
    return sorted(rankings, key=lambda ranking: -abs(ranking.best[0].score))


def _standardized(states: np.ndarray) -> np.ndarray:
    """Mean 0 and sum of squares 1 of every unit; zeros for one that never changes."""
    centered = states - states.mean(0)
    norms = np.linalg.norm(centered, axis=0)
    # What is left of a constant after rounding is no change.
    steady = norms <= 1e-5 * np.sqrt(len(states)) * np.maximum(np.abs(states).max(0), 1e-30)
    return centered / np.where(steady, np.inf, norms)


def _scores(first: np.ndarray, second: np.ndarray, candidates: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The correlation of each candidate (its columns) with every unit, `[candidates, units]` twice: on the first half, and that of
    what was fitted there on the second."""
    cut = len(first)
    if candidates[0].shape[1] == 1:
        lines = np.concatenate(candidates, axis=1)
        return _unit_columns(lines[:cut], first).T @ first, _unit_columns(lines[cut:], second).T @ second
    found, held_out = [], []
    for circle in candidates:
        before, after = (half - half.mean(0) for half in (circle[:cut], circle[cut:]))
        weights = np.linalg.lstsq(before.astype(first.dtype), first, rcond=None)[0]
        # Of a least-squares fit to a vector of length 1 the length is the multiple correlation.
        found.append(np.linalg.norm(before @ weights, axis=0))
        held_out.append((_unit_columns(after @ weights, second) * second).sum(0))
    return np.stack(found), np.stack(held_out)


def _unit_columns(columns: np.ndarray, like: np.ndarray) -> np.ndarray:
    """Each column with mean 0 and sum of squares 1; zeros where it never changes."""
    centered = columns - columns.mean(0)
    norms = np.linalg.norm(centered, axis=0)
    return (centered / np.where(norms > 1e-9 * np.abs(columns).max(0), norms, np.inf)).astype(like.dtype)


@dataclass(frozen=True)
class Switched:
    """A unit that is on within the examples: its direction (1 or -1), and the shares of steps it is on inside and elsewhere."""

    layer: int
    unit: int
    direction: int
    inside: float
    outside: float


@dataclass(frozen=True)
class Found:
    """units: those that tell the examples from the rest, best first. examples: where those stand. spans: other places where all of
    the units are on, longest first."""

    units: tuple[Switched, ...]
    examples: tuple[tuple[int, int], ...]
    spans: tuple[tuple[int, int], ...]


def units_by_example(
    activity: Activity, text: str, examples: Sequence[str], *, count: int = 4, threshold: float = ON, spans: int = 20
) -> Found:
    """The units that are on within `examples` wherever these stand in `text` and off elsewhere, and where else they are on.

    After Strobelt et al. 2018, "LSTMVis". A unit that is on when its value is low counts too (direction -1). A span is a
    pair (begin, end) of places in the text, at least two characters long.

    Raises: `DataError` for an example that is empty or does not stand in the text.
    """
    inside, where = np.zeros(len(text), bool), []
    for example in examples:
        begins = [place for place in range(len(text)) if text.startswith(example, place)] if example else []
        if not begins:
            raise DataError(f"the example {example!r} does not stand in the text that is looked at: take a piece of it")
        for begin in begins:
            inside[begin : begin + len(example)] = True
            where.append((begin, begin + len(example)))
    states = np.concatenate(activity.values, axis=1)
    places = [(layer, unit) for layer, values in enumerate(activity.values) for unit in range(values.shape[1])]
    candidates = []
    for direction in (1, -1):
        on = direction * states > threshold
        shares = on[inside].mean(0), on[~inside].mean(0) if not inside.all() else np.zeros(states.shape[1])
        candidates += [
            Switched(layer, unit, direction, float(a), float(b))
            for (layer, unit), a, b in zip(places, *shares, strict=True)
        ]
    best = sorted(candidates, key=lambda unit: unit.outside - unit.inside)[:count]
    together = np.ones(len(text), bool)
    for unit in best:
        together &= unit.direction * activity.values[unit.layer][:, unit.unit] > threshold
    edges = np.flatnonzero(np.diff(np.concatenate([[False], together, [False]]).astype(np.int8)))
    others = [
        (int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True) if b - a > 1 and not inside[a:b].any()
    ]
    others.sort(key=lambda span: (span[0] - span[1], span[0]))
    return Found(tuple(best), tuple(where), tuple(others[:spans]))


@dataclass(frozen=True, eq=False)
class Trajectory:
    """points `[steps, 2]`: the states on their first two principal components; shares: of the variance that each holds."""

    points: np.ndarray
    shares: tuple[float, float]


def trajectory(values: np.ndarray) -> Trajectory:
    """The path of a layer's states `[steps, hidden]` in the plane that shows most of it (principal components).

    The signs of components are arbitrary; here the largest weight of each is positive.
    """
    centered = values.astype(np.float64) - values.mean(0)
    variances, axes = np.linalg.eigh(centered.T @ centered / len(values))
    first = axes[:, ::-1][:, :2]
    if first.shape[1] < 2:  # a network of one unit
        first, variances = np.pad(first, ((0, 0), (0, 1))), np.concatenate([[0.0], variances])
    first = first * np.where(first[np.abs(first).argmax(0), [0, 1]] < 0, -1, 1)
    total = max(float(variances.clip(0).sum()), 1e-30)
    return Trajectory(centered @ first, (float(max(variances[-1], 0)) / total, float(max(variances[-2], 0)) / total))

"""Ridge regression on lags: the strongest of the simple baselines.

For each step a linear regression of what the target changes by, in units of its series, on the row x of `lags.LagDesign`:

    (y_(o+h) - y_t) / s = x w_h        w_h = argmin  mean (…)^2 + strength × |w_h, feature by feature in units of its spread|^2

The constant is not penalized. All series share the weights. The normal equations are added up over chunks of origins in float64, so
that memory never holds rows × lags; after that every strength costs one product (one eigendecomposition of the correlations). The
strength of each step is the one of `STRENGTHS` with the least absolute error on the last fifth of training, by time, of weights
learned on what came before it; the weights are then learned on all of it. Absolute, because forecasts are scored by it: on the
hourly Jena file the squared error of that fifth is level from 1e-8 to 0.1 and tells nothing.

At most `MOST_ORIGINS` origins are used, evenly spaced and always the same, of which every step's target was measured. If gaps leave
too few of those, a missing target counts as the straight line between its neighbors in training. Origins whose lags reach behind
the beginning of their series are left out, unless that takes more than half.

Reference: Hoerl & Kennard 1970, "Ridge regression".
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from elman.series.baselines.lags import LagDesign
from elman.series.baselines.residuals import PointForecaster
from elman.series.panel import Horizon, Panel
from elman.series.scoring.origins import chunks, evenly, last_values, series_of, training_origins, truth

MOST_ORIGINS = 200_000
STRENGTHS = tuple(float(f"1e{power}") for power in range(-8, 3))
"""Relative to the mean square of a standardized feature: from hardly any to next to no weight left."""

_CHUNK = 4096
_HELD_OUT = 0.2


class RidgeOnLags(PointForecaster):
    """Linear in the past of all columns. What was never seen gives NaN.

    >>> from elman.series.durations import Duration
    >>> values = np.cos(np.arange(400) / 5).astype(np.float32)[:, None]
    >>> panel = Panel(("y",), values, np.arange(400) * 60_000_000, np.array([0, 400]), Duration.parse("1min"))
    >>> forecaster = RidgeOnLags()
    >>> forecaster.fit(panel, Horizon("y", (10,), (0.5,)), np.array([300]))
    >>> bool(abs(forecaster.forecast(panel, np.array([380]))[0, 0, 0] - values[390, 0]) < 1e-3)
    True
    """

    name = "ridge on lags"

    def learn(self, panel: Panel, horizon: Horizon, training_ends: Int64[np.ndarray, " series"]) -> None:
        """The weights of every step."""
        self._design = LagDesign.plan(panel, horizon, training_ends)
        origins, changes = regression_targets(panel, horizon, training_ends, self._design, MOST_ORIGINS)
        self._weights, self.strengths = ridge_weights(self, panel, horizon, origins, changes)

    def points(self, panel: Panel, origins: Int64[np.ndarray, " origins"]) -> Float64[np.ndarray, "origins steps"]:
        """The last value plus the change that the weights give."""
        places = self.places(panel)
        result = np.empty((len(origins), len(self.horizon.rows)))
        for piece in chunks(origins, _CHUNK):
            some = origins[piece]
            values, _ = last_values(panel, self.horizon.target, some)
            scales = self._design.scales[places[series_of(panel, some)], self._design.target]
            changes = self.features(panel, places, some) @ self._weights
            result[piece] = values[:, None] + scales[:, None] * changes
        return result

    def features(self, panel: Panel, places: np.ndarray, origins: np.ndarray) -> np.ndarray:
        """What the regression sees: `LagDesign.features`."""
        return self._design.features(panel, places, origins)


def regression_targets(
    panel: Panel, horizon: Horizon, training_ends: np.ndarray, design: LagDesign, limit: int
) -> tuple[np.ndarray, np.ndarray]:
    """Origins to learn from, and the change of the target for each step in units of its series: `[origins, steps]`."""
    per_series = max(4 * limit // max(panel.series_count, 1), 50)
    origins = training_origins(panel, horizon, training_ends, per_series)
    origins = evenly(origins, 4 * limit)
    truths = np.concatenate(
        [truth(panel, horizon, origins[piece]) for piece in chunks(origins, 1 << 16)]
        or [np.zeros((0, len(horizon.rows)), np.float32)]
    )
    missing = np.isnan(truths)
    complete, any_there = ~missing.any(axis=1), ~missing.all(axis=1)
    features = len(design.lags) + len(design.columns) * len(design.other_lags)
    if complete.sum() < min(20 * features, any_there.sum() / 2):
        truths, complete = _between_neighbors(panel, horizon, training_ends, origins, truths), any_there
    values = np.concatenate(
        [last_values(panel, horizon.target, origins[piece])[0] for piece in chunks(origins, 1 << 16)] or [np.zeros(0)]
    )
    complete &= ~np.isnan(values) & ~np.isnan(truths).any(axis=1)
    reaching = complete & (origins - panel.offsets[series_of(panel, origins)] >= max(design.lags, default=0))
    complete = reaching if reaching.sum() >= complete.sum() / 2 else complete
    chosen = evenly(np.flatnonzero(complete), limit)
    series = series_of(panel, origins[chosen])
    changes = (truths[chosen] - values[chosen, None]) / design.scales[series, design.target][:, None]
    return origins[chosen], changes


def ridge_weights(
    forecaster: RidgeOnLags, panel: Panel, horizon: Horizon, origins: np.ndarray, changes: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The weights `[features, steps]` and the strength chosen for each step."""
    places = np.arange(panel.series_count)
    times = panel.times[origins]
    cut = np.quantile(times, 1 - _HELD_OUT) if len(times) else 0
    later = times >= cut
    # Between the two stand origins whose target lies in the last fifth: they serve only the weights that are used in the end.
    earlier = panel.times[origins + horizon.furthest] < cut
    sums: dict[str, NormalEquations | None] = {"earlier": None, "later": None, "between": None}
    for piece in chunks(origins, _CHUNK):
        rows = forecaster.features(panel, places, origins[piece])
        masks = {"earlier": earlier[piece], "later": later[piece], "between": ~(earlier | later)[piece]}
        for part, mask in masks.items():
            if mask.any():
                own = slice(None) if mask.all() else mask
                added = NormalEquations.of(rows[own], changes[piece][own])
                previous = sums[part]
                sums[part] = added if previous is None else previous.plus(added)
    known = [part for part in sums.values() if part is not None]
    if not known:
        width = forecaster.features(panel, places, panel.offsets[:1]).shape[1] if panel.row_count else 0
        return np.zeros((width, len(horizon.rows))), np.full(len(horizon.rows), np.nan)
    total = known[0]
    for addend in known[1:]:
        total = total.plus(addend)
    chosen = np.full(len(horizon.rows), STRENGTHS.index(1e-2))
    training = sums["earlier"]
    if training is not None and later.any():
        candidates = np.stack(training.solutions(STRENGTHS))
        chosen = _least_absolute_error(forecaster, panel, origins[later], changes[later], candidates)
    every = total.solutions(STRENGTHS)
    weights = np.stack([every[number][:, step] for step, number in enumerate(chosen)], axis=1)
    return weights, np.asarray(STRENGTHS)[chosen]


@dataclass(frozen=True, eq=False)
class NormalEquations:
    """X'X, X'Y and the number of rows. The first feature is 1.

    >>> sums = NormalEquations.of(np.array([[1.0, 0.0], [1.0, 1.0], [1.0, 2.0]]), np.array([[1.0], [3.0], [5.0]]))
    >>> sums.solutions([1e-12])[0].round(6).ravel().tolist()
    [1.0, 2.0]
    """

    matrix: np.ndarray
    right: np.ndarray
    count: int

    @classmethod
    def of(cls, rows: np.ndarray, targets: np.ndarray) -> "NormalEquations":
        """Of some rows."""
        return cls(rows.T @ rows, rows.T @ targets, len(rows))

    def plus(self, other: "NormalEquations") -> "NormalEquations":
        """Of the rows of both."""
        return NormalEquations(
            self.matrix + other.matrix,
            self.right + other.right,
            self.count + other.count,
        )

    def solutions(self, strengths: tuple[float, ...] | list[float]) -> list[np.ndarray]:
        """The weights `[features, targets]` for each strength."""
        mean, target_mean = self.matrix[0] / self.count, self.right[0] / self.count
        covariance = self.matrix / self.count - np.outer(mean, mean)
        spread = np.sqrt(np.maximum(np.diag(covariance), 0))
        # A feature that never changes, and the constant itself, say nothing: their weight is 0.
        inverse = np.divide(1.0, spread, out=np.zeros_like(spread), where=spread > 1e-7)
        correlations = covariance * inverse[:, None] * inverse
        toward = (self.right / self.count - mean[:, None] * target_mean) * inverse[:, None]
        values, vectors = np.linalg.eigh(correlations)
        turned = vectors.T @ toward
        result = []
        for strength in strengths:
            weights = (vectors @ (turned / (np.maximum(values, 0) + strength)[:, None])) * inverse[:, None]
            weights[0] = target_mean - mean @ weights
            result.append(weights)
        return result


def _least_absolute_error(
    forecaster: RidgeOnLags, panel: Panel, origins: np.ndarray, changes: np.ndarray, candidates: np.ndarray
) -> np.ndarray:
    """For each step the number of the candidate weights `[candidates, features, steps]` that are best at these origins."""
    errors = np.zeros((len(candidates), changes.shape[1]))
    for piece in chunks(origins, _CHUNK):
        rows = forecaster.features(panel, np.arange(panel.series_count), origins[piece])
        for number, weights in enumerate(candidates):
            errors[number] += np.abs(changes[piece] - rows @ weights).sum(axis=0)
    return np.argmin(errors, axis=0)


def _between_neighbors(
    panel: Panel, horizon: Horizon, training_ends: np.ndarray, origins: np.ndarray, truths: np.ndarray
) -> np.ndarray:
    """The truths at rising origins, with gaps bridged by straight lines from training rows only; NaN where a series has none."""
    values, result = panel.column(horizon.target), truths.astype(np.float64)
    bounds = np.searchsorted(origins, panel.offsets)
    for series in np.flatnonzero(np.diff(bounds)):
        own = slice(bounds[series], bounds[series + 1])
        lacking = np.isnan(truths[own])
        if not lacking.any():
            continue
        start, end = int(panel.offsets[series]), int(training_ends[series])
        rows = np.arange(start, end)
        there = rows[~np.isnan(values[start:end])]
        if len(there):
            wanted = (origins[own, None] + np.asarray(horizon.rows))[lacking]
            result[own][lacking] = np.interp(wanted, there, values[there].astype(np.float64))
            panel.release()
    return result

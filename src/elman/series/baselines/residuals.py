"""From a point forecast to quantiles: what all baselines share.

A baseline says how it makes its point forecast f; its quantiles are f plus the quantiles of its own errors in training, for each
series and step. The level 0.5, where it is asked for, is f itself (that is what the baseline's name promises), and levels beside it
are held on their side of it. Errors are taken at evenly spaced origins, at most `MOST_ORIGINS` of a series and about
`ALL_ORIGINS` of all series together, but never fewer than `FEWEST_ORIGINS` of a series that has them.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64, Int64

from elman.series.panel import Horizon, Panel
from elman.series.scoring.origins import chunks, series_of, training_origins, truth

MOST_ORIGINS = 4096
FEWEST_ORIGINS = 200
ALL_ORIGINS = 2_000_000
CHUNK_VALUES = 1 << 20
"""Forecasts (origins × steps) that are worked on at a time: 8 MB for each float64 array of them."""


class PointForecaster(ABC):
    """A baseline: subclasses say what is learned and where the point is; `fit` and `forecast` are the same for all.

    What was learned of a series is found again by its name in another panel; a panel of one series needs no name. A series that was
    not there in fitting gets the mean of what was learned of the others.
    """

    name: str

    def fit(self, panel: Panel, horizon: Horizon, training_ends: Int64[np.ndarray, " series"]) -> None:
        """Learn from the rows of each series before `training_ends`."""
        self.horizon = horizon
        self._names = panel.names
        self.learn(panel, horizon, np.asarray(training_ends))
        self._residuals = Residuals.of(self.points, panel, horizon, np.asarray(training_ends))

    def forecast(
        self, panel: Panel, origins: Int64[np.ndarray, " origins"]
    ) -> Float32[np.ndarray, "origins steps levels"]:
        """Quantiles for each step ahead of each origin; NaN where the target was never seen before it."""
        origins = np.asarray(origins, np.int64)
        order = np.argsort(origins, kind="stable")
        steps = len(self.horizon.rows)
        result = np.empty((len(origins), steps, len(self.horizon.levels)), np.float32)
        places = self.places(panel)
        for piece in chunks(origins[order], CHUNK_VALUES // steps):
            chosen = order[piece]
            known = places[series_of(panel, origins[chosen])]
            # In float64 until here: a large level and a small error are added once, and rounded once.
            points = self.points(panel, origins[chosen])
            result[chosen] = points[:, :, None] + self._residuals.quantiles[known]
            panel.release()
        return result

    def places(self, panel: Panel) -> Int64[np.ndarray, " series"]:
        """For each series of a panel its place among those fitted on; -1, the entry behind the last, where it was not there."""
        if len(panel.names) == len(self._names) == 1:
            return np.zeros(1, np.int64)
        known = {name: place for place, name in enumerate(self._names)}
        return np.asarray([known.get(name, -1) for name in panel.names], np.int64)

    @abstractmethod
    def learn(self, panel: Panel, horizon: Horizon, training_ends: Int64[np.ndarray, " series"]) -> None:
        """Whatever `points` needs, from the rows before `training_ends`."""

    @abstractmethod
    def points(self, panel: Panel, origins: Int64[np.ndarray, " origins"]) -> Float64[np.ndarray, "origins steps"]:
        """The point forecasts at a chunk of rising origins."""


@dataclass(frozen=True, eq=False)
class Residuals:
    """Quantiles of a forecaster's errors in training: one entry for each series, and the mean of them behind the last."""

    quantiles: Float64[np.ndarray, "entries steps levels"]

    @classmethod
    def of(
        cls,
        points: Callable[[Panel, np.ndarray], np.ndarray],
        panel: Panel,
        horizon: Horizon,
        training_ends: Int64[np.ndarray, " series"],
    ) -> "Residuals":
        """Of a forecaster that is asked at training origins."""
        per_series = min(max(ALL_ORIGINS // max(panel.series_count, 1), FEWEST_ORIGINS), MOST_ORIGINS)
        steps = len(horizon.rows)
        result = np.full((panel.series_count + 1, steps, len(horizon.levels)), np.nan)
        series, batch = 0, max(4 * CHUNK_VALUES // (per_series * steps), 1)
        while series < panel.series_count:
            last = min(series + batch, panel.series_count)
            own = training_origins(panel, horizon, training_ends, per_series, slice(series, last))
            bounds = np.searchsorted(own, panel.offsets[series : last + 1])
            table = np.full((last - series, steps, per_series), np.nan)
            number = np.arange(len(own)) - bounds[series_of(panel, own) - series]
            for piece in chunks(own, CHUNK_VALUES // steps):
                some = own[piece]
                errors = truth(panel, horizon, some) - points(panel, some)
                table[series_of(panel, some) - series, :, number[piece]] = errors
                panel.release()
            result[series:last] = quantiles_of_rows(table, horizon.levels)
            series = last
        return cls(_completed(_held_at_middle(result, horizon)))


def quantiles_of_rows(table: np.ndarray, levels: tuple[float, ...]) -> np.ndarray:
    """Quantiles along the last axis, NaN left out, linear between the two nearest values; NaN where a row has none.

    >>> quantiles_of_rows(np.array([[3.0, np.nan, 1.0], [np.nan] * 3]), (0.0, 0.25, 1.0))
    array([[1. , 1.5, 3. ],
           [nan, nan, nan]])
    """
    if not table.shape[-1]:
        return np.full((*table.shape[:-1], len(levels)), np.nan)
    rising = np.sort(table, axis=-1)
    count = (~np.isnan(rising)).sum(axis=-1, keepdims=True)
    place = np.maximum(count - 1, 0) * np.asarray(levels)
    lower = np.floor(place).astype(np.int64)
    upper = np.minimum(lower + 1, np.maximum(count - 1, 0))
    below, above = np.take_along_axis(rising, lower, -1), np.take_along_axis(rising, upper, -1)
    return below + (place - lower) * (above - below)


def _held_at_middle(quantiles: np.ndarray, horizon: Horizon) -> np.ndarray:
    """0 at the level 0.5, at most 0 below it and at least 0 above it; as they are if 0.5 is none of the levels."""
    middle = horizon.middle
    if horizon.levels[middle] != 0.5:
        return quantiles
    result = quantiles.copy()
    result[..., :middle] = np.minimum(result[..., :middle], 0)
    result[..., middle] = 0
    result[..., middle + 1 :] = np.maximum(result[..., middle + 1 :], 0)
    return result


def _completed(quantiles: np.ndarray) -> np.ndarray:
    """The mean over the series behind the last one, and in place of those without any error to learn from."""
    missing = np.isnan(quantiles)
    count = np.maximum((~missing).sum(axis=0), 1)
    mean = np.where(missing, 0, quantiles).sum(axis=0) / count
    mean = np.where(missing.all(axis=0), np.nan, mean)
    return np.where(missing, mean, quantiles)

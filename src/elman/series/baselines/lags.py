"""The past as one row of numbers: what regressions on lags see at an origin.

For each channel (a measured column; two, cosine and sine, for one in degrees of a circle) the values some rows back, in units of
its series: minus mean, divided by standard deviation, both of the training rows. A missing value is the last one seen; where
nothing was seen yet it is the mean, 0. Before the beginning of the series stands its first row. Beside them stand the waves of
the day, the week and the year at the moment of the origin (local time where the zone is known), as far as training spans twice
the day or week and once the year.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from elman.series.cleaning.units import is_direction
from elman.series.durations import DAY, Duration
from elman.series.panel import Horizon, Panel
from elman.series.scoring.moments import WEEK, YEAR, harmonics, local_times
from elman.series.scoring.origins import first_observed, last_seen, series_of

MOST_FEATURES = 800
"""Numbers in a row: their squares are the normal equations, 5 MB."""

OTHER_LAGS = (0, 1, 2, 3, 6, 9, 12, 18, 24)
"""Rows back at which columns other than the target are looked at. On the validation quarter of the hourly Jena file, 24 h ahead
and at strength 1e-4, these 9 gave a mean absolute error of 2.22 degC, all lags of the target for every column 2.26."""

_DENSE, _MIDDLE, _FAR = 24, 48, 120


def lag_rows(step: Duration, longest: int) -> tuple[int, ...]:
    """Rows back that are looked at: each of the last 24, then every 3rd to 48, every 6th to 120; whole days to 7.

    longest: no lag is longer than that.

        >>> lag_rows(Duration.parse("1h"), 30)
        (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 27, 30)
    """
    lags = {*range(_DENSE), *range(_DENSE, _MIDDLE, 3), *range(_MIDDLE, _FAR + 1, 6)}
    if step.microseconds and DAY % step.microseconds == 0:
        lags |= {DAY // step.microseconds * count for count in range(1, 8)}
    return tuple(sorted(lag for lag in lags if lag <= max(longest, 0)))


@dataclass(frozen=True, eq=False)
class LagDesign:
    """Which lags of which channels; `plan` makes one from the training part.

    lags: of the target. other_lags: of every other channel. means, scales: of each series and column; behind the last series stand
    their means, for a series that was not there. directions: columns that are circles. waves: (period, count) of the calendar.
    """

    target: int
    lags: tuple[int, ...]
    other_lags: tuple[int, ...]
    directions: tuple[int, ...]
    columns: tuple[int, ...]
    waves: tuple[tuple[int, int], ...]
    means: Float64[np.ndarray, "entries columns"]
    scales: Float64[np.ndarray, "entries columns"]

    @classmethod
    def plan(cls, panel: Panel, horizon: Horizon, training_ends: Int64[np.ndarray, " series"]) -> "LagDesign":
        """Lags no longer than a quarter of the longest training part; others thinned to keep to `MOST_FEATURES`."""
        target = panel.columns.index(horizon.target)
        length = int(np.max(training_ends - first_observed(panel), initial=0))
        lags = lag_rows(panel.step, length // 4)
        means, scales = _statistics(panel, training_ends)
        others = [number for number in range(len(panel.columns)) if number != target]
        directions = tuple(number for number in others if is_direction(panel.columns[number]))
        room = MOST_FEATURES - len(lags) - 20
        others = others[: room // 2]
        channels = len(others) + len(directions)
        share = min(max(room // max(channels, 1), 1), len(OTHER_LAGS))
        # Thinned evenly where there are many columns; the last value of each always stays.
        thinned = tuple(OTHER_LAGS[number * len(OTHER_LAGS) // share] for number in range(share))
        thinned = tuple(lag for lag in thinned if lag <= max(lags, default=0))
        waves = _waves(panel, length)
        return cls(target, lags, thinned, directions, tuple(others), waves, means, scales)

    def features(
        self, panel: Panel, places: Int64[np.ndarray, " series"], origins: Int64[np.ndarray, " origins"]
    ) -> Float64[np.ndarray, "origins features"]:
        """One row for each of a chunk of rising origins; the first number is 1. `places`: of each series in `means`."""
        series = series_of(panel, origins)
        starts = panel.offsets[series]
        first = max(int(origins[0]) - max(self.lags, default=0), 0)
        window = slice(first, int(origins[-1]) + 1)
        row_series = series_of(panel, np.arange(window.start, window.stop))
        entries = places[row_series]
        blocks = [np.ones((len(origins), 1)), self._calendar(panel, origins)]
        for number in (self.target, *self.columns):
            lags = np.asarray(self.lags if number == self.target else self.other_lags, np.int64)
            source = origins[:, None] - lags
            source = np.maximum(source, starts[:, None]) - first
            blocks += [channel[source] for channel in self._channels(panel, number, window, entries)]
        panel.release()
        return np.concatenate(blocks, axis=1)

    def _channels(self, panel: Panel, number: int, window: slice, entries: np.ndarray) -> list[np.ndarray]:
        """A column in the window, filled with what was seen last: as one channel, or as the two of a circle."""
        seen = last_seen(panel, number, window.start, window.stop)
        values = panel.values[seen, number].astype(np.float64)
        if number in self.directions:
            angle = np.deg2rad(values)
            return [np.where(seen >= 0, np.cos(angle), 0.0), np.where(seen >= 0, np.sin(angle), 0.0)]
        scaled = (values - self.means[entries, number]) / self.scales[entries, number]
        return [np.where(seen >= 0, scaled, 0.0)]

    def _calendar(self, panel: Panel, origins: np.ndarray) -> np.ndarray:
        local = local_times(panel.times[origins], panel.time_zone)
        parts = [harmonics(local, period, count) for period, count in self.waves]
        return np.concatenate([np.zeros((len(origins), 0)), *parts], axis=1)


def _waves(panel: Panel, length: int) -> tuple[tuple[int, int], ...]:
    step = panel.step.microseconds or panel.step.months * YEAR // 12
    wanted = ((DAY, 2, 2), (WEEK, 3, 2), (YEAR, 2, 1))
    found = []
    for period, count, fewest in wanted:
        count = min(count, (round(period / step) - 1) // 2)
        if count > 0 and length * step >= 0.99 * fewest * period:
            found.append((period, count))
    return tuple(found)


def _statistics(panel: Panel, training_ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each series and column over its training rows; where it has none, those of the others."""
    means = np.full((panel.series_count + 1, len(panel.columns)), np.nan)
    scales = means.copy()
    for block in panel.blocks():
        series, some = panel.series_in(block), block.series.stop - block.series.start
        inside = np.arange(block.rows.start, block.rows.stop) < training_ends[block.series][series]
        for number in range(len(panel.columns)):
            column = panel.values[block.rows, number]
            there = inside & ~np.isnan(column)
            values, where = column[there].astype(np.float64), series[there]
            count = np.bincount(where, minlength=some)
            divisor = np.maximum(count, 1)
            mean = np.bincount(where, values, minlength=some) / divisor
            variance = np.bincount(where, (values - mean[where]) ** 2, minlength=some) / divisor
            means[block.series, number] = np.where(count > 0, mean, np.nan)
            # A column that never changes in training has no scale of its own.
            scales[block.series, number] = np.where(variance > 1e-12 * mean**2, np.sqrt(variance), np.nan)
    return _completed(means, 0.0), _completed(scales, 1.0)


def _completed(table: np.ndarray, otherwise: float) -> np.ndarray:
    missing = np.isnan(table)
    count = (~missing).sum(axis=0)
    mean = np.where(count > 0, np.where(missing, 0, table).sum(axis=0) / np.maximum(count, 1), otherwise)
    return np.where(missing, mean, table)

"""Climatology: what is usual at this hour of this day of the year, whatever the weather is now.

The mean over the years, smoothed, is a regression on waves of the year and of the day, fitted for each series by least squares on
training rows:

    f = a_0 + sum over k of  a_k cos(2 pi k year) + b_k sin(2 pi k year)               k = 1 … 3, year = moment / 365.2425 d
            + sum over j of  the same with the local time of the day                    j = 1 … 3
            + all products of a wave of the year (k = 1, 2) and one of the day (j = 1, 2): the day's course changes with the season

That is 29 numbers. Fewer where the data does not allow them: no waves of the year where training spans less than one; none of the
day where it spans less than two or rows are 12 hours apart or more; without both it is the mean. At most `MOST_ROWS` evenly spaced
rows of a series are used, about `ALL_ROWS` of all together. A series with fewer values than `2 × numbers` is given its mean.

Reference: Wilks 2011, "Statistical Methods in the Atmospheric Sciences", section 9.4 (harmonic analysis).
"""

import numpy as np
from jaxtyping import Float64, Int64

from elman.series.baselines.residuals import PointForecaster
from elman.series.durations import DAY
from elman.series.panel import Horizon, Panel
from elman.series.scoring.moments import YEAR, harmonics, local_times, target_times
from elman.series.scoring.origins import chunks, series_of

MOST_ROWS = 100_000
ALL_ROWS = 2_000_000
_CHUNK = 1 << 16
_RELEASED = 64
"""Series that are read before their memory is given back."""
_STEADY = 1e-9
"""Added to the normal equations, relative to the number of rows: gaps can leave some waves undetermined."""


class Climatology(PointForecaster):
    """The usual value of the moment that is forecast; it never looks at the rows before the origin.

    A series that was not there in fitting has no climate: NaN.

        >>> from elman.series.durations import Duration
        >>> times = np.arange(24 * 10) * 3_600_000_000
        >>> day = np.cos(2 * np.pi * np.arange(240) / 24).astype(np.float32)[:, None]
        >>> panel = Panel(("y",), day, times, np.array([0, 240]), Duration.parse("1h"))
        >>> forecaster = Climatology()
        >>> forecaster.fit(panel, Horizon("y", (1, 12), (0.5,)), np.array([200]))
        >>> forecaster.forecast(panel, np.array([239]))[:, :, 0].round(4)
        array([[ 1.    , -0.9659]], dtype=float32)
    """

    name = "climatology"

    def learn(self, panel: Panel, horizon: Horizon, training_ends: Int64[np.ndarray, " series"]) -> None:
        """The numbers of each series."""
        self._plan = _wave_counts(panel, training_ends)
        lengths = np.maximum(training_ends - panel.offsets[:-1], 0)
        limit = min(max(ALL_ROWS // max(panel.series_count, 1), 200), MOST_ROWS)
        values = panel.column(horizon.target)
        size = self._waves(np.zeros(1, np.int64), None).shape[1]
        self._numbers = np.full((panel.series_count + 1, size), np.nan)
        for series, (start, length) in enumerate(zip(panel.offsets[:-1], lengths, strict=True)):
            taken = min(length, limit)
            own = start + np.arange(taken) * length // max(taken, 1)
            own = own[~np.isnan(values[own])]
            if series % _RELEASED == 0:
                panel.release()
            if len(own):
                truths = values[own].astype(np.float64)
                self._numbers[series] = self._fitted(panel.times[own], truths, panel.time_zone, size)

    def points(self, panel: Panel, origins: Int64[np.ndarray, " origins"]) -> Float64[np.ndarray, "origins steps"]:
        """The usual value at each target's moment."""
        moments = target_times(panel, origins, self.horizon.rows)
        numbers = self._numbers[self.places(panel)]
        series = series_of(panel, origins)
        result = np.empty(moments.shape)
        for piece in chunks(np.arange(len(origins)), max(_CHUNK // moments.shape[1], 1)):
            # Neighboring origins ask for the same moments, and so do series of the same time.
            distinct, inverse = np.unique(moments[piece], return_inverse=True)
            here, place = np.unique(series[piece], return_inverse=True)
            waves = self._waves(distinct, panel.time_zone)
            inverse = inverse.reshape(moments[piece].shape)
            if len(distinct) * len(here) <= 64 * inverse.size:
                result[piece] = (waves @ numbers[here].T)[inverse, place[:, None]]
            else:
                result[piece] = np.einsum("isk,ik->is", waves[inverse], numbers[here][place])
        return result

    def _fitted(self, times: np.ndarray, truths: np.ndarray, time_zone: str | None, size: int) -> np.ndarray:
        """The numbers of one series. Its mean and spread are taken out before, so that any unit gives the same curve."""
        mean, spread = truths.mean(), truths.std()
        result = np.zeros(size)
        result[0] = mean
        if len(truths) < 2 * size or spread == 0:
            return result
        matrix, right = np.zeros((size, size)), np.zeros(size)
        for piece in chunks(np.arange(len(times)), _CHUNK):
            waves = self._waves(times[piece], time_zone)
            matrix += waves.T @ waves
            right += waves.T @ ((truths[piece] - mean) / spread)
        return result + spread * np.linalg.solve(matrix + _STEADY * len(times) * np.eye(size), right)

    def _waves(self, times: np.ndarray, time_zone: str | None) -> np.ndarray:
        """1, the waves of the year, those of the day, and their products, `[moments, numbers]`."""
        annual, daily = self._plan
        local = local_times(times, time_zone)
        year, day = harmonics(local, YEAR, annual), harmonics(local, DAY, daily)
        products = year[:, : min(4, 2 * annual), None] * day[:, None, : min(4, 2 * daily)]
        return np.concatenate([np.ones((len(times), 1)), year, day, products.reshape(len(times), -1)], axis=1)


def _wave_counts(panel: Panel, training_ends: np.ndarray) -> tuple[int, int]:
    """How many waves of the year and of the day the longest training part and the step allow: at most 3."""
    lengths = np.maximum(training_ends - panel.offsets[:-1], 0)
    if not len(lengths) or not lengths.max():
        return 0, 0
    longest = int(np.argmax(lengths))
    start, end = int(panel.offsets[longest]), int(training_ends[longest]) - 1
    span = int(panel.times[end] - panel.times[start])
    step = panel.step.microseconds or panel.step.months * YEAR // 12
    counts = []
    for period, fewest in ((YEAR, 1.0), (DAY, 2.0)):
        counts.append(min(3, (round(period / step) - 1) // 2) if span >= 0.99 * fewest * period else 0)
    return max(counts[0], 0), max(counts[1], 0)

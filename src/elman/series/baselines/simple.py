"""What needs no learning, or hardly any: the yardsticks beside every forecast of a network.

With y_t the last value of the target seen up to the origin o, h the rows ahead, m the rows of a season:

    persistence       f(o + h) = y_t
    seasonal naive    f(o + h) = the value at o + h - m ceil(h / m); one season earlier as long as that is missing, y_t if all are
    drift             f(o + h) = y_t + (o + h - t) (y_t - y_1) / (t - 1)      y_1: the series' first value, at row 1

A season of a year is one by the calendar: the row nearest to the same month, day and time of a year before. Climatology is in
`climatology`, ridge regression on lags in `ridge`, boosted trees in `boosting`; `default_baselines` gives all that the data allows.

References: Hyndman & Athanasopoulos 2021, "Forecasting: principles and practice", section 5.2 (these three and their names).
"""

import numpy as np
from jaxtyping import Float64, Int64

from elman.errors import ConfigError
from elman.series.baselines.boosting import LightGBMOnLags
from elman.series.baselines.climatology import Climatology
from elman.series.baselines.residuals import PointForecaster
from elman.series.baselines.ridge import RidgeOnLags
from elman.series.durations import DAY, Duration
from elman.series.forecasting import AbstractForecaster
from elman.series.panel import Horizon, Panel
from elman.series.scoring.moments import WEEK, YEAR, months_later, target_times
from elman.series.scoring.origins import first_observed, last_values, series_of, truth

SEASONS = {"day": DAY, "week": WEEK, "year": YEAR}
"""The seasons that are looked for, in microseconds. Each must lie twice in training, and be whole rows (a year need not)."""

_MOST_SEASONS_BACK = 60
_FEWEST_ORIGINS = 100
"""Training origins with a truth below which no regression is tried: its weights would be noise."""

_LOOKED_AT = 4096


def default_baselines(
    panel: Panel, horizon: Horizon, training_ends: Int64[np.ndarray, " series"], lightgbm: bool = False
) -> list[AbstractForecaster]:
    """Those that the training part allows, not fitted yet: persistence, seasonal naive for each season, climatology, drift, ridge.

    A season is allowed by the longest series. lightgbm: boosted trees too; raises `ConfigError` where it is not installed.

        >>> times = np.arange(2000) * 3_600_000_000
        >>> values = np.ones((2000, 1), np.float32)
        >>> panel = Panel(("y",), values, times, np.array([0, 2000]), Duration.parse("1h"))
        >>> [one.name for one in default_baselines(panel, Horizon("y", (24,), (0.5,)), np.array([1000]))]
        ['persistence', 'seasonal naive (day)', 'seasonal naive (week)', 'climatology', 'drift', 'ridge on lags']
    """
    ends = np.asarray(training_ends)
    length = int(np.max(ends - first_observed(panel), initial=0))
    result: list[AbstractForecaster] = [Persistence()]
    for season in SEASONS:
        rows = season_rows(season, panel.step)
        if rows is not None and rows > 1 and length >= 2 * rows:
            result.append(SeasonalNaive(season))
    result += [Climatology(), Drift()]
    starts = first_observed(panel)
    usable = ends - horizon.furthest - starts
    enough = 0
    pieces = (
        np.arange(row, min(row + _LOOKED_AT, start + count))
        for start, count in zip(starts, usable, strict=True)
        for row in range(start, start + count, _LOOKED_AT)
    )
    for piece in pieces:
        enough += int((~np.isnan(truth(panel, horizon, piece))).all(axis=1).sum())
        if enough >= _FEWEST_ORIGINS:
            break
    if enough >= _FEWEST_ORIGINS:
        result.append(RidgeOnLags())
        if lightgbm:
            result.append(LightGBMOnLags())
    return result


def season_rows(season: str, step: Duration) -> int | None:
    """How many rows a season has; None where rows do not fit into it. A year is rounded where rows are no months.

    >>> season_rows("week", Duration.parse("1d")), season_rows("year", Duration.parse("1mo"))
    (7, 12)
    >>> season_rows("day", Duration.parse("7h")) is None
    True
    """
    if season not in SEASONS:
        raise ConfigError(f"season = {season!r} is unknown: use {', '.join(SEASONS)}")
    if step.months:
        return 12 // step.months if season == "year" and 12 % step.months == 0 else None
    if season == "year":
        return round(YEAR / step.microseconds) or None
    length = SEASONS[season]
    return length // step.microseconds if length % step.microseconds == 0 else None


class Persistence(PointForecaster):
    """It stays as it is: the last value seen up to the origin.

    >>> panel = Panel(("y",), np.float32([[1], [2], [4], [8]]), np.arange(4), np.array([0, 4]), Duration(1))
    >>> forecaster = Persistence()
    >>> forecaster.fit(panel, Horizon("y", (1, 2), (0.5,)), np.array([4]))
    >>> forecaster.forecast(panel, np.array([3]))[:, :, 0]
    array([[8., 8.]], dtype=float32)
    """

    name = "persistence"

    def learn(self, panel: Panel, horizon: Horizon, training_ends: Int64[np.ndarray, " series"]) -> None:
        """Nothing but its errors."""

    def points(self, panel: Panel, origins: Int64[np.ndarray, " origins"]) -> Float64[np.ndarray, "origins steps"]:
        """The last value for every step."""
        values, _ = last_values(panel, self.horizon.target, origins)
        return np.repeat(values[:, None], len(self.horizon.rows), axis=1)


class Drift(PointForecaster):
    """It goes on as it went: the last value plus the mean slope from the first value of the series to it, all of the known past.

    >>> panel = Panel(("y",), np.float32([[1], [2], [2], [4]]), np.arange(4), np.array([0, 4]), Duration(1))
    >>> forecaster = Drift()
    >>> forecaster.fit(panel, Horizon("y", (1, 2), (0.5,)), np.array([4]))
    >>> forecaster.forecast(panel, np.array([3]))[:, :, 0]
    array([[5., 6.]], dtype=float32)
    """

    name = "drift"

    def learn(self, panel: Panel, horizon: Horizon, training_ends: Int64[np.ndarray, " series"]) -> None:
        """Nothing but its errors."""

    def points(self, panel: Panel, origins: Int64[np.ndarray, " origins"]) -> Float64[np.ndarray, "origins steps"]:
        """The line through the first and the last value."""
        values, rows = last_values(panel, self.horizon.target, origins)
        column = panel.columns.index(self.horizon.target)
        series = series_of(panel, origins)
        first = np.full(panel.series_count, -1, np.int64)
        for number in np.unique(series):
            first[number] = _first_value(panel, column, int(number))
        # Nothing seen yet (-1) gives NaN values, and a slope that nobody reads.
        started = np.where(rows >= 0, first[series], 0)
        span = np.maximum(rows - started, 1)
        slope = (values - panel.values[started, column]) / span
        ahead = origins[:, None] + np.asarray(self.horizon.rows) - rows[:, None]
        return values[:, None] + ahead * slope[:, None]


class SeasonalNaive(PointForecaster):
    """As it was one season ago: at the same time of the day, of the week, or of the year.

    Raises: `ConfigError` on fitting where the rows of the panel do not fit into the season.

        >>> times = np.arange(60) * 3_600_000_000
        >>> panel = Panel(("y",), np.float32(np.arange(60) % 24)[:, None], times, np.array([0, 60]), Duration.parse("1h"))
        >>> forecaster = SeasonalNaive("day")
        >>> forecaster.fit(panel, Horizon("y", (1, 30), (0.5,)), np.array([60]))
        >>> forecaster.forecast(panel, np.array([47]))[:, :, 0]
        array([[0., 5.]], dtype=float32)
    """

    def __init__(self, season: str = "day") -> None:
        self.season = season
        self.name = f"seasonal naive ({season})"

    def learn(self, panel: Panel, horizon: Horizon, training_ends: Int64[np.ndarray, " series"]) -> None:
        """Only how many rows the season has."""
        rows = season_rows(self.season, panel.step)
        if rows is None:
            raise ConfigError(
                f"a seasonal naive forecast by the {self.season} is not possible: rows are {panel.step} apart, "
                f"which does not divide a {self.season}"
            )
        self._rows = rows

    def points(self, panel: Panel, origins: Int64[np.ndarray, " origins"]) -> Float64[np.ndarray, "origins steps"]:
        """The nearest earlier season with a value; the last value where there is none."""
        values = panel.column(self.horizon.target)
        series = series_of(panel, origins)
        wanted = origins[:, None] + np.asarray(self.horizon.rows)
        moments = target_times(panel, origins, self.horizon.rows).ravel() if self._by_calendar(panel) else None
        starts = np.repeat(panel.offsets[series], wanted.shape[1])
        limits = np.repeat(origins, wanted.shape[1])
        result = np.full(wanted.size, np.nan)
        open_places = np.arange(wanted.size)
        for seasons in range(1, _MOST_SEASONS_BACK + max(self.horizon.furthest // self._rows, 0) + 2):
            if moments is None:
                source = wanted.ravel()[open_places] - seasons * self._rows
            else:
                earlier = months_later(moments[open_places], -12 * seasons) - panel.times[starts[open_places]]
                # The nearest row; half-way belongs to the later one.
                source = starts[open_places] + (2 * earlier // panel.step.microseconds + 1) // 2
            reachable = source >= starts[open_places]
            open_places, source = open_places[reachable], source[reachable]
            known = source <= limits[open_places]
            found = np.where(known, values[np.where(known, source, 0)], np.nan)
            result[open_places] = found
            open_places = open_places[np.isnan(found)]
            if not len(open_places):
                break
        last, _ = last_values(panel, self.horizon.target, origins)
        result = result.reshape(wanted.shape)
        return np.where(np.isnan(result), last[:, None], result)

    def _by_calendar(self, panel: Panel) -> bool:
        return self.season == "year" and not panel.step.months


def _first_value(panel: Panel, column: int, series: int) -> int:
    """The row of the first value of a series; its first row where it has none."""
    start, end = int(panel.offsets[series]), int(panel.offsets[series + 1])
    row, size = start, 64
    while row < end:
        found = np.flatnonzero(~np.isnan(panel.values[row : min(row + size, end), column]))
        if len(found):
            return row + int(found[0])
        row, size = row + size, 2 * size
    return start

"""Clocks on the wall: months begin by them, and some were put back in autumn while nobody told the file."""

import datetime

import numpy as np
import polars as pl

from elman.series.durations import Duration

_HOUR = 3_600_000_000

# (where, a zone of it, month and which Sunday of it in autumn and spring, hour repeated, hour left out). -1: the last one.
_RULES = (
    ("Europe", "Europe/Berlin", (10, -1), (3, -1), 2, 2),
    ("Europe", "Europe/London", (10, -1), (3, -1), 1, 1),
    ("North America", "America/New_York", (11, 1), (3, 2), 1, 2),
)


def moments_of(walls: np.ndarray, zone: str) -> np.ndarray:
    """Microseconds of UTC at which a zone's clock showed `walls`: the first of two, an hour later for what clocks skipped.

    >>> summer = np.array(["2024-07-01"], "M8[us]").astype(np.int64)
    >>> moments_of(summer, "Europe/Berlin").astype("M8[us]").astype(str).tolist()
    ['2024-06-30T22:00:00.000000']
    """
    shown = pl.Series(walls).cast(pl.Datetime("us"))
    found, later = (
        (shown + shift).dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")
        for shift in (datetime.timedelta(0), datetime.timedelta(hours=1))
    )
    return found.fill_null(later).to_physical().to_numpy()


def daylight_saving(
    times: np.ndarray, repeated: np.ndarray, gap_starts: np.ndarray, gap_lengths: np.ndarray, step: Duration
) -> str | None:
    """In words what looks like daylight saving time, None where nothing does.

    times: of all rows. repeated: numbers of rows whose time was there already. gap_starts: times of the last rows before gaps,
    gap_lengths: the places without a row. The hour must be repeated on each autumn Sunday of the data and nowhere else.
    """
    if not step.microseconds or _HOUR % step.microseconds or not len(repeated) or len(repeated) > 200_000:
        return None
    hours = {_date_and_hour(int(time)) for time in np.unique(times[repeated])}
    missing = {
        _date_and_hour(int(time) + step.microseconds) for time in gap_starts[gap_lengths == _HOUR // step.microseconds]
    }
    first, last = (_date_and_hour(int(time))[0] for time in (times.min(), times.max()))
    years = range(first.year, last.year + 1)
    for _, zone, autumn, spring, again, skipped in _RULES:
        # The first and last day may be half there.
        backs = {(day, again) for day in (_sunday(year, *autumn) for year in years) if first < day < last}
        forwards = {(day, skipped) for day in (_sunday(year, *spring) for year in years) if first < day < last}
        if hours and hours == backs and forwards <= missing:
            day = min(hours)[0]
            return (
                f"the hour from {again} o'clock comes twice on {day} and every autumn: it looks like daylight saving time, "
                f"give --time-zone (such as {zone})"
            )
    return None


def _date_and_hour(time: int) -> tuple[datetime.date, int]:
    when = datetime.datetime(1970, 1, 1) + datetime.timedelta(microseconds=time)
    return when.date(), when.hour


def _sunday(year: int, month: int, which: int) -> datetime.date:
    if which < 0:
        last = datetime.date(year, month, 31)
        return last - datetime.timedelta(days=(last.weekday() + 1) % 7)
    first = datetime.date(year, month, 1)
    return first + datetime.timedelta(days=(6 - first.weekday()) % 7 + 7 * (which - 1))

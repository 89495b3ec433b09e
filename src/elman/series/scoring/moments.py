"""Moments as the calendar and the clock tell them: of targets, in local time, a year ago, as angles of day, week and year.

Moments are microseconds since 1970, as in `Panel.times`; a mean year has 365.2425 days (Gregorian).
"""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
from jaxtyping import Int64

from elman.series.cleaning.clocks import moments_of
from elman.series.durations import DAY
from elman.series.panel import Panel

YEAR = round(365.2425 * DAY)
"""Microseconds in the mean year of the Gregorian calendar."""
WEEK = 7 * DAY
_QUARTER_HOUR = DAY // 96


def target_times(
    panel: Panel, origins: Int64[np.ndarray, " origins"], rows: tuple[int, ...]
) -> Int64[np.ndarray, "origins steps"]:
    """The moments that lie `rows` steps ahead of each origin, whether or not the panel reaches there; months are the local clock's.

    >>> from elman.series.durations import Duration
    >>> january = np.array([0])
    >>> panel = Panel(("y",), np.ones((1, 1), np.float32), january, np.array([0, 1]), Duration(months=1))
    >>> target_times(panel, np.array([0]), (1, 2)) // DAY
    array([[31, 59]])
    """
    times, ahead = panel.times[origins][:, None], np.asarray(rows, np.int64)
    if panel.step.microseconds:
        return times + ahead * panel.step.microseconds
    walls = months_later(local_times(times, panel.time_zone), ahead * panel.step.months)
    return walls if panel.time_zone is None else moments_of(walls.ravel(), panel.time_zone).reshape(walls.shape)


def months_later(times: Int64[np.ndarray, "*any"], months: np.ndarray | int) -> Int64[np.ndarray, "*any"]:
    """The same day and time of day some months later (earlier if negative); the last day of a month that has no such day.

    >>> leap_day = np.array([np.datetime64("2016-02-29T06:00", "us").astype(np.int64)])
    >>> months_later(leap_day, -12).astype("datetime64[us]").astype(str).tolist()
    ['2015-02-28T06:00:00.000000']
    """
    moments = times.astype("datetime64[us]")
    month = moments.astype("datetime64[M]")
    since = times - month.astype("datetime64[us]").astype(np.int64)
    result = month + np.asarray(months)
    first = result.astype("datetime64[us]").astype(np.int64)
    length = (result + 1).astype("datetime64[us]").astype(np.int64) - first
    late = since >= length
    return first + np.where(late, length - DAY + since % DAY, since)


def local_times(times: Int64[np.ndarray, "*any"], time_zone: str | None) -> Int64[np.ndarray, "*any"]:
    """What the clock of `time_zone` shows at moments of UTC, as microseconds; unchanged where no zone is known.

    The zone is asked once for each day, and for each quarter of an hour of a day in which its clock was changed.

        >>> noon = np.array([np.datetime64("2024-07-01T12:00", "us"), np.datetime64("2024-01-01T12:00", "us")])
        >>> (local_times(noon.astype(np.int64), "Europe/Berlin") - noon.astype(np.int64)) // 3_600_000_000
        array([2, 1])
    """
    if time_zone is None or not times.size:
        return times
    zone = ZoneInfo(time_zone)
    days, day_of = np.unique(times // DAY, return_inverse=True)
    day_of = day_of.reshape(times.shape)
    shifts = _offsets(days * DAY, zone)
    changed = shifts != _offsets((days + 1) * DAY, zone)
    result = times + shifts[day_of]
    odd = changed[day_of]
    if odd.any():
        quarters, quarter_of = np.unique(times[odd] // _QUARTER_HOUR, return_inverse=True)
        result[odd] = times[odd] + _offsets(quarters * _QUARTER_HOUR, zone)[quarter_of.reshape(-1)]
    return result


def hours_and_months(times: Int64[np.ndarray, " rows"], time_zone: str | None) -> tuple[np.ndarray, np.ndarray]:
    """Hour of the day, 0 to 23, and month, 0 to 11, of each moment, in local time where the zone is known."""
    local = local_times(times, time_zone)
    months = local.astype("datetime64[us]").astype("datetime64[M]").astype(np.int64) % 12
    return local % DAY // (DAY // 24), months


def harmonics(times: Int64[np.ndarray, " rows"], period: int, count: int) -> np.ndarray:
    """cos and sin of 1 to `count` turns per `period` microseconds, `[rows, 2 count]`: cos 1, sin 1, cos 2, …

    >>> harmonics(np.array([0, DAY // 4]), DAY, 1).round(6) + 0.0
    array([[1., 0.],
           [0., 1.]])
    """
    angle = (times % period) * (2 * np.pi / period)
    turns = angle[:, None] * np.arange(1, count + 1)
    return np.stack([np.cos(turns), np.sin(turns)], axis=-1).reshape(len(times), 2 * count)


def _offsets(times: np.ndarray, zone: ZoneInfo) -> np.ndarray:
    """What the zone's clock is ahead of UTC at each moment, in microseconds."""
    result = np.empty(len(times), np.int64)
    for number, moment in enumerate(times.tolist()):
        offset = datetime.fromtimestamp(moment / 1_000_000, UTC).astimezone(zone).utcoffset()
        assert offset is not None
        result[number] = offset // timedelta(microseconds=1)
    return result

"""The calendar as a network sees it: circles of hour, weekday and year, by the clock on the wall where its zone is known."""

from collections.abc import Sequence

import numpy as np

from elman.series.durations import DAY, Duration
from elman.series.scoring.moments import local_times

CIRCLES = ("hour", "weekday", "year")
_PIECE = 1 << 20


def phases(times: np.ndarray, time_zone: str | None, circles: Sequence[str]) -> np.ndarray:
    """Where each time stands on the calendar's circles, 0 to 1: `[times, circles]`, by the local clock where a zone is known.

    >>> noon = np.asarray([1_577_880_000_000_000])                       # 2020-01-01 12:00
    >>> phases(noon, None, ["hour", "weekday"]).tolist()                 # a Wednesday: day 2 of 7
    [[0.5, 0.2857142984867096]]
    """
    result = np.empty((len(times), len(circles)), np.float32)
    for start in range(0, len(times) if circles else 0, _PIECE):
        piece = slice(start, start + _PIECE)
        local = local_times(times[piece], time_zone)
        for number, name in enumerate(circles):
            result[piece, number] = _turns(local, name)
    return result


def _turns(local: np.ndarray, circle: str) -> np.ndarray:
    """Places on one circle, 0 to 1, of times on the local clock."""
    days = local // DAY
    if circle == "hour":
        return (local % DAY) / DAY
    if circle == "weekday":
        return ((days + 3) % 7) / 7  # 1 January 1970 was a Thursday
    dates = days.astype("datetime64[D]")
    year = dates.astype("datetime64[Y]")
    first = year.astype("datetime64[D]")
    length = (year + 1).astype("datetime64[D]") - first
    return (dates - first) / length + (local % DAY) / DAY / 366


def circles_for(times: np.ndarray, step: Duration, wanted: Sequence[str]) -> tuple[str, ...]:
    """The circles that step and span of the training rows' `times` can teach, or those that were asked for."""
    if "none" in wanted:
        return ()
    if "auto" not in wanted:
        return tuple(name for name in CIRCLES if name in wanted)
    span = int(times.max() - times.min()) if len(times) else 0
    each = step.microseconds or 28 * DAY * step.months
    allowed = {
        "hour": each < DAY and span >= 2 * DAY,
        "weekday": each <= DAY and span >= 28 * DAY,
        "year": span >= 360 * DAY,
    }
    return tuple(name for name in CIRCLES if allowed[name])

"""The calendar as a network sees it: circles of hour, weekday and year, by the clock on the wall where its zone is known."""

from collections.abc import Sequence

import numpy as np

from elman.series.durations import DAY, Duration
from elman.series.moments import local_times

CIRCLES = ("hour", "weekday", "year")


def phases(times: np.ndarray, time_zone: str | None, circles: Sequence[str]) -> np.ndarray:
    """Where each time stands on the calendar's circles, 0 to 1: `[times, circles]`, by the local clock where a zone is known.

    >>> noon = np.asarray([1_577_880_000_000_000])                       # 2020-01-01 12:00
    >>> phases(noon, None, ["hour", "weekday"]).tolist()                 # a Wednesday: day 2 of 7
    [[0.5, 0.2857142984867096]]
    """
    result = np.empty((len(times), len(circles)), np.float32)
    if not circles:
        return result
    local = local_times(times, time_zone)
    days = local // DAY
    for number, name in enumerate(circles):
        if name == "hour":
            result[:, number] = (local % DAY) / DAY
        elif name == "weekday":
            result[:, number] = ((days + 3) % 7) / 7  # 1 January 1970 was a Thursday
        else:
            dates = days.astype("datetime64[D]")
            first = dates.astype("datetime64[Y]")
            length = (first + 1).astype("datetime64[D]") - first.astype("datetime64[D]")
            result[:, number] = (dates - first.astype("datetime64[D]")) / length + (local % DAY) / DAY / 366
    return result


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

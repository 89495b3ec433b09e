"""What every picture of a forecast is drawn with: numbers that may be missing, times on an axis, colors with a meaning.

>>> time_ticks(0, 86400, 4)
[(0, '1 Jan'), (21600, '06:00'), (43200, '12:00'), (64800, '18:00'), (86400, '2 Jan')]
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

_EPOCH = datetime(1970, 1, 1)
_STEPS = tuple(
    hours * 3600 for hours in (1 / 60, 1 / 12, 1 / 4, 1 / 2, 1, 3, 6, 12, 24, 48, 96, 168, 336)
)  # beyond them: months


def seconds_of(moment: str) -> float:
    """A time in ISO 8601 as seconds since 1970, on the clock that it is written in.

    >>> seconds_of("1970-01-02T01:00:00+05:00")
    90000.0
    """
    return (datetime.fromisoformat(moment).replace(tzinfo=None) - _EPOCH).total_seconds()


def moment_of(seconds: float) -> datetime:
    """The inverse of `seconds_of`."""
    return _EPOCH + timedelta(seconds=seconds)


def number(value: Any) -> float:
    """A number of a JSON file; NaN for null and for everything that is no number."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan


def numbers(values: Sequence[Any] | None) -> list[float]:
    """`number` of each; nothing for None."""
    return [number(value) for value in values or ()]


def column(rows: Sequence[Sequence[Any]], index: int) -> list[float]:
    """One level of the quantiles of all steps."""
    return [number(row[index]) if -len(row) <= index < len(row) else math.nan for row in rows]


def bands_of(levels: Sequence[float]) -> list[tuple[int, int]]:
    """Pairs of levels that are as far below as above the middle, outermost first.

    >>> bands_of([0.05, 0.25, 0.5, 0.75, 0.95])
    [(0, 4), (1, 3)]
    """
    return [(index, len(levels) - 1 - index) for index in range(len(levels) // 2)]


def shown_bands(levels: Sequence[float]) -> list[tuple[int, int]]:
    """At most three of the bands, the outermost among them: more cannot be told apart."""
    bands = bands_of(levels)
    return bands if len(bands) <= 3 else [bands[0], bands[len(bands) // 2], bands[-1]]


def middle_of(levels: Sequence[float]) -> int:
    """Index of the level nearest to 0.5."""
    return min(range(len(levels)), key=lambda index: abs(levels[index] - 0.5))


def share_of(levels: Sequence[float], band: tuple[int, int]) -> str:
    """What a band promises to hold, as people say it: "90 %"."""
    return f"{100 * (levels[band[1]] - levels[band[0]]):.3g} %"


def pieces(*series: Sequence[float]) -> Iterator[list[tuple[float, ...]]]:
    """Stretches in which every one of the series has a number."""
    piece: list[tuple[float, ...]] = []
    for values in zip(*series, strict=True):
        if all(map(math.isfinite, values)):
            piece.append(values)
        elif piece:
            yield piece
            piece = []
    if piece:
        yield piece


def limits(*series: Sequence[float], margin: float = 0.06) -> tuple[float, float]:
    """Smallest and largest of all numbers with a margin; (0, 1) where there is none."""
    finite = [value for values in series for value in values if math.isfinite(value)]
    if not finite:
        return 0.0, 1.0
    low, high = min(finite), max(finite)
    space = margin * (high - low) or 0.5 * abs(high) or 0.5
    return low - space, high + space


def time_ticks(first: float, last: float, count: int) -> list[tuple[float, str]]:
    """(seconds, label) of about `count` round times: a day's name at midnight, hours between, months where days are too many."""
    span = max(last - first, 60.0)
    step = next((step for step in _STEPS if span / step <= count + 0.5), None)
    if step is None:
        return _month_ticks(first, last, count)
    ticks = []
    # Weeks are counted from the first of January 1970 as well: any rhythm will do, as long as it is even.
    for index in range(math.ceil(first / step), math.floor(last / step) + 1):
        moment = moment_of(index * step)
        midnight = moment.hour == moment.minute == 0
        ticks.append((index * step, f"{moment.day} {moment:%b}" if midnight else f"{moment:%H:%M}"))
    if not any(":" not in label for _, label in ticks) and ticks:
        moment = moment_of(ticks[0][0])
        ticks[0] = (ticks[0][0], f"{moment.day} {moment:%b %H:%M}")
    return ticks


def _month_ticks(first: float, last: float, count: int) -> list[tuple[float, str]]:
    start, end = moment_of(first), moment_of(last)
    months = [12 * start.year + start.month - 1, 12 * end.year + end.month - 1]
    every = next((n for n in (1, 3, 6, 12, 24, 60, 120) if (months[1] - months[0]) / n <= count), 240)
    ticks = []
    for month in range(-(-months[0] // every) * every, months[1] + 1, every):
        moment = datetime(month // 12, month % 12 + 1, 1)
        seconds = (moment - _EPOCH).total_seconds()
        if first <= seconds <= last:
            ticks.append((seconds, f"{moment:%Y}" if every >= 12 else f"{moment:%b %Y}"))
    return ticks


def day_of(moment: str) -> str:
    """A time for a title: "3 March 2016, 14:00".

    >>> day_of("2016-03-03T14:00:00")
    '3 March 2016, 14:00'
    """
    when = datetime.fromisoformat(moment)
    return f"{when.day} {when:%B %Y, %H:%M}"


def fan_title(fan: Mapping[str, Any]) -> str:
    """What a picture of a forecast shows: one made at a moment, or many that were each made as far ahead.

    >>> fan_title({"origin": "2016-03-03T14:00:00"})
    'forecast of 3 March 2016, 14:00'
    >>> fan_title({"origin": "2016-03-03T14:00:00", "each_before": "24h"})
    'known until 3 March 2016, 14:00; each point was forecast 24h before'
    """
    if "each_before" in fan:
        return f"known until {day_of(fan['origin'])}; each point was forecast {fan['each_before']} before"
    return f"forecast of {day_of(fan['origin'])}"


def unit_words(unit: str) -> str:
    """A unit as it is written behind a number: "degC" is "°C".

    >>> unit_words("degC"), unit_words("m/s")
    ('°C', 'm/s')
    """
    return {"degC": "°C", "deg C": "°C", "degF": "°F", "deg": "°", "m**3": "m³"}.get(unit, unit)

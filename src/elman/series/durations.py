"""Lengths of time as people write them: "24h", "30min", "1d 12h", "3mo", or a plain number of rows.

A duration is an exact number of microseconds, or of months where the calendar decides (a month is no fixed time).

    >>> Duration.parse("1d 12h").microseconds // 3_600_000_000
    36
    >>> rows_of("24h", Duration.parse("10min"), "horizon")
    144
    >>> rows_of("144", Duration.parse("10min"), "horizon")
    144
    >>> str(Duration.parse("90min"))
    '90min'
"""

import re
from dataclasses import dataclass

from elman.errors import ConfigError

_UNITS = {
    "us": 1,
    "ms": 1_000,
    "s": 1_000_000,
    "min": 60_000_000,
    "h": 3_600_000_000,
    "d": 86_400_000_000,
    "w": 604_800_000_000,
}
_LONG_NAMES = {
    "sec": "s", "second": "s", "seconds": "s", "m": "min", "minute": "min", "minutes": "min", "hour": "h", "hours": "h",
    "day": "d", "days": "d", "week": "w", "weeks": "w", "month": "mo", "months": "mo", "q": "q", "quarter": "q",
    "quarters": "q", "year": "y", "years": "y",
}  # fmt: skip
_MONTHS = {"mo": 1, "q": 3, "y": 12}
_PIECE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]+)")

DAY = 86_400_000_000
"""Microseconds in a day."""


@dataclass(frozen=True)
class Duration:
    """A length of time: `microseconds`, or `months` of the calendar; one of the two is 0."""

    microseconds: int = 0
    months: int = 0

    @classmethod
    def parse(cls, text: str) -> "Duration":
        """Read "24h", "30min", "1d 12h", "15s", "3mo", "1y".

        Raises: `ConfigError` for anything else, for nothing, and for a mixture of months and fixed units.
        """
        microseconds, months, position = 0.0, 0.0, 0
        while position < len(text.rstrip()):
            piece = _PIECE.match(text, position)
            if piece is None:
                raise ConfigError(_not_a_duration(text))
            unit = _LONG_NAMES.get(piece[2].lower(), piece[2].lower())
            if unit in _UNITS:
                microseconds += float(piece[1]) * _UNITS[unit]
            elif unit in _MONTHS:
                months += float(piece[1]) * _MONTHS[unit]
            else:
                raise ConfigError(_not_a_duration(text))
            position = piece.end()
        if (microseconds > 0) == (months > 0) or months % 1 or microseconds % 1 or max(microseconds, months) > 2**62:
            raise ConfigError(_not_a_duration(text))
        return cls(int(microseconds), int(months))

    def __str__(self) -> str:
        """The shortest exact spelling: "90min", "24h", "7d", "3mo"."""
        if self.months:
            return f"{self.months}mo"
        for unit in ("d", "h", "min", "s", "ms"):
            size = _UNITS[unit]
            # A single day reads better as hours: forecasts speak of 24h.
            if self.microseconds and self.microseconds % size == 0 and (unit != "d" or self.microseconds > 2 * size):
                return f"{self.microseconds // size}{unit}"
        return f"{self.microseconds}us"

    def __mul__(self, count: int) -> "Duration":
        """`count` times as long."""
        return Duration(self.microseconds * count, self.months * count)


def rows_of(text: str, step: Duration, name: str) -> int:
    """How many rows `text` stands for when rows are `step` apart; a plain number is a number of rows already.

    Raises: `ConfigError`, naming the setting `name`, for what is no duration, or not a whole number of steps.
    """
    if re.fullmatch(r"\s*\d+\s*", text):
        rows = int(text)
        if rows < 1 or rows > 10**9:
            raise ConfigError(f"{name} = {text!r} is out of range: at least 1 row")
        return rows
    try:
        duration = Duration.parse(text)
    except ConfigError as error:
        raise ConfigError(f"{name}: {error}") from None
    wanted, each = (duration.months, step.months) if duration.months else (duration.microseconds, step.microseconds)
    if each == 0 or wanted % each:
        raise ConfigError(
            f"{name} = {text!r} is not a whole number of rows, which are {step} apart: give a multiple of {step}, "
            f"or a number of rows"
        )
    return wanted // each


def _not_a_duration(text: str) -> str:
    return f"{text!r} is no duration: write it as 24h, 30min, 1d 12h, 3mo, or give a number of rows"

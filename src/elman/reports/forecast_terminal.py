"""The pictures of forecasts in a terminal: eight dots to a character, shades for the interval, 80 columns or what there is.

    ····⡠⠒⢄   the line (history, or the median of the forecast), in Braille: 2 by 4 dots to a character
    ░░▒▒▒░░   the outermost interval, and a narrower one in it
    •         what really came

A character shows one thing: what came hides the line, the line hides the shades. No color is needed to tell them apart.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from rich.console import Console
from rich.text import Text

from elman.reports.curves import nice_ticks
from elman.reports.drawing import (
    column,
    day_of,
    fan_title,
    limits,
    middle_of,
    numbers,
    seconds_of,
    share_of,
    shown_bands,
    time_ticks,
)

ROWS = 14
"""Lines of characters in a picture."""

_DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))
_PLAIN = str.maketrans({"░": ".", "▒": ":", "•": "o", "│": "|", "┤": "+", "└": "+", "─": "-", "┬": "+"})


def print_fan(fan: dict[str, Any], console: Console, *, target: str = "", unit: str = "") -> None:
    """The history with the forecast behind it; for the keys see `elman.reports.forecasts.fan_figure`.

    >>> moments = [f"2016-03-01T{hour:02}:00:00" for hour in range(9)]
    >>> fan = {"series": "", "origin": moments[4], "history": {"times": moments[:5], "values": [1, 2, 3, 2, 1]},
    ...        "times": moments[5:], "levels": [0.1, 0.5, 0.9], "quantiles": [[0, 2, 4]] * 4, "actual": [2, 3, 3, 2]}
    >>> print_fan(fan, Console(width=60), target="T (degC)")  # doctest: +ELLIPSIS
    T (degC), forecast of 1 March 2016, 04:00...
    """
    times, past = [seconds_of(time) for time in fan["times"]], [seconds_of(time) for time in fan["history"]["times"]]
    values, actual = numbers(fan["history"]["values"]), numbers(fan.get("actual"))
    canvas = _Canvas(console, [*past, *times], _limits(fan, values, actual))
    canvas.bands(times, fan["quantiles"], fan["levels"])
    canvas.line(past, values, "")
    canvas.line(times, column(fan["quantiles"], middle_of(fan["levels"])), "cyan")
    canvas.points(times, actual if actual else [math.nan] * len(times))
    title = " ".join(filter(None, (fan.get("series"), target))) or "values"
    console.print(Text(f"{title}, {fan_title(fan)}", style="bold"))
    canvas.print(mark=seconds_of(fan["origin"]))
    _print_key(console, fan["levels"], "history, forecast", bool(actual))


def print_slices(slices: Sequence[dict[str, Any]], console: Console, *, target: str = "") -> None:
    """What had been forecast against what came; for the keys see `elman.reports.forecasts.slices_figure`."""
    for part in slices:
        times, actual = [seconds_of(time) for time in part["times"]], numbers(part["actual"])
        canvas = _Canvas(console, times, _limits(part, actual))
        canvas.bands(times, part["quantiles"], part["levels"])
        canvas.line(times, column(part["quantiles"], middle_of(part["levels"])), "cyan")
        canvas.points(times, actual)
        title = ", ".join(
            filter(None, (part.get("series"), target, f"{_day(part['times'][0])} to {_day(part['times'][-1])}"))
        )
        console.print(Text(title, style="bold"))
        canvas.print()
        _print_key(console, part["levels"], "forecast", True)


def _limits(picture: dict[str, Any], *series: Sequence[float]) -> tuple[float, float]:
    outer = (column(picture["quantiles"], index) for index in (0, len(picture["levels"]) - 1))
    return limits(*series, *outer, margin=0.03)


def _day(time: str) -> str:
    return day_of(time).rsplit(", ", 1)[0]


def _print_key(console: Console, levels: Sequence[float], line: str, with_truth: bool) -> None:
    bands = shown_bands(levels)
    shades = [f"░ {share_of(levels, bands[0])} interval"] if bands else []
    shades += [f"▒ {share_of(levels, bands[1])}"] if len(bands) > 1 else []
    key = "   ".join([f"⠒⠒ {line}", *shades, *(["• what came"] if with_truth else [])])
    console.print(Text(_spelled(console, key), style="dim"))


def _spelled(console: Console, text: str) -> str:
    """With signs that the console can show."""
    if console.encoding.lower().startswith("utf"):
        return text
    return "".join("*" if 0x2800 <= ord(sign) < 0x2900 else sign for sign in text.translate(_PLAIN))


class _Canvas:
    """Characters to draw on, with the axes around them. Places are seconds."""

    def __init__(self, console: Console, times: Sequence[float], bounds: tuple[float, float]) -> None:
        self.console = console
        self.low, self.high = bounds
        self.labels = self._labels()
        self.margin = max(map(len, self.labels.values()), default=1) + 1
        self.columns = max(10, min(console.width, 160) - self.margin - 1)
        self.first, self.last = (min(times), max(times)) if times else (0.0, 1.0)
        self.dots = [[0] * self.columns for _ in range(ROWS)]
        self.styles = [[""] * self.columns for _ in range(ROWS)]
        self.shades = [[" "] * self.columns for _ in range(ROWS)]
        self.truths: set[tuple[int, int]] = set()

    def _labels(self) -> dict[int, str]:
        """The text at the left of some lines: round numbers, each at the line in which its height lies."""
        return {self._row(value) // 4: f"{value + 0.0:.4g}" for value in nice_ticks(self.low, self.high, 4)}

    def _column(self, place: float) -> int:
        return round((2 * self.columns - 1) * (place - self.first) / ((self.last - self.first) or 1.0))

    def _row(self, value: float) -> int:
        return min(4 * ROWS - 1, max(0, round((4 * ROWS - 1) * (self.high - value) / (self.high - self.low))))

    def line(self, places: Sequence[float], values: Sequence[float], style: str) -> None:
        """Join neighbors; a missing value leaves a hole."""
        before: tuple[int, int] | None = None
        for place, value in zip(places, values, strict=True):
            if not math.isfinite(value):
                before = None
                continue
            at = (self._column(place), self._row(value))
            steps = max(1, abs(at[0] - before[0]), abs(at[1] - before[1])) if before else 1
            start = before or at
            for step in range(steps + 1):
                x, y = (round(a + (b - a) * step / steps) for a, b in zip(start, at, strict=True))
                self.dots[y // 4][x // 2] |= _DOTS[x % 2][y % 4]
                self.styles[y // 4][x // 2] = style
            before = at

    def bands(self, times: Sequence[float], quantiles: Sequence[Sequence[Any]], levels: Sequence[float]) -> None:
        """Shade what lies between the outermost levels, and within them a narrower pair."""
        for shade, band in zip("░▒", shown_bands(levels)[:2], strict=False):
            low, high = column(quantiles, band[0]), column(quantiles, band[1])
            for x in range(self.columns):
                edges = self._between(x, times, low, high)
                if edges is not None:
                    for y in range(self._row(edges[1]) // 4, self._row(edges[0]) // 4 + 1):
                        self.shades[y][x] = shade

    def _between(
        self, x: int, times: Sequence[float], low: Sequence[float], high: Sequence[float]
    ) -> tuple[float, float] | None:
        """The interval at a column of characters: of the time nearest to its middle, if one is as near as a step."""
        if not times:
            return None
        place = self.first + (self.last - self.first) * (2 * x + 0.5) / (2 * self.columns - 1)
        step = min((b - a for a, b in pairwise(times)), default=0.0)
        nearest = min(range(len(times)), key=lambda index: abs(times[index] - place))
        reach = max(0.5 * step, 0.51 * (self.last - self.first) / self.columns)
        if abs(times[nearest] - place) > reach or not (math.isfinite(low[nearest]) and math.isfinite(high[nearest])):
            return None
        return low[nearest], high[nearest]

    def points(self, places: Sequence[float], values: Sequence[float]) -> None:
        """Mark what came, every value of it."""
        for place, value in zip(places, values, strict=True):
            if math.isfinite(value):
                self.truths.add((self._row(value) // 4, self._column(place) // 2))

    def print(self, mark: float | None = None) -> None:
        """Put the picture and its axes on the console. mark: a place that gets a line from top to bottom where nothing else is."""
        line_at = None if mark is None else self._column(mark) // 2
        for y in range(ROWS):
            text = Text(f"{self.labels.get(y, ''):>{self.margin - 1}} {'┤' if y in self.labels else '│'}", style="dim")
            for x in range(self.columns):
                text.append(*self._cell(x, y, line_at))
            self._put(text)
        self._put(Text(self._time_axis(), style="dim"))

    def _cell(self, x: int, y: int, line_at: int | None) -> tuple[str, str]:
        if (y, x) in self.truths:
            return "•", "bold"
        if self.dots[y][x]:
            return chr(0x2800 + self.dots[y][x]), f"not dim {self.styles[y][x]}"
        if self.shades[y][x] != " ":
            return self.shades[y][x], "not dim cyan"
        return ("│" if x == line_at else " "), ""

    def _put(self, text: Text) -> None:
        text = text.copy()
        text.plain = _spelled(self.console, text.plain)
        text.rstrip()
        self.console.print(text, no_wrap=True, crop=True)

    def _time_axis(self) -> str:
        labels = [" "] * (self.margin + 1 + self.columns)
        for place, words in time_ticks(self.first, self.last, self.columns // 10):
            start = self.margin + 1 + self._column(place) // 2 - len(words) // 2
            start = min(max(0, start), len(labels) - len(words))
            if all(sign == " " for sign in labels[max(0, start - 1) : start + len(words) + 1]):
                labels[start : start + len(words)] = words
        return "".join(labels).rstrip()

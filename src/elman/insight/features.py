"""What a unit may follow: features of a text, one number per character, and of a series, one per step.

A feature belongs to the state *after* its character or row was read: the opening quote is inside, the closing one no longer.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from elman.series.calendar import circles_for, phases
from elman.series.panel import Panel

TAB = 8
"""Columns that a tab advances to a multiple of, in an indentation."""

LAGS = (1, 2, 3, 6, 12, 24, 48)
"""Steps back at which a target's own past is a feature."""

_OPENING, _CLOSING = "([{", ")]}"
_QUOTES = re.compile(r'["“”„«»]|\n[ \t\r]*(?=\n)')
_OTHER_CIRCLES = (0.38, 0.45, 0.55, 0.62, 0.71, 1.41, 1.62, 1.81, 2.24)
"""Lengths of circles, relative to the true one, that a unit is compared with by chance: none of them a simple fraction."""


@dataclass(frozen=True, eq=False)
class Feature:
    """A name, what it means, and its values: `[steps]`, or sine and cosine `[steps, 2]` of a place on a circle."""

    name: str
    meaning: str
    values: np.ndarray

    @property
    def is_circle(self) -> bool:
        """Whether it is a place on a circle, which has no sign."""
        return self.values.ndim == 2

    def columns(self) -> np.ndarray:
        """The values as `[steps, 1 or 2]`."""
        return self.values.reshape(len(self.values), -1).astype(np.float64)

    def decoys(self) -> Iterator[np.ndarray]:
        """Columns that look like the feature and have nothing to do with the text: what chance is measured with.

        A feature on a line is shifted around by nine different shares of the sequence. Shifting a circle changes nothing, so its
        decoys are circles of nine other lengths.
        """
        if not self.is_circle:
            for tenth in range(1, 10):
                yield np.roll(self.columns(), len(self.values) * tenth // 10, axis=0)
            return
        turns = np.unwrap(np.arctan2(self.values[:, 0], self.values[:, 1]))
        for length in _OTHER_CIRCLES:
            yield np.stack([np.sin(turns / length), np.cos(turns / length)], axis=1)


def text_features(text: str) -> dict[str, Feature]:
    """All features of a text by name, one value for each of its characters.

    quotes: 1 within double quotes ("…", “…”, „…“, «…»); a quote that is not closed ends at the next blank line, and single quotes
        do not count, for they are apostrophes. brackets: how many of ( [ { are open; one that is never closed does not count.
    line: characters since the line began, 0 at its first. indentation: columns of white space read so far before the line's first
        visible character; a tab goes on to a multiple of 8. word: 1, 2, … within a word (letters, digits, _ and apostrophes between
        them), else 0.
    word-start, upper-case, letter, digit, space: whether the character is the first of a word, a capital, a letter, a decimal
        figure, white space.

        >>> text_features('He said: "No."')["quotes"].values.astype(int).tolist()
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 0]
        >>> text_features("f(a[1])")["brackets"].values.astype(int).tolist()
        [0, 1, 1, 2, 2, 1, 0]
    """
    words = _word_positions(text)
    kinds = {"upper-case": str.isupper, "letter": str.isalpha, "digit": str.isdecimal, "space": str.isspace}
    found = [
        Feature("quotes", "within double quotes", _inside_quotes(text)),
        Feature("brackets", "how many brackets are open", _bracket_depth(text)),
        Feature("line", "characters since the line began", _line_positions(text)),
        Feature("indentation", "white space before the line's first visible character", _indentation(text)),
        Feature("word", "place within the word", words),
        Feature("word-start", "first character of a word", (words == 1).astype(np.float32)),
    ]
    meanings = {"upper-case": "a capital", "letter": "a letter", "digit": "a decimal figure", "space": "white space"}
    for name, is_kind in kinds.items():
        found.append(Feature(name, meanings[name], np.fromiter(map(is_kind, text), np.float32, len(text))))
    return {feature.name: feature for feature in found}


def _inside_quotes(text: str) -> np.ndarray:
    inside, begin, closing = np.zeros(len(text), np.float32), -1, ""
    ends = {"“": "”", "„": "“”", "«": "»", "»": "«", '"': '"'}
    for match in _QUOTES.finditer(text):
        mark, place = match[0], match.start()
        if begin >= 0 and (mark in closing or mark[0] == "\n"):
            inside[begin:place] = 1
            begin = -1
        elif begin < 0 and mark in ends:
            begin, closing = place, ends[mark]
    if begin >= 0:
        inside[begin:] = 1  # the text ends within the quote
    return inside


def _bracket_depth(text: str) -> np.ndarray:
    change, opened = np.zeros(len(text) + 1, np.float32), []
    for match in re.finditer(r"[()\[\]{}]", text):
        mark, place = match[0], match.start()
        if mark in _OPENING:
            opened.append((place, mark))
            continue
        wanted = _OPENING[_CLOSING.index(mark)]
        if any(kind == wanted for _, kind in opened):
            while opened[-1][1] != wanted:
                opened.pop()
            change[opened.pop()[0]] += 1
            change[place] -= 1
    return np.cumsum(change[:-1])


def _line_positions(text: str) -> np.ndarray:
    places = np.arange(len(text))
    breaks = np.fromiter((c == "\n" for c in text), bool, len(text))
    begins = np.where(np.concatenate([[True], breaks[:-1]])[: len(text)], places, 0)
    return (places - np.maximum.accumulate(begins)).astype(np.float32)


def _indentation(text: str) -> np.ndarray:
    result, columns, leading = np.zeros(len(text), np.float32), 0, True
    for place, character in enumerate(text):
        if character == "\n":
            columns, leading = 0, True
            continue
        if leading and character in " \t":
            columns = columns + 1 if character == " " else (columns // TAB + 1) * TAB
        else:
            leading = False
        result[place] = columns
    return result


def _word_positions(text: str) -> np.ndarray:
    result = np.zeros(len(text), np.float32)
    for match in re.finditer(r"\w+(?:['’]\w+)*", text):
        result[match.start() : match.end()] = np.arange(1, match.end() - match.start() + 1)
    return result


def series_features(panel: Panel, rows: np.ndarray, target: str) -> dict[str, Feature]:
    """Features of a series at `rows` (ascending global row numbers of one series, evenly apart), by name.

    hour, weekday, year: places on the calendar's circles, those that the rows' step and span let one tell. level: the target; where
        it is missing, the last one seen. change: level minus the one a step before. trend: mean of the level over the last tenth of
        the steps, the past only. lag-k: the level k steps before, where there are at least four times as many steps.
    """
    level = _filled(panel.column(target)[rows].astype(np.float64))
    times = panel.times[rows]
    circles = circles_for(times, panel.step, ["auto"])
    turns = phases(times, panel.time_zone, circles).astype(np.float64) * 2 * np.pi
    words = {"hour": "hour of the day", "weekday": "day of the week", "year": "day of the year"}
    found = [
        Feature(name, words[name], np.stack([np.sin(turns[:, place]), np.cos(turns[:, place])], axis=1))
        for place, name in enumerate(circles)
    ]
    window = max(2, len(rows) // 10)
    sums = np.concatenate([[0.0], np.cumsum(level)])
    ends = np.arange(1, len(rows) + 1)
    starts = np.maximum(ends - window, 0)
    found += [
        Feature("level", f"{target} now", level),
        Feature("change", f"{target} now minus a step before", np.diff(level, prepend=level[:1])),
        Feature(
            "trend", f"mean of {target} over the last {window} steps", (sums[ends] - sums[starts]) / (ends - starts)
        ),
    ]
    for lag in LAGS:
        if len(rows) >= 4 * lag:
            past = np.concatenate([np.repeat(level[:1], lag), level])[: len(rows)]
            found.append(Feature(f"lag-{lag}", f"{target} {lag} steps before", past))
    return {feature.name: feature for feature in found}


def _filled(values: np.ndarray) -> np.ndarray:
    """The last value seen where one is missing; the first one before it was seen; zeros where none was."""
    known = np.flatnonzero(~np.isnan(values))
    if len(known) == 0:
        return np.zeros_like(values)
    return values[known[np.maximum(np.searchsorted(known, np.arange(len(values)), side="right") - 1, 0)]]

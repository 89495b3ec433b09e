"""Origins, and what is known at them: which may be asked, what came after them, what was seen last before them.

An *origin* is the global number of the last row that may be known (`forecasting.AbstractForecaster`). Everything here works on
pieces of the panel, so that memory does not grow with it.
"""

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int64

from elman.series.panel import Horizon, Panel

CHUNK_ROWS = 1 << 18
"""Most rows of the panel that one chunk of origins spans: 256 k rows of 17 float64 columns are 36 MB."""


@dataclass(frozen=True, eq=False)
class Ranges:
    """Whole numbers from each of `firsts` on, `lengths` of them, one piece behind the other; none is made before it is asked for.

    >>> numbers = Ranges(np.array([5, 20]), np.array([3, 2]))
    >>> len(numbers), numbers[np.array([0, 3])], numbers[2:]
    (5, array([ 5, 20]), array([ 7, 20, 21]))
    """

    firsts: Int64[np.ndarray, " pieces"]
    lengths: Int64[np.ndarray, " pieces"]

    @functools.cached_property
    def _ends(self) -> np.ndarray:
        return np.cumsum(self.lengths)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getitem__(self, places: "slice | np.ndarray") -> np.ndarray:
        """The numbers at some places, none of them negative, or at those of a slice."""
        if isinstance(places, slice) and places == slice(None):
            return ranges(self.firsts, self.lengths)
        if isinstance(places, slice):
            places = np.arange(*places.indices(len(self)))
        piece = np.searchsorted(self._ends, places, side="right")
        return self.firsts[piece] + (places - (self._ends - self.lengths)[piece])


def part_origins(
    panel: Panel, horizon: Horizon, starts: Int64[np.ndarray, " series"], ends: Int64[np.ndarray, " series"]
) -> Int64[np.ndarray, " origins"]:
    """Every origin whose target at the furthest step lies in the part of its series from `starts` to before `ends`, rising.

    The origins themselves may lie before the part: a forecast for its first row is made earlier. Left out are those at which
    nothing of their series was measured yet.

        >>> from elman.series.durations import Duration
        >>> values = np.array([[np.nan], [1], [2], [3], [4], [5]], np.float32)
        >>> panel = Panel(("y",), values, np.arange(6), np.array([0, 6]), Duration(1))
        >>> part_origins(panel, Horizon("y", (1, 2), (0.5,)), np.array([2]), np.array([6]))
        array([1, 2, 3])
    """
    return part_ranges(panel, horizon, starts, ends)[:]


def part_ranges(
    panel: Panel, horizon: Horizon, starts: Int64[np.ndarray, " series"], ends: Int64[np.ndarray, " series"]
) -> Ranges:
    """`part_origins`, of which only those are made that are asked for."""
    first = np.maximum(np.asarray(starts) - horizon.furthest, first_observed(panel))
    last = np.minimum(np.asarray(ends), panel.offsets[1:]) - horizon.furthest
    return Ranges(first, np.maximum(last - first, 0))


def truth(
    panel: Panel, horizon: Horizon, origins: Int64[np.ndarray, " origins"]
) -> Float32[np.ndarray, "origins steps"]:
    """What came at each step ahead of each origin; NaN where it is missing or behind the end of the series.

    >>> from elman.series.durations import Duration
    >>> panel = Panel(("y",), np.arange(4, dtype=np.float32)[:, None], np.arange(4), np.array([0, 4]), Duration(1))
    >>> truth(panel, Horizon("y", (1, 2), (0.5,)), np.array([0, 2]))
    array([[ 1.,  2.],
           [ 3., nan]], dtype=float32)
    """
    origins, values = np.asarray(origins), panel.column(horizon.target)
    result = np.full((len(origins), len(horizon.rows)), np.nan, np.float32)
    for piece in panel.pieces(len(origins)) if len(values) else ():
        wanted = origins[piece, None] + np.asarray(horizon.rows)
        ends = panel.offsets[1:][series_of(panel, origins[piece])][:, None]
        found = values[np.minimum(wanted, len(values) - 1)]
        result[piece] = np.where(wanted < ends, found, np.float32(np.nan))
    return result


def training_origins(
    panel: Panel,
    horizon: Horizon,
    training_ends: Int64[np.ndarray, " series"],
    per_series: int,
    some: slice | None = None,
) -> Int64[np.ndarray, " origins"]:
    """At most `per_series` origins of each series, evenly spaced and always the same, whose targets all lie in training.

    some: of which series; None: of all.
    """
    some = some or slice(0, panel.series_count)
    first = first_observed(panel, some)
    available = np.maximum(np.asarray(training_ends)[some] - horizon.furthest - first, 0)
    taken = np.minimum(available, per_series)
    number = ranges(np.zeros(len(taken), np.int64), taken)
    return np.repeat(first, taken) + number * np.repeat(available, taken) // np.maximum(np.repeat(taken, taken), 1)


def evenly(origins: "Int64[np.ndarray, ' origins'] | Ranges", limit: int) -> Int64[np.ndarray, " some"]:
    """At most `limit` of the origins, evenly spaced and always the same.

    >>> evenly(np.arange(10), 4)
    array([0, 2, 5, 7])
    """
    if len(origins) <= limit:
        return origins[:]
    return origins[np.arange(limit) * len(origins) // limit]


def stretches(
    origins: "Int64[np.ndarray, ' origins'] | Ranges", limit: int, length: int = 512
) -> Int64[np.ndarray, " some"]:
    """At most about `limit` of the origins, in evenly spaced stretches of `length`, always the same.

    A network that walks a series with carried state answers neighbors at little more than the cost of one.

        >>> stretches(np.arange(12), 6, length=3)
        array([0, 1, 2, 6, 7, 8])
    """
    if len(origins) <= limit:
        return origins[:]
    every = -(-len(origins) // limit)
    begins = np.arange(0, len(origins), every * length)
    return origins[ranges(begins, np.minimum(length, len(origins) - begins))]


def series_of(panel: Panel, rows: Int64[np.ndarray, "*any"]) -> Int64[np.ndarray, "*any"]:
    """The number of the series that each of some rows belongs to."""
    return np.searchsorted(panel.offsets, rows, side="right") - 1


def first_observed(panel: Panel, some: slice | None = None) -> Int64[np.ndarray, " series"]:
    """For each series (or some) the global number of its first row with any measurement; its end where there is none."""
    bounds = panel.offsets if some is None else panel.offsets[some.start : some.stop + 1]
    return first_where(panel.observed_at, bounds)


def first_where(
    there: Callable[[np.ndarray], np.ndarray], offsets: Int64[np.ndarray, " bounds"]
) -> Int64[np.ndarray, " series"]:
    """For each series the first of its rows of which `there` holds; its end where there is none.

    Looks at the first row of each, and further on only where that one is bare.

        >>> first_where(lambda rows: rows % 5 == 3, np.array([0, 2, 3, 7]))
        array([2, 3, 3])
    """
    result = offsets[1:].astype(np.int64)
    some = np.flatnonzero(offsets[:-1] < offsets[1:])
    if not len(some):
        return result
    at_once = there(offsets[some])
    result[some[at_once]] = offsets[some[at_once]]
    for series in some[~at_once]:
        row, end, size = int(offsets[series]) + 1, int(offsets[series + 1]), 64
        while row < end:
            found = np.flatnonzero(there(np.arange(row, min(row + size, end))))
            if len(found):
                result[series] = row + int(found[0])
                break
            row, size = row + size, min(2 * size, CHUNK_ROWS)
    return result


def last_seen(panel: Panel, column: int, first: int, last: int) -> Int64[np.ndarray, " rows"]:
    """For each row from `first` to before `last`: the number of the last row up to it, in its series, where `column` has a value.

    -1 where nothing was seen yet. Costs as many rows as are asked for, and those back to the last value before the first.

        >>> from elman.series.durations import Duration
        >>> values = np.array([[1], [np.nan], [np.nan], [np.nan], [2]], np.float32)
        >>> panel = Panel(("y",), values, np.arange(5), np.array([0, 3, 5]), Duration(1), ("a", "b"))
        >>> last_seen(panel, 0, 1, 5)
        array([ 0,  0, -1,  4])
    """
    values = panel.values[:, column]
    rows = np.arange(first, last)
    seen = np.where(np.isnan(values[first:last]), -1, rows)
    if len(rows) and seen[0] < 0:
        seen[0] = _last_before(values, int(panel.offsets[series_of(panel, rows[:1])[0]]), first)
    seen = np.maximum.accumulate(seen)
    return np.where(seen >= panel.offsets[series_of(panel, rows)], seen, -1)


def last_values(
    panel: Panel, name: str, origins: Int64[np.ndarray, " origins"]
) -> tuple[np.ndarray, Int64[np.ndarray, " origins"]]:
    """The last value of a column seen at each of a chunk of rising origins, NaN if none, and its row number, -1 if none."""
    column = panel.columns.index(name)
    if not len(origins):
        return np.zeros(0), np.zeros(0, np.int64)
    first = int(origins[0])
    rows = last_seen(panel, column, first, int(origins[-1]) + 1)[origins - first]
    found = np.where(rows >= 0, panel.values[rows, column].astype(np.float64), np.nan)
    panel.release()
    return found, rows


def chunks(origins: Int64[np.ndarray, " origins"], count: int, span: int = CHUNK_ROWS) -> Iterator[slice]:
    """Pieces of rising origins: each of at most `count` of them, and over at most `span` rows of the panel.

    >>> [(piece.start, piece.stop) for piece in chunks(np.array([0, 1, 2, 3, 100, 101]), 3, 50)]
    [(0, 3), (3, 4), (4, 6)]
    """
    start = 0
    while start < len(origins):
        stop = min(start + max(count, 1), int(np.searchsorted(origins, origins[start] + span)))
        yield slice(start, stop)
        start = stop


def ranges(firsts: Int64[np.ndarray, " pieces"], lengths: Int64[np.ndarray, " pieces"]) -> Int64[np.ndarray, " total"]:
    """Whole numbers from each of `firsts` on, `lengths` of them, one piece behind the other.

    >>> ranges(np.array([5, 20]), np.array([3, 2]))
    array([ 5,  6,  7, 20, 21])
    """
    ends = np.cumsum(lengths)
    return np.arange(int(ends[-1]) if len(ends) else 0) + np.repeat(firsts - (ends - lengths), lengths)


def _last_before(values: np.ndarray, start: int, row: int) -> int:
    """The last row from `start` to before `row` with a value, or -1: looked for backwards in pieces that double."""
    size = 64
    while row > start:
        begin = max(row - size, start)
        found = np.flatnonzero(~np.isnan(values[begin:row]))
        if len(found):
            return begin + int(found[-1])
        row, size = begin, 2 * size
    return -1

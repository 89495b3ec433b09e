"""Measurements as the rest of the room sees them: one or many series on a regular grid of time, missing values as NaN.

Everything that reads, cleans or joins files is behind this; everything that learns or scores is before it. A *row* is one place of
the grid in one series; rows of all series stand one behind the other, so that a row's number is global and a window is a slice.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float32, Int64

from elman.errors import ConfigError
from elman.series.durations import Duration

BLOCK_ROWS = 1 << 19
"""Rows that are worked on at a time, where no series is longer."""

_BINS = 1 << 16
_SORTED_ROWS = 1 << 20


@dataclass(frozen=True)
class Block:
    """Some whole series, one behind the other: their numbers, and their rows."""

    series: slice
    rows: slice


@dataclass(frozen=True, eq=False)
class Panel:
    """Series on a regular grid.

    columns: names of the measured columns, the target among them.
    values: one row per place of the grid, NaN where nothing was measured.
    times: of each row, microseconds since 1970: UTC where `time_zone` is known, else the clock that wrote them.
    offsets: rows of series i are `offsets[i]:offsets[i + 1]`.
    names: of the series; a single unnamed one is `("",)`.
    static: numbers that say what each series is, `static_columns` their names.
    observed: rows that stood in the table (the others are gaps).
    """

    columns: tuple[str, ...]
    values: Float32[np.ndarray, "rows columns"]
    times: Int64[np.ndarray, " rows"]
    offsets: Int64[np.ndarray, " bounds"]
    step: Duration
    names: tuple[str, ...] = ("",)
    time_zone: str | None = None
    static: Float32[np.ndarray, "series static"] = field(default_factory=lambda: np.zeros((1, 0), np.float32))
    static_columns: tuple[str, ...] = ()

    @property
    def row_count(self) -> int:
        """Rows of all series."""
        return len(self.times)

    @property
    def series_count(self) -> int:
        """How many series."""
        return len(self.offsets) - 1

    @property
    def observed(self) -> np.ndarray:
        """Rows with any measurement, `[rows]` of bool."""
        return self.observed_at(slice(None))

    def observed_at(self, rows: slice | np.ndarray) -> np.ndarray:
        """Of some rows, those with any measurement: bool in the shape of `rows`."""
        return ~np.isnan(self.values[rows]).all(axis=-1)

    def blocks(self) -> Iterator[Block]:
        """All series in order, as many at a time as have `BLOCK_ROWS` rows together, or a single longer one.

        What is added up for each series by itself comes out the same, bit for bit, however the blocks are cut.

            >>> panel = Panel(("y",), np.ones((5, 1), np.float32), np.arange(5), np.array([0, 3, 5]), Duration(1), ("a", "b"))
            >>> [(block.series, block.rows) for block in panel.blocks()]
            [(slice(0, 2, None), slice(0, 5, None))]
        """
        first = 0
        while first < self.series_count:
            start = int(self.offsets[first])
            last = int(np.searchsorted(self.offsets, start + BLOCK_ROWS, side="right")) - 1
            last = min(max(last, first + 1), self.series_count)
            yield Block(slice(first, last), slice(start, int(self.offsets[last])))
            self.release()
            first = last

    def series_in(self, block: Block) -> np.ndarray:
        """The number of the series of each row of a block, counted from the block's first."""
        lengths = np.diff(self.offsets[block.series.start : block.series.stop + 1])
        return np.repeat(np.arange(len(lengths)), lengths)

    def pieces(self, count: int) -> Iterator[slice]:
        """Pieces of `count` rows that lie anywhere, as many as are read at a time; here all of them."""
        yield slice(0, count)

    def release(self) -> None:
        """Let go of memory that can be had again; here there is none: see `mapped.panel.MappedPanel`."""

    def series_of_rows(self) -> np.ndarray:
        """The number of the series that each row belongs to, `[rows]`."""
        return np.repeat(np.arange(self.series_count), np.diff(self.offsets))

    def column(self, name: str) -> np.ndarray:
        """The values of one column, `[rows]`."""
        return self.values[:, self.columns.index(name)]

    def until(self, ends: np.ndarray) -> "Panel":
        """The rows of each series before `ends` (a global row number for each series): what was known then."""
        keep = np.concatenate(
            [np.arange(a, b) for a, b in zip(self.offsets[:-1], ends, strict=True)] or [np.zeros(0, int)]
        )
        lengths = np.asarray(ends) - self.offsets[:-1]
        return Panel(
            columns=self.columns,
            values=self.values[keep],
            times=self.times[keep],
            offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            step=self.step,
            names=self.names,
            time_zone=self.time_zone,
            static=self.static,
            static_columns=self.static_columns,
        )


@dataclass(frozen=True)
class Horizon:
    """What is asked of a forecaster: which column, how many rows ahead, at which levels.

    rows: `(24,)` for the value at the horizon, `(1, 2, ..., 24)` for the whole path.
    levels: rising; the one nearest to 0.5 is the forecast, the outermost two are its interval.
    """

    target: str
    rows: tuple[int, ...]
    levels: tuple[float, ...]

    @property
    def furthest(self) -> int:
        """Rows to the last step that is asked for."""
        return self.rows[-1]

    @property
    def middle(self) -> int:
        """Index of the level that is the point forecast."""
        return int(np.argmin(np.abs(np.asarray(self.levels) - 0.5)))


@dataclass(frozen=True, eq=False)
class Split:
    """The same two moments cut every series into training, validation and test, in this order: no part ever looks ahead.

    training_ends and validation_ends hold a global row number for each series: the first row that is not in the part.
    """

    training_ends: Int64[np.ndarray, " series"]
    validation_ends: Int64[np.ndarray, " series"]

    @classmethod
    def of(cls, panel: Panel, percent: str) -> "Split":
        """Cut at the moments before which the given shares of all observed rows lie: "50/25/25".

        Raises: `ConfigError` where `percent` is not three numbers that sum to 100 with something to train on.
        """
        training, validation = parse_split(percent)
        total = sum(int(np.count_nonzero(panel.observed_at(block.rows))) for block in panel.blocks())
        ends = []
        for share in (training, training + validation):
            count = round(total * share)
            moment = _observed_time(panel, count) if count < total else int(np.iinfo(np.int64).max)
            ends.append(_first_at_or_after(panel, moment))
        return cls(*ends)


def parse_split(percent: str) -> tuple[float, float]:
    """The shares of training and validation in "50/25/25".

    Raises: `ConfigError` for anything else than three numbers, none negative, that sum to 100, the first above 0.
    """
    try:
        parts = [float(part) for part in percent.split("/")]
    except ValueError:
        parts = []
    if len(parts) != 3 or min(parts) < 0 or parts[0] <= 0 or abs(sum(parts) - 100) > 1e-6:
        raise ConfigError(
            f"split = {percent!r} is not possible: three percentages that sum to 100, such as 70/15/15 "
            f"(training / validation / test)"
        )
    return parts[0] / 100, parts[1] / 100


def _observed_time(panel: Panel, rank: int) -> int:
    """The time of the observed row with this number, were all of them sorted by time: found by counting, never sorting all."""
    first_times = _times_at(panel, panel.offsets[:-1][np.diff(panel.offsets) > 0])
    last_times = _times_at(panel, panel.offsets[1:][np.diff(panel.offsets) > 0] - 1)
    low, high = int(first_times.min()), int(last_times.max())
    while True:
        width = (high - low) // _BINS + 1
        counts = np.zeros(_BINS, np.int64)
        for times in _observed_between(panel, low, high):
            counts += np.bincount((times - low) // width, minlength=_BINS)
        place = int(np.searchsorted(np.cumsum(counts), rank, side="right"))
        rank -= int(counts[:place].sum())
        low, high = low + place * width, min(high, low + (place + 1) * width - 1)
        if low == high:
            return low
        if counts[place] <= _SORTED_ROWS:
            return int(np.sort(np.concatenate(list(_observed_between(panel, low, high))))[rank])


def _times_at(panel: Panel, rows: np.ndarray) -> np.ndarray:
    """The times of rows that lie anywhere."""
    return np.concatenate([panel.times[rows[piece]] for piece in panel.pieces(len(rows))])


def _observed_between(panel: Panel, low: int, high: int) -> Iterator[np.ndarray]:
    """The times of observed rows from `low` to `high`, block by block."""
    for block in panel.blocks():
        times = panel.times[block.rows]
        yield times[(times >= low) & (times <= high) & panel.observed_at(block.rows)]


def _first_at_or_after(panel: Panel, moment: int) -> np.ndarray:
    """For each series, the global number of its first row at or after `moment`."""
    result = np.empty(panel.series_count, np.int64)
    for piece in panel.pieces(panel.series_count):
        bounds = zip(panel.offsets[:-1][piece], panel.offsets[1:][piece], strict=True)
        result[piece] = [a + np.searchsorted(panel.times[a:b], moment) for a, b in bounds]
    return result

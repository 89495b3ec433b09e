"""A panel whose numbers lie in files: what is looked at is mapped into memory, and let go of again.

values.bin    float32, rows x columns, NaN where nothing was measured
ages.bin      uint8, rows x (1 + columns): rows since anything was measured, and since each column was, at most `OLDEST`
times.bin     int64, rows
firsts.bin    int64, series x columns: the first row of its series in which a column was measured, the series' length where none

Pages that were read stay with the process until they are given back, so that a walk through everything would seem to need as much
memory as the table has. `release` gives them back; the system keeps what it has room for, and reading them again costs little.
"""

import contextlib
import mmap
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from elman.errors import DataError
from elman.series.panel import Panel

OLDEST = 255
"""An age of this many rows or more, and of what was never seen."""

VALUES_NAME, AGES_NAME, TIMES_NAME, FIRSTS_NAME = "values.bin", "ages.bin", "times.bin", "firsts.bin"


_SCATTERED_ROWS = 1024
"""Rows anywhere in the files that are read before memory is given back: the system maps 64 KiB around each."""


class MappedFile:
    """A file of plain numbers as an array that cannot be written to.

    Raises: `ValueError` where the file is not as long as its shape says.
    """

    def __init__(self, path: Path, dtype: type, shape: tuple[int, ...]) -> None:
        size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        if path.stat().st_size != size:
            raise ValueError(f"{path} has {path.stat().st_size:,} bytes where {size:,} were expected")
        self._pages: mmap.mmap | None = None
        self.array: np.ndarray = np.zeros(shape if not size else 0, dtype)
        if not size:
            return
        with path.open("rb") as file:
            self._pages = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        if hasattr(mmap, "MADV_NOHUGEPAGE"):
            with contextlib.suppress(OSError):  # a single row would map 2 MiB
                self._pages.madvise(mmap.MADV_NOHUGEPAGE)
        self.array = np.frombuffer(self._pages, dtype).reshape(shape)

    def release(self) -> None:
        """Give back what was read into memory; it is read again where it is needed."""
        if self._pages is not None and hasattr(mmap, "MADV_DONTNEED"):
            self._pages.madvise(mmap.MADV_DONTNEED)


@dataclass(frozen=True, eq=False)
class MappedPanel(Panel):
    """A `Panel` over mapped files. ages, firsts: as in the module. files: what `release` gives back. folder: where they lie."""

    ages: np.ndarray = field(default_factory=lambda: np.zeros((0, 1), np.uint8))
    firsts: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.int64))
    files: tuple[MappedFile, ...] = ()
    folder: Path = Path()

    def observed_at(self, rows: slice | np.ndarray) -> np.ndarray:
        """Of some rows, those with any measurement: bool in the shape of `rows`."""
        if isinstance(rows, slice):
            return self.ages[rows, 0] == 0
        result = np.empty(np.shape(rows), bool)
        for piece in self.pieces(len(rows)):
            result[piece] = self.ages[rows[piece], 0] == 0
        return result

    def pieces(self, count: int) -> Iterator[slice]:
        """Pieces of `count` rows that lie anywhere: each of them may bring pages of its own, which are given back behind it."""
        for start in range(0, count, _SCATTERED_ROWS):
            yield slice(start, start + _SCATTERED_ROWS)
            self.release()

    def until(self, ends: np.ndarray) -> Panel:
        """Raises: `DataError`: a copy would take as much memory as the table."""
        raise self.no_copy()

    def no_copy(self) -> DataError:
        """The error for what cannot be done with mapped rows."""
        return DataError(
            "the table is larger than memory, and what is asked needs a copy of its rows: give fewer series in a table of their own"
        )

    def release(self) -> None:
        """Give back the memory that reading took."""
        for file in self.files:
            file.release()


def ages_of(values: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Rows since anything was measured, and since each column was, `[rows, 1 + columns]`, at most `OLDEST`; so where never.

    >>> ages_of(np.array([[np.nan, 1], [2, np.nan], [np.nan, np.nan]], np.float32), np.array([0, 3])).tolist()
    [[0, 255, 0], [0, 0, 1], [1, 1, 2]]
    """
    result = np.empty((len(values), 1 + values.shape[1]), np.uint8)
    places = np.arange(len(values))
    starts = np.repeat(offsets[:-1], np.diff(offsets))
    seen = ~np.isnan(values)
    for column in range(1 + values.shape[1]):
        there = seen.any(axis=1) if column == 0 else seen[:, column - 1]
        last = np.maximum.accumulate(np.where(there, places, -1))
        result[:, column] = np.where(last >= starts, np.minimum(places - last, OLDEST), OLDEST)
    return result


def firsts_of(values: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """For each series and column the first row of the series with a value, the series' length where there is none.

    >>> firsts_of(np.array([[np.nan, 1], [2, np.nan], [np.nan, np.nan]], np.float32), np.array([0, 2, 3])).tolist()
    [[1, 0], [1, 1]]
    """
    result = np.empty((len(offsets) - 1, values.shape[1]), np.int64)
    for column in range(values.shape[1]):
        seen = np.append(np.flatnonzero(~np.isnan(values[:, column])), len(values))
        found = np.minimum(seen[np.searchsorted(seen[:-1], offsets[:-1])], offsets[1:])
        result[:, column] = found - offsets[:-1]
    return result

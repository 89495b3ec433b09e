"""Rows in the network's numbers, computed where they are asked for: nothing of the table's size is ever held.

Each of these stands for an array over all rows, as `encoding.Rows` holds them, and gives the same numbers, bit for bit, for a slice
or for an array of row numbers of any shape.
"""

from collections.abc import Sequence

import numpy as np

from elman.series.calendar import phases
from elman.series.mapped.panel import OLDEST, MappedPanel

_PIECE = 1 << 16
"""Rows that are computed at a time; behind them their pages are given back."""

Places = slice | np.ndarray


class _OfRows:
    """What stands for an array over all rows. Subclasses say what lies at the rows `index`."""

    def __init__(self, view: "MappedRows") -> None:
        self._view = view

    def __len__(self) -> int:
        return self._view.panel.row_count

    def __getitem__(self, places: Places | int) -> np.ndarray:
        """What lies at some rows."""
        if isinstance(places, slice):
            places = np.arange(*places.indices(len(self)))
        index = np.asarray(places)
        flat = np.where(index < 0, index + len(self), index).ravel()
        found = [self._at(flat[:_PIECE])]
        self._view.read(len(flat[:_PIECE]))
        for start in range(_PIECE, len(flat), _PIECE):
            found.append(self._at(flat[start : start + _PIECE]))
            self._view.read(_PIECE)
        return np.concatenate(found).reshape(*index.shape, *found[0].shape[1:])

    def _at(self, index: np.ndarray) -> np.ndarray:
        raise NotImplementedError


class _Values(_OfRows):
    def _at(self, index: np.ndarray) -> np.ndarray:
        return self._view.last_values(index)


class MappedColumn(_OfRows):
    """One column, scaled, NaN where missing."""

    def __init__(self, view: "MappedRows", column: int) -> None:
        super().__init__(view)
        self._column = column

    def first_seen(self) -> np.ndarray:
        """For each series the global number of the first row with a value; behind all rows where there is none."""
        offsets, firsts = self._view.panel.offsets, self._view.panel.firsts[:, self._column]
        return np.where(firsts < np.diff(offsets), offsets[:-1] + firsts, len(self))

    def _at(self, index: np.ndarray) -> np.ndarray:
        return self._view.scaled(index, self._column)


class _Ages(_OfRows):
    def __init__(self, view: "MappedRows", columns: Sequence[int]) -> None:
        super().__init__(view)
        self._columns = np.asarray([0, *(1 + column for column in columns)])

    def _at(self, index: np.ndarray) -> np.ndarray:
        return self._view.panel.ages[index[:, None], self._columns]


class _Phases(_OfRows):
    def __init__(self, view: "MappedRows", time_zone: str | None, circles: Sequence[str]) -> None:
        super().__init__(view)
        self._time_zone, self._circles = time_zone, circles

    def _at(self, index: np.ndarray) -> np.ndarray:
        if not self._circles:
            return np.zeros((len(index), 0), np.float32)
        return phases(self._view.panel.times[index], self._time_zone, self._circles)


class _Series(_OfRows):
    def _at(self, index: np.ndarray) -> np.ndarray:
        return self._view.series_at(index).astype(np.int32)


class MappedRows:
    """A mapped panel behind the scaling of its columns, `[series, columns]` each."""

    def __init__(self, panel: MappedPanel, center: np.ndarray, scale: np.ndarray) -> None:
        self.panel, self.center, self.scale = panel, center, scale
        self._read = 0

    def values(self) -> _OfRows:
        """Scaled, the last one seen where missing: `[rows, columns]`."""
        return _Values(self)

    def column(self, number: int) -> MappedColumn:
        """One column, scaled, NaN where missing: `[rows]`."""
        return MappedColumn(self, number)

    def ages(self, columns: Sequence[int]) -> _OfRows:
        """Rows since anything was measured, and since each of some columns was: `[rows, 1 + columns]`."""
        return _Ages(self, columns)

    def phases(self, time_zone: str | None, circles: Sequence[str]) -> _OfRows:
        """Where each row's time stands on the calendar's circles: `[rows, circles]`."""
        return _Phases(self, time_zone, circles)

    def series(self) -> _OfRows:
        """The number of each row's series: `[rows]`."""
        return _Series(self)

    def behind(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What each of some rows leaves behind: the values last seen, and all ages with that of the whole row at the end."""
        values = np.empty((len(rows), len(self.panel.columns)), np.float32)
        ages = np.empty((len(rows), 1 + len(self.panel.columns)), np.uint8)
        for piece in self.panel.pieces(len(rows)):
            values[piece], ages[piece] = self.last_values(rows[piece]), self.panel.ages[rows[piece]]
        return values, np.roll(ages, -1, axis=1)

    def series_at(self, index: np.ndarray) -> np.ndarray:
        """The number of the series that each row belongs to."""
        return np.searchsorted(self.panel.offsets, index, side="right") - 1

    def scaled(self, index: np.ndarray, column: int) -> np.ndarray:
        """A column at some rows: in float64, and rounded once."""
        series = self.series_at(index)
        numbers = self.panel.values[index, column].astype(np.float64)
        return ((numbers - self.center[series, column]) / self.scale[series, column]).astype(np.float32)

    def last_values(self, index: np.ndarray) -> np.ndarray:
        """Every column at some rows `[n]`, the last value seen where it is missing, and 0 where none was seen yet."""
        series = self.series_at(index)
        values = self.panel.values[index]
        missing = np.isnan(values)
        if missing.any():
            places, columns = np.nonzero(missing)
            values[places, columns] = self._last_seen(index[places], columns, series[places])
        scaled = ((values.astype(np.float64) - self.center[series]) / self.scale[series]).astype(np.float32)
        scaled[np.isnan(scaled)] = 0
        return scaled

    def _last_seen(self, rows: np.ndarray, columns: np.ndarray, series: np.ndarray) -> np.ndarray:
        """The last value of each of some columns up to its row; NaN where there is none.

        An age says how far back it is, unless it is `OLDEST`: then one looks that far back, and asks again.
        """
        firsts = self.panel.offsets[series] + self.panel.firsts[series, columns]
        result = np.full(len(rows), np.nan, np.float32)
        left = np.flatnonzero(rows >= firsts)
        rows = rows.copy()
        while len(left):
            ages = self.panel.ages[rows[left], 1 + columns[left]].astype(np.int64)
            found = left[ages < OLDEST]
            result[found] = self.panel.values[rows[found] - ages[ages < OLDEST], columns[found]]
            left = left[ages == OLDEST]
            rows[left] -= OLDEST
        return result

    def read(self, rows: int) -> None:
        """Some rows were read: their pages are given back now and then."""
        self._read += rows
        if self._read >= _PIECE:
            self._read = 0
            self.panel.release()

"""The rows of a table cut by series into parts that fit into memory, each in files of its own.

Series are numbered as they first appear, and a part holds neighbors, so that the parts behind each other are the whole table in the
order in which it would have been read at once. Rows of a series keep their order too, over however many files they are scattered.
Both goes over the files one by one; a file that is finished stands in the journal and is not read again.
"""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import numpy as np
import polars as pl
from polars.exceptions import PanicException, PolarsError

from elman.errors import DataError
from elman.series.mapped.choosing import LargeTable, scanned
from elman.series.reading.files import TableFile
from elman.training.cache import not_written
from elman.training.journal import Journal

Progress = Callable[[str, float], None]

_BATCH_ROWS = 1 << 18
_COMPACTED_NAMES = 1 << 22
_NAME, _ROWS, _PART = "\x1fname", "\x1frows", "\x1fpart"  # names that no column has


@dataclass(frozen=True, eq=False)
class Parts:
    """How a table is cut. names, rows: of each series, in their order. bounds: part i has the series `bounds[i]:bounds[i + 1]`."""

    names: pl.Series
    rows: np.ndarray
    bounds: np.ndarray

    def __len__(self) -> int:
        return len(self.bounds) - 1

    def row_count(self, part: int) -> int:
        """Rows of one part."""
        return int(self.rows[self.bounds[part] : self.bounds[part + 1]].sum())

    def words(self, part: int, source: str) -> str:
        """What messages call the rows of a part."""
        first, last = self.names[int(self.bounds[part])], self.names[int(self.bounds[part + 1]) - 1]
        return f"the rows of {source} of the series {first!r}" + (f" to {last!r}" if first != last else "")


class Spreading:
    """Counts the rows of each series, and writes every row into its part."""

    def __init__(self, table: LargeTable, folder: Path, journal: Journal, progress: Progress) -> None:
        self.table, self.folder, self.journal, self.progress = table, folder, journal, progress
        self._done = list(accumulate((*table.rows, 0), initial=0))

    def parts(self, part_rows: int) -> Parts:
        """Neighbors of at most `part_rows` rows together, or a single series that has more."""
        counted = [self._counted(number) for number in range(len(self.table.files))]
        together = _together(counted).rechunk()
        rows = together[_ROWS].to_numpy().astype(np.int64)
        ends, bounds = np.cumsum(rows), [0]
        while bounds[-1] < len(rows):
            before = int(ends[bounds[-1] - 1]) if bounds[-1] else 0
            last = int(np.searchsorted(ends, before + part_rows, side="right"))
            bounds.append(max(last, bounds[-1] + 1))
        return Parts(together[_NAME], rows, np.asarray(bounds))

    def spread(self, parts: Parts, held_rows: int) -> None:
        """Write every row into the files of its part; `held_rows` are held in memory before they are written."""
        part_of = pl.DataFrame(
            {_NAME: parts.names, _PART: np.repeat(np.arange(len(parts), dtype=np.int32), np.diff(parts.bounds))}
        )
        for number, file in enumerate(self.table.files):
            if f"spread {number}" in self.journal.results:
                continue
            shutil.rmtree(self._file_folder(number), ignore_errors=True)  # half of it may be there
            held: list[pl.DataFrame] = []
            written = 0
            for batch in self._batches(number, "spreading"):
                held.append(batch)
                if sum(map(len, held)) >= held_rows:
                    self._write(pl.concat(held), part_of, number, written)
                    held, written = [], written + 1
            if held:
                self._write(pl.concat(held), part_of, number, written)
            file.check_unchanged()
            self.journal.add(f"spread {number}", written + bool(held))

    def read(self, parts: Parts, part: int) -> pl.DataFrame:
        """The rows of one part.

        Raises: `DataError` where they are not all there.
        """
        pieces = [
            pl.read_ipc(path)
            for number in range(len(self.table.files))
            for written in range(self.journal.results[f"spread {number}"])
            if (path := self._piece(number, part, written)).exists()
        ]
        if sum(map(len, pieces)) != parts.row_count(part):
            raise DataError(
                f"{self.folder} is damaged, rows of part {part} are missing: delete the folder and start again"
            )
        return pl.concat(pieces, rechunk=True)

    def _counted(self, number: int) -> pl.DataFrame:
        """Each series of a file, as they first appear, and its rows."""
        kept = self.folder / f"series-{number:06}.arrow"
        if f"counted {number}" in self.journal.results:
            return pl.read_ipc(kept)
        empty = pl.DataFrame({_NAME: [], _ROWS: []}, schema={_NAME: pl.String, _ROWS: pl.Int64})
        pieces = [empty]
        for batch in self._batches(number, "counting", only_series=True):
            series = batch.rename({self.table.series_column: _NAME})
            more = series.group_by(_NAME, maintain_order=True).len(name=_ROWS)
            pieces.append(more.with_columns(pl.col(_ROWS).cast(pl.Int64)))
            if sum(map(len, pieces[1:])) > _COMPACTED_NAMES:
                pieces = [_together(pieces)]
        found = _together(pieces)
        self.table.files[number].check_unchanged()
        found.write_ipc(kept)
        self.journal.add(f"counted {number}", len(found))
        return found

    def _batches(self, number: int, stage: str, *, only_series: bool = False) -> Iterator[pl.DataFrame]:
        """The rows of a file, some at a time.

        Raises: `DataError` where the file is damaged, or a row names no series.
        """
        file, series, done = self.table.files[number], self.table.series_column, 0
        columns = [pl.col(series).cast(pl.String)] if only_series else list(self.table.columns)
        try:
            for batch in scanned(file).select(columns).collect_batches(chunk_size=_BATCH_ROWS, engine="streaming"):
                gone = batch[series].is_null()
                if gone.any():
                    raise DataError(
                        f"row {done + int(gone.arg_max() or 0) + 1} of {file.name} names no series in column {series!r}: fill it "
                        f"in or take the row out"
                    )
                yield batch
                done += len(batch)
                self.progress(stage, (self._done[number] + done) / self.table.row_count)
        except (PolarsError, PanicException, OSError) as error:
            raise _damaged(file, error) from None

    def _write(self, rows: pl.DataFrame, part_of: pl.DataFrame, number: int, written: int) -> None:
        """Rows of a file, each into its part's."""
        folder, series = self._file_folder(number), self.table.series_column
        folder.mkdir(exist_ok=True)
        placed = rows.join(part_of, left_on=series, right_on=_NAME, how="left", maintain_order="left")
        try:
            for (part,), own in placed.partition_by(_PART, maintain_order=True, as_dict=True).items():
                own.drop(_PART).write_ipc(self._piece(number, part, written), compression="lz4")
        except (PolarsError, OSError) as error:
            raise not_written(folder, error) from None

    def _file_folder(self, number: int) -> Path:
        return self.folder / f"file-{number:06}"

    def _piece(self, number: int, part: int, written: int) -> Path:
        return self._file_folder(number) / f"{part:06}-{written:06}.arrow"


def _together(counted: list[pl.DataFrame]) -> pl.DataFrame:
    """The rows of each series, as they first appear, from counts that follow each other."""
    return pl.concat(counted).group_by(_NAME, maintain_order=True).agg(pl.col(_ROWS).sum())


def _damaged(file: TableFile, error: BaseException) -> DataError:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return DataError(f"{file.name} is a damaged Parquet file ({reason}): write it again")

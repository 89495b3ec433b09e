"""Whether a table would fit into memory, said by the footers of its files before anything of it is read.

A table that would not is prepared part by part (`building`). It has to be Parquet in the long format: a column that tells the
series apart is what the parts are cut by. How much memory there is, the machine says, or the limit of the container, or the
environment variable ELMAN_MEMORY ("4GB", or bytes).
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from polars.exceptions import PanicException, PolarsError

from elman.config import SeriesSettings
from elman.errors import ConfigError, DataError
from elman.series.reading.databases import is_uri
from elman.series.reading.files import TableFile, find_files, start
from elman.series.reading.tables import SERIES_COLUMN, check_columns, columns_to_read

MEMORY_VARIABLE = "ELMAN_MEMORY"

VALUE_BYTES = 8
"""Of each value unpacked, to be compared with `SHARE` of the memory."""

SHARE = 0.25

PEAK_BYTES = 20
"""That reading and cleaning a table at once takes at its peak for each value, as 10 million rows of 14 columns were measured."""

_LIMIT_FILES = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_PARQUET_START = 4


@dataclass(frozen=True, eq=False)
class LargeTable:
    """A table in Parquet files that does not fit into memory. name: for messages. rows: of each file.

    columns: what is read of each file, alike in all of them. schema: of the first file with rows.
    """

    name: str
    files: tuple[TableFile, ...]
    rows: tuple[int, ...]
    columns: tuple[pl.Expr, ...]
    schema: pl.Schema
    series_column: str

    @property
    def row_count(self) -> int:
        """Rows of all files."""
        return sum(self.rows)

    @property
    def first_with_rows(self) -> TableFile:
        """The first file that has any."""
        return next(file for file, rows in zip(self.files, self.rows, strict=True) if rows)


def memory() -> int:
    """The bytes of memory that there are: as ELMAN_MEMORY says, or of the machine or the container, whichever has less.

    Raises: `ConfigError` for an ELMAN_MEMORY that is no number of bytes.
    """
    given = os.environ.get(MEMORY_VARIABLE, "").strip()
    if given:
        found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)b?", given.lower())
        if found is None or not float(found[1]):
            raise ConfigError(
                f"{MEMORY_VARIABLE} = {given!r} is no amount of memory: give bytes, or a number with MB or GB"
            )
        return int(float(found[1]) * _UNITS[found[2]])
    try:
        least = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        least = 4 * 10**9
    for name in _LIMIT_FILES:
        try:
            least = min(least, int(Path(name).read_text()))
        except (OSError, ValueError):
            continue  # not there, or "max"
    return least


def large_table(source: Any, settings: SeriesSettings) -> LargeTable | None:
    """The table where it has to be prepared part by part; None where it is read as every other one.

    Raises: `DataError` where it fits in neither way: other columns in one of its files, or no column that tells series apart.
    """
    if not isinstance(source, str | Path) or is_uri(source) or settings.query is not None:
        return None
    files = find_files(source)
    if any(start(file, _PARQUET_START) != b"PAR1" for file in files):
        return None
    try:
        rows = tuple(int(scanned(file).select(pl.len()).collect().item()) for file in files)
        schemas = [scanned(file).collect_schema() for file in files]
    except (PolarsError, PanicException, OSError):
        return None  # one of them is damaged: reading it says so
    first = next((number for number, count in enumerate(rows) if count), None)
    if first is None:
        return None
    schema, name = schemas[first], files[0].name if len(files) == 1 else str(source)
    if sum(rows) * len(schema) * VALUE_BYTES <= SHARE * memory():
        return None
    wanted = [column.meta.output_name() for column in columns_to_read(schema, sum(rows), settings, name)]
    values = sum(rows) * len(wanted)
    if values * VALUE_BYTES <= SHARE * memory():
        return None
    series_column = settings.series_column or (SERIES_COLUMN if SERIES_COLUMN in schema else None)
    if series_column is None:
        if values * PEAK_BYTES <= memory():
            return None
        raise DataError(
            f"{name} needs about {values * PEAK_BYTES / 1e9:.2g} GB of memory, of {memory() / 1e9:.2g} GB, and has no column "
            f"{SERIES_COLUMN!r} to cut it by: name the one that tells its series apart (--series-column), or give fewer rows"
        )
    _check_schemas(files, rows, schemas, first, wanted)
    _check_series(schema[series_column], series_column, name)
    read = [found for found, count in zip(schemas, rows, strict=True) if count]
    columns = tuple(
        _alike(column, [found[column.meta.output_name()] for found in read], series_column)
        for column in columns_to_read(schema, sum(rows), settings, name)
    )
    return LargeTable(name, files, rows, columns, schema, series_column)


def scanned(file: TableFile) -> pl.LazyFrame:
    """A Parquet file, not read yet; whatever marks stand in its name, it is a file's, and tells of no columns."""
    return pl.scan_parquet(file.path, glob=False, hive_partitioning=False)


def _check_schemas(
    files: tuple[TableFile, ...], rows: tuple[int, ...], schemas: list[pl.Schema], first: int, wanted: list[str]
) -> None:
    """Every file has the same columns, and each holds the same kind of values in all of them."""
    usual, usual_file = schemas[first], files[first]
    for file, count, schema in zip(files, rows, schemas, strict=True):
        check_columns(schema.names(), file, usual.names(), usual_file)
        for name in wanted if count else ():
            if schema[name] != usual[name] and not (_plain(schema[name]) and _plain(usual[name])):
                raise DataError(
                    f"column {name!r} of {file.name} holds {schema[name]}, that of {usual_file.name} {usual[name]}: write both in "
                    f"the same type"
                )


def _plain(kind: pl.DataType) -> bool:
    return kind.is_numeric() or kind in (pl.Boolean, pl.Null)


def _alike(column: pl.Expr, kinds: list[pl.DataType], series_column: str) -> pl.Expr:
    """A column as it is read of every file, whatever numbers it holds in each."""
    name = column.meta.output_name()
    if name == series_column:
        return pl.col(name).cast(pl.String)
    if not all(_plain(kind) for kind in kinds) or len(set(kinds)) == 1:
        return column
    return pl.col(name).cast(pl.Int64 if all(kind.is_integer() for kind in kinds) else pl.Float64)


def _check_series(kind: pl.DataType, series_column: str, name: str) -> None:
    if not (kind.is_integer() or kind in (pl.String, pl.Categorical, pl.Enum)):
        raise DataError(
            f"the series column {series_column!r} of {name} holds {kind}: in a table larger than memory it has to be text or whole "
            f"numbers"
        )

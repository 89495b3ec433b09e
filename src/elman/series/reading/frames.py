"""Data frames of pandas as frames of Polars, without pyarrow and without importing pandas."""

from collections import Counter
from typing import Any

import numpy as np
import polars as pl

from elman.errors import DataError


def is_pandas(source: object) -> bool:
    """Whether this is a data frame of pandas."""
    return any(
        kind.__module__.split(".")[0] == "pandas" and kind.__name__ == "DataFrame" for kind in type(source).__mro__
    )


def frame_of_pandas(frame: Any) -> pl.DataFrame:
    """The same columns in Polars, before them the named levels of the index and an index of times ("time" where it has no name).

    Raises: `DataError` for a name that stands twice, names in several levels, and columns that hold what no table does.
    """
    if frame.columns.nlevels > 1:
        raise DataError("the frame's columns have several levels: give each column a single name")
    names = [str(name) for name in frame.columns]
    columns: list[pl.Series] = []
    for level in range(frame.index.nlevels):
        values = frame.index.get_level_values(level)
        is_time = values.dtype.kind == "M" or hasattr(values.dtype, "tz") or type(values).__name__ == "PeriodIndex"
        if is_time or values.name is not None:
            columns.append(_series(str(values.name) if values.name is not None else "time", values))
    every = [column.name for column in columns] + names
    repeated = [name for name, count in Counter(every).items() if count > 1]
    if repeated:
        raise DataError(
            f"the column name {repeated[0]!r} stands more than once in the frame: give each column its own name"
        )
    columns += [_series(name, frame.iloc[:, place]) for place, name in enumerate(names)]
    return pl.DataFrame(columns)


def _series(name: str, values: Any) -> pl.Series:
    kind = str(values.dtype)
    if kind.startswith("period"):
        values = values.dt.to_timestamp() if hasattr(values, "dt") else values.to_timestamp()
        kind = str(values.dtype)
    if kind.startswith(("datetime64", "timestamp")):
        return _times(name, values)
    plain = getattr(values.dtype, "kind", "O")
    if plain in "iufb" and isinstance(values.dtype, np.dtype):
        return pl.Series(name, np.ascontiguousarray(values.to_numpy()))
    if plain in "iufb":
        # Nullable and Arrow types: what is missing becomes NaN.
        return pl.Series(name, np.asarray(values.to_numpy(dtype=np.float64, na_value=np.nan)))
    missing = np.asarray(values.isna())
    cells = [None if gone else cell for cell, gone in zip(values.tolist(), missing.tolist(), strict=True)]
    kinds = {type(cell) for cell in cells} - {type(None)}
    try:
        if kinds and all(issubclass(one, int | float | np.number | np.bool_) for one in kinds):
            return pl.Series(name, [None if cell is None else float(cell) for cell in cells], dtype=pl.Float64)
        if all(hasattr(cell, "isoformat") for cell in cells if cell is not None) and kinds:
            # Dates and times of Python, of one zone or several: ISO 8601 says all of them.
            return pl.Series(name, [None if cell is None else cell.isoformat() for cell in cells], dtype=pl.String)
        return pl.Series(name, [None if cell is None else str(cell) for cell in cells], dtype=pl.String)
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(f"the column {name!r} of the frame cannot be read: {error}") from None


def _times(name: str, values: Any) -> pl.Series:
    zone = getattr(values.dtype, "tz", None)
    accessor = values.dt if hasattr(values, "dt") else values
    if zone is not None:
        values = accessor.tz_convert("UTC")
        accessor = values.dt if hasattr(values, "dt") else values
        values = accessor.tz_localize(None)
    stamps = np.asarray(values.to_numpy(dtype="datetime64[us]"))
    series = pl.Series(name, stamps.view(np.int64)).set(pl.Series(np.isnat(stamps)), None).cast(pl.Datetime("us"))
    if zone is None:
        return series
    told = series.dt.replace_time_zone("UTC")
    key = getattr(zone, "key", None) or getattr(zone, "zone", None)
    return told.dt.convert_time_zone(key) if key else told

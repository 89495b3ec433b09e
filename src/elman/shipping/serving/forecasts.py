"""Forecasts over HTTP: rows as JSON become the table that a forecaster reads, its frame becomes JSON."""

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from elman.errors import DataError
from elman.series.cleaning.units import unit_of
from elman.series.model import SeriesModel
from elman.series.recent import read_recent
from elman.series.running import forecast_latest

MOST_CELLS = 20_000_000
"""Cells of a table, filled up where rows lack a column."""


def table_of(rows: Sequence[Mapping[str, Any]] | None, columns: Mapping[str, Sequence[Any]] | None) -> pl.DataFrame:
    """A frame of rows, or of columns, as JSON has them; a column with any text is text as a whole.

    >>> table_of([{"time": "2026-01-01", "y": 1}, {"time": "2026-01-02"}], None).to_dict(as_series=False)
    {'time': ['2026-01-01', '2026-01-02'], 'y': [1.0, None]}

    Raises: `DataError` for columns of different lengths, no rows, or more than a server holds.
    """
    if (rows is None) == (columns is None):
        raise DataError("give the table either as `rows` or as `columns`")
    if rows is not None:
        names = list(dict.fromkeys(name for row in rows for name in row))
        if len(names) * len(rows) > MOST_CELLS:
            raise DataError(f"{len(rows):,} rows of {len(names):,} columns are more than {MOST_CELLS:,} cells")
        columns = {name: [row.get(name) for row in rows] for name in names}
    assert columns is not None
    lengths = {len(cells) for cells in columns.values()}
    if len(lengths) != 1 or not lengths.pop():
        raise DataError("the columns of the table must be equally long, of one row at least")
    return pl.DataFrame([_column(name, cells) for name, cells in columns.items()])


def forecast(model: SeriesModel, table: pl.DataFrame, reading: Mapping[str, str] | None = None) -> dict[str, Any]:
    """What comes behind the last measured row of each series, as the answer of `/v1/forecast`.

    Raises: `DataError` or `ConfigError` for rows that cannot be forecast from.
    """
    recent = read_recent(model, table, overrides=reading)
    frame = forecast_latest(model, recent.panel)
    return {**head(model), "warnings": list(recent.warnings), "forecasts": paths(model, frame)}


def head(model: SeriesModel) -> dict[str, Any]:
    """What a forecast is about."""
    horizon = model.horizon
    return {
        "object": "forecast",
        "target": horizon.target,
        "unit": unit_of(horizon.target),
        "step": str(model.encoding.step),
        "horizon": str(model.encoding.step * horizon.furthest),
        "levels": list(horizon.levels),
    }


def paths(model: SeriesModel, frame: pl.DataFrame) -> list[dict[str, Any]]:
    """A frame of `forecast_frame` as one object for each series: when it was made, and the value and quantiles at each time."""
    levels = len(model.horizon.levels)
    quantiles = frame.columns[len(frame.columns) - levels :] if levels > 1 else []
    named = len(frame.columns) - len(quantiles) == 4
    names = frame.columns[1:] if named else frame.columns
    origin, time, target = names[:3]
    steps = len(model.horizon.rows)
    times = frame.with_columns(_as_text(frame[column]) for column in (origin, time))
    rows = times.to_dicts()
    found = []
    for start in range(0, len(rows), steps):
        mine = rows[start : start + steps]
        path = [
            {
                "time": row[time],
                "value": _finite(row[target]),
                **({"quantiles": {name: _finite(row[name]) for name in quantiles}} if quantiles else {}),
            }
            for row in mine
        ]
        found.append({"series": mine[0][frame.columns[0]] if named else None, "origin": mine[0][origin], "path": path})
    return found


def _as_text(column: pl.Series) -> pl.Series:
    """Times as ISO 8601, with the offset where the zone is known."""
    zone = "%:z" if getattr(column.dtype, "time_zone", None) else ""
    return column.dt.to_string(f"%Y-%m-%dT%H:%M:%S%.f{zone}").alias(column.name)


def _column(name: str, cells: Sequence[Any]) -> pl.Series:
    try:
        if any(isinstance(cell, str) for cell in cells):
            return pl.Series(name, [None if cell is None else str(cell) for cell in cells], dtype=pl.String)
        return pl.Series(name, [None if cell is None else float(cell) for cell in cells], dtype=pl.Float64)
    except (OverflowError, UnicodeEncodeError):
        raise DataError(f"the column {name[:100]!r} holds something that is neither a number nor a text") from None


def _finite(value: float | None) -> float | None:
    """A number that JSON can hold: none for what is none."""
    return value if value is not None and abs(value) < float("inf") else None

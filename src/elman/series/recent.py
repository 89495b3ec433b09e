"""New rows at forecast time: read as the training rows were, and looked at before anything is forecast from them.

What a network cannot work with is an error: columns that are missing, another step, too few rows, a known column without its
future. What it may be fooled by is a warning: another unit, a series it was never shown, rows out of order.
"""

import contextlib
import datetime
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl

from elman.config import SeriesSettings, suggestion
from elman.errors import ConfigError, DataError
from elman.series.answers import last_measured, series_column
from elman.series.cleaning.findings import DataReport, moment
from elman.series.cleaning.grid import arrange, to_panel
from elman.series.cleaning.inspection import inspect
from elman.series.durations import Duration
from elman.series.encoding import Encoding
from elman.series.model import SeriesModel
from elman.series.panel import Panel
from elman.series.reading.table import Table
from elman.series.reading.tables import Progress, read_table
from elman.series.reading.timestamps import read_times
from elman.series.reading.zones import check_zone

READING = ("time_column", "series_column", "query", "time_format", "time_zone", "decimal", "refuse")
"""Settings that say how a table is written, and may be others for new rows."""

WIDER = 0.5
"""By how much of its width a column's range in training is widened before a value counts as outside: seasons differ."""

OUTSIDE = 0.05
"""Share of the recent values outside of the range at which another unit is suspected."""


@dataclass(frozen=True, eq=False)
class Recent:
    """New rows, ready to be forecast from. warnings: one sentence each, for the person who gave them.

    time_column, time_format: where the times stood, and how they were written.
    """

    panel: Panel
    report: DataReport
    warnings: tuple[str, ...]
    time_column: str
    time_format: str


@dataclass(frozen=True, eq=False)
class NewRow:
    """One row of one series. time: microseconds since 1970, as in `Panel.times`; values: in the order of the model's columns.

    series: None where the row does not say it.
    """

    series: str | None
    time: int
    values: np.ndarray


def read_recent(
    model: SeriesModel,
    source: Any,
    *,
    forecasting: bool = True,
    progress: Progress | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Recent:
    """Read the rows that a forecast starts from: at least a lookback of them, and the future of columns that are known in advance.

    source: whatever `read_table` takes. The target must be there, for a forecast starts from its past; its future may be empty.
    overrides: settings of `READING` that are others here than in training. forecasting: whether known columns must have values up
    to the horizon behind the last row; not so for a backtest.

    Raises: `DataError` for columns that are missing, rows of another step, fewer of them than a lookback in every series, a target
    without any value, known columns without their future; `ConfigError` for an override that is none.
    """
    settings = recent_settings(model, overrides)
    table = read_table(source, settings, progress=progress)
    _check_step(table, settings, model.encoding.step)
    settings = replace(settings, step=str(model.encoding.step))
    report = inspect(table, settings, known_sentinels=model.sentinels)
    encoding = model.encoding
    panel = to_panel(table, report, settings, columns=encoding.columns, static_columns=encoding.static_columns)
    if np.isnan(panel.column(encoding.target)).all():
        raise DataError(
            f"the target {encoding.target!r} of {table.source} has no value in any of {report.rows:,} rows: a forecast "
            f"starts from its past"
        )
    origins = last_measured(panel, encoding.known)
    warnings = [finding.sentence for finding in report.of_kind("order")]
    warnings += _check_lengths(model, panel, origins, table.source)
    if forecasting:
        require_known(model, panel, origins)
    warnings += [*_new_series(encoding, panel), *_other_units(encoding, panel)]
    return Recent(panel, report, tuple(warnings), table.time_column, table.time_format)


def recent_settings(model: SeriesModel, overrides: Mapping[str, Any] | None = None) -> SeriesSettings:
    """The settings to read new rows with: exactly the columns that the model was trained on."""
    overrides = dict(overrides or {})
    for name in overrides:
        if name not in READING:
            raise DataError(
                f"{name!r} was settled in training{suggestion(name, READING)}; new rows may differ in {', '.join(READING)}"
            )
    encoding = model.encoding
    settings = model.config.replace(**overrides).series
    inputs = tuple(name for name in encoding.columns if name != encoding.target) or encoding.columns
    return replace(settings, target=encoding.target, inputs=inputs, step=None)


def require_known(model: SeriesModel, panel: Panel, origins: np.ndarray) -> None:
    """See to it that columns known in advance have values for every row that is forecast from `origins`, one for each series.

    Series whose origin lies before their first row are left out. Raises: `DataError` with the column and the last time it has.
    """
    ahead = np.asarray(model.encoding.ahead)
    for name in model.encoding.known:
        values = panel.column(name)
        for number, origin in enumerate(origins.tolist()):
            start, end = panel.offsets[number : number + 2].tolist()
            if origin < start:
                continue
            wanted = origin + ahead
            inside = wanted[wanted < end]
            if len(inside) == len(wanted) and not np.isnan(values[inside]).any():
                continue
            there = np.flatnonzero(~np.isnan(values[start:end]))
            last = moment(int(panel.times[start + there[-1]])) if len(there) else "never"
            of = f" of series {panel.names[number]!r}" if panel.names[number] else ""
            raise DataError(
                f"the column {name!r}{of} must be known up to {ahead[-1]} rows ({model.encoding.step * int(ahead[-1])}) behind "
                f"{moment(int(panel.times[origin]))}, but has its last value at {last}: give it for every row up to the horizon"
            )


def _check_step(table: Table, settings: SeriesSettings, trained: Duration) -> None:
    """Refuse rows of another step than the model was trained on."""
    if table.frame[table.time_column].n_unique() < 2:
        return  # too few rows, which is told with better words
    found = arrange(table, settings).step
    if found != trained:
        raise DataError(
            f"the rows of {table.source} are {found} apart, but the model was trained on {trained}: give rows {trained} apart, or "
            f"train a model for {found}"
        )


def _check_lengths(model: SeriesModel, panel: Panel, origins: np.ndarray, source: str) -> list[str]:
    lengths, lookback = origins - panel.offsets[:-1] + 1, model.lookback
    longest = int(lengths.max(initial=0))
    if longest < lookback:
        of = f" of series {panel.names[int(lengths.argmax())]!r}, the longest," if panel.series_count > 1 else ""
        raise DataError(
            f"{source} has {longest:,} rows{of} up to the last measurement, but a forecast looks back on {lookback:,}: give at "
            f"least {lookback:,}"
        )
    short = np.flatnonzero(lengths < lookback)
    if not len(short):
        return []
    return [
        f"{len(short):,} of {panel.series_count:,} series have fewer rows than the lookback of {lookback:,} (such as "
        f"{panel.names[int(short[0])]!r} with {max(0, int(lengths[short[0]])):,}): their forecasts have little to go by"
    ]


def _new_series(encoding: Encoding, panel: Panel) -> list[str]:
    trained = set(encoding.names)
    new = [name for name in panel.names if name not in trained]
    if not new:
        return []
    shown = ", ".join(repr(name) for name in new[:3]) + (" and others" if len(new) > 3 else "")
    verb = "was not there in training: it is" if len(new) == 1 else "were not there in training: they are"
    which = f"the series {shown}" if panel.names != ("",) else "this series, which has no name,"
    return [f"{which} {verb} scaled by {'its' if len(new) == 1 else 'their'} own rows"]


def _other_units(encoding: Encoding, panel: Panel) -> list[str]:
    """Columns far outside of what they were in training, in the series that were there."""
    trained = np.isin(np.asarray(panel.names, object), np.asarray(encoding.names, object))
    rows = trained[panel.series_of_rows()]
    warnings = []
    for place, name in enumerate(panel.columns):
        low, high = float(encoding.low[place]), float(encoding.high[place])
        values = panel.values[rows, place]
        values = values[~np.isnan(values)]
        if not len(values) or not high > low:
            continue
        margin = WIDER * (high - low)
        outside = float(((values < low - margin) | (values > high + margin)).mean())
        middle = float(np.median(values))
        if outside >= OUTSIDE or not low - margin <= middle <= high + margin:
            warnings.append(
                f"{name} is between {values.min():.4g} and {values.max():.4g} here, but was between {low:.4g} and {high:.4g} in "
                f"training: another unit?"
            )
    return warnings


# --- single rows --------------------------------------------------------------------------------------------------------------


def new_row(
    model: SeriesModel, given: Any, *, time_column: str | None, time_format: str | None, time_zone: str | None
) -> NewRow:
    """A row as people have it: a dictionary with the time, or a tuple of the time and a dictionary or all values.

    What is not in the dictionary, or is None or NaN or a number that meant "missing" in training, is missing.

    Raises: `DataError` for a row without a time, columns the model does not know, values that are no finite numbers.
    """
    encoding = model.encoding
    if isinstance(given, tuple) and len(given) == 2:
        time, rest = given
        cells = rest if isinstance(rest, Mapping) else _in_order(encoding, rest)
        row = {"time": time, **{str(name): cell for name, cell in cells.items() if name != "time"}}
        time_column = "time"
    elif isinstance(given, Mapping):
        row = {str(name): cell for name, cell in given.items()}
    else:
        raise DataError(
            f"a {type(given).__name__} is no row: give a dictionary of the time and the columns, or a tuple of both"
        )
    time_column = _time_name(encoding, row, time_column)
    series = row.get(series_column(model))
    values = np.full(len(encoding.columns), np.nan, np.float32)
    free = {time_column, series_column(model), *model.config.series.static}
    for name, cell in row.items():
        if name in encoding.columns:
            values[encoding.columns.index(name)] = _number(name, cell, model.sentinels.get(name, ()))
        elif name not in free:
            shown = ", ".join(repr(column) for column in encoding.columns[:20])
            raise DataError(
                f"the row has an unknown column {name!r}{suggestion(name, encoding.columns) or f': the model reads {shown}'}"
            )
    return NewRow(
        None if series is None else str(series), _moment(model, row[time_column], time_format, time_zone), values
    )


def moment_in_words(time: int) -> str:
    """A time as people write it."""
    return moment(time)


def _in_order(encoding: Encoding, values: Any) -> dict[str, Any]:
    cells = [values] if isinstance(values, int | float) else list(values)
    if len(cells) != len(encoding.columns):
        shown = ", ".join(repr(name) for name in encoding.columns[:20])
        raise DataError(f"the row has {len(cells)} values, but the model reads {len(encoding.columns)}: {shown}")
    return dict(zip(encoding.columns, cells, strict=True))


def _time_name(encoding: Encoding, row: dict[str, Any], wanted: str | None) -> str:
    """The key of the time: the column it had before, `time`, or the only one with a time in it."""
    for name in (wanted, "time"):
        if name is not None and name in row and name not in encoding.columns:
            return name
    times = [name for name, cell in row.items() if isinstance(cell, datetime.date | np.datetime64)]
    if len(times) == 1:
        return times[0]
    raise DataError(
        f"the row does not say its time: give it as {wanted or 'time'!r}; it has {', '.join(map(repr, row)) or 'nothing'}"
    )


def _number(name: str, cell: Any, sentinels: Any) -> float:
    if cell is None:
        return math.nan
    try:
        number = float(cell)
    except (TypeError, ValueError, OverflowError):
        raise DataError(f"column {name!r} of the row is {cell!r}: a number is needed, or None") from None
    if math.isinf(number) or abs(number) > np.finfo(np.float32).max:
        raise DataError(
            f"column {name!r} of the row is {number:g}, which is infinite: leave it out where it was not measured"
        )
    return math.nan if number in sentinels or np.float32(number) in np.asarray(sentinels, np.float32) else number


def _moment(model: SeriesModel, time: Any, time_format: str | None, time_zone: str | None) -> int:
    """Microseconds since 1970: UTC where the zone is known, else by the clock that wrote the rows."""
    if isinstance(time, np.datetime64):
        if np.isnat(time):
            raise DataError("the row's time is missing: give it")
        time = time.astype("datetime64[us]").astype(object)
    if time is not None and time != time:  # pandas' NaT
        raise DataError("the row's time is missing: give it")
    if hasattr(time, "to_pydatetime"):
        time = time.to_pydatetime(warn=False)
    if isinstance(time, datetime.date) and not isinstance(time, datetime.datetime):
        time = datetime.datetime(time.year, time.month, time.day)
    if not isinstance(time, datetime.datetime):
        settings = replace(model.config.series, time_zone=model.config.series.time_zone or time_zone)
        try:
            column = pl.Series("time", [time], strict=True)
        except (TypeError, ValueError, OverflowError):
            raise DataError(
                f"the row's time is {time!r}, which is none: give a datetime, or text as in the table"
            ) from None
        return _read_moment(column, settings, time_format)
    if time.tzinfo is not None and time_zone is None:
        raise DataError(
            f"the row's time {time.isoformat()} is of a time zone, but the rows before it were of none: leave the zone out"
        )
    if time.tzinfo is None and time_zone is not None:
        time = time.replace(tzinfo=check_zone(time_zone))
    if time.tzinfo is not None:
        time = time.astimezone(datetime.UTC).replace(tzinfo=None)
    return (time - datetime.datetime(1970, 1, 1)) // datetime.timedelta(microseconds=1)


def _read_moment(column: pl.Series, settings: SeriesSettings, time_format: str | None) -> int:
    """The one time in `column`: written as the rows before it, for a single time may not tell day from month, or otherwise."""
    if settings.time_format is None and time_format is not None:
        with contextlib.suppress(ConfigError, DataError):
            return _read_moment(column, replace(settings, time_format=time_format), None)
    found = read_times(column, settings, lambda number: "the row")
    return int(found.values.cast(pl.Datetime("us")).to_physical()[0])

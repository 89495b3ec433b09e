"""From whatever holds a table to a `Table`: files, folders, patterns, data frames, queries of a database.

The time column is found where it is not named; what a column holds is found out from its values; only columns that are asked for
are read. Whatever was assumed on the way is a note in the table, and whatever would have to be guessed is an error.

    >>> frame = pl.DataFrame({"ds": ["2020-01-01", "2020-01-02"], "y": [1, 2]})
    >>> table = read_table(frame, SeriesSettings(target="y"))
    >>> table.time_column, table.time_format, table.frame["y"].to_list()
    ('ds', 'ISO 8601', [1.0, 2.0])
"""

import hashlib
import io
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from polars.exceptions import PanicException, PolarsError

from elman.config import SeriesSettings, suggestion
from elman.errors import ConfigError, DataError
from elman.series.reading.databases import is_uri, read_query, shown_uri
from elman.series.reading.delimited import MANY_VALUES, read_delimited
from elman.series.reading.files import TableFile, contents, digest_of, find_files, is_packed, kind_of, start
from elman.series.reading.frames import frame_of_pandas, is_pandas
from elman.series.reading.numbers import Numbers, as_numbers, refuse_text
from elman.series.reading.table import Table, place_of
from elman.series.reading.timestamps import read_times, share_of_times
from elman.series.reading.zones import check_zone

Progress = Callable[[str, float], None]

SERIES_COLUMN = "unique_id"
"""Taken as the column that tells series apart when no other is named: the long format of many forecasting libraries."""

# Names of time columns, without spaces, signs and what stands in parentheses, the surer ones first.
_TIME_NAMES = (
    "ds", "datetime", "timestamp", "time", "date", "datetimeutc", "timestamputc", "timeutc", "utctime", "utc", "dateutc", "ts",
    "zeitstempel", "datumzeit", "datumuhrzeit", "zeit", "datum", "messdatum", "messzeit", "validtime", "localtime", "datetimelocal",
    "fecha", "fechahora", "horodatage", "tempo", "dataora", "unnamed",
)  # fmt: skip
# Names that may stand beside the times as well: looked at last.
_WEAK_NAMES = ("period", "index", "day", "tag", "month", "monat", "year", "jahr")
_CLOCK_NAMES = ("time", "uhrzeit", "zeit", "hora", "heure", "ora", "clock", "timeofday")
_HEAD = 1 << 16
# A column is the times when at least this share of a sample reads so: a few bad times are an error, not another column.
_ENOUGH = 0.8


@dataclass(frozen=True, eq=False)
class _Raw:
    """Rows before anything is understood, and what messages need."""

    frame: pl.DataFrame
    source: str
    first_line: int | None
    digest: str
    notes: tuple[str, ...] = ()
    parts: tuple[tuple[str, int], ...] = ()

    def place(self, row: int) -> str:
        return place_of(row, self.source, self.first_line, self.parts)


def read_table(
    source: "str | Path | pl.DataFrame | pl.LazyFrame | Any",
    settings: SeriesSettings,
    *,
    progress: Progress | None = None,
) -> Table:
    """Read a table and understand its times and numbers; nothing is repaired, sorted or left out but columns.

    source: a CSV, TSV, semicolon, Parquet or Arrow file, packed or not; a folder of such files with the same columns, or a pattern;
    a data frame of Polars or pandas; a database's URI with `settings.query`.
    settings: target, time_column, series_column, inputs, known, static say which columns are meant; time_format, time_zone and
    decimal how they are written. With target and inputs, other columns are not read.
    progress: called with what is being done and the share of it that is done, 0 to 1.

    Raises: `DataError` for what cannot be read or understood, with the place; `ConfigError` for settings that cannot be.
    """
    report = progress or _silent
    if settings.time_zone is not None:
        check_zone(settings.time_zone)
    return _understood_table(_raw(source, settings, report), settings, report)


def table_of_rows(frame: pl.DataFrame, settings: SeriesSettings, source: str) -> Table:
    """`read_table` for rows that stand for a part of what is called `source`; the columns are those of `columns_to_read`.

    Raises: as `read_table` does.
    """
    return _understood_table(_Raw(frame, source, None, ""), settings, _silent)


def columns_to_read(schema: pl.Schema, rows: int, settings: SeriesSettings, source: str) -> list[pl.Expr]:
    """The wanted columns, numbers in Float64; in Float32 where there are many, cast while reading so that they are never wide.

    Raises: `DataError` where one that is named is not there.
    """
    wanted = _wanted(schema, settings, source)
    number = pl.Float32 if rows * len(wanted) > MANY_VALUES else pl.Float64
    kept = {settings.time_column, settings.series_column, SERIES_COLUMN}
    columns = []
    for name in wanted:
        kind = schema[name]
        plain = kind.is_numeric() or kind in (pl.Boolean, pl.Null)
        narrower = kind == pl.Float32 or (kind == pl.Float64 and number == pl.Float64)
        # Whole numbers may be times, days or series: they are looked at first. Nothing computes with those of 128 bits.
        whole = kind.is_integer() and kind not in (pl.Int128, pl.UInt128) and (name in kept or _may_be_times(name))
        columns.append(pl.col(name).cast(number) if plain and not narrower and not whole else pl.col(name))
    return columns


def _understood_table(raw: "_Raw", settings: SeriesSettings, report: Progress) -> Table:
    frame = raw.frame
    if not len(frame) or not frame.width:
        raise DataError(f"{raw.source} has no {'rows' if frame.width else 'columns'}: there is nothing to learn from")
    report("understanding", 0.0)
    frame, time_column, notes = _time_column(frame, settings, raw)
    series_column = settings.series_column or (SERIES_COLUMN if SERIES_COLUMN in frame.columns else None)
    if series_column is not None:
        if settings.series_column is None:
            notes += (f"{series_column!r} tells the series apart",)
        frame = frame.with_columns(_series_names(frame[series_column], raw))
    series = frame[series_column] if series_column is not None else None
    times = read_times(frame[time_column], settings, raw.place, series)
    frame = frame.with_columns(times.values)
    report("understanding", 0.3)
    frame, more = _measured(frame, settings, (time_column, series_column), raw, report)
    report("understanding", 1.0)
    return Table(
        frame=frame,
        time_column=time_column,
        series_column=series_column,
        time_format=times.format,
        time_zone=times.time_zone,
        source=raw.source,
        first_line=raw.first_line,
        notes=raw.notes + notes + times.notes + more,
        digest=raw.digest,
        parts=raw.parts,
    )


def _silent(stage: str, share: float) -> None:
    pass


# --- rows ---------------------------------------------------------------------------------------------------------------------


def _raw(source: Any, settings: SeriesSettings, report: Progress) -> _Raw:
    if is_uri(source):
        report("reading", 0.0)
        name = shown_uri(source)
        frame = read_query(source, settings.query, lambda count: report("reading", 0.0))
        frame = frame.select(_wanted(frame.schema, settings, name))
        return _Raw(frame, name, None, _frame_digest(frame, report))
    if settings.query is not None:
        raise ConfigError(
            f"query = {settings.query!r} needs a database: give its URI as the input, sqlite:///weather.db or "
            f"postgresql://user@host/database"
        )
    if isinstance(source, str | Path):
        return _from_files(find_files(source), str(source), settings, report)
    if is_pandas(source):
        source = frame_of_pandas(source)
    if isinstance(source, pl.DataFrame | pl.LazyFrame):
        report("reading", 0.0)
        try:
            frame = _collected(source.lazy(), settings, "the frame")
        except PolarsError as error:
            raise DataError(f"the frame cannot be read: {_first_line(error)}") from None
        return _Raw(frame, "the frame", None, _frame_digest(frame, report))
    raise DataError(
        f"a {type(source).__name__} is no table: give a file's name, a data frame of Polars or pandas, or a database's URI"
    )


def _from_files(files: tuple[TableFile, ...], given: str, settings: SeriesSettings, report: Progress) -> _Raw:
    digest = digest_of(
        files, lambda share: report("checking the file" if len(files) == 1 else "checking the files", share)
    )
    frames: list[pl.DataFrame] = []
    notes: list[str] = []
    lines = True
    for number, file in enumerate(files):
        report("reading", number / len(files))
        frame, is_text, more = _from_file(file, settings)
        if frames and frame.columns != frames[0].columns:
            check_columns(frame.columns, file, frames[0].columns, files[0])
            frame = frame.select(frames[0].columns)
        frames.append(frame)
        lines = lines and is_text
        notes += [note if len(files) == 1 else f"{file.path.name}: {note}" for note in more]
        file.check_unchanged()
    report("reading", 1.0)
    starts = [0]
    for frame in frames[:-1]:
        starts.append(starts[-1] + len(frame))
    parts = tuple((file.name, first) for file, first in zip(files, starts, strict=True)) if len(files) > 1 else ()
    name = files[0].name if len(files) == 1 else given
    if len(files) > 1:
        notes.insert(0, f"{len(files)} files are joined, from {files[0].path.name} to {files[-1].path.name}")
    return _Raw(_joined(frames, name), name, 2 if lines else None, digest, tuple(notes), parts)


def _from_file(file: TableFile, settings: SeriesSettings) -> tuple[pl.DataFrame, bool, tuple[str, ...]]:
    """The rows of one file, whether lines have a meaning in it, and notes."""
    head = start(file, _HEAD)
    packed = contents(file) if is_packed(head) else None
    kind = kind_of(packed[:_HEAD] if packed is not None else head, file.name)
    if kind == "text":
        del packed

        def choose(names: tuple[str, ...], plain: frozenset[str]) -> tuple[str, ...]:
            schema = pl.Schema({name: pl.Float64() if name in plain else pl.String() for name in names})
            return tuple(_wanted(schema, settings, file.name))

        text = read_delimited(file, choose, lambda name: _stays_text(name, settings), settings.decimal)
        return text.frame, True, text.notes
    place: Any = io.BytesIO(packed) if packed is not None else file.path
    try:
        scan: Any = pl.scan_parquet if kind == "parquet" else pl.scan_ipc
        # The name is a file's by now, whatever marks stand in it, and "year=2020" in a folder's name is no column.
        lazy = scan(place, glob=False, hive_partitioning=False)
        return _collected(lazy, settings, file.name), False, ()
    except (PolarsError, PanicException, OSError) as error:
        # Polars panics on some damaged files, which is no `Exception`: it is caught by name.
        name = {"parquet": "Parquet", "arrow": "Arrow"}[kind]
        raise DataError(f"{file.name} is a damaged {name} file ({_first_line(error)}): write it again") from None


def _collected(lazy: pl.LazyFrame, settings: SeriesSettings, source: str) -> pl.DataFrame:
    rows = int(lazy.select(pl.len()).collect().item())
    columns = columns_to_read(lazy.collect_schema(), rows, settings, source)
    # The streaming engine casts piece by piece: no column is in memory twice.
    return lazy.select(columns).collect(engine="streaming")


def _wanted(schema: pl.Schema, settings: SeriesSettings, source: str) -> list[str]:
    """The columns to read, in their order. Raises `DataError` where one that is named is not there."""
    roles = {
        "target": (settings.target,),
        "time_column": (settings.time_column,),
        "series_column": (settings.series_column,),
        "inputs": settings.inputs,
        "known": settings.known,
        "static": settings.static,
    }
    named: set[str] = set()
    for role, names in roles.items():
        for name in names:
            if name is not None and name not in schema:
                shown = ", ".join(repr(one) for one in list(schema)[:20])
                raise DataError(
                    f"there is no column {name!r} ({role}) in {source}{suggestion(name, schema)}; its columns are {shown}"
                )
            named |= {name} if name is not None else set()
    for role in ("target", "series_column"):
        name = roles[role][0]
        if name is not None and name == settings.time_column:
            raise ConfigError(f"{role} and time_column are both {name!r}: each needs its own column")
    if settings.target is None or not settings.inputs:
        return list(schema)

    def may_be_times(name: str, kind: pl.DataType) -> bool:
        return kind.is_temporal() or kind == pl.String or _may_be_times(name)

    return [
        name
        for name, kind in schema.items()
        if name in named or name == SERIES_COLUMN or (settings.time_column is None and may_be_times(name, kind))
    ]


def check_columns(names: Sequence[str], file: TableFile, usual: Sequence[str], first: TableFile) -> None:
    """Raises: `DataError` where a file of a folder has other columns than the first one has."""
    lacking = [name for name in usual if name not in names]
    more = [name for name in names if name not in usual]
    if lacking or more:
        parts = [f"lacks {', '.join(map(repr, lacking))}"] if lacking else []
        parts += [f"has {', '.join(map(repr, more))}"] if more else []
        raise DataError(
            f"{file.name} has other columns than {first.name}: it {' and '.join(parts)}; give the files of a folder the same "
            f"columns, or name a single file"
        )


def _joined(frames: list[pl.DataFrame], source: str) -> pl.DataFrame:
    if len(frames) == 1:
        return frames[0]
    for name in frames[0].columns:
        kinds = {frame.schema[name] for frame in frames}
        if len(kinds) > 1 and all(kind.is_numeric() or kind == pl.Null for kind in kinds):
            frames = [frame.with_columns(pl.col(name).cast(pl.Float64)) for frame in frames]
        elif len(kinds) > 1:
            # One file has words where the others have numbers: all are read as text, and looked at together.
            frames = [frame.with_columns(pl.col(name).cast(pl.String)) for frame in frames]
    try:
        return pl.concat(frames)
    except PolarsError as error:
        raise DataError(f"the files of {source} do not fit together: {_first_line(error)}") from None


# --- columns ------------------------------------------------------------------------------------------------------------------


def _plain_name(name: str) -> str:
    return re.sub(r"\(.*?\)|\[.*?\]|[\W_\d]", "", name.lower())


def _may_be_times(name: str) -> bool:
    return _plain_name(name) in _TIME_NAMES + _WEAK_NAMES


def _stays_text(name: str, settings: SeriesSettings) -> bool:
    """Whether a column of a text file is left as it is written: times may be digits, and series may be called 007."""
    named = (settings.time_column, settings.series_column, SERIES_COLUMN)
    return name in named or (settings.time_column is None and _may_be_times(name))


def _time_column(frame: pl.DataFrame, settings: SeriesSettings, raw: _Raw) -> tuple[pl.DataFrame, str, tuple[str, ...]]:
    """The frame, in it the column with the times, and notes; a day and a clock in two columns become one."""
    if settings.time_column is not None:
        return *_with_clock(frame, settings.time_column, settings), ()
    taken = {
        settings.target,
        settings.series_column,
        SERIES_COLUMN,
        *settings.inputs,
        *settings.known,
        *settings.static,
    }
    free = [name for name in frame.columns if name not in taken]
    typed = [name for name in free if frame.schema[name] in (pl.Date, pl.Datetime)]
    rank = {name: number for number, name in enumerate(_TIME_NAMES + _WEAK_NAMES)}
    by_name = sorted((name for name in free if _plain_name(name) in rank), key=lambda name: rank[_plain_name(name)])
    sure = [name for name in by_name if _plain_name(name) in _TIME_NAMES]
    order = [
        *(name for name in sure if name in typed),
        *typed,
        *sure,
        *(name for name in free if name not in by_name),
        *by_name,
    ]
    for name in order:
        if share_of_times(frame[name], digits=name in by_name) >= _ENOUGH:
            return *_with_clock(frame, name, settings), (f"{name!r} is the time column",)
    told = [name for name in sure if frame.schema[name] == pl.String]
    if told:
        # A name that promises times over values that are none: say what they are.
        read_times(frame[told[0]], settings, raw.place)
    shown = ", ".join(repr(name) for name in frame.columns[:20])
    raise DataError(f"{raw.source} has no column that reads as times: name it (--time-column); its columns are {shown}")


def _with_clock(frame: pl.DataFrame, name: str, settings: SeriesSettings) -> tuple[pl.DataFrame, str]:
    """Join a column of days with a column of clock times, where there is one."""
    kind = frame.schema[name]
    if kind != pl.Date and (kind != pl.String or frame[name].head(100).str.contains(":").any()):
        return frame, name
    named = {name, settings.target, settings.series_column, *settings.inputs, *settings.known, *settings.static}
    for other in frame.columns:
        if other in named or _plain_name(other) not in _CLOCK_NAMES:
            continue
        clock = frame[other]
        if clock.dtype == pl.Time:
            clock = clock.dt.to_string("%H:%M:%S%.f")
        elif clock.dtype != pl.String or not clock.str.contains(r"^\s*\d{1,2}:\d{2}").all():
            continue
        day = frame[name].dt.to_string("%Y-%m-%d") if kind == pl.Date else frame[name].str.strip_chars()
        joined = (day + " " + clock.str.strip_chars()).alias(name)
        return frame.with_columns(joined).drop(other), name
    return frame, name


def _series_names(column: pl.Series, raw: _Raw) -> pl.Series:
    if column.dtype.is_float() and (column.drop_nulls() % 1 == 0).all():
        column = column.cast(pl.Int64)
    names = column if column.dtype in (pl.Categorical, pl.Enum) else column.cast(pl.String)
    gone = names.is_null()
    if gone.any():
        raise DataError(
            f"the series column {column.name!r} has {int(gone.sum()):,} missing values, the first at "
            f"{raw.place(int(gone.arg_max() or 0))}: say which series each row belongs to, or remove the row"
        )
    return names


def _measured(
    frame: pl.DataFrame,
    settings: SeriesSettings,
    roles: tuple[str, str | None],
    raw: _Raw,
    report: Progress,
) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """The frame with every other column as numbers or text, and notes."""
    numeric = {settings.target: "the target", **dict.fromkeys(settings.inputs, "the input")}
    numeric |= {name: "the column known in advance" for name in settings.known if name not in numeric}
    asked = {*numeric, *settings.static, *roles}
    narrow = settings.target is not None and bool(settings.inputs)
    notes: list[str] = []
    number = pl.Float32 if len(frame) * frame.width > MANY_VALUES else pl.Float64
    kept: list[pl.Series] = []
    for place, column in enumerate(frame.get_columns()):
        if column.name in roles:
            kept.append(column)
        elif column.name in asked or not narrow:
            known, more = _understood(column, settings, raw, numeric.get(column.name))
            notes += more
            if known is not None:
                kept.append(known.cast(number) if known.dtype == pl.Float64 else known)
        report("understanding", 0.3 + 0.7 * (place + 1) / (frame.width + 1))
    return pl.DataFrame(kept), tuple(notes)


def _understood(
    column: pl.Series, settings: SeriesSettings, raw: _Raw, role: str | None
) -> tuple[pl.Series | None, tuple[str, ...]]:
    """A column as numbers or text; None where it is neither. `role` is set where it has to be numbers."""
    kind = column.dtype
    if kind in (pl.Float32, pl.Float64):
        return column, ()
    if kind.is_numeric() or kind in (pl.Boolean, pl.Null):
        return column.cast(pl.Float64), ()
    if kind in (pl.String, pl.Categorical, pl.Enum):
        text = column.cast(pl.String)
        numbers: Numbers = as_numbers(text, settings.decimal, raw.place)
        if numbers.values is not None:
            return numbers.values, numbers.notes
        if role is not None:
            raise refuse_text(text, numbers.first_bad or 0, role, raw.place)
        return column, numbers.notes
    if role is not None or column.name in settings.static:
        raise DataError(
            f"{role or 'the static column'} {column.name!r} of {raw.source} holds {kind}, neither numbers nor text: choose another"
        )
    return None, (f"{column.name!r} is left out: it holds {kind}, neither numbers nor text",)


# --- digests ------------------------------------------------------------------------------------------------------------------


def _frame_digest(frame: pl.DataFrame, report: Progress) -> str:
    """SHA-256 over names, types and values, so that the same rows have the same digest on every machine."""
    total = hashlib.sha256(repr(len(frame)).encode())
    for number, column in enumerate(frame.get_columns()):
        total.update(f"{column.name}:{column.dtype};".encode())
        for piece in _bytes_of(column):
            total.update(piece)
        report("checking the frame", (number + 1) / frame.width)
    return total.hexdigest()


def _bytes_of(column: pl.Series) -> Iterable[bytes]:
    kind = column.dtype
    if kind.is_float():
        return (column.fill_null(float("nan")).to_numpy().tobytes(),)
    if kind.is_integer() or kind in (pl.Boolean, pl.Date, pl.Datetime, pl.Time):
        whole = column.to_physical()
        return (
            column.is_null().to_numpy().tobytes(),
            whole.fill_null(0 if kind != pl.Boolean else False).to_numpy().tobytes(),
        )
    return (_joined_text(column[start : start + 100_000]) for start in range(0, len(column), 100_000))


def _joined_text(column: pl.Series) -> bytes:
    texts: Sequence[Any] = column.to_list()
    return "\x1f".join("\x00" if text is None else str(text) for text in texts).encode("utf-8", "surrogatepass")


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__

"""Times as tables write them: which of many formats a column has, and the instant that each value means.

A *layout* is how a single value is written. The first value that is not understood yet gives one, the whole column is read with
it, and so on: a column may mix "2020-01-01" with "2020-01-01 06:00". Whether days or months come first is decided once, from the
whole column.

    >>> column = pl.Series("Date Time", ["01.01.2009 00:10:00", "13.01.2009 01:10:00"])
    >>> times = read_times(column, SeriesSettings(), lambda row: f"row {row + 1}")
    >>> times.format, times.values[1].isoformat()
    ('%d.%m.%Y %H:%M:%S', '2009-01-13T01:10:00')
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl
from polars.exceptions import ComputeError

from elman.config import SeriesSettings
from elman.errors import ConfigError, DataError
from elman.series.reading.zones import check_zone, to_utc

_DATETIME = pl.Datetime("us")
_LAYOUTS_AT_MOST = 12
_FOUND_OUT = (None, "ISO 8601", "timestamps")
"""What a model remembers where nobody named a format: times that say themselves how they are written."""

_SAMPLE = 256
_FIRST_SECOND, _LAST_SECOND = -62_135_596_800 + 86_400, 253_402_300_799 - 86_400
"""Of the years 1 and 9999, counted from 1970, less a day for any time zone: Python's calendar goes no further."""

# What the date part looks like, and the formats it may stand for, the more usual one first.
_DAYS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (r"\d{4}-\d{1,2}-\d{1,2}", ("%Y-%m-%d",)),
    (r"\d{4}/\d{1,2}/\d{1,2}", ("%Y/%m/%d",)),
    (r"\d{4}\.\d{1,2}\.\d{1,2}", ("%Y.%m.%d",)),
    (r"\d{1,2}\.\d{1,2}\.\d{4}", ("%d.%m.%Y",)),
    (r"\d{1,2}\.\d{1,2}\.\d{2}", ("%d.%m.%y",)),
    (r"\d{1,2}/\d{1,2}/\d{4}", ("%d/%m/%Y", "%m/%d/%Y")),
    (r"\d{1,2}/\d{1,2}/\d{2}", ("%d/%m/%y", "%m/%d/%y")),
    (r"\d{1,2}-\d{1,2}-\d{4}", ("%d-%m-%Y", "%m-%d-%Y")),
    (r"\d{1,2}-\d{1,2}-\d{2}", ("%d-%m-%y", "%m-%d-%y", "%y-%m-%d")),
    (r"\d{1,2} [A-Za-z]{3,9} \d{4}", ("%d %B %Y",)),
    (r"\d{1,2}-[A-Za-z]{3,9}-\d{4}", ("%d-%B-%Y",)),
    (r"\d{1,2}-[A-Za-z]{3,9}-\d{2}", ("%d-%B-%y",)),
    (r"\d{1,2}/[A-Za-z]{3,9}/\d{4}", ("%d/%B/%Y",)),
    (r"[A-Za-z]{3,9} \d{1,2}, \d{4}", ("%B %d, %Y",)),
    (r"[A-Za-z]{3,9} \d{1,2} \d{4}", ("%B %d %Y",)),
    (r"[A-Za-z]{3,9} \d{4}", ("%B %Y",)),
    (r"[A-Za-z]{3,9}-\d{4}", ("%B-%Y",)),
    (r"\d{4}-\d{1,2}", ("%Y-%m",)),
    (r"\d{4}/\d{1,2}", ("%Y/%m",)),
    (r"\d{1,2}/\d{4}", ("%m/%Y",)),
    (r"(?:19|20)\d\d(?:0[1-9]|1[0-2])[0-3]\d", ("%Y%m%d",)),
)
# Digits only: the end says what they are; years from 1900 to 2099 keep them apart from seconds since 1970.
_DIGITS: tuple[tuple[str, str, str, str], ...] = (
    (r"^(?:19|20)\d\d(?:0[1-9]|1[0-2])[0-3]\d[0-2]\d[0-5]\d[0-5]\d$", "%Y%m%d%H%M%S", "", ""),
    (r"^(?:19|20)\d\d(?:0[1-9]|1[0-2])[0-3]\d[0-2]\d[0-5]\d$", "%Y%m%d%H%M", "", ""),
    # Polars asks for minutes where there are hours, and for a month where there is a year.
    (r"^(?:19|20)\d\d(?:0[1-9]|1[0-2])[0-3]\d[0-2]\d$", "%Y%m%d%H", "%M", "00"),
    (r"^(?:1[6-9]|20)\d\d$", "%Y", "-%m-%d", "-01-01"),
)
_CLOCK = re.compile(
    r"^(?P<gap>T|t| +|, ?)(?P<clock>\d{1,2}(?P<minutes>:\d{1,2}(?P<seconds>:\d{1,2}(?P<fraction>[.,]\d+)?)?)?)"
    r"(?P<half> ?[AaPp][Mm])?(?P<zone> ?(?:[Zz]|UTC|GMT|[+-]\d{2}(?::?\d{2})?))?$"
)
_COMPACT_CLOCK = re.compile(r"^(?P<gap>T|t| )\d{4}(?P<seconds>\d{2})?(?P<zone>[Zz]|[+-]\d{2}(?::?\d{2})?)?$")
# Polars reads no hours without minutes.
_FULL_HOUR = (r"^(.*[Tt ,]\d{1,2})( ?(?:[AaPp][Mm])?(?: ?(?:[Zz]|UTC|GMT|[+-].*))?)$", "${1}:00${2}")
_ENDS_AT_24 = r"([Tt ]0?)24:00((?::00(?:\.0+)?)?)$"


@dataclass(frozen=True, eq=False)
class Times:
    """The times of a column: `values` in `Datetime("us")` without a zone, UTC where `time_zone` is known; how they were written."""

    values: pl.Series
    format: str
    time_zone: str | None
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Layout:
    """How one value is written. formats: for Polars, one for each order of day and month; shown: the same for people.

    family: the shape of the date, which all layouts of an order share. rewrites: patterns replaced before Polars reads the text.
    """

    formats: tuple[str, ...]
    shown: tuple[str, ...]
    family: str
    instants: bool = False
    rewrites: tuple[tuple[str, str], ...] = ()


def read_times(
    column: pl.Series, settings: SeriesSettings, place: Callable[[int], str], series: pl.Series | None = None
) -> Times:
    """Understand the time column: dates, timestamps, text in one of many formats, seconds since 1970 or parts of them.

    place: where a row is, for messages. series: the series each row belongs to; needed where a zone sets its clocks back.

    Raises: `DataError` for missing values and for those that are no times, with the first one's place; `ConfigError` where days and
    months cannot be told apart, and for a format or a zone that is not possible.
    """
    if settings.time_zone is not None:
        check_zone(settings.time_zone)
    kind = column.dtype
    if column.null_count() == len(column):
        raise DataError(f"the time column {column.name!r} is empty: choose another (--time-column)")
    _refuse_missing(column, place)
    zone: str | None = None
    if isinstance(kind, pl.Datetime) and kind.time_zone is not None:
        zone = kind.time_zone
        found = Times(
            column.dt.convert_time_zone("UTC").dt.replace_time_zone(None).cast(_DATETIME), "timestamps", zone, ()
        )
    elif kind.is_temporal() and kind in (pl.Date, pl.Datetime):
        found = Times(column.cast(_DATETIME), "timestamps", None, ())
    elif kind.is_numeric():
        found = _read_numbers(column, settings, place)
    elif kind in (pl.String, pl.Categorical, pl.Enum):
        found = _read_text(column, settings, place)
    else:
        raise DataError(f"the time column {column.name!r} holds no times but {kind}: choose another (--time-column)")
    if kind.is_temporal() and (beyond := _beyond(found.values)).any():
        row = int(beyond.arg_max() or 0)
        raise DataError(
            f"the time column {column.name!r} has a time beyond the years 1 to 9999 at {place(row)}: correct or remove such rows"
        )
    if found.time_zone is not None:
        return Times(found.values, found.format, settings.time_zone or found.time_zone, found.notes)
    if settings.time_zone is None:
        return found
    values, notes = to_utc(found.values, settings.time_zone, place, series)
    return Times(values, found.format, settings.time_zone, found.notes + notes)


def share_of_times(column: pl.Series, *, digits: bool) -> float:
    """The share of a sample of the values that read as times, 0 to 1.

    digits: whether 20200102 is a date; without a name that says so it may as well be a number.
    """
    kind = column.dtype
    if kind in (pl.Date, pl.Datetime):
        return 1.0
    if kind not in (pl.String, pl.Categorical, pl.Enum) and not (digits and kind.is_numeric()):
        return 0.0
    filled = column.drop_nulls()
    sample = filled.gather_every(max(1, len(filled) // _SAMPLE))
    if not len(sample):
        return 0.0
    if kind.is_numeric():
        return float(_written_out(sample) is not None or _epoch_unit(sample) is not None)
    text = sample.cast(pl.String).str.strip_chars()
    if text.str.contains(r"^[+-]?\d+([.,]\d*)?$").all():
        numbers = text.str.replace(",", ".", literal=True).cast(pl.Float64, strict=False)
        return share_of_times(numbers, digits=True) if digits else 0.0
    values = _parse(text, decide=None)[0]
    return 1 - values.null_count() / len(values)


def _refuse_missing(column: pl.Series, place: Callable[[int], str]) -> None:
    gone = column.is_null()
    if column.dtype.is_float():
        gone = gone | ~column.is_finite().fill_null(False)
    elif column.dtype == pl.String:
        gone = gone | (column.str.strip_chars() == "")
    count = int(gone.sum())
    if count:
        raise DataError(
            f"the time column {column.name!r} has {_counted(count, 'missing value')}, the first at "
            f"{place(int(gone.arg_max() or 0))}: fill in the time or remove the row"
        )


def _read_numbers(column: pl.Series, settings: SeriesSettings, place: Callable[[int], str]) -> Times:
    written = _written_out(column)
    if settings.time_format not in _FOUND_OUT or written is not None:
        text = written if written is not None else column.cast(pl.Int64, strict=False).cast(pl.String)
        return _read_text(text.alias(column.name), settings, place)
    unit = _epoch_unit(column)
    if unit is None:
        raise DataError(
            f"the time column {column.name!r} holds the number {column[0]:g} at {place(0)}, which is no time: neither seconds, "
            f"milliseconds, microseconds or nanoseconds since 1970 nor digits such as 20200131; choose another (--time-column)"
        )
    name, per_second = unit
    beyond = ~(column.cast(pl.Float64) / per_second).is_between(_FIRST_SECOND, _LAST_SECOND)
    if beyond.any():
        row = int(beyond.arg_max() or 0)
        raise DataError(
            f"the time column {column.name!r} holds the number {column[row]:g} at {place(row)}, which in {name} since 1970 is "
            f"beyond the years 1 to 9999: correct or remove such rows"
        )
    if column.dtype.is_float():
        moments = (column * (1_000_000 / per_second)).round().cast(pl.Int64)
    elif per_second > 1_000_000:
        moments = column.cast(pl.Int64) // (per_second // 1_000_000)
    else:
        moments = column.cast(pl.Int64) * (1_000_000 // per_second)
    note = f"the times in {column.name!r} are read as {name} since 1970, UTC"
    return Times(moments.cast(_DATETIME).alias(column.name), f"{name} since 1970", "UTC", (note,))


def _epoch_unit(column: pl.Series) -> tuple[str, int] | None:
    """The unit that puts the middle value between 1973 and 5138; None where the numbers are too small."""
    middle = abs(float(np.median(column.drop_nulls().to_numpy())))
    limits = (
        (1e11, "seconds", 1),
        (1e14, "milliseconds", 10**3),
        (1e17, "microseconds", 10**6),
        (1e20, "nanoseconds", 10**9),
    )
    return next(((name, size) for limit, name, size in limits if 1e8 <= middle < limit), None)


def _written_out(column: pl.Series) -> pl.Series | None:
    """Numbers such as 2020, 20200131 or 2020013106 as text; None where they are none."""
    if column.dtype.is_float() and not (column == column.round()).all():
        return None
    text = column.cast(pl.Int64, strict=False).cast(pl.String)
    patterns = [pattern for pattern, *_ in _DIGITS] + [f"^{_DAYS[-1][0]}$"]
    return text if any(text.str.contains(pattern).all() for pattern in patterns) else None


def _read_text(column: pl.Series, settings: SeriesSettings, place: Callable[[int], str]) -> Times:
    text = column.cast(pl.String).str.strip_chars()
    wanted = settings.time_format
    if wanted is not None and wanted not in _FOUND_OUT:
        return _read_as_told(text, wanted, place)
    if (text.str.contains(r"^\d{9,10}(\.\d+)?$|^\d{13}$|^\d{16}$|^\d{19}$")).all():
        whole = pl.Float64 if text.str.contains(".", literal=True).any() else pl.Int64
        numbers = text.cast(whole, strict=False)  # nineteen digits may be more than 64 bits
        if numbers.null_count():
            raise _no_times(text, numbers, ["numbers"], place)
        if _written_out(numbers) is None:
            return _read_numbers(numbers, settings, place)
    values, shown, instants = _parse(text, decide=place)
    if values.null_count():
        raise _no_times(text, values, shown, place)
    if instants == {True, False}:
        clear = text.str.contains(r"(?:[Zz]|UTC|GMT|[+-]\d{2}:?\d{2})$")
        row = int((clear != clear[0]).arg_max() or 0)
        raise DataError(
            f"the time column {column.name!r} mixes times with an offset from UTC and without: {text[0]!r} at {place(0)}, "
            f"{text[row]!r} at {place(row)}; write all in one way"
        )
    name = "ISO 8601" if all(one.startswith("%Y-%m-%d") for one in shown) else " or ".join(shown)
    notes = (f"times in {column.name!r} are written as {name}: {text[0]!r} is {values[0]:%d %B %Y %H:%M:%S}",)
    return Times(values.alias(column.name), name, "UTC" if True in instants else None, notes)


def _read_as_told(text: pl.Series, wanted: str, place: Callable[[int], str]) -> Times:
    """Read with the format that the settings name; several with " or " between them, as they were shown."""
    values = pl.Series(text.name, [None] * len(text), dtype=_DATETIME)
    instants = False
    for one in wanted.split(" or "):
        if "%" not in one:
            raise ConfigError(f"time_format = {wanted!r} is no format of times: write it as %d.%m.%Y %H:%M:%S")
        # Python writes fractions of a second as "%f"; Polars' "%f" would be nanoseconds, and its "%#z" takes every offset.
        spelled = re.sub(r"%S\.%f", "%S%.f", one).replace("%z", "%#z")
        rewrites: tuple[tuple[str, str], ...] = ()
        for _, digits, added, end in _DIGITS:
            if added and one == digits:
                spelled, rewrites = one + added, ((r"$", end),)
        if re.search("%[HI]", spelled) and "%M" not in spelled:
            spelled, rewrites = re.sub("(%[HI])", r"\1:%M", spelled), (_FULL_HOUR,)
        layout = _Layout((spelled,), (one,), "", "z" in spelled.replace("%#z", "z"), rewrites)
        parsed = _read_layout(text, layout, 0)
        if parsed is None:
            raise ConfigError(f"time_format = {wanted!r} is no format of times: write it as %d.%m.%Y %H:%M:%S")
        values = pl.select(pl.coalesce(values, parsed)).to_series()
        instants = instants or layout.instants
    if values.null_count() == len(values):
        raise ConfigError(
            f"time_format = {wanted!r} does not fit the column {text.name!r}: {text[0]!r} at {place(0)}; "
            f"leave it out, or correct it"
        )
    if values.null_count():
        raise _no_times(text, values, [wanted], place)
    return Times(values.alias(text.name), wanted, "UTC" if instants else None, ())


def _no_times(text: pl.Series, values: pl.Series, shown: list[str], place: Callable[[int], str]) -> DataError:
    bad = values.is_null()
    count, row = int(bad.sum()), int(bad.arg_max() or 0)
    if count == len(text):
        return DataError(
            f"the time column {text.name!r} holds no times that are understood: {text[row]!r} at {place(row)}; "
            f"say how they are written (--time-format '%d.%m.%Y %H:%M'), or choose another column (--time-column)"
        )
    return DataError(
        f"the time column {text.name!r} has {_counted(count, 'value')} that no time is written in: {text[row]!r} at {place(row)}, "
        f"where the others are written as {' or '.join(shown)}; correct or remove such rows"
    )


def _parse(text: pl.Series, decide: Callable[[int], str] | None) -> tuple[pl.Series, list[str], set[bool]]:
    """Times, null where there is none; the formats found; whether with offsets, without, or both.

    decide: where a row is, for the error about days and months; without it the usual order is taken.
    """
    late = text.str.contains(_ENDS_AT_24)
    if late.any():
        # 24:00 is the end of a day; Polars knows only 00:00 of the next.
        text = text.str.replace(_ENDS_AT_24, "${1}00:00${2}")
    values = pl.Series(text.name, [None], dtype=_DATETIME).new_from_index(0, len(text))
    shown: list[str] = []
    instants: set[bool] = set()
    orders: dict[str, int] = {}
    for _ in range(_LAYOUTS_AT_MOST):
        rows = values.is_null() & text.is_not_null()
        if not rows.any():
            break
        layout = _layout_of(text[int(rows.arg_max() or 0)])
        if layout is None:
            break
        if layout.family not in orders:
            orders[layout.family] = _order(text, rows, layout, decide)
        order = orders[layout.family]
        part = text if rows.all() else text.set(~rows, None)
        parsed = _read_layout(part, layout, order)
        if parsed is None or parsed[int(rows.arg_max() or 0)] is None:
            break
        values = parsed if rows.all() else pl.select(pl.coalesce(values, parsed)).to_series()
        if layout.shown[order] not in shown:
            shown.append(layout.shown[order])
        instants.add(layout.instants)
    if late.any():
        values = pl.select(pl.when(late).then(values.dt.offset_by("1d")).otherwise(values)).to_series()
    return values.alias(text.name), shown, instants


def _layout_of(value: str) -> _Layout | None:
    for pattern, shown, added, end in _DIGITS:
        if re.match(pattern, value):
            return _Layout((shown + added,), (shown,), shown, False, ((r"$", end),) if end else ())
    for pattern, days in _DAYS:
        date = re.match(pattern, value)
        if date is None:
            continue
        rest = value[date.end() :]
        if not rest:
            return _Layout(days, days, pattern)
        compact = _COMPACT_CLOCK.match(rest) if days == ("%Y%m%d",) else None
        clock = _CLOCK.match(rest)
        if compact is not None:
            return _with_clock(
                pattern, days, compact["gap"], "%H%M%S" if compact["seconds"] else "%H%M", compact["zone"]
            )
        if clock is not None:
            return _clock_layout(pattern, days, clock)
    return None


def _clock_layout(pattern: str, days: tuple[str, ...], clock: re.Match[str]) -> _Layout:
    hour = "%I" if clock["half"] else "%H"
    rewrites: list[tuple[str, str]] = []
    written = f"{hour}:%M:%S" if clock["seconds"] else f"{hour}:%M" if clock["minutes"] else hour
    fraction = ".%f" if clock["fraction"] else ""
    if clock["fraction"] and clock["fraction"][0] == ",":
        rewrites.append((r"(:\d{1,2}),(\d)", "${1}.${2}"))
    if not clock["minutes"]:
        rewrites.append(_FULL_HOUR)
    half = ("" if not clock["half"] else " " if clock["half"][0] == " " else "") + ("%p" if clock["half"] else "")
    base = _with_clock(pattern, days, clock["gap"], written + fraction + half, clock["zone"])
    read = f"{hour}:%M:%S%.f" if clock["seconds"] else f"{hour}:%M"
    formats = tuple(day + base.formats[0][len(days[0]) :].replace(written + fraction, read, 1) for day in days)
    return _Layout(formats, base.shown, pattern, base.instants, base.rewrites + tuple(rewrites))


def _with_clock(pattern: str, days: tuple[str, ...], gap: str, clock: str, zone: str | None) -> _Layout:
    """A layout of date, gap, clock and, where there is one, the offset from UTC."""
    # Blanks match any number of blanks in Polars' formats.
    gap = " " if not gap.strip() else gap
    rewrites = ((r" ?(?:[Zz]|UTC|GMT)$", "Z"),) if zone and zone.strip() in ("Z", "z", "UTC", "GMT") else ()
    blank = " " if zone and zone.startswith(" ") and not rewrites else ""
    shown = tuple(f"{day}{gap}{clock}{blank}{'%z' if zone else ''}" for day in days)
    formats = tuple(one.replace("%z", "%#z") for one in shown)
    return _Layout(formats, shown, pattern, bool(zone), rewrites)


def _read_layout(text: pl.Series, layout: _Layout, order: int) -> pl.Series | None:
    """The column in one format, UTC where it has offsets; null where a value does not fit; None where there is no such format."""
    for pattern, replacement in layout.rewrites:
        text = text.str.replace(pattern, replacement)
    try:
        values = text.str.to_datetime(layout.formats[order], time_unit="us", strict=False, ambiguous="null")
    except ComputeError:
        return None
    if isinstance(values.dtype, pl.Datetime) and values.dtype.time_zone is not None:
        values = values.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
    values = values.cast(_DATETIME)
    beyond = _beyond(values)
    return values.set(beyond, None) if beyond.any() else values


def _beyond(values: pl.Series) -> pl.Series:
    """True where a time is outside the years that Python's calendar has."""
    return ~values.to_physical().is_between(_FIRST_SECOND * 1_000_000, _LAST_SECOND * 1_000_000)


def _order(text: pl.Series, rows: pl.Series, layout: _Layout, decide: Callable[[int], str] | None) -> int:
    """Which order of day and month a column has: the one that reads more values, else the one with more regular steps.

    Raises: `ConfigError` where neither says it.
    """
    if len(layout.formats) == 1:
        return 0
    part = text.filter(rows)
    # Each value is read with its own clock; only the date decides, so the clock is cut off here.
    dates = part.str.extract(f"^({layout.family})", 1)
    days = next(days for pattern, days in _DAYS if pattern == layout.family)
    readings = [_read_layout(dates, _Layout((day,), (day,), ""), 0) for day in days]
    counts = [0 if reading is None else len(reading) - reading.null_count() for reading in readings]
    best = [order for order, count in enumerate(counts) if count == max(counts)]
    if len(best) == 1 or decide is None:
        return best[0]
    moments = [one.to_list() for one in (readings[order] for order in best) if one is not None]
    differing = next((row for row, same in enumerate(zip(*moments, strict=True)) if len(set(same)) > 1), None)
    if differing is None:
        # 01.01., 02.02.: every reading is the same.
        return best[0]
    whole = [_read_layout(part, layout, order) for order in best]
    odd = [_irregular_steps(values) for values in whole if values is not None]
    first = min(range(len(odd)), key=odd.__getitem__)
    if all(2 * odd[first] < other for place, other in enumerate(odd) if place != first):
        return best[first]
    choices = " or ".join(
        f"{each[differing]:%d %B %Y} (--time-format '{layout.shown[order]}')"
        for each, order in zip(moments, best, strict=True)
    )
    row = int(rows.arg_true()[differing])
    raise ConfigError(f"the time {text[row]!r} in column {text.name!r}, {decide(row)}, may be {choices}: say which")


def _irregular_steps(values: pl.Series) -> int:
    """How many steps from row to row differ from the most frequent one, in time or in months of the calendar."""
    steps = values.drop_nulls().diff().drop_nulls().cast(pl.Int64)
    if not len(steps):
        return 0
    odd = len(steps) - int(steps.value_counts(sort=True)["count"][0])
    within = values.drop_nulls() - values.drop_nulls().dt.month_start().dt.truncate("1d")
    if within.n_unique() == 1:
        months = (values.dt.year().cast(pl.Int64) * 12 + values.dt.month()).diff().drop_nulls()
        odd = min(odd, len(months) - int(months.value_counts(sort=True)["count"][0]))
    return odd


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"

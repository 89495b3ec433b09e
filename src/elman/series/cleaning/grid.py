"""From a table in any order to a panel on a regular grid: which row goes to which place, and which places stay empty.

A row may stand up to half a step beside its place. Of two rows for one place the nearer one is kept, of two equally near ones the
first of the file. Every series has its own phase (minutes past the hour), the most frequent one among its rows. Nothing is ever
filled in: a place without a row is NaN in every column.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from elman.config import SeriesSettings, suggestion
from elman.errors import ConfigError, DataError
from elman.series.cleaning.clocks import moments_of
from elman.series.cleaning.findings import ColumnFacts, DataReport, moment
from elman.series.cleaning.targets import check_target, require_numbers
from elman.series.durations import DAY, Duration
from elman.series.panel import Panel
from elman.series.reading.table import Table
from elman.series.scoring.moments import local_times

LARGEST_SPREAD = 20
"""A grid with more places than this for each row is mostly empty: the step that was found is then hardly meant."""

SMALL_GRID = 1_000_000
"""Grids up to this many places cost nothing and are never refused."""

MOST_CATEGORIES = 64
"""Different texts of a static column; each becomes an input of the network."""

_NICE_STEPS = tuple(
    seconds * 1_000_000
    for seconds in (
        *(1, 2, 5, 10, 15, 20, 30, 60, 120, 180, 300, 600, 900, 1200, 1800),
        *(3600, 7200, 10800, 21600, 43200, 86400, 604800),
    )
)


@dataclass(frozen=True, eq=False)
class Arrangement:
    """Which row of a table goes where. Rows are numbers of the table's frame; arrays "in order" are sorted by series and time.

    rows: those that are kept, in order; None: all of them, as they stand. places: the place of each kept row on the grid of all
    series; None: one after the other. offsets: places of series i are `offsets[i]:offsets[i + 1]`. starts: of the kept rows of
    each series. step_share: how many of the differences between neighbours are the step.
    first_cells, phases, day, clock, zone: what the times of the grid follow from (`times`); months begin by the zone's clock.
    backwards: rows that stand behind a later one of their series. identical, differing: dropped rows with the time of another one,
    and the same or other values. crowded: dropped rows whose place is taken by a nearer one. moved: rows beside their place;
    furthest: by how many microseconds at most.
    gap_after: numbers (among the kept, in order) of the last row before each gap; gap_lengths: the places without a row.
    """

    rows: np.ndarray | None
    places: np.ndarray | None
    offsets: np.ndarray
    starts: np.ndarray
    names: tuple[str, ...]
    step: Duration
    step_share: float
    first_cells: np.ndarray
    phases: np.ndarray
    day: int
    clock: int
    zone: str | None
    backwards: np.ndarray
    identical: np.ndarray
    differing: np.ndarray
    crowded: np.ndarray
    moved: np.ndarray
    furthest: int
    gap_after: np.ndarray
    gap_lengths: np.ndarray

    def times(self) -> np.ndarray:
        """The time of each place of the grid, in microseconds since 1970."""
        lengths = np.diff(self.offsets)
        cells = np.arange(self.offsets[-1])
        cells -= np.repeat(self.offsets[:-1] - self.first_cells, lengths)
        return _cell_times(cells, np.repeat(self.phases, lengths) if len(lengths) > 1 else self.phases, self)

    def row(self, number: int) -> int:
        """The frame's row that is kept as `number` in order."""
        return int(number if self.rows is None else self.rows[number])


def to_panel(
    table: Table,
    report: DataReport,
    settings: SeriesSettings,
    *,
    columns: Sequence[str] | None = None,
    static_columns: Sequence[str] | None = None,
) -> Panel:
    """The measurements on the regular grid, repaired as the report says.

    columns: exactly these, in this order, as a trained forecaster needs them; None: target, inputs (all usable columns where the
    settings name none) and known columns, in the order of the file. static_columns: those known from training, with texts as
    "column=value"; a text that is not among them is 0 in all; None: found in the table.

    Raises: `DataError` for a column that is missing or text, a target nothing can be learned from, a static column that changes.
    """
    names = wanted_columns(report, settings) if columns is None else tuple(columns)
    for name in names:
        require_numbers(report, name)
    arrangement = arrange(table, settings, report.step)
    values = np.empty((int(arrangement.offsets[-1]), len(names)), np.float32)
    if arrangement.places is not None:
        values.fill(np.nan)
    for index, name in enumerate(names):
        numbers = repaired_column(table, report.column(name))
        if arrangement.rows is not None:
            numbers = numbers[arrangement.rows]
        values[slice(None) if arrangement.places is None else arrangement.places, index] = numbers
    static, static_names = _static(table, settings, arrangement, static_columns)
    return Panel(
        columns=names,
        values=values,
        times=arrangement.times(),
        offsets=arrangement.offsets,
        step=arrangement.step,
        names=arrangement.names,
        time_zone=table.time_zone,
        static=static,
        static_columns=static_names,
    )


def numbers_of(table: Table, name: str) -> np.ndarray:
    """One column as Float32 or Float64 with NaN where nothing stands, in the rows of the frame; not to be written to."""
    column = table.frame[name]
    if column.dtype not in (pl.Float32, pl.Float64):
        column = column.cast(pl.Float64)
    if column.null_count():
        column = column.fill_null(float("nan"))
    return column.to_numpy()


def repaired_column(table: Table, facts: ColumnFacts) -> np.ndarray:
    """One column with NaN for its sentinels and impossible values too."""
    numbers = numbers_of(table, facts.name)
    missing = missing_mask(numbers, facts)
    return numbers if missing is None else np.where(missing, numbers.dtype.type(np.nan), numbers)


def missing_mask(numbers: np.ndarray, facts: ColumnFacts) -> np.ndarray | None:
    """Which of `numbers` mean "missing" although a number stands there; None: the column has no such values."""
    mask: np.ndarray | None = None
    for sentinel in facts.sentinels:
        # In the column's own precision: -99.9 in Float32 is not -99.9 in Float64.
        found = numbers == numbers.dtype.type(sentinel)
        mask = found if mask is None else mask | found
    for bound, beyond in ((facts.low, np.less), (facts.high, np.greater)):
        if bound is not None and np.isfinite(bound):
            found = beyond(numbers, bound)
            mask = found if mask is None else mask | found
    return mask


def arrange(table: Table, settings: SeriesSettings, step: Duration | None = None) -> Arrangement:
    """Find the step (unless it is given here or in the settings) and the place of every row.

    Raises: `DataError` for no rows, a missing time or series, a step that cannot be told or makes a grid that is almost empty.
    """
    times, (codes, names) = _times(table), _series_codes(table)
    order = _order(times, codes)
    backwards = np.zeros(0, np.int64) if order is None else _backwards(times, codes)
    if order is not None:
        times, codes = times[order], None if codes is None else codes[order]
    bounds = _bounds(codes, len(times), len(names))
    del codes
    step, share = _step(times, bounds, settings, step, table)
    grid = _lay(times, bounds, step, table.time_zone)
    keep, taken_by = _keep(grid.cells, grid.distances, bounds)
    dropped = np.flatnonzero(~keep) if keep is not None else np.zeros(0, np.int64)
    identical, differing, crowded = _sort_out_dropped(table, times, order, dropped, taken_by)
    if keep is not None:
        grid.cells, grid.distances = grid.cells[keep], grid.distances[keep]
        order = np.flatnonzero(keep) if order is None else order[keep]
        bounds = np.concatenate([[0], np.cumsum(keep)])[bounds]
    lengths = grid.cells[bounds[1:] - 1] - grid.cells[bounds[:-1]] + 1
    if lengths.sum(dtype=float) > max(LARGEST_SPREAD * len(times), SMALL_GRID):
        raise DataError(
            f"{table.source} has {len(times):,} rows, but with a step of {step} its grid would have "
            f"{lengths.sum(dtype=float):,.0f} places: give the time from row to row, such as --step 1h"
        )
    jumps = np.diff(grid.cells)
    jumps[bounds[1:-1] - 1] = 1
    gaps = np.flatnonzero(jumps > 1)
    moved = np.flatnonzero(grid.distances)
    first_cells = grid.cells[bounds[:-1]]
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    places = None
    if len(gaps):
        places = grid.cells + np.repeat(offsets[:-1] - first_cells, np.diff(bounds))
    return Arrangement(
        rows=order,
        places=places,
        offsets=offsets,
        starts=bounds,
        names=names,
        step=step,
        step_share=share,
        first_cells=first_cells,
        phases=grid.phases,
        day=grid.day,
        clock=grid.clock,
        zone=grid.zone,
        backwards=backwards,
        identical=identical,
        differing=differing,
        crowded=crowded,
        moved=moved if order is None else order[moved],
        furthest=int(np.abs(grid.distances[moved]).max()) if len(moved) else 0,
        gap_after=gaps,
        gap_lengths=jumps[gaps] - 1,
    )


@dataclass(eq=False)
class _Grid:
    """Cells are places of a grid that reaches back to 1970; `distances` of the rows from them in microseconds."""

    cells: np.ndarray
    distances: np.ndarray
    phases: np.ndarray
    day: int
    clock: int
    zone: str | None
    step: Duration


def _times(table: Table) -> np.ndarray:
    column = table.frame[table.time_column]
    if len(column) == 0:
        raise DataError(f"{table.source} has no rows: a table with at least two of them is needed")
    if column.null_count():
        row = int(column.is_null().arg_max() or 0)
        raise DataError(
            f"{table.place(row)} has no time in column {table.time_column!r}: fill it in or take the line out"
        )
    return column.cast(pl.Datetime("us")).to_physical().to_numpy()


def _series_codes(table: Table) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """The number of each row's series, in the order in which they appear, and their names; None for a single unnamed one."""
    if table.series_column is None:
        return None, ("",)
    column = table.frame[table.series_column]
    if column.null_count():
        row = int(column.is_null().arg_max() or 0)
        raise DataError(
            f"{table.place(row)} names no series in column {table.series_column!r}: fill it in or take the line out"
        )
    unique = column.unique(maintain_order=True)
    names = unique.cast(pl.String)
    # An Enum's codes follow the order of its names, which is that of first appearance.
    codes = column.cast(pl.String).cast(pl.Enum(names)).to_physical().to_numpy()
    return codes, tuple(names.to_list())


def _order(times: np.ndarray, codes: np.ndarray | None) -> np.ndarray | None:
    """Rows sorted by series and time, rows of one time as they stand; None where they are already."""
    if codes is None:
        return None if bool((times[1:] >= times[:-1]).all()) else np.argsort(times, kind="stable")
    order = None
    if not bool((codes[1:] >= codes[:-1]).all()):
        # NumPy sorts 16-bit numbers in one pass.
        order = np.argsort(codes.astype(np.uint16) if codes.max() < 2**16 else codes, kind="stable")
    sorted_times, sorted_codes = (times, codes) if order is None else (times[order], codes[order])
    if bool(((sorted_times[1:] >= sorted_times[:-1]) | (sorted_codes[1:] != sorted_codes[:-1])).all()):
        return order
    return np.lexsort((times, codes))


def _backwards(times: np.ndarray, codes: np.ndarray | None) -> np.ndarray:
    if codes is None:
        return np.flatnonzero(times < np.maximum.accumulate(times))
    latest = pl.col("time").cum_max().over("series")
    frame = pl.DataFrame({"time": times, "series": codes})
    return np.flatnonzero(frame.select(pl.col("time") < latest).to_series().to_numpy())


def _bounds(codes: np.ndarray | None, count: int, series: int) -> np.ndarray:
    if codes is None:
        return np.asarray([0, count])
    return np.concatenate([[0], np.flatnonzero(codes[1:] != codes[:-1]) + 1, [count]])[: series + 1]


def _step(
    times: np.ndarray, bounds: np.ndarray, settings: SeriesSettings, known: Duration | None, table: Table
) -> tuple[Duration, float]:
    """The time from row to row, and the share of the differences that are as long."""
    differences = np.diff(times)
    differences[bounds[1:-1] - 1] = 0
    counted = (
        pl.Series("difference", differences[differences > 0])
        .value_counts()
        .sort(["count", "difference"], descending=[True, False])
    )
    total = int(counted["count"].sum())
    if known is None and settings.step is not None:
        try:
            known = Duration.parse(settings.step)
        except ConfigError as error:
            raise ConfigError(f"step: {error}".removesuffix(", or give a number of rows")) from None
    if known is not None:
        same = counted.filter(pl.col("difference") == known.microseconds)["count"].sum()
        return known, 1.0 if known.months or not total else float(same) / total
    if not total:
        raise DataError(
            f"{table.source} has no two rows with different times: give the time from row to row, such as --step 1h"
        )
    most = int(counted["difference"][0])
    if most >= 28 * DAY:
        months = _calendar_step(local_times(times, table.time_zone), bounds)
        if months:
            return Duration(months=months), 1.0
    share = int(counted["count"][0]) / total
    if share < 0.5:
        return _jittered_step(counted, total) or (Duration(most), share)
    return Duration(most), share


def _jittered_step(counted: pl.DataFrame, total: int) -> tuple[Duration, float] | None:
    """A usual step that nearly all differences are close to, where clocks tick unevenly: 58 s, 61 s, 60 s."""
    ordered = counted.sort("difference")
    middle = int(ordered.filter(pl.col("count").cum_sum() * 2 >= total)["difference"][0])
    nice = min(_NICE_STEPS, key=lambda step: abs(np.log(step / middle)))
    near = pl.col("difference").is_between(0.75 * nice, 1.25 * nice)
    share = ordered.filter(near)["count"].sum()
    return (Duration(nice), float(share) / total) if share > 0.9 * total else None


def _calendar(times: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Months since 1970, day of the month from 1, days in that month, microseconds since midnight."""
    months = times.astype("M8[us]").astype("M8[M]")
    days = times // DAY
    starts = months.astype("M8[D]").astype(np.int64)
    lengths = (months + 1).astype("M8[D]").astype(np.int64) - starts
    return months.astype(np.int64), days - starts + 1, lengths, times - days * DAY


def _calendar_day(day: np.ndarray, lengths: np.ndarray) -> int:
    """The day of the month on which all rows stand (31: the last one), 0 where they do not."""
    if bool((day == lengths).all()):
        return 31
    latest = int(day.max())
    return latest if bool((day == np.minimum(latest, lengths)).all()) else 0


def _calendar_step(times: np.ndarray, bounds: np.ndarray) -> int:
    """The months from row to row where all rows stand on the same day of the month at the same time of the day, else 0."""
    months, day, lengths, clock = _calendar(times)
    if not bool((clock == clock[0]).all()) or not _calendar_day(day, lengths):
        return 0
    differences = np.diff(months)
    differences[bounds[1:-1] - 1] = 0
    found, counts = np.unique(differences[differences > 0], return_counts=True)
    return int(found[np.argmax(counts)])


def _lay(times: np.ndarray, bounds: np.ndarray, step: Duration, zone: str | None) -> _Grid:
    """Give every row the nearest place of its series' grid."""
    lengths = np.diff(bounds)
    if step.months:
        months, day, days, clock = _calendar(local_times(times, zone))
        phases = _phases(months % step.months, bounds, step.months)
        spread = np.repeat(phases, lengths)
        cells = (months - spread + step.months // 2) // step.months
        usual = int(np.bincount(clock // 1_000_000).argmax()) * 1_000_000
        grid = _Grid(cells, cells, phases, _calendar_day(day, days) or 1, usual, zone, step)
        grid.distances = times - _cell_times(cells, spread, grid)
        return grid
    length = step.microseconds
    phases = _phases(times % length, bounds, length)
    spread = phases if len(phases) == 1 else np.repeat(phases, lengths)
    cells = (times - spread + length // 2) // length
    distances = times - spread
    distances -= cells * length
    return _Grid(cells, distances, phases, 0, 0, zone, step)


def _phases(remainders: np.ndarray, bounds: np.ndarray, length: int) -> np.ndarray:
    """The most frequent remainder of each series; where none is frequent (a clock that jitters), their mean on the circle."""
    series = len(bounds) - 1
    if bool((remainders == remainders[0]).all()):
        return np.full(series, remainders[0])
    lengths = np.diff(bounds)
    numbers = np.repeat(np.arange(series, dtype=np.int32), lengths)
    counted = pl.DataFrame({"series": numbers, "remainder": remainders}).group_by("series", "remainder").len()
    best = counted.sort(["series", "len", "remainder"], descending=[False, True, False]).unique(
        "series", keep="first", maintain_order=True
    )
    phases = best["remainder"].to_numpy().astype(np.int64)
    unclear = best["len"].to_numpy() < 0.2 * lengths
    if unclear.any():
        angles = remainders * (2 * np.pi / length)
        sums = [np.bincount(numbers, part, minlength=series) for part in (np.sin(angles), np.cos(angles))]
        means = np.round(np.arctan2(*sums) * (length / (2 * np.pi))).astype(np.int64) % length
        phases = np.where(unclear, means, phases)
    return phases


def _cell_times(cells: np.ndarray, phases: np.ndarray, grid: "_Grid | Arrangement") -> np.ndarray:
    if not grid.step.months:
        times = cells * grid.step.microseconds
        times += phases
        return times
    months = (cells * grid.step.months + phases).astype("M8[M]")
    starts = months.astype("M8[D]").astype(np.int64)
    lengths = (months + 1).astype("M8[D]").astype(np.int64) - starts
    walls = (starts + np.minimum(grid.day, lengths) - 1) * DAY + grid.clock
    return walls if grid.zone is None else moments_of(walls, grid.zone)


def _keep(cells: np.ndarray, distances: np.ndarray, bounds: np.ndarray) -> tuple[np.ndarray | None, np.ndarray]:
    """Which rows (in order) stay when several have one place (None: all), and for each that goes, the one that stays."""
    same = cells[1:] == cells[:-1]
    same[bounds[1:-1] - 1] = False
    if not same.any():
        return None, np.zeros(0, np.int64)
    involved = np.flatnonzero(np.concatenate([same, [False]]) | np.concatenate([[False], same]))
    opens = np.concatenate([[True], ~same])[involved]
    group = np.cumsum(opens) - 1
    # Rows of one time are still as they stood in the file, so that the position decides for the first of them.
    ranked = np.lexsort((involved, np.abs(distances[involved]), group))
    heads = involved[ranked[np.flatnonzero(opens)]]
    keep = np.ones(len(cells), bool)
    keep[involved] = False
    keep[heads] = True
    stays = heads[group]
    return keep, stays[involved != stays]


def _sort_out_dropped(
    table: Table, times: np.ndarray, order: np.ndarray | None, dropped: np.ndarray, taken_by: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The dropped rows as rows of the frame: same time and values as the row that stays, same time only, another time."""
    if not len(dropped):
        return dropped, dropped, dropped
    same_time = times[dropped] == times[taken_by]
    gone, stays = (dropped, taken_by) if order is None else (order[dropped], order[taken_by])
    crowded, gone, stays = gone[~same_time], gone[same_time], stays[same_time]
    equal = np.ones(len(gone), bool)
    for column in table.frame.get_columns():
        equal &= column.gather(gone).eq_missing(column.gather(stays)).to_numpy()
    return np.sort(gone[equal]), np.sort(gone[~equal]), np.sort(crowded)


def wanted_columns(report: DataReport, settings: SeriesSettings) -> tuple[str, ...]:
    """Target, inputs (all usable columns where none are named), known columns: each once, in the order of the file.

    Raises: `DataError` for one that is missing or text, and for a target nothing can be learned from.
    """
    for name in (*settings.inputs, *settings.known):
        require_numbers(report, name)
    if settings.target is not None:
        check_target(report, settings.target)
    chosen = {*settings.known, *([settings.target] if settings.target is not None else [])}
    usable = {facts.name for facts in report.columns if facts.used and facts.name not in settings.static}
    chosen |= set(settings.inputs) or usable
    names = tuple(facts.name for facts in report.columns if facts.name in chosen)
    if not names:
        raise DataError(f"{report.source} has no column with numbers that change: nothing can be forecast from it")
    return names


def _static(
    table: Table, settings: SeriesSettings, arrangement: Arrangement, wanted: Sequence[str] | None
) -> tuple[np.ndarray, tuple[str, ...]]:
    """What each series is, `[series, static]`, and the names of these numbers."""
    series, names, parts = len(arrangement.names), [], []
    for name in settings.static:
        if name not in table.frame.columns:
            raise DataError(f"{table.source} has no static column {name!r}{suggestion(name, table.frame.columns)}")
        values = _value_of_each_series(table, name, arrangement)
        if values.dtype.is_numeric() or values.dtype == pl.Boolean:
            names.append(name)
            parts.append(values.cast(pl.Float64).fill_null(float("nan")).to_numpy())
            continue
        texts = np.asarray(values.cast(pl.String).fill_null("").to_list(), object)
        if wanted is None:
            categories = sorted(set(texts) - {""})
        else:
            categories = [entry[len(name) + 1 :] for entry in wanted if entry.startswith(f"{name}=")]
        if len(categories) > MOST_CATEGORIES:
            raise DataError(
                f"static column {name!r} of {table.source} has {len(categories):,} different texts, at most {MOST_CATEGORIES} are "
                f"possible: leave it out, or group them"
            )
        names += [f"{name}={category}" for category in categories]
        parts += [texts == category for category in categories]
    found = np.stack(parts, axis=1).astype(np.float32) if parts else np.zeros((series, 0), np.float32)
    if wanted is not None and tuple(names) != tuple(wanted):
        lost = [name for name in wanted if name not in names]
        if lost:
            raise DataError(
                f"{table.source} lacks what the static input {lost[0]!r} needs, which was there in training"
            )
        found, names = found[:, [names.index(name) for name in wanted]], list(wanted)
    return found, tuple(names)


def _value_of_each_series(table: Table, name: str, arrangement: Arrangement) -> pl.Series:
    """A static column's first value in each series. Raises: `DataError` where it changes within one."""
    value = pl.col(name)
    if table.frame.schema[name].is_float():
        value = value.fill_nan(None)
    if table.series_column is None:
        grouped = table.frame.select(first=value.drop_nulls().first(), kinds=value.drop_nulls().n_unique())
    else:
        grouping = table.frame.lazy().group_by(table.series_column, maintain_order=True)
        grouped = grouping.agg(first=value.drop_nulls().first(), kinds=value.drop_nulls().n_unique()).collect()
    changing = grouped["kinds"] > 1
    if changing.any():
        number = int(changing.arg_max() or 0)
        here = (
            pl.lit(True)
            if table.series_column is None
            else pl.col(table.series_column) == grouped[table.series_column][number]
        )
        first = grouped["first"][number]
        row = int(table.frame.select((here & (value != first)).fill_null(False).arg_max()).item())
        series = f" of series {arrangement.names[number]!r}" if table.series_column is not None else ""
        raise DataError(
            f"static column {name!r} is {first!r} at the start{series} and {table.frame[name][row]!r} in {table.place(row)} "
            f"({moment(int(_times(table)[row]))}): a static column never changes along a series"
        )
    return grouped["first"]

"""Rows in any order become a regular grid: each measurement at its place, NaN exactly where none is."""

import dataclasses
import datetime
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from elman.config import Config, SeriesSettings
from elman.errors import ConfigError, DataError
from elman.series.cleaning.grid import arrange, to_panel
from elman.series.cleaning.inspection import inspect
from elman.series.panel import Panel
from elman.series.reading.table import Table

HOUR = 3_600_000_000
START = 1_577_836_800_000_000  # 2020-01-01


def table_of(columns: dict[str, Any], *, series: str | None = None) -> Table:
    """`time` in microseconds or as datetimes, and whatever columns."""
    frame = pl.DataFrame(columns).with_columns(pl.col("time").cast(pl.Datetime("us")))
    return Table(frame, "time", series, "ISO 8601", None, "table.csv", 2, (), "")


def settings(**changes: Any) -> SeriesSettings:
    return Config().replace(**changes).series


def panel_of(table: Table, **changes: Any) -> Panel:
    chosen = settings(**changes)
    return to_panel(table, inspect(table, chosen), chosen)


def assert_same(one: Panel, other: Panel) -> None:
    assert (one.columns, one.names, one.step) == (other.columns, other.names, other.step)
    np.testing.assert_array_equal(one.values, other.values)
    np.testing.assert_array_equal(one.times, other.times)
    np.testing.assert_array_equal(one.offsets, other.offsets)


@given(st.permutations(range(30)))
def test_any_order_of_rows_gives_the_same_panel(order: list[int]) -> None:
    times, values = START + HOUR * np.arange(30), np.sin(np.arange(30.0))
    mixed = table_of({"time": times[order], "y": values[order]})
    panel = panel_of(mixed)
    np.testing.assert_array_equal(panel.values[:, 0], values.astype(np.float32))
    np.testing.assert_array_equal(panel.times, times)


@given(st.sets(st.integers(1, 38), max_size=15))
def test_removed_rows_are_nan_exactly_there(gone: set[int]) -> None:
    times, values = START + HOUR * np.arange(40), np.cos(np.arange(40.0))
    stays = np.asarray([row for row in range(40) if row not in gone])
    panel = panel_of(table_of({"time": times[stays], "y": values[stays]}), step="1h")
    expected = values.astype(np.float32)
    expected[sorted(gone)] = np.nan
    np.testing.assert_array_equal(panel.values[:, 0], expected)
    np.testing.assert_array_equal(panel.times, times)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 40)), min_size=2, max_size=60, unique=True), st.booleans())
def test_many_series_against_a_dictionary(rows: list[tuple[int, int]], shuffled_names: bool) -> None:
    names = [f"s{(number * 7 + shuffled_names) % 5}" for number, _ in rows]
    hours = np.asarray([hour for _, hour in rows])
    values = np.arange(1.0, len(rows) + 1)
    panel = panel_of(
        table_of({"name": names, "time": START + HOUR * hours, "y": values}, series="name"), step="1h", target="y"
    )
    known = {(name, START + HOUR * int(hour)): value for name, hour, value in zip(names, hours, values, strict=True)}
    assert panel.names == tuple(dict.fromkeys(names))
    for number, name in enumerate(panel.names):
        own = slice(panel.offsets[number], panel.offsets[number + 1])
        own_times = [time for other, time in known if other == name]
        np.testing.assert_array_equal(panel.times[own], np.arange(min(own_times), max(own_times) + 1, HOUR))
        expected = [known.get((name, int(time)), np.nan) for time in panel.times[own]]
        np.testing.assert_array_equal(panel.values[own, 0], np.asarray(expected, np.float32))


def test_interleaved_series_are_not_out_of_order() -> None:
    times = np.repeat(START + HOUR * np.arange(5), 2)
    table = table_of({"name": ["a", "b"] * 5, "time": times, "y": np.arange(10.0)}, series="name")
    report = inspect(table, settings())
    assert report.findings == ()
    np.testing.assert_array_equal(panel_of(table).values[:, 0], [0, 2, 4, 6, 8, 1, 3, 5, 7, 9])


def test_of_one_time_the_first_row_stays_and_of_one_place_the_nearer() -> None:
    minutes = [0, 60, 60, 60, 120, 175, 180, 240]
    table = table_of({"time": START + 60_000_000 * np.asarray(minutes), "y": [1.0, 2, 2, 3, 4, 5, 6, 7]})
    found = arrange(table, settings())
    assert (found.identical.tolist(), found.differing.tolist(), found.crowded.tolist()) == ([2], [3], [5])
    np.testing.assert_array_equal(panel_of(table).values[:, 0], [1, 2, 4, 6, 7])


def test_rows_beside_the_grid_move_by_less_than_half_a_step() -> None:
    random = np.random.default_rng(0)
    exact = START + HOUR * np.arange(200)
    shift = np.where(random.random(200) < 0.3, random.integers(-29, 30, 200), 0) * 60_000_000
    panel = panel_of(table_of({"time": exact + shift, "y": np.arange(200.0)}))
    np.testing.assert_array_equal(panel.times, exact)
    np.testing.assert_array_equal(panel.values[:, 0], np.arange(200))


def test_a_clock_that_jitters_has_the_usual_step() -> None:
    random = np.random.default_rng(1)
    times = START + 60_000_000 * np.arange(500) + random.integers(-4_000_000, 4_000_000, 500)
    panel = panel_of(table_of({"time": times, "y": np.arange(500.0)}))
    assert str(panel.step) == "1min"
    np.testing.assert_array_equal(panel.values[:, 0], np.arange(500))


def test_every_series_has_its_own_phase() -> None:
    times = np.concatenate([START + HOUR * np.arange(6), START + HOUR // 2 + HOUR * np.arange(6)])
    table = table_of({"name": ["a"] * 6 + ["b"] * 6, "time": times, "y": np.arange(12.0)}, series="name")
    panel = panel_of(table)
    np.testing.assert_array_equal(panel.times, times)


@pytest.mark.parametrize(
    ("dates", "step"),
    [
        ([datetime.datetime(2019 + m // 12, m % 12 + 1, 1) for m in range(30)], "1mo"),
        (
            [datetime.datetime(2019 + (m + 1) // 12, (m + 1) % 12 + 1, 1) - datetime.timedelta(1) for m in range(30)],
            "1mo",
        ),
        ([datetime.datetime(2015 + m // 12, m % 12 + 1, 15, 12) for m in range(0, 60, 3)], "3mo"),
        ([datetime.datetime(year, 2, 28) for year in range(2000, 2020)], "12mo"),
        ([datetime.datetime(2020, 1, 1) + datetime.timedelta(28 * n) for n in range(30)], "28d"),
        ([datetime.datetime(2020, 1, 1) + datetime.timedelta(7 * n) for n in range(30)], "7d"),
    ],
)
def test_calendar_steps(dates: list[datetime.datetime], step: str) -> None:
    dates = dates[:4] + dates[5:]
    table = table_of({"time": dates, "y": np.arange(float(len(dates)))})
    report = inspect(table, settings())
    panel = panel_of(table)
    assert str(report.step) == step
    assert np.isnan(panel.values[:, 0]).tolist() == [row == 4 for row in range(len(dates) + 1)]
    there = pl.Series(np.delete(panel.times, 4)).cast(pl.Datetime("us")).to_list()
    assert there == dates


def test_months_begin_by_the_clock_of_the_zone() -> None:
    walls = [datetime.datetime(2019 + m // 12, m % 12 + 1, 1) for m in range(30) if m != 9]
    moments = (
        pl.Series(walls).dt.replace_time_zone("Europe/Berlin").dt.convert_time_zone("UTC").dt.replace_time_zone(None)
    )
    table = dataclasses.replace(table_of({"time": moments, "y": np.arange(29.0)}), time_zone="Europe/Berlin")
    report = inspect(table, settings())
    assert (str(report.step), [finding.kind for finding in report.findings]) == ("1mo", ["gaps"])
    panel = panel_of(table)
    assert np.flatnonzero(np.isnan(panel.values[:, 0])).tolist() == [9]
    np.testing.assert_array_equal(np.delete(panel.times, 9), moments.cast(pl.Datetime("us")).to_physical())


def test_times_before_1970() -> None:
    dates = [datetime.datetime(1900, month, 1) for month in range(1, 13)]
    assert panel_of(table_of({"time": dates, "y": np.arange(12.0)})).times[0] == -2208988800000000


@pytest.mark.parametrize(
    ("columns", "changes", "message"),
    [
        ({"time": [], "y": []}, {}, "table.csv has no rows: a table with at least two of them is needed"),
        ({"time": [START], "y": [1.0]}, {}, "no two rows with different times: give the time from row to row"),
        ({"time": [START, None], "y": [1.0, 2]}, {}, "line 3 of table.csv has no time in column 'time'"),
        ({"time": START + HOUR * np.arange(2), "y": [1.0, 2]}, {"step": "often"}, "step: 'often' is no duration"),
        (
            {"time": [START, START + 1000, START + 10**15], "y": [1.0, 2, 3]},
            {},
            "would have 1,000,000,000,001 places: give the time from row to row, such as --step 1h",
        ),
    ],
)
def test_impossible_times(columns: dict[str, Any], changes: dict[str, Any], message: str) -> None:
    columns = {**columns, "time": pl.Series(columns["time"], dtype=pl.Int64)}
    with pytest.raises((DataError, ConfigError), match=message):
        arrange(table_of(columns), settings(**changes))


def test_columns_come_in_the_order_of_the_file() -> None:
    times = START + HOUR * np.arange(4)
    table = table_of(
        {
            "time": times,
            "text": ["a"] * 4,
            "b": [1.0, 2, 3, 4],
            "flat": [1.0] * 4,
            "a": [4.0, 3, 2, 1],
            "holiday": [0.0, 0, 0, 0],
        }
    )
    assert panel_of(table).columns == ("b", "a")
    assert panel_of(table, target="a", known=("holiday",)).columns == ("b", "a", "holiday")
    assert panel_of(table, target="a", inputs=("flat",)).columns == ("flat", "a")
    report = inspect(table, settings())
    panel = to_panel(table, report, settings(), columns=("a", "flat"))
    np.testing.assert_array_equal(panel.values, [[4, 1], [3, 1], [2, 1], [1, 1]])
    with pytest.raises(DataError, match=r"table.csv has no column 'holidays': did you mean 'holiday'\? \(renamed\?\)"):
        to_panel(table, report, settings(), columns=("holidays",))
    with pytest.raises(DataError, match=r"column 'text' of table.csv holds text: numbers are needed"):
        to_panel(table, report, settings(), columns=("text",))


def test_static_columns() -> None:
    frame = {
        "name": ["x", "y", "z"] * 3,
        "time": np.repeat(START + HOUR * np.arange(3), 3),
        "y": np.arange(9.0),
        "area": [2.5, 4, 1] * 3,
        "kind": ["sea", "land", "sea"] * 3,
    }
    table = table_of(frame, series="name")
    chosen = settings(static=("area", "kind"))
    report = inspect(table, chosen)
    panel = to_panel(table, report, chosen)
    assert panel.columns == ("y",)
    assert panel.static_columns == ("area", "kind=land", "kind=sea")
    np.testing.assert_array_equal(panel.static, [[2.5, 0, 1], [4, 1, 0], [1, 0, 1]])
    later = to_panel(table, report, chosen, static_columns=("area", "kind=lake", "kind=sea"))
    np.testing.assert_array_equal(later.static, [[2.5, 0, 1], [4, 0, 0], [1, 0, 1]])
    changed = table_of({**frame, "area": [2.5, 4, 1, 2.5, 4, 1, 2.5, 4, 7]}, series="name")
    with pytest.raises(DataError, match=r"'area' is 1.0 at the start of series 'z' and 7.0 in line 10 of table.csv"):
        to_panel(changed, inspect(changed, chosen), chosen)
    many = table_of({**frame, "name": list(range(9)), "kind": [f"k{n}" for n in range(9)]}, series="name")
    assert to_panel(many, inspect(many, settings(step="1h")), settings(static=("kind",))).static.sum() == 9


def test_too_many_categories() -> None:
    count = 65
    table = table_of(
        {
            "name": [f"s{n}" for n in range(count)],
            "time": [START] * count,
            "y": np.arange(65.0),
            "kind": [f"k{n}" for n in range(count)],
        },
        series="name",
    )
    chosen = settings(static=("kind",), step="1h")
    with pytest.raises(DataError, match=r"'kind' of table.csv has 65 different texts, at most 64 are possible"):
        to_panel(table, inspect(table, chosen), chosen)


def test_the_table_is_not_written_to() -> None:
    table = table_of({"time": START + HOUR * np.arange(50)[::-1], "wv (m/s)": np.append(np.arange(49.0), -9999)})
    before = table.frame.clone()
    panel_of(table)
    assert table.frame.equals(before)

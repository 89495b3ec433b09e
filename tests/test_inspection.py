"""The data report says what is wrong with a table, and is silent about honest data."""

import argparse
import datetime
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from elman.commands import describe
from elman.config import Config, SeriesSettings
from elman.errors import ConfigError, DataError
from elman.reports.data import data_figure, print_report
from elman.series.cleaning.findings import DataReport
from elman.series.cleaning.grid import to_panel
from elman.series.cleaning.inspection import inspect
from elman.series.cleaning.targets import check_target, choose_target
from elman.series.reading.table import Table

HOUR = 3_600_000_000
START = 1_577_836_800_000_000  # 2020-01-01
RANDOM = np.random.default_rng(5)
WEATHER = 12 + 8 * np.sin(np.arange(3000) / 24 * 2 * np.pi) + RANDOM.normal(size=3000)


def settings(**changes: Any) -> SeriesSettings:
    return Config().replace(**changes).series


def table_of(times: Any, *, series: str | None = None, **columns: Any) -> Table:
    frame = pl.DataFrame({"time": times, **columns}).with_columns(pl.col("time").cast(pl.Datetime("us")))
    return Table(frame, "time", series, "ISO 8601", None, "table.csv", 2, (), "")


def hourly(values: Any, name: str = "y") -> Table:
    return table_of(START + HOUR * np.arange(len(values)), **{name: values})


def report_of(values: Any, name: str = "y", **changes: Any) -> DataReport:
    return inspect(hourly(values, name), settings(**changes))


def kinds(report: DataReport) -> list[str]:
    return [finding.kind for finding in report.findings]


def with_values(values: np.ndarray, value: float, rows: list[int]) -> np.ndarray:
    changed = values.copy()
    changed[rows] = value
    return changed


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("name", "values", "sentinel"),
    [
        ("wv (m/s)", np.abs(WEATHER), -9999.0),
        ("y", WEATHER, -9999.0),
        ("y", WEATHER, -999.0),
        ("y", WEATHER, -99.9),
        ("y", WEATHER, 999.9),
        ("y", WEATHER, 1e20),
        ("y", WEATHER, 32767.0),
        ("y", WEATHER, -99999.0),
        ("p (mbar)", 990 + WEATHER, 0.0),
        ("rh (%)", 50 + WEATHER, 0.0),
        ("rain (mm)", np.where(RANDOM.random(3000) < 0.95, 0, np.round(np.abs(WEATHER), 1)), -99.0),
    ],
)
def test_sentinels_are_found(name: str, values: np.ndarray, sentinel: float, dtype: type) -> None:
    rows = [17, 18, 1000]
    changed = with_values(values, sentinel, rows).astype(dtype)
    report = report_of(changed, name)
    assert kinds(report) == ["sentinels"]
    finding = report.findings[0]
    assert (finding.count, [spot.row for spot in finding.spots]) == (3, rows)
    assert finding.spots[0].place == "line 19 of table.csv"
    assert report.column(name).missing == 3
    assert report.column(name).smallest == np.delete(changed, rows).min()
    panel = to_panel(hourly(changed, name), report, settings())
    assert np.flatnonzero(np.isnan(panel.values[:, 0])).tolist() == rows


@pytest.mark.parametrize(
    ("name", "values", "value", "kind"),
    [
        ("rh (%)", 50 + WEATHER, 250.0, "impossible"),
        ("Tpot (K)", 280 + WEATHER, 0.0, "impossible"),
        ("T (degC)", WEATHER, 85.0, "impossible"),
        ("wind speed (m/s)", np.abs(WEATHER), -3.5, "impossible"),
        ("wd (deg)", np.abs(WEATHER) * 10, 2000.0, "impossible"),
        ("wd (deg)", np.abs(WEATHER) * 10, -9999.0, "sentinels"),
    ],
)
def test_a_single_impossible_value_is_missing(name: str, values: np.ndarray, value: float, kind: str) -> None:
    for dtype in (np.float32, np.float64):
        report = report_of(with_values(values, value, [40]).astype(dtype), name)
        assert kinds(report) == [kind]
        assert report.column(name).missing == 1


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("rain (mm)", np.where(RANDOM.random(3000) < 0.95, 0, np.round(np.abs(WEATHER), 1))),
        ("count", RANDOM.integers(0, 10_000, 3000).clip(0, 9999)),
        ("count", np.minimum(RANDOM.geometric(0.0005, 3000), 9999)),
        ("y", np.append(RANDOM.integers(-120, 1, 2999), -99)),
        ("y", np.append(-np.abs(WEATHER) * 4, [-99, -99])),
        ("bimodal", np.where(RANDOM.random(3000) < 0.5, RANDOM.normal(0, 1, 3000), RANDOM.normal(999, 1, 3000))),
        ("switch", np.where(RANDOM.random(3000) < 0.5, 0, 9999)),
        ("money", np.round(RANDOM.standard_cauchy(3000) * 100)),
        ("VPdef (mbar)", np.maximum(WEATHER - 5, 0)),
        ("rh (%)", np.clip(WEATHER * 6 - 30, 0, 100)),
        ("wind_u (m/s)", WEATHER - 12),
        ("T (degC)", WEATHER + 52),
        ("pump (bar)", with_values(5 + WEATHER / 10, 0, [5, 6, 7])),
        ("solar (W/m2)", np.maximum(WEATHER * 20 - 240, -3)),
        ("register", RANDOM.integers(0, 65536, 3000).clip(0, 65535)),
        ("y", np.append(WEATHER, 200.0)),
    ],
)
def test_honest_columns_are_left_alone(name: str, values: np.ndarray) -> None:
    report = report_of(np.asarray(values, float), name)
    assert [finding.sentence for finding in report.findings] == []
    np.testing.assert_array_equal(to_panel(hourly(values, name), report, settings()).values[:, 0], np.float32(values))


def test_many_values_outside_the_range_are_a_question_about_the_unit() -> None:
    report = report_of(WEATHER * 9, "rh (%)")
    assert kinds(report) == ["range"]
    assert report.findings[0].count == int(((WEATHER * 9 < 0) | (WEATHER * 9 > 105)).sum())
    assert report.column("rh (%)").missing == 0


def test_a_sentinel_known_from_training_is_one_in_few_rows_too() -> None:
    few = hourly([7.0, 7.0, 7.0, -999.9])
    assert kinds(inspect(few, settings())) == []
    report = inspect(few, settings(), known_sentinels={"y": (-999.9, -5.0), "other": (1.0,)})
    assert [finding.kind for finding in report.findings] == ["sentinels", "constant"]
    assert report.column("y").sentinels == (-999.9,)


def test_refused_sentinels_stay() -> None:
    values = with_values(WEATHER, -9999, [3, 4])
    report = report_of(values, refuse=("sentinels",))
    assert report.findings[0].done == "kept as they are (--refuse sentinels)"
    assert report.column("y").smallest == -9999
    panel = to_panel(hourly(values), report, settings(refuse=("sentinels",)))
    assert panel.values[3, 0] == -9999


@pytest.mark.parametrize(
    ("refuse", "hours", "message"),
    [
        ("order", [0, 1, 3, 2, 4], r"1 row out of time order, the first in line 5 of table.csv: sort the rows by time"),
        ("repeats", [0, 1, 1, 2, 3], r"1 row for a time that has one already, the first in line 4 of table.csv: leave"),
        ("gaps", [0, 1, 4, 5, 6], r"1 gap, 2 rows missing; .* after line 3 of table.csv: fill in the missing rows"),
    ],
)
def test_refused_repairs_of_time_stop_the_program(refuse: str, hours: list[int], message: str) -> None:
    table = table_of(START + HOUR * np.asarray(hours), y=np.arange(5.0))
    with pytest.raises(DataError, match=message):
        inspect(table, settings(refuse=(refuse,)))
    others = tuple({"order", "repeats", "gaps"} - {refuse})
    assert kinds(inspect(table, settings(refuse=others))) == [refuse]


@given(st.lists(st.integers(0, 60), min_size=2, max_size=80).filter(lambda hours: len(set(hours)) > 1))
def test_figures_of_time_against_plain_python(hours: list[int]) -> None:
    report = inspect(table_of(START + HOUR * np.asarray(hours), y=np.arange(float(len(hours)))), settings(step="1h"))
    latest = [max(hours[: row + 1]) for row in range(len(hours))]
    counts = {kind: sum(finding.count for finding in report.of_kind(kind)) for kind in ("order", "repeats")}
    assert counts["order"] == sum(hour < most for hour, most in zip(hours, latest, strict=True))
    assert counts["repeats"] == len(hours) - len(set(hours))
    assert report.grid_rows == max(hours) - min(hours) + 1
    assert report.missing_rows == report.grid_rows - len(set(hours))


@pytest.mark.parametrize("value", [np.inf, -np.inf, 1e39])
def test_infinite_values_name_column_and_line(value: float) -> None:
    with pytest.raises(
        DataError, match=r"column 'y' is (-?inf|1e\+39) in line 9 of table.csv \(2 such values in all\)"
    ):
        report_of(with_values(WEATHER, value, [7, 90]))


def test_notes_about_columns() -> None:
    steady = with_values(WEATHER, 11.25, list(range(100, 180)))
    table = table_of(
        START + HOUR * np.arange(3000),
        y=steady,
        flat=np.full(3000, 3.0),
        empty=np.full(3000, np.nan),
        nothing=pl.Series([None] * 3000, dtype=pl.Float64),
        word=["a", "b"] * 1500,
        again=steady,
        clock=1.6e9 + np.arange(3000.0),
        direction=np.arange(3000) % 360,
    )
    report = inspect(table, settings())
    found = {(finding.kind, finding.column, finding.severity) for finding in report.findings}
    assert found == {
        ("stuck", "y", "note"),
        ("stuck", "again", "note"),
        ("constant", "flat", "note"),
        ("empty", "empty", "note"),
        ("empty", "nothing", "note"),
        ("text", "word", "note"),
        ("identical", "again", "note"),
        ("precision", "clock", "problem"),
    }
    assert [facts.name for facts in report.columns if facts.used] == ["y", "again", "clock", "direction"]
    assert report.of_kind("stuck")[0].count == 80
    facts = report.column("y")
    np.testing.assert_allclose((facts.mean, facts.deviation), (steady.mean(), steady.std()), rtol=1e-12)
    assert facts.share_unchanged == pytest.approx((np.diff(steady) == 0).mean())


def test_the_mean_of_a_direction_is_on_the_circle() -> None:
    facts = report_of([350.0, 10, 350, 10, 355, 5], "wd (deg)").column("wd (deg)")
    assert facts.kind == "direction"
    assert min(facts.mean, 360 - facts.mean) < 1e-6
    angles = np.radians([350.0, 10, 350, 10, 355, 5])
    assert facts.deviation == pytest.approx(np.degrees(np.sqrt(-2 * np.log(np.cos(angles).mean()))))


@pytest.mark.parametrize(
    ("zone", "years", "looks"),
    [
        ("Europe/Berlin", 2, "Europe/Berlin"),
        ("Europe/London", 1, "Europe/London"),
        ("America/New_York", 1, "America/New_York"),
        ("Asia/Tokyo", 1, None),
    ],
)
@pytest.mark.parametrize("minutes", [10, 60])
def test_daylight_saving_time(zone: str, years: int, looks: str | None, minutes: int) -> None:
    start = datetime.datetime(2019, 1, 1)
    moments = pl.datetime_range(
        start, start.replace(year=2019 + years), f"{minutes}m", time_zone="UTC", eager=True, time_unit="us"
    )
    local = moments.dt.convert_time_zone(zone).dt.replace_time_zone(None)
    report = inspect(table_of(local, y=RANDOM.normal(size=len(local))), settings())
    found = report.of_kind("daylight-saving")
    assert len(found) == (looks is not None)
    if looks:
        assert f"give --time-zone (such as {looks})" in found[0].found
        assert found[0].count == years * 60 // minutes


def test_targets() -> None:
    times = START + HOUR * np.arange(5)
    table = table_of(times, a=np.arange(5.0), flat=[1.0] * 5, none=[float("nan")] * 5, word=["x"] * 5)
    report = inspect(table, settings())
    check_target(report, "a")
    for target, message in (
        ("aa", r"table.csv has no column 'aa' to forecast: did you mean 'a'\?"),
        ("temperature", r"no column 'temperature' to forecast: its columns are 'a', 'flat', 'none', 'word'"),
        ("flat", r"the target 'flat' of table.csv is 1 in every row: choose a column with numbers that change: 'a'"),
        ("none", r"the target 'none' of table.csv has no value in any of 5 rows"),
        ("word", r"the target 'word' of table.csv holds text"),
    ):
        with pytest.raises(DataError, match=message):
            check_target(report, target)
        with pytest.raises(DataError, match=message):
            to_panel(table, report, settings(target=target))
    with pytest.raises(
        ConfigError, match=r"which column of table.csv is forecast\? Give --target with one of 'a', 'flat'"
    ):
        choose_target(table, settings())
    assert choose_target(table, settings(target="flat")) == "flat"
    assert choose_target(table_of(times, a=np.arange(5.0), word=["x"] * 5), settings()) == "a"
    assert choose_target(table_of(times, a=np.arange(5.0), y=np.arange(5.0)), settings()) == "y"
    with pytest.raises(DataError, match="no column with numbers"):
        choose_target(table_of(times, word=["x"] * 5), settings())


def jena(shared_data: Path, name: str) -> Table:
    frame = pl.read_csv(shared_data / name, infer_schema_length=None)
    times = pl.col("Date Time").str.to_datetime("%d.%m.%Y %H:%M:%S", time_unit="us")
    return Table(frame.with_columns(times), "Date Time", None, "%d.%m.%Y %H:%M:%S", None, name, 2, (), "")


def test_the_real_hourly_file(shared_data: Path) -> None:
    table = jena(shared_data, "jena_climate_2009_2016_hourly.csv")
    report = inspect(table, settings())
    assert str(report.step) == "1h"
    times = table.frame["Date Time"].to_physical().to_numpy()
    values = table.frame.drop("Date Time").to_numpy()
    sentinels = {finding.column: finding.count for finding in report.of_kind("sentinels")}
    names = [name for name in table.frame.columns if name != "Date Time"]
    assert sentinels == {name: n for name, n in zip(names, (values == -9999).sum(0).tolist(), strict=True) if n}
    assert set(sentinels) == {"wv (m/s)", "max. wv (m/s)"}
    assert set(kinds(report)) == {"order", "repeats", "off-grid", "gaps", "sentinels"}
    assert [facts.name for facts in report.columns if facts.kind == "direction"] == ["wd (deg)"]
    assert report.of_kind("order")[0].count == int((times < np.maximum.accumulate(times)).sum())
    # Most rows stand at half past: round to the hour around it.
    places = np.round((times - HOUR // 2) / HOUR).astype(int)
    distinct = np.unique(places)
    assert report.of_kind("repeats")[0].count == len(places) - len(distinct)
    assert report.of_kind("gaps")[0].count == int((np.diff(distinct) > 1).sum())
    assert report.missing_rows == int((np.diff(distinct) - 1).sum())
    panel = to_panel(table, report, settings(target="T (degC)"))
    assert panel.row_count == report.grid_rows == distinct[-1] - distinct[0] + 1
    assert int((~panel.observed).sum()) == report.missing_rows
    there = np.isin(np.arange(distinct[0], distinct[-1] + 1), distinct)
    np.testing.assert_array_equal(panel.observed, there)
    assert np.nanmin(panel.column("wv (m/s)")) == 0


def test_the_real_file_of_2020(shared_data: Path) -> None:
    table = jena(shared_data, "jena_climate_2020_10min.csv")
    report = inspect(table, settings())
    assert str(report.step) == "10min"
    assert [(finding.kind, finding.column, finding.count) for finding in report.findings] == [
        ("sentinels", "wv (m/s)", 1)
    ]


def dirty_table() -> Table:
    hours = np.delete(np.arange(3000), np.arange(1200, 1500))
    columns = {
        "T (degC)": with_values(WEATHER, -9999, [50, 60]),
        "wd (deg)": np.arange(3000) % 360,
        "note": ["dry"] * 3000,
    }
    return table_of(START + HOUR * hours, **{name: np.asarray(values)[hours] for name, values in columns.items()})


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_the_report_fits_the_terminal(width: int, encoding: str) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="replace")
    console = Console(file=stream, width=width, highlight=False, soft_wrap=True)
    report = inspect(dirty_table(), settings())
    print_report(report, console)
    stream.flush()
    text = stream.buffer.getvalue().decode(encoding)
    assert all(len(line) <= width for line in text.splitlines())
    words = " ".join(text.split())
    for part in (
        "2,700 rows, one every 1h",
        "90 %, 1 gap",
        "300 rows missing",
        "T (degC)",
        "-9999 in 2 rows",
        "direction",
    ):
        assert part in words


def test_the_picture_marks_gaps_and_sentinels() -> None:
    table = dirty_table()
    report = inspect(table, settings())
    figure = data_figure(report, to_panel(table, report, settings()))
    plots = [axes for axes in figure.axes if axes.axison]
    assert [axes.get_title(loc="left") for axes in plots] == ["T (degC)", "wd (deg)"]
    (gap,) = list(plots[0].patches)
    days = START / 86_400_000_000
    np.testing.assert_allclose([gap.get_x(), gap.get_x() + gap.get_width()], [days + 50, days + 62.5], atol=0.3)
    marked = [line.get_xdata() for line in plots[0].lines if line.get_marker() == "^"]
    np.testing.assert_allclose(marked, [[days + 50 / 24, days + 60 / 24]])
    assert not [line for line in plots[1].lines if line.get_marker() == "^"]


@pytest.mark.parametrize("rows", [2, 3, 40])
def test_small_and_empty_columns_are_drawn_too(rows: int) -> None:
    table = table_of(
        START + HOUR * np.arange(rows)[::-1],
        **{
            "y": np.arange(float(rows)),
            "$p^": [float("nan")] * rows,
            "flat": [1.0] * rows,
            "wd (deg)": np.arange(rows) * 9.0,
        },
    )
    report = inspect(table, settings())
    panel = to_panel(table, report, settings(), columns=("y", "$p^", "flat", "wd (deg)"))
    data_figure(report, panel).savefig(io.BytesIO(), format="svg")
    json.dumps(report.to_dict(), allow_nan=False)


def test_describe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, picture = tmp_path / "station.csv", tmp_path / "station.png"
    dirty_table().frame.write_csv(file, datetime_format="%Y-%m-%d %H:%M:%S")
    parsed = argparse.Namespace(input=str(file), json=True, output=str(picture))
    assert describe.run(parsed) == 0
    figures = json.loads(capsys.readouterr().out)
    assert (figures["rows"], figures["step"], figures["missing_rows"]) == (2700, "1h", 300)
    assert [(found["kind"], found["count"]) for found in figures["findings"]] == [
        ("gaps", 1),
        ("sentinels", 2),
        ("text", 2700),
    ]
    assert figures["findings"][1]["first"][0] == {
        "row": 50,
        "place": f"line 52 of {file}",
        "time": "2020-01-03 02:00",
        "value": -9999.0,
    }
    assert picture.read_bytes()[:4] == b"\x89PNG"
    assert describe.run(argparse.Namespace(input=str(file), json=False, output=None)) == 0
    assert "one every 1h" in " ".join(capsys.readouterr().out.split())
    with pytest.raises(ConfigError, match=r"station.txt is no picture: end its name with .png or .svg"):
        describe.run(argparse.Namespace(input=str(file), json=False, output="station.txt"))

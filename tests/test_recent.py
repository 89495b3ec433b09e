"""New rows at forecast time: what cannot be forecast from is refused, what may fool the network is told."""

import datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from elman.errors import ConfigError, DataError
from elman.series.model import SeriesModel
from elman.series.panel import Panel
from elman.series.recent import read_recent
from elman.series.running import forecast_latest
from test_running import make_model, make_panel


def frame_of(panel: Panel, count: int | None = None) -> pl.DataFrame:
    """The last rows of each series as a person would give them."""
    frames = []
    for number, name in enumerate(panel.names):
        start, end = panel.offsets[number : number + 2]
        start = start if count is None else end - count
        columns = {name: panel.values[start:end, place] for place, name in enumerate(panel.columns)}
        frame = pl.DataFrame({"time": pl.Series(panel.times[start:end]).cast(pl.Datetime("us")), **columns}).fill_nan(
            None
        )
        frames.append(frame.with_columns(unique_id=pl.lit(name)) if name else frame)
    return pl.concat(frames)


@pytest.fixture(scope="module")
def panel() -> Panel:
    return make_panel(series=2)


@pytest.fixture(scope="module")
def model(panel: Panel) -> SeriesModel:
    return make_model(panel)


@pytest.fixture(scope="module")
def single() -> SeriesModel:
    return make_model(make_panel())


def test_rows_come_back_as_they_were(model: SeriesModel, panel: Panel, tmp_path: Path) -> None:
    frame = frame_of(panel)
    recent = read_recent(model, frame)
    np.testing.assert_array_equal(recent.panel.values, panel.values)
    np.testing.assert_array_equal(recent.panel.times, panel.times)
    assert (recent.panel.names, recent.panel.columns, recent.warnings) == (panel.names, panel.columns, ())
    assert recent.time_column == "time"
    frame.write_parquet(tmp_path / "rows.parquet")
    assert forecast_latest(model, read_recent(model, tmp_path / "rows.parquet").panel).equals(
        forecast_latest(model, panel)
    )


def test_other_columns_are_passed_over_and_the_order_does_not_matter(model: SeriesModel, panel: Panel) -> None:
    frame = (
        frame_of(panel)
        .with_columns(note=pl.lit("fine"), more=1.0)
        .select("more", "k", "note", "x", "unique_id", "y", "time")
    )
    np.testing.assert_array_equal(read_recent(model, frame).panel.values, panel.values)


@pytest.mark.parametrize(("column", "other"), [("y", "yy"), ("x", "x1"), ("k", "kk")])
def test_missing_and_renamed_columns_are_named(single: SeriesModel, column: str, other: str) -> None:
    frame = frame_of(make_panel())
    with pytest.raises(DataError, match=rf"no column '{column}'.*did you mean '{other}'"):
        read_recent(single, frame.rename({column: other}))
    with pytest.raises(DataError, match=rf"no column '{column}'.*its columns are"):
        read_recent(single, frame.drop(column))


def test_another_step_is_refused(single: SeriesModel) -> None:
    frame = frame_of(make_panel())
    start = datetime.datetime(2024, 1, 1)
    minutes = [start + datetime.timedelta(minutes=10 * number) for number in range(len(frame))]
    with pytest.raises(DataError, match="rows of the frame are 10min apart, but the model was trained on 1h"):
        read_recent(single, frame.with_columns(time=pl.Series(minutes)))
    with pytest.raises(DataError, match="2h apart"):
        read_recent(single, frame.gather_every(2))


def test_too_few_rows_name_both_numbers(single: SeriesModel, model: SeriesModel, panel: Panel) -> None:
    with pytest.raises(
        DataError, match="the frame has 23 rows up to the last measurement, but a forecast looks back on 24"
    ):
        read_recent(single, frame_of(make_panel(), 23))
    with pytest.raises(DataError, match="has 1 rows"):
        read_recent(single, frame_of(make_panel(), 1))
    short = pl.concat([frame_of(panel)[:150], frame_of(panel)[290:]])
    warnings = read_recent(model, short).warnings
    assert len(warnings) == 1
    assert "1 of 2 series have fewer rows than the lookback of 24 (such as 's1' with 10)" in warnings[0]


def test_another_unit_is_suspected(single: SeriesModel) -> None:
    frame = frame_of(make_panel())
    warnings = read_recent(single, frame.with_columns(pl.col("x") + 273.15)).warnings
    assert len(warnings) == 1
    assert warnings[0].startswith("x is between 2")
    assert warnings[0].endswith("in training: another unit?")
    few = frame.with_columns(pl.when(pl.int_range(pl.len()) < 5).then(300.0).otherwise("x").alias("x"))
    assert read_recent(single, few).warnings == ()


def test_a_new_series_is_told_and_not_judged_by_the_others(
    model: SeriesModel, single: SeriesModel, panel: Panel
) -> None:
    frame = frame_of(panel).with_columns(pl.col("unique_id").replace("s1", "new"), pl.col("y") * 1000)
    warnings = read_recent(model, frame.filter(unique_id="new")).warnings
    assert warnings == ("the series 'new' was not there in training: it is scaled by its own rows",)
    assert "which has no name" in read_recent(model, frame_of(make_panel())).warnings[0]


def test_rows_out_of_order_are_sorted_and_told(single: SeriesModel) -> None:
    frame = frame_of(make_panel())
    recent = read_recent(single, frame[::-1])
    np.testing.assert_array_equal(recent.panel.values, make_panel().values)
    assert len(recent.warnings) == 1
    assert "out of time order" in recent.warnings[0]


def test_sentinels_of_training_are_missing_here_too(single: SeriesModel) -> None:
    frame = frame_of(make_panel())
    single.sentinels["x"] = [-7.0]
    try:
        marked = frame.with_columns(pl.when(pl.int_range(pl.len()) == 3).then(-7.0).otherwise("x").alias("x"))
        assert np.isnan(read_recent(single, marked).panel.values[3, 1])
    finally:
        single.sentinels.clear()


def test_a_target_without_a_past_is_refused(single: SeriesModel) -> None:
    frame = frame_of(make_panel()).with_columns(y=pl.lit(None, pl.Float64))
    with pytest.raises(DataError, match="the target 'y' of the frame has no value in any of 150 rows"):
        read_recent(single, frame)


def test_known_columns_must_reach_the_horizon() -> None:
    panel = make_panel(missing=0)
    model = make_model(panel, known=("k",))
    frame = frame_of(panel)
    with pytest.raises(
        DataError, match=r"'k' must be known up to 6 rows \(6h\) behind 2024-03-07 05:00.*at 2024-03-07 05:00"
    ):
        read_recent(model, frame)
    assert read_recent(model, frame, forecasting=False).panel.row_count == 150
    last = pl.int_range(pl.len()) >= 144
    future = frame.with_columns(pl.when(last).then(None).otherwise(name).alias(name) for name in ("y", "x"))
    found = forecast_latest(model, read_recent(model, future).panel)
    assert found[0, "origin"] == frame[143, "time"]
    changed = future.with_columns(pl.when(last).then(4.0).otherwise("k").alias("k"))
    assert forecast_latest(model, read_recent(model, changed).panel)[0, "y"] != found[0, "y"]


def test_how_the_rows_are_written_may_differ(single: SeriesModel, tmp_path: Path) -> None:
    frame = frame_of(make_panel()).rename({"time": "Wann"})
    frame = frame.with_columns(pl.col("Wann").dt.to_string("%d/%m/%y %H:%M"))
    frame.write_csv(tmp_path / "rows.csv", separator=";", decimal_comma=True)
    overrides: dict[str, Any] = {"time_column": "Wann", "time_format": "%d/%m/%y %H:%M", "decimal": "comma"}
    np.testing.assert_allclose(
        read_recent(single, tmp_path / "rows.csv", overrides=overrides).panel.values, make_panel().values, rtol=1e-6
    )
    with pytest.raises(DataError, match="'horizon' was settled in training"):
        read_recent(single, frame, overrides={"horizon": "3"})
    with pytest.raises(ConfigError, match="decimal"):
        read_recent(single, frame, overrides={"decimal": "dot"})

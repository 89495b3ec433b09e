"""The forecaster as a Python program uses it: frames in, frames out, and the habits of scikit-learn."""

import datetime
import gc
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from elman.errors import ConfigError, DataError, RunError
from elman.series.forecaster import Forecaster

# Sizes that the program would choose by the number of rows are given, so that all fits share their compiled programs.
TINY: dict[str, Any] = {"horizon": 6, "hidden": 8, "steps": 30, "lookback": "24h", "levels": (0.05, 0.5, 0.95)}
TINY |= {"batch": 4, "unroll": 16, "block": 10, "validate_every": 0}


def rows(count: int = 600, series: tuple[str, ...] = (), seed: int = 0) -> pl.DataFrame:
    """Hours with a daily cycle and noise; a second column leads the first."""
    generator = np.random.default_rng(seed)
    start = datetime.datetime(2024, 1, 1)
    frames = []
    for number, name in enumerate(series or ("",)):
        y = 5 * np.sin(np.arange(count) * 2 * np.pi / 24) + generator.normal(size=count) + 10 * number
        x = np.roll(y, -2) + generator.normal(size=count)
        times = [start + datetime.timedelta(hours=hour) for hour in range(count)]
        frames.append(pl.DataFrame({"time": times, "y": y, "x": x, **({"station": [name] * count} if series else {})}))
    return pl.concat(frames)


@pytest.fixture(scope="module")
def frame() -> pl.DataFrame:
    return rows()


@pytest.fixture(scope="module")
def fitted(frame: pl.DataFrame) -> Forecaster:
    return Forecaster("y", **TINY).fit(frame[:560])


@pytest.fixture(scope="module")
def stations() -> Forecaster:
    settings = {**TINY, "path": True, "horizon": "3h"}
    return Forecaster("y", series_column="station", **settings).fit(rows(300, ("a", "b")))


def test_a_forecast_is_a_frame(fitted: Forecaster, frame: pl.DataFrame) -> None:
    found = fitted.predict()
    assert found.columns == ["origin", "time", "y", "q05", "q50", "q95"]
    assert found[0, "origin"] == frame[559, "time"]
    assert found[0, "time"] == frame[559, "time"] + datetime.timedelta(hours=6)
    assert found[0, "q05"] < found[0, "q50"] == found[0, "y"] < found[0, "q95"]
    assert found.equals(fitted.predict(frame[:560]))
    assert not found.equals(fitted.predict(frame))
    assert fitted.warnings_ == ()


def test_updates_give_the_bits_of_a_prediction(fitted: Forecaster, frame: pl.DataFrame) -> None:
    fitted.follow()
    for cells in frame[560:590].iter_rows(named=True):
        found = fitted.update(cells)
    assert found.equals(fitted.predict(frame[:590]))
    assert fitted.update(frame[590:]).equals(fitted.predict(frame))
    found, last = fitted.predict(frame), frame.to_dicts()[599]
    assert fitted.follow(frame[:599]).update((last["time"], [last["y"], last["x"]])).equals(found)
    assert fitted.follow(frame[:599]).update((last["time"], {"y": last["y"], "x": last["x"]})).equals(found)
    with pytest.raises(DataError, match="no rows"):
        fitted.update(frame[:0])
    with pytest.raises(DataError, match="no column 'x'"):
        fitted.update(frame[599:].drop("x"))
    with pytest.raises(DataError, match="a float is no row"):
        fitted.update(1.0)


def test_pandas_in_pandas_out(fitted: Forecaster, frame: pl.DataFrame) -> None:
    pandas = pytest.importorskip("pandas")
    expected = fitted.predict(frame)
    columns = {name: frame[name].to_numpy() for name in ("time", "y", "x")}
    found = fitted.predict(pandas.DataFrame(columns))
    assert list(found.columns) == expected.columns
    assert found["time"][0].to_pydatetime() == expected[0, "time"]
    np.testing.assert_array_equal(found["q95"], expected["q95"])
    indexed = pandas.DataFrame(columns).set_index("time")
    by_time = fitted.predict(indexed)
    assert isinstance(by_time.index, pandas.DatetimeIndex)
    assert by_time.index[0].to_pydatetime() == expected[0, "time"]
    assert fitted.follow(indexed[:599]).update(indexed[599:])["y"].tolist() == expected["y"].to_list()
    local = indexed.tz_localize("Europe/Berlin", ambiguous="raise")
    assert str(fitted.predict(local).index.tz) == "Europe/Berlin"


def test_zones_are_kept(fitted: Forecaster, frame: pl.DataFrame) -> None:
    local = frame.with_columns(pl.col("time").dt.replace_time_zone("Europe/Berlin"))
    found = fitted.predict(local)
    assert found.schema["time"] == pl.Datetime("us", "Europe/Berlin")
    assert found[0, "origin"] == local[-1, "time"]
    berlin = fitted.follow(local[:599])
    assert berlin.update(local[599:].to_dicts()[0]).equals(found)
    naive = {**frame[599:].to_dicts()[0]}
    assert fitted.follow(local[:599]).update(naive).equals(found)
    with pytest.raises(DataError, match="of a time zone, but the rows before it were of none"):
        fitted.follow(frame[:599]).update(local[599:].to_dicts()[0])


def test_series_have_their_own_rows_and_clocks(stations: Forecaster) -> None:
    frame = rows(320, ("a", "b"))
    found = stations.predict()
    assert found.columns == ["station", "origin", "time", "y", "q05", "q50", "q95"]
    assert found["station"].to_list() == ["a"] * 3 + ["b"] * 3
    uneven = pl.concat([frame[:310], frame[320:]])
    later = stations.predict(uneven)
    assert later["origin"].unique().sort().to_list() == [frame[309, "time"], frame[319, "time"]]
    stations.follow(pl.concat([frame[:300], frame[320:]]))
    for cells in frame[300:310].iter_rows(named=True):
        answer = stations.update(cells)
    assert answer.equals(later.filter(station="a"))


def test_a_new_series_needs_no_refit(stations: Forecaster) -> None:
    new = rows(100, ("c",), seed=5)
    found = stations.predict(new)
    assert "'c' was not there in training" in stations.warnings_[0]
    moved = stations.predict(new.with_columns(pl.col("y") * 1000 + 5000))
    np.testing.assert_allclose(moved["y"], found["y"] * 1000 + 5000, rtol=1e-3)
    np.testing.assert_allclose(moved["q95"] - moved["q05"], (found["q95"] - found["q05"]) * 1000, rtol=1e-3)


def test_what_is_saved_forecasts_the_same(fitted: Forecaster, frame: pl.DataFrame, tmp_path: Path) -> None:
    fitted.save(tmp_path / "model.safetensors")
    loaded = Forecaster.load(tmp_path / "model.safetensors")
    assert loaded.predict(frame).equals(fitted.predict(frame))
    assert loaded.get_params()["hidden"] == 8
    assert loaded.run_ is None
    for forbidden in (loaded.predict, loaded.evaluate, loaded.backtest, loaded.follow):
        with pytest.raises(DataError, match="does not hold the rows"):
            forbidden()
    with pytest.raises(DataError, match="does not hold the rows"):
        loaded.update({"time": frame[599, "time"], "y": 1.0})


def test_a_run_is_kept_where_it_is_wanted(tmp_path: Path, frame: pl.DataFrame) -> None:
    frame.write_csv(tmp_path / "rows.csv")
    forecaster = Forecaster("y", run=tmp_path / "run", **TINY).fit(tmp_path / "rows.csv")
    loaded = Forecaster.load(tmp_path / "run")
    assert loaded.predict().equals(forecaster.predict())
    assert loaded.evaluate()["test"]["best_baseline"]
    assert Forecaster.load(tmp_path / "run").evaluate() == loaded.evaluate()
    with pytest.raises(RunError, match="already holds a run"):
        forecaster.fit(frame)


def test_a_run_that_is_not_wanted_goes_with_its_forecaster(fitted: Forecaster) -> None:
    assert fitted.run_ is not None
    assert fitted.run_.path.is_dir()
    forecaster = Forecaster("y")
    folder = forecaster._temporary_folder().parent
    assert folder.is_dir()
    del forecaster
    gc.collect()
    assert not folder.exists()


def test_scores_stand_beside_the_baselines(fitted: Forecaster) -> None:
    scores = fitted.evaluate()
    assert scores["test"]["best_baseline"]
    assert scores["verdict"]
    assert fitted.evaluate() is scores


def test_backtests_begin_behind_what_was_learnt_from(fitted: Forecaster, frame: pl.DataFrame) -> None:
    plain = fitted.backtest(stride=5)
    assert plain["refits"] == 0
    assert {"network", "persistence", "climatology"} <= set(plain["figures"])
    first = plain["table"]["origin_time"].min()
    assert first >= int(np.datetime64(frame[int(0.85 * 560) - 2, "time"], "us").astype(np.int64))
    new = fitted.backtest(frame, start=0.8, baselines=False)
    assert list(new["figures"]) == ["network"]
    assert new["table"]["origin"].min() == 480
    with pytest.raises(ConfigError, match="start = 2"):
        fitted.backtest(start=2)


def test_a_refit_sees_only_what_was_known(fitted: Forecaster, frame: pl.DataFrame) -> None:
    last = pl.int_range(pl.len()) > 560
    changed = frame.with_columns(pl.when(last).then(100.0).otherwise(name).alias(name) for name in ("y", "x"))
    options: dict[str, Any] = {"start": 0.9, "stride": 25, "refit_every": 2, "baselines": False}
    results = [fitted.backtest(one, **options) for one in (frame, changed)]
    assert [result["refits"] for result in results] == [2, 2]
    found = [result["table"] for result in results]
    known = found[0]["origin"] <= 560
    assert 0 < known.sum() < len(known)
    said = [table["forecasts"]["network"] for table in found]
    np.testing.assert_array_equal(said[1][known], said[0][known])
    assert not np.array_equal(said[1], said[0])
    assert not np.array_equal(
        said[0], fitted.backtest(frame, **{**options, "refit_every": None})["table"]["forecasts"]["network"]
    )


def test_nothing_is_said_before_it_is_fitted() -> None:
    forecaster = Forecaster("y")
    asking = (lambda: forecaster.update({}), lambda: forecaster.model_)
    for ask in (forecaster.predict, forecaster.evaluate, forecaster.backtest, *asking):
        with pytest.raises(DataError, match="not fitted yet: call fit"):
            ask()
    with pytest.raises(DataError, match="y is not needed"):
        forecaster.fit(None, [1, 2])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hiden": 8}, "unknown setting 'hiden': did you mean 'hidden'"),
        ({"targt": "y"}, "unknown setting 'targt': did you mean 'target'"),
        ({"unit": "byte"}, "unknown setting 'unit'"),
        ({"hidden": "many"}, "hidden = 'many'"),
        ({"preset": "jenna"}, "did you mean 'jena'"),
        ({"minutes": 1, "steps": 5}, "one budget"),
        ({"run": 5}, "run = 5"),
    ],
)
def test_settings_are_checked_at_once(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Forecaster(**settings)
    forecaster = Forecaster("y", hidden=8)
    with pytest.raises(ConfigError, match=message):
        forecaster.set_params(**settings)
    assert forecaster.get_params() == {"target": "y", "horizon": None, "preset": None, "run": None, "hidden": 8}


def test_parameters_come_and_go() -> None:
    forecaster = Forecaster("y", preset="best", minutes=2)
    assert forecaster.set_params(hidden=16, target="x") is forecaster
    assert repr(forecaster) == "Forecaster(target='x', preset='best', minutes=2, hidden=16)"
    again = Forecaster(**forecaster.get_params())
    assert again.get_params() == forecaster.get_params()


def test_scikit_learn_can_clone_it(fitted: Forecaster) -> None:
    base = pytest.importorskip("sklearn.base")
    copy = base.clone(fitted)
    assert copy.get_params() == fitted.get_params()
    with pytest.raises(DataError, match="not fitted"):
        copy.predict()


def test_a_notebook_shows_the_newest_forecast(fitted: Forecaster) -> None:
    shown = fitted._repr_html_()
    assert "Forecaster(target=&#x27;y&#x27;" in shown
    assert shown.count("<svg") == shown.count("</svg>") == 1
    assert "<svg" not in Forecaster("y")._repr_html_()


def test_new_rows_may_be_written_as_the_table_was(tmp_path: Path) -> None:
    """Under the table's own name of the time, and day first, which a single time of early in a month does not tell."""
    count = 300  # hours, to 4 March
    times = [datetime.datetime(2021, 2, 20) + datetime.timedelta(hours=row) for row in range(count + 1)]
    values = np.sin(2 * np.pi * np.arange(count + 1) / 24)
    text = [f"{time:%d.%m.%Y %H:%M};{value:.4f}" for time, value in zip(times, values, strict=True)]
    path = tmp_path / "station.csv"
    path.write_text("\n".join(["Messzeit;T", *text[:count]]), encoding="utf-8")
    forecaster = Forecaster("T", horizon="3h", lookback="12", hidden=4, steps=2, batch=2, unroll=8).fit(path)
    day, value = text[count].split(";")
    answer = forecaster.update({"Messzeit": day, "T": float(value)})
    assert answer["origin"].to_list() == [times[count]]
    assert answer["time"].to_list() == [times[count] + datetime.timedelta(hours=3)]

"""The commands about series, from a table to forecasts: what they print, what they write, and that the two agree."""

import contextlib
import io
import json
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from elman.cli import main
from elman.series.model import SeriesModel
from elman.series.presets import PRESETS
from elman.series.reading.stations import table_names
from elman.series.reading.weather import generate_weather, write_weather
from elman.series.run import SeriesRun
from elman.series.scoring.origins import truth
from elman.series.trainer import reopen
from elman.training.runs import Run

TARGET = "T (degC)"
SMALL = ["--target", TARGET, "--horizon", "6h", "--lookback", "24h", "--hidden", "8", "--batch", "4", "--unroll", "16"]
INPUTS = ["--inputs", "p (mbar)", TARGET, "rh (%)"]
FIGURES = {"mae", "rmse", "mase", "pinball", "crps", "coverage", "width", "skill", "best_baseline", "baselines"}


def said_by(*arguments: str) -> tuple[str, str]:
    """What a command that succeeds says on standard output and on standard error."""
    output, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        status = main(list(arguments))
    assert status == 0, errors.getvalue()
    return output.getvalue(), errors.getvalue()


def object_of(*arguments: str) -> dict[str, Any]:
    """The one object that a command prints with --json."""
    output, _ = said_by(*arguments, "--json")
    assert output.count("\n") == 1
    value = json.loads(output)
    assert isinstance(value, dict)
    return value


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> Path:
    """A folder with 900 hours of weather, 200 later ones, and what `elman train series` said on both channels."""
    folder = tmp_path_factory.mktemp("home")
    write_weather(folder / "station.csv", start="2020-01-01 00:00", rows=900, seed=3)
    write_weather(folder / "later.csv", start="2020-02-07 12:00", rows=200, seed=3)
    arguments = ["train", "series", str(folder / "station.csv"), "--run", str(folder / "run"), "--steps", "30"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", environment["XDG_CACHE_HOME"])  # compiled once, for the tests as well
        output, errors = said_by(*arguments, *SMALL, *INPUTS)
    (folder / "output.txt").write_text(output, encoding="utf-8")
    (folder / "errors.txt").write_text(errors, encoding="utf-8")
    return folder


@pytest.fixture
def run(home: Path) -> str:
    return str(home / "run")


def test_training_says_what_it_does_and_ends_with_who_wins(home: Path, run: str) -> None:
    errors = (home / "errors.txt").read_text(encoding="utf-8")
    assert "station.csv: 900 rows, one every 1h, 2020-01-01 00:00 to 2020-02-07 11:00" in errors
    assert "forecast: T (degC), 6h ahead, from 3 columns" in errors
    assert "630 rows to learn from, 135 to choose by, 135 to be tested on" in errors
    assert "gru with 8 units, 4 streams of 16 steps, 30 updates" in errors
    output = (home / "output.txt").read_text(encoding="utf-8")
    assert output.splitlines()[0] == SeriesRun(run).verdict
    assert "persistence" in output
    assert "ridge on lags" in output
    assert f"forecast with it:  elman forecast {run}" in output
    assert (home / "run" / "report.html").exists()


def test_the_first_line_says_it_where_a_baseline_wins(run: str, tmp_path: Path) -> None:
    frame = generate_weather(start="2020-02-07 12:00", rows=400, seed=3)
    daily = 3 + 5 * np.sin(np.arange(400) * 2 * np.pi / 24)
    frame = frame.with_columns(pl.Series(TARGET, daily))
    frame.write_csv(tmp_path / "daily.csv", datetime_format="%d.%m.%Y %H:%M:%S")
    output, _ = said_by("evaluate", run, str(tmp_path / "daily.csv"))
    assert output.startswith("NOT better than seasonal naive (day): the baseline wins")
    output, _ = said_by("backtest", run, str(tmp_path / "daily.csv"), "--stride", "12h")
    assert output.startswith("NOT better than seasonal naive (day): the baseline wins")


def test_a_database_a_preset_and_a_file_of_settings_give_the_same_run(run: str, tmp_path: Path) -> None:
    columns = ["p (mbar)", TARGET, "rh (%)"]
    frame = generate_weather(start="2020-01-01 00:00", rows=900, seed=3).select("Date Time", *columns)
    with contextlib.closing(sqlite3.connect(tmp_path / "weather.db")) as connection, connection:
        names = ", ".join(f'"{name}"' for name in frame.columns)
        connection.execute(f"create table weather ({names})")
        texts = frame.with_columns(pl.col("Date Time").dt.to_string("%Y-%m-%d %H:%M:%S"))
        connection.executemany("insert into weather values (?, ?, ?, ?)", texts.iter_rows())
    uri, again = f"sqlite:///{tmp_path / 'weather.db'}", str(tmp_path / "run")
    query = ["--query", "select * from weather order by 1"]
    settings = tmp_path / "settings.toml"
    settings.write_text(
        "[network]\nhidden = 8\n[training]\nepochs = 50.0\nbatch = 4\nunroll = 16\n"
        '[series]\nhorizon = "6h"\nlookback = "24h"\nevery = "1"\nsplit = "50/15/35"\n'
    )
    flags = ["--steps", "30", "--split", "70/15/15", "--no-baselines", "--quiet"]
    figures = object_of(
        "train", "series", uri, *query, "--preset", "jena", "--config", str(settings), "--run", again, *flags
    )
    assert figures["updates"] == 30
    assert figures["target"] == TARGET, "of the preset"
    assert figures["baselines"] == {}
    assert SeriesRun(again).losses == SeriesRun(run).losses
    (row,) = object_of("forecast", again)["forecasts"]
    assert object_of("forecast", again, "--data", uri, *query)["forecasts"] == [row]
    frame.write_parquet(tmp_path / "rows.parquet")
    assert object_of("forecast", again, "--data", str(tmp_path / "rows.parquet"))["forecasts"] == [row]


def test_going_on_with_a_finished_run_gives_its_result_again(run: str) -> None:
    figures = object_of("train", "--resume", run)
    assert figures["updates"] == 30
    assert figures["ending"] == "finished"
    assert figures["verdict"] == SeriesRun(run).verdict
    assert figures.keys() >= {
        "run",
        "bundle",
        "seconds",
        "target",
        "unit",
        "horizon",
        "test",
        "validation",
        "baselines",
    }
    assert not {"fans", "slices", "data"} & figures.keys()


def test_a_stopped_run_goes_on_to_the_same_end(home: Path, run: str, tmp_path: Path) -> None:
    arguments = ["train", "series", str(home / "station.csv"), "--run", str(tmp_path / "run"), "--steps", "30"]
    quiet = said_by(*arguments, *SMALL, *INPUTS, "--checkpoint-every", "10", "--quiet", "--no-baselines")
    assert quiet == ("", "")
    losses = SeriesRun(tmp_path / "run").losses
    for name in ("checkpoints/000000030.safetensors", "evaluation.json"):
        (tmp_path / "run" / name).unlink()  # as after a kill
    said_by("train", "--resume", str(tmp_path / "run"), "--quiet")
    assert SeriesRun(tmp_path / "run").losses == losses == SeriesRun(run).losses


def test_evaluating_a_run_gives_the_figures_of_its_training_again(run: str) -> None:
    before = SeriesRun(run).evaluation
    figures = object_of("evaluate", run)
    assert figures.keys() >= {"run", "test", "validation", "baselines", "verdict", "target", "unit", "horizon"}
    for part in ("test", "validation"):
        assert figures[part].keys() >= FIGURES
        assert figures[part]["mae"] == pytest.approx(before[part]["mae"])
    assert set(figures["baselines"]["ridge on lags"]) == {"test", "validation"}
    assert figures["horizon"] == "6h"
    output, _ = said_by("evaluate", run)
    assert output.splitlines()[0] == figures["verdict"]
    assert "by hour of the day" in output


def test_evaluating_on_another_table_scores_all_of_it_behind_the_first_lookback(home: Path, run: str) -> None:
    bundle = str(home / "run" / "best.safetensors")
    figures = object_of("evaluate", bundle, str(home / "later.csv"))
    assert figures["test"]["count"] == 200 - 24 - 6 + 1
    assert figures["validation"]["count"] == 0
    model = SeriesModel.load(bundle)
    frame = generate_weather(start="2020-02-07 12:00", rows=200, seed=3)
    values = frame[TARGET].to_numpy()
    persistence = np.abs(values[29:] - values[23:-6]).mean()
    assert figures["test"]["baselines"]["persistence"]["mae"] == pytest.approx(persistence, rel=1e-4)
    assert object_of("evaluate", run, str(home / "later.csv"))["test"] == figures["test"]
    assert model.lookback == 24


def test_forecasting_starts_from_the_last_row(run: str, home: Path) -> None:
    figures = object_of("forecast", run)
    assert figures.keys() == {
        *("model", "target", "unit", "horizon", "step", "levels", "warnings", "forecasts"),
    }
    (row,) = figures["forecasts"]
    assert (row["origin"], row["time"]) == ("2020-02-07T11:00:00", "2020-02-07T17:00:00")
    quantiles = [row[name] for name in row if name.startswith("q")]
    assert len(quantiles) == 11
    assert quantiles == sorted(quantiles)
    assert row[TARGET] == row["q50"]
    assert object_of("forecast", run, "--data", str(home / "station.csv"))["forecasts"] == [row]
    output, _ = said_by("forecast", run)
    assert "2020-02-07 11:00" in output
    assert f"{row['q50']:.2f}" in output
    assert "T (degC), known until 7 February 2020, 11:00; each point" in output


def test_forecasting_from_other_rows_and_into_files(home: Path, run: str, tmp_path: Path) -> None:
    (row,) = object_of("forecast", run, "--data", str(home / "later.csv"))["forecasts"]
    files = [tmp_path / f"out.{ending}" for ending in ("csv", "tsv", "parquet")]
    for file in files:
        output, _ = said_by("forecast", run, "--data", str(home / "later.csv"), "--output", str(file))
        assert f"forecast:  {file}" in output
    tables = [pl.read_csv(files[0]), pl.read_csv(files[1], separator="\t"), pl.read_parquet(files[2])]
    for table in tables:
        assert table.columns == list(row)
        assert table[TARGET][0] == pytest.approx(row[TARGET])
    assert tables[0]["time"][0] == row["time"]
    assert tables[2]["time"][0].isoformat() == row["time"]


@pytest.mark.parametrize(("ending", "start"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("html", b"<!doctype html>")])
def test_forecasts_are_drawn(run: str, tmp_path: Path, ending: str, start: bytes) -> None:
    picture = tmp_path / f"fan.{ending}"
    said_by("forecast", run, "--picture", str(picture))
    assert picture.read_bytes().startswith(start)


def test_a_backtest_says_what_the_run_would_have_said(run: str, tmp_path: Path) -> None:
    file = tmp_path / "every.parquet"
    figures = object_of("backtest", run, "--stride", "3h", "--output", str(file))
    assert figures["origins"] == 43
    assert figures["refits"] == 0
    assert figures["stride"] == "3h"
    assert figures["start"] == "2020-02-01 21:00"
    assert figures["test"].keys() >= FIGURES
    table = pl.read_parquet(file)
    assert len(table) == 43 * len(figures["figures"])
    ours = table.filter(pl.col("forecaster") == "network")
    assert (ours["actual"] - ours["q50"]).abs().mean() == pytest.approx(figures["test"]["mae"], rel=1e-5)
    ready = reopen(Run(run))
    origins = np.arange(ready.split.validation_ends[0], 900 - 6, 3)
    assert ours["actual"].to_list() == pytest.approx(truth(ready.panel, ready.horizon, origins)[:, 0].tolist())


def test_a_backtest_of_every_origin_of_the_test_part_agrees_with_the_evaluation(run: str) -> None:
    figures = object_of("backtest", run, "--start", "85")
    evaluation = SeriesRun(run).evaluation
    # Origins begin with the start here, and a horizon before it there.
    assert figures["origins"] == evaluation["test"]["count"] - 6
    assert figures["test"]["mae"] == pytest.approx(evaluation["test"]["mae"], rel=0.1)


def test_a_backtest_says_when_it_flatters_the_network(run: str, tmp_path: Path) -> None:
    picture = tmp_path / "errors.svg"
    output, errors = said_by("backtest", run, "--start", "2020-01-20", "--stride", "12h", "--picture", str(picture))
    assert "which flatters it" in errors
    assert "--start 2020-02-01T21:00" in errors
    assert "from 2020-01-20 00:00 on, one every 12h" in output
    assert picture.read_bytes().startswith(b"<?xml")


def test_a_backtest_with_refit_trains_everything_anew(home: Path, run: str, tmp_path: Path) -> None:
    before = (home / "run" / "best.safetensors").read_bytes()
    arguments = ["--start", "95%", "--stride", "12h", "--refit-every", "4", "--output", str(tmp_path / "all.csv")]
    output, _ = said_by("backtest", run, *arguments)
    assert "4 forecasts from 2020-02-05 15:00 on, one every 12h\nevery forecaster was trained anew once\n" in output
    assert (home / "run" / "best.safetensors").read_bytes() == before
    every = pl.read_csv(tmp_path / "all.csv").filter(pl.col("forecaster") == "network")
    said_by("backtest", run, *arguments[:4], "--output", str(tmp_path / "same.csv"))
    same = pl.read_csv(tmp_path / "same.csv").filter(pl.col("forecaster") == "network")
    assert every["time"].to_list() == same["time"].to_list()
    assert (every["q50"] - same["q50"]).abs().min() > 0, (
        "the network that has learned from more rows says something else"
    )


def test_the_report_of_a_series_run(run: str, tmp_path: Path) -> None:
    output, _ = said_by("report", run, "--output", str(tmp_path / "page.html"))
    assert output.strip() == str(tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "ridge on lags" in page
    assert "<svg" in page


def test_describing_a_table(home: Path, tmp_path: Path) -> None:
    figures = object_of("describe", str(home / "station.csv"))
    assert (figures["rows"], figures["step"]) == (900, "1h")
    rows = [f"2020-01-01 {hour:02}:00;{hour},5;x" for hour in range(24)]
    (tmp_path / "short.csv").write_text("\n".join(["when;y;note", *rows]) + "\n")
    reading = ["--target", "y", "--time-column", "when", "--decimal", "comma", "--output", str(tmp_path / "a.png")]
    output, _ = said_by("describe", str(tmp_path / "short.csv"), *reading)
    assert "24 rows, one every 1h" in " ".join(output.split())
    assert "23.5" in output
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"
    assert object_of("describe", "weather")["rows"] == 43_824


def test_many_series_in_the_long_format(tmp_path: Path) -> None:
    frame = generate_weather(start="2020-01-01 00:00", rows=300, seed=1)
    times = frame["Date Time"].dt.to_string("%Y-%m-%d %H:%M:%S")
    parts = [
        pl.DataFrame({"unique_id": [name] * 300, "ds": times, "y": frame[TARGET] + k}) for k, name in enumerate("ab")
    ]
    pl.concat(parts).write_csv(tmp_path / "long.csv")
    arguments = [
        "train",
        "series",
        str(tmp_path / "long.csv"),
        "--run",
        str(tmp_path / "run"),
        "--steps",
        "3",
        "--path",
    ]
    figures = object_of(
        *arguments, "--horizon", "3h", "--lookback", "12h", "--hidden", "4", "--quiet", "--no-baselines"
    )
    assert figures["target"] == "y"
    rows = object_of("forecast", str(tmp_path / "run"))["forecasts"]
    assert [row["unique_id"] for row in rows] == ["a"] * 3 + ["b"] * 3
    assert rows[0]["time"] < rows[1]["time"] < rows[2]["time"]
    output, _ = said_by("forecast", str(tmp_path / "run"))
    assert "a y, forecast of 13 January 2020, 11:00" in output
    assert "b y, forecast of 13 January 2020, 11:00" in output
    said_by("backtest", str(tmp_path / "run"), "--stride", "6h", "--output", str(tmp_path / "all.csv"))
    assert set(pl.read_csv(tmp_path / "all.csv")["unique_id"]) == {"a", "b"}


def test_help_names_the_presets_and_the_tables_that_there_are(capsys: Any) -> None:
    with pytest.raises(SystemExit):
        main(["train", "series", "--help"])
    output = " ".join(capsys.readouterr().out.split())
    assert f"settings by name: {', '.join(PRESETS)}" in output
    assert f"a table by name: {', '.join(table_names())}" in output
    assert "--horizon" in output
    assert "--sample-length" not in output
    with pytest.raises(SystemExit):
        main(["train", "text", "--help"])
    assert "--horizon" not in capsys.readouterr().out

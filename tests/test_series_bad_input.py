"""Every slip with a table gives one line that names file, column or row and a remedy, exit status 2, and leaves nothing behind."""

import contextlib
import io
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from elman.cli import main
from elman.series.reading.files import TableFile
from elman.series.reading.weather import generate_weather, write_weather

TARGET = "T (degC)"
SMALL = ["--target", TARGET, "--horizon", "6h", "--lookback", "24h", "--hidden", "8", "--batch", "4", "--unroll", "16"]
INPUTS = ["--inputs", "p (mbar)", TARGET, "rh (%)"]
FORMAT = "%d.%m.%Y %H:%M:%S"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> Path:
    """A folder with a table and a finished run of it; to be copied, not changed."""
    folder = tmp_path_factory.mktemp("finished")
    write_weather(folder / "station.csv", start="2020-01-01 00:00", rows=900, seed=3)
    arguments = ["train", "series", str(folder / "station.csv"), "--run", str(folder / "run"), "--steps", "30"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", environment["XDG_CACHE_HOME"])  # compiled once, for the tests as well
        assert main([*arguments, *SMALL, *INPUTS, "--quiet", "--no-baselines"]) == 0
    return folder


@pytest.fixture
def home(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that folder as the current one, with bad tables beside."""
    folder = tmp_path / "home"
    shutil.copytree(finished, folder)
    monkeypatch.chdir(folder)
    monkeypatch.delenv("ELMAN_DATA", raising=False)
    frame = generate_weather(start="2020-01-01 00:00", rows=60, seed=3)
    text = pl.col("Date Time").dt.strftime(FORMAT)

    def write(name: str, table: pl.DataFrame) -> None:
        (table.with_columns(text) if table.schema.get("Date Time") == pl.Datetime("us") else table).write_csv(name)

    write("good.csv", frame)
    write("numbers.csv", pl.DataFrame({"a": [0.5, 1.5, 2.5], TARGET: [3.0, 1.0, 2.0]}))
    lines = Path("good.csv").read_text().splitlines(keepends=True)
    Path("times.csv").write_text("".join([*lines[:7], "yesterday" + lines[7][19:], *lines[8:]]))
    write("constant.csv", frame.with_columns(pl.lit(7.0).alias(TARGET)))
    write("text.csv", frame.with_columns(pl.lit("warm").alias(TARGET)))
    write("missing.csv", frame.with_columns(pl.lit(None, pl.Float64).alias(TARGET)))
    wet = pl.when(pl.int_range(60) == 10).then(float("inf")).otherwise("rh (%)")
    write("infinite.csv", frame.with_columns(wet.alias("rh (%)")))
    Path("twice.csv").write_text(lines[0].replace("rh (%)", TARGET) + "".join(lines[1:]))
    write("backwards.csv", frame.reverse())
    Path("empty.csv").touch()
    Path("head.csv").write_text(lines[0])
    Path("folder").mkdir()
    write("lacking.csv", frame.drop("rh (%)"))
    write("renamed.csv", frame.rename({"rh (%)": "rh (pct)"}))
    write("short.csv", frame.head(20))
    write("sparse.csv", frame.gather_every(2))
    write("blind.csv", frame.with_columns(pl.lit(None, pl.Float64).alias(TARGET)))
    Path("words.txt").write_text("red blue green " * 50)
    Path("cut.safetensors").write_bytes(Path("run/best.safetensors").read_bytes()[:-20])
    return folder


def train(table: str, *more: str) -> list[str]:
    return ["train", "series", table, "--steps", "2", *SMALL, "--quiet", *more]


def forecast(table: str, *more: str) -> list[str]:
    return ["forecast", "run", "--data", table, *more]


# Name: arguments, what the line must contain (file, place, value, remedy).
CASES: dict[str, tuple[list[str], list[str]]] = {
    # Tables to train on.
    "no such file": (train("statin.csv"), ["statin.csv", "did you mean 'station.csv'"]),
    "no such name": (train("jena-2021"), ["jena-2021"]),
    "no time column": (train("numbers.csv"), ["numbers.csv", "--time-column"]),
    "time column that is not there": (train("good.csv", "--time-column", "Date"), ["good.csv", "'Date'"]),
    "unparseable time": (train("times.csv"), ["line 8 of times.csv", "'yesterday'", "'Date Time'"]),
    "target missing": (train("good.csv", "--target", "T (degF)"), ["good.csv", "T (degF)", "did you mean 'T (degC)'"]),
    "target constant": (train("constant.csv"), ["constant.csv", TARGET, "7 in every row"]),
    "target text": (train("text.csv"), ["text.csv", TARGET, "text"]),
    "target without values": (train("missing.csv"), ["missing.csv", TARGET, "60 rows"]),
    "horizon longer than the data": (train("good.csv", "--horizon", "5d"), ["good.csv", "120 rows", "60 rows"]),
    "fewer rows than a lookback": (train("good.csv", "--lookback", "50h"), ["good.csv", "50", "--lookback"]),
    "infinite value": (train("infinite.csv"), ["line 12 of infinite.csv", "'rh (%)'", "infinite"]),
    "a column twice": (train("twice.csv"), ["twice.csv", TARGET]),
    "backwards and refused": (train("backwards.csv", "--refuse", "order"), ["backwards.csv", "line"]),
    "empty file": (train("empty.csv"), ["empty.csv", "empty"]),
    "no rows": (train("head.csv"), ["head.csv", "no rows"]),
    "empty folder": (train("folder"), ["folder"]),
    "pattern without matches": (train("*.parquet"), ["*.parquet"]),
    "query without a database": (train("good.csv", "--query", "select 1"), ["query", "sqlite:///"]),
    # Settings.
    "no duration": (train("good.csv", "--horizon", "soon"), ["horizon", "'soon'", "24h"]),
    "no whole rows": (train("good.csv", "--horizon", "90min"), ["horizon", "90min", "multiple of 1h"]),
    "split": (train("good.csv", "--split", "70/40"), ["70/40", "70/15/15"]),
    "level": (train("good.csv", "--levels", "0.5", "2"), ["levels", "2", "0.999"]),
    "time zone": (train("good.csv", "--time-zone", "Europe/Berln"), ["Europe/Berln"]),
    "unknown preset": (train("good.csv", "--preset", "jen"), ["'jen'", "did you mean 'jena'"]),
    "a flag of text": (train("good.csv", "--unit", "byte"), ["--unit"]),
    "a flag of series": (["train", "text", "words.txt", "--horizon", "3"], ["--horizon"]),
    "data folder": (train("jena", "--data-dir", "none"), ["none", "create it"]),
    # Rows to forecast from.
    "column missing": (forecast("lacking.csv"), ["lacking.csv", "'rh (%)'"]),
    "column renamed": (forecast("renamed.csv"), ["renamed.csv", "'rh (%)'", "'rh (pct)'"]),
    "too few rows": (forecast("short.csv"), ["short.csv", "20 rows", "24"]),
    "another step": (forecast("sparse.csv"), ["sparse.csv", "2h apart", "1h"]),
    "no past of the target": (forecast("blind.csv"), ["blind.csv", TARGET]),
    "no rows to forecast from": (forecast("head.csv"), ["head.csv", "no rows"]),
    "a setting of the writing without a table": (["forecast", "run", "--decimal", "comma"], ["--decimal", "--data"]),
    # Files to write.
    "unknown ending": (["forecast", "run", "--output", "out.xls"], ["out.xls", ".csv, .tsv, .parquet"]),
    "unknown picture": (["forecast", "run", "--picture", "out.bmp"], ["out.bmp", ".png, .svg, .html"]),
    "output is a folder": (["forecast", "run", "--output", "folder"], ["folder is a folder", "name a file"]),
    "output in no folder": (["forecast", "run", "--output", "no/out.csv"], ["no/out.csv", "no folder no"]),
    "a picture of columns": (["describe", "good.csv", "--output", "out.txt"], ["out.txt", ".png or .svg"]),
    # Models.
    "no run": (["forecast", "rum"], ["rum", "did you mean 'run'"]),
    "a bundle without rows": (["forecast", "run/best.safetensors"], ["bundle", "--data"]),
    "a damaged bundle": (["forecast", "cut.safetensors", "--data", "good.csv"], ["cut.safetensors", "restore it"]),
    "sampling a forecaster": (["sample", "run"], ["elman forecast run"]),
    "samples of a forecaster": (["samples", "run"], ["elman forecast run"]),
    "a run that exists": (train("good.csv", "--run", "run", "--lookback", "12h"), ["run already holds a run"]),
    # Scores.
    "two tables": (["evaluate", "run", "good.csv", "station.csv"], ["one table, not 2"]),
    "a bundle on nothing": (["evaluate", "run/best.safetensors"], ["bundle", "INPUT"]),
    "too few rows to score": (["evaluate", "run", "short.csv"], ["short.csv", "20 rows"]),
    "stride 0": (["backtest", "run", "--stride", "0"], ["stride", "at least 1"]),
    "stride of no rows": (["backtest", "run", "--stride", "30min"], ["stride", "30min"]),
    "start too high": (["backtest", "run", "--start", "100"], ["--start 100", "percentage"]),
    "start is no date": (["backtest", "run", "--start", "January"], ["--start January", "2016-01-31"]),
    "start outside": (["backtest", "run", "--start", "2021-01-01"], ["--start 2021-01-01", "2020-02-07 11:00"]),
    "start at the end": (["backtest", "run", "--start", "2020-02-07T10:00"], ["no origin is possible"]),
    "refit at every 0": (["backtest", "run", "--refit-every", "0"], ["refit_every = 0", "at least 1"]),
    "refit on too few rows": (
        ["backtest", "run", "--start", "3", "--refit-every", "9"],
        ["first refit", "23 rows", "--start"],
    ),
}


@pytest.mark.parametrize(("arguments", "parts"), [pytest.param(*case, id=name) for name, case in CASES.items()])
def test_a_slip_gives_one_line_with_value_and_remedy_and_leaves_everything_as_it_was(
    arguments: list[str], parts: list[str], home: Path, capsys: Any
) -> None:
    before = contents(home)
    assert_refused(arguments, parts, capsys)
    assert contents(home) == before


def test_a_file_that_changes_while_it_is_read(home: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    check = TableFile.check_unchanged

    def change_and_check(file: TableFile) -> None:
        file.path.write_bytes(file.path.read_bytes() + b"x")
        check(file)

    monkeypatch.setattr(TableFile, "check_unchanged", change_and_check)
    assert_refused(train("good.csv"), ["good.csv", "changed while"], capsys)
    assert not (home / "runs").exists()


def test_a_table_that_has_changed_since_the_run_began(home: Path, capsys: Any) -> None:
    config = (home / "run" / "config.toml").read_text()
    own = next(line for line in config.splitlines() if line.startswith("input ="))
    (home / "run" / "config.toml").write_text(config.replace(own, 'input = "good.csv"'))
    for command in ("forecast", "evaluate", "backtest"):
        assert_refused([command, "run"], ["run", "has changed since the run began"], capsys)


def test_another_unit_and_rows_out_of_order_are_warned_of(home: Path, capsys: Any) -> None:
    frame = generate_weather(start="2020-02-07 12:00", rows=60, seed=3).with_columns(pl.col(TARGET) * 1.8 + 320)
    frame.write_csv("kelvin.csv", datetime_format=FORMAT)
    assert main(["forecast", "run", "--data", "kelvin.csv", "--json"]) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("elman: T (degC) is between")
    assert "another unit?" in line
    assert main(["forecast", "run", "--data", "backwards.csv", "--json"]) == 0
    assert "order" in capsys.readouterr().err


def test_what_is_odd_about_a_table_is_said_and_repaired(home: Path) -> None:
    frame = generate_weather(start="2020-01-01 00:00", rows=60, seed=3)
    odd = frame.with_columns(pl.lit(None, pl.Float64).alias("rh (%)")).reverse()
    odd.write_csv("odd.csv", datetime_format=FORMAT)
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        assert main(["describe", "odd.csv"]) == 0
    words = " ".join(output.getvalue().split())
    assert "rh (%)" in words
    assert "no value" in words
    assert "order" in words


def assert_refused(arguments: list[str], parts: list[str], capsys: Any) -> None:
    """`elman …` fails as a user's slip does."""
    capsys.readouterr()
    try:
        status = main(arguments)
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert status == 2, captured.err
    (line,) = captured.err.splitlines()
    assert line.startswith("elman")
    assert ": error: " in line
    for part in parts:
        assert part in line


def contents(folder: Path) -> dict[str, bytes | None]:
    """What every file in a folder holds, and None for every folder."""
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}

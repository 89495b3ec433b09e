"""A table that is prepared part by part is the table that is read at once, bit for bit, whatever stops the preparing."""

import dataclasses
import datetime
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import polars as pl
import pytest

from elman.config import Config, SeriesSettings
from elman.errors import ConfigError, DataError
from elman.series.answers import last_measured
from elman.series.durations import Duration
from elman.series.mapped import building
from elman.series.mapped.choosing import LargeTable, large_table, memory
from elman.series.mapped.panel import MappedPanel
from elman.series.panel import Panel, Split
from elman.series.run import SeriesRun
from elman.series.side_by_side import SideBySide
from elman.series.trainer import Prepared, prepare, reopen, train_series
from elman.training.runs import Run

SETTINGS: dict[str, Any] = {"target": "y", "static": ("region", "size"), "horizon": "3h", "lookback": "6"}
FORCED = "60kB"
"""Less memory than the table takes, and room for about a series in each part."""


def long_table() -> pl.DataFrame:
    """Nine series, each with something wrong: gaps, rows twice and out of order, -9999, what is never or late measured."""
    random = np.random.default_rng(7)
    pieces = []
    for number in range(9):
        rows = 90 + 25 * number
        begins = 300 if number == 8 else number  # behind the training part of all others
        times = [datetime.datetime(2020, 1, 1) + datetime.timedelta(hours=hour + begins) for hour in range(rows)]
        y = 10 * number + np.cumsum(random.normal(size=rows))
        x = random.normal(size=rows)
        y[random.integers(0, rows, 5)] = np.nan
        x[: 20 * number] = np.nan
        if number == 4:
            x[:] = np.nan
        if number == 5:
            y[[30, 31, 70]] = -9999
        columns = {"unique_id": [f"s{number}"] * rows, "ds": times, "y": y, "x": x}
        columns["wind (deg)"] = random.uniform(0, 360, rows)
        columns |= {"region": ["north" if number % 3 else "south"] * rows, "size": [float(number)] * rows}
        frame = pl.DataFrame(columns)
        kept = np.delete(np.arange(rows), np.arange(40, 40 + 3 * number))
        kept = np.concatenate([kept, kept[:2]]) if number == 6 else kept
        kept = kept[::-1] if number == 7 else kept
        pieces.append(frame[kept])
    whole = pl.concat(pieces)
    # Neighbors in a file are rows of any series; those of each series keep their order.
    lanes = random.permutation(np.repeat(np.arange(9), [len(piece) for piece in pieces]))
    starts = np.cumsum([0, *(len(piece) for piece in pieces)])
    order = np.empty(len(whole), int)
    for number in range(9):
        order[lanes == number] = np.arange(starts[number], starts[number + 1])
    return whole[order]


def written(folder: Path, frame: pl.DataFrame) -> Path:
    """The rows in five files, one of them without any."""
    folder.mkdir()
    for number, (start, end) in enumerate([(0, 400), (400, 400), (400, 401), (401, 900), (900, len(frame))]):
        frame[start:end].write_parquet(folder / f"part-{number}.parquet", row_group_size=97)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of files."""
    return written(tmp_path / "table", long_table())


def prepared(folder: Path, monkeypatch: pytest.MonkeyPatch, *, mapped: bool, **settings: Any) -> Prepared:
    with monkeypatch.context() as changed:
        if mapped:
            changed.setenv("ELMAN_MEMORY", FORCED)
        ready = prepare(str(folder), Config().replace(**{**SETTINGS, **settings}))
    assert isinstance(ready.panel, MappedPanel) == mapped
    return ready


def same(one: Panel, other: Panel) -> None:
    """Every bit of two panels."""
    assert (one.columns, one.names, one.step, one.time_zone) == (
        other.columns,
        other.names,
        other.step,
        other.time_zone,
    )
    assert one.static_columns == other.static_columns
    for name in ("values", "times", "offsets", "static"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
        assert getattr(one, name).dtype == getattr(other, name).dtype


def test_parts_make_the_panel_that_is_read_at_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = prepared(folder, monkeypatch, mapped=False)
    parts = prepared(folder, monkeypatch, mapped=True)
    same(whole.panel, parts.panel)
    assert (whole.digest, whole.config, whole.sentinels) == (parts.digest, parts.config, parts.sentinels)
    for name in ("training_ends", "validation_ends"):
        np.testing.assert_array_equal(getattr(whole.split, name), getattr(parts.split, name))
    assert whole.encoding.to_dict() == parts.encoding.to_dict()
    for name, array in whole.encoding.arrays().items():
        np.testing.assert_array_equal(array, parts.encoding.arrays()[name])
    again = prepared(folder, monkeypatch, mapped=True)
    same(parts.panel, again.panel)
    assert again.report == parts.report


OTHERWISE: dict[str, tuple[list[pl.Expr], dict[str, Any]]] = {
    "clocks in text": ([pl.col("ds").dt.strftime("%d.%m.%Y %H:%M")], {"time_zone": "Europe/Berlin"}),
    "whole numbers": (
        [
            pl.col("ds").dt.epoch("s"),
            pl.col("unique_id").str.slice(1).cast(pl.Int32),
            pl.int_range(pl.len()).mod(7).alias("weekday"),
        ],
        {"known": ("weekday",), "inputs": ("x",)},
    ),
}


@pytest.mark.parametrize("way", OTHERWISE)
def test_tables_that_are_written_otherwise(way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    columns, settings = OTHERWISE[way]
    folder = written(tmp_path / "table", long_table().with_columns(columns))
    whole, parts = (prepared(folder, monkeypatch, mapped=mapped, **settings) for mapped in (False, True))
    same(whole.panel, parts.panel)
    assert (whole.time_column, whole.time_format) == (parts.time_column, parts.time_format)


def test_the_report_counts_what_is_in_all_parts(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = prepared(folder, monkeypatch, mapped=False).report
    parts = prepared(folder, monkeypatch, mapped=True).report
    for name in ("rows", "series", "first", "last", "step", "grid_rows", "missing_rows", "time_format"):
        assert getattr(whole, name) == getattr(parts, name)
    for facts, other in zip(whole.columns, parts.columns, strict=True):
        exact = ("name", "kind", "missing", "used", "smallest", "largest", "sentinels", "low", "high")
        assert [getattr(facts, name) for name in exact] == [getattr(other, name) for name in exact]
        if facts.numeric:
            assert other.mean == pytest.approx(facts.mean, rel=1e-9)
            assert other.deviation == pytest.approx(facts.deviation, rel=1e-6)
    counts = {(finding.kind, finding.column): finding.count for finding in whole.findings}
    told = {(finding.kind, finding.column): finding.count for finding in parts.findings}
    assert {key: told.get(key) for key in counts} == counts
    assert "parts" in {kind for kind, _ in told}
    assert parts.coverage != ()


def test_rows_in_the_networks_numbers_are_the_same_bits(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = prepared(folder, monkeypatch, mapped=False)
    parts = prepared(folder, monkeypatch, mapped=True)
    rows, mapped = whole.encoding.rows(whole.panel), parts.encoding.rows(parts.panel)
    for name in ("values", "ages", "phases", "targets", "series"):
        np.testing.assert_array_equal(getattr(rows, name), getattr(mapped, name)[:], err_msg=name)
    index = np.random.default_rng(0).integers(0, whole.panel.row_count, (3, 5, 2))
    for one, other in zip(whole.encoding.steps(rows, index), parts.encoding.steps(mapped, index), strict=True):
        np.testing.assert_array_equal(one, other)
    for one, other in zip(rows.memory, mapped.memory, strict=True):
        np.testing.assert_array_equal(one, other)


def test_what_was_measured_long_ago_or_never(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long_ago = np.full((700, 2), np.nan, np.float32)
    long_ago[5, 0] = 3.0
    times = [datetime.datetime(2021, 1, 1) + datetime.timedelta(hours=hour) for hour in range(700)]
    frame = pl.DataFrame({"unique_id": ["a"] * 700 + ["b"] * 700, "ds": times * 2})
    other = np.linspace(0, 1, 700, dtype=np.float32)
    frame = frame.with_columns(y=pl.Series(np.tile(other, 2)), x=pl.Series(np.concatenate([long_ago[:, 0], other])))
    shutil.rmtree(folder)
    written(folder, frame)
    settings = {"static": ()}
    whole = prepared(folder, monkeypatch, mapped=False, **settings)
    parts = prepared(folder, monkeypatch, mapped=True, **settings)
    expected, mapped = whole.encoding.rows(whole.panel), parts.encoding.rows(parts.panel)
    np.testing.assert_array_equal(expected.values, mapped.values[:])
    np.testing.assert_array_equal(expected.ages, mapped.ages[:])


def test_training_and_scores_are_the_same(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    short = {"hidden": 4, "steps": 20, "batch": 4, "unroll": 8, "validate_every": 10}
    runs: list[SeriesRun] = []
    for name, memory_there in (("whole", "1GB"), ("parts", FORCED)):
        monkeypatch.setenv("ELMAN_MEMORY", memory_there)
        runs.append(train_series(str(folder), run=tmp_path / name, **SETTINGS, **short))
    whole, parts = runs
    assert whole.losses == parts.losses
    assert whole.validations == parts.validations
    assert _near(whole.evaluation["test"], parts.evaluation["test"])
    assert whole.evaluation["test"]["baselines"].keys() >= {"persistence", "ridge on lags"}
    assert whole.verdict == parts.verdict
    ready = reopen(Run(parts.path))
    assert isinstance(ready.panel, MappedPanel)
    assert "s8" not in ready.encoding.names
    monkeypatch.delenv("ELMAN_MEMORY")
    there = reopen(Run(whole.path))
    assert there.digest == ready.digest
    model = parts.model()
    origins = last_measured(there.panel, ())
    np.testing.assert_array_equal(last_measured(ready.panel, ()), origins)
    for forecaster in (model, SideBySide(model)):
        said = [forecaster.forecast(panel, origins) for panel in (there.panel, ready.panel)]
        np.testing.assert_array_equal(*said)


def _near(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_near(one[key], other[key]) for key in one)
    return bool(one == other if not isinstance(one, float) else one == pytest.approx(other, rel=1e-6))


KILLED = """
import os, signal, sys, threading
from elman.config import Config
from elman.series.mapped import building
from elman.series.mapped.choosing import large_table
from elman.training.journal import Journal

add, done, alone = Journal.add, [], threading.Lock()

def counted(self, key, result):
    with alone:
        add(self, key, result)
        done.append(key)
        print(key, flush=True)
        if len(done) == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)

Journal.add = counted
settings = Config().replace(target="y", static=("region", "size"), horizon="3h", lookback="6").series
building.prepare_mapped(large_table(sys.argv[1], settings), settings, lambda stage, share: None)
"""


def test_a_kill_costs_nothing_that_was_finished(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys: list[str] = []
    for steps in (3, 9, 14, 1000):
        child = [sys.executable, "-c", KILLED, str(folder), str(steps)]
        environment = {**os.environ, "ELMAN_MEMORY": FORCED}
        ended = subprocess.run(child, env=environment, capture_output=True, text=True, timeout=120)
        assert ended.returncode == (0 if steps == 1000 else -signal.SIGKILL), ended.stderr
        keys += ended.stdout.splitlines()
    again = [key for key in keys if keys.count(key) > 1 and key != "begun"]
    assert not again
    assert len([key for key in keys if key.startswith("laid")]) == 9
    same(prepared(folder, monkeypatch, mapped=False).panel, prepared(folder, monkeypatch, mapped=True).panel)


def test_a_file_that_changed_is_prepared_anew(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = prepared(folder, monkeypatch, mapped=True)
    last = folder / "part-4.parquet"
    pl.read_parquet(last).with_columns(pl.col("y") + 1).write_parquet(last)
    after = prepared(folder, monkeypatch, mapped=True)
    assert after.digest != before.digest
    assert isinstance(before.panel, MappedPanel)
    assert not before.panel.folder.exists()
    same(prepared(folder, monkeypatch, mapped=False).panel, after.panel)


def test_a_full_disk_is_said_before_anything_is_written(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage, series = shutil.disk_usage(folder), Config().replace(**SETTINGS).series
    monkeypatch.setenv("ELMAN_MEMORY", FORCED)
    monkeypatch.setattr(building.shutil, "disk_usage", lambda place: usage._replace(free=1000))
    with pytest.raises(DataError, match=r"takes 0\.\d+ GB in .*, where 1e-06 GB are free: make room there"):
        building.prepare_mapped(large(folder, series), series, lambda stage, share: None)


def test_preparing_waits_for_another_and_ends_with_the_process_that_asked(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ELMAN_MEMORY", FORCED)
    series = Config().replace(**SETTINGS).series
    table = large(folder, series)
    place = building._folder(table, building._with_columns_found(table, series))
    place.mkdir(parents=True)
    order = json.dumps({"source": str(folder), "settings": dataclasses.asdict(series)}) + "\n"
    command = [sys.executable, "-m", "elman.series.mapped.preparing"]
    with (
        filelock.FileLock(place.with_suffix(".lock")),
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(order)
        process.stdin.flush()
        assert "waiting for another process" in process.stdout.readline()
        process.stdin.close()  # as the end of a process does
        assert process.wait(timeout=30) == 1


def large(folder: Path, settings: SeriesSettings) -> LargeTable:
    """The table, which does not fit."""
    found = large_table(str(folder), settings)
    assert found is not None
    return found


def refused(folder: Path, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> str:
    with pytest.raises((DataError, ConfigError)) as error:
        prepared(folder, monkeypatch, mapped=True, **settings)
    message = str(error.value)
    assert "\n" not in message
    return message


def test_what_is_not_possible_is_refused_by_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "method = 'windows'" in refused(folder, monkeypatch, method="windows")
    file = folder / "part-3.parquet"
    rows = pl.read_parquet(file)
    rows.rename({"x": "z"}).write_parquet(file)
    assert "part-3.parquet has other columns than" in refused(folder, monkeypatch)
    rows.with_columns(pl.col("x").cast(pl.String)).write_parquet(file)
    assert "column 'x' of" in (message := refused(folder, monkeypatch))
    assert "part-3.parquet holds String" in message
    rows.with_columns(pl.when(pl.int_range(pl.len()) != 7).then("unique_id").alias("unique_id")).write_parquet(file)
    assert "row 8 of" in (message := refused(folder, monkeypatch))
    assert "names no series in column 'unique_id'" in message
    for part in folder.iterdir():
        pl.read_parquet(part).rename({"unique_id": "station"}).write_parquet(part)
    assert "has no column 'unique_id' to cut it by: name" in refused(folder, monkeypatch)
    rows.rename({"unique_id": "station"}).write_parquet(file)
    ready = prepared(folder, monkeypatch, mapped=True, series_column="station")
    assert ready.panel.series_count == 9
    monkeypatch.setenv("ELMAN_MEMORY", "10kB")
    with pytest.raises(DataError, match=r"the series 's8' of .* alone has 266 rows of 7 columns"):
        prepare(str(folder), Config().replace(**SETTINGS, series_column="station", refuse=("sentinels",)))
    with pytest.raises(DataError, match="larger than memory"):
        ready.panel.until(ready.panel.offsets[:-1] + 3)


def test_how_much_memory_there_is_can_be_said(monkeypatch: pytest.MonkeyPatch) -> None:
    for text, amount in (("1500", 1500), ("2GB", 2 * 10**9), ("0.5 m", 500_000)):
        monkeypatch.setenv("ELMAN_MEMORY", text)
        assert memory() == amount
    for text in ("much", "-3", "0"):
        monkeypatch.setenv("ELMAN_MEMORY", text)
        with pytest.raises(ConfigError, match="is no amount of memory"):
            memory()
    monkeypatch.delenv("ELMAN_MEMORY")
    assert memory() <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def test_a_split_by_counting_is_the_split_by_sorting() -> None:
    random = np.random.default_rng(3)
    times = np.sort(random.integers(-(10**15), 10**15, 5000))
    times[2000:4000] = times[2000]
    values = random.normal(size=(5000, 1)).astype(np.float32)
    values[random.integers(0, 5000, 900)] = np.nan
    panel = Panel(("y",), values, times, np.array([0, 5000]), Duration(1))
    split = Split.of(panel, "60/20/20")
    seen = np.sort(times[~np.isnan(values[:, 0])])
    for ends, share in ((split.training_ends, 0.6), (split.validation_ends, 0.8)):
        assert int(ends[0]) == np.searchsorted(times, seen[round(len(seen) * share)])

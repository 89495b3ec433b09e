"""A saved forecaster over Arrow batches: `Forecaster.predict`'s rows and columns, however the series are cut into batches."""

import importlib.util
import os
import pickle
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from elman.errors import BundleError, ConfigError, DataError
from elman.series import arrow_batches
from elman.series.arrow_batches import BatchForecaster
from elman.series.forecaster import Forecaster
from elman.series.running import MOST_SERIES
from test_recent import frame_of
from test_running import make_panel, usual_model

SERIES = 12
KINDS: dict[str, dict[str, Any]] = {
    "streams": {},
    "every third row": {"every": "3"},
    "windows": {"method": "windows", "every": "3"},
    "a path, members, layers": {"path": True, "members": 2, "layers": 2},
    "a known column": {"known": ("k",)},
    "a point": {"forecast": "mean"},
    "LSTM": {"cell": "lstm"},
}


def saved(folder: Path, series: int = SERIES, **changes: Any) -> Path:
    """A bundle of a model with random weights: what is compared is the way that rows take."""
    path = folder / "model.safetensors"
    usual_model(series, **changes).save(path)
    return path


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("bundle"))


@pytest.fixture(scope="module")
def frame() -> pl.DataFrame:
    """Series of different lengths, with missing values, sorted by series and time."""
    every = frame_of(make_panel(series=SERIES))
    lengths = {f"s{number}": 150 - 7 * number for number in range(SERIES)}
    return every.filter(pl.int_range(pl.len()).over("unique_id") < pl.col("unique_id").replace_strict(lengths))


def batches_of(frame: pl.DataFrame, rows: int) -> list[pa.RecordBatch]:
    return frame.to_arrow().combine_chunks().to_batches(max_chunksize=rows)


def one_batch_each(frame: pl.DataFrame, series: int) -> list[pa.RecordBatch]:
    """`series` whole series in each batch."""
    names = frame["unique_id"].unique(maintain_order=True)
    parts = [
        frame.filter(pl.col("unique_id").is_in(names[a : a + series].implode())) for a in range(0, len(names), series)
    ]
    return [batch for part in parts for batch in batches_of(part, len(part))]


def frame_from(answers: Iterator[pa.RecordBatch], forecaster: BatchForecaster) -> pl.DataFrame:
    return pl.DataFrame(pl.from_arrow(pa.Table.from_batches(list(answers), schema=forecaster.schema)))


def assert_same(found: pl.DataFrame, wanted: pl.DataFrame) -> None:
    """The same rows and columns, and numbers to 1e-6 of their size."""
    assert found.schema == wanted.schema
    keys = [name for name in wanted.columns if not wanted.schema[name].is_float()]
    found, wanted = found.sort(keys), wanted.sort(keys)
    assert found.select(keys).equals(wanted.select(keys))
    for name in set(wanted.columns) - set(keys):
        a, b = (one[name].to_numpy() for one in (found, wanted))
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6 * np.nanmax(np.abs(b), initial=1))


@pytest.mark.parametrize("changes", KINDS.values(), ids=KINDS)
def test_the_forecasts_are_those_of_predict(changes: dict[str, Any], frame: pl.DataFrame, tmp_path: Path) -> None:
    path = saved(tmp_path, **changes)
    if "known" in changes:  # only k is known for the last rows
        future = pl.int_range(pl.len()).over("unique_id") >= pl.len().over("unique_id") - 6
        frame = frame.with_columns(pl.when(~future).then(pl.col(name)).alias(name) for name in ("y", "x"))
        frame = frame.with_columns(k=pl.int_range(pl.len()).over("unique_id") % 5)
    forecaster = BatchForecaster(path)
    wanted = Forecaster.load(path).predict(frame)
    assert wanted["y"].is_not_nan().all()
    assert_same(frame_from(forecaster(one_batch_each(frame, 3)), forecaster), wanted)
    alone = frame.filter(pl.col("unique_id") == "s3")
    found = frame_from(forecaster(batches_of(alone, len(alone))), forecaster)
    assert_same(found, Forecaster.load(path).predict(alone))
    assert_same(found, wanted.filter(pl.col("unique_id") == "s3"))


@pytest.mark.parametrize("at_once", [1, 400, 10**6])
@pytest.mark.parametrize("rows", [1, 77, 1000, 10**6])
def test_it_does_not_matter_how_sorted_rows_are_cut(
    at_once: int, rows: int, frame: pl.DataFrame, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A series may go on in the next batch; and what is gathered before it is forecast changes nothing."""
    monkeypatch.setattr(arrow_batches, "ROWS_AT_ONCE", at_once)
    forecaster = BatchForecaster(bundle)
    assert_same(frame_from(forecaster(batches_of(frame, rows)), forecaster), Forecaster.load(bundle).predict(frame))


def test_more_series_than_one_call_walks(bundle: Path) -> None:
    """300 of them, three calls of predict's kind that walks more than 64; none was there in training but twelve."""
    panel = make_panel(90, series=300, seed=3)  # up to four lookbacks, where predict has no warm-up that could differ
    assert panel.series_count > MOST_SERIES
    forecaster = BatchForecaster(bundle)
    every = frame_of(panel)
    assert_same(frame_from(forecaster(batches_of(every, 5000)), forecaster), Forecaster.load(bundle).predict(every))


def test_rows_in_any_order_within_a_batch(frame: pl.DataFrame, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrow_batches, "ROWS_AT_ONCE", 1)
    forecaster = BatchForecaster(bundle)
    mixed = [
        batch
        for part in one_batch_each(frame, 4)
        for batch in batches_of(pl.DataFrame(pl.from_arrow(part)).sample(fraction=1, shuffle=True, seed=1), 10**6)
    ]
    assert_same(frame_from(forecaster(mixed), forecaster), Forecaster.load(bundle).predict(frame))


def test_missing_values_and_rows(frame: pl.DataFrame, bundle: Path) -> None:
    """A column that a series lacks, holes in time, a series without any measurement, one without its target."""
    hole = (pl.col("unique_id") == "s1") & pl.int_range(pl.len()).over("unique_id").is_between(50, 60)
    frame = frame.filter(~hole).with_columns(
        pl.when(pl.col("unique_id") != "s4").then("x"),
        pl.when(~pl.col("unique_id").is_in(["s5", "s6"])).then("y"),
    )
    frame = frame.with_columns(
        pl.when(pl.col("unique_id") != "s6").then(pl.col(name)).alias(name) for name in ("x", "k")
    )
    forecaster = BatchForecaster(bundle)
    found = frame_from(forecaster(batches_of(frame, 500)), forecaster)
    assert_same(found, Forecaster.load(bundle).predict(frame))
    assert "s6" not in found["unique_id"]
    assert found.filter(pl.col("unique_id") == "s5")["y"].is_nan().all()


def test_unknown_series_are_scaled_by_their_own_rows(frame: pl.DataFrame, bundle: Path) -> None:
    strange = frame.with_columns(("new " + pl.col("unique_id")).alias("unique_id"), (pl.col("y") * 50 + 7).alias("y"))
    forecaster = BatchForecaster(bundle)
    found = frame_from(forecaster(one_batch_each(strange, 5)), forecaster)
    assert_same(found, Forecaster.load(bundle).predict(strange))


def test_tables_and_single_batches_are_given_back_as_such(frame: pl.DataFrame, bundle: Path) -> None:
    forecaster = BatchForecaster(bundle)
    wanted = Forecaster.load(bundle).predict(frame)
    table = forecaster(frame.to_arrow())
    assert isinstance(table, pa.Table)
    assert table.schema == forecaster.schema
    assert_same(pl.DataFrame(pl.from_arrow(table)), wanted)
    [whole] = batches_of(frame, 10**6)
    batch = forecaster(whole)
    assert isinstance(batch, pa.RecordBatch)
    assert batch.equals(table.combine_chunks().to_batches()[0])


def test_texts_as_dictionaries_and_series_as_numbers(frame: pl.DataFrame, bundle: Path) -> None:
    """Types that Parquet files and engines bring."""
    forecaster = BatchForecaster(bundle)
    coded = frame.with_columns(pl.col("unique_id").cast(pl.Categorical))
    assert_same(frame_from(forecaster(batches_of(coded, 200)), forecaster), Forecaster.load(bundle).predict(frame))
    numbered = frame.with_columns(pl.col("unique_id").str.strip_prefix("s").cast(pl.Int32))
    assert_same(
        frame_from(forecaster(batches_of(numbered, 200)), forecaster), Forecaster.load(bundle).predict(numbered)
    )


def test_empty_batches_give_no_rows(frame: pl.DataFrame, bundle: Path) -> None:
    forecaster = BatchForecaster(bundle)
    [empty] = [pa.RecordBatch.from_pylist([], schema=frame.to_arrow().schema)]
    assert list(forecaster([])) == []
    assert list(forecaster([empty])) == []
    assert forecaster(empty).schema == forecaster.schema
    assert forecaster(pa.table({})).num_rows == 0
    parts = [batch for whole in one_batch_each(frame, 5) for batch in (empty, whole, empty)]
    assert_same(frame_from(forecaster(parts), forecaster), Forecaster.load(bundle).predict(frame))


def test_a_model_of_one_series_without_a_name(tmp_path: Path) -> None:
    path = saved(tmp_path, series=1)
    frame = frame_of(make_panel())
    forecaster = BatchForecaster(path)
    assert forecaster.schema.names == ["origin", "time", "y", "q10", "q50", "q90"]
    assert_same(frame_from(forecaster(batches_of(frame, 40)), forecaster), Forecaster.load(path).predict(frame))
    several = frame_of(make_panel(series=3))
    with pytest.raises(DataError, match=r"^batch 1 has several series in 'unique_id'.*series_column='unique_id'"):
        list(forecaster(batches_of(several, 1000)))
    told = BatchForecaster(path, series_column="unique_id")
    assert_same(frame_from(told(batches_of(several, 40)), told), Forecaster.load(path).predict(several))


def test_other_names_of_columns(frame: pl.DataFrame, bundle: Path) -> None:
    renamed = frame.rename({"unique_id": "shop", "time": "when"})
    forecaster = BatchForecaster(bundle, series_column="shop", time_column="when", refuse=["order"])
    found = frame_from(forecaster(batches_of(renamed, 300)), forecaster)
    assert_same(found.rename({"shop": "unique_id"}), Forecaster.load(bundle).predict(frame))
    with pytest.raises(DataError, match="'horizon' was settled in training"):
        BatchForecaster(bundle, horizon="3").schema  # noqa: B018
    with pytest.raises(
        DataError, match=r"^batch 1 has no column 'unique_id' to tell its series apart; its columns are"
    ):
        list(BatchForecaster(bundle)(batches_of(renamed, 300)))


def test_times_with_a_zone(frame: pl.DataFrame, bundle: Path) -> None:
    """Spark's timestamps bring one; a model that was trained without asks for it, for the schema is promised before."""
    zoned = frame.with_columns(pl.col("time").dt.replace_time_zone("UTC"))
    with pytest.raises(DataError, match=r"^batch 1: the times are of the zone UTC.*give time_zone='UTC'"):
        list(BatchForecaster(bundle)(batches_of(zoned, 10**6)))
    forecaster = BatchForecaster(bundle, time_zone="Europe/Berlin")
    assert forecaster.schema.field("time").type == pa.timestamp("us", "Europe/Berlin")
    found = frame_from(forecaster(batches_of(zoned, 500)), forecaster)
    wanted = Forecaster.load(bundle).predict(zoned)
    times = [pl.col(name).dt.convert_time_zone("UTC") for name in ("origin", "time")]
    assert_same(found.with_columns(times), wanted)


def test_the_schema_is_known_before_any_batch(frame: pl.DataFrame, bundle: Path) -> None:
    forecaster = BatchForecaster(bundle)
    assert forecaster.schema == pa.schema(
        [
            ("unique_id", pa.string()),
            ("origin", pa.timestamp("us")),
            ("time", pa.timestamp("us")),
            ("y", pa.float32()),
            *((name, pa.float32()) for name in ("q10", "q50", "q90")),
        ]
    )
    assert all(batch.schema == forecaster.schema for batch in forecaster(batches_of(frame, 100)))


def test_it_pickles_as_its_path_and_loads_when_it_is_asked(
    frame: pl.DataFrame, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrow_batches._load.cache_clear()
    forecaster = BatchForecaster(bundle)
    whole = one_batch_each(frame, SERIES)
    answers = forecaster(whole)
    assert arrow_batches._load.cache_info().currsize == 0
    first = list(answers)
    packed = pickle.dumps(forecaster)
    assert len(packed) < 1000
    copies = [pickle.loads(packed) for _ in range(3)]  # noqa: S301
    for copy in copies:
        assert [batch.equals(other) for batch, other in zip(copy(whole), first, strict=True)] == [True]
    assert arrow_batches._load.cache_info().misses == 1


def test_a_file_that_is_written_again_is_another_model(frame: pl.DataFrame, tmp_path: Path) -> None:
    path = saved(tmp_path)
    assert BatchForecaster(path).schema.names[-1] == "q90"
    saved(tmp_path, levels=(0.2, 0.5, 0.8))
    assert BatchForecaster(path).schema.names[-1] == "q80"


def test_batches_of_any_size_compile_nothing_new(
    frame: pl.DataFrame, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrow_batches, "ROWS_AT_ONCE", 1)
    forecaster = BatchForecaster(bundle)
    for series in (1, 5):  # one program for each width
        list(forecaster(one_batch_each(frame, series)))
    program = forecaster._loaded().side_by_side._program
    compiled = program._cache_size()  # type: ignore[attr-defined]
    for series in (2, 3, 4, 7, 12):
        for shorter in (0, 3, 40):
            part = frame.filter(pl.int_range(pl.len()).over("unique_id") >= shorter)
            list(forecaster(one_batch_each(part, series)))
    assert program._cache_size() == compiled == 2  # type: ignore[attr-defined]


# --- what goes wrong ----------------------------------------------------------------------------------------------------------


def spoiled(frame: pl.DataFrame, series: str, row: int, **cells: Any) -> pl.DataFrame:
    here = (pl.col("unique_id") == series) & (pl.int_range(pl.len()).over("unique_id") == row)
    return frame.with_columns(
        pl.when(here).then(pl.lit(cell)).otherwise(name).alias(name) for name, cell in cells.items()
    )


@pytest.mark.parametrize("series", ["s0", "s7", "s11"])
def test_the_series_and_the_batch_are_named(series: str, frame: pl.DataFrame, bundle: Path) -> None:
    number = 1 + int(series[1:]) // 4
    forecaster = BatchForecaster(bundle)
    bad = spoiled(frame, series, 9, x=float("inf"))
    with pytest.raises(
        DataError, match=rf"^series '{series}' of batch {number}: column 'x' is inf in row 10 of the frame"
    ):
        list(forecaster(one_batch_each(bad, 4)))
    bad = spoiled(frame, series, 9, time=None)
    with pytest.raises(DataError, match=rf"^series '{series}' of batch {number}: the time column 'time' has 1 missing"):
        list(forecaster(one_batch_each(bad, 4)))


def test_a_short_series_among_others_is_not_blamed_for_what_another_has(frame: pl.DataFrame, bundle: Path) -> None:
    """Too short by itself, but not beside longer ones, as in `predict`."""
    short = frame.filter((pl.col("unique_id") != "s2") | (pl.int_range(pl.len()).over("unique_id") < 5))
    forecaster = BatchForecaster(bundle)
    assert_same(frame_from(forecaster(batches_of(short, 200)), forecaster), Forecaster.load(bundle).predict(short))
    with pytest.raises(DataError, match=r"^series 's6' of batch 2: column 'x' is inf"):
        list(forecaster(one_batch_each(spoiled(short, "s6", 3, x=float("inf")), 4)))
    alone = short.filter(pl.col("unique_id") == "s2")
    with pytest.raises(DataError, match=r"^series 's2' of batch 1: the frame has 5 rows .* looks back on 24"):
        list(forecaster(batches_of(alone, 1000)))


def test_a_series_that_comes_again_is_refused(
    frame: pl.DataFrame, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrow_batches, "ROWS_AT_ONCE", 1)
    parts = one_batch_each(frame, 4)
    answers = BatchForecaster(bundle)([*parts, parts[0]])
    with pytest.raises(DataError, match=r"^series 's0' comes again in batch 4, after it was forecast"):
        list(answers)


def test_a_known_column_without_its_future_is_named(frame: pl.DataFrame, tmp_path: Path) -> None:
    forecaster = BatchForecaster(saved(tmp_path, known=("k",)))
    with pytest.raises(
        DataError, match=r"^series 's0' of batch 1: the column 'k' of series 's0' must be known up to 6 rows"
    ):
        list(forecaster(one_batch_each(frame, 3)))


def test_other_things_than_batches(bundle: Path, tmp_path: Path, frame: pl.DataFrame) -> None:
    with pytest.raises(DataError, match=r"^batch 1 is a DataFrame: a RecordBatch or Table of pyarrow is needed"):
        list(BatchForecaster(bundle)([frame]))
    with pytest.raises(BundleError, match=r"nothing\.safetensors"):
        BatchForecaster(tmp_path / "nothing.safetensors").schema  # noqa: B018
    first, second = one_batch_each(frame, 6)
    with pytest.raises(DataError, match=r"^batch 1 to batch 2 do not fit together"):
        list(BatchForecaster(bundle)([first, second.drop_columns(["x"])]))


def test_without_pyarrow_it_is_said_what_to_install(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ConfigError, match=r"pyarrow, which is not installed: pip install 'elman\[arrow\]'"):
        BatchForecaster(bundle)


# --- engines ------------------------------------------------------------------------------------------------------------------

EXAMPLES = Path(__file__).parents[1] / "docs" / "examples"
ENGINES = {
    "ray": pytest.param(
        "ray",
        marks=pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed"),
    ),
    "spark": pytest.param(
        "spark",
        marks=pytest.mark.skipif(
            importlib.util.find_spec("pyspark") is None or shutil.which("java") is None,
            reason="PySpark or Java is not installed",
        ),
    ),
}


@pytest.mark.parametrize("engine", ENGINES.values())
def test_the_example_of_an_engine_gives_what_predict_gives(
    engine: str, bundle: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    """Rows of 100 series, shuffled over three files."""
    rows = frame_of(make_panel(series=100, count=90)).rename({"time": "ds"})
    mixed = rows.sample(fraction=1, shuffle=True, seed=0)
    (tmp_path / "series").mkdir()
    for number in range(3):
        mixed[number * 3000 : (number + 1) * 3000].write_parquet(tmp_path / "series" / f"{number}.parquet")
    source = str(Path(arrow_batches.__file__).parents[2])
    told = {
        "PYTHONPATH": source,
        "PYSPARK_PYTHON": sys.executable,
        "HOME": str(tmp_path),
        "XLA_FLAGS": os.environ["XLA_FLAGS"],
    }
    script = [sys.executable, EXAMPLES / f"{engine}_forecast.py", bundle, tmp_path / "series", tmp_path / "forecasts"]
    subprocess.run(list(map(str, script)), env={**environment, **told}, cwd=tmp_path, check=True, timeout=240)
    found = pl.read_parquet(tmp_path / "forecasts" / "*.parquet")
    assert len(list((tmp_path / "forecasts").glob("*.parquet"))) > 1
    assert_same(found, Forecaster.load(bundle).predict(rows))


@pytest.mark.parametrize("engine", ENGINES)
def test_what_the_document_shows_of_an_example_stands_in_it(engine: str) -> None:
    document = (EXAMPLES.parent / "scaling.md").read_text(encoding="utf-8")
    blocks = re.findall(
        r"```python\n(.*?)```", document.split("## Many series on an engine you have", 1)[1], flags=re.DOTALL
    )
    [block] = [block for block in blocks if f"import {engine}" in block or f"py{engine}" in block]
    script = (EXAMPLES / f"{engine}_forecast.py").read_text(encoding="utf-8")
    known = {line.strip() for line in script.splitlines()}
    written = [line.split("  #")[0].strip() for line in block.splitlines() if line.strip()]
    for name, value in (("bundle", '"sales.safetensors"'), ("series", '"series/"'), ("forecasts", '"forecasts/"')):
        written = [line.replace(value, f"parsed.{name}") for line in written]
    shown = {"parsed.blocks": "8", "parsed.parts": "8", "parsed.column": '"unique_id"', "parsed.time": '"ds"'}
    for name, value in shown.items():
        known |= {line.replace(name, value) for line in known}
    assert len(written) >= 6
    assert not [line for line in written if line not in known]


def test_the_document_shows_a_folder_of_files_without_an_engine(
    frame: pl.DataFrame, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = (EXAMPLES.parent / "scaling.md").read_text(encoding="utf-8")
    blocks = re.findall(
        r"```python\n(.*?)```", document.split("## Many series on an engine you have", 1)[1], flags=re.DOTALL
    )
    monkeypatch.chdir(tmp_path)
    shutil.copy(bundle, "sales.safetensors")
    (tmp_path / "series").mkdir()
    frame.write_parquet("series/all.parquet")
    exec(compile(blocks[0], "scaling.md", "exec"), {})
    assert_same(pl.read_parquet("forecasts.parquet"), Forecaster.load(bundle).predict(frame))

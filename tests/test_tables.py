"""Tables are read as they are meant, whatever holds them; what is wrong in them is one sentence with a place and a remedy."""

import gzip
import io
import os
import random
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from elman.config import SeriesSettings
from elman.errors import DataError, ElmanError
from elman.series.reading import files, tables
from elman.series.reading.table import Table
from elman.series.reading.tables import read_table

FRAME = pl.DataFrame(
    {
        "time": [datetime(2020, 1, 30) + timedelta(hours=6 * row) for row in range(20)],
        "warm": [row / 8 for row in range(20)],
        "wind": [float(-row) for row in range(20)],
    }
)


def read(source: Any, **options: Any) -> Table:
    return read_table(source, SeriesSettings(**options))


def written(tmp_path: Path, text: str | bytes, name: str = "table.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def columns(table: Table) -> dict[str, list[Any]]:
    return table.frame.to_dict(as_series=False)


def csv_of(frame: pl.DataFrame, **options: Any) -> bytes:
    target = io.BytesIO()
    frame.write_csv(target, datetime_format="%Y-%m-%d %H:%M:%S", **options)
    return target.getvalue()


def packed_ipc(frame: pl.DataFrame) -> bytes:
    target = io.BytesIO()
    frame.write_ipc(target)
    return target.getvalue()


def packed_parquet(frame: pl.DataFrame) -> bytes:
    target = io.BytesIO()
    frame.write_parquet(target)
    return target.getvalue()


FILES: dict[str, Callable[[], bytes]] = {
    "a.csv": lambda: csv_of(FRAME),
    "a.tsv": lambda: csv_of(FRAME, separator="\t"),
    "semicolons.csv": lambda: csv_of(FRAME, separator=";"),
    "bars.txt": lambda: csv_of(FRAME, separator="|"),
    "quoted.csv": lambda: csv_of(FRAME, quote_style="always"),
    "windows.csv": lambda: csv_of(FRAME, line_terminator="\r\n"),
    "old_mac.csv": lambda: csv_of(FRAME, line_terminator="\r"),
    "mark.csv": lambda: b"\xef\xbb\xbf" + csv_of(FRAME),
    "wide.csv": lambda: csv_of(FRAME).decode().encode("utf-16"),
    "blank_end.csv": lambda: csv_of(FRAME) + b"\n\n",
    "no_last_line_end.csv": lambda: csv_of(FRAME).rstrip(),
    "a.csv.gz": lambda: gzip.compress(csv_of(FRAME)),
    "a.tsv.gz": lambda: gzip.compress(csv_of(FRAME, separator="\t")),
    "a.csv.zst": lambda: zstandard.compress(csv_of(FRAME)),
    "a.parquet": lambda: packed_parquet(FRAME),
    "a.parquet.gz": lambda: gzip.compress(packed_parquet(FRAME)),
    "a.arrow": lambda: packed_ipc(FRAME),
    "a.feather": lambda: packed_ipc(FRAME),
    "parquet_by_another_name.csv": lambda: packed_parquet(FRAME),
}


@pytest.mark.parametrize("name", FILES)
def test_every_kind_of_file_gives_the_same_rows(tmp_path: Path, name: str) -> None:
    table = read(written(tmp_path, FILES[name](), name), target="warm")
    assert columns(table) == FRAME.to_dict(as_series=False)
    assert (table.time_column, table.series_column, table.time_zone) == ("time", None, None)
    text = not name.endswith((".parquet", ".parquet.gz", ".arrow", ".feather")) and "parquet" not in name
    assert table.place(3) == (f"line 5 of {tmp_path / name}" if text else f"row 4 of {tmp_path / name}")


@pytest.mark.parametrize("kind", [FRAME, FRAME.lazy(), FRAME.with_columns(pl.col("warm").cast(pl.Decimal(8, 3)))])
def test_frames_of_polars(kind: Any) -> None:
    table = read(kind)
    assert columns(table) == FRAME.to_dict(as_series=False)
    assert table.place(0) == "row 1 of the frame"
    assert table.time_format == "timestamps"


def pandas_frames() -> dict[str, pd.DataFrame]:
    plain = pd.DataFrame({name: FRAME[name].to_numpy() for name in FRAME.columns})
    return {
        "column": plain,
        "index": plain.set_index("time"),
        "unnamed index": plain.set_index("time").rename_axis(None),
        "nanoseconds": plain.astype({"time": "datetime64[ns]"}),
        "text": plain.assign(time=plain["time"].dt.strftime("%Y-%m-%dT%H:%M")),
        "objects": plain.assign(time=plain["time"].dt.strftime("%d.%m.%Y %H:%M").astype(object)),
        "nullable": plain.astype({"warm": "Float64"}),
        "python": plain.assign(time=pd.Series(list(FRAME["time"]), dtype=object)),
    }


@pytest.mark.parametrize("arrow", [True, False], ids=["with pyarrow", "without pyarrow"])
@pytest.mark.parametrize("name", pandas_frames())
def test_frames_of_pandas(name: str, arrow: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = pandas_frames()[name]
    if not arrow:
        monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert columns(read(frame)) == FRAME.to_dict(as_series=False)


def test_pandas_times_of_a_zone_and_missing_values() -> None:
    times = pd.date_range("2020-10-25", periods=5, freq="h", tz="Europe/Berlin")
    frame = pd.DataFrame(
        {"y": pd.array([1, None, 3, 4, 5], dtype="Int64"), "on": [True, False] * 2 + [True]}, index=times
    )
    table = read(frame)
    assert table.time_zone == "Europe/Berlin"
    assert table.frame["time"].to_list() == [moment.tz_convert("UTC").tz_localize(None) for moment in times]
    assert table.frame["on"].to_list() == [1, 0, 1, 0, 1]
    assert [index for index, value in enumerate(table.frame["y"].to_list()) if value is None or np.isnan(value)] == [1]


def test_files_need_neither_pandas_nor_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("pandas", "pyarrow"):
        monkeypatch.setitem(sys.modules, module, None)
    for name in ("a.csv", "a.parquet", "a.arrow"):
        assert columns(read(written(tmp_path, FILES[name](), name))) == FRAME.to_dict(as_series=False)


def test_a_folder_or_a_pattern_is_one_table(tmp_path: Path) -> None:
    written(tmp_path, csv_of(FRAME[8:]), "b.csv")
    written(tmp_path, gzip.compress(csv_of(FRAME[:8].select("wind", "time", "warm"))), "a.csv.gz")
    written(tmp_path, "hidden", ".c.csv")
    written(tmp_path, "no table", "README.md")
    for source in (tmp_path, str(tmp_path / "*.csv*")):
        table = read(source)
        assert columns(table) == FRAME.select("wind", "time", "warm").to_dict(as_series=False)
        assert table.place(7) == f"line 9 of {tmp_path / 'a.csv.gz'}"
        assert table.place(8) == f"line 2 of {tmp_path / 'b.csv'}"
        assert any("2 files are joined" in note for note in table.notes)
    written(tmp_path, "time,warm\n2020-05-01,3\n", "c.csv")
    with pytest.raises(DataError, match=r"c\.csv has other columns than .*a\.csv\.gz: it lacks 'wind'"):
        read(tmp_path)


@pytest.mark.parametrize("name", ["a.csv", "a.parquet", "a.arrow"])
def test_marks_of_patterns_in_a_name_are_no_pattern(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "a[1] year=2020 *"
    folder.mkdir()
    assert columns(read(written(folder, FILES[name](), name))) == FRAME.to_dict(as_series=False)


def test_many_columns_that_begin_as_numbers(tmp_path: Path) -> None:
    names = [f"c{number}" for number in range(300)]
    text = "ds," + ",".join(names) + "\n2020-01-01" + ",1.5" * 300 + "\n2020-01-02" + ",n/a" * 300 + "\n"
    table = read(written(tmp_path, text))
    assert table.frame.width == 301
    assert table.frame.row(1)[1:] == (None,) * 300


def test_the_long_format_is_recognised_by_its_names(tmp_path: Path) -> None:
    path = written(tmp_path, "unique_id,ds,y\n007,2020-01-01,1\n007,2020-01-02,2\n8,2020-01-01,3\n")
    table = read(path)
    assert (table.series_column, table.time_column) == ("unique_id", "ds")
    assert columns(table)["unique_id"] == ["007", "007", "8"]
    assert any("'unique_id' tells the series apart" in note for note in table.notes)
    other = read(FRAME.with_columns(pl.lit(3).alias("station")), series_column="station")
    assert other.frame["station"].to_list() == ["3"] * 20


# Name: the file, where the time column is found, what its first time is.
FOUND: dict[str, tuple[str, str, datetime]] = {
    "by name": ("x,Zeit\n1,03.02.2020\n2,04.02.2020\n", "Zeit", datetime(2020, 2, 3)),
    "name with a unit": ("x,Time (UTC)\n1,2020-02-03 01:00\n", "Time (UTC)", datetime(2020, 2, 3, 1)),
    "by its values": ("x,when\n1,2020-02-03\n", "when", datetime(2020, 2, 3)),
    "no digits by values": ("code,when\n20200101,2020-02-03\n", "when", datetime(2020, 2, 3)),
    "name over order": ("built,ds\n2010-01-01,2020-02-03\n", "ds", datetime(2020, 2, 3)),
    "name whose values are none": ("time,when\nmorning,2020-02-03\n", "when", datetime(2020, 2, 3)),
    "index written by pandas": (",x\n2020-02-03,5\n2020-02-04,6\n", "unnamed", datetime(2020, 2, 3)),
    "year beside": ("year,when,x\n2020,2020-02-03,1\n2020,2020-02-04,2\n", "when", datetime(2020, 2, 3)),
    "years": ("year,x\n2019,1\n2020,2\n", "year", datetime(2019, 1, 1)),
    "two columns": ("date,time,x\n03.02.2020,14:30,1\n04.02.2020,14:40,2\n", "date", datetime(2020, 2, 3, 14, 30)),
    "seconds since 1970": ("timestamp,x\n1580688000,1\n1580688060,2\n", "timestamp", datetime(2020, 2, 3)),
}


@pytest.mark.parametrize("name", FOUND)
def test_the_time_column_is_found(tmp_path: Path, name: str) -> None:
    text, column, first = FOUND[name]
    table = read(written(tmp_path, text))
    assert (table.time_column, table.frame[column][0]) == (column, first)
    assert any(f"{column!r} is the time column" in note for note in table.notes)


NUMBERS: dict[str, tuple[str, dict[str, Any], list[Any], str]] = {
    "commas": ("ds;y\n2020-01-01;3,14\n2020-01-02;-2\n", {}, [3.14, -2], "decimal commas"),
    "quoted commas": ('ds,y\n2020-01-01,"3,14"\n2020-01-02,"0,5"\n', {}, [3.14, 0.5], "decimal commas"),
    "commas told": ("ds;y\n2020-01-01;1,234\n", {"decimal": "comma"}, [1.234], "decimal commas"),
    "blanks": ("ds, y\n2020-01-01, 1.5 \n2020-01-02, 2\n", {}, [1.5, 2], "spaces around"),
    "signs": ("ds,y\n2020-01-01,+1e3\n2020-01-02,-.5\n", {}, [1000, -0.5], ""),
    "words": ("ds,y\n2020-01-01,1\n2020-01-02,n/a\n2020-01-03,\n2020-01-04,-\n", {}, [1, None, None, None], "2 values"),
    "late words": ("ds,y\n" + "2020-01-01,1\n" * 1500 + "2020-01-02,NULL\n", {}, [1.0] * 1500 + [None], "line 1502"),
    "other words": ("ds,y\n" + "2020-01-01,1\n" * 20 + "2020-01-02,Bad\n", {}, [1.0] * 20 + [None], "'Bad'"),
    "booleans": ("ds,y\n2020-01-01,true\n2020-01-02,False\n", {}, [1, 0], ""),
    "nothing": ("ds,y,z\n2020-01-01,,1\n2020-01-02,,2\n", {}, [None, None], ""),
    "infinite": ("ds,y\n2020-01-01,inf\n2020-01-02,1\n", {}, [float("inf"), 1], ""),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers(tmp_path: Path, name: str) -> None:
    text, options, expected, note = NUMBERS[name]
    table = read(written(tmp_path, text), target="y", **options)
    assert table.frame["y"].dtype == pl.Float64
    assert table.frame["y"].to_list() == expected
    assert note in " ".join(table.notes)


def test_units_in_old_encodings(tmp_path: Path) -> None:
    text = "ds,T (°C),µg/m³\n2020-01-01,3,4\n"
    assert read(written(tmp_path, text.encode("utf-8"))).frame.columns == ["ds", "T (°C)", "µg/m³"]
    table = read(written(tmp_path, text.encode("latin-1")))
    assert table.frame.columns == ["ds", "T (°C)", "µg/m³"]
    assert any("Latin-1" in note for note in table.notes)


def test_text_stays_text_and_counted_rows_are_left_out(tmp_path: Path) -> None:
    table = read(written(tmp_path, ",ds,kind,y\n0,2020-01-01,a,1\n1,2020-01-02,b,2\n"), static=("kind",))
    assert columns(table) == {
        "ds": [datetime(2020, 1, 1), datetime(2020, 1, 2)],
        "kind": ["a", "b"],
        "y": [1.0, 2.0],
    }
    assert any("counts the rows" in note for note in table.notes)


def test_only_what_is_asked_for_is_read(tmp_path: Path) -> None:
    frame = FRAME.with_columns(more=pl.lit(1.0), kind=pl.lit("x"), days=pl.lit(1.0))
    for name, content in (("a.csv", csv_of(frame)), ("a.parquet", packed_parquet(frame))):
        table = read(written(tmp_path, content, name), target="warm", inputs=("wind",), known=("days",))
        assert table.frame.columns == ["time", "warm", "wind", "days"]
    other = frame.with_columns(pl.Series("spell", [timedelta(1)] * 20))
    assert "spell" not in (table := read(other)).frame.columns
    assert any("'spell' is left out" in note for note in table.notes)


def test_many_values_are_kept_in_single_precision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "MANY_VALUES", 30)
    table = read(written(tmp_path, packed_parquet(FRAME), "a.parquet"))
    assert table.frame.schema == {"time": pl.Datetime("us"), "warm": pl.Float32, "wind": pl.Float32}


def test_the_digest_tells_the_data_and_not_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = read(written(tmp_path, csv_of(FRAME), "a.csv")).digest
    assert read(written(tmp_path, csv_of(FRAME), "b.csv")).digest == first
    assert read(written(tmp_path, csv_of(FRAME).replace(b"0.125", b"0.126"), "c.csv")).digest != first
    changed = FRAME.with_columns(wind=pl.col("wind") + 1)
    assert len({read(FRAME).digest, read(FRAME.lazy()).digest}) == 1
    assert len({read(FRAME).digest, read(changed).digest, read(FRAME.rename({"warm": "w"})).digest}) == 3
    monkeypatch.setattr(files, "_WHOLE_DIGEST", 0)
    large = b"time,y\n" + b"2020-01-01,1\n" * 400_000
    found = [files.digest_of(files.find_files(written(tmp_path, one, "d.csv"))) for one in (large, large + b"2", large)]
    assert found[0] == found[2] != found[1]


def test_progress_is_told(tmp_path: Path) -> None:
    told: list[tuple[str, float]] = []
    read_table(written(tmp_path, csv_of(FRAME)), SeriesSettings(), progress=lambda *step: told.append(step))
    assert {stage for stage, _ in told} == {"checking the file", "reading", "understanding"}
    assert all(0 <= share <= 1 for _, share in told)
    assert told[-1] == ("understanding", 1.0)


def test_a_file_that_changes_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, csv_of(FRAME))
    original = tables.read_delimited

    def slow(*given: Any) -> Any:
        result = original(*given)
        with path.open("ab") as file:
            file.write(b"2021-01-01 00:00:00,1,2\n")
        return result

    monkeypatch.setattr(tables, "read_delimited", slow)
    with pytest.raises(DataError, match=r"table\.csv changed while it was read"):
        read(path)


def zipped_workbook() -> bytes:
    return b"PK\x03\x04" + b"\0" * 26 + b"xl/workbook.xml"


# Name: the file's name and content, settings, what the error must say.
ERRORS: dict[str, tuple[str, str | bytes, dict[str, Any], list[str]]] = {
    "empty": ("a.csv", "", {}, ["a.csv", "is empty"]),
    "blank": ("a.csv", "\n\n \n", {}, ["a.csv", "is empty"]),
    "blank header": ("a.csv", "\nds,y\n2020-01-01,1\n", {}, ["line 1", "names of the columns"]),
    "header only": ("a.csv", "ds,y\n", {}, ["a.csv", "a header and no rows"]),
    "no header": ("a.csv", "2020-01-01,1.5\n2020-01-02,2\n", {}, ["a.csv", "no header", "1.5"]),
    "repeated name": ("a.csv", "ds,y,y\n2020-01-01,1,2\n", {}, ["'y'", "2 times", "columns 2, 3"]),
    "no times": ("a.csv", "a,b\n1,2\n3,4\n", {}, ["--time-column", "'a', 'b'"]),
    "name without times": ("a.csv", "time,b\nearly,2\nlate,4\n", {}, ["'time'", "'early'", "line 2", "--time-format"]),
    "bad time": (
        "a.csv",
        "ds,y\n" + "2020-01-01,1\n" * 30 + "2020-02-31,2\nsoon,3\n",
        {},
        ["'ds'", "2 values", "'2020-02-31'", "line 32 of"],
    ),
    "missing time": ("a.csv", "ds,y\n2020-01-01,1\n,2\n2020-01-03,3\n", {}, ["'ds'", "1 missing value", "line 3"]),
    "no such target": ("a.csv", "ds,temp\n2020-01-01,1\n", {"target": "temq"}, ["'temq'", "did you mean 'temp'"]),
    "no such time": ("a.csv", "ds,y\n2020-01-01,1\n", {"time_column": "time"}, ["'time'", "a.csv", "'ds', 'y'"]),
    "text target": (
        "a.csv",
        "ds,y\n2020-01-01,1\n2020-01-02,<0.1\n",
        {"target": "y"},
        ["the target 'y'", "'<0.1'", "line 3", "is no number"],
    ),
    "thousands or decimals": (
        "a.csv",
        'ds,y\n2020-01-01,"1,234"\n',
        {"target": "y"},
        ["'1,234'", "--decimal comma"],
    ),
    "thousands": ("a.csv", 'ds,y\n2020-01-01,"1,234.5"\n', {"target": "y"}, ["'1,234.5'", "line 2", "thousands"]),
    "text input": ("a.csv", "ds,y,z\n2020-01-01,1,a\n", {"target": "y", "inputs": ("z",)}, ["the input 'z'", "'a'"]),
    "point where commas are told": ("a.csv", "ds,y\n2020-01-01,1.5\n", {"target": "y", "decimal": "comma"}, ["'1.5'"]),
    "long row": ("a.csv", "ds,y\n2020-01-01,1\n2020-01-02,1,5\n", {}, ["line 3", "3 fields", "the header has 2"]),
    "short row": ("a.csv", "ds,y,z\n2020-01-01,1,3\n2020-01-02,1\n", {}, ["line 3", "2 fields", "the header has 3"]),
    "open quote": ("a.csv", 'ds,y\n2020-01-01,"1\n2020-01-02,2\n', {}, ["a.csv", "quotation mark"]),
    "binary": ("a.csv", b"ds,y\n\0\0\0\1", {}, ["a.csv", "binary", "NUL"]),
    "zip": ("a.csv", b"PK\x03\x04" + b"abc\0" * 9, {}, ["a.csv", "zip archive", "unpack"]),
    "workbook": ("a.xlsx", zipped_workbook(), {}, ["a.xlsx", "Excel", "CSV"]),
    "damaged gzip": ("a.csv.gz", gzip.compress(csv_of(FRAME))[:-20], {}, ["a.csv.gz", "damaged gzip"]),
    "damaged zstd": (
        "a.csv.zst",
        zstandard.compress(csv_of(FRAME))[:9] + b"\xff" * 9,
        {},
        ["a.csv.zst", "damaged Zst"],
    ),
    "damaged Parquet": ("a.parquet", packed_parquet(FRAME)[:-30], {}, ["a.parquet", "damaged Parquet"]),
    "damaged Arrow": ("a.arrow", packed_ipc(FRAME)[:300], {}, ["a.arrow", "damaged Arrow"]),
    "missing series": (
        "a.csv",
        "unique_id,ds,y\na,2020-01-01,1\n,2020-01-01,1\n",
        {},
        ["'unique_id'", "line 3", "1 missing"],
    ),
    "query without database": ("a.csv", "ds,y\n2020-01-01,1\n", {"query": "SELECT 1"}, ["'SELECT 1'", "sqlite:///"]),
    "one column twice": ("a.csv", "ds,y\n2020-01-01,1\n", {"target": "ds", "time_column": "ds"}, ["target and time"]),
    "unknown zone": ("a.csv", "ds,y\n2020-01-01,1\n", {"time_zone": "Europe/Berln"}, ["did you mean 'Europe/Berlin'"]),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors_say_what_where_and_what_to_do(tmp_path: Path, name: str) -> None:
    file, content, options, parts = ERRORS[name]
    with pytest.raises(ElmanError) as caught:
        read(written(tmp_path, content, file), **options)
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message, message


def test_a_file_with_any_byte_changed_is_read_or_refused(tmp_path: Path) -> None:
    """Smoke: whatever a byte becomes, nothing but our own errors leaves the reader, each of them one line."""
    draw = random.Random(0)
    messages = []
    for name in ("a.csv", "a.csv.gz", "a.parquet", "a.arrow"):
        content = FILES[name]()
        for _ in range(60):
            changed = bytearray(content)
            place = draw.randrange(len(changed))
            changed[place : place + draw.randint(0, 3)] = draw.choice(
                [b",", b'"', b"\x1e", b"\n", b"\0", b"\xff", b"9" * 30]
            )
            try:
                read(written(tmp_path, bytes(changed), name))
            except ElmanError as error:
                messages.append(str(error))
    assert messages
    assert not [message for message in messages if "\n" in message]


def test_sources_that_are_not_there(tmp_path: Path) -> None:
    written(tmp_path, csv_of(FRAME), "weather.csv")
    (tmp_path / "nothing").mkdir()
    os.mkfifo(tmp_path / "pipe.csv")
    cases: list[tuple[Any, str]] = [
        (tmp_path / "wether.csv", "did you mean 'weather.csv'"),
        (tmp_path / "no" / "where.csv", "there is no folder"),
        (tmp_path / "nothing", "holds no table"),
        (str(tmp_path / "*.parquet"), "matches no file"),
        (tmp_path / "pipe.csv", "no plain file"),
        ("", "name of the table is empty"),
        (3, "a int is no table"),
        (pl.DataFrame({"ds": []}), "has no rows"),
        (pl.DataFrame(), "has no columns"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "'a' stands more than once"),
    ]
    for source, part in cases:
        with pytest.raises(DataError, match=part):
            read(source)


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, csv_of(FRAME))

    def refuse(self: Path, *given: Any, **named: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    # Root may read everything, so the refusal is made here.
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(DataError, match="permission denied"):
        read(path)


def test_nothing_given_is_changed() -> None:
    polars_frame, pandas_frame = FRAME.clone(), pandas_frames()["objects"]
    before = pandas_frame.copy(deep=True)
    read(polars_frame)
    read(pandas_frame)
    assert polars_frame.equals(FRAME)
    pd.testing.assert_frame_equal(pandas_frame, before)


@settings(max_examples=40)
@given(
    values=st.lists(st.floats(-1e6, 1e6).map(lambda value: round(value, 3)), min_size=2, max_size=20),
    separator=st.sampled_from([",", ";", "\t", "|"]),
    comma=st.booleans(),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "latin-1"]),
    line_end=st.sampled_from(["\n", "\r\n"]),
)
def test_values_come_back_from_any_spelling(
    tmp_path_factory: pytest.TempPathFactory,
    values: list[float],
    separator: str,
    comma: bool,
    encoding: str,
    line_end: str,
) -> None:
    def spelled(value: float) -> str:
        text = f"{value:.3f}".replace(".", ",") if comma else f"{value:.3f}"
        return f'"{text}"' if separator in text else text

    start = datetime(2020, 1, 25, tzinfo=UTC)
    lines = [separator.join(["Zeit", "T (°C)"])]
    lines += [
        separator.join([f"{start + timedelta(hours=i):%d.%m.%Y %H:%M}", spelled(v)]) for i, v in enumerate(values)
    ]
    path = tmp_path_factory.mktemp("spelled") / "a.csv"
    path.write_bytes((line_end.join(lines) + line_end).encode(encoding))
    # "1,000" and nothing else may be thousands: that is not guessed.
    told = {"decimal": "comma"} if comma and all(1 <= abs(value) < 1000 for value in values) else {}
    table = read(path, target="T (°C)", **told)
    assert table.frame["T (°C)"].to_list() == pytest.approx(values, abs=5e-4)
    assert table.frame["Zeit"][-1] == (start + timedelta(hours=len(values) - 1)).replace(tzinfo=None)


def test_jena_simply_works(shared_data: Path) -> None:
    hourly = read(shared_data / "jena_climate_2009_2016_hourly.csv", target="T (degC)")
    lines = (shared_data / "jena_climate_2009_2016_hourly.csv").read_text().splitlines()
    assert (hourly.time_column, hourly.time_format) == ("Date Time", "%d.%m.%Y %H:%M:%S")
    assert hourly.frame.width == 15
    assert len(hourly.frame) == len(lines) - 1
    for row in (0, 1, 12_345, len(lines) - 2):
        cells = lines[row + 1].split(",")
        assert hourly.frame["Date Time"][row] == datetime.strptime(cells[0], "%d.%m.%Y %H:%M:%S")
        assert list(hourly.frame.row(row)[1:]) == [float(cell) for cell in cells[1:]]
    quick = read(shared_data / "jena_climate_2020_10min.csv", target="T (degC)", time_zone="Europe/Berlin")
    assert quick.time_zone == "Europe/Berlin"
    assert quick.frame["Date Time"][0] == datetime(2019, 12, 31, 23, 10)


def test_numbers_of_128_bits_are_no_times() -> None:
    frame = pl.DataFrame({"time": [10**20, 10**20 + 1], "y": [10**21, 2]})
    with pytest.raises(DataError, match=r"the time column 'time' holds no times that are understood"):
        read_table(frame, SeriesSettings(time_column="time"))
    frame = frame.with_columns(pl.Series("time", ["2020-01-01", "2020-01-02"]))
    assert read_table(frame, SeriesSettings(time_column="time")).frame["y"].to_list() == [1e21, 2.0]

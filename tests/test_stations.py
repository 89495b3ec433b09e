"""Tables by name: where they are looked for, how a download is proved to be the right one, and what is said when it is not."""

import hashlib
import io
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from elman.errors import DataError
from elman.series.reading import stations
from elman.series.reading.stations import STATIONS, find_table, table_available_offline, table_names, why_not_full
from elman.series.reading.weather import COLUMNS, generate_weather, weather_text

DATA = Path(__file__).parents[1].parent / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the shared data folder is not here")
FILE = "jena_climate_2009_2016.csv"


@pytest.fixture(autouse=True)
def _no_data_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ELMAN_DATA", raising=False)


def as_published(rows: int = 200, seed: int = 0) -> bytes:
    """A small stand-in for the public file, spelled as that one is: the header in quotes, every number with two digits."""
    lines = weather_text(generate_weather(rows=rows, step="10min", seed=seed)).decode().splitlines()
    header = ",".join(f'"{name}"' for name in COLUMNS)
    spelled = [
        [time, *(f"{float(value):.2f}" for value in values)] for time, *values in (x.split(",") for x in lines[1:])
    ]
    return "\n".join([header, *(",".join(row) for row in spelled), ""]).encode()


def every_sixth(seed: int = 0) -> bytes:
    """What was published of it before: every sixth row, in the shortest spelling."""
    lines = weather_text(generate_weather(rows=200, step="10min", seed=seed)).splitlines(keepends=True)
    return b"".join([lines[0], *lines[1::6]])


@pytest.fixture
def put_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Let the name `jena` stand for the stand-in, at the address of a zip with these contents."""

    def put(contents: bytes, member: str = FILE) -> Path:
        archive = tmp_path / "published.zip"
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
            file.writestr(member, contents)
        small = replace(
            STATIONS["jena"],
            address=archive.as_uri(),
            rows=200,
            last="02.01.2009 09:20:00",
            thinned_sha256=hashlib.sha256(every_sixth()).hexdigest(),
        )
        monkeypatch.setitem(STATIONS, "jena", small)
        return archive

    return put


def test_there_are_three_tables_and_other_names_are_none_of_them(tmp_path: Path) -> None:
    assert table_names() == ("jena", "jena-2020", "weather")
    assert find_table("weather.csv", cache_folder=tmp_path) is None
    assert not table_available_offline("weather.csv", cache_folder=tmp_path)


@needs_data
@pytest.mark.parametrize(
    ("name", "file_name"), [("jena", "jena_climate_2009_2016_hourly.csv"), ("jena-2020", "jena_climate_2020_10min.csv")]
)
def test_a_station_is_found_in_the_data_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, file_name: str
) -> None:
    assert find_table(name, data_folder=DATA, cache_folder=tmp_path) == DATA / file_name
    assert not table_available_offline(name, cache_folder=tmp_path)
    monkeypatch.setenv("ELMAN_DATA", str(DATA))
    assert find_table(name, cache_folder=tmp_path) == DATA / file_name
    assert table_available_offline(name, cache_folder=tmp_path)


@needs_data
def test_the_proof_of_a_download_accepts_the_real_hours_in_the_public_spelling() -> None:
    """The public file is not here, but one row in six of it is: spelled as there and taken whole, it has the known checksum."""
    lines = (DATA / "jena_climate_2009_2016_hourly.csv").read_text("utf-8").splitlines()
    header = ",".join(f'"{name}"' for name in COLUMNS)
    rows = [[time, *(f"{float(value):.2f}" for value in values)] for time, *values in (x.split(",") for x in lines[1:])]
    hours = replace(STATIONS["jena"], every=1, rows=70_092, last="31.12.2016 23:20:00")
    spelled = [",".join(row) for row in rows]
    assert why_not_full(hours, "\r\n".join([header, *spelled, ""]).encode()) == ""
    spelled[40_000] = spelled[40_000].replace(".", ".1", 3)
    assert "SHA-256 of its every 1th row" in why_not_full(hours, "\n".join([header, *spelled, ""]).encode())
    # 70,092 rows are every sixth of 420,551, the last of them at 23:20, four rows before midnight.
    assert len(range(0, STATIONS["jena"].rows, 6)) == 70_092
    assert STATIONS["jena"].rows - 1 - 6 * 70_091 == 4


def test_the_full_table_is_preferred_to_its_hours(tmp_path: Path, put_up: Callable[..., Path]) -> None:
    put_up(as_published())
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / FILE).write_bytes(as_published())
    (folder / "jena_climate_2009_2016_hourly.csv").write_bytes(b"")
    assert find_table("jena", data_folder=folder, cache_folder=tmp_path) == folder / FILE


def test_a_station_is_downloaded_once_and_reports_progress(tmp_path: Path, put_up: Callable[..., Path]) -> None:
    archive, cache = put_up(as_published()), tmp_path / "cache"
    shares: list[tuple[str, float]] = []
    assert not table_available_offline("jena", cache_folder=cache)
    path = find_table("jena", cache_folder=cache, progress=lambda *stage: shares.append(stage))
    assert path == cache / FILE
    assert path.read_bytes() == as_published()
    assert list(cache.iterdir()) == [path]
    assert shares[-1] == ("downloading jena", 1.0)
    archive.unlink()
    assert find_table("jena", cache_folder=cache) == path
    # A damaged file in the cache counts as absent.
    path.write_bytes(as_published()[:-1000])
    assert not table_available_offline("jena", cache_folder=cache)


@pytest.mark.parametrize(
    ("contents", "reason"),
    [
        (b"", "it is empty"),
        (b"<html>not here</html>\n", "its first line is '<html>not here</html>', not the station's columns"),
        (as_published(rows=199), "it has 199 rows, expected 200"),
        (
            as_published().replace(b"02.01.2009 09:20", b"02.01.2009 09:30"),
            "'02.01.2009 09:30:00' stands where 02.01.2009 09:20",
        ),
        (as_published(seed=1), "the SHA-256 of its every 6th row is "),
        (as_published().replace(b"00:10:00,", b"00:10:00,x", 1), "one of its numbers is none .could not convert"),
    ],
)
def test_a_download_of_something_else_is_refused_and_not_kept(
    tmp_path: Path, put_up: Callable[..., Path], contents: bytes, reason: str
) -> None:
    put_up(contents)
    with pytest.raises(
        DataError, match=f"gave something else than the table 'jena': .*{reason}.*put {FILE} into a folder"
    ):
        find_table("jena", cache_folder=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()
    (tmp_path / FILE).write_bytes(contents)
    with pytest.raises(DataError, match=r"is not the table 'jena': .*name the file itself"):
        find_table("jena", data_folder=tmp_path, cache_folder=tmp_path / "cache")


def test_a_download_that_is_no_zip_is_refused(
    tmp_path: Path, put_up: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = put_up(as_published(), member="other.csv")
    with pytest.raises(DataError, match=f"is no zip with {FILE} in it: There is no item named"):
        find_table("jena", cache_folder=tmp_path / "cache")
    archive.write_bytes(b"<html>")
    with pytest.raises(DataError, match=f"is no zip with {FILE} in it: File is not a zip file; .*put {FILE}"):
        find_table("jena", cache_folder=tmp_path / "cache")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as file:
        file.writestr(FILE, as_published())
    broken = bytearray(buffer.getvalue())
    broken[300] ^= 1
    archive.write_bytes(broken)
    with pytest.raises(DataError, match=r"is no zip with .*: Bad CRC-32"):
        find_table("jena", cache_folder=tmp_path / "cache")
    monkeypatch.setattr(stations, "_LARGEST", 100)
    with pytest.raises(DataError, match="does not end: more than 100 bytes have come"):
        find_table("jena", cache_folder=tmp_path / "cache")


def test_what_cannot_be_had_is_asked_for(tmp_path: Path, put_up: Callable[..., Path]) -> None:
    with pytest.raises(
        DataError, match=r"nothing is to be downloaded: put .*csv or .*hourly.csv, unpacked from https://"
    ):
        find_table("jena", cache_folder=tmp_path, download=False)
    with pytest.raises(DataError, match=r"no public address: put jena_climate_2020_10min.csv \(SHA-256 fa4e90aa"):
        find_table("jena-2020", cache_folder=tmp_path)
    put_up(as_published()).unlink()
    with pytest.raises(
        DataError, match=f"cannot download the table 'jena' from file:.*check the network, .* as {FILE}"
    ):
        find_table("jena", cache_folder=tmp_path)
    with pytest.raises(DataError, match=r"the data folder .*nowhere is not a folder"):
        find_table("jena", data_folder=tmp_path / "nowhere", cache_folder=tmp_path)


def test_weather_is_made_once(tmp_path: Path) -> None:
    assert table_available_offline("weather", cache_folder=tmp_path)
    path = find_table("weather", cache_folder=tmp_path)
    assert path is not None
    assert list(tmp_path.iterdir()) == [path]
    text = path.read_text("utf-8")
    assert text.count("\n") == 43_825
    assert "\n01.01.2018 00:00:00," in text
    assert "\n31.12.2022 23:00:00," in text
    before = path.stat().st_mtime_ns
    assert find_table("weather", cache_folder=tmp_path, download=False) == path
    assert path.stat().st_mtime_ns == before

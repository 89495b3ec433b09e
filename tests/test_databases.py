"""Tables from databases: SQLite through the standard library, PostgreSQL on a server that the test itself starts."""

import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import datetime
from glob import glob
from pathlib import Path
from typing import Any
from urllib.parse import quote

import polars as pl
import pytest

from elman.config import SeriesSettings
from elman.errors import ConfigError, DataError, ElmanError
from elman.series.reading import databases
from elman.series.reading.databases import read_query, shown_uri
from elman.series.reading.table import Table
from elman.series.reading.tables import read_table

SECRET = "pass/w0rd@x"


def read(uri: str, **options: Any) -> Table:
    return read_table(uri, SeriesSettings(**options))


@pytest.fixture
def weather(tmp_path: Path) -> Path:
    path = tmp_path / "weather of today.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE weather (at TEXT, station INTEGER, warm REAL, mixed)")
        rows = [(f"2020-01-{1 + row:02d} 12:00:00", row % 2, row / 4, row if row % 3 else None) for row in range(30)]
        connection.executemany("INSERT INTO weather VALUES (?, ?, ?, ?)", rows)
    connection.close()
    return path


def test_sqlite(weather: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(databases, "_BATCH", 7)
    before = weather.read_bytes()
    table = read(
        f"sqlite:///{weather}", query="SELECT * FROM weather ORDER BY at;", series_column="station", target="warm"
    )
    assert table.time_column == "at"
    assert table.frame["at"].to_list() == [datetime(2020, 1, 1 + row, 12) for row in range(30)]
    assert table.frame["station"].to_list() == [str(row % 2) for row in range(30)]
    assert table.frame["warm"].to_list() == [row / 4 for row in range(30)]
    assert table.frame["mixed"].to_list() == [row if row % 3 else None for row in range(30)]
    assert table.place(3) == f"row 4 of sqlite:///{weather}"
    assert weather.read_bytes() == before
    monkeypatch.chdir(weather.parent)
    again = read(f"sqlite:///{quote(weather.name)}", query="SELECT * FROM weather ORDER BY at")
    assert again.frame["warm"].equals(table.frame["warm"])
    other = read(f"sqlite:///{weather}", query="SELECT at, warm + 1 AS warm FROM weather")
    assert len({table.digest, again.digest, other.digest}) == 2


def test_values_of_several_types_in_a_column() -> None:
    def joined(*batches: list[Any]) -> list[Any]:
        pieces = [databases._series(batch) for batch in batches]
        return databases._joined("x", pieces).to_list()

    assert joined([1, None], [2.5]) == [1, None, 2.5]
    assert joined([None], [3]) == [None, 3]
    assert joined([1], ["a"]) == ["1", "a"]
    assert joined([2**70]) == [float(2**70)]
    assert joined([True, None]) == [True, None]
    assert joined([b"\x01"]) == ["01"]


# Name: URI (FILE is the database), query, what the error says.
ERRORS: dict[str, tuple[str, str | None, list[str]]] = {
    "no query": ("sqlite:///FILE", None, ["--query", "SELECT"]),
    "no file": ("sqlite:////tmp/no/such.db", "SELECT 1", ["such.db", "there is no folder"]),
    "no table": ("sqlite:///FILE", "SELECT * FROM wether", ["no such table: wether", "SELECT * FROM wether"]),
    "writing": ("sqlite:///FILE", "DELETE FROM weather", ["readonly", "DELETE FROM weather"]),
    "two statements": ("sqlite:///FILE", "SELECT 1; SELECT 2", ["one statement"]),
    "no rows": ("sqlite:///FILE", "SELECT * FROM weather WHERE warm > 99", ["no rows"]),
    "twice": ("sqlite:///FILE", "SELECT at, at FROM weather", ["'at'", "more than once", "AS"]),
    "no database": ("sqlite:///OTHER", "SELECT * FROM weather", ["not a database"]),
    "another kind": (f"mysql://ada:{SECRET}@host/db", "SELECT 1", ["mysql://ada@host/db", "data frame"]),
    "a slip": ("sqlte:///FILE", "SELECT 1", ["did you mean 'sqlite'"]),
    "no server": (f"postgresql://ada:{quote(SECRET, safe='')}@127.0.0.1:1/db", "SELECT 1", ["ada@127.0.0.1:1/db"]),
    "bad URI": (f"postgresql://ada:{SECRET}@127.0.0.1:1/db?password=hush&x=1", "SELECT 1", ["ada@127.0.0.1:1/db"]),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors_say_what_and_show_no_password(name: str, weather: Path) -> None:
    uri, query, parts = ERRORS[name]
    if uri.startswith("postgresql"):
        pytest.importorskip("psycopg", reason="psycopg is not installed")
    other = weather.parent / "other.db"
    other.write_text("no database at all, but long enough to be looked at " * 20)
    with pytest.raises(ElmanError) as caught:
        read(uri.replace("FILE", str(weather)).replace("OTHER", str(other)), query=query)
    message = str(caught.value)
    assert isinstance(caught.value, DataError | ConfigError)
    assert "\n" not in message
    for secret in (SECRET, quote(SECRET, safe=""), "w0rd", "hush"):
        assert secret not in message
    for part in parts:
        assert part in message, message


def test_a_missing_driver_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(DataError, match=r"pip install 'elman\[sql\]'"):
        read_query("postgresql://ada@host/db", "SELECT 1")


def test_passwords_are_not_shown() -> None:
    assert shown_uri(f"postgresql://ada:{SECRET}@host/db?password=x") == "postgresql://ada@host/db"
    assert shown_uri("postgresql:///db") == "postgresql:///db"


def programs() -> Path | None:
    """The folder with `initdb` and `postgres`."""
    found = shutil.which("initdb")
    folders = [Path(found).resolve().parent] if found else []
    folders += [Path(folder) for folder in sorted(glob("/usr/lib/postgresql/*/bin"), reverse=True)]
    return next((one for one in folders if (one / "postgres").exists() and (one / "initdb").exists()), None)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The URI of a PostgreSQL server of our own, on a socket in a temporary folder, with the user ada."""
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    folder = programs()
    if folder is None:
        pytest.skip("no PostgreSQL server is installed")
    # A socket's path is short, so pytest's folders are too deep; and as root the server's user must reach it.
    base = Path(tempfile.mkdtemp(prefix="elman-pg-", dir="/tmp"))
    prefix: list[str] = []
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("PostgreSQL does not run as root, and there is no setpriv")
        prefix = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
        os.chown(base, 65534, 65534)
    data = base / "data"
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C", "HOME": str(base)}
    process = None
    try:
        make = [folder / "initdb", "-D", data, "-U", "ada", "-A", "trust", "-N", "-E", "UTF8"]
        subprocess.run([*prefix, *make], check=True, capture_output=True, env=environment, cwd=base)
        start = [folder / "postgres", "-D", data, "-k", base, "-c", "listen_addresses=", "-c", "fsync=off"]
        with (base / "log").open("wb") as log:
            process = subprocess.Popen([*prefix, *start], stdout=log, stderr=log, env=environment, cwd=base)
        await_socket(base / ".s.PGSQL.5432", process, base / "log")
        yield f"postgresql://ada:{quote(SECRET, safe='')}@/postgres?host={quote(str(base))}"
    finally:
        if process is not None:
            process.terminate()
            process.wait(20)
        shutil.rmtree(base, ignore_errors=True)


def await_socket(path: Path, process: subprocess.Popen[bytes], log: Path) -> None:
    import psycopg

    end = time.monotonic() + 30
    while time.monotonic() < end:
        assert process.poll() is None, log.read_text()
        with socket.socket(socket.AF_UNIX) as probe:
            if path.exists() and probe.connect_ex(str(path)) == 0:
                try:
                    psycopg.connect(f"postgresql://ada@/postgres?host={quote(str(path.parent))}").close()
                    return
                except psycopg.OperationalError:
                    # It listens before it is ready.
                    pass
        time.sleep(0.02)
    raise AssertionError(log.read_text())


def test_postgresql(server: str) -> None:
    query = """
        SELECT timestamptz '2020-03-29 00:00+01' + row * interval '1 hour' AS at, row::numeric / 4 AS warm,
               row AS count, row % 2 = 0 AS even, CASE WHEN row % 3 = 0 THEN NULL ELSE row::real END AS holes,
               'station ' || row % 2 AS station
        FROM generate_series(0, 99999) AS row ORDER BY row
    """
    counts: list[int] = []
    frame = read_query(server, query, counts.append)
    assert counts == [50_000, 100_000]
    assert frame.schema["at"] == pl.Datetime("us", "UTC")
    table = read(server, query=query, series_column="station", target="warm", time_zone="Europe/Berlin")
    assert (table.time_zone, table.source) == ("Europe/Berlin", "postgresql://ada@/postgres")
    assert table.frame["at"].to_list()[:2] == [datetime(2020, 3, 28, 23), datetime(2020, 3, 29)]
    assert table.frame["warm"].to_list() == [row / 4 for row in range(100_000)]
    assert table.frame["even"].to_list()[:3] == [1, 0, 1]
    holes = table.frame["holes"].fill_nan(None)
    assert holes.to_list()[:4] == [None, 1, 2, None]
    assert table.frame["station"][1] == "station 1"
    naive = read(
        server, query="SELECT timestamp '2020-01-02' AS ds, 1 AS y UNION SELECT timestamp '2020-01-03', 2 ORDER BY 1"
    )
    assert (naive.time_zone, naive.frame["ds"][0]) == (None, datetime(2020, 1, 2))


def test_postgresql_refuses_and_says_so(server: str) -> None:
    for query, part in [
        ("SELECT * FROM nowhere", 'relation "nowhere" does not exist'),
        ("CREATE TABLE mine (x int)", "syntax error"),
        ("SELECT 1 AS x WHERE false", "no rows"),
        ("SELECT 1 AS x, 2 AS x", "'x' more than once"),
        ("SELECT 1 / 0", "division by zero"),
        ("SELECT 5 % 3 AS y, '%s' AS z WHERE false", "no rows"),
    ]:
        with pytest.raises(DataError) as caught:
            read(server, query=query)
        assert part in str(caught.value)
        assert "w0rd" not in str(caught.value)
        assert "\n" not in str(caught.value)

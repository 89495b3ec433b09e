"""Tables by name: weather that can be forecast without looking for a file.

    jena        the station at Jena, 2009 to 2016: what the data folder holds of it, else the public file of 10-minute rows
    jena-2020   the same station, January to April 2020, every 10 minutes: from the data folder only
    weather     generated (`elman.series.reading.weather`): five years of hourly rows, made once and kept in the cache

What is found or downloaded is checked before it is used, because published figures hold for exactly that data. No checksum of the
public zip is published, but one of its every sixth row is: the file's rows are counted, its times compared, and every sixth row is
brought into one spelling (its header is quoted and its numbers are written 265.40 where the hourly file has 265.4) and hashed.

    >>> table_names()
    ('jena', 'jena-2020', 'weather')
"""

import hashlib
import io
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from elman.errors import DataError
from elman.series.reading.weather import COLUMNS, generate_weather, weather_text
from elman.training.cache import atomic_file, default_cache_folder
from elman.training.downloads import Progress, Source, chosen_data_folder, fetch, file_checksum, where_to_put

WEATHER_ROWS = 43_824
"""Five years of hours, a leap year among them."""
WEATHER_VERSION = 1
"""Counts up when the generator's numbers change, so that a cache does not hand out old ones."""


@dataclass(frozen=True)
class Station:
    """A table with a name.

    files: the file names it goes by in the data folder, in order of preference, with the SHA-256 of each; "" stands for the full
        table, which is checked by its contents. address: of a zip with the full table, the first of the files.
    rows, first, last: of the full table. every, thinned_sha256: the checksum of every `every`-th of its rows in one spelling.
    """

    name: str
    files: tuple[tuple[str, str], ...]
    address: str = ""
    rows: int = 0
    first: str = ""
    last: str = ""
    every: int = 6
    thinned_sha256: str = ""


_HOURLY = "9d4006838ada2050bda3f7bbed4d51de6a8389eca87d228cea4b9d06be16976e"

STATIONS: dict[str, Station] = {
    station.name: station
    for station in (
        Station(
            "jena",
            (("jena_climate_2009_2016.csv", ""), ("jena_climate_2009_2016_hourly.csv", _HOURLY)),
            address="https://storage.googleapis.com/tensorflow/tf-keras-datasets/jena_climate_2009_2016.csv.zip",
            rows=420_551,
            first="01.01.2009 00:10:00",
            last="01.01.2017 00:00:00",
            thinned_sha256=_HOURLY,
        ),
        Station(
            "jena-2020",
            (("jena_climate_2020_10min.csv", "fa4e90aa93f9bc1b4bb4875f9b5a11d435426af6ebf5f957234db0a91f8ba64a"),),
        ),
    )
}


def table_names() -> tuple[str, ...]:
    """The names that stand for a table wherever a file of measurements is expected."""
    return (*STATIONS, "weather")


def find_table(
    name: str,
    *,
    data_folder: Path | None = None,
    cache_folder: Path | None = None,
    download: bool = True,
    progress: Progress | None = None,
) -> Path | None:
    """The file of a named table: from the data folder, else the cache, else made or downloaded into the cache. None: no such name.

    The data folder is `data_folder`, or what the environment variable ELMAN_DATA names. `progress` is called with what is being
    done and the share of it that is done.

    Raises: `DataError` for a data folder that is not there, a file that is not what its name says, and a table that is nowhere to
    be found or cannot be downloaded.
    """
    cache = default_cache_folder("series") if cache_folder is None else cache_folder
    if name == "weather":
        return _generated(cache)
    if name not in STATIONS:
        return None
    station = STATIONS[name]
    if found := _find_offline(station, chosen_data_folder(data_folder), cache):
        return found
    by_hand = where_to_put(data_folder)
    file_names = " or ".join(file_name for file_name, _ in station.files)
    if not station.address:
        checksum = station.files[0][1]
        raise DataError(
            f"the table {name!r} is not here and has no public address: put {file_names} (SHA-256 {checksum}) {by_hand}"
        )
    if not download:
        raise DataError(
            f"the table {name!r} is not here and nothing is to be downloaded: put {file_names}, unpacked from "
            f"{station.address}, {by_hand}"
        )
    return _download(station, cache, by_hand, progress)


def table_available_offline(name: str, *, data_folder: Path | None = None, cache_folder: Path | None = None) -> bool:
    """Whether `find_table` would give a table without a network; an unknown name or any trouble means no."""
    try:
        return find_table(name, data_folder=data_folder, cache_folder=cache_folder, download=False) is not None
    except DataError:
        return False


def _generated(cache: Path) -> Path:
    path = cache / f"weather-{WEATHER_VERSION}.csv"
    if not path.is_file():
        with atomic_file(path) as file:
            file.write(weather_text(generate_weather(start="2018-01-01 00:00", rows=WEATHER_ROWS, seed=2018)))
    return path


def _find_offline(station: Station, folder: Path | None, cache: Path) -> Path | None:
    for file_name, checksum in station.files:
        if folder is not None and (folder / file_name).exists():
            path = folder / file_name
            if reason := _why_wrong(station, path, checksum):
                raise DataError(
                    f"{path} is not the table {station.name!r}: {reason}; move it away or replace it "
                    "(to forecast it as it is, name the file itself)"
                )
            return path
    cached = cache / station.files[0][0]
    # A damaged file in the cache is our own affair: it counts as absent and is replaced.
    return cached if station.address and cached.is_file() and not _why_wrong(station, cached, "") else None


def _why_wrong(station: Station, path: Path, checksum: str) -> str:
    """What tells the file from the one it should be; empty where it is the one."""
    if checksum:
        found = file_checksum(path)
        return "" if found == checksum else f"its SHA-256 is {found}, expected {checksum}"
    try:
        return why_not_full(station, path.read_bytes())
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}; check what it is and who may read it") from None


def why_not_full(station: Station, contents: bytes) -> str:
    """What tells `contents` from the station's full table, in words; empty where nothing does."""
    lines = contents.decode("utf-8", "replace").splitlines()
    header = [name.strip('"') for name in lines[0].split(",")] if lines else []
    if header != list(COLUMNS):
        return f"its first line is {lines[0][:60]!r}, not the station's columns" if lines else "it is empty"
    rows = lines[1:]
    if len(rows) != station.rows:
        return f"it has {len(rows):,} rows, expected {station.rows:,}"
    for row, moment in ((rows[0], station.first), (rows[-1], station.last)):
        if row.split(",")[0] != moment:
            return f"a row of {row.split(',')[0]!r} stands where {moment} was expected"
    try:
        found = _thinned_checksum(rows, station.every)
    except ValueError as error:
        return f"one of its numbers is none ({error})"
    if found != station.thinned_sha256:
        return f"the SHA-256 of its every {station.every}th row is {found}, expected {station.thinned_sha256}"
    return ""


def _thinned_checksum(rows: list[str], every: int) -> str:
    digest = hashlib.sha256((",".join(COLUMNS) + "\n").encode())
    for row in rows[::every]:
        moment, *values = row.split(",")
        digest.update(f"{moment},{','.join(repr(float(value)) for value in values)}\n".encode())
    return digest.hexdigest()


def _download(station: Station, cache: Path, by_hand: str, progress: Progress | None) -> Path:
    file_name = station.files[0][0]
    source = Source(station.name, f"the table {station.name!r}", station.address, file_name)
    packed = b"".join(_limited(station, fetch(source, by_hand, progress)))
    contents = _unpacked(station, packed, file_name, by_hand)
    if reason := why_not_full(station, contents):
        raise DataError(
            f"{station.address} gave something else than the table {station.name!r}: {reason}; try again later, "
            f"or put {file_name} {by_hand}"
        )
    path = cache / file_name
    with atomic_file(path) as file:
        file.write(contents)
    return path


_LARGEST = 200 << 20
"""Bytes, packed or not; the real ones are 13 and 43 million."""


def _limited(station: Station, chunks: Iterator[bytes]) -> Iterator[bytes]:
    done = 0
    for chunk in chunks:
        done += len(chunk)
        if done > _LARGEST:
            raise DataError(f"{station.address} does not end: more than {_LARGEST:,} bytes have come; try again later")
        yield chunk


def _unpacked(station: Station, packed: bytes, file_name: str, by_hand: str) -> bytes:
    try:
        with zipfile.ZipFile(io.BytesIO(packed)) as archive:
            if archive.getinfo(file_name).file_size > _LARGEST:
                raise zipfile.BadZipFile(f"{file_name} is too large")
            return archive.read(file_name)
    except (zipfile.BadZipFile, KeyError, NotImplementedError, RuntimeError, OSError, EOFError) as error:
        reason = error.args[0] if error.args else error
        raise DataError(
            f"{station.address} is no zip with {file_name} in it: {reason}; try again later, or put {file_name} {by_hand}"
        ) from None

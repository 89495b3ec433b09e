"""Tables that are the answer to a query: SQLite through the standard library, PostgreSQL through psycopg.

Both are opened for reading only and fetched in batches. A password in the URI is used and never shown.
"""

import datetime
import decimal
import math
import re
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

import polars as pl

from elman.config import suggestion
from elman.errors import ConfigError, DataError
from elman.series.reading.files import missing

_BATCH = 50_000
_CONNECT_SECONDS = "10"
_SCHEMES = ("sqlite", "postgresql")
_URI = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]+)://")


def is_uri(source: object) -> bool:
    """Whether a source looks like a URI rather than a file.

    >>> [is_uri("sqlite:///weather.db"), is_uri("weather.csv")]
    [True, False]
    """
    return isinstance(source, str) and _URI.match(source) is not None


def shown_uri(uri: str) -> str:
    """The URI for messages: without password and parameters.

    >>> shown_uri("postgresql://ada:secret@host:5432/weather?sslmode=require")
    'postgresql://ada@host:5432/weather'
    """
    scheme, _, rest = uri.partition("://")
    rest = rest.partition("?")[0].partition("#")[0]
    # A password may hold "/" or "@" though it should not: everything up to the last "@" belongs to the user.
    account, at, place = rest.rpartition("@")
    return f"{scheme}://{account.partition(':')[0]}{at}{place}"


def read_query(uri: str, query: str | None, report: Callable[[int], None] | None = None) -> pl.DataFrame:
    """The rows of a query. `report` is told how many have come.

    uri: `sqlite:///file.db`, `sqlite:////absolute/file.db` or `postgresql://user@host/database` (its parameters are libpq's).

    Raises: `ConfigError` for a lacking query or a URI of another kind; `DataError` where the database or the query fails, psycopg
    is not installed, a column's name comes twice, or no row comes.
    """
    match = _URI.match(uri)
    scheme = match[1].lower().partition("+")[0] if match else ""
    scheme = "postgresql" if scheme == "postgres" else scheme
    if scheme not in _SCHEMES:
        raise ConfigError(
            f"{shown_uri(uri)}: elman reads sqlite:// and postgresql:// and files{suggestion(scheme, _SCHEMES)}; "
            f"read others into a data frame and give that"
        )
    if query is None or not query.strip():
        raise ConfigError(f"{shown_uri(uri)} is a database: say which rows are the table (--query 'SELECT … FROM …')")
    fetch = _from_sqlite if scheme == "sqlite" else _from_postgresql
    frame = fetch(uri, query.strip().rstrip(";"), report)
    if not len(frame):
        raise DataError(f"the query gives no rows from {shown_uri(uri)}: {query.strip()!r}")
    return frame


def _from_sqlite(uri: str, query: str, report: Callable[[int], None] | None) -> pl.DataFrame:
    name = unquote(uri.partition("://")[2].partition("?")[0]).removeprefix("/")
    path = Path(name).expanduser()
    if not path.is_file():
        raise missing(name, path)
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path.absolute()))}?mode=ro", uri=True)) as connection:
            cursor = connection.execute(query)
            if cursor.description is None:
                raise DataError(f"the query gives no table from {name}: it must be a SELECT, not {query!r}")
            names = [column[0] for column in cursor.description]
            return _frame(names, iter(lambda: cursor.fetchmany(_BATCH), []), uri, report)
    except (sqlite3.Error, sqlite3.Warning) as error:
        raise DataError(f"the query fails on {name}: {error}; the query is {query!r}") from None


def _from_postgresql(uri: str, query: str, report: Callable[[int], None] | None) -> pl.DataFrame:
    try:
        import psycopg
    except ImportError:
        raise DataError(f"{shown_uri(uri)} needs psycopg, which is not installed: pip install 'elman[sql]'") from None
    plain = "postgresql://" + uri.partition("://")[2]
    # A host that swallows packets would otherwise be waited for without end.
    waiting = {} if "connect_timeout" in plain else {"connect_timeout": _CONNECT_SECONDS}
    try:
        with psycopg.connect(plain, **waiting) as connection:  # type: ignore[arg-type]
            connection.read_only = True
            connection.execute("SET TIME ZONE 'UTC'")
            # A named cursor stays on the server: no more than a batch is in memory twice.
            with connection.cursor(name="elman") as cursor:
                cursor.execute(query.encode())
                names = [column.name for column in cursor.description or ()]
                return _frame(names, iter(lambda: cursor.fetchmany(_BATCH), []), uri, report)
    except psycopg.Error as error:
        reason = " ".join(_without_secrets(str(error), uri).split()) or type(error).__name__
        raise DataError(f"{shown_uri(uri)} does not answer the query: {reason}; the query is {query!r}") from None


def _without_secrets(message: str, uri: str) -> str:
    try:
        parts = urlsplit(uri)
        secrets = [parts.password or "", *parse_qs(parts.query).get("password", [])]
    except ValueError:
        secrets = []
    account = uri.partition("://")[2].rpartition("@")[0]
    secrets += [account.partition(":")[2]]
    for secret in secrets:
        for spelling in {secret, unquote(secret), quote(secret, safe="")} - {""}:
            message = message.replace(spelling, "…")
    return message


def _frame(
    names: list[str], batches: Iterable[Sequence[Sequence[Any]]], uri: str, report: Callable[[int], None] | None
) -> pl.DataFrame:
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise DataError(
            f"the query gives the column {repeated[0]!r} more than once from {shown_uri(uri)}: "
            f'name the second one otherwise (SELECT … AS "other name")'
        )
    pieces: list[list[pl.Series]] = [[] for _ in names]
    count = 0
    for batch in batches:
        for column, values in enumerate(zip(*batch, strict=True)):
            pieces[column].append(_series(values))
        count += len(batch)
        if report is not None:
            report(count)
    return pl.DataFrame([_joined(name, parts) for name, parts in zip(names, pieces, strict=True)])


def _series(values: Sequence[Any]) -> pl.Series:
    """A batch of one column. SQLite has types for values, not for columns: the widest one that is there is taken."""
    kinds = {type(value) for value in values} - {type(None)}
    if not kinds:
        return pl.Series(values=[None] * len(values), dtype=pl.Null)
    if kinds <= {bool}:
        return pl.Series(values=values, dtype=pl.Boolean)
    if kinds <= {int} and all(value is None or abs(value) < 2**63 for value in values):
        return pl.Series(values=values, dtype=pl.Int64)
    if kinds <= {bool, int, float, decimal.Decimal}:
        return pl.Series(values=[math.nan if value is None else float(value) for value in values], dtype=pl.Float64)
    if kinds <= {datetime.datetime}:
        aware = {value.tzinfo is not None for value in values if value is not None}
        if aware == {True}:
            moments = [None if value is None else value.astimezone(datetime.UTC) for value in values]
            return pl.Series(values=moments, dtype=pl.Datetime("us", "UTC"))
        return pl.Series(values=values, dtype=pl.Datetime("us"))
    if kinds <= {datetime.date}:
        return pl.Series(values=values, dtype=pl.Date)
    texts = [None if value is None else _text(value) for value in values]
    return pl.Series(values=texts, dtype=pl.String)


def _text(value: Any) -> str:
    return bytes(value).hex() if isinstance(value, bytes | memoryview) else str(value)


def _joined(name: str, pieces: list[pl.Series]) -> pl.Series:
    kinds = {piece.dtype for piece in pieces} - {pl.Null()}
    if len(kinds) > 1:
        wide: pl.DataType = pl.Float64() if kinds <= {pl.Int64(), pl.Float64(), pl.Boolean()} else pl.String()
        pieces = [piece.cast(wide) for piece in pieces]
    elif kinds:
        pieces = [piece.cast(next(iter(kinds))) for piece in pieces]
    return pl.concat([piece.alias(name) for piece in pieces]) if pieces else pl.Series(name, [], dtype=pl.Null)

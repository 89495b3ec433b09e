"""Where sessions live: an SQLite database, in memory or in a file that outlives the server.

One thread holds the connection. What is written is committed before the answer is given: killing the server loses nothing that was
answered (write-ahead log; only a power cut may take the last moments).
"""

import asyncio
import json
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from elman.errors import RunError

T = TypeVar("T")

_FORMAT = 1

_TABLES = """
create table if not exists sessions (
    id text primary key, owner text not null, kind text not null, model text not null, fingerprint text not null,
    created real not null, touched real not null, facts text not null, state blob not null);
create table if not exists rows (
    session text not null references sessions (id) on delete cascade, number integer not null, cells text not null,
    primary key (session, number)) without rowid;
create index if not exists by_touch on sessions (touched);
"""


@dataclass(frozen=True)
class Kept:
    """A session as it is kept. state: a text session's arrays; facts: what else there is to know, as JSON has it."""

    id: str
    owner: str
    kind: str
    model: str
    fingerprint: str
    created: float
    touched: float
    facts: dict[str, Any]
    state: bytes = b""


class Store:
    """Sessions by their identifier, at most `most` of them, each until nobody has touched it for `age` seconds."""

    def __init__(self, path: Path | None, *, most: int, age: float) -> None:
        """path: the file; None: memory. Raises: `RunError` for a file that is no such database."""
        self.most, self.age = most, age
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="sessions")
        self._database = self._worker.submit(_opened, path).result()

    async def insert(self, kept: Kept, rows: list[dict[str, Any]] | None = None) -> bool:
        """Keep a new session; False where there are too many."""

        def work() -> bool:
            with self._database as database:
                self._forget_old()
                if database.execute("select count(*) from sessions").fetchone()[0] >= self.most:
                    return False
                values = (
                    kept.id,
                    kept.owner,
                    kept.kind,
                    kept.model,
                    kept.fingerprint,
                    kept.created,
                    kept.touched,
                    json.dumps(kept.facts),
                    kept.state,
                )
                database.execute("insert into sessions values (?, ?, ?, ?, ?, ?, ?, ?, ?)", values)
                self._insert_rows(kept.id, 0, rows or [])
                return True

        return await self._run(work)

    async def get(self, identifier: str, owner: str) -> Kept | None:
        """The session of an owner, which is touched by it."""

        def work() -> Kept | None:
            with self._database as database:
                self._forget_old()
                where = "where id = ? and owner = ?"
                database.execute(f"update sessions set touched = ? {where}", (time.time(), identifier, owner))
                row = database.execute(f"select * from sessions {where}", (identifier, owner)).fetchone()
            return None if row is None else _kept(row)

        return await self._run(work)

    async def all(self, owner: str) -> list[Kept]:
        """An owner's sessions, the newest first, without their state."""

        def work() -> list[Kept]:
            with self._database as database:
                self._forget_old()
                rows = database.execute(
                    "select id, owner, kind, model, fingerprint, created, touched, facts from sessions "
                    "where owner = ? order by created desc, id",
                    (owner,),
                ).fetchall()
            return [_kept(row) for row in rows]

        return await self._run(work)

    async def update(
        self,
        identifier: str,
        facts: dict[str, Any],
        state: bytes = b"",
        rows: tuple[int, list[dict[str, Any]]] | None = None,
    ) -> None:
        """Keep what became of a session. rows: the number of the first new one, and them."""

        def work() -> None:
            with self._database as database:
                values = (json.dumps(facts), state, time.time(), identifier)
                database.execute("update sessions set facts = ?, state = ?, touched = ? where id = ?", values)
                if rows is not None:
                    self._insert_rows(identifier, *rows)

        await self._run(work)

    async def rows(self, identifier: str) -> list[dict[str, Any]]:
        """All rows of a session, in order."""

        def work() -> list[dict[str, Any]]:
            found = self._database.execute("select cells from rows where session = ? order by number", (identifier,))
            return [json.loads(cells) for (cells,) in found]

        return await self._run(work)

    async def delete(self, identifier: str) -> None:
        """Forget a session."""

        def work() -> None:
            with self._database as database:
                database.execute("delete from sessions where id = ?", (identifier,))

        await self._run(work)

    async def count(self) -> dict[str, int]:
        """How many sessions there are of each kind."""
        return await self._run(
            lambda: dict(self._database.execute("select kind, count(*) from sessions group by kind").fetchall())
        )

    def close(self) -> None:
        """Write everything to the file itself."""
        self._worker.submit(self._database.close).result()
        self._worker.shutdown()

    def _insert_rows(self, identifier: str, first: int, rows: list[dict[str, Any]]) -> None:
        values = [(identifier, first + place, json.dumps(row)) for place, row in enumerate(rows)]
        self._database.executemany("insert into rows values (?, ?, ?)", values)

    def _forget_old(self) -> None:
        self._database.execute("delete from sessions where touched < ?", (time.time() - self.age,))

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._worker, work)


def _kept(row: tuple[Any, ...]) -> Kept:
    columns = dict(zip(Kept.__dataclass_fields__, row, strict=False))
    return Kept(**{**columns, "facts": json.loads(columns["facts"])})


def _opened(path: Path | None) -> sqlite3.Connection:
    try:
        database = sqlite3.connect(":memory:" if path is None else path)
        database.execute("pragma journal_mode = wal")
        database.execute("pragma synchronous = normal")
        database.execute("pragma foreign_keys = on")
        found = database.execute("pragma user_version").fetchone()[0]
        if found == 0 and database.execute("select count(*) from sqlite_master").fetchone()[0]:
            raise RunError(f"{path} is a database of something else: name another file with --sessions")
        if found not in (0, _FORMAT):
            raise RunError(f"{path} was written by a newer elman (format {found}, this one reads {_FORMAT}): upgrade")
        database.executescript(f"{_TABLES} pragma user_version = {_FORMAT};")
    except sqlite3.Error as error:
        raise RunError(f"sessions cannot be kept in {path}: {error}; name another file with --sessions") from None
    return database

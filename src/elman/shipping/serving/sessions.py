"""Sessions: a series that is followed row by row, a text that is continued, each at constant cost.

A text session is its state: the network's carry behind all symbols but the last. What was drawn is read again before it is kept, so
that a state depends on the text alone. A session of series is its rows; the running forecaster that has taken them is kept beside
them while there is room, and made again from them otherwise, to the last bit.
"""

import asyncio
import base64
import binascii
import json
import secrets
import time
import weakref
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np

from elman.errors import ElmanError
from elman.series.recent import read_recent
from elman.series.running import RunningForecast
from elman.shipping.serving.answers import Refusal
from elman.shipping.serving.batching import Stream
from elman.shipping.serving.completions import Choice, Completion, codes_of, primer
from elman.shipping.serving.forecasts import head, paths, table_of
from elman.shipping.serving.hosting import Host, Served
from elman.shipping.serving.requests import AppendText, ContinueText, OpenSession, PushRows
from elman.shipping.serving.store import Kept, Store
from elman.text.sampling import RECENT

MOST_RUNNING = 256
"""Running forecasters beside their rows."""

MOST_ROWS = 200_000
"""Rows of one session, opening rows included: they are all kept."""


class Sessions:
    """What clients do with sessions; each one does one thing at a time."""

    def __init__(self, host: Host, store: Store) -> None:
        self._host, self.store = host, store
        self._running: OrderedDict[str, tuple[Served, RunningForecast]] = OrderedDict()
        self._locks: weakref.WeakValueDictionary[str, asyncio.Lock] = weakref.WeakValueDictionary()

    def lock(self, identifier: str) -> asyncio.Lock:
        """Held while something is done with a session."""
        return self._locks.setdefault(identifier, asyncio.Lock())

    async def find(self, identifier: str, owner: str) -> Kept:
        """An owner's session. Raises: `Refusal` where there is none."""
        kept = await self.store.get(identifier[:100], owner)
        if kept is None:
            raise Refusal(404, "there is no such session: it never was, has ended, or was not touched for too long")
        return kept

    async def open(self, request: OpenSession, served: Served, owner: str) -> dict[str, Any]:
        """A new session. Raises: `Refusal` for what does not fit the model, or where there are too many."""
        if served.kind == "series":
            return await self._open_series(request, served, owner)
        if request.rows is not None:
            raise Refusal(400, f"{served.name!r} is a model of text: it takes text, no rows", param="rows")
        if request.text is not None and request.state is not None:
            raise Refusal(
                400, "a session begins with a text or with a state that was saved, not with both", param="state"
            )
        if request.state is not None:
            facts, state = _unpacked(request.state, served)
        else:
            codes = codes_of(served.model, request.text or "", request.unknown)
            facts, state = await self._read(served, {"symbols": 0, "recent": []}, b"", codes)
        return describe(await self._insert(served, owner, facts, state), self.store.age)

    async def append(self, kept: Kept, request: AppendText) -> dict[str, Any]:
        """Read a text. Raises: `Refusal` for a session of series, or whose model is another one now."""
        served = self._text_model(kept)
        codes = codes_of(served.model, request.text, request.unknown)
        facts, state = await self._read(served, kept.facts, kept.state, codes)
        await self.store.update(kept.id, facts, state)
        return {**describe(kept, self.store.age), "symbols": facts["symbols"]}

    def continuation(self, kept: Kept, request: ContinueText, longest: int) -> Completion:
        """A text that goes on from a session, and becomes part of it where that is wanted."""
        served = self._text_model(kept)
        if not 0 < request.length <= longest:
            raise Refusal(400, f"max_tokens is from 1 to {longest} here", param="max_tokens")
        codes = codes_of(served.model, request.prompt, request.unknown)
        before = kept.facts["recent"]
        prompt = np.concatenate([np.asarray(before[-1:], np.int32), codes])
        if not len(prompt):
            prompt = primer(served.model)
        stream = Stream(
            prompt,
            request.length,
            request.settings,
            seed=None if request.seed is None else request.seed % 2**64,
            carry=_carry(kept.state, served),
            before=before[:-1],
        )
        choice = Choice(served.model, request.stops)

        async def keep() -> None:
            facts, state = await self._read(served, kept.facts, kept.state, np.concatenate([codes, choice.codes]))
            await self.store.update(kept.id, facts, state)

        usage = bool(request.stream_options and request.stream_options.include_usage)
        finish: Callable[[], Awaitable[None]] | None = keep if request.keep else None
        return Completion(served, [stream], [choice], len(codes), include_usage=usage, finish=finish)

    async def push(self, kept: Kept, request: PushRows) -> dict[str, Any]:
        """Take rows, and give the forecast behind the last one.

        Raises: `Refusal` for a row that cannot be; those before it were taken.
        """
        if kept.kind != "series":
            raise Refusal(400, "this is a session of text: it takes text, no rows", param="rows")
        count = kept.facts["rows"]
        if count + len(request.rows) > MOST_ROWS:
            raise Refusal(409, f"a session holds {MOST_ROWS:,} rows: open a new one with the recent ones")
        served, running = await self._following(kept)
        taken, frame, problem = await self._work(_take, running, request.rows)
        facts = {**kept.facts, "rows": count + taken}
        try:
            await self.store.update(kept.id, facts, rows=(count, request.rows[:taken]))
        except BaseException:
            self._running.pop(
                kept.id, None
            )  # it has taken rows that are not kept: it is made again from those that are
            raise
        if problem is not None:
            before = f" (the {taken} before it were taken)" if taken else ""
            raise Refusal(400, f"row {taken}{before}: {problem}", param=f"rows.{taken}")
        return {**describe(kept, self.store.age), **head(served.model), "object": "session.forecast", "rows": facts["rows"],
                "forecasts": paths(served.model, frame)}  # fmt: skip

    async def forecast(self, kept: Kept) -> dict[str, Any]:
        """The forecasts behind the last rows of a session."""
        if kept.kind != "series":
            raise Refusal(400, "this is a session of text: it forecasts nothing")
        served, running = await self._following(kept)
        frame = await self._work(running.forecast)
        return {**describe(kept, self.store.age), **head(served.model), "object": "session.forecast",
                "forecasts": paths(served.model, frame)}  # fmt: skip

    async def fork(self, kept: Kept) -> dict[str, Any]:
        """A second session in the same state."""
        rows = await self.store.rows(kept.id) if kept.kind == "series" else None
        served = self._served(kept)
        return describe(await self._insert(served, kept.owner, kept.facts, kept.state, rows), self.store.age)

    async def delete(self, kept: Kept) -> None:
        """End a session."""
        self._running.pop(kept.id, None)
        await self.store.delete(kept.id)

    def saved(self, kept: Kept) -> dict[str, Any]:
        """A text session's state as one string, from which a session with the same weights can begin."""
        served = self._text_model(kept)
        facts = json.dumps({**kept.facts, "fingerprint": kept.fingerprint}).encode()
        state = base64.b64encode(facts + b"\n" + kept.state).decode()
        return {"object": "session.state", "model": served.name, "state": state}

    # --- text ---------------------------------------------------------------------------------------------------------------

    async def _read(
        self, served: Served, facts: dict[str, Any], state: bytes, codes: np.ndarray
    ) -> tuple[dict[str, Any], bytes]:
        """The state behind some more symbols."""
        if not len(codes):
            return facts, state
        recent = facts["recent"]
        symbols = np.concatenate([np.asarray(recent[-1:], np.int32), codes])
        stream = Stream(symbols, 0, carry=_carry(state, served))
        with self._host.flow(served, [stream]) as flow:
            async for pieces in flow.pieces():
                for piece in pieces:
                    if piece.error is not None:
                        raise piece.error
        assert stream.carry is not None
        after = {"symbols": facts["symbols"] + len(codes), "recent": [*recent, *codes.tolist()][-RECENT:]}
        return after, np.ascontiguousarray(stream.carry).tobytes()

    def _text_model(self, kept: Kept) -> Served:
        if kept.kind != "text":
            raise Refusal(400, "this is a session of series: it takes rows, no text")
        served = self._served(kept)
        if served.fingerprint != kept.fingerprint:
            raise Refusal(
                409, f"the model {kept.model!r} has new weights, which the session's state does not fit: open a new one"
            )
        return served

    # --- series -------------------------------------------------------------------------------------------------------------

    async def _open_series(self, request: OpenSession, served: Served, owner: str) -> dict[str, Any]:
        if request.rows is None or request.text is not None or request.state is not None:
            raise Refusal(400, f"{served.name!r} is a forecaster: give the rows up to now", param="rows")
        names = ("time_column", "series_column", "time_format", "time_zone")
        reading = {name: value for name in names if (value := getattr(request, name)) is not None}
        facts = {"opening": len(request.rows), "rows": len(request.rows), "reading": reading}
        if len(request.rows) > MOST_ROWS:
            raise Refusal(400, f"a session holds {MOST_ROWS:,} rows: open it with the recent ones", param="rows")
        running, warnings = await self._work(_follow, served, request.rows, reading)
        frame = await self._work(running.forecast)
        kept = await self._insert(served, owner, facts, b"", request.rows)
        self._keep_running(kept.id, served, running)
        return {**describe(kept, self.store.age), **head(served.model), "object": "session", "warnings": warnings,
                "forecasts": paths(served.model, frame)}  # fmt: skip

    async def _following(self, kept: Kept) -> tuple[Served, RunningForecast]:
        """The session's running forecaster, made again from its rows where there is none of this model."""
        served = self._served(kept)
        found = self._running.get(kept.id)
        if found is not None and found[0] is served:
            self._running.move_to_end(kept.id)
            return found
        rows, opening = await self.store.rows(kept.id), kept.facts["opening"]
        running, _ = await self._work(_follow, served, rows[:opening], kept.facts["reading"])
        _, _, problem = await self._work(_take, running, rows[opening:])
        if problem is not None:
            raise Refusal(
                409, f"the model {kept.model!r} is another one now and does not take the session's rows: {problem}"
            )
        self._keep_running(kept.id, served, running)
        return served, running

    def _keep_running(self, identifier: str, served: Served, running: RunningForecast) -> None:
        self._running[identifier] = served, running
        while len(self._running) > MOST_RUNNING:
            self._running.popitem(last=False)

    async def _work(self, work: Callable[..., Any], *arguments: Any) -> Any:
        """In the thread for series; what is wrong with the rows is a `Refusal`."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._host.worker, work, *arguments)
        except ElmanError as error:
            raise Refusal(400, str(error)) from None

    # --- both ---------------------------------------------------------------------------------------------------------------

    def _served(self, kept: Kept) -> Served:
        served = self._host.get(kept.model)
        if served is None or served.kind != kept.kind:
            raise Refusal(409, f"the session's model {kept.model!r} is not served any more")
        return served

    async def _insert(
        self, served: Served, owner: str, facts: dict[str, Any], state: bytes, rows: list[dict[str, Any]] | None = None
    ) -> Kept:
        now, identifier = time.time(), f"sess-{secrets.token_urlsafe(18)}"
        kept = Kept(identifier, owner, served.kind, served.name, served.fingerprint, now, now, facts, state)
        if not await self.store.insert(kept, rows):
            raise Refusal(
                429, f"there are {self.store.most:,} sessions already: delete one, or wait until one is too old"
            )
        return kept


def describe(kept: Kept, age: float) -> dict[str, Any]:
    """A session as a client sees it."""
    count = {"symbols": kept.facts["symbols"]} if kept.kind == "text" else {"rows": kept.facts["rows"]}
    facts = {"id": kept.id, "object": "session", "kind": kept.kind, "model": kept.model, "created": int(kept.created)}
    return {**facts, "expires": int(kept.touched + age), **count}


def _follow(served: Served, rows: list[dict[str, Any]], reading: dict[str, str]) -> tuple[RunningForecast, list[str]]:
    """A running forecaster behind opening rows, and what is odd about them."""
    recent = read_recent(served.model, table_of(rows, None), overrides=reading)
    running = RunningForecast(
        served.model, recent.panel, time_column=recent.time_column, time_format=recent.time_format
    )
    return running, list(recent.warnings)


def _take(running: RunningForecast, rows: list[dict[str, Any]]) -> tuple[int, Any, str | None]:
    """How many rows were taken, the forecast behind the last, and what is wrong with the next one."""
    frame = None
    for number, row in enumerate(rows):
        try:
            frame = running.update(row)
        except ElmanError as error:
            return number, frame, str(error)
    return len(rows), frame, None


def _carry(state: bytes, served: Served) -> np.ndarray | None:
    """The carry in a kept state; None: zeros."""
    if not state:
        return None
    zero = _zero(served)
    return np.frombuffer(state, zero.dtype).reshape(zero.shape)


def _zero(served: Served) -> np.ndarray:
    assert served.batcher is not None
    return served.batcher.zero


def _unpacked(text: str, served: Served) -> tuple[dict[str, Any], bytes]:
    """The reverse of `Sessions.saved`, with nothing of it believed."""
    try:
        first, _, state = base64.b64decode(text, validate=True).partition(b"\n")
        facts = json.loads(first)
        symbols, recent, fingerprint = facts["symbols"], facts["recent"], facts["fingerprint"]
    except (binascii.Error, ValueError, KeyError, TypeError, RecursionError):
        raise Refusal(
            400, "state: this is no state that was saved by `GET /v1/sessions/ID/state`", param="state"
        ) from None
    zero = _zero(served)
    size = served.model.vocabulary.size
    whole = (
        type(symbols) is int
        and 0 <= symbols < 2**53
        and isinstance(recent, list)
        and len(recent) == min(symbols, RECENT)
        and all(type(code) is int and 0 <= code < size for code in recent)
        and len(state) == (zero.nbytes if symbols else 0)
    )
    if fingerprint != served.fingerprint:
        raise Refusal(409, f"the state was saved with other weights than {served.name!r} has now", param="state")
    if not whole or not np.isfinite(np.frombuffer(state, zero.dtype)).all():
        raise Refusal(400, "state: it is damaged", param="state")
    return {"symbols": symbols, "recent": recent}, state

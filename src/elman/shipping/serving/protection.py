"""What stands before every route: who asks, how often, how much, for how long; what is counted and logged, never the content."""

import asyncio
import hashlib
import hmac
import json
import logging
import math
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from elman.errors import ConfigError
from elman.shipping.serving.answers import Answer, error_body
from elman.shipping.serving.figures import Figures

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

OPEN_PATHS = ("/health", "/ready")
"""Answered without a key: they say nothing."""

METHODS = ("GET", "POST", "DELETE", "HEAD", "OPTIONS", "PUT", "PATCH")
"""Counted by name; whatever else a client calls a method is counted as other."""

MOST_CLIENTS = 10_000
"""Clients whose rate is remembered."""

MOST_DRAINED = 256 * 2**20
"""Bytes of a body that is too large which are read, and thrown away, before it is refused."""

_log = logging.getLogger("elman.serving")


@dataclass(frozen=True)
class Limits:
    """What a client may ask of the server.

    body: bytes of a request. body_seconds: until it must be here. seconds: until an answer must be complete. rate: requests per
    second and client, 0 for any number; bursts may be twice that. symbols: of one text. streams: texts in the making at once, of
    all clients. hosts: names that the server may be called by, none for any: a web page that lets its own name point to this
    machine is refused.
    """

    body: int = 8 * 2**20
    body_seconds: float = 30.0
    seconds: float = 300.0
    rate: float = 0.0
    symbols: int = 100_000
    streams: int = 4096
    hosts: tuple[str, ...] = ()


class Keys:
    """API keys, as digests. Comparing takes as long whether a key is nearly right or not.

    >>> keys = Keys(["secret"])
    >>> keys.owner("Bearer secret") == keys.owner("Bearer secret") != "", keys.owner("Bearer secre"), keys.owner("")
    (True, None, None)
    >>> Keys([]).owner("")
    ''
    """

    def __init__(self, keys: list[str]) -> None:
        self._digests = [_digest(key) for key in keys]

    @classmethod
    def read(cls, path: Path | str | None) -> "Keys":
        """One key on each line; empty lines and those that begin with # count for nothing. Raises: `ConfigError`."""
        if path is None:
            return cls([])
        try:
            lines = [line.strip() for line in Path(path).read_text(encoding="utf-8").splitlines()]
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"the API keys in {path} cannot be read: {error}") from None
        keys = [line for line in lines if line and not line.startswith("#")]
        if not keys:
            raise ConfigError(f"{path} holds no API key: write one on each line")
        return cls(keys)

    def __bool__(self) -> bool:
        return bool(self._digests)

    def owner(self, authorization: str) -> str | None:
        """Who asks: a digest of the key, empty where the server asks for none, or None for a wrong one."""
        if not self._digests:
            return ""
        scheme, _, key = authorization.partition(" ")
        asked, found = _digest(key.strip()), None
        for digest in self._digests:
            if hmac.compare_digest(digest, asked) and scheme.lower() == "bearer":
                found = digest
        return found


@dataclass
class Buckets:
    """A bucket of tokens for each client: it fills at `rate` per second, up to two seconds' worth; a request takes one."""

    rate: float
    _levels: "OrderedDict[str, tuple[float, float]]" = field(default_factory=OrderedDict)

    def wait(self, client: str, now: float) -> float:
        """Seconds until the client may ask again; 0: now, and it is counted."""
        most = max(1.0, 2 * self.rate)
        level, before = self._levels.pop(client, (most, now))
        level = min(most, level + (now - before) * self.rate)
        allowed = level >= 1
        self._levels[client] = (level - 1 if allowed else level, now)
        while len(self._levels) > MOST_CLIENTS:
            self._levels.popitem(last=False)
        return 0.0 if allowed else (1 - level) / self.rate


class Gate:
    """The middleware: refuses what may not pass, hands the rest on with its whole body, counts and logs."""

    def __init__(self, app: Application, *, keys: Keys, limits: Limits, figures: Figures) -> None:
        self._app, self._keys, self._limits, self._figures = app, keys, limits, figures
        self._buckets = Buckets(limits.rate)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), 499  # nobody was there any more to be answered

        async def sending(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._pass(scope, receive, sending)
        except Exception:
            status = 500
            raise
        finally:
            self._note(scope, status, time.perf_counter() - began)

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        refusal = self._refusal(scope, headers)
        body, most = None, self._limits.body
        length = headers.get("content-length", "0")
        fits = refusal is None and length.isdigit() and int(length[:20]) <= most
        try:
            async with asyncio.timeout(self._limits.body_seconds):
                body = await _body(receive, most if fits else 0)
            if not fits or body is None:
                refusal = refusal or _Refused(413, f"the body is larger than {most:,} bytes")
        except TimeoutError:
            refusal = refusal or _Refused(408, "the body of the request took too long to come")
        if refusal is not None:
            return await refusal.send(scope, receive, send)
        assert body is not None
        await self._app(scope, _replayed(body, receive), send)

    def _refusal(self, scope: Scope, headers: dict[str, str]) -> "_Refused | None":
        """What is wrong before the body is looked at."""
        if self._limits.hosts and _name_of(headers.get("host", "")) not in self._limits.hosts:
            return _Refused(400, "this server is not called by that name (Host header)")
        if scope["path"] in OPEN_PATHS:
            return None
        owner = self._keys.owner(headers.get("authorization", ""))
        if owner is None:
            return _Refused(401, "a valid API key is needed: Authorization: Bearer KEY")
        client = owner or (scope.get("client") or ("",))[0]
        wait = self._buckets.wait(client, time.monotonic()) if self._limits.rate else 0
        if wait:
            return _Refused(429, f"more than {self._limits.rate:g} requests per second: wait", wait)
        scope.setdefault("state", {})["owner"] = owner
        return None

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "other")
        method = scope["method"] if route != "other" and scope["method"] in METHODS else "other"
        self._figures.requests.labels(route, method, str(status)).inc()
        self._figures.seconds.labels(route).observe(seconds)
        facts = {
            "route": route,
            "status": status,
            "ms": round(seconds * 1000, 1),
            **scope.get("state", {}).get("facts", {}),
        }
        _log.info(json.dumps({"time": round(time.time(), 3), "event": "request", **facts}))


async def _body(receive: Receive, most: int) -> bytes | None:
    """The whole body, or None where it is larger than `most`.

    It is read to its end all the same: a client that is still sending would not see why it is refused.
    """
    parts: list[bytes] = []
    size = 0
    while size <= MOST_DRAINED:
        message = await receive()
        part = message.get("body", b"") if message["type"] == "http.request" else b""
        size += len(part)
        if size <= most:
            parts.append(part)
        else:
            parts.clear()
        if not message.get("more_body"):
            break
    return b"".join(parts) if size <= most else None


def _replayed(body: bytes, receive: Receive) -> Receive:
    """The body as one message, and then whatever the client does."""
    given = False

    async def replay() -> MutableMapping[str, Any]:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


@dataclass(frozen=True)
class _Refused:
    """What does not pass. wait: seconds until it may."""

    status: int
    message: str
    wait: float = 0

    async def send(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The answer."""
        headers = {"Retry-After": str(math.ceil(self.wait))} if self.wait else {}
        if self.status in (408, 413):
            headers["Connection"] = "close"  # what still comes is not read
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        answer = Answer(error_body(self.status, self.message), status_code=self.status, headers=headers)
        await answer(scope, receive, send)


def _name_of(host: str) -> str:
    """The name in a Host header, without the port."""
    return host.rsplit(":", 1)[0].lower() if not host.endswith("]") else host.lower()


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()

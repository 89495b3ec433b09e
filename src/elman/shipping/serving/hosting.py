"""The models behind the server, by name: loaded, computing, and replaced by newer ones while requests run.

Streams belong to the batcher that they were given to. A reload puts a new one in its place and lets the old one finish, so that no
request notices.
"""

import asyncio
import functools
import hashlib
import re
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from elman.config import suggestion
from elman.errors import ConfigError, ElmanError
from elman.series.model import SeriesModel
from elman.shipping.serving.batching import Batcher, Piece, Stream
from elman.text.model import TextModel
from elman.training.bundle import Bundle
from elman.training.runs import BEST_NAME, bundle_of

_NAME = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True, eq=False)
class Served:
    """A model as it is served. fingerprint: of the bundle's bytes, by which a session knows whether its state still fits."""

    name: str
    path: Path
    kind: str
    model: Any
    fingerprint: str
    created: int
    batcher: Batcher | None = None


class Flow:
    """The streams of one request, as the event loop sees them: pieces come out as they are made.

    Leaving the `with` block cancels what is not finished.
    """

    def __init__(self, served: Served, streams: Sequence[Stream], flows: "dict[Stream, Flow]") -> None:
        assert served.batcher is not None
        self.batcher, self.streams, self._flows = served.batcher, list(streams), flows
        self._open = set(self.streams)
        self._pieces: list[Piece] = []
        self._bell = asyncio.Event()

    def __enter__(self) -> "Flow":
        self._flows.update(dict.fromkeys(self.streams, self))
        self.batcher.add(self.streams)
        return self

    def __exit__(self, *_: object) -> None:
        for stream in self.streams:
            self._flows.pop(stream, None)
        for stream in list(self._open):
            self.end(stream)

    def put(self, piece: Piece) -> None:
        """Called by the host, in the event loop."""
        self._pieces.append(piece)
        self._bell.set()

    def end(self, stream: Stream) -> None:
        """Enough of this stream."""
        if stream in self._open:
            self._open.discard(stream)
            self.batcher.cancel(stream)
            self._bell.set()

    async def pieces(self) -> AsyncIterator[list[Piece]]:
        """What came since the last time, until all streams are done."""
        while self._open:
            await self._bell.wait()
            self._bell.clear()
            found, self._pieces = [piece for piece in self._pieces if piece.stream in self._open], []
            for piece in found:
                if piece.last:
                    self._open.discard(piece.stream)
            if found:
                yield found
            for piece in found:
                waited = piece.stream.waits
                piece.stream.taken += 0 if piece.prompt else len(piece.symbols)
                if waited and not piece.stream.waits:
                    self.batcher.wake()


class Host:
    """All models. Made before the event loop runs; `begin` binds it to the loop."""

    def __init__(self, words: Sequence[str], *, report: Callable[[str], None] | None = None) -> None:
        """words: `PATH` or `NAME=PATH`; paths are bundles or run folders. report: is told of each model when it is ready.

        Raises: what loading raises; `ConfigError` where two models have one name.
        """
        self._models: dict[str, Served] = {}
        self._flows: dict[Stream, Flow] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._reloading = asyncio.Lock()
        self.worker = ThreadPoolExecutor(1, thread_name_prefix="series")
        for word in words:
            name, path = named_path(word)
            if name in self._models:
                raise ConfigError(f"two models are called {name!r}: tell them apart with NAME=PATH")
            began = time.perf_counter()
            self._models[name] = self._loaded(name, path)
            if report is not None:
                report(f"{name} ({self._models[name].kind}) is ready after {time.perf_counter() - began:.1f} s")

    def __iter__(self):  # type: ignore[no-untyped-def]
        return iter(list(self._models.values()))

    def get(self, name: str) -> Served | None:
        """The model of a name; with one model only, no name means that one."""
        return self._models.get(name)

    def near(self, name: str) -> str:
        """The name that was probably meant, in words."""
        return suggestion(name[:100], self._models) or f"; there are {', '.join(map(repr, self._models))}"

    def begin(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start the batchers; pieces go to `loop` from now on."""
        self._loop = loop
        for served in self:
            if served.batcher is not None:
                served.batcher.start()

    def end(self) -> None:
        """Let everything finish."""
        for served in self:
            if served.batcher is not None:
                served.batcher.stop()
        self.worker.shutdown()

    def flow(self, served: Served, streams: Sequence[Stream]) -> Flow:
        """Streams for `served`, to be entered with `with`."""
        return Flow(served, streams, self._flows)

    async def reload(self) -> dict[str, str]:
        """Read every bundle anew and put those that changed in place of the old ones: by name, what became of each.

        One that cannot be read leaves the old one in place.
        """
        async with self._reloading:
            return {old.name: await self._reload(old) for old in self}

    async def _reload(self, old: Served) -> str:
        loop = asyncio.get_running_loop()
        try:
            new = await loop.run_in_executor(None, self._loaded, old.name, old.path, old.fingerprint)
        except ElmanError as error:
            return f"kept: {error}"
        if new is None:
            return "unchanged"
        if new.batcher is not None:
            new.batcher.start()
        self._models[old.name] = new
        if old.batcher is not None:
            loop.run_in_executor(None, old.batcher.stop)
        return "reloaded"

    @property
    def running(self) -> int:
        """Streams that are not finished, of all models."""
        return sum(served.batcher.running for served in self if served.batcher is not None)

    def _loaded(self, name: str, path: Path, known: str | None = None) -> Any:
        """The model at `path`, warmed up; None where its bytes are those that are `known`."""
        file = bundle_of(path)
        kind = Bundle.load(file).kind
        fingerprint, created = _fingerprint(file), int(file.stat().st_mtime)
        if fingerprint == known:
            return None
        make = functools.partial(Served, name, path, kind, fingerprint=fingerprint, created=created)
        if kind == "series":
            return make(SeriesModel.load(file))
        model = TextModel.load(file)
        batcher = Batcher(model, self._deliver)
        batcher.warm_up()
        return make(model, batcher=batcher)

    def _deliver(self, pieces: list[Piece]) -> None:
        """From a batcher's thread into the event loop: one call for a whole block."""
        assert self._loop is not None
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._hand_out, pieces)

    def _hand_out(self, pieces: list[Piece]) -> None:
        for piece in pieces:
            flow = self._flows.get(piece.stream)
            if flow is not None:
                flow.put(piece)


def named_path(word: str) -> tuple[str, Path]:
    """The name and the path in `NAME=PATH`; for a path alone, the name is that of the file or of the run folder.

    >>> words = "poet=runs/poet/best.safetensors", "runs/shakespeare-2026", "a/verse.safetensors"
    >>> [named_path(word)[0] for word in words]
    ['poet', 'shakespeare-2026', 'verse']
    """
    name, sign, path = word.partition("=")
    if sign and _NAME.sub("-", name) == name and name and not Path(word).exists():
        return name, Path(path)
    found = Path(word)
    stem = found.resolve().parent.name if found.name == BEST_NAME else found.name.removesuffix(".safetensors")
    return _NAME.sub("-", stem or found.resolve().name) or "model", found


def _fingerprint(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def started() -> int:
    """Now, in seconds since 1970, as OpenAI's objects say it."""
    return int(time.time())

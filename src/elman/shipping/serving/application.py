"""The routes: what each takes, what it answers, and which room does the work."""

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, TypeVar

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError, StarletteHTTPException
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import Response, StreamingResponse

import elman
from elman.errors import ElmanError
from elman.shipping.serving.answers import Answer, Refusal, error_body, problems_in_words
from elman.shipping.serving.completions import Completion, completion_of, failure_event
from elman.shipping.serving.figures import Figures
from elman.shipping.serving.forecasts import forecast, table_of
from elman.shipping.serving.hosting import Host, Served
from elman.shipping.serving.protection import Gate, Keys, Limits
from elman.shipping.serving.requests import (
    AppendText,
    CompletionRequest,
    ContinueText,
    ForecastRequest,
    OpenSession,
    PushRows,
)
from elman.shipping.serving.sessions import Sessions, describe
from elman.shipping.serving.store import Store

T = TypeVar("T")

_SAID = {
    "type": "object",
    "properties": {
        "error": {
            "type": "object",
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
            "required": ["message", "type"],
        }
    },
    "required": ["error"],
}
_REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"description": words, "content": {"application/json": {"schema": _SAID}}}
    for status, words in {
        400: "The request cannot be answered",
        401: "No valid API key",
        404: "No such model or session",
        408: "It took too long",
        409: "The session does not fit its model any more",
        413: "The body is too large",
        415: "No JSON",
        422: "The request cannot be answered",
        429: "Too many requests, texts or sessions",
    }.items()
}


class Events(StreamingResponse):
    """Server-sent events. release: called when they are over, however they end, also where nobody read the first."""

    def __init__(self, events: AsyncIterator[bytes], release: Callable[[], None] | None) -> None:
        super().__init__(events, media_type="text/event-stream", headers={"Cache-Control": "no-store"})
        self._release = release

    async def __call__(self, *connection: Any) -> None:
        try:
            await super().__call__(*connection)
        finally:
            if self._release is not None:
                self._release()


class Routes:
    """The handlers, with all that they share."""

    def __init__(self, host: Host, sessions: Sessions, limits: Limits, keys: Keys, figures: Figures) -> None:
        self.host, self.sessions, self.limits, self.keys, self.figures = host, sessions, limits, keys, figures

    def register(self, app: FastAPI) -> None:
        """Give every handler its path."""
        shared: dict[str, Any] = {"responses": _REFUSALS, "response_class": Answer}
        for method, path, handler in (
            ("GET", "/health", self.health),
            ("GET", "/ready", self.health),
            ("GET", "/metrics", self.metrics),
            ("GET", "/v1/models", self.models),
            ("GET", "/v1/models/{model}", self.model),
            ("POST", "/v1/completions", self.complete),
            ("POST", "/v1/forecast", self.forecast),
            ("POST", "/v1/sessions", self.open_session),
            ("GET", "/v1/sessions", self.list_sessions),
            ("GET", "/v1/sessions/{identifier}", self.show_session),
            ("DELETE", "/v1/sessions/{identifier}", self.delete_session),
            ("POST", "/v1/sessions/{identifier}/rows", self.push_rows),
            ("GET", "/v1/sessions/{identifier}/forecast", self.session_forecast),
            ("POST", "/v1/sessions/{identifier}/text", self.append_text),
            ("POST", "/v1/sessions/{identifier}/completions", self.continue_text),
            ("POST", "/v1/sessions/{identifier}/fork", self.fork_session),
            ("GET", "/v1/sessions/{identifier}/state", self.save_session),
            ("POST", "/v1/admin/reload", self.reload),
        ):
            app.add_api_route(path, handler, methods=[method], **shared)

    async def health(self) -> Answer:
        """Whether the server lives; it only listens once every model is ready."""
        return Answer({"status": "ok", "version": elman.__version__})

    async def metrics(self) -> Response:
        """Figures in Prometheus' text format."""
        counts = await self.sessions.store.count()
        for kind in ("text", "series"):
            self.figures.sessions.labels(kind).set(counts.get(kind, 0))
        return Response(self.figures.page(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def models(self) -> Answer:
        """All models, of text and of series."""
        return Answer({"object": "list", "data": [_described(served) for served in self.host]})

    async def model(self, model: str) -> Answer:
        """One model."""
        return Answer(_described(self._served(model)))

    async def complete(self, body: CompletionRequest, request: Request) -> Response:
        """Text that goes on from a prompt, in OpenAI's shape; with `stream`, as server-sent events."""
        served = self._served(body.model, "text")
        completion = completion_of(body, served, self.limits.symbols)
        return await self._answer(completion, request, streamed=bool(body.stream))

    async def forecast(self, body: ForecastRequest, request: Request) -> Answer:
        """What comes behind the last rows of one or several series: a path with quantiles for each."""
        served = self._served(body.model, "series")

        def work() -> dict[str, Any]:
            return forecast(served.model, table_of(body.rows, body.columns), body.reading)

        try:
            answer = await self._limited(request, asyncio.get_running_loop().run_in_executor(self.host.worker, work))
        except ElmanError as error:
            raise Refusal(400, str(error)) from None
        self.figures.forecasts.labels(served.name).inc(len(answer["forecasts"]))
        return Answer({"model": served.name, **answer})

    async def open_session(self, body: OpenSession, request: Request) -> Answer:
        """A session that keeps a state: of a series that is followed, or of a text that is continued."""
        work = self.sessions.open(body, self._served(body.model), request.state.owner)
        return Answer(await self._limited(request, work))

    async def list_sessions(self, request: Request) -> Answer:
        """The sessions of this key."""
        kept = await self.sessions.store.all(request.state.owner)
        return Answer({"object": "list", "data": [describe(one, self.sessions.store.age) for one in kept]})

    async def show_session(self, identifier: str, request: Request) -> Answer:
        """One session."""
        kept = await self.sessions.find(identifier, request.state.owner)
        return Answer(describe(kept, self.sessions.store.age))

    async def delete_session(self, identifier: str, request: Request) -> Answer:
        """End a session."""
        async with self.sessions.lock(identifier):
            await self.sessions.delete(await self.sessions.find(identifier, request.state.owner))
        return Answer({"id": identifier, "object": "session", "deleted": True})

    async def push_rows(self, identifier: str, body: PushRows, request: Request) -> Answer:
        """Take new rows of a series, and answer with the forecast behind the last one, at constant cost for each row."""
        async with self.sessions.lock(identifier):
            kept = await self.sessions.find(identifier, request.state.owner)
            # Not cut off by time or by a client that leaves: rows are taken whole, or the next ones would not fit.
            answer = await asyncio.shield(asyncio.ensure_future(self.sessions.push(kept, body)))
        self.figures.forecasts.labels(kept.model).inc(len(answer["forecasts"]))
        return Answer(answer)

    async def session_forecast(self, identifier: str, request: Request) -> Answer:
        """The forecasts behind the last rows of a session."""
        async with self.sessions.lock(identifier):
            kept = await self.sessions.find(identifier, request.state.owner)
            return Answer(await self.sessions.forecast(kept))

    async def append_text(self, identifier: str, body: AppendText, request: Request) -> Answer:
        """Read a text into a session."""
        async with self.sessions.lock(identifier):
            kept = await self.sessions.find(identifier, request.state.owner)
            return Answer(await self._limited(request, self.sessions.append(kept, body)))

    async def continue_text(self, identifier: str, body: ContinueText, request: Request) -> Response:
        """Text that goes on from a session and, with `keep`, becomes part of it."""
        lock = self.sessions.lock(identifier)
        await lock.acquire()
        try:
            kept = await self.sessions.find(identifier, request.state.owner)
            completion = self.sessions.continuation(kept, body, self.limits.symbols)
            return await self._answer(completion, request, streamed=bool(body.stream), release=lock.release)
        except BaseException:
            lock.release()
            raise

    async def fork_session(self, identifier: str, request: Request) -> Answer:
        """A second session in the same state."""
        async with self.sessions.lock(identifier):
            return Answer(await self.sessions.fork(await self.sessions.find(identifier, request.state.owner)))

    async def save_session(self, identifier: str, request: Request) -> Answer:
        """A text session's state, with which a session can begin elsewhere."""
        return Answer(self.sessions.saved(await self.sessions.find(identifier, request.state.owner)))

    async def reload(self) -> Answer:
        """Read every bundle anew; requests that run are finished by the old ones. Only where there are API keys."""
        if not self.keys:
            raise Refusal(403, "only a server with --api-key-file reloads on request; send it SIGHUP instead")
        return Answer({"object": "reload", "models": await self.reloaded()})

    async def reloaded(self) -> dict[str, str]:
        """Reload and count."""
        outcome = await self.host.reload()
        for name, words in outcome.items():
            self.figures.reloads.labels(name, words.split(":")[0]).inc()
        return outcome

    # --- what they share ----------------------------------------------------------------------------------------------------

    def _served(self, name: str, kind: str | None = None) -> Served:
        served = self.host.get(name)
        if served is None:
            raise Refusal(404, f"there is no model {name[:100]!r}{self.host.near(name)}", param="model")
        if kind is not None and served.kind != kind:
            other = "/v1/forecast" if served.kind == "series" else "/v1/completions"
            raise Refusal(400, f"{name!r} is a model of {served.kind}: ask it at {other}", param="model")
        return served

    async def _answer(
        self, completion: Completion, request: Request, *, streamed: bool, release: Callable[[], None] | None = None
    ) -> Response:
        """A completion as a whole or as events. release: called when it is done with; not where this raises."""
        if self.host.running + len(completion.streams) > self.limits.streams:
            raise Refusal(429, f"{self.limits.streams:,} texts are in the making already: wait", wait=1)
        began = time.perf_counter()
        if streamed:
            return Events(self._events(completion, request, began), release)
        answer = Answer(await self._limited(request, completion.whole(self.host)))
        self._count(completion, request, began)
        if release is not None:
            release()
        return answer

    async def _events(self, completion: Completion, request: Request, began: float) -> AsyncIterator[bytes]:
        """The events of a completion; what goes wrong once they have begun is an event as well."""
        events = completion.events(self.host)
        try:
            async with asyncio.timeout(self.limits.seconds):
                async for event in events:
                    if began:
                        self.figures.first.labels(completion.served.name).observe(time.perf_counter() - began)
                        began = 0.0
                    yield event
        except TimeoutError:
            yield failure_event(f"the text was not complete after {self.limits.seconds:g} seconds", 408)
        finally:
            await events.aclose()
            self._count(completion, request, began)

    def _count(self, completion: Completion, request: Request, began: float) -> None:
        usage, name = completion.usage, completion.served.name
        if began:
            self.figures.first.labels(name).observe(time.perf_counter() - began)
        self.figures.symbols.labels(name, "prompt").inc(usage["prompt_tokens"])
        self.figures.symbols.labels(name, "completion").inc(usage["completion_tokens"])
        request.state.facts = {"model": name, **{word: usage[word] for word in ("prompt_tokens", "completion_tokens")}}

    async def _limited(self, request: Request, work: Awaitable[T]) -> T:
        """The outcome of `work`, which is given up when the client leaves or its time is over."""
        task = asyncio.ensure_future(work)
        leaving = asyncio.ensure_future(_gone(request))
        try:
            await asyncio.wait({task, leaving}, timeout=self.limits.seconds, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                words = (
                    "the client has gone" if leaving.done() else f"it took more than {self.limits.seconds:g} seconds"
                )
                raise Refusal(408, words)
            return task.result()
        finally:
            for one in (task, leaving):
                one.cancel()
            await asyncio.gather(task, leaving, return_exceptions=True)


def application(
    host: Host,
    store: Store,
    *,
    keys: Keys | None = None,
    limits: Limits | None = None,
    origins: Sequence[str] = (),
) -> FastAPI:
    """The server as an ASGI application.

    origins: web pages that may ask it (CORS); none by default. There are no pages that explain it: they would be fetched from
    elsewhere; `/openapi.json` is the description.
    """
    limits, keys = limits or Limits(), keys or Keys([])
    figures = Figures(lambda: host.running)
    routes = Routes(host, Sessions(host, store), limits, keys, figures)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()
        host.begin(loop)
        reloads: set[asyncio.Task[Any]] = set()
        if hasattr(signal, "SIGHUP"):
            with contextlib.suppress(RuntimeError, ValueError):  # not in the main thread: only tests
                loop.add_signal_handler(signal.SIGHUP, lambda: reloads.add(asyncio.ensure_future(routes.reloaded())))
        yield
        await loop.run_in_executor(None, host.end)
        store.close()

    app = FastAPI(
        title="elman",
        version=elman.__version__,
        summary="Trained recurrent networks: text in OpenAI's shape, forecasts, sessions.",
        lifespan=lifespan,
        default_response_class=Answer,
        docs_url=None,
        redoc_url=None,
    )
    routes.register(app)
    _add_refusals(app)
    app.add_middleware(Gate, keys=keys, limits=limits, figures=figures)
    if origins:
        app.add_middleware(CORSMiddleware, allow_origins=list(origins), allow_methods=["*"], allow_headers=["*"])
    return app


def _add_refusals(app: FastAPI) -> None:
    """Whatever is refused is said in OpenAI's shape."""

    @app.exception_handler(RequestValidationError)
    async def _(request: Request, error: RequestValidationError) -> Answer:
        message, param = problems_in_words(error.errors())
        return Answer(error_body(400, message, param), status_code=400)

    @app.exception_handler(StarletteHTTPException)
    async def _(request: Request, error: StarletteHTTPException) -> Answer:
        body = error_body(error.status_code, str(error.detail), getattr(error, "param", None))
        return Answer(body, status_code=error.status_code, headers=error.headers)

    @app.exception_handler(Exception)
    async def _(request: Request, error: Exception) -> Answer:
        return Answer(error_body(500, "the server failed: this is a defect of ours"), status_code=500)


def _described(served: Served) -> dict[str, Any]:
    return {"id": served.name, "object": "model", "created": served.created, "owned_by": "elman", "kind": served.kind}


async def _gone(request: Request) -> None:
    """Returns when the client has left."""
    while (await request.receive())["type"] != "http.disconnect":
        pass

"""The studio as a web application: one process, its pages, and what they share.

A page is `page(studio)` of a module in `elman.studio.pages`; `studio` is a `Studio`, made for each view of a page.
"""

import asyncio
import importlib
import logging
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from nicegui import app, run, ui
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request

from elman.errors import ConfigError, ElmanError
from elman.studio.layout import APPEARANCE_COOKIE, APPEARANCES, LANGUAGE_COOKIE, PAGES, error_state, frame
from elman.studio.models import Model, Models
from elman.studio.runs_index import RunsIndex
from elman.studio.texts import LANGUAGES, Translate, translator

Result = TypeVar("Result")

LOCAL = ("127.0.0.1", "localhost", "[::1]", "::1")

_log = logging.getLogger("elman.studio")


@dataclass(frozen=True)
class Shared:
    """What all pages of a studio share. runs: the folder of runs. data_folder: where corpora and tables are found by name."""

    runs: Path
    data_folder: Path | None = None
    models: Models = field(default_factory=Models)
    index: RunsIndex = field(init=False)
    computing: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        object.__setattr__(self, "index", RunsIndex(self.runs))


@dataclass(frozen=True)
class Studio:
    """One view of a page: what is shared, the language, and what the address asks for (`query`)."""

    shared: Shared
    language: str
    t: Translate
    query: dict[str, str]

    async def compute(self, function: Callable[..., Result], *arguments: Any, **named: Any) -> Result:
        """Run what takes long off the event loop, one at a time in the whole studio: the network's arithmetic fills the machine."""

        def one_at_a_time() -> Result:
            with self.shared.computing:
                return function(*arguments, **named)

        return await _beside(one_at_a_time)

    async def read(self, function: Callable[..., Result], *arguments: Any, **named: Any) -> Result:
        """Run what waits for files off the event loop, beside whatever is being computed."""
        return await _beside(lambda: function(*arguments, **named))

    def path_of(self, name: str) -> Path:
        """The path behind the name of a run, or a path as it was given."""
        inside = self.shared.runs / name
        return inside if inside.exists() else Path(name).expanduser()

    def model_picker(self, on_chosen: Callable[[Path, Model], Any], kind: str = "") -> None:
        """Fields for choosing a model: a run of the folder, or any path; the choice is kept in the address (`?run=`).

        on_chosen: called, also as a coroutine, with the path and the loaded model; at once where the address names one.
        kind: "text" or "series" where only such models will do.
        """
        ModelPicker(self, on_chosen, kind).build()


async def _beside(work: Callable[[], Result]) -> Result:
    """What `work` returns, computed off the event loop. Where the studio ends meanwhile, so does whoever waits for it."""
    found = await run.io_bound(lambda: (work(),))
    if found is None:  # NiceGUI's answer for work that it no longer does
        raise asyncio.CancelledError
    return found[0]


class ModelPicker:
    """See `Studio.model_picker`."""

    def __init__(self, studio: Studio, on_chosen: Callable[[Path, Model], Any], kind: str) -> None:
        self.studio, self.on_chosen, self.kind = studio, on_chosen, kind

    def build(self) -> None:
        """The two fields; the list of runs is read off the event loop."""
        t = self.studio.t
        with ui.element("div").classes("model-picker"):
            self.select = ui.select({}, label=t("common.choose_run"), on_change=self._picked).props("outlined dense")
            self.field = ui.input(t("common.other_path")).props("outlined dense dir=ltr")
            self.field.on("keydown.enter", self._typed).on("blur", self._typed)
        self.problem = ui.label().classes("problem").props("role=alert")
        ui.timer(0, self._begin, once=True)

    async def _begin(self) -> None:
        runs = await self.studio.read(self.studio.shared.index.runs)
        wanted = [run for run in runs if run.has_model and (not self.kind or run.kind == self.kind)]
        kinds = {"": "", "text": self.studio.t("common.text"), "series": self.studio.t("common.series")}
        self.select.set_options({run.name: f"{run.name} ({kinds[run.kind]})" for run in wanted})
        asked = self.studio.query.get("run", "")
        if asked and asked not in self.select.options:
            self.field.value = asked
            await self._load(asked)
        elif wanted:
            self.select.value = asked or wanted[0].name
        else:
            self.problem.text = self.studio.t("common.no_models")

    async def _picked(self, event: Any) -> None:
        if event.value:
            self.field.value = ""
            await self._load(event.value)

    async def _typed(self) -> None:
        if self.field.value and self.field.value != self.studio.query.get("run"):
            await self._load(self.field.value)

    async def _load(self, name: str) -> None:
        self.studio.query["run"] = name
        self.problem.text = self.studio.t("common.loading")
        path = self.studio.path_of(name)
        try:
            model = await self.studio.compute(self.studio.shared.models.load, path)
            self._check(model, path)
        except ElmanError as error:
            self.problem.text = " ".join(str(error).split())
            return
        self.problem.text = ""
        ui.navigate.history.replace(f"?run={quote(name, safe='')}")
        result = self.on_chosen(path, model)
        if asyncio.iscoroutine(result):
            await result

    def _check(self, model: Model, path: Path) -> None:
        found = "text" if hasattr(model, "vocabulary") else "series"
        if self.kind and found != self.kind:
            t = self.studio.t
            raise ConfigError(f"{path}: {t(f'common.{found}')} ≠ {t(f'common.{self.kind}')}")


def create(shared: Shared, hosts: tuple[str, ...] = LOCAL) -> None:
    """Register the pages. hosts: names that the studio may be called by; others are refused, so that no foreign page gets in."""
    if "*" not in hosts:
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(hosts))
    for name, address in PAGES.items():
        _register(shared, name, address)


def _register(shared: Shared, name: str, address: str) -> None:
    @ui.page(address, response_timeout=30)
    async def show(request: Request) -> None:
        language = request.cookies.get(LANGUAGE_COOKIE, "")
        language = language if language in LANGUAGES else next(iter(LANGUAGES))
        appearance = request.cookies.get(APPEARANCE_COOKIE, "")
        appearance = appearance if appearance in APPEARANCES else "auto"
        t = translator(language)
        studio = Studio(shared, language, t, dict(request.query_params))
        with frame(name, language, appearance, t, title=studio.query.get("run", "")):
            try:
                result = importlib.import_module(f"elman.studio.pages.{name}").page(studio)
                if asyncio.iscoroutine(result):
                    await result
            except ElmanError as error:
                error_state(t, error)
            except Exception as error:
                _log.exception("the page %s failed", name)
                error_state(t, t("common.unexpected", what=f"{type(error).__name__}: {error}"))


def serve(
    shared: Shared,
    announce: Callable[[str], None],
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    show: bool = True,
) -> None:
    """Run the studio until it is interrupted. announce: called with its address before it begins to listen.

    port: None takes 8080, or the next free one. show: open the browser.

    Raises: `ConfigError` where the address cannot be had.
    """
    chosen = _free_port(host, port)
    create(shared, LOCAL if host in LOCAL else ("*",))
    shown = f"[{host}]" if ":" in host else host
    logging.getLogger("uvicorn.error").addFilter(_is_no_departure)
    announce(f"http://{shown}:{chosen}/")
    ui.run(
        host=host,
        port=chosen,
        title="elman studio",
        favicon="⟳",
        dark=None,
        show=show,
        reload=False,
        tailwind=False,
        show_welcome_message=False,
        reconnect_timeout=15.0,
    )


def _is_no_departure(record: logging.LogRecord) -> bool:
    """False for what Starlette logs as an error when a browser leaves in the middle of a request."""
    error = record.exc_info[1] if record.exc_info else None
    return not (isinstance(error, RuntimeError) and str(error) == "No response returned.")


def _free_port(host: str, port: int | None) -> int:
    """A port that nobody listens on."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    problem = ""
    for candidate in [port] if port is not None else range(8080, 8180):
        with socket.socket(family) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind((host, candidate))
                return int(listener.getsockname()[1])
            except OSError as error:
                problem = error.strerror or str(error)
            except OverflowError:
                raise ConfigError(f"--port {candidate} is out of range: from 1 to 65535") from None
    which = f"port {port}" if port is not None else "any port from 8080 to 8179"
    raise ConfigError(f"the studio cannot listen on {which} of {host}: {problem}; choose another --port or --host")

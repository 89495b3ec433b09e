"""What every page of the studio stands in: the bar with the pages, the choice of language and appearance; and the states that a
page can be in besides showing something: empty, or wrong."""

import html
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import resources
from typing import Any

from nicegui import ui

from elman.studio.texts import LANGUAGES, RIGHT_TO_LEFT, Translate

PAGES = {
    "runs": "/",
    "train": "/train",
    "unroll": "/unroll",
    "write": "/write",
    "forecast": "/forecast",
    "inside": "/inside",
}
APPEARANCES: dict[str, bool | None] = {"auto": None, "light": False, "dark": True}
LANGUAGE_COOKIE, APPEARANCE_COOKIE = "elman-language", "elman-appearance"

_KEEP = """
document.addEventListener('change', event => {
  const name = event.target.dataset && event.target.dataset.cookie;
  if (!name) return;
  document.cookie = name + '=' + encodeURIComponent(event.target.value) + '; path=/; max-age=31536000; SameSite=Strict';
  location.reload();
});
document.addEventListener('visibilitychange', () => emitEvent('looked-at', !document.hidden));
"""


@contextmanager
def frame(page: str, language: str, appearance: str, t: Translate, title: str = "") -> Iterator[None]:
    """Inside, a page's own content goes into the middle of the frame. title: of a thing on the page, before the page's name."""
    ui.page_title(" · ".join(filter(None, (title, t(f"common.{page}"), t("common.name")))))
    ui.colors(primary="#14657f")
    for file in ("style.css", "inspection.css"):
        ui.add_css(_style(file))
    ui.dark_mode(APPEARANCES[appearance])
    direction = "rtl" if language in RIGHT_TO_LEFT else "ltr"
    set_language = (
        f"document.documentElement.lang={json.dumps(language)};document.documentElement.dir={json.dumps(direction)};"
    )
    ui.add_body_html(f"<script>{set_language}{_KEEP}</script>")
    with ui.element("a").classes("skip").props('href="#content"'):
        ui.label(t("common.skip"))
    with ui.element("header").classes("top"), ui.element("div").classes("top-inner"):
        with ui.element("a").classes("brand").props('href="/"'):
            ui.label(t("common.name")).style("display: inline")
        with ui.element("nav").classes("pages").props(f'aria-label="{t("common.pages")}"'):
            for name, address in PAGES.items():
                current = ' aria-current="page"' if name == page else ""
                with ui.element("a").props(f'href="{address}"{current}'):
                    ui.label(t(f"common.{name}"))
        with ui.element("div").classes("choices"):
            _choice(APPEARANCE_COOKIE, t("common.appearance"), {n: t(f"common.{n}") for n in APPEARANCES}, appearance)
            _choice(LANGUAGE_COOKIE, t("common.language"), LANGUAGES, language)
    with ui.element("main").classes("studio-main").props(f'id="content" tabindex="-1" dir="{direction}"'):
        yield


def _style(name: str) -> str:
    return resources.files("elman.studio").joinpath(name).read_text(encoding="utf-8")


def _choice(cookie: str, label: str, values: dict[str, str], chosen: str) -> None:
    """A plain select that keeps its value in a cookie and loads the page again."""
    items = "".join(
        f'<option value="{html.escape(value)}"{" selected" if value == chosen else ""}>{html.escape(text)}</option>'
        for value, text in values.items()
    )
    name = html.escape(label, quote=True)
    ui.html(f'<select data-cookie="{cookie}" aria-label="{name}">{items}</select>', sanitize=False)


def heading(text: str, lead: str = "") -> None:
    """The page's first line, and one that says what it is for."""
    with ui.element("h1"):
        ui.label(text).props("dir=auto")
    if lead:
        with ui.element("p").classes("lead"):
            ui.label(lead).props("dir=auto")


def subheading(text: str) -> None:
    """The first line of a part of a page."""
    with ui.element("h2"):
        ui.label(text)


@contextmanager
def card(extra: str = "") -> Iterator[Any]:
    """A part of a page in a frame of its own."""
    with ui.element("section").classes(f"card {extra}") as section:
        yield section


def empty_state(title: str, hint: str, *, link: str = "", address: str = "") -> None:
    """There is nothing to show, why, and what to do about it."""
    with card("empty"):
        subheading(title)
        with ui.element("p").classes("soft"):
            ui.label(hint)
        if link:
            ui.link(link, address)


def error_state(t: Translate, error: Exception | str) -> None:
    """Something did not work: what, and what to do, in the words of the error."""
    with card("error"), ui.element("div").props("role=alert"):
        subheading(t("common.went_wrong"))
        with ui.element("p"):
            ui.label(" ".join(str(error).split())).props("dir=auto")


def numbers(figures: dict[str, str], main: str = "") -> dict[str, Any]:
    """Figures under their names; the labels that hold them, by name, so that they can follow."""
    labels = {}
    with ui.element("dl").classes("numbers"):
        for name, value in figures.items():
            with ui.element("div"):
                with ui.element("dt"):
                    ui.label(name)
                with ui.element("dd").classes("main" if name == main else ""):
                    labels[name] = ui.label(value)
    return labels


def on_keys(keys: dict[str, Callable[[], Any]]) -> None:
    """Keys of the whole page, but not while something is typed."""
    ui.keyboard(
        on_key=lambda event: (
            keys[event.key.name]()
            if event.action.keydown and event.key.name in keys and not event.modifiers.ctrl
            else None
        ),
        ignore=["input", "select", "button", "textarea"],
    )


def attribute(text: str) -> str:
    """A text inside the quotes of NiceGUI's props."""
    return text.replace("\\", "").replace('"', "”").replace("\n", " ")

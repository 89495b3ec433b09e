"""The page Inside: what a trained network holds, what moves it and what it remembers, for a text or a series, with linked views."""

from pathlib import Path
from typing import Any

from nicegui import ui

from elman.errors import DataError, ElmanError
from elman.studio.app import Studio
from elman.studio.inside_series import SeriesInside
from elman.studio.inside_text import TextInside
from elman.studio.layout import card, heading
from elman.studio.looking import MOST_CHARACTERS, MOST_STEPS, look_at_series, look_at_text, panel_of, text_for
from elman.text.model import TextModel

CHARACTERS, STEPS = 2000, 500
"""What is looked into to begin with: some pages of text, or three weeks of hours."""


class InsidePage:
    """The choice of a model and of what it is shown, and the views."""

    def __init__(self, studio: Studio) -> None:
        self.studio, self.t = studio, studio.t
        self.model: Any = None
        self.path = Path()

    def build(self) -> None:
        """The choices and an empty place, which is filled once a model is chosen."""
        heading(self.t("common.inside"), self.t("inside.lead"))
        with ui.element("div").classes("inspection"):
            with card():
                self.studio.model_picker(self._chosen)
                self.choices = ui.element("div").classes("fields")
                self.problem = ui.label().classes("problem").props("role=alert")
            self.place = ui.element("div").classes("inspection")

    async def _chosen(self, path: Path, model: Any) -> None:
        """A model was loaded from `path`."""
        self.path, self.model = path, model
        self.choices.clear()
        with self.choices:
            if isinstance(model, TextModel):
                self._build_text_choices()
            else:
                self._build_series_choices()
        await self._look()

    def _build_text_choices(self) -> None:
        t = self.t
        sources = {"held_out": t("inside.source_held_out")} if self.path.is_dir() else {}
        sources |= {"sample": t("inside.source_sample"), "own": t("inside.source_own")}
        self.source = ui.select(sources, value=next(iter(sources)), label=t("inside.source"))
        self.length = ui.number(t("inside.length"), value=CHARACTERS, min=2, max=MOST_CHARACTERS, precision=0)
        self.own = ui.textarea(t("inside.own_text")).props(f"dir=auto maxlength={MOST_CHARACTERS}").classes("own-text")
        self.own.bind_visibility_from(self.source, "value", value="own")
        self.length.bind_visibility_from(self.source, "value", backward=lambda source: source != "own")
        self.button = ui.button(t("inside.look"), on_click=self._look).props("unelevated no-caps")

    def _build_series_choices(self) -> None:
        self.length = ui.number(self.t("inside.rows"), value=STEPS, min=2, max=MOST_STEPS, precision=0)
        self.button = ui.button(self.t("inside.look"), on_click=self._look).props("unelevated no-caps")

    async def _look(self) -> None:
        """Compute and show; what was shown stays until the new views stand."""
        self.problem.text = ""
        self.button.props("loading")
        try:
            views = await self._views()
        except ElmanError as error:
            self.problem.text = str(error)
            return
        finally:
            self.button.props(remove="loading")
        self.place.clear()
        with self.place:
            views.build()

    async def _views(self) -> TextInside | SeriesInside:
        count = int(self.length.value or 0)
        if not isinstance(self.model, TextModel):
            if not self.path.is_dir():
                raise DataError(f"{self.path} is a bundle, which holds no table: choose a run's folder")
            panel = await self.studio.compute(panel_of, self.path)
            return SeriesInside(self.studio, await self.studio.compute(look_at_series, self.model, panel, count))
        text = self.own.value or ""
        if self.source.value != "own":
            text = await self.studio.compute(text_for, self.source.value, self.path, self.model, count)
        look = await self.studio.compute(look_at_text, self.model, text)
        if look.left_out:
            self.problem.text = self.t("inside.unknown", characters=look.left_out)
        return TextInside(self.studio, look)


def page(studio: Studio) -> None:
    """Build the page."""
    InsidePage(studio).build()

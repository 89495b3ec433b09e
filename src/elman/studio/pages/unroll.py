"""The page Unroll: the recurrence as a graph with its numbers, walked forward and backward, with everything changeable (L3, L7)."""

from pathlib import Path
from typing import Any

from nicegui import ui

from elman.errors import DataError, ElmanError
from elman.studio.app import Studio
from elman.studio.layout import card, heading
from elman.studio.looking import panel_of
from elman.studio.unroll_scene import MOST_INPUT, Scene, hello, of_series, of_text
from elman.studio.unroll_walk import Walk
from elman.text.hello import WORD
from elman.text.model import TextModel

STEPS = 6
"""Steps of a series to begin with: as many as can be read at once."""


class UnrollPage:
    """What is unrolled, and the walk through it."""

    def __init__(self, studio: Studio) -> None:
        self.studio, self.t = studio, studio.t
        self.path, self.model = Path(), None
        self.trained = "run" in studio.query
        self.asked = 0

    def build(self) -> None:
        """The choices, and a place for the walk, which is filled at once."""
        t = self.t
        heading(t("common.unroll"), t("unroll.lead"))
        with ui.element("div").classes("inspection"):
            with card():
                self._build_choices()
            self.place = ui.element("div").classes("inspection")
        if not self.trained:
            ui.timer(0, self._begin, once=True)

    def _build_choices(self) -> None:
        t = self.t
        with ui.element("div").classes("fields"):
            names = {False: t("unroll.hello"), True: t("unroll.trained")}
            ui.select(names, value=self.trained, label=t("unroll.subject"), on_change=self._subject_chosen)
            self.text = ui.input(t("unroll.input"), value=WORD, on_change=self._begin)
            self.text.props(f"maxlength={MOST_INPUT} debounce=300 dir=auto")
            self.steps = ui.number(
                t("unroll.steps"), value=STEPS, min=1, max=MOST_INPUT, precision=0, on_change=self._begin
            )
            self.steps.visible = False
            shapes = {False: t("unroll.many_to_many"), True: t("unroll.many_to_one")}
            self.many_to_one = ui.toggle(shapes, value=False, on_change=self._begin)
            self.many_to_one.props(f'role=group aria-label="{t("unroll.shape")}" no-caps')
        self.picker_place = ui.element("div").classes("picker-place")
        if self.trained:
            self._open_picker()
        self.problem = ui.label().classes("problem").props("role=alert")

    def _open_picker(self) -> None:
        with self.picker_place:
            self.studio.model_picker(self._model_chosen)

    async def _subject_chosen(self, event: Any) -> None:
        self.trained = event.value
        if not self.trained:
            self.picker_place.clear()
            self.model = None
            await self._begin()
        else:
            self._open_picker()

    async def _model_chosen(self, path: Path, model: Any) -> None:
        self.path, self.model = path, model
        await self._begin()

    async def _begin(self) -> None:
        """Start anew with what is chosen; what was shown stays until the new walk stands."""
        if self.trained and self.model is None:
            return
        of_numbers = self.model is not None and not isinstance(self.model, TextModel)
        self.steps.visible, self.text.visible = of_numbers, not of_numbers
        self.asked += 1
        mine = self.asked
        try:
            scene = await self.studio.compute(self._scene)
            walk = Walk(self.studio, scene, await self.studio.compute(scene.unroll))
        except ElmanError as error:
            self.problem.text = str(error)
            return
        if mine != self.asked:
            return  # something else was chosen meanwhile, and is on its way
        self.problem.text = ""
        self.place.clear()
        with self.place:
            walk.build()

    def _scene(self) -> Scene:
        text, many_to_one = self.text.value or "", bool(self.many_to_one.value)
        if self.model is None:
            return hello(text, many_to_one=many_to_one)
        if isinstance(self.model, TextModel):
            return of_text(self.model, text, many_to_one=many_to_one)
        if not self.path.is_dir():
            raise DataError(f"{self.path} is a bundle, which holds no table: choose a run's folder")
        return of_series(self.model, panel_of(self.path), int(self.steps.value or 0), many_to_one=many_to_one)


def page(studio: Studio) -> None:
    """Build the page."""
    UnrollPage(studio).build()

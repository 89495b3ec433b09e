"""The walk through an unrolled network as a visitor has it: the picture, the steps, the cell close up, what can be changed."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from nicegui import ui

from elman.errors import ElmanError
from elman.studio.app import Studio
from elman.studio.closeup import cell_step, closeup
from elman.studio.layout import card, subheading
from elman.studio.matrix_view import matrix
from elman.studio.unroll_scene import Scene, Unrolled
from elman.studio.unroll_svg import draw
from elman.studio.unroll_view import Position, number, visible

SLIDER = 3.0
"""How far the slider reaches to both sides: weights and scaled inputs seldom lie beyond; the number field takes any."""

RATE = 0.5
"""The learning rate to begin with: the one with which the lecture's example learns."""

_EMIT_STEP = (
    "(event) => { const step = event.target.closest('[data-step]'); if (step) emit(Number(step.dataset.step)); }"
)
_EMIT_CELL = (
    "(event) => { const cell = event.target.closest('[data-row]'); "
    "if (cell) emit([Number(cell.dataset.row), Number(cell.dataset.column)]); }"
)


class Walk:
    """One visitor's walk: the scene as it began, as it is now, and what is drawn of it."""

    def __init__(self, studio: Studio, scene: Scene, seen: Unrolled) -> None:
        self.studio, self.t = studio, studio.t
        self.first = self.scene = scene
        self.seen = seen
        self.position = Position(scene.steps + 1, scene.steps)
        self.step, self.layer = 1, 0
        self.matrix, self.row, self.column = next(n for n in scene.parameters if n.startswith("W_hh")), 0, 0
        self.listed = ""
        self.updates = 0
        self.setting = self.busy = self.again = False

    def build(self) -> None:
        """The cards, in the element that is open."""
        with card():
            self._build_walk()
        with ui.element("div").classes("two-cards"):
            with card():
                self._build_change()
            with card():
                self._build_learning()
        with card():
            self._build_closeup()
        self._show_all()

    def _build_walk(self) -> None:
        t = self.t
        with ui.element("div").classes("walk-controls").props(f'role=group aria-label="{t("unroll.walk")}"'):
            self._button("first_page", "unroll.first", lambda: self._go(-self.position.last))
            self._button("chevron_left", "unroll.previous", lambda: self._go(-1))
            self._button("chevron_right", "unroll.next", lambda: self._go(1))
            self._button("last_page", "unroll.last", lambda: self._go(self.position.last))
            self.said = ui.label().classes("walk-said").props("aria-live=polite")
        self.picture = ui.html("", sanitize=False).classes("scroll-x picture")
        self.picture.on("click", lambda event: self._choose_step(int(event.args)), js_handler=_EMIT_STEP)
        with ui.element("div").classes("soft small"):
            self.left_out = ui.label()
            ui.label(t("unroll.keys"))
        ui.keyboard(on_key=self._key, ignore=["input", "select", "textarea"])

    def _button(self, icon: str, key: str, act: Callable[[], Any]) -> None:
        ui.button(icon=icon, on_click=act).props(f'flat round aria-label="{self.t(key)}"').tooltip(self.t(key))

    def _build_change(self) -> None:
        t = self.t
        subheading(t("unroll.change"))
        names = list(self.scene.parameters)
        with ui.element("div").classes("fields"):
            self.matrix_field = ui.select(
                names, value=self.matrix, label=t("unroll.matrix"), on_change=self._cell_chosen
            )
            self.row_field = ui.select({}, label=t("unroll.row"), on_change=self._cell_chosen)
            self.column_field = ui.select({}, label=t("unroll.column"), on_change=self._cell_chosen)
            self.value_field = ui.number(label=t("unroll.value"), step=0.1, format="%.4f", on_change=self._value_typed)
        self.value_field.props('input-style="direction: ltr"')
        self.slider = ui.slider(min=-SLIDER, max=SLIDER, step=0.01, on_change=self._value_typed)
        self.slider.props(f'aria-label="{t("unroll.slider")}"')
        self.slider.on("keydown", js_handler="(event) => event.stopPropagation()")  # its arrows move it, not the walk
        self.slope = ui.label().classes("soft small")
        self.matrix_picture = ui.html("", sanitize=False).classes("scroll-x")
        self.matrix_picture.on("click", lambda event: self._choose_cell(*map(int, event.args)), js_handler=_EMIT_CELL)

    def _build_learning(self) -> None:
        t = self.t
        subheading(t("unroll.learn"))
        with ui.element("div").classes("fields"):
            self.rate = ui.number(label=t("unroll.rate"), value=RATE, min=0, step=0.1)
            ui.button(t("unroll.update"), on_click=lambda: self._learn(1)).props("unelevated no-caps")
            ui.button(t("unroll.updates"), on_click=lambda: self._learn(10)).props("outline no-caps")
            ui.button(t("unroll.reset"), icon="restart_alt", on_click=self._reset).props("outline no-caps")
        self.loss = ui.label().classes("headline-number").props("aria-live=polite")
        self.spelled = ui.label().props("dir=auto")
        self.problem = ui.label().classes("problem").props("role=alert")

    def _build_closeup(self) -> None:
        t = self.t
        subheading(t("unroll.closeup"))
        steps = {n: f"{n} · {visible(label)}" for n, label in enumerate(self.scene.labels[: self.scene.steps], 1)}
        with ui.element("div").classes("fields"):
            self.step_field = ui.select(
                steps, value=self.step, label=t("unroll.step"), on_change=lambda event: self._choose_step(event.value)
            )
            layers = {n: t("unroll.layer", layer=n + 1) for n in range(len(self.scene.network.cells))}
            ui.select(layers, value=0, label=t("inside.layer"), on_change=lambda event: self._choose_layer(event.value))
        self.cell = ui.html("", sanitize=False).classes("closeup")

    # What a visitor does ------------------------------------------------------------------------------------------------------

    def _go(self, by: int) -> None:
        self.position = self.position.moved(by)
        self._show_picture()

    def _key(self, event: Any) -> None:
        moves = {"ArrowRight": 1, "ArrowLeft": -1, "Home": -self.position.last, "End": self.position.last}
        if event.action.keydown and event.key.name in moves and not any(event.modifiers):
            self._go(moves[event.key.name])

    def _choose_step(self, step: int) -> None:
        if 1 <= step <= self.scene.steps and step != self.step:
            self.step = step
            self.step_field.value = step
            self._show_picture()

    def _choose_layer(self, layer: int) -> None:
        self.layer = layer
        self._show_closeup()

    def _choose_cell(self, row: int, column: int) -> None:
        self.row, self.column = row, column
        self._show_matrix()

    def _cell_chosen(self) -> None:
        """A field was changed by hand."""
        if self.setting:
            return
        if self.matrix_field.value != self.matrix:
            self.matrix, self.row, self.column = self.matrix_field.value, 0, 0
        else:
            self.row, self.column = self.row_field.value or 0, self.column_field.value or 0
        self._show_matrix()

    def _value_typed(self, event: Any) -> Any:
        """Not a coroutine itself: whether the page or the visitor set the field is known now, not later."""
        return None if self.setting or event.value is None else self._change(float(event.value))

    async def _change(self, value: float) -> None:
        with self._told():
            self.scene = self.scene.changed(self.matrix, self.row, self.column, value)
            await self.follow()

    async def _learn(self, updates: int) -> None:
        with self._told():
            rate = math.nan if self.rate.value is None else float(self.rate.value)
            for _ in range(updates):
                self.scene = self.scene.descended(self.seen.graph, rate)
                self.seen = await self.studio.compute(self.scene.unroll)
                self.updates += 1
            self._show_all()

    async def _reset(self) -> None:
        self.scene, self.updates = self.first, 0
        self.problem.text = ""
        await self.follow()

    # What it shows ------------------------------------------------------------------------------------------------------------

    @contextmanager
    def _told(self) -> Iterator[None]:
        """What a visitor can mend is said where they look."""
        self.problem.text = ""
        try:
            yield
        except ElmanError as error:
            self.problem.text = str(error)

    async def follow(self) -> None:
        """Compute everything anew and show it; while that goes on, only the last of further changes is computed."""
        if self.busy:
            self.again = True
            return
        self.busy = True
        try:
            self.again = True
            while self.again:
                self.again = False
                self.seen = await self.studio.compute(self.scene.unroll)
            self._show_all()
        finally:
            self.busy = False

    def _show_all(self) -> None:
        self._show_picture()
        self._show_matrix()
        self._show_loss()

    def _show_picture(self) -> None:
        view, t = self.seen.view, self.t
        self.picture.content = draw(view, self.position, self.step, t("unroll.picture"))
        self.said.text = self._in_words()
        shown = len(view.units[0])
        words = t("unroll.units_left_out", shown=shown, all=view.hidden_size) if shown < view.hidden_size else ""
        self.left_out.text = words
        self._show_closeup()

    def _in_words(self) -> str:
        t, at = self.t, self.position
        if at.place == 0:
            return t("unroll.at_start")
        if not at.loss:
            return t("unroll.at_forward", step=at.forward, steps=at.steps)
        if not at.backward:
            return t("unroll.at_loss", loss=f"{self.seen.view.total:.4f}")
        if at.backward < at.steps:
            return t("unroll.at_backward", step=at.steps + 1 - at.backward)
        return t("unroll.at_end")

    def _show_closeup(self) -> None:
        slopes = self.seen.slopes(self.step, self.layer) if self.position.has_slope(self.step) else None
        seen = cell_step(self.scene.network, self.scene.xs, self.seen.trace, self.step, self.layer)
        self.cell.content = closeup(seen, self.seen.view.units[self.layer], self.scene.inputs, self.step, slopes)

    def _show_matrix(self) -> None:
        parameter = self.scene.parameters[self.matrix]
        value = round(float(parameter.values[self.row, self.column]), 6)  # as a person would write a float32
        self.setting = True  # the fields are told, and do not tell back
        self.matrix_field.value = self.matrix
        if self.listed != self.matrix:
            self.listed = self.matrix
            self.row_field.set_options(dict(enumerate(parameter.rows)))
            self.column_field.set_options(dict(enumerate(parameter.columns)))
        self.row_field.value, self.column_field.value = self.row, self.column
        if self.value_field.value != value:
            self.value_field.value = value
        self.slider.value = min(max(value, -SLIDER), SLIDER)
        self.setting = False
        self.matrix_picture.content = matrix(
            parameter.values, parameter.rows, parameter.columns, name=self.matrix, chosen=(self.row, self.column)
        )
        slope = self.seen.slope_of(self.matrix, self.row, self.column)
        self.slope.text = "" if slope is None else self.t("unroll.slope", slope=number(slope, 4))

    def _show_loss(self) -> None:
        t = self.t
        self.loss.text = t("unroll.history", count=self.updates, loss=f"{self.seen.view.total:.4f}")
        if self.seen.spelled is not None:
            first = visible(self.scene.labels[0])
            self.spelled.text = t("unroll.spelled", first=first, word=self.seen.spelled)

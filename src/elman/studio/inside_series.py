"""Inside a forecaster: a stretch of the measured curve with a unit beneath it, and what moved the forecast of a chosen time."""

import html
from typing import Any

import numpy as np
from nicegui import ui

from elman.errors import ElmanError
from elman.insight.attribution import CALENDAR, Attribution
from elman.studio.app import Studio
from elman.studio.components import HeatCells, levels
from elman.studio.inside_panels import GatesPanel, MemoryPanel, RankingPanel, TrajectoryPanel
from elman.studio.layout import card, subheading
from elman.studio.looking import SeriesLook
from elman.studio.matrix_view import matrix
from elman.studio.plot_svg import Plot, range_of
from elman.studio.texts import Translate
from elman.studio.unroll_view import number

WIDTH = 900

_EMIT_X = (
    "(event) => { const svg = event.currentTarget.querySelector('svg'); if (!svg) return; "
    "const box = svg.getBoundingClientRect(), scale = svg.viewBox.baseVal.width / box.width, "
    "left = Number(svg.dataset.left), right = Number(svg.dataset.right); "
    "emit(((event.clientX - box.left) * scale - left) / (right - left)); }"
)


class SeriesInside:
    """The views of one stretch of a series, in the element that is open when it is built."""

    def __init__(self, studio: Studio, look: SeriesLook) -> None:
        self.studio, self.t, self.look = studio, studio.t, look
        self.layer, self.unit, self.gate = len(look.sizes) - 1, 0, ""
        self.place = len(look.labels) - 1

    def build(self) -> None:
        """All cards."""
        with card():
            self._build_curve()
        with card():
            self._build_attribution()
        with ui.element("div").classes("two-cards"):
            self.trajectory = TrajectoryPanel(self.studio, self.look, self._move)
            for panel in (
                RankingPanel(self.studio, self.look, self._choose_unit),
                GatesPanel(self.studio, self.look, self._choose_gate),
                MemoryPanel(self.studio, self.look),
                self.trajectory,
            ):
                with card():
                    panel.build()
        self.cells.build([(self.t("unroll.layer", layer=layer), size) for layer, size in enumerate(self.look.sizes, 1)])
        self._draw()
        self._move(self.place)

    def _build_curve(self) -> None:
        t = self.t
        subheading(t("inside.series"))
        with ui.element("div").classes("plot-place wide over"):
            self.curve = ui.html("", sanitize=False)
            self.curve_here = ui.html("", sanitize=False).classes("laid-over")
        self.legend = ui.label().classes("soft small").props("aria-live=polite")
        with ui.element("div").classes("plot-place wide low over"):
            self.below = ui.html("", sanitize=False)
            self.below_here = ui.html("", sanitize=False).classes("laid-over")
        for picture in (self.curve, self.below):
            picture.on("click", lambda event: self._move_to_share(float(event.args)), js_handler=_EMIT_X)
        last = len(self.look.labels) - 1
        self.slider = ui.slider(
            min=0, max=last, step=1, value=last, on_change=lambda event: self._move(int(event.value))
        )
        self.slider.props(f'aria-label="{html.escape(t("inside.time"))}"')
        self.when = ui.label().props("aria-live=polite")
        ui.label(t("inside.states")).classes("soft small")
        self.cells = HeatCells(self._choose_unit)

    def _build_attribution(self) -> None:
        t = self.t
        subheading(t("inside.attribution"))
        self.explain = ui.button(t("inside.attribution_button"), on_click=self._attribute).props("unelevated no-caps")
        self.answer = ui.label().props("aria-live=polite")
        self.columns = ui.html("", sanitize=False).classes("ranking")
        self.lags = ui.html("", sanitize=False).classes("scroll-x")
        self.check = ui.label().classes("soft small")

    # What a visitor does ------------------------------------------------------------------------------------------------------

    def _move_to_share(self, share: float) -> None:
        self._move(round(share * (len(self.look.labels) - 1)))

    def _move(self, place: int) -> None:
        """Look at another step."""
        place = min(max(place, 0), len(self.look.labels) - 1)
        self.place = place
        if self.slider.value != place:
            self.slider.value = place
        curve, below = self._frames()
        for plot, layer in ((curve, self.curve_here), (below, self.below_here)):
            plot.upright(place, "here")
            layer.content = plot.svg("")
        value = float(self.look.measured[place])
        measured = "—" if np.isnan(value) else number(value)
        self.when.text = f"{self.look.labels[place]} · {self.look.target} {measured}"
        self.cells.color([levels(values[place]) for values in self.look.activity.values])
        self.trajectory.mark(place)

    def _choose_unit(self, layer: int, unit: int) -> None:
        if 0 <= layer < len(self.look.sizes) and 0 <= unit < self.look.sizes[layer]:
            self.layer, self.unit, self.gate = layer, unit, ""
            self._draw()

    def _choose_gate(self, gate: str, layer: int, unit: int) -> None:
        self._choose_unit(layer, unit)
        self.gate = gate
        self._draw()

    async def _attribute(self) -> None:
        t = self.t
        self.explain.disable()
        self.answer.text = t("inside.looking")
        try:
            found = await self.studio.compute(self.look.attribution, self.place)
        except ElmanError as error:
            self.answer.text = str(error)
            return
        finally:
            self.explain.enable()
        self.answer.text = t(
            "inside.attribution_words",
            target=self.look.target,
            origin=found.origin,
            forecast=f"{found.forecast:.2f}",
            baseline=f"{found.baseline:.2f}",
        )
        self.columns.content = moved_html(found, t)
        self.lags.content = lags_html(found, t)
        agreement = found.agreement
        self.check.text = "" if np.isnan(agreement) else t("inside.occlusion", correlation=number(agreement))

    # What it shows ------------------------------------------------------------------------------------------------------------

    def _values(self) -> np.ndarray:
        look = self.look
        return look.gate(self.layer, self.gate, self.unit) if self.gate else look.unit(self.layer, self.unit)

    def _frames(self) -> tuple[Plot, Plot]:
        """The two plots without anything in them."""
        t, look = self.t, self.look
        last = max(1, len(look.labels) - 1)
        places = np.unique(np.linspace(0, last, 6).astype(int))
        ticks = [(int(place), look.labels[place]) for place in places[:-1]]
        values = self._values()
        limits = (0.0, 1.0) if self.gate else (min(-1.0, float(values.min())), max(1.0, float(values.max())))
        frame: dict[str, Any] = {"width": WIDTH, "ticks_x": ticks}
        return (
            Plot((0, last), range_of(look.measured), "", look.target, height=260, **frame),
            Plot((0, last), limits, t("inside.time"), t("inside.unit"), height=190, **frame),
        )

    def _draw(self) -> None:
        curve, below = self._frames()
        steps = range(len(self.look.labels))
        curve.line(steps, self.look.measured.tolist(), "first")
        self.curve.content = curve.svg(self.look.target)
        if not self.gate:
            below.level(0.0, "zero")
        below.line(steps, self._values().tolist(), "second")
        where = {"layer": self.layer + 1, "unit": self.unit + 1}
        words = (
            self.t("inside.legend_gate", gate=self.gate, **where)
            if self.gate
            else self.t("inside.legend_unit", **where)
        )
        self.below.content = below.svg(words)
        self.legend.text = words
        self.cells.choose(self.layer, self.unit)


def moved_html(found: Attribution, t: Translate) -> str:
    """The columns and how far each moved the forecast, the strongest first."""
    largest = max((abs(value) for _, value in found.columns), default=0.0) or 1.0
    lines = "".join(
        f"<tr><th scope='row' dir='auto'>{html.escape(_name(name, t))}</th><td dir='ltr'>{number(value, 3)}</td>"
        f"<td><span class='meter {'warm-bar' if value > 0 else 'cool-bar'}'><i style='width:{100 * abs(value) / largest:.0f}%'></i>"
        "</span></td></tr>"
        for name, value in sorted(found.columns, key=lambda pair: -abs(pair[1]))
    )
    heads = "".join(f"<th scope='col'>{html.escape(word)}</th>" for word in (t("inside.column"), t("inside.moved"), ""))
    return f"<table><thead><tr>{heads}</tr></thead><tbody>{lines}</tbody></table>"


def lags_html(found: Attribution, t: Translate) -> str:
    """How far each column moved the forecast from each stretch of lags."""
    caption = matrix(
        found.by_lag, [_name(name, t) for name, _ in found.columns], found.lags, name=t("inside.attribution_x")
    )
    return f"<div>{caption}</div>"


def _name(column: str, t: Translate) -> str:
    """A column as a visitor reads it: the calendar is none of the table's."""
    return t("inside.calendar") if column == CALENDAR else column

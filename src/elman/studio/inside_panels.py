"""Panels that text and series share: memory, the state's path in two dimensions, gates and how often they stand open or closed."""

import html
from collections.abc import Callable
from typing import Any

from nicegui import ui

from elman.errors import ElmanError
from elman.insight.memory import Memory
from elman.insight.units import Ranking, Saturation
from elman.studio.app import Studio
from elman.studio.layout import subheading
from elman.studio.plot_svg import Plot, range_of
from elman.studio.texts import Translate
from elman.studio.unroll_view import number

PATH = 400
"""Steps of a trajectory that are drawn around the one looked at."""

AT_ONCE = 256
"""Units up to which the memory is measured unasked: more take seconds, in which nothing else could be computed."""

TAIL = 12
"""Steps before it whose way is drawn as a line."""

_EMIT_PLACE = (
    "(event) => { const found = event.target.closest('[data-place]'); if (found) emit(Number(found.dataset.place)); }"
)
_EMIT_UNIT = (
    "(event) => { const found = event.target.closest('[data-unit]'); "
    "if (found) emit([Number(found.dataset.layer), Number(found.dataset.unit)]); }"
)


class RankingPanel:
    """Units that follow a feature, with the score on the half on which they were not chosen.

    on_unit: called with the layer and the unit of a click.
    """

    def __init__(self, studio: Studio, look: Any, on_unit: Callable[[int, int], Any]) -> None:
        self.studio, self.t, self.look, self.on_unit = studio, studio.t, look, on_unit

    def build(self) -> None:
        """The choice of a feature, and the place of the table."""
        subheading(self.t("inside.features"))
        names = {name: feature_name(name, self.t) for name in self.look.features}
        if not names:
            ui.label(self.t("inside.feature_absent")).classes("soft")
            return
        first = next(iter(names))
        label = self.t("inside.feature")
        ui.select(names, value=first, label=label, on_change=lambda event: self._rank(event.value))
        self.ranking = ui.html("", sanitize=False).classes("ranking")
        self.ranking.on("click", lambda event: self.on_unit(*map(int, event.args)), js_handler=_EMIT_UNIT)
        self.chance = ui.label().classes("soft small")
        ui.timer(0, lambda: self._rank(first), once=True)

    async def _rank(self, feature: str) -> None:
        try:
            found = await self.studio.compute(self.look.rank, feature)
        except ElmanError as error:
            self.ranking.content, self.chance.text = "", str(error)
            return
        self.ranking.content = ranking_html(found, self.t)
        self.chance.text = self.t("inside.chance", chance=f"{found.chance:.2f}")


def feature_name(name: str, t: Translate) -> str:
    """A feature's name in the visitor's language; a lag with its steps."""
    if name.startswith("lag-"):
        return t("inside.feature-lag", steps=name.removeprefix("lag-"))
    return t(f"inside.feature-{name}")


def ranking_html(found: Ranking, t: Translate) -> str:
    """The units of a ranking as buttons, with their scores."""
    lines = "".join(
        f"<tr><td><button type='button' data-layer='{row.layer}' data-unit='{row.unit}'>{row.layer + 1} · {row.unit + 1}</button>"
        f"</td><td dir='ltr'>{number(row.score)}</td><td dir='ltr'>{number(row.chosen_by)}</td>"
        f"<td><span class='meter'><i style='width:{100 * min(1, abs(row.score)):.0f}%'></i></span></td></tr>"
        for row in found.best
    )
    heads = (t("inside.ranking_unit"), t("inside.ranking_score"), t("inside.ranking_chosen"), "")
    head = "".join(f"<th scope='col'>{html.escape(word)}</th>" for word in heads)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>"


class GatesPanel:
    """How often each unit's gates are nearly closed and nearly open. on_gate: called with the gate, layer and unit of a click."""

    def __init__(self, studio: Studio, look: Any, on_gate: Callable[[str, int, int], Any]) -> None:
        self.t, self.look, self.on_gate = studio.t, look, on_gate

    def build(self) -> None:
        """The choice of a gate and its picture; a word where the cell has none."""
        subheading(self.t("inside.gates"))
        gates = self.look.gates
        if not gates:
            ui.label(self.t("inside.gates_none")).classes("soft")
            return
        self.choice = ui.select(gates, value=gates[0], label=self.t("inside.gate"), on_change=self._show)
        self.picture = ui.html("", sanitize=False).classes("plot-place")
        self.picture.on(
            "click", lambda event: self.on_gate(self.choice.value, *map(int, event.args)), js_handler=_EMIT_UNIT
        )
        self._show()

    def _show(self) -> None:
        self.picture.content = saturation_plot(self.look.saturation(self.choice.value), self.t)


def saturation_plot(found: list[Saturation], t: Translate) -> str:
    """Each unit as a dot: how often its gate is nearly shut, how often nearly open (Karpathy, Johnson & Li 2015, figure 4)."""
    plot = Plot((-0.02, 1.02), (-0.02, 1.02), t("inside.gates_x"), t("inside.gates_y"), width=520, height=380)
    plot.line((0, 1), (1, 0), "third")
    for layer, gate in enumerate(found):
        size = len(gate.mean)
        plot.points(
            gate.shut.tolist(),
            gate.open.tolist(),
            "second" if layer % 2 else "first",
            radius=4.5,
            titles=[f"{layer + 1} · {unit + 1}" for unit in range(size)],
            layer=[layer] * size,
            unit=range(size),
        )
    return plot.svg(t("inside.gates"))


class MemoryPanel:
    """How far back the state remembers: measured when the page stands; of a large network, when a visitor asks for it."""

    def __init__(self, studio: Studio, look: Any) -> None:
        self.studio, self.t, self.look = studio, studio.t, look
        self.button: ui.button | None = None

    def build(self) -> None:
        """Title and places for pictures of a size known before."""
        t = self.t
        subheading(t("inside.memory"))
        self.words = ui.label().props("aria-live=polite")
        self.picture = ui.html("", sanitize=False).classes("plot-place")
        ui.label(t("inside.singular")).classes("soft small")
        self.singular = ui.html("", sanitize=False).classes("plot-place low")
        if sum(self.look.sizes) <= AT_ONCE:
            ui.timer(0, self._measure, once=True)
        else:
            self.button = ui.button(t("inside.memory_button"), on_click=self._measure).props("outline no-caps")

    async def _measure(self) -> None:
        self.words.text = self.t("inside.looking")
        if self.button is not None:
            self.button.disable()
        try:
            found = await self.studio.compute(self.look.memory)
        except ElmanError as error:
            self.words.text = str(error)
            return
        self.words.text = self._in_words(found)
        self.picture.content = self._curve(found)
        self.singular.content = self._singular(found)

    def _in_words(self, found: Memory) -> str:
        """Whether gradients vanish or explode, as they are, and how long a disturbance lasts."""
        t, left = self.t, float(found.norm[-1])
        kind = "vanish" if left < 0.5 else "explode" if left > 2 else "stay"
        said = t(
            f"inside.memory_{kind}", lag=int(found.lags[-1]), left=f"{100 * left:.2g} %" if kind == "vanish" else left
        )
        if found.half_life is None:
            return f"{said} {t('inside.memory_lasting', steps=int(found.lags[-1]))}"
        return f"{said} {t('inside.memory_half_life', steps=found.half_life)}"

    def _curve(self, found: Memory) -> str:
        t = self.t
        low = min(0.5, max(float(found.low.min()), 1e-12))
        plot = Plot(
            (0, float(found.lags[-1])),
            (low, max(2.0, float(found.high.max()))),
            t("inside.memory_x"),
            t("inside.memory_y"),
            log_y=True,
        )
        plot.band(found.lags.tolist(), found.low.tolist(), found.high.tolist(), "spread")
        plot.level(1.0, "zero")
        plot.line(found.lags.tolist(), found.norm.tolist(), "first")
        return plot.svg(t("inside.memory"))

    def _singular(self, found: Memory) -> str:
        t = self.t
        top = max(float(one.singular.max()) for one in found.spectra)
        size = max(len(one.singular) for one in found.spectra)
        plot = Plot(
            (1, max(2, size)), (0, 1.05 * max(1.0, top)), t("inside.singular_x"), t("inside.singular_y"), height=220
        )
        plot.level(1.0, "third")
        kinds = ("first", "second", "soft", "here")
        for place, values in enumerate(one.singular for one in found.spectra):
            plot.line(range(1, len(values) + 1), values.tolist(), kinds[place % len(kinds)])
        names = " ".join(
            f"<span class='key {kinds[place % len(kinds)]}'>{html.escape(name)}</span>"
            for place, name in enumerate(one.name for one in found.spectra)
        )
        return plot.svg(t("inside.singular")) + f"<p class='keys' dir='ltr'>{names}</p>"


class TrajectoryPanel:
    """The top layer's state as a point that moves in its two main directions; a click on a point looks at its step."""

    def __init__(self, studio: Studio, look: Any, on_place: Callable[[int], Any]) -> None:
        self.studio, self.t, self.look, self.on_place = studio, studio.t, look, on_place
        self.found: Any = None
        self.begin = -1

    def build(self) -> None:
        """Title and the picture's place."""
        subheading(self.t("inside.trajectory"))
        self.words = ui.label().classes("soft small")
        with ui.element("div").classes("plot-place over"):
            self.picture = ui.html("", sanitize=False)
            self.here = ui.html("", sanitize=False).classes("laid-over")
        self.picture.on("click", lambda event: self.on_place(int(event.args)), js_handler=_EMIT_PLACE)
        ui.timer(0, self._find, once=True)

    async def _find(self) -> None:
        self.found = await self.studio.compute(self.look.trajectory)
        share = f"{100 * sum(self.found.shares):.0f} %"
        self.words.text = self.t("inside.trajectory_words", layer=len(self.look.sizes), share=share)
        self.mark(0)

    def mark(self, place: int) -> None:
        """Mark the step `place`; the points around it are drawn again only when it has left them."""
        if self.found is None:
            return
        points = self.found.points
        begin = max(0, min(place // (PATH // 2) * (PATH // 2), len(points) - PATH))
        if not self.begin <= place < self.begin + PATH or self.begin < 0:
            self.begin = begin
            plot, part = self._plot(), slice(begin, begin + PATH)
            xs, ys = points[part, 0].tolist(), points[part, 1].tolist()
            numbers = range(begin, begin + len(xs))
            plot.points(xs, ys, "first", radius=3.5, titles=self.look.labels[part], place=numbers)
            self.picture.content = plot.svg(self.t("inside.trajectory"))
        over, near = self._plot(), slice(max(0, place - TAIL), place + 1)
        over.line(points[near, 0].tolist(), points[near, 1].tolist(), "here")
        over.points([float(points[place, 0])], [float(points[place, 1])], "here", radius=7)
        self.here.content = over.svg("")

    def _plot(self) -> Plot:
        first, second = (self.t("inside.component", number=place) for place in (1, 2))
        points = self.found.points
        return Plot(range_of(points[:, 0]), range_of(points[:, 1]), first, second, height=380)

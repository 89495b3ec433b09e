"""Inside a model of text: one text, and all views of it linked. What is pointed at in one shows in the others."""

import html
from typing import Any

import numpy as np
from nicegui import ui

from elman.studio.app import Studio
from elman.studio.components import HeatCells, LinkedText, levels
from elman.studio.inside_panels import GatesPanel, MemoryPanel, RankingPanel, TrajectoryPanel
from elman.studio.layout import card, subheading
from elman.studio.looking import TextLook
from elman.studio.texts import Translate
from elman.studio.unroll_view import visible

COLORS = ("unit", "gate", "surprise", "gradient")
"""What a text can be colored by."""

MOST_SURPRISE = 8.0
"""Nats at which the color of surprise is full: one in three thousand."""


class TextInside:
    """The views of one text, in the element that is open when it is built."""

    def __init__(self, studio: Studio, look: TextLook) -> None:
        self.studio, self.t, self.look = studio, studio.t, look
        self.colored_by, self.layer, self.unit = "unit", len(look.sizes) - 1, 0
        self.gate = look.gates[0] if look.gates else ""
        self.place, self.picked = 0, -1
        self.setting = False

    def build(self) -> None:
        """All cards. What takes longer is computed when they stand."""
        with ui.element("div").classes("text-and-character"):
            with card():
                self._build_text()
            with card():
                self._build_character()
        with ui.element("div").classes("two-cards"):
            self.trajectory = TrajectoryPanel(self.studio, self.look, self._jump)
            for panel in (
                RankingPanel(self.studio, self.look, self._choose_unit),
                GatesPanel(self.studio, self.look, self._choose_gate),
                MemoryPanel(self.studio, self.look),
                self.trajectory,
            ):
                with card():
                    panel.build()
        self.text.show([symbol if symbol == "\n" else visible_in_text(symbol) for symbol in self.look.labels], None)
        self.cells.build([(self.t("unroll.layer", layer=layer), size) for layer, size in enumerate(self.look.sizes, 1)])
        self._recolor()
        self._show_character()

    # The cards ----------------------------------------------------------------------------------------------------------------

    def _build_text(self) -> None:
        t, sizes = self.t, self.look.sizes
        subheading(t("inside.text"))
        with ui.element("div").classes("fields"):
            words = {name: t(f"inside.by_{name}") for name in COLORS if name != "gate" or self.gate}
            self.by_field = ui.select(words, value="unit", label=t("inside.color_by"), on_change=self._settings_changed)
            names = {layer: str(layer + 1) for layer in range(len(sizes))}
            self.layer_field = ui.select(
                names, value=self.layer, label=t("inside.layer"), on_change=self._settings_changed
            )
            self.unit_field = ui.number(
                label=t("inside.unit"),
                value=1,
                min=1,
                max=max(sizes),
                precision=0,
                on_change=self._settings_changed,
            )
            self.gate_field = ui.select(
                self.look.gates,
                value=self.gate or None,
                label=t("inside.gate"),
                on_change=self._settings_changed,
            )
        with ui.element("div").classes("legend-line"):
            self.legend = ui.label().props("aria-live=polite")
            self.scale = ui.html("", sanitize=False)
        self.text = LinkedText(t("inside.text"), self._look_at, self._pick)
        ui.label(t("inside.hint")).classes("soft small")

    def _build_character(self) -> None:
        subheading(self.t("inside.character"))
        self.character = ui.html("", sanitize=False).props("aria-live=polite").classes("character-facts")
        ui.label(self.t("inside.states")).classes("soft small")
        self.cells = HeatCells(self._choose_unit)

    # What a visitor does ------------------------------------------------------------------------------------------------------

    def _look_at(self, place: int) -> None:
        if 0 <= place < len(self.look.labels):
            self.place = place
            self._show_character()
            self.trajectory.mark(place)

    async def _pick(self, place: int) -> None:
        if not 0 <= place < len(self.look.labels):
            return
        self._look_at(place)
        self.picked = place
        self.text.pick(place)
        self.colored_by = "gradient"
        await self._recolor_slowly()

    def _jump(self, place: int) -> None:
        """A point of the trajectory stands for a character."""
        self.text.look_at(place)
        self._look_at(place)

    def _choose_unit(self, layer: int, unit: int) -> None:
        if not (0 <= layer < len(self.look.sizes) and 0 <= unit < self.look.sizes[layer]):
            return
        self.layer, self.unit = layer, unit
        if self.colored_by != "gate":
            self.colored_by = "unit"
        self._recolor()

    def _choose_gate(self, gate: str, layer: int, unit: int) -> None:
        self.colored_by, self.gate = "gate", gate
        self._choose_unit(layer, unit)

    def _settings_changed(self) -> Any:
        """Not a coroutine itself: whether the page or the visitor set a field is known now, not later."""
        return None if self.setting else self._apply_settings()

    async def _apply_settings(self) -> None:
        unit = int(self.unit_field.value or 1) - 1
        self.colored_by, self.gate = self.by_field.value, self.gate_field.value or ""
        self.layer = self.layer_field.value
        self.unit = min(max(unit, 0), self.look.sizes[self.layer] - 1)
        await self._recolor_slowly()

    # What it shows ------------------------------------------------------------------------------------------------------------

    async def _recolor_slowly(self) -> None:
        """As `_recolor`; the gradient of a character is computed first, off the loop."""
        if self.colored_by == "gradient" and self.picked >= 0:
            await self.studio.compute(self.look.gradient, self.picked)
        self._recolor()

    def _recolor(self) -> None:
        t, by = self.t, self.colored_by
        where = {"layer": self.layer + 1, "unit": self.unit + 1}
        ends = (t("inside.low"), t("inside.high"))
        if by == "unit":
            colors, words, ends = (
                levels(self.look.unit(self.layer, self.unit)),
                t("inside.legend_unit", **where),
                ("−1", "+1"),
            )
        elif by == "gate":
            values = 2 * self.look.gate(self.layer, self.gate, self.unit) - 1
            colors, words, ends = levels(values), t("inside.legend_gate", gate=self.gate, **where), ("0", "1")
        elif by == "surprise":
            colors, words = levels(self.look.losses, MOST_SURPRISE), t("inside.legend_surprise")
        elif self.picked < 0:
            colors, words = "", t("inside.legend_gradient_none")
        else:
            slopes = self.look.gradient(self.picked)
            colors, words, ends = levels(slopes, float(np.abs(slopes).max())), t("inside.legend_gradient"), ("−", "+")
        self.legend.text = words
        self.scale.content = scale_html(*ends, signed=by != "surprise")
        self.text.color(colors)
        self.cells.choose(self.layer, self.unit)
        self.layer_field.visible = self.unit_field.visible = by in ("unit", "gate")
        self.gate_field.visible = by == "gate"
        self.setting = True
        self.by_field.value, self.layer_field.value, self.unit_field.value = by, self.layer, self.unit + 1
        self.gate_field.value = self.gate or None
        self.setting = False

    def _show_character(self) -> None:
        self.character.content = character_html(self.look, self.place, self.t)
        self.cells.color([levels(values[self.place]) for values in self.look.activity.values])


def visible_in_text(symbol: str) -> str:
    """A symbol within running text: as it is, and what would show nothing or do something as a sign."""
    return symbol if symbol == " " or symbol.isprintable() else visible(symbol)


def scale_html(low: str, high: str, *, signed: bool) -> str:
    """The colors from the smallest to the largest value."""
    shares = range(-100, 101, 25) if signed else range(0, 101, 12)
    cells = "".join(
        f"<i class='{'warm-cell' if share > 0 else 'cool-cell'}' style='--v:{abs(share)}'></i>" for share in shares
    )
    return f"<span class='scale' dir='ltr'>{html.escape(low)} {cells} {html.escape(high)}</span>"


def character_html(look: TextLook, place: int, t: Translate) -> str:
    """The character at `place`, how it was expected, and what else was."""
    symbol = html.escape(visible(look.labels[place]))
    if place == 0:
        facts = f"<p>{html.escape(t('inside.first_character'))}</p>"
    else:
        share = f"{100 * look.probability(place):.1f} %"
        facts = f"<p>{html.escape(t('inside.probability', share=share))}</p>"
    here = look.labels[place]
    lines = "".join(
        f"<div class='alternative{' it' if other == here else ''}'><b dir='auto'>{html.escape(visible(other))}</b>"
        f"<span class='meter'><i style='width:{100 * chance:.1f}%'></i></span><span dir='ltr'>{100 * chance:.1f} %</span></div>"
        for other, chance in look.alternatives(place)
    )
    heading = f"<p class='soft small'>{html.escape(t('inside.alternatives'))}</p>" if lines else ""
    return f"<div class='big-symbol' dir='auto'>{symbol}</div>{facts}{heading}<div class='alternatives'>{lines}</div>"

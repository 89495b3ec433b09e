"""The page Write: a trained model goes on from a text, and every character of it can be asked what else could have come."""

from pathlib import Path
from typing import Any

import numpy as np
from nicegui import ui

from elman.errors import ElmanError
from elman.studio.app import Studio
from elman.studio.components import LinkedText, levels
from elman.studio.layout import card, heading, subheading
from elman.studio.models import Model
from elman.studio.writing import SHOWN_LENGTH, Stream, Written, look_at
from elman.text.model import TextModel
from elman.text.vocabulary import name_symbols
from elman.training.progress import printable

DRAW_SECONDS = 0.1
MOST_CHARACTERS = 20_000

# (name, start, least, most, step)
NUMBERS = (
    ("length", 600, 1, MOST_CHARACTERS, 100),
    ("temperature", 0.8, 0, 5, 0.1),
    ("top_k", 0, 0, 10_000, 1),
    ("top_p", 1, 0.01, 1, 0.05),
    ("min_p", 0, 0, 1, 0.01),
    ("repetition_penalty", 1, 1, 5, 0.1),
)


class WritePage:
    """The controls, the text as it is made, and what is known of it when it is done."""

    def __init__(self, studio: Studio) -> None:
        self.studio, self.t = studio, studio.t
        self.model: TextModel | None = None
        self.path = Path()
        self.stream: Stream | None = None
        self.written: Written | None = None
        self.text = ""

    def build(self) -> None:
        """Everything stands from the beginning; nothing jumps when a text comes."""
        t = self.t
        heading(t("common.write"), t("write.lead"))
        with card():
            self.studio.model_picker(self._chosen, kind="text")
            self.prime = (
                ui.textarea(t("write.prime")).props("outlined autogrow dir=auto maxlength=20000").classes("w-full")
            )
            with ui.expansion(t("write.controls")).classes("w-full"), ui.element("div").classes("model-picker"):
                self.fields = {name: self._number(name, *rest) for name, *rest in NUMBERS}
                self.stop = ui.input(t("write.stop")).props("outlined dense dir=auto")
                self.seed = ui.number(t("write.seed"), min=0, precision=0).props("outlined dense")
            with ui.element("div").classes("studio-row"):
                self.button = ui.button(t("write.go"), on_click=self._go).props("unelevated no-caps")
                self.halt = ui.button(t("write.halt"), on_click=self._halt).props("outline no-caps")
                self.said = ui.label().classes("soft small").props("role=status")
            self.problem = ui.label().classes("problem").props("role=alert")
            self.button.disable()
            self.halt.disable()
        with card():
            subheading(t("write.text"))
            with ui.element("pre").classes("sample").props("dir=auto tabindex=0").style("height: 24rem") as self.plain:
                self.words = ui.label(t("write.nothing")).style("display: inline")
            self.linked = LinkedText(t("write.text"), self._look, self._look)
            self.linked.set_visibility(False)
            with ui.element("div").classes("studio-row").style("min-height: 3.4rem"):
                choices = {"surprise": t("write.surprise"), "novelty": t("write.novelty")}
                self.coloring = ui.select(choices, value="surprise", label=t("write.color_by"), on_change=self._color)
                self.coloring.props("outlined dense").style("min-width: 16rem")
                self.place = ui.label(t("write.look")).classes("mono").props("role=status")
            self.copied = ui.label().classes("soft").style("min-height: 3rem")
        self.timer = ui.timer(DRAW_SECONDS, self._draw, active=False)
        ui.context.client.on_delete(self._halt)  # nobody is left to read on

    def _number(self, name: str, start: float, least: float, most: float, step: float) -> ui.number:
        return ui.number(self.t(f"write.{name}"), value=start, min=least, max=most, step=step).props("outlined dense")

    def _chosen(self, path: Path, model: Model) -> None:
        assert isinstance(model, TextModel)
        self.path, self.model = path, model
        self.button.enable()

    def _go(self) -> None:
        assert self.model is not None
        prime = self.prime.value or ""
        options: dict[str, Any] = {n: field.value for n, field in self.fields.items() if field.value is not None}
        length = int(options.pop("length", 600))
        options["top_k"] = int(options.get("top_k", 0))
        seed = None if self.seed.value is None else int(self.seed.value)
        unknown = self.model.vocabulary.unknown(prime)
        self.problem.text = self.t("write.unknown", characters=name_symbols(unknown)) if unknown else ""
        try:
            lock = self.studio.shared.computing
            self.stream = Stream(
                self.model, lock, prime, length, {**options, "seed": seed, "stop": self.stop.value or ()}
            )
        except ElmanError as error:
            self.problem.text = " ".join(str(error).split())
            return
        self.text, self.written = "", None
        self.linked.set_visibility(False)
        self.plain.set_visibility(True)
        self.words.text = prime
        self.copied.text, self.place.text = "", self.t("write.look")
        self.button.disable()
        self.halt.enable()
        self.timer.active = True

    def _halt(self) -> None:
        if self.stream is not None:
            self.stream.halted = True

    async def _draw(self) -> None:
        """Take what was made since the last time; look at all of it when it is done."""
        stream = self.stream
        assert stream is not None
        done = stream.done
        self.text += stream.taken()
        self.words.text = printable((self.prime.value or "") + self.text)
        waiting = not stream.count and self.studio.shared.computing.locked()
        speed = round(stream.count / max(stream.seconds, 1e-9))
        self.said.text = self.t("write.busy") if waiting else self.t("write.speed", count=stream.count, speed=speed)
        if not done:
            return
        self.timer.active = False
        self.button.enable()
        self.halt.disable()
        if stream.problem:
            self.problem.text = stream.problem
        if self.text:
            await self._show()

    async def _show(self) -> None:
        assert self.model is not None
        written = await self.studio.compute(look_at, self.model, self.path, self.prime.value or "", self.text)
        self.written = written
        self.linked.show([printable(character) for character in written.characters], None)
        self._color()
        self.plain.set_visibility(False)
        self.linked.set_visibility(True)
        if written.compared is None:
            self.copied.text = self.t("write.no_training_text")
            return
        sample, other = written.compared.sample, written.compared.held_out
        self.copied.text = self.t(
            "write.copied",
            share=round(100 * sample.share(SHOWN_LENGTH)),
            length=SHOWN_LENGTH,
            other="–" if other is None else round(100 * other.share(SHOWN_LENGTH)),
        )

    def _color(self) -> None:
        if self.written is None:
            return
        if self.coloring.value == "surprise":
            self.linked.color(levels(self.written.losses, 6.0))
        else:
            copied = self.written.copied
            self.linked.color(levels(-copied, float(np.max(copied)) or 1.0))

    def _look(self, place: int) -> None:
        """What is known of one character."""
        if self.written is None or not 0 <= place < len(self.written.characters):
            return
        chances = [
            _isolated(f"{printable(_visible(character))} {100 * p:.1f} %")
            for character, p in self.written.alternatives(place)
        ]
        here = printable(_visible(self.written.characters[place]))
        self.place.text = f"{_isolated(here)} ← {self.t('write.alternatives')}: {'  '.join(chances)}"


def _isolated(text: str) -> str:
    """A text whose direction leaves that of its neighbors alone, and theirs its."""
    return f"\u2068{text}\u2069"


def _visible(character: str) -> str:
    return {"\n": "⏎", " ": "␣", "\t": "⇥"}.get(character, character)


def page(studio: Studio) -> None:
    """Build the page."""
    WritePage(studio).build()

"""The studio's own elements: text whose characters are colored and looked at, and the cells of many units."""

import base64
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from nicegui.element import Element


def levels(values: np.ndarray, largest: float = 1.0) -> str:
    """Values as one signed byte each, ±127 for ±`largest`, in base64: what the elements color by. What is missing is 0.

    >>> levels(np.asarray([0.0, 1.0, -2.0]))
    'AH+B'
    """
    scaled = np.nan_to_num(np.asarray(values, float) / (largest or 1.0))
    return base64.b64encode(np.round(127 * np.clip(scaled, -1, 1)).astype(np.int8).tobytes()).decode()


class LinkedText(Element, component="linked_text.js"):
    """A text of up to some ten thousand characters; a hover, an arrow key or a click tells which one is meant.

    on_look: called with the place of the character looked at, at most 25 times a second. on_pick: with that of a click or Enter.
    """

    def __init__(self, label: str, on_look: Callable[[int], Any], on_pick: Callable[[int], Any]) -> None:
        super().__init__()
        self._props["label"], self._props["version"] = label, 0
        self.show((), None)
        self.on("look", lambda event: on_look(int(event.args)))
        self.on("pick", lambda event: on_pick(int(event.args)))

    def show(self, characters: Sequence[str], colors: str | None) -> None:
        """Another text, without anything marked. colors: of `levels`."""
        self._props["characters"] = list(characters)
        self._props["version"] += 1
        self._props["current"], self._props["picked"] = 0, -1
        self.color(colors)

    def color(self, colors: str | None) -> None:
        """The same text in other colors; None: none."""
        self._props["levels"] = colors or ""
        self.update()

    def look_at(self, place: int) -> None:
        """Mark the character that is looked at, as if it were pointed at."""
        self._props["current"] = place
        self.update()

    def pick(self, picked: int) -> None:
        """Mark the character that was chosen; -1: none."""
        self._props["picked"] = picked
        self.update()


class HeatCells(Element, component="heat_cells.js"):
    """The units of some layers as cells, in groups with names; a click or the arrow keys choose one.

    on_pick: called with the layer and the unit, both from 0.
    """

    def __init__(self, on_pick: Callable[[int, int], Any]) -> None:
        super().__init__()
        self._props["groups"], self._props["version"] = [], 0
        self._props["levels"], self._props["chosen"] = "", ""
        self.on("pick", lambda event: on_pick(int(event.args[0]), int(event.args[1])))

    def build(self, groups: Sequence[tuple[str, int]]) -> None:
        """Other cells: name and number of units of each group."""
        self._props["groups"] = [{"name": name, "count": count} for name, count in groups]
        self._props["levels"] = ""
        self._props["version"] += 1
        self.update()

    def color(self, colors: Sequence[str]) -> None:
        """The values of each group, by `levels`."""
        self._props["levels"] = " ".join(colors)
        self.update()

    def choose(self, layer: int, unit: int) -> None:
        """Mark a unit."""
        self._props["chosen"] = f"{layer} {unit}"
        self.update()

"""The unrolled graph as SVG (lecture L3): h_0 -> f_W -> h_1 -> ..., one W for every f_W, outputs, losses, and the gradients back.

Everything has its place from the start; what the walk has not reached yet is drawn empty, so that nothing moves. The colors are
the page's variables. Every text that comes from a model or an input is escaped where it is written.
"""

import html
from collections.abc import Iterator
from dataclasses import dataclass

from elman.studio.unroll_view import LayerStep, Position, Said, StepView, View, number, subscript, visible

COLUMN, LEFT, RIGHT = 252, 168, 150
"""Widths in the picture's units: a step, what stands before the first and behind the last."""

CELL, LINE = 58, 22
"""A cell that holds a number: width and height."""

MOST_WITH_NUMBERS = 6
"""Units whose numbers are written into their cells; more become small cells without."""

_DOT, _DOTS = 14, 4
_F = 56
_LOSS, _SAID = 66, 112


@dataclass(frozen=True)
class _Frame:
    """Where things stand: the tops of the rows, bottom layer last; `bus` is where W runs to every step of a layer."""

    view: View
    position: Position
    chosen: int

    @property
    def cells_height(self) -> int:
        units = len(self.view.units[0])
        return units * LINE if units <= MOST_WITH_NUMBERS else -(-units // _DOTS) * _DOT

    @property
    def layer_height(self) -> int:
        return max(self.cells_height, _F) + 108

    @property
    def said_height(self) -> int:
        return LINE * max(len(step.said) for step in self.view.steps) + 10

    def layer_top(self, layer: int) -> int:
        return _SAID + self.said_height + 52 + (len(self.view.start) - 1 - layer) * self.layer_height

    def middle(self, layer: int) -> float:
        """The height at which a layer's states flow from step to step."""
        return self.layer_top(layer) + max(self.cells_height, _F) / 2

    def bus(self, layer: int) -> int:
        return self.layer_top(layer) + max(self.cells_height, _F) + 28

    @property
    def input_top(self) -> int:
        return self.bus(0) + 46

    @property
    def height(self) -> int:
        return self.input_top + 86

    def left(self, column: int) -> int:
        """The left edge of a column; behind a fold the columns stand one gap further."""
        fold = 70 if self.view.left_out and column >= len(self.view.steps) // 2 else 0
        return LEFT + column * COLUMN + fold

    @property
    def width(self) -> int:
        return self.left(len(self.view.steps) - 1) + COLUMN + RIGHT


def draw(view: View, position: Position, chosen: int, title: str) -> str:
    """The picture with everything that `position` has reached.

    chosen: the number of the step that is marked. title: what a screen reader says of the picture.
    A click can be told by `data-step` of the group it falls into.
    """
    frame = _Frame(view, position, chosen)
    parts = [
        f'<svg class="unrolled" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {frame.width} {frame.height}" '
        f'role="img" style="min-width:{round(frame.width * 0.8)}px; max-width:{frame.width * 2}px">',
        f"<title>{html.escape(title)}</title>",
        "<defs>"
        + "".join(
            f'<marker id="head-{kind}" class="head-{kind}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
            'markerHeight="7" markerUnits="userSpaceOnUse" orient="auto"><path d="M0 0 L8 4 L0 8 z"/></marker>'
            for kind in ("flow", "back")
        )
        + "</defs>",
    ]
    for column, step in enumerate(view.steps):
        parts.append(
            f'<g class="step{" chosen" if step.number == chosen else ""}" data-step="{step.number}">'
            f'<rect class="touch" x="{frame.left(column) + 2}" y="2" width="{COLUMN - 8}" height="{frame.height - 4}" rx="10"/>'
        )
        parts += [*_input(frame, column, step), *_output(frame, column, step)]
        for layer, state in enumerate(step.layers):
            parts += _layer(frame, column, step, layer, state)
        parts.append("</g>")
    parts += [*_starts(frame), *_weights(frame), *_total(frame), *_fold(frame), "</svg>"]
    return "".join(parts)


def _input(frame: _Frame, column: int, step: StepView) -> Iterator[str]:
    """x_t, its one-hot vector or its numbers, and its way into the first f_W."""
    left, top = frame.left(column), frame.input_top
    center = left + 12 + _F / 2
    yield _arrow(center, top, center, frame.middle(0) + _F / 2)
    yield f'<rect class="box" x="{left + 8}" y="{top}" width="{COLUMN - 40}" height="44" rx="8"/>'
    label = visible(step.label) if len(step.label) == 1 else step.label
    yield _text(left + 18, top + 28, f"x{subscript(step.number)}", "name")
    yield _text(left + 46, top + 29, label, "symbol" if len(label) <= 3 else "small", 'unicode-bidi="isolate"')
    numbers = [f"{value:.0f}" if value in (0, 1) else number(value, 1) for value in step.inputs]
    if numbers:
        yield _text(left + COLUMN - 42, top + 28, "[" + " ".join(numbers) + "]", "small end")


def _layer(frame: _Frame, column: int, step: StepView, layer: int, state: LayerStep) -> Iterator[str]:
    """f_W and h_t of one layer: the way forward, and once it came back the gradient with the step's share of dW."""
    left, middle, bus = frame.left(column), frame.middle(layer), frame.bus(layer)
    known, back = frame.position.has_state(step.number), frame.position.has_slope(step.number)
    f_left, h_left = left + 12, left + 100
    center = f_left + _F / 2
    yield _arrow(left - 18, middle, f_left, middle, live=known)
    yield _arrow(f_left + _F, middle, h_left, middle, live=known)
    yield _arrow(center - 14, bus, center - 14, middle + _F / 2)
    if layer > 0:
        below = frame.layer_top(layer - 1)
        bend = bus + 34
        yield (
            f'<path class="flow{" live" if known else ""}" marker-end="url(#head-flow)" '
            f'd="M{h_left + CELL / 2} {below - 26} V{bend} H{center} V{middle + _F / 2}"/>'
        )
    yield f'<rect class="function" x="{f_left}" y="{middle - _F / 2}" width="{_F}" height="{_F}" rx="12"/>'
    yield _text(center - 1, middle + 5, "f", "function-name") + _text(center + 1, middle + 11, "W", "index")
    yield _text(h_left, frame.layer_top(layer) - 8, _state_name(frame, layer, step.number), "name")
    yield from _cells(frame, h_left, layer, state.hidden if known else None, "value")
    if not back:
        return
    yield _text(h_left + CELL + 4, frame.layer_top(layer) - 8, f"∂L/∂h{subscript(step.number)}", "back-name")
    yield from _cells(frame, h_left + CELL + 4, layer, state.slope, "slope")
    width = _weight_of_line(frame, layer, state.slope_norm)
    yield _arrow(h_left, middle + 12, f_left + _F, middle + 12, kind="back", width=width)
    yield _arrow(f_left, middle + 12, left - 18, middle + 12, kind="back", width=width)
    yield _arrow(center - 22, middle + _F / 2, center - 22, bus, kind="back", width=1 + 4 * min(1, abs(state.share)))
    length = 62 * min(1.0, abs(state.share))
    yield (
        f'<rect class="share{" against" if state.share < 0 else ""}" x="{center + 12}" y="{bus + 8}" '
        f'width="{length:.1f}" height="12" rx="2"/>'
    )
    yield _text(center + 18 + length, bus + 19, f"{100 * state.share:.0f} %".replace("-", "−"), "back-value")


def _weight_of_line(frame: _Frame, layer: int, norm: float) -> float:
    largest = max(step.layers[layer].slope_norm for step in frame.view.steps)
    return 1 + 5 * norm / largest if largest > 0 else 1.0


def _cells(frame: _Frame, left: float, layer: int, values: tuple[float, ...] | None, kind: str) -> Iterator[str]:
    """Values as cells, with their numbers where they are few. Full color: 1 for states, the largest of all steps for slopes."""
    units, top = len(frame.view.units[layer]), frame.layer_top(layer)
    largest = 1.0
    if kind == "slope":
        everywhere = (abs(v) for step in frame.view.steps for v in step.layers[layer].slope)
        largest = max(everywhere, default=0.0) or 1.0
    for place in range(units):
        value = None if values is None else values[place]
        fill, sign = (
            ("", "") if value is None else (f' style="--v:{tint(value / largest)}"', " warm" if value > 0 else " cool")
        )
        if units <= MOST_WITH_NUMBERS:
            y = top + place * LINE
            yield f'<rect class="cell {kind}{sign}" x="{left}" y="{y}" width="{CELL}" height="{LINE - 2}" rx="3"{fill}/>'
            if value is not None:
                yield _text(left + CELL / 2, y + 15, number(value), "in-cell")
        else:
            x, y = left + place % _DOTS * _DOT, top + place // _DOTS * _DOT
            yield f'<rect class="cell {kind}{sign}" x="{x}" y="{y}" width="{_DOT - 1}" height="{_DOT - 1}" rx="2"{fill}/>'


def tint(value: float) -> int:
    """How strong the color of a value from -1 to 1 is, in percent; the page's style mixes it.

    >>> tint(0.5), tint(-2.0)
    (50, 100)
    """
    return round(100 * min(1.0, abs(value)))


def _output(frame: _Frame, column: int, step: StepView) -> Iterator[str]:
    """What the head says and what it costs, above the top layer."""
    if not step.said:
        return
    left = frame.left(column) + 100
    top_layer = frame.layer_top(len(step.layers) - 1)
    known, back = frame.position.has_state(step.number), frame.position.loss and frame.position.backward > 0
    center = left + CELL / 2
    yield _arrow(center, top_layer - 24, center, _SAID + frame.said_height, live=known)
    yield f'<rect class="box" x="{left - 4}" y="{_SAID}" width="{2 * CELL + 16}" height="{frame.said_height}" rx="8"/>'
    yield _text(
        left - 10, _SAID + 18, f"{'p' if frame.view.probabilities else 'y'}{subscript(step.number)}", "name end"
    )
    if known:
        for line, said in enumerate(step.said):
            yield from _said(frame, left, _SAID + 5 + line * LINE, said)
    if step.loss is None:
        return
    yield _arrow(center, _SAID, center, _LOSS + 18, live=known)
    yield f'<rect class="loss" x="{left - 4}" y="{_LOSS - 18}" width="{2 * CELL + 16}" height="36" rx="18"/>'
    text = f"L{subscript(step.number)}" + (f" = {step.loss:.3f}" if known else "")
    yield _text(left + CELL + 4, _LOSS + 6, text, "loss-value")
    yield f'<path class="flow{" live" if frame.position.loss else ""}" d="M{left + CELL + 4} {_LOSS - 18} V26"/>'
    if back:
        yield _arrow(center + 14, _LOSS + 18, center + 14, _SAID, kind="back", width=2)
        yield _arrow(center + 14, _SAID + frame.said_height, center + 14, top_layer - 24, kind="back", width=2)


def _said(frame: _Frame, left: float, top: float, said: Said) -> Iterator[str]:
    """One line: symbol, bar, number; the target's is marked."""
    kind = "target" if said.target else "other"
    yield _text(left + 4, top + 15, visible(said.label) if len(said.label) == 1 else said.label, f"said {kind}")
    if not frame.view.probabilities:
        yield _text(left + 2 * CELL + 6, top + 15, number(said.value), f"said end {kind}")
        return
    yield f'<rect class="bar {kind}" x="{left + 26}" y="{top + 4}" width="{48 * said.value:.1f}" height="13" rx="2"/>'
    yield _text(left + 2 * CELL + 6, top + 15, f"{said.value:.2f}", f"said end {kind}")


def _starts(frame: _Frame) -> Iterator[str]:
    """h_0 of each layer."""
    for layer, values in enumerate(frame.view.start):
        left = LEFT - 20 - CELL
        if len(frame.view.units[layer]) > MOST_WITH_NUMBERS:
            left += CELL - _DOTS * _DOT
        yield _text(left, frame.layer_top(layer) - 8, _state_name(frame, layer, 0), "name")
        yield from _cells(frame, left, layer, values, "value")


def _weights(frame: _Frame) -> Iterator[str]:
    """One W for all steps of a layer, with what the steps that came back add up to."""
    for layer in range(len(frame.view.start)):
        bus, name = frame.bus(layer), _weight_name(frame, layer)
        last = frame.left(len(frame.view.steps) - 1) + 12 + _F / 2 - 14
        live = " live" if frame.position.forward else ""
        yield f'<path class="bus{live}" d="M104 {bus} H{last}"/>'
        yield f'<rect class="weight" x="8" y="{bus - 24}" width="96" height="48" rx="10"/>'
        yield _text(56, bus + (7 if not frame.position.backward else -4), name, "weight-name")
        if not frame.position.backward:
            continue
        back = frame.view.shares[layer][-frame.position.backward :]
        yield f'<rect class="share-frame" x="18" y="{bus + 4}" width="76" height="12" rx="2"/>'
        reached = 0.0
        for order, share in enumerate(reversed(back)):
            start, end = sorted((reached, reached + share))
            reached += share
            start, end = max(0.0, start), min(1.0, end)
            if end > start:
                yield (
                    f'<rect class="share{" odd" if order % 2 else ""}" x="{18 + 76 * start:.1f}" y="{bus + 4}" '
                    f'width="{76 * (end - start):.1f}" height="12"/>'
                )
        said = f"Σ d{name} = {100 * reached:.0f} %".replace("-", "−")
        yield _text(8, bus + 42, said, "back-value")


def _total(frame: _Frame) -> Iterator[str]:
    """The total loss L at the end of the line that gathers the losses."""
    with_loss = [frame.left(c) + 104 + CELL for c, step in enumerate(frame.view.steps) if step.loss is not None]
    right = frame.width - RIGHT + 6
    live = " live" if frame.position.loss else ""
    if with_loss:
        yield f'<path class="flow{live}" marker-end="url(#head-flow)" d="M{with_loss[0]} 26 H{right}"/>'
    yield f'<rect class="loss total" x="{right}" y="6" width="{RIGHT - 14}" height="40" rx="20"/>'
    text = f"L = {frame.view.total:.4f}" if frame.position.loss else "L"
    yield _text(right + (RIGHT - 14) / 2, 32, text, "loss-value total")


def _fold(frame: _Frame) -> Iterator[str]:
    """The place where steps are left out, and how many."""
    if frame.view.left_out:
        column = len(frame.view.steps) // 2
        x = frame.left(column) - 47
        yield _text(x, frame.middle(0) - 16, "⋯", "fold") + _text(
            x, frame.middle(0) + 8, f"{frame.view.left_out}", "fold-count"
        )


def _state_name(frame: _Frame, layer: int, step: int) -> str:
    above = (
        "⁽" + str(layer + 1).translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")) + "⁾"
        if len(frame.view.start) > 1
        else ""
    )
    return f"h{subscript(step)}{above}"


def _weight_name(frame: _Frame, layer: int) -> str:
    return "W" if len(frame.view.start) == 1 else f"W{subscript(layer + 1)}"


def _arrow(
    x1: float, y1: float, x2: float, y2: float, *, kind: str = "flow", live: bool = False, width: float = 0
) -> str:
    style = f' style="stroke-width:{width:.1f}"' if width else ""
    return (
        f'<path class="{kind}{" live" if live else ""}"{style} marker-end="url(#head-{kind})" '
        f'd="M{x1:g} {y1:g} L{x2:g} {y2:g}"/>'
    )


def _text(x: float, y: float, text: str, kind: str, more: str = "") -> str:
    return f'<text class="{kind}" x="{x:g}" y="{y:g}" {more}>{html.escape(text)}</text>'

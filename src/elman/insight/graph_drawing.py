"""The unrolled graph as a picture (lecture L3): one W feeds every step, values go up and right, gradients come back.

All places are inches from the lower left corner, so that letters keep their size however many steps there are. A long sequence
folds: its first and its last steps are drawn, and between them stands how many are not.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from elman.insight.coloring import COOL, WARM
from elman.insight.graph import UnrolledGraph

INK, SOFT, PALE, BACK = "#15181b", "#5f6872", "#d8d4cc", "#c2410c"
"""Values and their arrows, words, quiet lines, and everything that belongs to the gradient."""

MOST_STEPS = 7
"""Steps drawn at most; more are folded to the first three and the last three."""

MOST_NUMBERS = 4
"""Units of a layer whose numbers are written; of a larger layer each unit is a small colored cell."""

MOST_SYMBOLS = 5
"""Symbols of an output that are listed."""

PITCH, LEFT, BOX = 2.75, 2.0, 0.78


def graph_figure(graph: UnrolledGraph, labels: Sequence[str], targets: Sequence[str], names: Sequence[str]) -> Any:
    """The graph as a Matplotlib figure.

    labels: what each step reads. targets: the symbol that follows each step (of a forecaster nothing is made of it). names: of the
    outputs: the symbols of a vocabulary, or of a forecaster the rows ahead.
    """
    from matplotlib.figure import Figure

    shown = shown_steps(graph.steps)
    layers, numbered = len(graph.hidden), graph.hidden[0].shape[1] <= MOST_NUMBERS
    lines = _lines(graph, names)
    tall = 0.32 * graph.hidden[0].shape[1] if numbered else 1.15
    floor, storey = 2.55, max(tall, BOX) + 0.95
    roof = floor + layers * storey
    width, height = LEFT + PITCH * len(shown) + 0.3, roof + 0.27 * lines + 1.5
    drawn = Figure(figsize=(width, height), facecolor="white")
    axes = drawn.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(0, height))
    axes.axis("off")
    for layer in range(layers):
        _draw_layer(axes, graph, layer, shown, floor + layer * storey, tall, labels)
    _draw_outputs(axes, graph, shown, (roof - storey + (max(tall, BOX) + tall) / 2, roof, height), targets, names)
    _draw_shares(axes, graph, shown)
    _say(axes, 0.2, height - 0.3, "forward: values", INK, size=13, ha="left")
    _say(axes, 0.2, height - 0.62, "backward: gradients", BACK, size=13, ha="left")
    return drawn


def shown_steps(steps: int) -> list[int | None]:
    """The steps that are drawn; None stands for those between.

    >>> shown_steps(3), shown_steps(20)
    ([0, 1, 2], [0, 1, 2, None, 17, 18, 19])
    """
    if steps <= MOST_STEPS:
        return list(range(steps))
    return [0, 1, 2, None, steps - 3, steps - 2, steps - 1]


def _draw_layer(
    axes: Any,
    graph: UnrolledGraph,
    layer: int,
    shown: list[int | None],
    floor: float,
    tall: float,
    labels: Sequence[str],
) -> None:
    """One layer's row: h_0, then for each step f_W, h_t and dL/dh_t, the bus of W beneath them."""
    hidden, slopes = graph.hidden[layer], graph.d_hidden[layer]
    middle = floor + max(tall, BOX) / 2
    most, steepest = _largest(hidden), _largest(slopes)
    norms = np.linalg.norm(slopes, axis=1)
    bus = floor - 0.42
    mark = "" if len(graph.hidden) == 1 else f"$^{{({layer + 1})}}$"
    _box(axes, 0.25, bus - 0.2, 0.62, 0.4, f"W{mark}", "#fff3d6", size=15)
    last = LEFT + PITCH * (len(shown) - 1) + 0.12
    axes.plot([0.87, last], [bus, bus], color="#b8860b", linewidth=1.6, solid_capstyle="round")
    start = graph.start[layer][: hidden.shape[1]]
    _cells(axes, start, (0.35, middle - tall / 2, 0.62, tall), most)
    _say(axes, 0.66, middle + tall / 2 + 0.16, "$h_0$", INK, size=14)
    for place, step in enumerate(shown):
        left = LEFT + PITCH * place
        before = 0.97 if place == 0 else left - PITCH + BOX + 0.9
        _arrow(axes, (before, middle + 0.12), (left, middle + 0.12), INK, 1.6)
        if step is None:
            _say(axes, left + 0.85, middle + 0.3, "⋯", SOFT, size=26)
            _say(axes, left + 0.85, middle - 0.3, f"{graph.steps - 6:,} more steps", SOFT, size=12)
            continue
        _arrow(axes, (left + 0.12, bus), (left + 0.12, middle - BOX / 2), "#b8860b", 1.6)
        _box(axes, left, middle - BOX / 2, BOX - 0.15, BOX, "$f_W$", "#eef2f6", size=16)
        if layer == 0:
            words = _symbol(labels[step])
            wide = max(0.5, 0.1 * len(words) + 0.15)
            _box(
                axes,
                left + 0.45 - min(wide / 2, 0.45),
                floor - 1.22,
                wide,
                0.44,
                words,
                "#ffffff",
                15 if wide < 1 else 11,
            )
            _arrow(axes, (left + 0.42, floor - 0.78), (left + 0.42, middle - BOX / 2), INK, 1.4)
            beside = left + 0.53 - min(wide / 2, 0.45) + wide
            _say(axes, beside, floor - 1.0, f"$x_{{{step + 1}}}$", SOFT, size=13, ha="left")
        else:
            _arrow(axes, (left + 0.95, floor - 0.5), (left + 0.42, middle - BOX / 2), INK, 1.4)
        block = left + BOX
        _cells(axes, hidden[step], (block, middle - tall / 2, 0.68, tall), most)
        _cells(axes, slopes[step], (block + 0.72, middle - tall / 2, 0.68, tall), steepest, back=True)
        _say(axes, block + 0.34, middle + tall / 2 + 0.16, f"$h_{{{step + 1}}}$", INK, size=14)
        _say(axes, block + 1.06, middle + tall / 2 + 0.16, f"$\\partial L/\\partial h_{{{step + 1}}}$", BACK, size=13)
        if place > 0:
            width = 0.8 + 3.7 * float(norms[step]) / max(float(norms.max()), 1e-30)
            _arrow(axes, (left, middle - 0.14), (left - PITCH + BOX + 1.42, middle - 0.14), BACK, width)


def _draw_outputs(
    axes: Any,
    graph: UnrolledGraph,
    shown: list[int | None],
    heights: tuple[float, float, float],
    targets: Sequence[str],
    names: Sequence[str],
) -> None:
    """y_t and L_t of the steps that have a loss, and L above them all."""
    top, roof, height = heights
    across = LEFT + PITCH * (len(shown) - 1) + BOX + 0.6 if graph.many_to_one else LEFT + PITCH * len(shown) / 2
    total = (across, height - 0.42)
    norms = np.linalg.norm(graph.d_outputs, axis=1)
    high = roof + 0.27 * _lines(graph, names) - 0.02
    for place, step in enumerate(shown):
        if step is None or not graph.counts[step]:
            continue
        left = LEFT + PITCH * place + BOX
        _arrow(axes, (left + 0.14, top + 0.02), (left + 0.14, roof - 0.3), INK, 1.4)
        said = "p" if graph.outputs.ndim == 2 else "y"
        _say(axes, left + 0.04, roof - 0.4, f"${said}_{{{step + 1}}}$", INK, size=13, ha="right")
        width = 0.8 + 3.2 * float(norms[step]) / max(float(norms.max()), 1e-30)
        _arrow(axes, (left + 0.66, roof - 0.3), (left + 0.66, top + 0.3), BACK, width)
        for line, (name, value, share, wanted) in enumerate(_output(graph, step, names)):
            y = roof - 0.12 + 0.27 * (_lines(graph, names) - 1 - line)
            axes.barh(y, 0.62 * share, 0.2, left=left + 0.42, color="#9cc3e6" if not wanted else "#f2b27e")
            weight = "bold" if wanted else "normal"
            _say(axes, left + 0.32, y, name, INK, size=12, ha="right", weight=weight)
            _say(axes, left + 0.46, y, value, INK, size=12, ha="left", weight=weight)
        _box(axes, left - 0.15, high, 1.5, 0.42, f"$L_{{{step + 1}}}$ = {graph.losses[step]:.3f}", "#fdeee4", size=13)
        if graph.outputs.ndim == 2:
            _say(axes, left - 0.3, high + 0.21, f"→ {_symbol(targets[step])}", SOFT, size=13, ha="right")
        axes.plot([left + 0.6, total[0]], [high + 0.42, total[1] - 0.25], color=PALE, linewidth=1.4, zorder=0)
    _box(axes, total[0] - 1.0, total[1] - 0.25, 2.0, 0.5, f"L = {graph.loss:.3f}", "#fbd9c2", size=16)


def _draw_shares(axes: Any, graph: UnrolledGraph, shown: list[int | None]) -> None:
    """Each step's share of the gradient of all weights, as bars that add up to 100 %."""
    shares = graph.shares
    scale = 0.42 / max(float(np.abs(shares).max()), 1e-9)
    base = 0.52
    _say(axes, 0.25, base + 0.3, r"$dW = \sum_t dW_t$", BACK, size=14, ha="left")
    _say(axes, 0.25, base - 0.08, "share of a step", BACK, size=11, ha="left")
    axes.plot([LEFT, LEFT + PITCH * len(shown) - 0.2], [base, base], color=PALE, linewidth=1)
    folded = set(range(graph.steps)) - {step for step in shown if step is not None}
    for place, step in enumerate(shown):
        share = float(shares[sorted(folded)].sum()) if step is None else float(shares[step])
        length = float(np.clip(scale * share, -0.42, 0.42))
        left = LEFT + PITCH * place
        axes.bar(left + 0.42, length, 0.6, bottom=base, color="#e9a06b" if step is not None else PALE)
        _say(axes, left + 0.85, base + 0.16, f"{100 * share:.1f} %", BACK if step is not None else SOFT, 13, ha="left")


def _output(graph: UnrolledGraph, step: int, names: Sequence[str]) -> list[tuple[str, str, float, bool]]:
    """Name, number, length of its bar and whether it is the target, of the outputs that are listed."""
    said = graph.outputs[step]
    if said.ndim == 1:
        chances = np.exp(said - said.max())
        chances = chances / chances.sum()
        target = int(graph.targets[step])
        best = np.argsort(-chances, kind="stable")[:MOST_SYMBOLS]
        listed = list(best) if target in best else [*best[:-1], target]
        if len(names) <= MOST_SYMBOLS:
            listed = sorted(listed)
        return [(_symbol(names[k]), f"{chances[k]:.3f}", float(chances[k]), k == target) for k in listed]
    middle = said[:, said.shape[1] // 2]
    rows = np.unique(np.linspace(0, len(middle) - 1, _lines(graph, names)).astype(int))
    followed = graph.targets[step]
    return [
        (
            names[row],
            f"{middle[row]:+.2f}" + (f" (was {followed[row]:+.2f})" if followed[row] == followed[row] else ""),
            0.0,
            False,
        )
        for row in rows
    ]


def _lines(graph: UnrolledGraph, names: Sequence[str]) -> int:
    return min(len(names), MOST_SYMBOLS)


def _largest(values: np.ndarray) -> float:
    return max(float(np.abs(values).max()), 1e-30)


def _cells(
    axes: Any, values: np.ndarray, place: tuple[float, float, float, float], most: float, *, back: bool = False
) -> None:
    """Units as colored cells: a column with numbers where there are few, else a grid. most: where the color is full."""
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.patches import Rectangle

    left, bottom, width, height = place
    count = len(values)
    columns = 1 if count <= MOST_NUMBERS else int(np.ceil(np.sqrt(count * width / height)))
    rows = -(-count // columns)
    grid = np.full(rows * columns, np.nan)
    grid[:count] = values
    ends = [tuple(part / 255 for part in color) for color in (COOL, WARM)]
    colors = LinearSegmentedColormap.from_list("units", [ends[0], (1, 1, 1), ends[1]])
    axes.imshow(
        grid.reshape(rows, columns),
        extent=(left, left + width, bottom, bottom + height),
        cmap=colors,
        vmin=-most,
        vmax=most,
        aspect="auto",
        interpolation="nearest",
        zorder=2,
    )
    edge = BACK if back else SOFT
    axes.add_patch(Rectangle((left, bottom), width, height, fill=False, edgecolor=edge, linewidth=1, zorder=3))
    axes.set(xlim=(0, axes.figure.get_figwidth()), ylim=(0, axes.figure.get_figheight()))
    if columns == 1:
        for row, value in enumerate(values):
            dark = abs(value) > 0.72 * most
            y = bottom + height * (1 - (row + 0.5) / rows)
            _say(axes, left + width / 2, y, f"{value:+.2f}", "white" if dark else INK, size=12)


def _box(
    axes: Any, left: float, bottom: float, width: float, height: float, words: str, color: str, size: float
) -> None:
    from matplotlib.patches import FancyBboxPatch

    shape = FancyBboxPatch(
        (left + 0.05, bottom + 0.05),
        width - 0.1,
        height - 0.1,
        boxstyle="round,pad=0.05",
        facecolor=color,
        edgecolor=SOFT,
        linewidth=1.1,
        zorder=3,
    )
    axes.add_patch(shape)
    _say(axes, left + width / 2, bottom + height / 2, words, INK, size=size)


def _arrow(axes: Any, begin: tuple[float, float], end: tuple[float, float], color: str, width: float) -> None:
    style = {"arrowstyle": "-|>", "color": color, "linewidth": width, "shrinkA": 0, "shrinkB": 0, "mutation_scale": 14}
    axes.annotate("", xy=end, xytext=begin, arrowprops=style, zorder=1)


def _say(
    axes: Any, x: float, y: float, words: str, color: str, size: float, ha: str = "center", weight: str = "normal"
) -> None:
    axes.text(x, y, words, color=color, fontsize=size, ha=ha, va="center", weight=weight, zorder=5)


def _symbol(words: str) -> str:
    """A symbol as it can be drawn; Matplotlib takes text between dollar signs for a formula."""
    return {"\n": "↵", " ": "␣", "\t": "⇥"}.get(words, words).replace("$", "\\$")

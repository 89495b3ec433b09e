"""One step of a cell close up (lecture L2), and "hello" from the one-hot vector to the update (L7), as equations of real numbers.

An equation is a row of vectors and matrices with signs between them. Small ones show every number; of large ones each number is a
colored cell. Matrices stand as the lecture writes them, to the left of a column.
"""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from elman.insight.coloring import COOL, WARM
from elman.network import CELLS, AbstractCell
from elman.text.hello import Walk

INK, SOFT, BACK = "#15181b", "#5f6872", "#c2410c"

MOST_ROWS, MOST_COLUMNS = 8, 8
"""An array of at most so many rows and columns shows its numbers."""

CELL_WIDTH, CELL_HEIGHT, LARGE = 0.62, 0.34, 1.5
"""Of one number, and the side of a matrix without numbers, in inches."""

Term = str | tuple[str, np.ndarray]
"""A sign between arrays, or an array with its name (in Matplotlib's mathematics)."""

Equation = Sequence[Term]


def cell_figure(cell: AbstractCell, x: np.ndarray, carry: np.ndarray) -> Any:
    """One step of `cell` from `carry` `[carry]` with the input `x` (floats `[inputs]`, or an integer for a one-hot vector)."""
    return equations_figure(cell_equations(cell, x, carry), cell_title(cell))


def cell_title(cell: AbstractCell) -> str:
    """The name of a cell and its size."""
    names: dict[type[AbstractCell], str] = {CELLS["elman"]: "Elman cell", CELLS["gru"]: "Gated recurrent unit"}
    name = names.get(type(cell), "Long short-term memory")
    return f"{name}: {cell.input_size} inputs, {cell.hidden_size} units, one step"


def cell_equations(cell: AbstractCell, x: np.ndarray, carry: np.ndarray) -> list[Equation]:
    """What a step computes, in order, with all its numbers.

    An Elman cell is given in the plain and in the concatenated form. Raises: `TypeError` for a cell of another kind.

        >>> import jax
        >>> cell = CELLS["elman"].create(2, 3, key=jax.random.key(0))
        >>> plain, concatenated = cell_equations(cell, np.ones(2, np.float32), np.zeros(3, np.float32))
        >>> bool(np.allclose(plain[0][1], concatenated[0][1]))
        True
    """
    column = np.asarray(jnp.eye(cell.input_size)[int(x)] if np.ndim(x) == 0 else x)
    after, before = np.asarray(cell.step(jnp.asarray(x), jnp.asarray(carry))), np.asarray(carry)[: cell.hidden_size]
    weights = [np.split(np.asarray(array).T, cell.gate_blocks) for array in (cell.weight_hidden, cell.weight_inputs)]
    biases = np.split(np.asarray(cell.bias), cell.gate_blocks)
    recurrent = jnp.asarray(before) @ cell.weight_hidden
    recurrent = recurrent if cell.bias_hidden is None else recurrent + cell.bias_hidden
    gates = {name: np.asarray(gate) for name, gate in cell.gates(cell.project(jnp.asarray(x)), recurrent).items()}
    state, read = ("$h_{t-1}$", before), ("$x_t$", column)

    def gate(symbol: str, name: str, block: int, function: str) -> Equation:
        hidden, inputs = (f"$W_{{{source}{symbol}}}$" for source in "hx")
        said = (f"${symbol}_t$", gates[name])
        terms = ((hidden, weights[0][block]), state, "+", (inputs, weights[1][block]), read)
        return [said, f"= {function} (", *terms, "+", (f"$b_{symbol}$", biases[block]), ")"]

    if type(cell) is CELLS["elman"]:
        function = getattr(cell, "activation", "tanh")
        bias, new = ("$b$", biases[0]), ("$h_t$", after)
        joined = ("$[h_{t-1}; x_t]$", np.concatenate([before, column]))
        both = ("$W = [W_h, W_x]$", np.concatenate([weights[0][0], weights[1][0]], axis=1))
        plain = (("$W_h$", weights[0][0]), state, "+", ("$W_x$", weights[1][0]), read)
        return [
            [new, f"= {function} (", *plain, "+", bias, ")"],
            [new, f"= {function} (", both, joined, "+", bias, ")"],
        ]
    if type(cell) is CELLS["gru"]:
        candidate = ("$b_{hn}$", np.asarray(cell.bias_hidden)[2 * cell.hidden_size :])
        inner = (("$W_{xn}$", weights[1][2]), read, "+", ("$b_n$", biases[2]), "+", ("$r_t$", gates["reset"]))
        outer = (("$W_{hn}$", weights[0][2]), state, "+", candidate)
        kept, new = ("$z_t$", gates["update"]), ("$n_t$", gates["candidate"])
        return [
            gate("r", "reset", 0, "σ"),
            gate("z", "update", 1, "σ"),
            [new, "= tanh (", *inner, "∘ (", *outer, "))"],
            [("$h_t$", after), "= (1 −", kept, ") ∘", new, "+", kept, "∘", state],
        ]
    if type(cell) is CELLS["lstm"]:
        memory = np.asarray(carry)[cell.hidden_size :]
        hidden, new = after[: cell.hidden_size], ("$c_t$", after[cell.hidden_size :])
        named = {symbol: (f"${symbol}_t$", gates[name]) for symbol, name in zip("ifgo", _LSTM_GATES, strict=True)}
        last: list[Equation] = [
            [new, "=", named["f"], "∘", ("$c_{t-1}$", memory), "+", named["i"], "∘", named["g"]],
            [("$h_t$", hidden), "=", named["o"], "∘ tanh (", new, ")"],
        ]
        functions = ("σ", "σ", "tanh", "σ")
        pairs = zip("ifgo", _LSTM_GATES, functions, strict=True)
        return [*(gate(s, name, block, f) for block, (s, name, f) in enumerate(pairs)), *last]
    raise TypeError(f"no equations are known for {type(cell).__name__}")


_LSTM_GATES = ("input", "forget", "candidate", "output")


def walk_figures(walk: Walk) -> list[Any]:
    """ "hello" as a series of figures: one for each step, from the one-hot vector to the loss; then the update of all weights."""
    weights = {name: np.asarray(values) for name, values in walk.parameters.items()}
    figures, before = [], np.zeros(len(walk.steps[0].hidden))
    for number, step in enumerate(walk.steps, 1):
        hidden, logits, chances = (np.asarray(v) for v in (step.hidden, step.logits, step.probabilities))
        new, read = (f"$h_{number}$", hidden), (f"$x_{number}$", np.asarray(step.one_hot))
        old, output = (f"$h_{number - 1}$", before), (f"$y_{number}$", logits)
        first: Equation = [
            *(new, "= tanh (", ("$W_{hh}$", weights["W_hh"]), old, "+", ("$W_{xh}$", weights["W_xh"]), read),
            *("+", ("$b_h$", weights["b_h"]), ")"),
        ]
        second: Equation = [output, "=", ("$W_{hy}$", weights["W_hy"]), new, "+", ("$b_y$", weights["b_y"])]
        target = walk.vocabulary.index(step.target)
        third: Equation = [
            *((f"$p_{number}$", chances), "= softmax (", output, ")"),
            f"     $L_{number}$ = −log p({step.target}) = −log {chances[target]:.3f} = {step.loss:.3f}",
        ]
        title = f"Step {number}: read {step.character}, foresee {step.target}     (rows of x, y, p: {' '.join(walk.vocabulary)})"
        figures.append(equations_figure([first, second, third], title))
        before = hidden
    rows: list[Equation] = []
    for name, values in weights.items():
        said = f"{name[0]}_{{{name[2:]}}}"
        change = (f"$\\partial L/\\partial {said}$", np.asarray(walk.gradients[name]))
        new = (f"new ${said}$", np.asarray(walk.updated[name]))
        rows.append([new, "=", (f"${said}$", values), f"− {walk.learning_rate:g} ·", change])
    title = f"The update: every weight moves against its gradient, and L falls from {walk.loss:.3f} to {walk.loss_after:.3f}"
    return [*figures, equations_figure(rows, title)]


def equations_figure(equations: Sequence[Equation], title: str) -> Any:
    """Equations below each other, as a Matplotlib figure that is as large as they need."""
    from matplotlib.figure import Figure

    heights = [max(_size(term)[1] for term in equation if not isinstance(term, str)) + 0.75 for equation in equations]
    width = max(sum(_size(term)[0] + 0.12 for term in equation) for equation in equations) + 0.5
    width = max(width, 0.105 * len(title) + 0.4)
    height = sum(heights) + 0.7
    drawn = Figure(figsize=(width, height), facecolor="white")
    axes = drawn.add_axes((0, 0, 1, 1))
    axes.axis("off")
    axes.text(0.25, height - 0.36, title, fontsize=14, color=INK, va="center")
    top = height - 0.7
    for equation, tall in zip(equations, heights, strict=True):
        left, middle = 0.25, top - tall / 2 + 0.14
        for term in equation:
            wide, high = _size(term)
            if isinstance(term, str):
                axes.text(left + wide / 2, middle, term, fontsize=17, color=INK, ha="center", va="center")
            else:
                _draw_array(axes, term[1], (left, middle - high / 2, wide, high))
                color = BACK if "partial" in term[0] else SOFT
                axes.text(
                    left + wide / 2,
                    middle - high / 2 - 0.17,
                    term[0],
                    fontsize=13,
                    color=color,
                    ha="center",
                    va="center",
                )
            left += wide + 0.12
        top -= tall
    axes.set(xlim=(0, width), ylim=(0, height))
    return drawn


def _size(term: Term) -> tuple[float, float]:
    """Width and height in inches."""
    if isinstance(term, str):
        plain = term.replace("$", "").replace("_", "")
        return 0.135 * len(plain) + 0.1, 0.3
    rows, columns = _grid(term[1]).shape
    if rows <= MOST_ROWS and columns <= MOST_COLUMNS:
        return CELL_WIDTH * columns, CELL_HEIGHT * rows
    return (0.4 if columns == 1 else float(np.clip(LARGE * columns / rows, 0.6, 3.5))), LARGE


def _grid(array: np.ndarray) -> np.ndarray:
    return array[:, None] if array.ndim == 1 else array


def _draw_array(axes: Any, array: np.ndarray, place: tuple[float, float, float, float]) -> None:
    """The array as colored cells, with its numbers where they are few."""
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.patches import Rectangle

    grid, (left, bottom, width, height) = _grid(array), place
    most = max(float(np.abs(grid).max()), 1e-30)
    ends = [tuple(part / 255 for part in color) for color in (COOL, WARM)]
    colors = LinearSegmentedColormap.from_list("numbers", [ends[0], (1, 1, 1), ends[1]])
    extent = (left, left + width, bottom, bottom + height)
    axes.imshow(grid, extent=extent, cmap=colors, vmin=-most, vmax=most, aspect="auto", interpolation="nearest")
    axes.add_patch(Rectangle((left, bottom), width, height, fill=False, edgecolor=SOFT, linewidth=1))
    rows, columns = grid.shape
    if rows > MOST_ROWS or columns > MOST_COLUMNS:
        return
    whole = bool(np.all(grid == np.round(grid)))
    for row, column in np.ndindex(rows, columns):
        value = grid[row, column]
        color = "white" if abs(value) > 0.72 * most and most > 1e-20 else INK
        x, y = left + width * (column + 0.5) / columns, bottom + height * (1 - (row + 0.5) / rows)
        words = f"{value:.0f}" if whole else f"{value:+.2f}".replace("-", "−")
        axes.text(x, y, words, fontsize=11.5, color=color, ha="center", va="center")

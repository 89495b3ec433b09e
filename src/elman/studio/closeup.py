"""One step of one layer close up, with its numbers (lecture L2): products, gates, the new state.

An Elman cell small enough is written out as the two equations of the lecture, plain and concatenated, each with its matrices; every
cell as a table with a line for each unit.
"""

import html
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from elman.insight.tracing import Trace
from elman.network import GRU, LSTM, AbstractCell, Network
from elman.studio.matrix_view import matrix, table
from elman.studio.unroll_view import number, subscript

WRITTEN_OUT = (6, 12)
"""An Elman cell with at most so many units and inputs is written out in matrices."""

EQUATIONS: dict[type, tuple[str, ...]] = {
    GRU: (
        "r = σ(W_xr x + W_hr h_{t−1} + b_r)",
        "z = σ(W_xz x + W_hz h_{t−1} + b_z)",
        "n = tanh(W_xn x + b_n + r (W_hn h_{t−1} + b_hn))",
        "h_t = (1 − z) n + z h_{t−1}",
    ),
    LSTM: (
        "i, f, o = σ(W_x x + W_h h_{t−1} + b)",
        "g = tanh(W_xg x + W_hg h_{t−1} + b_g)",
        "c_t = f c_{t−1} + i g",
        "h_t = o tanh(c_t)",
    ),
}
"""What each cell computes, in the letters of its table."""

_GATES: dict[type, dict[str, str]] = {
    GRU: {"reset": "r", "update": "z", "candidate": "n"},
    LSTM: {"input": "i", "forget": "f", "candidate": "g", "output": "o"},
}


@dataclass(frozen=True, eq=False)
class CellStep:
    """One layer at one step. x: its input as a vector; before, after: the packed carry; gates by the letters of the equations.

    projected: x W_x + b; recurrent: h W_h (+ b_h), each `[gates]`.
    """

    cell: AbstractCell
    x: np.ndarray
    projected: np.ndarray
    recurrent: np.ndarray
    gates: dict[str, np.ndarray]
    before: np.ndarray
    after: np.ndarray


def cell_step(network: Network, xs: np.ndarray, traced: Trace, step: int, layer: int) -> CellStep:
    """Layer `layer` (from 0) at step `step` (from 1) of the sequence `xs`, of which `traced` is the trace."""
    cell, at = network.cells[layer], step - 1
    below = jnp.asarray(xs[at])
    for lower in range(layer):
        below = network.layer_output(lower, jnp.asarray(traced.layers[lower].hidden[at]), below)
    own = traced.layers[layer]
    before = own.carry[at - 1] if at else np.zeros_like(own.carry[0])
    recurrent = before[: cell.hidden_size] @ np.asarray(cell.weight_hidden)
    if cell.bias_hidden is not None:
        recurrent = recurrent + np.asarray(cell.bias_hidden)
    x = jax.nn.one_hot(below, cell.input_size) if jnp.issubdtype(below.dtype, jnp.integer) else below
    gates = {letter: own.gates[name][at] for name, letter in _GATES.get(type(cell), {}).items()}
    return CellStep(
        cell, np.asarray(x, float), np.asarray(cell.project(below), float), recurrent, gates, before, own.carry[at]
    )


def closeup(
    seen: CellStep, units: tuple[int, ...], inputs: tuple[str, ...], step: int, slope: tuple[float, ...] | None
) -> str:
    """The step as HTML: equations with matrices where they are small, and the table of the units shown.

    units: the numbers of the units, from 0. inputs: names of the values of x. slope: dL/dh_t of these units, once it is known.
    """
    size = seen.cell.hidden_size
    small = not seen.gates and size <= WRITTEN_OUT[0] and len(seen.x) <= WRITTEN_OUT[1]
    written = _written_out(seen, inputs, step) if small else ""
    equations = "".join(f"<li>{html.escape(line)}</li>" for line in EQUATIONS.get(type(seen.cell), ()))
    equations = f"<ul class='equations' dir='ltr'>{equations}</ul>" if equations else ""
    return f"{written}{equations}<div class='scroll-x'>{_units(seen, units, step, slope)}</div>"


def _written_out(seen: CellStep, inputs: tuple[str, ...], step: int) -> str:
    """h_t = tanh(W [h_{t-1}; x_t] + b) and h_t = tanh(W_hh h_{t-1} + W_xh x_t + b), with all numbers."""
    cell, before = seen.cell, seen.before
    name = getattr(cell, "activation", "tanh")
    old, new, x = f"h{subscript(step - 1)}", f"h{subscript(step)}", f"x{subscript(step)}"
    own = tuple(f"h{unit + 1}" for unit in range(cell.hidden_size))
    w_h, w_x, bias = (np.asarray(w, float).T for w in (cell.weight_hidden, cell.weight_inputs, cell.bias))
    joined = matrix(np.hstack([w_h, w_x]), columns=(*own, *inputs), name="W = [W_hh W_xh]")
    stacked = matrix(np.concatenate([before, seen.x]), name=f"[{old}; {x}]", scale=1.0)
    result = matrix(seen.after, name=new, scale=1.0)
    offset = matrix(bias, name="b_h")
    concatenated = (f"{name}(", joined, "·", stacked, "+", offset, ") =", result)
    plain = (
        f"{name}(",
        matrix(seen.recurrent, name=f"W_hh {old}"),
        "+",
        matrix(seen.projected - bias, name=f"W_xh {x}"),
        "+",
        offset,
        ") =",
        result,
    )
    return "".join(f"<div class='scroll-x'>{_equation(parts)}</div>" for parts in (concatenated, plain))


def _equation(parts: tuple[str, ...]) -> str:
    shown = (part if part.startswith("<") else f"<span class='sign'>{html.escape(part)}</span>" for part in parts)
    return f"<div class='equation'>{''.join(shown)}</div>"


def _units(seen: CellStep, units: tuple[int, ...], step: int, slope: tuple[float, ...] | None) -> str:
    """A line for each unit: what enters, the gates, the old and the new state."""
    size = seen.cell.hidden_size
    old, new = subscript(step - 1), subscript(step)
    columns: dict[str, np.ndarray] = {}
    if not seen.gates:
        columns = {"W_xh x + b": seen.projected, f"W_hh h{old}": seen.recurrent, "Σ": seen.projected + seen.recurrent}
    columns |= seen.gates
    columns[f"h{old}"] = seen.before[:size]
    if seen.cell.carry_blocks == 2:
        columns |= {f"c{old}": seen.before[size:], f"c{new}": seen.after[size:]}
    columns[f"h{new}"] = seen.after[:size]
    rows = []
    for place, unit in enumerate(units):
        row = [str(unit + 1), *(number(float(values[unit]), 3) for values in columns.values())]
        rows.append([*row, *([] if slope is None else [number(slope[place], 4)])])
    return table(["", *columns, *([] if slope is None else [f"∂L/∂h{new}"])], rows)

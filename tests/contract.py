"""What the tests of cells, recurrence and model share: the table of cells, each with its equations in plain NumPy.

One line in `CASES` adds a cell to every contract. The NumPy loops are written from the docstrings' equations, one gate at a time,
and know nothing of how `elman` computes them: they are the slow, obviously right version.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from elman.network import GRU, LSTM, AbstractCell, Elman, to_arrays

INPUTS, HIDDEN = 3, 5

Weights = dict[str, np.ndarray]

# Relative to numbers of size 1. float64: a few dozen roundings of 1.1e-16 each. float32: the same with 6e-8, and the quotient of
# polynomials that stands for tanh adds 3 units in the last place (1.8e-7) per gate.
TOLERANCE = {"float64": 1e-12, "float32": 3e-6}


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def elman_tanh_step(w: Weights, x: np.ndarray, h: np.ndarray) -> np.ndarray:
    return np.tanh(x @ w["weight_inputs"] + h @ w["weight_hidden"] + w["bias"])


def elman_relu_step(w: Weights, x: np.ndarray, h: np.ndarray) -> np.ndarray:
    return np.maximum(x @ w["weight_inputs"] + h @ w["weight_hidden"] + w["bias"], 0)


def gru_step(w: Weights, x: np.ndarray, h: np.ndarray) -> np.ndarray:
    w_xr, w_xz, w_xn = np.split(w["weight_inputs"], 3, axis=1)
    w_hr, w_hz, w_hn = np.split(w["weight_hidden"], 3, axis=1)
    b_r, b_z, b_n = np.split(w["bias"], 3)
    r = sigmoid(x @ w_xr + b_r + h @ w_hr)
    z = sigmoid(x @ w_xz + b_z + h @ w_hz)
    n = np.tanh(x @ w_xn + b_n + r * (h @ w_hn + w["bias_candidate"]))
    return (1 - z) * n + z * h


def lstm_step(w: Weights, x: np.ndarray, carry: np.ndarray) -> np.ndarray:
    h, c = np.split(carry, 2, axis=-1)
    i, f, g, o = np.split(x @ w["weight_inputs"] + h @ w["weight_hidden"] + w["bias"], 4, axis=-1)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return np.concatenate([sigmoid(o) * np.tanh(c), c], axis=-1)


@dataclass(frozen=True)
class Case:
    """A cell, its equations, and the formula of its docstring for the number of parameters."""

    name: str
    kind: type[Elman] | type[GRU] | type[LSTM]
    step: Callable[[Weights, np.ndarray, np.ndarray], np.ndarray]
    parameters: Callable[[int, int], int]
    options: tuple[tuple[str, str], ...] = ()

    def create(self, inputs: int = INPUTS, hidden: int = HIDDEN, *, seed: int = 0, **options: Any) -> AbstractCell:
        """A cell with starting weights."""
        return self.kind.create(inputs, hidden, key=jax.random.key(seed), **dict(self.options), **options)

    def random(self, dtype: str, inputs: int = INPUTS, hidden: int = HIDDEN, *, seed: int = 0) -> AbstractCell:
        """A cell in which every number is drawn, the biases too."""
        # Of shapes only: drawing orthogonal matrices is slow to compile.
        return randomized(jax.eval_shape(lambda: self.create(inputs, hidden, dtype=dtype)), seed)


CASES = [
    Case("elman-tanh", Elman, elman_tanh_step, lambda n, h: h * (n + h + 1), (("activation", "tanh"),)),
    Case("elman-relu", Elman, elman_relu_step, lambda n, h: h * (n + h + 1), (("activation", "relu"),)),
    Case("gru", GRU, gru_step, lambda n, h: 3 * h * (n + h + 1) + h),
    Case("lstm", LSTM, lstm_step, lambda n, h: 4 * h * (n + h + 1)),
]


def randomized(tree: Any, seed: int, scale: float = 0.6) -> Any:
    """The same tree with every array drawn from N(0, scale²)."""
    generator = np.random.default_rng(seed)
    return jax.tree.map(lambda a: jnp.asarray((scale * generator.standard_normal(a.shape)).astype(a.dtype)), tree)


def numpy_unroll(
    case: Case,
    cell: AbstractCell,
    xs: np.ndarray,
    carry: np.ndarray,
    lengths: np.ndarray | None = None,
    recurrent_mask: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Every h and the last carry of a batch [time, batch, inputs], by a plain loop over sequences and steps, in float64.

    A recurrent mask multiplies the h that goes into the product; where the state itself also enters (the GRU's keep), it is whole.
    """
    weights = {name: np.asarray(array, np.float64) for name, array in to_arrays(cell).items()}
    steps, batch = xs.shape[:2]
    hidden = weights["weight_hidden"].shape[0]
    hiddens, lasts = np.zeros((steps, batch, hidden)), np.zeros((batch, carry.shape[-1]))
    for b in range(batch):
        state = np.asarray(carry[b], np.float64)
        step_weights = dict(weights)
        if recurrent_mask is not None:
            # (h * mask) W = h (mask[:, None] * W)
            step_weights["weight_hidden"] = (
                np.asarray(recurrent_mask[b], np.float64)[:, None] * weights["weight_hidden"]
            )
        for t in range(steps):
            if lengths is None or t < lengths[b]:
                state = case.step(step_weights, np.asarray(xs[t, b], np.float64), state)
            hiddens[t, b] = state[:hidden]
        lasts[b] = state
    return hiddens, lasts


def loop_of_steps(
    cell: AbstractCell,
    xs: jax.Array,
    carry: jax.Array,
    lengths: jax.Array | None = None,
    recurrent_mask: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
    """What `unroll` computes, as a Python loop over the cell's own parts: JAX differentiates it by itself."""
    hiddens = []
    for t in range(len(xs)):
        hidden = cell.output(carry)
        if recurrent_mask is None:
            stepped = cell.step(xs[t], carry)
        else:
            recurrent = (hidden * recurrent_mask) @ cell.weight_hidden
            if cell.bias_hidden is not None:
                recurrent = recurrent + cell.bias_hidden
            stepped = cell.combine(cell.project(xs[t]), recurrent, carry)
        carry = stepped if lengths is None else jnp.where((t < lengths)[..., None], stepped, carry)
        hiddens.append(cell.output(carry))
    return jnp.stack(hiddens), carry


def assert_close(actual: Any, expected: Any, tolerance: float, what: str = "value") -> None:
    """Equal shapes, and no difference above `tolerance` relative to the larger of 1 and the expected number."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape, f"{what}: shape {actual.shape}, not {expected.shape}"
    if actual.size == 0:
        return
    difference = np.abs(actual.astype(np.float64) - expected) / np.maximum(1, np.abs(expected))
    # A NaN must not pass: it compares as the largest.
    at = np.unravel_index(np.where(np.isnan(difference), np.inf, difference).argmax(), difference.shape)
    assert difference[at] <= tolerance, (
        f"{what}: largest difference {difference[at]:.3g} > {tolerance:.3g} at {tuple(map(int, at))}: "
        f"{actual[at]!r}, not {expected[at]!r}"
    )


def assert_trees_close(actual: Any, expected: Any, tolerance: float, what: str = "value") -> None:
    """`assert_close` for every leaf, each named by its path."""
    leaves, structure = jax.tree_util.tree_flatten_with_path(actual)
    assert structure == jax.tree.structure(expected), f"{what}: another tree"
    for (path, leaf), other in zip(leaves, jax.tree.leaves(expected), strict=True):
        assert_close(leaf, other, tolerance, what + jax.tree_util.keystr(path))

"""How far back a state remembers: what is left of its gradient after so many steps, and of a disturbance.

The gradient of a state s_T (all layers' carries) by an earlier one is a matrix. Its size is its root mean square singular
value: for vectors v of random signs, E |v ds_T/ds_t|² is the sum of the squares of all of them (Hutchinson 1990).
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from elman.insight.subjects import Subject
from elman.insight.tracing import no_perturbation, perturbed_run, trace
from elman.network import Network
from elman.studio.unroll_view import GATE_LETTERS
from elman.training.engine import precision

LAGS = 100
"""Steps back that are measured, where the sequence has them."""

ENDS, VECTORS = 8, 8
"""Places of the sequence that are looked back from, and random vectors at each."""


@dataclass(frozen=True, eq=False)
class Memory:
    """lags `[n]`; norm: the root mean square singular value of ds_T/ds_t, its geometric mean over the places; low, high: the least
    and the most of them. half_life: steps after which the median difference of a state set to zero is below half; None: not within
    the lags. singular: by layer and gate block the singular values of W_hh, largest first.
    """

    lags: np.ndarray
    norm: np.ndarray
    low: np.ndarray
    high: np.ndarray
    half_life: int | None
    singular: list[tuple[str, np.ndarray]]


def memory(subject: Subject) -> Memory:
    """Measure a subject's network over its own sequence."""
    network, xs = subject.network, subject.xs
    lags = min(LAGS, max(1, len(xs) // 2))
    ends = np.unique(np.linspace(lags, len(xs) - 1, ENDS).astype(int))
    with precision(subject.dtype):
        begins = [end - lags for end in ends]
        carries = [
            trace(network, xs[:begin]).carry if begin else np.asarray(network.initial_carry()) for begin in begins
        ]
        keys = jax.random.split(jax.random.key(0), len(ends))
        norms, faded = [], []
        for begin, carry, key in zip(begins, carries, keys, strict=True):
            piece = xs[begin : begin + lags + 1]
            norms.append(np.asarray(_norms(network, jnp.asarray(piece), jnp.asarray(carry), key)))
            faded.append(_faded(network, piece, carry))
    measured = np.maximum(np.stack(norms)[:, ::-1], 1e-30)
    below = np.flatnonzero(np.median(np.stack(faded), axis=0) < 0.5)
    singular = [
        (f"{layer} {letter}".strip(), np.linalg.svd(np.asarray(block, np.float64), compute_uv=False))
        for layer, cell in enumerate(network.cells, 1)
        for letter, block in zip(
            GATE_LETTERS.get(type(cell), ("",)),
            np.split(np.asarray(cell.weight_hidden), cell.gate_blocks, axis=1),
            strict=True,
        )
    ]
    return Memory(
        np.arange(lags + 1),
        np.exp(np.log(measured).mean(axis=0)),
        measured.min(axis=0),
        measured.max(axis=0),
        int(below[0]) + 1 if len(below) else None,
        singular,
    )


@jax.jit
def _norms(network: Network, xs: jax.Array, carry: jax.Array, key: jax.Array) -> jax.Array:
    """The root mean square singular value of ds_T/ds_t for every t, T the last step."""

    def last(added: Any) -> jax.Array:
        return jnp.concatenate([carries[-1] for carries in perturbed_run(network, xs, carry, added).carries])

    state, backward = jax.vjp(last, no_perturbation(network, len(xs)))
    signs = jax.random.rademacher(key, (VECTORS, len(state)), state.dtype)
    slopes = jax.vmap(lambda sign: backward(sign)[0].carry)(signs)
    squares = sum((slope * slope).sum(axis=2) for slope in slopes)
    return jnp.sqrt(squares.mean(axis=0) / len(state))


def _faded(network: Network, xs: np.ndarray, carry: np.ndarray) -> np.ndarray:
    """What is left, after each step, of the difference that a state set to zero makes, as a share of the state: `[time]`."""
    with_state, without = (trace(network, xs, start) for start in (carry, np.zeros_like(carry)))
    differences = sum(
        ((one.carry - other.carry) ** 2).sum(axis=1)
        for one, other in zip(with_state.layers, without.layers, strict=True)
    )
    return np.sqrt(differences) / max(float(np.linalg.norm(carry)), 1e-30)

"""How far back a state remembers: what is left of its gradient after so many steps, of a disturbance, and why.

The gradient of a state s_T (all layers' carries) by an earlier one is a product of one matrix for each step (Pascanu, Mikolov &
Bengio 2013, equation 5). Its size is told by its root mean square singular value, how much a disturbance in a random direction
shrinks or grows, and by its largest one, the most that any direction does. Both come from the whole matrix up to `EXACT`
numbers of state; above, the first is estimated: for vectors v of random signs E |v ds_T/ds_t|² is the sum of the squares of all
singular values (Hutchinson 1990), and the second is left out.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from elman.insight.subjects import Subject
from elman.insight.tracing import trace
from elman.network import CELLS, AbstractCell, Network
from elman.training.engine import precision

LAGS = 100
"""Steps back that are measured, where the sequence has them."""

ENDS, VECTORS = 8, 16
"""Places of the sequence that are looked back from, and random vectors at each where the matrix is too large."""

EXACT = 256
"""Numbers of state up to which whole matrices are looked at."""

SMALL = 1e-2
"""Size of a small disturbance, as a share of the state's own."""

GATE_LETTERS: dict[type, tuple[str, ...]] = {CELLS["gru"]: ("r", "z", "n"), CELLS["lstm"]: ("i", "f", "g", "o")}


@dataclass(frozen=True, eq=False)
class Spectrum:
    """One gate's block of a layer's W_hh: its singular values, largest first, and the largest size of an eigenvalue."""

    name: str
    singular: np.ndarray
    radius: float


@dataclass(frozen=True, eq=False)
class Memory:
    """What `memory` measured.

    lags: `[n]`, 0 to the longest. norm: the root mean square singular value of ds_T/ds_t at each lag, its geometric mean over the
    places; low, high: the least and the most of them. largest: the largest singular value, likewise; None where it was too much
    to compute. half_life: steps after which the difference that a replaced state (zeros) makes stays below half, in the median of
    the places; small_half_life: that of a small disturbance; None: not within the lags. spectra: by layer and gate.
    """

    lags: np.ndarray
    norm: np.ndarray
    low: np.ndarray
    high: np.ndarray
    largest: np.ndarray | None
    half_life: int | None
    small_half_life: int | None
    spectra: list[Spectrum]

    @property
    def per_step(self) -> float:
        """By what a step multiplies a gradient, in the geometric mean over the lags."""
        return float((self.norm[-1] / self.norm[0]) ** (1 / max(1, len(self.norm) - 1)))

    @property
    def verdict(self) -> str:
        """Whether gradients vanish, explode or hold, in one word."""
        last = float(self.norm[-1] / self.norm[0])
        return "vanish" if last < 0.1 else "explode" if last > 10 else "hold"


def memory(subject: Subject, *, lags: int = LAGS) -> Memory:
    """Measure a subject's network over its own sequence.

    lags: steps back at most; a shorter sequence is looked back over half of its length.

    Raises: `ValueError` for fewer than two steps, or less than one lag.
    """
    network, xs = subject.network, subject.xs
    if len(xs) < 2 or lags < 1:
        raise ValueError("memory needs two steps and one lag at least")
    lags = min(lags, max(1, len(xs) // 2))
    ends = np.unique(np.linspace(lags, len(xs) - 1, ENDS).astype(int))
    norms, largest, replaced, disturbed = [], [], [], []
    with precision(subject.dtype):
        seen = trace(network, xs)
        carries = np.stack([layer.carry for layer in seen.layers], axis=1)
        for number, end in enumerate(ends.tolist()):
            states, piece, key = carries[end - lags : end], xs[end - lags + 1 : end + 1], jax.random.key(number)
            norm, most = _norms(network, piece, states, key)
            norms.append(norm)
            largest.append(most)
            replaced.append(_left(network, piece, states[0], -states[0]))
            direction = np.asarray(jax.random.normal(key, states[0].shape, states.dtype))
            small = direction * SMALL * np.linalg.norm(states[0]) / max(float(np.linalg.norm(direction)), 1e-30)
            disturbed.append(_left(network, piece, states[0], small))
    measured = np.maximum(np.stack(norms), 1e-30)
    known = [most for most in largest if most is not None]
    whole = _geometric(np.maximum(np.stack(known), 1e-30)) if known else None
    return Memory(
        np.arange(lags + 1),
        _geometric(measured),
        measured.min(axis=0),
        measured.max(axis=0),
        whole,
        half_life(np.median(np.stack(replaced), axis=0)),
        half_life(np.median(np.stack(disturbed), axis=0)),
        spectra(network),
    )


def half_life(left: np.ndarray) -> int | None:
    """Steps after which `left` (a share for each step, the first after one step) is below half for good; None: it never is.

    >>> half_life(np.array([0.9, 0.4, 0.6, 0.3])), half_life(np.array([0.9]))
    (4, None)
    """
    above = np.flatnonzero(~(left < 0.5))
    last = int(above[-1]) if len(above) else -1
    return None if last == len(left) - 1 else last + 2


def spectra(network: Network) -> list[Spectrum]:
    """Singular values and spectral radius of every gate's block of W_hh."""
    found = []
    for layer, cell in enumerate(network.cells, 1):
        blocks = np.split(np.asarray(cell.weight_hidden, np.float64), cell.gate_blocks, axis=1)
        for letter, block in zip(gate_letters(cell), blocks, strict=True):
            radius = float(np.abs(np.linalg.eigvals(block)).max())
            found.append(Spectrum(f"{layer} {letter}".strip(), np.linalg.svd(block, compute_uv=False), radius))
    return found


def gate_letters(cell: AbstractCell) -> tuple[str, ...]:
    """What the blocks of a cell's weights are called, in their order; one empty name for a cell without gates."""
    return GATE_LETTERS.get(type(cell), ("",))


def _geometric(values: np.ndarray) -> np.ndarray:
    return np.exp(np.log(values).mean(axis=0))


def _norms(
    network: Network, xs: np.ndarray, states: np.ndarray, key: jax.Array
) -> tuple[np.ndarray, np.ndarray | None]:
    """The root mean square and the largest singular value of ds_T/ds_t by lag, T behind the last step of `xs`."""
    size = states[0].size
    if size > EXACT:
        signs = jax.random.rademacher(key, (VECTORS, size), states.dtype)
        rows = np.asarray(_rows(network, jnp.asarray(xs), jnp.asarray(states), signs))
        return np.sqrt((rows**2).sum(axis=2).mean(axis=1) / size), None
    every = jnp.eye(size, dtype=states.dtype)
    matrices = np.asarray(_rows(network, jnp.asarray(xs), jnp.asarray(states), every))
    return np.sqrt((matrices.astype(np.float64) ** 2).sum(axis=(1, 2)) / size), largest_singular_values(matrices)


def largest_singular_values(matrices: np.ndarray) -> np.ndarray:
    """Of each of many square matrices `[count, size, size]`: the root of the largest eigenvalue of M Mᵀ.

    Eight times as fast as their decomposition, and for the largest one as exact: M is scaled first, so that nothing is lost of
    small matrices.

        >>> float(largest_singular_values(np.diag([3.0, 1.0])[None])[0])
        3.0
    """
    sizes = np.maximum(np.abs(matrices).max(axis=(1, 2), keepdims=True), 1e-30).astype(np.float64)
    scaled = matrices / sizes
    squares = np.linalg.eigvalsh(scaled @ scaled.transpose(0, 2, 1))[:, -1]
    return sizes[:, 0, 0] * np.sqrt(np.maximum(squares, 0))


@jax.jit
def _rows(network: Network, xs: jax.Array, states: jax.Array, vectors: jax.Array) -> jax.Array:
    """v ds_T/ds_t for each vector v and lag, `[lags, vectors, state]`; states: those before the steps, `[time, layers, carry]`.

    One step's matrix after the other, from the last to the first, without ever making one of them.
    """

    def step(state: jax.Array, x: jax.Array) -> jax.Array:
        return jnp.stack(network.step(x, tuple(state))[1])

    def back(rows: jax.Array, at: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        x, state = at
        _, pull_back = jax.vjp(lambda state: step(state, x), state)
        rows = jax.vmap(lambda row: pull_back(row)[0])(rows)
        return rows, rows

    first = vectors.reshape(-1, *states.shape[1:])
    _, found = lax.scan(back, first, (xs, states), reverse=True)
    return jnp.concatenate([first[None], found[::-1]]).reshape(len(xs) + 1, len(vectors), -1)


def _left(network: Network, xs: np.ndarray, carry: np.ndarray, disturbance: np.ndarray) -> np.ndarray:
    """What is left, after each step, of a disturbance of the state, as a share of its size: `[time]`."""
    one, other = (trace(network, xs, start) for start in (carry, carry + disturbance))
    squares: np.ndarray = sum(
        ((a.carry - b.carry) ** 2).sum(axis=1) for a, b in zip(one.layers, other.layers, strict=True)
    )
    return np.sqrt(squares) / max(float(np.linalg.norm(disturbance)), 1e-30)

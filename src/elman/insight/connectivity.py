"""What moved the probability of a symbol: the gradient with respect to each symbol before it, times that symbol."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from elman.insight.tracing import no_perturbation, perturbed_run
from elman.network import Network

WIDEST = 256
"""Symbols back that a symbol's gradient is followed: beyond, nothing could be seen."""


def what_moved(network: Network, codes: np.ndarray, place: int) -> np.ndarray:
    """Gradient x input of log p(codes[place]) for each symbol before it, `[time]`; 0 from `place` on.

    How far the log-probability would fall, to first order, if the symbol's one-hot vector were taken away (Simonyan et al. 2013).
    The `WIDEST` symbols before it are looked at, from a state of zeros.
    """
    result = np.zeros(len(codes), np.float32)
    first = max(0, place - WIDEST)
    if place == 0:
        return result
    size = 1 << (place - first - 1).bit_length()
    seen = np.zeros(size + 1, np.int32)
    seen[: place - first + 1] = codes[first : place + 1]
    found = _moved(network, jnp.asarray(seen), place - first)
    result[first:place] = np.asarray(found)[: place - first]
    return result


@jax.jit
def _moved(network: Network, codes: jax.Array, place: jax.Array) -> jax.Array:
    xs = codes[:-1]

    def chance(added: Any) -> jax.Array:
        run = perturbed_run(network, xs, network.initial_carry(), added)
        return -network.head.loss(run.top[place - 1], codes[place])

    slopes = jax.grad(chance)(no_perturbation(network, len(xs)))
    return (slopes.projected[0] * network.cells[0].weight_inputs[xs]).sum(axis=1)

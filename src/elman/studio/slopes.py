"""Gradients of a few steps by themselves, as the pages show them: every step's share of dW (lecture L3), and what moved a symbol.

All of them come from one run with a zero added at every step (`insight.tracing.perturbed_run`): the gradients with respect to these
zeros are those of each step.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from elman.insight.tracing import no_perturbation, perturbed_run
from elman.network import Network

WIDEST = 256
"""Symbols back that a symbol's gradient is followed: beyond, nothing could be seen."""


@dataclass(frozen=True, eq=False)
class UnrolledGraph:
    """A network over some steps, forward and back.

    hidden, d_hidden: by layer `[time, hidden]`, h and the gradient of the loss with respect to it. outputs: of the head
    `[time, ...]`. losses `[time]`, 0 where none counts; loss: their sum. shares: by layer `[time]`, the part of dW (W_x, W_h and b
    together) that each step adds, <dW_t, dW> / |dW|²; they sum to 1. gradient: of all weights, shaped as the network.
    """

    hidden: tuple[np.ndarray, ...]
    d_hidden: tuple[np.ndarray, ...]
    outputs: np.ndarray
    losses: np.ndarray
    loss: float
    shares: tuple[np.ndarray, ...]
    gradient: Network


def unrolled_graph(
    network: Network, xs: np.ndarray, targets: np.ndarray, *, many_to_one: bool = False
) -> UnrolledGraph:
    """Run forward and back over `xs`. many_to_one: only the last step's loss counts.

    Of a forecaster's loss, the mean over the horizons that are known (not NaN).
    """
    counts = np.ones(len(xs), bool)
    counts[:-1] = not many_to_one
    loss, losses, gradient, hidden, d_hidden, outputs, shares = _unrolled(
        network, jnp.asarray(xs), jnp.asarray(targets), jnp.asarray(counts)
    )
    arrays = ([np.asarray(a) for a in each] for each in (hidden, d_hidden, shares))
    states, slopes, parts = map(tuple, arrays)
    return UnrolledGraph(states, slopes, np.asarray(outputs), np.asarray(losses), float(loss), parts, gradient)


@jax.jit
def _unrolled(network: Network, xs: jax.Array, targets: jax.Array, counts: jax.Array) -> tuple[Any, ...]:
    start = network.initial_carry()

    def total(network: Network, added: Any) -> tuple[jax.Array, tuple[Any, ...]]:
        run = perturbed_run(network, xs, start, added)
        losses = _losses(network, run.top, targets)
        losses = jnp.where(counts, losses, 0)
        return losses.sum(), (losses, run)

    zeros = no_perturbation(network, len(xs))
    slope = jax.value_and_grad(total, argnums=(0, 1), has_aux=True)
    (loss, (losses, run)), (gradient, added) = slope(network, zeros)
    hidden = [cell.output(carries) for cell, carries in zip(network.cells, run.carries, strict=True)]
    d_hidden = [cell.output(slopes) for cell, slopes in zip(network.cells, added.carry, strict=True)]
    shares = []
    for layer, cell in enumerate(network.cells):
        before = jnp.concatenate([cell.output(start[layer])[None], hidden[layer][:-1]])
        whole = gradient.cells[layer]
        projected, recurrent, below = added.projected[layer], added.recurrent[layer], run.inputs[layer]
        # <a (outer) G, dW> = G · (a dW), so that no step's own matrix is ever made.
        along = (projected * (cell_input(below, whole.weight_inputs) + whole.bias)).sum(axis=1)
        along += (recurrent * (before @ whole.weight_hidden)).sum(axis=1)
        length = sum((g * g).sum() for g in (whole.weight_inputs, whole.weight_hidden, whole.bias))
        shares.append(along / jnp.maximum(length, 1e-30))
    return loss, losses, gradient, hidden, d_hidden, network.head(run.top), shares


def cell_input(below: jax.Array, weight: jax.Array) -> jax.Array:
    """x W for vectors, or for integers that stand for one-hot vectors."""
    return weight[below] if jnp.issubdtype(below.dtype, jnp.integer) else below @ weight


def _losses(network: Network, top: jax.Array, targets: jax.Array) -> jax.Array:
    """The loss of each step; a horizon that is not known does not reach the arithmetic."""
    if jnp.issubdtype(targets.dtype, jnp.integer):
        return network.head.loss(top, targets)
    known = ~jnp.isnan(targets)
    losses = jnp.where(known, network.head.loss(top, jnp.where(known, targets, 0)), 0)
    return losses.sum(axis=-1) / jnp.maximum(known.sum(axis=-1), 1)


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

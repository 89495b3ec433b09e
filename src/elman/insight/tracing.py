"""What a network holds at every step: the states, carries and gates of each layer, and a recurrence that shows its gradients.

`trace` runs the product's own recurrence, piece by piece, and works out everything else from its states: with all h known, the
pre-activations of all steps are one product. `perturbed_run` is the same network as a plain loop that adds a zero to each
pre-activation and each state; the gradients with respect to these zeros are those of every step by itself (lecture L3).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from elman.network import AbstractCell, Network, unroll

PIECE = 1024
"""Steps that are traced in one compiled call; a shorter sequence is filled up to a power of two, so that few programs are made."""


@dataclass(frozen=True, eq=False)
class LayerTrace:
    """One layer at every step: h `[time, hidden]`, the packed carry `[time, carry]`, each gate `[time, hidden]` by name."""

    hidden: np.ndarray
    carry: np.ndarray
    gates: dict[str, np.ndarray]

    @property
    def memory(self) -> np.ndarray:
        """What the layer keeps to itself, `[time, hidden]`: an LSTM's c, and h for the others."""
        return self.carry[:, -self.hidden.shape[1] :]


@dataclass(frozen=True, eq=False)
class Trace:
    """All layers at every step, bottom first, and `top` `[time, hidden]`: what is handed to the head."""

    layers: tuple[LayerTrace, ...]
    top: np.ndarray

    @property
    def carry(self) -> np.ndarray:
        """The carry after the last step, `[layers, carry]`: what the next piece goes on from."""
        return np.stack([layer.carry[-1] for layer in self.layers])


def trace(network: Network, xs: np.ndarray, carry: np.ndarray | None = None) -> Trace:
    """Run `network` over one sequence and keep everything.

    xs: integers `[time]` that stand for one-hot vectors, or floats `[time, inputs]`. carry: `[layers, carry]`; None: zeros.
    The numbers are those of the product's own run. Memory: about 4 (hidden + carry + gates) bytes per step and layer.

        >>> import jax
        >>> from elman.config import NetworkSettings
        >>> network = Network.create(NetworkSettings(cell="lstm", hidden=8), 5, 5, key=jax.random.key(0))
        >>> seen = trace(network, np.array([0, 1, 2, 3]))
        >>> seen.layers[0].hidden.shape, sorted(seen.layers[0].gates)
        ((4, 8), ['candidate', 'forget', 'input', 'output'])
    """
    pieces = list(trace_pieces(network, xs, carry))
    layers = tuple(
        LayerTrace(
            np.concatenate([piece.layers[layer].hidden for piece in pieces]),
            np.concatenate([piece.layers[layer].carry for piece in pieces]),
            {
                name: np.concatenate([piece.layers[layer].gates[name] for piece in pieces])
                for name in pieces[0].layers[layer].gates
            },
        )
        for layer in range(len(network.cells))
    )
    return Trace(layers, np.concatenate([piece.top for piece in pieces]))


def trace_pieces(network: Network, xs: np.ndarray, carry: np.ndarray | None = None) -> Iterator[Trace]:
    """`trace` in pieces of at most `PIECE` steps, for sequences whose trace would not fit in memory.

    Raises: `ValueError` for an empty sequence.
    """
    if len(xs) == 0:
        raise ValueError("a sequence needs at least one step to be traced")
    state = network.initial_carry() if carry is None else jnp.asarray(carry)
    size = min(PIECE, 1 << (len(xs) - 1).bit_length())
    for start in range(0, len(xs), PIECE):
        piece = xs[start : start + PIECE]
        filled = np.zeros((size, *xs.shape[1:]), np.int32 if np.issubdtype(xs.dtype, np.integer) else xs.dtype)
        filled[: len(piece)] = piece
        layers, top = _trace_piece(network, jnp.asarray(filled), state)
        keep = slice(len(piece))
        found = Trace(
            tuple(
                LayerTrace(
                    np.asarray(hidden)[keep],
                    np.asarray(carries)[keep],
                    {n: np.asarray(g)[keep] for n, g in gates.items()},
                )
                for hidden, carries, gates in layers
            ),
            np.asarray(top)[keep],
        )
        yield found
        state = jnp.asarray(found.carry)


@jax.jit
def _trace_piece(
    network: Network, xs: Array, carry: Array
) -> tuple[list[tuple[Array, Array, dict[str, Array]]], Array]:
    """Layer by layer with the network's own `layer_output`; what stands behind the sequence's end is cut off by the caller."""
    layers, below = [], xs
    for number, cell in enumerate(network.cells):
        hidden, _ = unroll(cell, below, carry[number])
        projected = cell.project(below)
        previous = jnp.concatenate([cell.output(carry[number])[None], hidden[:-1]])
        recurrent = _recurrent(cell, previous)
        carries = hidden if cell.carry_blocks == 1 else _carries(cell, projected, recurrent, carry[number])
        layers.append((hidden, carries, cell.gates(projected, recurrent)))
        below = network.layer_output(number, hidden, below)
    return layers, below


def _recurrent(cell: AbstractCell, hidden: Float[Array, "*steps hidden"]) -> Float[Array, "*steps gates"]:
    recurrent = hidden @ cell.weight_hidden
    return recurrent if cell.bias_hidden is None else recurrent + cell.bias_hidden


def _carries(cell: AbstractCell, projected: Array, recurrent: Array, carry: Array) -> Float[Array, "time carry"]:
    """Every carry, with all pre-activations known: a loop without a product."""

    def step(carry: Array, inputs: tuple[Array, Array]) -> tuple[Array, Array]:
        carry = cell.combine(*inputs, carry)
        return carry, carry

    return lax.scan(step, carry, (projected, recurrent))[1]


class Perturbations(NamedTuple):
    """What is added at each step of a layer: to x W_x + b, to h W_h + b_h (`[time, gates]`) and to the carry (`[time, carry]`)."""

    projected: tuple[Array, ...]
    recurrent: tuple[Array, ...]
    carry: tuple[Array, ...]


def no_perturbation(network: Network, steps: int) -> Perturbations:
    """Zeros: the run as it is. Gradients with respect to them are those of each step by itself."""
    gates = tuple(jnp.zeros((steps, cell.weight_hidden.shape[1]), cell.bias.dtype) for cell in network.cells)
    carries = tuple(jnp.zeros((steps, cell.carry_size), cell.bias.dtype) for cell in network.cells)
    return Perturbations(gates, gates, carries)


class PerturbedRun(NamedTuple):
    """`top` `[time, hidden]`, what the head gets; by layer its input and its carries `[time, carry]`."""

    top: Array
    inputs: tuple[Array, ...]
    carries: tuple[Array, ...]


def perturbed_run(network: Network, xs: Array, carry: Array, added: Perturbations) -> PerturbedRun:
    """The network over one sequence, with `added` at every step: a plain loop, differentiable forwards and backwards.

    With G the gradient of a loss with respect to `added`, and h_0 the state before the first step, step t adds to the gradients
    of a layer's weights
        dW_x: x_t (outer) G.projected_t     db: G.projected_t     dW_h: h_{t-1} (outer) G.recurrent_t
    and G.carry_t is the gradient of the loss with respect to the carry after step t, by all ways into the future.
    """
    inputs, carries, below = [], [], xs
    for number, cell in enumerate(network.cells):

        def step(carry: Array, at: tuple[Array, Array, Array], cell: AbstractCell = cell) -> tuple[Array, Array]:
            projected, to_recurrent, to_carry = at
            carry = cell.combine(projected, _recurrent(cell, cell.output(carry)) + to_recurrent, carry) + to_carry
            return carry, carry

        projected = cell.project(below) + added.projected[number]
        _, states = lax.scan(step, carry[number], (projected, added.recurrent[number], added.carry[number]))
        inputs.append(below)
        carries.append(states)
        below = network.layer_output(number, cell.output(states), below)
    return PerturbedRun(below, tuple(inputs), tuple(carries))

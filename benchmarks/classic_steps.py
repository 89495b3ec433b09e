"""Our update and the NumPy program's, side by side from the same weights at every step."""

from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import classic_numpy
from elman.config import Config
from elman.network import Network
from elman.text.model import new_network
from elman.text.presets import preset
from elman.training.engine import precision
from elman.training.optimizers import build_optimizer


class Step(NamedTuple):
    """Loss of ours, loss of theirs, and the largest difference of any weight after the update."""

    ours: float
    theirs: float
    weights: float


def classic_numpy_steps(codes: np.ndarray, updates: int, seed: int = 0) -> Iterator[Step]:
    """Walk the NumPy program through `updates` updates in float64 and do each one with our network and optimizer too.

    Each of ours begins with the program's weights, Adagrad memory and hidden state, so that a difference is one update's own.
    """
    vocab = int(codes.max()) + 1
    weights = classic_numpy.initial_weights(vocab, seed=seed)
    memory = {name: np.zeros_like(array) for name, array in weights.items()}
    config = Config().replace(**preset("min-char-rnn"), steps=1, dtype="float64")
    optimizer = build_optimizer(config.training)
    position, state = 0, np.zeros((classic_numpy.HIDDEN, 1))
    with precision("float64"):
        template = new_network(config, vocab, 0)
        update = jax.jit(lambda *arguments: _update(optimizer, config.training.learning_rate, *arguments))
        for _ in range(updates):
            if position + classic_numpy.STEPS + 1 >= len(codes):
                position, state = 0, np.zeros_like(state)
            window = codes[position : position + classic_numpy.STEPS + 1].astype(np.int32)
            loss, network = update(_network(template, weights), _network(template, memory), window, state[:, 0])
            theirs, gradients, state = classic_numpy.loss_and_gradients(weights, window[:-1], window[1:], state)
            for name, gradient in gradients.items():
                memory[name] += gradient * gradient
                weights[name] -= classic_numpy.RATE * gradient / np.sqrt(memory[name] + 1e-8)
            position += classic_numpy.STEPS
            pairs = zip(jax.tree.leaves(network), jax.tree.leaves(_network(template, weights)), strict=True)
            yield Step(float(loss), theirs, max(float(jnp.abs(a - b).max()) for a, b in pairs))


def _update(
    optimizer: object, rate: float, network: Network, memory: Network, window: jax.Array, state: jax.Array
) -> tuple[jax.Array, Network]:
    def loss_of(network: Network) -> jax.Array:
        hidden, _ = network(window[:-1], state[None])
        return network.head.loss(hidden, window[1:]).sum()

    loss, gradient = jax.value_and_grad(loss_of)(network)
    fresh = optimizer.init(network)  # type: ignore[attr-defined]
    remembered = jax.tree.unflatten(jax.tree.structure(fresh), jax.tree.leaves(memory))
    steps, _ = optimizer.update(gradient, remembered, network)  # type: ignore[attr-defined]
    return loss, jax.tree.map(lambda weight, step: weight + rate * step, network, steps)


def _network(template: Network, arrays: dict[str, np.ndarray]) -> Network:
    """The program's arrays in our orientation and order."""
    leaves = [arrays["wxh"].T, arrays["whh"].T, arrays["bh"][:, 0], arrays["why"].T, arrays["by"][:, 0]]
    return jax.tree.unflatten(jax.tree.structure(template), [jnp.asarray(leaf) for leaf in leaves])

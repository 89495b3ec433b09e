"""Looking at a network's steps gives the network's own numbers, and each step's share of a gradient sums to the gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from elman.config import NetworkSettings
from elman.insight.tracing import PIECE, no_perturbation, perturbed_run, trace
from elman.network import Network

SETTINGS = {
    "elman": NetworkSettings(cell="elman", hidden=6),
    "relu": NetworkSettings(cell="elman", activation="relu", hidden=6),
    "gru": NetworkSettings(cell="gru", hidden=6, layers=2, layer_norm=True, residual=True),
    "lstm": NetworkSettings(cell="lstm", hidden=6, layers=2),
}


@pytest.fixture(params=SETTINGS)
def network(request: pytest.FixtureRequest) -> Network:
    return Network.create(SETTINGS[request.param], 5, 5, key=jax.random.key(3))


@pytest.fixture
def symbols() -> np.ndarray:
    return np.random.default_rng(0).integers(5, size=11).astype(np.int32)


def test_a_trace_is_the_networks_own_run(network: Network, symbols: np.ndarray) -> None:
    top, carry = network(jnp.asarray(symbols))
    seen = trace(network, symbols)
    np.testing.assert_allclose(seen.top, top, atol=2e-6)
    np.testing.assert_allclose(seen.carry, carry, atol=1e-6)


def test_gates_and_carries_make_the_states(network: Network, symbols: np.ndarray) -> None:
    for layer in trace(network, symbols).layers:
        gates, before = layer.gates, np.vstack([np.zeros_like(layer.memory[:1]), layer.memory[:-1]])
        if "update" in gates:
            expected = (1 - gates["update"]) * gates["candidate"] + gates["update"] * before
        elif "forget" in gates:
            np.testing.assert_allclose(
                layer.memory, gates["forget"] * before + gates["input"] * gates["candidate"], atol=1e-6
            )
            expected = gates["output"] * np.tanh(layer.memory)
        else:
            expected = layer.memory
        np.testing.assert_allclose(layer.hidden, expected, atol=1e-6)


def test_pieces_join_without_a_seam() -> None:
    network = Network.create(SETTINGS["lstm"], 5, 5, key=jax.random.key(3))
    symbols = np.random.default_rng(1).integers(5, size=PIECE + 7).astype(np.int32)
    seen = trace(network, symbols)
    top, carry = network(jnp.asarray(symbols))
    np.testing.assert_allclose(seen.top, top, atol=1e-6)
    np.testing.assert_allclose(seen.carry, carry, atol=1e-6)
    assert len(seen.layers[1].gates["forget"]) == PIECE + 7


def test_shares_of_the_steps_sum_to_the_gradient(network: Network, symbols: np.ndarray) -> None:
    xs, targets = jnp.asarray(symbols[:-1]), jnp.asarray(symbols[1:])
    start = 0.3 * jax.random.normal(jax.random.key(1), network.initial_carry().shape)

    def loss(network: Network) -> jax.Array:
        return network.head.loss(network(xs, start)[0], targets).sum()

    def perturbed(added: tuple) -> jax.Array:
        return network.head.loss(perturbed_run(network, xs, start, added).top, targets).sum()

    zeros = no_perturbation(network, len(xs))
    slopes, whole, run = jax.grad(perturbed)(zeros), jax.grad(loss)(network), perturbed_run(network, xs, start, zeros)
    for layer, cell in enumerate(network.cells):
        states = cell.output(run.carries[layer])
        before = jnp.concatenate([cell.output(start[layer])[None], states[:-1]])
        inputs = jax.nn.one_hot(xs, 5) if layer == 0 else run.inputs[layer]
        gradient = whole.cells[layer]
        close = {"atol": 1e-5, "rtol": 1e-4}
        np.testing.assert_allclose(before.T @ slopes.recurrent[layer], gradient.weight_hidden, **close)
        np.testing.assert_allclose(inputs.T @ slopes.projected[layer], gradient.weight_inputs, **close)
        np.testing.assert_allclose(slopes.projected[layer].sum(axis=0), gradient.bias, **close)


def test_an_empty_sequence_is_refused(network: Network) -> None:
    with pytest.raises(ValueError, match="at least one step"):
        trace(network, np.zeros(0, np.int32))

"""The unrolled graph: its numbers are the network's own, and what the steps add sums to the gradient of the network's loss."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from elman.config import NetworkSettings
from elman.insight.graph import Contribution, UnrolledGraph, series_graph, text_graph, unrolled_graph
from elman.network import Network, Point, Quantiles, to_arrays
from elman.text import hello
from elman.text.model import TextModel
from test_running import make_panel, usual_model

SETTINGS = {
    "elman": NetworkSettings(cell="elman", hidden=5),
    "relu": NetworkSettings(cell="elman", activation="relu", hidden=5, layers=2, residual=True),
    "gru": NetworkSettings(cell="gru", hidden=5, layers=2, layer_norm=True, residual=True),
    "lstm": NetworkSettings(cell="lstm", hidden=5, layers=2, layer_norm=True),
}


@pytest.fixture(params=SETTINGS)
def settings(request: pytest.FixtureRequest) -> NetworkSettings:
    return SETTINGS[request.param]


def check_sums(network: Network, graph: UnrolledGraph, whole: Network) -> None:
    """Every array's steps sum to its gradient to 1e-5, and nothing of the network is left out."""
    gradients = to_arrays(whole)
    assert set(graph.contributions) == set(gradients)
    for name, part in graph.contributions.items():
        summed = np.sum([part.step(time) for time in range(graph.steps)], axis=0)
        np.testing.assert_allclose(summed, gradients[name], atol=1e-5, rtol=1e-5, err_msg=name)
        np.testing.assert_allclose(part.total, gradients[name], atol=1e-5, rtol=1e-5, err_msg=name)
        norms = [np.linalg.norm(part.step(time)) for time in range(graph.steps)]
        np.testing.assert_allclose(part.norms, norms, atol=1e-6, rtol=1e-5)
        length = (part.total**2).sum()
        if length > 1e-8:
            along = [(part.step(time) * part.total).sum() / length for time in range(graph.steps)]
            np.testing.assert_allclose(part.shares, along, atol=1e-4)
            assert part.shares.sum() == pytest.approx(1, abs=1e-4)
    assert graph.shares.sum() == pytest.approx(1, abs=1e-4)


def test_symbols(settings: NetworkSettings) -> None:
    network = Network.create(settings, 4, 4, key=jax.random.key(3))
    symbols = np.random.default_rng(0).integers(4, size=8).astype(np.int32)
    start = 0.3 * jax.random.normal(jax.random.key(1), network.initial_carry().shape)

    @jax.jit
    @jax.value_and_grad
    def loss(network: Network, counts: jax.Array) -> jax.Array:
        losses = network.head.loss(network(jnp.asarray(symbols[:-1]), start)[0], jnp.asarray(symbols[1:]))
        return (losses * counts).sum()

    for many_to_one in (False, True):
        graph = unrolled_graph(network, symbols[:-1], symbols[1:], carry=np.asarray(start), many_to_one=many_to_one)
        value, whole = loss(network, jnp.asarray(graph.counts, float))
        assert graph.counts.sum() == (1 if many_to_one else 7)
        assert graph.loss == pytest.approx(float(value), rel=1e-6)
        assert graph.many_to_one is many_to_one
        check_sums(network, graph, whole)
        # dL/dy = p - y of softmax and cross entropy, in closed form.
        probabilities = np.asarray(jax.nn.softmax(graph.outputs))
        expected = (probabilities - np.eye(4)[symbols[1:]]) * graph.counts[:, None]
        np.testing.assert_allclose(graph.d_outputs, expected, atol=1e-6)


KINDS = {"relu": "mean", "gru": "quantiles", "lstm": "median"}


@pytest.mark.parametrize("name", KINDS)
def test_numbers_with_gaps(name: str) -> None:
    def head(hidden: int, outputs: int, **rest: Any) -> Quantiles | Point:
        if KINDS[name] == "quantiles":
            return Quantiles.create(hidden, outputs, levels=(0.1, 0.5, 0.9), **rest)
        return Point.create(hidden, outputs, error="absolute" if KINDS[name] == "median" else "squared", **rest)

    network = Network.create(SETTINGS[name], 3, 2, key=jax.random.key(0), head=head)
    rng = np.random.default_rng(1)
    xs = rng.normal(size=(6, 3)).astype(np.float32)
    targets = rng.normal(size=(6, 2)).astype(np.float32)
    targets[1, 0] = targets[4] = np.nan

    def loss(network: Network) -> jax.Array:
        losses = network.head.loss(network(jnp.asarray(xs))[0], jnp.nan_to_num(targets))
        known = ~np.isnan(targets)
        return (jnp.where(known, losses, 0).sum(axis=1) / known.sum(axis=1).clip(1)).sum()

    value, whole = jax.jit(jax.value_and_grad(loss))(network)
    graph = unrolled_graph(network, xs, targets)
    assert graph.loss == pytest.approx(float(value), rel=1e-5)
    assert graph.losses[4] == 0
    assert np.all(graph.d_outputs[4] == 0)
    check_sums(network, graph, whole)


def test_the_gradient_of_a_state_is_that_of_a_step_of_it(enable_x64: None) -> None:
    """dL/dh_t against differences: the state is moved a little, and the rest of the sequence is run again."""
    network = Network.create(SETTINGS["elman"], 4, 4, key=jax.random.key(3), dtype=jnp.float64)
    symbols = np.random.default_rng(0).integers(4, size=7)
    graph = unrolled_graph(network, symbols[:-1], symbols[1:])

    @functools.partial(jax.jit, static_argnums=1)
    def rest(state: jax.Array, time: int) -> jax.Array:
        own = network.head.loss(state, jnp.asarray(symbols[time + 1]))
        top, _ = network(jnp.asarray(symbols[time + 1 : -1]), state[None])
        return own + network.head.loss(top, jnp.asarray(symbols[time + 2 :])).sum()

    for time in (0, 3):
        for unit in range(5):
            move = np.eye(5)[unit] * 1e-5
            state = graph.hidden[0][time]
            slope = float(rest(state + move, time) - rest(state - move, time)) / 2e-5
            assert graph.d_hidden[0][time, unit] == pytest.approx(slope, abs=1e-8)


def test_hello_is_the_lectures_own() -> None:
    walk = hello.walk()
    model = TextModel.untrained("hello", seed=0, cell="elman", hidden=3)
    subject, graph = text_graph(model, "hello")
    assert "".join(subject.labels) == "hello"
    assert graph.loss == pytest.approx(walk.loss, rel=1e-6)
    for time, step in enumerate(walk.steps):
        np.testing.assert_allclose(graph.hidden[0][time], step.hidden, atol=1e-6)
        np.testing.assert_allclose(graph.outputs[time], step.logits, atol=1e-6)
        part = graph.contributions["cells.0.weight_hidden"]
        np.testing.assert_allclose(part.step(time), walk.contributions[time], atol=1e-6)


def test_a_forecasters_targets_are_the_rows_that_followed() -> None:
    model, panel = usual_model(), make_panel()
    _, graph = series_graph(model, panel, origin=146, steps=20)
    encoding, target = model.encoding, panel.column("y")
    for time, row in enumerate(range(127, 147)):
        seen = target[: row + 1][~np.isnan(target[: row + 1])][-1]  # what the forecast is counted from
        followed = target[row + 6] if row + 6 < 150 else np.nan
        expected = (followed - seen) / encoding.scale[0, 0]
        np.testing.assert_allclose(graph.targets[time], [expected], atol=1e-5)
    assert np.isfinite(graph.loss)
    assert graph.losses[-1] == 0  # the table ends before


def test_nothing_to_unroll_is_refused() -> None:
    network = Network.create(SETTINGS["elman"], 4, 4, key=jax.random.key(3))
    for count, others in ((0, 0), (2, 3)):
        with pytest.raises(ValueError, match="as many of each"):
            unrolled_graph(network, np.zeros(count, np.int32), np.zeros(others, np.int32))


def test_a_gradient_of_nothing_has_no_shares() -> None:
    part = Contribution(np.zeros((3, 2)), np.zeros((3, 1)), (2, 1))
    assert part.shares.tolist() == [0, 0, 0]

"""The contributions of the steps sum to the gradient that the product's own network has."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from elman.config import NetworkSettings
from elman.insight.graph import contributions
from elman.network import Network


@pytest.mark.parametrize("many_to_one", [False, True])
@pytest.mark.parametrize("cell", ["elman", "gru", "lstm"])
def test_contributions_sum_to_the_gradient(cell: str, many_to_one: bool) -> None:
    settings = NetworkSettings(cell=cell, hidden=6, layers=2, layer_norm=True, residual=True)
    network = Network.create(settings, 5, 5, key=jax.random.key(3))
    codes = np.random.default_rng(0).integers(5, size=9).astype(np.int32)
    xs, targets = codes[:-1], codes[1:]

    def loss(network: Network) -> jax.Array:
        losses = network.head.loss(network(jnp.asarray(xs))[0], jnp.asarray(targets))
        return losses[-1] if many_to_one else losses.sum()

    whole = jax.grad(loss)(network)
    for found, expected in zip(contributions(network, xs, targets, many_to_one=many_to_one), whole.cells, strict=True):
        for name, parts in found.items():
            gradient = np.atleast_2d(getattr(expected, name))
            steps = [parts.at(step) for step in range(len(xs))]
            np.testing.assert_allclose(sum(steps), gradient, atol=1e-5)
            np.testing.assert_allclose(parts.norms, [np.linalg.norm(step) for step in steps], rtol=1e-4, atol=1e-6)
            shares = [(step * gradient).sum() / (gradient**2).sum() for step in steps]
            np.testing.assert_allclose(parts.shares, shares, atol=1e-4)

"""What moved a forecast, where it can be known: of a linear network all ways of asking give one answer, which is exact."""

import dataclasses

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest

from elman.errors import ConfigError
from elman.insight.attribution import attribution
from elman.network import Network
from elman.series.model import SeriesModel
from elman.training.engine import precision
from test_running import make_model, make_panel

ORIGIN = 140


def linear(network: Network) -> Network:
    """A relu network whose units are never below 0, so that it is a linear function: h_t = h_{t-1} / 2 + x_t W_x + 100."""
    cell = network.cells[0]
    cell = eqx.tree_at(lambda c: (c.weight_hidden, c.bias), cell, (0.5 * jnp.eye(8), jnp.full(8, 100.0)))
    return eqx.tree_at(lambda n: n.cells, network, (cell,))


@pytest.fixture(scope="module")
def model() -> SeriesModel:
    made = make_model(make_panel(missing=0.0), cell="elman", activation="relu", members=2, dtype="float64")
    with precision("float64"):
        network = eqx.tree_at(lambda n: n.members, made.network, tuple(map(linear, made.network.members)))
    return dataclasses.replace(made, network=network)


def test_of_a_linear_network_all_ways_agree(model: SeriesModel) -> None:
    panel = make_panel(missing=0.0)
    whole, quick = (attribution(model, panel, ORIGIN, method=method) for method in ("integrated", "gradient"))
    moved = np.asarray([value for _, value in whole.columns])
    np.testing.assert_allclose(moved, [value for _, value in quick.columns], atol=1e-8)
    np.testing.assert_allclose(moved, whole.occluded, atol=1e-8)
    np.testing.assert_allclose(whole.by_lag.sum(axis=0), whole.lags_occluded, atol=1e-8)
    np.testing.assert_allclose(whole.by_lag.sum(axis=1), moved, atol=1e-10)
    assert whole.unexplained == pytest.approx(0, abs=1e-8)
    assert whole.agreement == pytest.approx(1)
    assert np.abs(moved).max() > 1e-3


def test_a_linear_networks_attribution_is_its_weights_times_its_inputs(model: SeriesModel) -> None:
    """By hand: the weight of a column's value so many steps ago is W_x 2^-steps W_y, in the members' mean."""
    panel = make_panel(missing=0.0)
    encoding = model.encoding
    place = encoding.names_of_inputs().index("x")
    values = encoding.rows(panel).values[: ORIGIN + 1, encoding.columns.index("x")].astype(np.float64)
    steps = model.walk.warm_up + 1
    expected = 0.0
    for member in model.network.members:
        middle = len(model.horizon.levels) * (len(encoding.ahead) - 1) + model.horizon.middle
        weight = np.asarray(member.cells[0].weight_inputs)[place] @ np.asarray(member.head.weight)[:, middle]
        expected += float((values[-steps:][::-1] * 0.5 ** np.arange(len(values[-steps:]))).sum() * weight) / 2
    found = dict(attribution(model, panel, ORIGIN).columns)
    assert found["x"] == pytest.approx(expected * encoding.scale[0, encoding.target_index], rel=1e-6)


def test_the_forecast_is_the_models_own(model: SeriesModel) -> None:
    panel = make_panel(missing=0.0)
    rows = model.encoding.rows(panel)
    said = model.forecast_rows(rows, np.asarray([ORIGIN]), calibrated=False)[0, -1, model.horizon.middle]
    assert attribution(model, panel, ORIGIN).forecast == pytest.approx(float(said), rel=1e-5)


def test_another_method_is_refused(model: SeriesModel) -> None:
    with pytest.raises(ConfigError, match="one of integrated, gradient"):
        attribution(model, make_panel(missing=0.0), ORIGIN, method="magic")

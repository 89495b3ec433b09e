"""Units that follow a feature are found, with the score that the second half gives them; chance is what decoys reach."""

import jax
import numpy as np
import pytest

from elman.config import NetworkSettings
from elman.errors import ConfigError, DataError
from elman.insight.features import Feature
from elman.insight.subjects import Subject
from elman.insight.tracing import PIECE, trace
from elman.insight.units import (
    Activity,
    activity,
    activity_of,
    rank_units,
    trajectory,
    unit_values,
    units_by_example,
)
from elman.network import Network

STEPS = 400


@pytest.fixture(scope="module")
def states() -> np.ndarray:
    return np.tanh(np.random.default_rng(0).normal(size=(STEPS, 6))).astype(np.float32)


def of(states: np.ndarray) -> Activity:
    """Two layers, of two and of four units."""
    return Activity((states[:, :2], states[:, 2:]), ({}, {}))


def test_the_score_is_the_second_halfs_correlation_with_its_sign(states: np.ndarray) -> None:
    values = (states[:, 3] < -0.2).astype(float)
    ranking = rank_units(of(states), [Feature("f", "", values)], count=6)[0]
    first = ranking.best[0]
    assert (first.layer, first.unit) == (1, 1)
    half = STEPS // 2
    assert first.score == pytest.approx(np.corrcoef(states[half:, 3], values[half:])[0, 1], abs=1e-5)
    assert first.chosen_by == pytest.approx(np.corrcoef(states[:half, 3], values[:half])[0, 1], abs=1e-5)
    assert first.score < -0.6
    by_choice = [abs(one.chosen_by) for one in ranking.best]
    assert by_choice == sorted(by_choice, reverse=True)


def test_units_are_chosen_without_the_second_half(states: np.ndarray) -> None:
    values = np.concatenate([states[: STEPS // 2, 0], states[STEPS // 2 :, 4]])
    best = rank_units(of(states), [Feature("f", "", values)])[0].best[0]
    assert (best.layer, best.unit) == (0, 0)
    assert best.chosen_by == pytest.approx(1, abs=1e-5)
    assert abs(best.score) < 0.25


def test_a_circle_is_followed_by_any_mixture_of_sine_and_cosine(states: np.ndarray) -> None:
    turns = 2 * np.pi * np.arange(STEPS) / 24
    followed = states.copy()
    followed[:, 5] = 0.5 * np.sin(turns + 1) + 0.1 * states[:, 5]
    circle = np.stack([np.sin(turns), np.cos(turns)], axis=1)
    ranking = rank_units(of(followed), [Feature("hour", "", circle)])[0]
    best, half = ranking.best[0], STEPS // 2
    assert (best.layer, best.unit) == (1, 3)

    def design(rows: slice) -> np.ndarray:
        return np.column_stack([np.ones(half), circle[rows]])

    weights = np.linalg.lstsq(design(slice(half)), followed[:half, 5], rcond=None)[0]
    fitted, foreseen = design(slice(half)) @ weights, design(slice(half, None)) @ weights
    assert best.chosen_by == pytest.approx(np.corrcoef(fitted, followed[:half, 5])[0, 1], abs=1e-4)
    assert best.score == pytest.approx(np.corrcoef(foreseen, followed[half:, 5])[0, 1], abs=1e-4)
    assert best.score > 0.95
    assert ranking.chance < 0.4


def test_chance_tells_a_follower_from_the_best_of_many(states: np.ndarray) -> None:
    rng = np.random.default_rng(1)
    noise = Feature("noise", "", rng.normal(size=STEPS))
    real = Feature("real", "", states[:, 1] + rng.normal(size=STEPS))
    rankings = {ranking.feature.name: ranking for ranking in rank_units(of(states), [noise, real])}
    assert list(rankings) == ["real", "noise"]
    assert abs(rankings["real"].best[0].score) > 2 * rankings["real"].chance
    assert abs(rankings["noise"].best[0].score) <= 2 * rankings["noise"].chance


def test_what_does_not_vary_is_left_out(states: np.ndarray) -> None:
    only_early = np.zeros(STEPS)
    only_early[:50] = 1
    assert rank_units(of(states), [Feature("a", "", np.ones(STEPS)), Feature("b", "", only_early)]) == []
    steady = states.copy()
    steady[:, 0] = 0.7
    best = rank_units(of(steady), [Feature("f", "", np.arange(STEPS))], count=6)[0].best
    assert [(one.score, one.chosen_by) for one in best if (one.layer, one.unit) == (0, 0)] == [(0, 0)]
    with pytest.raises(DataError, match="too few"):
        rank_units(of(states[:19]), [])


@pytest.mark.parametrize("cell", ["elman", "gru", "lstm"])
def test_activity_is_the_traces_own_whatever_the_pieces(cell: str) -> None:
    network = Network.create(NetworkSettings(cell=cell, hidden=5, layers=2), 4, 4, key=jax.random.key(1))
    xs = np.random.default_rng(0).integers(4, size=PIECE + 30).astype(np.int32)
    seen = trace(network, xs)
    for found in (activity(Subject(network, xs, (), "float32")), activity_of(seen)):
        for layer, values in enumerate(found.values):
            expected = np.tanh(seen.layers[layer].memory) if cell == "lstm" else seen.layers[layer].hidden
            np.testing.assert_array_equal(values, expected)
            names = {"elman": set(), "gru": {"reset", "update"}, "lstm": {"input", "forget", "output"}}[cell]
            assert set(found.gates[layer]) == names
            for name in names:
                gate = seen.layers[layer].gates[name]
                np.testing.assert_allclose(found.gates[layer][name].mean, gate.mean(0), atol=1e-6)
                np.testing.assert_allclose(found.gates[layer][name].shut, (gate < 0.1).mean(0), atol=1e-9)
                np.testing.assert_allclose(found.gates[layer][name].open, (gate > 0.9).mean(0), atol=1e-9)
    assert unit_values(seen.layers[0]).shape == (PIECE + 30, 5)


def test_units_that_are_not_there(states: np.ndarray) -> None:
    for layer, unit, words in ((2, 0, "no layer 3"), (0, 2, "no unit 3 in layer 1"), (-1, 0, "no layer 0")):
        with pytest.raises(ConfigError, match=words):
            of(states).unit(layer, unit)


def test_units_are_found_by_example() -> None:
    text = "aa<b>aa<cc>aa<d>a"
    inside = np.array([0, 0, 1, 1, 1, 0, 0, 1, 1, 1, 1, 0, 0, 1, 1, 1, 0], np.float32)
    rng = np.random.default_rng(0)
    values = rng.uniform(-0.2, 0.2, size=(len(text), 5)).astype(np.float32)
    values[:, 3] = -0.9 * inside  # on by being low
    values[:, 1] = 0.8  # on everywhere: tells nothing
    found = units_by_example(Activity((values[:, :2], values[:, 2:]), ({}, {})), text, ["<b>"], count=1)
    unit = found.units[0]
    assert (unit.layer, unit.unit, unit.direction, unit.inside) == (1, 1, -1, 1)
    assert unit.outside == pytest.approx(7 / 14)
    assert found.examples == ((2, 5),)
    assert [text[a:b] for a, b in found.spans] == ["<cc>", "<d>"]
    for example in ("", "xyz"):
        with pytest.raises(DataError, match="does not stand in the text"):
            units_by_example(Activity((values,), ({},)), text, [example])


def test_a_path_in_a_plane_is_drawn_as_it_is(states: np.ndarray) -> None:
    plane = np.random.default_rng(2).normal(size=(2, 6)).astype(np.float32)
    flat = states[:, :2] @ plane
    path = trajectory(flat)
    assert sum(path.shares) == pytest.approx(1, abs=1e-6)
    assert path.shares[0] >= path.shares[1]
    # Distances between states are kept.
    np.testing.assert_allclose(
        np.linalg.norm(path.points[:100] - path.points[100:200], axis=1),
        np.linalg.norm(flat[:100] - flat[100:200], axis=1),
        rtol=1e-4,
    )
    assert trajectory(states[:, :1]).points.shape == (STEPS, 2)
    assert sum(trajectory(np.zeros((5, 3), np.float32)).shares) == 0

"""Heads: the loss is minus the log density or another proper score, its gradient, its extremes, and what it is smallest for."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some
from scipy import stats

from contract import TOLERANCE, assert_close, randomized
from elman.config import NetworkSettings
from elman.network import AbstractHead, Categorical, Network, Point, Quantiles, to_arrays, with_arrays
from elman.text.sampling import draw

HIDDEN, VOCAB = 4, 6


def head_of(dtype: str) -> Categorical:
    return randomized(
        jax.eval_shape(lambda: Categorical.create(HIDDEN, VOCAB, key=jax.random.key(0), dtype=dtype)), seed=0
    )


def head_with_logits(logits: np.ndarray) -> Categorical:
    """A head that gives these logits whatever h is."""
    return Categorical(jnp.zeros((HIDDEN, len(logits)), logits.dtype), jnp.asarray(logits))


def test_the_loss_is_minus_the_log_of_a_probability_and_the_probabilities_sum_to_one(dtype: str) -> None:
    head = head_of(dtype)
    hidden = jnp.asarray(np.random.default_rng(1).standard_normal((5, HIDDEN)), dtype)
    losses = np.stack([head.loss(hidden, jnp.full(5, target, jnp.int32)) for target in range(VOCAB)], axis=-1)
    assert_close(np.exp(-losses.astype(np.float64)).sum(axis=-1), np.ones(5), TOLERANCE[dtype], "sum")
    logits = np.asarray(hidden, np.float64) @ np.asarray(head.weight, np.float64) + np.asarray(head.bias, np.float64)
    density = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    assert_close(losses, -np.log(density), TOLERANCE[dtype], "loss")
    assert_close(head(hidden), logits, TOLERANCE[dtype], "logits")


def test_the_gradient_is_softmax_minus_one_hot(dtype: str) -> None:
    logits = np.random.default_rng(2).standard_normal(VOCAB).astype(dtype)
    target = 3
    gradient = jax.grad(lambda head: head.loss(jnp.zeros(HIDDEN, dtype), jnp.asarray(target)))(head_with_logits(logits))
    density = np.exp(logits.astype(np.float64))
    assert_close(gradient.bias, density / density.sum() - np.eye(VOCAB)[target], TOLERANCE[dtype])


@pytest.mark.parametrize("size", [1e4, 1e30])
@pytest.mark.parametrize("target", [0, 1])
def test_loss_and_gradient_are_finite_at_extreme_logits(size: float, target: int, dtype: str) -> None:
    head = head_with_logits(np.array([size, -size, 0, 0, 0, 0], dtype))
    loss, gradient = jax.value_and_grad(lambda head: head.loss(jnp.ones(HIDDEN, dtype), jnp.asarray(target)))(head)
    assert float(loss) == pytest.approx(2 * size if target == 1 else 0, rel=1e-6)
    assert_close(gradient.bias, np.array([1, 0, 0, 0, 0, 0]) - np.eye(VOCAB)[target], 1e-6, "gradient")
    assert np.isfinite(gradient.weight).all()


def test_what_is_drawn_has_the_density() -> None:
    head, draws = head_of("float32"), 40_000
    hidden = jnp.asarray(np.random.default_rng(3).standard_normal(HIDDEN), jnp.float32)
    uniforms = jnp.asarray(np.random.default_rng(4).random(draws), jnp.float32)
    drawn = draw(jnp.broadcast_to(head(hidden), (draws, VOCAB)), uniforms)
    density = np.exp(-np.asarray(head.loss(jnp.broadcast_to(hidden, (VOCAB, HIDDEN)), jnp.arange(VOCAB)), np.float64))
    counts = np.bincount(drawn, minlength=VOCAB)
    # The seeds are fixed, so this is no lottery; a density wrong by 3 % in one symbol would be found.
    assert stats.chisquare(counts, draws * density / density.sum()).pvalue > 0.01


def test_a_head_starts_near_the_uniform_distribution_and_has_the_docstrings_parameters() -> None:
    head = Categorical.create(100, 50, key=jax.random.key(0))
    assert sum(leaf.size for leaf in jax.tree.leaves(head)) == 50 * (100 + 1)
    assert np.abs(head.weight).max() <= 0.1
    assert np.std(head.weight) == pytest.approx(0.1 / np.sqrt(3), rel=0.03)  # 5000 numbers
    assert not head.bias.any()
    normal = Categorical.create(100, 50, key=jax.random.key(0), initialization="normal")
    assert np.std(normal.weight) == pytest.approx(0.01, rel=0.05)
    assert not normal.bias.any()


# Heads that forecast a number ------------------------------------------------------------------------------------------------

LEVELS = (0.05, 0.25, 0.4, 0.7, 0.95)  # none is one half, and they are not symmetric: the middle one is 0.4
TARGETS = 2
HEADS: dict[str, functools.partial] = {
    "absolute": functools.partial(Point.create, error="absolute"),
    "squared": functools.partial(Point.create, error="squared"),
    "quantiles": functools.partial(Quantiles.create, levels=LEVELS),
}


def number_head(name: str, dtype: str, seed: int = 0, targets: int = TARGETS) -> Any:
    return randomized(
        jax.eval_shape(lambda: HEADS[name](HIDDEN, targets, key=jax.random.key(0), dtype=dtype)), seed, scale=1.0
    )


def plain_softplus(x: float) -> float:
    return max(x, 0.0) + np.log1p(np.exp(-abs(x)))


def plain_forecast(head: Any, hidden: np.ndarray) -> np.ndarray:
    """What a head says of one step, `[targets, levels]`: one number after the other, in float64."""
    weight, bias = np.asarray(head.weight, np.float64), np.asarray(head.bias, np.float64)
    raw = [sum(hidden[i] * weight[i, j] for i in range(len(hidden))) + bias[j] for j in range(len(bias))]
    if isinstance(head, Point):
        return np.array(raw)[:, None]
    result = np.zeros((len(raw) // len(LEVELS), len(LEVELS)))
    for target in range(len(result)):
        own = raw[target * len(LEVELS) : (target + 1) * len(LEVELS)]
        result[target, 2] = own[2]
        for level in (3, 4):
            result[target, level] = result[target, level - 1] + plain_softplus(own[level])
        for level in (1, 0):
            result[target, level] = result[target, level + 1] - plain_softplus(own[level])
    return result


def plain_loss(name: str, forecast: np.ndarray, target: float) -> float:
    """The loss of one number, as the docstrings write it."""
    if name == "quantiles":
        pinballs = [
            level * (target - q) if target >= q else (1 - level) * (q - target)
            for level, q in zip(LEVELS, forecast, strict=True)
        ]
        return 2 * sum(pinballs) / len(pinballs)
    return abs(target - forecast[0]) if name == "absolute" else (target - forecast[0]) ** 2


@pytest.mark.parametrize("name", HEADS)
def test_a_number_heads_forecast_and_loss_equal_the_plain_ones(name: str, dtype: str) -> None:
    head, generator = number_head(name, dtype), np.random.default_rng(1)
    hidden = generator.standard_normal((3, 2, HIDDEN)).astype(dtype)
    targets = (3 * generator.standard_normal((3, 2, TARGETS))).astype(dtype)
    expected = np.array([[plain_forecast(head, hidden[t, b]) for b in range(2)] for t in range(3)])
    losses = np.array(
        [
            [[plain_loss(name, expected[t, b, k], targets[t, b, k]) for k in range(TARGETS)] for b in range(2)]
            for t in range(3)
        ]
    )
    assert_close(head(jnp.asarray(hidden)), expected, 3 * TOLERANCE[dtype], "forecast")
    assert_close(head.loss(jnp.asarray(hidden), jnp.asarray(targets)), losses, 10 * TOLERANCE[dtype], "loss")


@pytest.mark.parametrize("name", HEADS)
def test_a_number_heads_gradient_equals_a_numerical_one(name: str, enable_x64: None) -> None:
    head, generator = number_head(name, "float64"), np.random.default_rng(2)
    hidden, targets = generator.standard_normal((5, HIDDEN)), generator.standard_normal((5, TARGETS))

    @jax.jit
    def mean_loss(head: AbstractHead, hidden: jax.Array) -> jax.Array:
        return head.loss(hidden, jnp.asarray(targets)).mean()

    gradients = jax.grad(mean_loss, (0, 1))(head, jnp.asarray(hidden))
    step = 1e-6
    for part, found in (("weight", gradients[0].weight), ("bias", gradients[0].bias)):
        array = np.asarray(getattr(head, part))
        for place in np.ndindex(*array.shape):
            moved = [array.copy(), array.copy()]
            moved[0][place] += step
            moved[1][place] -= step
            up, down = (mean_loss(with_arrays(head, {**to_arrays(head), part: m}, "the test"), hidden) for m in moved)
            # Off its kinks the loss is smooth: the difference is good to step² and to 1e-16 / step.
            assert found[place] == pytest.approx(float(up - down) / (2 * step), abs=1e-8), (part, place)
    moved = [hidden.copy(), hidden.copy()]
    moved[0][2, 1] += step
    moved[1][2, 1] -= step
    numerical = float(mean_loss(head, moved[0]) - mean_loss(head, moved[1])) / (2 * step)
    assert gradients[1][2, 1] == pytest.approx(numerical, abs=1e-8)


quantiles_of = jax.jit(
    lambda weight, bias, hidden: Quantiles(weight, bias, tuple((k + 1) / 12 for k in range(11)))(hidden)
)


@given(
    seed=some.integers(0, 10**6),
    weight=some.floats(-3, 12),
    hidden=some.floats(-3, 12),
    bias=some.floats(-3, 25),
)
def test_quantiles_never_cross_and_stay_finite_however_large_the_weights(
    seed: int, weight: float, hidden: float, bias: float
) -> None:
    generator = np.random.default_rng(seed)
    draws = [generator.standard_normal(shape).astype(np.float32) for shape in ((HIDDEN, 22), (22,), (50, HIDDEN))]
    scales = (np.float32(10**weight), np.float32(10**bias), np.float32(10**hidden))
    found = np.asarray(quantiles_of(*(scale * array for scale, array in zip(scales, draws, strict=True))))
    assert found.shape == (50, 2, 11)
    assert np.isfinite(found).all()
    assert (np.diff(found, axis=-1) >= 0).all()


total_loss_and_gradient = jax.jit(jax.value_and_grad(lambda head, hidden, targets: head.loss(hidden, targets).sum()))


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("size", [1e4, 1e15])
@pytest.mark.parametrize("sign", [-1, 1])
def test_a_number_heads_loss_and_gradient_are_finite_at_extreme_inputs(
    name: str, size: float, sign: int, dtype: str
) -> None:
    head = number_head(name, dtype)
    hidden = jnp.full(HIDDEN, sign * size, dtype)
    targets = jnp.asarray([size, -size], dtype)
    loss, gradient = total_loss_and_gradient(head, hidden, targets)
    assert np.isfinite(loss)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
    expected = sum(plain_loss(name, q, t) for q, t in zip(plain_forecast(head, hidden), targets, strict=True))
    assert float(loss) == pytest.approx(float(expected), rel=1e-5)


def best_bias(head: Any, data: np.ndarray, updates: int) -> Any:
    """The head after its bias alone was led downhill on the mean loss of `data`, with hidden = 0."""
    hidden, targets = jnp.zeros((len(data), HIDDEN)), jnp.asarray(data)[:, None]

    def down(index: jax.Array, bias: jax.Array) -> jax.Array:
        def loss(bias: jax.Array) -> jax.Array:
            return with_bias(head, bias).loss(hidden, targets).mean()

        gradient = jax.grad(loss)(bias)
        return bias - 4 * 0.5 ** (index / (updates / 14)) * gradient

    return with_bias(head, jax.jit(lambda bias: jax.lax.fori_loop(0, updates, down, bias))(head.bias))


def with_bias(head: Any, bias: jax.Array) -> Any:
    return type(head)(head.weight, bias, *([head.error] if isinstance(head, Point) else [head.levels]))


@pytest.mark.parametrize("name", HEADS)
def test_the_mean_loss_is_smallest_for_the_median_the_mean_or_the_quantiles(name: str, enable_x64: None) -> None:
    data = np.random.default_rng(3).gamma(2.0, size=2001)  # not symmetric: median 1.68, mean 2
    if name == "squared":
        head = HEADS[name](HIDDEN, 1, key=jax.random.key(0), dtype="float64")
        gradient = jax.grad(
            lambda bias: with_bias(head, bias).loss(jnp.zeros((2001, HIDDEN)), jnp.asarray(data)[:, None]).mean()
        )
        # A parabola: one Newton step from 0 is at its lowest point.
        at_zero = float(gradient(jnp.zeros(1))[0])
        curvature = float(gradient(jnp.ones(1))[0]) - at_zero
        assert -at_zero / curvature == pytest.approx(data.mean(), rel=1e-12)
        return
    head = best_bias(HEADS[name](HIDDEN, 1, key=jax.random.key(0), dtype="float64"), data, 1500)
    found = np.asarray(head(jnp.zeros(HIDDEN)))[0]
    for q, level in zip(found, LEVELS if name == "quantiles" else (0.5,), strict=True):
        # A fraction `level` of the data lies below: within five of the 2,001 numbers, for the steps do not shrink to nothing.
        assert abs((data < q).mean() - level) <= 5 / len(data), (q, level)


def test_number_heads_have_their_docstrings_parameters_and_start() -> None:
    point = Point.create(100, 30, key=jax.random.key(0))
    assert sum(leaf.size for leaf in jax.tree.leaves(point)) == 30 * (100 + 1)
    assert np.abs(point.weight).max() <= 0.1
    assert np.std(point.weight) == pytest.approx(0.1 / np.sqrt(3), rel=0.03)  # 3000 numbers
    assert not point.bias.any()
    assert point.error == "absolute"
    head = Quantiles.create(100, 6, levels=LEVELS, key=jax.random.key(0))
    assert sum(leaf.size for leaf in jax.tree.leaves(head)) == 6 * 5 * (100 + 1)
    assert np.abs(head.weight).max() <= 0.1
    assert np.std(head.weight) == pytest.approx(0.1 / np.sqrt(3), rel=0.03)
    assert (head.levels, head.middle) == (LEVELS, 2)


@pytest.mark.parametrize("levels", [(0.1, 0.5, 0.9), (0.05, 0.25, 0.5, 0.75, 0.95), (0.5,), (0.8, 0.9), LEVELS])
def test_quantiles_start_as_a_distribution_of_unit_variance_around_the_middle_level(levels: tuple[float, ...]) -> None:
    head = Quantiles.create(HIDDEN, 3, levels=levels, key=jax.random.key(0))
    found = np.asarray(head(jnp.zeros(HIDDEN)))
    logistic = stats.logistic(scale=np.sqrt(3) / np.pi)
    assert logistic.std() == pytest.approx(1)
    expected = logistic.ppf(levels) - logistic.ppf(levels[head.middle])
    assert_close(found, np.tile(expected, (3, 1)), 1e-6)
    if 0.5 in levels:
        # "Roughly" those of a normal distribution: nowhere off by more than a fifth of its spread.
        assert np.abs(found - stats.norm.ppf(levels)).max() < 0.2


# A network under each head, and what it drops on the way in ------------------------------------------------------------------


@pytest.mark.parametrize("name", HEADS)
def test_a_network_answers_from_its_last_state_through_any_head(name: str) -> None:
    network = Network.create(NetworkSettings(hidden=5), 3, TARGETS, key=jax.random.key(0), head=HEADS[name])
    assert isinstance(network.head, Quantiles if name == "quantiles" else Point)
    levels = len(LEVELS) if name == "quantiles" else 1
    assert network.parameter_count == 3 * 5 * (3 + 5 + 1) + 5 + TARGETS * levels * (5 + 1)
    xs = np.random.default_rng(0).standard_normal((6, 4, 3)).astype(np.float32)
    hidden, _ = network(xs)
    found = network.last(xs)
    assert found.shape == (4, TARGETS, levels)
    expected = np.stack([plain_forecast(network.head, np.asarray(hidden[-1, b], np.float64)) for b in range(4)])
    assert_close(found, expected, TOLERANCE["float32"])
    lengths = np.array([6, 2, 1, 4], np.int32)
    for b, length in enumerate(lengths):
        alone = plain_forecast(network.head, np.asarray(hidden[length - 1, b], np.float64))
        assert_close(network.last(xs, lengths=lengths)[b], alone, TOLERANCE["float32"], f"sequence {b}")


def listening(inputs: int, rate: float) -> Network:
    """A network whose state after each step is that step's input: Elman's, relu, identity in, nothing kept."""
    settings = NetworkSettings(cell="elman", activation="relu", hidden=inputs, input_dropout=rate)
    network = Network.create(settings, inputs, 1, key=jax.random.key(0))
    arrays = {name: np.zeros_like(array) for name, array in to_arrays(network).items()}
    arrays["cells.0.weight_inputs"] = np.eye(inputs, dtype=np.float32)
    return with_arrays(network, arrays, "the test")


@pytest.mark.parametrize("rate", [0.05, 0.5])
def test_input_dropout_drops_the_same_inputs_at_every_step_and_keeps_the_mean(rate: float) -> None:
    network, sequences, width = listening(40, rate), 500, 40
    assert network.drops
    xs = 1 + np.random.default_rng(0).random((4, sequences, width)).astype(np.float32)
    seen = np.asarray(network(xs, key=jax.random.key(1))[0]) / xs
    kept = seen[0] > 0
    for step in range(4):
        np.testing.assert_allclose(seen[step], kept / (1 - rate), rtol=1e-6)
    # 20,000 places: within five standard errors.
    error = 5 * np.sqrt(rate * (1 - rate) / kept.size)
    assert abs(kept.mean() - (1 - rate)) < error
    assert abs(seen[0].mean() - 1) < error / (1 - rate)
    if rate == 0.5:
        assert len({row.tobytes() for row in kept}) == sequences, "each sequence has a mask of its own"
    other = np.asarray(network(xs, key=jax.random.key(2))[0])[0] > 0
    assert (other != kept).any()


def test_input_dropout_needs_a_key_and_leaves_symbols_alone() -> None:
    network = listening(6, 0.9)
    xs = 1 + np.random.default_rng(0).random((3, 5, 6)).astype(np.float32)
    np.testing.assert_array_equal(network(xs)[0], xs)
    symbols = np.random.default_rng(1).integers(6, size=(3, 5)).astype(np.int32)
    np.testing.assert_array_equal(network(symbols, key=jax.random.key(0))[0], np.eye(6, dtype=np.float32)[symbols])
    assert not listening(6, 0.0).drops

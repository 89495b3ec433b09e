"""Heads: the loss is minus the log density, its gradient, its extremes, and that what is drawn has that density."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from contract import TOLERANCE, assert_close, randomized
from elman.network import Categorical
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

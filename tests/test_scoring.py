"""The score of a text: every symbol once, with the state of all that stands before it."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from elman.config import NetworkSettings
from elman.network import Network, to_arrays, with_arrays
from elman.text.scoring import nats_per_symbol, symbol_losses

VOCAB = 5


@functools.cache
def network_of(cell: str = "gru") -> Network:
    return Network.create(NetworkSettings(cell=cell, hidden=8), VOCAB, VOCAB, key=jax.random.key(0))


def text_of(length: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(VOCAB, size=length).astype(np.uint8)


def memoryless(bias: np.ndarray) -> Network:
    """A network that says softmax(bias) whatever it has read."""
    network = network_of()
    arrays = {
        **to_arrays(network),
        "head.weight": np.zeros((8, VOCAB), np.float32),
        "head.bias": bias.astype(np.float32),
    }
    return with_arrays(network, arrays, "the test")


@pytest.mark.parametrize("length", [2, 3, 256, 257, 258, 512])
def test_a_text_for_one_reader_scores_the_mean_of_its_symbols_losses(length: int) -> None:
    text = text_of(length)
    losses = symbol_losses(network_of(), text)
    assert losses.shape == (length - 1,)
    # The same losses, added up in float32.
    assert nats_per_symbol(network_of(), text) == pytest.approx(losses.astype(np.float64).mean(), rel=2e-6)


def test_the_loss_of_a_symbol_is_that_of_the_network_read_step_by_step() -> None:
    network, text = network_of(), text_of(300)
    logits, carry = [], network.initial_carry()
    step = jax.jit(lambda symbol, carry: network(symbol[None], carry))
    for symbol in text[:-1]:
        hidden, carry = step(jnp.asarray(symbol, jnp.int32), carry)
        logits.append(np.asarray(network.head(hidden[0]), np.float64))
    exact = np.log(np.exp(logits).sum(axis=1)) - np.array(logits)[np.arange(299), text[1:]]
    np.testing.assert_allclose(symbol_losses(network, text), exact, rtol=0, atol=5e-6)


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_a_long_text_read_by_many_scores_what_one_reader_finds(cell: str) -> None:
    text = text_of(5000)
    exact = symbol_losses(network_of(cell), text).astype(np.float64).mean()
    # Each of the 19 readers has forgotten, after 256 symbols of warm-up, that it began at zero: what is left is float32's rounding.
    assert nats_per_symbol(network_of(cell), text) == pytest.approx(exact, rel=1e-5)


@pytest.mark.parametrize("length", [2, 100, 511, 512, 513, 514, 767, 5001, 40_000])
def test_every_symbol_but_the_first_is_scored_once(length: int) -> None:
    # The loss of a symbol depends on the symbol alone, and each of them has a loss of its own: only the right counts add up.
    bias = np.log([0.5, 0.25, 0.15, 0.07, 0.03])
    text = text_of(length)
    expected = -bias[text[1:]].mean()
    # One symbol too many or too few, or one in place of another, is 0.4 / length or more; float32's sums are off by 1e-6 or so.
    assert nats_per_symbol(memoryless(bias), text) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("length", [1, 2, 511, 600, 5000])
@pytest.mark.parametrize("before", [1, 10, 256, 257, 1000])
def test_with_a_context_every_symbol_is_scored_once_and_the_context_is_not(before: int, length: int) -> None:
    bias = np.log([0.5, 0.25, 0.15, 0.07, 0.03])
    text, context = text_of(length), np.zeros(before, np.uint8)
    expected = -bias[text].mean()
    assert nats_per_symbol(memoryless(bias), text, context) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("before", [1, 40, 257])
def test_a_context_is_read(before: int) -> None:
    text, context = text_of(60), text_of(before, seed=1)
    losses = symbol_losses(network_of(), np.concatenate([context, text])).astype(np.float64)
    assert nats_per_symbol(network_of(), text, context) == pytest.approx(losses[before - 1 :].mean(), rel=2e-6)
    other = (context + 1) % VOCAB
    assert nats_per_symbol(network_of(), text, other) != nats_per_symbol(network_of(), text, context)


def test_an_empty_context_is_none() -> None:
    text = text_of(50)
    assert nats_per_symbol(network_of(), text, text[:0]) == nats_per_symbol(network_of(), text)


def test_a_network_that_knows_nothing_scores_the_log_of_the_vocabulary() -> None:
    # Sums of 3,000 losses in float32.
    assert nats_per_symbol(memoryless(np.zeros(VOCAB)), text_of(3000)) == pytest.approx(math.log(VOCAB), rel=1e-5)


@pytest.mark.parametrize("length", [0, 1])
def test_nothing_to_score_is_a_mistake_of_ours(length: int) -> None:
    with pytest.raises(ValueError, match="at least two symbols"):
        nats_per_symbol(network_of(), text_of(length))

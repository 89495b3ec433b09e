"""Surprise is the model's own loss, and the alternatives are its own probabilities."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from elman.config import NetworkSettings
from elman.errors import ConfigError, DataError
from elman.insight.surprise import PIECE, surprise, text_surprise
from elman.network import Network
from elman.text.model import TextModel
from elman.text.scoring import symbol_losses

VOCAB = 7


@pytest.fixture(scope="module")
def network() -> Network:
    return Network.create(NetworkSettings(cell="lstm", hidden=6, layers=2), VOCAB, VOCAB, key=jax.random.key(3))


@pytest.fixture(scope="module")
def codes() -> np.ndarray:
    return np.random.default_rng(0).integers(VOCAB, size=PIECE + 40).astype(np.uint8)


def test_losses_are_those_of_scoring_without_a_seam(network: Network, codes: np.ndarray) -> None:
    found = surprise(network, codes)
    assert np.isnan(found.losses[0])
    np.testing.assert_allclose(found.losses[1:], symbol_losses(network, codes), atol=2e-6)
    assert found.mean == pytest.approx(symbol_losses(network, codes).mean(), abs=1e-6)


def test_a_context_is_read_and_not_scored(network: Network, codes: np.ndarray) -> None:
    whole, part = surprise(network, codes[:60]), surprise(network, codes[20:60], codes[:20])
    np.testing.assert_allclose(part.losses, whole.losses[20:], atol=2e-6)
    np.testing.assert_array_equal(part.alternatives, whole.alternatives[20:])


def test_alternatives_and_entropies_are_the_models_own(network: Network, codes: np.ndarray) -> None:
    found = surprise(network, codes[:30], top=4)
    hidden, _ = network(jnp.asarray(codes[:29].astype(np.int32)))
    chances = np.asarray(jax.nn.softmax(network.head(hidden)), np.float64)
    order = np.argsort(-chances, axis=1)[:, :4]
    np.testing.assert_array_equal(found.alternatives[1:], order)
    np.testing.assert_allclose(found.probabilities[1:], np.take_along_axis(chances, order, 1), atol=1e-6)
    np.testing.assert_allclose(found.entropies[1:], -(chances * np.log(chances)).sum(1), atol=1e-5)
    assert found.alternatives[0].tolist() == [-1] * 4


def test_all_alternatives_sum_to_one(network: Network, codes: np.ndarray) -> None:
    found = surprise(network, codes[:10], top=100)
    assert found.probabilities.shape == (10, VOCAB)
    np.testing.assert_allclose(found.probabilities[1:].sum(1), 1, atol=1e-6)


def test_one_symbol_is_foreseen_by_nothing(network: Network, codes: np.ndarray) -> None:
    found = surprise(network, codes[:1])
    assert np.isnan(found.losses).all()
    assert np.isnan(found.mean)
    with pytest.raises(ValueError, match="at least one"):
        surprise(network, codes[:0])


def test_texts_and_primes() -> None:
    model = TextModel.untrained("hello world", hidden=8)
    alone, primed = text_surprise(model, "world"), text_surprise(model, "world", prime="hello ")
    assert np.isnan(alone.losses[0])
    assert np.isfinite(primed.losses).all()
    for text, words in (("", "is empty"), ("héllo", "'é' U\\+00E9")):
        with pytest.raises(DataError, match=words):
            text_surprise(model, text)
    with pytest.raises(DataError, match="does not know"):
        text_surprise(model, "hello", prime="?")
    with pytest.raises(ConfigError, match="top = 0"):
        text_surprise(model, "hello", top=0)

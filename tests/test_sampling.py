"""Sampling: what is drawn, from what, and that a text depends on seed and settings and on nothing else."""

import functools
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from elman.errors import ConfigError, DataError
from elman.network import Network, to_arrays, with_arrays
from elman.text import sampling
from elman.text.model import TextModel
from elman.text.sampling import RECENT, SamplingSettings, adjusted, draw, sample_symbols

LETTERS = "abcdefgh\n"
VOCAB = len(LETTERS)


@functools.cache
def model() -> TextModel:
    """Starting weights, made larger so that its distributions are far from uniform."""
    made = TextModel.untrained(LETTERS, hidden=8)
    return TextModel(jax.tree.map(lambda leaf: 3 * leaf, made.network), made.vocabulary, made.config)


def saying(logits: np.ndarray) -> Network:
    """A network with these logits whatever it has read."""
    arrays = to_arrays(model().network)
    changed = {"head.weight": np.zeros_like(arrays["head.weight"]), "head.bias": logits.astype(np.float32)}
    return with_arrays(model().network, {**arrays, **changed}, "the test")


def symbols(network: Network, prime: list[int], length: int, *, seed: int = 0, **options: Any) -> np.ndarray:
    extra = {name: options.pop(name) for name in ("samples", "carry") if name in options}
    settings = SamplingSettings(**options)
    return np.concatenate(
        list(sample_symbols(network, np.array(prime, np.uint8), length, settings=settings, seed=seed, **extra))
    )


# Drawing ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("vocab", [1, 2, 65, 700])
def test_draw_equals_numpys_choice_for_the_same_uniform_numbers(vocab: int, enable_x64: None) -> None:
    generator, draws = np.random.default_rng(vocab), 300
    logits = 3 * generator.standard_normal((draws, vocab))
    logits[:, : vocab // 3] -= 1000 * generator.integers(0, 2, (draws, vocab // 3))
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities = weights / weights.sum(axis=1, keepdims=True)
    chosen = [np.random.RandomState(seed).choice(vocab, p=p) for seed, p in enumerate(probabilities)]
    uniforms = np.array([np.random.RandomState(seed).random_sample() for seed in range(draws)])
    np.testing.assert_array_equal(jax.jit(draw)(logits, uniforms), chosen)


def test_draw_never_gives_what_is_excluded() -> None:
    generator = np.random.default_rng(0)
    logits = generator.standard_normal((2000, 40)).astype(np.float32)
    logits[generator.random(logits.shape) < 0.7] = -np.inf
    logits[:, 20] = 0
    below_one = np.nextafter(np.float32(1), np.float32(0))
    for uniform in (0.0, 0.5, float(below_one)):
        drawn = np.asarray(jax.jit(draw)(logits, np.full(2000, uniform, np.float32)))
        assert np.isfinite(np.take_along_axis(logits, drawn[:, None], axis=1)).all(), uniform


def test_draw_never_gives_what_is_excluded_even_where_the_uniform_number_was_rounded_to_one() -> None:
    assert draw(jnp.array([0.0, -jnp.inf]), jnp.asarray(np.float64(1) - 2**-26, jnp.float32)) == 0


# From what is drawn ----------------------------------------------------------------------------------------------------------


def adjusted_by_hand(logits: np.ndarray, recent: np.ndarray, s: SamplingSettings) -> np.ndarray:
    """One distribution: penalty, temperature, the k likeliest, the share of the likeliest, the nucleus; in this order."""
    logits = logits.astype(np.float64)
    for symbol in set(recent.tolist()) - {-1}:
        logits[symbol] = (
            logits[symbol] / s.repetition_penalty if logits[symbol] > 0 else logits[symbol] * s.repetition_penalty
        )
    logits = logits / s.temperature
    order = np.argsort(-logits)
    kept = order[: s.top_k] if s.top_k else order
    likeliest = np.exp(logits[order[0]])
    kept = [symbol for symbol in kept if np.exp(logits[symbol]) >= s.min_p * likeliest]
    total = np.exp(logits[kept]).sum()
    before, nucleus = 0.0, []
    for symbol in kept:
        if before < s.top_p:
            nucleus.append(symbol)
        before += np.exp(logits[symbol]) / total
    return np.where(np.isin(np.arange(len(logits)), nucleus), logits, -np.inf)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"temperature": 0.3},
        {"temperature": 5.0},
        {"top_k": 1},
        {"top_k": 4},
        {"top_k": 100},
        {"top_p": 0.5},
        {"top_p": 0.9},
        {"top_p": 1e-6},
        {"min_p": 0.1},
        {"min_p": 1.0},
        {"repetition_penalty": 1.5},
        {"repetition_penalty": 0.5},
        {"temperature": 0.7, "top_k": 8, "top_p": 0.8, "min_p": 0.05, "repetition_penalty": 1.3},
    ],
    ids=str,
)
def test_exactly_the_right_symbols_are_kept_with_the_right_logits(options: dict, enable_x64: None) -> None:
    settings, generator = SamplingSettings(**options), np.random.default_rng(0)
    logits = 2 * generator.standard_normal((200, 20))
    recent = generator.integers(-1, 20, (200, 6))
    found = np.asarray(jax.jit(adjusted, static_argnums=2)(logits, recent, settings))
    expected = np.stack([adjusted_by_hand(*row, settings) for row in zip(logits, recent, strict=True)])
    np.testing.assert_array_equal(np.isfinite(found), np.isfinite(expected))
    np.testing.assert_allclose(found, expected, rtol=1e-14)


def test_the_defaults_leave_the_distribution_as_it_is() -> None:
    logits = np.random.default_rng(0).standard_normal((3, 20)).astype(np.float32)
    np.testing.assert_array_equal(adjusted(logits, jnp.zeros((3, 4), jnp.int32), SamplingSettings()), logits)


def test_temperature_zero_takes_the_likeliest_and_ignores_the_seed() -> None:
    network = model().network
    first, second = (symbols(network, [1], 40, seed=seed, temperature=0.0) for seed in (1, 2))
    np.testing.assert_array_equal(first, second)
    symbol, carry = 1, network.initial_carry()
    step = jax.jit(lambda symbol, carry: network(symbol[None], carry))
    for drawn in first:
        hidden, carry = step(jnp.asarray(symbol), carry)
        symbol = int(np.asarray(network.head(hidden[0])).argmax())
        assert drawn == symbol


def test_symbols_follow_the_networks_distribution() -> None:
    probabilities = np.array([0.4, 0.2, 0.1, 0.1, 0.05, 0.05, 0.05, 0.03, 0.02])
    drawn = symbols(saying(np.log(probabilities)), [0], 256 * 40)
    share = np.bincount(drawn, minlength=VOCAB) / len(drawn)
    # Fixed seed; five standard errors.
    assert (np.abs(share - probabilities) < 5 * np.sqrt(probabilities / len(drawn))).all()


def test_the_repetition_penalty_sees_the_prime_and_what_was_drawn_and_forgets_after_64_symbols() -> None:
    logits = np.linspace(8, 4, VOCAB)
    drawn = symbols(saying(logits), [0, 2], 100, temperature=0.0, repetition_penalty=10.0)
    seen, expected = [0, 2], []
    for _ in range(100):
        penalized = [logit / 10 if symbol in seen[-RECENT:] else logit for symbol, logit in enumerate(logits)]
        expected.append(int(np.argmax(penalized)))
        seen.append(expected[-1])
    assert drawn.tolist() == expected
    assert expected[:3] == [1, 3, 4]
    assert expected.count(1) > 1, "what is forgotten is drawn again"


# One seed, one text ----------------------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_text_and_another_seed_another() -> None:
    assert model().sample("abc", length=60, seed=1) == model().sample("abc", length=60, seed=1)
    assert model().sample("abc", length=60, seed=1) != model().sample("abc", length=60, seed=2)
    assert model().sample("abc", length=60) != model().sample("abc", length=60)


def test_a_text_does_not_depend_on_how_many_symbols_are_computed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = model().sample("abc", length=300, seed=1, temperature=0.8, repetition_penalty=1.2)
    assert len(whole) == 300
    assert "".join(model().stream("abc", length=300, seed=1, temperature=0.8, repetition_penalty=1.2)) == whole
    monkeypatch.setattr(sampling, "CHUNK", 32)
    assert model().sample("abc", length=300, seed=1, temperature=0.8, repetition_penalty=1.2) == whole
    assert model().sample("abc", length=64, seed=1, temperature=0.8, repetition_penalty=1.2) == whole[:64]


def test_reading_a_prime_equals_reading_it_step_by_step() -> None:
    network, prime = model().network, [1, 5, 2, 2, 7, 0, 3]
    carry = network.initial_carry()
    step = jax.jit(lambda symbol, carry: network(symbol[None], carry)[1])
    for symbol in prime[:-1]:
        carry = step(jnp.asarray(symbol, jnp.int32), carry)
    stepwise = symbols(network, prime[-1:], 60, carry=carry)
    np.testing.assert_array_equal(symbols(network, prime, 60), stepwise)
    assert (symbols(network, prime[-1:], 60) != stepwise).any(), "the beginning of the prime matters"


def test_several_samples_go_on_from_one_prime_each_in_its_own_way() -> None:
    texts = model().samples(4, "abc", length=50, seed=3)
    assert [len(text) for text in texts] == [50] * 4
    assert len(set(texts)) == 4
    assert texts == model().samples(4, "abc", length=50, seed=3)
    alike = model().samples(3, "abc", length=50, temperature=0.0)
    assert alike == [model().sample("abc", length=50, temperature=0.0)] * 3


# Stop strings ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk", [1, 7, 256])
def test_a_text_ends_before_the_first_stop_string_also_where_it_spans_two_pieces(
    chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = model().sample("a", length=60, seed=5)
    monkeypatch.setattr(sampling, "CHUNK", chunk)
    for start, size in itertools.product((0, 3, 6, 31, 57), (1, 2, 3)):
        stop = whole[start : start + size]
        pieces = list(model().stream("a", length=60, seed=5, stop=stop))
        assert "".join(pieces) == whole[: whole.find(stop)], (stop, pieces)
    stops = [whole[40:43], whole[20:24], "not in it"]
    cut = min(whole.find(stop) for stop in stops[:2])
    assert model().sample("a", length=60, seed=5, stop=stops) == whole[:cut]
    assert model().sample("a", length=60, seed=5, stop=["not in it", ""]) == whole


def test_every_one_of_several_samples_is_cut_at_its_own_stop() -> None:
    whole = model().samples(3, "a", length=60, seed=5)
    assert model().samples(3, "a", length=60, seed=5, stop="ab") == [text.split("ab")[0] for text in whole]


# Primes ----------------------------------------------------------------------------------------------------------------------


def test_unknown_characters_of_a_prime_are_skipped_or_refused_by_name() -> None:
    assert model().sample("aXbYc", length=20, seed=1) == model().sample("abc", length=20, seed=1)
    with pytest.raises(DataError, match=r"'X' U\+0058, 'Y' U\+0059"):
        model().sample("aXbYc", length=20, unknown="error")
    with pytest.raises(ConfigError, match="unknown = 'ignore' is not possible: one of skip, error"):
        model().sample("abc", length=20, unknown="ignore")


def test_without_a_prime_a_text_begins_after_a_newline() -> None:
    begun = model().sample("\n", length=20, seed=1)
    assert model().sample(length=20, seed=1) == model().sample("XY", length=20, seed=1) == begun
    without = TextModel.untrained("bcd", hidden=4)
    assert without.sample(length=5, seed=1) == without.sample("b", length=5, seed=1)


# Options that cannot be ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", -0.1),
        ("temperature", 101),
        ("temperature", float("nan")),
        ("temperature", "hot"),
        ("top_k", -1),
        ("top_k", 2.5),
        ("top_p", True),
        ("top_p", 0.0),
        ("top_p", 1.1),
        ("min_p", -0.1),
        ("min_p", 1.5),
        ("repetition_penalty", 0.0),
        ("repetition_penalty", float("inf")),
        ("length", 0),
    ],
)
def test_an_option_out_of_range_is_refused_with_its_name_and_value(name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"{name} = {value!r} is out of range: an? (number|integer)"):
        model().sample("a", **{"length": 5, name: value})


def test_an_unknown_option_suggests_the_nearest() -> None:
    with pytest.raises(ConfigError, match="unknown sampling option 'temprature': did you mean 'temperature'"):
        model().sample("a", temprature=1)
    with pytest.raises(ConfigError, match="unknown sampling option 'nonsense'"):
        model().samples(2, "a", nonsense=1)


@pytest.mark.parametrize("count", [0, -1])
def test_fewer_than_one_sample_is_refused(count: int) -> None:
    with pytest.raises(ConfigError, match=f"samples = {count} is out of range"):
        model().samples(count, "a")


def test_several_samples_of_no_length_are_refused_as_one_is() -> None:
    with pytest.raises(ConfigError, match="length = 0 is out of range"):
        model().samples(2, "a", length=0)


# Precision -------------------------------------------------------------------------------------------------------------------


def test_between_the_pieces_of_a_float64_model_the_callers_precision_is_its_own() -> None:
    pieces = TextModel.untrained("abc", hidden=4, dtype="float64").stream("a", length=300, seed=0)
    next(pieces)
    try:
        assert jnp.asarray(np.ones(1)).dtype == jnp.float32
    finally:
        pieces.close()

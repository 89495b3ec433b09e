"""N-gram baselines: the fast model equals a plain one made of dictionaries, sums to one, and never looks ahead."""

import json
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elman.text.ngrams import FALLBACK_DISCOUNTS, NgramModel, baselines

SHAKESPEARE = Path(__file__).parents[1].parent / "shared" / "data" / "tinyshakespeare.txt"
ORDERS = (1, 2, 3, 4, 5, 6)
ROUNDING = 1e-12  # sums of at most a few thousand float64 terms between 0 and 1

texts = st.integers(1, 5).flatmap(
    lambda size: st.tuples(st.just(size), st.lists(st.integers(0, size - 1), min_size=1, max_size=60))
)


class PlainModel:
    """The equations of `elman.text.ngrams`, written down with dictionaries and loops."""

    def __init__(self, text: list[int], vocab_size: int, order: int) -> None:
        self.vocab_size, self.order = vocab_size, order
        padded = [-1] * order + text
        self.counts: dict[int, Counter[tuple[int, ...]]] = {}
        self.discounts: dict[int, tuple[float, ...]] = {}
        for length in range(1, order + 1):
            ends = range(order, len(padded))
            if length == order:
                counts = Counter(tuple(padded[end - length + 1 : end + 1]) for end in ends)
            else:
                longer = {tuple(padded[end - length : end + 1]) for end in ends}
                counts = Counter(ngram[1:] for ngram in longer)
            self.counts[length] = counts
            self.discounts[length] = plain_discounts(list(counts.values()))

    def probability(self, context: tuple[int, ...], symbol: int) -> float:
        context = context[max(len(context) - self.order + 1, 0) :]
        return self.interpolated(context, symbol)

    def interpolated(self, context: tuple[int, ...], symbol: int) -> float:
        length = len(context) + 1
        lower = self.interpolated(context[1:], symbol) if context else 1 / self.vocab_size
        counts = {ngram[-1]: count for ngram, count in self.counts[length].items() if ngram[:-1] == context}
        total = sum(counts.values())
        if not total:
            return lower
        by_count = self.discounts[length]
        taken = {other: by_count[min(count, 3)] for other, count in counts.items()}
        share = (counts[symbol] - taken[symbol]) / total if symbol in counts else 0.0
        return share + sum(taken.values()) / total * lower


def plain_discounts(counts: list[int]) -> tuple[float, ...]:
    n1, n2, n3, n4 = (counts.count(number) for number in (1, 2, 3, 4))
    if 0 in (n1, n2, n3, n4):
        return (0.0, *FALLBACK_DISCOUNTS)
    y = n1 / (n1 + 2 * n2)
    found = (1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3)
    kept = [count - discount for count, discount in enumerate(found, start=1)]
    trusted = all(discount > 0 for discount in found) and kept == sorted(kept)
    return (0.0, *found) if trusted else (0.0, *FALLBACK_DISCOUNTS)


def skewed_text(seed: int, length: int, vocab_size: int) -> np.ndarray:
    """Symbols from frequent to rare, each likely to follow its neighbors: counts of every size at every order."""
    random = np.random.default_rng(seed)
    steps = np.minimum(random.geometric(0.45, length) - 1, vocab_size - 1)
    return (np.cumsum(steps) % vocab_size * random.integers(0, 2, length)).astype(np.uint8)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("seed", range(4))
def test_equals_the_plain_dictionary_model(order: int, seed: int) -> None:
    vocab_size = 4 + 3 * seed
    text = skewed_text(seed, 150, vocab_size - 1)  # the last symbol is in no training text
    held_out = np.random.default_rng(seed).integers(0, vocab_size, 60)
    held_out[:30] = text[20:50]
    plain = PlainModel(text.tolist(), vocab_size, order)
    fast = NgramModel.fit(text, vocab_size, order)

    before = text.tolist()
    expected = []
    for symbol in held_out.tolist():
        expected.append(math.log(plain.probability(tuple(before), symbol)))
        before.append(symbol)
    np.testing.assert_allclose(fast.log_probabilities(held_out, context=text), expected, rtol=1e-10)


def test_the_comparison_meets_both_estimated_and_fallback_discounts() -> None:
    used = {
        PlainModel(skewed_text(seed, 150, 3 + 3 * seed).tolist(), 4 + 3 * seed, 6).discounts[length][1:]
        == FALLBACK_DISCOUNTS
        for seed in range(4)
        for length in ORDERS
    }
    assert used == {True, False}


@settings(max_examples=60, deadline=None)
@given(texts, st.integers(1, 6), st.data())
def test_any_small_text_equals_the_plain_model(
    sized_text: tuple[int, list[int]], order: int, data: st.DataObject
) -> None:
    vocab_size, text = sized_text
    held_out = data.draw(st.lists(st.integers(0, vocab_size), min_size=1, max_size=12))
    plain = PlainModel(text, vocab_size + 1, order)
    fast = NgramModel.fit(text, vocab_size + 1, order)
    expected = [
        math.log(plain.probability(tuple(held_out[:place]), symbol)) for place, symbol in enumerate(held_out)
    ]  # no context: the first symbols are left to the lower orders
    np.testing.assert_allclose(fast.log_probabilities(held_out), expected, rtol=1e-10)


@pytest.mark.parametrize("order", ORDERS)
def test_probabilities_sum_to_one_after_any_context(order: int) -> None:
    vocab_size = 12
    text = skewed_text(1, 3000, 9)
    model = NgramModel.fit(text, vocab_size, order)
    random = np.random.default_rng(order)
    seen = [text[place : place + 7] for place in random.integers(0, len(text) - 7, 30)]
    unseen = [random.integers(0, vocab_size, length) for length in range(8) for _ in range(4)]
    for context in [*seen, *unseen, text, text[:1], [11, 11, 11, 11, 11, 11]]:
        probabilities = model.distribution(context)
        assert probabilities.shape == (vocab_size,)
        assert probabilities.min() > 0
        assert abs(probabilities.sum() - 1) < ROUNDING


@pytest.mark.parametrize("order", ORDERS)
def test_distribution_and_log_probabilities_agree(order: int) -> None:
    text = skewed_text(2, 1000, 8)
    model = NgramModel.fit(text[:900], 10, order)
    scores = model.log_probabilities(text[900:], text[:900])
    expected = [np.log(model.distribution(text[:place])[text[place]]) for place in range(900, 1000)]
    np.testing.assert_allclose(scores, expected, rtol=1e-12)


@settings(max_examples=60, deadline=None)
@given(texts, st.integers(1, 6), st.lists(st.integers(0, 6), max_size=8))
def test_every_distribution_is_one(sized_text: tuple[int, list[int]], order: int, context: list[int]) -> None:
    _, text = sized_text
    probabilities = NgramModel.fit(text, 7, order).distribution(context)
    assert probabilities.min() > 0
    assert abs(probabilities.sum() - 1) < ROUNDING


@settings(max_examples=40, deadline=None)
@given(texts, st.integers(1, 6), st.lists(st.integers(0, 5), min_size=2, max_size=20), st.data())
def test_later_symbols_change_nothing_before_them(
    sized_text: tuple[int, list[int]], order: int, held_out: list[int], data: st.DataObject
) -> None:
    _, text = sized_text
    model = NgramModel.fit(text, 6, order)
    cut = data.draw(st.integers(1, len(held_out) - 1))
    changed = held_out[:cut] + [5 - code for code in held_out[cut:]]
    before, after = (model.log_probabilities(codes, text) for codes in (held_out, changed))
    np.testing.assert_array_equal(before[:cut], after[:cut])


@pytest.mark.parametrize("order", ORDERS)
def test_two_parts_with_the_first_as_context_equal_the_whole(order: int) -> None:
    text = skewed_text(3, 600, 8)
    model = NgramModel.fit(text[:500], 8, order)
    whole = model.log_probabilities(text[500:], text[:500])
    for cut in (0, 1, 3, 50, 100):
        first = model.log_probabilities(text[500 : 500 + cut], text[:500])
        second = model.log_probabilities(text[500 + cut :], text[: 500 + cut])
        np.testing.assert_array_equal(np.concatenate([first, second]), whole)


def test_unigram_is_the_closed_form_with_fallback_discounts() -> None:
    text = np.repeat(np.arange(3), [5, 10, 25])  # no symbol once, twice or three times: D3+ = 1.5
    probabilities = NgramModel.fit(text, 4, 1).distribution()
    left_over = 3 * 1.5 / 40 / 4
    expected = [3.5 / 40 + left_over, 8.5 / 40 + left_over, 23.5 / 40 + left_over, left_over]
    np.testing.assert_allclose(probabilities, expected, rtol=1e-14)


def test_unigram_is_the_closed_form_with_estimated_discounts() -> None:
    counts = np.array([1, 1, 1, 1, 2, 2, 3, 4])  # n1..n4 = 4, 2, 1, 1: Y = 1/2, D = 1/2, 5/4, 1
    discounts = np.array([0.5, 0.5, 0.5, 0.5, 1.25, 1.25, 1, 1])
    probabilities = NgramModel.fit(np.repeat(np.arange(8), counts), 10, 1).distribution()
    expected = np.append(counts - discounts, [0, 0]) / 15 + discounts.sum() / 15 / 10
    np.testing.assert_allclose(probabilities, expected, rtol=1e-14)


def test_lower_orders_count_the_symbols_before_not_the_occurrences() -> None:
    # As "Francisco" is frequent, but after "San" only (Chen & Goodman 1998, section 2.7): 2 is, and nearly always after 1,
    # while 3 is rare but follows three different symbols.
    text = [1, 2] * 8 + [0, 3, 4, 3, 2, 3]
    unigrams, bigrams = (NgramModel.fit(text, 6, order).distribution([5]) for order in (1, 2))
    assert unigrams[2] > unigrams[3]
    assert bigrams[3] > bigrams[2]


def test_a_large_vocabulary_is_packed_without_overflow() -> None:
    vocab_size = 1_114_112  # all code points: to the power of six this is far beyond 64 bits
    random = np.random.default_rng(0)
    text = random.integers(vocab_size - 3, vocab_size, 400, dtype=np.uint32)
    model = NgramModel.fit(text, vocab_size, 6)
    plain = PlainModel((text - (vocab_size - 3)).tolist(), 3, 6)
    np.testing.assert_array_equal(model.distribution(text).argmax(), vocab_size - 3 + np.argmax(plain_row(plain, text)))
    assert abs(model.distribution(text).sum() - 1) < 1e-9


def plain_row(plain: PlainModel, text: np.ndarray) -> list[float]:
    context = tuple((text - text.min()).tolist())
    return [plain.probability(context, symbol) for symbol in range(plain.vocab_size)]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32])
def test_the_type_of_the_codes_and_memory_mapping_change_nothing(
    dtype: type[np.unsignedinteger], tmp_path: Path
) -> None:
    text = skewed_text(0, 500, 9)
    mapped = np.memmap(tmp_path / "codes", dtype, "w+", shape=len(text))
    mapped[:] = text
    mapped.flush()
    read_only = np.memmap(tmp_path / "codes", dtype, "r")
    assert baselines(read_only[:400], read_only[400:], 9) == baselines(text[:400], text[400:], 9)


def test_baselines_are_those_of_models_fitted_one_by_one() -> None:
    text = skewed_text(5, 3000, 12)
    train, held_out = text[:2500], text[2500:]
    result = baselines(train, held_out, 12)
    for order in ORDERS:
        alone = -NgramModel.fit(train, 12, order).log_probabilities(held_out, train).mean()
        assert result["by_order"][str(order)] == pytest.approx(alone, rel=1e-13)
    assert result["uniform"] == math.log(12)
    assert result["unigram"] == result["by_order"]["1"]
    assert result["ngram"] == min(result["by_order"].values()) == result["by_order"][str(result["ngram_order"])]
    assert (result["trained_on"], result["scored_on"]) == (2500, 500)
    assert json.loads(json.dumps(result)) == result


def test_only_the_orders_asked_for_are_reported() -> None:
    text = skewed_text(5, 1000, 6)
    everything = baselines(text[:900], text[900:], 6)
    result = baselines(text[:900], text[900:], 6, orders=(4, 2))
    assert result["by_order"] == {order: everything["by_order"][order] for order in ("2", "4")}
    assert result["ngram_order"] in (2, 4)
    assert result["unigram"] == everything["unigram"]


def test_limits_take_the_end_of_training_and_the_beginning_of_the_held_out_part() -> None:
    text = skewed_text(6, 2000, 6)
    limited = baselines(text[:1500], text[1500:], 6, train_limit=700, held_out_limit=100)
    assert limited == baselines(text[800:1500], text[1500:1600], 6)
    assert (limited["trained_on"], limited["scored_on"]) == (700, 100)


def test_nothing_held_out_has_no_score() -> None:
    result = baselines(np.array([0, 1, 0], np.uint8), np.zeros(0, np.uint8), 2)
    assert (result["trained_on"], result["scored_on"]) == (3, 0)
    assert result["by_order"] == dict.fromkeys("123456")
    assert [result[name] for name in ("uniform", "unigram", "ngram", "ngram_order")] == [None] * 4


@pytest.mark.parametrize(
    ("train", "held_out"),
    [([0], [0]), ([0], [1, 2, 0]), ([], [1]), ([0, 1], [1]), ([2] * 50, [2] * 9), ([2] * 50, [0, 1])],
    ids=["one symbol each", "one symbol", "none", "shorter than the order", "constant", "all unseen"],
)
def test_degenerate_texts_have_finite_scores(train: list[int], held_out: list[int]) -> None:
    result = baselines(np.array(train, np.uint8), np.array(held_out, np.uint8), 3)
    scores = [result["uniform"], result["unigram"], *result["by_order"].values()]
    assert all(math.isfinite(score) and score > 0 for score in scores)


def test_no_training_text_is_the_uniform_distribution() -> None:
    result = baselines(np.zeros(0, np.uint8), np.array([0, 4, 2], np.uint8), 5)
    assert set(result["by_order"].values()) == {math.log(5)}


def test_a_vocabulary_of_one_symbol_is_certain() -> None:
    result = baselines(np.zeros(9, np.uint8), np.zeros(3, np.uint8), 1)
    assert [result["uniform"], *result["by_order"].values()] == pytest.approx([0.0] * 7, abs=ROUNDING)


def test_unseen_symbols_are_finite_and_the_least_likely() -> None:
    text = skewed_text(7, 1000, 8)
    model = NgramModel.fit(text, 10, 6)
    for place in (0, 1, 5, 300, 1000):
        probabilities = model.distribution(text[:place])
        assert 0 < probabilities[8] == probabilities[9] < probabilities[:8].min()


@pytest.mark.parametrize(
    ("codes", "vocab_size", "order", "message"),
    [
        ([0, 1], 2, 0, "order = 0"),
        ([0, 1], 0, 2, "vocab_size = 0"),
        ([0, 3], 3, 2, "codes from 0 to 3 .* vocabulary of 3 symbols"),
        ([-1, 0], 3, 2, "codes from -1 to 0"),
        ([0.5], 3, 2, "one row of integers"),
        ([[0], [1]], 3, 2, "one row of integers; these are 2-dimensional"),
    ],
)
def test_impossible_arguments_are_named(codes: list[int], vocab_size: int, order: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NgramModel.fit(np.array(codes), vocab_size, order)


@pytest.mark.parametrize("options", [{"orders": ()}, {"orders": (0, 2)}, {"train_limit": -1}, {"held_out_limit": -1}])
def test_impossible_options_of_the_baselines_are_named(options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        baselines(np.zeros(3, np.uint8), np.zeros(3, np.uint8), 2, **options)  # type: ignore[arg-type]


def test_nothing_given_is_changed() -> None:
    text = skewed_text(8, 300, 5)
    text.setflags(write=False)
    copy = text.copy()
    baselines(text[:250], text[250:], 5)
    NgramModel.fit(text, 5, 3).distribution(text)
    np.testing.assert_array_equal(text, copy)


@pytest.mark.skipif(not SHAKESPEARE.exists(), reason="shared/data/tinyshakespeare.txt is not here")
def test_shakespeare_scores_what_was_measured() -> None:
    values = np.frombuffer(SHAKESPEARE.read_bytes(), np.uint8)  # pure ASCII: bytes are characters
    symbols, codes = np.unique(values, return_inverse=True)
    cut = len(codes) * 9 // 10
    result = baselines(codes[:cut].astype(np.uint8), codes[cut:].astype(np.uint8), len(symbols))
    assert (result["trained_on"], result["scored_on"]) == (1_003_854, 111_540)
    # Measured with this module, which equals the plain model; the window allows for rounding only.
    measured = {"1": 3.34733, "2": 2.48355, "3": 2.03680, "4": 1.71769, "5": 1.55981, "6": 1.52128}
    assert result["by_order"] == pytest.approx(measured, abs=1e-5)
    assert result["uniform"] == pytest.approx(math.log(65))
    assert result["ngram_order"] == 6
    assert result["ngram"] < result["unigram"] < result["uniform"]

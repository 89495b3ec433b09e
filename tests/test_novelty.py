"""Matching statistics are those of a search that tries everything, whatever the texts and the size of the parts."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import example, given

from elman.insight import novelty as module
from elman.insight.novelty import Matches, marked, match, novelty


def by_trying(sample: list[int], training: list[int]) -> list[int]:
    text, lengths = bytes(training), []
    for start in range(len(sample)):
        length = 0
        while start + length < len(sample) and bytes(sample[start : start + length + 1]) in text:
            length += 1
        lengths.append(length)
    return lengths


TEXTS = st.one_of(
    st.lists(st.integers(0, 1), min_size=1, max_size=120),
    st.lists(st.integers(0, 3), min_size=1, max_size=120),
    st.lists(st.integers(0, 1), min_size=1, max_size=9).map(lambda period: (period * 100)[:120]),
)


@pytest.fixture(params=[16, 1 << 22], ids=["small parts", "one part"])
def part(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(module, "PART", request.param)
    return request.param


def check(sample: list[int], training: list[int]) -> None:
    ours, theirs = np.asarray(sample, np.uint8), np.asarray(training, np.uint8)
    found = match(ours, theirs)
    assert found.lengths.tolist() == by_trying(sample, training)
    for start, (length, place) in enumerate(zip(found.lengths, found.places, strict=True)):
        assert (place == -1) == (length == 0)
        if length:
            assert ours[start : start + length].tolist() == theirs[place : place + length].tolist()


@given(sample=TEXTS, training=TEXTS, copied=st.booleans())
@example(sample=[0] * 40, training=[0] * 200, copied=False)
@example(sample=[0] * 200, training=[0] * 20, copied=False)
def test_lengths_are_those_of_a_search_that_tries_everything(
    sample: list[int], training: list[int], copied: bool
) -> None:
    check(sample + training[3:90] if copied else sample, training)


@pytest.mark.parametrize("seed", range(6))
def test_parts_leave_no_seam(part: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    training = rng.integers(2 + seed % 2, size=300).tolist()
    check(
        [*rng.integers(2, size=5).tolist(), *training[40:75], *training[200:230], *rng.integers(3, size=5).tolist()],
        training,
    )


def test_a_million_spaces() -> None:
    found = match(np.zeros(5000, np.uint8), np.zeros(1_000_000, np.uint8))
    np.testing.assert_array_equal(found.lengths, np.arange(5000, 0, -1))


def test_an_empty_side_matches_nothing() -> None:
    assert match(np.zeros(0, np.uint8), np.zeros(9, np.uint8)).lengths.tolist() == []
    assert match(np.zeros(3, np.uint8), np.zeros(0, np.uint8)).lengths.tolist() == [0, 0, 0]
    assert Matches(np.zeros(0, int), np.zeros(0, int)).share(8) == 0


def test_large_numbers_are_symbols_too() -> None:
    training = np.random.default_rng(0).integers(0, 100_000, 4000).astype(np.uint32)
    found = match(np.concatenate([training[100:130], training[:5]]), training)
    assert found.lengths[0] == 30
    assert found.lengths[30] == 5
    assert found.places[[0, 30]].tolist() == [100, 0]


def test_hashes_that_agree_by_chance_are_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BASE", 1)  # the hash of a piece is then the sum of its symbols, whatever their order
    monkeypatch.setattr(module, "_INVERSE", 1)
    sample, training = np.asarray([1, 2, 3, 4]), np.asarray([9, 4, 3, 2, 1, 9])
    found = match(sample, training)
    for start, (length, place) in enumerate(zip(found.lengths, found.places, strict=True)):
        assert sample[start : start + length].tolist() == training[place : place + length].tolist()


def test_shares_pieces_and_marks() -> None:
    training = np.asarray([ord(c) for c in "the quick brown fox jumps over the lazy dog"])
    sample = np.asarray([ord(c) for c in "a quick brown cat jumps over it"])
    found = match(sample, training)
    pieces = ["".join(map(chr, sample[p.start : p.start + p.length])) for p in found.longest(2)]
    assert pieces == [" quick brown ", " jumps over "]
    covered = found.covered(10)
    assert (
        "".join(chr(c) if c_ else "-" for c, c_ in zip(sample, covered, strict=True))
        == "- quick brown --- jumps over --"
    )
    assert found.share(10) == covered.mean()
    assert marked(found, (8, 13)).tolist() == (found.covered(8).astype(int) + found.covered(13)).tolist()


def test_the_held_out_text_is_measured_by_itself() -> None:
    rng = np.random.default_rng(1)
    training, held_out, sample = rng.integers(5, size=3000), rng.integers(5, size=900), rng.integers(5, size=200)
    both = novelty(sample, training, held_out)
    assert both.held_out is not None
    np.testing.assert_array_equal(both.sample.lengths, match(sample, training).lengths)
    np.testing.assert_array_equal(both.held_out.lengths, match(held_out[:200], training).lengths)
    assert novelty(sample, training).shares()[0][2] is None

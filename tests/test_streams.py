"""Reading a text side by side: what is read, when a state is fresh, and that updates taken at once are those taken singly."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some

from elman.errors import DataError
from elman.text.streams import Streams


def numbered(length: int) -> np.ndarray:
    """A text in which every symbol is its own place."""
    return np.arange(length, dtype=np.int32)


@some.composite
def settings(draw: some.DrawFn) -> dict[str, int | str]:
    """Streams of every kind, over a text that is long enough."""
    unroll = draw(some.integers(1, 9))
    return {
        "length": draw(some.integers(unroll + 2, 120)),
        "batch": draw(some.integers(1, 6)),
        "unroll": unroll,
        "stream_length": draw(some.sampled_from([0, 1, 7, 20])),
        "restart": draw(some.sampled_from(["continue", "random"])),
        "seed": draw(some.integers(0, 2**32 - 1)),
    }


def streams_of(length: int, **options: int | str) -> Streams:
    return Streams(numbered(length), **options)  # type: ignore[arg-type]


def classic_program(length: int, unroll: int, updates: int) -> tuple[list[int], list[bool]]:
    """The pointer and the resets of the 112-line program, transcribed."""
    pointer, n = 0, 0
    pointers, resets = [], []
    while n < updates:
        reset = False
        if pointer + unroll + 1 >= length or n == 0:
            reset = True
            pointer = 0
        pointers.append(pointer)
        resets.append(reset)
        pointer += unroll
        n += 1
    return pointers, resets


@given(unroll=some.integers(1, 30), extra=some.integers(0, 200), updates=some.integers(1, 60))
def test_one_reader_walks_and_wraps_as_the_classic_program_does(unroll: int, extra: int, updates: int) -> None:
    length = unroll + 2 + extra
    windows = streams_of(length, batch=1, unroll=unroll).take(0, updates, updates)
    pointers, resets = classic_program(length, unroll, updates)
    assert windows.symbols[:, 0, 0].tolist() == pointers
    # Before the first update the state is zero anyway.
    assert windows.fresh[1:, 0].tolist() == resets[1:]
    for window, pointer in zip(windows.symbols[:, :, 0], pointers, strict=True):
        assert window.tolist() == list(range(pointer, pointer + unroll + 1))


@given(unroll=some.integers(1, 9), extra=some.integers(0, 150), batch=some.integers(1, 6))
def test_every_symbol_is_read_once_per_round(unroll: int, extra: int, batch: int) -> None:
    length = unroll + 2 + extra
    updates = 3 * (length // unroll + 2)
    windows = streams_of(length, batch=batch, unroll=unroll).take(0, updates, updates)
    for reader in range(batch):
        begins = np.flatnonzero(windows.fresh[:, reader])
        assert len(begins) >= 2, "three rounds wrap at least twice"
        for begin, end in itertools.pairwise(begins):
            inputs = windows.symbols[begin:end, :-1, reader].ravel().tolist()
            # From the first symbol on, none twice, none left out, but for a rest that fills no window.
            assert inputs == list(range(len(inputs)))
            assert length - len(inputs) <= unroll + 1
            targets = windows.symbols[begin:end, 1:, reader].ravel().tolist()
            assert targets == [symbol + 1 for symbol in inputs]


@given(unroll=some.integers(1, 9), extra=some.integers(0, 150), batch=some.integers(1, 6))
def test_between_fresh_states_a_reader_goes_on_where_it_ended(unroll: int, extra: int, batch: int) -> None:
    length = unroll + 2 + extra
    windows = streams_of(length, batch=batch, unroll=unroll).take(0, 40, 40)
    goes_on = windows.symbols[1:, 0] == windows.symbols[:-1, -1]
    assert (goes_on | windows.fresh[1:]).all()
    assert (windows.symbols[1:, 0][windows.fresh[1:]] == 0).all()


def test_readers_begin_evenly_spread() -> None:
    windows = streams_of(100, batch=4, unroll=5).take(0, 1, 1)
    assert windows.symbols[0, 0].tolist() == [0, 25, 50, 75]
    assert not windows.fresh.any()


@given(settings=settings(), first=some.integers(0, 15), second=some.integers(1, 15), padding=some.integers(0, 3))
def test_updates_taken_at_once_equal_updates_taken_one_by_one(
    settings: dict, first: int, second: int, padding: int
) -> None:
    total = first + second
    at_once = streams_of(**settings).take(0, total, total + padding)
    assert at_once.symbols.shape == (total + padding, settings["unroll"] + 1, settings["batch"])
    one_by_one = streams_of(**settings)
    for update in range(total):
        if update == first:
            # A checkpoint here: another object goes on with the saved positions and ages.
            resumed = streams_of(**settings)
            resumed.positions, resumed.ages = one_by_one.positions.copy(), one_by_one.ages.copy()
            one_by_one = resumed
        window = one_by_one.take(update, 1, 1)
        np.testing.assert_array_equal(window.symbols[0], at_once.symbols[update])
        np.testing.assert_array_equal(window.fresh[0], at_once.fresh[update])


@given(settings=settings())
def test_every_window_lies_within_the_text_and_nothing_is_fresh_in_the_padding(settings: dict) -> None:
    windows = streams_of(**settings).take(0, 25, 30)
    assert (np.diff(windows.symbols, axis=1) == 1).all()
    assert windows.symbols.max() < settings["length"]
    assert not windows.fresh[25:].any()


@given(settings=settings())
def test_no_state_is_older_than_the_stream_length(settings: dict) -> None:
    settings = {**settings, "stream_length": 20}
    fresh = streams_of(**settings).take(0, 60, 60).fresh
    longest = -(-20 // settings["unroll"])
    for reader in range(settings["batch"]):
        gaps = np.diff(np.flatnonzero(fresh[:, reader]))
        assert len(gaps) > 0
        assert gaps.max() <= longest


def test_streams_of_limited_length_restart_at_different_times() -> None:
    fresh = streams_of(1000, batch=4, unroll=5, stream_length=40).take(0, 8, 8).fresh
    assert (fresh.sum(axis=0) <= 1).all()
    assert fresh.sum(axis=1).max() == 1


def test_a_continued_restart_stays_where_it_is() -> None:
    windows = streams_of(1000, batch=1, unroll=5, stream_length=20).take(0, 10, 10)
    assert windows.symbols[:, 0, 0].tolist() == list(range(0, 50, 5))
    assert np.flatnonzero(windows.fresh[:, 0]).tolist() == [4, 8]


def test_random_restarts_depend_on_the_seed_and_the_updates_number_and_on_nothing_else() -> None:
    def restarts(seed: int, age: int = 0) -> dict[int, int]:
        streams = streams_of(5000, batch=1, unroll=5, stream_length=20, restart="random", seed=seed)
        streams.ages[:] = age
        windows = streams.take(0, 60, 60)
        return {int(u): int(windows.symbols[u, 0, 0]) for u in np.flatnonzero(windows.fresh[:, 0])}

    places = restarts(seed=1)
    assert len(set(places.values())) > 10
    assert min(places.values()) < 1500
    assert max(places.values()) > 3500
    assert restarts(seed=1) == places
    # Another history, in which some restarts fall on the same updates: there they go to the same places.
    streams = streams_of(5000, batch=1, unroll=5, stream_length=40, restart="random", seed=1)
    windows = streams.take(0, 60, 60)
    common = [u for u in np.flatnonzero(windows.fresh[:, 0]) if u in places]
    assert len(common) >= 5
    assert all(windows.symbols[u, 0, 0] == places[u] for u in common)
    other = restarts(seed=2)
    assert other.keys() == places.keys()
    assert sum(other[u] == places[u] for u in places) <= 1


def test_readers_restart_at_different_random_places() -> None:
    streams = streams_of(5000, batch=4, unroll=5, stream_length=20, restart="random")
    streams.ages[:] = 20
    assert len(set(streams.take(0, 1, 1).symbols[0, 0].tolist())) == 4


@given(unroll=some.integers(1, 9), extra=some.integers(0, 40), updates=some.integers(0, 30))
def test_the_next_symbol_is_what_the_first_reader_reads_next(unroll: int, extra: int, updates: int) -> None:
    streams = streams_of(unroll + 2 + extra, batch=2, unroll=unroll)
    streams.take(0, updates, updates)
    symbol, fresh = streams.next_symbol(updates)
    following = streams.take(updates, 1, 1)
    assert symbol == following.symbols[0, 0, 0]
    assert fresh == following.fresh[0, 0]


def test_the_next_symbol_is_fresh_where_the_streams_length_is_up() -> None:
    streams = streams_of(100, batch=1, unroll=5, stream_length=5)
    streams.take(0, 1, 1)
    symbol, fresh = streams.next_symbol(1)
    following = streams.take(1, 1, 1)
    assert (symbol, fresh) == (following.symbols[0, 0, 0], following.fresh[0, 0])


@pytest.mark.parametrize("length", [0, 1, 26])
def test_a_text_shorter_than_a_window_is_refused_with_what_it_would_need(length: int) -> None:
    with pytest.raises(DataError, match=f"has {length} symbols, but 25 unrolled steps need at least 27") as caught:
        streams_of(length, batch=1, unroll=25)
    assert "--unroll" in str(caught.value)
    assert streams_of(27, batch=3, unroll=25).take(0, 4, 4).symbols.shape == (4, 26, 3)


def test_taking_does_not_write_into_the_text() -> None:
    codes = numbered(50)
    codes.flags.writeable = False
    Streams(codes, batch=2, unroll=5).take(0, 20, 20)

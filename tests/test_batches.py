"""Streams and windows: which rows an update reads, what is scored, when a state is fresh, and where one goes on."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from elman.series.batches import Picks, Streams, Windows


def offsets_of(lengths: list[int]) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def training_ends(lengths: list[int], behind: int) -> np.ndarray:
    """Training leaves `behind` rows of each series, or all of a short one."""
    offsets = offsets_of(lengths)
    return np.maximum(offsets[1:] - behind, offsets[:-1])


def streams_of(lengths: list[int], behind: int = 0, **options: int) -> Streams:
    chosen = {"batch": 3, "unroll": 5, "every": 1, "warm_up": 4, "segment": 20, "furthest": 2, "seed": 0, **options}
    return Streams(offsets_of(lengths), training_ends(lengths, behind), **chosen)  # type: ignore[arg-type]


def windows_of(lengths: list[int], behind: int = 0, missing: tuple[int, ...] = (), **options: int) -> Windows:
    chosen = {"batch": 3, "steps": 5, "every": 1, "furthest": 2, "seed": 0, **options}
    there = np.ones(sum(lengths), bool)
    there[list(missing)] = False
    return Windows(offsets_of(lengths), training_ends(lengths, behind), there, **chosen)  # type: ignore[arg-type]


def walks(picks: Picks) -> list[list[list[tuple[int, bool]]]]:
    """Of each reader, its segments: (row, scored) of every step, one segment behind the other."""
    result = []
    for reader in range(picks.rows.shape[2]):
        segments: list[list[tuple[int, bool]]] = []
        for update in range(len(picks.rows)):
            if picks.fresh[update, reader]:
                segments.append([])
            steps = zip(picks.rows[update, :, reader], picks.scored[update, :, reader], strict=True)
            segments[-1].extend((int(row), bool(scored)) for row, scored in steps)
        result.append(segments)
    return result


def one_epoch(streams: Streams) -> list[list[tuple[int, bool]]]:
    """The segments of the first epoch, as a single reader walks them."""
    assert streams.batch == 1
    total, segments = len(streams._shuffled(0)), []
    while True:
        picks = streams.take(1)
        if picks.fresh[0, 0] and len(segments) == total:
            return segments
        if picks.fresh[0, 0]:
            segments.append([])
        segments[-1] += zip(picks.rows[0, :, 0].tolist(), picks.scored[0, :, 0].tolist(), strict=True)


@some.composite
def stream_settings(draw: some.DrawFn) -> tuple[list[int], dict[str, int]]:
    warm_up = draw(some.integers(1, 6))
    options = {
        "behind": draw(some.sampled_from([0, 0, 7])),
        "unroll": draw(some.integers(1, 9)),
        "every": draw(some.sampled_from([1, 1, 2, 3])),
        "warm_up": warm_up,
        "segment": draw(some.integers(warm_up + 1, 12 * warm_up)),
        "furthest": draw(some.integers(1, 5)),
        "seed": draw(some.integers(0, 2**32 - 1)),
    }
    lengths = draw(some.lists(some.integers(0, 150), min_size=1, max_size=5))
    lengths.append(draw(some.integers(20, 150)))
    return lengths, options


# Streams ---------------------------------------------------------------------------------------------------------------------


@given(chosen=stream_settings())
@settings(max_examples=150)
def test_an_epoch_scores_every_step_once_and_no_target_behind_training(
    chosen: tuple[list[int], dict[str, int]],
) -> None:
    lengths, options = chosen
    every, warm_up, furthest = options["every"], options["warm_up"], options["furthest"]
    offsets, ends = offsets_of(lengths), training_ends(lengths, options["behind"])
    scored = Counter(
        row for segment in one_epoch(streams_of(lengths, batch=1, **options)) for row, counts in segment if counts
    )
    assert max(scored.values()) == 1, "a row is scored twice in one epoch"
    for start, end in zip(offsets[:-1], ends, strict=True):
        limit = end - furthest
        rows = [row for row in range(start, limit) if row in scored]
        if limit - start < 1:
            assert not rows
            continue
        if limit - start < every and not rows:
            continue  # not every epoch's steps meet so short a series
        # The rows of one phase behind the first warm-up, half of the steps at most: all of them.
        assert rows == list(range(rows[0], limit, every))
        phase = (rows[0] - start) % every
        steps = -(-(limit - start - phase) // every)
        assert (rows[0] - start) // every <= min(warm_up, steps // 2), "more than the first warm-up is left out"
    assert all(row + furthest < ends[np.searchsorted(offsets, row, side="right") - 1] for row in scored)


@given(chosen=stream_settings(), batch=some.integers(1, 4))
def test_a_segment_is_contiguous_in_one_series_and_fresh_at_its_first_row_alone(
    chosen: tuple[list[int], dict[str, int]], batch: int
) -> None:
    lengths, options = chosen
    offsets = offsets_of(lengths)
    picks = streams_of(lengths, batch=batch, **options).take(25)
    assert picks.rows.shape == picks.scored.shape == (25, options["unroll"], batch)
    assert picks.fresh.shape == (25, batch)
    assert picks.fresh[0].all()
    for reader in walks(picks):
        for segment in reader:
            rows = np.array([row for row, _ in segment])
            counts = np.array([counts for _, counts in segment])
            series = np.searchsorted(offsets, rows, side="right") - 1
            assert len(set(series)) == 1
            # What is read behind the segment's end is not scored, for its steps are not `every` apart.
            walked = 1 + int(np.argmax(np.append(np.diff(rows), 0) != options["every"]))
            assert not counts[walked:].any()
            if not counts.any():
                continue  # cut off within its warm-up by the last update
            warm_up = int(np.argmax(counts))
            assert counts[warm_up:walked].all()
            if rows[0] - offsets[series[0]] >= options["every"]:
                assert warm_up == options["warm_up"]
            else:
                assert warm_up <= options["warm_up"]  # at a series' beginning less will do


def test_a_state_is_fresh_for_a_new_segment_only() -> None:
    streams = streams_of([400], batch=1, unroll=5, warm_up=4, segment=20)
    picks = streams.take(60)
    # Segments of 20 steps in updates of 5: a fresh state at every fourth update, but for the shorter first and last ones.
    lengths = [len(segment) for segment in walks(picks)[0][:-1]]
    assert Counter(lengths).most_common(1)[0][0] == 20
    assert max(lengths) == 20


@given(
    chosen=stream_settings(),
    batch=some.integers(1, 4),
    first=some.integers(0, 40),
    pieces=some.lists(some.integers(1, 4), max_size=5),
)
def test_taking_up_a_cursor_goes_on_as_if_it_had_never_stopped(
    chosen: tuple[list[int], dict[str, int]], batch: int, first: int, pieces: list[int]
) -> None:
    lengths, options = chosen
    undisturbed = streams_of(lengths, batch=batch, **options)
    undisturbed.take(first)
    cursor = {name: array.copy() for name, array in undisturbed.cursor().items()}
    expected = undisturbed.take(sum(pieces) + 3)
    other = streams_of(lengths, batch=batch, **options)
    other.take(7)  # another place, another epoch: the cursor must not depend on where it is put
    other.move_to(cursor)
    parts = [other.take(count) for count in [*pieces, 3]]
    for name in Picks._fields:
        np.testing.assert_array_equal(np.concatenate([getattr(part, name) for part in parts]), getattr(expected, name))


def test_a_cursor_epochs_away_is_taken_up_at_once_and_one_that_is_nowhere_is_refused() -> None:
    streams = streams_of([200, 90])
    streams.take(30)
    cursor = streams.cursor()
    far = np.asarray([2**62], np.int64)
    streams.move_to({**cursor, "epochs": far})
    assert streams.take(50).rows.max() < 290
    assert 0 < streams.cursor()["epochs"][0] - far[0] < 50
    for name, words in (("drawn", "segments"), ("finishes", "row 288"), ("positions", "row 288")):
        with pytest.raises(ValueError, match=words):
            streams.move_to({**cursor, name: np.full_like(cursor[name], 2**62)})


def test_streams_are_a_function_of_the_seed_and_epochs_begin_their_segments_elsewhere() -> None:
    first, again, other = (streams_of([300, 200], seed=seed).take(50) for seed in (1, 1, 2))
    for one, two in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, two)
    assert (first.rows != other.rows).any()
    streams = streams_of([300], batch=1)
    begins = []
    for epoch in range(6):
        begins.append(sorted(streams._shuffled(epoch)[:, 0].tolist()))
        assert begins[-1][0] == 0, "the first rows of a series are read in every epoch"
    assert len({tuple(rows[1:]) for rows in begins}) > 3
    # With a step of three rows, every row has its turn.
    streams = streams_of([300], batch=1, every=3)
    picks = streams.take(400)
    scored = set(picks.rows[picks.scored].tolist())
    assert scored >= set(range(14, 298))
    assert 298 not in scored
    # Also where a whole series is one segment.
    picks = streams_of([60, 60], batch=1, every=3, segment=40).take(400)
    scored = set(picks.rows[picks.scored].tolist())
    assert scored >= {*range(14, 58), *range(74, 118)}


def test_readers_share_out_the_segments() -> None:
    alone, together = streams_of([900], batch=1, unroll=20), streams_of([900], batch=4, unroll=20)
    one = Counter(segment[0][0] for segment in walks(alone.take(40))[0])
    picks = together.take(10)
    four = Counter(segment[0][0] for reader in walks(picks) for segment in reader)
    # Whole segments of one update each: the same forty, each read once.
    assert one == four
    assert max(one.values()) == 1


# Windows ---------------------------------------------------------------------------------------------------------------------


@some.composite
def window_settings(draw: some.DrawFn) -> tuple[list[int], dict[str, int], tuple[int, ...]]:
    options = {
        "behind": draw(some.sampled_from([0, 0, 7])),
        "steps": draw(some.integers(1, 7)),
        "every": draw(some.sampled_from([1, 1, 2, 3])),
        "furthest": draw(some.integers(1, 5)),
        "seed": draw(some.integers(0, 2**32 - 1)),
    }
    lengths = [*draw(some.lists(some.integers(0, 40), max_size=4)), draw(some.integers(40, 70))]
    rows = some.integers(0, sum(lengths) - 20)
    return lengths, options, tuple(draw(some.lists(rows, max_size=8)))


@given(chosen=window_settings(), batch=some.integers(1, 9))
@settings(max_examples=150)
def test_every_window_ends_an_epoch_once_within_its_series_and_before_the_end(
    chosen: tuple[list[int], dict[str, int], tuple[int, ...]], batch: int
) -> None:
    lengths, options, missing = chosen
    offsets, ends = offsets_of(lengths), training_ends(lengths, options["behind"])
    expected = []
    for start, end in zip(offsets[:-1], ends, strict=True):
        for origin in range(start, end):
            first = origin - (options["steps"] - 1) * options["every"]
            target = origin + options["furthest"]
            if first >= start and target < end and target not in missing:
                expected.append(origin)
    windows = windows_of(lengths, missing=missing, batch=batch, **options)
    picks = windows.take(-(-2 * len(expected) // batch))
    assert picks.rows.shape[1:] == (options["steps"], batch)
    assert picks.scored.shape == (len(picks.rows), 1, batch)
    assert picks.scored.all()
    assert picks.fresh.all()
    drawn = picks.rows[:, -1, :].reshape(-1).tolist()
    for epoch in (0, 1):
        assert sorted(drawn[epoch * len(expected) : (epoch + 1) * len(expected)]) == expected
    assert (np.diff(picks.rows, axis=1) == options["every"]).all()
    series = np.searchsorted(offsets, picks.rows, side="right") - 1
    assert (series == series[:, :1]).all()


@given(batch=some.integers(1, 9), first=some.integers(1, 30), pieces=some.lists(some.integers(1, 4), max_size=5))
def test_windows_go_on_from_a_cursor_also_over_the_end_of_an_epoch(batch: int, first: int, pieces: list[int]) -> None:
    undisturbed = windows_of([20, 30], batch=batch)
    undisturbed.take(first)
    cursor = undisturbed.cursor()
    expected = undisturbed.take(sum(pieces) + 10)
    other = windows_of([20, 30], batch=batch)
    other.take(2)
    other.move_to(cursor)
    found = np.concatenate([other.take(count).rows for count in [*pieces, 10]])
    np.testing.assert_array_equal(found, expected.rows)


def test_windows_are_a_function_of_the_seed_and_each_epoch_has_its_own_order() -> None:
    first, again, other = (windows_of([60], batch=54, seed=seed).take(3).rows[:, -1] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    assert sorted(first[0].tolist()) == sorted(first[1].tolist()) == list(range(4, 58))
    assert (first[0] != first[1]).any()


@pytest.mark.parametrize("kind", [streams_of, windows_of])
def test_a_series_too_short_to_learn_from_is_left_out(kind: type) -> None:
    picks = kind([2, 50, 0, 1]).take(30)
    assert set(np.searchsorted([0, 2, 52, 52, 53], picks.rows.reshape(-1), side="right") - 1) == {1}

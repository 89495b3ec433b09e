"""The batching engine: what a stream draws, whoever steps along; joining, leaving, waiting; rows of settings and the sampler's."""

import threading
from collections.abc import Iterator, Sequence

import jax.numpy as jnp
import numpy as np
import pytest

from elman.shipping.serving import drawing
from elman.shipping.serving.batching import AHEAD, Batcher, Piece, Stream
from elman.shipping.serving.drawing import Controls, adjusted_rows, score_piece
from elman.text.model import TextModel
from elman.text.sampling import SamplingSettings, adjusted, sample_symbols

PROMPT = np.asarray([3, 1, 4, 1, 5], np.int32)


class Gatherer:
    """A batcher whose pieces are kept, as a reader that takes all of them at once."""

    def __init__(self, model: TextModel) -> None:
        self.pieces: dict[Stream, list[Piece]] = {}
        self.order: list[Stream] = []
        self.reads = True
        self._bell = threading.Condition()
        self.batcher = Batcher(model, self._deliver)

    def _deliver(self, pieces: list[Piece]) -> None:
        with self._bell:
            for piece in pieces:
                self.pieces.setdefault(piece.stream, []).append(piece)
                self.order.append(piece.stream)
                if self.reads:
                    piece.stream.taken += len(piece.symbols)
            self._bell.notify_all()

    def until(self, condition) -> None:  # type: ignore[no-untyped-def]
        with self._bell:
            assert self._bell.wait_for(condition, 20)

    def finished(self, stream: Stream) -> bool:
        return any(piece.last for piece in self.pieces.get(stream, []))

    def run(self, streams: Sequence[Stream]) -> list[np.ndarray]:
        self.batcher.add(streams)
        self.until(lambda: all(map(self.finished, streams)))
        return [self.drawn(stream) for stream in streams]

    def drawn(self, stream: Stream) -> np.ndarray:
        pieces = self.pieces.get(stream, [])
        assert not any(piece.error for piece in pieces)
        return np.concatenate([np.zeros(0, np.int32), *(piece.symbols for piece in pieces if not piece.prompt)])


@pytest.fixture(scope="module")
def model() -> TextModel:
    """Of the size that the other tests of the server use as well: its programs are compiled once."""
    return TextModel.untrained("abcdefghij \n", cell="gru", hidden=16)


@pytest.fixture
def gatherer(model: TextModel) -> Iterator[Gatherer]:
    found = Gatherer(model)
    found.batcher.start()
    yield found
    for stream in list(found.pieces):
        found.batcher.cancel(stream)
    found.batcher.stop()


def offline(model: TextModel, settings: SamplingSettings, seed: int, length: int = 300) -> np.ndarray:
    return np.concatenate(list(sample_symbols(model.network, PROMPT, length, settings=settings, seed=seed)))


def test_a_seeded_text_is_that_of_the_sampler_whatever_runs_beside_it(model: TextModel, gatherer: Gatherer) -> None:
    crowd = [Stream(PROMPT, 200) for _ in range(5)]
    seeded = [Stream(PROMPT, 300, seed=seed) for seed in (7, 8)]
    found = gatherer.run([*crowd[:3], *seeded, *crowd[3:]])
    assert np.array_equal(found[3], offline(model, SamplingSettings(), 7))
    assert np.array_equal(found[4], offline(model, SamplingSettings(), 8))
    assert [len(drawn) for drawn in found] == [200, 200, 200, 300, 300, 200, 200]
    assert len({tuple(drawn[:50]) for drawn in found}) == 7


@pytest.mark.parametrize(
    "settings",
    [
        SamplingSettings(temperature=0.6),
        SamplingSettings(temperature=0.0),
        SamplingSettings(top_k=3),
        SamplingSettings(temperature=1.4, top_p=0.7, repetition_penalty=1.3),
        SamplingSettings(min_p=0.5),
    ],
    ids=str,
)
def test_settings_of_a_stream_are_those_of_the_sampler(
    model: TextModel, gatherer: Gatherer, settings: SamplingSettings
) -> None:
    [alone] = gatherer.run([Stream(PROMPT, 300, settings, seed=3)])
    assert np.array_equal(alone, offline(model, settings, 3))


def test_rows_of_settings_adjust_as_the_sampler_does() -> None:
    generator = np.random.default_rng(0)
    rows = [
        SamplingSettings(),
        SamplingSettings(temperature=0.3),
        SamplingSettings(temperature=0.0),
        SamplingSettings(top_k=4),
        SamplingSettings(top_k=1_000),
        SamplingSettings(top_p=0.5),
        SamplingSettings(min_p=0.2),
        SamplingSettings(repetition_penalty=1.5),
        SamplingSettings(0.7, 9, 0.9, 0.02, 0.8),
    ]
    logits = generator.normal(size=(len(rows), 20)).astype(np.float32) * 3
    recent = generator.integers(-1, 20, size=(len(rows), 64)).astype(np.int32)
    found = adjusted_rows(jnp.asarray(logits), jnp.asarray(recent), Controls.of(rows, np.dtype(np.float32)))
    for number, settings in enumerate(rows):
        seen = jnp.asarray(recent[number]) if settings.repetition_penalty != 1 else None
        np.testing.assert_allclose(found[number], adjusted(jnp.asarray(logits[number]), seen, settings), rtol=1e-6)


def test_streams_that_step_together_follow_their_own_distributions(model: TextModel, gatherer: Gatherer) -> None:
    """Each symbol of each stream is where its own uniform number falls in the distribution that the network gives for its text."""
    streams = [Stream(PROMPT[: 1 + number], 40) for number in range(5)]
    states = [stream.uniforms.bit_generator.state for stream in streams]
    for stream, drawn, state in zip(streams, gatherer.run(streams), states, strict=True):
        generator = np.random.default_rng()
        generator.bit_generator.state = state
        uniforms = generator.random(len(drawn), np.float32)
        hidden, _ = model.network(jnp.asarray(np.concatenate([stream.prompt, drawn])))
        logits = np.asarray(model.network.head(hidden), np.float64)[len(stream.prompt) - 1 : -1]
        shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        ends = shares.cumsum(axis=1)
        rows = np.arange(len(drawn))
        assert (uniforms < ends[rows, drawn] + 1e-5).all()
        assert (uniforms > ends[rows, drawn] - shares[rows, drawn] - 1e-5).all()


def test_a_canceled_stream_ends_and_the_others_go_on(gatherer: Gatherer) -> None:
    endless, other = Stream(PROMPT, 10**9), Stream(PROMPT, 10**9)
    gatherer.batcher.add([endless, other])
    gatherer.until(lambda: len(gatherer.pieces.get(endless, ())) > 2)
    gatherer.batcher.cancel(endless)
    before = len(gatherer.pieces[other])
    gatherer.until(lambda: len(gatherer.pieces[other]) > before + 4)
    settled = len(gatherer.pieces[endless])
    gatherer.until(lambda: len(gatherer.pieces[other]) > before + 8)
    assert len(gatherer.pieces[endless]) == settled
    gatherer.batcher.cancel(other)
    gatherer.until(lambda: gatherer.batcher.running == 0)


def test_all_of_many_streams_get_their_turn(gatherer: Gatherer) -> None:
    """With more than one batch of them, no stream is served twice before another was served at all, but for the first words."""
    streams = [Stream(PROMPT, 10**9) for _ in range(150)]
    gatherer.batcher.add(streams)
    gatherer.until(lambda: len(gatherer.order) > 1500)
    for stream in streams:
        gatherer.batcher.cancel(stream)
    turns = [sum(one is stream for one in gatherer.order) for stream in streams]
    assert min(turns) >= 6
    assert max(turns) <= 20


def test_a_long_prompt_does_not_hold_up_the_others(gatherer: Gatherer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("elman.shipping.serving.batching.READING", 0.0)
    other = Stream(PROMPT, 10**9)
    gatherer.batcher.add([other])
    gatherer.until(lambda: other in gatherer.pieces)
    long = Stream(np.zeros(20_000, np.int32), 1)
    before = len(gatherer.pieces[other])
    gatherer.batcher.add([long])
    gatherer.until(lambda: gatherer.finished(long))
    blocks = 20_000 // drawing.PIECE
    assert len(gatherer.pieces[other]) - before >= blocks - 2
    gatherer.batcher.cancel(other)


def test_a_stream_waits_for_a_reader_that_is_far_behind(gatherer: Gatherer) -> None:
    gatherer.reads = False
    slow, quick = Stream(PROMPT, 10**9), Stream(PROMPT, 500)
    gatherer.batcher.add([slow])
    gatherer.until(lambda: slow.waits)
    gatherer.run([quick])
    assert AHEAD <= slow.drawn < 2 * AHEAD
    slow.taken = slow.drawn
    gatherer.batcher.wake()
    gatherer.until(lambda: slow.waits)
    gatherer.batcher.cancel(slow)


def test_a_prompt_in_pieces_and_a_state_that_goes_on(model: TextModel, gatherer: Gatherer) -> None:
    generator = np.random.default_rng(1)
    text = generator.integers(0, 12, 1500).astype(np.int32)
    first = Stream(text[:1000], 0)
    gatherer.run([first])
    [goes_on, at_once] = gatherer.run([Stream(text[999:], 100, seed=5, carry=first.carry), Stream(text, 100, seed=5)])
    assert np.array_equal(goes_on, at_once)
    [whole] = list(sample_symbols(model.network, text, 100, settings=SamplingSettings(), seed=5))
    assert np.array_equal(at_once, whole)


def test_scores_are_the_networks_own(model: TextModel, gatherer: Gatherer) -> None:
    stream = Stream(PROMPT, 30, SamplingSettings(temperature=0.5), scored=True, score_prompt=True)
    [drawn] = gatherer.run([stream])
    pieces = gatherer.pieces[stream]
    scored = np.concatenate([piece.scores.own for piece in pieces if piece.scores is not None])
    text = np.concatenate([PROMPT, drawn])
    hidden, _ = model.network(jnp.asarray(text))
    logits = np.asarray(model.network.head(hidden), np.float64)
    logs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(scored, logs[np.arange(len(text) - 1), text[1:]], atol=1e-5)
    best = score_piece(model.network, np.asarray(model.network.initial_carry()), text).symbols
    assert np.array_equal(best[:, 0], logs[:-1].argmax(axis=1))


def test_a_stream_that_fails_leaves_the_others(gatherer: Gatherer) -> None:
    broken = Stream(PROMPT, 10, carry=np.zeros((1, 1), np.float32))
    other = Stream(PROMPT, 10)
    gatherer.batcher.add([broken, other])
    gatherer.until(lambda: gatherer.finished(broken) and gatherer.finished(other))
    assert isinstance(gatherer.pieces[broken][-1].error, Exception)
    assert len(gatherer.drawn(other)) == 10


def test_double_precision_is_kept() -> None:
    model = TextModel.untrained("abc", hidden=4, dtype="float64")
    gatherer = Gatherer(model)
    gatherer.batcher.start()
    streams = [Stream(np.zeros(3, np.int32), 20), Stream(np.zeros(3, np.int32), 20)]
    gatherer.run(streams)
    assert streams[0].carry is not None
    assert streams[0].carry.dtype == np.float64
    gatherer.batcher.stop()


def test_no_request_compiles_anything_after_the_warm_up(model: TextModel) -> None:
    gatherer = Gatherer(model)
    gatherer.batcher.warm_up()
    programs = (drawing.draw_block, drawing.read_piece, drawing._score_piece, drawing.sample_chunk)
    before = [program._cache_size() for program in programs]
    gatherer.batcher.start()
    odd = SamplingSettings(temperature=0.37, top_k=2, top_p=0.83, min_p=0.01, repetition_penalty=1.07)
    prompt = np.zeros(700, np.int32)
    gatherer.run([Stream(prompt, 300, odd, seed=1, scored=True, score_prompt=True)])
    gatherer.run([Stream(prompt[:37], 70, SamplingSettings(temperature=0.91)) for _ in range(37)])
    gatherer.run([Stream(prompt[:5], 700, SamplingSettings(temperature=0.71), seed=2)])
    assert [program._cache_size() for program in programs] == before
    gatherer.batcher.stop()

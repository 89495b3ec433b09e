"""Continuous batching: one thread computes for all streams of a model, a block of symbols for many of them at a time.

A stream owns its state, a few kilobytes; a batch is only the rows that happen to step together. So a new stream joins at the next
block, one that ends or is canceled takes nothing along, and there are no slots to run out of: streams take turns, newcomers first.

**Seeds.** The uniform numbers of a stream are its own, so what runs beside it changes none of them. A product of many rows rounds
its last digit otherwise than that of one, though, and once in a great while a symbol hangs on that digit. A stream with a seed
therefore steps by itself: its text depends on prompt, settings and seed only.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from elman.shipping.serving.drawing import (
    BLOCK,
    LONE_BLOCKS,
    PIECE,
    SIZES,
    Controls,
    Scores,
    draw_alone,
    draw_block,
    is_plain,
    read_piece,
    score_piece,
    sharpened,
)
from elman.text.model import TextModel
from elman.text.sampling import RECENT, SamplingSettings
from elman.training.engine import precision

FIRST_BLOCK = 8
"""Symbols that a batch draws while someone in it waits for the first one."""

READING = 0.005
"""Seconds of reading prompts, one piece at least, between two blocks."""

AHEAD = 8192
"""Symbols drawn and not taken at which a stream waits for its reader."""


class Piece(NamedTuple):
    """What became of a stream: the next symbols, with their scores where they were asked for.

    prompt: these are scores of the prompt's symbols behind the first. last: nothing follows. error: why nothing follows.
    """

    stream: "Stream"
    symbols: np.ndarray
    scores: Scores | None = None
    prompt: bool = False
    last: bool = False
    error: BaseException | None = None


class Stream:
    """One text in the making.

    prompt: symbols to read first, at least one. length: symbols to draw; with 0 the prompt is read, and `carry` is the state behind
    all of it but the last symbol. carry: the state before the prompt, `[layers, carry]`; None: zeros. before: the symbols before
    the prompt, to which a repetition penalty looks back. scored: whether each drawn symbol is told with its probability;
    score_prompt: those of the prompt too.
    """

    def __init__(
        self,
        prompt: np.ndarray,
        length: int,
        settings: SamplingSettings | None = None,
        *,
        seed: int | None = None,
        carry: np.ndarray | None = None,
        before: Sequence[int] = (),
        scored: bool = False,
        score_prompt: bool = False,
    ) -> None:
        self.settings = settings or SamplingSettings()
        self.prompt, self.length = np.asarray(prompt, np.int32), length
        self.carry, self.seeded = carry, seed is not None
        self.plain = is_plain(self.settings)
        self.scored, self.score_prompt = scored, score_prompt
        self.uniforms = np.random.default_rng(seed)
        self.drawn = self.read = self.taken = 0
        self.canceled = False
        tail = np.concatenate([np.asarray(before, np.int32), self.prompt])[-RECENT:]
        self.recent = np.pad(tail, (RECENT - len(tail), 0), constant_values=-1)
        self.symbol = int(self.prompt[-1])

    @property
    def waits(self) -> bool:
        """Whether its reader is so far behind that there is no hurry."""
        return self.drawn - self.taken >= AHEAD


class Batcher:
    """The thread that computes for one model. `deliver` is called in it, once for each block, with all that became of it.

    zero: the carry before the first symbol, `[layers, carry]`.
    """

    def __init__(self, model: TextModel, deliver: Callable[[list[Piece]], None]) -> None:
        self.model, self._deliver = model, deliver
        self._network = model.network
        self._dtype = np.dtype(model.config.training.dtype)
        with precision(str(self._dtype)):
            self.zero = np.asarray(model.network.initial_carry())
        self._sharpened: dict[float, object] = {}
        self._arrived: deque[Stream] = deque()
        self._unread: deque[Stream] = deque()
        self._ready: deque[Stream] = deque()
        self._bell = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._work, name="batcher", daemon=True)

    def start(self) -> "Batcher":
        """Begin to compute."""
        self._thread.start()
        return self

    def stop(self) -> None:
        """Finish what runs, and end."""
        with self._bell:
            self._stopping = True
            self._bell.notify()
        if self._thread.is_alive():
            self._thread.join()

    def add(self, streams: Sequence[Stream]) -> None:
        """Take streams in: they join at the next block."""
        with self._bell:
            self._arrived.extend(streams)
            self._bell.notify()

    def cancel(self, stream: Stream) -> None:
        """Nothing more is drawn for a stream, and nothing more of it delivered."""
        stream.canceled = True
        self.wake()

    def wake(self) -> None:
        """Tell the thread that a reader has caught up."""
        with self._bell:
            self._bell.notify()

    @property
    def running(self) -> int:
        """Streams that are not finished."""
        return len(self._arrived) + len(self._unread) + len(self._ready)

    @property
    def state_bytes(self) -> int:
        """Bytes of a stream's state: its carry and the symbols that a penalty looks back to."""
        return self.zero.nbytes + RECENT * 4

    def warm_up(self) -> None:
        """Compile every program that a request can need. Before `start`, or nobody else computes."""
        with precision(str(self._dtype)):
            size = 1
            while size <= PIECE:
                self._read(self.zero, np.zeros(size, np.int32))
                size *= 2
            for size in LONE_BLOCKS:
                draw_alone(self._network, self.zero, 0, np.zeros(size, self._dtype))
            for size in SIZES:
                settings = [SamplingSettings(temperature=0.5), SamplingSettings(top_p=0.5)]
                for chosen in settings:
                    streams = [Stream(np.zeros(1, np.int32), BLOCK, chosen, carry=self.zero) for _ in range(size)]
                    self._draw_together(streams, 1)
            for size in (16, 64, 256, 1024)[: 4 if PIECE > 256 else 3]:
                score_piece(self._network, self.zero, np.zeros(size + 1, np.int32))

    # --- the thread ---------------------------------------------------------------------------------------------------------

    def _work(self) -> None:
        with precision(str(self._dtype)):
            while self._gather():
                pieces = self._read_prompts()
                batch = self._choose()
                if batch:
                    try:
                        pieces += self._draw(batch)
                    except Exception as error:  # whatever it is, the streams beside this batch go on
                        pieces += [Piece(stream, _NOTHING, last=True, error=error) for stream in batch]
                if pieces:
                    self._deliver(pieces)

    def _gather(self) -> bool:
        """Take in what arrived, leave out what was canceled; wait where there is nothing to do. False: it is time to end."""
        with self._bell:
            while True:
                self._unread.extend(self._arrived)
                self._arrived.clear()
                for queue in (self._unread, self._ready):
                    if any(stream.canceled for stream in queue):
                        kept = [stream for stream in queue if not stream.canceled]
                        queue.clear()
                        queue.extend(kept)
                if self._unread or any(not stream.waits for stream in self._ready):
                    return True
                if self._stopping and not self._ready:
                    return False
                self._bell.wait()

    def _read_prompts(self) -> list[Piece]:
        """Pieces of prompts, in turn, for a few milliseconds; a stream whose prompt is read comes first in the queue."""
        pieces: list[Piece] = []
        began, pieces_read = time.perf_counter(), 0
        while self._unread and not (pieces_read and self._ready and time.perf_counter() - began > READING):
            pieces_read += 1
            stream = self._unread.popleft()
            try:
                pieces += self._read_some(stream)
            except Exception as error:
                pieces.append(Piece(stream, _NOTHING, last=True, error=error))
                continue
            if stream.read < len(stream.prompt) - 1:
                self._unread.append(stream)
            elif stream.length == 0:
                pieces.append(Piece(stream, _NOTHING, last=True))
            else:
                self._ready.appendleft(stream)
        return pieces

    def _read_some(self, stream: Stream) -> list[Piece]:
        """Up to `PIECE` symbols of a prompt; its last one is read by the first step."""
        if stream.carry is None:
            stream.carry = self.zero
        count = min(PIECE, len(stream.prompt) - 1 - stream.read)
        if count < 1:
            return []
        symbols = stream.prompt[stream.read : stream.read + count + 1]
        scores = score_piece(self._network, stream.carry, symbols) if stream.score_prompt else None
        stream.carry = self._read(stream.carry, symbols[:-1])
        stream.read += count
        return [] if scores is None else [Piece(stream, symbols[1:], scores, prompt=True)]

    def _read(self, carry: np.ndarray, symbols: np.ndarray) -> np.ndarray:
        """The carry behind `symbols`, in powers of two so that few programs are compiled."""
        position, size, state = 0, PIECE, jnp.asarray(carry)
        while position < len(symbols):
            while size > len(symbols) - position:
                size //= 2
            state = read_piece(self._network, state, symbols[position : position + size])
            position += size
        return np.asarray(state)

    def _choose(self) -> list[Stream]:
        """The streams of the next block: the first in the queue, and those behind it that can step along."""
        first = next((stream for stream in self._ready if not stream.waits), None)
        if first is None:
            return []
        if first.seeded:
            self._ready.remove(first)
            return [first]
        along = [
            stream for stream in self._ready if not stream.waits and not stream.seeded and stream.plain == first.plain
        ]
        batch = along[: max(size for size in SIZES if size <= len(along))]
        chosen = set(batch)
        self._ready = deque(stream for stream in self._ready if stream not in chosen)
        return batch

    def _draw(self, batch: list[Stream]) -> list[Piece]:
        """One block of a batch; what is not finished stands last in the queue."""
        longest = max(stream.length - stream.drawn for stream in batch)
        newcomer = any(stream.drawn == 0 for stream in batch)
        starts = [(stream.carry, stream.symbol) for stream in batch]
        if len(batch) == 1:
            crowd = bool(self._ready or self._unread or self._arrived)
            count = LONE_BLOCKS[0] if newcomer else LONE_BLOCKS[1] if crowd else LONE_BLOCKS[2]
            drawn = self._draw_one(batch[0], count)[:, None]
        else:
            drawn = self._draw_together(batch, min(FIRST_BLOCK if newcomer else BLOCK, longest))
        pieces = []
        for column, stream in enumerate(batch):
            symbols = drawn[: stream.length - stream.drawn, column]
            scores = None
            if stream.scored and not stream.canceled:
                carry, symbol = starts[column]
                assert carry is not None
                scores = score_piece(self._network, carry, np.concatenate([[symbol], symbols]))
            stream.drawn += len(symbols)
            done = stream.drawn >= stream.length
            pieces.append(Piece(stream, symbols, scores, last=done))
            if not done:
                self._ready.append(stream)
        return [piece for piece in pieces if not piece.stream.canceled]

    def _draw_one(self, stream: Stream, count: int) -> np.ndarray:
        """A stream by itself: `[time]`."""
        if not stream.plain:
            return self._draw_together([stream], min(BLOCK, count))[:, 0]
        network = self._at_temperature(stream.settings.temperature)
        uniforms = stream.uniforms.random(count, self._dtype)
        assert stream.carry is not None
        drawn, stream.carry = draw_alone(network, stream.carry, stream.symbol, uniforms)
        stream.symbol = int(drawn[-1])
        return drawn

    def _at_temperature(self, temperature: float):  # type: ignore[no-untyped-def]
        """The network at a temperature; those asked for lately are kept."""
        if temperature not in self._sharpened:
            if len(self._sharpened) >= 16:
                self._sharpened.clear()
            self._sharpened[temperature] = sharpened(self._network, temperature)
        return self._sharpened[temperature]

    def _draw_together(self, batch: list[Stream], count: int) -> np.ndarray:
        """`count` symbols of each stream: `[time, streams]`."""
        uniforms = np.zeros((BLOCK, len(batch)), self._dtype)
        for column, stream in enumerate(batch):
            uniforms[:count, column] = stream.uniforms.random(count, self._dtype)
        carry = np.stack([stream.carry for stream in batch], axis=1)
        symbols = np.asarray([stream.symbol for stream in batch], np.int32)
        plain = batch[0].plain
        recent = np.stack([stream.recent for stream in batch]).astype(np.int32)
        controls = Controls.of([stream.settings for stream in batch], self._dtype)
        found = draw_block(self._network, carry, symbols, recent, uniforms, controls, np.int32(count), plain=plain)
        drawn, carry, recent = (np.asarray(array) for array in jax.block_until_ready(found))
        for column, stream in enumerate(batch):
            stream.carry, stream.symbol = carry[:, column], int(drawn[count - 1, column])
            if not plain:
                stream.recent = recent[column]
        return drawn[:count]


_NOTHING = np.zeros(0, np.int32)

"""Reading a long text side by side: `batch` readers, evenly spread, each walking on from where its last update ended.

Truncated backpropagation through time needs each update to begin where the one before it ended, with the state carried over.
A reader that comes to the end of the text goes on at its beginning with a fresh state; the others walk on into the part where their
neighbor began, so that after a full round every reader has read everything.
"""

from dataclasses import dataclass

import numpy as np

from elman.errors import DataError
from elman.text.encoded import let_go


@dataclass(frozen=True)
class Windows:
    """The data of a block of updates: `symbols` [updates, unroll + 1, batch], and `fresh` [updates, batch], where a state restarts.

    The inputs are all symbols but the last of a window, the targets all but the first.
    """

    symbols: np.ndarray
    fresh: np.ndarray


LET_GO_FROM = 1 << 30
"""Bytes of a text from which on what was read does not stay in the resident memory."""


class Streams:
    """`batch` readers of `codes`, `unroll` steps per update.

    A reader at `position` wraps to 0, with a fresh state, when position + unroll + 1 >= length (the classic program's rule).
    With `stream_length` it also starts afresh after that many symbols: where it is ("continue") or at a random place ("random"),
    drawn from the seed and the update's number alone. The readers' ages are staggered so that they do not all restart at once.

    part: the readers whose symbols are read here, where other processes read the others'; all of them are walked along everywhere.

        >>> streams = Streams(np.arange(10, dtype=np.uint8), batch=1, unroll=3)
        >>> streams.take(0, 3, 3).symbols[:, :, 0].tolist()
        [[0, 1, 2, 3], [3, 4, 5, 6], [0, 1, 2, 3]]
    """

    def __init__(
        self,
        codes: np.ndarray,
        *,
        batch: int,
        unroll: int,
        stream_length: int = 0,
        restart: str = "continue",
        seed: int = 0,
        part: slice | None = None,
    ) -> None:
        if len(codes) < unroll + 2:
            raise DataError(
                f"the training part has {len(codes)} symbols, but {unroll} unrolled steps need at least {unroll + 2}: "
                f"give more text or a smaller --unroll"
            )
        self.codes, self.batch, self.unroll = codes, batch, unroll
        self.part = part or slice(0, batch)
        self.stream_length, self.restart, self.seed = stream_length, restart, seed
        self.positions = np.arange(batch, dtype=np.int64) * (len(codes) // batch)
        self.ages = np.arange(batch, dtype=np.int64) * stream_length // batch

    def take(self, update: int, count: int, size: int) -> Windows:
        """The windows of `count` updates from `update` on, padded to `size` updates; the readers move on."""
        starts = np.zeros((size, self.batch), np.int64)
        fresh = np.zeros((size, self.batch), bool)
        for reader in range(self.batch):
            self._walk(reader, update, count, starts[:, reader], fresh[:, reader])
        symbols = self.codes[starts[:, None, self.part] + np.arange(self.unroll + 1)[None, :, None]]
        if self.codes.nbytes > LET_GO_FROM:
            let_go(self.codes)
        return Windows(symbols, fresh[:, self.part])

    def next_symbol(self, update: int) -> tuple[int, bool]:
        """What the first reader reads in `update`, the next one, and whether it starts afresh there."""
        position, _, fresh = self._begin(0, update, int(self.positions[0]), int(self.ages[0]))
        return int(self.codes[position]), fresh

    def _begin(self, reader: int, update: int, position: int, age: int) -> tuple[int, int, bool]:
        """Where a reader that stands at `position` reads in `update`, its age there, and whether its state is fresh."""
        room = len(self.codes) - self.unroll - 1
        if position >= room:
            return 0, 0, True
        if self.stream_length and age >= self.stream_length:
            if self.restart == "random":
                position = int(np.random.default_rng([self.seed, update, reader]).integers(room))
            return position, 0, True
        return position, age, False

    def _walk(self, reader: int, update: int, count: int, starts: np.ndarray, fresh: np.ndarray) -> None:
        """Fill one reader's columns, stretch by stretch; a stretch ends where the text or the stream's length does."""
        position, age, done = int(self.positions[reader]), int(self.ages[reader]), 0
        room = len(self.codes) - self.unroll - 1
        while done < count:
            position, age, fresh[done] = self._begin(reader, update + done, position, age)
            stretch = min(count - done, -(-(room - position) // self.unroll))
            if self.stream_length:
                stretch = min(stretch, -(-(self.stream_length - age) // self.unroll))
            starts[done : done + stretch] = position + self.unroll * np.arange(stretch)
            position, age, done = position + stretch * self.unroll, age + stretch * self.unroll, done + stretch
        self.positions[reader], self.ages[reader] = position, age

"""The two ways through a series: streams that walk it with carried state, and windows that each start from a zero state.

Both say only which rows an update reads; the numbers are gathered from `Rows` when they are needed, so that memory never holds
rows x lookback.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int64

from elman.errors import DataError


class Picks(NamedTuple):
    """The rows of some updates.

    rows: global row numbers. scored: where a forecast counts; of windows only the last step is there at all.
    fresh: where the state starts from zero.
    """

    rows: Int64[np.ndarray, "updates steps batch"]
    scored: Bool[np.ndarray, "updates scored batch"]
    fresh: Bool[np.ndarray, "updates batch"]


class Streams:
    """`batch` readers walk segments of the series in the order of time; every step behind a segment's warm-up is scored.

    A segment is `warm_up` steps and many more, each `every` rows apart, of one series; a reader that reaches the end of its
    segment goes on with the next one in a shuffled order, with a fresh state. Segments overlap by the warm-up, so an epoch scores
    every step once, but the first of each series. Where segments begin, and so which rows are steps, changes from epoch to epoch.

    ends: the first row of each series that is not for training; no target lies at or behind it.
    """

    def __init__(
        self,
        offsets: np.ndarray,
        ends: np.ndarray,
        *,
        batch: int,
        unroll: int,
        every: int,
        warm_up: int,
        segment: int,
        furthest: int,
        seed: int,
    ) -> None:
        self.starts, self.limits = np.asarray(offsets[:-1]), np.asarray(ends) - furthest
        self.batch, self.unroll, self.every, self.seed = batch, unroll, every, seed
        self.warm_up, self.segment = warm_up, segment
        # Epochs that have begun, and of the newest one its segments in their order and how many of them were drawn.
        self.epochs, self.order, self.drawn = 0, np.zeros((0, 3), np.int64), 0
        # Of each reader: the row of its next step, the first row behind its segment, steps since its fresh start, steps not scored.
        self.positions = np.zeros(batch, np.int64)
        self.finishes = np.zeros(batch, np.int64)
        self.ages = np.zeros(batch, np.int64)
        self.warm_ups = np.zeros(batch, np.int64)

    def take(self, count: int) -> Picks:
        """The rows of the next `count` updates; moves on."""
        index = np.empty((count, self.unroll, self.batch), np.int64)
        scored = np.empty((count, self.unroll, self.batch), bool)
        fresh = np.zeros((count, self.batch), bool)
        steps = np.arange(self.unroll)[:, None]
        for update in range(count):
            over = self.positions >= self.finishes
            fresh[update] = over
            for reader in np.flatnonzero(over):
                self.positions[reader], self.finishes[reader], self.warm_ups[reader] = self._next_segment()
                self.ages[reader] = 0
            places = self.positions + self.every * steps
            scored[update] = (places < self.finishes) & (self.ages + steps >= self.warm_ups)
            index[update] = np.minimum(places, self.finishes - 1)
            self.positions = self.positions + self.every * self.unroll
            self.ages = self.ages + self.unroll
        return Picks(index, scored, fresh)

    def _next_segment(self) -> np.ndarray:
        """(first row, row behind the last, steps of warm-up) of the next segment."""
        while self.drawn >= len(self.order):
            self.epochs, self.order, self.drawn = self.epochs + 1, self._shuffled(self.epochs), 0
        self.drawn += 1
        return self.order[self.drawn - 1]

    def _shuffled(self, epoch: int) -> np.ndarray:
        """The segments of an epoch in its order, a function of the seed and the epoch."""
        random = np.random.default_rng([self.seed, epoch, 1])
        stride = max(1, self.segment - self.warm_up) * self.every
        pieces = []
        for start, limit in zip(self.starts, self.limits, strict=True):
            length = int(limit - start)
            if length < 1:
                continue
            first = start - int(random.integers(0, min(stride, length)))
            begins = np.arange(first, limit, stride)
            ends = np.minimum(begins + self.segment * self.every, limit)
            begins[0] = max(first, start + (first - start) % self.every)
            steps = (ends - begins + self.every - 1) // self.every
            warm_up = np.full(len(begins), self.warm_up)
            warm_up[0] = min(self.warm_up, int(steps[0]) // 2)  # a short series is scored too
            # What ends within its warm-up ends inside the segment before it, and would score nothing new.
            keep = steps > warm_up
            pieces.append(np.stack([begins, ends, warm_up], axis=1)[keep])
        segments = np.concatenate(pieces) if pieces else np.zeros((0, 3), np.int64)
        return segments[random.permutation(len(segments))]

    def cursor(self) -> dict[str, np.ndarray]:
        """The place in the data, as arrays."""
        names = ("positions", "finishes", "ages", "warm_ups")
        counts = {name: np.asarray([getattr(self, name)], np.int64) for name in ("epochs", "drawn")}
        return {**{name: getattr(self, name) for name in names}, **counts}

    def move_to(self, cursor: dict[str, np.ndarray]) -> None:
        """Take the place up again, whatever number of epochs it is behind, without walking there.

        Raises: `ValueError` for a place that these series do not have.
        """
        epochs, drawn = int(cursor["epochs"][0]), int(cursor["drawn"][0])
        order = self._shuffled(epochs - 1) if epochs else np.zeros((0, 3), np.int64)
        end = int(max(self.limits.max(initial=0), 0))
        if drawn > len(order):
            raise ValueError(f"its place in the data is behind {drawn} of {len(order)} segments")
        if cursor["finishes"].max() > end or cursor["positions"].max() > end + self.every * self.unroll:
            raise ValueError(f"its place in the data is behind row {end}, where training ends")
        self.epochs, self.order, self.drawn = epochs, order, drawn
        for name in ("positions", "finishes", "ages", "warm_ups"):
            setattr(self, name, cursor[name].astype(np.int64).copy())


class Windows:
    """`batch` windows of `steps` rows, each `every` rows apart, drawn anew in every epoch's shuffled order (the lecture's way, L5).

    Every row of training that a whole window ends at, and whose target is known, is the end of one window in each epoch.
    """

    def __init__(
        self,
        offsets: np.ndarray,
        ends: np.ndarray,
        target_there: Bool[np.ndarray, " rows"],
        *,
        batch: int,
        steps: int,
        every: int,
        furthest: int,
        seed: int,
    ) -> None:
        self.batch, self.steps, self.every, self.seed = batch, steps, every, seed
        reach = (steps - 1) * every
        origins = [
            np.arange(start + reach, end - furthest) for start, end in zip(offsets[:-1], ends, strict=True)
        ]  # empty where a series is too short
        every_origin = np.concatenate(origins)
        self.origins = every_origin[target_there[every_origin + furthest]]
        if not len(self.origins):
            raise DataError(
                f"no window of {reach + 1} rows in the training part has a target {furthest} rows behind it: give more rows, or a "
                f"shorter --lookback or --horizon"
            )
        self.drawn = 0
        self.epoch, self.order = -1, np.zeros(0, np.int64)

    def take(self, count: int) -> Picks:
        """The rows of the next `count` updates; moves on."""
        ends = np.concatenate([self._draw() for _ in range(count)]).reshape(count, 1, self.batch)
        back = self.every * np.arange(self.steps - 1, -1, -1)[None, :, None]
        shape = (count, 1, self.batch)
        return Picks(ends - back, np.ones(shape, bool), np.ones((count, self.batch), bool))

    def _draw(self) -> np.ndarray:
        """The last rows of the next `batch` windows, over the end of an epoch where need be."""
        places = np.arange(self.drawn, self.drawn + self.batch)
        self.drawn += self.batch
        epochs, places = np.divmod(places, len(self.origins))
        result = np.empty(self.batch, np.int64)
        for epoch in np.unique(epochs):
            if epoch != self.epoch:
                random = np.random.default_rng([self.seed, int(epoch), 2])
                self.epoch, self.order = int(epoch), random.permutation(len(self.origins))
            here = epochs == epoch
            result[here] = self.origins[self.order[places[here]]]
        return result

    def cursor(self) -> dict[str, np.ndarray]:
        """The place in the data, as arrays."""
        return {"drawn": np.asarray([self.drawn], np.int64)}

    def move_to(self, cursor: dict[str, np.ndarray]) -> None:
        """Take the place up again."""
        self.drawn = int(cursor["drawn"][0])

"""How much of a sample stands in the training text: for every place of the sample the longest piece that does, exactly.

These are the *matching statistics* of the sample. The training text is walked through once for pieces of eight symbols; what
remains is a search by halves over the places that still match, longest pieces first, because a piece of n symbols at one place is
one of n - 1 at the next. Pieces are compared by a hash (polynomial, modulo 2^64); what is reported is compared symbol by symbol.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

FIRST = 8
"""Length of the pieces that the whole training text is searched for first: a power of two."""

PART = 1 << 22
"""Symbols of the training text that are looked at at once: memory is some forty bytes for each."""

LENGTHS = (8, 16, 32, 64)
"""Pieces of at least so many symbols are counted as not new."""

_BASE = 0x9E3779B97F4A7C15  # odd, so that it has an inverse modulo 2^64
_INVERSE = pow(_BASE, -1, 1 << 64)
_FILTER_BITS = 20


@dataclass(frozen=True)
class Piece:
    """`length` symbols from `start` of the sample, which stand in the training text from `place` on."""

    start: int
    length: int
    place: int


@dataclass(frozen=True, eq=False)
class Matches:
    """Of each place of the sample `[sample]`: the length of the longest piece that begins there and stands in the training text,
    and the place where it does (-1: none)."""

    lengths: np.ndarray
    places: np.ndarray

    def share(self, length: int) -> float:
        """The share of the sample that is covered by pieces of at least `length` symbols.

        >>> Matches(np.array([3, 2, 1, 0]), np.array([7, 8, 9, -1])).share(2)
        0.75
        """
        return float(self.covered(length).mean()) if len(self.lengths) else 0.0

    def covered(self, length: int) -> np.ndarray:
        """`[sample]` of bool: whether a symbol stands within a piece of at least `length`."""
        starts = np.arange(len(self.lengths))
        reach = np.maximum.accumulate(np.where(self.lengths >= length, starts + self.lengths, 0))
        return reach > starts

    def longest(self, count: int) -> list[Piece]:
        """The longest pieces, longest first; a piece within another one is none of them."""
        before = np.concatenate([[0], self.lengths[:-1]])[: len(self.lengths)]
        starts = np.flatnonzero((self.lengths > 0) & (self.lengths >= before))
        order = starts[np.argsort(-self.lengths[starts], kind="stable")][:count]
        return [Piece(int(start), int(self.lengths[start]), int(self.places[start])) for start in order]


def match(sample: np.ndarray, training: np.ndarray) -> Matches:
    """For each place of `sample` (integers) the longest piece from there on that stands in `training`, and where.

    A symbol that the training text cannot have is any number that it does not hold. Time is linear in the training text; memory
    does not grow with it (a memory map is read part by part).

        >>> found = match(np.array([1, 2, 3, 9, 2]), np.array([0, 1, 2, 3, 4]))
        >>> found.lengths.tolist(), found.places.tolist()
        ([3, 2, 1, 0, 1], [1, 2, 3, -1, 2])
    """
    search = _Search(np.asarray(sample))
    overlap = len(sample)
    size = max(PART, 2 * overlap)
    for start in range(0, len(training), size):
        search.look_through(np.asarray(training[start : start + size + overlap]), start)
    return search.verified(training)


@dataclass(frozen=True, eq=False)
class Novelty:
    """A sample beside its training text; `held_out` are the same figures of as much held-out text, where there is some."""

    sample: Matches
    held_out: Matches | None

    def shares(self) -> list[tuple[int, float, float | None]]:
        """For each of `LENGTHS` the share that is covered by such pieces: of the sample, and of the held-out text."""
        return [(n, self.sample.share(n), None if self.held_out is None else self.held_out.share(n)) for n in LENGTHS]


def novelty(sample: np.ndarray, training: np.ndarray, held_out: np.ndarray | None = None) -> Novelty:
    """Compare a sample with its training text, beside the beginning of the held-out text, as long as the sample.

    An honest text of the same author repeats pieces too: only what goes beyond that is learned by heart.
    """
    if held_out is None or len(held_out) == 0:
        return Novelty(match(sample, training), None)
    other = np.asarray(held_out[: len(sample)])
    # One walk for both: between them stands a symbol that is in no text.
    wide = np.concatenate([np.asarray(sample, np.int64), [-1], other])
    found, cut = match(wide, training), len(sample)
    return Novelty(
        Matches(found.lengths[:cut], found.places[:cut]), Matches(found.lengths[cut + 1 :], found.places[cut + 1 :])
    )


class _Hashes:
    """The hash of any piece of a text from two sums: sum of symbol · base^place, divided by base^start."""

    def __init__(self, text: np.ndarray, powers: np.ndarray, inverses: np.ndarray) -> None:
        # + 2, so that the symbols 0 and -1 count.
        terms = (text.astype(np.int64) + 2).astype(np.uint64) * powers[: len(text)]
        self.sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(terms, dtype=np.uint64)])
        self.inverses = inverses

    def of(self, starts: np.ndarray, length: int) -> np.ndarray:
        """The hashes of the pieces of `length` symbols from `starts` on; all of them must lie within the text."""
        return (self.sums[starts + length] - self.sums[starts]) * self.inverses[starts]

    def all(self, length: int) -> np.ndarray:
        """The hashes of every piece of `length` symbols."""
        count = max(len(self.sums) - length, 0)
        return (self.sums[length:] - self.sums[:count]) * self.inverses[:count]


class _Search:
    """What is known so far of each place of the sample: at least `lengths` symbols from it on stand at `places`."""

    def __init__(self, sample: np.ndarray) -> None:
        self.sample = sample
        self.lengths = np.zeros(len(sample), np.int64)
        self.places = np.full(len(sample), -1, np.int64)
        self.room = len(sample) - np.arange(len(sample))
        self.powers = self.inverses = np.ones(1, np.uint64)

    def look_through(self, part: np.ndarray, offset: int) -> None:
        """Lengthen what can be lengthened with this part of the training text, which begins at `offset`."""
        self._extend_powers(max(len(part), len(self.sample)) + 1)
        self.ours = _Hashes(self.sample, self.powers, self.inverses)
        self.theirs = _Hashes(part, self.powers, self.inverses)
        self.end, self.offset = len(part), offset
        places: np.ndarray = np.arange(len(self.sample))
        candidates: np.ndarray | None = None
        levels: list[tuple[int, np.ndarray, np.ndarray | None]] = [(0, places, candidates)]
        length = FIRST
        while len(places):
            found, candidates = self._meet(length, places, candidates)
            places = places[found]
            levels.append((length, places, candidates))
            length *= 2
        # Longest first; what is known of one place tells of the next ones.
        for (length, places, candidates), (_, longer, _) in zip(levels[-2::-1], levels[:0:-1], strict=True):
            rest = np.setdiff1d(places, longer, assume_unique=True)
            self._refine(length, max(length, FIRST) // 2, rest, candidates)

    def verified(self, training: np.ndarray) -> Matches:
        """The lengths, with every piece compared symbol by symbol: where two hashes agreed by chance, what really agrees."""
        before = np.concatenate([[0], self.lengths[:-1]])[: len(self.lengths)]
        begins = np.flatnonzero((self.lengths > 0) & (self.lengths >= before))
        for begin in begins:
            length, place = int(self.lengths[begin]), int(self.places[begin])
            differs = np.flatnonzero(self.sample[begin : begin + length] != training[place : place + length])
            if len(differs):
                until = begin + differs[0]
                inner = np.arange(begin, begin + length)
                agreed = np.maximum(until - inner, 0)
                self.lengths[inner] = np.minimum(self.lengths[inner], agreed)
        self.places[self.lengths == 0] = -1
        return Matches(self.lengths, self.places)

    def _extend_powers(self, count: int) -> None:
        if len(self.powers) < count:
            self.powers, self.inverses = (_powers(base, count) for base in (_BASE, _INVERSE))

    def _refine(self, length: int, step: int, places: np.ndarray, candidates: np.ndarray | None) -> None:
        """Places that match for `length` and not for `length + 2 step` symbols: find how many they match for."""
        if step == 0:
            return
        most = np.minimum(length + 2 * step - 1, self.room[places])
        places = places[self.lengths[places] < most]  # no more is to be learned of the others
        if len(places) == 0:
            return
        found, closer = self._meet(length + step, places, candidates)
        self._refine(length + step, step // 2, places[found], closer)
        self._refine(length, step // 2, places[~found], candidates)

    def _meet(self, length: int, places: np.ndarray, candidates: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Which of the sample's `places` have `length` symbols that stand in the part, and where those stand.

        candidates: where in the part they may stand; None: anywhere.
        """
        fits = self.room[places] >= length
        wanted = self.ours.of(places[fits], length)
        keys, owners = np.unique(wanted, return_inverse=True)
        if candidates is None:
            hashes = self.theirs.all(length)
            shift = np.uint64(64 - _FILTER_BITS)
            maybe = np.zeros(1 << _FILTER_BITS, bool)
            maybe[keys >> shift] = True
            candidates = np.flatnonzero(maybe[hashes >> shift])
            hashes = hashes[candidates]
        else:
            candidates = candidates[candidates + length <= self.end]
            hashes = self.theirs.of(candidates, length)
        slots = np.searchsorted(keys, hashes)
        slots[slots == len(keys)] = 0
        same = keys[slots] == hashes if len(keys) else np.zeros(len(hashes), bool)
        candidates, slots = candidates[same], slots[same]
        stands = np.full(len(keys), -1, np.int64)
        stands[slots[::-1]] = candidates[::-1]  # the first of several
        found = np.zeros(len(places), bool)
        found[fits] = stands[owners] >= 0
        self._learn(places[found], length, stands[owners][found[fits]] + self.offset)
        return found, candidates

    def _learn(self, places: np.ndarray, length: int, stand: np.ndarray) -> None:
        """Enter matches, and what they say of the places behind them."""
        news = self.lengths[places] < length
        if not news.any():
            return
        self.lengths[places[news]], self.places[places[news]] = length, stand[news]
        at = np.arange(len(self.lengths))
        reach = self.lengths + at
        best = np.maximum.accumulate(reach)
        source = np.maximum.accumulate(np.where(reach == best, at, 0))
        self.places = np.where(reach == best, self.places, self.places[source] + at - source)
        self.lengths = best - at


def _powers(base: int, count: int) -> np.ndarray:
    """1, base, base², … modulo 2^64, by doubling."""
    result = np.ones(count, np.uint64)
    done = 1
    while done < count:
        more = min(done, count - done)
        result[done : done + more] = result[:more] * np.uint64(pow(base, done, 1 << 64))
        done += more
    return result


def marked(found: Matches, lengths: Sequence[int] = LENGTHS) -> np.ndarray:
    """`[sample]`: in how long a piece each symbol stands, as the number of `lengths` that it reaches (0: new)."""
    return np.sum([found.covered(length) for length in lengths], axis=0)

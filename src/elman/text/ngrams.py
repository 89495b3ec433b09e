"""N-gram models: what counting alone predicts, the yardstick beside every loss of a network.

The model is interpolated modified Kneser-Ney. With c the count of an n-gram, h its context (all symbols but the last, w) and h'
that context without its first symbol,

    p(w | h) = (c(hw) - D(c(hw))) / c(h·)  +  g(h) p(w | h')        g(h) = sum over w of D(c(hw)) / c(h·)

    D(c) = 0, D1, D2, D3+ for c = 0, 1, 2, 3 or more, with n_i the number of n-grams of this order whose count is i:
    Y = n1 / (n1 + 2 n2)    D1 = 1 - 2 Y n2 / n1    D2 = 2 - 3 Y n3 / n2    D3+ = 3 - 4 Y n4 / n3

At the highest order c is how often the n-gram occurs; at every order below, how many different symbols stand before it
(continuation counts; the beginning of the text is one more such symbol). Below the unigrams lies the uniform distribution 1/V,
so nothing has probability zero. A context never seen leaves p(w | h) = p(w | h').

Nothing here loops over symbols. The distinct n-grams of one order are numbered by sorting, and the key of an n-gram one longer is
the number of its context times V plus its last symbol: one 64-bit integer, whatever V and the order are.

References: Chen & Goodman 1998, "An empirical study of smoothing techniques for language modeling", section 3 (the discounts and
the interpolated form); Kneser & Ney 1995 (continuation counts).
"""

import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

FALLBACK_DISCOUNTS = (0.5, 1.0, 1.5)
"""D1, D2, D3+ where the counts of counts give none: half of the counts 1, 2, 3. That is near what they do give: on Shakespeare's
characters 0.47 to 0.65, 0.86 to 1.19 and 1.35 to 1.64 over the orders 2 to 6 that have estimates."""

TRAINING_LIMIT = 5_000_000
HELD_OUT_LIMIT = 2_000_000


def baselines(
    train_codes: np.ndarray,
    held_out_codes: np.ndarray,
    vocab_size: int,
    *,
    orders: Sequence[int] = (1, 2, 3, 4, 5, 6),
    train_limit: int = TRAINING_LIMIT,
    held_out_limit: int = HELD_OUT_LIMIT,
) -> dict[str, Any]:
    """What a network has to beat: nats per symbol of the held-out part, as plain values for JSON.

    `uniform` is log V. `unigram` and `by_order` (its keys are strings) score the model of each order; `ngram` is the lowest of
    `by_order` and `ngram_order` its order. That order is chosen by the held-out score itself, which favors the baseline.

    The held-out part directly follows the training part, whose tail is its first context. So that memory and time stay bounded,
    only the last `train_limit` symbols of training and the first `held_out_limit` held-out ones are used; `trained_on` and
    `scored_on` say how many that were. With nothing held out every score is None.

        >>> text = np.array([0, 1, 2, 1] * 100, np.uint8)
        >>> scores = baselines(text[:300], text[300:], 3, orders=(1, 2, 3))
        >>> [round(scores[name], 2) for name in ("uniform", "unigram", "ngram")], scores["ngram_order"]
        ([1.1, 1.04, 0.01], 3)
        >>> scores["trained_on"], scores["scored_on"]
        (300, 100)
    """
    if not orders or min(orders) < 1:
        raise ValueError(f"orders = {orders!r} is not possible: name one or more lengths of n-grams, each at least 1")
    if min(train_limit, held_out_limit) < 0:
        raise ValueError(f"train_limit {train_limit} and held_out_limit {held_out_limit} must not be negative")
    train = train_codes[max(len(train_codes) - train_limit, 0) :]
    held_out = held_out_codes[:held_out_limit]
    model = NgramModel.fit(train, vocab_size, max(orders))
    nats: dict[int, float | None] = dict.fromkeys(range(1, max(orders) + 1))
    best = None
    if len(held_out):
        scores = [float(-np.log(p).mean()) for p in model.probabilities_by_order(held_out, train)]
        nats = dict(enumerate(scores, start=1))
        best = min(sorted(orders), key=lambda order: scores[order - 1])
    return {
        "uniform": math.log(vocab_size) if len(held_out) else None,
        "unigram": nats[1],
        "ngram": None if best is None else nats[best],
        "ngram_order": best,
        "by_order": {str(order): nats[order] for order in sorted(orders)},
        "trained_on": len(train),
        "scored_on": len(held_out),
    }


@dataclass(frozen=True, eq=False)
class NgramModel:
    """An interpolated modified Kneser-Ney model over the codes 0 to `vocab_size` - 1; `fit` makes one.

    >>> model = NgramModel.fit(np.array([0, 1, 2] * 20, np.uint8), vocab_size=4, order=3)
    >>> model.distribution([0, 1]).round(3)
    array([0.014, 0.009, 0.972, 0.005])
    >>> np.exp(model.log_probabilities([2, 0, 1], context=[0, 1])).round(3)
    array([0.972, 0.975, 0.97 ])
    """

    vocab_size: int
    order: int
    _levels: "tuple[_Level, ...]"

    @classmethod
    def fit(cls, codes: np.ndarray | Sequence[int], vocab_size: int, order: int) -> "NgramModel":
        """The model of a text. A text shorter than the order, even an empty one, only leaves more to the lower orders."""
        if order < 1:
            raise ValueError(f"order = {order} is not possible: it is the length of the longest n-gram, at least 1")
        if vocab_size < 1:
            raise ValueError(f"vocab_size = {vocab_size} is not possible: it must be at least 1")
        return cls(vocab_size, order, tuple(_count_levels(_checked(codes, vocab_size), vocab_size, order)))

    def log_probabilities(
        self, codes: np.ndarray | Sequence[int], context: np.ndarray | Sequence[int] | None = None
    ) -> np.ndarray:
        """log p of every symbol of `codes` given those before it, in nats (float64).

        context: what stands before `codes`, such as the tail of the training text; only its last `order` - 1 symbols matter.
        Where fewer symbols than that stand before one, the lower order that they allow predicts it.
        """
        # Only the last is wanted, that of the model's own order; the queue of one lets go of the others as they come.
        return np.log(deque(self.probabilities_by_order(codes, context), maxlen=1).pop())

    def probabilities_by_order(
        self, codes: np.ndarray | Sequence[int], context: np.ndarray | Sequence[int] | None = None
    ) -> Iterator[np.ndarray]:
        """p of every symbol under the models of order 1, 2, …, `order`, one array each: those that `fit` makes of the same text.

        They share nearly all of their work: one pass gives the scores of all orders.

            >>> model = NgramModel.fit(np.array([0, 1] * 20, np.uint8), vocab_size=2, order=2)
            >>> [probabilities.round(2).tolist() for probabilities in model.probabilities_by_order([0, 1])]
            [[0.5, 0.5], [0.58, 0.96]]
        """
        before = _checked([] if context is None else context[max(len(context) - self.order + 1, 0) :], self.vocab_size)
        symbols = np.concatenate([before, _checked(codes, self.vocab_size)])
        contexts = np.zeros(len(symbols), np.int64)
        lower = np.full(len(symbols), 1 / self.vocab_size)
        for level in self._levels:
            ranks = level.find(contexts * self.vocab_size + symbols)
            yield level.top.interpolate(ranks, contexts, lower)[len(before) :]
            if level.below is not None:
                lower = level.below.interpolate(ranks, contexts, lower)
                contexts = _shifted(ranks, first=_NOWHERE)

    def distribution(self, context: np.ndarray | Sequence[int] = ()) -> np.ndarray:
        """The probabilities [vocab] of the symbol that follows `context`; they sum to 1."""
        before = _checked(context[max(len(context) - self.order + 1, 0) :], self.vocab_size)
        result = np.full(self.vocab_size, 1 / self.vocab_size)
        for length, level in enumerate(self._levels):
            rank = self._rank(before[len(before) - length :]) if length <= len(before) else _NOWHERE
            if rank == _NOWHERE:
                break
            estimate = level.top if length == self.order - 1 else level.below
            assert estimate is not None
            first_key = rank * self.vocab_size
            seen = slice(*np.searchsorted(level.keys, [first_key, first_key + self.vocab_size]))
            result = result * estimate.backoff[rank]
            result[level.keys[seen] - first_key] += estimate.shares[:-1][seen]
        return result

    def _rank(self, ngram: np.ndarray) -> int:
        """The number of an n-gram among those of its order, or `_NOWHERE`. The empty one is number 0."""
        rank = np.zeros(1, np.int64)
        for level, symbol in zip(self._levels, ngram, strict=False):
            rank = level.find(rank * self.vocab_size + symbol)
        return int(rank[0])


_NOWHERE = -1
"""The number of every n-gram that was not seen. As an index it is the last entry of the arrays of an `_Estimate`."""


@dataclass(frozen=True, eq=False)
class _Estimate:
    """The equation of the module at one order, for one kind of count.

    shares: (c - D(c)) / c(h·) by number of the n-gram, and a 0 at the end for those not seen.
    backoff: g(h) by number of the context, and a 1 at the end for those not seen.
    """

    shares: np.ndarray
    backoff: np.ndarray

    @classmethod
    def from_counts(cls, counts: np.ndarray, contexts: np.ndarray, num_contexts: int) -> "_Estimate":
        """counts and contexts: of every distinct n-gram, how often it counts and the number of its context."""
        discounts = _discounts(counts)[np.minimum(counts, 3)]
        totals = np.bincount(contexts, counts, minlength=num_contexts + 1)
        # A context without successors (the last symbols of the text, or the last entry) hands everything to the order below.
        backoff = np.ones(num_contexts + 1)
        np.divide(np.bincount(contexts, discounts, minlength=num_contexts + 1), totals, out=backoff, where=totals > 0)
        return cls(np.append((counts - discounts) / totals[contexts], 0.0), backoff)

    def interpolate(self, ranks: np.ndarray, contexts: np.ndarray, lower: np.ndarray) -> np.ndarray:
        return self.shares[ranks] + self.backoff[contexts] * lower


@dataclass(frozen=True, eq=False)
class _Level:
    """All n-grams of one length that the text has, in ascending order of their keys: number of the context × V + last symbol.

    top: the estimate where this is the highest order. below: where a higher one stands on it (None at the highest order fitted).
    """

    keys: np.ndarray
    top: _Estimate
    below: _Estimate | None

    def find(self, keys: np.ndarray) -> np.ndarray:
        """The numbers of n-grams by their keys; `_NOWHERE` where unseen. Keys made of an unseen context are negative: unseen."""
        if not len(self.keys):
            return np.full(len(keys), _NOWHERE)
        places = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        return np.where(self.keys[places] == keys, places, _NOWHERE)


def _count_levels(symbols: np.ndarray, vocab_size: int, order: int) -> Iterator[_Level]:
    """The levels of order 1, 2, …: each needs the n-grams one longer for its continuation counts, so it comes one step late."""
    contexts, num_contexts = np.zeros(len(symbols), np.int64), 1
    pending: tuple[np.ndarray, np.ndarray, _Estimate, int] | None = None
    for length in range(1, order + 1):
        keys, ranks, counts = np.unique(contexts * vocab_size + symbols, return_inverse=True, return_counts=True)
        if pending is not None:
            shorter_keys, shorter_ranks, shorter_top, shorter_contexts = pending
            # The number of each n-gram without its first symbol: all that share one differ in the symbol that stands before it.
            endings = np.empty(len(keys), np.int64)
            endings[ranks] = shorter_ranks
            continuations = np.bincount(endings, minlength=len(shorter_keys))
            below = _Estimate.from_counts(continuations, shorter_keys // vocab_size, shorter_contexts)
            yield _Level(shorter_keys, shorter_top, below)
        top = _Estimate.from_counts(counts, keys // vocab_size, num_contexts)
        if length == order:
            yield _Level(keys, top, None)
        pending = keys, ranks, top, num_contexts
        # The beginning of the text is a context of its own, numbered after all others; nothing that is scored ever finds it.
        contexts, num_contexts = _shifted(ranks, first=len(keys)), len(keys) + 1


def _discounts(counts: np.ndarray) -> np.ndarray:
    """D by count 0, 1, 2, 3+: the last line of the equations of the module, where it can be trusted.

    It cannot where one of n1 to n4 is zero (all 65 characters of a long text are frequent), a discount is not above zero (nothing
    would be left for the unseen), or an n-gram would keep less than a rarer one: then `FALLBACK_DISCOUNTS` serve that order.
    """
    _, n1, n2, n3, n4 = (int(number) for number in np.bincount(np.minimum(counts, 5), minlength=6)[:5])
    if n1 and n2 and n3 and n4:
        y = n1 / (n1 + 2 * n2)
        d1, d2, d3 = 1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3
        if min(d1, d2, d3) > 0 and 1 - d1 <= 2 - d2 <= 3 - d3:
            return np.array([0.0, d1, d2, d3])
    return np.array([0.0, *FALLBACK_DISCOUNTS])


def _shifted(ranks: np.ndarray, *, first: int) -> np.ndarray:
    """The numbers one place later: the n-gram that ends before each symbol. `first` stands before the first symbol."""
    result = np.empty_like(ranks)
    result[1:] = ranks[:-1]
    result[:1] = first
    return result


def _checked(codes: np.ndarray | Sequence[int], vocab_size: int) -> np.ndarray:
    """The codes as 64-bit integers. A code out of range would silently pass for another n-gram, so it is an error here."""
    symbols = np.asarray(codes)
    if symbols.ndim != 1 or (symbols.size and symbols.dtype.kind not in "iu"):
        raise ValueError(f"codes must be one row of integers; these are {symbols.ndim}-dimensional {symbols.dtype}")
    if symbols.size and not 0 <= int(symbols.min()) <= int(symbols.max()) < vocab_size:
        raise ValueError(
            f"codes from {symbols.min()} to {symbols.max()} are not in a vocabulary of {vocab_size} symbols: "
            f"they must be from 0 to {vocab_size - 1}"
        )
    return symbols.astype(np.int64)

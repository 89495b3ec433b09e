"""How a model saw a text coming: the probability of each of its characters, and what else could have come."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from elman.errors import ConfigError, DataError
from elman.network import Network
from elman.text.model import TextModel
from elman.text.vocabulary import name_symbols
from elman.training.engine import precision

PIECE = 1024
"""Symbols that are read in one compiled call; memory is a few times this times the vocabulary."""


@dataclass(frozen=True, eq=False)
class Surprise:
    """A text as it was foreseen, symbol by symbol.

    codes: the symbols `[length]`. losses: -log p of each, in nats. entropies: of each prediction, in nats. alternatives: the
    likeliest symbols `[length, top]`, likeliest first; probabilities: theirs. A first symbol that nothing stands before was not
    predicted: NaN, and -1 for its alternatives.
    """

    codes: np.ndarray
    losses: np.ndarray
    entropies: np.ndarray
    alternatives: np.ndarray
    probabilities: np.ndarray

    @property
    def mean(self) -> float:
        """Nats per symbol over those that were predicted."""
        return float(np.nanmean(self.losses)) if np.isfinite(self.losses).any() else float("nan")


def surprise(network: Network, codes: np.ndarray, context: np.ndarray | None = None, *, top: int = 5) -> Surprise:
    """Read `context` and then `codes` from a zero state, with the state carried over all of it.

    The losses are those of `text.scoring.symbol_losses`. top: alternatives for each symbol; at most as many as there are symbols.

    Raises: `ValueError` for no codes.
    """
    if len(codes) == 0:
        raise ValueError("a text needs at least one symbol")
    context = codes[:0] if context is None else context
    text = np.concatenate([context, codes]).astype(np.int32)
    top = min(top, network.head.bias.shape[0])
    carry, parts = network.initial_carry(), []
    size = min(PIECE, 1 << max(len(text) - 2, 0).bit_length())
    for start in range(0, len(text) - 1, PIECE):
        piece = text[start : start + PIECE + 1]
        filled = np.zeros(size + 1, np.int32)  # what stands behind the end of the text is cut off below
        filled[: len(piece)] = piece
        found, carry = _read(network, carry, jnp.asarray(filled), top)
        parts.append([np.asarray(array)[: len(piece) - 1] for array in found])
    # The first symbol of all is predicted by nothing.
    unknown = [np.full(1, np.nan), np.full(1, np.nan), np.full((1, top), -1), np.full((1, top), np.nan)]
    losses, entropies, alternatives, probabilities = (
        np.concatenate([first, *(part[place] for part in parts)])[len(context) :] for place, first in enumerate(unknown)
    )
    return Surprise(text[len(context) :], losses, entropies, alternatives.astype(np.int32), probabilities)


def text_surprise(model: TextModel, text: str, *, prime: str = "", top: int = 5) -> Surprise:
    """`surprise` for a text as a person writes it, after `prime`.

        >>> model = TextModel.untrained("hello", hidden=8)
        >>> text_surprise(model, "hello", top=2).alternatives.shape
        (5, 2)

    Raises: `DataError` for an empty text or characters that the model does not know; `ConfigError` for `top` below 1.
    """
    if top < 1:
        raise ConfigError(f"top = {top!r} is out of range: an integer of at least 1")
    unknown = model.vocabulary.unknown(prime + text)
    if unknown:
        raise DataError(f"the model does not know {name_symbols(unknown)}: leave it out of the text")
    codes = model.vocabulary.encode(text)
    if len(codes) == 0:
        raise DataError("the text is empty: give at least one character to look at")
    with precision(model.config.training.dtype):
        return surprise(model.network, codes, model.vocabulary.encode(prime), top=top)


@jax.jit(static_argnums=3)
def _read(network: Network, carry: jax.Array, symbols: jax.Array, top: int) -> tuple[tuple[jax.Array, ...], jax.Array]:
    hidden, carry = network(symbols[:-1], carry)
    chances = jax.nn.log_softmax(network.head(hidden))
    losses = network.head.loss(hidden, symbols[1:])
    likeliest, which = jax.lax.top_k(chances, top)
    entropies = -(jnp.exp(chances) * chances).sum(-1)
    return (losses, entropies, which, jnp.exp(likeliest)), carry

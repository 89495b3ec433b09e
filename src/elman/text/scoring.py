"""How well a network predicts a text: nats per symbol over all of it, with carried state.

A text of millions of symbols is read by many readers side by side. Each begins a little before its own part, unscored, with a zero
state: after those `WARM_UP` symbols its state is as good as one carried over from the very beginning. Every symbol is scored once.
"""

import jax
import jax.numpy as jnp
import numpy as np

from elman.network import Network

READERS = 128
WARM_UP = 256
STEPS = 256
"""Symbols that every reader reads in one compiled call."""


def nats_per_symbol(network: Network, codes: np.ndarray, context: np.ndarray | None = None) -> float:
    """Mean of -log p(symbol | all before it), in nats, over `codes`.

    context: what stands before `codes` (its tail is read, not scored). Without one the first symbol of `codes`, before which
    there is nothing to predict from, is not scored.

    Raises: `ValueError` where nothing is left to score.
    """
    context = codes[:0] if context is None else context[-WARM_UP - 1 :]
    text = np.concatenate([context, codes]) if len(context) else codes
    first = max(len(context), 1)
    scored = len(text) - first
    if scored < 1:
        raise ValueError("a text needs at least two symbols to be scored")
    readers = max(1, min(READERS, scored // WARM_UP))
    share = -(-scored // readers)
    # Reader i scores the targets at first + i·share and on; its first input stands WARM_UP + 1 before that, or at the beginning.
    begins = first + share * np.arange(readers)
    starts = np.maximum(begins - WARM_UP - 1, 0)
    ends = np.minimum(begins + share, len(text))
    total, carry = 0.0, network.initial_carry(readers)
    for offset in range(0, int((ends - starts).max()) - 1, STEPS):
        targets_at = starts[None, :] + offset + 1 + np.arange(STEPS)[:, None]
        counts = (targets_at >= begins) & (targets_at < ends)
        inputs, targets = (text[np.minimum(at, len(text) - 1)].astype(np.int32) for at in (targets_at - 1, targets_at))
        loss, carry = _score(network, carry, jnp.asarray(inputs), jnp.asarray(targets), jnp.asarray(counts))
        total += float(loss)
    return total / scored


@jax.jit
def _score(
    network: Network, carry: jax.Array, inputs: jax.Array, targets: jax.Array, counts: jax.Array
) -> tuple[jax.Array, jax.Array]:
    hidden, carry = network(inputs, carry)
    return jnp.where(counts, network.head.loss(hidden, targets), 0).sum(), carry


def symbol_losses(network: Network, codes: np.ndarray) -> np.ndarray:
    """-log p of every symbol but the first, read by one reader from a zero state: what `nats_per_symbol` shortens."""
    losses, carry = [], network.initial_carry()
    for start in range(0, len(codes) - 1, STEPS):
        piece = jnp.asarray(codes[start : start + STEPS + 1].astype(np.int32))
        piece_losses, carry = _losses(network, carry, piece)
        losses.append(np.asarray(piece_losses))
    return np.concatenate(losses)


@jax.jit
def _losses(network: Network, carry: jax.Array, symbols: jax.Array) -> tuple[jax.Array, jax.Array]:
    hidden, carry = network(symbols[:-1], carry)
    return network.head.loss(hidden, symbols[1:]), carry

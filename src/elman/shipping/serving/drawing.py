"""The compiled programs of the server: many streams step together, each drawn by its own settings; prompts are read in pieces.

What is static in `elman.text.sampling`, where one person waits for one text, is an array here, so that no request can make the
server compile: a stream's temperature and filters are its row of `Controls`.
"""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from elman.network import Network
from elman.text.sampling import SamplingSettings, draw, sample_chunk

BLOCK = 64
"""Symbols that one call draws for each of several streams at most."""

SIZES = (1, 4, 16, 64)
"""Streams that step together: as many of those that wait as one of these; the others have the next turn. Nothing is filled up."""

LONE_BLOCKS = (16, BLOCK, 256)
"""Symbols that one call draws for a stream by itself: the first, while others wait, and while nobody does."""

PIECE = 512
"""Symbols of a prompt that are read in one call at most: ten milliseconds for which the others wait."""

ALTERNATIVES = 5
"""Likeliest symbols that are told with a symbol's own probability at most, as in OpenAI's interface."""


class Controls(NamedTuple):
    """`SamplingSettings` of several streams, an array `[streams]` for each."""

    temperature: jax.Array | np.ndarray
    top_k: jax.Array | np.ndarray
    top_p: jax.Array | np.ndarray
    min_p: jax.Array | np.ndarray
    repetition_penalty: jax.Array | np.ndarray

    @classmethod
    def of(cls, settings: list[SamplingSettings], dtype: np.dtype) -> "Controls":
        """The rows of `settings`."""
        names = cls._fields
        kinds = [np.int32 if name == "top_k" else dtype for name in names]
        return cls(*(np.asarray([getattr(s, n) for s in settings], kind) for n, kind in zip(names, kinds, strict=True)))


class Scores(NamedTuple):
    """How likely each symbol was: its own log probability `[time]`, the likeliest symbols `[time, 5]` and theirs."""

    own: np.ndarray
    symbols: np.ndarray
    logs: np.ndarray


def is_plain(settings: SamplingSettings) -> bool:
    """Whether every symbol may be drawn: then there is nothing to sort."""
    return settings.temperature > 0 and settings == SamplingSettings(temperature=settings.temperature)


@functools.partial(jax.jit, static_argnames=("plain",), compiler_options={"xla_cpu_prefer_vector_width": 512})
def draw_block(
    network: Network,
    carry: jax.Array,
    symbol: jax.Array,
    recent: jax.Array,
    uniforms: jax.Array,
    controls: Controls,
    count: jax.Array,
    *,
    plain: bool,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Draw `count` symbols, at most `BLOCK`, for each of several streams.

    carry: [layers, streams, carry]; symbol: [streams], the last one, not read yet; recent: [streams, 64], -1 for none; uniforms:
    [BLOCK, streams]. plain: no stream has more than a temperature. Returns symbols [BLOCK, streams], carry and recent.
    """

    def step(number: jax.Array, state: tuple) -> tuple:
        carries, symbol, recent, drawn = state
        hidden, carries = network.step(symbol, carries)
        logits = network.head(hidden)
        logits = logits / controls.temperature[:, None] if plain else adjusted_rows(logits, recent, controls)
        symbol = draw(logits, uniforms[number])
        if not plain:
            recent = jnp.concatenate([recent[:, 1:], symbol[:, None]], axis=1)
        return carries, symbol, recent, drawn.at[number].set(symbol)

    drawn = jnp.zeros(uniforms.shape, jnp.int32)
    state = jax.lax.fori_loop(0, count, step, (tuple(carry), symbol, recent, drawn))
    return state[3], jnp.stack(state[0]), state[2]


def adjusted_rows(logits: jax.Array, recent: jax.Array, controls: Controls) -> jax.Array:
    """`elman.text.sampling.adjusted` with settings of its own for each row of logits `[streams, vocab]`."""
    streams, vocab = logits.shape
    # None (-1) goes behind the last symbol, where it is dropped.
    places = jnp.where(recent < 0, vocab, recent)
    seen = jnp.zeros((streams, vocab), bool).at[jnp.arange(streams)[:, None], places].set(True, mode="drop")
    penalty = controls.repetition_penalty[:, None]
    logits = jnp.where(seen, jnp.where(logits > 0, logits / penalty, logits * penalty), logits)
    likeliest = jnp.arange(vocab) == logits.argmax(axis=1, keepdims=True)
    greedy = controls.temperature[:, None] == 0
    logits = logits / jnp.where(greedy, 1, controls.temperature[:, None])
    descending = -jnp.sort(-logits, axis=1)
    wanted = jnp.where(controls.top_k <= 0, vocab, jnp.minimum(controls.top_k, vocab))
    smallest = jnp.take_along_axis(descending, wanted[:, None] - 1, axis=1)
    smallest = jnp.maximum(smallest, descending[:, :1] + jnp.log(controls.min_p[:, None]))
    probabilities = jax.nn.softmax(jnp.where(descending < smallest, -jnp.inf, descending), axis=1)
    # A symbol is kept while those before it hold less than top_p; a top_p of 1 keeps all, whatever rounding says.
    kept = jnp.cumsum(probabilities, axis=1) - probabilities < controls.top_p[:, None]
    kept |= controls.top_p[:, None] >= 1
    smallest = jnp.maximum(smallest, jnp.where(kept, descending, jnp.inf).min(axis=1, keepdims=True))
    logits = jnp.where(logits < smallest, -jnp.inf, logits)
    return jnp.where(greedy, jnp.where(likeliest, 0.0, -jnp.inf), logits)


def draw_alone(network: Network, carry: np.ndarray, symbol: int, uniforms: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`len(uniforms)` symbols of one stream and its carry, by the program that `elman sample` runs."""
    drawn, carry, _, _ = sample_chunk(
        network, jnp.asarray(carry), jnp.int32(symbol), None, jnp.asarray(uniforms), SamplingSettings(), False
    )
    return np.asarray(drawn), np.asarray(carry)


def sharpened(network: Network, temperature: float) -> Network:
    """The network whose distribution is that of `network` at a temperature."""
    if temperature == 1:
        return network
    head = network.head
    return dataclasses.replace(
        network, head=dataclasses.replace(head, weight=head.weight / temperature, bias=head.bias / temperature)
    )


@jax.jit
def read_piece(network: Network, carry: jax.Array, symbols: jax.Array) -> jax.Array:
    """The carry behind `symbols`."""
    return network(symbols, carry)[1]


@jax.jit
def _score_piece(network: Network, carry: jax.Array, symbols: jax.Array, targets: jax.Array) -> tuple[jax.Array, ...]:
    logs = jax.nn.log_softmax(network.head(network(symbols, carry)[0]), axis=-1)
    best, which = jax.lax.top_k(logs, min(ALTERNATIVES, logs.shape[-1]))
    return jnp.take_along_axis(logs, targets[:, None], axis=-1)[:, 0], which, best


def score_piece(network: Network, carry: np.ndarray, symbols: np.ndarray) -> Scores:
    """How likely `symbols[1:]` were, each behind those before it, by the network's own distribution; `carry` knows none of them.

    Filled up to a power of four, so that few programs are compiled.
    """
    count, size = len(symbols) - 1, 16
    while size < count:
        size *= 4
    padded = np.zeros(size + 1, np.int32)
    padded[: count + 1] = symbols
    own, which, best = _score_piece(network, jnp.asarray(carry), jnp.asarray(padded[:-1]), jnp.asarray(padded[1:]))
    return Scores(np.asarray(own)[:count], np.asarray(which)[:count], np.asarray(best)[:count])

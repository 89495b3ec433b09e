"""Sampling at test time: draw a symbol from the softmax, feed it back, go on (lecture L8).

A symbol is drawn by inverting the cumulative distribution at one uniform number, as NumPy's `choice` does. The uniform numbers are
drawn outside the compiled loop, one per symbol, so that a text depends on the seed and the settings and on nothing else: neither on
how many symbols are computed in one call, nor on whether they are printed as they come.
"""

import functools
import numbers
from collections.abc import Iterator
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from elman.config import suggestion
from elman.errors import ConfigError
from elman.network import Network

RECENT = 64
"""Symbols to which the repetition penalty looks back."""

CHUNK, LONG_CHUNK = 256, 2048
"""Symbols computed in one compiled call: few at first, so that something is soon seen, many where many are left."""


@dataclass(frozen=True)
class SamplingSettings:
    """How a symbol is drawn from the network's distribution. The defaults draw from the distribution as it is.

    temperature: divides the logits; below 1 safer, above 1 wilder, 0 always the likeliest symbol.
    top_k: only the k likeliest symbols; 0: all.
    top_p: only the likeliest symbols that together hold this probability (Holtzman et al. 2020).
    min_p: only symbols at least this share as likely as the likeliest (Nguyen et al. 2024).
    repetition_penalty: divides (multiplies, where negative) the logits of the last 64 symbols (Keskar et al. 2019, section 4.1).

        >>> SamplingSettings(temperature=-1)
        Traceback (most recent call last):
        elman.errors.ConfigError: temperature = -1 is out of range: a number from 0 to 100
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0

    def __post_init__(self) -> None:
        _check_range("temperature", self.temperature, 0, 100)
        _check_range("top_k", self.top_k, 0, 2**31 - 1)
        _check_range("top_p", self.top_p, 1e-6, 1)
        _check_range("min_p", self.min_p, 0, 1)
        _check_range("repetition_penalty", self.repetition_penalty, 0.01, 100)

    @classmethod
    def from_options(cls, **options: float) -> "SamplingSettings":
        """Like the constructor, but an unknown name is a `ConfigError` that suggests the nearest."""
        known = cls.__dataclass_fields__
        for name in options:
            if name not in known:
                raise ConfigError(f"unknown sampling option {name!r}{suggestion(name, known)}")
        return cls(**options)  # type: ignore[arg-type]


def draw(logits: jax.Array, uniform: jax.Array) -> jax.Array:
    """The symbol at which the cumulative softmax of `logits` [..., vocab] passes `uniform` [...], as NumPy's `choice` draws."""
    weights = jnp.exp(logits - logits.max(axis=-1, keepdims=True))
    cumulative = _cumulative(weights)
    total = cumulative[..., -1:]
    # The second condition holds where rounding lifts the product to the total: what is excluded is never drawn.
    below = (cumulative <= uniform[..., None] * total) & (cumulative < total)
    return below.sum(axis=-1, dtype=jnp.int32)


def adjusted(logits: jax.Array, recent: jax.Array, settings: SamplingSettings) -> jax.Array:
    """The logits from which `settings` draws; what it excludes is minus infinity. recent: the last symbols, -1 for none."""
    vocab = logits.shape[-1]
    if settings.repetition_penalty != 1.0:
        seen = (recent[..., None] == jnp.arange(vocab)).any(axis=-2)
        penalty = settings.repetition_penalty
        logits = jnp.where(seen, jnp.where(logits > 0, logits / penalty, logits * penalty), logits)
    if settings.temperature == 0.0:
        likeliest = logits.argmax(axis=-1, keepdims=True)
        return jnp.where(jnp.arange(vocab) == likeliest, 0.0, -jnp.inf)
    if settings.temperature != 1.0:
        logits = logits / settings.temperature
    if 0 < settings.top_k < vocab:
        smallest = jax.lax.top_k(logits, settings.top_k)[0][..., -1:]
        logits = jnp.where(logits < smallest, -jnp.inf, logits)
    if settings.min_p > 0.0:
        logits = jnp.where(logits < logits.max(axis=-1, keepdims=True) + np.log(settings.min_p), -jnp.inf, logits)
    if settings.top_p < 1.0:
        descending = -jnp.sort(-logits, axis=-1)
        probabilities = jax.nn.softmax(descending, axis=-1)
        # A symbol is kept while those before it hold less than top_p, so that the likeliest always is.
        kept = jnp.cumsum(probabilities, axis=-1) - probabilities < settings.top_p
        smallest = jnp.where(kept, descending, jnp.inf).min(axis=-1, keepdims=True)
        logits = jnp.where(logits < smallest, -jnp.inf, logits)
    return logits


@functools.partial(jax.jit, static_argnames="settings")
def sample_chunk(
    network: Network,
    carry: jax.Array,
    symbol: jax.Array,
    recent: jax.Array,
    uniforms: jax.Array,
    settings: SamplingSettings,
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Draw `len(uniforms)` symbols.

    carry: [layers, *batch, carry]; symbol: [*batch], the last one, which the network has not read yet; recent: [*batch, 64];
    uniforms: [time, *batch]. Returns the symbols [time, *batch], and carry, symbol and recent behind them.
    """
    penalized = settings.repetition_penalty != 1.0

    def step(state: tuple, uniform: jax.Array) -> tuple[tuple, jax.Array]:
        carry, symbol, recent = state
        hidden, carry = network.step(symbol, carry)
        logits = adjusted(network.head(hidden), recent, settings)
        symbol = draw(logits, uniform)
        if penalized:
            recent = jnp.concatenate([recent[..., 1:], symbol[..., None]], axis=-1)
        return (carry, symbol, recent), symbol

    (carry, symbol, recent), symbols = jax.lax.scan(step, (carry, symbol, recent), uniforms)
    return symbols, carry, symbol, recent


def sample_symbols(
    network: Network,
    prime: np.ndarray,
    length: int,
    *,
    settings: SamplingSettings,
    seed: int | list[int],
    samples: int | None = None,
    carry: jax.Array | None = None,
) -> Iterator[np.ndarray]:
    """Symbols that follow `prime` [at least one], in pieces `[time]`, or `[time, samples]` where `samples` is given.

    carry: the state before `prime`, one sequence; None: zeros.
    """
    batch = () if samples is None else (samples,)
    if carry is None:
        carry = network.initial_carry()
    if len(prime) > 1:
        carry = _read(network, carry, prime[:-1])
    dtype = carry.dtype
    carry = jnp.broadcast_to(jnp.expand_dims(carry, 1) if batch else carry, (carry.shape[0], *batch, carry.shape[-1]))
    symbol = jnp.full(batch, int(prime[-1]), jnp.int32)
    tail = prime[-RECENT:].astype(np.int32)
    recent = jnp.broadcast_to(jnp.asarray(np.pad(tail, (RECENT - len(tail), 0), constant_values=-1)), (*batch, RECENT))
    generator = np.random.default_rng(seed)
    made = 0
    while made < length:
        # Two sizes, so that two programs are enough for every length; what is too much of the last call is cut off.
        size = LONG_CHUNK if made and length - made >= LONG_CHUNK else CHUNK
        uniforms = jnp.asarray(generator.random((size, *batch), np.dtype(dtype)))
        symbols, carry, symbol, recent = sample_chunk(network, carry, symbol, recent, uniforms, settings)
        yield np.asarray(symbols)[: length - made]
        made += size


def _read(network: Network, carry: jax.Array, symbols: np.ndarray) -> jax.Array:
    """The carry after reading `symbols`, in pieces of powers of two so that few programs are compiled."""
    position, size = 0, 1 << 12
    while position < len(symbols):
        while size > len(symbols) - position:
            size //= 2
        carry = _read_piece(network, carry, jnp.asarray(symbols[position : position + size].astype(np.int32)))
        position += size
    return carry


@jax.jit
def _read_piece(network: Network, carry: jax.Array, symbols: jax.Array) -> jax.Array:
    return network(symbols, carry)[1]


def _cumulative(weights: jax.Array) -> jax.Array:
    """Running sum over the last axis; for few symbols as a product with a triangle, which a CPU does several times sooner."""
    vocab = weights.shape[-1]
    if vocab > 512:
        return jnp.cumsum(weights, axis=-1)
    return weights @ jnp.triu(jnp.ones((vocab, vocab), weights.dtype))


def _check_range(name: str, value: float, minimum: float, maximum: float) -> None:
    kind, type_ = ("an integer", numbers.Integral) if name == "top_k" else ("a number", numbers.Real)
    if isinstance(value, bool) or not isinstance(value, type_) or not minimum <= value <= maximum:
        raise ConfigError(f"{name} = {value!r} is out of range: {kind} from {minimum:g} to {maximum:g}")

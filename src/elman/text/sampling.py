"""Sampling at test time: draw a symbol from the softmax, feed it back, go on (lecture L8).

A symbol is drawn by inverting the cumulative distribution at one uniform number, as NumPy's `choice` does. The uniform numbers are
drawn outside the compiled loop, one per symbol, so that a text depends on the seed and the settings and on nothing else: neither on
how many symbols are computed in one call, nor on whether they are printed as they come.
"""

import dataclasses
import functools
import numbers
from collections.abc import Iterator
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from elman.config import suggestion
from elman.errors import ConfigError
from elman.network import GRU, AbstractCell, Categorical, Elman, Network
from elman.network.kernels import calls, usable

RECENT = 64
"""Symbols to which the repetition penalty looks back."""

LANES = 16
"""Numbers in the widest vector of a CPU, in float32."""

UNROLLED_VOCABULARY = 128
"""Up to here the cumulative sum is written out."""

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


def draw(logits: jax.Array, uniform: jax.Array, *, bounded: bool = False) -> jax.Array:
    """The symbol at which the cumulative softmax of `logits` [..., vocab] passes `uniform` [...], as NumPy's `choice` draws.

    bounded: no logit is so far from 0 that its exponential leaves float32 (`_bounded`), so that no maximum need be taken off.

    A small vocabulary is summed symbol by symbol: XLA makes one loop of that, where a cumulative sum, a comparison and a count are
    five, and for one stream it is the number of loops that a step costs. `benchmarks/sampling.py` is the measure.
    """
    weights = jnp.exp(logits if bounded else logits - logits.max(axis=-1, keepdims=True))
    # Rounding must not lift the product below to the total: behind that lies only what is excluded.
    uniform = jnp.minimum(uniform, 1 - jnp.finfo(weights.dtype).eps)
    if weights.shape[-1] > UNROLLED_VOCABULARY:
        cumulative = jnp.cumsum(weights, axis=-1)
        return (cumulative <= uniform[..., None] * cumulative[..., -1:]).sum(axis=-1, dtype=jnp.int32)
    sums = [weights[..., 0]]
    for symbol in range(1, weights.shape[-1]):
        sums.append(sums[-1] + weights[..., symbol])
    threshold = uniform * sums[-1]
    return sum(((value <= threshold).astype(jnp.int32) for value in sums), start=jnp.zeros((), jnp.int32))


def adjusted(logits: jax.Array, recent: jax.Array | None, settings: SamplingSettings) -> jax.Array:
    """The logits from which `settings` draws; what it excludes is minus infinity. recent: the last symbols, -1 for none."""
    vocab = logits.shape[-1]
    if recent is not None:
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


@functools.partial(
    jax.jit, static_argnames=("settings", "bounded"), compiler_options={"xla_cpu_prefer_vector_width": 512}
)
def sample_chunk(
    network: Network,
    carry: jax.Array,
    symbol: jax.Array,
    recent: jax.Array | None,
    uniforms: jax.Array,
    settings: SamplingSettings,
    bounded: bool,
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array | None]:
    """Draw `len(uniforms)` symbols.

    carry: [layers, *batch, carry]; symbol: [*batch], the last one, which the network has not read yet; recent: [*batch, 64], or
    None without a repetition penalty; uniforms: [time, *batch]. Returns the symbols [time, *batch], and carry, symbol and recent.
    """
    if symbol.ndim == 0 and recent is None and _compiled(network, settings):
        symbols, carry = calls.sample(
            network.cells,
            network.head.weight,
            network.head.bias,
            carry,
            symbol,
            uniforms,
            sharpness=1 / settings.temperature,
        )
        return symbols, carry, symbols[-1], None
    wide, vocab = _widened(network), network.head.bias.shape[0]

    def step(state: tuple, uniform: jax.Array) -> tuple[tuple, jax.Array]:
        carries, symbol, recent = state
        hidden, carries = wide.step(symbol, carries)
        logits = adjusted(wide.head(hidden)[..., :vocab], recent, settings)
        symbol = draw(logits, uniform, bounded=bounded)
        if recent is not None:
            recent = jnp.concatenate([recent[..., 1:], symbol[..., None]], axis=-1)
        return (carries, symbol, recent), symbol

    carries = tuple(_resized(carry, network, wide))
    (carries, symbol, recent), symbols = jax.lax.scan(step, (carries, symbol, recent), uniforms)
    return symbols, _resized(jnp.stack(carries), wide, network), symbol, recent


def _compiled(network: Network, settings: SamplingSettings) -> bool:
    """Whether one stream can be drawn by the kernel: plain layers, nothing between them, every symbol allowed."""
    plain = network.normalizations is None and not (network.residual and len(network.cells) > 1)
    free = settings.temperature > 0 and settings == SamplingSettings(temperature=settings.temperature)
    known = calls.kind_of(network.cells[0]) is not None and len(network.cells) <= calls.MOST_LAYERS
    return plain and free and known and all(usable(leaf.dtype) for leaf in jax.tree.leaves(network))


def _widened(network: Network) -> Network:
    """The same network with units and outputs added, up to a multiple of 16, that stay at 0: whole vectors are multiplied sooner.

    Exact: a unit whose weights are all 0 has the state 0 in every cell and weighs nothing in the head.
    """
    if network.normalizations is not None:
        return network  # its mean and variance would count the added units

    def padded(array: jax.Array, *axes: int) -> jax.Array:
        return jnp.pad(array, [(0, -array.shape[axis] % LANES if axis in axes else 0) for axis in range(array.ndim)])

    def gates(array: jax.Array, cell: AbstractCell, *axes: int) -> jax.Array:
        blocks = array.reshape(*array.shape[:-1], cell.gate_blocks, cell.hidden_size)
        return padded(blocks, *axes, blocks.ndim - 1).reshape(*padded(array, *axes).shape[:-1], -1)

    cells = []
    for layer, cell in enumerate(network.cells):
        changes = {
            "weight_inputs": gates(cell.weight_inputs, cell, *(() if layer == 0 else (0,))),
            "weight_hidden": gates(cell.weight_hidden, cell, 0),
            "bias": gates(cell.bias, cell),
        }
        if isinstance(cell, GRU):
            changes["bias_candidate"] = padded(cell.bias_candidate, 0)
        cells.append(dataclasses.replace(cell, **changes))
    head = Categorical(padded(network.head.weight, 0, 1), padded(network.head.bias, 0))
    return dataclasses.replace(network, cells=tuple(cells), head=head)


def _resized(carry: jax.Array, old: Network, new: Network) -> jax.Array:
    """A carry of `old` as one of `new`: units are added or cut off behind each part."""
    cell, size = old.cells[0], new.cells[0].hidden_size
    parts = carry.reshape(*carry.shape[:-1], cell.carry_blocks, cell.hidden_size)[..., :size]
    grown = jnp.pad(parts, [(0, 0)] * (parts.ndim - 1) + [(0, size - parts.shape[-1])])
    return grown.reshape(*carry.shape[:-1], -1)


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
    recent = None
    if settings.repetition_penalty != 1.0:
        tail = prime[-RECENT:].astype(np.int32)
        recent = jnp.broadcast_to(np.pad(tail, (RECENT - len(tail), 0), constant_values=-1), (*batch, RECENT))
    bounded = settings == SamplingSettings() and _bounded(network)
    generator = np.random.default_rng(seed)
    made = 0
    while made < length:
        # Two sizes, so that two programs are enough for every length; what is too much of the last call is cut off.
        size = LONG_CHUNK if made and length - made > LONG_CHUNK // 2 else CHUNK
        uniforms = jnp.asarray(generator.random((size, *batch), np.dtype(dtype)))
        symbols, carry, symbol, recent = sample_chunk(network, carry, symbol, recent, uniforms, settings, bounded)
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


def _bounded(network: Network) -> bool:
    """Whether every logit lies within ±80, whatever the text: states of tanh and gated cells lie within ±1."""
    squashed = all(not isinstance(cell, Elman) or cell.activation == "tanh" for cell in network.cells)
    if not squashed or network.normalizations is not None or (network.residual and len(network.cells) > 1):
        return False
    weight, bias = np.asarray(network.head.weight), np.asarray(network.head.bias)
    return bool((np.abs(weight).sum(axis=0) + np.abs(bias)).max() < 80.0)


def _check_range(name: str, value: float, minimum: float, maximum: float) -> None:
    kind, type_ = ("an integer", numbers.Integral) if name == "top_k" else ("a number", numbers.Real)
    if isinstance(value, bool) or not isinstance(value, type_) or not minimum <= value <= maximum:
        raise ConfigError(f"{name} = {value!r} is out of range: {kind} from {minimum:g} to {maximum:g}")

"""A network: a stack of recurrent layers with a head on top, and the one place where a user's shapes are checked."""

import functools
import math
from collections.abc import Callable, Mapping

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Inexact, Int, PRNGKeyArray, PyTree

from elman.config import NetworkSettings
from elman.errors import BundleError, DataError
from elman.network.cells import CELLS, AbstractCell, Elman
from elman.network.heads import AbstractHead, Categorical
from elman.network.recurrence import unroll


class Normalization(eqx.Module):
    """Layer normalization (Ba et al. 2016, equation 4) of what a layer hands upwards: zero mean, unit variance, then a scale.

    It stands between the layers, outside the loop over time, so it costs the recurrence nothing. Scale starts at 1, shift at 0.
    """

    scale: Inexact[Array, " hidden"]
    shift: Inexact[Array, " hidden"]

    def __call__(self, hidden: Float[Array, "*steps hidden"]) -> Float[Array, "*steps hidden"]:
        centred = hidden - hidden.mean(axis=-1, keepdims=True)
        variance = (centred * centred).mean(axis=-1, keepdims=True)
        return centred * jax.lax.rsqrt(variance + 1e-5) * self.scale + self.shift


class Network(eqx.Module):
    """Recurrent layers and a head; the carry is explicit: state in, state out.

    Inputs are time-major: integers `[time, *batch]` that stand for one-hot vectors, or floats `[time, *batch, inputs]`.
    The carry of all layers is one packed array `[layers, *batch, carry]`.

        >>> import jax
        >>> from elman.config import NetworkSettings
        >>> network = Network.create(NetworkSettings(hidden=16), 10, 10, key=jax.random.key(0))
        >>> symbols = jax.numpy.array([[3], [1], [4]])                 # three steps of one sequence
        >>> hidden, carry = network(symbols, network.initial_carry(1))
        >>> hidden.shape, network.head(hidden).shape                   # an output at every step: many to many
        ((3, 1, 16), (3, 1, 10))
        >>> network.last(symbols).shape                                # one output from the last state: many to one
        (1, 10)
    """

    cells: tuple[AbstractCell, ...]
    normalizations: tuple[Normalization, ...] | None
    head: AbstractHead
    dropout: float = eqx.field(static=True)
    input_dropout: float = eqx.field(static=True)
    recurrent_dropout: float = eqx.field(static=True)
    residual: bool = eqx.field(static=True)

    @classmethod
    def create(
        cls,
        settings: NetworkSettings,
        input_size: int,
        output_size: int,
        *,
        key: PRNGKeyArray,
        dtype: jax.typing.DTypeLike = jnp.float32,
        head: Callable[..., AbstractHead] | None = None,
    ) -> "Network":
        """A network with starting weights drawn from `key`. `settings.hidden` must have a value.

        head: makes the head, called as `head(hidden_size, output_size, key=, dtype=)`; None: `Categorical`.
        """
        if settings.hidden is None:
            raise DataError("hidden has no value yet: give a number of units")
        *cell_keys, head_key = jax.random.split(key, settings.layers + 1)
        cell_class = CELLS[settings.cell]
        extra = {"activation": settings.activation} if cell_class is Elman else {}
        cells = tuple(
            cell_class.create(
                input_size if layer == 0 else settings.hidden,
                settings.hidden,
                key=cell_keys[layer],
                initialization=settings.initialization,
                dtype=dtype,
                **extra,
            )
            for layer in range(settings.layers)
        )
        normalizations = None
        if settings.layer_norm:
            ones, zeros = jnp.ones(settings.hidden, dtype), jnp.zeros(settings.hidden, dtype)
            normalizations = tuple(Normalization(ones, zeros) for _ in cells)
        make_head = head or functools.partial(Categorical.create, initialization=settings.initialization)
        top = make_head(settings.hidden, output_size, key=head_key, dtype=dtype)
        rates = (settings.dropout or 0.0, settings.input_dropout or 0.0, settings.recurrent_dropout or 0.0)
        return cls(cells, normalizations, top, *rates, settings.residual)

    @property
    def parameter_count(self) -> int:
        """Numbers that training changes."""
        return sum(leaf.size for leaf in jax.tree.leaves(self))

    @property
    def drops(self) -> bool:
        """Whether training drops anything, and so needs random numbers."""
        return max(self.dropout, self.input_dropout, self.recurrent_dropout) > 0

    def initial_carry(self, *batch: int) -> Float[Array, "layers *batch carry"]:
        """The state before the first step of every layer: zeros."""
        return jnp.stack([cell.initial_carry(*batch) for cell in self.cells])

    def __call__(
        self,
        xs: Array,
        carry: Float[Array, "layers *batch carry"] | None = None,
        *,
        lengths: Int[Array, "*batch"] | None = None,
        key: PRNGKeyArray | None = None,
        place: tuple[Array, int] | None = None,
    ) -> tuple[Float[Array, "time *batch hidden"], Float[Array, "layers *batch carry"]]:
        """What the top layer hands to the head at every step, and the carry after the last step of each sequence.

        lengths: how many steps of each sequence count; behind them the state is held.
        key: turns dropout on (training); without it the network is deterministic.
        place: where these sequences are columns of a larger batch, the number of the first and how many there are: what is dropped
            is then that of the larger batch, whoever computes which part of it.
        """
        batch = self._check(xs, carry, lengths)
        if carry is None:
            carry = self.initial_carry(*batch)
        carries = []
        hidden = xs
        if key is not None and self.input_dropout > 0 and not jnp.issubdtype(xs.dtype, jnp.integer):
            key, input_key = jax.random.split(key)
            mask = _dropout_mask(input_key, self.input_dropout, (*batch, xs.shape[-1]), carry.dtype, 0, place)
            hidden = xs if mask is None else xs * mask
        for layer, cell in enumerate(self.cells):
            key, recurrent_key, dropout_key = (None,) * 3 if key is None else jax.random.split(key, 3)
            shape = (*batch, cell.hidden_size)
            recurrent_mask = _dropout_mask(recurrent_key, self.recurrent_dropout, shape, carry.dtype, 0, place)
            below = hidden
            hidden, last = unroll(cell, below, carry[layer], lengths=lengths, recurrent_mask=recurrent_mask)
            carries.append(last)
            if self.normalizations is not None:
                hidden = self.normalizations[layer](hidden)
            mask = _dropout_mask(dropout_key, self.dropout, hidden.shape, hidden.dtype, 1, place)
            if mask is not None:
                hidden = hidden * mask
            if self.residual and layer > 0:
                hidden = hidden + below
        return hidden, jnp.stack(carries)

    def step(
        self, x: Array, carries: tuple[Float[Array, "*batch carry"], ...]
    ) -> tuple[Float[Array, "*batch hidden"], tuple[Float[Array, "*batch carry"], ...]]:
        """One step without dropout: the numbers of a sequence of length one, with nothing around them. For sampling.

        x: floats `[*batch, inputs]` or integers `[*batch]`; carries: the rows of a carry, `tuple(carry)`, because packing them
        anew at every step costs one stream a seventh of its time. Stack them to get a carry back.
        """
        after, hidden = [], x
        for layer, cell in enumerate(self.cells):
            below = hidden
            hidden, carry = cell(below, carries[layer])
            after.append(carry)
            hidden = self.layer_output(layer, hidden, below)
        return hidden, tuple(after)

    def layer_output(
        self, layer: int, hidden: Float[Array, "*steps hidden"], below: Array
    ) -> Float[Array, "*steps hidden"]:
        """What `layer` hands upwards, without dropout: its h, normalized and added to `below` where the network does that."""
        if self.normalizations is not None:
            hidden = self.normalizations[layer](hidden)
        return hidden + below if self.residual and layer > 0 else hidden

    def last(
        self,
        xs: Array,
        carry: Float[Array, "layers *batch carry"] | None = None,
        *,
        lengths: Int[Array, "*batch"] | None = None,
        key: PRNGKeyArray | None = None,
    ) -> Float[Array, "*batch outputs"]:
        """Many to one: the head's output for the last step of each sequence (its own last step, with `lengths`)."""
        hidden, _ = self(xs, carry, lengths=lengths, key=key)
        if lengths is None:
            return self.head(hidden[-1])
        index = jnp.maximum(jnp.asarray(lengths) - 1, 0)[None, ..., None]
        return self.head(jnp.take_along_axis(hidden, index, axis=0)[0])

    def _check(self, xs: Array, carry: Array | None, lengths: Array | None) -> tuple[int, ...]:
        """Refuse shapes that do not fit, in the user's words; return the batch axes."""
        integers = jnp.issubdtype(xs.dtype, jnp.integer)
        batch = tuple(xs.shape[1:] if integers else xs.shape[1:-1])
        if xs.ndim == 0 or xs.shape[0] == 0:
            raise DataError(
                f"inputs of shape {tuple(xs.shape)} have no steps: the first axis is time and needs at least one"
            )
        if not integers and (xs.ndim < 2 or xs.shape[-1] != self.cells[0].input_size):
            expected = self.cells[0].input_size
            raise DataError(
                f"inputs of shape {tuple(xs.shape)} do not fit: [time, batch, {expected}] is expected, {expected} values per step"
            )
        expected_carry = (len(self.cells), *batch, self.cells[0].carry_size)
        if carry is not None and tuple(carry.shape) != expected_carry:
            raise DataError(
                f"a carry of shape {tuple(carry.shape)} does not fit inputs of shape {tuple(xs.shape)}: "
                f"{expected_carry} is expected"
            )
        if lengths is not None and tuple(lengths.shape) != batch:
            raise DataError(
                f"lengths of shape {tuple(lengths.shape)} do not fit: one length per sequence, {batch}, is expected"
            )
        return batch


def to_arrays(tree: PyTree) -> dict[str, np.ndarray]:
    """The arrays of a network, or of any tree of states, by name: `cells.0.weight_hidden`, `head.bias`, ..."""
    return {_dotted(path): np.asarray(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def with_arrays(tree: PyTree, arrays: Mapping[str, np.ndarray], source: str) -> PyTree:
    """A copy of `tree` with its arrays replaced by those of `to_arrays`; `source` names the file in the error.

    Raises: `BundleError` for an array that is missing, superfluous, or of another shape or type.
    """
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    names = [_dotted(path) for path, _ in leaves]
    for name in sorted(set(names) ^ set(arrays)):
        verb = "lacks" if name in names else "holds"
        raise BundleError(f"{source} does not fit its own settings: it {verb} the array {name!r}; were they edited?")
    for name, (_, leaf) in zip(names, leaves, strict=True):
        if arrays[name].shape != leaf.shape or arrays[name].dtype != leaf.dtype:
            found, expected = (f"{a.dtype} {tuple(a.shape)}" for a in (arrays[name], leaf))
            raise BundleError(
                f"{source} does not fit its own settings: {name!r} is {found}, not {expected}; were they edited?"
            )
    return jax.tree.unflatten(jax.tree.structure(tree), [jnp.array(arrays[name], copy=True) for name in names])


def _dropout_mask(
    key: PRNGKeyArray | None,
    rate: float,
    shape: tuple[int, ...],
    dtype: jax.typing.DTypeLike,
    axis: int = 0,
    place: tuple[Array, int] | None = None,
) -> Float[Array, "*shape"] | None:
    """Zeros with probability `rate` and 1 / (1 - rate) elsewhere; None where nothing is dropped.

    place: the mask is a part of a larger one: where it begins on `axis`, and how long that is there.

    A place is decided by a hash of its number and the key: JAX's own generator took longer than the network around it, fifteen
    milliseconds of an update of eight (`docs/log.md`), and a mask needs no more than bits that look random.
    """
    threshold = round(rate * 2**32)
    if key is None or threshold == 0:
        return None
    first, second = jax.random.key_data(key)
    places = jax.lax.iota(jnp.uint32, math.prod(shape))
    if place is not None:
        begin, whole = place
        behind = math.prod(shape[axis + 1 :])
        row = jnp.uint32(shape[axis] * behind)
        places = places // row * jnp.uint32(whole * behind) + places % row + begin * jnp.uint32(behind)
    bits = _scrambled(_scrambled(places + first) ^ second).reshape(shape)
    return jnp.where(bits >= jnp.uint32(threshold), jnp.asarray(1 / (1 - rate), dtype), jnp.asarray(0, dtype))


def _scrambled(bits: Int[Array, "..."]) -> Int[Array, "..."]:
    """A one-to-one map of 32-bit integers in which every bit depends on every other: Wellons' `lowbias32` (2018)."""
    bits = (bits ^ (bits >> 16)) * jnp.uint32(0x7FEB352D)
    bits = (bits ^ (bits >> 15)) * jnp.uint32(0x846CA68B)
    return bits ^ (bits >> 16)


def _dotted(path: tuple) -> str:
    """A path into a tree as text: attributes, indices and keys joined by dots."""
    return ".".join(str(getattr(key, "name", getattr(key, "idx", getattr(key, "key", "")))) for key in path)

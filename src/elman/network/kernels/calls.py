"""The compiled functions as JAX calls them: float32 arrays, time first, one batch axis. What is absent is an empty array.

`interface.h` says what each computes. Under `vmap` an axis that only sequences have becomes part of the batch; where weights, or a
sum over sequences, have it, the calls follow one another.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from elman.network.cells import COMBINES, GRU, AbstractCell
from elman.network.kernels.library import status

TANH, RELU, GATED, MEMORY = range(4)
"""The kernels' numbers for the cells, in the order of `COMBINES`: Elman with tanh and relu, GRU, LSTM."""

MOST_LAYERS = 16
"""As many as `sample` takes, `kMostLayers` in `interface.h`."""

# Blocks of `hidden` numbers per step and sequence: kept for the reverse loop, and coming out of it as gradients of the gates.
SAVED_BLOCKS = {TANH: 0, RELU: 0, GATED: 4, MEMORY: 5}
GRADIENT_BLOCKS = {TANH: 1, RELU: 1, GATED: 4, MEMORY: 4}


class Weights(NamedTuple):
    """A cell's weights as the kernels take them; `bias_candidate` is empty but for a GRU."""

    inputs: Float[Array, "inputs gates"]
    hidden: Float[Array, "hidden gates"]
    bias: Float[Array, " gates"]
    bias_candidate: Float[Array, " hidden"]


class Sequences(NamedTuple):
    """What a layer runs over: xs as int32 `[time, batch]` or floats `[time, batch, inputs]`; empty lengths or mask: none.

    xs and lengths are arrays, or what stands for the gradient of integers.
    """

    xs: Any
    carry: Float[Array, "batch carry"]
    lengths: Any
    mask: Float[Array, "batch hidden"]


def kind_of(cell: AbstractCell) -> int | None:
    """The kernels' number for a cell, or None for one they do not know."""
    return next((kind for kind, combine in enumerate(COMBINES) if combine is cell.combine), None)


def weights_of(cell: AbstractCell) -> Weights:
    """A cell's arrays."""
    candidate = cell.bias_candidate if isinstance(cell, GRU) else jnp.zeros(0, cell.bias.dtype)
    return Weights(cell.weight_inputs, cell.weight_hidden, cell.bias, candidate)


def forward(kind: int, weights: Weights, sequences: Sequences, *, save: bool) -> tuple[Array, Array, Array]:
    """Every h, what `backward` needs again (empty unless `save`), and the last carry."""
    steps, batch = sequences.xs.shape[:2]
    hidden = weights.hidden.shape[0]
    saved = SAVED_BLOCKS[kind] * hidden if save else 0
    shapes = [(steps, batch, hidden), (steps, batch, saved), sequences.carry.shape]
    call = _call("elman_forward", shapes, (1, 1, 0), cell=np.int32(kind))
    return call((sequences.xs, *weights, *sequences[1:]), (1, None, None, None, None, 0, 0, 0))


def backward(
    kind: int, weights: Weights, sequences: Sequences, hiddens: Array, saved: Array, d_hiddens: Array, d_last: Array
) -> tuple[Array, Array]:
    """The reverse loop: gradients of the gates and of the carry."""
    steps, batch, hidden = hiddens.shape
    shapes = [(steps, batch, GRADIENT_BLOCKS[kind] * hidden), sequences.carry.shape]
    call = _call("elman_backward", shapes, (1, 0), cell=np.int32(kind))
    arguments = (weights.hidden, *sequences[1:], hiddens, saved, d_hiddens, d_last)
    return call(arguments, (None, 0, 0, 0, 1, 1, 1, 0))


def weight_gradient(
    kind: int, weights: Weights, sequences: Sequences, hiddens: Array, d_gates: Array
) -> tuple[Array, Array, Array, Array]:
    """The gradients of the four arrays of `Weights`."""
    call = _call("elman_weight_gradient", [array.shape for array in weights], None, cell=np.int32(kind))
    arguments = (sequences.xs, *weights[:2], sequences.carry, sequences.mask, hiddens, d_gates)
    return call(arguments, (None,) * len(arguments))


def input_gradient(kind: int, weights: Weights, xs: Array, d_gates: Array) -> Array:
    """The gradient of dense inputs."""
    return _call("elman_input_gradient", [xs.shape], (1,), cell=np.int32(kind))((weights.inputs, d_gates), (None, 1))[0]


def head_forward(hiddens: Array, weight: Array, bias: Array, targets: Array, *, save: bool) -> tuple[Array, Array]:
    """Minus log softmax(h W + b)[target] of each row, and all probabilities (none unless `save`)."""
    rows = hiddens.shape[0]
    call = _call("elman_head_forward", [(rows,), (rows, weight.shape[1] if save else 0)], (0, 0))
    return call((hiddens, weight, bias, targets), (0, None, None, 0))


def head_backward(
    hiddens: Array, weight: Array, probabilities: Array, targets: Array, d_losses: Array
) -> tuple[Array, Array, Array]:
    """The gradients of hiddens, weight and bias."""
    shapes = [hiddens.shape, weight.shape, weight.shape[1:], probabilities.shape]
    call = _call("elman_head_backward", shapes, None)
    arguments = (hiddens, weight, probabilities, targets, d_losses)
    return call(arguments, (None,) * len(arguments))[:3]


def classic_updates(
    arrays: Sequence[Array],
    count: Array,
    codes: Int[Array, "updates unroll+1"],
    fresh: Array,
    rates: Float[Array, " updates"],
    *,
    mean: bool,
    clip: float,
    epsilon: float,
) -> tuple[list[Array], Array, Array]:
    """`count` updates of one tanh layer with a softmax under clipped Adagrad, in place; their losses and gradient norms.

    arrays: W_x, W_h, b, W_y, b_y, Adagrad's sums of squares of the five, and the state [hidden]; they come back updated.
    """
    shapes = [*(array.shape for array in arrays), rates.shape, rates.shape]
    results = jax.ffi.ffi_call(
        "elman_classic",
        [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes],
        input_output_aliases={4 + index: index for index in range(len(arrays))},
    )(
        count.reshape(1).astype(jnp.int32),
        codes.astype(jnp.int32),
        fresh.astype(jnp.uint8),
        rates.astype(jnp.float32),
        *arrays,
        mean=np.int32(mean),
        clip=np.float32(clip),
        epsilon=np.float32(epsilon),
    )
    return list(results[:-2]), results[-2], results[-1]


def sample(
    cells: Sequence[AbstractCell],
    weight: Array,
    bias: Array,
    carry: Float[Array, "layers carry"],
    symbol: Int[Array, ""],
    uniforms: Float[Array, " time"],
    *,
    sharpness: float,
) -> tuple[Int[Array, " time"], Float[Array, "layers carry"]]:
    """Symbols drawn one after the other by a stack of cells of one kind under a softmax, and the carry behind the last.

    weight, bias: the head's. sharpness: multiplies the logits. At most `MOST_LAYERS` layers.
    """
    kind = kind_of(cells[0])
    assert kind is not None
    arrays = [array for cell in cells for array in weights_of(cell)]
    results = [jax.ShapeDtypeStruct(uniforms.shape, jnp.int32), jax.ShapeDtypeStruct(carry.shape, jnp.float32)]
    call = jax.ffi.ffi_call("elman_sample", results)
    first = symbol.reshape(1).astype(jnp.int32)
    symbols, last = call(
        weight, bias, carry, first, uniforms, *arrays, cell=np.int32(kind), sharpness=np.float32(sharpness)
    )
    return symbols, last


def _call(
    target: str, shapes: Sequence[tuple[int, ...]], axes: tuple[int, ...] | None, **attributes: np.int32
) -> Callable[[tuple[Array, ...], tuple[int | None, ...]], Any]:
    """A call of `target` with results of these shapes, and what becomes of it under `vmap`.

    axes: the batch axis of each result; None: a result sums over the batch, so that no axis can be folded into it. The returned
    function takes the arguments and the batch axis of each (None: it has none).
    """

    status()  # loads the library, if nobody has

    def direct(*arguments: Array) -> tuple[Array, ...]:
        results = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
        return tuple(jax.ffi.ffi_call(target, results, vmap_method="sequential")(*arguments, **attributes))

    def run(arguments: tuple[Array, ...], argument_axes: tuple[int | None, ...]) -> tuple[Array, ...]:
        called = jax.custom_batching.custom_vmap(direct)

        @called.def_vmap
        def rule(size: int, batched: Sequence[bool], *several: Array) -> tuple[tuple[Array, ...], tuple[bool, ...]]:
            weighs = any(has and axis is None for has, axis in zip(batched, argument_axes, strict=True))
            if axes is None or weighs:
                one = jax.custom_batching.sequential_vmap(direct)
                in_axes = tuple(0 if has else None for has in batched)
                return jax.vmap(one, in_axes)(*several), (True,) * len(shapes)
            folded = [
                array if axis is None else _fold(array if has else _repeat(array, size), axis)
                for array, has, axis in zip(several, batched, argument_axes, strict=True)
            ]
            widened = [
                (*shape[:axis], size * shape[axis], *shape[axis + 1 :])
                for shape, axis in zip(shapes, axes, strict=True)
            ]
            results = _call(target, widened, axes, **attributes)(tuple(folded), argument_axes)
            return tuple(_unfold(r, size, axis) for r, axis in zip(results, axes, strict=True)), (True,) * len(shapes)

        return called(*arguments)

    return run


def _repeat(array: Array, size: int) -> Array:
    return jnp.broadcast_to(array, (size, *array.shape))


def _fold(array: Array, axis: int) -> Array:
    """[size, ..., batch, ...] -> [..., size * batch, ...]; what is empty stays so."""
    moved = jnp.moveaxis(array, 0, axis)
    return moved.reshape(*moved.shape[:axis], moved.shape[axis] * moved.shape[axis + 1], *moved.shape[axis + 2 :])


def _unfold(array: Array, size: int, axis: int) -> Array:
    split = array.reshape(*array.shape[:axis], size, array.shape[axis] // size, *array.shape[axis + 1 :])
    return jnp.moveaxis(split, axis, 0)

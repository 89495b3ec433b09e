"""Repeat a cell over time: the whole run is one function g^(T)(x_1, ..., x_T) = f(f(f(h_0, x_1), x_2), ...) with one W.

What need not wait for the previous step is done outside the loop: the input projection is one product before it, the weight
gradient one product after the backward loop (a custom derivative). `_recur` chooses who walks the loop: the compiled kernels
where they can, the scan everywhere else. Both compute the same.

Time is the first axis. `unroll` repeats one cell; stacking is `model.Network`'s.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from elman.network.cells import COMBINES, AbstractCell, Combine
from elman.network.kernels import calls, usable
from elman.network.kernels.calls import Sequences, Weights


def unroll(
    cell: AbstractCell,
    xs: Array,
    carry: Float[Array, "*batch carry"] | None = None,
    *,
    lengths: Int[Array, "*batch"] | None = None,
    recurrent_mask: Float[Array, "*batch hidden"] | None = None,
) -> tuple[Float[Array, "time *batch hidden"], Float[Array, "*batch carry"]]:
    """Run `cell` over a sequence: every h_t, and the carry after the last step.

    xs: floats `[time, *batch, inputs]`, or integers `[time, *batch]` that stand for one-hot vectors.
    carry: the state before the first step; None: zeros.
    lengths: steps that count in each sequence; from there on the state is held, so that the returned carry, and the last row of
        the returned h, are those of each sequence's own last step.
    recurrent_mask: multiplies h on its way into the next step's product, the same at every step (variational dropout, Gal &
        Ghahramani 2016): zeros and 1 / (1 - rate).

    The result is differentiable in reverse mode as often as one likes; forward mode (`jax.jvp`) is not defined on it.

        >>> import jax
        >>> from elman.network.cells import GRU
        >>> cell = GRU.create(3, 4, key=jax.random.key(0))
        >>> ys, carry = unroll(cell, jax.numpy.ones((10, 2, 3)))
        >>> ys.shape, carry.shape
        ((10, 2, 4), (2, 4))
    """
    if carry is None:
        integers = jnp.issubdtype(xs.dtype, jnp.integer)
        carry = cell.initial_carry(*(xs.shape[1:] if integers else xs.shape[1:-1]))
    return _recur(cell, xs, carry, lengths, recurrent_mask)


def length_mask(lengths: Int[Array, "*batch"], steps: int) -> Bool[Array, "time ..."]:
    """True where a step counts: t < length."""
    times = jnp.arange(steps).reshape(steps, *(1 for _ in lengths.shape))
    return times < lengths


def _recur(
    cell: AbstractCell,
    xs: Array,
    carry: Float[Array, "*batch carry"],
    lengths: Int[Array, "*batch"] | None,
    recurrent_mask: Float[Array, "*batch hidden"] | None,
) -> tuple[Float[Array, "time *batch hidden"], Float[Array, "*batch carry"]]:
    """The recurrence behind `unroll`: the kernels take float32 on a CPU where they were compiled, the scan takes the rest."""
    kind = calls.kind_of(cell)
    integers = jnp.issubdtype(xs.dtype, jnp.integer)
    arrays = (cell.weight_inputs, cell.weight_hidden, cell.bias, carry, *(() if integers else (xs,)))
    if kind is not None and xs.size and carry.size and all(usable(array.dtype) for array in arrays):
        return _by_kernel(cell, kind, xs, carry, lengths, recurrent_mask)
    mask = None if lengths is None else length_mask(lengths, xs.shape[0])
    projected = cell.project(xs)
    return _scan(cell.combine, cell.weight_hidden, cell.bias_hidden, projected, carry, mask, recurrent_mask)


# The kernels ------------------------------------------------------------------------------------------------------------------


def _by_kernel(
    cell: AbstractCell,
    kind: int,
    xs: Array,
    carry: Array,
    lengths: Array | None,
    recurrent_mask: Array | None,
) -> tuple[Array, Array]:
    """Any batch axes become one, what is absent becomes empty."""
    steps, batch = xs.shape[0], carry.shape[:-1]
    flat = Sequences(
        xs.reshape(steps, -1).astype(jnp.int32) if xs.ndim == len(batch) + 1 else xs.reshape(steps, -1, xs.shape[-1]),
        carry.reshape(-1, carry.shape[-1]),
        jnp.zeros(0, jnp.int32) if lengths is None else jnp.asarray(lengths).reshape(-1).astype(jnp.int32),
        jnp.zeros(0, carry.dtype)
        if recurrent_mask is None
        else jnp.broadcast_to(recurrent_mask, (*batch, cell.hidden_size)).reshape(-1, cell.hidden_size),
    )
    hiddens, last, _ = _compiled(kind, False, calls.weights_of(cell), flat)
    return hiddens.reshape(steps, *batch, -1), last.reshape(carry.shape)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _compiled(kind: int, save: bool, weights: Weights, sequences: Sequences) -> tuple[Array, Array, Array]:
    """Every h, the last carry, and what the reverse loop needs again, which nobody else may use (empty unless `save`)."""
    hiddens, saved, last = calls.forward(kind, weights, sequences, save=save)
    return hiddens, last, saved


def _compiled_forward(
    kind: int, save: bool, weights: Weights, sequences: Sequences
) -> tuple[tuple[Array, Array, Array], tuple]:
    # Through the same function, so that this can be differentiated in its turn.
    hiddens, last, saved = _compiled(kind, True, weights, sequences)
    return (hiddens, last, saved if save else saved[..., :0]), (weights, sequences, hiddens, saved)


def _compiled_backward(
    kind: int, save: bool, residuals: tuple, cotangents: tuple[Array, Array, Array]
) -> tuple[Weights, Sequences]:
    weights, sequences, hiddens, saved = residuals
    return _compiled_gradient(kind, weights, sequences, cotangents[:2], hiddens, saved)


_compiled.defvjp(_compiled_forward, _compiled_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _compiled_gradient(
    kind: int, weights: Weights, sequences: Sequences, cotangents: tuple[Array, Array], hiddens: Array, saved: Array
) -> tuple[Weights, Sequences]:
    """The gradients of weights and sequences. Each is a call of its own, so that XLA leaves out what nobody asks for."""
    mask = sequences.mask
    d_gates, d_carry = calls.backward(kind, weights, sequences, hiddens, saved, *cotangents)
    d_weights = Weights(*calls.weight_gradient(kind, weights, sequences, hiddens, d_gates))
    d_mask = jnp.zeros_like(mask)
    if mask.size:
        carry_h = sequences.carry[:, : hiddens.shape[-1]]
        previous = jnp.concatenate([carry_h[None], hiddens[:-1]])
        d_mask = ((d_gates[..., : weights.hidden.shape[1]] @ weights.hidden.T) * previous).sum(axis=0)
    dense = sequences.xs.ndim == 3
    d_xs = calls.input_gradient(kind, weights, sequences.xs, d_gates) if dense else _no_gradient(sequences.xs)
    return d_weights, Sequences(d_xs, d_carry, _no_gradient(sequences.lengths), d_mask)


def _compiled_gradient_forward(kind: int, *arguments: Any) -> tuple[tuple[Weights, Sequences], tuple]:
    return _compiled_gradient(kind, *arguments), arguments


def _compiled_gradient_backward(kind: int, arguments: tuple, cotangents: tuple[Weights, Sequences]) -> tuple:
    """The second derivative is the scan's: the gradient is a function of weights, sequences and cotangents alone."""
    weights, sequences, incoming, hiddens, saved = arguments
    floats = sequences if sequences.xs.ndim == 3 else sequences._replace(xs=None)

    def gradient(weights: Weights, floats: Sequences, incoming: tuple[Array, Array]) -> tuple:
        def run(weights: Weights, floats: Sequences) -> tuple[Array, Array]:
            xs = sequences.xs if floats.xs is None else floats.xs
            return _by_scan(kind, weights, Sequences(xs, floats.carry, sequences.lengths, floats.mask))

        _, pull_back = jax.vjp(run, weights, floats._replace(lengths=None))
        return pull_back(incoming)

    d_weights, d_sequences = cotangents
    outgoing = (d_weights, d_sequences._replace(lengths=None, xs=None if floats.xs is None else d_sequences.xs))
    _, pull_back = jax.vjp(gradient, weights, floats._replace(lengths=None), incoming)
    d_weights, d_sequences, d_incoming = pull_back(outgoing)
    d_xs = _no_gradient(sequences.xs) if d_sequences.xs is None else d_sequences.xs
    d_sequences = d_sequences._replace(xs=d_xs, lengths=_no_gradient(sequences.lengths))
    return d_weights, d_sequences, d_incoming, jnp.zeros_like(hiddens), jnp.zeros_like(saved)


_compiled_gradient.defvjp(_compiled_gradient_forward, _compiled_gradient_backward)


def _by_scan(kind: int, weights: Weights, sequences: Sequences) -> tuple[Array, Array]:
    """What `_compiled` computes, by the scan."""
    xs, carry, lengths, recurrent_mask = sequences
    rows = weights.inputs[xs] if xs.ndim == 2 else xs @ weights.inputs
    bias_hidden = None
    if weights.bias_candidate.size:
        zeros = jnp.zeros(2 * weights.hidden.shape[0], weights.bias.dtype)
        bias_hidden = jnp.concatenate([zeros, weights.bias_candidate])
    mask = length_mask(lengths, xs.shape[0]) if lengths is not None and lengths.size else None
    return _scan(
        COMBINES[kind],
        weights.hidden,
        bias_hidden,
        rows + weights.bias,
        carry,
        mask,
        recurrent_mask if recurrent_mask.size else None,
    )


def _no_gradient(integers: Array) -> Any:
    return np.zeros(integers.shape, jax.dtypes.float0)


# The scan ---------------------------------------------------------------------------------------------------------------------


def _masked_step(combine: Combine, projected: Array, recurrent: Array, carry: Array, mask: Array | None) -> Array:
    stepped = combine(projected, recurrent, carry)
    return stepped if mask is None else jnp.where(mask[..., None], stepped, carry)


def _recurrent_part(
    weight_hidden: Array, bias_hidden: Array | None, recurrent_mask: Array | None, carry: Array
) -> Float[Array, "*batch gates"]:
    hidden = carry[..., : weight_hidden.shape[0]]
    if recurrent_mask is not None:
        hidden = hidden * recurrent_mask
    recurrent = hidden @ weight_hidden
    return recurrent if bias_hidden is None else recurrent + bias_hidden


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _scan(
    combine: Combine,
    weight_hidden: Array,
    bias_hidden: Array | None,
    projected: Array,
    carry: Array,
    mask: Array | None,
    recurrent_mask: Array | None,
) -> tuple[Array, Array]:
    def step(carry: Array, inputs: tuple[Array, Array | None]) -> tuple[Array, Array]:
        recurrent = _recurrent_part(weight_hidden, bias_hidden, recurrent_mask, carry)
        carry = _masked_step(combine, inputs[0], recurrent, carry, inputs[1])
        return carry, carry[..., : weight_hidden.shape[0]]

    last, hiddens = lax.scan(step, carry, (projected, mask))
    return hiddens, last


def _scan_forward(
    combine: Combine,
    weight_hidden: Array,
    bias_hidden: Array | None,
    projected: Array,
    carry: Array,
    mask: Array | None,
    recurrent_mask: Array | None,
) -> tuple[tuple[Array, Array], tuple]:
    def step(carry: Array, inputs: tuple[Array, Array | None]) -> tuple[Array, tuple[Array, Array]]:
        recurrent = _recurrent_part(weight_hidden, bias_hidden, recurrent_mask, carry)
        carry = _masked_step(combine, inputs[0], recurrent, carry, inputs[1])
        return carry, (carry, recurrent)

    last, (carries, recurrents) = lax.scan(step, carry, (projected, mask))
    saved = (weight_hidden, bias_hidden, projected, carry, mask, recurrent_mask, carries, recurrents)
    return (carries[..., : weight_hidden.shape[0]], last), saved


def _scan_backward(combine: Combine, saved: tuple, cotangents: tuple[Array, Array]) -> tuple:
    """Gradients flow back through the states in the loop; the weights' gradients are one product over all steps after it."""
    weight_hidden, bias_hidden, projected, carry, mask, recurrent_mask, carries, recurrents = saved
    d_hiddens, d_last = cotangents
    hidden = weight_hidden.shape[0]
    previous = jnp.concatenate([carry[None], carries[:-1]])
    transposed = weight_hidden.T

    def step(d_carry: Array, inputs: tuple) -> tuple[Array, tuple[Array, Array]]:
        projected_t, recurrent_t, previous_t, mask_t, d_hidden_t = inputs
        d_carry = _add_to_hidden(d_carry, d_hidden_t)
        _, pull_back = jax.vjp(
            lambda p, r, c: _masked_step(combine, p, r, c, mask_t), projected_t, recurrent_t, previous_t
        )
        d_projected, d_recurrent, d_previous = pull_back(d_carry)
        d_hidden = d_recurrent @ transposed
        if recurrent_mask is not None:
            d_hidden = d_hidden * recurrent_mask
        return _add_to_hidden(d_previous, d_hidden), (d_projected, d_recurrent)

    inputs = (projected, recurrents, previous, mask, d_hiddens)
    d_first, (d_projected, d_recurrents) = lax.scan(step, d_last, inputs, reverse=True)

    previous_hidden = previous[..., :hidden]
    masked_hidden = previous_hidden if recurrent_mask is None else previous_hidden * recurrent_mask
    rows = d_recurrents.reshape(-1, d_recurrents.shape[-1])
    d_weight = masked_hidden.reshape(-1, hidden).T @ rows
    d_bias = None if bias_hidden is None else rows.sum(axis=0)
    d_recurrent_mask = None
    if recurrent_mask is not None:
        d_recurrent_mask = ((d_recurrents @ transposed) * previous_hidden).sum(axis=0)
    return d_weight, d_bias, d_projected, d_first, None, d_recurrent_mask


_scan.defvjp(_scan_forward, _scan_backward)


def _add_to_hidden(carry: Array, hidden: Array) -> Array:
    """Add `hidden` to the h part of a packed carry."""
    if carry.shape == hidden.shape:
        return carry + hidden
    width = hidden.shape[-1]
    return jnp.concatenate([carry[..., :width] + hidden, carry[..., width:]], axis=-1)

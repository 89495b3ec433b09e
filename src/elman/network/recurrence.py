"""Repeat a cell over time: the whole run is one function g^(T)(x_1, ..., x_T) = f(f(f(h_0, x_1), x_2), ...) with one W.

What need not wait for the previous step is done outside the loop: the input projection is one product before it, the weight
gradient one product after the backward loop (a custom derivative). Only `_recur` holds a loop, so a compiled kernel can take
its place behind that one function.

Time is the first axis. `unroll` repeats one cell; stacking is `model.Network`'s.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from elman.network.cells import AbstractCell, Combine


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
    projected = cell.project(xs)
    if carry is None:
        carry = cell.initial_carry(*projected.shape[1:-1])
    mask = None if lengths is None else length_mask(lengths, projected.shape[0])
    return _recur(cell.combine, cell.weight_hidden, cell.bias_hidden, projected, carry, mask, recurrent_mask)


def length_mask(lengths: Int[Array, "*batch"], steps: int) -> Bool[Array, "time ..."]:
    """True where a step counts: t < length."""
    times = jnp.arange(steps).reshape(steps, *(1 for _ in lengths.shape))
    return times < lengths


def _recur(
    combine: Combine,
    weight_hidden: Float[Array, "hidden gates"],
    bias_hidden: Float[Array, " gates"] | None,
    projected: Float[Array, "time *batch gates"],
    carry: Float[Array, "*batch carry"],
    mask: Bool[Array, "time ..."] | None,
    recurrent_mask: Float[Array, "*batch hidden"] | None,
) -> tuple[Float[Array, "time *batch hidden"], Float[Array, "*batch carry"]]:
    """The recurrence behind `unroll`: here a choice of kernel belongs. Today there is one, the scan."""
    return _scan(combine, weight_hidden, bias_hidden, projected, carry, mask, recurrent_mask)


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

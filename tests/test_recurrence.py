"""The recurrence: what `unroll` computes and its derivative, for every cell."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from contract import (
    CASES,
    HIDDEN,
    INPUTS,
    TOLERANCE,
    Case,
    assert_close,
    assert_trees_close,
    loop_of_steps,
    numpy_unroll,
)
from elman.network import AbstractCell, length_mask, unroll

STEPS, BATCH = 4, 3
LENGTHS = np.array([3, 4, 0], np.int32)

every_cell = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)

# Which of the optional arguments are given.
every_way = pytest.mark.parametrize("way", ["plain", "lengths", "recurrent mask", "both"])

run = jax.jit(unroll)


def arguments(case: Case, dtype: str, seed: int = 0) -> tuple[AbstractCell, np.ndarray, np.ndarray]:
    """A cell, a batch of sequences and a state to begin with, all drawn."""
    cell = case.random(dtype, seed=seed)
    generator = np.random.default_rng(seed + 1)
    xs = generator.standard_normal((STEPS, BATCH, INPUTS)).astype(dtype)
    return cell, xs, generator.standard_normal((BATCH, cell.carry_size)).astype(dtype)


def extras(way: str, dtype: str) -> dict[str, Any]:
    """The optional arguments of `unroll`."""
    mask = 2.0 * (np.random.default_rng(5).random((BATCH, HIDDEN)) < 0.5)
    assert 0 < mask.sum() < mask.size * 2
    return {
        "lengths": LENGTHS if way in ("lengths", "both") else None,
        "recurrent_mask": mask.astype(dtype) if way in ("recurrent mask", "both") else None,
    }


# Values ----------------------------------------------------------------------------------------------------------------------


@every_cell
@every_way
def test_unroll_equals_a_plain_numpy_loop(case: Case, way: str, enable_x64: None) -> None:
    check_against_the_loop(case, way, "float64")


@every_cell
def test_unroll_equals_a_plain_numpy_loop_in_float32(case: Case) -> None:
    check_against_the_loop(case, "both", "float32")


def check_against_the_loop(case: Case, way: str, dtype: str) -> None:
    cell, xs, carry = arguments(case, dtype)
    ys, last = run(cell, xs, carry, **extras(way, dtype))
    expected_ys, expected_last = numpy_unroll(case, cell, xs, carry, **extras(way, dtype))
    # Four steps: an error of one step is carried through the next.
    assert_close(ys, expected_ys, 3 * TOLERANCE[dtype], "ys")
    assert_close(last, expected_last, 3 * TOLERANCE[dtype], "last carry")
    assert ys.dtype == last.dtype == jnp.dtype(dtype)


@every_cell
def test_the_nested_form_the_loop_and_unroll_agree(case: Case, enable_x64: None) -> None:
    cell, xs, h0 = arguments(case, "float64")

    def f(h: jax.Array, x: jax.Array) -> jax.Array:
        return cell.step(x, h)

    x1, x2, x3 = xs[:3]
    h3 = f(f(f(h0, x1), x2), x3)
    carry, hiddens = jnp.asarray(h0), []
    for x in xs[:3]:
        h, carry = cell(x, carry)
        hiddens.append(h)
    ys, last = run(cell, xs[:3], h0)
    assert_close(carry, h3, 0, "loop")
    assert_close(last, h3, 1e-14, "unroll")
    assert_close(ys, jnp.stack(hiddens), 1e-14, "every h")
    assert_close(ys[-1], cell.output(h3), 1e-14, "last h")


@every_cell
def test_without_a_carry_it_begins_at_zero(case: Case) -> None:
    cell, xs, _ = arguments(case, "float32")
    np.testing.assert_array_equal(run(cell, xs)[0], run(cell, xs, cell.initial_carry(BATCH))[0])


@every_cell
def test_two_halves_with_the_carry_handed_over_equal_one_run(case: Case, dtype: str) -> None:
    cell, xs, carry = arguments(case, dtype)
    ys, last = run(cell, xs, carry)
    first, between = run(cell, xs[:2], carry)
    second, end = run(cell, xs[2:], between)
    # Not bit for bit: the input projection of four steps is another product than that of two.
    assert_close(np.concatenate([first, second]), ys, TOLERANCE[dtype], "ys")
    assert_close(end, last, TOLERANCE[dtype], "last carry")


@every_cell
def test_the_order_of_a_batch_does_not_matter(case: Case, dtype: str) -> None:
    cell, xs, carry = arguments(case, dtype)
    ys, last = run(cell, xs, carry, lengths=LENGTHS)
    order = np.array([2, 0, 1])
    mixed_ys, mixed_last = run(cell, xs[:, order], carry[order], lengths=LENGTHS[order])
    assert_close(mixed_ys, ys[:, order], TOLERANCE[dtype], "ys")
    assert_close(mixed_last, last[order], TOLERANCE[dtype], "last carry")


@every_cell
def test_a_padded_batch_equals_each_sequence_alone(case: Case, enable_x64: None) -> None:
    cell, xs, carry = arguments(case, "float64")
    padded = np.where(length_mask(LENGTHS, STEPS)[..., None], xs, 1e6)
    ys, last = run(cell, padded, carry, lengths=LENGTHS)
    for b, length in enumerate(LENGTHS):
        if length == 0:
            assert_close(last[b], carry[b], 0, "an empty sequence leaves the state alone")
            continue
        alone, end = numpy_unroll(case, cell, xs[:length, b : b + 1], carry[b : b + 1])
        assert_close(ys[:length, b], alone[:, 0], 1e-12, f"sequence {b}")
        assert_close(last[b], end[0], 1e-12, f"carry of sequence {b}")
        assert_close(ys[length:, b], np.broadcast_to(alone[-1], ys[length:, b].shape), 1e-12, "behind the end")


def test_a_length_mask_is_true_where_a_step_counts() -> None:
    expected = [
        [True, True, False],
        [True, True, False],
        [True, True, False],
        [True, True, False],
        [False, True, False],
    ]
    assert length_mask(jnp.array([4, 9, 0]), 5).tolist() == expected
    assert length_mask(jnp.array(2), 3).tolist() == [True, True, False]


@every_cell
def test_one_sequence_needs_no_batch_axis(case: Case) -> None:
    cell, xs, carry = arguments(case, "float32")
    alone, end = run(cell, xs[:, 0], carry[0])
    together, last = run(cell, xs, carry)
    assert_close(alone, together[:, 0], TOLERANCE["float32"])
    assert_close(end, last[0], TOLERANCE["float32"])


@every_cell
def test_several_batch_axes_are_one_flattened(case: Case) -> None:
    cell = case.random("float32")
    xs = np.random.default_rng(0).standard_normal((STEPS, 2, 3, INPUTS)).astype(np.float32)
    lengths = np.array([[1, 4, 2], [3, 0, 4]], np.int32)
    ys, last = run(cell, xs, lengths=lengths)
    flat, flat_last = run(cell, xs.reshape(STEPS, 6, INPUTS), lengths=lengths.ravel())
    assert_close(ys.reshape(flat.shape), flat, TOLERANCE["float32"])
    assert_close(last.reshape(flat_last.shape), flat_last, TOLERANCE["float32"])


# Derivatives -----------------------------------------------------------------------------------------------------------------


def loss_by(unrolled: Callable, way: str) -> Callable[..., jax.Array]:
    """A scalar in which every h and every part of the last carry counts differently."""

    def loss(cell: AbstractCell, xs: jax.Array, carry: jax.Array, recurrent_mask: jax.Array | None) -> jax.Array:
        ys, last = unrolled(cell, xs, carry, lengths=extras(way, "float64")["lengths"], recurrent_mask=recurrent_mask)
        y_weights = jnp.cos(jnp.arange(ys.size, dtype=ys.dtype)).reshape(ys.shape)
        return (y_weights * ys**2).sum() + (
            jnp.sin(jnp.arange(last.size, dtype=ys.dtype)).reshape(last.shape) * last
        ).sum()

    return loss


@every_cell
@every_way
def test_the_gradient_equals_a_numerical_one(case: Case, way: str, enable_x64: None) -> None:
    values = (*arguments(case, "float64", seed=2), extras(way, "float64")["recurrent_mask"])
    gradient = jax.jit(jax.grad(loss_by(unroll, way), argnums=(0, 1, 2, 3)))(*values)
    flat, unravel = ravel_pytree(values)
    step = 1e-5
    moves = step * np.eye(flat.size)
    moved_loss = jax.jit(jax.vmap(lambda moved: loss_by(unroll, way)(*unravel(moved))))
    numerical = (moved_loss(flat + moves) - moved_loss(flat - moves)) / (2 * step)
    # Central differences: truncation of order step² = 1e-10 times a third derivative, rounding of 1e-16 · 30 / step.
    assert_close(ravel_pytree(gradient)[0], numerical, 1e-7)


@every_cell
def test_the_gradient_equals_that_of_a_python_loop(case: Case, enable_x64: None) -> None:
    values = (*arguments(case, "float64", seed=2), extras("both", "float64")["recurrent_mask"])
    gradients = [
        jax.jit(jax.grad(loss_by(unrolled, "both"), argnums=(0, 1, 2, 3)))(*values)
        for unrolled in (unroll, loop_of_steps)
    ]
    # Two orders of the same sums.
    assert_trees_close(*gradients, 1e-12)


@every_cell
def test_the_gradient_of_the_gradient_equals_a_numerical_one(case: Case, enable_x64: None) -> None:
    values = (*arguments(case, "float64", seed=2), extras("both", "float64")["recurrent_mask"])
    flat, unravel = ravel_pytree(values)
    direction = np.random.default_rng(7).standard_normal(flat.size)
    first = jax.grad(lambda moved: loss_by(unroll, "both")(*unravel(moved)))
    second = jax.jit(jax.grad(lambda moved: first(moved) @ direction))(flat)
    step = 1e-5
    forward, backward = jax.jit(jax.vmap(first))(jnp.stack([flat + step * direction, flat - step * direction]))
    # As above; the direction is 10 long, which multiplies the truncation by 1000.
    assert_close(second, (forward - backward) / (2 * step), 1e-5)


@every_cell
def test_what_lies_behind_the_end_of_a_sequence_has_no_gradient(case: Case) -> None:
    cell, xs, carry = arguments(case, "float32")
    gradient = jax.jit(jax.grad(loss_by(unroll, "lengths"), argnums=1))(cell, xs, carry, None)
    counts = np.asarray(length_mask(LENGTHS, STEPS))
    assert not np.asarray(gradient)[~counts].any()
    assert np.abs(gradient)[counts].max(axis=-1).min() > 0 or case.name == "elman-relu"


@every_cell
def test_integers_and_one_hot_vectors_have_the_same_values_and_gradients(case: Case, enable_x64: None) -> None:
    cell, _, carry = arguments(case, "float64")
    symbols = np.random.default_rng(3).integers(INPUTS, size=(STEPS, BATCH)).astype(np.int32)
    of = jax.jit(jax.value_and_grad(loss_by(unroll, "lengths"), argnums=(0, 2)))
    by_integers = of(cell, symbols, carry, None)
    by_vectors = of(cell, np.eye(INPUTS)[symbols], carry, None)
    assert_trees_close(by_integers, by_vectors, 1e-13)


def test_forward_mode_is_refused() -> None:
    cell, xs, carry = arguments(CASES[0], "float32")
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(lambda xs: unroll(cell, xs, carry)[0], (xs,), (xs,))


# Under JAX's transformations ---------------------------------------------------------------------------------------------------


@every_cell
def test_a_second_call_compiles_nothing(case: Case) -> None:
    traced = []

    @jax.jit
    def gradient(cell: AbstractCell, xs: jax.Array, carry: jax.Array, lengths: jax.Array) -> AbstractCell:
        traced.append(1)
        return jax.grad(lambda c: unroll(c, xs, carry, lengths=lengths)[0].sum())(cell)

    for seed in range(3):
        gradient(*arguments(case, "float32", seed=seed), LENGTHS - seed)
    assert len(traced) == 1


@every_cell
def test_compiled_and_not_compiled_agree(case: Case) -> None:
    cell, xs, carry = arguments(case, "float32")
    assert_trees_close(unroll(cell, xs, carry), run(cell, xs, carry), TOLERANCE["float32"])


@every_cell
def test_vmap_over_sequences_equals_a_batch(case: Case) -> None:
    cell, xs, carry = arguments(case, "float32")
    over = jax.jit(jax.vmap(functools.partial(unroll, cell), in_axes=(1, 0), out_axes=(1, 0)))
    assert_trees_close(over(xs, carry), run(cell, xs, carry), TOLERANCE["float32"])


@every_cell
def test_vmap_over_weights_equals_each_cell_alone(case: Case) -> None:
    _, xs, carry = arguments(case, "float32")
    cells = [case.random("float32", seed=seed) for seed in range(3)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *cells)

    together = jax.jit(jax.vmap(lambda cell: unroll(cell, xs, carry)))(stacked)
    alone = jax.tree.map(lambda *leaves: jnp.stack(leaves), *[run(cell, xs, carry) for cell in cells])
    assert_trees_close(together, alone, TOLERANCE["float32"])

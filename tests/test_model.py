"""The stacked network: equal to its layers composed by hand, dropout, many to one, and shapes that are refused."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contract import CASES, TOLERANCE, Case, assert_close, numpy_unroll, randomized
from elman.config import NetworkSettings
from elman.errors import BundleError, DataError
from elman.network import Network, to_arrays, with_arrays

STEPS, BATCH, INPUTS, HIDDEN, OUTPUTS = 5, 3, 4, 6, 7
LENGTHS = np.array([2, 5, 1], np.int32)

run = jax.jit(lambda network, xs, carry=None, lengths=None, key=None: network(xs, carry, lengths=lengths, key=key))
run_last = jax.jit(lambda network, xs, lengths=None: network.last(xs, lengths=lengths))


def make(dtype: str = "float32", **settings: Any) -> Network:
    """A network in which every number is drawn."""
    settings = {"hidden": HIDDEN, **settings}
    created = jax.eval_shape(
        lambda: Network.create(NetworkSettings(**settings), INPUTS, OUTPUTS, key=jax.random.key(0), dtype=dtype)
    )
    return randomized(created, seed=1)


def inputs(dtype: str = "float32") -> np.ndarray:
    return np.random.default_rng(2).standard_normal((STEPS, BATCH, INPUTS)).astype(dtype)


def composed(
    case: Case, network: Network, xs: np.ndarray, carry: np.ndarray, lengths: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The network by hand: a NumPy loop per layer, the layer's own output normalized, then its input added."""
    hidden, lasts = xs.astype(np.float64), []
    for layer, cell in enumerate(network.cells):
        below = hidden
        hidden, last = numpy_unroll(case, cell, below, carry[layer], lengths)
        lasts.append(last)
        if network.normalizations is not None:
            norm = network.normalizations[layer]
            mean, variance = hidden.mean(axis=-1, keepdims=True), hidden.var(axis=-1, keepdims=True)
            hidden = (hidden - mean) / np.sqrt(variance + 1e-5) * np.asarray(norm.scale) + np.asarray(norm.shift)
        if network.residual and layer > 0:
            hidden = hidden + below
    return hidden, np.stack(lasts)


STACKS = [
    *({"layers": layers} for layers in (1, 2, 3)),
    {"layers": 3, "residual": True},
    {"layers": 2, "layer_norm": True},
    {"layers": 2, "layer_norm": True, "residual": True},
]


@pytest.mark.parametrize("stack", STACKS, ids=lambda stack: "+".join(f"{k}={v}" for k, v in stack.items()))
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_stack_equals_its_layers_composed_by_hand(case: Case, stack: dict, enable_x64: None) -> None:
    name = {kind.kind: text for kind, text in zip(CASES, ("elman", "elman", "gru", "lstm"), strict=True)}[case.kind]
    network = make("float64", cell=name, **dict(case.options), **stack)
    carry = np.random.default_rng(3).standard_normal(network.initial_carry(BATCH).shape)
    hidden, last = run(network, inputs("float64"), carry, LENGTHS)
    expected, expected_last = composed(case, network, inputs("float64"), carry, LENGTHS)
    # Three layers of five steps; layer norm divides by spreads below 1.
    assert_close(hidden, expected, 100 * TOLERANCE["float64"], "hidden")
    assert_close(last, expected_last, 100 * TOLERANCE["float64"], "carry")


def test_without_a_carry_a_network_begins_at_zero_and_two_halves_equal_one_run() -> None:
    network, xs = make(layers=2, cell="lstm", residual=True), inputs()
    hidden, last = run(network, xs)
    assert not network.initial_carry(BATCH).any()
    assert network.initial_carry(BATCH).shape == (2, BATCH, 2 * HIDDEN)
    assert_close(run(network, xs, network.initial_carry(BATCH))[0], hidden, 0)
    first, between = run(network, xs[:2])
    second, end = run(network, xs[2:], between)
    assert_close(np.concatenate([first, second]), hidden, TOLERANCE["float32"])
    assert_close(end, last, TOLERANCE["float32"])


def test_many_to_one_gives_the_last_state_of_each_sequence_of_its_own_length() -> None:
    network, xs = make(layers=2, residual=True, layer_norm=True), inputs()
    together = run_last(network, xs, LENGTHS)
    for b, length in enumerate(LENGTHS):
        alone = network.head(run(network, xs[:length, b : b + 1])[0][-1])
        assert_close(together[b], alone[0], 3 * TOLERANCE["float32"], f"sequence {b}")
    hidden, _ = run(network, xs)
    assert_close(run_last(network, xs), network.head(hidden)[-1], TOLERANCE["float32"], "no lengths")
    assert together.shape == (BATCH, OUTPUTS)


def test_integers_stand_for_one_hot_vectors() -> None:
    network = make(layers=2)
    symbols = np.random.default_rng(0).integers(INPUTS, size=(STEPS, BATCH)).astype(np.int32)
    by_vectors, _ = run(network, np.eye(INPUTS, dtype=np.float32)[symbols])
    assert_close(run(network, symbols)[0], by_vectors, TOLERANCE["float32"])


@pytest.mark.parametrize("cell", ["elman", "gru", "lstm"])
def test_the_number_of_parameters_is_that_of_the_parts(cell: str) -> None:
    network = make(cell=cell, layers=3, layer_norm=True)
    case = {"elman": CASES[0], "gru": CASES[2], "lstm": CASES[3]}[cell]
    layers = case.parameters(INPUTS, HIDDEN) + 2 * case.parameters(HIDDEN, HIDDEN)
    assert network.parameter_count == layers + 3 * 2 * HIDDEN + OUTPUTS * (HIDDEN + 1)
    assert network.parameter_count == sum(array.size for array in to_arrays(network).values())


def test_layers_start_with_different_weights_and_layer_norm_with_none() -> None:
    network = Network.create(NetworkSettings(hidden=8, layers=2, layer_norm=True), 8, 8, key=jax.random.key(0))
    first, second = network.cells
    assert np.abs(first.weight_hidden - second.weight_hidden).max() > 0.1
    assert np.abs(first.weight_inputs - second.weight_inputs).max() > 0.1
    assert network.normalizations is not None
    assert all((norm.scale == 1).all() and (norm.shift == 0).all() for norm in network.normalizations)


# Dropout ---------------------------------------------------------------------------------------------------------------------


def test_dropout_is_off_without_a_key() -> None:
    network, plain = make(dropout=0.5, recurrent_dropout=0.5, layers=2), make(layers=2)
    np.testing.assert_array_equal(run(network, inputs())[0], run(plain, inputs())[0])


def test_dropout_is_a_function_of_the_key() -> None:
    network = make(dropout=0.5, recurrent_dropout=0.5, layers=2)
    first, again, other = (run(network, inputs(), None, None, jax.random.key(seed))[0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.01


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.95])
def test_dropout_drops_its_share_and_keeps_the_mean(rate: float) -> None:
    network = make(dropout=rate)
    xs = np.random.default_rng(0).standard_normal((50, 40, INPUTS)).astype(np.float32)
    ratio = np.asarray(run(network, xs, None, None, jax.random.key(3))[0] / run(network, xs)[0])
    np.testing.assert_allclose(ratio[ratio != 0], 1 / (1 - rate), rtol=1e-6)
    # 12,000 places: within five standard errors of the share.
    error = 5 * np.sqrt(rate * (1 - rate) / ratio.size)
    assert abs((ratio == 0).mean() - rate) < error
    assert abs(ratio.mean() - 1) < error / (1 - rate)
    # Every step and every sequence has its own: no two rows of 2,000 places agree.
    assert len({row.tobytes() for row in (ratio == 0).reshape(50, -1)}) == 50
    assert len({row.tobytes() for row in (ratio == 0).swapaxes(0, 1).reshape(40, -1)}) == 40


def test_the_recurrent_mask_is_the_same_at_every_step_and_another_for_each_sequence() -> None:
    hidden, sequences = 200, 20
    network = make(cell="elman", activation="relu", hidden=hidden, recurrent_dropout=0.5)
    arrays = {name: np.zeros_like(array) for name, array in to_arrays(network).items()}
    arrays["cells.0.weight_hidden"] = np.eye(hidden, dtype=np.float32)
    network = with_arrays(network, arrays, "the test")
    # The state is only ever multiplied by the mask, which is 0 or 2: after t steps it is 2^t where it was kept, and it is kept
    # always or never.
    xs = np.zeros((8, sequences, INPUTS), np.float32)
    carry = np.ones((1, sequences, hidden), np.float32)
    states = np.asarray(run(network, xs, carry, None, jax.random.key(0))[0])
    kept = states[0] > 0
    for step, state in enumerate(states, 1):
        np.testing.assert_array_equal(state, np.where(kept, 2.0**step, 0))
    assert abs(kept.mean() - 0.5) < 5 * 0.5 / np.sqrt(kept.size)
    assert len({row.tobytes() for row in kept}) == sequences
    other = np.asarray(run(network, xs, carry, None, jax.random.key(1))[0])
    assert (other[0] != states[0]).any()


def test_layers_have_masks_of_their_own() -> None:
    network = make(dropout=0.5, layers=2, residual=True, layer_norm=True)
    arrays = to_arrays(network)
    for layer in range(2):
        # Layer norm's scale at 0 makes every layer hand up its shift, 1, whatever its state.
        arrays[f"normalizations.{layer}.scale"] = np.zeros(HIDDEN, np.float32)
        arrays[f"normalizations.{layer}.shift"] = np.ones(HIDDEN, np.float32)
    network = with_arrays(network, arrays, "the test")
    total = np.asarray(run(network, inputs(), None, None, jax.random.key(0))[0])
    # 0, 2 or 4: dropped in both, in one, in none. One mask for both layers would never give 2.
    assert set(np.unique(total)) == {0, 2, 4}


# Shapes that do not fit ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("xs", "carry", "lengths", "named"),
    [
        ((5, 3, 9), None, None, ["(5, 3, 9)", "[time, batch, 4]"]),
        ((5,), None, None, ["(5,)", "[time, batch, 4]"]),
        ((0, 3, 4), None, None, ["(0, 3, 4)", "at least one"]),
        ((5, 3, 4), (1, 2, 6), None, ["(1, 2, 6)", "(5, 3, 4)", "(1, 3, 6)"]),
        ((5, 3, 4), (3, 6), None, ["(3, 6)", "(1, 3, 6)"]),
        ((5, 3, 4), (1, 3, 12), None, ["(1, 3, 12)", "(1, 3, 6)"]),
        ((5, 3, 4), None, (2,), ["(2,)", "(3,)"]),
        ((5, 4), None, (1,), ["(1,)", "()"]),
    ],
)
def test_a_shape_that_does_not_fit_is_refused_with_both_shapes(
    xs: tuple, carry: tuple | None, lengths: tuple | None, named: list[str]
) -> None:
    network = make()
    with pytest.raises(DataError) as caught:
        network(
            jnp.zeros(xs),
            None if carry is None else jnp.zeros(carry),
            lengths=None if lengths is None else jnp.ones(lengths, jnp.int32),
        )
    for text in named:
        assert text in str(caught.value)


@pytest.mark.parametrize("xs", [(), (0,), (0, 3)])
def test_symbols_without_steps_are_refused(xs: tuple) -> None:
    with pytest.raises(DataError, match="have no steps"):
        make()(jnp.zeros(xs, jnp.int32))


def test_a_network_without_a_size_is_refused() -> None:
    with pytest.raises(DataError, match="hidden has no value"):
        Network.create(NetworkSettings(), 3, 3, key=jax.random.key(0))


# Arrays by name --------------------------------------------------------------------------------------------------------------


def test_arrays_go_out_and_come_back() -> None:
    network = make(cell="lstm", layers=2, layer_norm=True, residual=True, dropout=0.1)
    arrays = to_arrays(network)
    assert {"cells.0.weight_inputs", "cells.1.bias", "normalizations.1.scale", "head.weight"} <= set(arrays)
    blank = jax.tree.map(jnp.zeros_like, network)
    back = with_arrays(blank, arrays, "a file")
    assert jax.tree.structure(back) == jax.tree.structure(network)
    for name, array in to_arrays(back).items():
        np.testing.assert_array_equal(array, arrays[name])
    assert not any(array.any() for array in to_arrays(blank).values()), "the tree given was written to"


def test_arrays_put_in_are_copies() -> None:
    network = make()
    arrays = {name: array.copy() for name, array in to_arrays(network).items()}
    back = with_arrays(network, arrays, "a file")
    arrays["head.bias"][:] = 99
    assert not (np.asarray(back.head.bias) == 99).any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"head.bias": None}, "a file does not fit its own settings: it lacks the array 'head.bias'"),
        ({"stray": np.zeros(2)}, "it holds the array 'stray'"),
        ({"head.bias": np.zeros(8, np.float32)}, r"'head.bias' is float32 \(8,\), not float32 \(7,\)"),
        ({"head.bias": np.zeros(7, np.float64)}, r"'head.bias' is float64 \(7,\), not float32 \(7,\)"),
    ],
)
def test_arrays_that_do_not_fit_are_refused_by_name(change: dict, message: str) -> None:
    network = make()
    arrays = {name: array for name, array in {**to_arrays(network), **change}.items() if array is not None}
    with pytest.raises(BundleError, match=message):
        with_arrays(network, arrays, "a file")

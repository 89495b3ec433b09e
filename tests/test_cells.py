"""One step of every cell: its equations, what other libraries compute, its starting values, and the tanh it is built on."""

import importlib.util
import math
from pathlib import Path
from types import ModuleType

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contract import CASES, HIDDEN, INPUTS, TOLERANCE, Case, assert_close, assert_trees_close
from elman.network import CELLS, GRU, LSTM, AbstractCell, Elman, to_arrays, unroll
from elman.network.cells import sigmoid, tanh

REFERENCES = Path(__file__).with_name("references")

# Compiled once per shape: op by op, each of their many operations would be compiled by itself.
step = jax.jit(lambda cell, x, carry: cell.step(x, carry))

every_cell = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def test_every_cell_that_can_be_chosen_is_in_the_table() -> None:
    assert {case.kind for case in CASES} == set(CELLS.values())


@every_cell
def test_a_step_equals_the_equations(case: Case, dtype: str) -> None:
    cell = case.random(dtype)
    generator = np.random.default_rng(1)
    x = generator.standard_normal((7, INPUTS)).astype(dtype)
    carry = generator.standard_normal((7, cell.carry_size)).astype(dtype)
    weights = {name: array.astype(np.float64) for name, array in to_arrays(cell).items()}
    expected = case.step(weights, x.astype(np.float64), carry.astype(np.float64))
    assert_close(step(cell, x, carry), expected, TOLERANCE[dtype])


@every_cell
def test_calling_a_cell_gives_h_and_the_carry(case: Case) -> None:
    cell = case.random("float32")
    x, carry = jnp.ones((2, INPUTS)), jnp.full((2, cell.carry_size), 0.5)
    h, after = jax.jit(lambda cell, x, carry: cell(x, carry))(cell, x, carry)
    np.testing.assert_array_equal(after, step(cell, x, carry))
    np.testing.assert_array_equal(h, after[:, :HIDDEN])


@every_cell
def test_a_step_keeps_dtype_and_shape_of_the_carry(case: Case, dtype: str) -> None:
    cell = case.random(dtype)
    for batch in [(), (4,), (2, 3)]:
        carry = cell.initial_carry(*batch)
        after = jax.eval_shape(cell.step, jnp.ones((*batch, INPUTS), dtype), carry)
        assert (after.shape, after.dtype) == (carry.shape, carry.dtype) == ((*batch, cell.carry_size), jnp.dtype(dtype))
        assert not carry.any()


@every_cell
def test_integers_stand_for_one_hot_vectors(case: Case, dtype: str) -> None:
    cell = case.random(dtype)
    symbols = jnp.array([2, 0, 0, 1], jnp.int32)
    carry = jnp.asarray(np.random.default_rng(0).standard_normal((4, cell.carry_size)), dtype)

    def loss(cell: AbstractCell, x: jax.Array) -> jax.Array:
        return jnp.sin(cell.step(x, carry)).sum()

    of = jax.jit(jax.value_and_grad(loss))
    assert_trees_close(of(cell, symbols), of(cell, np.eye(INPUTS, dtype=dtype)[symbols]), TOLERANCE[dtype])


@every_cell
def test_the_number_of_parameters_is_the_docstrings(case: Case) -> None:
    for inputs, hidden in [(INPUTS, HIDDEN), (1, 1), (7, 2)]:
        cell = jax.eval_shape(lambda: case.create(inputs, hidden))  # noqa: B023
        assert sum(leaf.size for leaf in jax.tree.leaves(cell)) == case.parameters(inputs, hidden)
        assert (cell.input_size, cell.hidden_size) == (inputs, hidden)


@every_cell
def test_equal_cells_share_one_elementwise_function(case: Case) -> None:
    # It is a static argument of compiled programs: another object would compile them again.
    assert case.random("float32", seed=1).combine is case.random("float32").combine


# Other libraries -------------------------------------------------------------------------------------------------------------


def test_a_gru_equals_equinox(enable_x64: None) -> None:
    cell = CASES[2].random("float64")
    assert isinstance(cell, GRU)
    other = eqx.nn.GRUCell(INPUTS, HIDDEN, key=jax.random.key(0), dtype=jnp.float64)
    other = eqx.tree_at(
        lambda c: (c.weight_ih, c.weight_hh, c.bias, c.bias_n),
        other,
        (cell.weight_inputs.T, cell.weight_hidden.T, cell.bias, cell.bias_candidate),
    )
    x, h = np.random.default_rng(0).standard_normal((2, 8))[:, :HIDDEN]
    assert_close(step(cell, x[:INPUTS], h), eqx.filter_jit(other)(x[:INPUTS], h), 1e-14)


def test_an_lstm_equals_equinox(enable_x64: None) -> None:
    cell = CASES[3].random("float64")
    other = eqx.nn.LSTMCell(INPUTS, HIDDEN, key=jax.random.key(0), dtype=jnp.float64)
    other = eqx.tree_at(
        lambda c: (c.weight_ih, c.weight_hh, c.bias),
        other,
        (cell.weight_inputs.T, cell.weight_hidden.T, cell.bias),
    )
    x, h, c = np.random.default_rng(0).standard_normal((3, 8))[:, :HIDDEN]
    expected = np.concatenate(eqx.filter_jit(other)(x[:INPUTS], (h, c)))
    assert_close(step(cell, x[:INPUTS], np.concatenate([h, c])), expected, 1e-14)


def make_torch_cells() -> ModuleType:
    """The script that made the stored numbers."""
    spec = importlib.util.spec_from_file_location("make_torch_cells", REFERENCES / "make_torch_cells.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def stored(name: str) -> dict[str, np.ndarray]:
    """PyTorch's arrays for one cell."""
    with np.load(REFERENCES / "torch_cells.npz") as file:
        return {part.removeprefix(name + "."): file[part] for part in file.files if part.startswith(name + ".")}


def from_torch(case: Case, arrays: dict[str, np.ndarray], prefix: str = "") -> AbstractCell:
    """The cell with PyTorch's weights, or with their gradients (prefix "d_").

    PyTorch adds two biases where one suffices, so they add up; their gradients are equal, and one of them is ours. Only the GRU's
    candidate has both.
    """
    parts = [arrays[prefix + part] for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
    bias, bias_hidden = parts[2:]
    total = bias if prefix else bias + bias_hidden
    if case.kind is GRU:
        hidden = parts[1].shape[1]
        total = np.concatenate([total[: 2 * hidden], bias[2 * hidden :]])
        return GRU(*map(jnp.asarray, (parts[0].T, parts[1].T, total, bias_hidden[2 * hidden :])))
    return case.kind(*map(jnp.asarray, (parts[0].T, parts[1].T, total)), **dict(case.options))


@every_cell
def test_values_and_gradients_equal_the_stored_ones_of_pytorch(case: Case, enable_x64: None) -> None:
    arrays = stored(case.name)
    cell = from_torch(case, arrays)

    def loss(cell: AbstractCell, xs: jax.Array, carry: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        ys, last = unroll(cell, xs, carry)
        return (ys * arrays["ys_weight"]).sum() + (last * arrays["last_weight"]).sum(), (ys, last)

    gradient_of = jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True))
    (_, (ys, last)), gradients = gradient_of(cell, arrays["xs"], arrays["carry"])
    # float64 on both sides; six steps of about 20 roundings.
    assert_close(ys, arrays["ys"], 1e-13, "ys")
    assert_close(last, arrays["last"], 1e-13, "last")
    expected = (from_torch(case, arrays, "d_"), arrays["d_xs"], arrays["d_carry"])
    assert_trees_close(gradients, expected, 1e-12, "gradient")


def test_the_stored_numbers_of_pytorch_are_those_of_the_pytorch_at_hand() -> None:
    pytest.importorskip("torch")
    arrays = make_torch_cells().compute()
    with np.load(REFERENCES / "torch_cells.npz") as file:
        assert set(file.files) == set(arrays)
        for name in file.files:
            assert_close(arrays[name], file[name], 1e-13, name)


# The concatenated form of the Elman cell -------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES[:2], ids=lambda case: case.name)
def test_the_concatenated_form_gives_the_same_numbers_and_converts_both_ways(case: Case, dtype: str) -> None:
    cell = case.random(dtype)
    assert isinstance(cell, Elman)
    generator = np.random.default_rng(1)
    x, h = generator.standard_normal((4, INPUTS)).astype(dtype), generator.standard_normal((4, HIDDEN)).astype(dtype)
    joined = cell.concatenated()
    assert joined.shape == (HIDDEN + INPUTS, HIDDEN)
    by_hand = np.concatenate([h, x], axis=1).astype(np.float64) @ np.asarray(joined, np.float64) + np.asarray(cell.bias)
    squash = np.tanh if cell.activation == "tanh" else lambda total: np.maximum(total, 0)
    assert_close(
        jax.jit(lambda cell, x, h: cell.concatenated_step(x, h))(cell, x, h),
        squash(by_hand),
        TOLERANCE[dtype],
        "concatenated",
    )
    assert_close(step(cell, x, h), squash(by_hand), TOLERANCE[dtype], "step")
    back = Elman.from_concatenated(joined, cell.bias, cell.activation)
    assert eqx.tree_equal(back, cell)


# Starting values -------------------------------------------------------------------------------------------------------------


@every_cell
def test_every_block_of_the_recurrence_starts_orthogonal(case: Case, dtype: str) -> None:
    cell = case.create(4, 16, dtype=dtype)
    blocks = np.split(np.asarray(cell.weight_hidden, np.float64), cell.gate_blocks, axis=1)
    for number, block in enumerate(blocks):
        # Householder's product of 16 reflections, in the cell's own precision.
        assert_close(block.T @ block, np.eye(16), 1e-13 if dtype == "float64" else 2e-6, f"block {number}")
        assert all(np.abs(block - other).max() > 0.1 for other in blocks[:number]), "two blocks are the same matrix"
    assert cell.weight_hidden.dtype == jnp.dtype(dtype)


@every_cell
def test_input_weights_start_uniform_and_biases_at_zero_but_the_forget_gate_at_one(case: Case) -> None:
    cell = case.create(100, 64)
    weights = np.asarray(cell.weight_inputs) * math.sqrt(64)
    assert np.abs(weights).max() <= 1
    # 6400 numbers or more: the standard error of the variance 1/3 of U(-1, 1) is 0.0037.
    assert abs(weights.var() - 1 / 3) < 0.02
    assert abs(weights.mean()) < 0.04
    expected = np.zeros_like(cell.bias)
    if case.kind is LSTM:
        expected[64:128] = 1
    np.testing.assert_array_equal(cell.bias, expected)
    if isinstance(cell, GRU):
        assert not cell.bias_candidate.any()


@every_cell
def test_normal_starting_weights_have_a_spread_of_a_hundredth(case: Case) -> None:
    cell = case.create(100, 100, initialization="normal")
    for weight in (cell.weight_inputs, cell.weight_hidden):
        weight = np.asarray(weight, np.float64)
        # 10,000 numbers or more: five standard errors of the spread are 3.5 %, of the mean 5 % of the spread.
        assert abs(weight.std() / 0.01 - 1) < 0.035
        assert abs(weight.mean() / 0.01) < 0.05
        # The kurtosis of a normal distribution; a uniform one has 1.8.
        assert abs(((weight - weight.mean()) ** 4).mean() / weight.var() ** 2 - 3) < 0.3
    assert np.abs(np.corrcoef(cell.weight_inputs.ravel(), cell.weight_hidden.ravel())[0, 1]) < 0.05


@every_cell
def test_starting_weights_are_a_function_of_the_key(case: Case) -> None:
    assert eqx.tree_equal(case.create(seed=3), case.create(seed=3))
    assert not np.array_equal(case.create(seed=3).weight_hidden, case.create(seed=4).weight_hidden)
    assert not np.array_equal(case.create(seed=3).weight_inputs, case.create(seed=4).weight_inputs)


# tanh and sigmoid ------------------------------------------------------------------------------------------------------------


def dense_grid() -> np.ndarray:
    """float32 numbers of both signs: evenly over [-20, 20], and over all powers of two."""
    even = np.linspace(-20, 20, 400_001, dtype=np.float32)
    powers = np.ldexp(np.linspace(1, 2, 500, endpoint=False, dtype=np.float32)[:, None], np.arange(-126, 128)).ravel()
    return np.concatenate([even, powers, -powers]).astype(np.float32)


# The quotient of polynomials is off by 4.3 units where it is compiled with fused multiply-adds and by 5.4 without (measured over
# the grid, 2026-11-23). Near 1, where a unit is 6e-8, it ends up to 4 units short of 1.
UNITS = 6


def test_tanh_is_within_six_units_in_the_last_place() -> None:
    x = dense_grid()
    exact = np.tanh(x.astype(np.float64))
    y = np.asarray(jax.jit(tanh)(x))
    assert y.dtype == np.float32
    units = np.abs(y - exact) / np.spacing(np.abs(exact).astype(np.float32))
    # Below this, products on the way are flushed to zero where they leave the normal range: an error of 1e-38, but many units.
    units[np.abs(x) < 1e-30] = 0
    worst = units.argmax()
    assert units[worst] <= UNITS, f"{units[worst]:.2f} units at {x[worst]!r}"
    assert np.abs(y).max() <= 1
    assert np.abs(y - exact).max() <= UNITS * 2.0**-24


def test_sigmoid_is_within_a_unit_of_one() -> None:
    x = dense_grid()
    exact = 1 / (1 + np.exp(-np.clip(x.astype(np.float64), -700, 700)))
    y = np.asarray(jax.jit(sigmoid)(x))
    # Half of tanh's error plus a rounding. Relative to values near 0 it is larger: sigmoid(-20) is 0 here, not 2e-9.
    assert np.abs(y - exact).max() <= 3 * 2.0**-24
    assert y.min() >= 0
    assert y.max() <= 1


@pytest.mark.parametrize(
    ("x", "y"), [(np.inf, 1), (-np.inf, -1), (1e30, 1), (-1e30, -1), (0.0, 0.0), (-0.0, -0.0), (1e-40, 1e-40)]
)
def test_tanh_at_the_extremes(x: float, y: float, dtype: str) -> None:
    found = np.asarray(jax.jit(tanh)(np.asarray(x, dtype)))
    # A number below the normal range may be flushed to zero; the smallest normal one is 1.2e-38.
    assert abs(found - y) <= (1.3e-38 if 0 < abs(x) < 1e-38 else UNITS * 2.0**-24 if dtype == "float32" else 0)
    assert np.signbit(found) == np.signbit(y)


def test_nan_goes_through_tanh_and_sigmoid_and_every_cell(dtype: str) -> None:
    nan = jnp.full(3, jnp.nan, dtype)
    assert np.isnan(tanh(nan)).all()
    assert np.isnan(sigmoid(nan)).all()
    for case in CASES:
        cell = case.random(dtype)
        assert np.isnan(step(cell, nan, cell.initial_carry())).all(), case.name


def test_tanh_is_odd_and_falls_by_no_more_than_its_error() -> None:
    x = np.sort(dense_grid())
    y = np.asarray(jax.jit(tanh)(x))
    np.testing.assert_array_equal(np.asarray(jax.jit(tanh)(-x)), -y)
    # A quotient of two rounded polynomials may step back by its own error, on both sides of the step.
    assert (np.diff(y) >= -2 * UNITS * np.spacing(np.abs(y[1:]))).all()


def test_the_derivative_of_tanh_is_that_of_tanh(dtype: str) -> None:
    x = jnp.asarray(np.linspace(-12, 12, 2001), dtype)
    exact = np.cosh(np.asarray(x, np.float64)) ** -2
    tolerance = 2 * UNITS * float(np.finfo(dtype).epsneg)  # 1 - y²: twice the error of y
    assert_close(jax.jit(jax.vmap(jax.grad(tanh)))(x), exact, tolerance, "first")
    second = jax.jit(jax.vmap(jax.grad(jax.grad(tanh))))(x)
    assert_close(second, -2 * np.tanh(np.asarray(x, np.float64)) * exact, 4 * tolerance, "second")
    assert_close(
        jax.jit(jax.vmap(jax.grad(sigmoid)))(x),
        jax.jit(lambda x: sigmoid(x) * (1 - sigmoid(x)))(x),
        tolerance,
        "sigmoid",
    )
    flat = jax.jit(jax.vmap(jax.grad(tanh)))(jnp.asarray([jnp.inf, -jnp.inf, 1e30], dtype))
    assert_close(flat, np.zeros(3), tolerance, "where it is flat")

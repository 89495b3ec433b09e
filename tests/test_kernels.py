"""The compiled kernels: equal to the scan and to plain JAX, on every instruction set, with any number of threads.

What a recurrence computes is tested in `test_recurrence.py`, whose float32 half goes through the kernels where there are some; here
are the shapes at which kernels go wrong, and everything that only they have.
"""

import concurrent.futures
import dataclasses
import functools
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contract import CASES, Case, assert_close, assert_trees_close, randomized
from elman.config import Config, NetworkSettings
from elman.network import Categorical, Network, kernels, unroll
from elman.network.recurrence import _scan, length_mask
from elman.text import sampling
from elman.text.presets import preset, resolve
from elman.text.sampling import SamplingSettings
from elman.text.task import TextTask
from elman.text.trainer import new_network
from elman.text.vocabulary import Vocabulary
from elman.training.classic import classic_block
from elman.training.loop import Trainer
from elman.training.progress import Reporter
from elman.training.runs import Run

ROOT = Path(__file__).parents[1]
compiled = pytest.mark.skipif(
    kernels.status().instruction_set is None, reason=f"no compiled kernels: {kernels.status().reason}"
)
every_cell = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)

# (inputs, hidden, batch, steps): one of everything, fewer and more than a vector, a panel, a block of rows; primes; more units than
# are shared out at once. Negative inputs: symbols instead of vectors.
SHAPES = [
    (1, 1, 1, 1),
    (-3, 5, 3, 4),
    (33, 16, 7, 2),
    (-65, 100, 1, 25),
    (8, 64, 32, 5),
    (40, 131, 11, 3),
    (300, 17, 13, 2),
    (-70, 258, 50, 3),
    (5, 1030, 2, 2),
    (-65, 40, 9, 6),
]

# float32 with numbers of size 1; sums of up to 1,030 terms, several steps deep.
TOLERANCE = 2e-5


def scanned(cell: Any, xs: Any, carry: Any, lengths: Any = None, recurrent_mask: Any = None) -> tuple:
    """`unroll` by the scan, whatever the type."""
    mask = None if lengths is None else length_mask(lengths, xs.shape[0])
    return _scan(cell.combine, cell.weight_hidden, cell.bias_hidden, cell.project(xs), carry, mask, recurrent_mask)


def problem(case: Case, shape: tuple[int, int, int, int], dtype: str = "float32") -> tuple[Any, Any, Any, Any, Any]:
    """A cell whose states neither vanish nor explode, inputs, carry, lengths and a mask of dropout."""
    inputs, hidden, batch, steps = shape
    generator = np.random.default_rng(hidden)
    cell = case.random(dtype, abs(inputs), hidden, seed=hidden)
    cell = jax.tree.map(lambda a: a / np.sqrt(a.shape[0]) if a.ndim == 2 else a, cell)
    if inputs < 0:
        xs = generator.integers(-inputs, size=(steps, batch)).astype(np.int32)
    else:
        xs = generator.standard_normal((steps, batch, inputs)).astype(dtype)
    carry = (0.5 * generator.standard_normal((batch, cell.carry_size))).astype(dtype)
    lengths = generator.integers(steps + 1, size=batch).astype(np.int32)
    mask = np.where(generator.random((batch, hidden)) < 0.3, 0, 1 / 0.7).astype(dtype)
    return cell, xs, carry, lengths, mask


def gradients(run: Any, cell: Any, xs: Any, carry: Any, lengths: Any, mask: Any) -> tuple:
    """Every h, the last carry, and the gradients of all that has one, of a sum in which every number counts differently."""

    def total(cell: Any, xs: Any, carry: Any, mask: Any) -> tuple:
        ys, last = run(cell, xs, carry, lengths=lengths, recurrent_mask=mask)
        weights = jnp.cos(jnp.arange(ys.size, dtype=ys.dtype)).reshape(ys.shape)
        return (weights * ys).sum() + (
            jnp.sin(jnp.arange(last.size, dtype=ys.dtype)).reshape(last.shape) * last
        ).sum(), (
            ys,
            last,
        )

    wanted = [0, 2] + ([1] if xs.dtype.kind == "f" else []) + ([3] if mask is not None else [])
    found, (ys, last) = jax.jit(jax.grad(total, argnums=tuple(wanted), has_aux=True))(cell, xs, carry, mask)
    return ys, last, found


@compiled
@every_cell
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_values_and_gradients_equal_those_of_the_scan_in_float64(case: Case, shape: tuple) -> None:
    cell, xs, carry, lengths, mask = problem(case, shape)
    # Lengths and a mask with every other shape: both compile anew.
    given = (lengths, mask) if SHAPES.index(shape) % 2 else (None, None)
    ours = gradients(unroll, cell, xs, carry, *given)
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda a: a.astype(np.float64) if a.dtype.kind == "f" else a, (cell, xs, carry))
        exact = gradients(scanned, *wide, given[0], None if given[1] is None else given[1].astype(np.float64))
    for mine, right in zip(jax.tree.leaves(ours), jax.tree.leaves(exact), strict=True):
        # Gradients grow with the number of steps and sequences they add up: relative to the largest of an array.
        size = max(1.0, float(np.abs(right).max(initial=0)))
        assert_close(np.asarray(mine) / size, np.asarray(right) / size, TOLERANCE, f"{case.name} {shape}")


@compiled
@every_cell
def test_the_second_derivative_equals_that_of_the_scan(case: Case) -> None:
    cell, xs, carry, lengths, mask = problem(case, (3, 5, 4, 3))

    def slope(run: Any) -> Any:
        def first(cell: Any, xs: Any, carry: Any, mask: Any) -> jax.Array:
            def value(cell: Any, xs: Any, carry: Any, mask: Any) -> jax.Array:
                ys, last = run(cell, xs, carry, lengths=lengths, recurrent_mask=mask)
                return (ys**2).sum() + jnp.sin(last).sum()

            found = jax.grad(value, argnums=(0, 1, 2, 3))(cell, xs, carry, mask)
            return sum((leaf**2).sum() for leaf in jax.tree.leaves(found))

        return jax.jit(jax.grad(first, argnums=(0, 1, 2, 3)))(cell, xs, carry, mask)

    # Second derivatives here reach a hundred.
    assert_trees_close(
        jax.tree.map(lambda a: a / 100, slope(unroll)), jax.tree.map(lambda a: a / 100, slope(scanned)), 1e-4
    )


# The head -------------------------------------------------------------------------------------------------------------------------


def plain_loss(weight: Any, bias: Any, hidden: Any, targets: Any) -> Any:
    logits = hidden @ weight + bias
    return jax.nn.logsumexp(logits, axis=-1) - jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]


def kernel_loss(weight: Any, bias: Any, hidden: Any, targets: Any) -> Any:
    return Categorical(weight, bias).loss(hidden, targets)


def head_problem(rows: int, hidden: int, symbols: int) -> tuple[Any, Any, Any, Any]:
    generator = np.random.default_rng(symbols)
    weight = (generator.standard_normal((hidden, symbols)) / np.sqrt(hidden)).astype(np.float32)
    states = generator.standard_normal((rows, hidden)).astype(np.float32)
    return weight, generator.standard_normal(symbols).astype(np.float32), states, generator.integers(symbols, size=rows)


@compiled
@pytest.mark.parametrize("shape", [(1, 1, 1), (25, 100, 65), (3, 7, 2), (130, 33, 300), (64, 128, 16)], ids=str)
def test_the_head_equals_softmax_and_its_derivative_in_float64(shape: tuple[int, int, int]) -> None:
    problem = head_problem(*shape)
    counts = np.cos(np.arange(shape[0])).astype(np.float32)

    def both(loss: Any, weight: Any, bias: Any, hidden: Any, targets: Any) -> tuple:
        def total(*arrays: Any) -> tuple:
            losses = loss(*arrays, targets)
            return (losses * counts).sum(), losses

        found, losses = jax.grad(total, argnums=(0, 1, 2), has_aux=True)(weight, bias, hidden)
        return losses, found

    ours = jax.jit(functools.partial(both, kernel_loss))(*problem)
    with jax.enable_x64(True):
        wide = [a.astype(np.float64) if a.dtype.kind == "f" else a for a in problem]
        exact = both(plain_loss, *map(jnp.asarray, wide))
    assert_trees_close(ours, exact, TOLERANCE)


@compiled
def test_the_head_stays_finite_at_logits_of_a_million_and_says_nan_for_nan() -> None:
    weight, bias = jnp.eye(3), jnp.zeros(3)
    hidden = jnp.array([[1e6, 0, -1e6], [-1e6, -1e6, -1e6], [0, 0, 0], [np.nan, 0, 0]], jnp.float32)
    targets = jnp.array([2, 1, 0, 1])
    total = lambda h: kernel_loss(weight, bias, h, targets[:3]).sum()  # noqa: E731
    losses, slope = jax.value_and_grad(total)(hidden[:3])
    assert_close(losses, 2e6 + 2 * np.log(3), 1e-6)
    assert_close(slope, [[1, 0, -1], [1 / 3, -2 / 3, 1 / 3], [-2 / 3, 1 / 3, 1 / 3]], 1e-6)
    assert np.isnan(kernel_loss(weight, bias, hidden, targets)[3])


@compiled
def test_the_head_under_vmap_equals_each_alone() -> None:
    weight, bias, hidden, targets = head_problem(12, 5, 4)
    folded = jax.vmap(kernel_loss, (None, None, 0, 0))(weight, bias, hidden.reshape(3, 4, 5), targets.reshape(3, 4))
    assert_close(folded.reshape(-1), plain_loss(weight, bias, hidden, targets), TOLERANCE)
    several = jax.vmap(jax.grad(lambda w: kernel_loss(w, bias, hidden, targets).sum()))(np.stack([weight, 2 * weight]))
    for factor, found in zip((1, 2), several, strict=True):
        alone = jax.grad(lambda w: plain_loss(w, bias, hidden, targets).sum())(factor * weight)
        assert_close(found, alone, TOLERANCE)


@compiled
def test_the_second_derivative_of_the_head() -> None:
    weight, bias, hidden, targets = head_problem(6, 5, 4)

    def slope(loss: Any) -> Any:
        first = jax.grad(lambda w, h: loss(w, bias, h, targets).sum(), argnums=(0, 1))
        return jax.grad(lambda w, h: sum((leaf**2).sum() for leaf in first(w, h)), argnums=(0, 1))(weight, hidden)

    assert_trees_close(slope(kernel_loss), slope(plain_loss), 1e-4)


# Instruction sets, threads, processes --------------------------------------------------------------------------------------------

SCRIPT = """
import sys
import jax, numpy as np
sys.path.insert(0, "tests")
from contract import CASES
from elman.network import kernels, unroll
from test_kernels import gradients, head_problem, kernel_loss, problem
arrays = {}
# Sequences shared among the threads, and units; seven sequences for each of two threads, in blocks unlike those of fourteen.
shapes = ((-65, 100, 40, 25), (33, 140, 6, 20), (-65, 100, 40, 25), (33, 140, 6, 20))
for case, shape in [*zip(CASES, shapes), *((case, (-65, 96, 14, 40)) for case in CASES)]:
    cell, xs, carry, lengths, mask = problem(case, shape)
    for i, leaf in enumerate(jax.tree.leaves(gradients(unroll, cell, xs, carry, lengths, mask))):
        arrays[f"{case.name} {shape} {i}"] = leaf
weight, bias, hidden, targets = head_problem(500, 100, 65)
slope = jax.jit(jax.grad(lambda w, h: kernel_loss(w, bias, h, targets).sum(), argnums=(0, 1)))
arrays["head weight"], arrays["head hidden"] = slope(weight, hidden)
np.savez(sys.argv[1], status=str(kernels.status()), **arrays)
"""


@pytest.fixture(scope="module")
def by_environment(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What the script computes in a process of its own, by its environment; each is run once."""
    folder = tmp_path_factory.mktemp("kernels")

    @functools.cache
    def run(**settings: str) -> dict[str, np.ndarray]:
        path = folder / ("-".join(map("".join, settings.items())) + ".npz")
        environment = {**os.environ, **settings}
        subprocess.run([sys.executable, "-c", SCRIPT, str(path)], check=True, cwd=ROOT, env=environment, timeout=300)
        with np.load(path) as file:
            return dict(file)

    return run


@compiled
@pytest.mark.parametrize("name", kernels.library.INSTRUCTION_SETS)
def test_every_instruction_set_computes_the_same(name: str, by_environment: Any) -> None:
    there = kernels.library.available()
    if name not in there:
        pytest.skip(f"this processor has {', '.join(there)}, not {name}")
    found, scan = by_environment(ELMAN_INSTRUCTION_SET=name), by_environment(ELMAN_KERNELS="off")
    assert f"kernels, {name}," in str(found["status"])
    assert "switched off" in str(scan["status"])
    for key, array in found.items():
        if key != "status":
            size = max(1.0, float(np.abs(scan[key]).max()))
            assert_close(array / size, scan[key] / size, TOLERANCE, f"{name}: {key}")


@compiled
@pytest.mark.parametrize("name", kernels.library.INSTRUCTION_SETS)
def test_the_number_of_threads_changes_no_bit(name: str, by_environment: Any) -> None:
    if name not in kernels.library.available():
        pytest.skip(f"this processor has no {name}")
    one = by_environment(ELMAN_INSTRUCTION_SET=name, ELMAN_THREADS="1")
    all_there = by_environment(ELMAN_INSTRUCTION_SET=name)
    assert "up to 1 thread" in str(one["status"])
    for key, array in one.items():
        if key != "status":
            np.testing.assert_array_equal(array, all_there[key], err_msg=key)


@compiled
def test_a_wrong_wish_is_refused() -> None:
    for name, value in (("ELMAN_INSTRUCTION_SET", "sse9"), ("ELMAN_KERNELS", "maybe")):
        done = subprocess.run(
            [sys.executable, "-m", "elman", "info"],
            env={**os.environ, name: value},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 2
        assert name in done.stderr
        assert value in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1


@compiled
def test_several_python_threads_at_once_get_the_same_bits() -> None:
    cell, xs, carry, lengths, mask = problem(CASES[3], (33, 140, 12, 20))
    call = jax.jit(functools.partial(gradients, unroll))
    expected = call(cell, xs, carry, lengths, mask)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: [call(cell, xs, carry, lengths, mask) for _ in range(10)], range(4)):
            for one in found:
                jax.tree.map(np.testing.assert_array_equal, one, expected)


def test_the_float32_tests_of_the_recurrence_pass_without_kernels(environment: dict[str, str]) -> None:
    """Those that go through the kernels where there are some: here the scan computes them."""
    chosen = "float32 or batch or vmap or compiles or python_loop"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:xdist", "tests/test_recurrence.py", "-k", chosen],
        cwd=ROOT,
        env={**environment, "ELMAN_KERNELS": "off"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-3000:]


# The classic program --------------------------------------------------------------------------------------------------------------


def trainer(folder: Path, **settings: Any) -> tuple[Trainer, TextTask]:
    codes = np.random.default_rng(0).integers(9, size=400).astype(np.uint8)
    chosen = {**preset("min-char-rnn"), "hidden": 21, "unroll": 7, "steps": 60, "block": 60, **settings}
    config = resolve(Config().replace(**chosen), len(codes), 9)
    vocabulary = Vocabulary.from_text("abcdefghi")
    task = TextTask(codes, codes[:0], vocabulary, config)
    network = new_network(config, 9, 0)
    return Trainer(task, network, config.training, Run.create(folder, {}), reporter=Reporter()), task


@compiled
@pytest.mark.parametrize("settings", [{}, {"reduction": "mean", "clip_value": 0.0, "learning_rate": 0.01}], ids=str)
def test_classic_blocks_equal_the_loop_update_for_update(tmp_path: Path, settings: dict[str, Any]) -> None:
    made, task = trainer(tmp_path / "run", **settings)
    batches = task.take(0, 60, 60)
    assert batches[1][1:].any(), "the text wraps within the block, where the state starts afresh"
    in_place = classic_block(made.network, made.state.carry, made.settings)
    assert in_place is not None
    ours, theirs, state = jax.jit(in_place), jax.jit(made._block), made.state
    one = np.int32(1)
    for update in range(60):
        batch = jax.tree.map(lambda leaf, at=update: np.roll(leaf, -at, axis=0), batches)
        numbers = np.full(60, update / 60), np.float64(1.0)
        state_ours, losses, norms, sound = ours(state, batch, one, np.int32(update), numbers)
        state, their_losses, their_norms, _ = theirs(state, batch, one, np.int32(update), numbers)
        assert sound
        assert_close(losses[0], their_losses[0], 2e-6, f"loss of update {update}")
        assert_close(norms[0], their_norms[0], 2e-5, f"gradient norm of update {update}")
        # Where a gradient is nearly 0, Adagrad multiplies its rounding by up to 1e4.
        assert_trees_close(state_ours, state, 2e-3 if update == 0 else 2e-4, f"state after update {update}")
    assert not np.asarray(losses[1:]).any(), "behind the last update asked for there is nothing"


@compiled
def test_a_classic_block_is_its_updates_one_by_one(tmp_path: Path) -> None:
    made, task = trainer(tmp_path / "run")
    batches, numbers = task.take(0, 60, 60), (np.zeros(60), np.float64(1.0))
    whole, losses, _, _ = made.block(jax.tree.map(jnp.copy, made.state), batches, np.int32(60), np.int32(0), numbers)
    state, seen = made.state, []
    for first, count in ((0, 1), (1, 22), (23, 37)):
        batch = jax.tree.map(lambda leaf, at=first: np.roll(leaf, -at, axis=0), batches)
        state, some, _, _ = made.block(state, batch, np.int32(count), np.int32(first), numbers)
        seen.extend(np.asarray(some)[:count])
    np.testing.assert_array_equal(losses, seen)
    jax.tree.map(np.testing.assert_array_equal, whole, state)


@compiled
@pytest.mark.parametrize(
    "other",
    [
        {"batch": 2},
        {"cell": "gru"},
        {"activation": "relu"},
        {"layers": 2},
        {"dropout": 0.1},
        {"optimizer": "sgd"},
        {"clip_norm": 1.0},
        {"average": 0.9},
        {"dtype": "float64"},
    ],
    ids=str,
)
def test_what_is_not_the_classic_program_goes_through_the_loop(tmp_path: Path, other: dict[str, Any]) -> None:
    with jax.enable_x64(other.get("dtype") == "float64"):
        made, _ = trainer(tmp_path / "run", **other)
        assert classic_block(made.network, made.state.carry, made.settings) is None


@compiled
def test_a_network_of_zero_sized_parts_takes_the_scan() -> None:
    network = Network.create(NetworkSettings(hidden=4), 3, 3, key=jax.random.key(0))
    hidden, carry = network(jnp.zeros((2, 0), jnp.int32))
    assert hidden.shape == (2, 0, 4)
    assert carry.shape == (1, 0, 4)


def test_without_a_compiler_there_are_no_kernels_and_a_reason(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(kernels.library, "LIBRARY", tmp_path / "none.so")
    kernels.library._loaded.cache_clear()
    try:
        status = kernels.status()
        assert status.instruction_set is None
        assert "C++ compiler" in str(status)
        case = CASES[2]
        ys, _ = unroll(case.create(), np.zeros((2, 1, 3), np.float32))
        assert ys.shape == (2, 1, 5)
    finally:
        kernels.library._loaded.cache_clear()


# Sampling -------------------------------------------------------------------------------------------------------------------------


@compiled
@pytest.mark.parametrize("cell", ["elman", "gru", "lstm"])
@pytest.mark.parametrize("layers", [1, 3])
def test_one_stream_draws_what_the_loop_of_steps_draws(cell: str, layers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    network = Network.create(NetworkSettings(cell=cell, hidden=37, layers=layers), 21, 21, key=jax.random.key(1))
    # A head that prefers some symbols, so that a wrong distribution would show.
    network = dataclasses.replace(network, head=randomized(network.head, 5, scale=2.0))
    carry = 0.3 * randomized(network.initial_carry(), 3)
    uniforms = np.random.default_rng(0).random(400).astype(np.float32)
    for temperature in (1.0, 0.6):
        settings = SamplingSettings(temperature=temperature)
        arguments = (network, carry, jnp.int32(4), None, uniforms, settings, False)
        assert sampling._compiled(network, settings)
        symbols, last, symbol, _ = sampling.sample_chunk.__wrapped__(*arguments)
        with monkeypatch.context() as patch:
            patch.setattr(sampling, "_compiled", lambda *_: False)
            expected, expected_last, _, _ = sampling.sample_chunk.__wrapped__(*arguments)
        np.testing.assert_array_equal(symbols, expected)
        assert len(set(symbols.tolist())) > 5
        assert symbol == symbols[-1]
        assert_close(last, expected_last, TOLERANCE)


@compiled
def test_what_the_sampler_does_not_know_takes_the_loop() -> None:
    plain = Network.create(NetworkSettings(hidden=8, layers=2), 5, 5, key=jax.random.key(0))
    assert sampling._compiled(plain, SamplingSettings())
    for settings in ({"top_k": 2}, {"top_p": 0.9}, {"min_p": 0.1}, {"temperature": 0.0}, {"repetition_penalty": 1.2}):
        assert not sampling._compiled(plain, SamplingSettings(**settings))
    for other in ({"layer_norm": True}, {"residual": True}, {"layers": 17}):
        chosen = NetworkSettings(**{"hidden": 8, "layers": 2, **other})
        shapes = jax.eval_shape(lambda chosen=chosen: Network.create(chosen, 5, 5, key=jax.random.key(0)))
        assert not sampling._compiled(shapes, SamplingSettings())

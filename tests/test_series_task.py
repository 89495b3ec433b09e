"""The forecaster's loss, its gradient and its state, and forecasts at many origins, each against the plain computation."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contract import CASES, assert_close, numpy_unroll, randomized
from elman.config import Config
from elman.series.chunks import Walk, forecast_origins
from elman.series.durations import Duration
from elman.series.encoding import Encoding, Steps
from elman.series.model import horizon_of, new_network
from elman.series.networks import ForecastNetwork
from elman.series.panel import Panel, Split
from elman.series.task import Batch, SeriesTask

GRU = next(case for case in CASES if case.name == "gru")
HOUR = 3_600_000_000
UPDATES = 4


def panel_of(lengths: tuple[int, ...] = (90, 70), seed: int = 0) -> Panel:
    """Two series, a tenth of the values missing."""
    generator, count = np.random.default_rng(seed), sum(lengths)
    values = generator.standard_normal((count, 2)).cumsum(axis=0).astype(np.float32)
    values[generator.random((count, 2)) < 0.1] = np.nan
    return Panel(
        columns=("y", "x"),
        values=values,
        times=np.concatenate([HOUR * np.arange(length) for length in lengths]),
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        step=Duration(HOUR),
        names=tuple("abcdef"[: len(lengths)]),
        static=np.arange(len(lengths), dtype=np.float32)[:, None],
        static_columns=("kind",),
    )


def split_of(panel: Panel) -> Split:
    lengths = np.diff(panel.offsets)
    return Split(panel.offsets[:-1] + lengths // 2, panel.offsets[:-1] + 3 * lengths // 4)


def task_of(panel: Panel | None = None, **options: Any) -> tuple[SeriesTask, ForecastNetwork]:
    """A task of small sizes, and a network with every number drawn."""
    options = {
        "target": "y",
        "horizon": "3",
        "lookback": "6",
        "every": "1",
        "hidden": 4,
        "batch": 3,
        "unroll": 5,
        "levels": (0.1, 0.5, 0.8),
        "calendar": ("hour",),
        **options,
    }
    if options.get("method") == "windows":
        options["unroll"] = -(-int(options["lookback"]) // int(options["every"]))
    panel = panel or panel_of()
    config, split = Config().replace(**options), split_of(panel)
    encoding = Encoding.fit(panel, split.training_ends, horizon_of(config, panel.step, "y"), config.series)
    task = SeriesTask(panel, split, encoding, config)
    return task, randomized(jax.eval_shape(lambda: new_network(config, encoding)), seed=3, scale=0.5)


def inputs_of(task: SeriesTask, steps: Steps) -> np.ndarray:
    """What the network sees; compiled as one program, which costs less than one for each operation."""
    return np.asarray(jax.jit(task.encoding.inputs)(steps))


def update_of(batches: Batch, number: int) -> Batch:
    return jax.tree.map(lambda leaf: np.asarray(leaf)[number], batches)


def plain_pinball(difference: float, level: float) -> float:
    return level * difference if difference >= 0 else (level - 1) * difference


def plain_loss(task: SeriesTask, network: ForecastNetwork, batch: Batch, carry: np.ndarray) -> float:
    """The mean over what is scored and known, of each member alone; then the mean over the members."""
    inputs = inputs_of(task, batch.steps).astype(np.float64)
    losses = []
    for member, start in zip(network.members, carry, strict=True):
        hidden, _ = numpy_unroll(GRU, member.cells[0], inputs, np.where(batch.fresh[:, None], 0, start[0]))
        hidden = hidden[-len(batch.targets) :]
        said = np.asarray(member.head(jnp.asarray(hidden)), np.float64)
        total, count = 0.0, 0
        for step, reader, ahead in np.ndindex(*batch.targets.shape):
            target = float(batch.targets[step, reader, ahead])
            if not batch.scored[step, reader] or np.isnan(target):
                continue
            # Counted from the last value seen.
            anchor = float(batch.steps.values[len(inputs) - len(batch.targets) + step, reader, 0])
            differences = target - anchor - said[step, reader, ahead]
            kind = task.config.series.forecast
            if kind == "quantiles":
                pairs = zip(differences, task.config.series.levels, strict=True)
                total += 2 * float(np.mean([plain_pinball(difference, level) for difference, level in pairs]))
            else:
                total += abs(differences[0]) if kind == "median" else differences[0] ** 2
            count += 1
        losses.append(total / max(count, 1))
    return float(np.mean(losses))


@pytest.mark.parametrize(
    "options",
    [
        {"members": 2},
        {"forecast": "median", "path": True},
        {"forecast": "mean", "method": "windows"},
        {"path": True, "every": "2", "method": "windows"},
    ],
    ids=lambda options: "+".join(f"{k}={v}" for k, v in options.items()),
)
def test_the_loss_is_the_mean_over_what_is_scored_and_known(options: dict[str, Any], enable_x64: None) -> None:
    task, network = task_of(dtype="float64", **options)
    batches = task.take(0, UPDATES, UPDATES)
    # A window whose only target is missing is not drawn at all.
    assert np.isnan(batches.targets).any() == (options.get("forecast") != "mean")
    carry = np.random.default_rng(0).standard_normal(task.initial_carry(network).shape)
    loss = jax.jit(task.loss, static_argnums=3)
    for number in range(UPDATES):
        batch = update_of(batches, number)
        found, _ = loss(network, batch, carry, None)
        # The anchors and targets are float32, exact in both; sums of a few dozen float64.
        assert float(found) == pytest.approx(plain_loss(task, network, batch, carry), rel=1e-6)


def test_what_a_batch_holds_are_the_rows_their_targets_and_nothing_behind_training() -> None:
    panel = panel_of()
    task, _ = task_of(panel, path=True)
    picks, batches = task_of(panel, path=True)[0].walk_through.take(12), task.take(0, 12, 15)
    ends = split_of(panel).training_ends
    column = panel.column("y").astype(np.float64)
    for place in np.ndindex(*picks.rows.shape):
        row = int(picks.rows[place])
        series = int(np.searchsorted(panel.offsets, row, side="right") - 1)
        scale = task.encoding.center[series, 0], task.encoding.scale[series, 0]
        for ahead in (1, 2, 3):
            found = float(batches.targets[(*place, ahead - 1)])
            if row + ahead >= ends[series] or np.isnan(column[row + ahead]):
                assert np.isnan(found)
            else:
                assert found == pytest.approx((column[row + ahead] - scale[0]) / scale[1], abs=1e-5)
    np.testing.assert_array_equal(batches.scored[:12], picks.scored)
    assert all(len(leaf) == 15 for leaf in jax.tree.leaves(batches))
    assert not batches.scored[12:].any()


@pytest.mark.parametrize("method", ["streams", "windows"])
@pytest.mark.parametrize("forecast", ["quantiles", "mean"])
def test_targets_that_do_not_count_move_no_gradient_and_missing_ones_break_none(method: str, forecast: str) -> None:
    task, network = task_of(method=method, forecast=forecast, path=True)
    batch = update_of(task.take(0, UPDATES, UPDATES), 1)
    carry = task.initial_carry(network)
    scored = np.array(batch.scored)
    scored[0, 0] = False
    batch = batch._replace(scored=scored)
    gradient = jax.jit(jax.grad(lambda network, batch: task.loss(network, batch, carry, None)[0]))
    expected = gradient(network, batch)
    assert any(np.abs(leaf).max() > 1e-3 for leaf in jax.tree.leaves(expected))
    for value in (1e30, np.nan, np.inf):
        targets = np.where(scored[..., None], batch.targets, np.float32(value))
        for found, leaf in zip(
            jax.tree.leaves(gradient(network, batch._replace(targets=targets))), jax.tree.leaves(expected), strict=True
        ):
            np.testing.assert_array_equal(found, leaf)
    # Nothing known at all: nothing to learn, and no division by nothing.
    none = gradient(network, batch._replace(targets=np.full_like(batch.targets, np.nan)))
    assert all((np.asarray(leaf) == 0).all() for leaf in jax.tree.leaves(none))
    changed = np.array(batch.targets)
    changed[tuple(np.argwhere(scored[..., None] & ~np.isnan(changed))[0])] += 5
    moved = jax.tree.leaves(gradient(network, batch._replace(targets=changed)))
    assert any((a != b).any() for a, b in zip(moved, jax.tree.leaves(expected), strict=True))


def test_the_state_is_carried_on_and_starts_from_zero_where_it_is_fresh(enable_x64: None) -> None:
    task, network = task_of(dtype="float64", members=2)
    batch = update_of(task.take(0, 1, 1), 0)
    carry = np.random.default_rng(1).standard_normal(task.initial_carry(network).shape)
    batch = batch._replace(fresh=np.array([True, False, True]))
    _, after = jax.jit(task.loss, static_argnums=3)(network, batch, carry, None)
    inputs = inputs_of(task, batch.steps).astype(np.float64)
    for number, member in enumerate(network.members):
        start = carry[number, 0].copy()
        start[[0, 2]] = 0
        _, expected = numpy_unroll(GRU, member.cells[0], inputs, start)
        assert_close(after[number, 0], expected, 1e-10)


# Forecasts at many origins ---------------------------------------------------------------------------------------------------


def plain_forecast(
    task: SeriesTask, network: ForecastNetwork, inputs: np.ndarray, origin: int, start: int, every: int
) -> np.ndarray:
    """Scaled quantiles at one origin: each member walks from the zero state at `start`, and their mean is added to the anchor."""
    said = []
    for member in network.members:
        zero = np.zeros((1, member.cells[0].hidden_size))
        hidden, _ = numpy_unroll(GRU, member.cells[0], inputs[start : origin + 1 : every, None], zero)
        said.append(np.asarray(member.head(jnp.asarray(hidden[-1, 0])), np.float64))
    return np.mean(said, axis=0) + float(task.rows.values[origin, 0])


@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize("walk", [Walk(1, 7, 5, 99), Walk(1, 5, 1, 99)], ids=["streams", "windows"])
def test_forecasts_at_origins_equal_a_plain_loop_over_them(every: int, walk: Walk, enable_x64: None) -> None:
    panel = panel_of((60, 33, 45))
    task, network = task_of(panel, dtype="float64", members=2, path=True, every=str(every))
    walk = dataclasses.replace(walk, every=every)
    generator = np.random.default_rng(every)
    origins = generator.permutation(panel.row_count)[:70]  # in any order, also the first rows of a series
    found = forecast_origins(task._program, network, task.encoding, task.rows, origins, walk)
    assert found.shape == (70, 3, 3)
    index = np.arange(panel.row_count)
    inputs = inputs_of(task, task.encoding.steps(task.rows, index)).astype(np.float64)
    first_step: dict[tuple[int, int], int] = {}
    places = {}
    for origin in origins.tolist():
        series = int(np.searchsorted(panel.offsets, origin, side="right") - 1)
        since = origin - int(panel.offsets[series])
        lane = series, since % every
        places[origin] = lane, since // every
        first_step[lane] = min(first_step.get(lane, 10**9), since // every)
    for number, origin in enumerate(origins.tolist()):
        lane, step = places[origin]
        # Chunks of `longest` steps from the first origin that is asked for; each starts `warm_up` steps before.
        chunk = first_step[lane] + (step - first_step[lane]) // walk.longest * walk.longest
        begin = max(chunk - walk.warm_up, 0)
        if walk.longest == 1:
            assert step - begin == min(5, step), "a window has exactly its lookback"
        start = int(panel.offsets[lane[0]]) + lane[1] + begin * every
        expected = plain_forecast(task, network, inputs, origin, start, every)
        assert_close(found[number], expected, 1e-6, f"origin {origin}")


def test_forecasting_walks_as_training_does() -> None:
    """The state starts at the same row: then the numbers are the same, whichever program computes them."""
    for method in ("streams", "windows"):
        task, network = task_of(method=method, lookback="6")
        picks = task_of(method=method, lookback="6")[0].walk_through.take(1)
        batch = update_of(task.take(0, 1, 1), 0)
        said = jax.jit(lambda network, *rest: network.outputs(network.hiddens(*rest)[0]))
        carry = np.zeros((1, 1, 3, 4), np.float32)
        trained = np.asarray(said(network, inputs_of(task, batch.steps), carry)) + batch.steps.values[..., :1, None]
        last = len(trained) - 1
        for step in (1, last) if method == "streams" else (last,):
            # A walk whose warm-up reaches back to the row at which each reader began.
            walk, origins = Walk(1, step, 1, 99), picks.rows[0, step]
            alone = forecast_origins(task._program, network, task.encoding, task.rows, origins, walk)
            assert_close(alone, trained[step], 1e-6, f"{method}, step {step}")


def test_windows_and_streams_agree_where_their_states_begin_at_the_same_row() -> None:
    streams, network = task_of()
    windows, _ = task_of(method="windows")
    origins = np.array([5, 20, 60, 95, 120, 159])
    answers = [
        forecast_origins(task._program, network, task.encoding, task.rows, origins, Walk(1, 5, longest, 99))
        for task, longest in ((streams, 1), (windows, 1))
    ]
    np.testing.assert_array_equal(*answers)
    # Chunks of 15 steps that start at 0: the origins 5 and 20 - 6 rows apart from a window's start - differ in how they came.
    together = forecast_origins(streams._program, network, streams.encoding, streams.rows, origins, Walk(1, 5, 512, 99))
    assert_close(together[0], answers[0][0], 1e-6, "the first origin's window is the chunk's beginning")
    assert_close(together[3], answers[0][3], 1e-6, "and so in the second series")
    assert np.abs(together[1] - answers[0][1]).max() > 1e-6


@pytest.mark.parametrize("forecast", ["quantiles", "mean"])
def test_validation_scores_what_the_model_says_of_the_validation_part(forecast: str) -> None:
    panel = panel_of((200,))
    task, network = task_of(panel, forecast=forecast, path=True)
    figures = task.validate(network)
    split, column = split_of(panel), panel.column("y").astype(np.float64)
    walk = Walk(1, 24, 512, 99)
    errors = []
    origins = np.arange(int(split.training_ends[0]) - 3, int(split.validation_ends[0]) - 3)
    levels = 3 if forecast == "quantiles" else 1
    said = forecast_origins(task._program, network, task.encoding, task.rows, origins, walk)
    center, scale = task.encoding.center[0, 0], task.encoding.scale[0, 0]
    for number, origin in enumerate(origins.tolist()):
        for ahead in (1, 2, 3):
            actual = column[origin + ahead]
            if not np.isnan(actual):
                errors.append(actual - (said[number, ahead - 1, levels // 2] * scale + center))
    assert figures["mae"] == pytest.approx(np.mean(np.abs(errors)), rel=1e-4)
    assert figures["rmse"] == pytest.approx(np.sqrt(np.mean(np.square(errors))), rel=1e-4)
    assert task.score == ("mae" if forecast == "quantiles" else "rmse")
    if forecast == "quantiles":
        # Split conformal: with n scores, at most the share `level` of the validation part lies below the lowest quantile.
        calibrated = task.calibration.apply(said)
        for place, ahead in enumerate((1, 2, 3)):
            actual = (column[origins + ahead] - center) / scale
            known = ~np.isnan(actual)
            below = (actual[known] < calibrated[known, place, 0] - 1e-5).mean()
            above = (actual[known] > calibrated[known, place, 2] + 1e-5).mean()
            assert below <= 0.1
            assert above <= 0.2


def test_the_test_part_reaches_neither_training_nor_validation() -> None:
    # The second series begins behind training: it is scaled by what is known of it at the end of validation.
    panel, other = panel_of((90, 70)), panel_of((90, 70))
    split = Split(np.array([45, 90]), np.array([60, 120]))
    other.values[60:90] *= 50
    other.values[120:] *= 50
    tasks = []
    for one in (panel, other):
        base, network = task_of(one)
        encoding = Encoding.fit(one, split.training_ends, base.horizon, base.config.series)
        tasks.append(SeriesTask(one, split, encoding, base.config))
    first, second = tasks
    assert first.validate(network) == second.validate(network)
    np.testing.assert_array_equal(first.calibration.shifts, second.calibration.shifts)
    for one, two in zip(*(jax.tree.leaves(task.take(0, 20, 20)) for task in tasks), strict=True):
        np.testing.assert_array_equal(one, two)

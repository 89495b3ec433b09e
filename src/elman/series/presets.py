"""Named bundles of settings, and the sizes that suit a table and a budget where none are given."""

from typing import Any

import numpy as np

from elman.config import Config, suggestion
from elman.errors import ConfigError, DataError
from elman.network import CELLS
from elman.series.durations import Duration, rows_of
from elman.series.panel import Panel, Split

PRESETS: dict[str, dict[str, Any]] = {
    # The lecture's set-up (L5), in rows of the 10-minute file: 120 hours back, every third row, 24 hours ahead.
    "jena": {
        "target": "T (degC)",
        "lookback": "720",
        "every": "3",
        "horizon": "144",
        "split": "50/25/25",
    },
    # The lowest error that a few minutes buy: two networks, trained again with the validation part once it has done its work.
    "best": {"members": 2, "refit": True, "epochs": 100.0},
}

DEFAULT_MINUTES = 1.0
EPOCHS = 100
"""Passes after which a small table has taught what it can; a large one ends with the minutes."""

SPEED = 20e9
"""Multiply-adds per second that a training step makes at least, on two cores: what decides whether passes or minutes end a run."""

MOST_STEPS_BACK = 240
"""Steps of the network that the default lookback takes: the lecture's 720 rows with step 3."""


def preset(name: str) -> dict[str, Any]:
    """The settings of a preset. Raises `ConfigError` for an unknown name, with the nearest one."""
    if name not in PRESETS:
        raise ConfigError(f"unknown preset {name!r}{suggestion(name, PRESETS)} (there are: {', '.join(PRESETS)})")
    return PRESETS[name]


def resolve_rows(config: Config, step: Duration) -> Config:
    """`config` with lookback and every filled in: five horizons back, in at most `MOST_STEPS_BACK` steps.

    Raises: `ConfigError` for durations that are no whole number of rows, or a lookback shorter than one step.
    """
    horizon = rows_of(config.series.horizon, step, "horizon")
    given = config.series.lookback
    lookback = rows_of(given, step, "lookback") if given is not None else max(24, min(5 * horizon, 10_000))
    wanted = config.series.every
    every = rows_of(wanted, step, "every") if wanted is not None else -(-lookback // MOST_STEPS_BACK)
    if every > lookback:
        raise ConfigError(f"every = {wanted} is longer than the lookback of {lookback} rows: choose a shorter step")
    return config.replace(lookback=given or str(lookback), every=wanted or str(every))


def resolve(config: Config, panel: Panel, split: Split, inputs: int) -> Config:
    """`config` (after `resolve_rows`) with a value for everything that was left to the program.

    What the table decides: few rows get fewer units, fewer streams and more dropout, because they are read more often.
    """
    training = config.training
    lookback = rows_of(config.series.lookback or "1", panel.step, "lookback")
    every = rows_of(config.series.every or "1", panel.step, "every")
    rows = int((split.training_ends - panel.offsets[:-1]).sum())
    windows = config.series.method == "windows"
    steps = -(-lookback // every)
    if windows and training.unroll not in (None, steps):
        raise ConfigError(
            f"unroll = {training.unroll} does not fit windows of {steps} steps: leave it out, or change lookback or every"
        )
    unroll = steps if windows else training.unroll or int(np.clip(rows // (4 * every), 16, 128))
    batch = training.batch or (64 if windows else _streams(rows // every, panel.series_count, unroll))
    changes: dict[str, Any] = {"unroll": unroll, "batch": batch}
    changes |= _sizes(config, rows)
    optimizer = training.optimizer or "adamw"
    changes["optimizer"] = optimizer
    if training.learning_rate is None:
        changes["learning_rate"] = {"muon": 0.004, "adamw": 0.003, "adagrad": 0.05, "sgd": 0.1}[optimizer]
    per_update = batch * (1 if windows else unroll)
    hidden = config.network.hidden or changes["hidden"]
    cost = _multiplications(config, hidden, inputs) * batch * unroll
    if training.block is None:
        changes["block"] = int(max(1, min(100, 0.3 * SPEED / cost, 2**26 // (4 * batch * unroll * inputs))))
    epoch = rows if windows else rows // every
    if training.epochs is not None:
        changes |= {"steps": max(1, round(training.epochs * epoch / per_update)), "epochs": None}
    elif training.minutes is None and training.steps is None:
        wanted = max(200, round(EPOCHS * epoch / per_update))
        fits = wanted * cost / SPEED < 60 * DEFAULT_MINUTES
        changes |= {"steps": wanted} if fits else {"minutes": DEFAULT_MINUTES}
    return config.replace(**changes)


def check_lengths(config: Config, panel: Panel, split: Split, source: str) -> None:
    """Refuse a horizon or a lookback that the training rows cannot serve, with what would do.

    Raises: `DataError`.
    """
    horizon = rows_of(config.series.horizon, panel.step, "horizon")
    lookback = rows_of(config.series.lookback or "1", panel.step, "lookback")
    lengths = split.training_ends - panel.offsets[:-1]
    longest, whole = int(lengths.max(initial=0)), int(np.diff(panel.offsets).max(initial=0))
    if horizon >= whole:
        raise DataError(
            f"the horizon of {horizon:,} rows is longer than the data: {source} has {whole:,} rows {panel.step} apart"
        )
    if horizon + 2 > longest:
        raise DataError(
            f"the horizon of {horizon:,} rows leaves nothing to learn from: the training part has {longest:,} rows; "
            f"choose a shorter --horizon or a --split with more training"
        )
    needed = lookback + horizon if config.series.method == "windows" else lookback + 1
    if needed > longest:
        raise DataError(
            f"{source} has fewer rows than a lookback needs: {longest:,} rows for training, but --lookback {lookback} "
            f"and --horizon {horizon} need {needed:,}; choose a shorter --lookback"
        )


def _streams(steps: int, series: int, unroll: int) -> int:
    """Streams side by side: fewer for a short table, so that it still gives many updates; more for many series."""
    if series >= 64:
        return 64
    return next((count for count, enough in ((16, 10_000), (8, 3_000)) if steps >= enough), 4)


def _sizes(config: Config, rows: int) -> dict[str, Any]:
    """Units and dropout: the fewer rows, the more often each is read, and the sooner it is learnt by heart."""
    network, changes = config.network, {}
    table: tuple[tuple[int, int, float], ...] = (
        (1_000_000, 128, 0.0),
        (20_000, 128, 0.5),
        (5_000, 64, 0.4),
        (1_000, 32, 0.3),
    )
    hidden, recurrent = next(((units, rate) for enough, units, rate in table if rows >= enough), (16, 0.2))
    chosen: dict[str, Any] = {"hidden": hidden, "recurrent_dropout": recurrent, "dropout": 0.0}
    chosen["input_dropout"] = 0.05 if rows < 1_000_000 else 0.0
    for name, value in chosen.items():
        if getattr(network, name) is None:
            changes[name] = value
    if config.training.average is None:
        changes["average"] = 0.995
    return changes


def _multiplications(config: Config, hidden: int, inputs: int) -> float:
    """Multiply-adds of one step of one sequence in training: forward, and twice that backward."""
    gates, layers = CELLS[config.network.cell].gate_blocks, config.network.layers
    weights = gates * hidden * (hidden + inputs) + (layers - 1) * 2 * gates * hidden**2
    return 3.0 * config.series.members * (weights + hidden * len(config.series.levels))

"""Forecasting as something to train on: the task that the training loop runs."""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from elman.config import Config
from elman.network import AbstractHead
from elman.series.batches import Picks, Streams, Windows
from elman.series.chunks import forecast_program
from elman.series.durations import rows_of
from elman.series.encoding import Encoding, Rows, Steps
from elman.series.model import SeriesModel, horizon_of
from elman.series.networks import ForecastNetwork
from elman.series.panel import Panel, Split
from elman.series.scoring.calibration import Calibration
from elman.series.scoring.origins import part_ranges, stretches
from elman.training.distribution import Alone

VALIDATION_LIMIT = 100_000
"""Origins of the validation part that are scored while training, in evenly spaced stretches."""


class Batch(NamedTuple):
    """What one update reads."""

    steps: Steps
    targets: Any
    scored: Any
    fresh: Any


class SeriesTask:
    """Forecasts from every step of streams, or from the last step of windows."""

    noun = "forecasts"
    of_symbols = False

    def __init__(
        self,
        panel: Panel,
        split: Split,
        encoding: Encoding,
        config: Config,
        sentinels: dict[str, list[float]] | None = None,
        group: Alone | None = None,
    ) -> None:
        self.group = group or Alone()
        training, series = config.training, config.series
        assert training.batch is not None
        assert training.unroll is not None
        self.encoding, self.config, self.batch = encoding, config, training.batch
        self.sentinels = sentinels or {}
        self.rows: Rows = encoding.rows(panel, known_until=split.validation_ends)
        self.horizon = horizon_of(config, encoding.step, encoding.target)
        self.unit_scale = float(self.rows.scale[0]) if panel.series_count == 1 else 1.0
        self.spread = panel.series_count > 1
        self.score = ("rmse" if series.forecast == "mean" else "mae") if not self.spread else "scaled_error"
        self.initial_loss = 1.0
        self.ends = split.training_ends
        self.furthest = max(encoding.ahead)
        self.windows = series.method == "windows"
        self.walk_through: Streams | Windows = self._windows(config) if self.windows else self._streams(config)
        self.part = self.group.part(self.batch)
        self.symbols_per_update = self.batch * (1 if self.windows else training.unroll)
        validation = part_ranges(panel, self.horizon, split.training_ends, split.validation_ends)
        origins = stretches(validation, VALIDATION_LIMIT)
        actual = self._ahead(origins, self.horizon.rows)
        known = ~np.isnan(actual).all(axis=1)
        self.origins, self.actual = origins[known], actual[known]
        self._program = forecast_program(encoding)
        self.calibration = Calibration(self.horizon.levels, np.zeros(self._shape))

    def _streams(self, config: Config) -> Streams:
        training = config.training
        assert training.unroll is not None
        lookback = rows_of(config.series.lookback or "1", self.encoding.step, "lookback")
        every = rows_of(config.series.every or "1", self.encoding.step, "every")
        warm_up = -(-lookback // every)
        segment = -(-(9 * warm_up) // training.unroll) * training.unroll
        return Streams(
            self.rows.offsets,
            self.ends,
            batch=self.batch,
            unroll=training.unroll,
            every=every,
            warm_up=warm_up,
            segment=segment,
            furthest=self.furthest,
            seed=training.seed,
        )

    def _windows(self, config: Config) -> Windows:
        assert config.training.unroll is not None
        return Windows(
            self.rows.offsets,
            self.ends,
            ~np.isnan(self.rows.targets),
            batch=self.batch,
            steps=config.training.unroll,
            every=rows_of(config.series.every or "1", self.encoding.step, "every"),
            furthest=self.furthest,
            seed=config.training.seed,
        )

    def in_words(self, score: float) -> str:
        """The mean error at the horizon with the target's unit, or as a share of the spread of each series."""
        if self.spread:
            return f"mean error {score:.4f} of the spread"
        name = "root mean squared error" if self.score == "rmse" else "mean absolute error"
        return f"{name} {score:.3f}"

    def initial_carry(self, network: ForecastNetwork) -> jax.Array:
        return network.initial_carry(self.batch)

    def take(self, update: int, count: int, size: int) -> Batch:
        picks = self.walk_through.take(count)
        picks = Picks(*(leaf[..., self.part] for leaf in picks))
        scored_steps = picks.scored.shape[1]
        asked = picks.rows[:, -scored_steps:]
        batch = Batch(
            steps=self.encoding.steps(self.rows, picks.rows),
            targets=self._ahead(asked, self.encoding.ahead, self.ends),
            scored=picks.scored,
            fresh=picks.fresh,
        )
        return jax.tree.map(lambda leaf: _padded(leaf, size), batch)

    def loss(
        self, network: ForecastNetwork, batch: Batch, carry: jax.Array, key: jax.Array | None
    ) -> tuple[jax.Array, jax.Array]:
        inputs = self.encoding.inputs(batch.steps)
        carry = jnp.where(batch.fresh[:, None], 0, carry)
        hiddens, carry = network.hiddens(inputs.astype(carry.dtype), carry, key=key, place=self.group.place(self.batch))
        steps = batch.targets.shape[0]  # all of a stream's, the last of a window
        values = batch.steps.values[-steps:]
        anchor = values[..., self.encoding.target_index]
        targets = batch.targets - anchor[..., None]
        scored = batch.scored[..., None]
        losses = [
            _loss(member.head, hidden[-steps:], targets, scored, self.config.training.reduction, self.group)
            for member, hidden in zip(network.members, hiddens, strict=True)
        ]
        return sum(losses[1:], losses[0]) / len(losses), carry

    def _ahead(self, origins: np.ndarray, ahead: tuple[int, ...], ends: np.ndarray | None = None) -> np.ndarray:
        """The scaled target `ahead` of each origin, on a last axis; NaN where missing or at or behind the end of its series."""
        limits = (self.rows.offsets[1:] if ends is None else ends)[self.rows.series[origins]][..., None]
        places = origins[..., None] + np.asarray(ahead)
        found = self.rows.targets[np.minimum(places, len(self.rows.targets) - 1)]
        return np.where(places < limits, found, np.float32(np.nan))

    def validate(self, network: ForecastNetwork) -> dict[str, float]:
        """Errors over the validation part, and the calibration that goes into the bundle with these weights."""
        if len(self.origins) == 0:
            return {}
        model = self._model(network, Calibration(self.horizon.levels, np.zeros(self._shape)), {})
        scaled = self._scaled(model)
        self.calibration = Calibration.fit(self.actual, scaled, self.horizon.levels)
        error = self.actual - scaled[..., self.horizon.middle]
        mean, square = float(np.nanmean(np.abs(error))), float(np.nanmean(error**2))
        chosen = square**0.5 if self.config.series.forecast == "mean" else mean
        return {"mae": mean * self.unit_scale, "rmse": square**0.5 * self.unit_scale, "scaled_error": chosen}

    @property
    def _shape(self) -> tuple[int, int]:
        return len(self.horizon.rows), len(self.horizon.levels)

    def _scaled(self, model: SeriesModel) -> np.ndarray:
        """Scaled quantiles of the asked rows at the validation origins."""
        quantiles = model.forecast_rows(self.rows, self.origins, calibrated=False)
        series = self.rows.series[self.origins]
        center, scale = self.rows.center[series], self.rows.scale[series]
        return (quantiles - center[:, None, None]) / scale[:, None, None]

    def _model(self, network: ForecastNetwork, calibration: Calibration, result: dict[str, Any]) -> SeriesModel:
        parts = network, self.encoding, calibration, self.config, result
        return SeriesModel(*parts, program=self._program, sentinels=self.sentinels)

    def sample(self, network: ForecastNetwork, carry: jax.Array, iteration: int) -> None:
        """A forecaster writes no samples."""

    def save_best(self, network: ForecastNetwork, path: Path, result: dict[str, Any]) -> None:
        self._model(network, self.calibration, result).save(path)

    def cursor(self) -> dict[str, np.ndarray]:
        return self.walk_through.cursor()

    def move_to(self, cursor: dict[str, np.ndarray]) -> None:
        self.walk_through.move_to(cursor)


def _loss(
    head: AbstractHead, hidden: jax.Array, targets: jax.Array, scored: jax.Array, reduction: str, group: Alone
) -> jax.Array:
    """The loss over what is scored and known; a missing target must not reach the arithmetic, for NaN · 0 is NaN."""
    counts = scored & ~jnp.isnan(targets)
    losses = head.loss(hidden, jnp.where(counts, targets, 0).astype(hidden.dtype))
    total = jnp.where(counts, losses, 0).sum()
    return total if reduction == "sum" else total / jnp.maximum(group.total(counts.sum()), 1)


def _padded(leaf: np.ndarray, size: int) -> np.ndarray:
    """Zeros behind the updates up to the size of a block."""
    if len(leaf) == size:
        return leaf
    return np.concatenate([leaf, np.zeros((size - len(leaf), *leaf.shape[1:]), leaf.dtype)])

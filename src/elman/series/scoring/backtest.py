"""Backtests: what would have been forecast, had one stood at each of many moments of the past.

Origins lie `stride` rows apart. Without refit the forecasters are asked as they are, which is honest if they were fitted on what
lies before the first origin. With it, all of them are fitted anew at every `refit_every`-th moment, on the rows known by then and
nothing else (`Panel.until`): time goes one way. Many series are cut at the same moment.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int64

from elman.errors import ConfigError
from elman.series.forecasting import AbstractForecaster
from elman.series.panel import Horizon, Panel
from elman.series.scoring.calibration import Calibration
from elman.series.scoring.metrics import Figures
from elman.series.scoring.moments import target_times
from elman.series.scoring.origins import part_origins, series_of, truth
from elman.series.scoring.scores import Progress, Tally, error_tables, series_scales

Refit = Callable[[AbstractForecaster, Panel, Horizon], None]
"""Fits a forecaster on all rows of the panel it is given: those known at the moment."""


def backtest(
    forecasters: Sequence[AbstractForecaster],
    panel: Panel,
    horizon: Horizon,
    *,
    start: Int64[np.ndarray, " series"],
    stride: int,
    refit_every: int | None = None,
    refit: Refit | None = None,
    calibrations: Mapping[str, Calibration] | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Forecasts at rolling origins and their scores.

    start: for each series the row of its first origin; the last is the one whose furthest target is the series' last row.
    stride: rows from one origin to the next. A stride of the horizon gives one forecast for each moment.
    refit_every: fit anew at every so many moments (the first included); the forecasters are changed by it. refit: how, if not by
    their `fit` on all known rows; a network may rather go on from what it has learned.
    calibrations: by name, applied to what a forecaster says, with the scale of `scores.series_scales` before `start`.

    Result: target, horizon, step, levels, origins (how many), refits (how many); figures (by name, those of `metrics` at the
    furthest step), path (by name, of all steps together), by_horizon, by_hour, by_month as in `scores.evaluate`, all plain
    values; and table: arrays of one entry for each origin and step: series (its number), origin (row), origin_time, time (of the
    target), step (rows ahead), actual, and forecasts (by name, `[entries, levels]`).

    Raises: `ConfigError` for a stride or refit_every below 1, and where no origin is possible.
    """
    origins = _rolling(panel, horizon, np.asarray(start), stride, refit_every)
    scales = series_scales(panel, horizon, np.asarray(start))[series_of(panel, origins)]
    forecasts = {
        forecaster.name: np.full((len(origins), len(horizon.rows), len(horizon.levels)), np.nan, np.float32)
        for forecaster in forecasters
    }
    folds = _folds(panel.times[origins], refit_every)
    done, total = 0, len(origins) * len(forecasters)
    for fold in folds:
        known = _known_at(panel, int(panel.times[origins[fold]].min())) if refit_every is not None else None
        for forecaster in forecasters:
            if known is not None:
                _fit_again(forecaster, known, horizon, refit)
            said = forecaster.forecast(panel, origins[fold])
            calibration = (calibrations or {}).get(forecaster.name)
            forecasts[forecaster.name][fold] = _calibrated(said, calibration, scales[fold])
            done += len(fold)
            if progress is not None:
                progress(done, total)
    return {
        "target": horizon.target,
        "horizon": str(panel.step * horizon.furthest),
        "step": str(panel.step),
        "levels": list(horizon.levels),
        "origins": len(origins),
        "refits": len(folds) if refit_every is not None else 0,
        **_scored(panel, horizon, origins, forecasts, scales),
        "table": _table(panel, horizon, origins, forecasts),
    }


def _rolling(panel: Panel, horizon: Horizon, start: np.ndarray, stride: int, refit_every: int | None) -> np.ndarray:
    """From `start` every `stride` rows, as far as the truth reaches; not before anything was measured."""
    for name, value in (("stride", stride), ("refit_every", refit_every)):
        if value is not None and value < 1:
            raise ConfigError(f"{name} = {value} is not possible: at least 1")
    origins = part_origins(panel, horizon, start + horizon.furthest, panel.offsets[1:])
    origins = origins[(origins - start[series_of(panel, origins)]) % stride == 0]
    if not len(origins):
        raise ConfigError(
            f"no origin is possible: after the start of the backtest no series has {horizon.furthest} more rows, "
            f"the horizon; give an earlier start or a shorter horizon"
        )
    return origins


def _folds(times: np.ndarray, refit_every: int | None) -> list[np.ndarray]:
    """Places of the origins that are asked of the same fit, in the order of time."""
    if refit_every is None:
        return [np.arange(len(times))]
    _, moment = np.unique(times, return_inverse=True)
    number = moment // refit_every
    order = np.argsort(number, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(number[order])) + 1)


def _known_at(panel: Panel, moment: int) -> Panel:
    """The rows of all series up to a moment, it included: it is the first origin's own."""
    bounds = zip(panel.offsets[:-1], panel.offsets[1:], strict=True)
    ends = [start + np.searchsorted(panel.times[start:end], moment, side="right") for start, end in bounds]
    return panel.until(np.asarray(ends, np.int64))


def _fit_again(forecaster: AbstractForecaster, known: Panel, horizon: Horizon, refit: Refit | None) -> None:
    if refit is None:
        forecaster.fit(known, horizon, known.offsets[1:])
    else:
        refit(forecaster, known, horizon)


def _calibrated(said: np.ndarray, calibration: Calibration | None, scales: np.ndarray) -> np.ndarray:
    if calibration is None:
        return said
    return calibration.apply(said, np.where(np.isnan(scales), 1.0, scales))


def _scored(
    panel: Panel, horizon: Horizon, origins: np.ndarray, forecasts: dict[str, np.ndarray], scales: np.ndarray
) -> dict[str, Any]:
    tallies: dict[str, Tally] = {}
    for name, forecast in forecasts.items():
        tallies[name] = Tally.empty(horizon)
        tallies[name].add(panel, horizon, origins, forecast, scales)
    furthest: dict[str, Figures] = {name: t.sums.figures(len(horizon.rows) - 1) for name, t in tallies.items()}
    path = {name: tally.sums.figures() for name, tally in tallies.items()}
    return {"figures": furthest, "path": path, **error_tables(horizon, tallies)}


def _table(panel: Panel, horizon: Horizon, origins: np.ndarray, forecasts: dict[str, np.ndarray]) -> dict[str, Any]:
    steps = len(horizon.rows)
    return {
        "series": np.repeat(series_of(panel, origins), steps),
        "origin": np.repeat(origins, steps),
        "origin_time": np.repeat(panel.times[origins], steps),
        "time": target_times(panel, origins, horizon.rows).ravel(),
        "step": np.tile(np.asarray(horizon.rows), len(origins)),
        "actual": truth(panel, horizon, origins).ravel(),
        "forecasts": {name: forecast.reshape(-1, forecast.shape[-1]) for name, forecast in forecasts.items()},
    }

"""Honest scores: every forecaster asked the same questions, calibrated the same way, and the best baseline named.

A forecaster is asked at every origin whose target lies in the part; what is scored is what it says there, calibrated on the
validation part (`calibration`). So on validation coverage is right by construction, and only the test part tells. Forecasts come in
chunks of at most `CHUNK_VALUES` numbers and are added up at once.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Int64

from elman.series.cleaning.units import unit_of
from elman.series.forecasting import AbstractForecaster
from elman.series.panel import Horizon, Panel, Split
from elman.series.scoring.calibration import Calibration
from elman.series.scoring.metrics import Figures, Sums, naive_scales, skill
from elman.series.scoring.moments import hours_and_months, target_times
from elman.series.scoring.origins import Ranges, evenly, part_origins, part_ranges, series_of, stretches, truth

__all__ = ["Tally", "calibrate", "evaluate", "part_origins", "series_scales", "truth", "verdict"]

Progress = Callable[[int, int], None]
"""Told how much is done, and of how much, in origins asked."""

CALIBRATION_ROWS = 200_000
CALIBRATION_VALUES = 50_000_000
"""Calibration looks at no more validation origins than the first, and forecasts than the second (200 MB): evenly spaced, always the
same. The quantiles of 200,000 scores are exact to 0.05 % at the level 0.05."""

CHUNK_VALUES = 1 << 26
"""Numbers in a chunk of forecasts: 268 MB. Large, because a network walks through the past once for each chunk."""

MOST_ORIGINS = 500_000
"""Origins of a part that are scored at most: the error of a mean over so many is below a hundredth of what it measures."""

MOST_UNANSWERED = 0.01
"""A baseline that leaves more than this share of what the main forecaster answers is never the best: it chose its questions."""


def evaluate(
    forecasters: Sequence[AbstractForecaster],
    panel: Panel,
    horizon: Horizon,
    split: Split,
    *,
    main: str,
    most: int = MOST_ORIGINS,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Scores of forecasters that are fitted already, as plain values for JSON.

    main: the name of the one that the others are baselines of. most: origins of a part that are asked; of more, evenly spaced
    stretches are taken (`origins.stretches`), the same for every forecaster.

    Result: target, unit, horizon (a duration), step, levels, rows (of the panel), main, verdict (one sentence);
    validation and test, each with the figures of `metrics` at the furthest step for main, and skill, best_baseline, baselines
    (their figures by name); baselines (by name, then by part); path (by part, then by name: the figures of all steps together);
    by_horizon, by_hour and by_month: mean absolute error on test (on validation if there is no test) by name: for each step
    ahead, for each hour of the day and each month of the target at the furthest step, in local time where the panel knows it.
    """
    names = [forecaster.name for forecaster in forecasters]
    if main not in names or len(set(names)) < len(names):
        raise ValueError(f"main = {main!r} must be one of the forecasters' names, which must all differ: {names}")
    parts = {
        "validation": stretches(part_ranges(panel, horizon, split.training_ends, split.validation_ends), most),
        "test": stretches(part_ranges(panel, horizon, split.validation_ends, panel.offsets[1:]), most),
    }
    scales = series_scales(panel, horizon, split.training_ends)
    total = len(forecasters) * sum(len(origins) for origins in parts.values())
    tallies: dict[str, dict[str, Tally]] = {part: {} for part in parts}
    done = 0
    for forecaster in forecasters:
        calibration, held = calibrate(forecaster, panel, horizon, parts["validation"], scales)
        for part, origins in parts.items():
            tally = Tally.empty(horizon)
            for chunk in _chunks(origins, horizon):
                forecast = held if part == "validation" and held is not None else forecaster.forecast(panel, chunk)
                row_scales = scales[series_of(panel, chunk)]
                tally.add(panel, horizon, chunk, calibration.apply(forecast, _usable(row_scales)), row_scales)
                panel.release()
                done += len(chunk)
                if progress is not None:
                    progress(done, total)
            tallies[part][forecaster.name] = tally
    return _report(panel, horizon, tallies, main)


def calibrate(
    forecaster: AbstractForecaster,
    panel: Panel,
    horizon: Horizon,
    origins: "Int64[np.ndarray, ' origins'] | Ranges",
    scales: np.ndarray,
) -> tuple[Calibration, np.ndarray | None]:
    """The calibration of a forecaster at validation origins; and its forecasts there, if they were few enough to ask for all.

    scales: of each series (`series_scales`), so that series of all sizes are calibrated together.
    """
    if not len(origins):
        return Calibration(horizon.levels, np.zeros((len(horizon.rows), len(horizon.levels)))), None
    values = len(horizon.rows) * len(horizon.levels)
    chosen = evenly(origins, min(CALIBRATION_ROWS, max(CALIBRATION_VALUES // values, 1)))
    forecast = forecaster.forecast(panel, chosen)
    actual = truth(panel, horizon, chosen)
    row_scales = _usable(scales[series_of(panel, chosen)])
    calibration = Calibration.fit(actual, forecast, horizon.levels, row_scales)
    return calibration, forecast if len(chosen) == len(origins) else None


def series_scales(panel: Panel, horizon: Horizon, training_ends: Int64[np.ndarray, " series"]) -> np.ndarray:
    """What errors of each series are measured in: the mean absolute one-step change of its training part; NaN if it has none."""
    return naive_scales(panel.column(horizon.target), panel.offsets, training_ends, behind=panel.release)


@dataclass(eq=False)
class Tally:
    """Sums of a forecaster's errors: by step, and those at the furthest step by hour of the day and by month."""

    sums: Sums
    by_hour: np.ndarray = field(default_factory=lambda: np.zeros((24, 2)))
    by_month: np.ndarray = field(default_factory=lambda: np.zeros((12, 2)))

    @classmethod
    def empty(cls, horizon: Horizon) -> "Tally":
        """Nothing counted yet."""
        return cls(Sums.empty(len(horizon.rows), horizon.levels))

    def add(
        self,
        panel: Panel,
        horizon: Horizon,
        origins: np.ndarray,
        forecast: np.ndarray,
        scales: np.ndarray | None = None,
    ) -> None:
        """Count in the forecasts at some origins; `scales`: of each origin's series, for mase."""
        actual = truth(panel, horizon, origins)
        self.sums.add(actual, forecast, scales)
        error = np.abs(actual[:, -1].astype(np.float64) - forecast[:, -1, horizon.middle])
        there = ~np.isnan(error)
        moments = target_times(panel, origins[there], horizon.rows[-1:])[:, 0]
        hours, months = hours_and_months(moments, panel.time_zone)
        for table, place in ((self.by_hour, hours), (self.by_month, months)):
            table[:, 0] += np.bincount(place, error[there], minlength=len(table))
            table[:, 1] += np.bincount(place, minlength=len(table))

    def hourly(self) -> list[float | None]:
        """Mean absolute error for each hour of the day, None where nothing was forecast."""
        return _means(self.by_hour)

    def monthly(self) -> list[float | None]:
        """Mean absolute error for each month."""
        return _means(self.by_month)

    def by_step(self) -> list[float | None]:
        """Mean absolute error for each step of the horizon."""
        return [self.sums.figures(step)["mae"] for step in range(len(self.sums.count))]


def error_tables(horizon: Horizon, tallies: dict[str, Tally]) -> dict[str, Any]:
    """by_horizon, by_hour, by_month of `evaluate`."""
    return {
        "by_horizon": {"rows": list(horizon.rows), "mae": {name: tally.by_step() for name, tally in tallies.items()}},
        "by_hour": {"hours": list(range(24)), "mae": {name: tally.hourly() for name, tally in tallies.items()}},
        "by_month": {"months": list(range(1, 13)), "mae": {name: tally.monthly() for name, tally in tallies.items()}},
    }


def compared(figures: dict[str, Figures], main: str) -> dict[str, Any]:
    """The figures of main, with skill, best_baseline and baselines. The best one is that of the least mae on the same part."""
    own = figures[main]
    baselines = {name: of_one for name, of_one in figures.items() if name != main}
    wanted = (1 - MOST_UNANSWERED) * (own["count"] or 0)
    complete = {name: of_one["mae"] for name, of_one in baselines.items() if (of_one["count"] or 0) >= wanted}
    answered = {name: error for name, error in complete.items() if error is not None}
    best = min(answered, key=lambda name: answered[name]) if answered else None
    better = None if best is None else skill(own["mae"], answered[best])
    return {**own, "skill": better, "best_baseline": best, "baselines": baselines}


def verdict(scores: dict[str, Any], main: str, target: str, horizon: str) -> str:
    """One sentence that says who wins; where a baseline does, it says so at once.

    scores: of one part, as `compared` gives them.

        >>> scores = compared({"network": {"mae": 2.2, "count": 9}, "drift": {"mae": 2.0, "count": 9}}, "network")
        >>> verdict(scores, "network", "T (degC)", "24h").split(":")[0]
        'NOT better than drift'
    """
    error, best = scores["mae"], scores["best_baseline"]
    unit = f" {unit_of(target)}" if unit_of(target) else ""
    if error is None:
        return f"the {main} could not be scored {horizon} ahead: no forecast has a truth to compare it with"
    said = f"{horizon} ahead with a mean absolute error of {_three_digits(error)}{unit}"
    if best is None:
        return f"the {main} forecasts {said}; there is no baseline to compare it with"
    other = scores["baselines"][best]["mae"]
    if error >= other:
        return (
            f"NOT better than {best}: the baseline wins with a mean absolute error of {_three_digits(other)}{unit}, "
            f"the {main} forecasts {said}"
        )
    percent = 100 * scores["skill"]
    shown = f"{percent:.0f}" if percent >= 1 else f"{percent:.2g}"
    return f"the {main} forecasts {said}, {shown} % better than the best baseline, {best} ({_three_digits(other)})"


def _three_digits(number: float) -> str:
    """2.3 as "2.30", 1234 as "1.23e+03"."""
    return f"{number:#.3g}".removesuffix(".")


def _report(panel: Panel, horizon: Horizon, tallies: dict[str, dict[str, Tally]], main: str) -> dict[str, Any]:
    last = len(horizon.rows) - 1
    figures = {part: {name: t.sums.figures(last) for name, t in named.items()} for part, named in tallies.items()}
    parts = {part: compared(named, main) for part, named in figures.items()}
    shown = "test" if parts["test"]["count"] else "validation"
    length = str(panel.step * horizon.furthest)
    baselines = [name for name in figures["test"] if name != main]
    return {
        "target": horizon.target,
        "unit": unit_of(horizon.target),
        "horizon": length,
        "step": str(panel.step),
        "levels": list(horizon.levels),
        "rows": panel.row_count,
        "main": main,
        "verdict": verdict(parts[shown], main, horizon.target, length),
        **parts,
        "baselines": {name: {part: figures[part][name] for part in parts} for name in baselines},
        "path": {part: {name: t.sums.figures() for name, t in named.items()} for part, named in tallies.items()},
        **error_tables(horizon, tallies[shown]),
    }


def _chunks(origins: np.ndarray, horizon: Horizon) -> list[np.ndarray]:
    """Never smaller than what calibration may hold, so that held forecasts are one chunk."""
    count = max(CHUNK_VALUES // (len(horizon.rows) * len(horizon.levels)), 1)
    return [origins[start : start + count] for start in range(0, len(origins), count)]


def _usable(scales: np.ndarray) -> np.ndarray:
    """1 where a series has no scale: its errors are as large as they are."""
    return np.where(np.isnan(scales), 1.0, scales)


def _means(table: np.ndarray) -> list[float | None]:
    return [float(total / count) if count else None for total, count in table]

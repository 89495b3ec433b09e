"""What a trained forecaster scored, and examples of its forecasts: `evaluation.json`, from which reports and pictures are made."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from elman.series.cleaning.findings import DataReport
from elman.series.forecasting import AbstractForecaster
from elman.series.model import SeriesModel
from elman.series.panel import Horizon, Panel, Split
from elman.series.run import EVALUATION_NAME, SeriesRun
from elman.series.scoring.moments import local_times, target_times
from elman.series.scoring.origins import Ranges, part_ranges, series_of, truth
from elman.series.scoring.scores import evaluate
from elman.series.succession import Succession
from elman.training.progress import Reporter
from elman.training.storage import write_atomically

FANS = 4
MOST_ON_THE_WAY = 1000
SLICE_ROWS = 336
"""Rows of a slice of forecasts against what came: two weeks of hours."""


def write_evaluation(
    run: SeriesRun,
    panel: Panel,
    split: Split,
    report: DataReport | None,
    baselines: Sequence[AbstractForecaster],
    reporter: Reporter,
) -> dict[str, Any]:
    """Score the run's best model beside the fitted `baselines`, write `evaluation.json` and return what is in it."""
    result = evaluation_of(run.forecaster(split), panel, split, report, baselines, reporter)
    write_atomically(run.path / EVALUATION_NAME, json.dumps(result, ensure_ascii=False, allow_nan=False).encode())
    return result


def evaluation_of(
    model: SeriesModel | Succession,
    panel: Panel,
    split: Split,
    report: DataReport | None,
    baselines: Sequence[AbstractForecaster],
    reporter: Reporter,
) -> dict[str, Any]:
    """The scores of `scores.evaluate` with fans, slices and the data report, as plain values."""

    def progress(done: int, total: int) -> None:
        reporter.working("scoring", done / max(1, total))

    horizon = model.horizon
    scores = evaluate([model, *baselines], panel, horizon, split, main=model.name, progress=progress)
    reporter.pause()
    shown = "test" if scores["test"]["count"] else "validation"
    starts = split.validation_ends if shown == "test" else split.training_ends
    ends = panel.offsets[1:] if shown == "test" else split.validation_ends
    origins = part_ranges(panel, horizon, starts, ends)
    best = scores[shown]["best_baseline"]
    baseline = next((one for one in baselines if one.name == best), None)
    return {
        **scores,
        "fans": fans(model, panel, evenly_spaced(origins, FANS)),
        "slices": _slices(model, baseline, panel, origins),
        **({"data": report.to_dict()} if report is not None else {}),
    }


def evenly_spaced(origins: np.ndarray | Ranges, count: int) -> np.ndarray:
    """`count` origins spread over all of them, the last one among them."""
    if len(origins) <= count:
        return origins[:]
    return origins[np.linspace(len(origins) // (2 * count), len(origins) - 1, count).astype(int)]


def fans(model: SeriesModel | Succession, panel: Panel, origins: np.ndarray) -> list[dict[str, Any]]:
    """The forecasts at some origins, each with its history and with what came, where it is known.

    A model of one horizon says one number at each origin; what it said at the origins before, each as far ahead, fills the way;
    `each_before` then says how far.
    """
    horizon = model.horizon
    if len(horizon.rows) > 1:
        said = model.forecast(panel, origins)
        answers = [(horizon, quantiles) for quantiles in said]
    else:
        answers = [_on_the_way(model, panel, int(origin)) for origin in origins]
    each = {} if len(horizon.rows) > 1 else {"each_before": str(panel.step * horizon.furthest)}
    return [
        {**fan(panel, asked, int(origin), quantiles, truth(panel, asked, np.asarray([origin]))[0]), **each}
        for origin, (asked, quantiles) in zip(origins, answers, strict=True)
    ]


def _on_the_way(model: SeriesModel | Succession, panel: Panel, origin: int) -> tuple[Horizon, np.ndarray]:
    """The forecasts for every row up to the horizon, each made a horizon before; as many as the series has origins for."""
    horizon = model.horizon
    begin = int(panel.offsets[series_of(panel, np.asarray([origin]))[0]])
    count = min(horizon.furthest, origin + 1 - begin, MOST_ON_THE_WAY)
    earlier = np.arange(origin + 1 - count, origin + 1)
    rows = tuple(range(horizon.furthest + 1 - count, horizon.furthest + 1))
    return Horizon(horizon.target, rows, horizon.levels), model.forecast(panel, earlier)[:, 0]


def fan(
    panel: Panel, horizon: Horizon, origin: int, quantiles: np.ndarray, actual: np.ndarray | None
) -> dict[str, Any]:
    """One forecast as plain values: series, origin, history, times, levels, quantiles, actual."""
    series = int(series_of(panel, np.asarray([origin]))[0])
    begin = max(int(panel.offsets[series]), origin + 1 - max(48, 4 * horizon.furthest))
    column = panel.column(horizon.target)
    known = actual is not None and not np.isnan(actual).all()
    return {
        "series": panel.names[series],
        "origin": _iso(panel, panel.times[origin : origin + 1])[0],
        "history": {
            "times": _iso(panel, panel.times[begin : origin + 1]),
            "values": _numbers(column[begin : origin + 1]),
        },
        "times": _iso(panel, target_times(panel, np.asarray([origin]), horizon.rows)[0]),
        "levels": list(horizon.levels),
        "quantiles": [_numbers(row) for row in quantiles],
        "actual": _numbers(actual) if known and actual is not None else None,
    }


def _slices(
    model: SeriesModel | Succession,
    baseline: AbstractForecaster | None,
    panel: Panel,
    origins: Ranges,
) -> list[dict[str, Any]]:
    """Two stretches of forecasts made at the horizon, one after the other, against what came: in the middle and at the end."""
    result: list[dict[str, Any]] = []
    if not len(origins):
        return result
    horizon = model.horizon
    for place in (len(origins) // 2, len(origins) - 1):
        series = series_of(panel, origins[place : place + 1])[0]
        own = origins[max(0, place - SLICE_ROWS + 1) : place + 1]
        own = own[series_of(panel, own) == series]
        quantiles = model.forecast(panel, own)[:, -1]
        actual = truth(panel, horizon, own)[:, -1]
        result.append(
            {
                "series": panel.names[series],
                "times": _iso(panel, target_times(panel, own, horizon.rows[-1:])[:, 0]),
                "levels": list(horizon.levels),
                "quantiles": [_numbers(row) for row in quantiles],
                "actual": _numbers(actual),
                "baseline": None if baseline is None else _line(baseline, panel, own, horizon.middle),
            }
        )
        if len(origins) < 2 * SLICE_ROWS:
            return result[-1:]
    return result


def _line(baseline: AbstractForecaster, panel: Panel, origins: np.ndarray, middle: int) -> dict[str, Any]:
    """A baseline's point forecasts at the horizon."""
    return {"name": baseline.name, "values": _numbers(baseline.forecast(panel, origins)[:, -1, middle])}


def _iso(panel: Panel, times: np.ndarray) -> list[str]:
    """Times as text, by the local clock where the zone is known."""
    return local_times(times, panel.time_zone).astype("datetime64[us]").astype("datetime64[s]").astype(str).tolist()


def _numbers(values: np.ndarray) -> list[float | None]:
    """Plain numbers in as many digits as float32 has; None for NaN."""
    return [None if np.isnan(value) else float(f"{value:.7g}") for value in np.asarray(values, np.float64)]

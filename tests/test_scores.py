"""Scores: everybody is asked the same, figures equal those computed at once, and a winning baseline is named first."""

import json
from dataclasses import replace

import numpy as np
import pytest

import elman.series.scoring.scores as scores
from elman.series.baselines.simple import Drift, Persistence, SeasonalNaive, default_baselines
from elman.series.forecasting import AbstractForecaster
from elman.series.panel import Horizon, Panel, Split
from elman.series.scoring.calibration import Calibration
from elman.series.scoring.metrics import figures, naive_scales
from elman.series.scoring.origins import part_origins, series_of, truth
from elman.series.scoring.scores import Tally, calibrate, compared, error_tables, evaluate, series_scales, verdict
from forecaster_contract import HORIZON, HOUR, example_panel


class Oracle:
    """Knows the truth, and misses it by a share of the distance to the last value."""

    def __init__(self, miss: float = 0.0, name: str = "network") -> None:
        self.miss, self.name = miss, name

    def fit(self, panel: Panel, horizon: Horizon, training_ends: np.ndarray) -> None:
        self.horizon = horizon

    def forecast(self, panel: Panel, origins: np.ndarray) -> np.ndarray:
        last = panel.column(self.horizon.target)[origins][:, None]
        point = truth(panel, self.horizon, origins) * (1 - self.miss) + self.miss * last
        return point[:, :, None] + np.linspace(-0.01, 0.01, len(self.horizon.levels), dtype=np.float32)


def split_of(panel: Panel) -> Split:
    return Split.of(panel, "50/25/25")


def fitted(forecasters: list[AbstractForecaster], panel: Panel, horizon: Horizon = HORIZON) -> list[AbstractForecaster]:
    for forecaster in forecasters:
        forecaster.fit(panel, horizon, split_of(panel).training_ends)
    return forecasters


def test_figures_equal_those_computed_at_once() -> None:
    panel = example_panel(missing=0.1)
    split = split_of(panel)
    found = evaluate(fitted([Oracle(0.5), Persistence()], panel), panel, HORIZON, split, main="network")
    validation = part_origins(panel, HORIZON, split.training_ends, split.validation_ends)
    test = part_origins(panel, HORIZON, split.validation_ends, panel.offsets[1:])
    scales = naive_scales(panel.column("y"), panel.offsets, split.training_ends)
    forecaster = fitted([Persistence()], panel)[0]
    calibration = Calibration.fit(
        truth(panel, HORIZON, validation),
        forecaster.forecast(panel, validation),
        HORIZON.levels,
        scales[series_of(panel, validation)],
    )
    of_test = scales[series_of(panel, test)]
    forecast = calibration.apply(forecaster.forecast(panel, test), of_test)
    actual = truth(panel, HORIZON, test)
    expected = figures(actual[:, -1:], forecast[:, -1:], HORIZON.levels, of_test)
    assert found["test"]["baselines"]["persistence"] == pytest.approx(expected)
    assert found["baselines"]["persistence"]["test"] == pytest.approx(expected)
    assert found["path"]["test"]["persistence"] == pytest.approx(figures(actual, forecast, HORIZON.levels, of_test))
    assert found["by_horizon"]["rows"] == [1, 3, 24]
    for step, error in enumerate(found["by_horizon"]["mae"]["persistence"]):
        assert error == pytest.approx(figures(actual[:, step], forecast[:, step], HORIZON.levels)["mae"])


def test_hours_and_months_are_those_of_the_target() -> None:
    panel = replace(example_panel((900,), missing=0.1), time_zone="Asia/Kolkata")
    split = split_of(panel)
    forecaster = fitted([Persistence()], panel)[0]
    found = evaluate([forecaster], panel, HORIZON, split, main="persistence")
    test = part_origins(panel, HORIZON, split.validation_ends, panel.offsets[1:])
    error = np.abs(truth(panel, HORIZON, test)[:, -1] - forecaster.forecast(panel, test)[:, -1, 2])
    shown = (panel.times[test] + 24 * HOUR + 5.5 * HOUR).astype(np.int64).astype("datetime64[us]")
    hours = (shown - shown.astype("datetime64[D]")).astype("timedelta64[h]").astype(int)
    for hour in range(24):
        assert found["by_hour"]["mae"]["persistence"][hour] == pytest.approx(np.nanmean(error[hours == hour]))
    months = shown.astype("datetime64[M]").astype(int) % 12
    expected = [np.nanmean(error[months == month]) if (months == month).any() else None for month in range(12)]
    assert found["by_month"]["months"] == list(range(1, 13))
    assert found["by_month"]["mae"]["persistence"] == pytest.approx(expected)


def test_result_is_plain_and_complete() -> None:
    panel = example_panel()
    forecasters = fitted([Oracle(0.2), *default_baselines(panel, HORIZON, split_of(panel).training_ends)], panel)
    heard: list[tuple[int, int]] = []
    found = evaluate(
        forecasters, panel, HORIZON, split_of(panel), main="network", progress=lambda *done: heard.append(done)
    )
    again = json.loads(json.dumps(found, allow_nan=False))
    assert again == found
    assert heard[-1][0] == heard[-1][1]
    keys = (
        "target unit horizon step levels rows main verdict validation test baselines path by_horizon by_hour by_month"
    )
    assert list(found) == keys.split()
    assert set(found["test"]) == {
        *figures(np.zeros(1), np.zeros((1, 1)), (0.5,)),
        "skill",
        "best_baseline",
        "baselines",
    }
    assert found["horizon"] == "24h"
    best = min(found["baselines"], key=lambda name: found["baselines"][name]["test"]["mae"])
    assert found["test"]["best_baseline"] == best
    assert found["test"]["skill"] == pytest.approx(1 - found["test"]["mae"] / found["baselines"][best]["test"]["mae"])
    assert found["verdict"].startswith("the network forecasts 24h ahead with a mean absolute error of ")
    assert f"better than the best baseline, {best} (" in found["verdict"]


def test_a_winning_baseline_is_said_first() -> None:
    panel = example_panel()
    found = evaluate(
        fitted([Oracle(3.0), Persistence(), Drift()], panel), panel, HORIZON, split_of(panel), main="network"
    )
    assert found["verdict"].startswith(f"NOT better than {found['test']['best_baseline']}: the baseline wins with ")
    assert found["test"]["skill"] < 0
    # As good is not better.
    draw = evaluate(fitted([Oracle(1.0), Persistence()], panel), panel, HORIZON, split_of(panel), main="network")
    assert draw["verdict"].startswith("NOT better than persistence")


def test_verdict_names_unit_and_exceptions() -> None:
    two = {"network": {"mae": 2.21, "count": 10}, "ridge on lags": {"mae": 2.38, "count": 10}}
    assert verdict(compared(two, "network"), "network", "T (degC)", "24h") == (
        "the network forecasts 24h ahead with a mean absolute error of 2.21 degC, "
        "7 % better than the best baseline, ridge on lags (2.38)"
    )
    alone = compared({"network": {"mae": 2.0, "count": 10}}, "network")
    assert "no baseline" in verdict(alone, "network", "y", "24h")
    nothing = compared({"network": {"mae": None, "count": 0}}, "network")
    assert "could not be scored" in verdict(nothing, "network", "y", "24h")


def test_a_baseline_that_chooses_its_questions_is_not_the_best() -> None:
    three = {
        "network": {"mae": 2.0, "count": 1000},
        "picky": {"mae": 0.1, "count": 900},
        "drift": {"mae": 3.0, "count": 995},
    }
    assert compared(three, "network")["best_baseline"] == "drift"


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    panel = example_panel(missing=0.1)
    forecasters = fitted([Persistence(), SeasonalNaive("day")], panel)
    whole = evaluate(forecasters, panel, HORIZON, split_of(panel), main="persistence")
    monkeypatch.setattr(scores, "CHUNK_VALUES", 50 * 15)
    monkeypatch.setattr(scores, "CALIBRATION_VALUES", 50 * 15)
    pieces = evaluate(forecasters, panel, HORIZON, split_of(panel), main="persistence")
    for name in ("mae", "rmse", "mase", "bias", "count"):
        assert pieces["test"][name] == pytest.approx(whole["test"][name])
    assert pieces["by_hour"]["mae"] == {name: pytest.approx(errors) for name, errors in whole["by_hour"]["mae"].items()}


def test_calibrated_intervals_cover_the_validation_part() -> None:
    """k / n of the scores at most lie below the k-th: exactly the level, up to one row on each side."""
    panel = example_panel()
    split = split_of(panel)
    found = evaluate(fitted([Oracle(0.5), Persistence()], panel), panel, HORIZON, split, main="network")
    count = found["validation"]["count"]
    for of_one in (found["validation"], found["validation"]["baselines"]["persistence"]):
        assert 0.9 - 2 / count <= of_one["coverage"] <= 0.9 + 4 / count


def test_without_a_part_there_are_no_figures() -> None:
    panel = example_panel((400,))
    split = Split.of(panel, "80/0/20")
    forecaster = Persistence()
    forecaster.fit(panel, HORIZON, split.training_ends)
    found = evaluate([forecaster], panel, HORIZON, split, main="persistence")
    assert found["validation"]["mae"] is None
    assert found["test"]["count"] > 0
    calibration, held = calibrate(
        forecaster, panel, HORIZON, np.zeros(0, np.int64), series_scales(panel, HORIZON, split.training_ends)
    )
    assert not calibration.shifts.any()
    assert held is None
    with pytest.raises(ValueError, match="must all differ"):
        evaluate([forecaster, forecaster], panel, HORIZON, split, main="persistence")


def test_tally_counts_what_has_a_truth() -> None:
    panel = example_panel((100,), missing=0.2)
    tally = Tally.empty(HORIZON)
    origins = np.arange(40, 90)
    tally.add(panel, HORIZON, origins, np.zeros((50, 3, 5), np.float32))
    there = ~np.isnan(truth(panel, HORIZON, origins))
    assert [tally.sums.figures(step)["count"] for step in range(3)] == there.sum(axis=0).tolist()
    assert tally.by_hour[:, 1].sum() == tally.by_month[:, 1].sum() == there[:, -1].sum()
    tables = error_tables(HORIZON, {"zero": tally})
    assert tables["by_horizon"]["mae"]["zero"] == tally.by_step()
    assert tables["by_hour"]["mae"]["zero"] == tally.hourly()
    assert tables["by_month"]["mae"]["zero"] == tally.monthly()

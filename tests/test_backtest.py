"""Backtests: rolling origins, fitted on nothing but what was known, scored like everything else."""

import json
from dataclasses import replace

import numpy as np
import pytest

from elman.errors import ConfigError
from elman.series.baselines.climatology import Climatology
from elman.series.baselines.ridge import RidgeOnLags
from elman.series.baselines.simple import Drift, Persistence
from elman.series.panel import Horizon, Panel
from elman.series.scoring.backtest import backtest
from elman.series.scoring.calibration import Calibration
from elman.series.scoring.metrics import figures
from forecaster_contract import HORIZON, example_panel


class Recorder(Persistence):
    """Remembers what it was fitted on."""

    def __init__(self) -> None:
        self.seen: list[tuple[Panel, np.ndarray]] = []

    def learn(self, panel: Panel, horizon: Horizon, training_ends: np.ndarray) -> None:
        self.seen.append((panel, training_ends))


def start_of(panel: Panel) -> np.ndarray:
    return panel.offsets[:-1] + np.diff(panel.offsets) // 2


def test_origins_roll_and_forecasts_are_those_asked_directly() -> None:
    panel = example_panel(missing=0.1)
    start = start_of(panel)
    forecasters = [Persistence(), Climatology()]
    for forecaster in forecasters:
        forecaster.fit(panel, HORIZON, start)
    found = backtest(forecasters, panel, HORIZON, start=start, stride=24)
    table = found["table"]
    origins = np.concatenate([np.arange(a, b - 24, 24) for a, b in zip(start, panel.offsets[1:], strict=True)])
    np.testing.assert_array_equal(table["origin"], np.repeat(origins, 3))
    np.testing.assert_array_equal(table["step"], np.tile([1, 3, 24], len(origins)))
    np.testing.assert_array_equal(table["actual"], panel.column("y")[table["origin"] + table["step"]])
    np.testing.assert_array_equal(table["time"], panel.times[table["origin"] + table["step"]])
    np.testing.assert_array_equal(table["origin_time"], panel.times[table["origin"]])
    np.testing.assert_array_equal(table["series"], panel.series_of_rows()[table["origin"]])
    for forecaster in forecasters:
        expected = forecaster.forecast(panel, origins)
        np.testing.assert_array_equal(table["forecasts"][forecaster.name].reshape(expected.shape), expected)
        last = table["step"] == 24
        scored = figures(table["actual"][last], table["forecasts"][forecaster.name][last], HORIZON.levels)
        assert found["figures"][forecaster.name]["mae"] == pytest.approx(scored["mae"])
        assert found["figures"][forecaster.name]["width"] == pytest.approx(scored["width"])
    assert found["refits"] == 0
    assert found["origins"] == len(origins)
    plain = {name: value for name, value in found.items() if name != "table"}
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    keys = "target horizon step levels origins refits figures path by_horizon by_hour by_month table"
    assert list(found) == keys.split()


def test_refit_sees_only_what_was_known() -> None:
    panel = example_panel((700, 500))
    start = start_of(panel)
    recorder = Recorder()
    heard: list[tuple[int, int]] = []
    found = backtest(
        [recorder], panel, HORIZON, start=start, stride=20, refit_every=4, progress=lambda *done: heard.append(done)
    )
    assert found["refits"] == len(recorder.seen)
    table = found["table"]
    moments = np.unique(table["origin_time"])
    assert found["refits"] == -(-len(moments) // 4)
    for number, (known, ends) in enumerate(recorder.seen):
        np.testing.assert_array_equal(ends, known.offsets[1:])
        # The first moment of the fold is the last that is known, in every series that was running then.
        assert known.times.max() == moments[4 * number]
    assert heard[-1] == (found["origins"], found["origins"])


def test_refit_leaks_nothing() -> None:
    """Everything behind the second fit is changed: the forecasts before it stay, to the bit."""
    panel = example_panel((800,))
    start = start_of(panel)
    forecaster = RidgeOnLags()
    first = backtest([forecaster], panel, HORIZON, start=start, stride=50, refit_every=2)["table"]
    late = start[0] + 150
    changed = replace(panel, values=np.where(np.arange(800)[:, None] > late, np.float32(1e4), panel.values))
    second = backtest([forecaster], changed, HORIZON, start=start, stride=50, refit_every=2)["table"]
    before = first["origin"] <= late
    assert before.sum() == 4 * 3
    for name in first["forecasts"]:
        np.testing.assert_array_equal(first["forecasts"][name][before], second["forecasts"][name][before])
    assert not np.array_equal(first["forecasts"]["ridge on lags"], second["forecasts"]["ridge on lags"])


def test_each_fold_is_forecast_by_its_own_fit() -> None:
    panel = example_panel((600,))
    start = start_of(panel)
    found = backtest([Climatology()], panel, HORIZON, start=start, stride=60, refit_every=1)["table"]
    for origin in (300, 420, 540):
        forecaster = Climatology()
        forecaster.fit(panel.until(np.array([origin + 1])), HORIZON, np.array([origin + 1]))
        expected = forecaster.forecast(panel, np.array([origin]))[0]
        np.testing.assert_array_equal(found["forecasts"]["climatology"][found["origin"] == origin], expected)


def test_refit_may_be_told_how() -> None:
    panel = example_panel((400,))
    rows: list[int] = []

    def refit(forecaster: object, known: Panel, horizon: Horizon) -> None:
        rows.append(known.row_count)
        assert isinstance(forecaster, Drift)
        forecaster.fit(known, horizon, known.offsets[1:])

    backtest([Drift()], panel, HORIZON, start=np.array([200]), stride=40, refit_every=2, refit=refit)
    assert rows == [201, 281, 361]


def test_calibrations_are_applied() -> None:
    panel = example_panel((400,))
    forecaster = Persistence()
    forecaster.fit(panel, HORIZON, np.array([200]))
    shifts = np.tile([-1.0, 0, 0, 0, 1.0], (3, 1))
    wider = backtest(
        [forecaster],
        panel,
        HORIZON,
        start=np.array([200]),
        stride=40,
        calibrations={"persistence": Calibration(HORIZON.levels, shifts)},
    )
    plain = backtest([forecaster], panel, HORIZON, start=np.array([200]), stride=40)
    scale = np.abs(np.diff(panel.column("y")[:200].astype(float))).mean()
    found = wider["figures"]["persistence"]["width"] - plain["figures"]["persistence"]["width"]
    assert found == pytest.approx(2 * scale, rel=1e-5)


def test_impossible_settings_are_said() -> None:
    panel = example_panel((100,))
    forecaster = Persistence()
    forecaster.fit(panel, HORIZON, np.array([50]))
    with pytest.raises(ConfigError, match="stride = 0"):
        backtest([forecaster], panel, HORIZON, start=np.array([50]), stride=0)
    with pytest.raises(ConfigError, match="refit_every = -1"):
        backtest([forecaster], panel, HORIZON, start=np.array([50]), stride=1, refit_every=-1)
    with pytest.raises(ConfigError, match="no origin is possible"):
        backtest([forecaster], panel, HORIZON, start=np.array([90]), stride=1)

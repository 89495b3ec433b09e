"""Training a forecaster from table to scores: near the best possible, honest intervals, no leak, resumed bit for bit."""

import functools
import math
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from elman.series import trainer
from elman.series.durations import Duration
from elman.series.model import SeriesModel
from elman.series.panel import Panel, Split
from elman.series.run import CHOSEN_NAME, SeriesRun
from elman.series.trainer import resume_series, train_series
from elman.training.engine import use_compilation_cache
from elman.training.progress import Reporter, Status
from elman.training.storage import read_arrays

# y_t = level + 2.5 · day's sine + s_t,  s_t = 0.7 s_(t-1) + e_t,  e_t ~ N(0, 1). The best forecast 3 rows ahead knows the sine and
# says 0.7³ of what the day leaves over; its error is normal with variance 1 + 0.7² + 0.7⁴.
KEEP, AHEAD, DAY = 0.7, 3, 24
BEST_VARIANCE = sum(KEEP ** (2 * k) for k in range(AHEAD))
BEST_MAE = math.sqrt(2 / math.pi * BEST_VARIANCE)

SETTINGS: dict[str, Any] = {
    "target": "y",
    "horizon": str(AHEAD),
    "lookback": "24",
    "hidden": 12,
    "steps": 300,
    "batch": 8,
    "unroll": 32,
    "learning_rate": 0.01,
    "recurrent_dropout": 0.0,
    "input_dropout": 0.0,
    "levels": (0.05, 0.25, 0.5, 0.75, 0.95),
    "split": "60/20/20",
    "calendar": ("hour",),
    "baselines": False,
    "validate_every": 0,
}

SHORT: dict[str, Any] = {
    **SETTINGS,
    "hidden": 5,
    "steps": 60,
    "batch": 3,
    "unroll": 8,
    "lookback": "6",
    "block": 7,
    "checkpoint_every": 10,
    "validate_every": 20,
}


def day(count: int) -> np.ndarray:
    return 2.5 * np.sin(2 * np.pi * np.arange(count) / DAY)


def process(count: int, seed: int) -> np.ndarray:
    """The series above, without level."""
    noise, state = np.random.default_rng(seed).standard_normal(count + 100), 0.0
    result = np.empty(count + 100)
    for row in range(count + 100):
        state = KEEP * state + noise[row]
        result[row] = state
    return day(count) + result[100:]


def frame_of(values: np.ndarray) -> pl.DataFrame:
    times = [datetime(2021, 3, 1) + timedelta(hours=row) for row in range(len(values))]
    return pl.DataFrame({"time": times, "y": values})


def panel_of(*series: np.ndarray, names: tuple[str, ...] = ("",)) -> Panel:
    start = int(np.datetime64("2021-03-01", "us").astype(np.int64))
    hour = 3_600_000_000
    lengths = [len(values) for values in series]
    return Panel(
        columns=("y",),
        values=np.concatenate(series)[:, None].astype(np.float32),
        times=np.concatenate([start + hour * np.arange(length) for length in lengths]),
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        step=Duration(hour),
        names=names,
    )


def best_errors(values: np.ndarray, origins: np.ndarray, scale: float = 1.0, level: float = 0.0) -> np.ndarray:
    """The errors of the best forecast there is."""
    cycle = level + scale * day(len(values))
    return values[origins + AHEAD] - cycle[origins + AHEAD] - KEEP**AHEAD * (values[origins] - cycle[origins])


@pytest.fixture(scope="module", autouse=True)
def one_cache(compiled_cache: Path) -> Iterator[None]:
    """Each program is compiled once: a run in a cache folder of another name would not find what is there.

    Nothing is scored at the end: that compiles as much again, and these tests ask the model themselves.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "write_evaluation", lambda *parts: None)
        patch.setattr(trainer, "use_compilation_cache", functools.partial(use_compilation_cache, compiled_cache))
        yield


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> SeriesModel:
    path = tmp_path_factory.mktemp("runs") / "quantiles"
    return train_series(frame_of(40 + process(4000, 0)), run=path, **SETTINGS).model()


@pytest.fixture(scope="module")
def fresh() -> tuple[np.ndarray, np.ndarray]:
    """New data of the same process, and the origins that are asked: all but a first day."""
    values = 40 + process(3000, 99)
    return values, np.arange(DAY, 3000 - AHEAD)


def test_a_trained_forecaster_comes_close_to_the_best_and_beats_persistence(
    trained: SeriesModel, fresh: tuple[np.ndarray, np.ndarray]
) -> None:
    values, origins = fresh
    said = trained.forecast(panel_of(values), origins)[:, 0, 2]
    mae = np.abs(values[origins + AHEAD] - said).mean()
    best = np.abs(best_errors(values, origins, level=40)).mean()
    assert best == pytest.approx(BEST_MAE, rel=0.05), "the closed form is that of this process"
    assert best * 0.995 < mae < 1.05 * best
    assert mae < 0.75 * np.abs(values[origins + AHEAD] - values[origins]).mean()


def test_calibrated_intervals_cover_what_they_promise_on_fresh_data(
    trained: SeriesModel, fresh: tuple[np.ndarray, np.ndarray]
) -> None:
    values, origins = fresh
    quantiles = trained.forecast(panel_of(values), origins)[:, 0]
    actual = values[origins + AHEAD]
    # Errors of forecasts less than 3 rows apart share noise: a third of the 3,000 fresh rows and of the 800 of the validation part,
    # which the calibration itself was drawn from, count.
    independent = 1 / (3 / len(origins) + 3 / 800)
    for level, column in zip(SETTINGS["levels"], quantiles.T, strict=True):
        if level != 0.5:
            bound = 4 * math.sqrt(level * (1 - level) / independent)
            assert abs((actual <= column).mean() - level) < bound, level
    # As narrow as the best: 2 · 1.645 standard deviations.
    width = (quantiles[:, -1] - quantiles[:, 0]).mean()
    assert width == pytest.approx(2 * 1.645 * math.sqrt(BEST_VARIANCE), rel=0.1)


def test_a_path_gives_every_row_up_to_the_horizon(tmp_path: Path) -> None:
    settings = {**SETTINGS, "horizon": "6", "path": True, "forecast": "mean", "steps": 200}
    run = train_series(frame_of(process(3000, 1)), run=tmp_path / "run", **settings)
    model, values = run.model(), process(2000, 98)
    assert model.horizon.rows == (1, 2, 3, 4, 5, 6)
    origins = np.arange(DAY, 2000 - 6)
    said = model.forecast(panel_of(values), origins)
    assert said.shape == (len(origins), 6, 1)
    for place in range(6):
        ahead = place + 1
        error = values[origins + ahead] - said[:, place, 0]
        best = math.sqrt(sum(KEEP ** (2 * k) for k in range(ahead)))
        assert math.sqrt((error**2).mean()) == pytest.approx(best, rel=0.1), f"{ahead} rows ahead"
    # Trained for the mean; the log gives the mean absolute error over the whole path.
    best = np.mean([math.sqrt(2 / math.pi * sum(KEEP ** (2 * k) for k in range(ahead))) for ahead in range(1, 7)])
    assert run.validations[-1][1] == pytest.approx(best, rel=0.1)


def test_median_and_mean_differ_where_the_noise_is_skewed(tmp_path: Path) -> None:
    # Nothing but noise: the best median is log-normal's 1, the best mean its exp(1/2) = 1.65.
    values = np.random.default_rng(5).lognormal(0.0, 1.0, 2400)
    said = {}
    for kind in ("median", "mean"):
        settings = {**SETTINGS, "forecast": kind, "horizon": "1", "steps": 150, "calendar": ("none",)}
        model = train_series(frame_of(values), run=tmp_path / kind, **settings).model()
        said[kind] = float(model.forecast(panel_of(values), np.arange(100, 2300)).mean())
    assert said["median"] == pytest.approx(1.0, abs=0.2)
    assert said["mean"] == pytest.approx(math.exp(0.5), abs=0.25)


def test_series_of_very_different_scales_share_one_network_and_a_new_one_needs_no_training(tmp_path: Path) -> None:
    scales = {"small": (1e-3, 0.0), "large": (1e4, 3e5), "cold": (1.0, -50.0)}
    frames = [
        frame_of(level + scale * process(1500, number)).select(pl.lit(name).alias("unique_id"), "time", "y")
        for number, (name, (scale, level)) in enumerate(scales.items())
    ]
    run = train_series(pl.concat(frames), run=tmp_path / "run", series_column="unique_id", **SETTINGS)
    model = run.model()
    asked = {**scales, "new": (200.0, 1e3)}
    series = [level + scale * process(1200, 50 + number) for number, (scale, level) in enumerate(asked.values())]
    panel = panel_of(*series, names=tuple(asked))
    origins = np.arange(700, 1200 - AHEAD)
    for number, (name, (scale, level)) in enumerate(asked.items()):
        said = model.forecast(panel, panel.offsets[number] + origins)[:, 0, 2]
        mae = np.abs(series[number][origins + AHEAD] - said).mean()
        best = np.abs(best_errors(series[number], origins, scale, level)).mean()
        assert 0.98 * best < mae < 1.15 * best, name


# Resumed, and without a leak -------------------------------------------------------------------------------------------------


class Killed(BaseException):
    """Ends a run in process as a kill would: nothing in between knows it, so nothing is saved on the way out."""


class KillAt(Reporter):
    """Ends the run when update `iteration` is done."""

    def __init__(self, iteration: int) -> None:
        self.iteration = iteration

    def updated(self, status: Status) -> None:
        if status.iteration >= self.iteration:
            raise Killed


VARIANTS: dict[str, dict[str, Any]] = {
    "streams": {"recurrent_dropout": 0.2, "input_dropout": 0.1, "every": "2", "average": 0.9},
    "windows": {"method": "windows", "unroll": None, "dropout": 0.2, "members": 2, "forecast": "median"},
}


def write_csv(path: Path, values: np.ndarray) -> Path:
    frame_of(values).write_csv(path)
    return path


def arrays_of(run: SeriesRun, iteration: int) -> dict[str, bytes]:
    """The last checkpoint: weights, state of the optimizer, carry, place in the data."""
    arrays, _ = read_arrays(run.path / f"checkpoints/{iteration:09d}.safetensors", kind="checkpoint")
    return {name: array.tobytes() for name, array in arrays.items()}


def weights_of(run: SeriesRun) -> dict[str, bytes]:
    """The bundle's arrays: weights, encoding, calibration."""
    arrays, _ = read_arrays(run.best_path, kind="bundle")
    return {name: array.tobytes() for name, array in arrays.items()}


@pytest.fixture(scope="module", params=VARIANTS)
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[SeriesRun, Path, dict]:
    """A run of 60 updates that nobody stopped, its table and its settings."""
    folder = tmp_path_factory.mktemp(request.param)
    table = write_csv(folder / "table.csv", 40 + process(400, 7))
    settings = {**SHORT, **VARIANTS[request.param]}
    return train_series(table, run=folder / "whole", **settings), table, settings


def test_a_run_that_was_killed_and_resumed_equals_an_undisturbed_one(
    whole: tuple[SeriesRun, Path, dict], tmp_path: Path
) -> None:
    expected, table, settings = whole
    with pytest.raises(Killed):
        train_series(table, run=tmp_path / "parts", reporter=KillAt(33), **settings)
    found = resume_series(tmp_path / "parts")
    assert found.losses == expected.losses
    assert len(found.losses) == 60
    assert found.validations == expected.validations
    assert len(found.validations) == 3
    assert arrays_of(found, 60) == arrays_of(expected, 60)
    assert weights_of(found) == weights_of(expected)


def test_what_comes_behind_training_changes_no_weight(whole: tuple[SeriesRun, Path, dict], tmp_path: Path) -> None:
    expected, _, settings = whole
    values = 40 + process(400, 7)
    # The test part, 80 % to the end: neither weights nor calibration nor which weights were the best know of it.
    values[320:] = 45 - 0.5 * (values[320:] - 40)
    test = train_series(write_csv(tmp_path / "test.csv", values), run=tmp_path / "test", **settings)
    assert test.losses == expected.losses
    assert test.validations == expected.validations
    assert weights_of(test) == weights_of(expected)
    assert arrays_of(test, 60) == arrays_of(expected, 60)
    # The validation part too: it decides which weights are kept, and teaches none of them.
    values[240:320] = 45 - 0.5 * (values[240:320] - 40)
    validation = train_series(write_csv(tmp_path / "validation.csv", values), run=tmp_path / "validation", **settings)
    assert validation.losses == expected.losses
    assert arrays_of(validation, 60) == arrays_of(expected, 60)
    assert validation.validations != expected.validations
    # The last training row does matter, so the comparison can fail.
    values[239] += 1
    training = train_series(write_csv(tmp_path / "training.csv", values), run=tmp_path / "training", **settings)
    assert training.losses != expected.losses
    assert arrays_of(training, 60) != arrays_of(expected, 60)


def test_a_refit_learns_the_validation_part_and_is_scored_only_behind_it(tmp_path: Path) -> None:
    values = 40 + process(400, 7)
    table, settings = write_csv(tmp_path / "table.csv", values), {**SHORT, "recurrent_dropout": 0.2}
    plain = train_series(table, run=tmp_path / "plain", **settings)
    refit = train_series(table, run=tmp_path / "refit", refit=True, **settings)
    assert not plain.refitted
    assert refit.refitted
    # What was chosen, and what the intervals are moved by, is what a run without refit has.
    chosen = SeriesModel.load(refit.path / CHOSEN_NAME)
    assert weights_of(refit) != weights_of(plain)
    assert (
        read_arrays(refit.path / CHOSEN_NAME, kind="bundle")[0].keys()
        == read_arrays(plain.best_path, kind="bundle")[0].keys()
    )
    for name, array in read_arrays(plain.best_path, kind="bundle")[0].items():
        assert np.array_equal(read_arrays(refit.path / CHOSEN_NAME, kind="bundle")[0][name], array)
    assert np.array_equal(refit.model().calibration.shifts, chosen.calibration.shifts)
    # As many passes as were best, over 4 / 3 of the rows.
    best = chosen.result["iteration"]
    assert refit.model().result["refit"]["updates"] == round(best * 320 / 240)
    # The validation part is asked of the model that never learnt it, the test part of the one that did.
    panel, split = panel_of(values), Split(np.asarray([240]), np.asarray([320]))
    origins = np.arange(300, 340)
    said = refit.forecaster(split).forecast(panel, origins)
    before = origins + AHEAD < 320
    assert np.array_equal(said[before], chosen.forecast(panel, origins[before]))
    assert np.array_equal(said[~before], refit.model().forecast(panel, origins[~before]))
    # The test part teaches nothing, the validation part does.
    values[320:] += 1
    test = train_series(write_csv(tmp_path / "test.csv", values), run=tmp_path / "test", refit=True, **settings)
    assert weights_of(test) == weights_of(refit)


def test_a_refit_that_was_killed_goes_on_where_it_was(tmp_path: Path) -> None:
    table, settings = write_csv(tmp_path / "table.csv", 40 + process(400, 7)), {**SHORT, "refit": True}
    expected = train_series(table, run=tmp_path / "whole", **settings)

    class KillInRefit(Reporter):
        again = False

        def message(self, text: str) -> None:
            self.again = "training again" in text

        def updated(self, status: Status) -> None:
            if self.again and status.iteration >= 15:
                raise Killed

    with pytest.raises(Killed):
        train_series(table, run=tmp_path / "parts", reporter=KillInRefit(), **settings)
    assert not SeriesRun(tmp_path / "parts").refitted
    assert weights_of(resume_series(tmp_path / "parts")) == weights_of(expected)

"""What every forecaster must keep to, baselines and networks alike. One line in `FORECASTERS` adds one to all of it.

The panel's numbers are multiples of 1/64, and shift and scale are powers of two, so that a shifted and scaled panel is exact in
float32: what is left is the rounding of the forecaster's own arithmetic.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

import jax
import numpy as np

from elman.config import Config
from elman.series.baselines.boosting import LightGBMOnLags
from elman.series.baselines.climatology import Climatology
from elman.series.baselines.ridge import RidgeOnLags
from elman.series.baselines.simple import Drift, Persistence, SeasonalNaive
from elman.series.durations import Duration
from elman.series.encoding import Encoding
from elman.series.forecasting import AbstractForecaster
from elman.series.model import SeriesModel, horizon_of, new_network
from elman.series.panel import Horizon, Panel, Split
from elman.series.scoring.calibration import Calibration
from elman.series.task import SeriesTask

HORIZON = Horizon("y", (1, 3, 24), (0.05, 0.25, 0.5, 0.75, 0.95))
HOUR = 3_600_000_000


@dataclass(frozen=True)
class Case:
    """A forecaster and what may be expected of it.

    per_series: it learns each series alone. tolerance: of float32 arithmetic, relative to forecasts of size 1 (0: to the bit).
    blind: it may answer where nothing of the series was seen yet.
    """

    make: Callable[[], AbstractForecaster]
    per_series: bool = False
    tolerance: float = 0.0
    blind: bool = False
    needs: str | None = None


class QuickNetwork:
    """A small network after three updates: enough to show what it can see. It forecasts the whole path, `HORIZON` among it."""

    name = "network"
    fitted: ClassVar[dict[tuple[str, bytes, bytes], SeriesModel]] = {}

    def __init__(self, method: str) -> None:
        settings = {
            "horizon": "24",
            "path": True,
            "lookback": "24",
            "every": "1",
            "levels": HORIZON.levels,
            "method": method,
        }
        sizes = {"hidden": 8, "batch": 4, "unroll": 24 if method == "windows" else 16}
        self.config = Config().replace(target="y", steps=3, **settings, **sizes)

    def fit(self, panel: Panel, horizon: Horizon, training_ends: np.ndarray) -> None:
        """Plain gradient descent on the loss of the real task, once for the same rows."""
        whole = horizon_of(self.config, panel.step, horizon.target)
        self.asked = [whole.rows.index(row) for row in horizon.rows]
        key = self.config.series.method, panel.values.tobytes(), np.asarray(training_ends).tobytes()
        if key not in self.fitted:
            self.fitted[key] = self._trained(panel, whole, training_ends)
        self.model = self.fitted[key]

    def _trained(self, panel: Panel, whole: Horizon, training_ends: np.ndarray) -> SeriesModel:
        encoding = Encoding.fit(panel, training_ends, whole, self.config.series)
        task = SeriesTask(panel, Split(training_ends, training_ends), encoding, self.config)
        network = new_network(self.config, encoding)
        updates = task.take(0, 3, 3)
        gradient = jax.jit(jax.grad(task.loss, has_aux=True))
        carry = task.initial_carry(network)
        for update in range(3):
            batch = jax.tree.map(lambda leaf, update=update: leaf[update], updates)
            slopes, carry = gradient(network, batch, carry, None)
            network = jax.tree.map(lambda weight, slope: weight - 0.3 * slope, network, slopes)
        calibration = Calibration(whole.levels, np.zeros((24, len(whole.levels))))
        return SeriesModel(network, encoding, calibration, self.config)

    def forecast(self, panel: Panel, origins: np.ndarray) -> np.ndarray:
        """The rows of `HORIZON` out of the whole path."""
        return self.model.forecast(panel, origins)[:, self.asked]


FORECASTERS: dict[str, Case] = {
    "persistence": Case(Persistence, per_series=True),
    "seasonal naive, day": Case(lambda: SeasonalNaive("day"), per_series=True),
    "seasonal naive, week": Case(lambda: SeasonalNaive("week"), per_series=True),
    "seasonal naive, year": Case(lambda: SeasonalNaive("year"), per_series=True),
    "climatology": Case(Climatology, per_series=True, blind=True),
    "drift": Case(Drift, per_series=True),
    "ridge": Case(RidgeOnLags),
    "network, streams": Case(lambda: QuickNetwork("streams"), tolerance=1e-5),
    "network, windows": Case(lambda: QuickNetwork("windows"), tolerance=1e-5),
    "LightGBM": Case(lambda: LightGBMOnLags(trees=5, threads=1), needs="lightgbm"),
}


def example_panel(lengths: tuple[int, ...] = (700, 620), missing: float = 0.0, seed: int = 0) -> Panel:
    """Series of hours with a daily cycle and wandering noise, a second column that leads it, and a wind direction."""
    generator = np.random.default_rng(seed)
    values, times = [], []
    for number, length in enumerate(lengths):
        hours = np.arange(length)
        noise = np.cumsum(generator.normal(size=length)) * 0.3
        y = (number + 1) * (4 * np.sin(2 * np.pi * hours / 24) + noise) + 10 * number
        other = np.roll(y, -2) + generator.normal(size=length)
        values.append(np.stack([y, other, generator.uniform(0, 360, length)], axis=1))
        times.append(np.datetime64("2023-03-01", "us").astype(np.int64) + hours * HOUR)
    table = np.round(np.concatenate(values) * 64) / 64
    if missing:
        table[generator.uniform(size=table.shape) < missing] = np.nan
        table[100:140] = np.nan
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    names = tuple(f"series {number}" for number in range(len(lengths)))
    return Panel(
        ("y", "other", "wd (deg)"),
        table.astype(np.float32),
        np.concatenate(times),
        offsets,
        Duration.parse("1h"),
        names,
        static=np.zeros((len(lengths), 0), np.float32),
    )


def training_ends(panel: Panel) -> np.ndarray:
    """Two thirds of each series."""
    return panel.offsets[:-1] + np.diff(panel.offsets) * 2 // 3


def fitted(case: Case, panel: Panel) -> AbstractForecaster:
    """The case's forecaster, fitted on the training part of a panel."""
    forecaster = case.make()
    forecaster.fit(panel, HORIZON, training_ends(panel))
    return forecaster


def close(found: np.ndarray, expected: np.ndarray, tolerance: float) -> None:
    """Equal to the bit, or within a tolerance relative to the largest value."""
    if tolerance == 0:
        np.testing.assert_array_equal(found, expected)
    else:
        np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * max(np.nanmax(np.abs(expected)), 1))


def some_origins(panel: Panel) -> np.ndarray:
    """Early and late ones of every series, missing rows among them, the last row too."""
    picks = [
        np.linspace(a + 30, b - 1, 12).astype(np.int64)
        for a, b in zip(panel.offsets[:-1], panel.offsets[1:], strict=True)
    ]
    return np.concatenate(picks)


def the_future_changes_no_forecast(case: Case) -> None:
    """Rows behind the origin may be anything, or not be there at all."""
    panel = example_panel()
    forecaster = fitted(case, panel)
    for back in (1, 60, 150, 400):
        origins = panel.offsets[1:] - back
        expected = forecaster.forecast(panel, origins)
        rows = np.arange(panel.row_count)
        future = rows > origins[panel.series_of_rows()]
        for other in (1e6, np.nan):
            changed = replace(panel, values=np.where(future[:, None], np.float32(other), panel.values))
            close(forecaster.forecast(changed, origins), expected, case.tolerance)
        known = panel.until(origins + 1)
        close(forecaster.forecast(known, known.offsets[1:] - 1), expected, case.tolerance)


def rows_behind_training_teach_nothing(case: Case) -> None:
    """Fitting is blind to everything that comes after training."""
    panel = example_panel()
    behind = np.arange(panel.row_count) >= training_ends(panel)[panel.series_of_rows()]
    origins = some_origins(panel)
    expected = fitted(case, panel).forecast(panel, origins)
    for other in (1e6, np.nan):
        changed = replace(panel, values=np.where(behind[:, None], np.float32(other), panel.values))
        close(fitted(case, changed).forecast(panel, origins), expected, case.tolerance)


def shift_and_scale_carry_over(case: Case) -> None:
    """Celsius or Fahrenheit, the forecast is the same."""
    panel = example_panel()
    values = panel.values.copy()
    values[:, 0] = values[:, 0] * 4 - 64
    changed = replace(panel, values=values)
    origins = some_origins(panel)
    expected = fitted(case, panel).forecast(panel, origins) * 4 - 64
    close(fitted(case, changed).forecast(changed, origins), expected, max(case.tolerance, 1e-5))


def quantiles_never_cross(case: Case) -> None:
    """Rising along the levels, at every origin and step."""
    for missing in (0.0, 0.3):
        panel = example_panel(missing=missing)
        forecast = fitted(case, panel).forecast(panel, some_origins(panel))
        assert forecast.dtype == np.float32
        assert forecast.shape == (24, 3, 5)
        assert (np.diff(forecast, axis=-1) >= 0).all()


def missing_values_never_break_it(case: Case) -> None:
    """Scattered gaps, a long one, a column that was never measured, a series without any target."""
    panel = example_panel((700, 620, 300), missing=0.3)
    panel.values[panel.offsets[2] :, 0] = np.nan
    panel.values[:, 1] = np.nan
    origins = some_origins(panel)
    forecast = fitted(case, panel).forecast(panel, origins)
    seen = origins < panel.offsets[2]
    assert np.isfinite(forecast[seen]).all()
    if not case.blind:
        assert np.isnan(forecast[~seen]).all()


def the_order_of_questions_does_not_matter(case: Case) -> None:
    """Origins may come in any order, repeated, or one by one; none at all is a question too."""
    panel = example_panel(missing=0.1)
    forecaster = fitted(case, panel)
    origins = some_origins(panel)
    expected = forecaster.forecast(panel, origins)
    order = np.random.default_rng(1).permutation(len(origins)).repeat(2)
    # A product of a few rows may be summed up in another order than one of many: rounding of float32.
    close(forecaster.forecast(panel, origins[order]), expected[order], max(case.tolerance, 1e-6))
    close(forecaster.forecast(panel, origins[5:6]), expected[5:6], max(case.tolerance, 1e-6))
    assert forecaster.forecast(panel, origins[:0]).shape == (0, 3, 5)


def each_series_learns_alone(case: Case) -> None:
    """For methods that do: a series forecasts the same whether or not another one stands beside it."""
    if not case.per_series:
        return
    both = example_panel(missing=0.1)
    forecaster = fitted(case, both)
    for number in range(2):
        start, end = both.offsets[number : number + 2]
        alone = replace(
            both,
            values=both.values[start:end],
            times=both.times[start:end],
            offsets=np.array([0, end - start]),
            names=both.names[number : number + 1],
            static=both.static[:1],
        )
        origins = np.arange(30, end - start, 37)
        expected = forecaster.forecast(both, origins + start)
        close(fitted(case, alone).forecast(alone, origins), expected, max(case.tolerance, 1e-6))


CONTRACT: tuple[Callable[[Case], None], ...] = (
    the_future_changes_no_forecast,
    rows_behind_training_teach_nothing,
    shift_and_scale_carry_over,
    quantiles_never_cross,
    missing_values_never_break_it,
    the_order_of_questions_does_not_matter,
    each_series_learns_alone,
)

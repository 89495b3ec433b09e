"""Scores: closed forms, plain loops, and figures that do not depend on how the rows were cut."""

import numpy as np
import pytest

from elman.series.scoring.metrics import Sums, crps, figures, mae, naive_scales, pinball, rmse, skill

LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)


def example(rows: int = 200, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    forecast = np.sort(generator.normal(size=(rows, 3, 5)), axis=-1)
    actual = generator.normal(size=(rows, 3))
    actual[generator.uniform(size=actual.shape) < 0.1] = np.nan
    return actual, forecast


def test_figures_equal_plain_loops() -> None:
    actual, forecast = example()
    scale = np.random.default_rng(1).uniform(1, 2, len(actual))
    there = [(i, j) for i in range(200) for j in range(3) if not np.isnan(actual[i, j])]
    errors = np.array([forecast[i, j, 2] - actual[i, j] for i, j in there])
    losses = []
    for i, j in there:
        for level, quantile in zip(LEVELS, forecast[i, j], strict=True):
            error = actual[i, j] - quantile
            losses.append(max(level * error, (level - 1) * error))
    found = figures(actual, forecast, LEVELS, scale)
    assert found == {
        "mae": pytest.approx(np.abs(errors).mean()),
        "rmse": pytest.approx(np.sqrt((errors**2).mean())),
        "mase": pytest.approx(np.mean([abs(e) / scale[i] for e, (i, _) in zip(errors, there, strict=True)])),
        "pinball": pytest.approx(np.mean(losses)),
        "crps": pytest.approx(crps(actual, forecast, LEVELS)),
        "coverage": pytest.approx(np.mean([forecast[i, j, 0] <= actual[i, j] <= forecast[i, j, 4] for i, j in there])),
        "width": pytest.approx(np.mean([forecast[i, j, 4] - forecast[i, j, 0] for i, j in there])),
        "bias": pytest.approx(errors.mean()),
        "count": len(there),
    }


def test_crps_of_a_certain_forecast_is_its_absolute_error() -> None:
    actual = np.array([0.0, 2.0, 7.0])
    certain = np.full((3, 5), 3.0)
    assert crps(actual, certain, LEVELS) == pytest.approx(mae(actual, certain[:, 2]))
    assert crps(actual, certain[:, :1], (0.5,)) == pytest.approx(mae(actual, certain[:, 2]))


def test_crps_of_the_normal_distribution() -> None:
    """Many quantiles of the standard normal at y = 0: (sqrt(2) - 1) / sqrt(pi) (Gneiting & Raftery 2007, eq. 21)."""
    draws = np.sort(np.random.default_rng(0).normal(size=400_001))
    levels = np.arange(1, 1000) / 1000
    quantiles = draws[np.round(levels * 400_000).astype(int)]
    found = crps(np.zeros(1), quantiles[None], tuple(levels))
    # 400,000 draws: the quantiles are exact to about 0.002.
    assert found == pytest.approx((np.sqrt(2) - 1) / np.sqrt(np.pi), abs=1e-3)


def test_crps_tails_are_those_of_a_constant_quantile_function() -> None:
    """Against the integral of the pinball loss of that quantile function on a fine grid."""
    levels = (0.1, 0.4, 0.9)
    quantiles = np.array([1.0, 1.0, 1.0])
    fine = (np.arange(100_000) + 0.5) / 100_000
    for y in (-2.0, 5.0):
        error = y - 1.0
        integral = 2 * np.mean(np.maximum(fine * error, (fine - 1) * error))
        assert crps(np.array([y]), quantiles[None], levels) == pytest.approx(integral, rel=1e-6)


def test_pinball_is_least_at_the_quantile() -> None:
    sample = np.random.default_rng(0).normal(size=2000)
    candidates = np.linspace(-3, 3, 601)
    losses = [pinball(sample, np.full((2000, 1), c), (0.2,)) for c in candidates]
    assert candidates[int(np.argmin(losses))] == pytest.approx(np.quantile(sample, 0.2), abs=0.02)


def test_sums_of_pieces_equal_the_whole() -> None:
    actual, forecast = example()
    whole, pieces = Sums.empty(3, LEVELS), Sums.empty(3, LEVELS)
    whole.add(actual, forecast, 2.0)
    for start in range(0, 200, 33):
        pieces.add(actual[start : start + 33], forecast[start : start + 33], 2.0)
    for step in (None, 0, 2):
        assert pieces.figures(step) == pytest.approx(whole.figures(step))
    single = figures(actual[:, 1:2], forecast[:, 1:2], LEVELS, 2.0)
    assert whole.figures(1) == pytest.approx(single)


def test_nothing_to_score_gives_none() -> None:
    found = figures(np.full((4, 1), np.nan), np.zeros((4, 1, 5)), LEVELS)
    assert found.pop("count") == 0
    assert set(found.values()) == {None}
    unanswered = figures(np.zeros((4, 1)), np.full((4, 1, 5), np.nan), LEVELS)
    assert unanswered["count"] == 0
    point = figures(np.zeros((4, 1)), np.ones((4, 1, 1)), (0.5,))
    assert point["coverage"] is None
    assert point["mase"] is None
    assert rmse(np.zeros(0), np.zeros(0)) is None


def test_naive_scales_by_series_and_season() -> None:
    values = np.array([1, 2, 4, np.nan, 8, 100, 5, 5, 5, 7.0])
    offsets, ends = np.array([0, 6, 10]), np.array([5, 9])
    np.testing.assert_array_equal(naive_scales(values, offsets, ends), [1.5, np.nan])
    # Season 2: 4 - 1 and 8 - 4.
    np.testing.assert_array_equal(naive_scales(values, offsets, ends, season=2)[:1], [3.5])


def test_naive_forecast_in_sample_has_mase_one() -> None:
    y = np.cumsum(np.random.default_rng(0).normal(size=500))
    scale = naive_scales(y, np.array([0, 500]), np.array([500]))
    assert figures(y[1:], y[:-1, None], (0.5,), scale[0])["mase"] == pytest.approx(1)


def test_skill() -> None:
    assert skill(1.0, 2.0) == 0.5
    assert skill(3.0, 2.0) == -0.5
    assert skill(None, 2.0) is None
    assert skill(1.0, None) is None
    assert skill(1.0, 0.0) is None

"""Calibration: what is promised for exchangeable rows holds, in closed form and by simulation."""

import math

import numpy as np
import pytest

from elman.series.scoring.calibration import Calibration

LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)


def skewed(generator: np.random.Generator, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Two steps, the second five times as wide; forecasts know the median of every row and are far too narrow."""
    location = generator.normal(size=(rows, 1)) * 10
    noise = (generator.exponential(size=(rows, 2)) - math.log(2)) * np.array([1, 5])
    forecast = location[:, :, None] + np.array([-0.2, -0.1, 0, 0.1, 0.2]) + np.zeros((rows, 2, 1))
    return location + noise, forecast


def test_coverage_of_every_level_is_the_closed_form() -> None:
    """P(y <= q') = k / (n + 1): averaged over many calibrations, for each level, to four standard errors."""
    generator = np.random.default_rng(0)
    below = np.zeros((2, 5))
    trials, rows, fresh = 400, 59, 50
    for _ in range(trials):
        actual, forecast = skewed(generator, rows)
        calibration = Calibration.fit(actual, forecast, LEVELS, keep_middle=False)
        new, asked = skewed(generator, fresh)
        below += (new[:, :, None] <= calibration.apply(asked)).mean(axis=0)
    share = below / trials
    for number, level in enumerate(LEVELS):
        place = level * (rows + 1)
        k = place if number == 2 else (math.ceil(place - 1e-9) if level > 0.5 else math.floor(place + 1e-9))
        # Variance of the coverage of one calibration: Beta(k, n + 1 - k); and of 50 rows given it.
        p = k / (rows + 1)
        error = math.sqrt(p * (1 - p) * (1 / (rows + 2) + 1 / fresh) / trials)
        # The ordinary median of 59 scores is the 30th: 30 / 60.
        np.testing.assert_allclose(share[:, number], p, atol=4 * error)


def test_interval_covers_at_least_what_it_says() -> None:
    """On average over calibrations, for sizes that divide nothing; within four standard errors."""
    generator = np.random.default_rng(1)
    for rows in (25, 40, 333):
        covered = []
        for _ in range(300):
            actual, forecast = skewed(generator, rows)
            calibration = Calibration.fit(actual, forecast, LEVELS)
            new, asked = skewed(generator, 40)
            said = calibration.apply(asked)
            covered.append(((said[..., 0] <= new) & (new <= said[..., -1])).mean())
        assert np.mean(covered) >= 0.9 - 4 * np.std(covered) / math.sqrt(len(covered))
        assert np.mean(covered) <= 0.9 + 2 / (rows + 1) + 4 * np.std(covered) / math.sqrt(len(covered))


def test_shifts_are_order_statistics() -> None:
    """n = 19, levels 0.05 and 0.95: the first and the last score exactly, although 0.95 × 20 is no whole number in binary."""
    scores = np.random.default_rng(0).permutation(19).astype(float)
    calibration = Calibration.fit(scores[:, None], np.zeros((19, 1, 3)), (0.05, 0.5, 0.95))
    assert calibration.shifts.tolist() == [[0.0, 0.0, 18.0]]
    few = Calibration.fit(scores[:4, None], np.zeros((4, 1, 3)), (0.05, 0.5, 0.95))
    assert few.shifts.tolist() == [[scores[:4].min(), 0.0, scores[:4].max()]]


def test_middle_stays_unless_asked_to_move() -> None:
    actual, forecast = skewed(np.random.default_rng(2), 200)
    kept = Calibration.fit(actual, forecast, LEVELS)
    np.testing.assert_array_equal(kept.apply(forecast)[..., 2], forecast[..., 2].astype(np.float32))
    moved = Calibration.fit(actual, forecast, LEVELS, keep_middle=False)
    np.testing.assert_allclose(moved.shifts[:, 2], np.median(actual - forecast[..., 2], axis=0))


@pytest.mark.parametrize("keep_middle", [True, False])
def test_quantiles_never_cross(keep_middle: bool) -> None:
    generator = np.random.default_rng(3)
    actual, forecast = generator.normal(size=(100, 2)), generator.normal(size=(100, 2, 5))
    calibration = Calibration.fit(actual, forecast, LEVELS, keep_middle=keep_middle)
    said = calibration.apply(generator.normal(size=(500, 2, 5)))
    assert said.dtype == np.float32
    assert (np.diff(said, axis=-1) >= 0).all()


def test_scale_and_shift_of_the_rows_carry_over() -> None:
    actual, forecast = skewed(np.random.default_rng(4), 150)
    scale = np.random.default_rng(5).uniform(1, 9, 150)
    plain = Calibration.fit(actual, forecast, LEVELS).apply(forecast)
    scaled = Calibration.fit(actual * scale[:, None] + 3, forecast * scale[:, None, None] + 3, LEVELS, scale).apply(
        forecast * scale[:, None, None] + 3, scale
    )
    # Locations of about 30, times 9, in float32.
    np.testing.assert_allclose(scaled, plain * scale[:, None, None] + 3, atol=1e-4)


def test_missing_rows_are_left_out() -> None:
    actual, forecast = skewed(np.random.default_rng(6), 80)
    gaps = actual.copy()
    gaps[::2, 0] = np.nan
    gaps[:, 1] = np.nan
    found = Calibration.fit(gaps, forecast, LEVELS)
    np.testing.assert_array_equal(found.shifts[0], Calibration.fit(actual[1::2], forecast[1::2], LEVELS).shifts[0])
    assert (found.shifts[1] == 0).all()


def test_to_arrays_and_back() -> None:
    actual, forecast = skewed(np.random.default_rng(7), 80)
    for keep_middle in (True, False):
        first = Calibration.fit(actual, forecast, LEVELS, keep_middle=keep_middle)
        again = Calibration.from_arrays(first.to_arrays())
        assert again.levels == LEVELS
        assert again.keep_middle == keep_middle
        np.testing.assert_array_equal(again.apply(forecast), first.apply(forecast))


def test_shapes_are_checked() -> None:
    with pytest.raises(ValueError, match="5 levels"):
        Calibration.fit(np.zeros((3, 2)), np.zeros((3, 2, 4)), LEVELS)

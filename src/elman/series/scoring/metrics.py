"""How good forecasts are: errors of the point, of the quantiles, of the interval.

With y the truth, q_k the forecast at level t_k, and f the one at the level nearest to 0.5 (the point forecast):

    mae        mean |y - f|                                     in the unit of the target
    rmse       root of the mean of (y - f)^2                    in the unit of the target
    bias       mean (f - y)                                     in the unit of the target
    mase       mean |y - f| / s                                 no unit; s: mean |y_t - y_(t-m)| of the training part of its series
    pinball    mean over rows and levels of t (y - q)+ + (1 - t) (q - y)+
    crps       2 × the integral of the pinball loss over the levels from 0 to 1
    coverage   share of y in [q_first, q_last]                  nominal: t_last - t_first
    width      mean q_last - q_first                            in the unit of the target
    skill      1 - mae / mae of the best baseline               no unit; 0: as good, 1: perfect, negative: worse

The integral of crps is taken by trapezoids between the levels there are. Below the first and above the last the quantile is taken
for constant (all the mass that is left lies at the outermost forecast), which has a closed form. With that a forecast whose
quantiles are all equal, and one of a single level, has crps = mae, as it must be.

Truth and forecasts are NaN where there are none; such pairs count nowhere. Where nothing is left to average, the figure is None.

References: Hyndman & Koehler 2006, "Another look at measures of forecast accuracy", section 2.4 (MASE, and its season m); Koenker &
Bassett 1978 (pinball); Gneiting & Raftery 2007, section 4.2 (CRPS), Laio & Tamea 2007, eq. 17 (CRPS from quantiles).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

_CHUNK = 1 << 20

Figures = dict[str, float | int | None]


def figures(
    actual: np.ndarray,
    forecast: np.ndarray,
    levels: Sequence[float],
    scale: np.ndarray | float | None = None,
) -> Figures:
    """mae, rmse, mase, pinball, crps, coverage, width, bias and count, as the module defines them.

    actual: any shape. forecast: the same with an axis of levels at the end. scale: s for mase, a number or one for each row.

        >>> scores = figures(np.array([1.0, 2.0]), np.array([[0.0, 1.0, 3.0], [2.5, 3.0, 4.0]]), (0.1, 0.5, 0.9), scale=2.0)
        >>> scores["mae"], scores["mase"], scores["bias"], scores["coverage"], scores["width"], scores["count"]
        (0.5, 0.25, 0.5, 0.5, 2.25, 2)
    """
    steps = int(np.prod(np.shape(actual)[1:]))
    sums = Sums.empty(steps, levels)
    rows = np.shape(actual)[0]
    sums.add(np.reshape(actual, (rows, steps)), np.reshape(forecast, (rows, steps, len(levels))), scale)
    return sums.figures()


def mae(actual: np.ndarray, forecast: np.ndarray) -> float | None:
    """Mean absolute error of a point forecast.

    >>> mae(np.array([1.0, np.nan, 3.0]), np.array([2.0, 2.0, 5.0]))
    1.5
    """
    return figures(np.ravel(actual), np.ravel(forecast)[:, None], (0.5,))["mae"]


def rmse(actual: np.ndarray, forecast: np.ndarray) -> float | None:
    """Root of the mean squared error of a point forecast.

    >>> rmse(np.array([1.0, 2.0]), np.array([2.0, 9.0]))
    5.0
    """
    return figures(np.ravel(actual), np.ravel(forecast)[:, None], (0.5,))["rmse"]


def pinball(actual: np.ndarray, forecast: np.ndarray, levels: Sequence[float]) -> float | None:
    """Mean pinball loss over rows and levels; at level 0.5 alone it is half the mean absolute error."""
    return figures(actual, forecast, levels)["pinball"]


def crps(actual: np.ndarray, forecast: np.ndarray, levels: Sequence[float]) -> float | None:
    """Continuous ranked probability score from the quantiles, by the rule of the module.

    >>> crps(np.array([1.0]), np.array([[3.0]]), (0.5,))
    2.0
    """
    return figures(actual, forecast, levels)["crps"]


def skill(error: float | None, baseline: float | None) -> float | None:
    """1 - error / baseline: what is better than the baseline, as a share. None where there is no baseline or it makes no error.

    >>> round(skill(2.0, 2.5), 6)
    0.2
    """
    if error is None or not baseline:
        return None
    return 1 - error / baseline


def naive_scales(
    values: np.ndarray,
    offsets: np.ndarray,
    training_ends: np.ndarray,
    season: int = 1,
    behind: Callable[[], None] | None = None,
) -> np.ndarray:
    """The s of mase for each series: mean |y_t - y_(t-season)| over its rows before `training_ends`.

    Pairs with a missing value are left out; NaN where no pair is left or nothing ever changed. behind: called after each piece.

        >>> naive_scales(np.array([1.0, 3.0, 2.0, 9.0]), np.array([0, 4]), np.array([3]))
        array([1.5])
    """
    ends = np.asarray(training_ends)
    total, count = np.zeros(len(ends)), np.zeros(len(ends))
    for first in range(0, len(values), _CHUNK):
        rows = np.arange(first, min(first + _CHUNK, len(values)))
        series = np.searchsorted(offsets, rows, side="right") - 1
        usable = (rows - season >= offsets[series]) & (rows < ends[series])
        later = rows[usable]
        difference = np.abs(values[later].astype(np.float64) - values[later - season])
        there = ~np.isnan(difference)
        where = series[usable][there]
        total += np.bincount(where, difference[there], minlength=len(ends))
        count += np.bincount(where, minlength=len(ends))
        if behind is not None:
            behind()
    result = np.full(len(ends), np.nan)
    np.divide(total, count, out=result, where=(count > 0) & (total > 0))
    return result


@dataclass(eq=False)
class Sums:
    """What the figures are made of, added up chunk by chunk, so that forecasts need not stand in memory together.

    above, below: sums of (y - q)+ and (q - y)+ for each step and level. squares, scaled, inside, width, count: for each step.
    """

    levels: np.ndarray
    above: np.ndarray
    below: np.ndarray
    squares: np.ndarray
    scaled: np.ndarray
    scaled_count: np.ndarray
    inside: np.ndarray
    width: np.ndarray
    count: np.ndarray

    @classmethod
    def empty(cls, steps: int, levels: Sequence[float]) -> "Sums":
        """Nothing added yet."""
        two = [np.zeros((steps, len(levels))) for _ in range(2)]
        return cls(np.asarray(levels, np.float64), *two, *(np.zeros(steps) for _ in range(6)))

    def add(self, actual: np.ndarray, forecast: np.ndarray, scale: np.ndarray | float | None = None) -> None:
        """Count in `actual` [rows, steps] and `forecast` [rows, steps, levels]; `scale`: s of mase for each row."""
        there = ~np.isnan(actual) & ~np.isnan(forecast).any(axis=-1)
        middle = int(np.argmin(np.abs(self.levels - 0.5)))
        truth = np.where(there, actual, 0).astype(np.float64)
        scales = None if scale is None else np.broadcast_to(np.asarray(scale, np.float64), (len(truth),))
        outer = []
        # One level at a time: a float64 copy of all of them would be the largest array of a whole evaluation.
        for level in range(len(self.levels)):
            quantile = np.where(there, forecast[..., level], 0).astype(np.float64)
            error = truth - quantile
            self.above[:, level] += np.maximum(error, 0).sum(axis=0)
            self.below[:, level] += np.maximum(-error, 0).sum(axis=0)
            if level == middle:
                self.squares += (error**2).sum(axis=0)
                if scales is not None:
                    known = there & ~np.isnan(scales)[:, None]
                    self.scaled += np.where(known, np.abs(error) / scales[:, None], 0).sum(axis=0)
                    self.scaled_count += known.sum(axis=0)
            if level in (0, len(self.levels) - 1):
                outer.append(quantile)
        low, high = outer[0], outer[-1]
        self.inside += (there & (low <= truth) & (truth <= high)).sum(axis=0)
        self.width += (high - low).sum(axis=0)
        self.count += there.sum(axis=0)

    def figures(self, step: int | None = None) -> Figures:
        """The figures of one step, or of all steps together: each pair of truth and forecast counts the same."""
        chosen = slice(None) if step is None else slice(step, step + 1 or None)
        count = int(self.count[chosen].sum())
        names = ("mae", "rmse", "mase", "pinball", "crps", "coverage", "width", "bias")
        if not count:
            return {**dict.fromkeys(names), "count": 0}
        above, below = self.above[chosen].sum(axis=0) / count, self.below[chosen].sum(axis=0) / count
        middle = int(np.argmin(np.abs(self.levels - 0.5)))
        losses = self.levels * above + (1 - self.levels) * below
        scaled = float(self.scaled_count[chosen].sum())
        interval = len(self.levels) > 1
        return {
            "mae": float(above[middle] + below[middle]),
            "rmse": float(np.sqrt(self.squares[chosen].sum() / count)),
            "mase": float(self.scaled[chosen].sum()) / scaled if scaled else None,
            "pinball": float(losses.mean()),
            "crps": _integral(self.levels, losses, above, below),
            "coverage": float(self.inside[chosen].sum()) / count if interval else None,
            "width": float(self.width[chosen].sum()) / count if interval else None,
            "bias": float(below[middle] - above[middle]),
            "count": count,
        }


def _integral(levels: np.ndarray, losses: np.ndarray, above: np.ndarray, below: np.ndarray) -> float:
    """2 × the integral of the pinball loss: trapezoids between the levels, constant quantiles outside of them."""
    first, last = float(levels[0]), float(levels[-1])
    lower = above[0] * first**2 / 2 + below[0] * (first - first**2 / 2)
    upper = above[-1] * (1 - last**2) / 2 + below[-1] * (1 - last) ** 2 / 2
    between = float(np.sum(np.diff(levels) * (losses[1:] + losses[:-1]) / 2))
    return float(2 * (lower + between + upper))

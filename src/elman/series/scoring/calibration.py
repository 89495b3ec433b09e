"""Quantiles that keep their word: split conformal calibration on the validation part.

For each level t and step, with n validation rows, scores e_i = (y_i - q_t,i) / s_i in rising order e_(1) … e_(n):

    q'_t = q_t + s e_(k)        k = ceil(t (n + 1)) above the middle level, floor(t (n + 1)) below it

If the validation rows and a new one are exchangeable, P(y <= q'_t) = k / (n + 1) for every n (scores without ties): at least t
above the middle, at most t below it, and never more than 1 / (n + 1) away from it. So the interval of any two levels on both
sides of the middle holds at least what it promises. Rows of a time series are exchangeable only as far as its errors do not
change their habits.

This is the one-sided form of conformalized quantile regression: Romano, Patterson & Candès 2019, Theorem 2, which corrects the two
ends of an interval separately, here at every level. Where n is so small that k is 0 or n + 1 the theorem's quantile is infinite;
ours is then the least or greatest score, and the promise is k/(n + 1) = 1/(n + 1) or n/(n + 1) instead.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64


@dataclass(frozen=True, eq=False)
class Calibration:
    """What is added to each quantile, for each step, in units of a row's scale; `fit` makes one.

    keep_middle: the level nearest to 0.5 stays as it is (the default): it is the point forecast, and whatever it was trained for
        should not be undone by the median error of one other part of the data. On the hourly Jena file, 24 h ahead, moving it
        changed the test error of persistence and ridge by at most 0.002 degC, mended climatology (3.59 to 3.45: the years had
        become warmer) and harmed the naive forecast by the year (4.68 to 4.73). Levels beside it are held on their side of it.

    >>> generator = np.random.default_rng(0)
    >>> forecast = np.zeros((999, 1, 3), np.float32) + np.array([-0.1, 0, 0.1], np.float32)
    >>> calibration = Calibration.fit(generator.normal(size=(999, 1)), forecast, (0.05, 0.5, 0.95))
    >>> calibration.apply(forecast[:1]).round(1).tolist()
    [[[-1.600000023841858, 0.0, 1.5]]]
    """

    levels: tuple[float, ...]
    shifts: Float64[np.ndarray, "steps levels"]
    keep_middle: bool = True

    @classmethod
    def fit(
        cls,
        actual: np.ndarray,
        forecast: np.ndarray,
        levels: Sequence[float],
        scale: np.ndarray | None = None,
        *,
        keep_middle: bool = True,
    ) -> "Calibration":
        """From the truth [rows, steps] and the forecasts [rows, steps, levels] of the validation part.

        scale: for each row, what its errors are measured in (such as the spread of its series); 1 by default. Pairs with a NaN in
        any of them are left out; a step with none left is not shifted.
        """
        actual, forecast = np.asarray(actual), np.asarray(forecast)
        if forecast.shape != (*actual.shape, len(levels)) or actual.ndim != 2:
            raise ValueError(
                f"forecast {forecast.shape} must have the shape of actual {actual.shape} and {len(levels)} levels, "
                f"actual that of rows and steps"
            )
        middle = int(np.argmin(np.abs(np.asarray(levels) - 0.5)))
        shifts = np.zeros(forecast.shape[1:])
        for step, level in np.ndindex(*shifts.shape):
            if level == middle and keep_middle:
                continue
            scores = actual[:, step].astype(np.float64) - forecast[:, step, level]
            scores = scores if scale is None else scores / scale
            shifts[step, level] = _corrected_quantile(scores[np.isfinite(scores)], levels[level], level - middle)
        return cls(tuple(float(level) for level in levels), shifts, keep_middle)

    def apply(self, forecast: np.ndarray, scale: np.ndarray | None = None) -> Float32[np.ndarray, "rows steps levels"]:
        """The calibrated quantiles, rising along the levels. `scale` as in `fit`; a row without one stays NaN."""
        moved = self.shifts if scale is None else self.shifts * np.asarray(scale)[:, None, None]
        result = np.asarray(forecast) + moved
        if self.keep_middle:
            middle = int(np.argmin(np.abs(np.asarray(self.levels) - 0.5)))
            point = np.asarray(forecast)[..., middle : middle + 1]
            # Moved to its side of the middle, an outer quantile only gets further out: what is promised still holds.
            result[..., :middle] = np.sort(np.minimum(result[..., :middle], point), axis=-1)
            result[..., middle + 1 :] = np.sort(np.maximum(result[..., middle + 1 :], point), axis=-1)
            result[..., middle] = point[..., 0]
        else:
            result = np.sort(result, axis=-1)
        return result.astype(np.float32)

    def to_arrays(self) -> dict[str, np.ndarray]:
        """For a bundle: three arrays."""
        return {
            "levels": np.asarray(self.levels),
            "shifts": self.shifts,
            "keep_middle": np.asarray([self.keep_middle], np.uint8),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "Calibration":
        """What `to_arrays` gave."""
        levels = tuple(float(level) for level in arrays["levels"])
        return cls(levels, np.asarray(arrays["shifts"], np.float64), bool(arrays["keep_middle"][0]))


def _corrected_quantile(scores: np.ndarray, level: float, side: int) -> float:
    """e_(k) of the module: rounded away from the middle, which itself is the plain median-like quantile."""
    count = len(scores)
    if not count:
        return 0.0
    if side == 0:
        return float(np.quantile(scores, level))
    # Decimal levels are no binary fractions: 0.95 × 20 must count as 19, not as 19.000000000000004.
    place = level * (count + 1)
    place = round(place) if abs(place - round(place)) < 1e-9 * count else place
    number = int(np.ceil(place) if side > 0 else np.floor(place))
    number = min(max(number, 1), count)
    return float(np.partition(scores, number - 1)[number - 1])

"""Numbers that are no measurements: -9999 for "no value", and what nature does not allow.

Nothing is believed because of its look alone: a sentinel is a number that logging software writes AND that stands far from
everything else in its column. A counter that honestly reaches 9999, or frost of -99 on another planet, stays as it is.
"""

from dataclasses import dataclass

import numpy as np

from elman.series.cleaning.units import PossibleRange

CODES = (
    -99, -99.9, -99.99, -999, -999.9, -999.99, -9999, -9999.9, -99999, -6999, -7777, -8888, -32768, -1e20, -1e30, -1e34,
    999, 999.9, 999.99, 9999, 9999.9, 99999, 32767, 65535, 1e20, 1e30, 9.969209968386869e36,
)  # fmt: skip
"""What loggers and file formats (netCDF among them) write where there is no value; the last rows of integers are full registers."""

NEGATIVE_DISTANCE = 0.5
POSITIVE_DISTANCE = 3.0
"""How far a sentinel stands from the rest, in widths of the rest: a large positive number is a measurement more often."""

SINGLE_DISTANCE = 50.0
"""The same for a number that occurs once: one outlier could be true, this far it is not."""

TOO_MANY = 0.05
"""If more of a column's values are outside its range, it is the range that was misunderstood."""

ENOUGH_KINDS = 3
"""Different values beside the sentinel; with fewer, a column is a switch and any number may be one of its positions."""


@dataclass(frozen=True)
class Oddities:
    """What a column holds that is no measurement. low, high: bounds behind which values are missing; None: there are none.

    outside: values outside the range where they are too many to be errors; the range is then probably misunderstood.
    """

    sentinels: tuple[float, ...] = ()
    low: float | None = None
    high: float | None = None
    outside: int = 0


def find_oddities(numbers: np.ndarray, sample: np.ndarray, possible: PossibleRange | None) -> Oddities:
    """Look for sentinels and impossible values.

    numbers: the column, finite or NaN. sample: some of its values without NaN, by which the usual width is judged.
    """
    low, high = _extremes(numbers)
    if low is None or high is None:
        return Oddities()
    codes = {float(numbers.dtype.type(code)) for code in CODES}
    # A sentinel stands outside of all others, so that candidates are peeled off from both ends.
    candidates: list[float] = []
    rest = numbers
    while low is not None and high is not None and (low in codes or high in codes):
        candidates += [value for value in (low, high) if value in codes and value not in candidates]
        rest = rest[~np.isin(rest, np.asarray(candidates, numbers.dtype)) & ~np.isnan(rest)]
        low, high = _extremes(rest)
    kept = _without(sample, candidates)
    sentinels = [code for code in candidates if _stands_apart(code, numbers, low, high, kept)]
    if low is not None and high is not None and possible is not None:
        sentinels += _impossible_zero(numbers, low, high, kept, possible)
    if possible is None:
        return Oddities(tuple(sentinels))
    return _bounded(numbers, tuple(sentinels), possible, sample)


def _stands_apart(code: float, numbers: np.ndarray, low: float | None, high: float | None, kept: np.ndarray) -> bool:
    if low is None or high is None or len(np.unique(kept)) < ENOUGH_KINDS:
        return False
    distance = low - code if code < low else code - high
    width = high - low
    first, last = np.quantile(kept, [0.25, 0.75])
    if code > high and distance < POSITIVE_DISTANCE * width:
        return False
    if distance < NEGATIVE_DISTANCE * width or distance < 3 * (last - first):
        return False
    return int(np.count_nonzero(numbers == numbers.dtype.type(code))) > 1 or distance > SINGLE_DISTANCE * width


def _impossible_zero(
    numbers: np.ndarray, low: float, high: float, kept: np.ndarray, possible: PossibleRange
) -> list[float]:
    """0 where the quantity is never 0 and all else is far from it."""
    if possible.zero_below is None or low != 0 or high <= 0:
        return []
    others = kept[kept > 0]
    smallest = float(np.min(numbers, where=numbers > 0, initial=np.inf))
    few = int(np.count_nonzero(numbers == 0)) <= max(3, TOO_MANY * len(numbers))
    # A column that comes near to 0 elsewhere may well reach it.
    apart = len(others) > 0 and smallest > max(possible.zero_below, 0.15 * float(np.median(others)))
    return [0.0] if few and apart else []


def _bounded(
    numbers: np.ndarray, sentinels: tuple[float, ...], possible: PossibleRange, sample: np.ndarray
) -> Oddities:
    beyond = (numbers < possible.low) | (numbers > possible.high)
    beyond &= ~np.isin(numbers, np.asarray(sentinels, numbers.dtype))
    count = int(np.count_nonzero(beyond))
    if count == 0:
        return Oddities(sentinels)
    measured = int(np.count_nonzero(~np.isnan(numbers)))
    impossible = numbers[beyond]
    codes = np.asarray([numbers.dtype.type(code) for code in CODES])
    strange = count - int(np.count_nonzero(np.isin(impossible, codes)))
    if possible.soft:
        inside = sample[(sample >= possible.low) & (sample <= possible.high)]
        if len(inside) < ENOUGH_KINDS or strange > max(3, TOO_MANY * measured):
            return Oddities(sentinels)
        low, high = float(inside.min()), float(inside.max())
        if float(np.maximum(impossible - high, low - impossible).min()) < 0.5 * (high - low):
            return Oddities(sentinels)
    elif strange > max(3, TOO_MANY * measured):
        return Oddities(sentinels, outside=count)
    repeated = [float(code) for code in np.unique(impossible) if code in codes]
    sentinels = (*sentinels, *(code for code in repeated if code not in sentinels))
    if strange == 0:
        return Oddities(sentinels)
    return Oddities(sentinels, possible.low, possible.high)


def _extremes(numbers: np.ndarray) -> tuple[float | None, float | None]:
    if len(numbers) == 0:
        return None, None
    low = float(np.fmin.reduce(numbers))
    return (None, None) if np.isnan(low) else (low, float(np.fmax.reduce(numbers)))


def _without(sample: np.ndarray, codes: list[float]) -> np.ndarray:
    return sample[~np.isin(sample, np.asarray(codes, sample.dtype))] if codes else sample

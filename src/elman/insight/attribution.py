"""What moved a forecast: gradients over the inputs that the network saw, gathered by column and by how long ago; and a check.

Integrated gradients (Sundararajan, Taly & Yan 2017): the gradients along the straight way from a baseline to the inputs, times
their difference, sum to the difference of the two forecasts. Gradient x input takes the gradient at the inputs alone: quicker, and
it need not sum to anything. The baseline is a history in which every column stood at its training mean, nothing was missing and
the calendar said nothing; the last value of the target, from which the forecast is counted, stays. The check is occlusion: one
column, or one stretch of lags, is set to the baseline alone, and the forecast is made again.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from elman.errors import ConfigError
from elman.insight.subjects import series_subject
from elman.network import Network
from elman.series.model import SeriesModel
from elman.series.panel import Panel
from elman.training.engine import precision

POINTS = 48
"""Places on the way from the baseline at which the gradient is taken (midpoints)."""

LAGS = ((0, 0), (1, 1), (2, 2), (3, 5), (6, 11), (12, 23), (24, 47), (48, 10**9))
"""Stretches of steps before the origin: finer where a forecast is moved most."""

CALENDAR = "\0calendar"
"""What stands for the calendar's circles among the columns: no table has a column of this name."""


METHODS = ("integrated", "gradient")


@dataclass(frozen=True, eq=False)
class Attribution:
    """What moved the median forecast of the furthest row, in the target's unit.

    origin: when it was made. forecast, baseline: for the inputs as they were, and for the baseline. columns: by name what each
    moved it by. by_lag `[columns, lags]`: the same by the stretches `lags`, in the network's steps before the origin. occluded,
    lags_occluded: by what the forecast changes when a column, or a stretch of lags, is set to the baseline alone. agreement: the
    rank correlation of `columns` with `occluded`; NaN for fewer than three columns.
    """

    origin: str
    forecast: float
    baseline: float
    columns: list[tuple[str, float]]
    by_lag: np.ndarray
    lags: list[str]
    occluded: list[float]
    lags_occluded: list[float]
    agreement: float

    @property
    def unexplained(self) -> float:
        """What the columns leave of the difference between forecast and baseline; near 0 for integrated gradients."""
        return self.forecast - self.baseline - sum(moved for _, moved in self.columns)


def attribution(model: SeriesModel, panel: Panel, origin: int, *, method: str = "integrated") -> Attribution:
    """What moved the forecast that is made at row `origin` of the panel; the mean over the model's members, uncalibrated.

    method: "integrated" or "gradient". Raises: `ConfigError` for another one.
    """
    if method not in METHODS:
        raise ConfigError(f"method = {method!r} is not possible: one of {', '.join(METHODS)}")
    encoding = model.encoding
    names = np.asarray([_column(name, model) for name in encoding.names_of_inputs()])
    groups = list(dict.fromkeys(names.tolist()))
    there = np.asarray([name.endswith(" is there") for name in encoding.names_of_inputs()])
    members = [
        _member(member, series_subject(model, panel, origin=origin, member=number).xs, there, names, groups, method)
        for number, member in enumerate(model.network.members)
    ]
    with precision(model.config.training.dtype):
        rows = encoding.rows(panel)
    series = rows.series[origin]
    scale, center = float(rows.scale[series]), float(rows.center[series])
    anchor = float(rows.values[origin, encoding.target_index])
    said, moved, occluded, lags_occluded = (np.mean(parts, axis=0) for parts in zip(*members, strict=True))
    forecast, baseline = (said + anchor) * scale + center
    stretches = _stretches(moved.shape[1])
    moved, occluded = moved * scale, occluded * scale
    by_lag = np.stack([moved[:, first : last + 1].sum(axis=1) for first, last in stretches], axis=1)
    totals = moved.sum(axis=1)
    return Attribution(
        series_subject(model, panel, origin=origin, steps=1).labels[-1],
        float(forecast),
        float(baseline),
        list(zip(groups, totals.tolist(), strict=True)),
        by_lag,
        [f"{a}" if a == b else f"{a}–{min(b, moved.shape[1] - 1)}" for a, b in stretches],
        occluded.tolist(),
        (lags_occluded * scale).tolist(),
        _rank_correlation(totals, occluded),
    )


def _member(
    network: Network, xs: np.ndarray, there: np.ndarray, names: np.ndarray, groups: list[str], method: str
) -> tuple[np.ndarray, ...]:
    """Of one network, in its own numbers: (forecast, baseline), what moved it `[columns, lags]`, both occlusions."""
    base = np.zeros_like(xs)
    base[:, there] = 1
    lags = np.arange(len(xs))[::-1]
    with precision(str(xs.dtype)):
        inputs, zero = jnp.asarray(xs), jnp.asarray(base)
        moved = np.asarray(
            _integrated(network, inputs, zero) if method == "integrated" else _sloped(network, inputs, zero)
        )
        masks = [np.broadcast_to(names == group, xs.shape) for group in groups]
        stretches = [np.broadcast_to(((lags >= a) & (lags <= b))[:, None], xs.shape) for a, b in _stretches(len(xs))]
        trials = [xs, base, *(np.where(mask, base, xs) for mask in [*masks, *stretches])]
        said = np.asarray([_forecast(network, jnp.asarray(each)) for each in trials])
    changes = said[0] - said[2:]
    gathered = np.stack([moved[:, names == group].sum(axis=1)[::-1] for group in groups])
    return said[:2], gathered, changes[: len(groups)], changes[len(groups) :]


def _stretches(steps: int) -> list[tuple[int, int]]:
    return [(first, last) for first, last in LAGS if first < steps]


def _column(name: str, model: SeriesModel) -> str:
    """The table's column behind an input; the calendar for its circles."""
    encoding = model.encoding
    for start in ("sin ", "cos "):
        if name.startswith(start):
            return name.removeprefix(start) if name.removeprefix(start) in encoding.directions else CALENDAR
    for end in (" is there", " age"):
        if name.endswith(end) and name.removesuffix(end) in encoding.columns:
            return name.removesuffix(end)
    ahead = next(
        (known for known in encoding.known if name.startswith(f"{known} ") and name.endswith(" rows ahead")), None
    )
    return ahead or name


@jax.jit
def _forecast(network: Network, xs: jax.Array) -> jax.Array:
    """The middle level of the furthest row ahead at the last step, in the network's numbers."""
    said = network.head(network(xs)[0][-1])
    return said[-1, getattr(network.head, "middle", 0)]


@jax.jit
def _integrated(network: Network, xs: jax.Array, base: jax.Array) -> jax.Array:
    way = (jnp.arange(POINTS, dtype=xs.dtype) + 0.5) / POINTS
    slopes = jax.lax.map(lambda share: jax.grad(lambda at: _forecast(network, at))(base + share * (xs - base)), way)
    return slopes.mean(axis=0) * (xs - base)


@jax.jit
def _sloped(network: Network, xs: jax.Array, base: jax.Array) -> jax.Array:
    return jax.grad(lambda at: _forecast(network, at))(xs) * (xs - base)


def _rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Spearman's: the correlation of the ranks of how much each moved."""
    if len(first) < 3:
        return float("nan")
    ranks = np.stack([np.argsort(np.argsort(np.abs(values))) for values in (first, second)])
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])

"""What moved a forecast: integrated gradients over the inputs that the network saw, gathered by column and by how long ago.

Sundararajan, Taly & Yan 2017: the gradients along the straight way from a baseline to the inputs, times their difference, sum to
the difference of the two forecasts. The baseline is a history in which every column stood at its training mean, nothing was missing
and the calendar said nothing; the last value of the target, from which the forecast is counted, stays.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

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


@dataclass(frozen=True, eq=False)
class Attribution:
    """What moved the median forecast of the furthest row, in the target's unit.

    forecast, baseline: for the inputs as they were, and for the baseline. columns: by name what each moved it; they sum to the
    difference. by_lag `[columns, lags]`: the same by the stretches `lags`. agreement: the rank correlation of the columns with what
    the forecast changes by when each is set to the baseline alone; NaN for fewer than three columns.
    """

    origin: str
    forecast: float
    baseline: float
    columns: list[tuple[str, float]]
    by_lag: np.ndarray
    lags: list[str]
    agreement: float


def attribution(model: SeriesModel, panel: Panel, origin: int) -> Attribution:
    """What moved the forecast that is made at row `origin` of the panel; the mean over the model's members, uncalibrated."""
    encoding = model.encoding
    names = [_column(name, model) for name in encoding.names_of_inputs()]
    groups = list(dict.fromkeys(names))
    whole, parts, changes = [], [], []
    for number, member in enumerate(model.network.members):
        subject = series_subject(model, panel, origin=origin, member=number)
        base = np.zeros_like(subject.xs)
        base[:, [name.endswith(" is there") for name in encoding.names_of_inputs()]] = 1
        with precision(subject.dtype):
            moved = np.asarray(_integrated(member, jnp.asarray(subject.xs), jnp.asarray(base)))
            inputs = [subject.xs, base, *(np.where(np.asarray(names) == group, base, subject.xs) for group in groups)]
            said = np.asarray([_forecast(member, jnp.asarray(each)) for each in inputs])
        whole.append(said[:2])
        changes.append(said[0] - said[2:])
        parts.append(np.stack([moved[:, np.asarray(names) == group].sum(axis=1) for group in groups]))
    with precision(model.config.training.dtype):
        rows = encoding.rows(panel)
    series = rows.series[origin]
    scale, center = float(rows.scale[series]), float(rows.center[series])
    anchor = float(rows.values[origin, encoding.target_index])
    forecast, baseline = (np.mean(whole, axis=0) + anchor) * scale + center
    moved = np.mean(parts, axis=0)[:, ::-1] * scale
    stretches = [(first, last) for first, last in LAGS if first < moved.shape[1]]
    by_lag = np.stack([moved[:, first : last + 1].sum(axis=1) for first, last in stretches], axis=1)
    totals = moved.sum(axis=1)
    labels = [f"{a}" if a == b else f"{a}–{min(b, moved.shape[1] - 1)}" for a, b in stretches]
    return Attribution(
        subject.labels[-1],
        float(forecast),
        float(baseline),
        list(zip(groups, totals.tolist(), strict=True)),
        by_lag,
        labels,
        _rank_correlation(totals, np.mean(changes, axis=0)),
    )


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


def _forecast(network: Network, xs: jax.Array) -> jax.Array:
    """The middle level of the furthest row ahead at the last step, in the network's numbers."""
    said = network.head(network(xs)[0][-1])
    return said[-1, getattr(network.head, "middle", 0)]


@jax.jit
def _integrated(network: Network, xs: jax.Array, base: jax.Array) -> jax.Array:
    way = (jnp.arange(POINTS, dtype=xs.dtype) + 0.5) / POINTS
    slopes = jax.lax.map(lambda share: jax.grad(lambda at: _forecast(network, at))(base + share * (xs - base)), way)
    return slopes.mean(axis=0) * (xs - base)


def _rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Spearman's: the correlation of the ranks of how much each moved."""
    if len(first) < 3:
        return float("nan")
    ranks = np.stack([np.argsort(np.argsort(np.abs(values))) for values in (first, second)])
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])

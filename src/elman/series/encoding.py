"""From measurements to what a network sees at each step, and what it says back to measurements.

Fitted on training rows only, kept in the bundle. Arrays stay compact: `Rows` holds one scaled number per measurement, and
`Encoding.inputs` makes circles, masks and ages of it inside the compiled program, so that memory never holds rows x inputs.

Of each row the network sees
    each column          scaled by mean and standard deviation of its series' training rows; the last one seen where missing
    directions           as sine and cosine
    row age              how long ago a row was measured at all: log(1 + rows) / log 256, 0 now
    mask and age         of each column that was missing now and then in training, while other columns were there
    calendar             hour, weekday, day of the year as circles, where step and span allow it
    known                columns whose future is known, at each row that is forecast
    static               what the series is
"""

import math
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import jax
import jax.numpy as jnp
import numpy as np

from elman.config import SeriesSettings
from elman.errors import BundleError, ConfigError
from elman.series.calendar import CIRCLES, circles_for, phases
from elman.series.cleaning.units import is_direction
from elman.series.durations import Duration
from elman.series.panel import Horizon, Panel

OLDEST = 255
"""An age of this many rows or more, and of what was never seen."""

OFTEN_MISSING = 0.001
"""Share of the measured training rows that must lack a column before its absence is an input: rarer, it cannot be learnt from."""

_RADIAN = 180 / math.pi
_PIECE = 1 << 20

NEVER = 1e30
"""Scale of a column that was never there in training: what it says later was never learnt, and is 0 to the network."""


class Steps(NamedTuple):
    """The compact numbers behind the inputs of some steps; leading axes are the steps'."""

    values: Any
    ages: Any
    phases: Any
    known: Any
    static: Any


class Memory(NamedTuple):
    """What a row leaves behind for the next one: the last value seen of each column (scaled) and how old it is, by series."""

    values: np.ndarray
    ages: np.ndarray


@dataclass(frozen=True, eq=False)
class Rows:
    """A panel in the network's numbers.

    values: scaled, the last one seen where missing (0, the mean, where nothing was seen yet). ages: rows since anything was
    measured, and since each masked column was, at most `OLDEST`. phases: of the calendar's circles, 0 to 1. targets: scaled, NaN
    where missing. series: the number of each row's series. center, scale: of the target, by series.
    """

    values: np.ndarray
    ages: np.ndarray
    phases: np.ndarray
    static: np.ndarray
    targets: np.ndarray
    series: np.ndarray
    offsets: np.ndarray
    center: np.ndarray
    scale: np.ndarray
    memory: Memory


@dataclass(frozen=True, eq=False)
class Encoding:
    """How rows become numbers, and numbers measurements again. `fit` makes one.

    center and scale are `[series, columns]` in the columns' units; low and high the range of each column in training.
    """

    columns: tuple[str, ...]
    target: str
    known: tuple[str, ...]
    directions: tuple[str, ...]
    masked: tuple[str, ...]
    circles: tuple[str, ...]
    ahead: tuple[int, ...]
    step: Duration
    time_zone: str | None
    names: tuple[str, ...]
    static_columns: tuple[str, ...]
    center: np.ndarray
    scale: np.ndarray
    low: np.ndarray
    high: np.ndarray
    static_center: np.ndarray
    static_scale: np.ndarray
    _numbers: dict[str, int] = field(default_factory=dict, repr=False)

    @classmethod
    def fit(cls, panel: Panel, training_ends: np.ndarray, horizon: Horizon, settings: SeriesSettings) -> "Encoding":
        """Look at the rows of each series before `training_ends`, and at no others."""
        training = _rows_before(panel, training_ends)
        directions = tuple(
            name
            for c, name in enumerate(panel.columns)
            if name != horizon.target and is_direction(name, *_range(panel.values[training, c]))
        )
        center, scale = _location_and_scale(panel, training_ends)
        for name in directions:
            column = panel.columns.index(name)
            center[:, column], scale[:, column] = 0.0, _RADIAN
        measured = training & panel.observed
        absent = np.asarray(
            [np.isnan(panel.values[measured, c]).mean() if measured.any() else 0 for c in range(len(panel.columns))]
        )
        ranges = [_range(panel.values[training, c]) for c in range(len(panel.columns))]
        # A series without a target in training is as good as new: it is scaled by its own rows, when they are there.
        taught = np.unique(panel.series_of_rows()[training & ~np.isnan(panel.column(horizon.target))])
        taught = taught if len(taught) else np.arange(panel.series_count)
        static = panel.static if panel.static.size else np.zeros((panel.series_count, 0), np.float32)
        static_scale = static.std(axis=0) if static.size else np.zeros(static.shape[1])
        return cls(
            columns=panel.columns,
            target=horizon.target,
            known=tuple(settings.known),
            directions=directions,
            masked=tuple(name for name, share in zip(panel.columns, absent, strict=True) if share >= OFTEN_MISSING),
            circles=circles_for(panel.times[training], panel.step, settings.calendar),
            ahead=horizon.rows,
            step=panel.step,
            time_zone=panel.time_zone,
            names=tuple(panel.names[series] for series in taught),
            static_columns=panel.static_columns,
            center=center[taught],
            scale=scale[taught],
            low=np.asarray([low for low, _ in ranges]),
            high=np.asarray([high for _, high in ranges]),
            static_center=np.asarray(static.mean(axis=0), np.float64),
            static_scale=np.where(static_scale > 0, static_scale, 1.0).astype(np.float64),
        )

    @property
    def target_index(self) -> int:
        """The target's place among the columns."""
        return self.columns.index(self.target)

    @property
    def input_size(self) -> int:
        """Values per step that the network sees."""
        plain = len(self.columns) + len(self.directions)
        known = len(self.known) * len(self.ahead)
        return plain + 1 + 2 * len(self.masked) + 2 * len(self.circles) + known + len(self.static_columns)

    def names_of_inputs(self) -> list[str]:
        """What each value per step is, in the order of `inputs`."""
        plain = [name for name in self.columns if name not in self.directions]
        names = [*plain, *(f"sin {n}" for n in self.directions), *(f"cos {n}" for n in self.directions), "row age"]
        names += [*(f"{n} is there" for n in self.masked), *(f"{n} age" for n in self.masked)]
        names += [*(f"sin {n}" for n in self.circles), *(f"cos {n}" for n in self.circles)]
        names += [f"{n} {rows} rows ahead" for rows in self.ahead for n in self.known]
        return [*names, *self.static_columns]

    def rows(
        self,
        panel: Panel,
        *,
        known_until: np.ndarray | None = None,
        memory: Memory | None = None,
        scales: tuple[np.ndarray, np.ndarray] | None = None,
    ) -> Rows:
        """`panel` in the network's numbers.

        known_until: for a series that was not there in training, the rows before which (a global number for each series) it is
            scaled by; None: all its rows. scales: what `scales` gave before, to be used again. memory: what stood before the first
            rows (`Rows.memory` of an earlier call).
        """
        center, scale = scales or self.scales(panel, known_until)
        series = panel.series_of_rows().astype(np.int32)
        count = panel.row_count
        values = np.empty((count, len(self.columns)), np.float32)
        ages = np.empty((count, 1 + len(self.masked)), np.uint8)
        memory = memory or _no_memory(panel.series_count, len(self.columns))
        last = _no_memory(panel.series_count, len(self.columns))
        starts = panel.offsets[:-1].astype(np.int32 if count < 2**31 else np.int64)[series]
        targets = np.zeros(0, np.float32)
        for c, name in enumerate(self.columns):
            scaled = _scaled(panel.values[:, c], center[:, c], scale[:, c], series)
            if name == self.target:
                targets = scaled
            filled, age = _last_seen(scaled, ~np.isnan(scaled), starts, series, memory.values[:, c], memory.ages[:, c])
            values[:, c] = filled
            if name in self.masked:
                ages[:, 1 + self.masked.index(name)] = age
            _remember(last, c, filled, age, panel.offsets, memory)
        nothing = np.zeros(count, np.float32)
        _, ages[:, 0] = _last_seen(nothing, panel.observed, starts, series, memory.values[:, -1], memory.ages[:, -1])
        _remember(last, -1, nothing, ages[:, 0], panel.offsets, memory)
        return Rows(
            values=values,
            ages=ages,
            phases=phases(panel.times, self.time_zone, self.circles),
            static=((panel.static - self.static_center) / self.static_scale).astype(np.float32)
            if self.static_columns
            else np.zeros((panel.series_count, 0), np.float32),
            targets=targets,
            series=series,
            offsets=panel.offsets,
            center=center[:, self.target_index],
            scale=scale[:, self.target_index],
            memory=last,
        )

    def scales(self, panel: Panel, known_until: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Center and scale of each of the panel's series; a series that was not there in training is measured by itself."""
        if not self._numbers:
            self._numbers.update({name: number for number, name in enumerate(self.names)})
        numbers = np.asarray([self._numbers.get(name, -1) for name in panel.names])
        center, scale = self.center[numbers].copy(), self.scale[numbers].copy()
        new = numbers < 0
        if new.any():
            ends = panel.offsets[1:] if known_until is None else known_until
            own_center, own_scale = _location_and_scale(panel, ends)
            circular = [self.columns.index(name) for name in self.directions]
            own_center[:, circular], own_scale[:, circular] = 0.0, _RADIAN
            center[new], scale[new] = own_center[new], own_scale[new]
        return center, scale

    def steps(self, rows: Rows, index: np.ndarray) -> Steps:
        """The compact numbers of the rows `index` (any shape)."""
        series = rows.series[index]
        known = np.zeros((*index.shape, 0), np.float32)
        if self.known:
            columns = [self.columns.index(name) for name in self.known]
            last = rows.offsets[1:][series] - 1
            ahead = [rows.values[np.minimum(index + offset, last)][..., columns] for offset in self.ahead]
            known = np.concatenate(ahead, axis=-1)
        return Steps(rows.values[index], rows.ages[index], rows.phases[index], known, rows.static[series])

    def inputs(self, steps: Steps) -> jax.Array:
        """What the network sees, `[..., inputs]`; called inside the compiled program."""
        circular = [self.columns.index(name) for name in self.directions]
        plain = [c for c in range(len(self.columns)) if c not in circular]
        values, ages = jnp.asarray(steps.values), jnp.asarray(steps.ages).astype(steps.values.dtype)
        age = jnp.log1p(ages) / math.log1p(OLDEST)
        angle, turn = values[..., circular], 2 * math.pi * jnp.asarray(steps.phases)
        parts = [values[..., plain], jnp.sin(angle), jnp.cos(angle), age[..., :1]]
        parts += [(ages[..., 1:] == 0).astype(values.dtype), age[..., 1:]]
        parts += [jnp.sin(turn), jnp.cos(turn), jnp.asarray(steps.known), jnp.asarray(steps.static)]
        return jnp.concatenate(parts, axis=-1)

    def to_dict(self) -> dict[str, Any]:
        """Everything but the arrays, as plain values."""
        return {
            "columns": list(self.columns),
            "target": self.target,
            "known": list(self.known),
            "directions": list(self.directions),
            "masked": list(self.masked),
            "circles": list(self.circles),
            "ahead": list(self.ahead),
            "step": str(self.step),
            "time_zone": self.time_zone,
            "names": list(self.names),
            "static_columns": list(self.static_columns),
        }

    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays, by name."""
        names = ("center", "scale", "low", "high", "static_center", "static_scale")
        return {name: np.asarray(getattr(self, name), np.float64) for name in names}

    def _check(self) -> None:
        """Raises `ValueError` where the parts do not fit each other."""
        series, columns, static = len(self.names), len(self.columns), len(self.static_columns)
        shapes = dict.fromkeys(("center", "scale"), (series, columns)) | dict.fromkeys(("low", "high"), (columns,))
        shapes |= dict.fromkeys(("static_center", "static_scale"), (static,))
        words = (*self.columns, *self.names, *self.static_columns, self.target, self.time_zone or "")
        sound = (
            all(getattr(self, name).shape == shape for name, shape in shapes.items())
            and all(np.isfinite(getattr(self, name)).all() for name in shapes)
            and {self.target, *self.known, *self.directions, *self.masked} <= {*self.columns}
            and bool(self.ahead)
            and all(isinstance(rows, int) and 0 < rows < 10**9 for rows in self.ahead)
            and list(self.ahead) == sorted({*self.ahead})
            and all(len({*names}) == len(names) for names in (self.columns, self.names, self.circles))
            and all(isinstance(word, str) for word in words)
            and set(self.circles) <= set(CIRCLES)
            and bool((self.scale > 0).all() and (self.static_scale > 0).all())
        )
        if not sound:
            raise ValueError("its parts do not fit each other")
        if self.time_zone is not None:
            ZoneInfo(self.time_zone)

    @classmethod
    def from_parts(cls, facts: dict[str, Any], arrays: dict[str, np.ndarray]) -> "Encoding":
        """The reverse of `to_dict` and `arrays`. Raises: `BundleError` for parts that do not fit each other."""
        try:
            lists: dict[str, Any] = {name: tuple(facts[name]) for name in _LISTS}
            zone, target = facts["time_zone"], facts["target"]
            parts: dict[str, Any] = {**lists, **arrays, "target": target, "time_zone": zone}
            encoding = cls(step=Duration.parse(facts["step"]), **parts)
            encoding._check()
            return encoding
        except (ConfigError, KeyError, TypeError, ValueError) as error:
            raise BundleError(f"is no whole series model: {error}") from None


_LISTS = ("columns", "known", "directions", "masked", "circles", "ahead", "names", "static_columns")


def _rows_before(panel: Panel, ends: np.ndarray) -> np.ndarray:
    """True for the rows of each series before its end, `[rows]`."""
    return np.arange(panel.row_count) < np.asarray(ends)[panel.series_of_rows()]


def _location_and_scale(panel: Panel, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each series' columns before `ends`, `[series, columns]` each.

    A column that does not change is scaled by its size, or by 1: it then is 0 until it does change. One that a series lacks is
    scaled as in the other series, and by `NEVER` where all lack it.
    """
    series, columns = panel.series_count, len(panel.columns)
    center, scale = np.zeros((series, columns)), np.ones((series, columns))
    before, number = _rows_before(panel, ends), panel.series_of_rows()
    for c in range(columns):
        values = panel.values[:, c]
        seen = before & ~np.isnan(values)
        which, numbers = number[seen], values[seen].astype(np.float64)
        lacking = np.bincount(which, minlength=series) == 0
        count = np.maximum(np.bincount(which, minlength=series), 1)
        center[:, c] = np.bincount(which, numbers, minlength=series) / count
        spread = np.sqrt(np.bincount(which, (numbers - center[which, c]) ** 2, minlength=series) / count)
        size = np.where(center[:, c] != 0, np.abs(center[:, c]), 1.0)
        scale[:, c] = np.where(spread > 1e-6 * size, spread, size)
        if lacking.any():
            pooled = (numbers.mean(), numbers.std() or 1.0) if len(numbers) else (0.0, NEVER)
            center[lacking, c], scale[lacking, c] = pooled
    return center, scale


def _range(values: np.ndarray) -> tuple[float, float]:
    """The smallest and the largest value; 0 and 0 where there is none."""
    values = values[~np.isnan(values)]
    return (float(values.min()), float(values.max())) if len(values) else (0.0, 0.0)


def _scaled(values: np.ndarray, center: np.ndarray, scale: np.ndarray, series: np.ndarray) -> np.ndarray:
    """(value - center) / scale in float64, rounded once; in pieces, so that no float64 copy of a column stands in memory."""
    result = np.empty(len(values), np.float32)
    for start in range(0, len(values), _PIECE):
        piece = slice(start, start + _PIECE)
        which = series[piece]
        result[piece] = (values[piece].astype(np.float64) - center[which]) / scale[which]
    return result


def _last_seen(
    scaled: np.ndarray,
    seen: np.ndarray,
    starts: np.ndarray,
    series: np.ndarray,
    before: np.ndarray,
    ages_before: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Each row's last value seen in its series, and how many rows ago; `before` stands ahead of each series' first row."""
    if seen.all():
        return scaled, np.zeros(len(scaled), np.uint8)
    places = np.arange(len(scaled), dtype=starts.dtype)
    last = np.maximum.accumulate(np.where(seen, places, -1))
    known = last >= starts
    filled = np.where(known, scaled[np.maximum(last, 0)], before[series])
    age = np.where(known, places - last, ages_before[series].astype(starts.dtype) + (places - starts) + 1)
    return filled.astype(np.float32), np.minimum(age, OLDEST).astype(np.uint8)


def _no_memory(series: int, columns: int) -> Memory:
    """Nothing was seen yet. The last column stands for the row as a whole."""
    return Memory(np.zeros((series, columns + 1), np.float32), np.full((series, columns + 1), OLDEST, np.uint8))


def _remember(
    last: Memory, column: int, filled: np.ndarray, age: np.ndarray, offsets: np.ndarray, before: Memory
) -> None:
    """Keep what the last row of each series leaves behind; a series without rows leaves what was there."""
    some = np.diff(offsets) > 0
    ends = offsets[1:][some] - 1
    last.values[:, column], last.ages[:, column] = before.values[:, column], before.ages[:, column]
    last.values[some, column], last.ages[some, column] = filled[ends], age[ends]

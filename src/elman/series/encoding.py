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
from collections.abc import Iterator
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
from elman.series.mapped.panel import MappedPanel
from elman.series.mapped.rows import MappedRows
from elman.series.panel import Block, Horizon, Panel

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

    Those of all rows are arrays, or stand for arrays that are computed where they are asked for (`mapped.rows`).
    """

    values: Any
    ages: Any
    phases: Any
    static: np.ndarray
    targets: Any
    series: Any
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
        seen = _Seen.of(panel, training_ends, panel.columns.index(horizon.target))
        directions = tuple(
            name
            for c, name in enumerate(panel.columns)
            if name != horizon.target and is_direction(name, float(seen.low[c]), float(seen.high[c]))
        )
        center, scale = _location_and_scale(panel, training_ends)
        for name in directions:
            column = panel.columns.index(name)
            center[:, column], scale[:, column] = 0.0, _RADIAN
        # A series without a target in training is as good as new: it is scaled by its own rows, when they are there.
        taught = seen.taught if len(seen.taught) else np.arange(panel.series_count)
        static = panel.static if panel.static.size else np.zeros((panel.series_count, 0), np.float32)
        static_scale = static.std(axis=0) if static.size else np.zeros(static.shape[1])
        return cls(
            columns=panel.columns,
            target=horizon.target,
            known=tuple(settings.known),
            directions=directions,
            masked=tuple(
                name for name, share in zip(panel.columns, seen.absent, strict=True) if share >= OFTEN_MISSING
            ),
            circles=circles_for(_first_and_last(panel, training_ends), panel.step, settings.calendar),
            ahead=horizon.rows,
            step=panel.step,
            time_zone=panel.time_zone,
            names=tuple(panel.names[series] for series in taught),
            static_columns=panel.static_columns,
            center=center[taught],
            scale=scale[taught],
            low=seen.low,
            high=seen.high,
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
        if isinstance(panel, MappedPanel):
            if memory is not None:
                raise panel.no_copy()
            return self._mapped(panel, center, scale)
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
            static=self._static(panel),
            targets=targets,
            series=series,
            offsets=panel.offsets,
            center=center[:, self.target_index],
            scale=scale[:, self.target_index],
            memory=last,
        )

    def _mapped(self, panel: MappedPanel, center: np.ndarray, scale: np.ndarray) -> Rows:
        """`rows` of a panel that may be larger than memory: what is asked for is computed when it is."""
        view = MappedRows(panel, center, scale)
        last = _no_memory(panel.series_count, len(self.columns))
        some = np.diff(panel.offsets) > 0
        last.values[some, :-1], last.ages[some] = view.behind(panel.offsets[1:][some] - 1)
        return Rows(
            values=view.values(),
            ages=view.ages(tuple(self.columns.index(name) for name in self.masked)),
            phases=view.phases(self.time_zone, self.circles),
            static=self._static(panel),
            targets=view.column(self.target_index),
            series=view.series(),
            offsets=panel.offsets,
            center=center[:, self.target_index],
            scale=scale[:, self.target_index],
            memory=last,
        )

    def _static(self, panel: Panel) -> np.ndarray:
        """What each series is, in the network's numbers."""
        if not self.static_columns:
            return np.zeros((panel.series_count, 0), np.float32)
        return ((panel.static - self.static_center) / self.static_scale).astype(np.float32)

    def scales(self, panel: Panel, known_until: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Center and scale of each of the panel's series; a series that was not there in training is measured by itself."""
        if not self._numbers:
            self._numbers.update({name: number for number, name in enumerate(self.names)})
        numbers = np.asarray([self._numbers.get(name, -1) for name in panel.names])
        center, scale = self.center[numbers].copy(), self.scale[numbers].copy()
        new = numbers < 0
        if new.any():
            ends = panel.offsets[1:] if known_until is None else known_until
            own_center, own_scale = _location_and_scale(panel, ends, new)
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


@dataclass(frozen=True, eq=False)
class _Seen:
    """What the training rows show at a glance.

    low, high: of each column, 0 and 0 where it has no value. absent: by column, the share of the measured rows that lack it.
    taught: the series with a value of the target.
    """

    low: np.ndarray
    high: np.ndarray
    absent: np.ndarray
    taught: np.ndarray

    @classmethod
    def of(cls, panel: Panel, ends: np.ndarray, target: int) -> "_Seen":
        columns = len(panel.columns)
        low, high = np.full(columns, np.inf), np.full(columns, -np.inf)
        lacking, measured, taught = np.zeros(columns), 0, np.zeros(panel.series_count, bool)
        for block in panel.blocks():
            series = panel.series_in(block)
            before = _before(panel, block, ends, series)
            there = before & panel.observed_at(block.rows)
            measured += int(np.count_nonzero(there))
            for c in range(columns):
                values = panel.values[block.rows, c]
                known = ~np.isnan(values)
                lacking[c] += np.count_nonzero(there & ~known)
                known &= before
                if known.any():
                    low[c] = min(low[c], float(np.min(values, where=known, initial=np.inf)))
                    high[c] = max(high[c], float(np.max(values, where=known, initial=-np.inf)))
                if c == target:
                    taught[block.series.start + series[known]] = True
        empty = low > high
        low[empty] = high[empty] = 0.0
        return cls(low, high, lacking / max(measured, 1), np.flatnonzero(taught))


def _before(panel: Panel, block: Block, ends: np.ndarray, series: np.ndarray) -> np.ndarray:
    """True for the rows of a block before the end of their series; `series`: theirs, counted from the block's first."""
    return np.arange(block.rows.start, block.rows.stop) < np.asarray(ends)[block.series][series]


def _first_and_last(panel: Panel, ends: np.ndarray) -> np.ndarray:
    """The first and the last time of each series' rows before `ends`, one behind the other."""
    some = np.flatnonzero(ends > panel.offsets[:-1])
    rows = np.concatenate([panel.offsets[some], np.asarray(ends)[some] - 1])
    return np.concatenate([panel.times[rows[piece]] for piece in panel.pieces(len(rows))])


def _location_and_scale(
    panel: Panel, ends: np.ndarray, some: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each series' columns before `ends`, `[series, columns]` each.

    A column that does not change is scaled by its size, or by 1: it then is 0 until it does change. One that a series lacks is
    scaled as in the other series, and by `NEVER` where all lack it. some: true for the series that are asked for; None: all.
    """
    some = np.ones(panel.series_count, bool) if some is None else some
    shape = panel.series_count, len(panel.columns)
    center, scale, count = np.zeros(shape), np.ones(shape), np.zeros(shape, np.int64)
    for block in panel.blocks():
        if not some[block.series].any():
            continue
        number = panel.series_in(block)
        before, series = _before(panel, block, ends, number), block.series.stop - block.series.start
        for c in range(shape[1]):
            values = panel.values[block.rows, c]
            seen = before & ~np.isnan(values)
            which, numbers = number[seen], values[seen].astype(np.float64)
            found = np.bincount(which, minlength=series)
            own = np.bincount(which, numbers, minlength=series) / np.maximum(found, 1)
            squares = np.bincount(which, (numbers - own[which]) ** 2, minlength=series)
            spread = np.sqrt(squares / np.maximum(found, 1))
            size = np.where(own != 0, np.abs(own), 1.0)
            center[block.series, c], count[block.series, c] = own, found
            scale[block.series, c] = np.where(spread > 1e-6 * size, spread, size)
    for column in np.flatnonzero((count[some] == 0).any(axis=0)):
        lacking = some & (count[:, column] == 0)
        center[lacking, column], scale[lacking, column] = _pooled(panel, ends, int(column))
    return center, scale


def _pooled(panel: Panel, ends: np.ndarray, column: int) -> tuple[float, float]:
    """Mean and standard deviation of a column over all series together; 0 and `NEVER` where it has no value."""

    def numbers() -> Iterator[np.ndarray]:
        for block in panel.blocks():
            values = panel.values[block.rows, column]
            seen = _before(panel, block, ends, panel.series_in(block)) & ~np.isnan(values)
            yield values[seen].astype(np.float64)

    sums = np.asarray([(some.sum(), len(some)) for some in numbers()], float).reshape(-1, 2).sum(axis=0)
    if not sums[1]:
        return 0.0, NEVER
    mean = float(sums[0] / sums[1])
    spread = math.sqrt(sum(float(((some - mean) ** 2).sum()) for some in numbers()) / sums[1])
    return mean, spread or 1.0


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

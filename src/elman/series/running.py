"""A forecaster that runs along: it keeps its state, takes one new row at a time at constant cost, and always has a forecast ready.

Rows that come one by one and rows that come all at once go through the same compiled program, a loop with a dynamic bound, so that
both give the same numbers to the last bit. A model that looks at every third row keeps three states, one for each phase.

`Running` is the state of series that go in step; `RunningForecast` follows any number of series, each by its own clock, and takes
rows as people have them.
"""

import weakref
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import polars as pl

from elman.config import suggestion
from elman.errors import DataError
from elman.series.answers import forecast_frame, last_measured, one_series
from elman.series.encoding import Encoding, Memory, Rows, Steps
from elman.series.model import SeriesModel, first_seen
from elman.series.panel import Panel
from elman.series.recent import NewRow, moment_in_words, new_row, require_known
from elman.series.scoring.moments import target_times
from elman.training.engine import precision

BLOCK = 64
"""Steps that one call of the program takes at most; what is not used of it costs a copy of zeros."""

LONGEST_HISTORY = 100_000
"""Rows that are walked through to begin: what lies further back has no trace in a state, and would cost seconds."""

LONGEST_SILENCE = 10
"""Lookbacks without a row that are filled with missing rows; after more, the state knows nothing of the present."""

MOST_SERIES = 64
"""Series up to which `forecast_latest` runs each by itself; more go side by side in chunks."""

_Program = Callable[..., tuple[jax.Array, jax.Array]]
_programs: "weakref.WeakKeyDictionary[SeriesModel, _Program]" = weakref.WeakKeyDictionary()


class Running:
    """The state of a model behind the last row it was given; `after` makes one from a panel, `take` goes on with more rows."""

    def __init__(self, model: SeriesModel, panel: Panel) -> None:
        self.model, self.names = model, panel.names
        self.series = panel.series_count
        self._take_step = _program(model)
        with precision(model.config.training.dtype):
            zero = np.asarray(model.network.initial_carry(self.series))
        self._zero = zero
        self._windows = model.config.series.method == "windows"
        self._reach = (model.walk.warm_up * model.every) if self._windows else LONGEST_HISTORY - 1
        self._carries: list[Any] = [zero for _ in range(model.every)]
        self._scaled: Any = None
        self._recent: Steps | None = None
        self._row = 0
        # How the series are scaled is settled by the first rows: later ones must not change what was said.
        self._scales = model.encoding.scales(panel, None)
        self._memory: Memory | None = None
        self._rows: Rows | None = None
        self._seen = np.zeros(self.series, bool)
        self.times = panel.times[:0]

    @classmethod
    def after(cls, model: SeriesModel, panel: Panel, count: int | None = None) -> "Running":
        """The state behind the first `count` rows (None: all) of each series of `panel`, which must be equally long.

        A series that was not there in training is scaled by these rows.
        """
        count = _common_length(panel) if count is None else count
        running = cls(model, panel.until(panel.offsets[:-1] + count))
        running.take(panel, count)
        return running

    def take(self, panel: Panel, count: int | None = None) -> None:
        """Go on with the first `count` rows (None: all) of each series, which follow those taken before without a gap.

        Rows behind them serve only to tell the columns whose future is known.

        Raises: `DataError` for other series than those it began with, or series of different lengths.
        """
        length = _common_length(panel)
        if panel.names != self.names:
            raise DataError("rows must come for the same series as before: fill what is missing with empty values")
        count = length if count is None else count
        if count < 1:
            return
        taken = panel if count == length else panel.until(panel.offsets[:-1] + count)
        rows = self.model.encoding.rows(taken, memory=self._memory, scales=self._scales)
        ahead = rows
        if taken is not panel and self.model.encoding.known:
            ahead = self.model.encoding.rows(panel, memory=self._memory, scales=self._scales)
        # What lies too far back leaves no trace in the state: it is passed over.
        skipped = max(0, count - self._reach - 1)
        index = ahead.offsets[:-1] + np.arange(skipped, count)[:, None]
        steps = self.model.encoding.steps(ahead, index)
        self._seen |= first_seen(rows) < taken.offsets[1:]
        self._memory, self._rows = rows.memory, rows
        self.times = taken.times[taken.offsets[1:] - 1]
        self._row += skipped
        if self._windows:
            self._take_windows(steps)
        else:
            self._take_streams(steps, count - skipped)
        self._row += count - skipped

    def forecast(self) -> np.ndarray:
        """Calibrated quantiles `[series, steps, levels]` ahead of the last row, in the target's unit.

        NaN for a series whose target was never seen. Raises: `DataError` before the first row.
        """
        if self._scaled is None or self._rows is None:
            raise DataError("no row was given yet: there is nothing to forecast from")
        said = self.model.in_units(np.asarray(self._scaled), np.arange(self.series), self._rows)
        said[~self._seen] = np.nan
        return said

    def _take_streams(self, steps: Steps, count: int) -> None:
        """Each phase's rows through its own state; the last row's phase holds the forecast."""
        every = self.model.every
        for phase in range(every):
            # The rows of this phase: those whose number, counted from the very first, leaves this remainder.
            first = (phase - self._row) % every
            taken = len(range(first, count, every))
            if taken:
                mine = Steps(*(leaf[first::every] for leaf in steps))
                self._carries[phase], scaled = self._run(self._carries[phase], mine, taken)
                if (self._row + count - 1) % every == phase:
                    self._scaled = scaled

    def _take_windows(self, steps: Steps) -> None:
        """Keep the rows of one window, and run it from the zero state."""
        if self._recent is not None:
            steps = Steps(*(np.concatenate(pair) for pair in zip(self._recent, steps, strict=True)))
        self._recent = Steps(*(leaf[-(self._reach + 1) :] for leaf in steps))
        length = len(self._recent.values)
        window = Steps(*(leaf[(length - 1) % self.model.every :: self.model.every] for leaf in self._recent))
        _, self._scaled = self._run(self._zero, window, len(window.values))

    def _run(self, carry: Any, steps: Steps, count: int) -> tuple[Any, Any]:
        """`count` steps in blocks of one size, and the scaled quantiles behind the last one."""
        scaled = None
        for start in range(0, count, BLOCK):
            piece = Steps(*(_padded(leaf[start : start + BLOCK]) for leaf in steps))
            with precision(self.model.config.training.dtype):
                carry, scaled = self._take_step(self.model.network, carry, piece, np.int32(min(BLOCK, count - start)))
        return carry, scaled


class RunningForecast:
    """Follows series as their rows come: `update` takes a row and gives the forecast behind it, at the same cost for each row.

    model: a trained one. panel: the rows up to now, such as those of `read_recent`; of each series those up to the last with a
    measurement are taken, and values of known columns behind them are kept for later. time_column, time_format: where the times of
    those rows stood and how they were written, so that new ones may be written likewise.
    """

    def __init__(
        self, model: SeriesModel, panel: Panel, *, time_column: str | None = None, time_format: str | None = None
    ) -> None:
        self.model, self.time_zone, self.time_format = model, panel.time_zone, time_format
        self.time_column = time_column or model.config.series.time_column
        self.static_columns = panel.static_columns
        self._tracks: dict[str, _Track] = {}
        ends = last_measured(panel, model.encoding.known)
        require_known(model, panel, ends)
        for number, name in enumerate(panel.names):
            if ends[number] >= panel.offsets[number]:
                count = int(ends[number] - panel.offsets[number]) + 1
                self._tracks[name] = _Track(model, one_series(panel, number), count)

    @property
    def names(self) -> tuple[str, ...]:
        """The series that are followed."""
        return tuple(self._tracks)

    def update(self, row: Mapping[str, Any] | tuple[Any, ...]) -> pl.DataFrame:
        """Take one row and give the forecast behind it, as `forecast_frame` does.

        row: a dictionary of column names and values, with the time, and the series where there are several; or a tuple of the time
        and such a dictionary, or of the time and all values in the order of the model's columns. What is not in it counts as
        missing. Time that was jumped over, by whole steps, counts as missing rows.

        Raises: `DataError` for a time that stands already, lies before the last one or beside the grid, or is too far ahead; for
        columns the model does not know and values that are no finite numbers.
        """
        found = new_row(
            self.model, row, time_column=self.time_column, time_format=self.time_format, time_zone=self.time_zone
        )
        track = self._track(found)
        track.take(found)
        return self._answer(track)

    def forecast(self) -> pl.DataFrame:
        """The forecasts behind the last row of every series."""
        if not self._tracks:
            raise DataError("no series has a row yet: there is nothing to forecast from")
        return pl.concat([self._answer(track) for track in self._tracks.values()])

    def _track(self, row: NewRow) -> "_Track":
        if row.series in self._tracks:
            return self._tracks[row.series]
        if row.series is None and len(self._tracks) == 1:
            return next(iter(self._tracks.values()))
        if row.series is None:
            raise DataError(
                f"the row of {moment_in_words(row.time)} does not say which of {len(self._tracks)} series it belongs to"
            )
        raise DataError(
            f"the series {row.series!r} is not followed{suggestion(row.series, self._tracks)}; to begin with it, give a "
            f"lookback ({self.model.lookback:,} rows) of it first"
        )

    def _answer(self, track: "_Track") -> pl.DataFrame:
        return forecast_frame(self.model, track.last, track.running.forecast(), np.zeros(1, np.int64))


class _Track:
    """One series that is followed: its state, the last row, and what is known of the future."""

    def __init__(self, model: SeriesModel, panel: Panel, count: int) -> None:
        self.model = model
        self.running = Running.after(model, panel, count)
        self.last = panel.until(np.asarray([count]))
        self.last = _row_panel(self.last, self.last.values[-1:], self.last.times[-1:])
        # Months are counted from one row: each on its own would slip from the 31st to the 28th for good.
        self.anchor, self.rows = _row_panel(panel, panel.values[:1], panel.times[:1]), count - 1
        self.known = [panel.columns.index(name) for name in model.encoding.known]
        self.future: dict[int, np.ndarray] = {}
        if self.known:
            self._keep(panel.times[count:], panel.values[count:])

    def _keep(self, times: np.ndarray, values: np.ndarray) -> None:
        self.future |= {int(time): row[self.known] for time, row in zip(times, values, strict=True)}

    def take(self, row: NewRow) -> None:
        """Missing rows up to the new one, and the new one."""
        steps = self._steps_to(row.time)
        furthest = max(self.model.encoding.ahead) if self.known else 0
        numbers = self.rows + np.arange(1, steps + furthest + 1)
        times = target_times(self.anchor, np.zeros(1, np.int64), tuple(numbers.tolist()))[0]
        values = np.full((len(times), len(self.last.columns)), np.nan, np.float32)
        values[steps - 1] = row.values
        if self.known:
            for place, time in enumerate(times.tolist()):
                told = self.future.get(time)
                if told is not None:
                    here = values[place, self.known]
                    values[place, self.known] = np.where(np.isnan(here), told, here)
        panel = _row_panel(self.last, values, times)
        if self.known:
            require_known(self.model, panel, np.asarray([steps - 1]))
        self.running.take(panel, steps)
        self.rows += steps
        self.last = _row_panel(panel, values[steps - 1 : steps], times[steps - 1 : steps])
        self.future = {time: told for time, told in self.future.items() if time > row.time} if self.known else {}

    def _steps_to(self, time: int) -> int:
        """Whole steps from the last row to `time`."""
        last, step = int(self.last.times[0]), self.model.encoding.step
        name = f" of series {self.last.names[0]!r}" if self.last.names[0] else ""
        row, before = moment_in_words(time), moment_in_words(last)
        if time == last:
            raise DataError(f"the row of {row}{name} was given already: each time once")
        if time < last:
            raise DataError(f"time runs backwards: the row of {row}{name} comes after that of {before}")
        limit = LONGEST_SILENCE * self.model.lookback
        size = step.microseconds or step.months * 28 * 86_400_000_000
        guess = min((time - last) // size + 1, limit + 1)
        wanted = tuple(range(self.rows + 1, self.rows + guess + 1))
        if step.microseconds:
            steps, beside = divmod(time - last, step.microseconds)
            found = not beside
        else:
            times = target_times(self.anchor, np.zeros(1, np.int64), wanted)[0]
            steps = int(np.searchsorted(times, time)) + 1
            found = steps > limit or (steps <= len(times) and times[steps - 1] == time)
        if not found:
            raise DataError(
                f"the row of {row}{name} is beside the grid: the last one was of {before}, and rows are {step} apart"
            )
        if steps > limit:
            raise DataError(
                f"between the row of {before} and that of {row}{name} more than {LONGEST_SILENCE} lookbacks ({limit:,} rows) are "
                f"missing: begin anew with recent rows"
            )
        return int(steps)


def forecast_latest(model: SeriesModel, panel: Panel) -> pl.DataFrame:
    """The forecasts from the last row of each series that has a measurement of any column whose future is not known.

    Up to `MOST_SERIES` series each runs by itself, so that the numbers are those of a `RunningForecast` to the last bit; more go
    side by side in chunks after a warm-up, in bounded memory, and agree with it to a few digits. Series without any measurement
    are left out.

    Raises: `DataError` where no series has a measurement, or a known column has no values up to the horizon.
    """
    ends = last_measured(panel, model.encoding.known)
    require_known(model, panel, ends)
    there = np.flatnonzero(ends >= panel.offsets[:-1])
    if not len(there):
        raise DataError("no series has any measurement: there is nothing to forecast from")
    if len(there) > MOST_SERIES:
        return forecast_frame(model, panel, model.forecast(panel, ends[there]), ends[there])
    said = []
    for number in there.tolist():
        count = int(ends[number] - panel.offsets[number]) + 1
        said.append(Running.after(model, one_series(panel, number), count).forecast())
    return forecast_frame(model, panel, np.concatenate(said), ends[there])


def _program(model: SeriesModel) -> _Program:
    """(network, carry, steps, count) -> the carry and the scaled quantiles behind step `count`; compiled once for each model."""
    if model not in _programs:
        _programs[model] = _step_program(model.encoding)
    return _programs[model]


def _step_program(encoding: Encoding) -> _Program:
    @jax.jit
    def take(network, carry, steps, count):  # type: ignore[no-untyped-def]
        hidden = [jnp.zeros((carry.shape[2], member.cells[-1].hidden_size), carry.dtype) for member in network.members]

        def body(number, state):  # type: ignore[no-untyped-def]
            step = jax.tree.map(lambda leaf: jax.lax.dynamic_index_in_dim(leaf, number, keepdims=False), steps)
            inputs = encoding.inputs(step).astype(carry.dtype)
            return network.step(inputs, state[1])

        hidden, carry = jax.lax.fori_loop(0, count, body, (hidden, carry))
        last = jax.lax.dynamic_index_in_dim(jnp.asarray(steps.values), count - 1, keepdims=False)
        anchor = last[..., encoding.target_index].astype(carry.dtype)
        return carry, network.outputs(hidden) + anchor[:, None, None]

    return take


def _common_length(panel: Panel) -> int:
    lengths = np.diff(panel.offsets)
    if len(set(lengths.tolist())) > 1:
        raise DataError("series that run in step must be equally long: fill what is missing with empty values")
    return int(lengths[0]) if len(lengths) else 0


def _row_panel(panel: Panel, values: np.ndarray, times: np.ndarray) -> Panel:
    """Some rows of a single series, described as `panel` is."""
    return Panel(
        columns=panel.columns,
        values=values,
        times=times,
        offsets=np.asarray([0, len(times)], np.int64),
        step=panel.step,
        names=panel.names,
        time_zone=panel.time_zone,
        static=panel.static,
        static_columns=panel.static_columns,
    )


def _padded(leaf: np.ndarray) -> np.ndarray:
    """Zeros behind the steps up to the size of a block."""
    short = BLOCK - len(leaf)
    return leaf if not short else np.concatenate([leaf, np.zeros((short, *leaf.shape[1:]), leaf.dtype)])

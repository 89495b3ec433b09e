"""A forecaster that runs along: it keeps its state, takes one new row at a time at constant cost, and always has a forecast ready.

Rows that come one by one and rows that come all at once go through the same compiled program, a loop with a dynamic bound, so that
both give the same numbers to the last bit. A model that looks at every third row keeps three states, one for each phase.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from elman.errors import DataError
from elman.series.encoding import Memory, Rows, Steps
from elman.series.model import SeriesModel
from elman.series.panel import Panel
from elman.training.engine import precision

BLOCK = 64
"""Steps that one call of the program takes at most; what is not used of it costs a copy of zeros."""


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
        self._reach = (model.walk.warm_up * model.every) if self._windows else 0
        self._carries = [zero for _ in range(model.every)]
        self._scaled: np.ndarray | None = None
        self._recent: Steps | None = None
        self._row = 0
        # How the series are scaled is settled by the first rows: later ones must not change what was said.
        self._scales = model.encoding.scales(panel, None)
        self._memory: Memory | None = None
        self._rows: Rows | None = None
        self.times = panel.times[:0]

    @classmethod
    def after(cls, model: SeriesModel, panel: Panel) -> "Running":
        """The state behind all rows of `panel`, whose series must be equally long and end at the same time."""
        running = cls(model, panel)
        running.take(panel)
        return running

    def take(self, panel: Panel) -> None:
        """Go on with the rows of `panel`, which follow those taken before without a gap."""
        lengths = np.diff(panel.offsets)
        if panel.names != self.names or len(set(lengths.tolist())) != 1:
            raise DataError(
                "rows must come for the same series at the same times: fill what is missing with empty values"
            )
        rows = self._encoded(panel)
        index = panel.offsets[:-1] + np.arange(lengths[0])[:, None]
        steps = self.model.encoding.steps(rows, index)
        self._memory, self._rows = rows.memory, rows
        self.times = panel.times[panel.offsets[:-1]][:0] if lengths[0] == 0 else panel.times[panel.offsets[1:] - 1]
        if self._windows:
            self._take_windows(steps, int(lengths[0]))
        else:
            self._take_streams(steps, int(lengths[0]))
        self._row += int(lengths[0])

    def forecast(self) -> np.ndarray:
        """Calibrated quantiles `[series, steps, levels]` ahead of the last row, in the target's unit."""
        if self._scaled is None or self._rows is None:
            raise DataError("no row was given yet: there is nothing to forecast from")
        return self.model.in_units(self._scaled, np.arange(self.series), self._rows)

    def _encoded(self, panel: Panel) -> Rows:
        encoding = self.model.encoding
        return encoding.rows(panel, memory=self._memory, scales=self._scales)

    def _take_streams(self, steps: Steps, count: int) -> None:
        """Each phase's rows through its own state; the last row's phase holds the forecast."""
        every = self.model.every
        for phase in range(every):
            # The rows of this phase: those whose number, counted from the very first, leaves this remainder.
            first = (phase - self._row) % every
            mine = jax.tree.map(lambda leaf, first=first: leaf[first::every], steps)
            taken = len(range(first, count, every))
            if taken:
                self._carries[phase], scaled = self._run(self._carries[phase], mine, taken)
                if (self._row + count - 1) % every == phase:
                    self._scaled = scaled

    def _take_windows(self, steps: Steps, count: int) -> None:
        """Keep the rows of one window, and run it from the zero state."""
        if self._recent is not None:
            steps = jax.tree.map(lambda old, new: np.concatenate([old, new]), self._recent, steps)
        self._recent = jax.tree.map(lambda leaf: leaf[-(self._reach + 1) :], steps)
        length = len(self._recent.values)
        window = jax.tree.map(lambda leaf: leaf[(length - 1) % self.model.every :: self.model.every], self._recent)
        _, self._scaled = self._run(self._zero, window, len(window.values))

    def _run(self, carry: np.ndarray, steps: Steps, count: int) -> tuple[np.ndarray, np.ndarray]:
        """`count` steps in blocks of one size, and the scaled quantiles behind the last one."""
        outputs = np.zeros(0)
        for start in range(0, count, BLOCK):
            piece = jax.tree.map(lambda leaf, start=start: _padded(leaf[start : start + BLOCK]), steps)
            with precision(self.model.config.training.dtype):
                after, scaled = self._take_step(self.model.network, carry, piece, np.int32(min(BLOCK, count - start)))
            carry, outputs = np.asarray(after), np.asarray(scaled)
        return carry, outputs


def _program(model: SeriesModel) -> Callable:
    """(network, carry, steps, count) -> the carry and the scaled quantiles behind step `count`."""

    @jax.jit
    def take(network, carry, steps, count):  # type: ignore[no-untyped-def]
        encoding = model.encoding
        hidden = [jnp.zeros((carry.shape[2], member.cells[-1].hidden_size), carry.dtype) for member in network.members]

        def body(number, state):  # type: ignore[no-untyped-def]
            step = jax.tree.map(lambda leaf: jax.lax.dynamic_index_in_dim(leaf, number, keepdims=False), steps)
            inputs = encoding.inputs(step).astype(carry.dtype)
            return network.step(inputs, state[1])

        hidden, carry = jax.lax.fori_loop(0, count, body, (hidden, carry))
        last = jax.lax.dynamic_index_in_dim(jnp.asarray(steps.values), count - 1, keepdims=False)
        anchor = last[..., encoding.target_index].astype(carry.dtype)
        return carry, network.outputs(hidden) + anchor[:, None, None]

    return functools.partial(take)


def _padded(leaf: np.ndarray) -> np.ndarray:
    """Zeros behind the steps up to the size of a block."""
    short = BLOCK - len(leaf)
    return leaf if not short else np.concatenate([leaf, np.zeros((short, *leaf.shape[1:]), leaf.dtype)])

"""The newest forecasts of many series at once: each walked through whole, in blocks of steps, as many series as fit side by side.

A series is walked from its first row to its origin, as `Running` walks it by itself, and its forecast depends on no other series'
rows. Blocks and widths have few sizes, so that what comes later, of whatever lengths and numbers, compiles nothing.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from elman.series.chunks import CALL_NUMBERS
from elman.series.encoding import Encoding, Rows, Steps
from elman.series.model import SeriesModel, first_seen
from elman.series.networks import ForecastNetwork
from elman.series.panel import Panel
from elman.series.running import LONGEST_HISTORY
from elman.training.engine import precision

BLOCK = 32
"""Steps of one call: longer ones waste more behind a series' end, shorter ones hand over more often."""

WIDTHS = (1, 16, 64, 256)
"""Series that one call walks: each is a program of its own. More than the last cost as much for each, and more memory."""

_Program = Callable[[ForecastNetwork, jax.Array, Steps, np.ndarray], tuple[jax.Array, jax.Array]]


class SideBySide:
    """Forecasts of a model behind one row of each series; holds the compiled programs.

    model: a trained one, of streams or of windows.
    """

    def __init__(self, model: SeriesModel) -> None:
        self.model = model
        self._program = _block_program(model.encoding)

    def forecast(self, panel: Panel, origins: np.ndarray) -> np.ndarray:
        """Calibrated quantiles `[series, steps, levels]` in the target's unit, float32.

        panel: with the columns the model was trained on. origins: global row numbers, one at most for each series; a series that
        was not there in training is scaled by its rows up to its origin. NaN where the target was never seen up to the origin.
        """
        origins = np.asarray(origins, np.int64)
        ends = panel.offsets[1:].copy()
        numbers = np.searchsorted(panel.offsets, origins, "right") - 1
        ends[numbers] = origins + 1
        rows = self.model.encoding.rows(panel, known_until=ends)
        starts = self._starts(rows, origins, numbers)
        steps = (origins - starts) // self.model.every + 1
        horizon = self.model.horizon
        said = np.empty((len(origins), len(horizon.rows), len(horizon.levels)), np.float32)
        # Series of like lengths go together: a call is as long as its longest.
        order = np.argsort(-steps, kind="stable")
        first = 0
        while first < len(order):
            width = self._width(len(order) - first)
            chosen = order[first : first + width]
            with precision(self.model.config.training.dtype):
                scaled = self._walk(rows, starts[chosen], steps[chosen], width)
            said[chosen] = self.model.in_units(scaled, numbers[chosen], rows)
            first += width
        said[origins < first_seen(rows)[numbers]] = np.nan  # nothing to go by
        return said

    def _starts(self, rows: Rows, origins: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        """The row where each walk begins: the first of the origin's phase, or as far back as a state remembers."""
        model, begin = self.model, rows.offsets[:-1][numbers]
        since = origins - begin
        reach = model.walk.warm_up * model.every if model.config.series.method == "windows" else LONGEST_HISTORY - 1
        skipped = np.maximum(since - reach, 0)
        return begin + skipped + (since - skipped) % model.every

    def _width(self, count: int) -> int:
        """The narrowest program that takes all of `count` series, or the widest that memory allows."""
        most = max(1, CALL_NUMBERS // (BLOCK * self.model.walk.footprint))
        allowed = [width for width in WIDTHS if width <= most] or [1]
        return next((width for width in allowed if width >= count), allowed[-1])

    def _walk(self, rows: Rows, starts: np.ndarray, steps: np.ndarray, width: int) -> np.ndarray:
        """Scaled quantiles `[series, targets, levels]` behind `steps` steps from `starts`, the longest first."""
        model, count = self.model, len(starts)
        starts = np.append(starts, np.full(width - count, starts[-1]))
        last = np.append(steps, np.full(width - count, 1)) - 1
        carry = model.network.initial_carry(width)
        said: np.ndarray | None = None
        for first in range(0, int(steps[0]), BLOCK):
            # Behind its origin a series stands still: what it says there is not asked.
            step = np.minimum(first + np.arange(BLOCK)[:, None], last)
            block = model.encoding.steps(rows, starts + step * model.every)
            asked = np.clip(last - first, 0, BLOCK - 1).astype(np.int32)
            carry, answers = self._program(model.network, carry, block, asked)
            ending = np.flatnonzero((last[:count] >= first) & (last[:count] < first + BLOCK))
            if said is None:
                said = np.empty((count, *answers.shape[1:]), answers.dtype)
            if len(ending):
                said[ending] = np.asarray(answers)[ending]
        assert said is not None
        return said


def _block_program(encoding: Encoding) -> _Program:
    """(network, carry, steps, asked) -> the carry behind a block, and each series' scaled quantiles at its step `asked`."""

    @jax.jit
    def walk(
        network: ForecastNetwork, carry: jax.Array, steps: Steps, asked: np.ndarray
    ) -> tuple[jax.Array, jax.Array]:
        inputs = encoding.inputs(steps).astype(carry.dtype)
        hiddens, carry = network.hiddens(inputs, carry)
        lanes = jnp.arange(inputs.shape[1])
        # The head answers where it is asked only: at every step it would cost more than the recurrence.
        outputs = network.outputs([hidden[asked, lanes] for hidden in hiddens])
        anchor = jnp.asarray(steps.values)[asked, lanes, encoding.target_index].astype(carry.dtype)
        return carry, outputs + anchor[:, None, None]

    return walk

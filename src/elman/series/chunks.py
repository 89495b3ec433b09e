"""Forecasts at many origins at once: the series is cut into chunks that run side by side, each after a stretch to warm up on.

A chunk starts from the zero state `warm_up` steps before its first origin, long enough for a state to forget where it came from
(streams), or exactly a window before its only origin (windows).
"""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from elman.series.encoding import Encoding, Rows, Steps
from elman.series.networks import ForecastNetwork

SIDE_BY_SIDE = 64
"""Chunks that one call walks at once where there are enough: more make no step cheaper, fewer leave the processors idle."""

CALL_NUMBERS = 1 << 26
"""Most numbers that one call holds at once, projections, states and answers together: 256 MiB of float32."""

Program = Callable[[ForecastNetwork, Steps], jax.Array]


@dataclass(frozen=True)
class Walk:
    """How a model walks to an origin: steps of `every` rows, `warm_up` of them before the first origin of a chunk of `longest`.

    footprint: numbers that a call holds for each step of each chunk.
    """

    every: int
    warm_up: int
    longest: int
    footprint: int


def forecast_program(encoding: Encoding) -> Program:
    """The compiled program that forecasts at every step of some chunks: (network, steps) -> scaled quantiles."""

    def forecasts(network: ForecastNetwork, steps: Steps) -> jax.Array:
        inputs = encoding.inputs(steps)
        hiddens, _ = network.hiddens(inputs, network.initial_carry(inputs.shape[1]))
        anchor = jnp.asarray(steps.values)[..., encoding.target_index]
        return network.outputs(hiddens) + anchor[..., None, None]

    return jax.jit(forecasts)


def forecast_origins(
    program: Program,
    network: ForecastNetwork,
    encoding: Encoding,
    rows: Rows,
    origins: np.ndarray,
    walk: Walk,
) -> np.ndarray:
    """Scaled quantiles `[origins, targets, levels]` at every origin."""
    starts, places, chunk_of, steps = _cut(rows, origins, walk)
    width = int(np.clip(CALL_NUMBERS // (steps * walk.footprint), 1, min(4 * SIDE_BY_SIDE, len(starts))))
    width = 1 << (width.bit_length() - 1)  # few widths, few programs
    last = rows.offsets[1:][rows.series[np.minimum(starts, len(rows.series) - 1)]] - 1
    order = np.argsort(chunk_of, kind="stable")
    bounds = np.searchsorted(chunk_of[order], np.arange(0, len(starts) + width, width))
    result = None
    for number, first in enumerate(range(0, len(starts), width)):
        chosen = np.arange(first, first + width).clip(max=len(starts) - 1)
        index = np.minimum(starts[chosen] + walk.every * np.arange(steps)[:, None], last[chosen])
        answers = np.asarray(program(network, encoding.steps(rows, index)))
        mine = order[bounds[number] : bounds[number + 1]]
        if result is None:
            result = np.empty((len(origins), *answers.shape[2:]), answers.dtype)
        result[mine] = answers[places[mine], chunk_of[mine] - first]
    if result is None:
        raise ValueError("no origins were given")
    return result


def _cut(rows: Rows, origins: np.ndarray, walk: Walk) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """The first row of each chunk, each origin's step within its chunk, the number of its chunk, and the steps of a chunk."""
    series = rows.series[origins].astype(np.int64)
    since = origins - rows.offsets[series]
    step, phase = since // walk.every, since % walk.every
    lane = series * walk.every + phase
    lanes, number = np.unique(lane, return_inverse=True)
    first = np.full(len(lanes), np.iinfo(np.int64).max)
    np.minimum.at(first, number, step)
    longest = max(1, min(_longest(len(origins), walk), int((step - first[number]).max(initial=0)) + 1))
    piece = (step - first[number]) // longest
    keys, chunk_of = np.unique(np.stack([number, piece]), axis=1, return_inverse=True)
    begin = np.maximum(first[keys[0]] + keys[1] * longest - walk.warm_up, 0)
    lane_of = lanes[keys[0]]
    starts = rows.offsets[lane_of // walk.every] + lane_of % walk.every + begin * walk.every
    chunk_of = chunk_of.reshape(-1)
    return starts, step - begin[chunk_of], chunk_of, longest + min(walk.warm_up, int(step.max(initial=0)))


def _longest(origins: int, walk: Walk) -> int:
    """Origins in a chunk: as many as leave `SIDE_BY_SIDE` chunks, so that the warm-up costs little, in powers of two."""
    if walk.longest == 1:
        return 1
    return int(np.clip(1 << (origins // SIDE_BY_SIDE).bit_length(), 64, walk.longest))

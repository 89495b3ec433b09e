"""What is looked into: one network, one sequence as it sees it, and what each step is called."""

from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from elman.errors import DataError
from elman.network import Network
from elman.series.model import SeriesModel
from elman.series.panel import Panel
from elman.text.model import TextModel
from elman.text.vocabulary import name_symbols
from elman.training.engine import precision


@dataclass(frozen=True, eq=False)
class Subject:
    """A network and a sequence.

    xs: integers `[time]` or floats `[time, inputs]`, as `tracing.trace` takes them. labels: a character or a time for each step.
    dtype: the precision that the network computes in; use it inside `training.engine.precision(subject.dtype)`.
    rows: of a series, the panel's row behind each step.
    """

    network: Network
    xs: np.ndarray
    labels: tuple[str, ...]
    dtype: str
    rows: np.ndarray | None = None


def text_subject(model: TextModel, text: str) -> Subject:
    """A text as the model reads it.

    Raises: `DataError` for an empty text, or for characters that the model does not know, which it names.
    """
    unknown = model.vocabulary.unknown(text)
    if unknown:
        raise DataError(f"the model does not know {name_symbols(unknown)}: leave it out of the text")
    codes = model.vocabulary.encode(text)
    if len(codes) == 0:
        raise DataError("the text is empty: give at least one character to look at")
    labels = tuple(model.vocabulary.decode(codes[index : index + 1]) for index in range(len(codes)))
    return Subject(model.network, codes.astype(np.int32), labels, model.config.training.dtype)


def series_subject(
    model: SeriesModel, panel: Panel, *, origin: int | None = None, steps: int | None = None, member: int = 0
) -> Subject:
    """The rows that the model sees up to `origin` (a global row number of the panel; None: the last row of the first series).

    steps: how many of the network's steps; None: as many as a forecast is made from. member: which of the model's networks.
    The steps are `model.every` rows apart and end at the origin.
    """
    origin = int(panel.offsets[1] - 1) if origin is None else origin
    first = int(panel.offsets[np.searchsorted(panel.offsets, origin, side="right") - 1])
    steps = model.walk.warm_up + 1 if steps is None else steps
    index = np.arange(origin, first - 1, -model.every)[:steps][::-1].copy()
    with precision(model.config.training.dtype):
        rows = model.encoding.rows(panel)
        xs = np.asarray(model.encoding.inputs(model.encoding.steps(rows, index)))
    network = model.network.members[member]
    times = (datetime.fromtimestamp(int(t) / 1e6, UTC) for t in panel.times[index])
    labels = tuple(f"{moment:%Y-%m-%d %H:%M}" for moment in times)
    return Subject(network, xs.astype(network.head.weight.dtype), labels, model.config.training.dtype, index)

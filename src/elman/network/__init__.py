"""The mathematics: arrays in, arrays out; it knows nothing of files."""

from elman.network.cells import CELLS, GRU, LSTM, AbstractCell, Elman
from elman.network.heads import AbstractHead, Categorical, Point, Quantiles
from elman.network.model import Network, Normalization, to_arrays, with_arrays
from elman.network.recurrence import length_mask, unroll

__all__ = [
    "CELLS",
    "GRU",
    "LSTM",
    "AbstractCell",
    "AbstractHead",
    "Categorical",
    "Elman",
    "Network",
    "Normalization",
    "Point",
    "Quantiles",
    "length_mask",
    "to_arrays",
    "unroll",
    "with_arrays",
]

"""A trained model as plain arrays and plain facts: the one description that every export is made from.

    arrays      "<member>.<layer>.weight_inputs", ... and "<member>.head.weight", "<member>.head.bias"; as in `network/cells.py`
    facts       JSON: cell, sizes, head, and the vocabulary, or how measurements become numbers and numbers measurements

A text model has one member.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from elman.errors import BundleError, ConfigError
from elman.network import GRU, Elman, Network
from elman.network.cells import LSTM
from elman.network.heads import Categorical, Quantiles
from elman.series.model import SeriesModel
from elman.text.model import TextModel

CELL_NAMES: dict[type, str] = {Elman: "elman", GRU: "gru", LSTM: "lstm"}


@dataclass(frozen=True, eq=False)
class Parts:
    """What `parts_of` gives: `facts` (JSON values only) and `arrays` by name."""

    facts: dict[str, Any]
    arrays: dict[str, np.ndarray]

    @property
    def cell(self) -> str:
        """elman, gru or lstm."""
        return str(self.facts["cell"])

    @property
    def members(self) -> int:
        """Networks whose forecasts are averaged."""
        return int(self.facts["members"])

    @property
    def layers(self) -> int:
        """Recurrent layers of each."""
        return int(self.facts["layers"])

    @property
    def hidden(self) -> int:
        """Units of each layer."""
        return int(self.facts["hidden"])

    @property
    def inputs(self) -> int:
        """Symbols of the vocabulary, or values per step."""
        return int(self.facts["inputs"])

    @property
    def outputs(self) -> int:
        """Logits, or rows ahead times levels."""
        return int(self.arrays["0.head.bias"].shape[0])

    @property
    def is_text(self) -> bool:
        """Whether it writes; otherwise it forecasts."""
        return self.facts["kind"] == "text"

    def of(self, member: int, layer: int, name: str) -> np.ndarray:
        """One array of one layer."""
        return self.arrays[f"{member}.{layer}.{name}"]

    def single(self) -> "Parts":
        """The same in float32, which every export but NumPy's is written in."""
        return Parts(self.facts, {name: array.astype(np.float32) for name, array in self.arrays.items()})


def parts_of(model: TextModel | SeriesModel) -> Parts:
    """The description of a model.

    >>> parts = parts_of(TextModel.untrained("hello", hidden=8, cell="gru"))
    >>> parts.cell, parts.hidden, parts.inputs, sorted(parts.arrays)[:2]
    ('gru', 8, 4, ['0.0.bias', '0.0.bias_hidden'])

    Raises: `ConfigError` for precisions that no other runtime computes in (bfloat16).
    """
    members = (model.network,) if isinstance(model, TextModel) else model.network.members
    arrays: dict[str, np.ndarray] = {}
    for number, member in enumerate(members):
        arrays |= {f"{number}.{name}": array for name, array in _arrays(member).items()}
    if any(array.dtype not in (np.float32, np.float64) for array in arrays.values()):
        raise ConfigError("only models in float32 or float64 are exported; train with --dtype float32")
    first = members[0]
    cell = first.cells[0]
    facts: dict[str, Any] = {
        "made_by": "elman",
        "cell": _cell_name(first),
        "activation": cell.activation if isinstance(cell, Elman) else "tanh",
        "members": len(members),
        "layers": len(first.cells),
        "hidden": cell.hidden_size,
        "inputs": cell.input_size,
        "layer_norm": first.normalizations is not None,
        "residual": first.residual,
    }
    if isinstance(model, TextModel):
        facts |= {"kind": "text", "head": "categorical", "vocabulary": model.vocabulary.to_dict()}
    else:
        facts |= _series_facts(model)
    return Parts(facts, arrays)


def _cell_name(network: Network) -> str:
    if type(network.cells[0]) in CELL_NAMES:
        return CELL_NAMES[type(network.cells[0])]
    raise BundleError(f"a cell of the kind {type(network.cells[0]).__name__} cannot be exported")


def _arrays(network: Network) -> dict[str, np.ndarray]:
    """The arrays of one network by the names of this module."""
    arrays: dict[str, np.ndarray] = {
        "head.weight": np.asarray(network.head.weight),
        "head.bias": np.asarray(network.head.bias),
    }
    for layer, cell in enumerate(network.cells):
        arrays[f"{layer}.weight_inputs"] = np.asarray(cell.weight_inputs)
        arrays[f"{layer}.weight_hidden"] = np.asarray(cell.weight_hidden)
        arrays[f"{layer}.bias"] = np.asarray(cell.bias)
        if cell.bias_hidden is not None:
            arrays[f"{layer}.bias_hidden"] = np.asarray(cell.bias_hidden)
        if network.normalizations is not None:
            arrays[f"{layer}.norm_scale"] = np.asarray(network.normalizations[layer].scale)
            arrays[f"{layer}.norm_shift"] = np.asarray(network.normalizations[layer].shift)
    return arrays


def _series_facts(model: SeriesModel) -> dict[str, Any]:
    encoding, horizon = model.encoding, model.horizon
    head = model.network.members[0].head
    if isinstance(head, Categorical):
        raise BundleError("a forecaster with a head for symbols cannot be exported")
    calibration = model.calibration
    return {
        "kind": "series",
        "head": "quantiles" if isinstance(head, Quantiles) else "point",
        "levels": list(horizon.levels),
        "middle": int(np.argmin(np.abs(np.asarray(horizon.levels) - 0.5))),
        "horizon": list(horizon.rows),
        "every": model.every,
        "window": model.memory_rows if model.config.series.method == "windows" else None,
        "time_column": model.config.series.time_column,
        "series_column": model.config.series.series_column,
        "step_microseconds": encoding.step.microseconds,
        "sentinels": model.sentinels,
        "input_names": encoding.names_of_inputs(),
        "shifts": calibration.shifts.tolist(),
        "keep_middle": calibration.keep_middle,
        **encoding.to_dict(),
        **{name: array.tolist() for name, array in encoding.arrays().items()},
    }

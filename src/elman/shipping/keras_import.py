"""Weights of Keras 3, read as this house's networks: Embedding or one-hot vectors, a stack of SimpleRNN, GRU or LSTM, Dense.

Two kinds of file: `.weights.h5` of `save_weights`, which holds arrays and the kinds of the layers, and the `.keras` archive of
`save`, which holds the settings of the layers (`config.json`) and such a file of weights. Keras itself is not needed.

Nothing of a file is ever executed: settings are looked at as data, and layers that are not in the list above are refused by name,
those that hold code above all. Arrays are read only where they lie in the file as they are (no links, no compression, no chunks)
and together are no larger than the file. A GRU with `reset_after=False` is refused: the GRU here resets behind the product.

    SimpleRNN   h = tanh(x K + h R + b)                                                 or relu
    GRU         z, r, h   each a block of K, R and of the two rows of b; z = 1 keeps the old state
    LSTM        i, f, c, o
"""

import io
import json
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

import h5py
import numpy as np

from elman.config import Config
from elman.errors import BundleError
from elman.network import with_arrays
from elman.shipping.symbols import one_hot
from elman.text.model import TextModel, network_shape
from elman.text.vocabulary import Vocabulary
from elman.training.engine import precision

LARGEST_SETTINGS = 1 << 22
"""Bytes of config.json: a network of a dozen layers has some ten thousand."""

MOST_UNPACKED = 8
"""How many times its size an archive may unpack to; Keras itself does not compress."""

CELLS = {"simple_rnn": "elman", "gru": "gru", "lstm": "lstm"}
_BLOCKS = {"elman": 1, "gru": 3, "lstm": 4}
_SILENT = ("input_layer", "dropout", "spatial_dropout1d", "activation", "softmax")
"""Groups of layers that change nothing when a trained network runs, or only the form of what it says."""

_DAMAGE = (
    *(AttributeError, EOFError, KeyError, MemoryError, OverflowError, RuntimeError, TypeError, ValueError),
    *(zipfile.BadZipFile, zlib.error, struct.error),
)
"""What h5py and zipfile raise at files that are not whole."""


@dataclass(frozen=True, eq=False)
class KerasNetwork:
    """A network as Keras keeps it.

    embedding: `[symbols, width]`, or None where the first layer reads one-hot vectors. layers: kernel `[inputs, blocks * units]`,
    recurrent kernel `[units, blocks * units]` and bias (`[blocks * units]`; of a GRU `[2, 3 * units]`) of each. kernel
    `[units, symbols]` and bias: those of Dense.
    """

    cell: str
    activation: str
    embedding: np.ndarray | None
    layers: tuple[tuple[np.ndarray, np.ndarray, np.ndarray], ...]
    kernel: np.ndarray
    bias: np.ndarray

    @property
    def symbols(self) -> int:
        """How many it reads: the size of the vocabulary."""
        return int((self.layers[0][0] if self.embedding is None else self.embedding).shape[0])

    def in_order(self, numbers: np.ndarray) -> "KerasNetwork":
        """The same network whose symbol i is this one's `numbers[i]`."""
        head = {"kernel": self.kernel[:, numbers], "bias": self.bias[numbers]}
        if self.embedding is not None:
            return replace(self, embedding=self.embedding[numbers], **head)
        (kernel, *rest), *above = self.layers
        return replace(self, layers=((kernel[numbers], *rest), *above), **head)


def read_keras(path: Path, *, activation: str | None = None) -> KerasNetwork:
    """The network in a `.weights.h5` or `.keras` file.

    activation: of a SimpleRNN, "tanh" or "relu", where the file does not say (`.weights.h5`); None: tanh, Keras' default.

    Raises: `BundleError` for a file that is damaged or hostile, and for layers and settings that no network here computes.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        settings = None
        with path.open("rb") as file:
            if zipfile.is_zipfile(file):
                settings, weights = _unpacked(path, size)
            else:
                file.seek(0)
                weights = io.BytesIO(file.read())
        with h5py.File(weights, "r") as opened:
            named = _layers(path, opened, len(weights.getbuffer()))
        found = None if settings is None else _checked_settings(path, settings)
        return _network(path, named, found or activation or "tanh", settings is not None)
    except OSError as error:
        reason = error.strerror or str(error).splitlines()[0]
        raise BundleError(f"{path} cannot be read as a file of Keras: {reason}") from None
    except BundleError:
        raise
    except _DAMAGE as error:
        raise BundleError(
            f"{path} is damaged: {(str(error).splitlines() or [type(error).__name__])[0][:200]}"
        ) from None


def _unpacked(path: Path, size: int) -> tuple[dict[str, Any], io.BytesIO]:
    """Settings and weights of an archive, of which no more is unpacked than its size allows."""
    with zipfile.ZipFile(path) as archive:
        for name, most in (("config.json", LARGEST_SETTINGS), ("model.weights.h5", MOST_UNPACKED * size)):
            if name not in archive.namelist():
                raise BundleError(f"{path} is no archive of Keras 3: it holds no {name}")
            if archive.getinfo(name).file_size > most:
                raise BundleError(f"{path} is refused: its {name} would unpack to more than {most:,} bytes")
        try:
            settings = json.loads(archive.read("config.json"))
        except RecursionError:
            raise BundleError(f"{path} is refused: its config.json is nested too deep") from None
        if not isinstance(settings, dict):
            raise BundleError(f"{path} is no archive of Keras 3: its config.json is no object")
        return settings, io.BytesIO(archive.read("model.weights.h5"))


def _layers(path: Path, file: h5py.File, size: int) -> dict[str, list[np.ndarray]]:
    """The arrays of each layer, by the name of its group, in Keras' order: gru, gru_1, ... Layers without arrays too."""
    if "model_weights" in file or "layer_names" in file.attrs:
        raise BundleError(
            f"{path} is in the format of Keras 2: load it with Keras 3 there and save it as .keras or with save_weights"
        )
    if "layers" not in file:
        raise BundleError(f"{path} holds no layers of a Sequential or functional model of Keras 3")
    found: dict[str, list[np.ndarray]] = {}
    budget = size
    groups = _group(path, file, "layers")
    for name in sorted(groups, key=lambda word: (re.sub(r"_\d+$", "", word), len(word), word)):
        arrays = []
        layer = _group(path, groups, name)
        kind = re.sub(r"_\d+$", "", name)
        for inner in {"time_distributed": ("layer",), **dict.fromkeys(CELLS, ("cell",))}.get(kind, ()):
            layer = _group(path, layer, inner)
        for dataset in _datasets(path, layer, name):
            budget -= dataset.nbytes
            if budget < 0:
                raise BundleError(f"{path} is refused: its arrays are larger than the file")
            arrays.append(np.asarray(dataset[()]))
        found[name] = arrays
    return found


def _group(path: Path, parent: h5py.Group, name: str) -> h5py.Group:
    """A group that lies in this file itself."""
    link = parent.get(name, getlink=True)
    child = parent[name] if isinstance(link, h5py.HardLink) else None
    if not isinstance(child, h5py.Group):
        raise BundleError(f"{path} is no file of Keras' weights: {parent.name}/{name[:60]} is no group of its own")
    return child


def _datasets(path: Path, layer: h5py.Group, name: str) -> Iterator[h5py.Dataset]:
    """The arrays `vars/0`, `vars/1`, ... of a layer, none of which has been read yet."""
    variables = _group(path, layer, "vars") if "vars" in layer else None
    if variables is None:
        return
    if sorted(variables) != sorted(map(str, range(len(variables)))):
        raise BundleError(f"{path} is damaged: the arrays of {name} are not numbered from 0")
    for number in range(len(variables)):
        link = variables.get(str(number), getlink=True)
        dataset = variables[str(number)] if isinstance(link, h5py.HardLink) else None
        if not isinstance(dataset, h5py.Dataset):
            raise BundleError(f"{path} is refused: array {number} of {name} does not lie in the file itself")
        plain = dataset.chunks is None and not dataset.is_virtual and not dataset.external
        if not plain or dataset.dtype not in (np.float16, np.float32, np.float64):
            raise BundleError(
                f"{path} is refused: array {number} of {name} is compressed, lies elsewhere or holds no floats; "
                "save it with Keras' own save or save_weights"
            )
        yield dataset


def _checked_settings(path: Path, settings: dict[str, Any]) -> str | None:
    """The activation of the SimpleRNN layers, if there are any; everything else must be what the networks here compute."""
    kind, inner = settings.get("class_name"), settings.get("config")
    layers = inner.get("layers") if isinstance(inner, dict) else None
    if kind not in ("Sequential", "Functional") or not isinstance(layers, list) or not layers:
        raise BundleError(
            f"{path} holds a model of the class {str(kind)[:60]!r}: only Sequential and Functional are read"
        )
    recurrent = [layer for layer in layers if _class(layer) in ("SimpleRNN", "GRU", "LSTM")]
    activations, below, after_dense = set(), "", False
    for layer in layers:
        name, own = _class(layer), layer.get("config") if isinstance(layer, dict) else None
        if not isinstance(own, dict):
            raise BundleError(f"{path} is damaged: a layer of its config.json has no settings")
        if kind == "Functional":
            if below and set(_histories(layer.get("inbound_nodes"))) != {below}:
                _refuse(path, name, own, "does not read the layer before it alone: only plain stacks are read")
            below = str(layer.get("name", own.get("name")))
        if name == "TimeDistributed":
            wrapped = own.get("layer")
            inside = wrapped.get("config") if isinstance(wrapped, dict) else None
            if _class(wrapped) != "Dense" or not isinstance(inside, dict):
                _refuse(path, name, own, f"is around a layer of the class {_class(wrapped)[:60]!r}: only Dense is read")
            name, own = "Dense", inside
        if layer in recurrent:
            activation = _checked_recurrent(path, name, own, last=layer is recurrent[-1])
            activations |= {activation} if name == "SimpleRNN" else set()
        else:
            _check_other(path, name, own, after_dense)
        after_dense = after_dense or name == "Dense"
    if len(activations) > 1:
        raise BundleError(
            f"{path} cannot come in: its SimpleRNN layers have several activations; here all have the same"
        )
    return next(iter(activations), None)


def _check_other(path: Path, name: str, own: Mapping[str, Any], after_dense: bool) -> None:
    """Refuse a layer without a state that is not read, or not with these settings, or not at this place."""
    activation = own.get("activation") or "linear"
    if name == "Dense" and activation not in ("linear", "softmax"):
        _refuse(path, name, own, f"has the activation {str(activation)[:40]!r}: only linear and softmax are read")
    if name == "Embedding" and own.get("mask_zero"):
        _refuse(path, name, own, "takes symbol 0 for padding (mask_zero=True), which no network here does")
    if name in ("Activation", "Softmax") and not (after_dense and activation in ("linear", "softmax")):
        _refuse(path, name, own, "is an activation that no network here has at this place")
    if name not in ("Dense", "Embedding", "Activation", "Softmax", "InputLayer", "Dropout", "SpatialDropout1D"):
        _refuse(path, name, own, "is of a class that is not read: Embedding, SimpleRNN, GRU, LSTM and Dense are")


def _class(layer: Any) -> str:
    """The class of a layer; of Keras' own only, so that nobody else's class hides behind a familiar name."""
    if not isinstance(layer, dict):
        return "?"
    own = str(layer.get("module", "keras")).startswith("keras") and not layer.get("registered_name")
    return str(layer.get("class_name")) if own else f"{layer.get('registered_name') or layer.get('module')}"


def _refuse(path: Path, name: str, settings: Mapping[str, Any], why: str) -> NoReturn:
    raise BundleError(f"{path} cannot come in: the layer {str(settings.get('name'))[:60]!r} ({name[:60]}) {why}")


def _histories(value: Any) -> Iterator[str]:
    """The names of the layers that a layer of a functional model reads."""
    if isinstance(value, dict):
        history = value.get("keras_history")
        if isinstance(history, list) and history:
            yield str(history[0])
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _histories(item)


def _checked_recurrent(path: Path, name: str, own: Mapping[str, Any], *, last: bool) -> str:
    """The activation. Raises: `BundleError` for a setting that makes another computation of the layer."""
    activation = own.get("activation", "tanh")
    if activation != "tanh" and not (name == "SimpleRNN" and activation == "relu"):
        _refuse(path, name, own, f"has the activation {str(activation)[:40]!r}, which no cell here has")
    if name != "SimpleRNN" and own.get("recurrent_activation", "sigmoid") != "sigmoid":
        _refuse(path, name, own, f"has the recurrent activation {str(own['recurrent_activation'])[:40]!r}")
    if own.get("go_backwards"):
        _refuse(path, name, own, "reads backwards, which no model that writes can")
    if name == "GRU" and own.get("reset_after", True) is not True:
        _refuse_reset(path, str(own.get("name"))[:60])
    if not last and own.get("return_sequences") is not True:
        _refuse(path, name, own, "hands only its last state to the layer above it (return_sequences=False)")
    return str(activation)


def _refuse_reset(path: Path, name: str) -> NoReturn:
    raise BundleError(
        f"{path} cannot come in: the layer {name!r} is a GRU that resets before the product (reset_after=False); the GRU here "
        "resets behind it, as Keras' own default and cuDNN do: train it with reset_after=True"
    )


def _network(path: Path, named: dict[str, list[np.ndarray]], activation: str, told: bool) -> KerasNetwork:
    """The arrays in their places, all shapes checked. told: whether config.json was there and has been checked."""
    embedding: np.ndarray | None = None
    dense: list[np.ndarray] = []
    recurrent: list[tuple[str, str, list[np.ndarray]]] = []
    for name, arrays in named.items():
        kind = re.sub(r"_\d+$", "", name)
        for array in arrays:
            if array.size == 0 or not np.isfinite(array).all():
                raise BundleError(f"{path} cannot come in: the weights of {name[:60]} are empty or not all finite")
        single = [array.astype(np.float32) for array in arrays]
        if kind in CELLS:
            recurrent.append((kind, name, single))
        elif kind == "embedding" and embedding is None and [array.ndim for array in single] == [2]:
            embedding = single[0]
        elif kind in ("dense", "time_distributed") and not dense and single and single[0].ndim == 2:
            dense = single
        elif kind not in _SILENT:
            raise BundleError(
                f"{path} cannot come in: its layer {name[:60]!r} is not one of a network of one Embedding (or none), "
                "SimpleRNN, GRU or LSTM layers, and one Dense"
            )
    if not recurrent or not dense:
        raise BundleError(
            f"{path} cannot come in: it holds no {'Dense' if recurrent else 'SimpleRNN, GRU or LSTM'} layer"
        )
    kinds = sorted({kind for kind, _, _ in recurrent})
    if len(kinds) > 1:
        raise BundleError(
            f"{path} cannot come in: it mixes {' and '.join(kinds)} layers; here all layers are of one kind"
        )
    cell, inputs = CELLS[kinds[0]], recurrent[0][2][0].shape[0] if recurrent[0][2] else 0
    if embedding is not None and embedding.shape[1] != inputs:
        raise BundleError(
            f"{path} does not fit: the embedding is {embedding.shape[1]} wide and {recurrent[0][1]} reads {inputs}"
        )
    layers = []
    for _, name, arrays in recurrent:
        layers.append(_checked_layer(path, cell, name, arrays, inputs, told))
        inputs = layers[-1][1].shape[0]
    units = {layer[1].shape[0] for layer in layers}
    if len(units) > 1:
        raise BundleError(
            f"{path} cannot come in: its layers have {sorted(units)} units; here all layers have the same number"
        )
    bias = dense[1] if len(dense) > 1 else np.zeros(dense[0].shape[1], np.float32)
    if len(dense) > 2 or dense[0].shape[0] != inputs or bias.shape != (dense[0].shape[1],):
        raise BundleError(
            f"{path} does not fit: Dense has arrays of {[a.shape for a in dense]} on top of {inputs} units"
        )
    return KerasNetwork(cell, activation if cell == "elman" else "tanh", embedding, tuple(layers), dense[0], bias)


def _checked_layer(
    path: Path, cell: str, name: str, arrays: list[np.ndarray], inputs: int, told: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Kernel, recurrent kernel and bias of one layer, whose shapes fit."""
    blocks = _BLOCKS[cell]
    units = arrays[1].shape[0] if len(arrays) > 1 and arrays[1].ndim == 2 else 0
    wanted = (2, blocks * units) if cell == "gru" else (blocks * units,)
    if cell == "gru" and len(arrays) == 3 and arrays[2].shape == (blocks * units,):
        _refuse_reset(path, name)
    if cell == "gru" and len(arrays) == 2 and not told:
        raise BundleError(
            f"{path} does not say where its layer {name!r} resets, which only biases or the settings tell: give the .keras archive"
        )
    if len(arrays) == 2:
        arrays = [*arrays, np.zeros(wanted, np.float32)]
    shapes = [array.shape for array in arrays]
    if not units or shapes != [(inputs, blocks * units), (units, blocks * units), wanted]:
        raise BundleError(f"{path} does not fit: the layer {name!r} has arrays of {shapes} on top of {inputs} inputs")
    return arrays[0], arrays[1], arrays[2]


def text_model_from_keras(network: KerasNetwork, vocabulary: Vocabulary) -> TextModel:
    """The same network over `vocabulary`, in the order of whose symbols its rows and columns stand.

    Raises: `BundleError` where the vocabulary has another number of symbols.
    """
    if not network.symbols == network.kernel.shape[1] == vocabulary.size:
        raise BundleError(
            f"the network reads {network.symbols} symbols and says {network.kernel.shape[1]}, "
            f"but the vocabulary has {vocabulary.size}"
        )
    arrays: dict[str, np.ndarray] = {"head.weight": network.kernel, "head.bias": network.bias}
    for number, (kernel, recurrent, bias) in enumerate(network.layers):
        if number == 0 and network.embedding is not None:
            kernel = network.embedding @ kernel
        if network.cell == "gru":
            # Their z, r, h are our r, z, n; of the inner bias only the candidate's is multiplied by the reset gate.
            kernel, recurrent, bias = (_reordered(array) for array in (kernel, recurrent, bias))
            inner = np.split(bias[1], 3)
            arrays[f"cells.{number}.bias_candidate"] = inner[2]
            bias = bias[0] + np.concatenate([inner[0], inner[1], np.zeros_like(inner[2])])
        arrays |= {
            f"cells.{number}.weight_inputs": kernel,
            f"cells.{number}.weight_hidden": recurrent,
            f"cells.{number}.bias": bias,
        }
    units = network.layers[0][1].shape[0]
    config = Config().replace(
        cell=network.cell, hidden=units, layers=len(network.layers), activation=network.activation
    )
    with precision("float32"):
        shape = network_shape(config, vocabulary.size, "the file of Keras")
        return TextModel(with_arrays(shape, arrays, "the file of Keras"), vocabulary, config)


def _reordered(array: np.ndarray) -> np.ndarray:
    update, reset, candidate = np.split(array, 3, axis=-1)
    return np.concatenate([reset, update, candidate], axis=-1)


def keras_answers(network: KerasNetwork, symbols: np.ndarray) -> np.ndarray:
    """What the layers say by Keras' own equations, step by step from zero states in float64: logits `[time, symbols]`.

    Written from the arrays as Keras keeps them, and so a check on `text_model_from_keras`.
    """
    layers = [tuple(array.astype(np.float64) for array in layer) for layer in network.layers]
    states = [np.zeros((2, layer[1].shape[0])) for layer in layers]
    said = []
    with np.errstate(over="ignore"):
        for x in one_hot(symbols, network.symbols) if network.embedding is None else network.embedding[symbols]:
            for number, (kernel, recurrent, bias) in enumerate(layers):
                states[number] = _step(network, x @ kernel, states[number], recurrent, bias)
                x = states[number][0]
            said.append(x @ network.kernel + network.bias)
    return np.asarray(said)


def _step(
    network: KerasNetwork, outer: np.ndarray, state: np.ndarray, recurrent: np.ndarray, bias: np.ndarray
) -> np.ndarray:
    """(h, c) after one step; c is only an LSTM's."""
    h, c = state
    if network.cell == "gru":
        (xz, xr, xh), (hz, hr, hh) = np.split(outer + bias[0], 3), np.split(h @ recurrent + bias[1], 3)
        z, r = _sigmoid(xz + hz), _sigmoid(xr + hr)
        return np.stack([z * h + (1 - z) * np.tanh(xh + r * hh), c])
    total = outer + h @ recurrent + bias
    if network.cell == "lstm":
        i, f, g, o = np.split(total, 4)
        c = _sigmoid(f) * c + _sigmoid(i) * np.tanh(g)
        return np.stack([_sigmoid(o) * np.tanh(c), c])
    return np.stack([np.maximum(total, 0) if network.activation == "relu" else np.tanh(total), c])


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-x)))

"""ONNX models made of the operators RNN, GRU and LSTM, read as this house's cells.

`recurrent_nodes` gives each such operator of a file as `Imported`: cells with weights, one for each direction, that run on arrays
as ONNX lays them out. `text_model_from_onnx` reads back what `elman export` wrote.

A file is data: its operators are looked at, never run, weights that lie in other files are refused, and what is read needs no more
memory than the file's size. What an operator can be asked for and no cell of ours computes is refused by its name: peepholes, other
activations, clipping, coupled gates, and a GRU that resets before the product (`linear_before_reset = 0`).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import onnx
from onnx import helper, numpy_helper

from elman.config import Config
from elman.errors import BundleError, ConfigError
from elman.network import GRU, AbstractCell, Elman, with_arrays
from elman.network.cells import LSTM
from elman.network.recurrence import unroll
from elman.shipping.onnx_export import GATE_ORDER
from elman.text.model import TextModel, network_shape
from elman.text.vocabulary import Vocabulary
from elman.training.engine import precision

LARGEST_FILE = 1 << 31
"""Bytes: what a file of ONNX's own format can hold."""

KINDS = {"RNN": "elman", "GRU": "gru", "LSTM": "lstm"}
_PLAIN = {"RNN": [["Tanh"], ["Relu"]], "GRU": [["Sigmoid", "Tanh"]], "LSTM": [["Sigmoid", "Tanh", "Tanh"]]}
_KNOWN = {"activations", "direction", "hidden_size", "layout", "linear_before_reset"}
_NEUTRAL = {"input_forget": 0}


@dataclass(frozen=True, eq=False)
class Imported:
    """One recurrent operator. cells: one for each direction; backwards: which of them read from the end; layout: 1 batch first."""

    name: str
    cells: tuple[AbstractCell, ...]
    backwards: tuple[bool, ...]
    layout: int = 0

    def run(
        self,
        x: np.ndarray,
        *,
        lengths: np.ndarray | None = None,
        hidden: np.ndarray | None = None,
        memory: np.ndarray | None = None,
    ) -> tuple[np.ndarray, ...]:
        """Y, Y_h (and Y_c of an LSTM) for `x`, all in the operator's own layout: `[time, batch, inputs]`, or batch first."""
        swap = self.layout == 1
        xs = jnp.asarray(np.swapaxes(x, 0, 1) if swap else x)
        counts = None if lengths is None else jnp.asarray(lengths, jnp.int32)
        every, last = [], []
        for number, (cell, backwards) in enumerate(zip(self.cells, self.backwards, strict=True)):
            parts = []
            for given in (hidden, memory)[: cell.carry_blocks]:
                blank = jnp.zeros((xs.shape[1], cell.hidden_size), xs.dtype)
                parts.append(blank if given is None else jnp.asarray(given[:, number] if swap else given[number]))
            read = _turned(xs, counts) if backwards else xs
            outputs, carry = unroll(cell, read, jnp.concatenate(parts, axis=-1), lengths=counts)
            outputs = _turned(outputs, counts) if backwards else outputs
            if counts is not None:
                outputs = jnp.where(jnp.arange(len(outputs))[:, None, None] < counts[None, :, None], outputs, 0)
            every.append(outputs)
            last.append(jnp.split(carry, cell.carry_blocks, axis=-1))
        # ONNX: Y [time, directions, batch, hidden], or [batch, time, directions, hidden]; the states likewise without time.
        y = jnp.stack(every, axis=1)
        ends = [jnp.stack(parts, axis=0) for parts in zip(*last, strict=True)]
        if swap:
            y, ends = y.transpose(2, 0, 1, 3), [end.swapaxes(0, 1) for end in ends]
        return tuple(np.asarray(array) for array in (y, *ends))


def _turned(xs: jax.Array, lengths: jax.Array | None) -> jax.Array:
    """Each sequence from its own end to its beginning; what lies behind it stays."""
    if lengths is None:
        return xs[::-1]
    places = jnp.arange(len(xs))[:, None]
    places = jnp.where(places < lengths[None], lengths[None] - 1 - places, places)
    return jnp.take_along_axis(xs, places[..., None], axis=0)


def read_onnx(path: Path) -> onnx.ModelProto:
    """The file, parsed and checked. Raises: `BundleError` for what is no ONNX model, too large, or keeps its weights elsewhere."""
    try:
        if not path.is_file():
            raise BundleError(f"{path} is no file: give the path of an ONNX model")
        if path.stat().st_size > LARGEST_FILE:
            raise BundleError(f"{path} is larger than {LARGEST_FILE:,} bytes, more than an ONNX file can be")
        model = onnx.load_model_from_string(path.read_bytes())
        for tensor in model.graph.initializer:
            if tensor.data_location == onnx.TensorProto.EXTERNAL:
                raise BundleError(f"{path} keeps the weights {tensor.name[:60]!r} in another file: save it as one file")
        onnx.checker.check_model(model)
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror}") from None
    except BundleError:
        raise
    except Exception as error:  # the parser's and the checker's own classes, which are not the same in every release
        raise BundleError(f"{path} is no whole ONNX model: {_first_line(error)}") from None
    return model


def recurrent_nodes(model: onnx.ModelProto, constants: Mapping[str, np.ndarray] | None = None) -> list[Imported]:
    """Each RNN, GRU and LSTM of the main graph, in its order.

    constants: weights that the graph takes as inputs, by name, beside those that it holds.

    Raises: `BundleError` for weights that are missing or do not fit, and for what no cell of ours computes.
    """
    held = _constants(model) | dict(constants or {})
    nodes = [node for node in model.graph.node if node.op_type in KINDS and node.domain in ("", "ai.onnx")]
    try:
        return [_imported(node, held) for node in nodes]
    except (AttributeError, IndexError, TypeError, ValueError) as error:
        raise BundleError(f"a recurrent operator of the file is damaged: {_first_line(error)}") from None


def _constants(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    """The arrays that the graph holds; each is as large as its bytes in the file."""
    try:
        return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise BundleError(f"an array of the file is damaged: {_first_line(error)}") from None


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def _imported(node: onnx.NodeProto, held: Mapping[str, np.ndarray]) -> Imported:
    name = f"{node.op_type} {(node.name or (node.output or ['?'])[0])[:60]!r}"
    attributes: dict[str, Any] = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    direction = _checked_attributes(node, name, attributes)
    directions = 2 if direction == "bidirectional" else 1
    if len(node.input) > 7 and node.input[7]:
        raise BundleError(f"{name} has peepholes, which no cell here has")
    weights, recurrent = (_array(node, held, place, name) for place in (1, 2))
    gates = len(GATE_ORDER[KINDS[node.op_type]])
    hidden = recurrent.shape[-1] if recurrent.ndim == 3 else 0
    given = _array(node, held, 3, name) if len(node.input) > 3 and node.input[3] else None
    fits = (
        weights.ndim == 3
        and weights.size > 0
        and weights.shape[:2] == recurrent.shape[:2] == (directions, gates * hidden)
        and (given is None or given.shape == (directions, 2 * gates * hidden))
        and attributes.get("hidden_size", hidden) == hidden
    )
    if not fits:
        shapes = ", ".join(str(array.shape) for array in (weights, recurrent, given) if array is not None)
        raise BundleError(f"{name} has weights of shapes {shapes}, which do not fit")
    # Only now: of weights without a single number, a shape could ask for any amount of memory.
    bias = np.zeros((directions, 2 * gates * hidden), np.float32) if given is None else given
    relu = _activations(attributes)[:1] == ["Relu"]
    cells = [_cell(KINDS[node.op_type], relu, *parts) for parts in zip(weights, recurrent, bias, strict=True)]
    backwards = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}[direction]
    layout = attributes.get("layout", 0)
    if layout not in (0, 1):
        raise BundleError(f"{name} has the unknown layout {layout}")
    return Imported(name, tuple(cells), backwards, layout)


def _activations(attributes: Mapping[str, Any]) -> list[str]:
    return [word.decode("ascii", "replace") for word in attributes.get("activations", [])]


def _checked_attributes(node: onnx.NodeProto, name: str, attributes: Mapping[str, Any]) -> str:
    """The direction. Raises: `BundleError` for what no cell of ours computes."""
    direction = attributes.get("direction", b"forward").decode("ascii", "replace")
    if direction not in ("forward", "reverse", "bidirectional"):
        raise BundleError(f"{name} has the unknown direction {direction[:40]!r}")
    for key, value in attributes.items():
        if key not in _KNOWN and value != _NEUTRAL.get(key):
            raise BundleError(f"{name} has {key[:40]}, which no cell here has")
    directions = 2 if direction == "bidirectional" else 1
    words = _activations(attributes)
    if words and words not in [plain * directions for plain in _PLAIN[node.op_type]]:
        raise BundleError(f"{name} has the activations {', '.join(words)[:80]}, which no cell here has")
    if node.op_type == "GRU" and attributes.get("linear_before_reset", 0) != 1:
        raise BundleError(f"{name} resets before the product (linear_before_reset = 0); the GRU here resets behind it")
    return str(direction)


def _array(node: onnx.NodeProto, held: Mapping[str, np.ndarray], place: int, name: str) -> np.ndarray:
    if len(node.input) <= place or node.input[place] not in held:
        raise BundleError(f"{name} has weights that the file does not hold as constants")
    array = held[node.input[place]]
    if array.dtype not in (np.float32, np.float64) or not np.isfinite(array).all():
        raise BundleError(f"{name} has weights that are no finite floats")
    return array


def _cell(kind: str, relu: bool, weight: np.ndarray, recurrent: np.ndarray, bias: np.ndarray) -> AbstractCell:
    """A cell of ours from one direction's arrays."""
    outer, inner = np.split(bias, 2)
    weight, recurrent, outer, inner = (_ours(kind, array) for array in (weight.T, recurrent.T, outer, inner))
    arrays = jnp.asarray(weight), jnp.asarray(recurrent)
    if kind == "elman":
        return Elman(*arrays, jnp.asarray(outer + inner), "relu" if relu else "tanh")
    if kind == "lstm":
        return LSTM(*arrays, jnp.asarray(outer + inner))
    size = len(inner) // 3
    candidate, inner = inner[2 * size :], np.concatenate([inner[: 2 * size], np.zeros_like(inner[2 * size :])])
    return GRU(*arrays, jnp.asarray(outer + inner), jnp.asarray(candidate))


def _ours(kind: str, array: np.ndarray) -> np.ndarray:
    """Gate blocks along the last axis from ONNX's order into ours."""
    order = GATE_ORDER[kind]
    blocks = np.split(array, len(order), axis=-1)
    return np.concatenate([blocks[order.index(number)] for number in range(len(order))], axis=-1)


def text_model_from_onnx(path: Path) -> TextModel:
    """The text model in a file of `elman export --to onnx`.

    Raises: `BundleError` for any other file, and for networks with layer normalization or residuals.
    """
    model = read_onnx(Path(path))
    try:
        facts = json.loads({entry.key: entry.value for entry in model.metadata_props}["elman"])
        vocabulary = Vocabulary.from_dict(facts["vocabulary"])
        if facts["layer_norm"] or facts["residual"]:
            raise BundleError(
                f"{path} holds layer normalization or residuals, which are not read back: keep its bundle"
            )
        config = Config().replace(**{key: facts[key] for key in ("cell", "hidden", "layers", "activation")})
        recurrent = recurrent_nodes(model)
        if config.network.layers != len(recurrent):
            raise BundleError(f"{path} holds {len(recurrent)} recurrent layers and speaks of {config.network.layers}")
    except (ConfigError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise BundleError(f"{path} was not written by elman export --to onnx from a text model ({error!r})") from None
    held = _constants(model)
    arrays = {f"head.{name}": held.get(f"head_{name}_0", np.zeros(0, np.float32)) for name in ("weight", "bias")}
    if not all(array.dtype.kind == "f" and np.isfinite(array).all() for array in arrays.values()):
        raise BundleError(f"{path} has a head whose weights are no finite floats")
    for layer, imported in enumerate(recurrent):
        for name in ("weight_inputs", "weight_hidden", "bias", "bias_candidate"):
            if hasattr(imported.cells[0], name):
                arrays[f"cells.{layer}.{name}"] = np.asarray(getattr(imported.cells[0], name))
    with precision("float32"):
        return TextModel(
            with_arrays(network_shape(config, vocabulary.size, str(path)), arrays, str(path)), vocabulary, config
        )

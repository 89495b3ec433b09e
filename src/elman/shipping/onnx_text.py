"""ONNX models that write text, whoever made them: symbols or one-hot vectors, RNN, GRU or LSTM layers, one product.

The graph is followed from its input to its first output. On the way may stand an embedding (Gather, OneHot or a product), operators
that only change the form of an array, the recurrent operators, one product with its bias, and a softmax. Anything else is refused
by its name. How the form changes is not worked out: whoever reads a model compares what it says with what ONNX Runtime says.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from elman.config import Config
from elman.errors import BundleError
from elman.network import with_arrays
from elman.network.cells import Elman
from elman.shipping.onnx_import import KINDS, Imported, read_onnx, recurrent_nodes
from elman.shipping.parts import CELL_NAMES
from elman.shipping.symbols import Symbols, one_hot
from elman.text.model import TextModel, network_shape
from elman.text.vocabulary import Vocabulary
from elman.training.engine import precision

LARGEST_STATE = 1 << 24
"""Numbers of an array of zeros that a graph may ask for as its state or its shape."""

FORMS = {"Softmax": "probabilities", "LogSoftmax": "logarithms"}
_SAME = ("Identity", "Cast", "Dropout", "Squeeze", "Unsqueeze", "Transpose", "Reshape", "Flatten", "Slice", "Gather")
"""Operators that hand on the numbers that they get, in another form or fewer of them."""

_BESIDE = (*_SAME, "Shape", "Constant", "ConstantOfShape", "Expand", "Concat", "Split", "Range", "Mul")
"""Operators that make states, weights and shapes beside the path from symbols to answers."""

_PREFIXES = (1, 2, 5, 20)
"""Symbols after which a model is asked that says something only at the end, beside all of them."""


@dataclass(eq=False)
class TextGraph:
    """What lies on the path. vocabulary: where elman wrote the file. batch_first: whether the sequences come before the steps."""

    path: Path
    serialized: bytes
    vocabulary: Vocabulary | None
    held: dict[str, np.ndarray]
    carrying: set[str]
    recurrent: list[Imported] = field(default_factory=list)
    embedding: np.ndarray | None = None
    product: np.ndarray | None = None
    bias: np.ndarray | None = None
    form: str = "logits"
    batch_first: bool = False

    @property
    def weight(self) -> np.ndarray:
        """Of the product: `[units, symbols]`."""
        assert self.product is not None
        return self.product

    @property
    def first(self) -> np.ndarray:
        """What a one-hot vector is multiplied with: the first layer's input weights, behind the embedding if there is one."""
        weights = np.asarray(self.recurrent[0].cells[0].weight_inputs)
        if self.embedding is None:
            return weights
        if self.embedding.shape[1] != weights.shape[0]:
            raise BundleError(
                f"{self.path} does not fit: its embedding is {self.embedding.shape[1]} wide, "
                f"its first layer reads {weights.shape[0]}"
            )
        return np.asarray(self.embedding @ weights)

    @property
    def symbols(self) -> int:
        """How many it reads."""
        reads = np.asarray(self.recurrent[0].cells[0].weight_inputs) if self.embedding is None else self.embedding
        return int(reads.shape[0])

    def refuse(self, why: str) -> BundleError:
        """The error that says that this model cannot come in."""
        return BundleError(f"{self.path} cannot come in: {why}")

    def text_model(self, symbols: Symbols) -> TextModel:
        """The same network over `symbols`. Raises: `BundleError` for layers that differ in kind or size."""
        cells = [imported.cells[0] for imported in self.recurrent]
        sizes = {(type(cell).__name__, cell.hidden_size, getattr(cell, "activation", "tanh")) for cell in cells}
        if len(sizes) > 1:
            raise self.refuse(f"its layers differ ({', '.join(sorted(map(str, sizes)))}); here all layers are alike")
        numbers = symbols.numbers
        bias = np.zeros(self.weight.shape[1], np.float32) if self.bias is None else self.bias
        arrays = {"head.weight": self.weight[:, numbers], "head.bias": bias[numbers]}
        for layer, cell in enumerate(cells):
            for name in ("weight_inputs", "weight_hidden", "bias", "bias_candidate"):
                if hasattr(cell, name):
                    arrays[f"cells.{layer}.{name}"] = np.asarray(getattr(cell, name))
        arrays["cells.0.weight_inputs"] = self.first[numbers]
        first = cells[0]
        config = Config().replace(
            cell=CELL_NAMES[type(first)],
            hidden=first.hidden_size,
            layers=len(cells),
            activation=first.activation if isinstance(first, Elman) else "tanh",
        )
        single = {name: np.asarray(array, np.float32) for name, array in arrays.items()}
        with precision("float32"):
            shape = network_shape(config, symbols.vocabulary.size, str(self.path))
            return TextModel(with_arrays(shape, single, str(self.path)), symbols.vocabulary, config)

    def answers(self, symbols: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What ONNX Runtime says of the file to symbols `[time]`: after which steps, and what, `[steps, symbols]`.

        Raises: `BundleError` where the model cannot be asked about one sequence of two or more symbols.
        """
        import onnxruntime

        try:
            options = onnxruntime.SessionOptions()
            options.log_severity_level = 4  # what goes wrong becomes an error of ours, and is said once
            session = onnxruntime.InferenceSession(self.serialized, options, providers=["CPUExecutionProvider"])
            return _asked(self, session, symbols)
        except BundleError:
            raise
        except Exception as error:  # the runtime's own classes, which are not the same in every release
            raise self.refuse(f"ONNX Runtime does not run it: {(str(error).splitlines() or ['?'])[0][:200]}") from None


def read_text_graph(path: Path) -> TextGraph:
    """Follow the graph of a file.

    Raises: `BundleError` for what is no ONNX model, a forecaster of elman's, and whatever stands on the path and is not read.
    """
    path = Path(path)
    model = read_onnx(path)
    facts = _facts(path, model)
    vocabulary = Vocabulary.from_dict(facts["vocabulary"]) if "vocabulary" in facts else None
    serialized = model.SerializeToString()
    held = _constants(path, model, len(serialized))
    inputs = [i.name for i in model.graph.input if i.name not in held]
    if not inputs or not model.graph.output:
        raise BundleError(f"{path} cannot come in: its graph has no input or no output")
    graph = TextGraph(path, serialized, vocabulary, held, {inputs[0]})
    for node in _needed(model.graph, model.graph.output[0].name):
        _follow(graph, model, node)
    for node in model.graph.node:
        _check_beside(graph, node)
    if not graph.recurrent or graph.product is None or model.graph.output[0].name not in graph.carrying:
        lacks = (
            "product behind its layers"
            if graph.recurrent
            else "RNN, GRU or LSTM on the way from its input to its first output"
        )
        raise graph.refuse(f"it has no {lacks}")
    if graph.product.shape[0] != graph.recurrent[-1].cells[0].hidden_size:
        raise graph.refuse(f"its product reads {graph.product.shape[0]} numbers, its last layer says another number")
    if graph.bias is not None and graph.bias.shape != graph.product.shape[1:]:
        raise graph.refuse(f"its product says {graph.product.shape[1]} numbers, and {graph.bias.shape} are added")
    return graph


def _facts(path: Path, model: onnx.ModelProto) -> dict[str, Any]:
    """What elman wrote beside the graph; nothing where somebody else made the file."""
    try:
        facts = json.loads({entry.key: entry.value for entry in model.metadata_props}.get("elman", "{}"))
    except (ValueError, RecursionError):
        facts = None
    if not isinstance(facts, dict):
        raise BundleError(f"{path} is damaged: its metadata entry 'elman' is no object of JSON")
    if facts.get("kind") == "series":
        raise BundleError(f"{path} holds a forecaster, which is not read back: keep its bundle")
    return facts


def _constants(path: Path, model: onnx.ModelProto, most: int) -> dict[str, np.ndarray]:
    """The arrays of the graph, and those that a writer left to be put together from them; no larger than the file."""
    try:
        held = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        for node in model.graph.node:
            given = [held[name] for name in node.input if name in held]
            if node.op_type not in _FOLDED or len(given) != sum(bool(name) for name in node.input):
                continue
            attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
            if node.op_type == "Concat":
                most -= sum(array.nbytes for array in given)
                if most < 0:
                    raise BundleError(f"{path} is refused: its arrays put together are larger than the file")
            held[node.output[0]] = _FOLDED[node.op_type](given, attributes)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise BundleError(f"an array of {path} is damaged: {(str(error).splitlines() or ['?'])[0][:200]}") from None
    return held


def _squeezed(given: list[np.ndarray], attributes: dict[str, Any]) -> np.ndarray:
    axes = attributes.get("axes", given[1].tolist() if len(given) > 1 else None)
    return np.squeeze(given[0], None if axes is None else tuple(axes))


def _unsqueezed(given: list[np.ndarray], attributes: dict[str, Any]) -> np.ndarray:
    return np.expand_dims(given[0], tuple(attributes["axes"] if "axes" in attributes else given[1].tolist()))


def _sliced(given: list[np.ndarray], attributes: dict[str, Any]) -> np.ndarray:
    starts, ends = given[1].tolist(), given[2].tolist()
    axes = given[3].tolist() if len(given) > 3 else range(len(starts))
    steps = given[4].tolist() if len(given) > 4 else [1] * len(starts)
    cuts = [slice(None)] * given[0].ndim
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        cuts[axis] = slice(start, end, step)
    return given[0][tuple(cuts)]


_FOLDED: dict[str, Callable[[list[np.ndarray], dict[str, Any]], np.ndarray]] = {
    "Constant": lambda given, attributes: numpy_helper.to_array(attributes["value"]),
    "Identity": lambda given, attributes: given[0],
    "Transpose": lambda given, attributes: np.transpose(given[0], attributes.get("perm")),
    "Squeeze": _squeezed,
    "Unsqueeze": _unsqueezed,
    "Slice": _sliced,
    "Concat": lambda given, attributes: np.concatenate(given, axis=attributes["axis"]),
}


def _needed(graph: onnx.GraphProto, output: str) -> list[onnx.NodeProto]:
    """The nodes that `output` is made by, in the order of the graph."""
    wanted, found = {output}, []
    for node in reversed(graph.node):
        if wanted & set(node.output):
            found.append(node)
            wanted |= set(node.input)
    return found[::-1]


def _check_beside(graph: TextGraph, node: onnx.NodeProto) -> None:
    """Refuse operators that no such model has anywhere, and arrays of zeros beyond all sizes."""
    plain = node.domain in ("", "ai.onnx")
    known = {*_BESIDE, *KINDS, *FORMS, "MatMul", "Gemm", "Add", "OneHot"}
    if not plain or node.op_type not in known:
        raise graph.refuse(f"its operator {node.op_type[:60]!r} is none of a network that writes text")
    if node.op_type in ("ConstantOfShape", "Expand") and node.input[-1] in graph.held:
        sizes = [int(size) for size in graph.held[node.input[-1]].ravel()]
        if any(size > LARGEST_STATE for size in sizes) or np.prod(sizes or [1], dtype=float) > LARGEST_STATE:
            raise graph.refuse(f"it asks for an array of {sizes[:4]} numbers")


def _follow(graph: TextGraph, model: onnx.ModelProto, node: onnx.NodeProto) -> None:
    """Take one operator on the path; those beside it are passed over."""
    if not graph.carrying & set(node.input) or node.op_type == "Shape":
        return
    kind, on_path = node.op_type, bool(node.input) and node.input[0] in graph.carrying
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    if kind in KINDS and on_path:
        _take_recurrent(graph, model, node, attributes)
    elif kind == "Gather" and not on_path and not graph.recurrent and graph.embedding is None:
        graph.embedding = _matrix(graph, node.input[0], kind)
    elif kind in ("MatMul", "Gemm") and on_path:
        _take_product(graph, node, attributes)
    elif kind == "Add" and graph.product is not None:
        (other,) = set(node.input) - graph.carrying or {""}
        if graph.bias is not None or other not in graph.held:
            raise graph.refuse("it adds something to its answers that is no bias")
        graph.bias = graph.held[other].reshape(-1)
    elif kind in FORMS and graph.product is not None:
        graph.form = FORMS[kind]
    elif not (kind in _SAME and on_path) and not (kind == "OneHot" and on_path and not graph.recurrent):
        raise graph.refuse(f"its operator {kind[:60]!r} stands where no network here has anything like it")
    if kind == "Transpose" and not graph.recurrent and list(attributes.get("perm", []))[:2] in ([1, 0], []):
        graph.batch_first = not graph.batch_first
    graph.carrying |= set(node.output[: 2 if kind in KINDS else 1]) - {""}


def _take_recurrent(graph: TextGraph, model: onnx.ModelProto, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
    if graph.product is not None:
        raise graph.refuse(f"its {node.op_type} reads what a product says")
    single = onnx.ModelProto()
    single.graph.node.append(node)
    (imported,) = recurrent_nodes(single, graph.held)
    if imported.backwards != (False,):
        raise graph.refuse(f"{imported.name} reads backwards, which no model that writes can")
    if imported.layout == 1 and not graph.recurrent:
        graph.batch_first = not graph.batch_first
    graph.recurrent.append(imported)


def _take_product(graph: TextGraph, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
    matrix = _matrix(graph, node.input[1], node.op_type)
    if attributes.get("alpha", 1.0) != 1.0 or attributes.get("beta", 1.0) != 1.0 or attributes.get("transA"):
        raise graph.refuse("its Gemm scales or turns what it reads")
    matrix = matrix.T if attributes.get("transB") else matrix
    bias = graph.held.get(node.input[2]) if len(node.input) > 2 else None
    if not graph.recurrent and graph.embedding is None and bias is None:
        graph.embedding = matrix
    elif graph.recurrent and graph.product is None:
        graph.product, graph.bias = matrix, None if bias is None else bias.reshape(-1)
    else:
        raise graph.refuse(f"its {node.op_type} is one product more than an embedding and the last one")


def _matrix(graph: TextGraph, name: str, kind: str) -> np.ndarray:
    array = graph.held.get(name)
    if array is None or array.ndim != 2 or array.size == 0 or array.dtype not in (np.float32, np.float64):
        raise graph.refuse(f"its {kind} has no matrix of floats as a constant")
    if not np.isfinite(array).all():
        raise graph.refuse(f"the weights of its {kind} are not all finite")
    return array


def _asked(graph: TextGraph, session: Any, symbols: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give a session symbols, in pieces of the length that it takes, with its own states handed on."""
    data, *states = session.get_inputs()
    vectors = "int" not in data.type and len(data.shape) > 1 and data.shape[-1] == graph.symbols
    shape = list(data.shape[:-1] if vectors else data.shape)
    time = 1 if graph.batch_first and len(shape) == 2 else 0
    length = shape[time] if 0 < len(shape) < 3 else None
    if not 0 < len(shape) < 3 or (len(shape) == 2 and isinstance(shape[1 - time], int) and shape[1 - time] != 1):
        raise graph.refuse(
            f"its input is {data.shape}, and it cannot be asked about one sequence: export it with a batch of any size"
        )
    feeds = {state.name: _zeros(graph, state) for state in states}
    hands_on = bool(states) and len(session.get_outputs()) == len(states) + 1

    def ask(piece: np.ndarray) -> np.ndarray:
        given = one_hot(piece, graph.symbols) if vectors else piece
        form = [1] * len(shape) + list(given.shape[1:])
        form[time] = len(piece)
        said, *after = session.run(None, {data.name: given.reshape(form).astype(_TYPES[data.type]), **feeds})
        if hands_on:
            feeds.update(zip(feeds, after, strict=True))
        return np.asarray(said, np.float64).reshape(-1, graph.weight.shape[1])

    if isinstance(length, int):
        pieces = [symbols[start : start + length] for start in range(0, len(symbols) - length + 1, length)]
        pieces = pieces if hands_on else pieces[:1]
        if not pieces or len(pieces) * length < 2:
            raise graph.refuse(f"it takes {length} symbols at once: export it with any number of steps")
        rows = [ask(piece) for piece in pieces]
        per_piece = np.arange(length) if len(rows[0]) == length else np.asarray([length - 1])
        return np.concatenate([per_piece + number * length for number in range(len(rows))]), np.concatenate(rows)
    rows = [ask(symbols)]
    if len(rows[0]) == len(symbols):
        return np.arange(len(symbols)), rows[0]
    if len(rows[0]) != 1 or hands_on:
        raise graph.refuse(f"it says {len(rows[0])} times something about {len(symbols)} symbols")
    counts = [count for count in _PREFIXES if count < len(symbols)]
    rows += [ask(symbols[:count]) for count in counts]
    return np.asarray([len(symbols), *counts]) - 1, np.concatenate(rows)


_TYPES = {
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
}


def _zeros(graph: TextGraph, state: Any) -> np.ndarray:
    shape = [size if isinstance(size, int) else 1 for size in state.shape]
    if np.prod(shape, dtype=float) > LARGEST_STATE or state.type not in _TYPES:
        raise graph.refuse(f"its input {state.name[:60]!r} is no state of a network of this size")
    return np.zeros(shape, _TYPES[state.type])

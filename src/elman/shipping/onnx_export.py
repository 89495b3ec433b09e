"""A model as an ONNX file: the real operators RNN, GRU and LSTM, the state as inputs and outputs, time and batch of any size.

    inputs      symbols    int64 [time, batch]                 a text model's numbers of symbols
                inputs     float [time, batch, inputs]         a forecaster's values per step, named in the metadata
                hidden     float [members * layers, batch, hidden]; zeros before the first step
                cell       likewise, of an LSTM
    outputs     logits     float [time, batch, vocabulary]
                forecast   float [time, batch, ahead, levels]  scaled quantiles, not calibrated yet
                hidden_out, cell_out                           to be fed back

The metadata entry `elman` holds the model's facts as JSON: vocabulary, or scaler, calibration and names. Reference for the
operators and the order of their gates: ONNX operator specification, RNN, GRU and LSTM, version 14.
"""

import json
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from elman.shipping.parts import Parts

OPSET = 17
"""The first with LayerNormalization; its RNN, GRU and LSTM are those of version 14."""

IR_VERSION = 8
"""Of the same year as the operators, so that older runtimes read the file too."""

GATE_ORDER = {"elman": (0,), "gru": (1, 0, 2), "lstm": (0, 3, 1, 2)}
"""Which of our gate blocks stands where in ONNX's: GRU z, r, n for our r, z, n; LSTM i, o, f, c for our i, f, g, o."""

OPERATORS = {"elman": "RNN", "gru": "GRU", "lstm": "LSTM"}


class _Graph:
    """Nodes and constants as they are written down."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, name: str, array: Any) -> str:
        """A constant by name."""
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def node(self, operator: str, inputs: list[str], output: str | list[str], **attributes: Any) -> str:
        """A node; its first output's name."""
        outputs = [output] if isinstance(output, str) else output
        self.nodes.append(helper.make_node(operator, inputs, outputs, name=f"make_{outputs[0]}", **attributes))
        return outputs[0]


def to_onnx(parts: Parts) -> onnx.ModelProto:
    """The model, checked by ONNX's own checker. See the module for its inputs and outputs."""
    parts, graph = parts.single(), _Graph()
    stacks = parts.members * parts.layers
    states = ["hidden", "cell"] if parts.cell == "lstm" else ["hidden"]
    source, below = _input(parts, graph)
    for state in states:
        pieces = [f"{state}_{number}" for number in range(stacks)]
        graph.node("Split", [state, graph.constant(f"{state}_sizes", np.ones(stacks, np.int64))], pieces, axis=0)
    said = [_member(parts, graph, member, below) for member in range(parts.members)]
    for state in states:
        graph.node("Concat", [f"{state}_after_{number}" for number in range(stacks)], f"{state}_out", axis=0)
    answer, shape = _answer(parts, graph, said)
    state_shape: list[str | int | None] = [stacks, "batch", parts.hidden]
    inputs = [source, *(helper.make_tensor_value_info(name, TensorProto.FLOAT, state_shape) for name in states)]
    outputs = [helper.make_tensor_value_info(answer, TensorProto.FLOAT, ["time", "batch", *shape])]
    outputs += [helper.make_tensor_value_info(f"{name}_out", TensorProto.FLOAT, state_shape) for name in states]
    model = helper.make_model(
        helper.make_graph(graph.nodes, "elman", inputs, outputs, graph.constants),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="elman",
    )
    helper.set_model_props(model, {"elman": json.dumps(parts.facts, ensure_ascii=False)})
    onnx.checker.check_model(model, full_check=True)
    return model


def _input(parts: Parts, graph: _Graph) -> tuple[onnx.ValueInfoProto, str]:
    """What the user gives, and the vectors that the first layer reads."""
    if not parts.is_text:
        info = helper.make_tensor_value_info("inputs", TensorProto.FLOAT, ["time", "batch", parts.inputs])
        return info, "inputs"
    depth = graph.constant("vocabulary", np.asarray([parts.inputs], np.int64))
    values = graph.constant("off_on", np.asarray([0, 1], np.float32))
    graph.node("OneHot", ["symbols", depth, values], "one_hot", axis=-1)
    return helper.make_tensor_value_info("symbols", TensorProto.INT64, ["time", "batch"]), "one_hot"


def _member(parts: Parts, graph: _Graph, member: int, below: str) -> str:
    """The layers of one member, and what its head says before any form is given to it."""
    for layer in range(parts.layers):
        above = _layer(parts, graph, member, layer, below)
        if parts.facts["layer_norm"]:
            scale, shift = (
                graph.constant(f"{name}_{member}_{layer}", parts.of(member, layer, name))
                for name in ("norm_scale", "norm_shift")
            )
            norm = f"normalized_{member}_{layer}"
            above = graph.node("LayerNormalization", [above, scale, shift], norm, axis=-1, epsilon=1e-5)
        if parts.facts["residual"] and layer:
            above = graph.node("Add", [above, below], f"added_{member}_{layer}")
        below = above
    weight, bias = (
        graph.constant(f"head_{name}_{member}", parts.arrays[f"{member}.head.{name}"]) for name in ("weight", "bias")
    )
    product = graph.node("MatMul", [below, weight], f"head_product_{member}")
    return graph.node("Add", [product, bias], f"raw_{member}")


def _layer(parts: Parts, graph: _Graph, member: int, layer: int, below: str) -> str:
    """One recurrent operator; the name of its h at every step, [time, batch, hidden]."""
    place, number = f"{member}_{layer}", member * parts.layers + layer
    names = [
        graph.constant(f"W_{place}", _ordered(parts, parts.of(member, layer, "weight_inputs")).T[None]),
        graph.constant(f"R_{place}", _ordered(parts, parts.of(member, layer, "weight_hidden")).T[None]),
    ]
    bias = _ordered(parts, parts.of(member, layer, "bias"))
    inner = np.zeros_like(bias)
    if parts.cell == "gru":
        inner = _ordered(parts, parts.of(member, layer, "bias_hidden"))
    names.append(graph.constant(f"B_{place}", np.concatenate([bias, inner])[None]))
    inputs = [below, *names, "", f"hidden_{number}"]
    outputs = [f"directions_{place}", f"hidden_after_{number}"]
    attributes: dict[str, Any] = {"hidden_size": parts.hidden}
    if parts.cell == "lstm":
        inputs.append(f"cell_{number}")
        outputs.append(f"cell_after_{number}")
    elif parts.cell == "gru":
        attributes["linear_before_reset"] = 1
    elif parts.facts["activation"] == "relu":
        attributes["activations"] = ["Relu"]
    graph.node(OPERATORS[parts.cell], inputs, outputs, **attributes)
    axis = graph.constant(f"direction_{place}", np.asarray([1], np.int64))
    return graph.node("Squeeze", [outputs[0], axis], f"h_{place}")


def _ordered(parts: Parts, array: np.ndarray) -> np.ndarray:
    """Gate blocks along the last axis in ONNX's order."""
    order = GATE_ORDER[parts.cell]
    blocks = np.split(array, len(order), axis=-1)
    return np.concatenate([blocks[number] for number in order], axis=-1)


def _answer(parts: Parts, graph: _Graph, said: list[str]) -> tuple[str, list[int]]:
    """The output's name, and its shape behind time and batch."""
    if parts.is_text:
        return graph.node("Identity", [said[0]], "logits"), [parts.outputs]
    levels = len(parts.facts["levels"])
    ahead = parts.outputs // levels
    form = graph.constant("form", np.asarray([0, 0, ahead, levels], np.int64))
    shaped = []
    for member, raw in enumerate(said):
        reshaped = graph.node("Reshape", [raw, form], f"shaped_{member}")
        shaped.append(_quantiles(parts, graph, member, reshaped) if levels > 1 else reshaped)
    mean = graph.node("Mean", shaped, "mean")
    # What the network says is counted from the last value of the target, which stands among its inputs.
    place = parts.facts["input_names"].index(parts.facts["target"])
    anchor = graph.node(
        "Gather", ["inputs", graph.constant("target", np.asarray([place], np.int64))], "anchor", axis=-1
    )
    last = graph.constant("last", np.asarray([-1], np.int64))
    return graph.node("Add", [mean, graph.node("Unsqueeze", [anchor, last], "anchors")], "forecast"), [ahead, levels]


def _quantiles(parts: Parts, graph: _Graph, member: int, raw: str) -> str:
    """Each level is its neighbor nearer to the middle and a positive step: softplus, summed up by a triangular product.

    q = raw U + softplus(raw) V, with U picking the middle and V the steps between it and each level, with their sign.
    """
    levels, middle = len(parts.facts["levels"]), parts.facts["middle"]
    pick, steps = np.zeros((levels, levels), np.float32), np.zeros((levels, levels), np.float32)
    pick[middle] = 1
    for level in range(levels):
        steps[middle + 1 : level + 1, level] = 1
        steps[level:middle, level] = -1
    center = graph.node("MatMul", [raw, graph.constant(f"pick_{member}", pick)], f"center_{member}")
    widths = graph.node("Softplus", [raw], f"widths_{member}")
    apart = graph.node("MatMul", [widths, graph.constant(f"steps_{member}", steps)], f"apart_{member}")
    return graph.node("Add", [center, apart], f"quantiles_{member}")

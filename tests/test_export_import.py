"""ONNX models come in: the ONNX project's own cases for RNN, GRU and LSTM, there and back, and files that mean harm."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper
from onnx.backend.test.case import node as cases

from elman.errors import BundleError
from elman.shipping.comparing import model_answers, random_inputs
from elman.shipping.onnx_export import to_onnx
from elman.shipping.onnx_import import KINDS, Imported, read_onnx, recurrent_nodes, text_model_from_onnx
from elman.shipping.parts import parts_of
from exported import text_model

with np.errstate(
    invalid="ignore"
):  # NumPy may warn of vector lanes that nobody reads while the package computes its outputs
    from onnx.backend.test.case.node import gru, lstm, rnn  # noqa: F401

CASES = {found.name: found for found in cases._NodeTestCases if found.model.graph.node[0].op_type in KINDS}
"""Made by the package when the modules of the three operators are imported."""

REFUSED = {
    "test_gru_batchwise": "linear_before_reset = 0",
    "test_gru_bidirectional": "linear_before_reset = 0",
    "test_gru_defaults": "linear_before_reset = 0",
    "test_gru_reverse": "linear_before_reset = 0",
    "test_gru_seq_length": "linear_before_reset = 0",
    "test_gru_with_initial_bias": "linear_before_reset = 0",
    "test_lstm_with_peepholes": "peepholes",
}
"""What our cells do not compute, and what is said of it."""


def case(name: str) -> tuple[onnx.ModelProto, dict[str, np.ndarray], list[np.ndarray]]:
    """A case's model, its inputs by name, and the outputs that it must have."""
    model = CASES[name].model
    inputs, outputs = CASES[name].data_sets[0]
    return model, dict(zip([i.name for i in model.graph.input], inputs, strict=True)), list(outputs)


def run(imported: Imported, node: onnx.NodeProto, given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    inputs = dict(enumerate(node.input))
    optional = {
        name: given.get(inputs.get(place, "")) for place, name in ((4, "lengths"), (5, "hidden"), (6, "memory"))
    }
    return dict(zip(node.output, imported.run(given[node.input[0]], **optional), strict=False))


@pytest.mark.parametrize("name", [name for name in CASES if name not in REFUSED])
def test_the_onnx_projects_own_cases(name: str) -> None:
    model, given, expected = case(name)
    (node,) = model.graph.node
    found = run(recurrent_nodes(model, given)[0], node, given)
    for info, wanted in zip(model.graph.output, expected, strict=True):
        np.testing.assert_allclose(found[info.name], wanted, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", REFUSED)
def test_cases_that_no_cell_here_computes_are_refused_by_name(name: str) -> None:
    model, given, _ = case(name)
    with pytest.raises(BundleError, match=REFUSED[name]):
        recurrent_nodes(model, given)


@pytest.mark.parametrize("kind", ["RNN", "GRU", "LSTM"])
@pytest.mark.parametrize("direction", ["reverse", "bidirectional"])
def test_directions_and_lengths_as_onnx_runtime_computes_them(kind: str, direction: str) -> None:
    generator, hidden, inputs = np.random.default_rng(0), 4, 3
    gates, count = {"RNN": 1, "GRU": 3, "LSTM": 4}[kind], 2 if direction == "bidirectional" else 1
    shapes = {"W": (gates * hidden, inputs), "R": (gates * hidden, hidden), "B": (2 * gates * hidden,)}
    weights = {name: generator.normal(size=(count, *shape)).astype(np.float32) / 2 for name, shape in shapes.items()}
    outputs = ["Y", "Y_h", "Y_c"][: 3 if kind == "LSTM" else 2]
    extra = {"linear_before_reset": 1} if kind == "GRU" else {}
    node = helper.make_node(kind, ["X", "W", "R", "B", "L"], outputs, hidden_size=hidden, direction=direction, **extra)
    infos = [
        helper.make_tensor_value_info("X", onnx.TensorProto.FLOAT, [None, None, inputs]),
        helper.make_tensor_value_info("L", onnx.TensorProto.INT32, [None]),
    ]
    results = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in outputs]
    constants = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph([node], "one", infos, results, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    given = {"X": generator.normal(size=(6, 3, inputs)).astype(np.float32), "L": np.asarray([6, 2, 4], np.int32)}
    expected = onnxruntime.InferenceSession(model.SerializeToString()).run(outputs, given)
    for found, wanted in zip(recurrent_nodes(model)[0].run(given["X"], lengths=given["L"]), expected, strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-5)


@pytest.mark.parametrize("kind", ["gru", "lstm", "bytes"])
def test_there_and_back_is_the_same_model(kind: str, tmp_path: Path) -> None:
    model = text_model(kind)
    (tmp_path / "m.onnx").write_bytes(to_onnx(parts_of(model)).SerializeToString())
    back = text_model_from_onnx(tmp_path / "m.onnx")
    symbols = random_inputs(parts_of(model))
    assert back.vocabulary == model.vocabulary
    np.testing.assert_allclose(model_answers(back, symbols), model_answers(model, symbols), atol=1e-6)


def test_damaged_files_are_refused_with_one_line(tmp_path: Path) -> None:
    """Cut at every place, and with bytes changed at random: a model or a `BundleError`, nothing else."""
    whole = to_onnx(parts_of(text_model("lstm"))).SerializeToString()
    generator, path = np.random.default_rng(0), tmp_path / "m.onnx"
    said = []
    for trial in range(60):
        damaged = bytearray(whole[: generator.integers(len(whole))] if trial % 2 else whole)
        for place in generator.integers(0, len(damaged), 20):
            damaged[place] = generator.integers(256)
        path.write_bytes(bytes(damaged))
        try:
            text_model_from_onnx(path)
        except BundleError as error:
            said.append(str(error))
    assert len(said) > 30
    assert not any("\n" in words for words in said)


def test_weights_in_another_file_are_refused(tmp_path: Path) -> None:
    model = to_onnx(parts_of(text_model("lstm")))
    tensor = model.graph.initializer[0]
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(BundleError, match="in another file"):
        read_onnx(tmp_path / "m.onnx")

"""`elman import`: what comes in says what its file says, replaces nothing unasked, and what cannot come in is one line."""

import json
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save_file

from elman.cli import main
from elman.errors import BundleError, DataError
from elman.shipping import onnx_text
from elman.shipping.comparing import model_answers, random_inputs
from elman.shipping.exporting import export
from elman.shipping.importing import bring_in
from elman.shipping.onnx_export import to_onnx
from elman.shipping.parts import parts_of
from elman.shipping.symbols import Symbols, read_symbols
from elman.shipping.torch_export import to_state_dict
from elman.shipping.torch_import import common_names, state_dict_answers
from elman.text.model import TextModel
from elman.text.vocabulary import Vocabulary
from exported import series_model, text_model

GOLDEN = Path(__file__).parent / "golden"
SAID: dict[str, Any] = json.loads((GOLDEN / "foreign.json").read_text(encoding="utf-8"))
LETTERS = list("zyxwvutsrq")


@pytest.fixture
def letters(tmp_path: Path) -> Path:
    (tmp_path / "letters.json").write_text(json.dumps(LETTERS))
    return tmp_path / "letters.json"


def same(model: TextModel, other: TextModel) -> None:
    """Both know the same symbols and say the same."""
    symbols = random_inputs(parts_of(model))
    assert other.vocabulary == model.vocabulary
    np.testing.assert_allclose(model_answers(other, symbols), model_answers(model, symbols), atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "name"),
    [(kind, name) for kind in ("relu", "gru", "lstm", "bytes") for name in ("m.onnx", "m.safetensors")],
)
def test_what_elman_exported_comes_back_with_its_vocabulary(
    kind: str, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = text_model(kind)
    export(model, "onnx" if name == "m.onnx" else "torch", tmp_path / name)
    (tmp_path / name).rename(tmp_path / "without an ending")
    output = tmp_path / "back.safetensors"
    command = ["import", str(tmp_path / "without an ending"), "--output", str(output), "--quiet"]
    assert main([*command, "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    (found,) = figures["compared"]
    assert (found["steps"], found["largest_difference"] < 1e-5) == (200, True)
    assert (figures["cell"], figures["hidden"], figures["symbols"]) == (
        "elman" if kind == "relu" else "gru" if kind == "bytes" else kind,
        12,
        model.vocabulary.size,
    )
    back = TextModel.load(output)
    same(model, back)
    assert back.config.text.unit == model.vocabulary.unit
    assert back.config.text.normal_form == model.vocabulary.normal_form
    before = output.read_bytes()
    assert main(command) == 2
    assert "--force replaces it" in capsys.readouterr().err
    assert output.read_bytes() == before
    assert main([*command, "--force"]) == 0
    said = capsys.readouterr().out
    assert "largest difference" in said
    assert "12 units" in said


def test_a_model_that_pytorch_exported_says_what_pytorch_said(tmp_path: Path) -> None:
    (tmp_path / "order.json").write_text(json.dumps(SAID["characters"]))
    symbols = read_symbols(tmp_path / "order.json")
    arrived = bring_in(GOLDEN / "torch-lstm.onnx", tmp_path / "m.safetensors", symbols=symbols)
    codes = arrived.model.vocabulary.encode("".join(SAID["characters"][number] for number in SAID["symbols"]))
    expected = np.asarray(SAID["torch-lstm.onnx"])[:, symbols.numbers]
    np.testing.assert_allclose(model_answers(arrived.model, codes), expected, atol=2e-6)


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed + sum(shape)).normal(size=shape) / 2).astype(np.float32)


def foreign_dict(kind: str, *, embedding: bool = True, bias: bool = True) -> dict[str, np.ndarray]:
    """Somebody's modules with names of their own."""
    gates, units, width = {"rnn": 1, "gru": 3, "lstm": 4}[kind] * 6, 6, 4 if embedding else 10
    arrays = {"module.encoder.weight": draw(10, width)} if embedding else {}
    for layer in range(2):
        arrays[f"module.core.weight_ih_l{layer}"] = draw(gates, units if layer else width, seed=layer)
        arrays[f"module.core.weight_hh_l{layer}"] = draw(gates, units, seed=layer + 9)
        if bias:
            arrays[f"module.core.bias_ih_l{layer}"] = draw(gates, seed=layer)
            arrays[f"module.core.bias_hh_l{layer}"] = draw(gates, seed=layer + 3)
    arrays["module.decoder.weight"] = draw(10, units)
    return arrays | ({"module.decoder.bias": draw(10)} if bias else {})


@pytest.mark.parametrize("kind", ["rnn", "gru", "lstm"])
@pytest.mark.parametrize("embedding", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_a_state_dict_with_names_of_its_own(kind: str, embedding: bool, bias: bool, tmp_path: Path) -> None:
    arrays = foreign_dict(kind, embedding=embedding, bias=bias)
    save_file(arrays, tmp_path / "theirs.safetensors")
    numbers = np.random.default_rng(0).permutation(10)
    symbols = Symbols(Vocabulary.from_text("abcdefghij"), numbers)
    activation = "relu" if kind == "rnn" else None
    arrived = bring_in(
        tmp_path / "theirs.safetensors", tmp_path / "m.safetensors", symbols=symbols, activation=activation
    )
    codes = np.random.default_rng(1).integers(0, 10, 30)
    expected = numpy_answers(arrays, kind, numbers[codes])[:, numbers]
    np.testing.assert_allclose(model_answers(arrived.model, codes), expected, rtol=1e-4, atol=1e-5)
    _, said = state_dict_answers(common_names(arrays), activation or "tanh", numbers[codes])
    np.testing.assert_allclose(said[:, numbers], expected, rtol=1e-4, atol=1e-5)


def numpy_answers(arrays: dict[str, np.ndarray], kind: str, symbols: np.ndarray) -> np.ndarray:
    """The equations of torch.nn's documentation, layer by layer."""
    own = {name.removeprefix("module."): array.astype(float) for name, array in arrays.items()}
    xs = own["encoder.weight"][symbols] if "encoder.weight" in own else np.eye(10)[symbols]
    for layer in range(2):
        names = [f"core.{name}_l{layer}" for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
        w, u, b, inner = (own.get(name, np.zeros(len(own[names[0]]))) for name in names)
        h, c, above = np.zeros(6), np.zeros(6), []
        for x in xs:
            a, r = w @ x + b, u @ h + inner
            if kind == "rnn":
                h = np.maximum(a + r, 0)
            elif kind == "gru":
                reset, update = (1 / (1 + np.exp(-a[k : k + 6] - r[k : k + 6])) for k in (0, 6))
                h = (1 - update) * np.tanh(a[12:] + reset * r[12:]) + update * h
            else:
                i, f, o = (1 / (1 + np.exp(-a[k : k + 6] - r[k : k + 6])) for k in (0, 6, 18))
                c = f * c + i * np.tanh(a[12:18] + r[12:18])
                h = o * np.tanh(c)
            above.append(h)
        xs = np.asarray(above)
    return xs @ own["decoder.weight"].T + own.get("decoder.bias", np.zeros(10))


def test_state_dicts_that_are_no_such_network_are_refused() -> None:
    whole = foreign_dict("gru")
    core = {name.replace("core", "other"): array for name, array in whole.items() if "core" in name}
    for arrays, message in (
        ({**whole, "module.norm.weight": draw(6)}, "module.norm.weight"),
        ({**whole, **core}, "holds 2 modules"),
        ({"module.decoder.weight": draw(10, 6)}, "holds 0 modules"),
        ({**whole, "module.second.weight": draw(10, 6), "module.second.bias": draw(10)}, "2 arrays that could be"),
        ({name: a for name, a in whole.items() if "decoder" not in name}, "no arrays that could be the linear"),
        ({**whole, "module.core.weight_ih_l0": draw(18)}, "no matrices"),
        ({**whole, "module.core.weight_ih_l0_reverse": draw(18, 4)}, "weight_ih_l0_reverse"),
        ({**whole, "module.core.weight_hr_l0": draw(3, 6)}, "weight_hr_l0"),
    ):
        with pytest.raises(BundleError, match=message):
            common_names(arrays)


Change = Callable[[dict[str, Any]], None]


def foreign_graph(kind: str = "GRU", *, form: str = "", one_hot: bool = False, ends: str = "all") -> onnx.ModelProto:
    """A graph that somebody else could have written: ten symbols, six units. ends: "all" steps or the "last" one."""
    gates = {"RNN": 1, "GRU": 3, "LSTM": 4}[kind] * 6
    arrays = {
        "E": draw(10, 4),
        "W": draw(1, gates, 10 if one_hot else 4),
        "R": draw(1, gates, 6),
        "B": draw(1, 2 * gates),
        "V": draw(10, 6),
        "c": draw(10),
        "one": np.asarray([1], np.int64),
        "zero": np.asarray([0], np.int64),
    }
    extra: dict[str, Any] = {"linear_before_reset": 1} if kind == "GRU" else {}
    nodes = [] if one_hot else [helper.make_node("Gather", ["E", "x"], ["e"])]
    nodes.append(helper.make_node(kind, ["x" if one_hot else "e", "W", "R", "B"], ["Y", "Y_h"], hidden_size=6, **extra))
    source, axis = ("Y", "one") if ends == "all" else ("Y_h", "zero")
    nodes.append(helper.make_node("Squeeze", [source, axis], ["h"]))
    if ends == "all":
        nodes.append(helper.make_node("Transpose", ["V"], ["Vt"], perm=[1, 0]))
        nodes += [helper.make_node("MatMul", ["h", "Vt"], ["p"]), helper.make_node("Add", ["c", "p"], ["said"])]
    else:
        nodes.append(helper.make_node("Gemm", ["h", "V", "c"], ["said"], transB=1))
    if form:
        nodes.append(helper.make_node(form, ["said"], ["formed"], axis=-1))
    shape: list[Any] = ["time", 1, 10] if one_hot else ["time", "batch"]
    said: list[Any] = ["steps", "batch", 10] if ends == "all" else ["batch", 10]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT if one_hot else TensorProto.INT64, shape)]
    outputs = [helper.make_tensor_value_info("formed" if form else "said", TensorProto.FLOAT, said)]
    constants = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    graph = helper.make_graph(nodes, "theirs", inputs, outputs, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize(
    ("kind", "settings", "steps"),
    [
        ("GRU", {}, 200),
        ("RNN", {"form": "LogSoftmax"}, 200),
        ("LSTM", {"one_hot": True, "form": "Softmax"}, 200),
        ("LSTM", {"ends": "last"}, 5),
        ("GRU", {"ends": "last", "one_hot": True, "form": "Softmax"}, 5),
    ],
)
def test_graphs_of_others(kind: str, settings: dict[str, Any], steps: int, letters: Path, tmp_path: Path) -> None:
    model = foreign_graph(kind, **settings)
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    symbols = read_symbols(letters)
    arrived = bring_in(tmp_path / "m.onnx", tmp_path / "m.safetensors", symbols=symbols)
    (comparison,) = arrived.comparisons
    assert comparison.steps == steps
    assert comparison.largest < 1e-5
    # And by ONNX's own reference, which is written in NumPy: the letters "zyxq" are the numbers 0, 1, 2, 9 there.
    from onnx.reference import ReferenceEvaluator

    given = np.asarray([0, 1, 2, 9])
    fed = np.eye(10, dtype=np.float32)[given][:, None] if settings.get("one_hot") else given[:, None]
    (said,) = ReferenceEvaluator(model).run(None, {"x": fed})
    ours = model_answers(arrived.model, arrived.model.vocabulary.encode("zyxq"))[-1]
    if settings.get("form"):
        ours = ours - np.log(np.exp(ours).sum())
        ours = np.exp(ours) if settings["form"] == "Softmax" else ours
    assert arrived.model.vocabulary.symbols == tuple(sorted(LETTERS))
    np.testing.assert_allclose(ours[::-1], said.reshape(-1, 10)[-1], atol=1e-5)


@pytest.mark.parametrize(("steps", "compared"), [(1, 200), (7, 196)])
def test_a_graph_of_few_steps_hands_its_state_on(steps: int, compared: int, tmp_path: Path) -> None:
    model = to_onnx(parts_of(text_model("lstm")))
    for place, size in enumerate((steps, 1)):
        model.graph.input[0].type.tensor_type.shape.dim[place].dim_value = size
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    arrived = bring_in(tmp_path / "m.onnx", tmp_path / "m.safetensors")
    assert arrived.comparisons[0].steps == compared
    same(text_model("lstm"), arrived.model)


def insert(model: onnx.ModelProto, place: int, kind: str, inputs: list[str], output: str, **attributes: Any) -> None:
    model.graph.node.insert(place, helper.make_node(kind, inputs, [output], **attributes))


def relu_behind(model: onnx.ModelProto) -> None:
    insert(model, 3, "Relu", ["h"], "squashed")
    model.graph.node[5].input[0] = "squashed"


def scaled(model: onnx.ModelProto) -> None:
    insert(model, 3, "Mul", ["h", "h"], "squared")
    model.graph.node[5].input[0] = "squared"


def backwards(model: onnx.ModelProto) -> None:
    model.graph.node[1].attribute.append(helper.make_attribute("direction", "reverse"))


def reset_first(model: onnx.ModelProto) -> None:
    del model.graph.node[1].attribute[1]


def no_product(model: onnx.ModelProto) -> None:
    model.graph.output[0].name = "h"


def endless_zeros(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(numpy_helper.from_array(np.asarray([1, 1 << 40], np.int64), "many"))
    insert(model, 0, "ConstantOfShape", ["many"], "zeros")


def not_finite(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.full((10, 4), np.nan, np.float32), "E"))


def several_sequences(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 3


def one_step(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (relu_behind, "operator 'Relu'"),
        (scaled, "operator 'Mul' stands where"),
        (backwards, "reads backwards"),
        (reset_first, "linear_before_reset = 0"),
        (no_product, "no product behind its layers"),
        (endless_zeros, "asks for an array"),
        (not_finite, "not all finite"),
        (several_sequences, "one sequence"),
        (one_step, "it takes 1 symbols at once"),
    ],
)
def test_graphs_that_no_network_here_computes_are_refused(
    change: Callable[[onnx.ModelProto], None], message: str, letters: Path, tmp_path: Path
) -> None:
    model = foreign_graph()
    change(model)
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(BundleError, match=message):
        bring_in(tmp_path / "m.onnx", tmp_path / "m.safetensors", symbols=read_symbols(letters))
    assert not (tmp_path / "m.safetensors").exists()


def test_a_bundle_that_differs_from_its_file_is_not_written(
    letters: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "m.onnx").write_bytes(foreign_graph().SerializeToString())
    right = onnx_text.TextGraph.text_model

    def wrong(graph: onnx_text.TextGraph, symbols: Symbols) -> TextModel:
        model = right(graph, symbols)
        bias = model.network.head.bias.at[3].add(0.01)
        return replace(model, network=replace(model.network, head=replace(model.network.head, bias=bias)))

    monkeypatch.setattr(onnx_text.TextGraph, "text_model", wrong)
    with pytest.raises(BundleError, match=r"the file differs from the bundle by 0\.0.*nothing was written"):
        bring_in(tmp_path / "m.onnx", tmp_path / "m.safetensors", symbols=read_symbols(letters))
    assert not (tmp_path / "m.safetensors").exists()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of files that cannot come in as they are."""
    monkeypatch.chdir(tmp_path)
    series = parts_of(series_model("median"))
    Path("series.onnx").write_bytes(to_onnx(series).SerializeToString())
    save_file(to_state_dict(series), "series.safetensors", metadata={"elman": json.dumps(series.facts)})
    text_model("gru").save("bundle.safetensors")
    save_file(foreign_dict("gru"), "theirs.safetensors")
    Path("text.txt").write_text("no model\n")
    Path("cut.weights.h5").write_bytes((GOLDEN / "keras-gru.weights.h5").read_bytes()[:9000])
    Path("cut.onnx").write_bytes((GOLDEN / "torch-lstm.onnx").read_bytes()[:3000])
    Path("cut.safetensors").write_bytes(Path("theirs.safetensors").read_bytes()[:900])
    Path("cut.keras").write_bytes((GOLDEN / "keras-relu.keras").read_bytes()[:9000])
    Path("eleven.txt").write_text("abcdefghij\n")
    Path("ten.txt").write_text("abcdefghij")
    Path("relu.keras").write_bytes((GOLDEN / "keras-relu.keras").read_bytes())
    with zipfile.ZipFile("weights.bin", "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02.")
    return tmp_path


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["absent.onnx"], "is no file"),
        (["text.txt"], "neither an ONNX model, nor a state dict of PyTorch, nor a file of Keras"),
        (["bundle.safetensors"], "is a bundle of elman's already"),
        (["series.onnx"], "holds a forecaster"),
        (["series.safetensors"], "holds a forecaster"),
        (["theirs.safetensors"], "give --vocabulary FILE"),
        (["relu.keras"], "give --vocabulary FILE"),
        (
            ["theirs.safetensors", "--vocabulary", "eleven.txt"],
            "reads 10 symbols and says 10, but the vocabulary has 11",
        ),
        (["relu.keras", "--vocabulary", "eleven.txt"], "the vocabulary has 11"),
        (["relu.keras", "--vocabulary", "ten.txt", "--activation", "tanh"], "says itself that its activation is relu"),
        (["theirs.safetensors", "--vocabulary", "ten.txt", "--activation", "relu"], "leave out --activation"),
        (["relu.keras", "--vocabulary", "absent.txt"], "--vocabulary absent.txt cannot be read"),
        (["cut.weights.h5", "--vocabulary", "ten.txt"], "cut.weights.h5 cannot be read as a file of Keras"),
        (["cut.onnx", "--vocabulary", "ten.txt"], "is no whole ONNX model"),
        (["cut.safetensors", "--vocabulary", "ten.txt"], "no state dict in safetensors"),
        (["cut.keras", "--vocabulary", "ten.txt"], "damaged archive"),
        (["weights.bin", "--vocabulary", "ten.txt"], "weights.bin is"),
        (["theirs.safetensors", "--output", "m.onnx"], "end it with .safetensors"),
        (["theirs.safetensors", "--output", "nowhere/m.safetensors"], "is not there: make it first"),
        (["theirs.safetensors", "--output", "bundle.safetensors"], "--force replaces it"),
    ],
)
def test_what_cannot_be_is_one_line(
    words: list[str], message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(path.name for path in folder.iterdir())
    assert main(["import", "--quiet", "--output", "new.safetensors", *words]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1
    assert message in said[0]
    assert sorted(path.name for path in folder.iterdir()) == before


def test_what_came_in_writes(letters: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = str(tmp_path / "m.safetensors")
    words = ["import", str(GOLDEN / "keras-gru.weights.h5"), "--output", output, "--vocabulary", str(letters)]
    assert main([*words, "--quiet"]) == 0
    capsys.readouterr()
    assert main(["sample", output, "--prime", "zyx", "--length", "40", "--seed", "1"]) == 0
    assert set(capsys.readouterr().out.strip()) <= set(LETTERS)


@pytest.mark.parametrize(
    ("content", "order"),
    [
        ('["b", "a", "\\n"]', "ba\n"),
        ('{"b": 0, "\\ufffd": 2, "a": 1}', "ba\ufffd"),
        ("cab", "cab"),
        ("[ba]", "[ba]"),
        ("banana\r\n", "\n\rabn"),
        (json.dumps(Vocabulary.from_text("xay", unit="byte").to_dict()), "axy"),
    ],
)
def test_a_vocabulary_in_every_form(content: str, order: str, tmp_path: Path) -> None:
    (tmp_path / "v").write_bytes(content.encode())
    symbols = read_symbols(tmp_path / "v")
    assert symbols.vocabulary.decode(np.argsort(symbols.numbers)) == order


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"[]", "is empty"),
        (b'["a", "[UNK]"]', r"'\[UNK\]', which is no single character"),
        (b'["a", 1]', "no single character"),
        (b'["a", "b", "a"]', "'a' U.0061 more than once"),
        (b'{"a": 0, "b": 2}', "the numbers from 0 to 1"),
        (b'{"a": true, "b": 0}', "the numbers from 0 to 1"),
        (b'["\\ud800"]', "no character"),
        (b'{"unit": "character", "normal_form": "NFC", "values": [3, 2]}', "damaged"),
        (b"\xff\xfe", "no text in UTF-8"),
    ],
)
def test_what_is_no_vocabulary(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "v").write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_symbols(tmp_path / "v")


def test_disturbed_graphs_come_in_or_are_refused_with_one_line(tmp_path: Path) -> None:
    """Names, operators and attributes of a real graph exchanged at random: an answer or a `BundleError`, nothing else."""
    generator, path, said = np.random.default_rng(0), tmp_path / "m.onnx", []
    whole = onnx.load_model(GOLDEN / "torch-lstm.onnx")
    names = [tensor.name for tensor in whole.graph.initializer] + ["symbols", ""]
    outputs = [name for node in whole.graph.node for name in node.output]
    for trial in range(100):
        model = onnx.ModelProto()
        model.CopyFrom(whole)
        node = model.graph.node[int(generator.integers(len(model.graph.node)))]
        if trial % 4 == 0 and node.attribute:
            node.attribute[0].i = int(generator.integers(-5, 1 << 40))
        elif trial % 4 == 1 and node.input:
            node.input[int(generator.integers(len(node.input)))] = str(generator.choice(names))
        elif trial % 4 == 2:
            node.op_type = str(generator.choice([other.op_type for other in whole.graph.node]))
        else:
            node.output[0] = str(generator.choice(outputs))
        path.write_bytes(model.SerializeToString())
        try:
            graph = onnx_text.read_text_graph(path)
            assert graph.answers(np.arange(5) % graph.symbols)[1].shape[1] == graph.weight.shape[1]
        except BundleError as error:
            said.append(str(error))
    assert len(said) > 50
    assert not any("\n" in words for words in said)

"""Weights of Keras come in: by what Keras itself said, by its equations written down here, and files that mean harm."""

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from elman.errors import BundleError
from elman.shipping.comparing import model_answers
from elman.shipping.importing import bring_in
from elman.shipping.keras_import import KerasNetwork, keras_answers, read_keras, text_model_from_keras
from elman.shipping.symbols import Symbols
from elman.text.vocabulary import Vocabulary

GOLDEN = Path(__file__).parent / "golden"
SAID: dict[str, Any] = json.loads((GOLDEN / "foreign.json").read_text(encoding="utf-8"))
BLOCKS = {"simple_rnn": 1, "gru": 3, "lstm": 4}
Layers = dict[str, list[np.ndarray]]


def given_symbols(characters: list[str]) -> Symbols:
    """Characters in the order of a model."""
    order = sorted(range(len(characters)), key=characters.__getitem__)
    return Symbols(Vocabulary("character", tuple(sorted(map(ord, characters))), "none"), np.asarray(order))


def layers_of(kind: str, *, symbols: int = 7, width: int | None = 4, units: int = 5, count: int = 2) -> Layers:
    """Random arrays by the names of Keras' groups."""
    generator = np.random.default_rng(3)

    def draw(*shape: int) -> np.ndarray:
        return generator.uniform(-0.9, 0.9, shape).astype(np.float32)

    found: Layers = {} if width is None else {"embedding": [draw(symbols, width)]}
    blocks = BLOCKS[kind]
    for number in range(count):
        inputs = units if number else width or symbols
        bias = draw(2, 3 * units) if kind == "gru" else draw(blocks * units)
        found[f"{kind}_{number}" if number else kind] = [
            draw(inputs, blocks * units),
            draw(units, blocks * units),
            bias,
        ]
    found["dense"] = [draw(units, symbols), draw(symbols)]
    return found


def write_weights(target: Path | io.BytesIO, layers: Layers, **storage: Any) -> None:
    """A file in Keras 3's layout: layers/NAME[/cell]/vars/0, 1, ..."""
    with h5py.File(target, "w") as file:
        file.create_group("vars")
        for name, arrays in layers.items():
            inner = "cell/" if name.rstrip("_0123456789") in BLOCKS else "layer/" if "distributed" in name else ""
            group = file.create_group(f"layers/{name}/{inner}vars")
            for number, array in enumerate(arrays):
                group.create_dataset(str(number), data=array, **storage)


def write_archive(path: Path, layers: Layers, settings: Any) -> None:
    weights = io.BytesIO()
    write_weights(weights, layers)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", settings if isinstance(settings, str) else json.dumps(settings))
        archive.writestr("model.weights.h5", weights.getvalue())


def settings_of(*layers: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    """A config.json of a Sequential model."""
    described = [
        {"module": "keras.layers", "class_name": name, "config": {"name": name.lower(), **own}, "registered_name": None}
        for name, own in layers
    ]
    return {"module": "keras", "class_name": "Sequential", "config": {"name": "s", "layers": described}}


def sigmoid(x: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-x)))


def equations(layers: Layers, kind: str, activation: Callable[[np.ndarray], Any], symbols: np.ndarray) -> np.ndarray:
    """keras.layers.SimpleRNNCell, GRUCell (reset_after) and LSTMCell as their `call` computes them, in float64."""
    states = [np.zeros((2, arrays[1].shape[0])) for name, arrays in layers.items() if name.startswith(kind)]
    recurrent = [[a.astype(float) for a in arrays] for name, arrays in layers.items() if name.startswith(kind)]
    said = []
    for symbol in symbols:
        x = layers["embedding"][0][symbol] if "embedding" in layers else np.eye(len(recurrent[0][0]))[symbol]
        for number, (kernel, recurrent_kernel, bias) in enumerate(recurrent):
            h, c = states[number]
            units = len(h)
            if kind == "gru":
                matrix_x = x @ kernel + bias[0]
                matrix_inner = h @ recurrent_kernel + bias[1]
                z = sigmoid(matrix_x[:units] + matrix_inner[:units])
                r = sigmoid(matrix_x[units : 2 * units] + matrix_inner[units : 2 * units])
                hh = np.tanh(matrix_x[2 * units :] + r * matrix_inner[2 * units :])
                h = z * h + (1 - z) * hh
            elif kind == "lstm":
                z = x @ kernel + h @ recurrent_kernel + bias
                z0, z1, z2, z3 = (z[k * units : (k + 1) * units] for k in range(4))
                c = sigmoid(z1) * c + sigmoid(z0) * np.tanh(z2)
                h = sigmoid(z3) * np.tanh(c)
            else:
                h = activation(x @ kernel + bias + h @ recurrent_kernel)
            states[number] = np.stack([h, c])
            x = h
        said.append(x @ layers["dense"][0] + layers["dense"][1])
    return np.asarray(said)


@pytest.mark.parametrize("name", ["keras-gru.weights.h5", "keras-relu.keras", "keras-last.keras"])
def test_a_file_of_keras_says_what_keras_said(name: str, tmp_path: Path) -> None:
    symbols = given_symbols(SAID["characters"])
    arrived = bring_in(GOLDEN / name, tmp_path / "m.safetensors", symbols=symbols)
    vocabulary = arrived.model.vocabulary
    assert [vocabulary.symbols[i] for i in np.argsort(symbols.numbers)] == SAID["characters"]
    codes = vocabulary.encode("".join(SAID["characters"][number] for number in SAID["symbols"]))
    answers = model_answers(arrived.model, codes)
    expected = np.asarray(SAID[name])[:, symbols.numbers]
    if name == "keras-last.keras":  # Keras said probabilities, after each symbol by itself
        answers = np.exp(answers) / np.exp(answers).sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(answers, expected, atol=2e-6)
    np.testing.assert_allclose(
        keras_answers(read_keras(GOLDEN / name), np.asarray(SAID["symbols"]))[:, 0],
        model_answers(arrived.model, codes)[:, np.argsort(symbols.numbers)[0]],
        atol=2e-6,
    )


@pytest.mark.parametrize("kind", list(BLOCKS))
@pytest.mark.parametrize("width", [None, 4])
def test_every_cell_computes_keras_equations(kind: str, width: int | None, tmp_path: Path) -> None:
    layers = layers_of(kind, width=width)
    write_weights(tmp_path / "m.weights.h5", {**layers, "dropout": [], "input_layer": [], "activation": []})
    network = read_keras(tmp_path / "m.weights.h5")
    model = text_model_from_keras(network, Vocabulary.from_text("abcdefg"))
    symbols = np.random.default_rng(0).integers(0, 7, 40)
    expected = equations(layers, kind, np.tanh, symbols)
    np.testing.assert_allclose(model_answers(model, symbols), expected, atol=1e-5)
    np.testing.assert_allclose(keras_answers(network, symbols), expected, atol=1e-10)


def test_ten_layers_and_more_stand_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    layers = layers_of("gru", count=12)
    write_weights(tmp_path / "m.weights.h5", layers)
    network = read_keras(tmp_path / "m.weights.h5")
    symbols = np.arange(7)
    np.testing.assert_allclose(keras_answers(network, symbols), equations(layers, "gru", np.tanh, symbols), atol=1e-10)


def test_relu_time_distributed_and_layers_without_biases(tmp_path: Path) -> None:
    layers = layers_of("simple_rnn", count=1)
    kernel, recurrent, _ = layers["simple_rnn"]
    bare = {**layers, "simple_rnn": [kernel, recurrent], "time_distributed": layers["dense"][:1]}
    del bare["dense"]
    write_weights(tmp_path / "m.weights.h5", bare)
    zero = {"simple_rnn": [kernel, recurrent, np.zeros(5)], "dense": [layers["dense"][0], np.zeros(7)]}
    symbols = np.random.default_rng(0).integers(0, 7, 20)
    expected = equations({**layers, **zero}, "simple_rnn", lambda x: np.maximum(x, 0), symbols)
    network = read_keras(tmp_path / "m.weights.h5", activation="relu")
    model = text_model_from_keras(network, Vocabulary.from_text("abcdefg"))
    np.testing.assert_allclose(model_answers(model, symbols), expected, rtol=1e-5, atol=1e-5)


PLAIN = [("Embedding", {}), ("GRU", {"return_sequences": True, "activation": "tanh"}), ("Dense", {})]


@pytest.mark.parametrize(
    ("place", "layer", "message"),
    [
        (1, ("GRU", {"reset_after": False}), "resets before the product"),
        (1, ("GRU", {"activation": "relu"}), "activation 'relu'"),
        (1, ("GRU", {"activation": {"class_name": "Evil"}}), "which no cell here has"),
        (1, ("GRU", {"recurrent_activation": "hard_sigmoid"}), "'hard_sigmoid'"),
        (1, ("GRU", {"go_backwards": True}), "reads backwards"),
        (0, ("Embedding", {"mask_zero": True}), "mask_zero=True"),
        (2, ("Dense", {"activation": "relu"}), "only linear and softmax"),
        (
            1,
            ("Lambda", {"function": {"class_name": "__lambda__", "config": {"code": "4wEA"}}}),
            r"\(Lambda\) is of a class",
        ),
        (1, ("Bidirectional", {}), r"\(Bidirectional\) is of a class"),
        (1, ("LayerNormalization", {}), r"\(LayerNormalization\) is of a class"),
        (2, ("TimeDistributed", {"layer": {"class_name": "Lambda", "config": {}}}), "only Dense is read"),
        (1, ("Activation", {"activation": "tanh"}), "no network here has at this place"),
    ],
)
def test_settings_that_no_network_here_computes_are_refused_by_name(
    place: int, layer: tuple[str, dict[str, Any]], message: str, tmp_path: Path
) -> None:
    layers = layers_of("gru", count=1)
    write_archive(tmp_path / "plain.keras", layers, settings_of(*PLAIN))
    assert read_keras(tmp_path / "plain.keras").symbols == 7
    write_archive(tmp_path / "m.keras", layers, settings_of(*PLAIN[:place], layer, *PLAIN[place + 1 :]))
    with pytest.raises(BundleError, match=message):
        read_keras(tmp_path / "m.keras")


def test_an_inner_layer_that_hands_on_its_last_state_is_refused(tmp_path: Path) -> None:
    stack = [("GRU", {"return_sequences": False}), ("GRU", {"return_sequences": False})]
    write_archive(tmp_path / "m.keras", layers_of("gru"), settings_of(PLAIN[0], *stack, PLAIN[2]))
    with pytest.raises(BundleError, match="only its last state"):
        read_keras(tmp_path / "m.keras")


def test_a_class_of_somebody_else_does_not_pass_under_a_familiar_name(tmp_path: Path) -> None:
    settings = settings_of(*PLAIN)
    settings["config"]["layers"][1] |= {"module": "mine", "registered_name": "mine>GRU"}
    write_archive(tmp_path / "m.keras", layers_of("gru", count=1), settings)
    with pytest.raises(BundleError, match="mine>GRU"):
        read_keras(tmp_path / "m.keras")


def test_a_model_that_branches_is_refused(tmp_path: Path) -> None:
    whole = zipfile.ZipFile(GOLDEN / "keras-last.keras")
    settings = json.loads(whole.read("config.json"))
    dense = settings["config"]["layers"][-1]
    dense["inbound_nodes"][0]["args"][0]["config"]["keras_history"][0] = "z"
    with zipfile.ZipFile(tmp_path / "m.keras", "w") as archive:
        archive.writestr("config.json", json.dumps(settings))
        archive.writestr("model.weights.h5", whole.read("model.weights.h5"))
    with pytest.raises(BundleError, match="only plain stacks are read"):
        read_keras(tmp_path / "m.keras")


def changed(kind: str, **arrays: list[np.ndarray] | None) -> Layers:
    layers = {**layers_of(kind), **arrays}
    return {name: found for name, found in layers.items() if found is not None}


GRU = layers_of("gru")
NAN = np.full((5, 7), np.nan, np.float32)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (changed("gru", gru_1=[*GRU["gru_1"][:2], GRU["gru_1"][2][0]]), "resets before the product"),
        (changed("gru", gru_1=GRU["gru_1"][:2]), "give the .keras archive"),
        (changed("gru", gru_1=[a[:-1] for a in GRU["gru_1"]]), "does not fit"),
        (changed("gru", gru_1=layers_of("gru", units=6)["gru_1"]), "does not fit"),
        (changed("gru", lstm=layers_of("lstm")["lstm"]), "mixes gru and lstm"),
        (changed("gru", dense=None), "holds no Dense layer"),
        (changed("gru", dense_1=GRU["dense"]), "'dense_1' is not one of"),
        (changed("gru", layer_normalization=[np.ones(5), np.ones(5)]), "'layer_normalization' is not one of"),
        (changed("gru", dense=[NAN]), "not all finite"),
        (changed("gru", dense=[np.zeros((5, 0))]), "are empty"),
        (changed("gru", dense=[np.zeros((6, 7))]), "Dense has arrays"),
        (changed("gru", embedding=[np.zeros((7, 3))]), "embedding is 3 wide"),
        ({"dense": GRU["dense"]}, "no SimpleRNN, GRU or LSTM layer"),
        ({}, "no layers of a Sequential"),
    ],
)
def test_weights_that_do_not_fit_are_refused(layers: Layers, message: str, tmp_path: Path) -> None:
    write_weights(tmp_path / "m.weights.h5", layers)
    with pytest.raises(BundleError, match=message):
        read_keras(tmp_path / "m.weights.h5")


def test_layers_of_different_sizes_are_refused(tmp_path: Path) -> None:
    below, above = layers_of("lstm", units=5, count=1), layers_of("lstm", width=5, units=6, count=1)
    layers = {**below, "lstm_1": above["lstm"], "dense": above["dense"]}
    write_weights(tmp_path / "m.weights.h5", layers)
    with pytest.raises(BundleError, match=r"\[5, 6\] units"):
        read_keras(tmp_path / "m.weights.h5")


def test_arrays_are_never_larger_than_their_file(tmp_path: Path) -> None:
    """Compressed, never written at all, or elsewhere: refused before memory is taken."""
    path = tmp_path / "m.weights.h5"
    big = {**layers_of("gru", count=1), "dense": [np.zeros((5, 200_000), np.float32)]}
    write_weights(path, big, compression="gzip")
    with pytest.raises(BundleError, match="compressed"):
        read_keras(path)
    write_weights(path, {**big, "dense": []})
    with h5py.File(path, "a") as file:
        file["layers/dense/vars"].create_dataset("0", shape=(5, 10**12), dtype="f4")
    with pytest.raises(BundleError, match="larger than the file"):
        read_keras(path)
    write_weights(path, {**big, "dense": []})
    with h5py.File(path, "a") as file:
        file["layers/dense/vars/0"] = h5py.ExternalLink("/etc/passwd", "/")
    with pytest.raises(BundleError, match="does not lie in the file"):
        read_keras(path)
    write_weights(path, {**big, "dense": []})
    with h5py.File(path, "a") as file:
        file["layers/dense/vars"].create_dataset("0", shape=(5, 7), dtype="f4", external=[("/etc/passwd", 0, 140)])
    with pytest.raises(BundleError, match="lies elsewhere"):
        read_keras(path)
    write_weights(path, {**big, "dense": []})
    with h5py.File(path, "a") as file:
        del file["layers/dense"]
        file["layers/dense"] = h5py.SoftLink("/layers/gru")
    with pytest.raises(BundleError, match="no group of its own"):
        read_keras(path)


def test_an_archive_that_would_unpack_to_too_much_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.keras"
    for name, other in (("config.json", "model.weights.h5"), ("model.weights.h5", "config.json")):
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(other, "{}")
            archive.writestr(name, b"[" * (1 << 23))
        with pytest.raises(BundleError, match="would unpack to more"):
            read_keras(path)
    write_archive(path, layers_of("gru"), "[" * 200_000)
    with pytest.raises(BundleError):
        read_keras(path)
    write_archive(path, layers_of("gru"), "[]")
    with pytest.raises(BundleError, match="is no object"):
        read_keras(path)


def test_the_format_of_keras_2_is_told_from_damage(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file.create_group("model_weights")
    with pytest.raises(BundleError, match="format of Keras 2"):
        read_keras(tmp_path / "m.h5")


@pytest.mark.parametrize("name", ["keras-gru.weights.h5", "keras-relu.keras"])
def test_damaged_files_are_refused_with_one_line(name: str, tmp_path: Path) -> None:
    """Cut at every place, and with bytes changed at random: a network or a `BundleError`, nothing else."""
    whole, generator = (GOLDEN / name).read_bytes(), np.random.default_rng(0)
    path, said = tmp_path / "m", []
    for trial in range(200):
        damaged = bytearray(whole[: generator.integers(len(whole))] if trial % 2 else whole)
        for place in generator.integers(0, max(len(damaged), 1), 20 if len(damaged) else 0):
            damaged[place] = generator.integers(256)
        path.write_bytes(bytes(damaged))
        try:
            found = read_keras(path)
            assert isinstance(found, KerasNetwork)
        except BundleError as error:
            said.append(str(error))
    assert len(said) > 100
    assert not any("\n" in words for words in said)

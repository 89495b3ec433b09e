"""State dicts of PyTorch, both ways: by what nn.RNN, nn.GRU and nn.LSTM compute where PyTorch is there, else by a formula."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from elman.errors import BundleError, ConfigError
from elman.shipping.comparing import model_answers, random_inputs
from elman.shipping.parts import parts_of
from elman.shipping.torch_export import from_state_dict, read_state_dict, to_state_dict, torch_answers, write_torch
from exported import series_model, text_model

needs_torch = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None, reason="no PyTorch: pip install 'elman[torch]'"
)


@needs_torch
@pytest.mark.parametrize("kind", ["elman", "relu", "gru", "lstm"])
def test_a_text_model_says_the_same_in_pytorch(kind: str, tmp_path: Path) -> None:
    model = text_model(kind)
    parts = parts_of(model)
    write_torch(parts, tmp_path / "m.safetensors")
    inputs = random_inputs(parts)
    said = torch_answers(parts, tmp_path / "m.safetensors", inputs)
    np.testing.assert_allclose(said, model_answers(model, inputs), atol=1e-5)


@needs_torch
def test_a_forecaster_says_the_same_in_pytorch(tmp_path: Path) -> None:
    model = series_model("path")
    parts = parts_of(model)
    write_torch(parts, tmp_path / "m.pt")
    inputs = random_inputs(parts)
    said = torch_answers(parts, tmp_path / "m.pt", inputs)
    np.testing.assert_allclose(said, model_answers(model, inputs), atol=1e-5)


def formula(arrays: dict[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    """One layer of nn.GRU and a Linear, as PyTorch's documentation writes them, from the zero state."""
    weight, inner = arrays["rnn.weight_ih_l0"], arrays["rnn.weight_hh_l0"]
    h, said = np.zeros(inner.shape[1]), []
    for step in x:
        gi, gh = weight @ step + arrays["rnn.bias_ih_l0"], inner @ h + arrays["rnn.bias_hh_l0"]
        (ir, iz, i_n), (hr, hz, hn) = np.split(gi, 3), np.split(gh, 3)
        r, z = 1 / (1 + np.exp(-ir - hr)), 1 / (1 + np.exp(-iz - hz))
        h = (1 - z) * np.tanh(i_n + r * hn) + z * h
        said.append(arrays["linear.weight"] @ h + arrays["linear.bias"])
    return np.asarray(said)


def test_a_state_dict_of_somebody_else_becomes_a_model() -> None:
    """An embedding that is no identity, and biases on both sides."""
    vocabulary = text_model("gru").vocabulary
    generator, size, width, hidden = np.random.default_rng(0), vocabulary.size, 5, 7
    shapes = {
        "embedding.weight": (size, width),
        "rnn.weight_ih_l0": (3 * hidden, width),
        "rnn.weight_hh_l0": (3 * hidden, hidden),
        "rnn.bias_ih_l0": (3 * hidden,),
        "rnn.bias_hh_l0": (3 * hidden,),
        "linear.weight": (size, hidden),
        "linear.bias": (size,),
    }
    arrays = {name: generator.normal(size=shape).astype(np.float32) / 2 for name, shape in shapes.items()}
    model = from_state_dict(arrays, vocabulary)
    symbols = generator.integers(0, size, 50)
    np.testing.assert_allclose(
        model_answers(model, symbols), formula(arrays, arrays["embedding.weight"][symbols]), atol=1e-5
    )


@pytest.mark.parametrize("kind", ["elman", "relu", "gru", "lstm"])
def test_there_and_back_is_the_same_model(kind: str, tmp_path: Path) -> None:
    model = text_model(kind)
    write_torch(parts_of(model), tmp_path / "m.safetensors")
    arrays, facts = read_state_dict(tmp_path / "m.safetensors")
    back = from_state_dict(arrays, model.vocabulary, activation=facts["activation"])
    symbols = random_inputs(parts_of(model))
    np.testing.assert_allclose(model_answers(back, symbols), model_answers(model, symbols), atol=1e-6)


def test_what_torch_has_not_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="layer normalization"):
        to_state_dict(parts_of(text_model("deep")))
    (tmp_path / "m.safetensors").write_bytes(b"\xff" * 100)
    with pytest.raises(BundleError, match="no state dict"):
        read_state_dict(tmp_path / "m.safetensors")
    arrays = to_state_dict(parts_of(text_model("gru")))
    for name, array in arrays.items():
        if name != "embedding.weight":
            with pytest.raises(BundleError):
                from_state_dict({**arrays, name: array[:-1]}, text_model("gru").vocabulary)

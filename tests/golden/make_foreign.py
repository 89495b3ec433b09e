"""Writes the golden files of other frameworks, and beside them what those frameworks say: Keras 3 and PyTorch made them once.

    KERAS_BACKEND=torch python tests/golden/make_foreign.py       (an environment of its own: pip install keras torch)
"""

import json
from pathlib import Path

import keras
import numpy as np
import torch

FOLDER = Path(__file__).parent
CHARACTERS = list("o l\nhed!rw")
SYMBOLS = np.random.default_rng(0).integers(0, len(CHARACTERS), 24)
UNITS = 6


def sequential(layer: type[keras.Layer], layers: int, **settings: str) -> keras.Model:
    """An embedding, a stack and a Dense, with weights large enough to tell one gate from another."""
    stack = [layer(UNITS, return_sequences=True, **settings) for _ in range(layers)]
    model = keras.Sequential(
        [keras.Input((None,), dtype="int32"), keras.layers.Embedding(len(CHARACTERS), 4), *stack, keras.layers.Dense(len(CHARACTERS))]
    )
    disturb(model)
    return model


def last_only() -> keras.Model:
    """One-hot vectors, two layers whose names are not in the order of the alphabet, an answer behind the last symbol, softmax."""
    inputs = keras.Input((None, len(CHARACTERS)))
    below = keras.layers.LSTM(UNITS, return_sequences=True, name="z")(inputs)
    above = keras.layers.LSTM(UNITS, name="a")(below)
    model = keras.Model(inputs, keras.layers.Dense(len(CHARACTERS), activation="softmax")(above))
    disturb(model)
    return model


def disturb(model: keras.Model) -> None:
    generator = np.random.default_rng(1)
    for weight in model.weights:
        weight.assign(generator.uniform(-0.8, 0.8, weight.shape).astype(np.float32))


def numbers(array: np.ndarray) -> list:
    """Float32 has seven digits."""
    return np.round(array.astype(np.float64), 8).tolist()


class Torch(torch.nn.Module):
    """A character model with batches first and names of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = torch.nn.Embedding(len(CHARACTERS), 4)
        self.lstm = torch.nn.LSTM(4, UNITS, 2, batch_first=True)
        self.decoder = torch.nn.Linear(UNITS, len(CHARACTERS))

    def forward(self, symbols: torch.Tensor) -> torch.Tensor:
        return self.decoder(self.lstm(self.encoder(symbols))[0])


if __name__ == "__main__":
    said = {"characters": CHARACTERS, "symbols": SYMBOLS.tolist(), "keras": keras.__version__, "torch": torch.__version__}
    for name, model in (
        ("keras-gru.weights.h5", sequential(keras.layers.GRU, 2)),
        ("keras-relu.keras", sequential(keras.layers.SimpleRNN, 2, activation="relu")),
    ):
        (model.save if name.endswith(".keras") else model.save_weights)(FOLDER / name)
        said[name] = numbers(model.predict(SYMBOLS[None], verbose=0)[0])
    model = last_only()
    model.save(FOLDER / "keras-last.keras")
    vectors = np.eye(len(CHARACTERS), dtype=np.float32)[SYMBOLS][None]
    said["keras-last.keras"] = [numbers(model.predict(vectors[:, : n + 1], verbose=0)[0]) for n in range(len(SYMBOLS))]
    torch.manual_seed(0)
    network = Torch().eval()
    given = torch.from_numpy(SYMBOLS)[None]
    axes = {"symbols": {0: "batch", 1: "time"}}
    torch.onnx.export(network, (given,), FOLDER / "torch-lstm.onnx", input_names=["symbols"], dynamic_axes=axes, dynamo=False)
    said["torch-lstm.onnx"] = numbers(network(given)[0].detach().numpy())
    (FOLDER / "foreign.json").write_text(json.dumps(said) + "\n", encoding="utf-8")

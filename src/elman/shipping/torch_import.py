"""State dicts of PyTorch that name their modules in their own way, and what PyTorch, or its equations, say with them."""

import importlib.util
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from elman.errors import BundleError
from elman.shipping.symbols import one_hot
from elman.shipping.torch_export import CELLS_BY_GATES

_RECURRENT = re.compile(r"(?:(.*)\.)?((?:weight|bias)_(?:ih|hh)_l\d+)")


def common_names(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays as `embedding.weight`, `rnn.weight_ih_l0`, ..., `linear.weight`, `linear.bias`, whatever the modules are called.

    Found by their form: the recurrent module by its names, the embedding by its width, the linear module by that of the states.
    Without an embedding, of which the result has none either, the first layer reads one-hot vectors. A linear module without a bias
    gets zeros.

    Raises: `BundleError` for arrays that belong to none of the three, and where two would do for one.
    """
    found: dict[str, np.ndarray] = {}
    modules, others = set(), {}
    for name, array in arrays.items():
        match = _RECURRENT.fullmatch(name)
        if match is None:
            others[name] = array
            continue
        modules.add(match[1] or "")
        found[f"rnn.{match[2]}"] = array
    if len(modules) != 1 or not {"rnn.weight_ih_l0", "rnn.weight_hh_l0"} <= set(found):
        raise BundleError(
            f"the state dict holds {len(modules)} modules with weight_ih_l0 and weight_hh_l0 (nn.RNN, nn.GRU, nn.LSTM); one is read"
        )
    if any(array.ndim != 2 or array.size == 0 for name, array in found.items() if ".weight_" in name):
        raise BundleError("the state dict holds recurrent weights that are no matrices")
    width, units = found["rnn.weight_ih_l0"].shape[1], found["rnn.weight_hh_l0"].shape[1]
    linear = _chosen(others, units, "linear")
    found["linear.weight"] = others.pop(f"{linear}weight")
    found["linear.bias"] = others.pop(f"{linear}bias", np.zeros(len(found["linear.weight"]), np.float32))
    if others:
        embedding = _chosen(others, width, "embedding")
        found["embedding.weight"] = others.pop(f"{embedding}weight")
    if others:
        raise BundleError(
            f"the state dict holds {min(others)[:60]!r}, which belongs to no network of one embedding, one nn.RNN, nn.GRU or "
            "nn.LSTM and one nn.Linear"
        )
    return found


def _chosen(others: Mapping[str, np.ndarray], width: int, role: str) -> str:
    """The prefix of the one module whose weight is as wide as `width`; of several, the one with a bias, or that is named so."""
    fitting = [
        name.removesuffix("weight")
        for name, array in others.items()
        if (name == "weight" or name.endswith(".weight")) and array.ndim == 2 and array.size and array.shape[1] == width
    ]
    if len(fitting) > 1 and role == "linear":
        biased = [prefix for prefix in fitting if f"{prefix}bias" in others]
        fitting = biased or [prefix for prefix in fitting if prefix == "linear."]
    if len(fitting) != 1:
        raise BundleError(
            f"the state dict holds {len(fitting) or 'no'} arrays that could be the {role} module's weight, {width} wide: "
            f"call the right one {role}.weight"
        )
    return fitting[0]


def state_dict_answers(
    arrays: Mapping[str, np.ndarray], activation: str, symbols: np.ndarray
) -> tuple[str, np.ndarray]:
    """By what it was computed ("PyTorch", or its equations), and the logits `[time, symbols]` of a dict in common names.

    activation: of an nn.RNN.
    """
    if importlib.util.find_spec("torch") is not None:
        return "PyTorch", _torch_answers(arrays, activation, symbols)
    return "PyTorch's equations in NumPy", _formula(arrays, activation, symbols)


def _vectors(arrays: Mapping[str, np.ndarray], symbols: np.ndarray) -> np.ndarray:
    """What the recurrent module reads, `[time, width]`."""
    if "embedding.weight" in arrays:
        return arrays["embedding.weight"][symbols]
    return one_hot(symbols, arrays["rnn.weight_ih_l0"].shape[1])


def _torch_answers(arrays: Mapping[str, np.ndarray], activation: str, symbols: np.ndarray) -> np.ndarray:
    import torch

    units, width = arrays["rnn.weight_hh_l0"].shape[1], arrays["rnn.weight_ih_l0"].shape[1]
    cell = CELLS_BY_GATES[len(arrays["rnn.weight_hh_l0"]) // units]
    kind = {"elman": torch.nn.RNN, "gru": torch.nn.GRU, "lstm": torch.nn.LSTM}[cell]
    extra: dict[str, Any] = {"nonlinearity": activation} if cell == "elman" else {}
    layers = sum(name.startswith("rnn.weight_ih_l") for name in arrays)
    rnn = kind(width, units, layers, bias="rnn.bias_ih_l0" in arrays, **extra)
    linear = torch.nn.Linear(units, len(arrays["linear.weight"]))
    for name, module in (("rnn.", rnn), ("linear.", linear)):
        own = {key.removeprefix(name): array for key, array in arrays.items() if key.startswith(name)}
        module.load_state_dict({key: torch.from_numpy(np.array(array, np.float32)) for key, array in own.items()})
    with torch.no_grad():
        x = torch.from_numpy(_vectors(arrays, symbols).astype(np.float32))
        return np.asarray(linear(rnn(x)[0]).numpy())


def _formula(arrays: Mapping[str, np.ndarray], activation: str, symbols: np.ndarray) -> np.ndarray:
    """The equations of PyTorch's documentation in float64, from zero states."""
    held = {name: array.astype(np.float64) for name, array in arrays.items()}
    gates, units = held["rnn.weight_hh_l0"].shape
    layers = sum(name.startswith("rnn.weight_ih_l") for name in held)
    zeros = np.zeros(gates)
    states = [np.zeros((2, units)) for _ in range(layers)]
    said = []
    with np.errstate(over="ignore"):
        for x in _vectors(held, symbols):
            for layer in range(layers):
                h, c = states[layer]
                outer = held[f"rnn.weight_ih_l{layer}"] @ x + held.get(f"rnn.bias_ih_l{layer}", zeros)
                inner = held[f"rnn.weight_hh_l{layer}"] @ h + held.get(f"rnn.bias_hh_l{layer}", zeros)
                states[layer] = _step(activation, outer, inner, h, c)
                x = states[layer][0]
            said.append(held["linear.weight"] @ x + held["linear.bias"])
    return np.asarray(said)


def _step(activation: str, outer: np.ndarray, inner: np.ndarray, h: np.ndarray, c: np.ndarray) -> np.ndarray:
    kind = CELLS_BY_GATES[len(outer) // len(h)]
    if kind == "gru":
        (ir, iz, i_n), (hr, hz, hn) = np.split(outer, 3), np.split(inner, 3)
        r, z = _sigmoid(ir + hr), _sigmoid(iz + hz)
        return np.stack([(1 - z) * np.tanh(i_n + r * hn) + z * h, c])
    if kind == "lstm":
        i, f, g, o = np.split(outer + inner, 4)
        c = _sigmoid(f) * c + _sigmoid(i) * np.tanh(g)
        return np.stack([_sigmoid(o) * np.tanh(c), c])
    total = outer + inner
    return np.stack([np.maximum(total, 0) if activation == "relu" else np.tanh(total), c])


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-x)))

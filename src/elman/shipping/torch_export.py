"""State dicts of PyTorch, both ways: `embedding`, `rnn` (nn.RNN, nn.GRU or nn.LSTM) and `linear`.

The module that such a state dict belongs to, for text:

    class Model(torch.nn.Module):
        def __init__(self, vocabulary, hidden, layers):
            super().__init__()
            self.embedding = torch.nn.Embedding(vocabulary, vocabulary)      # an identity: one-hot vectors
            self.rnn = torch.nn.GRU(vocabulary, hidden, layers)
            self.linear = torch.nn.Linear(hidden, vocabulary)

A forecaster has no embedding; of several members each stands under `members.<number>.`. Gate blocks stand in PyTorch's order
already, and weights multiply from the other side. Files are safetensors, or `.pt` where PyTorch is installed, which is only ever
read with `weights_only=True`.
"""

import contextlib
import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from elman.config import Config
from elman.errors import BundleError, ConfigError
from elman.network import with_arrays
from elman.shipping.parts import Parts
from elman.text.model import TextModel, network_shape
from elman.text.vocabulary import Vocabulary
from elman.training.engine import precision

CELLS_BY_GATES = {1: "elman", 3: "gru", 4: "lstm"}


def to_state_dict(parts: Parts) -> dict[str, np.ndarray]:
    """The arrays by PyTorch's names. Raises: `ConfigError` for layer normalization and residuals, which nn.RNN does not have."""
    for name, words in (("layer_norm", "layer normalization"), ("residual", "residual connections")):
        if parts.facts[name] and (name != "residual" or parts.layers > 1):
            raise ConfigError(f"the network has {words}, which torch.nn's recurrent modules have not: use --to onnx")
    arrays = {}
    for member in range(parts.members):
        prefix = f"members.{member}." if parts.members > 1 else ""
        if parts.is_text:
            arrays["embedding.weight"] = np.eye(parts.inputs, dtype=np.float32)
        for layer in range(parts.layers):
            bias = parts.of(member, layer, "bias")
            inner = parts.arrays.get(f"{member}.{layer}.bias_hidden", np.zeros_like(bias))
            arrays |= {
                f"{prefix}rnn.weight_ih_l{layer}": parts.of(member, layer, "weight_inputs").T,
                f"{prefix}rnn.weight_hh_l{layer}": parts.of(member, layer, "weight_hidden").T,
                f"{prefix}rnn.bias_ih_l{layer}": bias,
                f"{prefix}rnn.bias_hh_l{layer}": inner,
            }
        arrays[f"{prefix}linear.weight"] = parts.arrays[f"{member}.head.weight"].T
        arrays[f"{prefix}linear.bias"] = parts.arrays[f"{member}.head.bias"]
    return {name: np.ascontiguousarray(array) for name, array in arrays.items()}


def write_torch(parts: Parts, path: Path) -> None:
    """Write a state dict: safetensors with the facts in its metadata, or `.pt`, for which PyTorch must be installed."""
    arrays = to_state_dict(parts)
    if path.suffix.lower() == ".pt":
        if importlib.util.find_spec("torch") is None:
            raise ConfigError(
                "a .pt file is written by PyTorch, which is not installed: end --output with .safetensors"
            )
        import torch

        torch.save({name: torch.from_numpy(array.copy()) for name, array in arrays.items()}, path)
        return
    from safetensors.numpy import save_file

    save_file(arrays, path, metadata={"elman": json.dumps(parts.facts)})


def read_state_dict(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays of a file, and elman's facts where it holds them. Nothing in the file is ever executed.

    Raises: `BundleError` for a file that cannot be read, `ConfigError` for a `.pt` without PyTorch.
    """
    if not path.is_file():
        raise BundleError(f"{path} is no file: give the path of a state dict")
    if path.suffix.lower() in (".pt", ".pth") or _is_of_torch(path):
        if importlib.util.find_spec("torch") is None:
            raise ConfigError(f"{path} is read by PyTorch, which is not installed: save it as safetensors there")
        import torch

        try:
            found = torch.load(path, map_location="cpu", weights_only=True)
            # A tensor can repeat few stored numbers as often as it likes; honest files store at most tied weights once.
            if sum(tensor.nbytes for tensor in found.values()) > 4 * path.stat().st_size:
                raise ValueError("its arrays are much larger than the file")
            return {str(name): tensor.numpy() for name, tensor in found.items()}, {}
        except Exception as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise BundleError(f"{path} is no state dict: {reason}") from None
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            facts = json.loads((file.metadata() or {}).get("elman", "{}"))
            if not isinstance(facts, dict):
                raise ValueError("what it says of elman is no table")
            return {name: file.get_tensor(name) for name in file.keys()}, facts  # noqa: SIM118
    except (OSError, SafetensorError, TypeError, ValueError, RecursionError) as error:
        raise BundleError(f"{path} is no state dict in safetensors: {error}") from None


def _is_of_torch(path: Path) -> bool:
    """Whether a file begins as those of torch.save do, an archive or a pickle; neither can begin a safetensors file."""
    with contextlib.suppress(OSError), path.open("rb") as file:
        start = file.read(16)
        return start[8:9] != b"{" and (start[:4] == b"PK\x03\x04" or start[:1] == b"\x80")
    return False


def from_state_dict(arrays: Mapping[str, np.ndarray], vocabulary: Vocabulary, *, activation: str = "tanh") -> TextModel:
    """A text model from a state dict of embedding, rnn and linear. The embedding is multiplied into the first layer's weights.

    activation: of an nn.RNN, "tanh" or "relu"; the arrays do not say.

    Raises: `BundleError` for names or shapes that are not those of such a module over `vocabulary`.
    """
    try:
        return _from_state_dict({name: np.asarray(a, np.float32) for name, a in arrays.items()}, vocabulary, activation)
    except (KeyError, ValueError, IndexError, TypeError) as error:
        raise BundleError(
            f"this is no state dict of embedding, rnn and linear over {vocabulary.size} symbols: {error}"
        ) from None


def _from_state_dict(arrays: dict[str, np.ndarray], vocabulary: Vocabulary, activation: str) -> TextModel:
    if any("reverse" in name for name in arrays):
        raise ValueError("it reads backwards too, which no model that writes can")
    for name, array in arrays.items():
        if not array.size:
            raise ValueError(f"{name!r} of shape {array.shape} is empty")
    layers = sum(name.startswith("rnn.weight_ih_l") for name in arrays)
    gates, hidden = arrays["rnn.weight_hh_l0"].shape
    cell = CELLS_BY_GATES[gates // hidden]
    found: dict[str, np.ndarray] = {"head.weight": arrays["linear.weight"].T, "head.bias": arrays["linear.bias"]}
    for layer in range(layers):
        inputs = arrays[f"rnn.weight_ih_l{layer}"].T
        if layer == 0 and "embedding.weight" in arrays:  # without one it reads one-hot vectors, whose product is a row
            embedding = arrays["embedding.weight"]
            if len(embedding) != vocabulary.size:  # before the product, which may be larger than both
                raise ValueError(f"its embedding has {len(embedding)} rows")
            inputs = embedding @ inputs
        zeros = np.zeros(gates, np.float32)
        bias, inner = (arrays.get(f"rnn.bias_{name}_l{layer}", zeros) for name in ("ih", "hh"))
        if cell == "gru":
            # Only the candidate's inner bias is multiplied by the reset gate; the others add up.
            found[f"cells.{layer}.bias_candidate"] = inner[2 * hidden :]
            inner = np.concatenate([inner[: 2 * hidden], zeros[2 * hidden :]])
        found[f"cells.{layer}.weight_inputs"] = inputs
        found[f"cells.{layer}.weight_hidden"] = arrays[f"rnn.weight_hh_l{layer}"].T
        found[f"cells.{layer}.bias"] = bias + inner
    for name, array in found.items():
        if not np.isfinite(array).all():
            raise ValueError(f"{name!r} is not finite")
    settings: dict[str, Any] = {"cell": cell, "hidden": hidden, "layers": layers, "activation": activation}
    config = Config().replace(**settings)
    with precision("float32"):
        network = with_arrays(network_shape(config, vocabulary.size, "the state dict"), found, "the state dict")
    return TextModel(network, vocabulary, config)


def torch_answers(parts: Parts, path: Path, inputs: np.ndarray) -> np.ndarray:
    """What PyTorch says with the file's weights. Raises: `ConfigError` where it is not installed."""
    if importlib.util.find_spec("torch") is None:
        raise ConfigError("PyTorch is not installed: pip install 'elman[torch]'")
    import torch

    arrays, _ = read_state_dict(path)
    kind = {"elman": torch.nn.RNN, "gru": torch.nn.GRU, "lstm": torch.nn.LSTM}[parts.cell]
    extra = {"nonlinearity": parts.facts["activation"]} if parts.cell == "elman" else {}
    said: Any = 0
    with torch.no_grad():
        x = torch.eye(parts.inputs)[torch.from_numpy(inputs)] if parts.is_text else torch.from_numpy(inputs)
        for member in range(parts.members):
            prefix = f"members.{member}." if parts.members > 1 else ""
            rnn, linear = (
                kind(parts.inputs, parts.hidden, parts.layers, **extra),
                torch.nn.Linear(parts.hidden, parts.outputs),
            )
            for name, module in (("rnn.", rnn), ("linear.", linear)):
                start = prefix + name
                own = {key.removeprefix(start): a for key, a in arrays.items() if key.startswith(start)}
                module.load_state_dict({key: torch.from_numpy(array.copy()) for key, array in own.items()})
            raw = linear(rnn(x)[0]).numpy()
            said = said + (raw if parts.is_text else _quantiles(parts, raw)) / parts.members
    if parts.is_text:
        return np.asarray(said)
    return np.asarray(said) + inputs[:, parts.facts["input_names"].index(parts.facts["target"])][:, None]


def _quantiles(parts: Parts, raw: np.ndarray) -> np.ndarray:
    """The head's form, which no module of PyTorch has: applied to what `linear` says."""
    from elman.shipping.portable.model import Network

    head = Network(parts.facts, parts.arrays)
    return np.stack([head._head(row).ravel() for row in raw])

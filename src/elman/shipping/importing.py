"""From a file of another framework to a bundle: the bundle is written beside its place, loaded again, and compared with the file.

What a file is, its content says, and not its name. Whatever it is, it becomes a text model over a `Symbols` and a function that
says what the file itself answers, by ONNX Runtime, PyTorch, or equations that are written down anew from the file's own arrays.
"""

import importlib.util
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from elman.config import Config
from elman.errors import BundleError, ConfigError, RunError
from elman.shipping.comparing import Comparison, compared, model_answers
from elman.shipping.symbols import Symbols
from elman.text.model import TextModel
from elman.text.vocabulary import Vocabulary

STEPS = 200
"""Random symbols on which file and bundle are compared; each weight of a recurrence has had its say long before."""

Answers = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
"""From symbols `[time]` to the steps that the file says something about, and what it says there: `[steps, vocabulary]`."""

KINDS = {
    "onnx": "an ONNX model",
    "torch": "a state dict of PyTorch",
    "keras": "a file of Keras",
}


@dataclass(frozen=True, eq=False)
class Source:
    """What a file holds. by: who computes `answers`. form: what they are, "logits", "probabilities" or "logarithms" of those."""

    model: TextModel
    answers: Answers
    by: str
    form: str = "logits"


@dataclass(frozen=True)
class Arrived:
    """kind: what the file was, in words. comparisons: on what the bundle was compared with it, and by whom."""

    kind: str
    path: Path
    model: TextModel
    comparisons: tuple[Comparison, ...]
    by: str


def kind_of_file(path: Path) -> str:
    """ "onnx", "torch" or "keras", by the file's first bytes. Raises: `BundleError` for anything else, `RunError` for no file."""
    if not path.is_file():
        raise RunError(f"{path} is no file: give an ONNX model, a state dict of PyTorch or a file of Keras")
    try:
        with path.open("rb") as file:
            start = file.read(16)
        names = zipfile.ZipFile(path).namelist() if start[:4] == b"PK\x03\x04" else []
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror}") from None
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise BundleError(f"{path} is a damaged archive: {error}") from None
    if start[:8] == b"\x89HDF\r\n\x1a\n" or {"config.json", "model.weights.h5"} & set(names):
        return "keras"
    if any(name.endswith("data.pkl") for name in names) or start[:1] == b"\x80":
        return "torch"
    if start[8:9] == b"{":
        return "torch"
    # ONNX has no mark of its own; its first field is the format's version, and writers keep to the order of the fields.
    if start[:1] == b"\x08" or path.suffix.lower() == ".onnx":
        return "onnx"
    raise BundleError(
        f"{path} is neither an ONNX model, nor a state dict of PyTorch, nor a file of Keras: it begins with {start[:8]!r}"
    )


def bring_in(
    path: Path, output: Path, *, symbols: Symbols | None = None, activation: str | None = None, force: bool = False
) -> Arrived:
    """Make the bundle `output` of the model in `path`.

    symbols: which character each number stands for; None where the file says it. activation: of a simple recurrent network whose
    file does not say, "tanh" (the default of every framework) or "relu". force: replace what is at `output`.

    Raises: `BundleError` for a file that is damaged, does not fit its vocabulary, is not computed by any network here, or whose
    bundle says something else than the file; `ConfigError` where a vocabulary or a package is missing; `RunError` where the system
    refuses. Nothing is written then.
    """
    path, output = Path(path), Path(output)
    kind = kind_of_file(path)
    source = _READERS[kind](path, symbols, activation)
    model = replace(source.model, config=_settled(source.model.config, source.model.vocabulary))
    with tempfile.TemporaryDirectory(prefix="elman-import-") as folder:
        beside = Path(folder) / "imported.safetensors"
        model.save(beside)
        loaded = TextModel.load(beside)
        random = np.random.default_rng(0).integers(0, loaded.vocabulary.size, STEPS)
        comparisons = [_compared("random symbols", loaded, source, random)]
        if output.exists() and not force:
            raise RunError(f"{output} is there already: --force replaces it")
        loaded.save(output)
    return Arrived(KINDS[kind], output, loaded, tuple(comparisons), source.by)


def _settled(config: Config, vocabulary: Vocabulary) -> Config:
    """Settings under which texts are read as the vocabulary means them."""
    return config.replace(unit=vocabulary.unit, normal_form=vocabulary.normal_form)


def _compared(what: str, model: TextModel, source: Source, symbols: np.ndarray) -> Comparison:
    steps, theirs = source.answers(symbols)
    ours = model_answers(model, symbols)[steps]
    if source.form != "logits":
        ours = ours - ours.max(axis=-1, keepdims=True)
        ours = ours - np.log(np.exp(ours).sum(axis=-1, keepdims=True))
        ours = ours if source.form == "logarithms" else np.exp(ours)
    return compared(what, ours, theirs, names=("file", "bundle"))


def _needs(path: Path, package: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise ConfigError(f"{path} is read with {package}, which is not installed: pip install 'elman[export]'")


def _given(path: Path, symbols: Symbols | None) -> Symbols:
    if symbols is None:
        raise ConfigError(
            f"{path} does not say which characters its numbers stand for: give --vocabulary FILE (docs/exports.md)"
        )
    return symbols


def _check_sizes(path: Path, read: int, said: int, symbols: Symbols) -> None:
    if read == said == symbols.vocabulary.size:
        return
    raise BundleError(
        f"{path} reads {read} symbols and says {said}, but the vocabulary has {symbols.vocabulary.size}: give the one that it was "
        "trained with (in a plain text the line break at its end counts, too)"
    )


def _check_activation(path: Path, activation: str | None, found: str | None, simple: bool) -> None:
    """Refuse an --activation that the file contradicts, or that it has no use for."""
    if activation is not None and not simple:
        raise ConfigError(
            f"{path} holds a GRU or an LSTM: leave out --activation, which is for simple recurrent networks"
        )
    if None not in (activation, found) and activation != found:
        raise ConfigError(f"{path} says itself that its activation is {found}: leave out --activation {activation}")


def _keras(path: Path, symbols: Symbols | None, activation: str | None) -> Source:
    _needs(path, "h5py")
    from elman.shipping.keras_import import keras_answers, read_keras, text_model_from_keras

    network = read_keras(path, activation=activation)
    _check_activation(path, activation, network.activation, network.cell == "elman")
    found = _given(path, symbols)
    _check_sizes(path, network.symbols, network.kernel.shape[1], found)
    numbers = found.numbers
    model = text_model_from_keras(network.in_order(numbers), found.vocabulary)

    def answers(given: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.arange(len(given)), keras_answers(network, numbers[given])[:, numbers]

    return Source(model, answers, "Keras' equations in NumPy")


def _torch(path: Path, symbols: Symbols | None, activation: str | None) -> Source:
    _needs(path, "safetensors")
    from elman.shipping.torch_export import from_state_dict, read_state_dict
    from elman.shipping.torch_import import common_names, state_dict_answers

    arrays, facts = read_state_dict(path)
    if not isinstance(facts, dict) or "format" in facts:
        raise BundleError(f"{path} is a bundle of elman's already: nothing has to be brought in")
    if facts.get("kind", "text") != "text":
        raise BundleError(f"{path} holds a forecaster, which is not read back: keep its bundle")
    arrays = {name: np.asarray(array, np.float32) for name, array in common_names(arrays).items()}
    if symbols is None and "vocabulary" in facts:
        symbols = Symbols.of(Vocabulary.from_dict(facts["vocabulary"]))
    found = _given(path, symbols)
    gates, units = arrays["rnn.weight_hh_l0"].shape
    told = facts.get("activation") if facts.get("activation") in ("tanh", "relu") else None
    _check_activation(path, activation, told, gates == units)
    name, axis = ("embedding.weight", 0) if "embedding.weight" in arrays else ("rnn.weight_ih_l0", 1)
    _check_sizes(path, arrays[name].shape[axis], len(arrays["linear.weight"]), found)
    numbers, activation = found.numbers, activation or told or "tanh"
    moved = {name: arrays[name][numbers] for name in ("linear.weight", "linear.bias")}
    moved[name] = np.take(arrays[name], numbers, axis=axis)
    model = from_state_dict(arrays | moved, found.vocabulary, activation=activation)

    def answers(given: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.arange(len(given)), state_dict_answers(arrays, activation, numbers[given])[1][:, numbers]

    return Source(model, answers, state_dict_answers(arrays, activation, numbers[:1])[0])


def _onnx(path: Path, symbols: Symbols | None, activation: str | None) -> Source:
    for package in ("onnx", "onnxruntime"):
        _needs(path, package)
    if activation is not None:
        raise ConfigError(f"{path} says its activation itself: leave out --activation")
    from elman.shipping.onnx_text import read_text_graph

    graph = read_text_graph(path)
    if symbols is None and graph.vocabulary is not None:
        symbols = Symbols.of(graph.vocabulary)
    found = _given(path, symbols)
    _check_sizes(path, graph.symbols, graph.weight.shape[1], found)
    numbers = found.numbers

    def answers(given: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        steps, said = graph.answers(numbers[given])
        return steps, said[:, numbers]

    return Source(graph.text_model(found), answers, "ONNX Runtime", graph.form)


_READERS: dict[str, Callable[[Path, Symbols | None, str | None], Source]] = {
    "keras": _keras,
    "torch": _torch,
    "onnx": _onnx,
}

"""From a model to a file that another runtime reads: written beside its place, run, compared, and only then put there."""

import importlib.util
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from elman.errors import ConfigError, RunError
from elman.series.model import SeriesModel
from elman.shipping import comparing
from elman.shipping.c_export import c_name, write_c
from elman.shipping.comparing import Comparison, compared, model_answers, random_inputs
from elman.shipping.numpy_export import write_numpy
from elman.shipping.parts import Parts, parts_of
from elman.shipping.web_export import to_web, write_web
from elman.text.model import TextModel

Answers = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Exported:
    """paths: what was written. comparisons: on what it was compared, and how it came out. not_compared: why not, else empty."""

    paths: tuple[Path, ...]
    comparisons: tuple[Comparison, ...]
    not_compared: str = ""


def export(
    model: TextModel | SeriesModel,
    target: str,
    output: Path,
    *,
    real: np.ndarray | None = None,
    source: str = "real input",
    title: str = "elman",
    force: bool = False,
) -> Exported:
    """Write `model` for `target` (onnx, torch, numpy, c or web) to `output`, once it says there what the model says.

    real: symbols `[time]` or input values `[time, inputs]` to compare on beside random ones, from `source`. title: heading of a
    page. force: replace what is there.

    Raises: `ConfigError` for a network that the target cannot hold, or a package that is missing; `BundleError` where the export
    says something else than the model; `RunError` where the system refuses. Nothing is written then.
    """
    parts, output = parts_of(model), Path(output)
    given = [("random input", random_inputs(parts))]
    if real is not None and len(real):
        given.append((source, real))
    with tempfile.TemporaryDirectory(prefix="elman-export-") as folder:
        made, answers = _WRITERS[target](parts, Path(folder), output, title)
        comparisons, reason = [], ""
        for what, inputs in given:
            try:
                comparisons.append(compared(what, model_answers(model, inputs), answers(inputs)))
            except ConfigError as error:
                reason = str(error)
                break
        return Exported(_placed(made, output, target, force), tuple(comparisons), reason)


def _placed(made: tuple[Path, ...], output: Path, target: str, force: bool) -> tuple[Path, ...]:
    """The files at their places, each whole or not there."""
    folder = output if target == "numpy" else output.parent
    places = tuple(folder / file.name for file in made)
    for place in places:
        if place.exists() and not force:
            raise RunError(f"{place} is there already: --force replaces it")
    try:
        folder.mkdir(exist_ok=True)
        for file, place in zip(made, places, strict=True):
            # Copied beside its place first: the temporary folder may lie on another disk.
            beside = place.with_name(f".{place.name}.{os.getpid()}")
            try:
                shutil.copyfile(file, beside)
                os.replace(beside, place)
            finally:
                beside.unlink(missing_ok=True)
    except OSError as error:
        raise RunError(f"{output} cannot be written: {error.strerror or error}") from None
    return places


def _needs(package: str, extra: str = "export") -> None:
    if importlib.util.find_spec(package) is None:
        raise ConfigError(f"this export needs {package}, which is not installed: pip install 'elman[{extra}]'")


def _onnx(parts: Parts, folder: Path, output: Path, title: str) -> tuple[tuple[Path, ...], Answers]:
    _needs("onnx")
    from elman.shipping.onnx_export import to_onnx

    serialized, path = to_onnx(parts).SerializeToString(), folder / output.name
    path.write_bytes(serialized)

    def answers(inputs: np.ndarray) -> np.ndarray:
        _needs("onnxruntime")
        return comparing.onnx_answers(serialized, inputs)

    return (path,), answers


def _numpy(parts: Parts, folder: Path, output: Path, title: str) -> tuple[tuple[Path, ...], Answers]:
    write_numpy(parts, folder)
    paths = tuple(folder / name for name in ("weights.npz", "model.py", "model.json"))
    return paths, lambda inputs: comparing.numpy_answers(folder, parts, inputs)


def _c(parts: Parts, folder: Path, output: Path, title: str) -> tuple[tuple[Path, ...], Answers]:
    if c_name(output.stem) != output.stem:
        raise ConfigError(f"{output.name} is no name that C can use for its functions: call it {c_name(output.stem)}.c")
    work = folder / "compiled"
    work.mkdir()
    return write_c(parts, folder / output.name), lambda inputs: comparing.c_answers(parts, inputs, work)


def _web(parts: Parts, folder: Path, output: Path, title: str) -> tuple[tuple[Path, ...], Answers]:
    path = folder / output.name
    write_web(parts, path, title)
    return (path,), lambda inputs: comparing.web_answers(to_web(parts, title), inputs)


def _torch(parts: Parts, folder: Path, output: Path, title: str) -> tuple[tuple[Path, ...], Answers]:
    _needs("safetensors")
    from elman.shipping.torch_export import torch_answers, write_torch

    path = folder / output.name
    write_torch(parts, path)

    def answers(inputs: np.ndarray) -> np.ndarray:
        return torch_answers(parts, path, inputs)

    return (path,), answers


_WRITERS: dict[str, Callable[[Parts, Path, Path, str], tuple[tuple[Path, ...], Answers]]] = {
    "onnx": _onnx,
    "numpy": _numpy,
    "c": _c,
    "web": _web,
    "torch": _torch,
}

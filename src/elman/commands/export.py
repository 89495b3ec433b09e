"""`elman export`: a model for another runtime, compared with the original before it is there."""

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from elman.commands.inspect_input import read_text, written_text
from elman.commands.kinds import kind_of
from elman.commands.output import print_json, reporting, warn
from elman.commands.series_input import read_question
from elman.errors import ConfigError, DataError, RunError
from elman.series.model import SeriesModel
from elman.shipping.exporting import Exported, export
from elman.text.model import TextModel
from elman.training.engine import use_compilation_cache
from elman.training.progress import Reporter

ENDINGS = {"onnx": (".onnx",), "torch": (".safetensors", ".pt"), "c": (".c",), "web": (".html", ".htm"), "numpy": ("",)}

REAL_STEPS = 500
"""Symbols or rows of real input that are compared."""


def run(parsed: argparse.Namespace) -> int:
    """Export, compare, print what was compared."""
    output = _checked(Path(parsed.output), parsed.to, parsed.force)
    use_compilation_cache()
    with reporting(quiet=parsed.quiet) as reporter:
        model, real, source = _read(parsed, reporter)
        reporter.working(f"writing and comparing {output}", 0.0)
        exported = export(
            model, parsed.to, output, real=real, source=source, title=_title(parsed.model), force=parsed.force
        )
    if parsed.json:
        print_json(_figures(parsed, exported))
        return 0
    for comparison in exported.comparisons:
        print(
            f"compared:  {comparison.steps:,} steps of {comparison.what}: largest difference {comparison.largest:.1e}"
        )
    if exported.not_compared:
        warn(f"not compared: {exported.not_compared}")
    for path in exported.paths:
        print(f"written:   {path}")
    return 0


def _checked(output: Path, target: str, force: bool) -> Path:
    """The path, whose ending fits. Raises: `ConfigError` for another ending, `RunError` for what is there already."""
    endings = ENDINGS[target]
    if target != "numpy" and output.suffix.lower() not in endings:
        raise ConfigError(f"--output {output} does not fit --to {target}: end it with {' or '.join(endings)}")
    if target == "numpy" and output.exists() and not output.is_dir():
        raise RunError(f"{output} is a file: --to numpy writes a folder")
    if output.exists() and not force and (target != "numpy" or any(output.iterdir())):
        raise RunError(f"{output} is there already: --force replaces it")
    if not output.parent.is_dir():
        raise RunError(f"the folder {output.parent} is not there: make it first")
    return output


def _title(model: str) -> str:
    path = Path(model)
    return path.name if path.is_dir() else path.stem


def _read(parsed: argparse.Namespace, reporter: Reporter) -> tuple[TextModel | SeriesModel, np.ndarray | None, str]:
    """The model, real input for it, and where that is from."""
    if kind_of(parsed.model) == "series":
        return _read_series(parsed, reporter)
    model = TextModel.load(parsed.model)
    asked = argparse.Namespace(
        model=parsed.model, text=None, input=parsed.input, characters=REAL_STEPS, data_dir=parsed.data_dir
    )
    try:
        looked = read_text(asked, model)
    except (DataError, RunError):
        if parsed.input is not None:
            raise
        looked = written_text(model, REAL_STEPS, seed=0)
    return model, looked.codes.astype(np.int64), looked.source


def _read_series(parsed: argparse.Namespace, reporter: Reporter) -> tuple[SeriesModel, np.ndarray | None, str]:
    try:
        question = read_question(parsed, parsed.input, "--input", reporter)
    except DataError as error:
        if parsed.input is not None:
            raise
        warn(f"compared on random input only: {error}")
        return SeriesModel.load(parsed.model), None, ""
    model, panel = question.model, question.ready.panel
    end = int(panel.offsets[1])
    index = np.arange(max(int(panel.offsets[0]), end - REAL_STEPS), end)
    inputs = model.encoding.inputs(model.encoding.steps(model.encoding.rows(panel), index))
    return model, np.asarray(inputs, np.float32), parsed.input or "the run's own table"


def _figures(parsed: argparse.Namespace, exported: Exported) -> dict[str, Any]:
    return {
        "model": parsed.model,
        "to": parsed.to,
        "paths": [str(path) for path in exported.paths],
        "compared": [
            {"input": found.what, "steps": found.steps, "largest_difference": found.largest}
            for found in exported.comparisons
        ],
        "not_compared": exported.not_compared or None,
    }

"""`elman inspect memory`: how far back gradients reach, how fast a disturbance fades, and the spectrum behind it."""

import argparse
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from elman.commands.inspect_input import read_text
from elman.commands.kinds import kind_of
from elman.commands.output import narrow_console, print_json, reporting
from elman.commands.series_input import read_question
from elman.commands.series_output import PICTURES, check_output, save_picture
from elman.errors import ConfigError, DataError
from elman.insight.memory import EXACT, LAGS, Memory, memory
from elman.insight.memory_drawing import memory_figure
from elman.insight.subjects import Subject, series_subject
from elman.text.model import TextModel
from elman.training.engine import use_compilation_cache
from elman.training.progress import Reporter

STEPS = 2000
"""Of the input, where nothing else is said: room for eight places to look back from."""

SHOWN = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)


def run(parsed: argparse.Namespace) -> int:
    """Measure, print and draw."""
    output = check_output(parsed.output, PICTURES, "--output")
    lags = LAGS if parsed.lags is None else parsed.lags
    if not 1 <= lags <= 10_000:
        raise ConfigError(f"--lags {lags} is out of range: an integer from 1 to 10,000")
    steps = STEPS if parsed.steps is None else parsed.steps
    if steps < 2:
        raise ConfigError(f"--steps {steps} is out of range: an integer of at least 2")
    use_compilation_cache()
    with reporting(quiet=False) as reporter:
        subject, source = look_at(parsed, max(steps, 2 * lags), reporter)
        reporter.working("looking back", 0.0)
        found = memory(subject, lags=lags)
    if output is not None:
        save_picture(memory_figure(found, f"{parsed.model}, over {source}"), output, "memory")
    if parsed.json:
        print_json(_figures(found, source))
        return 0
    _show(found, source)
    if output is not None:
        print(f"picture:  {output}")
    return 0


def look_at(parsed: argparse.Namespace, steps: int, reporter: Reporter) -> tuple[Subject, str]:
    """What is looked into, of text or of a series, at most `steps` of it; and in words where it is from.

    Raises: `ConfigError` for a flag of the other kind, `DataError` for too little to look at.
    """
    reporter.working("reading", 0.0)
    if kind_of(parsed.model) == "series":
        if parsed.text is not None:
            raise ConfigError(f"--text is for models of text, but {parsed.model} holds a forecaster: use --data")
        question = read_question(parsed, parsed.data, "--data", reporter)
        subject = series_subject(question.model, question.ready.panel, steps=steps)
        source = parsed.data or "the run's own table"
    else:
        if parsed.data is not None:
            raise ConfigError(f"--data is for forecasters, but {parsed.model} holds a model of text: use --text")
        model = TextModel.load(parsed.model)
        parsed.characters, parsed.input = steps, None
        looked = read_text(parsed, model)
        subject, source = looked.subject(model), looked.source
    if len(subject.xs) < 2:
        raise DataError(f"{source} has too few steps to look back over: give at least 2")
    return subject, source


def _figures(found: Memory, source: str) -> dict[str, Any]:
    return {
        "source": source,
        "gradients": found.verdict,
        "per_step": found.per_step,
        "lags": found.lags.tolist(),
        "norm": found.norm.tolist(),
        "low": found.low.tolist(),
        "high": found.high.tolist(),
        "largest": None if found.largest is None else found.largest.tolist(),
        "half_life": found.half_life,
        "small_half_life": found.small_half_life,
        "spectra": [
            {"name": one.name, "radius": one.radius, "singular": one.singular.tolist()} for one in found.spectra
        ],
    }


def _show(found: Memory, source: str) -> None:
    print(f"over {source}: gradients {found.verdict}, × {found.per_step:.3g} a step; {_half_lives(found)}")
    screen = narrow_console()
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for title in (
        "lag",
        "norm of ds_T/ds_t",
        "least",
        "most",
        *(() if found.largest is None else ("largest singular value",)),
    ):
        table.add_column(title, justify="right")
    for lag in sorted({lag for lag in (*SHOWN, int(found.lags[-1])) if lag <= found.lags[-1]}):
        largest = () if found.largest is None else (f"{found.largest[lag]:.3g}",)
        table.add_row(str(lag), f"{found.norm[lag]:.3g}", f"{found.low[lag]:.3g}", f"{found.high[lag]:.3g}", *largest)
    screen.print(table)
    spectra = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for title in ("W_hh", "spectral radius", "largest singular value", "median", "smallest"):
        spectra.add_column(title, justify="left" if title == "W_hh" else "right")
    for one in found.spectra:
        middle = one.singular[len(one.singular) // 2]
        figures = (one.radius, one.singular[0], middle, one.singular[-1])
        spectra.add_row(Text(one.name or "all"), *(f"{figure:.3g}" for figure in figures))
    screen.print(spectra)
    if found.largest is None:
        print(f"the largest singular value of ds_T/ds_t is left out: the state has more than {EXACT} numbers")


def _half_lives(found: Memory) -> str:
    """Both half-lives in words."""
    last = int(found.lags[-1])

    def words(steps: int | None) -> str:
        return f"not within {last} steps" if steps is None else f"{steps} step{'s' if steps > 1 else ''}"

    small = words(found.small_half_life)
    return f"half of a replaced state is forgotten: {words(found.half_life)}; of a small disturbance: {small}"

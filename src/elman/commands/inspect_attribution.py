"""`elman inspect attribution`: which columns and lags moved a forecast, or which characters the next one."""

import argparse
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.table import Table
from rich.text import Text

from elman.commands.inspect_input import read_text
from elman.commands.inspect_surprise import save_colored
from elman.commands.kinds import kind_of
from elman.commands.output import console, narrow_console, print_json, reporting
from elman.commands.series_input import Question, read_question
from elman.commands.series_output import PICTURES, check_output, save_picture
from elman.config import suggestion
from elman.errors import ConfigError, DataError
from elman.insight.attribution import CALENDAR, Attribution, attribution
from elman.insight.coloring import ColoredText, terminal
from elman.insight.connectivity import what_moved
from elman.insight.memory_drawing import bars_figure, lags_figure
from elman.series.answers import last_measured
from elman.series.cleaning.units import unit_of
from elman.text.model import TextModel
from elman.training.engine import precision, use_compilation_cache
from elman.training.progress import printable

CHARACTERS = 200
"""Before the one that is asked about, where nothing else is said."""


def run(parsed: argparse.Namespace) -> int:
    """Ask the model, print and draw."""
    output = check_output(parsed.output, PICTURES, "--output")
    use_compilation_cache()
    if kind_of(parsed.model) == "series":
        return _series(parsed, output)
    return _text(parsed, output)


def _text(parsed: argparse.Namespace, output: Path | None) -> int:
    """Gradient x input of the last character's log-probability."""
    for flag in ("data", "origin", "series"):
        if getattr(parsed, flag) is not None:
            raise ConfigError(f"--{flag} is for forecasters, but {parsed.model} holds a model of text: use --text")
    if parsed.method != "integrated":
        raise ConfigError("--method is for forecasters: of a text, it is always gradient x input")
    model = TextModel.load(parsed.model)
    parsed.characters, parsed.input = CHARACTERS if parsed.steps is None else parsed.steps, None
    with reporting(quiet=False) as reporter:
        reporter.working("looking inside", 0.0)
        looked = read_text(parsed, model)
        if len(looked.codes) < 2:
            raise DataError(f"{looked.source} has one character: give at least 2, of which the last is asked about")
        with precision(model.config.training.dtype):
            moved = what_moved(model.network, looked.codes.astype(np.int32), len(looked.codes) - 1)
    symbols = looked.symbols(model)
    most = float(np.abs(moved).max()) or 1.0
    title = f"What moved log p({symbols[-1]!r}) at the end of {looked.source}"
    colored = ColoredText(symbols, moved / most, title, f"−{most:.2g}", f"+{most:.2g}")
    if output is not None:
        save_colored(colored, output)
    if parsed.json:
        pairs = [{"character": c, "moved": float(m)} for c, m in zip(symbols, moved, strict=True)]
        print_json({"source": looked.source, "character": symbols[-1], "characters": pairs})
        return 0
    console().print(terminal(colored))
    if output is not None:
        print(f"picture:  {output}")
    return 0


def _series(parsed: argparse.Namespace, output: Path | None) -> int:
    if parsed.text is not None:
        raise ConfigError(f"--text is for models of text, but {parsed.model} holds a forecaster: use --data")
    if parsed.steps is not None:
        raise ConfigError(
            "--steps is for models of text: a forecast is made from as many steps as its model looks back"
        )
    with reporting(quiet=False) as reporter:
        question = read_question(parsed, parsed.data, "--data", reporter)
        origin = _origin(parsed, question)
        reporter.working("looking inside", 0.0)
        found = attribution(question.model, question.ready.panel, origin, method=parsed.method)
    unit = unit_of(question.model.horizon.target)
    names = [_shown(name) for name, _ in found.columns]
    if output is not None:
        title = f"{question.model.horizon.target}, forecast made at {found.origin}"
        figure = bars_figure(names, [moved for _, moved in found.columns], found.occluded, title, unit)
        save_picture(figure, output, title)
        beside = output.with_name(f"{output.stem}-lags{output.suffix}")
        save_picture(lags_figure(names, found.lags, found.by_lag, title, unit), beside, title)
    if parsed.json:
        print_json(_figures(found, unit, parsed.method))
        return 0
    _show(found, unit)
    if output is not None:
        print(f"pictures:  {output}, {beside}")
    return 0


def _shown(name: str) -> str:
    return "calendar" if name == CALENDAR else name


def _origin(parsed: argparse.Namespace, question: Question) -> int:
    """The row at which the forecast is made. Raises: `ConfigError` for a series or a time that is not there."""
    panel = question.ready.panel
    number = 0
    if parsed.series is not None:
        if parsed.series not in panel.names:
            raise ConfigError(f"there is no series {parsed.series!r}{suggestion(parsed.series, panel.names)}")
        number = panel.names.index(parsed.series)
    first, last = int(panel.offsets[number]), int(last_measured(panel, question.model.encoding.known)[number])
    if last < first:
        raise DataError(f"the series {panel.names[number]!r} has no measurement to forecast from")
    if parsed.origin is None:
        return last
    try:
        moment = np.datetime64(datetime.fromisoformat(parsed.origin).replace(tzinfo=None), "us").astype(np.int64)
    except ValueError:
        raise ConfigError(f"--origin {parsed.origin} is no time: write it as 2016-03-03T14:00") from None
    place = first + int(np.searchsorted(panel.times[first : last + 1], moment, side="right")) - 1
    if place < first or moment > panel.times[last] + 1:
        span = " to ".join(str(np.datetime64(int(panel.times[row]), "us"))[:16] for row in (first, last))
        raise ConfigError(f"--origin {parsed.origin} is not within the rows, which are from {span}")
    return place


def _figures(found: Attribution, unit: str, method: str) -> dict[str, Any]:
    return {
        "origin": found.origin,
        "unit": unit,
        "method": method,
        "forecast": found.forecast,
        "baseline": found.baseline,
        "unexplained": found.unexplained,
        "columns": [
            {"name": _shown(name), "moved": moved, "occlusion": occluded}
            for (name, moved), occluded in zip(found.columns, found.occluded, strict=True)
        ],
        "lags": [
            {"steps": lag, "moved": moved, "occlusion": occluded}
            for lag, moved, occluded in zip(
                found.lags, found.by_lag.sum(axis=0).tolist(), found.lags_occluded, strict=True
            )
        ],
        "agreement": None if np.isnan(found.agreement) else found.agreement,
    }


def _show(found: Attribution, unit: str) -> None:
    print(
        f"made at {found.origin}: {found.forecast:.3f} {unit}, where the baseline (every column at its mean, the last value kept) "
        f"gives {found.baseline:.3f}"
    )
    screen = narrow_console()
    order = np.argsort([-abs(moved) for _, moved in found.columns])
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for title in ("column", "moved it by", "occlusion"):
        table.add_column(title, justify="left" if title == "column" else "right")
    for place in order:
        name, moved = found.columns[place]
        table.add_row(Text(printable(_shown(name))), f"{moved:+.3f}", f"{found.occluded[place]:+.3f}")
    screen.print(table)
    lags = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for title in ("steps before", "moved it by", "occlusion"):
        lags.add_column(title, justify="right")
    for lag, moved, occluded in zip(found.lags, found.by_lag.sum(axis=0), found.lags_occluded, strict=True):
        lags.add_row(lag, f"{moved:+.3f}", f"{occluded:+.3f}")
    screen.print(lags)
    agreement = "" if np.isnan(found.agreement) else f"; the two agree with a rank correlation of {found.agreement:.2f}"
    print(f"not explained: {found.unexplained:+.4f}{agreement}")

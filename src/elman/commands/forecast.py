"""`elman forecast`: what comes next, from the last rows of a table."""

import argparse
from typing import Any

import numpy as np
import polars as pl
from rich import box
from rich.table import Table
from rich.text import Text

from elman.commands.kinds import refuse_text
from elman.commands.output import narrow_console, print_json, reporting
from elman.commands.series_input import Question, read_question
from elman.commands.series_output import PICTURES, TABLES, check_output, plain_rows, save_picture, save_table
from elman.reports import print_fan
from elman.reports.drawing import share_of
from elman.reports.forecasts import fan_figure
from elman.series.answers import last_measured
from elman.series.cleaning.units import unit_of
from elman.series.results import fan
from elman.series.results import fans as pictured
from elman.series.running import forecast_latest
from elman.training.engine import use_compilation_cache
from elman.training.progress import printable

MOST_ROWS = 48
"""Lines of the table in the terminal; a file holds all of them."""

MOST_FANS = 3

MOST_PANEL_ROWS = 1_000_000
"""Rows of a table up to which the way to a single horizon is drawn: it takes another look at all of them."""


def run(parsed: argparse.Namespace) -> int:
    """Forecast, print and write."""
    output = check_output(parsed.output, TABLES, "--output")
    picture = check_output(parsed.picture, PICTURES, "--picture")
    refuse_text(parsed.model)
    use_compilation_cache()
    with reporting(quiet=parsed.quiet) as reporter:
        question = read_question(parsed, parsed.data, "--data", reporter, forecasting=True)
        reporter.working("forecasting", 0.0)
        frame = forecast_latest(question.model, question.ready.panel)
    fans = latest_fans(question, frame)
    if output is not None:
        save_table(frame, output)
    if picture is not None:
        target = question.model.horizon.target
        save_picture(fan_figure(fans[0], target=target, unit=unit_of(target)), picture, f"{target}: forecast")
    if parsed.json:
        print_json(_figures(parsed.model, question, frame))
    else:
        _show(question, frame, fans)
        for words, file in (("forecast", output), ("picture", picture)):
            if file is not None:
                print(f"{words}:  {file}")
    return 0


def latest_fans(question: Question, frame: pl.DataFrame) -> list[dict[str, Any]]:
    """The forecasts with their history, as pictures take them; of at most three series."""
    panel, horizon = question.ready.panel, question.model.horizon
    ends = last_measured(panel, question.model.encoding.known)
    ends = ends[ends >= panel.offsets[:-1]][:MOST_FANS]
    if len(horizon.rows) == 1 and panel.row_count <= MOST_PANEL_ROWS:
        return pictured(question.model, panel, ends)
    quantiles = frame.select(_columns(question, frame)[1]).to_numpy().astype(np.float32)
    steps = len(horizon.rows)
    return [
        fan(panel, horizon, int(end), quantiles[place * steps : (place + 1) * steps], None)
        for place, end in enumerate(ends)
    ]


def _columns(question: Question, frame: pl.DataFrame) -> tuple[list[str], list[str]]:
    """The names of the series (if any), of both times and of the point forecast; and those of the levels."""
    count = 3 + (question.ready.panel.names != ("",))
    first, levels = frame.columns[:count], frame.columns[count:]
    return first, levels or first[-1:]


def _figures(path: str, question: Question, frame: pl.DataFrame) -> dict[str, Any]:
    model = question.model
    return {
        "model": path,
        "target": model.horizon.target,
        "unit": unit_of(model.horizon.target),
        "horizon": str(model.encoding.step * model.horizon.furthest),
        "step": str(model.encoding.step),
        "levels": list(model.horizon.levels),
        "warnings": list(question.warnings),
        "forecasts": plain_rows(frame),
    }


def _show(question: Question, frame: pl.DataFrame, fans: list[dict[str, Any]]) -> None:
    """The table and the pictures."""
    screen, horizon = narrow_console(), question.model.horizon
    columns, levels = _columns(question, frame)
    titles = [*columns[:-3], "made at", "for", columns[-1]]
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 2, 0, 0))
    for title in titles:
        table.add_column(Text(printable(title)), justify="right" if title == columns[-1] else "left")
    if len(levels) > 1:
        table.add_column(f"{share_of(horizon.levels, (0, len(levels) - 1))} between", justify="right")
    rows = plain_rows(frame.head(MOST_ROWS))
    for row in rows:
        cells = [_words(row[name]) for name in columns]
        if len(levels) > 1:
            cells.append(f"{_words(row[levels[0]])} and {_words(row[levels[-1]])}")
        table.add_row(*map(Text, cells))
    screen.print(table)
    if len(frame) > len(rows):
        print(f"and {len(frame) - len(rows):,} more: --output FILE.csv holds all of them")
    for one in fans:
        print()
        print_fan(one, screen, target=horizon.target, unit=unit_of(horizon.target))


def _words(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.2f}" if abs(value) < 1000 else f"{value:.6g}"
    return printable(str(value)).replace("T", " ").removesuffix(":00") if _is_time(value) else printable(str(value))


def _is_time(value: Any) -> bool:
    return isinstance(value, str) and len(value) >= 19 and value[4:5] == value[7:8] == "-" and value[10] == "T"

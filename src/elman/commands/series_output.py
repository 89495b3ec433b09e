"""What the commands about series show and write: the findings in words, scores, errors in short, tables and pictures in files."""

import base64
import html
import io
import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from elman.commands.output import narrow_console
from elman.errors import ConfigError, RunError
from elman.reports import print_scores
from elman.reports.forecasts import Panel, error_panels
from elman.series.cleaning.findings import DataReport, Finding, moment
from elman.training.progress import printable
from elman.training.storage import write_atomically

TABLES = (".csv", ".tsv", ".parquet")
PICTURES = (".png", ".svg", ".html")

_LONG = ("fans", "slices", "data")
"""Parts of an evaluation that are for pictures only."""


def findings_in_words(report: DataReport) -> str:
    """What the table is, how it was understood, and every repair: one line each; what is only good to know is counted."""
    span = f"{moment(report.first)} to {moment(report.last)}"
    series = f" in {report.series:,} series" if report.series > 1 else ""
    lines = [f"{report.source}: {report.rows:,} rows{series}, one every {report.step}, {span}"]
    for severity, mark in (("problem", "!"), ("repaired", "+")):
        lines += [f"{mark} {_in_words(one)}" for one in report.findings if one.severity == severity]
    lines += [f"· {note}" for note in report.notes]
    notes = sum(finding.severity == "note" for finding in report.findings)
    if notes:
        lines.append(f"· {notes} more thing{'s' if notes > 1 else ''} to know: `elman describe` tells")
    return printable("\n".join(lines))


def _in_words(finding: Finding) -> str:
    """The sentence, with the first row where it is about a column: elsewhere the sentence names it."""
    if finding.column is None or not finding.spots:
        return finding.sentence
    more = f" and {finding.count - 1:,} more" if finding.kind != "stuck" and finding.count > 1 else ""
    return f"{finding.sentence} ({finding.spots[0].place}, {moment(finding.spots[0].time)}{more})"


def figures_of(evaluation: dict[str, Any]) -> dict[str, Any]:
    """An evaluation as `--json` prints it: all figures, without what pictures are made of."""
    return {name: value for name, value in evaluation.items() if name not in _LONG}


def print_outcome(evaluation: dict[str, Any]) -> None:
    """The verdict, as the first line of all, and the table of scores."""
    screen, words = narrow_console(), printable(evaluation["verdict"])
    # A terminal gets it broken between words, everything else as one line.
    screen.print(Text(words), soft_wrap=not screen.is_terminal)
    print()
    print_scores(evaluation, screen)


def print_errors(evaluation: dict[str, Any]) -> None:
    """The mean absolute error by horizon, hour and month in short: this network and the best baseline."""
    screen = narrow_console()
    shown = [(panel, places) for panel in error_panels(evaluation) if len(places := _shown_places(panel)) > 1]
    if shown:
        print("\nmean absolute error")
    for panel, places in shown:
        screen.print(_error_table(panel, places, screen))


def _error_table(panel: Panel, shown: list[tuple[int, str]], screen: Console) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column(f"by {panel.title}", no_wrap=True, overflow="ellipsis", max_width=max(20, screen.width // 3))
    for _, label in shown:
        table.add_column(label, justify="right", no_wrap=True)
    digits = 2 if len(shown) > 8 else 3
    for line in sorted(panel.lines, key=lambda line: ("ours", "best", "other").index(line.kind)):
        if line.kind != "other":
            cells = [_cell(line.values[index], digits) for index, _ in shown]
            style = {"ours": "bold cyan", "best": "yellow"}[line.kind]
            table.add_row(Text(line.name), *cells, style=style)
    return table


def _cell(value: float, digits: int) -> str:
    return f"{value:.{digits}g}" if math.isfinite(value) else "–"


def _shown_places(panel: Panel) -> list[tuple[int, str]]:
    """Index and heading of the places that fit on a line, of those where anything was forecast: at most eight, or all months."""
    known = [k for k in range(len(panel.places)) if any(math.isfinite(line.values[k]) for line in panel.lines)]
    if panel.title == "month":
        return [(k, panel.ticks[k][1]) for k in known]
    if panel.title == "hour of the day" and len(known) == len(panel.places):
        known = known[::3]
    elif len(known) > 8:
        known = [known[round(place * (len(known) - 1) / 7)] for place in range(8)]
    return [(k, f"{panel.places[k]:g}") for k in known]


def check_output(path: str | None, endings: Sequence[str], flag: str) -> Path | None:
    """The file that is to be written, refused before any work is done where it cannot be.

    Raises: `ConfigError` for a name that ends otherwise, a folder, and a file in a folder that is not there.
    """
    if path is None:
        return None
    file = Path(path)
    if file.is_dir():
        raise ConfigError(f"{flag} {path} is a folder: name a file in it, such as {file / ('forecast' + endings[0])}")
    if file.suffix.lower() not in endings:
        raise ConfigError(f"{flag} {path} has an unknown ending: it is one of {', '.join(endings)}")
    if not file.parent.is_dir():
        raise ConfigError(f"{flag} {path}: there is no folder {file.parent}: create it or name another")
    return file


def save_table(frame: pl.DataFrame, path: Path) -> None:
    """Write a frame as CSV, TSV or Parquet, whole or not at all."""
    written = io.BytesIO()
    if path.suffix.lower() == ".parquet":
        frame.write_parquet(written)
    else:
        with_text = frame.with_columns(_times_as_text(column) for column in frame if column.dtype.is_temporal())
        with_text.write_csv(written, separator="\t" if path.suffix.lower() == ".tsv" else ",")
    write_atomically(path, written.getvalue())


def plain_rows(frame: pl.DataFrame) -> list[dict[str, Any]]:
    """Rows for JSON: times as ISO 8601, no number where there is none."""
    texts = frame.with_columns(_times_as_text(column) for column in frame if column.dtype.is_temporal())
    floats = [column.name for column in texts if column.dtype.is_float()]
    return texts.with_columns(pl.col(floats).fill_nan(None)).to_dicts() if floats else texts.to_dicts()


def _times_as_text(column: pl.Series) -> pl.Series:
    """ISO 8601, with the offset where the zone is known, and parts of a second only where there are some."""
    zone = "%:z" if getattr(column.dtype, "time_zone", None) else ""
    return column.dt.to_string(f"%Y-%m-%dT%H:%M:%S%.f{zone}").alias(column.name)


def save_picture(figure: Any, path: Path, title: str) -> None:
    """Write a Matplotlib figure as PNG, SVG, or a page of HTML that holds it, whole or not at all."""
    written, ending = io.BytesIO(), path.suffix.lower()
    with warnings.catch_warnings():
        # A letter that the font lacks is drawn as a box, and that is all there is to say about it.
        warnings.filterwarnings("ignore", message="Glyph")
        try:
            figure.savefig(written, format="svg" if ending == ".html" else ending[1:], dpi=150)
        except (OSError, ValueError) as error:
            raise RunError(f"cannot draw {path}: {error}") from None
    data = written.getvalue()
    if ending == ".html":
        picture = base64.b64encode(data).decode()
        words = html.escape(title)
        data = (
            f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>{words}</title>\n'
            f'<meta name="viewport" content="width=device-width">\n'
            f'<h1 style="font: 1.2rem sans-serif">{words}</h1>\n'
            f'<img alt="{words}" style="max-width: 100%" src="data:image/svg+xml;base64,{picture}">\n</html>\n'
        ).encode()
    write_atomically(path, data)

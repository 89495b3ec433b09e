"""The data report as a person sees it: words and small curves in a terminal, all columns over time as a picture."""

import datetime
import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from elman.series.cleaning.findings import ColumnFacts, DataReport, Finding, moment
from elman.series.panel import Panel
from elman.training.progress import printable

BLUE, GREY, BROWN, RED = "#1f6f8b", "#9db4c0", "#c08552", "#b5442c"

MOST_PLOTS = 20
"""Columns in a picture; more would be too small to see anything in."""

SLICES = 900
"""Parts of the time in a picture, about one for each of its pixels: ten million rows are drawn as fast as ten thousand."""

DOTS = 4000
"""Values of a direction in a picture: enough to see where the wind comes from, few enough to see them apart."""

_BLOCKS, _PLAIN_BLOCKS = "▁▂▃▄▅▆▇█", "_.-~=+*#"
_MARKS = {"note": ("·", "dim"), "repaired": ("+", "cyan"), "problem": ("!", "bold yellow")}


def print_report(report: DataReport, console: Console) -> None:
    """The whole report in words: what the table is, when it was measured, each column, and what is done about what was found."""
    wide = console.width >= 100
    blocks = _BLOCKS if console.encoding.lower().startswith("utf") else _PLAIN_BLOCKS
    series = f" in {report.series:,} series" if report.series > 1 else ""
    head = Text(printable(report.source), style="bold")
    head.append(f": {report.rows:,} rows{series}, one every {report.step}", style="not bold")
    console.print(head, soft_wrap=False)
    console.print(_when(report), soft_wrap=False)
    console.print(_coverage(report, blocks), soft_wrap=False)
    console.print()
    console.print(_columns(report, blocks, wide=wide), soft_wrap=False)
    # What a person must look at comes first, what is only good to know last.
    for severity in ("problem", "repaired", "note"):
        for finding in report.findings:
            if finding.severity == severity:
                console.print(_in_words(finding), soft_wrap=False)
    for note in report.notes:
        console.print(_marked(printable(note), "note"), soft_wrap=False)
    if not report.findings:
        console.print(Text("nothing needs repair", style="cyan"))


def data_figure(report: DataReport, panel: Panel) -> Any:
    """All columns over time as a Matplotlib figure, at most 20 of them.

    The line is the mean of each part of the time, the band reaches from its smallest to its largest value (over all series);
    directions, which have no such mean, are dots. What no row covers is marked red across the plots, sentinels and impossible
    values are marked at the foot.
    """
    from matplotlib.figure import Figure

    names = panel.columns[:MOST_PLOTS]
    across = 1 if len(names) <= 4 else 2
    down = math.ceil(len(names) / across)
    figure = Figure(figsize=(11, 1.0 + 1.25 * down), layout="constrained")
    all_axes = figure.subplots(down, across, sharex=True, squeeze=False)
    edges = np.linspace(report.first, report.last + 1, min(SLICES, max(2, int(np.diff(panel.offsets).max()))) + 1)
    parts = np.empty(panel.row_count, np.int32)
    for start in range(0, panel.row_count, 1_000_000):
        # In pieces, as whole columns of 64-bit numbers would weigh as much as the values.
        piece = panel.times[start : start + 1_000_000].astype(float)
        parts[start : start + 1_000_000] = np.clip((piece - edges[0]) / (edges[1] - edges[0]), 0, len(edges) - 2)
    empty = _empty_stretches(panel, parts, edges)
    for index, axes in enumerate(all_axes.T.flat):
        if index >= len(names):
            axes.axis("off")
            continue
        _draw_column(axes, panel, names[index], parts, edges, empty, report)
    for column in all_axes.T:
        shown = [axes for axes in column if axes.axison]
        shown[-1].xaxis.set_tick_params(labelbottom=True)
    title = f"{report.source}: {report.rows:,} rows, one every {report.step}"
    if len(panel.columns) > len(names):
        title += f" (the first {len(names)} of {len(panel.columns)} columns)"
    figure.suptitle(title.replace("$", r"\$"), fontsize=11, x=0.01, ha="left")
    handles = _legend(empty, report, names)
    if handles:
        figure.legend(handles=handles, loc="outside upper right", ncols=2, frameon=False, fontsize=8)
    return figure


def sparkline(values: Sequence[float | None], width: int, blocks: str = _BLOCKS) -> str:
    """A curve of `width` letters, a blank where nothing was measured.

    >>> sparkline([0, 1, None, 7], 4)
    '▁▂ █'
    """
    bounds = [len(values) * number // width for number in range(width + 1)]
    groups = [values[start : max(start + 1, end)] for start, end in itertools.pairwise(bounds)]
    means = []
    for group in groups:
        there = [value for value in group if value is not None]
        means.append(sum(there) / len(there) if there else None)
    known = [value for value in means if value is not None]
    if not known:
        return " " * width
    low, high = min(known), max(known)
    scale = (len(blocks) - 1) / (high - low) if high > low else 0.0
    return "".join(" " if value is None else blocks[round((value - low) * scale)] for value in means)


def _when(report: DataReport) -> Text:
    zone = f"times in UTC, calendar of {report.time_zone}" if report.time_zone else "time zone unknown"
    text = Text(f"{moment(report.first)} to {moment(report.last)}, {_span(report.span)}")
    text.append(f"  ({zone}, written as {printable(report.time_format)})", style="dim")
    return text


def _span(span: datetime.timedelta) -> str:
    days = span.total_seconds() / 86400
    for size, unit in ((365.2425, "years"), (1.0, "days"), (1 / 24, "hours"), (1 / 1440, "minutes")):
        if days >= 2 * size:
            return f"{days / size:.1f} {unit}"
    return f"{span.total_seconds():.0f} seconds"


def _coverage(report: DataReport, blocks: str) -> Text:
    text = Text("rows there  ")
    for share in report.coverage:
        if share is None:
            text.append(" ")
        elif share >= 0.995:
            text.append(blocks[-1], style=BLUE)
        else:
            text.append(blocks[min(len(blocks) - 2, int(share * len(blocks)))], style=RED)
    missing = sum(finding.count for finding in report.of_kind("gaps"))
    there = 1 - report.missing_rows / report.grid_rows if report.grid_rows else 1.0
    gaps = f", {missing:,} gap{'s' if missing > 1 else ''}" if missing else ", no gaps"
    text.append(f"  {math.floor(there * 1000) / 10:g} %{gaps}")
    return text


def _columns(report: DataReport, blocks: str, *, wide: bool) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1), header_style="dim")
    table.add_column("column", max_width=36 if wide else 18, overflow="ellipsis", no_wrap=True)
    table.add_column("over time", no_wrap=True)
    for title in ("smallest", "mean", "largest", "missing"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("", style="dim", no_wrap=True, overflow="ellipsis")
    width = 30 if wide else 12
    for facts in report.columns:
        numbers = [_short(value) for value in (facts.smallest, facts.mean, facts.largest)]
        missing = f"{facts.missing:,}" if facts.missing else ""
        curve = Text(sparkline(facts.profile, width, blocks) if facts.profile else "", style=BLUE)
        table.add_row(Text(printable(facts.name)), curve, *numbers, missing, _remark(facts))
    return table


def _remark(facts: ColumnFacts) -> str:
    if facts.kind == "text":
        return "text"
    if not facts.used:
        return "not used"
    return facts.kind if facts.kind == "direction" else ""


def _short(value: float | None) -> str:
    if value is None:
        return ""
    if value and not 1e-3 <= abs(value) < 1e6:
        return f"{value:.2e}"
    return f"{value:.0f}" if abs(value) >= 1e4 else f"{value:.4g}"


def _in_words(finding: Finding) -> Table:
    words = printable(finding.sentence)
    # The first row is named in the sentence already where it is what the finding is about.
    if finding.column is not None and finding.spots:
        more = f" and {finding.count - 1:,} more" if finding.kind != "stuck" and finding.count > 1 else ""
        words += f" ({printable(finding.spots[0].place)}, {moment(finding.spots[0].time)}{more})"
    return _marked(words, finding.severity)


def _marked(words: str, severity: str) -> Table:
    """The words beside a mark, later lines under the first."""
    mark, style = _MARKS[severity]
    grid = Table.grid(padding=(0, 1))
    grid.add_column(width=1)
    grid.add_column(overflow="fold")
    grid.add_row(Text(mark, style=style), Text(words, style="dim" if severity == "note" else ""))
    return grid


def _empty_stretches(panel: Panel, parts: np.ndarray, edges: np.ndarray) -> list[tuple[float, float]]:
    """Stretches of the picture without a row in at least half of their places, in days since 1970."""
    observed = np.bincount(parts[panel.observed], minlength=len(edges) - 1)
    places = np.bincount(parts, minlength=len(edges) - 1)
    bare = (places > 0) & (observed * 2 <= places)
    bounds = np.flatnonzero(np.diff(np.concatenate([[False], bare, [False]]).astype(np.int8)))
    return [(_days(edges[a]), _days(edges[b])) for a, b in zip(bounds[::2], bounds[1::2], strict=True)]


def _draw_column(
    axes: Any,
    panel: Panel,
    name: str,
    parts: np.ndarray,
    edges: np.ndarray,
    empty: list[tuple[float, float]],
    report: DataReport,
) -> None:
    values = panel.column(name)
    middle = _days((edges[1:] + edges[:-1]) / 2)
    for start, end in empty:
        axes.axvspan(start, end, color=RED, alpha=0.22, linewidth=0)
    if report.column(name).kind == "direction":
        drawn = np.unique(np.linspace(0, len(values) - 1, min(len(values), DOTS)).astype(int))
        axes.plot(_days(panel.times[drawn]), values[drawn], ".", color=BLUE, markersize=1.5, markeredgewidth=0)
    else:
        low, mean, high = _envelope(values, parts, len(edges) - 1)
        axes.fill_between(middle, low, high, color=GREY, alpha=0.55, linewidth=0)
        axes.plot(middle, mean, color=BLUE, linewidth=0.9)
    marked = [time for finding in report.findings if _is_odd(finding, name) for time in finding.moments]
    if marked:
        axes.plot(
            _days(np.asarray(marked, float)), [0.03] * len(marked), "^", color=BROWN, markersize=5, clip_on=False,
            transform=axes.get_xaxis_transform(),
        )  # fmt: skip
    axes.set_title(name.replace("$", r"\$"), fontsize=8, loc="left", pad=2)
    axes.tick_params(labelsize=7, length=2)
    axes.locator_params(axis="y", nbins=4)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
    axes.margins(x=0)
    _date_axis(axes)


def _date_axis(axes: Any) -> None:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    locator = AutoDateLocator(maxticks=8)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    axes.xaxis.get_offset_text().set_fontsize(7)


def _envelope(values: np.ndarray, parts: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Smallest, mean and largest value of each part, NaN where there is none."""
    low, high = np.full(count, np.inf, np.float32), np.full(count, -np.inf, np.float32)
    sums, counts = np.zeros(count), np.zeros(count)
    for start in range(0, len(values), 1_000_000):
        piece = values[start : start + 1_000_000]
        there = ~np.isnan(piece)
        piece, part = piece[there], parts[start : start + 1_000_000][there]
        np.minimum.at(low, part, piece)
        np.maximum.at(high, part, piece)
        sums += np.bincount(part, piece, count)
        counts += np.bincount(part, minlength=count)
    none = counts == 0
    low[none] = high[none] = np.nan
    return low, np.where(none, np.nan, sums / np.maximum(counts, 1)), high


def _is_odd(finding: Finding, column: str) -> bool:
    return finding.column == column and finding.kind in ("sentinels", "impossible")


def _days(times: Any) -> Any:
    """Matplotlib counts days since 1970."""
    return times / 86_400_000_000


def _legend(empty: list[tuple[float, float]], report: DataReport, names: Sequence[str]) -> list[Any]:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = []
    if empty:
        handles.append(Patch(color=RED, alpha=0.22, linewidth=0, label="no rows"))
    if any(_is_odd(finding, name) for finding in report.findings for name in names):
        handles.append(
            Line2D([], [], marker="^", linestyle="", color=BROWN, label="no measurement (sentinel, impossible)")
        )
    return handles

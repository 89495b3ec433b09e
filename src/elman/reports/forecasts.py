"""Pictures of forecasts as Matplotlib figures, and the table of scores, from the plain values of a run's `evaluation.json`.

A *fan* is a forecast with the history before it; *slices* are stretches of the past with what had been forecast for them; errors
are shown by horizon, hour and month. The network has one color, what really came is ink, baselines are brown, in every picture.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from elman.reports.curves import nice_ticks
from elman.reports.drawing import (
    column,
    fan_title,
    middle_of,
    moment_of,
    number,
    numbers,
    seconds_of,
    share_of,
    shown_bands,
    time_ticks,
    unit_words,
)

METRICS = ("mae", "rmse", "mase", "pinball", "crps", "coverage", "width", "skill")
"""The columns of the table of scores, in their order."""

_TINTS = ("#d5e3e8", "#a9c7d1", "#79a9b8")
NETWORK, TRUTH, BASELINE, OTHERS = "#14657f", "#20252b", "#a8602b", "#b9b2a6"


def fan_figure(fan: dict[str, Any], *, target: str, unit: str = "") -> Any:
    """The history, and behind it the forecast: nested bands, the median, and what really came as dots (a Matplotlib figure).

    fan: `series`, `origin`, `history` (`times`, `values`), `times`, `levels`, `quantiles` (a row for each time), `actual` or None.

        >>> moments = [f"2016-03-01T{hour:02}:00:00" for hour in range(4)]
        >>> fan = {"series": "", "origin": moments[1], "history": {"times": moments[:2], "values": [1.0, 2.0]},
        ...        "times": moments[2:], "levels": [0.1, 0.5, 0.9], "quantiles": [[1, 2, 3], [1, 3, 5]], "actual": None}
        >>> len(fan_figure(fan, target="T (degC)", unit="degC").axes)
        1
    """
    figure, axes = _figure(8.0, 3.6)
    history = fan["history"]
    axes.plot(_moments(history["times"]), numbers(history["values"]), color=TRUTH, linewidth=1.3, label="measured")
    _draw_bands(axes, fan["times"], fan["quantiles"], fan["levels"])
    if fan.get("actual") is not None:
        axes.plot(
            _moments(fan["times"]),
            numbers(fan["actual"]),
            "o",
            color=TRUTH,
            markersize=3.5,
            label="what came",
            zorder=5,
        )
    origin = moment_of(seconds_of(fan["origin"]))
    axes.axvline(origin, color="#8b8f94", linewidth=0.9, linestyle=(0, (2, 2)))
    _finish(axes, target, unit)
    _time_axis(axes, [*history["times"], *fan["times"]])
    axes.set_title(_title(fan.get("series"), fan_title(fan)), loc="left", fontsize=10)
    return figure


def slices_figure(slices: Sequence[dict[str, Any]], *, target: str = "", unit: str = "") -> Any:
    """What had been forecast for stretches of the past against what came, the best baseline as a thin line (a Matplotlib figure).

    slices: each with `series`, `times`, `actual`, `levels`, `quantiles`, and `baseline` (`name`, `values`) or None.
    """
    figure, rows = _figure(8.0, 0.4 + 2.1 * max(1, len(slices)), max(1, len(slices)))
    for index, (axes, part) in enumerate(zip(rows if len(slices) > 1 else [rows], slices, strict=False)):
        moments = _moments(part["times"])
        _draw_bands(axes, part["times"], part["quantiles"], part["levels"], most=1)
        baseline = part.get("baseline")
        if baseline:
            axes.plot(moments, numbers(baseline["values"]), color=BASELINE, linewidth=0.9, label=baseline["name"])
        axes.plot(moments, numbers(part["actual"]), color=TRUTH, linewidth=1.2, label="what came", zorder=5)
        _finish(axes, target, unit, legend=index == 0)
        _time_axis(axes, part["times"])
        axes.set_title(_title(part.get("series"), stretch_of(part["times"])), loc="left", fontsize=10)
    return figure


def error_figure(evaluation: dict[str, Any]) -> Any:
    """The mean absolute error by horizon (where there are several), by hour and by month (a Matplotlib figure of 1 to 3 panels)."""
    panels = error_panels(evaluation)
    figure, rows = _figure(3.4 * max(1, len(panels)) + 0.4, 3.0, columns=max(1, len(panels)))
    for axes, panel in zip(rows if len(panels) > 1 else [rows], panels, strict=False):
        for line in panel.lines:
            style = {"ours": (NETWORK, 2.0), "best": (BASELINE, 1.5), "other": (OTHERS, 1.0)}[line.kind]
            marker = "o" if len(panel.places) <= 12 else None
            axes.plot(panel.places, line.values, marker=marker, ms=3, color=style[0], lw=style[1], label=line.name)
        axes.set_title(panel.title, loc="left", fontsize=10)
        axes.set_xticks([place for place, _ in panel.ticks], [label for _, label in panel.ticks])
        _finish(axes, f"mean absolute error, {unit_words(evaluation.get('unit') or '')}".rstrip(", "), "", legend=False)
    if panels:
        handles, labels = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    return figure


@dataclass(frozen=True)
class Line:
    """The error of one method along a panel. kind: "ours", "best" (of the baselines) or "other"."""

    name: str
    kind: str
    values: list[float]


@dataclass(frozen=True)
class Panel:
    """Errors along one quantity. places: where each value stands; ticks: (place, label)."""

    title: str
    places: list[float]
    ticks: list[tuple[float, str]]
    lines: list[Line]


_MONTHS = "JFMAMJJASOND"


def _without_holes(places: list[float], values: Sequence[Any]) -> list[float]:
    """A value for every whole number from the first place to the last, NaN where there is none."""
    known = dict(zip(places, numbers(values), strict=False))
    return [known.get(place, math.nan) for place in _whole(places)]


def _whole(places: list[float]) -> list[float]:
    return [float(place) for place in range(int(min(places)), int(max(places)) + 1)]


def error_panels(evaluation: dict[str, Any]) -> list[Panel]:
    """What the figures of errors show, as plain values; a panel without two places is left out."""
    panels = []
    for key, axis, title in (
        ("by_horizon", "rows", "rows ahead"),
        ("by_hour", "hours", "hour of the day"),
        ("by_month", "months", "month"),
    ):
        found = evaluation.get(key)
        if not isinstance(found, dict) or len(found.get(axis, ())) < 2:
            continue
        places = _whole(numbers(found[axis]))
        errors = {name: _without_holes(numbers(found[axis]), values) for name, values in found.get("mae", {}).items()}
        if key == "by_horizon":
            ticks = [(place, f"{place:g}") for place in nice_ticks(places[0], places[-1], 5)]
        elif key == "by_hour":
            ticks = [(hour, f"{hour:g}") for hour in places if hour % 6 == 0]
        else:
            ticks = [(month, _MONTHS[int(month) - 1]) for month in places]
        panels.append(Panel(title, places, ticks, _lines(evaluation, errors)))
    return panels


def _lines(evaluation: dict[str, Any], errors: dict[str, list[float]]) -> list[Line]:
    """The network last, so that it is drawn over the others; the best baseline just before it."""
    best = best_baseline(evaluation)
    known = set(_baselines(evaluation, "test"))
    lines = []
    for name, values in errors.items():
        kind = "best" if name == best else "other" if name in known else "ours"
        lines.append(Line("this network" if kind == "ours" else name, kind, values))
    return sorted(lines, key=lambda line: ("other", "best", "ours").index(line.kind))


def best_baseline(evaluation: dict[str, Any]) -> str:
    """The baseline that the evaluation calls the best, or the one of the smallest error; empty where there is none."""
    named = (evaluation.get("test") or {}).get("best_baseline")
    if isinstance(named, str):
        return named
    errors = {name: number(values.get("mae")) for name, values in _baselines(evaluation, "test").items()}
    finite = {name: error for name, error in errors.items() if math.isfinite(error)}
    return min(finite, key=lambda name: finite[name], default="")


def _baselines(evaluation: dict[str, Any], part: str) -> dict[str, dict[str, Any]]:
    return (evaluation.get(part) or {}).get("baselines") or {}


@dataclass(frozen=True)
class Score:
    """A row of the table of scores. kind: "ours", "best" (of the baselines) or "other"; figures by name, NaN where unknown."""

    name: str
    kind: str
    validation: dict[str, float] = field(default_factory=dict)
    test: dict[str, float] = field(default_factory=dict)


def score_table(evaluation: dict[str, Any]) -> list[Score]:
    """The network and every baseline with their figures on both parts, the network first, then by error on the test part.

    >>> facts = {"mae": 2.0, "baselines": {"persistence": {"mae": 2.6}, "climatology": {"mae": 2.4}}}
    >>> [(row.name, row.kind, row.test["mae"]) for row in score_table({"test": facts})]
    [('this network', 'ours', 2.0), ('climatology', 'best', 2.4), ('persistence', 'other', 2.6)]
    """
    if not evaluation.get("test") and not evaluation.get("validation"):
        return []
    best = best_baseline(evaluation)
    rows = []
    for name in {**_baselines(evaluation, "test"), **_baselines(evaluation, "validation")}:
        values = [_figures(_baselines(evaluation, part).get(name)) for part in ("validation", "test")]
        rows.append(Score(name, "best" if name == best else "other", *values))

    def order(row: Score) -> list[float]:
        return [error if math.isfinite(error) else math.inf for error in (row.test["mae"], row.validation["mae"])]

    ours = Score("this network", "ours", *(_figures(evaluation.get(part)) for part in ("validation", "test")))
    return [ours, *sorted(rows, key=order)]


def _figures(values: dict[str, Any] | None) -> dict[str, float]:
    return {metric: number((values or {}).get(metric)) for metric in METRICS}


def shown_figure(metric: str, value: float) -> str:
    """A figure as people read it: coverage and skill in percent, a dash for what is not known.

    >>> shown_figure("mae", 2.3456), shown_figure("coverage", 0.8991), shown_figure("skill", -0.02), shown_figure("mae", math.nan)
    ('2.346', '89.9 %', '-2.0 %', '–')
    """
    if not math.isfinite(value):
        return "–"
    if metric == "coverage":
        return f"{100 * value:.1f} %"
    if metric == "skill":
        return f"{100 * value:+.1f} %"
    return f"{value:.3f}" if abs(value) < 100 else f"{value:.5g}"


def shown_metrics(rows: Sequence[Score]) -> list[tuple[str, str]]:
    """(part, metric) of each column of the table: validation's error, then what the test part knows."""
    columns = [("validation", "mae"), *(("test", metric) for metric in METRICS)]
    return [
        (part, metric) for part, metric in columns if any(math.isfinite(getattr(row, part)[metric]) for row in rows)
    ]


def print_scores(evaluation: dict[str, Any], console: Console) -> None:
    """The table of scores in the terminal; nothing where nothing is scored."""
    rows = score_table(evaluation)
    if not rows:
        return
    columns = shown_metrics(rows)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False, pad_edge=False)
    table.add_column("", no_wrap=False, overflow="fold")
    for part, metric in columns:
        heading = {
            "mae": "MAE",
            "rmse": "RMSE",
            "mase": "MASE",
            "crps": "CRPS",
            "coverage": "cover",
            "pinball": "pinb.",
        }.get(metric, metric)
        table.add_column(
            f"{heading}\nvalid." if part == "validation" else f"{heading}\n", justify="right", no_wrap=True
        )
    for row in rows:
        cells = [shown_figure(metric, getattr(row, part)[metric]).replace(" %", "%") for part, metric in columns]
        style = {"ours": "bold cyan", "best": "yellow", "other": ""}[row.kind]
        table.add_row(Text(row.name), *cells, style=style)
    console.print(table)


def _figure(width: float, height: float, rows: int = 1, columns: int = 1) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", dpi=150)
    return figure, figure.subplots(rows, columns)


def _moments(times: Sequence[str]) -> list[Any]:
    return [moment_of(seconds_of(time)) for time in times]


def _draw_bands(
    axes: Any, times: Sequence[str], quantiles: Sequence[Sequence[Any]], levels: Sequence[float], most: int = 3
) -> None:
    moments = _moments(times)
    for number_of_band, band in enumerate(shown_bands(levels)[:most]):
        low, high = column(quantiles, band[0]), column(quantiles, band[1])
        label, tint = f"{share_of(levels, band)} interval", _TINTS[number_of_band]
        if len(moments) == 1:
            axes.plot(
                moments * 2,
                [low[0], high[0]],
                color=NETWORK,
                alpha=0.22,
                linewidth=9,
                solid_capstyle="butt",
                label=label,
            )
        else:
            axes.fill_between(moments, low, high, color=tint, linewidth=0, label=label)
    median = column(quantiles, middle_of(levels))
    axes.plot(
        moments, median, "D" if len(moments) == 1 else "-", color=NETWORK, linewidth=1.8, label="forecast", zorder=4
    )


def _finish(axes: Any, label: str, unit: str, *, legend: bool = True) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#ebe8e1", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=8)
    # A unit stands in most targets' names already.
    axes.set_ylabel(label if not unit or unit in label else f"{label}, {unit_words(unit)}", fontsize=9)
    if legend:
        axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0), borderaxespad=0)


def _time_axis(axes: Any, times: Sequence[str]) -> None:
    seconds = [seconds_of(time) for time in times]
    if seconds:
        ticks = time_ticks(min(seconds), max(seconds), 8)
        axes.set_xticks([moment_of(place) for place, _ in ticks], [label for _, label in ticks])


def _title(series: Any, words: str) -> str:
    return f"{series}: {words}" if series else words


def stretch_of(times: Sequence[str]) -> str:
    """The days from the first to the last time, for a title.

    >>> stretch_of(["2016-03-03T14:00:00", "2016-03-09T13:00:00"])
    '3 March to 9 March 2016'
    """
    if not times:
        return "no rows"
    first, last = moment_of(seconds_of(times[0])), moment_of(seconds_of(times[-1]))
    year = "" if first.year == last.year else f" {first.year}"
    return f"{first.day} {first:%B}{year} to {last.day} {last:%B %Y}"

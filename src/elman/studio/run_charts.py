"""What the charts of the page Runs show, as ECharts' options: plain values, in the studio's colors."""

import math
from typing import Any

from elman.studio.runs_index import WatchedRun
from elman.studio.texts import Translate

# ECharts draws on a canvas, which knows no CSS variables: these are readable on light and on dark paper.
TRAINING, VALIDATION, SOFT = "#7d97a5", "#1f8cab", "#8a949d"
BASELINES = {"ngram": "#c07a45", "unigram": "#b09a2c"}
PALETTE = ("#1f8cab", "#c07a45", "#6a9a3b", "#b4556e", "#7a6bb5", "#b09a2c", "#3f9e8f", "#9a6a4b")


def _axes(scale: str) -> dict[str, Any]:
    label = {"color": SOFT}
    split = {"lineStyle": {"color": SOFT, "opacity": 0.25}}
    return {
        "animation": False,
        "grid": {"left": 8, "right": 16, "top": 34, "bottom": 8, "containLabel": True},
        "xAxis": {
            "type": "log" if scale == "log" else "value",
            "max": "dataMax",
            "axisLabel": {**label, "hideOverlap": True, "showMaxLabel": False},
            "splitLine": {"show": False},
        },
        "yAxis": {"type": "value", "scale": True, "axisLabel": label, "splitLine": split},
        "tooltip": {"trigger": "axis", "renderMode": "richText", "confine": True},
    }


def loss_options(run: WatchedRun, t: Translate, scale: str) -> dict[str, Any]:
    """Training and validation against the baselines."""
    legend = {"top": 0, "textStyle": {"color": SOFT}, "type": "scroll"}
    return {**_axes(scale), "legend": legend, "series": loss_series(run, t, scale)}


def loss_series(run: WatchedRun, t: Translate, scale: str) -> list[dict[str, Any]]:
    """The curves of `loss_options`; a series run's validation is in another unit and gets no place beside its loss."""
    curve = run.loss_curve(scale)
    series = [_line("training", t("runs.training_curve"), curve, TRAINING, width=1.5)]
    if run.kind != "series":
        points = [[iteration, nats] for iteration, nats in run.validations if math.isfinite(nats)]
        series.append(
            {**_line("validation", t("runs.validation_curve"), points, VALIDATION, width=2.5), "showSymbol": True}
        )
        series += _baselines(run, t, curve[-1][0] if curve else 1)
    return series


def _baselines(run: WatchedRun, t: Translate, last: float) -> list[dict[str, Any]]:
    found = run.start.get("baselines")
    if not isinstance(found, dict):
        return []
    lines = []
    for name, color in BASELINES.items():
        nats = found.get(name)
        if isinstance(nats, int | float) and math.isfinite(nats):
            label = t(f"runs.{name}", order=found.get("ngram_order", "n")) if name == "ngram" else t(f"runs.{name}")
            line = _line(name, label, [[1, nats], [last, nats]], color, width=1.5)
            lines.append({**line, "lineStyle": {"color": color, "type": "dashed", "width": 1.5}})
    return lines


def block_options(run: WatchedRun, curve: str, scale: str) -> dict[str, Any]:
    """Learning rate, gradient norm or speed."""
    line = _line(curve, curve.replace("_", " "), run.block_curve(curve, scale), VALIDATION, width=1.5)
    grid = {"left": 8, "right": 12, "top": 10, "bottom": 4, "containLabel": True}
    return {**_axes(scale), "grid": grid, "series": [line]}


def compare_options(runs: list[WatchedRun], t: Translate) -> dict[str, Any]:
    """The losses of several runs; dots where they were validated."""
    series = []
    for number, run in enumerate(runs):
        color = PALETTE[number % len(PALETTE)]
        series.append({**_line(run.name, run.name, run.loss_curve(points=300), color, width=1.5), "z": 1})
        points = [list(pair) for pair in run.validations] if run.kind != "series" else []
        name = f"{run.name} · {t('runs.validation_curve')}"
        dots = {
            "id": name,
            "name": name,
            "type": "scatter",
            "symbolSize": 8,
            "data": points,
            "itemStyle": {"color": color},
        }
        series.append(dots)
    legend = {"top": 0, "textStyle": {"color": SOFT}, "type": "scroll"}
    return {**_axes("linear"), "legend": legend, "series": series}


def _line(identity: str, name: str, data: list, color: str, *, width: float) -> dict[str, Any]:
    style = {"color": color, "width": width}
    kind = {"id": identity, "name": name, "type": "line", "showSymbol": False, "sampling": "none"}
    return {**kind, "data": data, "lineStyle": style, "itemStyle": {"color": color}}


def sparkline(run: WatchedRun) -> str:
    """The loss as a small picture: an SVG of numbers only."""
    points = [(x, y) for x, y in run.loss_curve("log", 60) if x > 0]
    if len(points) < 2:
        return '<svg class="spark" viewBox="0 0 120 30" aria-hidden="true"></svg>'
    xs, ys = [math.log(x) for x, _ in points], [y for _, y in points]
    width, height = (xs[-1] - xs[0]) or 1.0, (max(ys) - min(ys)) or 1.0
    pairs = [
        f"{118 * (x - xs[0]) / width + 1:.1f} {28 - 26 * (y - min(ys)) / height:.1f}"
        for x, y in zip(xs, ys, strict=True)
    ]
    return f'<svg class="spark" viewBox="0 0 120 30" aria-hidden="true"><path d="M{"L".join(pairs)}"/></svg>'

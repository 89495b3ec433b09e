"""What the charts of the page Forecast show, as ECharts' options: fans, slices, errors along horizon, hour and month."""

import math
from typing import Any

from elman.reports.drawing import column, middle_of, share_of, shown_bands
from elman.reports.forecasts import Panel
from elman.studio.run_charts import PALETTE, SOFT, VALIDATION
from elman.studio.texts import Translate

TRUTH, HISTORY = "#c07a45", "#7d97a5"


def _time_axes() -> dict[str, Any]:
    label = {"color": SOFT, "hideOverlap": True}
    split = {"lineStyle": {"color": SOFT, "opacity": 0.25}}
    return {
        "animation": False,
        "useUTC": True,  # every browser shows the table's own clock: see `_points`
        "grid": {"left": 8, "right": 18, "top": 40, "bottom": 8, "containLabel": True},
        "legend": {"top": 0, "textStyle": {"color": SOFT}, "type": "scroll"},
        "tooltip": {"trigger": "axis", "renderMode": "richText", "confine": True},
        "xAxis": {"type": "time", "axisLabel": label, "splitLine": {"show": False}},
        "yAxis": {"type": "value", "scale": True, "axisLabel": {"color": SOFT}, "splitLine": split},
    }


def fan_options(fan: dict[str, Any], t: Translate) -> dict[str, Any]:
    """One forecast: its history, the bands of its quantiles, its middle, and what came."""
    history, times, levels = fan["history"], fan["times"], fan["levels"]
    series = [_line(t("forecast.measured"), _points(history["times"], history["values"]), HISTORY)]
    series += _bands(times, fan["quantiles"], levels, t)
    middle = column(fan["quantiles"], middle_of(levels))
    series.append(_line(t("forecast.median"), _points(times, middle), VALIDATION, 2.5))
    if fan["actual"] is not None:
        series.append(_line(t("forecast.truth"), _points(times, fan["actual"]), TRUTH, 1.8))
    return {**_time_axes(), "series": series}


def slice_options(piece: dict[str, Any], t: Translate) -> dict[str, Any]:
    """A stretch of forecasts, each made as far ahead, against what came and the best simple method."""
    times, levels = piece["times"], piece["levels"]
    series = _bands(times, piece["quantiles"], levels, t)
    middle = column(piece["quantiles"], middle_of(levels))
    series.append(_line(t("forecast.median"), _points(times, middle), VALIDATION, 2.2))
    series.append(_line(t("forecast.truth"), _points(times, piece["actual"]), TRUTH, 1.6))
    if piece.get("baseline"):
        baseline = piece["baseline"]
        series.append(
            {**_line(baseline["name"], _points(times, baseline["values"]), SOFT, 1.2), "lineStyle": {"type": "dashed"}}
        )
    return {**_time_axes(), "series": series}


def error_options(panel: Panel) -> dict[str, Any]:
    """Errors along one quantity: this network, the best simple method, the others in the background."""
    series = []
    for number, line in enumerate(panel.lines):
        color = {"ours": VALIDATION, "best": TRUTH}.get(line.kind, PALETTE[2 + number % (len(PALETTE) - 2)])
        points = [[place, _number(value)] for place, value in zip(panel.places, line.values, strict=True)]
        style = {
            "opacity": 1 if line.kind != "other" else 0.35,
            "width": 2.5 if line.kind == "ours" else 1.5,
            "color": color,
        }
        series.append({**_line(line.name, points, color), "lineStyle": style})
    options = _time_axes()
    options["xAxis"] = {**options["xAxis"], "type": "value", "min": "dataMin", "max": "dataMax"}
    return {**options, "series": series}


def _bands(times: list[str], quantiles: list, levels: list[float], t: Translate) -> list[dict[str, Any]]:
    """Each band as an invisible line and an area on top of it: ECharts has no other."""
    found: list[dict[str, Any]] = []
    for number, band in enumerate(shown_bands(levels)):
        low, high = column(quantiles, band[0]), column(quantiles, band[1])
        name = t("forecast.interval", share=share_of(levels, band))
        common = {
            "type": "line",
            "stack": f"band-{number}",
            "stackStrategy": "all",
            "showSymbol": len(times) == 1,
            "silent": True,
        }
        hidden = {"lineStyle": {"opacity": 0}, "itemStyle": {"opacity": 0}, "tooltip": {"show": False}}
        found.append({**common, **hidden, "id": f"{name}-low", "data": _points(times, low)})
        width = [b - a for a, b in zip(low, high, strict=True)]
        area = {"color": VALIDATION, "opacity": 0.13 + 0.1 * number}
        shown = {
            "name": name,
            "id": name,
            "areaStyle": area,
            "itemStyle": {"color": VALIDATION},
            "tooltip": {"show": False},
        }
        found.append({**common, "lineStyle": {"opacity": 0}, **shown, "data": _points(times, width)})
    return found


def _line(name: str, data: list, color: str, width: float = 1.5) -> dict[str, Any]:
    style = {"lineStyle": {"color": color, "width": width}, "itemStyle": {"color": color}}
    return {
        "id": name,
        "name": name,
        "type": "line",
        "showSymbol": len(data) == 1,
        "data": data,
        "connectNulls": False,
        **style,
    }


def _points(times: list[str], values: Any) -> list[list]:
    """Times are those of the table's clock; called UTC, no browser moves them, and no hour is missing where its own clock jumps."""
    return [[f"{time}Z", _number(value)] for time, value in zip(times, values, strict=True)]


def _number(value: Any) -> float | None:
    """What JSON can hold; ECharts leaves a gap for None."""
    return float(f"{value:.6g}") if isinstance(value, int | float) and math.isfinite(value) else None

"""The pictures of forecasts on the page of a run, drawn as SVG in the page's own colors, once for a wide and once for a narrow one.

Nothing moves and nothing is fetched: what a picture says, it says without a script, on paper, in the dark and on a phone.
"""

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from elman.reports.curves import nice_ticks, spread
from elman.reports.drawing import (
    column,
    limits,
    middle_of,
    number,
    numbers,
    pieces,
    seconds_of,
    share_of,
    shown_bands,
    time_ticks,
)
from elman.reports.forecasts import Panel


@dataclass(frozen=True)
class _Frame:
    """A plot's place on its picture, in pixels, and the numbers at its edges."""

    width: int
    height: int
    left: int
    right: int
    top: int
    bottom: int
    first: float
    last: float
    low: float
    high: float

    def x(self, place: float) -> float:
        return self.left + (self.right - self.left) * (place - self.first) / ((self.last - self.first) or 1.0)

    def y(self, value: float) -> float:
        return self.bottom - (self.bottom - self.top) * (value - self.low) / (self.high - self.low)


def fan_svg(fan: dict[str, Any], label: str) -> str:
    """The history and the fan behind it; for the keys see `elman.reports.forecasts.fan_figure`."""
    return _both(lambda narrow: _fan(fan, label, narrow))


def slice_svg(part: dict[str, Any], label: str) -> str:
    """What had been forecast against what came; for the keys see `elman.reports.forecasts.slices_figure`."""
    return _both(lambda narrow: _slice(part, label, narrow))


def panel_svg(panel: Panel, label: str) -> str:
    """Errors along one quantity, the names of network and best baseline at the right edge."""
    values = [value for line in panel.lines for value in line.values]
    low, high = limits(values, margin=0.08)
    frame = _Frame(380, 230, 34, 366, 30, 200, min(panel.places), max(panel.places), max(0.0, low), high)
    parts = [f'<text class="title" x="0" y="14">{html.escape(panel.title)}</text>', _levels(frame, 4)]
    parts += [_tick(frame, place, text) for place, text in panel.ticks]
    for line in panel.lines:
        parts.append(_line(frame, panel.places, line.values, f"error {line.kind}"))
        if len(panel.places) <= 12:
            parts.append(_dots(frame, panel.places, line.values, f"error {line.kind}", 2.4))
    return _svg(frame, "small", label, "".join(parts))


def validation_svg(
    pairs: Sequence[tuple[int, float]], label: str, name: str, references: Sequence[tuple[str, float]] = ()
) -> str:
    """The validation score over the updates; references: (name, score) of the methods it is compared with."""

    def draw(narrow: bool) -> str:
        low, high = limits([value for _, value in pairs], [value for _, value in references])
        size = (380, 230, 38, 290, 12, 198) if narrow else (760, 280, 48, 610, 14, 244)
        frame = _Frame(*size, 0, max(1, pairs[-1][0]), low, high)
        places, values = [float(at) for at, _ in pairs], [value for _, value in pairs]
        ticks = nice_ticks(0, frame.last, 3 if narrow else 6)
        ends = [(value, f"{words} {value:.3g}", "baseline") for words, value in references]
        ends.append((values[-1], f"{name} {values[-1]:.3g}", "validation"))
        parts = [_levels(frame, 5), *(_tick(frame, tick, f"{tick:,.0f}") for tick in ticks)]
        for _, value in references:
            parts.append(_segment("baseline", frame.left, frame.y(value), frame.right, frame.y(value)))
        parts += [
            _line(frame, places, values, "validation"),
            _dots(frame, places, values, "validation", 3),
            _ends(frame, ends),
        ]
        return _svg(frame, "narrow" if narrow else "wide", label, "".join(parts))

    return _both(draw)


def coverage_svg(shares: Sequence[Any], marks: Sequence[tuple[float, str]], label: str) -> str:
    """A bar of the time the data spans: full where every row is there, empty in gaps. marks: (place from 0 to 1, kind) below it."""
    frame = _Frame(760, 40, 0, 760, 4, 26, 0.0, 1.0, 0.0, 1.0)
    width = 760 / max(1, len(shares))
    parts = ['<rect class="hole" x="0" y="4" width="760" height="22" rx="3"/>']
    for index, share in enumerate(numbers(shares)):
        if share > 0:
            # A hole of a hundredth would not be seen: what is not whole is at most nine tenths full.
            height = 22 * (1 if share > 0.9995 else min(share, 0.9))
            x, y = index * width, 26 - height
            parts.append(
                f'<rect class="whole" x="{x:.1f}" y="{y:.1f}" width="{width + 0.3:.1f}" height="{height:.1f}"/>'
            )
    parts += [
        f'<path class="flaw" d="M{frame.x(at):.1f} 28l4 9h-8z"><title>{html.escape(kind)}</title></path>'
        for at, kind in marks
    ]
    return _svg(frame, "coverage", label, "".join(parts))


def _fan(fan: dict[str, Any], label: str, narrow: bool) -> str:
    past, values = [seconds_of(time) for time in fan["history"]["times"]], numbers(fan["history"]["values"])
    times, origin = [seconds_of(time) for time in fan["times"]], seconds_of(fan["origin"])
    if narrow:  # the forecast needs the room more than the past does
        kept = max(24, 3 * len(times))
        past, values = past[-kept:], values[-kept:]
    levels, quantiles = fan["levels"], fan["quantiles"]
    actual = numbers(fan.get("actual"))
    low, high = limits(values, actual, *(column(quantiles, index) for index in (0, len(levels) - 1)))
    size = (380, 270, 34, 368, 12, 240) if narrow else (760, 340, 44, 748, 14, 308)
    frame = _Frame(*size, min([*past, origin, *times]), max([origin, *times]), low, high)
    middle = column(quantiles, middle_of(levels))
    parts = [_levels(frame, 5), _time_axis(frame, 4 if narrow else 8)]
    parts += [_band(frame, times, quantiles, band) for band in shown_bands(levels)]
    parts.append(_segment("origin", frame.x(origin), frame.top, frame.x(origin), frame.bottom))
    parts.append(_line(frame, past, values, "truth"))
    parts.append(_line(frame, times, middle, "median"))
    if len(times) == 1:
        parts.append(_dots(frame, times, middle, "median", 4.5))
    if actual:
        parts.append(_dots(frame, times, actual, "truth", 2.2 if narrow else 2.8))
    return _svg(frame, "narrow" if narrow else "wide", label, "".join(parts))


def _slice(part: dict[str, Any], label: str, narrow: bool) -> str:
    times, actual = [seconds_of(time) for time in part["times"]], numbers(part["actual"])
    levels, quantiles, baseline = part["levels"], part["quantiles"], part.get("baseline") or {}
    others = numbers(baseline.get("values"))
    low, high = limits(actual, others, *(column(quantiles, index) for index in (0, len(levels) - 1)))
    size = (380, 200, 34, 368, 10, 172) if narrow else (760, 220, 44, 748, 10, 190)
    frame = _Frame(*size, min(times), max(times), low, high)
    parts = [
        _levels(frame, 4),
        _time_axis(frame, 4 if narrow else 8),
        _band(frame, times, quantiles, (0, len(levels) - 1)),
    ]
    if others:
        parts.append(_line(frame, times, others, "rival"))
    parts.append(_line(frame, times, column(quantiles, middle_of(levels)), "median"))
    parts.append(_line(frame, times, actual, "truth"))
    return _svg(frame, "narrow" if narrow else "wide", label, "".join(parts))


def legend(*entries: tuple[str, str]) -> str:
    """What the lines and fills mean: (class, words) of each."""
    items = "".join(f'<li><i class="key {kind}"></i>{html.escape(words)}</li>' for kind, words in entries if words)
    return f'<ul class="legend">{items}</ul>'


def band_entries(levels: Sequence[float], count: int = 3) -> list[tuple[str, str]]:
    """Entries of the legend for the bands of a picture."""
    bands = shown_bands(levels)[:count]
    return [(f"band-{index}", f"{share_of(levels, band)} interval") for index, band in enumerate(bands, 1)]


def _both(draw: Any) -> str:
    return draw(False) + draw(True)


def _svg(frame: _Frame, kind: str, label: str, content: str) -> str:
    return (
        f'<svg class="plot {kind}" viewBox="0 0 {frame.width} {frame.height}" role="img" '
        f'aria-label="{html.escape(label)}">{content}</svg>'
    )


def _levels(frame: _Frame, count: int) -> str:
    parts = []
    for value in nice_ticks(frame.low, frame.high, count):
        y = frame.y(value)
        parts.append(_segment("grid", frame.left, y, frame.right, y))
        parts.append(f'<text x="{frame.left - 6}" y="{y + 4:.1f}" text-anchor="end">{value:.4g}</text>')
    parts.append(_segment("axis", frame.left, frame.bottom, frame.right, frame.bottom))
    return "".join(parts).replace("-0<", "0<")


def _time_axis(frame: _Frame, count: int) -> str:
    return "".join(_tick(frame, place, text) for place, text in time_ticks(frame.first, frame.last, count))


def _tick(frame: _Frame, place: float, text: str) -> str:
    x = frame.x(place)
    # A label would stick out of the picture if it were centered under its tick there.
    anchor = "end" if x > frame.right - 14 else "start" if x < frame.left + 8 else "middle"
    mark = _segment("axis", x, frame.bottom, x, frame.bottom + 4)
    return f'{mark}<text x="{x:.1f}" y="{frame.bottom + 18}" text-anchor="{anchor}">{html.escape(text)}</text>'


def _segment(kind: str, x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _line(frame: _Frame, places: Sequence[float], values: Sequence[float], kind: str) -> str:
    lines = []
    for piece in pieces(places, values):
        points = " ".join(f"{frame.x(x):.1f},{frame.y(y):.1f}" for x, y in piece)
        lines.append(f'<polyline class="{kind}" points="{points}"/>')
    return "".join(lines)


def _dots(frame: _Frame, places: Sequence[float], values: Sequence[float], kind: str, radius: float) -> str:
    return "".join(
        f'<circle class="{kind}" cx="{frame.x(x):.1f}" cy="{frame.y(y):.1f}" r="{radius}"/>'
        for x, y in zip(places, values, strict=True)
        if math.isfinite(y)
    )


def _band(frame: _Frame, times: Sequence[float], quantiles: Sequence[Sequence[Any]], band: tuple[int, int]) -> str:
    low, high = column(quantiles, band[0]), column(quantiles, band[1])
    shapes = []
    for piece in pieces(times, low, high):
        if len(piece) == 1:  # a single step has no width of its own
            x, bottom, top = frame.x(piece[0][0]), frame.y(piece[0][1]), frame.y(piece[0][2])
            shapes.append(f'<rect class="fan" x="{x - 5:.1f}" y="{top:.1f}" width="10" height="{bottom - top:.1f}"/>')
            continue
        upper = [f"{frame.x(x):.1f},{frame.y(y):.1f}" for x, _, y in piece]
        lower = [f"{frame.x(x):.1f},{frame.y(y):.1f}" for x, y, _ in reversed(piece)]
        shapes.append(f'<polygon class="fan" points="{" ".join([*upper, *lower])}"/>')
    return "".join(shapes)


def _ends(frame: _Frame, labels: Sequence[tuple[float, str, str]]) -> str:
    """Names at the right edge, each as near to its line as the others allow."""
    ordered = sorted(labels, key=lambda label: -label[0])
    heights = spread([frame.y(number(value)) for value, _, _ in ordered], frame.top, frame.bottom)
    parts = []
    for (value, text, kind), height in zip(ordered, heights, strict=True):
        leader = f"{frame.right},{frame.y(value):.1f} {frame.right + 6},{height:.1f}"
        name, _, figure = text.rpartition(" ")
        shown = f"{_cut(name, 18)} {figure}" if frame.width > 400 else _cut(name, 13)
        parts.append(f'<polyline class="leader" points="{leader}"/>')
        parts.append(f'<text class="{kind}" x="{frame.right + 9}" y="{height + 4:.1f}">{html.escape(shown)}</text>')
    return "".join(parts)


def _cut(name: str, length: int) -> str:
    return name if len(name) <= length else f"{name[: length - 1]}…"

"""The curves of a run, drawn as SVG: loss with validations and baselines, and small ones for rate and gradient.

Everything is drawn here, for both axes and both widths; the page's script only moves markers over it, so that a reader without it
loses nothing but the read-out.
"""

import html
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from elman.reports.timeline import History

MAX_POINTS = 600
LABEL_HEIGHT = 15


@dataclass(frozen=True)
class _Point:
    """Some updates in a row, as one point of a curve."""

    iteration: float
    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class _Frame:
    """A plot's place on its picture, in pixels, and the numbers at its edges. `scale`: the horizontal axis, "linear" or "log"."""

    width: int
    height: int
    left: int
    right: int
    top: int
    bottom: int
    last: int
    low: float
    high: float
    scale: str = "linear"

    def x(self, iteration: float) -> float:
        if self.scale == "log":
            share = math.log(max(1.0, iteration)) / math.log(max(2, self.last))
        else:
            share = iteration / self.last
        return self.left + (self.right - self.left) * min(1.0, share)

    def y(self, value: float) -> float:
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return self.bottom - (self.bottom - self.top) * share


def thin(history: History, count: int, scale: str) -> list[_Point]:
    """The training loss as at most `count` points, evenly spaced on the axis; each knows the smallest and largest loss in it."""
    return _thinned(np.asarray(history.iterations, float), np.asarray(history.losses, float), count, scale)


def _thinned(iterations: np.ndarray, values: np.ndarray, count: int, scale: str = "linear") -> list[_Point]:
    if len(values) == 0:
        return []
    size = len(values)
    edges = np.geomspace(1, size + 1, count + 1) - 1 if scale == "log" else np.linspace(0, size, count + 1)
    starts = np.unique(np.minimum(edges[:-1].astype(int), size - 1))
    widths = np.diff([*starts, size])
    columns = (
        np.add.reduceat(iterations, starts) / widths,
        np.add.reduceat(values, starts) / widths,
        np.minimum.reduceat(values, starts),
        np.maximum.reduceat(values, starts),
    )
    return [_Point(*map(float, row)) for row in zip(*columns, strict=True)]


def draw_curves(history: History) -> str:
    if not history.losses:
        return '<p class="soft">There is no update to draw yet.</p>'
    plots = "".join(
        _loss_plot(history, scale, narrow=narrow) for scale in ("linear", "log") for narrow in (False, True)
    )
    rates = _small_plot(history, "learning_rate", "learning rate")
    norms = _small_plot(history, "gradient_norm", "length of the gradient")
    choice = (
        '<div class="axis-choice small" role="group" aria-label="horizontal axis"><span class="soft">updates</span>'
        '<button type="button" value="linear" aria-pressed="true">evenly</button>'
        '<button type="button" value="log" aria-pressed="false">logarithmically</button></div>'
    )
    return (
        f'<div class="card">{choice}{plots}'
        '<p class="readout small soft" id="readout" aria-live="off"></p>'
        f'<p class="soft small">Loss in nats per {html.escape(unit_of(history))}: the mean of neighboring updates, and behind it '
        "the range from the smallest to the largest. The red ticks at the foot are samples.</p></div>"
        f'<div class="multiples">{rates}{norms}</div>'
    )


def _loss_plot(history: History, scale: str, *, narrow: bool) -> str:
    points = thin(history, 300 if narrow else MAX_POINTS, scale)
    baselines = baseline_rows(history)
    levels = [nats for _, _, nats in baselines]
    shown = [*levels, *(nats for _, nats in history.validations), *(point.mean for point in points)]
    # One update that went wrong must not press everything else flat: what is far above is cut off.
    ceiling = max([*levels, *(nats for _, nats in history.validations), float(np.percentile(history.losses, 99))])
    low, high = min(shown), min(max(shown), 1.1 * ceiling)
    margin = 0.06 * (high - low) or 0.1
    size = (380, 300, 34, 292, 12, 268) if narrow else (760, 360, 44, 632, 14, 324)
    frame = _Frame(*size, last=max(1, history.iteration), low=low - margin, high=high + margin, scale=scale)
    validations = every_nth(history.validations, 150)
    labels = [(nats, f"{short} {nats:.2f}", "baseline") for _, short, nats in baselines]
    if validations:
        labels.append((validations[-1][1], f"validation {validations[-1][1]:.2f}", "validation"))
    else:
        labels.append((points[-1].mean, f"training {points[-1].mean:.2f}", "training"))
    parts = [
        _grid(frame),
        _envelope(frame, points),
        *(_level(frame, nats) for nats in levels),
        _line(frame, ((point.iteration, point.mean) for point in points), "training"),
        _line(frame, validations, "validation") if len(validations) > 1 else "",
        *(
            f'<circle class="validation" cx="{frame.x(i):.1f}" cy="{frame.y(v):.1f}" r="3.4"/>'
            for i, v in every_nth(validations, 40)
        ),
        _labels(frame, labels),
        *(
            f'<line class="sampled" x1="{frame.x(m.iteration):.1f}" x2="{frame.x(m.iteration):.1f}" '
            f'y1="{frame.bottom - 6}" y2="{frame.bottom}"/>'
            for m in every_nth(history.moments, 100)
        ),
        f'<line class="hover" y1="{frame.top}" y2="{frame.bottom}"/>',
    ]
    kind = f"loss {'narrow' if narrow else 'wide'}"
    return _svg(frame, kind, "the loss over the updates", "".join(parts), hidden=scale == "log")


def _small_plot(history: History, name: str, title: str) -> str:
    pairs = [(block["iteration"], block[name]) for block in history.blocks if isinstance(block.get(name), int | float)]
    pairs = [pair for pair in pairs if math.isfinite(pair[1])]
    if not pairs:
        return ""
    iterations, values = np.asarray(pairs, float).T
    points = _thinned(iterations, values, 250)
    ceiling = min(float(values.max()), 1.6 * float(np.percentile(values, 97)) or float(values.max()))
    frame = _Frame(380, 170, 52, 368, 30, 140, max(1, history.iteration), 0.0, 1.08 * ceiling or 1.0)
    content = (
        f'<text class="title" x="0" y="14">{title}</text>{_grid(frame, 4)}'
        f"{_line(frame, ((point.iteration, point.mean) for point in points), 'training')}"
    )
    return f'<div class="card">{_svg(frame, "small", f"{title} over the updates", content)}</div>'


def _svg(frame: _Frame, kind: str, label: str, content: str, *, hidden: bool = False) -> str:
    return (
        f'<svg class="plot {kind}" viewBox="0 0 {frame.width} {frame.height}" role="img" aria-label="{label}"'
        f' data-scale="{frame.scale}" data-left="{frame.left}" data-right="{frame.right}" data-last="{frame.last}"'
        f'{" hidden" if hidden else ""}>{content}<line class="marker" y1="{frame.top}" y2="{frame.bottom}"/></svg>'
    )


def _grid(frame: _Frame, count: int = 5) -> str:
    parts = []
    for value in nice_ticks(frame.low, frame.high, count):
        y = frame.y(value)
        parts.append(f'<line class="grid" x1="{frame.left}" x2="{frame.right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{frame.left - 6}" y="{y + 4:.1f}" text-anchor="end">{value:.4g}</text>')
    ticks = _log_ticks(frame.last) if frame.scale == "log" else nice_ticks(0, frame.last, 5 if frame.width > 400 else 3)
    for value in ticks:
        x = frame.x(value)
        # The last number would stick out of the picture if it were centered under its tick.
        anchor = "end" if x > frame.right - 12 else "start" if x < frame.left + 4 else "middle"
        parts.append(f'<text x="{x:.1f}" y="{frame.bottom + 18}" text-anchor="{anchor}">{_short(value)}</text>')
    parts.append(f'<line class="axis" x1="{frame.left}" x2="{frame.right}" y1="{frame.bottom}" y2="{frame.bottom}"/>')
    return "".join(parts)


def nice_ticks(low: float, high: float, count: int) -> list[float]:
    """Round numbers from `low` to `high`, about `count` of them."""
    step = 10.0 ** math.floor(math.log10((high - low) / count))
    step = next(step * factor for factor in (1, 2, 5, 10) if (high - low) / (step * factor) <= count)
    first = math.ceil(low / step - 1e-9)
    return [index * step for index in range(first, math.floor(high / step + 1e-9) + 1)]


def _log_ticks(last: int) -> list[float]:
    return [float(10**power) for power in range(int(math.log10(last)) + 1)] if last > 0 else []


def _short(value: float) -> str:
    if value >= 1e6:
        return f"{value / 1e6:g}M"
    return f"{value / 1e3:g}k" if value >= 1e4 else f"{value:,.4g}" if value < 1 else f"{value:,.0f}"


def _line(frame: _Frame, pairs: Iterable[tuple[float, float]], kind: str) -> str:
    points = " ".join(f"{frame.x(iteration):.1f},{frame.y(value):.1f}" for iteration, value in pairs)
    return f'<polyline class="{kind}" points="{points}"/>'


def _envelope(frame: _Frame, points: Sequence[_Point]) -> str:
    if all(point.low == point.high for point in points):
        return ""
    upper = [f"{frame.x(point.iteration):.1f},{frame.y(point.high):.1f}" for point in points]
    lower = [f"{frame.x(point.iteration):.1f},{frame.y(point.low):.1f}" for point in reversed(points)]
    return f'<polygon class="band" points="{" ".join([*upper, *lower])}"/>'


def _level(frame: _Frame, value: float) -> str:
    y = frame.y(value)
    return f'<line class="baseline" x1="{frame.left}" x2="{frame.right}" y1="{y:.1f}" y2="{y:.1f}"/>'


def _labels(frame: _Frame, labels: Sequence[tuple[float, str, str]]) -> str:
    """Names at the right edge, each as near to its line as the others allow, with a thin line leading there."""
    ordered = sorted(labels, key=lambda label: -label[0])
    heights = spread([frame.y(value) for value, _, _ in ordered], frame.top, frame.bottom)
    parts = []
    for (value, text, kind), height in zip(ordered, heights, strict=True):
        leader = f"{frame.right},{frame.y(value):.1f} {frame.right + 6},{height:.1f}"
        parts.append(f'<polyline class="leader" points="{leader}"/>')
        shown = text if frame.width > 400 else text.rsplit(" ", 1)[0]
        parts.append(f'<text class="{kind}" x="{frame.right + 9}" y="{height + 4:.1f}">{html.escape(shown)}</text>')
    return "".join(parts)


def spread(wanted: Sequence[float], top: float, bottom: float) -> list[float]:
    """`wanted` (ascending) moved apart until neighbors are a line's height from each other, within `top` and `bottom`."""
    heights = list(wanted)
    for index in range(1, len(heights)):
        heights[index] = max(heights[index], heights[index - 1] + LABEL_HEIGHT)
    overhang = heights[-1] - bottom if heights else 0
    if overhang > 0:
        heights[-1] = bottom
        for index in range(len(heights) - 2, -1, -1):
            heights[index] = min(heights[index], heights[index + 1] - LABEL_HEIGHT)
    return heights


def unit_of(history: History) -> str:
    return str(history.description.get("text", {}).get("unit", "character"))


def baseline_rows(history: History) -> list[tuple[str, str, float]]:
    """(name in the bars, short name beside the curve, nats) of each baseline, in the order of what it knows."""
    found = history.baselines
    order = found.get("ngram_order")
    known = {
        "uniform": ("knowing nothing", "uniform"),
        "unigram": (f"{'letter' if unit_of(history) == 'character' else unit_of(history)} frequencies", "frequencies"),
        "ngram": (f"n-grams up to order {order}" if order else "n-grams", f"{order}-grams" if order else "n-grams"),
    }
    return [
        (*names, float(found[key]))
        for key, names in known.items()
        if isinstance(found.get(key), int | float) and math.isfinite(found[key])
    ]


def every_nth(values: Sequence[Any], count: int) -> list[Any]:
    """At most about `count` of `values`, the last one always among them."""
    step = -(-len(values) // count) or 1
    return list(values[::-1][::step][::-1])

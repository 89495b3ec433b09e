"""Small plots as SVG in the page's own colors: lines, bands and points that a click can tell apart.

All words are escaped; a point's `data-` attributes are numbers.
"""

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 14, 14, 46


@dataclass
class Plot:
    """A frame with two axes; what is drawn into it is kept as text until `svg`.

    x, y: the smallest and the largest value. log_y: a logarithmic axis. ticks_x: (place, label) instead of round numbers.
    """

    x: tuple[float, float]
    y: tuple[float, float]
    x_title: str
    y_title: str
    width: int = 640
    height: int = 380
    log_y: bool = False
    ticks_x: Sequence[tuple[float, str]] | None = None
    _marks: list[str] = field(default_factory=list)

    def to_x(self, value: float) -> float:
        """A value's place from the left."""
        low, high = self.x
        return _LEFT + (self.width - _LEFT - _RIGHT) * (value - low) / ((high - low) or 1.0)

    def to_y(self, value: float) -> float:
        """A value's place from the top, within the frame."""
        low, high = (math.log10(v) for v in self.y) if self.log_y else self.y
        value = math.log10(max(value, self.y[0])) if self.log_y else value
        share = min(max((value - low) / ((high - low) or 1.0), -0.02), 1.02)
        return self.height - _BOTTOM - (self.height - _BOTTOM - _TOP) * share

    def line(self, xs: Sequence[float], ys: Sequence[float], kind: str) -> None:
        """A line that is broken where a value is missing."""
        path, pen = [], "M"
        for x, y in zip(xs, ys, strict=True):
            if not math.isfinite(y):
                pen = "M"
                continue
            path.append(f"{pen}{self.to_x(x):.1f} {self.to_y(y):.1f}")
            pen = "L"
        self._marks.append(f'<path class="line {kind}" d="{" ".join(path)}"/>')

    def band(self, xs: Sequence[float], low: Sequence[float], high: Sequence[float], kind: str) -> None:
        """The area between two lines."""
        edge = [f"{self.to_x(x):.1f} {self.to_y(y):.1f}" for x, y in zip(xs, high, strict=True)]
        back = [f"{self.to_x(x):.1f} {self.to_y(y):.1f}" for x, y in zip(reversed(xs), reversed(low), strict=True)]
        self._marks.append(f'<path class="area {kind}" d="M{" L".join(edge + back)} Z"/>')

    def points(
        self,
        xs: Sequence[float],
        ys: Sequence[float],
        kind: str,
        *,
        radius: float = 4,
        titles: Sequence[str] = (),
        **data: Sequence[int],
    ) -> None:
        """Dots; titles are shown on hover, `data` are numbers by which a click knows them."""
        for index, (x, y) in enumerate(zip(xs, ys, strict=True)):
            known = "".join(f' data-{name}="{int(values[index])}"' for name, values in data.items())
            title = f"<title>{html.escape(titles[index])}</title>" if len(titles) else ""
            self._marks.append(
                f'<circle class="dot {kind}" cx="{self.to_x(x):.1f}" cy="{self.to_y(y):.1f}" r="{radius}"{known}>{title}</circle>'
            )

    def upright(self, x: float, kind: str, words: str = "") -> None:
        """A line from top to bottom with words at its top."""
        place = self.to_x(x)
        self._marks.append(f'<path class="line {kind}" d="M{place:.1f} {_TOP} V{self.height - _BOTTOM}"/>')
        if words:
            anchor, step = ("end", -5) if place > 0.6 * self.width else ("start", 5)
            self._marks.append(
                f'<text class="{kind}" x="{place + step:.1f}" y="{_TOP + 14}" text-anchor="{anchor}">{html.escape(words)}</text>'
            )

    def level(self, y: float, kind: str) -> None:
        """A line from left to right."""
        self._marks.append(f'<path class="line {kind}" d="M{_LEFT} {self.to_y(y):.1f} H{self.width - _RIGHT}"/>')

    def svg(self, title: str) -> str:
        """The whole picture. title: what a screen reader says of it; empty for a layer to be laid over another, without axes."""
        box = f'class="studio-plot" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}"'
        marks = "".join(self._marks)
        if not title:
            return f'<svg {box} aria-hidden="true">{marks}</svg>'
        edges = f'data-left="{_LEFT}" data-right="{self.width - _RIGHT}"'
        return f'<svg {box} {edges} role="img"><title>{html.escape(title)}</title>{self._axes()}{marks}</svg>'

    def _axes(self) -> str:
        parts, foot = [], self.height - _BOTTOM
        for value in log_ticks(*self.y) if self.log_y else round_ticks(*self.y, 5):
            y = self.to_y(value)
            parts.append(f'<path class="grid" d="M{_LEFT} {y:.1f} H{self.width - _RIGHT}"/>')
            parts.append(f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{_tick(value, self.log_y)}</text>')
        ticks = self.ticks_x
        if ticks is None:
            ticks = [(value, _tick(value, False)) for value in round_ticks(*self.x, 6)]
        for value, label in ticks:
            x = self.to_x(value)
            parts.append(f'<path class="axis" d="M{x:.1f} {foot} v5"/>')
            parts.append(f'<text x="{x:.1f}" y="{foot + 19}" text-anchor="middle">{html.escape(label)}</text>')
        parts.append(f'<path class="axis" d="M{_LEFT} {foot} H{self.width - _RIGHT}"/>')
        middle, up = (_LEFT + self.width - _RIGHT) / 2, (_TOP + foot) / 2
        parts.append(
            f'<text class="title" x="{middle}" y="{self.height - 6}" text-anchor="middle">{html.escape(self.x_title)}</text>'
        )
        parts.append(
            f'<text class="title" transform="translate(14 {up}) rotate(-90)" text-anchor="middle">'
            f"{html.escape(self.y_title)}</text>"
        )
        return "".join(parts)


def round_ticks(low: float, high: float, count: int) -> list[float]:
    """About `count` round numbers from `low` to `high`.

    >>> round_ticks(0, 1, 5)
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    if not high > low:
        return [low]
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    return [round(i * step, 12) for i in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten from `low` to `high`, at most about six of them.

    >>> log_ticks(0.01, 1)
    [0.01, 0.1, 1.0]
    """
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    every = max(1, -(-(last - first) // 6))
    return [10.0**power for power in range(first, last + 1, every)]


def range_of(values: np.ndarray, margin: float = 0.05) -> tuple[float, float]:
    """The smallest and the largest number with some room; (0, 1) where there is none.

    >>> range_of(np.asarray([0.0, 10.0, np.nan]))
    (-0.5, 10.5)
    """
    finite = np.asarray(values, float)[np.isfinite(values)]
    if not len(finite):
        return 0.0, 1.0
    low, high = float(finite.min()), float(finite.max())
    room = margin * (high - low) or 0.5 * abs(high) or 0.5
    return low - room, high + room


def _tick(value: float, log: bool) -> str:
    if log and not 1e-3 <= value <= 1e4:
        return f"1e{round(math.log10(value))}"
    return f"{value:,.10g}".replace("-", "−")

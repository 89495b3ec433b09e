"""A text whose characters are colored by a number each: as a page of HTML, as a picture, in the terminal.

Blue below, orange above, nothing at zero, so that the middle is the paper, light or dark, and color-blind people see the two ends
apart. Characters come from anywhere: they are escaped, the page's script puts them on the page as text only, and its content
security policy lets nothing else run and nothing be fetched.
"""

import base64
import hashlib
import html
import json
import textwrap
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.text import Text

from elman.training.progress import printable

STEPS = 8
"""Shades on each side of the middle."""

WARM, COOL = (214, 103, 23), (38, 112, 178)
"""Above and below the middle, as red, green, blue: apart for every common kind of color blindness."""

PICTURE_COLUMNS, PICTURE_LINES = 96, 32
"""Characters in a line of a picture, and lines: more cannot be read on a projector."""


@dataclass(frozen=True, eq=False)
class ColoredText:
    """symbols: one string for each place. values: `[places]` from -1 to 1; NaN has no color.

    title: what is seen. low, high: what the ends of the colors stand for (an empty low: there is nothing below the middle).
    notes: what is said of each place when it is pointed at, or nothing.
    """

    symbols: Sequence[str]
    values: np.ndarray
    title: str
    low: str = "−1"
    high: str = "+1"
    notes: Sequence[str] = ()

    @property
    def shades(self) -> np.ndarray:
        """`[places]` of integers from -8 (blue) to 8 (orange)."""
        return np.round(np.nan_to_num(np.clip(self.values, -1, 1)) * STEPS).astype(int)


def spans(colored: ColoredText) -> str:
    """The text as HTML: an element for each run of one shade, or for each character where there are notes.

    >>> spans(ColoredText("a<b", np.array([0.0, 1.0, -1.0]), ""))
    '<span>a</span><span class="w8">&lt;</span><span class="c8">b</span>'
    """
    shades, parts, begin = colored.shades, [], 0
    for place in range(1, len(shades) + 1):
        if place < len(shades) and shades[place] == shades[begin] and not colored.notes:
            continue
        shade = int(shades[begin])
        kind = f' class="{"w" if shade > 0 else "c"}{abs(shade)}"' if shade else ""
        text = html.escape("".join(map(_seen, colored.symbols[begin:place])))
        parts.append(f"<span{kind}>{text}</span>")
        begin = place
    return "".join(parts)


def style() -> str:
    """The style of `spans` and of the page around it."""
    shades = "".join(
        f".{name}{step}{{background:rgb({' '.join(map(str, color))} / {0.85 * step / STEPS:.2f})}}"
        for name, color in (("w", WARM), ("c", COOL))
        for step in range(1, STEPS + 1)
    )
    return _STYLE + shades


def page(colored: ColoredText, *, beside: str = "") -> str:
    """One HTML file that needs nothing but itself. beside: HTML of our own making that stands above the text.

    Where there are notes, the character that is pointed at, or reached with the arrow keys, is explained.
    """
    data = json.dumps(list(map(_harmless, colored.notes)), ensure_ascii=True).replace("<", "\\u003c")
    css, script = style(), _SCRIPT if colored.notes else ""
    policy = f"default-src 'none'; style-src '{_digest(css)}'; img-src data:; base-uri 'none'; form-action 'none'" + (
        f"; script-src '{_digest(script)}'" if script else ""
    )
    title = html.escape(_harmless(colored.title))
    hint = '<p class="soft">Point at a character, or walk with the arrow keys.</p>' if script else ""
    live = ' tabindex="0" role="group" aria-label="text"' if script else ""
    note = '<p id="note" aria-live="polite">&nbsp;</p>' if script else ""
    scripts = f'<script type="application/json" id="data">{data}</script><script>{script}</script>' if script else ""
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">'
        f'<meta name="referrer" content="no-referrer"><title>{title}</title><style>{css}</style></head>\n'
        f'<body><main><h1 dir="auto">{title}</h1>{beside}{hint}<div class="above">{_legend(colored)}{note}</div>\n'
        f'<pre id="text" dir="auto"{live}>{spans(colored)}</pre>\n</main>{scripts}</body></html>\n'
    )


def table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table for `page`, everything in it escaped."""
    head = "".join(f"<th scope='col'>{html.escape(title)}</th>" for title in titles)
    body = "".join(
        "<tr>" + "".join(f"<td dir='auto'>{html.escape(_harmless(cell))}</td>" for cell in row) + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def terminal(colored: ColoredText) -> Text:
    """The text for Rich, with the colors as background."""
    result = Text()
    for symbol, shade in zip(colored.symbols, colored.shades, strict=True):
        result.append(_harmless(symbol), style=_terminal_style(int(shade)))
    return result


def figure(colored: ColoredText) -> Any:
    """A Matplotlib figure: the text in a grid of equal cells, at most 32 lines of 96 characters; what is left out is said.

    Every symbol has its cell, so that letters that join (Arabic, Persian) stand apart; the page shows them joined.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    cells, lines, whole = _grid(colored.symbols)
    wide = max((column for _, column, _ in cells), default=0) + 1
    title = textwrap.wrap(_harmless(colored.title), max(56, wide))
    more = "" if whole else f"   (the first {len(cells):,} of {len(colored.symbols):,} characters)"
    ends = len(colored.low) + len(colored.high) + len(more)
    width = max(6.0, 0.095 * wide + 0.4, 2.8 + 0.062 * ends)
    height = 0.2 * lines + 0.22 * len(title) + 0.75
    drawn = Figure(figsize=(width, height), facecolor="white")
    axes = drawn.add_axes((0.2 / width, 0.15 / height, 1 - 0.4 / width, (0.2 * lines + 0.02) / height))
    axes.set(xlim=(0, (width - 0.4) / 0.095), ylim=(lines, 0))
    axes.axis("off")
    shades = colored.shades
    for line, column, place in cells:
        if shade := int(shades[place]):
            axes.add_patch(Rectangle((column, line), 1, 1, color=_on_white(shade), linewidth=0, antialiased=False))
        symbol = _math_safe(_seen(colored.symbols[place])[0])
        if symbol.strip():
            at = (column + 0.5, line + 0.74)
            axes.text(*at, symbol, ha="center", fontsize=9, family="monospace", color="#15181b")
    drawn.text(0.2 / width, 1 - 0.12 / height, _math_safe("\n".join(title)), va="top", fontsize=11, color="#15181b")
    _draw_legend(drawn, colored, (0.2, height - 0.22 * len(title) - 0.42), (width, height), more)
    return drawn


def _draw_legend(
    drawn: Any, colored: ColoredText, at: tuple[float, float], size: tuple[float, float], more: str
) -> None:
    """The shades with their ends in words; places and sizes in inches."""
    from matplotlib.patches import Rectangle

    (left, top), (width, height), cell = at, size, 0.16
    words = {"fontsize": 9, "color": "#5f6872", "va": "center"}
    if colored.low:
        drawn.text(left / width, top / height, _math_safe(colored.low), **words)
        left += 0.08 * (len(colored.low) + 1)
    for shade in range(-STEPS if colored.low else 0, STEPS + 1):
        corner = (left / width, (top - cell / 2) / height)
        drawn.add_artist(Rectangle(corner, cell / width, cell / height, color=_on_white(shade), antialiased=False))
        left += cell
    drawn.text((left + cell / 2) / width, top / height, _math_safe(colored.high) + more, **words)


def _on_white(shade: int) -> tuple[float, ...]:
    """A shade on white paper, as shares of red, green and blue."""
    strength = 0.85 * abs(shade) / STEPS
    return tuple(1 + (part / 255 - 1) * strength for part in (WARM if shade > 0 else COOL))


def _grid(symbols: Sequence[str]) -> tuple[list[tuple[int, int, int]], int, bool]:
    """(line, column, place) of every symbol that a picture has room for; how many lines; whether that is all."""
    cells: list[tuple[int, int, int]] = []
    line, column = 0, 0
    for place, symbol in enumerate(symbols):
        if column == PICTURE_COLUMNS:
            line, column = line + 1, 0
        if line == PICTURE_LINES:
            return cells, line, False
        cells.append((line, column, place))
        column += 1
        if symbol == "\n":
            line, column = line + 1, 0
    return cells, line + 1, True


def _legend(colored: ColoredText) -> str:
    steps = range(-STEPS if colored.low else 0, STEPS + 1)
    cells = "".join(f'<i class="{"w" if step > 0 else "c"}{abs(step)}"></i>' for step in steps)
    low, high = (html.escape(_harmless(words)) for words in (colored.low, colored.high))
    return f'<p class="legend" dir="ltr">{low} {cells} {high}</p>'


def _seen(symbol: str) -> str:
    """A line break is shown as a sign before it, so that its color has a place; control characters become dots."""
    return "↵\n" if symbol == "\n" else _harmless(symbol)


def _harmless(text: str) -> str:
    """Without control characters, and without the marks that turn the direction of what stands around them."""
    return "".join("·" if unicodedata.bidirectional(c) in _TURNING else c for c in printable(text))


_TURNING = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}


def _math_safe(text: str) -> str:
    """Matplotlib takes text between two dollar signs for a formula."""
    return text.replace("$", "\\$")


def _terminal_style(shade: int) -> str:
    if shade == 0:
        return ""
    color = WARM if shade > 0 else COOL
    strength = abs(shade) / STEPS
    # On the terminal's own ground nothing can be mixed: from a pale tint to the full color, with black or white letters.
    red, green, blue = (round(245 + (part - 245) * strength) for part in color)
    letters = "white" if strength > 0.7 and shade < 0 else "black"
    return f"{letters} on rgb({red},{green},{blue})"


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


_STYLE = """
:root{--paper:#fbfaf7;--card:#fff;--ink:#20252b;--soft:#5f6872;--line:#dcd8cf;--accent:#14657f}
@media (prefers-color-scheme:dark){
:root{--paper:#14181c;--card:#1b2026;--ink:#f0f2f4;--soft:#9aa5af;--line:#333b43;--accent:#6cc4de}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);
font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans",sans-serif}
main{max-width:60rem;margin:0 auto;padding:1.5rem 1.25rem 3rem}
h1{font-size:1.3rem;line-height:1.25;margin:0 0 .5rem;overflow-wrap:anywhere}
.soft{color:var(--soft);margin:.25rem 0}
.above{position:sticky;top:0;background:var(--paper);padding:.4rem 0;z-index:1}
.legend{color:var(--soft);margin:0;display:flex;gap:.5rem;align-items:center;flex-wrap:wrap;column-gap:.1rem}
.legend i{display:inline-block;width:1.1rem;height:1.1rem}
.legend i:first-of-type{margin-inline-start:.5rem}.legend i:last-of-type{margin-inline-end:.5rem}
#note{margin:.3rem 0 0;min-height:1.5em;font:1rem/1.5 ui-monospace,Menlo,Consolas,"DejaVu Sans Mono",monospace;white-space:pre-wrap;
overflow-wrap:anywhere}
@media (max-width:44rem){#note{min-height:4.5em}}
pre{margin:.5rem 0;padding:1rem;background:var(--card);border:1px solid var(--line);border-radius:8px;white-space:pre-wrap;
overflow-wrap:anywhere;unicode-bidi:plaintext;text-align:start;
font:1rem/1.6 ui-monospace,Menlo,Consolas,"DejaVu Sans Mono",monospace}
pre:focus-visible{outline:3px solid var(--accent);outline-offset:2px}
pre span{border-radius:2px}pre .at{outline:2px solid var(--accent)}
table{border-collapse:collapse;margin:1rem 0;width:100%;font-variant-numeric:tabular-nums}
th,td{text-align:start;padding:.25rem .8rem .25rem 0;border-bottom:1px solid var(--line);vertical-align:top}
"""

_SCRIPT = """
const text = document.getElementById("text"), note = document.getElementById("note");
const notes = JSON.parse(document.getElementById("data").textContent), places = [...text.children];
let at = -1;
function show(place, byKey) {
  if (place < 0 || place >= places.length || place === at) return;
  if (at >= 0) places[at].classList.remove("at");
  at = place;
  places[at].classList.add("at");
  note.textContent = notes[at];
  if (byKey) places[at].scrollIntoView({block: "nearest"});
}
const number = new Map(places.map((element, index) => [element, index]));
for (const name of ["mouseover", "click"]) text.addEventListener(name, event => {
  if (number.has(event.target)) show(number.get(event.target), false);
});
text.addEventListener("focus", () => show(at < 0 ? 0 : at, true));
text.addEventListener("keydown", event => {
  const step = {ArrowRight: 1, ArrowLeft: -1, ArrowDown: 20, ArrowUp: -20}[event.key];
  if (step === undefined && event.key !== "Home" && event.key !== "End") return;
  event.preventDefault();
  const wanted = event.key === "Home" ? 0 : event.key === "End" ? places.length - 1 : at + step;
  show(Math.min(Math.max(wanted, 0), places.length - 1), true);
});
"""

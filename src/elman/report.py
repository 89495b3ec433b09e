"""The report of a run: one HTML file that shows the loss, the baselines and the samples from noise to sentences (lecture L11).

The file needs nothing but itself: its style, its script and its pictures stand in it, and a content security policy with the
digests of the two lets the browser run these and fetch nothing. Whatever comes from a run, above all the text of its samples, is
data: it is escaped where it becomes HTML, and the script puts it on the page as text only. The curves are drawn here, once for a
wide and once for a narrow page; the script moves a marker over them, and without it everything is still there to read.
"""

import base64
import hashlib
import html
import json
import math
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

import elman
from elman.errors import ElmanError
from elman.text.run import TextRun
from elman.timeline import History, Moment, chosen_moments, read_history
from elman.training.bundle import Bundle
from elman.training.progress import duration, in_bits, printable, rate
from elman.training.storage import write_atomically

MAX_SAMPLES = 200
MAX_SAMPLE_CHARACTERS = 4000
MAX_SAMPLE_BYTES = 1_200_000
"""What all samples may take of the page, which holds each of them twice: for the slider, and to be read without a script."""

MAX_POINTS = 600
LABEL_HEIGHT = 15


def write_report(run: TextRun, path: Path | None = None) -> Path:
    """Write the report of `run`, also while it is being trained, and return where it is.

    path: `report.html` in the run folder when not given.

    Raises: `RunError` where the log is damaged or the file cannot be written.
    """
    path = run.path / "report.html" if path is None else Path(path)
    page = _page(run, read_history(run))
    # A lone half of a surrogate pair can come out of a damaged log, and no UTF-8 can hold it.
    write_atomically(path, page.encode("utf-8", "replace"))
    return path


def _page(run: TextRun, history: History) -> str:
    style, script = _resource("report.css"), _resource("report.js")
    kept = _kept_moments(history.moments)
    policy = (
        f"default-src 'none'; style-src '{_digest(style)}'; script-src '{_digest(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    return Template(_resource("report.html")).substitute(
        policy=policy,
        version=html.escape(elman.__version__),
        title=html.escape(_title(history)),
        style=style,
        notice=_notice(run, history),
        headline=_headline(history),
        comparison=_comparison(history),
        timeline=_timeline(history, kept),
        curves=_curves(history),
        facts=_facts(run, history),
        settings=_settings(history.description),
        commands=_commands(run, history),
        data=_data(history, kept),
        script=script,
    )


def _resource(name: str) -> str:
    return resources.files("elman").joinpath(name).read_text(encoding="utf-8").replace("\r\n", "\n")


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _title(history: History) -> str:
    network = history.description.get("network", {})
    cell = {"gru": "GRU", "lstm": "LSTM", "elman": "Elman network"}.get(network.get("cell", ""), "network")
    layers = network.get("layers", 1)
    size = f"{network.get('hidden', '?')} units" if layers == 1 else f"{layers} layers of {network.get('hidden', '?')}"
    article = "An" if cell.startswith("Elman") else "A"
    names = _input_names(history)
    more = f" and {len(names) - 2} more" if len(names) > 2 else ""
    return f"{article} {cell} of {size}, trained on {', '.join(names[:2]) or 'text'}{more}"


def _input_names(history: History) -> list[str]:
    """The last part of each input's path: a report is passed on, and the folders of a home are nobody's business."""
    inputs = history.description.get("run", {}).get("inputs") or history.start.get("sources") or []
    return [Path(str(name)).name or str(name) for name in inputs]


def _unit(history: History) -> str:
    return str(history.description.get("text", {}).get("unit", "character"))


def _notice(run: TextRun, history: History) -> str:
    if history.end is not None:
        return ""
    resume = f"elman train --resume {shlex.quote(str(run.path))}"
    return (
        f'<p class="notice"><b>This run has not ended.</b> The page shows it as it was at update {history.iteration:,}. '
        f"If nothing is training it any more, <code>{html.escape(resume)}</code> goes on from there.</p>"
    )


def _headline(history: History) -> str:
    unit = _unit(history)
    if history.best is not None:
        nats, where = history.best[1], "on text it had not seen"
    elif history.training is not None:
        nats, where = history.training, "on the text it was trained on: none was held out to test it"
    else:
        return '<p class="headline">No update has been made yet.</p>'
    size = history.start.get("vocabulary_size")
    among = f" out of {size:,}" if isinstance(size, int) else ""
    choices = f"It is as unsure of the next {unit} as if it had to choose among {math.exp(nats):.1f} of them{among}."
    return (
        f'<p class="headline"><strong>{nats:.3f} nats</strong> '
        f'<span class="equal">= {nats / math.log(2):.3f} bits per {html.escape(unit)} {where}</span></p>'
        f'<p class="soft">{html.escape(choices)}</p>'
    )


def _baseline_rows(history: History) -> list[tuple[str, str, float]]:
    """(name in the bars, short name beside the curve, nats) of each baseline, in the order of what it knows."""
    found = history.baselines
    order = found.get("ngram_order")
    known = {
        "uniform": ("knowing nothing", "uniform"),
        "unigram": (f"{'letter' if _unit(history) == 'character' else _unit(history)} frequencies", "frequencies"),
        "ngram": (f"n-grams up to order {order}" if order else "n-grams", f"{order}-grams" if order else "n-grams"),
    }
    return [
        (*names, float(found[key]))
        for key, names in known.items()
        if isinstance(found.get(key), int | float) and math.isfinite(found[key])
    ]


def _comparison(history: History) -> str:
    ours = history.best[1] if history.best is not None else history.training
    baselines = _baseline_rows(history)
    if ours is None or not baselines:
        return '<p class="soft">There is nothing to compare yet.</p>'
    longest = max(ours, *(nats for _, _, nats in baselines))
    rows = [(label, nats, "") for label, _, nats in baselines] + [("this network", ours, "ours")]
    bars = "".join(
        f'<div class="{kind}"><dt>{html.escape(label)}</dt><dd class="bar">'
        f'<svg aria-hidden="true"><rect width="{max(0.5, 100 * nats / longest):.1f}%" height="100%" rx="4"/></svg>'
        f'</dd><dd class="value">{nats:.3f}</dd></div>'
        for label, nats, kind in rows
    )
    return (
        f'<dl class="bars">{bars}</dl><p class="verdict">{_verdict(history, ours, baselines)}</p>'
        f'<p class="soft small">Nats per {html.escape(_unit(history))}: the shorter the bar, the better the guesses.'
        f"{_reservation(history)}</p>"
    )


def _verdict(history: History, ours: float, baselines: Sequence[tuple[str, str, float]]) -> str:
    label, _, nats = min(baselines, key=lambda row: row[2])
    label, difference = html.escape(label), f"{abs(nats - ours):.3f} nats"
    if history.best is None:
        return (
            f"The network is {difference} {'better' if ours < nats else 'worse'} than {label}. This is measured on the text it was "
            "trained on, which says little of other text: hold some out (<code>--validation 0.1</code>) for an honest comparison."
        )
    if ours < nats:
        return f"The network beats the best of them, {label}, by <b>{difference}</b>."
    if ours == nats:
        return f"The network is exactly as good as {label}."
    return (
        f"<b>The network does not win here: {label} is better by {difference}.</b> "
        "Longer training, more units or more text may turn that round."
    )


def _reservation(history: History) -> str:
    """Where the baselines saw less than the network did, this is said beside them."""
    limits = (
        ("trained_on", "training_symbols", "learned from the last {:,} {}s of the training text"),
        ("scored_on", "held_out_symbols", "are scored on the first {:,} {}s of the held-out text"),
    )
    parts = []
    for part, whole, words in limits:
        used, available = history.baselines.get(part), history.start.get(whole)
        if isinstance(used, int) and isinstance(available, int) and 0 < used < available:
            parts.append(words.format(used, html.escape(_unit(history))))
    return f" The n-grams {' and '.join(parts)}." if parts else ""


def _kept_moments(moments: Sequence[Moment]) -> list[Moment]:
    """As many moments as the page has room for: the lecture's iterations, first and last, and an even choice of the others."""
    count = min(len(moments), MAX_SAMPLES)
    kept = _evenly(moments, count)
    while count > 8 and sum(map(_bytes_of, kept)) > MAX_SAMPLE_BYTES:
        count = max(8, count * 3 // 4)
        kept = _evenly(moments, count)
    return kept


def _evenly(moments: Sequence[Moment], count: int) -> list[Moment]:
    if len(moments) <= count:
        return list(moments)
    wanted = {0, *np.linspace(0, len(moments) - 1, count).round().astype(int).tolist()}
    iterations = {moments[index].iteration for index in wanted}
    iterations |= {moment.iteration for moment in chosen_moments(moments)} if count > 20 else set()
    return [moment for moment in moments if moment.iteration in iterations]


def _bytes_of(moment: Moment) -> int:
    text = moment.text[:MAX_SAMPLE_CHARACTERS]
    return len(_json(text).encode("utf-8", "replace")) + len(html.escape(text).encode("utf-8", "replace"))


def _timeline(history: History, kept: Sequence[Moment]) -> str:
    if not kept:
        return '<p class="soft">The run has taken no sample yet.</p>'
    last = len(kept) - 1
    milestones = {moment.iteration for moment in (kept[0], *chosen_moments(kept))}
    articles = "".join(_article(moment, moment.iteration in milestones) for moment in kept)
    missing = len(history.moments) - len(kept)
    note = (
        f'<p class="soft small">{len(history.moments):,} samples were taken; {len(kept):,} of them are on this page, '
        f"spread evenly. <code>elman samples RUN</code> shows every one.</p>"
        if missing
        else ""
    )
    shortened = '<p class="soft small" id="shortened" hidden></p>'
    return (
        '<div class="card player"><div class="controls"><button type="button" id="play">▶ Play</button>'
        f'<input type="range" id="slider" min="0" max="{last}" step="1" value="{last}" aria-label="which sample"'
        ' aria-controls="text"></div><p class="now"><b id="iteration"></b><span id="loss"></span>'
        '<span class="soft" id="elapsed"></span></p>'
        f'<pre id="text" dir="auto" tabindex="0" aria-label="the sample"></pre>{shortened}</div>{note}'
        '<p class="soft small needs-script">Drag the slider or use the arrow keys; the red line in the curve below moves along.</p>'
        '<button type="button" id="all" class="needs-script" aria-expanded="false" aria-controls="every">'
        f'Show all of them below each other</button><div class="every" id="every">{articles}</div>'
    )


def _article(moment: Moment, milestone: bool) -> str:
    left_out = len(moment.text) - MAX_SAMPLE_CHARACTERS
    more = f'<p class="soft small">{left_out:,} more characters are left out here.</p>' if left_out > 0 else ""
    return (
        f"<article{' class=milestone' if milestone else ''}><h3>update {moment.iteration:,} <span>{moment.loss}</span></h3>"
        f'<pre dir="auto">\n{html.escape(printable(moment.text[:MAX_SAMPLE_CHARACTERS]))}</pre>{more}</article>'
    )


def _data(history: History, kept: Sequence[Moment]) -> str:
    """What the script needs, as JSON that cannot end its element or start another."""
    samples = [
        {
            "iteration": moment.iteration,
            "text": moment.text[:MAX_SAMPLE_CHARACTERS],
            "left_out": max(0, len(moment.text) - MAX_SAMPLE_CHARACTERS),
            "validation": moment.validation,
            "training": moment.training,
            "after": None if moment.elapsed is None else duration(moment.elapsed),
        }
        for moment in kept
    ]
    curves = {
        scale: [[round(point.iteration, 1), round(point.mean, 4)] for point in _thin(history, MAX_POINTS, scale)]
        for scale in ("linear", "log")
    }
    validations = _every_nth(history.validations, MAX_POINTS)
    return _json({"samples": samples, "curves": curves, "validations": validations})


def _json(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _every_nth(values: Sequence[Any], count: int) -> list[Any]:
    """At most about `count` of `values`, the last one always among them."""
    step = -(-len(values) // count) or 1
    return list(values[::-1][::step][::-1])


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


def _thin(history: History, count: int, scale: str) -> list[_Point]:
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


def _curves(history: History) -> str:
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
        f'<p class="soft small">Loss in nats per {html.escape(_unit(history))}: the mean of neighboring updates, and behind it '
        "the range from the smallest to the largest. The red ticks at the foot are samples.</p></div>"
        f'<div class="multiples">{rates}{norms}</div>'
    )


def _loss_plot(history: History, scale: str, *, narrow: bool) -> str:
    points = _thin(history, 300 if narrow else MAX_POINTS, scale)
    baselines = _baseline_rows(history)
    levels = [nats for _, _, nats in baselines]
    shown = [*levels, *(nats for _, nats in history.validations), *(point.mean for point in points)]
    # One update that went wrong must not press everything else flat: what is far above is cut off.
    ceiling = max([*levels, *(nats for _, nats in history.validations), float(np.percentile(history.losses, 99))])
    low, high = min(shown), min(max(shown), 1.1 * ceiling)
    margin = 0.06 * (high - low) or 0.1
    size = (380, 300, 34, 292, 12, 268) if narrow else (760, 360, 44, 632, 14, 324)
    frame = _Frame(*size, last=max(1, history.iteration), low=low - margin, high=high + margin, scale=scale)
    validations = _every_nth(history.validations, 150)
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
            for i, v in _every_nth(validations, 40)
        ),
        _labels(frame, labels),
        *(
            f'<line class="sampled" x1="{frame.x(m.iteration):.1f}" x2="{frame.x(m.iteration):.1f}" '
            f'y1="{frame.bottom - 6}" y2="{frame.bottom}"/>'
            for m in _every_nth(history.moments, 100)
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
    for value in _nice_ticks(frame.low, frame.high, count):
        y = frame.y(value)
        parts.append(f'<line class="grid" x1="{frame.left}" x2="{frame.right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{frame.left - 6}" y="{y + 4:.1f}" text-anchor="end">{value:.4g}</text>')
    ticks = (
        _log_ticks(frame.last) if frame.scale == "log" else _nice_ticks(0, frame.last, 5 if frame.width > 400 else 3)
    )
    for value in ticks:
        x = frame.x(value)
        # The last number would stick out of the picture if it were centered under its tick.
        anchor = "end" if x > frame.right - 12 else "start" if x < frame.left + 4 else "middle"
        parts.append(f'<text x="{x:.1f}" y="{frame.bottom + 18}" text-anchor="{anchor}">{_short(value)}</text>')
    parts.append(f'<line class="axis" x1="{frame.left}" x2="{frame.right}" y1="{frame.bottom}" y2="{frame.bottom}"/>')
    return "".join(parts)


def _nice_ticks(low: float, high: float, count: int) -> list[float]:
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
    heights = _spread([frame.y(value) for value, _, _ in ordered], frame.top, frame.bottom)
    parts = []
    for (value, text, kind), height in zip(ordered, heights, strict=True):
        leader = f"{frame.right},{frame.y(value):.1f} {frame.right + 6},{height:.1f}"
        parts.append(f'<polyline class="leader" points="{leader}"/>')
        shown = text if frame.width > 400 else text.rsplit(" ", 1)[0]
        parts.append(f'<text class="{kind}" x="{frame.right + 9}" y="{height + 4:.1f}">{html.escape(shown)}</text>')
    return "".join(parts)


def _spread(wanted: Sequence[float], top: float, bottom: float) -> list[float]:
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


def _facts(run: TextRun, history: History) -> str:
    training, start = history.description.get("training", {}), history.start
    seen = history.iteration * int(training.get("batch", 0)) * int(training.get("unroll", 0))
    unit = _unit(history)
    speeds = [block["symbols_per_second"] for block in history.blocks[2:] if "symbols_per_second" in block]
    best = history.best
    rows = [
        ("updates", f"{history.iteration:,}"),
        ("ended", history.end["ending"] if history.end else "not yet"),
        ("time", duration(history.elapsed)),
        ("speed", f"{rate(float(np.median(speeds)))} {unit}s/s" if speeds else ""),
        ("parameters", _count(start.get("parameters"))),
        (f"{unit}s read", f"{seen:,}" if seen else ""),
        ("training text", _count(start.get("training_symbols"), f" {unit}s")),
        ("held-out text", _count(start.get("held_out_symbols"), f" {unit}s") or "none"),
        (f"distinct {unit}s", _count(start.get("vocabulary_size"))),
        ("best validation", f"{in_bits(best[1])} at update {best[0]:,}" if best else ""),
        ("made with", _versions(run, history)),
    ]
    items = "".join(f"<div><dt>{html.escape(n)}</dt><dd>{html.escape(str(v))}</dd></div>" for n, v in rows if v)
    return f'<dl class="facts">{items}</dl>'


def _count(value: Any, behind: str = "") -> str:
    return f"{value:,}{behind}" if isinstance(value, int) and value > 0 else ""


def _versions(run: TextRun, history: History) -> str:
    """From the bundle, which says it of the process that trained; from `config.toml` as long as there is none."""
    made_with: dict[str, Any] = {"elman": history.description.get("run", {}).get("elman", "?")}
    try:
        if run.best_path.exists():
            made_with = Bundle.load(run.best_path).made_with
    except (ElmanError, OSError):
        pass  # a damaged bundle is told of by whoever uses it, and takes nothing from the report
    names = {"elman": "elman", "python": "Python", "jax": "JAX", "numpy": "NumPy"}
    return ", ".join(f"{names[name]} {made_with[name]}" for name in names if name in made_with)


def _settings(description: dict[str, Any]) -> str:
    rows = []
    for group, values in description.items():
        if not isinstance(values, dict):
            continue
        rows.append(f'<tr><th colspan="2" scope="colgroup">{html.escape(group)}</th></tr>')
        for name, value in values.items():
            if name in ("inputs", "init", "data_folder"):
                paths = value if isinstance(value, list) else [value]
                value = ", ".join(Path(str(path)).name for path in paths)
            shown = str(value).lower() if isinstance(value, bool) else str(value)
            rows.append(f'<tr><th scope="row">{html.escape(name)}</th><td dir="auto">{html.escape(shown)}</td></tr>')
    return f"<details><summary>All settings</summary><table><tbody>{''.join(rows)}</tbody></table></details>"


def _commands(run: TextRun, history: History) -> str:
    folder = shlex.quote(str(run.path))
    word = _prime(history.moments)
    prime = f" --prime {shlex.quote(word)}" if word else ""
    rows = [
        ("Let it write on from a beginning of yours:", f"elman sample {folder}{prime} --temperature 0.8"),
        ("See its samples in the terminal:", f"elman samples {folder}"),
    ]
    items = "".join(f"<li>{html.escape(what)}<code>{html.escape(command)}</code></li>" for what, command in rows)
    return f'<ul class="commands">{items}</ul>'


def _prime(moments: Sequence[Moment]) -> str:
    """A word that the network wrote itself, so that it knows each of its letters."""
    words = moments[-1].text.split()[1:-1] if moments else []
    return next((word for word in words if word.isalpha() and 3 <= len(word) <= 12), "")

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
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

import elman
from elman.errors import ElmanError
from elman.reports.curves import MAX_POINTS, baseline_rows, draw_curves, every_nth, thin, unit_of
from elman.reports.timeline import History, Moment, chosen_moments, read_history
from elman.text.run import TextRun
from elman.training.bundle import Bundle
from elman.training.progress import duration, in_bits, printable, rate
from elman.training.storage import write_atomically

MAX_SAMPLES = 200
MAX_SAMPLE_CHARACTERS = 4000
MAX_SAMPLE_BYTES = 1_200_000
"""What all samples may take of the page, which holds each of them twice: for the slider, and to be read without a script."""


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
        curves=draw_curves(history),
        facts=_facts(run, history),
        settings=_settings(history.description),
        commands=_commands(run, history),
        data=_data(history, kept),
        script=script,
    )


def _resource(name: str) -> str:
    return resources.files("elman.reports").joinpath(name).read_text(encoding="utf-8").replace("\r\n", "\n")


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


def _notice(run: TextRun, history: History) -> str:
    if history.end is not None:
        return ""
    resume = f"elman train --resume {shlex.quote(str(run.path))}"
    return (
        f'<p class="notice"><b>This run has not ended.</b> The page shows it as it was at update {history.iteration:,}. '
        f"If nothing is training it any more, <code>{html.escape(resume)}</code> goes on from there.</p>"
    )


def _headline(history: History) -> str:
    unit = unit_of(history)
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


def _comparison(history: History) -> str:
    ours = history.best[1] if history.best is not None else history.training
    baselines = baseline_rows(history)
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
        f'<p class="soft small">Nats per {html.escape(unit_of(history))}: the shorter the bar, the better the guesses.'
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
            parts.append(words.format(used, html.escape(unit_of(history))))
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
        scale: [[round(point.iteration, 1), round(point.mean, 4)] for point in thin(history, MAX_POINTS, scale)]
        for scale in ("linear", "log")
    }
    validations = every_nth(history.validations, MAX_POINTS)
    return _json({"samples": samples, "curves": curves, "validations": validations})


def _json(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _facts(run: TextRun, history: History) -> str:
    training, start = history.description.get("training", {}), history.start
    seen = history.iteration * int(training.get("batch", 0)) * int(training.get("unroll", 0))
    unit = unit_of(history)
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

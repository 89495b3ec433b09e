"""The report of a forecaster: one HTML file that says first whether it beats the simple methods, and then shows its forecasts.

It reads three files of the run folder and nothing else: `config.toml`, `events.jsonl` and `evaluation.json`. The last is written
when training ends; until then, and where a part of it is missing, the page shows what there is. Like the report of a text run it
needs nothing but itself; it has no script at all, and its content security policy lets none run. Names of columns, series and files
are data: they are escaped where they become HTML.
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

import elman
from elman.errors import RunError
from elman.reports.drawing import fan_title, number, numbers, seconds_of, unit_words
from elman.reports.forecast_svg import (
    band_entries,
    coverage_svg,
    fan_svg,
    legend,
    panel_svg,
    slice_svg,
    validation_svg,
)
from elman.reports.forecasts import (
    Score,
    best_baseline,
    error_panels,
    score_table,
    shown_figure,
    shown_metrics,
    stretch_of,
)
from elman.training.progress import duration
from elman.training.runs import Run
from elman.training.storage import write_atomically

EVALUATION_NAME = "evaluation.json"
MAX_PICTURES = 12
"""Fans and slices of each kind that a page shows: a run with a thousand series has more than anybody looks at."""


def write_series_report(run_path: Path | str, output: Path | None = None) -> Path:
    """Write the report of the run of a forecaster, also while it is being trained, and return where it is.

    output: `report.html` in the run folder when not given.

    Raises: `RunError` for a folder that is no run, a damaged log or evaluation, and a file that cannot be written.
    """
    run = Run(run_path)
    output = run.path / "report.html" if output is None else Path(output)
    page = series_report_html(run, read_evaluation(run.path))
    write_atomically(output, page.encode("utf-8", "replace"))
    return output


def read_evaluation(run_path: Path) -> dict[str, Any]:
    """What the run's `evaluation.json` says; empty where there is none yet.

    Raises: `RunError` where it cannot be read.
    """
    path = run_path / EVALUATION_NAME
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"{path} cannot be read: {error}; `elman evaluate` writes it anew") from None
    if not isinstance(found, dict):
        raise RunError(f"{path} is damaged: it holds no JSON object; `elman evaluate` writes it anew")
    return found


def series_report_html(run: Run, evaluation: dict[str, Any]) -> str:
    """The page of a run with its evaluation (empty: not evaluated yet).

    Raises: `RunError` for a damaged log, and for an evaluation whose parts are not what they should be.
    """
    log = _Log(run)
    style = _resource("report.css") + _resource("series_report.css")
    policy = f"default-src 'none'; style-src '{_digest(style)}'; base-uri 'none'; form-action 'none'"
    try:
        sections = "".join(
            f'\n<section aria-labelledby="{name}">\n<h2 id="{name}">{title}</h2>\n{content}\n</section>\n'
            for name, title, content in _sections(run, log, evaluation)
            if content
        )
        headline = _headline(evaluation, log)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        path = run.path / EVALUATION_NAME
        raise RunError(
            f"{path} is not as `elman evaluate` writes it ({type(error).__name__}: {error}): evaluate the run again"
        ) from None
    return Template(_resource("series_report.html")).substitute(
        policy=policy,
        version=html.escape(elman.__version__),
        title=html.escape(_title(log.description, evaluation)),
        style=style,
        notice=_notice(run, log),
        headline=headline,
        sections=sections,
    )


class _Log:
    """What the page needs of `events.jsonl`, read in one pass. score: the name of the figure in `validations`."""

    def __init__(self, run: Run) -> None:
        self.description = run.description
        self.start: dict[str, Any] = {}
        self.end: dict[str, Any] | None = None
        self.validations: list[tuple[int, float]] = []
        self.score = ""
        self.iteration, self.elapsed = 0, 0.0
        for event in run.events():
            kind = event["kind"]
            self.elapsed = event.get("elapsed", self.elapsed)
            if kind == "start":
                self.start = event
            elif kind == "resume":
                self.end = None
            elif kind == "end":
                self.end = event
                self.iteration = max(self.iteration, event.get("iteration", 0))
            elif kind == "update":
                self.iteration = max(self.iteration, event["iteration"] + len(event.get("loss", ())))
            elif kind == "validation":
                self._add(event)

    def _add(self, event: dict[str, Any]) -> None:
        known = ("mae", "pinball", "loss", "nats")
        self.score = self.score or next((name for name in known if math.isfinite(number(event.get(name)))), "")
        value = number(event.get(self.score))
        if math.isfinite(value):
            self.validations.append((event["iteration"], value))


def _resource(name: str) -> str:
    return resources.files("elman.reports").joinpath(name).read_text(encoding="utf-8").replace("\r\n", "\n")


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _title(description: dict[str, Any], evaluation: dict[str, Any]) -> str:
    series = description.get("series", {})
    target = evaluation.get("target") or series.get("target") or "A forecast"
    horizon = evaluation.get("horizon") or series.get("horizon")
    return f"{target}, {horizon} ahead" if horizon else str(target)


def _notice(run: Run, log: _Log) -> str:
    if log.end is not None:
        return ""
    resume = f"elman train --resume {shlex.quote(str(run.path))}"
    return (
        f'<p class="notice"><b>This run has not ended.</b> The page shows it as it was at update {log.iteration:,}. '
        f"If nothing is training it any more, <code>{html.escape(resume)}</code> goes on from there.</p>"
    )


def _headline(evaluation: dict[str, Any], log: _Log) -> str:
    test = evaluation.get("test") or {}
    parts = []
    if evaluation.get("verdict"):
        lost = " lost" if number(test.get("skill")) < 0 else ""
        parts.append(f'<p class="lead{lost}">{html.escape(str(evaluation["verdict"]))}</p>')
    unit = unit_words(str(evaluation.get("unit") or ""))
    error, of_part = number(test.get("mae")), "on the test part, which it was never chosen by"
    if not math.isfinite(error):
        error, of_part = number((evaluation.get("validation") or {}).get("mae")), "on the validation part"
    if math.isfinite(error):
        words = f"{error:.3g} {html.escape(unit)}".rstrip()
        parts.append(
            f'<p class="headline"><strong>{words}</strong><span class="equal">mean absolute error {of_part}</span></p>'
        )
    elif log.validations:
        best = min(value for _, value in log.validations)
        name = _SCORES.get(log.score, log.score)
        parts.append(
            f'<p class="headline"><strong>{best:.3g}</strong><span class="equal">{html.escape(name)}, the best so far</span></p>'
        )
    if not parts:
        return '<p class="headline">Nothing has been measured yet.</p>'
    return "\n".join(parts)


_SCORES = {
    "mae": "mean absolute error on the validation part",
    "pinball": "quantile loss on the validation part",
    "loss": "loss on the validation part",
    "nats": "loss on the validation part",
}


def _sections(run: Run, log: _Log, evaluation: dict[str, Any]) -> list[tuple[str, str, str]]:
    return [
        ("against", "Against simpler methods", _scores(evaluation)),
        ("forecast", "A forecast", _fans(evaluation)),
        ("past", "What it had forecast, and what came", _slices(evaluation)),
        ("errors", "When it errs", _errors(evaluation)),
        ("learning", "How it learned", _learning(log, evaluation)),
        ("data", "The data", _data(evaluation.get("data"))),
        ("facts", "The run", _facts(log) + _settings(log.description)),
        ("next", "Try next", _commands(run)),
    ]


def _scores(evaluation: dict[str, Any]) -> str:
    rows = score_table(evaluation)
    if not rows:
        return '<p class="soft">There is nothing to compare yet.</p>'
    return f"{_bars(rows)}{_table(rows)}{_reading_help(evaluation)}"


def _bars(rows: Sequence[Score]) -> str:
    shown = [row for row in rows if math.isfinite(row.test["mae"])]
    longest = max((row.test["mae"] for row in shown), default=0.0)
    if len(shown) < 2 or longest <= 0:
        return ""
    bars = "".join(
        f'<div{" class=ours" if row.kind == "ours" else ""}><dt>{html.escape(row.name)}</dt><dd class="bar">'
        f'<svg aria-hidden="true"><rect width="{max(0.5, 100 * row.test["mae"] / longest):.1f}%" height="100%" rx="4"/></svg>'
        f'</dd><dd class="value">{row.test["mae"]:.3f}</dd></div>'
        for row in sorted(shown, key=lambda row: -row.test["mae"])
    )
    note = "Mean absolute error on the test part: the shorter the bar, the better."
    return f'<dl class="bars">{bars}</dl><p class="soft small">{note}</p>'


_HEADINGS = {"mae": "MAE", "rmse": "RMSE", "mase": "MASE", "crps": "CRPS"}


def _table(rows: Sequence[Score]) -> str:
    columns = shown_metrics(rows)
    heads = "".join(
        f'<th scope="col">{_HEADINGS.get(metric, metric)}{"<br>validation" if part == "validation" else ""}</th>'
        for part, metric in columns
    )
    body = "".join(
        f'<tr class="{row.kind}"><th scope="row">{html.escape(row.name)}</th>'
        + "".join(f"<td>{shown_figure(metric, getattr(row, part)[metric])}</td>" for part, metric in columns)
        + "</tr>"
        for row in rows
    )
    return f'<div class="scroll"><table class="scores"><thead><tr><th></th>{heads}</tr></thead><tbody>{body}</tbody></table></div>'


def _reading_help(evaluation: dict[str, Any]) -> str:
    unit = unit_words(str(evaluation.get("unit") or "")) or "the unit of the target"
    best = best_baseline(evaluation)
    against = f" against {html.escape(best)}" if best else ""
    return (
        f'<p class="soft small">MAE, RMSE, pinball, CRPS and width in {html.escape(unit)}; MASE in errors of the naive forecast. '
        f"Coverage is the share of true values inside the outermost interval, width its mean width, skill the part of the error "
        f"that is saved{against}. All on the test part, except the first column.</p>"
    )


def _fans(evaluation: dict[str, Any]) -> str:
    fans = (evaluation.get("fans") or [])[:MAX_PICTURES]
    if not fans:
        return ""
    pictures = "".join(
        _picture(fan.get("series"), fan_title(fan), fan_svg(fan, "history and forecast")) for fan in fans
    )
    came = ("dot", "what came") if any(fan.get("actual") for fan in fans) else ("", "")
    key = legend(("truth", "measured"), ("median", "forecast"), *band_entries(fans[0]["levels"]), came)
    return f'<div class="card">{pictures}{key}</div>{_left_out(evaluation, "fans")}'


def _slices(evaluation: dict[str, Any]) -> str:
    slices = [part for part in evaluation.get("slices") or [] if part.get("times")][:MAX_PICTURES]
    if not slices:
        return ""
    pictures = "".join(
        _picture(part.get("series"), stretch_of(part["times"]), slice_svg(part, "forecasts and what came"))
        for part in slices
    )
    rivals = {part["baseline"]["name"] for part in slices if part.get("baseline")}
    rival = ("rival", " / ".join(sorted(rivals)))
    key = legend(("truth", "what came"), ("median", "forecast"), *band_entries(slices[0]["levels"], 1), rival)
    ahead = evaluation.get("horizon")
    words = f"Every point was forecast {html.escape(str(ahead))} before. " if ahead else ""
    note = f'<p class="soft small">{words}Target: {html.escape(str(evaluation.get("target") or "?"))}.</p>'
    return f'<div class="card">{pictures}{key}{note}</div>{_left_out(evaluation, "slices")}'


def _left_out(evaluation: dict[str, Any], key: str) -> str:
    more = len(evaluation[key]) - MAX_PICTURES
    return f'<p class="soft small">{more:,} more are in {EVALUATION_NAME}.</p>' if more > 0 else ""


def _picture(series: Any, words: str, drawing: str) -> str:
    caption = html.escape(f"{series} · {words}" if series else words)
    return f'<figure class="picture"><figcaption dir="auto">{caption}</figcaption>{drawing}</figure>'


def _errors(evaluation: dict[str, Any]) -> str:
    panels = error_panels(evaluation)
    if not panels:
        return ""
    drawings = "".join(
        f'<div class="card">{panel_svg(panel, f"mean absolute error by {panel.title}")}</div>' for panel in panels
    )
    others = [line.name for panel in panels[:1] for line in panel.lines if line.kind == "other"]
    entries = [("ours", "this network"), ("best", best_baseline(evaluation)), ("other", ", ".join(others))]
    unit = unit_words(str(evaluation.get("unit") or ""))
    note = f"Mean absolute error on the test part{f', in {unit}' if unit else ''}. The axes do not start at zero."
    return f'<div class="panels">{drawings}</div>{legend(*entries)}<p class="soft small">{html.escape(note)}</p>'


def _learning(log: _Log, evaluation: dict[str, Any]) -> str:
    if len(log.validations) < 2:
        return ""
    references = []
    if log.score == "mae":
        values = (evaluation.get("validation") or {}).get("baselines") or log.start.get("baselines") or {}
        for name, facts in values.items():
            error = number(facts.get("mae") if isinstance(facts, dict) else facts)
            if math.isfinite(error):
                references.append((name, error))
        references = sorted(references, key=lambda pair: pair[1])[:2]  # worse ones would only press the curve flat
    name = _SCORES.get(log.score, log.score)
    drawing = validation_svg(log.validations, f"{name} over the updates", "network", references)
    return f'<div class="card">{drawing}<p class="soft small">{html.escape(name.capitalize())}, over the updates.</p></div>'


def _data(report: Any) -> str:
    if not isinstance(report, dict):
        return ""
    span = number(report.get("span_seconds"))
    facts = [
        ("rows", _count(report.get("rows"))),
        ("series", _count(report.get("series"))),
        ("from", report.get("first")),
        ("to", report.get("last")),
        ("span", f"{span / 86400:,.0f} days" if span >= 86400 else ""),
        ("one row every", report.get("step")),
        ("columns", _count(len(report.get("columns") or ()))),
    ]
    findings = "".join(map(_finding, report.get("findings") or ()))
    listed = (
        f'<ul class="findings">{findings}</ul>' if findings else '<p class="soft">Nothing was found to be wrong.</p>'
    )
    notes = "".join(f'<p class="soft small">{html.escape(str(note))}</p>' for note in report.get("notes") or ())
    return _fact_list(facts) + _coverage(report) + listed + notes


def _coverage(report: dict[str, Any]) -> str:
    shares = report.get("coverage") or []
    if len(shares) < 2 or not report.get("first") or not report.get("last"):
        return ""
    first, last = seconds_of(report["first"]), seconds_of(report["last"])
    marks = [
        ((seconds_of(spot["time"]) - first) / ((last - first) or 1.0), str(finding.get("found")))
        for finding in report.get("findings") or ()
        for spot in finding.get("first") or ()
        if spot.get("time")
    ]
    drawing = coverage_svg(
        shares, [mark for mark in marks if 0 <= mark[0] <= 1], "where the data has rows, and its flaws"
    )
    whole = sum(share for share in numbers(shares) if math.isfinite(share)) / len(shares)
    return (
        f'{drawing}<p class="ends"><span>{html.escape(str(report["first"]))}</span><span>{100 * whole:.4g} % of the rows are there'
        f"</span><span>{html.escape(str(report['last']))}</span></p>"
    )


def _finding(finding: dict[str, Any]) -> str:
    severity = str(finding.get("severity") or "note")
    kind = severity if severity in ("note", "repaired", "problem") else "note"
    done = f": <b>{html.escape(str(finding['done']))}</b>" if finding.get("done") else ""
    return f'<li class="{kind}" dir="auto"><span class="tag">{kind}</span>{html.escape(str(finding.get("found") or ""))}{done}</li>'


def _facts(log: _Log) -> str:
    best = min(log.validations, key=lambda pair: pair[1], default=None)
    return _fact_list(
        [
            ("updates", f"{log.iteration:,}"),
            ("ended", log.end["ending"] if log.end else "not yet"),
            ("time", duration(log.elapsed)),
            ("parameters", _count(log.start.get("parameters"))),
            ("best validation", f"{best[1]:.4g} at update {best[0]:,}" if best else ""),
            ("made with", f"elman {log.description.get('run', {}).get('elman', '?')}"),
        ]
    )


def _fact_list(rows: Sequence[tuple[str, Any]]) -> str:
    items = "".join(f"<div><dt>{html.escape(n)}</dt><dd>{html.escape(str(v))}</dd></div>" for n, v in rows if v)
    return f'<dl class="facts">{items}</dl>'


def _count(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) and value > 0 else ""


def _settings(description: dict[str, Any]) -> str:
    rows = []
    for group, values in description.items():
        if not isinstance(values, dict):
            continue
        rows.append(f'<tr><th colspan="2" scope="colgroup">{html.escape(group)}</th></tr>')
        for name, value in values.items():
            # A report is passed on, and the folders of a home are nobody's business.
            if name in ("inputs", "init", "data_folder") and group == "run":
                value = [Path(str(path)).name for path in (value if isinstance(value, list) else [value])]
            shown = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            shown = shown.lower() if isinstance(value, bool) else shown
            rows.append(f'<tr><th scope="row">{html.escape(name)}</th><td dir="auto">{html.escape(shown)}</td></tr>')
    return f"<details><summary>All settings</summary><table><tbody>{''.join(rows)}</tbody></table></details>"


def _commands(run: Run) -> str:
    folder = shlex.quote(str(run.path))
    rows = [
        ("Forecast from where the data ends:", f"elman forecast {folder}"),
        ("Forecast from newer rows of the same columns:", f"elman forecast {folder} --data NEW.csv"),
    ]
    items = "".join(f"<li>{html.escape(what)}<code>{html.escape(command)}</code></li>" for what, command in rows)
    return f'<ul class="commands">{items}</ul>'

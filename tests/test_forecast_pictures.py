"""Pictures of forecasts: they show the numbers they are given, say what is missing, and the page needs nothing but itself."""

import base64
import copy
import hashlib
import io
import json
import math
import re
from datetime import datetime, timedelta
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w
from rich.console import Console

from elman.errors import RunError
from elman.reports.drawing import bands_of, limits, pieces, seconds_of, shown_bands, time_ticks
from elman.reports.forecast_svg import coverage_svg, fan_svg, panel_svg, slice_svg
from elman.reports.forecast_terminal import print_fan, print_slices
from elman.reports.forecasts import (
    best_baseline,
    error_figure,
    error_panels,
    fan_figure,
    print_scores,
    score_table,
    slices_figure,
)
from elman.reports.series_report import EVALUATION_NAME, write_series_report

LEVELS = [0.05, 0.25, 0.5, 0.75, 0.95]
OFFSETS = np.array([-3.0, -1.0, 0.0, 1.0, 3.0])
HOSTILE = "</style><script>alert(1)</script><img src=x onerror=alert(2)>&amp;\"'<!--\u2028 [/bold] \x1b[2J é 🎭"


def moments(start: str, count: int) -> list[str]:
    return [(datetime.fromisoformat(start) + timedelta(hours=hour)).isoformat() for hour in range(count)]


def wave(count: int, phase: float = 0.0) -> list[float]:
    return [round(10 + 5 * math.sin(hour / 4 + phase), 3) for hour in range(count)]


def make_fan(steps: int = 24, name: str = "") -> dict[str, Any]:
    times = moments("2016-03-01T00:00:00", 72 + steps)
    values: list[float | None] = [*wave(72)]
    values[30] = None
    median = np.asarray(wave(steps, 1.0))
    return {
        "series": name,
        "origin": times[71],
        "history": {"times": times[:72], "values": values},
        "times": times[72:],
        "levels": LEVELS,
        "quantiles": (median[:, None] + OFFSETS).tolist(),
        "actual": (median + 0.5).tolist(),
    }


def make_slice(name: str = "") -> dict[str, Any]:
    median = np.asarray(wave(168))
    return {
        "series": name,
        "times": moments("2016-12-28T00:00:00", 168),
        "actual": [None, *(median + 0.5).tolist()[1:]],
        "levels": LEVELS,
        "quantiles": (median[:, None] + OFFSETS).tolist(),
        "baseline": {"name": "persistence", "values": wave(168, 0.7)},
    }


def make_evaluation(name: str = "") -> dict[str, Any]:
    def facts(error: float) -> dict[str, Any]:
        return {
            "mae": error, "rmse": 1.3 * error, "mase": error / 2, "pinball": 0.3 * error, "crps": 0.7 * error, "coverage": 0.9,
            "width": 4 * error, "skill": None,
        }  # fmt: skip

    baselines = {"persistence": 2.6, "climatology": 3.0, "ridge on lags": 2.4}

    def curve(factors: list[float]) -> dict[str, list[float]]:
        return {who: [error * factor for factor in factors] for who, error in {**baselines, "network": 2.0}.items()}

    part = {**facts(2.0), "baselines": {who: facts(error) for who, error in baselines.items()}}
    return {
        "target": "T (degC)",
        "unit": "degC",
        "horizon": "24h",
        "verdict": "The network is better than every baseline.",
        "test": {**part, "skill": 1 / 6, "best_baseline": "ridge on lags"},
        "validation": part,
        "by_horizon": {"rows": [1, 2, 3, 4], "mae": curve([0.25, 0.5, 0.75, 1.0])},
        "by_hour": {"hours": list(range(24)), "mae": curve([1 + hour / 24 for hour in range(24)])},
        "by_month": {"months": [1, 2, 4], "mae": curve([1.0, 1.1, 0.9])},
        "fans": [make_fan(name=name)],
        "slices": [make_slice(name)],
        "data": {
            "rows": 9000, "series": 1, "first": "2015-01-01 00:10", "last": "2016-01-11 00:10", "span_seconds": 32_400_000.0,
            "step": "1h", "columns": [{"name": "T (degC)"}], "coverage": [1.0, 0.5, None, 1.0], "notes": ["times read as %d.%m.%Y"],
            "findings": [{
                "kind": "gaps", "count": 20, "severity": "repaired", "found": f"2 gaps {name}", "done": "kept as missing",
                "first": [{"row": 4, "place": "line 6", "time": "2015-05-01 00:10", "value": None}],
            }],
        },
    }  # fmt: skip


class Page(HTMLParser):
    """Reads a page strictly: what is opened is closed, in order. Collects elements and words."""

    VOID = frozenset({"meta", "br"})

    def __init__(self, source: str) -> None:
        HTMLParser.__init__(self)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words = self.style = ""
        self.feed(source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "style":
            self.style += data
        else:
            self.words += data

    def tags(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def make_run(path: Path, evaluation: dict[str, Any] | None, *, ended: bool = True, target: str = "T (degC)") -> Path:
    path.mkdir()
    description = {
        "run": {"elman": "9.9", "inputs": ["/home/someone/w.csv"]},
        "series": {"target": target, "horizon": "24h"},
    }
    (path / "config.toml").write_text(tomli_w.dumps(description))
    events: list[dict[str, Any]] = [
        {"kind": "start", "parameters": 12_345},
        {"kind": "update", "iteration": 0, "loss": [1.0] * 300, "elapsed": 3.0},
        *({"kind": "validation", "iteration": at, "mae": 2 + 100 / at, "elapsed": at / 100} for at in (100, 200, 300)),
    ]
    if ended:
        events.append({"kind": "end", "ending": "budget", "iteration": 300, "elapsed": 3.1})
    (path / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    if evaluation is not None:
        (path / EVALUATION_NAME).write_text(json.dumps(evaluation))
    return path


def read(run: Path) -> Page:
    return Page(write_series_report(run).read_text("utf-8"))


# ------------------------------------------------------------------------------------------- figures


def test_a_fan_shows_history_bands_median_and_truth() -> None:
    fan = make_fan()
    axes = fan_figure(fan, target="T (degC)", unit="degC").axes[0]
    lines = {line.get_label(): line for line in axes.lines}
    assert np.isnan(lines["measured"].get_ydata()[30])
    assert np.nanmax(np.abs(lines["measured"].get_ydata() - np.asarray(fan["history"]["values"], float))) == 0
    assert list(lines["forecast"].get_ydata()) == [row[2] for row in fan["quantiles"]]
    assert list(lines["what came"].get_ydata()) == fan["actual"]
    assert [band.get_label() for band in axes.collections] == ["90 % interval", "50 % interval"]
    assert axes.get_ylabel() == "T (degC)"  # the unit stands in the name already
    assert axes.get_title(loc="left") == "forecast of 3 March 2016, 23:00"


def test_a_fan_of_one_step_is_a_bar() -> None:
    fan = {**make_fan(1, "station 4"), "actual": None}
    axes = fan_figure(fan, target="load", unit="MW").axes[0]
    bar = next(line for line in axes.lines if line.get_label() == "90 % interval")
    assert list(bar.get_ydata()) == [fan["quantiles"][0][0], fan["quantiles"][0][-1]]
    assert "what came" not in {line.get_label() for line in axes.lines}
    assert axes.get_ylabel() == "load, MW"
    assert axes.get_title(loc="left").startswith("station 4: ")


@pytest.mark.parametrize("count", [0, 1, 3])
def test_slices_stand_below_each_other(count: int) -> None:
    figure = slices_figure([make_slice()] * count, target="T (degC)")
    assert len(figure.axes) == max(1, count)
    if count:
        labels = {line.get_label() for line in figure.axes[0].lines}
        assert labels == {"persistence", "forecast", "what came"}
        assert figure.axes[0].get_title(loc="left") == "28 December 2016 to 3 January 2017"


def test_errors_have_a_panel_for_each_quantity() -> None:
    evaluation = make_evaluation()
    figure = error_figure(evaluation)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["rows ahead", "hour of the day", "month"]
    assert figure.axes[0].lines[-1].get_label() == "this network"
    assert figure.axes[0].lines[-2].get_label() == "ridge on lags"
    assert list(figure.axes[0].lines[-1].get_ydata()) == [0.5, 1.0, 1.5, 2.0]
    # A month without a score is a hole, not a line drawn over it.
    assert error_panels(evaluation)[2].places == [1, 2, 3, 4]
    assert np.isnan(error_panels(evaluation)[2].lines[-1].values).tolist() == [False, False, True, False]
    del evaluation["by_month"]
    evaluation["by_horizon"] = {"rows": [24], "mae": {"network": [2.0]}}
    assert [axes.get_title(loc="left") for axes in error_figure(evaluation).axes] == ["hour of the day"]
    assert error_panels({}) == []
    buffer = io.BytesIO()
    error_figure({}).savefig(buffer, format="png")
    assert buffer.getvalue().startswith(b"\x89PNG")


def test_figures_can_be_saved_as_png_and_svg() -> None:
    evaluation = make_evaluation()
    for figure in (
        fan_figure(evaluation["fans"][0], target="T (degC)"),
        slices_figure(evaluation["slices"]),
        error_figure(evaluation),
    ):
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg")
        assert b"</svg>" in buffer.getvalue()


# -------------------------------------------------------------------------------------------- scores


def test_the_table_of_scores_has_the_network_first_and_then_the_best() -> None:
    rows = score_table(make_evaluation())
    assert [row.name for row in rows] == ["this network", "ridge on lags", "persistence", "climatology"]
    assert [row.kind for row in rows] == ["ours", "best", "other", "other"]
    assert rows[0].test["skill"] == pytest.approx(1 / 6)
    assert math.isnan(rows[1].test["skill"])
    assert score_table({}) == []
    assert best_baseline({"test": {"baselines": {"a": {"mae": None}, "b": {"mae": 2}, "c": {"mae": 1}}}}) == "c"


def test_the_table_of_scores_fits_into_80_columns() -> None:
    stream = io.StringIO()
    print_scores(make_evaluation(), Console(file=stream, width=80))
    lines = stream.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    ours = next(line for line in lines if line.startswith("this network"))
    assert ours.split()[2:] == ["2.000", "2.000", "2.600", "1.000", "0.600", "1.400", "90.0%", "8.000", "+16.7%"]
    print_scores({}, Console(file=stream))
    assert stream.getvalue().splitlines() == lines


# ------------------------------------------------------------------------------------------ terminal


@pytest.mark.parametrize("width", [40, 80, 200])
@pytest.mark.parametrize("steps", [1, 24])
def test_a_fan_in_the_terminal_keeps_to_its_width(width: int, steps: int) -> None:
    stream = io.StringIO()
    print_fan(make_fan(steps, "[/bold] 4"), Console(file=stream, width=width), target="T (degC)")
    lines = stream.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    assert "[/bold] 4" in " ".join(lines)
    picture = "\n".join(lines[1:16])
    assert "░" in picture
    assert "•" in picture
    assert any(0x2800 < ord(sign) < 0x2900 for sign in picture)


def test_the_terminal_shows_each_value_where_it_is() -> None:
    """A rising line of four days: dots from the lower left to the upper right, what came on the line in the middle."""
    times = moments("2016-03-01T00:00:00", 97)
    part = {
        "series": "", "times": times, "levels": [0.1, 0.5, 0.9], "actual": [None] * 48 + [48.0] + [None] * 48,
        "quantiles": [[hour - 1, hour, hour + 1] for hour in range(97)], "baseline": None,
    }  # fmt: skip
    stream = io.StringIO()
    print_slices([part], Console(file=stream, width=80))
    lines = stream.getvalue().splitlines()
    plot = [re.split("[┤│]", line, maxsplit=1)[1] for line in lines[1:15]]
    heights = {x: y for y, line in enumerate(plot) for x, sign in enumerate(line) if 0x2800 < ord(sign) < 0x2900}
    columns = sorted(heights)
    assert all(heights[a] >= heights[b] for a, b in pairwise(columns))
    assert heights[columns[0]] == 13
    assert heights[columns[-1]] == 0
    [(x, y)] = [(x, y) for y, line in enumerate(plot) for x, sign in enumerate(line) if sign == "•"]
    assert abs(x - max(columns) / 2) <= 1
    assert y in (6, 7)
    assert lines[15].split() == ["1", "Mar", "2", "Mar", "3", "Mar", "4", "Mar", "5", "Mar"]


def test_a_plain_terminal_gets_plain_signs() -> None:
    stream = io.TextIOWrapper(io.BytesIO(), "ascii")
    print_slices([make_slice()], Console(file=stream, width=70), target="T (degC)")
    stream.flush()
    stream.seek(0)
    text = stream.read()
    assert "*" in text
    assert "o what came" in text


# --------------------------------------------------------------------------------------------- parts


def test_bands_are_nested_around_the_middle() -> None:
    assert bands_of([0.5]) == []
    assert bands_of([0.1, 0.9]) == [(0, 1)]
    levels = [0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95]
    assert shown_bands(levels) == [(0, 10), (2, 8), (4, 6)]


def test_what_is_missing_cuts_a_line() -> None:
    nan = math.nan
    assert list(pieces([1, 2, 3, 4], [5, nan, 6, 7])) == [[(1, 5)], [(3, 6), (4, 7)]]
    assert limits([nan], []) == (0.0, 1.0)
    assert limits([3.0]) == (1.5, 4.5)


@pytest.mark.parametrize("hours", [0.05, 0.5, 5, 30, 100, 1000, 10_000, 100_000, 1_000_000])
def test_times_on_an_axis_are_round_and_few(hours: float) -> None:
    first = seconds_of("2016-02-27T05:17:00")
    ticks = time_ticks(first, first + 3600 * hours, 6)
    assert 1 <= len(ticks) <= 8
    assert all(first <= place <= first + 3600 * hours for place, _ in ticks)
    assert all(a < b and before != after for (a, before), (b, after) in pairwise(ticks))


def test_a_fan_on_the_page_stands_in_its_frame() -> None:
    drawing = fan_svg(make_fan(), "fan")
    assert drawing.count("<svg") == 2
    wide, narrow = re.findall(r"<svg.*?</svg>", drawing)
    for picture, width, height in ((wide, 760, 340), (narrow, 380, 270)):
        for points in re.findall(r'points="([^"]+)"', picture):
            places = np.asarray([pair.split(",") for pair in points.split()], float)
            assert (places >= 0).all()
            assert (places[:, 0] <= width).all()
            assert (places[:, 1] <= height).all()
        assert picture.count('class="fan"') == 2
        assert picture.count('<circle class="truth"') == 24
    assert wide.count('<polyline class="truth"') == 2  # the hole in the history cuts it
    assert 'class="fan" x=' in fan_svg(make_fan(1), "bar")


def test_a_bar_of_coverage_shows_small_holes() -> None:
    drawing = coverage_svg([1.0, 0.99, None, 1.0], [(0.5, "a <gap>")], "rows")
    heights = re.findall(r'class="whole"[^>]* height="([0-9.]+)"', drawing)
    assert heights == ["22.0", "19.8", "22.0"]
    assert "a &lt;gap&gt;" in drawing


def test_pictures_of_nothing_but_holes_can_be_drawn() -> None:
    fan = make_fan()
    fan["history"]["values"] = [None] * 72
    fan["quantiles"] = [[None] * 5] * 24
    fan["actual"] = [None] * 24
    part = {**make_slice(), "actual": [None] * 168, "baseline": None}
    assert "<svg" in fan_svg(fan, "fan") + slice_svg(part, "slice")
    assert fan_figure(fan, target="x").axes
    print_fan(fan, Console(file=io.StringIO(), width=80))
    assert "<svg" in panel_svg(error_panels(make_evaluation())[0], "errors")


# ---------------------------------------------------------------------------------------------- page


def test_the_page_says_the_verdict_first_and_shows_everything(tmp_path: Path) -> None:
    page = read(make_run(tmp_path / "run", make_evaluation()))
    order = [
        "The network is better than every baseline.", "2 °C", "Against simpler methods", "ridge on lags", "A forecast",
        "What it had forecast, and what came", "When it errs", "How it learned", "The data", "2 gaps", "kept as missing", "The run",
    ]  # fmt: skip
    places = [page.words.index(words) for words in order]
    assert places == sorted(places)
    assert len([svg for svg in page.tags("svg") if "narrow" in str(svg.get("class"))]) == 3
    assert "12,345" in page.words
    assert "best validation" in page.words
    assert "w.csv" in page.words
    assert "/home/someone" not in page.words


def test_the_page_runs_and_fetches_nothing(tmp_path: Path) -> None:
    page = read(make_run(tmp_path / "run", make_evaluation()))
    policy = next(str(meta["content"]) for meta in page.tags("meta") if "http-equiv" in meta)
    digest = base64.b64encode(hashlib.sha256(page.style.encode()).digest()).decode()
    assert policy == f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    assert {"script", "link", "img", "iframe"}.isdisjoint(tag for tag, _ in page.elements)
    for _, attributes in page.elements:
        assert {"style", "href", "src"}.isdisjoint(attributes)
        assert not any(name.startswith("on") for name in attributes)


def test_names_are_data(tmp_path: Path) -> None:
    evaluation = make_evaluation(HOSTILE)
    evaluation["target"] = evaluation["unit"] = evaluation["verdict"] = evaluation["horizon"] = HOSTILE
    for part in ("test", "validation"):
        evaluation[part]["baselines"][HOSTILE] = {"mae": 1.0}
    for key in ("by_horizon", "by_hour", "by_month"):
        evaluation[key]["mae"][HOSTILE] = evaluation[key]["mae"].pop("persistence")
    evaluation["slices"][0]["baseline"]["name"] = evaluation["test"]["best_baseline"] = HOSTILE
    page = read(make_run(tmp_path / "run", evaluation, target=HOSTILE))
    plain = read(make_run(tmp_path / "plain", make_evaluation()))
    assert {tag for tag, _ in page.elements} == {tag for tag, _ in plain.elements}
    assert "<img src=x onerror=alert(2)>" in page.words


def test_a_network_that_loses_is_marked(tmp_path: Path) -> None:
    evaluation = make_evaluation()
    evaluation["test"]["skill"] = -0.05
    evaluation["verdict"] = "A baseline wins."
    assert "lead lost" in [
        attributes.get("class") for attributes in read(make_run(tmp_path / "run", evaluation)).tags("p")
    ]


def test_a_run_that_is_training_has_a_page(tmp_path: Path) -> None:
    page = read(make_run(tmp_path / "run", None, ended=False))
    assert "This run has not ended." in page.words
    assert "There is nothing to compare yet." in page.words
    assert "2.33" in page.words
    assert "A forecast" not in page.words.replace("A forecaster", "")
    (tmp_path / "run" / "events.jsonl").unlink()
    assert "Nothing has been measured yet." in read(tmp_path / "run").words


@pytest.mark.parametrize("key", list(make_evaluation()))
def test_what_an_evaluation_lacks_is_left_out(tmp_path: Path, key: str) -> None:
    evaluation = make_evaluation()
    del evaluation[key]
    assert "The run" in read(make_run(tmp_path / "run", evaluation)).words
    evaluation[key] = None
    (tmp_path / "run" / EVALUATION_NAME).write_text(json.dumps(evaluation))
    assert "The run" in read(tmp_path / "run").words


def test_a_damaged_evaluation_is_named(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", make_evaluation())
    (run / EVALUATION_NAME).write_text("{")
    with pytest.raises(RunError, match=r"evaluation.json cannot be read: .*; `elman evaluate` writes it anew"):
        write_series_report(run)
    (run / EVALUATION_NAME).write_text("[]")
    with pytest.raises(RunError, match="it holds no JSON object"):
        write_series_report(run)
    broken = copy.deepcopy(make_evaluation())
    del broken["fans"][0]["levels"]
    (run / EVALUATION_NAME).write_text(json.dumps(broken))
    with pytest.raises(RunError, match=r"not as `elman evaluate` writes it \(KeyError: 'levels'\)"):
        write_series_report(run)


def test_a_run_of_many_series_has_a_page_of_bounded_size(tmp_path: Path) -> None:
    evaluation = make_evaluation()
    evaluation["fans"] *= 500
    evaluation["slices"] *= 500
    path = write_series_report(make_run(tmp_path / "run", evaluation), tmp_path / "page.html")
    assert path == tmp_path / "page.html"
    assert path.stat().st_size < 1_000_000
    assert "488 more are in evaluation.json." in Page(path.read_text("utf-8")).words

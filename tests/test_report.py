"""The report of a run: its figures are the log's, its text is data, it needs nothing from outside, and it stays small."""

import base64
import hashlib
import json
import math
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w

from elman.errors import RunError
from elman.reports import curves, report, write_report
from elman.text.run import TextRun

Event = dict[str, Any]

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>&amp;\"'<!--\u2028\u2029 [/bold] \x1b[2J é 🎭"
BASELINES = {
    "uniform": 4.174,
    "unigram": 3.309,
    "ngram": 1.534,
    "ngram_order": 6,
    "by_order": {"1": 3.309, "6": 1.534},
    "trained_on": 1_000_000,
    "scored_on": 111_540,
}


class Page(HTMLParser):
    """Reads a page strictly: what is opened is closed, in order. Collects elements and the text outside of scripts."""

    VOID = frozenset({"meta", "input", "br", "link"})

    def __init__(self, source: str) -> None:
        HTMLParser.__init__(self)
        self.source = source
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.raw: dict[str, list[str]] = {"script": [], "style": []}
        self.pre: list[str] = []
        self.words = ""
        self.feed(source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)
        if tag in self.raw:
            self.raw[tag].append("")
        if tag == "pre":
            self.pre.append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        inside = self.open[-1] if self.open else ""
        if inside in self.raw:
            self.raw[inside][-1] += data
        else:
            self.words += data
            if inside == "pre":
                self.pre[-1] += data

    @property
    def data(self) -> dict[str, Any]:
        """What the page's script reads."""
        return json.loads(self.raw["script"][0])

    def count(self, tag: str, kind: str = "") -> int:
        return sum(
            name == tag and kind in (attributes.get("class") or "").split(" ") for name, attributes in self.elements
        )


def make_run(path: Path, events: list[Event], **tables: dict[str, Any]) -> TextRun:
    path.mkdir(parents=True, exist_ok=True)
    description = {
        "run": {"format": 1, "task": "text", "elman": "0.1.0", "inputs": ["/home/somebody/tale.txt"]},
        "network": {"cell": "gru", "hidden": 64, "layers": 1},
        "training": {"batch": 4, "unroll": 25, "reduction": "mean", **tables.get("training", {})},
        "text": {"unit": "character", **tables.get("text", {})},
    }
    (path / "config.toml").write_text(tomli_w.dumps(description), encoding="utf-8")
    lines = "".join(json.dumps(event) + "\n" for event in events)
    (path / "events.jsonl").write_text(lines, encoding="utf-8")
    return TextRun(path)


def start(**baselines: float) -> Event:
    return {
        "kind": "start",
        "parameters": 29249,
        "training_symbols": 1_003_854,
        "held_out_symbols": 111_540,
        "vocabulary_size": 65,
        "baselines": baselines or BASELINES,
    }


def update(iteration: int, losses: list[float]) -> Event:
    facts = {"learning_rate": 0.006, "gradient_norm": 0.4, "symbols_per_second": 17_400.0, "elapsed": iteration / 10}
    return {"kind": "update", "iteration": iteration, "loss": losses, **facts}


def sample(iteration: int, text: str) -> Event:
    return {"kind": "sample", "iteration": iteration, "text": text, "elapsed": iteration / 10}


def validation(iteration: int, nats: float) -> Event:
    return {"kind": "validation", "iteration": iteration, "nats": nats, "bits": nats / math.log(2)}


def ended(iteration: int) -> Event:
    return {"kind": "end", "ending": "finished", "iteration": iteration, "elapsed": iteration / 10}


def falling(count: int) -> list[float]:
    return [1.4 + 2.7 * math.exp(-index / (count / 5)) for index in range(count)]


def read(run: TextRun) -> Page:
    return Page(write_report(run).read_text(encoding="utf-8"))


@pytest.fixture
def page(tmp_path: Path) -> Page:
    losses = falling(400)
    events = [
        start(),
        *(update(first, losses[first : first + 20]) for first in range(0, 100, 20)),
        sample(100, "zq xw"),
        *(update(first, losses[first : first + 20]) for first in range(100, 400, 20)),
        validation(300, 1.4918),
        sample(300, "To be, or not"),
        validation(400, 1.51),
        sample(400, HOSTILE),
        ended(400),
    ]
    return read(make_run(tmp_path / "run", events))


def test_the_figures_are_those_of_the_log(page: Page) -> None:
    assert "A GRU of 64 units, trained on tale.txt" in page.words
    assert "1.492 nats = 2.152 bits per character on text it had not seen" in page.words
    assert "n-grams up to order 6, by 0.042 nats" in page.words
    for figure in ("4.174", "3.309", "1.534", "29,249", "1,003,854", "40,000", "17.4 k", "40 s", "at update 300"):
        assert figure in page.words
    assert "has not ended" not in page.words


def test_what_is_no_score_is_no_bar(page: Page) -> None:
    assert page.count("rect") == 4
    assert "The n-grams learned from the last 1,000,000 characters of the training text." in page.words


def test_baselines_without_a_score_are_left_out(tmp_path: Path) -> None:
    nothing = {**start(), "baselines": {"uniform": None, "unigram": None, "ngram": None, "ngram_order": None}}
    assert "nothing to compare" in read(make_run(tmp_path, [nothing, update(0, [4.0])])).words


def test_the_timeline_holds_every_sample_with_its_loss(page: Page) -> None:
    samples = page.data["samples"]
    assert [entry["iteration"] for entry in samples] == [100, 300, 400]
    assert [entry["validation"] for entry in samples] == [None, 1.4918, 1.51]
    assert samples[0]["training"] == pytest.approx(np.mean(falling(400)[50:100]))
    assert samples[1]["text"] == "To be, or not"
    slider = next(attributes for tag, attributes in page.elements if tag == "input")
    assert (slider["type"], slider["min"], slider["max"]) == ("range", "0", "2")


def test_hostile_text_stays_text(page: Page) -> None:
    assert page.data["samples"][2]["text"] == HOSTILE
    assert page.pre[-1] == "\n" + HOSTILE.replace("\x1b", "·")
    assert page.count("script") == 2
    assert page.count("img") == 0
    assert "alert(1)</script>" not in page.source
    assert not any(character in page.raw["script"][0] for character in "<>&\u2028\u2029")


def test_hostile_names_stay_names(tmp_path: Path) -> None:
    run = make_run(tmp_path / "$(touch x) <b>", [start(), update(0, [4.0])], text={"unit": "<i>"})
    page = read(run)
    assert page.count("b") <= 1
    assert page.count("i") == 0
    assert "elman samples '" in page.words


def test_the_page_needs_nothing_from_outside(page: Page) -> None:
    assert "http://" not in page.source
    assert "https://" not in page.source
    assert not {"src", "href", "style", "onclick"} & {name for _, attributes in page.elements for name in attributes}
    assert "@import" not in page.source
    assert "url(" not in page.source


def test_the_policy_allows_this_style_and_this_script_only(page: Page) -> None:
    policy = next(a["content"] for t, a in page.elements if t == "meta" and "http-equiv" in a)
    assert policy is not None
    for content in (page.raw["style"][0], page.raw["script"][1]):
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


def test_text_decides_its_own_direction(page: Page) -> None:
    assert all(attributes.get("dir") == "auto" for tag, attributes in page.elements if tag == "pre")


def test_the_folders_of_the_input_are_not_told(page: Page) -> None:
    assert "somebody" not in page.source


def test_a_baseline_that_wins_is_said_to(tmp_path: Path) -> None:
    page = read(make_run(tmp_path, [start(), update(0, falling(10)), validation(10, 1.6), ended(10)]))
    assert "The network does not win here: n-grams up to order 6 is better by 0.066 nats" in page.words


def test_nothing_held_out(tmp_path: Path) -> None:
    events = [start(uniform=math.log(65)), update(0, [3.0] * 60), sample(60, "x"), ended(60)]
    page = read(make_run(tmp_path, events))
    assert "3.000 nats = 4.328 bits per character on the text it was trained on" in page.words
    assert "knowing nothing" in page.words
    assert "letter frequencies" not in page.words


def test_a_sum_of_losses_is_drawn_for_each_symbol(tmp_path: Path) -> None:
    events = [start(uniform=4.17), update(0, [25 * 3.0] * 60)]
    page = read(make_run(tmp_path, events, training={"batch": 1, "reduction": "sum"}))
    assert "3.000 nats" in page.words
    assert {loss for _, loss in page.data["curves"]["linear"]} == {3.0}


@pytest.mark.parametrize(
    "events",
    [
        [],
        [start()],
        [{"kind": "start"}],
        [start(), sample(0, "noise")],
        [start(), update(0, [4.1])],
        [start(), update(0, [4.1, 4.1, 4.1]), validation(3, 4.1)],
        [start(), {"kind": "update", "iteration": 0, "loss": [float("nan"), 2.0]}, sample(2, "")],
        [start(), update(0, [0.0, 0.0]), validation(2, 0.0), sample(2, "\ud800"), ended(2)],
    ],
    ids=["no log", "started", "bare", "one sample", "one update", "flat", "not finite", "zero"],
)
def test_a_run_with_pieces_missing_still_has_a_report(tmp_path: Path, events: list[Event]) -> None:
    page = read(make_run(tmp_path, events))
    assert ("has not ended" in page.words) == (not events or events[-1]["kind"] != "end")
    assert "nan" not in " ".join(value or "" for _, attributes in page.elements for value in attributes.values())


def test_a_long_run_stays_small(tmp_path: Path) -> None:
    losses = falling(100_000)
    events = [start()]
    for first in range(0, 100_000, 200):
        text = f"<&> {first} " + "<&> ünïcödé 🎭 " * 400
        events += [update(first, losses[first : first + 200]), sample(first + 200, text), validation(first + 200, 1.6)]
    run = make_run(tmp_path, [*events, ended(100_000)])
    began = time.monotonic()
    page = read(run)
    assert time.monotonic() - began < 5
    assert len(page.source.encode()) < 2_000_000
    kept = [entry["iteration"] for entry in page.data["samples"]]
    assert (kept[0], kept[-1]) == (200, 100_000)
    assert len(kept) >= 8
    assert f"500 samples were taken; {len(kept)} of them are on this page" in page.words
    assert "more characters are left out here" in page.words
    assert len(page.data["curves"]["linear"]) <= curves.MAX_POINTS


def test_short_samples_are_kept_up_to_the_limit_with_the_lectures_iterations(tmp_path: Path) -> None:
    events = [start(), *(sample(iteration, "word") for iteration in range(100, 50_001, 100)), ended(50_000)]
    kept = {entry["iteration"] for entry in read(make_run(tmp_path, events)).data["samples"]}
    assert {100, 300, 700, 2000, 4000, 8000, 16_000, 32_000, 50_000} <= kept
    assert report.MAX_SAMPLES <= len(kept) < report.MAX_SAMPLES + 12


@pytest.mark.parametrize("levels", [[1.5, 1.5, 1.5, 1.5], [4.1, 1.53, 1.52, 1.4], [4.0, 4.0, 1.4, 1.4]])
def test_labels_never_overlap(levels: list[float]) -> None:
    wanted = sorted(300 - 60 * level for level in levels)
    heights = curves.spread(wanted, 10, 230)
    gaps = np.diff(heights)
    assert (gaps >= curves.LABEL_HEIGHT - 1e-9).all()
    assert heights[-1] <= 230
    assert heights[0] >= 10


def test_thinning_keeps_mean_and_extremes() -> None:
    values = np.random.default_rng(0).normal(size=1000)
    for scale in ("linear", "log"):
        points = curves._thinned(np.arange(1000.0), values, 50, scale)
        assert len(points) <= 50
        assert min(point.low for point in points) == values.min()
        assert max(point.high for point in points) == values.max()
        assert all(point.low <= point.mean <= point.high + 1e-12 for point in points)


def test_the_report_goes_where_it_is_asked_to_or_says_why_not(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", [start()])
    assert write_report(run) == tmp_path / "run" / "report.html"
    assert write_report(run, tmp_path / "other.html").is_file()
    with pytest.raises(RunError, match="missing"):
        write_report(run, tmp_path / "missing" / "report.html")

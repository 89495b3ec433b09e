"""A text run as a person meets it, in Python and in a notebook."""

import json
from pathlib import Path

import pytest
import tomli_w

from elman.text.run import TextRun

EVENTS = [
    {"kind": "start", "parameters": 10, "baselines": {"uniform": 3.0, "unigram": 2.5, "ngram": 2.0, "ngram_order": 3}},
    {"kind": "update", "iteration": 0, "loss": [3.0, 2.9, 2.8]},
    {"kind": "sample", "iteration": 3, "text": "<script>alert(1)</script> سلام"},
    {"kind": "validation", "iteration": 3, "nats": 2.75, "bits": 3.97},
    {"kind": "update", "iteration": 3, "loss": [2.5, 2.4]},
    {"kind": "validation", "iteration": 5, "nats": 2.25, "bits": 3.25},
]


@pytest.fixture
def run(tmp_path: Path) -> TextRun:
    (tmp_path / "config.toml").write_text(tomli_w.dumps({"run": {"task": "text", "format": 1}}))
    (tmp_path / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in EVENTS))
    return TextRun(tmp_path)


def test_a_run_gives_what_its_events_say(run: TextRun) -> None:
    assert run.losses == [3.0, 2.9, 2.8, 2.5, 2.4]
    assert run.validations == [(3, 2.75), (5, 2.25)]
    assert run.best == 2.25
    assert run.baselines["ngram"] == 2.0
    assert [(sample.iteration, sample.text) for sample in run.samples] == [(3, EVENTS[2]["text"])]
    assert "5 updates, best validation 2.2500" in repr(run)


def test_the_figure_draws_losses_validations_and_baselines(run: TextRun) -> None:
    axes = run.figure().axes[0]
    lines = {line.get_label(): line for line in axes.lines}
    assert list(lines["training"].get_ydata()) == run.losses
    assert list(zip(*lines["validation"].get_data(), strict=True)) == run.validations
    levels = {line.get_ydata()[0] for line in axes.lines if len(set(line.get_ydata())) == 1}
    assert levels == {2.5, 2.0}


def test_a_notebook_shows_curve_and_samples_and_runs_nothing_in_them(run: TextRun) -> None:
    shown = run._repr_html_()
    assert "<svg" in shown
    assert "&lt;script&gt;alert(1)&lt;/script&gt; سلام" in shown
    assert "<script" not in shown


def test_a_run_that_has_only_begun_can_be_shown(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("")
    run = TextRun(tmp_path)
    assert (run.losses, run.samples, run.best, run.baselines) == ([], [], None, {})
    assert "not validated yet" in repr(run)
    assert "<svg" in run._repr_html_()

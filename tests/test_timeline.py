"""The timeline of a run in a terminal: which samples it shows, beside which figures, and what it says when there are none."""

import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from rich.console import Console

from elman.reports.timeline import chosen_moments, milestones, read_history, show_timeline, timeline_facts
from elman.text.run import TextRun

Event = dict[str, Any]


def make_run(path: Path, events: list[Event], **training: Any) -> TextRun:
    path.mkdir(parents=True, exist_ok=True)
    settings = {"batch": 1, "unroll": 25, "reduction": "mean", **training}
    description = {"run": {"format": 1, "task": "text", "inputs": ["tale.txt"]}, "training": settings}
    (path / "config.toml").write_text(tomli_w.dumps(description), encoding="utf-8")
    lines = "".join(json.dumps(event, ensure_ascii=False) + "\n" for event in events)
    (path / "events.jsonl").write_text(lines, encoding="utf-8")
    return TextRun(path)


def sample(iteration: int, text: str = "") -> Event:
    return {"kind": "sample", "iteration": iteration, "text": text or f"text of {iteration}", "elapsed": iteration / 10}


def validation(iteration: int, nats: float) -> Event:
    return {"kind": "validation", "iteration": iteration, "nats": nats, "elapsed": iteration / 10}


def update(iteration: int, *losses: float) -> Event:
    return {"kind": "update", "iteration": iteration, "loss": list(losses), "elapsed": iteration / 10}


def shown(run: TextRun, **options: Any) -> str:
    stream = io.StringIO()
    show_timeline(run, Console(file=stream, width=300), **options)
    return stream.getvalue()


def test_facts_carry_the_validation_that_was_known_at_the_time(tmp_path: Path) -> None:
    events = [sample(0), update(0, 3.0, 2.0), sample(100), validation(150, 2.5), sample(300), validation(301, 1.5)]
    facts = timeline_facts(make_run(tmp_path, events))
    assert [fact["iteration"] for fact in facts] == [0, 100, 300]
    assert [fact["validation"] for fact in facts] == [None, None, 2.5]
    assert [fact["training"] for fact in facts] == [None, 2.5, 2.5]
    assert [fact["elapsed"] for fact in facts] == [0.0, 10.0, 30.0]
    assert facts[1]["text"] == "text of 100"
    assert json.loads(json.dumps(facts)) == facts


def test_a_sum_of_losses_is_shown_for_each_symbol(tmp_path: Path) -> None:
    run = make_run(tmp_path, [update(0, 25 * 4.0, 25 * 2.0), sample(2)], reduction="sum")
    assert read_history(run).losses == [4.0, 2.0]
    assert timeline_facts(run)[0]["training"] == 3.0


@pytest.mark.parametrize(
    ("taken", "expected"),
    [
        (range(0, 5001, 10), [100, 300, 700, 2000, 4000, 5000]),
        ([0, 90, 310, 705, 1900, 2500], [90, 310, 705, 1900, 2500]),
        ([0, 30, 60], [0, 60]),
        ([0], [0]),
        ([7000], [7000]),
    ],
)
def test_the_moments_chosen_are_those_nearest_to_the_lectures(
    tmp_path: Path, taken: list[int], expected: list[int]
) -> None:
    moments = read_history(make_run(tmp_path, [sample(iteration) for iteration in taken])).moments
    assert [moment.iteration for moment in chosen_moments(moments)] == expected


def test_milestones_double_behind_2000() -> None:
    assert list(milestones(20_000)) == [100, 300, 700, 2000, 4000, 8000, 16_000]
    assert list(milestones(99)) == []


def test_the_terminal_shows_iteration_loss_and_text(tmp_path: Path) -> None:
    run = make_run(tmp_path, [update(0, 4.0), sample(100, "zxq"), validation(200, 1.4918), sample(300, "To be")])
    output = shown(run)
    assert "update 100" in output
    assert "training 4.000 nats" in output
    assert "update 300 · validation 1.492 nats (2.152 bits)" in output
    assert output.index("zxq") < output.index("To be")
    assert "has not ended" in output


def test_every_sample_or_one(tmp_path: Path) -> None:
    run = make_run(tmp_path, [*(sample(iteration) for iteration in range(0, 1001, 50)), {"kind": "end"}])
    assert shown(run, every=True).count("text of") == 21
    assert shown(run).count("text of") == 4
    one = shown(run, iteration=512)
    assert one.count("text of") == 1
    assert "text of 500" in one
    assert "nearest to update 512" in one
    assert "not ended" not in one


def test_control_characters_and_markup_are_harmless(tmp_path: Path) -> None:
    output = shown(make_run(tmp_path, [sample(100, "\x1b[2Jred [bold]kept[/bold] [/] \x07")]))
    assert "\x1b" not in output
    assert "\x07" not in output
    assert "·[2Jred [bold]kept[/bold] [/] ·" in output


def test_a_long_line_is_folded_and_nothing_of_it_is_lost(tmp_path: Path) -> None:
    """The command's own console does not fold what stands outside of frames."""
    words = [f"word{number}" for number in range(40)]
    stream = io.StringIO()
    run = make_run(tmp_path / "run", [sample(100, " ".join(words))])
    show_timeline(run, Console(file=stream, width=60, soft_wrap=True))
    assert re.findall(r"word\d+", stream.getvalue()) == words


def test_a_run_without_samples_says_so(tmp_path: Path) -> None:
    assert "no samples yet: it is at update 2" in shown(make_run(tmp_path / "young", [update(0, 4.0, 3.0)]))
    assert "due at update 100" in shown(make_run(tmp_path / "empty", []))
    assert "sample_every = 0" in shown(make_run(tmp_path / "none", [update(0, 4.0)], sample_every=0))
    assert timeline_facts(make_run(tmp_path / "facts", [])) == []


def test_a_line_that_is_being_written_is_left_out(tmp_path: Path) -> None:
    run = make_run(tmp_path, [sample(100)])
    with open(tmp_path / "events.jsonl", "a", encoding="utf-8") as file:
        file.write('{"kind": "sample", "iteration": 300, "te')
    assert [fact["iteration"] for fact in timeline_facts(run)] == [100]

"""The pages Train, Write and Forecast in a real browser: from data to a model, from a model to words and to forecasts."""

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from browser import Opened, needs_browser, opened_page, running_studio
from elman.errors import ConfigError, RunError
from elman.series.trainer import train_series
from elman.studio.training import Trainings, checked_name, flags_of, options_of, problem_of
from elman.text.model import TextModel
from elman.text.trainer import train_text
from elman.training.runs import Run
from texts import words

HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of runs with a model of text, whose text holds HTML, and a forecaster."""
    runs = tmp_path_factory.mktemp("work") / "runs"
    text = runs.parent / "text.txt"
    text.write_text(words(400) + HOSTILE * 20)
    train_text(text, run=runs / "letters", steps=40, hidden=12, batch=2, unroll=8, sample_every=0)
    hours = np.arange(500)
    times = pl.datetime_range(pl.datetime(2020, 1, 1), pl.datetime(2021, 1, 1), "1h", eager=True)[:500]
    table = runs.parent / "waves.csv"
    pl.DataFrame({"time": times, "height": np.sin(hours / 4)}).write_csv(table)
    train_series(
        table, run=runs / "waves", target="height", horizon="3h", lookback="12h", hidden=6, batch=2, unroll=12, steps=10
    )
    return runs


# Starting trainings, without a browser ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", " ", "../up", "a/b", "a\\b", ".hidden", "-flag", "a\nb", "x" * 101, "a:b", "<b>"])
def test_names_that_lead_elsewhere_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="a run cannot be called"):
        checked_name(name)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\temp\\war & peace.txt", "war-peace.txt"),
        ("متن.txt", "متن.txt"),
        ("...", "upload"),
        ("<script>.csv", "script.csv"),
        ("", "upload"),
    ],
)
def test_uploaded_names_are_made_harmless(given: str, kept: str, tmp_path: Path) -> None:
    path = Trainings(tmp_path, None).upload_path(given)
    assert (path.name, path.parent) == (kept, tmp_path / ".studio" / "uploads")


def test_settings_become_the_flags_of_the_command_line() -> None:
    from elman.cli import build_parser

    for kind, source in (("text", "text.txt"), ("series", "table.csv")):
        values: dict[str, Any] = {}
        for option in options_of(kind):
            value = option.choices[-1] if option.choices else option.minimum if option.minimum is not None else "x y"
            values[option.name] = (
                not option.default if option.kind is bool else (option.kind(value),) if option.many else value
            )
        parsed = build_parser().parse_args(["train", kind, *flags_of(kind, values), "--", source])
        for name, value in values.items():
            assert getattr(parsed, name) == (list(value) if isinstance(value, tuple) else value), name


def test_an_error_is_laid_at_the_right_field() -> None:
    names = [option.name for option in options_of("text")]
    assert problem_of(ConfigError("hidden = 0 is out of range"), names) == "hidden"
    assert problem_of(ConfigError("something else is wrong"), names) == ""


def test_a_run_is_not_overwritten(folder: Path) -> None:
    with pytest.raises(RunError, match="already a run named 'letters'"):
        Trainings(folder, None).start("text", "text.txt", "letters", {"steps": 1})
    with pytest.raises(ConfigError, match="hidden"):
        Trainings(folder, None).start("text", "text.txt", "new", {"hidden": 0})
    with pytest.raises(ConfigError, match="nothing to train on"):
        Trainings(folder, None).start("text", " ", "new", {})


# In the browser -----------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def address(folder: Path, environment: dict[str, str]) -> Iterator[str]:
    with running_studio(folder, environment) as found:
        yield found


@pytest.fixture
def opened(chromium: Any, address: str) -> Iterator[Opened]:
    with opened_page(chromium, address) as found:
        yield found


@needs_browser
def test_an_uploaded_text_is_trained_on_stopped_and_goes_on(opened: Opened, folder: Path) -> None:
    page = opened.go("/train")
    contents = (words(500) + HOSTILE).encode()
    page.set_input_files("input[type=file]", [{"name": "../../up.txt", "mimeType": "text/plain", "buffer": contents}])
    page.wait_for_selector("text=uploaded: up.txt")
    for label, value in (("hidden", "8"), ("steps", "1000000")):
        page.get_by_label(label).first.fill(value)
    page.get_by_role("textbox", name="Name of the run").fill("from the page")
    page.get_by_role("button", name="Start training").click()
    events = folder / "from the page" / "events.jsonl"
    wait_until(lambda: events.exists() and b'"update"' in events.read_bytes(), 60)
    page.get_by_role("button", name="Stop").click()
    page.wait_for_selector(".state:has-text('over')", timeout=60_000)
    assert Run(folder / "from the page").checkpoints.latest() is not None, "nothing is lost"
    assert Run(folder / "from the page").last_event("end") is None
    before = events.stat().st_size
    page.get_by_role("button", name="Go on").first.click()
    wait_until(lambda: events.stat().st_size > before, 60)
    page.get_by_role("button", name="Stop").click()
    page.wait_for_selector(".state:has-text('over')", timeout=60_000)
    assert not (folder.parent / "up.txt").exists()


def wait_until(condition: Any, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@needs_browser
def test_what_cannot_be_is_said_beside_its_field(opened: Opened) -> None:
    page = opened.go("/train")
    page.get_by_role("button", name="Start training").click()
    page.wait_for_selector("text=there is nothing to train on")
    page.get_by_label("Or a file or folder on this machine").fill("/nowhere/at/all.txt")
    page.get_by_label("hidden").first.fill("many")
    page.get_by_role("button", name="Start training").click()
    page.wait_for_selector(".q-field--error :text('hidden')")


@needs_browser
def test_a_binary_upload_fails_in_the_words_of_the_library(opened: Opened) -> None:
    page = opened.go("/train")
    noise = bytes(range(256)) * 50
    page.set_input_files("input[type=file]", [{"name": "noise.bin", "mimeType": "application/x", "buffer": noise}])
    page.wait_for_selector("text=uploaded: noise.bin")
    page.get_by_role("textbox", name="Name of the run").fill("noise")
    page.get_by_role("button", name="Start training").click()
    page.wait_for_selector("pre:has-text('elman: error')", timeout=40_000)


@needs_browser
def test_a_table_is_described_before_it_is_trained_on(opened: Opened, folder: Path) -> None:
    page = opened.go("/train")
    page.get_by_role("button", name="A forecaster of a table").click()
    page.wait_for_selector("text=Look at the table")
    page.get_by_label("Or a file or folder on this machine").fill(str(folder.parent / "waves.csv"))
    page.get_by_role("button", name="Look at the table").click()
    page.wait_for_selector("text=What is in the table")
    assert page.locator("text=500 × ").count()


@needs_browser
def test_a_model_writes_and_every_character_can_be_asked(opened: Opened, folder: Path) -> None:
    page = opened.go("/write?run=letters")
    page.get_by_label("Text to go on from").fill("the ")
    page.locator("text=How the next character is drawn").click()
    page.get_by_label("Characters", exact=True).fill("120")
    page.get_by_label("Seed").fill("7")
    page.get_by_role("button", name="Write", exact=True).click()
    page.wait_for_selector("text=stands in the training text in pieces", timeout=40_000)
    expected = TextModel.load(folder / "letters").sample("the ", length=120, seed=7, temperature=0.8)
    shown = page.locator(".linked-text").first.inner_text()
    assert re.sub(r"\s|[↵⏎]", "", shown) == re.sub(r"\s", "", expected)
    assert page.locator("#content img, #content script").count() == 0
    page.locator(".linked-text").first.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_selector("text=What could have stood here")


@needs_browser
def test_an_impossible_control_goes_back_to_what_is_possible(opened: Opened) -> None:
    page = opened.go("/write?run=letters")
    page.locator("text=How the next character is drawn").click()
    page.get_by_label("Temperature").fill("-1")
    page.keyboard.press("Tab")
    page.wait_for_function(
        "[...document.querySelectorAll('input')].some(e => e.ariaLabel?.startsWith('Temp') && +e.value === 0)"
    )


@needs_browser
def test_a_forecaster_is_asked_at_any_moment(opened: Opened, folder: Path) -> None:
    page = opened.go("/forecast?run=waves")
    page.wait_for_selector("text=21 January 2020, 19:00", timeout=40_000)
    page.get_by_role("button", name="Earlier").click()
    page.wait_for_selector("text=21 January 2020, 16:00")
    evaluation = json.loads((folder / "waves" / "evaluation.json").read_text())
    assert page.locator("#content").inner_text().count(evaluation["verdict"])
    assert page.locator("table.scores tbody tr").count() > 3


@needs_browser
def test_a_table_that_does_not_fit_is_refused_in_the_words_of_the_library(opened: Opened, folder: Path) -> None:
    other = folder.parent / "other.csv"
    other.write_text("time,depth\n2020-01-01 00:00,1\n2020-01-01 01:00,2\n")
    page = opened.go("/forecast?run=waves")
    page.get_by_label("Table: empty").fill(str(other))
    page.get_by_role("button", name="Forecast", exact=True).click()
    page.wait_for_selector("[role=alert]:has-text('height')", timeout=40_000)


@needs_browser
@pytest.mark.parametrize("path", ["/write", "/forecast", "/inside"])
def test_a_model_that_cannot_be_loaded_is_an_error_in_words(opened: Opened, path: str, folder: Path) -> None:
    broken = folder.parent / "broken.safetensors"
    broken.write_bytes(b"nothing of the kind")
    page = opened.go(f"{path}?run={broken}")
    page.wait_for_selector("[role=alert]:has-text('broken.safetensors')")


@needs_browser
@pytest.mark.parametrize("path", ["/train", "/write?run=letters", "/forecast?run=waves"])
def test_the_pages_fit_a_phone_in_persian(chromium: Any, address: str, path: str) -> None:
    phone = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "cookies": {"elman-language": "fa"}}
    with opened_page(chromium, address, **phone) as opened:
        page = opened.go(path)
        time.sleep(1.0)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert page.evaluate("document.documentElement.dir") == "rtl"

"""The page Runs in a real browser: live curves, the timeline of samples, hostile folders; and the frame that all pages stand in."""

import asyncio
import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from browser import Opened, needs_browser, opened_page, running_studio
from elman.config import Config
from elman.studio.app import Shared, Studio
from elman.studio.runs_index import RunsIndex, WatchedRun
from elman.studio.texts import LANGUAGES, table, translator
from elman.text.trainer import train_text
from elman.training.runs import Run
from texts import words

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\x1b[31m שלום"


def write_run(path: Path, events: list[dict[str, Any]], **settings: Any) -> Path:
    """A run folder with a log made by hand."""
    about = {"format": 1, "task": "text", "elman": "0", "inputs": ["/texts/hand.txt"], "digest": "0"}
    run = Run.create(path, {"run": about, **Config().replace(hidden=8, **settings).to_dict("text")})
    with run.writing() as log:
        for event in events:
            log.write(**event)
    return path


def update(first: int, losses: list[float]) -> dict[str, Any]:
    rates = {"learning_rate": 0.01, "gradient_norm": 0.5, "symbols_per_second": 1000.0}
    return {"kind": "update", "iteration": first, "loss": losses, **rates, "elapsed": 0.1 * first}


BASELINES = {"uniform": 3.0, "unigram": 2.5, "ngram": 2.0, "ngram_order": 3}
BEGUN = [
    {"kind": "start", "time": 0.0, "parameters": 10, "baselines": BASELINES},
    update(0, [3.0, 2.9, 2.8]),
    {"kind": "validation", "iteration": 3, "nats": 2.75, "elapsed": 0.4},
    {"kind": "sample", "iteration": 3, "text": "first sample", "elapsed": 0.4},
    update(3, [2.7, 2.6]),
    {"kind": "sample", "iteration": 5, "text": HOSTILE, "elapsed": 0.6},
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of every sort: made by hand, trained, damaged, no runs at all."""
    runs = tmp_path_factory.mktemp("studio") / "runs"
    write_run(runs / "by-hand", BEGUN)
    write_run(runs / "damaged", BEGUN)
    with (runs / "damaged" / "events.jsonl").open("ab") as file:
        file.write(b'{"kind": "update", "iteration": 5, "loss": "no list"}\n')
    write_run(runs / "<b>bold<", BEGUN)
    (runs / "no-run").mkdir()
    (runs / "no-toml").mkdir()
    (runs / "no-toml" / "config.toml").write_text("= = nonsense")
    (runs / "a file").write_text("not a folder")
    text = runs.parent / "text.txt"
    text.write_text(words())
    train_text(text, run=runs / "trained", steps=30, hidden=8, batch=2, unroll=8, sample_every=10, sample_length=40)
    return runs


# The index, without a browser ---------------------------------------------------------------------------------------------------


def test_a_log_is_read_as_it_grows(tmp_path: Path) -> None:
    run = WatchedRun(write_run(tmp_path / "run", BEGUN))
    first = run.refresh(at_least=0)
    assert (run.iteration, run.best, len(run.samples)) == (5, 2.75, 2)
    np.testing.assert_allclose([y for _, y in run.loss_curve()], [3.0, 2.9, 2.8, 2.7, 2.6], rtol=1e-4)
    assert [x for x, _ in run.loss_curve()] == [1, 2, 3, 4, 5]
    assert run.refresh(at_least=0) == first, "nothing is new"
    events = run.path / "events.jsonl"
    line = json.dumps(update(5, [2.5])).encode()
    with events.open("ab") as file:
        file.write(line[:20])
        file.flush()
        assert run.refresh(at_least=0) == first, "half a line is no line yet"
        file.write(line[20:] + b"\n")
    assert run.refresh(at_least=0) > first
    assert run.iteration == 6


def test_a_log_that_was_cut_off_is_read_anew(tmp_path: Path) -> None:
    run = WatchedRun(write_run(tmp_path / "run", [*BEGUN, update(5, [9.0] * 50)]))
    run.refresh(at_least=0)
    assert run.iteration == 55
    events = run.path / "events.jsonl"
    whole = events.read_bytes().splitlines(keepends=True)
    events.write_bytes(b"".join(whole[:-1]))
    before = run.version
    assert run.refresh(at_least=0) > before
    assert (run.iteration, max(run.curves.losses)) == (5, 3.0)
    longer = json.dumps(update(3, [1.0] * 60)).encode() + b"\n"
    events.write_bytes(b"".join(whole[:4]) + longer)
    run.refresh(at_least=0)
    assert run.iteration == 63, "cut off, and grown beyond where it was, between two looks"
    assert len(run.curves.losses) == 63


def test_what_is_damaged_or_gone_is_said_and_what_was_read_stays(folder: Path, tmp_path: Path) -> None:
    found = {run.name: run for run in RunsIndex(folder).runs()}
    assert {"by-hand", "damaged", "<b>bold<", "trained", "no-run", "no-toml"} == set(found)
    assert "line 7 of events.jsonl is damaged" in found["damaged"].problem
    assert found["damaged"].iteration == 5
    assert found["no-toml"].state == found["no-run"].state == "broken"
    assert (found["by-hand"].state, found["trained"].state) == ("stopped", "finished")
    run = WatchedRun(shutil.copytree(folder / "by-hand", tmp_path / "copy"))
    run.refresh(at_least=0)
    shutil.rmtree(tmp_path / "copy")
    run.refresh(at_least=0)
    assert (run.problem, run.iteration) == ("gone", 5)


def test_a_run_that_is_being_written_is_seen_to_train(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", BEGUN)
    run = WatchedRun(path)
    run.refresh(at_least=0)
    assert run.state == "stopped"
    with Run(path).writing():
        assert run.state == "training"
    assert run.state == "stopped"


def test_long_curves_are_thinned_to_their_means(tmp_path: Path) -> None:
    losses = np.random.default_rng(0).normal(3, 1, size=20_000)
    events = [update(start, losses[start : start + 100].tolist()) for start in range(0, 20_000, 100)]
    run = WatchedRun(write_run(tmp_path / "run", events))
    run.refresh(at_least=0)
    curve = run.loss_curve("linear", 200)
    assert len(curve) == 200
    np.testing.assert_allclose([y for _, y in curve], losses.reshape(200, 100).mean(axis=1), atol=0.02)
    assert len(run.loss_curve("log", 200)) <= 200


def test_who_waits_for_work_ends_with_the_studio(monkeypatch: pytest.MonkeyPatch) -> None:
    studio = Studio(Shared(Path()), "en", translator("en"), {})

    async def answers(work: Callable[[], Any]) -> Any:
        return work()

    async def answers_no_more(work: Callable[[], Any]) -> None:
        return None

    monkeypatch.setattr("elman.studio.app.run.io_bound", answers)
    assert asyncio.run(studio.read(lambda: None)) is None, "what returns nothing is work too"
    assert asyncio.run(studio.compute(int, "7")) == 7
    monkeypatch.setattr("elman.studio.app.run.io_bound", answers_no_more)
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(studio.read(int, "7"))


def test_curves_are_asked_for_while_they_are_read(tmp_path: Path) -> None:
    """Readers and a writer at once: a curve is always whole."""
    run = WatchedRun(write_run(tmp_path / "run", BEGUN))
    stop, failed = threading.Event(), []

    def look() -> None:
        while not stop.is_set():
            try:
                run.refresh(at_least=0)
                run.loss_curve()
                run.block_curve("speed")
            except Exception as error:
                failed.append(error)

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    with Run(run.path).writing() as log:
        for first in range(5, 1500, 5):
            log.write(**update(first, [1.0] * 5))
    stop.set()
    for thread in threads:
        thread.join()
    assert not failed
    run.refresh(at_least=0)
    assert len(run.block_curve("speed", points=10_000)) == len(run.curves.starts) == 301


# The table of texts -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(table()))
def test_every_text_is_there_in_every_language_with_the_same_values(name: str) -> None:
    import string

    texts = table()[name]
    assert set(texts) == set(LANGUAGES)
    values = [
        {field for _, field, _, _ in string.Formatter().parse(text) if field is not None} for text in texts.values()
    ]
    assert all(found == values[0] for found in values)
    assert all(text.strip() for text in texts.values())
    persian = texts["fa"]
    assert "ي" not in persian, "Arabic letters where Persian ones belong"
    assert "ك" not in persian, "Arabic letters where Persian ones belong"


def test_a_name_that_is_not_in_the_table_is_an_error() -> None:
    with pytest.raises(KeyError):
        translator("en")("runs.no_such_text")


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
def test_the_list_shows_every_folder_as_what_it_is(opened: Opened) -> None:
    page = opened.go("/")
    page.wait_for_selector("table.runs")

    def row(name: str) -> str:
        return page.locator("table.runs tbody tr", has=page.get_by_role("link", name=name, exact=True)).inner_text()

    assert "finished" in row("trained")
    assert "stopped" in row("by-hand")
    assert "cannot be read" in row("no-toml")
    assert "stopped" in row("<b>bold<"), "a name is text"
    page.get_by_role("link", name="trained").click()
    page.wait_for_selector("text=From noise to sentences")
    page.wait_for_selector("canvas")


@needs_browser
def test_samples_are_scrubbed_and_never_executed(opened: Opened) -> None:
    page = opened.go("/?run=by-hand")
    sample = page.locator("pre.sample")
    sample.wait_for()
    assert "<script>alert(1)</script>" in sample.inner_text()
    assert "\x1b" not in sample.inner_text()
    page.get_by_role("button", name="Play").focus()
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowLeft")
    page.wait_for_selector("text=first sample")
    assert page.locator("text=update 3").count()
    assert page.locator("main script, main img").count() == 0


@needs_browser
def test_a_run_is_followed_while_it_is_written(opened: Opened, folder: Path) -> None:
    path = write_run(folder / "live", BEGUN)
    page = opened.go("/?run=live")
    page.wait_for_selector("text=stopped")
    with Run(path).writing() as log:
        page.wait_for_selector("text=training now")
        log.write(**update(5, [2.0] * 7))
        page.wait_for_selector("dd:has-text('12')", timeout=3_000)
        log.write("sample", iteration=12, text="the newest words", elapsed=2.0)
        page.wait_for_selector("text=the newest words", timeout=3_000)
    shutil.rmtree(path)
    page.wait_for_selector("text=is not there any more")
    assert page.locator("text=the newest words").count(), "what was read is still shown"


@needs_browser
def test_several_runs_are_compared(opened: Opened) -> None:
    page = opened.go("/")
    for name in ("by-hand", "trained"):
        page.get_by_role("checkbox", name=f"Compare {name}").click()
    page.get_by_role("button", name="Compare the chosen ones").click()
    page.wait_for_selector("text=Runs compared")
    page.wait_for_selector("canvas")


@needs_browser
@pytest.mark.parametrize(
    "address_asked", ["/?run=nobody", "/?compare=nobody|by-hand", "/?run=..%2F..%2Fetc", "/?run=%00"]
)
def test_a_run_that_is_not_there_is_said_to_be_missing(opened: Opened, address_asked: str) -> None:
    page = opened.go(address_asked)
    page.wait_for_selector("text=There is no run")


@needs_browser
def test_language_and_appearance_are_kept(chromium: Any, address: str) -> None:
    with opened_page(chromium, address, color_scheme="light") as opened:
        page = opened.go("/")
        page.get_by_label("Language").select_option("fa")
        page.wait_for_selector("text=اجراها")
        assert page.evaluate("document.documentElement.dir") == "rtl"
        page.get_by_label("ظاهر").select_option("dark")
        page.wait_for_selector("body.body--dark")
        opened.go("/?run=trained")
        page.wait_for_selector("text=از نویز تا جمله")
        assert page.locator("body.body--dark").count()


@needs_browser
@pytest.mark.parametrize("path", ["/", "/?run=trained"])
def test_a_page_fits_a_phone_and_does_not_jump(chromium: Any, address: str, path: str) -> None:
    phone = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}
    with opened_page(chromium, address, **phone) as opened:
        opened.page.add_init_script(
            "window.moved = 0; new PerformanceObserver(list => { for (const entry of list.getEntries()) "
            "window.moved += entry.value; }).observe({type: 'layout-shift', buffered: true})"
        )
        page = opened.go(path)
        time.sleep(1.5)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert page.evaluate("window.moved") < 0.25
        bar = page.locator("nav.pages").bounding_box()
        assert bar["y"] > 700, "the pages stand at the thumb"


@needs_browser
def test_the_keyboard_reaches_the_content(opened: Opened) -> None:
    page = opened.go("/")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    page.wait_for_function("location.hash === '#content'")


@needs_browser
def test_foreign_names_of_the_studio_are_refused(address: str) -> None:
    import urllib.error
    import urllib.request

    request = urllib.request.Request(address, headers={"Host": "evil.example"})
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request)
    with refused.value as answer:
        assert answer.code == 400

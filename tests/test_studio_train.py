"""Trainings that the studio starts, against two clicks at once, uploads of one name, full disks, other processes."""

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from browser import browser, needs_browser, opened_page, running_studio
from elman.errors import DataError, ElmanError, RunError
from elman.studio import training
from elman.studio.training import Started, Trainings, keep_upload
from elman.text.trainer import train_text
from elman.training.runs import Run
from texts import words

SLEEPER = "import time; time.sleep(60)"


@pytest.fixture
def trainings(tmp_path: Path) -> Trainings:
    return Trainings(tmp_path / "runs", None)


@pytest.fixture
def other_process(trainings: Trainings) -> Iterator[Any]:
    """A process whose words are those of a training of the run `mine`, left by a studio that is gone."""
    words = [sys.executable, "-c", SLEEPER, "train", "text", "--run", str(trainings.runs / "mine")]
    process = subprocess.Popen(words)
    while not Path(f"/proc/{process.pid}/cmdline").read_bytes().endswith(b"mine\0"):
        time.sleep(0.01)  # a process that begins has no words yet
    trainings.folder.mkdir(parents=True)
    (trainings.folder / "mine.json").write_text(json.dumps({"process": process.pid}))
    yield process
    process.kill()
    process.wait()


def test_a_process_is_known_by_its_run_and_not_by_its_number_alone(trainings: Trainings, other_process: Any) -> None:
    log = trainings.folder / "x.log"
    assert Started("mine", other_process.pid, log).alive
    assert not Started("min", other_process.pid, log).alive, "part of another run's name"
    assert not Started("mine", os.getpid(), log).alive, "the number belongs to somebody else now"
    with pytest.raises(RunError, match="'mine' is being trained already"):
        trainings.start("text", "text.txt", "mine", {})
    assert trainings.started("mine") == Started("mine", other_process.pid, trainings.folder / "mine.log")
    assert trainings.stop("mine")
    other_process.wait(20)
    assert not trainings.stop("mine")


def test_two_clicks_at_once_begin_one_training(trainings: Trainings, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[Any] = []
    real = subprocess.Popen

    def popen(command: list[str], **options: Any) -> Any:
        process = real([command[0], "-c", SLEEPER, *command[3:]], **options)
        begun.append(process)
        return process

    monkeypatch.setattr(training.subprocess, "Popen", popen)
    together, told = threading.Barrier(2), []

    def click() -> None:
        together.wait()
        try:
            trainings.start("text", "text.txt", "twice", {})
        except ElmanError as error:
            told.append(str(error))

    clicks = [threading.Thread(target=click) for _ in range(2)]
    try:
        for one in clicks:
            one.start()
        for one in clicks:
            one.join()
        assert len(begun) == 1
        assert "trained already" in told[0]
    finally:
        for process in begun:
            process.kill()
            process.wait()


class Upload:
    """What NiceGUI hands over."""

    def __init__(self, name: str, contents: bytes, size: int | None = None, problem: OSError | None = None) -> None:
        self.name, self.contents, self.problem = name, contents, problem
        self.claimed = len(contents) if size is None else size

    def size(self) -> int:
        return self.claimed

    async def save(self, path: Path) -> None:
        await asyncio.sleep(0.01)
        path.write_bytes(self.contents[: 3 if self.problem else None])
        if self.problem:
            raise self.problem


def test_uploads_of_one_name_at_once_do_not_overwrite_each_other(trainings: Trainings) -> None:
    async def both() -> list[Path]:
        return await asyncio.gather(*(keep_upload(trainings, Upload("../a.txt", word)) for word in (b"one", b"two")))

    assert [path.read_bytes() for path in asyncio.run(both())] == [b"one", b"two"]


def test_what_cannot_be_kept_leaves_nothing(trainings: Trainings) -> None:
    huge = Upload("huge.txt", b"x", size=training.MOST_UPLOADED + 1)
    for upload, said in ((huge, "give its path"), (Upload("empty.txt", b""), "is empty")):
        with pytest.raises(DataError, match=said):
            asyncio.run(keep_upload(trainings, upload))
    assert not trainings.folder.exists()
    full = Upload("full.txt", b"much text", problem=OSError(28, "No space left on device"))
    with pytest.raises(RunError, match="No space left"):
        asyncio.run(keep_upload(trainings, full))
    assert list((trainings.folder / "uploads").iterdir()) == []


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(RunError, match="cannot write in"):
        Trainings(tmp_path / "file", None).upload_path("a.txt")


@needs_browser
def test_a_run_that_somebody_else_stopped_goes_on_and_columns_are_named(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    text, table, runs = tmp_path / "text.txt", tmp_path / "table.csv", tmp_path / "runs"
    text.write_text(words(200))
    hours = [f"2020-01-{1 + hour // 24:02}T{hour % 24:02}:00" for hour in range(200)]
    table.write_text("when,<b>height\n" + "".join(f"{hour},{place % 7}\n" for place, hour in enumerate(hours)))
    train_text(text, run=runs / "left", steps=4, hidden=4, batch=2, unroll=8, sample_every=0)
    events = runs / "left" / "events.jsonl"
    kept = [line for line in events.read_text().splitlines() if '"kind": "end"' not in line]
    events.write_text("\n".join(kept) + "\n")
    assert Run(runs / "left").last_event("end") is None
    with running_studio(runs, environment) as address, browser() as chromium, opened_page(chromium, address) as opened:
        page = opened.go("/train")
        page.get_by_label("Name of the run").nth(1).click()
        page.get_by_role("option", name="left").click()
        page.get_by_role("button", name="Go on").click()
        page.get_by_role("button", name="A forecaster of a table").click()
        page.wait_for_selector("text=Look at the table")
        page.get_by_label("Or a file or folder on this machine").fill(str(table))
        page.get_by_role("button", name="Look at the table").click()
        page.wait_for_selector("text=200 × ")
        page.wait_for_selector("text=<b>height")
        page.wait_for_selector("pre:has-text('report:')", timeout=40_000)

"""What the campaign of faults (`benchmarks/campaign.py`, `docs/reliability.md`) found, each as a plain case."""

import os
import time
from pathlib import Path
from typing import Any

import jax
import pytest
import zstandard

from elman.cli import main
from elman.errors import RunError
from elman.series.trainer import resume_series, train_series
from elman.text.trainer import resume_text, train_text
from elman.training.engine import OVERLAP_SECONDS, use_compilation_cache
from elman.training.loop import Trainer
from elman.training.runs import LEFTOVER_SECONDS, Run
from texts import words

LEFTOVER = ".elman-0123456789abcdef.tmp"
PATIENT: dict[str, Any] = {
    "patience": 1,
    "validate_every": 4,
    "checkpoint_every": 4,
    "steps": 400,
    "hidden": 4,
    "batch": 2,
    "unroll": 8,
    "optimizer": "sgd",
    "learning_rate": 30.0,
    "schedule": "constant",
}


class Killed(BaseException):
    """Ends a run in process as a kill would."""


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "words.txt"
    path.write_text(words())
    return path


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "hours.csv"
    rows = (f"2024-01-{1 + hour // 24:02d} {hour % 24:02d}:00,{hour % 24 + hour * 7 % 5}" for hour in range(400))
    path.write_text("time,y\n" + "\n".join(rows) + "\n")
    return path


def test_a_run_killed_while_its_settings_were_written_can_be_started_again(text: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / LEFTOVER).write_bytes(b"[run")
    run = train_text(text, run=tmp_path / "run", steps=2, hidden=4, batch=2, unroll=8, sample_every=0)
    assert len(run.losses) == 2
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.tmp").write_bytes(b"mine")
    with pytest.raises(RunError, match=r"holds notes\.tmp"):
        train_text(text, run=tmp_path / "other", steps=2, hidden=4, batch=2, unroll=8)


def test_what_killed_processes_left_is_removed_and_nothing_that_is_new(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", {"run": {"format": 1}})
    old, new, other = (run.path / name for name in (LEFTOVER, LEFTOVER.replace("0", "f"), ".elman-notes"))
    for path in (old, new, other):
        path.write_bytes(b"x")
    long_ago = time.time() - LEFTOVER_SECONDS - 60
    for path in (old, other):
        os.utime(path, (long_ago, long_ago))
    with run.writing():
        pass
    assert [path.exists() for path in (old, new, other)] == [False, True, True]


def test_a_run_out_of_patience_that_is_killed_before_its_end_takes_no_further_step(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train_text(text, run=tmp_path / "whole", sample_every=0, **PATIENT)
    end = whole.last_event("end")
    assert end is not None
    assert (end["ending"], len(whole.losses)) == ("stopped early", end["iteration"])
    assert len(whole.losses) < PATIENT["steps"]

    def killed(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_finish", killed)
        with pytest.raises(Killed):
            train_text(text, run=tmp_path / "killed", sample_every=0, **PATIENT)
    resumed = resume_text(tmp_path / "killed")
    assert resumed.losses == whole.losses
    assert resumed.validations == whole.validations


def test_a_forecaster_that_stopped_early_and_was_killed_before_its_scores_takes_no_further_step(
    table: Path, tmp_path: Path
) -> None:
    settings = {**PATIENT, "target": "y", "horizon": "2", "lookback": "8"}
    run = train_series(table, run=tmp_path / "run", score=False, **settings)
    before, end = run.losses, run.last_event("end")
    assert end is not None
    assert end["ending"] == "stopped early"
    assert not run.evaluation
    resumed = resume_series(run.path)
    assert resumed.losses == before
    assert resumed.evaluation["verdict"]
    assert [event["ending"] for event in resumed.events("end")][-1] == "stopped early"


@pytest.mark.parametrize(
    "error",
    [MemoryError(), RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes."), OSError(12, "no memory")],
)
def test_too_little_memory_is_said_in_one_line(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(parsed: Any) -> int:
        raise error

    monkeypatch.setattr("elman.commands.info.run", fails)
    assert main(["info"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("elman: error: there is not enough memory")
    assert said.count("\n") == 1
    with pytest.raises(type(error)):
        main(["info", "--debug"])


def test_an_error_that_is_ours_is_not_taken_for_too_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(parsed: Any) -> int:
        raise RuntimeError("a defect")

    monkeypatch.setattr("elman.commands.info.run", fails)
    with pytest.raises(RuntimeError, match="a defect"):
        main(["info"])


def test_a_compiled_program_that_was_cut_off_is_removed_and_compiled_again(tmp_path: Path) -> None:
    folder = tmp_path / "compiled"
    folder.mkdir()
    whole = zstandard.ZstdCompressor().compress(bytes(range(256)) * 40)
    contents = {
        "jit_a-cache": whole,
        "jit_b-cache": whole[:-3],
        "jit_c-cache": b"",
        "notes": b"x",
        "jit_d-cache": b"no frame",
    }
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    used = jax.config.jax_compilation_cache_dir
    try:
        use_compilation_cache(folder)
        assert sorted(path.name for path in folder.iterdir()) == ["jit_a-cache", "looked-through", "notes"]
        old, new = folder / "jit_e-cache", folder / "jit_f-cache"
        for path in (old, new):
            path.write_bytes(whole[:-3])
        before = time.time() - OVERLAP_SECONDS - 60
        os.utime(old, (before, before))
        use_compilation_cache(folder)
        assert (old.exists(), new.exists()) == (True, False), "only what is new is read again"
    finally:
        jax.config.update("jax_compilation_cache_dir", used)

"""A run that was stopped at any moment and resumed gives what an undisturbed one gives, bit for bit."""

import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from elman.errors import DataError
from elman.text.run import TextRun
from elman.text.trainer import resume_text, train_text
from elman.training.progress import Reporter, Status
from elman.training.storage import read_arrays
from texts import words

STEPS = 400
CHECKPOINT_EVERY = 20
DEADLINE_SECONDS = 120.0

# Everything that could come back differently: several streams, both dropouts, the running mean of the weights, samples.
LONG = (
    f"--steps {STEPS} --checkpoint-every {CHECKPOINT_EVERY} --validate-every 50 --block 3 --hidden 10 --batch 3 --unroll 7 "
    "--optimizer adamw --dropout 0.2 --recurrent-dropout 0.1 --average 0.99 --sample-length 30 --seed 5"
).split()

SHORT: dict[str, Any] = {
    "steps": 110,
    "checkpoint_every": 20,
    "validate_every": 30,
    "hidden": 8,
    "batch": 2,
    "unroll": 6,
    "block": 9,
    "sample_length": 20,
}

VARIANTS: dict[str, dict[str, Any]] = {
    "adamw, streams that restart at random places": {
        "optimizer": "adamw",
        "weight_decay": 0.01,
        "stream_length": 40,
        "restart": "random",
    },
    "adagrad, running mean of the weights": {"optimizer": "adagrad", "average": 0.99, "cell": "elman"},
    "sgd, linear schedule, norm and residual": {
        "optimizer": "sgd",
        "schedule": "linear",
        "layers": 2,
        "layer_norm": True,
        "residual": True,
        "cell": "elman",
    },
    "muon, dropout, float64": {"optimizer": "muon", "dropout": 0.3, "cell": "elman", "layers": 2, "dtype": "float64"},
}


class Killed(BaseException):
    """Ends a run in process as a kill would: nothing in between knows it, so nothing is saved on the way out."""


class KillAt(Reporter):
    """Ends the run when update `iteration` is done."""

    def __init__(self, iteration: int) -> None:
        self.iteration = iteration

    def updated(self, status: Status) -> None:
        if status.iteration >= self.iteration:
            raise Killed


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "words.txt"
    path.write_text(words())
    return path


@pytest.fixture(scope="module")
def undisturbed(text: Path, environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> TextRun:
    """The run of 400 updates that nobody stopped."""
    path = tmp_path_factory.mktemp("runs") / "undisturbed"
    process = start(["text", str(text), "--run", str(path), *LONG], environment)
    _, errors = process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == 0, errors
    return TextRun(path)


def test_a_run_killed_at_random_moments_and_resumed_equals_an_undisturbed_one(
    undisturbed: TextRun, text: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    path, arguments, stops = tmp_path / "killed", ["text", str(text), "--run", str(tmp_path / "killed"), *LONG], []
    for _ in range(3):
        goal = updates_done(path) + random.randint(1, 90)
        process = start(arguments, environment)
        wait_until(lambda goal=goal: updates_done(path) >= goal, process)
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        stops.append(updates_done(path))
        arguments = ["--resume", str(path)]
    process = start(arguments, environment)
    _, errors = process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == 0, errors
    assert_same_run(TextRun(path), undisturbed, f"killed at updates {stops}")


def test_an_interrupt_saves_names_the_command_and_loses_nothing(
    undisturbed: TextRun, text: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    path = tmp_path / "interrupted"
    process = start(["text", str(text), "--run", str(path), *LONG], environment)
    wait_until(lambda: updates_done(path) >= 30, process)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == 130
    assert output == ""
    assert errors.splitlines()[-1].endswith(f"elman train --resume {path}")
    assert "Traceback" not in errors
    stopped = TextRun(path)
    checkpoint = stopped.checkpoints.latest()
    assert checkpoint is not None
    assert checkpoint.iteration == len(stopped.losses)
    resume_text(path)
    assert_same_run(TextRun(path), undisturbed, f"interrupted at update {checkpoint.iteration}")


def test_a_run_killed_before_its_first_checkpoint_starts_over(text: Path, tmp_path: Path) -> None:
    whole = train_text(text, run=tmp_path / "whole", **SHORT)
    broken = train_text(text, run=tmp_path / "broken", **SHORT)
    for path in (broken.path / "checkpoints").iterdir():
        path.unlink()
    broken.best_path.unlink()
    log = broken.path / "events.jsonl"
    log.write_bytes(log.read_bytes()[:1000])
    assert_same_run(resume_text(broken.path), whole, "no checkpoint")


def test_a_run_with_given_weights_killed_before_its_first_checkpoint_starts_from_them(
    text: Path, tmp_path: Path
) -> None:
    settings = {**SHORT, "cell": "elman", "steps": 5}
    vocab, hidden, draw = len(set(words())), settings["hidden"], np.random.default_rng(0)
    shapes = {
        "wxh": (hidden, vocab),
        "whh": (hidden, hidden),
        "why": (vocab, hidden),
        "bh": (hidden, 1),
        "by": (vocab, 1),
    }
    np.savez(tmp_path / "init.npz", **{name: draw.normal(size=shape) for name, shape in shapes.items()})  # type: ignore[arg-type]
    whole = train_text(text, run=tmp_path / "whole", init=tmp_path / "init.npz", **settings)
    broken = train_text(text, run=tmp_path / "broken", init=tmp_path / "init.npz", **settings)
    for path in (broken.path / "checkpoints").iterdir():
        path.unlink()
    assert resume_text(broken.path).losses == whole.losses


@pytest.mark.parametrize("settings", VARIANTS.values(), ids=VARIANTS)
def test_every_update_rule_and_way_of_reading_resumes_bit_for_bit(
    settings: dict[str, Any], text: Path, tmp_path: Path
) -> None:
    chosen = {**SHORT, **settings}
    whole = train_text(text, run=tmp_path / "whole", **chosen)
    killed_at = random.randint(21, 100)
    with pytest.raises(Killed):
        train_text(text, run=tmp_path / "parts", reporter=KillAt(killed_at), **chosen)
    assert_same_run(resume_text(tmp_path / "parts"), whole, f"killed at update {killed_at}")


def test_the_size_of_a_block_changes_nothing_and_the_seed_everything(text: Path, tmp_path: Path) -> None:
    settings = {**SHORT, "dropout": 0.2, "stream_length": 50, "restart": "random"}
    first = train_text(text, run=tmp_path / "first", **settings)
    again = train_text(text, run=tmp_path / "again", **settings)
    assert_same_run(again, first, "the same seed twice")
    blocks = train_text(text, run=tmp_path / "blocks", **{**settings, "block": 50, "checkpoint_every": 1000})
    assert blocks.losses == first.losses
    assert blocks.samples == first.samples
    assert blocks.validations == first.validations
    assert_same_arrays(blocks.best_path, first.best_path, "bundle", "another size of block")
    other = train_text(text, run=tmp_path / "other", **{**settings, "seed": 1})
    assert other.losses[0] != first.losses[0]
    assert other.samples != first.samples


def test_a_finished_run_resumes_to_its_own_result(undisturbed: TextRun) -> None:
    before = contents(undisturbed.path)
    result = resume_text(undisturbed.path)
    assert result.best == undisturbed.best
    assert contents(undisturbed.path) == before


def test_a_run_does_not_resume_on_another_text(tmp_path: Path) -> None:
    source = tmp_path / "words.txt"
    source.write_text(words())
    with pytest.raises(Killed):
        train_text(source, run=tmp_path / "run", reporter=KillAt(30), **SHORT)
    before = contents(tmp_path / "run")
    source.write_text(words(seed=2))
    with pytest.raises(DataError, match=r"words\.txt.*restore it, or start a new run"):
        resume_text(tmp_path / "run")
    assert contents(tmp_path / "run") == before


def start(arguments: list[str], environment: dict[str, str]) -> "subprocess.Popen[str]":
    """`elman train …` as a process of its own."""
    command = [sys.executable, "-m", "elman", "train", *arguments]
    return subprocess.Popen(command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def wait_until(happened: Callable[[], bool], process: "subprocess.Popen[str]") -> None:
    """Return as soon as `happened`; the process must still be running then."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not happened():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline, "the process has not come that far"
        time.sleep(0.002)
    assert process.poll() is None, "the process had ended before it could be stopped"


def updates_done(path: Path) -> int:
    """The updates that the log of a run knows of, while it is being written."""
    if not (path / "config.toml").exists():
        return 0
    return sum(len(event["loss"]) for event in TextRun(path).events("update"))


def assert_same_run(found: TextRun, expected: TextRun, circumstance: str) -> None:
    """Losses, validations, samples and arrays are the same, bit for bit."""
    pairs = enumerate(zip(found.losses, expected.losses, strict=True))
    differing = next((index for index, (a, b) in pairs if a != b), None)
    assert differing is None, f"the losses differ from update {differing} on ({circumstance})"
    assert found.validations == expected.validations, circumstance
    assert found.samples == expected.samples, circumstance
    assert_same_arrays(found.best_path, expected.best_path, "bundle", circumstance)
    name = f"checkpoints/{len(expected.losses):09d}.safetensors"
    assert_same_arrays(found.path / name, expected.path / name, "checkpoint", circumstance)


def assert_same_arrays(found: Path, expected: Path, kind: str, circumstance: str) -> None:
    arrays, _ = read_arrays(found, kind=kind)
    others, _ = read_arrays(expected, kind=kind)
    assert arrays.keys() == others.keys(), circumstance
    differing = [name for name in arrays if arrays[name].tobytes() != others[name].tobytes()]
    assert not differing, f"{found.name} differs in {differing} ({circumstance})"


def contents(folder: Path) -> dict[str, bytes]:
    """What every file in a folder holds."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_run_goes_on_where_only_the_environment_had_named_the_data_folder(
    monkeypatch: pytest.MonkeyPatch, shared_data: Path, tmp_path: Path
) -> None:
    monkeypatch.setenv("ELMAN_DATA", str(shared_data))
    settings = {"hidden": 4, "batch": 2, "unroll": 8, "sample_every": 0, "validate_every": 0, "optimizer": "sgd"}
    with pytest.raises(Killed):
        train_text("shakespeare", run=tmp_path / "run", steps=8, checkpoint_every=2, reporter=KillAt(4), **settings)
    monkeypatch.delenv("ELMAN_DATA")
    assert len(resume_text(tmp_path / "run").losses) == 8


def test_the_sample_before_the_first_update_survives_a_kill(text: Path, tmp_path: Path) -> None:
    settings = {"hidden": 4, "batch": 2, "unroll": 8, "sample_every": 5, "validate_every": 0, "optimizer": "sgd"}
    with pytest.raises(Killed):
        train_text(text, run=tmp_path / "run", steps=10, reporter=KillAt(1), **settings)
    assert [sample.iteration for sample in resume_text(tmp_path / "run").samples] == [0, 5, 10]

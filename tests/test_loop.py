"""The training loop: when it ends, what it keeps, what it logs, and what it does when the loss is no number."""

import itertools
import math
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from elman.config import Config
from elman.errors import ConfigError, RunError, TrainingError
from elman.text.model import TextModel, new_network
from elman.text.run import TextRun
from elman.text.scoring import nats_per_symbol
from elman.text.task import TextTask
from elman.text.trainer import Prepared, prepare, train_text
from elman.training.loop import Outcome, Trainer
from elman.training.progress import Reporter, Status
from elman.training.runs import Run
from elman.training.storage import read_arrays

SMALL: dict[str, Any] = {
    "hidden": 8,
    "cell": "elman",
    "batch": 2,
    "unroll": 6,
    "block": 10,
    "optimizer": "adamw",
    "sample_length": 20,
}

# Relu, no clipping and a rate far too high over many steps: the weights leave the range of float32 within a few updates.
EXPLODING: dict[str, Any] = {
    **SMALL,
    "unroll": 60,
    "optimizer": "sgd",
    "activation": "relu",
    "schedule": "constant",
    "learning_rate": 1000.0,
    "clip_norm": 0.0,
    "warmup": 0.0,
}


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    draw = random.Random(3)
    path = tmp_path_factory.mktemp("text") / "words.txt"
    path.write_text("".join(draw.choice(["red ", "blue ", "green ", "sky.\n"]) for _ in range(400)))
    return path


def test_a_budget_in_steps_is_kept_exactly(text: Path, tmp_path: Path) -> None:
    run = train_text(text, run=tmp_path / "run", steps=37, **SMALL)
    assert len(run.losses) == 37
    assert ending(run) == ("finished", 37)


def test_a_budget_in_epochs_reads_the_training_part_that_often(text: Path, tmp_path: Path) -> None:
    run = train_text(text, run=tmp_path / "run", epochs=1.5, **SMALL)
    symbols = run.last_event("start")["training_symbols"]  # type: ignore[index]
    assert len(run.losses) == round(1.5 * symbols / (SMALL["batch"] * SMALL["unroll"]))


def test_a_budget_in_minutes_is_kept_on_the_clock(text: Path, tmp_path: Path) -> None:
    ticks = itertools.count()
    outcome, run = train(text, tmp_path / "run", clock=lambda: float(next(ticks)), **SMALL, minutes=2)
    assert outcome.ending == "finished"
    assert 120 <= outcome.position.elapsed < 120 + 20
    rates = [event["learning_rate"] for event in run.events("update")]
    assert rates[-1] < 0.1 * max(rates), "the rate falls to the end of the minutes"


def test_a_budget_in_minutes_ends_in_about_that_time(text: Path, tmp_path: Path) -> None:
    train_text(text, run=tmp_path / "warm", steps=3, **SMALL)  # compiles
    began = time.monotonic()
    run = train_text(text, run=tmp_path / "run", minutes=0.02, **SMALL)
    assert run.last_event("end")["elapsed"] == pytest.approx(1.2, abs=0.8)  # type: ignore[index]
    assert time.monotonic() - began < 12


def test_two_budgets_are_refused(text: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="one budget"):
        train_text(text, run=tmp_path / "run", steps=3, minutes=1)
    assert not (tmp_path / "run").exists()


def test_patience_ends_a_run_that_no_longer_improves(text: Path, tmp_path: Path) -> None:
    # With a rate this small the weights do not move in float32: no validation is better than the first.
    settings = {**SMALL, "optimizer": "sgd", "learning_rate": 1e-12}
    run = train_text(text, run=tmp_path / "run", steps=1000, validate_every=10, patience=3, **settings)
    assert ending(run) == ("stopped early", 40)
    assert [iteration for iteration, _ in run.validations] == [10, 20, 30, 40]


def test_the_bundle_holds_the_weights_of_the_best_validation(text: Path, tmp_path: Path) -> None:
    # A rate that is held too high: the best validation is not the last.
    settings = {**SMALL, "learning_rate": 0.5, "schedule": "constant", "warmup": 0.0}
    run = train_text(text, run=tmp_path / "run", steps=200, validate_every=20, **settings)
    best_iteration, best = min(run.validations, key=lambda pair: pair[1])
    assert best_iteration < 200
    model = run.model()
    assert model.result["iteration"] == best_iteration
    assert model.result["nats"] == best == run.best
    ready = prepare([str(text)], Config().replace(steps=200, **settings))
    assert nats_per_symbol(model.network, ready.held_out, ready.training) == pytest.approx(best, abs=1e-6)


def test_a_loss_that_is_not_finite_goes_back_three_times_with_half_the_rate_then_stops(
    text: Path, tmp_path: Path
) -> None:
    reporter = Messages()
    with pytest.raises(TrainingError) as caught:
        train_text(text, run=tmp_path / "run", steps=300, checkpoint_every=5, reporter=reporter, **EXPLODING)
    message = str(caught.value)
    assert "update" in message
    assert "the last finite loss was" in message
    assert "--learning-rate" in message
    assert len(reporter.messages) == 3
    for times, said in enumerate(reporter.messages, 1):
        assert f"{0.5**times:g} x the learning rate ({times} of 3)" in said
    run = TextRun(tmp_path / "run")
    assert [event["rate_scale"] for event in run.events("recovery")][-1] == 0.125
    assert all(math.isfinite(loss) for loss in run.losses)
    assert_finite(run)


def test_a_loss_that_is_finite_again_with_a_smaller_rate_goes_on(text: Path, tmp_path: Path) -> None:
    task_breaks_once = BreaksOnce(at=25)
    outcome, run = train(text, tmp_path / "run", task=task_breaks_once, **SMALL, steps=60, checkpoint_every=10)
    assert outcome.ending == "finished"
    recovery = run.last_event("recovery")
    assert recovery is not None
    assert (recovery["iteration"], recovery["failed"], recovery["rate_scale"]) == (20, 25, 0.5)
    assert len(run.losses) == 60
    assert_finite(run)


def test_weights_that_overflow_in_the_last_update_of_a_block_reach_no_checkpoint(text: Path, tmp_path: Path) -> None:
    # Every update is a block and a checkpoint of its own: a step that breaks the weights has a finite loss of its own.
    settings = {**EXPLODING, "block": 1, "checkpoint_every": 1, "validation": 0.0}
    with pytest.raises(TrainingError):
        train_text(text, run=tmp_path / "run", steps=100, **settings)
    assert_finite(TextRun(tmp_path / "run"))


def test_the_timeline_has_samples_at_100_300_700_2000_and_every_doubling(text: Path, tmp_path: Path) -> None:
    run = train_text(text, run=tmp_path / "run", steps=4100, **{**SMALL, "block": 500, "hidden": 4})
    assert [sample.iteration for sample in run.samples] == [100, 300, 700, 2000, 4000, 4100]
    assert {len(sample.text) for sample in run.samples} == {20}


def test_samples_come_as_often_as_asked(text: Path, tmp_path: Path) -> None:
    run = train_text(text, run=tmp_path / "run", steps=50, sample_every=20, **SMALL)
    assert [sample.iteration for sample in run.samples] == [0, 20, 40, 50]
    none = train_text(text, run=tmp_path / "none", steps=50, sample_every=0, **SMALL)
    assert none.samples == []


def test_events_carry_what_their_kinds_promise(text: Path, tmp_path: Path) -> None:
    run = train_text(text, run=tmp_path / "run", steps=120, validate_every=50, checkpoint_every=40, **SMALL)
    events = list(run.events())
    assert events[0]["kind"] == "start"
    assert events[0].keys() >= {"time", "parameters", "vocabulary_size", "training_symbols", "baselines"}
    assert events[0]["parameters"] == run.model().network.parameter_count
    expected = 0
    for event in run.events("update"):
        assert event["iteration"] == expected
        assert event.keys() == {
            "kind",
            "iteration",
            "loss",
            "learning_rate",
            "gradient_norm",
            "symbols_per_second",
            "elapsed",
        }
        expected += len(event["loss"])
    assert expected == 120
    assert [event["iteration"] for event in run.events("validation")] == [50, 100, 120]
    for event in run.events("validation"):
        assert event["bits"] == pytest.approx(event["nats"] / math.log(2))
    assert [event["iteration"] for event in run.events("checkpoint")] == [0, 40, 80, 120]
    end = run.last_event("end")
    assert end is not None
    assert (end["ending"], end["iteration"], end["validation"]) == ("finished", 120, run.best)
    checkpoint = run.checkpoints.latest()
    assert checkpoint is not None
    assert checkpoint.state["ended"] == "finished"


def test_the_smoothed_loss_is_that_of_the_classic_program(text: Path, tmp_path: Path) -> None:
    outcome, run = train(text, tmp_path / "run", **{**SMALL, "reduction": "sum"}, steps=133)
    vocabulary = run.last_event("start")["vocabulary_size"]  # type: ignore[index]
    smooth = -math.log(1.0 / vocabulary) * SMALL["unroll"] * SMALL["batch"]
    for loss in run.losses:
        smooth = smooth * 0.999 + loss * 0.001
    assert outcome.position.smoothed == pytest.approx(smooth, rel=1e-12)


def test_the_classic_preset_reads_every_window_and_samples_every_hundred_updates(text: Path, tmp_path: Path) -> None:
    run = train_text(text, run=tmp_path / "run", preset="min-char-rnn", steps=250, hidden=8)
    assert [sample.iteration for sample in run.samples] == [0, 100, 200, 250]
    assert {len(sample.text) for sample in run.samples} == {200}
    vocabulary = len(set(text.read_text()))
    assert run.losses[0] == pytest.approx(25 * math.log(vocabulary), rel=0.01)
    assert run.validations == []


def test_training_leaves_the_network_it_was_given_untouched(text: Path, tmp_path: Path) -> None:
    ready = prepare([str(text)], Config().replace(steps=5, **SMALL))
    network = new_network(ready.config, ready.encoded.vocabulary.size, 0)
    before = [np.array(leaf) for leaf in jax.tree.leaves(network)]
    train(text, tmp_path / "run", network=network, steps=5, **SMALL)
    for leaf, array in zip(jax.tree.leaves(network), before, strict=True):
        np.testing.assert_array_equal(leaf, array)


def test_a_run_in_use_is_refused_and_free_again_once_its_process_is_killed(text: Path, tmp_path: Path) -> None:
    run = train_text(text, run=tmp_path / "run", steps=3, **SMALL)
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys, time; from elman.training.runs import Run\n"
            "with Run(sys.argv[1]).writing(): print('held', flush=True); time.sleep(600)",
            str(run.path),
        ],
        stdout=subprocess.PIPE,
        text=True,
        env=dict(os.environ),
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(RunError, match="being written by another process"), run.writing():
            pass
        holder.send_signal(signal.SIGKILL)
    with run.writing():
        pass


class Messages(Reporter):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.messages: list[str] = []

    def message(self, text: str) -> None:
        self.messages.append(text)

    def updated(self, status: Status) -> None:
        assert status.loss is not None
        assert math.isfinite(status.loss)


class BreaksOnce(TextTask):
    """A text whose loss is not finite at one update, the first time it is reached."""

    def __init__(self, at: int) -> None:
        self.at, self.broken = at, False

    def begin(self, ready: Prepared) -> "BreaksOnce":
        TextTask.__init__(self, ready.training, ready.held_out, ready.encoded.vocabulary, ready.config)
        return self

    def take(self, update: int, count: int, size: int) -> Any:
        symbols, fresh = TextTask.take(self, update, count, size)
        factor = np.ones(size, np.float32)
        if not self.broken and update <= self.at < update + count:
            self.broken, factor[self.at - update] = True, np.nan
        return symbols, fresh, factor

    def loss(self, network: Any, batch: Any, carry: jax.Array, key: jax.Array | None) -> tuple[jax.Array, jax.Array]:
        symbols, fresh, factor = batch
        loss, carry = TextTask.loss(self, network, (symbols, fresh), carry, key)
        return loss * factor, carry


def train(
    text: Path,
    path: Path,
    *,
    task: BreaksOnce | None = None,
    clock: Any = time.monotonic,
    network: Any = None,
    **settings: Any,
) -> tuple[Outcome, TextRun]:
    """Train with the loop itself, so that the clock, the task or the network may be the test's."""
    ready = prepare([str(text)], Config().replace(**settings))
    run = Run.create(path, ready.config.to_dict())
    ours = (
        TextTask(ready.training, ready.held_out, ready.encoded.vocabulary, ready.config)
        if task is None
        else task.begin(ready)
    )
    network = new_network(ready.config, ready.encoded.vocabulary.size, 0) if network is None else network
    trainer = Trainer(ours, network, ready.config.training, run, reporter=Messages(), facts=ready.facts, clock=clock)
    return trainer.train(), TextRun(path)


def ending(run: TextRun) -> tuple[str, int]:
    end = run.last_event("end")
    assert end is not None
    return end["ending"], end["iteration"]


def assert_finite(run: TextRun) -> None:
    """No array in the run, of any checkpoint or of the bundle, holds anything but finite numbers."""
    files = [(path, "checkpoint") for path in (run.path / "checkpoints").glob("*.safetensors")]
    assert files
    if run.best_path.exists():
        files.append((run.best_path, "bundle"))
        assert np.isfinite(TextModel.load(run.path).result.get("nats", 0.0))
    for path, kind in files:
        for name, array in read_arrays(path, kind=kind)[0].items():
            assert np.isfinite(array).all(), f"{path}: {name}"

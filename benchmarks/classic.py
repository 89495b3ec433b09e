"""The classic preset against the NumPy program it comes from: updates per second side by side, and the losses in float64.

python benchmarks/classic.py            about one minute; needs tiny-Shakespeare in the data folder
"""

import tempfile
import time
from pathlib import Path

import numpy as np

import classic_numpy
from elman.config import Config
from elman.text.encoded import open_text
from elman.text.presets import preset, resolve
from elman.text.task import TextTask
from elman.text.trainer import new_network, train_text
from elman.training.loop import Trainer
from elman.training.progress import Reporter
from elman.training.runs import Run
from measuring import DATA, interleaved, ratios, report, summarize

ROUNDS, UPDATES = 7, 8000
TEXT = DATA / "tinyshakespeare.txt"


def elman_updates_per_second() -> float:
    """A whole run of the product as a user starts it, log and checkpoints included; compilation and the first tenth left out."""
    with tempfile.TemporaryDirectory() as folder:
        run = train_text(TEXT, run=Path(folder) / "run", preset="min-char-rnn", steps=UPDATES, sample_every=0)
        events = list(run.events("update"))
    begin = next(event for event in events if event["iteration"] >= UPDATES // 10)
    end = events[-1]
    return (end["iteration"] + len(end["loss"]) - begin["iteration"] - len(begin["loss"])) / (
        end["elapsed"] - begin["elapsed"]
    )


def block_updates_per_second() -> float:
    """The compiled block alone: the same updates without log, checkpoints and reading."""
    import jax

    config = resolve(Config().replace(**preset("min-char-rnn"), steps=UPDATES), 1_115_394, 65)
    encoded = open_text([TEXT], config.text)
    network = new_network(config, encoded.vocabulary.size, 0)
    task = TextTask(encoded.codes, encoded.codes[:0], encoded.vocabulary, config)
    with tempfile.TemporaryDirectory() as folder:
        run = Run.create(Path(folder) / "run", {})
        trainer = Trainer(task, network, config.training, run, reporter=Reporter())
        batches, size = task.take(0, trainer.block_size, trainer.block_size), trainer.block_size
        numbers, state = np.asarray([0.0, 0.0, 1.0]), trainer.state
        state, losses, _ = trainer.block(state, batches, np.int32(size), np.int32(0), numbers)
        jax.block_until_ready(losses)
        began = time.perf_counter()
        for _ in range(20):
            state, losses, _ = trainer.block(state, batches, np.int32(size), np.int32(0), numbers)
        jax.block_until_ready(losses)
        return 20 * size / (time.perf_counter() - began)


def numpy_updates_per_second(dtype: type) -> float:
    """The NumPy program, 400 updates after 40 that are not counted."""
    codes = open_text([TEXT], Config().text).codes
    losses = classic_numpy.train(codes, classic_numpy.initial_weights(65, dtype=dtype))
    for _ in range(40):
        next(losses)
    began = time.perf_counter()
    for _ in range(400):
        next(losses)
    return 400 / (time.perf_counter() - began)


def float64_difference(updates: int = 1000) -> float:
    """The largest relative difference of any of the losses, from the same starting weights, in float64."""
    weights = classic_numpy.initial_weights(65)
    with tempfile.TemporaryDirectory() as folder:
        np.savez(Path(folder) / "init.npz", **weights)
        run = train_text(
            TEXT,
            run=Path(folder) / "run",
            preset="min-char-rnn",
            steps=updates,
            dtype="float64",
            init=Path(folder) / "init.npz",
        )
        ours = np.asarray(run.losses)
    source = classic_numpy.train(open_text([TEXT], Config().text).codes, weights)
    theirs = np.asarray([next(source) for _ in range(updates)])
    return float(np.max(np.abs(ours - theirs) / np.abs(theirs)))


def main() -> None:
    """Measure, print, write."""
    difference = float64_difference()
    figures = interleaved(
        {
            "NumPy program, float64": lambda: numpy_updates_per_second(np.float64),
            "NumPy program, float32": lambda: numpy_updates_per_second(np.float32),
            "elman, whole run": elman_updates_per_second,
            "elman, compiled block": block_updates_per_second,
        },
        ROUNDS,
    )
    rows = [("classic preset: hidden 100, batch 1, 25 steps", "updates/s (median)", "least", "greatest")]
    rows += [(name, *(f"{row[k]:,.0f}" for k in ("median", "min", "max"))) for name, row in summarize(figures).items()]
    against = {name: ratios(figures, "elman, whole run", name) for name in list(figures)[:2]}
    rows += [
        (f"ratio to {name}", *(f"{row[k]:.1f} x" for k in ("median", "min", "max"))) for name, row in against.items()
    ]
    rows.append(("largest relative difference of 1,000 losses, float64", f"{difference:.1e}", "", ""))
    report("classic", rows, {"updates_per_second": figures, "ratios": against, "float64_difference": difference})


if __name__ == "__main__":
    main()

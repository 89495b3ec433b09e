"""The classic preset against the NumPy program it comes from: updates per second side by side, and the losses in float64.

python benchmarks/classic.py            about one minute; needs tiny-Shakespeare in the data folder
"""

import tempfile
import time
from pathlib import Path

import numpy as np

import classic_numpy
from classic_steps import classic_numpy_steps
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
        numbers, state = (np.zeros(trainer.block_size), np.float64(1.0)), trainer.state
        state, losses, *_ = trainer.block(state, batches, np.int32(size), np.int32(0), numbers)
        jax.block_until_ready(losses)
        began = time.perf_counter()
        for _ in range(20):
            state, losses, *_ = trainer.block(state, batches, np.int32(size), np.int32(0), numbers)
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


def free_running_difference(updates: int = 1000) -> dict[str, list[float]]:
    """Relative differences of the losses in float64, from the same starting weights, each program on its own weights.

    "elman": ours against the NumPy program. "one bit": the NumPy program against itself with the recurrent weights moved by
    their last bit. Where the second grows as the first does, it is the program that multiplies rounding.
    """
    codes = open_text([TEXT], Config().text).codes
    weights = classic_numpy.initial_weights(65)
    nudged = {name: array.copy() for name, array in weights.items()}
    nudged["whh"] = np.nextafter(nudged["whh"], 1.0)
    with tempfile.TemporaryDirectory() as folder:
        init = Path(folder) / "init.npz"
        np.savez(init, **weights)
        run = train_text(
            TEXT, run=Path(folder) / "run", preset="min-char-rnn", steps=updates, dtype="float64", init=init
        )
        ours = np.asarray(run.losses)
    program, other = classic_numpy.train(codes, weights), classic_numpy.train(codes, nudged)
    theirs = np.asarray([next(program) for _ in range(updates)])
    moved = np.asarray([next(other) for _ in range(updates)])
    return {"elman": (abs(ours - theirs) / theirs).tolist(), "one bit": (abs(moved - theirs) / theirs).tolist()}


def forced_difference(updates: int = 1000) -> float:
    """The largest relative difference of any loss when every update of ours starts from the NumPy program's own weights."""
    codes = open_text([TEXT], Config().text).codes
    return max(abs(ours - theirs) / theirs for ours, theirs, _ in classic_numpy_steps(codes, updates))


def main() -> None:
    """Measure, print, write."""
    forced, free = forced_difference(), free_running_difference()
    passed = {name: next((i for i, d in enumerate(values) if d > 1e-9), len(values)) for name, values in free.items()}
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
    rows.append(
        ("float64, 1,000 updates, each from the NumPy program's weights: largest difference", f"{forced:.1e}", "", "")
    )
    rows.append(("float64, each on its own weights: updates until 1e-9", str(passed["elman"]), "", ""))
    rows.append(
        (
            "the NumPy program against itself, W_hh moved by its last bit: updates until 1e-9",
            str(passed["one bit"]),
            "",
            "",
        )
    )
    report(
        "classic",
        rows,
        {
            "updates_per_second": figures,
            "ratios": against,
            "forced_difference": forced,
            "free_running_difference": free,
        },
    )


if __name__ == "__main__":
    main()

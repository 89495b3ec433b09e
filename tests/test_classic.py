"""The preset `min-char-rnn` is the classic program (lecture L9), update for update, in float64.

Left to themselves, no two implementations stay together for long, for the program multiplies rounding errors: recurrent weights
moved by their last bit change the NumPy program's own losses by more than 1e-9 within six to twenty updates, and altogether within
some hundred. So a thousand updates are compared one by one, each from the program's own weights, and the free run for as long as
rounding allows.
"""

import sys
from pathlib import Path

import numpy as np
import pytest

from elman.config import Config
from elman.text.encoded import open_text
from elman.text.trainer import train_text

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))

import classic_numpy  # noqa: E402
from classic_steps import classic_numpy_steps  # noqa: E402


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prose that every Python brings, long enough for a thousand updates and short enough to wrap around."""
    from pydoc_data.topics import topics

    path = tmp_path_factory.mktemp("classic") / "text.txt"
    path.write_text("".join(topics[name] for name in sorted(topics))[:20_000], encoding="utf-8")
    return path


def codes_of(path: Path, cache: Path) -> np.ndarray:
    return np.asarray(open_text([path], Config().text, cache_folder=cache).codes)


def test_a_thousand_updates_equal_the_numpy_program_one_by_one(text: Path, tmp_path: Path) -> None:
    codes = codes_of(text, tmp_path)
    assert len(codes) < 25 * 1000, "the pointer wraps within the thousand"
    steps = list(classic_numpy_steps(codes, 1000))
    loss = max(abs(step.ours - step.theirs) / step.theirs for step in steps)
    assert loss < 1e-9, f"largest relative difference of a loss: {loss:.1e}"
    # One update moves a weight by up to 0.1; where a gradient is nearly 0, Adagrad multiplies its rounding by 1 / sqrt(1e-8).
    weights = max(step.weights for step in steps)
    assert weights < 1e-9, f"largest difference of a weight after one update: {weights:.1e}"


def test_the_preset_runs_free_beside_the_program_as_long_as_rounding_allows(text: Path, tmp_path: Path) -> None:
    weights = classic_numpy.initial_weights(int(codes_of(text, tmp_path).max()) + 1)
    np.savez(tmp_path / "init.npz", **weights)
    run = train_text(
        text,
        run=tmp_path / "run",
        preset="min-char-rnn",
        steps=8,
        dtype="float64",
        init=tmp_path / "init.npz",
        sample_every=0,
    )
    program = classic_numpy.train(codes_of(text, tmp_path), weights)
    expected = np.asarray([next(program) for _ in range(8)])
    difference = np.max(np.abs(np.asarray(run.losses) - expected) / expected)
    assert difference < 1e-9, f"largest relative difference in 8 updates: {difference:.1e}"


def test_the_program_parts_from_itself_when_the_weights_move_by_their_last_bit(text: Path, tmp_path: Path) -> None:
    """Why the comparison above is made step by step."""
    codes = codes_of(text, tmp_path)
    weights = classic_numpy.initial_weights(int(codes.max()) + 1)
    nudged = {name: array.copy() for name, array in weights.items()}
    nudged["whh"] = np.nextafter(nudged["whh"], 1.0)
    one, other = classic_numpy.train(codes, weights), classic_numpy.train(codes, nudged)
    losses = np.asarray([(next(one), next(other)) for _ in range(600)])
    assert np.max(np.abs(losses[:, 0] - losses[:, 1]) / losses[:, 0]) > 1e-6


def test_the_classic_smoothed_loss_starts_at_knowing_nothing(text: Path, tmp_path: Path) -> None:
    run = train_text(text, run=tmp_path / "run", preset="min-char-rnn", steps=120, sample_every=0)
    vocabulary = run.model().vocabulary.size
    smoothed = -np.log(1.0 / vocabulary) * 25
    for loss in run.losses:
        smoothed = smoothed * 0.999 + loss * 0.001
    checkpoint = run.checkpoints.latest()
    assert checkpoint is not None
    assert checkpoint.state["position"]["smoothed"] == pytest.approx(smoothed, rel=1e-9)

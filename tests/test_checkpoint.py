"""Checkpoints: the newest good one can always be had back, exactly."""

import math
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from elman.errors import BundleError, RunError
from elman.training.checkpoint import Checkpoints
from elman.training.storage import TEMPORARY_PREFIX, TEMPORARY_SUFFIX, write_arrays


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in (folder / "checkpoints").iterdir())


def save(folder: Path, *iterations: int, keep: int = 2) -> None:
    for iteration in iterations:
        Checkpoints(folder, keep).save(iteration, {"w": np.full(3, iteration)}, {"seen": iteration})


def damage(folder: Path, iteration: int) -> Path:
    path = folder / "checkpoints" / f"{iteration:09d}.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    return path


def test_a_checkpoint_comes_back_bit_for_bit(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    floats = [*random.normal(size=50).tolist(), 5e-324, -0.0, 0.1 + 0.2]
    state = {"floats": floats, "best": math.inf, "random": {"state": 2**128 - 1}, "text": "é", "none": None}
    arrays = {"w": random.normal(size=(3, 2)), "step": np.array(400, np.int32)}
    checkpoints = Checkpoints(tmp_path)
    path = checkpoints.save(400, arrays, state)
    assert path == tmp_path / "checkpoints" / "000000400.safetensors"
    found = checkpoints.latest()
    assert found is not None
    assert (found.iteration, found.path, found.state) == (400, path, state)
    assert [value.hex() for value in found.state["floats"]] == [value.hex() for value in floats]
    assert {name: array.tobytes() for name, array in found.arrays.items()} == {
        name: array.tobytes() for name, array in arrays.items()
    }
    assert checkpoints.skipped == []


def test_nan_in_the_state_survives(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(0, {}, {"losses": [math.nan, -math.inf]})
    found = checkpoints.latest()
    assert found is not None
    assert math.isnan(found.state["losses"][0])
    assert found.state["losses"][1] == -math.inf


def test_no_checkpoints_are_none(tmp_path: Path) -> None:
    assert Checkpoints(tmp_path / "missing").latest() is None
    (tmp_path / "checkpoints").mkdir()
    assert Checkpoints(tmp_path).latest() is None


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_the_newest_are_kept(tmp_path: Path, keep: int) -> None:
    save(tmp_path, 100, 200, 300, 400, keep=keep)
    assert names(tmp_path) == [f"{iteration:09d}.safetensors" for iteration in (200, 300, 400)[-keep:]]


def test_iterations_are_ordered_as_numbers(tmp_path: Path) -> None:
    save(tmp_path, 999_999_999, 1_000_000_000)
    found = Checkpoints(tmp_path).latest()
    assert found is not None
    assert found.iteration == 1_000_000_000


def test_going_back_gives_up_the_later_ones(tmp_path: Path) -> None:
    save(tmp_path, 100, 200, 300, keep=3)
    save(tmp_path, 150, keep=3)
    assert names(tmp_path) == ["000000100.safetensors", "000000150.safetensors"]


def test_a_damaged_newest_one_is_skipped_with_its_reason(tmp_path: Path) -> None:
    save(tmp_path, 100, 200)
    path = damage(tmp_path, 200)
    checkpoints = Checkpoints(tmp_path)
    found = checkpoints.latest()
    assert found is not None
    assert found.iteration == 100
    ((skipped, reason),) = checkpoints.skipped
    assert skipped == path
    assert "checksum does not match" in reason


def test_all_damaged_is_an_error_that_names_the_newest(tmp_path: Path) -> None:
    save(tmp_path, 100, 200)
    damage(tmp_path, 100)
    damage(tmp_path, 200)
    with pytest.raises(BundleError, match=r"none of the 2 checkpoints in .*/000000200\.safetensors is damaged"):
        Checkpoints(tmp_path).latest()


@pytest.mark.parametrize(
    "metadata", [{"iteration": 100, "state": {}}, {"iteration": 200}, {"iteration": 200, "state": []}]
)
def test_a_checkpoint_that_is_not_what_its_name_says_is_skipped(tmp_path: Path, metadata: dict[str, Any]) -> None:
    save(tmp_path, 100)
    write_arrays(tmp_path / "checkpoints" / "000000200.safetensors", {}, metadata, kind="checkpoint")
    checkpoints = Checkpoints(tmp_path)
    found = checkpoints.latest()
    assert found is not None
    assert found.iteration == 100
    assert "expected iteration 200" in checkpoints.skipped[0][1]


def test_a_bundle_is_no_checkpoint(tmp_path: Path) -> None:
    save(tmp_path, 100)
    write_arrays(tmp_path / "checkpoints" / "000000200.safetensors", {}, {}, kind="bundle")
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.latest() is not None
    assert "is a bundle, not a checkpoint" in checkpoints.skipped[0][1]


def test_other_files_are_let_be_and_leftovers_removed_by_the_next_save(tmp_path: Path) -> None:
    save(tmp_path, 100)
    folder = tmp_path / "checkpoints"
    leftover = folder / f"{TEMPORARY_PREFIX}0123{TEMPORARY_SUFFIX}"
    leftover.write_bytes(b"half a checkpoint")
    for name in ("notes.txt", "best.safetensors", "000000900.safetensors.bak", "٠٠٠٠٠٠٩٠٠.safetensors"):
        (folder / name).write_bytes(b"")
    found = Checkpoints(tmp_path).latest()
    assert found is not None
    assert found.iteration == 100
    assert leftover.exists(), "another process may be writing it"
    save(tmp_path, 200)
    assert not leftover.exists()
    assert len(names(tmp_path)) == 6


def test_saving_changes_nothing_of_the_caller(tmp_path: Path) -> None:
    arrays, state = {"w": np.arange(6).reshape(2, 3).T}, {"list": [1, [2.5]], "nested": {"a": None}}
    before = (arrays["w"].tobytes(), arrays["w"].strides, repr(state))
    Checkpoints(tmp_path).save(1, arrays, state)
    assert (arrays["w"].tobytes(), arrays["w"].strides, repr(state)) == before


@pytest.mark.parametrize(("iteration", "error"), [(-1, ValueError), (10**18, ValueError), (1.5, TypeError)])
def test_impossible_iterations_are_refused(tmp_path: Path, iteration: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        Checkpoints(tmp_path).save(iteration, {}, {})


def test_keep_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="keep = 0"):
        Checkpoints(tmp_path, keep=0)


def test_a_run_folder_that_is_gone_is_an_error_of_ours(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="Check that the run folder exists"):
        Checkpoints(tmp_path / "missing").save(1, {}, {})


def test_a_run_folder_can_be_moved(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    save(tmp_path / "run", 100)
    shutil.move(tmp_path / "run", tmp_path / "moved")
    assert Checkpoints(tmp_path / "moved").latest() is not None


WRITER = """
    import resource, sys
    from pathlib import Path
    import numpy as np
    from elman.errors import RunError
    from elman.training.checkpoint import Checkpoints

    checkpoints = Checkpoints(Path(sys.argv[1]))
    limit = int(sys.argv[2])
    if limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    iteration = 0
    print("ready", flush=True)
    while True:
        iteration += 1
        # With a limit, the checkpoints grow beyond it, as a disk fills up.
        size = 300_000 if not limit else 100 * iteration
        try:
            checkpoints.save(iteration, {"w": np.full(size, iteration)}, {"iteration": iteration})
        except RunError as error:
            print(error, flush=True)
            break
        print(iteration, flush=True)
"""


def start_writer(folder: Path, limit: int = 0) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", textwrap.dedent(WRITER), str(folder), str(limit)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_a_full_disk_keeps_the_last_good_checkpoints(tmp_path: Path) -> None:
    """The limit on the size of a file is the kernel's own refusal, in the middle of writing, as on a full disk."""
    output, _ = start_writer(tmp_path, limit=5000).communicate(timeout=60)
    *_, last, message = output.splitlines()
    assert "000000006.safetensors cannot be written: File too large. Free some space" in message
    assert names(tmp_path) == ["000000004.safetensors", "000000005.safetensors"]
    found = Checkpoints(tmp_path).latest()
    assert found is not None
    assert found.iteration == int(last) == 5
    assert found.arrays["w"].tolist() == [5] * 500


@pytest.mark.parametrize("delay_seconds", [0.0, 0.03, 0.071])
def test_a_kill_at_any_moment_leaves_a_good_checkpoint(tmp_path: Path, delay_seconds: float) -> None:
    with start_writer(tmp_path) as writer:
        assert writer.stdout is not None
        written = 0
        while written < 2:
            line = writer.stdout.readline().strip()
            written = int(line) if line.isdecimal() else 0
        time.sleep(delay_seconds)
        writer.kill()
        acknowledged = [int(line) for line in writer.stdout.read().split() if line.isdecimal()]
        assert writer.wait(timeout=60) == -signal.SIGKILL
    checkpoints = Checkpoints(tmp_path)
    found = checkpoints.latest()
    assert found is not None
    assert checkpoints.skipped == []
    assert found.iteration >= max([written, *acknowledged]), "what was acknowledged is there"
    assert found.state == {"iteration": found.iteration}
    assert np.all(found.arrays["w"] == found.iteration)
    save(tmp_path, found.iteration + 1)
    assert len(names(tmp_path)) == 2, "the leftover of the killed process is gone"

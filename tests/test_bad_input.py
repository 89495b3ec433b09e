"""Every slip gives one line with the value and a remedy, exit status 2, and nothing is lost or left half made."""

import io
import json
import os
import random
import resource
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from elman.cli import main
from elman.text import corpora
from elman.text.run import TextRun
from elman.training.storage import read_arrays, write_arrays

SMALL = [
    "--steps",
    "40",
    "--hidden",
    "8",
    "--cell",
    "elman",
    "--optimizer",
    "adamw",
    "--batch",
    "2",
    "--unroll",
    "8",
    "--sample-length",
    "20",
    "--quiet",
]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `words.txt` and a finished run of it; to be copied, not changed."""
    folder = tmp_path_factory.mktemp("finished")
    draw = random.Random(2)
    text = "".join(draw.choice(["red ", "blue ", "green ", "sky.\n"]) for _ in range(400))
    (folder / "words.txt").write_text(text)
    assert main(["train", "text", str(folder / "words.txt"), "--run", str(folder / "run"), *SMALL]) == 0
    return folder


@pytest.fixture
def home(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that folder as the current one, with a few bad files beside."""
    folder = tmp_path / "home"
    shutil.copytree(finished, folder)
    monkeypatch.chdir(folder)
    monkeypatch.delenv("ELMAN_DATA", raising=False)
    (folder / "empty.txt").touch()
    (folder / "one.txt").write_text("a")
    (folder / "letter.txt").write_text("r")
    (folder / "same.txt").write_text("a" * 1000)
    (folder / "short.txt").write_text("abcdefghij")
    (folder / "picture.bin").write_bytes(bytes(range(256)) * 20)
    (folder / "latin.txt").write_bytes("déjà vu ".encode("latin-1") * 100)
    (folder / "nothing").mkdir()
    (folder / "images").mkdir()
    (folder / "images" / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n\x00\x00\x00")
    (folder / "slip.toml").write_text("[network]\nhiden = 3\n")
    (folder / "value.toml").write_text('[network]\nhidden = "many"\n')
    (folder / "broken.toml").write_text("[network\nhidden = 3\n")
    vocab = len(set((folder / "words.txt").read_text()))
    shapes = {"wxh": (8, vocab), "whh": (8, 8), "why": (vocab, 8), "bh": (8, 1), "by": (vocab, 1)}
    weights: dict[str, Any] = {name: np.zeros(shape) for name, shape in shapes.items()}
    np.savez(folder / "init.npz", **weights)
    np.savez(folder / "wrong.npz", **{**weights, "whh": np.zeros((9, 9))})
    np.savez(folder / "lacking.npz", wxh=weights["wxh"])
    np.savez(folder / "nan.npz", **{**weights, "whh": np.full((8, 8), np.nan)})
    (folder / "cut.npz").write_bytes((folder / "init.npz").read_bytes()[:300])
    np.save(folder / "single.npy", np.zeros(3))
    bundle = (folder / "run" / "best.safetensors").read_bytes()
    (folder / "cut.safetensors").write_bytes(bundle[:-20])
    (folder / "flipped.safetensors").write_bytes(bundle[:-9] + bytes([bundle[-9] ^ 4]) + bundle[-8:])
    (folder / "future.safetensors").write_bytes(bundle.replace(b'\\"format\\":1', b'\\"format\\":7', 1))
    arrays, parts = read_arrays(folder / "run" / "best.safetensors", kind="bundle")
    write_arrays(folder / "series.safetensors", arrays, {**parts, "kind": "series"}, kind="bundle")
    return folder


TRAIN = ["train", "text", "words.txt", *SMALL]

# Name: arguments, what the line must contain (the value, and a remedy).
CASES: dict[str, tuple[list[str], list[str]]] = {
    # Texts.
    "missing file": (["train", "text", "word.txt"], ["word.txt", "did you mean 'words.txt'"]),
    "missing folder": (["train", "text", "no/where.txt"], ["where.txt", "no folder no"]),
    "empty file": (["train", "text", "empty.txt"], ["empty.txt", "is empty"]),
    "one character": (["train", "text", "one.txt"], ["one.txt", "give a longer text"]),
    "one symbol": (["train", "text", "same.txt"], ["same.txt", "'a'", "give another text"]),
    "shorter than the unrolling": (["train", "text", "short.txt", "--unroll", "64"], ["64", "9", "give more text"]),
    "binary": (["train", "text", "picture.bin"], ["picture.bin", "--unit byte"]),
    "bad UTF-8": (["train", "text", "latin.txt"], ["latin.txt", "--encoding", "--errors"]),
    "unknown encoding": ([*TRAIN, "--encoding", "utf-9"], ["utf-9"]),
    "folder without files": (["train", "text", "nothing"], ["nothing", "no text in it"]),
    "folder without text": (["train", "text", "images"], ["images", "binary"]),
    "pattern without matches": (["train", "text", "*.csv"], ["*.csv", "matches no file"]),
    "unknown corpus": (["train", "text", "shakespear"], ["shakespear", "did you mean 'shakespeare'"]),
    # Names.
    "unknown command": (["trian"], ["trian", "did you mean 'train'"]),
    "unknown kind": (["train", "txt"], ["txt", "did you mean 'text'"]),
    "no kind": (["train"], ["elman train text INPUT"]),
    "unknown flag": ([*TRAIN, "--hiden", "3"], ["--hiden", "did you mean '--hidden'"]),
    "unknown preset": ([*TRAIN, "--preset", "min-char-rn"], ["min-char-rn", "did you mean 'min-char-rnn'"]),
    "unknown cell": ([*TRAIN, "--cell", "gruu"], ["gruu", "did you mean 'gru'"]),
    "unknown setting in TOML": ([*TRAIN, "--config", "slip.toml"], ["hiden", "did you mean 'hidden'"]),
    "bad value in TOML": ([*TRAIN, "--config", "value.toml"], ["'many'", "an integer from 1"]),
    "broken TOML": ([*TRAIN, "--config", "broken.toml"], ["broken.toml", "line 1"]),
    "missing TOML": ([*TRAIN, "--config", "none.toml"], ["none.toml", "No such file"]),
    # Values.
    "hidden 0": ([*TRAIN, "--hidden", "0"], ["hidden = 0", "from 1"]),
    "hidden -3": ([*TRAIN, "--hidden", "-3"], ["hidden = -3", "from 1"]),
    "hidden abc": ([*TRAIN, "--hidden", "abc"], ["abc", "--help"]),
    "hidden 10**9": ([*TRAIN, "--hidden", str(10**9)], [str(10**9), "to 65536"]),
    "hidden 10**400": ([*TRAIN, "--hidden", str(10**400)], ["hidden = 1000", "to 65536"]),
    "network too large": ([*TRAIN, "--hidden", "60000", "--layers", "64"], ["64 x 60000", "GiB", "smaller --hidden"]),
    "layers 1000": ([*TRAIN, "--layers", "1000"], ["layers = 1000", "to 64"]),
    "batch too large": ([*TRAIN, "--batch", "65536", "--hidden", "65536"], ["65536 sequences", "GiB", "--batch"]),
    "two budgets": ([*TRAIN, "--minutes", "1"], ["minutes", "steps", "one budget"]),
    "validation 1.5": ([*TRAIN, "--validation", "1.5"], ["1.5", "to 0.9"]),
    "dropout nan": ([*TRAIN, "--dropout", "nan"], ["nan", "from 0 to 0.95"]),
    "rate inf": ([*TRAIN, "--learning-rate", "inf"], ["inf", "to 1000"]),
    "steps 0": ([*TRAIN, "--steps", "0"], ["steps = 0", "from 1"]),
    "demo of no time": (["demo", "--minutes", "nan"], ["nan", "from 0.01"]),
    # Starting weights.
    "init missing": ([*TRAIN, "--init", "none.npz"], ["none.npz", "No such file"]),
    "init is text": ([*TRAIN, "--init", "words.txt"], ["words.txt", "numpy.savez"]),
    "init is one array": ([*TRAIN, "--init", "single.npy"], ["single.npy", "numpy.savez"]),
    "init cut off": ([*TRAIN, "--init", "cut.npz"], ["cut.npz", "numpy.savez"]),
    "init of another shape": ([*TRAIN, "--init", "wrong.npz"], ["whh", "(9, 9)", "(8, 8)"]),
    "init lacks arrays": ([*TRAIN, "--init", "lacking.npz"], ["whh", "it needs"]),
    "init not finite": ([*TRAIN, "--init", "nan.npz"], ["whh", "finite"]),
    "init for a GRU": ([*TRAIN, "--cell", "gru", "--init", "init.npz"], ["--cell elman"]),
    # Run folders.
    "run exists": ([*TRAIN, "--run", "run"], ["run already holds a run", "--resume run"]),
    "run is a file": ([*TRAIN, "--run", "words.txt"], ["words.txt", "--run"]),
    "run below a file": ([*TRAIN, "--run", "words.txt/run"], ["words.txt/run", "--run"]),
    "run is a full folder": ([*TRAIN, "--run", "images"], ["images", "a.png", "--run"]),
    "run with too long a name": ([*TRAIN, "--run", "x" * 300], ["xxx", "--run"]),
    "resume of nothing": (["train", "--resume", "rum"], ["rum", "did you mean 'run'"]),
    "resume of a file": (["train", "--resume", "words.txt"], ["words.txt is a file", "name the folder"]),
    "resume of a folder": (["train", "--resume", "images"], ["config.toml", "name the folder"]),
    "resume with settings": (["train", "--resume", "run", "text", "words.txt"], ["--resume", "no further input"]),
    "samples of nothing": (["samples", "rum"], ["rum", "did you mean 'run'"]),
    "report of nothing": (["report", "rum"], ["rum", "did you mean 'run'"]),
    # Bundles.
    "no bundle": (["sample", "run/bst.safetensors"], ["bst.safetensors", "did you mean 'best.safetensors'"]),
    "bundle cut off": (["sample", "cut.safetensors"], ["cut.safetensors", "restore it"]),
    "bundle flipped": (["sample", "flipped.safetensors"], ["flipped.safetensors", "checksum", "restore it"]),
    "bundle of the future": (["sample", "future.safetensors"], ["future.safetensors", "format 7", "upgrade"]),
    "bundle of another kind": (["sample", "series.safetensors"], ["series", "text model is expected"]),
    "checkpoint as bundle": (["sample", "run/checkpoints/000000040.safetensors"], ["checkpoint", "best.safetensors"]),
    "text as bundle": (["sample", "words.txt"], ["words.txt", "no safetensors file"]),
    "folder as bundle": (["sample", "images"], ["images", "config.toml"]),
    # Sampling and scoring.
    "length 0": (["sample", "run", "--length", "0"], ["length = 0", "at least 1"]),
    "length x": (["sample", "run", "--length", "x"], ["'x'", "--help"]),
    "samples 0": (["sample", "run", "--samples", "0"], ["samples = 0", "at least 1"]),
    "length 0 of several": (["sample", "run", "--samples", "2", "--length", "0"], ["length = 0", "at least 1"]),
    "temperature -1": (["sample", "run", "--temperature", "-1"], ["temperature", "-1"]),
    "temperature nan": (["sample", "run", "--temperature", "nan"], ["temperature", "nan"]),
    "top-k -1": (["sample", "run", "--top-k", "-1"], ["-1"]),
    "top-p 1.5": (["sample", "run", "--top-p", "1.5"], ["1.5"]),
    "top-p 0": (["sample", "run", "--top-p", "0"], ["top_p"]),
    "min-p 2": (["sample", "run", "--min-p", "2"], ["min_p", "2"]),
    "penalty 0": (["sample", "run", "--repetition-penalty", "0"], ["repetition", "0"]),
    "seed -1": (["sample", "run", "--seed", "-1", "--length", "3"], ["seed", "-1"]),
    "unknown character": (["sample", "run", "--prime", "ڑ", "--unknown", "error"], ["U+0691"]),
    "scoring unknown characters": (["evaluate", "run", "latin.txt"], ["latin.txt"]),
    "scoring too little": (["evaluate", "run", "letter.txt"], ["1 symbols", "at least 2"]),
    "scoring a bundle on nothing": (["evaluate", "run/best.safetensors"], ["name a text"]),
}


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [pytest.param(*case, id=name) for name, case in CASES.items()],
)
def test_a_slip_gives_one_line_with_value_and_remedy_and_leaves_everything_as_it_was(
    arguments: list[str], parts: list[str], home: Path, capsys: Any
) -> None:
    before = contents(home)
    assert_refused(arguments, parts, capsys)
    assert contents(home) == before


# What a half-written or damaged run folder looks like: how it came about, and what resuming must say.
DAMAGES: dict[str, tuple[Callable[[Path], Any], list[str]]] = {
    "no settings": (lambda run: (run / "config.toml").unlink(), ["config.toml", "name the folder"]),
    "broken settings": (lambda run: (run / "config.toml").write_text("[run\n"), ["config.toml", "line 1"]),
    "settings that are no text": (lambda run: (run / "config.toml").write_bytes(b"\xff\xfe\x00"), ["config.toml"]),
    "no [run] table": (lambda run: change(run, r"[run]", "[ran]"), ["config.toml", "[run]"]),
    "an unknown setting": (lambda run: change(run, "hidden =", "hiden ="), ["hiden", "did you mean 'hidden'"]),
    "a future format": (lambda run: change(run, "format = 1", "format = 9"), ["format 9", "upgrade"]),
    "no text": (lambda run: change(run, "inputs =", "inpots ="), ["config.toml", "inputs", "restore it"]),
    "another network": (lambda run: change(run, "hidden = 8", "hidden = 9"), ["000000000.safetensors"]),
    "all checkpoints cut off": (lambda run: cut_checkpoints(run), ["checkpoints", "can be read"]),
    "a log that is too short": (lambda run: (run / "events.jsonl").write_bytes(b""), ["events.jsonl", "restore it"]),
    "a log that is a folder": (lambda run: make_folder(run / "events.jsonl"), ["events.jsonl", "check what it is"]),
    "the text is gone": (lambda run: (run.parent / "words.txt").unlink(), ["words.txt"]),
    "the text has changed": (lambda run: append(run.parent / "words.txt", "new"), ["words.txt", "start a new run"]),
}


@pytest.mark.parametrize(("damage", "parts"), DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_run_is_refused_with_one_line(
    damage: Callable[[Path], Any], parts: list[str], home: Path, capsys: Any
) -> None:
    run = move_to(home)
    (run / "checkpoints" / "000000040.safetensors").unlink()  # as if it had been killed before the end
    damage(run)
    before = contents(run, without=("lock",))
    assert_refused(["train", "--resume", str(run), "--quiet"], parts, capsys)
    assert contents(run, without=("lock",)) == before


def test_a_log_with_a_torn_last_line_is_read_without_it(home: Path, capsys: Any) -> None:
    log = home / "run" / "events.jsonl"
    losses = TextRun(home / "run").losses
    log.write_bytes(log.read_bytes() + b'{"kind": "upd')
    assert TextRun(home / "run").losses == losses
    assert main(["samples", "run", "--json"]) == 0
    json.loads(capsys.readouterr().out)


def test_a_log_with_a_damaged_line_names_it(home: Path, capsys: Any) -> None:
    log = home / "run" / "events.jsonl"
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join([*lines[:2], b"{broken\n", *lines[2:]]))
    assert_refused(["samples", "run"], ["events.jsonl", "line 3"], capsys)


def test_empty_standard_input_leaves_no_folder(home: Path, capsys: Any, monkeypatch: Any) -> None:
    for piped, parts in ((b"", ["standard input is empty"]), (b"aaaa", ["one distinct symbol"])):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(piped)))
        assert_refused(["train", "text", "-", "--run", "piped", *SMALL], parts, capsys)
        assert not (home / "piped").exists()


def test_standard_input_writes_over_nothing(home: Path, capsys: Any, monkeypatch: Any) -> None:
    (home / "mine").mkdir()
    (home / "mine" / "input.txt").write_text("mine")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"abc" * 100)))
    assert_refused(["train", "text", "-", "--run", "mine", *SMALL], ["mine", "--run"], capsys)
    assert (home / "mine" / "input.txt").read_text() == "mine"


def test_a_corpus_without_a_network_fails_at_once(home: Path, capsys: Any, monkeypatch: Any) -> None:
    nowhere = replace(corpora.CORPORA["shakespeare"], address="http://127.0.0.1:9/input.txt")
    monkeypatch.setitem(corpora.CORPORA, "shakespeare", nowhere)
    began = time.monotonic()
    assert_refused(["train", "text", "shakespeare", *SMALL], ["shakespeare", "check the network", "--data-dir"], capsys)
    assert time.monotonic() - began < 10
    assert not (home / "runs").exists()


def test_a_corpus_with_a_wrong_checksum_is_not_trained_on(home: Path, capsys: Any) -> None:
    (home / "nothing" / "tinyshakespeare.txt").write_text("First Citizen: something else")
    arguments = ["train", "text", "shakespeare", "--data-dir", "nothing", *SMALL]
    assert_refused(arguments, ["tinyshakespeare.txt", "SHA-256", "replace it"], capsys)
    assert_refused(["train", "text", "shakespeare", "--data-dir", "none"], ["none", "create it"], capsys)


def test_a_file_or_folder_without_permission_is_named(home: Path, environment: dict[str, str]) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may read and write everything")
    (home / "secret.txt").write_text("secret " * 100)
    (home / "secret.txt").chmod(0)
    (home / "locked").mkdir(mode=stat.S_IRUSR | stat.S_IXUSR)
    for arguments, parts in (
        (["train", "text", "secret.txt", *SMALL], ["secret.txt", "permission denied"]),
        ([*TRAIN, "--run", "locked/run"], ["locked/run", "--run"]),
    ):
        result = process(arguments, home, environment)
        assert_one_line(result.returncode, result.stderr, parts)


def test_a_run_that_another_process_trains_is_refused(home: Path, environment: dict[str, str], capsys: Any) -> None:
    arguments = ["train", "text", "words.txt", "--run", "busy", *SMALL, "--steps", "1000000000", "--sample-every", "0"]
    other = subprocess.Popen([sys.executable, "-m", "elman", *arguments], env=environment, stderr=subprocess.PIPE)
    try:
        deadline = time.monotonic() + 100
        while not (home / "busy" / "checkpoints" / "000000000.safetensors").exists():
            assert other.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert_refused(["train", "--resume", "busy", "--quiet"], ["busy", "another process", "stop it first"], capsys)
        assert_refused([*TRAIN, "--run", "busy"], ["busy", "already holds a run"], capsys)
        assert other.poll() is None
    finally:
        other.kill()
        other.communicate()


@pytest.mark.parametrize("limit", [6_000, 30_000], ids=["no room for a checkpoint", "no room for the log"])
def test_a_full_disk_keeps_the_last_checkpoint_and_the_run_goes_on_later(
    limit: int, home: Path, environment: dict[str, str]
) -> None:
    """Files may not grow beyond `limit` bytes: at first the checkpoints are too large, then the log becomes so."""
    arguments = ["train", "text", "words.txt", "--run", "full", *SMALL, "--steps", "600", "--block", "5"]
    command = [*arguments, "--checkpoint-every", "20"]
    process(["info"], home, environment)
    result = process(command, home, environment, limit=limit)
    assert_one_line(result.returncode, result.stderr, ["full", "space"])
    before = list((home / "full" / "checkpoints").glob("*.safetensors")) if (home / "full").exists() else []
    if limit > 10_000:
        assert before
    if (home / "full" / "config.toml").exists():
        resumed = process(["train", "--resume", "full", "--quiet"], home, environment)
        assert resumed.returncode == 0, resumed.stderr
        assert len(TextRun(home / "full").losses) == 600


def assert_refused(arguments: list[str], parts: list[str], capsys: Any) -> None:
    """`elman …` fails as a user's slip does."""
    capsys.readouterr()
    try:
        status = main(arguments)
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert_one_line(status, captured.err, parts)


def assert_one_line(status: int, errors: str, parts: list[str]) -> None:
    assert status == 2, errors
    lines = errors.splitlines()
    assert len(lines) == 1, errors
    assert lines[0].startswith("elman")
    assert ": error: " in lines[0]
    for part in parts:
        assert part in lines[0]


def process(
    arguments: list[str], folder: Path, environment: dict[str, str], limit: int | None = None
) -> "subprocess.CompletedProcess[str]":
    """`elman …` as a process of its own, whose files may be no larger than `limit` bytes."""
    command = [sys.executable, "-m", "elman", *arguments]
    if limit is not None:
        # SIGXFSZ ignored, so that a write that is too long fails as on a full disk.
        code = (
            "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
            "import jax; jax.config.update('jax_enable_compilation_cache', False)\n"
            f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {resource.RLIM_INFINITY}))\n"
            "from elman.cli import main; sys.exit(main(sys.argv[1:]))"
        )
        command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)


def contents(folder: Path, without: tuple[str, ...] = ()) -> dict[str, bytes | None]:
    """What every file in a folder holds, and None for every folder."""
    paths = [path for path in folder.rglob("*") if path.name not in without]
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in paths}


def move_to(home: Path) -> Path:
    """The run, about the text of this copy instead of the one that it was copied from."""
    config = home / "run" / "config.toml"
    lines = config.read_text().splitlines()
    start = next(index for index, line in enumerate(lines) if line.startswith("inputs"))
    end = next(index for index in range(start, len(lines)) if lines[index].endswith("]"))
    config.write_text(
        "\n".join([*lines[:start], f"inputs = [{json.dumps(str(home / 'words.txt'))}]", *lines[end + 1 :]])
    )
    return home / "run"


def change(run: Path, old: str, new: str) -> None:
    config = run / "config.toml"
    assert old in config.read_text()
    config.write_text(config.read_text().replace(old, new, 1))


def cut_checkpoints(run: Path) -> None:
    for path in (run / "checkpoints").iterdir():
        path.write_bytes(path.read_bytes()[:-10])


def append(path: Path, text: str) -> None:
    path.write_text(path.read_text() + text)


def make_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()

"""A text larger than memory: encoding on all cores, killed in the middle and continued; the first update; memory at two sizes.

    python benchmarks/past_memory_text.py                          1 and 20 GB: about 20 minutes, 41 GB of disk
    python benchmarks/past_memory_text.py --gigabytes 0.2 1        a try

The text is generated: frequent English words, drawn anew every 256 MB. Memory is what the system says every 50 ms:
anonymous (the program's own) and resident (with what is mapped of files), the greatest of each; that of the processes that encode
is their greatest together. The first start is killed when half is encoded, the second goes on; the third finds everything done.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from measuring import report

BLOCK = 256 << 20
WORDS = (
    "the", "and", "to", "of", "a", "my", "in", "you", "is", "that", "not", "with", "his", "be", "your", "for", "it", "me", "he",
    "this", "as", "thou", "but", "have", "him", "so", "what", "thee", "will", "no", "by", "all", "king", "shall", "if", "are", "we",
)  # fmt: skip
UPDATES = 300


def write_text(path: Path, size: int) -> None:
    """`size` bytes of words, no two blocks the same."""
    words = np.array([word.encode() + end for word in WORDS for end in (b" ", b" ", b" ", b",\n", b" ", b". ")], "S12")
    lengths = np.char.str_len(words)
    with path.open("wb") as file:
        for seed in range(-(-size // BLOCK)):
            generator = np.random.default_rng(seed)
            while file.tell() < min(size, (seed + 1) * BLOCK):
                chosen = generator.integers(len(words), size=4_000_000)
                spaced = words[chosen].view(np.uint8).reshape(-1, words.itemsize)
                file.write(spaced[np.arange(words.itemsize) < lengths[chosen][:, None]].tobytes())
        file.truncate(size)


def memory_of(process: int) -> dict[str, int]:
    """Bytes that a process has: anonymous and resident; zeros where it is gone."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return {"RssAnon": 0, "VmRSS": 0}
    fields = dict(line.split(":", 1) for line in lines)
    return {name: 1024 * int(fields.get(name, "0 kB").split()[0]) for name in ("RssAnon", "VmRSS")}


def children_of(process: int) -> list[int]:
    """The processes that a process has started."""
    try:
        return [int(number) for number in Path(f"/proc/{process}/task/{process}/children").read_text().split()]
    except OSError:
        return []


def train(text: Path, run: Path, cache: Path, *, kill_at: float | None = None) -> dict[str, Any]:
    """Seconds to the first update and greatest memory of one start; or, where it is to be killed, seconds until then."""
    words = ["--steps", UPDATES, "--sample-every", 0, "--validate-every", UPDATES, "--hidden", 256, "--batch", 32]
    command = [
        sys.executable,
        "-m",
        "elman",
        "train",
        "text",
        text,
        "--run",
        run,
        "--cell",
        "gru",
        *words,
        "--unroll",
        64,
    ]
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache)}
    began = time.perf_counter()
    process = subprocess.Popen(
        list(map(str, command)), env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
    )
    found: dict[str, Any] = {"anonymous": 0, "resident": 0, "encoders": 0}
    events, journal = run / "events.jsonl", None
    while process.poll() is None:
        own = memory_of(process.pid)
        found["anonymous"], found["resident"] = (
            max(found["anonymous"], own["RssAnon"]),
            max(found["resident"], own["VmRSS"]),
        )
        found["encoders"] = max(
            found["encoders"], sum(memory_of(child)["RssAnon"] for child in children_of(process.pid))
        )
        if "first_update" not in found and events.exists() and '"update"' in events.read_text():
            found["first_update"] = time.perf_counter() - began
        if kill_at is not None:
            journal = journal or next(cache.rglob("*.journal"), None)
            if journal is not None and journal.read_text().count('"encoding') >= kill_at * text.stat().st_size / (
                64 << 20
            ):
                process.send_signal(signal.SIGKILL)
                process.wait()
                return {"killed_after": time.perf_counter() - began}
        time.sleep(0.05)
    assert process.stderr is not None
    if process.returncode:
        raise SystemExit(process.stderr.read().decode())
    return {**found, "all": time.perf_counter() - began}


def measured(folder: Path, gigabytes: float) -> dict[str, Any]:
    """One size: killed in the middle of encoding, continued, cached."""
    text, cache = folder / "text.txt", folder / "cache"
    write_text(text, int(gigabytes * 1e9))
    killed = train(text, folder / "killed", cache, kill_at=0.5)
    continued = train(text, folder / "continued", cache)
    cached = train(text, folder / "cached", cache)
    with (folder / "cached" / "events.jsonl").open() as one, (folder / "continued" / "events.jsonl").open() as other:
        events = [[event for event in map(json.loads, log) if event["kind"] == "update"] for log in (one, other)]
    text.unlink()
    for file in cache.rglob("*.codes"):
        file.unlink()
    same = [[loss for event in each for loss in event["loss"]] for each in events]
    return {"killed": killed, "continued": continued, "cached": cached, "same_losses": same[0] == same[1]}


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, nargs="+", default=[1, 20])
    parser.add_argument("--folder", type=Path, help="where there is room for twice the largest text and 1 GB")
    chosen = parser.parse_args()
    rows = [("text", "until killed", "then to first update", "cached", "own memory", "resident", "encoders, together")]
    figures = {}
    for gigabytes in chosen.gigabytes:
        with tempfile.TemporaryDirectory(dir=chosen.folder) as name:
            found = figures[f"{gigabytes:g} GB"] = measured(Path(name), gigabytes)
        seconds = (found["killed"]["killed_after"], *(found[kind]["first_update"] for kind in ("continued", "cached")))
        memory = (found["cached"]["anonymous"], found["cached"]["resident"], found["continued"]["encoders"])
        each = (*(f"{value:.1f} s" for value in seconds), *(f"{value / 1e6:,.0f} MB" for value in memory))
        rows.append((f"{gigabytes:g} GB", *each))
    report("past_memory_text", rows, figures)


if __name__ == "__main__":
    main()

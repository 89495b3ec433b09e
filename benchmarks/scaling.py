"""What training together costs: bytes that an update sends, the time that it loses, and what follows for many hosts.

    python benchmarks/scaling.py             about seven minutes

One process on one core with batch B, beside two processes with batch 2 B, which have two cores: the same work for each core, so
that the difference is what the exchange costs; and one process on both cores with batch 2 B, which needs none. Bytes are counted by
the kernel on the loopback device while nothing else uses it. On loopback both processes also do the network's work, which costs a
core more than a network card would.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import jax

from measuring import interleaved, report

BATCH, UNROLL = 32, 64
UPDATES = {128: 300, 256: 200, 512: 100}
HOSTS = (8, 32, 64, 256)
NETWORKS = {"1 Gbit/s": (0.117e9, 100e-6), "10 Gbit/s": (1.17e9, 50e-6)}
"""Bytes per second that a connection carries, and seconds until the first of them arrives."""


def sent() -> int:
    """Bytes that went over loopback so far."""
    (line,) = (line for line in Path("/proc/net/dev").read_text().splitlines() if line.strip().startswith("lo:"))
    return int(line.split()[1])


def train(text: Path, run: Path, hidden: int, processes: int, updates: int, cores: int) -> tuple[float, float]:
    """Seconds per update, by the run's own clock; bytes sent per update, start and end included."""
    words = ["--hidden", hidden, "--batch", BATCH * cores, "--unroll", UNROLL, "--steps", updates]
    words += ["--sample-every", 0, "--checkpoint-every", 10_000, "--validate-every", 10_000, "--quiet"]
    command = [
        sys.executable,
        "-m",
        "elman",
        "launch",
        "--processes",
        processes,
        "train",
        "text",
        text,
        "--run",
        run,
        *words,
    ]
    pinned = ["taskset", "-c", "0"] if cores == 1 else []
    before = sent()
    subprocess.run([*pinned, *map(str, command)], check=True, capture_output=True)
    bytes_sent = sent() - before
    blocks = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    blocks = [block for block in blocks if block["kind"] == "update"]
    count = sum(len(block["loss"]) for block in blocks[1:])
    return (blocks[-1]["elapsed"] - blocks[0]["elapsed"]) / count, bytes_sent


def measured(text: Path, folder: Path, hidden: int, rounds: int) -> dict[str, Any]:
    """Both ways in turn; the bytes of an update as the difference between a long run and a short one."""
    runs = iter(range(1_000))

    def once(processes: int, updates: int = UPDATES[hidden], cores: int = 2) -> tuple[float, float]:
        return train(text, folder / f"{hidden}-{next(runs)}", hidden, processes, updates, cores)

    half = UPDATES[hidden] // 2
    long, short = once(2)[1], once(2, half)[1]
    seconds = interleaved(
        {"alone": lambda: once(1, cores=1)[0], "two": lambda: once(2)[0], "both cores": lambda: once(1)[0]}, rounds
    )
    weights = parameters(folder / f"{hidden}-0")
    return {"weights": weights, "bytes_per_update": (long - short) / half, "seconds": seconds}


def parameters(run: Path) -> int:
    """Numbers in the network: as many as its gradient has."""
    import elman

    return sum(leaf.size for leaf in jax.tree.leaves(elman.load(run).network))


def predicted(seconds: float, weights: int, hosts: int, network: str) -> float:
    """Share of an update's time that is learning: a ring's sum sends 2 (n-1)/n of the gradient in 2 (n-1) messages."""
    rate, latency = NETWORKS[network]
    exchange = 2 * (hosts - 1) / hosts * 4 * weights / rate + 2 * (hosts - 1) * latency
    return seconds / (seconds + exchange)


def main() -> None:
    """Measure, predict, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    rows = [("GRU units", "weights", "bytes per update", "alone", "two processes", "lost", "one, both cores")]
    forecast = [("GRU units, network", *(f"{hosts} hosts" for hosts in HOSTS))]
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        text = folder / "text.txt"
        text.write_text("the cat sat on the mat and the dog ran after it. " * 40_000)
        for hidden in UPDATES:
            found = figures[str(hidden)] = measured(text, folder, hidden, chosen.rounds)
            alone, two, both = (statistics.median(found["seconds"][kind]) for kind in ("alone", "two", "both cores"))
            lost = [100 * (1 - a / b) for a, b in zip(found["seconds"]["alone"], found["seconds"]["two"], strict=True)]
            found["lost_percent"] = lost
            cells = (f"{found['weights']:,}", f"{found['bytes_per_update']:,.0f}", f"{1e3 * alone:.1f} ms")
            rows.append(
                (str(hidden), *cells, f"{1e3 * two:.1f} ms", f"{statistics.median(lost):.0f} %", f"{1e3 * both:.1f} ms")
            )
            for network in NETWORKS:
                shares = [predicted(alone, found["weights"], hosts, network) for hosts in HOSTS]
                forecast.append((f"{hidden}, {network}", *(f"{100 * share:.0f} %" for share in shares)))
                found[f"predicted {network}"] = dict(zip(map(str, HOSTS), shares, strict=True))
    report("scaling", rows, figures)
    report("scaling", forecast, figures)


if __name__ == "__main__":
    main()

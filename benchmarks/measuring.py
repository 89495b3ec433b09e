"""What the benchmarks share: the machine in words, timing side by side, a table, a JSON file."""

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
DATA = Path(os.environ.get("ELMAN_DATA") or Path(__file__).parents[2] / "shared" / "data")


def machine() -> dict[str, Any]:
    """Date, processor, cores and versions."""
    name = platform.processor()
    if Path("/proc/cpuinfo").exists():
        lines = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
        name = lines[0].split(":", 1)[1].strip() if lines else name
    versions = {}
    for package in ("elman", "jax", "jaxlib", "numpy", "torch"):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "processor": name,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "python": platform.python_version(),
        **versions,
    }


def interleaved(candidates: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Call each candidate in turn, `rounds` times over, so that a noisy moment hits all alike; each returns its own figure."""
    figures: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, measure in candidates.items():
            figures[name].append(measure())
    return figures


def peers_python(folder: Path, installs: Iterable[tuple[str, ...]]) -> Path:
    """The Python of the peers' environment at `folder`, which is made where it is missing: `installs` one after the other."""
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        for packages in installs:
            subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True)
    return python


def seconds(work: Callable[[], Any]) -> float:
    """Wall-clock time of one call."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def summarize(figures: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    """Median, least and greatest of each."""
    return {
        name: {"median": statistics.median(values), "min": min(values), "max": max(values)}
        for name, values in figures.items()
    }


def ratios(figures: dict[str, list[float]], numerator: str, denominator: str) -> dict[str, float]:
    """The ratio round by round: its median and its spread."""
    each = [a / b for a, b in zip(figures[numerator], figures[denominator], strict=True)]
    return {"median": statistics.median(each), "min": min(each), "max": max(each)}


def report(name: str, rows: list[tuple[str, ...]], figures: dict[str, Any]) -> None:
    """Print a table and write `results/NAME.json` with the machine and every figure."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)))
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps({"machine": machine(), **figures}, indent=1) + "\n")
    print(f"written: {path}")

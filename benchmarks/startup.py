"""How soon something happens: `elman --help`, and the first update of a second training.

python benchmarks/startup.py            about one minute
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measuring import interleaved, report, summarize

ROUNDS = 5


def help_seconds() -> float:
    """`elman --help`, the whole process."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-m", "elman", "--help"], capture_output=True, check=True)
    return time.perf_counter() - began


def bare_python_seconds() -> float:
    """An interpreter that does nothing, for comparison."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", "pass"], capture_output=True, check=True)
    return time.perf_counter() - began


def first_update_seconds(cache: str) -> float:
    """From the start of the process to the first `update` line of `elman train text python-docs`."""
    with tempfile.TemporaryDirectory() as folder:
        events = Path(folder) / "run" / "events.jsonl"
        command = [
            sys.executable,
            "-m",
            "elman",
            "train",
            "text",
            "python-docs",
            "--steps",
            "1000",
            "--run",
            str(events.parent),
            "--quiet",
        ]
        began = time.perf_counter()
        process = subprocess.Popen(command, env={**os.environ, "XDG_CACHE_HOME": cache}, stderr=subprocess.DEVNULL)
        try:
            while True:
                if events.exists() and any(
                    json.loads(line)["kind"] == "update" for line in events.read_text().splitlines()
                ):
                    return time.perf_counter() - began
                if process.poll() is not None:
                    raise RuntimeError("the training ended before its first update")
                time.sleep(0.01)
        finally:
            process.kill()
            process.wait()


def main() -> None:
    """Measure, print, write."""
    with tempfile.TemporaryDirectory() as cache:
        first = first_update_seconds(cache)
        figures = interleaved(
            {
                "python -c pass": bare_python_seconds,
                "elman --help": help_seconds,
                "first update, second start": lambda: first_update_seconds(cache),
            },
            ROUNDS,
        )
    figures["first update, very first start"] = [first]
    rows = [("seconds", "median", "least", "greatest")]
    rows += [(name, *(f"{row[k]:.2f}" for k in ("median", "min", "max"))) for name, row in summarize(figures).items()]
    report("startup", rows, {"seconds": figures})


if __name__ == "__main__":
    main()

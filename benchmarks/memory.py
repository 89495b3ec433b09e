"""Training does not load the text: resident memory over a text of 3, 30 and 300 MB.

python benchmarks/memory.py             about two minutes, 600 MB of temporary disk
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from measuring import report

SIZES = (3, 30, 300)
SCRIPT = """
import resource, sys
from elman.cli import main
status = main(sys.argv[1:])
print("PEAK", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
sys.exit(status)
"""


def write_text(path: Path, megabytes: int) -> None:
    """Words drawn by Zipf's law, from a fixed seed, written piece by piece."""
    generator = np.random.default_rng(0)
    letters = np.array(list("etaoinshrdlucmfwypvbgkjqxz"))
    words = np.array(["".join(generator.choice(letters, size=generator.integers(1, 10))) for _ in range(20000)])
    with open(path, "w", encoding="ascii") as file:
        while file.tell() < megabytes * 1_000_000:
            ranks = np.minimum(generator.zipf(1.3, 100_000), len(words)) - 1
            file.write(" ".join(words[ranks]) + "\n")


def anonymous_memory(process: subprocess.Popen) -> int:
    """Resident memory that belongs to the process alone, in kilobytes: mapped files can be dropped by the system at any time."""
    try:
        for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1])
    except OSError:
        pass
    return 0


def measure(megabytes: int) -> dict[str, float]:
    """Encode and train 200 updates: peak resident memory in MB, the seconds of the first open included."""
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder) / "text.txt"
        write_text(text, megabytes)
        command = [
            sys.executable,
            "-c",
            SCRIPT,
            "train",
            "text",
            str(text),
            "--steps",
            "200",
            "--hidden",
            "128",
            "--quiet",
        ]
        command += ["--run", str(Path(folder) / "run"), "--validate-every", "0", "--sample-every", "0"]
        began, anonymous = time.perf_counter(), 0
        environment = {**os.environ, "XDG_CACHE_HOME": folder}
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
        )
        while process.poll() is None:
            anonymous = max(anonymous, anonymous_memory(process))
            time.sleep(0.02)
        assert process.stdout is not None
        output = process.stdout.read()
        peak = int(output.split("PEAK")[1])
        return {"peak_mb": peak / 1024, "anonymous_mb": anonymous / 1024, "seconds": time.perf_counter() - began}


def main() -> None:
    """Measure, print, write."""
    figures = {f"{size} MB": measure(size) for size in SIZES}
    rows = [("text", "peak resident MB", "of it the process's own", "seconds")]
    rows += [
        (name, f"{r['peak_mb']:.0f}", f"{r['anonymous_mb']:.0f}", f"{r['seconds']:.0f}") for name, r in figures.items()
    ]
    report("memory", rows, {"by_size": figures})


if __name__ == "__main__":
    main()

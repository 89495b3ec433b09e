"""The regression guard: in under three minutes, a handful of ratios beside those of the last time, and what got slower by name.

Seconds depend on the machine and the hour, ratios hardly: each figure is elman against something that does not change with elman's
code (the scan that XLA compiles, the NumPy program, a matrix product), side by side and in turn. What is stored depends on the
processor, so another processor stores its own.

python benchmarks/quick.py              compares with results/quick.json; exit status 1 if anything got slower
python benchmarks/quick.py --store      keeps what it measured for the next time
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import classic
from layers import start_libraries
from layers_libraries import Case
from layers_worker import PROBE
from measuring import RESULTS, interleaved, machine, seconds, summarize

CASES = (
    Case("characters", "tanh", 64, 128, 64),
    Case("characters", "gru", 16, 256, 64),
    Case("characters", "gru", 32, 256, 64),
    Case("characters", "lstm", 32, 512, 64),
    Case("dense", "lstm", 128, 128, 120, 8),
    Case("characters", "gru", 32, 256, 64, training=False),
)
ROUNDS = 5
SLOWER = 0.85
"""What a ratio may fall to before it counts as slower: these machines are noisy."""


def layers() -> dict[str, float]:
    """For each case how many times as long the scan takes, and which part of the rate of a matrix product elman reaches."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        libraries = start_libraries(["elman", "elman-scan"], Path(folder), 2, Path(folder))
        try:
            for case in CASES:
                request = {"case": vars(case), "least": 0.3}
                for library in libraries.values():
                    library.ask({**request, "warm": True}, 120)
                asked = {
                    "probe": lambda: libraries["elman"].ask({"probe": True}, 60)["seconds"],
                    **{
                        name: lambda library=library, request=request: library.ask({**request, "warm": False}, 60)[
                            "seconds"
                        ]
                        for name, library in libraries.items()
                    },
                }
                median = {name: row["median"] for name, row in summarize(interleaved(asked, ROUNDS)).items()}
                found[f"{case.name}: times the scan"] = median["elman-scan"] / median["elman"]
                share = case.multiply_adds / median["elman"] / (PROBE**3 / median["probe"])
                found[f"{case.name}: share of a matrix product's rate"] = share
        finally:
            for library in libraries.values():
                library.close()
    return found


def classic_program() -> dict[str, float]:
    """The classic program's updates per second against the NumPy program's."""
    import numpy as np

    figures = interleaved(
        {
            "numpy": lambda: classic.numpy_updates_per_second(np.float32),
            "elman": classic.block_updates_per_second,
        },
        3,
    )
    median = {name: row["median"] for name, row in summarize(figures).items()}
    return {"classic program: times the NumPy program": median["elman"] / median["numpy"]}


def compare(found: dict[str, float], stored: dict[str, Any]) -> list[str]:
    """Print all, and return what got slower."""
    slower = []
    width = max(map(len, found))
    for name, value in found.items():
        before = stored.get("ratios", {}).get(name)
        note = ""
        if before is not None:
            note = f"before {before:6.2f}"
            if value < SLOWER * before:
                slower.append(name)
                note += "   SLOWER"
        print(f"{name:{width}}  {value:6.2f}   {note}")
    return slower


def main() -> int:
    """Measure, compare, store where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--store", action="store_true", help="keep these ratios for the next time")
    parsed = parser.parse_args()
    found: dict[str, float] = {}
    took = seconds(lambda: found.update({**layers(), **classic_program()}))
    path = RESULTS / "quick.json"
    every = json.loads(path.read_text()) if path.exists() else {}
    processor = machine()["processor"]
    slower = compare(found, every.get(processor, {}))
    print(f"{took:.0f} s; measured {time.strftime('%Y-%m-%d')} on {processor}")
    if parsed.store or processor not in every:
        path.write_text(json.dumps({**every, processor: {"machine": machine(), "ratios": found}}, indent=1) + "\n")
        print(f"written: {path}")
    elif slower:
        print(f"{len(slower)} got slower: {'; '.join(slower)}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

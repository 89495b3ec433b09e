"""One library of `layers.py`, run by the Python of its own environment: makes cases ready and says how long an update takes.

    python layers_worker.py LIBRARY

The first line it writes is {"versions": ...}. Then it reads one JSON request per line and answers each with one JSON line:

    {"case": {...}, "warm": true}     make the case, run it until nothing more compiles: {"first": seconds, "seconds": seconds}
    {"case": {...}, "warm": false}    run it for at least `least` seconds: {"seconds": per update, "updates": number, "loss": last}
    {"probe": true}                   one product of two 2048 x 2048 matrices, by the library itself: {"seconds": seconds}
    {"forget": true}                  drop every case

or with {"error": why not}. Between requests it is blocked on its input.
"""

import contextlib
import json
import math
import os
import sys
import time
from collections.abc import Callable
from importlib import metadata
from typing import Any

import numpy as np

from layers_libraries import LIBRARIES, Case, Run

PROBE = 2048
"""Rows and columns of the product that tells how fast the machine is."""

NEEDS = {"keras-jax": "keras", "keras-torch": "keras", "scan": "jax", "scan-block": "jax", "elman-scan": "elman"}


def product_seconds(library: str) -> Callable[[], float]:
    """A function that times one product of two matrices by the library."""
    matrix = np.random.default_rng(0).standard_normal((PROBE, PROBE)).astype(np.float32)
    if library.startswith("torch"):
        import torch

        tensor = torch.from_numpy(matrix)

        def work() -> None:
            torch.mm(tensor, tensor)
    else:
        import jax
        import jax.numpy as jnp

        array, compiled = jnp.asarray(matrix), jax.jit(jnp.matmul)

        def work() -> None:
            jax.block_until_ready(compiled(array, array))

    def timed() -> float:
        began = time.perf_counter()
        work()
        return time.perf_counter() - began

    timed()
    return timed


class Worker:
    """The cases of one library that are ready to run, each with the seconds that one of its updates took last."""

    def __init__(self, library: str) -> None:
        self.library = library
        self.ready: dict[str, tuple[Run, float]] = {}
        self.product: Callable[[], float] | None = None

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """What one request gives."""
        if request.get("forget"):
            self.ready.clear()
            return {}
        if request.get("probe"):
            self.product = self.product or product_seconds(self.library)
            return {"seconds": self.product()}
        case = Case(**request["case"])
        if request["warm"]:
            return self._warm(case)
        run, guess = self.ready[case.name]
        seconds, updates, loss = measure(run, guess, request.get("least", 0.3))
        self.ready[case.name] = run, seconds
        return {"seconds": seconds, "updates": updates, "loss": loss}

    def _warm(self, case: Case) -> dict[str, Any]:
        began = time.perf_counter()
        run = LIBRARIES[self.library](case)
        run(1)
        first = time.perf_counter() - began
        seconds, _, _ = measure(run, 1.0, 0.0)
        if seconds < 1:
            seconds, _, _ = measure(run, seconds, 0.05)  # what the second call compiles is not counted either
        self.ready[case.name] = run, seconds
        return {"first": first, "seconds": seconds}


def measure(run: Run, guess: float, least: float) -> tuple[float, int, float | None]:
    """Updates until `least` seconds are over, at least one: seconds per update, how many, the last one's loss."""
    began, updates, elapsed = time.perf_counter(), 0, 0.0
    while True:
        count = max(1, min(500, math.ceil((least - elapsed) / guess)))
        loss = run(count)
        updates += count
        elapsed = time.perf_counter() - began
        if elapsed >= least:
            return elapsed / updates, updates, loss
        guess = elapsed / updates


def versions() -> dict[str, str]:
    """Those of everything here that may be timed, and by which path elman computes."""
    found = {}
    for package in ("elman", "torch", "keras", "flax", "equinox", "optax", "jax", "jaxlib", "numpy"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


def main() -> None:
    """Answer requests until the input ends."""
    library = sys.argv[1]
    # Libraries print, too: what they print goes where errors go, and this file keeps the way to the driver for itself.
    channel = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    try:
        about: dict[str, Any] = {"versions": versions()}
        __import__(NEEDS.get(library, library.split("-")[0]))
        if library.startswith("elman"):
            from elman.network import kernels

            about["kernels"] = str(kernels.status())
    except Exception as error:
        about = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(about), file=channel)
    worker = Worker(library)
    for line in sys.stdin:
        try:
            answer = worker.answer(json.loads(line))
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}".splitlines()[0][:300]}
        print(json.dumps(answer), file=channel)


if __name__ == "__main__":
    main()

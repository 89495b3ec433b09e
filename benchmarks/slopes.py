"""How elman's updates grow: seconds against steps and against sequences, the price of recurrent dropout, bytes for every step.

Steps and sequences at 256 units: what a step costs must not depend on how many there are, so that the slope between the logarithms
is 1 (below it where a small batch leaves the processor idle). Recurrent dropout stands beside PyTorch's way, a loop over its cells
with one mask, because its layers have no such dropout; PyTorch is asked where `layers.py` has made the peers' environment.
Bytes are the compiler's own count of what an update needs beside weights and batches, for two numbers of steps.

python benchmarks/slopes.py [--peers PATH] [--only steps batch dropout memory]             about four minutes
"""

import argparse
import dataclasses
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from elman.network import kernels
from layers import Library
from layers_libraries import Case, elman_functions, jax_block
from measuring import interleaved, ratios, report, summarize

STEPS = (16, 32, 64, 128, 256, 512, 1024)
BATCHES = (4, 8, 16, 32, 64, 128, 256)
DROPOUT = 0.3
PARTS = ("steps", "batch", "dropout", "memory")


def ready(library: Library, case: Case, least: float) -> Callable[[], float]:
    """Make a case ready; a function that gives the seconds of one of its updates."""
    request = {"case": dataclasses.asdict(case), "least": least}

    def ask(*, warm: bool) -> float:
        answer = library.ask({**request, "warm": warm}, 600)
        if "error" in answer:
            raise RuntimeError(f"{library.name}, {case.name}: {answer['error']}")
        return answer["seconds"]

    ask(warm=True)
    return lambda: ask(warm=False)


def growth(elman: Library, axis: str, parsed: argparse.Namespace) -> tuple[dict[str, Any], list[tuple[str, ...]]]:
    """Seconds per update along one axis, all points in turn, and the slope between the logarithms."""
    values = STEPS if axis == "steps" else BATCHES
    usual = Case("characters", "gru", 32, 256, 64)
    figures, rows = {}, []
    for cell in ("gru", "lstm"):
        cases = {value: dataclasses.replace(usual, cell=cell, **{axis: value}) for value in values}
        work = {str(value): ready(elman, case, parsed.least) for value, case in cases.items()}
        seconds = interleaved(work, parsed.rounds)
        elman.ask({"forget": True}, 60)
        medians = [row["median"] for row in summarize(seconds).values()]
        slope = float(np.polyfit(np.log(values), np.log(medians), 1)[0])
        figures[cell] = {"seconds": seconds, "slope": slope}
        rows.append((f"{cell}, {axis}", *map(str, values), "slope"))
        rows.append(("milliseconds", *(f"{1e3 * median:.3g}" for median in medians), f"{slope:.3f}"))
        each = [1e6 * median / value for median, value in zip(medians, values, strict=True)]
        rows.append((f"microseconds for one of {axis}", *(f"{one:.3g}" for one in each), ""))
    return figures, rows


def dropout(
    elman: Library, peers: dict[str, Library], parsed: argparse.Namespace
) -> tuple[dict[str, Any], list[tuple[str, ...]]]:
    """Updates with and without recurrent dropout, in turn."""
    figures, rows = {}, [("recurrent dropout", "ms without", "ms with", "with / without", "", "", "", "", "")]
    for cell in ("gru", "lstm"):
        for hidden in (256, 512):
            plain = Case("characters", cell, 32, hidden, 64)
            dropped = dataclasses.replace(plain, recurrent_dropout=DROPOUT)
            work = {"elman": ready(elman, plain, parsed.least), "elman dropped": ready(elman, dropped, parsed.least)}
            if peers:
                work["torch"] = ready(peers["torch"], plain, parsed.least)
                work["torch dropped"] = ready(peers["torch-cells"], dropped, parsed.least)
            seconds = interleaved(work, parsed.rounds)
            medians = {name: row["median"] for name, row in summarize(seconds).items()}
            found: dict[str, Any] = {"seconds": seconds}
            for name in ("elman", "torch") if peers else ("elman",):
                found[f"{name} with / without"] = ratio = ratios(seconds, f"{name} dropped", name)
                cells = [f"{1e3 * medians[key]:.3g}" for key in (name, f"{name} dropped")]
                spread = f"{ratio['median']:.2f} ({ratio['min']:.2f}-{ratio['max']:.2f})"
                rows.append((f"{name}, {plain.name}", *cells, spread, "", "", "", "", ""))
            if peers:
                found["torch / elman, with"] = ratio = ratios(seconds, "torch dropped", "elman dropped")
                rows.append(("torch / elman, with", "", "", f"{ratio['median']:.2f}", "", "", "", "", ""))
            figures[plain.name] = found
            for library in (elman, *peers.values()):
                library.ask({"forget": True}, 60)
    return figures, rows


def temporary_bytes(case: Case) -> int:
    """What the compiled updates need beside their arguments and results."""
    loss_of, _, network, carry = elman_functions(case)
    block, *arguments = jax_block(case, loss_of, network, carry)
    return block.lower(*arguments, np.int32(1)).compile().memory_analysis().temp_size_in_bytes


def expected_bytes(case: Case) -> int:
    """By what must live at the same time, for one step of one sequence: h and its gradient, what is kept, the gates' gradients.

    The head's arrays are gone by then, and their memory is used again.
    """
    *_, network, _ = elman_functions(case)
    kind = kernels.calls.kind_of(network.cells[0])
    assert kind is not None
    blocks = 2 + kernels.calls.SAVED_BLOCKS[kind] + kernels.calls.GRADIENT_BLOCKS[kind]
    return 4 * case.hidden * blocks


def memory() -> tuple[dict[str, Any], list[tuple[str, ...]]]:
    """Bytes that one more step of one sequence needs, measured and expected."""
    figures, rows = {}, [("bytes for a step of a sequence", "measured", "expected", "measured / expected", *[""] * 5)]
    few, many = 64, 256
    for cell in ("tanh", "gru", "lstm"):
        for hidden in (256, 512):
            short = Case("characters", cell, 32, hidden, few)
            total = {steps: temporary_bytes(dataclasses.replace(short, steps=steps)) for steps in (few, many)}
            measured = (total[many] - total[few]) / ((many - few) * short.batch)
            expected = expected_bytes(short)
            name = f"{cell}, {hidden} units"
            figures[name] = {"measured": measured, "expected": expected, "bytes": total}
            rows.append((name, f"{measured:,.0f}", f"{expected:,}", f"{measured / expected:.2f}", *[""] * 5))
    return figures, rows


def peers_of(parsed: argparse.Namespace, logs: Path) -> dict[str, Library]:
    """PyTorch's two processes, where its environment is there; they start when they are asked."""
    python = parsed.peers / "bin" / "python"
    if not python.exists():
        return {}
    return {name: Library(name, python, parsed.threads, logs) for name in ("torch", "torch-cells")}


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers", type=Path, default=Path(tempfile.gettempdir()) / "elman-layers-peers")
    parser.add_argument("--only", nargs="*", choices=PARTS, default=PARTS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--least", type=float, default=0.3, help="seconds that each repetition lasts at least")
    parsed = parser.parse_args()
    found: dict[str, Any] = {"computed_with": str(kernels.status()), "rounds": parsed.rounds}
    rows: list[tuple[str, ...]] = []
    with tempfile.TemporaryDirectory() as folder:
        logs = Path(folder)
        elman, peers = Library("elman", Path(sys.executable), parsed.threads, logs), peers_of(parsed, logs)
        try:
            for part in parsed.only:
                if part == "memory":
                    figures, more = memory()
                elif part == "dropout":
                    figures, more = dropout(elman, peers, parsed)
                else:
                    figures, more = growth(elman, part, parsed)
                found[part] = figures
                rows += more
        finally:
            for library in (elman, *peers.values()):
                library.close()
    print(f"computed with: {kernels.status()}")
    report("slopes" + ("" if tuple(parsed.only) == PARTS else "-other"), rows, found)


if __name__ == "__main__":
    main()

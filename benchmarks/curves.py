"""Validation loss against time, as many minutes for each: elman with and without kernels, PyTorch's LSTM, nanoGPT's CPU recipe.

All on tiny-Shakespeare with the last tenth held out, on the same processor, one after the other. elman runs without flags.
PyTorch's LSTM of 256 units is trained as one would: streams with carried state, AdamW, cosine to the end of the minutes, dropout
0.15. nanoGPT's recipe for a CPU is written from its published settings: 4 layers, 4 heads, 128 wide, context 64, batch 12, 2,000
updates; its published validation loss is 1.88. Recurrent networks are scored over the whole held-out part with carried state, the
transformer over all of it in pieces of its context, as it is trained. Time spent validating is not counted for the peers.

python benchmarks/curves.py --peers PATH [--minutes 3]        needs torch in the environment at PATH (see layers.py): 12 minutes
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from layers import INSTALLS
from measuring import DATA, RESULTS, peers_python, report

TEXT = DATA / "tinyshakespeare.txt"
WORKER = Path(__file__).parent / "curves_worker.py"


def elman_curve(minutes: float, kernels: str) -> list[tuple[float, float]]:
    """Seconds and validation loss of a run of the product without flags."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        subprocess.run(
            [
                sys.executable,
                "-m",
                "elman",
                "train",
                "text",
                str(TEXT),
                "--run",
                str(run),
                "--minutes",
                str(minutes),
                "--quiet",
            ],
            env={**os.environ, "ELMAN_KERNELS": kernels},
            check=True,
        )
        events = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    return [(event["elapsed"], event["nats"]) for event in events if event["kind"] == "validation"]


def peer_curve(python: Path, name: str, minutes: float) -> list[tuple[float, float]]:
    """The same of a peer, in its own environment."""
    command = [str(python), str(WORKER), name, str(TEXT), str(minutes)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return [tuple(point) for point in json.loads(done.stdout.splitlines()[-1])]


def draw(curves: dict[str, list[tuple[float, float]]], path: Path) -> None:
    """The curves in one picture."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 4.5))
    for name, points in curves.items():
        axes.plot(*zip(*points, strict=True), marker="o", markersize=3, label=f"{name}: {points[-1][1]:.3f}")
    axes.axhline(1.4697, color="gray", linewidth=0.8, linestyle=":")
    label = "nanoGPT, three minutes on an A100 (published)"
    axes.text(0.01, 1.4697, label, fontsize=8, color="gray", va="top", transform=axes.get_yaxis_transform())
    axes.set(xlabel="seconds of training on two cores", ylabel="validation loss, nats per character", ylim=(1.35, 2.4))
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path.with_suffix(".svg"), bbox_inches="tight", metadata={"Date": None})
    figure.savefig(path.with_suffix(".png"), dpi=120, bbox_inches="tight")


def main() -> None:
    """Measure, print, draw, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=3.0)
    parsed = parser.parse_args()
    python = peers_python(parsed.peers, INSTALLS)
    curves = {
        "elman": elman_curve(parsed.minutes, "on"),
        "elman without kernels": elman_curve(parsed.minutes, "off"),
        "PyTorch LSTM": peer_curve(python, "lstm", parsed.minutes),
        "nanoGPT's CPU recipe": peer_curve(python, "nanogpt", parsed.minutes),
    }
    name = "curves" if parsed.minutes == 3.0 else "curves-other"
    rows = [("validation, nats per character", "at the end", "seconds")]
    rows += [(label, f"{points[-1][1]:.3f}", f"{points[-1][0]:.0f}") for label, points in curves.items()]
    report(name, rows, {"minutes": parsed.minutes, "curves": curves})
    if name == "curves":
        draw(curves, RESULTS.parents[1] / "docs" / "pictures" / "curves")


if __name__ == "__main__":
    main()

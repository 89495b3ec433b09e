"""One stream of samples: 100 tanh units against the NumPy sampler, a GRU of 256 against loops of PyTorch and ONNX Runtime.

python benchmarks/sampling.py [--peers PATH]           about one minute
"""

import argparse
import json
import subprocess
import time
from pathlib import Path

import numpy as np

import classic_numpy
from elman.text.model import TextModel
from elman.text.sampling import CHUNK
from layers import INSTALLS
from measuring import interleaved, peers_python, ratios, report, summarize

ROUNDS, LENGTH = 7, 32 * CHUNK
ALPHABET = "".join(chr(33 + code) for code in range(65))


def elman_rate(model: TextModel) -> float:
    """Characters per second of `TextModel.stream`, decoding included, after one call that compiles."""
    for _ in model.stream("A", length=LENGTH, seed=0):
        pass
    began = time.perf_counter()
    written = sum(len(piece) for piece in model.stream("A", length=LENGTH, seed=1))
    return written / (time.perf_counter() - began)


def numpy_rate(dtype: type) -> float:
    """Characters per second of the classic program's sampler."""
    weights = classic_numpy.initial_weights(65, dtype=dtype)
    began = time.perf_counter()
    classic_numpy.sample(weights, np.zeros((classic_numpy.HIDDEN, 1), dtype), 0, 2000)
    return 2000 / (time.perf_counter() - began)


class Peers:
    """PyTorch and ONNX Runtime, in a process of their own."""

    NAMES = ("PyTorch nn.GRU loop", "PyTorch nn.GRUCell loop", "ONNX Runtime loop")

    def __init__(self, folder: Path) -> None:
        python = peers_python(folder, INSTALLS)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "onnx", "onnxruntime"], check=True)
        worker = Path(__file__).parent / "sampling_worker.py"
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process: subprocess.Popen[str] = subprocess.Popen([python, worker], **pipes)  # type: ignore[call-overload]

    def rate(self, name: str) -> float:
        """Characters per second of one of them."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(name + "\n")
        self.process.stdin.flush()
        return float(json.loads(self.process.stdout.readline()))


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--peers", type=Path, help="the environment of layers.py; without it PyTorch and ONNX Runtime are left out"
    )
    parsed = parser.parse_args()
    classic = TextModel.untrained(ALPHABET, cell="elman", hidden=100)
    gru = TextModel.untrained(ALPHABET, cell="gru", hidden=256)
    candidates = {
        "elman, tanh 100": lambda: elman_rate(classic),
        "NumPy sampler, float64": lambda: numpy_rate(np.float64),
        "NumPy sampler, float32": lambda: numpy_rate(np.float32),
        "elman, GRU 256": lambda: elman_rate(gru),
    }
    pairs = [("elman, tanh 100", "NumPy sampler, float64"), ("elman, tanh 100", "NumPy sampler, float32")]
    if parsed.peers:
        peers = Peers(parsed.peers)
        candidates |= {name: lambda name=name: peers.rate(name) for name in Peers.NAMES}
        pairs += [("elman, GRU 256", name) for name in Peers.NAMES]
    figures = interleaved(candidates, ROUNDS)
    rows = [("one stream", "characters/s (median)", "least", "greatest")]
    rows += [(name, *(f"{row[k]:,.0f}" for k in ("median", "min", "max"))) for name, row in summarize(figures).items()]
    against = {f"{a} / {b}": ratios(figures, a, b) for a, b in pairs}
    rows += [(name, *(f"{row[k]:.1f} x" for k in ("median", "min", "max"))) for name, row in against.items()]
    report("sampling", rows, {"characters_per_second": figures, "ratios": against})


if __name__ == "__main__":
    main()

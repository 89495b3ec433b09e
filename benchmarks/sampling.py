"""One stream of sampled characters: the classic size against the NumPy sampler, a GRU of 256 units against a PyTorch loop.

python benchmarks/sampling.py           about one minute; the second half needs torch (`pip install torch`), else it says so
"""

import time

import numpy as np

import classic_numpy
from elman.text.model import TextModel
from elman.text.sampling import CHUNK
from measuring import interleaved, ratios, report, summarize

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


def torch_rates() -> dict:
    """PyTorch, one character per call: `nn.GRU` on a one-hot vector, and `nn.GRUCell`, then softmax and multinomial."""
    import torch

    torch.manual_seed(0)
    layer, cell, head = torch.nn.GRU(65, 256), torch.nn.GRUCell(65, 256), torch.nn.Linear(256, 65)

    def measure(step: object, state: torch.Tensor) -> float:
        eye, symbol = torch.eye(65), 0
        with torch.inference_mode():
            began = time.perf_counter()
            for _ in range(2000):
                state = step(eye[symbol][None], state)  # type: ignore[operator]
                symbol = int(torch.multinomial(torch.softmax(head(state), -1), 1))
            return 2000 / (time.perf_counter() - began)

    return {
        "PyTorch nn.GRU loop": lambda: measure(lambda x, h: layer(x, h)[1], torch.zeros(1, 256)),
        "PyTorch nn.GRUCell loop": lambda: measure(cell, torch.zeros(1, 256)),
    }


def main() -> None:
    """Measure, print, write."""
    classic = TextModel.untrained(ALPHABET, cell="elman", hidden=100)
    gru = TextModel.untrained(ALPHABET, cell="gru", hidden=256)
    candidates = {
        "elman, tanh 100": lambda: elman_rate(classic),
        "NumPy sampler, float64": lambda: numpy_rate(np.float64),
        "NumPy sampler, float32": lambda: numpy_rate(np.float32),
        "elman, GRU 256": lambda: elman_rate(gru),
    }
    pairs = [("elman, tanh 100", "NumPy sampler, float64"), ("elman, tanh 100", "NumPy sampler, float32")]
    try:
        candidates |= torch_rates()
        pairs += [("elman, GRU 256", "PyTorch nn.GRU loop"), ("elman, GRU 256", "PyTorch nn.GRUCell loop")]
    except ImportError:
        print("torch is not installed: its two rows are left out")
    figures = interleaved(candidates, ROUNDS)
    rows = [("one stream", "characters/s (median)", "least", "greatest")]
    rows += [(name, *(f"{row[k]:,.0f}" for k in ("median", "min", "max"))) for name, row in summarize(figures).items()]
    against = {f"{a} / {b}": ratios(figures, a, b) for a, b in pairs}
    rows += [(name, *(f"{row[k]:.1f} x" for k in ("median", "min", "max"))) for name, row in against.items()]
    report("sampling", rows, {"characters_per_second": figures, "ratios": against})


if __name__ == "__main__":
    main()

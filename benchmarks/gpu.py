"""A recurrent layer on a GPU, forward and backward: elman's scan, `torch.nn` on cuDNN and `jax.experimental.rnn` (cuDNN too).

    pip install 'jax[cuda12]' torch && python benchmarks/gpu.py       where there is a GPU; about three minutes
    python benchmarks/gpu.py --cpu                                    the same calls on the processor, to try the script

The gradient of the sum of all hidden states, with respect to weights and inputs, float32. The libraries share the GPU one after the
other. `jax.experimental.rnn` has an LSTM only.
"""

import argparse
import functools
import os
from collections.abc import Callable
from typing import Any

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

import jax
import jax.numpy as jnp
import numpy as np

import elman
from measuring import interleaved, ratios, report, seconds

SHAPES = ((32, 256), (64, 512), (128, 1024), (512, 1024))
STEPS, INPUTS, REPEATS = 128, 64, 20


def elman_case(cell: str, batch: int, hidden: int) -> Callable[[], Any]:
    """The recurrence that is no kernel's: a scan with its own derivative."""
    kind = {"gru": elman.GRU, "lstm": elman.LSTM}[cell]
    layer = kind.create(INPUTS, hidden, key=jax.random.key(0))
    xs = jnp.asarray(np.random.default_rng(0).standard_normal((STEPS, batch, INPUTS)), jnp.float32)
    gradient = jax.jit(jax.grad(lambda both: elman.unroll(both[0], both[1])[0].sum()))
    return lambda: jax.block_until_ready([gradient((layer, xs)) for _ in range(REPEATS)])


def cudnn_case(batch: int, hidden: int) -> Callable[[], Any]:
    """JAX's own binding of cuDNN's LSTM."""
    from jax.experimental import rnn

    weights = rnn.init_lstm_weight(jax.random.key(0), INPUTS, hidden, 1, False)
    xs = jnp.asarray(np.random.default_rng(0).standard_normal((batch, STEPS, INPUTS)), jnp.float32)
    state, lengths = jnp.zeros((1, batch, hidden)), jnp.full(batch, STEPS, jnp.int32)

    def total(weights: jax.Array, xs: jax.Array) -> jax.Array:
        return rnn.lstm(xs, state, state, weights, lengths, INPUTS, hidden, 1, 0.0, False)[0].sum()

    gradient = jax.jit(jax.grad(total, argnums=(0, 1)))
    return lambda: jax.block_until_ready([gradient(weights, xs) for _ in range(REPEATS)])


def torch_case(cell: str, batch: int, hidden: int, device: str) -> Callable[[], Any]:
    """`nn.GRU` or `nn.LSTM`, which is cuDNN on a GPU."""
    import torch

    layer = {"gru": torch.nn.GRU, "lstm": torch.nn.LSTM}[cell](INPUTS, hidden).to(device)
    xs = torch.randn(STEPS, batch, INPUTS, device=device, requires_grad=True)

    def work() -> None:
        for _ in range(REPEATS):
            layer.zero_grad(set_to_none=True)
            xs.grad = None
            layer(xs)[0].sum().backward()
        if device == "cuda":
            torch.cuda.synchronize()

    return work


def candidates(cell: str, batch: int, hidden: int, device: str) -> dict[str, Callable[[], Any]]:
    """By name, what can run here."""
    found = {"elman": elman_case(cell, batch, hidden)}
    try:
        found["torch.nn"] = torch_case(cell, batch, hidden, device)
    except ImportError:
        print("PyTorch is not installed here and is left out")
    if cell == "lstm" and device == "cuda":
        found["jax.experimental.rnn"] = cudnn_case(batch, hidden)
    return found


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cpu", action="store_true", help="on the processor, whose figures say nothing about a GPU")
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    if not chosen.cpu and jax.default_backend() != "gpu":
        raise SystemExit("JAX sees no GPU here: install jax[cuda12] where there is one, or try the script with --cpu")
    if chosen.cpu:
        jax.config.update("jax_platforms", "cpu")
    device = "cpu" if chosen.cpu else "cuda"
    rows, figures = [("layer", "elman", "torch.nn / elman", "jax.experimental.rnn / elman")], {}
    for cell in ("gru", "lstm"):
        for batch, hidden in SHAPES[:1] if chosen.cpu else SHAPES:
            works = candidates(cell, batch, hidden, device)
            for work in works.values():
                work()  # compiles
            found = interleaved({name: functools.partial(seconds, work) for name, work in works.items()}, chosen.rounds)
            name = f"{cell} {batch}x{hidden}x{STEPS}"
            figures[name] = {library: [second / REPEATS for second in each] for library, each in found.items()}
            told = [f"{ratios(found, peer, 'elman')['median']:.2f} x" if peer in found else "" for peer in PEERS]
            rows.append((name, f"{1e3 * sorted(figures[name]['elman'])[chosen.rounds // 2]:.2f} ms", *told))
    report("gpu-on-cpu" if chosen.cpu else "gpu", rows, {"device": str(jax.devices()[0]), "seconds": figures})


PEERS = ("torch.nn", "jax.experimental.rnn")

if __name__ == "__main__":
    main()

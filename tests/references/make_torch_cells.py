"""Make `torch_cells.npz`: what PyTorch's recurrent layers compute, values and gradients, for weights that are drawn here.

    python tests/references/make_torch_cells.py

needs PyTorch (the stored file: PyTorch 2.13.0, CPU, float64). The tests compare with the file always, and with PyTorch itself where
it can be imported.
"""

from pathlib import Path

import numpy as np

PATH = Path(__file__).with_name("torch_cells.npz")
STEPS, BATCH, INPUTS, HIDDEN = 6, 2, 3, 4
NAMES = ("elman-tanh", "elman-relu", "gru", "lstm")


def compute() -> dict[str, np.ndarray]:
    """Arrays named `<cell>.<what>`. The loss behind the gradients is sum(ys · ys_weight) + sum(last · last_weight)."""
    import torch

    arrays: dict[str, np.ndarray] = {}
    for number, name in enumerate(NAMES):
        generator = np.random.default_rng(number)

        def drawn(*shape: int, generator: np.random.Generator = generator) -> "torch.Tensor":
            return torch.tensor(0.7 * generator.standard_normal(shape), dtype=torch.float64, requires_grad=True)

        layer = {
            "elman-tanh": lambda: torch.nn.RNN(INPUTS, HIDDEN, nonlinearity="tanh"),
            "elman-relu": lambda: torch.nn.RNN(INPUTS, HIDDEN, nonlinearity="relu"),
            "gru": lambda: torch.nn.GRU(INPUTS, HIDDEN),
            "lstm": lambda: torch.nn.LSTM(INPUTS, HIDDEN),
        }[name]().double()
        with torch.no_grad():
            for weight in layer.parameters():
                weight.copy_(drawn(*weight.shape))
        xs, h0, c0 = drawn(STEPS, BATCH, INPUTS), drawn(1, BATCH, HIDDEN), drawn(1, BATCH, HIDDEN)
        if name == "lstm":
            ys, (h, c) = layer(xs, (h0, c0))
            first, last = torch.cat([h0, c0], -1)[0], torch.cat([h, c], -1)[0]
        else:
            ys, h = layer(xs, h0)
            first, last = h0[0], h[0]
        ys_weight, last_weight = drawn(*ys.shape), drawn(*last.shape)
        ((ys * ys_weight).sum() + (last * last_weight).sum()).backward()
        first_gradient = torch.cat([h0.grad, c0.grad], -1)[0] if name == "lstm" else h0.grad[0]
        found = {
            "xs": xs,
            "carry": first,
            "ys": ys,
            "last": last,
            "ys_weight": ys_weight,
            "last_weight": last_weight,
            "d_xs": xs.grad,
            "d_carry": first_gradient,
        }
        for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            found[part] = getattr(layer, part + "_l0")
            found["d_" + part] = found[part].grad
        arrays.update({f"{name}.{part}": tensor.detach().numpy().copy() for part, tensor in found.items()})
    return arrays


if __name__ == "__main__":
    np.savez_compressed(PATH, **compute())

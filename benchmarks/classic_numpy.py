"""The classic minimal character RNN in plain NumPy, written from its description (docs/lecture.md, L9): the yardstick.

The benchmark times it and the tests compare losses with it, so it does what the program does and in the way NumPy programs of its
kind do it: one column vector per step, a Python loop over the steps forward and back, Adagrad over five arrays.
"""

from collections.abc import Iterator

import numpy as np

HIDDEN, STEPS, RATE = 100, 25, 0.1


def initial_weights(
    vocab: int, *, hidden: int = HIDDEN, seed: int = 0, dtype: type = np.float64
) -> dict[str, np.ndarray]:
    """N(0, 1) · 0.01 for the matrices, zeros for the biases."""
    draw = np.random.RandomState(seed).randn
    return {
        "wxh": (draw(hidden, vocab) * 0.01).astype(dtype),
        "whh": (draw(hidden, hidden) * 0.01).astype(dtype),
        "why": (draw(vocab, hidden) * 0.01).astype(dtype),
        "bh": np.zeros((hidden, 1), dtype),
        "by": np.zeros((vocab, 1), dtype),
    }


def loss_and_gradients(
    weights: dict[str, np.ndarray], inputs: np.ndarray, targets: np.ndarray, state: np.ndarray
) -> tuple[float, dict[str, np.ndarray], np.ndarray]:
    """Forward and backward through one chunk: the summed loss, the clipped gradients, the last state."""
    vocab, dtype = len(weights["by"]), state.dtype
    xs, hs, ps, loss = {}, {-1: state}, {}, 0.0
    for t, (symbol, target) in enumerate(zip(inputs, targets, strict=True)):
        xs[t] = np.zeros((vocab, 1), dtype)
        xs[t][symbol] = 1
        hs[t] = np.tanh(np.dot(weights["wxh"], xs[t]) + np.dot(weights["whh"], hs[t - 1]) + weights["bh"])
        scores = np.dot(weights["why"], hs[t]) + weights["by"]
        ps[t] = np.exp(scores) / np.sum(np.exp(scores))
        loss += -np.log(ps[t][target, 0])
    gradients = {name: np.zeros_like(array) for name, array in weights.items()}
    from_later = np.zeros_like(state)
    for t in reversed(range(len(inputs))):
        d_scores = np.copy(ps[t])
        d_scores[targets[t]] -= 1
        gradients["why"] += np.dot(d_scores, hs[t].T)
        gradients["by"] += d_scores
        d_sum = (1 - hs[t] * hs[t]) * (np.dot(weights["why"].T, d_scores) + from_later)
        gradients["bh"] += d_sum
        gradients["wxh"] += np.dot(d_sum, xs[t].T)
        gradients["whh"] += np.dot(d_sum, hs[t - 1].T)
        from_later = np.dot(weights["whh"].T, d_sum)
    for gradient in gradients.values():
        np.clip(gradient, -5, 5, out=gradient)
    return float(loss), gradients, hs[len(inputs) - 1]


def train(
    codes: np.ndarray, weights: dict[str, np.ndarray], *, steps: int = STEPS, rate: float = RATE
) -> Iterator[float]:
    """Update `weights` in place for ever; yields each update's loss."""
    memory = {name: np.zeros_like(array) for name, array in weights.items()}
    position, state = 0, np.zeros_like(weights["bh"])
    while True:
        if position + steps + 1 >= len(codes):
            position, state = 0, np.zeros_like(weights["bh"])
        window = codes[position : position + steps + 1]
        loss, gradients, state = loss_and_gradients(weights, window[:-1], window[1:], state)
        for name, gradient in gradients.items():
            memory[name] += gradient * gradient
            weights[name] -= rate * gradient / np.sqrt(memory[name] + 1e-8)
        position += steps
        yield loss


def sample(weights: dict[str, np.ndarray], state: np.ndarray, symbol: int, length: int) -> list[int]:
    """`length` symbols drawn one by one, each fed back."""
    vocab = len(weights["by"])
    x = np.zeros((vocab, 1), state.dtype)
    x[symbol] = 1
    symbols = []
    for _ in range(length):
        state = np.tanh(np.dot(weights["wxh"], x) + np.dot(weights["whh"], state) + weights["bh"])
        scores = np.dot(weights["why"], state) + weights["by"]
        p = np.exp(scores) / np.sum(np.exp(scores))
        symbol = int(np.random.choice(range(vocab), p=p.ravel()))
        x = np.zeros((vocab, 1), state.dtype)
        x[symbol] = 1
        symbols.append(symbol)
    return symbols

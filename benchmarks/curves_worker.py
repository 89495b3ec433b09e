"""The peers of `curves.py`, in an environment that has torch: prints its points [seconds, validation loss] as one line of JSON."""

import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional

VALIDATIONS = 10


def codes_of(path: str) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Training and held-out symbols, and how many there are."""
    text = Path(path).read_text(encoding="utf-8")
    number = {character: i for i, character in enumerate(sorted(set(text)))}
    codes = torch.tensor([number[character] for character in text])
    return codes[: int(0.9 * len(codes))], codes[int(0.9 * len(codes)) :], len(number)


def timed(
    updates: Iterator[None], progress: list[float], limit: float, validate: Callable[[], float]
) -> list[list[float]]:
    """Points of a run of `limit` seconds, validations not counted; `progress[0]` tells the run how far it is."""
    points, spent, due = [], 0.0, limit / VALIDATIONS
    while spent < limit:
        began = time.perf_counter()
        stopped = next(updates, "over")
        spent += time.perf_counter() - began
        progress[0] = min(1.0, spent / limit)
        if spent >= due or stopped == "over":
            points.append([spent, validate()])
            due += limit / VALIDATIONS
        if stopped == "over":
            break
    return points


def lstm(training: torch.Tensor, held_out: torch.Tensor, symbols: int, seconds: float) -> list[list[float]]:
    """An LSTM of 256 units over 32 streams of 64 steps, AdamW, cosine to zero by the clock."""
    batch, steps, hidden = 32, 64, 256

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding, self.layer = nn.Embedding(symbols, symbols), nn.LSTM(symbols, hidden)
            self.dropout, self.head = nn.Dropout(0.15), nn.Linear(hidden, symbols)

        def forward(self, xs: torch.Tensor, state: Any) -> tuple[torch.Tensor, Any]:
            hiddens, state = self.layer(self.embedding(xs), state)
            return self.head(self.dropout(hiddens)), state

    model, progress = Model(), [0.0]
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.006, betas=(0.9, 0.99), weight_decay=0.1, fused=True)
    share = (len(training) - 1) // batch

    def updates() -> Iterator[None]:
        streams, position, state = training[: share * batch + 1], 0, None
        starts = torch.arange(batch) * share
        while True:
            if position + steps > share:
                position, state = 0, None
            window = streams[starts[None] + position + torch.arange(steps + 1)[:, None]]
            for group in optimizer.param_groups:
                warmed = min(1.0, progress[0] / 0.02)
                group["lr"] = 0.006 * warmed * 0.5 * (1 + math.cos(math.pi * progress[0]))
            optimizer.zero_grad()
            logits, state = model(window[:-1], state)
            functional.cross_entropy(logits.flatten(0, 1), window[1:].flatten()).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            state, position = tuple(part.detach() for part in state), position + steps
            yield

    @torch.inference_mode()
    def validate() -> float:
        model.eval()
        text = torch.cat([training[-257:], held_out])
        logits, _ = model(text[:-1, None], None)
        model.train()
        return float(functional.cross_entropy(logits[256:, 0], text[257:]))

    return timed(updates(), progress, seconds, validate)


def nanogpt(training: torch.Tensor, held_out: torch.Tensor, symbols: int, seconds: float) -> list[list[float]]:
    """nanoGPT's recipe for a CPU, from its published settings."""
    context, batch, layers, heads, width, most = 64, 12, 4, 4, 128, 2000

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.before, self.behind = nn.LayerNorm(width, bias=False), nn.LayerNorm(width, bias=False)
            self.queries, self.joined = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
            self.wide, self.narrow = nn.Linear(width, 4 * width, bias=False), nn.Linear(4 * width, width, bias=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            parts = self.queries(self.before(x)).split(width, dim=2)
            q, k, v = (part.unflatten(2, (heads, -1)).transpose(1, 2) for part in parts)
            attended = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + self.joined(attended.transpose(1, 2).flatten(2))
            return x + self.narrow(functional.gelu(self.wide(self.behind(x))))

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.symbols, self.places = nn.Embedding(symbols, width), nn.Embedding(context, width)
            self.blocks, self.last = nn.Sequential(*(Block() for _ in range(layers))), nn.LayerNorm(width, bias=False)
            for name, weight in self.named_parameters():
                if weight.ndim == 2:
                    scaled = name.endswith(("joined.weight", "narrow.weight"))
                    nn.init.normal_(weight, std=0.02 / math.sqrt(2 * layers) if scaled else 0.02)

        def forward(self, xs: torch.Tensor) -> torch.Tensor:
            x = self.symbols(xs) + self.places.weight[: xs.shape[1]]
            return self.last(self.blocks(x)) @ self.symbols.weight.T

    model, progress = Model(), [0.0]
    groups = [
        {"params": [w for w in model.parameters() if w.ndim == n], "weight_decay": d} for n, d in ((2, 0.1), (1, 0.0))
    ]
    optimizer = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.99), fused=True)

    def updates() -> Iterator[None]:
        for number in range(most):
            rate = 1e-3 * (number + 1) / 101
            if number >= 100:
                rate = 1e-4 + 0.5 * (1 + math.cos(math.pi * (number - 100) / (most - 100))) * 9e-4
            for group in optimizer.param_groups:
                group["lr"] = rate
            windows = training[torch.randint(len(training) - context, (batch, 1)) + torch.arange(context + 1)]
            optimizer.zero_grad()
            logits = model(windows[:, :-1])
            functional.cross_entropy(logits.flatten(0, 1), windows[:, 1:].flatten()).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            yield

    @torch.inference_mode()
    def validate() -> float:
        pieces = held_out[: (len(held_out) - 1) // context * context].view(-1, context)
        targets = held_out[1 : pieces.numel() + 1].view(-1, context)
        losses = [
            functional.cross_entropy(model(x).flatten(0, 1), y.flatten(), reduction="sum")
            for x, y in zip(pieces.split(64), targets.split(64), strict=True)
        ]
        return float(sum(losses)) / pieces.numel()

    return timed(updates(), progress, seconds, validate)


def main() -> None:
    """One peer."""
    torch.manual_seed(0)
    name, path, minutes = sys.argv[1:]
    print(json.dumps({"lstm": lstm, "nanogpt": nanogpt}[name](*codes_of(path), 60 * float(minutes))))


if __name__ == "__main__":
    main()

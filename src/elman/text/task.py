"""Text as something to train on: the task that the training loop runs."""

import math
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from elman.config import Config
from elman.network import Network
from elman.text.model import TextModel
from elman.text.sampling import SamplingSettings, sample_symbols
from elman.text.scoring import nats_per_symbol
from elman.text.streams import Streams, Windows
from elman.text.vocabulary import Vocabulary
from elman.training.distribution import Alone
from elman.training.progress import in_bits

VALIDATION_LIMIT = 2_000_000
"""Held-out symbols scored while training; a longer part is scored up to here, `elman evaluate` scores all of it."""


class TextTask:
    """Next-symbol prediction over parallel streams, with the state carried from update to update."""

    score = "nats"
    noun = "characters"
    of_symbols = True

    def __init__(
        self,
        training: np.ndarray,
        held_out: np.ndarray,
        vocabulary: Vocabulary,
        config: Config,
        group: Alone | None = None,
    ) -> None:
        self.group = group or Alone()
        settings, text = config.training, config.text
        assert settings.batch is not None
        assert settings.unroll is not None
        self.vocabulary, self.config, self.batch = vocabulary, config, settings.batch
        self.training, self.held_out = training, held_out
        self.symbols_per_update = settings.batch * settings.unroll
        self.reduction = settings.reduction
        self.initial_loss = math.log(vocabulary.size) * (self.symbols_per_update if self.reduction == "sum" else 1)
        self.streams = Streams(
            training,
            batch=settings.batch,
            unroll=settings.unroll,
            stream_length=text.stream_length,
            restart=text.restart,
            seed=settings.seed,
            part=self.group.part(settings.batch),
        )

    def in_words(self, score: float) -> str:
        return in_bits(score)

    def initial_carry(self, network: Network) -> jax.Array:
        return network.initial_carry(self.batch)

    def take(self, update: int, count: int, size: int) -> tuple[np.ndarray, np.ndarray]:
        windows: Windows = self.streams.take(update, count, size)
        return windows.symbols, windows.fresh

    def loss(
        self, network: Network, batch: tuple[jax.Array, jax.Array], carry: jax.Array, key: jax.Array | None
    ) -> tuple[jax.Array, jax.Array]:
        symbols, fresh = batch
        symbols = symbols.astype(jnp.int32)
        carry = jnp.where(fresh[:, None], 0, carry)
        hidden, carry = network(symbols[:-1], carry, key=key, place=self.group.place(self.batch))
        losses = network.head.loss(hidden, symbols[1:])
        return (losses.sum() if self.reduction == "sum" else losses.mean() / self.group.count), carry

    def validate(self, network: Network) -> dict[str, float]:
        held_out = self.held_out[:VALIDATION_LIMIT]
        if len(held_out) == 0:
            return {}
        nats = nats_per_symbol(network, held_out, self.training)
        return {"nats": nats, "bits": nats / math.log(2)}

    def sample(self, network: Network, carry: jax.Array, iteration: int) -> str:
        """A sample from the first stream's state and next symbol, as the classic program takes it."""
        symbol, fresh = self.streams.next_symbol(iteration)
        state = carry[:, 0] * 0 if fresh else carry[:, 0]
        pieces = sample_symbols(
            network,
            np.asarray([symbol]),
            self.config.text.sample_length,
            settings=SamplingSettings(),
            seed=[self.config.training.seed, iteration],
            carry=state,
        )
        return self.vocabulary.decode(np.concatenate(list(pieces)))

    def save_best(self, network: Network, path: Path, result: dict[str, Any]) -> None:
        TextModel(network, self.vocabulary, self.config, result).save(path)

    def cursor(self) -> dict[str, np.ndarray]:
        return {"positions": self.streams.positions, "ages": self.streams.ages}

    def move_to(self, cursor: dict[str, np.ndarray]) -> None:
        for name, array in cursor.items():
            setattr(self.streams, name, array.astype(np.int64).copy())

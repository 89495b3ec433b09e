"""What the page Write computes: a text as it is made, how it was foreseen, and how much of it stands in the training text."""

import threading
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from elman.errors import ElmanError
from elman.insight.novelty import LENGTHS, Novelty, marked, novelty
from elman.insight.surprise import Surprise, text_surprise
from elman.text import trainer
from elman.text.model import TextModel
from elman.training.runs import Run

SHOWN_LENGTH = LENGTHS[1]
"""Pieces of so many characters are what the page speaks of."""


class Stream:
    """A text that a thread of its own makes, a piece at a time, and that a page takes when it likes.

    lock: held for each piece and let go between them, so that others get their turn.
    """

    def __init__(
        self, model: TextModel, lock: threading.Lock, prime: str, length: int, options: dict[str, Any]
    ) -> None:
        self.pieces: deque[str] = deque()
        self.done, self.halted, self.problem = False, False, ""
        self.count, self.seconds = 0, 0.0
        # Whatever is wrong with the options is said here, before anything runs.
        self._stream = model.stream(prime, length=length, **options)
        self._lock = lock
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        try:
            while not self.halted:
                with self._lock:
                    began = time.perf_counter()
                    piece = next(self._stream, None)
                    self.seconds += time.perf_counter() - began
                if piece is None:
                    break
                self.count += len(piece)
                self.pieces.append(piece)
        except ElmanError as error:
            self.problem = str(error)
        finally:
            self.done = True

    def taken(self) -> str:
        """What was made since the last time."""
        parts = []
        while self.pieces:
            parts.append(self.pieces.popleft())
        return "".join(parts)


@dataclass(frozen=True, eq=False)
class Written:
    """A finished text with what is known about it. compared: with the training text, where that is at hand."""

    model: TextModel
    characters: tuple[str, ...]
    foreseen: Surprise
    compared: Novelty | None

    def alternatives(self, place: int) -> list[tuple[str, float]]:
        """What could have stood at `place`, likeliest first."""
        codes, chances = self.foreseen.alternatives[place], self.foreseen.probabilities[place]
        decode = self.model.vocabulary.decode
        return [(decode(np.asarray([code])), float(p)) for code, p in zip(codes, chances, strict=True) if code >= 0]

    @property
    def losses(self) -> np.ndarray:
        """-log p of each character, 0 where nothing stood before it."""
        return np.nan_to_num(self.foreseen.losses)

    @property
    def copied(self) -> np.ndarray:
        """How long the pieces are that each character stands in and that stand in the training text, as a step of `LENGTHS`."""
        return np.zeros(len(self.characters)) if self.compared is None else marked(self.compared.sample)


def look_at(model: TextModel, path: Path, prime: str, text: str) -> Written:
    """Read the text once more, and compare it with what the run at `path` was trained on, where that is at hand."""
    foreseen = text_surprise(model, text, prime=prime)
    decode = model.vocabulary.decode
    characters = tuple(decode(foreseen.codes[index : index + 1]) for index in range(len(foreseen.codes)))
    return Written(model, characters, foreseen, _compared(path, foreseen.codes))


def _compared(path: Path, codes: np.ndarray) -> Novelty | None:
    try:
        ready = trainer.reopen(Run(path))
    except ElmanError:
        return None  # a bundle, or a text that is not there any more, or not the same
    return novelty(codes, ready.training, ready.held_out)

"""Ctrl-C while a network trains: the first asks the loop to stop where nothing is lost, the second stops at once."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from elman.training.loop import Trainer


@contextmanager
def interruptible(trainer: Trainer) -> Iterator[None]:
    """Inside, Ctrl-C asks the loop to stop after its block; a second one raises `KeyboardInterrupt`, as always."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ask(*_: object) -> None:
        if trainer.interrupted:
            raise KeyboardInterrupt
        trainer.interrupt()

    before = signal.signal(signal.SIGINT, ask)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)

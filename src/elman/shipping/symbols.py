"""Which character stands for which number in somebody else's model: a file says it; models here keep symbols in ascending order.

The file is one of

    JSON            a list of characters in their order; an object character -> number; or elman's own {unit, normal_form, values}
    plain text      with each character once: the characters in their order
                    with repetitions: a training text, whose distinct characters are numbered in ascending order
"""

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from elman.errors import BundleError, DataError
from elman.text.vocabulary import Vocabulary, name_symbols

LARGEST_LIST = 1 << 25
"""Bytes of JSON that are looked at: all of Unicode with escapes is some 15 million."""


@dataclass(frozen=True, eq=False)
class Symbols:
    """vocabulary: ascending, as always. numbers: which number each of its symbols has in the model that comes in."""

    vocabulary: Vocabulary
    numbers: np.ndarray

    @classmethod
    def of(cls, vocabulary: Vocabulary) -> "Symbols":
        """Those of a model that numbers its symbols as elman does."""
        return cls(vocabulary, np.arange(vocabulary.size))


def one_hot(symbols: np.ndarray, size: int) -> np.ndarray:
    """Float64 vectors `[steps, size]`; unlike rows of an identity they take no memory for symbols that do not occur.

    >>> one_hot(np.array([2, 0]), 3).tolist()
    [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]
    """
    vectors = np.zeros((len(symbols), size))
    vectors[np.arange(len(symbols)), symbols] = 1
    return vectors


def read_symbols(path: Path) -> Symbols:
    """The symbols in a file; see the module for its forms. Text is UTF-8, and nothing in it is normalized.

    Raises: `DataError` for a file that cannot be read, is empty, or holds what is no character.
    """
    try:
        if path.stat().st_size <= LARGEST_LIST:
            with path.open("rb") as file:
                start = file.read(1)
            if start in (b"[", b"{") and (plain := _parsed(path)) is not None:
                return _from_json(path, plain)
        return _from_text(path)
    except OSError as error:
        raise DataError(f"--vocabulary {path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise DataError(f"--vocabulary {path} is no text in UTF-8: convert it first") from None


def _parsed(path: Path) -> Any:
    """The JSON of a file; None for text that only begins like it."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        return None


def _from_json(path: Path, plain: Any) -> Symbols:
    if isinstance(plain, dict) and "values" in plain:
        try:
            return Symbols.of(Vocabulary.from_dict(plain))
        except BundleError as error:
            raise DataError(f"--vocabulary {path}: {error}") from None
    if isinstance(plain, dict):
        numbers = list(plain.values())
        if any(type(number) is not int for number in numbers) or sorted(numbers) != list(range(len(numbers))):
            raise DataError(
                f"--vocabulary {path} does not give its characters the numbers from 0 to {len(numbers) - 1}"
            )
        plain = sorted(plain, key=plain.__getitem__)
    for symbol in plain:
        if not isinstance(symbol, str) or len(symbol) != 1:
            raise DataError(
                f"--vocabulary {path} holds {str(symbol)[:40]!r}, which is no single character: "
                "write \\ufffd in its place if it stands for unknown ones"
            )
    return _in_order(path, plain)


def _from_text(path: Path) -> Symbols:
    order: dict[str, None] = {}
    count = 0
    with path.open(encoding="utf-8", newline="") as file:
        while piece := file.read(1 << 20):
            count += len(piece)
            order.update(dict.fromkeys(piece))
    return _in_order(path, list(order) if count == len(order) else sorted(order))


def _in_order(path: Path, symbols: list[str]) -> Symbols:
    """Characters as the model that comes in numbers them."""
    if not symbols:
        raise DataError(f"--vocabulary {path} is empty: give the characters in the model's order")
    if len(set(symbols)) < len(symbols):
        twice = [symbol for symbol, count in Counter(symbols).items() if count > 1]
        raise DataError(f"--vocabulary {path} holds {name_symbols(twice)} more than once")
    values = np.asarray([ord(symbol) for symbol in symbols])
    numbers = np.argsort(values)
    try:
        return Symbols(Vocabulary("character", tuple(values[numbers].tolist()), "none"), numbers)
    except ValueError as error:
        raise DataError(f"--vocabulary {path}: {error}") from None

"""The text that `elman inspect` looks at: one that is given, the run's held-out text, or one that the model writes."""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from elman.commands.output import warn
from elman.errors import ConfigError, DataError
from elman.insight.subjects import Subject
from elman.text.corpora import find_corpus
from elman.text.model import TextModel
from elman.text.reading import find_sources, read_pieces
from elman.text.trainer import Prepared, reopen
from elman.text.vocabulary import Vocabulary, name_symbols
from elman.training.runs import Run

MOST = 100_000
"""Characters that can be looked at at once: all units of all of them are in memory."""


@dataclass(frozen=True, eq=False)
class LookedAt:
    """codes: the text as the model reads it. source: where it is from, in words."""

    codes: np.ndarray
    source: str

    def symbols(self, model: TextModel) -> tuple[str, ...]:
        """A string of one character for each code; a byte that is none by itself is U+FFFD."""
        decode = [model.vocabulary.decode([code]) for code in range(model.vocabulary.size)]
        return tuple(decode[code] for code in self.codes)

    def subject(self, model: TextModel) -> Subject:
        """The text as `insight` takes it."""
        return Subject(model.network, self.codes.astype(np.int32), self.symbols(model), model.config.training.dtype)


def check_characters(parsed: argparse.Namespace) -> int:
    """The value of --characters. Raises: `ConfigError` out of its range."""
    if not 1 <= parsed.characters <= MOST:
        raise ConfigError(f"--characters {parsed.characters} is out of range: an integer from 1 to {MOST:,}")
    return int(parsed.characters)


def read_text(parsed: argparse.Namespace, model: TextModel, own: Prepared | None = None) -> LookedAt:
    """The text to look at. own: the run's text, where it is open already.

    Raises: `DataError` for an empty text, and for characters that the model does not know.
    """
    count = check_characters(parsed)
    given = given_text(parsed, model, count)
    if given is not None:
        return given
    if Path(parsed.model).is_dir():
        held_out = (own or reopen(Run(parsed.model), data_folder=parsed.data_dir)).held_out
        if len(held_out) == 0:
            raise DataError(f"{parsed.model} held nothing out (--validation 0): name a text with --text or --input")
        return LookedAt(np.asarray(held_out[:count]), "the run's held-out text")
    return written_text(model, count, seed=0)


def written_text(model: TextModel, count: int, *, seed: int) -> LookedAt:
    """A text that the model writes."""
    text = model.sample(length=count, seed=seed)
    return LookedAt(model.vocabulary.encode(text, unknown="skip"), "a text that the model wrote")


def given_text(parsed: argparse.Namespace, model: TextModel, count: int) -> LookedAt | None:
    """The text of --text or --input, at most `count` symbols of it; None where neither is given."""
    if parsed.text is not None and parsed.input is not None:
        raise ConfigError("--text and --input are two texts: give one of them")
    if parsed.text is None and parsed.input is None:
        return None
    if parsed.text is not None:
        codes, source = encode_known(model.vocabulary, parsed.text, "--text"), "the given text"
    else:
        codes, source = read_file(parsed.input, model, parsed.data_dir, most=count + 1), parsed.input
    if len(codes) == 0:
        raise DataError(f"{source} is empty: give at least one character to look at")
    if len(codes) > count:
        warn(f"only the first {count:,} characters of {source} are looked at: --characters takes more")
    return LookedAt(codes[:count], source)


def read_file(
    path: str, model: TextModel, data_dir: str | None, *, most: int | None = None, known: bool = True
) -> np.ndarray:
    """The codes of a file (or of a corpus by name), read as the model's training text was.

    most: how many at least are read where there are so many; None: all. known: whether characters that the model does not know are
    refused; else they become a code behind the last one.
    """
    settings, folder = model.config.text, Path(data_dir) if data_dir else None
    sources = find_sources([path], settings, find_corpus=lambda name: find_corpus(name, data_folder=folder))
    pieces, count = [], 0
    for piece in read_pieces(sources, settings):
        if isinstance(piece, bytes):
            codes = model.vocabulary.look_up(np.frombuffer(piece, np.uint8))
            if known and (strange := sorted(set(piece) - set(model.vocabulary.values))):
                names = name_symbols([bytes([value]) for value in strange])
                raise DataError(f"the model does not know {names}: leave it out of {path}")
        elif known:
            codes = encode_known(model.vocabulary, piece, path)
        else:
            codes = model.vocabulary.look_up(np.frombuffer(piece.encode("utf-32-le", "surrogatepass"), "<u4"))
        pieces.append(codes)
        count += len(codes)
        if most is not None and count >= most:
            break
    return np.concatenate(pieces) if pieces else np.zeros(0, np.uint8)


def encode_known(vocabulary: Vocabulary, text: str, source: str) -> np.ndarray:
    """The codes of a text. Raises: `DataError` that names the characters which the model does not know, and `source`."""
    if unknown := vocabulary.unknown(text):
        raise DataError(f"the model does not know {name_symbols(unknown)}: leave it out of {source}")
    return vocabulary.encode(text)

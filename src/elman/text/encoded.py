"""Encoded text: a text of any length as a memory-mapped array of small integers.

The text is read twice, as a stream: once for its vocabulary, once for its codes, which go into a file in the cache. Memory does not
grow with the text. The file is used again as long as the sources and the settings that shape it are the same. A long text is read
by all cores, and where that is interrupted it goes on from there (`elman.text.long_text`).
"""

import hashlib
import json
import mmap
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np

from elman.config import TextSettings
from elman.errors import BundleError, DataError
from elman.text.checksums import CodesDigest, are_whole
from elman.text.corpora import find_corpus
from elman.text.long_text import LongText, SourceChanged
from elman.text.reading import Source, find_sources, read_pieces
from elman.text.vocabulary import CODE_POINTS, SURROGATES, Vocabulary, name_symbols, symbol_values
from elman.training.cache import atomic_file, default_cache_folder, sole_maker

CACHE_FORMAT = 1
LONG_BYTES = 128 << 20
"""Files of that many bytes together are encoded on all cores; for less, starting the processes takes longer than it saves."""

Progress = Callable[[str, float], None]


@dataclass(frozen=True, eq=False)
class EncodedText:
    """A text as codes. `codes` is a read-only memory map; a slice of it reads only that part of the file.

    `digest` is a checksum of vocabulary and codes (see `checksums`): two texts with the same digest are the same to a network.
    `sources` names the files in the order in which they were joined.
    """

    codes: np.ndarray
    vocabulary: Vocabulary
    digest: str
    sources: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.codes)


def open_text(
    inputs: Sequence[str | Path],
    settings: TextSettings,
    *,
    data_folder: Path | None = None,
    cache_folder: Path | None = None,
    standard_input: Path | None = None,
    progress: Progress | None = None,
) -> EncodedText:
    """The text that the inputs stand for (see `find_sources`), encoded; from the cache where that is possible.

    `progress` is called with what is being done and the share of it that is done. `cache_folder` is the user's own by default.

    Raises: `DataError` for input that cannot be read, holds fewer than two symbols or one distinct symbol only, or changes while it
    is being read.
    """
    cache = default_cache_folder("text") if cache_folder is None else cache_folder

    def corpus(name: str) -> Path:
        return find_corpus(name, data_folder=data_folder, cache_folder=cache, progress=progress)

    sources = find_sources(inputs, settings, find_corpus=corpus, standard_input=standard_input)
    entry = _Entry(cache, sources, settings)
    if cached := entry.load():
        return cached
    if sum(source.size for source in sources) >= LONG_BYTES:
        return _encode_long(entry, sources, settings, progress)
    values, length = _count(sources, settings, progress)
    vocabulary = _vocabulary_of(values, length, sources, settings)
    digest, blocks = _write_codes(entry.codes_path, sources, settings, vocabulary, length, progress)
    entry.describe(vocabulary, length, digest, blocks)
    return entry.open(vocabulary, length, digest)


def let_go(codes: np.ndarray) -> None:
    """Let the system count what was read of a memory-mapped text as its own memory again: a page is mapped anew when it is needed.

    Without this the resident memory of a long training would grow with what it has read. Other arrays are left as they are.
    """
    base: Any = codes
    while base is not None and not isinstance(base, mmap.mmap):
        base = getattr(base, "base", None)
    if base is not None and hasattr(mmap, "MADV_DONTNEED"):
        base.madvise(mmap.MADV_DONTNEED)


def split(encoded: EncodedText, validation_share: float) -> tuple[np.ndarray, np.ndarray]:
    """The codes to train on and, from the end of the text, those held out.

    The cut is exact in decimal figures: 10 % of 1,115,394 characters leaves the first 1,003,854, as in the published figures.
    """
    if not 0 <= validation_share < 1:
        raise ValueError(f"validation_share = {validation_share!r} is not possible: at least 0 and less than 1")
    length = len(encoded)
    trained_on = int(length * (1 - Decimal(repr(float(validation_share)))))
    return encoded.codes[:trained_on], encoded.codes[trained_on:]


class _Entry:
    """One text in the cache: a file of codes, and a small JSON file beside it that says what they are.

    Named by the sources' paths and the settings, so that a source that was edited replaces its old entry.
    """

    def __init__(self, cache: Path, sources: Sequence[Source], settings: TextSettings) -> None:
        self.sources = tuple(source.name for source in sources)
        self._state = [[source.size, source.modified] for source in sources]
        shaping = {
            "format": CACHE_FORMAT,
            "sources": self.sources,
            "unicode": unicodedata.unidata_version,
            "settings": [settings.unit, settings.normal_form, settings.encoding, settings.errors],
        }
        name = hashlib.sha256(json.dumps(shaping).encode()).hexdigest()[:32]
        self.codes_path = cache / f"{name}.codes"
        self.facts_path = cache / f"{name}.json"

    def describe(self, vocabulary: Vocabulary, length: int, digest: str, blocks: Sequence[str]) -> None:
        facts = {
            "state": self._state,
            "length": length,
            "digest": digest,
            "blocks": list(blocks),
            "sources": self.sources,
            "vocabulary": vocabulary.to_dict(),
        }
        with atomic_file(self.facts_path) as file:
            file.write(json.dumps(facts).encode())

    def load(self) -> EncodedText | None:
        """The entry when it is there, of these sources as they are now, and undamaged."""
        try:
            facts: dict[str, Any] = json.loads(self.facts_path.read_bytes())
            if facts["state"] != self._state:
                return None
            vocabulary = Vocabulary.from_dict(facts["vocabulary"])
            length, digest = facts["length"], facts["digest"]
            if self.codes_path.stat().st_size != length * vocabulary.dtype.itemsize:
                return None
            whole = are_whole(self.codes_path, vocabulary, digest, facts["blocks"])
            return self.open(vocabulary, length, digest) if whole else None
        except (OSError, ValueError, TypeError, KeyError, RecursionError, BundleError):
            return None

    def open(self, vocabulary: Vocabulary, length: int, digest: str) -> EncodedText:
        codes = np.memmap(self.codes_path, vocabulary.dtype, mode="r", shape=(length,))
        return EncodedText(codes, vocabulary, digest, self.sources)


def _encode_long(
    entry: _Entry, sources: Sequence[Source], settings: TextSettings, progress: Progress | None
) -> EncodedText:
    """Encode on all cores, one program at a time: where another one is at it, its result is waited for."""

    def waiting() -> None:
        if progress is not None:
            progress("waiting for another program that encodes this text", 0.0)

    with sole_maker(entry.codes_path, waiting):
        if cached := entry.load():
            return cached
        long_text = LongText(entry.codes_path, sources, settings, progress)
        try:
            values, length = long_text.count()
            _refuse_changed(sources)
            vocabulary = _vocabulary_of(values, length, sources, settings)
            digest, blocks = long_text.encode(vocabulary, length)
            _refuse_changed(sources)
        except SourceChanged:
            long_text.forget()
            raise _changed(_together(sources)) from None
        finally:
            long_text.close()
        entry.describe(vocabulary, length, digest, blocks)
        long_text.forget()
        return entry.open(vocabulary, length, digest)


def _count(sources: Sequence[Source], settings: TextSettings, progress: Progress | None) -> tuple[list[int], int]:
    seen = np.zeros(CODE_POINTS, bool)
    length = 0
    for piece in read_pieces(sources, settings, report=_reporter("reading", sources, progress)):
        seen[symbol_values(piece)] = True
        length += len(piece)
    _refuse_changed(sources)
    return np.flatnonzero(seen).tolist(), length


def _vocabulary_of(values: Sequence[int], length: int, sources: Sequence[Source], settings: TextSettings) -> Vocabulary:
    """The vocabulary of symbols with these values, of which the text has `length`. Raises: `DataError` where it will not do."""
    name = _together(sources)
    if stray := [value for value in values if value in SURROGATES]:
        raise DataError(
            f"{name} holds lone surrogates, which are no characters: {name_symbols([chr(value) for value in stray])}; "
            "check --encoding, or read bytes with --unit byte"
        )
    if length == 0:
        raise DataError(f"{name} is empty: there is no text in it")
    normal_form = "none" if settings.unit == "byte" else settings.normal_form
    vocabulary = Vocabulary(settings.unit, tuple(values), normal_form)
    if length < 2:
        raise DataError(f"{name} holds one {settings.unit} only: there is nothing to predict; give a longer text")
    if vocabulary.size < 2:
        only = name_symbols(vocabulary.symbols)
        raise DataError(f"{name} has only one distinct symbol, {only}: there is nothing to learn; give another text")
    return vocabulary


def _write_codes(
    destination: Path,
    sources: Sequence[Source],
    settings: TextSettings,
    vocabulary: Vocabulary,
    length: int,
    progress: Progress | None,
) -> tuple[str, list[str]]:
    digest = CodesDigest(vocabulary)
    written = 0
    with atomic_file(destination) as file:
        for piece in read_pieces(sources, settings, report=_reporter("encoding", sources, progress)):
            codes = vocabulary.look_up(symbol_values(piece))
            if codes.max() >= vocabulary.size:
                raise _changed(_together(sources))
            written += len(codes)
            data = codes.astype(vocabulary.dtype, copy=False).tobytes()
            digest.update(data)
            file.write(data)
        _refuse_changed(sources)
        if written != length:
            raise _changed(_together(sources))
    return digest.finish()


def _reporter(stage: str, sources: Sequence[Source], progress: Progress | None) -> Callable[[int], None] | None:
    if progress is None:
        return None
    total = max(1, sum(source.size for source in sources))
    return lambda done: progress(stage, min(1.0, done / total))


def _refuse_changed(sources: Sequence[Source]) -> None:
    for source in sources:
        if source.changed():
            raise _changed(source.name)


def _changed(name: str) -> DataError:
    return DataError(f"{name} changed while it was being read: wait until it is written, then start again")


def _together(sources: Sequence[Source]) -> str:
    more = len(sources) - 1
    return sources[0].name + (f" (with {more} more)" if more else "")

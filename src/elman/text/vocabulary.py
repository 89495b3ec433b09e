"""The vocabulary: which symbols a text has, and the number of each.

A symbol is a character (a Unicode code point) or a byte. The distinct symbols of the training text, sorted by code point or byte
value, are numbered from 0; that number is the symbol's code, and all that a network ever sees.

    >>> vocabulary = Vocabulary.from_text("hello")
    >>> vocabulary.symbols
    ('e', 'h', 'l', 'o')
    >>> vocabulary.encode("hole")
    array([1, 3, 2, 0], dtype=uint8)
    >>> vocabulary.decode([1, 3, 2, 0])
    'hole'
"""

import codecs
import functools
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from elman.errors import BundleError, DataError

UNITS = ("character", "byte")
NORMAL_FORMS = ("NFC", "NFD", "NFKC", "NFKD", "none")

CODE_POINTS = 0x110000
SURROGATES = range(0xD800, 0xE000)

_NAMED_AT_MOST = 10


@dataclass(frozen=True)
class Vocabulary:
    """The distinct symbols of a text, numbered from 0 in the order of their values.

    `values` holds code points (unit "character") or byte values (unit "byte"), strictly ascending. `normal_form` is the Unicode
    normal form that the training text was brought into; `encode` brings its text into the same one, so that a letter typed as
    base and accent finds the composed letter that was learned. Bytes have no normal form: theirs is "none".
    """

    unit: str
    values: tuple[int, ...]
    normal_form: str = "NFC"

    def __post_init__(self) -> None:
        if problem := _problem(self.unit, self.values, self.normal_form):
            raise ValueError(problem)

    @classmethod
    def from_text(cls, text: str, *, unit: str = "character", normal_form: str = "NFC") -> "Vocabulary":
        """The vocabulary of a text that is at hand as a string; `open_text` makes that of files.

        Raises: `DataError` when the text is empty or holds lone surrogates.
        """
        if not text:
            raise DataError("the text is empty: there is nothing to make a vocabulary of")
        if unit == "byte":
            return cls("byte", tuple(sorted(set(_to_bytes(text)))), "none")
        characters = sorted(set(normalize(text, normal_form)))
        if stray := [character for character in characters if ord(character) in SURROGATES]:
            raise DataError(f"the text holds lone surrogates, which are no characters: {name_symbols(stray)}")
        return cls("character", tuple(map(ord, characters)), normal_form)

    @property
    def size(self) -> int:
        """How many symbols there are."""
        return len(self.values)

    def __len__(self) -> int:
        return len(self.values)

    @functools.cached_property
    def symbols(self) -> tuple[str | bytes, ...]:
        """The symbols in the order of their codes: strings of one character, or `bytes` of length one."""
        if self.unit == "byte":
            return tuple(bytes([value]) for value in self.values)
        return tuple(map(chr, self.values))

    @property
    def dtype(self) -> np.dtype:
        """The smallest unsigned integer type that holds every code."""
        return _smallest_type(self.size - 1)

    def encode(self, text: str, *, unknown: str = "error") -> np.ndarray:
        """The codes of a text, brought into the vocabulary's normal form first.

        `unknown` says what becomes of symbols that the vocabulary lacks: "error" or "skip".

        Raises: `DataError` that names the unknown symbols, unless they are to be skipped.

            >>> Vocabulary.from_text("abc").encode("ab€", unknown="skip")
            array([0, 1], dtype=uint8)
        """
        if unknown not in ("error", "skip"):
            raise ValueError(f"unknown = {unknown!r} is not possible: one of error, skip")
        codes = self.look_up(symbol_values(self._prepared(text)))
        known = codes < self.size
        if known.all():
            return codes.astype(self.dtype, copy=False)
        if unknown == "error":
            missing = self.unknown(text)
            raise DataError(
                f"not in the vocabulary of {self.size} symbols: {name_symbols(missing)}; "
                "leave them out of the text, have them skipped (--unknown skip), or train on text that has them"
            )
        return codes[known].astype(self.dtype, copy=False)

    def unknown(self, text: str) -> tuple[str | bytes, ...]:
        """The symbols of a text that the vocabulary lacks, each once, in the order in which they first appear."""
        prepared = self._prepared(text)
        known = set(self.symbols)
        symbols = (prepared[i : i + 1] for i in range(len(prepared)))
        return tuple(dict.fromkeys(symbol for symbol in symbols if symbol not in known))

    def decode(self, codes: Sequence[int] | np.ndarray) -> str:
        """The text of a sequence of codes. Bytes that are no UTF-8 appear as U+FFFD.

        Raises: `DataError` for a code that the vocabulary does not have.
        """
        numbers = np.asarray(codes)
        if numbers.size == 0:
            return ""
        if numbers.min() < 0 or numbers.max() >= self.size:
            wrong = numbers[(numbers < 0) | (numbers >= self.size)].flat[0]
            raise DataError(
                f"code {wrong} is not in a vocabulary of {self.size} symbols: codes go from 0 to {self.size - 1}"
            )
        if self.unit == "byte":
            return np.asarray(self.values, np.uint8)[numbers].tobytes().decode("utf-8", "replace")
        return np.asarray(self.values, "<u4")[numbers].tobytes().decode("utf-32-le")

    def decoder(self) -> "Decoder":
        """A decoder that takes one code at a time, for text that is shown while it is being made."""
        return Decoder(self)

    def look_up(self, values: np.ndarray) -> np.ndarray:
        """The codes of code points or byte values; `size` stands for those the vocabulary lacks.

        The result has the smallest type that holds `size` too, which may be one wider than `dtype`.
        """
        return np.take(self._table, values, mode="clip")

    def to_dict(self) -> dict[str, Any]:
        """The vocabulary as plain values, for JSON."""
        return {"unit": self.unit, "normal_form": self.normal_form, "values": list(self.values)}

    @classmethod
    def from_dict(cls, plain: Any) -> "Vocabulary":
        """The reverse of `to_dict`. Raises `BundleError` for anything that is no vocabulary."""
        if not isinstance(plain, Mapping):
            raise BundleError(
                f"the vocabulary is {type(plain).__name__}, not a table with unit, normal_form and values"
            )
        if set(plain) != {"unit", "normal_form", "values"}:
            found = ", ".join(sorted(map(str, plain))[:_NAMED_AT_MOST]) or "nothing"
            raise BundleError(f"the vocabulary must have unit, normal_form and values; it has {found}")
        values = plain["values"]
        if not isinstance(values, list | tuple):
            raise BundleError(f"the vocabulary's values are {type(values).__name__}, not a list of integers")
        if problem := _problem(plain["unit"], values, plain["normal_form"]):
            raise BundleError(f"the vocabulary is damaged: {problem}")
        return cls(plain["unit"], tuple(values), plain["normal_form"])

    @functools.cached_property
    def _table(self) -> np.ndarray:
        """Code by value, one entry longer than the highest value: `take` clips everything above to that last entry."""
        table = np.full(self.values[-1] + 2, self.size, _smallest_type(self.size))
        table[list(self.values)] = np.arange(self.size)
        return table

    def _prepared(self, text: str) -> str | bytes:
        return _to_bytes(text) if self.unit == "byte" else normalize(text, self.normal_form)


class Decoder:
    """Turns codes into text one at a time; what it has returned so far and `decode` agree.

    In byte vocabularies a character can span several codes: `feed` then returns "" until the character is whole.

        >>> vocabulary = Vocabulary.from_text("né", unit="byte")
        >>> decoder = vocabulary.decoder()
        >>> [decoder.feed(code) for code in vocabulary.encode("né")] + [decoder.finish()]
        ['n', '', 'é', '']
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._bytes = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, code: int) -> str:
        """The text that this code completes."""
        if not 0 <= code < self._vocabulary.size:
            raise DataError(f"code {code} is not in a vocabulary of {self._vocabulary.size} symbols")
        symbol = self._vocabulary.symbols[code]
        return symbol if isinstance(symbol, str) else self._bytes.decode(symbol)

    def feed_all(self, codes: np.ndarray) -> str:
        """The text that these codes complete: `feed` for many at once."""
        if self._vocabulary.unit == "character":
            return self._vocabulary.decode(codes)
        return "".join(self.feed(int(code)) for code in codes)

    def finish(self) -> str:
        """What is left of a character that never became whole: U+FFFD, or nothing. The decoder can then be used again."""
        rest = self._bytes.decode(b"", final=True)
        self._bytes.reset()
        return rest


def normalize(text: str, normal_form: str) -> str:
    """The text in a Unicode normal form, or as it is where that is "none"."""
    if normal_form == "none":
        return text
    return unicodedata.normalize(normal_form, text)  # type: ignore[arg-type]


def symbol_values(text: str | bytes) -> np.ndarray:
    """The code points of a string, or the values of bytes, as an array that shares the text's memory where it can.

    >>> symbol_values("né").tolist()
    [110, 233]
    """
    if isinstance(text, bytes):
        return np.frombuffer(text, np.uint8)
    if text.isascii():
        return np.frombuffer(text.encode("ascii"), np.uint8)
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")


def name_symbols(symbols: Sequence[str | bytes]) -> str:
    """Symbols as a message shows them: quoted, with code point or byte value; the first ten, then how many more.

    >>> name_symbols(["€", b"\\xe2"])
    "'€' U+20AC, byte 0xe2"
    """
    shown = [
        f"byte 0x{symbol[0]:02x}" if isinstance(symbol, bytes) else f"{ascii_if_invisible(symbol)} U+{ord(symbol):04X}"
        for symbol in symbols[:_NAMED_AT_MOST]
    ]
    more = len(symbols) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def ascii_if_invisible(character: str) -> str:
    """A quoted character; one that shows nothing by itself, as an escape."""
    invisible = unicodedata.category(character)[0] in "CZM" and character != " "
    return ascii(character) if invisible else repr(character)


def _to_bytes(text: str) -> bytes:
    """UTF-8; bytes that the operating system handed over undecoded (as surrogates) become bytes again."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        stray = text[error.start]
        raise DataError(f"{name_symbols([stray])} is a lone surrogate: it has no bytes; leave it out") from None


def _smallest_type(largest: int) -> np.dtype:
    return np.min_scalar_type(max(largest, 0)).newbyteorder("<")


def _problem(unit: Any, values: Sequence[Any], normal_form: Any) -> str | None:
    """What is wrong with the parts of a vocabulary, or None."""
    if not isinstance(unit, str) or unit not in UNITS:
        return f"unit = {unit!r} is not one of {', '.join(UNITS)}"
    if not isinstance(normal_form, str) or normal_form not in NORMAL_FORMS:
        return f"normal_form = {normal_form!r} is not one of {', '.join(NORMAL_FORMS)}"
    if unit == "byte" and normal_form != "none":
        return f"normal_form = {normal_form!r} is not possible for bytes: theirs is 'none'"
    limit = 256 if unit == "byte" else CODE_POINTS
    if not values:
        return "it has no symbols"
    if len(values) > limit:
        return f"{len(values)} symbols are more than the {limit} there are"
    previous = -1
    for place, value in enumerate(values):
        if type(value) is not int:
            return f"symbol {place} is {type(value).__name__}, not an integer"
        if not 0 <= value < limit or (unit == "character" and value in SURROGATES):
            return f"symbol {place} has the value {value:#x}, which is no {unit}"
        if value <= previous:
            return f"symbol {place} has the value {value:#x}, which is not above the one before it, {previous:#x}"
        previous = value
    return None

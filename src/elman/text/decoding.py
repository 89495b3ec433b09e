"""From bytes to characters, chunk by chunk, with errors that say where the bad byte is."""

import codecs
from collections.abc import Callable, Iterable, Iterator

from elman.config import TextSettings
from elman.errors import DataError
from elman.text.unpacking import HEAD

_BYTE_ORDER_MARK = "\ufeff"
_CONTROL_SHARE = 0.05
# Form feed, tabs, line ends, backspace and escape (colors of a terminal) stand in plain text.
_TEXT_CONTROLS = frozenset("\t\n\r\f\v\b\x1b\x85")


def check_encoding(encoding: str) -> None:
    """Raise `DataError` when there is no text encoding of that name."""
    try:
        b"a".decode(encoding, "replace")
        codecs.getincrementaldecoder(encoding)
    except (LookupError, ValueError, TypeError):
        raise DataError(f"encoding {encoding!r} is not known: use utf-8, latin-1, cp1252, utf-16 or another") from None


def binary_reason(start: bytes, encoding: str) -> str:
    """Why the first bytes of a file do not look like text in this encoding; "" when they do.

    >>> binary_reason(b"plain text", "utf-8")
    ''
    >>> binary_reason(b"\\x89PNG\\r\\n\\x1a\\n\\0\\0", "utf-8")
    'a NUL at character 8'
    """
    try:
        text = codecs.getincrementaldecoder(encoding)("replace").decode(start)
    except UnicodeError:
        return ""
    if "\0" in text:
        return f"a NUL at character {text.index(chr(0))}"
    controls = sum(1 for character in text if _is_control(character))
    return (
        f"{controls} of its first {len(text)} characters are control characters"
        if controls > _CONTROL_SHARE * len(text)
        else ""
    )


def decoded(
    chunks: Iterable[bytes],
    name: str,
    settings: TextSettings,
    *,
    start: int = 0,
    lines_before: Callable[[], int] = lambda: 0,
) -> Iterator[str]:
    """The characters of one file, without the byte order mark; no piece is empty.

    start: where in the file the chunks begin, where they are not all of it. lines_before: counts the lines that end before that; it
    is asked for a message only.

    Raises: `DataError` for a file that looks binary, and, where errors are to be refused, for the first bad byte with its place.
    """
    decoder = codecs.getincrementaldecoder(settings.encoding)(settings.errors)
    place = _Place(name, settings.encoding, start, lines_before)
    first = start == 0
    for chunk in chunks:
        if place.offset == 0:
            _refuse_binary(chunk[:HEAD], name, settings.encoding)
        piece = place.decode(decoder, chunk, final=False)
        if piece and first:
            piece = piece.removeprefix(_BYTE_ORDER_MARK)
            first = False
        if piece:
            yield piece
    if piece := place.decode(decoder, b"", final=True):
        yield piece


class _Place:
    """How far a file is decoded: what an error needs to say where it is."""

    def __init__(self, name: str, encoding: str, offset: int, lines_before: Callable[[], int]) -> None:
        self.name = name
        self.encoding = encoding
        self.offset = offset
        self.lines = 0
        self.lines_before = lines_before

    def decode(self, decoder: codecs.IncrementalDecoder, chunk: bytes, *, final: bool) -> str:
        try:
            piece = decoder.decode(chunk, final)
        except UnicodeDecodeError as error:
            raise self._bad_byte(error, len(chunk)) from None
        except UnicodeError as error:
            raise DataError(f"{self.name} is not {self.encoding}: {error}; {_REMEDIES}") from None
        self.offset += len(chunk)
        self.lines += piece.count("\n")
        return piece

    def _bad_byte(self, error: UnicodeDecodeError, chunk_size: int) -> DataError:
        # The decoder's object is what it had kept of the last chunk, then this one.
        kept = len(error.object) - chunk_size
        good = error.object[: error.start].decode(self.encoding, "replace")
        line = self.lines_before() + self.lines + good.count("\n") + 1
        return DataError(
            f"{self.name} is not {self.encoding}: byte 0x{error.object[error.start]:02x} at offset "
            f"{self.offset - kept + error.start}, line {line} ({error.reason}); {_REMEDIES}"
        )


_REMEDIES = (
    "name the right encoding (--encoding latin-1), replace bad bytes (--errors replace), or read bytes (--unit byte)"
)


def _refuse_binary(start: bytes, name: str, encoding: str) -> None:
    reason = binary_reason(start, encoding)
    if not reason:
        return
    wide = start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    remedy = "it looks like UTF-16: name it with --encoding utf-16" if wide else "read it as bytes with --unit byte"
    raise DataError(f"{name} looks binary, not like text: {reason}; {remedy}")


def _is_control(character: str) -> bool:
    value = ord(character)
    return (value < 0x20 or value == 0x7F) and character not in _TEXT_CONTROLS

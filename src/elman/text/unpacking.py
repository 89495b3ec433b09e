"""The bytes of a file in chunks, unpacked where its name ends in .gz or .zst."""

import gzip
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from elman.errors import DataError

CHUNK = 1 << 20
HEAD = 8192

# A byte of a Zstandard file can stand for many thousands: little is fed at a time, so that little comes out at a time.
_PACKED_CHUNK = 2048


def is_packed(path: Path) -> bool:
    """Whether a file's name says that it is packed."""
    return path.suffix.lower() in (".gz", ".zst")


def chunks(
    path: Path, report: Callable[[int], None] | None = None, start: int = 0, end: int | None = None
) -> Iterator[bytes]:
    """The contents of a file, unpacked, none of the chunks empty; `report` is told how many bytes of the file itself are read.

    start, end: the part of a file to read, where it is not packed.

    Raises: `DataError` where the file cannot be opened or read, or is packed and damaged.
    """
    try:
        with path.open("rb") as file:
            for chunk in _unpacked(path, file) if is_packed(path) else _part(file, start, end):
                if report is not None:
                    report(file.tell() - start)
                yield chunk
    except PermissionError:
        raise DataError(
            f"{path} may not be read: permission denied; ask its owner, or make a copy you may read"
        ) from None
    except (OSError, EOFError, zlib.error) as error:
        if path.suffix.lower() == ".gz" and not (isinstance(error, OSError) and error.errno):
            raise _damaged(path, "gzip", error) from None
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise DataError(f"{path} cannot be read: {reason}") from None


def head(path: Path) -> bytes:
    """The first bytes of a file's contents, by which text is told from the rest."""
    reader = chunks(path)
    try:
        return next(reader, b"")[:HEAD]
    finally:
        reader.close()  # type: ignore[attr-defined]


def _unpacked(path: Path, file: BinaryIO) -> Iterator[bytes]:
    match path.suffix.lower():
        case ".gz":
            with gzip.GzipFile(fileobj=file) as unpacked:
                while chunk := unpacked.read(CHUNK):
                    yield chunk
        case ".zst":
            yield from _unpacked_zstandard(path, file)


def _part(file: BinaryIO, start: int, end: int | None) -> Iterator[bytes]:
    file.seek(start)
    left = CHUNK if end is None else end - start
    while left and (chunk := file.read(min(left, CHUNK))):
        left -= 0 if end is None else len(chunk)
        yield chunk


def _unpacked_zstandard(path: Path, file: BinaryIO) -> Iterator[bytes]:
    """All frames of the file. The library's own stream reader takes a file that was cut short for a complete one."""
    import zstandard

    frame = zstandard.ZstdDecompressor().decompressobj()
    gathered: list[bytes] = []
    size = 0
    begun = False
    try:
        while packed := file.read(_PACKED_CHUNK):
            while packed:
                piece = frame.decompress(packed)
                begun, packed = not frame.eof, frame.unused_data if frame.eof else b""
                if frame.eof:
                    frame = zstandard.ZstdDecompressor().decompressobj()
                gathered.append(piece)
                size += len(piece)
            if size >= CHUNK:
                yield b"".join(gathered)
                gathered, size = [], 0
    except zstandard.ZstdError as error:
        raise _damaged(path, "Zstandard", error) from None
    if begun:
        raise _damaged(path, "Zstandard", "it ends in the middle")
    if rest := b"".join(gathered):
        yield rest


def _damaged(path: Path, kind: str, reason: object) -> DataError:
    return DataError(f"{path} is no whole {kind} file: {reason}; fetch or pack it again")

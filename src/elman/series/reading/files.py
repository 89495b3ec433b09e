"""Files that hold tables: found by name, unpacked, told apart by their first bytes, and known again by a digest.

A name stands for a file, for the tables of a folder in the order of their names, or for what a pattern (`*`, `?`, `**`, `[…]`)
matches. What a file is, its first bytes say; its name decides only which files of a folder are taken.
"""

import glob
import gzip
import hashlib
import os
import stat
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from elman.config import suggestion
from elman.errors import DataError

SUFFIXES = (".csv", ".tsv", ".tab", ".txt", ".dat", ".parquet", ".pq", ".arrow", ".feather", ".ipc")
"""Names of tables, by their ends; each may have `.gz` or `.zst` behind it."""

_PACKED = (".gz", ".zst")
_SIBLINGS_AT_MOST = 1000
# Below this the whole content is hashed: a tenth of a second. Above, 64 pieces are, so that 100 GB take no longer.
_WHOLE_DIGEST = 64 << 20
_SAMPLES, _SAMPLE_SIZE = 64, 1 << 16


@dataclass(frozen=True)
class TableFile:
    """A file to read. `size` and `modified` (nanoseconds) are those it had when it was found: a file that changes is noticed."""

    path: Path
    size: int
    modified: int

    @property
    def name(self) -> str:
        """What messages call it."""
        return str(self.path)

    def check_unchanged(self) -> None:
        """Raise `DataError` where the file is no longer the one that was found."""
        try:
            now = self.path.stat()
        except OSError:
            raise DataError(f"{self.name} vanished while it was read: start again when it is complete") from None
        if (now.st_size, now.st_mtime_ns) != (self.size, self.modified):
            raise DataError(
                f"{self.name} changed while it was read ({self.size:,} bytes before, {now.st_size:,} after): "
                f"start again when nothing writes to it, or read a copy"
            )


def find_files(given: str | Path) -> tuple[TableFile, ...]:
    """The files that a name stands for; those of a folder or a pattern sorted by name, hidden ones passed over.

    Raises: `DataError` for what is missing, empty or may not be read, and for a folder or pattern without a table.
    """
    text = os.fspath(given)
    if not text.strip():
        raise DataError("the name of the table is empty: name a file, a folder, a pattern or a database's URI")
    path = Path(text).expanduser()
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError, ValueError):
        if glob.has_magic(text):
            return _matching(text)
        raise missing(text, path) from None
    except OSError as error:
        raise _unreadable(text, error) from None
    if not stat.S_ISDIR(mode):
        return (_table_file(path),)
    try:
        entries = sorted(path.iterdir())
    except OSError as error:
        raise _unreadable(text, error) from None
    files = [entry for entry in entries if _is_table(entry)]
    if not files:
        raise DataError(f"the folder {text} holds no table: files ending in {', '.join(SUFFIXES)} are looked for in it")
    return tuple(_table_file(file) for file in files)


def contents(file: TableFile) -> bytes:
    """The bytes of a file, unpacked where it is packed (gzip, Zstandard).

    Raises: `DataError` where the file cannot be read, or is packed and damaged.
    """
    try:
        packed = file.path.read_bytes()
    except OSError as error:
        raise _unreadable(file.name, error) from None
    if packed.startswith(b"\x1f\x8b"):
        try:
            return gzip.decompress(packed)
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(f"{file.name} is a damaged gzip file ({error}): fetch it again") from None
    if packed.startswith(b"\x28\xb5\x2f\xfd"):
        import zstandard

        try:
            with zstandard.ZstdDecompressor().stream_reader(packed, read_across_frames=True) as reader:
                return reader.read()
        except zstandard.ZstdError as error:
            raise DataError(f"{file.name} is a damaged Zstandard file ({error}): fetch it again") from None
    return packed


def start(file: TableFile, size: int) -> bytes:
    """The first bytes of a file as they lie on the disk.

    Raises: `DataError` where it cannot be read.
    """
    try:
        with file.path.open("rb") as opened:
            return opened.read(size)
    except OSError as error:
        raise _unreadable(file.name, error) from None


def is_packed(head: bytes) -> bool:
    """Whether these are the first bytes of a gzip or Zstandard file."""
    return head.startswith((b"\x1f\x8b", b"\x28\xb5\x2f\xfd"))


def kind_of(head: bytes, name: str) -> str:
    """What a file with these first bytes is: "parquet", "arrow" or "text".

    Raises: `DataError` for what is none of them: an archive, a workbook, a picture, an old Feather file.
    """
    if head.startswith(b"PAR1"):
        return "parquet"
    if head.startswith(b"ARROW1"):
        return "arrow"
    if head.startswith(b"FEA1"):
        raise DataError(f"{name} is Feather of version 1: write it again as Parquet or Feather 2")
    if head.startswith(b"PK\x03\x04"):
        what, remedy = ("an Excel workbook", "save it as CSV") if b"xl/" in head else ("a zip archive", "unpack it")
        raise DataError(f"{name} is {what}, not a table elman reads: {remedy}")
    wide = head.startswith((b"\xff\xfe", b"\xfe\xff"))
    if b"\0" in head and not wide:
        raise DataError(
            f"{name} looks binary, not like a table: a NUL at byte {head.index(0)}; "
            f"give CSV, TSV, Parquet or Arrow, also packed by gzip or Zstandard"
        )
    return "text"


def digest_of(files: Sequence[TableFile], report: Callable[[float], None] | None = None) -> str:
    """Tells whether the same data is read again: SHA-256 over sizes and contents, not over names or times.

    Of files that are larger than 64 MB together, 64 evenly spread pieces of 64 KiB stand for the contents, the first and the last
    among them: a changed size is always noticed, a changed value in between perhaps not.

    Raises: `DataError` where a file cannot be read.
    """
    whole = sum(file.size for file in files) <= _WHOLE_DIGEST
    total = hashlib.sha256()
    for number, file in enumerate(files):
        total.update(f"{file.size};".encode())
        try:
            with file.path.open("rb") as opened:
                if whole or file.size <= _SAMPLES * _SAMPLE_SIZE:
                    total.update(hashlib.file_digest(opened, "sha256").digest())
                else:
                    for place in range(_SAMPLES):
                        opened.seek((file.size - _SAMPLE_SIZE) * place // (_SAMPLES - 1))
                        total.update(opened.read(_SAMPLE_SIZE))
        except OSError as error:
            raise _unreadable(file.name, error) from None
        if report is not None:
            report((number + 1) / len(files))
    return total.hexdigest()


def missing(given: str, path: Path) -> DataError:
    """The error for a file that is not there, with the nearest name beside it."""
    if "\0" in given:
        return DataError(f"{given!r} is no name of a file: it holds a NUL")
    if path.is_symlink():
        return DataError(f"{given} is a link to {os.readlink(path)}, which does not exist")
    try:
        siblings = [entry.name for entry in os.scandir(path.parent)][:_SIBLINGS_AT_MOST]
    except OSError:
        return DataError(f"there is no file or folder {path.name!r}: there is no folder {path.parent} to read")
    where = "" if path.parent == Path() else f" in {path.parent}"
    return DataError(f"there is no file or folder {path.name!r}{where}{suggestion(path.name, siblings)}")


def _unreadable(given: str, error: OSError) -> DataError:
    if isinstance(error, PermissionError):
        return DataError(f"{given} may not be read: permission denied; ask its owner, or make a copy you may read")
    return DataError(f"{given} cannot be read: {error.strerror or error}")


def _matching(pattern: str) -> tuple[TableFile, ...]:
    matches = sorted(Path(match) for match in glob.glob(os.path.expanduser(pattern), recursive=True))
    # Whoever writes a pattern has chosen the names: no suffix is asked for.
    files = [path for path in matches if path.is_file()]
    if not files:
        raise DataError(f"the pattern {pattern!r} matches no file: check it, and quote it")
    return tuple(_table_file(path) for path in files)


def _is_table(path: Path) -> bool:
    name = path.name.lower()
    for packed in _PACKED:
        name = name.removesuffix(packed)
    return not name.startswith(".") and name.endswith(SUFFIXES) and path.is_file()


def _table_file(path: Path) -> TableFile:
    try:
        facts = path.stat()
        if stat.S_ISREG(facts.st_mode):
            with path.open("rb"):
                pass
    except OSError as error:
        raise _unreadable(str(path), error) from None
    if not stat.S_ISREG(facts.st_mode):
        raise DataError(f"{path} is no plain file: write its rows into a file first")
    if facts.st_size == 0:
        raise DataError(f"{path} is empty: there is no table in it")
    return TableFile(path, facts.st_size, facts.st_mtime_ns)

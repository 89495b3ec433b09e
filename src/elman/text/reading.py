"""Reading: from what a user names as input to a stream of text that never has to fit into memory.

`find_sources` turns names (files, folders, patterns, `-`, corpora) into an ordered list of files; `read_pieces` turns that list
into pieces of text, or of bytes: unpacked, decoded, without a byte order mark, joined, and in one normal form. What the pieces join
to does not depend on where the chunks of a file happen to end.
"""

import glob
import os
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from elman.config import TextSettings, suggestion
from elman.errors import DataError
from elman.text.corpora import corpus_names
from elman.text.decoding import binary_reason, check_encoding, decoded
from elman.text.normalizing import normalized
from elman.text.unpacking import CHUNK, chunks, head
from elman.training.cache import atomic_file

STANDARD_INPUT = "-"

_SIBLINGS_AT_MOST = 1000


@dataclass(frozen=True)
class Source:
    """A file to read. `size` and `modified` (nanoseconds) are those it had when it was found: a file that changes is noticed."""

    path: Path
    size: int
    modified: int

    @property
    def name(self) -> str:
        """What messages call it."""
        return str(self.path)

    def changed(self) -> bool:
        """Whether the file is no longer the one that was found."""
        try:
            now = self.path.stat()
        except OSError:
            return True
        return (now.st_size, now.st_mtime_ns) != (self.size, self.modified)


def find_sources(
    inputs: Sequence[str | Path],
    settings: TextSettings,
    *,
    find_corpus: Callable[[str], Path] | None = None,
    standard_input: Path | None = None,
) -> tuple[Source, ...]:
    """The files that the inputs stand for, in the order given, each file once.

    The name of a corpus is that corpus, even where a file has the same name (`./shakespeare` is the file). `-` stands for the file
    `standard_input`, into which `spool_standard_input` has written. A folder stands for its files and those of its subfolders in
    the order of their paths; a pattern (`*`, `?`, `**`, `[…]`) for the files it matches. Of files found that way the hidden, the
    empty and, unless the unit is the byte, those that look binary are passed over; of files named one by one none is.

    Raises: `DataError` for a missing, empty or unreadable file, and for a folder or a pattern without text.
    """
    if isinstance(inputs, str | Path):
        inputs = [inputs]
    if not inputs:
        raise DataError(f"no input: name a file, a folder, a pattern, - or a corpus ({', '.join(corpus_names())})")
    check_encoding(settings.encoding)
    found: dict[Path, Source] = {}
    for given in inputs:
        for source in _sources_of(os.fspath(given), settings, find_corpus, standard_input):
            found.setdefault(source.path, source)
    return tuple(found.values())


def read_pieces(
    sources: Sequence[Source], settings: TextSettings, *, report: Callable[[int], None] | None = None
) -> Iterator[str] | Iterator[bytes]:
    """The text of all sources, one after the other, in pieces of about a million characters; bytes where the unit is the byte.

    A newline is put between two files where the first does not end in one (not between bytes: they are taken as they are).
    `report` is called with the number of bytes of the files, packed ones as they are, that have been read.

    Raises: `DataError` for a file that cannot be read, is damaged, looks binary or holds bytes that the encoding forbids.
    """
    if settings.unit == "byte":
        return _raw_pieces(sources, report)
    name = sources[0].name if len(sources) == 1 else "the text"
    return normalized(_joined(sources, settings, report), settings.normal_form, name=name)


def spool_standard_input(destination: Path, stream: BinaryIO) -> Path:
    """Write everything that a stream gives (`sys.stdin.buffer`) into a file, because text is read twice; return `destination`.

    The file takes its name when the stream has ended.

    Raises: `DataError` when nothing comes, or the file cannot be written.
    """
    with atomic_file(destination) as file:
        shutil.copyfileobj(stream, file, CHUNK)
        if file.tell() == 0:
            raise DataError("standard input is empty: pipe a text into it, or name a file")
    return destination


def _sources_of(
    given: str, settings: TextSettings, find_corpus: Callable[[str], Path] | None, standard_input: Path | None
) -> list[Source]:
    if given == STANDARD_INPUT:
        if standard_input is None:
            raise DataError("- stands for standard input, and there is none here: name a file")
        return [_named_file(standard_input, given)]
    if find_corpus is not None and given in corpus_names():
        return [_named_file(find_corpus(given), given)]
    if not given:
        raise DataError("an input is an empty name: name a file, or . for this folder")
    path = Path(given).expanduser()
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError, ValueError):
        if glob.has_magic(given):
            return _matching_files(given, settings)
        raise _missing(given, path) from None
    except OSError as error:
        raise _unreadable(given, error) from None
    if stat.S_ISDIR(mode):
        return _files_of_folder(path, settings)
    return [_named_file(path, given)]


def _named_file(path: Path, given: str) -> Source:
    source = _source(path, given)
    if source.size == 0:
        raise DataError(f"{given} is empty: there is no text in it")
    return source


def _source(path: Path, given: str) -> Source:
    try:
        facts = path.stat()
    except OSError as error:
        raise _unreadable(given, error) from None
    if stat.S_ISDIR(facts.st_mode):
        raise DataError(f"{given} is a folder where a file is expected")
    if not stat.S_ISREG(facts.st_mode):
        raise DataError(f"{given} is a device or a pipe, which cannot be read twice: pipe it into standard input (-)")
    return Source(Path(os.path.abspath(path)), facts.st_size, facts.st_mtime_ns)


def _matching_files(pattern: str, settings: TextSettings) -> list[Source]:
    matches = [Path(match) for match in glob.glob(os.path.expanduser(pattern), recursive=True)]
    files = [path for path in matches if path.is_file()]
    if not files:
        matched = (
            f"folders only ({matches[0]}): add /* to the pattern" if matches else "no file: check it, and quote it"
        )
        raise DataError(f"the pattern {pattern!r} matches {matched}")
    sources = _texts_among(files, settings)
    if not sources:
        raise DataError(f"the {len(files)} files that {pattern!r} matches hold no text: they are empty or look binary")
    return sources


def _files_of_folder(folder: Path, settings: TextSettings) -> list[Source]:
    def fail(error: OSError) -> None:
        raise _unreadable(str(error.filename or folder), error)

    files: list[Path] = []
    for parent, folders, names in os.walk(folder, onerror=fail):
        folders[:] = [name for name in folders if not name.startswith(".")]
        files += [Path(parent, name) for name in names if not name.startswith(".")]
    sources = _texts_among([path for path in files if path.is_file()], settings)
    if not sources:
        what = f"its {len(files)} files are empty or look binary" if files else "it holds no visible file"
        raise DataError(f"the folder {folder} has no text in it: {what}")
    return sources


def _texts_among(files: Iterable[Path], settings: TextSettings) -> list[Source]:
    sources = []
    for path in sorted(files):
        source = _source(path, str(path))
        if source.size and (settings.unit == "byte" or not binary_reason(head(path), settings.encoding)):
            sources.append(source)
    return sources


def _missing(given: str, path: Path) -> DataError:
    if "\0" not in given and path.is_symlink():
        return DataError(f"{given} is a link to {os.readlink(path)}, which does not exist")
    parent = path.parent
    try:
        siblings = [entry.name for entry in os.scandir(parent)][:_SIBLINGS_AT_MOST]
    except (OSError, ValueError):
        siblings = []
    corpora = list(corpus_names()) if path.name == given else []
    hint = suggestion(path.name, corpora + siblings)
    where = "" if parent == Path() else f" in {parent}" if siblings else f": there is no folder {parent} to read"
    corpus = f", and no corpus ({', '.join(corpora)})" if corpora and not hint else ""
    return DataError(f"there is no file or folder {path.name!r}{where}{corpus}{hint}")


def _unreadable(given: str, error: OSError) -> DataError:
    if isinstance(error, PermissionError):
        return DataError(f"{given} may not be read: permission denied; ask its owner, or make a copy you may read")
    return DataError(f"{given} cannot be read: {error.strerror or error}")


def _raw_pieces(sources: Sequence[Source], report: Callable[[int], None] | None) -> Iterator[bytes]:
    before = 0
    for source in sources:
        yield from chunks(source.path, _shifted(report, before))
        before += source.size


def _joined(sources: Sequence[Source], settings: TextSettings, report: Callable[[int], None] | None) -> Iterator[str]:
    before = 0
    last = "\n"
    for source in sources:
        pieces = decoded(chunks(source.path, _shifted(report, before)), source.name, settings)
        for place, piece in enumerate(pieces):
            if place == 0 and last != "\n":
                yield "\n"
            last = piece[-1]
            yield piece
        before += source.size


def _shifted(report: Callable[[int], None] | None, before: int) -> Callable[[int], None] | None:
    return None if report is None else lambda done: report(before + done)

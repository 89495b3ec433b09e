"""Corpora by name: texts that can be trained on without looking for a file.

Two are made from the running Python, which everybody has; one, in Persian, is told by a grammar and has a known floor
(`elman.text.persian`); two are books that are looked for in the data folder, then in the cache, and then, where they have a public
address, downloaded. The books are checked by SHA-256, because published figures hold for exactly those bytes.

    >>> corpus_names()
    ('python-docs', 'python-source', 'persian', 'shakespeare', 'war-and-peace')
"""

import hashlib
import io
import platform
import sysconfig
import tokenize
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from elman.config import suggestion
from elman.errors import DataError
from elman.text.persian import FILE_NAME, persian_text
from elman.training.cache import atomic_file, default_cache_folder
from elman.training.downloads import Progress, Source, chosen_data_folder, fetch, file_checksum, where_to_put


@dataclass(frozen=True)
class Corpus:
    """A text with a name: a file with a known checksum and perhaps an address, or one that `make` writes piece by piece."""

    name: str
    file_name: str
    sha256: str = ""
    address: str = ""
    make: Callable[[], Iterator[str]] | None = None


def corpus_names() -> tuple[str, ...]:
    """The names that stand for a corpus wherever an input is expected."""
    return tuple(CORPORA)


def find_corpus(
    name: str,
    *,
    data_folder: Path | None = None,
    cache_folder: Path | None = None,
    download: bool = True,
    progress: Progress | None = None,
) -> Path:
    """The file of a named corpus: from the data folder, else from the cache, else made or downloaded into the cache.

    The data folder is `data_folder`, or what the environment variable ELMAN_DATA names. A download takes its name only when it is
    complete and its checksum is right. `progress` is called with what is being done and the share of it that is done.

    Raises: `DataError` for an unknown name, a data folder that is not there, a wrong checksum, and a corpus that is nowhere to be
    found or cannot be downloaded.
    """
    corpus = _corpus(name)
    if found := _find_offline(corpus, data_folder, cache_folder):
        return found
    destination = _cache_path(corpus, cache_folder)
    if corpus.make is not None:
        with atomic_file(destination) as file:
            for piece in corpus.make():
                file.write(piece.encode("utf-8"))
        return destination
    if not corpus.address:
        raise DataError(
            f"corpus {name!r} is not here and has no public address byte for byte: put the file {corpus.file_name} "
            f"(SHA-256 {corpus.sha256}) {where_to_put(data_folder)}"
        )
    if not download:
        raise DataError(
            f"corpus {name!r} is not here and nothing is to be downloaded: put {corpus.address} "
            f"as {corpus.file_name} {where_to_put(data_folder)}"
        )
    _download(corpus, destination, where_to_put(data_folder), progress)
    return destination


def available_offline(name: str, *, data_folder: Path | None = None, cache_folder: Path | None = None) -> bool:
    """Whether `find_corpus` would succeed without a network: the file is there and right, or this Python can make it.

    Raises: `DataError` for an unknown name. Any other trouble, a wrong checksum say, means no.
    """
    corpus = _corpus(name)
    if corpus.make is not None:
        return True
    try:
        return _find_offline(corpus, data_folder, cache_folder) is not None
    except DataError:
        return False


def _corpus(name: str) -> Corpus:
    if name not in CORPORA:
        known = ", ".join(CORPORA)
        raise DataError(f"no corpus is named {name!r}{suggestion(name, CORPORA)} (there are {known})")
    return CORPORA[name]


def _cache_path(corpus: Corpus, cache_folder: Path | None) -> Path:
    return (default_cache_folder("text") if cache_folder is None else cache_folder) / corpus.file_name


def _find_offline(corpus: Corpus, data_folder: Path | None, cache_folder: Path | None) -> Path | None:
    cached = _cache_path(corpus, cache_folder)
    if corpus.make is not None:
        return cached if cached.is_file() else None
    folder = chosen_data_folder(data_folder)
    if folder is not None and (folder / corpus.file_name).exists():
        path = folder / corpus.file_name
        found = file_checksum(path)
        if found != corpus.sha256:
            raise DataError(
                f"{path} is not the corpus {corpus.name!r}: its SHA-256 is {found}, expected {corpus.sha256}; "
                "move it away or replace it (to train on it as it is, name the file itself)"
            )
        return path
    # A damaged file in the cache is our own affair: it counts as absent and is replaced.
    return cached if cached.is_file() and file_checksum(cached) == corpus.sha256 else None


def _download(corpus: Corpus, destination: Path, by_hand: str, progress: Progress | None) -> None:
    source = Source(corpus.name, f"the corpus {corpus.name!r}", corpus.address, corpus.file_name)
    with atomic_file(destination) as file:
        digest = hashlib.sha256()
        for chunk in fetch(source, by_hand, progress):
            digest.update(chunk)
            file.write(chunk)
        if digest.hexdigest() != corpus.sha256:
            raise DataError(
                f"{corpus.address} gave something else than the corpus {corpus.name!r}: SHA-256 {digest.hexdigest()}, "
                f"expected {corpus.sha256}; try again later, or put {corpus.file_name} {by_hand}"
            )


def _python_docs() -> Iterator[str]:
    """The language's own reference, as `help()` shows it: one topic after the other in the order of their names."""
    try:
        from pydoc_data.topics import topics
    except ImportError:
        raise DataError("this Python comes without pydoc_data.topics: choose another corpus or a file") from None
    for name in sorted(topics):
        yield topics[name].strip("\n") + "\n\n\n"


def _python_source() -> Iterator[str]:
    """The standard library, without tests, installed packages and what describes this one machine."""
    root = Path(sysconfig.get_path("stdlib"))
    left_out = {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__"}
    files = [
        path
        for path in root.rglob("*.py")
        if not left_out.intersection(path.relative_to(root).parts) and not path.name.startswith("_sysconfigdata")
    ]
    if not files:
        raise DataError(f"this Python has no source files in {root}: choose another corpus or a file")
    for path in sorted(files, key=lambda path: path.relative_to(root).as_posix()):
        text = _python_text(path.read_bytes())
        if text:
            yield text if text.endswith("\n") else text + "\n"


def _python_text(source: bytes) -> str:
    """The text of a source file in the encoding that it declares; nothing where it is not what it declares."""
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(source).readline)
        return source.decode(encoding).replace("\r\n", "\n")
    except (SyntaxError, UnicodeError):
        return ""


_PYTHON = platform.python_version()

CORPORA: dict[str, Corpus] = {
    corpus.name: corpus
    for corpus in (
        Corpus("python-docs", f"python-docs-{_PYTHON}.txt", make=_python_docs),
        Corpus("python-source", f"python-source-{_PYTHON}.txt", make=_python_source),
        Corpus("persian", FILE_NAME, make=persian_text),
        Corpus(
            "shakespeare",
            "tinyshakespeare.txt",
            sha256="86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
            address="https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",
        ),
        Corpus(
            "war-and-peace",
            "war_and_peace.txt",
            sha256="b0fc81c399971eaf738c8be89809e6a0d95c151749112b04f06b6af648d8a39f",
        ),
    )
}

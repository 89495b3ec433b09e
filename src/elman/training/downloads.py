"""Public data by its address: where a person keeps it, how it is fetched when it is not there, and what is said when that fails.

Nothing here knows what the data is. Whoever asks checks what came, by SHA-256 or by its contents, before it takes a name.
"""

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from elman.errors import DataError

DATA_FOLDER_VARIABLE = "ELMAN_DATA"
TIMEOUT_SECONDS = 20.0

_CHUNK = 1 << 16

Progress = Callable[[str, float], None]
"""Called with what is being done and the share of it that is done."""


@dataclass(frozen=True)
class Source:
    """What is fetched. `name` for progress, `words` for messages ("the corpus 'shakespeare'"), `file_name` to put it by hand."""

    name: str
    words: str
    address: str
    file_name: str


def chosen_data_folder(data_folder: Path | None) -> Path | None:
    """The folder to look in first: `data_folder`, else what ELMAN_DATA names, else None.

    Raises: `DataError` where one is named that does not exist.
    """
    named = f"{DATA_FOLDER_VARIABLE}=" if data_folder is None else ""
    chosen = data_folder if data_folder is not None else os.environ.get(DATA_FOLDER_VARIABLE)
    if not chosen:
        return None
    folder = Path(chosen).expanduser()
    if not folder.is_dir():
        raise DataError(f"the data folder {named}{folder} is not a folder: create it or name another")
    return folder


def where_to_put(data_folder: Path | None) -> str:
    """The end of a message that asks for a file: "into the data folder F", or into one that is named then."""
    folder = chosen_data_folder(data_folder)
    if folder is not None:
        return f"into the data folder {folder}"
    return f"into a folder and name that folder with --data-dir or {DATA_FOLDER_VARIABLE}"


def file_checksum(path: Path) -> str:
    """The SHA-256 of a file. Raises: `DataError` where it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(
            f"cannot read {path}: {error.strerror or error}; check what it is and who may read it"
        ) from None


def fetch(source: Source, by_hand: str, progress: Progress | None) -> Iterator[bytes]:
    """The bytes at the source's address, piece by piece.

    Raises: `DataError` where they cannot be had; `by_hand` (see `where_to_put`) ends its message.
    """
    # Imported here: they are slow to load, and nearly no run downloads anything.
    import http.client
    import urllib.request

    try:
        with urllib.request.urlopen(source.address, timeout=TIMEOUT_SECONDS) as response:
            total = int(response.headers.get("Content-Length") or 0)
            done = 0
            while chunk := response.read(_CHUNK):
                done += len(chunk)
                if progress is not None:
                    progress(f"downloading {source.name}", min(1.0, done / total) if total else 0.0)
                yield chunk
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise DataError(
            f"cannot download {source.words} from {source.address}: {reason}; "
            f"check the network, or put the file as {source.file_name} {by_hand}"
        ) from None

"""Where the rooms keep what they can make again, and how a file is written so that it is whole or not there at all."""

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import filelock
import platformdirs

from elman.errors import DataError


def default_cache_folder(room: str) -> Path:
    """The user's folder for what a room encodes, makes or downloads ("text", "series"); it can be deleted at any time."""
    return Path(platformdirs.user_cache_dir("elman")) / room


@contextmanager
def atomic_file(destination: Path) -> Iterator[BinaryIO]:
    """Open a file for writing that takes its name only when the block ends well.

    It is written beside `destination` under a temporary name, flushed to the disk and renamed; a failure removes it and leaves
    whatever was at `destination` untouched.

    Raises: `DataError` where the folder cannot be made or the disk is full.
    """
    temporary = destination.parent / f".{destination.name}.{secrets.token_hex(8)}.partial"
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        # Not `tempfile`: its files are private to their owner, and a data folder may be shared.
        file = temporary.open("xb")
    except OSError as error:
        raise _not_writable(destination, error) from None
    finished = False
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, destination)
        finished = True
        _flush_folder(destination.parent)
    except OSError as error:
        raise _not_writable(destination, error) from None
    finally:
        if not finished:
            temporary.unlink(missing_ok=True)


@contextmanager
def sole_maker(path: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Inside, no other program makes what is called `path`; `waiting` is called every second while another one is at it.

    Raises: `DataError` where the folder cannot be made or written.
    """
    lock = filelock.FileLock(path.with_suffix(".lock"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        while not lock.is_locked:
            with suppress(filelock.Timeout):
                lock.acquire(timeout=1)
            if not lock.is_locked:
                waiting()
    except OSError as error:
        raise _not_writable(path, error) from None
    try:
        yield
    finally:
        lock.release()


def _flush_folder(folder: Path) -> None:
    """Flush the new name too; systems on which a folder cannot be opened do without."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError:
        pass
    finally:
        os.close(handle)


def not_written(path: Path, error: BaseException) -> DataError:
    """The error for work that goes on where it was once the disk has room again, or the folder may be written."""
    reason = getattr(error, "strerror", None) or (str(error).splitlines() or [type(error).__name__])[0]
    return DataError(f"cannot write {path}: {reason}; free some space there, then start again")


def _not_writable(destination: Path, error: OSError) -> DataError:
    reason = error.strerror or str(error)
    return DataError(f"cannot write {destination}: {reason}; free some space there, or choose another folder")

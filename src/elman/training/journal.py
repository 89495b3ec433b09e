"""A journal of long work: what is finished is written down, so that after a kill or a power cut only the rest is done."""

import json
import os
from pathlib import Path
from typing import Any

from elman.training.cache import not_written


class Journal:
    """Results by key in a file, a line each, on the disk before `add` returns.

    A journal that was begun about something else (`about`, plain values), or is damaged, is begun anew; a last line that was being
    written when the power went counts as not there.

    Raises: `DataError` where the file cannot be read or written.

        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "work.journal"
        >>> with Journal(path, {"parts": 2}) as journal:
        ...     journal.add("part 0", [1, 2])
        >>> with Journal(path, {"parts": 2}) as journal:
        ...     journal.results
        {'part 0': [1, 2]}
        >>> with Journal(path, {"parts": 3}) as journal:
        ...     journal.results
        {}
    """

    def __init__(self, path: Path, about: Any) -> None:
        self.path = path
        self.results: dict[str, Any] = {}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            kept = self._read(about)
            self._file = path.open("r+b" if kept else "wb")
            self._file.truncate(kept)
            self._file.seek(kept)
            if not kept:
                self._write(about)
        except OSError as error:
            raise not_written(self.path, error) from None

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file, which stays."""
        self._file.close()

    def add(self, key: str, result: Any) -> None:
        """Write a result down. Raises `DataError` on a full disk."""
        self.results[key] = result
        try:
            self._write([key, result])
        except OSError as error:
            raise not_written(self.path, error) from None

    def remove(self) -> None:
        """The work is over, or of no use any more."""
        self._file.close()
        self.path.unlink(missing_ok=True)

    def _read(self, about: Any) -> int:
        """Take over what an earlier start has finished; the length of what holds of the file."""
        if not self.path.exists():
            return 0
        kept = 0
        with self.path.open("rb") as file:
            for number, line in enumerate(file):
                try:
                    found = json.loads(line) if line.endswith(b"\n") else None
                    if number == 0 and found != json.loads(json.dumps(about)):
                        return 0
                    if number:
                        key, result = found
                        self.results[str(key)] = result
                except (ValueError, TypeError, RecursionError):
                    break
                kept += len(line)
        return kept

    def _write(self, value: Any) -> None:
        self._file.write(json.dumps(value).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())

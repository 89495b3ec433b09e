"""A process that reads and encodes segments for `elman.text.long_text`.

Tasks come in on standard input, a line of JSON each; lines of JSON go out on standard output: {"done": bytes so far}, then
{"result": ...} or {"error": ...}. It ends with its input, and so with the process that started it, however that ends.
"""

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from elman.config import TextSettings
from elman.errors import DataError
from elman.text.checksums import BLOCK_BYTES, block_digest
from elman.text.segments import Segment, read_segment
from elman.text.vocabulary import CODE_POINTS, Vocabulary, symbol_values
from elman.training.cache import not_written

CHANGED = "changed"

Report = Callable[[int], None]


def perform(task: dict[str, Any], report: Report) -> Any:
    """The result of a task."""
    if task["stage"] == "checking":
        report(BLOCK_BYTES)
        return block_digest(Path(task["codes"]), task["block"])
    path, start, end = task["segment"]
    segment, settings = Segment(Path(path), start, end), TextSettings(**task["settings"])
    return count(segment, settings, report) if task["stage"] == "reading" else encode(task, segment, settings, report)


def count(segment: Segment, settings: TextSettings, report: Report) -> dict[str, Any]:
    """Which symbols a segment has, how many, and whether a newline is missing behind it, should another file follow."""
    seen = np.zeros(CODE_POINTS, bool)
    length, newline_missing = 0, False
    for piece in read_segment(segment, settings, report):
        seen[symbol_values(piece)] = True
        length += len(piece)
        newline_missing = isinstance(piece, str) and piece[-1] != "\n"
    return {"values": np.flatnonzero(seen).tolist(), "length": length, "newline_missing": newline_missing}


def encode(task: dict[str, Any], segment: Segment, settings: TextSettings, report: Report) -> bool | str:
    """Write a segment's codes to their place in the file of codes; `CHANGED` where the text is not the one that was counted."""
    vocabulary = Vocabulary.from_dict(task["vocabulary"])
    place, left = task["offset"] * vocabulary.dtype.itemsize, task["length"]
    try:
        with Path(task["codes"]).open("r+b", buffering=0) as file:
            file.seek(place)
            if task["newline_before"]:
                file.write(vocabulary.encode("\n").tobytes())
            for piece in read_segment(segment, settings, report):
                codes = vocabulary.look_up(symbol_values(piece))
                left -= len(codes)
                if left < 0 or codes.max() >= vocabulary.size:
                    return CHANGED
                _write(file, codes.astype(vocabulary.dtype, copy=False).tobytes())
            os.fsync(file.fileno())
    except OSError as error:
        raise not_written(Path(task["codes"]), error) from None
    return True if left == 0 else CHANGED


def _write(file: Any, data: bytes) -> None:
    """All of it: a raw file may take less, and on a full disk does so once before it refuses."""
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]


def main() -> None:
    """Tasks until the input ends."""
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C reaches the whole group; the process that started this one decides

    def tell(**what: Any) -> None:
        sys.stdout.write(json.dumps(what) + "\n")
        sys.stdout.flush()

    for line in sys.stdin:
        try:
            tell(result=perform(json.loads(line), lambda done: tell(done=done)))
        except DataError as error:
            tell(error=str(error))


if __name__ == "__main__":
    main()

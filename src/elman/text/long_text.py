"""Encoding a text of any length on all cores, in a way that a kill only interrupts.

Three stages go over the text in segments, side by side in processes of their own: which symbols there are and how many; the codes,
each segment's at its place in one file; the checksums of that file's blocks. What is finished stands in a journal beside the file.
Memory is that of a piece of text in each process, whatever the length.
"""

import json
import os
import queue
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

from elman.config import TextSettings
from elman.errors import DataError
from elman.text.checksums import BLOCK_BYTES, digest_of_blocks, digest_of_one_block
from elman.text.reading import Source
from elman.text.segment_worker import CHANGED
from elman.text.segments import SEGMENT_BYTES, Segment, cut
from elman.text.vocabulary import Vocabulary
from elman.training.cache import not_written
from elman.training.journal import Journal

Progress = Callable[[str, float], None]

_FORMAT = 1


class SourceChanged(Exception):
    """The text is not the one that was counted: its files changed in between."""


class LongText:
    """The encoding of some sources into the file `codes`, and how far it has come."""

    def __init__(
        self, codes: Path, sources: Sequence[Source], settings: TextSettings, progress: Progress | None
    ) -> None:
        self.codes, self.progress = codes, progress
        self.partial = codes.with_name(f"{codes.name}.partial")
        self.settings = {name: getattr(settings, name) for name in ("unit", "normal_form", "encoding", "errors")}
        self.segments = cut(sources, settings)
        state = [[source.name, source.size, source.modified] for source in sources]
        about = {"format": _FORMAT, "sources": state, "settings": self.settings, "cut": [SEGMENT_BYTES, BLOCK_BYTES]}
        self.journal = Journal(codes.with_name(f"{codes.name}.journal"), about)

    def count(self) -> tuple[list[int], int]:
        """The values of the symbols, ascending, and how many symbols the text has."""
        tasks = {f"reading {number}": self._task("reading", segment) for number, segment in enumerate(self.segments)}
        found = self._run(tasks, [segment.size for segment in self.segments])
        self._newlines = list(_newlines_before(self.segments, found))
        self._lengths = [part["length"] for part in found]
        values = set().union(*(part["values"] for part in found))
        if any(self._newlines):
            values.add(ord("\n"))
        return sorted(values), sum(self._lengths) + sum(self._newlines)

    def encode(self, vocabulary: Vocabulary, length: int) -> tuple[str, list[str]]:
        """Write the codes; their checksum and those of the blocks. The file takes its name; the journal stays until `forget`.

        Raises: `SourceChanged`; `DataError` where the disk is full.
        """
        size = length * vocabulary.dtype.itemsize
        self._make_room(size)
        offsets = accumulate(map(sum, zip(self._lengths, self._newlines, strict=True)), initial=0)
        tasks = {}
        for number, (segment, (offset, _)) in enumerate(zip(self.segments, pairwise(offsets), strict=True)):
            tasks[f"encoding {number}"] = self._task("encoding", segment) | {
                "codes": str(self.partial),
                "vocabulary": vocabulary.to_dict(),
                "offset": offset,
                "length": self._lengths[number],
                "newline_before": self._newlines[number],
            }
        self._run(tasks, [segment.size for segment in self.segments])
        count = -(-size // BLOCK_BYTES)
        tasks = {f"checking {n}": {"stage": "checking", "codes": str(self.partial), "block": n} for n in range(count)}
        blocks = self._run(tasks, [BLOCK_BYTES] * count) if count > 1 else []
        digest = digest_of_blocks(vocabulary, blocks) if blocks else digest_of_one_block(vocabulary, self.partial)
        os.replace(self.partial, self.codes)
        return digest, blocks

    def close(self) -> None:
        """Close the journal; another `LongText` goes on from it."""
        self.journal.close()

    def forget(self) -> None:
        """Remove what there is so far."""
        self.journal.remove()
        self.partial.unlink(missing_ok=True)

    def _task(self, stage: str, segment: Segment) -> dict[str, Any]:
        return {"stage": stage, "segment": [str(segment.path), segment.start, segment.end], "settings": self.settings}

    def _make_room(self, size: int) -> None:
        """The file in its full length; what an earlier start has written stays.

        Raises: `DataError` where the disk has no room for the rest.
        """
        try:
            with self.partial.open("ab") as file:
                has = os.fstat(file.fileno())
                missing = size - getattr(has, "st_blocks", 0) * 512
                free = shutil.disk_usage(self.partial.parent).free
                if missing > free:
                    raise DataError(
                        f"the codes of this text take {size / 1e9:.1f} GB in {self.partial.parent}, where {free / 1e9:.1f} GB are "
                        f"free: make room, or name another cache folder (XDG_CACHE_HOME)"
                    )
                file.truncate(size)
        except OSError as error:
            raise not_written(self.partial, error) from None

    def _run(self, tasks: dict[str, dict[str, Any]], sizes: Sequence[int]) -> list[Any]:
        """The results of tasks in order: from the journal, or from processes side by side, and then in the journal.

        Raises: `SourceChanged`; `DataError` for what is wrong with the text.
        """
        size_of = dict(zip(tasks, sizes, strict=True))
        missing = [key for key in tasks if key not in self.journal.results]
        finished, total = sum(sizes) - sum(size_of[key] for key in missing), max(1, sum(sizes))
        under_way: dict[str, int] = {}
        for key, message in side_by_side([(key, tasks[key]) for key in missing]):
            if "error" in message:
                raise DataError(message["error"])
            if "result" in message:
                under_way.pop(key, None)
                finished += size_of[key]
                if message["result"] == CHANGED:
                    raise SourceChanged
                self.journal.add(key, message["result"])
            else:
                under_way[key] = message["done"]
            if self.progress is not None:
                self.progress(key.split()[0], min(1.0, (finished + sum(under_way.values())) / total))
        return [self.journal.results[key] for key in tasks]


def cores() -> int:
    """Processes that work side by side: one for each processor, or as many as ELMAN_THREADS allows."""
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    wanted = os.environ.get("ELMAN_THREADS", "")
    return max(1, min(there, int(wanted))) if wanted.isdecimal() else there


def side_by_side(tasks: Sequence[tuple[str, dict[str, Any]]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """(key, message) of every message about a task, each task in one of `cores()` processes.

    The processes are started by the interpreter's own command line, not by `multiprocessing`, which would run the caller's main
    module again.

    Raises: `DataError` where a process ends before its time.
    """
    waiting: queue.SimpleQueue[tuple[str, dict[str, Any]]] = queue.SimpleQueue()
    for task in tasks:
        waiting.put(task)
    told: queue.SimpleQueue[tuple[str, dict[str, Any] | None]] = queue.SimpleQueue()
    command = [sys.executable, "-m", "elman.text.segment_worker"]
    processes = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(min(cores(), len(tasks)))
    ]
    feeders = [threading.Thread(target=_feed, args=(process, waiting, told), daemon=True) for process in processes]
    try:
        for feeder in feeders:
            feeder.start()
        left = len(tasks)
        while left:
            key, message = told.get()
            if message is None:
                raise DataError(
                    f"a process that was {key.split()[0]} the text ended before its time (was it killed, or is memory short?): "
                    f"start again, what is finished is kept"
                )
            left -= "result" in message
            yield key, message
    finally:
        for process, feeder in zip(processes, feeders, strict=True):
            process.kill()
            process.wait()
            feeder.join()
            with suppress(OSError):
                process.communicate()  # closes the pipes


def _feed(process: "subprocess.Popen[str]", waiting: Any, told: Any) -> None:
    """Give a process one task after the other, and pass on what it says; None where it ended in the middle."""
    assert process.stdin is not None
    assert process.stdout is not None
    while True:
        try:
            key, task = waiting.get_nowait()
        except queue.Empty:
            return
        try:
            process.stdin.write(json.dumps(task) + "\n")
            process.stdin.flush()
            for line in process.stdout:
                message = json.loads(line)
                told.put((key, message))
                if "done" not in message:
                    break
            else:
                told.put((key, None))
                return
        except (OSError, ValueError):
            told.put((key, None))
            return


def _newlines_before(segments: Iterable[Segment], found: Iterable[dict[str, Any]]) -> Iterator[bool]:
    """For each segment, whether a newline stands before it: between two files where the first does not end in one."""
    missing, begun = False, False
    for segment, part in zip(segments, found, strict=True):
        begun = begun and segment.start > 0
        yield missing and not begun and part["length"] > 0
        if part["length"]:
            missing, begun = part["newline_missing"], True

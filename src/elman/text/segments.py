"""A long text in segments, each of which can be read by itself: joined, they are what reading the files in one go gives.

A file in an encoding whose ASCII characters are single bytes, and those bytes nothing else, is cut before such a byte: neither a
character nor a normal form reaches across it (`elman.text.normalizing`). Bytes are cut anywhere. A packed file and one in another
encoding are one segment each.
"""

import codecs
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from elman.config import TextSettings
from elman.text.decoding import decoded
from elman.text.normalizing import normalized
from elman.text.reading import Source
from elman.text.unpacking import CHUNK, chunks, is_packed

SEGMENT_BYTES = 64 << 20
_WINDOW = 1 << 16
_CUT_BEFORE_ASCII = re.compile(r"utf-8|ascii|iso8859-\d+|cp125\d|koi8-[ru]")


@dataclass(frozen=True)
class Segment:
    """The bytes from `start` to `end` of a file."""

    path: Path
    start: int
    end: int

    @property
    def size(self) -> int:
        """How many bytes of the file it is."""
        return self.end - self.start


def cut(sources: Sequence[Source], settings: TextSettings, size: int = SEGMENT_BYTES) -> list[Segment]:
    """The sources as segments of about `size` bytes, in order; the same ones whenever the files are the same."""
    anywhere = settings.unit == "byte"
    possible = anywhere or _CUT_BEFORE_ASCII.fullmatch(codecs.lookup(settings.encoding).name) is not None
    segments = []
    for source in sources:
        bounds = [0]
        if possible and not is_packed(source.path):
            for wanted in range(size, source.size, size):
                place = wanted if anywhere else _last_ascii(source.path, bounds[-1], wanted)
                if place > bounds[-1]:
                    bounds.append(place)
        ends = [*bounds[1:], source.size]
        segments += [Segment(source.path, start, end) for start, end in zip(bounds, ends, strict=True)]
    return segments


def read_segment(
    segment: Segment, settings: TextSettings, report: Callable[[int], None] | None = None
) -> Iterator[str] | Iterator[bytes]:
    """The text of a segment in pieces, as `read_pieces` gives that of whole files; `report` is told the bytes read so far.

    Raises: `DataError` as `read_pieces` does.
    """
    if is_packed(segment.path):
        contents = chunks(segment.path, report)
    else:
        contents = chunks(segment.path, report, segment.start, segment.end)
    if settings.unit == "byte":
        return contents
    name = str(segment.path)
    pieces = decoded(contents, name, settings, start=segment.start, lines_before=lambda: _lines_before(segment))
    return normalized(pieces, settings.normal_form, name=name)


def _last_ascii(path: Path, after: int, before: int) -> int:
    """The place of the last ASCII byte between two places of a file; `after` where there is none."""
    with path.open("rb") as file:
        while before > after:
            start = max(after, before - _WINDOW)
            file.seek(start)
            found = np.flatnonzero(np.frombuffer(file.read(before - start), np.uint8) < 0x80)
            if len(found):
                return start + int(found[-1])
            before = start
    return after


def _lines_before(segment: Segment) -> int:
    """Lines that end before the segment: counted only for a message about what is wrong in it."""
    lines, left = 0, segment.start
    with segment.path.open("rb") as file:
        while left and (data := file.read(min(left, CHUNK))):
            lines += data.count(b"\n")
            left -= len(data)
    return lines

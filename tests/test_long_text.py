"""Long texts: read by all cores in segments, they are what reading them in one go gives; a kill only interrupts."""

import gzip
import json
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from elman.config import TextSettings
from elman.errors import DataError
from elman.text import checksums, encoded, long_text, segments
from elman.text.checksums import CodesDigest, block_digest, digest_of_blocks
from elman.text.encoded import let_go, open_text
from elman.text.reading import find_sources, read_pieces
from elman.text.segments import cut, read_segment
from elman.text.vocabulary import Vocabulary

ALPHABETS = (
    "abc \n",
    "é\u0301ü\u0308e\u0301 x\n",
    "سلام‌دنیا \u064b\u0651\n",
    "한\u1112\u1161\u11ab글\n",
    "日本語。",
    "👩‍👩‍👧\ud7a3 ",
)


def mixed(length: int, seed: int) -> str:
    """Text of many scripts, combining marks in any order, with and without ASCII in reach."""
    draw = random.Random(seed)
    pieces: list[str] = []
    while sum(map(len, pieces)) < length:
        alphabet = draw.choice(ALPHABETS)
        pieces.append("".join(draw.choice(alphabet) for _ in range(draw.randrange(1, 40))))
    return "".join(pieces)


@pytest.mark.parametrize("normal_form", ["NFC", "NFKD", "none"])
@pytest.mark.parametrize("encoding", ["utf-8", "cp1256", "utf-16"])
def test_segments_join_to_the_text(tmp_path: Path, normal_form: str, encoding: str) -> None:
    for seed in range(20):
        path = tmp_path / f"{seed}.txt"
        path.write_bytes(mixed(700, seed).encode(encoding, "replace"))
        settings = TextSettings(encoding=encoding, normal_form=normal_form)
        sources = find_sources([path], settings)
        expected = "".join(read_pieces(sources, settings))
        parts = cut(sources, settings, size=100)
        assert "".join("".join(read_segment(part, settings)) for part in parts) == expected
        assert (len(parts) > 3) == (encoding != "utf-16")
        assert [part.end for part in parts[:-1]] == [part.start for part in parts[1:]]


def test_text_without_ascii_is_one_segment_and_bytes_are_cut_anywhere(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("日本語" * 1000)
    settings = TextSettings()
    assert len(cut(find_sources([path], settings), settings, size=500)) == 1
    settings = TextSettings(unit="byte")
    assert len(cut(find_sources([path], settings), settings, size=500)) == 18


@pytest.fixture
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything is a long text, of many segments and blocks."""
    monkeypatch.setattr(encoded, "LONG_BYTES", 1)
    monkeypatch.setattr(long_text, "SEGMENT_BYTES", 50_000)
    monkeypatch.setattr(long_text, "cut", lambda sources, settings: cut(sources, settings, 50_000))


def several_files(folder: Path) -> list[Path]:
    """Files of many kinds: without a newline at the end, with a byte order mark, of nothing else, packed."""
    contents = {
        "a.txt": mixed(150_000, 1).rstrip("\n").encode(),
        "b.txt": b"\xef\xbb\xbf" + "with a mark, \u0301 first".encode(),
        "c.txt": b"\xef\xbb\xbf",
        "d.txt": "\u0301 begins with an accent".encode(),
        "e.txt.gz": gzip.compress(mixed(60_000, 2).encode()),
        "f.txt": mixed(120_000, 3).encode() + b"\n",
    }
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    return [folder / name for name in contents]


@pytest.mark.parametrize("unit", ["character", "byte"])
def test_all_cores_give_what_one_reader_gives(tmp_path: Path, small_segments: None, unit: str) -> None:
    paths, settings = several_files(tmp_path), TextSettings(unit=unit)
    told: list[tuple[str, float]] = []
    long = open_text(paths, settings, cache_folder=tmp_path / "long", progress=lambda *what: told.append(what))
    encoded.LONG_BYTES = 1 << 40
    short = open_text(paths, settings, cache_folder=tmp_path / "short")
    assert np.array_equal(long.codes, short.codes)
    assert long.vocabulary == short.vocabulary
    assert (long.digest, long.sources) == (short.digest, short.sources)
    assert sorted({stage for stage, _ in told}) == ["encoding", "reading"]
    assert max(share for _, share in told) == 1.0
    assert {path.suffix for path in (tmp_path / "long").iterdir()} <= {".codes", ".json", ".lock"}


def test_a_checksum_is_the_same_piece_by_piece_and_block_by_block(tmp_path: Path) -> None:
    vocabulary, data = Vocabulary.from_text("ab"), random.Random(0).randbytes(1000)
    for length in (99, 100, 101, 200, 950):
        digest = CodesDigest(vocabulary, block_bytes=100)
        for start in range(0, length, 7):
            digest.update(data[start : min(start + 7, length)])
        (tmp_path / "codes").write_bytes(data[:length])
        whole, blocks = digest.finish()
        assert len(blocks) == (0 if length <= 100 else -(-length // 100))
        assert blocks == [block_digest(tmp_path / "codes", number, 100) for number in range(len(blocks))]
        if blocks:
            assert whole == digest_of_blocks(vocabulary, blocks)


def test_a_long_entry_is_opened_by_some_of_its_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checksums, "BLOCK_BYTES", 1000)
    monkeypatch.setattr(CodesDigest.__init__, "__defaults__", (1000,))
    monkeypatch.setattr(block_digest, "__defaults__", (1000,))
    path, cache = tmp_path / "a.txt", tmp_path / "cache"
    path.write_text(mixed(20_000, 4), "utf-8", errors="replace")
    first = open_text([path], TextSettings(), cache_folder=cache)
    expected = first.codes.tolist()
    read: list[int] = []
    original = checksums.block_digest
    monkeypatch.setattr(checksums, "block_digest", lambda path, number: read.append(number) or original(path, number))
    assert open_text([path], TextSettings(), cache_folder=cache).digest == first.digest
    assert 2 <= len(read) <= 4
    codes = next(cache.glob("*.codes"))
    damaged = bytearray(codes.read_bytes())
    damaged[5] ^= 1
    codes.write_bytes(damaged)
    assert open_text([path], TextSettings(), cache_folder=cache).codes.tolist() == expected
    assert codes.read_bytes() != damaged


CHILD = """
import sys, time
from pathlib import Path
from elman.config import TextSettings
from elman.text import encoded, long_text, segments
encoded.LONG_BYTES = 1
long_text.SEGMENT_BYTES = 50_000
long_text.cut = lambda sources, settings: segments.cut(sources, settings, 50_000)
def slowly(stage, share):
    print(stage, share, flush=True)
    time.sleep(0.005)
encoded.open_text([sys.argv[1]], TextSettings(), cache_folder=Path(sys.argv[2]), progress=slowly)
"""


@pytest.mark.parametrize("stage", ["reading", "encoding"])
def test_a_killed_encoding_goes_on_where_it_was(
    tmp_path: Path, small_segments: None, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    path, cache = tmp_path / "a.txt", tmp_path / "cache"
    path.write_text(mixed(240_000, 5), "utf-8", errors="replace")
    child = subprocess.Popen([sys.executable, "-c", CHILD, path, cache], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    for line in child.stdout:
        name, share = line.split()
        if name == stage and float(share) > 0.5:
            break
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    (journal,) = cache.glob("*.journal")
    finished = {json.loads(line)[0] for line in journal.read_text().splitlines()[1:]}
    assert sum(key.startswith(stage) for key in finished) >= 2
    done: list[str] = []
    original = long_text.side_by_side

    def noted(tasks: list[tuple[str, dict[str, object]]]) -> object:
        done.extend(key for key, _ in tasks)
        return original(tasks)

    monkeypatch.setattr(long_text, "side_by_side", noted)
    continued = open_text([path], TextSettings(), cache_folder=cache)
    assert not finished.intersection(done)
    assert continued.digest == open_text([path], TextSettings(), cache_folder=tmp_path / "other").digest


def test_bad_bytes_are_named_with_their_place(tmp_path: Path, small_segments: None) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"line\n" * 40_000 + b"bad \xff\n" + b"line\n" * 40_000)
    with pytest.raises(DataError, match=r"a.txt is not utf-8: byte 0xff at offset 200004, line 40001 "):
        open_text([path], TextSettings(), cache_folder=tmp_path / "cache")


@pytest.mark.parametrize("change", ["new symbol", "longer", "touched"])
def test_a_text_that_changes_is_refused(
    tmp_path: Path, small_segments: None, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    path, cache = tmp_path / "a.txt", tmp_path / "cache"
    path.write_text("some text " * 20_000)
    before = path.stat().st_mtime_ns
    original = long_text.LongText.encode

    def changing(self: long_text.LongText, vocabulary: Vocabulary, length: int) -> tuple[str, list[str]]:
        path.write_text(("s0me text " if change == "new symbol" else "some text ") * (20_000 + (change == "longer")))
        if change != "touched":
            os.utime(path, ns=(before, before))
        else:
            os.utime(path, ns=(0, 0))
        return original(self, vocabulary, length)

    monkeypatch.setattr(long_text.LongText, "encode", changing)
    with pytest.raises(DataError, match=r"a.txt changed while it was being read: wait"):
        open_text([path], TextSettings(), cache_folder=cache)
    monkeypatch.undo()
    expected = open_text([path], TextSettings(), cache_folder=tmp_path / "other")
    assert open_text([path], TextSettings(), cache_folder=cache).digest == expected.digest


def test_a_disk_without_room_is_told_before_anything_is_written(
    tmp_path: Path, small_segments: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, cache = tmp_path / "a.txt", tmp_path / "cache"
    path.write_text("some text " * 20_000)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(
        DataError, match=r"the codes of this text take 0.0 GB in .*cache, where 0.0 GB are free: make room"
    ):
        open_text([path], TextSettings(), cache_folder=cache)


def test_a_process_that_is_killed_is_told(
    tmp_path: Path, small_segments: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.txt"
    path.write_text("some text " * 200_000)
    original = subprocess.Popen

    def killed(*args: object, **options: object) -> object:
        process = original(*args, **options)  # type: ignore[call-overload]
        process.kill()
        return process

    monkeypatch.setattr(subprocess, "Popen", killed)
    with pytest.raises(DataError, match=r"a process that was reading the text ended before its time"):
        open_text([path], TextSettings(), cache_folder=tmp_path / "cache")
    monkeypatch.undo()
    assert len(open_text([path], TextSettings(), cache_folder=tmp_path / "cache")) == 2_000_000


def test_a_second_program_waits_for_the_first(tmp_path: Path, small_segments: None) -> None:
    path, cache = tmp_path / "a.txt", tmp_path / "cache"
    path.write_text(mixed(100_000, 6), "utf-8", errors="replace")
    child = subprocess.Popen([sys.executable, "-c", CHILD, path, cache], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    child.stdout.readline()
    stages = []
    found = open_text([path], TextSettings(), cache_folder=cache, progress=lambda stage, _: stages.append(stage))
    assert child.wait() == 0
    child.stdout.close()
    assert set(stages) <= {"waiting for another program that encodes this text"}
    assert found.digest == open_text([path], TextSettings(), cache_folder=tmp_path / "other").digest


def resident(kind: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{kind}:"))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_what_was_read_of_a_mapped_text_does_not_stay_resident(tmp_path: Path) -> None:
    path = tmp_path / "codes"
    path.write_bytes(bytes(64 << 20))
    codes = np.memmap(path, np.uint8, mode="r")
    before = resident("RssFile")
    assert int(codes.sum()) == 0
    assert resident("RssFile") - before > 50 << 20
    let_go(codes[: len(codes) // 2])
    assert resident("RssFile") - before < 8 << 20
    assert int(codes[::4096].sum()) == 0
    let_go(np.zeros(3))  # not mapped: nothing happens


def test_segment_files_that_are_gone_are_named(tmp_path: Path) -> None:
    segment = segments.Segment(tmp_path / "gone.txt", 0, 10)
    with pytest.raises(DataError, match=r"gone.txt cannot be read: No such file"):
        list(read_segment(segment, TextSettings()))

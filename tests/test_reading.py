"""Reading: which files an input stands for, and that what is read does not depend on how it is cut, packed or encoded."""

import codecs
import gzip
import io
import os
import random
import unicodedata
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from elman.config import TextSettings
from elman.errors import DataError
from elman.text import normalizing, unpacking
from elman.text.normalizing import normalized
from elman.text.reading import find_sources, read_pieces, spool_standard_input

PLAIN = TextSettings()
BYTES = TextSettings(unit="byte")
FORMS = ["NFC", "NFD", "NFKC", "NFKD", "none"]
# What composes, reorders or expands in each of the ways there are.
HARD = (
    "ae\u0301\u0300\u0323\u0327\u0345\u0344\u0f71\u0f72\u0f73=\u0338<"
    "\u1100\u1161\u11a8\u11a7\uac00\uffc2\u3131ي\u0654\u200c\u200dس\u064b👩\U0001f3fd\u0915\u093c\u0958\u09c7\u09be"
    "\u0bc6\u0bbe\u212b\ufb01\u1e9b\u0323か\u3099ｶﾞ\U000110a5\U000110ba"
)


def read(*inputs: Path | str, settings: TextSettings = PLAIN) -> str:
    pieces = read_pieces(find_sources(inputs, settings), settings)
    return "".join(pieces)


def read_bytes(*inputs: Path | str) -> bytes:
    return b"".join(read_pieces(find_sources(inputs, BYTES), BYTES))


def names(*inputs: Path | str, settings: TextSettings = PLAIN) -> list[str]:
    return [source.path.name for source in find_sources(inputs, settings)]


def write(path: Path, contents: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(contents.encode() if isinstance(contents, str) else contents)
    return path


def cut(text: str, lengths: list[int]) -> list[str]:
    pieces = []
    for length in lengths:
        pieces.append(text[:length])
        text = text[length:]
    return [piece for piece in [*pieces, text] if piece]


@pytest.mark.parametrize("form", FORMS)
@settings(deadline=None)
@given(
    text=st.text(st.sampled_from(HARD)) | st.text(st.characters(exclude_categories=["Cs"])),
    lengths=st.lists(st.integers(1, 5)),
)
def test_normalizing_in_pieces_is_normalizing_the_whole(form: str, text: str, lengths: list[int]) -> None:
    whole = text if form == "none" else unicodedata.normalize(form, text)  # type: ignore[arg-type]
    assert "".join(normalized(cut(text, lengths), form)) == whole
    assert "".join(normalized(list(text), form)) == whole


@pytest.mark.parametrize("form", FORMS[:4])
def test_every_character_may_follow_every_hard_one_across_a_cut(form: str) -> None:
    followers = [chr(point) for point in range(0x30000) if unicodedata.decomposition(chr(point))]
    followers += [chr(point) for point in range(0x30000) if unicodedata.category(chr(point))[0] == "M"]
    followers += map(chr, range(0x1160, 0x1200))
    for before in "e\u1100\uac00\u0bc6\u09c7\u0f71か":
        for after in followers:
            whole = unicodedata.normalize(form, before + after)  # type: ignore[arg-type]
            assert "".join(normalized([before, after], form)) == whole, (before, after)


def test_what_decomposes_comes_together_again_across_cuts() -> None:
    for point in range(0x30000):
        parts = unicodedata.normalize("NFD", chr(point))
        if len(parts) > 1 and (point < 0xAC00 or point > 0xD7A3 or point % 7 == 0):
            assert "".join(normalized(list(parts), "NFC")) == unicodedata.normalize("NFC", parts), hex(point)


def test_little_is_held_back_of_a_text_without_ascii() -> None:
    persian = "سَلام‌دُنیا" * 1000
    consumed = 0
    given_out = 0

    def pieces() -> list[str]:
        return [persian[i : i + 50] for i in range(0, len(persian), 50)]

    for piece in normalized(pieces(), "NFC"):
        consumed += 50
        given_out += len(piece)
        assert consumed - given_out < 110


def test_endless_combining_marks_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(normalizing, "_HELD_AT_MOST", 100)
    with pytest.raises(
        DataError, match=r"the text has more than 100 combining characters in a row.*U\+0301.*--normal-form none"
    ):
        list(normalized(["\u0301" * 60] * 3, "NFC"))


def test_a_file_is_read_whatever_the_size_of_its_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "".join(random.Random(1).choices("aé\u0301سλ👩🏽\n\u1100\u1161", k=2000))
    path = write(tmp_path / "a.txt", text)
    for size in (1, 3, 7, 1000):
        monkeypatch.setattr(unpacking, "CHUNK", size)
        assert read(path) == unicodedata.normalize("NFC", text)


def test_files_are_joined_in_the_order_given_with_one_line_end_between(tmp_path: Path) -> None:
    first, second, third = (
        write(tmp_path / name, text) for name, text in [("b", "one"), ("a", "two\n"), ("c", "three")]
    )
    assert read(first, second, third) == "one\ntwo\nthree"
    assert read_bytes(first, second, third) == b"onetwo\nthree"
    assert names(first, tmp_path, first) == ["b", "a", "c"]


def test_an_accent_at_the_start_of_a_file_stays_off_the_file_before(tmp_path: Path) -> None:
    assert read(write(tmp_path / "a", "e"), write(tmp_path / "b", "\u0301x")) == "e\n\u0301x"


def test_a_folder_stands_for_the_visible_texts_below_it_sorted_by_path(tmp_path: Path) -> None:
    for name in ("b/2.txt", "b/1.txt", "a.txt", "b/.hidden", ".git/config"):
        write(tmp_path / name, "text\n")
    write(tmp_path / "picture.png", b"\x89PNG\r\n\x1a\n\0\0\0")
    write(tmp_path / "empty.txt", "")
    write(tmp_path / "c.txt.gz", gzip.compress(b"packed\n"))
    assert names(tmp_path) == ["a.txt", "1.txt", "2.txt", "c.txt.gz"]
    assert names(tmp_path, settings=BYTES) == ["a.txt", "1.txt", "2.txt", "c.txt.gz", "picture.png"]


def test_a_folder_without_text_says_why(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no text in it: it holds no visible file"):
        find_sources([tmp_path], PLAIN)
    write(tmp_path / "a.bin", b"\0\1\2")
    with pytest.raises(DataError, match="no text in it: its 1 files are empty or look binary"):
        find_sources([tmp_path], PLAIN)


def test_a_pattern_stands_for_the_files_it_matches(tmp_path: Path) -> None:
    for name in ("b.txt", "a.txt", "deep/c.txt", "a.md"):
        write(tmp_path / name, "text\n")
    assert names(f"{tmp_path}/*.txt") == ["a.txt", "b.txt"]
    assert names(f"{tmp_path}/**/*.txt") == ["a.txt", "b.txt", "c.txt"]
    with pytest.raises(DataError, match="matches no file"):
        names(f"{tmp_path}/*.rst")
    with pytest.raises(DataError, match="matches folders only"):
        names(f"{tmp_path}/d*")


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(tmp_path: Path) -> None:
    assert names(write(tmp_path / "a[1].txt", "x")) == ["a[1].txt"]


def test_the_name_of_a_corpus_is_the_corpus_and_not_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    corpus = write(tmp_path / "corpus.txt", "corpus")
    write(tmp_path / "shakespeare", "file")
    assert [s.path for s in find_sources(["shakespeare"], PLAIN, find_corpus=lambda name: corpus)] == [corpus]
    assert names("./shakespeare") == ["shakespeare"]


def test_standard_input_is_spooled_to_a_file_and_read_from_there(tmp_path: Path) -> None:
    spooled = spool_standard_input(tmp_path / "run" / "input.txt", io.BytesIO("né".encode()))
    sources = find_sources(["-"], PLAIN, standard_input=spooled)
    assert "".join(read_pieces(sources, PLAIN)) == "né"
    with pytest.raises(DataError, match="standard input is empty"):
        spool_standard_input(tmp_path / "none", io.BytesIO(b""))
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    with pytest.raises(DataError, match="there is none here"):
        find_sources(["-"], PLAIN)


def test_packed_files_are_unpacked(tmp_path: Path) -> None:
    text = "packed é\n" * 1000
    compress = zstandard.ZstdCompressor().compress
    half = len(text) // 2
    assert read(write(tmp_path / "a.gz", gzip.compress(text.encode()))) == text
    assert (
        read(write(tmp_path / "A.GZ", gzip.compress(text[:half].encode()) + gzip.compress(text[half:].encode())))
        == text
    )
    assert read(write(tmp_path / "a.zst", compress(text.encode()))) == text
    assert read(write(tmp_path / "b.zst", compress(text[:half].encode()) + compress(text[half:].encode()))) == text
    assert read_bytes(tmp_path / "a.zst") == text.encode()


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_a_damaged_packed_file_is_named(tmp_path: Path, suffix: str) -> None:
    text = random.Random(1).randbytes(3000).hex().encode()
    packed = gzip.compress(text) if suffix == ".gz" else zstandard.ZstdCompressor(write_checksum=True).compress(text)
    middle = len(packed) // 2
    flipped = packed[:middle] + bytes([packed[middle] ^ 64]) + packed[middle + 1 :]
    for kind, damaged in [("cut", packed[:-20]), ("no", text), ("flip", flipped), ("tail", packed + b"garbage")]:
        path = write(tmp_path / f"{kind}.txt{suffix}", damaged)
        with pytest.raises(DataError, match=f"{kind}.txt{suffix} is no whole .* file: .*again"):
            read(path)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "latin-1", "cp1252", "gb18030"])
def test_a_text_is_read_in_its_encoding(tmp_path: Path, encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacking, "CHUNK", 5)
    path = write(tmp_path / "a.txt", "naïve café\n".encode(encoding))
    assert read(path, settings=TextSettings(encoding=encoding)) == "naïve café\n"


def test_the_byte_order_mark_of_each_file_is_removed(tmp_path: Path) -> None:
    first = write(tmp_path / "a", codecs.BOM_UTF8 + b"one\n")
    second = write(tmp_path / "b", codecs.BOM_UTF8 + "t\ufeffwo".encode())
    assert read(first, second) == "one\nt\ufeffwo"
    assert read_bytes(first) == codecs.BOM_UTF8 + b"one\n"


@pytest.mark.parametrize("size", [1, 2, 4, 1 << 20])
def test_a_bad_byte_is_named_with_its_place_and_the_remedies(
    tmp_path: Path, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unpacking, "CHUNK", size)
    for contents, byte, offset, line in [
        (b"one\ntw\xc3\xa9\ncaf\xe9 x", 0xE9, 12, 3),
        (b"one\n\n\xe2\x82", 0xE2, 5, 3),
        (b"\xef\xbb\xbfa\n\xff", 0xFF, 5, 2),
    ]:
        path = write(tmp_path / "bad.txt", contents)
        with pytest.raises(
            DataError, match=f"bad.txt is not utf-8: byte 0x{byte:x} at offset {offset}, line {line} "
        ) as caught:
            read(path)
        for remedy in ("--errors replace", "--encoding latin-1", "--unit byte"):
            assert remedy in str(caught.value)


def test_bad_bytes_can_be_replaced_left_out_or_taken_as_they_are(tmp_path: Path) -> None:
    path = write(tmp_path / "bad.txt", b"caf\xe9 x")
    assert read(path, settings=TextSettings(errors="replace")) == "caf� x"
    assert read(path, settings=TextSettings(errors="ignore")) == "caf x"
    assert read(path, settings=TextSettings(encoding="latin-1")) == "café x"
    assert read_bytes(path) == b"caf\xe9 x"


@pytest.mark.parametrize("encoding", ["utf-99", "hex", "rot13", "a\0b"])
def test_an_unknown_encoding_is_refused(tmp_path: Path, encoding: str) -> None:
    path = write(tmp_path / "a.txt", "text")
    with pytest.raises(DataError, match=r"encoding .* is not known: use utf-8"):
        find_sources([path], TextSettings(encoding=encoding))


def test_a_binary_file_is_refused_unless_read_as_bytes(tmp_path: Path) -> None:
    for contents in (b"PK\3\4\0\0", bytes(range(1, 32)) * 10):
        path = write(tmp_path / "a.bin", contents)
        with pytest.raises(DataError, match=r"a.bin looks binary, not like text: .*--unit byte"):
            read(path)
        assert read_bytes(path) == contents


def test_utf_16_is_recognized_by_its_mark(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="--encoding utf-16"):
        read(write(tmp_path / "a.txt", "text".encode("utf-16")))
    with pytest.raises(DataError, match=r"is not utf-16: .*BOM"):
        read(write(tmp_path / "b.txt", b"plain text"), settings=TextSettings(encoding="utf-16"))


def test_a_missing_file_is_named_with_what_is_near(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "notes.txt", "x")
    (tmp_path / "link").symlink_to("nowhere")
    for name, expected in [
        ("note.txt", "no file or folder 'note.txt'.*did you mean 'notes.txt'"),
        ("shakespear", "did you mean 'shakespeare'"),
        ("qqqq", r"and no corpus \(python-docs, "),
        ("no/such.txt", "there is no folder no"),
        (f"{tmp_path}/nots.txt", f"in {tmp_path}: did you mean 'notes.txt'"),
        ("a\0b", "no file or folder"),
        ("", "an input is an empty name"),
        ("link", "link is a link to nowhere, which does not exist"),
    ]:
        with pytest.raises(DataError, match=expected):
            find_sources([name], PLAIN)


def test_a_file_that_is_none_or_empty_is_refused(tmp_path: Path) -> None:
    empty = write(tmp_path / "empty.txt", "")
    with pytest.raises(DataError, match=r"empty.txt is empty"):
        find_sources([empty], PLAIN)
    with pytest.raises(DataError, match="no input: name a file"):
        find_sources([], PLAIN)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match=r"cannot be read twice: pipe it into standard input"):
        find_sources([tmp_path / "pipe"], PLAIN)
    write(tmp_path / "file", "x")
    with pytest.raises(DataError, match="no file or folder 'below'"):
        find_sources([tmp_path / "file" / "below"], PLAIN)


def test_a_file_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "secret.txt", "x")
    sources = find_sources([path], PLAIN)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    # The tests may run as root, whom no permission stops.
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(DataError, match=r"secret.txt may not be read: permission denied"):
        "".join(read_pieces(sources, PLAIN))
    monkeypatch.setattr(Path, "stat", refuse)
    with pytest.raises(DataError, match=r"secret.txt may not be read: permission denied"):
        find_sources([path], PLAIN)


def test_a_file_that_has_gone_or_fails_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", "x")
    sources = find_sources([path], PLAIN)
    path.unlink()
    with pytest.raises(DataError, match=r"a.txt cannot be read: No such file"):
        list(read_pieces(sources, PLAIN))


def test_progress_ends_with_the_size_of_all_files(tmp_path: Path) -> None:
    paths = [write(tmp_path / "a", "x" * 10), write(tmp_path / "b.gz", gzip.compress(b"y" * 1000))]
    sources = find_sources(paths, PLAIN)
    reported: list[int] = []
    for chosen in (PLAIN, BYTES):
        reported.clear()
        list(read_pieces(sources, chosen, report=reported.append))
        assert reported == sorted(reported)
        assert reported[-1] == sum(source.size for source in sources)

"""Encoded text: two streaming passes into a cache file that is reused, rebuilt when damaged, and never half written."""

import dataclasses
import errno
import os
import random
import subprocess
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from elman.config import TextSettings
from elman.errors import DataError
from elman.text import encoded as encoded_module
from elman.text.encoded import EncodedText, open_text, split
from elman.text.vocabulary import Vocabulary

DATA = Path(__file__).parents[1].parent / "shared" / "data"
PLAIN = TextSettings()


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def write(path: Path, contents: str | bytes) -> Path:
    path.write_bytes(contents.encode() if isinstance(contents, str) else contents)
    return path


def passes(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """A list that grows by one with each pass over the sources."""
    made: list[object] = []
    original = encoded_module.read_pieces

    def counted(*args: object, **options: object) -> object:
        made.append(args)
        return original(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(encoded_module, "read_pieces", counted)
    return made


def test_decoding_gives_the_text_back(tmp_path: Path, cache: Path) -> None:
    text = "سلام‌دنیا e\u0301 👩‍👩‍👧 ascii\n" * 50
    encoded = open_text([write(tmp_path / "a.txt", text)], PLAIN, cache_folder=cache)
    assert encoded.vocabulary.decode(encoded.codes) == unicodedata.normalize("NFC", text)
    assert encoded.vocabulary == Vocabulary.from_text(text)
    assert encoded.sources == (str(tmp_path / "a.txt"),)
    assert len(encoded) == len(encoded.codes)


def test_bytes_come_back_as_they_were(tmp_path: Path, cache: Path) -> None:
    contents = random.Random(0).randbytes(5000)
    encoded = open_text([write(tmp_path / "a.bin", contents)], TextSettings(unit="byte"), cache_folder=cache)
    assert bytes(np.array(encoded.vocabulary.values, np.uint8)[encoded.codes]) == contents
    assert encoded.vocabulary.unit == "byte"
    assert encoded.codes.dtype == np.uint8


def test_codes_are_a_read_only_map_of_the_smallest_type(tmp_path: Path, cache: Path) -> None:
    many = "".join(map(chr, range(0x4E00, 0x4E00 + 300)))
    encoded = open_text([write(tmp_path / "a.txt", many)], PLAIN, cache_folder=cache)
    assert isinstance(encoded.codes, np.memmap)
    assert encoded.codes.dtype == np.uint16
    assert encoded.codes.tolist() == list(range(300))
    with pytest.raises(ValueError, match="read-only"):
        encoded.codes[0] = 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        encoded.digest = ""  # type: ignore[misc]


def test_one_text_is_not_affected_by_the_name_or_the_packing_of_its_file(tmp_path: Path, cache: Path) -> None:
    import gzip

    texts = [
        write(tmp_path / "a.txt", "one text"),
        write(tmp_path / "b.txt.gz", gzip.compress(b"one text")),
        write(tmp_path / "c.txt", "one texT"),
    ]
    same, packed, other = (open_text([path], PLAIN, cache_folder=cache).digest for path in texts)
    assert same == packed != other
    assert len(same) == 64


def test_an_unchanged_text_is_read_from_the_cache(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.txt", "some text")
    first = open_text([path], PLAIN, cache_folder=cache)
    made = passes(monkeypatch)
    again = open_text([path], PLAIN, cache_folder=cache)
    assert made == []
    assert again.digest == first.digest
    assert again.vocabulary == first.vocabulary
    assert np.array_equal(again.codes, first.codes)
    assert sorted(file.suffix for file in cache.iterdir()) == [".codes", ".json"]


def test_what_does_not_shape_the_text_does_not_encode_it_again(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "a.txt", "some text")
    open_text([path], PLAIN, cache_folder=cache)
    made = passes(monkeypatch)
    open_text([path], TextSettings(validation=0.5, sample_length=7), cache_folder=cache)
    assert made == []
    for settings in (TextSettings(unit="byte"), TextSettings(normal_form="NFD"), TextSettings(encoding="latin-1")):
        made.clear()
        open_text([path], settings, cache_folder=cache)
        assert len(made) == 2


def test_an_edited_text_is_encoded_again_in_place_of_the_old(tmp_path: Path, cache: Path) -> None:
    path = write(tmp_path / "a.txt", "some text")
    open_text([path], PLAIN, cache_folder=cache)
    write(path, "other words")
    encoded = open_text([path], PLAIN, cache_folder=cache)
    assert encoded.vocabulary.decode(encoded.codes) == "other words"
    assert len(list(cache.iterdir())) == 2


@pytest.mark.parametrize("damage", ["short", "flipped", "gone", "no facts", "wrong facts", "deep facts", "odd facts"])
def test_a_damaged_entry_is_made_again(tmp_path: Path, cache: Path, damage: str) -> None:
    path = write(tmp_path / "a.txt", "some text")
    first = open_text([path], PLAIN, cache_folder=cache)
    expected = first.codes.tolist()
    codes, facts = next(cache.glob("*.codes")), next(cache.glob("*.json"))
    match damage:
        case "short":
            codes.write_bytes(codes.read_bytes()[:-1])
        case "flipped":
            codes.write_bytes(codes.read_bytes()[:-1] + b"\0")
        case "gone":
            codes.unlink()
        case "no facts":
            facts.write_bytes(b"")
        case "wrong facts":
            facts.write_text(facts.read_text().replace('"length": 9', '"length": "9"'))
        case "deep facts":
            facts.write_text("[" * 100_000)
        case "odd facts":
            facts.write_text(facts.read_text().replace("NFC", "NFX"))
    again = open_text([path], PLAIN, cache_folder=cache)
    assert again.codes.tolist() == expected
    assert again.digest == first.digest


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        ("", "a.txt is empty"),
        ("\ufeff", "a.txt is empty"),
        ("a", "a.txt holds one character only: there is nothing to predict"),
        ("aaaa", r"a.txt has only one distinct symbol, 'a' U\+0061: there is nothing to learn"),
        ("\n\n\n", r"only one distinct symbol, '\\n' U\+000A"),
    ],
)
def test_a_text_with_nothing_to_learn_is_refused(tmp_path: Path, cache: Path, contents: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        open_text([write(tmp_path / "a.txt", contents)], PLAIN, cache_folder=cache)
    assert not cache.exists()


def test_one_byte_or_one_kind_of_byte_is_refused(tmp_path: Path, cache: Path) -> None:
    for contents, message in [(b"\0", "holds one byte only"), (b"\0\0", "one distinct symbol, byte 0x00")]:
        with pytest.raises(DataError, match=message):
            open_text([write(tmp_path / "a", contents)], TextSettings(unit="byte"), cache_folder=cache)


def test_lone_surrogates_are_refused(tmp_path: Path, cache: Path) -> None:
    path = write(tmp_path / "a.txt", r"a\ud800b")
    with pytest.raises(DataError, match=r"lone surrogates.*U\+D800.*--encoding"):
        open_text([path], TextSettings(encoding="raw_unicode_escape"), cache_folder=cache)


@pytest.mark.parametrize("moment", [1, 2])
@pytest.mark.parametrize("change", ["new symbol", "longer", "gone", "touched"])
def test_a_source_that_changes_while_it_is_read_is_refused(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, moment: int, change: str
) -> None:
    path = write(tmp_path / "a.txt", "some text")
    original = encoded_module.read_pieces
    count = 0

    def changing(*args: object, **options: object) -> object:
        nonlocal count
        count += 1
        if count == moment:
            match change:
                case "new symbol":
                    path.write_text("some t3xt")
                    os.utime(path, ns=(0, 0))
                case "longer":
                    path.write_text("some text text")
                case "touched":
                    os.utime(path, ns=(0, 0))
                case "gone":
                    path.unlink()
        return original(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(encoded_module, "read_pieces", changing)
    message = "a.txt cannot be read" if change == "gone" else r"a.txt changed while it was being read: wait"
    with pytest.raises(DataError, match=message):
        open_text([path], PLAIN, cache_folder=cache)
    assert not cache.exists() or not list(cache.iterdir())


def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.txt", "some text")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DataError, match=r"cannot write .*codes: No space left on device; free some space"):
        open_text([path], PLAIN, cache_folder=cache)
    assert list(cache.iterdir()) == []


def test_a_cache_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", "some text")
    with pytest.raises(DataError, match=r"cannot write .*a.txt/.*: (Not a directory|File exists)"):
        open_text([path], PLAIN, cache_folder=path)


def test_progress_goes_from_reading_to_encoding(tmp_path: Path, cache: Path) -> None:
    path = write(tmp_path / "a.txt", "some text" * 200_000)
    told: list[tuple[str, float]] = []
    open_text([path], PLAIN, cache_folder=cache, progress=lambda *what: told.append(what))
    assert [stage for stage, _ in told] == ["reading"] * 2 + ["encoding"] * 2
    assert told[1][1] == told[3][1] == 1.0


def test_standard_input_is_the_file_it_was_spooled_to(tmp_path: Path, cache: Path) -> None:
    spooled = write(tmp_path / "input.txt", "piped text")
    encoded = open_text(["-"], PLAIN, cache_folder=cache, standard_input=spooled)
    assert encoded.vocabulary.decode(encoded.codes) == "piped text"


def test_a_single_name_is_not_taken_for_a_list_of_letters(tmp_path: Path, cache: Path) -> None:
    encoded = open_text(str(write(tmp_path / "a.txt", "some text")), PLAIN, cache_folder=cache)
    assert len(encoded) == 9


def test_the_documentation_of_python_opens_without_a_network(cache: Path) -> None:
    encoded = open_text(["python-docs"], PLAIN, cache_folder=cache)
    assert len(encoded) > 300_000
    assert len(encoded.vocabulary) < 300


@pytest.mark.skipif(not DATA.is_dir(), reason="the shared data folder is not here")
def test_shakespeare_has_the_published_sizes(cache: Path) -> None:
    encoded = open_text(["shakespeare"], PLAIN, data_folder=DATA, cache_folder=cache)
    train, held_out = split(encoded, 0.1)
    assert (len(encoded), len(encoded.vocabulary)) == (1_115_394, 65)
    assert (len(train), len(held_out)) == (1_003_854, 111_540)
    assert encoded.vocabulary.decode(train[:14]) == "First Citizen:"


@pytest.mark.skipif(not DATA.is_dir(), reason="the shared data folder is not here")
def test_war_and_peace_has_the_published_sizes(cache: Path) -> None:
    encoded = open_text(["war-and-peace"], PLAIN, data_folder=DATA, cache_folder=cache)
    assert (len(encoded), len(encoded.vocabulary)) == (3_196_211, 82)


@pytest.mark.parametrize(
    ("length", "share", "trained_on"), [(10, 0.1, 9), (10, 0.9, 1), (10, 0.0, 10), (1000, 0.3, 700), (3, 0.5, 1)]
)
def test_the_split_is_by_position_and_exact(length: int, share: float, trained_on: int) -> None:
    codes = np.arange(length, dtype=np.uint16)
    train, held_out = split(EncodedText(codes, Vocabulary.from_text("ab"), "", ()), share)
    assert train.tolist() == list(range(trained_on))
    assert held_out.tolist() == list(range(trained_on, length))


@pytest.mark.parametrize("share", [-0.1, 1.0, float("nan")])
def test_an_impossible_share_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="validation_share"):
        split(EncodedText(np.arange(3), Vocabulary.from_text("ab"), "", ()), share)


def test_memory_does_not_grow_with_the_text(tmp_path: Path, cache: Path) -> None:
    script = """
import resource, sys
from pathlib import Path
from elman.config import TextSettings
from elman.text.encoded import open_text
peaks = []
for name in sys.argv[2:]:
    encoded = open_text([name], TextSettings(), cache_folder=Path(sys.argv[1]))
    del encoded
    peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
assert "jax" not in sys.modules
print(peaks[1] - peaks[0])
"""
    small = write(tmp_path / "small.txt", "سلام دنیا\n" * 200_000)
    large = write(tmp_path / "large.txt", "سلام دنیا\n" * 2_000_000)
    grown = subprocess.run(
        [sys.executable, "-c", script, cache, small, large], check=True, capture_output=True, text=True
    ).stdout
    assert int(grown) < 16_000, "kilobytes, for 34 megabytes more of text"

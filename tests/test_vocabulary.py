"""The vocabulary: codes, round trips, unknown symbols, and what it refuses to be made from."""

import json
import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elman.errors import BundleError, DataError
from elman.text.vocabulary import Vocabulary

TRICKY = "سلام‌دنیا \u200d👩‍👩‍👧 é e\u0323\u0301 ᄒ\u1161\u11ab\u0000\u00ad\U0010ffff"
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


def test_codes_follow_the_order_of_code_points() -> None:
    vocabulary = Vocabulary.from_text("hello, é")
    assert vocabulary.symbols == (" ", ",", "e", "h", "l", "o", "é")
    assert vocabulary.size == len(vocabulary) == 7
    assert vocabulary.encode("hé ").tolist() == [3, 6, 0]


def test_a_byte_vocabulary_holds_the_bytes_that_occur() -> None:
    vocabulary = Vocabulary.from_text("né", unit="byte")
    assert vocabulary.symbols == (b"n", b"\xa9", b"\xc3")
    assert vocabulary.normal_form == "none"
    assert vocabulary.encode("é").tolist() == [2, 1]


@pytest.mark.parametrize(
    ("size", "expected"), [(2, np.uint8), (255, np.uint8), (256, np.uint8), (257, np.uint16), (70_000, np.uint32)]
)
def test_the_type_is_the_smallest_that_holds_every_code(size: int, expected: type) -> None:
    values = [value for value in range(size + 3000) if not 0xD800 <= value < 0xE000][:size]
    vocabulary = Vocabulary("character", tuple(values), "none")
    codes = vocabulary.encode("".join(map(chr, values)))
    assert codes.dtype == expected
    assert codes.tolist() == list(range(size))


def test_all_256_bytes_have_codes_of_one_byte() -> None:
    vocabulary = Vocabulary("byte", tuple(range(256)), "none")
    assert vocabulary.encode("ÿ").dtype == np.uint8
    assert vocabulary.encode("ÿ").tolist() == [0xC3, 0xBF]


@settings(deadline=None)
@given(TEXTS, st.sampled_from(["NFC", "NFD", "NFKC", "NFKD"]))
def test_decoding_an_encoded_text_gives_its_normal_form(text: str, form: str) -> None:
    vocabulary = Vocabulary.from_text(text, normal_form=form)
    assert vocabulary.decode(vocabulary.encode(text)) == unicodedata.normalize(form, text)


@settings(deadline=None)
@given(TEXTS)
def test_a_text_that_is_not_normalized_comes_back_as_it_was(text: str) -> None:
    for vocabulary in (Vocabulary.from_text(text, normal_form="none"), Vocabulary.from_text(text, unit="byte")):
        assert vocabulary.decode(vocabulary.encode(text)) == text


@settings(deadline=None)
@given(TEXTS, st.sampled_from(["character", "byte"]))
def test_the_streaming_decoder_agrees_with_decode(text: str, unit: str) -> None:
    vocabulary = Vocabulary.from_text(text, unit=unit)
    decoder = vocabulary.decoder()
    codes = vocabulary.encode(text)[1:]
    streamed = [decoder.feed(int(code)) for code in codes]
    assert "".join([*streamed, decoder.finish()]) == vocabulary.decode(codes)


def test_the_streaming_decoder_waits_for_a_whole_character() -> None:
    vocabulary = Vocabulary.from_text("a€", unit="byte")
    decoder = vocabulary.decoder()
    assert [decoder.feed(int(code)) for code in vocabulary.encode("€a")] == ["", "", "€", "a"]
    decoder.feed(int(vocabulary.encode("€")[0]))
    assert decoder.finish() == "�"
    assert decoder.finish() == ""


@pytest.mark.parametrize("unit", ["character", "byte"])
def test_a_vocabulary_survives_json(unit: str) -> None:
    vocabulary = Vocabulary.from_text(TRICKY, unit=unit)
    restored = Vocabulary.from_dict(json.loads(json.dumps(vocabulary.to_dict())))
    assert restored == vocabulary
    assert restored.decode(restored.encode(TRICKY)) == vocabulary.decode(vocabulary.encode(TRICKY))


def test_text_to_encode_is_normalized_as_the_training_text_was() -> None:
    assert Vocabulary.from_text("café").encode("e\u0301").tolist() == [3]
    assert Vocabulary.from_text("café", normal_form="NFD").encode("é").tolist() == [2, 4]
    assert Vocabulary.from_text("café", normal_form="none").unknown("e\u0301") == ("e", "\u0301")


def test_unknown_symbols_are_named_with_code_point_and_remedy() -> None:
    vocabulary = Vocabulary.from_text("abc")
    assert vocabulary.unknown("x€a€\u200d") == ("x", "€", "\u200d")
    with pytest.raises(DataError, match=r"'x' U\+0078, '€' U\+20AC, '\\u200d' U\+200D; .*--unknown skip"):
        vocabulary.encode("x€a€\u200d")
    assert vocabulary.decode(vocabulary.encode("x€a€\u200dc", unknown="skip")) == "ac"


def test_many_unknown_symbols_are_counted() -> None:
    with pytest.raises(DataError, match="'k' U\\+006B and 14 more;"):
        Vocabulary.from_text("a").encode("bcdefghijklmnopqrstuvwxy")


def test_symbols_above_the_highest_known_one_are_unknown() -> None:
    vocabulary = Vocabulary.from_text("ab")
    assert vocabulary.encode("c\U0010ffffa", unknown="skip").tolist() == [0]
    assert Vocabulary("byte", (97,), "none").unknown("aé") == (b"\xc3", b"\xa9")


def test_lone_surrogates_are_unknown_and_never_learned() -> None:
    assert Vocabulary.from_text("ab").unknown("a\udc80") == ("\udc80",)
    with pytest.raises(DataError, match=r"'\\udc80' U\+DC80"):
        Vocabulary.from_text("ab").encode("\udc80")
    with pytest.raises(DataError, match="lone surrogates"):
        Vocabulary.from_text("a\udc80")
    assert Vocabulary("byte", (0x80,), "none").encode("\udc80").tolist() == [0]
    with pytest.raises(DataError, match=r"U\+D800 is a lone surrogate"):
        Vocabulary.from_text("ab", unit="byte").encode("\ud800")


def test_empty_text_has_no_codes_and_makes_no_vocabulary() -> None:
    vocabulary = Vocabulary.from_text("ab")
    assert vocabulary.encode("").tolist() == []
    assert vocabulary.decode([]) == ""
    for unit in ("character", "byte"):
        with pytest.raises(DataError, match="empty"):
            Vocabulary.from_text("", unit=unit)


@pytest.mark.parametrize("code", [-1, 2])
def test_a_code_that_does_not_exist_is_named(code: int) -> None:
    vocabulary = Vocabulary.from_text("ab")
    with pytest.raises(DataError, match=f"code {code} is not in a vocabulary of 2 symbols"):
        vocabulary.decode([0, code])
    with pytest.raises(DataError, match=f"code {code} "):
        vocabulary.decoder().feed(code)


@pytest.mark.parametrize(
    "plain",
    [
        None,
        [],
        "ab",
        {},
        {"unit": "character", "normal_form": "NFC"},
        {"unit": "character", "normal_form": "NFC", "values": [97], "more": 1},
        {"unit": "word", "normal_form": "NFC", "values": [97]},
        {"unit": ["character"], "normal_form": "NFC", "values": [97]},
        {"unit": "character", "normal_form": "NFX", "values": [97]},
        {"unit": "character", "normal_form": None, "values": [97]},
        {"unit": "byte", "normal_form": "NFC", "values": [97]},
        {"unit": "character", "normal_form": "NFC", "values": []},
        {"unit": "character", "normal_form": "NFC", "values": "abc"},
        {"unit": "character", "normal_form": "NFC", "values": {"0": 97}},
        {"unit": "character", "normal_form": "NFC", "values": [98, 97]},
        {"unit": "character", "normal_form": "NFC", "values": [97, 97]},
        {"unit": "character", "normal_form": "NFC", "values": [-1]},
        {"unit": "character", "normal_form": "NFC", "values": [True]},
        {"unit": "character", "normal_form": "NFC", "values": [97.0]},
        {"unit": "character", "normal_form": "NFC", "values": [0xD800]},
        {"unit": "character", "normal_form": "NFC", "values": [0x110000]},
        {"unit": "byte", "normal_form": "none", "values": [256]},
        {"unit": "byte", "normal_form": "none", "values": list(range(300))},
    ],
)
def test_what_is_no_vocabulary_is_refused(plain: object) -> None:
    with pytest.raises(BundleError, match="vocabulary"):
        Vocabulary.from_dict(plain)


def test_encoding_and_decoding_change_nothing_they_are_given() -> None:
    vocabulary = Vocabulary.from_text("hello")
    codes = vocabulary.encode("hello")
    before = codes.copy()
    vocabulary.decode(codes)
    plain = vocabulary.to_dict()
    Vocabulary.from_dict(plain)
    assert np.array_equal(codes, before)
    assert plain == vocabulary.to_dict()

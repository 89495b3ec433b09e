"""Features of texts and series are what their descriptions say, character by character."""

import numpy as np
import pytest

from elman.insight.features import Feature, series_features, text_features
from elman.series.durations import Duration
from elman.series.panel import Panel

HOUR = 3_600_000_000


def marks(name: str, text: str) -> str:
    """A feature of small whole numbers as a string of digits, one for each character."""
    return "".join(str(int(value)) for value in text_features(text)[name].values)


@pytest.mark.parametrize(
    ("text", "inside"),
    [
        ('a "b" c', "0011000"),
        ("“a” b", "11000"),
        ("«a» b „c“ d", "11000011000"),
        ("don't 'x'", "000000000"),
        ('"two\nlines" x', "11111111110" + "00"),
        ('"open\n\n"x" y', "11111" + "00" + "11000"),  # one that is not closed ends at a blank line
        ('"open\n \t\nnew', "11111" + "0" * 7),
        ('"to the end', "1" * 11),
        ('"one “two" x', "111111111" + "000"),
    ],
)
def test_quotes(text: str, inside: str) -> None:
    assert marks("quotes", text) == inside


@pytest.mark.parametrize(
    ("text", "depth"),
    [
        ("f(a[1])x", "01122100"),
        ("a) b(c", "000000"),
        ("([)]", "1100"),
        (":( and (x)", "0000000110"),
        ("{\n\n}", "1110"),
    ],
)
def test_brackets(text: str, depth: str) -> None:
    assert marks("brackets", text) == depth


def test_lines_indentation_and_words() -> None:
    assert marks("line", "ab\nc\n\nd") == "0120100"
    assert marks("indentation", "a\n  b c\n\td") == "0" + "0" + "12222" + "0" + "88"
    assert marks("word", "don’t do it_2!") == "12345012012340"
    assert marks("word-start", "don’t do it_2!") == "10000010010000"
    assert marks("upper-case", "aBÉ1") == "0110"
    assert marks("letter", "aBس1 ") == "11100"
    assert marks("digit", "a1۲²") == "0110"
    assert marks("space", "a \n\t") == "0111"


def test_every_feature_has_a_value_for_every_character() -> None:
    for text in ("", "x", '"(\n\n', "\n\n\n", "سلام «دنیا»"):
        for feature in text_features(text).values():
            assert feature.values.shape == (len(text),), feature.name
            assert np.isfinite(feature.values).all()


def hourly(rows: int) -> Panel:
    values = np.arange(rows, dtype=np.float32)[:, None]
    values[5] = np.nan
    return Panel(
        columns=("y",),
        values=values,
        times=np.arange(rows, dtype=np.int64) * HOUR,
        offsets=np.asarray([0, rows], np.int64),
        step=Duration.parse("1h"),
    )


def test_series_features() -> None:
    panel = hourly(24 * 40)
    rows = np.arange(10, 24 * 40)
    found = series_features(panel, rows, "y")
    turns = 2 * np.pi * (rows % 24) / 24
    np.testing.assert_allclose(found["hour"].values, np.stack([np.sin(turns), np.cos(turns)], axis=1), atol=1e-6)
    assert "year" not in found  # forty days say nothing of it
    np.testing.assert_array_equal(found["level"].values, rows)
    np.testing.assert_array_equal(found["change"].values[1:], 1)
    np.testing.assert_array_equal(found["lag-24"].values[24:], rows[:-24])
    window = len(rows) // 10
    expected = [np.mean(rows[max(0, i + 1 - window) : i + 1]) for i in range(len(rows))]
    np.testing.assert_allclose(found["trend"].values, expected)


def test_a_missing_target_is_the_last_one_seen() -> None:
    panel = hourly(200)
    level = series_features(panel, np.arange(3, 9), "y")["level"].values
    assert level.tolist() == [3, 4, 4, 6, 7, 8]
    assert series_features(panel, np.arange(5, 9), "y")["level"].values.tolist() == [6, 6, 7, 8]


def test_decoys_keep_the_values_and_lose_the_place() -> None:
    feature = Feature("f", "", np.arange(100.0))
    decoys = list(feature.decoys())
    assert len(decoys) == 9
    for decoy in decoys:
        assert sorted(decoy[:, 0]) == sorted(feature.values)
        assert not np.array_equal(decoy[:, 0], feature.values)
    circle = Feature("c", "", np.stack([np.sin(np.arange(600) / 4), np.cos(np.arange(600) / 4)], axis=1))
    for decoy in circle.decoys():
        np.testing.assert_allclose(np.linalg.norm(decoy, axis=1), 1)
        # No mixture of sine and cosine of the one circle is a circle of another length.
        weights = np.linalg.lstsq(circle.values, decoy, rcond=None)[0]
        assert np.linalg.norm(circle.values @ weights) < 0.35 * np.linalg.norm(decoy)

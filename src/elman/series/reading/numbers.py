"""Numbers that are written as text: decimal commas, words for "missing", and values that are no numbers at all."""

import re
from collections.abc import Callable
from dataclasses import dataclass

import polars as pl

from elman.errors import DataError

MISSING_WORDS = frozenset(
    ("", "na", "n/a", "#n/a", "#na", "nan", "-nan", "null", "none", "nil", "missing", "-", "--", "---", ".", "?", "nd", "n.d.")
)  # fmt: skip
"""What stands for a missing number, in small letters."""

# A word is taken for a missing number when at least this share of a column are numbers, and the word holds no digit: "error",
# "Bad". A value with a digit in it, "<0.1" or "1,234.5", may be a measurement: it is never left out in silence.
_NUMERIC_SHARE = 0.9
_POINT = r"^[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?$"
_COMMA = r"^[+-]?(?:\d+,?\d*|,\d+)(?:[eE][+-]?\d+)?$"
_INFINITE = r"^[+-]?inf(?:inity)?$"


@dataclass(frozen=True, eq=False)
class Numbers:
    """A column of text as numbers: `values` in Float64 (None: the column is text), and what was found out on the way."""

    values: pl.Series | None
    notes: tuple[str, ...]
    first_bad: int | None
    comma: bool = False


def is_number(text: str, decimal: str = "auto") -> bool:
    """Whether a single value reads as a number, with the decimal sign "point", "comma" or either ("auto").

    >>> [is_number("3.14"), is_number("3,14"), is_number("3,14", "point"), is_number("1.000,5"), is_number("n/a")]
    [True, True, False, False, False]
    """
    stripped = text.strip()
    patterns = {"point": (_POINT,), "comma": (_COMMA,), "auto": (_POINT, _COMMA)}[decimal]
    return any(re.match(pattern, stripped) for pattern in patterns) or bool(re.match(_INFINITE, stripped.lower()))


def as_numbers(column: pl.Series, decimal: str, place: Callable[[int], str]) -> Numbers:
    """Read a column of text as numbers; it stays text where it holds other things.

    decimal: "point", "comma", or "auto": the column has commas when it holds values like "3,14" and none like "3.14"; a column with
    none but "1,234" is not guessed and stays text.
    place: where a row is, for notes.
    """
    distinct = column.drop_nulls().unique(maintain_order=True).to_frame("raw")
    distinct = distinct.with_columns(pl.col("raw").str.strip_chars().alias("text"))
    distinct = distinct.with_columns(pl.col("text").str.to_lowercase().alias("small"))
    text = distinct["text"]
    comma = decimal == "comma" or (decimal == "auto" and _writes_commas(text))
    number = text.str.contains(_COMMA if comma else _POINT)
    infinite = distinct["small"].str.contains(_INFINITE)
    empty = distinct["small"].is_in(list(MISSING_WORDS))
    booleans = distinct["small"].is_in(["true", "false"])
    if len(distinct) and (booleans | empty).all() and booleans.any():
        values = distinct["small"].replace_strict({"true": 1.0, "false": 0.0}, default=None, return_dtype=pl.Float64)
        return Numbers(_spread(column, distinct["raw"], values), (), None)
    plain = text.str.replace(",", ".", literal=True) if comma else text
    values = plain.str.strip_prefix("+").cast(pl.Float64, strict=False).set(~(number | infinite), None)
    foreign = ~(number | infinite | empty)
    if foreign.any():
        words = foreign & ~text.str.contains(r"\d")
        bad = column.is_in(distinct["raw"].filter(foreign).implode())
        share = 1 - bad.sum() / max(1, len(column) - column.null_count())
        if share < _NUMERIC_SHARE or not words.equals(foreign):
            row = int(bad.arg_max() or 0)
            told = (_text_note(column, bad, row, place),) if share > 0.5 else ()
            return Numbers(None, told, row, comma)
    written = distinct["raw"].filter((foreign | empty) & (text != ""))
    notes = _missing_notes(column, written, place)
    if comma and (shown := text.filter(text.str.contains(",", literal=True))).len():
        notes += (f"{column.name!r} has decimal commas: {shown[0]!r} is {values.filter(text == shown[0])[0]:g}",)
    return Numbers(_spread(column, distinct["raw"], values), notes, None, comma)


def refuse_text(column: pl.Series, row: int, role: str, place: Callable[[int], str]) -> DataError:
    """The error for a column that has to be numbers and is not; `role` says why: "the target"."""
    return DataError(
        f"{role} {column.name!r} is text: {column[row]!r} at {place(row)} is no number; correct the value, "
        f"write it in plain digits without thousands separators (--decimal comma for 3,14), or choose another column"
    )


def _writes_commas(text: pl.Series) -> bool:
    commas = text.str.contains(r"^[+-]?\d*,\d+(?:[eE][+-]?\d+)?$")
    # "1,234" may be a thousand and more: one value that cannot be, "0,5" or "12,34", says that commas are decimal.
    thousands = text.str.contains(r"^[+-]?[1-9]\d{0,2},\d{3}$")
    return bool((commas & ~thousands).any() and not text.str.contains(r"^[+-]?\d*\.\d+").any())


def _spread(column: pl.Series, raw: pl.Series, values: pl.Series) -> pl.Series:
    """The value of each row, from the values of the distinct texts."""
    table = pl.DataFrame({"raw": raw, "value": values})
    joined = column.to_frame("raw").join(table, on="raw", how="left", maintain_order="left")
    return joined["value"].alias(column.name)


def _missing_notes(column: pl.Series, written: pl.Series, place: Callable[[int], str]) -> tuple[str, ...]:
    if not len(written):
        return ()
    rows = column.is_in(written.implode())
    first = int(rows.arg_max() or 0)
    count = int(rows.sum())
    return (f"{column.name!r}: {count:,} values such as {column[first]!r} count as missing (first at {place(first)})",)


def _text_note(column: pl.Series, bad: pl.Series, row: int, place: Callable[[int], str]) -> str:
    return f"{column.name!r} is taken as text: {int(bad.sum()):,} values are no numbers (first {column[row]!r} at {place(row)})"

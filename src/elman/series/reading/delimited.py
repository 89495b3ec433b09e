"""Tables that are text: the separator, the encoding and the header are found out, and every row must have the header's width.

The columns are read as numbers where a sample of their values are numbers written with a point; where that fails on the way, the
column is read again as text, and `numbers.py` decides. So a plain file costs one pass and no text in memory.
"""

import codecs
import csv
import io
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import polars as pl
from polars.exceptions import ComputeError, PanicException, PolarsError

from elman.errors import DataError
from elman.series.reading.files import TableFile, contents, is_packed, start
from elman.series.reading.numbers import MISSING_WORDS, is_number

_HEAD = 1 << 18
_SAMPLE_ROWS = 1000
_CHUNK = 1 << 22
# In the order of preference where two would do: a comma may stand in a decimal number.
_SEPARATORS = ("\t", ";", ",", "|")
_RETRIES = 8
# Above this many values, 400 MB of Float64, numbers are kept in Float32: what they become in the network anyway.
MANY_VALUES = 50_000_000


@dataclass(frozen=True, eq=False)
class Delimited:
    """A text file's columns: Float32 or Float64 where they are plain numbers, else String as written."""

    frame: pl.DataFrame
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Layout:
    """How a file is written."""

    separator: str
    line_end: str
    header: tuple[str, ...]
    sample: tuple[tuple[str, ...], ...]
    rows_estimate: int


def read_delimited(
    file: TableFile,
    choose: Callable[[tuple[str, ...], frozenset[str]], tuple[str, ...]],
    keep_text: Callable[[str], bool],
    decimal: str = "auto",
) -> Delimited:
    """Read a text file with a header.

    choose: from the header's names, and those of them that look like numbers, the columns that are wanted.
    keep_text: whether a column is left as it is written whatever it holds, as times and names of series are.
    decimal: with "comma" every column is left as it is written.

    Raises: `DataError` for a file without header or rows, with a name twice, or with a row longer or shorter than the header.
    """
    source, head, notes = _text_source(file)
    layout = _layout(head, file)
    names = _names(layout.header, file)
    if any(name != cell for name, cell in zip(names, layout.header, strict=True) if cell.strip()):
        notes += ("spaces around the names of columns are left out",)
    names, dropped = _without_row_numbers(names, layout)
    if dropped:
        notes += (f"the unnamed column {dropped[0]!r} is left out: it is empty or counts the rows",)
    samples = {name: [row[place] for row in layout.sample if place < len(row)] for place, name in enumerate(names)}
    plain = {name for name in names if decimal != "comma" and not keep_text(name) and _plain_numbers(samples[name])}
    wanted = list(choose(tuple(name for name in names if name not in dropped), frozenset(plain)))
    number = pl.Float32 if layout.rows_estimate * len(wanted) > MANY_VALUES else pl.Float64
    schema: dict[str, type[pl.DataType]] = {name: number if name in plain else pl.String for name in names}
    frame = _read(source, layout, schema, wanted, file)
    frame = _without_empty_end(frame)
    if not len(frame):
        raise DataError(f"{file.name} has a header and no rows: there is nothing to learn from")
    if frame.width and frame.to_series(frame.width - 1).null_count():
        _refuse_short_rows(source, layout, names.index(wanted[-1]) + 1, file)
    return Delimited(frame, notes)


def _text_source(file: TableFile) -> tuple[str | bytes, str, tuple[str, ...]]:
    """What Polars can scan (a path, or bytes in UTF-8), the first characters, and notes."""
    first = start(file, _HEAD)
    packed = contents(file) if is_packed(first) else None
    first = packed[:_HEAD] if packed is not None else first
    encoding = "utf-8"
    notes: tuple[str, ...] = ()
    if first.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding, notes = "utf-16", ("the file is UTF-16",)
    elif not _is_utf8(iter([packed]) if packed is not None else _chunks(file)):
        # Windows-1252 is Latin-1 with letters in place of control codes; the five bytes it lacks are taken as Latin-1.
        encoding, notes = "cp1252", ("the file is not UTF-8 and is read as Latin-1 (Windows-1252)",)
    if encoding == "utf-8":
        head = codecs.getincrementaldecoder("utf-8-sig")().decode(first)
        return (packed if packed is not None else str(file.path.absolute())), head, notes
    whole = packed if packed is not None else contents(file)
    try:
        text = whole.decode(encoding)
    except UnicodeDecodeError as error:
        if encoding == "utf-16":
            raise DataError(
                f"{file.name} begins as UTF-16 and is damaged at byte {error.start}: write it again"
            ) from None
        text = whole.decode("latin-1")
    return text.encode(), text[:_HEAD], notes


def _chunks(file: TableFile) -> Iterator[bytes]:
    with file.path.open("rb") as opened:
        while chunk := opened.read(_CHUNK):
            yield chunk


def _is_utf8(pieces: Iterator[bytes]) -> bool:
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for piece in pieces:
            decoder.decode(piece)
        decoder.decode(b"", True)
    except UnicodeDecodeError:
        return False
    return True


def _layout(head: str, file: TableFile) -> _Layout:
    if "\0" in head:
        raise DataError(f"{file.name} looks binary, not like a table: a NUL at character {head.index(chr(0))}")
    line_end = "\n" if "\n" in head or "\r" not in head else "\r"
    lines = head.split(line_end)
    # The last line of the sample is cut somewhere, unless the file ends there.
    if len(head) >= _HEAD and len(lines) > 2:
        lines = lines[:-1]
    if not any(line.strip() for line in lines):
        raise DataError(f"{file.name} is empty: there is no table in it")
    if not lines[0].strip():
        raise DataError(
            f"line 1 of {file.name} is empty where the names of the columns should be: remove the empty lines"
        )
    parsed = {separator: _parse(lines, separator) for separator in _SEPARATORS}
    separator = max(_SEPARATORS, key=lambda one: _fitness(parsed[one], one))
    rows = parsed[separator]
    estimate = int(file.size / max(1.0, sum(map(len, lines)) / len(lines)))
    return _Layout(separator, line_end, rows[0], tuple(row for row in rows[1:] if row), estimate)


def _parse(lines: list[str], separator: str) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    try:
        for row in csv.reader((line.rstrip("\r") + "\n" for line in lines), delimiter=separator):
            rows.append(tuple(row))
            if len(rows) > _SAMPLE_ROWS:
                break
    except csv.Error:
        # A field of more than 128 KiB: no table, and the header says enough for an error.
        pass
    return rows or [()]


def _fitness(rows: list[tuple[str, ...]], separator: str) -> tuple[bool, float, int]:
    """How well a separator explains the rows: more than one column, share of rows as wide as the header, how wide."""
    widths = Counter(len(row) for row in rows[1:] if row)
    width = len(rows[0])
    share = widths[width] / widths.total() if widths.total() else 1.0
    # Semicolons around decimal commas: both may be regular, the rarer mark is the separator. The order breaks such ties.
    return width > 1, round(share, 1), width if separator != "," else min(width, 2)


def _names(header: tuple[str, ...], file: TableFile) -> tuple[str, ...]:
    cells = [cell.strip().removeprefix("\ufeff") for cell in header]
    filled = [cell for cell in cells if cell]
    if filled and all(_is_value(cell) for cell in filled):
        raise DataError(
            f"{file.name} has no header: its first line holds values ({', '.join(filled[:3])}) where the names of the columns "
            f"should be; put a line with names above it"
        )
    repeated = [name for name, count in Counter(filled).items() if count > 1]
    if repeated:
        places = [str(place + 1) for place, cell in enumerate(cells) if cell == repeated[0]]
        raise DataError(
            f"the column name {repeated[0]!r} stands {len(places)} times in line 1 of {file.name} "
            f"(columns {', '.join(places)}): give each column its own name"
        )
    names = []
    for cell in cells:
        free = (name for number in range(len(cells) + 2) if (name := f"unnamed {number}" if number else "unnamed"))
        names.append(cell or next(name for name in free if name not in names and name not in filled))
    return tuple(names)


def _is_value(cell: str) -> bool:
    return is_number(cell) or bool(re.match(r"^\d{1,4}[-./]\d{1,2}([-./]\d{1,4})?([T ].*)?$", cell))


def _without_row_numbers(names: tuple[str, ...], layout: _Layout) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names, and those of nameless columns that say nothing: empty ones, and the row numbers that pandas writes."""
    dropped = []
    for place, (name, cell) in enumerate(zip(names, layout.header, strict=True)):
        values = [row[place] for row in layout.sample if place < len(row)]
        counted = [str(number) for number in range(len(values))]
        if not cell.strip() and (values == counted or not any(value.strip() for value in values)):
            dropped.append(name)
    return names, tuple(dropped)


def _plain_numbers(values: list[str]) -> bool:
    written = [value for value in values if value.strip().lower() not in MISSING_WORDS]
    return all(is_number(value, "point") for value in written) and bool(written or not values)


def _read(
    source: str | bytes, layout: _Layout, schema: dict[str, type[pl.DataType]], wanted: list[str], file: TableFile
) -> pl.DataFrame:
    for attempt in range(_RETRIES + 2):
        try:
            return (
                pl.scan_csv(
                    source,
                    has_header=False,
                    skip_rows=1,
                    separator=layout.separator,
                    eol_char=layout.line_end,
                    schema=schema,
                    glob=False,
                )
                .select(wanted)
                .collect()
            )
        except ComputeError as error:
            found = re.search(r"at column '(.*)' \(column number", str(error), re.DOTALL)
            if "more fields" in str(error) or found is None or schema.get(found[1]) == pl.String:
                raise _bad_row(source, layout, len(schema), file, error) from None
            # Words among the numbers: this column is read as written; after a few of them all are, to be done.
            name = found[1]
            schema = {one: pl.String if one == name or attempt >= _RETRIES else kind for one, kind in schema.items()}
        except (PolarsError, PanicException, OSError) as error:
            # A panic is no `Exception`: an open quotation mark behind mixed line ends is one.
            raise DataError(
                f"{file.name} cannot be read as a table ({_first_line(error)}): look for a quotation mark that is not closed"
            ) from None
    raise AssertionError("every column is text by now")


def _without_empty_end(frame: pl.DataFrame) -> pl.DataFrame:
    """Without the empty lines that a file may end in."""
    if not frame.width or not len(frame):
        return frame
    end = len(frame)
    while end and all(frame.item(end - 1, column) is None for column in range(frame.width)):
        end -= 1
    return frame[:end]


def _refuse_short_rows(source: str | bytes, layout: _Layout, needed: int, file: TableFile) -> None:
    """Look for rows that end before the column they are read up to; only then are missing values worth a second look."""
    lines = pl.scan_csv(
        source,
        has_header=False,
        separator="\x1e",
        quote_char=None,
        eol_char=layout.line_end,
        schema={"line": pl.String},
        truncate_ragged_lines=True,
        glob=False,
    )
    marks = pl.col("line").str.count_matches(layout.separator, literal=True)
    filled = pl.col("line").str.strip_chars() != ""
    try:
        short = lines.select((filled & (marks < needed - 1)).any()).collect().item()
    except (PolarsError, PanicException):  # a line that holds the separator which no table has: the slow look decides
        short = True
    if short:
        error = _bad_row(source, layout, len(layout.header), file, None, needed)
        if error is not None:
            raise error


def _bad_row(
    source: str | bytes,
    layout: _Layout,
    width: int,
    file: TableFile,
    cause: Exception | None,
    needed: int | None = None,
) -> DataError | None:
    """The error for the first row with too many fields, or fewer than needed; None where there is none and no other cause."""
    text: io.TextIOBase
    if isinstance(source, bytes):
        text = io.TextIOWrapper(io.BytesIO(source), encoding="utf-8-sig", newline="")
    else:
        text = open(source, encoding="utf-8-sig", newline="")  # noqa: SIM115
    with text:
        reader = csv.reader(text, delimiter=layout.separator)
        try:
            before = 0
            for row in reader:
                if len(row) > width or (row and needed is not None and len(row) < needed):
                    return DataError(
                        f"line {before + 1} of {file.name} has {len(row)} fields where the header has {width}: "
                        f"correct the line, or quote values that hold {layout.separator!r}"
                    )
                before = reader.line_num
        except csv.Error as error:
            cause = error
    if cause is None:
        return None
    return DataError(
        f"{file.name} cannot be read as a table ({_first_line(cause)}): look for a quotation mark that is not closed"
    )


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__

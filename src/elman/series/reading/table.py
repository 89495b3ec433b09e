"""A table as it was read: every row in the order of the file, times understood, nothing repaired yet."""

from dataclasses import dataclass

import polars as pl


@dataclass(frozen=True, eq=False)
class Table:
    """What reading gives and inspecting takes.

    frame: the rows in their order. The time column is `Datetime("us")` without a zone: UTC where `time_zone` is known, else the
        clock that wrote it. Numbers are Float32 or Float64, missing ones null or NaN; text columns are String or Categorical.
    time_column, series_column: the columns with the times, and with what tells series apart (None: a single series).
    time_format: how the times were written, for people: "%d.%m.%Y %H:%M:%S", "ISO 8601", "timestamps".
    time_zone: of the calendar the data lives in, such as "Europe/Berlin"; None: unknown.
    source: the file or whatever it was, for messages. first_line: the file's line of the frame's first row (2 below a header),
        None where lines mean nothing.
    notes: what was found out or assumed while reading, one sentence each.
    digest: tells whether the same data is read again.
    parts: where several files were joined, each one's name and its first row in the frame.
    """

    frame: pl.DataFrame
    time_column: str
    series_column: str | None
    time_format: str
    time_zone: str | None
    source: str
    first_line: int | None
    notes: tuple[str, ...]
    digest: str
    parts: tuple[tuple[str, int], ...] = ()

    def place(self, row: int) -> str:
        """Where a row of the frame is, for an error: "line 17 of weather.csv"."""
        return place_of(row, self.source, self.first_line, self.parts)


def place_of(row: int, source: str, first_line: int | None, parts: tuple[tuple[str, int], ...]) -> str:
    """Where a row is, for messages, while there is no table yet: see `Table` for what is given."""
    for name, first_row in reversed(parts):
        if row >= first_row:
            source, row = name, row - first_row
            break
    return f"row {row + 1} of {source}" if first_line is None else f"line {row + first_line} of {source}"

"""Matrices and vectors as colored cells with their numbers: for the weights one can change, and for a cell close up."""

import html
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from elman.studio.unroll_view import number

MOST_CELLS = 24
"""Rows and columns that are shown at once: of a larger matrix a window around the chosen cell."""

WITH_NUMBERS = 8
"""Columns up to which every cell is wide enough for its number."""

STRONG = 55
"""Percent of the full color from which a number on it takes the paper's color."""


@dataclass(frozen=True)
class Window:
    """The part of a matrix that is shown: its first row and column, and how many of each."""

    row: int
    column: int
    rows: int
    columns: int

    @classmethod
    def around(cls, shape: tuple[int, int], chosen: tuple[int, int]) -> "Window":
        """At most `MOST_CELLS` rows and columns with the chosen cell among them, in pages that do not move under the pointer.

        >>> Window.around((100, 3), (50, 1))
        Window(row=48, column=0, rows=24, columns=3)
        """
        first = [
            min(place // MOST_CELLS * MOST_CELLS, max(0, size - 1)) for place, size in zip(chosen, shape, strict=True)
        ]
        sizes = [min(MOST_CELLS, size - begin) for size, begin in zip(shape, first, strict=True)]
        return cls(*first, *sizes)


def matrix(
    values: np.ndarray,
    rows: Sequence[str] = (),
    columns: Sequence[str] = (),
    *,
    name: str = "",
    chosen: tuple[int, int] | None = None,
    scale: float | None = None,
) -> str:
    """`values` `[rows, columns]` as a table; a vector `[n]` is one column.

    rows, columns: what stands beside and above; none: nothing. chosen: a cell that is marked, which makes all of them choosable: a
    click falls into an element with `data-row` and `data-column`. scale: the value of the full color; None: the largest.
    """
    values = values[:, None] if values.ndim == 1 else values
    window = Window.around(values.shape, chosen or (0, 0)) if values.size else Window(0, 0, 0, 0)
    part = values[window.row : window.row + window.rows, window.column : window.column + window.columns]
    scale = scale or float(np.abs(values).max(initial=0.0)) or 1.0
    numbers = part.shape[1] <= WITH_NUMBERS
    lines = []
    if len(columns):
        heads = "".join(
            f"<th scope='col'>{html.escape(c)}</th>" for c in columns[window.column : window.column + window.columns]
        )
        lines.append(f"<tr>{'<td></td>' if len(rows) else ''}{heads}</tr>")
    for i, line in enumerate(part):
        row = window.row + i
        head = f"<th scope='row'>{html.escape(rows[row])}</th>" if len(rows) else ""
        cells = "".join(
            _cell(float(value), scale, (row, window.column + j), chosen, numbers) for j, value in enumerate(line)
        )
        lines.append(f"<tr>{head}{cells}</tr>")
    caption = f"<caption>{html.escape(name)}</caption>" if name else ""
    return f"<table class='matrix{' with-numbers' if numbers else ''}' dir='ltr'>{caption}{''.join(lines)}</table>"


def _cell(value: float, scale: float, place: tuple[int, int], chosen: tuple[int, int] | None, numbers: bool) -> str:
    strength = round(100 * min(1.0, abs(value) / scale))
    kind = "warm-cell" if value > 0 else "cool-cell"
    kind += (" strong" if strength > STRONG else "") + (" chosen" if place == chosen else "")
    where = "" if chosen is None else f" data-row='{place[0]}' data-column='{place[1]}'"
    shown = number(value) if numbers else ""
    return f"<td class='{kind}' style='--v:{strength}'{where} title='{number(value, 4)}'>{shown}</td>"


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A plain table of texts, the first column its rows' names."""
    head = "".join(f"<th scope='col'>{html.escape(column)}</th>" for column in columns)
    lines = "".join(
        f"<tr><th scope='row'>{html.escape(first)}</th>{''.join(f'<td>{html.escape(c)}</td>' for c in rest)}</tr>"
        for first, *rest in rows
    )
    return f"<table class='numbers-table'><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>"

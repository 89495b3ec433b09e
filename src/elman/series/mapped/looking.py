"""What is decided for a whole table that is never seen at once: the step, how times are written, which numbers mean "missing".

The step and the way times are written are those of the first part, and hold for all; a part in which times are written otherwise is
refused. Which numbers mean "missing" is judged from values drawn from every part, with the least and the largest of each and how
often each code stands there. Only then are the parts looked at one by one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl

from elman.config import SeriesSettings
from elman.errors import DataError
from elman.series.cleaning.grid import MOST_CATEGORIES, arrange, numbers_of
from elman.series.cleaning.inspection import SAMPLE
from elman.series.cleaning.sentinels import CODES, Oddities, find_oddities
from elman.series.cleaning.units import possible_range
from elman.series.reading.table import Table

FEWEST_SAMPLED = 200
"""Values drawn from a part at least."""


@dataclass(frozen=True)
class Decisions:
    """What holds for all parts: step ("1h"), how times are written, the calendar's zone, notes of the first part for people."""

    step: str
    time_column: str
    time_format: str
    time_zone: str | None
    notes: tuple[str, ...]

    @classmethod
    def of(cls, table: Table, settings: SeriesSettings) -> "Decisions":
        """From the first part.

        Raises: `DataError` where the step cannot be told, or is one of the calendar.
        """
        step = arrange(table, settings).step
        if step.months:
            raise DataError(
                f"{table.source} are {step} apart: months are not possible in a table larger than memory; give fewer series"
            )
        return cls(str(step), table.time_column, table.time_format, table.time_zone, table.notes)

    def check(self, table: Table) -> None:
        """Raises: `DataError` where the times of a part are written otherwise than those of the first."""
        for what, found, usual in (
            ("times written as", table.time_format, self.time_format),
            ("the zone", table.time_zone, self.time_zone),
        ):
            if found != usual:
                raise DataError(
                    f"{table.source} have {what} {found}, those before them {usual}: write all times alike, or give --time-format"
                )

    def over(self, settings: SeriesSettings) -> SeriesSettings:
        """The settings with what was decided."""
        return replace(settings, step=self.step, time_column=self.time_column)

    @property
    def words(self) -> str:
        """In one clause."""
        return f"the step of {self.step} and the way times are written ({self.time_format}) are those of the first part"


def probe(table: Table, part: int, parts: int) -> dict[str, np.ndarray]:
    """What a part adds to the judgement of its columns: by column, some of its values, its extremes and its codes."""
    random = np.random.default_rng([part, 3])
    rows = len(table.frame)
    wanted = max(SAMPLE // parts, FEWEST_SAMPLED)
    chosen = np.arange(rows) if rows <= wanted or parts * rows <= SAMPLE else np.sort(random.integers(0, rows, wanted))
    found = {}
    for name in _numeric(table):
        numbers = numbers_of(table, name)
        codes = np.unique(np.asarray(CODES, numbers.dtype))
        plain = np.isfinite(numbers) & ~np.isin(numbers, codes)
        present = [np.repeat(code, min(2, int(np.count_nonzero(numbers == code)))) for code in codes]
        edges = [numbers[plain].min(), numbers[plain].max()] if plain.any() else []
        above = numbers[plain & (numbers > 0)]
        edges += [above.min()] if len(above) else []
        sample = numbers[chosen]
        sample = sample[np.isfinite(sample)]
        found[f"sample {name}"] = sample
        if len(chosen) < rows:
            found[f"extra {name}"] = np.concatenate([np.asarray(edges, numbers.dtype), *present])
    return found


def decide_oddities(probes: Sequence[dict[str, np.ndarray]], names: Sequence[str]) -> dict[str, Oddities]:
    """Of each column, what is no measurement, judged from what was drawn from all parts."""
    decided = {}
    for name in names:
        sample = np.concatenate([found[f"sample {name}"] for found in probes])
        extra = [found[f"extra {name}"] for found in probes if f"extra {name}" in found]
        numbers = np.concatenate([sample, *extra])
        decided[name] = find_oddities(numbers, sample, possible_range(name)) if len(numbers) else Oddities()
    return decided


def _numeric(table: Table) -> list[str]:
    taken = (table.time_column, table.series_column)
    return [name for name, kind in table.frame.schema.items() if name not in taken and kind.is_numeric()]


def statics_of(table: Table, settings: SeriesSettings) -> dict[str, list[str] | None]:
    """Of each static column its different texts in a part, None where it holds numbers."""
    found: dict[str, list[str] | None] = {}
    for name in settings.static:
        if name not in table.frame.columns:
            continue
        column = table.frame[name]
        plain = column.dtype.is_numeric() or column.dtype == pl.Boolean
        found[name] = None if plain else sorted({*column.drop_nulls().cast(pl.String).unique().to_list()} - {""})
    return found


def static_names(found: Sequence[dict[str, Any]], settings: SeriesSettings, source: str) -> tuple[str, ...]:
    """The numbers that say what a series is, by name, as a whole table would give them.

    Raises: `DataError` for a static column that is text in some parts only, or has too many different texts.
    """
    names: list[str] = []
    for name in settings.static:
        kinds = [part.get(name) for part in found]
        if any((texts is None) != (kinds[0] is None) for texts in kinds):
            raise DataError(
                f"static column {name!r} of {source} holds numbers for some series and text for others: write it in one way"
            )
        if kinds[0] is None:
            names.append(name)
            continue
        texts = sorted({text for part in kinds for text in part or ()})
        if len(texts) > MOST_CATEGORIES:
            raise DataError(
                f"static column {name!r} of {source} has {len(texts):,} different texts, at most {MOST_CATEGORIES} are possible: "
                f"leave it out, or group them"
            )
        names += [f"{name}={text}" for text in texts]
    return tuple(names)

"""A table larger than memory, prepared once: counted, spread into parts, looked at, and laid into the files of a `MappedPanel`.

Everything happens in a folder of the cache that is named by the files' names, sizes and times of change and by the settings that
shape a panel. A journal tells what is finished, so that a kill costs what was being done at that moment and no more. Parts are
worked on side by side, and each is small enough that all of them together fit into memory.
"""

import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from elman.config import SeriesSettings
from elman.errors import DataError
from elman.series.cleaning.findings import DataReport
from elman.series.cleaning.grid import to_panel, wanted_columns
from elman.series.cleaning.inspection import PROFILE, inspect
from elman.series.cleaning.targets import check_target, choose_target
from elman.series.mapped.choosing import PEAK_BYTES, LargeTable, memory, scanned
from elman.series.mapped.looking import Decisions, decide_oddities, probe, static_names, statics_of
from elman.series.mapped.merging import merged_report
from elman.series.mapped.panel import AGES_NAME, FIRSTS_NAME, TIMES_NAME, VALUES_NAME, MappedPanel, ages_of, firsts_of
from elman.series.mapped.spreading import Parts, Progress, Spreading
from elman.series.mapped.storing import (
    FACTS_NAME,
    NAMES_NAME,
    OFFSETS_NAME,
    STATIC_NAME,
    MappedTable,
    Shape,
    open_panel,
    open_table,
    report_of,
    report_values,
    save_arrays,
    write_facts,
)
from elman.series.panel import Panel
from elman.series.reading.files import digest_of
from elman.series.reading.table import Table
from elman.series.reading.tables import table_of_rows
from elman.training.cache import default_cache_folder, not_written, sole_maker
from elman.training.journal import Journal

_FORMAT = 1
_MOST_AT_ONCE = 4
"""Parts that are worked on side by side at most."""

PARTS_OF_MEMORY = 5
"""Parts that are worked on may take one of so many equal shares of memory: more stays with allocators than is in use."""

_PART_VALUES = 1 << 24
"""Values of a part at most: more would be no faster."""

_FIRST_LOOK = 20_000
_SPREAD = "spread"
_SHAPING = (
    "target", "time_column", "series_column", "inputs", "known", "static", "time_format", "time_zone", "decimal", "step",
    "refuse",
)  # fmt: skip
"""Settings that decide what a panel holds."""


def find_mapped(table: LargeTable, settings: SeriesSettings) -> MappedTable | None:
    """The table as it was prepared before; None where it was not, or where its files were others then."""
    folder = _folder(table, _with_columns_found(table, settings))
    found = open_table(folder)
    if found and (folder / _SPREAD).exists():  # a kill left it behind
        shutil.rmtree(folder / _SPREAD, ignore_errors=True)
    return found


def prepare_mapped(table: LargeTable, settings: SeriesSettings, progress: Progress) -> None:
    """Prepare a table, as far as it is not done already.

    Raises: `DataError` for what is wrong with the table, a disk without enough room, and files that change meanwhile.
    """
    settings = _with_columns_found(table, settings)
    folder = _folder(table, settings)
    with sole_maker(folder, lambda: progress("waiting for another process that prepares this table", 0.0)):
        if not (folder / FACTS_NAME).exists() or open_table(folder) is None:
            _Building(table, settings, folder, progress).build()


def _with_columns_found(table: LargeTable, settings: SeriesSettings) -> SeriesSettings:
    """The settings with target and time column, found in the first rows where they are not named."""
    rows = scanned(table.first_with_rows).select(table.columns).head(_FIRST_LOOK).collect()
    first = table_of_rows(rows, settings, f"the first rows of {table.name}")
    named = replace(settings, series_column=table.series_column, time_column=first.time_column)
    return replace(named, target=choose_target(replace(first, source=table.name), settings))


def _folder(table: LargeTable, settings: SeriesSettings) -> Path:
    """Where the table lies prepared, for these files and these settings."""
    files = [[str(file.path.absolute()), file.size, file.modified] for file in table.files]
    shaping = [[name, getattr(settings, name)] for name in _SHAPING]
    key = hashlib.sha256(json.dumps([_FORMAT, files, shaping]).encode()).hexdigest()[:32]
    return default_cache_folder("series") / "tables" / key


class _Building:
    """One table on its way."""

    def __init__(self, table: LargeTable, settings: SeriesSettings, folder: Path, progress: Progress) -> None:
        self.table, self.settings, self.folder, self.progress = table, settings, folder, progress
        self.at_once = max(1, min(_MOST_AT_ONCE, os.cpu_count() or 1))
        width = len(table.columns)
        values = min(_PART_VALUES, memory() // (PARTS_OF_MEMORY * PEAK_BYTES * self.at_once))
        self.part_rows = max(1, values // width)
        self.journal = Journal(folder / "journal.jsonl", {"format": _FORMAT, "part_rows": self.part_rows})

    def build(self) -> None:
        """All of it, as far as it is not done already."""
        with self.journal:
            write_facts(self._built())
        self.journal.remove()
        shutil.rmtree(self.folder / _SPREAD, ignore_errors=True)

    def _built(self) -> MappedTable:
        _remove_older(self.folder, self.table)
        if not self.journal.results:
            self._check_room()
        self.journal.add("begun", True)
        digest = self._once("digest", lambda: digest_of(self.table.files))
        work = self.folder / _SPREAD
        work.mkdir(exist_ok=True)
        spreading = Spreading(self.table, work, self.journal, self.progress)
        parts = spreading.parts(self.part_rows)
        self._check_longest(parts)
        spreading.spread(parts, self.part_rows * self.at_once)
        steps = _Steps(self, spreading, parts)
        report, statics = steps.looked_at()
        panel = steps.laid(report, statics)
        report = replace(report, coverage=_coverage(panel, report))
        told = (self.settings.target or "", digest, steps.decided.time_column, steps.decided.time_format)
        return MappedTable(panel, report, *told)

    def _once(self, key: str, make: Callable[[], Any]) -> Any:
        """A result of the journal, or one that is made now."""
        if key not in self.journal.results:
            self.journal.add(key, make())
        return self.journal.results[key]

    def side_by_side(self, stage: str, parts: int, work: Callable[[int], None]) -> None:
        """Do `work` for each part, some at a time."""
        with ThreadPoolExecutor(self.at_once) as threads:
            try:
                for number, _ in enumerate(threads.map(work, range(parts))):
                    self.progress(stage, (number + 1) / parts)
            except BaseException:
                threads.shutdown(wait=True, cancel_futures=True)
                raise

    def _check_longest(self, parts: Parts) -> None:
        """Raises: `DataError` where one series alone is too large for memory."""
        longest = int(np.argmax(parts.rows))
        rows, width = int(parts.rows[longest]), len(self.table.columns)
        if rows * width * PEAK_BYTES > memory():
            raise DataError(
                f"the series {parts.names[longest]!r} of {self.table.name} alone has {rows:,} rows of {width} columns, which do "
                f"not fit into {memory() / 1e9:.3g} GB of memory: cut it into several series, or name fewer columns (--inputs)"
            )

    def _check_room(self) -> None:
        """Raises: `DataError` where the disk has not the room for the parts and the panel."""
        width, rows = len(self.table.columns), self.table.row_count
        needed = int(rows * (VALUE_AND_AGE * width + ROW_BYTES) + rows * (SPREAD_BYTES * width + ROW_BYTES))
        free = shutil.disk_usage(self.folder).free
        if free < needed:
            raise DataError(
                f"{self.table.name} has {rows:,} rows of {width} columns, and preparing them takes {needed / 1e9:.3g} GB in "
                f"{self.folder.parent}, where {free / 1e9:.3g} GB are free: make room there, or move the cache (XDG_CACHE_HOME)"
            )


VALUE_AND_AGE = 5
"""Bytes of each value in the panel."""

SPREAD_BYTES = 8
"""Bytes of each value in the parts, at most."""

ROW_BYTES = 24
"""Bytes of each row for its time, its age, and the name of its series."""


class _Steps:
    """What is done to each part: a look for what stands out, a look at all of it, and its place in the panel."""

    def __init__(self, building: _Building, spreading: Spreading, parts: Parts) -> None:
        self.building, self.spreading, self.parts = building, spreading, parts
        self.journal, self.folder = building.journal, building.folder / _SPREAD
        decided = building._once(
            "decided", lambda: dataclasses.asdict(Decisions.of(self._table(0, building.settings), building.settings))
        )
        self.decided = Decisions(**{**decided, "notes": tuple(decided["notes"])})
        self.settings = self.decided.over(building.settings)

    def looked_at(self) -> tuple[DataReport, tuple[str, ...]]:
        """The report of the whole table, and the numbers that say what a series is."""
        building, count = self.building, len(self.parts)
        building.side_by_side("looking for what is no measurement", count, self._probe)
        probes = [_arrays(self.folder / f"probe-{part:06}.npz") for part in range(count)]
        names = sorted({name.split(" ", 1)[1] for found in probes for name in found})
        lacking = [name for name in names if any(f"sample {name}" not in found for found in probes)]
        if lacking:
            raise DataError(
                f"column {lacking[0]!r} of {building.table.name} holds numbers for some series and text for others: write it as "
                f"numbers, or leave it out"
            )
        self.oddities = decide_oddities(probes, names)
        del probes
        building.side_by_side("inspecting", count, self._look)
        found = [json.loads((self.folder / f"look-{part:06}.json").read_text()) for part in range(count)]
        reports = [report_of(one["report"]) for one in found]
        source = building.table.name
        decided = f"the table does not fit into memory and was prepared in {count:,} parts: {self.decided.words}"
        report = merged_report(reports, source, decided)
        check_target(report, str(building.settings.target))
        self.places = [0, *accumulate(one.grid_rows for one in reports)]
        return report, static_names([one["statics"] for one in found], self.settings, source)

    def laid(self, report: DataReport, statics: tuple[str, ...]) -> MappedPanel:
        """The panel, every part at its place."""
        folder, count = self.building.folder, len(self.parts)
        rows, series = self.places[-1], len(self.parts.names)
        self.report, self.statics = report, statics
        self.columns = wanted_columns(report, self.settings)
        sizes = {
            VALUES_NAME: 4 * rows * len(self.columns),
            AGES_NAME: rows * (1 + len(self.columns)),
            TIMES_NAME: 8 * rows,
            FIRSTS_NAME: 8 * series * len(self.columns),
            OFFSETS_NAME: 8 * (series + 1),
            STATIC_NAME: 4 * series * len(statics),
        }
        try:
            for name, size in sizes.items():
                with (folder / name).open("ab") as file:
                    file.truncate(size)
            pl.DataFrame({"name": self.parts.names}).write_ipc(folder / NAMES_NAME)
        except OSError as error:
            raise not_written(folder, error) from None
        self.building.side_by_side("laying out", count, self._lay)
        shape = Shape(self.columns, statics, self.decided.step, self.decided.time_zone)
        return open_panel(folder, shape)

    def _table(self, part: int, settings: SeriesSettings) -> Table:
        words = self.parts.words(part, self.building.table.name)
        return table_of_rows(self.spreading.read(self.parts, part), settings, words)

    def _probe(self, part: int) -> None:
        if f"probed {part}" in self.journal.results:
            return
        table = self._table(part, self.settings)
        self.decided.check(table)
        _save(self.folder / f"probe-{part:06}.npz", probe(table, part, len(self.parts)))
        self.journal.add(f"probed {part}", True)

    def _look(self, part: int) -> None:
        if f"looked {part}" in self.journal.results:
            return
        table = self._table(part, self.settings)
        report = inspect(table, self.settings, decided=self.oddities)
        found = {"report": report_values(report), "statics": statics_of(table, self.settings)}
        (self.folder / f"look-{part:06}.json").write_text(json.dumps(found))
        self.journal.add(f"looked {part}", True)

    def _lay(self, part: int) -> None:
        if f"laid {part}" in self.journal.results:
            return
        table = self._table(part, self.settings)
        panel = to_panel(table, self.report, self.settings, columns=self.columns, static_columns=self.statics or None)
        start, series = self.places[part], int(self.parts.bounds[part])
        columns = len(self.columns)
        offsets = panel.offsets + start
        if int(offsets[-1]) != self.places[part + 1] or list(panel.names) != self._names(part):
            raise DataError(f"{self.folder} is damaged: delete the folder {self.building.folder} and start again")
        for name, place, array in (
            (VALUES_NAME, 4 * start * columns, panel.values),
            (AGES_NAME, start * (1 + columns), ages_of(panel.values, panel.offsets)),
            (TIMES_NAME, 8 * start, panel.times),
            (FIRSTS_NAME, 8 * series * columns, firsts_of(panel.values, panel.offsets)),
            (OFFSETS_NAME, 8 * series, offsets),
            (STATIC_NAME, 4 * series * len(self.statics), panel.static),
        ):
            _write_at(self.building.folder / name, place, array)
        self.journal.add(f"laid {part}", True)

    def _names(self, part: int) -> list[str]:
        return self.parts.names[int(self.parts.bounds[part]) : int(self.parts.bounds[part + 1])].to_list()


def _write_at(path: Path, place: int, array: np.ndarray) -> None:
    """Put an array at its place in a file, on the disk before this returns."""
    try:
        with path.open("r+b") as file:
            file.seek(place)
            file.write(np.ascontiguousarray(array).data)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise not_written(path, error) from None


def _save(path: Path, arrays: dict[str, np.ndarray]) -> None:
    try:
        with path.open("wb") as file:
            save_arrays(file, arrays)
    except OSError as error:
        raise not_written(path, error) from None


def _arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as kept:
        return {name: kept[name] for name in kept.files}


def _coverage(panel: Panel, report: DataReport) -> tuple[float | None, ...]:
    """The share of the grid's places with a measurement, over equal parts of the time."""
    edges = np.linspace(report.first, report.last + 1, PROFILE + 1)
    there, places = np.zeros(PROFILE, np.int64), np.zeros(PROFILE, np.int64)
    for block in panel.blocks():
        parts = np.clip(np.searchsorted(edges, panel.times[block.rows], "right") - 1, 0, PROFILE - 1)
        places += np.bincount(parts, minlength=PROFILE)
        there += np.bincount(parts[panel.observed_at(block.rows)], minlength=PROFILE)
    return tuple(round(float(t / n), 4) if n else None for t, n in zip(there, places, strict=True))


def _remove_older(folder: Path, table: LargeTable) -> None:
    """Remove what was prepared of the same files when they were others: it can never be used again."""
    about = folder / "files.json"
    states = {str(file.path.absolute()): [file.size, file.modified] for file in table.files}
    for other in folder.parent.glob("*/files.json"):
        try:
            told = json.loads(other.read_text())
        except (OSError, ValueError):
            continue
        if other != about and any(told.get(name, state) != state for name, state in states.items()):
            shutil.rmtree(other.parent, ignore_errors=True)
    try:
        about.write_text(json.dumps(states))
    except OSError as error:
        raise not_written(about, error) from None

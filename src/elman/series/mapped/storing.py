"""A prepared table on the disk: the files of `panel.MappedPanel`, and what is known about it.

panel.json      columns, step, zone, target, digest and the data report; written last: a folder that has it is whole
names.arrow     the names of the series
offsets.bin     int64, series + 1
static.bin      float32, series x static columns
"""

import dataclasses
import json
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import polars as pl

from elman.series.cleaning.findings import ColumnFacts, DataReport, Finding, Spot
from elman.series.durations import Duration
from elman.series.mapped.panel import AGES_NAME, FIRSTS_NAME, TIMES_NAME, VALUES_NAME, MappedFile, MappedPanel
from elman.training.cache import atomic_file

FORMAT = 1
FACTS_NAME, NAMES_NAME, OFFSETS_NAME, STATIC_NAME = "panel.json", "names.arrow", "offsets.bin", "static.bin"


@dataclass(frozen=True, eq=False)
class MappedTable:
    """A table that was prepared: what `prepare` in the trainer asks of one, without the rows as they were read."""

    panel: MappedPanel
    report: DataReport
    target: str
    digest: str
    time_column: str
    time_format: str


@dataclass(frozen=True)
class Shape:
    """What has to be known before the arrays can be opened."""

    columns: tuple[str, ...]
    static_columns: tuple[str, ...]
    step: str
    time_zone: str | None


def open_panel(folder: Path, shape: Shape) -> MappedPanel:
    """The panel over the files of a folder.

    Raises: `OSError`, `ValueError` or an error of Polars where they do not fit together.
    """
    names = tuple(pl.read_ipc(folder / NAMES_NAME)["name"].to_list())
    offsets = np.fromfile(folder / OFFSETS_NAME, np.int64)
    if len(offsets) != len(names) + 1 or offsets[0] != 0 or (np.diff(offsets) < 0).any():
        raise ValueError(f"{folder / OFFSETS_NAME} does not fit {len(names):,} series")
    rows, series, columns = int(offsets[-1]), len(names), len(shape.columns)
    static = np.fromfile(folder / STATIC_NAME, np.float32).reshape(series, len(shape.static_columns))
    values = MappedFile(folder / VALUES_NAME, np.float32, (rows, columns))
    ages = MappedFile(folder / AGES_NAME, np.uint8, (rows, 1 + columns))
    times = MappedFile(folder / TIMES_NAME, np.int64, (rows,))
    firsts = MappedFile(folder / FIRSTS_NAME, np.int64, (series, columns))
    return MappedPanel(
        columns=shape.columns,
        values=values.array,
        times=times.array,
        offsets=offsets,
        step=Duration.parse(shape.step),
        names=names,
        time_zone=shape.time_zone,
        static=static,
        static_columns=shape.static_columns,
        ages=ages.array,
        firsts=firsts.array,
        files=(values, ages, times, firsts),
        folder=folder,
    )


def write_facts(table: MappedTable) -> None:
    """Write what is known about a table into its panel's folder, which is whole by that."""
    panel = table.panel
    facts = {
        "format": FORMAT,
        "shape": dataclasses.asdict(Shape(panel.columns, panel.static_columns, str(panel.step), panel.time_zone)),
        "target": table.target,
        "digest": table.digest,
        "time_column": table.time_column,
        "time_format": table.time_format,
        "report": report_values(table.report),
    }
    with atomic_file(panel.folder / FACTS_NAME) as file:
        file.write(json.dumps(facts).encode())


def open_table(folder: Path) -> MappedTable | None:
    """The table that was prepared in a folder; None where there is none, or it is damaged: it can be made again."""
    try:
        facts = json.loads((folder / FACTS_NAME).read_text())
        if facts["format"] != FORMAT:
            return None
        values = facts["shape"]
        shape = Shape(tuple(values["columns"]), tuple(values["static_columns"]), values["step"], values["time_zone"])
        panel = open_panel(folder, shape)
        report = report_of(facts["report"])
        told = (facts[name] for name in ("target", "digest", "time_column", "time_format"))
        return MappedTable(panel, report, *told)
    except (OSError, ValueError, KeyError, TypeError, pl.exceptions.PolarsError):
        return None


def report_values(report: DataReport) -> dict[str, Any]:
    """A data report as plain values, whole."""
    return dataclasses.asdict(report)


def report_of(values: dict[str, Any]) -> DataReport:
    """The reverse of `report_values`."""
    columns = tuple(ColumnFacts(**_tuples(facts)) for facts in values["columns"])
    findings = []
    for finding in values["findings"]:
        spots = tuple(Spot(**spot) for spot in finding["spots"])
        findings.append(Finding(**{**_tuples(finding), "spots": spots}))
    step = Duration(**values["step"])
    return DataReport(**{**_tuples(values), "columns": columns, "findings": tuple(findings), "step": step})


def _tuples(values: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}


def remembered(
    path: Path, about: Sequence[Any], make: Callable[[], tuple[dict[str, Any], dict[str, np.ndarray]]]
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Plain values and arrays that were made before for the same `about`, or are made now and kept at `path`."""
    asked = json.dumps(about)
    try:
        with np.load(path, allow_pickle=False) as kept:
            arrays = {name: kept[name] for name in kept.files}
        facts = json.loads(bytes(arrays.pop("facts")).decode())
        if facts["about"] == asked:
            return facts["values"], arrays
    except (OSError, ValueError, KeyError):
        pass
    values, arrays = make()
    told = np.frombuffer(json.dumps({"about": asked, "values": values}).encode(), np.uint8)
    with atomic_file(path) as file:
        save_arrays(file, {**arrays, "facts": told})
    return values, arrays


def save_arrays(file: BinaryIO, arrays: dict[str, np.ndarray]) -> None:
    """Write arrays under any names, as `numpy.savez` does."""
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.ascontiguousarray(array), allow_pickle=False)

"""One data report from those of the parts of a table: counts are added up, figures weighed, and a finding is told once."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from elman.errors import DataError
from elman.series.cleaning.findings import ColumnFacts, DataReport, Finding
from elman.series.cleaning.inspection import DRAWN, SHOWN
from elman.series.cleaning.units import is_direction

_OF_THE_WHOLE = ("constant", "empty", "identical")
"""Findings about a column that hold of the table only where they hold of every part of it."""


def merged_report(reports: Sequence[DataReport], source: str, decided: str) -> DataReport:
    """What is in a table whose parts were looked at one by one, in their order.

    decided: in words, what was decided for all of them, a finding of its own. The curves of columns over time are left out.

    Raises: `DataError` where a column holds numbers in one part and text in another.
    """
    first = reports[0]
    columns = tuple(_merged_facts(facts, reports, source) for facts in first.columns)
    done = "applied to all of them"
    said = Finding("parts", None, sum(report.rows for report in reports), decided, done, "note")
    return replace(
        first,
        source=source,
        rows=sum(report.rows for report in reports),
        series=sum(report.series for report in reports),
        first=min(report.first for report in reports),
        last=max(report.last for report in reports),
        grid_rows=sum(report.grid_rows for report in reports),
        missing_rows=sum(report.missing_rows for report in reports),
        columns=columns,
        findings=(*_merged_findings(reports, columns), said),
        coverage=(),
    )


def _merged_facts(first: ColumnFacts, reports: Sequence[DataReport], source: str) -> ColumnFacts:
    parts = [report.column(first.name) for report in reports]
    if any(facts.numeric != first.numeric for facts in parts):
        raise DataError(
            f"column {first.name!r} of {source} holds numbers for some series and text for others: write it as numbers, "
            f"or leave it out"
        )
    missing = sum(facts.missing for facts in parts)
    there = [(facts, _kept(report) - facts.missing) for facts, report in zip(parts, reports, strict=True)]
    there = [(facts, count) for facts, count in there if facts.smallest is not None and count > 0]
    if not first.numeric or not there:
        return replace(first, missing=missing, used=False, profile=())
    low = min(facts.smallest for facts, _ in there if facts.smallest is not None)
    high = max(facts.largest for facts, _ in there if facts.largest is not None)
    direction = is_direction(first.name, low, high)
    weights = np.asarray([count for _, count in there], float)
    means, deviations, unchanged = (
        np.asarray([getattr(facts, name) or 0.0 for facts, _ in there])
        for name in ("mean", "deviation", "share_unchanged")
    )
    mean, deviation = (_on_the_circle if direction else _on_the_line)(weights, means, deviations)
    return replace(
        first,
        kind="direction" if direction else "number",
        missing=missing,
        used=low != high,
        smallest=low,
        largest=high,
        mean=mean,
        deviation=deviation,
        share_unchanged=float(weights @ unchanged / weights.sum()),
        profile=(),
    )


def _kept(report: DataReport) -> int:
    """Rows that have a place of their own."""
    return report.rows - sum(finding.count for finding in report.of_kind("repeats"))


def _on_the_line(weights: np.ndarray, means: np.ndarray, deviations: np.ndarray) -> tuple[float, float]:
    mean = float(weights @ means / weights.sum())
    return mean, math.sqrt(float(weights @ (deviations**2 + (means - mean) ** 2) / weights.sum()))


def _on_the_circle(weights: np.ndarray, means: np.ndarray, deviations: np.ndarray) -> tuple[float, float]:
    """Of degrees: from the length and the angle of each part's mean vector."""
    lengths = weights * np.exp(-0.5 * np.radians(deviations) ** 2)
    sine, cosine = (float(lengths @ part(np.radians(means))) for part in (np.sin, np.cos))
    length = min(1.0, math.hypot(sine, cosine) / float(weights.sum()))
    return math.degrees(math.atan2(sine, cosine)) % 360, math.degrees(math.sqrt(-2 * math.log(max(length, 1e-12))))


def _merged_findings(reports: Sequence[DataReport], columns: tuple[ColumnFacts, ...]) -> list[Finding]:
    groups: dict[tuple[str, str | None, float | str | None], list[Finding]] = {}
    for report in reports:
        for finding in report.findings:
            value = finding.spots[0].value if finding.kind == "sentinels" else None
            groups.setdefault((finding.kind, finding.column, value), []).append(finding)
    facts = {column.name: column for column in columns}
    result = []
    for (kind, column, value), found in groups.items():
        if kind in _OF_THE_WHOLE and len(found) < len(reports):
            continue
        if kind == "constant" and facts[str(column)].used:
            continue  # it is another constant in each part
        result.append(_merged(found, value))
    return result


def _merged(found: list[Finding], value: float | str | None) -> Finding:
    first, count = found[0], sum(finding.count for finding in found)
    moments = np.asarray([moment for finding in found for moment in finding.moments], np.int64)
    spread = np.unique(np.linspace(0, len(moments) - 1, min(DRAWN, len(moments))).astype(int))
    words = first.found
    if any(finding.found != words for finding in found) and count:
        words = (
            f"{first.column!r} is {value:.7g} in {count:,} rows, which is no measurement"
            if isinstance(value, float)
            else f"{words} (so in {len(found):,} parts of the table, {count:,} rows in all)"
        )
    spots = tuple(spot for finding in found for spot in finding.spots)[:SHOWN]
    return replace(first, count=count, found=words, spots=spots, moments=tuple(int(time) for time in moments[spread]))

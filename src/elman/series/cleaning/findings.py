"""What a look at a table found out, as plain facts: nothing here computes."""

import datetime
import math
from dataclasses import asdict, dataclass
from typing import Any

from elman.series.durations import Duration

SEVERITIES = ("note", "repaired", "problem")
"""Good to know; put right, and how; a person should look at it."""


@dataclass(frozen=True)
class Spot:
    """One row that a finding is about. time: microseconds since 1970; value: of the finding's column, None where it has none."""

    row: int
    place: str
    time: int
    value: float | str | None = None


@dataclass(frozen=True)
class Finding:
    """One thing that was noticed.

    kind: "order", "repeats", "off-grid", "gaps", "irregular", "daylight-saving", "sentinels", "impossible", "range", "stuck",
        "constant", "empty", "text", "identical", "precision".
    count: how many rows it concerns. spots: the first of them. found, done: in words. severity: one of `SEVERITIES`.
    refuse: the name under which the setting `refuse` forbids the repair; None: it cannot be forbidden.
    moments: times of up to 200 of the rows, spread over all of them, for pictures.
    """

    kind: str
    column: str | None
    count: int
    found: str
    done: str
    severity: str
    spots: tuple[Spot, ...] = ()
    refuse: str | None = None
    moments: tuple[int, ...] = ()

    @property
    def sentence(self) -> str:
        """What was found and what is done, as one sentence."""
        return f"{self.found}: {self.done}" if self.done else self.found


@dataclass(frozen=True)
class ColumnFacts:
    """One measured column, after repair. Figures are None where there is no number.

    kind: "number", "direction" (degrees of a circle) or "text". missing: rows without a value, those included that held a sentinel.
    Mean and deviation of directions are those on the circle. share_unchanged: values equal to the one before. used: whether it is
    an input when no inputs are named. sentinels: numbers that mean "missing"; low, high: what lies outside is impossible and means
    "missing" too. profile: means over equal parts of the time, None where nothing was measured; empty for directions.
    """

    name: str
    kind: str
    unit: str
    missing: int
    used: bool
    smallest: float | None = None
    largest: float | None = None
    mean: float | None = None
    deviation: float | None = None
    share_unchanged: float | None = None
    sentinels: tuple[float, ...] = ()
    low: float | None = None
    high: float | None = None
    profile: tuple[float | None, ...] = ()

    @property
    def numeric(self) -> bool:
        """Whether it holds numbers."""
        return self.kind != "text"


@dataclass(frozen=True)
class DataReport:
    """A table as it was found and what is done with it.

    first, last: microseconds since 1970: UTC where `time_zone` is known, else the clock that wrote them. grid_rows: places of the
    regular grid, of all series; missing_rows: those of them without a row. coverage: the share of the places with a row, over equal
    parts of the time; None where no series is.
    """

    source: str
    rows: int
    series: int
    first: int
    last: int
    step: Duration
    time_zone: str | None
    time_format: str
    grid_rows: int
    missing_rows: int
    columns: tuple[ColumnFacts, ...]
    findings: tuple[Finding, ...]
    coverage: tuple[float | None, ...]
    notes: tuple[str, ...] = ()

    @property
    def span(self) -> datetime.timedelta:
        """From the first time to the last."""
        return datetime.timedelta(microseconds=self.last - self.first)

    def column(self, name: str) -> ColumnFacts:
        """The facts of one column. Raises: `KeyError` where there is none of that name."""
        for facts in self.columns:
            if facts.name == name:
                return facts
        raise KeyError(name)

    def of_kind(self, kind: str) -> tuple[Finding, ...]:
        """The findings of one kind."""
        return tuple(finding for finding in self.findings if finding.kind == kind)

    def to_dict(self) -> dict[str, Any]:
        """Values that JSON knows; times as ISO 8601, in UTC where `time_zone` is known, and null for a bound that is infinite."""
        return {
            "source": self.source,
            "rows": self.rows,
            "series": self.series,
            "first": moment(self.first),
            "last": moment(self.last),
            "span_seconds": self.span.total_seconds(),
            "step": str(self.step),
            "time_zone": self.time_zone,
            "time_format": self.time_format,
            "grid_rows": self.grid_rows,
            "missing_rows": self.missing_rows,
            "coverage": list(self.coverage),
            "columns": [_column_values(facts) for facts in self.columns],
            "findings": [_finding_values(finding) for finding in self.findings],
            "notes": list(self.notes),
        }


def moment(time: int) -> str:
    """A time as people write it: "2009-01-01 00:10", with seconds only where there are some.

    >>> moment(600_000_000)
    '1970-01-01 00:10'
    """
    # Not datetime.fromtimestamp, which fails before 1970 on some systems.
    when = datetime.datetime(1970, 1, 1) + datetime.timedelta(microseconds=time)
    if when.microsecond:
        return when.isoformat(" ")
    return when.isoformat(" ", "seconds" if when.second else "minutes")


def _column_values(facts: ColumnFacts) -> dict[str, Any]:
    values = asdict(facts)
    for bound in ("low", "high"):
        if values[bound] is not None and not math.isfinite(values[bound]):
            values[bound] = None
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def _finding_values(finding: Finding) -> dict[str, Any]:
    return {
        "kind": finding.kind,
        "column": finding.column,
        "count": finding.count,
        "severity": finding.severity,
        "found": finding.found,
        "done": finding.done,
        "refuse": finding.refuse,
        "first": [
            {"row": spot.row, "place": spot.place, "time": moment(spot.time), "value": spot.value}
            for spot in finding.spots
        ],
    }

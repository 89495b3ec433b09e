"""The data report: what is in a table, what is wrong with it, and what is done about each, before anything is learned.

Time is judged by `grid.arrange`, values by `sentinels.find_oddities`; here both become findings in words. Nothing is changed:
`grid.to_panel` repairs what the report says, and the setting `refuse` forbids it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import polars as pl

from elman.config import SeriesSettings
from elman.errors import DataError
from elman.series.cleaning.clocks import daylight_saving
from elman.series.cleaning.findings import ColumnFacts, DataReport, Finding, Spot, moment
from elman.series.cleaning.grid import Arrangement, arrange, missing_mask, numbers_of
from elman.series.cleaning.sentinels import Oddities, find_oddities
from elman.series.cleaning.units import PossibleRange, is_direction, possible_range, unit_of
from elman.series.reading.table import Table

SHOWN = 5
"""Rows that a finding names."""

DRAWN = 200
"""Moments of a finding that a picture marks; more could not be told apart."""

SAMPLE = 100_000
"""Values by which a column's usual width is judged: quantiles of these are as good as those of ten million."""

PROFILE = 40
"""Parts of the time for the small curves and the bar of coverage."""

LONG_RUN = 24
"""A value that stays for fewer rows than this is never called stuck."""


def inspect(
    table: Table,
    settings: SeriesSettings,
    *,
    known_sentinels: Mapping[str, Sequence[float]] | None = None,
    decided: Mapping[str, Oddities] | None = None,
) -> DataReport:
    """Look at a whole table once.

    known_sentinels: numbers of each column that meant "missing" in training (`ColumnFacts.sentinels`), and mean it here too; a few
    recent rows may not tell it by themselves. decided: what of each column is no measurement, where the table is part of a larger
    one that was asked as a whole.

    Raises: `DataError` for infinite values, for times that make no grid, and for what `settings.refuse` forbids to repair.

        >>> import datetime, polars
        >>> times = [datetime.datetime(2020, 1, 1, hour) for hour in (0, 1, 2, 4)]
        >>> frame = polars.DataFrame({"time": times, "T (degC)": [1.0, 2.0, -9999.0, 4.0]})
        >>> table = Table(frame, "time", None, "ISO 8601", None, "station.csv", 2, (), "")
        >>> report = inspect(table, SeriesSettings())
        >>> str(report.step), [finding.kind for finding in report.findings]
        ('1h', ['gaps', 'sentinels'])
    """
    arrangement = arrange(table, settings)
    times = table.frame[table.time_column].cast(pl.Datetime("us")).to_physical().to_numpy()
    look = _Look(table, settings, arrangement, times, known_sentinels or {}, decided or {})
    findings = look.of_time()
    _refuse(findings, settings)
    columns = []
    for name in table.frame.columns:
        if name not in (table.time_column, table.series_column):
            facts, found = look.at_column(name)
            columns.append(facts)
            findings += found
    findings += look.identical_columns(columns)
    return DataReport(
        source=table.source,
        rows=table.frame.height,
        series=len(arrangement.names),
        first=int(times.min()),
        last=int(times.max()),
        step=arrangement.step,
        time_zone=table.time_zone,
        time_format=table.time_format,
        grid_rows=int(arrangement.offsets[-1]),
        missing_rows=int(arrangement.gap_lengths.sum()),
        columns=tuple(columns),
        findings=tuple(findings),
        coverage=look.coverage(),
        notes=table.notes,
    )


class _Look:
    """What all looks at one table share."""

    def __init__(
        self,
        table: Table,
        settings: SeriesSettings,
        arrangement: Arrangement,
        times: np.ndarray,
        known_sentinels: Mapping[str, Sequence[float]],
        decided: Mapping[str, Oddities],
    ) -> None:
        self.known_sentinels, self.decided = known_sentinels, decided
        self.table = table
        self.settings = settings
        self.arrangement = arrangement
        self.times = times
        count = int(arrangement.starts[-1])
        if count > SAMPLE:
            # Drawn by chance, not every nth: a daily rhythm would meet a regular step at the same hour each day.
            self.sampled = np.sort(np.random.default_rng(0).integers(0, count, SAMPLE))
        else:
            self.sampled = np.arange(count)
        rows = self.sampled if arrangement.rows is None else arrangement.rows[self.sampled]
        first, last = int(times.min()), int(times.max())
        self.edges = np.linspace(first, last + 1, PROFILE + 1)
        self.parts = np.clip(np.searchsorted(self.edges, times[rows], "right") - 1, 0, PROFILE - 1)

    def finding(
        self, kind: str, column: str | None, rows: np.ndarray, found: str, done: str, severity: str, refuse: str | None = None,
        *, count: int | None = None, values: np.ndarray | None = None,
    ) -> Finding:  # fmt: skip
        """One about `rows` of the frame; `values`: the whole column, to quote from."""
        spots = tuple(
            Spot(
                int(row),
                self.table.place(int(row)),
                int(self.times[row]),
                None if values is None else _plain(values[row]),
            )
            for row in rows[:SHOWN]
        )
        spread = rows[np.unique(np.linspace(0, len(rows) - 1, min(DRAWN, len(rows))).astype(int))]
        moments = tuple(int(time) for time in self.times[spread])
        return Finding(
            kind, column, len(rows) if count is None else count, found, done, severity, spots, refuse, moments
        )

    def of_time(self) -> list[Finding]:
        """Order, repeats, places beside the grid, gaps."""
        arrangement, findings = self.arrangement, []
        rows = arrangement.backwards
        if len(rows):
            found = f"{_rows(len(rows))} out of time order, the first in {self.table.place(int(rows[0]))}"
            findings.append(self.finding("order", None, rows, found, "sorted", "repaired", "order"))
        findings += self._repeats()
        if len(arrangement.moved):
            rows = np.sort(arrangement.moved)
            found = (
                f"{_rows(len(rows))} beside the grid of {arrangement.step}, by up to {_length(arrangement.furthest)}"
            )
            findings.append(self.finding("off-grid", None, rows, found, "moved to the nearest place", "repaired"))
        findings += self._gaps()
        if arrangement.step_share < 0.5:
            found = f"only {arrangement.step_share:.0%} of the steps from row to row are {arrangement.step}"
            done = "if another step is meant, give --step"
            findings.append(self.finding("irregular", None, np.zeros(0, np.int64), found, done, "problem", count=0))
        if self.table.time_zone is None:
            repeated = np.concatenate([arrangement.identical, arrangement.differing])
            kept = arrangement.gap_after if arrangement.rows is None else arrangement.rows[arrangement.gap_after]
            clock = daylight_saving(self.times, repeated, self.times[kept], arrangement.gap_lengths, arrangement.step)
            if clock:
                rows, done = np.sort(repeated), "the repeated hour is dropped; with the zone both hours are kept"
                findings.append(self.finding("daylight-saving", None, rows, clock, done, "problem"))
        return findings

    def _repeats(self) -> list[Finding]:
        arrangement = self.arrangement
        parts = [arrangement.identical, arrangement.differing, arrangement.crowded]
        rows = np.sort(np.concatenate(parts))
        if not len(rows):
            return []
        words = (
            "with the same values (dropped)",
            "with other values (the first is kept)",
            f"too near to another one for a step of {arrangement.step} (the nearer to the grid is kept)",
        )
        found = f"{_rows(len(rows))} for a time that has one already, the first in {self.table.place(int(rows[0]))}"
        done = ", ".join(f"{len(part):,} {word}" for part, word in zip(parts, words, strict=True) if len(part))
        return [self.finding("repeats", None, rows, found, done, "repaired", "repeats")]

    def _gaps(self) -> list[Finding]:
        arrangement = self.arrangement
        if not len(arrangement.gap_after):
            return []
        rows = arrangement.gap_after if arrangement.rows is None else arrangement.rows[arrangement.gap_after]
        after = arrangement.gap_after + 1
        following = after if arrangement.rows is None else arrangement.rows[after]
        missing, longest = int(arrangement.gap_lengths.sum()), int(arrangement.gap_lengths.argmax())
        count = len(rows)
        start, end = (moment(int(self.times[places[longest]])) for places in (rows, following))
        found = (
            f"{count:,} gap{'s' if count > 1 else ''}, {_rows(missing)} missing; "
            f"the longest ({_rows(arrangement.gap_lengths[longest])}) from {start} to {end}"
        )
        done = "kept as missing rows, the network sees that they are missing"
        # The longest first would hide where the trouble begins: in the order of the file, as all findings.
        return [self.finding("gaps", None, np.sort(rows), found, done, "repaired", "gaps", count=count)]

    def coverage(self) -> tuple[float | None, ...]:
        """Share of the grid's places with a row, in each part of the time."""
        arrangement = self.arrangement
        rows = arrangement.rows
        there = np.zeros(PROFILE, np.int64)
        for start in range(0, len(self.times), 1_000_000):
            piece = (
                self.times[start : start + 1_000_000] if rows is None else self.times[rows[start : start + 1_000_000]]
            )
            parts = ((piece - self.edges[0]) * (PROFILE / (self.edges[-1] - self.edges[0]))).astype(np.int8)
            there += np.bincount(np.minimum(parts, PROFILE - 1), minlength=PROFILE)
        # Missing places, each gap laid evenly between the rows around it.
        starts = arrangement.gap_after if rows is None else rows[arrangement.gap_after]
        ends = arrangement.gap_after + 1 if rows is None else rows[arrangement.gap_after + 1]
        begin, end = self.times[starts].astype(float), self.times[ends].astype(float)
        missing = np.zeros(PROFILE)
        for part in range(PROFILE):
            overlap = np.clip(np.minimum(end, self.edges[part + 1]) - np.maximum(begin, self.edges[part]), 0, None)
            missing[part] = float((arrangement.gap_lengths * overlap / np.maximum(end - begin, 1)).sum())
        total = there + missing
        return tuple(round(float(t / n), 4) if n > 0 else None for t, n in zip(there, total, strict=True))

    def at_column(self, name: str) -> tuple[ColumnFacts, list[Finding]]:
        """The facts of one column and what is odd about it."""
        dtype = self.table.frame.schema[name]
        if not (dtype.is_numeric() or dtype == pl.Boolean):
            return self._text_column(name)
        numbers = numbers_of(self.table, name)
        self._refuse_infinite(name, numbers)
        kept = numbers if self.arrangement.rows is None else numbers[self.arrangement.rows]
        sample = kept[self.sampled]
        possible = possible_range(name)
        oddities = (
            _here(self.decided[name], numbers, possible)
            if name in self.decided
            else find_oddities(numbers, sample[~np.isnan(sample)], possible)
        )
        known = [code for code in self.known_sentinels.get(name, ()) if code not in oddities.sentinels]
        there = tuple(code for code in known if bool((numbers == numbers.dtype.type(code)).any()))
        oddities = replace(oddities, sentinels=oddities.sentinels + there)
        reason = possible.reason if possible else ""
        refused = "sentinels" in self.settings.refuse
        findings = self._odd_values(name, numbers, oddities, reason, refused=refused)
        if refused:
            oddities = Oddities()
        mark = ColumnFacts(
            name, "number", "", 0, True, sentinels=oddities.sentinels, low=oddities.low, high=oddities.high
        )
        mask = missing_mask(kept, mark)
        if mask is not None and mask.any():
            kept = np.where(mask, kept.dtype.type(np.nan), kept)
        facts, more = self._figures(mark, kept)
        return facts, [*findings, *more]

    def _text_column(self, name: str) -> tuple[ColumnFacts, list[Finding]]:
        column = self.table.frame[name]
        facts = ColumnFacts(name, "text", "", int(column.null_count()), used=False)
        nothing = np.zeros(0, np.int64)
        if name in self.settings.static:
            return facts, []
        if column.null_count() == len(column):
            return facts, [
                self.finding("empty", name, nothing, f"{name!r} has no values", "not used", "note", count=len(column))
            ]
        found = f"{name!r} holds text"
        return facts, [self.finding("text", name, nothing, found, "not used", "note", count=len(column))]

    def _refuse_infinite(self, name: str, numbers: np.ndarray) -> None:
        # The panel holds 32-bit numbers, in which these would be infinite too.
        largest = np.finfo(np.float32).max
        with np.errstate(invalid="ignore"):
            if not (np.fmax.reduce(numbers) > largest or np.fmin.reduce(numbers) < -largest):
                return
            rows = np.flatnonzero(np.abs(numbers) > largest)
        value = float(numbers[rows[0]])
        word = "infinite" if np.isinf(value) else "larger than any 32-bit number"
        more = f" ({len(rows):,} such values in all)" if len(rows) > 1 else ""
        raise DataError(
            f"column {name!r} is {value:g} in {self.table.place(int(rows[0]))}{more}, which is {word}: "
            f"leave the field empty where nothing was measured"
        )

    def _odd_values(
        self, name: str, numbers: np.ndarray, oddities: Oddities, reason: str, *, refused: bool
    ) -> list[Finding]:
        findings = []
        severity = "problem" if refused else "repaired"
        done = "kept as they are (--refuse sentinels)" if refused else "treated as missing"
        for sentinel in oddities.sentinels:
            rows = np.flatnonzero(numbers == numbers.dtype.type(sentinel))
            if not len(rows):
                continue  # it is in another part of the table
            why = f" ({reason})" if sentinel == 0 else ""
            found = f"{name!r} is {_number(sentinel)} in {_rows(len(rows))}, which is no measurement{why}"
            findings.append(self.finding("sentinels", name, rows, found, done, severity, "sentinels", values=numbers))
        if oddities.low is not None and oddities.high is not None:
            odd = (numbers < oddities.low) | (numbers > oddities.high)
            odd &= ~np.isin(numbers, np.asarray(oddities.sentinels, numbers.dtype))
            rows = np.flatnonzero(odd)
            if len(rows):
                such = f"such as {_number(float(numbers[rows[0]]))} ({reason})"
                found = f"{name!r} is impossible in {_rows(len(rows))}, {such}"
                findings.append(
                    self.finding("impossible", name, rows, found, done, severity, "sentinels", values=numbers)
                )
        if oddities.outside:
            found = f"{name!r} has {oddities.outside:,} values that its name does not allow ({reason})"
            nothing = np.zeros(0, np.int64)
            done = "kept as they are; is the unit right?"
            findings.append(self.finding("range", name, nothing, found, done, "problem", count=oddities.outside))
        return findings

    def _figures(self, mark: ColumnFacts, kept: np.ndarray) -> tuple[ColumnFacts, list[Finding]]:
        """mark: name and bounds. kept: the repaired values in order of series and time."""
        name, nothing = mark.name, np.zeros(0, np.int64)
        there = ~np.isnan(kept)
        count = int(np.count_nonzero(there))
        missing = len(kept) - count
        empty = ColumnFacts(
            name, "number", unit_of(name), missing, False, sentinels=mark.sentinels, low=mark.low, high=mark.high
        )
        if count == 0:
            return empty, [
                self.finding("empty", name, nothing, f"{name!r} has no values", "not used", "note", count=len(kept))
            ]
        low, high = float(np.fmin.reduce(kept)), float(np.fmax.reduce(kept))
        direction = is_direction(name, low, high)
        if direction:
            mean, deviation = _mean_direction(kept, count)
        else:
            mean = float(np.sum(kept, where=there, dtype=np.float64)) / count
            deviation = float(np.sqrt(max(_squares(kept, mean) / count, 0.0)))
        changes = kept[1:] != kept[:-1]
        changes[self.arrangement.starts[1:-1] - 1] = True
        starts = np.concatenate([[0], np.flatnonzero(changes) + 1])
        pairs = max(1, count - len(self.arrangement.names))
        unchanged = min(1.0, max(0.0, (len(kept) - len(starts)) / pairs))
        constant = low == high
        sample = kept[self.sampled]
        facts = ColumnFacts(
            name=name, kind="direction" if direction else "number", unit=unit_of(name), missing=missing,
            used=not constant, smallest=low, largest=high, mean=mean, deviation=deviation, share_unchanged=unchanged,
            sentinels=mark.sentinels, low=mark.low, high=mark.high, profile=() if direction else self._profile(sample),
        )  # fmt: skip
        if constant:
            found = f"{name!r} is {_number(low)} in every row"
            return facts, [self.finding("constant", name, nothing, found, "not used as an input", "note", count=count)]
        findings = self._stuck(facts, kept, starts)
        lost = _lost_by_rounding(sample)
        if lost > 0.1:
            found = f"{name!r} needs more than the 32-bit numbers of a network: {lost:.0%} of its values fall together"
            done = "take a large constant off it, or use its differences"
            findings.append(self.finding("precision", name, nothing, found, done, "problem", count=count))
        return facts, findings

    def _profile(self, sample: np.ndarray) -> tuple[float | None, ...]:
        there = ~np.isnan(sample)
        sums = np.bincount(self.parts[there], sample[there], PROFILE)
        counts = np.bincount(self.parts[there], minlength=PROFILE)
        return tuple(float(s / n) if n else None for s, n in zip(sums, counts, strict=True))

    def _stuck(self, facts: ColumnFacts, kept: np.ndarray, starts: np.ndarray) -> list[Finding]:
        """Values that stay much longer than chance would have it, unless they are an end of the scale (no rain, fog, night)."""
        share = facts.share_unchanged or 0.0
        if share > 0.5:
            return []
        usual = np.log(max(len(kept), 2)) / -np.log(max(share, 0.01))
        lengths = np.diff(np.concatenate([starts, [len(kept)]]))
        runs = np.flatnonzero(lengths >= max(LONG_RUN, 4 * usual))
        values = kept[starts[runs]]
        runs = runs[(values != facts.smallest) & (values != facts.largest) & (values != 0)]
        if not len(runs):
            return []
        rows = starts[runs] if self.arrangement.rows is None else self.arrangement.rows[starts[runs]]
        longest = runs[lengths[runs].argmax()]
        begin = moment(int(self.times[self.arrangement.row(int(starts[longest]))]))
        found = (
            f"{facts.name!r} stays the same for long {len(runs):,} time{'s' if len(runs) > 1 else ''} (a stuck sensor?), "
            f"longest for {_rows(lengths[longest])} at {_number(float(kept[starts[longest]]))} from {begin}"
        )
        numbers = numbers_of(self.table, facts.name)
        count = int(lengths[runs].sum())
        return [self.finding("stuck", facts.name, rows, found, "kept as it is", "note", count=count, values=numbers)]

    def identical_columns(self, columns: list[ColumnFacts]) -> list[Finding]:
        """Columns that say the same as an earlier one."""
        findings: list[Finding] = []
        seen: dict[tuple[object, ...], list[str]] = {}
        for facts in columns:
            if not facts.numeric or facts.smallest is None or facts.smallest == facts.largest:
                continue
            key = (facts.missing, facts.smallest, facts.largest, facts.mean)
            for other in seen.setdefault(key, []):
                same = self.table.frame[facts.name].eq_missing(self.table.frame[other])
                if bool(same.all()):
                    found, nothing = f"{facts.name!r} is the same as {other!r} in every row", np.zeros(0, np.int64)
                    findings.append(
                        self.finding(
                            "identical", facts.name, nothing, found, "one of them is enough", "note", count=len(same)
                        )
                    )
                    break
            seen[key].append(facts.name)
        return findings


def _here(decided: Oddities, numbers: np.ndarray, possible: PossibleRange | None) -> Oddities:
    """What was decided for a whole table, with the values outside of the range counted in this part of it."""
    if not decided.outside or possible is None:
        return decided
    beyond = (numbers < possible.low) | (numbers > possible.high)
    beyond &= ~np.isin(numbers, np.asarray(decided.sentinels, numbers.dtype))
    return replace(decided, outside=int(np.count_nonzero(beyond)))


_REMEDIES = {
    "order": "sort the rows by time",
    "repeats": "leave one row for each time",
    "gaps": "fill in the missing rows",
}


def _refuse(findings: list[Finding], settings: SeriesSettings) -> None:
    for finding in findings:
        if finding.refuse in settings.refuse and finding.refuse in _REMEDIES:
            where = f" after {finding.spots[0].place}" if finding.kind == "gaps" else ""
            raise DataError(
                f"{finding.found}{where}: {_REMEDIES[finding.refuse]}, or leave out --refuse {finding.refuse}"
            )


def _squares(values: np.ndarray, mean: float) -> float:
    """The sum of the squared distances from the mean, in pieces so that no second column is held."""
    total = 0.0
    for start in range(0, len(values), 1_000_000):
        piece = values[start : start + 1_000_000].astype(np.float64)
        piece -= mean
        total += float(np.nansum(piece * piece))
    return total


def _mean_direction(values: np.ndarray, count: int) -> tuple[float, float]:
    """Mean and deviation on the circle, in degrees: of 350 and 10 the mean is 0 (Mardia 1972)."""
    sine = cosine = 0.0
    for start in range(0, len(values), 1_000_000):
        angles = np.radians(values[start : start + 1_000_000].astype(np.float64))
        sine += float(np.nansum(np.sin(angles)))
        cosine += float(np.nansum(np.cos(angles)))
    length = min(1.0, np.hypot(sine, cosine) / count)
    mean = float(np.degrees(np.arctan2(sine, cosine)) % 360)
    return mean, float(np.degrees(np.sqrt(-2 * np.log(max(length, 1e-12)))))


def _lost_by_rounding(sample: np.ndarray) -> float:
    """The share of different values that are no longer different as 32-bit numbers."""
    if sample.dtype != np.float64:
        return 0.0
    values = np.unique(sample[~np.isnan(sample)])
    if len(values) < 2:
        return 0.0
    return 1 - (len(np.unique(values.astype(np.float32))) - 1) / (len(values) - 1)


def _rows(count: int) -> str:
    return f"{count:,} row{'' if count == 1 else 's'}"


def _length(microseconds: int) -> str:
    for size, unit in (
        (86_400_000_000, "d"),
        (3_600_000_000, "h"),
        (60_000_000, "min"),
        (1_000_000, "s"),
        (1000, "ms"),
    ):
        if microseconds >= size:
            return f"{microseconds / size:.3g} {unit}"
    return f"{microseconds} us"


def _number(value: float) -> str:
    """As short as 32-bit numbers can be told apart: -99.9, not -99.9000015."""
    return f"{value:.7g}"


def _plain(value: object) -> float | str | None:
    number = float(value)  # type: ignore[arg-type]
    return None if np.isnan(number) else number

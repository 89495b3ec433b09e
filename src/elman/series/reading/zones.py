"""From the clock on the wall to UTC: the hour that comes twice in autumn, and the one that does not exist in spring."""

import datetime
import zoneinfo
from collections.abc import Callable

import numpy as np
import polars as pl
from polars.exceptions import ComputeError

from elman.config import suggestion
from elman.errors import ConfigError


def check_zone(name: str) -> zoneinfo.ZoneInfo:
    """The zone of that name.

    Raises: `ConfigError` for an unknown one, with the nearest name.
    """
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        near = (
            suggestion(name, zoneinfo.available_timezones()) or ": write it as Europe/Berlin, America/New_York or UTC"
        )
        raise ConfigError(f"time_zone = {name!r} is not known{near}") from None


def to_utc(
    walls: pl.Series, zone: str, place: Callable[[int], str], series: pl.Series | None = None
) -> tuple[pl.Series, tuple[str, ...]]:
    """The instants that the clocks of a zone showed, and notes.

    Where clocks are set back, an hour comes twice: the first pass through it is the earlier one, the second the later one. Rows
    are followed in the order of the file, each series for itself, backwards where the file runs backwards. A time that clocks
    skipped in spring is counted on from before the change, as if the clock had not been set.

    Raises: `ConfigError` for an unknown zone.
    """
    known = check_zone(zone)
    try:
        early = _replaced(walls, zone, "earliest")
        late = _replaced(walls, zone, "latest")
    except ComputeError:
        raise ConfigError(
            f"time_zone = {zone!r} is not known: write it as Europe/Berlin, America/New_York or UTC"
        ) from None
    notes: tuple[str, ...] = ()
    skipped = (early.is_null() & walls.is_not_null()).arg_true().to_numpy()
    moments = early.fill_null(datetime.datetime(1970, 1, 1)).cast(pl.Int64).to_numpy().copy()
    if len(skipped):
        for row in skipped.tolist():
            shown = walls[row]
            offset = shown.replace(tzinfo=known, fold=0).utcoffset()
            moments[row] = (shown - offset - datetime.datetime(1970, 1, 1)) // datetime.timedelta(microseconds=1)
        notes += (
            f"{len(skipped):,} times do not exist in {zone}, where clocks are set forward (first {walls[int(skipped[0])]} at "
            f"{place(int(skipped[0]))}): each is moved forward by what was skipped",
        )
    twice = (early != late).fill_null(False).arg_true().to_numpy()
    if len(twice):
        rows = _second_pass(walls, twice, series)
        moments[rows] = late.cast(pl.Int64).to_numpy()[rows]
        notes += (
            f"{len(twice):,} times come twice in {zone}, where clocks are set back (first {walls[int(twice[0])]} at "
            f"{place(int(twice[0]))}): {len(rows):,} are taken as the second pass, by the order of the rows",
        )
    return pl.Series(walls.name, moments).cast(pl.Datetime("us")), notes


def _replaced(walls: pl.Series, zone: str, ambiguous: str) -> pl.Series:
    told = walls.dt.replace_time_zone(zone, ambiguous=ambiguous, non_existent="null")  # type: ignore[arg-type]
    return told.dt.convert_time_zone("UTC").dt.replace_time_zone(None)


def _second_pass(walls: pl.Series, twice: np.ndarray, series: pl.Series | None) -> np.ndarray:
    """Of the rows whose time comes twice, those that are the later one."""
    times = walls.gather(twice).cast(pl.Int64).to_numpy()
    names = series.gather(twice).to_list() if series is not None else [""] * len(twice)
    steps = np.sign(np.diff(walls.cast(pl.Int64).to_numpy()))
    backwards = steps.sum() < 0
    groups: dict[tuple[object, int], list[int]] = {}
    day = 86_400_000_000
    for number, (name, time) in enumerate(zip(names, times.tolist(), strict=True)):
        groups.setdefault((name, time // day), []).append(number)
    later: list[int] = []
    for members in groups.values():
        ordered = members[::-1] if backwards else members
        shown = times[ordered]
        falls = np.flatnonzero(np.diff(shown) < 0)
        if len(falls):
            second = ordered[int(falls[0]) + 1 :]
        else:
            # No step back: "02:00, 02:00" with hourly rows. Of equal neighbours the first is the earlier.
            second = [ordered[place] for place in np.flatnonzero(np.diff(shown) == 0) + 1]
        later += second
    return twice[np.sort(np.asarray(later, int))]

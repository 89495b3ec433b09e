"""Which column is forecast, and whether anything can be learned about it."""

from elman.config import SeriesSettings, suggestion
from elman.errors import ConfigError, DataError
from elman.series.cleaning.findings import DataReport
from elman.series.reading.table import Table


def choose_target(table: Table, settings: SeriesSettings) -> str:
    """The column that is forecast: the one named, the only one with numbers, or `y`.

    Raises: `DataError` where the named one is not there, `ConfigError` where several are possible.
    """
    taken = {table.time_column, table.series_column}
    columns = [name for name in table.frame.columns if name not in taken]
    if settings.target is not None:
        if settings.target not in columns:
            raise DataError(_no_target(table.source, settings.target, columns))
        return settings.target
    others = {*settings.static, *settings.known}
    possible = [name for name in columns if table.frame.schema[name].is_numeric() and name not in others]
    if len(possible) == 1:
        return possible[0]
    if "y" in possible:
        return "y"
    if not possible:
        raise DataError(f"{table.source} has no column with numbers: nothing can be forecast from it")
    raise ConfigError(f"which column of {table.source} is forecast? Give --target with one of {_listed(possible)}")


def check_target(report: DataReport, target: str) -> None:
    """See to it that something can be learned about `target`.

    Raises: `DataError` where it is not there, text, without any value, or constant.
    """
    names = [facts.name for facts in report.columns]
    if target not in names:
        raise DataError(_no_target(report.source, target, names))
    facts = report.column(target)
    numeric = [other.name for other in report.columns if other.used and other.name != target]
    instead = f"choose a column with numbers that change{': ' + _listed(numeric) if numeric else ''}"
    if not facts.numeric:
        raise DataError(f"the target {target!r} of {report.source} holds text: {instead}")
    if facts.smallest is None:
        raise DataError(
            f"the target {target!r} of {report.source} has no value in any of {report.rows:,} rows: {instead}"
        )
    if facts.smallest == facts.largest:
        raise DataError(f"the target {target!r} of {report.source} is {facts.smallest:g} in every row: {instead}")


def require_numbers(report: DataReport, name: str) -> None:
    """See to it that a column is there and holds numbers. Raises: `DataError`, with the name that was probably meant."""
    known = [facts.name for facts in report.columns]
    if name not in known:
        near = suggestion(name, known)
        hint = f"{near} (renamed?)" if near else f": its columns are {', '.join(map(repr, known))}"
        raise DataError(f"{report.source} has no column {name!r}{hint}")
    if not report.column(name).numeric:
        raise DataError(f"column {name!r} of {report.source} holds text: numbers are needed, or name it in --static")


def _no_target(source: str, target: str, columns: list[str]) -> str:
    return f"{source} has no column {target!r} to forecast{suggestion(target, columns) or ': its columns are ' + _listed(columns)}"


def _listed(names: list[str], most: int = 20) -> str:
    shown = ", ".join(repr(name) for name in names[:most])
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")

"""Forecasts as a table: one row for each series, origin and step, with times by the local clock where the zone is known.

>>> quantile_name(0.05), quantile_name(0.5), quantile_name(0.975)
('q05', 'q50', 'q97.5')
"""

import numpy as np
import polars as pl

from elman.series.model import SeriesModel
from elman.series.panel import Panel
from elman.series.reading.tables import SERIES_COLUMN
from elman.series.scoring.moments import target_times
from elman.series.scoring.origins import series_of


def quantile_name(level: float) -> str:
    """The column of a level: two digits of percent, and more where they are needed."""
    whole, _, rest = f"{level * 100:.6f}".rstrip("0").partition(".")
    return f"q{whole.zfill(2)}{'.' + rest if rest else ''}"


def forecast_frame(model: SeriesModel, panel: Panel, quantiles: np.ndarray, origins: np.ndarray) -> pl.DataFrame:
    """Quantiles `[origins, steps, levels]` of `model` as a table, one row for each origin and step.

    Columns: the series (under the name of its column; only where the series have names), `origin` (time of the last known row),
    `time` (that the forecast is for), the point forecast under the target's name, and each level as `q05`, `q10`, … where the
    model forecasts quantiles. Times are of the panel's zone where it is known, else without a zone, as they were written. A column
    of the table that would take a name that is taken already gets an underscore behind its own.
    """
    horizon, steps = model.horizon, len(model.horizon.rows)
    origins = np.asarray(origins, np.int64)
    columns: dict[str, pl.Series] = {}
    named = panel.names != ("",)
    reserved = {horizon.target, *([series_column(model)] if named else [])}

    def free(name: str) -> str:
        return name if name not in columns and name not in reserved else free(name + "_")

    if named:
        names = pl.Series(panel.names, dtype=pl.String)
        columns[series_column(model)] = names.gather(np.repeat(series_of(panel, origins), steps))
    columns[free("origin")] = _times(np.repeat(panel.times[origins], steps), panel)
    columns[free("time")] = _times(target_times(panel, origins, horizon.rows).ravel(), panel)
    columns[horizon.target] = pl.Series(quantiles[..., horizon.middle].ravel())
    if len(horizon.levels) > 1:
        for number, level in enumerate(horizon.levels):
            columns[free(quantile_name(level))] = pl.Series(quantiles[..., number].ravel())
    return pl.DataFrame(columns)


def series_column(model: SeriesModel) -> str:
    """The name of the column that tells series apart."""
    return model.config.series.series_column or SERIES_COLUMN


def last_measured(panel: Panel, known: tuple[str, ...]) -> np.ndarray:
    """For each series the global number of its last row with a measurement of a column that is not in `known`.

    A row before the series' first where there is none. These are the origins of a forecast of what is not known yet.
    """
    measured = [place for place, name in enumerate(panel.columns) if name not in known]
    last = panel.offsets[:-1] - 1
    for block in panel.blocks():
        seen = np.zeros(block.rows.stop - block.rows.start, bool)
        for place in measured:
            seen |= ~np.isnan(panel.values[block.rows, place])
        rows = np.append(block.rows.start + np.flatnonzero(seen), -1)
        found = rows[np.searchsorted(rows[:-1], panel.offsets[1:][block.series]) - 1]
        last[block.series] = np.maximum(found, last[block.series])
    return last


def one_series(panel: Panel, number: int) -> Panel:
    """One series of a panel by itself."""
    start, end = panel.offsets[number : number + 2]
    return Panel(
        columns=panel.columns,
        values=panel.values[start:end],
        times=panel.times[start:end],
        offsets=np.asarray([0, end - start], np.int64),
        step=panel.step,
        names=panel.names[number : number + 1],
        time_zone=panel.time_zone,
        static=panel.static[number : number + 1],
        static_columns=panel.static_columns,
    )


def _times(times: np.ndarray, panel: Panel) -> pl.Series:
    column = pl.Series(times.astype(np.int64)).cast(pl.Datetime("us"))
    if panel.time_zone is None:
        return column
    return column.dt.replace_time_zone("UTC").dt.convert_time_zone(panel.time_zone)

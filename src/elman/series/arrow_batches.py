"""A saved forecaster as a function over Arrow batches, for engines that hold many series: Ray Data, Spark, Arrow datasets.

from elman.series.arrow_batches import BatchForecaster

forecaster = BatchForecaster("sales.safetensors")
forecaster.schema                                              # of the forecasts, before any batch
frame.repartition(64, "unique_id").sortWithinPartitions("unique_id", "ds").mapInArrow(forecaster, schema)      # Spark
dataset.repartition(64, keys=["unique_id"]).map_batches(forecaster, batch_format="pyarrow", batch_size=None)   # Ray
"""

import functools
import importlib
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from polars.exceptions import PolarsError

from elman.config import suggestion
from elman.errors import ConfigError, DataError, ElmanError
from elman.series.answers import forecast_frame, last_measured, series_column
from elman.series.model import SeriesModel
from elman.series.panel import Panel
from elman.series.reading.tables import SERIES_COLUMN
from elman.series.recent import read_recent, recent_settings
from elman.series.side_by_side import SideBySide
from elman.training.engine import use_compilation_cache
from elman.training.runs import bundle_of

ROWS_AT_ONCE = 50_000
"""Rows that are gathered from an iterator's batches before they are forecast: looking at a table has a cost of its own."""

KEPT_MODELS = 4
"""Models that a process holds; the one that was asked longest ago goes first."""

_loading = threading.Lock()


class BatchForecaster:
    """Forecasts behind the last row of each series in Arrow batches, as `Forecaster.predict` gives them for its rows.

    path: a bundle or a run folder, which every process must be able to read under the same name. reading: how these rows are
    written where it is otherwise than in training: `time_column`, `series_column`, `time_format`, `time_zone`, `decimal`, `refuse`.

    Batches are long: a column with the series, one with the times, the target and the other columns the model was trained on, in
    any order; rows behind the last measurement hold the columns that are known in advance. Rows may stand in any order within a
    batch. A series ends with its batch, or goes on at the start of the next one of the same iterator (rows sorted by series).

    It pickles as its path. A process loads the model when the first batch comes, once for all who ask, and compiles few programs.

    Raises: `ConfigError` where pyarrow is not installed, or for a setting that cannot differ.
    """

    def __init__(self, path: str | Path, **reading: Any) -> None:
        _arrow()
        self._path = str(Path(path).absolute())
        self._reading = tuple((n, tuple(v) if isinstance(v, list) else v) for n, v in sorted(reading.items()))

    @property
    def schema(self) -> Any:
        """The `pyarrow.Schema` of the forecasts: series (where the model tells them apart), `origin`, `time`, target, quantiles.

        Times are microseconds, in the time zone of the model or of `reading`, without one where none is known. Loads the model.
        """
        return self._loaded().schema

    def __call__(self, batches: Any) -> Any:
        """Forecasts of all series, a row for each step ahead.

        batches: an iterable of `pyarrow.RecordBatch`, for which an iterator of such is given back (some batches may make one); or a
        single `Table` or `RecordBatch` with whole series, for which its like is given back. Empty ones give no rows.

        Raises: `DataError` with the series and the batch (counted from 1) for rows that do not fit (`Forecaster.predict`), counted
        within that series; for a series that comes again after it was forecast. `BundleError`, `RunError` for a model that cannot
        be read.
        """
        arrow = _arrow()
        if isinstance(batches, arrow.Table):
            answers = self._answers([batches], "the table")
            return arrow.Table.from_batches(list(answers), schema=self.schema)
        if isinstance(batches, arrow.RecordBatch):
            answers = self._answers([batches], "the batch")
            return next(answers, None) or arrow.RecordBatch.from_pylist([], schema=self.schema)
        return self._answers(batches, None)

    def __repr__(self) -> str:
        return f"BatchForecaster({', '.join([repr(self._path), *(f'{n}={v!r}' for n, v in self._reading)])})"

    def _answers(self, batches: Iterable[Any], called: str | None) -> Iterator[Any]:
        loaded = self._loaded()
        answered: set[Any] = set()
        for group in _groups(_frames(batches, called, loaded.series_column), loaded.series_column):
            if loaded.series_column is not None:
                group.refuse_repeated(answered, loaded.series_column)
            yield from loaded.answer(group)

    def _loaded(self) -> "_Loaded":
        bundle = bundle_of(Path(self._path))
        try:
            state = bundle.stat()
            written = (state.st_mtime_ns, state.st_size)
        except OSError:
            written = (0, 0)  # what is wrong with it is told by `SeriesModel.load`
        with _loading:
            return _load(str(bundle), written, self._reading)


# --- batches ------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Batch:
    """Rows as they came, and what they are called in messages."""

    called: str
    frame: pl.DataFrame


@dataclass(frozen=True, eq=False)
class _Group:
    """Batches that are forecast together: every series in them is whole."""

    batches: list[_Batch]

    @functools.cached_property
    def frame(self) -> pl.DataFrame:
        """All rows."""
        try:
            return pl.concat([batch.frame for batch in self.batches], how="vertical_relaxed", rechunk=True)
        except PolarsError as error:
            first, last = self.batches[0].called, self.batches[-1].called
            raise DataError(
                f"{first} to {last} do not fit together ({str(error).splitlines()[0]}): give all batches the same columns"
            ) from None

    def called(self, column: str | None = None, series: Any = None) -> str:
        """The batch where a series begins, or all of them."""
        if column is not None:
            for batch in self.batches:
                if (batch.frame[column] == series).any():
                    return batch.called
        first, last = self.batches[0].called, self.batches[-1].called
        return first if first == last else f"{first} to {last}"

    def refuse_repeated(self, answered: set[Any], column: str) -> None:
        """Remember the series of this group. Raises: `DataError` for one that was forecast already."""
        names = set(self.frame[column].unique().to_list())
        repeated = sorted(map(str, names & answered))
        if repeated:
            name = next(name for name in names & answered if str(name) == repeated[0])
            raise DataError(
                f"series {repeated[0]!r} comes again in {self.called(column, name)}, after it was forecast: keep the rows of a "
                f"series together, such as by sorting by {column!r}"
            )
        answered |= names


def _frames(batches: Iterable[Any], called: str | None, column: str | None) -> Iterator[_Batch]:
    """The batches with rows as frames, each with the column that tells series apart."""
    arrow = _arrow()
    for number, batch in enumerate(batches, 1):
        name = called or f"batch {number}"
        if not isinstance(batch, arrow.RecordBatch | arrow.Table):
            raise DataError(f"{name} is a {type(batch).__name__}: a RecordBatch or Table of pyarrow is needed")
        if not batch.num_rows:
            continue
        frame = pl.DataFrame(pl.from_arrow(batch))
        if column is not None and column not in frame.columns:
            shown = ", ".join(repr(one) for one in frame.columns[:20])
            raise DataError(
                f"{name} has no column {column!r} to tell its series apart{suggestion(column, frame.columns)}; its columns are "
                f"{shown}"
            )
        if column is None and SERIES_COLUMN in frame.columns:
            raise DataError(
                f"{name} has several series in {SERIES_COLUMN!r}, but the model was trained on one without a name: give "
                f"series_column={SERIES_COLUMN!r}"
            )
        yield _Batch(name, frame)


def _groups(batches: Iterable[_Batch], column: str | None) -> Iterator[_Group]:
    """Batches together up to `ROWS_AT_ONCE`; the series of the last row is held back, for it may go on in the next batch."""
    waiting: list[_Batch] = []
    rows = 0
    for batch in batches:
        waiting.append(batch)
        rows += batch.frame.height
        if column is None or rows < ROWS_AT_ONCE:
            continue
        last = batch.frame[column][-1]
        going_on = [_Batch(one.called, one.frame.filter(one.frame[column].eq_missing(last))) for one in waiting]
        going_on = [one for one in going_on if one.frame.height]
        held = sum(one.frame.height for one in going_on)
        if held < rows:
            done = [_Batch(one.called, one.frame.filter(one.frame[column].ne_missing(last))) for one in waiting]
            yield _Group([one for one in done if one.frame.height])
            waiting, rows = going_on, held
    if waiting:
        yield _Group(waiting)


# --- the model ----------------------------------------------------------------------------------------------------------------


class _Loaded:
    """What a process holds of a model: its programs, and how its answers look."""

    def __init__(self, model: SeriesModel) -> None:
        self.model = model
        self.side_by_side = SideBySide(model)
        settings, encoding = model.config.series, model.encoding
        self.series_column = settings.series_column
        self.time_zone = settings.time_zone or encoding.time_zone
        empty = Panel(
            columns=encoding.columns,
            values=np.zeros((0, len(encoding.columns)), np.float32),
            times=np.zeros(0, np.int64),
            offsets=np.zeros(2, np.int64),
            step=encoding.step,
            names=("",) if self.series_column is None else ("series",),
            time_zone=self.time_zone,
        )
        nothing = np.zeros((0, len(model.horizon.rows), len(model.horizon.levels)), np.float32)
        arrow = _arrow()
        found = forecast_frame(model, empty, nothing, np.zeros(0, np.int64)).to_arrow().schema
        # Polars' texts are of a type that not every engine knows.
        texts = {arrow.large_string(), arrow.string_view()}
        self.schema = arrow.schema(
            [field.with_type(arrow.string()) if field.type in texts else field for field in found]
        )

    def answer(self, group: _Group) -> Iterator[Any]:
        """The forecasts of a group as one batch."""
        try:
            panel = read_recent(self.model, group.frame).panel
        except ElmanError as error:
            raise self._named(error, group) from None
        self._check_zone(panel, group)
        origins = last_measured(panel, self.model.encoding.known)
        origins = origins[origins >= panel.offsets[:-1]]
        quantiles = self.side_by_side.forecast(panel, origins)
        table = forecast_frame(self.model, panel, quantiles, origins).to_arrow().cast(self.schema)
        yield from table.combine_chunks().to_batches()

    def _check_zone(self, panel: Panel, group: _Group) -> None:
        """Refuse times that the promised schema cannot tell."""
        if (panel.time_zone is None) == (self.time_zone is None):
            return
        if self.time_zone is None:
            raise DataError(
                f"{group.called()}: the times are of the zone {panel.time_zone}, but the model was trained on times without one: "
                f"give time_zone={panel.time_zone!r}, or times without a zone"
            )
        raise DataError(
            f"{group.called()}: the times are of no zone, but the model was trained on times of {self.time_zone}: give "
            f"time_zone={self.time_zone!r}, or times with their zone"
        )

    def _named(self, error: ElmanError, group: _Group) -> ElmanError:
        """The error with the batch, and the series where it is one that cannot be read."""
        found = self._culprit(group.frame)
        if found is None:
            return type(error)(f"{group.called()}: {error}")
        series, own = found
        return type(own)(f"series {str(series)!r} of {group.called(self.series_column, series)}: {own}")

    def _culprit(self, frame: pl.DataFrame) -> tuple[Any, ElmanError] | None:
        """A series that cannot be read, and what is said of it; None where the rows only fail together.

        The longest series stands behind the others, so that one that is merely short does not fail for that.
        """
        if self.series_column is None:
            return None
        counted = frame.group_by(self.series_column, maintain_order=True).len()
        names = counted.sort("len", descending=True, maintain_order=True)[self.series_column].to_list()
        longest, rest = names[0], names[1:]
        error = self._error(frame, [longest], None)
        if error is not None:
            return longest, error
        while rest:
            half = rest[: -(-len(rest) // 2)]
            error = self._error(frame, half, longest)
            if error is None:
                rest = rest[len(half) :]
            elif len(half) == 1:
                return half[0], error
            else:
                rest = half
        return None

    def _error(self, frame: pl.DataFrame, names: list[Any], longest: Any) -> ElmanError | None:
        column = pl.col(str(self.series_column))
        parts = [frame.filter(column.is_in(names)), *([frame.filter(column == longest)] if longest is not None else [])]
        if not parts[0].height:
            return None
        try:
            read_recent(self.model, pl.concat(parts, rechunk=True))
        except ElmanError as error:
            return error
        return None


@functools.lru_cache(maxsize=KEPT_MODELS)
def _load(path: str, written: tuple[int, int], reading: tuple[tuple[str, Any], ...]) -> _Loaded:
    """The model of a file; another one when the file was written again."""
    use_compilation_cache()
    model = SeriesModel.load(path)
    recent_settings(model, dict(reading))
    config = model.config.replace(**dict(reading))
    if config.series.series_column is None and model.encoding.names != ("",):
        config = config.replace(series_column=series_column(model))
    return _Loaded(replace(model, config=config))


def _arrow() -> Any:
    """pyarrow, loaded where it is used: it is an extra. Raises: `ConfigError` where it is not installed."""
    try:
        return importlib.import_module("pyarrow")
    except ImportError:
        raise ConfigError(
            "forecasts over Arrow batches need pyarrow, which is not installed: pip install 'elman[arrow]'"
        ) from None

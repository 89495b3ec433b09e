"""The forecaster as a Python program uses it: frames in, frames out of the same library, with the habits of scikit-learn.

from elman.series.forecaster import Forecaster

forecaster = Forecaster(target="T (degC)", horizon="24h", minutes=0.5).fit("jena.csv")
forecaster.predict()                                  # behind the rows it was fitted on
forecaster.predict(recent_rows)                       # behind new rows: at least a lookback of them
forecaster.update({"Date Time": "2017-01-01 00:00", "T (degC)": -4.8})
forecaster.save("jena.safetensors")
"""

import functools
import html
import importlib
import shutil
import tempfile
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from elman.config import Config, suggestion
from elman.errors import ConfigError, DataError, RunError
from elman.series.answers import last_measured, one_series
from elman.series.baselines.simple import default_baselines
from elman.series.forecasting import AbstractForecaster
from elman.series.model import SeriesModel
from elman.series.panel import Panel, Split
from elman.series.presets import preset as preset_settings
from elman.series.reading.frames import frame_of_pandas, is_pandas
from elman.series.recent import Recent, read_recent
from elman.series.results import write_evaluation
from elman.series.retraining import Retrained
from elman.series.run import SeriesRun
from elman.series.running import RunningForecast, forecast_latest
from elman.series.scoring.backtest import backtest
from elman.series.scoring.origins import first_observed
from elman.series.trainer import Prepared, fitted_baselines, reopen, train_series
from elman.training.progress import Reporter

_OWN = ("target", "horizon", "preset", "run")
_IN_ROWS = ("horizon", "lookback", "every", "step")


class Forecaster:
    """Forecasts a column of a table from its past and that of the others: `fit`, then `predict`, `update` or `backtest`.

    target: the column; None: the only one with numbers, or `y`. horizon: how far ahead, "24h" or a number of rows; None: that of
    the preset, or 24 h. preset: see `elman.series.presets`. run: a folder to keep the run in; None: one that goes with the
    forecaster. settings: any setting of `docs/settings.md` by name: hidden=64, minutes=2, path=True, series_column="station".

    Raises: `ConfigError` for settings that are unknown or impossible.

        >>> Forecaster("y", horizon="6h", hidden=8)
        Forecaster(target='y', horizon='6h', hidden=8)
        >>> Forecaster("y", hiden=8)
        Traceback (most recent call last):
        elman.errors.ConfigError: unknown setting 'hiden': did you mean 'hidden'?
    """

    def __init__(
        self,
        target: str | None = None,
        *,
        horizon: str | int | None = None,
        preset: str | None = None,
        run: str | Path | None = None,
        **settings: Any,
    ) -> None:
        self._parameters: dict[str, Any] = {"target": target, "horizon": horizon, "preset": preset, "run": run}
        self._parameters |= settings
        _checked(self._parameters)
        self._fitted: _Fitted | None = None

    # --- fitting ------------------------------------------------------------------------------------------------------------

    def fit(self, rows: Any, y: None = None, *, reporter: Reporter | None = None) -> "Forecaster":
        """Train on a table: a data frame of Polars or pandas, a file, folder, pattern, or a database's URI; returns the forecaster.

        y: nothing; it is there because scikit-learn hands it over. reporter: told how it goes.

        Raises: `ConfigError`, `DataError`, `RunError`, `TrainingError`.
        """
        if y is not None:
            raise DataError("y is not needed: the target is a column of the table, named by target=…")
        preset, settings = _checked(self._parameters)
        found: list[Prepared] = []
        folder = self._parameters["run"] or self._temporary_folder()
        run = train_series(
            rows,
            run=folder,
            preset=preset,
            reporter=reporter,
            prepared=lambda ready, _: found.append(ready),
            score=False,
            **settings,
        )
        if not run.best_path.exists():
            raise RunError(f"the training of {run.path} was interrupted before it had a model: fit it again")
        self._fitted = _Fitted(run.model(), run, found[0], _library(rows))
        return self

    def predict(self, rows: Any = None) -> Any:
        """Forecasts behind the last row of each series: a frame with a row for each series and step ahead.

        rows: at least a lookback of them, read as the training rows were, in any series; None: those it was fitted on. Columns:
        the series, `origin`, `time`, the point forecast under the target's name, and one for each level of the quantiles (`q05`).
        The frame is of the library of `rows` (of those it was fitted on, if None); of pandas with an index of `time` where the rows
        had an index of times. What looks odd in the rows is told by `warnings_`.

        Raises: `DataError` for rows that do not fit (`read_recent`).
        """
        fitted = self._need()
        if rows is None:
            panel, library = fitted.panel, fitted.library
        else:
            recent = self._read(rows)
            panel, library = recent.panel, _library(rows)
        return _given_back(forecast_latest(fitted.model, panel), library)

    def follow(self, rows: Any = None) -> "Forecaster":
        """Begin to run along behind these rows (None: those it was fitted on), from where `update` goes on.

        Returns the forecaster. Raises: `DataError` for rows that do not fit (`read_recent`).
        """
        fitted = self._need()
        if rows is None:
            ready = self._ready(fitted)
            written = {"time_column": ready.time_column, "time_format": ready.time_format}
            fitted.running = RunningForecast(fitted.model, fitted.panel, **written)
            return self
        recent = self._read(rows)
        written = {"time_column": recent.time_column, "time_format": recent.time_format}
        fitted.running = RunningForecast(fitted.model, recent.panel, **written)
        fitted.library = _library(rows)
        return self

    def update(self, row: Any) -> Any:
        """Take a new row and give the forecast behind it, at the same cost for each row, however many came before.

        row: a dictionary of columns, the time among them; a tuple of the time and such a dictionary, or of the time and all values
        in the order of the columns; or a frame of one or several rows. It goes on from where `follow` began, or from the rows it
        was fitted on; the numbers are those of `predict` on all rows, to the last bit. In a dictionary, what is not there is
        missing, and a column that the model does not know is an error; of a frame other columns are passed over, as when it is
        read. Of several series only the row's own is forecast.

        Raises: `DataError` for times that run backwards, stand already, lie beside the grid or too far ahead, and for odd values.
        """
        fitted = self._need()
        if fitted.running is None:
            self.follow()
        running = fitted.running
        assert running is not None
        if isinstance(row, Mapping | tuple):
            return _given_back(running.update(row), fitted.library)
        if not is_pandas(row) and not isinstance(row, pl.DataFrame):
            raise DataError(
                f"a {type(row).__name__} is no row: give a dictionary, a tuple of time and values, or a frame"
            )
        library = _library(row)
        frame = frame_of_pandas(row) if is_pandas(row) else row
        answer = None
        for cells in _known_columns(frame, fitted.model, running.time_column).iter_rows(named=True):
            answer = running.update(cells)
        if answer is None:
            raise DataError("the frame has no rows: there is nothing to take")
        return _given_back(answer, library)

    # --- scoring ------------------------------------------------------------------------------------------------------------

    def backtest(
        self,
        rows: Any = None,
        *,
        stride: int | None = None,
        refit_every: int | None = None,
        start: float | None = None,
        baselines: bool = True,
        reporter: Reporter | None = None,
    ) -> dict[str, Any]:
        """What would have been forecast at rolling origins, the network's score beside the baselines': see `series.backtest`.

        rows: None: those it was fitted on, from the end of the validation part on. stride: rows from one origin to the next; None:
        the horizon. refit_every: train anew, network and baselines, at every so many moments, on the rows known by then. start:
        share of the rows before the first origin; None: all that was trained and calibrated on, and half of new rows. What lies
        before the start is what the baselines learn from, where they are not fitted anew.

        Raises: `DataError`, `ConfigError`.
        """
        fitted = self._need()
        model, reporter = fitted.model, reporter or Reporter()
        if start is not None and not 0 < start < 1:
            raise ConfigError(f"start = {start!r} is not possible: a share of the rows between 0 and 1")
        panel = fitted.panel if rows is None else self._read(rows, forecasting=False).panel
        if rows is None and start is None:
            assert fitted.ready is not None
            split = fitted.ready.split
            ends = split.validation_ends if (split.validation_ends < panel.offsets[1:]).any() else split.training_ends
        else:
            ends = Split.of(panel, f"{100 * (start or 0.5)}/0/{100 - 100 * (start or 0.5)}").training_ends
            ends = np.minimum(np.maximum(ends, panel.offsets[:-1] + model.lookback), panel.offsets[1:])
        others = default_baselines(panel, model.horizon, ends) if baselines else []
        for number, baseline in enumerate(others):
            reporter.working(f"fitting {baseline.name}", number / len(others))
            baseline.fit(panel, model.horizon, ends)

        def progress(done: int, total: int) -> None:
            reporter.working("backtest", done / max(1, total))

        trained: AbstractForecaster = model
        if fitted.run is not None and fitted.ready is not None and rows is None:
            trained = fitted.run.forecaster(fitted.ready.split)
        result = backtest(
            [trained if refit_every is None else Retrained(model, reporter), *others],
            panel,
            model.horizon,
            start=ends,
            stride=model.horizon.furthest if stride is None else stride,
            refit_every=refit_every,
            progress=progress,
        )
        reporter.pause()
        return result

    def evaluate(self, *, reporter: Reporter | None = None) -> dict[str, Any]:
        """Scores of the validation and the test part beside all baselines, as `elman evaluate --json` prints them.

        Computed once, and kept in the run's `evaluation.json`. Raises: `DataError` for a forecaster that was loaded from a bundle.
        """
        fitted = self._need()
        if fitted.scores is None and fitted.run is not None and _has_baselines(fitted.run.evaluation):
            fitted.scores = fitted.run.evaluation
        if fitted.scores is None:
            ready, quiet = self._ready(fitted), reporter or Reporter()
            others = fitted_baselines(ready, quiet)
            if fitted.run is not None:
                parts = ready.panel, ready.split, ready.report, others, quiet
                fitted.scores = write_evaluation(fitted.run, *parts)
        assert fitted.scores is not None
        return fitted.scores

    # --- keeping ------------------------------------------------------------------------------------------------------------

    def save(self, path: str | Path) -> None:
        """Write the bundle: one file with the network and all it takes to forecast; not the rows it was fitted on."""
        self._need().model.save(path)

    @classmethod
    def load(cls, path: str | Path) -> "Forecaster":
        """A fitted forecaster from a bundle or a run folder; the rows of a run are read again when they are asked for.

        Raises: `BundleError`, `RunError`.
        """
        model = SeriesModel.load(path)
        settings = model.config.to_dict("series")
        chosen = {name: value for values in settings.values() for name, value in values.items()}
        defaults = {name: value for values in Config().to_dict("series").values() for name, value in values.items()}
        changed = {name: value for name, value in chosen.items() if name not in defaults or value != defaults[name]}
        forecaster = cls(**{"target": model.encoding.target, "horizon": model.config.series.horizon, **changed})
        run = SeriesRun(path) if Path(path).is_dir() else None
        forecaster._fitted = _Fitted(model, run, None, _Library())
        return forecaster

    # --- scikit-learn -------------------------------------------------------------------------------------------------------

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Everything it was constructed with, by name. deep: nothing, as there is nothing inside."""
        return dict(self._parameters)

    def set_params(self, **changes: Any) -> "Forecaster":
        """Change what it was constructed with; takes effect when it is fitted again. Raises: `ConfigError`, and nothing changes."""
        _checked({**self._parameters, **changes})
        self._parameters |= changes
        return self

    def __repr__(self) -> str:
        given = ((name, value) for name, value in self._parameters.items() if value is not None)
        return f"Forecaster({', '.join(f'{name}={value!r}' for name, value in given)})"

    def _repr_html_(self) -> str:
        """What a notebook shows: itself, and the newest forecast as a small picture where there is one."""
        text = f"<p><code>{html.escape(repr(self))}</code></p>"
        fitted = self._fitted
        if fitted is None or fitted.ready is None:
            return text
        return text + _picture(fitted.model, fitted.panel)

    # --- what it knows ------------------------------------------------------------------------------------------------------

    @property
    def model_(self) -> SeriesModel:
        """The trained model."""
        return self._need().model

    @property
    def run_(self) -> SeriesRun | None:
        """The run it was trained in; None for a bundle."""
        return self._need().run

    @property
    def warnings_(self) -> tuple[str, ...]:
        """What looked odd in the rows that were given last, one sentence each."""
        return self._need().warnings

    def __sklearn_is_fitted__(self) -> bool:
        return self._fitted is not None

    def _need(self) -> "_Fitted":
        if self._fitted is None:
            raise DataError("this forecaster is not fitted yet: call fit with a table first, or load a model")
        return self._fitted

    def _read(self, rows: Any, *, forecasting: bool = True) -> Recent:
        fitted = self._need()
        recent = read_recent(fitted.model, rows, forecasting=forecasting)
        fitted.warnings = recent.warnings
        return recent

    @staticmethod
    def _ready(fitted: "_Fitted") -> Prepared:
        fitted.panel  # noqa: B018  reads the rows of a run again
        assert fitted.ready is not None
        return fitted.ready

    def _temporary_folder(self) -> Path:
        """A folder that is removed with the forecaster."""
        folder = Path(tempfile.mkdtemp(prefix="elman-forecaster-"))
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        return folder / "run"


@dataclass(frozen=True)
class _Library:
    """The kind of frame that is given back. index: whether its rows are named by their times."""

    pandas: bool = False
    index: bool = False


@dataclass(eq=False)
class _Fitted:
    """What a fitted forecaster holds."""

    model: SeriesModel
    run: SeriesRun | None
    ready: Prepared | None
    library: _Library
    running: RunningForecast | None = None
    warnings: tuple[str, ...] = ()
    scores: dict[str, Any] | None = None

    @property
    def panel(self) -> Panel:
        """The rows it was fitted on."""
        if self.ready is None:
            if self.run is None:
                raise DataError("a bundle does not hold the rows it was trained on: give recent rows")
            self.ready = reopen(self.run)
        return self.ready.panel


def _has_baselines(scores: dict[str, Any]) -> bool:
    return any(scores.get(part, {}).get("best_baseline") for part in ("test", "validation"))


def _checked(parameters: Mapping[str, Any]) -> tuple[str | None, dict[str, Any]]:
    """The preset and the settings behind the parameters. Raises: `ConfigError`."""
    settings = {name: value for name, value in parameters.items() if name not in ("preset", "run")}
    preset, run = parameters["preset"], parameters["run"]
    chosen = preset_settings(preset) if preset is not None else {}
    if not isinstance(run, str | Path | None):
        raise ConfigError(f"run = {run!r} is not possible: the name of a folder")
    for name in _IN_ROWS:
        # A number of rows may be a number in Python.
        if type(settings.get(name)) is int:
            settings[name] = str(settings[name])
    for name in ("target", "horizon"):
        if settings[name] is None:
            del settings[name]
    unknown = [name for name in settings if name not in _names_of_settings()]
    if unknown:
        raise ConfigError(f"unknown setting {unknown[0]!r}{suggestion(unknown[0], (*_OWN, *_names_of_settings()))}")
    Config().replace(**_without_other_budgets({**chosen, **settings}, settings))
    return preset, settings


def _without_other_budgets(everything: dict[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """A budget that is given goes over the preset's, of whatever kind."""
    budgets = ("minutes", "steps", "epochs")
    if not any(given.get(budget) is not None for budget in budgets):
        return everything
    return {name: value for name, value in everything.items() if name not in budgets or name in given}


@functools.cache
def _names_of_settings() -> tuple[str, ...]:
    values = Config()
    groups = (values.network, values.training, values.series)
    return tuple(name for group in groups for name in vars(group))


def _library(rows: Any) -> _Library:
    if not is_pandas(rows):
        return _Library()
    values = rows.index
    return _Library(pandas=True, index=getattr(values.dtype, "kind", "O") == "M")


def _known_columns(frame: pl.DataFrame, model: SeriesModel, time_column: str | None) -> pl.DataFrame:
    """The columns of a frame of new rows that a row may have. Raises: `DataError` where one of the model's is missing."""
    from_model = model.encoding.columns
    for name in from_model:
        if name not in frame.columns:
            raise DataError(f"the frame has no column {name!r}{suggestion(name, frame.columns)}")
    others = {time_column, "time", model.config.series.series_column or "unique_id"}
    kept = [name for name in frame.columns if name in from_model or name in others or frame.schema[name].is_temporal()]
    return frame.select(kept)


def _given_back(answer: pl.DataFrame, library: _Library) -> Any:
    """The answer in the library that was given."""
    if not library.pandas:
        return answer
    pandas = importlib.import_module("pandas")
    columns = {}
    for column in answer.get_columns():
        kind = column.dtype
        if isinstance(kind, pl.Datetime):
            stamps = pandas.DatetimeIndex(column.dt.convert_time_zone("UTC").dt.replace_time_zone(None).to_numpy())
            if kind.time_zone is not None:
                stamps = stamps.tz_localize("UTC").tz_convert(kind.time_zone)
            columns[column.name] = stamps
        else:
            columns[column.name] = column.to_list() if kind == pl.String else column.to_numpy()
    frame = pandas.DataFrame(columns)
    return frame.set_index("time") if library.index and "time" in frame else frame


def _picture(model: SeriesModel, panel: Panel) -> str:
    """The newest forecast of the first series behind its last rows, as a small SVG: a line, and the outermost interval."""
    panel = one_series(panel, 0)
    origin = int(last_measured(panel, model.encoding.known)[0])
    if origin < int(first_observed(panel)[0]):
        return ""
    horizon = model.horizon
    said = model.forecast(panel, np.asarray([origin]))[0]
    begin = max(0, origin + 1 - 3 * max(horizon.furthest, 24))
    past = panel.column(horizon.target)[begin : origin + 1]
    rows = np.arange(begin, origin + 1)[~np.isnan(past)]
    past = past[~np.isnan(past)]
    if not len(past) or np.isnan(said).any():
        return ""
    ahead = origin + np.asarray(horizon.rows)
    low, high = min(past.min(), said.min()), max(past.max(), said.max())
    width, height = 480, 120

    def points(numbers: np.ndarray, values: np.ndarray) -> str:
        across = (numbers - begin) / max(1, ahead[-1] - begin) * width
        down = height - (values - low) / max(high - low, 1e-9) * (height - 8) - 4
        return " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(across, down, strict=True))

    outer = np.concatenate([ahead, ahead[::-1]]), np.concatenate([said[:, 0], said[::-1, -1]])
    style = 'fill="none" stroke-width="1.5"'
    return (
        f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
        f'aria-label="the newest forecast of {html.escape(horizon.target)}">'
        f'<polygon points="{points(*outer)}" fill="#8ab4d8" stroke="#8ab4d8" fill-opacity="0.5"/>'
        f'<polyline points="{points(rows, past)}" {style} stroke="#555"/>'
        f'<polyline points="{points(np.concatenate([rows[-1:], ahead]), np.concatenate([past[-1:], said[:, horizon.middle]]))}" '
        f'{style} stroke="#1f6fb2"/></svg>'
    )

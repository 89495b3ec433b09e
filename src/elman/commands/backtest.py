"""`elman backtest`: what would have been forecast, had one stood at each of many moments of the past."""

import argparse
import datetime
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl

from elman.commands.kinds import refuse_text
from elman.commands.output import print_json, reporting, warn
from elman.commands.series_input import Question, read_question
from elman.commands.series_output import (
    PICTURES,
    TABLES,
    check_output,
    print_errors,
    print_outcome,
    save_picture,
    save_table,
)
from elman.errors import ConfigError
from elman.reports.forecasts import error_figure
from elman.series.answers import quantile_name, series_column
from elman.series.baselines.simple import default_baselines
from elman.series.cleaning.findings import moment
from elman.series.cleaning.units import unit_of
from elman.series.durations import rows_of
from elman.series.forecasting import AbstractForecaster
from elman.series.panel import Panel, Split
from elman.series.retraining import Retrained
from elman.series.scoring.backtest import backtest
from elman.series.scoring.calibration import Calibration
from elman.series.scoring.origins import part_origins
from elman.series.scoring.scores import calibrate, compared, series_scales, verdict
from elman.training.engine import use_compilation_cache
from elman.training.progress import Reporter


def run(parsed: argparse.Namespace) -> int:
    """Forecast at every origin, score, print and write."""
    refuse_text(parsed.model)
    output = check_output(parsed.output, TABLES, "--output")
    picture = check_output(parsed.picture, PICTURES, "--picture")
    use_compilation_cache()
    with reporting(quiet=parsed.quiet) as reporter:
        question = read_question(parsed, parsed.input, "INPUT", reporter)
        result = _backtest(question, parsed, reporter)
    table = result.pop("table")
    if output is not None:
        save_table(every_forecast(table, question.ready.panel, result["levels"], series_column(question.model)), output)
    if picture is not None:
        save_picture(error_figure(result), picture, f"{result['target']}: error of the backtest")
    if parsed.json:
        print_json({"run": parsed.model, **result, "warnings": list(question.warnings)})
        return 0
    print_outcome(result)
    print_errors(result)
    times = "once" if result["refits"] == 1 else f"{result['refits']:,} times"
    print(f"\n{result['origins']:,} forecasts from {result['start']} on, one every {result['stride']}")
    if result["refits"]:
        print(f"every forecaster was trained anew {times}")
    for words, file in (("every forecast", output), ("picture", picture)):
        if file is not None:
            print(f"{words}:  {file}")
    return 0


def _backtest(question: Question, parsed: argparse.Namespace, reporter: Reporter) -> dict[str, Any]:
    """The result of `series.backtest` with who wins: `verdict`, `test`, and what `print_scores` takes."""
    model, ready = question.model, question.ready
    panel, horizon = ready.panel, model.horizon
    start = _start(parsed.start, question)
    stride = rows_of(parsed.stride, panel.step, "stride")
    refit = parsed.refit_every is not None
    # After a refit with the validation part the run's intervals are calibrated with the weights that had not seen it.
    trained = model if question.run is None else question.run.forecaster(ready.split)
    network: AbstractForecaster = Retrained(model, reporter) if refit else trained
    others, calibrations = (
        (default_baselines(panel, horizon, start), {}) if refit else _fitted(question, trained, start, reporter)
    )

    def progress(done: int, total: int) -> None:
        reporter.working("forecasting the past", done / max(1, total))

    result = backtest(
        [network, *others],
        panel,
        horizon,
        start=start,
        stride=stride,
        refit_every=parsed.refit_every,
        calibrations=calibrations,
        progress=progress,
    )
    test = compared(result["figures"], model.name)
    return {
        "verdict": verdict(test, model.name, horizon.target, result["horizon"]),
        "unit": unit_of(horizon.target),
        "main": model.name,
        "start": moment(int(panel.times[np.minimum(start, panel.offsets[1:] - 1)].min())),
        "stride": str(panel.step * stride),
        "test": test,
        "baselines": test["baselines"],
        **result,
    }


def _fitted(
    question: Question, network: AbstractForecaster, start: np.ndarray, reporter: Reporter
) -> tuple[list[AbstractForecaster], dict[str, Calibration]]:
    """The baselines, fitted and calibrated on what lies before the start, as they are in `elman evaluate`."""
    ready, split = question.ready, question.ready.split
    panel, horizon = ready.panel, question.model.horizon
    behind = question.run is not None and bool((start >= split.validation_ends).all())
    if question.run is not None and not behind:
        first = moment(int(panel.times[np.minimum(split.validation_ends, panel.row_count - 1)].min()))
        warn(
            f"the network has learned from rows behind the start of this backtest, which flatters it: "
            f"--start {first.replace(' ', 'T')} is the first honest one, or use --refit-every"
        )
    ends = split.training_ends if behind else start
    others = default_baselines(panel, horizon, ends)
    for number, baseline in enumerate(others):
        reporter.working(f"fitting {baseline.name}", number / len(others))
        baseline.fit(panel, horizon, ends)
    if not behind:
        return others, {}
    origins = part_origins(panel, horizon, split.training_ends, split.validation_ends)
    scales = series_scales(panel, horizon, start)
    return others, {one.name: calibrate(one, panel, horizon, origins, scales)[0] for one in [network, *others]}


def _start(text: str | None, question: Question) -> np.ndarray:
    """The row of each series at which the backtest begins.

    Raises: `ConfigError` for what is neither a percentage nor a date, or lies outside of the table.
    """
    panel, split = question.ready.panel, question.ready.split
    if text is None:
        return split.validation_ends if question.run is not None else split.training_ends
    try:
        percent = float(text.strip().removesuffix("%"))
    except ValueError:
        return _at_date(text, panel)
    if not 0 < percent < 100:
        raise ConfigError(f"--start {text} is not possible: a percentage from above 0 to below 100, or a date")
    return Split.of(panel, f"{percent}/0/{100 - percent}").training_ends


def _at_date(text: str, panel: Panel) -> np.ndarray:
    try:
        when = datetime.datetime.fromisoformat(text.strip())
    except ValueError:
        raise ConfigError(
            f"--start {text} is not possible: give a percentage of the rows, such as 70, or a date, such as 2016-01-31"
        ) from None
    if panel.time_zone is not None:
        when = when if when.tzinfo else when.replace(tzinfo=ZoneInfo(panel.time_zone))
        when = when.astimezone(datetime.UTC)
    time = (when.replace(tzinfo=None) - datetime.datetime(1970, 1, 1)) // datetime.timedelta(microseconds=1)
    if not panel.times.min() < time <= panel.times.max():
        raise ConfigError(
            f"--start {text} lies outside of the table, which reaches from {moment(int(panel.times.min()))} to "
            f"{moment(int(panel.times.max()))}"
        )
    bounds = zip(panel.offsets[:-1], panel.offsets[1:], strict=True)
    return np.asarray([a + np.searchsorted(panel.times[a:b], time) for a, b in bounds], np.int64)


def every_forecast(table: dict[str, Any], panel: Panel, levels: list[float], series_column: str) -> pl.DataFrame:
    """A row for each forecaster, origin and step: when it was made, for when, what came and what was said at every level."""
    frames = []
    for name, said in table["forecasts"].items():
        columns = {
            "forecaster": pl.repeat(name, len(said), eager=True),
            "origin": _times(table["origin_time"], panel),
            "time": _times(table["time"], panel),
            "rows_ahead": pl.Series(table["step"]),
            "actual": pl.Series(table["actual"], nan_to_null=True),
            **{quantile_name(level): pl.Series(said[:, k], nan_to_null=True) for k, level in enumerate(levels)},
        }
        if panel.series_count > 1 or panel.names != ("",):
            names = pl.Series(panel.names)
            columns = {series_column: names.gather(table["series"]), **columns}
        frames.append(pl.DataFrame(columns))
    return pl.concat(frames)


def _times(times: np.ndarray, panel: Panel) -> pl.Series:
    moments = pl.Series(times.astype(np.int64)).cast(pl.Datetime("us"))
    if panel.time_zone is None:
        return moments
    return moments.dt.replace_time_zone("UTC").dt.convert_time_zone(panel.time_zone)

"""A forecaster and the table that it is asked about: the run's own, or another one."""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from elman.commands import given_settings
from elman.commands.output import warn
from elman.errors import ConfigError, DataError
from elman.series.model import SeriesModel
from elman.series.panel import Split
from elman.series.recent import READING, read_recent
from elman.series.run import SeriesRun
from elman.series.trainer import Prepared, locate, read_description, reopen
from elman.training.progress import Reporter
from elman.training.runs import Run


@dataclass(frozen=True, eq=False)
class Question:
    """A model and a table. run: the run whose own table it is; None: another table, that was not trained on."""

    model: SeriesModel
    ready: Prepared
    run: SeriesRun | None
    warnings: tuple[str, ...] = ()


def read_question(
    parsed: argparse.Namespace, source: str | None, flag: str, reporter: Reporter, *, forecasting: bool = False
) -> Question:
    """The model, and the table `source` or else the run's own; what is odd about the table is said on standard error.

    flag: how a table is named on the command line, for the message where there is none. forecasting: whether what is known in
    advance must be there up to the horizon.

    Raises: `DataError` for a table that does not fit, `BundleError` and `RunError` for a model that cannot be read.
    """
    model = SeriesModel.load(parsed.model)
    folder = Path(parsed.data_dir) if parsed.data_dir else None
    overrides = _overrides(parsed)
    if source is None:
        if overrides:
            given = ", ".join(f"--{name.replace('_', '-')}" for name in overrides)
            raise ConfigError(f"{given} is about how another table is written: name the table with {flag}")
        return Question(model, *_own_table(parsed.model, folder, flag, reporter))
    if "://" not in source:
        overrides.setdefault("query", None)  # of the database that the model was trained from
    found, _ = locate(source, folder, reporter)
    recent = read_recent(model, found, forecasting=forecasting, progress=reporter.working, overrides=overrides)
    reporter.pause()
    for words in recent.warnings:
        warn(words)
    split = Split.of(recent.panel, model.config.series.split)
    ready = Prepared(recent.panel, recent.report, split, model.horizon, model.encoding, model.config, "")
    return Question(model, ready, None, tuple(recent.warnings))


def _overrides(parsed: argparse.Namespace) -> dict[str, Any]:
    return {name: value for name, value in given_settings(parsed, "series").items() if name in READING}


def _own_table(path: str, data_folder: Path | None, flag: str, reporter: Reporter) -> tuple[Prepared, SeriesRun]:
    if not Path(path).is_dir():
        raise DataError(f"{path} is a bundle, which holds no rows: name a table with {flag}, or give its run folder")
    run = Run(path)
    _, facts = read_description(run)
    if not facts["input"]:
        raise DataError(f"{path} was trained on a data frame, which is not kept: name a table with {flag}")
    if data_folder is None:
        return reopen(run, reporter), SeriesRun(path)
    found, _ = locate(facts["input"], data_folder, reporter)
    return reopen(run, reporter, source=found), SeriesRun(path)

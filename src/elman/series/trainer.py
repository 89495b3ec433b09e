"""From a table to a trained forecaster: reads and repairs it, fills in the settings, makes the run folder, starts the loop."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import elman
from elman.config import GROUPS, Config
from elman.errors import ConfigError, DataError, RunError
from elman.series.baselines.simple import default_baselines
from elman.series.cleaning.findings import DataReport
from elman.series.cleaning.grid import to_panel
from elman.series.cleaning.inspection import inspect
from elman.series.cleaning.targets import check_target, choose_target
from elman.series.encoding import Encoding
from elman.series.forecasting import AbstractForecaster
from elman.series.mapped.choosing import LargeTable, large_table
from elman.series.mapped.preparing import mapped_table
from elman.series.mapped.storing import remembered
from elman.series.model import SeriesModel, horizon_of, new_network
from elman.series.panel import Horizon, Panel, Split
from elman.series.presets import check_lengths, resolve, resolve_rows
from elman.series.presets import preset as preset_settings
from elman.series.reading.stations import find_table
from elman.series.reading.tables import read_table
from elman.series.results import write_evaluation
from elman.series.run import CHOSEN_NAME, REFIT_NAME, SeriesRun
from elman.series.task import SeriesTask
from elman.training.distribution import Alone, Group
from elman.training.downloads import chosen_data_folder
from elman.training.engine import precision, use_compilation_cache
from elman.training.interrupts import interruptible
from elman.training.loop import Trainer
from elman.training.progress import Reporter
from elman.training.runs import Run, default_run_path

RUN_FORMAT = 1


@dataclass(frozen=True, eq=False)
class Prepared:
    """A table that is ready to be trained on: what `prepare` found out before the first update."""

    panel: Panel
    report: DataReport
    split: Split
    horizon: Horizon
    encoding: Encoding
    config: Config
    digest: str
    time_column: str | None = None
    time_format: str | None = None

    @property
    def sentinels(self) -> dict[str, list[float]]:
        """By column of the panel, the numbers that were found to mean "missing"."""
        columns = (facts for facts in self.report.columns if facts.name in self.panel.columns)
        return {facts.name: list(facts.sentinels) for facts in columns if facts.sentinels}

    @property
    def facts(self) -> dict[str, Any]:
        """What the log's first line says of the data."""
        starts = self.panel.offsets[:-1]
        return {
            "training_rows": int((self.split.training_ends - starts).sum()),
            "validation_rows": int((self.split.validation_ends - self.split.training_ends).sum()),
            "rows": self.panel.row_count,
            "series": self.panel.series_count,
            "inputs": self.encoding.names_of_inputs()[:200],
        }


def train_series(
    source: Any,
    *,
    run: Path | str | None = None,
    preset: str | None = None,
    data_folder: Path | None = None,
    reporter: Reporter | None = None,
    prepared: Callable[[Prepared, Run], None] | None = None,
    baselines: bool = True,
    score: bool = True,
    group: Alone | None = None,
    **settings: Any,
) -> SeriesRun:
    """Train a forecaster on a table, and return the run.

    source: a file, folder, pattern, data frame or database URI (`read_table`), or a table by name: jena, jena-2020, weather.
    run: the run folder; None: a new one in `runs/`. preset: see `PRESETS`; `settings` go over it. prepared: called before the
    first update. score: evaluate the network at the end, beside fitted `baselines`. group: the processes that train together, of
    which this one leads; the others call `follow_series`. settings: any of `docs/settings.md` by name.

    Raises: `ConfigError`, `DataError`, `RunError`, `TrainingError`.
    """
    reporter = reporter or Reporter()
    config = Config().replace(**_over_preset(preset, settings))
    found, name = locate(source, data_folder, reporter)
    ready = prepare(found, config, reporter)
    (group or Alone()).part(ready.config.training.batch or 1)  # whether it can be shared, before anything is made
    run_path = Path(run) if run is not None else default_run_path(_run_name(name, preset))
    use_compilation_cache()
    corpora_in = chosen_data_folder(data_folder)
    from_file = isinstance(found, str | Path)
    description = {
        "run": {
            "format": RUN_FORMAT,
            "task": "series",
            "elman": elman.__version__,
            "input": _absolute(source) if from_file else "",
            "digest": ready.digest,
            "baselines": baselines,
            **({"preset": preset} if preset else {}),
            **({"data_folder": str(corpora_in.absolute())} if corpora_in else {}),
        },
        **ready.config.to_dict("series"),
    }
    folder = Run.create(run_path, description)
    return _train(ready, folder, reporter, prepared, baselines, group or Alone(), resume=False, score=score)


def resume_series(
    path: Path | str,
    *,
    source: Any = None,
    reporter: Reporter | None = None,
    prepared: Callable[[Prepared, Run], None] | None = None,
    group: Alone | None = None,
) -> SeriesRun:
    """Go on with a run from its last checkpoint, bit for bit as if it had never stopped; a run that is over is returned as it is.

    source: the data frame, where the run was trained on one; a file is found again.

    Raises: `RunError` when the run is in use or damaged, `DataError` when its table is no longer the same.
    """
    reporter = reporter or Reporter()
    run = Run(path)
    _, facts = read_description(run)
    checkpoint = run.checkpoints.latest()
    group = group or Alone()
    if checkpoint is not None and checkpoint.state.get("ended") and (run.path / "evaluation.json").exists():
        group.send_text("")
        return SeriesRun(run.path)
    ready = reopen(run, reporter, source=source)
    use_compilation_cache()
    resume = checkpoint is not None
    return _train(ready, run, reporter, prepared, facts.get("baselines", True), group, resume=resume)


def follow_series(group: Group) -> None:
    """Train along with the process that leads: what to train on what comes from it, the table is found here under the same name.

    Raises: `DataError` where the table here is another one, `TrainingError` where another process is gone.
    """
    while text := group.send_text(""):
        told = json.loads(text)
        config = Config.from_dict(told["config"])
        folder = told["data_folder"]
        found, _ = locate(told["input"], Path(folder) if folder else None, Reporter())
        ready = prepare(found, config)
        if ready.digest != told["digest"]:
            raise DataError(f"the table here is not that of the first process ({told['input']}): bring the same file")
        use_compilation_cache()
        ready = _with_validation(ready) if told["refit"] else ready
        with precision(config.training.dtype):
            task = SeriesTask(ready.panel, ready.split, ready.encoding, config, ready.sentinels, group)
            network = new_network(config, ready.encoding)
            Trainer(task, network, config.training, None, reporter=Reporter(), group=group).follow()


def reopen(run: Run, reporter: Reporter | None = None, *, source: Any = None) -> Prepared:
    """The table of a run, read again and ready as it was.

    Raises: `DataError` where it is no longer the same, or was a data frame and `source` is not given.
    """
    reporter = reporter or Reporter()
    config, facts = read_description(run)
    given = facts["input"] if source is None else source
    if isinstance(given, str) and not given:
        raise DataError(
            f"{run.path} was trained on a data frame, which is not kept: give the frame, or a file with --data"
        )
    folder = facts.get("data_folder")
    found, _ = locate(given, Path(folder) if folder else None, reporter)
    ready = prepare(found, config, reporter)
    if ready.digest != facts["digest"]:
        raise DataError(
            f"the table of {run.path} has changed since the run began ({facts['input'] or 'a data frame'}): restore it, "
            f"or start a new run"
        )
    return ready


def read_description(run: Run) -> tuple[Config, dict[str, Any]]:
    """The settings of a series run, and what its `[run]` table says.

    Raises: `RunError` when the run is of another task or format, or its table is incomplete.
    """
    tables, facts = run.settings_and_facts("series", RUN_FORMAT)
    if not all(isinstance(facts.get(name), str) for name in ("input", "digest")):
        raise RunError(
            f"{run.path / 'config.toml'} does not say which table the run is about (input, digest): it is damaged; "
            f"restore it from a copy, or start a new run"
        )
    return Config.from_dict({group: values for group, values in tables.items() if group in GROUPS}), facts


def locate(source: Any, data_folder: Path | None, reporter: Reporter) -> tuple[Any, str]:
    """The file behind a table's name, or the source as it is; and a short name for it."""
    if isinstance(source, str | Path):
        found = find_table(str(source), data_folder=data_folder, progress=reporter.working)
        reporter.pause()
        text = str(source)
        stem = "database" if "://" in text else Path(text.rstrip("/")).name.split(".")[0]
        return (source if found is None else found), stem
    return source, "frame"


def prepare(source: Any, config: Config, reporter: Reporter | None = None) -> Prepared:
    """Read, inspect, repair and split the table, and fill in the settings that were left to the program."""
    reporter = reporter or Reporter()
    try:
        large = large_table(source, config.series)
        if large is not None:
            return _prepare_mapped(large, config, reporter)
        table = read_table(source, config.series, progress=reporter.working)
        reporter.working("inspecting", 0.0)
        target = choose_target(table, config.series)
        config = config.replace(target=target)
        report = inspect(table, config.series)
        check_target(report, target)
        panel = to_panel(table, report, config.series)
    finally:
        reporter.pause()
    name, digest, written = table.source, table.digest, (table.time_column, table.time_format)
    del table  # the largest thing in memory, and not needed any more
    config = resolve_rows(config, panel.step)
    split = Split.of(panel, config.series.split)
    check_lengths(config, panel, split, name)
    horizon = horizon_of(config, panel.step, target)
    encoding = Encoding.fit(panel, split.training_ends, horizon, config.series)
    config = resolve(config, panel, split, encoding.input_size)
    return Prepared(panel, report, split, horizon, encoding, config, digest, *written)


def _prepare_mapped(large: LargeTable, config: Config, reporter: Reporter) -> Prepared:
    """`prepare` for a table that does not fit into memory."""
    if config.series.method == "windows":
        raise ConfigError(
            f"method = 'windows' is not possible for {large.name}, which does not fit into memory: leave it out, streams walk it"
        )
    table = mapped_table(large, config.series, reporter.working)
    panel = table.panel
    config = resolve_rows(config.replace(target=table.target), panel.step)
    series, horizon = config.series, horizon_of(config, panel.step, table.target)
    about = [
        panel.folder.name,
        series.split,
        list(horizon.rows),
        table.target,
        list(series.known),
        list(series.calendar),
    ]

    def learn() -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        reporter.working("measuring the training part", 0.0)
        split = Split.of(panel, series.split)
        check_lengths(config, panel, split, large.name)
        encoding = Encoding.fit(panel, split.training_ends, horizon, series)
        ends = {"training_ends": split.training_ends, "validation_ends": split.validation_ends}
        return encoding.to_dict(), {**encoding.arrays(), **ends}

    name = hashlib.sha256(json.dumps(about).encode()).hexdigest()[:16]
    values, arrays = remembered(panel.folder / f"learned-{name}.npz", about, learn)
    split = Split(arrays.pop("training_ends"), arrays.pop("validation_ends"))
    check_lengths(config, panel, split, large.name)
    encoding = Encoding.from_parts(values, arrays)
    config = resolve(config, panel, split, encoding.input_size)
    facts = table.digest, table.time_column, table.time_format
    return Prepared(panel, table.report, split, horizon, encoding, config, *facts)


def fitted_baselines(ready: Prepared, reporter: Reporter) -> list[AbstractForecaster]:
    """Every baseline that the data allows, fitted on the training part."""
    baselines = default_baselines(ready.panel, ready.horizon, ready.split.training_ends)
    for number, baseline in enumerate(baselines):
        reporter.working(f"fitting {baseline.name}", number / len(baselines))
        baseline.fit(ready.panel, ready.horizon, ready.split.training_ends)
    reporter.pause()
    return baselines


def _train(
    ready: Prepared,
    run: Run,
    reporter: Reporter,
    prepared: Callable[[Prepared, Run], None] | None,
    baselines: bool,
    group: Alone,
    *,
    resume: bool,
    score: bool = True,
) -> SeriesRun:
    if prepared is not None:
        prepared(ready, run)
    result = SeriesRun(run.path)
    if not result.refitted:
        ending = _run(ready, run, reporter, group, resume=resume)
        if ending != "interrupted" and ready.config.series.refit and run.best_path.exists():
            ending = _refit(ready, run, reporter, group)
        group.send_text("")
        if ending == "interrupted":
            return SeriesRun(run.path, interrupted=True)
    if run.best_path.exists() and score:
        others = fitted_baselines(ready, reporter) if baselines else []
        write_evaluation(result, ready.panel, ready.split, ready.report, others, reporter)
    return result


def _run(ready: Prepared, run: Run, reporter: Reporter, group: Alone, *, resume: bool, refit: bool = False) -> str:
    """The training itself; how it ended. What it holds, the rows in the network's numbers above all, is let go of behind it."""
    about = run.description["run"]
    if group.count > 1 and not about["input"]:
        raise DataError("a data frame cannot be shared by several processes: write it to a file and name that")
    told = {name: about.get(name) for name in ("input", "digest", "data_folder")}
    group.send_text(json.dumps({**told, "config": ready.config.to_dict("series"), "refit": refit}))
    with precision(ready.config.training.dtype):
        network = new_network(ready.config, ready.encoding)
        task = SeriesTask(ready.panel, ready.split, ready.encoding, ready.config, ready.sentinels, group)
        trainer = Trainer(task, network, ready.config.training, run, reporter=reporter, facts=ready.facts, group=group)
        with interruptible(trainer):
            return trainer.train(resume=resume).ending


def _with_validation(ready: Prepared) -> Prepared:
    """The same table with the validation part in the training part."""
    return replace(ready, split=Split(ready.split.validation_ends, ready.split.validation_ends))


def _refit(ready: Prepared, run: Run, reporter: Reporter, group: Alone) -> str:
    """Train once more on training and validation together, for as many passes as were best, and put the result in the run's place.

    What the rows are scaled by and what is added to the quantiles stay as they were chosen; how the training ended is returned.
    """
    chosen = SeriesModel.load(run.best_path)
    again = _with_validation(ready)
    starts = ready.panel.offsets[:-1]
    more = (again.split.training_ends - starts).sum() / max(1, (ready.split.training_ends - starts).sum())
    steps = max(1, round(chosen.result["iteration"] * float(more)))
    config = ready.config.replace(steps=steps, minutes=None, epochs=None, validate_every=0)
    again = replace(again, config=config)
    reporter.message(f"training again, with the validation part: {steps:,} updates")
    path = run.path / REFIT_NAME
    exists = (path / "config.toml").exists()
    folder = Run(path) if exists else Run.create(path, {"run": run.description["run"], **config.to_dict("series")})
    resume = folder.checkpoints.latest() is not None
    ending = _run(again, folder, reporter, group, resume=resume, refit=True)
    if ending != "interrupted":
        # In this order: as long as the run's best weights are not the refitted ones, a resume does this again.
        chosen.save(run.path / CHOSEN_NAME)
        result = {**chosen.result, "refit": {"updates": steps}}
        refitted = SeriesModel.load(folder.best_path)
        replace(refitted, calibration=chosen.calibration, config=ready.config, result=result).save(run.best_path)
    return ending


def _over_preset(preset: str | None, settings: dict[str, Any]) -> dict[str, Any]:
    """The preset's settings with those given over them; a budget given replaces the preset's, of whatever kind."""
    chosen = {**(preset_settings(preset) if preset else {}), **settings}
    budgets = ("minutes", "steps", "epochs")
    if any(settings.get(budget) is not None for budget in budgets):
        chosen |= {budget: settings.get(budget) for budget in budgets}
    return chosen


def _absolute(source: str | Path) -> str:
    """A path made absolute, so that a run resumes from any folder; a URI or the name of a table stays as it is."""
    text, path = str(source), Path(source)
    return str(path.absolute()) if "://" not in text and (path.exists() or any(c in text for c in "*?[/")) else text


def _run_name(stem: str, preset: str | None) -> str:
    """A short name for a run's folder."""
    stem = "".join(c if c.isalnum() or c in "-_" else "-" for c in stem).strip("-") or "series"
    return f"{stem[:40]}-{preset}" if preset and preset != stem else stem[:40]

"""`elman train series`: from a table to a trained forecaster, and `--resume` of such a run."""

import argparse
import sys
from pathlib import Path
from typing import Any

from elman.commands import EXIT_INTERRUPTED
from elman.commands.output import narrow_console, print_json, reporting
from elman.commands.series_output import figures_of, findings_in_words, print_outcome
from elman.commands.settings import chosen_settings
from elman.reports import print_fan, write_series_report
from elman.series.run import SeriesRun
from elman.series.trainer import Prepared, resume_series, train_series
from elman.training.progress import Reporter, duration
from elman.training.runs import Run


def run(parsed: argparse.Namespace) -> int:
    """Train or resume, say who wins, where the result is and what to do with it."""
    with reporting(quiet=parsed.quiet) as reporter:

        def prepared(ready: Prepared, folder: Run) -> None:
            if not parsed.quiet:
                introduce(reporter, ready, folder)

        if parsed.resume is not None:
            result = resume_series(parsed.resume, reporter=reporter, prepared=prepared, group=parsed.group)
        else:
            result = train_series(
                parsed.input,
                run=parsed.run,
                preset=parsed.preset,
                data_folder=Path(parsed.data_dir) if parsed.data_dir else None,
                group=parsed.group,
                reporter=reporter,
                prepared=prepared,
                baselines=not parsed.no_baselines,
                **chosen_settings(parsed, "network", "training", "series"),
            )
    return conclude(result, parsed.json, parsed.quiet)


def introduce(reporter: Reporter, ready: Prepared, folder: Run) -> None:
    """What was found in the table and repaired, and what is about to be trained on what."""
    reporter.message(findings_in_words(ready.report))
    reporter.message(f"{what_is_trained(ready)}\nrun folder: {folder.path}")


def what_is_trained(ready: Prepared) -> str:
    """The question, the rows, and the network, in three lines."""
    config, facts, step = ready.config, ready.facts, ready.panel.step
    series, network, training = config.series, config.network, config.training
    columns = len(ready.panel.columns)
    path = "every row up to " if series.path else ""
    rows = f"{facts['training_rows']:,} rows to learn from, {facts['validation_rows']:,} to choose by"
    tested = facts["rows"] - facts["training_rows"] - facts["validation_rows"]
    budget = duration(60 * training.minutes) if training.minutes is not None else f"{training.steps:,} updates"
    members = f"{series.members} networks, each " if series.members > 1 else ""
    layers = f"{network.layers} layers of " if network.layers > 1 else ""
    kind = "windows" if series.method == "windows" else "streams"
    return (
        f"forecast: {series.target}, {path}{step * ready.horizon.furthest} ahead, "
        f"from {columns} column{'s' if columns > 1 else ''} ({ready.encoding.input_size} inputs)\n"
        f"{rows}, {tested:,} to be tested on\n"
        f"{members}{network.cell} with {layers}{network.hidden} units, "
        f"{training.batch} {kind} of {training.unroll} steps, {budget}"
    )


def conclude(result: SeriesRun, as_json: bool, quiet: bool) -> int:
    """The verdict, the figures, a picture, the files and the next command; the exit status."""
    if result.interrupted:
        print(f"stopped; nothing is lost. Go on with: elman train --resume {result.path}", file=sys.stderr)
        return EXIT_INTERRUPTED
    report = write_series_report(result.path)
    evaluation = result.evaluation
    if as_json:
        print_json(facts(result))
    elif not quiet:
        if evaluation:
            print_outcome(evaluation)
            show_fan(evaluation)
        model = result.best_path if result.best_path.exists() else "none: no validation gave a finite error"
        print(f"\nmodel:   {model}\nreport:  {report}\nforecast with it:  elman forecast {result.path}")
    return 0


def show_fan(evaluation: dict[str, Any]) -> None:
    """The last example of a forecast, where a person looks on."""
    fans = evaluation.get("fans")
    if fans and sys.stdout.isatty():
        print()
        print_fan(fans[-1], narrow_console(), target=evaluation["target"], unit=evaluation["unit"])


def facts(result: SeriesRun) -> dict[str, Any]:
    """The outcome of a run as plain values."""
    end = result.last_event("end") or {}
    return {
        "run": str(result.path),
        "bundle": str(result.best_path),
        "ending": end.get("ending"),
        "updates": end.get("iteration"),
        "seconds": end.get("elapsed"),
        **figures_of(result.evaluation),
    }

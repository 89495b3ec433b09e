"""`elman evaluate` for a forecaster: its scores beside the baselines', on its own table or on another."""

import argparse
from typing import Any

import numpy as np

from elman.commands.output import print_json, reporting
from elman.commands.series_input import Question, read_question
from elman.commands.series_output import figures_of, print_errors, print_outcome
from elman.errors import ConfigError, DataError
from elman.series.panel import Split
from elman.series.results import evaluation_of, write_evaluation
from elman.series.scoring.origins import part_origins
from elman.series.trainer import fitted_baselines
from elman.training.engine import use_compilation_cache
from elman.training.progress import Reporter


def run(parsed: argparse.Namespace) -> int:
    """Score, and print the verdict first."""
    if len(parsed.inputs) > 1:
        raise ConfigError(
            f"a forecaster is scored on one table, not {len(parsed.inputs)}: a folder or a quoted pattern joins files"
        )
    use_compilation_cache()
    with reporting(quiet=parsed.quiet) as reporter:
        source = parsed.inputs[0] if parsed.inputs else None
        question = read_question(parsed, source, "INPUT", reporter)
        evaluation = _on_its_own(question, reporter) if question.run else _on_another(question, reporter)
    if parsed.json:
        print_json({"run": parsed.model, **figures_of(evaluation), "warnings": list(question.warnings)})
        return 0
    print_outcome(evaluation)
    print_errors(evaluation)
    return 0


def _on_its_own(question: Question, reporter: Reporter) -> dict[str, Any]:
    """The run's own split, written into its `evaluation.json` as well."""
    assert question.run is not None
    ready = question.ready
    others = fitted_baselines(ready, reporter)
    return write_evaluation(question.run, ready.panel, ready.split, ready.report, others, reporter)


def _on_another(question: Question, reporter: Reporter) -> dict[str, Any]:
    """All of another table behind the first lookback, as a test; the baselines learn from the first part of that table."""
    model, ready = question.model, question.ready
    panel, horizon = ready.panel, model.horizon
    behind = np.minimum(panel.offsets[:-1] + model.lookback - 1 + horizon.furthest, panel.offsets[1:])
    if not len(part_origins(panel, horizon, behind, panel.offsets[1:])):
        raise DataError(
            f"{ready.report.source} has too few rows to score on: {int(np.diff(panel.offsets).max(initial=0)):,}, but a "
            f"lookback of {model.lookback:,} and a horizon of {horizon.furthest:,} need {model.lookback + horizon.furthest:,}"
        )
    others = fitted_baselines(ready, reporter)
    return evaluation_of(model, panel, Split(behind, behind), ready.report, others, reporter)

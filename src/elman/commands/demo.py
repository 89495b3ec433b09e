"""`elman demo`: the whole product in three minutes, with what is at hand and without a network."""

import argparse
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from elman.commands import train_series as series
from elman.commands import train_text as text
from elman.commands.hello import show
from elman.commands.output import console, narrow_console, reporting
from elman.config import Config
from elman.errors import DataError
from elman.reports import print_fan, write_report, write_series_report
from elman.series.run import SeriesRun
from elman.series.trainer import Prepared as PreparedSeries
from elman.series.trainer import train_series
from elman.text.corpora import available_offline
from elman.text.hello import walk
from elman.text.run import TextRun
from elman.text.trainer import Prepared, train_text
from elman.training.engine import use_compilation_cache
from elman.training.progress import duration
from elman.training.runs import Run

TEXT_SHARE = 0.74
"""Of the minutes; the rest goes to the weather, which is learnt sooner and whose baselines take time as well."""

TARGET = "T (degC)"
"""What is forecast of the weather."""


def run(parsed: argparse.Namespace) -> int:
    """Run the tour."""
    Config().replace(minutes=parsed.minutes)  # refuses an impossible budget before anything is shown
    data_folder = Path(parsed.data_dir) if parsed.data_dir else None
    return demo(console(), minutes=parsed.minutes, run=parsed.run, data_folder=data_folder)


def demo(screen: Console, *, minutes: float, run: str | None = None, data_folder: Path | None = None) -> int:
    """Hello, a character model, a forecaster, and their reports; returns the exit status.

    run: the folder of the text's run; that of the weather's stands beside it, with "-weather" behind its name.
    """
    use_compilation_cache()
    writing, forecasting = max(0.01, TEXT_SHARE * minutes), max(0.01, (1 - TEXT_SHARE) * minutes)
    screen.rule("1 of 3: hello")
    show(walk(), screen, brief=True)
    corpus = _corpus_at_hand(data_folder)
    screen.rule(f"2 of 3: a character model of {corpus}, {duration(writing * 60)}")
    written = _train_text(corpus, run, data_folder, writing)
    if written.interrupted:
        return text.conclude(written, as_json=False, quiet=False)
    _show_text(screen, written)
    screen.rule(f"3 of 3: the weather tomorrow, {duration(forecasting * 60)}")
    forecaster = _train_series(f"{run}-weather" if run else None, forecasting)
    if forecaster.interrupted:
        return series.conclude(forecaster, as_json=False, quiet=False)
    _show_series(screen, forecaster)
    _try_next(screen, written, forecaster, corpus)
    return 0


def _corpus_at_hand(data_folder: Path | None) -> str:
    """Shakespeare where it is already on this machine, else the documentation that every Python brings."""
    try:
        return "shakespeare" if available_offline("shakespeare", data_folder=data_folder) else "python-docs"
    except DataError:
        return "python-docs"


def _train_text(corpus: str, run: str | None, data_folder: Path | None, minutes: float) -> TextRun:
    with reporting(quiet=False) as reporter:

        def prepared(ready: Prepared, baselines: dict[str, Any], folder: Run) -> None:
            text.introduce(reporter, ready, baselines, folder)

        return train_text(
            corpus, run=run, data_folder=data_folder, reporter=reporter, prepared=prepared, minutes=minutes
        )


def _train_series(run: str | None, minutes: float) -> SeriesRun:
    with reporting(quiet=False) as reporter:

        def prepared(ready: PreparedSeries, folder: Run) -> None:
            series.introduce(reporter, ready, folder)

        return train_series(
            "weather", run=run, reporter=reporter, prepared=prepared, target=TARGET, horizon="24h", minutes=minutes
        )


def _show_text(screen: Console, result: TextRun) -> None:
    screen.print(Text(text.verdict(result)))
    screen.print(Text("\nit writes (temperature 0.7):\n"))
    screen.print(Text(result.model().sample(length=300, temperature=0.7, seed=0) + "\n"))


def _show_series(screen: Console, result: SeriesRun) -> None:
    evaluation = result.evaluation
    if not evaluation:
        screen.print("no validation gave a finite error: give it more --minutes")
        return
    series.print_outcome(evaluation)
    print()
    print_fan(evaluation["fans"][-1], narrow_console(), target=evaluation["target"], unit=evaluation["unit"])


def _try_next(screen: Console, written: TextRun, forecaster: SeriesRun, corpus: str) -> None:
    screen.print(
        Text(
            f"\nreports:  {write_report(written)}\n"
            f"          {write_series_report(forecaster.path)}\n\n"
            f"try next:\n"
            f"  elman sample {written.path} --temperature 0.7\n"
            f"  elman forecast {forecaster.path}\n"
            f"  elman train text {corpus} --minutes 3\n"
            f"  elman train text YOUR_TEXT.txt\n"
            f'  elman train series YOUR_TABLE.csv --target "YOUR COLUMN" --horizon 24h'
        )
    )

"""`elman demo`: the whole product in three minutes, with what is at hand and without a network."""

import argparse
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from elman.commands.hello import show
from elman.commands.output import console
from elman.commands.train import conclude, introduce, verdict
from elman.config import Config
from elman.errors import DataError
from elman.reports import write_report
from elman.text.corpora import available_offline
from elman.text.hello import walk
from elman.text.run import TextRun
from elman.text.trainer import Prepared, train_text
from elman.training.engine import use_compilation_cache
from elman.training.progress import duration, reporter_for
from elman.training.runs import Run


def run(parsed: argparse.Namespace) -> int:
    """Run the tour."""
    Config().replace(minutes=parsed.minutes)  # refuses an impossible budget before anything is shown
    data_folder = Path(parsed.data_dir) if parsed.data_dir else None
    return demo(console(), minutes=parsed.minutes, run=parsed.run, data_folder=data_folder)


def demo(screen: Console, *, minutes: float, run: str | None = None, data_folder: Path | None = None) -> int:
    """Hello, a character model, its report; returns the exit status."""
    use_compilation_cache()
    screen.rule("1 of 3: hello")
    show(walk(), screen, brief=True)
    corpus = _corpus_at_hand(data_folder)
    screen.rule(f"2 of 3: a character model of {corpus}, {duration(minutes * 60)}")
    reporter = reporter_for()

    def prepared(ready: Prepared, baselines: dict[str, Any], folder: Run) -> None:
        introduce(reporter, ready, baselines, folder)

    result = train_text(corpus, run=run, data_folder=data_folder, reporter=reporter, prepared=prepared, minutes=minutes)
    if result.interrupted:
        return conclude(result, as_json=False, quiet=False)
    screen.rule("3 of 3: what it learnt")
    _conclude(screen, result, corpus)
    return 0


def _corpus_at_hand(data_folder: Path | None) -> str:
    """Shakespeare where it is already on this machine, else the documentation that every Python brings."""
    try:
        return "shakespeare" if available_offline("shakespeare", data_folder=data_folder) else "python-docs"
    except DataError:
        return "python-docs"


def _conclude(screen: Console, result: TextRun, corpus: str) -> None:
    report = write_report(result)
    screen.print(Text(verdict(result)))
    model = result.model()
    screen.print(Text("\nit writes (temperature 0.7):\n"))
    screen.print(Text(model.sample(length=400, temperature=0.7, seed=0)))
    screen.print(
        Text(
            f"\nreport with curve and timeline of samples:  {report}\n\n"
            f"try next:\n"
            f"  elman sample {result.path} --temperature 0.7\n"
            f"  elman samples {result.path}\n"
            f"  elman train text {corpus} --minutes 3\n"
            f"  elman train text YOUR_TEXT.txt"
        )
    )

"""`elman train text`: from text to a trained model, and `--resume` of such a run."""

import argparse
import math
import sys
from pathlib import Path
from typing import Any

from elman.commands import EXIT_INTERRUPTED
from elman.commands.output import print_json
from elman.commands.settings import chosen_settings
from elman.reports import write_report
from elman.text.run import TextRun
from elman.text.trainer import Prepared, resume_text, train_text
from elman.training.progress import Reporter, in_bits, reporter_for
from elman.training.runs import Run


def run(parsed: argparse.Namespace) -> int:
    """Train or resume, and say where the result is and what to do with it."""
    quiet = parsed.quiet
    reporter = reporter_for(quiet=quiet, samples=not getattr(parsed, "no_samples", False))

    def prepared(ready: Prepared, baselines: dict[str, Any], folder: Run) -> None:
        if not quiet:
            introduce(reporter, ready, baselines, folder)

    if parsed.resume is not None:
        result = resume_text(parsed.resume, reporter=reporter, prepared=prepared, group=parsed.group)
    else:
        result = train_text(
            *parsed.inputs,
            run=parsed.run,
            preset=parsed.preset,
            init=parsed.init,
            data_folder=Path(parsed.data_dir) if parsed.data_dir else None,
            group=parsed.group,
            reporter=reporter,
            prepared=prepared,
            **chosen_settings(parsed, "network", "training", "text"),
        )
    return conclude(result, parsed.json, quiet)


def introduce(reporter: Reporter, ready: Prepared, baselines: dict[str, Any], folder: Run) -> None:
    """What is about to be trained on what, and the scores to beat."""
    config, vocabulary = ready.config, ready.encoded.vocabulary
    noun = "bytes" if vocabulary.unit == "byte" else "characters"
    network, training = config.network, config.training
    budget = f"{training.minutes:g} minutes" if training.minutes is not None else f"{training.steps:,} updates"
    layers = f"{network.layers} layers of " if network.layers > 1 else ""
    reporter.message(
        f"{len(ready.training):,} {noun} to learn from, {len(ready.held_out):,} held out, {vocabulary.size} distinct\n"
        f"{network.cell} with {layers}{network.hidden} units, {training.batch} streams of {training.unroll} steps, {budget}\n"
        f"run folder: {folder.path}"
    )
    if baselines.get("ngram") is not None:
        order, scores = (
            baselines["ngram_order"],
            {name: f"{baselines[name]:.3f}" for name in ("uniform", "unigram", "ngram")},
        )
        reporter.message(
            f"to beat on the held-out part: knowing nothing {scores['uniform']}, letter frequencies {scores['unigram']}, "
            f"{order}-grams {scores['ngram']} nats per {noun[:-1]}"
        )


def conclude(result: TextRun, as_json: bool, quiet: bool) -> int:
    """The figures, the files and the next command; the exit status."""
    if result.interrupted:
        print(f"stopped; nothing is lost. Go on with: elman train --resume {result.path}", file=sys.stderr)
        return EXIT_INTERRUPTED
    report = write_report(result)
    figures = facts(result)
    if as_json:
        print_json(figures)
    elif not quiet:
        if score := verdict(result):
            print(score)
        model = result.best_path if result.best_path.exists() else "none: no validation gave a finite loss"
        print(f"model:   {model}\nreport:  {report}\nlet it write:  elman sample {result.path}")
    return 0


def verdict(result: TextRun) -> str:
    """The score on unseen text and whether it beats the n-grams, in one line; nothing where nothing was held out."""
    ngram = result.baselines.get("ngram")
    if result.best is None or ngram is None:
        return ""
    relation = "better than" if result.best < ngram else "NOT better than"
    order = result.baselines["ngram_order"]
    return f"on text it has not seen: {in_bits(result.best)} per character, {relation} {order}-grams ({ngram:.3f})"


def facts(result: TextRun) -> dict[str, Any]:
    """The outcome of a run as plain values."""
    end = result.last_event("end") or {}
    return {
        "run": str(result.path),
        "bundle": str(result.best_path),
        "ending": end.get("ending"),
        "updates": end.get("iteration"),
        "seconds": end.get("elapsed"),
        "nats_per_character": result.best,
        "bits_per_character": None if result.best is None else result.best / math.log(2),
        "baselines": result.baselines,
    }

"""The book's task: temperature 24 hours ahead on the hourly Jena file, split 50/25/25, beside baselines and published figures.

python benchmarks/jena.py                       default settings, seeds 0, 1, 2: about a minute each, baselines once
python benchmarks/jena.py --preset best         the preset for the lowest error: about ten minutes a seed
python benchmarks/jena.py --method windows      windows instead of streams; `--set NAME=VALUE` gives any other setting
"""

import argparse
import json
import statistics
from typing import Any

from measuring import report
from series_runs import BOOK, Trained, train

PUBLISHED = {"persistence": 2.62, "LSTM(16)": 2.55, "LSTM(32), recurrent dropout": 2.45, "2 x GRU(32), dropout": 2.39}
"""Test errors of Chollet, Deep Learning with Python; its windows begin at every 10-minute row, ours at every hour."""

TARGETS = {"default": 2.28, "best": 2.22}


def settings_of(pairs: list[str]) -> dict[str, Any]:
    """NAME=VALUE, each value as JSON where it is any, else as text."""
    found: dict[str, Any] = {}
    for pair in pairs:
        name, _, value = pair.partition("=")
        try:
            found[name] = json.loads(value)
        except json.JSONDecodeError:
            found[name] = value
    return found


def row_of(name: str, run: Trained) -> tuple[str, ...]:
    """A line of the table."""
    validation, test = run.part("validation"), run.part("test")
    return (
        name,
        f"{validation['mae']:.3f}",
        f"{test['mae']:.3f}",
        "" if test["coverage"] is None else f"{100 * test['coverage']:.1f} %",
        "" if test["width"] is None else f"{test['width']:.2f}",
        f"{run.training:.0f}",
        f"{run.seconds:.0f}",
    )


def main() -> None:
    """Train, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--preset")
    parser.add_argument("--method", choices=("streams", "windows"), default="streams")
    parser.add_argument("--minutes", type=float, help="a budget instead of the default one")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="any other setting")
    parsed = parser.parse_args()
    settings = {**BOOK, "method": parsed.method, **settings_of(parsed.set)}
    if parsed.minutes is not None:
        settings["minutes"] = parsed.minutes
    # Baselines do not depend on the seed: they are fitted once, and do not count towards the seconds of the other runs.
    runs = [
        train(preset=parsed.preset, seed=seed, baselines=seed == 0, **settings) for seed in range(max(1, parsed.seeds))
    ]
    baselines = runs[0].evaluation["baselines"]
    rows = [("Jena, hourly, 24 h ahead, 50/25/25", "validation", "test", "90 % covers", "width", "training s", "all s")]
    rows += [row_of(f"elman, seed {seed}", run) for seed, run in enumerate(runs)]
    for name, parts in sorted(baselines.items(), key=lambda pair: pair[1]["test"]["mae"] or 99):
        coverage = f"{100 * parts['test']['coverage']:.1f} %"
        scores = f"{parts['validation']['mae']:.3f}", f"{parts['test']['mae']:.3f}"
        rows.append((name, *scores, coverage, f"{parts['test']['width']:.2f}", "", ""))
    rows += [(f"published: {name}", "", f"{error:.2f}", "", "", "", "") for name, error in PUBLISHED.items()]
    tests = [run.part("test")["mae"] for run in runs]
    target = TARGETS["best" if parsed.preset == "best" else "default"]
    least = f"{statistics.median(tests):.3f} ({min(tests):.3f} to {max(tests):.3f}), target at most {target}"
    widths = [run.part("test")["width"] for run in runs]
    narrower = None
    if None not in widths:
        narrower = 1 - statistics.median(widths) / baselines["persistence"]["test"]["width"]
    name = "jena" + (f"-{parsed.preset}" if parsed.preset else "")
    name += "-windows" if parsed.method == "windows" else ""
    name += "-other" if parsed.set or parsed.minutes is not None else ""
    figures = {
        "settings": settings,
        "preset": parsed.preset,
        "runs": [run.summary() for run in runs],
        "baselines": baselines,
        "published_test": PUBLISHED,
        "test_median": statistics.median(tests),
        "validation_median": statistics.median(run.part("validation")["mae"] for run in runs),
        "narrower_than_persistence": narrower,
        "target": target,
    }
    report(name, rows, figures)
    print(f"test, median of the seeds: {least}")
    if narrower is not None:
        print(f"the 90 % interval is {100 * narrower:.0f} % narrower than persistence's (target: at least 12 %)")


if __name__ == "__main__":
    main()

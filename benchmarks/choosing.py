"""What docs/choosing.md says of cells and of short data: the same number of updates for each, so that no clock decides.

python benchmarks/choosing.py                         all parts, about a quarter of an hour on two cores
python benchmarks/choosing.py --only cells-table      one of them; the results of the others stay
"""

import argparse
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl

from elman.text.trainer import train_text
from measuring import DATA, RESULTS, report
from series_runs import BOOK, JENA, TARGET, train

CELLS = ("gru", "lstm", "elman")
TEXT_UPDATES = 4_000
SHORT_UPDATES = 1_500
SEEDS = (0, 1)


def text_run(source: str | Path, **settings: Any) -> dict[str, Any]:
    """Loss on the held-out tenth after so many updates beside that of n-grams, and what was chosen."""
    with tempfile.TemporaryDirectory() as folder:
        run = train_text(source, run=Path(folder) / "run", data_folder=DATA, **settings)
        network = run.description["network"]
        return {
            "nats": run.best,
            "last": run.validations[-1][-1],
            "training": sum(run.losses[-50:]) / 50,
            "ngram": run.baselines["ngram"],
            "ngram_order": run.baselines["ngram_order"],
            "hidden": network["hidden"],
            "dropout": network["dropout"],
            "updates": len(run.losses),
        }


def cells_of_text() -> dict[str, Any]:
    """Each cell over Shakespeare, everything else as without flags."""
    return {cell: text_run("shakespeare", cell=cell, steps=TEXT_UPDATES) for cell in CELLS}


def cells_of_a_table() -> dict[str, Any]:
    """Each cell a day ahead at Jena, the default budget of a hundred passes."""
    found: dict[str, Any] = {}
    for cell in CELLS:
        runs = [train(cell=cell, seed=seed, **BOOK) for seed in SEEDS]
        found[cell] = [{part: run.part(part)["mae"] for part in ("validation", "test")} for run in runs]
    return found


def short_texts() -> dict[str, Any]:
    """The beginning of Shakespeare, so many characters of it."""
    whole = (DATA / "tinyshakespeare.txt").read_text(encoding="utf-8")
    found: dict[str, Any] = {}
    for characters in (10_000, 30_000, 100_000, 300_000):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "beginning.txt"
            path.write_text(whole[:characters], encoding="utf-8")
            found[str(characters)] = text_run(path, steps=SHORT_UPDATES)
    return found


def short_tables() -> dict[str, Any]:
    """The last rows of Jena, so many of them, a day ahead, split 70/15/15, beside every baseline."""
    whole = pl.read_csv(JENA)
    found: dict[str, Any] = {}
    for rows in (500, 1_000, 3_000, 10_000, 30_000):
        run = train(whole.tail(rows), baselines=True, target=TARGET, horizon="24h")
        best = min(run.evaluation["baselines"].items(), key=lambda pair: pair[1]["test"]["mae"])
        found[str(rows)] = {
            "test": run.part("test")["mae"],
            "best_baseline": best[0],
            "baseline": best[1]["test"]["mae"],
            "hidden": run.ready.config.network.hidden,
            "updates": run.updates,
        }
    return found


PARTS: dict[str, Callable[[], dict[str, Any]]] = {
    "cells-table": cells_of_a_table,
    "short-tables": short_tables,
    "short-texts": short_texts,
    "cells-text": cells_of_text,
}


def main() -> None:
    """Train, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=tuple(PARTS), nargs="+", default=tuple(PARTS))
    parsed = parser.parse_args()
    path = RESULTS / "choosing.json"
    before = json.loads(path.read_text()) if path.exists() else {}
    figures = {name: before[name] for name in PARTS if name in before}
    for name in parsed.only:
        figures[name] = PARTS[name]()
        rows = [(name, "figures")] + [(case, json.dumps(value)) for case, value in figures[name].items()]
        report("choosing", rows, figures)


if __name__ == "__main__":
    main()

"""A forecaster that runs along: what one new row costs, against running the lookback again; and forecasts of the test quarter.

Hidden 64 and 128, on the hourly Jena file, 14 columns; the networks are trained for a few updates only, because speed does not
depend on what they learnt. One row: `Running.take` with a panel of one row, encoding and forecast included. Again:
`SeriesModel.forecast` of the last row of a panel of 120 rows. Batch: every origin of the test quarter, each row walked through once
in chunks with their warm-up. Compilation is in none of them.

python benchmarks/running.py            about one minute
"""

import argparse
import statistics
import time
from typing import Any

import numpy as np

from elman.series.running import Running
from measuring import interleaved, ratios, report, seconds, summarize
from series_runs import BOOK, Trained, questions, slice_of, train

LOOKBACK = 120
SIZES = (64, 128)


def one_row_at_a_time(run: Trained, count: int) -> list[float]:
    """Seconds of each of `count` rows, behind a state that has seen the rows before them."""
    panel, first = run.ready.panel, int(run.ready.split.validation_ends[0])
    running = Running.after(run.model, slice_of(panel, first - 1000, first))
    spent = []
    for row in range(first, first + count):
        new = slice_of(panel, row, row + 1)
        began = time.perf_counter()
        running.take(new)
        running.forecast()
        spent.append(time.perf_counter() - began)
    return spent


def again_each_time(run: Trained, count: int) -> list[float]:
    """Seconds of each of `count` forecasts, every one from the last 120 rows."""
    panel, first = run.ready.panel, int(run.ready.split.validation_ends[0])
    spent = []
    for row in range(first, first + count):
        window = slice_of(panel, row - LOOKBACK + 1, row + 1)
        began = time.perf_counter()
        run.model.forecast(window, np.asarray([LOOKBACK - 1]))
        spent.append(time.perf_counter() - began)
    return spent


def batch_rate(run: Trained) -> float:
    """Origins of the test quarter forecast per second, encoding included."""
    origins, _ = questions(run.ready, "test")
    return len(origins) / seconds(lambda: run.model.forecast(run.ready.panel, origins))


def agreement(run: Trained) -> float:
    """The greatest difference, in degrees, between forecasts row by row and all at once, from the same first row."""
    panel, first = run.ready.panel, int(run.ready.split.validation_ends[0])
    begin = first - run.model.memory_rows
    running = Running.after(run.model, slice_of(panel, begin, first))
    found = []
    for row in range(first, first + 50):
        running.take(slice_of(panel, row, row + 1))
        found.append(running.forecast()[0])
    whole = slice_of(panel, begin, first + 50)
    expected = run.model.forecast(whole, np.arange(first - begin, first - begin + 50))
    return float(np.abs(np.asarray(found) - expected).max())


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--rows", type=int, default=300, help="rows in each round")
    parsed = parser.parse_args()
    rows = [("24 h ahead", "median", "least", "greatest")]
    found: dict[str, Any] = {}
    for hidden in SIZES:
        run = train(**BOOK, hidden=hidden, lookback=str(LOOKBACK), steps=20)
        candidates = {
            "one row": lambda run=run: statistics.median(one_row_at_a_time(run, parsed.rows)),
            "120 rows again": lambda run=run: statistics.median(again_each_time(run, max(1, parsed.rows // 10))),
            "batch": lambda run=run: batch_rate(run),
        }
        for measure in candidates.values():
            measure()  # compiles
        figures = interleaved(candidates, parsed.rounds)
        ratio = ratios(figures, "120 rows again", "one row")
        difference = agreement(run)
        found[f"hidden {hidden}"] = {"figures": figures, "ratio": ratio, "greatest_difference": difference}
        middle = summarize(figures)
        for name in ("one row", "120 rows again"):
            cells = [f"{1e6 * middle[name][key]:,.0f} µs" for key in ("median", "min", "max")]
            rows.append((f"{name}, hidden {hidden}", *cells))
        rows.append((f"again / one row, hidden {hidden}", *(f"{ratio[key]:.1f} x" for key in ("median", "min", "max"))))
        cells = [f"{middle['batch'][key]:,.0f} /s" for key in ("median", "min", "max")]
        rows.append((f"forecasts of the test quarter, hidden {hidden}", *cells))
        rows.append((f"greatest difference from the batch path, hidden {hidden}", f"{difference:.2g} degC", "", ""))
    report("running" + ("" if parsed.rounds == 7 and parsed.rows == 300 else "-other"), rows, {"by_size": found})


if __name__ == "__main__":
    main()

"""Many series through a saved forecaster: 100,000 of 200 rows, in Arrow batches from Parquet files, one process and two.

The forecaster is trained in seconds on 50 of them (LSTM of 32 units, 24 rows ahead with eleven quantiles): speed does not depend on
what it learnt. A process reads the record batches of its share of the files and hands them to `BatchForecaster`, as a task of Spark
or Ray does; its answers are counted and dropped. Seconds are from the start of the processes to the end of the last one: Python,
loading, compiling and reading included. Processor seconds, of all processes together, also mean something on a machine that does
other things. Memory is the greatest resident size of a process.

python benchmarks/many_series.py            about two minutes, 300 MB of disk
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as parquet

from elman.series.arrow_batches import BatchForecaster
from elman.series.forecaster import Forecaster
from measuring import report

ROWS = 200
FILES = 20
TAUGHT = 50
SETTINGS = {"horizon": "24h", "path": True, "lookback": "48h", "hidden": 32, "cell": "lstm", "steps": 50}


def series_frame(first: int, count: int) -> pl.DataFrame:
    """Hourly series with a day's rhythm, a level and noise of their own, sorted by series and time."""
    generator = np.random.default_rng(first)
    hours = np.arange(ROWS)
    phases = generator.uniform(0, 24, (count, 1))
    values = generator.normal(0, 50, (count, 1)) + generator.uniform(1, 9, (count, 1)) * np.sin(
        2 * np.pi * (hours + phases) / 24
    )
    values += generator.normal(0, 0.5, values.shape)
    names = pl.Series([f"series {number:06}" for number in range(first, first + count)])
    start = np.datetime64("2026-01-01", "us")
    return pl.DataFrame(
        {
            "unique_id": names.gather(np.repeat(np.arange(count), ROWS)),
            "ds": np.tile(start + hours * np.timedelta64(3_600_000_000, "us"), count),
            "y": values.astype(np.float32).ravel(),
        }
    )


def work(bundle: str, files: list[str]) -> None:
    """What one process does; prints its figures as JSON."""
    forecaster = BatchForecaster(bundle)
    forecasts = 0
    for file in files:
        for answer in forecaster(parquet.ParquetFile(file).iter_batches(batch_size=10_000)):
            forecasts += answer.num_rows
    used = resource.getrusage(resource.RUSAGE_SELF)
    figures = {"forecasts": forecasts, "processor": used.ru_utime + used.ru_stime, "resident_mb": used.ru_maxrss / 1024}
    print(json.dumps(figures))


def measure(bundle: Path, files: list[Path], processes: int, series: int) -> dict[str, Any]:
    """Wall time, rates and memory of `processes` processes that share the files."""
    began = time.perf_counter()
    running = [
        subprocess.Popen(
            [sys.executable, __file__, "--work", str(bundle), *map(str, files[number::processes])],
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(processes)
    ]
    told = [json.loads(process.communicate()[0].splitlines()[-1]) for process in running]
    spent = time.perf_counter() - began
    forecasts = sum(one["forecasts"] for one in told)
    assert forecasts == 24 * series, f"{forecasts} forecasts of {series} series"
    return {
        "seconds": round(spent, 1),
        "processor_seconds": round(sum(one["processor"] for one in told), 1),
        "series_per_second": round(series / spent),
        "forecasts_per_second": round(forecasts / spent),
        "resident_mb": [round(one["resident_mb"]) for one in told],
    }


def main() -> None:
    """Make the rows, run, report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--series", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--work", nargs="+", help=argparse.SUPPRESS)
    parsed = parser.parse_args()
    if parsed.work:
        work(parsed.work[0], parsed.work[1:])
        return
    with tempfile.TemporaryDirectory() as folder:
        bundle = Path(folder) / "model.safetensors"
        Forecaster("y", **SETTINGS).fit(series_frame(0, TAUGHT)).save(bundle)
        files, each = [], -(-parsed.series // FILES)
        for first in range(0, parsed.series, each):
            files.append(Path(folder) / f"series-{first:06}.parquet")
            series_frame(first, min(each, parsed.series - first)).write_parquet(files[-1])
        size = sum(file.stat().st_size for file in files)
        found: dict[str, list[dict[str, Any]]] = {"1": [], "2": []}
        for _ in range(parsed.rounds):
            for processes in (1, 2):
                found[str(processes)].append(measure(bundle, files, processes, parsed.series))
    rows = [("processes", "seconds", "processor seconds", "series/s", "forecasts/s", "resident MB of each")]
    for processes, rounds in found.items():
        best = min(rounds, key=lambda one: one["seconds"])
        memory = " ".join(map(str, best["resident_mb"]))
        rates = [f"{best[name]:,}" for name in ("series_per_second", "forecasts_per_second")]
        rows.append((processes, f"{best['seconds']:.1f}", f"{best['processor_seconds']:.1f}", *rates, memory))
    figures = {"series": parsed.series, "rows_of_each": ROWS, "parquet_bytes": size, "settings": SETTINGS}
    report("many_series", rows, {**figures, "processes": found})


if __name__ == "__main__":
    main()

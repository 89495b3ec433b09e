"""Tables larger than memory: does what a forecaster needs of memory depend on the size of the table?

A folder of Parquet files in the long format is made: 14 columns of weather-like numbers, some missing, every series scattered over
all files. It is then trained on in processes whose anonymous memory (what malloc and NumPy take) the kernel limits to `--limit` by
`RLIMIT_DATA`, which does not count files that are mapped. A thread in each looks at /proc/self/status every 20 ms, so that
anonymous and mapped memory are told apart. For each of `--sizes`, in GB unpacked as 64-bit numbers:

    killed      prepared until `--kill-after` of the seconds that the cold start needs are over, then SIGKILL
    cold        the same command again, to the scores beside every baseline
    cached      once more, for `--steps` updates, without scores

python benchmarks/past_memory_series.py                     about 8 minutes and 8 GB of temporary disk
python benchmarks/past_memory_series.py --sizes 0.2 --limit 1.5 --steps 20 --without-baselines
"""

import argparse
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

COLUMNS, LENGTH, FILES = 14, 8760, 12
SETTINGS: dict[str, Any] = {"target": "measurement 1", "horizon": "24h"}


def write_table(folder: Path, series: int) -> int:
    """Hourly rows of a year for each series, a file for each month; the bytes of the files."""
    import numpy as np
    import polars as pl

    folder.mkdir(parents=True)
    hours = LENGTH // FILES
    level = np.random.default_rng(0).normal(size=(series, COLUMNS)).astype(np.float32)
    state = np.zeros((series, COLUMNS), np.float32)
    for month in range(FILES):
        random = np.random.default_rng([1, month])
        values = np.empty((series, hours, COLUMNS), np.float32)
        for hour in range(hours):
            state = 0.98 * state + 0.2 * random.standard_normal((series, COLUMNS), np.float32)
            day = np.sin(2 * np.pi * (month * hours + hour) / 24 + np.arange(COLUMNS))
            values[:, hour] = 10 + 5 * level + 3 * state + 4 * day.astype(np.float32)
        values = values.round(2).reshape(-1, COLUMNS)
        values[random.random(len(values)) < 0.01] = np.nan
        values[random.integers(0, len(values), len(values) // 50), random.integers(0, COLUMNS, len(values) // 50)] = (
            np.nan
        )
        moments = np.datetime64("2020-01-01T00:00", "us") + (month * hours + np.arange(hours)).astype("m8[h]")
        names = pl.Series([f"station {number:06}" for number in range(series)])
        frame = pl.DataFrame(
            {"unique_id": names.gather(np.repeat(np.arange(series), hours)), "ds": np.tile(moments, series)}
        )
        columns = [pl.Series(f"measurement {number + 1}", values[:, number]) for number in range(COLUMNS)]
        frame.with_columns(columns).write_parquet(folder / f"month-{month + 1:02}.parquet")
    return sum(file.stat().st_size for file in folder.iterdir())


# --- the child: trains, and watches itself --------------------------------------------------------------------------------------


def memory_now() -> dict[str, float]:
    """In MB, anonymous and mapped resident memory of this process and of those it has started, and what RLIMIT_DATA counts in the
    one that has most of it."""
    own = f"/proc/{os.getpid()}"
    started = Path(f"{own}/task/{os.getpid()}/children").read_text().split()
    found = {"anonymous": 0.0, "mapped": 0.0, "data": 0.0}
    for process in (own, *(f"/proc/{number}" for number in started)):
        try:
            text = Path(f"{process}/status").read_text()
        except OSError:
            continue  # it has just ended
        lines = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
        if "RssAnon" in lines:
            anonymous, mapped, data = (int(lines[key].split()[0]) / 1000 for key in ("RssAnon", "RssFile", "VmData"))
            found["anonymous"] += anonymous
            found["mapped"] += mapped
            found["data"] = max(found["data"], data)
    return found


class Watch(threading.Thread):
    """The highest of each kind of memory, in every stage."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.stage, self.peaks, self.over = "importing", {}, False  # type: ignore[var-annotated]
        self.since = {"importing": time.perf_counter()}
        self.seconds: dict[str, float] = {}

    def enter(self, stage: str) -> None:
        """What is measured from here on belongs to another stage."""
        if stage != self.stage:
            now = time.perf_counter()
            self.seconds[self.stage] = self.seconds.get(self.stage, 0.0) + now - self.since.pop(self.stage)
            self.stage, self.since = stage, {stage: now}

    def run(self) -> None:
        while not self.over:
            stage, now = self.stage, memory_now()
            kept = self.peaks.setdefault(stage, dict.fromkeys(now, 0.0))
            for name, amount in now.items():
                kept[name] = max(kept[name], amount)
            time.sleep(0.02)


def child(parsed: argparse.Namespace) -> None:
    """Train once under the limit and print the figures."""
    began = time.perf_counter()
    watch = Watch()
    watch.start()
    limit = int(parsed.limit * 1e9)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    from elman.series.trainer import train_series
    from elman.training.progress import Reporter, Status

    first: list[float] = []

    class Stages(Reporter):
        """Tells the watch where the run is."""

        def working(self, stage: str, share: float) -> None:
            watch.enter(stage)

        def started(self, status: Status) -> None:
            watch.enter("training")

        def updated(self, status: Status) -> None:
            if not first:
                first.append(time.perf_counter() - began)

        def message(self, text: str) -> None:
            pass

    whole = not parsed.cached
    with tempfile.TemporaryDirectory() as folder:
        run = train_series(
            parsed.child, run=Path(folder) / "run", reporter=Stages(), steps=parsed.steps, score=whole,
            baselines=whole and not parsed.without_baselines, **SETTINGS,
        )  # fmt: skip
        evaluation = run.evaluation
    watch.enter("over")
    watch.over = True
    most = {name: max(peak[name] for peak in watch.peaks.values()) for name in ("anonymous", "mapped", "data")}
    figures = {
        "first_update_seconds": first[0],
        "seconds": time.perf_counter() - began,
        "peak_mb": most,
        "stages": {
            stage: {"seconds": watch.seconds.get(stage), **watch.peaks.get(stage, {})} for stage in watch.seconds
        },
        "test_mae": evaluation.get("test", {}).get("mae"),
        "best_baseline": evaluation.get("test", {}).get("best_baseline"),
    }
    print("FIGURES", json.dumps(figures))


# --- the parent -----------------------------------------------------------------------------------------------------------------


def started(parsed: argparse.Namespace, table: Path, cache: Path, *, cached: bool) -> subprocess.Popen[str]:
    """A child under the limit."""
    command = [
        sys.executable,
        __file__,
        "--child",
        str(table),
        "--limit",
        str(parsed.limit),
        "--steps",
        str(parsed.steps),
    ]
    command += ["--cached"] if cached else []
    command += ["--without-baselines"] if parsed.without_baselines else []
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache), "ELMAN_MEMORY": f"{parsed.limit}GB"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def ended(process: subprocess.Popen[str]) -> dict[str, Any]:
    """A child's figures, or the end of what it said."""
    output, errors = process.communicate()
    lines = [line for line in output.splitlines() if line.startswith("FIGURES ")]
    if process.returncode or not lines:
        return {"error": errors[-2000:] or f"it ended with status {process.returncode}"}
    return json.loads(lines[-1].removeprefix("FIGURES "))


def measured(parsed: argparse.Namespace, size: float, folder: Path) -> dict[str, Any]:
    """Every run of one size."""
    series = max(1, round(size * 1e9 / (8 * (COLUMNS + 2) * LENGTH)))
    table, cache = folder / "table", folder / "cache"
    on_disk = write_table(table, series)
    figures: dict[str, Any] = {
        "rows": series * LENGTH,
        "series": series,
        "unpacked_gb": size,
        "parquet_gb": on_disk / 1e9,
    }
    if parsed.kill_after:
        process = started(parsed, table, cache, cached=False)
        time.sleep(parsed.kill_after * size)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        journals = list(cache.rglob("journal.jsonl"))
        figures["killed"] = {
            "after_seconds": parsed.kill_after * size,
            "steps_finished": sum(len(path.read_text().splitlines()) for path in journals),
        }
    figures["cold"] = ended(started(parsed, table, cache, cached=False))
    figures["cached"] = ended(started(parsed, table, cache, cached=True))
    figures["panel_gb"] = sum(file.stat().st_size for file in cache.rglob("*.bin")) / 1e9
    return figures


def main() -> None:
    """Measure each size and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=float, nargs="+", default=[0.5, 4.0], help="GB unpacked")
    parser.add_argument("--limit", type=float, default=1.5, help="GB of anonymous memory")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--kill-after", type=float, default=8.0, help="seconds for each GB; 0: no kill")
    parser.add_argument("--without-baselines", action="store_true")
    parser.add_argument("--folder", type=Path, help="where the temporary folder is made")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--cached", action="store_true", help=argparse.SUPPRESS)
    parsed = parser.parse_args()
    if parsed.child:
        child(parsed)
        return
    found = []
    for size in parsed.sizes:
        with tempfile.TemporaryDirectory(dir=parsed.folder) as folder:
            found.append(measured(parsed, size, Path(folder)))
            print(json.dumps(found[-1], indent=1), flush=True)
        tell(parsed, found)


def tell(parsed: argparse.Namespace, found: list[dict[str, Any]]) -> None:
    """The table and the file of what has been measured so far."""
    from measuring import report

    rows = [("unpacked GB", "run", "first update s", "all s", "anonymous MB", "mapped MB")]
    for figures in found:
        for name in ("cold", "cached"):
            one = figures[name]
            if "error" in one:
                rows.append((f"{figures['unpacked_gb']:g}", name, one["error"].splitlines()[-1], "", "", ""))
                continue
            peaks = one["peak_mb"]
            times = f"{one['first_update_seconds']:.1f}", f"{one['seconds']:.0f}"
            rows.append(
                (f"{figures['unpacked_gb']:g}", name, *times, f"{peaks['anonymous']:.0f}", f"{peaks['mapped']:.0f}")
            )
    report("past_memory_series", rows, {"limit_gb": parsed.limit, "steps": parsed.steps, "tables": found})


if __name__ == "__main__":
    main()

"""Large tables: does training fit into 3 GB, where does memory peak, and how long does each stage take?

    wide    10 million rows x 14 columns of weather-like numbers, one a minute, Parquet with float64
    long    10,000 series x 1,000 hourly rows (`unique_id, ds, y`), Parquet

Each is written by a process of its own and trained on in a fresh one, for `--minutes` on the clock, without baselines and with
them. The child reports its peak of resident memory (`VmHWM`; `ru_maxrss` beside it, which may remember the parent), the seconds of
each stage, forecasts learnt per second, and memory at the end of each stage. A thread in it looks every 5 ms, and notes at which
line of elman each new peak stood.

python benchmarks/big_tables.py                         about 6 minutes, 1.5 GB of temporary disk
python benchmarks/big_tables.py --minutes 0.2 --tables wide --without-baselines --rows 0.1       a tenth of the rows
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

LIMIT_MB = 3000
ROWS, SERIES, LENGTH = 10_000_000, 10_000, 1_000
COLUMNS = 14
SETTINGS: dict[str, dict[str, Any]] = {
    "wide": {"target": "measurement 1", "horizon": "24h"},
    "long": {"target": "y", "horizon": "24h"},
}


# --- in a process of its own: the tables ----------------------------------------------------------------------------------------


def write_wide(path: Path, rows: int) -> None:
    """Days, years, and weather systems as autoregressive noise by the hour, with a little noise by the minute."""
    import numpy as np
    import polars as pl
    import pyarrow.parquet

    generator = np.random.default_rng(0)
    hours = rows // 60 + 2
    noise = np.zeros((hours, COLUMNS), np.float32)
    shocks = generator.normal(size=(hours, COLUMNS)).astype(np.float32)
    for hour in range(1, hours):
        noise[hour] = 0.98 * noise[hour - 1] + 0.2 * shocks[hour]
    writer = None
    for first in range(0, rows, 500_000):
        minutes = np.arange(first, min(first + 500_000, rows))
        day, year = 2 * np.pi * minutes / 1440, 2 * np.pi * minutes / 525_960
        times = np.datetime64("2000-01-01T00:00", "us") + minutes.astype("m8[m]")
        columns: dict[str, Any] = {"time": times}
        for number in range(COLUMNS):
            weather = np.interp(minutes / 60, np.arange(hours), noise[:, number])
            cycles = 4 * np.sin(day + number) - 8 * np.cos(year + number / 3)
            values = 10 + 3 * number + cycles + 3 * weather + 0.1 * generator.normal(size=len(minutes))
            columns[f"measurement {number + 1}"] = values.round(2)
        table = pl.DataFrame(columns).to_arrow()
        writer = writer or pyarrow.parquet.ParquetWriter(path, table.schema, compression="zstd")
        writer.write_table(table)
    assert writer is not None
    writer.close()


def write_long(path: Path, series: int) -> None:
    """Each series with its own level, size, day and noise."""
    import numpy as np
    import polars as pl

    generator = np.random.default_rng(0)
    hours = np.arange(LENGTH)
    size = np.exp(generator.normal(size=(series, 1)))
    phase = generator.uniform(0, 2 * np.pi, (series, 1))
    walk = np.cumsum(generator.normal(size=(series, LENGTH)).astype(np.float32), axis=1) * 0.1
    values = size * (10 + np.sin(2 * np.pi * hours / 24 + phase) + walk)
    names = [f"series {number:05}" for number in range(series)]
    times = np.datetime64("2020-01-01T00", "us") + hours.astype("m8[h]")
    frame = pl.DataFrame(
        {
            "unique_id": pl.Series(names).gather(np.repeat(np.arange(series), LENGTH)),
            "ds": np.tile(times, series),
            "y": values.ravel().round(3),
        }
    )
    frame.write_parquet(path)


# --- in a process of its own: training, watched ---------------------------------------------------------------------------------


def resident() -> dict[str, float]:
    """Resident megabytes now, at the peak, and of them what is no mapped file."""
    names = {"VmRSS:": "now", "VmHWM:": "peak", "RssAnon:": "anonymous"}
    lines = [line.split() for line in Path("/proc/self/status").read_text().splitlines()]
    return {names[words[0]]: int(words[1]) / 1024 for words in lines if words and words[0] in names}


class Watch(threading.Thread):
    """Looks at memory every 5 ms, and at each new peak at the lines of elman that the main thread is in."""

    def __init__(self, started: float) -> None:
        super().__init__(daemon=True)
        self.started = started
        self.peaks: list[dict[str, Any]] = []
        self.by_line: dict[str, float] = {}
        self.samples: list[tuple[float, float]] = []
        self.main = threading.main_thread().ident
        self.over = False

    def run(self) -> None:
        page, highest = resource.getpagesize() / 2**20, 0.0
        while not self.over:
            with open("/proc/self/statm") as file:
                now = int(file.read().split()[1]) * page
            where = self._where()
            # The innermost line of elman, with the most that was resident while it ran.
            innermost = where[-1] if where else "before"
            self.by_line[innermost] = max(self.by_line.get(innermost, 0.0), now)
            if not self.samples or time.perf_counter() - self.started - self.samples[-1][0] > 0.25:
                self.samples.append((time.perf_counter() - self.started, now))
            if now > highest + 10:
                highest = now
                peak = {"seconds": time.perf_counter() - self.started, "megabytes": now, "lines": where}
                if self.peaks and self.peaks[-1]["lines"] == where:
                    self.peaks[-1] = peak
                else:
                    self.peaks.append(peak)
            time.sleep(0.005)

    def _where(self) -> list[str]:
        frame = sys._current_frames().get(self.main or 0)
        lines = []
        while frame is not None:
            name = frame.f_code.co_filename
            if "/elman/" in name:
                lines.append(f"{name.rsplit('/elman/', 1)[1]}:{frame.f_lineno} {frame.f_code.co_name}")
            frame = frame.f_back
        return lines[::-1]


def child(table: Path, kind: str, minutes: float, baselines: bool, horizon: str | None) -> None:
    """Train, and print what was seen."""
    began = time.perf_counter()
    watch = Watch(began)
    watch.start()

    from elman.series import trainer as trainer_module
    from elman.series.trainer import train_series
    from elman.training.progress import Reporter, Status

    stages: list[dict[str, Any]] = []
    learnt: list[float] = []

    def note(name: str) -> None:
        seconds = time.perf_counter() - began
        if not stages or stages[-1]["stage"] != name:
            stages.append({"stage": name, "from": seconds, "resident_at_start": resident()["now"]})
        stages[-1] |= {"to": seconds, "resident": resident()["now"], "peak_so_far": resident()["peak"]}

    class Stages(Reporter):
        """Notes each stage and the rate of each block."""

        def working(self, stage: str, share: float) -> None:
            note(stage)

        def started(self, status: Status) -> None:
            note("waiting for the first update")

        def updated(self, status: Status) -> None:
            if not learnt:
                note("waiting for the first update")
            note("training")
            learnt.append(status.symbols_per_second or 0.0)

        def validated(self, status: Status, better: bool) -> None:
            note("validation")

        def finished(self, status: Status, ending: str) -> None:
            note("validation")

    def timed(module: Any, name: str, stage: str) -> None:
        """Note when a function of the room that reports no stage of its own begins and ends."""
        whole = getattr(module, name)

        def noted(*given: Any, **named: Any) -> Any:
            note(stage)
            result = whole(*given, **named)
            note(stage)
            return result

        setattr(module, name, noted)

    timed(trainer_module, "read_table", "reading")
    timed(trainer_module, "inspect", "inspecting")
    timed(trainer_module, "to_panel", "laying the grid")
    timed(trainer_module.Encoding, "fit", "fitting the encoding")
    timed(trainer_module, "new_network", "making the network")
    timed(trainer_module, "SeriesTask", "encoding rows")
    timed(trainer_module, "write_evaluation", "evaluating")
    imported = resident()["now"]
    settings = SETTINGS[kind] | ({"horizon": horizon} if horizon else {})
    with tempfile.TemporaryDirectory() as folder:
        run = train_series(
            table, run=Path(folder) / "run", reporter=Stages(), baselines=baselines, minutes=minutes, **settings
        )
        events = {event["kind"]: event for event in run.events()}
        test = run.evaluation["test"]
    watch.over = True
    rates = sorted(learnt[2:] or learnt[-1:])
    own, children = (
        resource.getrusage(who).ru_maxrss / 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    figures = {
        "peak_mb": own,
        "peak_of_this_program_mb": resident()["peak"],
        "peak_of_children_mb": children,
        "after_imports_mb": imported,
        "seconds": time.perf_counter() - began,
        "stages": merged(stages),
        "forecasts_per_second": rates[len(rates) // 2] if rates else None,
        "training_rows": events["start"]["training_rows"],
        "rows": events["start"]["rows"],
        "test_mae": test["mae"],
        "best_baseline": test["best_baseline"],
        "peaks": watch.peaks,
        "highest_by_line": dict(sorted(watch.by_line.items(), key=lambda pair: -pair[1])[:25]),
        "samples": watch.samples,
    }
    print("FIGURES", json.dumps(figures))


def merged(stages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Stages of one name as one: the seconds added up, the peak of the last, the most that was resident at an end."""
    found: dict[str, dict[str, Any]] = {}
    for number, stage in enumerate(stages):
        # A stage lasts until the next one begins.
        until = stages[number + 1]["from"] if number + 1 < len(stages) else stage["to"]
        one = found.setdefault(stage["stage"], {"stage": stage["stage"], "seconds": 0.0, "resident": 0.0})
        one["seconds"] += until - stage["from"]
        one["resident"] = max(one["resident"], stage["resident"])
        one["peak_so_far"] = stage["peak_so_far"]
    return list(found.values())


# --- the parent: starts the processes and stays small ---------------------------------------------------------------------------


def measure(table: Path, kind: str, minutes: float, baselines: bool, horizon: str | None) -> dict[str, Any]:
    """One child's figures, or the end of what it said."""
    command = [sys.executable, __file__, "--child", kind, "--file", str(table), "--minutes", str(minutes)]
    command += [] if baselines else ["--without-baselines"]
    command += ["--horizon", horizon] if horizon else []
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = [line for line in finished.stdout.splitlines() if line.startswith("FIGURES ")]
    if finished.returncode or not lines:
        return {"error": finished.stderr[-2000:] or f"it ended with status {finished.returncode}"}
    return json.loads(lines[-1].removeprefix("FIGURES "))


def main() -> None:
    """Write the tables, train on each, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=0.5)
    parser.add_argument("--tables", nargs="*", choices=tuple(SETTINGS), default=list(SETTINGS))
    parser.add_argument("--rows", type=float, default=1.0, help="share of the rows (of the series): less for a trial")
    parser.add_argument("--horizon", help="instead of 24h")
    parser.add_argument("--without-baselines", action="store_true")
    parser.add_argument("--child", choices=tuple(SETTINGS), help=argparse.SUPPRESS)
    parser.add_argument("--write", choices=tuple(SETTINGS), help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    parsed = parser.parse_args()
    if parsed.child:
        child(parsed.file, parsed.child, parsed.minutes, not parsed.without_baselines, parsed.horizon)
        return
    if parsed.write == "wide":
        write_wide(parsed.file, int(ROWS * parsed.rows))
        return
    if parsed.write == "long":
        write_long(parsed.file, int(SERIES * parsed.rows))
        return
    from measuring import report

    found: dict[str, Any] = {}
    rows = [("table", "peak MB", "stage", "seconds", "MB at its end", "peak MB until then")]
    with tempfile.TemporaryDirectory() as folder:
        for kind in parsed.tables:
            table = Path(folder) / f"{kind}.parquet"
            command = [sys.executable, __file__, "--write", kind, "--file", str(table), "--rows", str(parsed.rows)]
            subprocess.run(command, check=True)
            for baselines in (False,) if parsed.without_baselines else (False, True):
                name = f"{kind}, {'with' if baselines else 'without'} baselines"
                figures = measure(table, kind, parsed.minutes, baselines, parsed.horizon)
                found[name] = {**figures, "file_mb": table.stat().st_size / 1e6}
                if "error" in figures:
                    rows.append((name, "failed", figures["error"].strip().splitlines()[-1][:80], "", "", ""))
                    continue
                for number, stage in enumerate(figures["stages"]):
                    first = (name, f"{figures['peak_of_this_program_mb']:,.0f}") if number == 0 else ("", "")
                    numbers = stage["seconds"], stage["resident"], stage["peak_so_far"]
                    rows.append((*first, stage["stage"], f"{numbers[0]:.1f}", *(f"{n:,.0f}" for n in numbers[1:])))
                said = f"{figures['forecasts_per_second'] or 0:,.0f} forecasts/s, test error {figures['test_mae']:.3g}"
                rows.append(("", "", said, f"{figures['seconds']:.0f}", "", ""))
            table.unlink()
    whole = parsed.rows == 1 and parsed.minutes == 0.5 and not parsed.without_baselines and not parsed.horizon
    report("big_tables" + ("" if whole else "-other"), rows, {"by_table": found, "limit_mb": LIMIT_MB})
    for name, figures in found.items():
        for peak in figures.get("peaks", [])[-3:]:
            print(f"{name}: {peak['megabytes']:,.0f} MB after {peak['seconds']:.1f} s at {' > '.join(peak['lines'])}")


if __name__ == "__main__":
    main()

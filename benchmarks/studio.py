"""What the studio costs: to open a long run, until a live curve shows what was written, and to a training that 20 tabs look at.

    python benchmarks/studio.py                 all three; about four minutes
    python benchmarks/studio.py --only cost     `open`, `lag` or `cost`

A real Chromium runs on the same two cores, so the cost of the tabs holds their drawing too. The bounds: a run of 100,000 events
and 500 samples opens in 2 s, a curve lags 1 s, twenty tabs take 3 % of the training's speed.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

from measuring import report

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from browser import browser, opened_page, running_studio
from elman.config import Config
from elman.training.runs import Run

EVENTS, SAMPLES, TABS = 100_000, 500, 20
NEWEST = """() => {
  const charts = [...document.querySelectorAll('.chart')].map(e => getElement(+e.id.slice(1))).filter(c => c && c.chart);
  const data = charts.length ? charts[0].chart.getOption().series[0].data : [];
  return data.length ? data[data.length - 1][0] : 0;
}"""
"""The last update that the curve of losses shows."""


def update(iteration: int, loss: float) -> dict[str, Any]:
    """An event of one update, as training logs it."""
    rates = {"learning_rate": 0.002, "gradient_norm": 0.5, "symbols_per_second": 250_000.0}
    return {"kind": "update", "iteration": iteration, "loss": [loss], **rates, "elapsed": 0.01 * iteration}


def make_run(path: Path, events: int, samples: int) -> Path:
    """A run folder with a log of that length; losses fall and are noisy."""
    about = {"format": 1, "task": "text", "elman": "0", "inputs": ["made.txt"], "digest": "0"}
    run = Run.create(path, {"run": about, **Config().to_dict("text")})
    draw = random.Random(0)
    with (path / "events.jsonl").open("a") as log:
        for iteration in range(events):
            event = update(iteration, 1.4 + 2.5 / (1 + iteration / 500) + draw.gauss(0, 0.05))
            log.write(json.dumps(event) + "\n")
            if samples and iteration % (events // samples) == 0:
                text = "".join(draw.choices("etaoin shrdlu\n", k=500))
                sample = {"kind": "sample", "iteration": iteration, "text": text, "elapsed": 0.01 * iteration}
                log.write(json.dumps(sample) + "\n")
    return run.path


def opening(chromium: Any, folder: Path) -> list[float]:
    """Seconds from the address to the last point of the curve and the newest sample: by a new studio, then by one that knows it."""
    make_run(folder / "long", EVENTS, SAMPLES)
    found = []
    with running_studio(folder, dict(os.environ)) as address:
        for _ in range(4):
            with opened_page(chromium, address) as opened:
                began = time.perf_counter()
                opened.page.goto(f"{address}/?run=long")
                opened.page.wait_for_selector("pre.sample")
                opened.page.wait_for_function(f"({NEWEST})() > {EVENTS * 0.99}")
                found.append(time.perf_counter() - began)
    return found


def lagging(chromium: Any, folder: Path) -> list[float]:
    """Seconds from a line in the log to the point of the curve, at times that fall anywhere between two looks."""
    path, draw = make_run(folder / "live", 200, 0), random.Random(1)
    found = []
    with running_studio(folder, dict(os.environ)) as address, opened_page(chromium, address) as opened:
        opened.page.goto(f"{address}/?run=live")
        with Run(path).writing() as log:
            opened.page.wait_for_function(f"({NEWEST})() >= 200")
            for iteration in range(200, 220):
                time.sleep(draw.uniform(1.0, 1.5))
                began = time.perf_counter()
                log.write(**update(iteration, 2.0))
                opened.page.wait_for_function(f"({NEWEST})() > {iteration}", polling=20)
                found.append(time.perf_counter() - began)
    return found


def speed(events: Path, seconds: float) -> float:
    """Updates per second that the training makes in that time, by its own clock."""
    before = events.stat().st_size
    time.sleep(seconds)
    with events.open("rb") as file:
        file.seek(before)
        lines = file.read().split(b"\n")[1:-1]
    blocks = [json.loads(line) for line in lines]
    updates = [block for block in blocks if block["kind"] == "update"]
    return sum(len(block["loss"]) for block in updates[1:]) / (updates[-1]["elapsed"] - updates[0]["elapsed"])


def processor_time() -> float:
    """Seconds of processor that the studio and all processes of the browser have taken so far."""
    ticks = 0
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (folder / "cmdline").read_bytes().split(b"\0")
            if b"studio" in words or b"chrom" in words[0]:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
                ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def costing(chromium: Any, folder: Path, rounds: int) -> dict[str, list[float]]:
    """The speed of one training without anybody looking, with twenty tabs of one window (`rounds` times), and with twenty windows.

    Nobody looks before and after each: what is lost is counted against the mean of the two. The processor time that studio and
    browser took meanwhile is the same cost without the training's own ups and downs; as a share of all cores.

    A headless browser takes every page for the one in front. Of the twenty tabs of a window nineteen are therefore told what a real
    browser would tell them: that they are hidden.
    """
    text = folder.parent / "text.txt"
    draw = random.Random(2)
    text.write_text(
        "".join(draw.choice(["the", "a", "cat", "dog", "sat", "on", "mat", "ran"]) + " " for _ in range(300_000))
    )
    words = ["--run", str(folder / "training"), "--hidden", "256", "--minutes", "30", "--sample-every", "1000"]
    training = subprocess.Popen(
        [sys.executable, "-m", "elman", "train", "text", str(text), *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    events = folder / "training" / "events.jsonl"
    found: dict[str, list[float]] = {"alone": [], "tabs": [], "windows": [], "share_tabs": [], "share_windows": []}
    try:
        with running_studio(folder, dict(os.environ)) as address:
            while not events.exists() or events.stat().st_size < 20_000:
                assert training.poll() is None, "the training ended"
                time.sleep(0.5)
            found["alone"].append(speed(events, 20))
            for kind in (*["tabs"] * rounds, "windows"):
                with ExitStack() as stack:
                    for number in range(TABS):
                        opened = stack.enter_context(opened_page(chromium, address))
                        if number and kind == "tabs":
                            opened.page.add_init_script("Object.defineProperty(document, 'hidden', {get: () => true})")
                        opened.page.goto(f"{address}/?run=training", wait_until="commit")
                    time.sleep(30)  # twenty pages take two cores some time to open
                    before, began = processor_time(), time.monotonic()
                    found[kind].append(speed(events, 20))
                    taken = (processor_time() - before) / (time.monotonic() - began)
                    found[f"share_{kind}"].append(100 * taken / (os.cpu_count() or 1))
                time.sleep(20)  # until the studio has given up the pages that left
                found["alone"].append(speed(events, 20))
    finally:
        training.terminate()
        training.wait(60)
    return found


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("open", "lag", "cost"))
    parser.add_argument("--rounds", type=int, default=3, help="of the cost")
    chosen = parser.parse_args()
    figures: dict[str, Any] = {}
    rows: list[tuple[str, ...]] = [("what", "measured", "bound")]
    with tempfile.TemporaryDirectory() as folder, browser() as chromium:
        runs = Path(folder) / "runs"
        runs.mkdir()
        if chosen.only in (None, "open"):
            found = figures["open_seconds"] = opening(chromium, runs)
            rows.append(("open 100,000 events, a new studio", f"{found[0]:.2f} s", "2 s"))
            rows.append(("the same again, median", f"{statistics.median(found[1:]):.2f} s", "2 s"))
        if chosen.only in (None, "lag"):
            found = figures["lag_seconds"] = lagging(chromium, runs)
            rows.append(("lag of a live curve, median", f"{statistics.median(found):.2f} s", "1 s"))
            rows.append(("its greatest", f"{max(found):.2f} s", "1 s"))
        if chosen.only in (None, "cost"):
            speeds = figures["updates_per_second_and_shares"] = costing(chromium, runs, chosen.rounds)
            for kind, words in (("tabs", "20 tabs of one window"), ("windows", "20 windows, all in front")):
                first = 0 if kind == "tabs" else chosen.rounds
                around = [(a + b) / 2 for a, b in pairwise(speeds["alone"][first:])]
                lost = [100 * (1 - speed / alone) for speed, alone in zip(speeds[kind], around, strict=False)]
                figures[f"lost_percent_{kind}"] = lost
                bound = "3 %" if kind == "tabs" else ""
                rows.append((f"cost of {words}, median", f"{statistics.median(lost):.1f} %", bound))
                share = statistics.median(speeds[f"share_{kind}"])
                rows.append(("    processor time of studio and browser, of all cores", f"{share:.1f} %", bound))
    report("studio" if chosen.only is None else f"studio-{chosen.only}", rows, figures)


if __name__ == "__main__":
    main()

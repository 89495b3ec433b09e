"""Beside the peers: Keras' example network and neuralforecast's recurrent networks, on the same split, processor and minutes.

The book's task. All are asked at the same origins; each is trained for the same time on the clock, in which compilation and its own
ten validations count (of ours all origins, of theirs every 7th, to their advantage), and forecasts the test part with the weights
that were best on validation. The peers get the 14 columns standardised by the training rows, windows of 120 hours, and two threads;
ours is `train_series` with default settings and that budget.

    keras-lstm            LSTM(32), Dense(1), Adam 1e-3, batches of 256, squared error: the example and the book
    keras-lstm-mae        the same, trained on the absolute error that is scored
    neuralforecast-gru    its GRU, one layer of 64 units, path of 24 hours, all columns as historic covariates
    neuralforecast-lstm   its LSTM, likewise
    neuralforecast-gru-200    its GRU as it comes, two layers of 200 units, with which two cores make about an update a second

They live in an environment of their own, which is made where it is missing:

    python3 -m venv PATH; PATH/bin/pip install torch==2.13.0; PATH/bin/pip install keras jax==0.10.2 jaxlib==0.10.2 neuralforecast

python benchmarks/forecasting_peers.py --peers PATH                       one minute each: about ten minutes
python benchmarks/forecasting_peers.py --peers PATH --minutes 1 --only keras-lstm --backend torch
"""

import argparse
import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from elman.series.trainer import Prepared
from measuring import peers_python, report
from series_runs import BOOK, TARGET, Trained, questions, train

PEERS = ("keras-lstm", "keras-lstm-mae", "neuralforecast-gru", "neuralforecast-lstm", "neuralforecast-gru-200")
LOOKBACK = 120
WORKER = Path(__file__).parent / "forecasting_peers_worker.py"
# torch first and by its version: what needs it then takes this build, and not one with gigabytes of CUDA.
INSTALLS = (("torch==2.13.0",), ("torch==2.13.0", "keras", "jax==0.10.2", "jaxlib==0.10.2", "neuralforecast"))


def write_task(ready: Prepared, path: Path) -> tuple[float, float]:
    """What the peers need, as arrays, the target first; its mean and standard deviation over the training rows."""
    panel = ready.panel
    order = [panel.columns.index(TARGET), *(n for n, name in enumerate(panel.columns) if name != TARGET)]
    values = panel.values[:, order].astype(np.float64)
    # The peers take no gaps: what was seen last stands in them.
    seen = np.maximum.accumulate(np.where(np.isnan(values), 0, np.arange(len(values))[:, None]), axis=0)
    values = np.nan_to_num(np.take_along_axis(values, seen, axis=0))
    training = values[: ready.split.training_ends[0]]
    center, scale = training.mean(axis=0), training.std(axis=0)
    parts = {}
    for part in ("training", "validation", "test"):
        origins, actual = questions(ready, part)
        whole = origins >= LOOKBACK - 1
        parts[part] = origins[whole]
        parts[f"{part}_truth"] = ((actual[whole] - center[0]) / scale[0]).astype(np.float32)
    scaled = ((values - center) / scale).astype(np.float32)
    np.savez(path, values=scaled, horizon=ready.horizon.furthest, lookback=LOOKBACK, **parts)
    return float(center[0]), float(scale[0])


def peer(
    name: str, python: Path, task: Path, minutes: float, scale: float, parsed: argparse.Namespace
) -> dict[str, Any]:
    """One peer's figures in degrees; what went wrong, where it cannot be run."""
    threads = str(parsed.threads)
    environment = {
        **os.environ,
        "KERAS_BACKEND": parsed.backend,
        "OMP_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
    }
    command = [python, WORKER, name, task, str(60 * minutes), threads]
    finished = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=task.parent, check=False)
    if finished.returncode:
        return {"error": (finished.stderr.strip().splitlines() or ["it says nothing"])[-1]}
    figures = json.loads(finished.stdout.strip().splitlines()[-1])
    forecast = np.load(f"{task}.{name}.npy")
    truth = np.load(task)["test_truth"]
    curve = [[seconds, error * scale] for seconds, error in figures["validations"]]
    return {
        **figures,
        "validations": curve,
        "best_validation": scale * figures["final_validation"],
        "test": float(np.abs(forecast - truth).mean()) * scale,
    }


def ours(run: Trained) -> dict[str, Any]:
    """Our figures, as the peers': the error at the very same origins."""
    origins, actual = questions(run.ready, "test")
    forecast = run.model.forecast(run.ready.panel, origins)[:, -1, run.ready.horizon.middle]
    return {
        "validations": run.validations,
        "test": float(np.abs(forecast - actual).mean()),
        "seconds": run.training,
        "updates": run.updates,
        "parameters": run.parameters,
        "forecasts_per_second": float(np.median(run.rates)),
    }


def reached(curve: list[list[float]], error: float) -> float | None:
    """The seconds after which a validation was no worse than `error`."""
    return next((seconds for seconds, found in curve if found <= error), None)


def main() -> None:
    """Train, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--peers", type=Path, default=Path(tempfile.gettempdir()) / "elman-peers", help="their environment"
    )
    parser.add_argument("--minutes", type=float, nargs="*", default=[1.0])
    parser.add_argument("--only", nargs="*", choices=PEERS, default=PEERS)
    parser.add_argument("--backend", choices=("jax", "torch"), default="jax", help="what Keras computes with")
    parser.add_argument("--threads", type=int, default=2)
    parsed = parser.parse_args()
    python = peers_python(parsed.peers, INSTALLS)
    rows = [
        ("Jena, 24 h ahead", "minutes", "validation", "test", "its best after", "ours as good after", "forecasts/s")
    ]
    found: dict[str, dict[str, Any]] = {}
    for minutes in parsed.minutes:
        run = train(**BOOK, minutes=minutes)
        named: dict[str, dict[str, Any]] = {"elman": ours(run)}
        with tempfile.TemporaryDirectory() as folder:
            task = Path(folder) / "task.npz"
            _, scale = write_task(run.ready, task)
            for name in parsed.only:
                named[name] = peer(name, python, task, minutes, scale, parsed)
        for name, figures in named.items():
            if "error" in figures or not figures["validations"]:
                rows.append((name, f"{minutes:g}", figures.get("error", "no validation in time")[:60], "", "", "", ""))
                continue
            least = min(error for _, error in figures["validations"])
            best = figures.get("best_validation", least)
            own, our = reached(figures["validations"], least), reached(named["elman"]["validations"], best)
            figures |= {"best_validation": best, "best_after_seconds": own, "ours_as_good_after_seconds": our}
            cells = [f"{minutes:g}", f"{best:.3f}", f"{figures['test']:.3f}", f"{own:.0f} s"]
            cells += ["never" if our is None else f"{our:.0f} s", f"{figures['forecasts_per_second']:,.0f}"]
            rows.append((name, *cells))
        found[f"{minutes:g} minutes"] = named
    name = "forecasting_peers" + ("" if parsed.minutes == [1.0] and parsed.only == PEERS else "-other")
    report(name, rows, {"by_budget": found, "backend": parsed.backend, "threads": parsed.threads})


if __name__ == "__main__":
    main()

"""Streams against windows, the two ways to train one forecaster: forecasts learnt per second, and the error after equal time.

The book's task, the same network (the default one), the same lookback of 120 hours. A forecast counts where the loss counts it:
steps of a stream's warm-up do not. Windows come in the default batch of 64 and in the book's 256. Rates: short runs in turn, the
median of the blocks of each (compilation is in none of them but the first, which is left out), then of the rounds.

python benchmarks/streams_windows.py                                  about six minutes
python benchmarks/streams_windows.py --rounds 3 --seconds 20 40       target: streams at least 20 x, and no worse
"""

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import Any

from elman.config import Config
from elman.series.model import new_network
from elman.series.task import SeriesTask
from elman.series.trainer import Prepared, prepare
from elman.training.engine import use_compilation_cache
from elman.training.loop import Trainer
from elman.training.runs import Run
from measuring import interleaved, ratios, report, summarize
from series_runs import BOOK, JENA, Clock, train

LOOKBACK = "120"
KINDS: dict[str, dict[str, Any]] = {
    "streams": {"method": "streams"},
    "windows, batch 64": {"method": "windows", "batch": 64},
    "windows, batch 256": {"method": "windows", "batch": 256},
}


def ready_for(settings: dict[str, Any], seconds: float) -> Prepared:
    """The table, read once for each kind; validation only at the end, because rates are what is asked."""
    config = Config().replace(**BOOK, lookback=LOOKBACK, minutes=seconds / 60, validate_every=0, **settings)
    return prepare(JENA, config)


def scored_share(ready: Prepared) -> float:
    """The share of a stream's steps that is scored; 1 for windows."""
    task = SeriesTask(ready.panel, ready.split, ready.encoding, ready.config)
    return float(task.walk_through.take(300).scored.mean())


def rate_of(ready: Prepared, share: float) -> float:
    """Forecasts learnt per second in one short run."""
    clock = Clock()
    task = SeriesTask(ready.panel, ready.split, ready.encoding, ready.config)
    with tempfile.TemporaryDirectory() as folder:
        run = Run.create(Path(folder) / "run", ready.config.to_dict("series"))
        Trainer(task, new_network(ready.config, ready.encoding), ready.config.training, run, reporter=clock).train()
    return statistics.median(clock.rates[2:] or clock.rates[-1:]) * share


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rate-seconds", type=float, default=12.0, help="training of each run that measures a rate")
    parser.add_argument("--seconds", type=float, nargs="*", default=[20.0, 40.0], help="budgets for the scores")
    parser.add_argument("--seeds", type=int, default=1)
    parsed = parser.parse_args()
    use_compilation_cache()
    prepared = {kind: ready_for(settings, parsed.rate_seconds) for kind, settings in KINDS.items()}
    shares = {kind: scored_share(ready) for kind, ready in prepared.items()}
    rates = interleaved(
        {kind: lambda kind=kind: rate_of(prepared[kind], shares[kind]) for kind in KINDS}, parsed.rounds
    )
    scores: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for seconds in parsed.seconds:
        for seed in range(parsed.seeds):
            for kind, settings in KINDS.items():
                run = train(**BOOK, lookback=LOOKBACK, minutes=seconds / 60, seed=seed, **settings)
                scores.setdefault(f"{seconds:g} s", {}).setdefault(kind, []).append(run.summary())
    against = {f"streams / {kind}": ratios(rates, "streams", kind) for kind in KINDS if kind != "streams"}
    network = prepared["streams"].config.network
    rows = [(f"{network.cell} {network.hidden}, {LOOKBACK} steps back", "median", "least", "greatest")]
    for kind, found in summarize(rates).items():
        rows.append(
            (f"{kind}: forecasts learnt per second", *(f"{found[key]:,.0f}" for key in ("median", "min", "max")))
        )
    for kind, ratio in against.items():
        rows.append((kind, *(f"{ratio[key]:.1f} x" for key in ("median", "min", "max"))))
    for budget, kinds in scores.items():
        for kind, runs in kinds.items():
            for part in ("validation", "test"):
                errors = [run[part]["mae"] for run in runs]
                cells = [f"{pick(errors):.3f}" for pick in (statistics.median, min, max)]
                rows.append((f"{kind}: {part} error after {budget}", *cells))
    figures = {
        "forecasts_per_second": rates,
        "ratios": against,
        "scored_share": shares,
        "scores": scores,
        "settings": {kind: ready.config.to_dict("series") for kind, ready in prepared.items()},
        "target_ratio": 20,
    }
    usual = (parsed.rounds, parsed.rate_seconds, parsed.seconds) == (3, 12.0, [20.0, 40.0])
    report("streams_windows" + ("" if usual else "-other"), rows, figures)


if __name__ == "__main__":
    main()

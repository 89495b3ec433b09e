"""What the forecasting benchmarks share: a training run with its clock and its figures, and questions about the test part."""

import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from elman.series.model import SeriesModel
from elman.series.panel import Panel
from elman.series.run import SeriesRun
from elman.series.scoring.origins import part_origins, truth
from elman.series.trainer import Prepared, train_series
from elman.training.progress import Reporter, Status
from measuring import DATA

JENA = DATA / "jena_climate_2009_2016_hourly.csv"
TARGET = "T (degC)"
BOOK = {"target": TARGET, "horizon": "24h", "split": "50/25/25"}
"""The split of every published figure of the book."""


class Clock(Reporter):
    """Notes when each stage begins and ends, and how many forecasts per second each block of updates learnt."""

    def __init__(self) -> None:
        self.began = time.perf_counter()
        self.stages: dict[str, list[float]] = {}
        self.rates: list[float] = []

    def now(self) -> float:
        """Seconds since the clock was made."""
        return time.perf_counter() - self.began

    def working(self, stage: str, share: float) -> None:
        self._note(stage)

    def started(self, status: Status) -> None:
        self._note("training")

    def updated(self, status: Status) -> None:
        if status.iteration <= 1 or "first update" not in self.stages:
            self._note("first update")
        self._note("training")
        if status.symbols_per_second is not None:
            self.rates.append(status.symbols_per_second)

    def finished(self, status: Status, ending: str) -> None:
        self._note("training")

    def _note(self, stage: str) -> None:
        self.stages.setdefault(stage, [self.now(), 0.0])[1] = self.now()


@dataclass
class Trained:
    """A run that is over: what was ready before the first update, the model, the figures, and the seconds it took.

    seconds: of the whole `train_series`. training: of its updates and validations, as the run's own clock counts them.
    validations: [seconds of training, mean absolute error] of each validation.
    """

    ready: Prepared
    model: SeriesModel
    evaluation: dict[str, Any]
    seconds: float
    training: float
    updates: int
    parameters: int
    validations: list[list[float]]
    rates: list[float] = field(default_factory=list)

    def part(self, name: str) -> dict[str, Any]:
        """The figures of "validation" or "test", without those of the baselines."""
        kept = ("mae", "rmse", "crps", "coverage", "width", "bias", "count", "skill", "best_baseline")
        return {key: self.evaluation[name].get(key) for key in kept}

    def summary(self) -> dict[str, Any]:
        """What goes into a results file."""
        return {
            "validation": self.part("validation"),
            "test": self.part("test"),
            "seconds": round(self.seconds, 2),
            "training_seconds": round(self.training, 2),
            "updates": self.updates,
            "parameters": self.parameters,
            "validations": self.validations,
            "settings": self.ready.config.to_dict("series"),
        }


def train(source: Any = JENA, *, baselines: bool = False, preset: str | None = None, **settings: Any) -> Trained:
    """`train_series` in a temporary folder, timed from the outside."""
    held: list[Prepared] = []
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        run: SeriesRun = train_series(
            source,
            run=Path(folder) / "run",
            preset=preset,
            reporter=clock,
            prepared=lambda ready, _: held.append(ready),
            baselines=baselines,
            **settings,
        )
        seconds = time.perf_counter() - began
        validations = list(run.events("validation"))
        return Trained(
            ready=held[0],
            model=run.model(),
            evaluation=run.evaluation,
            seconds=seconds,
            training=validations[-1]["elapsed"],
            updates=len(run.losses),
            parameters=next(iter(run.events("start")))["parameters"],
            validations=[[event["elapsed"], event["mae"]] for event in validations],
            rates=clock.rates,
        )


def questions(ready: Prepared, part: str) -> tuple[np.ndarray, np.ndarray]:
    """The origins of a part ("training", "validation", "test") whose target was measured, and the target `[origins]`."""
    panel, split = ready.panel, ready.split
    bounds = {
        "training": (panel.offsets[:-1], split.training_ends),
        "validation": (split.training_ends, split.validation_ends),
        "test": (split.validation_ends, panel.offsets[1:]),
    }
    origins = part_origins(panel, ready.horizon, *bounds[part])
    actual = truth(panel, ready.horizon, origins)[:, -1]
    return origins[~np.isnan(actual)], actual[~np.isnan(actual)]


def slice_of(panel: Panel, first: int, last: int) -> Panel:
    """The rows `first` to before `last` of a panel of one series."""
    return Panel(
        columns=panel.columns,
        values=panel.values[first:last],
        times=panel.times[first:last],
        offsets=np.asarray([0, last - first], np.int64),
        step=panel.step,
        names=panel.names,
        time_zone=panel.time_zone,
        static=panel.static,
        static_columns=panel.static_columns,
    )


def middle_of(values: list[float]) -> float:
    """The median."""
    return float(np.median(values))

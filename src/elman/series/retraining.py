"""A network that a backtest trains anew, again and again, on the rows known by then."""

import tempfile
from pathlib import Path

import numpy as np

from elman.config import Config
from elman.errors import DataError, TrainingError
from elman.series.encoding import Encoding
from elman.series.model import SeriesModel, new_network
from elman.series.panel import Horizon, Panel, Split, parse_split
from elman.series.presets import check_lengths
from elman.series.task import SeriesTask
from elman.training.engine import precision
from elman.training.loop import Trainer
from elman.training.progress import Reporter, Status
from elman.training.runs import Run


class Retrained:
    """The network of a run, as a forecaster whose `fit` trains one like it from the start, in a folder that is gone afterwards."""

    def __init__(self, model: SeriesModel, reporter: Reporter) -> None:
        self.model = model
        self.reporter = reporter
        self.fits = 0

    @property
    def name(self) -> str:
        """The network's."""
        return self.model.name

    def fit(self, panel: Panel, horizon: Horizon, training_ends: np.ndarray) -> None:
        """Train on the rows before `training_ends`, the last of them kept to choose by, as the run's split has it."""
        self.fits += 1
        known = panel.until(training_ends)
        config = self.model.config.replace(split=_without_test(self.model.config.series.split))
        split = Split.of(known, config.series.split)
        try:
            check_lengths(config, known, split, "what is known at the first refit")
        except DataError as error:
            raise DataError(f"{error}; or begin later with --start") from None
        encoding = Encoding.fit(known, split.training_ends, horizon, config.series)
        with tempfile.TemporaryDirectory(prefix="elman-") as folder:
            self.model = self._train(config, known, split, encoding, Path(folder) / "run")

    def _train(self, config: Config, known: Panel, split: Split, encoding: Encoding, path: Path) -> SeriesModel:
        run = Run.create(path, config.to_dict("series"))
        with precision(config.training.dtype):
            network = new_network(config, encoding)
            task = SeriesTask(known, split, encoding, config, self.model.sentinels)
            words = f"training anew, fit {self.fits}"
            Trainer(task, network, config.training, run, reporter=_Share(self.reporter, words)).train()
        if not run.best_path.exists():
            raise TrainingError(f"fit {self.fits} of the backtest gave no network: no validation had a finite error")
        return SeriesModel.load(run.path)

    def forecast(self, panel: Panel, origins: np.ndarray) -> np.ndarray:
        """What the last network trained says."""
        return self.model.forecast(panel, origins)


class _Share(Reporter):
    """Shows a whole training as one stage of something longer."""

    def __init__(self, outer: Reporter, words: str) -> None:
        self.outer = outer
        self.words = words

    def updated(self, status: Status) -> None:
        self.outer.working(self.words, status.progress)


def _without_test(split: str) -> str:
    """The split of the known rows: training and validation as they were to each other, and nothing kept for a test.

    >>> _without_test("60/20/20")
    '75.0/25.0/0'
    """
    training, validation = parse_split(split)
    share = 100 * training / (training + validation)
    return f"{share!r}/{100 - share!r}/0"

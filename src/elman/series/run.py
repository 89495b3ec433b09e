"""A forecasting run as a person meets it: its model, its figures; a notebook shows them by itself."""

import html
import json
from pathlib import Path
from typing import Any

from elman.errors import RunError
from elman.series.model import SeriesModel
from elman.series.panel import Split
from elman.series.succession import Succession
from elman.training.runs import Run

EVALUATION_NAME = "evaluation.json"
CHOSEN_NAME = "chosen.safetensors"
"""Where a run with `refit` keeps the weights that validation chose; `best.safetensors` then holds those that were trained again."""

REFIT_NAME = "refit"
"""The folder, a run itself, in which they were."""


class SeriesRun(Run):
    """A run of a forecaster. `SeriesRun(path)` opens one, also while it is being trained."""

    def __init__(self, path: Path | str, *, interrupted: bool = False) -> None:
        Run.__init__(self, path)
        self.interrupted = interrupted

    def model(self) -> SeriesModel:
        """The model with the best weights so far."""
        return SeriesModel.load(self.path)

    def forecaster(self, split: Split) -> SeriesModel | Succession:
        """What is scored on the parts of `split`: the model, or after a refit the two that follow each other."""
        if not self.refitted:
            return self.model()
        chosen = SeriesModel.load(self.path / CHOSEN_NAME)
        return Succession(chosen, self.model(), split.validation_ends)

    @property
    def refitted(self) -> bool:
        """Whether the best weights were trained again with the validation part."""
        return self.best_path.exists() and bool(self.model().result.get("refit"))

    @property
    def evaluation(self) -> dict[str, Any]:
        """Scores beside the baselines, as `elman evaluate --json` prints them; empty while the run is being trained.

        Raises: `RunError` where the file is damaged.
        """
        path = self.path / EVALUATION_NAME
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, RecursionError) as error:
            raise RunError(f"{path} is damaged: {error}; write it anew with `elman evaluate {self.path}`") from None
        if not isinstance(found, dict):
            raise RunError(f"{path} is damaged: it is no JSON object; write it anew with `elman evaluate {self.path}`")
        return found

    @property
    def verdict(self) -> str:
        """Who wins, the network or a baseline, in one sentence; empty before the run is scored."""
        return str(self.evaluation.get("verdict", ""))

    @property
    def validations(self) -> list[tuple[int, float]]:
        """(iteration, mean absolute error at the horizon) of every validation."""
        return self.validated("mae")

    @property
    def losses(self) -> list[float]:
        """The raw loss of every update, in order."""
        return [loss for event in self.events("update") for loss in event["loss"]]

    def __repr__(self) -> str:
        return f"SeriesRun({str(self.path)!r}: {len(self.losses)} updates, {self.verdict or 'not scored yet'})"

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        return f"<p>{html.escape(repr(self))}</p>"

"""Two models of one run, of which the later has learnt the validation part: each is asked only what it had not seen."""

from dataclasses import dataclass

import numpy as np

from elman.series.model import SeriesModel
from elman.series.panel import Horizon, Panel
from elman.series.scoring.origins import series_of


@dataclass(frozen=True, eq=False)
class Succession:
    """A forecaster as one would have had it at every moment: `chosen` up to the end of validation, `refitted` behind it.

    So the validation part is scored, and the intervals are calibrated, with weights that did not learn from it.
    """

    chosen: SeriesModel
    refitted: SeriesModel
    validation_ends: np.ndarray
    name: str = "network"

    @property
    def horizon(self) -> Horizon:
        """That of both."""
        return self.refitted.horizon

    def fit(self, panel: Panel, horizon: Horizon, training_ends: np.ndarray) -> None:
        """Both are trained already."""

    def forecast(self, panel: Panel, origins: np.ndarray) -> np.ndarray:
        """Quantiles as of `SeriesModel.forecast`, each from the model that had not learnt what is asked."""
        origins = np.asarray(origins, np.int64)
        later = origins + self.horizon.rows[0] >= self.validation_ends[series_of(panel, origins)]
        shape = (len(origins), len(self.horizon.rows), len(self.horizon.levels))
        result = np.empty(shape, np.float32)
        result[~later] = self.chosen.forecast(panel, origins[~later])
        result[later] = self.refitted.forecast(panel, origins[later])
        return result

"""What every forecaster is, baselines and networks alike: fitted on known rows, asked at origins, answering with quantiles."""

from typing import Protocol

import numpy as np
from jaxtyping import Float32, Int64

from elman.series.panel import Horizon, Panel


class AbstractForecaster(Protocol):
    """A way of forecasting. An *origin* is the global number of the last row that may be known."""

    @property
    def name(self) -> str:
        """What it is called beside the others."""
        ...

    def fit(self, panel: Panel, horizon: Horizon, training_ends: Int64[np.ndarray, " series"]) -> None:
        """Learn from the rows of each series before `training_ends`; targets behind them must not matter either."""
        ...

    def forecast(
        self, panel: Panel, origins: Int64[np.ndarray, " origins"]
    ) -> Float32[np.ndarray, "origins steps levels"]:
        """Quantiles for each of the horizon's steps ahead of each origin, from rows up to the origin only.

        NaN where the forecaster has nothing to go by. `panel` may be another than the one fitted on, with the same columns.
        """
        ...

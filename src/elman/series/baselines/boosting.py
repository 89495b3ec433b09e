"""Boosted trees on lags, by LightGBM: an optional baseline for those who would use it instead of a network.

One ensemble of trees for each step learns the same changes from the same rows as `ridge`, by absolute error. Memory: the rows are
held as float32, so at most `MOST_ORIGINS` of them, at most `MOST_VALUES` numbers, fewer if there are many steps to learn.

Reference: Ke et al. 2017, "LightGBM: a highly efficient gradient boosting decision tree".
"""

import importlib
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from elman.errors import ConfigError
from elman.series.baselines.lags import LagDesign
from elman.series.baselines.residuals import PointForecaster
from elman.series.baselines.ridge import regression_targets
from elman.series.panel import Horizon, Panel
from elman.series.scoring.origins import chunks, last_values, series_of

MOST_ORIGINS = 200_000
MOST_VALUES = 60_000_000
_MOST_TARGETS = 1_000_000
_CHUNK = 4096
_SETTINGS = {
    "objective": "regression_l1",
    "learning_rate": 0.05,
    "num_leaves": 31,
    "min_data_in_leaf": 50,
    "feature_fraction": 0.5,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "seed": 0,
    "deterministic": True,
    "force_row_wise": True,
    "verbosity": -1,
}
"""Those of the library where not said; 0.05 and half of the features for each tree because lags are many and alike."""


class LightGBMOnLags(PointForecaster):
    """Trees on the past of all columns; the same result each time on the same machine.

    trees: for each step. threads: 0 takes all cores. Raises: `ConfigError` at once where lightgbm is not installed.
    """

    name = "LightGBM on lags"

    def __init__(self, trees: int = 200, threads: int = 0) -> None:
        self.trees, self.threads = trees, threads
        self._library = _library()

    def learn(self, panel: Panel, horizon: Horizon, training_ends: Int64[np.ndarray, " series"]) -> None:
        """One ensemble for each step."""
        self._design = LagDesign.plan(panel, horizon, training_ends)
        width = self._design.features(panel, np.arange(panel.series_count), panel.offsets[:1]).shape[1]
        limit = min(MOST_ORIGINS, MOST_VALUES // width, max(_MOST_TARGETS // len(horizon.rows), 20_000))
        origins, changes = regression_targets(panel, horizon, training_ends, self._design, limit)
        rows = np.empty((len(origins), width), np.float32)
        for piece in chunks(origins, _CHUNK):
            rows[piece] = self._design.features(panel, np.arange(panel.series_count), origins[piece])
        data = self._library.Dataset(rows, free_raw_data=False, params={"verbosity": -1, "num_threads": self.threads})
        settings = {**_SETTINGS, "num_threads": self.threads}
        self._trees = []
        for step in range(len(horizon.rows)):
            data.set_label(changes[:, step])
            self._trees.append(self._library.train(settings, data, num_boost_round=self.trees))

    def points(self, panel: Panel, origins: Int64[np.ndarray, " origins"]) -> Float64[np.ndarray, "origins steps"]:
        """The last value plus the change that the trees give."""
        places = self.places(panel)
        result = np.empty((len(origins), len(self.horizon.rows)))
        for piece in chunks(origins, _CHUNK):
            some = origins[piece]
            values, _ = last_values(panel, self.horizon.target, some)
            scales = self._design.scales[places[series_of(panel, some)], self._design.target]
            rows = self._design.features(panel, places, some).astype(np.float32)
            changes = np.stack([trees.predict(rows, num_threads=self.threads) for trees in self._trees], axis=1)
            result[piece] = values[:, None] + scales[:, None] * changes
        return result


def _library() -> Any:
    """The module, loaded where it is used: it is heavy, and an extra."""
    try:
        return importlib.import_module("lightgbm")
    except ImportError:
        raise ConfigError(
            "the baseline LightGBM on lags needs the library of that name, which is not installed: "
            "pip install 'elman[lightgbm]'"
        ) from None

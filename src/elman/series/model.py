"""A trained forecaster: one file with weights, scaler, column names and calibration, from which one forecasts."""

import functools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np

from elman.config import Config
from elman.errors import BundleError
from elman.network import to_arrays, with_arrays
from elman.series.calibration import Calibration
from elman.series.chunks import Program, Walk, forecast_origins, forecast_program
from elman.series.durations import rows_of
from elman.series.encoding import Encoding, Rows
from elman.series.networks import ForecastNetwork
from elman.series.origins import series_of
from elman.series.panel import Horizon, Panel
from elman.training.bundle import Bundle, made_with
from elman.training.engine import precision
from elman.training.runs import Run

LONGEST_WINDOW = 1_000_000
"""Steps that a window may have in a saved file: more is damage."""

WARM_UP_LOOKBACKS = 4
"""Lookbacks of rows that a stream's state is warmed up on before it is asked: by then it has forgotten that it began at zero."""


@dataclass(frozen=True, eq=False)
class SeriesModel:
    """A network that forecasts, with all it takes to use it. `load` reads one from a bundle or a run folder.

    It is a forecaster like the baselines: `forecast(panel, origins)` answers with quantiles in the target's unit.
    """

    network: ForecastNetwork
    encoding: Encoding
    calibration: Calibration
    config: Config
    result: dict[str, Any] = field(default_factory=dict)
    name: str = "network"
    program: Program | None = None

    @classmethod
    def load(cls, path: Path | str) -> "SeriesModel":
        """Read a bundle, or the best weights of a run folder.

        Raises: `BundleError` when the file is damaged, of another kind or too new; `RunError` for a folder that is no run.
        """
        path = Path(path)
        if path.is_dir():
            run = Run(path)
            if not run.best_path.exists():
                raise BundleError(
                    f"{path} has no {run.best_path.name} yet: wait for its first validation, or train it longer"
                )
            path = run.best_path
        bundle = Bundle.load(path)
        if bundle.kind != "series":
            raise BundleError(f"{path} holds a model of kind {bundle.kind!r}; a forecaster is expected here")
        config = Config.from_dict(bundle.config)
        try:
            encoding = Encoding.from_parts(bundle.codec, _under(bundle.arrays, "encoding."))
            calibration = _calibration(_under(bundle.arrays, "calibration."), len(encoding.ahead), config)
        except BundleError as error:
            raise BundleError(f"{path} {error}") from None
        _check_rows(config, encoding, str(path))
        with precision(config.training.dtype):
            # The shapes that the settings call for, without drawing weights: a hostile size costs nothing.
            template = _network_shape(config, encoding, str(path))
            network = with_arrays(template, _under(bundle.arrays, "network."), str(path))
        return cls(network, encoding, calibration, config, bundle.result)

    def save(self, path: Path | str) -> None:
        """Write the bundle: one safetensors file with everything that is needed to forecast."""
        arrays = {f"network.{name}": array for name, array in to_arrays(self.network).items()}
        arrays |= {f"encoding.{name}": array for name, array in self.encoding.arrays().items()}
        arrays |= {f"calibration.{name}": array for name, array in self.calibration.to_arrays().items()}
        Bundle(
            kind="series",
            arrays=arrays,
            config=self.config.to_dict("series"),
            codec=self.encoding.to_dict(),
            made_with=made_with(),
            result=self.result,
        ).save(path)

    @property
    def horizon(self) -> Horizon:
        """What it was asked to forecast: the horizon's own rows, without those that it learns on the side."""
        return horizon_of(self.config, self.encoding.step, self.encoding.target)

    @property
    def lookback(self) -> int:
        """Rows that a forecast looks back on at least."""
        return rows_of(self.config.series.lookback or "1", self.encoding.step, "lookback")

    @property
    def every(self) -> int:
        """Rows from one step of the network to the next."""
        return rows_of(self.config.series.every or "1", self.encoding.step, "every")

    @property
    def walk(self) -> Walk:
        """How forecasts at many origins are made."""
        return walk_of(self.config, self.lookback, self.every)

    @property
    def memory_rows(self) -> int:
        """Rows before an origin that a forecast may depend on; with more of them it stays the same, to a few digits."""
        return self.walk.warm_up * self.every + 1

    def fit(self, panel: Panel, horizon: Horizon, training_ends: np.ndarray) -> None:
        """It is trained already: `Forecaster.fit` and `train_series` do that."""

    def forecast(self, panel: Panel, origins: np.ndarray) -> np.ndarray:
        """Calibrated quantiles `[origins, steps, levels]` in the target's unit, for the horizon's rows ahead of each origin.

        panel: with the columns the model was trained on; its series may be others. origins: global row numbers.
        """
        origins = np.asarray(origins, np.int64)
        if len(origins) == 0:
            return np.zeros((0, len(self.horizon.rows), len(self.horizon.levels)), np.float32)
        rows = self.encoding.rows(panel, known_until=_asked_first(panel, origins))
        return self.forecast_rows(rows, origins)

    def forecast_rows(self, rows: Rows, origins: np.ndarray, *, calibrated: bool = True) -> np.ndarray:
        """`forecast` for a panel that is already in the network's numbers."""
        outputs = len(self.encoding.ahead) * len(self.horizon.levels)
        with precision(self.config.training.dtype):
            scaled = forecast_origins(self._program, self.network, self.encoding, rows, origins, self.walk, outputs)
        return self.in_units(scaled, rows.series[origins], rows, calibrated=calibrated)

    def in_units(self, scaled: np.ndarray, series: np.ndarray, rows: Rows, *, calibrated: bool = True) -> np.ndarray:
        """Scaled quantiles `[n, ahead, levels]` as measurements of the series `[n]`, for the horizon's rows only."""
        scaled = scaled[:, [self.encoding.ahead.index(row) for row in self.horizon.rows]].astype(np.float64)
        if calibrated:
            scaled = self.calibration.apply(scaled)
        return (scaled * rows.scale[series][:, None, None] + rows.center[series][:, None, None]).astype(np.float32)

    @functools.cached_property
    def _program(self) -> Program:
        return self.program or forecast_program(self.encoding)


def horizon_of(config: Config, step: Any, target: str) -> Horizon:
    """The horizon that the settings ask for, in rows `step` apart."""
    furthest = rows_of(config.series.horizon, step, "horizon")
    rows = tuple(range(1, furthest + 1)) if config.series.path else (furthest,)
    levels = config.series.levels if config.series.forecast == "quantiles" else (0.5,)
    return Horizon(target, rows, levels)


def walk_of(config: Config, lookback: int, every: int) -> Walk:
    """Chunks of a stream after a warm-up, or single windows."""
    steps = max(1, -(-lookback // every))
    if config.series.method == "windows":
        return Walk(every, steps - 1, 1)
    return Walk(every, WARM_UP_LOOKBACKS * steps, 512)


def new_network(config: Config, encoding: Encoding) -> ForecastNetwork:
    """A network with starting weights for `config`."""
    with precision(config.training.dtype):
        create = functools.partial(ForecastNetwork.create, config, encoding.input_size, len(encoding.ahead))
        return jax.jit(create)(key=jax.random.key(config.training.seed))


def _network_shape(config: Config, encoding: Encoding, source: str) -> ForecastNetwork:
    if config.network.hidden is None:
        raise BundleError(f"{source} does not say how many hidden units its network has")
    try:
        return jax.eval_shape(lambda: new_network(config, encoding))
    except (OverflowError, TypeError, ValueError, MemoryError) as error:
        raise BundleError(f"{source} calls for a network that cannot be: {error}") from None


def _calibration(arrays: dict[str, np.ndarray], ahead: int, config: Config) -> Calibration:
    """The calibration in a bundle's arrays, checked."""
    levels = config.series.levels if config.series.forecast == "quantiles" else (0.5,)
    try:
        found = Calibration.from_arrays(arrays)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise BundleError(f"is no whole series model: its calibration cannot be read ({error})") from None
    asked = found.shifts.shape[0] if found.shifts.ndim == 2 else 0
    if found.levels != tuple(levels) or found.shifts.shape != (asked, len(levels)) or not 1 <= asked <= ahead:
        raise BundleError("is no whole series model: its calibration does not fit its levels")
    return found


def _check_rows(config: Config, encoding: Encoding, source: str) -> None:
    """Refuse durations that make no sense together, before anything is made from them."""
    horizon = horizon_of(config, encoding.step, encoding.target) if config.series.horizon else None
    if horizon is None or not set(horizon.rows) <= set(encoding.ahead):
        raise BundleError(f"{source} is no whole series model: its horizon is not what its network forecasts")
    if rows_of(config.series.lookback or "1", encoding.step, "lookback") > LONGEST_WINDOW:
        raise BundleError(f"{source} looks back further than a model can: it is damaged")


def _asked_first(panel: Panel, origins: np.ndarray) -> np.ndarray:
    """For each series, the row behind the first origin that is asked: a new series is scaled by nothing later."""
    ends = panel.offsets[1:].copy()
    np.minimum.at(ends, series_of(panel, origins), origins + 1)
    return ends


def _under(arrays: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """The arrays whose names begin with `prefix`, without it."""
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}

"""A trained forecaster: one file with weights, scaler, column names and calibration, from which one forecasts."""

import functools
import itertools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np

from elman.config import Config
from elman.errors import BundleError, ConfigError
from elman.network import CELLS, to_arrays, with_arrays
from elman.series.chunks import Program, Walk, forecast_origins, forecast_program
from elman.series.durations import Duration, rows_of
from elman.series.encoding import Encoding, Rows
from elman.series.mapped.rows import MappedColumn
from elman.series.networks import ForecastNetwork
from elman.series.panel import Horizon, Panel
from elman.series.reading.zones import check_zone
from elman.series.scoring.calibration import Calibration
from elman.series.scoring.origins import series_of
from elman.training.bundle import Bundle, made_with
from elman.training.engine import precision
from elman.training.runs import bundle_of

LONGEST_WINDOW = 1_000_000
"""Steps that a window may have in a saved file: more is damage."""

_ENCODING_ARRAYS = {"center", "scale", "low", "high", "static_center", "static_scale"}
_NAME_LISTS = ("columns", "known", "directions", "masked", "circles", "names", "static_columns")

LONGEST_CHUNK = 8192
"""Steps of a stream that are asked for after one warm-up, where there are enough of them."""

WARM_UP_LOOKBACKS = 4
"""Lookbacks of rows that a stream's state is warmed up on before it is asked: by then it has forgotten that it began at zero."""


@dataclass(frozen=True, eq=False)
class SeriesModel:
    """A network that forecasts, with all it takes to use it. `load` reads one from a bundle or a run folder.

    It is a forecaster like the baselines: `forecast(panel, origins)` answers with quantiles in the target's unit.

    sentinels: by column, the numbers that meant "missing" in training, and mean it in new rows too.
    """

    network: ForecastNetwork
    encoding: Encoding
    calibration: Calibration
    config: Config
    result: dict[str, Any] = field(default_factory=dict)
    name: str = "network"
    program: Program | None = None
    _last: dict[str, Any] = field(default_factory=dict, repr=False)
    sentinels: dict[str, list[float]] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path | str) -> "SeriesModel":
        """Read a bundle, or the best weights of a run folder.

        Raises: `BundleError` when the file is damaged, of another kind or too new; `RunError` for a folder that is no run.
        """
        path = bundle_of(path)
        bundle = Bundle.load(path)
        if bundle.kind != "series":
            raise BundleError(f"{path} holds a model of kind {bundle.kind!r}; a forecaster is expected here")
        config = Config.from_dict(bundle.config)
        try:
            encoding = _encoding(bundle.codec, _under(bundle.arrays, "encoding."))
            _check_rows(config, encoding)
            calibration = _calibration(_under(bundle.arrays, "calibration."), config, encoding)
            sentinels = _sentinels(bundle.codec.get("sentinels", {}))
        except (BundleError, ConfigError) as error:
            raise BundleError(f"{path} is no whole series model: {error}; write it again") from None
        weights = _under(bundle.arrays, "network.")
        _check_weights(weights, config, str(path))
        with precision(config.training.dtype):
            # The shapes that the settings call for, without drawing weights: a hostile size costs nothing.
            template = _network_shape(config, encoding, str(path))
            network = with_arrays(template, weights, str(path))
        return cls(network, encoding, calibration, config, bundle.result, sentinels=sentinels)

    def save(self, path: Path | str) -> None:
        """Write the bundle: one safetensors file with everything that is needed to forecast."""
        arrays = {f"network.{name}": array for name, array in to_arrays(self.network).items()}
        arrays |= {f"encoding.{name}": array for name, array in self.encoding.arrays().items()}
        arrays |= {f"calibration.{name}": array for name, array in self.calibration.to_arrays().items()}
        Bundle(
            kind="series",
            arrays=arrays,
            config=self.config.to_dict("series"),
            codec={**self.encoding.to_dict(), "sentinels": self.sentinels},
            made_with=made_with(),
            result=self.result,
        ).save(path)

    @functools.cached_property
    def horizon(self) -> Horizon:
        """What it was asked to forecast: the horizon's own rows."""
        return horizon_of(self.config, self.encoding.step, self.encoding.target)

    @functools.cached_property
    def lookback(self) -> int:
        """Rows that a forecast looks back on at least."""
        return rows_of(self.config.series.lookback or "1", self.encoding.step, "lookback")

    @functools.cached_property
    def every(self) -> int:
        """Rows from one step of the network to the next."""
        return rows_of(self.config.series.every or "1", self.encoding.step, "every")

    @functools.cached_property
    def walk(self) -> Walk:
        """How forecasts at many origins are made."""
        return walk_of(self.config, self.lookback, self.every, len(self.encoding.ahead))

    @property
    def memory_rows(self) -> int:
        """Rows before an origin that a forecast may depend on; with more of them it stays the same, to a few digits."""
        return self.walk.warm_up * self.every + 1

    def fit(self, panel: Panel, horizon: Horizon, training_ends: np.ndarray) -> None:
        """It is trained already: `Forecaster.fit` and `train_series` do that."""

    def forecast(self, panel: Panel, origins: np.ndarray) -> np.ndarray:
        """Calibrated quantiles `[origins, steps, levels]` in the target's unit, for the horizon's rows ahead of each origin.

        NaN where the target of a series was never seen up to the origin. panel: with the columns the model was trained on; its
        series may be others: such a series is scaled by its rows up to the first origin that is asked. origins: global row numbers.
        """
        origins = np.asarray(origins, np.int64)
        if len(origins) == 0:
            return np.zeros((0, len(self.horizon.rows), len(self.horizon.levels)), np.float32)
        return self.forecast_rows(self._rows_of(panel, origins), origins)

    def _rows_of(self, panel: Panel, origins: np.ndarray) -> Rows:
        """The panel in the network's numbers; the last one's are kept, as long as they do not depend on what is asked."""
        if not set(panel.names) <= set(self.encoding.names):
            return self.encoding.rows(panel, known_until=_asked_first(panel, origins))
        if self._last.get("panel") is not panel:
            self._last.clear()  # before the next ones are made: there may be room for one only
            self._last.update(panel=panel, rows=self.encoding.rows(panel))
        return self._last["rows"]

    def forecast_rows(self, rows: Rows, origins: np.ndarray, *, calibrated: bool = True) -> np.ndarray:
        """`forecast` for a panel that is already in the network's numbers."""
        with precision(self.config.training.dtype):
            scaled = forecast_origins(self._program, self.network, self.encoding, rows, origins, self.walk)
        said = self.in_units(scaled, rows.series[origins], rows, calibrated=calibrated)
        said[origins < first_seen(rows)[rows.series[origins]]] = np.nan  # nothing to go by
        return said

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


def walk_of(config: Config, lookback: int, every: int, ahead: int) -> Walk:
    """Chunks of a stream after a warm-up, or single windows; `ahead` is how many rows are forecast at each step."""
    steps = max(1, -(-lookback // every))
    hidden, series = config.network.hidden or 1, config.series
    gates = CELLS[config.network.cell].gate_blocks
    levels = len(series.levels) if series.forecast == "quantiles" else 1
    footprint = series.members * ((gates + 2) * hidden + (2 * ahead * levels))
    if series.method == "windows":
        return Walk(every, steps - 1, 1, footprint)
    return Walk(every, WARM_UP_LOOKBACKS * steps, LONGEST_CHUNK, footprint)


def new_network(config: Config, encoding: Encoding) -> ForecastNetwork:
    """A network with starting weights for `config`."""
    with precision(config.training.dtype):
        create = functools.partial(ForecastNetwork.create, config, encoding.input_size, len(encoding.ahead))
        return jax.jit(create)(key=jax.random.key(config.training.seed))


def first_seen(rows: Rows) -> np.ndarray:
    """For each series the global number of the first row with a value of the target; behind all rows where there is none."""
    if isinstance(rows.targets, MappedColumn):
        return rows.targets.first_seen()
    seen = np.flatnonzero(~np.isnan(rows.targets))
    found = np.append(seen, len(rows.targets))[np.searchsorted(seen, rows.offsets[:-1])]
    return np.where(found < rows.offsets[1:], found, len(rows.targets))


def _network_shape(config: Config, encoding: Encoding, source: str) -> ForecastNetwork:
    try:
        return jax.eval_shape(lambda: new_network(config, encoding))
    except (OverflowError, TypeError, ValueError, MemoryError, ConfigError) as error:
        raise BundleError(f"{source} calls for a network that cannot be: {error}") from None


def _check_weights(weights: dict[str, np.ndarray], config: Config, source: str) -> None:
    """Refuse, before any shape is worked out, weights that cannot be those of the settings' network."""
    if config.network.hidden is None:
        raise BundleError(f"{source} does not say how many hidden units its network has")
    if len(weights) < config.series.members * config.network.layers:
        raise BundleError(
            f"{source} does not fit its own settings: it holds {len(weights)} arrays of weights, too few for "
            f"{config.series.members} members of {config.network.layers} layers; were they edited?"
        )


def _encoding(codec: dict[str, Any], arrays: dict[str, np.ndarray]) -> Encoding:
    """The encoding in a bundle's parts, checked: nothing of it may surprise the rest of the room."""
    if set(arrays) != _ENCODING_ARRAYS or any(array.dtype != np.float64 for array in arrays.values()):
        raise BundleError(f"its arrays are not the {len(_ENCODING_ARRAYS)} of float64 that scale measurements")
    lists = {name: codec.get(name) for name in (*_NAME_LISTS, "ahead")}
    if not all(isinstance(found, list) for found in lists.values()):
        raise BundleError("its codec lacks lists")
    for name in _NAME_LISTS:
        words = codec[name]
        if not all(isinstance(word, str) for word in words) or len(set(words)) != len(words):
            raise BundleError(f"{name!r} in its codec is no list of different names")
    ahead = codec["ahead"]
    if any(type(rows) is not int or not 0 < rows <= LONGEST_WINDOW for rows in ahead) or ahead != sorted(set(ahead)):
        raise BundleError("'ahead' in its codec is no rising list of rows")
    step, zone = codec.get("step"), codec.get("time_zone")
    if not isinstance(step, str) or not isinstance(zone, str | None) or not isinstance(codec.get("target"), str):
        raise BundleError("its codec lacks the step, the time zone or the target")
    Duration.parse(step[:100])
    if zone is not None:
        check_zone(zone[:100])
    try:
        encoding = Encoding.from_parts(codec, arrays)
    except BundleError as error:
        raise BundleError(str(error).removeprefix("is no whole series model: ")) from None
    if encoding.target in encoding.directions:
        raise BundleError("its target cannot be a direction")
    return encoding


def _calibration(arrays: dict[str, np.ndarray], config: Config, encoding: Encoding) -> Calibration:
    """The calibration in a bundle's arrays, checked."""
    horizon = horizon_of(config, encoding.step, encoding.target)
    try:
        found = Calibration.from_arrays(arrays)
        whole = found.levels == tuple(horizon.levels) and bool(np.isfinite(found.shifts).all())
    except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
        raise BundleError(f"its calibration cannot be read ({error})") from None
    if not whole or found.shifts.shape != (len(horizon.rows), len(horizon.levels)):
        raise BundleError("its calibration does not fit its horizon and levels")
    return found


def _sentinels(found: Any) -> dict[str, list[float]]:
    """The numbers that mean "missing", checked."""
    lists = found.values() if isinstance(found, dict) else [None]
    if not all(isinstance(numbers, list) and all(type(n) in (int, float) for n in numbers) for numbers in lists):
        raise BundleError("'sentinels' in its codec is no table of lists of numbers")
    try:
        return {name: [float(number) for number in numbers] for name, numbers in found.items()}
    except OverflowError:
        raise BundleError("'sentinels' in its codec holds a number beyond all floats") from None


def _check_rows(config: Config, encoding: Encoding) -> None:
    """Refuse durations that make no sense together, before anything is made from them."""
    levels = config.series.levels
    if not levels or any(a >= b for a, b in itertools.pairwise(levels)):
        raise BundleError("its levels do not rise")
    furthest = rows_of(config.series.horizon, encoding.step, "horizon")
    # The path up to a horizon is a list of rows: its length is looked at before it is made.
    if furthest > encoding.ahead[-1] or not {*horizon_of(config, encoding.step, encoding.target).rows} <= {
        *encoding.ahead
    }:
        raise BundleError("its horizon is not what its network forecasts")
    lookback = rows_of(config.series.lookback or "1", encoding.step, "lookback")
    every = rows_of(config.series.every or "1", encoding.step, "every")
    if not every <= lookback <= LONGEST_WINDOW:
        raise BundleError(f"a lookback of {lookback} rows with every {every} is not possible")


def _asked_first(panel: Panel, origins: np.ndarray) -> np.ndarray:
    """For each series, the row behind the first origin that is asked: a new series is scaled by nothing later."""
    ends = panel.offsets[1:].copy()
    np.minimum.at(ends, series_of(panel, origins), origins + 1)
    return ends


def _under(arrays: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """The arrays whose names begin with `prefix`, without it."""
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}

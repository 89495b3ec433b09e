"""Models with random weights for the tests of exports: what is compared is how they compute, not what they learnt."""

import functools
from dataclasses import replace
from typing import Any

import jax
import numpy as np

from elman.config import Config
from elman.series.durations import Duration
from elman.series.encoding import Encoding
from elman.series.model import SeriesModel, horizon_of, new_network
from elman.series.panel import Horizon, Panel
from elman.series.scoring.calibration import Calibration
from elman.text.model import TextModel
from elman.training.engine import precision

HOUR = 3_600_000_000
START = int(np.datetime64("2024-03-01", "us").astype(np.int64))
TEXT = 'سلام? "Hello" \\ world*/ é\n\x00</script><b>&%s'
"""Two scripts, what ends a string, a comment and a script, and what is no letter at all."""

TEXT_KINDS: dict[str, dict[str, Any]] = {
    "elman": {"cell": "elman"},
    "relu": {"cell": "elman", "activation": "relu", "initialization": "normal"},
    "gru": {"cell": "gru", "layers": 2},
    "lstm": {"cell": "lstm"},
    "deep": {"cell": "lstm", "layers": 3, "layer_norm": True, "residual": True},
    "bytes": {"cell": "gru", "unit": "byte", "normal_form": "none"},
}
SERIES_KINDS: dict[str, dict[str, Any]] = {
    "path": {"cell": "gru", "path": True},
    "members": {"cell": "lstm", "members": 2, "layers": 2, "layer_norm": True, "residual": True, "path": True},
    "windows": {"cell": "elman", "method": "windows"},
    "thirds": {"cell": "gru", "every": "3", "known": ("k",)},
    "median": {"cell": "lstm", "forecast": "median"},
}


def disturbed(tree: Any, seed: int = 0) -> Any:
    """The same network with every array moved a little: no bias, scale or shift is left at 0 or 1."""
    generator = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: leaf + generator.uniform(-0.1, 0.1, leaf.shape).astype(leaf.dtype), tree)


@functools.cache
def text_model(kind: str) -> TextModel:
    """One of `TEXT_KINDS`, with 12 units."""
    model = TextModel.untrained(TEXT, **{"hidden": 12, **TEXT_KINDS[kind]})
    return replace(model, network=disturbed(model.network))


def series_panel(count: int = 90, series: int = 2) -> Panel:
    """Hourly rows with gaps: the target y, x, a wind direction, and k, whose future may be known."""
    generator = np.random.default_rng(1)
    values = generator.normal(size=(series * count, 4)).cumsum(axis=0)
    values[:, 2] = generator.uniform(0, 360, series * count)
    values[generator.uniform(size=values.shape) < 0.1] = np.nan
    values[40:44] = np.nan
    values[:, 3] = np.tile(np.arange(count) % 5, series)
    return Panel(
        ("y", "x", "wind direction (deg)", "k"),
        values.astype(np.float32),
        np.tile(START + np.arange(count) * HOUR, series),
        np.arange(series + 1) * count,
        Duration.parse("1h"),
        tuple(f"s{number}" for number in range(series)),
        time_zone="Europe/Berlin",
        static=np.arange(series, dtype=np.float32)[:, None],
        static_columns=("height",),
    )


@functools.cache
def series_model(kind: str) -> SeriesModel:
    """One of `SERIES_KINDS`, with 8 units."""
    settings = {
        "target": "y",
        "horizon": "6",
        "lookback": "24",
        "every": "1",
        "hidden": 8,
        "levels": (0.1, 0.5, 0.8, 0.9),
    }
    config = Config().replace(**{**settings, **SERIES_KINDS[kind]})
    panel = series_panel()
    horizon = horizon_of(config, panel.step, "y")
    encoding = Encoding.fit(panel, panel.offsets[1:], Horizon("y", horizon.rows, horizon.levels), config.series)
    shifts = np.linspace(-0.1, 0.1, len(horizon.rows) * len(horizon.levels)).reshape(len(horizon.rows), -1)
    with precision("float32"):
        network = disturbed(new_network(config, encoding))
    return SeriesModel(network, encoding, Calibration(horizon.levels, shifts), config)

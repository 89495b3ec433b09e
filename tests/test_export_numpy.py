"""The folder of plain Python and NumPy computes, writes and forecasts as the model does."""

import subprocess
import sys
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import jax.numpy as jnp
import numpy as np
import pytest

from elman.series.answers import one_series
from elman.series.running import Running
from elman.shipping.numpy_export import write_numpy
from elman.shipping.parts import parts_of
from elman.shipping.portable.model import Forecaster, Text
from exported import SERIES_KINDS, TEXT_KINDS, series_model, series_panel, text_model


@pytest.mark.parametrize("kind", TEXT_KINDS)
def test_a_text_model_says_the_same_on_numpy(kind: str) -> None:
    model = text_model(kind)
    parts = parts_of(model)
    text = Text(parts.facts, parts.arrays)
    symbols = np.random.default_rng(0).integers(0, model.vocabulary.size, 100)
    hidden, _ = model.network(jnp.asarray(symbols, jnp.int32), model.network.initial_carry())
    state, said = text.network.initial_state(), []
    for symbol in symbols.tolist():
        logits, state = text.network.step(symbol, state)
        said.append(logits)
    np.testing.assert_allclose(said, model.network.head(hidden), atol=1e-5)


@pytest.mark.parametrize("kind", ["lstm", "bytes"])
def test_the_likeliest_text_is_the_same(kind: str) -> None:
    model = text_model(kind)
    parts = parts_of(model)
    text = Text(parts.facts, parts.arrays)
    assert text.encode("He é 中o") == model.vocabulary.encode("He é 中o", unknown="skip").tolist()
    assert text.sample("Hello", length=60, temperature=0) == model.sample("Hello", length=60, temperature=0)


@pytest.mark.parametrize("kind", SERIES_KINDS)
def test_a_forecaster_says_the_same_on_numpy(kind: str) -> None:
    model, panel = series_model(kind), series_panel()
    parts = parts_of(model)
    forecaster = Forecaster(parts.facts, parts.arrays)
    for number, name in enumerate(["s0", "new"]):
        one = replace(one_series(panel, number), names=(name,))
        one.values[80:, :3] = np.nan  # behind the last row only `k` is known
        expected = Running.after(model, one, 80).forecast()[0]
        seen = slice(None if model.encoding.known else 80)
        said = forecaster.forecast(one.times[seen], one.values[seen], series=name, static=one.static[0])
        np.testing.assert_allclose(said, expected, atol=1e-4, rtol=1e-5)


def test_the_folder_runs_by_itself(tmp_path: Path) -> None:
    """Without elman: a process of its own that finds neither it nor JAX."""
    write_numpy(parts_of(text_model("lstm")), tmp_path / "text")
    command = [
        sys.executable,
        "-I",
        str(tmp_path / "text" / "model.py"),
        "--prime",
        "Hello",
        "--length",
        "40",
        "--temperature",
        "0",
    ]
    written = subprocess.run(command, capture_output=True, check=True).stdout.decode()
    assert written == text_model("lstm").sample("Hello", length=40, temperature=0) + "\n"


def test_rows_of_a_csv_are_forecast(tmp_path: Path) -> None:
    """Across the night in which the clocks go forward, with a row left out and an empty cell."""
    model, panel = series_model("path"), one_series(series_panel(), 0)
    panel = replace(panel, times=panel.times + 28 * 24 * 3_600_000_000)
    panel.values[50] = np.nan
    zone = ZoneInfo("Europe/Berlin")
    lines = ["time,y,x,wind direction (deg),k,height"]
    for row, time in enumerate(panel.times.tolist()):
        if row != 50:
            cells = ["" if np.isnan(value) else repr(float(value)) for value in panel.values[row]]
            lines.append(",".join([datetime.fromtimestamp(time / 1e6, zone).isoformat(), *cells, "0"]))
    (tmp_path / "rows.csv").write_text("\n".join(lines))
    write_numpy(parts_of(model), tmp_path / "model")
    command = [sys.executable, "-I", str(tmp_path / "model" / "model.py"), str(tmp_path / "rows.csv"), "--series", "s0"]
    answer = subprocess.run(command, capture_output=True, check=True, text=True).stdout.splitlines()
    expected = Running.after(model, panel).forecast()[0]
    said = [[float(cell) for cell in line.split(",")[1:]] for line in answer[1:]]
    assert answer[0] == "rows ahead,0.1,0.5,0.8,0.9"
    np.testing.assert_allclose(said, expected, atol=1e-4, rtol=1e-5)

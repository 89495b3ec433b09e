"""A forecaster's bundle: what is saved comes back, and damage is told as such, whatever it is."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elman.errors import BundleError, RunError
from elman.series.model import SeriesModel
from elman.series.panel import Panel
from elman.series.running import forecast_latest
from elman.training.storage import read_arrays, write_arrays
from test_running import make_model, make_panel

Parts = tuple[dict[str, np.ndarray], dict[str, Any]]


@pytest.fixture(scope="module")
def panel() -> Panel:
    return make_panel(series=2)


@pytest.fixture(scope="module")
def model(panel: Panel) -> SeriesModel:
    made = make_model(panel, known=("k",), path=True)
    made.sentinels["y"] = [-9999.0]
    return made


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bundles")


@pytest.fixture(scope="module")
def parts(model: SeriesModel, folder: Path) -> Parts:
    model.save(folder / "whole.safetensors")
    return read_arrays(folder / "whole.safetensors", kind="bundle")


def load_with(parts: Parts, folder: Path, arrays: dict[str, np.ndarray], **changes: Any) -> SeriesModel:
    path = folder / "changed.safetensors"
    write_arrays(path, arrays, {**parts[1], **changes}, kind="bundle")
    return SeriesModel.load(path)


def test_what_is_saved_comes_back(model: SeriesModel, panel: Panel, parts: Parts, folder: Path) -> None:
    loaded = SeriesModel.load(folder / "whole.safetensors")
    origins = np.asarray([30, 100, 200])
    np.testing.assert_array_equal(loaded.forecast(panel, origins), model.forecast(panel, origins))
    assert loaded.sentinels == {"y": [-9999.0]}
    assert loaded.horizon == model.horizon
    values = panel.values.copy()
    values[[144, 145, 146, 147, 148, 149, 294, 295, 296, 297, 298, 299], :2] = np.nan
    future = Panel(**{**vars(panel), "values": values})
    assert forecast_latest(loaded, future).equals(forecast_latest(model, future))


def test_a_bundle_without_sentinels_is_of_an_earlier_day(parts: Parts, folder: Path) -> None:
    codec = {name: value for name, value in parts[1]["codec"].items() if name != "sentinels"}
    assert load_with(parts, folder, parts[0], codec=codec).sentinels == {}


def test_nothing_is_forecast_at_no_origins(model: SeriesModel, panel: Panel) -> None:
    assert model.forecast(panel, np.zeros(0, int)).shape == (0, 6, 3)


def test_a_new_series_is_scaled_by_itself(panel: Panel) -> None:
    model = make_model(panel)
    alone = make_panel(missing=0)
    new = Panel(**{**vars(alone), "names": ("new",)})
    values = new.values.copy()
    values[:, 0] = values[:, 0] * 1024 + 4096
    changed = Panel(**{**vars(new), "values": values})
    found, scaled = forecast_latest(model, new), forecast_latest(model, changed)
    for column in ("y", "q10", "q90"):
        assert scaled[0, column] == pytest.approx(found[0, column] * 1024 + 4096, rel=1e-3)


def test_other_files_are_told_apart(parts: Parts, folder: Path) -> None:
    with pytest.raises(BundleError, match="a model of kind 'text'; a forecaster is expected"):
        load_with(parts, folder, parts[0], kind="text")
    with pytest.raises(RunError, match="run"):
        SeriesModel.load(folder)


@pytest.mark.parametrize(
    ("group", "name", "value"),
    [
        ("series", "horizon", "1000000000"),
        ("series", "horizon", "7"),
        ("series", "horizon", "90min"),
        ("series", "lookback", "999999999"),
        ("series", "every", "999999999"),
        ("series", "levels", [0.9, 0.1]),
        ("series", "levels", []),
        ("series", "members", 64),
        ("network", "layers", 64),
        ("network", "hidden", 65536),
        ("training", "dtype", "float64"),
    ],
)
def test_settings_that_do_not_fit_are_damage(parts: Parts, folder: Path, group: str, name: str, value: Any) -> None:
    config = copy.deepcopy(parts[1]["config"])
    config[group][name] = value
    with pytest.raises(BundleError):
        load_with(parts, folder, parts[0], config=config)


def load_or_refuse(parts: Parts, folder: Path, arrays: dict[str, np.ndarray], **changes: Any) -> SeriesModel | None:
    """None where the bundle is refused in words that name the file; any other error is a defect."""
    try:
        return load_with(parts, folder, arrays, **changes)
    except BundleError as error:
        message = str(error)
    assert "changed.safetensors" in message
    return None


ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=5),
    st.sampled_from(["1h", "2mo", "Europe/Berlin", "../../etc/passwd", "y", "9" * 400, "0h"]),
    st.lists(st.one_of(st.integers(), st.text(max_size=3), st.just("y"), st.lists(st.none(), max_size=1)), max_size=4),
    st.dictionaries(st.text(max_size=3), st.one_of(st.none(), st.lists(st.integers(), max_size=2)), max_size=2),
)


@settings(max_examples=100)
@given(data=st.data())
def test_every_damaged_codec_is_refused_or_harmless(
    parts: Parts, folder: Path, panel: Panel, data: st.DataObject
) -> None:
    codec = copy.deepcopy(parts[1]["codec"])
    name = data.draw(st.sampled_from(sorted(codec)))
    if isinstance(codec[name], list) and codec[name] and data.draw(st.booleans()):
        codec[name][data.draw(st.integers(0, len(codec[name]) - 1))] = data.draw(ODD)
    elif data.draw(st.booleans()):
        codec[name] = data.draw(ODD)
    else:
        del codec[name]
    loaded = load_or_refuse(parts, folder, parts[0], codec=codec)
    assert loaded is None or (loaded.encoding.input_size > 0 and len(loaded.horizon.rows) == 6)


@settings(max_examples=60)
@given(data=st.data())
def test_every_damaged_array_is_refused_or_harmless(parts: Parts, folder: Path, data: st.DataObject) -> None:
    arrays = dict(parts[0])
    name = data.draw(st.sampled_from(sorted(name for name in arrays if arrays[name].size)))
    array = arrays.pop(name)
    change = data.draw(st.sampled_from(["drop", "rename", "type", "shape", "value", "empty"]))
    if change == "rename":
        arrays[
            data.draw(st.sampled_from(["encoding._numbers", "encoding.columns", "encoding.x", "x", "network.x"]))
        ] = array
    elif change == "type":
        arrays[name] = array.astype(data.draw(st.sampled_from([np.float32, np.float64, np.int8, np.uint8, np.bool_])))
    elif change == "shape":
        arrays[name] = array.reshape(data.draw(st.sampled_from([(-1,), (1, *array.shape), (*array.shape, 1)])))
    elif change == "empty":
        arrays[name] = array[:0]
    elif change == "value":
        changed = array.copy()
        changed[...] = data.draw(st.sampled_from([0, 255] if array.dtype == np.uint8 else [np.nan, np.inf, -3e38]))
        arrays[name] = changed
    loaded = load_or_refuse(parts, folder, arrays)
    assert loaded is None or change not in ("drop", "rename")
    assert loaded is None or all(np.isfinite(one).all() for one in loaded.encoding.arrays().values())

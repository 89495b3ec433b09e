"""Running along: one row, odd pieces or all at once give the same numbers to the last bit."""

import functools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from elman.config import Config
from elman.errors import DataError
from elman.series.durations import Duration
from elman.series.encoding import Encoding
from elman.series.model import SeriesModel, horizon_of, new_network
from elman.series.panel import Horizon, Panel
from elman.series.running import BLOCK, Running, RunningForecast, forecast_latest
from elman.series.scoring.calibration import Calibration

HOUR = 3_600_000_000
START = int(np.datetime64("2024-03-01", "us").astype(np.int64))
SETTINGS: dict[str, Any] = {
    "target": "y",
    "horizon": "6",
    "lookback": "24",
    "every": "1",
    "hidden": 8,
    "levels": (0.1, 0.5, 0.9),
}


def make_panel(count: int = 150, series: int = 1, missing: float = 0.1, seed: int = 0) -> Panel:
    generator = np.random.default_rng(seed)
    values = generator.normal(size=(series * count, 3)).astype(np.float32).cumsum(axis=0)
    values[generator.uniform(size=values.shape) < missing] = np.nan
    if missing:
        values[40:44] = np.nan
    values[:, 2] = np.tile(np.arange(count) % 5, series)
    return Panel(
        ("y", "x", "k"),
        values,
        np.tile(START + np.arange(count) * HOUR, series),
        np.arange(series + 1) * count,
        Duration.parse("1h"),
        tuple(f"s{number}" for number in range(series)) if series > 1 else ("",),
        static=np.zeros((series, 0), np.float32),
    )


def make_model(panel: Panel, **changes: Any) -> SeriesModel:
    """Random weights: what is compared is the way rows take, not what was learnt."""
    config = Config().replace(**{**SETTINGS, **changes})
    horizon = horizon_of(config, panel.step, "y")
    encoding = Encoding.fit(panel, panel.offsets[1:], Horizon("y", horizon.rows, horizon.levels), config.series)
    shifts = np.linspace(-0.1, 0.1, len(horizon.rows) * len(horizon.levels)).reshape(len(horizon.rows), -1)
    return SeriesModel(new_network(config, encoding), encoding, Calibration(horizon.levels, shifts), config)


@functools.cache
def _usual_model(series: int, changes: tuple[tuple[str, Any], ...]) -> SeriesModel:
    return make_model(make_panel(series=series), **dict(changes))


def usual_model(series: int = 1, **changes: Any) -> SeriesModel:
    """The model of `make_panel(series=series)`, compiled once for all tests."""
    return _usual_model(series, tuple(changes.items()))


def piece(panel: Panel, start: int, end: int) -> Panel:
    """Rows `start` to `end` of each series."""
    keep = np.concatenate([np.arange(a + start, a + end) for a in panel.offsets[:-1]])
    offsets = np.arange(panel.series_count + 1) * (end - start)
    return replace(panel, values=panel.values[keep], times=panel.times[keep], offsets=offsets)


def fed(model: SeriesModel, panel: Panel, lengths: Sequence[int]) -> list[np.ndarray]:
    """The forecasts behind each piece."""
    found, start = [], 0
    running = Running(model, panel)
    for length in lengths:
        running.take(piece(panel, start, start + length))
        start += length
        found.append(running.forecast())
    return found


CASES = [
    {"every": "1"},
    {"every": "3"},
    {"every": "1", "method": "windows"},
    {"every": "3", "method": "windows"},
    {"every": "3", "members": 2, "cell": "lstm", "layers": 2},
    {"every": "1", "path": True, "members": 2, "dtype": "float64"},
]


@pytest.mark.parametrize(
    ("changes", "series"), [*((changes, 2) for changes in CASES), (CASES[0], 1), (CASES[3], 1)], ids=str
)
def test_rows_one_by_one_in_pieces_and_all_at_once_give_the_same_bits(changes: dict[str, Any], series: int) -> None:
    panel = make_panel(series=series)
    model = usual_model(series, **changes)
    count = 150
    singly = fed(model, panel, [1] * count)
    for lengths in ([count], [7, 1, 2, 4, 61, 75], [50, 100], [149, 1], [1, 65, 84]):
        found = fed(model, panel, lengths)
        for end, forecast in zip(np.cumsum(lengths), found, strict=True):
            np.testing.assert_array_equal(forecast, singly[end - 1])
    assert np.isfinite(singly[-1]).all()
    assert singly[-1].shape == (series, len(model.horizon.rows), 3)


@pytest.mark.parametrize("changes", CASES, ids=str)
def test_running_agrees_with_the_batch_path(changes: dict[str, Any]) -> None:
    panel = make_panel(series=2)
    model = usual_model(2, **changes)
    origins = np.asarray(
        [30, 60, 90]
    )  # no chunk begins later than the series: whatever an untrained state keeps is the same
    batch = model.forecast(panel, np.concatenate([origins, origins + 150])).reshape(2, 3, len(model.horizon.rows), 3)
    for place, origin in enumerate(origins):
        alone = Running.after(model, piece(panel, 0, origin + 1)).forecast()
        np.testing.assert_allclose(alone, batch[:, place], rtol=1e-4, atol=1e-4)


def test_the_past_beyond_the_block_matters_to_nobody_but_the_state() -> None:
    panel = make_panel(count=BLOCK * 2 + 5)
    model = make_model(panel)
    whole = Running.after(model, panel)
    halves = Running.after(model, piece(panel, 0, BLOCK))
    halves.take(piece(panel, BLOCK, BLOCK * 2 + 5))
    np.testing.assert_array_equal(whole.forecast(), halves.forecast())
    np.testing.assert_array_equal(whole.times, panel.times[-1:])


def test_no_forecast_before_the_target_was_seen() -> None:
    panel = make_panel(missing=0)
    panel.values[:30, 0] = np.nan
    model = make_model(panel)
    found = fed(model, panel, [29, 1, 1, 10])
    assert [bool(np.isnan(forecast).all()) for forecast in found] == [True, True, False, False]
    batch = model.forecast(panel, np.asarray([28, 29, 30, 40]))
    assert np.isnan(batch).all(axis=(1, 2)).tolist() == [True, True, False, False]


def test_misuse_is_said() -> None:
    panel = make_panel(series=2)
    model = make_model(panel)
    with pytest.raises(DataError, match="nothing to forecast from"):
        Running(model, panel).forecast()
    uneven = Panel(**{**vars(panel), "offsets": np.asarray([0, 149, 300])})
    with pytest.raises(DataError, match="equally long"):
        Running.after(model, uneven)
    running = Running.after(model, panel)
    with pytest.raises(DataError, match="same series"):
        running.take(Panel(**{**vars(panel), "names": ("a", "b")}))
    before = running.forecast()
    running.take(piece(panel, 0, 0))
    np.testing.assert_array_equal(running.forecast(), before)


# --- rows as people have them -------------------------------------------------------------------------------------------------


def rows_of_panel(panel: Panel, series: int = 0) -> list[dict[str, Any]]:
    start, end = panel.offsets[series : series + 2]
    return [
        {
            "time": np.datetime64(int(panel.times[row]), "us"),
            **({"unique_id": panel.names[series]} if panel.names != ("",) else {}),
            **{name: float(value) for name, value in zip(panel.columns, panel.values[row], strict=True)},
        }
        for row in range(start, end)
    ]


@pytest.mark.parametrize("changes", CASES[:4], ids=str)
def test_updates_give_the_bits_of_all_rows_at_once(changes: dict[str, Any]) -> None:
    panel = make_panel(series=2)
    model = usual_model(2, **changes)
    following = RunningForecast(model, piece(panel, 0, 100))
    answers = []
    for one, other in zip(rows_of_panel(panel, 0)[100:], rows_of_panel(panel, 1)[100:], strict=True):
        answers.append(following.update(one))
        following.update(other)
    assert following.forecast().equals(forecast_latest(model, panel))
    assert answers[-1].equals(forecast_latest(model, panel).filter(unique_id="s0"))
    assert answers[20].equals(forecast_latest(model, piece(panel, 0, 121)).filter(unique_id="s0"))


def test_jumped_time_counts_as_missing_rows() -> None:
    panel = make_panel()
    panel.values[120:131] = np.nan
    model = make_model(panel)
    following = RunningForecast(model, piece(panel, 0, 120))
    rows = rows_of_panel(panel)
    for row in rows[131:]:
        found = following.update(row)
    assert found.equals(forecast_latest(model, panel))


def test_what_is_not_in_a_row_is_missing() -> None:
    panel = make_panel(missing=0)
    panel.values[149, 1] = np.nan
    model = make_model(panel)
    expected = forecast_latest(model, panel)
    row: dict[str, Any] = rows_of_panel(panel)[-1]
    rest = {name: row[name] for name in ("y", "k")}
    for given in (
        row,
        {"time": row["time"], **rest},
        (row["time"], rest),
        (str(row["time"]), [row["y"], None, row["k"]]),
    ):
        assert RunningForecast(model, piece(panel, 0, 149)).update(given).equals(expected)


def test_sentinels_of_training_are_missing_in_rows_too() -> None:
    panel = make_panel(missing=0)
    panel.values[149, 0] = np.nan
    model = make_model(panel)
    model.sentinels["y"] = [-9999.0]
    row = {**rows_of_panel(panel)[-1], "y": -9999.0}
    assert RunningForecast(model, piece(panel, 0, 149)).update(row).equals(forecast_latest(model, panel))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"time": "2024-03-05T04:00"}, "given already"),
        (
            {"time": "2024-03-04 04:00"},
            "runs backwards: the row of 2024-03-04 04:00 comes after that of 2024-03-05 04:00",
        ),
        ({"time": "2024-03-05 05:30"}, "2024-03-05 05:30 is beside the grid.*2024-03-05 04:00.*1h apart"),
        ({"time": "2025-03-05 05:00"}, r"more than 10 lookbacks \(240 rows\)"),
        ({"time": "nonsense"}, "nonsense"),
        ({"time": None}, "time"),
        ({"time": object()}, "holds no times"),
        ({"time": np.datetime64("NaT")}, "missing"),
        ({"z": 1.0}, "unknown column 'z'"),
        ({"y": "warm"}, "'y' of the row is 'warm'"),
        ({"y": float("inf")}, "infinite"),
    ],
)
def test_odd_rows_are_refused_and_change_nothing(change: dict[str, Any], message: str) -> None:
    panel = make_panel(101)
    model = usual_model()
    following = RunningForecast(model, panel)
    before = following.forecast()
    with pytest.raises(DataError, match=message):
        following.update({"time": "2024-03-05 05:00", "y": 1.0, **change})
    assert following.forecast().equals(before)


def test_a_row_must_say_its_series_and_its_time() -> None:
    panel = make_panel(series=2)
    following = RunningForecast(make_model(panel), panel)
    time = np.datetime64(int(panel.times[-1]) + HOUR, "us")
    with pytest.raises(DataError, match="which of 2 series"):
        following.update({"time": time, "y": 1.0})
    with pytest.raises(DataError, match="'s7' is not followed; to begin with it, give a lookback"):
        following.update({"time": time, "unique_id": "s7", "y": 1.0})
    with pytest.raises(DataError, match="does not say its time"):
        following.update({"unique_id": "s1", "y": 1.0})
    with pytest.raises(DataError, match="a list is no row"):
        following.update([1, 2])  # type: ignore[arg-type]
    with pytest.raises(DataError, match="2 values, but the model reads 3"):
        following.update((time, [1.0, 2.0]))


def with_future(panel: Panel, rows: int) -> Panel:
    """Only the known column is known in the last rows of each series."""
    values = panel.values.copy()
    for end in panel.offsets[1:]:
        values[end - rows : end, :2] = np.nan
    return Panel(**{**vars(panel), "values": values})


@pytest.mark.parametrize("method", ["streams", "windows"])
def test_known_columns_are_kept_for_later_and_asked_for(method: str) -> None:
    panel = make_panel(series=2, missing=0)
    model = make_model(panel, known=("k",), method=method)
    following = RunningForecast(model, with_future(piece(panel, 0, 120), 16))
    rows = [rows_of_panel(panel, number)[104:] for number in range(2)]
    for step in range(10):
        for series in range(2):
            found = following.update({name: rows[series][step][name] for name in ("time", "unique_id", "y", "x")})
    assert found.equals(forecast_latest(model, with_future(piece(panel, 0, 120), 6)).filter(unique_id="s1"))
    with pytest.raises(DataError, match=r"'k' of series 's0' must be known up to 6 rows \(6h\)"):
        following.update(rows[0][10])
    with pytest.raises(DataError, match=r"'k' of series 's0' must be known.*last value at 2024-03-05 23:00"):
        forecast_latest(model, piece(panel, 0, 120))


def test_many_series_go_side_by_side_and_agree() -> None:
    panel = make_panel(count=40, series=70, missing=0.2)
    model = make_model(panel)
    many = forecast_latest(model, panel)
    assert many.height == 70
    for number in (0, 33, 69):
        start, end = panel.offsets[number : number + 2]
        alone = Panel(
            **{**vars(panel), "values": panel.values[start:end], "times": panel.times[start:end], "offsets": np.asarray([0, 40]),
               "names": panel.names[number : number + 1], "static": panel.static[:1]}
        )  # fmt: skip
        expected = forecast_latest(model, alone)
        np.testing.assert_allclose(many[number, "y"], expected[0, "y"], rtol=1e-4, atol=1e-3)
        assert many[number, "time"] == expected[0, "time"]


def test_months_are_followed_by_the_calendar() -> None:
    months = np.arange("2015-01", "2020-01", dtype="M8[M]")
    ends = (months + 1).astype("M8[D]").astype("M8[us]").astype(np.int64) - 86_400_000_000
    values = np.random.default_rng(0).normal(size=(60, 1)).astype(np.float32)
    panel = Panel(("y",), values, ends, np.asarray([0, 60]), Duration(months=1))
    model = make_model(panel, horizon="3")
    following = RunningForecast(model, panel.until(np.asarray([50])))
    for row in range(50, 60):
        found = following.update({"time": np.datetime64(int(ends[row]), "us"), "y": float(values[row, 0])})
    assert found.equals(forecast_latest(model, panel))
    assert found[0, "time"].isoformat() == "2020-03-31T00:00:00"
    with pytest.raises(DataError, match="beside the grid"):
        following.update({"time": "2020-01-30", "y": 1.0})

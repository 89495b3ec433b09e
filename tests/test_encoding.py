"""From measurements to inputs: a slow reference, one row and one number at a time; that nothing comes from the future."""

import json
import math
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from elman.config import SeriesSettings
from elman.errors import BundleError
from elman.series.durations import Duration
from elman.series.encoding import Encoding, Rows
from elman.series.panel import Horizon, Panel

HOUR = 3_600_000_000
START = int(datetime(2019, 3, 25, tzinfo=UTC).timestamp()) * 1_000_000  # six days before the clocks change in Europe
COLUMNS = ("T (degC)", "wd (deg)", "p (mbar)", "flat", "holiday")
TARGET = COLUMNS[0]
AHEAD = (2, 5)


def panel_of(
    lengths: tuple[int, ...] = (400, 300),
    seed: int = 0,
    missing: float = 0.05,
    step: int = HOUR,
    time_zone: str | None = "Europe/Berlin",
    names: tuple[str, ...] = ("north", "south", "new"),
) -> Panel:
    """Series with gaps, whole rows and single values missing; their levels and spreads differ by factors of thousands."""
    generator, count = np.random.default_rng(seed), sum(lengths)
    number = np.repeat(np.arange(len(lengths)), lengths)
    values = np.empty((count, len(COLUMNS)), np.float32)
    values[:, 0] = (10 + generator.standard_normal(count).cumsum()) * np.array([1, 2000, 0.01])[number]
    values[:, 1] = generator.uniform(0, 360, count)
    values[:, 2] = 1000 + 10 * generator.standard_normal(count)
    values[:, 3] = np.array([7, 0, -3])[number]
    values[:, 4] = generator.integers(0, 2, count)
    values[:, :2][generator.random((count, 2)) < missing] = np.nan
    for row in generator.integers(0, count, 4):
        values[row : row + int(generator.integers(1, 30)), :] = np.nan
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return Panel(
        columns=COLUMNS,
        values=values,
        times=np.concatenate([START + step * np.arange(length) for length in lengths]),
        offsets=offsets,
        step=Duration(step),
        names=names[: len(lengths)],
        time_zone=time_zone,
        static=np.array([[1.0, 50.0], [3.0, 70.0], [5.0, 90.0]], np.float32)[: len(lengths)],
        static_columns=("floor", "latitude"),
    )


def ends_of(panel: Panel, share: float = 0.6) -> np.ndarray:
    return panel.offsets[:-1] + (share * np.diff(panel.offsets)).astype(np.int64)


def fit(panel: Panel, ends: np.ndarray | None = None, **options: Any) -> Encoding:
    options = {"known": ("holiday",), "calendar": ("hour", "weekday", "year"), **options}
    horizon = Horizon(TARGET, AHEAD, (0.5,))
    return Encoding.fit(panel, ends_of(panel) if ends is None else ends, horizon, SeriesSettings(**options))


def inputs_of(encoding: Encoding, rows: Rows) -> np.ndarray:
    """What the network sees of every row, `[rows, inputs]`."""
    return np.asarray(encoding.inputs(encoding.steps(rows, np.arange(len(rows.series)))))


# The reference: plain Python, row by row -------------------------------------------------------------------------------------


def plain_scale(numbers: list[float]) -> tuple[float, float]:
    if not numbers:
        return 0.0, 1.0
    mean = math.fsum(numbers) / len(numbers)
    spread = math.sqrt(math.fsum((x - mean) ** 2 for x in numbers) / len(numbers))
    size = abs(mean) if mean != 0 else 1.0
    return mean, spread if spread > 1e-6 * size else size


def plain_age(age: int) -> float:
    return math.log(1 + min(age, 255)) / math.log(256)


def plain_clock(time: int, zone: str | None) -> datetime:
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=time)
    return moment.astimezone(ZoneInfo(zone)) if zone else moment


def plain_calendar(time: int, zone: str | None) -> dict[str, float]:
    clock = plain_clock(time, zone).replace(tzinfo=None)
    day = timedelta(days=1)
    midnight = datetime(clock.year, clock.month, clock.day)
    first, following = datetime(clock.year, 1, 1), datetime(clock.year + 1, 1, 1)
    return {
        "hour": (clock - midnight) / day,
        "weekday": clock.weekday() / 7,
        "year": (clock - first) / (following - first),
    }


def plain_inputs(
    panel: Panel, encoding: Encoding, ends: np.ndarray, scaled_until: np.ndarray
) -> list[dict[str, float]]:
    """Every row as {name of input: value}. `ends`: of training; a series not in `encoding.names` is scaled by `scaled_until`."""
    training, here = [], []
    for s in range(panel.series_count):
        start, stop = int(panel.offsets[s]), int(panel.offsets[s + 1])
        training += list(range(start, int(ends[s])))
        here.append((start, stop))
    measured = [row for row in training if not all(math.isnan(v) for v in panel.values[row])]
    masked = [
        name
        for c, name in enumerate(panel.columns)
        if sum(math.isnan(panel.values[row, c]) for row in measured) >= 0.001 * len(measured)
    ]
    result = []
    statics = [[float(panel.static[s, k]) for s in range(panel.series_count)] for k in range(panel.static.shape[1])]
    for s, (start, stop) in enumerate(here):
        until = int(ends[s]) if panel.names[s] in encoding.names else int(scaled_until[s])
        scales = [
            plain_scale([float(panel.values[r, c]) for r in range(start, until) if not math.isnan(panel.values[r, c])])
            for c in range(len(panel.columns))
        ]
        last = dict.fromkeys(panel.columns, 0.0)
        age = dict.fromkeys(panel.columns, 255)
        row_age = 255
        filled = []
        for row in range(start, stop):
            found: dict[str, float] = {}
            row_age = 0 if any(not math.isnan(v) for v in panel.values[row]) else row_age + 1
            for c, name in enumerate(panel.columns):
                value = float(panel.values[row, c])
                age[name] += 1
                if not math.isnan(value):
                    degrees = name == "wd (deg)"
                    last[name] = math.radians(value) if degrees else (value - scales[c][0]) / scales[c][1]
                    age[name] = 0
                if name == "wd (deg)":
                    found[f"sin {name}"], found[f"cos {name}"] = math.sin(last[name]), math.cos(last[name])
                else:
                    found[name] = last[name]
                if name in masked:
                    found[f"{name} is there"], found[f"{name} age"] = float(age[name] == 0), plain_age(age[name])
            found["row age"] = plain_age(row_age)
            for name, phase in plain_calendar(int(panel.times[row]), panel.time_zone).items():
                found[f"sin {name}"], found[f"cos {name}"] = math.sin(math.tau * phase), math.cos(math.tau * phase)
            for k, name in enumerate(panel.static_columns):
                center, spread = np.mean(statics[k]), np.std(statics[k])
                found[name] = (statics[k][s] - center) / (spread if spread > 0 else 1)
            filled.append(found)
        for place, found in enumerate(filled):
            for ahead in AHEAD:
                found[f"holiday {ahead} rows ahead"] = filled[min(place + ahead, len(filled) - 1)]["holiday"]
        result += filled
    return result


def assert_equals_plain(found: np.ndarray, encoding: Encoding, expected: list[dict[str, float]], atol: float) -> None:
    names = encoding.names_of_inputs()
    assert found.shape == (len(expected), len(names)) == (len(expected), encoding.input_size)
    assert set(names) == set(expected[0])
    for column, name in enumerate(names):
        reference = np.array([row[name] for row in expected])
        np.testing.assert_allclose(found[:, column], reference, rtol=1e-5, atol=atol, err_msg=name)


# Fast against slow -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("time_zone", ["Europe/Berlin", "America/New_York", None])
def test_inputs_equal_the_plain_ones(time_zone: str | None) -> None:
    panel = panel_of(time_zone=time_zone)
    encoding, ends = fit(panel), ends_of(panel)
    assert encoding.directions == ("wd (deg)",)
    assert {"T (degC)", "wd (deg)"} <= set(encoding.masked)
    assert "holiday" not in encoding.masked, "it is missing only where whole rows are"
    found = inputs_of(encoding, encoding.rows(panel))
    # float32; a day's share of a leap year and of another one differ by 8e-6 of a turn (`calendar.phases`).
    assert_equals_plain(found, encoding, plain_inputs(panel, encoding, ends, panel.offsets[1:]), atol=6e-5)


def test_the_calendar_over_leap_years_and_changes_of_the_clock() -> None:
    # 7-hour steps over three years, 2020 among them.
    panel = panel_of(lengths=(3800,), step=7 * HOUR, missing=0.0)
    encoding = fit(panel)
    found, names = inputs_of(encoding, encoding.rows(panel)), encoding.names_of_inputs()
    for row in range(panel.row_count):
        for name, phase in plain_calendar(int(panel.times[row]), panel.time_zone).items():
            turn = math.tau * phase
            assert found[row, names.index(f"sin {name}")] == pytest.approx(math.sin(turn), abs=6e-5), (row, name)
            assert found[row, names.index(f"cos {name}")] == pytest.approx(math.cos(turn), abs=6e-5), (row, name)


@pytest.mark.parametrize(
    ("step", "rows", "expected"),
    [
        (HOUR, 40, ()),  # a day and a half
        (HOUR, 27 * 24, ("hour",)),
        (HOUR, 29 * 24, ("hour", "weekday")),
        (HOUR, 361 * 24, ("hour", "weekday", "year")),
        (24 * HOUR, 29, ("weekday",)),
        (24 * HOUR, 362, ("weekday", "year")),
        (7 * 24 * HOUR, 60, ("year",)),
    ],
)
def test_a_circle_needs_a_step_and_a_span_that_can_teach_it(step: int, rows: int, expected: tuple[str, ...]) -> None:
    panel = panel_of(lengths=(rows + 10,), step=step)
    encoding = fit(panel, np.array([rows]), calendar=("auto",))
    assert encoding.circles == expected
    assert fit(panel, np.array([rows]), calendar=("none",)).circles == ()
    assert fit(panel, np.array([rows]), calendar=("year", "hour")).circles == ("hour", "year")


def test_ages_saturate_and_a_value_never_seen_is_the_mean() -> None:
    panel = panel_of(lengths=(700,), missing=0.0)
    panel.values[:] = np.where(np.isnan(panel.values), 1.0, panel.values)
    panel.values[:10, 0] = np.nan
    panel.values[100:500, 0] = np.nan
    panel.values[300:600] = np.nan
    encoding = fit(panel)
    rows, names = encoding.rows(panel), encoding.names_of_inputs()
    found = inputs_of(encoding, rows)
    age = found[:, names.index("T (degC) age")]
    assert (age[:10] == 1).all(), "never seen is as old as can be"
    assert (rows.values[:10, 0] == 0).all(), "and stands at the mean"
    assert (age[10:100] == 0).all()
    np.testing.assert_allclose(age[100:600], [plain_age(k) for k in range(1, 501)], rtol=1e-6)
    assert age[99 + 254] < 1
    assert age[99 + 255] == age[599] == 1
    np.testing.assert_allclose(
        found[295:605, names.index("row age")],
        [plain_age(max(0, k - 299)) if k < 600 else 0 for k in range(295, 605)],
        rtol=1e-6,
        atol=0,
    )
    np.testing.assert_array_equal(found[100:600, 0], np.repeat(found[99, 0], 500))


@pytest.mark.parametrize(("absent", "masked"), [(0, False), (1, False), (2, True)])
def test_a_mask_is_seen_for_columns_missing_in_a_thousandth_of_the_measured_training_rows(
    absent: int, masked: bool
) -> None:
    panel = panel_of(lengths=(3000,), missing=0.0)
    panel.values[:] = np.where(np.isnan(panel.values), 1.0, panel.values)
    panel.values[50 : 50 + absent, 2] = np.nan
    panel.values[500:1000] = np.nan  # whole rows: no column is missing more than another there
    panel.values[2500:, 2] = np.nan  # behind training: not known
    encoding = fit(panel, np.array([2300]))  # 1,800 measured rows: two are more than a thousandth
    assert encoding.masked == (("p (mbar)",) if masked else ())


# Scaling ---------------------------------------------------------------------------------------------------------------------


def test_each_series_is_scaled_by_its_own_training_rows() -> None:
    panel = panel_of()
    encoding, ends = fit(panel), ends_of(panel)
    rows = encoding.rows(panel)
    for s in range(2):
        own = slice(int(panel.offsets[s]), int(ends[s]))
        for name in ("T (degC)", "p (mbar)"):
            numbers = panel.column(name)[own].astype(np.float64)
            c = panel.columns.index(name)
            assert encoding.center[s, c] == pytest.approx(np.nanmean(numbers), rel=1e-9)
            assert encoding.scale[s, c] == pytest.approx(np.nanstd(numbers), rel=1e-9)
        assert np.nanmean(rows.targets[own]) == pytest.approx(0, abs=1e-5)
        assert np.nanstd(rows.targets[own]) == pytest.approx(1, abs=1e-5)
    back = rows.targets * rows.scale[rows.series] + rows.center[rows.series]
    np.testing.assert_allclose(back, panel.column(TARGET), rtol=1e-5, atol=1e-3)
    # What does not change is scaled by its size, or by 1, and is 0 until it changes.
    flat = panel.columns.index("flat")
    assert encoding.center[:, flat].tolist() == [7, 0]
    assert encoding.scale[:, flat].tolist() == [7, 1]
    assert (encoding.low[flat], encoding.high[flat]) == (0, 7)
    assert not rows.values[:, flat].any()


@given(seed=some.integers(0, 10**6), factor=some.sampled_from([0.0, -3.0, 1e4, math.nan]))
@settings(max_examples=15)
def test_rows_behind_training_teach_the_encoding_nothing(seed: int, factor: float) -> None:
    panel = panel_of(seed=seed)
    encoding, ends = fit(panel), ends_of(panel)
    for s in range(2):
        panel.values[int(ends[s]) : int(panel.offsets[s + 1])] *= factor
    other = fit(panel, ends)
    assert other.to_dict() == encoding.to_dict()
    for name, array in encoding.arrays().items():
        np.testing.assert_array_equal(other.arrays()[name], array, err_msg=name)


def test_a_new_series_is_scaled_by_its_own_rows_that_are_known() -> None:
    panel = panel_of(lengths=(400, 300))
    encoding = fit(panel)
    other = panel_of(lengths=(120, 200, 150), seed=5, names=("late", "south", "other"))
    known = np.array([60, 130, 400])
    found = inputs_of(encoding, encoding.rows(other, known_until=known))
    names = encoding.names_of_inputs()
    numbers = other.column(TARGET).astype(np.float64)
    for s, own in ((0, slice(0, 60)), (2, slice(320, 400))):
        center, scale = plain_scale([x for x in numbers[own] if not math.isnan(x)])
        whole = slice(int(other.offsets[s]), int(other.offsets[s + 1]))
        seen = ~np.isnan(numbers[whole])
        expected = (numbers[whole][seen] - center) / scale
        np.testing.assert_allclose(found[whole, names.index(TARGET)][seen], expected, rtol=1e-4, atol=1e-5)
    # The known one keeps the scale of training, wherever it stands now.
    rows = encoding.rows(other, known_until=known)
    assert rows.center[1] == encoding.center[1, 0]
    assert rows.scale[1] == encoding.scale[1, 0]
    # Later values change nothing of a new series' earlier rows.
    other.values[60:120] *= 100
    other.values[400:] *= 100
    again = inputs_of(encoding, encoding.rows(other, known_until=known))
    plain = [k for k, name in enumerate(names) if "ahead" not in name]
    np.testing.assert_array_equal(again[:60, plain], found[:60, plain])
    np.testing.assert_array_equal(again[320:400, plain], found[320:400, plain])


def test_a_series_that_begins_behind_training_is_a_new_one() -> None:
    panel = panel_of(lengths=(400, 300))
    encoding = fit(panel, np.array([240, 400]))
    assert encoding.names == ("north",)
    assert encoding.center.shape == encoding.scale.shape == (1, len(COLUMNS))
    rows = encoding.rows(panel)
    own = rows.targets[400:]
    assert np.nanmean(own) == pytest.approx(0, abs=1e-4)
    assert np.nanstd(own) == pytest.approx(1, abs=1e-4)
    assert Encoding.from_parts(encoding.to_dict(), encoding.arrays()).names == ("north",)


# Time: nothing from the future, and pieces equal the whole -------------------------------------------------------------------


@given(seed=some.integers(0, 10**6), row=some.integers(0, 698), change=some.sampled_from([math.nan, 0.0, 1e6]))
@settings(max_examples=40)
def test_what_comes_after_a_row_changes_no_number_up_to_it(seed: int, row: int, change: float) -> None:
    panel = panel_of(seed=seed % 7)
    encoding = fit(panel)
    names = encoding.names_of_inputs()
    past = [k for k, name in enumerate(names) if "ahead" not in name]
    before = inputs_of(encoding, encoding.rows(panel))
    generator = np.random.default_rng(seed)
    chosen = generator.random(panel.values[row + 1 :].shape) < 0.5
    panel.values[row + 1 :][chosen] = change
    after = inputs_of(encoding, encoding.rows(panel))
    np.testing.assert_array_equal(after[: row + 1, past], before[: row + 1, past])
    # Of the columns known ahead, what is as far ahead as was asked for, and no further; within the series.
    further = panel_of(seed=seed % 7)
    series_end = int(panel.offsets[np.searchsorted(panel.offsets, row, side="right")])
    further.values[min(row + AHEAD[-1] + 1, series_end) :, 4] = change
    found = inputs_of(encoding, encoding.rows(further))
    first = int(further.offsets[np.searchsorted(panel.offsets, row, side="right") - 1])
    np.testing.assert_array_equal(found[first : row + 1], before[first : row + 1])


@given(seed=some.integers(0, 10**6), cuts=some.lists(some.integers(0, 80), min_size=2, max_size=2))
@settings(max_examples=30)
def test_rows_in_two_pieces_equal_all_of_them_bit_for_bit(seed: int, cuts: list[int]) -> None:
    panel = panel_of(lengths=(80, 80), seed=seed)
    panel.values[:, 2][np.random.default_rng(seed).random(160) < 0.3] = np.nan
    encoding = fit(panel, known=())
    ends = panel.offsets[:-1] + np.asarray(cuts)
    first = panel.until(ends)
    keep = np.concatenate([np.arange(end, stop) for end, stop in zip(ends, panel.offsets[1:], strict=True)])
    second = Panel(
        columns=panel.columns,
        values=panel.values[keep],
        times=panel.times[keep],
        offsets=np.concatenate([[0], np.cumsum(panel.offsets[1:] - ends)]).astype(np.int64),
        step=panel.step,
        names=panel.names,
        time_zone=panel.time_zone,
        static=panel.static,
        static_columns=panel.static_columns,
    )
    whole, before = encoding.rows(panel), encoding.rows(first)
    after = encoding.rows(second, memory=before.memory)
    for s in range(2):
        for name in ("values", "ages", "phases", "targets"):
            parts = [
                getattr(rows, name)[int(rows.offsets[s]) : int(rows.offsets[s + 1])].tobytes()
                for rows in (before, after)
            ]
            expected = getattr(whole, name)[int(whole.offsets[s]) : int(whole.offsets[s + 1])].tobytes()
            assert b"".join(parts) == expected, name
    for found, expected in zip(after.memory, whole.memory, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_encoding_writes_into_nothing_it_is_given() -> None:
    panel = panel_of()
    for array in (panel.values, panel.times, panel.offsets, panel.static):
        array.flags.writeable = False
    encoding = fit(panel)
    rows = encoding.rows(panel)
    for array in rows.memory:
        array.flags.writeable = False
    encoding.rows(panel, memory=rows.memory)


# Kept in a bundle ------------------------------------------------------------------------------------------------------------


def test_parts_come_back_through_json() -> None:
    panel = panel_of()
    encoding = fit(panel)
    back = Encoding.from_parts(json.loads(json.dumps(encoding.to_dict())), encoding.arrays())
    assert back.to_dict() == encoding.to_dict()
    assert back.step == encoding.step
    np.testing.assert_array_equal(
        inputs_of(back, back.rows(panel)), inputs_of(encoding, encoding.rows(panel)), strict=True
    )


DAMAGE: dict[str, dict[str, Any]] = {
    "a list is missing": {"columns": None},
    "a target that is no column": {"target": "nothing"},
    "a known column that is none": {"known": ["nothing"]},
    "a direction that is no column": {"directions": ["nothing"]},
    "a mask of no column": {"masked": ["nothing"]},
    "one column less": {"columns": list(COLUMNS[:-1])},
    "one series less": {"names": ["north"]},
    "an unknown circle": {"circles": ["moon"]},
    "a circle twice": {"circles": ["hour", "hour"]},
    "a column twice": {"columns": [*COLUMNS[:3], COLUMNS[0], COLUMNS[4]]},
    "nothing ahead": {"ahead": []},
    "a row behind": {"ahead": [-1]},
    "half a row": {"ahead": [1.5]},
    "rows ahead that fall": {"ahead": [5, 2]},
    "a step that is none": {"step": "often"},
    "a number as name": {"names": [1, 2]},
    "no such time zone": {"time_zone": "Mars/Olympus"},
    "a time zone that is a path": {"time_zone": "../../etc/passwd"},
    "a list that is a number": {"masked": 3},
    "a list of lists": {"columns": [["a"]] * 5},
    "an array is missing": {"center": None},
    "an array too many": {"stray": np.zeros(2)},
    "a scale of 0": {"scale": np.zeros((2, 5))},
    "a center that is not finite": {"center": np.full((2, 5), np.nan)},
    "a scale of another shape": {"scale": np.ones((2, 4))},
    "a scale of text": {"scale": np.full((2, 5), "x")},
    "a static scale below 0": {"static_scale": -np.ones(2)},
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_damaged_parts_are_refused(damage: dict[str, Any]) -> None:
    encoding = fit(panel_of())
    facts, arrays = encoding.to_dict(), encoding.arrays()
    for name, value in damage.items():
        place: dict[str, Any] = facts if name in facts else arrays
        if value is None:
            del place[name]
        else:
            place[name] = value
    with pytest.raises(BundleError, match="is no whole series model"):
        Encoding.from_parts(facts, arrays)

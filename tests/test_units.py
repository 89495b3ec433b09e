"""What a column's name says is believed only where it is sure."""

import math

import pytest

from elman.series.cleaning.units import is_direction, possible_range, unit_of


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("T (degC)", "degC"),
        ("rho (g/m**3)", "g/m**3"),
        ("max. wv (m/s)", "m/s"),
        ("wind_dir [°]", "°"),
        ("temp_C", "C"),
        ("outdoor temperature C", "C"),
        ("pressure_hPa", "hPa"),
        ("temperature, °C", "°C"),
        ("vitamin_C", ""),
        ("plan_B", ""),
        ("sales", ""),
        ("(degC)", ""),
        ("", ""),
    ],
)
def test_unit_of(name: str, unit: str) -> None:
    assert unit_of(name) == unit


@pytest.mark.parametrize(
    ("name", "low", "high", "direction"),
    [
        ("wd (deg)", None, None, True),
        ("wd (deg)", 0, 360, True),
        ("wind direction [°]", -180, 180, True),
        ("wd (deg)", -9999, 360, False),
        ("T (degC)", None, None, False),
        ("T (degF)", 0, 100, False),
        ("temp (°)", 0, 30, False),
        ("Tpot (K)", 250, 300, False),
        ("latitude (deg)", 40, 50, False),
        ("solar elevation (deg)", -60, 60, False),
        ("wind direction", None, None, False),
        ("wind direction", 0, 359, True),
        ("windDirection", 0, 359, True),
        ("wind_direction", 0, 15, False),
        ("wind_direction", -1, 359, False),
        ("directions", 0, 359, False),
        ("sales", 0, 360, False),
    ],
)
def test_direction(name: str, low: float | None, high: float | None, direction: bool) -> None:
    assert is_direction(name, low, high) == direction


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("rh (%)", 0, 105),
        ("relative humidity [%]", 0, 105),
        ("Tpot (K)", 0.001, math.inf),
        ("T (degC)", -100, 70),
        ("oil temperature (degC)", -273.15, math.inf),
        ("wv (m/s)", 0, math.inf),
        ("wind_speed", 0, math.inf),
        ("rain (mm)", 0, math.inf),
        ("wd (deg)", -360, 720),
    ],
)
def test_range(name: str, low: float, high: float) -> None:
    possible = possible_range(name)
    assert possible is not None
    assert (possible.low, possible.high) == (low, high)
    assert possible.reason


@pytest.mark.parametrize(
    "name",
    [
        "y",
        "sales",
        "wind_u (m/s)",
        "vertical wind speed (m/s)",
        "growth (%)",
        "memory (k)",
        "temperature change (degC)",
        "T",
        "v (m/s)",
    ],
)
def test_no_range_where_the_name_is_unsure(name: str) -> None:
    assert possible_range(name) is None


def test_only_the_pressure_of_the_air_is_never_zero() -> None:
    assert possible_range("p (mbar)").zero_below == 300
    assert possible_range("pump (bar)") is None

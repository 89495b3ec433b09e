"""What the name of a column says of its numbers: a unit, whether they are directions, and what nature does not allow.

A name is a weak witness, so everything here is cautious: what is not surely understood is left as it is. An alarm about honest data
costs more trust than a sentinel that was missed.

    >>> from elman.series.cleaning.units import is_direction, possible_range, unit_of
    >>> unit_of("T (degC)"), unit_of("wind_dir [°]"), unit_of("temp_C"), unit_of("sales")
    ('degC', '°', 'C', '')
    >>> is_direction("wd (deg)"), is_direction("T (degC)"), is_direction("latitude (deg)")
    (True, False, False)
    >>> possible_range("rh (%)").reason
    'relative humidity lies between 0 and 105 %'
"""

import math
import re
from dataclasses import dataclass

_BRACKETS = re.compile(r"^(?P<name>.*?)[\s_]*[(\[](?P<unit>[^()\[\]]+)[)\]]\s*$")
_AFTER_COMMA = re.compile(r"^(?P<name>.*\w),\s*(?P<unit>[^\s,]+)$")
_SUFFIX = re.compile(r"^(?P<name>.+?)[_\s](?P<unit>[^_\s]+)$")

_CELSIUS = {"degc", "°c", "c", "celsius", "℃", "deg c", "degreec", "degreesc", "degrees celsius", "degree celsius"}
_FAHRENHEIT = {"degf", "°f", "f", "fahrenheit", "℉"}
_ANGLE = {"deg", "°", "degree", "degrees", "deg.", "º"}
_PERCENT = {"%", "percent", "pct"}
# The pressure on the highest mountains: what is never below it is the air's.
_THIN_AIR = {"mbar": 300, "hpa": 300, "kpa": 30, "pa": 30_000}
# Units that stand after an underscore and are nothing else; a single letter counts only behind a word for temperature.
_CLEAR_SUFFIXES = {
    "degc",
    "°c",
    "celsius",
    "℃",
    "degf",
    "°f",
    "fahrenheit",
    "kelvin",
    "hpa",
    "mbar",
    "deg",
    "degrees",
    "°",
    "%",
    "pct",
}

_TEMPERATURE_WORDS = {"t", "temp", "temperature", "tdew", "tair", "tmin", "tmax", "tmean", "tavg", "dewpoint", "t2m"}
_AIR_WORDS = {
    "t", "tdew", "tair", "air", "dew", "dewpoint", "outdoor", "outside", "ambient", "weather", "t2m", "tmin", "tmax", "tmean",
    "tavg",
}  # fmt: skip
_NOT_AIR_WORDS = {
    "oil",
    "cpu",
    "gpu",
    "water",
    "engine",
    "furnace",
    "oven",
    "boiler",
    "coil",
    "winding",
    "core",
    "surface",
    "soil",
}
_DIRECTION_WORDS = {"wd", "wdir", "winddir", "winddirection", "heading", "bearing", "azimuth"}
_NO_CIRCLE_WORDS = {
    "lat",
    "latitude",
    "lon",
    "lng",
    "longitude",
    "elevation",
    "altitude",
    "zenith",
    "tilt",
    "slope",
    "pitch",
}
_SPEED_WORDS = {"wv", "ws", "wspd", "windspeed", "gust", "gusts", "windgust", "windvelocity"}
_COMPONENT_WORDS = {
    "u",
    "v",
    "w",
    "x",
    "y",
    "z",
    "vertical",
    "zonal",
    "meridional",
    "component",
    "change",
    "anomaly",
    "bias",
    "error",
}
_RAIN_WORDS = {"rain", "rainfall", "precip", "precipitation", "raining"}
_DIFFERENCE_WORDS = {
    "change",
    "anomaly",
    "difference",
    "diff",
    "delta",
    "tendency",
    "error",
    "bias",
    "trend",
    "deviation",
    "log",
}


@dataclass(frozen=True)
class PossibleRange:
    """Where the values of a quantity can lie.

    reason: in words, for the report. soft: the bounds are those of the weather and no law, so that a value behind them is
    wrong only where it stands apart from all others. zero_below: 0 is impossible if all other values are above this (the air
    at a station is never without pressure, but a vapour pressure deficit or a stopped pump may well be 0).
    """

    low: float
    high: float
    reason: str
    soft: bool = False
    zero_below: float | None = None


def unit_of(name: str) -> str:
    """The unit in a column's name as it is written there, "" where there is none."""
    return _parted(name)[1]


def is_direction(name: str, low: float | None = None, high: float | None = None) -> bool:
    """Whether the numbers are degrees of a circle, of which 359 and 1 are neighbours.

    low, high: the smallest and largest value, if known. A name without a unit ("wind direction") is believed only if they are known
    and fill the circle; a unit is believed unless they are far outside it.
    """
    words = _words(name)
    if words & (_NO_CIRCLE_WORDS | _TEMPERATURE_WORDS | _DIFFERENCE_WORDS):
        return False
    unit = unit_of(name).lower()
    if unit in _ANGLE:
        return low is None or high is None or (low >= -360 and high <= 720)
    if unit or low is None or high is None:
        return False
    named = bool(words & _DIRECTION_WORDS) or ("wind" in words and bool(words & {"dir", "direction"}))
    # Sectors (0 to 15) and radians end far below a circle's degrees.
    return named and low >= 0 and 180 < high <= 360


def possible_range(name: str) -> PossibleRange | None:
    """What nature allows for the quantity that a column's name tells of; None where the name does not tell it surely."""
    words, written = _words(name), unit_of(name)
    unit = written.lower()
    if words & _DIFFERENCE_WORDS:
        return None
    if written in {"K", "kelvin", "Kelvin", "degK", "°K"}:
        return PossibleRange(0.001, math.inf, "a temperature in Kelvin is above 0")
    if unit in _CELSIUS:
        if words & _AIR_WORDS and not words & _NOT_AIR_WORDS:
            return PossibleRange(-100, 70, "air is between -100 and 70 °C", soft=True)
        return PossibleRange(-273.15, math.inf, "nothing is colder than -273.15 °C")
    if unit in _FAHRENHEIT:
        return PossibleRange(-459.67, math.inf, "nothing is colder than -459.67 °F")
    if unit in _ANGLE and is_direction(name):
        return PossibleRange(-360, 720, "a direction lies between -360 and 720 degrees")
    if _is_humidity(words, unit):
        return PossibleRange(0, 105, "relative humidity lies between 0 and 105 %", zero_below=5)
    if _is_wind_speed(words):
        return PossibleRange(0, math.inf, "a wind speed is never negative")
    if words & _RAIN_WORDS:
        return PossibleRange(0, math.inf, "precipitation is never negative")
    if unit in _THIN_AIR:
        return PossibleRange(-math.inf, math.inf, "the pressure of the air is never 0", zero_below=_THIN_AIR[unit])
    return None


def _is_humidity(words: set[str], unit: str) -> bool:
    named = bool(words & {"rh", "relhum"}) or ("humidity" in words and "relative" in words)
    return (named and unit in _PERCENT) or ("humidity" in words and unit in _PERCENT)


def _is_wind_speed(words: set[str]) -> bool:
    named = bool(words & _SPEED_WORDS) or ("wind" in words and bool(words & {"speed", "velocity"}))
    return named and not words & _COMPONENT_WORDS


def _parted(name: str) -> tuple[str, str]:
    """A column's name without its unit, and the unit."""
    found = _BRACKETS.match(name) or _AFTER_COMMA.match(name)
    if found and found["name"].strip():
        return found["name"].strip(), found["unit"].strip()
    found = _SUFFIX.match(name.strip())
    if found:
        behind_temperature = bool(_words_in(found["name"]) & _TEMPERATURE_WORDS) and found["unit"] in {"C", "F", "K"}
        if behind_temperature or found["unit"].lower() in _CLEAR_SUFFIXES:
            return found["name"], found["unit"]
    return name.strip(), ""


def _words(name: str) -> set[str]:
    return _words_in(_parted(name)[0])


def _words_in(text: str) -> set[str]:
    """The words of "windDir", "wind_dir" and "Wind Dir." in small letters."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text)
    return {word.lower() for word in re.split(r"[^0-9A-Za-zÀ-ɏ]+", spaced) if word}

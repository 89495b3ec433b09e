"""Weather of a station that does not exist, in the columns and the file format of the one at Jena.

For tries, demonstrations and tests without a network. The year and the day come from the height of the sun, the weather in between
from a few linear processes that pressure, wind, clouds and temperature share, so that there is something to learn: pressure falls
and the wind turns to the south before it grows warm. The columns of humidity are computed from temperature, humidity and pressure
by the formulas of moist air below, which reproduce the real station's columns to the digit they are rounded to.

    >>> frame = generate_weather(start="2009-01-01 00:10", rows=48, seed=1)
    >>> frame.shape
    (48, 15)
    >>> frame.columns[:3]
    ['Date Time', 'p (mbar)', 'T (degC)']
    >>> round(float(saturation_pressure(20.0)), 2)
    23.42
"""

import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Float64

from elman.errors import ConfigError
from elman.series.durations import Duration
from elman.training.storage import write_atomically

TIME_COLUMN = "Date Time"
COLUMNS = (
    TIME_COLUMN, "p (mbar)", "T (degC)", "Tpot (K)", "Tdew (degC)", "rh (%)", "VPmax (mbar)", "VPact (mbar)", "VPdef (mbar)",
    "sh (g/kg)", "H2OC (mmol/mol)", "rho (g/m**3)", "wv (m/s)", "max. wv (m/s)", "wd (deg)",
)  # fmt: skip
"""The columns of the file, in their order."""
TIME_FORMAT = "%d.%m.%Y %H:%M:%S"
SENTINEL = -9999.0
"""What the station writes into the wind's columns when it could not measure."""

KELVIN = 273.16
"""What the station adds to degrees Celsius: the triple point of water, not 273.15. Its column Tpot says so: 0.01 K more."""
DRY_AIR = 287.058
"""The gas constant of dry air in J/(kg K)."""
LATITUDE = math.radians(50.93)
LONGEST_STEP = Duration.parse("3h")

_BURN_IN_HOURS = 1500.0

Series = Float64[np.ndarray, " rows"]


def saturation_pressure(temperature: Series | float) -> Series:
    """The pressure in mbar of water vapor over water at which air of this temperature (degC) is saturated.

    6.1078 exp(17.08085 T / (234.175 + T)): the Magnus formula with coefficients that German hydrologists and meteorologists use.
    They are the station's: its column VPmax follows from T to within 0.0083 mbar in 70,092 rows, where the coefficients of Sonntag
    1990 (WMO Guide No. 8: 6.112, 17.62, 243.12) are up to 0.17 mbar off.
    """
    temperature = np.asarray(temperature, float)
    return 6.1078 * np.exp(17.08085 * temperature / (234.175 + temperature))


def dew_point(vapor_pressure: Series | float) -> Series:
    """The temperature in degC at which air with this pressure of water vapor (mbar) is saturated: the inverse of the above.

    >>> round(float(dew_point(saturation_pressure(12.5))), 9)
    12.5
    """
    logarithm = np.log(np.asarray(vapor_pressure, float) / 6.1078)
    return 234.175 * logarithm / (17.08085 - logarithm)


def specific_humidity(vapor_pressure: Series, pressure: Series) -> Series:
    """Grams of water vapor in a kilogram of moist air: 622 e / (p - 0.378 e), both in mbar (Wallace & Hobbs 2006, 3.5.1)."""
    return 622.0 * vapor_pressure / (pressure - 0.378 * vapor_pressure)


def water_concentration(vapor_pressure: Series, pressure: Series) -> Series:
    """Millimoles of water vapor in a mole of air: 1000 e / p (Dalton's law)."""
    return 1000.0 * vapor_pressure / pressure


def potential_temperature(temperature: Series, pressure: Series) -> Series:
    """The temperature in K that the air would have at 1000 mbar: T (1000 / p)^0.286 (Wallace & Hobbs 2006, 3.4.2)."""
    return (temperature + KELVIN) * (1000.0 / pressure) ** 0.286


def air_density(temperature: Series, vapor_pressure: Series, pressure: Series) -> Series:
    """Grams of moist air in a cubic meter: (p - 0.378 e) / (R T), the gas equation at the virtual temperature.

    Reference: Wallace & Hobbs 2006, Atmospheric Science, section 3.1.1.
    """
    return 1e5 * (pressure - 0.378 * vapor_pressure) / (DRY_AIR * (temperature + KELVIN))


def generate_weather(
    *, start: datetime | str = "2009-01-01 00:10", rows: int, step: str = "1h", seed: int = 0, gaps: bool = False
) -> pl.DataFrame:
    """Measurements of `rows` moments, `step` apart: the 15 columns of a Jena file, times as `Datetime("us")`.

    step: a duration up to 3 hours: "1h", "10min". gaps: damage the table as real ones are: missing stretches, repeated rows,
    rows out of order, and -9999 in the columns of the wind. The same arguments give the same table.

    Raises: `ConfigError` for a start, a step or a number of rows that is not possible.

        >>> generate_weather(rows=3, step="10min")["Date Time"].to_list()[-1]
        datetime.datetime(2009, 1, 1, 0, 30)
    """
    first, step_length = _checked_start(start), Duration.parse(step)
    if (
        step_length.months
        or not Duration.parse("1min").microseconds <= step_length.microseconds <= LONGEST_STEP.microseconds
    ):
        raise ConfigError(f"step = {step!r} is out of range: from 1min to {LONGEST_STEP}")
    if not 1 <= rows <= 10_000_000:
        raise ConfigError(f"rows = {rows} is out of range: from 1 to 10,000,000")
    times = np.datetime64(first, "us") + np.arange(rows) * np.timedelta64(step_length.microseconds, "us")
    # One stream of random numbers each for the weather and for the damage: a damaged table is the whole one, damaged.
    weather, damage = (np.random.default_rng([seed, part]) for part in (0, 1))
    columns = _rounded(_measurements(times, step_length.microseconds / 3.6e9, weather))
    frame = pl.DataFrame({TIME_COLUMN: times, **columns})
    return _damaged(frame, damage) if gaps else frame


def write_weather(
    path: Path | str,
    *,
    start: datetime | str = "2009-01-01 00:10",
    rows: int,
    step: str = "1h",
    seed: int = 0,
    gaps: bool = False,
) -> Path:
    """Write what `generate_weather` gives as CSV in the format of the Jena files, and return the path.

    Raises: `ConfigError` as `generate_weather` does, `RunError` where the file cannot be written.
    """
    path = Path(path)
    frame = generate_weather(start=start, rows=rows, step=step, seed=seed, gaps=gaps)
    write_atomically(path, weather_text(frame))
    return path


def weather_text(frame: pl.DataFrame) -> bytes:
    """The CSV of a generated table: times as dd.mm.yyyy HH:MM:SS, numbers as short as they can be written."""
    text = io.BytesIO()
    frame.with_columns(pl.col(TIME_COLUMN).dt.strftime(TIME_FORMAT)).write_csv(text, line_terminator="\n")
    return text.getvalue()


def _checked_start(start: datetime | str) -> datetime:
    if isinstance(start, datetime):
        return start.replace(tzinfo=None)
    try:
        return datetime.fromisoformat(start).replace(tzinfo=None)
    except ValueError:
        raise ConfigError(f"start = {start!r} is no moment: write it as 2009-01-01 00:10") from None


@dataclass(frozen=True)
class _Sun:
    """What the calendar knows of each moment. height: sine of the sun's elevation, 0 at night; mean: its mean over that day;
    winter: 1 at the coldest time of the year, -1 at the warmest."""

    height: np.ndarray
    mean: np.ndarray
    winter: np.ndarray


def _sun(times: np.ndarray) -> _Sun:
    """From the declination after Cooper (1969): 23.45 degrees sin(360 (284 + n) / 365) on day n of the year."""
    days = (times - np.datetime64("2009-01-01", "us")) / np.timedelta64(1, "D")
    year = 2 * math.pi * days / 365.2425
    declination = np.radians(23.45) * np.sin(year + 2 * math.pi * 285 / 365)
    hour_angle = 2 * math.pi * (days % 1 - 0.5)
    along, across = np.sin(LATITUDE) * np.sin(declination), np.cos(LATITUDE) * np.cos(declination)
    half_day = np.arccos(np.clip(-along / across, -1, 1))
    return _Sun(
        height=np.maximum(0.0, along + across * np.cos(hour_angle)),
        mean=(half_day * along + across * np.sin(half_day)) / math.pi,
        winter=np.cos(year - 0.30),
    )


def _measurements(times: np.ndarray, hours: float, random: np.random.Generator) -> dict[str, np.ndarray]:
    """The columns before rounding. Means, spreads and times of decay follow those of the real file (see the tests)."""
    padding = round(_BURN_IN_HOURS / hours)
    step = np.timedelta64(round(hours * 3.6e9), "us")
    times = times[0] + (np.arange(padding + len(times)) - padding) * step
    sun = _sun(times)

    def noise(*decays: float) -> np.ndarray:
        return _unit(_relaxed(random.standard_normal(len(times)), hours, *decays))

    def relaxed(values: np.ndarray, *decays: float) -> np.ndarray:
        return _relaxed(values, hours, *decays)

    highs = noise(48, 9, 3)
    tendency = _unit(highs - relaxed(highs, 24))
    southerly = -0.5 * tendency + 0.87 * noise(20, 5)
    westerly = -0.35 * relaxed(southerly, 12) - 0.25 * highs + 0.85 * noise(28, 7)
    cover = _unit(-0.45 * highs + 0.25 * westerly + 0.80 * noise(16, 3))
    clouds = 1 / (1 + np.exp(-1.6 * cover - 0.4))
    # Winds from the south and, in winter, the west bring warm air, which stays for days and cools the way it came.
    advection = _unit(relaxed(southerly + 0.45 * sun.winter * westerly, 34, 5))
    air_mass = (1 + 0.20 * sun.winter) * (
        2.5 * advection + 2.6 * noise(46, 7) + 1.5 * noise(18, 4) + 1.2 * noise(300, 20)
    )
    temperature = _temperature(sun, clouds, air_mass, relaxed) + 0.35 * noise(1.5, 0.3)
    depression = 2.6 + 1.1 * (1 - sun.winter) - 1.5 * relaxed(cover, 5) + 1.3 * noise(30, 3)
    dew = np.minimum(9.0 - 9.0 * sun.winter + 0.88 * air_mass - depression, temperature - 0.05 - 0.6 * np.abs(noise(4)))
    pressure = 989.2 + (7.6 + 2.4 * sun.winter) * highs + 0.06 * noise(0.7)
    speed, gust, direction = _wind(southerly, westerly, sun, noise)
    kept = slice(padding, None)
    vapor, most = saturation_pressure(dew)[kept], saturation_pressure(temperature)[kept]
    pressure, temperature = pressure[kept], temperature[kept]
    values = (
        pressure, temperature, potential_temperature(temperature, pressure), dew[kept],
        100 * vapor / most, most, vapor, most - vapor,
        specific_humidity(vapor, pressure), water_concentration(vapor, pressure), air_density(temperature, vapor, pressure),
        speed[kept], gust[kept], direction[kept],
    )  # fmt: skip
    return dict(zip(COLUMNS[1:], values, strict=True))


def _temperature(sun: _Sun, clouds: np.ndarray, air_mass: np.ndarray, relaxed: Callable[..., np.ndarray]) -> np.ndarray:
    """The year, the air that came, and the day: ground that the sun heats through the clouds and that cools in about four hours."""
    heating = sun.height * (1 - 0.72 * clouds) - sun.mean * 0.60
    cooling = 0.11 * (clouds - 0.57)
    return 9.45 - 9.4 * sun.winter + air_mass + 25.0 * relaxed(heating + cooling, 4.2)


def _wind(
    southerly: np.ndarray, westerly: np.ndarray, sun: _Sun, noise: Callable[..., np.ndarray]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Speed, strongest gust (both m/s) and the direction that it comes from (degrees). Sunshine stirs the air."""
    north = -0.55 - 1.05 * southerly + 0.45 * noise(3, 0.5)
    east = -0.55 - 0.85 * westerly + 0.45 * noise(3, 0.5)
    stirring = 0.75 + 0.55 * np.sqrt(sun.height) + 0.18 * sun.winter
    speed = 1.25 * np.hypot(north, east) * stirring * np.exp(0.32 * noise(1.2)) + 0.1
    gust = speed * (1.45 + 0.30 * np.exp(0.45 * noise(1.0))) + 0.15
    return speed, gust, np.degrees(np.arctan2(east, north)) % 360


def _relaxed(values: np.ndarray, hours: float, *decays: float) -> np.ndarray:
    """`values` after one filter y_t = a y_(t-1) + (1 - a) x_t for each time of decay, a = exp(-hours / decay).

    An autoregressive process of the order of the number of decays where `values` is white noise. Computed in the frequencies, where
    the filters are a product; the tail that wraps around lies in the padding in front, which is thrown away.
    """
    size = len(values)
    frequencies = np.exp(-2j * math.pi * np.fft.rfftfreq(size))
    spectrum = np.fft.rfft(values)
    for decay in decays:
        kept = math.exp(-hours / decay)
        spectrum = spectrum * ((1 - kept) / (1 - kept * frequencies))
    return np.fft.irfft(spectrum, size)


def _unit(values: np.ndarray) -> np.ndarray:
    return (values - values.mean()) / values.std()


def _rounded(columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Two digits behind the point, as in the file; relative humidity and direction have one from 70 on."""
    rounded = {name: np.round(values, 2) for name, values in columns.items()}
    for name in ("rh (%)", "wd (deg)"):
        rounded[name] = np.where(columns[name] >= 70, np.round(columns[name], 1), rounded[name])
    return {name: values + 0.0 for name, values in rounded.items()}  # no -0.0


def _damaged(frame: pl.DataFrame, random: np.random.Generator) -> pl.DataFrame:
    """The table with about one flaw of each kind per year of hours, and at least one where it has 100 rows."""
    rows = len(frame)
    if rows < 100:
        return frame
    count = 1 + rows // 9000
    speed, gust = frame["wv (m/s)"].to_numpy().copy(), frame["max. wv (m/s)"].to_numpy().copy()
    order = np.arange(rows)
    missing, repeated = np.zeros(rows, bool), np.ones(rows, int)
    longest = max(2, min(76, rows // 50))
    # Each kind has its own stretches of the table, so that none hides another; first and last rows stay.
    places = 1 + (rows - 2 - longest) * (np.arange(4 * count) + random.uniform(0.2, 0.8, 4 * count)) / (4 * count)
    for index, place in enumerate(random.permutation(places).astype(int)):
        length = int(random.integers(1, longest))
        if index % 4 == 0:
            missing[place : place + length] = True
        elif index % 4 == 1:
            repeated[place : place + min(length, 24)] = 2
        elif index % 4 == 2:
            order[place : place + 2] = order[place : place + 2][::-1]
        else:
            speed[place : place + min(length, 5)] = gust[place : place + min(length, 5)] = SENTINEL
    damaged = frame.with_columns(pl.Series("wv (m/s)", speed), pl.Series("max. wv (m/s)", gust))
    order = np.repeat(order, repeated)
    return damaged[order[~missing[order]]]

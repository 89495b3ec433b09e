"""Times are what their writer meant: every format, days and months in either order, zones whose clocks are set."""

from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from elman.config import SeriesSettings
from elman.errors import ConfigError, DataError, ElmanError
from elman.series.reading.timestamps import Times, read_times, share_of_times

BERLIN = ZoneInfo("Europe/Berlin")


def place(row: int) -> str:
    return f"line {row + 2} of a.csv"


def times_of(values: Any, series: pl.Series | None = None, **options: Any) -> Times:
    column = values.alias("when") if isinstance(values, pl.Series) else pl.Series("when", values)
    return read_times(column, SeriesSettings(**options), place, series)


# What is written: the format for people, the instant.
WRITTEN: dict[str, tuple[str, datetime]] = {
    "2020-02-13": ("ISO 8601", datetime(2020, 2, 13)),
    "2020-02-13 14:05": ("ISO 8601", datetime(2020, 2, 13, 14, 5)),
    "2020-02-13T14:05:06": ("ISO 8601", datetime(2020, 2, 13, 14, 5, 6)),
    "2020-02-13T14:05:06.250": ("ISO 8601", datetime(2020, 2, 13, 14, 5, 6, 250_000)),
    "2020-02-13T14:05:06.123456789": ("ISO 8601", datetime(2020, 2, 13, 14, 5, 6, 123_456)),
    "2020-02-13T14:05:06,5": ("ISO 8601", datetime(2020, 2, 13, 14, 5, 6, 500_000)),
    "2020-02-13 14": ("ISO 8601", datetime(2020, 2, 13, 14)),
    "2020-02-13 24:00": ("ISO 8601", datetime(2020, 2, 14)),
    "2020-02": ("%Y-%m", datetime(2020, 2, 1)),
    "2020": ("%Y", datetime(2020, 1, 1)),
    "2020/02/13 14:05": ("%Y/%m/%d %H:%M", datetime(2020, 2, 13, 14, 5)),
    "2020.02.13": ("%Y.%m.%d", datetime(2020, 2, 13)),
    "13.02.2020 14:05:06": ("%d.%m.%Y %H:%M:%S", datetime(2020, 2, 13, 14, 5, 6)),
    "3.2.2020 4:05": ("%d.%m.%Y %H:%M", datetime(2020, 2, 3, 4, 5)),
    "13.02.20": ("%d.%m.%y", datetime(2020, 2, 13)),
    "13.02.2020 24:00:00": ("%d.%m.%Y %H:%M:%S", datetime(2020, 2, 14)),
    "13/02/2020 14:05": ("%d/%m/%Y %H:%M", datetime(2020, 2, 13, 14, 5)),
    "02/13/2020 02:05 PM": ("%m/%d/%Y %I:%M %p", datetime(2020, 2, 13, 14, 5)),
    "2/13/2020 12:05:06 am": ("%m/%d/%Y %I:%M:%S %p", datetime(2020, 2, 13, 0, 5, 6)),
    "2/13/2020 2PM": ("%m/%d/%Y %I%p", datetime(2020, 2, 13, 14)),
    "13-02-2020": ("%d-%m-%Y", datetime(2020, 2, 13)),
    "13 Feb 2020": ("%d %B %Y", datetime(2020, 2, 13)),
    "13-Feb-2020 14:05": ("%d-%B-%Y %H:%M", datetime(2020, 2, 13, 14, 5)),
    "February 13, 2020": ("%B %d, %Y", datetime(2020, 2, 13)),
    "Feb 2020": ("%B %Y", datetime(2020, 2, 1)),
    "20200213": ("%Y%m%d", datetime(2020, 2, 13)),
    "20200213T1405": ("%Y%m%dT%H%M", datetime(2020, 2, 13, 14, 5)),
    "2020021314": ("%Y%m%d%H", datetime(2020, 2, 13, 14)),
    "202002131405": ("%Y%m%d%H%M", datetime(2020, 2, 13, 14, 5)),
    "20200213140506": ("%Y%m%d%H%M%S", datetime(2020, 2, 13, 14, 5, 6)),
    "2020-02-13T14:05:06Z": ("ISO 8601", datetime(2020, 2, 13, 14, 5, 6)),
    "2020-02-13 14:05 UTC": ("ISO 8601", datetime(2020, 2, 13, 14, 5)),
    "2020-02-13T14:05:06+05:30": ("ISO 8601", datetime(2020, 2, 13, 8, 35, 6)),
    "2020-02-13 14:05:06.5-0300": ("ISO 8601", datetime(2020, 2, 13, 17, 5, 6, 500_000)),
    "13.02.2020 14:05 +01": ("%d.%m.%Y %H:%M %z", datetime(2020, 2, 13, 13, 5)),
    "1581602706": ("seconds since 1970", datetime(2020, 2, 13, 14, 5, 6)),
    "1581602706250": ("milliseconds since 1970", datetime(2020, 2, 13, 14, 5, 6, 250_000)),
}


@pytest.mark.parametrize("text", WRITTEN)
def test_formats(text: str) -> None:
    shown, moment = WRITTEN[text]
    found = times_of([text, f" {text} "])
    assert found.values.to_list() == [moment, moment]
    assert found.values.dtype == pl.Datetime("us")
    assert found.format == shown
    offset = text.endswith(("Z", "UTC", "+05:30", "-0300", "+01")) or "since" in shown
    assert found.time_zone == ("UTC" if offset else None)
    assert any("1970" in note or shown in note for note in found.notes)


@pytest.mark.parametrize("text", [text for text, (shown, _) in WRITTEN.items() if "%" in shown])
def test_a_format_that_was_found_can_be_told(text: str) -> None:
    shown, moment = WRITTEN[text]
    if "24:00" in text:
        return
    assert times_of([text], time_format=shown).values.to_list() == [moment]


def test_one_column_may_mix_lengths() -> None:
    found = times_of(["2020-01-31", "2020-01-31 06:00", "2020-01-31 06:00:01", "2020-01-31T06:00:01.5"])
    assert found.values.to_list()[1:] == [
        datetime(2020, 1, 31, 6),
        datetime(2020, 1, 31, 6, 0, 1),
        datetime(2020, 1, 31, 6, 0, 1, 500_000),
    ]


def spelled(start: datetime, step: timedelta, count: int, form: str) -> list[str]:
    return [f"{start + step * row:{form}}" for row in range(count)]


DAY, HOUR = timedelta(days=1), timedelta(hours=1)
# Name: the times, the format.
ORDERS: dict[str, tuple[list[str], str]] = {
    "a day above twelve": (["05/01/2020", "13/01/2020"], "%d/%m/%Y"),
    "a month's day above twelve": (["01/05/2020", "01/13/2020"], "%m/%d/%Y"),
    "far below": (spelled(datetime(2020, 1, 1), HOUR, 24 * 20, "%d/%m/%Y %H:%M"), "%d/%m/%Y %H:%M"),
    "half-days, days first": (spelled(datetime(2020, 3, 1), HOUR * 12, 8, "%d/%m/%Y %H:%M"), "%d/%m/%Y %H:%M"),
    "half-days, months first": (spelled(datetime(2020, 3, 1), HOUR * 12, 8, "%m/%d/%Y %I%p"), "%m/%d/%Y %I%p"),
    "hourly, months first": (spelled(datetime(2020, 3, 1), HOUR, 200, "%m/%d/%Y %H:%M"), "%m/%d/%Y %H:%M"),
    "two digits": (spelled(datetime(2010, 3, 1), HOUR, 200, "%d-%m-%y %H:%M"), "%d-%m-%y %H:%M"),
    "months of two years": (
        [f"{month}/1/{year}" for year in (2019, 2020) for month in range(1, 13)],
        "%m/%d/%Y",
    ),
    "the same either way": (["01/01/2020", "02/02/2020"], "%d/%m/%Y"),
}


@pytest.mark.parametrize("name", ORDERS)
def test_days_or_months_first(name: str) -> None:
    texts, form = ORDERS[name]
    found = times_of(texts)
    assert found.format == form
    assert found.values.to_list() == [datetime.strptime(text, form) for text in texts]


@pytest.mark.parametrize(
    "texts",
    [
        [f"{month}/1/2020" for month in range(1, 13)],
        spelled(datetime(2020, 3, 1), DAY, 8, "%d/%m/%Y"),
        ["01/02/2020"],
        ["05/06/2020", "01/02/2020", "11/03/2020"],
    ],
)
def test_what_cannot_be_told_is_asked(texts: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"--time-format '%d/%m/%Y'.* or .*--time-format '%m/%d/%Y'"):
        times_of(texts)
    assert times_of(texts, time_format="%m/%d/%Y").values[0] == datetime.strptime(texts[0], "%m/%d/%Y")


DTYPES: dict[str, tuple[pl.Series, str | None]] = {
    "dates": (pl.Series([date(2020, 2, 13)]), None),
    "milliseconds": (pl.Series([datetime(2020, 2, 13)]).cast(pl.Datetime("ms")), None),
    "nanoseconds": (pl.Series([datetime(2020, 2, 13)]).cast(pl.Datetime("ns")), None),
    "a zone": (pl.Series([datetime(2020, 2, 13, 1)]).dt.replace_time_zone("Europe/Berlin"), "Europe/Berlin"),
    "seconds": (pl.Series([1_581_552_000]), "UTC"),
    "seconds with fractions": (pl.Series([1_581_552_000.0]), "UTC"),
    "milliseconds since 1970": (pl.Series([1_581_552_000_000]), "UTC"),
    "microseconds since 1970": (pl.Series([1_581_552_000_000_000]), "UTC"),
    "nanoseconds since 1970": (pl.Series([1_581_552_000_000_000_000]), "UTC"),
    "digits": (pl.Series([20200213]), None),
    "digits as floats": (pl.Series([20200213.0]), None),
    "digits of an hour": (pl.Series([2020021300]), None),
    "categories": (pl.Series(["2020-02-13"]).cast(pl.Categorical), None),
}


@pytest.mark.parametrize("name", DTYPES)
def test_types(name: str) -> None:
    column, zone = DTYPES[name]
    found = times_of(column)
    assert found.values.to_list() == [datetime(2020, 2, 13)]
    assert (found.values.dtype, found.time_zone) == (pl.Datetime("us"), zone)


@pytest.mark.parametrize("remembered", ["ISO 8601", "timestamps"])
@pytest.mark.parametrize("values", [[1_581_552_000.0], [1_581_552_000], ["1581552000"]])
def test_numbers_are_times_where_a_model_remembers_times_that_say_themselves_what_they_are(
    remembered: str, values: list[Any]
) -> None:
    found = times_of(values, time_format=remembered)
    assert found.values.to_list() == [datetime(2020, 2, 13)]
    assert found.time_zone == "UTC"


# Name: the column, settings, what the error says.
BAD: dict[str, tuple[Any, dict[str, Any], list[str]]] = {
    "one bad": (["01.01.2020", "soon", "32.01.2020"], {}, ["2 values", "'soon'", "line 3 of a.csv", "%d.%m.%Y"]),
    "all bad": (["early", "late"], {}, ["'early'", "line 2", "--time-format"]),
    "nulls": (["2020-01-01", None, "  "], {}, ["2 missing values", "line 3"]),
    "nothing": ([None, None], {}, ["is empty"]),
    "missing number": ([1.58e9, float("nan")], {}, ["1 missing value", "line 3"]),
    "row numbers": ([1, 2, 3], {}, ["the number 1", "--time-column"]),
    "truth": ([True, False], {}, ["Boolean"]),
    "with and without offset": (["2020-01-01T00:00Z", "2020-01-01T01:00"], {}, ["mixes", "line 3"]),
    "format without sign": (["2020-01-01"], {"time_format": "dd.mm.yyyy"}, ["'dd.mm.yyyy'", "%d.%m.%Y"]),
    "format that does not fit": (["2020-01-01"], {"time_format": "%d.%m.%Y"}, ["'2020-01-01'", "line 2"]),
    "format that fits some": (["2020-01-01", "x"], {"time_format": "%Y-%m-%d"}, ["1 value", "'x'", "line 3"]),
    "zone": (["2020-01-01"], {"time_zone": "Europe/Berln"}, ["did you mean 'Europe/Berlin'"]),
    "no zone at all": (["2020-01-01"], {"time_zone": "../x"}, ["'../x'", "Europe/Berlin"]),
}


@pytest.mark.parametrize("name", BAD)
def test_errors(name: str) -> None:
    values, options, parts = BAD[name]
    with pytest.raises(ElmanError) as caught:
        times_of(values, **options)
    assert isinstance(caught.value, DataError | ConfigError)
    for part in parts:
        assert part in str(caught.value)


def test_a_column_is_known_by_a_sample() -> None:
    assert share_of_times(pl.Series(["2020-01-01"] * 9 + ["x"]), digits=False) == pytest.approx(0.9)
    assert share_of_times(pl.Series(["20200101"]), digits=False) == 0
    assert share_of_times(pl.Series(["20200101"]), digits=True) == 1
    assert share_of_times(pl.Series([1.5]), digits=True) == 0
    assert share_of_times(pl.Series([], dtype=pl.String), digits=True) == 0


FORMS = ["%Y-%m-%dT%H:%M:%S", "%d.%m.%Y %H:%M:%S", "%Y/%m/%d %H:%M:%S", "%d %B %Y %H:%M:%S", "%B %d, %Y %I:%M:%S %p",
         "%Y%m%d%H%M%S"]  # fmt: skip


@given(
    moments=st.lists(
        st.datetimes(datetime(1900, 1, 1), datetime(2099, 12, 31)).map(lambda one: one.replace(microsecond=0)),
        min_size=1,
        max_size=20,
    ),
    form=st.sampled_from(FORMS),
)
def test_times_come_back(moments: list[datetime], form: str) -> None:
    assert times_of([f"{moment:{form}}" for moment in moments]).values.to_list() == moments


@given(
    moments=st.lists(st.datetimes(datetime(1971, 1, 1), datetime(2036, 1, 1)), min_size=1, max_size=20),
    offset=st.integers(-11, 12).map(lambda hours: timezone(timedelta(hours=hours, minutes=30))),
)
def test_offsets_come_back_as_utc(moments: list[datetime], offset: timezone) -> None:
    aware = [moment.replace(tzinfo=UTC) for moment in moments]
    found = times_of([moment.astimezone(offset).isoformat() for moment in aware])
    assert found.values.to_list() == moments
    assert found.time_zone == "UTC"
    zoned = times_of([moment.astimezone(offset).isoformat() for moment in aware], time_zone="Asia/Tokyo")
    assert (zoned.values.to_list(), zoned.time_zone) == (moments, "Asia/Tokyo")


def instants(start: datetime, step: timedelta, count: int) -> list[datetime]:
    return [start + step * row for row in range(count)]


def walls(moments: list[datetime], zone: ZoneInfo) -> list[datetime]:
    return [moment.replace(tzinfo=UTC).astimezone(zone).replace(tzinfo=None) for moment in moments]


@pytest.mark.parametrize("minutes", [10, 30, 60])
@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "UTC"])
def test_a_year_of_wall_clock_comes_back(minutes: int, backwards: bool, zone: str) -> None:
    """Complete rows: the clock's hour that comes twice is told apart by the order of the rows, and nothing is skipped."""
    if zone == "Australia/Lord_Howe":
        # Clocks are set back half an hour there: of hourly rows only one lies in it, and nothing tells which pass it is.
        minutes = min(minutes, 30)
    moments = instants(datetime(2020, 1, 1), timedelta(minutes=minutes), 366 * 24 * 60 // minutes)
    moments = moments[::-1] if backwards else moments
    found = times_of(walls(moments, ZoneInfo(zone)), time_zone=zone)
    assert found.values.to_list() == moments
    assert found.time_zone == zone


def test_the_second_pass_with_gaps_and_in_each_series() -> None:
    start = datetime(2020, 10, 25, 0, 30)
    complete = instants(start, timedelta(minutes=10), 12)
    with_gaps = complete[:2] + complete[5:7] + complete[9:]
    names = pl.Series(["a"] * len(complete) + ["b"] * len(with_gaps))
    found = times_of(walls(complete + with_gaps, BERLIN), names, time_zone="Europe/Berlin")
    assert found.values.to_list() == complete + with_gaps
    assert "come twice in Europe/Berlin" in found.notes[0]


def test_spring_moves_forward_what_no_clock_showed() -> None:
    texts = ["2020-03-29 01:30", "2020-03-29 02:00", "2020-03-29 02:30", "2020-03-29 03:30"]
    found = times_of(texts, time_zone="Europe/Berlin")
    expected = [
        datetime.fromisoformat(text).replace(tzinfo=BERLIN).astimezone(UTC).replace(tzinfo=None) for text in texts
    ]
    assert found.values.to_list() == expected
    # 02:30 is moved to where 03:30 is: the hour that was skipped.
    assert found.values[2] == found.values[3]
    assert any("2 times do not exist" in note and "line 3 of a.csv" in note for note in found.notes)


def test_without_a_zone_the_clock_stands() -> None:
    found = times_of(["2020-03-29 02:30"])
    assert (found.values.to_list(), found.time_zone) == ([datetime(2020, 3, 29, 2, 30)], None)

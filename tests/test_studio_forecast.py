"""The page Forecast on what real tables have: long sentences on a phone, clocks that jump, and a date to go to."""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from browser import needs_browser, opened_page, running_studio
from elman.errors import DataError
from elman.series.results import fans
from elman.series.trainer import train_series
from elman.studio.forecast_charts import fan_options
from elman.studio.models import Models
from elman.studio.pages.forecast import Asked, ask
from elman.studio.texts import translator

ROWS = 400


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A forecaster of a table with a long name and with rows that have to be spoken of."""
    runs = tmp_path_factory.mktemp("forecast") / "runs"
    times = pl.datetime_range(pl.datetime(2020, 1, 1), pl.datetime(2021, 1, 1), "1h", eager=True)[:ROWS]
    table = runs.parent / f"{'a-very-long-name' * 6}.csv"
    rows = pl.DataFrame({"time": times, "height": np.sin(np.arange(ROWS) / 4)})
    pl.concat([rows, rows[-5:]]).write_csv(table)
    settings: dict[str, Any] = {"horizon": "3h", "lookback": "12h", "hidden": 6, "batch": 2, "unroll": 12, "steps": 5}
    train_series(table, run=runs / "waves", target="height", **settings)
    return runs


@pytest.fixture(scope="module")
def asked(folder: Path) -> Asked:
    model: Any = Models().load(folder / "waves")
    return ask(None, model, folder / "waves", "")  # type: ignore[arg-type]


def test_a_time_is_found_as_the_last_row_that_was_known(asked: Asked) -> None:
    assert asked.place(0, "2020-01-01T00:00") == 0
    assert asked.place(0, "2020-01-03T05:00") == 53
    assert asked.place(0, "2020-01-03T05:59") == 53, "what comes at 06:00 is not known yet"
    assert asked.place(0, "1999-01-01") == 0
    assert asked.place(0, "2099-01-01") == ROWS - 1
    for wrong in ("", "yesterday", "2020-13-01"):
        with pytest.raises(DataError, match="is no time"):
            asked.place(0, wrong)


def test_a_fan_is_the_models_own_at_that_row(asked: Asked) -> None:
    back = ROWS - 1 - 53
    assert asked.fan(0, back) == fans(asked.model, asked.panel, np.asarray([53]))[0]
    assert asked.fan(0, back)["origin"] == "2020-01-03T05:00:00"


def test_the_chart_shows_the_tables_clock_wherever_the_browser_is(asked: Asked) -> None:
    fan = asked.fan(0, 100)
    options = fan_options(fan, translator("en"))
    assert options["useUTC"] is True
    measured = options["series"][0]["data"]
    shown = [datetime.fromisoformat(time) for time, _ in measured]
    assert {str(time.utcoffset()) for time in shown} == {"0:00:00"}
    assert [time.replace(tzinfo=None).isoformat() for time in shown] == fan["history"]["times"]


def test_bands_end_where_the_quantiles_do(asked: Asked) -> None:
    """An invisible line and an area stacked on it: together the upper end."""
    fan = asked.fan(0, 100)
    options = fan_options(fan, translator("en"))
    low, area = options["series"][1], options["series"][2]
    assert low["stack"] == area["stack"]
    upper = [a[1] + b[1] for a, b in zip(low["data"], area["data"], strict=True)]
    np.testing.assert_allclose(upper, [row[-1] for row in fan["quantiles"]], atol=1e-5)
    np.testing.assert_allclose([point[1] for point in low["data"]], [row[0] for row in fan["quantiles"]], atol=1e-5)


# In the browser -----------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def address(folder: Path, environment: dict[str, str]) -> Iterator[str]:
    with running_studio(folder, environment) as found:
        yield found


@needs_browser
def test_a_moment_is_gone_to_by_its_date_on_a_phone_too(chromium: Any, address: str) -> None:
    phone = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "timezone_id": "America/New_York"}
    with opened_page(chromium, address, **phone) as opened:
        page = opened.go("/forecast?run=waves")
        page.get_by_label("Made at", exact=True).fill("2020-01-03T05:30")
        page.get_by_label("Made at", exact=True).press("Enter")
        page.wait_for_selector("text=3 January 2020, 05:00")
        page.wait_for_selector("text=/5 rows/")
        assert page.get_by_label("Made at", exact=True).input_value() == "2020-01-03T05:00"
        assert page.evaluate("document.documentElement.scrollWidth") <= 390

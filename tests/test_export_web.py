"""The page: computes and forecasts as the model does, in a real browser that may fetch nothing, and runs no text of the model."""

import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from browser import browser, needs_browser
from elman.series.answers import one_series
from elman.shipping.comparing import web_answers
from elman.shipping.parts import parts_of
from elman.shipping.portable.model import Forecaster, Network
from elman.shipping.web_export import to_web
from exported import series_model, series_panel, text_model

pytestmark = needs_browser


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with browser() as opened:
        yield opened


def opened(chromium: Any, folder: Path, page: str) -> tuple[Any, list[str]]:
    """The page in a tab of its own, and what it complained of or asked for."""
    (folder / "page.html").write_text(page, encoding="utf-8")
    tab, problems = chromium.new_page(), []
    tab.on("console", lambda message: problems.append(message.text))
    tab.on("pageerror", lambda error: problems.append(str(error)))
    tab.on("dialog", lambda dialog: problems.append(dialog.message))
    tab.on("request", lambda request: problems.extend([request.url] if not request.url.startswith("file:") else []))
    tab.goto((folder / "page.html").as_uri())
    return tab, problems


@pytest.mark.parametrize("model", ["deep", "relu", "members"])
def test_the_page_says_the_same(model: str) -> None:
    text = model != "members"
    parts = parts_of(text_model(model) if text else series_model(model))
    generator = np.random.default_rng(0)
    inputs = generator.integers(0, parts.inputs, 50) if text else generator.normal(size=(50, parts.inputs))
    network, said = Network(parts.facts, parts.arrays), []
    state = network.initial_state()
    for x in inputs.tolist() if text else inputs:
        answer, state = network.step(x, state)
        said.append(answer.ravel() + (0 if text else x[parts.facts["input_names"].index("y")]))
    np.testing.assert_allclose(web_answers(to_web(parts, model), inputs), said, atol=1e-5)


def test_a_person_lets_it_write(chromium: Any, tmp_path: Path) -> None:
    """The likeliest text is the model's own; stopping stops; nothing is fetched; the heading and the text run no script."""
    model = text_model("gru")
    tab, problems = opened(chromium, tmp_path, to_web(parts_of(model), '<script>alert("title")</script>'))
    tab.fill("#prime", "سلام <b>")
    tab.fill("#length", "60")
    tab.evaluate("document.getElementById('temperature').value = 0")
    tab.click("#write")
    tab.wait_for_function("document.getElementById('status').textContent.startsWith('60 symbols')")
    expected = "سلام <b>" + model.sample("سلام <b>", length=60, temperature=0)
    assert tab.text_content("#written") == expected
    assert tab.evaluate("getComputedStyle(document.getElementById('written')).direction") == "rtl"
    tab.fill("#length", "100000")
    tab.click("#write")
    tab.wait_for_function("document.getElementById('written').textContent.length > 200")
    tab.click("#write")
    assert tab.text_content("#write") == "Write"
    assert tab.text_content("h1") == '<script>alert("title")</script>'
    assert not problems


def test_a_person_pastes_rows(chromium: Any, tmp_path: Path) -> None:
    """Across the night in which the clocks go forward, with a row left out, as the folder of NumPy forecasts them."""
    model = series_model("path")
    panel = one_series(series_panel(), 0)
    times = panel.times + 28 * 24 * 3_600_000_000
    panel.values[50] = np.nan
    parts = parts_of(model)
    expected = Forecaster(parts.facts, parts.arrays).forecast(times, panel.values, series="s0", static=[0.0])
    lines = ["time\ty\tx\twind direction (deg)\tk\theight"]
    for row, time in enumerate(times.tolist()):
        if row != 50:
            cells = ["" if np.isnan(value) else repr(float(value)) for value in panel.values[row]]
            lines.append(
                "\t".join([datetime.fromtimestamp(time / 1e6, ZoneInfo("Europe/Berlin")).isoformat(), *cells, "0"])
            )
    tab, problems = opened(chromium, tmp_path, to_web(parts, "s"))
    tab.fill("#rows", "\n".join(lines))
    tab.click("#forecast")
    said = tab.evaluate("[...document.querySelectorAll('td[data-value]')].map((cell) => Number(cell.dataset.value))")
    np.testing.assert_allclose(np.reshape(said, expected.shape), expected, atol=1e-4, rtol=1e-5)
    assert tab.locator("#chart svg polygon").count() == 2
    tab.fill("#rows", "time,<img src=x onerror=alert(1)>\n2024-01-01,1")
    tab.click("#forecast")
    assert re.search('column "y" is not there', tab.text_content("#status"))
    assert not problems

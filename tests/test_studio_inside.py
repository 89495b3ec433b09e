"""The page Inside: every view shows what the library computes, and what is chosen in one shows in the others."""

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from browser import Opened, needs_browser, opened_page, running_studio
from elman.errors import DataError
from elman.insight.attribution import CALENDAR
from elman.insight.tracing import trace
from elman.studio.components import levels
from elman.studio.inside_text import character_html, visible_in_text
from elman.studio.looking import MOST_CHARACTERS, TextLook, look_at_series, look_at_text, text_for
from elman.studio.plot_svg import Plot
from elman.studio.texts import translator
from elman.text.model import TextModel
from elman.text.scoring import symbol_losses
from elman.text.trainer import train_text
from test_running import make_model, make_panel
from texts import words

TEXT = 'He said: "No <script>alert(1)</script>."\n\n(A & B)\n' * 4


@pytest.fixture(scope="module")
def look() -> TextLook:
    return look_at_text(TextModel.untrained(TEXT, cell="lstm", hidden=6, layers=2), TEXT)


def test_levels_are_signed_bytes() -> None:
    found = np.frombuffer(base64.b64decode(levels(np.asarray([-1.0, 0.5, 0.0, np.nan, 9.0]), 2.0)), np.int8)
    assert found.tolist() == [-64, 32, 0, 0, 127]


def test_a_look_has_the_numbers_of_the_library(look: TextLook) -> None:
    traced = trace(look.subject.network, look.subject.xs)
    np.testing.assert_allclose(look.gate(1, "forget", 3), traced.layers[1].gates["forget"][:, 3], atol=5e-4)
    np.testing.assert_allclose(look.unit(0, 2), np.tanh(traced.layers[0].memory[:, 2]))
    np.testing.assert_allclose(look.losses[1:], symbol_losses(look.model.network, look.subject.xs), atol=1e-5)
    assert look.losses[0] == 0
    for place in (1, 30, len(TEXT) - 1):
        assert look.probability(place) == pytest.approx(np.exp(-look.losses[place]))
        chances = [chance for _, chance in look.alternatives(place)]
        assert chances == sorted(chances, reverse=True)
    assert look.alternatives(0) == []
    assert set(look.features) >= {"quotes", "brackets", "line", "upper-case"}
    assert "digit" in look.features


def test_what_the_model_does_not_know_is_left_out_and_said() -> None:
    model = TextModel.untrained("abc", cell="elman", hidden=3)
    look = look_at_text(model, "a€b")
    assert look.labels == ("a", "b")
    assert "€" in look.left_out
    with pytest.raises(DataError, match="empty"):
        look_at_text(model, "€€")
    with pytest.raises(DataError, match="too many"):
        look_at_text(model, "a" * (MOST_CHARACTERS + 1))
    with pytest.raises(DataError, match="cannot be shown"):
        text_for("sample", None, model, 1)  # type: ignore[arg-type]
    assert len(text_for("sample", None, model, 40)) == 40  # type: ignore[arg-type]


def test_a_series_is_looked_at_where_it_ends() -> None:
    panel = make_panel(200)
    look = look_at_series(make_model(panel), panel, 60)
    np.testing.assert_array_equal(look.measured, panel.column("y")[-60:])
    assert len(look.labels) == 60
    assert "lag-1" in look.features
    with pytest.raises(DataError, match="cannot be shown"):
        look_at_series(make_model(panel), panel, 1)


def test_characters_are_text_in_what_is_built_as_html(look: TextLook) -> None:
    for place, character in enumerate(TEXT[:45]):
        shown = character_html(look, place, translator("en"))
        assert "<script" not in shown
        if character == "<":
            assert "&lt;" in shown
    assert [visible_in_text(c) for c in ("<", " ", "\t", "\u202e")] == ["<", " ", "⇥", "U+202E"]
    plot = Plot((0, 1), (0, 1), "<x>", "&", log_y=False)
    plot.points([0.5], [0.5], "first", titles=["<script>"], place=[3])
    picture = plot.svg("<t>")
    assert "<script>" not in picture
    assert 'data-place="3"' in picture


def test_what_moved_a_symbol_is_the_gradient_of_its_log_probability(look: TextLook) -> None:
    """By the derivative of the whole run with respect to dense one-hot inputs; x itself is 1 in one place and 0 elsewhere."""
    place, network = 9, look.subject.network
    dense = jax.nn.one_hot(look.subject.xs[:place], network.cells[0].input_size)

    def chance(inputs: jax.Array) -> jax.Array:
        return -network.head.loss(network(inputs)[0][-1], look.subject.xs[place])

    expected = (jax.grad(chance)(dense) * dense).sum(axis=1)
    np.testing.assert_allclose(look.gradient(place)[:place], expected, atol=1e-6)
    assert not look.gradient(place)[place:].any()
    assert not look.gradient(0).any()


def test_what_moved_a_forecast_sums_to_the_difference() -> None:
    panel = make_panel(200)
    model = make_model(panel, members=2)
    look = look_at_series(model, panel, 60)
    found = look.attribution(40)
    moved = dict(found.columns)
    assert sum(moved.values()) == pytest.approx(found.forecast - found.baseline, abs=1e-3)
    np.testing.assert_allclose(found.by_lag.sum(axis=1), list(moved.values()), atol=1e-4)
    assert set(moved) >= {"y", "x", "k", CALENDAR}
    assert found.agreement == pytest.approx(found.agreement)
    row = look.subject.rows[40]  # type: ignore[index]
    rows = model.encoding.rows(panel)
    said = model.forecast_rows(rows, np.asarray([row]), calibrated=False)
    assert found.forecast == pytest.approx(float(said[0, -1, 1]), abs=1e-3)


# In the browser -----------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of text, and a run of text that holds something out."""
    folder = tmp_path_factory.mktemp("inside") / "runs"
    folder.mkdir()
    TextModel.untrained(TEXT, cell="lstm", hidden=6, layers=2).save(folder / "model.safetensors")
    text = folder.parent / "text.txt"
    text.write_text(words())
    train_text(text, run=folder / "trained", steps=4, cell="elman", hidden=5, batch=2, unroll=8)
    return folder


@pytest.fixture(scope="module")
def address(runs: Path, environment: dict[str, str]) -> Iterator[str]:
    with running_studio(runs, environment) as found:
        yield found


@pytest.fixture
def opened(chromium: Any, address: str) -> Iterator[Opened]:
    with opened_page(chromium, address) as found:
        yield found


def own_text(opened: Opened, text: str) -> Any:
    """The page with `text` looked into by the bundle."""
    page = opened.go("/inside?run=model.safetensors")
    page.wait_for_selector(".linked-text .character")
    page.get_by_label("Text", exact=True).click()
    page.get_by_role("option", name="My own text").click()
    page.get_by_label("Text to look at").fill(text)
    page.get_by_role("button", name="Look inside").click()
    page.wait_for_function("n => document.querySelectorAll('.linked-text .character').length === n", arg=len(text))
    return page


def colors(page: Any) -> list[str]:
    return page.eval_on_selector_all(".linked-text .character", "all => all.map(one => one.style.backgroundColor)")


@needs_browser
def test_what_is_pointed_at_shows_and_what_is_chosen_colors_the_text(opened: Opened, runs: Path) -> None:
    look = look_at_text(TextModel.load(runs / "model.safetensors"), TEXT)
    page = own_text(opened, TEXT)
    assert page.locator("main script").count() == 0
    assert page.locator(".linked-text").inner_text().startswith('He said: "No <script>alert(1)</script>."')
    page.locator(".linked-text [data-index='40']").hover()
    page.wait_for_selector(f".character-facts:has-text('expected with {100 * look.probability(40):.1f} %')")
    page.locator(".linked-text").focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_selector(f".character-facts:has-text('expected with {100 * look.probability(41):.1f} %')")
    page.locator(".heat-row[data-layer='0'] [data-unit='3']").click()
    page.wait_for_selector("text=Layer 1, unit 4: from")
    values = look.unit(0, 3)
    strongest = int(np.abs(values).argmax())
    page.wait_for_function(
        "i => document.querySelectorAll('.linked-text .character')[i].style.backgroundColor", arg=strongest
    )
    share = round(abs(np.round(127 * values[strongest])) / 127 * 100)
    side = "warm" if values[strongest] > 0 else "cool"
    assert f"var(--{side}) {share}%" in colors(page)[strongest]
    page.locator(".ranking button").first.click()
    best = look.rank(look.features[0]).best[0]
    page.wait_for_selector(f"text=Layer {best.layer + 1}, unit {best.unit + 1}: from")
    page.locator(".linked-text [data-index='30']").click()
    page.wait_for_selector("text=What moved the probability of the marked character")
    page.wait_for_function("document.querySelector('.linked-text .picked').dataset.index === '30'")
    painted = [place for place, color in enumerate(colors(page)) if color]
    assert painted
    assert max(painted) < 30, "nothing behind a character moved it"
    page.locator(".dot[data-unit='2'][data-layer='1']").click(force=True)
    page.wait_for_selector("text=/Layer 2, unit \\d, (input|forget|output) gate/")


@needs_browser
def test_a_runs_held_out_text_is_shown(opened: Opened) -> None:
    page = opened.go("/inside?run=trained")
    page.wait_for_selector(".linked-text .character")
    page.wait_for_selector("text=This cell has no gates")
    page.wait_for_selector("text=/Gradients (vanish|explode|keep)/")
    page.get_by_label("Colored by").click()
    page.get_by_role("option", name="Surprise").click()
    page.wait_for_selector("text=the less the character was expected")
    page.wait_for_function(
        "[...document.querySelectorAll('.linked-text .character')].some(one => one.style.backgroundColor)"
    )


@needs_browser
@pytest.mark.parametrize("language", ["en", "fa"])
def test_inside_fits_a_phone(chromium: Any, address: str, language: str) -> None:
    phone = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}
    with opened_page(chromium, address, cookies={"elman-language": language}, **phone) as opened:
        page = opened.go("/inside?run=model.safetensors")
        page.wait_for_selector(".linked-text .character")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390

"""The page Unroll: what it draws and says are the network's own numbers, before and after every change."""

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from browser import Opened, needs_browser, opened_page, running_studio
from elman.errors import DataError
from elman.studio.closeup import cell_step, closeup
from elman.studio.matrix_view import MOST_CELLS, Window, matrix
from elman.studio.unroll_scene import MOST_INPUT, Scene, hello, of_series, of_text
from elman.studio.unroll_svg import draw
from elman.studio.unroll_view import MOST_STEPS, MOST_UNITS, Position, number, visible
from elman.text.hello import LEARNING_RATE, walk
from elman.text.model import TextModel
from test_running import make_model, make_panel

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def scene() -> Scene:
    return hello()


def loss_of(scene: Scene) -> float:
    """The loss by the product's own run."""
    hidden, _ = scene.network(jnp.asarray(scene.xs))
    losses = scene.network.head.loss(hidden, jnp.asarray(scene.targets))
    return float(losses[-1] if scene.many_to_one else losses.sum())


def test_hello_has_the_numbers_of_the_lectures_walk(scene: Scene) -> None:
    seen, told = scene.unroll(), walk()
    assert seen.view.total == pytest.approx(told.loss, abs=1e-5)
    for step, expected in zip(seen.view.steps, told.steps, strict=True):
        assert step.layers[0].hidden == pytest.approx(expected.hidden, abs=1e-6)
        assert [said.value for said in step.said] == pytest.approx(expected.probabilities, abs=1e-6)
        assert [said.label for said in step.said if said.target] == [expected.target]
    assert scene.descended(seen.graph, LEARNING_RATE).unroll().view.total == pytest.approx(told.loss_after, abs=1e-5)


def test_a_changed_weight_changes_the_loss_as_the_network_says(scene: Scene) -> None:
    for name, row, column in (("W_hh", 1, 2), ("W_xh", 0, 2), ("W_hy", 3, 1), ("b_h", 2, 0), ("b_y", 1, 0)):
        changed = scene.changed(name, row, column, 0.75)
        assert changed.parameters[name].values[row, column] == 0.75
        assert changed.unroll().view.total == pytest.approx(loss_of(changed), abs=1e-5)
        assert changed.unroll().view.total != pytest.approx(loss_of(scene), abs=1e-4)
    assert scene.unroll().view.total == pytest.approx(loss_of(scene), abs=1e-5)


def test_a_slope_is_the_difference_that_a_small_change_makes(scene: Scene) -> None:
    seen, step = scene.unroll(), 0.01
    for name, row, column in (("W_hh", 1, 2), ("W_xh", 0, 1), ("W_hy", 3, 1), ("b_h", 2, 0)):
        value = scene.parameters[name].values[row, column]
        up, down = (loss_of(scene.changed(name, row, column, value + way * step)) for way in (1, -1))
        assert seen.slope_of(name, row, column) == pytest.approx((up - down) / (2 * step), abs=1e-3)


@pytest.mark.parametrize("many_to_one", [False, True])
def test_shares_of_the_steps_add_up(many_to_one: bool) -> None:
    model = TextModel.untrained("hello world", cell="lstm", hidden=5, layers=2)
    scene = of_text(model, "hello w", many_to_one=many_to_one)
    view = scene.unroll().view
    assert view.total == pytest.approx(loss_of(scene), abs=1e-5)
    assert [sum(shares) for shares in view.shares] == pytest.approx([1, 1], abs=1e-5)
    assert [step.loss is not None for step in view.steps] == [not many_to_one] * 5 + [True]


def test_inputs_of_a_series_can_be_changed() -> None:
    panel = make_panel()
    scene = of_series(make_model(panel), panel, 5)
    changed = scene.changed("x", 1, 3, 2.5)
    assert changed.xs[3, 1] == 2.5
    assert np.isfinite(changed.unroll().view.total)
    assert changed.unroll().view.total != pytest.approx(scene.unroll().view.total, abs=1e-4)
    assert [len(step.said) for step in changed.unroll().view.steps] == [3] * 5


def test_what_cannot_be_is_refused(scene: Scene) -> None:
    with pytest.raises(DataError, match="2 to 200"):
        hello("h")
    with pytest.raises(DataError, match="2 to 200"):
        hello("ab" * MOST_INPUT)
    with pytest.raises(DataError, match="between"):
        scene.changed("W_hh", 0, 0, float("nan"))
    for rate in (0.0, -1.0, float("nan"), 1e9):
        with pytest.raises(DataError, match="learning rate"):
            scene.descended(scene.unroll().graph, rate)


def test_a_walk_goes_forward_then_sums_then_comes_back() -> None:
    start = Position(0, 3)
    assert [(p.forward, p.loss, p.backward) for p in (Position(n, 3) for n in range(8))] == [
        (0, False, 0), (1, False, 0), (2, False, 0), (3, False, 0), (3, True, 0), (3, True, 1), (3, True, 2), (3, True, 3)
    ]  # fmt: skip
    assert start.moved(-1) == start
    assert start.moved(99).place == start.last == 7
    assert [Position(5, 3).has_slope(step) for step in (1, 2, 3)] == [False, False, True]


def test_the_picture_shows_what_was_reached_and_nothing_else(scene: Scene) -> None:
    view = scene.unroll().view
    texts = [texts_of(draw(view, Position(place, 4), 1, "t")) for place in (0, 2, 5, 9)]
    losses = [f"= {step.loss:.3f}" for step in view.steps]
    assert [sum(any(loss in text for text in found) for loss in losses) for found in texts] == [0, 2, 4, 4]
    assert [f"L = {view.total:.4f}" in found for found in texts] == [False, False, True, True]
    assert ["Σ dW = 100 %" in found for found in texts] == [False, False, False, True]


def texts_of(picture: str) -> list[str]:
    return ["".join(found.itertext()) for found in ElementTree.fromstring(picture).iter(SVG + "text")]


def test_a_long_input_of_a_large_network_is_folded() -> None:
    text = "hello world, " * 4
    scene = of_text(TextModel.untrained(text, cell="gru", hidden=40), text)
    view = scene.unroll().view
    assert (len(view.steps), view.left_out) == (MOST_STEPS, scene.steps - MOST_STEPS)
    assert len(view.units[0]) == MOST_UNITS
    spread = scene.unroll().trace.layers[0].hidden.std(axis=0)
    assert min(spread[list(view.units[0])]) >= max(np.delete(spread, list(view.units[0])))
    picture = draw(view, Position(2 * scene.steps + 1, scene.steps), 1, "t")
    assert str(view.left_out) in texts_of(picture)
    assert "Σ dW = 100 %" in texts_of(picture)


def test_hostile_characters_are_text_in_every_picture() -> None:
    text = "<script>\"&'</script>\x07"
    scene = of_text(TextModel.untrained(text, cell="elman", hidden=3), text)
    seen = scene.unroll()
    picture = draw(seen.view, Position(99, scene.steps), 1, "<b>")
    assert {element.tag.removeprefix(SVG) for element in ElementTree.fromstring(picture).iter()} <= {
        "svg", "title", "defs", "marker", "path", "g", "rect", "text"
    }  # fmt: skip
    parameter = scene.parameters["W_xh"]
    shown = matrix(parameter.values, parameter.rows, parameter.columns, name="<i>", chosen=(0, 0))
    close = closeup(cell_step(scene.network, scene.xs, seen.trace, 1, 0), (0,), ("<b>",) * 20, 1, None)
    assert "<i>" not in shown
    assert "<b>" not in close
    assert "&lt;" in shown
    assert visible("\x07") == "U+0007"


@pytest.mark.parametrize("cell", ["elman", "gru", "lstm"])
def test_a_cell_close_up_is_the_cells_own_step(cell: str) -> None:
    model = TextModel.untrained("hello", cell=cell, hidden=4, layers=2)
    scene = of_text(model, "hello")
    seen = scene.unroll()
    carries = tuple(scene.network.initial_carry())
    for step, code in enumerate(scene.xs, 1):
        _, after = scene.network.step(jnp.asarray(code), carries)
        for layer in range(2):
            found = cell_step(scene.network, scene.xs, seen.trace, step, layer)
            np.testing.assert_allclose(found.before, carries[layer], atol=1e-6)
            np.testing.assert_allclose(found.after, after[layer], atol=1e-6)
            computed = found.cell.combine(
                *map(jnp.asarray, (found.projected, found.recurrent)), jnp.asarray(found.before)
            )
            np.testing.assert_allclose(found.after, computed, atol=1e-6)
        carries = after


def test_a_window_of_a_large_matrix_holds_the_chosen_cell() -> None:
    for chosen in ((0, 0), (30, 99), (99, 47)):
        window = Window.around((100, 100), chosen)
        assert window.row <= chosen[0] < window.row + window.rows
        assert window.column <= chosen[1] < window.column + window.columns
        assert max(window.rows, window.columns) <= MOST_CELLS


# In the browser -----------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> Iterator[str]:
    runs = tmp_path_factory.mktemp("unroll") / "runs"
    runs.mkdir()
    TextModel.untrained("abc <script>&\n", cell="gru", hidden=5, layers=2).save(runs / "model.safetensors")
    with running_studio(runs, environment) as found:
        yield found


@pytest.fixture
def opened(chromium: Any, address: str) -> Iterator[Opened]:
    with opened_page(chromium, address) as found:
        yield found


def total(scene: Scene) -> str:
    return f"L = {scene.unroll().view.total:.4f}"


def wait_for_total(page: Any, scene: Scene) -> None:
    page.wait_for_selector(f"svg.unrolled text:text-is('{total(scene)}')")


@needs_browser
def test_the_walk_goes_by_buttons_and_keys(opened: Opened, scene: Scene) -> None:
    page = opened.go("/unroll")
    wait_for_total(page, scene)
    page.get_by_label("To the start").click()
    page.wait_for_selector("text=nothing is computed yet")
    assert page.locator("svg.unrolled text.loss-value", has_text="=").count() == 0
    for step in (1, 2):
        page.get_by_label("One step on").click()
        page.wait_for_selector(f"text=Forward, step {step} of 4")
    page.locator("body").press("End")
    page.wait_for_selector("text=add up to dW")
    assert page.locator("svg.unrolled text:text-is('Σ dW = 100 %')").count() == 1
    page.keyboard.press("ArrowLeft")
    page.wait_for_selector("text=come back to step 2")
    page.locator("svg.unrolled [data-step='3']").click(position={"x": 20, "y": 300})
    hidden = scene.unroll().trace.layers[0].hidden[2]
    page.wait_for_selector(f".closeup .numbers-table td:text-is('{number(float(hidden[0]), 3)}')")


@needs_browser
def test_a_changed_weight_is_followed_and_an_update_lowers_the_loss(opened: Opened, scene: Scene) -> None:
    page = opened.go("/unroll")
    wait_for_total(page, scene)
    page.locator("table.matrix td[data-row='1'][data-column='2']").click()
    field = page.get_by_label("Value", exact=True)
    field.fill("1.5")
    changed = scene.changed("W_hh", 1, 2, 1.5)
    wait_for_total(page, changed)
    slope = changed.unroll().slope_of("W_hh", 1, 2)
    assert slope is not None
    page.wait_for_selector(f"text=Gradient here: {number(slope, 4)}")
    page.get_by_role("button", name="Make one update").click()
    wait_for_total(page, changed.descended(changed.unroll().graph, LEARNING_RATE))
    page.get_by_role("button", name="Reset").click()
    wait_for_total(page, scene)
    for _ in range(2):
        page.get_by_role("button", name="Make ten updates").click()
    page.wait_for_selector("text=the network now writes: hello")
    page.get_by_label("Learning rate").fill("-1")
    page.get_by_role("button", name="Make one update").click()
    page.wait_for_selector("[role=alert]:has-text('makes no update')")


@needs_browser
def test_any_model_and_text_is_unrolled_and_stays_text(opened: Opened, address: str) -> None:
    page = opened.go("/unroll?run=model.safetensors")
    page.get_by_label("Input text").fill("<script>")
    page.wait_for_selector("svg.unrolled .step[data-step='7']")
    page.get_by_text("Many to one").click()
    page.wait_for_function("document.querySelectorAll('svg.unrolled rect.loss').length === 2")
    assert page.locator("main script").count() == 0
    page.get_by_label("Input text").fill("xyz")
    page.wait_for_selector("[role=alert]:has-text('the model does not know')")


@needs_browser
@pytest.mark.parametrize("language", ["en", "fa"])
def test_unroll_fits_a_phone(chromium: Any, address: str, language: str) -> None:
    phone = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}
    with opened_page(chromium, address, cookies={"elman-language": language}, **phone) as opened:
        page = opened.go("/unroll")
        page.wait_for_selector("svg.unrolled")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert page.evaluate("document.querySelector('.picture').scrollWidth") > 390, (
            "the graph scrolls in its own frame"
        )

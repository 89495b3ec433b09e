"""Pictures of the graph and of cells hold the numbers that they are of; `elman inspect graph` says the same, and what is wrong."""

import contextlib
import io
import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from elman.cli import main
from elman.insight.cell_drawing import Equation, cell_equations, cell_figure, walk_figures
from elman.insight.graph import text_graph
from elman.insight.graph_drawing import graph_figure, shown_steps
from elman.network import CELLS
from elman.text.hello import walk
from elman.text.model import TextModel


def words_of(figure: Any) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def value_of(equation: Equation) -> np.ndarray:
    """The right side of an equation, computed from nothing but what is drawn."""
    source, arrays = "", dict[str, np.ndarray]()
    for number, term in enumerate(equation[1:]):
        if isinstance(term, str):
            source += term.removeprefix("=").replace("−", "-").replace("∘", "*").replace("σ", "sigma")
        else:
            arrays[f"a{number}"] = term[1]
            if source and source[-1].isdigit():
                source += " @ "
            source += f"a{number}"
    functions = {"tanh": np.tanh, "sigma": lambda x: 1 / (1 + np.exp(-x))}
    return np.asarray(eval(source.strip(), {**functions, **arrays}))  # of our own making


@pytest.mark.parametrize("symbol", [True, False])
@pytest.mark.parametrize("name", CELLS)
def test_every_equation_of_a_cell_holds(name: str, symbol: bool) -> None:
    cell = CELLS[name].create(4, 3, key=jax.random.key(0))
    cell = jax.tree.map(lambda array: array + 0.1, cell)  # no bias is 0
    carry = np.linspace(-0.5, 0.8, cell.carry_size).astype(np.float32)
    x = np.asarray(2) if symbol else np.linspace(-1, 1, 4).astype(np.float32)
    equations = cell_equations(cell, x, carry)
    for equation in equations:
        assert not isinstance(equation[0], str)
        np.testing.assert_allclose(value_of(equation), equation[0][1], atol=1e-6)
    after = np.asarray(cell.step(jax.numpy.asarray(x), jax.numpy.asarray(carry)))
    np.testing.assert_allclose(equations[-1][0][1], after[:3], atol=1e-6)
    shown = words_of(cell_figure(cell, x, carry))
    assert f"{after[0]:+.2f}".replace("-", "−") in shown


def test_a_large_cell_is_drawn_without_numbers() -> None:
    cell = CELLS["gru"].create(30, 40, key=jax.random.key(0))
    shown = words_of(cell_figure(cell, np.asarray(3), np.zeros(40, np.float32)))
    assert "$W_{hn}$" in shown
    assert not any(word.startswith(("+0.", "−0.")) for word in shown)


def test_hello_is_drawn_to_the_update() -> None:
    example = walk()
    figures = walk_figures(example)
    assert len(figures) == 5
    for step, figure in zip(example.steps, figures, strict=False):
        shown = " ".join(words_of(figure))
        assert f"{step.loss:.3f}" in shown
        assert all(f"{value:+.2f}".replace("-", "−") in shown for value in step.hidden)
    assert f"{example.loss_after:.3f}" in " ".join(words_of(figures[-1]))


def test_the_graph_holds_its_numbers() -> None:
    model = TextModel.untrained("hello", seed=0, cell="elman", hidden=3)
    subject, graph = text_graph(model, "hello")
    shown = words_of(graph_figure(graph, subject.labels[:-1], subject.labels[1:], list("ehlo")))
    assert f"L = {graph.loss:.3f}" in shown
    for step in range(4):
        assert f"$L_{{{step + 1}}}$ = {graph.losses[step]:.3f}" in shown
        assert f"{100 * graph.shares[step]:.1f} %" in shown
        for value in (*graph.hidden[0][step], *graph.d_hidden[0][step]):
            assert f"{value:+.2f}" in shown


@pytest.mark.parametrize("steps", [1, 7, 8, 1000])
def test_a_long_graph_folds(steps: int) -> None:
    shown = shown_steps(steps)
    assert (None in shown) == (steps > 7)
    assert len(shown) <= 7
    assert (shown[0], shown[-1]) == (0, steps - 1)


def said_by(*arguments: str) -> tuple[int, str, str]:
    output, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        status = main(["inspect", "graph", *arguments])
    return status, output.getvalue(), errors.getvalue()


def test_the_command(tmp_path: Path) -> None:
    bundle = tmp_path / "model.safetensors"
    TextModel.untrained("a<$b_ \n", seed=0, cell="lstm", hidden=4, layers=2).save(bundle)
    picture = tmp_path / "graph.svg"
    text = "a<$b_\n<a$b"
    status, output, errors = said_by(str(bundle), "--text", text, "--json", "--output", str(picture))
    assert status == 0, errors
    figures = json.loads(output)
    assert "".join(step["reads"] for step in figures["steps"]) == text[:-1]
    assert "".join(step["target"] for step in figures["steps"]) == text[1:]
    assert sum(step["share"] for step in figures["steps"]) == pytest.approx(1, abs=1e-4)
    assert sum(step["loss"] for step in figures["steps"]) == pytest.approx(figures["loss"], rel=1e-5)
    assert len(figures["steps"][0]["layers"]) == 2
    assert ET.parse(picture).getroot().tag.endswith("svg")
    status, output, _ = said_by(str(bundle), "--text", text, "--many-to-one", "--steps", "3")
    assert status == 0
    assert "3 steps, many to one" in output


def test_hello_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    status, output, _ = said_by("hello", "--view", "walk", "--output", "word.png")
    assert status == 0
    assert f"L = {walk().loss:.4f}" in output
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"word-{number}.png" for number in range(1, 6)]


def test_what_cannot_be_unrolled_is_said(tmp_path: Path) -> None:
    bundle = tmp_path / "model.safetensors"
    TextModel.untrained("ab", seed=0, cell="elman", hidden=3).save(bundle)
    for arguments, words in (
        (["--text", "a"], "at least two"),
        (["--text", "abz"], "'z'"),
        (["--steps", "0"], "--steps 0 is out of range"),
        (["--data", "table.csv"], "--data is for forecasters"),
        (["--view", "walk"], "elman inspect graph hello"),
        (["--output", "graph.gif"], "unknown ending"),
    ):
        status, _, errors = said_by(str(bundle), *arguments)
        assert status == 2, errors
        assert words in errors

"""How far back a state remembers, against the network's own Jacobian, closed forms and known matrices."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from elman.cli import main
from elman.insight import memory as measured
from elman.insight.memory import ENDS, half_life, largest_singular_values, memory, spectra
from elman.insight.subjects import text_subject
from elman.insight.tracing import trace
from elman.network import Network
from elman.text.model import TextModel
from test_running import make_model, make_panel
from texts import words


def test_the_memory_of_one_unit_is_the_product_of_its_slopes() -> None:
    text = "abcab" * 20
    subject = text_subject(TextModel.untrained(text, cell="elman", hidden=1), text)
    states = trace(subject.network, subject.xs).layers[0].hidden[:, 0]
    slopes = np.abs(float(subject.network.cells[0].weight_hidden[0, 0]) * (1 - states**2))
    found = memory(subject)
    lags = found.lags[-1]
    last = len(text) - 1
    ends = np.unique(np.linspace(lags, last, ENDS).astype(int))
    expected = [[slopes[end - lag + 1 : end + 1].prod() for lag in found.lags] for end in ends]
    np.testing.assert_allclose(found.norm, np.exp(np.log(expected).mean(axis=0)), rtol=1e-3)
    assert [len(one.singular) for one in found.spectra] == [1]


def test_a_steady_decay_has_its_half_life() -> None:
    text = "ab" * 60
    model = TextModel.untrained(text, cell="elman", activation="relu", hidden=2)
    cell = model.network.cells[0]
    decay = eqx.tree_at(lambda c: c.weight_hidden, cell, 0.9 * jnp.eye(2))
    network = eqx.tree_at(lambda n: n.cells, model.network, (eqx.tree_at(lambda c: c.bias, decay, jnp.ones(2)),))
    found = memory(replace(text_subject(model, text), network=network))
    assert found.half_life == 7, "0.9^6 = 0.53, 0.9^7 = 0.48"
    np.testing.assert_allclose(found.norm, 0.9**found.lags, rtol=1e-4)


@pytest.mark.parametrize("cell", ["elman", "gru", "lstm"])
def test_norms_are_those_of_the_networks_own_jacobian(cell: str) -> None:
    """Of two layers: the whole state after the last step by the whole state before, all of it by forward differentiation."""
    text = "abcbacab" * 3
    subject = text_subject(TextModel.untrained(text, cell=cell, hidden=4, layers=2), text)
    network, steps = subject.network, len(subject.xs)
    found = memory(subject, lags=3)
    lag, ends = 3, np.unique(np.linspace(3, steps - 1, ENDS).astype(int))
    means, largest = [], []
    for end in ends:
        start = jnp.asarray(trace(network, subject.xs[: end - lag + 1]).carry)

        jacobian = np.asarray(jacobian_of(network, subject.xs[end - lag + 1 : end + 1], start))
        values = np.linalg.svd(jacobian, compute_uv=False)
        means.append(np.sqrt((values**2).mean()))
        largest.append(values[0])
    assert found.norm[lag] == pytest.approx(np.exp(np.log(means).mean()), rel=1e-3)
    assert found.largest is not None
    assert found.largest[lag] == pytest.approx(np.exp(np.log(largest).mean()), rel=1e-3)
    assert found.norm[0] == pytest.approx(1)


@jax.jit
def jacobian_of(network: Network, xs: jax.Array, start: jax.Array) -> jax.Array:
    """The state after some steps by the state before them, both flat."""

    def run(state: jax.Array) -> jax.Array:
        for x in xs:
            state = jnp.stack(network.step(x, tuple(state.reshape(start.shape)))[1]).reshape(-1)
        return state

    return jax.jacfwd(run)(start.reshape(-1))


def test_the_estimate_of_a_large_state_is_near_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "abcbacab" * 8
    subject = text_subject(TextModel.untrained(text, cell="gru", hidden=32), text)
    whole = memory(subject, lags=20)
    monkeypatch.setattr(measured, "EXACT", 0)
    estimated = memory(subject, lags=20)
    assert estimated.largest is None
    np.testing.assert_allclose(np.log(estimated.norm), np.log(whole.norm), atol=0.35)


def test_largest_singular_values_are_those_of_a_decomposition() -> None:
    rng = np.random.default_rng(0)
    matrices = rng.normal(size=(40, 16, 16)).astype(np.float32) * np.logspace(-12, 3, 40)[:, None, None].astype(
        np.float32
    )
    close = np.diag(np.linspace(1, 0.99, 16)).astype(np.float32)  # as near to each other as they come
    for group in (matrices, close[None], np.zeros((1, 3, 3), np.float32)):
        expected = np.linalg.svd(group.astype(np.float64), compute_uv=False)[:, 0]
        np.testing.assert_allclose(largest_singular_values(group), expected, rtol=1e-6)


def test_spectra_are_those_of_known_matrices() -> None:
    model = TextModel.untrained("ab", cell="elman", hidden=2)
    turn = 0.5 * np.asarray([[0.0, -1.0], [1.0, 0.0]]) + np.asarray([[0.0, 1.0], [0.0, 0.0]])
    cell = eqx.tree_at(lambda c: c.weight_hidden, model.network.cells[0], jnp.asarray(turn, jnp.float32))
    (found,) = spectra(eqx.tree_at(lambda n: n.cells, model.network, (cell,)))
    # [[0, 0.5], [0.5, 0]]: both singular values and both eigenvalues are of size one half.
    np.testing.assert_allclose(found.singular, [0.5, 0.5], atol=1e-6)
    assert found.radius == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("left", "expected"), [([0.4], 1), ([0.9, 0.4, 0.6, 0.3], 4), ([0.9, 0.8], None), ([np.nan, 0.1], 2)]
)
def test_a_half_life_is_where_it_is_below_half_for_good(left: list[float], expected: int | None) -> None:
    assert half_life(np.asarray(left)) == expected


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models")
    TextModel.untrained(words(200), hidden=6).save(path / "text.safetensors")
    panel = make_panel(120, missing=0.0)
    make_model(panel, members=2).save(path / "series.safetensors")
    hours = np.datetime_as_string(panel.times.astype("datetime64[us]"), unit="m")
    rows = [",".join(map(str, (hour, *row))) for hour, row in zip(hours, panel.values.tolist(), strict=True)]
    (path / "rows.csv").write_text("\n".join(["time,y,x,k", *rows]))
    return path


def run(capsys: Any, *arguments: Any) -> tuple[int, str, str]:
    capsys.readouterr()
    status = main(["inspect", *map(str, arguments)])
    said = capsys.readouterr()
    return status, said.out, said.err


def test_the_command_says_and_draws_what_the_library_measures(folder: Path, tmp_path: Path, capsys: Any) -> None:
    model = folder / "text.safetensors"
    picture = tmp_path / "memory.svg"
    status, out, _ = run(capsys, "memory", model, "--text", words(30), "--lags", 10, "--json", "--output", picture)
    assert status == 0
    figures = json.loads(out)
    expected = memory(text_subject(TextModel.load(model), words(30)), lags=10)
    np.testing.assert_allclose(figures["norm"], expected.norm, rtol=1e-6)
    assert picture.read_text().count("Gradients")
    status, out, _ = run(capsys, "memory", folder / "series.safetensors", "--data", folder / "rows.csv", "--lags", 5)
    assert status == 0
    assert "spectral radius" in out


def test_the_command_asks_what_moved_a_forecast(folder: Path, tmp_path: Path, capsys: Any) -> None:
    words_of = ("attribution", folder / "series.safetensors", "--data", folder / "rows.csv")
    status, out, _ = run(capsys, *words_of, "--json", "--output", tmp_path / "moved.png")
    assert status == 0
    whole = json.loads(out)
    assert abs(whole["unexplained"]) < 1e-3 * max(1, abs(whole["forecast"] - whole["baseline"]))
    assert {column["name"] for column in whole["columns"]} >= {"y", "x", "k"}
    assert sum(lag["moved"] for lag in whole["lags"]) == pytest.approx(whole["forecast"] - whole["baseline"], abs=1e-3)
    assert (tmp_path / "moved.png").exists()
    assert (tmp_path / "moved-lags.png").exists()
    status, out, _ = run(capsys, *words_of, "--json", "--method", "gradient")
    quick = json.loads(out)
    assert quick["forecast"] == whole["forecast"]
    assert quick["columns"] != whole["columns"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("memory", "text.safetensors", "--lags", 0), "--lags 0 is out of range"),
        (("memory", "text.safetensors", "--steps", 1), "--steps 1 is out of range"),
        (("memory", "text.safetensors", "--text", "a"), "too few steps"),
        (("memory", "text.safetensors", "--data", "rows.csv"), "is for forecasters"),
        (("memory", "series.safetensors", "--text", "a"), "is for models of text"),
        (("memory", "text.safetensors", "--output", "memory.txt"), "unknown ending"),
        (("attribution", "series.safetensors", "--data", "rows.csv", "--origin", "soon"), "is no time"),
        (("attribution", "series.safetensors", "--data", "rows.csv", "--origin", "1999-01-01"), "not within the rows"),
        (("attribution", "series.safetensors", "--data", "rows.csv", "--series", "z"), "there is no series 'z'"),
        (("attribution", "series.safetensors"), "holds no rows"),
        (("attribution", "text.safetensors", "--text", "a"), "one character"),
        (("attribution", "text.safetensors", "--origin", "2020-01-01"), "is for forecasters"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(
    arguments: tuple, message: str, folder: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    status, _, err = run(capsys, *arguments)
    assert status == 2
    assert message in err
    assert err.count("\n") == 1

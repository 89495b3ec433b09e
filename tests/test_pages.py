"""Every block of docs/start.md and docs/choosing.md runs, and all Python in the guides; figures are those of the results.

Budgets are shortened and of Shakespeare the beginning is read; everything else is as it stands. What a block leaves behind is
compared with the same thing had in another way.
"""

import json
import re
import shutil
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import elman
from elman.series import presets as series_presets
from elman.text.presets import resolve
from pages import ROOT, Block, assert_said, blocks, said_by_commands, said_by_python, shortened
from test_import_keras import layers_of, settings_of, write_archive
from test_serving_http import serving

DOCS = ROOT / "docs"
RESULTS = ROOT / "benchmarks" / "results"
SHORT = [
    (r"^elman studio$", "elman studio --help"),
    (r"train text \S+", "train text beginning.txt"),
    (r"--minutes \d+", "--steps 10"),
    (r"train series weather", "train series small.csv"),
    (r'fit\("weather"\)', 'fit("small.csv")'),
    (r"^(elman train series .*)", r"\1 --steps 10"),
    (r'train_text\("[\w-]+"', 'train_text("beginning.txt"'),
    (r"minutes=[\d.]+\)  #", "steps=10)  #"),
    (r'horizon="24h"(, minutes=0.5)?', 'horizon="24h", steps=10'),
]
"""What takes minutes for a reader."""


@pytest.fixture(scope="module")
def beginning() -> str:
    """Twenty thousand characters that rhyme with themselves."""
    line = '{}: "To be (or not to be)," Dear Sir, that is the question number {}. ROMEO\n'
    return "".join(line.format(number, number * 7) for number in range(280))


@pytest.fixture
def folder(tmp_path: Path, beginning: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder with a text and a table, where blocks run."""
    (tmp_path / "beginning.txt").write_text(beginning, encoding="utf-8")
    weather("2016-12-31 23:00").write_csv(tmp_path / "small.csv")
    monkeypatch.chdir(tmp_path)
    return tmp_path


NOT_RUN: dict[str, list[str]] = {
    "start.md": [
        "python3 -m venv .venv && . .venv/bin/activate",
        "elman train --resume runs/first",
        "pip install '.[studio]'",
    ],
    "choosing.md": [],
}
"""Blocks that install something, or go on with what nobody has stopped."""


# --- the pages for a beginning ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", ["start.md", "choosing.md"])
def test_all_blocks_run_and_say_what_stands_there(page: str, folder: Path, environment: dict[str, str]) -> None:
    names: dict[str, Any] = {}
    kinds = []
    environment = {**environment, "COLUMNS": "200"}  # a long path breaks no line
    for block in blocks(DOCS / page):
        kinds.append(block.kind)
        if block.kind == "sh":
            assert_said(block, said_by_commands(block, SHORT, folder, environment))
        elif block.kind == "python":
            said = said_by_python(shortened(block.text, SHORT), names)
            assert said.splitlines()[-len(block.expected) :] == block.expected
    assert kinds.count("python") == 1
    assert [block.text.splitlines()[0] for block in blocks(DOCS / page) if block.kind == "bash"] == NOT_RUN[page]
    if page == "start.md":
        assert pl.read_csv("tomorrow.csv").columns == names["forecaster"].predict().columns
        assert (folder / "runs" / "first" / "report.html").exists()


# --- the figures --------------------------------------------------------------------------------------------------------------


def rows_below(heading: str, page: str = "choosing.md") -> list[list[str]]:
    """The cells of the table whose first line has this beginning, without its two first lines."""
    text = (DOCS / page).read_text(encoding="utf-8")
    table = text.split(heading, 1)[1].split("\n\n", 1)[0]
    return [[cell.strip() for cell in line.strip("| ").split("|")] for line in table.splitlines()[2:]]


def test_the_sizes_that_stand_there_are_those_that_are_chosen() -> None:
    rows = rows_below("| from so many characters |")
    assert len(rows) == 7
    for row, (first, last) in zip(rows, ranges(rows), strict=True):
        for minutes, (hidden, dropout) in ((3.0, row[1:3]), (6.0, row[3:5])):
            for symbols in (first, last):
                network = resolve(elman.Config().replace(minutes=minutes), symbols, 65).network
                assert (network.hidden, network.dropout) == (int(hidden), float(dropout)), row
    rows = rows_below("| from so many rows |")
    assert len(rows) == 5
    for row, (first, last) in zip(rows, ranges(rows), strict=True):
        for count in (first, last):
            chosen = series_presets._sizes(elman.Config(), count)
            found = [chosen[name] for name in ("hidden", "recurrent_dropout", "input_dropout")]
            assert found == [float(cell) for cell in row[1:]], row


def ranges(rows: list[list[str]]) -> list[tuple[int, int]]:
    """For which sizes each line holds: from its own first cell to just before the next one's."""
    starts = [int(row[0].replace(",", "")) for row in rows]
    return list(zip(starts, [*(start - 1 for start in starts[1:]), 10**9], strict=True))


def result(name: str) -> Any:
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def test_the_milliseconds_of_an_update_are_those_that_were_measured() -> None:
    summaries = result("layers")["summaries"]
    rows = rows_below("| units | Elman | GRU | LSTM |")
    assert [row[0] for row in rows] == ["256", "512", "1024"]
    for row in rows:
        for cell, shown in zip(("tanh", "gru", "lstm"), row[1:], strict=True):
            measured = summaries[f"characters {cell} 32x{row[0]}x64 training"]["seconds"]["elman"]["median"] * 1000
            assert float(shown) == float(f"{measured:.3g}")


def test_the_losses_and_errors_are_those_that_were_measured() -> None:
    page = (DOCS / "choosing.md").read_text(encoding="utf-8")
    measured = [result(name)["runs"][0]["nats_per_character"] for name in ("shakespeare-1", "shakespeare-10-flags")]
    measured += [result(name)["runs"][0]["nats_per_character"] for name in ("war-and-peace", "python-source")]
    measured += [result("curves")["curves"]["elman"][-1][1]]
    for nats in measured:
        assert f"{nats:.3f}" in page
    peers = result("forecasting_peers")["by_budget"]["1 minutes"]["elman"]
    assert f"came after {peers['best_after_seconds']:.0f} s, {peers['best_validation']:.2f} °C" in page
    assert f"stood at {peers['validations'][-1][1]:.2f}" in page


def test_cells_and_short_data_are_as_they_were_measured() -> None:
    measured = result("choosing")
    for row, cell in zip(rows_below("| cell | Shakespeare"), ("gru", "lstm", "elman"), strict=True):
        runs = measured["cells-table"][cell]
        assert row[0].startswith(f"`{cell}`")
        assert row[1] == f"{measured['cells-text'][cell]['nats']:.3f}"
        assert row[2:4] == [", ".join(f"{run[part]:.3f}" for run in runs) + " °C" for part in ("validation", "test")]
    for row, (count, run) in zip(rows_below("| characters | network"), measured["short-texts"].items(), strict=True):
        figures = [run[name] for name in ("nats", "last", "training", "ngram")]
        assert row == [f"{int(count):,}", *(f"{figure:.3f}" for figure in figures)]
    for row, (count, run) in zip(rows_below("| rows | network"), measured["short-tables"].items(), strict=True):
        assert row == [f"{int(count):,}", f"{run['test']:.2f} °C", f"{run['baseline']:.2f} °C", run["best_baseline"]]


# --- Python in the guides -----------------------------------------------------------------------------------------------------


def weather(end: str, rows: int = 1500) -> pl.DataFrame:
    """Hourly rows of two columns up to `end`."""
    last = datetime.fromisoformat(end)
    times = [last - timedelta(hours=rows - 1 - row) for row in range(rows)]
    waves = np.sin(np.arange(rows) * 2 * np.pi / 24) * 5 + np.random.default_rng(0).normal(size=rows)
    columns = {
        "Date Time": [f"{time:%Y-%m-%d %H:%M}" for time in times],
        "T (degC)": waves,
        "p (mbar)": 990 + waves / 9,
    }
    return pl.DataFrame(columns)


def a_text_run(folder: Path) -> elman.TextModel:
    """The run, the letter and the files that the guides speak of."""
    run = elman.train_text("beginning.txt", run=folder / "runs" / "shakespeare", steps=5, hidden=16)
    (folder / "letter.txt").write_text('"To be (or not)", that is 17 to be.\n' * 3, encoding="utf-8")
    return run.model()


def scored(model: elman.TextModel, before: str, text: str) -> float:
    """The loss of `text` behind `before`, from the scores of both together and of what comes before."""
    whole, first = model.evaluate(before + text), model.evaluate(before)
    losses = [one["nats_per_character"] * one["characters"] for one in (whole, first)]
    return (losses[0] - losses[1]) / len(text)


def same_text(model: elman.TextModel, other: elman.TextModel, text: str = "to be, or not to be") -> bool:
    return abs(model.evaluate(text)["nats_per_character"] - other.evaluate(text)["nats_per_character"]) < 1e-5


def text_model(_: Path) -> Callable[[dict[str, Any], str], None]:
    def check(names: dict[str, Any], said: str) -> None:
        assert len(said) == 301  # with the line break of `print`
        assert same_text(elman.load("shakespeare.safetensors"), names["model"])

    return check


def layer(_: Path) -> Callable[[dict[str, Any], str], None]:
    def check(names: dict[str, Any], said: str) -> None:
        import jax

        assert names["ys"].shape == (120, 32, 64)
        twice, _ = elman.unroll(names["cell"], jax.numpy.zeros((240, 32, 14)))
        assert np.allclose(twice[120:], names["ys"], atol=1e-6)

    return check


def forecaster(folder: Path) -> Callable[[dict[str, Any], str], None]:
    rows = weather("2016-12-31 23:00")
    rows.write_csv(folder / "weather.csv")

    def check(names: dict[str, Any], said: str) -> None:
        again = elman.Forecaster.load("weather.safetensors")
        assert again.predict(rows).equals(names["forecaster"].predict(rows))
        assert str(again.predict(rows)["time"][0]) == "2017-01-01 23:00:00"

    return check


def frames(_: Path) -> Any:
    given = {"frame": weather("2016-12-30 11:00"), "recent": weather("2016-12-31 11:00", 400)}

    def check(names: dict[str, Any], said: str) -> None:
        again = elman.Forecaster.load("weather.safetensors")
        assert again.predict(given["recent"]).equals(names["forecaster"].predict(given["recent"]))
        assert said.count("shape: (1, 14)") == 2  # behind the last row, and behind the new one

    return given, check


def inside(folder: Path) -> Callable[[dict[str, Any], str], None]:
    a_text_run(folder)

    def check(names: dict[str, Any], said: str) -> None:
        part, graph = names["part"], names["graph"]
        assert np.allclose(sum(part.step(time) for time in range(graph.steps)), part.total, rtol=1e-4, atol=1e-6)
        text = Path("letter.txt").read_text(encoding="utf-8")
        assert names["foreseen"].mean == pytest.approx(scored(names["model"], "Dear Sir", text), rel=1e-4)
        assert names["rankings"]

    return check


def onnx_text(folder: Path) -> Callable[[dict[str, Any], str], None]:
    from elman.shipping.exporting import export

    model = a_text_run(folder)
    export(model, "onnx", folder / "model.onnx")

    def check(names: dict[str, Any], said: str) -> None:
        assert len(names["text"]) == 200
        assert set(names["text"]) <= set(model.vocabulary.symbols)

    return check


def imports(folder: Path) -> Any:
    from elman.shipping.exporting import export

    model = a_text_run(folder)
    export(model, "onnx", folder / "model.onnx")
    export(model, "torch", folder / "theirs.safetensors")
    shutil.copy(folder / "model.onnx", folder / "theirs.onnx")
    layers = layers_of("gru", symbols=model.vocabulary.size, units=5, count=1)
    described = [("Embedding", {}), ("GRU", {"reset_after": True, "return_sequences": True}), ("Dense", {})]
    write_archive(folder / "theirs.keras", layers, settings_of(*described))

    def check(names: dict[str, Any], said: str) -> None:
        assert len(names["layers"]) == 1
        assert names["network"].symbols == model.vocabulary.size
        assert names["model"].vocabulary == model.vocabulary
        from elman.shipping.onnx_import import text_model_from_onnx
        from elman.shipping.torch_export import from_state_dict

        assert same_text(text_model_from_onnx(Path("model.onnx")), model)
        assert same_text(from_state_dict(names["arrays"], model.vocabulary), model)

    return {"vocabulary": model.vocabulary}, check


def persian(_: Path) -> Callable[[dict[str, Any], str], None]:
    def check(names: dict[str, Any], said: str) -> None:
        nats, slipped = said.split()
        assert float(nats) == pytest.approx(names["story"].nats / len(names["story"].text))
        assert slipped == "True"

    return check


RUN: dict[tuple[str, int], Callable[[Path], Any]] = {
    ("docs/library.md", 0): text_model,
    ("docs/library.md", 1): layer,
    ("docs/library.md", 2): forecaster,
    ("docs/library.md", 3): persian,
    ("docs/forecasting.md", 0): frames,
    ("docs/insight.md", 0): inside,
    ("docs/exports.md", 0): onnx_text,
    ("docs/exports.md", 1): imports,
}
"""Blocks by page and number, and what each needs beforehand and leaves behind."""

ELSEWHERE = {
    ("README.md", 0): "docs/library.md has every line of it",
    ("README.md", 1): "docs/library.md has every line of it",
    ("docs/serving.md", 0): "test_openais_client_against_a_server below",
    ("docs/scaling.md", 0): "tests/test_arrow_batches.py runs it over a folder of files",
    (
        "docs/scaling.md",
        1,
    ): "needs Ray: tests/test_arrow_batches.py runs the script that it is taken from where Ray is installed",
    ("docs/scaling.md", 2): "needs Spark and Java: the same",
}


def python_of(page: str) -> list[Block]:
    return [block for block in blocks(ROOT / page) if block.kind == "python"]


def test_no_block_of_python_is_left_out() -> None:
    pages = {"README.md", *(f"docs/{path.name}" for path in DOCS.glob("*.md"))}
    pages -= {"docs/lecture.md", "docs/start.md", "docs/choosing.md"}  # run from their first line to their last
    there = {(page, number) for page in pages for number in range(len(python_of(page)))}
    assert there == set(RUN) | set(ELSEWHERE)


def test_the_readme_shows_what_runs_elsewhere() -> None:
    lines = [
        {line.split("  #")[0] for block in python_of(page) for line in block.text.splitlines()}
        for page in ("README.md", "docs/library.md")
    ]
    assert len(lines[0]) == 9
    assert lines[0] <= lines[1]


@pytest.mark.parametrize(("page", "number"), RUN, ids=[f"{page}-{number}" for page, number in RUN])
def test_python_of_the_guides_runs(page: str, number: int, folder: Path) -> None:
    prepared = RUN[page, number](folder)
    given, check = prepared if isinstance(prepared, tuple) else ({}, prepared)
    names = dict(given)
    said = said_by_python(shortened(python_of(page)[number].text, SHORT), names)
    check(names, said)


def test_openais_client_against_a_server(folder: Path, environment: dict[str, str]) -> None:
    model = a_text_run(folder)
    model.save(folder / "model.safetensors")
    [block] = python_of("docs/serving.md")
    with serving(environment, f"shakespeare-20261123-120000={folder / 'model.safetensors'}") as server:
        names: dict[str, Any] = {}
        said = said_by_python(block.text.replace("http://127.0.0.1:8000", server.url), names)
        names["client"].close()
    assert len(names["answer"].choices[0].text) == 300
    assert len(said) == 300
    assert not re.search(r"[^\x00-\x7f]", said)

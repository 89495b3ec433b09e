"""`elman inspect units|surprise|novelty` from the command line: what is printed, drawn and refused, and that text stays text."""

import contextlib
import io
import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from elman.cli import main
from elman.insight.coloring import ColoredText, figure, page, spans, table, terminal
from elman.series.reading.weather import write_weather
from elman.text.model import TextModel
from elman.text.scoring import symbol_losses
from elman.text.trainer import prepare, read_description
from elman.training.runs import Run
from texts import words

HOSTILE = "<script>alert('x')</script> & \"$a_b$\" [red]\n"
SMALL = ["--steps", "20", "--hidden", "8", "--batch", "2", "--unroll", "16", "--optimizer", "adamw", "--quiet"]
COLUMNS = [
    "--target",
    "T (degC)",
    "--horizon",
    "6h",
    "--lookback",
    "24h",
    "--no-baselines",
    "--inputs",
    "T (degC)",
    "rh (%)",
]


def said_by(*arguments: str) -> tuple[int, str, str]:
    output, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        status = main(["inspect", *arguments])
    return status, output.getvalue(), errors.getvalue()


def object_of(*arguments: str) -> dict[str, Any]:
    status, output, errors = said_by(*arguments, "--json")
    assert status == 0, errors
    value = json.loads(output)
    assert isinstance(value, dict)
    return value


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> Path:
    """Runs on a text with things that must never run, and on weather, beside their sources."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "words.txt").write_text(words(9000, seed=1) + HOSTILE * 60, encoding="utf-8")
    write_weather(folder / "station.csv", start="2020-01-01 00:00", rows=600, seed=3)
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()):
        patch.setenv("XDG_CACHE_HOME", environment["XDG_CACHE_HOME"])
        assert (
            main(
                [
                    "train",
                    "text",
                    str(folder / "words.txt"),
                    "--run",
                    str(folder / "text"),
                    *SMALL,
                    "--sample-length",
                    "20",
                ]
            )
            == 0
        )
        table_arguments = ["train", "series", str(folder / "station.csv"), "--run", str(folder / "series")]
        assert main([*table_arguments, *COLUMNS, *SMALL]) == 0
    TextModel.load(folder / "text").save(folder / "bundle.safetensors")
    return folder


def test_units_of_held_out_text(home: Path) -> None:
    figures = object_of("units", str(home / "text"))
    assert figures["source"] == "the run's held-out text"
    assert {feature["name"] for feature in figures["features"]} >= {"letter", "space", "line"}
    for feature in figures["features"]:
        assert len(feature["best"]) == 3
        assert all(one["layer"] == 1 and 1 <= one["unit"] <= 8 for one in feature["best"])
    assert len(figures["unit"]["values"]) == figures["steps"]
    status, output, _ = said_by("units", str(home / "text"), "--feature", "letter", "--unit", "1:3")
    assert status == 0
    assert "Unit 1:3 over the run's held-out text" in output


def test_units_by_example_and_of_a_series(home: Path) -> None:
    found = object_of("units", str(home / "text"), "--text", HOSTILE * 3, "--example", "alert")["examples"]
    assert len(found["units"]) == 4
    assert all(span["text"] in HOSTILE * 3 for span in found["spans"])
    series = object_of("units", str(home / "series"), "--characters", "300")
    assert series["steps"] == 300
    assert {"level", "trend", "lag-1"} <= {feature["name"] for feature in series["features"]}


def test_surprise_is_the_models_loss(home: Path) -> None:
    figures = object_of("surprise", str(home / "text"), "--characters", "200", "--top", "3")
    config, facts = read_description(Run(home / "text"))
    ready = prepare(facts["inputs"], config)
    model = TextModel.load(home / "text")
    expected = symbol_losses(model.network, np.asarray(ready.held_out[:200]))
    assert figures["nats_per_character"] == pytest.approx(expected.mean(), abs=1e-5)
    assert [one["nats"] for one in figures["characters"][1:]] == pytest.approx(expected.tolist(), abs=1e-5)
    assert figures["characters"][0]["nats"] is None
    assert all(len(one["alternatives"]) == 3 for one in figures["characters"][1:])
    status, output, _ = said_by("surprise", str(home / "text"), "--text", "<script>", "--prime", "alert")
    assert status == 0
    assert "the greatest surprises" in output


def test_novelty_of_a_sample_and_of_the_training_text_itself(home: Path) -> None:
    figures = object_of("novelty", str(home / "text"), "--characters", "500")
    assert figures["characters"] == 500
    assert [one["length"] for one in figures["shares"]] == [8, 16, 32, 64]
    training = (home / "words.txt").read_text(encoding="utf-8")[100:300]
    copied = object_of("novelty", str(home / "text"), "--text", training)
    assert copied["shares"][3]["sample"] == 1
    assert copied["pieces"][0] == {"text": training, "start": 0, "length": 200, "place": 100}
    other = ["--training", str(home / "words.txt")]
    bundle = object_of("novelty", str(home / "bundle.safetensors"), *other, "--text", training)
    assert bundle["pieces"][0]["place"] == 100
    assert bundle["shares"][0]["held_out"] is None


def test_a_bundle_alone_looks_at_what_it_writes(home: Path) -> None:
    figures = object_of("surprise", str(home / "bundle.safetensors"), "--characters", "50")
    assert figures["source"] == "a text that the model wrote"
    assert len(figures["characters"]) == 50


@pytest.mark.parametrize("kind", ["units", "surprise", "novelty"])
def test_text_is_never_run_in_a_page(home: Path, tmp_path: Path, kind: str) -> None:
    file = tmp_path / "page.html"
    assert said_by(kind, str(home / "text"), "--text", HOSTILE * 4, "--output", str(file))[0] == 0
    written = file.read_text(encoding="utf-8")
    assert "<script>alert" not in written
    assert "alert('x')" not in re.sub(r"<[^>]*>", "", written).split("&lt;script", 1)[0]
    assert "default-src 'none'" in written
    assert not re.search(r"(?:src|href)=|url\(|@import|https?:", written)
    assert written.count("<script>") == (1 if kind == "surprise" else 0)


@pytest.mark.parametrize(
    "arguments", [["units"], ["units", "--view", "gates"], ["units", "--view", "trajectory"], ["surprise"]]
)
def test_pictures_of_hostile_text(home: Path, tmp_path: Path, arguments: list[str]) -> None:
    kind, *view = arguments
    for ending in ("svg", "png"):
        file = tmp_path / f"picture.{ending}"
        assert said_by(kind, str(home / "text"), *view, "--text", HOSTILE * 2, "--output", str(file))[0] == 0
        assert file.stat().st_size > 1000
    assert ET.parse(tmp_path / "picture.svg").getroot().tag.endswith("svg")


@pytest.mark.parametrize("view", ["text", "gates", "trajectory"])
def test_pictures_of_a_series(home: Path, tmp_path: Path, view: str) -> None:
    file = tmp_path / "picture.svg"
    status, _, errors = said_by(
        "units", str(home / "series"), "--view", view, "--characters", "200", "--output", str(file)
    )
    assert status == 0, errors
    assert file.stat().st_size > 1000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["units", "text", "--text", ""], "the given text is empty"),
        (["surprise", "text", "--text", "ж"], "the model does not know 'ж' U+0436"),
        (["surprise", "text", "--text", "a", "--prime", "ж"], "'ж' U+0436"),
        (["units", "text", "--unit", "2:1"], "there is no layer 2"),
        (["units", "text", "--unit", "1:9"], "there is no unit 9 in layer 1: it has 8"),
        (["units", "text", "--unit", "three"], "--unit three is no unit"),
        (["units", "text", "--feature", "quote"], "there is no feature 'quote'"),
        (["units", "text", "--text", "a b c. " * 9, "--feature", "quotes"], "'quotes' never changes in one half"),
        (["units", "text", "--example", "zzz"], "'zzz' does not stand in the text"),
        (["units", "text", "--data", "x.csv"], "--data is for forecasters"),
        (["units", "series", "--text", "x"], "--text is for models of text"),
        (["units", "text", "--text", "a", "--feature", "letter"], "too few to rank"),
        (["surprise", "series", "--text", "x"], "a text model is expected here"),
        (["novelty", "series"], "a text model is expected here"),
        (["novelty", "bundle.safetensors"], "name its training text with --training"),
        (["surprise", "text", "--output", "x.pdf"], "has an unknown ending"),
        (["surprise", "text", "--top", "0"], "--top 0 is out of range"),
        (["surprise", "text", "--characters", "0"], "--characters 0 is out of range"),
        (["surprise", "text", "--text", "a", "--input", "b"], "--text and --input are two texts"),
        (["surprise", "text", "--input", "missing.txt"], "missing.txt"),
        (["novelty", "text", "--pieces", "-1"], "--pieces -1 is out of range"),
        (["units", "nothing"], "nothing"),
    ],
)
def test_slips_give_one_line(home: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str) -> None:
    monkeypatch.chdir(home)
    status, output, errors = said_by(*arguments)
    assert status == 2
    assert output == ""
    assert errors.count("\n") == 1
    assert message in errors


def test_colored_text_is_escaped_everywhere() -> None:
    colored = ColoredText(
        list("<&\u202e\x1b\n"), np.array([1.0, -1.0, np.nan, 0.1, 0.0]), "<i>", notes=["</script>"] * 5
    )
    shown = page(colored, beside=table(["<b>"], [["<u>"]]))
    for forbidden in ("<i>", "<b>", "<u>", "\u202e", "\x1b", "</script>]"):
        assert forbidden not in shown
    assert shown.count("</script>") == 2
    assert json.loads(shown.split('id="data">')[1].split("</script>")[0]) == ["</script>"] * 5
    assert spans(colored).startswith('<span class="w8">&lt;</span><span class="c8">&amp;</span><span>·</span>')
    assert terminal(colored).plain == "<&··\n"


def test_shades_are_in_step_with_the_values() -> None:
    colored = ColoredText("abcde", np.array([-2, -0.5, 0, 0.5, 2]), "")
    assert colored.shades.tolist() == [-8, -4, 0, 4, 8]
    assert spans(ColoredText("aab", np.array([0.5, 0.5, 0.0]), "")) == '<span class="w4">aa</span><span>b</span>'
    drawn = figure(ColoredText("x\n" * 40, np.linspace(-1, 1, 80), "long"))
    assert any("the first 64 of 80 characters" in text.get_text() for text in drawn.texts)

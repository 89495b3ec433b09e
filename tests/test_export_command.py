"""`elman export`: compares before it says done, replaces nothing unasked, and its documents run."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from elman.cli import main
from elman.errors import BundleError, ConfigError
from elman.shipping.comparing import compared
from elman.shipping.exporting import export
from exported import series_model, text_model


@pytest.fixture
def bundle(tmp_path: Path) -> str:
    text_model("gru").save(tmp_path / "text.safetensors")
    return str(tmp_path / "text.safetensors")


@pytest.mark.parametrize(("target", "name"), [("onnx", "m.onnx"), ("numpy", "m"), ("c", "m.c")])
def test_an_export_says_what_was_compared(
    target: str, name: str, bundle: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out" / name
    output.parent.mkdir()
    command = ["export", bundle, "--to", target, "--output", str(output), "--quiet"]
    assert main([*command, "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert [found["steps"] for found in figures["compared"]] == [200, 500]
    assert all(found["largest_difference"] < 1e-5 for found in figures["compared"])
    assert all(Path(path).is_file() for path in figures["paths"])
    before = {path: path.read_bytes() for path in output.parent.rglob("*") if path.is_file()}
    assert set(map(str, before)) == set(figures["paths"])
    assert main(command) == 2
    assert "--force replaces it" in capsys.readouterr().err
    assert main([*command, "--force"]) == 0
    assert "largest difference" in capsys.readouterr().out
    assert set(before) == {path for path in output.parent.rglob("*") if path.is_file()}


def test_a_forecaster_is_compared_on_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = series_model("median")
    model.save(tmp_path / "s.safetensors")
    command = ["export", str(tmp_path / "s.safetensors"), "--to", "numpy", "--output", str(tmp_path / "m")]
    assert main(command) == 0
    said = capsys.readouterr()
    assert "on random input only" in said.err
    assert "200 steps of random input" in said.out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--to", "onnx", "--output", "m.txt"], "does not fit --to onnx"),
        (["--to", "c", "--output", "my model.c"], "my_model.c"),
        (["--to", "onnx", "--output", "nowhere/m.onnx"], "is not there: make it first"),
        (["--to", "onnx", "--output", "m.onnx", "--input", "absent.txt"], "absent.txt"),
    ],
)
def test_what_cannot_be_is_one_line(
    words: list[str],
    message: str,
    bundle: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["export", bundle, *words, "--quiet"]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert message in said[-1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["text.safetensors"]


def test_an_export_that_differs_is_no_export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from elman.shipping import comparing

    monkeypatch.setattr(
        comparing, "numpy_answers", lambda folder, parts, inputs: np.zeros((len(inputs), parts.outputs))
    )
    with pytest.raises(BundleError, match="nothing was written"):
        export(text_model("gru"), "numpy", tmp_path / "m")
    assert not (tmp_path / "m").exists()
    with pytest.raises(BundleError):
        compared("numbers", np.zeros((2, 3)), np.full((2, 3), np.nan))
    with pytest.raises(ConfigError, match="layer normalization"):
        export(text_model("deep"), "torch", tmp_path / "m.safetensors")


def test_the_example_of_the_documents_runs_without_elman(repository: Path, tmp_path: Path) -> None:
    page = (repository / "docs" / "exports.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(import json.*?)```", page, flags=re.DOTALL)
    assert len(example.strip().splitlines()) <= 16
    assert "elman" not in example.replace('["elman"]', "")
    export(text_model("gru"), "onnx", tmp_path / "model.onnx")
    finished = subprocess.run([sys.executable, "-c", example], cwd=tmp_path, capture_output=True, check=True)
    written = finished.stdout.decode().rstrip("\r\n")
    assert len(set(written)) > 5

"""Every cell of docs/notebooks runs, with short trainings, and what the notebooks claim is so."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from elman.series.reading.weather import write_weather

FOLDER = Path(__file__).parents[1] / "docs" / "notebooks"


def load_script() -> ModuleType:
    specification = importlib.util.spec_from_file_location("notebooks_execute", FOLDER / "execute.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


SCRIPT = load_script()


@pytest.fixture
def ask(tmp_path: Path, compiled_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs a notebook in an empty folder; the values of these expressions at its end."""
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("MPLCONFIGDIR", str(compiled_cache / "matplotlib"))  # its list of fonts is made once
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(compiled_cache))

    def run(name: str, *expressions: str, **parameters: Any) -> list[Any]:
        notebook, said = SCRIPT.execute(
            name,
            tmp_path,
            parameters=parameters,
            ask=f"__import__('json').dumps([{', '.join(expressions)}], default=float)",
        )
        assert not [
            output for cell in notebook.cells for output in cell.get("outputs", ()) if output.output_type == "error"
        ]
        return list(json.loads(said))

    return run


def sources(name: str) -> list[dict[str, Any]]:
    return json.loads((FOLDER / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]


def test_there_are_four_notebooks() -> None:
    assert SCRIPT.NAMES == ("gradients", "hello", "jena", "shakespeare")


@pytest.mark.parametrize("name", SCRIPT.NAMES)
def test_what_is_committed_was_run_from_top_to_bottom_and_is_small(name: str) -> None:
    cells = sources(name)
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    kinds = {kind for cell in code for output in cell["outputs"] for kind in output.get("data", {})}
    assert "image/png" in kinds
    assert kinds <= {"image/png", "text/plain"}
    assert not [output for cell in code for output in cell["outputs"] if output["output_type"] == "error"]
    assert (FOLDER / f"{name}.ipynb").stat().st_size <= SCRIPT.MOST_BYTES
    assert cells[-1]["source"][0].startswith("## Exercises")
    assert max(len(cell["source"]) for cell in code) <= 28  # a screen


def test_hello(ask: Any) -> None:
    forward, backward, spelled, loss, table, first, second = ask(
        "hello", "float(forward_difference)", "float(backward_difference)", "said[-1][1]", "float(curve[-1])",
        "float(BEST_TABLE)", "first_l.tolist()", "second_l.tolist()",
    )  # fmt: skip
    assert forward < 1e-6
    assert backward < 1e-6
    assert spelled == "hello"
    assert table == pytest.approx(2 * np.log(2))
    assert loss < 0.5 * table
    assert np.linalg.norm(np.subtract(first, second)) > 1


def test_gradients(ask: Any) -> None:
    linear, jacobian, gate, hill, kept, lengths, clipped, reached, start = ask(
        "gradients", "linear_error", "jacobian_error", "gate_error", "hill", "kept", "lengths.tolist()",
        "[float(np.linalg.norm(slope)) for slope in by_norm]", "reached", "at_the_start",
        LAGS=40, UPDATES=20,
    )  # fmt: skip
    assert linear < 1e-4
    assert jacobian < 1e-5
    assert gate < 1e-4
    assert hill > 1.5  # although the radius is 0.9
    assert kept["lstm"] < 1
    assert lengths[-1] > 10 * lengths[0]
    np.testing.assert_allclose(clipped, np.minimum(lengths, 5), rtol=1e-9)
    assert reached.keys() == start.keys()
    assert start["gru"] < start["gru that keeps"] < 1
    assert start["elman, weights halved"] < 0.55 < start["elman"] < 1  # W / 2 of an orthogonal W, and tanh'


def test_shakespeare(ask: Any, tmp_path: Path, shared_data: Path) -> None:
    beginning = tmp_path / "beginning.txt"
    beginning.write_text((shared_data / "tinyshakespeare.txt").read_text(encoding="utf-8")[:60_000], encoding="utf-8")
    nats, uniform, samples, variety, begins, inside, mean, shares = ask(
        "shakespeare", "run.best", "run.baselines['uniform']", "[moment.text for moment in moments]", "variety",
        "float(losses[begins].mean())", "float(losses[inside].mean())", "foreseen.mean", "compared.shares()",
        TEXT=str(beginning), STEPS=110,
    )  # fmt: skip
    assert nats < 0.9 * uniform
    assert len(samples) >= 2
    assert all(samples)
    assert variety["0.2"] < variety["1.5"]
    assert mean == pytest.approx(nats, abs=0.3)
    assert begins > inside
    assert [length for length, _, _ in shares] == sorted(length for length, _, _ in shares)


def test_jena(ask: Any, tmp_path: Path) -> None:
    table = write_weather(tmp_path / "station.csv", rows=3000, seed=4, gaps=True)
    verdict, ours, baselines, coverage, levels, unexplained, sizes = ask(
        "jena", "run.verdict", "ours", "{name: one['mae'] for name, one in evaluation['test']['baselines'].items()}",
        "evaluation['test']['coverage']", "levels.tolist()", "moved.unexplained", "(moved.forecast, moved.baseline)",
        TABLE=str(table), STEPS=60,
    )  # fmt: skip
    assert ("NOT" in verdict) == (ours > min(baselines.values()))
    assert {"persistence", "climatology"} <= set(baselines)
    assert 0.5 < coverage < 1
    assert levels == sorted(levels)
    assert abs(unexplained) < 0.05 * max(1.0, abs(sizes[0] - sizes[1]))

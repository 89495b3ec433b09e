"""What an export says, asked of the export itself, beside what the model says: an export is compared before it is called done.

Each function `…_answers` runs an export step by step from the zero state over inputs `[time]` of symbols or `[time, inputs]` of
numbers, and gives what it said, `[time, outputs]`: logits, or scaled forecasts.
"""

import json
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from elman.errors import BundleError, ConfigError
from elman.network import Network
from elman.series.model import SeriesModel
from elman.shipping.c_export import write_c
from elman.shipping.parts import Parts
from elman.text.model import TextModel
from elman.training.engine import precision

LARGEST_DIFFERENCE = 1e-4
"""Of an output, counted in the size of the largest one (at least 1): beyond this an export is called wrong.

Float32 sums in another order give some 1e-6; relu networks, whose states grow, somewhat more.
"""


@dataclass(frozen=True)
class Comparison:
    """what: the inputs, in words. steps: how many. largest: the largest difference of an output, relative if outputs exceed 1."""

    what: str
    steps: int
    largest: float


def compared(
    what: str, model: np.ndarray, export: np.ndarray, names: tuple[str, str] = ("export", "model")
) -> Comparison:
    """The largest difference. names: what `export` and `model` are called in an error.

    Raises: `BundleError` beyond `LARGEST_DIFFERENCE`, and for what is no number.
    """
    theirs, ours = names
    if model.shape != export.shape:
        raise BundleError(
            f"the {theirs} answers {export.shape} numbers on {what}, not {model.shape}: a defect of elman"
        )
    with np.errstate(invalid="ignore"):
        difference = np.abs(model - export).max(initial=0) / max(1.0, np.abs(model).max(initial=0))
    if not difference <= LARGEST_DIFFERENCE:
        raise BundleError(
            f"the {theirs} differs from the {ours} by {difference:.2g} on {what}, more than {LARGEST_DIFFERENCE:g}: "
            f"nothing was written"
        )
    return Comparison(what, len(model), float(difference))


def model_answers(model: TextModel | SeriesModel, inputs: np.ndarray) -> np.ndarray:
    """What the model itself says."""
    with precision(model.config.training.dtype):
        if isinstance(model, TextModel):
            return np.asarray(_text_answers(model.network, jnp.asarray(inputs, jnp.int32)))
        carry = model.network.initial_carry(1)
        hidden, _ = model.network.hiddens(jnp.asarray(inputs, carry.dtype)[:, None], carry)
        said = np.asarray(model.network.outputs(hidden))[:, 0]
    anchor = inputs[:, model.encoding.names_of_inputs().index(model.encoding.target)]
    return (said + anchor[:, None, None]).reshape(len(inputs), -1)


@jax.jit
def _text_answers(network: Network, symbols: jax.Array) -> jax.Array:
    return network.head(network(symbols)[0])


def random_inputs(parts: Parts, steps: int = 200) -> np.ndarray:
    """Symbols drawn evenly, or normal numbers."""
    generator = np.random.default_rng(0)
    if parts.is_text:
        return generator.integers(0, parts.inputs, steps)
    return generator.normal(size=(steps, parts.inputs)).astype(np.float32)


def onnx_answers(serialized: bytes, inputs: np.ndarray) -> np.ndarray:
    """What ONNX Runtime says of the file's bytes."""
    import onnxruntime

    session = onnxruntime.InferenceSession(serialized, providers=["CPUExecutionProvider"])
    first, *states = session.get_inputs()
    state = {i.name: np.zeros((i.shape[0], 1, i.shape[2]), np.float32) for i in states}
    said = []
    for row in inputs:
        x = np.asarray(row, np.int64 if first.name == "symbols" else np.float32)[None, None]
        answer, *after = session.run(None, {first.name: x, **state})
        state = dict(zip(state, after, strict=True))
        said.append(answer[0, 0].ravel())
    return np.asarray(said)


def numpy_answers(folder: Path, parts: Parts, inputs: np.ndarray) -> np.ndarray:
    """What the files in `folder` say."""
    from elman.shipping.portable.model import load

    network = load(folder).network
    state, said = network.initial_state(), []
    place = None if parts.is_text else parts.facts["input_names"].index(parts.facts["target"])
    for row in inputs.tolist() if place is None else inputs:
        answer, state = network.step(row, state)
        said.append(answer.ravel() + (0 if place is None else row[place]))
    return np.asarray(said)


C_MAIN = """
#include <stdio.h>
#include <stdlib.h>
#include "model_under_test.h"
int main(void) {
    static model_under_test_state state;
    static float outputs[MODEL_UNDER_TEST_OUTPUTS];
    %(declaration)s
    model_under_test_reset(&state);
    while (fread(%(pointer)s, sizeof(%(type)s), %(count)s, stdin) == %(count)s) {
        model_under_test_step(&state, x, outputs);
        fwrite(outputs, sizeof(float), MODEL_UNDER_TEST_OUTPUTS, stdout);
    }
    return 0;
}
"""


def c_answers(parts: Parts, inputs: np.ndarray, folder: Path, flags: Sequence[str] = ("-std=c99", "-O1")) -> np.ndarray:
    """What the C file says, compiled in `folder`. Raises: `ConfigError` where there is no compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise ConfigError("there is no C compiler")
    source, _ = write_c(parts, folder / "model_under_test.c")
    words = {"declaration": "int x;", "pointer": "&x", "type": "int", "count": "1"}
    if not parts.is_text:
        size = "MODEL_UNDER_TEST_INPUTS"
        words = {"declaration": f"static float x[{size}];", "pointer": "x", "type": "float", "count": size}
    main, program = folder / "main.c", folder / "compared"
    main.write_text(C_MAIN % words)
    command = [compiler, *flags, str(source), str(main), "-lm", "-o", str(program)]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    if finished.returncode:
        raise BundleError(f"the C file does not compile: {finished.stderr.strip().splitlines()[:1]}: a defect of elman")
    given = np.ascontiguousarray(inputs, np.int32 if parts.is_text else np.float32).tobytes()
    answer = subprocess.run([str(program)], input=given, capture_output=True, check=True).stdout
    return np.frombuffer(answer, np.float32).reshape(len(inputs), -1)


def web_answers(page: str, inputs: np.ndarray) -> np.ndarray:
    """What the page says in headless Chromium, given its inputs as one more block of data.

    Raises: `ConfigError` where there is no Chromium.
    """
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    browser = next(filter(None, map(shutil.which, names)), None)
    if browser is None:
        raise ConfigError("there is no Chromium")
    block = f'<script type="application/json" id="compare">{json.dumps(inputs.tolist())}</script>\n<script>'
    with tempfile.TemporaryDirectory() as folder:
        asked = Path(folder) / "page.html"
        asked.write_text(page.replace("<script>", block, 1), encoding="utf-8")
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
        flags += ["--disable-background-networking", "--disable-component-update", f"--user-data-dir={folder}/profile"]
        finished = subprocess.run(
            [browser, *flags, "--virtual-time-budget=60000", "--dump-dom", asked.as_uri()],
            capture_output=True,
            text=True,
            check=False,
            timeout=180,
        )
    _, _, rest = finished.stdout.partition('<pre id="compared" hidden="">')
    try:
        answer: Any = json.loads(rest.partition("</pre>")[0])
    except ValueError:
        raise ConfigError("Chromium did not answer") from None
    return np.asarray(answer, np.float64)

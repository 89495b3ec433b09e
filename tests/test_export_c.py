"""C: the file compiles without a warning, computes and forecasts as the model does, and no text gets out of its place."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from elman.shipping.c_export import c_name, to_c
from elman.shipping.comparing import c_answers
from elman.shipping.parts import Parts, parts_of
from elman.shipping.portable.model import Forecaster, Network, phases
from exported import SERIES_KINDS, TEXT_KINDS, series_model, series_panel, text_model

COMPILER = shutil.which("cc")
STRICT = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-O1"]

pytestmark = pytest.mark.skipif(COMPILER is None, reason="no C compiler on this machine: install cc")


def expected(parts: Parts, inputs: Any) -> np.ndarray:
    network, said = Network(parts.facts, parts.arrays), []
    state = network.initial_state()
    for x in inputs:
        answer, state = network.step(x, state)
        said.append(answer.ravel())
    return np.asarray(said)


@pytest.mark.parametrize("kind", TEXT_KINDS)
def test_a_text_model_says_the_same_in_c(kind: str, tmp_path: Path) -> None:
    parts = parts_of(text_model(kind))
    symbols = np.random.default_rng(0).integers(0, parts.inputs, 60)
    said = c_answers(parts, symbols, tmp_path, flags=STRICT)
    np.testing.assert_allclose(said, expected(parts, symbols.tolist()), atol=1e-5)


@pytest.mark.parametrize("kind", SERIES_KINDS)
def test_a_forecaster_says_the_same_in_c(kind: str, tmp_path: Path) -> None:
    parts = parts_of(series_model(kind))
    inputs = np.random.default_rng(0).normal(size=(40, parts.inputs)).astype(np.float32)
    anchor = inputs[:, parts.facts["input_names"].index("y")]
    said = c_answers(parts, inputs, tmp_path, flags=STRICT)
    np.testing.assert_allclose(said, expected(parts, inputs) + anchor[:, None], atol=1e-5)


def compiled(folder: Path, parts: Parts, program: str) -> str:
    """What a program that uses the model prints."""
    header, source = to_c(parts, "m")
    for name, text in (("m.h", header), ("m.c", source), ("main.c", program)):
        (folder / name).write_text(text)
    files = [str(folder / name) for name in ("m.c", "main.c")]
    subprocess.run([str(COMPILER), *STRICT, *files, "-lm", "-o", str(folder / "run")], check=True)
    return subprocess.run([str(folder / "run")], check=True, capture_output=True, text=True).stdout


def test_every_symbol_comes_back_as_it_went_in(tmp_path: Path) -> None:
    """Quotes, backslashes, zeros, ends of comments and letters of two scripts."""
    model = text_model("gru")
    program = """
#include <stdio.h>
#include "m.h"
int main(void) {
    for (int symbol = 0; symbol < M_INPUTS; symbol++) {
        size_t length, used;
        const char *bytes = m_symbol(symbol, &length);
        if (m_read(bytes, length, &used) != symbol || used != length) return 1;
        for (size_t i = 0; i < length; i++) printf("%02x", (unsigned)(unsigned char)bytes[i]);
        printf("\\n");
    }
    return 0;
}"""
    lines = compiled(tmp_path, parts_of(model), program).split()
    assert [bytes.fromhex(line).decode() for line in lines] == list(model.vocabulary.symbols)


def test_the_sampler_draws_each_symbol_as_often_as_the_softmax_says(tmp_path: Path) -> None:
    parts = parts_of(text_model("gru"))
    program = """
#include <stdio.h>
#include "m.h"
int main(void) {
    static m_state state;
    float logits[M_OUTPUTS];
    int counts[M_OUTPUTS] = {0};
    uint32_t seed = 1;
    m_reset(&state);
    m_step(&state, 3, logits);
    for (int draw = 0; draw < 200000; draw++) counts[m_draw(logits, 0.5f, &seed)]++;
    for (int j = 0; j < M_OUTPUTS; j++) printf("%d\\n", counts[j]);
    return m_draw(logits, 0.0f, &seed) != LIKELIEST;
}"""
    logits = expected(parts, [3])[0].astype(np.float64)
    chances = np.exp(2 * logits) / np.exp(2 * logits).sum()
    program = program.replace("LIKELIEST", str(logits.argmax()))
    counts = np.asarray(compiled(tmp_path, parts, program).split(), int)
    # Five standard deviations of a count, of 200,000 draws.
    assert (np.abs(counts - 200_000 * chances) < 5 * np.sqrt(200_000 * chances)).all()


@pytest.mark.parametrize("kind", ["path", "thirds"])
def test_measurements_become_forecasts_in_c(kind: str, tmp_path: Path) -> None:
    """Rows in, quantiles in the target's unit out, as the folder of NumPy gives them."""
    parts, panel = parts_of(series_model(kind)), series_panel()
    forecaster = Forecaster(parts.facts, parts.arrays)
    facts, count = parts.facts, 80
    times, values = panel.times[:90], panel.values[:90].copy()
    values[count:, :3] = np.nan
    if not facts["known"]:
        times, values = times[:count], values[:count]
    expected = forecaster.forecast(times, values, series="s0", static=[0.0])
    turns = phases(forecaster._local(times), facts["circles"])
    known = [values[np.minimum(np.arange(count) + ahead, len(values) - 1), 3] for ahead in facts["ahead"]]
    rows = np.concatenate([values[:count], turns[:count], *([np.stack(known, 1)] if facts["known"] else [])], axis=1)
    first = (count - 1) % facts["every"]
    program = f"""
#include <math.h>
#include <stdio.h>
#include "m.h"
static const float rows[{count}][{rows.shape[1]}] = {{{_rows(rows)}}};
int main(void) {{
    static m_state state;
    static m_encoder encoder;
    float inputs[M_INPUTS], said[M_OUTPUTS], quantiles[M_HORIZON * M_LEVELS];
    const float fixed[1] = {{0}};
    m_reset(&state);
    m_encoder_reset(&encoder);
    for (int row = 0; row < {count}; row++) {{
        const float *turns = rows[row] + M_COLUMNS;
        m_encode(&encoder, m_center[0], m_scale[0], rows[row], turns, turns + M_CIRCLES, fixed, inputs);
        if (row % {facts["every"]} == {first}) m_step(&state, inputs, said);
    }}
    m_units(m_center[0], m_scale[0], said, quantiles);
    for (int i = 0; i < M_HORIZON * M_LEVELS; i++) printf("%.9g\\n", (double)quantiles[i]);
    return 0;
}}"""
    said = np.asarray(compiled(tmp_path, parts, program).split(), float)
    np.testing.assert_allclose(said.reshape(expected.shape), expected, atol=1e-4, rtol=1e-5)


def _rows(rows: np.ndarray) -> str:
    words = [["NAN" if np.isnan(value) else f"(float){float(value)!r}" for value in row] for row in rows]
    return ",".join(f"{{{','.join(row)}}}" for row in words)


def test_names_and_texts_stay_in_their_places() -> None:
    parts = parts_of(series_model("path"))
    hostile = {**parts.facts, "names": ['x*/ \\\n#include "y"', "s1"]}
    hostile["static_columns"] = ['*/ #include "y"']
    header, source = to_c(Parts(hostile, parts.arrays), 'a"; system("x")')
    assert 'include "y"' not in source + header
    assert (header + source).isascii()
    assert c_name('a"; system("x")') == "a_system_x"
    assert c_name("math") == "model_math"

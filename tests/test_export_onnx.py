"""ONNX: the file computes what the model computes, in ONNX Runtime, step by step over ten thousand of them."""

import json
from typing import Any

import jax.numpy as jnp
import numpy as np
import onnx
import onnxruntime
import pytest

from elman.shipping.onnx_export import OPERATORS, to_onnx
from elman.shipping.parts import parts_of
from exported import SERIES_KINDS, TEXT_KINDS, series_model, series_panel, text_model


def opened(model: Any) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(to_onnx(parts_of(model)).SerializeToString(), options)


def zero_states(session: onnxruntime.InferenceSession, batch: int) -> dict[str, np.ndarray]:
    return {
        i.name: np.zeros((i.shape[0], batch, i.shape[2]), np.float32)
        for i in session.get_inputs()
        if i.name in ("hidden", "cell")
    }


@pytest.mark.parametrize("kind", TEXT_KINDS)
def test_a_text_model_says_the_same_in_onnx_runtime(kind: str) -> None:
    model = text_model(kind)
    session = opened(model)
    symbols = np.random.default_rng(0).integers(0, model.vocabulary.size, (50, 3))
    hidden, _ = model.network(jnp.asarray(symbols, jnp.int32), model.network.initial_carry(3))
    logits = session.run(["logits"], {"symbols": symbols, **zero_states(session, 3)})[0]
    np.testing.assert_allclose(logits, model.network.head(hidden), atol=1e-5)


@pytest.mark.parametrize("kind", ["elman", "gru", "lstm"])
def test_ten_thousand_steps_one_by_one_do_not_drift(kind: str) -> None:
    model = text_model(kind)
    session = opened(model)
    symbols = np.random.default_rng(0).integers(0, model.vocabulary.size, (10_000, 1))
    hidden, _ = model.network(jnp.asarray(symbols, jnp.int32), model.network.initial_carry(1))
    state, said = zero_states(session, 1), []
    for row in symbols:
        logits, *after = session.run(None, {"symbols": row[None], **state})
        state = dict(zip(state, after, strict=True))
        said.append(logits[0])
    np.testing.assert_allclose(np.stack(said), model.network.head(hidden), atol=1e-5)


@pytest.mark.parametrize("kind", SERIES_KINDS)
def test_a_forecaster_says_the_same_in_onnx_runtime(kind: str) -> None:
    model, panel = series_model(kind), series_panel()
    session = opened(model)
    rows = model.encoding.rows(panel)
    index = np.arange(60)[:, None] + panel.offsets[:-1]
    inputs = np.asarray(model.encoding.inputs(model.encoding.steps(rows, index)), np.float32)
    hidden, _ = model.network.hiddens(jnp.asarray(inputs), model.network.initial_carry(2))
    anchor = rows.values[index][..., model.encoding.target_index]
    expected = np.asarray(model.network.outputs(hidden)) + anchor[..., None, None]
    said = session.run(["forecast"], {"inputs": inputs, **zero_states(session, 2)})[0]
    np.testing.assert_allclose(said, expected, atol=1e-5)


def test_the_file_holds_real_operators_and_its_own_description() -> None:
    model = text_model("gru")
    exported = to_onnx(parts_of(model))
    assert [node.op_type for node in exported.graph.node].count(OPERATORS["gru"]) == 2
    facts = json.loads({entry.key: entry.value for entry in exported.metadata_props}["elman"])
    assert facts["vocabulary"] == model.vocabulary.to_dict()
    assert not {"Loop", "Scan"} & {node.op_type for node in exported.graph.node}
    onnx.checker.check_model(exported)

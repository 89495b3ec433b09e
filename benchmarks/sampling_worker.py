"""The peers of `sampling.py`, in an environment with torch, onnx and onnxruntime: a loop of single steps each, GRU of 256 units.

A line on standard input asks for one of them by name, a line of JSON with its characters per second answers.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

HIDDEN, SYMBOLS, LENGTH = 256, 65, 2000


def torch_loops() -> dict[str, Callable[[], float]]:
    """PyTorch, one character per call: `nn.GRU` on a one-hot vector, and `nn.GRUCell`, then softmax and multinomial."""
    import torch

    torch.manual_seed(0)
    layer, cell, head = (
        torch.nn.GRU(SYMBOLS, HIDDEN),
        torch.nn.GRUCell(SYMBOLS, HIDDEN),
        torch.nn.Linear(HIDDEN, SYMBOLS),
    )

    def measure(step: Callable[..., Any]) -> float:
        eye, symbol, state = torch.eye(SYMBOLS), 0, torch.zeros(1, HIDDEN)
        with torch.inference_mode():
            began = time.perf_counter()
            for _ in range(LENGTH):
                state = step(eye[symbol][None], state)
                symbol = int(torch.multinomial(torch.softmax(head(state), -1), 1))
            return LENGTH / (time.perf_counter() - began)

    return {
        "PyTorch nn.GRU loop": lambda: measure(lambda x, h: layer(x, h)[1]),
        "PyTorch nn.GRUCell loop": lambda: measure(cell),
    }


def onnx_loop() -> float:
    """ONNX Runtime: its GRU operator, product and softmax as one model, called for each character; NumPy draws."""
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    generator = np.random.default_rng(0)

    def weight(name: str, *shape: int) -> Any:
        return numpy_helper.from_array((generator.standard_normal(shape) / 16).astype(np.float32), name)

    weights = [weight("w", 1, 3 * HIDDEN, SYMBOLS), weight("r", 1, 3 * HIDDEN, HIDDEN), weight("b", 1, 6 * HIDDEN)]
    weights += [weight("head", HIDDEN, SYMBOLS), numpy_helper.from_array(np.array([1, HIDDEN]), "row")]
    nodes = [
        helper.make_node(
            "GRU", ["x", "w", "r", "b", "", "h"], ["", "after"], hidden_size=HIDDEN, linear_before_reset=1
        ),
        helper.make_node("Reshape", ["after", "row"], ["flat"]),
        helper.make_node("MatMul", ["flat", "head"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["p"]),
    ]
    floats = TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "step",
        [
            helper.make_tensor_value_info("x", floats, [1, 1, SYMBOLS]),
            helper.make_tensor_value_info("h", floats, [1, 1, HIDDEN]),
        ],
        [
            helper.make_tensor_value_info("p", floats, [1, SYMBOLS]),
            helper.make_tensor_value_info("after", floats, [1, 1, HIDDEN]),
        ],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = len(os.sched_getaffinity(0))
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    eye, symbol, state = np.eye(SYMBOLS, dtype=np.float32)[:, None, None], 0, np.zeros((1, 1, HIDDEN), np.float32)
    uniforms = generator.random(LENGTH)
    began = time.perf_counter()
    for uniform in uniforms:
        p, state = session.run(None, {"x": eye[symbol], "h": state})
        symbol = min(int(np.searchsorted(p[0].cumsum(), uniform)), SYMBOLS - 1)
    return LENGTH / (time.perf_counter() - began)


def main() -> None:
    """Answer until the input ends."""
    loops = {**torch_loops(), "ONNX Runtime loop": onnx_loop}
    for line in sys.stdin:
        print(json.dumps(loops[line.strip()]()), flush=True)


if __name__ == "__main__":
    main()

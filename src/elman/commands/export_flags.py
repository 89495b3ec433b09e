"""The flags of `elman export` and `elman import`. Like the whole command line, it loads neither JAX nor NumPy."""

from collections.abc import Callable
from typing import Any

from elman.commands.flags import add_data_dir

TARGETS = ("onnx", "torch", "numpy", "c", "web")

AddCommand = Callable[..., Any]


def add_export(commands: Any, add: AddCommand) -> None:
    """The parser of `elman export`."""
    parser = add(
        commands,
        "export",
        "take a model elsewhere: ONNX, PyTorch, NumPy, C, a web page",
        description="Write a model for another runtime, run it there and compare it with the original, on random input and on real "
        "input, before anything is called done. ONNX and PyTorch need the extra: pip install 'elman[export]'.",
    )
    parser.add_argument("model", metavar="RUN|BUNDLE", help="a run folder or a bundle")
    parser.add_argument("--to", required=True, choices=TARGETS, help="what to write")
    parser.add_argument(
        "--output",
        required=True,
        metavar="PATH",
        help="the file (.onnx, .safetensors, .c, .html), or for numpy the folder",
    )
    parser.add_argument("--force", action="store_true", help="replace what is there already")
    parser.add_argument(
        "--input",
        metavar="FILE",
        help="text or a table to compare on (default: the run's own, or text that the model writes)",
    )
    add_data_dir(parser, "corpora and tables")
    parser.add_argument("--quiet", action="store_true", help="no progress")
    parser.add_argument("--json", action="store_true", help="print one JSON object on standard output")


def add_import(commands: Any, add: AddCommand) -> None:
    """The parser of `elman import`."""
    parser = add(
        commands,
        "import",
        "a text model from elsewhere: ONNX, PyTorch, Keras",
        module="import_model",
        description="Make a bundle of a text model of another framework: an ONNX model, a state dict of PyTorch, or a file of "
        "Keras 3 (.keras, .weights.h5). What a file is, its content says. The bundle is loaded again and compared with the file "
        "before anything is called done. All need the extra: pip install 'elman[export]'.",
    )
    parser.add_argument("file", metavar="FILE", help="the model of the other framework")
    parser.add_argument("--output", required=True, metavar="BUNDLE", help="the bundle to write (.safetensors)")
    parser.add_argument(
        "--vocabulary",
        metavar="FILE",
        help="which character each number stands for, where the model does not say: JSON, the characters in their order, or the "
        "training text, whose characters are numbered in ascending order",
    )
    parser.add_argument(
        "--activation",
        choices=("tanh", "relu"),
        help="of a simple recurrent network whose file does not say (default: tanh)",
    )
    parser.add_argument("--force", action="store_true", help="replace what is there already")
    parser.add_argument("--quiet", action="store_true", help="no progress")
    parser.add_argument("--json", action="store_true", help="print one JSON object on standard output")

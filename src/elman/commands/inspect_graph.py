"""`elman inspect graph`: the unrolled network over an input, forward and backward."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.table import Table
from rich.text import Text

from elman.commands.inspect_input import read_text
from elman.commands.kinds import kind_of
from elman.commands.output import narrow_console, print_json, reporting
from elman.commands.series_input import read_question
from elman.commands.series_output import PICTURES, check_output, save_picture
from elman.errors import ConfigError, DataError
from elman.insight.cell_drawing import cell_figure, cell_title, walk_figures
from elman.insight.graph import UnrolledGraph, series_graph, subject_graph
from elman.insight.graph_drawing import graph_figure, shown_steps
from elman.insight.subjects import Subject, text_subject
from elman.network import Network
from elman.text.hello import walk
from elman.text.model import TextModel
from elman.training.engine import use_compilation_cache
from elman.training.progress import Reporter, printable

STEPS = 25
"""Steps that are unrolled where nothing else is said."""

MOST = 10_000
"""Steps that can be unrolled: all states and gradients of all of them are in memory."""

FEW_UNITS = 64
"""Units of a layer up to which `--json` gives each one's value and gradient."""


@dataclass(frozen=True, eq=False)
class View:
    """A network's graph, what each step reads and what follows it, the outputs' names, and in words where the input is from."""

    network: Network
    graph: UnrolledGraph
    labels: Sequence[str]
    targets: Sequence[str]
    names: Sequence[str]
    source: str


def run(parsed: argparse.Namespace) -> int:
    """Unroll, print and draw."""
    output, drawn = check_output(parsed.output, PICTURES, "--output"), ""
    if parsed.view == "walk" and not _is_lesson(parsed):
        raise ConfigError("--view walk is the lecture's example: use it as `elman inspect graph hello --view walk`")
    if parsed.steps is not None and not 1 <= parsed.steps <= MOST:
        raise ConfigError(f"--steps {parsed.steps} is out of range: an integer from 1 to {MOST:,}")
    use_compilation_cache()
    with reporting(quiet=False) as reporter:
        reporter.working("unrolling", 0.0)
        view = _look(parsed, reporter)
        if output is not None:
            drawn = _draw(parsed.view, view, output)
    if parsed.json:
        print_json(_figures(view))
        return 0
    _show(view)
    if drawn:
        print(f"picture:  {drawn}")
    return 0


def _is_lesson(parsed: argparse.Namespace) -> bool:
    return parsed.model == "hello" and not Path("hello").exists()


def _draw(kind: str, view: View, output: Path) -> str:
    """Write the picture, or the pictures; returns what they are called."""
    if kind == "graph":
        figure = graph_figure(view.graph, view.labels, view.targets, view.names)
        save_picture(figure, output, f"Unrolled over {view.source}")
    elif kind == "cell":
        graph, cell = view.graph, view.network.cells[0]
        before = graph.carry[0][-2] if graph.steps > 1 else graph.start[0]
        save_picture(cell_figure(cell, graph.inputs[-1], before), output, cell_title(cell))
    else:
        names = []
        for number, figure in enumerate(walk_figures(walk()), 1):
            one = output.with_stem(f"{output.stem}-{number}")
            save_picture(figure, one, f"hello, figure {number}")
            names.append(str(one))
        return ", ".join(names)
    return str(output)


def _look(parsed: argparse.Namespace, reporter: Reporter) -> View:
    if _is_lesson(parsed):
        # The lecture's own example: the same weights as `elman hello`.
        model = TextModel.untrained("hello", seed=0, cell="elman", hidden=3)
        return _text_view(model, text_subject(model, parsed.text or "hello"), "the lecture's word", parsed)
    if kind_of(parsed.model) == "series":
        return _series_view(parsed, reporter)
    if parsed.data is not None:
        raise ConfigError(f"--data is for forecasters, but {parsed.model} holds a model of text: use --text")
    model = TextModel.load(parsed.model)
    if parsed.text is not None:
        return _text_view(model, text_subject(model, parsed.text), "the given text", parsed)
    count = (parsed.steps or STEPS) + 1
    looked = read_text(argparse.Namespace(**{**vars(parsed), "characters": count, "input": None}), model)
    return _text_view(model, looked.subject(model), looked.source, parsed)


def _text_view(model: TextModel, whole: Subject, source: str, parsed: argparse.Namespace) -> View:
    most = (parsed.steps or MOST) + 1
    subject = replace(whole, xs=whole.xs[:most], labels=whole.labels[:most])
    if len(subject.xs) < 2:
        raise DataError(f"{source} has one character only: give at least two, one to read and one to foresee")
    graph = subject_graph(subject, many_to_one=parsed.many_to_one)
    names = [model.vocabulary.decode([code]) for code in range(model.vocabulary.size)]
    return View(subject.network, graph, subject.labels[:-1], subject.labels[1:], names, source)


def _series_view(parsed: argparse.Namespace, reporter: Reporter) -> View:
    if parsed.text is not None:
        raise ConfigError(f"--text is for models of text, but {parsed.model} holds a forecaster: use --data")
    question = read_question(parsed, parsed.data, "--data", reporter)
    reporter.working("unrolling", 0.0)
    model, panel = question.model, question.ready.panel
    ahead = model.encoding.ahead
    # The last steps whose targets are in the table.
    origin = max(int(panel.offsets[0]), int(panel.offsets[1]) - 1 - ahead[-1])
    steps, many_to_one = parsed.steps or STEPS, parsed.many_to_one
    subject, graph = series_graph(model, panel, origin=origin, steps=steps, many_to_one=many_to_one)
    targets = [f"{value:+.3f}" for value in graph.targets[:, -1]]
    return View(
        subject.network,
        graph,
        subject.labels,
        targets,
        [f"+{row}" for row in ahead],
        parsed.data or "the run's own table",
    )


def _figures(view: View) -> dict[str, Any]:
    graph = view.graph
    few = graph.hidden[0].shape[1] <= FEW_UNITS
    steps = []
    for step in range(graph.steps):
        layers = []
        for hidden, slopes in zip(graph.hidden, graph.d_hidden, strict=True):
            norms = {
                "norm": float(np.linalg.norm(hidden[step])),
                "gradient_norm": float(np.linalg.norm(slopes[step])),
            }
            values = {"h": hidden[step].tolist(), "gradient": slopes[step].tolist()} if few else {}
            layers.append(norms | values)
        said = {"reads": view.labels[step], "target": view.targets[step], "loss": float(graph.losses[step])}
        steps.append(said | {"share": float(graph.shares[step]), "layers": layers})
    weights = {
        name: {
            "gradient_norm": float(np.linalg.norm(part.total)),
            "norms": part.norms.tolist(),
            "shares": part.shares.tolist(),
        }
        for name, part in graph.contributions.items()
    }
    facts = {"source": view.source, "many_to_one": graph.many_to_one, "loss": graph.loss}
    return facts | {"steps": steps, "weights": weights}


def _show(view: View) -> None:
    graph, screen = view.graph, narrow_console()
    shape = "many to one" if graph.many_to_one else "many to many"
    print(f"{printable(view.source)}, {graph.steps:,} steps, {shape}, L = {graph.loss:.4f}\n")
    rows = []
    for step in shown_steps(graph.steps) if graph.steps > 2 * STEPS else range(graph.steps):
        if step is None:
            rows.append(("…", f"{graph.steps - 6:,} more", *[""] * 5))
            continue
        norms = (f"{np.linalg.norm(values[-1][step]):.3g}" for values in (graph.hidden, graph.d_hidden))
        words = (_seen(view.labels[step]), _seen(view.targets[step]))
        rows.append((f"{step + 1}", *words, f"{graph.losses[step]:.4f}", *norms, f"{100 * graph.shares[step]:.1f} %"))
    _print_table(screen, ("t", "reads", "then", "loss", "|h|", "|dL/dh|", "share of dW"), rows)
    print()
    parts = [
        (name, f"{np.linalg.norm(part.total):.4g}", f"{int(np.argmax(part.norms)) + 1}", f"{part.norms.max():.4g}")
        for name, part in graph.contributions.items()
    ]
    _print_table(screen, ("weights", "|dW|", "most from step", "|dW_t| there"), parts)
    print("dW is the sum of what all steps add; h and dL/dh are those of the top layer")


def _print_table(screen: Any, titles: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    shown = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 2, 0, 0))
    for title in titles:
        shown.add_column(title)
    for row in rows:
        shown.add_row(*(Text(printable(cell)) for cell in row))
    screen.print(shown)


def _seen(symbol: str) -> str:
    return {"\n": "↵", " ": "␣", "\t": "⇥"}.get(symbol, symbol)

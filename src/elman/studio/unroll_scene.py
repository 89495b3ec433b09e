"""A network with one short input, both changeable: what the page Unroll holds, and what it makes of a change.

A scene is a value: every change gives a new one, so that the first is always there to go back to.
"""

import functools
from dataclasses import dataclass, replace

import numpy as np

from elman.errors import DataError
from elman.insight.graph import UnrolledGraph, series_targets, unrolled_graph
from elman.insight.memory import GATE_LETTERS
from elman.insight.subjects import series_subject, text_subject
from elman.insight.tracing import Trace, trace
from elman.network import Network, to_arrays, with_arrays
from elman.series.model import SeriesModel
from elman.series.panel import Panel
from elman.studio.unroll_view import (
    MOST_SYMBOLS,
    MOST_UNITS,
    LayerStep,
    Said,
    StepView,
    View,
    shown_steps,
    visible,
)
from elman.text.hello import WORD
from elman.text.model import TextModel
from elman.training.engine import precision

MOST_INPUT = 200
"""Characters of an input: more cannot be walked through."""

MOST_NUMBERS = 8
"""Values of x that are written beside it."""

LARGEST_CHANGE = 1e6
"""A weight or an input may be set to no larger number: beyond, a float32 loses its neighbors."""


@dataclass(frozen=True, eq=False)
class Parameter:
    """A matrix one can change, as the lecture writes it: `[units, inputs]`; a bias is one column.

    rows, columns: what they are called. array: its name in the network, where it stands transposed (`network.to_arrays`); "" for
    the inputs.
    """

    name: str
    values: np.ndarray
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    array: str = ""


def parameters_of(network: Network, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> dict[str, Parameter]:
    """Everything in the cells and the head that training changes, by name: W_xh, W_hh, b_h, ..., W_hy, b_y."""
    arrays, found = to_arrays(network), {}

    def add(name: str, rows: tuple[str, ...], columns: tuple[str, ...], array: str) -> None:
        found[name] = Parameter(name, _matrix(arrays[array]), rows, columns, array)

    below = inputs
    for layer, cell in enumerate(network.cells):
        mark = f" {layer + 1}" if len(network.cells) > 1 else ""
        units = tuple(f"h{unit + 1}" for unit in range(cell.hidden_size))
        letters = GATE_LETTERS.get(type(cell), ("h",))
        rows = tuple(f"{letter}{unit + 1}" for letter in letters for unit in range(cell.hidden_size))
        add(f"W_xh{mark}", rows, below, f"cells.{layer}.weight_inputs")
        add(f"W_hh{mark}", rows, units, f"cells.{layer}.weight_hidden")
        add(f"b_h{mark}", rows, ("b",), f"cells.{layer}.bias")
        if cell.bias_hidden is not None:
            add(f"b_hn{mark}", units, ("b",), f"cells.{layer}.bias_candidate")
        below = units
    add("W_hy", outputs, below, "head.weight")
    add("b_y", outputs, ("b",), "head.bias")
    return found


def _matrix(array: np.ndarray) -> np.ndarray:
    """A weight in the lecture's orientation, a bias as a column."""
    values = np.asarray(array, float)
    return values.T if values.ndim == 2 else values[:, None]


@dataclass(frozen=True, eq=False)
class Scene:
    """A network and the few steps it is unrolled over.

    xs: integers `[time]` or floats `[time, inputs]`. targets: what each step is scored against, integers `[time]` or floats
    `[time, numbers]`. labels: of the steps. inputs, outputs: what the columns of x and the rows of W_hy are called.
    many_to_one: only the last step has an output. text: the model of a text, None for a series.
    """

    network: Network
    xs: np.ndarray
    targets: np.ndarray
    labels: tuple[str, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    dtype: str
    many_to_one: bool = False
    text: TextModel | None = None

    @property
    def steps(self) -> int:
        """How many steps are unrolled."""
        return len(self.xs)

    @property
    def of_symbols(self) -> bool:
        """Whether x stands for one-hot vectors, so that a character is changed and not a number."""
        return np.issubdtype(self.xs.dtype, np.integer)

    @functools.cached_property
    def parameters(self) -> dict[str, Parameter]:
        """What can be changed; for a series the inputs too, as "x" `[inputs, time]`."""
        found = parameters_of(self.network, self.inputs, self.outputs)
        if not self.of_symbols:
            steps = tuple(f"x{step + 1}" for step in range(self.steps))
            found["x"] = Parameter("x", self.xs.T.astype(float), self.inputs, steps)
        return found

    def changed(self, name: str, row: int, column: int, value: float) -> "Scene":
        """The scene with one number replaced.

        Raises: `DataError` for a number that is none, or too large.
        """
        if not np.isfinite(value) or abs(value) > LARGEST_CHANGE:
            raise DataError(f"{value!r} cannot stand there: give a number between ±{LARGEST_CHANGE:g}")
        if name == "x":
            xs = self.xs.copy()
            xs[column, row] = value
            return replace(self, xs=xs)
        arrays = to_arrays(self.network)
        changed = arrays[self.parameters[name].array].copy()
        changed[(column, row) if changed.ndim == 2 else row] = value
        return self._with({**arrays, self.parameters[name].array: changed})

    def descended(self, graph: UnrolledGraph, rate: float) -> "Scene":
        """The scene after one update: every weight moves against its gradient.

        Raises: `DataError` for a rate that makes no update, or where the weights are no numbers any more.
        """
        if not np.isfinite(rate) or not 0 < rate <= LARGEST_CHANGE:
            raise DataError(f"a learning rate of {rate!r} makes no update: give a number above 0, such as 0.1")
        with np.errstate(over="ignore", invalid="ignore"):
            arrays = {
                name: (array - rate * graph.contributions[name].total).astype(array.dtype)
                for name, array in to_arrays(self.network).items()
            }
        if not all(np.isfinite(array).all() for array in arrays.values()):
            raise DataError("the update left the numbers there are: reset, and take a smaller learning rate")
        return self._with(arrays)

    def _with(self, arrays: dict[str, np.ndarray]) -> "Scene":
        with precision(self.dtype):
            return replace(self, network=with_arrays(self.network, arrays, "the changed network"))

    def spelled(self) -> str:
        """What the text's network writes after the first character, the likeliest at each step, as long as the input."""
        assert self.text is not None
        model = TextModel(self.network, self.text.vocabulary, self.text.config)
        return self.labels[0] + model.sample(self.labels[0], length=self.steps, temperature=0.0, seed=0)

    def unroll(self) -> "Unrolled":
        """Everything that the page shows of the scene as it is."""
        with precision(self.dtype):
            graph = unrolled_graph(self.network, self.xs, self.targets, many_to_one=self.many_to_one)
            traced = trace(self.network, self.xs)
        return Unrolled(self, graph, traced, view_of(self, graph), self.spelled() if self.text is not None else None)


@dataclass(frozen=True, eq=False)
class Unrolled:
    """A scene with what follows from it. spelled: see `Scene.spelled`; None for a series."""

    scene: Scene
    graph: UnrolledGraph
    trace: Trace
    view: View
    spelled: str | None

    def slopes(self, step: int, layer: int) -> tuple[float, ...]:
        """dL/dh of the units shown, at step `step` (from 1)."""
        return tuple(self.graph.d_hidden[layer][step - 1, list(self.view.units[layer])].tolist())

    def slope_of(self, name: str, row: int, column: int) -> float | None:
        """The gradient of the loss with respect to one weight; None for an input."""
        if name == "x":
            return None
        return float(_matrix(self.graph.contributions[self.scene.parameters[name].array].total)[row, column])


def shares_of(graph: UnrolledGraph, layer: int) -> np.ndarray:
    """Each step's share of the gradient of one layer's weights, all of its cell together, `[time]`: <dW_t, dW> / |dW|²."""
    own = [part for name, part in graph.contributions.items() if name.startswith(f"cells.{layer}.")]
    lengths = [float((part.total.astype(np.float64) ** 2).sum()) for part in own]
    along = sum(length * part.shares for length, part in zip(lengths, own, strict=True))
    return np.asarray(along, float) / max(sum(lengths), 1e-30)


def view_of(scene: Scene, graph: UnrolledGraph) -> View:
    """The few numbers that the picture shows."""
    units = tuple(_moving(hidden) for hidden in graph.hidden)
    shares = [shares_of(graph, layer) for layer in range(len(units))]
    indices, left_out = shown_steps(scene.steps)
    steps = tuple(
        StepView(
            number=t + 1,
            label=scene.labels[t],
            inputs=_inputs(scene, t),
            layers=tuple(
                LayerStep(
                    hidden=tuple(graph.hidden[layer][t, list(chosen)].tolist()),
                    slope=tuple(graph.d_hidden[layer][t, list(chosen)].tolist()),
                    slope_norm=float(np.linalg.norm(graph.d_hidden[layer][t])),
                    share=float(shares[layer][t]),
                )
                for layer, chosen in enumerate(units)
            ),
            said=() if scene.many_to_one and t < scene.steps - 1 else _said(scene, graph.outputs[t], scene.targets[t]),
            loss=None if scene.many_to_one and t < scene.steps - 1 else float(graph.losses[t]),
        )
        for t in indices
    )
    return View(
        steps=steps,
        start=tuple((0.0,) * len(chosen) for chosen in units),
        units=units,
        hidden_size=scene.network.cells[0].hidden_size,
        shares=tuple(tuple(of_layer.tolist()) for of_layer in shares),
        total=float(graph.loss),
        left_out=left_out,
        probabilities=scene.of_symbols,
    )


def _moving(hidden: np.ndarray) -> tuple[int, ...]:
    """The units that move most, in their own order."""
    if hidden.shape[1] <= MOST_UNITS:
        return tuple(range(hidden.shape[1]))
    return tuple(sorted(np.argsort(-hidden.std(axis=0), kind="stable")[:MOST_UNITS].tolist()))


def _inputs(scene: Scene, t: int) -> tuple[float, ...]:
    """The vector x_t where it can be read."""
    if not scene.of_symbols:
        return tuple(scene.xs[t].tolist()) if scene.xs.shape[1] <= MOST_NUMBERS else ()
    return tuple(np.eye(len(scene.inputs))[scene.xs[t]].tolist()) if len(scene.inputs) <= MOST_NUMBERS else ()


def _said(scene: Scene, outputs: np.ndarray, target: np.ndarray) -> tuple[Said, ...]:
    """The symbols of a distribution, the target among them, in the vocabulary's order; or what a forecaster says."""
    if not scene.of_symbols:
        flat = np.asarray(outputs, float).reshape(-1)
        places = np.unique(np.linspace(0, len(flat) - 1, min(MOST_SYMBOLS, len(flat))).round().astype(int))
        return tuple(Said(scene.outputs[place], float(flat[place])) for place in places)
    shifted = np.exp(np.asarray(outputs, float) - outputs.max())
    chances = shifted / shifted.sum()
    likeliest = [code for code in np.argsort(-chances, kind="stable").tolist() if code != int(target)]
    chosen = sorted([int(target), *likeliest[: MOST_SYMBOLS - 1]])
    return tuple(Said(scene.outputs[code], float(chances[code]), code == int(target)) for code in chosen)


def hello(text: str = WORD, *, many_to_one: bool = False) -> Scene:
    """The lecture's example: a fresh Elman cell of three units over the characters of `text`; inputs h e l l, targets e l l o.

    Raises: `DataError` for a text that cannot be unrolled.
    """
    if not 2 <= len(text) <= MOST_INPUT:
        raise DataError(_too_short_or_long(len(text)))
    model = TextModel.untrained(text, seed=0, cell="elman", hidden=3)
    return of_text(model, text, many_to_one=many_to_one)


def _too_short_or_long(count: int) -> str:
    return f"the text has {count} characters: give 2 to {MOST_INPUT}, an input and a target at least"


def of_text(model: TextModel, text: str, *, many_to_one: bool = False) -> Scene:
    """A text model over a short text: every character but the last is an input, the one after it its target.

    Raises: `DataError` for fewer than two characters, more than `MOST_INPUT`, or some that the model does not know.
    """
    subject = text_subject(model, text)
    count = len(subject.xs)
    if not 2 <= count <= MOST_INPUT:
        raise DataError(_too_short_or_long(count))
    names = tuple(visible(model.vocabulary.decode(np.asarray([code]))) for code in range(model.vocabulary.size))
    return Scene(
        network=subject.network,
        xs=subject.xs[:-1],
        targets=subject.xs[1:],
        labels=subject.labels[:-1],
        inputs=names,
        outputs=names,
        dtype=subject.dtype,
        many_to_one=many_to_one,
        text=model,
    )


def of_series(model: SeriesModel, panel: Panel, steps: int, *, many_to_one: bool = False) -> Scene:
    """A forecaster over the last steps of the panel's first series whose whole future is known.

    Only the first of the model's members is unrolled. What it says is counted from the last value seen, in standard deviations of
    the training rows; so are the targets.

    Raises: `DataError` for a number of steps that cannot be shown, or a series too short for them.
    """
    if not 1 <= steps <= MOST_INPUT:
        raise DataError(f"{steps} steps cannot be shown: give 1 to {MOST_INPUT}")
    ahead = np.asarray(model.encoding.ahead)
    origin = int(panel.offsets[1] - 1 - ahead[-1])
    if origin - (steps - 1) * model.every < panel.offsets[0]:
        raise DataError(f"the series has too few rows for {steps} steps and a future: give fewer steps")
    subject = series_subject(model, panel, origin=origin, steps=steps)
    levels = getattr(subject.network.head, "levels", ())
    times = [str(model.encoding.step * int(row)) for row in ahead]
    return Scene(
        network=subject.network,
        xs=subject.xs,
        targets=series_targets(model, panel, subject),
        labels=subject.labels,
        inputs=tuple(model.encoding.names_of_inputs()),
        outputs=tuple(f"{time} {level:g}" for time in times for level in levels) if levels else tuple(times),
        dtype=subject.dtype,
        many_to_one=many_to_one,
    )

"""The unrolled graph (lecture L3): values forward, gradients backward, and what every step adds to every weight's gradient.

One W feeds all steps, so its gradient is a sum over the steps. Each summand is an outer product of what went into W at that step
and of the gradient of what came out, and is kept as these two vectors: a thousand steps of a large network fit in memory.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array

from elman.insight.subjects import Subject, series_subject, text_subject
from elman.insight.tracing import Perturbations, PerturbedRun, no_perturbation, perturbed_run
from elman.network import Network
from elman.series.model import SeriesModel
from elman.series.panel import Panel
from elman.text.model import TextModel
from elman.training.engine import precision


@dataclass(frozen=True, eq=False)
class Contribution:
    """What each step adds to the gradient of one array of weights: `dW_t = before_t (outer) slope_t`, or `slope_t` of a bias.

    before: `[time, rows]`, integers `[time]` that stand for one-hot vectors, or None for a bias. slopes: `[time, columns]`.

        >>> parts = Contribution(np.array([[1.0, 0.0], [0.0, 2.0]]), np.array([[3.0], [4.0]]), (2, 1))
        >>> parts.total.tolist(), parts.norms.tolist(), parts.step(1).tolist()
        ([[3.0], [8.0]], [3.0, 8.0], [[0.0], [8.0]])
    """

    before: np.ndarray | None
    slopes: np.ndarray
    shape: tuple[int, ...]

    def step(self, time: int) -> np.ndarray:
        """One step's summand, shaped as the weights."""
        slope = self.slopes[time]
        if self.before is None:
            return slope
        if np.issubdtype(self.before.dtype, np.integer):
            summand = np.zeros(self.shape, slope.dtype)
            summand[self.before[time]] = slope
            return summand
        return np.outer(self.before[time], slope)

    @cached_property
    def total(self) -> np.ndarray:
        """The gradient: the sum of all steps."""
        if self.before is None:
            return self.slopes.sum(axis=0)
        if np.issubdtype(self.before.dtype, np.integer):
            summed = np.zeros(self.shape, self.slopes.dtype)
            np.add.at(summed, self.before, self.slopes)
            return summed
        return self.before.T @ self.slopes

    @cached_property
    def norms(self) -> np.ndarray:
        """|dW_t|, the root of the sum of squares, `[time]`."""
        norms = np.linalg.norm(self.slopes, axis=1)
        if self.before is None or np.issubdtype(self.before.dtype, np.integer):
            return norms
        return norms * np.linalg.norm(self.before, axis=1)

    @cached_property
    def shares(self) -> np.ndarray:
        """<dW_t, dW> / |dW|², `[time]`: how much of the gradient each step brings; they sum to 1. All 0 where dW is 0."""
        if self.before is None:
            along = self.slopes @ self.total
        elif np.issubdtype(self.before.dtype, np.integer):
            along = (self.slopes * self.total[self.before]).sum(axis=1)
        else:
            along = (self.slopes * (self.before @ self.total)).sum(axis=1)
        length = float((self.total.astype(np.float64) ** 2).sum())
        return along / length if length > 0 else np.zeros_like(along)


@dataclass(frozen=True, eq=False)
class UnrolledGraph:
    """A network over some steps, forward and backward.

    inputs, targets: `[time, ...]`, integers for symbols; a target that is not known is NaN. start: `[layers, carry]`.
    hidden, d_hidden: by layer `[time, hidden]`: h_t, and dL/dh_t by all ways from h_t to the loss.
    carry, d_carry: by layer `[time, carry]`, the same for the packed carry (an LSTM's h and c).
    outputs: what the head says, `[time, vocab]` or `[time, targets, levels]`. d_outputs: `[time, columns]`, dL by the head's
    h W + b, which are the logits of a text.
    losses: `[time]`, 0 where no loss counts; loss: their sum L. counts: `[time]`, True where a loss counts.
    contributions: by the weights' own names (`network.to_arrays`) what each step adds to their gradient.
    """

    inputs: np.ndarray
    targets: np.ndarray
    start: np.ndarray
    hidden: tuple[np.ndarray, ...]
    d_hidden: tuple[np.ndarray, ...]
    carry: tuple[np.ndarray, ...]
    d_carry: tuple[np.ndarray, ...]
    outputs: np.ndarray
    d_outputs: np.ndarray
    losses: np.ndarray
    loss: float
    counts: np.ndarray
    contributions: dict[str, Contribution]

    @property
    def steps(self) -> int:
        """How many steps there are."""
        return len(self.losses)

    @property
    def many_to_one(self) -> bool:
        """Whether only the last step has a loss."""
        return not self.counts[:-1].any()

    @cached_property
    def shares(self) -> np.ndarray:
        """Each step's share of the gradient of all weights together, `[time]`; they sum to 1."""
        lengths = {name: float((part.total.astype(np.float64) ** 2).sum()) for name, part in self.contributions.items()}
        whole = sum(lengths.values())
        weighted = [lengths[name] * part.shares for name, part in self.contributions.items()]
        return np.sum(weighted, axis=0) / whole if whole > 0 else np.zeros(self.steps)


def unrolled_graph(
    network: Network,
    xs: np.ndarray,
    targets: np.ndarray,
    *,
    carry: np.ndarray | None = None,
    many_to_one: bool = False,
) -> UnrolledGraph:
    """Run `network` over `xs` forward and backward.

    xs: integers `[time]` or floats `[time, inputs]`. targets: integers `[time]`, or floats `[time, targets]` with NaN where one is
    not known. carry: `[layers, carry]` before the first step; None: zeros. many_to_one: only the last step's loss counts.
    L is the sum over the steps of the head's own loss; of several targets at a step, the mean over those that are known.
    Call it inside `training.engine.precision` for a network of another precision than float32.

        >>> import jax
        >>> from elman.config import NetworkSettings
        >>> network = Network.create(NetworkSettings(hidden=4), 3, 3, key=jax.random.key(0))
        >>> graph = unrolled_graph(network, np.array([0, 1, 2]), np.array([1, 2, 0]))
        >>> round(float(graph.contributions["cells.0.weight_hidden"].shares.sum()), 5)
        1.0

    Raises: `ValueError` for no steps, or another number of targets.
    """
    if len(xs) == 0 or len(xs) != len(targets):
        raise ValueError(f"{len(xs)} inputs and {len(targets)} targets: as many of each are needed, and at least one")
    counts = np.ones(len(xs), bool)
    counts[:-1] = not many_to_one
    start = network.initial_carry() if carry is None else jnp.asarray(carry)
    known = targets if np.issubdtype(targets.dtype, np.integer) else np.asarray(targets, network.head.weight.dtype)
    found = _forward_and_backward(network, jnp.asarray(xs), jnp.asarray(known), start, jnp.asarray(counts))
    run, slopes, outputs, d_outputs, losses, normalizations = jax.tree.map(np.asarray, found)
    hidden = tuple(np.asarray(cell.output(c)) for cell, c in zip(network.cells, run.carries, strict=True))
    return UnrolledGraph(
        inputs=xs,
        targets=targets,
        start=np.asarray(start),
        hidden=hidden,
        d_hidden=tuple(np.asarray(cell.output(c)) for cell, c in zip(network.cells, slopes.carry, strict=True)),
        carry=tuple(map(np.asarray, run.carries)),
        d_carry=tuple(map(np.asarray, slopes.carry)),
        outputs=outputs,
        d_outputs=d_outputs,
        losses=losses,
        loss=float(losses.sum()),
        counts=counts,
        contributions=_contributions(network, np.asarray(start), run, slopes, d_outputs, normalizations),
    )


def text_graph(model: TextModel, text: str, *, many_to_one: bool = False) -> tuple[Subject, UnrolledGraph]:
    """A text's graph: every character but the last is read, the one behind it is the target.

    Raises: `DataError` for a text of fewer than two characters, or with characters that the model does not know.
    """
    subject = text_subject(model, text)
    return subject, subject_graph(subject, many_to_one=many_to_one)


def subject_graph(subject: Subject, *, many_to_one: bool = False) -> UnrolledGraph:
    """The graph of a subject that is a text. Raises: `ValueError` for fewer than two characters."""
    with precision(subject.dtype):
        return unrolled_graph(subject.network, subject.xs[:-1], subject.xs[1:], many_to_one=many_to_one)


def series_graph(
    model: SeriesModel, panel: Panel, *, origin: int, steps: int, many_to_one: bool = False, member: int = 0
) -> tuple[Subject, UnrolledGraph]:
    """A forecaster's graph over the `steps` up to row `origin`, in the network's numbers; targets: the rows that followed."""
    subject = series_subject(model, panel, origin=origin, steps=steps, member=member)
    targets = series_targets(model, panel, subject)
    with precision(subject.dtype):
        return subject, unrolled_graph(subject.network, subject.xs, targets, many_to_one=many_to_one)


def series_targets(model: SeriesModel, panel: Panel, subject: Subject) -> np.ndarray:
    """What followed each step, counted from the step's last known value, scaled: `[time, ahead]`; NaN where it is not known."""
    if subject.rows is None:
        raise ValueError("the subject is no series")
    encoding = model.encoding
    with precision(subject.dtype):
        rows = encoding.rows(panel)
    index = subject.rows[:, None] + np.asarray(encoding.ahead)
    ends = rows.offsets[1:][rows.series[subject.rows]][:, None]
    anchor = rows.values[subject.rows, encoding.target_index][:, None]
    followed = rows.targets[np.minimum(index, ends - 1)] - anchor
    return np.where(index < ends, followed, np.nan).astype(subject.network.head.weight.dtype)


@jax.jit
def _forward_and_backward(
    network: Network, xs: Array, targets: Array, start: Array, counts: Array
) -> tuple[PerturbedRun, Perturbations, Array, Array, Array, Any]:
    """The run, the gradients of each step by itself, the outputs, dL by the head's h W + b, and the normalizations' summands."""

    def total(added: Perturbations) -> tuple[Array, tuple[PerturbedRun, Array]]:
        run = perturbed_run(network, xs, start, added)
        losses = jnp.where(counts, _losses(network, run.top, targets), 0)
        return losses.sum(), (run, losses)

    slopes, (run, losses) = jax.grad(total, has_aux=True)(no_perturbation(network, len(xs)))

    def of_step(at: tuple[Array, Array, Array]) -> Array:
        top, target, count = at

        def loss(bias: Array) -> Array:
            head = eqx.tree_at(lambda head: head.bias, network.head, bias)
            return jnp.where(
                count, _losses(eqx.tree_at(lambda n: n.head, network, head), top[None], target[None])[0], 0
            )

        return jax.grad(loss)(network.head.bias)

    # A step at a time: the head's compiled kernel takes one bias for all its rows.
    d_outputs = lax.map(of_step, (run.top, targets, counts))
    return run, slopes, network.head(run.top), d_outputs, losses, _of_normalizations(network, run, slopes, d_outputs)


def _losses(network: Network, top: Array, targets: Array) -> Array:
    """The loss of each step. A target that is not known does not reach the arithmetic, so that no gradient is NaN."""
    if jnp.issubdtype(targets.dtype, jnp.integer):
        return network.head.loss(top, targets)
    known = ~jnp.isnan(targets)
    losses = jnp.where(known, network.head.loss(top, jnp.where(known, targets, 0)), 0)
    return losses.sum(axis=-1) / jnp.maximum(known.sum(axis=-1), 1)


def _of_normalizations(network: Network, run: PerturbedRun, slopes: Perturbations, d_outputs: Array) -> list[Any]:
    """For each normalization the summands of its scale and shift, `[time, hidden]`, from the top layer down."""
    if network.normalizations is None:
        return []
    found: list[Any] = []
    d_handed = d_outputs @ network.head.weight.T
    for layer in reversed(range(len(network.cells))):
        normalization = network.normalizations[layer]
        hidden = network.cells[layer].output(run.carries[layer])

        def summand(hidden: Array, slope: Array, normalization: Any = normalization) -> Any:
            return jax.vjp(lambda changed: changed(hidden), normalization)[1](slope)[0]

        found.insert(0, jax.vmap(summand)(hidden, d_handed))
        below = slopes.projected[layer] @ network.cells[layer].weight_inputs.T
        d_handed = below + d_handed if network.residual and layer > 0 else below
    return found


def _contributions(
    network: Network,
    start: np.ndarray,
    run: PerturbedRun,
    slopes: Perturbations,
    d_outputs: np.ndarray,
    normalizations: list[Any],
) -> dict[str, Contribution]:
    """The two vectors of every step for every array of weights."""

    def part(before: Any, slopes: Any, weight: Any) -> Contribution:
        return Contribution(None if before is None else np.asarray(before), np.asarray(slopes), tuple(weight.shape))

    found = {}
    for layer, cell in enumerate(network.cells):
        states = cell.output(run.carries[layer])
        before = np.concatenate([np.asarray(cell.output(start[layer]))[None], states[:-1]])
        projected, recurrent = slopes.projected[layer], slopes.recurrent[layer]
        found[f"cells.{layer}.weight_inputs"] = part(run.inputs[layer], projected, cell.weight_inputs)
        found[f"cells.{layer}.weight_hidden"] = part(before, recurrent, cell.weight_hidden)
        found[f"cells.{layer}.bias"] = part(None, projected, cell.bias)
        if cell.bias_hidden is not None:
            candidate = recurrent[:, -cell.hidden_size :]
            found[f"cells.{layer}.bias_candidate"] = part(None, candidate, candidate[0])
    for layer, normalization in enumerate(normalizations):
        for name in ("scale", "shift"):
            summands = getattr(normalization, name)
            found[f"normalizations.{layer}.{name}"] = part(None, summands, summands[0])
    found["head.weight"] = part(run.top, d_outputs, network.head.weight)
    found["head.bias"] = part(None, d_outputs, network.head.bias)
    return found

"""Each step's contribution to each weight's gradient (lecture L3): the one W is used at every step, and dW is the sum over them.

A step's contribution to a matrix is an outer product, so that it is kept as its two factors, and its norm and share of the whole
follow without the matrix.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from elman.insight.tracing import Perturbations, no_perturbation, perturbed_run
from elman.network import Network


@dataclass(frozen=True, eq=False)
class Contributions:
    """What every step adds to one weight's gradient: before_t (outer) slope_t.

    before `[time, rows]`: what the weight multiplied; for a bias ones, `[time, 1]`. slopes `[time, columns]`: the gradient of the
    loss with respect to the product.
    """

    before: np.ndarray
    slopes: np.ndarray

    def at(self, step: int) -> np.ndarray:
        """The contribution of one step, `[rows, columns]`."""
        return np.outer(self.before[step], self.slopes[step])

    @property
    def total(self) -> np.ndarray:
        """The gradient, `[rows, columns]`."""
        return self.before.T @ self.slopes

    @property
    def norms(self) -> np.ndarray:
        """The Frobenius norm of each step's contribution, `[time]`."""
        return np.linalg.norm(self.before, axis=1) * np.linalg.norm(self.slopes, axis=1)

    @property
    def shares(self) -> np.ndarray:
        """<dW_t, dW> / |dW|² of each step, `[time]`: they sum to 1; zeros where the gradient is zero."""
        total = self.total
        return ((self.before @ total) * self.slopes).sum(axis=1) / max(float((total * total).sum()), 1e-30)


def contributions(
    network: Network, xs: np.ndarray, targets: np.ndarray, *, many_to_one: bool = False
) -> tuple[dict[str, Contributions], ...]:
    """For each layer, bottom first, the contributions to `weight_inputs`, `weight_hidden` and `bias`, from a state of zeros.

    xs: as `tracing.trace` takes them. targets: as the head's loss takes them. many_to_one: only the last step's loss counts;
    otherwise the losses of all steps are summed. Memory: about 4 (inputs + hidden + 2 gates) bytes per step and layer.
    """
    start, steps = network.initial_carry(), jnp.asarray(xs)
    zeros = no_perturbation(network, len(xs))

    def loss(added: Perturbations) -> jax.Array:
        losses = network.head.loss(perturbed_run(network, steps, start, added).top, jnp.asarray(targets))
        return losses[-1].sum() if many_to_one else losses.sum()

    slopes, run = jax.grad(loss)(zeros), perturbed_run(network, steps, start, zeros)
    layers = []
    for number, cell in enumerate(network.cells):
        states = cell.output(run.carries[number])
        before = np.asarray(jnp.concatenate([cell.output(start[number])[None], states[:-1]]))
        below = run.inputs[number]
        if jnp.issubdtype(below.dtype, jnp.integer):
            below = jax.nn.one_hot(below, cell.weight_inputs.shape[0], dtype=before.dtype)
        projected, recurrent = np.asarray(slopes.projected[number]), np.asarray(slopes.recurrent[number])
        layers.append(
            {
                "weight_inputs": Contributions(np.asarray(below), projected),
                "weight_hidden": Contributions(before, recurrent),
                "bias": Contributions(np.ones((len(xs), 1), before.dtype), projected),
            }
        )
    return tuple(layers)

"""The classic program's updates (lecture L9) as one compiled call for a whole block, optimizer included.

At one stream and a hundred units an update is some forty microseconds of arithmetic; handing each of its parts to XLA would take as
long again. Where everything is as the classic program has it, the loop's block is therefore one call of a kernel that keeps weights
and Adagrad's sums in the cache from update to update. It computes what `loop.Trainer` would have computed, to rounding.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from elman.config import TrainingSettings
from elman.network import Categorical, Network
from elman.network.kernels import calls, usable
from elman.training.optimizers import ADAGRAD_EPSILON, learning_rate


def classic_block(network: Any, carry: jax.Array, settings: TrainingSettings) -> Callable[..., tuple] | None:
    """A function in place of the loop's block for batches of one stream of symbols, or None where the kernel does not fit.

    It fits one tanh layer without dropout under a softmax, in float32, with Adagrad that clips single values at the most.
    """
    fits = (
        isinstance(network, Network)
        and len(network.cells) == 1
        and calls.kind_of(network.cells[0]) == calls.TANH
        and network.normalizations is None
        and not network.drops
        and isinstance(network.head, Categorical)
        and carry.shape[1] == 1
        and all(usable(leaf.dtype) for leaf in jax.tree.leaves(network))
        and settings.optimizer == "adagrad"
        and settings.clip_norm == 0
        and not settings.average
    )
    if not fits:
        return None

    def block(state: Any, batches: tuple, count: jax.Array, first: jax.Array, numbers: tuple) -> tuple:
        symbols, fresh = batches
        progress, rate_scale = numbers
        weights, structure = jax.tree.flatten(state.network)
        sums, sums_structure = jax.tree.flatten(state.optimizer)
        arrays, losses, norms = calls.classic_updates(
            [*weights, *sums, state.carry.reshape(-1)],
            count,
            symbols[..., 0],
            fresh[:, 0],
            learning_rate(settings, progress) * rate_scale,
            mean=settings.reduction == "mean",
            clip=settings.clip_value,
            epsilon=ADAGRAD_EPSILON,
        )
        sound = jnp.stack([jnp.isfinite(array).all() for array in arrays]).all()
        state = state._replace(
            network=jax.tree.unflatten(structure, arrays[:5]),
            optimizer=jax.tree.unflatten(sums_structure, arrays[5:10]),
            carry=arrays[10].reshape(state.carry.shape),
        )
        return state, losses, norms, sound

    return block

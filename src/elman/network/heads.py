"""What the output means: a head turns the top layer's h into a forecast and says how far a target is from it.

Final classes: `Categorical` (the next symbol), `Point` (a number, by its median or mean) and `Quantiles` (a number, by its
quantiles, which never cross).
"""

import abc
import functools
import math
from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Inexact, Int, PRNGKeyArray

from elman.network.kernels import calls, usable


class AbstractHead(eqx.Module):
    """h -> outputs, and the loss of a target: a proper score, smallest in the mean for the truth about the target."""

    weight: eqx.AbstractVar[Array]
    bias: eqx.AbstractVar[Array]

    @abc.abstractmethod
    def __call__(self, hidden: Float[Array, "*steps hidden"]) -> Float[Array, "*steps outputs"]:
        """What is said of each step's target: logits, a number, quantiles."""

    @abc.abstractmethod
    def loss(self, hidden: Float[Array, "*steps hidden"], targets: Array) -> Array:
        """The loss of each target."""


class Categorical(AbstractHead):
    """One of `vocab` symbols: y_t = h_t W + b, p_t = softmax(y_t), loss = -log p_t[target].

    W starts uniform within ±1/sqrt(hidden) and b at 0, so that the first loss is near log(vocab).
    Parameters: vocab (hidden + 1).

        >>> import jax
        >>> head = Categorical.create(8, 4, key=jax.random.key(0))
        >>> loss = head.loss(jax.numpy.zeros((5, 8)), jax.numpy.zeros(5, int))
        >>> f"{loss[0]:.4f}"                                               # log 4
        '1.3863'
    """

    weight: Inexact[Array, "hidden vocab"]
    bias: Inexact[Array, " vocab"]

    @classmethod
    def create(
        cls,
        hidden_size: int,
        vocab_size: int,
        *,
        key: PRNGKeyArray,
        initialization: str = "orthogonal",
        dtype: jax.typing.DTypeLike = jnp.float32,
    ) -> "Categorical":
        """A head with starting weights drawn from `key`; `normal` is N(0, 1) · 0.01, as in the classic minimal program."""
        shape = (hidden_size, vocab_size)
        if initialization == "normal":
            weight = 0.01 * jax.random.normal(key, shape, dtype)
        else:
            bound = hidden_size**-0.5
            weight = jax.random.uniform(key, shape, dtype, -bound, bound)
        return cls(weight, jnp.zeros(vocab_size, dtype))

    def __call__(self, hidden: Float[Array, "*steps hidden"]) -> Float[Array, "*steps vocab"]:
        """The logits y."""
        return hidden @ self.weight + self.bias

    def loss(self, hidden: Float[Array, "*steps hidden"], targets: Int[Array, "*steps"]) -> Float[Array, "*steps"]:
        """Minus log softmax(y)[target], finite however large the logits are."""
        arrays = (hidden, self.weight, self.bias)
        if not targets.size or not all(usable(array.dtype) for array in arrays):
            return _cross_entropy(*arrays, targets)
        rows = hidden.reshape(-1, hidden.shape[-1])
        losses, _ = _compiled_loss(False, rows, *arrays[1:], targets.reshape(-1).astype(jnp.int32))
        return losses.reshape(targets.shape)


def _cross_entropy(hidden: Array, weight: Array, bias: Array, targets: Array) -> Array:
    logits = hidden @ weight + bias
    chosen = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    return jax.nn.logsumexp(logits, axis=-1) - chosen


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _compiled_loss(save: bool, rows: Array, weight: Array, bias: Array, targets: Array) -> tuple[Array, Array]:
    """`_cross_entropy` by the kernels, and the probabilities (none unless `save`), which only its derivative may use."""
    return calls.head_forward(rows, weight, bias, targets, save=save)


def _compiled_loss_forward(save: bool, *arguments: Array) -> tuple[tuple[Array, Array], tuple]:
    # Through the same function, so that this can be differentiated in its turn.
    losses, probabilities = _compiled_loss(True, *arguments)
    return (losses, probabilities if save else probabilities[:, :0]), (*arguments, probabilities)


def _compiled_loss_backward(save: bool, residuals: tuple, cotangents: tuple[Array, Array]) -> tuple:
    *arguments, probabilities = residuals
    d_arrays = _compiled_loss_gradient(*arguments, cotangents[0], probabilities)
    return *d_arrays, np.zeros(arguments[-1].shape, jax.dtypes.float0)


_compiled_loss.defvjp(_compiled_loss_forward, _compiled_loss_backward)


@jax.custom_vjp
def _compiled_loss_gradient(
    rows: Array, weight: Array, bias: Array, targets: Array, d_losses: Array, probabilities: Array
) -> tuple[Array, Array, Array]:
    return calls.head_backward(rows, weight, probabilities, targets, d_losses)


def _compiled_loss_gradient_forward(*arguments: Array) -> tuple[tuple, tuple]:
    return _compiled_loss_gradient(*arguments), arguments


def _compiled_loss_gradient_backward(arguments: tuple, cotangents: tuple) -> tuple:
    """The second derivative comes from `_cross_entropy`, of which the gradient is a function."""
    rows, weight, bias, targets, d_losses, probabilities = arguments

    def gradient(rows: Array, weight: Array, bias: Array, d_losses: Array) -> tuple:
        return jax.vjp(lambda r, w, b: _cross_entropy(r, w, b, targets), rows, weight, bias)[1](d_losses)

    d_rows, d_weight, d_bias, d_d_losses = jax.vjp(gradient, rows, weight, bias, d_losses)[1](cotangents)
    return (
        d_rows,
        d_weight,
        d_bias,
        np.zeros(targets.shape, jax.dtypes.float0),
        d_d_losses,
        jnp.zeros_like(probabilities),
    )


_compiled_loss_gradient.defvjp(_compiled_loss_gradient_forward, _compiled_loss_gradient_backward)


class Point(AbstractHead):
    """One number for each of `targets` numbers: y_t = h_t W + b, with the absolute or the squared error as loss.

    The absolute error is smallest for the median of what may come, the squared error for its mean. W starts uniform within
    ±1/sqrt(hidden) and b at 0. Parameters: targets (hidden + 1).

        >>> import jax
        >>> head = Point.create(8, 2, key=jax.random.key(0), error="squared")
        >>> head.loss(jax.numpy.zeros((5, 8)), 3 * jax.numpy.ones((5, 2)))[0].tolist()
        [9.0, 9.0]
    """

    weight: Inexact[Array, "hidden targets"]
    bias: Inexact[Array, " targets"]
    error: str = eqx.field(static=True, default="absolute")

    @classmethod
    def create(
        cls,
        hidden_size: int,
        target_count: int,
        *,
        key: PRNGKeyArray,
        error: str = "absolute",
        dtype: jax.typing.DTypeLike = jnp.float32,
    ) -> "Point":
        """A head with starting weights drawn from `key`; error: "absolute" or "squared"."""
        bound = hidden_size**-0.5
        weight = jax.random.uniform(key, (hidden_size, target_count), dtype, -bound, bound)
        return cls(weight, jnp.zeros(target_count, dtype), error)

    def __call__(self, hidden: Float[Array, "*steps hidden"]) -> Float[Array, "*steps targets 1"]:
        """The numbers y, with a last axis of one level as `Quantiles` has several."""
        return (hidden @ self.weight + self.bias)[..., None]

    def loss(
        self, hidden: Float[Array, "*steps hidden"], targets: Float[Array, "*steps targets"]
    ) -> Float[Array, "*steps targets"]:
        """|target - y|, or (target - y)²."""
        difference = targets - self(hidden)[..., 0]
        return jnp.abs(difference) if self.error == "absolute" else difference * difference


class Quantiles(AbstractHead):
    """Quantiles of each of `targets` numbers at rising `levels`, which cannot cross.

        u = h_t W + b,  one number for each target and level
        the middle level:  q_m = u_m;   above it: q_k = q_(k-1) + softplus(u_k);   below it: q_k = q_(k+1) - softplus(u_k)

    The loss is twice the pinball loss max(level (y - q), (level - 1) (y - q)) (Koenker & Bassett 1978), the mean over the levels:
    at the median alone it is the absolute error, over all levels it approaches the continuous ranked probability score.
    W starts uniform within ±1/sqrt(hidden); b such that the quantiles start as those of a normal distribution, roughly.
    Parameters: targets · levels (hidden + 1).

        >>> import jax
        >>> head = Quantiles.create(8, 1, levels=(0.1, 0.5, 0.9), key=jax.random.key(0))
        >>> quantiles = head(jax.random.normal(jax.random.key(1), (100, 8)))
        >>> quantiles.shape, bool((jax.numpy.diff(quantiles, axis=-1) > 0).all())
        ((100, 1, 3), True)
    """

    weight: Inexact[Array, "hidden outputs"]
    bias: Inexact[Array, " outputs"]
    levels: tuple[float, ...] = eqx.field(static=True)

    @classmethod
    def create(
        cls,
        hidden_size: int,
        target_count: int,
        *,
        levels: Sequence[float],
        key: PRNGKeyArray,
        dtype: jax.typing.DTypeLike = jnp.float32,
    ) -> "Quantiles":
        """A head with starting weights drawn from `key`. `levels` rise strictly within (0, 1)."""
        bound = hidden_size**-0.5
        weight = jax.random.uniform(key, (hidden_size, target_count * len(levels)), dtype, -bound, bound)
        bias = jnp.tile(jnp.asarray(_starting_biases(levels), dtype), target_count)
        return cls(weight, bias, tuple(levels))

    @property
    def middle(self) -> int:
        """Index of the level nearest to one half, from which the others are counted."""
        return min(range(len(self.levels)), key=lambda index: abs(self.levels[index] - 0.5))

    def __call__(self, hidden: Float[Array, "*steps hidden"]) -> Float[Array, "*steps targets levels"]:
        """The quantiles, rising along the last axis."""
        raw = hidden @ self.weight + self.bias
        raw = raw.reshape(*raw.shape[:-1], -1, len(self.levels))
        middle = self.middle
        centre = raw[..., middle : middle + 1]
        above = centre + jnp.cumsum(jax.nn.softplus(raw[..., middle + 1 :]), axis=-1)
        below = centre - jnp.cumsum(jax.nn.softplus(raw[..., :middle])[..., ::-1], axis=-1)[..., ::-1]
        return jnp.concatenate([below, centre, above], axis=-1)

    def loss(
        self, hidden: Float[Array, "*steps hidden"], targets: Float[Array, "*steps targets"]
    ) -> Float[Array, "*steps targets"]:
        """Twice the pinball loss, the mean over the levels."""
        levels = jnp.asarray(self.levels, hidden.dtype)
        difference = targets[..., None] - self(hidden)
        return 2 * jnp.maximum(levels * difference, (levels - 1) * difference).mean(axis=-1)


def _starting_biases(levels: Sequence[float]) -> list[float]:
    """Biases that space the quantiles as a logistic distribution of unit variance does; 0 for the middle one.

    The step between two levels p < q of that distribution is (logit q - logit p) sqrt(3) / pi, and softplus undoes as below.
    """
    middle = min(range(len(levels)), key=lambda index: abs(levels[index] - 0.5))
    places = [math.log(level / (1 - level)) * math.sqrt(3) / math.pi for level in levels]
    steps = [
        abs(places[k] - places[k - 1 if k > middle else k + 1]) if k != middle else 0.0 for k in range(len(levels))
    ]
    return [math.log(math.expm1(step)) if step else 0.0 for step in steps]

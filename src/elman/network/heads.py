"""What the output means: a head turns the top layer's h into a distribution and says how surprising a target is under it.

Final classes: `Categorical` (the next symbol). A head for numbers is one more class with the same two functions.
"""

import abc

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Inexact, Int, PRNGKeyArray


class AbstractHead(eqx.Module):
    """h -> outputs, and the loss of a target: minus the logarithm of its probability (density), in nats."""

    @abc.abstractmethod
    def __call__(self, hidden: Float[Array, "*steps hidden"]) -> Float[Array, "*steps outputs"]:
        """The distribution's parameters for each step."""

    @abc.abstractmethod
    def loss(self, hidden: Float[Array, "*steps hidden"], targets: Array) -> Float[Array, "*steps"]:
        """Minus log density of each step's target, in nats."""


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
        logits = self(hidden)
        chosen = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
        return jax.nn.logsumexp(logits, axis=-1) - chosen

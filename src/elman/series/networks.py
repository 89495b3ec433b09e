"""The network behind a forecast: members that share inputs and anchor, each a stack of recurrent layers with a head for numbers.

What a head says is counted from the *anchor*, the last value of the target that was seen: a network that says nothing is
persistence, and a series that wanders off takes its forecasts along.
"""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from elman.config import Config
from elman.network import AbstractHead, Network, Point, Quantiles


class ForecastNetwork(eqx.Module):
    """One or several networks, trained side by side from different starting weights, whose forecasts are averaged.

    The members' loops do not wait for each other, so that two of them keep two cores busy.
    """

    members: tuple[Network, ...]

    @classmethod
    def create(cls, config: Config, input_size: int, target_count: int, *, key: PRNGKeyArray) -> "ForecastNetwork":
        """Networks with starting weights drawn from `key`; `target_count` numbers are forecast at every step."""
        dtype = jnp.dtype(config.training.dtype)
        make_head = functools.partial(_head, config)
        keys = jax.random.split(key, config.series.members)
        return cls(
            tuple(
                Network.create(config.network, input_size, target_count, key=member_key, dtype=dtype, head=make_head)
                for member_key in keys
            )
        )

    @property
    def parameter_count(self) -> int:
        """Numbers that training changes, of all members."""
        return sum(member.parameter_count for member in self.members)

    @property
    def drops(self) -> bool:
        """Whether training drops anything."""
        return self.members[0].drops

    def initial_carry(self, *batch: int) -> Float[Array, "members layers *batch carry"]:
        """The state before the first step: zeros."""
        return jnp.stack([member.initial_carry(*batch) for member in self.members])

    def hiddens(
        self,
        inputs: Float[Array, "time batch inputs"],
        carry: Array,
        *,
        key: PRNGKeyArray | None = None,
        place: tuple[Array, int] | None = None,
    ) -> tuple[list[Float[Array, "time batch hidden"]], Array]:
        """What each member hands to its head at every step, and the carry after the last one. key, place: see `Network`."""
        keys = [None] * len(self.members) if key is None else jax.random.split(key, len(self.members))
        results = [
            member(inputs, carry[number], key=keys[number], place=place) for number, member in enumerate(self.members)
        ]
        return [hidden for hidden, _ in results], jnp.stack([after for _, after in results])

    def outputs(self, hiddens: list[Float[Array, "*steps hidden"]]) -> Float[Array, "*steps targets levels"]:
        """The mean of the members' forecasts, counted from the anchor."""
        said = [member.head(hidden) for member, hidden in zip(self.members, hiddens, strict=True)]
        return sum(said[1:], said[0]) / len(said)

    def step(self, inputs: Float[Array, "batch inputs"], carry: Array) -> tuple[list[Array], Array]:
        """One step of every member: what goes to the heads, and the carry."""
        hiddens, carries = [], []
        for number, member in enumerate(self.members):
            hidden, after = member.step(inputs, tuple(carry[number]))
            hiddens.append(hidden)
            carries.append(jnp.stack(after))
        return hiddens, jnp.stack(carries)


def _head(
    config: Config, hidden_size: int, target_count: int, *, key: PRNGKeyArray, dtype: jax.typing.DTypeLike
) -> AbstractHead:
    """The head that `forecast` asks for."""
    if config.series.forecast == "quantiles":
        return Quantiles.create(hidden_size, target_count, levels=config.series.levels, key=key, dtype=dtype)
    error = "absolute" if config.series.forecast == "median" else "squared"
    return Point.create(hidden_size, target_count, key=key, error=error, dtype=dtype)

"""The lecture's example (L7): inputs h e l l, targets e l l o, every number from the one-hot vectors to the update.

The network is the product's own: an `Elman` cell, a `Categorical` head, the gradient of the training loss. Nothing here has numbers
of its own but the rate of the update.
"""

import itertools
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from elman.errors import ConfigError
from elman.network import Network
from elman.text.model import TextModel

WORD = "hello"
LEARNING_RATE = 0.5
MAX_UPDATES = 1000


@dataclass(frozen=True)
class Step:
    """One step of the unrolled network, numbers as lists."""

    character: str
    target: str
    one_hot: list[float]
    hidden: list[float]
    logits: list[float]
    probabilities: list[float]
    loss: float


@dataclass(frozen=True)
class Walk:
    """The whole walk: the forward steps, the gradient, one update, and the learning that follows."""

    vocabulary: str
    parameters: dict[str, list]
    steps: list[Step]
    loss: float
    gradients: dict[str, list]
    contributions: list[list[list[float]]]
    learning_rate: float
    updated: dict[str, list]
    loss_after: float
    losses: list[float]
    spelled: list[tuple[int, str]]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for `--json`."""
        return {**vars(self), "steps": [vars(step) for step in self.steps]}


def walk(hidden: int = 3, seed: int = 0) -> Walk:
    """Walk through "hello" with `hidden` units, then learn it by plain gradient descent until "h" is continued by "ello".

        >>> hello = walk()
        >>> [step.character + step.target for step in hello.steps], hello.spelled[-1][1]
        (['he', 'el', 'll', 'lo'], 'hello')

    Raises: `ConfigError` for a size at which there is nothing to see, or when the word is not learnt.
    """
    if not 1 <= hidden <= 64:
        raise ConfigError(f"hidden = {hidden!r} is out of range: an integer from 1 to 64 (every number is printed)")
    model = TextModel.untrained(WORD, seed=seed, cell="elman", hidden=hidden)
    codes = jnp.asarray(model.vocabulary.encode(WORD).astype(np.int32))
    network = model.network
    characters = "".join(str(symbol) for symbol in model.vocabulary.symbols)
    loss, gradient = _value_and_slope(network, codes)
    updated = _descend(network, gradient)
    losses, spelled = [float(loss)], [(0, _spell(network, model))]
    trained, count = updated, 1
    while not (spelled[-1][1] == WORD and count >= 10):
        if count > MAX_UPDATES:
            raise ConfigError(
                f"{hidden} units did not learn to spell {WORD!r} in {MAX_UPDATES} updates: try more, or another seed"
            )
        value, slope = _value_and_slope(trained, codes)
        losses.append(float(value))
        word = _spell(trained, model)
        if word != spelled[-1][1]:
            spelled.append((count, word))
        trained, count = _descend(trained, slope), count + 1
    return Walk(
        vocabulary=characters,
        parameters=_lists(network),
        steps=_steps(network, codes, characters),
        loss=float(loss),
        gradients=_lists(gradient),
        contributions=contributions(network, codes),
        learning_rate=LEARNING_RATE,
        updated=_lists(updated),
        loss_after=float(_value_and_slope(updated, codes)[0]),
        losses=losses,
        spelled=spelled,
    )


def contributions(network: Network, codes: jax.Array) -> list[list[list[float]]]:
    """What each step adds to the gradient of W_h: the same matrix is used at every step, so its gradient is their sum (L3).

    Each step gets a copy of the cell of its own; the gradient with respect to that copy is the step's share.
    """
    steps = len(codes) - 1
    copies = jnp.broadcast_to(network.cells[0].weight_hidden, (steps, *network.cells[0].weight_hidden.shape))

    def loss_of(copies: jax.Array) -> jax.Array:
        cell, carry, total = network.cells[0], network.cells[0].initial_carry(), jnp.zeros(())
        for step in range(steps):
            carry = cell.combine(cell.project(codes[step]), carry @ copies[step], carry)
            total = total + network.head.loss(carry, codes[step + 1])
        return total

    return np.asarray(jax.jit(jax.grad(loss_of))(copies), float).tolist()


def _loss(network: Network, codes: jax.Array) -> jax.Array:
    """The sum over the steps of -log p(next character), as the classic program has it."""
    hidden, _ = network(codes[:-1])
    return network.head.loss(hidden, codes[1:]).sum()


_value_and_slope = jax.jit(jax.value_and_grad(_loss))


@jax.jit
def _descend(network: Network, gradient: Network) -> Network:
    """One update: every parameter moves against its gradient."""
    return jax.tree.map(lambda weight, slope: weight - LEARNING_RATE * slope, network, gradient)


def _spell(network: Network, model: TextModel) -> str:
    trained = TextModel(network, model.vocabulary, model.config)
    return WORD[0] + trained.sample(WORD[0], length=len(WORD) - 1, temperature=0.0, seed=0)


def _steps(network: Network, codes: jax.Array, characters: str) -> list[Step]:
    """The forward pass, one step at a time."""
    carry, steps = network.cells[0].initial_carry(), []
    for code, target in itertools.pairwise(codes.tolist()):
        hidden, carry, logits, probabilities, loss = _step(network, code, carry, target)
        steps.append(
            Step(
                character=characters[code],
                target=characters[target],
                one_hot=np.eye(len(characters))[code].tolist(),
                hidden=np.asarray(hidden, float).tolist(),
                logits=np.asarray(logits, float).tolist(),
                probabilities=np.asarray(probabilities, float).tolist(),
                loss=float(loss),
            )
        )
    return steps


@jax.jit
def _step(network: Network, code: jax.Array, carry: jax.Array, target: jax.Array) -> tuple[jax.Array, ...]:
    hidden, carry = network.cells[0](code, carry)
    logits = network.head(hidden)
    return hidden, carry, logits, jax.nn.softmax(logits), network.head.loss(hidden, target)


def _lists(network: Network) -> dict[str, list]:
    """The five parameters under the lecture's names, in its orientation: W_xh [hidden, vocab] and so on."""
    cell, head = network.cells[0], network.head
    named = {
        "W_xh": cell.weight_inputs.T,
        "W_hh": cell.weight_hidden.T,
        "b_h": cell.bias,
        "W_hy": head.weight.T,
        "b_y": head.bias,
    }
    return {name: np.asarray(array, float).tolist() for name, array in named.items()}

"""What `layers.py` times: one case, and for each library a function that makes it ready to run.

An update is all of a training step: forward, loss, backward, Adam; without training it is the forward pass alone. Every library
gets its arrays in the layout that suits it, and carries the state from update to update (Keras: from zero, as it is used).
Characters go in by an embedding as wide as there are symbols, the cheapest that can say what one-hot vectors say; hand-written
JAX and elman take the rows of the input weights instead.

Libraries are imported where they are used: an environment has only some of them.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

SYMBOLS = 65
RATE = 1e-5
"""So small that thousands of updates on the same batch do not learn it by heart: vanishing gradients would be slow numbers."""

BATCHES = 4
"""Different batches behind one another where many updates are one call, so that no compiler can take them for the same."""

Run = Callable[[int], float | None]
"""Makes so many updates, waits for the last and gives its loss; None where there is none."""


@dataclass(frozen=True)
class Case:
    """One shape of one task; inputs: how many numbers go into a step (characters: how many symbols there are)."""

    task: str
    cell: str
    batch: int
    hidden: int
    steps: int
    inputs: int = SYMBOLS
    training: bool = True
    recurrent_dropout: float = 0.0

    @property
    def outputs(self) -> int:
        """What the linear layer on top gives: logits, or one number."""
        return self.inputs if self.characters else 1

    @property
    def characters(self) -> bool:
        """Whether the inputs are symbols."""
        return self.task == "characters"

    @property
    def name(self) -> str:
        """What it is called in tables and files."""
        words = [self.task, self.cell, f"{self.batch}x{self.hidden}x{self.steps}"]
        words += [] if self.characters else [f"{self.inputs} inputs"]
        words += [f"dropout {self.recurrent_dropout:g}"] if self.recurrent_dropout else []
        return " ".join([*words, "training" if self.training else "inference"])

    @property
    def multiply_adds(self) -> float:
        """Those of one update's products: recurrence, dense inputs (gathered ones have none) and head.

        Training does each three times, forward, for the gradient of what it multiplies and for that of its weights; but nobody
        asks for the gradient of the inputs.
        """
        gates = {"tanh": 1, "gru": 3, "lstm": 4}[self.cell] * self.hidden
        inputs = 0 if self.characters else self.inputs
        passes, input_passes = (3, 2) if self.training else (1, 1)
        per_row = passes * self.hidden * (gates + self.outputs) + input_passes * inputs * gates
        return float(self.batch * self.steps * per_row)

    def arrays(self, *, time_first: bool, count: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """Inputs and targets `[count, time, batch, ...]` (or batch before time)."""
        generator = np.random.default_rng(0)
        if self.characters:
            codes = generator.integers(0, self.inputs, (count, self.steps + 1, self.batch)).astype(np.int32)
            xs, targets = codes[:, :-1], codes[:, 1:]
        else:
            xs = generator.standard_normal((count, self.steps, self.batch, self.inputs)).astype(np.float32)
            targets = xs[..., :1] * 0.5
        if not time_first:
            xs, targets = xs.swapaxes(1, 2), targets.swapaxes(1, 2)
        return np.ascontiguousarray(xs), np.ascontiguousarray(targets)


# PyTorch ----------------------------------------------------------------------------------------------------------------------


def torch_case(case: Case, *, compiled: bool = False, unrolled: bool = False) -> Run:
    """`nn.RNN`, `nn.GRU` or `nn.LSTM` as they come, time first; Adam fused, which is its quickest on a CPU.

    compiled: model and loss under `torch.compile`, which runs PyTorch's recurrent layers as they are and compiles the rest.
    unrolled: the layers, too, step by step; an experiment of PyTorch's that took 2.5 seconds of compiling for each step.
    """
    import torch
    from torch import nn

    if unrolled:
        torch._dynamo.config.allow_rnn = True

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            layer = {"tanh": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}[case.cell]
            self.embedding = nn.Embedding(case.inputs, case.inputs) if case.characters else nn.Identity()
            self.layer = layer(case.inputs, case.hidden)
            self.head = nn.Linear(case.hidden, case.outputs)

        def forward(self, xs: Any, state: Any) -> tuple[Any, Any]:
            hiddens, state = self.layer(self.embedding(xs), state)
            return self.head(hiddens), state

    zeros = torch.zeros(1, case.batch, case.hidden)
    state = (zeros, zeros.clone()) if case.cell == "lstm" else zeros
    return _torch_run(case, Model(), state, compiled=compiled)


def torch_cells(case: Case) -> Run:
    """A loop over PyTorch's cells with one mask of dropped units for all steps: its own layers have no such dropout."""
    import torch
    from torch import nn

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            cell = {"tanh": nn.RNNCell, "gru": nn.GRUCell, "lstm": nn.LSTMCell}[case.cell]
            self.embedding = nn.Embedding(case.inputs, case.inputs) if case.characters else nn.Identity()
            self.cell = cell(case.inputs, case.hidden)
            self.head = nn.Linear(case.hidden, case.outputs)

        def forward(self, xs: Any, state: Any) -> tuple[Any, Any]:
            keep = 1 - case.recurrent_dropout
            mask = torch.empty(case.batch, case.hidden).bernoulli_(keep) / keep if keep < 1 else None
            hiddens = []
            for x in self.embedding(xs):
                hidden, *rest = state if case.cell == "lstm" else (state,)
                hidden = hidden if mask is None else hidden * mask
                state = self.cell(x, (hidden, *rest) if rest else hidden)
                hiddens.append(state[0] if rest else state)
            return self.head(torch.stack(hiddens)), state

    zeros = torch.zeros(case.batch, case.hidden)
    return _torch_run(case, Model(), (zeros, zeros.clone()) if case.cell == "lstm" else zeros, compiled=False)


def _torch_run(case: Case, model: Any, state: Any, *, compiled: bool) -> Run:
    """Updates of a model that takes inputs and state and gives outputs and state."""
    import torch
    from torch.nn import functional

    xs, targets = (torch.from_numpy(array[0]) for array in case.arrays(time_first=True))
    targets = targets.long() if case.characters else targets
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE, fused=True)

    def loss_of(xs: Any, targets: Any, state: Any) -> tuple[Any, Any]:
        outputs, state = model(xs, state)
        if case.characters:
            return functional.cross_entropy(outputs.flatten(0, 1), targets.flatten()), state
        return functional.mse_loss(outputs, targets), state

    if compiled:
        torch._dynamo.reset()  # or the shapes of the cases before would count as changes of one and the same function
    work = torch.compile(loss_of, dynamic=False) if compiled else loss_of
    forward = torch.compile(model, dynamic=False) if compiled else model

    def train(count: int) -> float:
        nonlocal state
        for _ in range(count):
            optimizer.zero_grad()
            loss, state = work(xs, targets, state)
            loss.backward()
            optimizer.step()
            state = tuple(part.detach() for part in state) if case.cell == "lstm" else state.detach()
        return float(loss.detach())

    def infer(count: int) -> None:
        nonlocal state
        with torch.inference_mode():
            for _ in range(count):
                _, state = forward(xs, state)

    return train if case.training else infer


# Keras ------------------------------------------------------------------------------------------------------------------------


def keras_case(case: Case) -> Run:
    """Keras' layers, `train_on_batch` and `predict_on_batch`, with the backend that the environment names."""
    import keras

    keras.backend.clear_session()
    keras.utils.set_random_seed(0)
    layer = {"tanh": keras.layers.SimpleRNN, "gru": keras.layers.GRU, "lstm": keras.layers.LSTM}[case.cell]
    if case.characters:
        inputs = keras.layers.Input((case.steps,), dtype="int32")
        below = keras.layers.Embedding(case.inputs, case.inputs)(inputs)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    else:
        inputs = below = keras.layers.Input((case.steps, case.inputs))
        loss = keras.losses.MeanSquaredError()
    outputs = keras.layers.Dense(case.outputs)(layer(case.hidden, return_sequences=True)(below))
    model = keras.Model(inputs, outputs)
    model.compile(optimizer=keras.optimizers.Adam(learning_rate=RATE), loss=loss)
    xs, targets = (array[0] for array in case.arrays(time_first=False))

    def train(count: int) -> float:
        for _ in range(count):
            value = model.train_on_batch(xs, targets)
        return float(np.asarray(value).reshape(-1)[0])

    def infer(count: int) -> None:
        for _ in range(count):
            model.predict_on_batch(xs)

    return train if case.training else infer


# Flax and Equinox -------------------------------------------------------------------------------------------------------------


def flax_case(case: Case) -> Run:
    """`nnx.RNN` over a cell; `nnx.jit` of one update, its modules cached as Flax advises for small ones."""
    import jax
    import jax.numpy as jnp
    import optax
    from flax import nnx

    class Model(nnx.Module):
        def __init__(self, rngs: nnx.Rngs) -> None:
            cell = {"tanh": nnx.SimpleCell, "gru": nnx.GRUCell, "lstm": nnx.OptimizedLSTMCell}[case.cell]
            if case.characters:
                self.embedding = nnx.Embed(case.inputs, case.inputs, rngs=rngs)
            self.layer = nnx.RNN(cell(case.inputs, case.hidden, rngs=rngs), return_carry=True)
            self.head = nnx.Linear(case.hidden, case.outputs, rngs=rngs)

        def __call__(self, xs: Any, carry: Any) -> tuple[Any, Any]:
            carry, hiddens = self.layer(self.embedding(xs) if case.characters else xs, initial_carry=carry)
            return self.head(hiddens), carry

    model = Model(nnx.Rngs(0))
    xs, targets = (jnp.asarray(array[0]) for array in case.arrays(time_first=False))
    zeros = jnp.zeros((case.batch, case.hidden))
    carry = (zeros, zeros) if case.cell == "lstm" else zeros
    if not case.training:
        forward = nnx.cached_partial(nnx.jit(lambda model, xs, carry: model(xs, carry)), model)
        return _one_at_a_time(lambda state: forward(xs, state[1]), (None, carry), has_loss=False)
    optimizer = nnx.Optimizer(model, optax.adam(RATE), wrt=nnx.Param)

    @nnx.jit
    def update(model: Model, optimizer: nnx.Optimizer, xs: Any, targets: Any, carry: Any) -> tuple[Any, Any]:
        def loss_of(model: Model) -> tuple[Any, Any]:
            outputs, after = model(xs, carry)
            return _jax_loss(case, outputs, targets), after

        (loss, after), gradients = nnx.value_and_grad(loss_of, has_aux=True)(model)
        optimizer.update(model, gradients)
        return loss, jax.lax.stop_gradient(after)

    cached = nnx.cached_partial(update, model, optimizer)
    return _one_at_a_time(lambda state: cached(xs, targets, state[1]), (None, carry))


def equinox_case(case: Case) -> Run:
    """Equinox's cells under `lax.scan`, batched by `vmap`; `eqx.filter_jit` of one update."""
    import equinox as eqx
    import jax
    import jax.numpy as jnp

    class TanhCell(eqx.Module):
        """A tanh cell in the style of Equinox's, which has none."""

        weight_ih: jax.Array
        weight_hh: jax.Array
        bias: jax.Array

        def __init__(self, inputs: int, hidden: int, *, key: Any) -> None:
            keys, bound = jax.random.split(key), hidden**-0.5
            self.weight_ih = jax.random.uniform(keys[0], (hidden, inputs), minval=-bound, maxval=bound)
            self.weight_hh = jax.random.uniform(keys[1], (hidden, hidden), minval=-bound, maxval=bound)
            self.bias = jnp.zeros(hidden)

        def __call__(self, x: Any, hidden: Any) -> Any:
            return jnp.tanh(self.weight_ih @ x + self.weight_hh @ hidden + self.bias)

    class Model(eqx.Module):
        embedding: eqx.nn.Embedding | None
        cell: Any
        head: eqx.nn.Linear

        def __call__(self, xs: Any, carry: Any) -> tuple[Any, Any]:
            """One sequence."""
            xs = xs if self.embedding is None else jax.vmap(self.embedding)(xs)

            def step(carry: Any, x: Any) -> tuple[Any, Any]:
                carry = self.cell(x, carry)
                return carry, carry[0] if case.cell == "lstm" else carry

            carry, hiddens = jax.lax.scan(step, carry, xs)
            return jax.vmap(self.head)(hiddens), carry

    keys = jax.random.split(jax.random.key(0), 3)
    cell = {"tanh": TanhCell, "gru": eqx.nn.GRUCell, "lstm": eqx.nn.LSTMCell}[case.cell]
    embedding = eqx.nn.Embedding(case.inputs, case.inputs, key=keys[0]) if case.characters else None
    head = eqx.nn.Linear(case.hidden, case.outputs, key=keys[2])
    model = Model(embedding, cell(case.inputs, case.hidden, key=keys[1]), head)
    return _equinox_run(case, model)


def _equinox_run(case: Case, model: Any) -> Run:
    import equinox as eqx
    import jax
    import jax.numpy as jnp
    import optax

    xs, targets = (jnp.asarray(array[0]) for array in case.arrays(time_first=False))
    zeros = jnp.zeros((case.batch, case.hidden))
    carry = (zeros, zeros) if case.cell == "lstm" else zeros
    if not case.training:
        forward = eqx.filter_jit(lambda model, xs, carry: jax.vmap(model)(xs, carry))
        return _one_at_a_time(lambda state: forward(model, xs, state[1]), (None, carry), has_loss=False)
    optimizer = optax.adam(RATE)
    memory = optimizer.init(eqx.filter(model, eqx.is_inexact_array))

    @eqx.filter_jit
    def update(model: Any, memory: Any, xs: Any, targets: Any, carry: Any) -> tuple[Any, ...]:
        @eqx.filter_value_and_grad(has_aux=True)
        def loss_of(model: Any) -> tuple[Any, Any]:
            outputs, after = jax.vmap(model)(xs, carry)
            return _jax_loss(case, outputs, targets), after

        (loss, after), gradients = loss_of(model)
        steps, memory = optimizer.update(gradients, memory, model)
        return loss, after, eqx.apply_updates(model, steps), memory

    return _one_at_a_time(lambda state: update(state[2], state[3], xs, targets, state[1]), (None, carry, model, memory))


# JAX by hand, and elman -------------------------------------------------------------------------------------------------------


def scan_case(case: Case, *, block: bool = False) -> Run:
    """A cell written in a few lines of JAX under `lax.scan`, its input product inside the step, its derivative JAX's own.

    block: many updates in one compiled call, as elman makes them.
    """
    import jax
    import jax.numpy as jnp

    gates, hidden = {"tanh": 1, "gru": 3, "lstm": 4}[case.cell] * case.hidden, case.hidden
    keys, bound = jax.random.split(jax.random.key(0), 3), case.hidden**-0.5
    weights = {
        "inputs": jax.random.uniform(keys[0], (case.inputs, gates), minval=-bound, maxval=bound),
        "hidden": jax.random.uniform(keys[1], (hidden, gates), minval=-bound, maxval=bound),
        "bias": jnp.zeros(gates),
        "bias_hidden": jnp.zeros(gates if case.cell == "gru" else 0),
        "head": jax.random.uniform(keys[2], (hidden, case.outputs), minval=-bound, maxval=bound),
        "head_bias": jnp.zeros(case.outputs),
    }

    def tanh(projected: Any, recurrent: Any, carry: Any, weights: Any) -> Any:
        return (jnp.tanh(projected + recurrent),)

    def gru(projected: Any, recurrent: Any, carry: Any, weights: Any) -> Any:
        recurrent = recurrent + weights["bias_hidden"]
        reset, keep = jnp.split(jax.nn.sigmoid(projected[:, : 2 * hidden] + recurrent[:, : 2 * hidden]), 2, axis=1)
        candidate = jnp.tanh(projected[:, 2 * hidden :] + reset * recurrent[:, 2 * hidden :])
        return ((1 - keep) * candidate + keep * carry[0],)

    def lstm(projected: Any, recurrent: Any, carry: Any, weights: Any) -> Any:
        into, forget, new, out = jnp.split(projected + recurrent, 4, axis=1)
        memory = jax.nn.sigmoid(forget) * carry[1] + jax.nn.sigmoid(into) * jnp.tanh(new)
        return jax.nn.sigmoid(out) * jnp.tanh(memory), memory

    combine = {"tanh": tanh, "gru": gru, "lstm": lstm}[case.cell]

    def forward(weights: Any, xs: Any, carry: Any) -> tuple[Any, Any]:
        def step(carry: Any, x: Any) -> tuple[Any, Any]:
            projected = (weights["inputs"][x] if case.characters else x @ weights["inputs"]) + weights["bias"]
            carry = combine(projected, carry[0] @ weights["hidden"], carry, weights)
            return carry, carry[0]

        carry, hiddens = jax.lax.scan(step, carry, xs)
        return hiddens @ weights["head"] + weights["head_bias"], carry

    def loss_of(weights: Any, xs: Any, targets: Any, carry: Any, key: Any) -> tuple[Any, Any]:
        outputs, carry = forward(weights, xs, carry)
        return _jax_loss(case, outputs, targets), carry

    carry = tuple(jnp.zeros((case.batch, hidden)) for _ in range(2 if case.cell == "lstm" else 1))
    if not case.training:
        return jax_inference(case, forward, weights, carry)
    return jax_training(case, loss_of, weights, carry, block=block)


def elman_case(case: Case) -> Run:
    """What elman computes with: `Network` and its head, many updates in one compiled call, as the training loop makes them."""
    loss_of, forward, network, carry = elman_functions(case)
    if not case.training:
        return jax_inference(case, forward, network, carry)
    return jax_training(case, loss_of, network, carry, block=True)


def elman_functions(case: Case) -> tuple[Callable, Callable, Any, Any]:
    """Loss and forward pass of a case, the network and the carry that they start from."""
    import jax

    from elman.config import NetworkSettings
    from elman.network import Network
    from elman.network.heads import Point

    settings = NetworkSettings(
        cell="elman" if case.cell == "tanh" else case.cell,
        hidden=case.hidden,
        recurrent_dropout=case.recurrent_dropout,
    )
    head = None if case.characters else functools.partial(Point.create, error="squared")
    network = Network.create(settings, case.inputs, case.outputs, key=jax.random.key(0), head=head)

    def loss_of(network: Network, xs: Any, targets: Any, carry: Any, key: Any) -> tuple[Any, Any]:
        hidden, carry = network(xs, carry, key=key if network.drops else None)
        return network.head.loss(hidden, targets).mean(), carry

    def forward(network: Network, xs: Any, carry: Any) -> tuple[Any, Any]:
        hidden, carry = network(xs, carry)
        return network.head(hidden), carry

    return loss_of, forward, network, network.initial_carry(case.batch)


def jax_training(case: Case, loss_of: Callable, weights: Any, carry: Any, *, block: bool) -> Run:
    """Updates with Adam: many in one compiled call (`block`), or a call for each."""
    import jax

    if block:
        compiled, state, batches = jax_block(case, loss_of, weights, carry)
    else:
        update, state = _jax_update(loss_of, weights, carry)
        compiled = jax.jit(update, donate_argnums=0)
        batches = tuple(jax.numpy.asarray(array[0]) for array in case.arrays(time_first=True))

    def run(count: int) -> float:
        nonlocal state
        for number in [count] if block else range(count):
            state = compiled(state, batches, np.int32(number))
        return float(jax.block_until_ready(state)[-1])

    return run


def jax_block(case: Case, loss_of: Callable, weights: Any, carry: Any) -> tuple[Any, tuple, tuple]:
    """(state, batches, how many updates) -> state, compiled, which takes the state's buffers over; and its first arguments."""
    import jax
    import jax.numpy as jnp

    update, state = _jax_update(loss_of, weights, carry)

    def block(state: tuple, batches: tuple, count: Any) -> tuple:
        def body(index: Any, state: tuple) -> tuple:
            batch = tuple(jax.lax.dynamic_index_in_dim(a, index % BATCHES, keepdims=False) for a in batches)
            return update(state, batch, index)

        return jax.lax.fori_loop(0, count, body, state)

    batches = tuple(jnp.asarray(array) for array in case.arrays(time_first=True, count=BATCHES))
    return jax.jit(block, donate_argnums=0), state, batches


def _jax_update(loss_of: Callable, weights: Any, carry: Any) -> tuple[Callable, tuple]:
    """One update of (weights, what Adam remembers, carry, last loss), not compiled, and what it starts from."""
    import jax
    import jax.numpy as jnp
    import optax

    optimizer, seed = optax.adam(RATE), jax.random.key(1)
    gradient_of = jax.value_and_grad(loss_of, has_aux=True)

    def update(state: tuple, batch: tuple, number: Any) -> tuple:
        weights, memory, carry, _ = state
        (loss, carry), gradient = gradient_of(weights, *batch, carry, jax.random.fold_in(seed, number))
        steps, memory = optimizer.update(gradient, memory, weights)
        return optax.apply_updates(weights, steps), memory, carry, loss

    return update, jax.tree.map(jnp.copy, (weights, optimizer.init(weights), carry, jnp.zeros(())))


def jax_inference(case: Case, forward: Callable, weights: Any, carry: Any) -> Run:
    """Forward passes, a call for each."""
    import jax
    import jax.numpy as jnp

    xs = jnp.asarray(case.arrays(time_first=True)[0][0])
    compiled = jax.jit(forward)
    return _one_at_a_time(lambda state: compiled(weights, xs, state[1]), (None, carry), has_loss=False)


def _one_at_a_time(update: Callable[[Any], tuple], state: tuple, *, has_loss: bool = True) -> Run:
    """Calls of a compiled update; the state's first part is the loss."""
    import jax

    def run(count: int) -> float | None:
        nonlocal state
        for _ in range(count):
            state = update(state)
        jax.block_until_ready(state)
        return float(state[0]) if has_loss else None

    return run


def _jax_loss(case: Case, outputs: Any, targets: Any) -> Any:
    import optax

    if case.characters:
        return optax.softmax_cross_entropy_with_integer_labels(outputs, targets).mean()
    return ((outputs - targets) ** 2).mean()


# NumPy ------------------------------------------------------------------------------------------------------------------------


def numpy_case(case: Case) -> Run:
    """The classic program in float32: it has one shape, and Adagrad where the others have Adam."""
    import classic_numpy

    codes = np.random.default_rng(0).integers(0, case.inputs, 100_000)
    losses = classic_numpy.train(codes, classic_numpy.initial_weights(case.inputs, dtype=np.float32))

    def run(count: int) -> float:
        for _ in range(count):
            loss = next(losses)
        return loss / classic_numpy.STEPS

    return run


LIBRARIES: dict[str, Callable[[Case], Run]] = {
    "elman": elman_case,
    "elman-scan": elman_case,
    "torch": torch_case,
    "torch-compile": functools.partial(torch_case, compiled=True),
    "torch-unrolled": functools.partial(torch_case, compiled=True, unrolled=True),
    "torch-cells": torch_cells,
    "keras-jax": keras_case,
    "keras-torch": keras_case,
    "flax": flax_case,
    "equinox": equinox_case,
    "scan": scan_case,
    "scan-block": functools.partial(scan_case, block=True),
    "numpy": numpy_case,
}

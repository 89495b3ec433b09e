"""What a step of a recurrence costs: XLA's tanh against ours inside a GRU step, and the custom derivative against the plain scan.

python benchmarks/recurrence.py         about one minute
"""

import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from elman.network import GRU, cells, unroll
from measuring import interleaved, ratios, report, summarize

HIDDEN, BATCH, STEPS, ROUNDS = 256, 32, 64, 9


def xla_gru(projected: jax.Array, recurrent: jax.Array, carry: jax.Array) -> jax.Array:
    """The same step with XLA's own functions."""
    hidden = carry.shape[-1]
    gates = jax.nn.sigmoid(projected[..., : 2 * hidden] + recurrent[..., : 2 * hidden])
    candidate = jnp.tanh(projected[..., 2 * hidden :] + gates[..., :hidden] * recurrent[..., 2 * hidden :])
    return candidate + gates[..., hidden:] * (carry - candidate)


def timed(work: Callable[..., jax.Array], *arguments: object) -> Callable[[], float]:
    """A function that gives the microseconds per step of one call."""
    compiled = jax.jit(work)
    jax.block_until_ready(compiled(*arguments))

    def measure() -> float:
        began = time.perf_counter()
        jax.block_until_ready(compiled(*arguments))
        return (time.perf_counter() - began) / STEPS * 1e6

    return measure


def main() -> None:
    """Measure, print, write."""
    cell = GRU.create(HIDDEN, HIDDEN, key=jax.random.key(0))
    generator = np.random.default_rng(0)
    projected = jnp.asarray(0.1 * generator.standard_normal((STEPS, BATCH, 3 * HIDDEN)), jnp.float32)
    inputs = jnp.asarray(generator.standard_normal((STEPS, BATCH, HIDDEN)), jnp.float32)
    carry = cell.initial_carry(BATCH)

    def forward(combine: Callable[..., jax.Array]) -> Callable[[jax.Array, jax.Array], jax.Array]:
        def run(projected: jax.Array, carry: jax.Array) -> jax.Array:
            def step(carry: jax.Array, row: jax.Array) -> tuple[jax.Array, jax.Array]:
                carry = combine(row, carry @ cell.weight_hidden, carry)
                return carry, carry

            return jax.lax.scan(step, carry, projected)[1]

        return run

    def plain_loss(cell: GRU, inputs: jax.Array) -> jax.Array:
        def step(carry: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
            carry = cell.step(x, carry)
            return carry, carry

        return (jax.lax.scan(step, cell.initial_carry(BATCH), inputs)[1] ** 2).sum()

    def our_loss(cell: GRU, inputs: jax.Array) -> jax.Array:
        return (unroll(cell, inputs)[0] ** 2).sum()

    figures = interleaved(
        {
            "forward, XLA's tanh": timed(forward(xla_gru), projected, carry),
            "forward, our tanh": timed(forward(cells._gru_combine), projected, carry),
            "gradient, plain scan of the step": timed(jax.grad(plain_loss), cell, inputs),
            "gradient, unroll": timed(jax.grad(our_loss), cell, inputs),
        },
        ROUNDS,
    )
    rows = [(f"GRU {HIDDEN}, batch {BATCH}, {STEPS} steps", "microseconds per step (median)", "least", "greatest")]
    rows += [(name, *(f"{row[k]:,.0f}" for k in ("median", "min", "max"))) for name, row in summarize(figures).items()]
    names = list(figures)
    gains = {f"{a} / {b}": ratios(figures, a, b) for a, b in (names[:2], names[2:])}
    rows += [(name, *(f"{row[k]:.2f} x" for k in ("median", "min", "max"))) for name, row in gains.items()]
    report("recurrence", rows, {"microseconds_per_step": figures, "ratios": gains})


if __name__ == "__main__":
    main()

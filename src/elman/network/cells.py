"""One step of each recurrent cell: h_t = f_W(h_{t-1}, x_t), one set of parameters W for every step.

A cell splits its step in two, because only one half has to wait for the previous step:

    projected_t = x_t W_x + b               does not wait: `project` does it for a whole sequence in one product
    recurrent_t = h_{t-1} W_h + b_h         waits
    carry_t     = combine(projected_t, recurrent_t, carry_{t-1})

`combine` is elementwise, so it is all that distinguishes one cell from another. The carry is one packed array `[..., carry]` whose
first `hidden` columns are h; the LSTM's c follows behind. Weights multiply from the right: `[inputs, gates]` and `[hidden, gates]`,
gate blocks side by side in the order that each cell names.

Inputs are vectors `[..., inputs]` of floats, or integers `[...]` that stand for one-hot vectors: then the product with W_x is a
gather of its rows, which is the same number, sooner.
"""

import abc
from collections.abc import Callable
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Inexact, PRNGKeyArray

Combine = Callable[[Array, Array, Array], Array]


class AbstractCell(eqx.Module):
    """One step of a recurrent network. Final classes: `Elman`, `GRU`, `LSTM`."""

    weight_inputs: eqx.AbstractVar[Inexact[Array, "inputs gates"]]
    weight_hidden: eqx.AbstractVar[Inexact[Array, "hidden gates"]]
    bias: eqx.AbstractVar[Inexact[Array, " gates"]]

    gate_blocks: eqx.AbstractClassVar[int]
    carry_blocks: eqx.AbstractClassVar[int]

    @property
    @abc.abstractmethod
    def combine(self) -> Combine:
        """The elementwise function (projected, recurrent, carry) -> carry; the same object for equal cells."""

    @property
    @abc.abstractmethod
    def bias_hidden(self) -> Inexact[Array, " gates"] | None:
        """What is added to h W_h before `combine`, or None where the cell has no such bias."""

    @abc.abstractmethod
    def gates(
        self, projected: Float[Array, "*steps gates"], recurrent: Float[Array, "*steps gates"]
    ) -> dict[str, Float[Array, "*steps hidden"]]:
        """What `combine` makes of its two pre-activations on the way, by name: for looking inside, never for computing."""

    @property
    def input_size(self) -> int:
        """Width of x."""
        return self.weight_inputs.shape[0]

    @property
    def hidden_size(self) -> int:
        """Width of h."""
        return self.weight_hidden.shape[0]

    @property
    def carry_size(self) -> int:
        """Width of the packed carry."""
        return self.carry_blocks * self.hidden_size

    def initial_carry(self, *batch: int) -> Float[Array, "*batch carry"]:
        """The carry before the first step: zeros."""
        return jnp.zeros((*batch, self.carry_size), self.weight_hidden.dtype)

    def output(self, carry: Float[Array, "*batch carry"]) -> Float[Array, "*batch hidden"]:
        """The h part of a carry."""
        return carry[..., : self.hidden_size]

    def project(self, xs: Array) -> Float[Array, "*steps gates"]:
        """x W_x + b for any number of steps at once; integers `[...]` stand for one-hot vectors and gather rows."""
        if jnp.issubdtype(xs.dtype, jnp.integer):
            return self.weight_inputs[xs] + self.bias
        return xs @ self.weight_inputs + self.bias

    def step(self, x: Array, carry: Float[Array, "*batch carry"]) -> Float[Array, "*batch carry"]:
        """One step: the new carry."""
        recurrent = self.output(carry) @ self.weight_hidden
        if self.bias_hidden is not None:
            recurrent = recurrent + self.bias_hidden
        return self.combine(self.project(x), recurrent, carry)

    def __call__(
        self, x: Array, carry: Float[Array, "*batch carry"]
    ) -> tuple[Float[Array, "*batch hidden"], Float[Array, "*batch carry"]]:
        """One step: (h, carry)."""
        carry = self.step(x, carry)
        return self.output(carry), carry


class Elman(AbstractCell):
    """The simple recurrent network.

        h_t = tanh(x_t W_x + h_{t-1} W_h + b)            (or relu in place of tanh)

    Carry: h. Starts at zero. W_h starts orthogonal, W_x uniform within ±1/sqrt(hidden), b at 0 (see `initial_weights`).
    Parameters: hidden (inputs + hidden + 1).
    Equals `torch.nn.RNN` with b_hh = 0. Reference: Elman 1990, "Finding structure in time".

    The same cell in concatenated form is h_t = tanh([h_{t-1}; x_t] W + b) with W = [W_h; W_x] stacked: `concatenated()` gives
    that W, `from_concatenated` takes it, `concatenated_step` computes with it.

        >>> import jax
        >>> cell = Elman.create(3, 5, key=jax.random.key(0))
        >>> h, carry = cell(jax.numpy.ones(3), cell.initial_carry())
        >>> h.shape
        (5,)
    """

    weight_inputs: Inexact[Array, "inputs gates"]
    weight_hidden: Inexact[Array, "hidden gates"]
    bias: Inexact[Array, " gates"]
    activation: str = eqx.field(static=True, default="tanh")

    gate_blocks: ClassVar[int] = 1
    carry_blocks: ClassVar[int] = 1

    @classmethod
    def create(
        cls,
        input_size: int,
        hidden_size: int,
        *,
        key: PRNGKeyArray,
        activation: str = "tanh",
        initialization: str = "orthogonal",
        dtype: jax.typing.DTypeLike = jnp.float32,
    ) -> "Elman":
        """A cell with starting weights drawn from `key`."""
        weights = initial_weights(key, input_size, hidden_size, cls.gate_blocks, initialization, dtype)
        return cls(*weights, jnp.zeros(hidden_size, dtype), activation)

    @property
    def combine(self) -> Combine:
        return _ELMAN_COMBINE[self.activation]

    @property
    def bias_hidden(self) -> None:
        return None

    def gates(self, projected: Array, recurrent: Array) -> dict[str, Array]:
        """None: the new state is all there is."""
        return {}

    def concatenated(self) -> Inexact[Array, "hidden+inputs hidden"]:
        """W = [W_h; W_x], to be multiplied by [h; x]."""
        return jnp.concatenate([self.weight_hidden, self.weight_inputs])

    @classmethod
    def from_concatenated(
        cls, weight: Inexact[Array, "hidden+inputs hidden"], bias: Array, activation: str = "tanh"
    ) -> "Elman":
        """The cell whose concatenated form is `weight`; the hidden size is its number of columns."""
        hidden_size = weight.shape[1]
        return cls(weight[hidden_size:], weight[:hidden_size], bias, activation)

    def concatenated_step(
        self, x: Float[Array, "*batch inputs"], carry: Float[Array, "*batch hidden"]
    ) -> Float[Array, "*batch hidden"]:
        """One step computed as one product with [h; x]: the same number as `step`, by the lecture's other drawing."""
        joined = jnp.concatenate([carry, x], axis=-1)
        return self.combine(joined @ self.concatenated(), self.bias, carry)


class GRU(AbstractCell):
    """Gated recurrent unit, reset after the product.

        r, z, n : the gate blocks, in this order (PyTorch's)
        r_t = sigmoid(x_t W_xr + b_r + h_{t-1} W_hr)
        z_t = sigmoid(x_t W_xz + b_z + h_{t-1} W_hz)                       z = 1 keeps the old state
        n_t = tanh(x_t W_xn + b_n + r_t * (h_{t-1} W_hn + b_hn))
        h_t = (1 - z_t) * n_t + z_t * h_{t-1}

    Carry: h. Starts at zero. Each block of W_h starts orthogonal, W_x uniform within ±1/sqrt(hidden), all biases at 0.
    Parameters: 3 hidden (inputs + hidden + 1) + hidden.
    Equals `torch.nn.GRU` with b_hr = b_hz = 0 (there they only add to b_r and b_z), `equinox.nn.GRUCell`, and ONNX's GRU with
    `linear_before_reset = 1`. Differs from the reset before the product of Cho et al. 2014 (equation 8).
    """

    weight_inputs: Inexact[Array, "inputs gates"]
    weight_hidden: Inexact[Array, "hidden gates"]
    bias: Inexact[Array, " gates"]
    bias_candidate: Inexact[Array, " hidden"]

    gate_blocks: ClassVar[int] = 3
    carry_blocks: ClassVar[int] = 1

    @classmethod
    def create(
        cls,
        input_size: int,
        hidden_size: int,
        *,
        key: PRNGKeyArray,
        initialization: str = "orthogonal",
        dtype: jax.typing.DTypeLike = jnp.float32,
    ) -> "GRU":
        """A cell with starting weights drawn from `key`."""
        weights = initial_weights(key, input_size, hidden_size, cls.gate_blocks, initialization, dtype)
        return cls(*weights, jnp.zeros(3 * hidden_size, dtype), jnp.zeros(hidden_size, dtype))

    @property
    def combine(self) -> Combine:
        return _gru_combine

    @property
    def bias_hidden(self) -> Inexact[Array, " gates"]:
        return jnp.concatenate([jnp.zeros(2 * self.hidden_size, self.bias.dtype), self.bias_candidate])

    def gates(self, projected: Array, recurrent: Array) -> dict[str, Array]:
        """r, z and n as `reset`, `update` and `candidate`."""
        size = self.hidden_size
        both = sigmoid(projected[..., : 2 * size] + recurrent[..., : 2 * size])
        reset, update = both[..., :size], both[..., size:]
        candidate = tanh(projected[..., 2 * size :] + reset * recurrent[..., 2 * size :])
        return {"reset": reset, "update": update, "candidate": candidate}


class LSTM(AbstractCell):
    """Long short-term memory.

        i, f, g, o = split(x_t W_x + h_{t-1} W_h + b)                      (this order; PyTorch's)
        c_t = sigmoid(f) * c_{t-1} + sigmoid(i) * tanh(g)
        h_t = sigmoid(o) * tanh(c_t)

    Carry: [h, c] side by side, 2 hidden. Starts at zero. Each block of W_h starts orthogonal, W_x uniform within
    ±1/sqrt(hidden), b at 0 but its forget part at 1 (Jozefowicz et al. 2015, section 2.1).
    Parameters: 4 hidden (inputs + hidden + 1).
    Equals `torch.nn.LSTM` with b_hh = 0 and `equinox.nn.LSTMCell`. Reference: Hochreiter & Schmidhuber 1997; Gers et al. 2000 (f).
    """

    weight_inputs: Inexact[Array, "inputs gates"]
    weight_hidden: Inexact[Array, "hidden gates"]
    bias: Inexact[Array, " gates"]

    gate_blocks: ClassVar[int] = 4
    carry_blocks: ClassVar[int] = 2

    @classmethod
    def create(
        cls,
        input_size: int,
        hidden_size: int,
        *,
        key: PRNGKeyArray,
        initialization: str = "orthogonal",
        dtype: jax.typing.DTypeLike = jnp.float32,
    ) -> "LSTM":
        """A cell with starting weights drawn from `key`."""
        weights = initial_weights(key, input_size, hidden_size, cls.gate_blocks, initialization, dtype)
        bias = jnp.zeros(4 * hidden_size, dtype).at[hidden_size : 2 * hidden_size].set(1.0)
        return cls(*weights, bias)

    @property
    def combine(self) -> Combine:
        return _lstm_combine

    @property
    def bias_hidden(self) -> None:
        return None

    def gates(self, projected: Array, recurrent: Array) -> dict[str, Array]:
        """i, f, g and o as `input`, `forget`, `candidate` and `output`."""
        inward, forget, candidate, outward = jnp.split(projected + recurrent, 4, axis=-1)
        return {
            "input": sigmoid(inward),
            "forget": sigmoid(forget),
            "candidate": tanh(candidate),
            "output": sigmoid(outward),
        }


CELLS: dict[str, type[Elman] | type[GRU] | type[LSTM]] = {"elman": Elman, "gru": GRU, "lstm": LSTM}


def initial_weights(
    key: PRNGKeyArray,
    input_size: int,
    hidden_size: int,
    gate_blocks: int,
    initialization: str,
    dtype: jax.typing.DTypeLike,
) -> tuple[Inexact[Array, "inputs gates"], Inexact[Array, "hidden gates"]]:
    """Starting values of (W_x, W_h).

    `orthogonal`: every gate block of W_h is a random orthogonal matrix, so that states keep their length over the first
    steps (Saxe et al. 2014); W_x is uniform within ±1/sqrt(hidden), PyTorch's range.
    `normal`: both N(0, 1) · 0.01, as in the classic minimal program.
    """
    key_inputs, key_hidden = jax.random.split(key)
    gates = gate_blocks * hidden_size
    if initialization == "normal":
        weight_inputs = 0.01 * jax.random.normal(key_inputs, (input_size, gates), dtype)
        return weight_inputs, 0.01 * jax.random.normal(key_hidden, (hidden_size, gates), dtype)
    bound = hidden_size**-0.5
    weight_inputs = jax.random.uniform(key_inputs, (input_size, gates), dtype, -bound, bound)
    blocks = jax.random.orthogonal(key_hidden, hidden_size, (gate_blocks,), dtype=dtype)
    return weight_inputs, jnp.concatenate(list(blocks), axis=1)


@jax.custom_jvp
def tanh(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """tanh, for float32 as a quotient of two polynomials, within 6 units in the last place (XLA's own: 5).

    XLA's own tanh stops being vectorized where it is fused with slices of a packed array, which is what a gate is: with it the
    forward step of a GRU (hidden 256, batch 32, two AVX-512 cores) took 2.2 times as long (`benchmarks/recurrence.py`, 2026-11-24).
    Coefficients: the minimax fit that Eigen and XLA use for float32.
    """
    if x.dtype != jnp.float32:
        return jnp.tanh(x)
    x = jnp.clip(x, -_TANH_LIMIT, _TANH_LIMIT)
    square = x * x
    return x * _polynomial(square, _TANH_NUMERATOR) / _polynomial(square, _TANH_DENOMINATOR)


@tanh.defjvp
def _tanh_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    y = tanh(primals[0])
    return y, tangents[0] * (1 - y * y)


def sigmoid(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """1 / (1 + exp(-x)), by way of `tanh`."""
    return 0.5 * tanh(0.5 * x) + 0.5


# Beyond this the quotient is 1 to within 4 units in the last place and is not evaluated: it would grow.
_TANH_LIMIT = 7.90531110763549805
_TANH_NUMERATOR = (
    -2.76076847742355e-16,
    2.00018790482477e-13,
    -8.60467152213735e-11,
    5.12229709037114e-08,
    1.48572235717979e-05,
    6.37261928875436e-04,
    4.89352455891786e-03,
)
_TANH_DENOMINATOR = (1.19825839466702e-06, 1.18534705686654e-04, 2.26843463243900e-03, 4.89352518554385e-03)


def _polynomial(x: Array, coefficients: tuple[float, ...]) -> Array:
    """Horner's rule, highest power first."""
    total = jnp.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        total = total * x + coefficient
    return total


def _elman_tanh(projected: Array, recurrent: Array, carry: Array) -> Array:
    return tanh(projected + recurrent)


def _elman_relu(projected: Array, recurrent: Array, carry: Array) -> Array:
    return jax.nn.relu(projected + recurrent)  # its derivative at 0 is 0, as in the compiled kernels


_ELMAN_COMBINE: dict[str, Combine] = {"tanh": _elman_tanh, "relu": _elman_relu}


def _gru_combine(projected: Array, recurrent: Array, carry: Array) -> Array:
    hidden = carry.shape[-1]
    gates = sigmoid(projected[..., : 2 * hidden] + recurrent[..., : 2 * hidden])
    reset, keep = gates[..., :hidden], gates[..., hidden:]
    candidate = tanh(projected[..., 2 * hidden :] + reset * recurrent[..., 2 * hidden :])
    return candidate + keep * (carry - candidate)


def _lstm_combine(projected: Array, recurrent: Array, carry: Array) -> Array:
    hidden = carry.shape[-1] // 2
    summed = projected + recurrent
    gates = sigmoid(summed)
    candidate = tanh(summed[..., 2 * hidden : 3 * hidden])
    memory = gates[..., hidden : 2 * hidden] * carry[..., hidden:] + gates[..., :hidden] * candidate
    return jnp.concatenate([gates[..., 3 * hidden :] * tanh(memory), memory], axis=-1)


COMBINES: tuple[Combine, ...] = (_elman_tanh, _elman_relu, _gru_combine, _lstm_combine)
"""All there are: what the compiled kernels know a cell by."""

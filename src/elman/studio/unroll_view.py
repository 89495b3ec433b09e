"""What the picture of an unrolled network shows of it: few enough numbers to be read from the last row of a lecture room.

A network of hundreds of units over dozens of symbols becomes the units that move most, the likeliest symbols and the first and
last steps, and says how many it leaves out.
"""

from dataclasses import dataclass

MOST_UNITS = 32
"""Units of a layer that are drawn: those that move most over the input."""

MOST_STEPS = 24
"""Steps that are drawn; of a longer input the first and the last."""

MOST_SYMBOLS = 5
"""Symbols of a distribution that are drawn: the target, and the likeliest."""


@dataclass(frozen=True)
class LayerStep:
    """One layer after one step: h of the units shown, the gradient of the loss with respect to it and its norm over all units.

    share: what the step adds to the gradient of the layer's weights, as the part of it that points along their sum; the shares of
    all steps sum to 1.
    """

    hidden: tuple[float, ...]
    slope: tuple[float, ...]
    slope_norm: float
    share: float


@dataclass(frozen=True)
class Said:
    """A line of what the head says at a step: a symbol with its probability, or a level with its value."""

    label: str
    value: float
    target: bool = False


@dataclass(frozen=True)
class StepView:
    """One column of the picture. number: of the step, from 1. said and loss: empty and None where the shape has no output."""

    number: int
    label: str
    inputs: tuple[float, ...]
    layers: tuple[LayerStep, ...]
    said: tuple[Said, ...]
    loss: float | None


@dataclass(frozen=True)
class View:
    """Everything the picture shows. start: h_0 of each layer; units: the numbers of the units shown, by layer.

    shares: of all steps, also of those that are not drawn, by layer. left_out: steps that are folded away behind the first half of
    `steps`. probabilities: whether what is said is a distribution.
    """

    steps: tuple[StepView, ...]
    start: tuple[tuple[float, ...], ...]
    units: tuple[tuple[int, ...], ...]
    hidden_size: int
    shares: tuple[tuple[float, ...], ...]
    total: float
    left_out: int
    probabilities: bool


@dataclass(frozen=True)
class Position:
    """How far the walk has come: `forward` steps computed, then the total loss, then the gradients of `backward` steps."""

    place: int
    steps: int

    @property
    def last(self) -> int:
        """The place at which everything is there: h_0, T steps, the loss, T steps back."""
        return 2 * self.steps + 1

    @property
    def forward(self) -> int:
        """Steps whose state is known."""
        return min(self.place, self.steps)

    @property
    def loss(self) -> bool:
        """Whether the losses are summed."""
        return self.place > self.steps

    @property
    def backward(self) -> int:
        """Steps, counted from the last, whose gradient is known."""
        return max(0, self.place - self.steps - 1)

    def moved(self, by: int) -> "Position":
        """`by` places on, within the walk."""
        return Position(min(max(self.place + by, 0), self.last), self.steps)

    def has_state(self, step: int) -> bool:
        """Whether step `step` (from 1) was computed."""
        return step <= self.forward

    def has_slope(self, step: int) -> bool:
        """Whether the gradient came back to step `step` (from 1)."""
        return step > self.steps - self.backward


def shown_steps(count: int) -> tuple[list[int], int]:
    """Indices of the steps that are drawn, and how many are left out between the two halves.

    >>> shown_steps(3), shown_steps(30)[0][11:13], shown_steps(30)[1]
    (([0, 1, 2], 0), [11, 18], 6)
    """
    if count <= MOST_STEPS:
        return list(range(count)), 0
    half = MOST_STEPS // 2
    return [*range(half), *range(count - half, count)], count - 2 * half


def visible(character: str) -> str:
    """A symbol as one can see it; what shows nothing by itself, as a sign or its code point.

    >>> visible(" "), visible("\\n"), visible("\\x07"), visible("é")
    ('␣', '↵', 'U+0007', 'é')
    """
    signs = {" ": "␣", "\n": "↵", "\t": "⇥"}
    if character in signs:
        return signs[character]
    return character if character.isprintable() else " ".join(f"U+{ord(c):04X}" for c in character)


def number(value: float, digits: int = 2) -> str:
    """A number with its sign, with a real minus.

    >>> number(-0.314), number(0.5, 1)
    ('−0.31', '+0.5')
    """
    return f"{value:+.{digits}f}".replace("-", "−")


def subscript(value: int) -> str:
    """The digits of an index below the line.

    >>> subscript(12)
    '₁₂'
    """
    return str(value).translate(str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉"))

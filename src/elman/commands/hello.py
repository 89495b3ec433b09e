"""`elman hello`: the lecture's example with every number (L7)."""

import argparse

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from elman.commands.output import console, print_json
from elman.text.hello import WORD, Walk, walk
from elman.training.engine import use_compilation_cache


def run(parsed: argparse.Namespace) -> int:
    """Show the walk."""
    use_compilation_cache()
    result = walk(parsed.hidden, parsed.seed)
    if parsed.json:
        print_json(result.to_dict())
    else:
        show(result, console(), brief=parsed.brief)
    return 0


def show(result: Walk, screen: Console, *, brief: bool = False) -> None:
    """Print the walk; `brief` leaves out the matrices."""
    vocabulary = list(result.vocabulary)
    screen.print(
        Text(
            f"The word {WORD!r}: inputs {' '.join(WORD[:-1])}, targets {' '.join(WORD[1:])}, vocabulary {vocabulary}\n"
        )
    )
    if not brief:
        screen.print(Text("1. The parameters before the first update", style="bold"))
        for name, values in result.parameters.items():
            _print_array(screen, name, values)
    screen.print(
        Text(
            "Forward: h_t = tanh(W_hh h_{t-1} + W_xh x_t + b_h),  y_t = W_hy h_t + b_y,  p_t = softmax(y_t)",
            style="bold",
        )
    )
    screen.print(_forward(result, brief))
    losses = " + ".join(f"{step.loss:.4f}" for step in result.steps)
    screen.print(Text(f"loss = sum of -log p(target) = {losses} = {result.loss:.4f}\n"))
    if not brief:
        _show_gradient(result, screen)
    fall = f"the loss falls from {result.loss:.4f} to {result.loss_after:.4f}"
    screen.print(Text(f"Update: W <- W - {result.learning_rate} dW, for all five; {fall}\n"))
    screen.print(Text(f"Learning on, the likeliest continuation of {WORD[0]!r}:", style="bold"))
    for iteration, word in result.spelled:
        screen.print(Text(f"  after {iteration:>3} updates  {word}   loss {result.losses[iteration]:.4f}"))


def _forward(result: Walk, brief: bool) -> Table:
    table = Table(show_edge=False, pad_edge=False)
    for title in ("t", "x_t", "one-hot", "h_t", *(() if brief else ("y_t",)), "p_t", "target", "-log p"):
        table.add_column(title)
    for number, step in enumerate(result.steps, 1):
        one_hot = " ".join(f"{value:.0f}" for value in step.one_hot)
        logits = () if brief else (_row(step.logits),)
        probabilities = " ".join(f"{c}:{p:.2f}" for c, p in zip(result.vocabulary, step.probabilities, strict=True))
        row = (
            str(number),
            step.character,
            one_hot,
            _row(step.hidden),
            *logits,
            probabilities,
            step.target,
            f"{step.loss:.4f}",
        )
        table.add_row(*map(Text, row))
    return table


def _show_gradient(result: Walk, screen: Console) -> None:
    screen.print(Text("Backward: the gradient of the loss", style="bold"))
    for name, values in result.gradients.items():
        _print_array(screen, "d" + name, values)
    screen.print(Text("dW_hh is the sum of what every step contributes, for W_hh is used at every step:", style="bold"))
    for number, values in enumerate(result.contributions, 1):
        _print_array(screen, f"step {number}", np.asarray(values).T.tolist())


def _print_array(screen: Console, name: str, values: list) -> None:
    rows = values if isinstance(values[0], list) else [values]
    for number, row in enumerate(rows):
        screen.print(Text(f"  {name if number == 0 else '':8} {_row(row)}"))
    screen.print()


def _row(values: list[float]) -> str:
    return " ".join(f"{value:+.3f}" for value in values)

"""The flags of `elman inspect KIND`: one function for each kind. Like the whole command line, it loads neither JAX nor NumPy."""

from collections.abc import Callable
from typing import Any

from elman.commands.flags import add_data_dir

AddCommand = Callable[..., Any]
"""Makes a command's parser: `elman.cli`'s own, called as `add(commands, name, summary, module=, description=)`."""

LOOKED_AT = 10_000
"""Characters (of a series: rows) that are looked at where nothing else is said: enough to rank units by, seconds to compute."""


def add_inspect(commands: Any, add: AddCommand) -> None:
    """`elman inspect` and all its kinds."""
    parser = add(
        commands,
        "inspect",
        "look inside a model: graph, gradients, memory, units, surprise",
        description="Look inside a trained model of text or of series. Each kind prints figures, and draws them with --output.",
    )
    kinds = parser.add_subparsers(dest="kind", metavar="KIND", title="what to look at", required=True)
    _add_graph(kinds, add)
    _add_memory(kinds, add)
    _add_attribution(kinds, add)
    _add_units(kinds, add)
    _add_surprise(kinds, add)
    _add_novelty(kinds, add)


def _kind(kinds: Any, add: AddCommand, name: str, summary: str, description: str) -> Any:
    """A kind's parser with what every kind takes."""
    parser = add(kinds, name, summary, module=f"inspect_{name}", description=description)
    parser.add_argument("model", metavar="RUN|BUNDLE", help="a run folder or a bundle")
    parser.add_argument("--output", metavar="FILE", help="draw it: .png, .svg or .html")
    parser.add_argument("--json", action="store_true", help="print one JSON object on standard output")
    return parser


def _add_text(parser: Any) -> None:
    parser.add_argument("--text", metavar="TEXT", help="the text to look at (default: the run's held-out text)")


def _add_input(parser: Any) -> None:
    parser.add_argument("--input", metavar="FILE", help="a file with the text to look at")


def _add_tables(parser: Any) -> None:
    parser.add_argument("--data", metavar="FILE", help="the table to look at (default: the run's own)")
    add_data_dir(parser, "tables")


def _add_steps(parser: Any, what: str) -> None:
    parser.add_argument("--steps", type=int, metavar="N", help=what)


def _add_graph(kinds: Any, add: AddCommand) -> None:
    parser = _kind(
        kinds,
        add,
        "graph",
        "the unrolled graph: activations forward, gradients backward",
        "The network unrolled over an input: every state, every loss, and each step's share of every weight's gradient. "
        "`elman inspect graph hello` unrolls the lecture's example.",
    )
    _add_text(parser)
    _add_tables(parser)
    _add_steps(parser, "how many steps of the input (default: as many as are readable)")
    parser.add_argument(
        "--many-to-one", action="store_true", help="a loss at the last step only (default: at every step)"
    )
    parser.add_argument(
        "--view",
        default="graph",
        choices=("graph", "cell", "walk"),
        help="what --output draws: the unrolled graph, the first layer's last step with all numbers, or of the model `hello` the "
        "whole walk to the update, one file for each step (default: graph)",
    )


def _add_memory(kinds: Any, add: AddCommand) -> None:
    parser = _kind(
        kinds,
        add,
        "memory",
        "how far back gradients reach, and how fast a disturbance fades",
        "The norm of the gradient of a state by an earlier one against the lag, the spectrum of the recurrent weights, and the "
        "half-life of a disturbance: vanishing and exploding gradients as they are.",
    )
    _add_text(parser)
    _add_tables(parser)
    _add_steps(parser, "how many steps of the input (default: as many as are needed)")
    parser.add_argument("--lags", type=int, metavar="N", help="how many steps back (default: chosen for you)")


def _add_attribution(kinds: Any, add: AddCommand) -> None:
    parser = _kind(
        kinds,
        add,
        "attribution",
        "which inputs and lags moved a forecast",
        "How much each input at each lag moved one forecast: integrated gradients, or gradient times input.",
    )
    _add_text(parser)
    _add_tables(parser)
    _add_steps(parser, "how many steps before the origin (default: as many as a forecast is made from)")
    parser.add_argument("--origin", metavar="TIME", help="when the forecast is made (default: at the last row)")
    parser.add_argument("--series", metavar="NAME", help="of which series (default: the first)")
    parser.add_argument(
        "--method", default="integrated", choices=("integrated", "gradient"), help="how (default: integrated)"
    )


def _add_looked_at(parser: Any, what: str) -> None:
    parser.add_argument(
        "--characters", type=int, default=LOOKED_AT, metavar="N", help=f"{what} at most (default: {LOOKED_AT})"
    )


def _add_units(kinds: Any, add: AddCommand) -> None:
    parser = _kind(
        kinds,
        add,
        "units",
        "what single units follow, and how saturated the gates are",
        "Rank all units by how well they follow a feature (of text: quotes, brackets, position in the line, …; of series: hour, "
        "season, trend, lags). Units are chosen on the first half and scored on the second, beside what chance reaches.",
    )
    _add_text(parser)
    _add_input(parser)
    _add_tables(parser)
    _add_looked_at(parser, "characters or rows to look at,")
    parser.add_argument("--feature", metavar="NAME", help="only this feature, with its best units (default: all)")
    parser.add_argument("--unit", metavar="LAYER:NUMBER", help="the unit to show, such as 1:27 (default: the best one)")
    parser.add_argument(
        "--example",
        action="append",
        metavar="TEXT",
        help="find the units that are on in this piece of the text and off elsewhere; may be given several times",
    )
    parser.add_argument(
        "--view",
        default="text",
        choices=("text", "gates", "trajectory"),
        help="what --output draws: the unit over the text or time, all gates' saturation, the states' path (default: text)",
    )


def _add_surprise(kinds: Any, add: AddCommand) -> None:
    parser = _kind(
        kinds,
        add,
        "surprise",
        "how probable each character of a text was, and what else could have come",
        "The probability of each character of a text as the model saw it coming, and the likeliest alternatives.",
    )
    _add_text(parser)
    _add_input(parser)
    add_data_dir(parser, "corpora")
    _add_looked_at(parser, "characters to look at,")
    parser.add_argument(
        "--prime", default="", metavar="TEXT", help="what stands before the text; it is read, not scored"
    )
    parser.add_argument("--top", type=int, default=5, metavar="K", help="alternatives for each character (default: 5)")


def _add_novelty(kinds: Any, add: AddCommand) -> None:
    parser = _kind(
        kinds,
        add,
        "novelty",
        "how much of what a model writes stands in its training text",
        "The longest pieces of a sample that stand in the training text, and the share that they cover, beside the same "
        "figures for held-out text of the same author.",
    )
    parser.add_argument("--text", metavar="TEXT", help="the sample (default: the model writes one)")
    _add_input(parser)
    parser.add_argument("--training", metavar="FILE", help="the training text (default: the run's own)")
    add_data_dir(parser, "corpora")
    _add_looked_at(parser, "characters to write or to look at,")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the sample that is written (default: 0)")
    parser.add_argument("--pieces", type=int, default=10, metavar="N", help="longest pieces to show (default: 10)")

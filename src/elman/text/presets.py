"""Named bundles of settings, and the sizes that suit a text and a budget where none are given."""

from typing import Any

from elman.config import Config, suggestion
from elman.errors import ConfigError
from elman.network import CELLS

PRESETS: dict[str, dict[str, Any]] = {
    # Karpathy's 112-line NumPy program, exactly (lecture L9): one stream over the whole text, nothing held out.
    "min-char-rnn": {
        "cell": "elman",
        "activation": "tanh",
        "hidden": 100,
        "layers": 1,
        "initialization": "normal",
        "dropout": 0.0,
        "batch": 1,
        "unroll": 25,
        "reduction": "sum",
        "optimizer": "adagrad",
        "learning_rate": 0.1,
        "schedule": "constant",
        "warmup": 0.0,
        "final_rate": 1.0,
        "clip_value": 5.0,
        "clip_norm": 0.0,
        "weight_decay": 0.0,
        "average": 0.0,
        "validation": 0.0,
        "sample_every": 100,
        "sample_length": 200,
        "block": 500,
    },
}

DEFAULT_MINUTES = 3.0

LONG_MINUTES = 6.0
"""From this budget on a larger network has the time to overtake: 384 units against 256 lose in three minutes and win in ten."""


def preset(name: str) -> dict[str, Any]:
    """The settings of a preset. Raises `ConfigError` for an unknown name, with the nearest one."""
    if name not in PRESETS:
        raise ConfigError(f"unknown preset {name!r}{suggestion(name, PRESETS)} (there are: {', '.join(PRESETS)})")
    return PRESETS[name]


def resolve(config: Config, training_symbols: int, vocab_size: int) -> Config:
    """`config` with a value for everything that was left to the program.

    What the text decides: a short text gets fewer units, fewer streams and more dropout, because it is read more often.
    What the budget decides: from `LONG_MINUTES` on there are more units, and more dropout for what is then read more often still.
    """
    training = config.training
    changes: dict[str, Any] = {}
    if training.minutes is None and training.steps is None and training.epochs is None:
        changes["minutes"] = DEFAULT_MINUTES
    long = (training.minutes or 0.0) >= LONG_MINUTES
    if config.network.hidden is None:
        changes["hidden"] = _hidden(training_symbols, long)
    if config.network.dropout is None:
        changes["dropout"] = _dropout(training_symbols, long)
    if config.network.recurrent_dropout is None:
        changes["recurrent_dropout"] = 0.0  # costs a third more time and did not lower the loss of three minutes
    if config.network.input_dropout is None:
        changes["input_dropout"] = 0.0
    if training.average is None:
        changes["average"] = 0.0
    optimizer = training.optimizer or "muon"
    changes["optimizer"] = optimizer
    unroll = training.unroll or max(1, min(64, (training_symbols - 2) // 2))
    batch = training.batch or max(1, min(16, training_symbols // (8 * unroll)))
    changes |= {"unroll": unroll, "batch": batch}
    if training.learning_rate is None:
        changes["learning_rate"] = {"muon": 0.02, "adamw": 0.006, "adagrad": 0.1, "sgd": 1.0}[optimizer]
    if training.block is None:
        hidden = config.network.hidden or changes["hidden"]
        changes["block"] = _block(config, hidden, batch * unroll, vocab_size)
    if training.epochs is not None:
        # The budget in updates: from here on a run with epochs is one with steps.
        changes |= {"steps": max(1, round(training.epochs * training_symbols / (batch * unroll))), "epochs": None}
    return config.replace(**changes)


def _hidden(training_symbols: int, long: bool) -> int:
    """Units of the hidden state: about as many weights as symbols up to what the budget can train on two cores."""
    for hidden, enough in ((384 if long else 256, 200_000), (192, 60_000), (128, 10_000)):
        if training_symbols >= enough:
            return hidden
    return 64


def _dropout(training_symbols: int, long: bool) -> float:
    """A short text is read many times in a few minutes and would be learnt by heart; a long one is hardly read once."""
    for dropout, more, below in ((0.3, 0.2, 300_000), (0.15, 0.2, 3_000_000), (0.05, 0.05, 10_000_000)):
        if training_symbols < below:
            return round(dropout + more * long, 2)
    return 0.0


def _block(config: Config, hidden: int, symbols: int, vocab_size: int) -> int:
    """Updates in one compiled call: about a third of a second's work at 40 G multiply-adds per second, at most 500."""
    gates = CELLS[config.network.cell].gate_blocks
    weights = hidden * (gates * hidden * (2 * config.network.layers - 1) + vocab_size)
    return int(max(1, min(500, 0.33 * 40e9 / (6 * weights * symbols))))

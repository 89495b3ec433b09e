"""The commands, one module each with a function `run(parsed) -> exit status`; imported only when they are called.

What a command does for text and for series stands in modules of their own (`train_text`, `train_series`); the command's module
only chooses between them.
"""

import argparse
from typing import Any

from elman.config import options

EXIT_ERROR = 2
"""Something the user can mend."""

EXIT_INTERRUPTED = 130
"""Ctrl-C, as shells report it."""


def given_settings(parsed: argparse.Namespace, *groups: str) -> dict[str, Any]:
    """The settings of these groups that stood on the command line."""
    names = {option.name for option in options() if option.group in groups}
    return {name: value for name, value in vars(parsed).items() if name in names}

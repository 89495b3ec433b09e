"""The commands, one module each with a function `run(parsed) -> exit status`; imported only when they are called."""

import argparse
from typing import Any

from elman.config import options

EXIT_ERROR = 2
"""Something the user can mend."""

EXIT_INTERRUPTED = 130
"""Ctrl-C, as shells report it."""


def given_settings(parsed: argparse.Namespace) -> dict[str, Any]:
    """The settings that stood on the command line."""
    names = {option.name for option in options()}
    return {name: value for name, value in vars(parsed).items() if name in names}

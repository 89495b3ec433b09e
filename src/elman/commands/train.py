"""`elman train`: a network of one kind or the other, and `--resume`."""

import argparse
import importlib

from elman.commands.kinds import kind_of
from elman.errors import ConfigError


def run(parsed: argparse.Namespace) -> int:
    """Train or resume, by the kind that is named or that the run is of."""
    if parsed.resume is not None:
        if parsed.kind is not None:
            raise ConfigError("--resume goes on with a run as it was: give no further input or settings")
        kind = kind_of(parsed.resume)
    elif parsed.kind is None:
        raise ConfigError(
            "say what to train on (`elman train text INPUT`, `elman train series INPUT`) or which run to go on with "
            "(`elman train --resume RUN`)"
        )
    else:
        kind = parsed.kind
    return int(importlib.import_module(f"elman.commands.train_{kind}").run(parsed))

"""`elman evaluate`: how well a model does on what it has not seen, beside the baselines."""

import argparse
import importlib

from elman.commands.kinds import kind_of


def run(parsed: argparse.Namespace) -> int:
    """Score, by what the model is."""
    return int(importlib.import_module(f"elman.commands.evaluate_{kind_of(parsed.model)}").run(parsed))

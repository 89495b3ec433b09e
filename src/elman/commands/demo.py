"""`elman demo`: a tour of three minutes."""

import argparse
from pathlib import Path

from elman.commands.output import console
from elman.config import Config
from elman.demo import demo


def run(parsed: argparse.Namespace) -> int:
    """Run the tour."""
    Config().replace(minutes=parsed.minutes)  # refuses an impossible budget before anything is shown
    return demo(
        console(),
        minutes=parsed.minutes,
        run=parsed.run,
        data_folder=Path(parsed.data_dir) if parsed.data_dir else None,
    )

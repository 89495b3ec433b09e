"""`elman report`: one self-contained HTML file about a run."""

import argparse
from pathlib import Path

from elman.commands.kinds import kind_of
from elman.reports import write_report, write_series_report


def run(parsed: argparse.Namespace) -> int:
    """Write the report and say where it is."""
    output = Path(parsed.output) if parsed.output else None
    if kind_of(parsed.run) == "series":
        print(write_series_report(parsed.run, output))
        return 0
    from elman.text.run import TextRun

    print(write_report(TextRun(parsed.run), output))
    return 0

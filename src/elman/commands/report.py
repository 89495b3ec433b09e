"""`elman report`: one self-contained HTML file about a run."""

import argparse
from pathlib import Path

from elman.reports import write_report
from elman.text.run import TextRun


def run(parsed: argparse.Namespace) -> int:
    """Write the report and say where it is."""
    print(write_report(TextRun(parsed.run), Path(parsed.output) if parsed.output else None))
    return 0

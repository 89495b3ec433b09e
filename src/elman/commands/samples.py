"""`elman samples`: the timeline of a run's samples (lecture L11)."""

import argparse

from elman.commands.kinds import refuse_series
from elman.commands.output import console, print_json
from elman.reports.timeline import show_timeline, timeline_facts
from elman.text.run import TextRun


def run(parsed: argparse.Namespace) -> int:
    """Show the timeline, or give it as JSON."""
    refuse_series(parsed.run)
    result = TextRun(parsed.run)
    if parsed.json:
        print_json({"run": str(result.path), "samples": timeline_facts(result)})
    else:
        show_timeline(result, console(), iteration=parsed.iteration, every=parsed.all)
    return 0

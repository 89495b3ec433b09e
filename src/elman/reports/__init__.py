"""What a run shows of itself: one HTML file, and the timeline of its samples or its scores and forecasts in the terminal."""

from elman.reports.forecast_terminal import print_fan, print_slices
from elman.reports.forecasts import print_scores
from elman.reports.report import write_report
from elman.reports.series_report import write_series_report
from elman.reports.timeline import show_timeline, timeline_facts

__all__ = [
    "print_fan",
    "print_scores",
    "print_slices",
    "show_timeline",
    "timeline_facts",
    "write_report",
    "write_series_report",
]

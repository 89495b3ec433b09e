"""What a run shows of itself: one HTML file, and the timeline of its samples in the terminal."""

from elman.reports.report import write_report
from elman.reports.timeline import show_timeline, timeline_facts

__all__ = ["show_timeline", "timeline_facts", "write_report"]

"""`elman describe`: what is in a table of measurements, what is wrong with it, and what would be done about it."""

import argparse
from pathlib import Path

from elman.commands import given_settings
from elman.commands.output import console, print_json, reporting
from elman.commands.series_output import save_picture
from elman.config import Config
from elman.errors import ConfigError
from elman.reports.data import data_figure, print_report
from elman.series.cleaning.grid import to_panel
from elman.series.cleaning.inspection import inspect
from elman.series.cleaning.targets import check_target
from elman.series.reading.tables import read_table
from elman.series.trainer import locate

PICTURES = (".png", ".svg")


def run(parsed: argparse.Namespace) -> int:
    """Read, look, and print; draw where a file is named."""
    settings = Config().replace(**given_settings(parsed, "series")).series
    if parsed.output is not None and Path(parsed.output).suffix.lower() not in PICTURES:
        raise ConfigError(f"--output {parsed.output} is no picture: end its name with {' or '.join(PICTURES)}")
    data_dir = getattr(parsed, "data_dir", None)
    with reporting(quiet=getattr(parsed, "quiet", False)) as reporter:
        source, _ = locate(parsed.input, Path(data_dir) if data_dir else None, reporter)
        table = read_table(source, settings, progress=reporter.working)
        reporter.working("inspecting", 0.0)
        report = inspect(table, settings)
        if settings.target is not None:
            check_target(report, settings.target)
        if parsed.output is not None:
            reporter.working("drawing", 0.0)
            figure = data_figure(report, to_panel(table, report, settings))
            save_picture(figure, Path(parsed.output), report.source)
    if parsed.json:
        print_json(report.to_dict())
        return 0
    print_report(report, console())
    if parsed.output is not None:
        print(f"the picture is in {parsed.output}")
    return 0

"""`elman describe`: what is in a table of measurements, what is wrong with it, and what would be done about it."""

import argparse
import warnings
from pathlib import Path

from elman.commands import given_settings
from elman.commands.output import console, print_json
from elman.config import Config
from elman.errors import ConfigError, RunError
from elman.reports.data import data_figure, print_report
from elman.series.grid import to_panel
from elman.series.inspection import inspect
from elman.series.tables import read_table
from elman.series.targets import check_target

PICTURES = (".png", ".svg")


def run(parsed: argparse.Namespace) -> int:
    """Read, look, and print; draw where a file is named."""
    # `--output` is a file here, not the setting of that name.
    given = {name: value for name, value in given_settings(parsed).items() if name != "output"}
    settings = Config().replace(**given).series
    if parsed.output is not None and Path(parsed.output).suffix.lower() not in PICTURES:
        raise ConfigError(f"--output {parsed.output} is no picture: end its name with {' or '.join(PICTURES)}")
    table = read_table(parsed.input, settings)
    report = inspect(table, settings)
    if settings.target is not None:
        check_target(report, settings.target)
    if parsed.output is not None:
        figure = data_figure(report, to_panel(table, report, settings))
        try:
            with warnings.catch_warnings():
                # A letter that the font lacks is drawn as a box, and that is all there is to say about it.
                warnings.filterwarnings("ignore", message="Glyph")
                figure.savefig(parsed.output, dpi=150)
        except OSError as error:
            raise RunError(f"cannot write {parsed.output}: {error.strerror}") from None
    if parsed.json:
        print_json(report.to_dict())
        return 0
    print_report(report, console())
    if parsed.output is not None:
        print(f"the picture is in {parsed.output}")
    return 0

"""`elman studio`: the browser application."""

import argparse
import importlib.util
from pathlib import Path

from elman.errors import ConfigError
from elman.training.downloads import chosen_data_folder
from elman.training.engine import use_compilation_cache


def run(parsed: argparse.Namespace) -> int:
    """Serve until interrupted."""
    if importlib.util.find_spec("nicegui") is None:
        raise ConfigError("the studio needs NiceGUI, which is not installed: pip install 'elman[studio]'")
    from elman.studio.app import Shared, serve

    folder = Path(parsed.runs)
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"--runs {folder} is a file: name the folder that holds the runs")
    use_compilation_cache()
    data_folder = chosen_data_folder(Path(parsed.data_dir) if parsed.data_dir else None)

    def announce(address: str) -> None:
        print(
            f"elman studio: {address}   runs in {folder}   (Ctrl-C ends it, and no training that it began)", flush=True
        )

    shared = Shared(folder.absolute(), data_folder)
    serve(shared, announce, host=parsed.host, port=parsed.port, show=not parsed.no_browser)
    return 0

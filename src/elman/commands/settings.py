"""Settings from the command line and from a file of settings, together."""

import argparse
from pathlib import Path
from typing import Any

from elman.commands import given_settings
from elman.config import Config, from_toml
from elman.errors import ConfigError

BUDGETS = {"minutes", "steps", "epochs"}


def chosen_settings(parsed: argparse.Namespace, *groups: str) -> dict[str, Any]:
    """The settings of the file, with those of the command line over them; a budget there replaces one of any kind."""
    given, from_file = given_settings(parsed, *groups), _from_file(parsed.config)
    if BUDGETS & given.keys():
        from_file = {name: value for name, value in from_file.items() if name not in BUDGETS}
    return {**from_file, **given}


def _from_file(path: str | None) -> dict[str, Any]:
    """The settings of a TOML file, checked; a `[run]` table, as in a run's own config.toml, is passed over."""
    if path is None:
        return {}
    try:
        tables = from_toml(Path(path).read_text(encoding="utf-8"), path)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--config {path} cannot be read: {error}") from None
    tables.pop("run", None)
    Config.from_dict(tables)
    return {name: value for values in tables.values() for name, value in values.items()}

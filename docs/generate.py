"""Writes `docs/settings.md` and `docs/commands.md` from the table of settings and the parser. `make fix` runs it, a test compares.

python docs/generate.py            write both
"""

import argparse
from pathlib import Path
from typing import Any

from elman.cli import build_parser
from elman.config import Option, options

DOCS = Path(__file__).parent

SETTINGS_HEAD = """\
# Settings

Written from the table in `src/elman/config.py` by `docs/generate.py`: do not edit. Each setting is a flag of `elman train`
(`--learning-rate 0.01`), a key of a TOML file (`--config FILE.toml`, and every run's own `config.toml`) and a keyword of
`elman.train_text(..., learning_rate=0.01)`, `elman.train_series` and `elman.Forecaster`. The groups [text] and [series] belong to
the one or the other. Where the default is *chosen*, the value comes from the size of the data and the budget and is written into
the run's `config.toml`. A setting that holds a list takes several values: `--inputs "p (mbar)" "T (degC)"`.
"""

COMMANDS_HEAD = """\
# Commands

Written from the command line's own parser by `docs/generate.py`: do not edit. Every command takes `--help`; `--debug` shows the
traceback of an error, which otherwise is one line and exit status 2. `--json` prints one object on standard output, everything else
goes to standard error. The settings of `elman train` stand in [settings.md](settings.md).
"""


def settings_page() -> str:
    """The table of settings, a section for each group."""
    parts = [SETTINGS_HEAD]
    for group in dict.fromkeys(option.group for option in options()):
        parts.append(f"\n## [{group}]\n\n| setting | default | values | meaning |\n|---|---|---|---|\n")
        parts += [_settings_row(option) for option in options() if option.group == group]
    return "".join(parts)


def commands_page() -> str:
    """Every command with its arguments."""
    parts = [COMMANDS_HEAD]
    for name, parser in _commands(build_parser()):
        parts.append(f"\n## {name}\n\n{parser.description}\n\n| argument | meaning |\n|---|---|\n")
        setting_flags = {option.flag for option in options()} if name.startswith("elman train ") else set()
        for action in parser._actions:
            if not _is_listed(action) or setting_flags & set(action.option_strings):
                continue
            parts.append(f"| {_spelling(action)} | {_help(action)} |\n")
    return "".join(parts)


def _commands(parser: argparse.ArgumentParser) -> list[tuple[str, argparse.ArgumentParser]]:
    found = []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for child in action.choices.values():
                found += [(child.prog.replace(" [-h]", ""), child), *_commands(child)]
    return found


def _is_listed(action: argparse.Action) -> bool:
    hidden = {"-h", "--debug"} & set(action.option_strings)
    return not hidden and not isinstance(action, argparse._SubParsersAction)


def _spelling(action: argparse.Action) -> str:
    value: Any = action.metavar or ("" if action.nargs == 0 else "{" + ",".join(map(str, action.choices or ())) + "}")
    if not action.option_strings:
        more = {"+": " ...", "*": " ..."}.get(str(action.nargs), "")
        return f"`{value}{more}`"
    return f"`{action.option_strings[0]}{' ' + value if value and value != '{}' else ''}`"


def _help(action: argparse.Action) -> str:
    return (action.help or "").replace("%%", "%").replace("|", "\\|")


def _settings_row(option: Option) -> str:
    value = str(option.default).lower() if option.kind is bool else option.default
    default = "*chosen*" if option.default is None else f"`{value}`"
    if option.name in ("minutes", "steps", "epochs"):
        default = "none"
    unit = f", in {option.unit}" if option.unit else ""
    return f"| `{option.name}` | {default} | {option.allowed()}{unit} | {option.help} |\n"


PAGES = {"settings.md": settings_page, "commands.md": commands_page}

if __name__ == "__main__":
    for name, page in PAGES.items():
        (DOCS / name).write_text(page(), encoding="utf-8")

"""The command line: flags made from the table of settings, one place where errors become one line.

This module and `elman --help` load neither JAX nor NumPy; each command's module is imported when the command runs.
"""

import argparse
import importlib
import io
import os
import sys
import textwrap
from collections.abc import Sequence
from typing import Any, NoReturn

import elman
from elman.commands import EXIT_ERROR, EXIT_INTERRUPTED
from elman.commands.export_flags import add_export, add_import
from elman.commands.flags import add_data_dir
from elman.commands.inspect_flags import add_inspect
from elman.config import Option, options, suggestion
from elman.errors import ElmanError, is_out_of_memory

_EPILOG = """\
start here:
  elman demo                                  a tour of three minutes, no network needed
  elman train text MYTEXT.txt                 train a model on your own text
  elman sample runs/MYTEXT-…                  let it write
  elman describe MYTABLE.csv                  what is in a table, and what is wrong with it
  elman train series MYTABLE.csv --target COLUMN --horizon 24h
  elman forecast runs/MYTABLE-…               what comes next

`elman COMMAND --help` explains a command.
"""

_NO_MEMORY = (
    "there is not enough memory: end other programs, or choose a smaller --batch, --hidden or --unroll; "
    "a run goes on from its last checkpoint with `elman train --resume RUN`"
)


class _Parser(argparse.ArgumentParser):
    """Errors are one line, with the nearest flag or command; no abbreviations, so that a slip is never taken for another flag."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("allow_abbrev", False)
        kwargs.setdefault("formatter_class", _formatter)
        super().__init__(*args, **kwargs)

    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_ERROR, f"{self.prog}: error: {message}{self._hint(message)}\n")

    def _hint(self, message: str) -> str:
        if message.startswith("unrecognized arguments: -"):
            word = message.split(": ", 1)[1].split()[0].split("=")[0]
            return suggestion(word, self._option_string_actions)
        if "invalid choice: " in message:
            return suggestion(*_choices(message))
        return f" (see `{self.prog} --help`)"


def _choices(message: str) -> tuple[str, list[str]]:
    """The word and the choices in argparse's "argument COMMAND: invalid choice: 'trian' (choose from 'demo', 'train')"."""
    word, _, choices = message.partition("invalid choice: ")[2].partition(" (choose from ")
    return word.strip("'"), [choice.strip("' )") for choice in choices.split(",")]


def _formatter(prog: str) -> argparse.HelpFormatter:
    return argparse.RawDescriptionHelpFormatter(prog, max_help_position=32, width=100)


def build_parser() -> argparse.ArgumentParser:
    """The parser of every command; `docs/commands.md` is written from it."""
    parser = _Parser(
        prog="elman",
        description="Train, open up and ship recurrent networks (Elman, GRU, LSTM), from one command on a laptop.",
        epilog=_EPILOG,
    )
    parser.add_argument("--version", action="version", version=f"elman {elman.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    _add_demo(commands)
    _add_train(commands)
    _add_launch(commands)
    _add_sample(commands)
    _add_samples(commands)
    _add_describe(commands)
    _add_forecast(commands)
    _add_evaluate(commands)
    _add_backtest(commands)
    add_inspect(commands, _command)
    add_export(commands, _command)
    add_import(commands, _command)
    _add_serve(commands)
    _add_report(commands)
    _add_studio(commands)
    _add_hello(commands)
    _add_info(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command. Returns its exit status: 0, 2 for an error that the user can mend, 130 when interrupted."""
    parser = build_parser()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal that lacks a character is no reason to stop
    parsed = _parse(parser, list(sys.argv[1:] if arguments is None else arguments))
    if parsed.command is None:
        parser.print_help()
        return 0
    try:
        command = importlib.import_module(f"elman.commands.{parsed.module}")
        return int(command.run(parsed) or 0)
    except ElmanError as error:
        if parsed.debug:
            raise
        print(f"elman: error: {' '.join(str(error).split())}", file=sys.stderr)
        return EXIT_ERROR
    except KeyboardInterrupt:
        if parsed.debug:
            raise
        print("elman: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has gone (`elman sample … | head`): there is nobody left to tell.
        # What is still in the buffer would raise again when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if parsed.debug or not is_out_of_memory(error):
            raise
        print(f"elman: error: {_NO_MEMORY}", file=sys.stderr)
        return EXIT_ERROR


def _parse(parser: argparse.ArgumentParser, arguments: list[str]) -> argparse.Namespace:
    """Parse, with unknown flags reported by the command they were given to, so that the nearest of its flags is suggested."""
    parsed, unknown = parser.parse_known_args(arguments)
    if unknown:
        owner = getattr(parsed, "parser", parser)
        owner.error(f"unrecognized arguments: {' '.join(unknown)}")
    return parsed


def _command(
    commands: Any, name: str, summary: str, *, module: str | None = None, description: str = "", **extra: Any
) -> Any:
    """A command's parser with what every command takes."""
    words = textwrap.fill(description or summary, 100, break_on_hyphens=False)
    parser = commands.add_parser(name, help=summary, description=words, **extra)
    parser.set_defaults(module=module or name, parser=parser)
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON object on standard output")


def _add_setting(parser: Any, option: Option) -> None:
    """The flag of one row of the table of settings."""
    unit = f" [{option.unit}]" if option.unit else ""
    default = "chosen for you" if option.default is None else option.default
    if option.many:
        default = " ".join(map(str, option.default)) or "none"
    if option.name in ("minutes", "steps", "epochs"):
        default = "none"
    text = f"{option.help}{unit} (default: {default})".replace("%", "%%")
    if option.kind is bool:
        parser.add_argument(option.flag, action=argparse.BooleanOptionalAction, default=argparse.SUPPRESS, help=text)
        return
    metavar = (
        "{" + ",".join(option.choices) + "}" if option.choices else {int: "N", float: "X", str: "NAME"}[option.kind]
    )
    # Choices and ranges are checked with the rest of the settings, where the nearest name is suggested.
    if option.many:
        parser.add_argument(
            option.flag, type=option.kind, nargs="+", metavar=metavar, default=argparse.SUPPRESS, help=text
        )
        return
    parser.add_argument(option.flag, type=option.kind, metavar=metavar, default=argparse.SUPPRESS, help=text)


def _add_groups(parser: Any, titles: dict[str, str]) -> None:
    """The flags of whole groups of settings, each under its title."""
    for group, title in titles.items():
        section = parser.add_argument_group(title)
        for option in options():
            if option.group == group:
                _add_setting(section, option)


def _add_quiet(parser: Any) -> None:
    parser.add_argument("--quiet", action="store_true", help="show no progress")


def _add_processes(parser: Any) -> None:
    """Where a run's processes meet; the same flags with `elman train` itself and behind the kind."""
    section = parser.add_argument_group("several processes or hosts (docs/scaling.md)")
    section.add_argument(
        "--distributed",
        action="store_true",
        default=argparse.SUPPRESS,
        help="meet the others as SLURM, Open MPI or Kubernetes says",
    )
    section.add_argument(
        "--coordinator",
        metavar="HOST:PORT",
        default=argparse.SUPPRESS,
        help="where process 0 listens: an address that all of them reach",
    )
    section.add_argument(
        "--processes", type=int, metavar="N", default=argparse.SUPPRESS, help="how many processes train together"
    )
    section.add_argument(
        "--process-id",
        type=int,
        metavar="I",
        default=argparse.SUPPRESS,
        help="which of them this is, from 0; 0 keeps the run",
    )


def _add_launch(commands: Any) -> None:
    parser = _command(
        commands,
        "launch",
        "train with several processes on this machine",
        description="Start `elman train …` as several processes on this machine that train together: "
        "`elman launch --processes 2 train text MYTEXT.txt`.",
    )
    parser.add_argument("--processes", type=int, default=2, metavar="N", help="how many (default: 2)")
    parser.add_argument("words", nargs=argparse.REMAINDER, metavar="train …", help="the command that each of them runs")


def _add_demo(commands: Any) -> None:
    parser = _command(
        commands, "demo", "a tour of three minutes: hello, a character model, the weather tomorrow, reports"
    )
    parser.add_argument(
        "--minutes",
        type=float,
        default=1.6,
        metavar="X",
        help="minutes of training, of which a quarter goes to the weather (default: 1.6)",
    )
    parser.add_argument(
        "--run",
        metavar="DIR",
        help="folder of the run on text; that on the weather gets DIR-weather (default: new ones in runs/)",
    )
    add_data_dir(parser, "corpora")


def _add_train(commands: Any) -> None:
    train = _command(
        commands,
        "train",
        "train a network, or go on with a run",
        description="Train a network on text or on a table of measurements, or go on with a run that was stopped: "
        "`elman train --resume RUN`.",
    )
    train.add_argument("--resume", metavar="RUN", help="go on with this run from its last checkpoint, bit for bit")
    _add_quiet(train)
    _add_processes(train)
    train.add_argument("--no-samples", action="store_true", help="show no samples while training (they are still kept)")
    _add_json(train)
    kinds = train.add_subparsers(dest="kind", metavar="KIND", title="what to train on")
    _add_train_text(kinds)
    _add_train_series(kinds)


def _add_train_text(kinds: Any) -> None:
    text = _command(
        kinds,
        "text",
        "a character model of a text",
        module="train",
        description="Train a character model. Without flags: a network that suits the text, three minutes.",
    )
    text.add_argument(
        "inputs",
        nargs="+",
        metavar="INPUT",
        help="files, folders, globs, - for standard input, or a corpus by name: "
        "python-docs, python-source, persian, shakespeare, war-and-peace",
    )
    text.add_argument("--run", metavar="DIR", help="folder of the run (default: a new one in runs/)")
    text.add_argument("--preset", metavar="NAME", help="settings by name: min-char-rnn")
    text.add_argument("--config", metavar="FILE", help="settings from a TOML file; flags go over it")
    text.add_argument("--init", metavar="FILE.npz", help="starting weights: wxh, whh, why, bh, by")
    add_data_dir(text, "corpora")
    _add_quiet(text)
    _add_processes(text)
    text.add_argument("--no-samples", action="store_true", help="show no samples while training (they are still kept)")
    _add_json(text)
    _add_groups(text, {"network": "the network", "training": "training", "text": "text"})


_TABLE_HELP = (
    "a file (CSV, TSV, Parquet, Arrow; packed or not), a folder of such files, a quoted pattern, a database's URI with --query, "
    "or a table by name: jena, jena-2020, weather"
)


def _add_train_series(kinds: Any) -> None:
    series = _command(
        kinds,
        "series",
        "a forecaster of a column of a table",
        module="train",
        description="Train a forecaster. Without more than --target and --horizon: a network that suits the table, at most a "
        "minute. At the end it is scored beside simple methods on the last part of the table, which it has not seen, and the "
        "first line says who wins.",
    )
    series.add_argument("input", metavar="INPUT", help=_TABLE_HELP)
    series.add_argument("--run", metavar="DIR", help="folder of the run (default: a new one in runs/)")
    series.add_argument("--preset", metavar="NAME", help="settings by name: jena, best")
    series.add_argument("--config", metavar="FILE", help="settings from a TOML file; flags go over it")
    add_data_dir(series, "tables")
    series.add_argument("--no-baselines", action="store_true", help="fit no simple methods to compare with")
    _add_quiet(series)
    _add_processes(series)
    _add_json(series)
    _add_groups(series, {"network": "the network", "training": "training", "series": "the table and the forecast"})


def _add_sample(commands: Any) -> None:
    parser = _command(
        commands, "sample", "let a model write", description="Write text with a trained model, as it is made."
    )
    parser.add_argument("model", metavar="RUN|BUNDLE", help="a run folder or a bundle")
    parser.add_argument("--prime", default="", metavar="TEXT", help="text to go on from")
    parser.add_argument("--length", type=int, default=500, metavar="N", help="characters to write (default: 500)")
    parser.add_argument(
        "--temperature",
        type=float,
        default=1.0,
        metavar="T",
        help="below 1 safer, above wilder, 0: the likeliest (default: 1)",
    )
    parser.add_argument(
        "--top-k", type=int, default=0, metavar="K", help="only the K likeliest characters (default: all)"
    )
    parser.add_argument(
        "--top-p", type=float, default=1.0, metavar="P", help="only the likeliest that together hold P (default: 1)"
    )
    parser.add_argument(
        "--min-p", type=float, default=0.0, metavar="P", help="only those at least P times as likely as the likeliest"
    )
    parser.add_argument(
        "--repetition-penalty",
        type=float,
        default=1.0,
        metavar="X",
        help="above 1: avoid the last 64 characters (default: 1)",
    )
    parser.add_argument(
        "--stop", action="append", metavar="TEXT", help="end before this text; may be given several times"
    )
    parser.add_argument("--samples", type=int, default=1, metavar="N", help="how many texts (default: 1)")
    parser.add_argument(
        "--seed", type=int, metavar="N", help="the same seed gives the same text (default: another each time)"
    )
    parser.add_argument(
        "--unknown",
        default="skip",
        choices=("skip", "error"),
        help="characters of --prime that the model does not know (default: skip)",
    )
    _add_json(parser)


def _add_samples(commands: Any) -> None:
    parser = _command(commands, "samples", "the samples of a run, from noise to sentences")
    parser.add_argument("run", metavar="RUN", help="a run folder")
    parser.add_argument("--iteration", type=int, metavar="N", help="only the sample nearest to this update")
    parser.add_argument("--all", action="store_true", help="every sample, not only the milestones")
    _add_json(parser)


_WRITTEN = ("time_column", "series_column", "query", "time_format", "time_zone", "decimal", "refuse")
"""The settings that say how a table is written, which may be another way for new rows than in training."""

_READING = ("target", "inputs", "known", "static", "step", *_WRITTEN)
"""All that say how a table is read."""


def _add_reading(parser: Any, names: tuple[str, ...], title: str) -> None:
    section = parser.add_argument_group(title)
    for option in options():
        if option.name in names:
            _add_setting(section, option)


def _add_describe(commands: Any) -> None:
    parser = _command(
        commands,
        "describe",
        "what is in a table of measurements, and what is wrong with it",
        description="Report on a table before training: times, steps, gaps, repeats, constant columns, numbers that mean "
        "'missing', and what `elman train series` would do about each.",
    )
    parser.add_argument("input", metavar="INPUT", help=_TABLE_HELP)
    parser.add_argument("--output", metavar="FILE.png|.svg", help="draw all columns over time, with the gaps")
    add_data_dir(parser, "tables")
    _add_quiet(parser)
    _add_json(parser)
    _add_reading(parser, _READING, "how the table is read")


def _add_forecast(commands: Any) -> None:
    parser = _command(
        commands,
        "forecast",
        "what comes next, with its uncertainty",
        description="Forecast from the last rows of a table: of the run's own, or of new rows that need no target. What is odd "
        "about new rows (a column in another unit, another range) is said on standard error.",
    )
    parser.add_argument("model", metavar="RUN|BUNDLE", help="a run folder or a bundle")
    parser.add_argument(
        "--data", metavar="NEW", help="recent rows with the columns of the training (default: the run's table)"
    )
    parser.add_argument("--output", metavar="FILE", help="write the forecasts: .csv, .tsv or .parquet")
    parser.add_argument("--picture", metavar="FILE", help="draw the forecast behind its history: .png, .svg or .html")
    add_data_dir(parser, "tables")
    _add_quiet(parser)
    _add_json(parser)
    _add_reading(parser, _WRITTEN, "how NEW is written, where otherwise than in training")


def _add_evaluate(commands: Any) -> None:
    parser = _command(
        commands,
        "evaluate",
        "score a model on what it has not seen",
        description="Score a model beside the baselines: on the held-out part of its own data (a run), or on INPUT. A "
        "forecaster's INPUT is one table: all of it behind the first lookback is scored, and the baselines learn from its "
        "first part, of the size of the training part, which favors them.",
    )
    parser.add_argument("model", metavar="RUN|BUNDLE", help="a run folder or a bundle")
    parser.add_argument(
        "inputs", nargs="*", metavar="INPUT", help="text or a table to score on (default: the run's held-out part)"
    )
    add_data_dir(parser, "corpora and tables")
    parser.add_argument(
        "--unknown",
        default="error",
        choices=("skip", "error"),
        help="characters that the model does not know (default: error)",
    )
    _add_quiet(parser)
    _add_json(parser)
    _add_reading(parser, _WRITTEN, "how a table is written, where otherwise than in training")


def _add_backtest(commands: Any) -> None:
    parser = _command(
        commands,
        "backtest",
        "what a forecaster would have said at many moments of the past",
        description="Forecast at rolling origins and score beside the baselines. Without --refit-every the network is as it is, "
        "and honest behind the rows that it has learned from; with it, the network and every baseline learn anew from the rows "
        "known by then.",
    )
    parser.add_argument("model", metavar="RUN|BUNDLE", help="a run folder or a bundle")
    parser.add_argument("input", nargs="?", metavar="INPUT", help="a table (default: the run's own)")
    parser.add_argument(
        "--stride",
        default="1",
        metavar="LENGTH",
        help="from one origin to the next: a duration or rows (default: 1 row)",
    )
    parser.add_argument(
        "--start",
        metavar="PERCENT|DATE",
        help="the first origin (default: the test part; of INPUT, behind the share that is for training)",
    )
    parser.add_argument(
        "--refit-every",
        type=int,
        metavar="N",
        help="train anew at every N-th origin, at the first too (default: never)",
    )
    parser.add_argument("--output", metavar="FILE", help="write every forecast: .csv, .tsv or .parquet")
    parser.add_argument("--picture", metavar="FILE", help="draw error by horizon, hour and month: .png, .svg or .html")
    add_data_dir(parser, "tables")
    _add_quiet(parser)
    _add_json(parser)
    _add_reading(parser, _WRITTEN, "how INPUT is written, where otherwise than in training")


def _add_serve(commands: Any) -> None:
    parser = _command(
        commands,
        "serve",
        "trained models behind HTTP",
        description="Serve text in OpenAI's shape (/v1/completions), forecasts (/v1/forecast) and sessions of both, until Ctrl-C. "
        "Needs the extra `serve`: pip install 'elman[serve]'.",
    )
    parser.add_argument("models", nargs="+", metavar="[NAME=]RUN|BUNDLE", help="run folders or bundles, by their name")
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1, this machine only)"
    )
    parser.add_argument(
        "--port", type=int, default=8000, metavar="N", help="port, 0 for any that is free (default: 8000)"
    )
    for flag, kind, default, metavar, words in (
        (
            "--api-key-file",
            str,
            None,
            "FILE",
            "ask for one of the keys in this file, one on each line (default: ask for none)",
        ),
        ("--sessions", str, None, "FILE.sqlite", "keep sessions in this file, over a restart (default: in memory)"),
        ("--max-sessions", int, 10_000, "N", "sessions at most (default: 10000)"),
        ("--session-hours", float, 24.0, "X", "a session ends when nobody has touched it for so long (default: 24)"),
        ("--max-tokens", int, 100_000, "N", "symbols of one text at most (default: 100000)"),
        ("--max-streams", int, 4096, "N", "texts in the making at once (default: 4096)"),
        ("--max-body", float, 8.0, "MIB", "size of a request (default: 8)"),
        ("--rate", float, 0.0, "N", "requests per second and client, 0 for any number (default: 0)"),
        ("--time-limit", float, 300.0, "SECONDS", "until an answer must be complete (default: 300)"),
    ):
        parser.add_argument(flag, type=kind, default=default, metavar=metavar, help=words)
    parser.add_argument(
        "--cors", action="append", metavar="ORIGIN", help="a web page that may ask; may be given several times"
    )


def _add_report(commands: Any) -> None:
    parser = _command(
        commands, "report", "write a run's report: one HTML file with its curve and its samples or forecasts"
    )
    parser.add_argument("run", metavar="RUN", help="a run folder")
    parser.add_argument("--output", metavar="FILE.html", help="where to write it (default: RUN/report.html)")


def _add_studio(commands: Any) -> None:
    parser = _command(
        commands,
        "studio",
        "the browser application: runs, training, and a window into the networks",
        description="Open the studio in the browser: watch runs, train, unroll, write, forecast, look inside. Needs the extra: "
        "pip install 'elman[studio]'.",
    )
    parser.add_argument("--runs", default="runs", metavar="DIR", help="folder of the runs (default: runs)")
    parser.add_argument(
        "--host", default="127.0.0.1", metavar="H", help="address to listen on (default: 127.0.0.1, this machine only)"
    )
    parser.add_argument("--port", type=int, metavar="P", help="port (default: 8080, or the next free one)")
    parser.add_argument("--no-browser", action="store_true", help="do not open the browser")
    add_data_dir(parser, "corpora and tables")


def _add_hello(commands: Any) -> None:
    parser = _command(commands, "hello", "the lecture's example with every number: learn to spell hello")
    parser.add_argument("--hidden", type=int, default=3, metavar="N", help="units of the hidden state (default: 3)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the starting weights (default: 0)")
    parser.add_argument("--brief", action="store_true", help="only the main numbers")
    _add_json(parser)


def _add_info(commands: Any) -> None:
    parser = _command(commands, "info", "versions, device, kernels, folders")
    _add_json(parser)


if __name__ == "__main__":
    sys.exit(main())

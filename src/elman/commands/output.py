"""What the commands share in talking to a person or to a program."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console

from elman.errors import RunError
from elman.training.progress import Reporter, reporter_for


def print_json(figures: dict[str, Any]) -> None:
    """One object on standard output, with escapes only where its encoding lacks a character."""
    text = json.dumps(figures, ensure_ascii=False)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(figures)
    print(text)


def console() -> Console:
    """Standard output, for people."""
    return Console(file=sys.stdout, highlight=False, soft_wrap=True)


def narrow_console() -> Console:
    """Standard output for tables and pictures, which keep to its width."""
    return Console(file=sys.stdout, highlight=False)


@contextmanager
def reporting(*, quiet: bool) -> Iterator[Reporter]:
    """Progress on standard error, taken down before anything else is said there."""
    reporter = reporter_for(quiet=quiet)
    try:
        yield reporter
    finally:
        reporter.pause()


def warn(words: str) -> None:
    """One line on standard error about something that a person should know and that stops nothing."""
    print(f"elman: {words}", file=sys.stderr)


def write_text(text: str) -> None:
    """Text on standard output at once, also where the terminal's encoding lacks some of its characters."""
    encoding = sys.stdout.encoding or "utf-8"
    try:
        sys.stdout.write(text.encode(encoding, "replace").decode(encoding))
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise RunError(f"cannot write to standard output: {error.strerror}") from None

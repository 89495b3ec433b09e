"""`elman train`: a network of one kind or the other, `--resume`, and the processes that train together."""

import argparse
import importlib
import signal
from typing import Any

from elman.commands.kinds import kind_of
from elman.errors import ConfigError
from elman.training.distribution import Alone, Group, join, leave, together


def run(parsed: argparse.Namespace) -> int:
    """Train or resume, by the kind that is named or that the run is of; or train along, where another process leads."""
    group = _joined(parsed)
    with together(group):
        status = _lead(parsed, group) if group.leads else _follow(group)
    leave(group, status)
    return status


def _lead(parsed: argparse.Namespace, group: Alone) -> int:
    if parsed.resume is not None:
        if parsed.kind is not None:
            raise ConfigError("--resume goes on with a run as it was: give no further input or settings")
        kind = kind_of(parsed.resume)
    elif parsed.kind is None:
        raise ConfigError(
            "say what to train on (`elman train text INPUT`, `elman train series INPUT`) or which run to go on with "
            "(`elman train --resume RUN`)"
        )
    else:
        kind = parsed.kind
    parsed.group = group
    group.send_text(kind)
    return int(importlib.import_module(f"elman.commands.train_{kind}").run(parsed))


def _joined(parsed: argparse.Namespace) -> Alone:
    """The processes that train together, by what the flags say; this one alone where they say nothing."""
    given: dict[str, Any] = {name: getattr(parsed, name, None) for name in ("coordinator", "processes", "process_id")}
    if given["coordinator"] or given["processes"] or given["process_id"] is not None:
        missing = [f"--{name.replace('_', '-')}" for name, value in given.items() if value is None]
        if missing:
            raise ConfigError(
                f"processes meet by --coordinator, --processes and --process-id: {', '.join(missing)} is missing"
            )
        coordinator, count, number = given.values()
        if not 0 <= int(number) < int(count):
            raise ConfigError(f"--process-id {number} is none of {count} processes: they are counted from 0")
        return join(str(coordinator), int(count), int(number)) if int(count) > 1 else Alone()
    return join() if getattr(parsed, "distributed", False) else Alone()


def _follow(group: Alone) -> int:
    """Train along. Ctrl-C is the leader's to answer: it tells the others."""
    assert isinstance(group, Group)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    kind = group.send_text("")
    if kind == "series":
        importlib.import_module("elman.series.trainer").follow_series(group)
    elif kind == "text":
        importlib.import_module("elman.text.trainer").follow_text(group)
    return 0

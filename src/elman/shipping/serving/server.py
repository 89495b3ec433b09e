"""The process: a socket, uvicorn, logs as lines of JSON, an end that finishes what runs."""

import contextlib
import json
import logging
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import uvicorn

from elman.errors import ConfigError
from elman.shipping.serving.application import application
from elman.shipping.serving.hosting import Host
from elman.shipping.serving.protection import Keys, Limits
from elman.shipping.serving.store import Store

LOOPBACK = ("127.0.0.1", "localhost", "::1", "[::1]")

BACKLOG = 4096


def serve(
    words: Sequence[str],
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    keys: Keys | None = None,
    limits: Limits | None = None,
    origins: Sequence[str] = (),
    sessions: Path | None = None,
    most_sessions: int = 10_000,
    session_seconds: float = 24 * 3600.0,
    report: Callable[[str], None] = lambda line: None,
) -> None:
    """Serve bundles or run folders until SIGTERM or Ctrl-C, then finish what runs.

    report: told about every model, and where the server listens. port: 0 for any that is free.

    Raises: what loading the models raises; `ConfigError` for an address that cannot be had, `RunError` for sessions that cannot.
    """
    limits = limits or Limits()
    listening = _socket(host, port)  # first: nobody waits for a model to be told that the port is taken
    try:
        models = Host(words, report=report)
        store = Store(sessions, most=most_sessions, age=session_seconds)
        app = application(models, store, keys=keys, limits=limits, origins=origins)
        _log_lines()
        _allow_many_files()
        address = f"[{host}]" if ":" in host else host
        report(f"listening on http://{address}:{listening.getsockname()[1]}/v1 (Ctrl-C ends it)")
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            ws="none",
            backlog=BACKLOG,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=int(limits.seconds) + 5,
        )
        # uvicorn raises the signal again once it has ended: that is the end we want, not a failure.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)
        sys.setswitchinterval(0.001)  # a first symbol waits for a thread no longer than that
        uvicorn.Server(config).run(sockets=[listening])
    finally:
        listening.close()


def _socket(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except (OSError, OverflowError) as error:
        raise ConfigError(f"cannot listen on {host}:{port}: {error}; choose others with --host and --port") from None


class _Lines(logging.Formatter):
    """A line of JSON for each record; those of requests are JSON already."""

    def format(self, record: logging.LogRecord) -> str:
        if record.name == "elman.serving":
            return record.getMessage()
        facts = {"time": round(time.time(), 3), "event": "server", "level": record.levelname.lower()}
        trace = {"traceback": self.formatException(record.exc_info)} if record.exc_info else {}
        return json.dumps({**facts, "message": record.getMessage(), **trace})


def _log_lines() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Lines())
    for name, level in (("elman.serving", logging.INFO), ("uvicorn", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(level)


def _allow_many_files() -> None:
    """Thousands of connections are thousands of open files."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 65_536)), hard))

"""`elman serve`: trained models behind HTTP."""

import argparse
import sys
from pathlib import Path

from elman.errors import ConfigError
from elman.training.engine import use_compilation_cache


def run(parsed: argparse.Namespace) -> int:
    """Serve until somebody ends it."""
    try:
        from elman.shipping.serving.protection import Keys, Limits
        from elman.shipping.serving.server import LOOPBACK, serve
    except ModuleNotFoundError as error:
        raise ConfigError(f"serving needs {error.name}, which is not installed: pip install 'elman[serve]'") from None
    _check(parsed)
    use_compilation_cache()
    keys = Keys.read(parsed.api_key_file)
    local = parsed.host in LOOPBACK
    if not local and not keys:
        print(
            f"elman: whoever reaches {parsed.host} may ask: --api-key-file FILE lets in whom you know", file=sys.stderr
        )
    limits = Limits(
        body=int(parsed.max_body * 2**20),
        seconds=parsed.time_limit,
        rate=parsed.rate,
        symbols=parsed.max_tokens,
        streams=parsed.max_streams,
        hosts=LOOPBACK if local else (),
    )
    serve(
        parsed.models,
        host=parsed.host,
        port=parsed.port,
        keys=keys,
        limits=limits,
        origins=parsed.cors or (),
        sessions=None if parsed.sessions is None else Path(parsed.sessions),
        most_sessions=parsed.max_sessions,
        session_seconds=parsed.session_hours * 3600,
        report=lambda line: print(f"elman: {line}", file=sys.stderr, flush=True),
    )
    return 0


def _check(parsed: argparse.Namespace) -> None:
    """Refuse numbers that make no sense."""
    for name, least, most in (
        ("port", 0, 65_535),
        ("max_body", 0.001, 1024),
        ("time_limit", 0.1, 86_400),
        ("rate", 0, 1e6),
        ("max_tokens", 1, 1_000_000),
        ("max_streams", 1, 100_000),
        ("max_sessions", 0, 1_000_000),
        ("session_hours", 0.001, 24 * 3660),
    ):
        value = getattr(parsed, name)
        if not least <= value <= most:
            raise ConfigError(f"--{name.replace('_', '-')} {value} is out of range: from {least} to {most}")

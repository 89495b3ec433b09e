"""`elman info`: what this installation is and which path computes."""

import argparse
import os
from importlib import metadata
from typing import Any

from elman.commands.output import console, print_json
from elman.training.bundle import made_with
from elman.training.cache import default_cache_folder


def run(parsed: argparse.Namespace) -> int:
    """Print versions, device, kernel path and folders."""
    figures = facts()
    if parsed.json:
        print_json(figures)
        return 0
    screen = console()
    for name, value in figures.items():
        screen.print(f"{name.replace('_', ' '):>16}  {value}", markup=False)
    return 0


def facts() -> dict[str, Any]:
    """The same as plain values."""
    import jax

    from elman.network import kernels

    devices = ", ".join(sorted({f"{device.platform} ({device.device_kind})" for device in jax.devices()}))
    versions = {name: metadata.version(name) for name in ("equinox", "optax")}
    made = {key: value for key, value in made_with().items() if key not in ("time", "utc", "made_at")}
    return {
        **made,
        **versions,
        "device": devices,
        "processors": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "recurrence": str(kernels.status()),
        "cache_folder": str(default_cache_folder("text")),
        "data_folder": os.environ.get("ELMAN_DATA", "not set (ELMAN_DATA or --data-dir)"),
    }

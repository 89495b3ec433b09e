"""Preparing a table in a process of its own: what allocators keep of the memory it takes would otherwise be lacking in training.

The process reads one line, says how far it is or what is wrong, a line each, and ends when the process that started it is gone.
"""

import dataclasses
import json
import os
import subprocess
import sys
import threading
from typing import Any

from elman.config import SeriesSettings
from elman.errors import ConfigError, DataError
from elman.series.mapped.building import Progress, find_mapped, prepare_mapped
from elman.series.mapped.choosing import LargeTable, large_table
from elman.series.mapped.storing import MappedTable

_ERRORS = {"ConfigError": ConfigError, "DataError": DataError}


def mapped_table(table: LargeTable, settings: SeriesSettings, progress: Progress) -> MappedTable:
    """The table as it was prepared before, or as it is prepared now.

    Raises: `DataError` for what is wrong with the table, a disk without enough room, and files that change meanwhile.
    """
    if found := find_mapped(table, settings):
        return found
    order = json.dumps({"source": table.name, "settings": dataclasses.asdict(settings)}) + "\n"
    command = [sys.executable, "-m", "elman.series.mapped.preparing"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(order)
            process.stdin.flush()
            for line in process.stdout:
                told = json.loads(line)
                if "error" in told:
                    raise _ERRORS.get(told["error"], DataError)(told["message"])
                progress(told["stage"], told["share"])
        finally:
            process.kill()
    found = find_mapped(table, settings)
    if found is None:
        raise DataError(
            f"preparing {table.name} ended before it was done (status {process.returncode}): the same command goes on from there; "
            f"where memory was short, give less with ELMAN_MEMORY"
        )
    return found


def _say(what: dict[str, Any]) -> None:
    os.write(1, json.dumps(what).encode() + b"\n")


def _end_with_parent() -> None:
    """Wait for the end of the input, which comes when the process that started this one is gone, however it went."""
    sys.stdin.read()
    os._exit(1)


def main() -> None:
    """Prepare what the first line of the input asks for."""
    order = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in order["settings"].items()
    }
    settings = SeriesSettings(**values)
    try:
        table = large_table(order["source"], settings)
        if table is None:
            raise DataError(f"{order['source']} changed while it was read: start again when nothing writes to it")
        prepare_mapped(table, settings, lambda stage, share: _say({"stage": stage, "share": share}))
    except (ConfigError, DataError) as error:
        _say({"error": type(error).__name__, "message": str(error)})
    except MemoryError:
        _say(
            {
                "error": "DataError",
                "message": "memory was too short for preparing the table: give less with ELMAN_MEMORY",
            }
        )


if __name__ == "__main__":
    main()

"""`elman launch`: the processes of one run, started on this machine."""

import argparse
import os
import signal
import socket
import subprocess
import sys
import time

from elman.commands import EXIT_ERROR
from elman.errors import ConfigError

GRACE_SECONDS = 45.0
"""How long the others may take to notice that a process is gone before they are stopped."""


def run(parsed: argparse.Namespace) -> int:
    """Start the processes, wait for them, and stop all of them where one fails; the exit status of the first one."""
    words = parsed.words[1:] if parsed.words[:1] == ["--"] else parsed.words
    if words[:1] != ["train"]:
        raise ConfigError("say what to launch: `elman launch --processes 2 train text MYTEXT.txt`")
    if not 1 <= parsed.processes <= 1024:
        raise ConfigError(f"--processes {parsed.processes} is out of range: from 1 to 1024")
    processes = _start(words, parsed.processes)
    try:
        return _wait(processes)
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()


def _start(words: list[str], count: int) -> list[subprocess.Popen]:
    """Process 0 has the terminal; what the others say matters only where they fail, and then it is said by process 0 too."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "2"}  # the runtime's own log is about features of its own
    environment = {"ELMAN_THREADS": str(max(1, cores // count)), **quiet, **os.environ}
    coordinator = f"127.0.0.1:{_free_port()}"
    # Behind `train`, before the kind: what a user wrote stays as it is.
    meeting = ["--coordinator", coordinator, "--processes", str(count)]
    commands = [
        [sys.executable, "-m", "elman", "train", *meeting, "--process-id", str(number), *words[1:]]
        for number in range(count)
    ]
    # The others are in a session of their own: Ctrl-C is for the first one, which tells them.
    return [
        subprocess.Popen(
            command,
            env=environment,
            stdin=None if number == 0 else subprocess.DEVNULL,
            stdout=None if number == 0 else subprocess.DEVNULL,
            stderr=None if number == 0 else subprocess.DEVNULL,
            start_new_session=number > 0,
        )
        for number, command in enumerate(commands)
    ]


def _wait(processes: list[subprocess.Popen]) -> int:
    """Until all have ended; where one fails, the others get some time to say so themselves."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first process has heard it too, and answers it
    try:
        failed_at = None
        while any(process.poll() is None for process in processes):
            if any(process.poll() for process in processes) or processes[0].poll() is not None:
                failed_at = failed_at or time.monotonic()
                if time.monotonic() - failed_at > GRACE_SECONDS:
                    break
            time.sleep(0.1)
    finally:
        signal.signal(signal.SIGINT, before)
    statuses = [process.poll() for process in processes]
    for number, status in enumerate(statuses):
        if status is not None and status < 0:
            print(
                f"elman: process {number} of {len(statuses)} was ended by signal {-status}; nothing behind the last checkpoint is "
                f"kept: go on with `elman launch --processes {len(statuses)} train --resume RUN`",
                file=sys.stderr,
            )
    first = statuses[0]
    return EXIT_ERROR if first is None or first < 0 or (first == 0 and any(statuses)) else first


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])

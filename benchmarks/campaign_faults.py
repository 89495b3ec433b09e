"""Part of `campaign.py`: full, read-only and slow disks, leaping clocks, too little memory. What each did to runs of both kinds.

Disks are made full and read-only for real (a small file system in memory, where the rights allow to mount one) and at random
operations (`campaign_shim.c`). After each fault the run is gone on with as a person would, and compared with an undisturbed one.
"""

import errno
import os
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from campaign_runs import DEADLINE_SECONDS, Ended, Reference, Workshop, damage, differences, limited, shim
from elman.training.runs import Run

CLOCK_DAYS = 40
SLOW_MICROSECONDS = 30_000

REPEATABLE = ("clock that leaps, budget in updates", "clock that leaps, budget in minutes", "slow disk")
"""Two tries of these are enough: nothing in them is drawn."""


@dataclass
class Fault:
    """What came of one fault on one case."""

    tries: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    identical: int = 0
    wrong: list[str] = field(default_factory=list)
    skipped: str = ""

    def plain(self) -> dict[str, Any]:
        """As JSON knows it."""
        return {**vars(self), "outcomes": dict(self.outcomes)}


class Campaign:
    """Every fault on every reference, as long as there is time."""

    def __init__(
        self, workshop: Workshop, found: list[Reference], until: float, tries: int, generator: random.Random
    ) -> None:
        self.workshop, self.found, self.until = workshop, found, until
        self.tries, self.random, self.number = tries, generator, 0
        self.library = shim(workshop.folder)
        self.mounts = may_mount(workshop.folder)
        self.operations: dict[str, int] = {}

    def run(self, only: list[str] | None) -> dict[str, dict[str, Fault]]:
        """By fault and case, what came of it; of all faults, or of some by name."""
        faults: dict[str, Callable[[Reference, Fault, int], None]] = {
            "clock that leaps, budget in updates": self.leaping_clock,
            "clock that leaps, budget in minutes": self.leaping_clock_in_minutes,
            "slow disk": self.slow_disk,
            "slow disk, killed": self.killed_on_a_slow_disk,
            "full disk": self.full_disk,
            "full disk from a random operation on": self.full_from_an_operation,
            "one error of the disk at a random operation": self.one_error,
            "killed at a random operation of the disk": self.killed_at_an_operation,
            "killed at a random operation on the cache": self.killed_at_the_cache,
            "cache on a full disk": self.full_cache,
            "read-only disk": self.read_only_disk,
            "folder that nobody may write": self.locked_folder,
            "little address space": self.little_memory,
        }
        faults = {name: fault for name, fault in faults.items() if only is None or name in only}
        results = {name: {reference.case.name: Fault() for reference in self.found} for name in faults}
        # Every fault once before any is tried again, so that a campaign whose time is up has tried all of them.
        for at in range(self.tries):
            for name, fault in faults.items():
                for reference in self.found:
                    result = results[name][reference.case.name]
                    known = len(result.wrong)
                    if time.monotonic() < self.until and not result.skipped and (at < 2 or name not in REPEATABLE):
                        fault(reference, result, at)
                    said = result.skipped or dict(result.outcomes)
                    print(f"{name}, {reference.case.kind}: {said}", *result.wrong[known:], flush=True)
        return results

    # --- what is shared -------------------------------------------------------------------------------------------------------

    def fresh(self) -> Path:
        """A place for a run."""
        self.number += 1
        return self.workshop.folder / f"fault-{self.number}" / "run"

    def judge(self, reference: Reference, result: Fault, path: Path, ended: Ended, *, allowed: tuple[str, ...]) -> None:
        """The fault is gone: look at what it left, go on, compare."""
        result.tries += 1
        result.outcomes[ended.in_words] += 1
        about = f"{path.parent.name}, {ended.in_words}"
        if ended.in_words not in allowed:
            result.wrong.append(f"{about}: {ended.errors[-400:].strip()}")
        if damaged := damage(path):
            result.wrong.append(f"{about}: damaged: {damaged}")
        again = self.workshop.run(reference.case, path)
        if again.status:
            result.wrong.append(f"{about}: afterwards: {again.errors[-400:].strip()}")
        elif differing := differences(path, reference.path, reference.case):
            result.wrong.append(f"{about}: differs: {differing}")
        else:
            result.identical += 1

    def with_shim(self, path: Path, **more: str) -> dict[str, str]:
        """The environment of a process whose files below `path` (and clock) are disturbed."""
        return {"LD_PRELOAD": str(self.library), "FAULT_ROOT": str(path), **more}

    def operation(self, reference: Reference, root: str) -> int:
        """One of the operations that an undisturbed run makes; the first process of a case counts them."""
        key = f"{reference.case.name} {root}"
        if key not in self.operations:
            path, count = self.fresh(), self.workshop.folder / "count"
            path.parent.mkdir()
            cache = path.parent / "cache"
            more = {"XDG_CACHE_HOME": str(cache)} if root == "cache" else {}
            watched = cache if root == "cache" else path
            ended = self.workshop.run(reference.case, path, **self.with_shim(watched, FAULT_COUNT=str(count)), **more)
            assert ended.status == 0, ended.errors
            self.operations[key] = int(count.read_text())
            shutil.rmtree(path.parent)
        return self.random.randint(1, self.operations[key])

    def at_operation(
        self, reference: Reference, result: Fault, deed: str, allowed: tuple[str, ...], number: int = errno.ENOSPC
    ) -> None:
        """A run whose disk does `deed` at a random operation."""
        if self.library is None:
            result.skipped = "no C compiler"
            return
        place, path = str(self.operation(reference, "run")), self.fresh()
        path.parent.mkdir()
        more = {"FAULT_DO": deed, "FAULT_AT": place, "FAULT_ERRNO": str(number)}
        ended = self.workshop.run(reference.case, path, **self.with_shim(path, **more))
        self.judge(reference, result, path, ended, allowed=allowed)
        shutil.rmtree(path.parent)

    # --- the faults -----------------------------------------------------------------------------------------------------------

    def full_from_an_operation(self, reference: Reference, result: Fault, at: int) -> None:
        """No space from some operation on."""
        self.at_operation(reference, result, "fail", ("refused in one line", "went on to the end"))

    def one_error(self, reference: Reference, result: Fault, at: int) -> None:
        """One operation fails, and all others succeed."""
        number = (errno.EIO, errno.ENOSPC, errno.EDQUOT)[at % 3]
        self.at_operation(reference, result, "once", ("refused in one line", "went on to the end"), number)

    def killed_at_an_operation(self, reference: Reference, result: Fault, at: int) -> None:
        """Ended before an operation, or in the middle of a write."""
        self.at_operation(reference, result, ("kill", "half")[at % 2], ("ended by SIGKILL", "went on to the end"))

    def killed_at_the_cache(self, reference: Reference, result: Fault, at: int) -> None:
        """The same while the text is encoded and programs are compiled; whatever the cache then holds is used by the next."""
        self._cache(reference, result, ("kill", "half")[at % 2], ("ended by SIGKILL", "went on to the end"))

    def full_cache(self, reference: Reference, result: Fault, at: int) -> None:
        """The disk of the cache is full from some operation on."""
        self._cache(reference, result, "fail", ("refused in one line", "went on to the end"))

    def _cache(self, reference: Reference, result: Fault, deed: str, allowed: tuple[str, ...]) -> None:
        if self.library is None:
            result.skipped = "no C compiler"
            return
        place, path = str(self.operation(reference, "cache")), self.fresh()
        cache = path.parent / "cache"
        cache.mkdir(parents=True)
        more = {"FAULT_DO": deed, "FAULT_AT": place, "XDG_CACHE_HOME": str(cache)}
        ended = self.workshop.run(reference.case, path, **self.with_shim(cache, **more))
        usual, self.workshop.cache = self.workshop.cache, cache
        try:
            self.judge(reference, result, path, ended, allowed=allowed)
        finally:
            self.workshop.cache = usual
        shutil.rmtree(path.parent)

    def slow_disk(self, reference: Reference, result: Fault, at: int) -> None:
        """Every operation takes a while."""
        self._disturbed(reference, result, FAULT_SLOW=str(SLOW_MICROSECONDS))

    def leaping_clock(self, reference: Reference, result: Fault, at: int) -> None:
        """The clock of the day goes forward and back by weeks, once a second."""
        self._disturbed(reference, result, FAULT_CLOCK=str(CLOCK_DAYS))

    def _disturbed(self, reference: Reference, result: Fault, **more: str) -> None:
        if self.library is None:
            result.skipped = "no C compiler"
            return
        path = self.fresh()
        path.parent.mkdir()
        ended = self.workshop.run(reference.case, path, **self.with_shim(path, **more))
        self.judge(reference, result, path, ended, allowed=("went on to the end",))
        shutil.rmtree(path.parent)

    def killed_on_a_slow_disk(self, reference: Reference, result: Fault, at: int) -> None:
        """Most of the time such a run is inside an operation of its disk when it is killed."""
        if self.library is None:
            result.skipped = "no C compiler"
            return
        path = self.fresh()
        path.parent.mkdir()
        more = self.with_shim(path, FAULT_SLOW=str(SLOW_MICROSECONDS))
        process = self.workshop.start(self.workshop.arguments(reference.case, path), **more)
        process.ended_within(self.random.uniform(0.5, 2) * reference.seconds)
        self.judge(reference, result, path, process.kill(), allowed=("ended by SIGKILL", "went on to the end"))
        shutil.rmtree(path.parent)

    def leaping_clock_in_minutes(self, reference: Reference, result: Fault, at: int) -> None:
        """A budget of six seconds is six seconds long, whatever the clock of the day says; also when it is killed on the way."""
        if self.library is None:
            result.skipped = "no C compiler"
            return
        path = self.fresh()
        path.parent.mkdir()
        arguments = self.workshop.arguments(reference.case, path)
        place = arguments.index("--steps")
        arguments[place : place + 2] = ["--minutes", "0.1"]
        disturbed = self.with_shim(path, FAULT_CLOCK=str(CLOCK_DAYS))
        process = self.workshop.start(arguments, **disturbed)
        if at % 2:
            process.ended_within(reference.seconds)
            process.kill()
            ended = self.workshop.run(reference.case, path, **disturbed)
        else:
            ended = process.end(DEADLINE_SECONDS)
        result.tries += 1
        result.outcomes[ended.in_words] += 1
        elapsed = (
            [event["elapsed"] for event in Run(path).events() if "elapsed" in event] if ended.status == 0 else [-1.0]
        )
        if elapsed == sorted(elapsed) and 6 <= elapsed[-1] < 12:
            result.identical += 1
        else:
            result.wrong.append(f"{path.parent.name}: {elapsed[-1]} s of 6: {ended.errors[-300:].strip()}")
        shutil.rmtree(path.parent)

    def full_disk(self, reference: Reference, result: Fault, at: int) -> None:
        """A file system that is too small by more or less."""
        if not self.mounts:
            result.skipped = "no right to mount"
            return
        size = sum(file.stat().st_size for file in reference.path.rglob("*") if file.is_file())
        path = self.fresh()
        share = (at + self.random.random()) / self.tries
        with Mounted(path.parent, 16384 + int(share * 1.2 * size)) as disk:
            ended = self.workshop.run(reference.case, path)
            disk.again(f"size={8 * size + 2**20}")
            self.judge(reference, result, path, ended, allowed=("refused in one line", "went on to the end"))

    def read_only_disk(self, reference: Reference, result: Fault, at: int) -> None:
        """A disk that may only be read: before the run (even tries), or when it is gone on with after a kill."""
        if not self.mounts:
            result.skipped = "no right to mount"
            return
        path = self.fresh()
        with Mounted(path.parent, 2**26) as disk:
            if at % 2:
                process = self.workshop.start(self.workshop.arguments(reference.case, path))
                process.ended_within(self.random.uniform(0.6, 1) * reference.seconds)
                process.kill()
            disk.again("ro")
            ended = self.workshop.run(reference.case, path)
            disk.again("rw")
            self.judge(reference, result, path, ended, allowed=("refused in one line", "went on to the end"))

    def locked_folder(self, reference: Reference, result: Fault, at: int) -> None:
        """The run's folder, or that of its checkpoints, loses its permission to be written while the run is at work."""
        path = self.fresh()
        path.parent.mkdir()
        prefix = without_override()
        if prefix is None:
            result.skipped = "no setpriv, and root may write everywhere"
            return
        process = self.workshop.start(self.workshop.arguments(reference.case, path), prefix=prefix)
        process.ended_within(self.random.uniform(0.4, 0.9) * reference.seconds)
        locked = [folder for folder in (path / "checkpoints", *([path] if at % 2 else [])) if folder.is_dir()]
        for folder in locked:
            folder.chmod(0o555)
        ended = process.end(DEADLINE_SECONDS)
        for folder in locked:
            folder.chmod(0o755)
        self.judge(reference, result, path, ended, allowed=("refused in one line", "went on to the end"))
        shutil.rmtree(path.parent)

    def little_memory(self, reference: Reference, result: Fault, at: int) -> None:
        """An address space that is too small by more or less; libraries that find none end the process, and say so themselves."""
        path = self.fresh()
        path.parent.mkdir()
        size = int(2**28 * 2 ** (5 * (at + self.random.random()) / self.tries))
        ended = self.workshop.run(reference.case, path, prefix=limited(size))
        allowed = ("refused in one line", "went on to the end", "ended by SIGABRT", "ended by SIGSEGV")
        self.judge(reference, result, path, ended, allowed=allowed)
        shutil.rmtree(path.parent)


class Mounted:
    """A small file system in memory at a folder, for as long as a `with` lasts."""

    def __init__(self, folder: Path, size: int) -> None:
        self.folder, self.size = folder, size

    def __enter__(self) -> "Mounted":
        self.folder.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={self.size}", "elman-campaign", self.folder], check=True)
        return self

    def again(self, options: str) -> None:
        """Mount it with other options."""
        subprocess.run(["mount", "-o", f"remount,{options}", self.folder], check=True)

    def __exit__(self, *_: object) -> None:
        subprocess.run(["umount", "--lazy", self.folder], check=True)
        self.folder.rmdir()


def may_mount(folder: Path) -> bool:
    """Whether file systems can be mounted here."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0 or shutil.which("mount") is None:
        return False
    try:
        with Mounted(folder / "probe", 65536):
            return True
    except (subprocess.CalledProcessError, OSError):
        return False


def without_override() -> tuple[str, ...] | None:
    """What a command begins with so that permissions hold for it: nothing for ordinary people; None where that cannot be had."""
    if os.geteuid() != 0:
        return ()
    program = shutil.which("setpriv")
    return None if program is None else (program, "--bounding-set=-dac_override,-dac_read_search", "--")


def in_own_mounts() -> None:
    """Begin this program again where what it mounts is seen by nobody else, and is gone with it, if that can be had."""
    program = shutil.which("unshare")
    if program and os.geteuid() == 0 and "CAMPAIGN_UNSHARED" not in os.environ:
        probe = subprocess.run([program, "--mount", "true"], capture_output=True)
        if probe.returncode == 0:
            os.environ["CAMPAIGN_UNSHARED"] = "1"
            os.execv(program, [program, "--mount", sys.executable, *sys.argv])

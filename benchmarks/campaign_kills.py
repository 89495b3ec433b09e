"""Part of `campaign.py`: training processes killed with SIGKILL at random moments, gone on with, and compared."""

import random
import shutil
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from campaign_runs import DEADLINE_SECONDS, Ended, Process, Reference, Trace, Workshop, damage, differences, phase

MOST_KILLS_OF_A_RUN = 8
"""Then it may end: a run whose process never lives long enough to reach its next checkpoint would go on for ever."""


@dataclass
class Kills:
    """What came of one case."""

    seconds: float = 0.0
    runs: int = 0
    kills: int = 0
    identical: int = 0
    phases: Counter[str] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)

    def plain(self, earlier: dict[str, Any]) -> dict[str, Any]:
        """As JSON knows it, with what came of earlier ones of the same case."""
        own = {**vars(self), "phases": self.phases + Counter(earlier.get("phases", {}))}
        sums = {name: own[name] + earlier[name] for name in ("runs", "kills", "identical", "lost") if name in earlier}
        return {**own, **sums}


def kill_at_random(
    workshop: Workshop, found: list[Reference], kills: int, until: float, generator: random.Random
) -> dict[str, Kills]:
    """One run of each case in turn, until so many processes have been killed or the time is up."""
    results = {reference.case.name: Kills(reference.seconds) for reference in found}
    number = 0
    while sum(result.kills for result in results.values()) < kills and time.monotonic() < until:
        reference = found[number % len(found)]
        path = workshop.folder / f"killed-{number}"
        result = results[reference.case.name]
        kill_one(workshop, reference, path, result, generator)
        number += 1
        total = sum(each.kills for each in results.values())
        print(f"{total} kills, {number} runs: {reference.case.name}", *result.lost[-1:], flush=True)
    return results


def kill_one(workshop: Workshop, reference: Reference, path: Path, result: Kills, generator: random.Random) -> None:
    """One run, killed again and again until it ends; then compared.

    Half of the moments are drawn from the whole life of an undisturbed run, of which much is spent starting; for the other half the
    clock begins with the first event that the process logs.
    """
    result.runs += 1
    killed = 0
    while True:
        before = Trace.of(path)
        process = workshop.start(workshop.arguments(reference.case, path))
        last = killed == MOST_KILLS_OF_A_RUN
        if not last and generator.random() < 0.5:
            wait_for_an_event(process, path, before)
        if process.ended_within(DEADLINE_SECONDS if last else generator.uniform(0, result.seconds)):
            ended = process.end(DEADLINE_SECONDS)
            if killed == 0:
                result.seconds = ended.seconds  # a machine with other work is not always as slow
            break
        ended = process.kill()
        if ended.status != -9:  # it ended in the very moment
            break
        if last:
            break
        killed += 1
        result.kills += 1
        result.phases[phase(path, before)] += 1
        if wrong := damage(path):
            result.lost.append(f"damaged after a kill: {wrong}")
    judge(reference, path, ended, result)


def wait_for_an_event(process: Process, path: Path, before: Trace) -> None:
    """Return when the process has logged something, or has ended."""
    while Trace.of(path).events == before.events and not process.ended_within(0.05):
        pass


def judge(reference: Reference, path: Path, ended: Ended, result: Kills) -> None:
    """Count a run that is over; it is removed where it is as it should be."""
    if ended.status != 0:
        result.lost.append(f"{path.name} {ended.in_words}: {ended.errors[-300:].strip()}")
    elif wrong := differences(path, reference.path, reference.case):
        result.lost.append(f"{path.name} differs: {wrong}")
    else:
        result.identical += 1
        shutil.rmtree(path)

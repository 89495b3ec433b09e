"""A campaign of faults: training runs of both kinds are killed, starved of disk, memory and time, gone on with, and compared.

python benchmarks/campaign.py                             200 kills, every fault, damaged input; ten minutes at most for each
python benchmarks/campaign.py --only kills --kills 20 --minutes 5
python benchmarks/campaign.py --only faults --keep DIR    what went wrong stays there to be looked at
python benchmarks/campaign.py --only dependencies         the suite with the lowest and the newest versions; needs a registry

Each run is compared with the same run undisturbed: losses, validations, samples, weights, the state of the optimizer, scores, bit
for bit. Results go to `results/campaign.json`, and from there into the tables of `docs/reliability.md` (`--page` does only that);
the exit status is 1 where anything went wrong. A part that is not run keeps the results that it had.
"""

import argparse
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from campaign_faults import Campaign, in_own_mounts
from campaign_kills import kill_at_random
from campaign_runs import CASES, Workshop, references
from measuring import RESULTS, machine

PAGE = Path(__file__).parents[1] / "docs" / "reliability.md"
BEGIN, END = "<!-- written by benchmarks/campaign.py: begin -->\n", "<!-- end -->\n"
FAULT_CASES = (CASES[0], CASES[4])
TRIES = 6


def main() -> None:
    """Parse, run what is asked for, write, exit."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=("kills", "faults", "fuzzing", "dependencies"))
    parser.add_argument("--kills", type=int, default=200, help="processes to be killed (default: %(default)s)")
    parser.add_argument("--add", action="store_true", help="add the kills to those that are in the results")
    parser.add_argument("--tries", type=int, default=TRIES, help="of each fault on each kind (default: %(default)s)")
    parser.add_argument(
        "--fault", action="append", help="only this one (its name in the table); the others keep their results"
    )
    parser.add_argument("--minutes", type=float, default=10.0, help="for each part at most (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=None, help="of the moments; not given: others at every call")
    parser.add_argument("--keep", type=Path, help="a new folder for the runs, of which those that went wrong stay")
    parser.add_argument("--page", action="store_true", help="only write the page from the results that are there")
    parsed = parser.parse_args()
    if not parsed.page:
        in_own_mounts()
        wrong = campaign(parsed)
        write_page()
        for words in wrong:
            print(words)
        sys.exit(1 if wrong else 0)
    write_page()


def campaign(parsed: argparse.Namespace) -> list[str]:
    """Both parts, or one; what went wrong."""
    seed = random.SystemRandom().randrange(2**32) if parsed.seed is None else parsed.seed
    wrong: list[str] = []
    about = {**machine(), "system": f"{platform.system()} {platform.release()}", "seed": seed}
    with tempfile.TemporaryDirectory(prefix="campaign-") as temporary:
        workshop = Workshop(parsed.keep or Path(temporary))
        cases = {None: CASES, "kills": CASES, "faults": FAULT_CASES}.get(parsed.only, ())
        found = references(workshop, cases)
        if parsed.only in (None, "kills"):
            began = time.monotonic()
            kills = kill_at_random(workshop, found, parsed.kills, began + 60 * parsed.minutes, random.Random(seed))
            others = results().get("kills", {}) if parsed.add else {}
            by_case = {name: result.plain(others.get("by_case", {}).get(name, {})) for name, result in kills.items()}
            minutes = round(minutes_since(began) + others.get("minutes", 0.0), 1)
            save("kills", {"about": about, "minutes": minutes, "by_case": by_case})
            wrong += [f"{name}: {words}" for name, result in kills.items() for words in result.lost]
        if parsed.only in (None, "faults"):
            began = time.monotonic()
            disturbed = [reference for reference in found if reference.case in FAULT_CASES]
            run = Campaign(workshop, disturbed, began + 60 * parsed.minutes, parsed.tries, random.Random(seed))
            faults = run.run(parsed.fault)
            by_fault = {
                name: {case: result.plain() for case, result in cases.items()} for name, cases in faults.items()
            }
            others = results().get("faults", {}) if parsed.fault else {}
            minutes = round(minutes_since(began) + others.get("minutes", 0.0), 1)
            by_fault = {**others.get("by_fault", {}), **by_fault}
            save("faults", {"about": about, "minutes": minutes, "by_fault": by_fault})
            wrong += [f"{name}: {w}" for name, cases in faults.items() for r in cases.values() for w in r.wrong]
    if parsed.only in (None, "fuzzing"):
        wrong += other_script("fuzzing.py", "--minutes", str(parsed.minutes))
    if parsed.only == "dependencies":
        wrong += other_script("dependency_bounds.py")
    return wrong


def minutes_since(began: float) -> float:
    """Minutes on the clock."""
    return round((time.monotonic() - began) / 60, 1)


def other_script(name: str, *arguments: str) -> list[str]:
    """Run a part that is a program of its own, which writes its own results; that something was wrong, if so."""
    ended = subprocess.run([sys.executable, str(Path(__file__).with_name(name)), *arguments])
    return [f"{name} ended with status {ended.returncode}"] if ended.returncode else []


def results() -> dict[str, Any]:
    """What the last calls found."""
    path = RESULTS / "campaign.json"
    return json.loads(path.read_text()) if path.exists() else {}


def save(part: str, found: dict[str, Any]) -> None:
    """Keep what a part found; the other parts keep theirs."""
    known = {**results(), part: found}
    (RESULTS / "campaign.json").write_text(json.dumps(known, indent=1, ensure_ascii=False) + "\n")


# --- the page -----------------------------------------------------------------------------------------------------------------


def write_page() -> None:
    """Put the tables between the two marks of the page; what people wrote around them stays."""
    known, text = results(), PAGE.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    tables = [
        *kill_tables(known.get("kills")),
        *fault_table(known.get("faults")),
        *fuzzing_table(),
        *dependency_table(),
    ]
    PAGE.write_text(before + BEGIN + "\n" + "\n".join(tables) + "\n" + END + after, encoding="utf-8")


def kill_tables(kills: dict[str, Any] | None) -> list[str]:
    """Kills by case and by moment."""
    if kills is None:
        return []
    cases = kills["by_case"]
    lines = ["### Killed at random moments", "", said_of(kills), ""]
    lines += ["| training | runs | kills | identical | lost or different |", "|---|---:|---:|---:|---:|"]
    for name, case in cases.items():
        lines.append(f"| {name} | {case['runs']} | {case['kills']} | {case['identical']} | {len(case['lost'])} |")
    runs, killed, same, lost = (
        sum(case[name] if name != "lost" else len(case[name]) for case in cases.values())
        for name in ("runs", "kills", "identical", "lost")
    )
    lines += [f"| **together** | **{runs}** | **{killed}** | **{same}** | **{lost}** |", ""]
    phases: dict[str, int] = {}
    for case in cases.values():
        for name, count in case["phases"].items():
            phases[name] = phases.get(name, 0) + count
    lines += ["| where the process was | kills |", "|---|---:|"]
    lines += [f"| {name} | {count} |" for name, count in sorted(phases.items(), key=lambda pair: -pair[1])]
    return [*lines, ""]


def fault_table(faults: dict[str, Any] | None) -> list[str]:
    """Faults, both kinds together."""
    if faults is None:
        return []
    lines = ["### Other faults", "", said_of(faults), ""]
    lines += ["| fault | tries | what the process did | afterwards identical | wrong |", "|---|---:|---|---:|---:|"]
    for name, cases in faults["by_fault"].items():
        outcomes: dict[str, int] = {}
        for case in cases.values():
            for words, count in case["outcomes"].items():
                outcomes[words] = outcomes.get(words, 0) + count
        tries, same = (sum(case[figure] for case in cases.values()) for figure in ("tries", "identical"))
        skipped = ", ".join(sorted({case["skipped"] for case in cases.values() if case["skipped"]}))
        said = (
            f"not tried: {skipped}" if skipped else ", ".join(f"{words}: {count}" for words, count in outcomes.items())
        )
        wrong = sum(len(case["wrong"]) for case in cases.values())
        lines.append(f"| {name} | {tries} | {said} | {same} | {wrong} |")
    return [*lines, ""]


def fuzzing_table() -> list[str]:
    """The last search of `fuzzing.py`."""
    path = RESULTS / "fuzzing.json"
    if not path.exists():
        return []
    found = json.loads(path.read_text())
    about, kinds = found["machine"], found["by_kind"]
    lines = [
        "### Damaged input",
        "",
        f"`benchmarks/fuzzing.py`, {about['date']}: {found['minutes']:g} minutes, two readers at a time; "
        f"{found.get('processor_minutes', 0):g} minutes of processor time.",
        "",
    ]
    lines += ["| reader | inputs | read | refused | findings |", "|---|---:|---:|---:|---:|"]
    for name, kind in kinds.items():
        counts = [f"{kind[figure]:,}" for figure in ("executions", "read", "refused")]
        lines.append(f"| {name} | {' | '.join(counts)} | {len(kind['findings'])} |")
    return [*lines, ""]


def dependency_table() -> list[str]:
    """The last tries of `dependency_bounds.py`."""
    path = RESULTS / "dependency_bounds.json"
    if not path.exists():
        return []
    lines = ["### Versions of dependencies", "", "| environment | date | tests | outcome |", "|---|---|---|---|"]
    for name, found in json.loads(path.read_text()).items():
        tests = f"{len(found['tests'])} files" if found["tests"] else "the whole suite"
        lines.append(f"| {name} | {found['date']} | {tests} | {found['said']} |")
    return [*lines, ""]


def said_of(part: dict[str, Any]) -> str:
    """Date, machine and versions in one line."""
    about = part["about"]
    cores = f"{about['cores']} core{'s' if about['cores'] != 1 else ''}"
    return (
        f"{about['date']}, {about['processor']}, {cores}, {about['system']}, Python {about['python']}, JAX {about['jax']}, "
        f"NumPy {about['numpy']}; {part['minutes']:g} minutes."
    )


if __name__ == "__main__":
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    main()

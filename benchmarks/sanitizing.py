"""The kernels under sanitizers: memory outside its bounds, undefined operations, races, memory read before it is written.

Three builds of the C++ sources, in a temporary folder and apart from the installed library, each for every instruction set of this
machine: with AddressSanitizer and UndefinedBehaviorSanitizer, with ThreadSanitizer, and as elman compiles them for use but with a
page that nobody may touch behind every array. `sanitizing_driver.cpp` calls them with random shapes and 1, 2 and 4 threads.

The exit status is 1 when anything was found. `--plant` makes one fault after another on purpose, and the exit status is 1 unless
each is reported by the builds that can see it.
"""

import argparse
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import types
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from measuring import report

ROOT = Path(__file__).parents[1]
DRIVER = Path(__file__).with_name("sanitizing_driver.cpp")
REPORTS = re.compile(r"ERROR: AddressSanitizer|runtime error:|WARNING: ThreadSanitizer|^finding: |ERROR: LeakSanitizer")


@dataclass(frozen=True)
class Build:
    """A way of compiling and watching: flags, cases of each kind, and the planted faults that it must report."""

    name: str
    flags: tuple[str, ...]
    cases: int
    sees: tuple[str, ...]


BUILDS = (
    # Not optimized: no access is optimized away, and it compiles in a quarter of the time.
    Build(
        "address, undefined",
        ("-O0", "-g1", "-DELMAN_WATCHED", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"),
        30,
        ("overrun", "fence", "misalignment", "unset"),
    ),
    Build("thread", ("-O0", "-g1", "-DELMAN_WATCHED", "-fsanitize=thread"), 20, ("race", "unset")),
    Build("guard pages", ("-O2", "-DELMAN_GUARD_PAGES"), 60, ("overrun", "unset")),
)


@dataclass(frozen=True)
class Outcome:
    """What one run of the driver did: cases by kind, and the reports of what it found."""

    cases: dict[str, int]
    findings: list[str]


def build_hook() -> types.ModuleType:
    """`hatch_build.py`, for its flags; what it takes from Hatchling is only there while elman is being built."""
    for name in ("hatchling", "hatchling.builders", "hatchling.builders.hooks", "hatchling.builders.hooks.plugin"):
        sys.modules.setdefault(name, types.ModuleType(name))
    interface = types.ModuleType("hatchling.builders.hooks.plugin.interface")
    interface.BuildHookInterface = object  # type: ignore[attr-defined]
    sys.modules.setdefault(interface.__name__, interface)
    found = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert found is not None
    assert found.loader is not None
    hook = importlib.util.module_from_spec(found)
    found.loader.exec_module(hook)
    return hook


def instruction_sets(hook: types.ModuleType) -> dict[str, list[str]]:
    """The sets that the kernels are compiled for on this kind of processor, widest first, with the compiler's flags."""
    if platform.machine() in ("x86_64", "AMD64"):
        return {"avx512": hook.AVX512, "avx2": hook.AVX2, "plain": []}
    return {"plain": []}


def compile_all(builds: Iterable[Build], folder: Path) -> dict[str, Path]:
    """Compile every build's driver and instruction sets, as many at a time as there are processors; the program of each.

    Raises: `CalledProcessError` where the compiler fails, with what it said on the terminal.
    """
    compiler = os.environ.get("CXX") or next(filter(None, map(shutil.which, ("clang++", "g++", "c++"))), None)
    if compiler is None:
        raise SystemExit("there is no C++ compiler: install g++ or clang++, or name one in CXX")
    hook = build_hook()
    kernels = ROOT / hook.KERNELS
    common = [compiler, *(flag for flag in hook.FLAGS if not flag.startswith("-O")), "-pthread"]
    commands: list[list[str]] = []
    links: dict[str, list[str]] = {}
    for number, build in enumerate(builds):
        driver = f"{folder}/{number}-driver.o"
        includes = ["-w", "-isystem", hook._xla_headers(), "-I", str(kernels)]
        commands.append([*common, *build.flags, *includes, "-c", str(DRIVER), "-o", driver])
        objects = [driver]
        for name, flags in instruction_sets(hook).items():
            objects.append(f"{folder}/{number}-{name}.o")
            defines = [f'-DELMAN_NAME="{name}"', f"-DELMAN_TABLE=kernels_{name}"]
            source = str(kernels / "instruction_set.cpp")
            commands.append([*common, *build.flags, *flags, *defines, "-c", source, "-o", objects[-1]])
        links[build.name] = [compiler, *build.flags, "-pthread", *objects, "-o", f"{folder}/{number}"]
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as several:
        list(several.map(lambda command: subprocess.run(command, check=True), commands))
        list(several.map(lambda command: subprocess.run(command, check=True), links.values()))
    return {name: Path(command[-1]) for name, command in links.items()}


def run(program: Path, instruction_set: str, seed: int, cases: int, plant: str = "") -> Outcome:
    """One run of a driver; a report names the case that it came in.

    Raises: `SystemExit` where the sanitizer itself cannot work on this machine.
    """
    command = [str(program), instruction_set, str(seed), str(cases), *([plant] if plant else [])]
    if setarch := shutil.which("setarch"):  # ThreadSanitizer needs memory where it expects it
        command = [setarch, platform.machine(), "-R", *command]
    options = {
        "ASAN_OPTIONS": "detect_leaks=1:strict_string_checks=1",
        "UBSAN_OPTIONS": "print_stacktrace=1",
        "TSAN_OPTIONS": "halt_on_error=0:exitcode=66",
    }
    done = subprocess.run(command, env={**os.environ, **options}, capture_output=True, text=True, errors="replace")
    if "FATAL: ThreadSanitizer" in done.stderr:
        raise SystemExit(f"ThreadSanitizer does not run here: {done.stderr.strip().splitlines()[0]}")
    findings, case = [], "before the first case"
    for line in done.stderr.splitlines():
        if line.startswith("case: "):
            case = line.removeprefix("case: ")
        elif REPORTS.search(line):
            findings.append(f"{case}: {line.strip().replace(f'{ROOT}/', '')}")
    if done.returncode and not findings:
        findings.append(f"{case}: the program ended with {done.returncode}: {done.stderr.strip().splitlines()[-1:]}")
    return Outcome({line.split()[0]: int(line.split()[1]) for line in done.stdout.splitlines()}, findings)


def search(programs: dict[str, Path], builds: Iterable[Build], sets: Iterable[str], seed: int) -> int:
    """Run every build on every instruction set, print the table, and give back how many findings there were."""
    rows = [("watched for", "instruction set", "cases", "findings")]
    results = []
    for build in builds:
        for name in sets:
            outcome = run(programs[build.name], name, seed, build.cases)
            total = sum(outcome.cases.values())
            rows.append((build.name, name, f"{total} x 3", str(len(outcome.findings))))
            results.append({"build": build.name, "instruction_set": name, **vars(outcome)})
            for finding in outcome.findings[:10]:
                print(f"{build.name}, {name}, seed {seed}: {finding}", flush=True)
    report("sanitizing", rows, {"seed": seed, "runs": results})
    return sum(len(result["findings"]) for result in results)


def plant(programs: dict[str, Path], builds: Iterable[Build], sets: Iterable[str], seed: int) -> int:
    """Make every fault on purpose and give back how many were not reported by a build that can see them."""
    rows = [("fault", "watched for", "instruction set", "reported")]
    missed = 0
    results = []
    for build in builds:
        for fault in build.sees:
            for name in sets:
                findings = run(programs[build.name], name, seed, 2, fault).findings
                missed += not findings
                rows.append((fault, build.name, name, findings[0][:80] if findings else "NOT REPORTED"))
                results.append({"fault": fault, "build": build.name, "instruction_set": name, "findings": findings})
    report("sanitizing-planted", rows, {"seed": seed, "runs": results})
    return missed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=1, help="of the random shapes and numbers")
    parser.add_argument("--only", choices=[build.name for build in BUILDS], help="one build instead of three")
    parser.add_argument("--plant", action="store_true", help="make faults on purpose: each must be reported")
    arguments = parser.parse_args()
    builds = [build for build in BUILDS if arguments.only in (None, build.name)]
    with tempfile.TemporaryDirectory() as temporary:
        programs = compile_all(builds, Path(temporary))
        sets = instruction_sets(build_hook())
        work = plant if arguments.plant else search
        sys.exit(1 if work(programs, builds, here(programs, sets), arguments.seed) else 0)


def here(programs: dict[str, Path], sets: Iterable[str]) -> list[str]:
    """Those that this processor has: without them a driver says so at once."""
    program = next(iter(programs.values()))
    return [name for name in sets if "no such instruction set" not in str(run(program, name, 1, 0).findings)]


if __name__ == "__main__":
    main()

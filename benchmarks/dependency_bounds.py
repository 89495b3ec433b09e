"""The versions that `pyproject.toml` promises: the lowest of every dependency, and the newest, each in an environment of its own.

python benchmarks/dependency_bounds.py                              both, the whole suite
python benchmarks/dependency_bounds.py --only lowest --extras serve export --tests tests/test_storage.py

elman is built anew in each, the kernels are compiled. The lowest environment holds every direct dependency at its bound, and pip
chooses what they need themselves. `serve` and `studio` have bounds that exclude each other (FastAPI 0.120 and Starlette 1.3.1), so
the lowest are tried in two environments if `--extras` does not say otherwise. Where pip finds no way, the exit status is 1. The
tools of the tests are whichever fit to it. Environments stay in `--environments`, a temporary folder if not given.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

from measuring import RESULTS, machine

ROOT = Path(__file__).parents[1]
TOOLS = ("pytest", "pytest-xdist", "hypothesis", "beartype", "pandas", "httpx", "schemathesis", "openai", "playwright")
TOGETHER = {"lowest": (["serve", "export", "arrow"], ["studio"]), "newest": (["serve", "export", "arrow", "studio"],)}
NO_BINARY = {"psycopg": "3.2.1"}
"""Where the version at the bound cannot be had as a binary: the next that can."""


def main() -> None:
    """Make, install, test; print, write, exit."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=("lowest", "newest"))
    parser.add_argument("--extras", nargs="*")
    parser.add_argument("--tests", nargs="*", default=[])
    parser.add_argument("--environments", type=Path)
    parsed = parser.parse_args()
    folder = parsed.environments or Path(tempfile.mkdtemp(prefix="bounds-"))
    path = RESULTS / "dependency_bounds.json"
    known: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    failed = False
    for which in ("lowest", "newest") if parsed.only is None else (parsed.only,):
        for extras in TOGETHER[which] if parsed.extras is None else (parsed.extras,):
            key = f"{which}: {', '.join(extras) or 'no extras'}"
            known[key] = {**machine(), **tried(which, extras, parsed.tests, folder)}
            print(f"{key}: {known[key]['said']}", flush=True)
            failed |= known[key]["status"] != 0
            path.write_text(json.dumps(known, indent=1) + "\n")
    sys.exit(1 if failed else 0)


def tried(which: str, extras: list[str], tests: list[str], folder: Path) -> dict[str, Any]:
    """Status and last line of the suite in an environment, with the versions that were in it."""
    python = environment(folder / "-".join([which, *extras]))
    said = install(python, which, extras)
    if said:
        return {"status": 1, "said": said, "tests": tests, "versions": {}}
    command = [
        python,
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        *(tests or ["--numprocesses", "2", "--dist", "loadfile"]),
    ]
    # A warning of an old library is no fault of ours; the suite's own environment turns all of them into errors.
    ended = subprocess.run([*command, "-W", "default"], cwd=ROOT, capture_output=True, text=True)
    lines = ended.stdout.strip().splitlines()
    print("\n".join(line for line in lines if line.startswith(("FAILED", "ERROR"))), flush=True)
    frozen = subprocess.run([python, "-m", "pip", "freeze"], capture_output=True, text=True, check=True).stdout
    versions = dict(line.split("==", 1) for line in frozen.splitlines() if "==" in line)
    wanted = {name_of(words) for words in requirements(extras)}
    return {
        "status": ended.returncode,
        "said": lines[-1].strip("= ") if lines else ended.stderr[-300:],
        "tests": tests,
        "versions": {name: version for name, version in versions.items() if name.lower() in wanted},
    }


def environment(folder: Path) -> Path:
    """The Python of an environment, which is made where it is missing."""
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "--upgrade", "pip"], check=True)
    return python


def install(python: Path, which: str, extras: list[str]) -> str:
    """elman with its extras and what the tests need; what pip says where that cannot be."""
    asked = [bound(words) if which == "lowest" else words for words in requirements(extras)]
    more = [] if which == "lowest" else ["--upgrade", "--upgrade-strategy", "eager"]
    for packages in (asked, [f"{ROOT}"], list(TOOLS)):
        alone = ["--no-deps", "--force-reinstall"] if packages == [f"{ROOT}"] else more
        command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *alone, *packages]
        if packages == list(TOOLS) and which == "lowest":
            command += asked  # so that no tool moves a dependency from its bound
        ended = subprocess.run(command, capture_output=True, text=True)
        if ended.returncode:
            said = [line for line in ended.stderr.splitlines() if not line.startswith("WARNING")]
            return f"cannot be installed: {' '.join(' '.join(said).split())[-600:]}"
    return ""


def requirements(extras: list[str]) -> list[str]:
    """The requirements of elman itself and of some of its extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return project["dependencies"] + [words for extra in extras for words in project["optional-dependencies"][extra]]


def name_of(requirement: str) -> str:
    """The package's name."""
    return re.split(r"[\[=<>~!; ]", requirement)[0].lower()


def bound(requirement: str) -> str:
    """`numpy>=2.0` becomes `numpy==2.0`, the lowest version that is promised."""
    low = NO_BINARY.get(name_of(requirement))
    return f"{requirement.split('>=')[0]}=={low}" if low else requirement.replace(">=", "==")


if __name__ == "__main__":
    main()

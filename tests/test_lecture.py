"""Every block of docs/lecture.md runs, in its order and in one folder; what stands as output is found in the output.

Budgets are shortened, of Shakespeare the beginning is read, a studio is only asked for its help; everything else is as it stands.
"""

import contextlib
import io
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[1] / "docs" / "lecture.md"
SHORT = [
    (r"^elman studio$", "elman studio --help"),
    (r"train text shakespeare", "train text beginning.txt"),
    (r"--minutes \d+|--steps \d+", "--steps 40"),
    (r"^(elman train text \S+ --run \S+)", r"\1 --steps 40"),
    (r"^(elman train series .*)", r"\1 --steps 40"),
]


@dataclass(frozen=True)
class Block:
    """number: of its stop. kind: `python` or `sh`. expected: lines that have to come out, in their order."""

    number: int
    kind: str
    text: str
    expected: list[str]


def blocks() -> list[Block]:
    found: list[Block] = []
    number = 0
    for match in re.finditer(r"^## (\d+)|^```(\w+)\n(.*?)^```", PAGE.read_text(encoding="utf-8"), flags=re.M | re.S):
        if match[1]:
            number = int(match[1])
        elif match[2] == "text":
            found[-1].expected.extend(match[3].splitlines())
        else:
            found.append(Block(number, match[2], match[3], []))
    return found


def commands(block: Block) -> list[str]:
    """The lines of a block of shell, shortened."""
    lines = [line.split("  #")[0].strip() for line in block.text.splitlines()]
    for pattern, instead in SHORT:
        lines = [re.sub(pattern, instead, line) for line in lines]
    return lines


def test_all_eleven_stops_are_there() -> None:
    headings = re.findall(r"^## (\d+) · ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert headings == [str(number) for number in range(1, 12)]


def test_python_says_what_stands_there() -> None:
    names: dict[str, Any] = {}
    for block in blocks():
        if block.kind == "python":
            said = io.StringIO()
            with contextlib.redirect_stdout(said):
                exec(block.text, names)
            assert said.getvalue().splitlines() == block.expected


def test_commands_run_and_say_what_stands_there(tmp_path: Path, environment: dict[str, str], shared_data: Path) -> None:
    environment = {**environment, "ELMAN_DATA": str(shared_data)}
    beginning = (shared_data / "tinyshakespeare.txt").read_text(encoding="utf-8")[:100_000]
    (tmp_path / "beginning.txt").write_text(beginning, encoding="utf-8")
    ran = 0
    for block in blocks():
        said = ""
        for command in commands(block) if block.kind == "sh" else ():
            words = [sys.executable, "-m", *re.findall(r'"[^"]*"|\S+', command)]
            words = [word.strip('"') for word in words]
            done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
            assert done.returncode == 0, f"{command}\n{done.stderr}"
            said += done.stdout
            ran += 1
        at = 0
        for line in block.expected if block.kind == "sh" else ():
            at = said.find(line, at)
            assert at >= 0, f"stop {block.number} does not say: {line}\n{said}"
    assert ran >= 15
    pictures = {"cell.svg", "graph.png", "many-to-one.png", "memory.png", "tomorrow.csv", "better.html"}
    assert pictures <= {path.name for path in tmp_path.iterdir()}

"""Every block of docs/lecture.md runs, in its order and in one folder; what stands as output is found in the output.

Budgets are shortened, of Shakespeare the beginning is read, a studio is only asked for its help; everything else is as it stands.
"""

import re
from pathlib import Path
from typing import Any

from pages import ROOT, assert_said, blocks, commands_of, said_by_commands, said_by_python

PAGE = ROOT / "docs" / "lecture.md"
SHORT = [
    (r"^elman studio$", "elman studio --help"),
    (r"train text shakespeare", "train text beginning.txt"),
    (r"--minutes \d+|--steps \d+", "--steps 40"),
    (r"^(elman train text \S+ --run \S+)", r"\1 --steps 40"),
    (r"^(elman train series .*)", r"\1 --steps 40"),
]


def test_all_eleven_stops_are_there() -> None:
    headings = re.findall(r"^## (\d+) · ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert headings == [str(number) for number in range(1, 12)]


def test_python_says_what_stands_there() -> None:
    names: dict[str, Any] = {}
    for block in blocks(PAGE):
        if block.kind == "python":
            assert said_by_python(block.text, names).splitlines() == block.expected


def test_commands_run_and_say_what_stands_there(tmp_path: Path, environment: dict[str, str], shared_data: Path) -> None:
    environment = {**environment, "ELMAN_DATA": str(shared_data)}
    beginning = (shared_data / "tinyshakespeare.txt").read_text(encoding="utf-8")[:100_000]
    (tmp_path / "beginning.txt").write_text(beginning, encoding="utf-8")
    for block in blocks(PAGE):
        if block.kind == "sh":
            assert_said(block, said_by_commands(block, SHORT, tmp_path, environment))
    assert len(commands_of(blocks(PAGE))) >= 15
    pictures = {"cell.svg", "graph.png", "many-to-one.png", "memory.png", "tomorrow.csv", "better.html"}
    assert pictures <= {path.name for path in tmp_path.iterdir()}

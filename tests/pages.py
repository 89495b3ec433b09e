"""The blocks of the documents, and running them: in this process, where what one has compiled another need not."""

import contextlib
import io
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from elman.cli import main

ROOT = Path(__file__).parents[1]
Shorter = list[tuple[str, str]]
"""Patterns and what stands in their place, so that what takes minutes for a reader takes seconds here."""


@dataclass(frozen=True)
class Block:
    """heading: what it stands under. kind: `python`, `sh`, `bash`, ... expected: lines that have to come out, in their order."""

    heading: str
    kind: str
    text: str
    expected: list[str]


def blocks(page: Path) -> list[Block]:
    """All fenced blocks of a page but those of output, which belong to the block before them."""
    found: list[Block] = []
    heading = ""
    for match in re.finditer(
        r"^## ([^\n]*)$|^```(\w+)\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.M | re.S
    ):
        if match[1]:
            heading = match[1]
        elif match[2] == "text" and found:
            found[-1].expected.extend(match[3].splitlines())
        else:
            found.append(Block(heading, match[2], match[3], []))
    return found


def shortened(text: str, shorter: Shorter) -> str:
    for pattern, instead in shorter:
        text = re.sub(pattern, instead, text)
    return text


def said_by_python(text: str, names: dict[str, Any]) -> str:
    """What a block of Python prints; what it defines stands in `names` afterwards."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(compile(text, "a document", "exec"), names)
    return said.getvalue()


def said_by_commands(block: Block, shorter: Shorter, folder: Path, environment: dict[str, str]) -> str:
    """What the commands of a block of shell print, one after the other in `folder`; each has to end well."""
    said = io.StringIO()
    for line in block.text.splitlines():
        command = shortened(line.split("  #")[0].strip(), shorter)
        elman, *words = [word.strip('"') for word in re.findall(r'"[^"]*"|\S+', command)]
        assert elman == "elman", command
        complaints = io.StringIO()
        with (
            mock.patch.dict(os.environ, environment),
            contextlib.chdir(folder),
            contextlib.redirect_stdout(said),
            contextlib.redirect_stderr(complaints),
        ):
            try:
                status = main(words)
            except SystemExit as end:  # --help
                status = end.code
        assert not status, f"{command}\n{complaints.getvalue()}"
    return said.getvalue()


def assert_said(block: Block, said: str) -> None:
    """Every line that stands below a block is found in what it said, in their order."""
    at = 0
    for line in block.expected:
        at = said.find(line, at)
        assert at >= 0, f"{block.heading} does not say: {line}\n{said}"
        at += len(line)


def commands_of(found: Iterable[Block]) -> list[str]:
    """The lines of all blocks of shell that are run."""
    return [line for block in found if block.kind == "sh" for line in block.text.splitlines()]

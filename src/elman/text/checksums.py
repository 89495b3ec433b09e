"""The checksum of a text's codes: of any length, computed in one go or block by block on all cores, and checked in seconds.

Codes that fit into one block have the SHA-256 of the vocabulary and the codes; longer ones that of the vocabulary and of their
blocks' SHA-256s. It depends on vocabulary and codes alone, not on the files that they came from.
"""

import hashlib
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from elman.text.vocabulary import Vocabulary

BLOCK_BYTES = 64 << 20
_CHECKED_AT_ONCE = 4


class CodesDigest:
    """The checksum of codes that come piece by piece."""

    def __init__(self, vocabulary: Vocabulary, block_bytes: int = BLOCK_BYTES) -> None:
        self._vocabulary, self._block_bytes = vocabulary, block_bytes
        self._whole, self._block = start_digest(vocabulary), hashlib.sha256()
        self._blocks: list[str] = []
        self._room = block_bytes

    def update(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            part, rest = rest[: self._room], rest[self._room :]
            if not self._blocks:
                self._whole.update(part)
            self._block.update(part)
            self._room -= len(part)
            if self._room == 0:
                self._blocks.append(self._block.hexdigest())
                self._block, self._room = hashlib.sha256(), self._block_bytes

    def finish(self) -> tuple[str, list[str]]:
        """The checksum, and those of the blocks where they are more than one."""
        ends_inside = self._room < self._block_bytes
        if len(self._blocks) + ends_inside <= 1:
            return self._whole.hexdigest(), []
        blocks = [*self._blocks, self._block.hexdigest()] if ends_inside else self._blocks
        return digest_of_blocks(self._vocabulary, blocks), blocks


def start_digest(vocabulary: Vocabulary) -> Any:
    """A SHA-256 that has read the vocabulary."""
    return hashlib.sha256(json.dumps(vocabulary.to_dict(), sort_keys=True).encode() + b"\n")


def digest_of_one_block(vocabulary: Vocabulary, path: Path) -> str:
    """The checksum of a file of codes of one block at the most."""
    with path.open("rb") as file:
        found: str = hashlib.file_digest(file, lambda: start_digest(vocabulary)).hexdigest()
    return found


def digest_of_blocks(vocabulary: Vocabulary, blocks: Sequence[str]) -> str:
    """The checksum of codes of more than one block, from those of the blocks."""
    digest = start_digest(vocabulary)
    for block in blocks:
        digest.update(bytes.fromhex(block))
    found: str = digest.hexdigest()
    return found


def block_digest(path: Path, number: int, block_bytes: int = BLOCK_BYTES) -> str:
    """The SHA-256 of one block of a file of codes."""
    digest, left = hashlib.sha256(), block_bytes
    with path.open("rb") as file:
        file.seek(number * block_bytes)
        while left and (data := file.read(min(left, 1 << 20))):
            digest.update(data)
            left -= len(data)
    return digest.hexdigest()


def are_whole(path: Path, vocabulary: Vocabulary, digest: str, blocks: Sequence[str]) -> bool:
    """Whether the codes in a file have this checksum. Of codes of many blocks the first, the last and two others are read."""
    if not blocks:
        return digest_of_one_block(vocabulary, path) == digest
    count = -(-path.stat().st_size // BLOCK_BYTES)
    if len(blocks) != count or digest_of_blocks(vocabulary, blocks) != digest:
        return False
    chosen = {0, count - 1, *random.sample(range(count), min(count, _CHECKED_AT_ONCE - 2))}
    return all(block_digest(path, number) == blocks[number] for number in chosen)

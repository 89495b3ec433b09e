"""Texts that the tests make."""

import random

VOCABULARY = "the a cat dog sat on mat and ran to house big small red blue tree sings while rain falls"


def words(count: int = 700, seed: int = 1) -> str:
    """Lines of words from a small vocabulary."""
    draw, vocabulary = random.Random(seed), VOCABULARY.split()
    return "".join(draw.choice(vocabulary) + (" " if index % 8 else ".\n") for index in range(count))

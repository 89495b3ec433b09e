"""Persian to train on: short stories that a small grammar tells, and what each choice of that grammar weighs.

A text with a floor. Wherever the grammar may go on in several ways it makes a choice with known probabilities, and nothing else in
a story is left to chance; so -log p of a story is the sum over its choices, and no model can do better than that on average. Most
of it follows from what was said before, some of it long before: verbs agree with the hero (من، او، ما، آن‌ها), what is bought in the
bazaar is lost and found again as the same thing, what is left of the fruit is the difference, the weather suits the month, home is
where the hero came from. Counting six letters sees little of that; a state that remembers sees it.

The same function (`persian_grammar.tell`) tells a story and reads one: a `_Teller` draws each choice, a `_Reader` looks which one
stands in the text. `tests/test_persian.py` reads back what was told and finds the same weights.

    >>> story = next(persian_stories())
    >>> reading = read_story(story.text)
    >>> reading.characters == len(story.text), abs(reading.nats - story.nats) < 1e-9
    (True, True)
"""

import bisect
import contextlib
import functools
import itertools
import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from elman.text.persian_grammar import Voice, tell
from elman.text.persian_words import visible

LENGTH = 1_000_000
"""Characters of the corpus `persian`, to the end of the story in which they are reached."""

FILE_NAME = "persian-1.txt"
"""The number changes whenever the grammar does, so that a text in a cache is never an older one."""


@dataclass(frozen=True)
class Story:
    """A story, with the empty line behind it, and -log p of it in nats."""

    text: str
    nats: float


@dataclass(frozen=True)
class Reading:
    """How far a text is a story: its first `characters` may stand in one, and weigh `nats` up to there.

    With `characters` equal to the length of the text it is a whole story.
    """

    characters: int
    nats: float


def persian_stories(seed: int = 0) -> Iterator[Story]:
    """Stories without end, the same ones for the same seed on every machine."""
    draw = random.Random(seed).random  # the one function of that class whose numbers are promised to stay
    while True:
        teller = _Teller(draw)
        tell(teller)
        yield Story("".join(teller.told), teller.nats)


def persian_text(length: int = LENGTH, seed: int = 0) -> Iterator[str]:
    """Whole stories, piece by piece, until `length` characters are there."""
    told = 0
    for story in persian_stories(seed):
        yield story.text
        told += len(story.text)
        if told >= length:
            return


def read_story(text: str) -> Reading:
    """How far the grammar can have written a text that begins where a story begins.

    >>> text = "سفر به شیراز\\nیک شب پاییزی، من از رشت به شیراز رفتند."
    >>> text[read_story(text).characters :]  # the verb does not agree with من
    'ند.'
    """
    reader = _Reader(text)
    with contextlib.suppress(_Unreadable):
        tell(reader)
    return Reading(reader.place, reader.nats)


# --- telling and reading ----------------------------------------------------------------------------------------------------


class _Unreadable(Exception):
    """The text goes on as no story does."""


@functools.cache
def _cumulated(weights: tuple[float, ...]) -> list[float]:
    return list(itertools.accumulate(weights))


class _Teller(Voice):
    """Draws every choice."""

    def __init__(self, draw: Callable[[], float]) -> None:
        self.draw, self.told, self.nats = draw, list[str](), 0.0

    def say(self, words: str) -> None:
        self.told.append(visible(words))

    def choose(self, options: Sequence[str], weights: Sequence[float]) -> int:
        up_to = _cumulated(tuple(weights))
        number = min(bisect.bisect_right(up_to, self.draw() * up_to[-1]), len(options) - 1)
        self.nats -= math.log(weights[number] / up_to[-1])
        self.say(options[number])
        return number


class _Reader(Voice):
    """Finds every choice in a text that is there already."""

    def __init__(self, text: str) -> None:
        self.text, self.place, self.nats = text, 0, 0.0

    def say(self, words: str) -> None:
        for letter in visible(words):
            if not self.text.startswith(letter, self.place):
                raise _Unreadable
            self.place += 1

    def choose(self, options: Sequence[str], weights: Sequence[float]) -> int:
        seen = [visible(option) for option in options]
        fitting = [number for number, option in enumerate(seen) if self.text.startswith(option, self.place)]
        if not fitting:
            rest = self.text[self.place :]
            self.place += max(_alike(rest, option) for option in seen)
            raise _Unreadable
        number = max(fitting, key=lambda number: len(seen[number]))
        self.place += len(seen[number])
        self.nats -= math.log(weights[number] / _cumulated(tuple(weights))[-1])
        return number


def _alike(first: str, second: str) -> int:
    return next(
        (place for place, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), min(len(first), len(second))
    )

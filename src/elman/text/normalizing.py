"""Unicode normal forms of a text that is too long to hold: piece by piece, with the result of normalizing the whole.

Normalizing looks across neighbors (a letter and the accent after it become one character), so a text may be cut only where nothing
reaches across. Before a character that starts afresh, one whose decomposition begins with a starter that never composes with what
stands before it, is such a place (Unicode Standard Annex 15, "Stable Code Points"). Every ASCII character is one, and so is nearly
every letter of every script; combining marks and the vowels and finals of Hangul are not.
"""

import functools
import unicodedata
from collections.abc import Iterable, Iterator

from elman.errors import DataError
from elman.text.vocabulary import normalize

# Hangul's vowel and final jamo compose with what stands before them; their table is arithmetic, not in the database.
_HANGUL_FOLLOWERS = range(0x1160, 0x1200)
# No character from here on has a decomposition (Unicode 14 to 17).
_END_OF_DECOMPOSITIONS = 0x30000
_HELD_AT_MOST = 1 << 20


def normalized(pieces: Iterable[str], normal_form: str, *, name: str = "the text") -> Iterator[str]:
    """Pieces that join to the normal form of what the given pieces join to.

    What is held back from one piece to the next is the text since the last safe cut: nearly always one character.
    `name` is what an error calls the text.

    Raises: `DataError` when more than a million characters offer no place to cut, which no written language does.

        >>> list(normalized(["cafe", "\\u0301 au lait"], "NFC"))
        ['caf', 'é au lai', 't']
    """
    if normal_form == "none":
        yield from pieces
        return
    held: list[str] = []
    held_length = 0
    for piece in pieces:
        cut = _last_safe_cut(piece, normal_form)
        if cut is None:
            held.append(piece)
            held_length += len(piece)
            if held_length > _HELD_AT_MOST:
                raise DataError(
                    f"{name} has more than {_HELD_AT_MOST} combining characters in a row, among them U+{ord(piece[0]):04X}: "
                    "this is no written text; read it as it is with --normal-form none, or as bytes with --unit byte"
                )
            continue
        if ready := "".join(held) + piece[:cut]:
            yield normalize(ready, normal_form)
        held = [piece[cut:]]
        held_length = len(piece) - cut
    if ready := "".join(held):
        yield normalize(ready, normal_form)


def _last_safe_cut(piece: str, normal_form: str) -> int | None:
    decomposed = "NFKD" if "K" in normal_form else "NFD"
    for place in range(len(piece) - 1, -1, -1):
        character = piece[place]
        if character < "\x80" or _starts_afresh(character, decomposed):
            return place
    return None


def _starts_afresh(character: str, decomposed: str) -> bool:
    first = normalize(character, decomposed)[0]
    return unicodedata.combining(first) == 0 and first not in _followers()


@functools.cache
def _followers() -> frozenset[str]:
    """Every character that composes with one before it: those after the first in some canonical decomposition."""
    followers = set(map(chr, _HANGUL_FOLLOWERS))
    for code_point in range(0x80, _END_OF_DECOMPOSITIONS):
        decomposition = unicodedata.decomposition(chr(code_point))
        if decomposition and not decomposition.startswith("<"):
            followers.update(chr(int(part, 16)) for part in decomposition.split()[1:])
    return frozenset(followers)

"""How long it takes to look inside: 10,000 characters of a model of 512 units, and the longest pieces of a sample in 20 MB of text.

    python benchmarks/inspecting.py             GRU and LSTM: gates, ranking of all units, surprise; the first call compiles
    python benchmarks/inspecting.py --novelty FILE

The bound is 3 seconds on two cores for a process whose programs are compiled or cached. Weights are random: they cost the same.
"""

import argparse
import time
from pathlib import Path

import numpy as np

from elman.insight.features import text_features
from elman.insight.novelty import match
from elman.insight.subjects import text_subject
from elman.insight.surprise import text_surprise
from elman.insight.units import activity, rank_units
from elman.text.model import TextModel

CHARACTERS, HIDDEN = 10_000, 512
LONGEST_TRAINING = 20_000_000


def sample_text() -> str:
    """Words of random letters in lines, with quotes and brackets: 98 different characters, as in English text and code."""
    rng = np.random.default_rng(0)
    alphabet = np.array([chr(code) for code in range(32, 127)] + ["\n", "é", "“"])
    return "".join(alphabet[rng.integers(len(alphabet), size=CHARACTERS)])


def look(model: TextModel, text: str) -> dict[str, float]:
    """Seconds of each part."""
    begin = time.perf_counter()
    seen = activity(text_subject(model, text))
    traced = time.perf_counter()
    rank_units(seen, text_features(text).values())
    ranked = time.perf_counter()
    text_surprise(model, text)
    end = time.perf_counter()
    return {
        "states and gates": traced - begin,
        "ranking": ranked - traced,
        "surprise": end - ranked,
        "all": end - begin,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--novelty", type=Path, metavar="FILE", help="a text to search in, at most its first 20 MB")
    chosen = parser.parse_args()
    if chosen.novelty:
        text = np.frombuffer(chosen.novelty.read_bytes()[:LONGEST_TRAINING], np.uint8)
        cut = len(text) * 9 // 10
        for name, sample in (
            ("held-out text", text[cut : cut + CHARACTERS]),
            ("training text", text[5000 : 5000 + CHARACTERS]),
        ):
            begin = time.perf_counter()
            found = match(sample, text[:cut])
            seconds = time.perf_counter() - begin
            print(
                f"{CHARACTERS:,} characters of {name} in {cut:,}: {seconds:.2f} s, longest piece {found.lengths.max():,}"
            )
        return
    text = sample_text()
    for cell in ("gru", "lstm"):
        model = TextModel.untrained(text, hidden=HIDDEN, cell=cell)
        for call in ("first call, compiles", "second call", "third call"):
            seconds = look(model, text)
            print(f"{cell} {HIDDEN}, {call}: " + ", ".join(f"{name} {value:.2f} s" for name, value in seconds.items()))


if __name__ == "__main__":
    main()

"""`elman sample`: let a model write."""

import argparse
import sys

from elman.commands.kinds import refuse_series
from elman.commands.output import print_json, write_text
from elman.text.model import TextModel
from elman.text.vocabulary import name_symbols
from elman.training.engine import use_compilation_cache
from elman.training.progress import printable


def run(parsed: argparse.Namespace) -> int:
    """Write one text as it is made, or several, or one JSON object."""
    refuse_series(parsed.model)
    use_compilation_cache()
    model = TextModel.load(parsed.model)
    options = {
        name: getattr(parsed, name)
        for name in ("temperature", "top_k", "top_p", "min_p", "repetition_penalty", "stop", "unknown")
    }
    unknown = model.vocabulary.unknown(parsed.prime)
    if unknown and parsed.unknown == "skip":
        print(f"elman: the model does not know {name_symbols(unknown)}: left out of --prime", file=sys.stderr)
    if parsed.json or parsed.samples != 1:
        texts = model.samples(parsed.samples, parsed.prime, length=parsed.length, seed=parsed.seed, **options)
        if parsed.json:
            print_json({"prime": parsed.prime, "samples": texts, "seed": parsed.seed})
        else:
            for number, text in enumerate(texts, 1):
                write_text(f"--- {number} ---\n{_shown(parsed.prime + text)}\n")
        return 0
    pieces = model.stream(parsed.prime, length=parsed.length, seed=parsed.seed, **options)
    first = next(pieces, "")  # whatever is wrong with the options shows here, before anything is written
    write_text(_shown(parsed.prime + first))
    for piece in pieces:
        write_text(_shown(piece))
    write_text("\n")
    return 0


def _shown(text: str) -> str:
    """For a terminal, control characters are made harmless; a file or pipe gets the text as it is."""
    return printable(text) if sys.stdout.isatty() else text

"""`elman inspect surprise`: how a model saw a text coming."""

import argparse
import math
from pathlib import Path
from typing import Any

import numpy as np

from elman.commands.inspect_input import encode_known, read_text
from elman.commands.kinds import refuse_series
from elman.commands.output import console, print_json, reporting
from elman.commands.series_output import PICTURES, check_output, save_picture
from elman.errors import ConfigError
from elman.insight.coloring import ColoredText, figure, page, terminal
from elman.insight.surprise import Surprise, surprise
from elman.text.model import TextModel
from elman.training.engine import precision, use_compilation_cache
from elman.training.progress import printable
from elman.training.storage import write_atomically

FULL = 8.0
"""Nats at which a character's color is full: one in three thousand."""

SHOWN = 2000
"""Characters that the terminal shows."""


def run(parsed: argparse.Namespace) -> int:
    """Read, print and draw."""
    output = check_output(parsed.output, PICTURES, "--output")
    if parsed.top < 1:
        raise ConfigError(f"--top {parsed.top} is out of range: an integer of at least 1")
    refuse_series(parsed.model)
    use_compilation_cache()
    with reporting(quiet=False) as reporter:
        reporter.working("looking inside", 0.0)
        model = TextModel.load(parsed.model)
        looked = read_text(parsed, model)
        prime = encode_known(model.vocabulary, parsed.prime, "--prime")
        with precision(model.config.training.dtype):
            found = surprise(model.network, looked.codes, prime, top=parsed.top)
        symbols = looked.symbols(model)
        colored = colored_surprise(model, found, symbols, looked.source)
        if output is not None:
            save_colored(colored, output)
    if parsed.json:
        print_json(_figures(model, found, symbols, looked.source))
        return 0
    _show(model, found, symbols, colored)
    if output is not None:
        print(f"picture:  {output}")
    return 0


def save_colored(colored: ColoredText, output: Path, beside: str = "") -> None:
    """A colored text as a page, or as a picture."""
    if output.suffix.lower() == ".html":
        write_atomically(output, page(colored, beside=beside).encode("utf-8", "replace"))
    else:
        save_picture(figure(colored), output, colored.title)


def colored_surprise(model: TextModel, found: Surprise, symbols: tuple[str, ...], source: str) -> ColoredText:
    """The text, the stranger the warmer, with the alternatives of every character as its note."""
    notes = [_note(model, found, place, symbols[place]) for place in range(len(symbols))]
    title = f"How {source} surprised the model: {found.mean:.3f} nats per character"
    return ColoredText(symbols, found.losses / FULL, title, "", "1 in 3,000 or rarer", notes)


def _note(model: TextModel, found: Surprise, place: int, symbol: str) -> str:
    if not math.isfinite(found.losses[place]):
        return f"{_named(symbol)}  first: nothing to foresee it from"
    others = ", ".join(f"{_named(other)} {100 * chance:.1f} %" for other, chance in alternatives(model, found, place))
    return f"{_named(symbol)}  {100 * math.exp(-found.losses[place]):.2g} %   foreseen: {others}"


def alternatives(model: TextModel, found: Surprise, place: int) -> list[tuple[str, float]]:
    """The likeliest symbols at a place, with their probabilities; none where nothing was foreseen."""
    pairs = zip(found.alternatives[place], found.probabilities[place], strict=True)
    return [(model.vocabulary.decode([code]), float(chance)) for code, chance in pairs if code >= 0]


def _named(symbol: str) -> str:
    return {"\n": "↵", " ": "␣", "\t": "⇥"}.get(symbol, printable(symbol))


def _figures(model: TextModel, found: Surprise, symbols: tuple[str, ...], source: str) -> dict[str, Any]:
    characters = []
    for place, symbol in enumerate(symbols):
        seen = math.isfinite(found.losses[place])
        characters.append(
            {
                "character": symbol,
                "nats": float(found.losses[place]) if seen else None,
                "entropy": float(found.entropies[place]) if seen else None,
                "alternatives": alternatives(model, found, place),
            }
        )
    mean = found.mean
    return {
        "source": source,
        "nats_per_character": mean if math.isfinite(mean) else None,
        "bits_per_character": mean / math.log(2) if math.isfinite(mean) else None,
        "characters": characters,
    }


def _show(model: TextModel, found: Surprise, symbols: tuple[str, ...], colored: ColoredText) -> None:
    screen = console()
    first = ColoredText(symbols[:SHOWN], colored.values[:SHOWN], colored.title, "", colored.high)
    screen.print(terminal(first))
    if len(symbols) > SHOWN:
        print(f"… and {len(symbols) - SHOWN:,} more characters: --output FILE.html shows all of them")
    print(f"\n{printable(colored.title)}")
    losses = np.nan_to_num(found.losses, nan=-1.0)
    print("the greatest surprises:")
    for place in np.argsort(-losses, kind="stable")[:5]:
        if losses[place] >= 0:
            before = printable("".join(symbols[max(0, place - 30) : place])).replace("\n", "↵")
            print(f"  {before}[{_named(symbols[place])}]   {_note(model, found, int(place), symbols[place])}")

"""`elman inspect novelty`: how much of what a model writes stands in its training text."""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.table import Table
from rich.text import Text

from elman.commands.inspect_input import LookedAt, check_characters, given_text, read_file, written_text
from elman.commands.inspect_surprise import save_colored
from elman.commands.kinds import refuse_series
from elman.commands.output import narrow_console, print_json, reporting
from elman.commands.series_output import PICTURES, check_output
from elman.errors import ConfigError, DataError
from elman.insight.coloring import ColoredText, table
from elman.insight.novelty import LENGTHS, Novelty, Piece, marked, novelty
from elman.text.model import TextModel
from elman.text.trainer import reopen
from elman.training.engine import use_compilation_cache
from elman.training.progress import printable
from elman.training.runs import Run


def run(parsed: argparse.Namespace) -> int:
    """Write or read a sample, compare, print and draw."""
    output = check_output(parsed.output, PICTURES, "--output")
    for flag in ("pieces", "seed"):
        if getattr(parsed, flag) < 0:
            raise ConfigError(f"--{flag} {getattr(parsed, flag)} is out of range: an integer of at least 0")
    count = check_characters(parsed)
    refuse_series(parsed.model)
    use_compilation_cache()
    with reporting(quiet=False) as reporter:
        reporter.working("looking for pieces of the training text", 0.0)
        model = TextModel.load(parsed.model)
        training, held_out = _texts(parsed, model)
        sample = given_text(parsed, model, count) or written_text(model, count, seed=parsed.seed)
        found = novelty(sample.codes, training, held_out)
        pieces = found.sample.longest(parsed.pieces)
        if output is not None:
            _draw(model, sample, found, pieces, output)
    if parsed.json:
        print_json(_figures(model, sample, found, pieces))
        return 0
    _show(model, sample, found, pieces)
    if output is not None:
        print(f"picture:  {output}")
    return 0


def _texts(parsed: argparse.Namespace, model: TextModel) -> tuple[np.ndarray, np.ndarray | None]:
    """The training text, and the held-out one where it is known."""
    if parsed.training is not None:
        codes = read_file(parsed.training, model, parsed.data_dir, known=False)
        if len(codes) == 0:
            raise DataError(f"{parsed.training} is empty: name the text that the model was trained on")
        return codes, None
    if not Path(parsed.model).is_dir():
        raise DataError(
            f"{parsed.model} is a bundle, which holds no text: name its training text with --training, or give its run folder"
        )
    own = reopen(Run(parsed.model), data_folder=parsed.data_dir)
    return own.training, own.held_out


def _text(model: TextModel, sample: LookedAt, piece: Piece) -> str:
    return model.vocabulary.decode(sample.codes[piece.start : piece.start + piece.length])


def _figures(model: TextModel, sample: LookedAt, found: Novelty, pieces: list[Piece]) -> dict[str, Any]:
    return {
        "source": sample.source,
        "characters": len(sample.codes),
        "shares": [{"length": n, "sample": ours, "held_out": theirs} for n, ours, theirs in found.shares()],
        "pieces": [
            {"text": _text(model, sample, p), "start": p.start, "length": p.length, "place": p.place} for p in pieces
        ],
    }


def _rows(model: TextModel, sample: LookedAt, pieces: list[Piece]) -> list[tuple[str, str, str]]:
    return [(f"{p.length:,}", f"{p.place:,}", _text(model, sample, p).replace("\n", "↵")) for p in pieces]


def _share_rows(found: Novelty) -> list[tuple[str, str, str]]:
    return [
        (f"{n} characters or more", f"{100 * ours:.1f} %", "–" if theirs is None else f"{100 * theirs:.1f} %")
        for n, ours, theirs in found.shares()
    ]


SHARES = ("in pieces of", "of the sample", "of held-out text")
PIECES = ("characters", "at place", "piece that stands in the training text")


def _draw(model: TextModel, sample: LookedAt, found: Novelty, pieces: list[Piece], output: Path) -> None:
    values = marked(found.sample) / len(LENGTHS)
    share = found.sample.share(LENGTHS[1])
    title = f"{100 * share:.0f} % of {sample.source} stands in the training text, in pieces of {LENGTHS[1]} characters or more"
    lengths = ", ".join(map(str, LENGTHS))
    colored = ColoredText(sample.symbols(model), values, title, "", f"in pieces of {lengths} or more characters")
    beside = table(SHARES, _share_rows(found)) + table(PIECES, _rows(model, sample, pieces))
    save_colored(colored, output, beside)


def _show(model: TextModel, sample: LookedAt, found: Novelty, pieces: list[Piece]) -> None:
    screen = narrow_console()
    print(f"{printable(sample.source)}, {len(sample.codes):,} characters: the share that stands in the training text\n")
    for titles, rows in ((SHARES, _share_rows(found)), (PIECES, _rows(model, sample, pieces))):
        shown = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 2, 0, 0))
        for place, name in enumerate(titles):
            is_number = place < 2 if titles is PIECES else place > 0
            shown.add_column(name, justify="right" if is_number else "left", overflow="fold")
        for row in rows:
            shown.add_row(*(Text(printable(cell)) for cell in row))
        screen.print(shown)
        print()

"""`elman evaluate` for text: how well a model predicts what it has not seen, beside the baselines."""

import argparse
import math
from pathlib import Path
from typing import Any

import numpy as np

from elman.commands.output import print_json
from elman.errors import DataError
from elman.text.corpora import find_corpus
from elman.text.model import TextModel
from elman.text.ngrams import baselines
from elman.text.reading import find_sources, read_pieces
from elman.text.trainer import cached_baselines, prepare, read_description
from elman.training.engine import use_compilation_cache
from elman.training.runs import Run


def run(parsed: argparse.Namespace) -> int:
    """Score and print."""
    use_compilation_cache()
    model = TextModel.load(parsed.model)
    data_folder = Path(parsed.data_dir) if parsed.data_dir else None
    if parsed.inputs:
        figures = _score_inputs(model, parsed, data_folder)
    elif Path(parsed.model).is_dir():
        figures = _score_held_out(model, Run(parsed.model), data_folder)
    else:
        raise DataError(
            f"{parsed.model} is a bundle, which holds no text: name a text to score it on, or give its run folder"
        )
    if parsed.json:
        print_json(figures)
        return 0
    known = figures["baselines"]
    nats, bits, count = (figures[name] for name in ("nats_per_character", "bits_per_character", "characters"))
    print(f"{nats:.4f} nats = {bits:.4f} bits per character over {count:,}")
    print(f"knowing nothing:    {known['uniform']:.4f}")
    if known.get("ngram") is not None:
        print(
            f"letter frequencies: {known['unigram']:.4f}\n{known['ngram_order']}-grams:            {known['ngram']:.4f}"
        )
        if figures["nats_per_character"] >= known["ngram"]:
            print(f"the {known['ngram_order']}-grams win: train longer, or on more text")
    return 0


def _score_held_out(model: TextModel, run: Run, data_folder: Path | None) -> dict[str, Any]:
    config, facts = read_description(run)
    folder = data_folder or (Path(facts["data_folder"]) if "data_folder" in facts else None)
    ready = prepare(facts["inputs"], config, folder)
    if ready.encoded.digest != facts["digest"]:
        raise DataError(f"the text of {run.path} has changed since the run began: name a text to score it on")
    if len(ready.held_out) == 0:
        raise DataError(f"{run.path} held nothing out (--validation 0): name a text to score it on")
    figures = model.evaluate_codes(ready.held_out, ready.training)
    return {**figures, "baselines": cached_baselines(ready)}


def _score_inputs(model: TextModel, parsed: argparse.Namespace, data_folder: Path | None) -> dict[str, Any]:
    settings = model.config.text
    sources = find_sources(parsed.inputs, settings, find_corpus=lambda name: find_corpus(name, data_folder=data_folder))
    pieces = []
    for piece in read_pieces(sources, settings):
        text = piece.decode("latin-1") if isinstance(piece, bytes) else piece
        codes = model.vocabulary.look_up(np.frombuffer(piece, np.uint8)) if isinstance(piece, bytes) else None
        if codes is None:
            codes = model.vocabulary.encode(text, unknown=parsed.unknown)
        pieces.append(codes[codes < model.vocabulary.size])
    codes = np.concatenate(pieces) if pieces else np.zeros(0, np.uint8)
    figures = model.evaluate_codes(codes)
    known: dict[str, Any] = {"uniform": math.log(model.vocabulary.size)}
    if Path(parsed.model).is_dir():
        # The run's own training text is at hand: n-grams learn from the same text as the network did.
        config, facts = read_description(Run(parsed.model))
        ready = prepare(
            facts["inputs"], config, data_folder or (Path(facts["data_folder"]) if "data_folder" in facts else None)
        )
        known = baselines(ready.training, codes, model.vocabulary.size)
    return {**figures, "baselines": known}

"""`elman train text persian` beside n-grams and beside the floor that the grammar has; how well what it writes is spelled,
and how far each of its stories agrees with its own beginning (median; a story has about 700 characters).

python benchmarks/persian.py                   one and three minutes, seed 0
python benchmarks/persian.py --minutes 1
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import elman
from elman.text.persian import LENGTH, persian_stories, persian_text, read_story
from measuring import report

WRITTEN = 60_000
"""Characters that each model writes at temperature 1."""


def floor(held_out: float = 0.1) -> float:
    """Nats per character of the held-out stories under the grammar itself."""
    begin = (1 - held_out) * len("".join(persian_text()))
    place, nats, characters = 0, 0.0, 0
    for story in persian_stories():
        if place >= begin:
            nats, characters = nats + story.nats, characters + len(story.text)
        place += len(story.text)
        if place >= LENGTH:
            return nats / characters
    raise AssertionError("stories have no end")


def train(minutes: float) -> dict[str, Any]:
    """One run through the command line, as a user starts it; its figures, and what its model writes."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        command = [sys.executable, "-m", "elman", "train", "text", "persian", "--minutes", str(minutes)]
        command += ["--run", str(run), "--seed", "0", "--quiet", "--json"]
        finished = subprocess.run(command, capture_output=True, text=True, check=True)
        figures = json.loads(finished.stdout)
        figures["samples"] = [[sample.iteration, sample.text[:400]] for sample in elman.TextRun(run).samples]
        model = elman.load(run)
        first = next(persian_stories(seed=1)).text  # a model begins a story where one has ended
        written = [f"{story}\n\n" for story in model.sample(first, length=WRITTEN, seed=0).split("\n\n")[:-1]]
    readings = sorted(read_story(story).characters for story in written)
    words = set("".join(persian_text()).split())
    all_words = [word for story in written for word in story.split()]
    figures |= {
        "stories": len(written),
        "right": sum(read_story(story).characters == len(story) for story in written),
        "until_the_first_slip": readings[len(readings) // 2],
        "words_of_the_text": sum(word in words for word in all_words) / len(all_words),
        "written": written[:5],
    }
    return figures


def main() -> None:
    """Train, read back, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, nargs="+", default=[1.0, 3.0])
    runs = {minutes: train(minutes) for minutes in parser.parse_args().minutes}
    baselines, least = next(iter(runs.values()))["baselines"], floor()
    rows = [
        ("persian, last 10 % held out", "nats per character", "words that the text has", "characters to the first slip")
    ]
    for minutes, run in runs.items():
        known, slip = f"{100 * run['words_of_the_text']:.1f} %", str(run["until_the_first_slip"])
        rows.append((f"elman, {minutes:g} minutes", f"{run['nats_per_character']:.4f}", known, slip))
    rows.append((f"{baselines['ngram_order']}-grams (Kneser-Ney)", f"{baselines['ngram']:.4f}", "", ""))
    rows.append(("letter frequencies", f"{baselines['unigram']:.4f}", "", ""))
    rows.append(("the grammar itself: the floor", f"{least:.4f}", "", ""))
    facts = [{key: value for key, value in run.items() if key not in ("run", "bundle")} for run in runs.values()]
    report("persian", rows, {"floor": least, "runs": facts})


if __name__ == "__main__":
    main()

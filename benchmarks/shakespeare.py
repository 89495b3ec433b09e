"""The best model of three minutes: `elman train text shakespeare --minutes 3` with no other flag, and its baselines.

python benchmarks/shakespeare.py                      three minutes per seed; default: seed 0
python benchmarks/shakespeare.py --seeds 3 --minutes 1
python benchmarks/shakespeare.py --corpus war-and-peace
python benchmarks/shakespeare.py --flags "--optimizer adamw"      any other flags, for a comparison
"""

import argparse
import json
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from measuring import DATA, report


def train(corpus: str, minutes: float, seed: int, flags: list[str]) -> dict:
    """One run through the command line, as a user starts it; its final figures."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            "-m",
            "elman",
            "train",
            "text",
            corpus,
            "--minutes",
            str(minutes),
            "--seed",
            str(seed),
        ]
        command += ["--data-dir", str(DATA), "--run", str(Path(folder) / "run"), "--quiet", "--json", *flags]
        finished = subprocess.run(command, capture_output=True, text=True, check=True)
        figures = json.loads(finished.stdout)
        events = [json.loads(line) for line in (Path(folder) / "run" / "events.jsonl").read_text().splitlines()]
    figures["validations"] = [[e["elapsed"], e["nats"]] for e in events if e["kind"] == "validation"]
    figures["parameters"] = events[0]["parameters"]
    return figures


def main() -> None:
    """Train, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--corpus", default="shakespeare", help="or war-and-peace, python-source")
    parser.add_argument("--flags", default="")
    parsed = parser.parse_args()
    runs = [train(parsed.corpus, parsed.minutes, seed, shlex.split(parsed.flags)) for seed in range(parsed.seeds)]
    baselines = runs[0]["baselines"]
    rows = [
        (
            f"{parsed.corpus}, last 10 % held out, {parsed.minutes:g} minutes {parsed.flags}",
            "nats per character",
            "bits",
            "updates",
        )
    ]
    rows += [
        (f"elman, seed {seed}", f"{r['nats_per_character']:.4f}", f"{r['bits_per_character']:.4f}", f"{r['updates']:,}")
        for seed, r in enumerate(runs)
    ]
    rows += [
        (name, f"{baselines[key]:.4f}", "", "")
        for name, key in (("knowing nothing", "uniform"), ("letter frequencies", "unigram"))
    ]
    rows.append((f"{baselines['ngram_order']}-grams (Kneser-Ney)", f"{baselines['ngram']:.4f}", "", ""))
    name = parsed.corpus + (f"-{parsed.minutes:g}" if parsed.minutes != 3 else "") + ("-flags" if parsed.flags else "")
    report(name, rows, {"runs": runs, "flags": parsed.flags})


if __name__ == "__main__":
    main()

"""Every benchmark, one after the other: nothing else should run on the machine meanwhile.

make bench                                        about three quarters of an hour
python benchmarks/all.py --only text              the text half: about ten minutes (`series`: the forecasting half)
python benchmarks/all.py --peers PATH             also the forecasting peers, in their own environment: half an hour more
python benchmarks/all.py --layer-peers PATH       also the layers' peers, in theirs: two hours more
"""

import argparse
import subprocess
import sys
from pathlib import Path

TEXT = ("startup", "recurrence", "classic", "sampling", "memory", "shakespeare")
SERIES = ("running", "jena", "keras_split", "streams_windows", "big_tables", "many_series")


def run(script: str, *arguments: str) -> None:
    """One script, to its end."""
    print(f"== {script}", flush=True)
    subprocess.run([sys.executable, Path(__file__).parent / f"{script}.py", *arguments], check=True)


def main() -> None:
    """Run them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=("text", "series"))
    parser.add_argument("--peers", help="the environment of `forecasting_peers.py`, which says what is in it")
    parser.add_argument("--layer-peers", help="the environment of `layers.py`, `slopes.py` and `curves.py`")
    parsed = parser.parse_args()
    for script in (() if parsed.only == "series" else TEXT) + (() if parsed.only == "text" else SERIES):
        run(script)
    if parsed.layer_peers:
        run("layers", "--peers", parsed.layer_peers, "--resume")
        run("layers_plot")
        run("slopes", "--peers", parsed.layer_peers)
        run("curves", "--peers", parsed.layer_peers)
    if parsed.peers:
        run("forecasting_peers", "--peers", parsed.peers)


if __name__ == "__main__":
    main()

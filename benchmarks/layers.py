"""Seconds per update of recurrent layers: elman beside PyTorch, Keras, Flax, Equinox and hand-written JAX, on the same processor.

Same batch, units, steps and inputs, float32, a whole training step with Adam, or the forward pass alone. `layers_libraries.py` says
what each library does; all compute with the same number of threads:

    elman          the compiled kernels            keras-jax, keras-torch    Keras 3 on each of the two
    elman-scan     the same with ELMAN_KERNELS=off                           flax, equinox            their cells under a scan
    torch          nn.RNN, nn.GRU, nn.LSTM         scan          `lax.scan` by hand, a call for each update
    torch-compile  the same under torch.compile    scan-block    the same, many updates in one call as elman's (training only)
    numpy          the classic program, at its one shape
    torch-unrolled (only where it is asked for)    torch.compile with the recurrent layers unrolled; compiles for minutes

Every library has a process of its own, kept alive and blocked on its input while it is not asked. They are asked in turn, round by
round, and between the rounds a fixed matrix product is timed: rounds in which that was slow are left out, and it tells how fast the
machine can multiply, of which elman's share is given. Ratios are theirs by ours, round by round; above 1 elman is quicker.

The peers live in an environment of their own, which is made where it is missing: see `INSTALLS`.

python benchmarks/layers.py --peers PATH --grid small                the shapes that people use most
python benchmarks/layers.py --peers PATH --grid full --resume        all; goes on where it was interrupted
python benchmarks/layers.py --peers PATH --only "gru 32x256x64" --libraries elman,torch --training
"""

import argparse
import contextlib
import dataclasses
import itertools
import json
import math
import os
import select
import signal
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from layers_libraries import LIBRARIES, Case
from layers_worker import PROBE
from measuring import RESULTS, peers_python, report

OWN = ("elman", "elman-scan")
JAX_PEERS = ("keras-jax", "flax", "equinox", "scan", "scan-block")
DEFAULT = tuple(name for name in LIBRARIES if name not in ("torch-cells", "torch-unrolled"))
CLASSIC = (1, 100, 25)
SHAPES = (
    CLASSIC,
    (1, 256, 64),
    (16, 128, 64),
    (32, 256, 64),
    (64, 128, 64),
    (64, 512, 64),
    (32, 512, 64),
    (128, 128, 120),
    (32, 1024, 64),
    (128, 1024, 256),
)
DENSE = ((128, 128, 120, 8), (32, 256, 64, 64), (32, 512, 64, 64), (16, 64, 128, 14))
SMALL = (CLASSIC, (32, 256, 64), (32, 512, 64), (128, 128, 120))
"""Shapes of characters in the small grid; of the dense ones it has the first two."""

WORKER = Path(__file__).parent / "layers_worker.py"
# torch first and by its version: what needs it then takes this build, and not one with gigabytes of CUDA.
INSTALLS = (
    ("torch==2.13.0",),
    (
        "torch==2.13.0",
        "numpy==2.4.6",
        "keras==3.15.1",
        "jax==0.10.2",
        "jaxlib==0.10.2",
        "flax==0.12.8",
        "equinox==0.13.8",
        "optax==0.2.8",
    ),
)
SLOW_PROBE = 1.15
FEWEST_ROUNDS = 3


# The libraries' processes -----------------------------------------------------------------------------------------------------


def worker_environment(name: str, threads: int) -> dict[str, str]:
    """The variables of a library's process."""
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "KERAS_BACKEND": "torch" if name == "keras-torch" else "jax",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        # Compiled in the process itself: helpers of its own would be there while others are timed.
        "TORCHINDUCTOR_COMPILE_THREADS": "1",
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "OPENBLAS_NUM_THREADS": str(threads),
        "ELMAN_THREADS": str(threads),
        # OpenMP's threads would wait for work by turning around: on two cores that takes PyTorch's own time, up to a hundredfold
        # where anything else wants a core, and the others' afterwards.
        "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "passive"),
        "KMP_BLOCKTIME": os.environ.get("KMP_BLOCKTIME", "0"),
    }
    if name in OWN:
        environment["ELMAN_KERNELS"] = "off" if name == "elman-scan" else os.environ.get("ELMAN_KERNELS", "on")
    return environment


class Library:
    """One library's process: started when it is first asked something, and again after it had to be stopped."""

    def __init__(self, name: str, python: Path, threads: int, logs: Path) -> None:
        self.name, self.command, self.log = name, [str(python), str(WORKER), name], logs / f"{name}.log"
        self.environment = worker_environment(name, threads)
        self.process: subprocess.Popen[str] | None = None
        self.about: dict[str, Any] = {}

    def ask(self, request: dict[str, Any], limit: float) -> dict[str, Any]:
        """Its answer; {"error": reason} where there is none within `limit` seconds."""
        if self.process is None and "error" not in self.about:
            self.about = self._start()
        if "error" in self.about:
            self.close()
            return {"error": self.about["error"]}
        assert self.process is not None
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
        except OSError:
            return self._ended()
        return self._line(limit)

    def close(self) -> None:
        """End the process and whatever it has started."""
        if self.process is not None:
            process, self.process = self.process, None
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _start(self) -> dict[str, Any]:
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=self.environment,
                start_new_session=True,  # a group of its own, so that compilers it has started end with it
            )
        return self._line(300)

    def _line(self, limit: float) -> dict[str, Any]:
        assert self.process is not None
        assert self.process.stdout is not None
        if not select.select([self.process.stdout], [], [], limit)[0]:
            self.close()
            return {"error": f"no answer after {limit:.0f} s"}
        line = self.process.stdout.readline()
        return json.loads(line) if line else self._ended()

    def _ended(self) -> dict[str, Any]:
        self.close()
        said = self.log.read_text(errors="replace").strip().splitlines() or ["it said nothing"]
        return {"error": f"its process ended: {said[-1][:300]}"}


def start_libraries(names: list[str], peers: Path, threads: int, logs: Path) -> dict[str, Library]:
    """The processes, not started yet; the peers' environment is made if any of them needs it."""
    python = Path(sys.executable) if set(names) <= set(OWN) else peers_python(peers, INSTALLS)
    return {name: Library(name, Path(sys.executable) if name in OWN else python, threads, logs) for name in names}


# Measuring --------------------------------------------------------------------------------------------------------------------


def grid(name: str, *, training: bool, inference: bool) -> list[Case]:
    """The cases of the small or the full grid, quick ones first."""
    shapes, dense = (SHAPES, DENSE) if name == "full" else (SMALL, DENSE[:2])
    cases = [
        case
        for mode in (True, False)
        if (training if mode else inference)
        for cell in ("tanh", "gru", "lstm")
        for case in (
            *(Case("characters", cell, *shape, training=mode) for shape in shapes),
            *(Case("dense", cell, *shape, training=mode) for shape in dense),
        )
    ]
    return sorted(cases, key=lambda case: (not case.training, case.batch * case.steps * case.hidden**2))


def does(library: str, case: Case) -> bool:
    """Whether a library has this case: many updates in one call are for training, and the NumPy program has one shape."""
    if library == "numpy":
        shape = (case.batch, case.hidden, case.steps)
        return case.training and case.characters and case.cell == "tanh" and shape == CLASSIC
    return case.training or library != "scan-block"


def measure_case(case: Case, libraries: dict[str, Library], parsed: argparse.Namespace) -> dict[str, Any]:
    """Every repetition of one case by every library that has it, and what went wrong with the others."""
    asked = {name: library for name, library in libraries.items() if does(name, case)}
    request = {"case": dataclasses.asdict(case), "least": parsed.least}
    allowance = case.multiply_adds / 1e9  # what the updates that are run while it compiles may take at the very slowest
    found: dict[str, dict[str, Any]] = {}
    for name, library in asked.items():
        answer = library.ask({**request, "warm": True}, parsed.compile_limit + allowance)
        if "no answer" in answer.get("error", ""):
            answer = {"error": f"compiling took more than {parsed.compile_limit:.0f} s"}
        found[name] = {**answer, "seconds": [], "updates": [], "estimate": answer.get("seconds")}
        if answer.get("seconds", 0) > parsed.slow:
            found[name]["note"] = f"one round, because an update takes more than {parsed.slow:g} s"
    probes: dict[str, list[float | None]] = {"jax": [], "torch": []}
    probe(libraries, probes)
    names = list(asked)
    for number in range(parsed.rounds):
        # Each begins a round in its turn, so that nobody always follows the same neighbor.
        for name in names[number % len(names) :] + names[: number % len(names)]:
            figures = found[name]
            if "error" in figures:
                continue
            skipped = "note" in figures and number > 0
            answer = {} if skipped else asked[name].ask({**request, "warm": False}, 60 + 20 * figures["estimate"])
            if "error" in answer:
                figures["error"] = answer["error"]
                continue
            figures["seconds"].append(answer.get("seconds"))
            figures["updates"].append(answer.get("updates"))
            figures["loss"] = answer.get("loss", figures.get("loss"))
        probe(libraries, probes)
    for library in asked.values():
        if library.process is not None:
            library.ask({"forget": True}, 60)
    return {"case": dataclasses.asdict(case), "libraries": found, "probes": probes}


def probe(libraries: dict[str, Library], probes: dict[str, list[float | None]]) -> None:
    """Time the fixed product by JAX and by PyTorch, where they are there."""
    for kind, name in (("jax", "elman"), ("torch", "torch")):
        answer = libraries[name].ask({"probe": True}, 120) if name in libraries else {}
        probes[kind].append(answer.get("seconds"))


# What the figures say ---------------------------------------------------------------------------------------------------------


def round_probes(record: dict[str, Any]) -> list[float]:
    """The probe of each round: the slower of those before and behind it; infinite where one failed."""
    seconds = [math.inf if probed is None else probed for probed in record["probes"]["jax"]]
    return [max(pair) for pair in itertools.pairwise(seconds)]


def kept_rounds(record: dict[str, Any], usual: float) -> list[int]:
    """The rounds in which nothing disturbed: the probe at most 15 % slower than usual; the three best, if fewer are."""
    probes = round_probes(record)
    if all(map(math.isinf, probes)):
        return list(range(len(probes)))
    kept = [number for number, seconds in enumerate(probes) if seconds <= SLOW_PROBE * usual]
    best = sorted(range(len(probes)), key=probes.__getitem__)[:FEWEST_ROUNDS]
    return kept if len(kept) >= FEWEST_ROUNDS else sorted(best)


def times(record: dict[str, Any], name: str, rounds: list[int]) -> dict[int, float]:
    """A library's seconds by round; all it has where none of `rounds` is among them, nothing where it failed."""
    figures = record["libraries"].get(name, {"error": "not asked"})
    if "error" in figures:
        return {}
    every = {number: seconds for number, seconds in enumerate(figures["seconds"]) if seconds is not None}
    return {number: every[number] for number in rounds if number in every} or every


def spread(values: list[float]) -> dict[str, float]:
    """Median, least and greatest."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values), "rounds": len(values)}


def summary(record: dict[str, Any], usual: float) -> dict[str, Any]:
    """One case: seconds, elman's share of the machine's rate, and every peer's ratio to elman."""
    case, rounds = Case(**record["case"]), kept_rounds(record, usual)
    seconds = {name: times(record, name, rounds) for name in record["libraries"]}
    found: dict[str, Any] = {
        "case": record["case"],
        "kept_rounds": rounds,
        "seconds": {name: spread(list(values.values())) for name, values in seconds.items() if values},
        "ratios": {},
        "notes": {
            n: f.get("error") or f["note"] for n, f in record["libraries"].items() if "error" in f or "note" in f
        },
    }
    medians = {name: values["median"] for name, values in found["seconds"].items()}
    for key, names in (("best_jax_peer", JAX_PEERS), ("best_peer", [name for name in medians if name not in OWN])):
        there = [name for name in names if name in medians]
        found[key] = min(there, key=medians.__getitem__) if there else None
    ours = seconds.get("elman", {})
    for name, theirs in seconds.items():
        # A slow peer's one round may be one that is left out: elman's own of that round is then compared with it.
        own = ours if theirs.keys() & ours.keys() else times(record, "elman", list(theirs))
        each = [theirs[number] / own[number] for number in theirs if number in own]
        if each and name != "elman":
            found["ratios"][name] = spread(each)
    fastest = [statistics.median(kept) for kept in kept_probes(record, rounds) if kept]
    if ours and fastest:
        found["multiply_adds_per_second"] = PROBE**3 / min(fastest)
        found["share"] = case.multiply_adds / medians["elman"] / found["multiply_adds_per_second"]
    return found


def kept_probes(record: dict[str, Any], rounds: list[int]) -> list[list[float]]:
    """The probes before and behind these rounds, by JAX and by PyTorch."""
    places = sorted({place for number in rounds for place in (number, number + 1)})
    return [[probes[p] for p in places if probes[p] is not None] for probes in record["probes"].values()]


def summaries(records: dict[str, Any]) -> dict[str, Any]:
    """`summary` of every case; the usual probe is the median of all rounds."""
    probes = [seconds for record in records.values() for seconds in round_probes(record) if math.isfinite(seconds)]
    usual = statistics.median(probes) if probes else math.inf
    return {name: summary(record, usual) for name, record in records.items()}


def geometric_means(found: dict[str, Any]) -> dict[str, Any]:
    """Geometric means of the median ratios over the cases, for training and inference, all cells and each."""
    means: dict[str, Any] = {}
    for mode in ("training", "inference"):
        for cell in ("all", "tanh", "gru", "lstm"):
            logs: dict[str, list[float]] = {}
            for one in found.values():
                if one["case"]["training"] != (mode == "training") or cell not in ("all", one["case"]["cell"]):
                    continue
                ratios = {name: ratio["median"] for name, ratio in one["ratios"].items()}
                for key in ("best_jax_peer", "best_peer"):
                    if one[key] in ratios:
                        ratios[key] = ratios[one[key]]
                for name, ratio in ratios.items():
                    logs.setdefault(name, []).append(math.log(ratio))
            if logs:
                means.setdefault(mode, {})[cell] = {
                    name: {"ratio": math.exp(statistics.fmean(values)), "cases": len(values)}
                    for name, values in logs.items()
                }
    return means


def table(found: dict[str, Any], means: dict[str, Any], names: list[str]) -> list[tuple[str, ...]]:
    """What is printed: a row for each case, the geometric means below."""
    peers = [name for name in names if name != "elman"]
    rows = [("theirs / ours", "elman, ms", "of the rate", *peers, "best JAX peer")]
    for name, one in found.items():
        seconds, share, best = one["seconds"], one.get("share"), one["best_jax_peer"]
        ours = f"{1e3 * seconds['elman']['median']:.3g}" if "elman" in seconds else ""
        cells = [ours, "" if share is None else f"{100 * share:.0f} %"]
        for peer in peers:
            failed = "failed" if peer in one["notes"] and peer not in seconds else ""
            cells.append(ratio_text(one["ratios"][peer]) if peer in one["ratios"] else failed)
        cells.append(f"{best} {ratio_text(one['ratios'][best])}" if best in one["ratios"] else "")
        rows.append((name, *cells))
    for mode, cells_of in means.items():
        for cell, ratios in cells_of.items():
            figures = [f"{ratios[peer]['ratio']:.2f}" if peer in ratios else "" for peer in (*peers, "best_jax_peer")]
            rows.append((f"geometric mean, {mode}, {cell}", "", "", *figures))
    return rows


def ratio_text(ratio: dict[str, float]) -> str:
    """A ratio with its spread."""
    return f"{ratio['median']:.2f} ({ratio['min']:.2f}-{ratio['max']:.2f})"


# The run ----------------------------------------------------------------------------------------------------------------------


def parse() -> argparse.Namespace:
    """The command line; what it leaves open, filled in."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers", type=Path, default=Path(tempfile.gettempdir()) / "elman-layers-peers")
    parser.add_argument("--grid", choices=("small", "full"), default="full")
    parser.add_argument("--only", nargs="*", default=[], help="cases whose name holds one of these")
    parser.add_argument("--libraries", default=",".join(DEFAULT), help="with commas between them")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--training", action="store_true", help="training alone")
    parser.add_argument("--inference", action="store_true", help="inference alone")
    parser.add_argument("--resume", action="store_true", help="keep the cases that the file of results has")
    parser.add_argument("--name", help="of the file of results; by default it says what was asked for")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--least", type=float, default=0.3, help="seconds that each repetition lasts at least")
    parser.add_argument("--slow", type=float, default=20.0, help="seconds per update beyond which a peer has one round")
    parser.add_argument("--compile-limit", type=float, default=120.0, help="seconds that a library may compile")
    parsed = parser.parse_args()
    parsed.libraries = parsed.libraries.split(",")
    unknown = [name for name in parsed.libraries if name not in LIBRARIES]
    if unknown or parsed.rounds < 1:
        parser.error(f"no such library: {', '.join(unknown)}" if unknown else "at least one round")
    part = parsed.only or parsed.training or parsed.inference or tuple(parsed.libraries) != DEFAULT
    parsed.name = parsed.name or "layers" + ("-other" if part else "-small" if parsed.grid == "small" else "")
    if not parsed.training and not parsed.inference:
        parsed.training = parsed.inference = True
    return parsed


def known(name: str) -> dict[str, Any]:
    """What an interrupted run has written, or a finished one."""
    for path in (RESULTS / f"{name}.json.tmp", RESULTS / f"{name}.json"):
        if path.exists():
            return json.loads(path.read_text())
    return {}


def flush(name: str, libraries: dict[str, Any], records: dict[str, Any]) -> None:
    """Write what there is, whole or not at all."""
    RESULTS.mkdir(exist_ok=True)
    path, partial = RESULTS / f"{name}.json.tmp", RESULTS / f"{name}.json.partial.tmp"
    partial.write_text(json.dumps({"libraries": libraries, "records": records}))
    partial.replace(path)


def main() -> None:
    """Measure, print, write."""
    parsed = parse()
    cases = grid(parsed.grid, training=parsed.training, inference=parsed.inference)
    cases = [case for case in cases if not parsed.only or any(part in case.name for part in parsed.only)]
    before = known(parsed.name) if parsed.resume else {}
    about, records = before.get("libraries", {}), before.get("records", {})
    with tempfile.TemporaryDirectory() as folder:
        libraries = start_libraries(parsed.libraries, parsed.peers, parsed.threads, Path(folder))
        try:
            for number, case in enumerate(cases, 1):
                asked = {name for name in libraries if does(name, case)}
                if asked <= set(records.get(case.name, {}).get("libraries", ())):
                    continue
                print(f"{number} of {len(cases)}: {case.name}", file=sys.stderr, flush=True)
                records[case.name] = measure_case(case, libraries, parsed)
                about |= {name: library.about for name, library in libraries.items() if library.about}
                flush(parsed.name, about, records)
        finally:
            for library in libraries.values():
                library.close()
    found = summaries(records)
    means = geometric_means(found)
    settings = {key: getattr(parsed, key) for key in ("rounds", "threads", "least", "slow", "compile_limit")}
    figures = {"libraries": about, "settings": settings, "geometric_means": means, "summaries": found}
    report(parsed.name, table(found, means, parsed.libraries), {**figures, "records": records})
    for name in OWN:
        if name in about:
            print(f"{name} computed with: {about[name].get('kernels')}")
    for name, one in found.items():
        for library, note in one["notes"].items():
            print(f"{name}, {library}: {note}")
    (RESULTS / f"{parsed.name}.json.tmp").unlink(missing_ok=True)


if __name__ == "__main__":
    main()

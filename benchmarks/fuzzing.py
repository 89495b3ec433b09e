"""Every reader of files against damaged ones, for as long as one likes: nothing but a sound object or an `ElmanError` of one line.

python benchmarks/fuzzing.py                            8 minutes, all kinds
python benchmarks/fuzzing.py --minutes 60 --only table  one kind (`--only` may be given several times)
python benchmarks/fuzzing.py --corpus DIR               keeps there what led to new places, and starts from it the next time
python benchmarks/fuzzing.py --corpus DIR --pack        puts the smallest inputs that lead to all its places into the archive
                                                        `fuzzing_corpus.zip`, from which searches and tests start

Each kind has a child process with a limit on its address space. An input that takes longer than `SECONDS_EACH`, ends the process,
runs something, or gets an exception that is no `ElmanError` is a finding: it is kept in `DIR/findings` (beside the corpus, or in a
temporary folder), one for each place in the code, and the exit status is 1. What leads to a place where nothing was refused or read
before joins the corpus: that is how the search is guided. Lines that were never run would guide it better, but Python 3.11 can only
watch them at a tenth of the speed.
"""

import argparse
import contextlib
import hashlib
import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

from measuring import RESULTS, report

SECONDS_EACH = 5.0
SECONDS_STUCK = 30.0
"""Without a sign of life: what hangs inside a library cannot be interrupted, and is ended from outside."""

GROWTH = 2 << 30
"""Bytes of address space that a child may take beyond what it has when its readers are loaded: no input is larger than 256 KiB."""

LARGEST_KEPT, MOST_KEPT = 6000, 40
"""Bytes of an input that is worth a place in the archive, and inputs of a kind."""

KINDS = (
    "text model", "series model", "onnx", "state dict", "pickle", "npz", "settings", "events", "evaluation",
    "checkpoint", "table", "text", "time", "configuration", "http",
)  # fmt: skip
FORBIDDEN = (
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "subprocess.Popen",
    "socket.connect",
    "shutil.rmtree",
    "pty.spawn",
)
"""Events of Python's audit that no reader causes: an input that does has had something run."""


class Hang(BaseException):
    """An input takes too long. No `Exception`, so that no reader takes it for damage."""


class Executed(BaseException):
    """An input had something run."""


def main() -> None:
    """Share the minutes among the kinds, two at a time; print, write, exit."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--only", action="append", choices=KINDS)
    parser.add_argument("--corpus", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pack", action="store_true")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parsed = parser.parse_args()
    if parsed.child:
        child(parsed.child, parsed.corpus, parsed.minutes * 60, parsed.seed)
        return
    kinds = parsed.only or KINDS
    if parsed.pack:
        pack(parsed.corpus, kinds)
        return
    with tempfile.TemporaryDirectory() as temporary:
        corpus = parsed.corpus or Path(tempfile.mkdtemp(prefix="fuzzing-"))
        each = parsed.minutes * 60 * min(2, len(kinds)) / len(kinds)
        figures = pairs(kinds, corpus, each, parsed.seed, Path(temporary))
    rows = [("kind", "executions", "read", "refused", "places", "findings")]
    rows += [
        (kind, f"{f['executions']:,}", f"{f['read']:,}", f"{f['refused']:,}", str(f["places"]), str(len(f["findings"])))
        for kind, f in figures.items()
    ]
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = round((spent.ru_utime + spent.ru_stime) / 60, 1)
    before = (
        json.loads((RESULTS / "fuzzing.json").read_text()) if parsed.only else {}
    )  # the other kinds keep their figures
    minutes = before.get("minutes", 0.0) + parsed.minutes
    processor = round(before.get("processor_minutes", 0.0) + processor, 1)
    kept = {**before.get("by_kind", {}), **figures}
    report("fuzzing", rows, {"minutes": minutes, "processor_minutes": processor, "by_kind": kept})
    found = [(kind, words) for kind, f in figures.items() for words in f["findings"]]
    for kind, words in found:
        print(f"{kind}: {words}")
    if found:
        print(f"kept in {corpus / 'findings'}")
    sys.exit(1 if found else 0)


def pairs(kinds: tuple[str, ...], corpus: Path, each: float, seed: int, temporary: Path) -> dict[str, dict[str, Any]]:
    """The figures of every kind; two are at work at any time."""
    waiting, working, figures = list(kinds), {}, {}
    while waiting or working:
        while waiting and len(working) < 2:
            kind = waiting.pop(0)
            working[kind] = Watched(kind, corpus, each, seed, temporary)
        for kind, watched in list(working.items()):
            if watched.over():
                figures[kind] = working.pop(kind).figures
                print(f"{kind}: {figures[kind]['executions']:,} executions", flush=True)
        time.sleep(0.1)
    return {kind: figures[kind] for kind in kinds}


def pack(corpus: Path, kinds: tuple[str, ...]) -> None:
    """Write the archive of what is kept."""
    import fuzzing_targets

    with tempfile.TemporaryDirectory() as folder:
        # Not what PyTorch reads: it is not here everywhere.
        files = {
            f"{kind.replace(' ', '-')}/{hashlib.sha256(data).hexdigest()[:12]}": data
            for kind in KINDS
            if kind != "pickle"
            for data in worth_keeping(kind, corpus if kind in kinds else None, Path(folder))
        }
    with zipfile.ZipFile(fuzzing_targets.KEPT, "w") as packed:
        for name, data in sorted(files.items()):
            packed.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_LZMA)
    print(f"{len(files)} inputs, {fuzzing_targets.KEPT.stat().st_size:,} bytes")


def worth_keeping(kind: str, corpus: Path | None, folder: Path) -> list[bytes]:
    """The smallest inputs of a kind, each of which leads to a place where neither the seeds nor those before it led."""
    import fuzzing_targets

    target, places, kept = fuzzing_targets.TARGETS[kind], set(), []
    path = folder / f"input{target.suffix}"
    own = list((corpus / kind.replace(" ", "-")).glob("*")) if corpus else []
    found = {file.read_bytes() for file in own} | set(fuzzing_targets.kept(kind))
    seeds = target.seeds()
    small = sorted((data for data in found if len(data) <= LARGEST_KEPT), key=lambda data: (len(data), data))
    for number, data in enumerate([*seeds, *small]):
        path.write_bytes(data)
        fuzzing_targets.check(target, path)
        if fuzzing_targets.last_place not in places:
            places.add(fuzzing_targets.last_place)
            kept += [data] if number >= len(seeds) else []
    return kept[:MOST_KEPT]


class Watched:
    """The child processes of one kind, one after the other: where one is ended by its input, the next goes on."""

    def __init__(self, kind: str, corpus: Path, seconds: float, seed: int, temporary: Path) -> None:
        self.kind, self.corpus, self.seed = kind, corpus, seed
        self.until = time.monotonic() + seconds
        self.log_path = temporary / f"{kind}.json"
        self.figures: dict[str, Any] = {"executions": 0, "read": 0, "refused": 0, "places": 0, "findings": []}
        self._start()

    def _start(self) -> None:
        self.log_path.unlink(missing_ok=True)
        seconds = max(1.0, self.until - time.monotonic())
        command = [sys.executable, __file__, "--child", self.kind, "--corpus", str(self.corpus)]
        command += ["--minutes", str(seconds / 60), "--seed", str(self.seed)]
        environment = {
            **os.environ,
            "FUZZING_LOG": str(self.log_path),
            "JAX_PLATFORMS": "cpu",
            "POLARS_MAX_THREADS": "2",
        }
        self.process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True, errors="replace")
        self.began = time.monotonic()

    def over(self) -> bool:
        """Whether the kind's time is up. Takes up a new child where one died."""
        if self.process.poll() is None:
            alive = self.log_path.stat().st_mtime if self.log_path.exists() else 0.0
            quiet = time.time() - alive if alive else time.monotonic() - self.began - 90
            if quiet > SECONDS_STUCK:
                self.process.kill()
            return False
        status, words = self.process.returncode, (self.process.stderr.read() if self.process.stderr else "")[-300:]
        with contextlib.suppress(FileNotFoundError, ValueError):
            gained = json.loads(self.log_path.read_text())
            for name in ("executions", "read", "refused"):
                self.figures[name] += gained[name]
            self.figures["places"] = max(self.figures["places"], gained["places"])
            self.figures["findings"] += [said for said in gained["findings"] if said not in self.figures["findings"]]
        if status == 0:
            return True
        self.figures["findings"].append(f"the process ended with status {status}: {' '.join(words.split())}")
        keep(self.corpus, self.kind, f"status{status}-{self.seed}", self.log_path.with_suffix(".input"))
        self.seed += 1
        # A child that dies at once, again and again, has said what it has to say.
        if time.monotonic() > self.until - 2 or len(self.figures["findings"]) > 20:
            return True
        self._start()
        return False


def keep(corpus: Path, kind: str, name: str, source: Path) -> None:
    """Copy an input to the findings."""
    folder = corpus / "findings"
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        (folder / f"{kind.replace(' ', '-')}-{name}").write_bytes(source.read_bytes())


def child(kind: str, corpus: Path, seconds: float, seed: int) -> None:
    """Damage and read until the time is up, in this process."""
    import fuzzing_targets

    target, log_path = fuzzing_targets.TARGETS[kind], Path(os.environ["FUZZING_LOG"])
    if kind == "pickle":
        try:
            import torch  # noqa: F401
        except ImportError:
            log_path.write_text(json.dumps({"executions": 0, "read": 0, "refused": 0, "places": 0, "findings": []}))
            return
    own = corpus / kind.replace(" ", "-")
    own.mkdir(parents=True, exist_ok=True)
    pool = target.seeds() + fuzzing_targets.kept(kind) + [path.read_bytes() for path in sorted(own.iterdir())]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"input{target.suffix}")
        for data in target.seeds():
            path.write_bytes(data)
            fuzzing_targets.check(target, path)  # everything is loaded and compiled before limits are set
        guard()
        Search(target, path, pool, own, log_path, random.Random(seed)).run(seconds)


def guard() -> None:
    """Limit this process: address space, core files, seconds for each input, and nothing is ever run."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + GROWTH,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    def expire(*_: object) -> None:
        raise Hang(f"longer than {SECONDS_EACH:g} seconds")

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if event in FORBIDDEN and signal.getitimer(signal.ITIMER_REAL)[0]:  # while an input is read
            raise Executed(f"{event} {str(arguments)[:100]}")

    signal.signal(signal.SIGALRM, expire)
    sys.addaudithook(watch)


class Search:
    """The search of one child: what it has seen, what it found."""

    def __init__(
        self, target: Any, path: Path, pool: list[bytes], own: Path, log_path: Path, generator: random.Random
    ) -> None:
        self.target, self.path, self.pool, self.own, self.log_path = target, path, pool, own, log_path
        self.random, self.seeds = generator, target.seeds()
        self.counts: Counter[str] = Counter()
        self.places: set[str] = set()
        self.findings: dict[str, str] = {}

    def run(self, seconds: float) -> None:
        """Go on until the time is up; first the places of what is known already, so that they are not taken for new."""
        until, told = time.monotonic() + seconds, 0.0
        current = self.log_path.with_suffix(".input")
        for data in list(self.pool):
            current.write_bytes(data)
            self._read(data, known=True)
            self._tell()
        while time.monotonic() < until:
            data = self._damaged()
            current.write_bytes(data)
            self._read(data)
            if time.monotonic() > told + 1:
                told = time.monotonic()
                self._tell()
        self._tell()

    def _damaged(self) -> bytes:
        from fuzzing_mutations import spliced

        # Half of the time from whole files: most of what was found is refused early.
        data = self.random.choice(self.seeds if self.random.random() < 0.5 else self.pool)
        if self.random.random() < 0.05:
            data = spliced(self.random, data, self.random.choice(self.pool))
        for _ in range(self.random.choice((1, 1, 1, 2, 3))):
            data = self.target.mutate(self.random, data)
        return data

    def _read(self, data: bytes, *, known: bool = False) -> None:
        import fuzzing_targets

        self.path.write_bytes(data)
        self.counts["executions"] += 1
        signal.setitimer(signal.ITIMER_REAL, SECONDS_EACH)
        try:
            said = fuzzing_targets.check(self.target, self.path)
            place = fuzzing_targets.last_place
            self.counts[said] += 1
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # Polars' panics and our own signals are no `Exception`
            signal.setitimer(signal.ITIMER_REAL, 0)
            self._found(error, data)
            return
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        if known:
            self.places.add(place)
        elif place not in self.places:
            self.places.add(place)
            self.pool.append(data)
            (self.own / f"{len(list(self.own.iterdir())):05d}").write_bytes(data)
        elif said == "read" and self.random.random() < 0.01 and len(self.pool) < 2000:
            self.pool.append(data)

    def _found(self, error: BaseException, data: bytes) -> None:
        frames = traceback.extract_tb(error.__traceback__)
        ours = [frame for frame in frames if "elman" in frame.filename] or frames
        place = f"{type(error).__name__} at {Path(ours[-1].filename).name}:{ours[-1].lineno}"
        if place not in self.findings:
            self.findings[place] = f"{place}: {' '.join(str(error).split())[:200]}"
            name = place.replace(" at ", "-").replace(":", "-")
            keep(self.own.parent, self.target.kind, f"{name}{self.target.suffix}", self.log_path.with_suffix(".input"))

    def _tell(self) -> None:
        figures = {name: self.counts[name] for name in ("executions", "read", "refused")}
        self.log_path.write_text(
            json.dumps({**figures, "places": len(self.places), "findings": list(self.findings.values())})
        )


if __name__ == "__main__":
    main()

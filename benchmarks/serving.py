"""`elman serve` under load: one stream, 64, 1,000; beside FastAPI with PyTorch; a soak; killed and started again.

python benchmarks/serving.py [--peers PATH] [--rounds N] [--soak MINUTES]           about two minutes without a soak

A GRU of 256 units over 65 symbols. Client and server share the machine's cores, as do client and peer.
"""

import argparse
import json
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

from elman.text.model import TextModel
from elman.training.engine import use_compilation_cache
from layers import INSTALLS
from measuring import interleaved, peers_python, ratios, report, summarize

ALPHABET = "".join(chr(33 + code) for code in range(65))
HERE = Path(__file__).parent
ONE, MANY, OPEN = 1, 64, 1000


def load(port: int, streams: int, length: int, seconds: float = 0, **body: Any) -> dict[str, Any]:
    """The client's figures."""
    asked = {"model": "gru", "prompt": "ABCDEFGHIJ", "max_tokens": length, "stream": True, **body}
    asked = {"port": port, "path": "/v1/completions", "body": asked, "streams": streams, "seconds": seconds}
    command = [sys.executable, str(HERE / "serving_client.py"), json.dumps(asked)]
    found: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    if found["errors"]:
        raise SystemExit(f"{found['errors']} errors with {streams} streams: {found}")
    return found


class Server:
    """`elman serve` in a process of its own."""

    def __init__(self, bundle: Path, *words: str) -> None:
        command = [sys.executable, "-m", "elman", "serve", str(bundle), "--port", "0", "--time-limit", "3600", *words]
        self.log = tempfile.TemporaryFile("w+")  # noqa: SIM115 (as long as the server)
        self.process = subprocess.Popen(command, stderr=self.log)
        self.port = 0
        while not self.port:
            time.sleep(0.1)
            self.log.seek(0)
            lines = self.log.read()
            found = re.search(r"listening on http://127.0.0.1:(\d+)/", lines)
            self.port = int(found[1]) if found else 0
            if self.process.poll() is not None:
                raise SystemExit(lines)

    def memory(self, what: str = "VmRSS") -> float:
        """Resident bytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.findall(rf"{what}:\s+(\d+)", status)[0]) * 1024

    def post(self, path: str, **body: Any) -> dict[str, Any]:
        """A request that is answered in JSON."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        found: dict[str, Any] = json.loads(urllib.request.urlopen(request).read())
        return found

    def end(self, number: int = signal.SIGTERM) -> None:
        """Stop it."""
        self.process.send_signal(number)
        self.process.wait()
        self.log.close()


def offline_rate(model: TextModel) -> float:
    """Characters per second of `TextModel.stream`."""
    began = time.perf_counter()
    written = sum(len(piece) for piece in model.stream("ABCDEFGHIJ", length=20_000, seed=1))
    return written / (time.perf_counter() - began)


def peer(folder: Path) -> tuple[subprocess.Popen[bytes], int]:
    """The handler with PyTorch, and where it listens."""
    python = peers_python(folder, INSTALLS)
    subprocess.run([python, "-m", "pip", "install", "--quiet", "fastapi", "uvicorn"], check=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen([python, HERE / "serving_peer.py", str(port)])
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return process, port
        except OSError:
            time.sleep(0.2)


def first_symbol(server: Server) -> dict[str, Any]:
    """One request after the other: milliseconds to the first event."""
    each = [load(server.port, ONE, 16, seconds=1.0)]
    return {
        "median": each[0]["first_median"] * 1000,
        "p99": each[0]["first_p99"] * 1000,
        "requests": each[0]["requests"],
    }


def open_streams(server: Server) -> dict[str, Any]:
    """A thousand streams at once, and the memory that they take."""
    load(server.port, MANY, 100)
    before = server.memory()
    found = load(server.port, OPEN, 1000)
    return {**found, "bytes_per_stream": (server.memory("VmHWM") - before) / OPEN}


def soak(server: Server, minutes: float) -> dict[str, Any]:
    """Full load; memory after the first tenth and at the end."""
    load(server.port, MANY, 2000, seconds=6 * minutes)
    before = server.memory()
    found = load(server.port, MANY, 2000, seconds=54 * minutes)
    return {**found, "minutes": minutes, "resident_before": before, "resident_after": server.memory()}


def killed(bundle: Path, folder: Path) -> dict[str, Any]:
    """Kill -9 under load, start again: every session goes on as its undisturbed twin did."""
    words = ("--sessions", str(folder / "sessions.sqlite"))
    server = Server(bundle, *words)
    sessions, expected = [], []
    for number in range(20):
        one = server.post("/v1/sessions", model="gru", text="ABC")["id"]
        server.post(f"/v1/sessions/{one}/completions", max_tokens=100, seed=number)
        twin = server.post(f"/v1/sessions/{one}/fork")["id"]
        expected.append(server.post(f"/v1/sessions/{twin}/completions", max_tokens=200, seed=99)["choices"][0]["text"])
        sessions.append(one)
    body = {"prompt": "A", "max_tokens": 50_000, "stream": True, "model": "gru"}
    asked = {"port": server.port, "path": "/v1/completions", "body": body, "streams": MANY, "seconds": 0}
    client = subprocess.Popen(
        [sys.executable, HERE / "serving_client.py", json.dumps(asked)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    time.sleep(1)
    server.end(signal.SIGKILL)
    client.wait()
    began = time.perf_counter()
    server = Server(bundle, *words)
    started = time.perf_counter() - began
    same = [
        server.post(f"/v1/sessions/{one}/completions", max_tokens=200, seed=99)["choices"][0]["text"] == text
        for one, text in zip(sessions, expected, strict=True)
    ]
    server.end()
    return {"sessions": len(same), "exact": sum(same), "seconds_to_start": started}


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers", type=Path, help="the environment of layers.py; without it PyTorch is left out")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--soak", type=float, default=0.0, metavar="MINUTES")
    parsed = parser.parse_args()
    use_compilation_cache()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bundle = folder / "gru.safetensors"
        model = TextModel.untrained(ALPHABET, cell="gru", hidden=256)
        model.save(bundle)
        server = Server(bundle)
        offline_rate(model)
        load(server.port, ONE, 1000)
        candidates = {
            "elman sample, offline": lambda: offline_rate(model),
            "elman serve, 1 stream": lambda: load(server.port, ONE, 20_000)["symbols_per_second"],
            "elman serve, 64 streams": lambda: load(server.port, MANY, 4000)["symbols_per_second"],
        }
        pairs = [
            ("elman serve, 1 stream", "elman sample, offline"),
            ("elman serve, 64 streams", "elman serve, 1 stream"),
        ]
        process = None
        if parsed.peers:
            process, port = peer(parsed.peers)
            for block in (1, MANY):
                name = f"FastAPI and PyTorch, 64 streams, {block} a time"
                candidates[name] = lambda block=block: load(port, MANY, 128, block=block)["symbols_per_second"]
                pairs.append(("elman serve, 64 streams", name))
            one = "FastAPI and PyTorch, 1 stream, 1 a time"
            candidates[one] = lambda: load(port, ONE, 2000, block=1)["symbols_per_second"]
            pairs.append(("elman serve, 1 stream", one))
        rates = interleaved(candidates, parsed.rounds)
        if process is not None:
            process.terminate()
            process.wait()
        first = first_symbol(server)
        many = open_streams(server)
        figures = {"symbols_per_second": rates, "first_symbol_ms": first, "thousand_streams": many}
        if parsed.soak:
            figures["soak"] = soak(server, parsed.soak)
        server.end()
        figures["killed"] = killed(bundle, folder)
    write(figures, rates, pairs)


def write(figures: dict[str, Any], rates: dict[str, list[float]], pairs: list[tuple[str, str]]) -> None:
    """The table and the file."""
    rows = [("GRU 256, 65 symbols", "median", "least", "greatest")]
    rows += [(name, *(f"{row[k]:,.0f}/s" for k in ("median", "min", "max"))) for name, row in summarize(rates).items()]
    figures["ratios"] = {f"{a} / {b}": ratios(rates, a, b) for a, b in pairs}
    rows += [(name, *(f"{row[k]:.2f} x" for k in ("median", "min", "max"))) for name, row in figures["ratios"].items()]
    first, many, killed_once = figures["first_symbol_ms"], figures["thousand_streams"], figures["killed"]
    rows += [
        ("first symbol, 1 stream", f"{first['median']:.1f} ms", "", f"p99 {first['p99']:.1f} ms"),
        ("1,000 streams, total", f"{many['symbols_per_second']:,.0f}/s", "", ""),
        (
            "1,000 streams, gap",
            f"{many['gap_median'] * 1000:.0f} ms",
            "",
            f"worst p99 {many['worst_gap_p99'] * 1000:.0f} ms",
        ),
        ("1,000 streams, memory each", f"{many['bytes_per_stream'] / 1024:.0f} KiB", "", ""),
        ("killed: sessions that went on exactly", f"{killed_once['exact']} of {killed_once['sessions']}", "", ""),
    ]
    if "soak" in figures:
        long = figures["soak"]
        grown = (long["resident_after"] - long["resident_before"]) / 2**20
        rows.append(
            (f"soak of {long['minutes']:g} min", f"{long['symbols_per_second']:,.0f}/s", "", f"{grown:+.1f} MiB")
        )
    report("serving", rows, figures)


if __name__ == "__main__":
    main()

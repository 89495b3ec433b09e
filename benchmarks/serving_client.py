"""The load of benchmarks/serving.py, in a process of its own: many clients of one server, each reading its stream of events.

python benchmarks/serving_client.py '{"port": 8000, "path": "/v1/completions", "body": {...}, "streams": 64, "seconds": 0}'

Prints one JSON object. It speaks HTTP by itself, because a client library would take as much of two cores as the server.
"""

import asyncio
import json
import resource
import sys
import time
from typing import Any


class Reader:
    """One client: what it got, and when."""

    def __init__(self) -> None:
        self.symbols, self.events, self.errors, self.requests = 0, 0, 0, 0
        self.first: list[float] = []
        self.gaps: list[float] = []

    async def ask(self, port: int, path: str, body: dict[str, Any]) -> None:
        """One request, read to its end."""
        data = json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nConnection: close\r\n"
        began = time.perf_counter()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(head.encode() + f"Content-Length: {len(data)}\r\n\r\n".encode() + data)
            before, done, rest = 0.0, False, b""
            while piece := await reader.read(1 << 16):
                now = time.perf_counter()
                *lines, rest = (rest + piece).split(b"\n")
                found = [line for line in lines if line.startswith(b"data: {")]
                for line in found:
                    choices = json.loads(line[6:]).get("choices")
                    self.symbols += len(choices[0]["text"]) if choices else 0
                    self.errors += choices is None
                self.events += len(found)
                done |= any(line.startswith(b"data: [DONE]") for line in lines)
                if found:
                    (self.gaps if before else self.first).append(now - (before or began))
                    before = now
            self.errors += not done
            self.requests += 1
        finally:
            writer.close()


def percentile(values: list[float], share: float) -> float:
    """The value below which `share` of them lie."""
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, int(share * len(ranked)))] if ranked else 0.0


async def load(port: int, path: str, body: dict[str, Any], streams: int, seconds: float) -> dict[str, Any]:
    """`streams` clients at once; each asks once, or again and again for `seconds`."""
    readers = [Reader() for _ in range(streams)]
    began = time.perf_counter()

    async def live(reader: Reader) -> None:
        while True:
            try:
                await reader.ask(port, path, body)
            except (OSError, ValueError):
                reader.errors += 1
            if time.perf_counter() - began >= seconds:
                return

    await asyncio.gather(*(live(reader) for reader in readers))
    took = time.perf_counter() - began
    first = [value for reader in readers for value in reader.first]
    gaps = [value for reader in readers for value in reader.gaps]
    return {
        "seconds": took,
        "requests": sum(reader.requests for reader in readers),
        "errors": sum(reader.errors for reader in readers),
        "symbols": sum(reader.symbols for reader in readers),
        "symbols_per_second": sum(reader.symbols for reader in readers) / took,
        "events": sum(reader.events for reader in readers),
        "first_median": percentile(first, 0.5),
        "first_p99": percentile(first, 0.99),
        "gap_median": percentile(gaps, 0.5),
        "gap_p99": percentile(gaps, 0.99),
        "worst_gap_p99": max((percentile(reader.gaps, 0.99) for reader in readers), default=0.0),
        "fewest_symbols": min(reader.symbols for reader in readers),
    }


if __name__ == "__main__":
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65_536), hard))
    print(json.dumps(asyncio.run(load(**json.loads(sys.argv[1])))))

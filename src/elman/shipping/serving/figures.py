"""What the server counts, for Prometheus."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Figures:
    """Counters and histograms of one server.

    running: called for the number of texts in the making whenever somebody looks.
    """

    def __init__(self, running: Callable[[], int]) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter("elman_requests", "Requests answered", ["route", "method", "status"], registry=registry)
        self.seconds = Histogram(
            "elman_request_seconds", "From the first byte of a request to the last of its answer", ["route"],
            buckets=_SECONDS, registry=registry,
        )  # fmt: skip
        self.first = Histogram(
            "elman_first_token_seconds", "From a request for text to its first symbol", ["model"],
            buckets=_SECONDS, registry=registry,
        )  # fmt: skip
        self.symbols = Counter("elman_tokens", "Symbols read and written", ["model", "kind"], registry=registry)
        self.forecasts = Counter("elman_forecasts", "Forecasts made", ["model"], registry=registry)
        self.reloads = Counter("elman_reloads", "Models read anew", ["model", "outcome"], registry=registry)
        self.sessions = Gauge("elman_sessions", "Sessions that are kept", ["kind"], registry=registry)
        Gauge("elman_streams", "Texts in the making", registry=registry).set_function(running)

    def page(self) -> bytes:
        """All of it in Prometheus' text format."""
        return generate_latest(self.registry)

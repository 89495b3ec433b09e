"""Whatever is sent to the server, it answers with a clear 4xx and goes on: made-up requests, damaged ones, clients that vanish."""

import asyncio
import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import hypothesis
import numpy as np
import pytest
import schemathesis
import uvicorn
from hypothesis import strategies as st

from elman.shipping.serving.application import application
from elman.shipping.serving.batching import Piece
from elman.shipping.serving.completions import completion_of
from elman.shipping.serving.hosting import Host
from elman.shipping.serving.protection import Buckets, Keys, Limits
from elman.shipping.serving.requests import CompletionRequest
from elman.shipping.serving.store import Store
from elman.text.model import TextModel
from test_running import make_model, make_panel


class Local:
    """A server in a thread of this process, so that the tests see into it."""

    def __init__(self, host: Host, limits: Limits) -> None:
        self.host = host
        self.app = application(host, Store(None, most=50, age=3600), limits=limits)
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=2048)
        self.port = self._socket.getsockname()[1]
        config = uvicorn.Config(self.app, log_config=None, access_log=False, ws="none", timeout_graceful_shutdown=5)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._socket]}, daemon=True)
        self._thread.start()
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=30)
        self.http.get("/health").raise_for_status()

    def close(self) -> None:
        self.http.close()
        self._server.should_exit = True
        self._thread.join(20)
        self._socket.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Local]:
    folder = tmp_path_factory.mktemp("knocks")
    TextModel.untrained("abcdefghij \n", cell="gru", hidden=16).save(folder / "poet.safetensors")
    make_model(make_panel()).save(folder / "weather.safetensors")
    limits = Limits(body=2**20, body_seconds=2.0, seconds=20.0, symbols=500, hosts=("127.0.0.1",))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("elman.shipping.serving.batching.Batcher.warm_up", lambda self: None)
        found = Local(Host([str(folder / "poet.safetensors"), str(folder / "weather.safetensors")]), limits)
    yield found
    found.close()


def refused(answer: httpx.Response) -> dict[str, Any]:
    """The error in an answer, which is one, and in OpenAI's shape."""
    assert 400 <= answer.status_code < 500, answer.text
    error: dict[str, Any] = answer.json()["error"]
    assert error["message"]
    assert "Traceback" not in answer.text
    return error


def test_requests_made_from_the_description_meet_no_failure(server: Local) -> None:
    """Schemathesis makes requests of each route from `/openapi.json`, right ones and wrong ones."""
    description = schemathesis.openapi.from_dict(server.http.get("/openapi.json").json())
    statuses: set[int] = set()
    for result in description.get_all_operations():
        operation = result.ok()
        for mode in (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE):
            if mode is schemathesis.GenerationMode.NEGATIVE and not operation.body:
                continue  # nothing that could be wrong but the name of a session

            @hypothesis.settings(
                max_examples=6, phases=[hypothesis.Phase.generate], suppress_health_check=list(hypothesis.HealthCheck)
            )
            @hypothesis.given(operation.as_strategy(generation_mode=mode))
            def check(case: Any) -> None:
                if isinstance(case.body, dict) and "model" in case.body:
                    case.body["model"] = "poet" if "prompt" in case.body or "text" in case.body else "weather"
                answer = case.call(base_url=f"http://127.0.0.1:{server.port}")
                assert answer.status_code < 500, (case.method, case.path, case.body, answer.text)
                statuses.add(answer.status_code)

            check()
    assert {200, 400, 404} <= statuses
    assert server.http.get("/health").status_code == 200


DEEP = b'{"model":' * 50_000


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/forecast", "/v1/sessions"])
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"\xff\xfe",
        b'{"model": "poet", "model": 3}',
        b'{"model": NaN}',
        b'{"model": "poet", "prompt": "a", "temperature": NaN}',
        b'{"model": "poet", "prompt": "a", "temperature": 1e999}',
        b'{"model": "poet", "prompt": "a", "max_tokens": ' + b"9" * 5000 + b"}",
        b'{"model": "poet", "prompt": "a", "seed": 1e30}',
        b'{"model": "poet", "prompt": [[]]}',
        b'{"model": "poet", "prompt": [1, "a"]}',
        b'{"model": "poet", "prompt": [true]}',
        b'{"model": "poet", "prompt": {"a": 1}, "stream": "yes"}',
        b'{"model": "poet", "prompt": [99999999]}',
        b'{"model": "weather", "rows": [{}]}',
        b'{"model": "weather", "rows": [{"time": "2024-01-01", "y": 1}]}',
        b'{"model": "weather", "rows": [{"time": "x", "y": "NaN", "x": 1, "k": 2}]}',
        b'{"model": "weather", "columns": {"time": [], "y": []}}',
        b'{"model": "weather", "columns": {"time": ["2024-01-01"], "y": [1, 2]}}',
        b'{"model": "weather", "rows": [{"y": 1e400}]}',
        DEEP,
    ],
    ids=lambda body: repr(body[:60]) if isinstance(body, bytes) else None,
)
def test_damaged_bodies_are_refused(server: Local, path: str, body: bytes) -> None:
    refused(server.http.post(path, content=body, headers={"Content-Type": "application/json"}))


@pytest.mark.parametrize(
    "name", ["../poet", "..%2f..%2fetc%2fpasswd", "poet%00", "a" * 5000, "/etc/passwd", "poet/", "💥", "\ud800"]
)
def test_names_of_models_are_only_names(server: Local, name: str) -> None:
    body = json.dumps({"model": name, "prompt": "a", "rows": [{"y": 1}]}).encode()
    refused(server.http.post("/v1/completions", content=body, headers={"Content-Type": "application/json"}))
    if name.isascii():
        answer = server.http.get(f"/v1/models/{name}", follow_redirects=True)
        assert answer.status_code == 404 or answer.json()["id"] == "poet"


@hypothesis.settings(max_examples=30)
@hypothesis.given(
    st.text(max_size=60),
    st.integers(0, 40),
    st.integers(0, 5),
    st.lists(st.text(max_size=4), max_size=3),
    st.sampled_from([0, 0.5, 1, 100]),
    st.booleans(),
)
def test_any_prompt_and_stop_string_is_answered(
    server: Local, prompt: str, length: int, logprobs: int, stop: list[str], temperature: float, stream: bool
) -> None:
    body = {"model": "poet", "prompt": prompt, "max_tokens": length, "logprobs": logprobs, "stop": stop, "echo": True,
            "temperature": temperature, "stream": stream, "repetition_penalty": 1.1}  # fmt: skip
    answer = server.http.post("/v1/completions", json=body)
    assert answer.status_code == 200, answer.text
    if stream:
        assert answer.text.endswith("data: [DONE]\n\n")
    else:
        [choice] = answer.json()["choices"]
        assert choice["text"].startswith(prompt)
        assert len(choice["logprobs"]["tokens"]) == len(choice["logprobs"]["text_offset"])
        assert not any(text in choice["text"][len(prompt) :] for text in stop if text)


def test_a_wrong_type_of_content_a_wrong_method_and_a_wrong_name_of_the_host(server: Local) -> None:
    text = {"Content-Type": "text/plain"}
    refused(server.http.post("/v1/completions", content=b'{"model": "poet", "prompt": "a"}', headers=text))
    assert refused(server.http.get("/v1/completions"))["message"]
    assert "Host" in refused(server.http.get("/v1/models", headers={"Host": "evil.example"}))["message"]
    refused(server.http.post("/v1/admin/reload"))
    assert server.http.get("/nowhere").status_code == 404


def test_large_and_slow_bodies_are_refused(server: Local) -> None:
    assert server.http.post("/v1/completions", content=b" " * (2**20 + 1)).status_code == 413

    def endless() -> Iterator[bytes]:
        for _ in range(200):
            yield b" " * 65_536

    with contextlib.suppress(httpx.HTTPError):  # where the server has hung up before all of it was sent
        assert server.http.post("/v1/completions", content=endless()).status_code == 413
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as slow:
        slow.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\n{")
        assert slow.recv(100).startswith(b"HTTP/1.1 408")


def test_clients_that_vanish_free_their_streams(server: Local) -> None:
    body = json.dumps({"model": "poet", "prompt": "a" * 1000, "max_tokens": 500, "n": 64, "stream": True}).encode()
    head = b"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: "
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
            client.sendall(head + str(len(body)).encode() + b"\r\n\r\n" + body)
    answer = server.http.post("/v1/completions", json={"model": "poet", "prompt": "a", "max_tokens": 50, "seed": 1})
    expected = TextModel.untrained("abcdefghij \n", cell="gru", hidden=16).sample("a", length=50, seed=1)
    assert answer.json()["choices"][0]["text"] == expected
    for _ in range(200):
        if server.host.running == 0 and not server.host._flows:
            break
        threading.Event().wait(0.05)
    assert (server.host.running, len(server.host._flows)) == (0, 0)


def test_many_clients_at_once_are_all_answered(server: Local) -> None:
    async def ask(client: httpx.AsyncClient, number: int) -> bool:
        body = {"model": "poet", "prompt": "abc"[: 1 + number % 3], "max_tokens": 40}
        return len((await client.post("/v1/completions", json=body)).json()["choices"][0]["text"]) == 40

    async def all_of_them() -> list[bool]:
        limits = httpx.Limits(max_connections=150)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}", limits=limits, timeout=30) as client:
            return await asyncio.gather(*(ask(client, number) for number in range(150)))

    assert asyncio.run(all_of_them()) == [True] * 150


def test_sessions_are_bounded_in_number_and_age(server: Local, monkeypatch: pytest.MonkeyPatch) -> None:
    for one in server.http.get("/v1/sessions").json()["data"]:
        server.http.delete(f"/v1/sessions/{one['id']}")
    statuses = [server.http.post("/v1/sessions", json={"model": "poet", "text": "ab"}).status_code for _ in range(51)]
    assert statuses == [200] * 50 + [429]
    kept = server.http.get("/v1/sessions").json()["data"]
    assert len(kept) == 50
    assert all(3590 < one["expires"] - one["created"] <= 3600 for one in kept)
    import elman.shipping.serving.store as store

    later = store.time.time() + 3601
    monkeypatch.setattr(store.time, "time", lambda: later)
    assert server.http.get(f"/v1/sessions/{kept[0]['id']}").status_code == 404
    assert server.http.get("/v1/sessions").json()["data"] == []


def test_a_bucket_gives_what_its_rate_allows() -> None:
    buckets = Buckets(rate=2.0)
    assert [buckets.wait("a", 0.0) for _ in range(5)] == [0, 0, 0, 0, 0.5]
    assert buckets.wait("b", 0.0) == 0
    assert buckets.wait("a", 0.5) == 0
    assert buckets.wait("a", 0.5) == 0.5


def test_who_asks_too_often_is_told_when_to_come_back(server: Local) -> None:
    async def ask() -> list[httpx.Response]:
        app = application(server.host, Store(None, most=1, age=60), limits=Limits(rate=0.01))
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as client:
            return [await client.get(path) for path in ("/v1/models", "/v1/models", "/health")]

    first, second, health = asyncio.run(ask())
    assert (first.status_code, second.status_code, health.status_code) == (200, 429, 200)
    assert refused(second)["type"] == "rate_limit_error"
    assert 90 <= int(second.headers["Retry-After"]) <= 100


def test_keys_are_compared_whole(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("one\n# no key\n\ntwo \n")
    keys = Keys.read(file)
    assert keys.owner("Bearer one") not in (None, keys.owner("Bearer two"))
    for wrong in ("", "Bearer", "Bearer ", "Basic one", "one", "Bearer # no key", "Bearer one two", "Bearer \ud800"):
        assert keys.owner(wrong) is None


def test_only_the_last_event_of_a_choice_says_why_it_ends(server: Local) -> None:
    """Also where the reader of the batcher's pieces finds several of one text at once."""
    model = server.host.get("poet")
    assert model is not None
    request = CompletionRequest(model="poet", prompt="a", max_tokens=60, stop="zz")
    completion = completion_of(request, model, 100)
    [stream] = completion.streams
    pieces = [Piece(stream, np.zeros(20, np.int32), last=number == 2) for number in range(3)]

    class Ready:
        """A host that has everything at once."""

        @contextlib.contextmanager
        def flow(self, served: Any, streams: Any) -> Iterator[Any]:
            yield self

        async def pieces(self) -> Any:
            yield pieces

        def end(self, stream: Any) -> None:
            """Nothing runs."""

    async def reasons() -> list[str | None]:
        found = b"".join([event async for event in completion.events(Ready())])  # type: ignore[arg-type]
        lines = [line[6:] for line in found.split(b"\n") if line.startswith(b"data: {")]
        return [json.loads(line)["choices"][0]["finish_reason"] for line in lines]

    assert asyncio.run(reasons()) == [None, None, "length"]

"""The server as clients meet it: a process of its own, OpenAI's client, forecasts, sessions, limits, an end that finishes."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest

from elman.cli import main
from elman.series.model import SeriesModel
from elman.series.panel import Panel
from elman.text.model import TextModel
from test_running import make_model, make_panel

ALPHABET = "abcdefghij \n"


def iso(panel: Panel, start: int, end: int) -> list[dict[str, Any]]:
    """Rows of a panel as JSON has them."""
    return [
        {
            "time": str(np.datetime64(int(panel.times[row]), "us").astype("datetime64[s]")),
            **{
                name: None if np.isnan(value) else float(value)
                for name, value in zip(panel.columns, panel.values[row], strict=True)
            },
        }
        for row in range(start, end)
    ]


@pytest.fixture(scope="module")
def panel() -> Panel:
    return make_panel()


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory, panel: Panel) -> Path:
    folder = tmp_path_factory.mktemp("bundles")
    TextModel.untrained(ALPHABET, cell="gru", hidden=16).save(folder / "poet.safetensors")
    TextModel.untrained("néabcdefgh\n", unit="byte", cell="gru", hidden=16).save(folder / "bytes.safetensors")
    make_model(panel).save(folder / "weather.safetensors")
    (folder / "keys").write_text("# who may ask\nfirst\nsecond\n")
    return folder


class Server:
    """A server in a process of its own."""

    def __init__(self, environment: dict[str, str], *words: Any) -> None:
        command = [sys.executable, "-m", "elman", "serve", "--port", "0", *map(str, words)]
        self.process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
        self.lines: list[str] = []
        self._ready = threading.Event()
        self.url = ""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        assert self._ready.wait(120), self.lines
        assert self.url, self.lines
        self.http = httpx.Client(base_url=self.url, timeout=60)
        self.http.get("/health").raise_for_status()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line)
            found = re.search(r"listening on (http://\S+)/v1", line)
            if found:
                self.url = found[1]
                self._ready.set()
        self._ready.set()

    def post(self, path: str, **body: Any) -> Any:
        answer = self.http.post(path, json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(60)

    def close(self) -> None:
        if self.process.poll() is None:
            self.end(signal.SIGKILL)
        self.http.close()
        self._reader.join(10)
        assert self.process.stderr is not None
        self.process.stderr.close()


@contextmanager
def serving(environment: dict[str, str], *words: Any) -> Iterator[Server]:
    server = Server(environment, *words)
    try:
        yield server
    finally:
        server.close()


@pytest.fixture(scope="module")
def server(environment: dict[str, str], bundles: Path) -> Iterator[Server]:
    words = (bundles / "poet.safetensors", bundles / "bytes.safetensors", bundles / "weather.safetensors")
    with serving(environment, *words, "--max-tokens", 2000, "--max-body", 1) as found:
        yield found


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="anything", max_retries=0) as found:
        yield found


# --- OpenAI's client ----------------------------------------------------------------------------------------------------------


def test_models_are_listed_and_found(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["poet", "bytes", "weather"]
    assert client.models.retrieve("poet").owned_by == "elman"
    with pytest.raises(openai.NotFoundError, match="did you mean"):
        client.models.retrieve("poets")


def test_a_seeded_completion_is_the_text_of_the_command(client: openai.OpenAI, bundles: Path) -> None:
    answer = client.completions.create(model="poet", prompt="abc", max_tokens=200, seed=11)
    [choice] = answer.choices
    assert choice.text == TextModel.load(bundles / "poet.safetensors").sample("abc", length=200, seed=11)
    assert (choice.finish_reason, choice.index, choice.logprobs) == ("length", 0, None)
    assert answer.object == "text_completion"
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (3, 200, 203)


def test_a_stream_is_the_same_text(client: openai.OpenAI) -> None:
    options: dict[str, Any] = {"model": "poet", "prompt": "abc", "max_tokens": 700, "seed": 1, "temperature": 0.8}
    whole = client.completions.create(**options)
    events = list(client.completions.create(**options, stream=True, stream_options={"include_usage": True}))
    assert "".join(event.choices[0].text for event in events[:-1]) == whole.choices[0].text
    assert [event.choices[0].finish_reason for event in events[:-1]] == [None] * (len(events) - 2) + ["length"]
    assert events[-1].choices == []
    assert events[-1].usage == whole.usage
    assert len({event.id for event in events}) == 1
    assert len(events) > 3


def test_events_end_with_done(server: Server) -> None:
    body = {"model": "poet", "prompt": "a", "max_tokens": 5, "stream": True}
    with server.http.stream("POST", "/v1/completions", json=body) as answer:
        lines = [line for line in answer.iter_lines() if line]
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert lines[-1] == "data: [DONE]"
    assert all(json.loads(line.removeprefix("data: "))["object"] == "text_completion" for line in lines[:-1])


def test_several_prompts_and_copies_are_choices_in_order(client: openai.OpenAI) -> None:
    both = client.completions.create(model="poet", prompt=["abc", "j"], n=2, max_tokens=30, seed=4, echo=True)
    assert [choice.index for choice in both.choices] == [0, 1, 2, 3]
    assert [choice.text[:3] for choice in both.choices[:2]] == ["abc", "abc"]
    assert len({choice.text for choice in both.choices}) == 4
    alone = client.completions.create(model="poet", prompt="abc", max_tokens=30, seed=4, echo=True)
    assert alone.choices[0].text == both.choices[0].text
    codes = client.completions.create(model="poet", prompt=[1, 2], max_tokens=5, echo=True)
    assert codes.choices[0].text[:2] == TextModel.untrained(ALPHABET, hidden=1).vocabulary.decode([1, 2])


@pytest.mark.parametrize("stream", [False, True])
def test_a_text_ends_before_a_stop_string(client: openai.OpenAI, stream: bool) -> None:
    options: dict[str, Any] = {"model": "poet", "prompt": "a", "max_tokens": 1500, "seed": 2}
    whole = client.completions.create(**options).choices[0].text
    stop = whole[600:603]
    answer = client.completions.create(**options, stop=["zzz", stop], stream=stream)
    events = list(answer) if stream else [answer]
    assert "".join(event.choices[0].text for event in events) == whole[: whole.index(stop)]
    assert events[-1].choices[0].finish_reason == "stop"


def test_log_probabilities_stand_with_the_text(client: openai.OpenAI, bundles: Path) -> None:
    answer = client.completions.create(model="poet", prompt="abca", max_tokens=12, logprobs=3, echo=True, seed=1)
    logs, text = answer.choices[0].logprobs, answer.choices[0].text
    assert logs is not None
    assert logs.tokens is not None
    assert logs.token_logprobs is not None
    assert "".join(logs.tokens) == text
    assert logs.text_offset == list(range(16))
    assert logs.token_logprobs[0] is None
    scored = TextModel.load(bundles / "poet.safetensors").evaluate(text)
    assert np.mean(logs.token_logprobs[1:]) == pytest.approx(-scored["nats_per_character"], abs=1e-5)
    assert all(len(top) == 3 for top in (logs.top_logprobs or [])[1:])
    told = client.completions.create(model="poet", prompt="abc", max_tokens=0, logprobs=0, echo=True).choices[0]
    assert (told.text, told.finish_reason) == ("abc", "length")
    assert told.logprobs is not None
    assert len(told.logprobs.token_logprobs or []) == 3


def test_bytes_become_text_when_characters_are_whole(client: openai.OpenAI) -> None:
    answer = client.completions.create(model="bytes", prompt="né", max_tokens=64, seed=3, logprobs=1)
    logs = answer.choices[0].logprobs
    assert logs is not None
    assert len(logs.tokens or []) == 64
    assert {"bytes:\\xc3", "n"} <= set(logs.tokens or [])
    stopped = client.completions.create(model="bytes", prompt="né", max_tokens=64, seed=3, logprobs=1, stop="n")
    assert answer.choices[0].text.startswith(stopped.choices[0].text + "n")
    assert stopped.usage is not None
    assert stopped.choices[0].logprobs is not None
    assert stopped.usage.completion_tokens == len(stopped.choices[0].logprobs.tokens or [])
    assert "n" not in (stopped.choices[0].logprobs.tokens or [])


def test_what_cannot_be_is_refused_in_openais_shape(client: openai.OpenAI) -> None:
    for options, message in (
        ({"temperature": -1}, "temperature"),
        ({"max_tokens": 2001}, "2000"),
        ({"best_of": 3}, "best_of"),
        ({"logit_bias": {"1": 5}}, "logit_bias"),
        ({"frequency_penalty": 1.0}, "frequency_penalty"),
        ({"extra_body": {"tempreature": 1}}, "tempreature"),
        ({"prompt": "a ☃", "extra_body": {"unknown": "error"}}, "☃"),
        ({"prompt": [99]}, "99"),
        ({"model": "weather"}, "/v1/forecast"),
    ):
        with pytest.raises(openai.BadRequestError, match=message) as caught:
            client.completions.create(**{"model": "poet", "prompt": "a", "max_tokens": 1, **options})  # type: ignore[call-overload]
        assert caught.value.body["type"] == "invalid_request_error"  # type: ignore[index]


# --- series -------------------------------------------------------------------------------------------------------------------


def test_a_forecast_is_the_models_own(server: Server, bundles: Path, panel: Panel) -> None:
    rows = iso(panel, 0, 120)
    answer = server.post("/v1/forecast", model="weather", rows=rows)
    assert (answer["target"], answer["step"], answer["levels"]) == ("y", "1h", [0.1, 0.5, 0.9])
    [found] = answer["forecasts"]
    assert found["origin"] == rows[-1]["time"]
    model = SeriesModel.load(bundles / "weather.safetensors")
    expected = model.forecast(panel.until(np.asarray([120])), np.asarray([119]))[0]
    said = [[step["quantiles"][name] for name in ("q10", "q50", "q90")] for step in found["path"]]
    np.testing.assert_allclose(said, expected, rtol=1e-4, atol=1e-4)
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    assert server.post("/v1/forecast", model="weather", columns=columns)["forecasts"] == answer["forecasts"]
    many = [{"unique_id": name, **row} for name in ("a", "b") for row in rows]
    answers = server.post("/v1/forecast", model="weather", rows=many)
    assert [one["series"] for one in answers["forecasts"]] == ["a", "b"]


def test_rows_pushed_one_by_one_give_the_forecast_of_all_rows(server: Server, panel: Panel) -> None:
    rows = iso(panel, 0, 120)
    opened = server.post("/v1/sessions", model="weather", rows=rows[:100])
    path = f"/v1/sessions/{opened['id']}"
    for row in rows[100:110]:
        answer = server.post(f"{path}/rows", rows=[row])
    forked = server.post(f"{path}/fork")
    answer = server.post(f"{path}/rows", rows=rows[110:])
    assert answer["rows"] == 120
    assert answer["forecasts"] == server.post("/v1/forecast", model="weather", rows=rows)["forecasts"]
    # The other one stands where it was, and is made again from its rows.
    assert server.post(f"/v1/sessions/{forked['id']}/rows", rows=rows[110:])["forecasts"] == answer["forecasts"]
    refused = server.http.post(f"{path}/rows", json={"rows": [{**rows[119], "y": 1.0}]})
    assert refused.status_code == 400
    assert "given already" in refused.json()["error"]["message"]
    assert server.http.get(f"{path}/forecast").json()["forecasts"] == answer["forecasts"]
    assert server.http.delete(path).json()["deleted"]
    assert server.http.get(path).status_code == 404


# --- sessions of text ---------------------------------------------------------------------------------------------------------


def test_a_text_session_goes_on_forks_and_is_saved(server: Server, client: openai.OpenAI) -> None:
    opened = server.post("/v1/sessions", model="poet", text="abc")
    path = f"/v1/sessions/{opened['id']}"
    assert server.post(f"{path}/text", text=" def")["symbols"] == 7
    forked = server.post(f"{path}/fork")
    drawing = {"prompt": "gh", "max_tokens": 40, "seed": 6}
    first = server.post(f"{path}/completions", **drawing)["choices"][0]["text"]
    at_once = client.completions.create(model="poet", prompt="abc defgh", max_tokens=40, seed=6)
    assert first == at_once.choices[0].text
    assert server.http.get(path).json()["symbols"] == 49
    # What was drawn belongs to the session now; without `keep` it does not.
    second = server.post(f"{path}/completions", max_tokens=30, seed=7, keep=False)["choices"][0]["text"]
    again = client.completions.create(model="poet", prompt="abc defgh" + first, max_tokens=30, seed=7)
    assert second == again.choices[0].text
    assert server.http.get(path).json()["symbols"] == 49
    # A fork and a state that was saved are where the session was then.
    assert server.post(f"/v1/sessions/{forked['id']}/completions", **drawing)["choices"][0]["text"] == first
    state = server.http.get(f"{path}/state").json()["state"]
    resumed = server.post("/v1/sessions", model="poet", state=state)
    assert resumed["symbols"] == 49
    resumed_path = f"/v1/sessions/{resumed['id']}/completions"
    assert server.post(resumed_path, max_tokens=30, seed=7)["choices"][0]["text"] == second
    with server.http.stream("POST", f"{path}/completions", json={"max_tokens": 30, "seed": 7, "stream": True}) as lines:
        events = [json.loads(line[6:]) for line in lines.iter_lines() if line.startswith("data: {")]
    assert "".join(event["choices"][0]["text"] for event in events) == second
    assert server.http.get(path).json()["symbols"] == 79
    for damaged in ("nonsense", state[:-8], state[:-8] + "/////////w=="):
        assert server.http.post("/v1/sessions", json={"model": "poet", "state": damaged}).status_code == 400


# --- a life -------------------------------------------------------------------------------------------------------------------


def test_killed_and_started_again_kept_sessions_go_on_exactly(
    environment: dict[str, str], bundles: Path, panel: Panel, tmp_path: Path
) -> None:
    rows, kept = iso(panel, 0, 120), tmp_path / "sessions.sqlite"
    words = (bundles / "poet.safetensors", bundles / "weather.safetensors", "--sessions", kept)
    with serving(environment, *words) as server:
        poem = server.post("/v1/sessions", model="poet", text="abc")["id"]
        server.post(f"/v1/sessions/{poem}/completions", max_tokens=50, seed=1)
        undisturbed = server.post(f"/v1/sessions/{poem}/fork")["id"]
        expected = server.post(f"/v1/sessions/{undisturbed}/completions", max_tokens=50, seed=2)["choices"][0]["text"]
        station = server.post("/v1/sessions", model="weather", rows=rows[:100])["id"]
        server.post(f"/v1/sessions/{station}/rows", rows=rows[100:119])
        server.end(signal.SIGKILL)
    with serving(environment, *words) as server:
        text = server.post(f"/v1/sessions/{poem}/completions", max_tokens=50, seed=2)["choices"][0]["text"]
        assert text == expected
        answer = server.post(f"/v1/sessions/{station}/rows", rows=rows[119:])
        assert answer["forecasts"] == server.post("/v1/forecast", model="weather", rows=rows)["forecasts"]
        assert server.end() == 0


def test_keys_limits_reload_figures_and_an_end_that_finishes(
    environment: dict[str, str], bundles: Path, tmp_path: Path
) -> None:
    path = tmp_path / "poet.safetensors"
    path.write_bytes((bundles / "poet.safetensors").read_bytes())
    words = (path, "--api-key-file", bundles / "keys", "--max-sessions", "1", "--max-body", "0.01")
    with serving(environment, *words) as server:
        assert server.http.get("/v1/models").status_code == 401
        assert server.http.get("/v1/models", headers={"Authorization": "Bearer firs"}).status_code == 401
        server.http.headers["Authorization"] = "Bearer first"
        opened = server.post("/v1/sessions", model="poet", text="secret words")
        other = {"Authorization": "Bearer second"}
        assert server.http.get(f"/v1/sessions/{opened['id']}", headers=other).status_code == 404
        assert server.http.post("/v1/sessions", json={"model": "poet"}).status_code == 429
        assert server.http.post("/v1/completions", content=b" " * 20_000).status_code == 413
        # New weights, while a text is in the making: it is finished by the old ones.
        body = {"model": "poet", "prompt": "a", "max_tokens": 50_000, "seed": 1, "stream": True}
        with server.http.stream("POST", "/v1/completions", json=body) as answer:
            lines = answer.iter_lines()
            next(lines)
            TextModel.untrained(ALPHABET, cell="gru", hidden=16, seed=1).save(path)
            headers = {"Authorization": "Bearer second"}
            reloaded = httpx.post(f"{server.url}/v1/admin/reload", headers=headers, timeout=60)
            assert reloaded.json()["models"] == {"poet": "reloaded"}
            texts = [json.loads(line[6:])["choices"][0]["text"] for line in lines if line.startswith("data: {")]
        old = TextModel.load(bundles / "poet.safetensors").sample("a", length=50_000, seed=1)
        assert old.endswith("".join(texts))
        new = server.post("/v1/completions", model="poet", prompt="a", max_tokens=30, seed=1)["choices"][0]["text"]
        assert new == TextModel.load(path).sample("a", length=30, seed=1)
        assert server.http.post(f"/v1/sessions/{opened['id']}/text", json={"text": "a"}).status_code == 409
        path.write_bytes(b"damaged")
        os.kill(server.process.pid, signal.SIGHUP)
        kept = 'elman_reloads_total{model="poet",outcome="kept"} 1.0'
        figures = ""
        for _ in range(100):
            figures = server.http.get("/metrics").text
            if kept in figures:
                break
            time.sleep(0.05)
        assert kept in figures
        assert 'elman_tokens_total{kind="completion",model="poet"}' in figures
        assert 'elman_reloads_total{model="poet",outcome="reloaded"} 1.0' in figures
        # SIGTERM while a text is in the making: it is finished first.
        body["max_tokens"] = 100_000
        with server.http.stream("POST", "/v1/completions", json=body) as answer:
            lines = answer.iter_lines()
            next(lines)
            server.process.send_signal(signal.SIGTERM)
            assert [line for line in lines if line][-1] == "data: [DONE]"
        assert server.process.wait(30) == 0
        logged = "".join(server.lines)
        assert "secret" not in logged
        assert '"route": "/v1/completions", "status": 200' in logged


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--port", "TAKEN"], "cannot listen"),
        (["--rate", "-1"], "--rate"),
        (["--api-key-file", "/nowhere"], "/nowhere"),
        (["--sessions", "BUNDLE", "--port", "0"], "--sessions"),
        (["weather=BUNDLE", "--port", "0"], "two models"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_what_cannot_be_served_is_one_line(
    bundles: Path, server: Server, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    values = {"TAKEN": server.url.rsplit(":", 1)[1], "BUNDLE": str(bundles / "weather.safetensors")}
    for name, value in values.items():
        words = [word.replace(name, value) for word in words]
    assert main(["serve", str(bundles / "weather.safetensors"), *words]) == 2
    [line] = capsys.readouterr().err.splitlines()[-1:]
    assert line.startswith("elman: error: ")
    assert message in line

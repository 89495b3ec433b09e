"""More readers for `fuzzing.py`: what a person types (durations, times, flags, files of settings) and requests of the server.

An input of kind "http" is one or more requests, one behind the other, with `%%` between them; `{last}` in a target is the name of
the session that the last answer spoke of. They are handed to the server's application as an HTTP library hands them over; what such
a library would refuse itself is refused here.
"""

import asyncio
import contextlib
import functools
import io
import json
import random
import re
import tempfile
import urllib.parse
from pathlib import Path
from typing import Any

import fuzzing_mutations as damage
from elman.cli import _parse, build_parser
from elman.commands.settings import chosen_settings
from elman.config import Config, SeriesSettings
from elman.errors import LONGEST_MESSAGE, ConfigError, DataError, ElmanError
from elman.series.durations import Duration, rows_of
from elman.series.reading.tables import read_table

# --- durations and times ------------------------------------------------------------------------------------------------------

_TIMES = (
    b"24h", b"30min", b"1d 12h", b"3mo", b"1y", b"1.5h", b"0h", b"1e3h", b"9" * 30 + b"y", b"0.0000001us", b"1q",
    b"h", b"- 1h",
    b"%d.%m.%Y %H:%M", b"%Y-%m-%d", b"%H:%M:%S%.f", b"%s", b"%3f", b"%", b"%%", b"%Z", b"%z", b"%:z", b"%Q", b"%c",
    b"%+", b"%5Y",
    b"Europe/Berlin", b"UTC", b"../etc", b"America/St_Johns", b"+02:00", b"Asia/Kathmandu", b"2024-03-31 02:30",
    b"2024-10-27 02:30",
    b"2024-02-30", b"2024-12-31T24:00", b"31.12.2024", b"12/31/24", b"1700000000", b"1700000000000000000", b"0001-01-01",
    b"9999-12-31 23:59:59.999999", b"-0001-01-01", b"20240101T000000Z", b"2024-W01-1", b"2024-366",
    b"1 Jan 2024 3 PM", b"\n",
    b"2024-01-01 00:00:60", b"2024-01-01 00:00:00.1234567891", b"\xc2\xa0", b"\xd9\xa2\xd9\xa0\xd9\xa2\xd9\xa4", b",",
    b"\t",
)  # fmt: skip


def _time_seeds() -> list[bytes]:
    def seed(words: list[str], times: list[str]) -> bytes:
        return "\n".join([*words, *times]).encode()

    hours = [f"2024-03-{31 - hour // 24:02d} {hour % 24:02d}:00" for hour in range(48, -1, -1)]
    days = [f"{day:02d}.01.2024" for day in range(1, 29)]
    months = [f"{month:02d}/2024" for month in range(1, 13)]
    return [
        seed(["24h", "1h", "", "Europe/Berlin"], hours),
        seed(["1d 12h", "12h", "%d.%m.%Y", ""], days),
        seed(["3mo", "1mo", "%m/%Y", ""], months),
        seed(["30min", "10min", "", "UTC"], [str(1700000000 + 600 * at) for at in range(30)]),
        seed(["6", "1h", "", "America/New_York"], [f"2024-11-03T{hour:02d}:30:00.5Z" for hour in range(24)]),
    ]


def _read_times(path: Path) -> None:
    """Four lines (horizon, step, format, zone), and behind them times, which become the column of a table."""
    try:
        lines = path.read_bytes().decode().split("\n")
    except UnicodeDecodeError:
        raise DataError("no text") from None
    horizon, step, time_format, zone, *times = lines + [""] * (4 - len(lines))
    first: ElmanError | None = None
    for words in (horizon, step):
        try:
            duration = Duration.parse(words)
            if Duration.parse(str(duration)) != duration:
                raise AssertionError(f"{words!r} is read as {duration}, and that as {Duration.parse(str(duration))}")
            if not 0 < rows_of(horizon, duration, "horizon") <= 2**62:
                raise AssertionError(f"{horizon!r} is no number of rows")
        except ElmanError as error:
            first = error
    source = path.with_name("times.csv")
    # A quote would end the field; what the reader of tables does with those is for the kind "table".
    source.write_text("time,y\n" + "".join(f'"{time.replace(chr(34), "")}",{at}\n' for at, time in enumerate(times)))
    settings = {name: value for name, value in (("time_format", time_format), ("time_zone", zone)) if value}
    Config().replace(**settings, horizon=horizon or "1")
    table = read_table(source, SeriesSettings(time_column="time", **settings))  # type: ignore[arg-type]
    column = table.frame[table.time_column]
    if column.null_count() or not str(column.dtype).startswith("Datetime") or not len(column):
        raise AssertionError("times that are none")
    if first is not None:
        raise first


# --- flags and files of settings ----------------------------------------------------------------------------------------------

_FLAGS = (
    b"--hidden", b"--learning-rate", b"--steps", b"--minutes", b"--levels", b"--inputs", b"--config", b"FILE",
    b"--json", b"--horizon",
    b"train", b"text", b"series", b"forecast", b"--debug", b"--seed=1e9", b"-1", b"1e999", b"nan", b"0x10", b"1_0",
    b"--", b"-",
    b"--no-baselines", b"--hiden", b"-h", b"--split", b"70/15/15", b"70/40/15", b"//", b"--cell=lstm", b"true",
    b"--dropout=2", b"\xc3\xa9",
    b"--run", b"--resume", b"%s", b"%(prog)s", b"{}", b"two\twords", b"\x1b[31m", b"--levels=0.5", b"0.1", b"0.9",
    b"\xff", b"9" * 5000,
)  # fmt: skip


def _flag_seeds() -> list[bytes]:
    return [
        b"train\ntext\na.txt\n--hidden\n8\n--minutes\n3\n--config\nFILE\n%%\n[network]\nhidden = 3\n[training]\nsteps = 5\n",
        b"train\nseries\na.csv\n--levels\n0.1\n0.9\n--horizon\n24h\n--config\nFILE\n%%\n[series]\nsplit = '70/15/15'\n",
        b"train\n--resume\nruns/a\n%%\n",
        b"forecast\nruns/a\n--data\nb.csv\n%%\n",
        b"sample\nruns/a\n--length\n20\n--temperature\n0.5\n%%\n",
    ]


def _mutate_flags(random: random.Random, data: bytes) -> bytes:
    arguments, _, settings = data.partition(b"%%\n")
    if random.random() < 0.3:
        return arguments + b"%%\n" + damage.mutate_toml(random, settings)
    lines = arguments.split(b"\n")
    for _ in range(random.choice((1, 1, 2, 3))):
        place = random.randint(0, len(lines))
        if random.random() < 0.5:
            lines.insert(place, random.choice(_FLAGS))
        else:
            lines[place : place + 1] = [random.choice(_FLAGS)]
    return b"\n".join(lines) + (b"\n" if lines[-1] else b"") + b"%%\n" + settings


def _read_flags(path: Path) -> None:
    """Arguments of the command line, one a line; behind `%%` the file that an argument FILE names."""
    words, _, settings = path.read_bytes().decode("utf-8", "surrogateescape").partition("%%\n")
    file = path.with_name("settings.toml")
    file.write_bytes(settings.encode("utf-8", "surrogateescape"))
    arguments = [str(file) if word == "FILE" else word for word in words.split("\n") if word and "\0" not in word]
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            parsed = _parse(build_parser(), arguments)
    except SystemExit as ending:
        if ending.code not in (0, 2):
            raise AssertionError(f"exit status {ending.code}") from None
        line = said.getvalue()
        if ending.code == 2 and (line.count("\n") != 1 or not line.endswith("\n")):
            raise AssertionError(f"an error of {line.count(chr(10))} lines: {line[:200]!r}") from None
        raise ConfigError(re.sub(r"'.*'", "", line[:LONGEST_MESSAGE]).strip() or "help") from None
    kind = getattr(parsed, "kind", None)
    if parsed.command == "train" and kind in ("text", "series"):
        config = Config().replace(**chosen_settings(parsed, "network", "training", kind))
        if Config.from_dict(config.to_dict(kind)) is None:
            raise AssertionError("settings that cannot be written")


# --- requests -----------------------------------------------------------------------------------------------------------------

_ROW = {"time": "2024-03-03 12:00", "y": 0.5, "x": 1.5, "k": None}
_ROWS = [{**_ROW, "time": f"2024-03-03 {hour:02d}:00"} for hour in range(12, 24)]


def _request(method: str, target: str, body: Any = None) -> bytes:
    text = "" if body is None else json.dumps(body)
    return f"{method} {target}\nContent-Type: application/json\n\n{text}".encode()


def _http_seeds() -> list[bytes]:
    text, series = {"model": "poet"}, {"model": "weather"}
    asked = {
        **text,
        "prompt": "hello",
        "max_tokens": 8,
        "temperature": 0.7,
        "top_p": 0.9,
        "seed": 3,
        "logprobs": 2,
        "n": 2,
    }
    columns = {name: [row[name] for row in _ROWS] for name in _ROW}
    return [
        _request("POST", "/v1/completions", asked),
        _request(
            "POST", "/v1/completions", {**asked, "stream": True, "stop": ["o", "l,"], "prompt": [1, 2, 3], "echo": True}
        ),
        _request("POST", "/v1/forecast", {**series, "rows": _ROWS}),
        _request("POST", "/v1/forecast", {**series, "columns": columns}),
        b"\n%%\n".join(
            [
                _request("POST", "/v1/sessions", {**text, "text": "hello"}),
                _request("POST", "/v1/sessions/{last}/text", {"text": ", wor"}),
                _request("POST", "/v1/sessions/{last}/completions", {"max_tokens": 5, "keep": True, "seed": 1}),
                _request("POST", "/v1/sessions/{last}/fork"),
                _request("GET", "/v1/sessions/{last}/state"),
                _request("GET", "/v1/sessions"),
            ]
        ),
        b"\n%%\n".join(
            [
                _request("POST", "/v1/sessions", {**series, "rows": _ROWS}),
                _request("POST", "/v1/sessions/{last}/rows", {"rows": [{**_ROW, "time": "2024-03-04 00:00"}]}),
                _request("GET", "/v1/sessions/{last}/forecast"),
                _request("DELETE", "/v1/sessions/{last}"),
            ]
        ),
        b"\n%%\n".join(
            _request("GET", path) for path in ("/v1/models", "/v1/models/poet", "/health", "/metrics", "/openapi.json")
        ),
    ]


_WORDS = (
    b"DELETE ", b"OPTIONS ", b"PATCH ", b"/v1/", b"{last}", b"%00", b"%2e%2e/", b"?a=b", b"#", b"poet", b"weather",
    b'"rows": ', b'"prompt": ',
    b"Content-Type: text/plain\n", b"Content-Encoding: gzip\n", b"Origin: http://a\n", b"Authorization: Bearer x\n",
    b"Host: evil\n",
    b"\n%%\n", b"null", b"[]", b"{}", b"1e999", b"-1", b"NaN", b'"\\ud800"', b"true", b"[[[", b"9" * 400, b'"time": 3',
    b'"max_tokens": 0', b'"temperature": 0', b'"top_p": 0', b'"n": 3', b'"seed": -1', b'"stop": ""',
    b'"logit_bias": {"1": -100}',
    b'"state": "AAAA"', b'"horizon": 5', b'"2024-03-04 07:00"', b'"2024-03-03 12:00"', b'"2025-01-01"',
    b'"0001-01-01"', b"X-A: b\n",
)  # fmt: skip


def _mutate_http(random: random.Random, data: bytes) -> bytes:
    parts = data.split(b"\n%%\n")
    place = random.randint(0, len(parts) - 1)
    head, mark, body = parts[place].partition(b"\n\n")
    choice = random.randint(0, 9)
    if choice < 5 and body:
        parts[place] = head + mark + damage.mutate_json(random, body)
    elif choice < 7:
        parts[place] = damage.mutate_words(_WORDS)(random, parts[place])
    elif choice == 7:
        parts.insert(random.randint(0, len(parts)), random.choice(parts))
    elif choice == 8:
        parts[place] = random.choice(random.choice(_http_seeds()).split(b"\n%%\n"))
    else:
        parts[place] = damage.mutate_bytes(random, parts[place])
    return b"\n%%\n".join(parts)[: damage.LARGEST]


class _Server:
    """The application, called as an HTTP server calls it, in a loop of its own."""

    def __init__(self) -> None:
        from elman.shipping.serving.application import application
        from elman.shipping.serving.batching import Batcher
        from elman.shipping.serving.hosting import Host
        from elman.shipping.serving.protection import Limits
        from elman.shipping.serving.store import Store
        from fuzzing_targets import series_model, text_model

        self.folder = tempfile.TemporaryDirectory(prefix="fuzzing-http-")
        paths = [Path(self.folder.name, name) for name in ("poet.safetensors", "weather.safetensors")]
        text_model(cell="gru").save(paths[0])
        series_model().save(paths[1])
        usual, Batcher.warm_up = Batcher.warm_up, lambda self: None  # type: ignore[method-assign]
        try:
            host = Host([str(path) for path in paths])
        finally:
            Batcher.warm_up = usual  # type: ignore[method-assign]
        limits = Limits(body=2**18, body_seconds=1.0, seconds=4.0, symbols=60, streams=8)
        self.app = application(host, Store(None, most=50, age=3600), limits=limits)
        self.loop = asyncio.new_event_loop()
        self.running = self.app.router.lifespan_context(self.app)
        self.loop.run_until_complete(self.running.__aenter__())

    def ask(self, method: str, target: str, headers: list[tuple[bytes, bytes]], body: bytes) -> tuple[int, bytes, str]:
        """Status, body and type of the answer."""
        raw, _, query = target.partition("?")
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
            "path": urllib.parse.unquote(raw), "raw_path": raw.encode(), "query_string": query.encode(), "root_path": "",
            "headers": headers, "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 8000), "state": {},
        }  # fmt: skip
        said: list[dict[str, Any]] = []
        waiting = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> dict[str, Any]:
            if waiting:
                return waiting.pop()
            await asyncio.Event().wait()  # the client stays
            raise AssertionError

        async def send(message: Any) -> None:
            said.append(message)

        self.loop.run_until_complete(self.app(scope, receive, send))
        content = b"".join(message.get("body", b"") for message in said[1:])
        kind = dict(said[0]["headers"]).get(b"content-type", b"").decode()
        return said[0]["status"], content, kind


@functools.cache
def _server() -> _Server:
    return _Server()


_LINE = re.compile(r"([A-Z]{1,16}) (/[!-~]*)")
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t -~\x80-\xff]*)")


def _taken_apart(data: bytes, last: str) -> tuple[str, str, list[tuple[bytes, bytes]], bytes]:
    """A request as an HTTP library would hand it over. Raises: `DataError` for what such a library refuses."""
    head, _, body = data.partition(b"\n\n")
    first, *rest = head.split(b"\n")
    line = _LINE.fullmatch(first.decode("latin-1").replace("{last}", last))
    found = [_HEADER.fullmatch(header) for header in rest]
    if line is None or not all(found) or len(head) > 60_000:
        raise DataError("no HTTP request")
    headers = [(match[1].lower(), match[2]) for match in found if match]
    headers = [pair for pair in headers if pair[0] not in (b"content-length", b"host")]
    return line[1], line[2], [*headers, (b"host", b"127.0.0.1"), (b"content-length", str(len(body)).encode())], body


def _read_requests(path: Path) -> None:
    server, last, refusal = _server(), "none", ""
    for part in path.read_bytes().split(b"\n%%\n")[:12]:
        status, content, kind = server.ask(*_taken_apart(part, last))
        if status >= 500 or b"Traceback" in content:
            raise AssertionError(f"status {status}: {content[:300]!r}")
        if not kind.startswith("application/json"):
            continue
        answer = json.loads(content)
        if status >= 400:
            refusal = refusal or answer["error"]["message"]
        elif isinstance(answer, dict) and re.fullmatch(r"[\w-]{1,80}", str(answer.get("id", ""))):
            last = answer["id"]
    host = [(b"host", b"127.0.0.1")]
    for session in json.loads(server.ask("GET", "/v1/sessions", host, b"")[1])["data"]:
        server.ask("DELETE", f"/v1/sessions/{session['id']}", host, b"")
    if refusal:
        raise DataError(refusal)


KINDS = {
    "time": (".txt", _time_seeds, damage.mutate_words(_TIMES), _read_times),
    "configuration": (".txt", _flag_seeds, _mutate_flags, _read_flags),
    "http": (".http", _http_seeds, _mutate_http, _read_requests),
}
"""By kind: suffix, seeds, mutation, how it is read."""

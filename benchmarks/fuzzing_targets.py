"""What `fuzzing.py` and `tests/test_fuzzing.py` read damaged input with: for each kind its seeds, its mutation, and how it is read.

To read means: use what the reader gives as its callers do, and look at whether it is sound. A reader that refuses raises an
`ElmanError`; a `Finding` says what is wrong with a reader that neither gave something sound nor refused in one line.
"""

import functools
import io
import json
import random
import re
import tempfile
import traceback
import warnings
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import fuzzing_mutations as damage
import fuzzing_requests
from elman.config import Config, SeriesSettings, TextSettings, from_toml
from elman.errors import LONGEST_MESSAGE, ElmanError
from elman.network import to_arrays
from elman.series.durations import Duration
from elman.series.encoding import Encoding
from elman.series.model import SeriesModel, horizon_of
from elman.series.model import new_network as new_series_network
from elman.series.panel import Horizon, Panel
from elman.series.reading.tables import read_table
from elman.series.run import SeriesRun
from elman.series.scoring.calibration import Calibration
from elman.shipping.onnx_export import to_onnx
from elman.shipping.onnx_import import read_onnx, recurrent_nodes, text_model_from_onnx
from elman.shipping.parts import parts_of
from elman.shipping.torch_export import from_state_dict, read_state_dict, write_torch
from elman.studio.runs_index import WatchedRun
from elman.text.encoded import open_text
from elman.text.model import TextModel
from elman.text.run import TextRun
from elman.text.trainer import read_description, with_classic_weights
from elman.text.vocabulary import Vocabulary
from elman.training.runs import Run

TEXT = "hello, world: é"

KEPT = Path(__file__).with_name("fuzzing_corpus.zip")
"""What earlier searches found worth looking at again (`fuzzing.py --pack`)."""


last_place = ""
"""Where the newest input was refused, and the end of what was said of it: a new place is worth looking around in."""


class Finding(Exception):
    """A reader gave something that is not sound, or refused in words that are none."""


@dataclass(frozen=True)
class Target:
    """One reader. `read(path)` reads the file at `path`, whose name ends in `suffix`."""

    kind: str
    suffix: str
    seeds: Callable[[], list[bytes]]
    mutate: damage.Mutation
    read: Callable[[Path], None]


def check(target: Target, path: Path) -> str:
    """Read `path`: "read" or "refused"; `last_place` then says where. Raises: `Finding`, or whatever escaped the reader."""
    global last_place
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            target.read(path)
    except ElmanError as error:
        words = str(error)
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "elman" in frame.filename]
        shape = re.sub(r"'.*?'|\".*?\"|[\d.]+|/\S+", "", words)[-40:]
        last_place = f"{frames[-1].filename}:{frames[-1].lineno} {shape}" if frames else shape
        if any(ord(letter) < 32 or letter in "\x7f\x85\u2028\u2029" for letter in words):
            raise Finding(f"a message of several lines, or with control characters: {ascii(words)[:300]}") from None
        if not words or len(words) > LONGEST_MESSAGE:
            raise Finding(f"a message of {len(words)} characters: {words[:100]}") from None
        return "refused"
    last_place = "read"
    return "read"


def kept(kind: str) -> list[bytes]:
    """The inputs of a kind that are kept."""
    if not KEPT.exists():
        return []
    with zipfile.ZipFile(KEPT) as packed:
        return [packed.read(name) for name in packed.namelist() if name.startswith(f"{kind.replace(' ', '-')}/")]


def _expect(holds: bool, words: str) -> None:
    if not holds:
        raise Finding(words)


# --- models -------------------------------------------------------------------------------------------------------------------


def _saved(model: Any, name: str = "seed.safetensors") -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        model.save(Path(folder, name))
        return Path(folder, name).read_bytes()


@functools.cache
def text_model(**settings: Any) -> TextModel:
    """A text model with starting weights."""
    return TextModel.untrained(TEXT, **{"hidden": 3, **settings})


@functools.cache
def series_model(path: bool = False) -> SeriesModel:
    """A forecaster with starting weights over 60 hours of three columns."""
    settings = {
        "target": "y",
        "horizon": "3",
        "lookback": "5",
        "every": "1",
        "hidden": 3,
        "levels": (0.1, 0.5, 0.9),
        "path": path,
    }
    config = Config().replace(**settings)
    times = int(np.datetime64("2024-03-01", "us").astype(np.int64)) + np.arange(60) * 3_600_000_000
    values = np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32)
    values[::7, 1] = np.nan
    panel = Panel(
        ("y", "x", "k"),
        values,
        times,
        np.asarray([0, 60]),
        Duration.parse("1h"),
        ("",),
        static=np.zeros((1, 0), np.float32),
    )
    horizon = horizon_of(config, panel.step, "y")
    encoding = Encoding.fit(panel, panel.offsets[1:], Horizon("y", horizon.rows, horizon.levels), config.series)
    shifts = np.zeros((len(horizon.rows), len(horizon.levels)))
    return SeriesModel(new_series_network(config, encoding), encoding, Calibration(horizon.levels, shifts), config)


def _finite(tree: Any, what: str) -> None:
    for name, array in to_arrays(tree).items():
        _expect(
            array.size > 0 and bool(np.isfinite(array).all()), f"{what} has weights {name} that are empty or not finite"
        )


def _sound_text(model: TextModel) -> None:
    _finite(model.network, "the text model")
    _expect(model.network.head.bias.shape == (model.vocabulary.size,), "the head does not fit the vocabulary")
    codes = model.vocabulary.encode("hello", unknown="skip")
    _expect(
        model.vocabulary.decode(codes) in ("hello"[i:j] for i in range(6) for j in range(i, 6)) or len(codes) < 5,
        "codes",
    )
    Config.from_dict(model.config.to_dict("text"))


def _read_text_model(path: Path) -> None:
    _sound_text(TextModel.load(path))


def _read_series_model(path: Path) -> None:
    model = SeriesModel.load(path)
    _finite(model.network, "the forecaster")
    _expect(model.horizon.target in model.encoding.columns, "the target is no column")
    _expect(1 <= model.every <= model.lookback, "the steps do not fit the lookback")
    _expect(len(model.encoding.names_of_inputs()) == model.encoding.input_size, "the inputs have no names")
    _expect(model.memory_rows > 0, "the walk goes nowhere")


def _onnx_seeds() -> list[bytes]:
    kinds: list[dict[str, Any]] = [{}, {"cell": "lstm"}, {"cell": "elman", "layers": 2}]
    return [to_onnx(parts_of(text_model(**kind))).SerializeToString() for kind in kinds]


def _read_onnx(path: Path) -> None:
    model = read_onnx(path)
    first: ElmanError | None = None
    try:
        for imported in recurrent_nodes(model):
            _expect(len(imported.cells) == len(imported.backwards) > 0, "directions and cells are not as many")
            for cell in imported.cells:
                _finite(cell, "the operator")
            _expect(imported.layout in (0, 1), "there is no such layout")
            _expect(len({cell.hidden_size for cell in imported.cells}) == 1, "directions of different sizes")
    except ElmanError as error:
        first = error
    _sound_text(text_model_from_onnx(path))
    if first is not None:
        raise first


def _state_dict_seeds() -> list[bytes]:
    with tempfile.TemporaryDirectory() as folder:
        found = []
        for number, cell in enumerate(("gru", "lstm", "elman")):
            path = Path(folder, f"{number}.safetensors")
            write_torch(parts_of(text_model(cell=cell)), path)
            found.append(path.read_bytes())
        return found


def _read_state_dict(path: Path) -> None:
    arrays, facts = read_state_dict(path)
    _expect(isinstance(facts, dict), f"the facts are a {type(facts).__name__}")
    _sound_text(from_state_dict(arrays, Vocabulary.from_text(TEXT)))


def _pickle_seeds() -> list[bytes]:
    import torch

    arrays, _ = _arrays_of(_state_dict_seeds()[0])
    target = io.BytesIO()
    torch.save({name: torch.from_numpy(array.copy()) for name, array in arrays.items()}, target)
    return [target.getvalue()]


def _arrays_of(data: bytes) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.safetensors")
        path.write_bytes(data)
        return read_state_dict(path)


@functools.cache
def _classic() -> TextModel:
    return text_model(cell="elman")


def _archive_seeds() -> list[bytes]:
    hidden, vocabulary = 3, _classic().vocabulary.size
    shapes = {
        "wxh": (hidden, vocabulary),
        "whh": (hidden, hidden),
        "why": (vocabulary, hidden),
        "bh": (hidden, 1),
        "by": (vocabulary, 1),
    }
    arrays = {name: np.full(shape, 0.5, np.float32) for name, shape in shapes.items()}
    plain, packed = io.BytesIO(), io.BytesIO()
    np.savez(plain, **arrays)  # type: ignore[arg-type]
    np.savez_compressed(packed, **arrays)  # type: ignore[arg-type]
    return [plain.getvalue(), packed.getvalue()]


def _read_archive(path: Path) -> None:
    _finite(with_classic_weights(_classic().network, path), "the starting network")


# --- run folders --------------------------------------------------------------------------------------------------------------


def _description(task: str) -> bytes:
    import tomli_w

    facts: dict[str, Any] = {"format": 1, "task": task, "inputs": ["a.txt"], "digest": "0" * 64, "data_folder": "data"}
    return tomli_w.dumps({"run": facts, **Config().replace(hidden=8, steps=5).to_dict(task)}).encode()


def _settings_seeds() -> list[bytes]:
    return [_description("text"), _description("series")]


def _read_settings(path: Path) -> None:
    words = path.read_bytes().decode("utf-8", "surrogateescape")
    folder = _run_folder(path, config=path.read_bytes())
    first: ElmanError | None = None
    try:
        config, facts = read_description(Run(folder))
        _expect(
            Config.from_dict(config.to_dict("text")) is not None and facts["task"] == "text", "the description changed"
        )
    except ElmanError as error:
        first = error
    WatchedRun(folder).refresh(at_least=0)
    try:
        tables = from_toml(words.encode("utf-8", "surrogateescape").decode(), "the settings")
    except UnicodeDecodeError:
        tables = {}
    Config.from_dict({name: table for name, table in tables.items() if name != "run"})
    if first is not None:
        raise first


def _run_folder(path: Path, **files: bytes) -> Path:
    folder = path.parent / "run"
    folder.mkdir(exist_ok=True)
    (folder / "config.toml").write_bytes(files.get("config", _description("text")))
    (folder / "events.jsonl").write_bytes(files.get("events", b""))
    if "evaluation" in files:
        (folder / "evaluation.json").write_bytes(files["evaluation"])
    return folder


def _events_seeds() -> list[bytes]:
    events: list[dict[str, Any]] = [
        {"kind": "start", "time": 1.0, "parameters": 9, "baselines": {"uniform": 3.0, "unigram": 2.5}}
    ]
    for first in range(0, 40, 10):
        losses = [3.0 / (1 + first + number) for number in range(10)]
        events.append(
            {"kind": "update", "iteration": first, "loss": losses, "learning_rate": 0.01, "gradient_norm": 1.0}
        )
        events[-1] |= {"symbols_per_second": 1000.0, "elapsed": first / 10}
        events.append({"kind": "validation", "iteration": first + 10, "nats": 2.0, "elapsed": first / 10})
        events.append({"kind": "sample", "iteration": first + 10, "text": "hello", "elapsed": first / 10})
        events.append({"kind": "checkpoint", "iteration": first + 10})
    events.append({"kind": "recovery", "iteration": 40, "failed": 41, "rate_scale": 0.5})
    events.append(
        {"kind": "end", "ending": "finished", "iteration": 40, "elapsed": 4.0, "validation": 2.0, "best_iteration": 40}
    )
    return ["".join(json.dumps(event) + "\n" for event in events).encode()]


def _read_events(path: Path) -> None:
    folder = _run_folder(path, events=path.read_bytes())
    watched = WatchedRun(folder)
    watched.refresh(at_least=0)
    once = len(watched.curves.losses), len(watched.validations), len(watched.samples)
    watched.refresh(at_least=0)
    _expect(
        once == (len(watched.curves.losses), len(watched.validations), len(watched.samples)), "lines are read twice"
    )
    _expect("\n" not in watched.problem, "a problem of several lines")
    for scale in ("linear", "log"):
        for points in (5, 250):
            watched.loss_curve(scale, points)
            watched.block_curve("speed", scale, points)
    json.dumps([watched.iteration, watched.best, watched.state])
    run = TextRun(folder)
    _expect(
        all(isinstance(sample.text, str) and isinstance(sample.iteration, int) for sample in run.samples), "no sample"
    )
    _expect(all(isinstance(nats, float | int) for _, nats in run.validations), "a validation without a figure")
    _expect(all(isinstance(loss, float | int) for loss in run.losses), "a loss that is no number")
    _expect(isinstance(run.baselines, dict) and repr(run) != "", "no baselines")


def _evaluation_seeds() -> list[bytes]:
    return [b'{"verdict": "the network wins", "scores": {"test": [{"name": "network", "mae": 1.0}]}, "horizon": "24h"}']


def _read_evaluation(path: Path) -> None:
    run = SeriesRun(_run_folder(path, config=_description("series"), evaluation=path.read_bytes()))
    _expect(isinstance(run.evaluation, dict) and isinstance(run.verdict, str), "no evaluation")


def _checkpoint_seeds() -> list[bytes]:
    from elman.training.storage import write_arrays

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "c")
        position = {"iteration": 40, "elapsed": 1.5, "validations": [[40, 2.0]]}
        state = {"position": position, "events": 0, "ended": None}
        write_arrays(
            path, {"network.w": np.ones((2, 3), np.float32)}, {"iteration": 40, "state": state}, kind="checkpoint"
        )
        return [path.read_bytes()]


def _read_checkpoint(path: Path) -> None:
    folder = _run_folder(path)
    (folder / "checkpoints").mkdir(exist_ok=True)
    (folder / "checkpoints" / "000000040.safetensors").write_bytes(path.read_bytes())
    found = Run(folder).checkpoints.latest()
    _expect(found is not None and found.iteration == 40 and isinstance(found.state, dict), "no checkpoint")


# --- tables and text ----------------------------------------------------------------------------------------------------------


def _table_seeds() -> list[bytes]:
    plain = b"time,y,x\n" + b"".join(b"2024-01-%02d 00:00,%d.5,%d\n" % (day, day, day * 2) for day in range(1, 29))
    german = b"Datum;Uhrzeit;Wert\n" + b"".join(b"%02d.01.2024;12:00;1,%d\n" % (day, day) for day in range(1, 29))
    epochs = b"timestamp,y\n" + b"".join(b"%d,%d\n" % (1700000000 + 3600 * hour, hour) for hour in range(30))
    series = b"day,series,y\n" + b"".join(b"202401%02d,%d,%d\n" % (day, day % 2, day) for day in range(1, 29))
    words = b"time,y\n" + b"".join(b"12 March 2024 %d:00 PM +02:00,%d\n" % (hour, hour) for hour in range(1, 12))
    return [plain, german, epochs, series, words, plain.decode().encode("utf-16")]


_FORMATS = (
    None,
    "%d.%m.%Y",
    "%Y-%m-%d %H:%M",
    "%",
    "%H",
    "%Y",
    "%s",
    "%+",
    "%Q",
    "%Y-%m-%d %H:%M:%S.%f%z",
    "%-d %_m %e",
    "%c",
)
_ZONES = (None, "Europe/Berlin", "UTC", "../etc", "America/New_York")


def _read_tables(path: Path) -> None:
    """The table with the settings that its own bytes choose."""
    choice = random.Random(zlib.crc32(path.read_bytes()))
    settings: dict[str, Any] = {"decimal": choice.choice(("auto", "auto", "comma"))}
    if choice.random() < 0.2:
        settings |= {"time_format": choice.choice(_FORMATS), "time_zone": choice.choice(_ZONES)}
    if choice.random() < 0.2:
        settings |= {"target": "y", "time_column": choice.choice((None, "time"))}
    table = read_table(path, SeriesSettings(**settings))
    kind = table.frame.schema[table.time_column]
    _expect(str(kind).startswith("Datetime") and not table.frame[table.time_column].null_count(), "times that are none")
    _expect(len(table.frame) > 0 and len(table.digest) == 64, "a table without rows")
    _expect(table.place(len(table.frame) - 1) != "", "rows without a place")
    _expect(all("\n" not in note for note in table.notes), "a note of several lines")


ENCODINGS = (
    "utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-7", "ascii", "latin-1", "cp1252",
    "cp437", "cp1256", "koi8-r", "mac_roman", "shift_jis", "shift_jisx0213", "euc_jp", "iso2022_jp", "iso2022_kr",
    "hz", "big5", "gb18030", "gbk", "euc_kr", "johab", "cp65001", "idna", "punycode", "unicode_escape",
    "raw_unicode_escape", "charmap", "undefined", "rot13", "base64", "zlib", "palmos", "no-such", "", "utf\n8",
    "../x", "hex", "uu",
)  # fmt: skip


def _text_seeds() -> list[bytes]:
    texts = [
        (0, "Grüße, سلام, 你好\n" * 4, "utf-8"),
        (2, "wide\n" * 9, "utf-16"),
        (14, "日本語\n" * 5, "shift_jis"),
        (6, "a+-b £\n", "utf-7"),
    ]
    found = [bytes([number, 0]) + text.encode(encoding, "replace") for number, text, encoding in texts]
    return [*found, bytes([28, 1]) + b"\\u0041\\ud800\\U00110000", bytes([0, 2]) + b"\xff\xfe\xed\xa0\x80"]


def _read_text(path: Path) -> None:
    data = path.read_bytes()
    encoding = ENCODINGS[data[0] % len(ENCODINGS)] if data else "utf-8"
    flags = data[1] if len(data) > 1 else 0
    settings = TextSettings(
        encoding=encoding,
        errors=("strict", "replace", "ignore")[flags % 3],
        normal_form=("NFC", "NFKD", "none")[flags // 3 % 3],
    )
    source = path.with_name("input.txt")
    source.write_bytes(data[2:])
    encoded = open_text([source], settings, cache_folder=path.parent / "cache")
    text = encoded.vocabulary.decode(encoded.codes)
    _expect(len(text) == len(encoded) <= 20 * len(data) + 100, "a text of another length")
    text.encode()


TARGETS = {
    target.kind: target
    for target in (
        Target(
            "text model",
            ".safetensors",
            lambda: [_saved(text_model()), _saved(text_model(cell="lstm", layers=2, layer_norm=True))],
            damage.mutate_container,
            _read_text_model,
        ),
        Target(
            "series model",
            ".safetensors",
            lambda: [_saved(series_model()), _saved(series_model(path=True))],
            damage.mutate_container,
            _read_series_model,
        ),
        Target("onnx", ".onnx", _onnx_seeds, damage.mutate_onnx, _read_onnx),
        Target("state dict", ".safetensors", _state_dict_seeds, damage.mutate_container, _read_state_dict),
        Target("pickle", ".pt", _pickle_seeds, damage.mutate_zip(damage.mutate_bytes), _read_state_dict),
        Target("npz", ".npz", _archive_seeds, damage.mutate_zip(damage.mutate_npy), _read_archive),
        Target("settings", ".toml", _settings_seeds, damage.mutate_toml, _read_settings),
        Target("events", ".jsonl", _events_seeds, damage.mutate_lines, _read_events),
        Target("evaluation", ".json", _evaluation_seeds, damage.mutate_json, _read_evaluation),
        Target("checkpoint", ".safetensors", _checkpoint_seeds, damage.mutate_container, _read_checkpoint),
        Target("table", ".csv", _table_seeds, damage.mutate_table, _read_tables),
        Target("text", ".txt", _text_seeds, damage.mutate_bytes, _read_text),
        *(Target(kind, *how) for kind, how in fuzzing_requests.KINDS.items()),
    )
}

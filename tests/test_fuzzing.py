"""Every reader of files against damaged ones: a sound object, or an `ElmanError` of one line; in little time, in little memory,
and nothing is ever run.

The damage and the readers are those of `benchmarks/fuzzing.py`, which searches for as long as one likes. What it found stands
here as plain inputs.
"""

import importlib.util
import io
import json
import os
import pickle
import random
import signal
import struct
import sys
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper
from safetensors.numpy import save_file

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

from elman.config import Config, SeriesSettings, from_toml
from elman.errors import LONGEST_MESSAGE, BundleError, ConfigError, DataError, ElmanError, RunError
from elman.reports.timeline import read_history
from elman.series.reading.tables import read_table
from elman.series.run import SeriesRun
from elman.shipping.onnx_export import to_onnx
from elman.shipping.onnx_import import read_onnx, recurrent_nodes, text_model_from_onnx
from elman.shipping.parts import parts_of
from elman.shipping.torch_export import from_state_dict, read_state_dict
from elman.studio.runs_index import WatchedRun
from elman.text.model import TextModel
from elman.text.run import TextRun
from elman.text.trainer import resume_text, train_text, with_classic_weights
from elman.text.vocabulary import Vocabulary
from elman.training.storage import read_arrays, write_arrays
from fuzzing_mutations import mutate_bytes
from fuzzing_targets import TARGETS, TEXT, Target, check, kept, text_model

needs_torch = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None, reason="no PyTorch: pip install 'elman[torch]'"
)

SECONDS_EACH = 5.0
MEMORY_TIMES, MEMORY_BESIDE = 64, 8 << 20
"""What a reader may take at most: so many times the file's size, and so many bytes beside it."""

KINDS = [pytest.param(kind, marks=needs_torch) if kind == "pickle" else kind for kind in TARGETS]


@pytest.fixture
def in_time() -> Iterator[Callable[[], None]]:
    """Call it before each example: what then takes too long is interrupted."""

    def expire(*_: object) -> None:
        raise AssertionError(f"longer than {SECONDS_EACH:g} seconds")

    before = signal.signal(signal.SIGALRM, expire)
    yield lambda: signal.setitimer(signal.ITIMER_REAL, SECONDS_EACH) and None
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def warmed(target: Target, folder: Path) -> tuple[Path, list[bytes]]:
    """The path that is read, and the seeds, each read once: what is imported and compiled is not an example's."""
    path = folder / f"input{target.suffix}"
    seeds = target.seeds()
    for seed in seeds:
        path.write_bytes(seed)
        check(target, path)
    return path, seeds


@pytest.mark.parametrize("kind", KINDS)
def test_damage_is_refused_or_harmless(kind: str, tmp_path: Path, in_time: Callable[[], None]) -> None:
    target = TARGETS[kind]
    path, seeds = warmed(target, tmp_path)

    @settings(max_examples=60, suppress_health_check=list(HealthCheck))
    @given(st.randoms(use_true_random=False), st.sampled_from(seeds))
    def damage(random: random.Random, data: bytes) -> None:
        path.write_bytes(target.mutate(random, data))
        in_time()
        check(target, path)

    damage()


@pytest.mark.parametrize("kind", [kind for kind in TARGETS if kind != "pickle"])
def test_what_the_searches_kept_is_refused_or_harmless(kind: str, tmp_path: Path, in_time: Callable[[], None]) -> None:
    target = TARGETS[kind]
    path, _ = warmed(target, tmp_path)
    inputs = kept(kind)
    assert inputs, "the archive holds none of this kind"
    for data in inputs:
        path.write_bytes(data)
        in_time()
        check(target, path)


@pytest.mark.parametrize("kind", KINDS)
def test_bytes_changed_anywhere_take_little_memory(kind: str, tmp_path: Path, in_time: Callable[[], None]) -> None:
    target = TARGETS[kind]
    path, seeds = warmed(target, tmp_path)
    generator = random.Random(kind)
    tracemalloc.start(1)
    try:
        for number in range(24):
            data = (mutate_bytes, target.mutate)[number % 2](generator, seeds[number % len(seeds)])
            path.write_bytes(data)
            tracemalloc.reset_peak()
            before, _ = tracemalloc.get_traced_memory()
            in_time()
            check(target, path)
            taken = tracemalloc.get_traced_memory()[1] - before
            assert taken <= MEMORY_TIMES * len(data) + MEMORY_BESIDE, f"{taken:,} bytes for a file of {len(data):,}"
    finally:
        tracemalloc.stop()


# --- nothing is run -----------------------------------------------------------------------------------------------------------


class Malicious:
    """Makes a folder where it is unpickled."""

    def __init__(self, sentinel: Path) -> None:
        self.sentinel = sentinel

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.sentinel),)


def malicious_files(sentinel: Path) -> dict[str, bytes]:
    plain = pickle.dumps({"rnn.weight_hh_l0": Malicious(sentinel)})
    objects, archive, of_torch = io.BytesIO(), io.BytesIO(), io.BytesIO()
    np.save(objects, np.asarray([Malicious(sentinel)], object), allow_pickle=True)
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("wxh.npy", objects.getvalue())
    with zipfile.ZipFile(of_torch, "w") as packed:
        packed.writestr("archive/data.pkl", plain)
        packed.writestr("archive/version", "3\n")
        packed.writestr("archive/byteorder", "little")
    return {"pickle": plain, "npy": objects.getvalue(), "npz": archive.getvalue(), "torch": of_torch.getvalue()}


@pytest.mark.parametrize("kind", [kind for kind in TARGETS if kind not in ("text", "evaluation")])
@pytest.mark.parametrize("content", ["pickle", "npy", "npz", "torch"])
def test_nothing_in_a_file_is_run(kind: str, content: str, tmp_path: Path) -> None:
    sentinel, target = tmp_path / "sentinel", TARGETS[kind]
    path = tmp_path / f"input{target.suffix}"
    path.write_bytes(malicious_files(sentinel)[content])
    said = check(target, path)
    # A log without one whole line is a log that is still being written, and no flags at all are the defaults.
    assert said == "refused" or kind in ("events", "configuration")
    assert not sentinel.exists()
    pickle.loads(malicious_files(sentinel)["pickle"])  # noqa: S301 (it would have worked)
    assert sentinel.exists()


# --- messages -----------------------------------------------------------------------------------------------------------------


def test_a_message_is_one_line_whatever_a_file_holds() -> None:
    assert str(DataError("two\nlines\tand \x1b[31m, \ud800, \u2028")) == "two lines and \\x1b[31m, \\ud800,  "
    persian = "فایل نیست: «می‌خواهم»"
    assert str(DataError(persian)) == persian
    long = str(DataError("begins" + "\x00" * 10**6 + "remedy"))
    assert long.startswith("begins")
    assert long.endswith("remedy")
    assert len(long) <= LONGEST_MESSAGE


def test_a_key_of_several_lines_in_a_bundle_is_shown_on_one(tmp_path: Path) -> None:
    arrays, parts = saved(tmp_path)
    parts["codec"]["two\nlines"] = 1
    with pytest.raises(BundleError, match="two lines"):
        load_with(tmp_path, arrays, parts)


# --- bundles ------------------------------------------------------------------------------------------------------------------


def saved(folder: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    text_model().save(folder / "whole.safetensors")
    return read_arrays(folder / "whole.safetensors", kind="bundle")


def load_with(folder: Path, arrays: dict[str, np.ndarray], parts: dict[str, Any]) -> TextModel:
    write_arrays(folder / "changed.safetensors", arrays, parts, kind="bundle")
    return TextModel.load(folder / "changed.safetensors")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_damage(value: float, tmp_path: Path) -> None:
    arrays, parts = saved(tmp_path)
    arrays["head.weight"][0, 0] = value
    with pytest.raises(BundleError, match=r"'head\.weight' holds numbers that are not finite"):
        load_with(tmp_path, arrays, parts)


# --- settings -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("hidden = 1" + "0" * 5000, "not valid TOML"),
        ("[network]\nhidden = 0x" + "f" * 9000, "36000 bits"),
        ("hidden = 9223372036854775808", "64 bits"),
        ("x = " + "[" * 3000 + "]" * 3000, "nested too deeply"),
        ("x = " + "{a=" * 3000 + "1" + "}" * 3000, "nested too deeply"),
        ("a." * 50_000 + "b = 1", "more than 1000 dots"),
    ],
)
def test_settings_that_overwhelm_the_reader_are_refused(text: str, words: str, in_time: Callable[[], None]) -> None:
    in_time()
    with pytest.raises(ConfigError, match=words):
        Config.from_dict(from_toml(text, "the file"))


# --- run folders --------------------------------------------------------------------------------------------------------------


def run_folder(folder: Path, *events: dict[str, Any] | str, task: str = "text", training: str = "") -> Path:
    (folder / "config.toml").write_text(f'[run]\ntask = "{task}"\nformat = 1\n[training]\n{training}')
    lines = [event if isinstance(event, str) else json.dumps(event) for event in events]
    (folder / "events.jsonl").write_text("".join(f"{line}\n" for line in lines))
    return folder


UPDATE = {"kind": "update", "iteration": 0, "loss": [1.0, 2.0]}


@pytest.mark.parametrize(
    ("event", "words"),
    [
        ({"kind": "update", "iteration": 0}, "'loss' of its 'update' is missing"),
        ({**UPDATE, "loss": 3.5}, "'loss'"),
        ({**UPDATE, "loss": [None]}, "'loss'"),
        ({**UPDATE, "iteration": -1}, "'iteration'"),
        ({**UPDATE, "iteration": True}, "'iteration'"),
        ({"kind": "sample", "iteration": 2}, "'text' of its 'sample' is missing"),
        ({"kind": "sample", "iteration": 2, "text": 3}, "'text'"),
        ({"kind": "validation", "iteration": 2, "nats": "low"}, "'nats'"),
        ({"kind": "start", "baselines": True}, "'baselines'"),
        ({**UPDATE, "elapsed": "long"}, "'elapsed'"),
    ],
)
def test_an_event_that_is_not_as_it_should_be_is_named(event: dict[str, Any], words: str, tmp_path: Path) -> None:
    run = TextRun(run_folder(tmp_path, UPDATE, event))
    with pytest.raises(RunError, match=f"line 2 is damaged: {words}"):
        list(run.events())


def test_a_validation_of_another_task_is_told(tmp_path: Path) -> None:
    folder = run_folder(tmp_path, {"kind": "validation", "iteration": 2, "mae": 1.0})
    with pytest.raises(RunError, match="without 'nats'"):
        _ = TextRun(folder).validations
    assert SeriesRun(folder).validations == [(2, 1.0)]
    assert read_history(TextRun(folder)).validations == []
    assert TextRun(run_folder(tmp_path, {"kind": "start"})).baselines == {}


def test_a_damaged_line_is_not_counted_anew_at_every_look(tmp_path: Path) -> None:
    watched = WatchedRun(
        run_folder(tmp_path, UPDATE, json.dumps({**UPDATE, "elapsed": 0})[:-2] + "1" + "0" * 400 + "}")
    )
    for _ in range(3):
        watched.refresh(at_least=0)
        assert len(watched.curves.losses) == 2
    assert watched.problem == "line 2 of events.jsonl is damaged"


@pytest.mark.parametrize("starts", [[-5], [5000, 0], [2**62], [1e300]])
@pytest.mark.parametrize("scale", ["linear", "log"])
def test_updates_in_any_order_make_a_curve(starts: list[Any], scale: str, tmp_path: Path) -> None:
    events = [{"kind": "update", "iteration": start, "loss": [1.0] * 200} for start in starts]
    watched = WatchedRun(run_folder(tmp_path, *events))
    watched.refresh(at_least=0)
    curve = watched.loss_curve(scale, 5)
    assert all(value == 1.0 for _, value in curve)
    assert bool(watched.problem) == (starts != [5000, 0])


def test_sizes_that_are_words_are_not_divided_by(tmp_path: Path) -> None:
    folder = run_folder(tmp_path, UPDATE, training='reduction = "sum"\nbatch = "many"\n')
    watched = WatchedRun(folder)
    watched.refresh(at_least=0)
    assert watched.loss_curve() == [[1.0, 1.0], [2.0, 2.0]]
    assert read_history(TextRun(folder)).losses == [1.0, 2.0]


def test_an_evaluation_nested_too_deeply_is_refused(tmp_path: Path) -> None:
    (run_folder(tmp_path) / "evaluation.json").write_text("[" * 100_000)
    with pytest.raises(RunError, match="is damaged"):
        _ = SeriesRun(tmp_path).evaluation


# --- ONNX ---------------------------------------------------------------------------------------------------------------------


def recurrent_model(weights: tuple[int, ...], recurrent: tuple[int, ...], **attributes: Any) -> onnx.ModelProto:
    arrays = {"W": np.zeros(weights, np.float32), "R": np.zeros(recurrent, np.float32)}
    node = helper.make_node("LSTM", ["X", "W", "R"], ["Y"], **attributes)
    info = helper.make_tensor_value_info("X", onnx.TensorProto.FLOAT, None)
    result = helper.make_tensor_value_info("Y", onnx.TensorProto.FLOAT, None)
    constants = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    graph = helper.make_graph([node], "one", [info], [result], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (recurrent_model((1, 0, 3), (1, 0, 2**40), hidden_size=2**40), "do not fit"),  # a bias of 8 * 2**40 zeros
        (recurrent_model((1, 0, 2**40), (1, 0, 0)), "do not fit"),
        (recurrent_model((1, 8, 3), (1, 8, 2), hidden_size=3), "do not fit"),
        (recurrent_model((1, 8, 3), (1, 8, 2), hidden_size=2, layout=7), "unknown layout 7"),
        (recurrent_model((1, 8, 3), (1, 8, 2), activations=["Ta\nnh", "\x1b[31m", "x"]), r"Ta nh, \\x1b\[31m"),
    ],
)
def test_operators_that_cannot_be_are_refused_before_memory_is_taken(model: onnx.ModelProto, words: str) -> None:
    tracemalloc.start(1)
    try:
        with pytest.raises(BundleError, match=words):
            recurrent_nodes(model)
        assert tracemalloc.get_traced_memory()[1] < MEMORY_BESIDE
    finally:
        tracemalloc.stop()


def test_a_head_that_is_not_finite_is_refused(tmp_path: Path) -> None:
    model = to_onnx(parts_of(text_model()))
    (head,) = (tensor for tensor in model.graph.initializer if tensor.name == "head_bias_0")
    head.CopyFrom(numpy_helper.from_array(np.full_like(numpy_helper.to_array(head), np.nan), "head_bias_0"))
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(BundleError, match="no finite floats"):
        text_model_from_onnx(tmp_path / "m.onnx")


@pytest.mark.parametrize("read", [read_onnx, read_state_dict])
def test_what_is_no_plain_file_is_not_waited_for(read: Any, tmp_path: Path, in_time: Callable[[], None]) -> None:
    os.mkfifo(tmp_path / "pipe.safetensors")
    in_time()
    with pytest.raises(BundleError, match="is no file"):
        read(tmp_path / "pipe.safetensors")


# --- state dicts --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("facts", ["[]", "3", "[" * 5000 + "]" * 5000])
def test_facts_that_are_no_table_are_refused(facts: str, tmp_path: Path) -> None:
    save_file({"a": np.zeros(3, np.float32)}, tmp_path / "a.safetensors", metadata={"elman": facts})
    with pytest.raises(BundleError, match="no state dict"):
        read_state_dict(tmp_path / "a.safetensors")


def state_dict(**changes: np.ndarray) -> dict[str, np.ndarray]:
    size = Vocabulary.from_text(TEXT).size
    shapes = {"embedding.weight": (size, size), "rnn.weight_ih_l0": (3, size), "rnn.weight_hh_l0": (3, 3)}
    shapes |= {"linear.weight": (size, 3), "linear.bias": (size,)}
    arrays = {name: np.full(shape, 0.5, np.float32) for name, shape in shapes.items()}
    return arrays | {name.replace("__", "."): array for name, array in changes.items()}


@pytest.mark.parametrize(
    "changes",
    [
        {"rnn__weight_hh_l0": np.zeros((0, 0), np.float32)},
        {"embedding__weight": np.zeros((2**40, 0), np.float32), "rnn__weight_ih_l0": np.zeros((3, 0), np.float32)},
        {"embedding__weight": np.broadcast_to(np.float32(1), (2**20, 2)), "rnn__weight_ih_l0": np.ones((2**20, 2))},
        {"linear__bias": np.full(Vocabulary.from_text(TEXT).size, np.nan)},
        {"rnn__weight_ih_l0": np.full((3, Vocabulary.from_text(TEXT).size), 3e38, np.float32)},
    ],
)
def test_arrays_that_are_empty_huge_or_not_finite_are_refused(changes: dict[str, np.ndarray]) -> None:
    vocabulary = Vocabulary.from_text(TEXT)
    assert from_state_dict(state_dict(), vocabulary).vocabulary == vocabulary
    with pytest.raises(BundleError, match="no state dict of embedding, rnn and linear"), np.errstate(all="ignore"):
        from_state_dict(state_dict(**changes), vocabulary)


# --- archives of NumPy --------------------------------------------------------------------------------------------------------


def npy(header: str, body: bytes = b"", version: bytes = b"\x01\x00") -> bytes:
    return b"\x93NUMPY" + version + struct.pack("<H", len(header) + 1) + header.encode() + b"\n" + body


@pytest.mark.parametrize(
    "content",
    [
        npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1099511627776,)}"),
        npy("{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 2)}"),
        npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", pickle.dumps([1])),
        npy("(" * 5000),
        npy("{'descr': '<f4'", version=b"\x02\x00"),
        npy("{}", version=b"\x09\x09"),
        bytes(1 << 26),
        b"",
    ],
)
def test_archives_that_ask_for_more_than_they_hold_are_refused(content: bytes, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("wxh.npy", content)
    tracemalloc.start(1)
    try:
        with pytest.raises(DataError, match=r"cannot be read as an \.npz file"):
            with_classic_weights(text_model(cell="elman").network, tmp_path / "a.npz")
        assert tracemalloc.get_traced_memory()[1] < MEMORY_BESIDE
    finally:
        tracemalloc.stop()


# --- tables -------------------------------------------------------------------------------------------------------------------


def table(folder: Path, text: str, **options: Any) -> Any:
    (folder / "a.csv").write_bytes(text.encode())
    return read_table(folder / "a.csv", SeriesSettings(**options))


HOURS = [f"2024-01-01 {hour:02d}:00" for hour in range(20)]


@pytest.mark.parametrize(
    ("times", "words"),
    [
        ([*HOURS, "0000-01-01 00:00"], "'0000-01-01 00:00' at line 22"),
        ([*map(str, range(1700000000, 1700000020)), "9999999999999"], "beyond the years 1 to 9999"),
        (["1700000000000000000"] * 20 + ["9999999999999999999"], "'9999999999999999999'"),
    ],
)
def test_times_beyond_the_calendar_are_named(times: list[str], words: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=words):
        table(tmp_path, "time,y\n" + "".join(f"{time},1\n" for time in times), time_column="time")


def test_timestamps_of_a_frame_beyond_the_calendar_are_named() -> None:
    values = pl.Series("time", [0, 2**62], pl.Int64).cast(pl.Datetime("us"))
    with pytest.raises(DataError, match="beyond the years 1 to 9999 at row 2"):
        read_table(pl.DataFrame({"time": values, "y": [1.0, 2.0]}), SeriesSettings())


def test_a_line_with_a_record_separator_is_a_row_like_others(tmp_path: Path) -> None:
    with pytest.raises(ElmanError, match="fields where the header has 3"):
        table(tmp_path, "time,name,y\n" + "".join(f"{time},a\x1eb,1\n" for time in HOURS) + "2024-01-02 00:00,\x1e\n")


def test_what_makes_the_library_panic_is_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(DataError, match="cannot be read as a table"):
        table(tmp_path, 'M\n\rx\n"')
    capfd.readouterr()  # what the library writes of its panic


# --- going on with a run ------------------------------------------------------------------------------------------------------


def test_a_checkpoint_that_is_no_state_of_its_run_is_refused(tmp_path: Path) -> None:
    """Each is signed as an honest one is: the checksum says nothing against it."""
    (tmp_path / "a.txt").write_text("hello world " * 60)
    sizes: dict[str, Any] = {"hidden": 4, "batch": 2, "unroll": 8, "steps": 4, "checkpoint_every": 2, "block": 2}
    run = train_text(tmp_path / "a.txt", run=tmp_path / "run", sample_every=0, **sizes)
    last, first = sorted((run.path / "checkpoints").iterdir(), reverse=True)
    last.unlink()
    arrays, metadata = read_arrays(first, kind="checkpoint")
    state = metadata["state"]

    def refused(arrays: dict[str, np.ndarray], position: dict[str, Any]) -> None:
        changed = {**state, "position": {**state["position"], **position}}
        write_arrays(first, arrays, {"iteration": 2, "state": changed}, kind="checkpoint")
        with pytest.raises(BundleError, match="is not a state of this run"):
            resume_text(run.path)

    for position in (
        {"iteration": "2"},
        {"iteration": True},
        {"elapsed": []},
        {"rate_scale": None},
        {"best": [1]},
        {"validations": [[1.0]]},
        {"validations": 3},
        {"validations": [["a", 1.0]]},
        {"smoothed": "x"},
        {"more": 1},
    ):
        refused(arrays, position)
    places = arrays["cursor.positions"]
    for changed in (-places - 5, places.astype(np.int32), places[:1]):
        refused({**arrays, "cursor.positions": changed}, {})
    refused({**arrays, "cursor.codes": np.zeros(5)}, {})
    write_arrays(first, arrays, {"iteration": 2, "state": state}, kind="checkpoint")
    assert len(resume_text(run.path).losses) == 4

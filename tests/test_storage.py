"""The container: what goes in comes out, and nothing else comes in."""

import hashlib
import importlib.util
import json
import math
import os
import re
import resource
import signal
import struct
import subprocess
import sys
import textwrap
import time
import tracemalloc
from pathlib import Path
from types import ModuleType
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from elman.errors import BundleError, RunError
from elman.training import storage
from elman.training.bundle import Bundle
from elman.training.storage import read_arrays, write_arrays, write_atomically

HOSTILE = Path(__file__).parent / "hostile"
HOSTILE_FILES = sorted(HOSTILE.glob("*.safetensors"))

DTYPES = [
    *(np.bool_, np.uint8, np.int8, np.uint16, np.int16, np.uint32, np.int32, np.uint64, np.int64),
    *(np.float16, ml_dtypes.bfloat16, np.float32, np.float64),
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "container.safetensors"


def load_maker() -> ModuleType:
    specification = importlib.util.spec_from_file_location("hostile_make", HOSTILE / "make.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def assert_same_arrays(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert list(found) == sorted(expected)
    for name, array in expected.items():
        assert found[name].dtype == array.dtype.newbyteorder("="), name
        assert found[name].shape == array.shape, name
        assert found[name].tobytes() == array.astype(found[name].dtype).tobytes(), name


# --- what goes in comes out


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: np.dtype(dtype).name)
@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (5,), (2, 3), (1,) * 8], ids=str)
def test_every_dtype_and_shape_comes_back(path: Path, dtype: Any, shape: tuple[int, ...]) -> None:
    random = np.random.default_rng(0)
    values = random.integers(0, 2, shape) if dtype is np.bool_ else random.normal(40.0, 10.0, shape)
    arrays = {"a": np.asarray(values).astype(dtype), "é/ü": np.asarray(values).astype(dtype)}
    write_arrays(path, arrays, {}, kind="bundle")
    found, metadata = read_arrays(path, kind="bundle")
    assert_same_arrays(found, arrays)
    assert metadata == {}


def test_layout_in_memory_does_not_matter(path: Path) -> None:
    base = np.arange(24.0).reshape(4, 6)
    arrays = {
        "transposed": base.T,
        "strided": base[::2, ::-3],
        "fortran": np.asfortranarray(base),
        "big_endian": base.astype(">f4"),
        "broadcast": np.broadcast_to(np.float32(2), (3, 2)),
        "read_only": np.frombuffer(bytes(8), np.float32),
    }
    write_arrays(path, arrays, {}, kind="bundle")
    found, _ = read_arrays(path, kind="bundle")
    assert_same_arrays(found, arrays)


def test_arrays_that_were_read_are_ordinary(path: Path) -> None:
    write_arrays(path, {"a": np.zeros(3, np.int8), "b": np.zeros((2, 2))}, {}, kind="bundle")
    found, _ = read_arrays(path, kind="bundle")
    for array in found.values():
        assert array.flags.writeable
        assert array.flags.owndata
        assert array.flags.aligned
        assert array.flags.c_contiguous


def test_special_floats_keep_their_bits(path: Path) -> None:
    patterns = np.array([0x7FF8000000000001, 0xFFF0000000000000, 0x8000000000000000, 1], np.uint64)
    write_arrays(path, {"a": patterns.view(np.float64)}, {}, kind="bundle")
    found, _ = read_arrays(path, kind="bundle")
    assert found["a"].view(np.uint64).tolist() == patterns.tolist()


def test_metadata_comes_back_exactly(path: Path) -> None:
    metadata = {
        "floats": [0.1, 1e-323, 1.7976931348623157e308, -0.0, math.pi, float(np.float32(0.1))],
        "text": 'فارسی e\u0301 👩‍👩‍👧 \x00 " \\ \u2028',
        "nested": {"": [None, True, False, [], {}]},
        "large": 2**127 + 1,
    }
    write_arrays(path, {}, metadata, kind="bundle")
    _, found = read_arrays(path, kind="bundle")
    assert found == metadata
    assert math.copysign(1, found["floats"][3]) == -1


def test_numpy_numbers_tuples_and_floats_that_are_not_finite_in_metadata(path: Path) -> None:
    metadata = {"a": (1, np.int64(2)), "b": np.float32(0.1), "c": np.bool_(True), "d": [math.inf, -math.inf, math.nan]}
    write_arrays(path, {}, metadata, kind="bundle")
    _, found = read_arrays(path, kind="bundle")
    assert found["a"] == [1, 2]
    assert found["b"] == float(np.float32(0.1))
    assert found["c"] is True
    assert found["d"][:2] == [math.inf, -math.inf]
    assert math.isnan(found["d"][2])


def test_saving_changes_nothing_of_the_caller(path: Path) -> None:
    array = np.arange(6.0).reshape(2, 3).T
    arrays = {"b": array, "a": np.zeros(2, ">i4")}
    metadata = {"list": [1, (2, math.nan)], "nested": {"k": np.float32(1)}}
    before = (list(arrays), [id(value) for value in arrays.values()], array.tobytes(), array.strides, repr(metadata))
    write_arrays(path, arrays, metadata, kind="bundle")
    after = (list(arrays), [id(value) for value in arrays.values()], array.tobytes(), array.strides, repr(metadata))
    assert after == before
    assert arrays["a"].dtype == np.dtype(">i4")


def test_same_content_gives_same_bytes(tmp_path: Path) -> None:
    first, second = {"a": np.ones(3), "b": np.zeros(2, np.int8)}, {"b": np.zeros(2, np.int8), "a": np.ones(3)}
    write_arrays(tmp_path / "1", first, {"x": 1}, kind="bundle")
    write_arrays(tmp_path / "2", second, {"x": 1}, kind="bundle")
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()


def test_the_bytes_themselves(path: Path) -> None:
    """Literally what `docs/format.md` says: a change of the format cannot pass unnoticed."""
    write_arrays(path, {"w": np.array([1.0, -2.0], np.float32), "n": np.array(7, np.uint8)}, {"k": "v"}, kind="bundle")
    text = b'{"format":1,"kind":"bundle","metadata":{"k":"v"}}'
    parts = [text, b"n", b"U8", b"", b"\x07", b"w", b"F32", struct.pack("<Q", 2), struct.pack("<2f", 1, -2)]
    digest = hashlib.sha256(b"".join(struct.pack("<Q", len(part)) + part for part in parts)).hexdigest()
    header = (
        b'{"__metadata__":{"elman":"' + text.replace(b'"', b'\\"') + b'","sha256":"' + digest.encode() + b'"},'
        b'"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"n":{"dtype":"U8","shape":[],"data_offsets":[8,9]}}'
    )
    header += b" " * (-len(header) % 8)
    assert path.read_bytes() == struct.pack("<Q", len(header)) + header + struct.pack("<2f", 1, -2) + b"\x07"


def test_safetensors_reads_our_files_and_we_read_its(path: Path, tmp_path: Path) -> None:
    arrays = {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "n": np.array(7), "e": np.zeros((0, 2), np.int16)}
    write_arrays(path, arrays, {"k": "v"}, kind="bundle")
    theirs = safetensors.numpy.load_file(path)
    assert_same_arrays(dict(sorted(theirs.items())), arrays)
    raw = path.read_bytes()
    strings = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])["__metadata__"]
    again = tmp_path / "again.safetensors"
    safetensors.numpy.save_file(arrays, again, metadata=strings)
    found, metadata = read_arrays(again, kind="bundle")
    assert_same_arrays(found, arrays)
    assert metadata == {"k": "v"}


@pytest.mark.parametrize(
    ("arrays", "metadata", "error", "words"),
    [
        ({"__metadata__": np.zeros(1)}, {}, ValueError, "cannot be named '__metadata__'"),
        ({"a": np.zeros(1, complex)}, {}, TypeError, "'a' is of dtype complex128"),
        ({"a": np.array(["text"])}, {}, TypeError, "'a' is of dtype <U4"),
        ({"a": np.zeros((1,) * 9)}, {}, ValueError, "at most 8"),
        ({}, {"a": {"b": object()}}, TypeError, r"metadata\['a'\]\['b'\] is a object"),
        ({}, {"a": np.zeros(2)}, TypeError, "arrays belong among the arrays"),
        ({}, {"a": {1: 2}}, TypeError, r"metadata\['a'\] has the key 1"),
        ({}, {"a": {"__float__": 2}}, TypeError, "__float__"),
        ({}, {"a": "\ud800"}, ValueError, "surrogate"),
        ({}, {"a": [0] * 600_000}, ValueError, "large things are arrays"),
    ],
)
def test_what_could_not_be_read_again_is_not_written(
    path: Path, arrays: Any, metadata: Any, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        write_arrays(path, arrays, metadata, kind="bundle")
    assert list(path.parent.iterdir()) == []


def test_metadata_that_holds_itself_is_refused(path: Path) -> None:
    loop: dict[str, Any] = {}
    loop["again"] = loop
    with pytest.raises(ValueError, match="too deep"):
        write_arrays(path, {}, loop, kind="bundle")


# --- nothing else comes in


def test_hostile_folder_is_what_its_maker_makes() -> None:
    expected = {f"{name}.safetensors": data for name, data in load_maker().files().items()}
    assert {file.name: file.read_bytes() for file in HOSTILE_FILES} == expected
    assert sum(map(len, expected.values())) < 100 * 1024


def test_hostile_readme_lists_every_attack() -> None:
    listed: set[int] = set()
    for line in (HOSTILE / "README.md").read_text().splitlines():
        if numbers := re.match(r"[0-9, -]+\. ", line):
            for first, last in re.findall(r"(\d+)(?:-(\d+))?", numbers[0]):
                listed.update(range(int(first), int(last or first) + 1))
    assert listed == {int(file.name[:2]) for file in HOSTILE_FILES}


@pytest.mark.parametrize("file", HOSTILE_FILES, ids=lambda file: file.stem)
def test_hostile_file_is_refused_quickly_and_cheaply(file: Path) -> None:
    start = time.perf_counter()
    tracemalloc.start()
    try:
        with pytest.raises(BundleError) as caught:
            Bundle.load(file)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    message = str(caught.value)
    assert str(file) in message
    assert message.isprintable(), "an error is shown on a terminal"
    assert len(message) < 700 + len(str(file))
    assert peak < 4 * 2**20
    assert time.perf_counter() - start < 2


def test_what_hostile_files_are_made_from_is_itself_fine(path: Path) -> None:
    """Without this, all of them could be refused for one and the same wrong reason."""
    path.write_bytes(load_maker().container())
    bundle = Bundle.load(path)
    assert bundle.arrays["w"].tolist() == [1.0, 2.0]
    assert bundle.codec == {"symbols": "ab"}


REASONS = {
    "03": "a header of at most 10 bytes, found 9223372036854775808",
    "12": "a header in UTF-8",
    "15": "or cut off",
    "16": "is cut off",
    "20": "at most 32 levels deep",
    "21": "at most 32 levels deep",
    "22": "at most 32 levels deep",
    "23": "found 'w' twice",
    "25": "found NaN",
    "27": "found '1e999'",
    "28": "thousands of digits",
    "32": "half a surrogate pair",
    "40": "dtype 'F128': expected one of BOOL",
    "44": "integers of at least 0",
    "49": "needs 18446744073709551624 bytes, found 8",
    "51": "fits 64 bits",
    "54": "within the 8 bytes of data found",
    "61": "overlaps another",
    "63": "leaves a hole",
    "69": "0 or 1 in a boolean",
    "70": "is a safetensors file, but not one of elman's",
    "71": "is a safetensors file, but not one of elman's",
    "76": "was written by a newer elman (format 7, this one reads up to 1); upgrade elman",
    "77": "was written by a newer elman (format 7, this one reads up to 1); upgrade elman",
    "82": "is a checkpoint, not a bundle",
    "86": "the checksum does not match",
    "93": "did you mean 'hidden'",
    "94": "hidden = -2 is out of range",
}


@pytest.mark.parametrize("number", REASONS)
def test_hostile_file_is_refused_for_its_own_reason(number: str) -> None:
    (file,) = HOSTILE.glob(f"{number}-*.safetensors")
    with pytest.raises(BundleError, match=re.escape(REASONS[number])):
        Bundle.load(file)


def fill(unit: str, size: int) -> str:
    return unit * (size // len(unit))


LARGEST = storage.MAX_HEADER_BYTES - 64
BOMBS = {
    "lists": '{"a":[' + fill("[],", LARGEST) + "1]}",
    "endless string of escapes": '{"' + fill('\\"', LARGEST),
    "many objects": '{"a":[' + fill('{"":0},', 200_000) + "1]}",
    "many keys": "{" + ",".join(f'"{number}":0' for number in range(storage.MAX_TOKENS // 8)) + "}",
    "one key, very often": "{" + fill('"a":0,', 300_000) + '"a":0}',
    "one astral character": '{"a":"' + fill("x", LARGEST) + '\U0001f600"}',
    "long integers": '{"a":[' + fill("9" * 4300 + ",", LARGEST // 4) + "1]}",
}


@pytest.mark.parametrize("name", BOMBS)
def test_largest_headers_stay_bounded_in_time_and_memory(path: Path, name: str) -> None:
    header = BOMBS[name].encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    start = time.perf_counter()
    tracemalloc.start()
    try:
        with pytest.raises(BundleError):
            read_arrays(path, kind="bundle")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 32 * 2**20 + 12 * len(header)
    assert time.perf_counter() - start < 20, "linear in the header: a second when the machine is idle"


def test_header_beyond_the_limit_is_refused_unread(path: Path) -> None:
    with path.open("wb") as file:
        file.write(struct.pack("<Q", storage.MAX_HEADER_BYTES + 1))
        file.truncate(2**34)  # a sparse file: its size is only a number
    with pytest.raises(BundleError, match="at most 16777216 bytes, found 16777217"):
        read_arrays(path, kind="bundle")


def test_truncation_at_every_length_is_refused(path: Path) -> None:
    write_arrays(path, {"w": np.ones(3), "e": np.zeros(0), "b": np.array([True])}, {"k": "v"}, kind="bundle")
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(BundleError):
            read_arrays(path, kind="bundle")


def test_random_bytes_are_refused(path: Path) -> None:
    random = np.random.default_rng(0)
    for _ in range(150):
        body = random.bytes(int(random.integers(0, 200)))
        path.write_bytes(struct.pack("<Q", len(body)) + body if random.random() < 0.5 else body)
        with pytest.raises(BundleError):
            read_arrays(path, kind="bundle")


def test_kinds_are_told_apart_with_a_way_out(path: Path) -> None:
    write_arrays(path, {}, {}, kind="checkpoint")
    with pytest.raises(
        BundleError, match=r"is a checkpoint, not a bundle; a run keeps its bundle .* best\.safetensors"
    ):
        read_arrays(path, kind="bundle")
    write_arrays(path, {}, {}, kind="bundle")
    with pytest.raises(BundleError, match=r"is a bundle, not a checkpoint; a run keeps .* folder checkpoints"):
        read_arrays(path, kind="checkpoint")


def test_a_pipe_is_refused_without_waiting_for_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(BundleError, match="is a pipe or a device"):
        read_arrays(tmp_path / "pipe", kind="bundle")


@pytest.mark.parametrize("name", ["missing", "zero\0byte", "n" * 300, "missing/file", "/dev/null", "."])
def test_paths_that_are_no_files_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(BundleError):
        read_arrays(tmp_path / name, kind="bundle")


def test_more_than_memory_is_an_error_of_the_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_arrays(path, {"w": np.ones(3)}, {}, kind="bundle")

    def refuse(*arguments: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr(storage.np, "empty", refuse)
    with pytest.raises(BundleError, match="larger than the memory at hand"):
        read_arrays(path, kind="bundle")


# --- writing


def test_writing_replaces_and_leaves_nothing_else(tmp_path: Path) -> None:
    for data in (b"old", b"new", b""):
        write_atomically(tmp_path / "file", data)
        assert (tmp_path / "file").read_bytes() == data
        assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_written_files_have_ordinary_permissions(tmp_path: Path) -> None:
    write_atomically(tmp_path / "file", b"")
    (tmp_path / "other").write_bytes(b"")
    assert (tmp_path / "file").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_a_name_of_the_longest_length_can_be_written(tmp_path: Path) -> None:
    write_atomically(tmp_path / ("n" * 255), b"data")
    assert (tmp_path / ("n" * 255)).read_bytes() == b"data"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("missing/file", "No such file .* Check that its folder exists"),
        ("folder", "Is a directory"),
        ("n" * 300, "too long"),
    ],
)
def test_writing_where_one_cannot_names_path_reason_and_remedy(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(RunError, match=words) as caught:
        write_atomically(tmp_path / name, b"data")
    assert str(tmp_path / name) in str(caught.value)
    assert [entry.name for entry in tmp_path.iterdir()] == ["folder"]


def run_python(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_a_full_disk_leaves_the_old_file_and_says_so(tmp_path: Path) -> None:
    """The limit on the size of a file is the kernel's own refusal, in the middle of writing, as on a full disk."""
    path = tmp_path / "file"
    path.write_bytes(b"old")
    finished = run_python(
        """
        import resource, sys
        from pathlib import Path
        from elman.errors import RunError
        from elman.training.storage import write_atomically
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
        try:
            write_atomically(Path(sys.argv[1]), bytes(100_000))
        except RunError as error:
            print(error)
        """,
        path,
    )
    assert finished.stdout.startswith(f"{path} cannot be written: File too large. Free some space"), finished.stderr
    assert "the last good file is kept" in finished.stdout
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY, "the limit was the child's alone"


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_kill_before_the_rename_leaves_the_old_file(tmp_path: Path, call: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    finished = run_python(
        """
        import os, signal, sys
        from pathlib import Path
        from elman.training.storage import write_atomically
        setattr(os, sys.argv[2], lambda *arguments: os.kill(os.getpid(), signal.SIGKILL))
        write_atomically(Path(sys.argv[1]), b"new")
        """,
        path,
        call,
    )
    assert finished.returncode == -signal.SIGKILL, finished.stderr
    assert path.read_bytes() == b"old"
    (leftover,) = (entry.name for entry in tmp_path.iterdir() if entry != path)
    assert leftover.startswith(storage.TEMPORARY_PREFIX)
    assert leftover.endswith(storage.TEMPORARY_SUFFIX)


def test_an_interruption_is_passed_on_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "file", b"data")
    assert list(tmp_path.iterdir()) == []


def test_storage_loads_no_jax() -> None:
    finished = run_python(
        "import sys, elman.training.bundle, elman.training.checkpoint; print(sorted({'jax', 'jaxlib'} & set(sys.modules)))"
    )
    assert finished.stdout.strip() == "[]", finished.stderr

"""The one checked container that bundles and checkpoints are kept in, and writing that cannot leave half a file behind.

A container is a safetensors file: named arrays, and in its `__metadata__` two strings, `elman` (JSON: format, kind, metadata) and
`sha256` (over all of it). `docs/format.md` is the specification. Nothing in a file is believed: everything is checked with Python's
unbounded integers before memory is taken, and whatever is wrong is a `BundleError`, never another exception. No code is loaded.

The header is read and written here and not by the safetensors library, because the library neither bounds the depth of the JSON,
nor refuses doubled keys, nor promises the same bytes for the same content; its files and ours are read by each other (tested).

    >>> import tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> path = Path(folder.name, "weights.safetensors")
    >>> write_arrays(path, {"w": np.eye(2)}, {"note": "identity", "best": math.inf}, kind="bundle")
    >>> arrays, metadata = read_arrays(path, kind="bundle")
    >>> arrays["w"].tolist(), metadata
    ([[1.0, 0.0], [0.0, 1.0]], {'note': 'identity', 'best': inf})
    >>> folder.cleanup()
"""

import contextlib
import errno
import hashlib
import json
import math
import os
import re
import secrets
import stat
import struct
import sys
from collections.abc import Iterable, Iterator, Mapping
from io import BufferedReader
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from elman.errors import BundleError, RunError

FORMAT = 1

# What a reader accepts at most. An honest file is far below each of these; a hostile one cannot make the reader work or allocate
# much beyond the file's own size.
MAX_HEADER_BYTES = 16 * 2**20
MAX_DEPTH = 32
MAX_TOKENS = 2**19  # strings, brackets and commas of one JSON text: a vocabulary of all of Unicode's letters fits
MAX_RANK = 8

# Temporary files begin and end like this, so that whoever owns a folder can tell them from everything else.
TEMPORARY_PREFIX, TEMPORARY_SUFFIX = ".elman-", ".tmp"

# A number that is not finite has no JSON: it is written as an object with this one key and one of these three names.
_FLOAT_KEY = "__float__"
_NOT_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}

_DTYPES: dict[str, np.dtype] = {
    "BOOL": np.dtype(np.bool_),
    "U8": np.dtype("u1"),
    "I8": np.dtype("i1"),
    "U16": np.dtype("<u2"),
    "I16": np.dtype("<i2"),
    "U32": np.dtype("<u4"),
    "I32": np.dtype("<i4"),
    "U64": np.dtype("<u8"),
    "I64": np.dtype("<i8"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F32": np.dtype("<f4"),
    "F64": np.dtype("<f8"),
}
_CODES = {dtype.newbyteorder("="): code for code, dtype in _DTYPES.items()}

_WHERE = {
    "bundle": "a run keeps its bundle in its folder as best.safetensors",
    "checkpoint": "a run keeps its checkpoints in its folder checkpoints",
}
_DAMAGED = "restore it from a copy, or write it again"


def is_temporary(name: str) -> bool:
    """Whether a file of this name is one that `write_atomically` had not finished."""
    return name.startswith(TEMPORARY_PREFIX) and name.endswith(TEMPORARY_SUFFIX)


def write_atomically(path: Path, data: bytes) -> None:
    """Put `data` at `path` so that, whatever happens, either the old file is there whole or the new one is.

    Raises: `RunError` where the system refuses (full disk, no permission, no such folder); the old file is then untouched.
    """
    path = Path(path)
    temporary = path.parent / f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}{TEMPORARY_SUFFIX}"
    try:
        # Not `tempfile`: its files can be read by their owner only, and a bundle is meant to be passed on.
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        if not isinstance(error, OSError):
            raise
        reason = error.strerror or str(error)
        raise RunError(
            f"{path} cannot be written: {reason}. {_write_remedy(error)}; the last good file is kept"
        ) from error
    _sync_folder(path.parent)


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, Any], *, kind: str) -> None:
    """Write a container atomically. The same content gives the same bytes; nothing of the caller's is changed.

    `metadata` is what JSON can say, with text as keys: tuples come back as lists, NumPy's numbers as Python's. Floats come back
    exactly, NaN and the infinities too.

    Raises: `RunError` as `write_atomically`; `TypeError` and `ValueError` for what the format cannot hold.
    """
    tensors = {name: np.asarray(array) for name, array in arrays.items()}
    text = _dump({"format": FORMAT, "kind": kind, "metadata": _to_json(metadata, "metadata")})
    digest = _Digest(text)
    entries: dict[str, Any] = {}
    contents: dict[str, bytes] = {}
    for name in sorted(tensors):
        code = _code_of(name, tensors[name])
        contents[name] = tensors[name].astype(_DTYPES[code], copy=False).tobytes()
        entries[name] = {"dtype": code, "shape": list(tensors[name].shape)}
        digest.add(name, code, tensors[name].shape, contents[name])
    header: dict[str, Any] = {"__metadata__": {"elman": text, "sha256": digest.hexadecimal()}}
    # The widest elements first, so that each array starts at a multiple of its element's size, which mapped readers like.
    order = sorted(tensors, key=lambda name: (-tensors[name].dtype.itemsize, name))
    position = 0
    for name in order:
        header[name] = {**entries[name], "data_offsets": [position, position + len(contents[name])]}
        position += len(contents[name])
    raw = _dump(header).encode()
    raw += b" " * (-len(raw) % 8)
    try:
        # What would be refused on reading must not be written.
        _check_table(_parse_header(raw), position)
        _parse(text)
    except _Flaw as flaw:
        raise ValueError(f"{path} is not written, because it could not be read again: {flaw}") from None
    write_atomically(path, b"".join([struct.pack("<Q", len(raw)), raw, *(contents[name] for name in order)]))


def read_arrays(path: Path, *, kind: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read a container: its arrays (ordinary writable ones, in the order of their names) and its metadata.

    Raises: `BundleError`, and nothing else, whatever the file holds.
    """
    try:
        with _open_regular(Path(path)) as (file, size):
            header = _parse_header(_read_header(file, size))
            text, checksum, metadata = _check_metadata(header, kind)
            start = file.tell()
            table = _check_table(header, size - start)
            arrays = _read_data(file, start, table, text, checksum)
    except _Flaw as flaw:
        raise BundleError(f"{path} {flaw}; {flaw.remedy}") from None
    except FileNotFoundError:
        raise BundleError(f"{path} does not exist: expected a {kind}; check the name") from None
    except OSError as error:
        raise BundleError(
            f"{path} cannot be read: {error.strerror or error}; check its name and permissions"
        ) from error
    except MemoryError:
        raise BundleError(f"{path} is larger than the memory at hand: expected a {kind} that fits; free some") from None
    return arrays, metadata


class _Flaw(Exception):
    """What is wrong with a file, worded to follow its path; `read_arrays` adds the path."""

    def __init__(self, text: str, remedy: str = _DAMAGED) -> None:
        super().__init__(text)
        self.remedy = remedy


class _Tensor(NamedTuple):
    name: str
    code: str
    shape: tuple[int, ...]
    begin: int
    end: int


class _Digest:
    """The checksum of a container. Every part is preceded by its length, so that no two contents hash the same bytes."""

    def __init__(self, text: str) -> None:
        self._hash = hashlib.sha256()
        self._add_part(text.encode())

    def add(self, name: str, code: str, shape: tuple[int, ...], data: bytes | memoryview) -> None:
        self._add_part(name.encode())
        self._add_part(code.encode())
        self._add_part(struct.pack(f"<{len(shape)}Q", *shape))
        self._add_part(data)

    def hexadecimal(self) -> str:
        return self._hash.hexdigest()

    def _add_part(self, part: bytes | memoryview) -> None:
        self._hash.update(struct.pack("<Q", len(part)))
        self._hash.update(part)


@contextlib.contextmanager
def _open_regular(path: Path) -> Iterator[tuple[BufferedReader, int]]:
    # Before opening: to open a pipe waits for its other end, to open a device may do anything.
    try:
        status = path.stat()
    except ValueError as error:  # a zero byte
        raise _Flaw(f"cannot be a file's name: {error}", "check it") from None
    if not stat.S_ISREG(status.st_mode):
        what = "a folder" if stat.S_ISDIR(status.st_mode) else "a pipe or a device"
        raise _Flaw(f"is {what}: expected a file", "give the path of a saved file")
    with path.open("rb") as file:
        yield file, os.fstat(file.fileno()).st_size


def _read_header(file: BufferedReader, size: int) -> bytes:
    """Return the header; the data begins where the file then stands."""
    if size < 10:
        raise _Flaw(f"is no safetensors file: expected at least 10 bytes, found {size}")
    length = int.from_bytes(_read_exactly(file, 8), "little")
    allowed = min(MAX_HEADER_BYTES, size - 8)
    if length > allowed:
        raise _Flaw(f"is no safetensors file, or cut off: expected a header of at most {allowed} bytes, found {length}")
    return _read_exactly(file, length)


def _read_exactly(file: BufferedReader, length: int) -> bytes:
    data = file.read(length)
    if len(data) != length:
        raise _Flaw(f"ends early: expected {length} bytes, found {len(data)}")
    return data


def _parse_header(raw: bytes) -> dict[str, Any]:
    if not raw.startswith(b"{"):
        raise _Flaw(f"is no safetensors file: expected a header that begins with '{{', found {_show(raw[:8])}")
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise _Flaw(f"is damaged: expected a header in UTF-8, found otherwise at its byte {error.start}") from None
    header = _parse(text.rstrip(" "))
    if not isinstance(header, dict):  # the first byte says so already; a float in disguise is the exception
        raise _Flaw("is damaged: expected an object as the header, found a number")
    return header


# One token per string, whole or unterminated, and one per mark of structure. All repetitions are possessive: without that an
# unterminated string of escapes takes time that grows with its square.
_TOKENS = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)|[\[\]{},]', re.DOTALL)
_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")


def _parse(text: str) -> Any:
    """Read JSON of bounded depth and size, with no doubled keys, no NaN and no lone surrogates."""
    depth = 0
    for number, token in enumerate(_TOKENS.finditer(text)):
        mark = text[token.start()]
        if mark in "[{":
            depth += 1
        elif mark in "]}":
            depth -= 1
        if depth > MAX_DEPTH:
            raise _Flaw(f"is refused: expected JSON at most {MAX_DEPTH} levels deep, found more")
        if number >= MAX_TOKENS:
            raise _Flaw(
                f"is refused: expected JSON of at most {MAX_TOKENS} tokens, found more; large things are arrays"
            )
    try:
        value = json.loads(
            text, object_pairs_hook=_to_object, parse_constant=_refuse_constant, parse_float=_to_finite_float
        )
        if _SURROGATE_ESCAPE.search(text):
            _dump(value, allow_nan=True).encode()
    except json.JSONDecodeError as error:
        raise _Flaw(f"is damaged: expected JSON, found an error at character {error.pos}: {error.msg}") from None
    except UnicodeEncodeError:
        raise _Flaw("is damaged: expected text, found half a surrogate pair") from None
    except ValueError:  # Python's own limit on the digits of an integer
        raise _Flaw("is refused: expected integers of ordinary size, found one of thousands of digits") from None
    return value


def _to_object(pairs: list[tuple[str, Any]]) -> Any:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        doubled = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise _Flaw(f"is refused: expected each key once, found {_show(doubled)} twice")
    if _FLOAT_KEY not in result:
        return result
    name = result[_FLOAT_KEY]
    if len(result) != 1 or not isinstance(name, str) or name not in _NOT_FINITE:
        raise _Flaw(
            f"is damaged: expected {_FLOAT_KEY}, alone, to be one of {', '.join(_NOT_FINITE)}, found {_show(result)}"
        )
    return _NOT_FINITE[name]


def _refuse_constant(name: str) -> Any:
    raise _Flaw(f"is refused: expected JSON, found {name}, which JSON does not know")


def _to_finite_float(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise _Flaw(f"is refused: expected numbers that fit 64 bits, found {_show(digits)}")
    return value


def _check_metadata(header: Mapping[str, Any], kind: str) -> tuple[str, str, dict[str, Any]]:
    """Return the text that was hashed, the checksum that was written, and the metadata."""
    strings = header.get("__metadata__", {})
    if not isinstance(strings, dict) or not all(isinstance(value, str) for value in strings.values()):
        raise _Flaw(f"is damaged: expected __metadata__ to hold text only, found {_show(strings)}")
    if "elman" not in strings:
        raise _Flaw(
            "is a safetensors file, but not one of elman's: expected 'elman' in its metadata", "give another file"
        )
    text = strings["elman"]
    content = _parse(text)
    if not isinstance(content, dict) or "format" not in content:
        raise _Flaw(f"is damaged: expected an object with 'format' in its metadata, found {_show(content)}")
    version = content["format"]
    if type(version) is not int or version < 1:
        raise _Flaw(f"is damaged: expected a format of 1 or more, found {_show(version)}")
    if version > FORMAT:
        found = f"format {_show(version)}, this one reads up to {FORMAT}"
        raise _Flaw(f"was written by a newer elman ({found})", "upgrade elman")
    if content.keys() != {"format", "kind", "metadata"}:
        raise _Flaw(f"is damaged: expected format, kind and metadata, found {_show(sorted(content))}")
    if not isinstance(content["metadata"], dict):
        raise _Flaw(f"is damaged: expected an object as metadata, found {_show(content['metadata'])}")
    if content["kind"] != kind:
        found = content["kind"] if content["kind"] in (*_WHERE,) else _show(content["kind"])
        raise _Flaw(f"is a {found}, not a {kind}", _WHERE.get(kind, f"give a {kind}"))
    if "sha256" not in strings:
        raise _Flaw("is damaged: expected a checksum 'sha256' in its metadata, found none")
    return text, strings["sha256"], content["metadata"]


def _check_table(header: Mapping[str, Any], data_size: int) -> list[_Tensor]:
    """Return the tensors in the order of their names, having checked that together they are the data, once each."""
    table = sorted(_check_tensor(name, entry) for name, entry in header.items() if name != "__metadata__")
    position = 0
    for tensor in sorted(table, key=lambda tensor: (tensor.begin, tensor.end)):
        if tensor.begin != position:
            what = "overlaps another" if tensor.begin < position else "leaves a hole before it"
            raise _Flaw(
                f"is damaged: tensor {_show(tensor.name)} {what}: expected it to begin at byte {position}, "
                f"found {_show(tensor.begin)}"
            )
        position = tensor.end
        if position > data_size:
            raise _Flaw(
                f"is cut off or damaged: tensor {_show(tensor.name)} ends at byte {_show(position)}, "
                f"expected within the {data_size} bytes of data found"
            )
    if position != data_size:
        raise _Flaw(f"is damaged: expected {position} bytes of data, found {data_size}")
    return table


def _check_tensor(name: str, entry: Any) -> _Tensor:
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise _Flaw(f"is damaged: expected dtype, shape and data_offsets of tensor {_show(name)}, found {_show(entry)}")
    code, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(code, str) or code not in _DTYPES:
        raise _Flaw(f"has a tensor {_show(name)} of dtype {_show(code)}: expected one of {', '.join(_DTYPES)}")
    if not _are_sizes(shape) or len(shape) > MAX_RANK:
        raise _Flaw(
            f"is damaged: tensor {_show(name)} has shape {_show(shape)}: expected at most {MAX_RANK} integers of at least 0"
        )
    if not _are_sizes(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise _Flaw(f"is damaged: tensor {_show(name)} has data_offsets {_show(offsets)}: expected begin <= end")
    item_size = _DTYPES[code].itemsize
    expected, found = math.prod(shape) * item_size, offsets[1] - offsets[0]
    if expected != found:
        raise _Flaw(
            f"is damaged: tensor {_show(name)} of shape {_show(shape)} needs {_show(expected)} bytes, found {_show(found)}"
        )
    # NumPy multiplies the dimensions of an empty array as well, and refuses it where that overflows.
    if math.prod(max(size, 1) for size in shape) * item_size > sys.maxsize:
        raise _Flaw(f"is damaged: tensor {_show(name)} has shape {_show(shape)}: expected one that fits 64 bits")
    return _Tensor(name, code, tuple(shape), offsets[0], offsets[1])


def _are_sizes(value: Any) -> bool:
    return isinstance(value, list) and all(type(size) is int and size >= 0 for size in value)


def _read_data(
    file: BufferedReader, start: int, table: Iterable[_Tensor], text: str, checksum: str
) -> dict[str, np.ndarray]:
    digest = _Digest(text)
    arrays: dict[str, np.ndarray] = {}
    for tensor in table:
        array = np.empty(tensor.shape, _DTYPES[tensor.code])
        data = array.reshape(-1).view(np.uint8)
        file.seek(start + tensor.begin)
        found = file.readinto(data.data) if data.size else 0
        if found != data.size:
            raise _Flaw(f"ends early: expected {data.size} bytes of tensor {_show(tensor.name)}, found {found}")
        digest.add(tensor.name, tensor.code, tensor.shape, data.data)
        # Any other byte would be neither true nor false, and NumPy would not notice.
        if tensor.code == "BOOL" and data.size and int(data.max()) > 1:
            raise _Flaw(f"is damaged: tensor {_show(tensor.name)} holds {data.max()}: expected 0 or 1 in a boolean")
        arrays[tensor.name] = array
    if digest.hexadecimal() != checksum:
        raise _Flaw(
            f"is damaged: the checksum does not match: expected {_show(checksum)}, found {digest.hexadecimal()}"
        )
    return arrays


def _code_of(name: Any, array: np.ndarray) -> str:
    if not isinstance(name, str) or name == "__metadata__":
        raise ValueError(f"an array cannot be named {name!r}: expected text other than '__metadata__'")
    _check_text(name, "the name of an array")
    code = _CODES.get(array.dtype.newbyteorder("="))
    if code is None:
        raise TypeError(f"array {name!r} is of dtype {array.dtype}: expected one of {', '.join(map(str, _CODES))}")
    return code


def _to_json(value: Any, place: str, depth: int = 2) -> Any:
    """Return a copy of `value` in what JSON knows; `place` says in an error where in the metadata it stands."""
    if depth > MAX_DEPTH:
        raise ValueError(f"{place} is too deep: expected at most {MAX_DEPTH} levels")
    if isinstance(value, np.generic) and not isinstance(value, np.void):
        value = value.item()
    if isinstance(value, str):
        return _check_text(value, place)
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        if math.isfinite(value):
            return value
        return {_FLOAT_KEY: "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"}
    if isinstance(value, (list, tuple)):
        return [_to_json(item, f"{place}[{position}]", depth + 1) for position, item in enumerate(value)]
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str) or key == _FLOAT_KEY:
                raise TypeError(f"{place} has the key {key!r}: expected text other than {_FLOAT_KEY!r}")
            _check_text(key, f"a key of {place}")
        return {key: _to_json(item, f"{place}[{key!r}]", depth + 1) for key, item in value.items()}
    raise TypeError(f"{place} is a {type(value).__name__}: expected what JSON knows; arrays belong among the arrays")


def _check_text(text: str, place: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{place} = {text!a} holds half a surrogate pair: expected text that UTF-8 can say") from None
    return text


def _dump(value: Any, *, allow_nan: bool = False) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=allow_nan, separators=(",", ":"))


def _show(value: Any) -> str:
    """Name a found value in an error: printable ASCII whatever it holds, and short."""
    try:
        text = ascii(value)
    except ValueError:  # an integer too long for Python to print
        return "a number of thousands of digits"
    return text if len(text) <= 80 else text[:77] + "..."


def _write_remedy(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return "Free some space and try again"
    if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.EISDIR):
        return "Check that its folder exists and that no folder has its name"
    return "Give a folder in which you may write"


def _sync_folder(folder: Path) -> None:
    """Make the new name itself survive a power cut, where the system lets a folder be synced (Windows does not)."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

"""Damage for `fuzzing.py` and `tests/test_fuzzing.py`: bytes in, other bytes out; every choice is drawn from a `random.Random`.

`mutate_bytes` knows nothing of a format; the others open a file in one, change what is inside, and close it so that the outermost
check (a length, a checksum, a table of contents) holds again: without that no change would get past it.
"""

import copy
import hashlib
import io
import json
import random
import struct
import zipfile
from collections.abc import Callable
from typing import Any

Mutation = Callable[[random.Random, bytes], bytes]

LARGEST = 1 << 17
"""Bytes that an input may grow to."""

_INTEGERS = (
    0,
    1,
    -1,
    2,
    7,
    127,
    128,
    255,
    256,
    32767,
    65535,
    65536,
    2**31 - 1,
    2**31,
    2**32,
    2**40,
    2**53,
    2**62,
    2**63,
    2**64,
)
_ODD: tuple[Any, ...] = (
    *_INTEGERS,
    10**400,
    -(2**63),
    0.0,
    -0.0,
    0.5,
    1e308,
    1e-320,
    -1.5,
    True,
    False,
    None,
    "",
    "y",
    "0",
    "9" * 400,
    "two\nlines\r\x1b[31m",
    "\ud83d\ude00",
    "../../etc/passwd",
    "F64",
    "1h",
    "NaN",
    "a" * 3000,
    [],
    {},
    [[]],
    [0, 0],
    [2**40, 2**40],
    [1, 2**62],
    {"": None},
    {"__float__": "nan"},
    {"__float__": "inf"},
)
_WORDS = (
    b"\x00",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b"\n",
    b"\r\n",
    b"\r",
    b'"',
    b"'",
    b"\\",
    b"NaN",
    b"-",
    b"1e999",
    b"\xc3",
    b"\xed\xa0\x80",
)


def mutate_bytes(random: random.Random, data: bytes) -> bytes:
    """One to four changes: bits flipped, numbers set, pieces cut out, doubled, moved or filled, short words put in."""
    result = bytearray(data)
    for _ in range(random.choice((1, 1, 2, 4))):
        _change_bytes(random, result)
    return bytes(result[:LARGEST])


def _change_bytes(random: random.Random, data: bytearray) -> None:
    begin = random.randint(0, len(data))
    end = min(len(data), begin + random.choice((1, 2, 4, 8, 40, 400)))
    match random.randint(0, 8):
        case 0 if begin < len(data):
            data[begin] ^= 1 << random.randint(0, 7)
        case 1 if begin < len(data):
            data[begin] = random.choice((0, 1, 9, 10, 13, 32, 34, 44, 48, 58, 91, 123, 127, 128, 255))
        case 2:
            del data[begin:end]
        case 3:
            del data[begin:]
        case 4:
            data[begin:begin] = data[begin:end] * random.choice((1, 2, 30))
        case 5:
            data[begin:end] = bytes([random.choice((0, 32, 255))]) * (end - begin)
        case 6:
            size, order = random.choice((1, 2, 4, 8)), random.choice(("little", "big"))
            number = random.choice(_INTEGERS) % 256**size
            data[begin : begin + size] = number.to_bytes(size, order)  # type: ignore[arg-type]
        case 7:
            data[begin:begin] = bytes(random.randint(0, 255) for _ in range(random.choice((1, 2, 8))))
        case _:
            data[begin:begin] = random.choice(_WORDS)


def spliced(random: random.Random, data: bytes, other: bytes) -> bytes:
    """The beginning of one input, the end of another."""
    return (data[: random.randint(0, len(data))] + other[random.randint(0, len(other)) :])[:LARGEST]


# --- trees of JSON ------------------------------------------------------------------------------------------------------------


def change_tree(random: random.Random, tree: Any) -> Any:
    """`tree` with one place in it changed: a value replaced, nested, exchanged with another, taken out, or a key renamed."""
    places = _places(tree)
    if not places:
        return copy.deepcopy(random.choice(_ODD))
    parent, key = random.choice(places)
    match random.randint(0, 6):
        case 0 | 1:
            parent[key] = copy.deepcopy(random.choice(_ODD))
        case 2 if isinstance(parent[key], int) and not isinstance(parent[key], bool):
            parent[key] += random.choice((-1, 1, -parent[key], 2**31))
        case 3:
            other, place = random.choice(places)
            if _depth(other[place]) < 100:
                parent[key] = json.loads(json.dumps(other[place]))
        case 4 if isinstance(parent, dict):
            parent[random.choice(("", "kind", "x" * 50, "line\nline", key + "0"))] = parent.pop(key)
        case 5 if isinstance(parent, dict):
            del parent[key]
        case 6:
            for _ in range(random.choice((1, 3, 40, 2000))):
                parent[key] = [parent[key]]
        case _:
            parent[key] = copy.deepcopy(random.choice(_ODD))
    return tree


def _depth(tree: Any) -> int:
    """How deep a tree is nested; 1000 where it is deeper, or has more values than are worth counting."""
    depth, level = 0, [tree]
    while level and depth < 1000:
        level = [
            item
            for value in level
            if isinstance(value, dict | list)
            for item in (value.values() if isinstance(value, dict) else value)
        ]
        depth += 1
    return depth


def _places(tree: Any) -> list[tuple[Any, Any]]:
    """Every place of a tree as (list or table, index or key)."""
    found: list[tuple[Any, Any]] = []
    waiting = [tree]
    while waiting and len(found) < 3000:
        value = waiting.pop()
        keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
        for key in keys:
            found.append((value, key))
            waiting.append(value[key])
    return found


def _text_of(tree: Any) -> str:
    """JSON, also of what is nested deeper than Python's own writer goes."""
    try:
        return json.dumps(tree, ensure_ascii=False)
    except RecursionError:
        return "[" * 5000 + "]" * 5000


def mutate_json(random: random.Random, data: bytes) -> bytes:
    """A JSON text with its tree changed."""
    try:
        tree = json.loads(data)
    except (ValueError, RecursionError):
        return mutate_bytes(random, data)
    return _text_of(change_tree(random, tree)).encode("utf-8", "surrogatepass")


def mutate_lines(random: random.Random, data: bytes) -> bytes:
    """Lines of JSON: one of them changed, doubled, moved or cut short."""
    lines = data.split(b"\n")
    place = random.randint(0, len(lines) - 1)
    match random.randint(0, 4):
        case 0:
            lines.insert(random.randint(0, len(lines)), lines[place])
        case 1:
            lines[place] = lines[place][: random.randint(0, len(lines[place]))]
        case _:
            lines[place] = mutate_json(random, lines[place])
    return b"\n".join(lines)[:LARGEST]


# --- containers of arrays -----------------------------------------------------------------------------------------------------


def mutate_container(random: random.Random, data: bytes) -> bytes:
    """A safetensors file with its table, its metadata or its arrays changed, and mostly signed again as elman signs it."""
    try:
        length = int.from_bytes(data[:8], "little")
        header, body = json.loads(data[8 : 8 + length]), bytearray(data[8 + length :])
        strings = header.get("__metadata__")
        text = strings.get("elman") if isinstance(strings, dict) else None
        inner = json.loads(text) if isinstance(text, str) else None
    except (ValueError, RecursionError, AttributeError):
        return mutate_bytes(random, data)
    for _ in range(random.choice((1, 1, 2, 3))):
        choice = random.randint(0, 5)
        if choice <= 2 and isinstance(inner, dict):
            inner = change_tree(random, inner)
        elif choice == 3:
            header = change_tree(random, header)
        elif choice == 4:
            _change_array(random, header, body)
        elif body:
            _change_bytes(random, body)
    signed = random.randint(0, 9) > 0
    if isinstance(header, dict) and isinstance(header.get("__metadata__"), dict) and inner is not None:
        header["__metadata__"]["elman"] = _text_of(inner)
        if signed:
            header["__metadata__"]["sha256"] = _signature(header, bytes(body))
    raw = _text_of(header).encode("utf-8", "surrogatepass")
    return (struct.pack("<Q", len(raw)) + raw + bytes(body))[: 2 * LARGEST]


def _change_array(random: random.Random, header: Any, body: bytearray) -> None:
    """Another shape over the same bytes, another type of the same width, two names exchanged, or numbers that are none."""
    named = header.items() if isinstance(header, dict) else ()  # another change may have made a number of it
    entries = [(name, entry) for name, entry in named if isinstance(entry, dict) and name != "__metadata__"]
    if not entries:
        return
    name, entry = random.choice(entries)
    try:
        shape, (begin, end) = entry["shape"], entry["data_offsets"]
        match random.randint(0, 4):
            case 0:
                entry["shape"] = random.choice(
                    (shape[::-1], [*shape, 1], [1, *shape], [0, 2**40], shape[1:], [2**20, 0])
                )
            case 1:
                entry["dtype"] = random.choice(("F32", "I32", "U32", "F64", "I64", "BF16", "BOOL", "U8", "F16"))
            case 2:
                other, _ = random.choice(entries)
                header[name], header[other] = header[other], header[name]
            case 3:
                header.pop(name)
                del body[begin:end]
            case _:
                body[begin : begin + 4] = random.choice(
                    (b"\0\0\xc0\x7f", b"\0\0\x80\x7f", b"\0\0\x80\xff", b"\xff\xff\x7f\x7f")
                )
    except (KeyError, TypeError, ValueError):
        return


def _signature(header: dict[str, Any], body: bytes) -> str:
    """The checksum that docs/format.md describes, or as much of it as what is there allows."""
    digest = hashlib.sha256()

    def add(part: bytes) -> None:
        digest.update(struct.pack("<Q", len(part)) + part)

    try:
        add(header["__metadata__"]["elman"].encode())
        for name in sorted(name for name in header if name != "__metadata__"):
            entry = header[name]
            begin, end = entry["data_offsets"]
            add(name.encode())
            add(entry["dtype"].encode())
            add(struct.pack(f"<{len(entry['shape'])}Q", *entry["shape"]))
            add(body[begin:end])
    except (KeyError, TypeError, ValueError, AttributeError, struct.error, UnicodeEncodeError):
        pass
    return digest.hexdigest()


def mutate_zip(change: Mutation) -> Mutation:
    """A mutation of one member of a zip archive, whose sums are made anew; now and then of the archive's own bytes."""

    def mutate(random: random.Random, data: bytes) -> bytes:
        if random.randint(0, 4) == 0:
            return mutate_bytes(random, data)
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as packed:
                names = packed.namelist()
                members = {name: packed.read(name) for name in names[:30]}
        except Exception:  # the archive was damaged before: zipfile says so in a dozen ways
            return mutate_bytes(random, data)
        if not members:
            return mutate_bytes(random, data)
        name = random.choice(list(members))
        match random.randint(0, 6):
            case 0:
                members.pop(name)
            case 1:
                members[random.choice(("", "../up", "x.npy", "a/b", name + "0"))] = members[name]
            case 2:
                members[name] = bytes(LARGEST)  # a thousandth of its size when it is packed
            case _:
                members[name] = change(random, members[name])
        target = io.BytesIO()
        kind = random.choice((zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
        with zipfile.ZipFile(target, "w", kind) as packed:
            for name, content in members.items():
                packed.writestr(zipfile.ZipInfo(name), content, kind)
        return target.getvalue()[:LARGEST]

    return mutate


def mutate_npy(random: random.Random, data: bytes) -> bytes:
    """An array as NumPy writes it, with its header's shape, type or order changed and padded again."""
    if random.randint(0, 3) == 0 or not data.startswith(b"\x93NUMPY"):
        return mutate_bytes(random, data)
    length = int.from_bytes(data[8:10], "little")
    header, body = data[10 : 10 + length].strip(), data[10 + length :]
    types = (b"|O", b"<f8", b"<i4", b">f4", b"<c8", b"|S9", b"<U3", b"|V4", b"<M8[s]", b"|b1", b"<f2", b"junk")
    shapes = (
        b"()",
        b"(0,)",
        b"(1099511627776,)",
        b"(4611686018427387904, 4)",
        b"(-1, 2)",
        b"(True, 2)",
        b"(2.0,)",
        b"[1]",
    )
    match random.randint(0, 4):
        case 0:
            header = header.replace(b"'<f4'", b"'" + random.choice(types) + b"'")
        case 1 if b"'shape': " in header:
            before, rest = header.split(b"'shape': ", 1)
            header = before + b"'shape': " + random.choice(shapes) + b", " + rest[rest.rfind(b")") + 1 :].strip(b", ")
        case 2:
            header = header.replace(b"False", random.choice((b"True", b"0", b"None")))
        case 3:
            header = b"(" * random.choice((1, 90, 3000)) + header
        case _:
            header = mutate_bytes(random, header)
    header = header[:60000] + b"\n"
    return data[:8] + struct.pack("<H", len(header)) + header + body


# --- text ---------------------------------------------------------------------------------------------------------------------

_TOML = (
    b"[run]\n", b"[network]\n", b"[[network]]\n", b"hidden = 0x" + b"f" * 9000 + b"\n",
    b"hidden = 1" + b"0" * 5000 + b"\n", b"seed = nan\n", b"format = true\n", b"levels = []\n",
    b"levels = [0.9, 0.1]\n", b"a = 1979-05-27T07:32:00Z\n", b"x = 1e999\n",
    b"x = " + b"[" * 3000 + b"]" * 3000 + b"\n", b"x = " + b"{a=" * 3000 + b"1" + b"}" * 3000 + b"\n",
    b".".join([b"a"] * 900) + b" = 1\n", b'task = "two\\nlines"\n', b'"\\u001b[31m" = 1\n', b"inputs = 3\n",
    b"hidden = -1\n", b"cell = 'x'\n", b"[series]\ncalendar = 'auto'\n",
)  # fmt: skip
_VALUES = (
    b" 3", b" -1", b" 'x'", b" nan", b" inf", b" []", b" [1]", b" [0.5, 0.1]", b" true", b" 0xffffffffffffffffffff",
    b" {}", b" 1e999", b" 1979-05-27", b" ''", b" [[]]", b" 9223372036854775807", b" 0.5", b' "auto"',
    b" ['none', 'hour']", b" 1_0", b" 65537",
)  # fmt: skip
_CSV = (
    b'"', b'""', b",", b";", b"\t", b"|", b"\n", b"\r", b"\r\n", b"\0", b"\xef\xbb\xbf", b"\xff\xfe", b"\xe9", b"nan",
    b"inf", b"-inf", b"1e400", b"1,5", b"1.000,5", b"<0.1", b"true", b"24:00", b"2024-02-30", b"2024-13-01 00:00",
    b"9999-12-31 23:59:59", b"0000-00-00", b"0000-01-01 00:00", b"0001-01-01", b"01/02/03", b"13.01.2009",
    b"9999999999999999999", b"99999999999999999", b"1e18", b"1700000000", b"1700000000000", b"-62135596800",
    b"2024-01-01T00:00:00+25:99", b"2024-01-01T00:00Z", b"12 Foo 2020", b"May 2020", b"20240101", b"2024010112",
    b"99991231235959", b"\xd9\xa1\xd9\xa2", b"x" * 20000, b",".join([b"1"] * 3000), b"\x1e", b"\x1a",
    b"2024-01-01 00:00:00.123456789012", b"262143-12-31", b"1 January 2020", b"12:00 AM", b"2024-01-01 12:00 pm",
    b"time", b"series",
)  # fmt: skip


def mutate_toml(random: random.Random, data: bytes) -> bytes:
    """Settings: a value exchanged, a line put in, taken out or doubled; now and then any bytes changed."""
    if random.randint(0, 9) == 0:
        return mutate_bytes(random, data)
    lines = data.split(b"\n")
    for _ in range(random.choice((1, 1, 2, 3))):
        place = random.randint(0, len(lines) - 1)
        match random.randint(0, 7):
            case 0:
                lines.insert(place, random.choice(_TOML))
            case 1:
                lines[place] = b""
            case 2:
                lines.insert(random.randint(0, len(lines)), lines[place])
            case _:
                lines[place] = lines[place].split(b"=")[0] + b"=" + random.choice(_VALUES)
    return b"\n".join(lines)[:LARGEST]


def mutate_words(words: tuple[bytes, ...]) -> Mutation:
    """A mutation that puts words of a language in, or over a field or a line."""

    def mutate(random: random.Random, data: bytes) -> bytes:
        if random.randint(0, 3) == 0:
            return mutate_bytes(random, data)
        for _ in range(random.choice((1, 1, 2, 5))):
            place = random.randint(0, len(data))
            word = random.choice(words)
            kind = random.randint(0, 3)
            if kind == 0:
                data = data[:place] + word + data[place:]
            elif kind == 1:  # over a field
                end = min(
                    (found for mark in b",;\n\t" if (found := data.find(bytes([mark]), place)) >= 0), default=len(data)
                )
                begin = max(data.rfind(bytes([mark]), 0, place) for mark in b",;\n\t") + 1
                data = data[:begin] + word + data[end:]
            elif kind == 2:  # over the same field of every line
                data = _over_column(random, data, word)
            else:
                line = data.rfind(b"\n", 0, place) + 1
                data = data[:line] + word + data[line:]
        return data[:LARGEST]

    return mutate


def _over_column(random: random.Random, data: bytes, word: bytes) -> bytes:
    lines = data[: LARGEST // 4].split(b"\n")
    column = random.randint(0, 3)
    for number, line in enumerate(lines[1:60], 1):
        fields = line.split(b",")
        if column < len(fields):
            fields[column] = word[:200]
            lines[number] = b",".join(fields)
    return b"\n".join(lines)


mutate_table = mutate_words(_CSV)


# --- protocol buffers ---------------------------------------------------------------------------------------------------------


def mutate_onnx(random: random.Random, data: bytes) -> bytes:
    """An ONNX model with fields of its messages changed: sizes, types, names, attributes, bytes; written as a whole model again."""
    import onnx

    if random.randint(0, 4) == 0:
        return mutate_bytes(random, data)
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
        for _ in range(random.choice((1, 1, 2, 3))):
            _change_message(random, model)
        return model.SerializeToString()[: 2 * LARGEST]
    except Exception:  # what the parser of the moment says of damaged bytes; a number out of a field's range
        return mutate_bytes(random, data)


def _change_message(random: random.Random, message: Any) -> None:
    """Walk down to some field that is set and change it."""
    for _ in range(12):
        fields = message.ListFields()
        if not fields:
            return
        field, value = random.choice(fields)
        repeated = not isinstance(value, (int, float, str, bytes)) and hasattr(value, "__len__")
        if field.message_type is not None:
            if random.randint(0, 9) == 0:
                _drop(random, message, field.name, value, repeated)
                return
            message = random.choice(list(value)) if repeated else value
            continue
        _set_scalar(random, message, field.name, value, repeated)
        return


def _drop(random: random.Random, message: Any, name: str, value: Any, repeated: bool) -> None:
    if not repeated:
        message.ClearField(name)
    elif random.randint(0, 1):
        del value[random.randint(0, len(value) - 1)]
    else:
        value.append(value[random.randint(0, len(value) - 1)])


def _set_scalar(random: random.Random, message: Any, name: str, value: Any, repeated: bool) -> None:
    kinds: dict[type, tuple[Any, ...]] = {
        int: (0, 1, 2, 3, -1, 5, 7, 8, 10, 11, 16, 2**31 - 1, 2**40, 2**62),
        float: (0.0, -1.0, 3e38, float("nan"), float("inf")),
        str: ("", "x", "W", "two\nlines\x1b[31m", "GRU", "LSTM", "RNN", "Y", "../../etc/passwd", "elman", "a" * 500),
        bytes: (b"", b"reverse", b"bidirectional", b"Relu\n", b"\xff\n\xfe", b"0" * 999),
    }
    if repeated:
        place = random.randint(0, len(value) - 1)
        kind = random.randint(0, 2)
        if kind == 0:
            del value[place]
        elif kind == 1:
            value.append(value[place])
        else:
            value[place] = random.choice(kinds.get(type(value[place]), (value[place],)))
    elif isinstance(value, (str, bytes)) and len(value) > 40:
        data = value.encode("utf-8", "replace") if isinstance(value, str) else value
        data = mutate_json(random, data) if isinstance(value, str) else mutate_bytes(random, data)
        setattr(message, name, data.decode("utf-8", "replace") if isinstance(value, str) else data)
    else:
        setattr(message, name, random.choice(kinds.get(type(value), (value,))))

"""Make the hostile files of this folder: `python tests/hostile/make.py`.

Written from `docs/format.md` alone, not with elman's own writer, so that it is a second opinion on the format as well. Where the
attack is not the checksum itself, the checksum is right: a reader must not rely on it.
"""

import hashlib
import io
import json
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
CONFIG = {"network": {"cell": "gru", "hidden": 2}}
METADATA = {"kind": "text", "config": CONFIG, "codec": {"symbols": "ab"}, "made_with": {}, "result": {}}
WEIGHTS = {"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}
DATA = struct.pack("<2f", 1.0, 2.0)


def compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def checksum(text: str, tensors: dict[str, Any], data: bytes) -> str:
    parts = [text.encode("utf-8", "surrogatepass")]
    for name in sorted(tensors):
        tensor = tensors[name]
        begin, end = tensor["data_offsets"]
        sizes = b"".join((size % 2**64).to_bytes(8, "little") for size in tensor["shape"])
        parts += [name.encode("utf-8", "surrogatepass"), tensor["dtype"].encode(), sizes, data[begin:end]]
    return hashlib.sha256(b"".join(struct.pack("<Q", len(part)) + part for part in parts)).hexdigest()


def raw(header: str | bytes, data: bytes = b"", length: int | None = None) -> bytes:
    """A file with this header, claiming to be `length` bytes long."""
    header = header if isinstance(header, bytes) else header.encode()
    return struct.pack("<Q", len(header) if length is None else length) + header + data


def container(
    tensors: dict[str, Any] = WEIGHTS,
    data: bytes = DATA,
    *,
    metadata: Any = METADATA,
    version: Any = 1,
    kind: Any = "bundle",
    text: str | None = None,
    digest: str | None = "right",
) -> bytes:
    """A container that is right in everything but what is given."""
    text = compact({"format": version, "kind": kind, "metadata": metadata}) if text is None else text
    strings = {"elman": text}
    if digest == "right":
        try:
            strings["sha256"] = checksum(text, tensors, data)
        except (TypeError, KeyError, ValueError, AttributeError):  # a table so wrong that it has no checksum
            strings["sha256"] = "0" * 64
    elif digest is not None:
        strings["sha256"] = digest
    return raw(compact({"__metadata__": strings, **tensors}), data)


def tensor(dtype: Any = "F32", shape: Any = (2,), offsets: Any = (0, 8)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def one(dtype: Any = "F32", shape: Any = (2,), offsets: Any = (0, 8), data: bytes = DATA) -> bytes:
    return container({"w": tensor(dtype, shape, offsets)}, data)


def two(first: tuple[int, int], second: tuple[int, int], size: int) -> bytes:
    tensors = {"a": tensor("U8", [first[1] - first[0]], first), "b": tensor("U8", [second[1] - second[0]], second)}
    return container(tensors, bytes(size))


def elman_text(metadata: str) -> bytes:
    """A container whose metadata is this text, be it JSON or not."""
    return container(text='{"format":1,"kind":"bundle","metadata":' + metadata + "}")


def bundle(**changes: Any) -> bytes:
    return container(metadata={**METADATA, **changes})


def as_zip() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(zipfile.ZipInfo("w.npy"), DATA)
    return stream.getvalue()


def framing() -> dict[str, bytes]:
    return {
        "01-empty": b"",
        "02-seven-bytes": b"\x02\0\0\0\0\0\0",
        "03-header-of-2-to-the-63": raw("{}", DATA, 2**63),
        "04-header-longer-than-the-file": raw("{}", DATA, 11),
        "05-header-of-no-bytes": raw("", b"        "),
        "06-pickle": pickle.dumps({"w": [1.0, 2.0]}, protocol=2),
        "07-zip": as_zip(),
        "08-text": b"import os; os.system('true')\n" * 4,
        "09-header-is-no-json": raw('{"w":}  '),
        "10-header-is-a-list": raw("[1,2,3]"),
        "11-header-is-a-float-in-disguise": raw('{"__float__":"nan"}'),
        "12-header-is-not-utf-8": raw(b'{"\xff\xfe":1}'),
        "13-header-begins-with-a-space": raw(" " + container()[8:-8].decode(), DATA),
        "14-two-headers": raw(container()[8:-8].decode() + "{}", DATA),
        "15-cut-in-the-header": container()[:60],
        "16-cut-in-the-data": container()[:-1],
        "17-data-beyond-the-last-tensor": container() + b"\0",
    }


def json_bombs() -> dict[str, bytes]:
    doubled = container()[8:-8].decode()[:-1] + ',"w":' + compact(WEIGHTS["w"]) + "}"
    return {
        "20-header-5000-lists-deep": raw('{"w":' + "[" * 5000 + "]" * 5000 + "}"),
        "21-header-33-objects-deep": raw('{"a":' * 33 + "1" + "}" * 33),
        "22-metadata-5000-lists-deep": elman_text("[" * 5000 + "]" * 5000),
        "23-doubled-tensor": raw(doubled, DATA),
        "24-doubled-key-in-the-metadata": elman_text('{"kind":"text","kind":"series"}'),
        "25-nan-in-the-codec": elman_text(compact(METADATA).replace('"ab"', "NaN")),
        "26-infinity-in-the-config": elman_text(compact(METADATA).replace('"hidden":2', '"dropout":-Infinity')),
        "27-float-of-1e999": elman_text(compact(METADATA).replace('"ab"', "1e999")),
        "28-integer-of-5000-digits": elman_text(compact(METADATA).replace('"ab"', "9" * 5000)),
        "29-float-named-otherwise": bundle(result={"loss": {"__float__": "huge"}}),
        "30-float-with-company": bundle(result={"loss": {"__float__": "nan", "also": 1}}),
        "31-half-a-surrogate-in-a-name": container({"\ud800": WEIGHTS["w"]}),
        "32-half-a-surrogate-in-the-metadata": elman_text(compact(METADATA).replace('"ab"', '"\\ud800"')),
        "33-half-a-surrogate-around-the-metadata": container(text="\udfff"),
        "34-unterminated-string": elman_text('"' + '\\"' * 2000),
    }


def tables() -> dict[str, bytes]:
    return {
        "40-unknown-dtype": one("F128", [1], [0, 8]),
        "41-dtype-of-objects": one("O", [1], [0, 8]),
        "42-dtype-is-a-list": one(["F32"]),
        "43-negative-size": one("F32", [-2], [0, 8]),
        "44-two-negative-sizes": one("F32", [-1, -2]),
        "45-fractional-size": one("F32", [2.0]),
        "46-size-is-true": one("F64", [True]),
        "47-shape-is-a-number": one("F32", 2),
        "48-rank-9": one("F32", [1] * 8 + [2]),
        "49-sizes-that-overflow-to-8-bytes": one("F32", [2**62 + 2, 1]),
        "50-sizes-that-overflow-to-nothing": one("U8", [2**32, 2**32], [0, 0], b""),
        "51-empty-but-too-wide-for-numpy": one("U8", [0, 2**70], [0, 0], b""),
        "52-empty-but-wide-together": one("U8", [0, 2**40, 2**40], [0, 0], b""),
        "53-a-terabyte-in-8-bytes": one("F32", [2**38], [0, 8]),
        "54-a-terabyte-by-its-offsets": one("F32", [2**38], [0, 2**40]),
        "55-size-of-4000-digits": one("U8", [10**4000], [0, 10**4000]),
        "56-product-of-4800-digits": one("U8", [10**1200] * 4),
        "57-offsets-reversed": one("F32", [2], [8, 0]),
        "58-offsets-negative": one("F32", [2], [-8, 0]),
        "59-offsets-fractional": one("F32", [2], [0, 8.0]),
        "60-three-offsets": one("F32", [2], [0, 8, 8]),
        "61-overlap": two((0, 8), (4, 12), 12),
        "62-the-same-bytes-twice": two((0, 8), (0, 8), 8),
        "63-hole": two((0, 4), (8, 12), 12),
        "64-hole-at-the-start": one("F32", [2], [8, 16], DATA + DATA),
        "65-empty-tensor-inside-another": two((0, 8), (4, 4), 8),
        "66-key-too-many": container({"w": {**WEIGHTS["w"], "strides": [4]}}),
        "67-key-missing": container({"w": {"dtype": "F32", "shape": [2]}}),
        "68-tensor-is-null": container({"w": None}),
        "69-boolean-of-2": one("BOOL", [2], [0, 2], b"\1\2"),
    }


def contents() -> dict[str, bytes]:
    escapes = "\x1b[2J\x1b]0;owned\x07"
    return {
        "70-safetensors-of-another": raw(compact(WEIGHTS), DATA),
        "71-metadata-of-another": raw(compact({"__metadata__": {"format": "pt"}, **WEIGHTS}), DATA),
        "72-metadata-is-a-list": raw(compact({"__metadata__": [], **WEIGHTS}), DATA),
        "73-metadata-holds-a-number": raw(compact({"__metadata__": {"elman": 1}, **WEIGHTS}), DATA),
        "74-elman-is-no-json": container(text="{"),
        "75-elman-is-null": container(text="null"),
        "76-format-7": container(version=7),
        "77-format-7-and-its-new-dtype": container({"w": tensor("F4", [16], [0, 8])}, version=7),
        "78-format-true": container(version=True),
        "79-format-0": container(version=0),
        "80-format-is-text": container(version="1"),
        "81-format-of-4000-digits": container(version=10**4000),
        "82-checkpoint": container(metadata={"iteration": 4, "state": {}}, kind="checkpoint"),
        "83-kind-that-commands-the-terminal": container(kind=escapes),
        "84-name-that-commands-the-terminal": container({escapes: tensor("F32", [3])}),
        "85-no-checksum": container(digest=None),
        "86-wrong-checksum": container(digest="0" * 64),
        "87-empty-checksum": container(digest=""),
        "88-metadata-is-a-list": container(metadata=[]),
    }


def bundles() -> dict[str, bytes]:
    return {
        "90-no-codec": container(metadata={name: part for name, part in METADATA.items() if name != "codec"}),
        "91-kind-is-a-number": bundle(kind=1),
        "92-config-is-a-list": bundle(config=[["network", {}]]),
        "93-config-with-an-unknown-setting": bundle(config={"network": {"hiden": 2}}),
        "94-config-with-an-impossible-value": bundle(config={"network": {"hidden": -2}}),
        "95-config-with-an-integer-beyond-floats": bundle(config={"training": {"learning_rate": 10**400}}),
        "96-config-with-a-name-of-17000-letters": bundle(config={"network": {"h" * 17000: 2}}),
        "97-config-with-a-value-of-its-own-kind": bundle(config={"network": {"cell": ["gru"], "hidden": {}}}),
        "98-config-with-a-nan-said-properly": bundle(config={"training": {"momentum": {"__float__": "nan"}}}),
        "99-codec-with-an-infinity-said-properly": bundle(codec={"scale": [1.0, {"__float__": "inf"}]}),
    }


def files() -> dict[str, bytes]:
    """All hostile files, by name."""
    return {**framing(), **json_bombs(), **tables(), **contents(), **bundles()}


if __name__ == "__main__":
    for old in HERE.glob("*.safetensors"):
        old.unlink()
    for name, data in files().items():
        (HERE / f"{name}.safetensors").write_bytes(data)

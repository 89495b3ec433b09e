"""A model as one HTML file that computes in the browser: weights inside, nothing fetched, nothing sent.

Facts stand in the page as JSON in which no `<` is left, so that no text of the model can end its block; the page's policy runs the
one script whose hash it names.
"""

import base64
import hashlib
import html
import importlib.resources
import json
from pathlib import Path

import numpy as np

from elman.shipping.parts import Parts
from elman.training.storage import write_atomically


def to_web(parts: Parts, title: str) -> str:
    """The page. title: what its heading says."""
    script, style = _template("page.js"), _template("page.css")
    fields = {
        "TITLE": html.escape(title),
        "FACTS": _json(parts.facts),
        "WEIGHTS": _json(_packed(parts)),
        "SCRIPT": script,
        "STYLE": style,
        "SCRIPT_HASH": _hash(script),
        "STYLE_HASH": _hash(style),
    }
    pieces = _template("page.html").split("@")
    # Every other piece is a field's name: what is put in is never looked at again.
    return "".join(fields[piece] if number % 2 else piece for number, piece in enumerate(pieces))


def write_web(parts: Parts, path: Path, title: str) -> None:
    """Write the page to `path`."""
    write_atomically(path, to_web(parts, title).encode())


def _packed(parts: Parts) -> dict[str, object]:
    """All arrays as one run of little-endian float32, in base64, and where each begins and how long it is."""
    places, start = {}, 0
    for name, array in parts.arrays.items():
        places[name] = [start, array.size]
        start += array.size
    data = b"".join(np.ascontiguousarray(array, "<f4").tobytes() for array in parts.arrays.values())
    return {"places": places, "data": base64.b64encode(data).decode()}


def _json(value: object) -> str:
    """JSON that can stand in a page."""
    return json.dumps(value).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _template(name: str) -> str:
    return importlib.resources.files("elman.shipping").joinpath("web", name).read_text("utf-8")

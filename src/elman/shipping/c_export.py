"""A model as one C file and its header: C99, nothing but the standard library, no allocation, the state in the caller's hands.

Every name begins with the model's own, made safe; of the model's texts nothing but escaped bytes gets into the file, and only into
string literals, so that no text can end a literal or a comment.
"""

import importlib.resources
import re
from pathlib import Path
from typing import Any

import numpy as np

from elman.shipping.parts import Parts
from elman.training.storage import write_atomically

CELL_NUMBERS = {"elman": 0, "gru": 1, "lstm": 2}

_PLACEHOLDER = re.compile(r"\b(MODEL|model)_")
_WORDS = re.compile(r"[^A-Za-z0-9]+")


def c_name(text: str) -> str:
    """What names in C can begin with, made of any text: letters, digits and underscores, never empty, no header of C's own.

    >>> c_name("My model (2).v3"), c_name("7"), c_name("سلام")
    ('my_model_2_v3', 'model_7', 'model')
    """
    name = _WORDS.sub("_", text.encode("ascii", "ignore").decode()).strip("_").lower()[:40]
    usable = name[:1].isalpha() and name not in ("math", "stddef", "stdint", "string")
    return name if usable else f"model_{name}".rstrip("_")


def to_c(parts: Parts, name: str = "model") -> tuple[str, str]:
    """The header and the source. name: what all names begin with (see `c_name`); the header is `name`.h."""
    name, parts = c_name(name), parts.single()
    kind = "text" if parts.is_text else "series"
    sizes = {**_sizes(parts), **({} if parts.is_text else _series_sizes(parts))}
    defines = "".join(f"#define MODEL_{key} {value}\n" for key, value in sizes.items())
    header = f"{_OPENING}#ifndef MODEL_H\n#define MODEL_H\n\n#include <stddef.h>\n#include <stdint.h>\n\n{defines}\n"
    header += _template("model.h") + _template(f"{kind}.h") + "\n#endif\n"
    tables = _symbols(parts) if parts.is_text else _series_tables(parts)
    opening = f'{_OPENING}#include "{name}.h"\n\n#include <math.h>\n#include <string.h>\n\n'
    source = _weights(parts) + tables + _template("model.c") + _template(f"{kind}.c")
    return _named(header, name), opening + _named(source, name)


def write_c(parts: Parts, path: Path) -> tuple[Path, Path]:
    """Write the source to `path` and the header beside it; their names are made safe. Returns (source, header)."""
    name = c_name(path.stem)
    header, source = to_c(parts, name)
    written = path.with_name(f"{name}.c"), path.with_name(f"{name}.h")
    for file, text in zip(written, (source, header), strict=True):
        write_atomically(file, text.encode("ascii"))
    return written


_OPENING = "/* Written by elman export --to c. Compile with -std=c99 and link the mathematics library (-lm). */\n"


def _template(name: str) -> str:
    return importlib.resources.files("elman.shipping").joinpath("c", name).read_text("ascii")


def _named(text: str, name: str) -> str:
    """`model_` and `MODEL_` replaced by the model's own name."""
    return _PLACEHOLDER.sub(lambda found: f"{name.upper() if found[1] == 'MODEL' else name}_", text)


def _sizes(parts: Parts) -> dict[str, int]:
    gates = parts.of(0, 0, "bias").shape[0]
    return {
        "CELL": CELL_NUMBERS[parts.cell],
        "RELU": int(parts.facts["activation"] == "relu"),
        "MEMBERS": parts.members,
        "LAYERS": parts.layers,
        "HIDDEN": parts.hidden,
        "CARRY": parts.hidden * (2 if parts.cell == "lstm" else 1),
        "GATES": gates,
        "INPUTS": parts.inputs,
        "OUTPUTS": parts.outputs,
        "RESIDUAL": int(parts.facts["residual"]),
    }


def _series_sizes(parts: Parts) -> dict[str, int]:
    facts = parts.facts
    columns = facts["columns"]
    return {
        "SERIES": len(facts["names"]),
        "COLUMNS": len(columns),
        "TARGET": columns.index(facts["target"]),
        "ANCHOR": facts["input_names"].index(facts["target"]),
        "PLAIN": len(columns) - len(facts["directions"]),
        "DIRECTIONS": len(facts["directions"]),
        "MASKED": len(facts["masked"]),
        "CIRCLES": len(facts["circles"]),
        "KNOWN": len(facts["known"]),
        "FIXED": len(facts["static_columns"]),
        "AHEAD": len(facts["ahead"]),
        "HORIZON": len(facts["horizon"]),
        "LEVELS": len(facts["levels"]),
        "MIDDLE": facts["middle"],
        "KEEP_MIDDLE": int(facts["keep_middle"]),
        "EVERY": facts["every"],
        "WINDOW": facts["window"] or 0,
    }


def _weights(parts: Parts) -> str:
    """Arrays of floats, and the table of layers that points to them."""
    text, layers = "", []
    for member in range(parts.members):
        for layer in range(parts.layers):
            fields = []
            for name in ("weight_inputs", "weight_hidden", "bias", "bias_hidden", "norm_scale", "norm_shift"):
                array = parts.arrays.get(f"{member}.{layer}.{name}")
                if array is None:
                    fields.append("NULL")
                    continue
                fields.append(f"model_{name}_{member}_{layer}")
                text += f"static const float {fields[-1]}[{array.size}] = {{{_numbers(array)}}};\n"
            layers.append(f"    {{{', '.join(fields)}}},\n")
    for name in ("weight", "bias"):
        arrays = [parts.arrays[f"{member}.head.{name}"] for member in range(parts.members)]
        rows = ",\n".join(f"{{{_numbers(array)}}}" for array in arrays)
        text += f"static const float model_head_{name}[MODEL_MEMBERS][{arrays[0].size}] = {{{rows}}};\n"
    text += "\ntypedef struct {\n    const float *weight_inputs, *weight_hidden, *bias, *bias_hidden, *norm_scale, *norm_shift;\n"
    text += "} model_layer;\n\nstatic const model_layer model_layers[MODEL_MEMBERS * MODEL_LAYERS] = {\n"
    return text + "".join(layers) + "};\n"


def _numbers(array: Any) -> str:
    """Floats as C writes them, exact to the last bit: nine digits are enough for that."""
    words = [f"{value:.9g}" for value in np.asarray(array, np.float32).ravel().tolist()]
    return _lines([f"{word}f" if set(word) & {".", "e"} else f"{word}.0f" for word in words])


def _doubles(array: Any) -> str:
    words = [repr(float(value)) for value in np.asarray(array, np.float64).ravel()]
    return _lines(words)


def _lines(words: list[str], width: int = 8) -> str:
    return ",\n".join(", ".join(words[start : start + width]) for start in range(0, len(words), width))


def _symbols(parts: Parts) -> str:
    """The vocabulary as string literals and their lengths."""
    vocabulary = parts.facts["vocabulary"]
    byte = vocabulary["unit"] == "byte"
    symbols = [bytes([value]) if byte else chr(value).encode() for value in vocabulary["values"]]
    literals = _lines([f'"{"".join(_escaped(value) for value in symbol)}"' for symbol in symbols])
    sizes = _lines([str(len(symbol)) for symbol in symbols], 24)
    return (
        f"\nstatic const char *const model_symbols[MODEL_INPUTS] = {{{literals}}};\n"
        f"static const unsigned char model_symbol_sizes[MODEL_INPUTS] = {{{sizes}}};\n"
    )


def _escaped(value: int) -> str:
    """A byte within a string literal: letters and digits as they are, all else as three octal digits."""
    return chr(value) if value < 128 and chr(value).isalnum() else f"\\{value:03o}"


def _series_tables(parts: Parts) -> str:
    """Which column is what, and how measurements are scaled."""
    facts = parts.facts
    columns, ahead = facts["columns"], facts["ahead"]
    lists = {
        "plain": [c for c, name in enumerate(columns) if name not in facts["directions"]],
        **{name: [columns.index(column) for column in facts[name]] for name in ("directions", "masked", "known")},
        "horizon": [ahead.index(row) for row in facts["horizon"]],
    }
    text = "\n"
    for name, numbers in lists.items():
        # A table of no length is no C: one zero, which nothing reads.
        text += (
            f"static const int model_{name}[{max(len(numbers), 1)}] = {{{_lines(list(map(str, numbers or [0])))}}};\n"
        )
    for name in ("center", "scale"):
        rows = ",\n".join(f"{{{_doubles(row)}}}" for row in facts[name])
        text += f"const double model_{name}[MODEL_SERIES][MODEL_COLUMNS] = {{{rows}}};\n"
        fixed = facts[f"static_{name}"] or [1.0]
        text += f"static const double model_fixed_{name}[{len(fixed)}] = {{{_doubles(fixed)}}};\n"
    shifts = ",\n".join(f"{{{_doubles(row)}}}" for row in facts["shifts"])
    return text + f"static const double model_shifts[MODEL_HORIZON][MODEL_LEVELS] = {{{shifts}}};\n"

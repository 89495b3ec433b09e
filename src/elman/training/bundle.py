"""Bundles: one file with all that is needed to use a trained network, on any device and with any later version.

A bundle is a container of `elman.training.storage` of kind "bundle". Its arrays are the weights; its metadata says what they mean.
The specification of the file is `docs/format.md`.
"""

import contextlib
import itertools
import json
import math
import os
import platform
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from elman.config import Config, suggestion
from elman.errors import BundleError, ConfigError
from elman.training.storage import read_arrays, write_arrays

BUNDLE_NAME = "best.safetensors"

# All settings at once take about 2 KiB. Without a limit, the search for the setting that was probably meant takes hundreds of
# times the memory of a hostile name.
_MAX_CONFIG_CHARACTERS = 16 * 1024


@dataclass(frozen=True, eq=False)
class Bundle:
    """A trained network as it is kept and passed on.

    `kind` is the task ("text"); `config` is what `Config.to_dict` gives; `codec` says how input becomes numbers and back (the
    vocabulary, or the scaler with column names and units); `made_with` is what `made_with` gives; `result` is what it scored.
    """

    kind: str
    arrays: dict[str, np.ndarray]
    config: dict[str, Any]
    codec: dict[str, Any]
    made_with: dict[str, Any]
    result: dict[str, Any]

    def save(self, path: Path | str) -> None:
        """Write the bundle, atomically, over whatever file is at `path`.

        Raises: `RunError` where the system refuses; `ConfigError`, `TypeError` and `ValueError` for what could not be loaded again.
        """
        Config.from_dict(self.config)
        for part in ("config", "codec"):
            if not _is_finite(getattr(self, part)):
                raise ValueError(f"{part} holds a number that is not finite: {getattr(self, part)!r}")
        parts = {name: getattr(self, name) for name in ("kind", *_PARTS)}
        write_arrays(Path(path), self.arrays, parts, kind="bundle")

    @classmethod
    def load(cls, path: Path | str) -> "Bundle":
        """Read a bundle, each time as dictionaries and arrays of its own.

        Raises: `BundleError`, and nothing else, whatever is at `path`.
        """
        path = Path(path)
        _check_is_file(path)
        arrays, found = read_arrays(path, kind="bundle")
        for name in ("kind", *_PARTS):
            expected = str if name == "kind" else dict
            if not isinstance(found.get(name), expected):
                noun = "text" if expected is str else "a table"
                raise BundleError(f"{path} is no whole bundle: expected {noun} as its {name!r}; write it again")
        for part in ("config", "codec"):
            if not _is_finite(found[part]):
                raise BundleError(f"{path} is damaged: expected finite numbers in its {part!r}; write it again")
        for name, array in arrays.items():
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                raise BundleError(
                    f"{path} is damaged: its array {name!r} holds numbers that are not finite; write it again"
                )
        _check_config(path, found["config"], found["made_with"])
        return cls(kind=found["kind"], arrays=arrays, **{name: found[name] for name in _PARTS})


def made_with(now: datetime | None = None) -> dict[str, str]:
    """Say with which versions, on what system and when something was made, without loading JAX to find out."""
    moment = (now or datetime.now(UTC)).astimezone(UTC)
    return {
        "elman": _version("elman"),
        "python": platform.python_version(),
        "numpy": _version("numpy"),
        "jax": _version("jax"),
        "platform": f"{platform.system()} {platform.release()} {platform.machine()}",
        "time": moment.isoformat(timespec="seconds"),
    }


_PARTS = ("config", "codec", "made_with", "result")


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "not installed"


def _check_is_file(path: Path) -> None:
    try:
        _explain_if_no_file(path)
    except (OSError, ValueError) as error:  # no permission on the way there; a name that no system accepts
        reason = getattr(error, "strerror", None) or error
        raise BundleError(f"{path} cannot be read: {reason}; check its name and permissions") from error


def _explain_if_no_file(path: Path) -> None:
    if path.is_dir():
        if (path / BUNDLE_NAME).is_file():
            raise BundleError(f"{path} is a run folder, not a bundle: give {path / BUNDLE_NAME}")
        if (path / "config.toml").is_file():
            raise BundleError(
                f"{path} is a run folder that holds no {BUNDLE_NAME} yet: train it further, or give another bundle"
            )
        names = [name for name in _names_in(path) if name.endswith(".safetensors")]
        inside = f": give a file in it, such as {path / min(names)}" if names else ", and holds none: give another path"
        raise BundleError(f"{path} is a folder, not a bundle{inside}")
    # `exists` is also False for a link that leads nowhere, which `lexists` tells apart.
    if not path.exists():
        if not path.parent.is_dir():
            raise BundleError(f"{path} does not exist, nor does its folder {path.parent}: check the path")
        if os.path.lexists(path):
            raise BundleError(f"{path} is a link that leads nowhere: expected a bundle; give the file itself")
        near = suggestion(path.name, _names_in(path.parent))
        raise BundleError(f"{path} does not exist{near or ': check the path'}")


def _names_in(folder: Path) -> list[str]:
    """The names in a folder, as many as are worth comparing with one another."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        return [entry.name for entry in itertools.islice(entries, 1000)]
    return []


def _check_config(path: Path, config: dict[str, Any], origin: dict[str, Any]) -> None:
    size = len(json.dumps(config))
    if size > _MAX_CONFIG_CHARACTERS:
        raise BundleError(
            f"{path} is refused: expected settings of at most {_MAX_CONFIG_CHARACTERS} characters, found {size}; write it again"
        )
    try:
        Config.from_dict(config)
    except (ConfigError, OverflowError) as error:
        reason = str(error) if len(str(error)) <= 300 else str(error)[:297] + "..."
        writer = ascii(origin.get("elman", "unknown"))[:40]
        raise BundleError(
            f"{path} has settings that this elman does not take: {reason} "
            f"(expected the settings of elman {_version('elman')}, found those of {writer}): "
            "load it with the version that wrote it, or upgrade"
        ) from error


def _is_finite(value: Any) -> bool:
    """Whether every number inside is finite."""
    if isinstance(value, dict):
        return all(_is_finite(item) for item in value.values())
    if isinstance(value, (list, tuple)):
        return all(_is_finite(item) for item in value)
    return not isinstance(value, (float, np.floating)) or math.isfinite(value)

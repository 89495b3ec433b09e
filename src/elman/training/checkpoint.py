"""Checkpoints: the whole state of a run, written so that the last good one survives a kill, a crash and a full disk.

A checkpoint is a container of `elman.training.storage` of kind "checkpoint", named by the updates done so far. Floats come back
bit for bit, in the arrays and in the state, NaN and the infinities included, so that a resumed run continues exactly.
"""

import contextlib
import operator
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from elman.errors import BundleError, RunError
from elman.training.storage import TEMPORARY_PREFIX, TEMPORARY_SUFFIX, read_arrays, write_arrays

_NAME = re.compile(r"([0-9]{9,18})\.safetensors")


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A run as it was after `iteration` updates. `state` is plain values as JSON knows them: a tuple comes back as a list."""

    iteration: int
    arrays: dict[str, np.ndarray]
    state: dict[str, Any]
    path: Path


class Checkpoints:
    """The checkpoints of one run folder: `<folder>/checkpoints/000000400.safetensors`, the newest `keep` of them.

    Only the process that owns the run may `save`; any process may ask for the `latest`, also while another one saves.
    """

    def __init__(self, folder: Path | str, keep: int = 2) -> None:
        if keep < 1:
            raise ValueError(f"keep = {keep!r}: expected at least 1 checkpoint to be kept")
        self.folder = Path(folder) / "checkpoints"
        self.keep = keep
        self.skipped: list[tuple[Path, str]] = []
        """What the last call of `latest` passed over, each with the reason."""

    def save(self, iteration: int, arrays: Mapping[str, np.ndarray], state: Mapping[str, Any]) -> Path:
        """Write a checkpoint and, once it is safely there, remove what it replaces.

        That is: older ones beyond `keep`; those of a later iteration, which belong to a future that was given up when the run went
        back; and temporary files that a killed process left.

        Raises: `RunError` where the system refuses; every earlier checkpoint is then still there.
        """
        iteration = operator.index(iteration)
        if not 0 <= iteration < 10**18:
            raise ValueError(f"iteration = {iteration}: expected an integer from 0 to 10**18 - 1")
        try:
            self.folder.mkdir(exist_ok=True)
        except OSError as error:
            raise RunError(
                f"{self.folder} cannot be made: {error.strerror}. Check that the run folder exists and may be written to"
            ) from error
        path = self.folder / f"{iteration:09d}.safetensors"
        write_arrays(path, arrays, {"iteration": iteration, "state": state}, kind="checkpoint")
        self._tidy(iteration)
        return path

    def latest(self) -> Checkpoint | None:
        """Return the newest checkpoint that can be read, or None where there is none at all.

        Raises: `BundleError` where there are some and none can be read.
        """
        self.skipped = []
        for iteration, path in reversed(self._found()):
            try:
                arrays, metadata = read_arrays(path, kind="checkpoint")
                if metadata.get("iteration") != iteration or not isinstance(metadata.get("state"), dict):
                    found = ascii(metadata.get("iteration"))[:40]
                    raise BundleError(
                        f"{path} is no checkpoint of its name: expected iteration {iteration} and its state, "
                        f"found iteration {found}; remove or rename it"
                    )
            except BundleError as error:
                self.skipped.append((path, str(error)))
                continue
            return Checkpoint(iteration, arrays, metadata["state"], path)
        if self.skipped:
            _, reason = self.skipped[0]
            raise BundleError(
                f"none of the {len(self.skipped)} checkpoints in {self.folder} can be read, the newest because {reason}"
            )
        return None

    def _found(self) -> list[tuple[int, Path]]:
        """All files with the name of a checkpoint, by iteration."""
        try:
            paths = list(self.folder.iterdir())
        except FileNotFoundError:
            return []
        except OSError as error:
            raise RunError(f"{self.folder} cannot be read: {error.strerror}. Check its permissions") from error
        matches = [(_NAME.fullmatch(path.name), path) for path in paths]
        return sorted((int(match[1]), path) for match, path in matches if match)

    def _tidy(self, newest: int) -> None:
        found = self._found()
        kept = [path for iteration, path in found if iteration <= newest][-self.keep :]
        superseded = [path for _, path in found if path not in kept]
        leftover = list(self.folder.glob(f"{TEMPORARY_PREFIX}*{TEMPORARY_SUFFIX}"))
        # From the latest down: should this be interrupted, no abandoned future is left to be taken for the newest.
        for path in [*reversed(superseded), *leftover]:
            # What cannot be removed (an open file on Windows) is in nobody's way, and is tried again next time.
            with contextlib.suppress(OSError):
                path.unlink()

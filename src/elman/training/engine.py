"""Setting JAX up: precision, and the cache of compiled programs that makes a second start quick."""

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

import jax
import platformdirs
import zstandard

OVERLAP_SECONDS = 600.0
"""A program that another process was writing while this one looked is looked at again."""


def use_compilation_cache(folder: Path | None = None) -> None:
    """Keep compiled programs in `folder` (by default the user's cache folder), so that only the first start compiles."""
    folder = folder or Path(platformdirs.user_cache_dir("elman")) / "compiled"
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)
        _remove_damaged(folder)


def _remove_damaged(folder: Path) -> None:
    """Take out what a process that was killed while it wrote left cut off: JAX would neither use nor replace it, ever again.

    Only what is newer than the last look is read, so that this costs a start next to nothing.
    """
    stamp, now = folder / "looked-through", time.time()
    seen = stamp.stat().st_mtime - OVERLAP_SECONDS if stamp.exists() else 0.0
    for entry in os.scandir(folder):
        if (
            entry.name.endswith("-cache")
            and entry.stat().st_mtime > seen
            and _is_cut_off(Path(entry.path).read_bytes())
        ):
            os.unlink(entry.path)
    stamp.touch()
    os.utime(stamp, (now, now))


def _is_cut_off(data: bytes) -> bool:
    frame = zstandard.ZstdDecompressor().decompressobj()
    try:
        frame.decompress(data)
    except zstandard.ZstdError:
        return True
    return not frame.eof


@contextlib.contextmanager
def precision(dtype: str) -> Iterator[None]:
    """Inside, JAX computes in `dtype`: float64 exists only where it is asked for."""
    wide = dtype == "float64"
    if wide == jax.config.read("jax_enable_x64"):
        yield  # entering a context that changes nothing would still cost every call inside it its quick path
        return
    with jax.enable_x64(wide):
        yield

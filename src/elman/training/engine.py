"""Setting JAX up: precision, and the cache of compiled programs that makes a second start quick."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import jax
import platformdirs


def use_compilation_cache(folder: Path | None = None) -> None:
    """Keep compiled programs in `folder` (by default the user's cache folder), so that only the first start compiles."""
    folder = folder or Path(platformdirs.user_cache_dir("elman")) / "compiled"
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)


@contextlib.contextmanager
def precision(dtype: str) -> Iterator[None]:
    """Inside, JAX computes in `dtype`: float64 exists only where it is asked for."""
    wide = dtype == "float64"
    if wide == jax.config.read("jax_enable_x64"):
        yield  # entering a context that changes nothing would still cost every call inside it its quick path
        return
    with jax.enable_x64(wide):
        yield

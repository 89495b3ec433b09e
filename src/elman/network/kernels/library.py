"""Finding and loading the compiled part, and saying whether it is in use and why.

It was built when elman was installed, if there was a C++ compiler (`hatch_build.py`). Where it is missing, was built for another
release of XLA, or is switched off by `ELMAN_KERNELS=off`, the scan computes the same.

`ELMAN_INSTRUCTION_SET` (avx512, avx2, plain) asks for less than the processor has, `ELMAN_THREADS` for fewer threads than the
process may use.
"""

import ctypes
import functools
import os
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp

from elman.errors import ConfigError

LIBRARY = Path(__file__).parent / "libkernels.so"
INSTRUCTION_SETS = ("avx512", "avx2", "plain")
TARGETS = (
    "elman_forward",
    "elman_backward",
    "elman_weight_gradient",
    "elman_input_gradient",
    "elman_head_forward",
    "elman_head_backward",
    "elman_classic",
    "elman_sample",
)


@dataclass(frozen=True)
class Status:
    """Which path computes: the instruction set and the threads of the compiled kernels, or why there are none."""

    instruction_set: str | None
    threads: int
    reason: str

    def __str__(self) -> str:
        if self.instruction_set is None:
            return f"XLA scan ({self.reason})"
        plural = "s" if self.threads > 1 else ""
        return f"compiled kernels, {self.instruction_set}, up to {self.threads} thread{plural} ({self.reason})"


def status() -> Status:
    """Which path computes float32 on this machine's CPU, and why."""
    if jax.default_backend() != "cpu":
        return Status(None, 0, f"the kernels are for CPUs, and JAX computes on {jax.default_backend()}")
    return _loaded()


def usable(dtype: jax.typing.DTypeLike) -> bool:
    """Whether arrays of this type can go through the kernels: float32 on a CPU, where there are kernels."""
    return dtype == jnp.float32 and status().instruction_set is not None


def available() -> tuple[str, ...]:
    """The instruction sets that this processor has and the library was compiled for."""
    if not LIBRARY.exists():
        return ()
    library = ctypes.CDLL(str(LIBRARY))
    return tuple(name for name in INSTRUCTION_SETS if library.elman_runs_here(name.encode()))


@functools.cache
def _loaded() -> Status:
    """Load the library and tell XLA of it, once.

    Raises: `ConfigError` when `ELMAN_INSTRUCTION_SET` names none that this processor has.
    """
    wish = os.environ.get("ELMAN_KERNELS", "on")
    if wish not in ("on", "off"):
        raise ConfigError(f"ELMAN_KERNELS = {wish!r} is not possible: on or off")
    if wish == "off":
        return Status(None, 0, "switched off by ELMAN_KERNELS=off")
    if not LIBRARY.exists():
        return Status(None, 0, "no kernels were compiled: install elman again where there is a C++ compiler")
    try:
        library = ctypes.CDLL(str(LIBRARY))
        for name in TARGETS:
            jax.ffi.register_ffi_target(name, jax.ffi.pycapsule(getattr(library, name)), platform="cpu")
    except (OSError, AttributeError) as error:
        return Status(None, 0, f"the compiled kernels cannot be loaded: {error}")
    wanted = os.environ.get("ELMAN_INSTRUCTION_SET")
    if wanted and wanted not in available():
        raise ConfigError(f"ELMAN_INSTRUCTION_SET = {wanted!r} is not possible here: one of {', '.join(available())}")
    library.elman_instruction_set.restype = ctypes.c_char_p
    reason = "asked for by ELMAN_INSTRUCTION_SET" if wanted else "the widest that this processor has"
    return Status(library.elman_instruction_set().decode(), library.elman_threads(), reason)

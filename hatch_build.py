"""Compiles the kernels while elman is being installed, where there is a C++ compiler; without one nothing breaks.

`CXX` names another compiler; `ELMAN_BUILD=off` compiles nothing, `ELMAN_BUILD=require` fails where nothing could be compiled (for
wheels). The same code is compiled once for each instruction set, and the library chooses when it is loaded.
"""

import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

KERNELS = Path("src/elman/network/kernels")
LIBRARY = "libkernels.so"
FLAGS = ["-std=c++17", "-O2", "-fPIC", "-fvisibility=hidden", "-fno-math-errno", "-fno-trapping-math", "-Wno-psabi"]
AVX512 = ["-mavx512f", "-mavx512vl", "-mavx512dq", "-mavx512bw", "-mfma", "-mprefer-vector-width=512"]
AVX2 = ["-mavx2", "-mfma"]


class CustomBuildHook(BuildHookInterface):
    """Hatchling's hook: adds the compiled library to the wheel, and says what the wheel runs on."""

    def initialize(self, version: str, build_data: dict) -> None:
        """Compile before the files of the wheel are gathered."""
        wish = os.environ.get("ELMAN_BUILD", "on")
        library = Path(self.root) / KERNELS / LIBRARY
        library.unlink(missing_ok=True)
        if wish == "off":
            return
        try:
            compile_kernels(library)
        except (OSError, subprocess.CalledProcessError) as error:
            if wish == "require":
                said = getattr(error, "stderr", "") or ""
                raise RuntimeError(f"the kernels could not be compiled: {error}\n{said[-2000:]}") from error
            self.app.display_warning(f"elman's kernels were not compiled, XLA's scan takes their place: {error}")
            return
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{_platform_tag()}"
        build_data["artifacts"].append(str(KERNELS / LIBRARY))


def compile_kernels(library: Path) -> None:
    """Compile every instruction set at once, link them, and put the result in place whole.

    Raises: `OSError` where there is no compiler or no header of XLA's, `CalledProcessError` where it fails.
    """
    if sys.platform != "linux":
        raise OSError(f"only Linux is supported so far, not {sys.platform}")
    compiler = os.environ.get("CXX") or next(filter(None, map(shutil.which, ("c++", "g++", "clang++"))), None)
    if compiler is None:
        raise OSError("there is no C++ compiler")
    headers = _xla_headers()
    sources = library.parent
    sets = {"plain": []}
    if platform.machine() in ("x86_64", "AMD64"):
        sets |= {"avx2": AVX2, "avx512": AVX512}
    with tempfile.TemporaryDirectory() as folder:
        commands, objects = [], []
        for name, flags in reversed(sets.items()):
            defines = [f'-DELMAN_NAME="{name}"', f"-DELMAN_TABLE=kernels_{name}"]
            objects.append(f"{folder}/{name}.o")
            source = str(sources / "instruction_set.cpp")
            commands.append([compiler, *FLAGS, *flags, *defines, "-c", source, "-o", objects[-1]])
        objects.append(f"{folder}/library.o")
        source = str(sources / "library.cpp")
        commands.append([compiler, *FLAGS, "-w", "-isystem", headers, "-c", source, "-o", objects[-1]])
        _run_together(commands)
        made = f"{folder}/{LIBRARY}"
        _run_together([[compiler, "-shared", "-s", "-o", made, *objects, "-lm", "-static-libstdc++", "-static-libgcc"]])
        partial = library.with_suffix(".partial")
        shutil.copyfile(made, partial)
        partial.replace(library)


def _run_together(commands: list[list[str]]) -> None:
    running = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for command in commands]
    said = [process.communicate()[1] for process in running]
    for process, command, errors in zip(running, commands, said, strict=True):
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, command, stderr=errors)


def _xla_headers() -> str:
    """Where jaxlib keeps the header of XLA's foreign functions; it is not imported, only looked for."""
    found = importlib.util.find_spec("jaxlib")
    for folder in (found and found.submodule_search_locations) or ():
        if (Path(folder) / "include" / "xla" / "ffi" / "api" / "ffi.h").exists():
            return str(Path(folder) / "include")
    raise OSError("jaxlib's headers are not there")


def _platform_tag() -> str:
    return f"linux_{platform.machine().lower()}"

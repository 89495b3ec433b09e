"""What happens to the kernels while elman is being installed: compiled where they can be, silently left out where not."""

import importlib.util
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def build(monkeypatch: pytest.MonkeyPatch) -> Any:
    """`hatch_build.py` with a stand-in for hatchling, which only the build's own environment has."""
    interface = types.ModuleType("hatchling.builders.hooks.plugin.interface")
    interface.BuildHookInterface = object  # type: ignore[attr-defined]
    parts = interface.__name__.split(".")
    for depth in range(1, len(parts)):
        name = ".".join(parts[:depth])
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, interface.__name__, interface)
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class App:
    """Where the hook's warnings go."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def display_warning(self, text: str) -> None:
        self.warnings.append(text)


def hook_of(build: Any, root: Path) -> Any:
    hook = build.CustomBuildHook()
    hook.root, hook.app = str(root), App()
    (root / build.KERNELS).mkdir(parents=True)
    return hook


def test_a_compiler_that_fails_leaves_the_scan_and_a_warning(
    build: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "false")
    monkeypatch.delenv("ELMAN_BUILD", raising=False)
    hook, data = hook_of(build, tmp_path), {"artifacts": []}
    hook.initialize("standard", data)
    assert data == {"artifacts": []}, "a wheel for every machine, without a library"
    assert len(hook.app.warnings) == 1
    assert "scan" in hook.app.warnings[0]
    assert not list((tmp_path / build.KERNELS).iterdir())


def test_no_compiler_at_all(build: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(OSError, match="no C\\+\\+ compiler"):
        build.compile_kernels(tmp_path / "libkernels.so")


def test_a_wheel_that_needs_its_kernels_is_not_built_without(
    build: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "false")
    monkeypatch.setenv("ELMAN_BUILD", "require")
    with pytest.raises(RuntimeError, match="could not be compiled"):
        hook_of(build, tmp_path).initialize("standard", {"artifacts": []})


def test_switched_off_nothing_is_compiled_and_an_old_library_goes(
    build: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ELMAN_BUILD", "off")
    hook, data = hook_of(build, tmp_path), {"artifacts": []}
    library = tmp_path / build.KERNELS / build.LIBRARY
    library.write_bytes(b"of another version")
    hook.initialize("standard", data)
    assert data == {"artifacts": []}
    assert not library.exists()


def test_a_library_is_put_in_place_whole_and_named_in_the_wheel(
    build: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ELMAN_BUILD", raising=False)
    compiler = tmp_path / "compiler"
    # Writes what it was called with to the file behind -o.
    compiler.write_text('#!/bin/sh\necho "$@" > "$(echo "$@" | sed "s/.*-o \\([^ ]*\\).*/\\1/")"\n')
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    hook, data = hook_of(build, tmp_path / "tree"), {"artifacts": []}
    hook.initialize("standard", data)
    library = tmp_path / "tree" / build.KERNELS / build.LIBRARY
    assert "-shared" in library.read_text()
    assert [path.name for path in library.parent.iterdir()] == [build.LIBRARY]
    assert data["artifacts"] == [str(build.KERNELS / build.LIBRARY)]
    assert str(data["tag"]).startswith("py3-none-linux_")


def test_no_compiled_file_is_in_the_repository() -> None:
    command = ["git", "ls-files", "src/elman/network/kernels"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("no git checkout")
    assert {Path(name).suffix for name in listed.stdout.split()} == {".py", ".cpp", ".h"}

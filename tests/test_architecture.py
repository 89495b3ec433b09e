"""The house has one direction: a module imports from its own room and from the rooms above it, and nothing goes in circles."""

import ast
import itertools
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "elman"

# From top to bottom, as docs/design.md draws them; names side by side do not know each other.
ROOMS = [
    {"errors"},
    {"config"},
    {"network"},
    {"training"},
    {"text", "series"},
    {"reports"},
    {"insight"},
    {"shipping", "studio"},
    {"commands"},
    {"cli"},
    {"__main__"},
]

MODULES = sorted(PACKAGE.rglob("*.py"))


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(path: Path) -> set[str]:
    """Every elman module that `path` imports anywhere in it, functions included."""
    names = set()
    known = {module_name(other) for other in MODULES}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute here"
            assert node.module is not None
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return {name for name in names if name in known and name != "elman"}


def level(module: str) -> int:
    room = module.split(".")[1]
    found = [number for number, rooms in enumerate(ROOMS) if room in rooms]
    assert found, f"{module} stands in no room: add it to docs/design.md and to this list"
    return found[0]


@pytest.mark.parametrize("path", [p for p in MODULES if p != PACKAGE / "__init__.py"], ids=module_name)
def test_imports_point_upwards(path: Path) -> None:
    own = module_name(path)
    for other in imported(path):
        same_room = own.split(".")[1] == other.split(".")[1]
        assert same_room or level(other) < level(own), f"{own} imports {other}, which is not above it"


def test_no_module_imports_itself_by_a_detour() -> None:
    graph = {module_name(path): imported(path) - {module_name(path)} for path in MODULES}
    # A package's __init__ gathers its modules' names for those below it: the modules do not import it back.
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " -> ".join([*trail, module])
        if module not in done:
            for other in sorted(graph.get(module, ())):
                visit(other, (*trail, module))
            done.add(module)

    for module in sorted(graph):
        visit(module, ())


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_modules_and_functions_stay_readable(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    assert len(source.splitlines()) <= 600, f"{path} has more than 600 lines"
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            length = node.end_lineno - node.lineno + 1
            assert length <= 60, f"{path}: {node.name} has {length} lines"


def test_no_drawers_for_everything() -> None:
    forbidden = {"utils.py", "helpers.py", "common.py", "misc.py"}
    assert not [path for path in MODULES if path.name in forbidden]


@pytest.mark.parametrize(
    "arguments",
    [
        ["-c", "import elman"],
        *(["-m", "elman", *words, "--help"] for words in ([], ["train", "text"], ["train", "series"])),
    ],
)
def test_light_starts_load_no_jax(arguments: list[str]) -> None:
    """`-X importtime` lists every module that was loaded."""
    finished = subprocess.run(
        [sys.executable, "-X", "importtime", *arguments], capture_output=True, text=True, check=True
    )
    loaded = {line.rsplit("|", 1)[1].strip().split(".")[0] for line in finished.stderr.splitlines() if "|" in line}
    assert "elman" in loaded
    assert not loaded & {"jax", "jaxlib", "numpy", "polars", "equinox", "optax", "rich", "matplotlib"}


def test_every_path_in_pyproject_exists() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    paths = [
        *settings["hatch"]["build"]["targets"]["wheel"]["packages"],
        *settings["hatch"]["build"]["targets"]["sdist"]["include"],
        *settings["ruff"]["src"],
        *settings["mypy"]["files"],
        *settings["pytest"]["ini_options"]["testpaths"],
    ]
    assert not [path for path in paths if not (ROOT / path).exists()]


def test_production_code_does_not_ask_whether_it_is_tested() -> None:
    assert not [path for path in MODULES if "pytest" in path.read_text(encoding="utf-8")]


def test_every_error_has_one_root_below_exception() -> None:
    import elman.errors as errors

    classes = [value for value in vars(errors).values() if isinstance(value, type)]
    assert len(classes) >= 6
    assert all(issubclass(value, errors.ElmanError) for value in classes)
    assert errors.ElmanError.__mro__[1] is Exception
    assert all(value.__doc__ and value.__doc__ in vars(value).values() for value in classes)


def test_what_is_imported_is_declared() -> None:
    """What only another package happens to bring along is missing on somebody's machine one day."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared, optional = (
        {re.split(r"[<>=!~\[ ]", line)[0].lower().replace("-", "_") for line in lines}
        for lines in (settings["dependencies"], itertools.chain(*settings["optional-dependencies"].values()))
    )
    used = set()
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                used |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                used.add(node.module.split(".")[0])
    assert used - set(sys.stdlib_module_names) - {"elman"} <= declared | optional
    # jaxlib is jax's other half; zoneinfo reads tzdata where the system has no zones of its own.
    assert declared - used == {"jaxlib", "tzdata"}, "declared and not used"

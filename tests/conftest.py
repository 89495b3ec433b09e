"""Settings for the whole suite, and what every test may ask for."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

# Before JAX starts, for this process and those that tests start: nearly all of the suite's time is compiling, and programs that run
# for milliseconds need no optimizing. The same operations in the same types, translated as they stand; three times as fast.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1",
)

import jax

from browser import browser

# The same examples on every run and no folder of examples in the repository: a failure can be repeated as it was.
hypothesis.settings.register_profile("suite", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("suite")

collect_ignore_glob = [
    "golden/make_*.py"
]  # scripts that made the files beside them, with libraries that the suite does without

REPOSITORY = Path(__file__).parents[1]


# The files that take longest: first, so that no worker is left alone with one of them at the end.
LONG = (
    "test_lecture",
    "test_pages",
    "test_notebooks",
    "test_kernels",
    "test_studio_work",
    "test_distribution",
    "test_resume",
    "test_cli",
    "test_studio_runs",
)
LONG += ("test_studio_unroll", "test_studio_inside", "test_serving_http", "test_series_training", "test_bad_input")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first, in the order above; within a file the order stays."""
    items.sort(key=lambda item: LONG.index(item.path.stem) if item.path.stem in LONG else len(LONG))


@pytest.fixture
def repository() -> Path:
    """The root of the repository."""
    return REPOSITORY


@pytest.fixture
def shared_data() -> Path:
    """The folder of data files beside the repository; a test that needs it is skipped where it is absent."""
    folder = REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no data folder at {folder}")
    return folder


@pytest.fixture(scope="session")
def compiled_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compiled programs of this session, shared by its tests, its workers and the processes they start: each is compiled once."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base) / "compiled"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory, compiled_cache: Path) -> dict[str, str]:
    """For processes of this module: a cache of their own, compiled programs shared with the session."""
    folder = tmp_path_factory.mktemp("cache")
    (folder / "elman").mkdir()
    (folder / "elman" / "compiled").symlink_to(compiled_cache, target_is_directory=True)
    return {**os.environ, "XDG_CACHE_HOME": str(folder)}


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, compiled_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's cache folder is an empty one of the test's own, also for processes that the test starts.

    Only what is compiled is shared within the session, by processes and by the tests themselves.
    """
    folder = tmp_path_factory.mktemp("cache")
    (folder / "elman").mkdir()
    (folder / "elman" / "compiled").symlink_to(compiled_cache, target_is_directory=True)
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    settings = {
        "jax_compilation_cache_dir": str(compiled_cache),
        "jax_persistent_cache_min_compile_time_secs": 0.1,
        "jax_persistent_cache_min_entry_size_bytes": 0,
    }
    for name, value in settings.items():
        if getattr(jax.config, name) != value:
            jax.config.update(name, value)
    return folder


@pytest.fixture
def key() -> Callable[[int], jax.Array]:
    """A random key by number: `key(0)`."""
    return jax.random.key


@pytest.fixture
def enable_x64() -> Iterator[None]:
    """float64 exists within the test."""
    with jax.enable_x64(True):
        yield


@pytest.fixture(params=["float64", "float32"])
def dtype(request: pytest.FixtureRequest) -> Iterator[str]:
    """The test runs once in each precision."""
    with jax.enable_x64(request.param == "float64"):
        yield request.param


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A real browser; tests that ask for it are marked with `browser.needs_browser`."""
    with browser() as opened:
        yield opened

"""Bundles: one file, all of it checked, errors that say what to give instead."""

import math
import os
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from elman.config import Config
from elman.errors import BundleError, ConfigError, ElmanError, RunError
from elman.training.bundle import BUNDLE_NAME, Bundle, made_with
from elman.training.storage import read_arrays, write_arrays


def make_bundle(**changes: Any) -> Bundle:
    parts: dict[str, Any] = {
        "kind": "text",
        "arrays": {"w": np.array([1.5, -2.0], np.float32), "b": np.array(3, np.int8)},
        "config": {"network": {"hidden": 2}},
        "codec": {"symbols": ["a", "é", "\u200d", "👍"]},
        "made_with": {"elman": "0.1.0"},
        "result": {"loss": 1.25},
    }
    return Bundle(**{**parts, **changes})


def content(bundle: Bundle) -> tuple[Any, ...]:
    arrays = [(name, array.dtype, array.shape, array.tobytes()) for name, array in sorted(bundle.arrays.items())]
    return arrays, bundle.kind, bundle.config, bundle.codec, bundle.made_with, bundle.result


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "bundle.safetensors"


def test_all_of_a_bundle_comes_back(path: Path) -> None:
    bundle = make_bundle(config=Config().replace(hidden=7, minutes=0.3).to_dict(), made_with=made_with())
    bundle.save(path)
    loaded = Bundle.load(str(path))
    assert content(loaded) == content(bundle)
    assert Config.from_dict(loaded.config) == Config().replace(hidden=7, minutes=0.3)


def test_a_result_may_be_infinite(path: Path) -> None:
    make_bundle(result={"loss": math.inf}).save(path)
    assert Bundle.load(path).result == {"loss": math.inf}


def test_two_loads_share_nothing(path: Path) -> None:
    make_bundle().save(path)
    first, second = Bundle.load(path), Bundle.load(path)
    first.arrays["w"][:] = 0
    first.codec["symbols"].clear()
    assert content(second) == content(make_bundle())


def test_saving_changes_nothing_of_the_bundle(path: Path) -> None:
    bundle = make_bundle()
    arrays = dict(bundle.arrays)
    bundle.save(path)
    assert content(bundle) == content(make_bundle())
    assert all(bundle.arrays[name] is array for name, array in arrays.items())


def test_every_flipped_bit_is_refused_or_changes_nothing(path: Path) -> None:
    bundle = make_bundle()
    bundle.save(path)
    expected, whole = content(bundle), path.read_bytes()
    assert len(whole) < 2048
    descriptor = os.open(path, os.O_WRONLY)
    refused = 0
    try:
        for position, byte in enumerate(whole):
            for bit in range(8):
                os.pwrite(descriptor, bytes([byte ^ 1 << bit]), position)
                try:
                    assert content(Bundle.load(path)) == expected, f"bit {bit} of byte {position}"
                except BundleError:
                    refused += 1
            os.pwrite(descriptor, bytes([byte]), position)
    finally:
        os.close(descriptor)
    assert content(Bundle.load(path)) == expected
    assert refused == 8 * len(whole), "today every flip is noticed"


def test_made_with_names_versions_platform_and_time() -> None:
    noon = datetime(2026, 1, 2, 13, tzinfo=timezone(timedelta(hours=1)))
    found = made_with(noon)
    assert list(found) == ["elman", "python", "numpy", "jax", "platform", "time"]
    assert found["numpy"] == np.__version__
    assert found["time"] == "2026-01-02T12:00:00+00:00"
    assert all(found.values())
    assert datetime.now(UTC) - datetime.fromisoformat(made_with()["time"]) < timedelta(minutes=1)


@pytest.mark.parametrize("part", ["config", "codec"])
def test_numbers_that_are_not_finite_are_not_saved_where_they_would_be_computed_with(path: Path, part: str) -> None:
    with pytest.raises((ValueError, ConfigError), match="nan"):
        make_bundle(**{part: {"training": {"momentum": math.nan}}}).save(path)
    assert not path.exists()


def test_an_impossible_config_is_not_saved(path: Path) -> None:
    with pytest.raises(ConfigError, match="hiden"):
        make_bundle(config={"network": {"hiden": 2}}).save(path)
    assert not path.exists()


def test_a_setting_of_another_version_names_file_setting_and_versions(path: Path) -> None:
    make_bundle(made_with={"elman": "0.9.9"}).save(path)
    _, parts = read_arrays(path, kind="bundle")
    write_arrays(path, {}, {**parts, "config": {"network": {"hiden": 2}}}, kind="bundle")
    with pytest.raises(BundleError) as caught:
        Bundle.load(path)
    for words in (str(path), "'hiden'", "did you mean 'hidden'", "0.9.9", "upgrade"):
        assert words in str(caught.value)


def test_additions_of_later_versions_are_passed_over(path: Path) -> None:
    make_bundle().save(path)
    arrays, parts = read_arrays(path, kind="bundle")
    write_arrays(path, arrays, {**parts, "license": "CC0"}, kind="bundle")
    assert content(Bundle.load(path)) == content(make_bundle())


def test_a_missing_file_suggests_the_nearest_name(tmp_path: Path) -> None:
    make_bundle().save(tmp_path / "shakespeare.safetensors")
    with pytest.raises(BundleError, match=r"does not exist: did you mean 'shakespeare\.safetensors'\?"):
        Bundle.load(tmp_path / "shakespear.safetensors")
    with pytest.raises(BundleError, match="does not exist: check the path"):
        Bundle.load(tmp_path / "q")
    with pytest.raises(BundleError, match="nor does its folder"):
        Bundle.load(tmp_path / "missing" / "best.safetensors")


def test_a_link_that_leads_nowhere_is_called_so(path: Path) -> None:
    path.symlink_to(path.with_name("missing"))
    with pytest.raises(BundleError, match="is a link that leads nowhere"):
        Bundle.load(path)


def test_a_folder_says_which_file_to_give(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="is a folder, not a bundle, and holds none"):
        Bundle.load(tmp_path)
    (tmp_path / "config.toml").write_text("")
    with pytest.raises(BundleError, match=f"is a run folder that holds no {BUNDLE_NAME} yet"):
        Bundle.load(tmp_path)
    make_bundle().save(tmp_path / BUNDLE_NAME)
    with pytest.raises(BundleError) as caught:
        Bundle.load(tmp_path)
    assert str(caught.value) == f"{tmp_path} is a run folder, not a bundle: give {tmp_path / BUNDLE_NAME}"


def test_a_folder_of_bundles_names_one(tmp_path: Path) -> None:
    make_bundle().save(tmp_path / "mine.safetensors")
    with pytest.raises(BundleError, match=r"give a file in it, such as .*mine\.safetensors"):
        Bundle.load(tmp_path)


@pytest.mark.parametrize("name", ["zero\0byte", "n" * 300, "bundle.safetensors/inside", ""])
def test_impossible_paths_are_errors_of_ours(path: Path, name: str) -> None:
    make_bundle().save(path)
    with pytest.raises(BundleError):
        Bundle.load(path.parent / name)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read and write everything")
def test_no_permission_is_an_error_of_ours(tmp_path: Path) -> None:
    folder = tmp_path / "closed"
    folder.mkdir()
    make_bundle().save(folder / "a.safetensors")
    folder.chmod(0)
    try:
        with pytest.raises(BundleError, match="Permission denied"):
            Bundle.load(folder / "a.safetensors")
        with pytest.raises(RunError, match="Permission denied"):
            make_bundle().save(folder / "b.safetensors")
    finally:
        folder.chmod(0o700)


def test_saving_to_a_folder_is_an_error_of_ours(tmp_path: Path) -> None:
    with pytest.raises(ElmanError, match="Is a directory"):
        make_bundle().save(tmp_path)

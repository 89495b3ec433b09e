"""What the documents say and what the program does are the same thing."""

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType

import pytest

import elman
from elman.config import Config, options

ROOT = Path(__file__).parents[1]


def load_generator() -> ModuleType:
    specification = importlib.util.spec_from_file_location("docs_generate", ROOT / "docs" / "generate.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


GENERATOR = load_generator()


@pytest.mark.parametrize("name", sorted(GENERATOR.PAGES))
def test_generated_pages_are_current(name: str) -> None:
    assert (ROOT / "docs" / name).read_text(encoding="utf-8") == GENERATOR.PAGES[name](), "run `make fix`"


def test_every_public_name_can_be_fetched_and_is_documented() -> None:
    reference = (ROOT / "docs" / "library.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"^\| `(\w+)", reference, flags=re.MULTILINE))
    public = set(elman.__all__) - {"__version__"}
    assert documented == public
    for name in public:
        assert getattr(elman, name).__doc__, f"{name} has no docstring"


def test_unknown_names_of_the_package_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Elmann'"):
        elman.Elmann  # noqa: B018


def test_the_map_of_the_house_in_the_readme_is_the_house() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    block = readme.split("```text\nsrc/elman/", 1)[1].split("```", 1)[0]
    drawn = set(re.findall(r"^    (\w+)(?:/|\.py)", block, flags=re.MULTILINE))
    rooms = {
        path.stem
        for path in (ROOT / "src" / "elman").iterdir()
        if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert drawn == rooms - {"__init__"}


def test_relative_links_lead_somewhere() -> None:
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]:
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            if not target.startswith(("http://", "https://")):
                assert (page.parent / target).exists(), f"{page.name} links to {target}, which is not there"


def test_commands_in_the_readme_parse() -> None:
    from elman.cli import build_parser

    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    lines = [
        line.split("#")[0].strip()
        for block in re.findall(r"```sh\n(.*?)```", readme, flags=re.DOTALL)
        for line in block.splitlines()
    ]
    commands = [line.split() for line in lines if line.startswith("elman ")]
    assert len(commands) >= 6
    for command in commands:
        _, unknown = build_parser().parse_known_args([word.strip("'\"") for word in command[1:]])
        assert not [word for word in unknown if word.startswith("-")], command


def test_every_setting_survives_toml_and_json() -> None:
    from elman.config import from_toml, to_toml

    config = Config().replace(hidden=12, minutes=0.5, layer_norm=True, learning_rate=0.1 + 0.2)
    assert Config.from_dict(from_toml(to_toml(config.to_dict()), "test")) == config
    assert Config.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_every_setting_says_what_it_is() -> None:
    for option in options():
        assert len(option.help) > 10, option.name
        assert option.choices or option.kind in (bool, str) or option.minimum is not None, f"{option.name} has no range"
        if option.default is not None:
            assert option.check(option.default) == option.default

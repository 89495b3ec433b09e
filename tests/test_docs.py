"""What the documents say and what the program does are the same thing."""

import hashlib
import importlib.util
import json
import re
import shlex
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
    for page in [*ROOT.glob("*.md"), *sorted((ROOT / "docs").rglob("*.md"))]:
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            if not target.startswith(("http://", "https://")):
                assert (page.parent / target).exists(), f"{page.name} links to {target}, which is not there"


@pytest.mark.parametrize("page", sorted(path.name for path in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]))
def test_commands_parse(page: str) -> None:
    from elman.cli import build_parser

    text = (ROOT / page if page == "README.md" else ROOT / "docs" / page).read_text(encoding="utf-8")
    lines = [
        line.split("#")[0].strip()
        for block in re.findall(r"```(?:sh|bash)\n(.*?)```", text, flags=re.DOTALL)
        for line in block.splitlines()
    ]
    commands = [
        shlex.split(line) for line in lines if line.startswith("elman ") and "…" not in line and "|" not in line
    ]
    assert len(commands) >= (6 if page == "README.md" else 0)
    for command in commands:
        _, unknown = build_parser().parse_known_args(command[1:])
        assert not [word for word in unknown if word.startswith("-")], command


@pytest.mark.parametrize("recipe", sorted(path.name for path in (ROOT / "docs" / "recipes").iterdir()))
def test_commands_of_the_recipes_parse(recipe: str) -> None:
    from elman.cli import build_parser

    text = (ROOT / "docs" / "recipes" / recipe).read_text(encoding="utf-8")
    together = next(iter(re.findall(r"set -- (.*)", text)), "")
    commands = re.findall(r"(?:srun|exec) elman (.*)", text)
    assert len(commands) == 2
    for command in commands:
        words = shlex.split(command.replace('"$@"', together).replace("$JOB_COMPLETION_INDEX", "0"))
        parsed = build_parser().parse_args(words)
        assert getattr(parsed, "distributed", False) or parsed.coordinator


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


PERSIAN = {
    "README.fa.md": "README.md",
    "docs/fa/lecture.md": "docs/lecture.md",
    "docs/fa/start.md": "docs/start.md",
}
"""Pages in Persian and the English ones that they follow; of the README as far as its heading "Elsewhere"."""


def test_every_persian_page_follows_an_english_one() -> None:
    assert {
        path.relative_to(ROOT).as_posix() for path in [*ROOT.glob("*.fa.md"), *(ROOT / "docs" / "fa").glob("*.md")]
    } == set(PERSIAN)


@pytest.mark.parametrize("name", PERSIAN)
def test_persian_pages_are_in_step(name: str) -> None:
    """Whoever changes the English page changes the Persian one too, and then writes the new digest into its first line."""
    english = (ROOT / PERSIAN[name]).read_text(encoding="utf-8").split("\n## Elsewhere")[0]
    persian = (ROOT / name).read_text(encoding="utf-8")
    digest = hashlib.sha256(english.encode()).hexdigest()[:16]
    assert persian.startswith(f"<!-- {PERSIAN[name]} {digest} -->\n")
    fenced = r"^```(?:sh|python|text)\n.*?^```"
    whole = (ROOT / PERSIAN[name]).read_text(encoding="utf-8")
    blocks = re.findall(fenced, persian, flags=re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 6
    assert [block for block in blocks if block not in whole] == []


@pytest.mark.parametrize("name", PERSIAN)
def test_persian_is_written_as_persian(name: str) -> None:
    """Persian letters and not their Arabic twins, Persian digits, no space before a mark, all of it from right to left."""
    text = (ROOT / name).read_text(encoding="utf-8")
    prose = re.sub(r"^```.*?^```$|`[^`]*`|\]\([^)]*\)|<!--.*?-->", "…", text, flags=re.MULTILINE | re.DOTALL)
    for wrong in "\u064a\u0643\u0660\u0661\u0662\u0663\u0664\u0665\u0666\u0667\u0668\u0669":
        assert wrong not in prose, f"U+{ord(wrong):04X}"
    assert not re.findall(r" [،؛:.؟!](?:\s|$)", prose)
    assert not re.findall(r"(?<![\u0600-\u06ff\u200c])(?:می|نمی) [\u0600-\u06ff]", prose), (
        "a zero-width non-joiner binds the prefix"
    )
    assert text.count('<div dir="rtl" lang="fa">') == text.count("</div>") > 3
    outside = re.sub(r'<div dir="rtl" lang="fa">.*?</div>', "", text, flags=re.DOTALL)
    assert not re.findall(r"[\u0600-\u06ff]", outside)

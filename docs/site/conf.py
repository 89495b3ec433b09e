"""The documentation as a site: `make docs` turns the Markdown of this repository, as it stands, into `site/`.

The pages are written for a forge: plain Markdown, links from file to file. What the site adds is added here: the navigation, the
entries of the reference, and the direction of the Persian pages. Nothing is fetched, neither while building nor while reading.
"""

import importlib
import inspect
import re
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

import elman

ROOT = Path(__file__).parents[2]

project = "elman"
version = release = elman.__version__
copyright = "the authors of elman, Apache-2.0"
language = "en"
root_doc = "docs/index"

extensions = ["myst_parser", "sphinx.ext.autodoc"]

NAVIGATION: dict[str, list[tuple[str, str]]] = {
    "Start": [
        ("Five minutes", "docs/start"),
        ("The lecture", "docs/lecture"),
        ("Notebooks", "docs/notebooks/README"),
        ("README", "README"),
    ],
    "Guides": [
        ("Cells, sizes, budgets", "docs/choosing"),
        ("Your own table", "docs/forecasting"),
        ("Inside a network", "docs/insight"),
        ("The studio", "docs/studio"),
        ("Taking a model elsewhere", "docs/exports"),
        ("Serving", "docs/serving"),
        ("Several processes and hosts", "docs/scaling"),
        ("Reliability", "docs/reliability"),
        ("Security", "SECURITY"),
    ],
    "Reference": [
        ("The library", "docs/library"),
        ("Training text", "docs/reference/text"),
        ("Forecasting", "docs/reference/series"),
        ("Networks", "docs/reference/network"),
        ("Runs, settings, errors", "docs/reference/runs"),
        ("Looking inside", "docs/reference/insight"),
        ("Shipping", "docs/reference/shipping"),
        ("Commands", "docs/commands"),
        ("Settings", "docs/settings"),
        ("The saved file", "docs/format"),
    ],
    "How it is made": [
        ("The house", "docs/design"),
        ("How fast it is", "docs/benchmarks"),
        ("The benchmarks", "benchmarks/README"),
        ("Log of experiments", "docs/log"),
        ("Contributing", "CONTRIBUTING"),
        ("Changes", "CHANGELOG"),
    ],
    "فارسی": [
        ("آغاز در پنج دقیقه", "docs/fa/start"),
        ("درس، گام به گام", "docs/fa/lecture"),
        ("المان", "README.fa"),
    ],
}
"""What stands in the margin: captions, and under each the titles and pages. A page that is missing here fails the build."""

PERSIAN = {"README.fa", *(f"docs/fa/{path.stem}" for path in (ROOT / "docs" / "fa").glob("*.md"))}

include_patterns = ["*.md", "benchmarks/*.md", "docs/**.md"]
exclude_patterns = [".*", "site", "build", "dist", "runs", "src", "tests", "docs/pictures"]

# Markdown -----------------------------------------------------------------------------------------------------------------------

myst_heading_anchors = 4
suppress_warnings = [
    "myst.header"
]  # the README and the changelog step over a level of headings where a forge shows it better
smartquotes = False  # `--flag` is two hyphens, in prose too
highlight_language = "text"

# The look -----------------------------------------------------------------------------------------------------------------------

html_theme = "furo"
html_title = f"elman {version}"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {"top_of_page_buttons": [], "navigation_with_keys": True}
pygments_style = "default"
pygments_dark_style = "github-dark"

# The reference ------------------------------------------------------------------------------------------------------------------

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 88
toc_object_entries_show_parents = "hide"

ENTRY = re.compile(r"^- `(elman[.\w]*\.(\w+))`$", flags=re.MULTILINE)
"""A line of a page below docs/reference: a list of names on a forge, their signatures and docstrings on the site."""


def entry(match: re.Match[str]) -> str:
    """The directive that stands in the place of a name."""
    module, name = match[1].rsplit(".", 1)
    value = getattr(importlib.import_module(module), name)
    if inspect.isclass(value):
        error = issubclass(value, BaseException)
        kind, options = ("autoexception", []) if error else ("autoclass", ["   :members:"])
        options += ["   :show-inheritance:"] if value.__bases__ != (object,) else []
    elif callable(value):
        kind, options = "autofunction", []
    else:
        kind, options = "autodata", ["   :no-value:"]
    return "\n".join(["```{eval-rst}", f".. {kind}:: {match[1]}", *options, "```", ""])


def read_source(_: Sphinx, page: str, content: list[str]) -> None:
    """What the site adds to a page before it is parsed."""
    if page == root_doc:
        content[0] += "\n" + "\n".join(map(toctree, NAVIGATION))
    elif page.startswith("docs/reference/"):
        content[0] = ENTRY.sub(entry, content[0])
    elif page in PERSIAN:
        # A forge needs each passage marked; here the whole page runs from right to left.
        content[0] = re.sub(r'^<div dir="rtl" lang="fa">$|^</div>$|^<!--.*-->$', "", content[0], flags=re.MULTILINE)


def toctree(caption: str) -> str:
    """The part of the navigation under one caption, without pages that are not there."""
    pages = [f"{title} </{page}>" for title, page in NAVIGATION[caption] if (ROOT / f"{page}.md").exists()]
    return "\n".join(["```{toctree}", ":hidden:", f":caption: {caption}", "", *pages, "```", ""])


def plain_docstring(_app: Sphinx, _what: str, _name: str, value: Any, _options: Any, lines: list[str]) -> None:
    """The docstrings' few marks, as reStructuredText: `code`, indented examples and formulas, and what each argument is."""
    names = argument_names(value)
    found: list[str] = []
    prose: list[str] = []
    inside = False  # of an indented block
    for number, line in enumerate([*lines, ""]):
        indented = line.startswith("    ")
        if inside and line.strip() and not indented:
            inside = False
        if indented and not inside and (number == 0 or not lines[number - 1].strip()):
            language = "pycon" if line.lstrip().startswith(">>>") else "text"
            found += [f".. code-block:: {language}", ""]
            inside = True
        if inside:
            found.append(line)
        elif line.strip():
            prose.append(line.strip())
        else:
            found += [*paragraphs(" ".join(prose), names), ""]
            prose = []
    lines[:] = found


def plain_signature(
    _app: Sphinx, _what: str, _name: str, _value: Any, _options: Any, arguments: str | None, returns: str | None
) -> tuple[str | None, str | None]:
    """Types by the names that the sources give them, where Python has unfolded them."""
    return tuple(None if part is None else plain_types(part) for part in (arguments, returns))  # type: ignore[return-value]


def plain_types(text: str) -> str:
    """`jaxlib._jax.Array` is JAX's `Array`, and a key is one of three kinds of arrays."""
    text = re.sub(
        r"\b(?:jaxlib\._jax|jax|numpy|pathlib\._local|pathlib|collections\.abc|typing)\.(?=[A-Za-z])", "", text
    )
    return text.replace("Key[Array, ''] | UInt32[Array, '2'] | UInt32[Array, '4']", "PRNGKeyArray")


def argument_names(value: Any) -> set[str]:
    """Of a function, or of what makes a class, its fields among them; nothing where there are none."""
    try:
        names = set(inspect.signature(value).parameters)
    except (TypeError, ValueError):
        return set()
    return names | set(getattr(value, "__annotations__", ()))


def paragraphs(prose: str, names: set[str]) -> list[str]:
    """A paragraph, with a point of a list for each `name: meaning` in it, and a line of its own for what is raised."""
    pieces = re.split(r"(?:(?<=^)|(?<=[.;)`] ))(?=(?:[a-z_]+|Raises|Reference): )", prose)
    found: list[str] = []
    for piece in pieces:
        name, colon, meaning = piece.partition(": ")
        if colon and name in names:
            found.append(f"- **{name}**: {marked(meaning.strip())}")
        elif colon and name in ("Raises", "Reference"):
            found += ["", f"**{name}**: {marked(meaning.strip())}"]
        elif found and found[-1]:
            found[-1] += f" {marked(piece.strip())}"
        else:
            found.append(marked(piece.strip()))
        if colon and name in names and len(found) > 1 and found[-2] and not found[-2].startswith("- "):
            found.insert(-1, "")
    return found


def marked(line: str) -> str:
    """A line of prose: code stays code, and nothing else is markup."""
    parts = re.split(r"(`[^`]+`)", line)
    return "".join(
        (f"`{part}`" + ("\\ " if parts[place + 1][:1].isalnum() else ""))
        if place % 2
        else re.sub(r"([*|_\\`])", r"\\\1", part)
        for place, part in enumerate(parts)
    )


def turn_persian(_: Sphinx, page: str, __: str, context: dict[str, Any], ___: Any) -> None:
    """Persian pages, and what stands on them, run from right to left."""
    if page in PERSIAN:
        marks = 'dir="rtl" lang="fa" class="persian"'
        context["body"] = f"<div {marks}>{context['body']}</div>"
        context["toc"] = context["toc"].replace("<ul>", f"<ul {marks}>", 1)


def lead_in(app: Sphinx, failure: Exception | None) -> None:
    """`site/index.html`: what one opens."""
    if failure is None and app.builder.format == "html":
        target = f"{root_doc}.html"
        page = f'<!doctype html><meta charset="utf-8"><title>elman</title><meta http-equiv="refresh" content="0; url={target}">'
        (Path(app.outdir) / "index.html").write_text(f'{page}<a href="{target}">elman</a>\n', encoding="utf-8")


def setup(app: Sphinx) -> None:
    """What is changed where."""
    app.connect("source-read", read_source)
    app.connect("autodoc-process-docstring", plain_docstring)
    app.connect("autodoc-process-signature", plain_signature)
    app.connect("html-page-context", turn_persian)
    app.connect("build-finished", lead_in)

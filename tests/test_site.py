"""The documentation as a site: built once, then looked at as a reader's browser would, with no network."""

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import elman
from pages import ROOT

PERSIAN = ("README.fa", "docs/fa/start", "docs/fa/lecture")
LOADING = {
    "script": "src",
    "img": "src",
    "iframe": "src",
    "source": "src",
    "video": "src",
    "audio": "src",
    "object": "data",
}
"""What a browser fetches by itself, and by which attribute."""


class Page(HTMLParser):
    """One page: what it links to, what it loads, which places it has, and which passages run from right to left."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.links: list[str] = []
        self.loads: list[str] = []
        self.places: set[str] = set()
        self.directions: list[tuple[str | None, str | None]] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = dict(attributes)
        self.places.update(value for name in ("id", "name") if (value := found.get(name)))
        if "dir" in found:
            self.directions.append((found["dir"], found.get("lang")))
        if tag == "a" and found.get("href"):
            self.links.append(str(found["href"]))
        elif tag == "link" and found.get("rel") not in ("next", "prev", "index", "search", "canonical"):
            self.loads.append(str(found["href"]))
        elif tag in LOADING and found.get(LOADING[tag]):
            self.loads.append(str(found[LOADING[tag]]))
        self.loads += [part.split()[0] for part in (found.get("srcset") or "").split(",") if part.strip()]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, as `make docs` builds it: what would be a warning there fails here."""
    folder = tmp_path_factory.mktemp("site")
    recipe = re.search(
        r"-m sphinx (.*) --doctree-dir \S+ \. site$", (ROOT / "Makefile").read_text(), flags=re.MULTILINE
    )
    assert recipe
    command = [
        sys.executable,
        "-m",
        "sphinx",
        *recipe[1].split(),
        "--doctree-dir",
        folder / "doctrees",
        ".",
        folder / "site",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "site"


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[str, Page]:
    """All pages by their path without its ending."""
    return {path.relative_to(site).with_suffix("").as_posix(): Page(path) for path in sorted(site.rglob("*.html"))}


def test_every_document_is_a_page(pages: dict[str, Page]) -> None:
    documents = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "benchmarks" / "README.md"]
    assert {path.relative_to(ROOT).with_suffix("").as_posix() for path in documents} <= set(pages)
    assert {"index", "search", "genindex"} <= set(pages)


def test_every_link_leads_to_a_page_and_a_place_on_it(site: Path, pages: dict[str, Page]) -> None:
    by_path = {page.path: page for page in pages.values()}
    wrong = []
    for page in pages.values():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme in ("http", "https", "mailto"):
                continue
            target = (page.path.parent / unquote(parts.path)).resolve() if parts.path else page.path
            inside = target == site or site in target.parents
            if not inside or not target.exists():
                wrong.append(f"{page.path.name}: {link} is not there")
            elif parts.fragment and target in by_path and unquote(parts.fragment) not in by_path[target].places:
                wrong.append(f"{page.path.name}: {link} has no such place")
    assert wrong == []
    assert sum(len(page.links) for page in pages.values()) > 1000


def test_nothing_is_loaded_from_another_host(site: Path, pages: dict[str, Page]) -> None:
    for page in pages.values():
        for load in page.loads:
            parts = urlsplit(load)
            assert not parts.scheme or parts.scheme == "data", f"{page.path.name} loads {load}"
            assert not parts.netloc, f"{page.path.name} loads {load}"
            assert not parts.path or (page.path.parent / unquote(parts.path)).exists(), f"{page.path.name}: no {load}"
    for style in site.rglob("*.css"):
        text = style.read_text(encoding="utf-8")
        loaded = re.findall(r"@import\s+(\S+)|url\(\s*[\"']?([^)\"']+)", text)
        assert [one for one in loaded if "//" in "".join(one) and not "".join(one).startswith("data:")] == [], (
            style.name
        )
    for script in site.rglob("*.js"):
        text = script.read_text(encoding="utf-8")
        assert not re.findall(r"(?:fetch|import|importScripts|open|src\s*=)\s*\(?\s*[\"']https?:", text), script.name


def test_persian_runs_from_right_to_left_and_nothing_else_does(pages: dict[str, Page]) -> None:
    for name, page in pages.items():
        if name in PERSIAN:
            assert page.directions == [("rtl", "fa")] * len(page.directions)
            text = page.path.read_text(encoding="utf-8")
            body = text.split('<div dir="rtl" lang="fa" class="persian">', 1)[1]
            assert re.search(r"<h1>[^<]*[\u0600-\u06ff]", body), name
            assert body.count("<section") >= 4
        else:
            assert page.directions == [], name


def test_every_public_name_has_an_entry(pages: dict[str, Page]) -> None:
    places = set().union(*(page.places for name, page in pages.items() if name.startswith("docs/reference/")))
    assert {f"elman.{name}" for name in elman.__all__ if name != "__version__"} <= places
    assert {"elman.Forecaster.predict", "elman.TextModel.sample", "elman.network.AbstractCell.step"} <= places
    listed = re.findall(
        r"^- `(elman[.\w]+)`$",
        "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "docs" / "reference").glob("*.md")),
        flags=re.MULTILINE,
    )
    assert len(listed) == len(set(listed)) > 50
    assert set(listed) <= places


def test_the_reference_says_what_the_docstrings_say(pages: dict[str, Page]) -> None:
    """Arguments are points of a list, formulas and examples stand as they are, and code is code."""
    text = pages["docs/reference/network"].path.read_text(encoding="utf-8")
    plain = re.sub(r"<[^>]+>", "", text)
    assert "n_t = tanh(x_t W_xn + b_n + r_t * (h_{t-1} W_hn + b_hn))" in plain
    assert "&gt;&gt;&gt; ys, carry = unroll(cell, jax.numpy.ones((10, 2, 3)))" in plain
    assert re.search(r"<li><p><strong>carry</strong>: the state before the first step; None: zeros\.", text)
    assert "`" not in plain.split("On this page")[0]


def test_the_search_needs_no_server(site: Path) -> None:
    page = (site / "search.html").read_text(encoding="utf-8")
    assert 'src="searchindex.js' in page
    index = (site / "searchindex.js").read_text(encoding="utf-8")
    assert index.startswith("Search.setIndex(")
    assert '"kneser' in index.lower() or "kneser:" in index

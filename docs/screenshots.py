"""Take the pictures of docs/studio.md: `python docs/screenshots.py RUNS` with a folder that holds trained runs, text and series.

The newest text run and the newest series run are shown; Chromium is needed (`make browser`). Look at every picture before it is
committed.
"""

import argparse
import os
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

from elman.studio.runs_index import RunsIndex

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))
from browser import browser, opened_page, running_studio  # noqa: E402

PICTURES = ROOT / "docs" / "pictures"
DESK = {"viewport": {"width": 1280, "height": 800}}
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}


def shots(text: str, series: str) -> dict[str, tuple[str, dict[str, Any]]]:
    """By name of the picture: the page, and how it is looked at."""
    dark: dict[str, Any] = {**DESK, "color_scheme": "dark"}
    persian: dict[str, Any] = {**DESK, "cookies": {"elman-language": "fa"}}
    return {
        "runs": ("/", DESK),
        "run": (f"/?run={text}", {"viewport": {"width": 1280, "height": 1500}}),
        "run-phone": (f"/?run={text}", PHONE),
        "run-persian": (f"/?run={text}", persian),
        "train": ("/train", DESK),
        "unroll": ("/unroll", dark),
        "forecast": (f"/forecast?run={series}", DESK),
        "inside": (f"/inside?run={text}", DESK),
    }


def main() -> None:
    """Open each page, wait until nothing moves any more, and keep what is seen."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--only", nargs="+", help="names of pictures")
    parser.add_argument("--wait", type=float, default=8.0, help="seconds that a page gets to fill itself")
    chosen = parser.parse_args()
    found = RunsIndex(chosen.runs.absolute()).runs()
    text, series = (
        quote(next(run.name for run in found if run.kind == kind and run.has_model), safe="")
        for kind in ("text", "series")
    )
    with browser() as chromium, running_studio(chosen.runs.absolute(), dict(os.environ)) as address:
        for name, (path, options) in shots(text, series).items():
            if chosen.only and name not in chosen.only:
                continue
            with opened_page(chromium, address, **options) as opened:
                page = opened.go(path)
                page.wait_for_timeout(1000 * chosen.wait)
                page.screenshot(path=PICTURES / f"studio-{name}.png")


if __name__ == "__main__":
    main()

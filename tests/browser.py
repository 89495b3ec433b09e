"""A real browser for the tests of pages: headless Chromium, and what every page has to keep to."""

import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

FLAGS = [
    "--no-sandbox",  # it will not start for root otherwise
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

needs_browser = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium on this machine: install it with `make browser`"
)


@dataclass
class Opened:
    """A page that is open, and what went wrong in it so far."""

    page: Any
    address: str
    problems: list[str] = field(default_factory=list)

    def go(self, path: str) -> Any:
        """Open a page of the studio and wait until it has filled itself."""
        self.page.goto(self.address + path)
        self.page.wait_for_selector("main h1")
        return self.page


@contextmanager
def browser() -> Iterator[Any]:
    """Chromium, driven by Playwright; its profile is a new one."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=FLAGS)
        try:
            yield opened
        finally:
            opened.close()


@contextmanager
def opened_page(chromium: Any, address: str, **options: Any) -> Iterator[Opened]:
    """A page in a context of its own. At the end nothing may have gone wrong: no error, nothing fetched from elsewhere."""
    cookies = options.pop("cookies", {})
    context = chromium.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
    context.set_default_timeout(20_000)
    context.add_cookies([{"name": name, "value": value, "url": address} for name, value in cookies.items()])
    page = context.new_page()
    opened = Opened(page, address)
    own = re.compile(rf"({re.escape(address)}|{re.escape(address.replace('http', 'ws', 1))}|data:|blob:|about:)")

    def said(message: Any) -> None:
        if message.type == "error":
            opened.problems.append(f"console: {message.text}")

    page.on("console", said)
    page.on("pageerror", lambda error: opened.problems.append(f"error: {error}"))
    page.on("request", lambda asked: None if own.match(asked.url) else opened.problems.append(f"fetched: {asked.url}"))
    page.on("dialog", lambda dialog: (opened.problems.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    try:
        yield opened
    finally:
        context.close()
    assert not opened.problems, "\n".join(opened.problems)


@contextmanager
def running_studio(runs: Path, environment: dict[str, str], *words: str) -> Iterator[str]:
    """`elman studio` over a folder of runs, in a process of its own; its address."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "elman",
        "studio",
        "--runs",
        str(runs),
        "--port",
        str(port),
        "--no-browser",
        *words,
    ]
    log = runs.parent / f"studio-{port}.log"
    environment = {name: value for name, value in environment.items() if not name.startswith("PYTEST_")}
    with log.open("w") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
    address = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < deadline:
            with suppress(OSError), urllib.request.urlopen(address, timeout=5):
                break
            time.sleep(0.1)
        assert process.poll() is None, log.read_text()
        yield address
    finally:
        process.terminate()
        process.wait(20)
    assert "Traceback" not in log.read_text(), log.read_text()

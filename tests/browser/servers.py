"""Start a real Streamlit server, wait for a page of it, and note what goes wrong in the page."""

import json
import os
import re
import socket
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest
from playwright.sync_api import ConsoleMessage, Page, TimeoutError, expect

ROOT = Path(__file__).parents[2]
DEMO = Path(__file__).with_name("demo.py")
LOADED = Path(__file__).with_name("loaded.py")
PATIENCE = 120_000
"""Milliseconds; the cores may be busy with other tests."""

DRAWN = """() => [...document.querySelectorAll('.js-plotly-plot')].every(
    plot => plot.layout && plot._fullData)"""
"""Every figure of the page has its data; one that is being drawn anew has none for a moment."""

expect.set_options(timeout=PATIENCE)


def page_titles() -> dict[str, str]:
    """Path -> title of all pages, from the list in app/main.py."""
    text = (ROOT / "app" / "main.py").read_text()
    found = re.findall(r'Entry\("\w+", "([^"]+)", "(\w+)"', text)
    return {path: title for title, path in found}


def listed_pages() -> list[str]:
    """The paths of all pages."""
    return list(page_titles())


@dataclass
class Dashboard:
    """A running server: its address, its log so far, the id of its process."""

    url: str
    log_file: Path
    process: int

    @property
    def log(self) -> str:
        return self.log_file.read_text()

    @property
    def running(self) -> bool:
        try:
            os.kill(self.process, 0)
        except ProcessLookupError:
            return False
        return True


class Servers:
    """Starts servers, each in a fork of one process that has loaded everything; see loaded.py."""

    def __init__(self) -> None:
        self._loaded: subprocess.Popen[str] | None = None

    def start(self, folder: Path, place: Path, script: Path | None = None) -> Dashboard:
        """Serve the runs of `folder`; log and cache lie in `place`. script: not app/main.py."""
        port, log_file = free_port(), place / "log"
        log_file.touch()
        settings = {"MPDIT_CACHE": str(place / "cache"), "MPDIT_RUNS": str(folder)}
        order = {"folder": str(folder), "port": port, "log": str(log_file)}
        order |= {"environment": settings, "script": script and str(script)}
        server = Dashboard(f"http://localhost:{port}", log_file, self._ordered(order))
        wait_until_healthy(server)
        return server

    def end(self) -> None:
        """At once; how a server ends when asked kindly is shown by the tests of the command."""
        if self._loaded is not None:
            self._loaded.communicate()  # no more orders

    def _ordered(self, order: dict[str, Any]) -> int:
        if self._loaded is None:
            command, pipe = [sys.executable, str(LOADED)], subprocess.PIPE
            self._loaded = subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True)
        assert self._loaded.stdin and self._loaded.stdout
        print(json.dumps(order), file=self._loaded.stdin, flush=True)
        answer = self._loaded.stdout.readline()
        if not answer:
            pytest.fail("The process that forks the dashboards ended; stderr says why.")
        return int(answer)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


def wait_until_healthy(server: Dashboard) -> None:
    deadline = time.monotonic() + PATIENCE / 1000
    while time.monotonic() < deadline and server.running:
        try:
            with urlopen(f"{server.url}/_stcore/health", timeout=1):
                return
        except (URLError, OSError):
            time.sleep(0.05)
    pytest.fail(f"The dashboard did not start: {server.log}")


@dataclass
class Watch:
    """What went wrong in a page while a test looked at it."""

    wrong: list[str] = field(default_factory=list)

    def over(self, page: Page) -> None:
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.wrong.append(f"error in the page: {error}"))
        page.on("request", lambda request: self._request(request.url))

    def at_the_end(self, page: Page) -> None:
        if page.locator('[data-testid="stException"]').count():
            self.wrong.append(f"an exception box on {page.url}")

    def _console(self, message: ConsoleMessage) -> None:
        # Streamlit looks for its server below the page's path first, and then beside it.
        looked_for = "/_stcore/" in message.location["url"] and "404" in message.text
        if message.type == "error" and not looked_for:
            self.wrong.append(f"console: {message.text} ({message.location['url']})")

    def _request(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("data", "blob") and parts.hostname not in ("localhost", None):
            self.wrong.append(f"a request left the machine: {url}")


def settle(page: Page) -> None:
    """Wait until the script has run and nothing is being drawn."""
    expect(page.locator("h2").first).to_be_visible()
    app = page.locator('[data-testid="stApp"]')
    expect(app).to_have_attribute("data-test-script-state", re.compile("notRunning", re.I))
    page.wait_for_timeout(200)  # an address is completed one tick after the script
    page.wait_for_function(DRAWN)


def choose(page: Page, label: str, option: str) -> None:
    """Pick an option of a select box; its list closes when the page is drawn anew beneath it."""
    wanted = page.get_by_role("option", name=option, exact=True)
    for _ in range(6):
        page.get_by_role("combobox", name=label).first.click()
        with suppress(TimeoutError):
            wanted.click(timeout=5000)
            break
    else:
        raise AssertionError(f"{label} offers no {option}")
    settle(page)


def drawn(page: Page, place: int = 0) -> list[dict]:
    """The traces of a figure as the browser holds them: name, type, colour of the line, data."""
    expect(page.locator(".js-plotly-plot").nth(place)).to_be_visible()
    page.wait_for_function(DRAWN)
    return page.evaluate(
        """place => document.querySelectorAll('.js-plotly-plot')[place]._fullData.map(trace => ({
            name: trace.name, type: trace.type, colour: trace.line && trace.line.color,
            ...Object.fromEntries(['x', 'y', 'z', 'text', 'r', 'theta'].map(
                axis => [axis, trace[axis] && Array.from(trace[axis], v => v && v.length
                    && typeof v != 'string' ? Array.from(v) : v)]))}))""",
        place,
    )

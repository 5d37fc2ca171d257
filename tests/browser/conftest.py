"""A real Streamlit server on a free port, and pages of a real Chromium that forgive nothing.

A test asks for `dashboard` (folder of runs -> server) and `visit` (address -> page):

    def test_something(dashboard, visit, five_runs):
        page = visit(dashboard(five_runs).url + "/magnitudes?runs=A,E")

After the test the page must have had no error in its console, no request to another machine, and
no exception box.
"""

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest
from playwright.sync_api import Page, expect
from small_runs import ladder, modulation_runs, write_run, write_runs

ROOT = Path(__file__).parents[2]
DEMO = Path(__file__).with_name("demo.py")
SERVE = "import sys; from pathlib import Path; from app.serve import serve; " + (
    "serve([Path(sys.argv[1])], int(sys.argv[2]), server_headless=True)"
)
PATIENCE = 60_000
"""Milliseconds; two cores may be busy with other tests."""


@dataclass
class Dashboard:
    """A running server: its address, its log so far, its process."""

    url: str
    log_file: Path
    process: subprocess.Popen

    @property
    def log(self) -> str:
        return self.log_file.read_text()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


def start(command: list[str], port: int, log_file: Path, environment: dict[str, str]) -> Dashboard:
    """Start a server and wait until it answers."""
    with log_file.open("w") as log:
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=log, stderr=log, env={**os.environ, **environment}
        )
    url = f"http://localhost:{port}"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urlopen(f"{url}/_stcore/health", timeout=1):
                return Dashboard(url, log_file, process)
        except (URLError, OSError):
            time.sleep(0.1)
    process.kill()
    pytest.fail(f"The dashboard did not start: {log_file.read_text()}")


@pytest.fixture(scope="session")
def dashboard(tmp_path_factory) -> Iterator:
    """dashboard(folder, script=None): the server of these runs, started once for all tests.

    script: another entry than app/main.py, such as `DEMO`."""
    running: dict[tuple, Dashboard] = {}

    def serve(folder: Path, script: Path | None = None) -> Dashboard:
        if (folder, script) not in running:
            port, place = free_port(), tmp_path_factory.mktemp("server")
            command = [sys.executable, "-c", SERVE, str(folder), str(port)]
            if script is not None:
                options = ["--server.headless=true", f"--server.port={port}"]
                command = [sys.executable, "-m", "streamlit", "run", str(script), *options]
            environment = {"MPDIT_CACHE": str(place / "cache"), "MPDIT_RUNS": str(folder)}
            running[folder, script] = start(command, port, place / "log", environment)
        return running[folder, script]

    yield serve
    for server in running.values():
        server.process.terminate()
        server.process.wait(10)


@dataclass
class Watch:
    """What went wrong in a page while a test looked at it."""

    wrong: list[str] = field(default_factory=list)

    def over(self, page: Page) -> None:
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.wrong.append(f"error in the page: {error}"))
        page.on("request", lambda request: self._request(request.url))

    def _console(self, message) -> None:
        if message.type == "error":
            self.wrong.append(f"console: {message.text}")

    def _request(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("data", "blob") and parts.hostname not in ("localhost", None):
            self.wrong.append(f"a request left the machine: {url}")


@pytest.fixture
def visit(browser) -> Iterator:
    """visit(address, width=1440, dark=False, new=True): a page that has finished drawing."""
    watch, contexts = Watch(), []

    def open_page(address: str, width: int = 1440, dark: bool = False) -> Page:
        scheme = "dark" if dark else "light"
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        context.set_default_timeout(PATIENCE)
        contexts.append(context)
        page = context.new_page()
        watch.over(page)
        page.goto(address)
        settle(page)
        return page

    yield open_page
    for context in contexts:
        for page in context.pages:
            if page.locator('[data-testid="stException"]').count():
                watch.wrong.append(f"an exception box on {page.url}")
        context.close()
    assert not watch.wrong


def settle(page: Page) -> None:
    """Wait until the script has run and nothing is being drawn."""
    expect(page.locator("h2").first).to_be_visible(timeout=PATIENCE)
    app = page.locator('[data-testid="stApp"]')
    expect(app).to_have_attribute("data-test-script-state", re.compile("notRunning", re.I))
    page.wait_for_timeout(150)  # an address is completed one tick after the script


@pytest.fixture(scope="session")
def five_runs(tmp_path_factory) -> Path:
    """A to E, tiny and untrained."""
    return write_runs(tmp_path_factory.mktemp("five"), ladder())


@pytest.fixture(scope="session")
def ten_runs(tmp_path_factory) -> Path:
    """A to E, five of the modulation study, and a folder that is no run any more."""
    folder = write_runs(tmp_path_factory.mktemp("ten"), ladder() | modulation_runs())
    write_run(folder, "broken", ladder()["A"])
    (folder / "broken" / "run.json").write_text('{"format": 1, ')
    return folder


@pytest.fixture(scope="session")
def one_run(tmp_path_factory) -> Path:
    """A single run, without averages."""
    folder = tmp_path_factory.mktemp("one")
    write_run(folder, "mine", ladder()["E"], averages=False)
    return folder

"""A real Streamlit server on a free port, and pages of a real Chromium that forgive nothing.

A test asks for `dashboard` (folder of runs -> server) and `visit` (address -> page):

    def test_something(dashboard, visit, five_runs):
        page = visit(dashboard(five_runs).url + "/magnitudes?runs=A,E")

After the test the page must have had no error in its console, no request to another machine, and
no exception box. `servers.settle(page)` waits until a click has been worked off.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page
from servers import PATIENCE, Dashboard, Servers, Watch, settle
from small_runs import ladder, modulation_runs, write_run, write_runs


@pytest.fixture(scope="session")
def dashboard(tmp_path_factory) -> Iterator:
    """dashboard(folder, script=None): the server of these runs, started once for all tests.

    script: another entry than app/main.py, such as `servers.DEMO`."""
    servers, running = Servers(), dict[tuple, Dashboard]()

    def serve(folder: Path, script: Path | None = None) -> Dashboard:
        if (folder, script) not in running:
            place = tmp_path_factory.mktemp("server")
            running[folder, script] = servers.start(folder, place, script)
        return running[folder, script]

    yield serve
    servers.end()


@pytest.fixture
def visit(browser) -> Iterator:
    """visit(address, width=1440, dark=False): a new visitor's page that has finished drawing."""
    watch, contexts = Watch(), []

    def open_page(address: str, width: int = 1440, dark: bool = False) -> Page:
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme="dark" if dark else "light"
        )
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
            watch.at_the_end(page)
        context.close()
    assert not watch.wrong


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

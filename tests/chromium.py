"""The real browser of the browser tests: where it is, how to get it, how it is started."""

import os
import shutil
from pathlib import Path

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
HOW_TO_GET_IT = (
    "Chromium is missing, and this test drives a real browser. Debian or Ubuntu: "
    "`sudo apt-get install chromium`; macOS: `brew install --cask chromium`; "
    "or name an installed one: `CHROMIUM=/path/to/chromium make test`."
)
# No sandbox: containers and root have none. The rest keeps the browser from calling home, so
# that a request which leaves the machine is the page's.
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)


def chromium_or_reason() -> Path:
    """The path of a Chromium; without one the test is skipped, and fails under CI=true."""
    for name in (os.environ.get("CHROMIUM"), *NAMES):
        if name and (found := shutil.which(name)):
            return Path(found)
    if os.environ.get("CI") == "true":
        pytest.fail(HOW_TO_GET_IT, pytrace=False)
    pytest.skip(HOW_TO_GET_IT)

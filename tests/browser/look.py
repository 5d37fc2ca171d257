"""Screenshots of pages, to be looked at: every width, light and dark.

    python tests/browser/look.py FOLDER_OF_RUNS OUT [--paths runs,magnitudes?t=0] [--widths 1440]

Starts the dashboard on the folder (or takes `--url`), and writes OUT/<path>-<width>-<scheme>.png.
"""

import argparse
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

from chromium import ARGUMENTS, chromium_or_reason  # noqa: E402
from servers import PATIENCE, Servers, listed_pages, settle  # noqa: E402

WIDTHS = (1440, 1024, 390)
SCHEMES = ("light", "dark")


def main() -> None:
    given = arguments()
    given.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place, sync_playwright() as playwright:
        servers = Servers()
        url = given.url or servers.start(given.runs, Path(place)).url
        browser = playwright.chromium.launch(
            executable_path=chromium_or_reason(), args=list(ARGUMENTS)
        )
        for path in given.paths:
            for width in given.widths:
                for scheme in given.schemes:
                    picture(browser, f"{url}/{path}", width, scheme, given)
        browser.close()
        servers.end()


def picture(
    browser: Browser, address: str, width: int, scheme: Any, given: argparse.Namespace
) -> None:
    """Open the address as a new visitor and photograph the whole page."""
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    page.goto(address)
    settle(page)
    if width > 800:
        wait_for_figures(page, given.wait)
    else:
        page.wait_for_timeout(given.wait)
    grow_to_content(page)
    name = re.sub(r"\W+", "_", address.split("/", 3)[3]).strip("_") or "first"
    file = given.out / f"{name}-{width}-{scheme}.png"
    page.screenshot(path=file)
    print(file)
    context.close()


def wait_for_figures(page: Page, wait: int) -> None:
    """Until no progress card is left, then a moment for the figures to draw."""
    page.wait_for_function("!document.body.innerText.includes('Computing: ')")
    page.wait_for_timeout(wait)


def grow_to_content(page: Page) -> None:
    """The content scrolls inside the page, so the window is made as high as the content."""
    inner = "document.querySelector('[data-testid=stMainBlockContainer]').scrollHeight"
    height = max(900, int(page.evaluate(inner)) + 40)
    page.set_viewport_size({"width": page.viewport_size["width"], "height": min(height, 8000)})
    page.wait_for_timeout(500)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--url", help="a dashboard that is running already")
    parser.add_argument("--paths", type=lambda text: text.split(","), default=listed_pages())
    parser.add_argument("--widths", type=lambda t: [int(w) for w in t.split(",")], default=WIDTHS)
    parser.add_argument("--schemes", type=lambda text: text.split(","), default=SCHEMES)
    parser.add_argument("--wait", type=int, default=1000, help="milliseconds after the script")
    return parser.parse_args()


if __name__ == "__main__":
    main()

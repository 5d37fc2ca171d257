"""What the dashboard makes its reader wait for, on the shipped runs, in a real Chromium.

One server, started before anything is timed. `answer`: from a new browser's call of the address
until its sentence can be read, and `first` until a figure is drawn and the script has ended;
nobody has asked the server for that page before. `again`: the latter in a second new browser.
`script`: how long the script runs when that one reloads, as the browser sees it while it draws
(an upper bound of the server's time; median of 3).
Then one step of a slider: from the key until the page has ended drawing.
"""

import re
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Page, expect, sync_playwright

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "browser")]

from chromium import ARGUMENTS, chromium_or_reason  # noqa: E402
from servers import PATIENCE, Servers, listed_pages, settle  # noqa: E402

SLIDERS = {"magnitudes": "Timestep", "modulation": "Timestep", "theory": "Timestep"}
WATCH = """
window.ran = [];
window.seen = {};
const SIGHTS = {
  answer: '[data-testid=stMarkdownContainer] strong', figure: '.js-plotly-plot .main-svg',
};
new MutationObserver(() => {
  const now = performance.now();
  for (const [name, selector] of Object.entries(SIGHTS))
    if (!(name in window.seen) && document.querySelector(selector)) window.seen[name] = now;
  const app = document.querySelector('[data-testid=stApp]');
  const running = app && app.getAttribute('data-test-script-state') === 'running';
  if (running && window.since === undefined) window.since = now;
  if (!running && window.since !== undefined) {
    window.ran.push(now - window.since);
    window.since = undefined;
    window.seen.end = now;
  }
}).observe(document, {subtree: true, attributes: true, childList: true});
"""
"""Runs in the page: Playwright looks once a second, which is too seldom for what is timed here."""


def main(paths: Sequence[str]) -> None:
    """Print a line per page, then one per slider of these pages."""
    with tempfile.TemporaryDirectory() as place, sync_playwright() as playwright:
        servers = Servers()
        url = servers.start(ROOT / "checkpoints", Path(place)).url
        browser = playwright.chromium.launch(
            executable_path=chromium_or_reason(), args=list(ARGUMENTS)
        )
        print(f"{'page':15} {'answer':>7} {'first':>7} {'again':>7}  script")
        for path in paths:
            (answer, first, _), (_, again, script) = (
                opened(browser, f"{url}/{path}") for _ in range(2)
            )
            seconds = " ".join(f"{each:5.2f} s" for each in (answer, first, again))
            print(f"{path:15} {seconds}  {script * 1000:4.0f} ms", flush=True)
        for path, label in SLIDERS.items():
            if path not in paths:
                continue
            print(f"a step of {label} on {path}: {stepped(browser, f'{url}/{path}', label):.2f} s")
        browser.close()
        servers.end()


def opened(browser: Browser, address: str) -> tuple[float, float, float]:
    """Seconds until a new visitor reads the answer, sees a figure, and of a reload's script."""
    with visitor(browser) as page:
        see(page, address)
        seen = page.evaluate("window.seen")
        scripts = []
        for _ in range(3):
            see(page, address)
            scripts.append(page.evaluate("window.ran.reduce((a, b) => a + b)") / 1000)
        whole = max(seen["figure"], seen["end"])
        return seen["answer"] / 1000, whole / 1000, statistics.median(scripts)


def see(page: Page, address: str) -> None:
    """Open the address; until a figure stands and its script has ended."""
    page.goto(address)
    wait_for_figure(page)


def wait_for_figure(page: Page) -> None:
    """Until a figure stands and the script has ended."""
    expect(page.locator(".js-plotly-plot .main-svg").first).to_be_visible()
    app = page.locator("[data-testid=stApp]")
    expect(app).to_have_attribute("data-test-script-state", re.compile("notRunning", re.I))


def stepped(browser: Browser, address: str, label: str) -> float:
    """Median seconds of a step of the slider with that label."""
    with visitor(browser) as page:
        see(page, address)
        settle(page)
        slider = page.get_by_role("slider", name=label).first
        seconds = []
        for key in ("ArrowRight", "ArrowLeft") * 3:
            slider.focus()
            page.evaluate("window.ran = []")
            page.keyboard.press(key)
            page.wait_for_function("window.ran.length > 0")
            seconds.append(page.evaluate("window.ran.reduce((a, b) => a + b)") / 1000)
            settle(page)
        return statistics.median(seconds)


@contextmanager
def visitor(browser: Browser) -> Iterator[Page]:
    """A page of a browser that has seen nothing yet."""
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    context.set_default_timeout(PATIENCE)
    context.add_init_script(WATCH)
    try:
        yield context.new_page()
    finally:
        context.close()


if __name__ == "__main__":
    main(sys.argv[1:] or listed_pages())

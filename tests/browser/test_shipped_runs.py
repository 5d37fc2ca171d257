"""The runs that ship: findings and their links, and pages that have nothing left to compute."""

import re
from pathlib import Path
from urllib.parse import urlencode

import pytest
from playwright.sync_api import expect
from servers import listed_pages, settle

from app.components.findings import OPENS

pytestmark = pytest.mark.browser

SHIPPED = Path(__file__).parents[2] / "checkpoints"


def sentences(page):
    return page.locator(".st-key-findings [data-testid='stPageLink'] a")


def test_the_runs_page_opens_with_findings_and_each_opens_its_view(visit, dashboard):
    page = visit(dashboard(SHIPPED).url + "/runs")
    expect(sentences(page)).to_have_count(5)
    told = sentences(page).all_inner_texts()
    factors = [float(re.search(r"a factor of ([\d.]+) \(", text)[1]) for text in told]
    assert factors == sorted(factors, reverse=True)
    expect(
        page.get_by_text(re.compile(r"Largest effect first, of \d+ comparisons"))
    ).to_be_visible()
    for place in range(5):
        before = page.url
        sentences(page).nth(place).click()
        page.wait_for_url(lambda url, before=before: url.split("?")[0] != before.split("?")[0])
        expect(page.get_by_role("heading", level=2)).to_be_visible()
        expect(page.get_by_text("This page has no setting called")).to_have_count(0)
        page.go_back()
        expect(sentences(page)).to_have_count(5)


def test_every_measure_opens_a_page_with_settings_it_has(visit, dashboard):
    """Asked of one page at once; the interventions, which exclude each other, of the last one."""
    asked: dict[str, dict[str, str]] = {}
    for path, settings in OPENS.values():
        asked.setdefault(path, {}).update(settings("rotation"))
    for path, settings in asked.items():
        page = visit(f"{dashboard(SHIPPED).url}/{path}?runs=rotation&{urlencode(settings)}")
        expect(page.locator(".js-plotly-plot").first).to_be_visible()
        settle(page)
        expect(page.get_by_text("no setting called")).to_have_count(0)


@pytest.mark.parametrize("path", listed_pages())
def test_what_a_page_shows_first_of_the_shipped_runs_is_there_already(path, visit, dashboard):
    page = visit(f"{dashboard(SHIPPED).url}/{path}")
    expect(page.locator(".js-plotly-plot").first).to_be_visible()
    settle(page)
    waiting = page.get_by_text(re.compile("^(Computing|Not computed yet|Left out)"))
    expect(waiting.filter(visible=True)).to_have_count(0)

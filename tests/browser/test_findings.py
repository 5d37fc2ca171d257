"""Findings on the runs that ship: sentences from stored results, each a link to its view."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import expect

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
    url = dashboard(SHIPPED).url
    for path, settings in OPENS.values():
        query = "&".join(f"{name}={value}" for name, value in settings("rotation").items())
        page = visit(f"{url}/{path}?runs=rotation,scale-rotation&{query}")
        expect(page.get_by_role("heading", level=2)).to_be_visible()
        expect(page.get_by_text("no setting called")).to_have_count(0)

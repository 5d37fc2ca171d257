"""The page of interventions in a real Chromium: before and after, the list, its link."""

import re

import pytest
from playwright.sync_api import Page, expect
from servers import settle

from analysis.interventions import InterventionSettings, intervened_samples
from mpdit_core.interventions import parse_interventions
from mpdit_core.runs import load_run

pytestmark = pytest.mark.browser

FAST = "steps=3&n=10"
GRID = ".st-key-before-after .js-plotly-plot"


def sampled(page: Page) -> None:
    """Wait for the grid; press the button that says its cost, if nobody has sampled yet."""
    grid = page.locator(GRID)
    button = page.get_by_role("button", name=re.compile(r"Sample before and after, about \d+ s"))
    expect(grid.or_(button)).to_be_visible()
    if button.is_visible():
        button.click()
    expect(grid).to_be_visible()


def rows_of(page: Page) -> dict:
    script = """plot => ({rows: plot._fullLayout.yaxis.ticktext,
        labels: plot._fullLayout.xaxis.ticktext,
        images: plot._fullData[0].z.map(row => Array.from(row)),
        differences: plot._fullData[1].z.map(row => Array.from(row))})"""
    return page.locator(GRID).evaluate(script)


def test_samples_before_and_after_stand_above_their_difference_and_the_list_can_be_changed(
    dashboard, visit, five_runs
):
    page = visit(dashboard(five_runs).url + f"/interventions?runs=A,E&run=E&{FAST}")
    sampled(page)
    expect(
        page.get_by_text(re.compile("MLP of block 1 skipped: in E .*n = 10 pairs"))
    ).to_be_visible()
    drawn = rows_of(page)
    assert drawn["rows"] == ["before", "after", "difference"]
    skip = parse_interventions("skip@1:mlp")
    for top, chosen in ((0, ()), (9, skip)):
        settings = InterventionSettings(steps=3, n=10, interventions=chosen)
        table = intervened_samples(load_run(five_runs / "E"), "ema-0.100", settings)
        assert drawn["images"][top][:8] == pytest.approx(table["pixels"][0][:8].tolist(), abs=1e-3)
    before, after, difference = drawn["images"][3], drawn["images"][12], drawn["differences"][21]
    assert difference[5] == pytest.approx(after[5] - before[5], abs=1e-4)
    assert re.fullmatch(r"0<br>(<b>)?\d → \d(</b>)?", drawn["labels"][0])

    page.get_by_role("button", name="Add an intervention").click()
    page.get_by_role("button", name="Add", exact=True).click()
    settle(page)
    expect(page.get_by_text("2. every branch")).to_be_visible()
    assert "skip%401%3Amlp%3Bscale%3Dnone" in page.url.replace("*", "%2A")
    content = page.get_by_test_id("stMainBlockContainer")
    content.get_by_role("button", name="Remove").first.click()
    settle(page)
    expect(page.get_by_text("1. every branch with scale without effect")).to_be_visible()


def test_two_visitors_who_intervene_at_once_each_see_their_own(dashboard, visit, five_runs):
    url = dashboard(five_runs).url + "/interventions?runs=E&run=E&steps=4&n=10&do="
    pages = {text: visit(url + text) for text in ("skip@1:attn", "scale=none")}
    for page in pages.values():
        page.get_by_role("button", name=re.compile("Sample before and after")).first.click()
    for text, page in pages.items():
        expect(page.locator(GRID)).to_be_visible()
        settings = InterventionSettings(steps=4, n=10, interventions=parse_interventions(text))
        table = intervened_samples(load_run(five_runs / "E"), "ema-0.100", settings)
        after = rows_of(page)["images"][9][:8]
        assert after == pytest.approx(table["pixels"][0][:8].tolist(), abs=1e-3)


def test_a_link_opens_its_interventions_and_says_where_they_cannot_act(dashboard, visit, ten_runs):
    url = dashboard(ten_runs).url
    link = f"/interventions?runs=A,scale-rotation&run=scale-rotation&{FAST}&do=angle*0@2:mlp"
    page = visit(url + link)
    sampled(page)
    expect(page.get_by_text("1. MLP of block 2 with rotation angles × 0")).to_be_visible()
    page.get_by_role("tab", name="Recognized, all runs in view").click()
    expect(page.get_by_text("Left out: A: 'angle*0@2:mlp' cannot act here")).to_be_visible()
    expect(page.locator(".js-plotly-plot").filter(visible=True).last).to_contain_text("change (95")
    page.goto(url + link.replace("run=scale-rotation", "run=A").replace("angle*0", "angel*0"))
    settle(page)
    expect(page.get_by_text("do = angel*0@2:mlp is not possible here")).to_be_visible()

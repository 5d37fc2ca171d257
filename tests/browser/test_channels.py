"""The page of channels and tokens in a real Chromium: maps, bars, token map, a click, its tabs."""

import re

import pytest
from playwright.sync_api import Page, expect
from servers import drawn, settle

pytestmark = pytest.mark.browser

FIGURES = ".js-plotly-plot"


def maps_of(page: Page, place: int) -> dict[str, list]:
    """Run -> the numbers of its panel."""
    return {trace["name"]: trace["z"] for trace in drawn(page, place) if trace["type"] == "heatmap"}


def click_on(page: Page, place: int, panel: int, x: float, y: float) -> None:
    """Click at a share of the panel's width and height."""
    settle(page)
    page.locator(FIGURES).nth(place).evaluate("figure => figure.scrollIntoView({block: 'center'})")
    page.wait_for_timeout(500)  # the page's own scrolling
    box = page.locator(FIGURES).nth(place).locator(".nsewdrag").nth(panel).bounding_box()
    assert box is not None
    where = (box["x"] + x * box["width"], box["y"] + y * box["height"])
    page.mouse.move(*where)
    page.mouse.click(*where)


def test_maps_of_all_runs_their_channels_and_a_click_that_goes_to_another_place(
    dashboard, visit, five_runs
):
    page = visit(dashboard(five_runs).url + "/channels?t=499&block=1&run=A&rank=2")
    expect(page.get_by_text(re.compile(r"In [A-E] channel \d+ alone carries"))).to_contain_text(
        re.compile(r"over 16 channels gives 6.25 %; the most of any channel in the others: ")
    )
    panels = maps_of(page, 0)
    assert list(panels) == list("ABCDE")
    assert all(-4 <= value <= 0 for rows in panels.values() for row in rows for value in row)
    expect(page.get_by_text("A: stream after the MLP of block 1, t = 499")).to_be_visible()
    bars = drawn(page, 1)[0]
    assert len(bars["y"]) == 8 and bars["x"][0] == max(bars["x"]) >= 1
    expect(
        page.get_by_text(re.compile(f"{bars['y'][1].capitalize()}: where in the"))
    ).to_be_visible()
    tokens = drawn(page, 2)[0]["z"]
    assert len(tokens) == 4 and all(len(row) == 4 for row in tokens)
    click_on(page, 0, 4, (1049 - 199) / 1098.5, 0.25)  # E, block 2, t = 199
    expect(page.get_by_text("E: stream after the MLP of block 2, t = 199")).to_be_visible()
    settle(page)
    assert "run=E" in page.url and "block=2" in page.url and "t=199" in page.url
    click_on(page, 1, 0, 0.03, 0.5 / 8)
    first = drawn(page, 1)[0]["y"][0].capitalize()
    expect(page.get_by_text(f"{first}: where in the image, t = 199")).to_be_visible()
    settle(page)
    assert "rank=1" in page.url


def test_channels_at_0_beside_their_control_and_the_mean_over_tokens(dashboard, visit, five_runs):
    page = visit(dashboard(five_runs).url + "/channels?runs=A,E&run=E&where=here&t=0&block=2")
    page.get_by_role("tab", name="Mean over tokens").click()
    expect(page.get_by_text(re.compile("is the same for all tokens"))).to_contain_text(
        re.compile(r"independent tokens have 6.25 %\. Branches above 90 % .*: A .* of 4, E ")
    )
    figures = page.locator(FIGURES).locator("visible=true")
    expect(figures).to_have_count(3)
    page.get_by_role("tab", name="Set them to 0").click()
    page.get_by_role("button", name=re.compile("^Sample 200 images three times")).click()
    expect(page.get_by_text(re.compile(r"Largest\. MLP of block 2 with channel"))).to_be_visible()
    expect(page.get_by_text(re.compile(r"Control\. MLP of block 2 with channel"))).to_be_visible()
    settle(page)
    assert "zero=1" in page.url and "where=here" in page.url

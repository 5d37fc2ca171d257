"""The page of attention in a real Chromium: its figures' data, a clicked patch, a clicked head."""

import re

import pytest
from playwright.sync_api import Locator, Page, expect
from servers import settle

pytestmark = pytest.mark.browser

FIGURES = ".js-plotly-plot"


def opened(page: Page) -> Page:
    """Wait for what a first look computes: heads, the map of a query, the tiles, the logits."""
    expect(page.locator(FIGURES)).to_have_count(4)
    settle(page)
    return page


def data_of(figure: Locator) -> dict[str, list]:
    """Name -> z (or y) of every trace of one figure."""
    script = """figure => figure._fullData.map(trace => [trace.name,
        trace.z ? Array.from(trace.z, row => Array.from(row)) : Array.from(trace.y || [])])"""
    return dict(figure.evaluate(script))


def click_in(figure: Locator, subplot: int, across: float, down: float) -> None:
    """Click in a subplot, at shares of its width and height."""
    figure.scroll_into_view_if_needed()
    area = figure.locator(".nsewdrag").nth(subplot)
    box = area.bounding_box()
    assert box is not None
    place = (box["x"] + across * box["width"], box["y"] + down * box["height"])
    figure.page.mouse.move(*place)
    figure.page.mouse.click(*place)


def test_runs_are_side_by_side_and_clicks_choose_a_head_and_a_patch(dashboard, visit, five_runs):
    page = opened(
        visit(dashboard(five_runs).url + "/attention?runs=A,E&run=E&block=1&head=1&patch=6")
    )
    answer = page.get_by_text(re.compile("the most focused head is head . of block ."))
    expect(answer).to_contain_text(re.compile(r"of its bound √d = 2\.83 in E; without a bound A"))
    heads, map_of_patch = page.locator(FIGURES).nth(0), page.locator(FIGURES).nth(1)
    entropies = data_of(heads)
    for run in "AE":
        assert len(entropies[run]) == 2 and len(entropies[run][0]) == 2  # heads, blocks
        assert all(0 <= value <= 2.78 for row in entropies[run] for value in row)
    shown = data_of(map_of_patch)
    seen = [weight for row in shown["attention"] for weight in row]
    assert sum(seen) == pytest.approx(1, abs=5e-3)
    assert seen == shown["matrix"][5]  # row by row over the image

    click_in(heads, 1, 0.75, 0.25)
    expect(page.get_by_text("E, block 2, head 2: where patch 6 (row 2, column 2)")).to_be_visible()
    click_in(map_of_patch, 0, 0.875, 0.125)
    expect(page.get_by_text("E, block 2, head 2: where patch 4 (row 1, column 4)")).to_be_visible()
    settle(page)
    assert all(part in page.url for part in ("run=E", "block=2", "head=2", "patch=4"))
    shown = data_of(page.locator(FIGURES).nth(1))
    assert [weight for row in shown["attention"] for weight in row] == shown["matrix"][3]


def test_a_link_opens_the_same_view_again_and_a_run_without_bound_says_so(
    dashboard, visit, five_runs
):
    link = "/attention?runs=A&t=900&by=timesteps&shown=distance&image=all&under=noisy"
    page = opened(visit(dashboard(five_runs).url + link))
    expect(page.get_by_text(re.compile("At t = 900 the most focused head"))).to_contain_text(
        re.compile(r"nats \(44 images\)\. Without a bound A reaches")
    )
    expect(page.get_by_text("mean image, t = 900")).to_be_visible()
    distances = data_of(page.locator(FIGURES).nth(0))["A"]
    assert len(distances) == 2 and len(distances[0]) == 11  # blocks, timesteps

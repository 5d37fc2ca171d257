"""The page Compare in a real Chromium: dots, a click on one, its map and tokens, the tabs."""

import re

import pytest
from playwright.sync_api import Page, expect
from servers import drawn, settle

pytestmark = pytest.mark.browser

FIGURES = ".js-plotly-plot"


def told(page: Page, place: int) -> list[dict]:
    """Name, x, y and hover data of the traces of a figure."""
    expect(page.locator(FIGURES).nth(place)).to_be_visible()
    return page.evaluate(
        """place => document.querySelectorAll('.js-plotly-plot')[place]._fullData.map(trace => ({
            name: trace.name, x: Array.from(trace.x || []), y: Array.from(trace.y || []),
            data: Array.from(trace.customdata || [], row => Array.from(row))}))""",
        place,
    )


def marks(page: Page) -> list[tuple[float, list]]:
    """(ratio, hover data) of every mark of the first figure, the top one first."""
    found = [
        mark
        for trace in told(page, 0)
        for mark in zip(trace["y"], trace["x"], trace["data"], strict=True)
    ]
    return [(x, data) for _, x, data in sorted(found, key=lambda mark: -mark[0])]


def click_mark(page: Page, row: int, rows: int) -> None:
    """Click the mark of a row, from the top."""
    page.locator(FIGURES).first.evaluate("figure => figure.scrollIntoView({block: 'center'})")
    page.wait_for_timeout(500)  # the page's own scrolling
    point = page.locator(FIGURES).first.locator(".scatterlayer .point")
    boxes = [point.nth(n).bounding_box() for n in range(point.count())]
    assert len(boxes) == rows
    box = sorted((box for box in boxes if box), key=lambda box: box["y"])[row]
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)


def test_last_against_first_and_a_click_that_goes_to_a_place(dashboard, visit, five_runs):
    page = visit(dashboard(five_runs).url + "/compare")
    expect(page.get_by_text(re.compile(r"EMA 10 %: E against A: [\d,]+ of [\d,]+"))).to_be_visible()
    expect(page.get_by_text(re.compile("places are asked at once"))).to_be_visible()
    settle(page)
    found = marks(page)
    assert len({data[0] for _, data in found}) == len(found) == 14
    assert all(data[6] <= ratio <= data[7] for ratio, data in found)
    click_mark(page, 3, len(found))
    statistic, branch, block, t = found[3][1][:4]
    page.wait_for_url(re.compile(rf"of={statistic}\b"))
    settle(page)  # the address is there before the map
    assert f"branch={branch}&block={block}&t={t}" in page.url
    cells = next(trace for trace in told(page, 1) if trace["name"] == "cells")
    chosen = [data for data in cells["data"] if data[:2] == [block, t]]
    assert chosen[0][6] == pytest.approx(found[3][0])
    assert {trace["name"] for trace in drawn(page, 2)} == {"A", "E"}
    for trace in drawn(page, 2):
        assert sum(trace["y"]) == pytest.approx(1)


def test_configuration_weights_and_two_weights_of_a_single_run(
    dashboard, visit, five_runs, one_run
):
    page = visit(dashboard(five_runs).url + "/compare?other=D&other_weights=final&list=all")
    expect(
        page.get_by_text(re.compile(r"D \(final\) against A \(EMA 10 %\)")).first
    ).to_be_visible()
    assert len(marks(page)) == 15
    page.get_by_role("tab", name="Configuration").click()
    expect(page.get_by_text(re.compile(r"fields differ between A and D: "))).to_be_visible()
    page.get_by_role("tab", name="Weights").click()
    expect(page.get_by_text(re.compile("Their mean cosine is"))).to_be_visible()
    page.goto(dashboard(one_run).url + "/compare")
    settle(page)
    expect(page.get_by_text(re.compile("mine: final against initial: "))).to_be_visible()
    page.goto(dashboard(one_run).url + "/compare?base_weights=final")
    expect(page.get_by_text("Both sides are the same; choose another run")).to_be_visible()

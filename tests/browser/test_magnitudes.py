"""The page of magnitudes in a real Chromium: figures, answer, filters, a clicked cell, its link."""

import re

import pytest
from playwright.sync_api import Page, expect
from servers import settle

pytestmark = pytest.mark.browser

FIGURES = ".js-plotly-plot"


def opened(page: Page) -> Page:
    """Wait for the computations of a first look: panels, map, distribution."""
    expect(page.locator(FIGURES)).to_have_count(3)
    settle(page)
    return page


def traces(page: Page, number: int) -> list[dict]:
    """Name and numbers of every trace of one figure, as plotly decoded them."""
    script = """figure => figure._fullData.map(
        trace => ({name: trace.name, y: Array.from(trace.y || []).map(Number)}))"""
    return page.locator(FIGURES).nth(number).evaluate(script)


def test_a_to_e_are_shown_side_by_side_with_an_answer_and_the_initial_weights(
    dashboard, visit, five_runs
):
    page = opened(visit(dashboard(five_runs).url + "/magnitudes"))
    answer = page.get_by_text(re.compile("From block 1 to 2 the stream's magnitude is multiplied"))
    expect(answer).to_contain_text(re.compile(r"in A, .* in E \([\d,]+ tokens each\)"))
    named = {trace["name"]: trace["y"] for trace in traces(page, 0)}
    for run in "ABCDE":
        for kind in ("resid mlp", "in attn", "resid mlp initial"):
            values = named[f"{run} {kind}"]
            assert len(values) == 2 and all(value > 0 for value in values)
    assert named["E resid mlp"] != named["E resid mlp initial"]
    assert {trace["name"] for trace in traces(page, 2)} == set("ABCDE")


def test_a_link_opens_timestep_label_run_and_cell_again(dashboard, visit, five_runs):
    link = "/magnitudes?runs=A,E&t=499&label=3&run=A&point=in&branch=attn&cell=1-949&log=0"
    page = opened(visit(dashboard(five_runs).url + link))
    expect(page.get_by_text(re.compile("at t = 499"))).to_be_visible()
    expect(page.get_by_text("A: modulated input, attention")).to_be_visible()
    expect(page.get_by_text("Tokens at block 1, t = 949")).to_be_visible()
    assert {trace["name"] for trace in traces(page, 2)} == {"A", "E"}


def test_a_click_on_the_map_shows_the_tokens_of_that_cell(dashboard, visit, five_runs):
    page = opened(visit(dashboard(five_runs).url + "/magnitudes?runs=A,E"))
    expect(page.get_by_text("Tokens at block 2, t = 499")).to_be_visible()
    place = page.locator(FIGURES).nth(1).locator(".nsewdrag").first.bounding_box()
    assert place is not None
    page.locator(FIGURES).nth(1).scroll_into_view_if_needed()
    place = page.locator(FIGURES).nth(1).locator(".nsewdrag").first.bounding_box()
    assert place is not None
    across = (1009 - 199) / 1019  # the axis runs from 1009 to -10
    page.mouse.move(place["x"] + across * place["width"], place["y"] + 0.75 * place["height"])
    page.mouse.click(place["x"] + across * place["width"], place["y"] + 0.75 * place["height"])
    expect(page.get_by_text("Tokens at block 1, t = 199")).to_be_visible()
    settle(page)
    assert "cell=1-199" in page.url

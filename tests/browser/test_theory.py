"""The page of claims in a real Chromium: verdicts, the answer, the figures, the link."""

import re

import pytest
from playwright.sync_api import Page, expect
from servers import choose, settle

pytestmark = pytest.mark.browser

FIGURES = ".js-plotly-plot"


def traces(page: Page, number: int) -> dict[str, list[float]]:
    """Name -> numbers of every trace of one figure, as plotly decoded them."""
    script = """figure => figure._fullData.map(
        trace => [trace.name, Array.from(trace.y || []).map(Number)])"""
    return dict(page.locator(FIGURES).nth(number).evaluate(script))


def test_every_claim_has_a_verdict_and_the_chosen_one_its_figures(dashboard, visit, five_runs):
    page = visit(dashboard(five_runs).url + "/theory?runs=A,E&claim=sum&part=mlp&t=499")
    expect(page.locator(FIGURES)).to_have_count(2)
    settle(page)
    expect(page.get_by_text(re.compile("the farthest departure is that of"))).to_be_visible()
    expect(page.get_by_text(re.compile("Config E is not magnitude-preserving"))).to_be_visible()
    table = page.get_by_test_id("claims")
    expect(table.locator("tbody tr")).to_have_count(10)
    expect(table.locator("tr.chosen")).to_contain_text("sum of stream and branch")
    cosine = table.locator("tr", has_text="Logits of cosine attention").locator("td.run")
    expect(cosine.nth(0)).to_contain_text("no cosine attention")
    expect(cosine.nth(1)).to_contain_text("holds")
    drawn = traces(page, 0)
    for run in "AE":
        assert len(drawn[f"{run} claimed"]) == len(drawn[f"{run} compared"]) == 2
        assert all(value > 0 for value in drawn[f"{run} measured"])
    assert len(traces(page, 1)["E correlation"]) == 2


def test_a_link_opens_another_claim_and_what_no_run_has_is_one_sentence(
    dashboard, visit, five_runs
):
    page = visit(dashboard(five_runs).url + "/theory?runs=A,E&claim=rotation")
    expect(
        page.get_by_text("No run in view has what this claim is about: no rotation")
    ).to_be_visible()
    settle(page)
    choose(page, "Claim drawn below", "SiLU")
    expect(page.locator(FIGURES)).to_have_count(3)
    settle(page)
    assert "claim=silu" in page.url
    assert {"A", "E"} <= set(traces(page, 2))

"""The page of attribution in a real Chromium: what it draws is what the tables hold."""

import re

import numpy as np
import pytest
from playwright.sync_api import Page, expect
from servers import settle

from analysis.attribution import AttributionSettings, class_carriers
from mpdit_core import load_run

pytestmark = pytest.mark.browser

FIGURES = ".js-plotly-plot"


def panels(page: Page) -> dict[str, list]:
    """Run -> shares in the cells, block by timestep, of the first figure."""
    script = """figure => figure._fullData.filter(trace => trace.type === 'heatmap').map(
        trace => [trace.name, Array.from(trace.z, row => Array.from(row))])"""
    return dict(page.locator(FIGURES).first.evaluate(script))


def test_runs_stand_side_by_side_and_every_tab_draws_what_the_table_holds(
    dashboard, visit, five_runs
):
    link = "/attribution?runs=A,E&run=E&t=400&label=3"
    page = visit(dashboard(five_runs).url + link)
    expect(
        page.get_by_text(re.compile("label 3: At t = 400, of the label's effect"))
    ).to_be_visible()
    expect(
        page.get_by_text(re.compile(r"Largest completeness gap of .* in view .*MiB"))
    ).to_be_visible()
    expect(page.locator(f"{FIGURES} .gtitle", has_text="each signal's share")).to_be_visible()
    settle(page)
    table = class_carriers(load_run(five_runs / "E"), "ema-0.100", AttributionSettings())
    here = table[(table["label"] == 3) & (table["timestep"] == 400) & (table["signal"] == "all")]
    sums = here.groupby("block")[["conductance", "effect"]].sum()
    drawn = np.array(panels(page)["E"])
    assert drawn.shape == (3, 6)  # two blocks and the final layer, six timesteps
    np.testing.assert_allclose(drawn[:, 3], sums["conductance"] / sums["effect"], rtol=1e-4)

    page.get_by_role("tab", name="Patches of the image").click()
    expect(
        page.get_by_text(re.compile("label 3, image 1: in E the label's effect"))
    ).to_be_visible()
    page.get_by_role("tab", name="Channels of the embedding").click()
    expect(page.get_by_text(re.compile(r"comes from so few channels.*of 16 in A"))).to_be_visible()
    page.get_by_role("slider", name=re.compile("Timestep")).press("End")
    expect(page).to_have_url(re.compile("t=0"))
    page.get_by_role("tab", name="Patches of the image").click()
    expect(page.get_by_text("Patches are attributed from t = 200 up")).to_be_visible()


def test_the_samplers_path_waits_for_a_button_that_says_time_and_memory(dashboard, visit, one_run):
    page = visit(dashboard(one_run).url + "/attribution?weights=final&source=trajectory")
    button = page.get_by_role(
        "button", name=re.compile(r"about \d+ s on one core, at most 128 MiB")
    )
    expect(button).to_be_visible()

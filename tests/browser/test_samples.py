"""The page Samples in a real browser: what is drawn, what moving along the trajectory costs."""

import re

import pytest
from playwright.sync_api import expect

from analysis.samples import SampleSettings, sampled_images
from mpdit_core.runs import load_run

pytestmark = pytest.mark.browser

FAST = "sampler=ddim&steps=4"


@pytest.fixture(scope="module")
def address(dashboard, five_runs):
    return dashboard(five_runs).url + f"/samples?{FAST}"


def sampled(page):
    """Wait for the grid; press the button that says its cost, if nobody has sampled yet."""
    grid = page.locator(".st-key-samples-grid .js-plotly-plot")
    button = page.get_by_role("button", name=re.compile(r"Sample [\d,]+ images, about [\d,]+ s"))
    expect(grid.or_(button)).to_be_visible()
    if button.is_visible():
        button.click()
    expect(grid).to_be_visible()


def figure(page):
    """The heatmap that holds all images."""
    return page.evaluate(
        "() => { const plot = document.querySelector('.st-key-samples-grid .js-plotly-plot');"
        " const trace = plot._fullData[0];"
        " return {rows: plot._fullLayout.yaxis.ticktext, columns: plot._fullLayout.xaxis.ticktext,"
        " smooth: trace.zsmooth, low: trace.zmin, high: trace.zmax, text: trace.text[0][0],"
        " title: plot._fullLayout.title.text, tile: plot._fullLayout._size.h }; }"
    )


def test_samples_ask_before_they_compute_and_show_configs_by_labels(visit, address):
    page = visit(address)
    assert page.locator(".js-plotly-plot").count() == 0
    sampled(page)
    drawn = figure(page)
    assert [re.sub("<.*?>", "", row) for row in drawn["rows"]] == list("ABCDE")
    assert drawn["columns"] == [str(label) for label in range(10)]
    assert (drawn["smooth"], drawn["low"], drawn["high"]) == (False, 0, 1)
    assert drawn["text"] == "run A<br>label 0<br>seed 0, image 0"
    assert "EMA 10 %" in drawn["title"] and "guidance 5" in drawn["title"]
    assert drawn["tile"] / 5 >= 64 * 9 / 8  # images of 64 pixels and the gap between
    expect(page.get_by_text("draw most alike")).to_be_visible()


def test_moving_along_the_trajectory_computes_nothing_and_stays_in_the_link(visit, address):
    page = visit(address)
    sampled(page)
    slider = page.get_by_role("slider")
    slider.focus()
    for step in (3, 2, 1, 0):
        slider.press("ArrowLeft")
        expect(page).to_have_url(re.compile(f"step={step}"))
    titles = page.locator(".st-key-samples-grid .gtitle").filter(visible=True)
    expect(titles).to_contain_text("t = 999")
    # The noise is the same in every run, and so is its picture.
    expect(page.get_by_text("pixel correlation 1.00")).to_be_visible()
    assert page.get_by_text("Computing").count() == 0


def test_a_link_opens_the_same_labels_seed_and_moment(visit, five_runs, address):
    page = visit(address + "&seed=3&labels=2,7&step=4&runs=A,E")
    sampled(page)
    drawn = figure(page)
    assert drawn["columns"] == ["2", "7"]
    assert drawn["text"].endswith("seed 3, image 2")
    expected = sampled_images(
        load_run(five_runs / "A"), "ema-0.100", SampleSettings(sampler="ddim", steps=4, seed=3)
    )
    pixels = expected[(expected["label"] == 2) & (expected["timestep"] == -1)]["pixels"].iloc[0]
    shown = page.evaluate(
        "() => Array.from(document.querySelector('.js-plotly-plot')._fullData[0].z[0]).slice(0, 8)"
    )
    assert shown == pytest.approx(pixels[:8].tolist(), abs=1e-3)


def test_the_grid_can_be_downloaded_as_a_png(visit, address):
    page = visit(address)
    sampled(page)
    with page.expect_download() as download:
        page.get_by_role("button", name="PNG of this grid").click()
    content = download.value.path().read_bytes()
    assert content.startswith(b"\x89PNG") and len(content) > 5_000


@pytest.mark.parametrize("width", [1024, 390])
def test_images_keep_their_size_on_a_narrow_screen(visit, address, width):
    page = visit(address, width=width)
    sampled(page)
    grid = page.locator(".st-key-samples-grid .js-plotly-plot")
    assert grid.bounding_box()["width"] >= 800
    assert page.evaluate("document.documentElement.scrollWidth") <= width

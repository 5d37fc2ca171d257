"""The page EMA in a real Chromium: curves, samples and health are those of the tables."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Page, expect
from servers import settle

from mpdit_core import load_run
from mpdit_core.ema import gamma_of

pytestmark = pytest.mark.browser

FIXTURES = Path(__file__).parents[1] / "fixtures/map-dit"


def figures(page: Page, *titles: str) -> list[list[dict]]:
    """The traces of the charts whose titles begin so, once they are drawn."""
    for title in titles:
        expect(page.locator(".gtitle", has_text=title).first).to_be_attached()
    settle(page)
    drawn = page.evaluate(
        """() => [...document.querySelectorAll('.js-plotly-plot')].map(plot => ({
            title: plot.layout.title.text,
            traces: plot._fullData.map(trace => ({
                name: trace.name, x: trace.x && [...trace.x], y: trace.y && [...trace.y],
                z: trace.z && trace.z.map(row => [...row]),
                texts: trace.text && [...trace.text].map(row => [...row]).flat(),
            }))}))"""
    )
    return [
        next(figure["traces"] for figure in drawn if figure["title"].startswith(title))
        for title in titles
    ]


@pytest.fixture
def address(dashboard, five_runs):
    return dashboard(five_runs).url + "/ema?"


def test_profiles_and_decay_factors_follow_their_formulas(address, visit):
    page = visit(address + "runs=A,E&run=E&sigma=0.2")
    profile, decay = figures(page, "Profile of 0.200, E", "Decay factors, first 1,000")
    gamma = gamma_of(0.2)
    ideal = next(trace for trace in profile if trace["name"] == "ideal")
    share = np.array(ideal["x"]) / 400
    np.testing.assert_allclose(ideal["y"], (gamma + 1) * share**gamma, rtol=1e-6, atol=1e-12)
    mixed = next(trace for trace in profile if trace["name"] == "reconstructed")
    integral = np.trapezoid(mixed["y"], share)
    assert integral == pytest.approx(1, abs=0.02) and mixed["y"] != ideal["y"]
    assert {trace["name"] for trace in decay} == {"0.050 (tracked)", "0.100 (tracked)", "0.200"}
    own = next(trace for trace in decay if trace["name"] == "0.200")
    np.testing.assert_allclose(own["y"], (1 - 1 / np.array(own["x"])) ** (gamma + 1), rtol=1e-9)
    assert own["x"][0] == 1 and own["x"][-1] == 1000


def test_the_slider_mixes_another_average_and_stands_in_the_link(address, visit, five_runs):
    page = visit(address + "runs=A,E&run=A&sigma=0.15")
    figures(page, "Profile of 0.150, A")
    page.get_by_role("slider").first.focus()
    page.keyboard.press("ArrowRight")
    figures(page, "Profile of 0.155, A")
    expect(page).to_have_url(re.compile(r"sigma=0\.155"))
    error = 100 * load_run(five_runs / "A").reconstruction(0.155).error
    expect(page.get_by_text(f"is {error:.3g} % off its ideal profile").first).to_be_visible()
    page.get_by_role("tab", name="Coefficients").click()
    (bars,) = figures(page, "Coefficients that mix the average of 0.155, A")
    found = {(b["name"][-5:], x): y for b in bars for x, y in zip(b["x"], b["y"], strict=True)}
    made = load_run(five_runs / "A").reconstruction(0.155).coefficients
    keys = [(width, step) for width in ("0.050", "0.100") for step in ("200", "400")]
    np.testing.assert_allclose([found[key] for key in keys], made)


def test_samples_of_average_and_raw_weights_stand_one_above_the_other(address, visit):
    page = visit(address + "runs=A,E&run=E&sigma=0.25")
    ((tiles,),) = figures(page, "Samples of E: average of 0.250 and raw weights")
    rows = [[np.nan if v is None else v for v in row] for row in tiles["z"]]
    height = len(rows) // 2
    above, below = np.array(rows[:height]), np.array(rows[height:])
    assert not np.allclose(above, below, equal_nan=True)
    assert any("E, EMA 0.250" in text for text in tiles["texts"])
    assert any("E, raw" in text for text in tiles["texts"])


@pytest.mark.parametrize(
    ("run", "words"), [("A", "A has no weight normalization"), ("E", "E normalizes its weights")]
)
def test_it_is_said_whether_shorter_weights_matter(address, visit, run, words):
    page = visit(address + f"runs=A,E&run={run}")
    expect(page.get_by_text(words).first).to_be_visible()


def test_copies_that_call_themselves_averages_are_told(address, visit):
    """The averages of these runs are the raw weights themselves."""
    page = visit(address + "runs=A,E&run=E")
    told = "0 of 8 EMA files in view are averages of the width in their name"
    expect(page.get_by_text(told).first).to_be_visible()
    expect(page.get_by_text("Health of every EMA file")).to_be_visible()


def test_files_of_map_dit_are_told_and_not_sampled_as_averages(dashboard, visit, tmp_path):
    shutil.copytree(FIXTURES / "flags-all", tmp_path / "flags-all")
    page = visit(dashboard(tmp_path).url + "/ema")
    expect(page.get_by_text("near-copies").first).to_be_visible()
    expect(page.get_by_text("0 of 8 EMA files in view").first).to_be_visible()
    settle(page)
    assert page.locator(".gtitle", has_text=re.compile("average of|Profile of")).count() == 0


def test_runs_without_averages_are_told_how_to_get_them(dashboard, visit, one_run):
    page = visit(dashboard(one_run).url + "/ema")
    expect(page.get_by_text("keep no EMA").first).to_be_visible()
    expect(page.get_by_text("mpdit train")).to_be_visible()


@pytest.mark.parametrize("width", [1440, 1024, 390])
def test_nothing_is_cut_at_any_width(address, visit, width):
    page = visit(address + "runs=A,E&run=E", width=width)
    figures(page, "Profile of 0.150, E")
    inside = "document.documentElement.scrollWidth <= window.innerWidth"
    assert page.evaluate(inside)

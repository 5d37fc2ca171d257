"""The page Quality in a real Chromium, with tiny runs and few images, so that it samples fast."""

import re
from contextlib import suppress

import pytest
from playwright.sync_api import Page, TimeoutError, expect
from servers import DRAWN, drawn, settle

from analysis.quality import EvaluateSettings, sample_quality
from analysis.quality_sweeps import marks_at
from mpdit_core import load_run

pytestmark = pytest.mark.browser

FAST = "steps=1&n=8"
SETTINGS = EvaluateSettings(n=8, seeds=(0, 1, 2), sampler="dpmpp", steps=1)


@pytest.fixture(scope="module")
def address(dashboard, five_runs):
    return dashboard(five_runs).url + f"/quality?{FAST}&runs=A,E"


def sampled(page: Page, title: str) -> None:
    """Press the buttons that say their cost until none is left and this figure is there."""
    figure = page.locator(".gtitle", has_text=title).first
    button = page.get_by_role("button", name=re.compile(r"Sample up to [\d,]+ images, about"))
    for _ in range(6):
        expect(figure.or_(button).first).to_be_attached()
        if figure.count() and not button.count():
            break
        with suppress(TimeoutError):  # the page may have been drawn anew without it
            button.first.click(timeout=5000)
        settle(page)
    expect(figure).to_be_attached()
    settle(page)


def traces(page: Page, title: str) -> list[dict]:
    """The traces of the figure whose title begins so."""
    page.wait_for_function(DRAWN)
    titles = page.locator(".js-plotly-plot").evaluate_all(
        "plots => plots.map(plot => plot.layout.title.text)"
    )
    return drawn(page, next(place for place, text in enumerate(titles) if text.startswith(title)))


def test_runs_stand_side_by_side_and_a_click_on_a_sweep_shows_its_samples(
    visit, address, five_runs
):
    page = visit(address)
    sampled(page, "Fréchet distance over training")
    drawn_by = "EMA 10 %, no guidance, DPM-Solver++, 1 steps"
    expect(page.get_by_text(f"Fréchet distance ({drawn_by}): lowest")).to_be_visible()
    first = {trace["name"]: trace for trace in traces(page, "Quality of samples")}
    table = sample_quality(load_run(five_runs / "E"), "ema-0.100", SETTINGS)
    marks = marks_at(table).set_index("statistic")["value"]
    shown = [t["x"][0] for t in traces(page, "Quality of samples") if t["name"] == "E"]
    assert shown == pytest.approx(
        [marks["frechet_distance"], marks["kernel_distance"], 100 * marks["recognized"],
         marks["nearest_distance"]], rel=1e-3,
    )  # fmt: skip
    assert len(first["E seeds"]["x"]) == 3
    curve = next(t for t in traces(page, "Fréchet") if t["name"] == "E, EMA 10 %")
    assert curve["x"] == [200, 400] and curve["y"][1] == pytest.approx(shown[0])
    expect(page.locator(".gtitle", has_text="Samples of E, EMA 10 %, step 400")).to_be_attached()
    click_point(page, "A, EMA 10 %", 0)
    expect(page).to_have_url(re.compile(r"at-steps=A(\||%7C)EMA"))
    expect(page.locator(".gtitle", has_text="Samples of A, EMA 10 %, step 200")).to_be_attached()
    settle(page)


def click_point(page: Page, name: str, place: int) -> None:
    """Click a marker of the sweep."""
    box = page.evaluate(
        """([name, place]) => {
            const plot = [...document.querySelectorAll('.js-plotly-plot')].find(
                plot => plot._fullData.some(trace => trace.name == name));
            const trace = plot._fullData.find(trace => trace.name == name);
            plot.scrollIntoView({block: 'center'});
            const x = plot._fullLayout['xaxis' + trace.xaxis.slice(1)];
            const y = plot._fullLayout['yaxis' + trace.yaxis.slice(1)];
            const frame = plot.getBoundingClientRect();
            return [frame.left + x._offset + x.d2p(trace.x[place]),
                    frame.top + y._offset + y.d2p(trace.y[place])];
        }""",
        [name, place],
    )
    page.mouse.move(*box)
    page.mouse.click(*box)


def test_loss_and_distances_are_drawn_and_modulation_lists_all_runs(visit, address):
    page = visit(address + "&over=modulation&mark=recognized")
    sampled(page, "Recognized share against parameters")
    assert {t["name"] for t in traces(page, "Recognized share")} == set("ABCDE")
    page.get_by_role("tab", name="Loss by timestep").click()
    settle(page)
    losses = traces(page, "Loss of held-out images by timestep")
    assert [t["name"] for t in losses] == ["A", "E", "E"]
    assert losses[0]["x"] == [999, 900, 800, 700, 600, 500, 400, 300, 200, 100, 0]
    page.get_by_role("tab", name="Copies").click()
    settle(page)
    page.get_by_role("button", name=re.compile("Sample 24 images a run")).click()
    expect(page.get_by_text(re.compile("24 samples a run, 8 held-out digits"))).to_be_visible()
    settle(page)
    names = {t["name"] for t in traces(page, "Samples of EMA 10 % and held-out")}
    assert names == {"A samples", "A held-out", "E samples", "E held-out", "mean"}


def test_the_open_tab_stands_in_the_link_and_back_returns_to_the_one_before(visit, address):
    page = visit(address)
    page.get_by_role("tab", name="Loss by timestep").click()
    page.wait_for_url(re.compile("tab=loss-by-timestep"))
    settle(page)
    again = visit(page.url)
    chosen = again.get_by_role("tab", selected=True)
    expect(chosen).to_have_text("Loss by timestep")
    page.go_back()
    expect(page.get_by_role("tab", selected=True)).to_have_text("Learning curves")
    page.goto(address + "&tab=nowhere")
    said = "tab = nowhere is not possible here; learning-curves is shown instead."
    expect(page.get_by_text(said)).to_be_visible()


def test_runs_that_are_judged_are_shown_beside_a_button_for_the_others(visit, dashboard, five_runs):
    url = dashboard(five_runs).url + "/quality?steps=1&n=6&runs="
    sampled(visit(url + "B"), "Quality of samples")
    page = visit(url + "B,C")
    expect(page.get_by_text("Not computed yet: sample quality of C.").first).to_be_visible()
    expect(page.locator(".gtitle", has_text="Quality of samples")).to_be_attached()
    settle(page)
    names = {t["name"] for t in traces(page, "Quality of samples")}
    assert "B" in names and "C" not in names


def test_a_run_without_averages_says_so_over_their_width(visit, dashboard, one_run):
    page = visit(dashboard(one_run).url + f"/quality?{FAST}&over=sigma")
    sampled(page, "Quality of samples")
    expect(page.get_by_text("mine: no curve, because no EMA is kept.")).to_be_visible()

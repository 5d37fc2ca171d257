"""The page Modulation in a real Chromium: what it draws is what the tables hold."""

import re

import numpy as np
import pytest
from playwright.sync_api import Page, expect
from servers import settle

from analysis.modulation import ModulationGrid, modulation_strength
from analysis.modulation_angles import EVERY_TIMESTEP, on_circle, rotation_angles, rotation_wraps
from mpdit_core import load_run

pytestmark = pytest.mark.browser

TURNING = "scale-gate-rotation"


def figures(page: Page) -> dict[str, dict]:
    """Title -> data and layout of every chart on the page."""
    drawn = page.evaluate(
        """() => [...document.querySelectorAll('.js-plotly-plot')].map(plot => ({
            title: plot.layout.title.text,
            traces: plot._fullData.map((trace, i) => ({
                type: trace.type, name: trace.name, z: trace.z && trace.z.map(row => [...row]),
                x: trace.x && [...trace.x], y: trace.y && [...trace.y],
                r: trace.r && [...trace.r],
            })),
            scale: plot.layout.coloraxis && plot.layout.coloraxis.cmax,
            notes: (plot.layout.annotations || []).map(note => note.text),
            lines: (plot.layout.shapes || []).map(shape => shape.x0),
        }))"""
    )
    return {figure["title"]: figure for figure in drawn}


def wait_for(page: Page, *titles: str) -> dict[str, dict]:
    """All computations over, and charts of these titles drawn."""
    for title in titles:
        expect(page.locator(".gtitle", has_text=title).first).to_be_attached()
    settle(page)
    return figures(page)


@pytest.fixture
def address(dashboard, ten_runs):
    return dashboard(ten_runs).url + "/modulation?"


def test_heatmaps_and_circle_show_the_numbers_of_the_tables(address, visit, ten_runs):
    link = f"runs=E,{TURNING}&weights=final&run={TURNING}&t=500&label=3&branch=mlp&block=2"
    page = visit(address + link)
    circle, along = "Angles at t = 500", "Angles along the timesteps"
    strength = "Strength of the modulation"
    drawn = wait_for(page, strength, circle, along)
    run, grid = load_run(ten_runs / TURNING), ModulationGrid()

    table = modulation_strength(run, "final", grid)
    table = table[(table["label"] == 3) & (table["branch"].isin(["mlp", "final"]))]
    scale = table[table["signal"] == "scale"].pivot(
        index="block", columns="timestep", values="value"
    )
    heatmap = next(t for t in drawn[strength]["traces"] if t["name"] == "scale")
    np.testing.assert_allclose(heatmap["z"], scale.to_numpy(), rtol=1e-6)
    assert heatmap["y"] == [1, 2, 3]  # two blocks and the final layer
    assert 500 in drawn[strength]["lines"]

    angles = rotation_angles(run, "final", grid)
    angles = angles[(angles["label"] == 3) & (angles["branch"] == "mlp") & (angles["block"] == 1)]
    counts = on_circle(angles[angles["timestep"] == 500]["value"].to_numpy())[1]
    np.testing.assert_allclose(np.square(drawn[circle]["traces"][0]["r"]), counts, atol=1e-9)

    counted = rotation_wraps(run, "final", EVERY_TIMESTEP)
    counted = counted[(counted["branch"] == "mlp") & (counted["block"] == 1)]
    counted = counted[(counted["label"] == 3) & (counted["statistic"] == "wraps")]["value"]
    words = f"{(counted > 0).sum()} of 8 wrap, {int(counted.sum())} times in all"
    assert words in drawn[along]["notes"]
    assert len(drawn[along]["traces"]) == 8
    expect(page.get_by_text(re.compile(r"At t = 500, label 3: in .*pairs of channels")).first
           ).to_be_visible()  # fmt: skip


def test_a_run_without_rotation_says_so_and_shows_the_rest(address, visit):
    page = visit(address + "runs=A,E&weights=final&run=E")
    drawn = wait_for(
        page, "Strength of the modulation", "What the signals depend on", "Change of magnitude"
    )
    expect(page.get_by_text("E has no rotation; as second run choose").first).to_be_visible()
    assert not [title for title in drawn if "Angles" in title]


def test_moving_the_timestep_rescales_nothing_and_marks_the_new_place(address, visit):
    page = visit(address + f"runs={TURNING}&weights=final&t=500")
    strength = "Strength of the modulation"
    before = wait_for(page, strength, "Change of magnitude", "Angles along")[strength]
    page.get_by_role("slider", name="Timestep").press("ArrowRight")
    expect(page).to_have_url(re.compile("t=480"))
    expect(page.get_by_text("At t = 480, label 0").first).to_be_visible()
    settle(page)
    after = figures(page)[strength]
    assert after["scale"] == before["scale"]
    assert 480 in after["lines"] and 500 not in after["lines"]


def test_two_runs_stand_side_by_side_on_the_same_scale(address, visit):
    page = visit(address + f"runs=A,E&weights=final&run=E&second={TURNING}&label=null")
    strength = "Strength of the modulation"
    drawn = wait_for(page, strength, "Change of magnitude", "Angles along")
    notes = drawn[strength]["notes"]
    assert "scale, E" in notes and f"scale, {TURNING}" in notes
    shares = drawn["What the signals depend on"]
    assert {trace["name"] for trace in shares["traces"]} == {
        "timestep alone", "label alone", "both together"
    }  # fmt: skip


@pytest.mark.parametrize("t", [999, 0])
def test_both_ends_of_the_slider_can_be_linked_to(address, visit, t):
    page = visit(address + f"runs={TURNING}&weights=initial&t={t}&branch=mlp")
    wait_for(page, "Strength of the modulation", "Change of magnitude", "Angles along")
    expect(page.get_by_text(f"At t = {t}, label 0").first).to_be_visible()

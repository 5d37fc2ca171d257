"""The page Weight dynamics in a real Chromium: its map, answer, alarms and learning rates."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Page, expect
from servers import settle

from analysis.dynamics import DynamicsSettings, weight_dynamics
from mpdit_core import load_run

pytestmark = pytest.mark.browser

FIXTURES = Path(__file__).parents[1] / "fixtures/map-dit"


def traces(page: Page, title: str) -> list[dict]:
    """The traces of the figure whose title begins so, numbers as numbers."""
    expect(page.locator(".gtitle", has_text=title).first).to_be_attached()
    settle(page)
    return page.evaluate(
        """title => [...document.querySelectorAll('.js-plotly-plot')]
            .find(plot => plot.layout.title.text.startsWith(title))._fullData.map(trace => ({
                name: trace.name, x: [...trace.x], y: [...trace.y].map(Number),
                z: trace.z && trace.z.map(row => [...row]),
                texts: trace.z && trace.text.map(row => [...row])}))""",
        title,
    )


def test_the_map_shows_growth_of_every_run_and_another_quantity_on_request(
    dashboard, visit, five_runs
):
    page = visit(dashboard(five_runs).url + "/dynamics?runs=A,C,E&run=C")
    panels = {panel["name"]: panel for panel in traces(page, "Growth of weight matrices")}
    assert list(panels) == ["A", "C", "E"] and panels["C"]["x"] == [0, 200, 400]
    expect(
        page.get_by_text(re.compile("Fastest growing weights: .* in A, .* times"))
    ).to_be_visible()
    expect(page.get_by_text("Rows off the sphere").first).to_be_visible()  # never forced
    table = weight_dynamics(load_run(five_runs / "C"), "final", DynamicsSettings())
    rows = table[(table["layer"] == "blocks.1.mlp.core.up.weight")].set_index("step")
    place = next(
        number
        for number, row in enumerate(panels["C"]["texts"])
        if "<b>mlp.up of block 2</b>" in row[-1]
    )
    np.testing.assert_allclose(panels["C"]["z"][place], np.log2(rows["growth"]), atol=1e-6)
    layers = next(
        t for t in traces(page, "Learning rates of the layers of C") if t["name"] == "median"
    )
    moving = table[table["matrix"] & (table["step"] == 400)]
    assert layers["x"] == [200, 400]
    assert layers["y"][-1] == pytest.approx(moving["effective_lr"].median(), rel=1e-6)
    page.get_by_label("Shown").first.click()
    page.get_by_text("Stable rank", exact=True).click()
    ranks = traces(page, "Stable rank of weight matrices")[1]
    expect(page).to_have_url(re.compile("shown=stable_rank"))
    np.testing.assert_allclose(ranks["z"][place], np.log10(rows["stable_rank"]), atol=1e-6)


def test_a_run_with_one_saved_step_says_what_is_missing(dashboard, visit, tmp_path):
    shutil.copytree(FIXTURES / "flags-all", tmp_path / "flags-all")
    page = visit(dashboard(tmp_path).url + "/dynamics?shown=norm_mean")
    expect(page.get_by_text("do not tell whether weights grow")).to_be_visible()
    expect(page.get_by_text("keep one saved step each")).to_be_visible()
    (panel,) = traces(page, "Norm of rows, mean of weight matrices")
    assert panel["x"] == [400] and np.isfinite(np.array(panel["z"], dtype=float)).all()

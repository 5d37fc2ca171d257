"""The figures of the page of claims hold the numbers of their tables, on axes that stay."""

import numpy as np
import pandas as pd
import pytest
from test_probing import run  # noqa: F401 - a fixture is used by its name

from analysis.figures.theory import assumption_panels, claim_panels, preactivation_panels
from analysis.figures.theory_drawings import DRAWINGS, drawing_of
from analysis.theory import TheorySettings, theory
from analysis.theory_claims import CLAIMS
from analysis.theory_gaussian import HistogramSettings, preactivation_histogram
from analysis.theory_verdicts import blocks, pieces
from analysis.theory_weights import GradientSettings, RowSettings, gradient_angles, row_norms

FEW = {"timesteps": (900, 0), "labels": (3,), "samples": 2}


@pytest.fixture(scope="module")
def table(run):  # noqa: F811
    rows, gradients = row_norms(run, "final", RowSettings()), GradientSettings(samples=2)
    parts = [theory(run, "final", TheorySettings(**FEW)), rows]
    return pd.concat([*parts, gradient_angles(run, "final", gradients)], ignore_index=True)


@pytest.mark.parametrize("claim", [claim.name for claim in CLAIMS])
def test_every_part_of_every_claim_is_drawn_with_the_tables_numbers(claim, table):
    found = pieces(table, claim)
    assert found or claim == "rotation"
    for piece in found:
        everything, drawing = blocks(table, claim, piece), drawing_of(claim, piece[1])
        now = everything[everything["timestep"] == everything["timestep"].max()]
        other = now.assign(run="A")
        rows = pd.concat([now, other])
        named = {t.name: t for t in claim_panels(rows, now, everything, drawing, "x", "w").data}
        for line in drawing.lines:
            for name in "AE":
                expected = now.sort_values("block")[line.statistic]
                np.testing.assert_array_equal(named[f"{name} {line.statistic}"].y, expected)
        assert "E compared" in named and "A compared" not in named
        if drawing.measures:
            figure = assumption_panels(rows, None, everything, drawing.measures, "x")
            assert len(figure.data) == 2 * len(drawing.measures)


def test_a_drawing_of_each_claim_exists():
    for claim in CLAIMS:
        assert any(name.split()[0] == claim.name for name in DRAWINGS)


def test_moving_the_slider_moves_no_axis(table):
    everything = blocks(table, "sum", ("mlp", ""))
    ranges = {
        tuple(claim_panels(rows, None, everything, drawing_of("sum"), "x").layout.yaxis.range)
        for _, rows in everything.groupby("timestep")
    }
    assert len(ranges) == 1


def test_the_density_is_that_of_the_table_with_both_gaussians(run):  # noqa: F811
    table = preactivation_histogram(run, "final", HistogramSettings(**FEW))
    everything = table[table["block"] == 0]
    rows = everything[everything["timestep"] == 0]
    density, standard, _ = preactivation_panels(rows, everything, "x").data
    drawn = dict(zip(np.round(density.x, 6), density.y, strict=True))
    for row in rows.itertuples():
        assert drawn[round(row.bin, 6)] == row.value
    assert max(standard.y) == pytest.approx(1 / np.sqrt(2 * np.pi), rel=1e-2)

"""The page's numbers against an independent calculation, its sentence and its figures' data."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
import torch
from test_probing import FEW, run  # noqa: F401 - a fixture is used by its name

from analysis.figures.magnitudes import magnitude_histogram, magnitude_map, magnitude_panels
from analysis.magnitudes import (
    at,
    by_block,
    by_timestep,
    distribution,
    growth_sentence,
    magnitude_distribution,
    magnitudes,
)
from analysis.probing import probe_inputs


@pytest.fixture(scope="module")
def table(run):  # noqa: F811
    return magnitudes(run, "final", FEW)


@pytest.fixture(scope="module")
def spread(run):  # noqa: F811
    return magnitude_distribution(run, "final", FEW)


def stream_by_hand(run):  # noqa: F811
    """Magnitudes of the stream after each block's MLP, (timesteps, blocks, tokens of all images),
    by calling the blocks one after the other: no probe point, no recorder."""
    model = run.model("final")
    found = []
    for part in probe_inputs(run, model, FEW):
        stream = model.patches(part.noisy)
        t = torch.full_like(part.labels, part.timestep)
        activated = model.activation(model.condition(t, part.labels))
        blocks = []
        for block in model.blocks:
            stream = block(stream, activated)
            blocks.append(stream.double().square().mean(-1).sqrt().flatten())
        found.append(torch.stack(blocks))
    return torch.stack(found).numpy()


def test_means_and_spreads_equal_those_of_the_blocks_called_by_hand(run, table):  # noqa: F811
    expected = stream_by_hand(run)
    stream = at(table, point="resid", branch="mlp")
    for block, row in by_block(stream).set_index("block").iterrows():
        values = expected[:, block]
        assert row["n"] == values.size
        assert row["mean"] == pytest.approx(values.mean(), rel=1e-5)
        assert row["deviation"] == pytest.approx(values.std(), rel=1e-4)
    cells = by_timestep(stream).set_index(["block", "timestep"])
    for (block, timestep), row in cells.iterrows():
        values = expected[[900, 500, 0].index(timestep), block]
        assert row["mean"] == pytest.approx(values.mean(), rel=1e-5)


def test_a_label_is_filtered_as_by_hand(run, table):  # noqa: F811
    expected = stream_by_hand(run).reshape(3, 2, 2, 4 * 16)  # labels 3 and 10, four images each
    chosen = at(table, point="resid", branch="mlp", label={run.name: 10}, timestep=500)
    means = by_block(chosen).set_index("block")["mean"]
    for block in (0, 1):
        assert means[block] == pytest.approx(expected[1, block, 1].mean(), rel=1e-5)


def test_the_distribution_counts_the_tokens_of_the_blocks_called_by_hand(run, spread):  # noqa: F811
    expected = stream_by_hand(run)[1, 1]
    rows = at(spread, point="resid", branch="mlp", timestep=500)
    found = distribution(rows[rows["block"] == 1])
    assert found["tokens"].sum() == expected.size and found["share"].sum() == pytest.approx(1)
    for row in found.itertuples():
        inside = (np.log2(expected) >= row.bin) & (np.log2(expected) < row.bin + 1 / 8)
        assert abs(inside.sum() - row.tokens) <= 1  # a token on an edge may round


def blocks_of(factors: dict[str, float]) -> pd.DataFrame:
    rows = [
        {"run": name, "weights": "final", "block": block, "branch": "mlp", "point": "resid",
         "mean": factor if block else 1.0, "deviation": 0.1, "n": 2560}
        for name, factor in factors.items()
        for block in (0, 1)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_the_answer_names_factor_runs_and_number_of_tokens():
    sentence = growth_sentence(blocks_of({"A": 6.123, "E": 1.02}), "at t = 500")
    assert sentence == (
        "From block 1 to 2 the stream's magnitude is multiplied at t = 500 by 6.12 in A, "
        "1.02 in E (2,560 tokens each)."
    )


def test_the_answer_of_many_runs_names_the_ends():
    sentence = growth_sentence(blocks_of({name: i + 1.0 for i, name in enumerate("ABCDEFG")}), "x")
    assert "most in 7 in G, least in 1 in A, 7 runs in view" in sentence


def test_where_nothing_is_finite_the_answer_says_that_it_cannot_tell():
    assert "cannot tell" in growth_sentence(blocks_of({"A": np.nan}), "at t = 0")


def test_panels_share_one_scale_and_hold_the_tables_numbers(table):
    rows = by_block(table)
    figure = magnitude_panels(rows, rows, log=False, title="x")
    assert go.Figure(figure.to_dict())  # plotly knows every property
    named = {trace.name: trace for trace in figure.data}
    expected = rows[(rows["point"] == "resid") & (rows["branch"] == "mlp")].sort_values("block")
    assert list(named["E resid mlp"].y) == list(expected["mean"])
    assert list(named["E resid mlp"].x) == [1, 2]
    band = named["E resid mlp band"].y
    assert band[0] == pytest.approx(expected["mean"].iloc[0] + 3 * expected["deviation"].iloc[0])
    assert {axis.matches for axis in figure.select_yaxes()} == {"y"}
    assert figure.layout.yaxis.title.text == "modulated input"


def test_the_map_is_white_at_one_and_every_cell_can_be_clicked(table):
    rows = by_timestep(at(table, point="resid", branch="mlp"))
    figure = magnitude_map(rows, rows["mean"], (1, 500), "x")
    heatmap, cells, chosen = figure.data
    assert heatmap.zmin == -heatmap.zmax
    place = (list(heatmap.y).index(2), list(heatmap.x).index(500))
    wanted = rows[(rows["block"] == 1) & (rows["timestep"] == 500)]["mean"].iloc[0]
    assert heatmap.z[place] == pytest.approx(np.log2(wanted))
    assert len(cells.x) == 2 * 3 and (chosen.x[0], chosen.y[0]) == (500, 2)
    assert figure.layout.xaxis.range[0] > figure.layout.xaxis.range[1]


def test_the_histogram_outlines_every_bin_and_closes_at_zero(spread):
    rows = distribution(spread)
    trace = magnitude_histogram(rows, "x").data[0]
    assert trace.y[0] == trace.y[-1] == 0
    assert sum(trace.y) == pytest.approx(1)

"""What is told of the runs: their log, the largest difference, and marks that mean nothing."""

import math
from dataclasses import replace

import pandas as pd
import pytest

from analysis.quality import FRECHET, NEAREST, OUTSIDE, RECOGNIZED
from analysis.runs_overview import (
    AVERAGED,
    HELD_OUT,
    TRAINING,
    largest_difference,
    learning_curves_of,
    log_trouble,
    overview,
    with_quality,
)
from app.components.runs_table import runs_table
from mpdit_core.runs import load_run
from tests.browser.small_runs import ladder, write_run


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return [load_run(write_run(folder, name, ladder()[name])) for name in ("A", "E")]


def quality(outside: float) -> pd.DataFrame:
    """`analysis.quality.summary` made by hand: A is ordinary, E has some images far outside."""
    values = {RECOGNIZED: 0.95, FRECHET: 20.0, NEAREST: 3.0}
    rows = [("A", name, value) for name, value in {**values, OUTSIDE: 0.0}.items()]
    rows += [("E", name, 100 * value) for name, value in {FRECHET: 40.0, NEAREST: 3.0}.items()]
    rows += [("E", RECOGNIZED, 0.97), ("E", OUTSIDE, outside)]
    table = pd.DataFrame(rows, columns=["run", "statistic", "value"])
    return table.assign(images="samples", spread=0.01, seeds=3, n=360)


def test_the_overview_holds_the_last_line_of_the_log_that_has_each_loss(runs):
    table = overview(runs).set_index("run")
    for run in runs:
        held_out = [line for line in run.metrics() if "heldout_loss" in line]
        assert table.loc[run.name, "heldout_loss"] == held_out[-1]["heldout_loss"]
        assert table.loc[run.name, "train_loss"] == list(run.metrics())[-1]["loss"]
        assert table.loc[run.name, "steps"] == run.steps[-1]
        assert table.loc[run.name, "parameters"] == sum(p.numel() for p in run.model().parameters())


def test_held_out_loss_is_that_of_the_average_where_it_was_tracked(runs):
    lines = [{"step": step, "loss": 1.0, "heldout_loss": 2.0} for step in (1, 2)]
    averaged = [{**line, "heldout_loss_ema_0.100": 0.5} for line in lines[:1]]
    tracked = replace(runs[0], read_metrics=lambda: [*averaged, lines[1]])
    assert overview([tracked])["heldout_loss"].item() == 0.5
    assert set(learning_curves_of(tracked)["part"]) == {TRAINING, HELD_OUT, AVERAGED}


def test_the_largest_difference_is_the_largest_ratio():
    measures = pd.DataFrame(
        [("A", "loss", 1.0, math.nan), ("B", "loss", 1.5, math.nan),
         ("A", "distance", 10.0, 1.0), ("B", "distance", 30.0, 4.0), ("C", "distance", 20.0, 9.0),
         ("A", "alone", 1.0, math.nan), ("B", "alone", math.nan, math.nan)],
        columns=["run", "measure", "value", "spread"],
    )  # fmt: skip
    found = largest_difference(measures)
    assert found is not None
    assert (found.measure, found.low, found.high, found.spread) == ("distance", "A", "B", 4.0)
    assert found.beyond_spread
    assert largest_difference(measures[measures["run"] == "A"]) is None


def test_a_distance_that_a_diverged_image_decides_is_not_a_number_of_the_table(runs):
    table = with_quality(overview(runs), quality(outside=1 / 1080)).set_index("run")
    assert table.loc["A", FRECHET] == 20.0
    assert math.isnan(table.loc["E", FRECHET]) and math.isnan(table.loc["E", NEAREST])
    assert table.loc["E", RECOGNIZED] == 0.97
    shown = runs_table(table.reset_index(), {}, ("A", "E"), "labels")
    assert shown.count("diverged") == 1
    whole = with_quality(overview(runs), quality(outside=0.0)).set_index("run")
    assert whole.loc["E", FRECHET] == 4000.0
    assert "diverged" not in runs_table(whole.reset_index(), {}, ("A", "E"), "labels")


def test_a_difference_within_the_spread_over_seeds_is_not_what_differs_most():
    measures = pd.DataFrame(
        [("A", "distance", 18.0, 2.0), ("E", "distance", 21.0, 3.0),
         ("A", "loss", 1.00, math.nan), ("E", "loss", 1.01, math.nan)],
        columns=["run", "measure", "value", "spread"],
    )  # fmt: skip
    found = largest_difference(measures)
    assert found is not None and found.measure == "loss"


@pytest.mark.parametrize(
    "line", ["5", "[]", '{"loss": 1.0}', '{"step": 1, "loss": "b"}', '{"step": 1, "loss": [1]}',
             '{"step": 1, "loss": ' + "9" * 400 + "}", "[" * 200_000]
)  # fmt: skip
def test_a_log_with_an_odd_line_is_told_and_hides_no_other_run(tmp_path, line):
    good, bad = (load_run(write_run(tmp_path, name, ladder()["A"])) for name in ("good", "bad"))
    log = bad.folder / "metrics.jsonl"
    log.write_text(line + "\n" + log.read_text())
    assert "line 1 is no" in log_trouble(bad)
    table = overview([good, bad]).set_index("run")
    assert math.isfinite(table.loc["good", "train_loss"])
    assert math.isnan(table.loc["bad", "train_loss"])

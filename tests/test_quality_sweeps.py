"""Sweeps of quality: their points, means and intervals, and the words that are made of them."""

from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from small_runs import ladder, modulation_runs, write_run

from analysis.defaults import SHOWN
from analysis.figures.quality import ringed, sweep_panels
from analysis.quality import FRECHET, OUTSIDE, RECOGNIZED, EvaluateSettings, sample_quality
from analysis.quality_answers import (
    MARKS,
    agreement,
    agreement_sentence,
    modulation_table,
    outside_sentence,
    parameters_sentence,
    quality_sentence,
    sweep_sentence,
)
from analysis.quality_sweeps import (
    DEFAULTS,
    GUIDANCE,
    LARGEST_ERROR,
    QUICK,
    RAW,
    SWEEPS,
    floors,
    marks_at,
    over_guidance,
    over_runs,
    over_steps,
    over_widths,
    widths_left_out,
)
from analysis.store import Store
from mpdit_core.runs import Run, find_runs, load_run
from mpdit_core.runs.shapes import parameter_count

SHIPPED = Path(__file__).parents[1] / "checkpoints" / "digits"
FAST = EvaluateSettings(n=12, seeds=(0, 1, 2), sampler="dpmpp", steps=2)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    """Raw weights at 200 and 400, averages of two widths at both."""
    return load_run(write_run(tmp_path_factory.mktemp("runs"), "E", ladder()["E"]))


def marks(*rows: tuple) -> pd.DataFrame:
    """`marks_at` made by hand: run, at, statistic, value, spread."""
    table = pd.DataFrame(rows, columns=["run", "at", "statistic", "value", "spread"])
    return table.assign(weights=SHOWN, line="", seeds=3, n=360)


def test_a_sweep_over_training_holds_raw_weights_and_averages_of_every_saved_step(run):
    points = over_steps(run, FAST)
    found = {(p.columns["line"], p.columns["at"]): p.weights for p in points}
    assert found == {
        (RAW, 200.0): "step-200", (RAW, 400.0): "final",
        ("EMA 10 %", 200.0): "ema-0.100-step-200", ("EMA 10 %", 400.0): "ema-0.100",
    }  # fmt: skip
    assert [p.columns["line"] for p in over_steps(replace(run, ema_files={}), FAST)] == [RAW] * 2


def test_points_of_different_sweeps_that_ask_the_same_are_one_stored_result(run, tmp_path):
    store = Store(tmp_path)

    def keys(points):
        return [store.key(sample_quality, run, p.weights, p.settings) for p in points]

    shared = set(keys(over_steps(run))) & set(keys(over_guidance(run, SHOWN)))
    assert len(shared) == 1 and shared < set(keys(over_widths(run)))
    assert len(set(keys(over_guidance(run, SHOWN)))) == len(GUIDANCE)


def test_widths_that_the_snapshots_cannot_give_are_left_out_with_a_reason(run):
    widths = (0.05, 0.1, 0.2, 0.28)
    errors = {width: run.reconstruction(width).error for width in widths}
    assert errors[0.28] > LARGEST_ERROR  # two steps are too few for it
    assert [p.columns["at"] for p in over_widths(run, FAST, widths)] == [
        width for width in widths if errors[width] <= LARGEST_ERROR
    ]
    (sentence,) = widths_left_out([run], widths)
    assert sentence.startswith("E: 4 snapshots miss") and "0.28 by" in sentence
    without = replace(run, ema_files={})
    assert over_widths(without, FAST) == []
    assert widths_left_out([without]) == ["E: no curve, because no EMA is kept."]
    trapped = replace(run, ema_trap="near-copies")
    assert widths_left_out([trapped, trapped]) == [
        "E, E: no curve, because EMA files are no averages."
    ]


def test_means_and_intervals_over_seeds_are_those_of_scipy(run):
    points = over_guidance(run, "final", FAST, (1.0, 2.0))
    table = pd.concat([p.placed(sample_quality(p.run, p.weights, p.settings)) for p in points])
    found = marks_at(table).set_index(["at", "statistic"])
    assert len(found) == 2 * 5
    values = table[(table["at"] == 2) & (table["images"] == "samples")]
    values = values.loc[values["statistic"] == FRECHET, "value"]
    row = found.loc[(2.0, FRECHET)]
    assert row["value"] == pytest.approx(np.mean(values))
    assert row["spread"] == pytest.approx(np.std(values, ddof=1))
    expected = stats.t.interval(0.95, 2, loc=values.mean(), scale=stats.sem(values))
    assert (row["low"], row["high"]) == pytest.approx(expected)
    assert (row["seeds"], row["n"]) == (3, 12)
    real = table[(table["images"] == "training") & (table["statistic"] == FRECHET)]
    assert floors(table)[FRECHET] == pytest.approx(real["value"].mean())
    assert set(floors(table)) == set(MARKS)


def test_one_seed_has_no_spread_and_is_told_without_one():
    one = marks(("A", 1.0, FRECHET, 20.0, np.nan)).assign(seeds=1)
    said = quality_sentence(one, {FRECHET: 12.0}, FRECHET, "EMA")
    assert "(EMA) of samples of A: 20;" in said and "training images have 12" in said


def test_the_answer_names_the_ends_and_says_when_they_are_not_told_apart():
    apart = marks(("A", 1.0, FRECHET, 20.0, 1.0), ("B", 1.0, FRECHET, 30.0, 2.0))
    said = quality_sentence(apart, {FRECHET: 12.5}, FRECHET, "final")
    assert "lowest in A with 20 ± 1, highest in B with 30 ± 2; training images have 12.5" in said
    alike = marks(("A", 1.0, RECOGNIZED, 0.97, 0.01), ("B", 1.0, RECOGNIZED, 0.98, 0.01))
    said = quality_sentence(alike, {RECOGNIZED: 0.989}, RECOGNIZED, "final")
    assert "highest in B with 98.0 ± 1" in said and "no further apart than twice" in said
    assert quality_sentence(apart.head(0), {}, FRECHET, "") == "No run in view could be judged."


def test_a_sweep_tells_where_each_run_is_best_and_which_moves_most():
    rows = [(run, at, FRECHET, value, 1.0)
            for run, values in {"A": (20, 25, 60), "C": (30, 28, 40), "D": (30, 31, 32)}.items()
            for at, value in zip((1.0, 2.0, 5.0), values, strict=True)]  # fmt: skip
    said = sweep_sentence(marks(*rows), FRECHET, lambda at: f"guidance {at:g}", "guidance")
    assert "best at guidance 1 for A, at guidance 2 for C; no two places" in said
    assert "twice the spread for D. The Fréchet distance moves most in A: 20 ± 1 at" in said
    assert "guidance 1, 60 ± 1 at guidance 5." in said
    assert sweep_sentence(marks(rows[0]), FRECHET, str, "guidance") == ""


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> list[Run]:
    folder = tmp_path_factory.mktemp("study")
    names = ("shift-scale-gate", "scale-rotation")
    return [load_run(write_run(folder, name, modulation_runs()[name])) for name in names]


def test_the_ablation_counts_parameters_relative_to_the_whole_modulation(study):
    whole, fewer = study
    found = marks(*((run.name, 1.0, FRECHET, 20.0, 1.0) for run in study))
    table = modulation_table(study, found)
    assert table["run"].tolist() == [fewer.name, whole.name]
    counts = [sum(p.numel() for p in run.model("final").parameters()) for run in study]
    assert table["parameters"].tolist() == counts[::-1]
    assert table["relative"].tolist() == pytest.approx([counts[1] / counts[0] - 1, 0.0])
    assert table["reference"].tolist() == [whole.name] * 2
    assert table[FRECHET].tolist() == ["20 ± 1"] * 2 and table[RECOGNIZED].tolist() == ["–"] * 2
    share = 100 * (1 - counts[1] / counts[0])
    said = parameters_sentence(study, found, FRECHET)
    assert f"scale-rotation has {share:.1f} % fewer parameters than shift-scale-gate" in said
    assert parameters_sentence([whole], found, FRECHET) == ""
    assert [p.columns["at"] for p in over_runs(study, "final")] == [
        parameter_count(run.config) for run in study
    ]


def test_the_ring_lies_on_the_chosen_point_of_a_figure_that_was_kept_and_copied():
    rows = [(run, at, FRECHET, value, 1.0) for run, value in {"A": 20.0, "E": 30.0}.items()
            for at in (1.0, 2.0, 5.0)]  # fmt: skip
    table = marks(*rows).assign(line="final", low=0.0, high=40.0)
    table["value"] += table["at"]
    figure = deepcopy(sweep_panels(table, FRECHET, {FRECHET: 12.0}, SWEEPS["guidance"], "title"))
    ring = ringed(figure, "E", "final", 2.0).data[-1]
    assert (ring.name, ring.x, ring.y) == ("chosen", (2.0,), (32.0,))


def test_samplers_that_differ_by_more_than_the_spread_are_said_to_differ():
    quick = marks(("A", 1.0, FRECHET, 21.0, 3.0), ("B", 1.0, FRECHET, 40.0, 3.0))
    full = marks(("A", 1.0, FRECHET, 20.0, 4.0), ("B", 1.0, FRECHET, 20.0, 4.0))
    found = agreement(quick, full)
    assert found["difference"].tolist() == [1.0, 20.0] and found["spread"].tolist() == [5.0, 5.0]
    said = agreement_sentence(found, FRECHET, "DPM-Solver++", "DDPM")
    assert "in 1 of 2 runs; furthest apart in B: 40 against 20" in said
    assert agreement_sentence(found.head(0), FRECHET, "a", "DDPM").startswith("DDPM was not drawn")


def test_images_far_outside_the_data_are_told_because_they_decide_the_distance():
    rows = marks(("A", 1.0, OUTSIDE, 0.0, 0.0), ("E", 1.0, OUTSIDE, 2 / 1080, 0.001))
    said = outside_sentence(rows, "DDPM")
    assert said.startswith("DDPM draws 2 of 1,080 images of E with pixels far outside")
    assert outside_sentence(rows.head(1), "DDPM") == ""


def test_every_point_that_the_page_shows_first_is_precomputed(tmp_path):
    """Of the shipped runs; a result is found by its key, so keys are compared."""
    store = Store(tmp_path)
    for run in find_runs(SHIPPED):
        assert isinstance(run, Run)
        points = over_steps(run) + over_guidance(run, SHOWN) + over_widths(run)
        shown = {store.key(sample_quality, run, p.weights, p.settings) for p in points}
        held = {str(w) for w in run.weights()} | {p.weights for p in points}
        computed = {
            store.key(sample_quality, run, weights, default.settings)
            for default in DEFAULTS
            for weights in default.weights
            if weights in held and (not default.runs or run.name in default.runs)
        }
        assert computed == shown
    assert all(default.settings.n == QUICK.n for default in DEFAULTS)

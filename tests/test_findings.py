"""Findings: intervals against simulation and libraries, sentences against tables made by hand."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.estimates import Count, Paired, Told
from analysis.findings import Findings, Measure, as_table, findings, scope
from analysis.findings_measures import (
    MEASURES,
    held_out_loss,
    misread,
    misread_after,
    stream_growth,
)

NO_QUESTION = ()


def made(values: dict[str, float], spread: float, name: str = "size") -> Measure:
    """A measure whose estimates are these values, known to within a factor of `spread`."""

    def estimates(_):
        return {run: Told(x, x / spread, x * spread, 40) for run, x in values.items()}

    return Measure(name, NO_QUESTION, estimates, lambda a, b, x, y: f"{a} {x:g}, {b} {y:g}", "n")


def test_the_ratio_of_paired_means_has_the_interval_that_covers_it():
    """Pairs share most of their noise: the interval is far narrower than of independent means."""
    rng, hits, widths = np.random.default_rng(0), 0, []
    for _ in range(400):
        shared = rng.lognormal(0, 0.5, size=50)
        a = pd.Series(3.0 * shared * rng.lognormal(0, 0.1, size=50))
        b = pd.Series(2.0 * shared * rng.lognormal(0, 0.1, size=50))
        ratio = Paired.mean(a).ratio(Paired.mean(b), 0.95)
        hits += ratio.low <= 1.5 <= ratio.high
        widths.append(math.log(ratio.high / ratio.low))
    assert 0.92 <= hits / 400 <= 0.98
    assert np.mean(widths) < 0.5 * 2 * 1.96 * 0.5 * math.sqrt(2 / 50)


def test_the_interval_of_paired_means_is_that_of_a_bootstrap():
    rng = np.random.default_rng(1)
    a, b = (pd.Series(rng.gamma(5, size=200)) for _ in range(2))
    ratio = Paired.mean(a).ratio(Paired.mean(b), 0.99)
    drawn = stats.bootstrap(
        (a, b), lambda x, y, axis: x.mean(axis) / y.mean(axis), paired=True, vectorized=True,
        confidence_level=0.99, method="percentile", rng=2,
    ).confidence_interval  # fmt: skip
    assert (ratio.low, ratio.high) == pytest.approx((drawn.low, drawn.high), rel=0.02)
    assert ratio.value == pytest.approx(a.mean() / b.mean())


def test_independent_values_add_their_errors_and_counts_are_katz():
    a, b = Told(2.0, 1.6, 2.5, 10), Told(1.0, 0.8, 1.25, 20)
    ratio = a.ratio(b, 0.95)
    assert (ratio.value, ratio.n) == (2.0, 10)
    assert math.log(ratio.high / 2.0) == pytest.approx(math.sqrt(2) * math.log(1.25))
    counted = Count(30, 1000).ratio(Count(10, 1000), 0.95)
    error = math.sqrt(1 / 30 - 1 / 1000 + 1 / 10 - 1 / 1000)
    assert counted.low == pytest.approx(3 * math.exp(-1.96 * error), rel=1e-3)
    assert not Count(3, 100).ratio(Count(0, 100), 0.95).certain  # no event, no ratio
    assert not Paired.mean(pd.Series([1.0])).ratio(Paired.mean(pd.Series([5.0])), 0.95).certain


def test_a_share_of_zero_has_a_ratio_and_is_shown_as_zero():
    never, often = (
        Paired.share(pd.Series(x, dtype=float)) for x in ([0] * 50, [1] * 30 + [0] * 20)
    )
    assert (never.shown, often.shown) == (0.0, 0.6)
    assert often.ratio(never, 0.95).certain


def test_the_largest_ratio_of_each_measure_is_told_the_largest_first():
    measures = [made({"A": 1.0, "B": 3.0, "C": 2.0}, 1.1, "small"), made({"A": 9.0, "B": 1.0}, 1.1)]
    found = findings(measures, {"small": [], "size": []})
    assert [one.measure for one in found.found] == ["size", "small"]
    assert found.found[1].runs == ("B", "A")
    assert found.found[1].sentence.startswith("B 3, A 1; a factor of 3 (")
    assert found.comparisons == 4
    assert as_table(found)["factor"].tolist() == pytest.approx([9.0, 3.0])


def test_a_difference_whose_interval_includes_1_is_no_sentence():
    sure, unsure = (
        made({"A": 1.0, "B": 2.0}, 1.2, "sure"),
        made({"A": 1.0, "B": 2.0}, 3.0, "unsure"),
    )
    found = findings([sure, unsure], {"sure": [], "unsure": []})
    assert [one.measure for one in found.found] == ["sure"]
    assert found.uncertain == ("unsure",)
    assert "No difference beyond chance: unsure." in scope(found)
    assert findings([sure], {"sure": None}).absent == ("sure",)
    assert scope(Findings((), 0)) == ""


def test_more_comparisons_widen_every_interval():
    """Among runs that differ by chance alone, a sentence appears in at most 5 % of cases."""
    rng, told = np.random.default_rng(3), 0
    for _ in range(300):
        runs = {name: Paired.mean(pd.Series(rng.lognormal(0, 0.3, size=60))) for name in "ABCDEFGH"}
        measure = Measure("chance", (), lambda _, runs=runs: runs, lambda *_: "", "n")
        told += bool(findings([measure], {"chance": []}).found)
    assert told / 300 <= 0.08


def test_the_growth_of_the_stream_is_the_quotient_of_the_shown_means():
    rng, rows = np.random.default_rng(4), []
    for run, factor in {"A": 2.0, "E": 0.5}.items():
        for label in range(11):
            noise = rng.lognormal(0, 0.02)
            for block, value in enumerate((1.0, 1.0, factor)):
                rows.append((run, block, "mlp", "resid", 499, label, "mean", value * noise))
    names = ["run", "block", "branch", "point", "timestep", "label", "statistic", "value"]
    found = stream_growth([pd.DataFrame(rows, columns=names)])
    assert found["A"].value == pytest.approx(2.0, rel=1e-6)
    assert found["A"].ratio(found["E"], 0.95).value == pytest.approx(4.0, rel=1e-6)


def test_samples_misread_are_counted_over_all_seeds():
    rows = [("A", "samples", seed, "recognized", share, 360)
            for seed, share in enumerate((350 / 360, 351 / 360, 1.0))]  # fmt: skip
    names = ["run", "images", "seed", "statistic", "value", "n"]
    assert misread([pd.DataFrame(rows, columns=names)]) == {"A": Count(19, 1080)}


def test_before_and_after_are_paired_by_image_and_runs_without_labels_are_left_out():
    after = pd.DataFrame({"run": "A", "index": range(4), "label": 3, "read": [3, 3, 5, 5]})
    before = after.assign(read=[3, 3, 3, 5])
    changed, whole = misread_after([before, after])["A"]
    assert (changed.shown, whole.shown) == (0.5, 0.25)
    assert changed.influence.sub(whole.influence).index.tolist() == [0, 1, 2, 3]
    unread = before.assign(read=pd.array([pd.NA] * 4, dtype="Int64"))
    assert misread_after([unread, unread]) == {}


def test_a_run_with_losses_that_are_not_finite_is_left_out():
    rows = [(run, index, t, value) for run, value in {"A": 0.1, "B": math.nan}.items()
            for index in range(3) for t in (0, 999)]  # fmt: skip
    table = pd.DataFrame(rows, columns=["run", "index", "timestep", "value"])
    assert list(held_out_loss([table])) == ["A"]


def test_names_are_unique_so_that_each_opens_its_own_view():
    names = [measure.name for measure in MEASURES]
    assert len(set(names)) == len(names)

"""Distances to the training set against brute force, and copies that are found to be copies."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from small_runs import ladder, write_run

from analysis.copying import (
    CopySettings,
    closest_pairs,
    copying,
    copying_sentence,
    nearest_training,
)
from mpdit_core.data import digits
from mpdit_core.errors import BadData
from mpdit_core.runs import load_run

FEW = CopySettings(n=20, seeds=(0, 1), steps=2, pairs=3)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return load_run(write_run(tmp_path_factory.mktemp("runs"), "E", ladder()["E"]))


@pytest.fixture
def drawing(monkeypatch):
    """drawing(images): let the sampler draw these, the same for every seed."""

    def draw(images: torch.Tensor) -> None:
        monkeypatch.setattr("analysis.quality.sample", lambda *_, **__: images)

    return draw


def test_every_distance_is_that_of_brute_force_and_the_nearest_pairs_are_kept(run, drawing):
    data = digits()
    images = torch.randn(20, 1, 8, 8)
    drawing(images)
    table = nearest_training(run, "final", FEW)
    drawn, real = (table[table["images"] == kind] for kind in ("samples", "held-out"))
    assert len(drawn) == 40 and len(real) == 20 and real["seed"].isna().all()
    for rows, shown in ((drawn.head(20), images), (real, data.heldout_images[:20])):
        for place, row in enumerate(rows.itertuples()):
            apart = [float((shown[place] - image).norm()) for image in data.train_images]
            assert row.value == pytest.approx(min(apart), rel=1e-4)
            assert row.nearest == int(np.argmin(apart))
            assert row.nearest_label == int(data.train_labels[row.nearest])
    pairs = closest_pairs(table, "E")
    assert len(pairs) == 3
    assert pairs["value"].tolist() == sorted(drawn["value"])[:3]
    best = pairs.iloc[0]
    scale, shift = data.info.std[0], data.info.mean[0]
    np.testing.assert_allclose(
        best["pixels"], images[best["index"]].flatten() * scale + shift, rtol=1e-5
    )
    np.testing.assert_allclose(
        best["training_pixels"], data.train_images[best["nearest"]].flatten() * scale + shift,
        rtol=1e-5,
    )  # fmt: skip


def test_copies_of_training_images_are_said_to_be_nearer(run, drawing):
    drawing(digits().train_images[:20] + 0.01)
    found = copying(nearest_training(run, "final", FEW))
    row = found.iloc[0]
    assert row["samples"] == pytest.approx(0.01 * 8, rel=1e-3) and row["near"] == 1.0
    said = copying_sentence(found)
    assert said.startswith("Samples of E lie nearer to the training images than held-out digits")
    assert "40 samples, 20 held-out digits" in said


def test_noise_is_said_not_to_lie_nearer(run, drawing):
    drawing(torch.randn(20, 1, 8, 8))
    said = copying_sentence(copying(nearest_training(run, "final", FEW)))
    assert said.startswith("Samples of E do not lie measurably nearer")


def distances(**means: float) -> pd.DataFrame:
    draw = np.random.default_rng(0)
    parts = []
    for run, mean in means.items():
        for kind, centre, n in (("samples", mean, 300), ("held-out", 3.0, 100)):
            values = draw.normal(centre, 0.5, n)
            parts.append(pd.DataFrame({"run": run, "weights": "w", "images": kind,
                                       "value": values}))  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def test_the_interval_is_that_of_welch():
    table = distances(A=2.8)
    row = copying(table).iloc[0]
    drawn, real = (table.loc[table["images"] == kind, "value"] for kind in ("samples", "held-out"))
    expected = stats.ttest_ind(drawn, real, equal_var=False).confidence_interval()
    assert (row["low"], row["high"]) == pytest.approx((expected.low, expected.high))
    assert row["near"] == pytest.approx((drawn < real.quantile(0.05)).mean())


def test_of_several_runs_those_that_copy_are_named():
    said = copying_sentence(copying(distances(A=3.3, B=2.0, C=2.5)))
    assert said.startswith("Samples of B, C lie nearer") and "nearest B: mean distance 2.0" in said
    said = copying_sentence(copying(distances(A=3.3, B=3.6)))
    assert said.startswith("Samples of no run lie measurably nearer") and "nearest A" in said


def test_a_run_that_draws_no_digits_is_refused(run):
    other = replace(run, data=run.data.model_copy(update={"name": "latents"}))
    with pytest.raises(BadData, match="'latents'"):
        nearest_training(other, "final", FEW)

"""The judges of samples against closed forms, brute force, and images whose marks are known."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from analysis.classifiers import Recognizer, digit_features, recognizer, train_features
from analysis.quality import (
    EvaluateSettings,
    draw,
    frechet_distance,
    kernel_distance,
    nearest_distances,
    sample_quality,
    summary,
)
from mpdit_core.config import TrainConfig, preset
from mpdit_core.data import digits
from mpdit_core.errors import BadData, InvalidConfig
from mpdit_core.runs import load_run
from mpdit_core.training import train

QUICK = EvaluateSettings(n=40, seeds=(3, 4), sampler="ddim", steps=2)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "E"
    train(folder, preset("E", depth=1, width=8, heads=1), TrainConfig(steps=1, batch=8), digits())
    return load_run(folder)


def test_the_recognizer_reads_97_percent_of_digits_it_never_saw():
    data = digits()
    read = recognizer().labels_of(data.heldout_images)
    assert float((read == data.heldout_labels).double().mean()) >= 0.97
    wrong = Recognizer(data.train_images, data.train_labels.roll(1)).labels_of(data.heldout_images)
    assert float((wrong == data.heldout_labels).double().mean()) < 0.5


def test_the_shipped_features_read_97_percent_too_and_training_gives_the_same_weights_each_time():
    data = digits()
    read = digit_features().labels_of(data.heldout_images)
    assert float((read == data.heldout_labels).double().mean()) >= 0.97
    once, again = train_features(data).state_dict(), train_features(data).state_dict()
    assert all(torch.equal(once[name], again[name]) for name in once)


def test_frechet_distance_is_the_closed_form_for_gaussians_of_the_features():
    data = digits()
    ones = data.train_images[data.train_labels == 1][:100]
    mixed = data.heldout_images[:100]
    ours, theirs = (digit_features()(part).double().numpy() for part in (ones, mixed))
    root = sqrtm(np.cov(ours.T) @ np.cov(theirs.T)).real
    expected = np.square(ours.mean(0) - theirs.mean(0)).sum()
    expected += np.trace(np.cov(ours.T) + np.cov(theirs.T) - 2 * root)
    # Singular covariances (100 images, 64 features) cost the matrix root some digits.
    assert frechet_distance(ones, mixed) == pytest.approx(expected, rel=1e-3)
    assert frechet_distance(mixed, mixed) == pytest.approx(0, abs=1e-2 * expected)


def test_kernel_distance_is_the_unbiased_estimate_of_the_polynomial_kernel():
    data = digits()
    images, others = data.train_images[:30], data.heldout_images[:30]
    ours, theirs = (digit_features()(part).double().numpy() for part in (images, others))

    def kernel(one, other):
        return (one @ other.T / one.shape[1] + 1) ** 3

    apart = ~np.eye(30, dtype=bool)
    within = kernel(ours, ours)[apart].mean() + kernel(theirs, theirs)[apart].mean()
    expected = within - 2 * kernel(ours, theirs).mean()
    assert kernel_distance(images, others) == pytest.approx(expected, rel=1e-3)


def test_images_that_are_not_finite_are_refused_in_one_sentence(run, monkeypatch):
    broken = torch.zeros(40, 1, 8, 8)
    broken[3, 0, 2, 2] = torch.nan
    monkeypatch.setattr("analysis.quality.sample", lambda *_, **__: broken)
    with pytest.raises(BadData, match="draws 1 of 40 images that are not finite"):
        sample_quality(run, "final", QUICK)


def test_images_that_left_the_range_of_the_data_are_counted(run, monkeypatch):
    drawn = digits().heldout_images[:40].clone()
    low, high = float(drawn.min()), float(drawn.max())
    drawn[3, 0, 0, 0] = high + 1.1 * (high - low)
    drawn[4, 0, 0, 0] = low - 1.1 * (high - low)
    drawn[5, 0, 0, 0] = high + 0.9 * (high - low)
    monkeypatch.setattr("analysis.quality.sample", lambda *_, **__: drawn)
    table = sample_quality(run, "final", QUICK)
    assert table.loc[table["statistic"] == "outside_range", "value"].tolist() == [2 / 40] * 2


def test_nearest_distance_is_that_of_brute_force():
    images, others = torch.randn(5, 1, 8, 8), torch.randn(7, 1, 8, 8)
    expected = [min(float((one - other).norm()) for other in others) for one in images]
    np.testing.assert_allclose(nearest_distances(images, others), expected, rtol=1e-5)


def test_the_table_holds_every_mark_of_every_seed_beside_those_of_real_images(run):
    table = sample_quality(run, "final", QUICK)
    drawn = table[table["images"] == "samples"]
    assert sorted(drawn["seed"].unique()) == [3, 4]
    assert (drawn.groupby("seed")["statistic"].nunique() == 5).all()
    assert (table["n"] == 40).all()
    marks = summary(table).set_index(["images", "statistic"])["value"]
    assert marks["held-out", "recognized"] >= 0.9
    assert marks["samples", "recognized"] < 0.5  # one step of training draws no digits
    assert marks["samples", "frechet_distance"] > 2 * marks["training", "frechet_distance"]
    assert marks["samples", "kernel_distance"] > abs(10 * marks["training", "kernel_distance"])
    assert marks["samples", "nearest_distance"] > 2 * marks["held-out", "nearest_distance"]


def test_the_spread_is_that_of_the_sampling_seeds(run):
    table = sample_quality(run, "final", QUICK)
    rows = table[(table["images"] == "samples") & (table["statistic"] == "nearest_distance")]
    assert rows["value"].nunique() == 2  # another seed, other samples
    found = summary(table).set_index(["images", "statistic"]).loc[("samples", "nearest_distance")]
    assert found["spread"] == pytest.approx(rows["value"].std())
    assert found["seeds"] == 2


def test_samples_are_those_of_one_batch_however_many_are_drawn_at_once(run, monkeypatch):
    data = digits()
    whole = draw(run, "final", data, QUICK, 3)
    monkeypatch.setattr("analysis.quality.AT_ONCE", 7)
    torch.testing.assert_close(draw(run, "final", data, QUICK, 3), whole)
    assert len({tuple(image.flatten().tolist()) for image in whole}) == len(whole)


def test_the_same_settings_give_the_same_table(run):
    first, second = (sample_quality(run, "final", QUICK) for _ in range(2))
    assert first.equals(second)


def test_more_images_than_are_held_out_cannot_be_judged():
    with pytest.raises(InvalidConfig, match="n was 361"):
        EvaluateSettings.checked({"n": 361})


def test_a_run_on_other_images_is_refused_in_one_sentence(run):
    other = replace(run, data=run.data.model_copy(update={"name": "unknown"}))
    with pytest.raises(BadData, match="'E' was trained on 'unknown'"):
        sample_quality(other, "final", QUICK)

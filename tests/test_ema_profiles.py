"""Profiles, coefficients, decay factors and lengths of averages, from a small real training."""

import numpy as np
import pytest

from analysis.ema_profiles import (
    CoefficientSettings,
    DecaySettings,
    LengthSettings,
    ProfileSettings,
    ema_coefficients,
    ema_decay,
    ema_length,
    ema_profile,
)
from mpdit_core.config import TrainConfig, preset
from mpdit_core.data import digits
from mpdit_core.ema import decay_factor, gamma_of, reconstruct
from mpdit_core.errors import NoSuchWeights
from mpdit_core.runs import load_run
from mpdit_core.training import train


@pytest.fixture(scope="module", params=["A", "E"])
def run(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("profiles") / request.param
    settings = TrainConfig(
        steps=20, batch=8, learning_rate=1e-2, warmup=2, save_every=0, ema_every=5,
        state_every=20, evaluate_every=20,
    )  # fmt: skip
    train(folder, preset(request.param, depth=1, width=8, heads=2), settings, digits())
    return load_run(folder)


def test_the_drawn_curves_are_the_ideal_and_the_mixed_profile(run):
    table = ema_profile(run, "ema-0.150", ProfileSettings(points=500))
    curves = {curve: rows for curve, rows in table.groupby("curve")}
    assert set(curves) == {"ideal", "reconstructed"} and set(table["n"]) == {8}
    steps, gamma = curves["ideal"]["step"].to_numpy(), gamma_of(0.15)
    np.testing.assert_allclose(curves["ideal"]["value"], (gamma + 1) * (steps / 20) ** gamma)
    mixed, ideal = curves["reconstructed"]["value"].to_numpy(), curves["ideal"]["value"].to_numpy()
    assert np.trapezoid(mixed, steps / 20) == pytest.approx(1, abs=1e-3)
    error = np.trapezoid((mixed - ideal) ** 2, steps) / np.trapezoid(ideal**2, steps)
    assert table["error"].iloc[0] == pytest.approx(np.sqrt(error), rel=1e-2)


def test_a_profile_drops_right_after_a_snapshot_and_not_before(run):
    table = ema_profile(run, "ema-0.200", ProfileSettings(points=2))
    rows = table[(table["curve"] == "reconstructed") & table["step"].between(14.99, 15.01)]
    at, after = rows.sort_values("step")["value"]
    assert abs(at - after) > 0.05


def test_coefficients_are_those_the_weights_are_mixed_with(run):
    table = ema_coefficients(run, "ema-0.150", CoefficientSettings())
    expected = reconstruct([5, 10, 15, 20] * 2, [0.05] * 4 + [0.1] * 4, 20, 0.15)
    np.testing.assert_allclose(table["value"], expected.coefficients)
    assert list(table["snapshot_step"]) == [5, 10, 15, 20] * 2
    assert table["value"].sum() == pytest.approx(1)
    assert set(table["raw_sum"]) == {expected.raw_sum}


def test_decay_factors_are_listed_for_tracked_widths_and_the_one_asked_for(run):
    table = ema_decay(run, "ema-0.150", DecaySettings(steps=100))
    assert dict(table.groupby("sigma_rel")["tracked"].first()) == {
        0.05: True,
        0.1: True,
        0.15: False,
    }
    assert table["step"].min() == 1 and table["step"].max() == 100
    for row in table.sample(20, random_state=0).to_dict("records"):
        assert row["value"] == decay_factor(gamma_of(row["sigma_rel"]), row["step"])


def test_lengths_are_measured_against_the_final_raw_weights(run):
    table = ema_length(run, "ema-0.100", LengthSettings()).set_index("tensor")
    name = "blocks.0.mlp.core.up.weight"
    average, raw = run.state_dict("ema-0.100")[name], run.state_dict("final")[name]
    assert table.loc[name, "value"] == pytest.approx(float(average.norm() / raw.norm()), rel=1e-6)
    assert table.loc[name, "n"] == 32
    assert set(table["normalized"]) == {run.config.weight_normalization}


@pytest.mark.parametrize("weights", ["final", "initial", "step-5"])
def test_a_profile_belongs_to_an_average_and_says_so(run, weights):
    with pytest.raises(NoSuchWeights, match=r"ema-0\.150"):
        ema_profile(run, weights, ProfileSettings())

"""Loss by timestep against brute force, image by image, and against a bootstrap."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from small_runs import ladder, write_run

from analysis.loss_by_timestep import (
    LossSettings,
    compared_losses,
    finite_runs,
    loss_by_timestep,
    losses_sentence,
    mean_losses,
)
from mpdit_core.data import digits
from mpdit_core.errors import BadData, InvalidConfig
from mpdit_core.noise import sample_noise
from mpdit_core.runs import load_run

FEW = LossSettings(timesteps=(999, 400, 0), n=7, seed=5)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return load_run(write_run(tmp_path_factory.mktemp("runs"), "E", ladder()["E"]))


def test_every_loss_is_that_of_its_image_alone_noised_by_the_formula(run):
    table = loss_by_timestep(run, "final", FEW)
    assert len(table) == 3 * 7
    model, data = run.model("final"), digits()
    signal = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))
    noise = sample_noise(5, range(7), (1, 8, 8))
    for row in table.itertuples():
        image, label = data.heldout_images[row.Index % 7], data.heldout_labels[row.Index % 7]
        share = float(signal[row.timestep])
        noisy = share**0.5 * image + (1 - share) ** 0.5 * noise[row.Index % 7]
        with torch.no_grad():
            out = model(noisy[None], torch.tensor([row.timestep]), label[None])
        expected = float((out[0, :1] - noise[row.Index % 7]).square().mean())
        assert row.value == pytest.approx(expected, rel=1e-3)
        assert row.label == int(label)


def test_the_images_are_at_most_those_held_out_and_the_same_in_any_number(run):
    one = LossSettings(timesteps=(500,), n=1000)
    table = loss_by_timestep(run, "final", one)
    assert len(table) == 360
    few = loss_by_timestep(run, "final", one.model_copy(update={"n": 3}))
    np.testing.assert_allclose(table["value"].head(3), few["value"], rtol=1e-4)


def test_timesteps_that_do_not_exist_and_unknown_images_are_refused(run):
    with pytest.raises(InvalidConfig, match="timesteps held 1000; run 'E' has 0 to 999"):
        loss_by_timestep(run, "final", LossSettings(timesteps=(1000,)))
    unknown = replace(run, data=run.data.model_copy(update={"name": "unknown"}))
    with pytest.raises(BadData, match="unknown"):
        loss_by_timestep(unknown, "final", FEW)


def losses(seed: int, worse: float, n: int = 400) -> pd.DataFrame:
    """Two runs whose losses at t = 500 share the difficulty of each image."""
    draw = np.random.default_rng(seed)
    hard = draw.gamma(4.0, 0.05, n)
    parts = {"A": hard, "B": worse * hard + draw.normal(0, 0.01, n)}
    tables = [pd.DataFrame({"run": name, "weights": "final", "timestep": 500,
                            "index": np.arange(n), "value": values})
              for name, values in parts.items()]  # fmt: skip
    return pd.concat(tables, ignore_index=True)


def test_the_interval_of_a_ratio_is_that_of_a_paired_bootstrap():
    table = losses(0, 1.1)
    row = compared_losses(table, "A").iloc[0]
    one, other = (table.loc[table["run"] == name, "value"].to_numpy() for name in "AB")
    draw = np.random.default_rng(1)
    picks = [draw.integers(0, len(one), len(one)) for _ in range(4000)]
    ratios = [other[pick].mean() / one[pick].mean() for pick in picks]
    low, high = np.quantile(ratios, [0.025, 0.975])
    assert row["value"] == pytest.approx(other.mean() / one.mean())
    assert row["high"] - row["low"] == pytest.approx(high - low, rel=0.1)
    assert row["low"] == pytest.approx(low, abs=0.1 * (high - low))


def test_means_have_the_standard_error_of_their_images():
    table = losses(0, 1.1, n=50)
    row = mean_losses(table).set_index("run").loc["B"]
    own = table.loc[table["run"] == "B", "value"]
    assert row["error"] == pytest.approx(own.std(ddof=1) / np.sqrt(50)) and row["n"] == 50


def sentence(table):
    return losses_sentence(mean_losses(table), compared_losses(table, "A"), "A")


def test_the_sentence_names_the_run_furthest_away_or_says_that_none_is():
    said = sentence(losses(0, 1.1))
    assert said.startswith("Furthest from A is B at t = 500: a loss 9.8 % higher")
    assert sentence(losses(3, 1.0)).startswith("At no timestep is a run told apart")
    alone = losses(0, 1.1)
    assert sentence(alone[alone["run"] == "A"]).startswith("A predicts the noise best")


def test_runs_whose_losses_are_not_finite_are_left_out_with_a_sentence():
    table = losses(0, 1.1, n=10)
    table.loc[table["run"] == "B", "value"] = np.nan
    kept, sentences = finite_runs(table)
    assert set(kept["run"]) == {"A"}
    assert sentences == ["B: 10 of its losses are not finite; it is left out."]

"""What the condition does to each block: signals, angles, shares, change of magnitude."""

import itertools

import numpy as np
import pandas as pd
import pytest
import torch

from analysis.modulation import ModulationGrid, at_label, modulation_strength, signal_grids
from analysis.modulation_angles import (
    EVERY_TIMESTEP,
    rotation_angles,
    rotation_wraps,
    within_one_turn,
    wraps,
)
from analysis.modulation_change import ChangeSettings, modulation_change
from analysis.modulation_shares import ShareGrid, modulation_shares, two_way
from mpdit_core import load_run
from mpdit_core.config import ModelConfig, modulation_study, preset
from mpdit_core.data import digits
from mpdit_core.model import MPDiT
from mpdit_core.noise import sample_noise
from mpdit_core.points import visiting
from mpdit_core.runs.files import write_tensors
from mpdit_core.runs.native import weights_file
from mpdit_core.schedule import noise_schedule
from tests.browser.small_runs import SIZES, write_run

ALL = ("scale", "shift", "rotation", "gate")
COARSE = ModulationGrid(every=333, most_labels=3)


def with_random_gains(config: ModelConfig) -> MPDiT:
    """Gains and weights start at 0, and zeros hide wiring errors."""
    model = MPDiT(config).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.add_(torch.randn_like(parameter) * 0.3)
    return model


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    config = modulation_study(ALL, **SIZES, final_modulation=("scale", "rotation"))
    return load_run(write_run(tmp_path_factory.mktemp("runs"), "all-signals", config))


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return load_run(write_run(tmp_path_factory.mktemp("runs"), "A", preset("A", **SIZES)))


class Recorder:
    """Keeps every tensor of a forward pass by its point."""

    def __init__(self):
        self.tensors = {}

    def begin(self, timesteps, labels):
        self.tensors.clear()

    def wants(self, name):
        return False

    def visit(self, name, tensor):
        self.tensors[name] = tensor
        return tensor


CONFIGS = {
    "A": preset("A", **SIZES),
    "E": preset("E", **SIZES),
    "all signals, also in the final layer": modulation_study(
        ALL, **SIZES, final_modulation=("scale", "shift", "rotation")
    ),
    "random Fourier timesteps": modulation_study(ALL, **SIZES, timestep_embedding="fourier"),
    "MP-sum of scale and shift": preset("E", **SIZES, modulation_form="mp_sum"),
}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_signals_are_those_that_a_real_forward_pass_shows_at_its_points(config):
    model, recorder = with_random_gains(config), Recorder()
    timesteps, labels = (999, 500, 0), (0, 7, config.null_label)
    grids = list(signal_grids(model, timesteps, labels))
    for (i, t), (j, y) in itertools.product(enumerate(timesteps), enumerate(labels)):
        with visiting(recorder):
            model(torch.randn(2, 1, 8, 8), torch.tensor([t, t]), torch.tensor([y, y]))
        for grid in grids:
            seen = recorder.tensors[grid.point][0].numpy()
            np.testing.assert_allclose(grid.values[i, j], seen, rtol=1e-5, atol=1e-6)
    wired = {n for n in recorder.tensors if n.split(".")[-1] in ("scale", "shift", "angle", "gate")}
    assert {grid.point for grid in grids} == wired
    assert len(grids) == 2 * config.depth * len(config.block_modulation) + len(
        config.final_modulation
    )


def test_strength_is_the_root_mean_square_of_signals_and_the_mean_absolute_angle(run):
    table = modulation_strength(run, "final", COARSE)
    timesteps, labels = COARSE.timesteps(run.config), COARSE.labels(run.config)
    assert timesteps == (999, 666, 333, 0)
    assert labels == (0, 4, 9, 10)
    for grid in signal_grids(run.model("final"), timesteps, labels):
        rows = table[(table["point"] == grid.point)]
        assert len(rows) == 16
        row = rows[(rows["timestep"] == 333) & (rows["label"] == 10)].iloc[0]
        values = grid.values[2, 3].astype(float)
        expected = (
            np.mean(np.abs(values)) if grid.signal == "rotation" else np.mean(values**2) ** 0.5
        )
        assert row["value"] == pytest.approx(expected, rel=1e-6)
        assert row["n"] == len(values)
    assert set(table["signal"]) == set(ALL)
    assert not table["value"].isna().any()


def test_rows_of_the_null_label_are_found_by_each_runs_own_number():
    table = pd.DataFrame({"run": ["A", "A", "B", "B"], "label": [10, 1000, 10, 1000], "value": 1})
    found = at_label(table, {"A": 10, "B": 1000})
    assert list(zip(found["run"], found["label"], strict=True)) == [("A", 10), ("B", 1000)]


def test_each_pairs_angle_stands_in_the_table_as_the_model_computes_it(run):
    table = rotation_angles(run, "final", COARSE)
    timesteps, labels = COARSE.timesteps(run.config), COARSE.labels(run.config)
    grids = [
        g for g in signal_grids(run.model("final"), timesteps, labels) if g.signal == "rotation"
    ]
    assert {(g.block, g.branch) for g in grids} == set(
        zip(table["block"], table["branch"], strict=True)
    )
    for grid in grids:
        here = table[(table["block"] == grid.block) & (table["branch"] == grid.branch)]
        cell = here[(here["timestep"] == 666) & (here["label"] == 9)].sort_values("pair")
        assert list(cell["pair"]) == list(range(8))
        np.testing.assert_array_equal(cell["value"], grid.values[1, 2])


@pytest.mark.parametrize(
    ("degrees", "count"),
    [
        ([0, 100, 179], 0),
        ([0, 170, 190], 1),
        ([170, 190, 170], 2),
        ([-170, -190, -530, -550], 2),
        ([0, 360], 1),
        ([0, 720], 2),
        ([90, 90 - 3 * 360], 3),
        ([350, 10], 1),
    ],
)
def test_a_wrap_is_each_passing_of_180_degrees(degrees, count):
    assert wraps(np.deg2rad(degrees)) == count


def test_a_steady_turn_wraps_once_a_round_whatever_the_direction():
    turning = np.linspace(0, 10 * 2 * np.pi, 1000)
    assert wraps(turning) == wraps(-turning) == 10
    np.testing.assert_allclose(np.cos(within_one_turn(turning)), np.cos(turning), atol=1e-9)
    assert np.abs(within_one_turn(turning)).max() <= np.pi


def test_wraps_and_swing_of_each_pair_are_counted_over_all_timesteps(run):
    table = rotation_wraps(run, "final", EVERY_TIMESTEP)
    labels = EVERY_TIMESTEP.labels(run.config)
    grids = signal_grids(run.model("final"), range(999, -1, -1), labels)
    grid = next(g for g in grids if g.signal == "rotation" and g.block == 1 and g.branch == "mlp")
    here = table[(table["block"] == 1) & (table["branch"] == "mlp") & (table["label"] == 4)]
    for pair in range(8):
        angle = grid.values[:, labels.index(4), pair].astype(float)
        passed = sum(
            abs(np.floor((b + np.pi) / (2 * np.pi)) - np.floor((a + np.pi) / (2 * np.pi)))
            for a, b in itertools.pairwise(angle)
        )
        rows = here[here["pair"] == pair].set_index("statistic")["value"]
        assert rows["wraps"] == passed
        assert rows["swing"] == pytest.approx(angle.max() - angle.min())
    assert set(table["n"]) == {1000}


def test_a_run_without_rotation_has_empty_tables_of_angles_with_all_columns(plain):
    for table in (
        rotation_angles(plain, "final", COARSE),
        rotation_wraps(plain, "final", EVERY_TIMESTEP),
    ):
        assert table.empty
        assert {"run", "block", "pair", "timestep", "label", "value"} <= set(table.columns)


def brute_force_shares(values: np.ndarray) -> list[float]:
    """Least squares with one indicator per timestep, and one per label: an independent way.

    The part of a factor is what its indicators explain; both is what neither explains."""
    timesteps, labels = values.shape
    t, y = np.divmod(np.arange(values.size), labels)
    flat = values.ravel()

    def explained(*factors):
        columns = [np.ones(len(flat))]
        columns += [(factor == level).astype(float) for factor, n in factors for level in range(n)]
        design = np.stack(columns, axis=1)
        fitted = design @ np.linalg.lstsq(design, flat, rcond=None)[0]
        return np.sum((fitted - flat.mean()) ** 2)

    total = np.sum((flat - flat.mean()) ** 2)
    by_t, by_y = explained((t, timesteps)), explained((y, labels))
    both = total - explained((t, timesteps), (y, labels))
    return [by_t / total, by_y / total, both / total]


def test_shares_agree_with_a_regression_on_indicators():
    values = np.random.default_rng(0).normal(size=(7, 5, 4)) + np.arange(7)[:, None, None]
    shares = two_way(values).shares()
    for channel in range(4):
        ours = [shares[part][channel] for part in ("timestep", "label", "both")]
        np.testing.assert_allclose(ours, brute_force_shares(values[..., channel]), atol=1e-10)


def test_a_sum_of_timestep_and_label_has_no_part_of_both():
    rng = np.random.default_rng(1)
    values = rng.normal(size=(30, 1, 3)) + rng.normal(size=(1, 11, 3)) + 5
    shares = two_way(values).shares()
    assert np.all(shares["both"] < 1e-12)
    np.testing.assert_allclose(shares["timestep"] + shares["label"], 1, atol=1e-12)


def test_a_product_of_centred_factors_is_all_of_both():
    t, y = np.linspace(-1, 1, 9), np.array([-2.0, 0.5, 1.5])
    shares = two_way(np.multiply.outer(t, y)[..., None]).shares()
    assert shares["both"][0] == pytest.approx(1)


def test_known_parts_come_out_as_they_were_mixed():
    t, y = np.array([-1.0, 1.0]), np.array([-1.0, 1.0])
    mixed = 1 * t[:, None] + 2 * y[None] + 3 * np.multiply.outer(t, y) + 40
    shares = two_way(mixed[..., None]).shares()
    found = [shares[part][0] for part in ("timestep", "label", "both")]
    np.testing.assert_allclose(found, [1 / 14, 4 / 14, 9 / 14])
    assert two_way(mixed[..., None]).deviation()[0] == pytest.approx(14**0.5)


def test_a_constant_signal_has_no_shares():
    split = two_way(np.full((5, 4, 2), 0.1, dtype=np.float32))
    assert all(np.isnan(share).all() for share in split.shares().values())
    assert not split.deviation().any()


def test_shares_sum_to_one_per_channel_and_in_total(run):
    table = modulation_shares(run, "final", ShareGrid(every=100, most_labels=4))
    shares = table[table["statistic"] != "deviation"]
    sums = shares.groupby(["block", "branch", "signal", "channel", "labels"])["value"].sum()
    np.testing.assert_allclose(sums, 1, atol=1e-9)
    assert set(table["labels"]) == {"classes", "classes+null"}
    assert set(shares["n"]) == {11 * 4, 11 * 5}


def test_totals_are_the_shares_of_all_channels_and_blocks_put_together(run):
    settings = ShareGrid(every=250, most_labels=3)
    table = modulation_shares(run, "final", settings).set_index(
        ["block", "branch", "signal", "channel", "labels", "statistic"]
    )["value"]
    timesteps, labels = settings.timesteps(run.config), settings.classes(run.config)
    grids = [g for g in signal_grids(run.model("final"), timesteps, labels) if g.signal == "shift"]
    everything = np.concatenate([g.values for g in grids if g.branch != "final"], axis=-1)
    centred = everything.astype(float) - everything.astype(float).mean(axis=(0, 1))
    explained = len(labels) * np.square(centred.mean(axis=1)).sum()
    share = table[(-1, "all", "shift", -1, "classes", "timestep")]
    assert share == pytest.approx(explained / np.square(centred).sum(), rel=1e-6)
    deviation = table[(-1, "all", "shift", -1, "classes", "deviation")]
    assert deviation == pytest.approx(np.sqrt(np.square(centred).mean()), rel=1e-6)


def test_the_condition_itself_is_a_sum_and_what_follows_its_nonlinearity_is_not(run):
    table = modulation_shares(run, "final", ShareGrid(every=100))
    both = table[(table["statistic"] == "both") & (table["channel"] == -1)]
    both = both[both["labels"] == "classes"].groupby("signal")["value"].max()
    assert both["condition"] < 1e-9
    assert both["activated"] > 1e-4


FEW = ChangeSettings(every=500, most_labels=2, samples=3)


def ratios(run):
    table = modulation_change(run, "final", FEW)
    table = table[table["statistic"] == "ratio"]
    index = ["signal", "block", "branch", "timestep", "label"]
    return table.set_index(index)["value"]


def test_rotation_changes_no_magnitude_while_scale_shift_and_gate_do(run):
    by_signal = ratios(run).groupby("signal")
    assert (by_signal.get_group("rotation") - 1).abs().max() < 1e-6
    for signal in ("scale", "shift", "gate"):
        assert (by_signal.get_group(signal) - 1).abs().max() > 1e-3


@pytest.mark.parametrize("form", ["affine", "mp_sum"])
def test_the_steps_multiply_to_the_change_of_what_really_enters_the_branch(tmp_path, form):
    config = modulation_study(ALL, **SIZES, modulation_form=form)
    found = ratios(load_run(write_run(tmp_path, "steps", config)))
    steps = found.loc["scale"] * found.loc["shift"]
    within = found.loc["rotation"]
    assert len(within) == 2 * 2 * 3 * 3  # blocks, branches, timesteps, labels with the null label
    np.testing.assert_allclose(
        (steps.loc[within.index] * within), found.loc["together"].loc[within.index], rtol=1e-6
    )


def test_ratios_are_those_of_the_recorded_tokens(run):
    """Config E has no norm, so a branch's tokens before modulation are a recorded stream."""
    images = digits().heldout_images[digits().heldout_labels == 9][:3]
    noise = sample_noise(0, range(6), (1, 8, 8))[3:]  # labels 0 and 9, three samples each
    t, y = torch.full((3,), 500), torch.full((3,), 9)
    recorder = Recorder()
    with visiting(recorder):
        run.model("final")(noise_schedule(1000).add_noise(images, noise, t), t, y)
    seen = recorder.tensors

    def mean_magnitude(tokens):
        return tokens.double().square().mean(-1).sqrt().mean().item()

    before = seen["blocks.1.attn.resid"]
    scaled = before * (1 + seen["blocks.1.mlp.scale"][:, None])
    shifted = scaled + seen["blocks.1.mlp.shift"][:, None]
    expected = {
        "scale": mean_magnitude(scaled) / mean_magnitude(before),
        "shift": mean_magnitude(shifted) / mean_magnitude(scaled),
        "together": mean_magnitude(seen["blocks.1.mlp.in"]) / mean_magnitude(before),
        "gate": mean_magnitude(seen["blocks.1.mlp.gated"])
        / mean_magnitude(seen["blocks.1.mlp.out"]),
    }
    found = ratios(run)
    for signal, value in expected.items():
        assert found[signal, 1, "mlp", 500, 9] == pytest.approx(value, rel=1e-5)


def test_spread_over_samples_is_that_of_the_single_ratios(run):
    table = modulation_change(run, "final", FEW.model_copy(update={"samples": 1}))
    assert table[table["statistic"] == "deviation"]["value"].isna().all()
    several = modulation_change(run, "final", FEW)
    deviation = several[(several["statistic"] == "deviation") & (several["signal"] == "scale")]
    assert (deviation["value"] > 0).all()
    assert set(several["n"]) == {3}


def test_a_gate_of_zero_silences_its_branch_at_the_start_of_training(plain, tmp_path):
    torch.manual_seed(0)
    untouched = MPDiT(plain.config).eval().state_dict()
    folder = write_run(tmp_path, "A", plain.config)
    write_tensors(weights_file(folder, 0), untouched, {})
    table = modulation_change(load_run(folder), "initial", FEW)
    ratio = table[table["statistic"] == "ratio"].groupby("signal")["value"]
    assert (ratio.get_group("gate") == 0).all()
    assert (ratio.get_group("scale") == 1).all()

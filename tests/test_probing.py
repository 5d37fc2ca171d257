"""What models are probed with: the same for every run, both sources by one function."""

import pytest
import torch
from every_model import random_model

from analysis.probing import ProbeSettings, probe_inputs, record, tidy, tidy_channels
from mpdit_core.config import DataInfo, ModelConfig, TrainConfig, preset
from mpdit_core.data import digits
from mpdit_core.errors import BadData, InvalidConfig
from mpdit_core.runs import load_run
from mpdit_core.runs.run import Run
from mpdit_core.sampling import SamplerSettings, sample
from mpdit_core.schedule import noise_schedule
from mpdit_core.training import train

FEW = ProbeSettings(timesteps=(900, 500, 0), labels=(3, 10), samples=4, steps=10)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    """A run of the digits, trained for a moment."""
    folder = tmp_path_factory.mktemp("runs") / "E"
    config = preset("E", depth=2, width=16, heads=2)
    short = TrainConfig(steps=4, batch=16, warmup=2, ema_every=4, evaluate_every=4, save_every=4)
    train(folder, config, short, digits())
    return load_run(folder)


def without_data(config: ModelConfig, name="unknown") -> Run:
    """A run whose images are not at hand, as imported ones are; its model is random."""
    model = random_model(config)
    return Run(
        name="imported", folder=None, layout="test", config=config, data=DataInfo(name=name),
        raw_files={0: None}, ema_files={}, read=lambda _: model.state_dict(),
    )  # fmt: skip


def test_noised_inputs_are_held_out_images_of_the_label_at_the_timestep(run):
    found = probe_inputs(run, run.model(), FEW)
    assert [part.timestep for part in found] == [900, 500, 0]
    data, signal = digits(), noise_schedule(1000).signal
    first = found[0]
    assert first.labels.tolist() == [3] * 4 + [10] * 4
    noises = []
    for part in found:
        share = float(signal[part.timestep])
        clean = found[-1].noisy  # at t = 0 nearly the image itself
        nearest = torch.cdist(clean.flatten(1), data.heldout_images.flatten(1)).argmin(1)
        assert set(data.heldout_labels[nearest[:4]].tolist()) == {3}
        image = data.heldout_images[nearest]
        noises.append((part.noisy - share**0.5 * image) / (1 - share) ** 0.5)
    torch.testing.assert_close(noises[0], noises[1], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(noises[0], noises[2], atol=1e-2, rtol=1e-2)
    assert abs(float(noises[0].std()) - 1) < 0.15


def test_all_runs_and_calls_see_the_same_inputs_and_another_seed_sees_others(run):
    again = probe_inputs(run, run.model(), FEW)
    other = probe_inputs(run, run.model(), FEW.model_copy(update={"seed": 1}))
    for left, right, third in zip(probe_inputs(run, run.model(), FEW), again, other, strict=True):
        assert torch.equal(left.noisy, right.noisy)
        assert not torch.equal(left.noisy, third.noisy)


def test_more_labels_do_not_change_the_images_of_the_first(run):
    more = FEW.model_copy(update={"labels": (3, 10, 5)})
    few, many = (probe_inputs(run, run.model(), settings)[0] for settings in (FEW, more))
    assert torch.equal(few.noisy, many.noisy[: len(few.noisy)])


def test_the_path_is_the_one_the_sampler_takes(run):
    settings = FEW.model_copy(update={"source": "trajectory", "guidance": 2.0})
    model = run.model()
    seen = {}
    labels = torch.tensor([3] * 4 + [10] * 4)
    steps = SamplerSettings(sampler="ddim", steps=10, guidance=2.0, seed=0)
    sample(model, labels, steps, on_step=lambda t, x, image: seen.update({t: x}))
    found = probe_inputs(run, model, settings)
    assert [part.timestep for part in found] == [899, 499, 99]  # nearest of ten steps
    for part in found:
        assert torch.equal(part.noisy, seen[part.timestep])


def test_without_its_data_a_run_is_not_shown_noise_in_their_place():
    run = without_data(preset("A", depth=1, width=16, heads=2))
    with pytest.raises(BadData, match=r"'imported'.*not at hand.*trajectory"):
        record(run, "initial", "embed", FEW)
    on_path = record(run, "initial", "embed", FEW.model_copy(update={"source": "trajectory"}))
    assert on_path.points[0].count.sum() == 3 * 2 * 4 * run.config.tokens


def test_data_of_another_shape_are_refused():
    run = without_data(preset("A", depth=1, width=16, heads=2, channels=3), "digits")
    with pytest.raises(BadData, match=r"\(3, 8, 8\).*\(1, 8, 8\)"):
        record(run, "initial", "embed", FEW)


def test_impossible_labels_and_timesteps_are_errors_that_say_what_is_possible(run):
    with pytest.raises(InvalidConfig, match=r"labels held 11.*0 to 9.*10 for the null"):
        record(run, "final", "embed", ProbeSettings(labels=(11,)))
    with pytest.raises(InvalidConfig, match=r"0 to 999"):
        record(run, "final", "embed", ProbeSettings(timesteps=(1000,)))


def test_labels_are_spread_over_the_classes_and_end_with_the_null_label():
    labels = ProbeSettings(most_labels=3).chosen_labels(ModelConfig(classes=101))
    assert labels == (0, 50, 100, 101)


def test_the_size_of_batches_does_not_change_what_is_recorded(run, monkeypatch):
    whole = tidy(record(run, "final", "blocks.*.resid", FEW))
    monkeypatch.setattr("analysis.probing.NUMBERS_AT_ONCE", 3 * 16 * 4 * 16)
    pieces = tidy(record(run, "final", "blocks.*.resid", FEW))
    key = ["block", "branch", "timestep", "label", "statistic", "bin"]
    both = [
        table[table["statistic"] != "histogram"].sort_values(key).reset_index(drop=True)
        for table in (whole, pieces)
    ]
    assert (both[0][key[:5]] == both[1][key[:5]]).all(axis=None)
    torch.testing.assert_close(
        torch.tensor(both[0]["value"]), torch.tensor(both[1]["value"]), rtol=1e-4, atol=1e-6
    )


def test_tidy_has_a_row_per_cell_and_statistic_and_its_histogram_adds_up(run):
    table = tidy(record(run, "final", ["embed", "blocks.*.in", "final.in", "cond"], FEW))
    places = table[["block", "branch", "point"]].drop_duplicates().values.tolist()
    assert places == [
        [-1, "", "embed"],
        [-1, "", "cond"],
        [0, "attn", "in"],
        [0, "mlp", "in"],
        [1, "attn", "in"],
        [1, "mlp", "in"],
        [2, "", "in"],
    ]
    cells = table[table["statistic"] == "mean"]
    assert len(cells) == 7 * 3 * 2 and set(cells["n"]) == {4, 4 * 16}
    bins = table[table["statistic"] == "histogram"]
    assert (bins["value"] > 0).all() and bins["value"].sum() == cells["n"].sum()
    assert set(table["run"]) == {"E"} and set(table["weights"]) == {"final"}


def test_channels_have_a_row_each_and_their_parts_add_up_to_the_mean_square(run):
    table = tidy_channels(record(run, "final", ["blocks.*.resid", "cond"], FEW))
    assert set(table["point"]) == {"resid"}
    each = table[table["statistic"] == "mean_square"]
    assert len(each) == 4 * 3 * 16
    key = ["block", "branch", "timestep"]
    whole = each.groupby(key)["value"].mean()
    parts = table[table["statistic"].isin(["of_mean", "centred"])].groupby(key)["value"].sum()
    assert ((whole - parts).abs() <= 1e-9 * whole).all()
    assert (table[table["statistic"] == "centred"]["value"] > 0).all()

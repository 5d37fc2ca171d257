"""Attribution against captum's conductance, finite differences, line integrals, brute force."""

import numpy as np
import pandas as pd
import pytest
import torch
from captum.attr import LayerConductance
from every_model import every_config, random_model
from test_probing import without_data

from analysis.attribution import (
    AttributionSettings,
    EmbeddingSettings,
    class_carriers,
    embedding_attribution,
)
from analysis.attribution_answer import (
    ablation_sentence,
    by_patch,
    carriers_answer,
    concentration,
    effect_by_label,
    largest_gap,
    of_label,
    patch_sentence,
    shares,
    single_signals,
    whole_blocks,
)
from analysis.attribution_pass import (
    ALL,
    LabelWays,
    along,
    guidance_direction,
    memory_words,
    noise_with_embedding,
    row_bytes,
    rows_at_once,
    ways,
)
from analysis.attribution_patches import PatchSettings, patch_attribution
from analysis.probing import images_and_noise, probe_inputs
from mpdit_core.config import DataInfo, ModelConfig, modulation_study, preset
from mpdit_core.errors import BadData, InvalidConfig, NoSuchPoint
from mpdit_core.interventions import SetSignal, intervening
from mpdit_core.points import visiting
from mpdit_core.runs.run import Run
from mpdit_core.schedule import noise_schedule

TINY = {"depth": 2, "width": 16, "heads": 2}
SHOWN = AttributionSettings(timesteps=(900, 300), labels=(3, 7), samples=2, nodes=48)
CONFIGS = {
    "A": preset("A", **TINY),
    "E": preset("E", **TINY),
    "rotation": modulation_study(("scale", "gate", "rotation"), **TINY),
    "head": preset("E", **TINY, timestep_embedding="fourier_sqrt2", modulation_form="mp_sum",
                   output_gain="per_sample"),
}  # fmt: skip


def a_run(config: ModelConfig, change=lambda model: None) -> Run:
    torch.manual_seed(1)
    model = random_model(config)
    for parameter in model.parameters():  # smooth enough for a coarse line integral
        parameter.data.mul_(0.6)
    change(model)
    return Run(
        name="tiny", folder=None, layout="test", config=config, data=DataInfo(name="digits"),
        raw_files={0: None}, ema_files={}, read=lambda _: model.state_dict(),
    )  # fmt: skip


@pytest.fixture(scope="module", params=list(CONFIGS))
def run(request) -> Run:
    return a_run(CONFIGS[request.param])


@pytest.fixture(scope="module")
def table(run) -> pd.DataFrame:
    return class_carriers(run, "final", SHOWN)


def batch_of(run: Run, settings=SHOWN):
    """The model, and everything the table was computed for as one batch."""
    model = run.model("final")
    parts = probe_inputs(run, model, settings)
    x, y = torch.cat([p.noisy for p in parts]), torch.cat([p.labels for p in parts])
    t = torch.cat([torch.full_like(p.labels, p.timestep) for p in parts])
    return model, x, t, y


def column(table: pd.DataFrame, name: str, block: int, branch=ALL, signal=ALL) -> np.ndarray:
    """A number per image, in the order of the batch."""
    own = table[(table["block"] == block) & (table["branch"] == branch)]
    return own[own["signal"] == signal][name].to_numpy()


def close(got, wanted, effect, tolerance=2e-3):
    """Equal up to a part of the effect."""
    scale = np.abs(np.asarray(effect)).max()
    np.testing.assert_allclose(got, wanted, atol=tolerance * scale, rtol=tolerance)


def effect_by_hand(run: Run, settings=SHOWN) -> np.ndarray:
    model, x, t, y = batch_of(run, settings)
    null = torch.full_like(y, run.config.null_label)
    with torch.no_grad():
        difference = (model(x, t, y) - model(x, t, null))[:, : run.config.channels]
    return difference.square().flatten(1).mean(dim=1).numpy()


def test_every_part_of_the_effect_is_counted_once(run, table):
    effect = effect_by_hand(run)
    images = table.drop_duplicates(["timestep", "image"])
    np.testing.assert_allclose(images["effect"], effect, rtol=1e-4)
    assert len(table) == len(effect) * (len(ways(run.config)) + run.config.depth + 1)
    for rows in (whole_blocks(table), single_signals(table)):
        total = rows.groupby(["timestep", "image"], sort=False)["conductance"].sum()
        close(total, effect, effect)
        close(total - effect, images["gap"], effect, 1e-5)


def test_the_conductance_of_blocks_is_what_captums_layers_gain_from_each_to_the_next(run, table):
    """The stream after block i has passed on what blocks 0 to i took from the label."""
    model, x, t, y = batch_of(run)
    direction = guidance_direction(model, x, t, y)
    table_of = model.condition.labels

    def target(embedded, x, t, direction):
        return along(noise_with_embedding(model, embedded, x, t), direction)

    so_far = np.zeros(len(y))
    for index, block in enumerate(model.blocks):
        found = LayerConductance(target, block).attribute(
            table_of(y), table_of(torch.full_like(y, run.config.null_label)),
            additional_forward_args=(x, t, direction), n_steps=300, method="riemann_trapezoid",
            internal_batch_size=800,
        )  # fmt: skip
        until = found.detach().flatten(1).sum(dim=1).numpy()
        close(column(table, "conductance", index), until - so_far, effect_by_hand(run), 0.03)
        so_far = until


def test_a_conductance_is_its_line_integral_by_finite_differences(run, table):
    """Of one signal, in float64: the derivative of the target by this signal's copy alone."""
    model, x, t, y = batch_of(run)
    model, x = model.double(), x.double()
    direction = guidance_direction(model, x, t, y)
    paths = LabelWays(model, "tiny")
    end, start = paths.copies(y), paths.copies(torch.full_like(y, run.config.null_label))
    position, step, count = 1, 1e-4, 40
    total = torch.zeros(len(y), dtype=torch.float64)
    with torch.no_grad():
        for middle in (np.arange(count) + 0.5) / count:
            here = start + middle * (end - start)
            nudge = torch.zeros_like(here)
            nudge[:, position] = step * (end - start)[:, position]
            up, down = (along(paths.noise(here + s * nudge, x, t), direction) for s in (1, -1))
            total += (up - down) / (2 * step) / count
    got = column(table, "conductance", *paths.ways[position])
    close(got, total.numpy(), effect_by_hand(run))


def test_ablation_is_what_the_intervention_at_the_null_label_takes_away(run, table):
    model, x, t, y = batch_of(run)
    direction = guidance_direction(model, x, t, y)
    channels = run.config.channels

    def lost(*interventions) -> np.ndarray:
        with torch.no_grad(), intervening(model, interventions):
            changed = model(x, t, y)[:, :channels]
        with torch.no_grad():
            whole = model(x, t, y)[:, :channels]
        return along(whole - changed, direction).numpy()

    effect = effect_by_hand(run)
    signals = [(branch, signal) for block, branch, signal in ways(run.config) if block == 1]
    together = [SetSignal(signal=s, label="null", blocks=(1,), branches=(b,)) for b, s in signals]
    for one, (branch, signal) in zip(together, signals, strict=True):
        close(column(table, "ablation", 1, branch, signal), lost(one), effect, 1e-4)
    close(column(table, "ablation", 1), lost(*together), effect, 1e-4)


def test_where_all_copies_move_together_the_model_is_the_model():
    for config in every_config().values():
        model = random_model(config)
        x, t = torch.randn(3, 1, 4, 4), torch.tensor([999, 500, 3])
        y = torch.tensor([0, 2, config.null_label])
        if not ways(config):
            with pytest.raises(NoSuchPoint, match="No label reaches the prediction of run 'bare'"):
                LabelWays(model, "bare")
            continue
        paths = LabelWays(model, "tiny")
        with torch.no_grad():
            got = paths.noise(paths.copies(y), x, t)
            torch.testing.assert_close(got, model(x, t, y)[:, :1])
            again = noise_with_embedding(model, paths.embedded(y), x, t)
            torch.testing.assert_close(again, model(x, t, y)[:, :1])


def test_a_model_that_is_linear_in_one_signal_gives_it_everything():
    """Only the final shift has weights: its conductance and its ablation are the whole effect."""

    def linear(model):
        for block in model.blocks:
            for branch in (block.attn, block.mlp):
                branch.modulation.linear.weight.data.zero_()
        model.final.modulation.linear.weight.data[:16] = 0  # scale stands before shift

    run = a_run(preset("A", **TINY), linear)
    table = class_carriers(run, "final", SHOWN)
    assert ways(run.config)[-2:] == [(2, "final", "scale"), (2, "final", "shift")]
    effect = column(table, "effect", 2, "final", "shift")
    for measure in ("conductance", "ablation"):
        np.testing.assert_allclose(column(table, measure, 2, "final", "shift"), effect, rtol=1e-4)
        others = table[(table["signal"] != "shift") & (table["signal"] != ALL)]
        assert not others[measure].abs().max() > 1e-6 * effect.max()


def test_channels_of_the_embedding_sum_to_what_all_blocks_carry(run, table):
    settings = EmbeddingSettings(**SHOWN.model_dump())
    channels = embedding_attribution(run, "final", settings)
    assert len(channels) == 2 * 2 * 16
    by_place = whole_blocks(table).groupby(["timestep", "label"])["conductance"].sum() / 2
    by_channel = channels.groupby(["timestep", "label"])["value"].sum()
    close(by_channel, by_place, by_place, 1e-4)
    assert effect_by_label(channels)["gap"].abs().max() < 0.01
    ranked = concentration(channels, 900)
    assert ranked["rank"].tolist() == list(range(1, 17))
    assert ranked["share"].is_monotonic_decreasing
    assert ranked["together"].iloc[-1] == pytest.approx(1, abs=0.01)


def test_embedding_gradients_are_finite_differences_summed_along_the_path(run):
    settings = EmbeddingSettings(timesteps=(300,), labels=(3,), samples=1, nodes=24)
    got = embedding_attribution(run, "final", settings)["value"].to_numpy()
    model, x, t, y = batch_of(run, settings)
    model, x = model.double(), x.double()
    direction = guidance_direction(model, x, t, y)
    end = model.condition.labels(y)
    start = model.condition.labels(torch.full_like(y, run.config.null_label))
    wanted, count, step = torch.zeros(16, dtype=torch.float64), 60, 1e-5
    eye = torch.eye(16, dtype=torch.float64)
    with torch.no_grad():
        for middle in (np.arange(count) + 0.5) / count:
            here = start + middle * (end - start)
            both = torch.cat([here + step * eye, here - step * eye])
            many = x.expand(32, -1, -1, -1), t.expand(32)
            up, down = along(noise_with_embedding(model, both, *many), direction).chunk(2)
            wanted += (up - down) / (2 * step) / count * (end - start)[0]
    close(got, wanted.numpy(), effect_by_hand(run, settings))


def test_patches_are_complete_and_are_the_line_integral(run):
    settings = PatchSettings(timesteps=(300,), labels=(3, 7), samples=1, nodes=24)
    table = patch_attribution(run, "final", settings)
    assert len(table) == 2 * 64
    by_image = table.groupby("label")
    first = by_image[["effect", "start", "gap"]].first()
    np.testing.assert_allclose(by_image["changed"].sum(), first["effect"], rtol=1e-4)
    sums = by_image["value"].sum()
    close(sums - first["gap"], first["effect"] - first["start"], first["effect"], 1e-5)
    assert (first["gap"].abs() < 0.01 * first["effect"]).all()

    model = run.model("final").double()
    y = torch.tensor([3, 7])
    images, noise = (part.double() for part in images_and_noise(run, y, 0))
    t = torch.full_like(y, 300)
    schedule = noise_schedule(1000)
    end = schedule.add_noise(images, noise, t).double()
    start = schedule.add_noise(torch.zeros_like(images), noise, t).double()
    direction = guidance_direction(model, end, t, y)
    pixel = torch.zeros_like(end)
    pixel[:, 0, 4, 3] = 1
    wanted, count, step = torch.zeros(2, dtype=torch.float64), 60, 1e-5

    def effect(shown):
        return along(guidance_direction(model, shown, t, y), direction)

    for middle in (np.arange(count) + 0.5) / count:
        here = start + middle * (end - start)
        slope = (effect(here + step * pixel) - effect(here - step * pixel)) / (2 * step)
        wanted += slope / count * (end - start)[:, 0, 4, 3]
    got = table[(table["row"] == 4) & (table["column"] == 3)]
    close(got["value"], wanted.numpy(), first["effect"])
    close(effect(start).numpy(), first["start"], first["effect"], 1e-4)
    noisy = table[table["label"] == 3]["noisy"].to_numpy()
    np.testing.assert_allclose(noisy, end[0].flatten(), rtol=1e-4, atol=1e-5)


def test_patches_sum_their_pixels_and_the_sentence_says_the_gap():
    run = a_run(CONFIGS["A"])
    table = patch_attribution(run, "final", PatchSettings(timesteps=(500,), labels=(1,), samples=2))
    one = table[table["image"] == 1]
    patches = by_patch(one)
    assert len(patches) == 16
    corner = one[(one["row"] < 2) & (one["column"] >= 6)]["value"].sum() / one["effect"].iloc[0]
    found = patches[(patches["row"] == 0) & (patches["column"] == 3)]["value"].iloc[0]
    assert found == pytest.approx(corner, rel=1e-4)
    assert patches["changed"].sum() == pytest.approx(1, rel=1e-4)
    assert "At t = 500, label 1, image 2: in tiny the label's effect is" in patch_sentence(
        one, "tiny"
    )


def test_shares_are_ratios_of_means_with_their_interval_and_one_sentence(run, table):
    rows = shares(whole_blocks(table), "conductance")
    for timestep, own in rows.groupby("timestep"):
        assert own["value"].sum() == pytest.approx(1 + own["gap"].iloc[0], abs=1e-4)
        here = whole_blocks(table[table["timestep"] == timestep])
        part = here[here["block"] == 0]
        wanted = part["conductance"].sum() / part["effect"].sum()
        assert own[own["block"] == 0]["value"].iloc[0] == pytest.approx(wanted, rel=1e-5)
    assert ((rows["low"] <= rows["value"]) & (rows["value"] <= rows["high"])).all()
    assert largest_gap(rows) < 0.01
    sentence = carriers_answer(rows, {"tiny": 2}, 900)
    assert sentence.startswith("At t = 900, of the label's effect on the predicted noise: in tiny")
    assert "over 4 images" in sentence
    signals = shares(single_signals(of_label(table, 3)), "ablation")
    assert set(signals["n"]) == {2}
    now = signals[signals["timestep"] == 300]
    assert "at its null-label value takes most" in ablation_sentence(now, "ablation", "tiny", 2)


def test_results_do_not_depend_on_the_batch_and_the_bound_on_memory_is_kept(monkeypatch):
    run = a_run(CONFIGS["E"])
    few = AttributionSettings(timesteps=(900,), labels=(3, 7), samples=2, nodes=4)
    whole = class_carriers(run, "final", few)
    monkeypatch.setattr("analysis.attribution_pass.MEMORY", 1)
    assert rows_at_once(run.config) == 1
    single = class_carriers(run, "final", few)
    for name in ("conductance", "ablation"):
        close(single[name], whole[name], whole["effect"], 1e-4)


@pytest.mark.parametrize("name", [*CONFIGS, "wide"])
def test_a_row_keeps_no_more_for_its_gradient_than_is_stated(name):
    config = CONFIGS.get(name) or preset("E", depth=2, width=96, heads=6, size=32, patch=4)
    model, batch = random_model(config), 4
    paths = LabelWays(model, "tiny")
    copies = paths.copies(torch.arange(batch)).requires_grad_()
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    x, t = torch.randn(batch, 1, config.size, config.size), torch.full((batch,), 500)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        along(paths.noise(copies, x, t), x)
    weights = {p.untyped_storage().data_ptr() for p in [*model.parameters(), *model.buffers()]}
    sizes = [one.untyped_storage().nbytes() for place, one in kept.items() if place not in weights]
    assert 0 < sum(sizes) <= batch * row_bytes(config)


def test_the_bound_is_said_in_words_and_grows_only_with_a_single_row():
    assert memory_words([preset("A")]) == "at most 128 MiB at once"
    huge = preset("A", depth=28, width=1152, heads=16, size=64, patch=2)
    assert rows_at_once(huge) == 1
    assert (
        memory_words([preset("A"), huge]) == f"at most {row_bytes(huge) / 2**20:,.0f} MiB at once"
    )


def test_a_visitor_outside_sees_no_pass_of_the_conditions_own():
    """The copies' condition is computed unseen; only real forward passes are looked at."""
    run = a_run(CONFIGS["A"])
    model, x, t, y = batch_of(run)
    paths = LabelWays(model, "tiny")
    seen = []

    class Look:
        def begin(self, timesteps, labels):
            seen.append("begin")

        def wants(self, name):
            return False

        def visit(self, name, tensor):
            seen.append(name)
            return tensor

    with torch.no_grad(), visiting(Look()):
        paths.noise(paths.copies(y), x, t)
    assert seen.count("begin") == 1 and seen.count("cond.y") == 1


def test_a_label_without_effect_has_no_shares_and_says_so():
    def silent(model):
        model.condition.labels.weight.data[:] = model.condition.labels.weight.data[-1]

    run = a_run(preset("A", **TINY), silent)
    table = class_carriers(run, "final", SHOWN)
    rows = shares(whole_blocks(table), "conductance")
    assert rows["value"].isna().all()
    assert np.isnan(largest_gap(rows))
    assert "no label changes the predicted noise" in carriers_answer(rows, {"tiny": 2}, 900)
    patches = patch_attribution(
        run, "final", PatchSettings(timesteps=(500,), labels=(1,), samples=2)
    )
    one = patches[patches["image"] == 0]
    assert "does not change the predicted noise" in patch_sentence(one, "tiny")


def test_weights_that_are_not_numbers_give_nan_and_no_error():
    def broken(model):
        model.blocks[0].mlp.core.up.weight.data.fill_(float("nan"))

    run = a_run(preset("A", **TINY), broken)
    table = class_carriers(run, "final", SHOWN)
    rows = shares(whole_blocks(table), "ablation")
    assert rows["value"].isna().all()
    assert "no label changes" in carriers_answer(rows, {"tiny": 2}, 900)


def test_the_null_label_is_refused_and_missing_images_are_named():
    run = a_run(CONFIGS["A"])
    with pytest.raises(InvalidConfig, match="the null label, where the path starts"):
        class_carriers(run, "final", AttributionSettings(labels=(3, 10)))
    with pytest.raises(BadData, match="source trajectory"):
        class_carriers(without_data(CONFIGS["A"]), "final", SHOWN)
    on_path = PatchSettings(source="trajectory")
    with pytest.raises(InvalidConfig, match="need noised held-out images"):
        patch_attribution(run, "final", on_path)
    followed = SHOWN.model_copy(update={"source": "trajectory", "sampler": "ddim"})
    table = class_carriers(without_data(CONFIGS["A"]), "final", followed)
    assert table["gap"].abs().max() < 0.02 * table["effect"].max()

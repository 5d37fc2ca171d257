"""Two sides: statistics by hand, intervals against scipy and a closed form, planted differences."""

import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from every_model import random_model
from scipy import stats
from test_probing import run, without_data  # noqa: F401 - a fixture is used by its name

from analysis.compare import STATISTICS, CompareSettings, compared_statistics
from analysis.compare_answer import (
    chance_sentence,
    difference_sentence,
    unshared,
    value_words,
    with_words,
)
from analysis.compare_configuration import configuration_differences, configuration_sentence
from analysis.compare_difference import (
    RESAMPLES,
    differences,
    largest_of_each,
    paired,
    resampled,
)
from analysis.compare_weights import (
    measured,
    weight_differences_from,
    weights_base,
    weights_sentence,
)
from analysis.probing import probe_inputs
from mpdit_core.config import DataInfo, ModelConfig, modulation_study, preset
from mpdit_core.errors import BadData
from mpdit_core.runs.run import Run

SIZES = {"depth": 2, "width": 16, "heads": 2}
SETTINGS = CompareSettings(timesteps=(900, 0), labels=(3, 5, 10), samples=4)
PAIRS = 12


def random_run(config: ModelConfig, seed: int = 0, spoilt: str = "") -> Run:
    """A run of the digits whose weights are random; spoilt: a parameter made nan."""
    torch.manual_seed(seed)
    state = random_model(config).state_dict()
    if spoilt:
        state[spoilt] = torch.full_like(state[spoilt], torch.nan)
    return Run(
        name=f"run {seed}", folder=None, layout="test", config=config, data=DataInfo(name="digits"),
        raw_files={0: None}, ema_files={}, read=lambda _: state,
    )  # fmt: skip


@pytest.fixture(scope="module")
def table(run):  # noqa: F811
    return compared_statistics(run, "final", SETTINGS)


def by_hand(run) -> dict[tuple, np.ndarray]:  # noqa: F811
    """(statistic, block, branch, timestep) -> a value per image, by calling the parts of the
    blocks one after the other: no probe point."""
    model, found = run.model("final"), {}
    for part in probe_inputs(run, model, SETTINGS):
        stream = model.patches(part.noisy)
        t = torch.full_like(part.labels, part.timestep)
        activated = model.activation(model.condition(t, part.labels))
        for number, block in enumerate(model.blocks):
            for name, branch in (("attn", block.attn), ("mlp", block.mlp)):
                signals = branch.modulation(activated)
                normed = branch.norm(stream)
                entering = branch.modulate(normed, signals)
                leaving = branch.core(entering)
                stream = branch(stream, activated)
                place = (number, name, part.timestep)
                for key, tensor in (("stream", stream), ("input", entering), ("output", leaving)):
                    found[key, *place] = size(tensor)
                found["change", *place] = size(entering) / size(normed)
                found["scale", *place] = signals.scale.square().mean(1).sqrt().numpy()
                squares = stream.square().mean(1)
                found["channel", *place] = (squares.amax(1) / squares.sum(1)).numpy()
                constant = leaving.mean(1).square().sum(1) / leaving.square().mean(1).sum(1)
                found["token_mean", *place] = constant.numpy()
    return found


def size(tokens: torch.Tensor) -> np.ndarray:
    return tokens.square().mean(-1).sqrt().mean(-1).numpy()


def test_statistics_are_those_of_the_blocks_called_by_hand(run, table):  # noqa: F811
    expected = by_hand(run)
    assert len(expected) == 7 * 2 * 2 * 2
    for (name, block, branch, timestep), values in expected.items():
        rows = table[
            (table["statistic"] == name) & (table["block"] == block)
            & (table["branch"] == branch) & (table["timestep"] == timestep)
        ].sort_values("sample")  # fmt: skip
        wanted = values[[0, 4, 8]] if STATISTICS[name].of_label else values
        np.testing.assert_allclose(rows["value"], wanted, rtol=2e-4, err_msg=f"{name} {branch}")


def test_entropy_and_logits_are_those_of_attention_written_out(run, table):  # noqa: F811
    model = run.model("final")
    part = probe_inputs(run, model, SETTINGS)[0]
    seen = {}
    attention = model.blocks[0].attn.core
    hooks = [
        point.register_forward_hook(lambda _, __, out, key=key: seen.update({key: out}))
        for key, point in attention.named_modules()
        if key.endswith(("q", "k"))
    ]
    with torch.no_grad():
        model(part.noisy, torch.full_like(part.labels, part.timestep), part.labels)
    for hook in hooks:
        hook.remove()
    q, k = (next(v for key, v in seen.items() if key.endswith(end)) for end in "qk")
    logits = q.double() @ k.double().transpose(-1, -2) / math.sqrt(q.shape[-1])
    weights = logits.softmax(-1)
    rows = table[(table["block"] == 0) & (table["timestep"] == part.timestep)]
    value = {name: g.sort_values("sample")["value"] for name, g in rows.groupby("statistic")}
    entropy = stats.entropy(weights.numpy(), axis=-1).mean(axis=(1, 2))
    np.testing.assert_allclose(value["entropy"], entropy, rtol=1e-4)
    typical = logits.square().mean(dim=(1, 2, 3)).sqrt()
    np.testing.assert_allclose(value["logit"], typical, rtol=1e-4)
    np.testing.assert_allclose(value["logit_largest"], logits.abs().amax((1, 2, 3)), rtol=1e-4)


def test_batches_do_not_show(run, table, monkeypatch):  # noqa: F811
    monkeypatch.setattr("analysis.probing.NUMBERS_AT_ONCE", 5 * 16 * 64)
    small = compared_statistics(run, "final", SETTINGS)
    keys = ["statistic", "block", "branch", "timestep", "sample"]
    one, other = (part.sort_values(keys).reset_index(drop=True) for part in (table, small))
    pd.testing.assert_frame_equal(one, other, rtol=1e-4)


def side(values: np.ndarray, **columns) -> pd.DataFrame:
    """One place a row of values (places, pairs)."""
    places, pairs = values.shape
    return pd.DataFrame(
        {"run": "x", "weights": "final", "block": np.repeat(np.arange(places), pairs),
         "branch": "mlp", "statistic": "stream", "timestep": 500, "label": 0, "seen": 1.0,
         "sample": np.tile(np.arange(pairs), places), "value": values.ravel(), **columns}
    )  # fmt: skip


def test_the_interval_is_scipys_percentile_bootstrap_of_paired_samples():
    draw = np.random.default_rng(1)
    a = draw.lognormal(0, 0.3, (1, 33))
    b = a * draw.lognormal(0.2, 0.2, (1, 33))
    row = differences(side(a), side(b)).iloc[0]
    for of, low, high in (
        (lambda x, y, axis=-1: y.mean(axis) / x.mean(axis), "low", "high"),
        (lambda x, y, axis=-1: y.mean(axis) - x.mean(axis), "difference_low", "difference_high"),
    ):
        wanted = stats.bootstrap(
            (a[0], b[0]), of, paired=True, method="percentile", n_resamples=20_000, rng=2
        ).confidence_interval
        width = wanted.high - wanted.low
        assert row[low] == pytest.approx(wanted.low, abs=0.06 * width)
        assert row[high] == pytest.approx(wanted.high, abs=0.06 * width)
    assert row["ratio"] == pytest.approx(b.mean() / a.mean())
    assert row["n"] == 33


def test_resampled_means_spread_as_the_standard_error_in_closed_form():
    values = np.random.default_rng(0).normal(3, 2, (5, 400))
    drawn = resampled(values, np.random.default_rng(0))
    assert drawn.shape == (5, RESAMPLES)
    np.testing.assert_allclose(drawn.std(axis=1), values.std(axis=1) / 20, rtol=0.06)


def test_what_is_three_times_as_large_everywhere_has_no_interval_and_stands_first():
    values = np.random.default_rng(0).lognormal(0, 1, (20, 20))
    other = values * np.random.default_rng(1).lognormal(0, 0.5, (20, 20))
    other[4] = 3 * values[4]
    table = differences(side(values), side(other))
    first, rest = table.iloc[0], table.iloc[1:]
    assert first["block"] == 4
    assert [first[c] for c in ("ratio", "low", "high", "wide_low")] == pytest.approx([3.0] * 4)
    assert first["clear"] and (rest["wide_low"] < rest["low"]).all()
    assert (rest["wide_high"] > rest["high"]).all()


def test_without_any_difference_single_intervals_cry_wolf_and_widened_ones_hardly_ever():
    alone, any_clear = [], []
    for trial in range(60):
        draw = np.random.default_rng(trial)
        a, b = draw.lognormal(0, 0.2, (2, 40, 30))
        table = differences(side(a), side(b))
        alone.append(table["alone"].mean())
        any_clear.append(table["clear"].any())
    assert 0.03 < np.mean(alone) < 0.10  # a percentile interval of 30 pairs is slightly short
    assert np.mean(any_clear) < 0.2


def test_a_side_against_itself_differs_nowhere(table):
    found = differences(table, table)
    assert (found["ratio"] == 1).all() and not found["clear"].any() and not found["alone"].any()
    assert "none of" in difference_sentence(found, ("A", "A"))


def test_signals_have_a_pair_a_label_and_the_rest_a_pair_an_image(table):
    found = differences(table, table).groupby("statistic")["n"].agg(["min", "max"])
    for name, (least, most) in found.iterrows():
        assert least == most == (3 if STATISTICS[name].of_label else PAIRS)


def test_other_images_are_not_paired(run, table):  # noqa: F811
    other = compared_statistics(run, "final", SETTINGS.model_copy(update={"seed": 1}))
    with pytest.raises(BadData, match=r"E \(final\) and E \(final\) were not shown the same"):
        paired(table, other)
    with pytest.raises(BadData, match="not shown the same images"):
        paired(table, table.assign(label=0))
    with pytest.raises(BadData, match="not shown the same images"):
        paired(table, table.assign(timestep=1))


def test_what_only_one_side_has_is_said_and_not_compared():
    turned = random_run(modulation_study(("rotation",), **SIZES))
    shifted = random_run(preset("A", **SIZES | {"depth": 3}), seed=1)
    base, other = (compared_statistics(r, "initial", SETTINGS) for r in (shifted, turned))
    found = differences(base, other)
    assert {"angle", "shift", "scale", "gate"}.isdisjoint(found["statistic"])
    assert found["block"].max() == 1
    assert unshared(base, other, ("S", "R")) == (
        "Not compared: only S has scale magnitude, shift magnitude and gate magnitude; only S has "
        "blocks 3 to 3; only R has mean absolute angle."
    )
    assert unshared(base, base, ("S", "S")) == ""


def test_nan_weights_leave_what_is_finite(table):
    config = preset("E", **SIZES)
    spoilt = random_run(config, spoilt="blocks.1.mlp.core.up.weight")
    found = differences(
        compared_statistics(random_run(config), "initial", SETTINGS),
        compared_statistics(spoilt, "initial", SETTINGS),
    )
    assert set(found["block"]) == {0, 1} and np.isfinite(found["ratio"]).all()
    assert not ((found["block"] == 1) & (found["statistic"] == "output")
                & (found["branch"] == "mlp")).any()  # fmt: skip
    nothing = table.assign(value=np.float32(np.nan))
    assert "cannot tell" in difference_sentence(differences(table, nothing), ("A", "E"))


def test_without_its_data_a_run_is_refused_in_a_sentence():
    with pytest.raises(BadData, match="not at hand"):
        compared_statistics(without_data(preset("A", **SIZES)), "initial", SETTINGS)


def test_sentences_have_the_numbers_of_the_table():
    values = np.random.default_rng(0).lognormal(0, 1, (2, 20))
    other = np.stack([4 * values[0], values[1]])
    table = differences(side(values), side(other))
    told = difference_sentence(table, ("A", "E"))
    assert "E against A: 1 of 2 differences are clear" in told
    assert (
        "stream magnitude, MLP of block 1, t = 500, 4 times [4, 4]" in told and "20 pairs" in told
    )
    assert "about 0 of their" in chance_sentence(table) and "1 still do" in chance_sentence(table)
    share = differences(
        side(values / 10, statistic="channel"), side(other / 10, statistic="channel")
    )
    points = 100 * (share.iloc[0]["other"] - share.iloc[0]["base"])
    assert f"{points:+.3g} points [" in with_words(share)["said"].iloc[0]
    assert value_words("angle", math.pi / 2) == "90°"
    assert len(largest_of_each(pd.concat([table, share], ignore_index=True))) == 2


def test_distances_of_weights_are_numpys(run):  # noqa: F811
    other = random_run(run.config)
    asked = weight_differences_from(run, "final")
    table = asked(other, "initial", weights_base_of(run)).set_index("parameter")
    left, right = run.state_dict("final"), other.state_dict("initial")
    name = "blocks.1.mlp.core.up.weight"
    a, b = (state[name].double().numpy() for state in (left, right))
    row = table.loc[name]
    assert row["distance"] == pytest.approx(np.linalg.norm(b - a) / np.linalg.norm(a))
    assert row["cosine"] == pytest.approx(np.vdot(a, b) / np.linalg.norm(a) / np.linalg.norm(b))
    norms = [np.linalg.norm(m, axis=1).mean() for m in (b, a)]
    assert row["rows"] == pytest.approx(norms[0] / norms[1])
    equal = asked(run, "final", weights_base_of(run))
    assert weights_sentence(equal, ("x", "y")).endswith("of y and x are equal.")


def weights_base_of(run: Run):  # noqa: F811
    """Settings without reading files: random runs have none."""
    return weights_base(SimpleNamespace(name=run.name, identity=lambda _: "0" * 64), "final")


def test_parameters_of_one_side_or_another_shape_are_named_and_not_measured():
    base = random_run(preset("A", **SIZES | {"depth": 3}))
    other = random_run(preset("E", **SIZES | {"classes": 7}), seed=1)
    table = weight_differences_from(base, "initial")(other, "initial", weights_base_of(base))
    assert {"base", "other", "shape"} <= set(table["where"])
    assert table.loc[table["where"] != "both", "distance"].isna().all()
    assert len(measured(table)) < len(table)
    assert "another shape" in weights_sentence(table, ("A", "E"))


def test_the_identity_of_the_base_is_part_of_the_question(run):  # noqa: F811
    one, other = (weights_base(run, weights) for weights in ("initial", "final"))
    assert one.identity != other.identity
    assert weight_differences_from(run, "final").name == "weight_differences"


def test_configurations_differ_in_the_fields_that_differ(run):  # noqa: F811
    a, c = random_run(preset("A", **SIZES)), random_run(preset("B", **SIZES))
    found = configuration_differences(a, c)
    assert found.to_numpy().tolist() == [["model", "cosine_attention", "no", "yes"]]
    assert configuration_sentence(found, ("A", "B")).startswith("1 field differs between A and B")
    assert configuration_differences(a, a).empty
    training = configuration_differences(a, run)
    learning = training[training["field"] == "learning_rate"].iloc[0]
    assert (learning["base"], learning["other"]) == ("not known", "0.001")

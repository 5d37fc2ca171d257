"""Channels and tokens: planted ones, closed forms, blocks called by hand, another recorder."""

import numpy as np
import pandas as pd
import pytest
import torch
from every_model import every_config, random_model
from test_probing import run, without_data  # noqa: F401 - a fixture is used by its name

from analysis.channels import ChannelSettings, channel_concentration, listed_ranks, top_channels
from analysis.channels_answer import (
    at,
    biggest,
    channel_words,
    concentration_sentence,
    mean_sentence,
    middling,
    on_the_image,
    percent,
    with_words,
    zeroing,
)
from analysis.channels_pass import kurtosis, reduce_tokens, share_with_interval
from analysis.figures.channels import channel_bars, mark_place, place_maps, scale_of, token_map
from analysis.figures.token_mean import MEAN_SCALE, mean_over_training
from analysis.probing import probe_inputs, record, tidy_channels
from analysis.token_mean import (
    TokenMeanSettings,
    TrainingSettings,
    mean_share,
    token_mean,
    token_mean_by_step,
)
from mpdit_core.config import DataInfo, ModelConfig
from mpdit_core.errors import BadData
from mpdit_core.interventions import written
from mpdit_core.probes import editing
from mpdit_core.runs.run import Run

FEW = {"timesteps": (900, 500, 0), "labels": (3, 10), "samples": 4}
CHANNELS, MEANS = ChannelSettings(**FEW), TokenMeanSettings(**FEW)
IMAGES, TOKENS, WIDTH = 8, 16, 16


@pytest.fixture(scope="module")
def table(run):  # noqa: F811
    return channel_concentration(run, "final", CHANNELS)


@pytest.fixture(scope="module")
def listed(run):  # noqa: F811
    return top_channels(run, "final", CHANNELS)


@pytest.fixture(scope="module")
def means(run):  # noqa: F811
    return token_mean(run, "final", MEANS)


def by_hand(run) -> dict[tuple[str, int, str, int], np.ndarray]:  # noqa: F811
    """(point, block, branch, timestep) -> (images, tokens, width), by calling the parts of the
    blocks one after the other: no probe point."""
    model, found = run.model("final"), {}
    for part in probe_inputs(run, model, CHANNELS):
        stream = model.patches(part.noisy)
        t = torch.full_like(part.labels, part.timestep)
        activated = model.activation(model.condition(t, part.labels))
        for block, module in enumerate(model.blocks):
            for name, branch in (("attn", module.attn), ("mlp", module.mlp)):
                entering = branch.modulate(branch.norm(stream), branch.modulation(activated))
                leaving = branch.core(entering)
                stream = branch(stream, activated)
                for word, tensor in (("in", entering), ("out", leaving), ("resid", stream)):
                    found[word, block, name, part.timestep] = tensor.double().numpy()
    return found


def test_kurtosis_is_3_of_a_gaussian_1_of_equal_channels_and_the_width_of_a_spike():
    assert float(kurtosis(torch.randn(4000, 256)).mean()) == pytest.approx(3, abs=0.05)
    spike = torch.zeros(1, 48)
    spike[0, 17] = -1e15  # whose fourth power is beyond single precision
    assert kurtosis(spike).tolist() == [48]
    assert kurtosis(torch.full((1, 48), -0.3)).tolist() == pytest.approx([1])
    assert kurtosis(torch.zeros(1, 48)).isnan().all()


def test_a_planted_channel_and_a_planted_token_are_found_with_their_shares():
    tokens = torch.randn(5, 9, 8)
    tokens[:, :, 6] = 30.0
    tokens[:, 4] *= 10
    sums = reduce_tokens(tokens)
    squares = tokens.double().square()
    by_channel, by_token = squares.sum((0, 1)), squares.sum((0, 2))
    assert int(sums.squares.sum(0).argmax()) == 6 and int(sums.by_token.sum(0).argmax()) == 4
    found = sums.squares[:, 6].sum() / sums.squares.sum()
    assert float(found) == pytest.approx(float(by_channel[6] / by_channel.sum()), rel=1e-5)
    found = sums.by_token[:, 4].sum() / sums.by_token.sum()
    assert float(found) == pytest.approx(float(by_token[4] / by_token.sum()), rel=1e-5)
    torch.testing.assert_close(sums.absolute[4, 6], torch.tensor(300.0))
    assert float(sums.peak[6]) == pytest.approx(300)


def test_the_mean_over_tokens_and_the_centred_rest_add_up_to_the_square():
    tokens = torch.randn(6, 16, 8) + torch.randn(6, 1, 8)
    sums = reduce_tokens(tokens)
    centred = (tokens - tokens.mean(1, keepdim=True)).square().mean(1)
    torch.testing.assert_close(sums.of_mean + centred, sums.squares)


def test_the_share_of_the_mean_has_its_closed_forms():
    same = torch.randn(50, 1, 8).expand(50, 16, 8)
    assert mean_share(reduce_tokens(same))["value"] == pytest.approx(1)
    independent = mean_share(reduce_tokens(torch.randn(4000, 16, 8)))
    assert independent["low"] < 1 / 16 < independent["high"]
    assert independent["high"] - independent["low"] < 0.003
    # A mean of variance 3 beside a rest of variance 1: (3 + 1/16) / 4.
    mixed = mean_share(reduce_tokens(3**0.5 * torch.randn(4000, 1, 8) + torch.randn(4000, 16, 8)))
    assert mixed["value"] == pytest.approx((3 + 1 / 16) / 4, abs=0.01)
    constant = torch.randn(500, 16, 8)
    constant[:, :, 2] = 100.0
    told = mean_share(reduce_tokens(constant))
    assert told["channel"] == 2 and told["value"] > 0.99
    assert told["without"] == pytest.approx(1 / 16, abs=0.01)


def test_the_interval_of_a_share_covers_it_as_often_as_it_says():
    covered = []
    for _ in range(400):
        part, rest = torch.rand(40).double() ** 2, torch.rand(40).double()
        _, low, high = share_with_interval(part, part + rest)
        covered.append(low <= (1 / 3) / (1 / 3 + 1 / 2) <= high)
    assert 0.91 <= np.mean(covered) <= 0.98
    share, low, _ = share_with_interval(torch.ones(1), torch.full((1,), 4.0))
    assert share == 0.25 and np.isnan(low)


def test_shares_and_kurtosis_equal_those_of_the_blocks_called_by_hand(run, table):  # noqa: F811
    found = table.set_index(["point", "block", "branch", "timestep", "statistic"])
    places = by_hand(run)
    assert len(table) == 3 * len(places)
    for place, tensor in places.items():
        squares = tensor**2
        by_channel, by_token = squares.sum((0, 1)), squares.sum((0, 2))
        share = found.loc[(*place, "share")]
        assert share["value"] == pytest.approx(by_channel.max() / by_channel.sum(), rel=1e-4)
        assert share["which"] == by_channel.argmax() and share["size"] == WIDTH
        token = found.loc[(*place, "token")]
        assert token["value"] == pytest.approx(by_token.max() / by_token.sum(), rel=1e-4)
        assert token["which"] == by_token.argmax() and token["size"] == TOKENS
        moments = (tensor**4).mean(-1) / (squares.mean(-1)) ** 2
        peaked = found.loc[(*place, "kurtosis")]
        assert peaked["value"] == pytest.approx(moments.mean(), rel=1e-4)
        assert (share[["value", "low", "high"]].to_numpy()[1:] > 0).all() and share["n"] == IMAGES


def test_channels_are_ranked_by_their_mean_absolute_value_and_placed_in_the_image(run, listed):  # noqa: F811
    for place, tensor in by_hand(run).items():
        point, block, branch, timestep = place
        rows = at(listed, point=point, block=block, branch=branch, timestep=timestep)
        rows = rows.set_index("rank")
        mean_abs = np.abs(tensor).mean((0, 1))
        order = np.argsort(-mean_abs)
        assert list(rows.index) == [0, *listed_ranks(WIDTH)]
        assert list(rows["channel"]) == [-1, *order[np.array(listed_ranks(WIDTH)) - 1]]
        first, best = rows.loc[1], order[0]
        assert first["mean_abs"] == pytest.approx(mean_abs[best], rel=1e-4)
        expected = mean_abs[best] / np.median(mean_abs)
        assert first["over_median"] == pytest.approx(expected, rel=1e-4)
        assert first["peak"] == pytest.approx(np.abs(tensor[..., best]).max(), rel=1e-4)
        shares = (tensor**2).sum((0, 1)) / (tensor**2).sum()
        assert first["share"] == pytest.approx(shares[best], rel=1e-4)
        where = np.abs(tensor[..., best]).mean(0) / mean_abs[best]
        np.testing.assert_allclose(first["tokens"].astype(float), where, rtol=2e-3)


def test_batches_change_nothing(run, listed, monkeypatch):  # noqa: F811
    monkeypatch.setattr("analysis.probing.NUMBERS_AT_ONCE", 3 * 16 * 4 * 16)
    again = top_channels(run, "final", CHANNELS)
    numbers = ["mean_abs", "share", "peak"]
    np.testing.assert_allclose(again[numbers], listed[numbers], rtol=1e-5)
    assert again["channel"].equals(listed["channel"])


def test_a_channel_planted_in_the_model_is_found_where_it_is_and_after(run):  # noqa: F811
    def plant(tensor):
        tensor = tensor.clone()
        tensor[:, 5, 11] = 1000.0
        return tensor

    with editing({"blocks.0.mlp.resid": plant}):
        found = channel_concentration(run, "final", CHANNELS)
        ranked = top_channels(run, "final", CHANNELS)
    share, token = (
        at(found, statistic=statistic, point="resid", block=0, branch="mlp")
        for statistic in ("share", "token")
    )
    assert set(share["which"]) == {11} and set(token["which"]) == {5}
    assert (share["value"] > 0.99).all()
    row = at(ranked, point="resid", block=0, branch="mlp", timestep=500, rank=1).iloc[0]
    assert row["channel"] == 11 and int(np.argmax(row["tokens"])) == 5
    later = at(found, statistic="share", point="resid", block=1, branch="attn")
    assert set(later["which"]) == {11}
    before = at(found, statistic="share", point="resid", block=0, branch="attn")
    assert (before["value"] < 0.9).all()
    assert "channel 11 alone" in concentration_sentence(found)


def test_the_share_of_the_mean_is_that_of_the_recorder(run, means):  # noqa: F811
    kept = tidy_channels(record(run, "final", "blocks.*.out", MEANS))
    parts = kept[kept["channel"] == -1].pivot(
        index=["block", "branch", "timestep"], columns="statistic", values="value"
    )
    expected = parts["of_mean"] / (parts["of_mean"] + parts["centred"])
    found = means.set_index(["block", "branch", "timestep"])["value"]
    assert len(found) == len(expected) == 12
    np.testing.assert_allclose(found.sort_index(), expected.sort_index(), rtol=1e-4)


def test_every_saved_step_is_asked_and_the_last_is_that_of_the_final_weights(run, means):  # noqa: F811
    steps = token_mean_by_step(run, "final", TrainingSettings(**FEW))
    assert sorted(steps["step"].unique()) == list(run.steps)
    last = steps[steps["step"] == max(run.steps)].reset_index(drop=True)
    pd.testing.assert_frame_equal(last.drop(columns="step"), means)


def test_weights_that_are_not_finite_give_a_sentence_and_no_traceback(run):  # noqa: F811
    state = {name: torch.full_like(tensor, torch.nan) for name, tensor in run.state_dict().items()}
    broken = Run(
        name="broken", folder=None, layout="test", config=run.config, data=run.data,
        raw_files={0: None}, ema_files={}, read=lambda _: state,
    )  # fmt: skip
    table = channel_concentration(broken, "final", CHANNELS)
    assert "cannot tell" in concentration_sentence(table)
    listed = top_channels(broken, "final", CHANNELS)
    means = token_mean(broken, "final", MEANS)
    assert "cannot tell" in mean_sentence(means)
    rows = at(listed, point="resid", branch="mlp", block=1, timestep=0)
    channel_bars(rows, listed, 1, "x")
    token_map(on_the_image(rows, 1), "x")
    shares = at(table, statistic="share", point="resid", branch="mlp")
    place_maps(with_words(shares), scale_of("share", shares), "x")


def test_images_that_are_not_at_hand_are_told_and_the_samplers_path_is_open():
    for name in ("head", "study nothing", "A"):
        run = without_data(every_config()[name])  # noqa: F811
        with pytest.raises(BadData, match="own path"):
            channel_concentration(run, "final", ChannelSettings())
        path = {"source": "trajectory", "steps": 3, "samples": 1, "timesteps": (999, 0)}
        table = channel_concentration(run, "final", ChannelSettings(**path))
        assert table["value"].notna().all() and len(table) == run.config.depth * 2 * 3 * 2 * 3
        assert token_mean(run, "final", TokenMeanSettings(**path))["value"].between(0, 1).all()


def test_a_narrow_model_lists_what_it_has():
    config = ModelConfig(depth=1, width=4, heads=1, size=4, channels=1, classes=2)
    model = random_model(config)
    run = Run(  # noqa: F811
        name="narrow", folder=None, layout="test", config=config, data=DataInfo(name="unknown"),
        raw_files={0: None}, ema_files={}, read=lambda _: model.state_dict(),
    )  # fmt: skip
    settings = ChannelSettings(source="trajectory", steps=2, samples=1, timesteps=(0,))
    rows = at(top_channels(run, "final", settings), point="in", branch="attn")
    assert list(rows["rank"]) == [0, 1, 2, 3, 4]
    assert len(biggest(rows, 4)) == 4 and middling(rows, 4, 4) == ()


def shares_of(values: dict[str, float]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"run": name, "block": 1, "branch": "mlp", "point": "resid", "timestep": 500,
             "statistic": "share", "value": value, "low": value - 0.01, "high": value + 0.01,
             "which": 23, "size": 64, "n": 88}
            for name, value in values.items()
        ]
    )  # fmt: skip


def test_the_answer_names_run_place_number_interval_and_the_even_spread():
    assert concentration_sentence(shares_of({"E": 0.1, "A": 0.925, "B": 0.5})) == (
        "In A channel 23 alone carries 92.5 % of the square of the stream after the MLP of block 2 "
        "at t = 500 (95 % interval 91.5 to 93.5 %; 88 images), where an even spread over 64 "
        "channels gives 1.56 %; the most of any channel in the others: B 50 %, E 10 %."
    )
    many = concentration_sentence(
        shares_of({name: 0.1 + 0.1 * i for i, name in enumerate("ABCDEF")})
    )
    assert "In F" in many and "least of the 6 runs in view: A, 10 %" in many
    assert concentration_sentence(shares_of({"A": 0.5})).endswith("over 64 channels gives 1.56 %.")


def test_the_answer_on_means_counts_the_branches_that_are_nearly_all_mean():
    rows = [
        {"run": run_, "block": block, "branch": "attn", "timestep": 799, "value": value,
         "low": value, "high": value, "tokens": 16, "n": 88}
        for run_, block, value in (("A", 0, 0.5), ("A", 1, 0.95), ("E", 0, 0.99993), ("E", 1, 0.2))
    ]  # fmt: skip
    sentence = mean_sentence(pd.DataFrame(rows))
    assert sentence.startswith("In E 99.993 % of what attention of block 1 writes at t = 799")
    assert "independent tokens have 6.25 %" in sentence
    assert sentence.endswith("Branches above 90 % at some timestep: A 1 of 2, E 1 of 2.")


def test_what_is_set_to_0_is_the_largest_channels_and_the_control_is_of_middle_size(listed):
    rows = at(listed, point="out", branch="attn", block=1, timestep=500)
    top, middle = biggest(rows, 2), middling(rows, 2, WIDTH)
    sizes = rows.set_index("channel")["mean_abs"]
    assert len(top) == len(middle) == 2 and not set(top) & set(middle)
    assert sizes[list(top)].min() > sizes[list(middle)].max()
    named = written(zeroing((5, 3), "out", "attn", 1))
    assert named == "zero.out=3,5@2:attn"
    assert written(zeroing((5,), "resid", "attn", None)) == "zero.stream=5"
    assert (
        channel_words(rows)[0] == "all channels" and channel_words(rows)[1] == f"channel {top[0]}"
    )


def test_percent_never_rounds_to_all():
    assert percent(0.9999999) != "100 %" and percent(1.0) == "100 %" and percent(0.0) == "0 %"


def test_maps_share_one_scale_from_an_even_spread_to_all_in_one(table):
    rows = at(table, statistic="share", point="resid", branch="mlp")
    both = with_words(pd.concat([rows, rows.assign(run="A", value=0.5)]))
    figure = place_maps(both, scale_of("share", both), "x")
    panels = {trace.name: trace for trace in figure.data if trace.type == "heatmap"}
    assert list(panels) == ["A", "E"] and {p.coloraxis for p in panels.values()} == {"coloraxis"}
    assert (figure.layout.coloraxis.cmin, figure.layout.coloraxis.cmax) == (-4, 0)  # 1/16 to 1
    place = (list(panels["E"].y).index(2), list(panels["E"].x).index(500))
    expected = at(rows, block=1, timestep=500)["value"].iloc[0]
    assert panels["E"].z[place] == pytest.approx(np.log2(expected))
    assert (panels["A"].z == -1).all()
    mark_place(figure, "E", 500, 1)
    mark = figure.data[-1]
    assert (mark.x[0], mark.y[0], mark.xaxis) == (500, 2, panels["E"].xaxis)
    assert figure.layout.xaxis.range[0] > figure.layout.xaxis.range[1]
    kurtoses = at(table, statistic="kurtosis", point="resid", branch="mlp")
    axis = scale_of("kurtosis", kurtoses).axis()
    assert axis["cmax"] == 4 and "3, Gaussian" in axis["colorbar"]["ticktext"]


def test_bars_keep_their_axis_while_timesteps_pass_and_the_map_lies_as_the_image(listed):
    rows = at(listed, point="resid", branch="mlp", block=1, timestep=500)
    other = at(listed, point="resid", branch="mlp", block=1, timestep=0)
    figures = [channel_bars(part, listed, 1, "x") for part in (rows, other)]
    assert figures[0].layout.xaxis.range == figures[1].layout.xaxis.range
    assert list(figures[0].data[0].y) == [f"channel {c}" for c in biggest(rows, 8)]
    first = rows[rows["rank"] == 1].iloc[0]
    drawn = token_map(on_the_image(rows, 1), "x")
    grid = first["tokens"].astype(float).reshape(4, 4)
    np.testing.assert_allclose(drawn.data[0].z, np.log2(grid))
    assert drawn.layout.yaxis.range[0] > drawn.layout.yaxis.range[1]  # the first row is on top


def test_lines_over_training_hold_the_tables_numbers(run):  # noqa: F811
    table = token_mean_by_step(run, "final", TrainingSettings(**FEW))
    rows = table[table["timestep"] == 500]
    figure = mean_over_training(rows, "x")
    lines = [trace for trace in figure.data if trace.type == "scatter"]
    assert len(lines) == 4  # two blocks, attention and MLP
    expected = at(rows, block=1, branch="mlp").sort_values("step")
    assert list(lines[3].y) == list(expected["value"]) and list(lines[3].x) == list(run.steps)
    last = at(rows, branch="mlp", step=max(run.steps))
    maps = place_maps(with_words(last), MEAN_SCALE, "x")
    assert (maps.layout.coloraxis.cmin, maps.layout.coloraxis.cmax) == (0, 1)

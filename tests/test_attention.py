"""Attention of every head against brute force on tiny models, closed forms, constructed cases."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from every_model import random_model
from hypothesis import given, settings
from hypothesis import strategies as st
from test_probing import without_data

from analysis import attention_maps as maps_module
from analysis.attention import (
    attention_heads,
    averaged,
    logit_reach,
    most_focused,
    of_images,
)
from analysis.attention_answer import attention_answer
from analysis.attention_maps import (
    MapSettings,
    at_nearest,
    attention_maps,
    fitting,
    maps_of,
    of_head,
    one_image,
    probed_images,
)
from analysis.attention_pass import (
    AttentionSettings,
    head_logits,
    logit_bound,
    lowest_entropy,
    patch_distances,
)
from analysis.figures import attention as figures
from analysis.figures.attention_logits import logits_by_block
from analysis.figures.attention_maps import every_head, map_of_query
from analysis.probing import probe_inputs
from mpdit_core.config import DataInfo, ModelConfig, preset
from mpdit_core.embeddings import patchify
from mpdit_core.errors import BadData, InvalidConfig
from mpdit_core.layers import normalize
from mpdit_core.runs.run import Run

TINY = {"depth": 2, "width": 16, "heads": 2}
SEED = 0
SHOWN = AttentionSettings(timesteps=(900, 500, 0), labels=(3, 10), samples=3)


def a_run(config: ModelConfig, data: str = "digits", scale: float = 1.0) -> Run:
    torch.manual_seed(SEED)
    model = random_model(config)
    for parameter in model.parameters():
        parameter.data.mul_(scale)
    return Run(
        name="tiny", folder=None, layout="test", config=config, data=DataInfo(name=data),
        raw_files={0: None}, ema_files={}, read=lambda _: model.state_dict(),
    )  # fmt: skip


@pytest.fixture(scope="module", params=["A", "E"])
def run(request) -> Run:
    return a_run(preset(request.param, **TINY))


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def logits_by_hand(run: Run, shown=SHOWN) -> dict[tuple[int, int], np.ndarray]:
    """(block, head) -> (timesteps, images, queries, keys) in float64, from the blocks called one
    after the other: no probe point, no visitor; q and k from the first two thirds of the weight."""
    model, config = run.model("final"), run.config
    found: dict[tuple[int, int], list] = {}
    with torch.no_grad():
        for part in probe_inputs(run, model, shown):
            stream = model.patches(part.noisy)
            t = torch.full_like(part.labels, part.timestep)
            activated = model.activation(model.condition(t, part.labels))
            for index, block in enumerate(model.blocks):
                branch = block.attn
                entering = branch.modulate(branch.norm(stream), branch.modulation(activated))
                both = branch.core.qkv(entering).double().numpy()
                for head in range(config.heads):
                    q, k = (
                        both[..., start + head * config.head_width :][..., : config.head_width]
                        for start in (0, config.width)
                    )
                    if config.cosine_attention:
                        q, k = (
                            x * 8**0.5 / (np.linalg.norm(x, axis=-1, keepdims=True) + 1e-4)
                            for x in (q, k)
                        )
                    logits = np.einsum("bqd,bkd->bqk", q, k) / 8**0.5
                    found.setdefault((index, head), []).append(logits)
                stream = block(stream, activated)
    return {place: np.stack(parts) for place, parts in found.items()}


def test_entropy_distance_and_logits_equal_those_by_hand(run):
    table = attention_heads(run, "final", SHOWN).set_index(["block", "head", "timestep"])
    assert len(table) == 2 * 2 * 3 and set(table["n"]) == {6} and set(table["tokens"]) == {16}
    apart = np.array(
        [[math.hypot(a // 4 - b // 4, a % 4 - b % 4) for b in range(16)] for a in range(16)]
    )
    for (block, head), logits in logits_by_hand(run).items():
        weights = softmax(logits)
        entropy = -(weights * np.log(weights + 1e-300)).sum(-1).mean(-1)  # (timesteps, images)
        distance = (weights * apart).sum(-1).mean((1, 2))
        for number, timestep in enumerate((900, 500, 0)):
            row = table.loc[(block, head, timestep)]
            assert row["entropy"] == pytest.approx(entropy[number].mean(), rel=1e-3, abs=1e-5)
            error = entropy[number].std(ddof=1) / 6**0.5
            assert row["entropy_error"] == pytest.approx(error, rel=1e-2, abs=1e-4)
            assert row["distance"] == pytest.approx(distance[number], rel=1e-3)
            assert row["logit_largest"] == pytest.approx(abs(logits[number]).max(), rel=1e-4)
            typical = (logits[number] ** 2).mean() ** 0.5
            assert row["logit_typical"] == pytest.approx(typical, rel=1e-4)
    assert table["distance_uniform"].iloc[0] == pytest.approx(apart.mean())
    assert (table["bound"] == 8**0.5).all() if run.config.cosine_attention else (
        table["bound"].isna().all()
    )  # fmt: skip


def test_maps_equal_a_softmax_by_hand_and_every_row_sums_to_one(run):
    table = attention_maps(run, "final", maps_of(SHOWN))
    assert len(table) == maps_of(SHOWN).weights_kept(run.config) == 2 * 2 * 3 * 16 * 16
    for (block, head), logits in logits_by_hand(run).items():
        own = table[(table["block"] == block) & (table["head"] == head)]
        stored = own["value"].to_numpy().reshape(3, 16, 16)
        np.testing.assert_allclose(stored, softmax(logits).mean(axis=1), rtol=3e-3, atol=1e-5)
        np.testing.assert_allclose(stored.sum(-1), 1, atol=2e-3)
    first = table.iloc[:256]
    assert first["query"].tolist() == np.repeat(range(16), 16).tolist()
    assert first["key"].tolist() == list(range(16)) * 16


def test_one_image_is_one_of_those_averaged(run):
    alone = attention_maps(run, "final", maps_of(one_image(SHOWN, 3)))
    assert set(alone["n"]) == {1}
    by_hand = softmax(logits_by_hand(run)[1, 0])[:, 0]  # the first image is of label 3
    own = alone[(alone["block"] == 1) & (alone["head"] == 0)]
    np.testing.assert_allclose(
        own["value"].to_numpy().reshape(3, 16, 16), by_hand, rtol=3e-3, atol=1e-5
    )


def test_uniform_attention_has_entropy_log_n_and_the_mean_distance():
    distances = patch_distances(4)
    found = of_images(torch.zeros(2, 16, 16), distances)
    assert found[:, 0].tolist() == pytest.approx([math.log(16)] * 2)
    assert found[:, 1].tolist() == pytest.approx([float(distances.mean())] * 2)
    one_key = torch.full((1, 16, 16), -1e4) + torch.eye(16) * 1e4
    assert of_images(one_key, distances)[0, :2].tolist() == pytest.approx([0, 0], abs=1e-6)


def test_distances_are_between_centres_of_patches_row_by_row():
    distances = patch_distances(4)
    assert distances[0, 3] == 3 and distances[0, 12] == 3  # along the row, down the column
    assert distances[0, 4] == 1 and distances[0, 15] == pytest.approx(18**0.5)
    assert patch_distances(1).tolist() == [[0]]


def test_a_map_lies_over_the_image_as_the_models_patches_do():
    """Constructed attention: every patch looks at the brightest one, in row 2, column 4 of 4."""
    image = torch.full((1, 1, 8, 8), -1.0)
    image[..., 2:4, 6:8] = 5.0
    bright = patchify(image, 2).mean(-1, keepdim=True)  # in the model's own order
    weights = head_logits(torch.ones(1, 16, 1), bright * 10).softmax(-1)[0].numpy()
    query, key = np.indices((16, 16))
    rows = pd.DataFrame(
        {"query": query.ravel(), "key": key.ravel(), "value": weights.ravel(), "n": 1}
    )
    row, column = np.indices((8, 8))
    pixels = pd.DataFrame(
        {"row": row.ravel(), "column": column.ravel(), "value": image[0, 0].numpy().ravel()}
    )
    figure = map_of_query(rows, pixels, 4, 1.0, "x", "image")
    named = {trace.name: trace for trace in figure.data}
    shown, attention = named["image"], named["attention"]
    here = np.unravel_index(attention.z.argmax(), attention.z.shape)
    assert (attention.y[here[0]], attention.x[here[1]]) == (2, 4)
    inside = {(y, x) for y, x in np.argwhere(shown.z == 5)}
    places = [(shown.y[y], shown.x[x]) for y, x in inside]
    assert all(abs(y - 2) < 0.5 and abs(x - 4) < 0.5 for y, x in places)
    assert figure.layout.yaxis.range[0] > figure.layout.yaxis.range[1]  # row 1 on top
    frame = named["query"]
    assert (min(frame.x), min(frame.y)) == (0.5, 1.5)  # patch 5: row 2, column 1
    clicks = named["patches"]
    assert [int(c[0]) for c in clicks.customdata] == list(range(1, 17))
    assert (clicks.x[4], clicks.y[4]) == (1, 2)


def test_every_heads_tile_holds_its_own_map_with_row_1_on_top():
    value = np.random.default_rng(0).random((2, 3, 16)).astype(np.float32)
    block, head, key = np.indices(value.shape)
    rows = pd.DataFrame(
        {"block": block.ravel(), "head": head.ravel(), "key": key.ravel(), "value": value.ravel()}
    )
    figure = every_head(rows, 6, 1.0, "x")
    tiles, frames = figure.data
    for b in range(2):
        for h in range(3):
            across = [i for i, x in enumerate(tiles.x) if abs(x - (b + 1)) < 0.45]
            down = [i for i, y in enumerate(tiles.y) if abs(y - (h + 1)) < 0.45]
            down.sort(key=lambda i: -tiles.y[i])  # from the top of the screen
            found = tiles.z[np.ix_(down, across)]
            assert np.array_equal(found[~np.isnan(found)].reshape(4, 4), value[b, h].reshape(4, 4))
    centre = [(frames.x[0] + frames.x[1]) / 2, (frames.y[1] + frames.y[2]) / 2]
    place = (np.abs(tiles.y - centre[1]).argmin(), np.abs(tiles.x - centre[0]).argmin())
    assert tiles.z[place] == value[0, 0, 6]


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    width=st.integers(1, 24),
    size=st.floats(-30, 30).map(lambda power: 10.0 ** (power / 2)),
)
def test_cosine_attention_never_exceeds_the_bound(seed, width, size):
    draw = torch.Generator().manual_seed(seed)
    q, k = (normalize(torch.randn(2, 9, width, generator=draw) * size) for _ in range(2))
    logits = head_logits(q, k)
    assert float(logits.abs().max()) <= math.sqrt(width) * (1 + 1e-5)
    entropy = of_images(logits, patch_distances(3))[:, 0]
    assert (entropy >= lowest_entropy(math.sqrt(width), 9) - 1e-5).all()


@settings(max_examples=5, deadline=None)
@given(scale=st.floats(1, 1e4))
def test_however_large_the_weights_a_cosine_run_stays_below_its_bound(scale):
    few = SHOWN.model_copy(update={"timesteps": (500,)})
    bounded, free = (
        logit_reach(attention_heads(a_run(preset(name, **TINY), scale=scale), "final", few))
        for name in "BA"
    )
    assert (bounded["reached"] <= 1 + 1e-5).all() and (bounded["reached"] > 0).all()
    assert free["reached"].isna().all() and (free["logit_largest"] > 8**0.5).any()


@pytest.mark.parametrize(("bound", "tokens"), [(0.5, 3), (2.0, 4), (1.0, 5)])
def test_the_lowest_entropy_is_that_of_the_best_corner_of_the_box(bound, tokens):
    corners = np.stack(np.meshgrid(*[[-bound, bound]] * tokens), -1).reshape(-1, tokens)
    weights = softmax(corners)
    by_hand = (-(weights * np.log(weights)).sum(-1)).min()
    assert lowest_entropy(bound, tokens) == pytest.approx(by_hand)
    inside = softmax(np.random.default_rng(0).uniform(-bound, bound, (2000, tokens)))
    assert (-(inside * np.log(inside)).sum(-1) >= by_hand - 1e-9).all()


def test_without_cosine_attention_there_is_no_bound():
    assert math.isnan(logit_bound(preset("A"))) and math.isnan(lowest_entropy(math.nan, 16))
    assert logit_bound(preset("B", width=64, heads=4)) == 4


def test_the_largest_logit_is_found_with_its_place():
    table = pd.DataFrame(
        {"run": "B", "block": 0, "head": [0, 0, 1, 1], "timestep": [900, 0] * 2,
         "logit_largest": [1.0, 3.0, 2.0, np.nan], "logit_typical": [1.0, 7.0, 2.0, np.nan],
         "bound": 4.0, "n": 5, "tokens": 16}
    )  # fmt: skip
    heads = logit_reach(table).set_index("head")
    assert heads["logit_largest"].tolist() == [3, 2] and heads["timestep"].tolist() == [0, 900]
    assert heads["reached"].tolist() == [0.75, 0.5]
    assert heads.loc[0, "logit_typical"] == pytest.approx(5)


def test_the_most_focused_head_is_that_of_the_lowest_entropy_over_all_timesteps():
    table = pd.DataFrame(
        {"run": ["B"] * 4 + ["A"], "block": [0, 0, 3, 3, 1], "head": [1, 1, 2, 2, 0],
         "timestep": [900, 0, 900, 0, 0], "entropy": [0.1, 2.0, 1.0, 1.0, 0.0]}
    )  # fmt: skip
    assert most_focused(table, "B") == (3, 2)
    assert most_focused(table.assign(entropy=np.nan), "B") == (0, 0)


def test_heads_are_averaged_per_timestep(run):
    table = attention_heads(run, "final", SHOWN)
    pooled = averaged(table, ["run", "block", "timestep"])
    assert len(pooled) == 2 * 3
    own = table[(table["block"] == 1) & (table["timestep"] == 0)]["entropy"]
    found = pooled[(pooled["block"] == 1) & (pooled["timestep"] == 0)]["entropy"].iloc[0]
    assert found == pytest.approx(own.mean())


def test_the_images_shown_are_those_the_model_sees(run):
    table = probed_images(run, "final", one_image(SHOWN, 3))
    seen = probe_inputs(run, run.model(), one_image(SHOWN, 3))[1].noisy[0, 0].numpy()
    own = table[table["timestep"] == 500]
    assert own[(own["row"] == 2) & (own["column"] == 5)]["value"].iloc[0] == seen[2, 5]
    assert len(table) == 3 * 64


def test_a_large_model_keeps_one_block_then_one_head_then_fewer_timesteps(monkeypatch):
    config = preset("A", depth=4, width=16, heads=4)
    every = MapSettings(timesteps=(900, 500, 100, 0))
    for room, blocks, heads, timesteps in (
        (65_536, (), (), 4), (4_096, (2,), (), 4), (1_024, (2,), (1,), 4), (600, (2,), (1,), 2),
        (300, (2,), (1,), 1),
    ):  # fmt: skip
        monkeypatch.setattr(maps_module, "LARGEST", room)
        found = fitting(config, every, 2, 1)
        assert (found.blocks, found.heads, len(found.timesteps)) == (blocks, heads, timesteps)
        assert found.weights_kept(config) <= room


def test_a_chosen_block_and_head_give_the_same_maps(run):
    every = attention_maps(run, "final", maps_of(SHOWN))
    chosen = MapSettings(**SHOWN.model_dump(), blocks=(1,), heads=(0,))
    alone = attention_maps(run, "final", chosen)
    own = every[(every["block"] == 1) & (every["head"] == 0)].reset_index(drop=True)
    pd.testing.assert_frame_equal(alone, own)


def test_what_cannot_be_asked_is_refused_in_a_sentence(run, monkeypatch):
    with pytest.raises(InvalidConfig, match="heads held 7; this model has 0 to 1"):
        attention_maps(run, "final", MapSettings(heads=(7,)))
    with pytest.raises(BadData, match="not at hand"):
        attention_heads(without_data(run.config), "final", SHOWN)
    monkeypatch.setattr(maps_module, "LARGEST", 100)
    with pytest.raises(InvalidConfig, match="at most 100 are kept"):
        attention_maps(run, "final", maps_of(SHOWN))


def test_without_its_images_a_run_is_seen_along_its_own_path(run):
    path = SHOWN.model_copy(update={"source": "trajectory", "steps": 4})
    table = attention_heads(without_data(run.config), "final", path)
    assert np.isfinite(table["entropy"]).all() and set(table["n"]) == {6}


def test_broken_weights_give_missing_numbers_and_a_sentence():
    broken = a_run(preset("A", **TINY), scale=math.nan)
    table = attention_heads(broken, "final", SHOWN)
    assert table["entropy"].isna().all() and logit_reach(table).empty
    assert "cannot tell" in attention_answer(table, table, "at t = 500")
    assert attention_maps(broken, "final", maps_of(SHOWN))["value"].isna().all()


def heads_of(**runs: tuple[float, float, float]) -> pd.DataFrame:
    """Run -> (entropy, largest |logit|, bound)."""
    return pd.DataFrame(
        [
            {"run": name, "block": 2, "head": 1, "timestep": 500, "entropy": entropy,
             "entropy_error": 0.01, "entropy_most": math.log(16), "logit_largest": logit,
             "logit_typical": 1.0, "bound": bound, "n": 44, "tokens": 16}
            for name, (entropy, logit, bound) in runs.items()
        ]
    )  # fmt: skip


def test_the_answer_names_the_most_focused_head_and_how_near_the_bound_is():
    table = heads_of(A=(0.5, 24.2, math.nan), B=(1.7, 3.96, 4.0), E=(1.6, 3.9, 4.0))
    assert attention_answer(table, table, "at t = 500") == (
        "At t = 500 the most focused head is head 2 of block 3 in A: entropy 0.5 ± 0.02 of at most "
        "2.77 nats (44 images). With cosine attention the largest |logit| is 99.0 % of its bound "
        "√d = 4 in B, least in E (97.5 %); without a bound A reaches 24.2 (44 images at each "
        "timestep)."
    )


def test_an_entropy_of_nearly_nothing_is_not_told_to_three_digits():
    table = heads_of(A=(6.6e-44, 900.0, math.nan))
    assert "entropy below 0.001 of at most 2.77" in attention_answer(table, table, "at t = 500")


def test_the_answer_of_one_run_speaks_of_it_alone():
    only = heads_of(A=(0.5, 24.2, math.nan))
    assert "Without a bound A reaches 24.2" in attention_answer(only, only, "at t = 500")
    only = heads_of(E=(0.5, 3.9, 4.0))
    assert "97.5 % of its bound √d = 4 in E (44 images" in attention_answer(only, only, "at t = 0")


def test_panels_hold_the_tables_numbers_and_the_same_at_another_timestep_without_building_anew(run):
    table = attention_heads(run, "final", SHOWN)
    early, late = (at_nearest(table, t)[0] for t in (900, 0))
    for shown in figures.SHOWN.values():
        anew = figures.by_head(late, shown, 3.0, "late")
        filled = figures.with_values(figures.by_head(early, shown, 3.0, ""), late, shown, "late")
        assert filled.to_json() == anew.to_json()
        heatmap, cells = anew.data
        for row in late.to_dict("records"):
            place = (
                list(heatmap.y).index(row["head"] + 1),
                list(heatmap.x).index(row["block"] + 1),
            )
            assert heatmap.z[place] == row[shown.column]
        assert [run for run, *_ in cells.customdata] == ["tiny"] * 4
    along = figures.by_timestep(averaged(table, ["run", "block", "timestep"]), shown, 3.0, "x")
    assert along.data[0].z.shape == (2, 3)
    assert along.layout.xaxis.range[0] > along.layout.xaxis.range[1]


def test_the_logits_figure_draws_the_bound_where_there_is_one(run):
    heads = logit_reach(attention_heads(run, "final", SHOWN))
    figure = logits_by_block(heads, "x")
    named = {trace.name: trace for trace in figure.data}
    assert list(named["tiny largest"].y) == list(heads["logit_largest"])
    lines = [shape.y0 for shape in figure.layout.shapes]
    assert lines == ([8**0.5] if run.config.cosine_attention else [])


def test_figures_survive_broken_weights():
    broken = a_run(preset("E", **TINY), scale=math.nan)
    rows, _ = at_nearest(attention_heads(broken, "final", SHOWN), 0)
    assert np.isnan(figures.by_head(rows, figures.SHOWN["entropy"], math.nan, "x").data[0].z).all()
    shown = maps_of(SHOWN)
    maps, _ = at_nearest(attention_maps(broken, "final", shown), 0)
    pixels, _ = at_nearest(probed_images(broken, "final", SHOWN), 0)
    assert map_of_query(of_head(maps, 0, 1), pixels, 3, math.nan, "x", "image").to_json()
    assert every_head(maps[maps["query"] == 3], 3, math.nan, "x").to_json()

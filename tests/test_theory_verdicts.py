"""The claims on weights against finite differences, and the words computed from all of them."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from every_model import every_config
from test_probing import run, without_data  # noqa: F401 - a fixture is used by its name

from analysis.theory import COLUMNS, TheorySettings, theory
from analysis.theory_claims import BY_NAME, CLAIMS
from analysis.theory_sums import departure_of
from analysis.theory_verdicts import (
    answer_sentence,
    blocks,
    checked,
    initial_sentence,
    number_in_words,
    pieces,
    place_in_words,
    verdicts,
    wide,
)
from analysis.theory_weights import (
    GradientSettings,
    RowSettings,
    _batches,
    gradient_angles,
    gradient_measured,
    row_norms,
    rows_measured,
)
from mpdit_core.config import ModelConfig, preset
from mpdit_core.errors import BadData
from mpdit_core.layers import force_norms
from mpdit_core.loss import diffusion_loss
from mpdit_core.model import MPDiT

FEW = TheorySettings(timesteps=(900, 0), labels=(3, 10), samples=3)
LITTLE = GradientSettings(samples=4)


def with_weights(like, model: MPDiT, name="E"):
    """A run of the digits with these weights, kept nowhere."""
    return type(like)(
        name=name, folder=like.folder, layout="test", config=model.config, data=like.data,
        raw_files={0: None}, ema_files={}, read=lambda _: model.state_dict(),
    )  # fmt: skip


def randomized(config: ModelConfig) -> MPDiT:
    torch.manual_seed(0)
    model = MPDiT(config)
    for parameter in model.parameters():
        parameter.data.add_(0.3 * torch.randn_like(parameter))
    return model


# 8. Gradients


def test_cosines_are_those_of_each_row_and_rows_without_gradient_count_nowhere():
    weight = torch.tensor([[3.0, 0.0], [0.0, 2.0], [1.0, 1.0]])
    gradient = torch.tensor([[0.0, 5.0], [1.0, 1.0], [0.0, 0.0]])
    found = gradient_measured(gradient, weight)
    assert found["n"] == 2
    assert found["departure"] == pytest.approx(math.sqrt(0.5))
    assert found["measured"] == pytest.approx(0.5)
    nothing = gradient_measured(torch.zeros(3, 2), weight)
    assert nothing["n"] == 0 and math.isnan(nothing["departure"])


@pytest.mark.parametrize("name", ["A", "E"])
def test_the_gradient_along_a_row_is_that_of_finite_differences(run, name):  # noqa: F811
    model = randomized(preset(name, depth=1, width=8, heads=2))
    table = gradient_angles(with_weights(run, model), "initial", LITTLE)
    up = wide(table).query("part == 'up'").iloc[0]
    images, labels, timesteps, noise = next(_batches(run, LITTLE))
    exact = model.double().eval()
    weight = exact.blocks[0].mlp.core.up.weight
    slopes = torch.zeros_like(weight)
    with torch.no_grad():
        for row in range(4):
            for column in range(weight.shape[1]):
                for sign in (1, -1):
                    weight[row, column] += sign * 1e-5
                    loss = diffusion_loss(exact, images, labels, timesteps, noise).total
                    slopes[row, column] += sign * loss / 2e-5
                    weight[row, column] -= sign * 1e-5
    cosines = torch.nn.functional.cosine_similarity(slopes[:4], weight.detach()[:4])
    assert float(cosines.abs().max()) <= up["departure"] + 1e-4
    claimed = not BY_NAME["gradient"].lacking(model.config)
    assert (up["departure"] < 1e-3) == claimed
    if not claimed:
        assert float(cosines.abs().max()) > 1e-2


def test_gradients_add_up_over_batches(run, monkeypatch):  # noqa: F811
    whole = gradient_angles(run, "final", LITTLE)
    monkeypatch.setattr("analysis.theory_weights.AT_ONCE", 3)
    np.testing.assert_allclose(
        gradient_angles(run, "final", LITTLE)["value"], whole["value"], atol=1e-9
    )


def test_a_gradient_needs_held_out_images():
    with pytest.raises(BadData):
        gradient_angles(without_data(every_config()["E"]), "initial", LITTLE)


# 9. Forced rows


def test_rows_are_measured_against_the_root_of_their_length():
    found = rows_measured(torch.tensor([[2.0, 0, 0, 0], [0, 0, 3.0, 0]]))
    assert (found["measured"], found["lowest"], found["highest"]) == (1.25, 1.0, 1.5)
    assert found["departure"] == pytest.approx(0.5) and found["n"] == 2


def test_rows_of_every_layer_hold_after_forcing_and_not_before(run):  # noqa: F811
    model = randomized(preset("E", depth=1, width=16, heads=2))
    free = row_norms(with_weights(run, model), "initial", RowSettings())
    force_norms(model)
    forced = row_norms(with_weights(run, model), "initial", RowSettings())
    for table, holds in ((free, False), (forced, True)):
        largest = table.loc[table["statistic"] == "departure", "value"].max()
        assert (largest < 1e-3) == holds
    assert {"attn", "mlp", "embedding", "final"} == set(forced["branch"])
    assert wide(forced)["block"].isin([-1, 0, 1]).all()


# Verdicts and sentences


def made_up(*rows: tuple) -> pd.DataFrame:
    """A table of (run, claim, block, claimed, measured, departure)."""
    found = []
    for name, claim, block, *values in rows:
        for statistic, value in zip(("claimed", "measured", "departure"), values, strict=True):
            place = (name, "final", claim, block, "mlp", "", 499)
            found.append((*place, statistic, value, 100))
    return pd.DataFrame(found, columns=list(COLUMNS))


@pytest.fixture(scope="module")
def found(run):  # noqa: F811
    tokens, start = (theory(run, weights, FEW) for weights in ("final", "initial"))
    gradients, rows = gradient_angles(run, "final", LITTLE), row_norms(run, "final", RowSettings())
    return checked(tokens, start, gradients, rows), start


def test_every_claim_has_a_verdict_for_every_run(run, found):  # noqa: F811
    table, _ = found
    judged = verdicts(table, {"E": run.config}).set_index("claim")
    assert list(judged.index) == [claim.name for claim in CLAIMS]
    assert judged.loc["rotation", ["verdict", "lacking"]].tolist() == ["not claimed", "no rotation"]
    for name in ("attention", "cosine", "gradient", "forced", "gates"):
        assert judged.loc[name, "verdict"] == "holds", name
    assert judged.loc["gates", "weights"] == "initial"
    assert (judged["n"] > 0).sum() == 9


def test_the_worst_place_is_the_largest_departure():
    table = made_up(("E", "sum", 0, 1.0, 1.1, 0.1), ("E", "sum", 1, 1.0, 0.5, 1.0))
    row = verdicts(table, {"E": preset("E")}).set_index("claim").loc["sum"]
    assert (row["verdict"], row["block"], row["shown"]) == ("departs", 1, 0.5)
    assert place_in_words(row) == "block 2, MLP, t\xa0=\xa0499"
    assert number_in_words("sum", row["shown"]) == "−50 %"


@pytest.mark.parametrize(
    ("departure", "verdict"), [(0.0, "holds"), (0.2, "roughly"), (0.3, "departs")]
)
def test_the_verdict_follows_from_the_departure(departure, verdict):
    table = made_up(("E", "sum", 0, 1.0, 1 + departure, departure))
    judged = verdicts(table, {"E": preset("E")}).set_index("claim")
    assert judged.loc["sum", "verdict"] == verdict
    assert judged.loc["silu", "verdict"] == "not seen"


def test_the_answer_names_the_claim_each_run_departs_from_most():
    table = made_up(
        ("E", "sum", 0, 1.0, 1.1, 0.1), ("E", "silu", 2, 1.0, 0.25, 3.0),
        ("A", "sum", 1, 1.0, 1.5, 0.5), ("A", "silu", 0, 0.6, 0.6, 0.0),
    )  # fmt: skip
    sentence = answer_sentence(verdicts(table, {"A": preset("A"), "E": preset("E")}))
    first, second = sentence.index("SiLU (−75 % in E"), sentence.index("sum (+50 % in A")
    assert first < second
    assert "block 3, MLP, t\xa0=\xa0499, 100 tokens" in sentence


def test_a_broken_exact_claim_is_named():
    table = made_up(("E", "gates", 0, 0.919, 0.8, 0.149))
    sentence = answer_sentence(verdicts(table, {"E": preset("E")}))
    assert "though exact: zero gates in E" in sentence


def test_nan_weights_are_told_and_nothing_is_claimed_of_them(run):  # noqa: F811
    model = randomized(preset("E", depth=2, width=16, heads=2))
    model.blocks[0].mlp.core.up.weight.data[0, 0] = math.nan
    table = checked(theory(with_weights(run, model), "initial", FEW), None, None, None)
    judged = verdicts(table, {"E": model.config}).set_index("claim")
    assert judged.loc["silu", "verdict"] == "not finite"
    assert "SiLU in E" in answer_sentence(judged.reset_index())


def test_without_any_claim_the_answer_says_that_it_cannot_tell():
    assert "cannot tell" in answer_sentence(verdicts(made_up(), {"E": preset("E")}))


def test_what_zero_gates_do_at_the_start_is_said_of_the_runs_that_have_them(run, found):  # noqa: F811
    _, start = found
    sentence = initial_sentence(start, {"E": run.config})
    assert "zero gates shrink the stream: to 0.919" in sentence
    assert f"0.845 in a block, {0.58**-2 * 0.7**4:.3f} after 2 blocks" in sentence
    assert initial_sentence(start, {"A": preset("A")}) == ""


def test_pieces_and_blocks_choose_what_a_figure_shows(found):
    table, _ = found
    assert pieces(table, "linear") == [
        ("attn", "qkv"), ("attn", "out"), ("mlp", "up"), ("mlp", "down")
    ]  # fmt: skip
    rows = blocks(table, "linear", ("mlp", "down"))
    assert sorted(zip(rows["timestep"], rows["block"], strict=True)) == [
        (0, 0), (0, 1), (900, 0), (900, 1)
    ]  # fmt: skip
    assert {"claimed", "measured", "from_mean"} <= set(rows)


@pytest.mark.parametrize(
    ("measured", "claimed", "departure"),
    [(2, 1, 1), (1, 2, 1), (0, 0, 0), (0, 1, math.inf), (math.nan, 1, math.nan)],
)
def test_a_departure_is_the_same_in_both_directions(measured, claimed, departure):
    assert departure_of(measured, claimed) == pytest.approx(departure, nan_ok=True)

"""Each measure of a claim against closed forms and brute force, on made-up tensors and models."""

import math

import numpy as np
import pytest
import torch
from every_model import every_config
from scipy import integrate, special, stats
from test_probing import run, without_data  # noqa: F401 - a fixture is used by its name
from torch.nn import functional

from analysis import theory as theory_module
from analysis.probing import probe_inputs
from analysis.theory import TheorySettings, theory
from analysis.theory_attention import (
    attention_measured,
    attention_sums,
    cosine_measured,
    cosine_sums,
)
from analysis.theory_gaussian import HistogramSettings, preactivation_histogram
from analysis.theory_layers import (
    linear_measured,
    linear_sums,
    silu_factor,
    silu_measured,
    silu_sums,
)
from analysis.theory_modulation import (
    rotation_measured,
    rotation_sums,
    scale_measured,
    scale_sums,
    shift_measured,
    shift_sums,
)
from analysis.theory_stream import gates_measured, gates_sums, sum_measured, sum_sums
from analysis.theory_sums import added
from analysis.theory_verdicts import wide
from mpdit_core.errors import BadData
from mpdit_core.layers import mp_silu, mp_sum, rotate, rotate_adjacent

FEW = TheorySettings(timesteps=(900, 0), labels=(3, 10), samples=3)


def draws(seed: int, *shape: int, sigma: float = 1.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return sigma * torch.randn(shape, generator=generator, dtype=torch.float64)


def rms(tensor: torch.Tensor) -> float:
    return float(tensor.square().mean().sqrt())


# 1, 7. Attention


def test_attention_is_measured_as_by_loops_over_samples_heads_and_tokens():
    q, k, v = (draws(seed, 2, 3, 5, 4) for seed in range(3))
    mixed, reached = torch.zeros_like(v), 0.0
    for b in range(2):
        for h in range(3):
            largest = max(rms(v[b, h, t]) for t in range(5))
            for t in range(5):
                logits = [float(q[b, h, t] @ k[b, h, s]) / 2 for s in range(5)]
                weights = np.exp(logits) / np.exp(logits).sum()
                mixed[b, h, t] = sum(weights[s] * v[b, h, s] for s in range(5))
                reached = max(reached, rms(mixed[b, h, t]) / largest)
    found = attention_measured(attention_sums(q, k, v))
    assert found["claimed"] == pytest.approx(rms(v))
    assert found["measured"] == pytest.approx(rms(mixed))
    assert found["reached"] == pytest.approx(reached) and reached < 1
    assert found["departure"] == 0 and found["n"] == 30


def test_uniform_rows_over_uncorrelated_values_reach_the_lower_line():
    v = draws(0, 8, 1, 16, 512)
    nothing = torch.zeros(8, 1, 16, 4, dtype=torch.float64)
    found = attention_measured(attention_sums(nothing, nothing, v))
    assert found["lowest"] == pytest.approx(found["claimed"] / 4)
    assert found["measured"] == pytest.approx(found["lowest"], rel=0.05)
    assert found["uniform"] == pytest.approx(found["measured"])
    assert abs(found["correlation"]) < 0.01


def test_equal_values_reach_the_bound_and_are_fully_correlated():
    q, v = draws(0, 2, 2, 5, 4), draws(1, 2, 2, 1, 6).expand(2, 2, 5, 6)
    found = attention_measured(attention_sums(q, q, v))
    assert found["reached"] == pytest.approx(1)
    assert found["correlation"] == pytest.approx(1)


def test_the_largest_logit_is_measured_against_the_root_of_the_head_width():
    q, k = draws(0, 2, 2, 5, 16, sigma=9), draws(1, 2, 2, 5, 16)
    largest = max(
        abs(float(q[b, h, i] @ k[b, h, j])) / 4
        for b in range(2) for h in range(2) for i in range(5) for j in range(5)
    )  # fmt: skip
    found = cosine_measured(cosine_sums(q, k))
    assert (found["claimed"], found["measured"]) == (4, pytest.approx(largest))
    assert found["departure"] == pytest.approx(largest / 4 - 1)


# 2, 6. Modulation


@pytest.mark.parametrize(("turn", "pairing"), [(rotate, "half"), (rotate_adjacent, "adjacent")])
def test_a_rotation_keeps_tokens_and_pairs_and_another_pairing_does_not(turn, pairing):
    tokens = draws(0, 3, 5, 8)
    turned = turn(tokens, draws(1, 3, 4, sigma=3))
    found = rotation_measured(rotation_sums(tokens, turned, pairing))
    assert found["departure"] < 1e-12 and found["claimed"] == pytest.approx(rms(tokens))
    other = {"half": "adjacent", "adjacent": "half"}[pairing]
    wrong = rotation_measured(rotation_sums(tokens, turned, other))
    assert wrong["token"] < 1e-12 < 0.1 < wrong["pair"]


def test_one_token_that_grows_by_a_tenth_is_found():
    tokens = draws(0, 3, 5, 8)
    grown = tokens.clone()
    grown[1, 2] *= 1.1
    assert rotation_measured(rotation_sums(tokens, grown, "half"))["token"] == pytest.approx(0.1)


def test_scale_is_predicted_where_it_is_independent_and_missed_where_it_is_not():
    tokens, factor = draws(0, 512, 4, 16), 1 + draws(1, 512, 16, sigma=0.5)
    found = scale_measured(scale_sums(tokens, factor))
    assert found["measured"] == pytest.approx(rms(tokens * factor[:, None]))
    assert found["departure"] < 0.02
    assert found["change"] == pytest.approx(rms(tokens * factor[:, None]) / rms(tokens))
    follows = tokens[:, 0]  # large where the token is large: not independent
    chased = scale_measured(scale_sums(tokens[:, :1], follows))
    assert chased["measured"] == pytest.approx(3**0.5, rel=0.05)  # fourth moment of a Gaussian
    assert chased["claimed"] == pytest.approx(1, rel=0.05)


def test_a_shift_along_the_tokens_is_correlated_and_misses_the_prediction():
    tokens = draws(0, 64, 1, 16)
    found = shift_measured(shift_sums(tokens, -tokens[:, 0] / 2))
    assert found["correlation"] == pytest.approx(-1)
    assert found["measured"] == pytest.approx(rms(tokens) / 2)
    assert found["claimed"] == pytest.approx(rms(tokens) * 1.25**0.5)
    free = shift_measured(shift_sums(draws(1, 64, 9, 16), draws(2, 64, 16)))
    assert free["departure"] < 0.02 and free["change"] == pytest.approx(2**0.5, rel=0.02)


# 3, 5. Layers


def test_the_parts_of_a_linears_departure_are_those_of_the_second_moments():
    x = (
        draws(0, 500, 6) * torch.arange(1, 7)
        + draws(1, 500, 1)
        + torch.tensor([2.0, 0, 0, 1, 0, 0])
    )
    weight = draws(2, 4, 6)
    found = linear_measured(linear_sums(x.reshape(100, 5, 6), weight))
    moments, mean = (x.T @ x / 500).numpy(), x.mean(dim=0).numpy()
    w = weight.numpy()
    sigma2 = np.trace(moments) / 6
    of = lambda matrix: np.mean([row @ matrix @ row for row in w]) / sigma2  # noqa: E731
    diagonal, outer = np.diag(np.diag(moments)), np.outer(mean, mean)
    apart = outer - np.diag(np.diag(outer))
    assert found["claimed"] == pytest.approx(sigma2**0.5)
    assert found["measured"] == pytest.approx(rms(x @ weight.T))
    assert found["from_size"] == pytest.approx(of(diagonal) - 1)
    assert found["from_mean"] == pytest.approx(of(apart))
    assert found["from_correlation"] == pytest.approx(of(moments - diagonal - apart))
    correlation = np.corrcoef(x.numpy().T)
    pairs = correlation[~np.eye(6, dtype=bool)]
    assert found["correlation"] == pytest.approx(np.sqrt(np.mean(pairs**2)))
    assert found["feature_mean"] == pytest.approx(np.mean(mean**2) / sigma2)


def test_unit_rows_preserve_white_features_and_the_parts_add_up():
    weight = functional.normalize(draws(0, 32, 24), dim=1)
    found = linear_measured(linear_sums(draws(1, 4096, 24, sigma=3), weight))
    assert found["departure"] < 0.02
    parts = found["from_size"] + found["from_mean"] + found["from_correlation"]
    assert parts == pytest.approx((found["measured"] / found["claimed"]) ** 2 - 1)


@pytest.mark.parametrize("sigma", [1e-3, 0.1, 1.0, 3.0, 100.0])
@pytest.mark.parametrize("mean", [0.0, -2.0])
def test_the_factor_of_silu_is_its_integral(sigma, mean):
    def integrand(z):
        x = mean + sigma * z
        return (x * special.expit(x)) ** 2 * math.exp(-(z**2) / 2)

    total = integrate.quad(integrand, -12, 12, points=[0], limit=500, epsabs=1e-12)[0]
    expected = math.sqrt(total / math.sqrt(2 * math.pi)) / math.hypot(sigma, mean)
    assert silu_factor(sigma, mean) == pytest.approx(expected, rel=1e-4)


def test_a_standard_gaussian_meets_the_claim_about_silu():
    x = draws(0, 8, 64, 512)
    found = silu_measured(silu_sums(x, mp_silu(x)), True)
    assert found["departure"] < 0.01 and found["claimed"] == 1
    plain = silu_measured(silu_sums(x, functional.silu(x)), False)
    assert plain["claimed"] == 0.596 and plain["departure"] < 0.01


def test_a_shifted_gaussian_is_explained_by_its_mean():
    x = draws(0, 8, 64, 512, sigma=1.5) - 2
    found = silu_measured(silu_sums(x, mp_silu(x)), True)
    assert found["not_gaussian"] < 0.01
    assert found["predicted"] > 1.2 * found["measured"]


def test_moments_of_preactivations_are_those_of_scipy():
    x = draws(0, 4, 16, 32).exp() - 3
    found = silu_measured(silu_sums(x, functional.silu(x)), False)
    values = x.flatten().numpy()
    assert found["skewness"] == pytest.approx(stats.skew(values))
    assert found["kurtosis"] == pytest.approx(stats.kurtosis(values))
    assert (found["mean"], found["deviation"]) == pytest.approx((values.mean(), values.std()))
    assert found["not_gaussian"] > 0.1  # mean and spread alone do not explain it


# 4, 10. Stream


@pytest.mark.parametrize("preserve", [True, False])
@pytest.mark.parametrize("rho", [-0.5, 0.0, 0.8])
def test_a_correlation_of_stream_and_branch_departs_as_the_claim_says(preserve, rho):
    stream, other = draws(0, 64, 64, 16), draws(1, 64, 64, 16)
    branch = rho * stream + (1 - rho**2) ** 0.5 * other
    after = mp_sum(stream, branch, 0.3) if preserve else stream + branch
    found = sum_measured(sum_sums(stream, branch, after), 0.3, preserve)
    a = 0.49 / 0.58
    square = 1 + 2 * rho * (a * (1 - a)) ** 0.5 if preserve else 2 + 2 * rho
    assert found["measured"] == pytest.approx(square**0.5, rel=0.02)
    assert found["claimed"] == pytest.approx(1 if preserve else 2**0.5, rel=0.02)
    assert found["correlation"] == pytest.approx(rho, abs=0.02)
    own = "mp_measured" if preserve else "plain_measured"
    assert found[own] == pytest.approx(found["measured"])
    assert found["plain_measured"] == pytest.approx(rms(stream + branch))
    assert found["mp_measured"] == pytest.approx(rms(mp_sum(stream, branch, 0.3)))


def test_a_zero_branch_leaves_the_claimed_share_of_the_stream():
    start = draws(0, 2, 4, 8)
    once = mp_sum(start, torch.zeros_like(start), 0.3)
    twice = mp_sum(once, torch.zeros_like(start), 0.3)
    found = gates_measured(gates_sums(start, once, twice, torch.zeros(2, 8)), 0.3, True, 2)
    assert found["measured"] == pytest.approx(0.919, abs=5e-4)
    assert found["stream_measured"] == pytest.approx(0.845, abs=5e-4)
    assert found["departure"] < 1e-9 and found["gate"] == 0


def test_sums_of_batches_are_those_of_the_whole():
    x, weight = draws(0, 10, 4, 6), draws(1, 3, 6)
    whole = linear_measured(linear_sums(x, weight))
    split = linear_measured(added(linear_sums(x[:3], weight), linear_sums(x[3:], weight)))
    assert split == pytest.approx(whole)


# On models


@pytest.fixture(scope="module")
def table(run):  # noqa: F811
    return theory(run, "final", FEW)


def by_hand(run):  # noqa: F811
    """Stream before, gated branch, stream after; per timestep and branch, without probe points."""
    model = run.model("final")
    found = {}
    for part in probe_inputs(run, model, FEW):
        stream = model.patches(part.noisy)
        t = torch.full_like(part.labels, part.timestep)
        activated = model.activation(model.condition(t, part.labels))
        for index, block in enumerate(model.blocks):
            for kind in ("attn", "mlp"):
                branch = getattr(block, kind)
                after = branch(stream, activated)
                gated = (after * 0.58**0.5 - 0.7 * stream) / 0.3  # the MP-sum solved for it
                found[part.timestep, index, kind] = stream, gated, after
                stream = after
    return found


def test_the_sum_is_measured_as_by_calling_the_blocks(run, table):  # noqa: F811
    rows = wide(table[table["claim"] == "sum"]).set_index(["timestep", "block", "branch"])
    for place, (stream, gated, after) in by_hand(run).items():
        row = rows.loc[place]
        assert row["measured"] == pytest.approx(rms(after), rel=1e-4)
        assert row["of_stream"] == pytest.approx(rms(stream), rel=1e-4)
        rho = float((stream * gated).mean()) / rms(stream) / rms(gated)
        assert row["correlation"] == pytest.approx(rho, abs=1e-3)


def test_preactivations_are_those_that_a_forward_hook_sees(run, table):  # noqa: F811
    seen = []
    model = run.model("final")
    model.blocks[1].mlp.core.up.register_forward_hook(lambda *given: seen.append(given[2]))
    for part in probe_inputs(run, model, FEW):
        model(part.noisy, torch.full_like(part.labels, part.timestep), part.labels)
    rows = wide(table[table["claim"] == "silu"]).query("block == 1").set_index("timestep")
    histogram = preactivation_histogram(run, "final", HistogramSettings(**FEW.model_dump()))
    for timestep, values in zip((900, 0), seen, strict=True):
        assert rows.loc[timestep, "magnitude"] == pytest.approx(rms(values), rel=1e-4)
        bars = histogram[(histogram["block"] == 1) & (histogram["timestep"] == timestep)]
        assert (bars["value"] * bars["width"]).sum() == pytest.approx(1)
        density, _ = np.histogram(values.numpy(), bins=320, range=(-40, 40), density=True)
        for row in bars.itertuples():
            expected = density[round((row.bin + 39.875) / 0.25)]
            assert row.value == pytest.approx(expected, abs=2 / values.numel() / 0.25)


def test_batches_change_nothing(run, table, monkeypatch):  # noqa: F811
    monkeypatch.setattr(theory_module, "NUMBERS_AT_ONCE", 2 * 16 * 64)
    split = theory(run, "final", FEW)
    assert (split["statistic"] == table["statistic"]).all() and (split["n"] == table["n"]).all()
    np.testing.assert_allclose(split["value"], table["value"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", list(every_config()))
def test_exact_claims_hold_on_random_models_of_every_configuration(name):
    config = every_config()[name]
    settings = TheorySettings(
        timesteps=(900, 0), labels=(1,), samples=2, source="trajectory", steps=2
    )
    found = wide(theory(without_data(config), "initial", settings))
    attention = found[found["claim"] == "attention"]
    assert (attention["departure"] == 0).all() and (attention["reached"] > 0).all()
    rotation = found[found["claim"] == "rotation"]
    assert rotation.empty == ("rotation" not in config.block_modulation)
    assert (rotation["departure"] < 1e-4).all()
    if config.cosine_attention:
        assert (found.loc[found["claim"] == "cosine", "departure"] == 0).all()
    sums = found[found["claim"] == "sum"]
    own = sums["mp_measured" if config.mp_residual else "plain_measured"]
    np.testing.assert_allclose(sums["measured"], own, rtol=1e-4)
    modulated = found[found["claim"] == "modulation"]
    assert set(modulated["part"]) == {"scale", "shift"} & set(config.block_modulation)


def test_what_enters_a_branch_is_what_the_last_modulation_gave(run, table):  # noqa: F811
    """The steps are recomputed, so they are compared with what the model went on with."""
    modulated = wide(table[table["claim"] == "modulation"])
    linear = wide(table[table["claim"] == "linear"])
    last = modulated[modulated["part"] == "shift"].set_index(["timestep", "block", "branch"])
    entering = linear[linear["part"].isin(["qkv", "up"])]
    entering = entering.set_index(["timestep", "block", "branch"]).loc[last.index]
    np.testing.assert_allclose(last["measured"], entering["claimed"], rtol=1e-5)


def test_without_held_out_images_one_sentence_says_what_to_do():
    with pytest.raises(BadData, match="trajectory"):
        theory(without_data(every_config()["A"]), "initial", TheorySettings(labels=(1,)))

"""The claims of the paper (arXiv 2505.19122) as properties, a section for each of its claims.

Each is stated by the formula of the claim, not by the code under test, and each has a case that
an implementation which does nothing would fail.
"""

import math

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from torch import Tensor, nn
from torch.nn import functional
from torch.testing import assert_close

from mpdit_core.branches import Attention, attention_entropy
from mpdit_core.config import ModelConfig, preset
from mpdit_core.layers import (
    Linear,
    force_norms,
    mp_silu,
    mp_sum,
    rotate,
    rotate_adjacent,
)
from mpdit_core.model import MPDiT
from mpdit_core.modulation import Affine, Signals
from mpdit_core.points import visiting

SEEDS = st.integers(0, 2**31 - 1)
MANY = 1 << 14
"""Samples behind an expectation: its standard error is then below 1 %."""


def magnitude(tensor: Tensor) -> Tensor:
    """Root mean square over the features of each vector."""
    return tensor.square().mean(dim=-1).sqrt()


def overall(tensor: Tensor) -> float:
    """Root mean square over everything: the magnitude as an expectation."""
    return float(tensor.detach().square().mean().sqrt())


def draws(seed: int, *shape: int, sigma: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return sigma * torch.randn(shape, generator=generator, dtype=torch.float64)


def unit(tensor: Tensor) -> Tensor:
    """Vectors scaled to magnitude 1, exactly."""
    return tensor / magnitude(tensor)[..., None]


def signs(seed: int, *shape: int) -> Tensor:
    """Uncorrelated features of mean 0 and magnitude 1 that are not Gaussian."""
    return draws(seed, *shape).sign()


# 1. Attention never lengthens values


def attend(logits: Tensor, values: Tensor) -> Tensor:
    return logits.softmax(dim=-1) @ values


@given(SEEDS, st.integers(1, 20), st.integers(1, 32), st.floats(0.01, 100), st.floats(0.01, 100))
def test_attention_never_exceeds_the_magnitude_of_its_values(seed, tokens, width, beta, sigma):
    values = sigma * unit(draws(seed, tokens, width))
    logits = draws(seed + 1, tokens, tokens) / beta
    assert bool((magnitude(attend(logits, values)) <= sigma * (1 + 1e-9)).all())


@given(SEEDS, st.integers(2, 20), st.integers(1, 32), st.floats(0.01, 100))
def test_attention_to_a_single_token_keeps_the_magnitude(seed, tokens, width, sigma):
    values = sigma * unit(draws(seed, tokens, width))
    cold = attend(draws(seed + 1, tokens, tokens) / 1e-9, values)
    assert_close(magnitude(cold), torch.full_like(magnitude(cold), sigma))


@given(SEEDS, st.sampled_from([4, 16, 64]), st.floats(0.1, 10))
def test_uniform_attention_over_uncorrelated_values_shrinks_by_the_root_of_their_number(
    seed, tokens, sigma
):
    values = draws(seed, 64, tokens, 256, sigma=sigma)
    mixed = attend(torch.zeros(tokens, tokens, dtype=torch.float64), values)
    assert overall(mixed) == pytest.approx(sigma / math.sqrt(tokens), rel=0.05)


class Recorder:
    """Keeps every tensor by the name of its probe point."""

    def __init__(self, *extra: str) -> None:
        self.seen: dict[str, Tensor] = {}
        self.extra = extra

    def begin(self, timesteps: Tensor, labels: Tensor) -> None:
        self.seen.clear()

    def wants(self, name: str) -> bool:
        return name in self.extra

    def visit(self, name: str, tensor: Tensor) -> Tensor:
        self.seen[name] = tensor
        return tensor


HEADS = st.sampled_from([(8, 1), (8, 2), (16, 4), (24, 3), (32, 2)])


def attention(width: int, heads: int, cosine: bool, seed: int) -> Attention:
    """The attention layer, its output projection an identity: what it returns is the mixture."""
    config = ModelConfig(width=width, heads=heads, cosine_attention=cosine)
    layer = Attention(config, "a").double()
    with torch.no_grad():
        layer.qkv.weight.copy_(draws(seed, 3 * width, width))
        layer.out.weight.copy_(torch.eye(width))
    return layer


@settings(max_examples=25)
@given(SEEDS, HEADS, st.booleans(), st.integers(1, 12), st.floats(0.05, 20))
def test_the_models_attention_obeys_the_bound_head_by_head(seed, sizes, cosine, tokens, spread):
    layer, recorder = attention(*sizes, cosine, seed), Recorder()
    with torch.no_grad(), visiting(recorder):
        mixed = layer(draws(seed, 3, tokens, sizes[0], sigma=spread))
    longest = magnitude(recorder.seen["a.v"]).amax(dim=-1)  # (batch, heads)
    by_head = mixed.unflatten(-1, (sizes[1], -1)).transpose(1, 2)
    assert bool((magnitude(by_head) <= longest[..., None] * (1 + 1e-9)).all())
    assert tokens == 1 or float(magnitude(by_head).min()) < float(longest.max())


# 2. Rotation keeps every magnitude


PAIRED = st.sampled_from([(rotate, "half"), (rotate_adjacent, "adjacent")])


def pairs(tokens: Tensor, kind: str) -> Tensor:
    """(..., width) -> (..., width / 2, 2), the channels that turn together."""
    if kind == "half":
        return torch.stack(tokens.chunk(2, dim=-1), dim=-1)
    return tokens.unflatten(-1, (-1, 2))


@given(SEEDS, PAIRED, st.integers(1, 5), st.integers(1, 9), st.integers(1, 20), st.floats(0, 1e3))
def test_rotation_keeps_every_token_and_every_pair(seed, pairing, batch, tokens, half, turns):
    turn, kind = pairing
    stream = draws(seed, batch, tokens, 2 * half, sigma=3.0)
    angle = draws(seed + 1, batch, half, sigma=turns + 0.1)
    turned = turn(stream, angle)
    assert_close(magnitude(turned), magnitude(stream))
    assert_close(pairs(turned, kind).norm(dim=-1), pairs(stream, kind).norm(dim=-1))
    assert not torch.allclose(turned, stream)


@given(SEEDS, PAIRED, st.integers(1, 20))
def test_rotation_turns_each_pair_by_its_angle(seed, pairing, half):
    turn, kind = pairing
    stream, angle = draws(seed, 2, 3, 2 * half), draws(seed + 1, 2, half)
    before = torch.view_as_complex(pairs(stream, kind).contiguous())
    after = torch.view_as_complex(pairs(turn(stream, angle), kind).contiguous())
    assert_close(after, before * torch.exp(1j * angle)[:, None, :])


@given(SEEDS, PAIRED, st.integers(1, 12))
def test_rotations_add_up_and_can_be_undone(seed, pairing, half):
    turn, _ = pairing
    stream, first, second = draws(seed, 2, 3, 2 * half), draws(1, 2, half), draws(2, 2, half)
    assert_close(turn(turn(stream, first), second), turn(stream, first + second))
    assert_close(turn(turn(stream, first), -first), stream)


# 3. A linear with unit rows keeps the magnitude of uncorrelated features


def normalized_linear(seed: int, inputs: int, outputs: int) -> Linear:
    layer = Linear(inputs, outputs, normalized=True).double()
    with torch.no_grad():
        layer.weight.copy_(unit(draws(seed, outputs, inputs)))
    return layer


@settings(max_examples=25)
@given(SEEDS, st.integers(1, 64), st.integers(16, 64), st.floats(0.1, 10), st.booleans())
def test_unit_rows_keep_the_magnitude_of_uncorrelated_features(
    seed, inputs, outputs, sigma, gaussian
):
    features = (draws if gaussian else signs)(seed + 1, MANY, inputs) * sigma
    result = normalized_linear(seed, inputs, outputs)(features)
    assert overall(result) == pytest.approx(sigma, rel=0.03)


@given(SEEDS, st.integers(8, 64))
def test_unit_rows_do_not_keep_the_magnitude_of_equal_features(seed, inputs):
    """The assumption matters: features that all agree are anything but uncorrelated."""
    layer = normalized_linear(seed, inputs, 1)
    with torch.no_grad():
        layer.weight.copy_(torch.ones(1, inputs))
    result = layer(signs(seed, 100, 1).expand(-1, inputs))
    assert overall(result) == pytest.approx(math.sqrt(inputs), rel=1e-3)


@given(SEEDS, st.integers(1, 64), st.integers(1, 64), st.floats(0.1, 100))
def test_the_rows_in_use_have_unit_norm_whatever_is_stored(seed, inputs, outputs, stored):
    layer = normalized_linear(seed, inputs, outputs)
    with torch.no_grad():
        layer.weight.mul_(stored)
    norms = layer.effective().detach().norm(dim=-1)
    assert_close(norms, torch.ones_like(norms), rtol=2e-3, atol=0)


# 4. The magnitude-preserving sum


SHARES = st.floats(0.0, 1.0)


@settings(max_examples=25)
@given(SEEDS, SHARES, st.floats(0.1, 10), st.floats(0.1, 10), st.integers(1, 8))
def test_a_sum_of_uncorrelated_parts_has_the_magnitude_of_the_claim(seed, s, sigma, tau, width):
    first, second = draws(seed, MANY, width, sigma=sigma), tau * signs(seed + 1, MANY, width)
    a = (1 - s) ** 2 / ((1 - s) ** 2 + s**2)
    expected = math.sqrt(a * sigma**2 + (1 - a) * tau**2)
    assert overall(mp_sum(first, second, s)) == pytest.approx(expected, rel=0.05)


@settings(max_examples=25)
@given(SEEDS, SHARES, st.floats(-1, 1))
def test_correlated_parts_of_magnitude_one_give_the_magnitude_of_the_claim(seed, s, rho):
    first, other = draws(seed, MANY, 4), draws(seed + 1, MANY, 4)
    second = rho * first + math.sqrt(1 - rho**2) * other
    a = (1 - s) ** 2 / ((1 - s) ** 2 + s**2)
    expected = 1 + 2 * rho * math.sqrt(a * (1 - a))
    assert overall(mp_sum(first, second, s)) ** 2 == pytest.approx(expected, rel=0.05, abs=0.03)


@pytest.mark.parametrize(("s", "a"), [(0.3, 0.845), (0.5, 0.5)])
def test_the_shares_of_the_model_are_those_of_the_claim(s, a):
    first = mp_sum(torch.ones(1), torch.zeros(1), s)
    second = mp_sum(torch.zeros(1), torch.ones(1), s)
    assert float(first) ** 2 == pytest.approx(a, abs=5e-4)
    assert float(second) ** 2 == pytest.approx(1 - a, abs=5e-4)


@given(SEEDS, SHARES)
def test_the_sum_takes_its_second_part_by_the_share(seed, s):
    first, second = draws(seed, 2, 5), draws(seed + 1, 2, 5)
    direct = ((1 - s) * first + s * second) / math.hypot(1 - s, s)
    assert_close(mp_sum(first, second, s), direct)
    assert_close(mp_sum(first, second, torch.tensor(s, dtype=torch.float64)), direct)


# 5. MP-SiLU


def silu_magnitude(sigma: float) -> float:
    """Magnitude of silu(x) for x ~ N(0, sigma^2), by integration."""

    def integrand(x: float) -> float:
        return (sigma * x / (1 + math.exp(-sigma * x))) ** 2 * math.exp(-(x**2) / 2)

    return math.sqrt(quad(integrand, -12, 12, epsabs=1e-12)[0] / math.sqrt(2 * math.pi))


def mp_silu_magnitude(sigma: float) -> float:
    """Magnitude of the model's MP-SiLU for N(0, sigma^2), by a sum over a fine grid."""
    x = torch.linspace(-12, 12, 200_001, dtype=torch.float64)
    density = torch.exp(-(x**2) / 2)
    return float(((mp_silu(sigma * x) ** 2 * density).sum() / density.sum()).sqrt())


def test_silu_of_a_standard_normal_has_magnitude_0_596_and_mp_silu_1():
    assert silu_magnitude(1.0) == pytest.approx(0.596, abs=1e-3)
    assert mp_silu_magnitude(1.0) == pytest.approx(1, abs=1e-3)


@settings(max_examples=25)
@given(st.floats(0.1, 8))
def test_mp_silu_has_the_magnitude_of_the_integral_for_any_spread(sigma):
    assert mp_silu_magnitude(sigma) == pytest.approx(silu_magnitude(sigma) / 0.596, rel=1e-4)


@given(st.floats(0.1, 0.9) | st.floats(1.1, 8))
def test_mp_silu_preserves_no_other_spread(sigma):
    assume(abs(sigma - 1) > 0.1)
    assert abs(silu_magnitude(sigma) / 0.596 / sigma - 1) > 0.01


# 6. Scale and shift do not preserve


def affine(**signals: Tensor) -> Tensor:
    """The model's modulation applied to tokens (batch, tokens, width)."""
    tokens = signals.pop("tokens")
    return Affine(ModelConfig())(tokens, Signals(**signals))


@given(SEEDS, st.integers(1, 4), st.integers(1, 9), st.integers(1, 32), st.floats(0.1, 5))
def test_scale_changes_each_token_as_the_claim_says(seed, batch, tokens, width, spread):
    stream, scale = draws(seed, batch, tokens, width), draws(seed + 1, batch, width, sigma=spread)
    expected = ((1 + scale)[:, None, :] ** 2 * stream**2).mean(dim=-1)
    assert_close(magnitude(affine(tokens=stream, scale=scale)) ** 2, expected)


@settings(max_examples=25)
@given(SEEDS, st.integers(8, 64), st.floats(0.1, 5))
def test_an_uncorrelated_shift_adds_its_square(seed, width, spread):
    stream, shift = draws(seed, 4, 2048, width), draws(seed + 1, 4, width, sigma=spread)
    moved = affine(tokens=stream, shift=shift)
    expected = overall(stream) ** 2 + overall(shift) ** 2
    assert overall(moved) ** 2 == pytest.approx(expected, rel=0.05)
    assert overall(moved) > overall(stream)


# 7. Cosine attention bounds its logits


@settings(max_examples=25)
@given(SEEDS, HEADS, st.integers(1, 12), st.floats(1e-3, 1e6))
def test_logits_of_cosine_attention_stay_within_the_root_of_the_head_width(
    seed, sizes, tokens, spread
):
    layer, recorder = attention(*sizes, True, seed), Recorder()
    with torch.no_grad(), visiting(recorder):
        layer(draws(seed, 2, tokens, sizes[0], sigma=spread))
    q, k = recorder.seen["a.q"], recorder.seen["a.k"]
    head_width = sizes[0] // sizes[1]
    logits = q @ k.transpose(-1, -2) / math.sqrt(head_width)
    assert float(logits.abs().max()) <= math.sqrt(head_width) * (1 + 1e-9)


def test_logits_of_plain_attention_grow_without_bound():
    layer, recorder = attention(16, 4, False, 0), Recorder()
    with torch.no_grad(), visiting(recorder):
        layer(draws(0, 2, 5, 16, sigma=100.0))
    logits = recorder.seen["a.q"] @ recorder.seen["a.k"].transpose(-1, -2) / 2
    assert float(logits.abs().max()) > 100


@settings(max_examples=25)
@given(SEEDS, HEADS, st.booleans(), st.integers(1, 12))
def test_the_models_attention_is_the_softmax_of_these_logits(seed, sizes, cosine, tokens):
    layer, recorder = attention(*sizes, cosine, seed), Recorder("a.entropy")
    with torch.no_grad(), visiting(recorder):
        mixed = layer(draws(seed, 2, tokens, sizes[0]))
    q, k, v = (recorder.seen[f"a.{name}"] for name in "qkv")
    logits = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
    assert_close(mixed.unflatten(-1, (sizes[1], -1)).transpose(1, 2), attend(logits, v))
    weights = logits.softmax(dim=-1)
    assert_close(recorder.seen["a.entropy"], -(weights * weights.log()).sum(dim=-1))
    assert_close(attention_entropy(q, k), recorder.seen["a.entropy"])


# 8. Gradients of normalized weights are orthogonal to their rows


def cosines(gradient: Tensor, rows: Tensor) -> Tensor:
    """Cosine of each row of the gradient with its row of the weights."""
    return functional.cosine_similarity(gradient, rows, dim=-1)


def some_loss(layer: nn.Module, seed: int, inputs: int) -> Tensor:
    result = layer(draws(seed, 32, inputs))
    return (result * draws(seed + 1, *result.shape) + result**3).sum()


@given(SEEDS, st.integers(4, 48), st.integers(4, 24))
def test_the_gradient_is_orthogonal_to_each_row(seed, inputs, outputs):
    normalized, plain = normalized_linear(seed, inputs, outputs), Linear(
        inputs, outputs, normalized=False
    ).double()  # fmt: skip
    with torch.no_grad():
        plain.weight.copy_(normalized.weight)
    for layer in (normalized, plain):
        some_loss(layer, seed, inputs).backward()
    angles = cosines(normalized.weight.grad, normalized.weight.detach())
    assert float(angles.abs().max()) < 1e-3  # eps / norm, and not more
    free = cosines(plain.weight.grad, plain.weight.detach())
    assert float(free.abs().max()) > 1e-3  # random directions are not this orthogonal


@given(SEEDS, st.integers(4, 48), st.integers(1, 24), st.floats(1e-4, 1.0))
def test_plain_gradient_steps_only_lengthen_rows_and_by_pythagoras(seed, inputs, outputs, rate):
    layer = normalized_linear(seed, inputs, outputs)
    some_loss(layer, seed, inputs).backward()
    before, step = layer.weight.detach().clone(), -rate * layer.weight.grad
    with torch.no_grad():
        layer.weight.add_(step)
    expected = before.square().sum(-1) + step.square().sum(-1)
    cross = 2e-3 * before.norm(dim=-1) * step.norm(dim=-1)  # what eps leaves of the scalar product
    assert bool(((layer.weight.square().sum(-1) - expected).abs() <= cross).all())
    assert bool((layer.weight.norm(dim=-1) > before.norm(dim=-1) * (1 - 1e-6)).all())


# 9. Forced normalization


@given(SEEDS, st.integers(1, 64), st.integers(1, 32), st.floats(1e-2, 1e3))
def test_forcing_sets_every_row_to_the_root_of_its_length(seed, inputs, outputs, stored):
    layer = normalized_linear(seed, inputs, outputs)
    before = layer.weight.detach().clone()
    with torch.no_grad():
        layer.weight.mul_(stored)
    force_norms(layer)
    after, exact = layer.weight.detach(), math.sqrt(inputs)
    eps = 1e-4 / (stored * exact)  # what eps takes off a row of this norm
    assert_close(after.norm(dim=-1), torch.full_like(after[:, 0], exact), rtol=2 * eps, atol=0)
    assert_close(unit(after), unit(before))


def trained(forced: bool, steps: int, seed: int) -> tuple[Linear, list[float]]:
    """A linear after Adam steps, and the relative size of each step |dw| / |w|."""
    layer = normalized_linear(seed, 16, 8)
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.3)
    relative = []
    for step in range(steps):
        optimizer.zero_grad()
        some_loss(layer, seed + step, 16).backward()
        before = layer.weight.detach().clone()
        optimizer.step()
        with torch.no_grad():
            relative.append(float((layer.weight - before).norm() / before.norm()))
        if forced:
            force_norms(layer)
    return layer, relative


@settings(max_examples=5)
@given(SEEDS)
def test_forcing_keeps_weights_and_effective_learning_rate_where_free_ones_drift(seed):
    forced, steady = trained(True, 60, seed)
    free, shrinking = trained(False, 60, seed)
    norms = forced.weight.detach().norm(dim=-1)
    assert_close(norms, torch.full_like(norms, 4.0), rtol=1e-3, atol=0)
    assert float(free.weight.detach().norm(dim=-1).min()) > 4.2
    # With equal gradients' sizes Adam's step is the same; only the weights under it differ.
    assert sum(steady[-20:]) > 1.1 * sum(shrinking[-20:])


# 10. A block of config E with zero gates


@settings(max_examples=15)
@given(SEEDS, st.integers(1, 3), st.sampled_from([(8, 2), (16, 4)]), st.integers(0, 999))
def test_zero_gates_multiply_the_stream_by_0_919_a_branch_and_0_845_a_block(
    seed, depth, sizes, timestep
):
    width, heads = sizes
    torch.manual_seed(seed)
    model = MPDiT(preset("E", depth=depth, width=width, heads=heads)).eval()
    recorder = Recorder()
    with torch.no_grad(), visiting(recorder):
        model(torch.randn(2, 1, 8, 8), torch.full((2,), timestep), torch.tensor([1, 10]))
    factor = (1 - 0.3) / math.hypot(1 - 0.3, 0.3)
    assert factor == pytest.approx(0.919, abs=5e-4) and factor**2 == pytest.approx(0.845, abs=5e-4)
    stream = recorder.seen["embed"]
    for block in range(depth):
        for branch in ("attn", "mlp"):
            after = recorder.seen[f"blocks.{block}.{branch}.resid"]
            assert_close(after, factor * stream)
            stream = after


@settings(max_examples=10)
@given(SEEDS)
def test_config_d_with_zero_gates_leaves_the_stream_as_it_is(seed):
    """The shrinking is the magnitude-preserving sum's, not the gates'."""
    torch.manual_seed(seed)
    model, recorder = MPDiT(preset("D", depth=2, width=8, heads=2)).eval(), Recorder()
    with torch.no_grad(), visiting(recorder):
        model(torch.randn(2, 1, 8, 8), torch.tensor([5, 900]), torch.tensor([1, 10]))
    assert_close(recorder.seen["blocks.1.mlp.resid"], recorder.seen["embed"])

"""The model: shapes, gradients, folded weights, and what its configuration refuses."""

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor
from torch.autograd import gradcheck
from torch.testing import assert_close

from mpdit_core.config import (
    LADDER_FLAGS,
    PRESETS,
    SIGNALS,
    ModelConfig,
    TrainConfig,
    modulation_study,
    preset,
)
from mpdit_core.embeddings import patchify, unpatchify
from mpdit_core.errors import InvalidConfig
from mpdit_core.layers import (
    Embedding,
    Linear,
    force_norms,
    mp_silu,
    mp_sum,
    normalize,
    rotate,
    rotate_adjacent,
)
from mpdit_core.loss import diffusion_loss
from mpdit_core.model import MPDiT, guided
from mpdit_core.modulation import apply_gate

TINY = {"depth": 2, "width": 16, "heads": 2, "size": 4, "patch": 2, "channels": 2, "classes": 3}


def awake(config: ModelConfig, seed: int = 0) -> MPDiT:
    """The model in evaluation mode; what starts at zero (gains, zero-started weights) is random."""
    torch.manual_seed(seed)
    model = MPDiT(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.any():
                parameter.copy_(0.5 * torch.randn_like(parameter))
    return model


def some_input(config: ModelConfig, batch: int = 3, seed: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    """(x, t, y) of a batch; the last label is the null label."""
    generator = torch.Generator().manual_seed(seed)
    shape = (batch, config.channels, config.size, config.size)
    t = torch.randint(config.timesteps, (batch,), generator=generator)
    y = torch.arange(config.null_label - batch + 1, config.null_label + 1).clamp(min=0)
    return torch.randn(shape, generator=generator), t, y


SUBSETS = st.sets(st.sampled_from(SIGNALS)).map(tuple)
CONFIGS = st.builds(
    lambda patches, patch, heads, quarter, **rest: ModelConfig(
        size=patches * patch, patch=patch, heads=heads, width=4 * quarter * heads, **rest
    ),
    patches=st.integers(1, 3),
    patch=st.integers(1, 3),
    heads=st.integers(1, 3),
    quarter=st.integers(1, 2),
    depth=st.integers(1, 2),
    channels=st.integers(1, 4),
    classes=st.integers(1, 5),
    mlp_ratio=st.integers(1, 4),
    timesteps=st.integers(2, 50),
    block_modulation=SUBSETS,
    final_modulation=SUBSETS.map(lambda names: tuple(set(names) - {"gate"})),
    gate_form=st.sampled_from(["gate", "one_plus_gate"]),
    modulation_form=st.sampled_from(["affine", "mp_sum"]),
    pairing=st.sampled_from(["half", "adjacent"]),
    timestep_embedding=st.sampled_from(["ladder", "fourier", "fourier_sqrt2"]),
    position_centred=st.booleans(),
    output_gain=st.sampled_from(["scalar", "per_sample"]),
    **{flag: st.booleans() for flag in LADDER_FLAGS},
)


@settings(max_examples=60)
@given(CONFIGS, st.integers(1, 4))
def test_every_config_maps_images_to_noise_and_variance_of_the_same_size(config, batch):
    model, (x, t, y) = awake(config), some_input(config, batch)
    with torch.no_grad():
        out = model(x, t, y)
    assert out.shape == (batch, 2 * config.channels, config.size, config.size)
    assert bool(out.isfinite().all())


@settings(max_examples=20)
@given(CONFIGS)
def test_a_sample_does_not_depend_on_those_beside_it(config):
    model, (x, t, y) = awake(config), some_input(config, 3)
    with torch.no_grad():
        together = model(x, t, y)
        alone = torch.cat([model(x[i : i + 1], t[i : i + 1], y[i : i + 1]) for i in range(3)])
    assert_close(together, alone, rtol=1e-4, atol=1e-5)


@settings(max_examples=30)
@given(CONFIGS)
def test_a_gradient_reaches_every_parameter(config):
    model, (x, t, y) = awake(config).train(), some_input(config, 3)
    (model(x, t, y) * torch.randn(3, 2 * config.channels, 1, 1)).square().sum().backward()
    silent = {n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()}
    assert silent <= excused(config, model)


def excused(config: ModelConfig, model: MPDiT) -> set[str]:
    """Parameters whose gradient is zero by the mathematics of an unusual config."""
    names = {name for name, _ in model.named_parameters()}
    found = set()
    if config.modulation_form == "mp_sum":  # without a shift there is nothing to share with
        shiftless = [("blocks.", config.block_modulation), ("final.", config.final_modulation)]
        for prefix, signals in shiftless:
            if "shift" not in signals:
                found |= {n for n in names if n.startswith(prefix) and n.endswith(".share")}
    if not config.block_modulation and not config.final_modulation:
        found |= {n for n in names if n.startswith("condition.")}
    return found


@pytest.mark.parametrize("name", PRESETS)
def test_untrained_models_predict_zero(name):
    """Gains or weights start at zero (adaLN-Zero); config E's too."""
    config = preset(name, **TINY)
    with torch.no_grad():
        assert not MPDiT(config).eval()(*some_input(config)).any()


@pytest.mark.parametrize("name", PRESETS)
def test_the_condition_reaches_the_output(name):
    config = preset(name, **TINY)
    model, (x, t, y) = awake(config), some_input(config)
    with torch.no_grad():
        out = model(x, t, y)
        assert not torch.allclose(out, model(x, (t + 500) % 1000, y), rtol=1e-3)
        assert not torch.allclose(out, model(x, t, (y + 1) % 4), rtol=1e-3)


# Gradients of the formulas, against finite differences in float64


def leaf(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize(
    ("formula", "arguments"),
    [
        (normalize, [(3, 5)]),
        (mp_silu, [(3, 5)]),
        (lambda a, b: mp_sum(a, b, 0.3), [(3, 5), (3, 5)]),
        (lambda a, b, s: mp_sum(a, b, s), [(3, 5), (3, 5), ()]),
        (rotate, [(2, 3, 6), (2, 3)]),
        (rotate_adjacent, [(2, 3, 6), (2, 3)]),
        (lambda b, g: apply_gate(b, g, "one_plus_gate"), [(2, 3, 4), (2, 4)]),
    ],
    ids=["normalize", "mp_silu", "mp_sum", "mp_sum with a learned share", "rotate",
         "rotate_adjacent", "gate"],
)  # fmt: skip
def test_the_gradient_of_a_formula_agrees_with_finite_differences(formula, arguments):
    assert gradcheck(formula, [leaf(*shape) for shape in arguments])


@pytest.mark.parametrize("normalized", [True, False])
def test_the_gradient_of_a_linear_agrees_with_finite_differences(normalized):
    layer = Linear(5, 3, normalized=normalized).double()

    def with_weight(x: Tensor, weight: Tensor) -> Tensor:
        return torch.func.functional_call(layer, {"weight": weight}, (x,))

    assert gradcheck(with_weight, [leaf(4, 5), leaf(3, 5)])


@pytest.mark.parametrize("name", PRESETS)
def test_the_gradient_of_the_whole_model_agrees_with_finite_differences(name):
    config = preset(name, **TINY | {"depth": 1, "width": 8})
    model, (x, t, y) = awake(config).double().train(), some_input(config, 2)
    assert gradcheck(lambda image: model(image, t, y), [x.double().requires_grad_()], atol=1e-4)


# Folded weights


def layers(model: torch.nn.Module) -> list[Linear | Embedding]:
    return [m for m in model.modules() if isinstance(m, Linear | Embedding) and m.normalized]


@pytest.mark.parametrize("name", ["C", "D", "E"])
def test_evaluation_uses_the_same_numbers_as_training(name):
    config = preset(name, **TINY)
    model, given = awake(config), some_input(config)
    with torch.no_grad():
        folded = model(*given)
        assert_close(model(*given), folded, rtol=0, atol=0)  # the second time from the folded ones
        assert_close(model.train()(*given), folded, rtol=1e-5, atol=1e-6)
    assert_close(model.eval()(*given).detach(), folded, rtol=1e-5, atol=1e-6)


def test_normalized_weights_are_computed_once_per_update():
    layer = Linear(6, 4, normalized=True).eval().requires_grad_(False)
    first = layer.effective()
    assert layer.effective() is first
    layer.weight.mul_(-1)
    assert_close(layer.effective(), -first)


def update_in_place(layer: Linear) -> None:
    with torch.no_grad():
        layer.weight.add_(1.0)


def update_by_optimizer(layer: Linear) -> None:
    layer.weight.grad = torch.randn_like(layer.weight)
    torch.optim.Adam([layer.weight], lr=1.0).step()


def update_by_loading(layer: Linear) -> None:
    layer.load_state_dict({"weight": torch.randn(4, 6)})


def update_by_assigning(layer: Linear) -> None:
    layer.load_state_dict({"weight": torch.randn(4, 6)}, assign=True)


def update_by_replacing(layer: Linear) -> None:
    layer.weight = torch.nn.Parameter(torch.randn(4, 6))


def update_by_data(layer: Linear) -> None:
    layer.weight.data = torch.randn(4, 6)


@pytest.mark.parametrize(
    "update",
    [update_in_place, update_by_optimizer, update_by_loading, update_by_assigning,
     update_by_replacing, update_by_data],
)  # fmt: skip
def test_folded_weights_follow_every_kind_of_update(update):
    layer = Linear(6, 4, normalized=True).eval()
    with torch.no_grad():
        before = layer.effective().clone()
        update(layer)
        after = layer.effective()
    assert not torch.allclose(before, after)
    assert_close(after, (normalize(layer.weight) / math.sqrt(6)).detach())


def test_a_copied_model_does_not_share_folded_weights():
    config = preset("E", **TINY)
    model, given = awake(config), some_input(config)
    with torch.no_grad():
        expected = model(*given)
        other = copy.deepcopy(model)
        for parameter in other.parameters():
            parameter.add_(torch.randn_like(parameter))
        assert not torch.allclose(other(*given), expected)
        assert_close(model(*given), expected, rtol=0, atol=0)


@pytest.mark.parametrize("name", PRESETS)
def test_a_forward_in_training_mode_changes_nothing(name):
    config = preset(name, **TINY)
    model, given = awake(config).train(), some_input(config)
    before = copy.deepcopy(model.state_dict())
    random = torch.get_rng_state()
    first = model(*given)
    assert_close(model(*given), first, rtol=0, atol=0)  # nothing is dropped at random either
    assert torch.equal(torch.get_rng_state(), random)
    for key, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[key]), key


def test_forcing_touches_linears_and_leaves_the_function_as_it_is():
    config = preset("D", **TINY)
    model, given = awake(config), some_input(config)
    with torch.no_grad():
        for layer in layers(model):
            layer.weight.mul_(3)
        expected = model(*given)
        force_norms(model)
        assert_close(model(*given), expected, rtol=1e-3, atol=1e-4)
    for layer in layers(model):
        norms = layer.weight.norm(dim=-1)
        assert_close(norms, torch.full_like(norms, math.sqrt(layer.weight.shape[1])), rtol=1e-3,
                     atol=0)  # fmt: skip


# Wiring


@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 4), st.integers(1, 4))
def test_patches_are_cut_row_by_row_and_flattened_as_row_column_channel(batch, channels, p, side):
    size = p * side
    image = torch.arange(batch * channels * size * size).reshape(batch, channels, size, size)
    tokens = patchify(image, p)
    for row, column in ((0, 0), (side - 1, 0), (0, side - 1), (side - 1, side - 1)):
        corner = image[:, :, row * p : (row + 1) * p, column * p : (column + 1) * p]
        expected = corner.permute(0, 2, 3, 1).flatten(1)
        assert torch.equal(tokens[:, row * side + column], expected)
    assert torch.equal(unpatchify(tokens, p, size), image)


@settings(max_examples=20)
@given(st.integers(1, 20), st.integers(0, 1000))
def test_the_two_pairings_differ_by_a_fixed_permutation_of_channels(half, seed):
    """Channels (0, 1, 2, ...) of the neighbouring form stand at (0, half, 1, half + 1, ...)."""
    torch.manual_seed(seed)
    tokens, angle = torch.randn(2, 3, 2 * half), torch.randn(2, half)
    order = torch.arange(2 * half).reshape(2, half).T.flatten()
    assert_close(rotate_adjacent(tokens[..., order], angle), rotate(tokens, angle)[..., order])


def test_the_pairing_of_the_config_is_the_one_that_is_used():
    half, adjacent = (
        awake(modulation_study(("rotation",), **TINY, pairing=pairing))
        for pairing in ("half", "adjacent")
    )
    given = some_input(half.config)
    with torch.no_grad():
        assert not torch.allclose(half(*given), adjacent(*given))


def test_guidance_moves_the_noise_away_from_the_null_label_and_leaves_the_variance():
    config = preset("E", **TINY)
    model, (x, t, y) = awake(config), some_input(config)
    with torch.no_grad():
        label, null = model(x, t, y), model(x, t, torch.full_like(y, 3))
        out = guided(model, x, t, y, 4.0)
    c = config.channels
    assert_close(out[:, :c], null[:, :c] + 4 * (label[:, :c] - null[:, :c]), rtol=1e-4, atol=1e-5)
    assert_close(out[:, c:], label[:, c:])


def test_the_bound_trains_the_variance_and_not_the_noise():
    config = preset("E", **TINY)
    model, (x, t, y) = awake(config).train(), some_input(config)
    loss = diffusion_loss(model, x, y, t, torch.randn_like(x))
    gradient = torch.autograd.grad(loss.bound.sum(), model.final.linear.weight)[0]
    noise, variance = gradient.chunk(2)
    assert not noise.any() and variance.any()


def count(config: ModelConfig) -> int:
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in MPDiT(config).parameters())


DIT_S = {"depth": 12, "width": 384, "heads": 6, "patch": 4, "channels": 4, "size": 32,
         "classes": 1000}  # fmt: skip


def test_rotation_saves_the_papers_share_of_the_parameters():
    usual = count(modulation_study(("shift", "scale", "gate"), **DIT_S))
    rotating = modulation_study(("scale", "gate", "rotation"), **DIT_S)
    everywhere = {"final_modulation": ("scale", "rotation")}
    assert 0.053 < 1 - count(rotating) / usual < 0.055
    assert 0.055 < 1 - count(rotating.model_copy(update=everywhere)) / usual < 0.057


# Configuration


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"depth": 0}, ["depth", "0", "greater than or equal to 1"]),
        ({"width": 30, "heads": 4}, ["width 30", "multiple of heads 4"]),
        ({"width": 6, "heads": 2}, ["width 6", "multiple of 4"]),
        ({"size": 9, "patch": 2}, ["size 9", "multiple of patch 2"]),
        ({"gate_form": "sum"}, ["gate_form", "'sum'", "'gate'", "'one_plus_gate'"]),
        ({"pairing": 3}, ["pairing", "3", "'half'", "'adjacent'"]),
        ({"block_modulation": ["zoom"]}, ["block_modulation", "'zoom'", *SIGNALS]),
        ({"block_modulation": ["gate", "gate"]}, ["block_modulation", "twice"]),
        ({"final_modulation": ["gate"]}, ["final", "gate", "scale, shift, rotation"]),
        ({"wdith": 64}, ["'wdith'", "width", "depth"]),
        ({"cosine_attention": "perhaps"}, ["cosine_attention", "'perhaps'", "boolean"]),
        ({"depth": "many"}, ["depth", "'many'", "integer"]),
    ],
)
def test_a_wrong_value_is_told_with_field_value_and_what_is_allowed(values, words):
    with pytest.raises(InvalidConfig) as error:
        ModelConfig.checked(values)
    message = str(error.value)
    assert "\n" not in message and message.startswith("ModelConfig: ")
    for word in words:
        assert word in message


def test_a_wrong_training_value_names_its_own_config():
    with pytest.raises(InvalidConfig, match="TrainConfig: learning_rate was -1"):
        TrainConfig.checked({"learning_rate": -1})


def test_an_unknown_preset_names_those_there_are():
    with pytest.raises(InvalidConfig, match="'F'.*A, B, C, D, E"):
        preset("F")


def test_the_presets_add_one_step_of_the_ladder_each():
    on = [{flag for flag in LADDER_FLAGS if getattr(preset(name), flag)} for name in PRESETS]
    assert [len(flags) for flags in on] == [0, 1, 2, 3, 8]
    assert all(fewer < more for fewer, more in zip(on, on[1:], strict=False))
    assert preset("D").forced_weight_normalization and not preset("D").mp_silu


@pytest.mark.parametrize("order", [("gate", "shift", "scale"), ("scale", "gate", "shift")])
def test_signals_stand_in_one_order_however_they_are_given(order):
    config = ModelConfig(block_modulation=order)
    assert config.block_modulation == ("scale", "shift", "gate")
    assert config == ModelConfig(block_modulation=("scale", "shift", "gate"))


def test_a_config_cannot_be_changed_and_survives_json():
    config = preset("E", depth=3)
    with pytest.raises(ValidationError):
        config.depth = 4
    assert config.depth == 3 and hash(config) == hash(preset("E", depth=3))
    assert ModelConfig.model_validate_json(config.model_dump_json()) == config

"""Probe points: every one is on the list, and an edit at every one reaches the output."""

import pytest
import torch
from every_model import every_config, inputs, random_model

from mpdit_core.config import ModelConfig, preset
from mpdit_core.errors import NoSuchPoint
from mpdit_core.points import Point, visiting
from mpdit_core.probes import PointInfo, editing, points, select

CONFIGS = every_config()


class Notes:
    """A visitor that keeps name and shape of everything it sees, what is on request too."""

    def __init__(self):
        self.shapes: dict[str, tuple[int, ...]] = {}

    def begin(self, timesteps, labels):
        pass

    def wants(self, name):
        return True

    def visit(self, name, tensor):
        self.shapes[name] = tuple(tensor.shape)
        return tensor


def why_without_effect(config: ModelConfig, point: PointInfo) -> str:
    """Why the model cannot depend on this point; empty where it must."""
    if point.read_only:
        return "computed beside the forward pass"
    modulated = config.block_modulation or config.final_modulation
    if point.name.startswith("cond") and not modulated and config.output_gain == "scalar":
        return "nothing is modulated, so nothing reads the condition"
    return ""


@pytest.mark.parametrize("name", CONFIGS)
def test_the_list_names_every_point_of_the_model_in_order_and_with_its_shape(name):
    config = CONFIGS[name]
    model, notes = random_model(config), Notes()
    x, t, y = inputs(config)
    with visiting(notes):
        model(x, t, y)
    listed = points(config)
    assert list(notes.shapes) == [point.name for point in listed]
    for point in listed:
        batch, *rest = notes.shapes[point.name]
        assert batch == len(x)
        assert torch.Size(rest).numel() == point.vectors * point.features, point
        assert len(rest) + 1 == len(point.shape.split(",")), point
    in_modules = {module.name for module in model.modules() if isinstance(module, Point)}
    assert in_modules == set(notes.shapes)


@pytest.mark.parametrize("name", CONFIGS)
def test_an_edit_at_every_point_of_every_config_changes_the_output(name):
    config = CONFIGS[name]
    model, (x, t, y) = random_model(config), inputs(config)
    plain = model(x, t, y)
    for point in points(config):
        reason = why_without_effect(config, point)
        if point.read_only:
            with pytest.raises(NoSuchPoint, match="never reached"):
                with editing({point.name: torch.zeros_like}):
                    model(x, t, y)
            continue
        # A part of the tensor, so that no normalization after it can undo the edit.
        with editing({point.name: lambda value: value + torch.randn_like(value)}):
            edited = model(x, t, y)
        assert torch.equal(edited, plain) == bool(reason), f"{point.name}: {reason}"


def test_an_edit_that_returns_the_tensor_leaves_the_output_as_it_was():
    config = preset("E", depth=1, width=16, heads=2)
    model, (x, t, y) = random_model(config), inputs(config)
    names = [point.name for point in points(config) if not point.read_only]
    with editing(dict.fromkeys(names, torch.clone)):
        assert torch.equal(model(x, t, y), model(x, t, y))


def test_an_edit_ends_with_its_context():
    config = preset("A", depth=1, width=16, heads=2)
    model, (x, t, y) = random_model(config), inputs(config)
    plain = model(x, t, y)
    with editing({"embed": torch.zeros_like}):
        assert not torch.equal(model(x, t, y), plain)
    assert torch.equal(model(x, t, y), plain)


def test_an_edit_of_an_unknown_point_or_of_another_shape_is_an_error():
    config = preset("A", depth=1, width=16, heads=2)
    model, (x, t, y) = random_model(config), inputs(config)
    with pytest.raises(NoSuchPoint, match=r"blocks\.0\.attn\.angle"):
        with editing({"blocks.0.attn.angle": torch.zeros_like}):
            model(x, t, y)
    with pytest.raises(ValueError, match=r"cond returned shape \(4, 8\).*\(4, 16\)"):
        with editing({"cond": lambda value: value[:, :8]}):
            model(x, t, y)


def test_an_error_inside_an_edit_is_not_covered_by_the_check_for_missed_points():
    with pytest.raises(ZeroDivisionError):
        with editing({"nowhere": torch.zeros_like}):
            raise ZeroDivisionError


def test_a_pattern_spans_blocks_and_branches_and_keeps_the_order_of_computation():
    names = [point.name for point in select(ModelConfig(depth=2), ["final.in", "blocks.*.resid"])]
    assert names == [
        "blocks.0.attn.resid",
        "blocks.0.mlp.resid",
        "blocks.1.attn.resid",
        "blocks.1.mlp.resid",
        "final.in",
    ]


def test_what_costs_a_computation_is_chosen_only_by_its_own_word():
    config = ModelConfig(depth=1)
    assert all(point.word != "entropy" for point in select(config, "*"))
    assert [point.name for point in select(config, "*.entropy")] == ["blocks.0.attn.entropy"]


def test_a_pattern_without_a_match_is_an_error_that_names_near_points():
    with pytest.raises(NoSuchPoint, match=r"'blocks\.1\.attn\.rsid'.*blocks\.1\.attn\.resid"):
        select(ModelConfig(), ["embed", "blocks.1.attn.rsid"])


def test_a_point_without_a_visitor_hands_on_the_very_tensor():
    tensor = torch.randn(2, 3)
    assert Point("x")(tensor) is tensor

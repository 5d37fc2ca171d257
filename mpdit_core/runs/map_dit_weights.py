"""Weights of map-dit under the names of `MPDiT`, the same numbers in another order.

Three orders differ: signals are stored as shift, scale, gate there and in the order of `SIGNALS`
here; the final linear's rows go pixel by pixel there, all noise before all variance here; q, k and
v are apart in the oldest era.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mpdit_core.config import ModelConfig
from mpdit_core.errors import UnreadableRun
from mpdit_core.runs.shapes import refuse_other_shapes

PREFIXES = ("_orig_mod.", "module.")
"""Put before every name by torch.compile and by distributed training."""

EVERYWHERE = {
    "patches.linear.weight": "x_embedder.weight",
    "condition.up.weight": "t_embedder.mlp.net.0.weight",
    "condition.down.weight": "t_embedder.mlp.net.2.weight",
    "condition.labels.weight": "y_embedder.embedding.weight",
}
POSITION = "patches.position"
BUFFERS = {
    "condition.features.frequencies": "t_embedder.embedding.div_term",
    "condition.features.scale": "t_embedder.embedding.scale",
    "condition.features.phase": "t_embedder.embedding.shift",
}
WHERE_PRESENT = BUFFERS | {
    "condition.features.weight": "t_embedder.embedding.weight",
    "final.gain": "final_layer.linear.gain",
    "final.modulate.share": "final_layer.gain_mod",
    "final.noise_gain.reference": "final_layer.mean_scale.reference",
    "final.noise_gain.linear.weight": "final_layer.mean_scale.linear.weight",
    "final.variance_gain.reference": "final_layer.sigma_scale.reference",
    "final.variance_gain.linear.weight": "final_layer.sigma_scale.linear.weight",
}
IN_EACH_BLOCK = {
    "attn.core.out.weight": "attn.out_proj.weight",
    "mlp.core.up.weight": "mlp.net.0.weight",
    "mlp.core.down.weight": "mlp.net.2.weight",
}
SHARES = {"attn.modulate.share": "gain_msa", "mlp.modulate.share": "gain_mlp"}
BEFORE_BRANCH = ("scale", "shift", "rotation")


def plain_names(content: Any) -> dict[str, Tensor]:
    """The state dict without the prefixes of wrappers. Raises UnreadableRun if it is none."""
    if not isinstance(content, dict) or not content:
        raise UnreadableRun("it holds no state dict")
    plain: dict[str, Tensor] = {}
    for name, tensor in content.items():
        if not isinstance(name, str) or not _is_numbers(tensor):
            raise UnreadableRun(f"its entry {str(name)[:60]!r} is no tensor of numbers")
        for prefix in PREFIXES:
            name = name.removeprefix(prefix)
        plain[name] = tensor
    return plain


def _is_numbers(tensor: Any) -> bool:
    return (
        isinstance(tensor, Tensor)
        and tensor.layout == torch.strided
        and tensor.is_floating_point()
        and tensor.device.type == "cpu"
    )


def buffers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What is not trained, under the names of `MPDiT`, copied."""
    found = {ours: state[theirs].clone() for ours, theirs in BUFFERS.items() if theirs in state}
    return found | {POSITION: state["pos_embed"].squeeze(0).clone()}


def renamed(state: Mapping[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    """All weights under the names of `MPDiT`, copied. Raises UnreadableRun naming what differs."""
    state = _Ledger(state)
    try:
        found = {ours: state[theirs] for ours, theirs in EVERYWHERE.items()}
        found[POSITION] = state["pos_embed"].squeeze(0)
        found |= {ours: state[name] for ours, name in WHERE_PRESENT.items() if name in state}
        for index in range(config.depth):
            block = _Part(state, f"blocks.{index}.")
            found |= {f"blocks.{index}.{name}": tensor for name, tensor in _block(block, config)}
        found |= {f"final.{name}": tensor for name, tensor in _final(state, config)}
    except KeyError as error:
        raise UnreadableRun(f"it lacks {error.args[0]!r}") from None
    except (RuntimeError, ValueError, IndexError) as error:
        raise UnreadableRun(f"a weight has a wrong shape: {str(error)[:200]}") from None
    if unread := sorted(set(state) - state.read):
        raise UnreadableRun(f"it has the weight {unread[0]!r}, which config.yaml rules out")
    refuse_other_shapes({name: tensor.shape for name, tensor in found.items()}, config)
    return {name: tensor.clone() for name, tensor in found.items()}


class _Ledger(dict[str, Tensor]):
    """A state dict that knows which of its weights were read."""

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        super().__init__(state)
        self.read: set[str] = set()

    def __getitem__(self, name: str) -> Tensor:
        self.read.add(name)
        return super().__getitem__(name)


class _Part:
    """The weights below one prefix; a missing one is named in full."""

    def __init__(self, state: Mapping[str, Tensor], prefix: str) -> None:
        self.state, self.prefix = state, prefix

    def __getitem__(self, name: str) -> Tensor:
        return self.state[self.prefix + name]

    def __contains__(self, name: str) -> bool:
        return self.prefix + name in self.state


def _block(block: _Part, config: ModelConfig) -> list[tuple[str, Tensor]]:
    found = [(ours, block[theirs]) for ours, theirs in IN_EACH_BLOCK.items()]
    found += [(ours, block[theirs]) for ours, theirs in SHARES.items() if theirs in block]
    found.append(("attn.core.qkv.weight", _qkv(block)))
    for number, branch in enumerate(("attn", "mlp")):
        if config.timestep_embedding == "fourier":
            parts = _separate_signals(block, number + 1, config)
        else:
            parts = _stacked_signals(block, number, parts=6)
        found += [(f"{branch}.modulation.{name}", tensor) for name, tensor in parts]
    return found


def _qkv(block: _Part) -> Tensor:
    if "attn.qkv_proj.weight" in block:
        return block["attn.qkv_proj.weight"]
    return torch.cat([block[f"attn.{part}_proj.weight"] for part in "qkv"])


def _stacked_signals(part: _Part, number: int, parts: int) -> list[tuple[str, Tensor]]:
    """One weight of shift, scale (, gate), for each of the branches in turn; one gain for all."""
    name = "modulation.net.1" if "modulation.net.1.weight" in part else "modulation.1"
    chunks = part[f"{name}.weight"].chunk(parts)
    shift, scale, *gate = chunks[3 * number : 3 * number + 3]
    found = [("linear.weight", torch.cat([scale, shift, *gate]))]
    if f"{name}.gain" in part:
        found.append(("gain", part[f"{name}.gain"].expand(2 + len(gate))))
    return found


def _separate_signals(block: _Part, number: int, config: ModelConfig) -> list[tuple[str, Tensor]]:
    """A weight and a gain for each signal of the `mods` era."""
    signals = [signal for signal in BEFORE_BRANCH if signal in config.block_modulation]
    names = [f"mod{number}.mods.{index}.net.1" for index in range(len(signals))]
    names += [f"gate{number}.net.1"] if "gate" in config.block_modulation else []
    return _joined(block, names)


def _joined(part: _Part, names: list[str]) -> list[tuple[str, Tensor]]:
    if not names:
        return []
    return [
        ("linear.weight", torch.cat([part[f"{name}.weight"] for name in names])),
        ("gain", torch.stack([part[f"{name}.gain"] for name in names])),
    ]


def _final(state: Mapping[str, Tensor], config: ModelConfig) -> list[tuple[str, Tensor]]:
    part = _Part(state, "final_layer.")
    weight = part["linear.weight"]
    # The newest era keeps noise and variance in two chunks, as here.
    rows = (
        weight
        if config.output_gain == "per_sample"
        else weight[_noise_first(config, weight.device)]
    )
    if config.timestep_embedding == "fourier":
        names = [f"mod.mods.{index}.net.1" for index in range(len(config.final_modulation))]
        modulation = _joined(part, names)
    else:
        modulation = _stacked_signals(part, 0, parts=2)
    named = [(f"modulation.{name}", tensor) for name, tensor in modulation]
    return [("linear.weight", rows), *named]


def _noise_first(config: ModelConfig, device: torch.device) -> Tensor:
    """Where each row of our final linear lies in theirs, (2 patch^2 channels,)."""
    pixels = config.patch**2
    index = torch.arange(pixels * 2 * config.channels, device=device)
    return index.view(pixels, 2, config.channels).transpose(0, 1).flatten()

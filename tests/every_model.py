"""Small models of every config and every era, with gains away from zero so that wiring shows."""

import torch
from torch import Tensor

from mpdit_core.config import PRESETS, SIGNALS, ModelConfig, modulation_study, preset
from mpdit_core.model import MPDiT

SIZES = {"depth": 1, "width": 16, "heads": 2, "classes": 3, "channels": 1, "size": 4, "patch": 2}


def every_config() -> dict[str, ModelConfig]:
    """A to E, every subset of the modulation study, and the authors' two later eras."""
    configs = {name: preset(name, **SIZES | {"depth": 2}) for name in PRESETS}
    for number in range(2 ** len(SIGNALS)):
        chosen = tuple(s for place, s in enumerate(SIGNALS) if number >> place & 1)
        configs["study " + ("+".join(chosen) or "nothing")] = modulation_study(chosen, **SIZES)
        final = tuple(signal for signal in chosen if signal != "gate")
        configs["mods " + ("+".join(chosen) or "nothing")] = modulation_study(
            chosen, **SIZES, final_modulation=final, timestep_embedding="fourier",
            position_centred=True,
        )  # fmt: skip
    configs["head"] = preset(
        "E", **SIZES, timestep_embedding="fourier_sqrt2", modulation_form="mp_sum",
        output_gain="per_sample",
    )  # fmt: skip
    configs["adjacent pairs"] = modulation_study(("rotation",), **SIZES, pairing="adjacent")
    return configs


def random_model(config: ModelConfig) -> MPDiT:
    """A model in evaluation mode whose every parameter is random, those that start at 0 too."""
    model = MPDiT(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.5)
    return model.eval().requires_grad_(False)


def inputs(config: ModelConfig, batch: int = 4) -> tuple[Tensor, Tensor, Tensor]:
    """x, t, y of a batch; two samples share timestep and label, the null label is among them."""
    x = torch.randn(batch, config.channels, config.size, config.size)
    t = torch.tensor([999, 500, 500, 3])[torch.arange(batch) % 4]
    y = torch.tensor([0, 1, 1, config.null_label])[torch.arange(batch) % 4]
    return x, t, y

"""What a map-dit run is: the era of its code, told by its weights, and its config.yaml.

The authors' code has three eras: `flags` (the ladder A-E as eight switches), `mods` (modulations
by subset), `head` (per-sample output gains, shift by a magnitude-preserving sum).
"""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import ConfigDict
from torch import Tensor

from mpdit_core.config import (
    LADDER_FLAGS,
    SIGNALS,
    DataInfo,
    ModelConfig,
    Settings,
    Signal,
    modulation_study,
    preset,
)
from mpdit_core.errors import InvalidConfig, UnreadableRun

Era = Literal["flags", "mods", "head"]
HEADS = {"XS": 4, "S": 6, "B": 12, "L": 16, "XL": 16}
"""Attention heads by the size in the model's name ([DiT] table 1; XS is the authors' own)."""

LARGEST_CONFIG = 2**20
LONGEST_REASON = 300


class ConfigFile(Settings):
    """The entries of config.yaml that a reader needs; written before defaults are filled in."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    model: str
    in_channels: int | None = None
    num_steps: int | None = None
    data_path: str | None = None
    stats_mean: tuple[float, ...] | None = None
    stats_std: tuple[float, ...] | None = None
    use_cosine_attention: bool | None = None
    use_weight_normalization: bool | None = None
    use_forced_weight_normalization: bool | None = None
    use_mp_residual: bool | None = None
    use_mp_silu: bool | None = None
    use_mp_pos_enc: bool | None = None
    use_mp_embedding: bool | None = None
    use_no_layernorm: bool | None = None
    use_scale_mod: bool | None = None
    use_shift_mod: bool | None = None
    use_rotation_mod: bool | None = None
    use_gate_mod: bool | None = None


def read_config(file: Path) -> ConfigFile:
    """Read config.yaml as plain data. Raises UnreadableRun with one sentence."""
    try:
        with file.open("rb") as opened:
            data = opened.read(LARGEST_CONFIG + 1)
        if len(data) > LARGEST_CONFIG:
            raise UnreadableRun(f"{file} is larger than 1 MiB; a config.yaml has some lines")
        content = yaml.safe_load(data)
    except OSError as error:
        raise UnreadableRun(f"{file} cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:LONGEST_REASON]
        raise UnreadableRun(f"{file} is no plain YAML: {reason}") from None
    if not isinstance(content, dict):
        raise UnreadableRun(f"{file} holds a {type(content).__name__}; it should be a mapping")
    return _checked(ConfigFile, content, file)


def _checked(kind: type[Settings], values: Mapping[Any, Any], file: Path) -> Any:
    try:
        return kind.checked({str(key): value for key, value in values.items()})
    except (InvalidConfig, RecursionError) as error:
        raise UnreadableRun(f"{file}: {str(error)[:LONGEST_REASON]}") from None


def era_of(state: Mapping[str, Tensor]) -> Era:
    """Which era's code made these weights; told by names that the others do not have."""
    if "final_layer.mean_scale.reference" in state:
        return "head"
    return "mods" if "t_embedder.embedding.scale" in state else "flags"


def model_config(state: Mapping[str, Tensor], found: ConfigFile, file: Path) -> ModelConfig:
    """Sizes from the shapes, heads from the model's name, switches from config.yaml.

    Raises UnreadableRun naming what is missing or does not fit together."""
    era = era_of(state)
    try:
        values = _sizes(state, found)
        if era == "head":
            chosen = {"timestep_embedding": "fourier_sqrt2", "modulation_form": "mp_sum"}
            return preset("E", **(values | chosen | {"output_gain": "per_sample"}))
        if era == "mods":
            return _of_mods(values, _signals(state, found))
        return ModelConfig.checked(values | _switches(found))
    except KeyError as error:
        raise UnreadableRun(f"{file.parent}: the weights lack {error.args[0]!r}") from None
    except (InvalidConfig, IndexError) as error:
        raise UnreadableRun(f"{file}: {str(error)[:LONGEST_REASON]}") from None


def _of_mods(values: dict[str, Any], signals: tuple[Signal, ...]) -> ModelConfig:
    final = tuple(signal for signal in signals if signal != "gate")
    chosen = {"timestep_embedding": "fourier", "position_centred": True, "final_modulation": final}
    return modulation_study(signals, **(values | chosen))


def _sizes(state: Mapping[str, Tensor], found: ConfigFile) -> dict[str, Any]:
    width, features = state["x_embedder.weight"].shape
    channels, patch = _channels_and_patch(features - 1, found)
    blocks = [int(match[1]) for name in state if (match := re.match(r"blocks\.(\d+)\.", name))]
    sizes = {
        "depth": max(blocks, default=0) + 1,
        "width": width,
        "heads": _heads(found.model),
        "patch": patch,
        "channels": channels,
        "size": math.isqrt(state["pos_embed"].shape[1]) * patch,
        "classes": state["y_embedder.embedding.weight"].shape[0] - 1,
        "mlp_ratio": state["blocks.0.mlp.net.0.weight"].shape[0] // width,
    }
    table = state.get("t_embedder.embedding.weight")
    return sizes if table is None else sizes | {"timesteps": table.shape[0]}


def _channels_and_patch(features: int, found: ConfigFile) -> tuple[int, int]:
    """A patch has patch * patch * channels features; config.yaml knows the channels."""
    channels = found.in_channels or len(found.stats_mean or ())
    if not channels and (match := re.search(r"/(\d{1,3})$", found.model)):
        channels = features // max(1, int(match[1])) ** 2
    patch = math.isqrt(features // channels) if channels > 0 else 0
    if patch < 1 or patch**2 * channels != features:
        raise InvalidConfig(
            f"in_channels was {found.in_channels}, which does not fit the {features} features of "
            "a patch in the weights"
        )
    return channels, patch


def _heads(model: str) -> int:
    match = re.search(r"(?:^|-)(XS|S|B|L|XL)/\d+$", model)
    if match is None:
        raise InvalidConfig(
            f"model was {model[:40]!r}, which names no size; known: DiT-{'/P, DiT-'.join(HEADS)}/P"
        )
    return HEADS[match[1]]


def _switches(found: ConfigFile) -> dict[str, bool]:
    values = {flag: getattr(found, f"use_{flag}") for flag in LADDER_FLAGS}
    missing = [f"use_{flag}" for flag, value in values.items() if value is None]
    if missing:  # most leave no trace in the weights, so none is guessed
        raise InvalidConfig(f"{', '.join(missing)} missing; they should be true or false")
    return values


def _signals(state: Mapping[str, Tensor], found: ConfigFile) -> tuple[Signal, ...]:
    """Signals of the blocks. Entries that config.yaml lacks are told by the weights.

    Only scale and shift look the same there: one alone must be named."""
    named = {signal: getattr(found, f"use_{signal}_mod") for signal in SIGNALS}
    width = state["x_embedder.weight"].shape[0]
    prefix = "blocks.0.mod1.mods."
    rows = [len(tensor) for name, tensor in state.items()
            if name.startswith(prefix) and name.endswith(".weight")]  # fmt: skip
    full = sum(count == width for count in rows)
    seen: dict[str, bool | None] = {
        "rotation": len(rows) > full,
        "gate": any(name.startswith("blocks.0.gate1.") for name in state),
    }
    for signal, other in (("scale", "shift"), ("shift", "scale")):
        seen[signal] = full == 2 if full != 1 or named[other] is None else not named[other]
    unknown = full == 1 and named["scale"] is None and named["shift"] is None
    if unknown:
        raise InvalidConfig("use_scale_mod and use_shift_mod are missing; one of them is true")
    return tuple(s for s in SIGNALS if (seen[s] if named[s] is None else named[s]))


def data_info(found: ConfigFile, config: ModelConfig, file: Path) -> DataInfo:
    """The latents' statistics; zeros and ones where config.yaml lacks them."""
    if found.stats_mean is None or found.stats_std is None:
        zeros, ones = (0.0,) * config.channels, (1.0,) * config.channels
        return DataInfo(name="unknown", mean=zeros, std=ones)
    lengths = (len(found.stats_mean), len(found.stats_std))
    if lengths != (config.channels, config.channels):
        raise UnreadableRun(
            f"{file}: stats_mean and stats_std have {lengths[0]} and {lengths[1]} numbers; "
            f"they should have one for each of {config.channels} channels"
        )
    return DataInfo(
        name="latents", mean=found.stats_mean, std=found.stats_std, folder=found.data_path
    )

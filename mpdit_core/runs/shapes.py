"""Do these weights belong to this configuration? Told by names and shapes, before any is loaded."""

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import safetensors
import torch

from mpdit_core.config import ModelConfig
from mpdit_core.errors import UnreadableRun
from mpdit_core.model import MPDiT

Shapes = Mapping[str, Sequence[int]]


def expected_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Name and shape of every weight and buffer of a model; nothing of its size is allocated."""
    return _shapes(config.model_dump_json())[0]


def parameter_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Those that are trained: all of `expected_shapes` but the buffers."""
    return _shapes(config.model_dump_json())[1]


_Named = dict[str, tuple[int, ...]]


@lru_cache(maxsize=256)
def _shapes(config: str) -> tuple[_Named, _Named]:
    """Of everything, and of what is trained."""
    with torch.device("meta"):
        model = MPDiT(ModelConfig.model_validate_json(config))
    everything = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    return everything, {name: everything[name] for name, _ in model.named_parameters()}


def parameter_count(config: ModelConfig) -> int:
    """How many numbers are trained.

    >>> parameter_count(ModelConfig(depth=1, width=8, heads=1, patch=8))
    3040
    """
    return sum(math.prod(shape) for shape in parameter_shapes(config).values())


def refuse_other_shapes(found: Shapes, config: ModelConfig) -> None:
    """Raises UnreadableRun naming the first weight that is missing, too much, or misshapen."""
    wanted = expected_shapes(config)
    for name in [*wanted, *found]:
        if name not in found:
            raise UnreadableRun(f"it lacks the weight {name!r} of its configuration")
        if name not in wanted:
            raise UnreadableRun(f"it has the weight {name[:60]!r}, which its configuration lacks")
        if tuple(found[name]) != wanted[name]:
            raise UnreadableRun(
                f"the weight {name!r} is {tuple(found[name])}; it should be {wanted[name]}"
            )


def safetensors_shapes(file: Path) -> dict[str, list[int]]:
    """Shapes from the header alone, which also tells whether the file is complete."""
    try:
        with safetensors.safe_open(file, framework="pt") as opened:
            return {name: opened.get_slice(name).get_shape() for name in opened.keys()}  # noqa: SIM118
    except (OSError, safetensors.SafetensorError) as error:
        raise UnreadableRun(f"{file} is no complete safetensors file: {error}") from None

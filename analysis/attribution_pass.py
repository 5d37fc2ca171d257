"""The ways of the label into a prediction, each with a copy of the label's embedding of its own.

A label reaches the prediction through the signals of the modulation alone, so what it does can be
divided among them. Where every signal reads its own copy of the embedding and all copies move
together, integrated gradients of one copy are the conductance of its signal (arXiv 1805.12233),
and a copy at the null label's embedding is that signal ablated.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import cast

import torch
from pydantic import Field
from torch import Tensor

from analysis.probing import ProbeInput, ProbeSettings
from mpdit_core.branches import Branch
from mpdit_core.config import ModelConfig
from mpdit_core.errors import InvalidConfig, NoSuchPoint
from mpdit_core.model import MPDiT
from mpdit_core.modulation import Modulation
from mpdit_core.points import unvisited
from mpdit_core.probes import PointInfo, editing, points
from mpdit_core.progress import track

SIX = (999, 800, 600, 400, 200, 0)
MEMORY = 128 * 2**20
"""Bytes that the tensors kept for a gradient may take, unless a single row needs more."""
ALL = "all"
"""Branch and signal of the rows that speak of a whole block."""
GAIN = "gain"
"""The label's way to the output gain of the `head` era, which reads the condition itself."""

Way = tuple[int, str, str]
"""Block (from 0; depth for the final layer), branch (attn, mlp, final), signal (a point's word)."""


class AttributionSettings(ProbeSettings):
    """What the model is shown, always with a label of a class.

    nodes: points of Gauss-Legendre quadrature on the path from the null label to the label."""

    timesteps: tuple[int, ...] = SIX
    samples: int = Field(default=3, ge=1)
    nodes: int = Field(default=8, ge=1, le=256)

    def chosen_labels(self, config: ModelConfig) -> tuple[int, ...]:
        """Classes, each once. Raises InvalidConfig for the null label: its path has no length."""
        if config.null_label in self.labels:
            raise InvalidConfig(
                f"labels held {config.null_label}, the null label, where the path starts; name "
                f"classes, 0 to {config.classes - 1}"
            )
        return tuple(y for y in super().chosen_labels(config) if y != config.null_label)


def signal_points(config: ModelConfig) -> list[PointInfo]:
    """The points of all signals of the modulation, in the order of computation."""
    kinds = ("signal", "angle")
    return [p for p in points(config) if p.kind in kinds and not p.name.startswith("cond")]


def ways(config: ModelConfig) -> list[Way]:
    """Every way of the label into the prediction; none where nothing is modulated."""
    found = [(p.place, p.branch or "final", p.word) for p in signal_points(config)]
    return [*found, (config.depth, "final", GAIN)] if _gained(config) else found


def _gained(config: ModelConfig) -> bool:
    return config.output_gain == "per_sample"


class LabelWays:
    """A model whose signals read copies of the label's embedding, (batch, ways, width).

    Raises NoSuchPoint for a model that a label cannot reach."""

    def __init__(self, model: MPDiT, name: str) -> None:
        self.model, self.ways = model, ways(model.config)
        if not self.ways:
            raise NoSuchPoint(
                f"No label reaches the prediction of run {name!r}: its blocks and its final layer "
                "are not modulated"
            )
        self.points = signal_points(model.config)

    def embedded(self, labels: Tensor) -> Tensor:
        """What stands at `cond.y`, (batch, width)."""
        return self.model.condition.labels(labels)

    def copies(self, labels: Tensor) -> Tensor:
        """The embedding once for every way, (batch, ways, width)."""
        return self.embedded(labels)[:, None].repeat(1, len(self.ways), 1)

    def noise(self, copies: Tensor, noisy: Tensor, timesteps: Tensor) -> Tensor:
        """Predicted noise, (batch, channels, size, size)."""
        batch, count, width = copies.shape
        rows = timesteps.repeat_interleave(count)
        with unvisited():
            condition = self._condition(copies.reshape(-1, width), rows)
            signals = self._signals(self.model.activation(condition).view(batch, count, width))
        values = {p.name: value for p, value in zip(self.points, signals, strict=True)}
        if _gained(self.model.config):
            values["cond"] = condition.view(batch, count, width)[:, -1]
        unused = torch.full_like(timesteps, self.model.config.null_label)
        with editing({name: _always(value) for name, value in values.items()}):
            out = self.model(noisy, timesteps, unused)
        return out[:, : self.model.config.channels]

    def _condition(self, embedded: Tensor, timesteps: Tensor) -> Tensor:
        with editing({"cond.y": _always(embedded)}):
            return self.model.condition(timesteps, torch.zeros_like(timesteps))

    def _signals(self, activated: Tensor) -> list[Tensor]:
        """Of every point the signal that its own copy gives; activated (batch, ways, width)."""
        found = []
        for place, point in enumerate(self.points):
            found.append(getattr(self._modulation(point)(activated[:, place]), point.word))
        return found

    def _modulation(self, point: PointInfo) -> Modulation:
        if point.block is None:
            return cast(Modulation, self.model.final.modulation)
        branch = cast(Branch, getattr(self.model.blocks[point.block], point.branch))
        return cast(Modulation, branch.modulation)


def _always(value: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda _tensor: value


def noise_with_embedding(
    model: MPDiT, embedded: Tensor, noisy: Tensor, timesteps: Tensor
) -> Tensor:
    """Predicted noise where `cond.y` has this value, (batch, width)."""
    with editing({"cond.y": _always(embedded)}):
        out = model(noisy, timesteps, torch.zeros_like(timesteps))
    return out[:, : model.config.channels]


def along(noise: Tensor, direction: Tensor) -> Tensor:
    """The target, one number per sample, (batch,): mean over the image of noise * direction.

    direction: predicted noise with the label minus that with the null label, held fixed. From the
    null label to the label the target grows by the mean square of the direction."""
    return (noise * direction).flatten(1).mean(dim=1)


@torch.no_grad()
def guidance_direction(model: MPDiT, noisy: Tensor, timesteps: Tensor, labels: Tensor) -> Tensor:
    """Predicted noise with the labels minus that with the null label."""
    null = torch.full_like(labels, model.config.null_label)
    channels = model.config.channels
    return (model(noisy, timesteps, labels) - model(noisy, timesteps, null))[:, :channels]


def row_bytes(config: ModelConfig) -> int:
    """Upper estimate of what one row of a batch keeps for its gradient, in bytes.

    In a block 16 tensors of the width of the stream, three of the hidden layer, four of attention
    weights; for every way of the label 12 vectors. Two to four times what is seen."""
    stream = config.tokens * config.width * (16 + 3 * config.mlp_ratio)
    attention = 4 * config.heads * config.tokens**2
    label = 12 * config.width * (len(ways(config)) + 2)
    return 4 * (config.depth * (stream + attention) + 4 * config.tokens * config.width + label)


def rows_at_once(config: ModelConfig) -> int:
    """Rows of a batch that keep within `MEMORY`; at least one."""
    return max(1, MEMORY // row_bytes(config))


def memory_words(configs: Sequence[ModelConfig]) -> str:
    """The bound on memory, for the words before a computation starts.

    >>> memory_words([ModelConfig()])
    'at most 128 MiB at once'
    """
    needed = max([MEMORY, *map(row_bytes, configs)]) / 2**20
    return f"at most {needed:,.0f} MiB at once"


Batch = tuple[Tensor, Tensor, Tensor]
"""Noisy images, timesteps, labels."""


def batches(probed: Sequence[ProbeInput], size: int, what: str) -> Iterator[Batch]:
    """All inputs in batches, with progress."""
    noisy = torch.cat([part.noisy for part in probed])
    labels = torch.cat([part.labels for part in probed])
    timesteps = torch.cat([torch.full_like(part.labels, part.timestep) for part in probed])
    split = zip(noisy.split(size), timesteps.split(size), labels.split(size), strict=True)
    yield from track(list(split), what)

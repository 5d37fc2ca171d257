"""A forward pass in which the attention of every head is seen: logits from the probed q and k.

One head of one batch at a time, so that memory is bounded by a single map of all its images.
"""

import math
from collections.abc import Callable, Collection

import torch
from pydantic import Field
from torch import Tensor

from analysis.probing import ProbeSettings, probe_inputs, run_through
from mpdit_core.config import ModelConfig
from mpdit_core.points import visiting
from mpdit_core.runs import Run, Weights

ELEVEN = (999, *range(900, -1, -100))
"""From noise to image: 999, 900, 800, ... 0."""

Each = Callable[[int, int, Tensor, Tensor], None]
"""Called with block and head (from 0), logits (batch, queries, keys) and timesteps (batch,)."""


class AttentionSettings(ProbeSettings):
    """What the model is shown; fewer timesteps and images than `ProbeSettings` by default."""

    timesteps: tuple[int, ...] = ELEVEN
    samples: int = Field(default=4, ge=1)


class AttentionHeads:
    """A visitor that hands over the logits q k^T / sqrt(d) of the chosen blocks' heads."""

    def __init__(self, each: Each, blocks: Collection[int], heads: Collection[int]) -> None:
        self.each, self.heads = each, heads
        self.block_of = {f"blocks.{block}.attn": block for block in blocks}
        self.timesteps = self.q = torch.empty(0)

    def begin(self, timesteps: Tensor, labels: Tensor) -> None:
        self.timesteps = timesteps

    def wants(self, name: str) -> bool:
        return False

    def visit(self, name: str, tensor: Tensor) -> Tensor:
        place, _, word = name.rpartition(".")
        if place in self.block_of and word == "q":
            self.q = tensor
        elif place in self.block_of and word == "k":
            for head in self.heads:
                logits = head_logits(self.q[:, head], tensor[:, head])
                self.each(self.block_of[place], head, logits, self.timesteps)
        return tensor


def head_logits(q: Tensor, k: Tensor) -> Tensor:
    """What the softmax takes: q k^T / sqrt(d) in float32, (batch, queries, keys).

    q, k (batch, tokens, d): one head, after normalization."""
    return q.float() @ k.float().transpose(-1, -2) / math.sqrt(q.shape[-1])


def see_attention(
    run: Run,
    weights: Weights | str,
    settings: ProbeSettings,
    each: Each,
    blocks: Collection[int],
    heads: Collection[int],
) -> tuple[int, ...]:
    """Show the model what `settings` say; returns the timesteps shown. Raises BadData."""
    model = run.model(weights)
    with torch.no_grad():
        probed = probe_inputs(run, model, settings)
        with visiting(AttentionHeads(each, blocks, heads)):
            run_through(model, probed)
    return tuple(part.timestep for part in probed)


def logit_bound(config: ModelConfig) -> float:
    """sqrt(d) with cosine attention, d the head width: q and k have norm sqrt(d). NaN without."""
    return math.sqrt(config.head_width) if config.cosine_attention else math.nan


def lowest_entropy(bound: float, tokens: int) -> float:
    """The lowest entropy (nats) of a softmax over logits in [-bound, bound]; NaN without a bound.

    As a function of one logit the entropy rises, then falls, so it is lowest where every logit is
    at an end: m keys at +bound, the others at -bound, and the best m is taken.

    >>> round(lowest_entropy(0.0, 16), 3) == round(math.log(16), 3)
    True
    """
    if math.isnan(bound):
        return math.nan
    return min(_two_levels(2 * bound, m, tokens) for m in range(1, tokens + 1))


def _two_levels(gap: float, above: int, tokens: int) -> float:
    """Entropy with `above` logits at 0 and the others at -gap."""
    below = (tokens - above) * math.exp(-gap)
    total = above + below
    return math.log(total) + gap * below / total


def patch_distances(side: int) -> Tensor:
    """Distance between the centres of patches, in patches, (side^2, side^2), row by row."""
    place = torch.arange(side, dtype=torch.float32)
    centres = torch.cartesian_prod(place, place)  # (row, column), the order of the tokens
    return torch.cdist(centres, centres)

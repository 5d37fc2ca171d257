"""The claims on weights: gradients orthogonal to normalized rows, rows forced to norm sqrt(n)."""

import math
from collections.abc import Iterator

import pandas as pd
import torch
from pydantic import Field
from torch import Tensor

from analysis.defaults import SHOWN, Default
from analysis.question import question
from analysis.theory import COLUMNS, NO_TIMESTEP, rows_of
from analysis.theory_sums import Measured
from mpdit_core.config import ModelConfig, Seed, Settings
from mpdit_core.data import load_data
from mpdit_core.errors import BadData
from mpdit_core.layers import Embedding, Linear, NormalizedWeight
from mpdit_core.loss import diffusion_loss
from mpdit_core.model import MPDiT
from mpdit_core.noise import generator, sample_noise
from mpdit_core.progress import track
from mpdit_core.runs import Run, Weights

AT_ONCE = 16
"""Images of one backward pass; gradients add up over passes."""


class GradientSettings(Settings):
    """samples: held-out images, drawn by the seed, at timesteps spread evenly over the schedule."""

    samples: int = Field(default=64, ge=1)
    seed: Seed = 0


class RowSettings(Settings):
    """No settings: every row of every linear is measured."""


@question(version=1)
def gradient_angles(run: Run, weights: Weights | str, settings: GradientSettings) -> pd.DataFrame:
    """Is the gradient of the loss orthogonal to the rows of each weight?

    One row per (block, branch, part, statistic). Columns as `theory`; claim: gradient; block (from
    0; -1 before the blocks, depth for the final layer), branch (attn, mlp, embedding, final), part
    (last words of the layer's name); timestep -1. Statistics: claimed (0), measured (root mean
    square cosine of a row and its gradient), departure (largest |cos|), chance (1 / sqrt(inputs):
    of random directions); n (rows with a gradient; where there is none, as where gains are 0, the
    cosines are nan).

    The gradient is that of the training loss, summed over held-out images, in float64. Raises
    BadData where the images are not at hand."""
    model = run.model(weights).double()
    for _, layer in layers_of(model):
        layer.weight.requires_grad_(True)
    for images, labels, timesteps, noise in _batches(run, settings):
        loss = diffusion_loss(model, images, labels, timesteps, noise)
        (loss.total * len(images) / settings.samples).backward()
    rows = []
    for name, layer in layers_of(model):
        gradient = layer.weight.grad
        none = torch.zeros_like(layer.weight) if gradient is None else gradient
        found = gradient_measured(none, layer.weight.detach())
        rows += _rows(run, weights, "gradient", name, found)
    return pd.DataFrame(rows, columns=list(COLUMNS))


@question(version=1)
@torch.no_grad()
def row_norms(run: Run, weights: Weights | str, settings: RowSettings) -> pd.DataFrame:
    """Have the rows of each linear the norm sqrt(n_in) that forcing gives them?

    Rows and columns as `gradient_angles`; claim: forced. Norms are divided by sqrt(n_in).
    Statistics: claimed (1), measured (mean), lowest, highest, departure (largest difference from
    1); n (rows)."""
    rows = []
    for name, layer in layers_of(run.model(weights)):
        if layer.normalized or isinstance(layer, Linear):
            rows += _rows(run, weights, "forced", name, rows_measured(layer.weight))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def layers_of(model: MPDiT) -> Iterator[tuple[str, NormalizedWeight]]:
    """Name and module of everything with rows: linears, and tables used at unit magnitude."""
    for name, part in model.named_modules():
        if isinstance(part, Linear) or (isinstance(part, Embedding) and part.normalized):
            yield name, part


def _rows(run: Run, weights: Weights | str, claim: str, name: str, found: Measured) -> list[tuple]:
    block, branch, part = place_of(name, run.config)
    place = (run.name, str(weights), claim, block, branch, part, NO_TIMESTEP)
    return rows_of(place, found)


def place_of(name: str, config: ModelConfig) -> tuple[int, str, str]:
    """Block, branch and part of a layer.

    >>> place_of("blocks.3.mlp.core.up", ModelConfig()), place_of("final.linear", ModelConfig())
    ((3, 'mlp', 'up'), (6, 'final', 'linear'))
    >>> place_of("blocks.0.attn.modulation.linear", ModelConfig())
    (0, 'attn', 'modulation')
    """
    parts = name.split(".")
    if parts[0] == "blocks":
        return int(parts[1]), parts[2], parts[4] if parts[3] == "core" else parts[3]
    if parts[0] == "final":
        return config.depth, "final", ".".join(parts[1:])
    return -1, "embedding", name


def _batches(
    run: Run, settings: GradientSettings
) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Images, labels, timesteps and noise, the same for every run of the same data; float64."""
    data, config = load_data(run.data), run.config
    wanted, shape = (config.channels, config.size, config.size), data.heldout_images.shape[1:]
    if tuple(shape) != wanted:
        raise BadData(
            f"Run {run.name!r} takes images {wanted}, but its data {run.data.name!r} are "
            f"{tuple(shape)}"
        )
    order = torch.randperm(len(data.heldout_images), generator=generator(settings.seed, "gradient"))
    chosen = order[torch.arange(settings.samples) % len(order)]
    images, labels = data.heldout_images[chosen].double(), data.heldout_labels[chosen]
    timesteps = torch.linspace(0, config.timesteps - 1, settings.samples).round().long()
    noise = sample_noise(settings.seed, range(settings.samples), wanted).double()
    every = zip(*(part.split(AT_ONCE) for part in (images, labels, timesteps, noise)), strict=True)
    yield from track(list(every), "Gradient of the loss")


# 8. Gradients


def gradient_measured(gradient: Tensor, weight: Tensor) -> Measured:
    """Cosines of each row (outputs, inputs) with its gradient, over the rows that have one.

    claimed (0), measured (root mean square cosine), departure (the largest |cos|), chance
    (1 / sqrt(inputs): of random directions). n: rows with a gradient."""
    gradient, weight = gradient.double(), weight.double()
    lengths = gradient.norm(dim=1) * weight.norm(dim=1)
    used = lengths != 0
    cosines = (gradient[used] * weight[used]).sum(dim=1) / lengths[used]
    none = len(cosines) == 0
    return {
        "claimed": 0.0,
        "measured": math.nan if none else float(cosines.square().mean().sqrt()),
        "departure": math.nan if none else float(cosines.abs().max()),
        "chance": weight.shape[1] ** -0.5,
        "n": float(len(cosines)),
    }


# 9. Forced rows


def rows_measured(weight: Tensor) -> Measured:
    """Norms of the rows (outputs, inputs) relative to sqrt(inputs): claimed (1), measured (mean),
    lowest, highest; departure, the largest difference from 1. n: rows."""
    norms = weight.double().norm(dim=1) / weight.shape[1] ** 0.5
    return {
        "claimed": 1.0,
        "measured": float(norms.mean()),
        "departure": float((norms - 1).abs().max()),
        "lowest": float(norms.min()),
        "highest": float(norms.max()),
        "n": float(len(norms)),
    }


DEFAULTS = (
    Default(gradient_angles, GradientSettings()),
    Default(row_norms, RowSettings(), weights=("final", SHOWN)),
)

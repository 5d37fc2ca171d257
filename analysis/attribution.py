"""Which blocks, and which signals of their modulation, carry the class at which timestep?"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from analysis.attribution_pass import (
    ALL,
    AttributionSettings,
    Batch,
    LabelWays,
    Way,
    along,
    batches,
    guidance_direction,
    noise_with_embedding,
    rows_at_once,
)
from analysis.defaults import Default
from analysis.probing import probe_inputs
from analysis.question import question
from analysis.tables import of_run
from mpdit_core.model import MPDiT
from mpdit_core.runs import Run, Weights


class EmbeddingSettings(AttributionSettings):
    """Of fewer images: what is asked is a mean over them."""

    samples: int = 2


@question(version=1)
def class_carriers(run: Run, weights: Weights | str, settings: AttributionSettings) -> pd.DataFrame:
    """What carries the label's effect? One row per (block, branch, signal, timestep, image).

    The effect of a label is what it adds to the target (see `attribution_pass.along`): the mean
    square of predicted noise with the label minus that with the null label. Columns: run, weights;
    block (from 0; the final layer is block `depth`), branch (attn, mlp, final), signal (scale,
    shift, angle, gate, or gain of the output in the `head` era; branch and signal are `all` for a
    whole block), timestep, label, image (from 0, the same at every timestep); conductance (the
    part of the effect that comes through here on the path from the null label to the label),
    ablation (what is lost when this alone has its value for the null label), effect (of the label,
    all ways together), gap (all conductances minus the effect). Squared units of the noise, whose
    variance is 1. Raises NoSuchPoint, BadData."""
    model = run.model(weights)
    label_ways = LabelWays(model, run.name)
    probed = probe_inputs(run, model, settings)
    rows = rows_at_once(run.config)
    size = max(1, rows // settings.nodes)
    parts = [
        _carried(label_ways, batch, settings.nodes, rows)
        for batch in batches(probed, size, "Attribution")
    ]
    through, lost, effect = (torch.cat(columns).numpy() for columns in zip(*parts, strict=True))
    named = [*label_ways.ways, *((block, ALL, ALL) for block in _blocks(label_ways.ways))]
    return _tidy(run, weights, named, through, lost, effect, [
        (part.timestep, label, image)
        for part in probed for image, label in enumerate(part.labels.tolist())
    ])  # fmt: skip


def _blocks(named: Sequence[Way]) -> list[int]:
    return list(dict.fromkeys(block for block, _, _ in named))


def _carried(
    label_ways: LabelWays, batch: Batch, nodes: int, rows: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Conductance and loss, both (batch, ways and blocks), and the effect, (batch,)."""
    from captum.attr import FeatureAblation, IntegratedGradients  # slow to import

    noisy, timesteps, labels = batch
    null = torch.full_like(labels, label_ways.model.config.null_label)
    direction = guidance_direction(label_ways.model, noisy, timesteps, labels)
    given, start = label_ways.copies(labels), label_ways.copies(null)
    shown = (noisy, timesteps, direction)

    def target(copies: Tensor, noisy: Tensor, timesteps: Tensor, direction: Tensor) -> Tensor:
        return along(label_ways.noise(copies, noisy, timesteps), direction)

    # captum keeps state on the instance in batched methods (captum#333): an object for each job.
    found = IntegratedGradients(target).attribute(
        given, start, additional_forward_args=shown, n_steps=nodes, internal_batch_size=rows
    )
    through = found.detach().sum(dim=-1)
    member = torch.tensor([block for block, _, _ in label_ways.ways])
    of_block = [through[:, member == block].sum(dim=1) for block in _blocks(label_ways.ways)]
    each = torch.arange(len(label_ways.ways))
    ablated = [
        FeatureAblation(target).attribute(
            given, start, additional_forward_args=shown,
            feature_mask=group[None, :, None].expand(1, -1, given.shape[-1]),
            perturbations_per_eval=max(1, rows // len(labels)),
        )[..., 0]
        for group in (each, member)
    ]  # fmt: skip
    first = [label_ways.ways.index(next(w for w in label_ways.ways if w[0] == block))
             for block in _blocks(label_ways.ways)]  # fmt: skip
    lost = torch.cat([ablated[0], ablated[1][:, first]], dim=1)
    return torch.cat([through, torch.stack(of_block, 1)], 1), lost, along(direction, direction)


def _tidy(
    run: Run,
    weights: Weights | str,
    named: Sequence[Way],
    through: np.ndarray,
    lost: np.ndarray,
    effect: np.ndarray,
    shown: Sequence[tuple[int, int, int]],
) -> pd.DataFrame:
    """through, lost (images, named); effect (images,); shown: timestep, label, image."""
    images, count = through.shape
    blocks, branches, signals = zip(*named, strict=True)
    timestep, label, image = zip(*shown, strict=True)
    whole = np.array([signal == ALL for signal in signals])
    gap = through[:, whole].sum(axis=1) - effect
    table = pd.DataFrame(
        {
            "block": np.tile(np.array(blocks, np.int16), images),
            "branch": np.tile(np.array(branches, object), images),
            "signal": np.tile(np.array(signals, object), images),
            "timestep": np.repeat(np.array(timestep, np.int16), count),
            "label": np.repeat(np.array(label, np.int16), count),
            "image": np.repeat(np.array(image, np.int16), count),
            "conductance": through.ravel(),
            "ablation": lost.ravel(),
            "effect": np.repeat(effect, count),
            "gap": np.repeat(gap, count),
        }
    )
    return of_run(table, run, weights)


@question(version=1)
def embedding_attribution(
    run: Run, weights: Weights | str, settings: EmbeddingSettings
) -> pd.DataFrame:
    """Which channels of the label's embedding make its effect? Rows per (timestep, label, channel).

    Integrated gradients at `cond.y` from the null label's embedding to the label's, without a
    split by block. Columns: run, weights, timestep, label, channel (from 0), value (of the effect,
    mean over images), effect (mean square of predicted noise with the label minus that with the
    null label, mean over images), gap (all channels minus the effect), n (images). Raises
    NoSuchPoint, BadData."""
    model = run.model(weights)
    LabelWays(model, run.name)  # refuses a model that no label reaches
    probed = probe_inputs(run, model, settings)
    rows = rows_at_once(run.config)
    size = max(1, rows // settings.nodes)
    parts = [
        _by_channel(model, batch, settings.nodes, rows)
        for batch in batches(probed, size, "Integrated gradients")
    ]
    values, effect = (torch.cat(columns).numpy() for columns in zip(*parts, strict=True))
    timestep = np.concatenate([np.full(len(p.labels), p.timestep) for p in probed])
    label = np.concatenate([p.labels.numpy() for p in probed])
    return _means(run, weights, timestep, label, values, effect)


def _by_channel(model: MPDiT, batch: Batch, nodes: int, rows: int) -> tuple[Tensor, Tensor]:
    """Attributions of the channels, (batch, width), and the effect, (batch,)."""
    from captum.attr import IntegratedGradients  # slow to import

    noisy, timesteps, labels = batch
    null = torch.full_like(labels, model.config.null_label)
    direction = guidance_direction(model, noisy, timesteps, labels)
    table = model.condition.labels

    def target(embedded: Tensor, noisy: Tensor, timesteps: Tensor, direction: Tensor) -> Tensor:
        return along(noise_with_embedding(model, embedded, noisy, timesteps), direction)

    found = IntegratedGradients(target).attribute(
        table(labels), table(null), additional_forward_args=(noisy, timesteps, direction),
        n_steps=nodes, internal_batch_size=rows,
    )  # fmt: skip
    return found.detach(), along(direction, direction)


def _means(
    run: Run,
    weights: Weights | str,
    timestep: np.ndarray,
    label: np.ndarray,
    values: np.ndarray,
    effect: np.ndarray,
) -> pd.DataFrame:
    """values (images, width); the others (images,)."""
    rows = []
    for t, y in dict.fromkeys(zip(timestep.tolist(), label.tolist(), strict=True)):
        here = (timestep == t) & (label == y)
        mean, total = values[here].mean(axis=0), float(effect[here].mean())
        rows.append(
            pd.DataFrame(
                {
                    "timestep": t,
                    "label": y,
                    "channel": np.arange(values.shape[1], dtype=np.int16),
                    "value": mean,
                    "effect": np.float32(total),
                    "gap": np.float32(mean.sum() - total),
                    "n": int(here.sum()),
                }
            )
        )
    table = pd.concat(rows, ignore_index=True)
    return of_run(table, run, weights)


DEFAULTS = (
    Default(class_carriers, AttributionSettings()),
    Default(embedding_attribution, EmbeddingSettings()),
)

"""Which patches of the image make the label's effect, and which patches does it change?"""

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from analysis.attribution_pass import (
    SIX,
    AttributionSettings,
    LabelWays,
    along,
    guidance_direction,
    rows_at_once,
)
from analysis.defaults import Default
from analysis.probing import images_and_noise
from analysis.question import question
from analysis.tables import of_run
from mpdit_core.errors import InvalidConfig
from mpdit_core.model import MPDiT
from mpdit_core.progress import track
from mpdit_core.runs import Run, Weights
from mpdit_core.schedule import noise_schedule


class PatchSettings(AttributionSettings):
    """Held-out images alone: the path starts where the image is taken out of its noise, which
    nobody can do on a sampler's path. Not at t = 0: without noise the path leads from plain grey
    through pictures that no model was shown, and 64 nodes leave a gap as large as the effect."""

    timesteps: tuple[int, ...] = SIX[:-1]
    samples: int = 1
    nodes: int = 16


@question(version=1)
def patch_attribution(run: Run, weights: Weights | str, settings: PatchSettings) -> pd.DataFrame:
    """Which pixels make the label's effect? One row per (timestep, label, image, row, column).

    Integrated gradients of the effect (as a function of the noisy image, its direction held fixed)
    from the same noise without the image, in whose place is mean grey, to the noisy image. Columns:
    run, weights, timestep, label, image (from 0), row, column (pixels from 0); clean, noisy (the
    pixel in the model's units, mean over channels), value (attribution of the pixel, summed over
    channels), changed (what the pixel of the predicted noise has of the effect; these sum to it),
    effect (mean square of predicted noise with the label minus that with the null label), start
    (the effect without the image), gap (all attributions minus effect + start), patch (its side in
    pixels). Raises NoSuchPoint, BadData, InvalidConfig."""
    if settings.source != "noised":
        raise InvalidConfig(f"source was {settings.source}; patches need noised held-out images")
    model = run.model(weights)
    LabelWays(model, run.name)  # refuses a model that no label reaches
    labels = torch.tensor(settings.chosen_labels(run.config)).repeat_interleave(settings.samples)
    images, noise = images_and_noise(run, labels, settings.seed)
    schedule = noise_schedule(run.config.timesteps)
    # Label and null label are two rows of every point of the path.
    size = max(1, rows_at_once(run.config) // (2 * settings.nodes))
    parts = []
    timesteps = settings.chosen_timesteps(run.config)
    places = [(t, part) for t in timesteps for part in torch.arange(len(labels)).split(size)]
    for timestep, part in track(places, "Patches"):
        t = torch.full_like(labels[part], timestep)
        noisy = schedule.add_noise(images[part], noise[part], t)
        grey = schedule.add_noise(torch.zeros_like(noisy), noise[part], t)
        found = _of_batch(model, noisy, grey, t, labels[part], settings)
        parts.append(_tidy(part, timestep, labels[part], images[part], noisy, *found))
    table = pd.concat(parts, ignore_index=True)
    table["image"] = (table["image"] % settings.samples).astype(np.int16)
    return of_run(table, run, weights).assign(patch=np.int16(run.config.patch))


def _of_batch(
    model: MPDiT, noisy: Tensor, grey: Tensor, t: Tensor, labels: Tensor, settings: PatchSettings
) -> tuple[Tensor, Tensor, Tensor]:
    """Attributions and changes, like the images; the effect without the image, (batch,)."""
    from captum.attr import IntegratedGradients  # slow to import

    direction = guidance_direction(model, noisy, t, labels)

    def target(shown: Tensor, t: Tensor, labels: Tensor, direction: Tensor) -> Tensor:
        null = torch.full_like(labels, model.config.null_label)
        both = model(torch.cat([shown, shown]), t.repeat(2), torch.cat([labels, null]))
        with_label, without = both[:, : model.config.channels].chunk(2)
        return along(with_label - without, direction)

    found = IntegratedGradients(target).attribute(
        noisy, grey, additional_forward_args=(t, labels, direction), n_steps=settings.nodes,
        internal_batch_size=max(1, rows_at_once(model.config) // 2),
    )  # fmt: skip
    with torch.no_grad():
        start = target(grey, t, labels, direction)
    return found.detach(), direction.square() / direction[0].numel(), start


def _tidy(
    number: Tensor,
    timestep: int,
    labels: Tensor,
    images: Tensor,
    noisy: Tensor,
    found: Tensor,
    changed: Tensor,
    start: Tensor,
) -> pd.DataFrame:
    batch, _, side, across = images.shape
    effect = changed.flatten(1).sum(dim=1)
    gap = found.flatten(1).sum(dim=1) - (effect - start)
    row, column = np.indices((side, across))
    each = side * across

    def per_image(values: Tensor) -> np.ndarray:
        return values.numpy().repeat(each)

    return pd.DataFrame(
        {
            "timestep": np.int16(timestep),
            "label": per_image(labels.short()),
            "image": per_image(number.short()),
            "row": np.tile(row.ravel().astype(np.int16), batch),
            "column": np.tile(column.ravel().astype(np.int16), batch),
            "clean": images.mean(dim=1).flatten().numpy(),
            "noisy": noisy.mean(dim=1).flatten().numpy(),
            "value": found.sum(dim=1).flatten().numpy(),
            "changed": changed.sum(dim=1).flatten().numpy(),
            "effect": per_image(effect),
            "start": per_image(start),
            "gap": per_image(gap),
        }
    )


DEFAULTS = (Default(patch_attribution, PatchSettings()),)

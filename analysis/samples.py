"""What do the runs draw, from the same noise, for the same labels and guidance [MP figure 2]?"""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pandas as pd
import torch
from pydantic import Field
from torch import Tensor

from analysis.defaults import Default
from analysis.question import question
from mpdit_core.config import DataInfo
from mpdit_core.data import denormalize
from mpdit_core.errors import InvalidConfig
from mpdit_core.runs import Run, Weights
from mpdit_core.sampling import SamplerSettings, sample

DIGITS_GREY = (0.0, 1.0)
"""Paper and ink of the digits, in the units of their pixels."""

FINISHED = -1
"""Timestep of a finished image: one step cleaner than timestep 0, without noise."""


class SampleSettings(SamplerSettings):
    """How images are sampled and how often their way from noise to image is looked at.

    labels: one image each; empty means every label of the run. Image i starts from the noise of
    (seed, i), whatever the run. frames: states kept along the trajectory, first and last among
    them; 1 keeps the finished image alone."""

    guidance: float = Field(default=5.0, ge=0.0, le=50.0)
    labels: tuple[int, ...] = ()
    frames: int = Field(default=26, ge=1, le=1001)


@question(version=1)
def sampled_images(run: Run, weights: Weights | str, settings: SampleSettings) -> pd.DataFrame:
    """One row per (image, kept state): what the run draws for each label, and how it gets there.

    Columns: run, weights; label, seed, index (of the image, which fixes its noise); step (denoising
    steps done, 0 = pure noise); timestep (of this state; -1 = finished); channels, size (pixels a
    side); pixels (list of channels * size * size float32, row by row, in the units of the data).
    Raises InvalidConfig for a label the run does not have."""
    labels = settings.labels or tuple(range(run.config.classes))
    _refuse_unknown(run, labels)
    states = _trajectory(run, weights, labels, settings)
    rows = [
        _row(run, weights, label, settings.seed, index, step, timestep, image)
        for step, timestep, images in states
        for index, (label, image) in enumerate(zip(labels, images, strict=True))
    ]
    return pd.DataFrame(rows)


def pixel_correlations(table: pd.DataFrame) -> pd.DataFrame:
    """How alike do two runs draw from the same noise? One row a pair of runs, most alike first.

    table: `sampled_images` of several runs at one step. Columns: run, other; value (Pearson
    correlation over the pixels of an image, mean over images; 1 = the same but for contrast; nan
    where no two images have one size); n (images compared)."""
    images = {
        str(run): {(row.label, row.index_): row.pixels for row in rows.itertuples()}
        for run, rows in table.rename(columns={"index": "index_"}).groupby("run", sort=False)
    }
    rows = []
    for run, other in combinations(images, 2):
        shared = [
            key
            for key, pixels in images[run].items()
            if key in images[other] and len(pixels) == len(images[other][key])
        ]
        alike = [np.corrcoef(images[run][key], images[other][key])[0, 1] for key in shared]
        rows.append((run, other, float(np.mean(alike)) if alike else np.nan, len(shared)))
    pairs = pd.DataFrame(rows, columns=["run", "other", "value", "n"])
    return pairs.sort_values("value", ascending=False, ignore_index=True)


def grey_range(info: DataInfo) -> tuple[float, float]:
    """The values drawn black and white, the same for every run of these data.

    The digits' own range; for other data the mean and 2.5 standard deviations to either side."""
    if info.name == "digits":
        return DIGITS_GREY
    mean, std = float(np.mean(info.mean)), float(np.mean(info.std))
    return mean - 2.5 * std, mean + 2.5 * std


def expected_seconds(runs: Sequence[Run], settings: SampleSettings) -> float:
    """Rough duration on one core, for the words of a button.

    Products of the linear layers at 2e10 a second, and 1 ms a block whatever the batch (seen:
    6 blocks of width 64 take 11 ms a forward of 20 images)."""
    return sum(_seconds(run, settings) for run in runs)


def _seconds(run: Run, settings: SampleSettings) -> float:
    config = run.config
    images = len(settings.labels) or config.classes
    batch = images * (1 if settings.guidance == 1.0 else 2)
    products = batch * config.tokens * config.depth * config.width**2 * (4 + 2 * config.mlp_ratio)
    return settings.steps * (products / 2e10 + 1e-3 * config.depth)


def _refuse_unknown(run: Run, labels: tuple[int, ...]) -> None:
    unknown = [label for label in labels if not 0 <= label < run.config.classes]
    if unknown:
        raise InvalidConfig(
            f"Run {run.name!r} has no label {unknown[0]}; its labels are 0 to "
            f"{run.config.classes - 1}"
        )


def _trajectory(
    run: Run, weights: Weights | str, labels: tuple[int, ...], settings: SampleSettings
) -> list[tuple[int, int, Tensor]]:
    """Kept states as (steps done, timestep, images in units of the data), from noise to image."""
    kept = _kept_steps(settings)
    states: list[tuple[int, int, Tensor]] = []
    done = 0

    def keep(timestep: int, x: Tensor, _: Tensor) -> None:
        nonlocal done
        if done in kept:
            states.append((done, timestep, denormalize(x, run.data)))
        done += 1

    sampler = SamplerSettings(**settings.model_dump(include=set(SamplerSettings.model_fields)))
    images = sample(run.model(weights), torch.tensor(labels), sampler, on_step=keep)
    return [*states, (done, FINISHED, denormalize(images, run.data))]


def _kept_steps(settings: SampleSettings) -> set[int]:
    """Numbers of steps done at which a state is kept, evenly spread; the finished one apart."""
    if settings.frames == 1:
        return set()
    spread = np.linspace(0, settings.steps, min(settings.frames, settings.steps + 1))
    return set(spread.round().astype(int).tolist()) - {settings.steps}


def _row(
    run: Run,
    weights: Weights | str,
    label: int,
    seed: int,
    index: int,
    step: int,
    timestep: int,
    image: Tensor,
) -> dict[str, object]:
    return {
        "run": run.name,
        "weights": str(weights),
        "label": label,
        "seed": seed,
        "index": index,
        "step": step,
        "timestep": timestep,
        "channels": image.shape[0],
        "size": image.shape[1],
        "pixels": image.flatten().numpy().astype(np.float32),
    }


STRIP = SampleSettings(guidance=1.0, labels=(0, 2, 3, 5, 7, 8), frames=1)
"""Six images a run for its row in the table of runs: without guidance, as quality is measured."""

DEFAULTS = (Default(sampled_images, SampleSettings()), Default(sampled_images, STRIP))

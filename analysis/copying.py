"""Do samples copy the training set: are they nearer to it than images nobody trained on?"""

import math
from typing import Any

import numpy as np
import pandas as pd
import torch
from pydantic import Field
from scipy.stats import t as student
from torch import Tensor

from analysis.defaults import Default
from analysis.quality import EvaluateSettings, digits_of, draw
from analysis.question import question
from analysis.tables import of_run
from mpdit_core.data import DataSplit, denormalize
from mpdit_core.progress import track
from mpdit_core.runs import Run, Weights
from mpdit_core.sampling import Sampler

SAMPLES, HELD_OUT = "samples", "held-out"
TAIL = 0.05
"""The share of held-out images that counts as near to the training set."""


class CopySettings(EvaluateSettings):
    """The samples are those that quality is measured on; of the `pairs` of them that lie nearest to
    a training image the pixels are kept, with those of that image."""

    sampler: Sampler = "dpmpp"
    steps: int = Field(default=20, ge=1, le=1000)
    pairs: int = Field(default=10, ge=1, le=100)


@question(version=1)
def nearest_training(run: Run, weights: Weights | str, settings: CopySettings) -> pd.DataFrame:
    """How far is each sample, and each held-out image, from the training image nearest to it?

    One row an image. Columns: run, weights; images ("samples", "held-out"); seed (<NA> for real
    ones), index, label; value (Euclidean distance in standard deviations of the data: root of the
    sum over 64 pixels); nearest, nearest_label (number and label of the training image); pixels,
    training_pixels (lists of 64 float32 in the units of the data, for the nearest `pairs` samples;
    None for others). Raises BadData as `sample_quality` does."""
    data = digits_of(run)
    drawn = [
        (seed, draw(run, weights, data, settings, seed))
        for seed in track(settings.seeds, "Sampling seeds")
    ]
    labels = data.heldout_labels[: settings.n]
    parts = [_rows(SAMPLES, seed, images, labels, data) for seed, images in drawn]
    parts.append(_rows(HELD_OUT, None, data.heldout_images[: settings.n], labels, data))
    table = pd.concat(parts, ignore_index=True).astype({"seed": "Int64"})
    pixels = torch.cat([images for _, images in drawn])
    table = _with_pixels(table, pixels, data, settings.pairs)
    return of_run(table, run, weights)


def copying(table: pd.DataFrame) -> pd.DataFrame:
    """One row a run; table: `nearest_training` of any runs.

    Columns: run, weights; samples, held_out (mean distances); difference (samples - held-out; below
    0: nearer), low, high (its 95 % interval, Welch); near (share of samples nearer than the nearest
    5 % of held-out images; 0.05 if they lie alike); nearest (the smallest distance of a sample),
    n, n_held_out (images)."""
    rows = []
    for (run, weights), own in table.groupby(["run", "weights"], sort=False):
        drawn, real = (own.loc[own["images"] == kind, "value"].to_numpy()
                       for kind in (SAMPLES, HELD_OUT))  # fmt: skip
        low, high = _welch(drawn, real)
        rows.append(
            {"run": run, "weights": weights, "samples": drawn.mean(), "held_out": real.mean(),
             "difference": drawn.mean() - real.mean(), "low": low, "high": high,
             "near": float((drawn < np.quantile(real, TAIL)).mean()), "nearest": drawn.min(),
             "n": len(drawn), "n_held_out": len(real)}
        )  # fmt: skip
    return pd.DataFrame(rows)


def copying_sentence(found: pd.DataFrame) -> str:
    """Whether samples lie nearer than held-out images, in words; found: `copying`."""
    n, real = int(found["n"].min()), int(found["n_held_out"].min())
    counted = f"{n:,} samples a run, {real} held-out digits" if len(found) > 1 else (
        f"{n:,} samples, {real} held-out digits"
    )  # fmt: skip
    nearer = found[found["high"] < 0]
    if nearer.empty:
        row = found.loc[found["difference"].idxmin()]
        whose = f"Samples of {row['run']} do not" if len(found) == 1 else "Samples of no run"
        head = f"{whose} lie measurably nearer to the training images than held-out digits do"
        return f"{head}; {_apart(row, len(found) > 1)} ({counted})."
    row = nearer.loc[nearer["difference"].idxmin()]
    runs = ", ".join(nearer["run"])
    head = f"Samples of {runs} lie nearer to the training images than held-out digits do"
    return f"{head}; {_apart(row, len(found) > 1)} ({counted})."


def closest_pairs(table: pd.DataFrame, run: str) -> pd.DataFrame:
    """The samples of a run that lie nearest to a training image, nearest first, with pixels."""
    kept = table[(table["run"] == run) & table["pixels"].notna()]
    return kept.sort_values("value", ignore_index=True)


def _apart(row: pd.Series, named: bool) -> str:
    whose = f"nearest {row['run']}: " if named else ""
    return (
        f"{whose}mean distance {row['samples']:.2f} against {row['held_out']:.2f}, difference "
        f"{row['difference']:+.2f}, 95 % interval {row['low']:+.2f} to {row['high']:+.2f}"
    )


def _rows(
    kind: str, seed: int | None, images: Tensor, labels: Tensor, data: DataSplit
) -> pd.DataFrame:
    distances = torch.cdist(images.flatten(1), data.train_images.flatten(1))
    value, nearest = distances.min(dim=1)
    return pd.DataFrame(
        {
            "images": kind,
            "seed": seed,
            "index": np.arange(len(images)),
            "label": labels.numpy(),
            "value": value.numpy(),
            "nearest": nearest.numpy(),
            "nearest_label": data.train_labels[nearest].numpy(),
        }
    )


def _with_pixels(table: pd.DataFrame, drawn: Tensor, data: DataSplit, pairs: int) -> pd.DataFrame:
    """Pixels of the nearest samples; the first rows of the table are the drawn images in order."""
    own: list[Any] = [None] * len(table)
    training: list[Any] = [None] * len(table)
    for place in table["value"].head(len(drawn)).nsmallest(pairs).index:
        own[place] = _pixels(drawn[place], data)
        training[place] = _pixels(data.train_images[int(table.at[place, "nearest"])], data)
    return table.assign(pixels=own, training_pixels=training)


def _pixels(image: Tensor, data: DataSplit) -> np.ndarray:
    return denormalize(image.unsqueeze(0), data.info).flatten().numpy().astype(np.float32)


def _welch(values: np.ndarray, others: np.ndarray) -> tuple[float, float]:
    """95 % interval of the difference of two means, variances and sizes their own."""
    parts = [one.var(ddof=1) / len(one) for one in (values, others)]
    error = math.sqrt(sum(parts))
    if error == 0:
        return 0.0, 0.0
    freedom = error**4 / sum(
        part**2 / (len(one) - 1) for part, one in zip(parts, (values, others), strict=True)
    )
    half = float(student.ppf(0.975, freedom)) * error
    difference = float(values.mean() - others.mean())
    return difference - half, difference + half


DEFAULTS = (Default(nearest_training, CopySettings()),)

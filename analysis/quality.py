"""How good are a run's samples: are they read as their label, like real images, and new?"""

import warnings

import pandas as pd
import torch
from pydantic import Field
from torch import Tensor
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

from analysis.classifiers import digit_features, recognizer
from analysis.defaults import Default
from analysis.question import question
from analysis.tables import of_run
from mpdit_core.config import Seed
from mpdit_core.data import DataSplit, load_data
from mpdit_core.errors import BadData
from mpdit_core.noise import generator
from mpdit_core.progress import track
from mpdit_core.runs import Run, Weights
from mpdit_core.sampling import SamplerSettings, sample

HELD_OUT = 360
AT_ONCE = 120
"""Images in a batch: 360 at once take 1.6 times as long, because they leave the CPU's cache."""
RECOGNIZED, NEAREST = "recognized", "nearest_distance"
FRECHET, KERNEL = "frechet_distance", "kernel_distance"
OUTSIDE = "outside_range"
FAR_OUTSIDE = 1.0
"""A pixel this many ranges of the data below or above it has left the data altogether."""


class EvaluateSettings(SamplerSettings):
    """How many images are judged: n for each of the sampling seeds, labels as in the held-out part.

    At most 360, the number of held-out images: a Fréchet distance depends on n, so both of its
    sets always have the same size. `seed` is not used; `seeds` are."""

    n: int = Field(default=HELD_OUT, ge=2, le=HELD_OUT)
    seeds: tuple[Seed, ...] = Field(default=(0, 1, 2), min_length=1)


@question(version=3)
def sample_quality(run: Run, weights: Weights | str, settings: EvaluateSettings) -> pd.DataFrame:
    """How good are the samples? One row per (images, seed, statistic).

    Columns: run, weights; images ("samples", or for comparison "training" or "held-out" ones);
    seed (<NA> where nothing is drawn); statistic; value; n (images judged). Statistics:
    recognized: share whose label the support vector machine of `analysis.classifiers` reads;
    nearest_distance: mean Euclidean distance to the nearest training image, in standard deviations
    of the data (root of the sum over 64 pixels);
    frechet_distance, kernel_distance: to the n held-out images, in features of `DigitFeatures`;
    outside_range: share of samples with a pixel more than the data's whole range outside it. A
    single such image can make both distances arbitrarily large.
    Raises BadData for runs that do not draw digits."""
    data = digits_of(run)
    rows: list[tuple[str, int | None, str, float]] = _held_out_rows(data, settings.n)
    for seed in track(settings.seeds, "Sampling seeds"):
        drawn = draw(run, weights, data, settings, seed)
        rows += [("samples", seed, *row) for row in _judged(drawn, data)]
        real = _training_like(data, settings.n, seed)
        rows += [("training", seed, *row) for row in _likeness(real, data)]
    columns = ["images", "seed", "statistic", "value"]
    table = pd.DataFrame(rows, columns=columns).astype({"seed": "Int64"})
    return of_run(table, run, weights).assign(n=settings.n)


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Mean over the sampling seeds, and their spread; table: `sample_quality` of any runs.

    Columns: run, weights, images, statistic; value (mean over seeds), spread (standard deviation
    over seeds, nan for one), seeds (how many), n (images a seed)."""
    groups = table.groupby(["run", "weights", "images", "statistic"], sort=False)
    means = groups.agg(
        value=("value", "mean"), spread=("value", "std"), seeds=("value", "size"), n=("n", "first")
    )
    return means.reset_index()


def frechet_distance(images: Tensor, others: Tensor) -> float:
    """Fréchet distance between two sets of normalized digits, as Gaussians of their features.

    |mu - mu'|^2 + tr(S + S' - 2 (S S')^(1/2)), squared feature units. Biased at small n: compare
    only values of equal n."""
    distance = FrechetInceptionDistance(feature=digit_features(), normalize=True)
    distance.update(images, real=False)
    distance.update(others, real=True)
    return float(distance.compute())


def kernel_distance(images: Tensor, others: Tensor) -> float:
    """Squared maximum mean discrepancy of the features, kernel (x y / d + 1)^3; sets of equal size.

    Unbiased for sets drawn independently, unlike the Fréchet distance; our sets have
    the same labels in the same numbers, so that two real ones come out slightly below 0."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Metric `Kernel Inception Distance`")
        distance = KernelInceptionDistance(
            feature=digit_features(), subsets=1, subset_size=len(images)
        )
    distance.update(images, real=False)
    distance.update(others, real=True)
    with torch.random.fork_rng():  # it draws its subset, here all images in some order
        torch.manual_seed(0)
        return float(distance.compute()[0])


def nearest_distances(images: Tensor, others: Tensor) -> Tensor:
    """Euclidean distance of each image to the nearest of the others, (n,)."""
    return torch.cdist(images.flatten(1), others.flatten(1)).amin(dim=1)


def digits_of(run: Run) -> DataSplit:
    """The images the run was trained on. Raises BadData where they are no digits."""
    if run.data.name != "digits":
        raise BadData(
            f"Run {run.name!r} was trained on {run.data.name!r}; quality is measured for digits"
        )
    return load_data(run.data)


def draw(
    run: Run, weights: Weights | str, data: DataSplit, settings: EvaluateSettings, seed: int
) -> Tensor:
    """n samples of this seed with held-out labels, normalized. Raises BadData if not finite."""
    chosen = {"sampler", "steps", "guidance"}
    sampler = SamplerSettings(**settings.model_dump(include=chosen), seed=seed)
    model, labels = run.model(weights), data.heldout_labels[: settings.n]
    starts = range(0, settings.n, AT_ONCE)
    drawn = torch.cat(
        [
            sample(model, labels[start : start + AT_ONCE], sampler, first_index=start)
            for start in track(starts, "Batches")
        ]
    )
    finite = int(drawn.flatten(1).isfinite().all(dim=1).sum())
    if finite < len(drawn):
        raise BadData(
            f"Run {run.name!r} with weights {weights} draws {len(drawn) - finite} of {len(drawn)} "
            "images that are not finite; only finite images can be judged"
        )
    return drawn


def _judged(drawn: Tensor, data: DataSplit) -> list[tuple[str, float]]:
    marks = [_recognized(drawn, data), _nearest(drawn, data), *_likeness(drawn, data)]
    return [*marks, _outside(drawn, data)]


def _likeness(images: Tensor, data: DataSplit) -> list[tuple[str, float]]:
    held_out = data.heldout_images[: len(images)]
    return [
        (FRECHET, frechet_distance(images, held_out)),
        (KERNEL, kernel_distance(images, held_out)),
    ]


def _recognized(images: Tensor, data: DataSplit) -> tuple[str, float]:
    read = recognizer().labels_of(images)
    return RECOGNIZED, float((read == data.heldout_labels[: len(images)]).double().mean())


def _nearest(images: Tensor, data: DataSplit) -> tuple[str, float]:
    return NEAREST, float(nearest_distances(images, data.train_images).mean())


def _outside(images: Tensor, data: DataSplit) -> tuple[str, float]:
    low, high = float(data.train_images.min()), float(data.train_images.max())
    room = FAR_OUTSIDE * (high - low)
    beyond = (images < low - room) | (images > high + room)
    return OUTSIDE, float(beyond.flatten(1).any(dim=1).double().mean())


def _held_out_rows(data: DataSplit, n: int) -> list[tuple[str, int | None, str, float]]:
    """What real images that nobody trained on get: the marks that samples are measured against."""
    images = data.heldout_images[:n]
    return [("held-out", None, *row) for row in (_recognized(images, data), _nearest(images, data))]


def _training_like(data: DataSplit, n: int, seed: int) -> Tensor:
    """n training images drawn at random with the labels of the held-out ones, for comparison."""
    draw = generator(seed, "training images")
    members = [torch.nonzero(data.train_labels == label).flatten() for label in range(data.classes)]
    shuffled = [one[torch.randperm(len(one), generator=draw)].tolist() for one in members]
    chosen = [shuffled[label].pop() for label in data.heldout_labels[:n].tolist()]
    return data.train_images[chosen]


DEFAULTS = (Default(sample_quality, EvaluateSettings()),)

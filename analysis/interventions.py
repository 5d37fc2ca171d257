"""What changes in samples and in the stream when a part of the forward pass is changed?

"Before" is the same question without interventions: its result is computed once for a run, and
every list of interventions is compared with it, image by image from the same noise.
"""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import torch
from pydantic import Field
from torch import Tensor

from analysis.classifiers import recognizer
from analysis.defaults import Default
from analysis.question import question
from analysis.tables import of_run
from mpdit_core.config import ModelConfig
from mpdit_core.data import denormalize
from mpdit_core.errors import ImpossibleIntervention, InvalidConfig
from mpdit_core.interventions import AnyIntervention, ScaleAngle, SkipBranch, intervening
from mpdit_core.interventions.intervention import Intervention
from mpdit_core.model import MPDiT
from mpdit_core.points import visiting
from mpdit_core.progress import track
from mpdit_core.runs import Run, Weights
from mpdit_core.sampling import Sampler, SamplerSettings, sample, scheduler

AT_ONCE = 100
"""Images sampled together: a bound on memory."""
MOST_LABELS = 10
UNREADABLE = -1
"""Read in place of a digit where pixels are not finite."""


class InterventionSettings(SamplerSettings):
    """What is drawn, and what is changed in every forward pass while it is drawn.

    interventions: in the order in which they act; none is "before". labels: empty means every
    label, of more than ten ten evenly spread; image i is of label i modulo their number and starts
    from the noise of (seed, i), whatever the run. n: images. 25 DDIM steps draw what 50 do (97 to
    99 % recognized in A, E and scale-rotation with either)."""

    sampler: Sampler = "ddim"
    steps: int = Field(default=25, ge=1, le=1000)
    interventions: tuple[AnyIntervention, ...] = ()
    labels: tuple[int, ...] = ()
    n: int = Field(default=200, ge=1, le=10_000)

    def drawn(self, config: ModelConfig) -> Tensor:
        """The label of every image, (n,). Raises InvalidConfig for one that the run lacks."""
        spread = np.linspace(0, config.classes - 1, min(MOST_LABELS, config.classes))
        labels = self.labels or tuple(spread.round().astype(int).tolist())
        unknown = [label for label in labels if not 0 <= label < config.classes]
        if unknown:
            raise InvalidConfig(
                f"labels held {unknown[0]}; this model has labels 0 to {config.classes - 1}"
            )
        return torch.tensor(labels)[torch.arange(self.n) % len(labels)]


class StreamSettings(InterventionSettings):
    """Of fewer images; `moments`: denoising steps at which the stream is looked at."""

    n: int = Field(default=20, ge=1, le=1000)
    moments: int = Field(default=9, ge=1, le=1000)


@question(version=1)
def intervened_samples(
    run: Run, weights: Weights | str, settings: InterventionSettings
) -> pd.DataFrame:
    """What does the run draw under these interventions? One row per image.

    Columns: run, weights; label, seed, index (of the image, which fixes its noise); read (the digit
    that `analysis.classifiers` takes it for; -1 where pixels are not finite, <NA> for runs that do
    not draw digits); channels, size (pixels a side); pixels (list of channels * size * size
    float32, in the units of the data). Raises ImpossibleIntervention, InvalidConfig."""
    labels = settings.drawn(run.config)
    model = run.model(weights)
    with intervening(model, settings.interventions):
        images = _sampled(model, labels, settings)
    shown = denormalize(images, run.data).flatten(1).numpy().astype(np.float32)
    return pd.DataFrame(
        {
            "run": run.name,
            "weights": str(weights),
            "label": labels.numpy(),
            "seed": settings.seed,
            "index": np.arange(len(labels)),
            "read": pd.array(_read(run, images), dtype="Int64"),
            "channels": images.shape[1],
            "size": images.shape[2],
            "pixels": list(shown),
        }
    )


@question(version=1)
def intervened_stream(run: Run, weights: Weights | str, settings: StreamSettings) -> pd.DataFrame:
    """How large is the stream after every branch while the run draws under these interventions?

    One row per (block, branch, image, timestep). Columns: run, weights; block (from 0), branch,
    label, index (of the image), timestep; value: magnitude (root mean square over channels, mean
    over the image's tokens, no unit). Of guidance's two halves the one with the label."""
    labels = settings.drawn(run.config)
    model = run.model(weights)
    look = _Look(_moments(settings, run.config))
    with intervening(model, settings.interventions), visiting(look):
        _sampled(model, labels, settings, look.start)
    table = pd.DataFrame(look.rows, columns=["block", "branch", "index", "timestep", "value"])
    table["label"] = labels.numpy()[table["index"]]
    return of_run(table, run, weights)


def _sampled(
    model: MPDiT,
    labels: Tensor,
    settings: InterventionSettings,
    start: Callable[[int, int], None] = lambda first, count: None,
) -> Tensor:
    """Normalized images (n, channels, size, size); start is told of each part: first, count."""
    sampler = SamplerSettings(**settings.model_dump(include=set(SamplerSettings.model_fields)))
    parts = []
    for first in track(range(0, len(labels), AT_ONCE), "Images"):
        part = labels[first : first + AT_ONCE]
        start(first, len(part))
        parts.append(sample(model, part, sampler, first_index=first))
    return torch.cat(parts)


def _read(run: Run, images: Tensor) -> list[int | None]:
    if run.data.name != "digits":
        return [None] * len(images)
    finite = images.flatten(1).isfinite().all(dim=1)
    read = recognizer().labels_of(images.nan_to_num(0.0, 0.0, 0.0))
    return torch.where(finite, read, UNREADABLE).tolist()


def _moments(settings: StreamSettings, config: ModelConfig) -> set[int]:
    """Timesteps of the denoising steps looked at, evenly spread, first and last among them."""
    steps = scheduler(settings, config.timesteps).timesteps.tolist()
    chosen = np.linspace(0, len(steps) - 1, min(settings.moments, len(steps)))
    return {steps[place] for place in chosen.round().astype(int)}


class _Look:
    """A visitor that keeps the magnitude of the stream, image by image, at some timesteps."""

    def __init__(self, timesteps: set[int]) -> None:
        self.timesteps, self.rows = timesteps, []
        self.first, self.count, self.now = 0, 0, -1

    def start(self, first: int, count: int) -> None:
        """The images that come next; a second half of the batch, of the null label, is left."""
        self.first, self.count = first, count

    def begin(self, timesteps: Tensor, labels: Tensor) -> None:
        self.now = int(timesteps[0])

    def wants(self, name: str) -> bool:
        return False

    def visit(self, name: str, tensor: Tensor) -> Tensor:
        if self.now in self.timesteps and name.endswith(".resid"):
            _, block, branch, _ = name.split(".")
            tokens = tensor[: self.count].float().square().mean(dim=-1).sqrt()
            for place, value in enumerate(tokens.mean(dim=-1).tolist()):
                self.rows.append((int(block), branch, self.first + place, self.now, value))
        return tensor


def example(config: ModelConfig) -> tuple[AnyIntervention, ...]:
    """What a page starts with: no rotation where there is one, else a skipped MLP in the middle."""
    if "rotation" in config.block_modulation:
        return (ScaleAngle(factor=0.0),)
    return (SkipBranch(blocks=((config.depth - 1) // 2,), branches=("mlp",)),)


def fitting(
    runs: Sequence[Run], interventions: Sequence[Intervention]
) -> tuple[list[Run], list[str]]:
    """The runs where all interventions can act, and one sentence for each of the others."""
    able, sentences = [], []
    for run in runs:
        try:
            for intervention in interventions:
                intervention.check(run.config)
            able.append(run)
        except ImpossibleIntervention as error:
            sentences.append(f"{run.name}: {error}.")
    return able, sentences


def expected_seconds(runs: Sequence[Run], settings: InterventionSettings) -> float:
    """Rough duration of drawing once on one core, for the words of a button.

    Products of the linear layers at 1e10 a second (seen: 200 images of A or E, 0.1 s a forward)
    and 1 ms a block."""
    return sum(_seconds(run.config, settings) for run in runs)


def _seconds(config: ModelConfig, settings: InterventionSettings) -> float:
    batch = settings.n * (1 if settings.guidance == 1.0 else 2)
    products = batch * config.tokens * config.depth * config.width**2 * (4 + 2 * config.mlp_ratio)
    return settings.steps * (products / 1e10 + 1e-3 * config.depth)


NO_ROTATION = (ScaleAngle(factor=0.0),)
NO_THIRD_MLP = (SkipBranch(blocks=(2,), branches=("mlp",)),)
ROTATED = ("scale-gate-rotation", "scale-rotation", "rotation")

DEFAULTS = tuple(
    Default(asked, settings(interventions=interventions), runs=runs)
    for asked, settings in (
        (intervened_samples, InterventionSettings),
        (intervened_stream, StreamSettings),
    )
    for interventions, runs in (((), ()), (NO_THIRD_MLP, ()), (NO_ROTATION, ROTATED))
)

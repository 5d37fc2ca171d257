"""What a model is shown when it is probed, and the tidy tables of what was recorded there.

Inputs are held-out images noised to a timestep, or the sampler's own path; both come from
`probe_inputs` and are the same for every run that is compared: images, labels and noise depend on
the settings alone.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
import torch
from pydantic import Field
from torch import Tensor

from mpdit_core.config import ModelConfig, Seed, Settings
from mpdit_core.data import DataSplit, load_data
from mpdit_core.errors import BadData, InvalidConfig
from mpdit_core.model import MPDiT
from mpdit_core.noise import generator
from mpdit_core.points import visiting
from mpdit_core.probes import PointInfo
from mpdit_core.progress import track
from mpdit_core.recorder import PointStatistics, Recorder
from mpdit_core.runs import Run, Weights
from mpdit_core.sampling import Sampler, SamplerSettings, sample
from mpdit_core.schedule import noise_schedule
from mpdit_core.statistics import bin_edges

NOISE_TO_IMAGE = (*range(999, 0, -50), 0)
"""21 timesteps in the order of sampling: 999, 949, ... 49, 0."""

NUMBERS_AT_ONCE = 1 << 19
"""Numbers in one tensor of the widest kind; a bound on memory and, on CPUs, the fastest size."""


class ProbeSettings(Settings):
    """What a model is shown.

    timesteps; labels: empty means `most_labels` classes, evenly spaced, and the null label;
    samples: images per timestep and label. source: held-out images "noised" to the timestep, or
    the "trajectory" of `sampler` with `steps` steps and `guidance` (1 is none), whose timesteps
    nearest to those asked for are recorded. seed fixes all noise."""

    timesteps: tuple[int, ...] = NOISE_TO_IMAGE
    labels: tuple[int, ...] = ()
    most_labels: int = Field(default=10, ge=0)
    samples: int = Field(default=8, ge=1, le=10_000)
    source: Literal["noised", "trajectory"] = "noised"
    sampler: Sampler = "ddim"
    steps: int = Field(default=40, ge=1, le=1000)
    guidance: float = Field(default=1.0, ge=0.0, le=50.0)
    seed: Seed = 0

    def chosen_labels(self, config: ModelConfig) -> tuple[int, ...]:
        """The labels, each once. Raises InvalidConfig for one that the model does not have."""
        count = min(self.most_labels, config.classes)
        spread = np.linspace(0, config.classes - 1, count).round().astype(int).tolist()
        labels = self.labels or (*spread, config.null_label)
        impossible = [label for label in labels if not 0 <= label <= config.null_label]
        if impossible:
            raise InvalidConfig(
                f"labels held {impossible[0]}; this model has 0 to {config.classes - 1}, and "
                f"{config.null_label} for the null label"
            )
        return tuple(dict.fromkeys(labels))

    def chosen_timesteps(self, config: ModelConfig) -> tuple[int, ...]:
        """The timesteps, noisiest first. Raises InvalidConfig for one outside the schedule."""
        impossible = [t for t in self.timesteps if not 0 <= t < config.timesteps]
        if impossible or not self.timesteps:
            raise InvalidConfig(
                f"timesteps were {self.timesteps}; name at least one of 0 to {config.timesteps - 1}"
            )
        return tuple(sorted(set(self.timesteps), reverse=True))


@dataclass(frozen=True)
class ProbeInput:
    """Inputs of one timestep: noisy (n, channels, size, size), timestep, labels (n,)."""

    noisy: Tensor
    timestep: int
    labels: Tensor


def probe_inputs(run: Run, model: MPDiT, settings: ProbeSettings) -> list[ProbeInput]:
    """One entry per timestep, noisiest first; label by label, `samples` of each.

    Raises BadData where held-out images are asked for and the run's data are not at hand."""
    chosen = settings.chosen_labels(run.config)
    labels = torch.tensor(chosen).repeat_interleave(settings.samples)
    if settings.source == "noised":
        return _noised(run, labels, settings)
    return _trajectory(model, labels, settings)


def _noised(run: Run, labels: Tensor, settings: ProbeSettings) -> list[ProbeInput]:
    images, noise = images_and_noise(run, labels, settings.seed)
    schedule = noise_schedule(run.config.timesteps)
    return [
        ProbeInput(schedule.add_noise(images, noise, torch.full_like(labels, t)), t, labels)
        for t in settings.chosen_timesteps(run.config)
    ]


def images_and_noise(run: Run, labels: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """What noised inputs are mixed from: held-out images of the labels, and their noise.

    Both (n, channels, size, size), images normalized. Raises BadData."""
    images = _heldout(run, labels)
    draws = [generator(seed, "probe", index) for index in range(len(labels))]
    return images, torch.stack([torch.randn(images.shape[1:], generator=draw) for draw in draws])


def _heldout(run: Run, labels: Tensor) -> Tensor:
    """A held-out image per entry of labels, of that label; any image where it is the null label."""
    data = _data_of(run)
    used: dict[int, int] = {}
    picked = []
    for label in labels.tolist():
        null = label == run.config.null_label
        of_label = data.heldout_labels == label
        pool = torch.arange(len(of_label)) if null else of_label.nonzero().flatten()
        if len(pool) == 0:
            raise BadData(f"No held-out image of run {run.name!r} has label {label}; {_OTHER_WAY}")
        place = used[label] = used.get(label, -1) + 1
        picked.append(pool[place % len(pool)])
    return data.heldout_images[torch.stack(picked)]


_OTHER_WAY = "its sampler's own path (source trajectory) can be probed instead"


def _data_of(run: Run) -> DataSplit:
    try:
        data = load_data(run.data)
    except BadData as error:
        raise BadData(
            f"Held-out images of run {run.name!r} are not at hand ({error}); {_OTHER_WAY}"
        ) from None
    shape = tuple(data.heldout_images.shape[1:])
    wanted = (run.config.channels, run.config.size, run.config.size)
    if shape != wanted:
        raise BadData(
            f"Run {run.name!r} takes images {wanted}, but its data {run.data.name!r} are {shape}; "
            f"{_OTHER_WAY}"
        )
    return data


def _trajectory(model: MPDiT, labels: Tensor, settings: ProbeSettings) -> list[ProbeInput]:
    """What enters the model on the sampler's path, at the steps nearest to the timesteps."""
    passed: dict[int, Tensor] = {}

    def keep(timestep: int, noisy: Tensor, _image: Tensor) -> None:
        passed[timestep] = noisy

    steps = SamplerSettings(
        sampler=settings.sampler,
        steps=settings.steps,
        guidance=settings.guidance,
        seed=settings.seed,
    )
    sample(model, labels, steps, on_step=keep)
    asked = settings.chosen_timesteps(model.config)
    nearest = {min(passed, key=lambda step: abs(step - t)) for t in asked}
    return [ProbeInput(passed[t], t, labels) for t in sorted(nearest, reverse=True)]


@dataclass(frozen=True)
class Recording:
    """What was recorded of one run and its weights, point by point in the order of computation."""

    run: str
    weights: str
    points: list[PointStatistics]


def record(
    run: Run, weights: Weights | str, patterns: str | Iterable[str], settings: ProbeSettings
) -> Recording:
    """Statistics at the points that match the patterns. Raises NoSuchPoint, BadData."""
    model = run.model(weights)
    recorder = Recorder(run.config, patterns)
    with torch.no_grad():
        probed = probe_inputs(run, model, settings)
        with visiting(recorder):
            run_through(model, probed)
    return Recording(run.name, str(weights), recorder.statistics())


def run_through(
    model: MPDiT,
    probed: Sequence[ProbeInput],
    each: Callable[[Tensor, Tensor, Tensor], object] | None = None,
) -> None:
    """Forward passes over all inputs, in batches of a size that suits the model.

    each: called with (noisy, timesteps, labels) of a batch in place of the model."""
    config = model.config
    noisy = torch.cat([part.noisy for part in probed])
    labels = torch.cat([part.labels for part in probed])
    timesteps = torch.cat([torch.full_like(part.labels, part.timestep) for part in probed])
    numbers = config.tokens * config.mlp_ratio * config.width
    size = max(1, NUMBERS_AT_ONCE // numbers)
    parts = list(zip(noisy.split(size), timesteps.split(size), labels.split(size), strict=True))
    for part in track(parts, "Recording"):
        (each or model)(*part)


def tidy(recording: Recording) -> pd.DataFrame:
    """One row per (point, timestep, label, statistic), and per bin of the histogram.

    Columns: run, weights, block (from 0; -1 before the blocks, depth for the final layer), branch
    (attn, mlp or empty), point (its last word: resid), timestep, label, statistic, bin, value, n
    (vectors). Statistics, of the magnitude (root mean square over features, no unit): mean,
    variance, largest; and peak (largest absolute value of a feature), nonfinite (how many values
    are not), histogram (vectors whose magnitude lies in the bin; bin is the log2 of its lower
    edge, only bins that are not empty; missing for other statistics)."""
    parts = [_tidy_point(statistics) for statistics in recording.points]
    table = pd.concat(parts, ignore_index=True)
    return _named(table, recording)


STATISTICS = ("mean", "variance", "largest", "peak", "nonfinite")


def _tidy_point(statistics: PointStatistics) -> pd.DataFrame:
    cells = len(statistics.timestep)
    index = np.tile(np.arange(cells), len(STATISTICS))
    values = np.concatenate([getattr(statistics, name) for name in STATISTICS]).astype(float)
    names = np.repeat(np.array(STATISTICS, dtype=object), cells)
    filled, bins = statistics.histogram.nonzero()
    lower = np.concatenate([np.full(len(index), np.nan), bin_edges()[bins]])
    index = np.concatenate([index, filled])
    table = pd.DataFrame(
        {
            "timestep": statistics.timestep[index],
            "label": statistics.label[index],
            "statistic": np.concatenate([names, np.full(len(filled), "histogram", dtype=object)]),
            "bin": lower,
            "value": np.concatenate([values, statistics.histogram[filled, bins]]),
            "n": statistics.count[index],
        }
    )
    return _placed(table, statistics.point)


def tidy_channels(recording: Recording) -> pd.DataFrame:
    """Stream and branch points only, labels together: one row per (point, timestep, statistic,
    channel).

    Columns as `tidy`, without label and bin, and channel (from 0; -1 for all together).
    Statistics: mean_square and peak (largest absolute value) of a channel; of_mean and centred
    (the parts of the mean square over all channels that belong to the mean over tokens and to
    the rest)."""
    parts = [_tidy_channels(statistics) for statistics in recording.points if statistics.channels]
    return _named(pd.concat(parts, ignore_index=True), recording)


def _tidy_channels(statistics: PointStatistics) -> pd.DataFrame:
    channels = statistics.channels
    assert channels is not None
    times, width = channels.mean_square.shape
    each, together = np.tile(np.arange(width), times), np.full(times, -1)
    parts = [
        ("mean_square", channels.mean_square.ravel(), each),
        ("peak", channels.peak.ravel(), each),
        ("of_mean", channels.of_mean, together),
        ("centred", channels.centred, together),
    ]
    tables = [
        pd.DataFrame(
            {
                "timestep": np.repeat(channels.timestep, len(values) // times),
                "channel": channel,
                "statistic": name,
                "value": values,
                "n": np.repeat(channels.count, len(values) // times),
            }
        )
        for name, values, channel in parts
    ]
    return _placed(pd.concat(tables, ignore_index=True), statistics.point)


def _placed(table: pd.DataFrame, point: PointInfo) -> pd.DataFrame:
    table.insert(0, "block", point.place)
    table.insert(1, "branch", point.branch)
    table.insert(2, "point", point.word)
    return table


def _named(table: pd.DataFrame, recording: Recording) -> pd.DataFrame:
    table.insert(0, "run", recording.run)
    table.insert(1, "weights", recording.weights)
    return table

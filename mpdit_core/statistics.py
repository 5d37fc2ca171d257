"""Running statistics of token magnitudes and channels, merged batch by batch.

Magnitude of a vector x of n features: sqrt(mean_i x_i^2); 1 is "preserved". Cells are pairs of
(timestep, label). Memory depends on the number of cells, not on the number of samples.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

BINS_PER_OCTAVE = 8
LOWEST_OCTAVE, HIGHEST_OCTAVE = -12, 12
INNER_BINS = BINS_PER_OCTAVE * (HIGHEST_OCTAVE - LOWEST_OCTAVE)
BINS = INNER_BINS + 2
"""The histogram's bins: small ones (zero too), 8 per factor of 2, and large ones.

A bin lies around 1 and every other power of 2^(1/8): were 1, "preserved", an edge, rounding would
spread equal tokens over two bins."""


def bin_edges() -> np.ndarray:
    """log2 of the bins' edges, (BINS + 1,), first -inf and last inf."""
    inner = LOWEST_OCTAVE + (np.arange(INNER_BINS + 1) - 0.5) / BINS_PER_OCTAVE
    return np.concatenate([[-np.inf], inner, [np.inf]])


def bin_of(magnitude: Tensor) -> Tensor:
    """Index of the histogram's bin of each magnitude, int64; 0 magnitude falls in bin 0."""
    place = magnitude.log2().sub_(LOWEST_OCTAVE).mul_(BINS_PER_OCTAVE).add_(1.5)
    return place.clamp_(0, BINS - 1).long()  # below the first edge 0 to 1 truncates to 0


@dataclass(frozen=True)
class Batch:
    """Samples of one or more forward passes at the points of one group, reduced over features.

    squares (points, batch, vectors): sum of squares of each vector, NaN where the vector is left
    out; peak (points, batch): largest absolute value; nonfinite (points, batch): values left out
    because their square is not finite in float32; features: numbers in each vector. Per channel,
    (points, batch, features), or None: sum of squares, largest square, mean over the vectors."""

    squares: Tensor
    peak: Tensor
    nonfinite: Tensor
    features: int
    channel_squares: Tensor | None = None
    channel_peak: Tensor | None = None
    channel_mean: Tensor | None = None


class _Grows:
    """Tensors (points, cells, ...) to which cells are added as they are met."""

    def _grow(self, total: int) -> None:
        for name, tensor in vars(self).items():
            missing = total - tensor.shape[1]
            if missing > 0:
                more = tensor.new_zeros(tensor.shape[0], missing, *tensor.shape[2:])
                setattr(self, name, torch.cat([tensor, more], dim=1))


class Moments(_Grows):
    """Count, mean and sum of squared deviations per (point, cell), merged by Chan's formula.

    All (points, cells), float64: count, mean, deviations (divide by count for the variance),
    largest magnitude, peak (largest absolute value), nonfinite; histogram (points, cells, BINS)."""

    def __init__(self, points: int) -> None:
        self.count, self.mean, self.deviations = (_zeros(points, 0) for _ in range(3))
        self.largest, self.peak, self.nonfinite = (_zeros(points, 0) for _ in range(3))
        self.histogram = torch.zeros(points, 0, BINS, dtype=torch.int64)

    def add(self, batch: Batch, rows: Tensor, cells: Tensor, total: int) -> None:
        """Merge a batch. rows (points,): which points; cells (batch,): the cell of each sample;
        total: number of cells so far."""
        self._grow(total)
        magnitude = (batch.squares / batch.features).sqrt_()
        clean = math.isfinite(float(magnitude.sum()))
        count, mean, deviations = _moments(magnitude) if clean else _moments_of_finite(magnitude)
        met, where = cells.unique(return_inverse=True)
        self._merge(count, mean, deviations, rows, met, where)
        place = (rows[:, None], met[None, :])
        finite = magnitude
        if not clean:
            finite = torch.where(magnitude.isfinite(), magnitude, 0.0)
            more = torch.zeros_like(self.nonfinite[place], dtype=torch.float64)
            self.nonfinite[place] += more.index_add_(1, where, batch.nonfinite.double())
        largest = finite.amax(-1).double()
        self.largest[place] = _raised(self.largest[place], where, largest)
        self.peak[place] = _raised(self.peak[place], where, batch.peak.double())
        self.histogram[place] += _histogram(magnitude, where, len(met), clean)

    def _merge(
        self,
        count: Tensor,
        mean: Tensor,
        deviations: Tensor,
        rows: Tensor,
        met: Tensor,
        where: Tensor,
    ) -> None:
        """Chan, Golub and LeVeque 1979, for all samples of a cell and what is there already.

        met (cells of the batch,): which cells; where (batch,): the place in it of each sample."""
        place = (rows[:, None], met[None, :])
        old_count, old_mean = self.count[place], self.mean[place]
        new_count = old_count.index_add(1, where, count)
        weighted = (old_count * old_mean).index_add(1, where, count * mean)
        new_mean = weighted / new_count.clamp(min=1)
        between = deviations + count * (mean - new_mean[:, where]).square()
        old = self.deviations[place] + old_count * (old_mean - new_mean).square()
        self.count[place], self.mean[place] = new_count, new_mean
        self.deviations[place] = old.index_add(1, where, between)


class Channels(_Grows):
    """Per (point, timestep): every channel's mean square and largest absolute value, and how much
    of the mean square is that of the mean over tokens. Sums in float64.

    count (points, times): vectors; samples (points, times); squares (points, times, channels):
    sums; peak (points, times, channels): largest squares; of_mean (points, times): sum over
    samples of the mean square (over channels) of the sample's mean vector."""

    def __init__(self, points: int, channels: int) -> None:
        self.count, self.samples, self.of_mean = (_zeros(points, 0) for _ in range(3))
        self.squares = torch.zeros(points, 0, channels, dtype=torch.float64)
        self.peak = torch.zeros(points, 0, channels, dtype=torch.float64)

    def add(self, batch: Batch, rows: Tensor, times: Tensor, total: int) -> None:
        """Merge a batch; times (batch,): index of the timestep of each sample."""
        if batch.channel_squares is None or batch.channel_peak is None:
            return
        assert batch.channel_mean is not None
        self._grow(total)
        count = batch.squares.isfinite().sum(-1, dtype=torch.float64)
        share = count / batch.squares.shape[-1]
        # The mean was taken over all vectors; those left out were put in as zeros.
        of_mean = batch.channel_mean.square().mean(-1).double() / share.clamp(min=1e-12).square()
        whole, met = len(rows) == len(self.count), times.unique().tolist()
        # A loop over the timesteps of the batch: gathering them at once costs more than it saves.
        for time in met:
            samples = slice(None) if len(met) == 1 else (times == time).nonzero().flatten()
            at = (slice(None) if whole else rows, time)
            self.count[at] += count[:, samples].sum(1)
            self.samples[at] += (count[:, samples] > 0).sum(1)
            self.of_mean[at] += of_mean[:, samples].sum(1)
            self.squares[at] += batch.channel_squares[:, samples].sum(1)
            peak = batch.channel_peak[:, samples].amax(1)
            self.peak[at] = torch.maximum(self.peak[at], peak.double())


def _moments(magnitude: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Count, mean, sum of squared deviations over the last dimension, float64."""
    # Two passes: torch.var_mean takes 8 times as long along the last dimension.
    mean = magnitude.mean(-1, keepdim=True)
    deviations = (magnitude - mean).square_().sum(-1)
    count = torch.full_like(deviations, magnitude.shape[-1], dtype=torch.float64)
    return count, mean.squeeze(-1).double(), deviations.double()


def _moments_of_finite(magnitude: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """As `_moments`, of the finite values alone."""
    good = magnitude.isfinite()
    count = good.sum(-1, dtype=torch.float64)
    safe = torch.where(good, magnitude, 0.0).double()
    mean = safe.sum(-1) / count.clamp(min=1)
    centred = torch.where(good, safe - mean.unsqueeze(-1), 0.0)
    return count, mean, centred.square().sum(-1)


def _histogram(magnitude: Tensor, where: Tensor, cells: int, clean: bool) -> Tensor:
    """Vectors per bin, (points, cells, BINS); unless all are clean, the finite ones alone."""
    points = len(magnitude)
    cell = torch.arange(points)[:, None] * cells + where[None, :]
    flat = bin_of(magnitude if clean else magnitude.nan_to_num(0.0))
    flat += cell.unsqueeze(-1) * BINS
    kept = flat.flatten() if clean else flat[magnitude.isfinite()]
    return torch.bincount(kept, minlength=points * cells * BINS).view(points, cells, BINS)


def _zeros(*shape: int) -> Tensor:
    return torch.zeros(shape, dtype=torch.float64)


def _raised(before: Tensor, where: Tensor, values: Tensor) -> Tensor:
    """The larger of what was there (points, cells) and the values (points, batch) of each cell."""
    return before.scatter_reduce(1, where[None, :].expand_as(values), values, "amax")

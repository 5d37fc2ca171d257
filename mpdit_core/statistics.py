"""Running statistics of token magnitudes and channels, merged batch by batch.

Magnitude of a vector x of n features: sqrt(mean_i x_i^2); 1 is "preserved". Cells are pairs of
(timestep, label). Memory depends on the number of cells, not on the number of samples.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

BINS_PER_OCTAVE = 8
LOWEST_OCTAVE, HIGHEST_OCTAVE = -12, 12
INNER_BINS = BINS_PER_OCTAVE * (HIGHEST_OCTAVE - LOWEST_OCTAVE)
BINS = INNER_BINS + 2
"""The histogram's bins: below 2^-12 (zero too), 8 per factor of 2, and from 2^12 on."""


def bin_edges() -> np.ndarray:
    """log2 of the bins' edges, (BINS + 1,), first -inf and last inf."""
    inner = LOWEST_OCTAVE + np.arange(INNER_BINS + 1) / BINS_PER_OCTAVE
    return np.concatenate([[-np.inf], inner, [np.inf]])


def bin_of(magnitude: Tensor) -> Tensor:
    """Index of the histogram's bin of each magnitude, int64; 0 magnitude falls in bin 0."""
    place = (magnitude.log2() - LOWEST_OCTAVE) * BINS_PER_OCTAVE + 1
    return place.clamp_(0, BINS - 1).long()  # below the first edge 0 to 1 truncates to 0


@dataclass(frozen=True)
class Batch:
    """One forward pass at the points of one group, reduced over features.

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
        good = magnitude.isfinite()
        safe = torch.where(good, magnitude, 0.0)
        count = good.sum(-1, dtype=torch.float64)
        mean = safe.sum(-1, dtype=torch.float64) / count.clamp(min=1)
        centred = torch.where(good, magnitude - mean.float().unsqueeze(-1), 0.0)
        # The mean was rounded to float32 for the difference; the correction is exact.
        shift = mean - mean.float()
        deviations = centred.square().sum(-1, dtype=torch.float64) - count * shift.square()
        self._merge(count, mean, deviations, rows, cells)
        place = (rows[:, None], cells[None, :])
        _raise(self.largest, place, safe.amax(-1).double())
        _raise(self.peak, place, batch.peak.double())
        self.nonfinite.index_put_(place, batch.nonfinite.double(), accumulate=True)
        flat = (rows[:, None] * total + cells[None, :]).unsqueeze(-1) * BINS + bin_of(safe)
        ones = good.to(torch.int64).flatten()
        self.histogram.view(-1).index_add_(0, flat.flatten(), ones)

    def _merge(
        self, count: Tensor, mean: Tensor, deviations: Tensor, rows: Tensor, cells: Tensor
    ) -> None:
        """Chan, Golub and LeVeque 1979, for all samples of a cell and what is there already."""
        met, where = cells.unique(return_inverse=True)
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
        met, where = times.unique(return_inverse=True)
        place = (rows[:, None], met[None, :])
        count = batch.squares.isfinite().sum(-1, dtype=torch.float64)
        share = count / batch.squares.shape[-1]
        # The mean was taken over all vectors; those left out were put in as zeros.
        of_mean = batch.channel_mean.square().mean(-1).double() / share.clamp(min=1e-12).square()
        self.count[place] = self.count[place].index_add(1, where, count)
        self.samples[place] = self.samples[place].index_add(1, where, (count > 0).double())
        self.of_mean[place] = self.of_mean[place].index_add(1, where, of_mean)
        shape = (len(rows), len(met), batch.features)
        summed = torch.zeros(shape).index_add_(1, where, batch.channel_squares)
        self.squares[place] += summed
        index = where[None, :, None].expand_as(batch.channel_peak)
        peak = torch.zeros(shape).scatter_reduce_(1, index, batch.channel_peak, "amax")
        self.peak[place] = torch.maximum(self.peak[place], peak.double())


def _zeros(*shape: int) -> Tensor:
    return torch.zeros(shape, dtype=torch.float64)


def _raise(target: Tensor, place: tuple[Tensor, Tensor], values: Tensor) -> None:
    """target[place] = max(target[place], values), samples of one cell together."""
    rows, cells = place
    met, where = cells.flatten().unique(return_inverse=True)
    inside = (rows, met[None, :])
    index = where[None, :].expand_as(values)
    target[inside] = target[inside].scatter_reduce_(1, index, values, "amax")

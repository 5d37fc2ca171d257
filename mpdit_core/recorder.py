"""A visitor that reduces every tensor it sees to statistics, inside the hook, in float32.

Reductions over features and tokens run while the tensor is still in the processor's cache; what
is left (a number a token, three a channel) waits until a few passes can be merged in one go, so
that the small operations are paid once for all of them and not once a point.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch
from torch import Tensor

from mpdit_core.config import ModelConfig
from mpdit_core.probes import Kind, PointInfo, select
from mpdit_core.statistics import Batch, Channels, Moments

SCRATCH = 1 << 18
"""Numbers squared at once: 1 MiB of float32 stays in a core's second-level cache."""

WAITING = 64
"""Samples of earlier passes that wait to be merged together (one pass, if it has more)."""

SMALL: tuple[Kind, ...] = ("signal", "angle", "rows")
"""Kinds whose tensors are kept whole until the end of the forward pass, being small."""


@dataclass(frozen=True)
class PointStatistics:
    """What was recorded at one point; rows of the arrays are cells, or timesteps.

    timestep, label (cells,): the cells; count (cells,): vectors; mean, variance, largest
    (cells,): of their magnitude (of the value itself for the entropy); peak (cells,): largest
    absolute value; nonfinite (cells,): values that are NaN, infinite or beyond 1.8e19, whose
    vectors count nowhere else; histogram (cells, BINS): vectors per bin of log2 magnitude.
    At stream and branch points also `channels`."""

    point: PointInfo
    timestep: np.ndarray
    label: np.ndarray
    count: np.ndarray
    mean: np.ndarray
    variance: np.ndarray
    largest: np.ndarray
    peak: np.ndarray
    nonfinite: np.ndarray
    histogram: np.ndarray
    channels: "ChannelStatistics | None" = None


@dataclass(frozen=True)
class ChannelStatistics:
    """Per timestep, labels together: timestep, count (times,); mean_square, peak (times, width).

    The mean square over all channels is the sum of of_mean (that of each sample's mean over
    tokens) and centred (of the rest), both (times,)."""

    timestep: np.ndarray
    count: np.ndarray
    mean_square: np.ndarray
    peak: np.ndarray
    of_mean: np.ndarray
    centred: np.ndarray


class Recorder:
    """Statistics at the points that match the patterns, over all forward passes it sees.

    Use with `visiting(recorder)`; one recorder belongs to one thread. In each forward pass the
    model calls `begin` with what it was given, then `visit` at every point it comes by, which
    keeps the tensor's sums. Passes wait until `begin` finds no room for another, and are then
    merged into the cells (timestep, label); `statistics` merges the rest. Raises NoSuchPoint for a
    pattern without a match."""

    def __init__(self, config: ModelConfig, patterns: str | Iterable[str] = "*") -> None:
        self.points = select(config, patterns)
        self._cells: dict[tuple[int, int], int] = {}
        self._times: dict[int, int] = {}
        self._waiting: list[_Pass] = []
        self._groups = [_group(members) for members in _alike(self.points)]
        self._at = {
            point.name: (group.take, row)
            for group in self._groups
            for row, point in enumerate(group.points)
        }

    def begin(self, timesteps: Tensor, labels: Tensor) -> None:
        """Note the cell of each sample; merge what waits, if there is no room for more."""
        size = (len(timesteps), timesteps.device)
        if self._waiting and not self._waiting[-1].has_room(size, len(self._waiting)):
            self._merge()
            self._waiting.clear()
            for group in self._groups:
                group.filled.clear()
        pairs = list(zip(timesteps.tolist(), labels.tolist(), strict=True))
        cells = [self._cells.setdefault(pair, len(self._cells)) for pair in pairs]
        times = [self._times.setdefault(time, len(self._times)) for time, _ in pairs]
        self._waiting.append(_Pass(size, cells, times))
        for group in self._groups:
            group.start(*size)

    def wants(self, name: str) -> bool:
        """Whether this point was chosen."""
        return name in self._at

    def visit(self, name: str, tensor: Tensor) -> Tensor:
        """Reduce the tensor, if the point was chosen; returns it unchanged."""
        place = self._at.get(name)
        if place is not None:
            take, row = place
            take(row, tensor.detach().float())
        return tensor

    def statistics(self) -> list[PointStatistics]:
        """What was recorded so far, in the order of computation."""
        self._merge()
        found = {each.point.name: each for group in self._groups for each in self._of(group)}
        return [found[point.name] for point in self.points]

    def _merge(self) -> None:
        for group in self._groups:
            for rows, passes in group.waiting():
                batch, index = group.batch(rows, passes), torch.tensor(rows)
                cells = torch.tensor([each.cells for each in self._waiting[passes]]).flatten()
                group.moments.add(batch, index, cells, len(self._cells))
                if group.channels is not None:
                    times = torch.tensor([each.times for each in self._waiting[passes]]).flatten()
                    group.channels.add(batch, index, times, len(self._times))
            for filled in group.filled:
                filled.clear()

    def _of(self, group: "_Group") -> list[PointStatistics]:
        pairs = np.array(list(self._cells), dtype=np.int64).reshape(-1, 2)
        moments = group.moments
        count = moments.count.numpy()
        variance = moments.deviations.numpy() / np.maximum(count, 1)
        return [
            PointStatistics(
                point=point,
                timestep=pairs[:, 0],
                label=pairs[:, 1],
                count=count[row].astype(np.int64),
                mean=moments.mean[row].numpy(),
                variance=variance[row],
                largest=moments.largest[row].numpy(),
                peak=moments.peak[row].numpy(),
                nonfinite=moments.nonfinite[row].numpy().astype(np.int64),
                histogram=moments.histogram[row].numpy(),
                channels=self._channels_of(group.channels, row),
            )
            for row, point in enumerate(group.points)
        ]

    def _channels_of(self, channels: Channels | None, row: int) -> ChannelStatistics | None:
        if channels is None:
            return None
        count = channels.count[row].numpy()
        mean_square = channels.squares[row].numpy() / np.maximum(count, 1)[:, None]
        of_mean = channels.of_mean[row].numpy() / np.maximum(channels.samples[row].numpy(), 1)
        return ChannelStatistics(
            timestep=np.array(list(self._times)),
            count=count.astype(np.int64),
            mean_square=mean_square,
            peak=channels.peak[row].sqrt().numpy(),
            of_mean=of_mean,
            centred=mean_square.mean(axis=1) - of_mean,
        )


@dataclass(frozen=True)
class _Pass:
    """Samples and device of a pass that waits; the cell and the timestep of each sample."""

    size: "_Size"
    cells: list[int]
    times: list[int]

    def has_room(self, size: "_Size", waiting: int) -> bool:
        """Whether a pass of that size can wait with this one, where so many wait already."""
        return size == self.size and waiting < _most_waiting(size[0])


_Size = tuple[int, torch.device]


def _most_waiting(batch: int) -> int:
    """How many passes of this many samples wait at most."""
    return max(1, WAITING // max(batch, 1))


def _alike(points: Sequence[PointInfo]) -> list[list[PointInfo]]:
    """Points whose tensors have the same shape and get the same statistics."""

    def key(point: PointInfo) -> tuple[bool, bool, bool, int, int]:
        flags = (point.kind in SMALL, point.has_channels, point.kind == "heads")
        return (*flags, point.vectors, point.features)

    return [list(members) for _, members in groupby(sorted(points, key=key), key)]


def _group(points: list[PointInfo]) -> "_Group":
    return _SmallGroup(points) if points[0].kind in SMALL else _LargeGroup(points)


class _Group:
    """Points of one shape: their statistics so far, and what waits of the last few passes."""

    def __init__(self, points: list[PointInfo]) -> None:
        self.points = points
        self.vectors, self.features = points[0].vectors, points[0].features
        self.moments = Moments(len(points))
        self.channels = Channels(len(points), self.features) if points[0].has_channels else None
        self.filled: list[set[int]] = []
        self.size: _Size | None = None

    def start(self, batch: int, device: torch.device) -> None:
        """Make room for a pass of this many samples, behind those that wait."""
        if self.size != (batch, device):
            self.size = (batch, device)
            self.allocate(batch, device)
        self.go_on(slice(len(self.filled) * batch, (len(self.filled) + 1) * batch))
        self.filled.append(set())

    def waiting(self) -> Iterator[tuple[list[int], slice]]:
        """Points and the passes in a row that have kept all of these."""
        for rows, run in groupby(range(len(self.filled)), lambda k: sorted(self.filled[k])):
            passes = list(run)
            if rows:
                yield rows, slice(passes[0], passes[-1] + 1)

    def samples(self, passes: slice) -> slice:
        """Where the samples of these passes are."""
        assert self.size is not None
        return slice(passes.start * self.size[0], passes.stop * self.size[0])

    def allocate(self, batch: int, device: torch.device) -> None:
        """Make the buffers of all passes that can wait."""
        raise NotImplementedError

    def go_on(self, samples: slice) -> None:
        """A pass starts, whose samples go there."""
        raise NotImplementedError

    def take(self, row: int, tensor: Tensor) -> None:
        """Reduce the tensor of the point `row`; float32."""
        raise NotImplementedError

    def batch(self, rows: list[int], passes: slice) -> Batch:
        """What these points have kept of these passes."""
        raise NotImplementedError


class _SmallGroup(_Group):
    """One vector a sample, or single numbers: copied, and reduced for all points together."""

    def allocate(self, batch: int, device: torch.device) -> None:
        samples = _most_waiting(batch) * batch
        shape = (len(self.points), samples, self.vectors, self.features)
        self.values = torch.empty(shape, device=device)

    def go_on(self, samples: slice) -> None:
        self.places = self.values[:, samples].unbind()

    def take(self, row: int, tensor: Tensor) -> None:
        place = self.places[row]
        place.copy_(tensor.reshape(place.shape))
        self.filled[-1].add(row)

    def batch(self, rows: list[int], passes: slice) -> Batch:
        squares = _rows(self.values, rows)[:, self.samples(passes)].cpu().square()
        summed = squares.sum(-1)
        peak = squares.amax((-1, -2))
        nonfinite = torch.zeros(peak.shape, dtype=torch.int64)
        if not math.isfinite(summed.sum().item()):
            nonfinite = squares.isfinite().logical_not_().sum((-1, -2))
            peak = torch.where(squares.isfinite(), squares, 0.0).amax((-1, -2))
            summed = torch.where(summed.isfinite(), summed, math.nan)
        return Batch(summed, peak.sqrt(), nonfinite, self.features)


class _LargeGroup(_Group):
    """Tokens: squared piece by piece, and summed along both axes while the piece is in cache."""

    def allocate(self, batch: int, device: torch.device) -> None:
        points, vectors, features = len(self.points), self.vectors, self.features
        samples = _most_waiting(batch) * batch
        per_channel = (points, samples, 1, features)
        self.squares = torch.empty(points, samples, vectors, 1, device=device)
        self.peaks = torch.empty(per_channel, device=device)
        if self.channels is not None:
            self.sums = torch.empty(per_channel, device=device)
            self.means = torch.empty(per_channel, device=device)
        self.nonfinite = torch.zeros(points, samples, dtype=torch.int64)
        self.piece = max(1, min(batch, SCRATCH // (vectors * features)))
        self.scratch = torch.empty(self.piece, vectors, features, device=device)
        self.over_vectors = torch.ones(self.piece, 1, vectors, device=device)
        self.mean_of_vectors = self.over_vectors / vectors
        self.over_features = torch.ones(features, device=device)
        self.places: list[list[list[_Piece]]] = []

    def go_on(self, samples: slice) -> None:
        self.now = samples
        self.nonfinite[:, samples] = 0
        if len(self.places) == len(self.filled):
            # Views are made once: at 200 points, making them in each pass would cost as much as
            # the sums.
            starts = range(samples.start, samples.stop, self.piece)
            slices = [slice(start, min(start + self.piece, samples.stop)) for start in starts]
            rows = range(len(self.points))
            self.places.append([[_Piece(self, row, part) for part in slices] for row in rows])
        self.pieces = self.places[len(self.filled)]

    def take(self, row: int, tensor: Tensor) -> None:
        tokens = self._vectors(tensor)
        self._reduce(row, tokens)
        # One sum tells whether anything was not finite; the careful way is then taken.
        if not all(math.isfinite(piece.squares.sum().item()) for piece in self.pieces[row]):
            self._take_carefully(row, tokens)
        self.filled[-1].add(row)

    def batch(self, rows: list[int], passes: slice) -> Batch:
        samples = self.samples(passes)
        kept = [_rows(buffer, rows)[:, samples].squeeze(-2).cpu() for buffer in self._per_channel()]
        squares = _rows(self.squares, rows)[:, samples].squeeze(-1).cpu()
        peak = kept[0].amax(-1).sqrt()
        nonfinite = _rows(self.nonfinite, rows)[:, samples]
        if self.channels is None:
            return Batch(squares, peak, nonfinite, self.features)
        return Batch(squares, peak, nonfinite, self.features, kept[1], kept[0], kept[2])

    def _per_channel(self) -> list[Tensor]:
        return [self.peaks] if self.channels is None else [self.peaks, self.sums, self.means]

    def _vectors(self, tensor: Tensor) -> Tensor:
        """(batch, ..., features) with the dimensions in between in memory order."""
        if self.points[0].kind == "heads":
            return tensor.transpose(1, 2)
        return tensor.flatten(2) if tensor.dim() == 4 else tensor

    def _reduce(self, row: int, tokens: Tensor) -> None:
        pieces = self.pieces[row]
        parts = (tokens,) if len(pieces) == 1 else tokens.split(self.piece)
        for piece, part in zip(pieces, parts, strict=True):
            piece.reduce(part)

    def _take_carefully(self, row: int, tokens: Tensor) -> None:
        """Count what is not finite, and leave out the vectors that hold it."""
        flat = tokens.reshape(len(tokens), -1, self.features)
        squared = flat.square()
        bad = squared.isfinite().logical_not_()
        left_out = squared.sum(-1, keepdim=True).isfinite().logical_not_()
        clean = torch.where(left_out, 0.0, flat)
        self._reduce(row, clean.view(tokens.shape))
        self.squares[row, self.now].masked_fill_(left_out, math.nan)
        self.nonfinite[row, self.now] = bad.sum((1, 2)).cpu()


class _Piece:
    """Where the sums of some samples at one point go, and the scratch they are squared in."""

    def __init__(self, group: _LargeGroup, row: int, samples: slice) -> None:
        count = samples.stop - samples.start
        self.squared = group.scratch[:count]
        self.flat = self.squared.view(-1, group.features)
        self.over_features = group.over_features
        self.squares = group.squares[row, samples].view(-1)
        self.peaks = group.peaks[row, samples]
        self.channels = group.channels is not None
        if self.channels:
            self.over_vectors = group.over_vectors[:count]
            self.mean_of_vectors = group.mean_of_vectors[:count]
            self.sums, self.means = group.sums[row, samples], group.means[row, samples]

    def reduce(self, tokens: Tensor) -> None:
        """tokens (samples, ..., features), in the memory order of the group's vectors."""
        torch.mul(tokens, tokens, out=self.squared.view(tokens.shape))
        torch.mv(self.flat, self.over_features, out=self.squares)
        torch.amax(self.squared, 1, True, out=self.peaks)
        if self.channels:
            torch.bmm(self.over_vectors, self.squared, out=self.sums)
            torch.bmm(self.mean_of_vectors, tokens, out=self.means)


def _rows(buffer: Tensor, rows: list[int]) -> Tensor:
    return buffer if len(rows) == len(buffer) else buffer[rows]

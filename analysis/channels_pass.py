"""What the questions about channels and tokens need of every place, one timestep after the other.

A place is a probe point of (batch, tokens, width) inside a block; `Reduced` holds its sums. Tensors
are reduced where they are seen, and memory holds the sums of one timestep.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import torch
from scipy import stats
from torch import Tensor

from analysis.probing import ProbeSettings, probe_inputs, run_through
from mpdit_core.points import visiting
from mpdit_core.probes import PointInfo, select
from mpdit_core.progress import track
from mpdit_core.runs import Run, Weights

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Reduced:
    """A place at one timestep. squares (images, width): mean over tokens of the square; of_mean
    (images, width): square of the mean over tokens, so that squares - of_mean is the rest; by_token
    (images, tokens): mean over channels of the square; kurtosis (images,), see `kurtosis`, mean
    over tokens; absolute (tokens, width): mean over images of |x|; peak (width,): largest |x|."""

    squares: Tensor
    of_mean: Tensor
    by_token: Tensor
    kurtosis: Tensor
    absolute: Tensor
    peak: Tensor


def reduced(
    run: Run, weights: Weights | str, words: Sequence[str], settings: ProbeSettings
) -> Iterator[tuple[PointInfo, int, Reduced]]:
    """Every place whose last word is one of `words`, at every timestep: (point, timestep, sums).

    Raises BadData where held-out images are asked for and are not at hand."""
    model = run.model(weights)
    points = select(run.config, [f"blocks.*.{word}" for word in words])
    with torch.no_grad():
        probed = probe_inputs(run, model, settings)
        for part in track(probed, "Timesteps"):
            look = _Look({point.name for point in points})
            with visiting(look):
                run_through(model, [part])
            for point in points:
                yield point, part.timestep, _merged(look.batches[point.name])


@dataclass
class _Look:
    """A visitor that reduces every batch at the points of these names."""

    names: set[str]
    batches: dict[str, list[Reduced]] = field(default_factory=dict)

    def begin(self, timesteps: Tensor, labels: Tensor) -> None:
        """Nothing to do: all samples are of one timestep."""

    def wants(self, name: str) -> bool:
        return False

    def visit(self, name: str, tensor: Tensor) -> Tensor:
        if name in self.names:
            self.batches.setdefault(name, []).append(reduce_tokens(tensor.float()))
        return tensor


def reduce_tokens(tokens: Tensor) -> Reduced:
    """tokens (images, tokens, width)."""
    absolute, squares = tokens.abs(), tokens.square()
    return Reduced(
        squares=squares.mean(dim=1),
        of_mean=tokens.mean(dim=1).square(),
        by_token=squares.mean(dim=2),
        kurtosis=kurtosis(tokens).nanmean(dim=1),
        absolute=absolute.mean(dim=0),
        peak=absolute.amax(dim=(0, 1)),
    )


def kurtosis(tokens: Tensor) -> Tensor:
    """mean(x^4) / mean(x^2)^2 over the channels of each token, about 0 and not about their mean.

    tokens (..., width) -> (...). 1 where all channels are equally large, 3 for a Gaussian, width
    where one channel holds everything; nan for a token of zeros.

    >>> kurtosis(torch.tensor([[2.0, 2.0, 2.0, -2.0], [0.0, 0.0, 7.0, 0.0]])).tolist()
    [1.0, 4.0]
    """
    squares = tokens.square()
    relative = squares / squares.mean(dim=-1, keepdim=True)  # no fourth power that overflows
    return relative.square().mean(dim=-1)


def _merged(batches: list[Reduced]) -> Reduced:
    images = torch.tensor([len(batch.squares) for batch in batches], dtype=torch.float64)
    shares = (images / images.sum()).float()
    absolute = torch.stack([batch.absolute for batch in batches])
    return Reduced(
        squares=torch.cat([batch.squares for batch in batches]).double(),
        of_mean=torch.cat([batch.of_mean for batch in batches]).double(),
        by_token=torch.cat([batch.by_token for batch in batches]).double(),
        kurtosis=torch.cat([batch.kurtosis for batch in batches]).double(),
        absolute=torch.einsum("b,btw->tw", shares, absolute).double(),
        peak=torch.stack([batch.peak for batch in batches]).amax(dim=0).double(),
    )


def share_with_interval(part: Tensor, whole: Tensor) -> tuple[float, float, float]:
    """Sum of part / sum of whole over images, and its 95 % interval; both (images,).

    The interval is that of a ratio of means (the delta method, Cochran, Sampling Techniques, 6.5),
    with Student's t; cut at 0 and 1. nan for the share where the whole is 0."""
    share = part.sum() / whole.sum()
    half = _half_width(part - share * whole) / whole.mean()
    low, high = (share - half).clamp(min=0.0), (share + half).clamp(max=1.0)
    return float(share), float(low), float(high)


def mean_with_interval(values: Tensor) -> tuple[float, float, float]:
    """Mean over images (images,), and its 95 % interval by Student's t."""
    values = values[~values.isnan()]
    mean, half = values.mean(), _half_width(values)
    return float(mean), float(mean - half), float(mean + half)


def _half_width(values: Tensor) -> Tensor:
    """Of the interval of a mean; nan where a single value tells nothing of the spread."""
    n = len(values)
    if n < 2:
        return torch.tensor(torch.nan)
    return values.std() / n**0.5 * _quantile(n - 1)


@lru_cache
def _quantile(freedom: int) -> float:
    return float(stats.t.ppf((1 + CONFIDENCE) / 2, freedom))

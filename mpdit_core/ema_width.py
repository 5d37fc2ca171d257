"""How wide is an average really? A least-squares fit of its profile to the raw checkpoints.

Between two raw checkpoints the weights are taken to move in a straight line, evenly. Along that
path every width has its average, and the nearest one to the file tells the width. A path of few
checkpoints cuts the curves of the real one: the width is then told too small, and how much so is
seen by leaving out every second checkpoint (measured on configs A and E trained on digits, 500 and
1,500 steps: with four checkpoints a true 0.05 is told as 0.045, 0.10 as 0.095, 0.20 as 0.196; with
one, three to seven times too small).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from mpdit_core.ema import WIDEST, gamma_of

NARROWEST = 0.002
"""Below it the profile is so short that rounding to half precision drowns it."""

WIDTHS = np.geomspace(NARROWEST, WIDEST, 400)
"""The widths that are tried, 1.25 % apart."""

SMALLEST_TENSOR = 64
"""Tensors of fewer numbers (gains) have no say: their path is mostly noise."""

MOST_CHECKPOINTS = 9
"""Checkpoints that are read at most; the newest ones count most for the fit."""


@dataclass(frozen=True)
class WidthEstimate:
    """The profile width (sigma_rel) that explains an average best, and the range it can lie in.

    sigma_rel: median over the tensors. low: where a tenth of them lies below. high: where a tenth
    lies above, or the error of the straight lines if that is larger; `WIDEST` where a single
    earlier checkpoint sets no upper limit. explained: share of the average's squared distance to
    the newest raw weights that the fit explains, at most 1; small for what is no average of these
    checkpoints. checkpoints: number of raw checkpoints before the step of the average."""

    sigma_rel: float
    low: float
    high: float
    explained: float
    checkpoints: int

    def allows(self, sigma_rel: float, tolerance: float = 0.15) -> bool:
        """Whether the width lies in the range, to this relative tolerance."""
        return self.low * (1 - tolerance) <= sigma_rel <= self.high * (1 + tolerance)


def used_checkpoints(steps: Sequence[int], step: int) -> list[int]:
    """Raw steps to read for an average of this step: its own, those before it, at most nine."""
    before = sorted(other for other in steps if other < step)
    if len(before) >= MOST_CHECKPOINTS:  # the first, and the newest ones
        before = [before[0], *before[-(MOST_CHECKPOINTS - 2) :]]
    return [*before, step] if step in steps else []


@dataclass(frozen=True)
class Comparison:
    """One average beside the raw weights of its step and of earlier ones, tensor by tensor.

    steps (m + 1,) of the raw weights, ascending, the last one the average's own. moves (tensors,
    m, m): inner products of the raw weights' moves from step to step. products (tensors, m): of
    these with the lag, the newest raw weights minus the average. lags (tensors,): its square.
    norms (tensors,): squares of the newest raw weights. sizes (tensors,): numbers compared."""

    steps: np.ndarray
    moves: np.ndarray
    products: np.ndarray
    lags: np.ndarray
    norms: np.ndarray
    sizes: np.ndarray

    @property
    def distance(self) -> float:
        """From the average to the newest raw weights, relative to their norm."""
        return float(np.sqrt(self.lags.sum() / self.norms.sum()))

    def moved(self, intervals: int) -> float:
        """How far the raw weights came over the last so many intervals, relative to their norm."""
        recent = self.moves[:, -intervals:, -intervals:] if intervals else self.moves[:, :0, :0]
        return float(np.sqrt(max(0.0, recent.sum()) / self.norms.sum()))

    def width(self) -> WidthEstimate | None:
        """The width told by the fit; None if no earlier raw weights are at hand, or none moved."""
        told = (self.sizes >= SMALLEST_TENSOR) & (self.moves.sum(axis=(1, 2)) > 0)
        if len(self.steps) < 2 or not told.any():
            return None
        widths, explained = self._fit(told, self.steps, np.eye(len(self.steps) - 1))
        middle, below, above = (float(np.quantile(widths, q)) for q in (0.5, 0.1, 0.9))
        error = WIDEST
        if len(self.steps) > 2:
            steps = self.steps[::-2][::-1]
            merge = (self.steps[1:] > steps[:-1, None]) & (self.steps[1:] <= steps[1:, None])
            error = abs(middle - float(np.median(self._fit(told, steps, merge)[0])))
        high = min(WIDEST, max(above, middle + error))
        return WidthEstimate(middle, min(below, middle), high, explained, len(self.steps) - 1)

    def _fit(
        self, told: np.ndarray, steps: np.ndarray, merge: np.ndarray
    ) -> tuple[np.ndarray, float]:
        """Best width of each tensor, and the explained share of all together.

        merge (intervals, m): which moves are taken together as one straight line."""
        shares = _shares_to_come(steps) @ merge  # (widths, m)
        crossed = np.einsum("wi,nij,wj->nw", shares, self.moves[told], shares, optimize=True)
        table = self.lags[told, None] - 2 * self.products[told] @ shares.T + crossed
        left, total = float(table.min(axis=1).sum()), float(self.lags[told].sum())
        return WIDTHS[table.argmin(axis=1)], 1 - left / total if total else 0.0


@torch.no_grad()
def compare(
    step: int,
    average: Mapping[str, Tensor],
    raw: Mapping[int, Mapping[str, Tensor]],
    names: Sequence[str],
) -> Comparison:
    """Measure an average of this step against raw weights by step, its own step among them.

    names: the averaged parameters."""
    steps = used_checkpoints(list(raw), step)
    parts = [_products([raw[s][name] for s in steps], average[name]) for name in names]
    moves, products, lags, norms = (np.stack(part) for part in zip(*parts, strict=True))
    sizes = np.array([average[name].numel() for name in names])
    return Comparison(np.array(steps, dtype=np.float64), moves, products, lags, norms, sizes)


def _products(path: Sequence[Tensor], average: Tensor) -> tuple[np.ndarray, ...]:
    points = torch.stack([point.float().flatten() for point in path])
    moves, lag = points.diff(dim=0), points[-1] - average.float().flatten()
    found = (moves @ moves.T, moves @ lag, lag @ lag, points[-1] @ points[-1])
    return tuple(tensor.double().numpy() for tensor in found)


@lru_cache(maxsize=1)
def _gammas() -> np.ndarray:
    return np.array([gamma_of(width) for width in WIDTHS])


def _shares_to_come(steps: np.ndarray) -> np.ndarray:
    """How much of each interval's move an average has not taken in yet, (widths, intervals).

    At time tau a profile has the mass (tau/t)^(gamma + 1) behind it; its mean over an interval is
    the share of the straight move there by which the average lags behind the newest weights."""
    power = _gammas()[:, None] + 2
    integral = (steps / steps[-1]) ** power * steps[-1] / power
    return np.diff(integral, axis=1) / np.diff(steps)

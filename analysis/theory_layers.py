"""Layers: magnitude of the output of a linear with unit rows, and of SiLU."""

import math

import numpy as np
import torch
from torch import Tensor

from analysis.theory_sums import (
    Measured,
    Sums,
    against,
    count,
    departure_of,
    ratio,
    root,
    square,
)
from mpdit_core.layers import SILU_MAGNITUDE

MOST_FEATURES = 256
"""Correlations are taken over at most so many features, evenly spaced."""


# 3. Linear


def linear_sums(entering: Tensor, weight: Tensor) -> Sums:
    """entering (..., inputs), weight (outputs, inputs) as it is used."""
    x = entering.flatten(0, -2)
    y = x @ weight.T
    some = x[:, _spread_over(x.shape[1])]
    return {
        "n": count(x), "x": x.sum(dim=0), "xx": x.square().sum(dim=0), "y": y.sum(dim=0),
        "yy": square(y) / y.shape[1], "some": some.T @ some, "some_x": some.sum(dim=0),
        "column_fixed": weight.square().mean(dim=0),
    }  # fmt: skip


def _spread_over(features: int) -> Tensor:
    step = max(1, math.ceil(features / MOST_FEATURES))
    return torch.arange(0, features, step)


def linear_measured(sums: Sums) -> Measured:
    """claimed (sigma, magnitude of the input), measured (of the output). The parts of
    (measured / claimed)^2 - 1, which add up to it: from_size (features not equally large, or rows
    not of unit norm), from_mean, from_correlation. feature_mean (share of the input's square that
    is the features' own mean over tokens and samples), correlation (root mean square over pairs of
    features), unevenness (standard deviation of E[x_i^2] over features / its mean)."""
    n, column = sums["n"], sums["column_fixed"]
    squares, means = sums["xx"] / n, sums["x"] / n
    total = float(squares.mean())
    diagonal = float((column * squares).sum())
    of_mean = float((sums["y"] / n).square().mean() - (column * means.square()).sum())
    output = float(sums["yy"] / n)
    return against(
        root(total), root(output), n,
        from_size=ratio(diagonal, total) - 1,
        from_mean=ratio(of_mean, total),
        from_correlation=ratio(output - diagonal - of_mean, total),
        feature_mean=ratio(means.square().mean(), total),
        correlation=_mean_correlation(sums),
        unevenness=ratio(squares.std(correction=0), total),
    )  # fmt: skip


def _mean_correlation(sums: Sums) -> float:
    mean = sums["some_x"] / sums["n"]
    covariance = sums["some"] / sums["n"] - torch.outer(mean, mean)
    spread = covariance.diagonal().clamp_min(0).sqrt()
    varied = spread > 1e-6 * spread.max()
    spread, covariance = spread[varied], covariance[varied][:, varied]
    kept = len(spread)
    if kept < 2:
        return math.nan
    squared = (covariance / torch.outer(spread, spread)).square()
    return root((squared.sum() - squared.diagonal().sum()) / (kept * (kept - 1)))


# 5. SiLU


def silu_sums(before: Tensor, after: Tensor) -> Sums:
    """before, after the nonlinearity: (batch, tokens, hidden)."""
    squares = before.square()
    powers = {
        "power1": before.sum(), "power2": squares.sum(), "power3": (squares * before).sum(),
        "power4": square(squares),
    }  # fmt: skip
    numbers = torch.tensor(float(before.numel()), dtype=torch.float64)
    return {"n": count(before), "numbers": numbers, "after": square(after), **powers}


def silu_measured(sums: Sums, preserve: bool) -> Measured:
    """claimed, measured (M[after] / M[before]), predicted (of a centred Gaussian of that
    magnitude, by integration), predicted_shifted (of a Gaussian of that mean and deviation);
    not_gaussian (departure of measured from the latter).
    magnitude, mean, deviation, skewness, kurtosis (excess) of the pre-activations."""
    first, second, third, fourth = (
        float(sums[f"power{p}"] / sums["numbers"]) for p in (1, 2, 3, 4)
    )
    size, variance = root(second), second - first**2
    after = root(sums["after"] / sums["numbers"])
    divisor = SILU_MAGNITUDE if preserve else 1.0
    measured, deviation = ratio(after, size), root(max(variance, 0.0))
    shifted = silu_factor(deviation, first) / divisor
    third_central = third - 3 * first * second + 2 * first**3
    fourth_central = fourth - 4 * first * third + 6 * first**2 * second - 3 * first**4
    return against(
        SILU_MAGNITUDE / divisor, measured, sums["n"], predicted=silu_factor(size) / divisor,
        predicted_shifted=shifted, not_gaussian=departure_of(measured, shifted),
        magnitude=size, mean=first,
        deviation=deviation,
        skewness=ratio(third_central, max(variance, 0.0) ** 1.5),
        kurtosis=ratio(fourth_central, variance**2) - 3,
    )  # fmt: skip


def silu_factor(sigma: float, mean: float = 0.0) -> float:
    """M[silu(x)] / M[x] for x ~ N(mean, sigma^2), by the trapezoidal rule; nan for sigma 0.

    >>> round(silu_factor(1.0), 3)
    0.596
    """
    if not (math.isfinite(sigma) and sigma > 0):
        return math.nan
    # silu's scale is 1, the Gaussian's sigma: the grid is fine for both.
    z = np.linspace(-9, 9, 4001 + 2 * int(1000 * min(sigma, 50)))
    x = mean + sigma * z
    silu = x / (1 + np.exp(np.clip(-x, -700, 700)))
    density = np.exp(-(z**2) / 2)
    size = (sigma**2 + mean**2) ** 0.5
    return float(np.sqrt((silu**2 * density).sum() / density.sum())) / size

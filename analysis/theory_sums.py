"""Sums over tokens that can be added batch by batch, and how far a measurement departs.

A claim's `..._sums` reduces one batch to named sums (or largest values, in names that end with
`_max`, or constants, in names that end with `_fixed`); its `..._measured` turns the totals into
statistics: `claimed`, `measured`, `departure`, and the measures of the claim's assumption. All in
float64.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

Sums = dict[str, Tensor]
Measured = dict[str, float]


def added(total: Sums, more: Mapping[str, Tensor]) -> Sums:
    """Totals of two batches: sums add, `_max` takes the larger, `_fixed` the newer."""
    joined = dict(total)
    for name, value in more.items():
        if name.endswith("_max") and name in joined:
            joined[name] = torch.maximum(joined[name], value)
        elif name.endswith(("_max", "_fixed")) or name not in joined:
            joined[name] = value
        else:
            joined[name] = joined[name] + value
    return joined


def departure_of(measured: float, claimed: float) -> float:
    """How many times the larger of both is the smaller, minus 1; 0 = equal, no unit.

    Half and double depart equally.

    >>> departure_of(0.5, 1.0), departure_of(2.0, 1.0), departure_of(3.0, 3.0)
    (1.0, 1.0, 0.0)
    """
    if measured == claimed:
        return 0.0
    if not (math.isfinite(measured) and math.isfinite(claimed)):
        return math.nan
    if measured <= 0 or claimed <= 0:
        return math.inf
    return max(measured / claimed, claimed / measured) - 1


def against(claimed: float, measured: float, n: Tensor, **others: float) -> Measured:
    departure = departure_of(measured, claimed)
    found = {"claimed": claimed, "measured": measured, "departure": departure}
    return {**found, **others, "n": float(n)}


def count(tensor: Tensor) -> Tensor:
    """Vectors in the tensor, over its last dimension."""
    return torch.tensor(float(tensor[..., 0].numel()), dtype=torch.float64)


def square(tensor: Tensor) -> Tensor:
    return tensor.square().sum()


def ratio(above: Tensor | float, below: Tensor | float) -> float:
    """The quotient; nan where there is nothing below."""
    return float(above) / float(below) if float(below) != 0 else math.nan


def root(value: Tensor | float) -> float:
    return float(value) ** 0.5 if float(value) >= 0 else math.nan


def magnitude(vectors: Tensor) -> Tensor:
    """Root mean square over the last dimension."""
    return vectors.square().mean(dim=-1).sqrt()


def beyond(reached: float) -> float:
    """What exceeds a bound of 1; nan stays."""
    return reached if math.isnan(reached) else max(0.0, reached - 1.0)

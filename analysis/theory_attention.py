"""Attention: its values bound its output, and cosine attention bounds its logits."""

import math

import torch
from torch import Tensor

from analysis.theory_sums import (
    Measured,
    Sums,
    against,
    beyond,
    count,
    magnitude,
    ratio,
    root,
    square,
)

# 1. Attention


def attention_sums(q: Tensor, k: Tensor, v: Tensor) -> Sums:
    """q, k, v (batch, heads, tokens, head width), as at their probe points."""
    logits = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
    mixed = logits.softmax(dim=-1) @ v
    of_values, of_mixed = magnitude(v), magnitude(mixed)
    bound = of_values.amax(dim=-1, keepdim=True)
    reached = of_mixed / bound.clamp_min(torch.finfo(v.dtype).tiny)
    numbers = torch.tensor(float(v.numel()), dtype=torch.float64)
    return {
        "n": count(v), "numbers": numbers, "values": square(v), "mixed": square(mixed),
        "average": square(v.mean(dim=-2)) * v.shape[-2],
        "magnitudes": of_values.sum(), "reached_max": reached.max(),
        "tokens_fixed": torch.tensor(float(v.shape[-2])),
    }  # fmt: skip


def attention_measured(sums: Sums) -> Measured:
    """claimed (sigma, magnitude of the values), measured (of the mixture).

    lowest (sigma / sqrt(T)); uniform (what uniform rows would give); reached (largest M[att] / max
    M[v] of a token and head, at most 1; departure is what exceeds 1); spread (standard deviation
    of the values' magnitudes / their mean); correlation (of values of different tokens)."""
    n, numbers, tokens = sums["n"], sums["numbers"], float(sums["tokens_fixed"])
    sigma = root(sums["values"] / numbers)
    mean = float(sums["magnitudes"] / n)
    pairs = (tokens * sums["average"] - sums["values"]) / max(tokens - 1, 1)
    reached = float(sums["reached_max"])
    found = against(
        sigma, root(sums["mixed"] / numbers), n,
        lowest=sigma / tokens**0.5,
        uniform=root(sums["average"] / numbers),
        reached=reached,
        spread=ratio(root(max(sigma**2 - mean**2, 0.0)), mean),
        correlation=ratio(pairs, sums["values"]) if tokens > 1 else math.nan,
    )  # fmt: skip
    return found | {"departure": beyond(reached)}


# 7. Cosine attention


def cosine_sums(q: Tensor, k: Tensor) -> Sums:
    """q, k (batch, heads, tokens, head width), as at their probe points."""
    logits = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
    numbers = torch.tensor(float(logits.numel()), dtype=torch.float64)
    return {
        "n": numbers, "squares": square(logits), "largest_max": logits.abs().max(),
        "bound_fixed": torch.tensor(q.shape[-1] ** 0.5, dtype=torch.float64),
    }  # fmt: skip


def cosine_measured(sums: Sums) -> Measured:
    """claimed (the bound sqrt(d)), measured (the largest |logit|), typical (root mean square),
    reached (measured / claimed; departure is what exceeds 1)."""
    bound, largest = float(sums["bound_fixed"]), float(sums["largest_max"])
    typical = root(sums["squares"] / sums["n"])
    found = against(bound, largest, sums["n"], typical=typical, reached=largest / bound)
    return found | {"departure": beyond(largest / bound)}

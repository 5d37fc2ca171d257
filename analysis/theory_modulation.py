"""Modulation: rotation keeps magnitudes, scale and shift change them as predicted."""

import math

import torch
from torch import Tensor

from analysis.theory_stream import sum_measured, sum_sums
from analysis.theory_sums import (
    Measured,
    Sums,
    against,
    count,
    magnitude,
    ratio,
    root,
    square,
)

# 2. Rotation


def rotation_sums(before: Tensor, after: Tensor, pairing: str) -> Sums:
    """before, after (batch, tokens, width); pairing "half" or "adjacent"."""
    old, new = magnitude(before), magnitude(after)
    small = torch.finfo(before.dtype).tiny
    pair_old, pair_new = (_pairs(tokens, pairing).norm(dim=-1) for tokens in (before, after))
    moved = (pair_new - pair_old).abs() / (old[..., None] * 2**0.5).clamp_min(small)
    return {
        "n": count(before), "before": square(before), "after": square(after),
        "numbers": torch.tensor(float(before.numel()), dtype=torch.float64),
        "token_max": ((new - old).abs() / old.clamp_min(small)).max(), "pair_max": moved.max(),
    }  # fmt: skip


def _pairs(tokens: Tensor, pairing: str) -> Tensor:
    if pairing == "half":
        return torch.stack(tokens.chunk(2, dim=-1), dim=-1)
    return tokens.unflatten(-1, (-1, 2))


def rotation_measured(sums: Sums) -> Measured:
    """claimed, measured (magnitude before and after); token, pair (largest relative error of a
    token, of a pair relative to its token's root mean square pair); departure, the larger."""
    old, new = (root(sums[side] / sums["numbers"]) for side in ("before", "after"))
    token, pair = float(sums["token_max"]), float(sums["pair_max"])
    worst = math.nan if math.isnan(token + pair) else max(token, pair)
    return against(old, new, sums["n"], token=token, pair=pair) | {"departure": worst}


# 6. Scale and shift


def scale_sums(tokens: Tensor, factor: Tensor) -> Sums:
    """tokens (batch, tokens, width), factor (batch, width): 1 + scale."""
    each = factor[:, None, :].expand_as(tokens)
    return {
        "n": count(tokens), "numbers": torch.tensor(float(tokens.numel()), dtype=torch.float64),
        "xx": tokens.square().sum(dim=(0, 1)), "ff": each.square().sum(dim=(0, 1)),
        "after": square(tokens * each),
    }  # fmt: skip


def scale_measured(sums: Sums) -> Measured:
    """claimed (scale independent of the features), measured; before (magnitude before), change
    (measured / before), signal (magnitude of 1 + scale), unevenness (of E[x_i^2])."""
    n = sums["n"]
    squares, factors = sums["xx"] / n, sums["ff"] / n
    before, measured = root(squares.mean()), root(sums["after"] / sums["numbers"])
    return against(
        root((squares * factors).mean()), measured, n, before=before,
        change=ratio(measured, before), signal=root(factors.mean()),
        unevenness=ratio(squares.std(correction=0), squares.mean()),
    )  # fmt: skip


def shift_sums(tokens: Tensor, shift: Tensor) -> Sums:
    """tokens (batch, tokens, width), shift (batch, width); as they are added."""
    each = shift[:, None, :].expand_as(tokens)
    return sum_sums(tokens, each, tokens + each)


def shift_measured(sums: Sums) -> Measured:
    """claimed (uncorrelated), measured; before, change (measured / before), signal (magnitude of
    the shift), correlation (of tokens and shift)."""
    found = sum_measured(sums, 0.5, False)
    return against(
        found["claimed"], found["measured"], sums["n"], before=found["of_stream"],
        change=found["preserved"], signal=found["of_branch"], correlation=found["correlation"],
    )  # fmt: skip

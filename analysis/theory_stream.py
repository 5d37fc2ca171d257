"""The stream: magnitude of the sum of stream and branch, and of zero branches."""

import math

import torch
from torch import Tensor

from analysis.theory_sums import (
    Measured,
    Sums,
    against,
    count,
    ratio,
    root,
    square,
)

# 4. Sum


def sum_sums(stream: Tensor, branch: Tensor, after: Tensor) -> Sums:
    """stream, branch (gated) and the stream after both were joined, (batch, tokens, width)."""
    return {
        "n": count(stream), "numbers": torch.tensor(float(stream.numel()), dtype=torch.float64),
        "stream": square(stream), "branch": square(branch), "both": (stream * branch).sum(),
        "after": square(after),
    }  # fmt: skip


def sum_measured(sums: Sums, share: float, preserve: bool) -> Measured:
    """claimed (of uncorrelated parts) and measured of the run's own sum, and of either form made of
    the same parts: mp_claimed, mp_measured, plain_claimed, plain_measured. of_stream, of_branch
    (their magnitudes), balance (branch / stream), correlation (rho), preserved (measured / stream).

    share: s of the MP-sum; preserve: whether the run's own sum is that one."""
    numbers = sums["numbers"]
    sigma2, tau2, both = (float(sums[name] / numbers) for name in ("stream", "branch", "both"))
    keep = (1 - share) ** 2 / ((1 - share) ** 2 + share**2)
    cross = 2 * (keep * (1 - keep)) ** 0.5
    forms = {
        "mp_claimed": root(keep * sigma2 + (1 - keep) * tau2),
        "mp_measured": root(keep * sigma2 + (1 - keep) * tau2 + cross * both),
        "plain_claimed": root(sigma2 + tau2),
        "plain_measured": root(sigma2 + tau2 + 2 * both),
    }
    after = root(sums["after"] / numbers)
    return against(
        forms["mp_claimed" if preserve else "plain_claimed"], after, sums["n"], **forms,
        of_stream=root(sigma2), of_branch=root(tau2), balance=ratio(root(tau2), root(sigma2)),
        correlation=ratio(both, root(sigma2 * tau2)), preserved=ratio(after, root(sigma2)),
    )  # fmt: skip


# 10. Zero gates


def gates_sums(start: Tensor, before: Tensor, after: Tensor, gate: Tensor | None) -> Sums:
    """start: the stream before the first block; before, after: around this branch."""
    gated = torch.zeros((), dtype=torch.float64) if gate is None else gate.square().mean(-1).sum()
    return {
        "n": count(before), "start": square(start), "before": square(before),
        "after": square(after), "gate": gated,
        "samples": torch.tensor(float(len(before)), dtype=torch.float64),
    }  # fmt: skip


def gates_measured(sums: Sums, share: float, preserve: bool, branches: int) -> Measured:
    """claimed, measured: the branch's factor on the stream; stream_claimed, stream_measured: that
    of all branches so far (this one is number `branches`); gate (its magnitude, 0 is assumed)."""
    factor = (1 - share) / math.hypot(1 - share, share) if preserve else 1.0
    measured = root(ratio(sums["after"], sums["before"]))
    return against(
        factor, measured, sums["n"], stream_claimed=factor**branches,
        stream_measured=root(ratio(sums["after"], sums["start"])),
        gate=root(sums["gate"] / sums["samples"]),
    )  # fmt: skip

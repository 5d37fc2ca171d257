"""Do a few channels, or a few tokens, carry what flows through the network?

Massive activations sit in few channels (arXiv 2402.17762, 2510.11538, 2605.13974), and a root mean
square over channels does not show them: one channel of 8 and 63 of 0 have magnitude 1.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch

from analysis.channels_pass import Reduced, mean_with_interval, reduced, share_with_interval
from analysis.defaults import Default
from analysis.probing import ProbeSettings
from analysis.question import question
from analysis.tables import of_run
from mpdit_core.probes import PointInfo
from mpdit_core.runs import Run, Weights

ELEVEN = (*range(999, 0, -100), 0)
"""Timesteps in the order of sampling: 999, 899, ... 99, 0."""
POINTS = {"resid": "stream", "in": "modulated input", "out": "branch output"}
BRANCHES = {"attn": "attention", "mlp": "MLP"}
STATISTICS = {"share": "top channel's share", "kurtosis": "kurtosis", "token": "top token's share"}
TOP, MIDDLE = 8, 4
"""Channels that are listed: the largest, and some of middle size to compare with."""
EVERY = -1
"""Stands for all channels together in place of a channel's number."""


class ChannelSettings(ProbeSettings):
    """Held-out images noised to eleven timesteps, unless asked otherwise."""

    timesteps: tuple[int, ...] = ELEVEN


@question(version=1)
def channel_concentration(
    run: Run, weights: Weights | str, settings: ChannelSettings
) -> pd.DataFrame:
    """How much sits in the largest channel and token? One row per (place, timestep, statistic).

    Columns: run, weights, block (from 0), branch, point (resid, in, out), timestep; statistic:
    share (of the summed square that the largest channel holds), kurtosis (over channels, see
    `analysis.channels_pass.kurtosis`, mean over tokens), token (share of the square that the
    largest token position holds); value; low, high (its 95 % interval over images); which (the
    channel or token, from 0; -1 for kurtosis); size (channels or tokens there are; 1 / size is an
    even spread); n (images)."""
    rows = [
        {**where, **row}
        for where, sums in _places(run, weights, settings)
        for row in _concentration(sums)
    ]
    return of_run(pd.DataFrame(rows), run, weights)


@question(version=1)
def top_channels(run: Run, weights: Weights | str, settings: ChannelSettings) -> pd.DataFrame:
    """Which channels are largest, and where in the image? One row per (place, timestep, rank).

    Rank 1 is the largest mean absolute value; the first TOP ranks are listed, MIDDLE in the middle,
    and rank 0 for all channels together. Columns: run, weights, block (from 0), branch, point,
    timestep, rank, channel (from 0; -1 for all); mean_abs (mean of |x| over images and tokens;
    for all: the root mean square); over_median (mean_abs divided by that of the median channel);
    share (of the summed square); peak (largest |x|); tokens (list, row by row of the image: the
    mean |x|, or root mean square, over images at each token, relative to its mean over tokens;
    None for middle ranks); n (images)."""
    rows = [
        {**where, **row} for where, sums in _places(run, weights, settings) for row in _ranked(sums)
    ]
    return of_run(pd.DataFrame(rows), run, weights)


DEFAULTS = (
    Default(channel_concentration, ChannelSettings()),
    Default(top_channels, ChannelSettings()),
)


def _places(
    run: Run, weights: Weights | str, settings: ChannelSettings
) -> Iterator[tuple[dict[str, Any], Reduced]]:
    for point, timestep, sums in reduced(run, weights, tuple(POINTS), settings):
        yield place_of(point, timestep), sums


def place_of(point: PointInfo, timestep: int) -> dict[str, Any]:
    """The columns that name a place."""
    return {
        "block": point.place, "branch": point.branch, "point": point.word, "timestep": timestep,
    }  # fmt: skip


def _concentration(sums: Reduced) -> Iterator[dict[str, Any]]:
    whole = sums.squares.sum(dim=1)
    n, width = sums.squares.shape
    tokens = sums.by_token.shape[1]
    channel = largest(sums.squares.mean(dim=0).numpy())
    token = largest(sums.by_token.mean(dim=0).numpy())
    found = (
        ("share", share_with_interval(sums.squares[:, channel], whole), channel, width),
        ("kurtosis", mean_with_interval(sums.kurtosis), -1, width),
        (
            "token",
            share_with_interval(sums.by_token[:, token], sums.by_token.sum(1)),
            token,
            tokens,
        ),
    )
    for statistic, (value, low, high), which, size in found:
        yield {
            "statistic": statistic, "value": value, "low": low, "high": high, "which": which,
            "size": size, "n": n,
        }  # fmt: skip


def largest(values: np.ndarray) -> int:
    """Place of the largest that is a number; 0 where none is."""
    return int(np.argmax(np.where(np.isfinite(values), values, -np.inf)))


def _ranked(sums: Reduced) -> Iterator[dict[str, Any]]:
    mean_abs = sums.absolute.mean(dim=0).numpy()
    squares = sums.squares.mean(dim=0).numpy()
    peak, n = sums.peak.numpy(), len(sums.squares)
    rms = sums.by_token.mean(dim=0).sqrt()
    magnitude = float(np.sqrt(squares.mean()))
    yield _rank(0, EVERY, (magnitude, np.nan, 1.0, float(peak.max())), rms, n)
    median, total = np.median(mean_abs), squares.sum()
    order = np.argsort(-np.where(np.isfinite(mean_abs), mean_abs, -np.inf), kind="stable")
    for rank in listed_ranks(len(order)):
        at = int(order[rank - 1])
        with np.errstate(invalid="ignore", divide="ignore"):
            numbers = (mean_abs[at], mean_abs[at] / median, squares[at] / total, peak[at])
        yield _rank(rank, at, numbers, sums.absolute[:, at] if rank <= TOP else None, n)


def listed_ranks(width: int) -> list[int]:
    """The first TOP ranks, and MIDDLE in the middle.

    >>> listed_ranks(64)[-5:], listed_ranks(4)
    ([8, 31, 32, 33, 34], [1, 2, 3, 4])
    """
    return sorted({*range(1, min(TOP, width) + 1), *middle_ranks(width)})


def middle_ranks(width: int) -> list[int]:
    """MIDDLE ranks around the median.

    >>> middle_ranks(64), middle_ranks(4)
    ([31, 32, 33, 34], [1, 2, 3, 4])
    """
    first = max(1, (width - MIDDLE) // 2 + 1)
    return list(range(first, min(width, first + MIDDLE - 1) + 1))


def _rank(
    rank: int, channel: int, numbers: Sequence[float], tokens: torch.Tensor | None, n: int
) -> dict[str, Any]:
    names = ("mean_abs", "over_median", "share", "peak")
    # Relative numbers of half precision: three digits, and half the size of the shipped file.
    relative = None if tokens is None else (tokens / tokens.mean()).numpy().astype(np.float16)
    values = dict(zip(names, map(np.float32, numbers), strict=True))
    return {"rank": rank, "channel": channel, **values, "tokens": relative, "n": n}

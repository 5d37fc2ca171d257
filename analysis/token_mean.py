"""How much of what a branch writes is the same for every token of the image?

The square of a branch's output is the square of its mean over tokens and that of the rest. A branch
that is all mean no longer tells tokens apart, which no loss or norm shows (arXiv 2605.06169).
"""

from collections.abc import Iterator
from typing import Any

import pandas as pd
from pydantic import Field

from analysis.channels import ELEVEN, largest, place_of
from analysis.channels_pass import Reduced, reduced, share_with_interval
from analysis.defaults import Default
from analysis.probing import ProbeSettings
from analysis.question import question
from analysis.tables import of_run
from mpdit_core.progress import track
from mpdit_core.runs import Run, Weights

POINT = "out"
"""What the branch writes, before the gate: also there where gates still are 0."""
NEARLY_ALL = 0.9
"""A branch above this share is called nearly all mean."""


class TokenMeanSettings(ProbeSettings):
    """Held-out images noised to eleven timesteps, unless asked otherwise."""

    timesteps: tuple[int, ...] = ELEVEN


class TrainingSettings(ProbeSettings):
    """Of fewer images and timesteps, because every saved step is asked."""

    timesteps: tuple[int, ...] = (999, 799, 599, 399, 199, 0)
    samples: int = Field(default=2, ge=1)


@question(version=1)
def token_mean(run: Run, weights: Weights | str, settings: TokenMeanSettings) -> pd.DataFrame:
    """What share of each branch's square is its mean over tokens? One row per branch and timestep.

    The mean is that of each image. Columns: run, weights, block (from 0), branch, timestep; value
    (share of the square, before the gate), low, high (its 95 % interval over images); without (the
    share with the largest channel left out), channel (that one, from 0); tokens (of an image; 1 /
    tokens is what independent tokens have); n (images)."""
    table = pd.DataFrame(_rows(run, weights, settings))
    return of_run(table, run, weights)


@question(version=1, of="run")
def token_mean_by_step(
    run: Run, weights: Weights | str, settings: TrainingSettings
) -> pd.DataFrame:
    """The same for the raw weights of every saved step; asked of the final weights.

    Columns as `token_mean`, and step."""
    parts = [
        pd.DataFrame(_rows(run, Weights("step", step=step), settings)).assign(step=step)
        for step in track(run.steps, "Saved steps")
    ]
    table = pd.concat(parts, ignore_index=True)
    return of_run(table, run, weights)


DEFAULTS = (
    Default(token_mean, TokenMeanSettings()),
    Default(token_mean_by_step, TrainingSettings(), weights=("final",)),
)


def _rows(run: Run, weights: Weights | str, settings: ProbeSettings) -> Iterator[dict[str, Any]]:
    for point, timestep, sums in reduced(run, weights, (POINT,), settings):
        where = place_of(point, timestep)
        del where["point"]
        yield {**where, **mean_share(sums)}


def mean_share(sums: Reduced) -> dict[str, Any]:
    """Share of the mean over tokens, with its interval, and without the largest channel."""
    n, tokens = sums.by_token.shape
    value, low, high = share_with_interval(sums.of_mean.sum(1), sums.squares.sum(1))
    channel = largest(sums.squares.mean(dim=0).numpy())
    of_mean, squares = (
        part.sum() - part[:, channel].sum() for part in (sums.of_mean, sums.squares)
    )
    return {
        "value": value, "low": low, "high": high, "without": float(of_mean / squares),
        "channel": channel, "tokens": tokens, "n": n,
    }  # fmt: skip

"""How sharply does every head of attention look, how far, and how large are its logits?

Entropy of a row of attention: -sum_k w_k log w_k in nats, from 0 (one key only) to log N (all of
the N tokens alike). Cosine attention bounds every logit by sqrt(d), d the head width.
"""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from analysis.attention_pass import (
    AttentionSettings,
    logit_bound,
    lowest_entropy,
    patch_distances,
    see_attention,
)
from analysis.defaults import Default
from analysis.question import question
from analysis.tables import of_run
from mpdit_core.config import ModelConfig
from mpdit_core.runs import Run, Weights

CONFIDENCE = 1.96
"""Standard errors on each side of a 95 % interval."""


@question(version=1)
def attention_heads(run: Run, weights: Weights, settings: AttentionSettings) -> pd.DataFrame:
    """How focused is each head, and how large are its logits? One row per (block, head, timestep).

    Columns: run, weights, block and head (from 0), timestep; entropy (nats, mean over rows of
    attention), entropy_error (its standard error over images), distance (between query and key in
    patches, weighted by attention); logit_largest (of absolute values), logit_typical (root mean
    square); and, of the whole model, entropy_most (log N), entropy_least (what the bound allows,
    missing without), distance_uniform (of uniform attention), bound (sqrt(d) with cosine attention,
    else missing); n (images), tokens (N)."""
    config = run.config
    distances = patch_distances(config.size // config.patch)
    kept: dict[tuple[int, int], list[Tensor]] = {}
    shown: dict[tuple[int, int], list[Tensor]] = {}

    def keep(block: int, head: int, logits: Tensor, timesteps: Tensor) -> None:
        kept.setdefault((block, head), []).append(of_images(logits, distances))
        shown.setdefault((block, head), []).append(timesteps)

    see_attention(run, weights, settings, keep, range(config.depth), range(config.heads))
    rows = [
        {"block": block, "head": head, **row}
        for (block, head), parts in kept.items()
        for row in _by_timestep(torch.cat(parts), torch.cat(shown[block, head]))
    ]
    table = pd.DataFrame(rows).assign(**_of_model(config, distances))
    return of_run(table, run, weights)


DEFAULTS = (Default(attention_heads, AttentionSettings()),)


def of_images(logits: Tensor, distances: Tensor) -> Tensor:
    """Per image, (batch, 4): mean entropy, mean distance, largest |logit|, mean square logit.

    logits (batch, queries, keys); distances (queries, keys)."""
    logs = logits.log_softmax(dim=-1)
    weights = logs.exp()
    entropy = -(weights * logs).sum(dim=-1).mean(dim=-1)
    distance = (weights * distances).sum(dim=-1).mean(dim=-1)
    flat = logits.flatten(1)
    return torch.stack(
        [entropy, distance, flat.abs().amax(dim=1), flat.square().mean(dim=1)], dim=1
    ).double()


def _by_timestep(images: Tensor, timesteps: Tensor) -> list[dict[str, float]]:
    """One row per timestep, noisiest first, of the values of `of_images`."""
    rows = []
    for timestep in sorted(set(timesteps.tolist()), reverse=True):
        here = images[timesteps == timestep]
        entropy, distance, largest, square = here.unbind(dim=1)
        n = len(here)
        error = float(entropy.std()) / math.sqrt(n) if n > 1 else math.nan
        rows.append(
            {"timestep": timestep, "entropy": float(entropy.mean()), "entropy_error": error,
             "distance": float(distance.mean()), "logit_largest": float(largest.max()),
             "logit_typical": math.sqrt(float(square.mean())), "n": n}
        )  # fmt: skip
    return rows


def _of_model(config: ModelConfig, distances: Tensor) -> dict[str, float]:
    bound = logit_bound(config)
    return {
        "entropy_most": math.log(config.tokens),
        "entropy_least": lowest_entropy(bound, config.tokens),
        "distance_uniform": float(distances.mean()),
        "bound": bound,
        "tokens": config.tokens,
    }


def averaged(table: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Entropy and distance averaged over everything but the columns `by`.

    table: rows of `attention_heads`. Columns: `by`, entropy, entropy_error (missing: heads and
    timesteps share their images), distance, entropy_most, distance_uniform, n, tokens."""
    means = ["entropy", "distance", "entropy_most", "distance_uniform", "n", "tokens"]
    pooled = table.groupby(list(by), sort=False, as_index=False)[means].mean()
    return pooled.assign(entropy_error=np.nan)


def most_focused(table: pd.DataFrame, run: str) -> tuple[int, int]:
    """Block and head (from 0) of the run with the lowest entropy over all timesteps.

    table: rows of `attention_heads`; (0, 0) where the run has no finite entropy there."""
    entropy = table[table["run"] == run].groupby(["block", "head"])["entropy"].mean().dropna()
    if entropy.empty:
        return 0, 0
    block, head = entropy.index[int(entropy.argmin())]
    return int(block), int(head)


def logit_reach(table: pd.DataFrame) -> pd.DataFrame:
    """The largest |logit| of every head over all timesteps, and where it is.

    One row per (run, block, head); columns: run, block, head, timestep (of the largest),
    logit_largest, logit_typical (root mean square over timesteps), bound, reached (largest / bound,
    missing without a bound), n (images a timestep), tokens."""
    by = ["run", "block", "head"]
    finite = table[np.isfinite(table["logit_largest"])]
    typical = finite.assign(square=finite["logit_typical"] ** 2).groupby(by)["square"].mean()
    top = finite.loc[finite.groupby(by, sort=False)["logit_largest"].idxmax()]
    top = top[[*by, "timestep", "logit_largest", "bound", "n", "tokens"]].reset_index(drop=True)
    places = pd.MultiIndex.from_frame(top[by])
    return top.assign(
        logit_typical=np.sqrt(typical.reindex(places).to_numpy()),
        reached=top["logit_largest"] / top["bound"],
    )

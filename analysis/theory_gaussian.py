"""How are the pre-activations of each MLP distributed, beside a Gaussian?"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import torch
from pydantic import Field
from torch import Tensor

from analysis.defaults import SHOWN, Default
from analysis.question import question
from analysis.theory import TheorySettings, preactivations, watched
from analysis.theory_sums import Sums
from mpdit_core.runs import Run, Weights


class HistogramSettings(TheorySettings):
    """bins: of equal width from -reach to reach; what lies beyond is counted in the outer two."""

    bins: int = Field(default=320, ge=2)
    reach: float = Field(default=40.0, gt=0)


@question(version=2)
@torch.no_grad()
def preactivation_histogram(
    run: Run, weights: Weights | str, settings: HistogramSettings
) -> pd.DataFrame:
    """One row per (block, timestep, bin) that is not empty.

    Columns: run, weights, block (from 0), timestep, bin (its middle, in units of the
    pre-activation), width (of a bin), value (density: share of the values in the bin / its width),
    mean and deviation (of all values
    there), n (values). NaNs lie in no bin."""
    model = run.model(weights)
    width = 2 * settings.reach / settings.bins
    middles = -settings.reach + width * (np.arange(settings.bins) + 0.5)

    def examine(
        branch: Any, seen: dict[str, Tensor], stream: Tensor, start: Tensor
    ) -> Iterator[tuple[str, str, Sums]]:
        if "act" in seen:
            yield "silu", "", histogram_sums(preactivations(branch, seen), settings)

    parts = []
    for part, witness in watched(run, model, settings, examine):
        for (_, block, _, _), sums in witness.totals.sums.items():
            n, counts = float(sums["n"]), sums["counts"].numpy()
            filled = counts > 0
            found = pd.DataFrame({"bin": middles[filled], "value": counts[filled] / n / width})
            mean = float(sums["sum"] / n)
            deviation = max(float(sums["squares"] / n) - mean**2, 0.0) ** 0.5
            parts.append(
                found.assign(
                    block=block,
                    timestep=part.timestep,
                    mean=mean,
                    deviation=deviation,
                    n=int(n),
                    width=width,
                )
            )
    named = pd.concat(parts, ignore_index=True).assign(run=run.name, weights=str(weights))
    order = ["run", "weights", "block", "timestep", "bin", "width", "value"]
    return named[[*order, "mean", "deviation", "n"]]


def histogram_sums(values: Tensor, settings: HistogramSettings) -> Sums:
    """Counts per bin, sums and number of the values."""
    inside = values[~values.isnan()].clamp(-settings.reach, settings.reach)
    counts = torch.histc(inside, settings.bins, -settings.reach, settings.reach)
    return {
        "n": torch.tensor(float(values.numel()), dtype=torch.float64),
        "sum": values.sum(),
        "squares": values.square().sum(),
        "counts": counts,
    }


DEFAULTS = (Default(preactivation_histogram, HistogramSettings(), weights=("initial", SHOWN)),)

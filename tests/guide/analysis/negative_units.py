"""How many hidden units of each MLP are negative after the nonlinearity?"""

import pandas as pd
import torch
from torch import Tensor

from analysis.probing import ProbeSettings, probe_inputs, run_through
from analysis.question import question
from mpdit_core.points import visiting
from mpdit_core.runs import Run, Weights


class NegativeUnits:
    """A visitor: the share of negative units in each MLP, one row per image."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []

    def begin(self, timesteps: Tensor, labels: Tensor) -> None:
        self.timesteps = timesteps

    def wants(self, name: str) -> bool:
        return False  # nothing that is computed on request, as the attention's entropy is

    def visit(self, name: str, tensor: Tensor) -> Tensor:
        if name.endswith(".mlp.act"):
            shares = (tensor < 0).float().mean(dim=(1, 2)).tolist()
            for timestep, share in zip(self.timesteps.tolist(), shares, strict=True):
                block = int(name.split(".")[1])
                self.rows.append({"block": block, "timestep": timestep, "value": share})
        return tensor


@question(version=1)
def negative_units(run: Run, weights: Weights | str, settings: ProbeSettings) -> pd.DataFrame:
    """What share of hidden units is below 0? One row per block (from 0) and timestep.

    Columns: run, weights, block, timestep; value (share, mean over images). Raises BadData."""
    model, seen = run.model(weights), NegativeUnits()
    with torch.no_grad():
        probed = probe_inputs(run, model, settings)
        with visiting(seen):
            run_through(model, probed)
    table = pd.DataFrame(seen.rows).groupby(["block", "timestep"], as_index=False).mean()
    table.insert(0, "run", run.name)
    table.insert(1, "weights", str(weights))
    return table

"""How much does each branch add to the stream?"""

import pandas as pd

from analysis.defaults import Default
from analysis.probing import ProbeSettings, record, tidy
from analysis.question import question
from mpdit_core.runs import Run, Weights

BRANCHES = {"attn": "attention", "mlp": "the MLP"}


class BranchOutputSettings(ProbeSettings):
    """Held-out images noised to five timesteps, unless asked otherwise."""

    timesteps: tuple[int, ...] = (999, 750, 500, 250, 0)


@question(version=1)
def branch_output(run: Run, weights: Weights | str, settings: BranchOutputSettings) -> pd.DataFrame:
    """How large is what each branch adds? One row per block, branch and timestep.

    Columns: run, weights, block (from 0), branch, timestep; value (magnitude after the gate, mean
    over tokens, images and labels; no unit); n (tokens). Raises BadData."""
    found = tidy(record(run, weights, "blocks.*.gated", settings))
    means = found[found["statistic"] == "mean"]
    weighed = means.assign(value=means["value"] * means["n"])
    place = ["run", "weights", "block", "branch", "timestep"]
    summed = weighed.groupby(place, as_index=False)[["value", "n"]].sum()
    return summed.assign(value=summed["value"] / summed["n"])


DEFAULTS = (Default(branch_output, BranchOutputSettings()),)


def largest_output(table: pd.DataFrame) -> str:
    """Where most is added, in one sentence; table: some rows of `branch_output`."""
    row = table.loc[table["value"].idxmax()]
    return (
        f"{BRANCHES[row['branch']]} of block {row['block'] + 1} in {row['run']} adds most: "
        f"magnitude {row['value']:.2f} at t = {row['timestep']} (n = {row['n']:,} tokens)."
    )

"""Does the stream keep its magnitude from block to block? (figure 5 of the paper)

Magnitude of a token: root mean square over its channels. `in` is what enters a branch, modulated;
`resid` is the stream after the branch was added. "Preserved" is 1.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from analysis.defaults import SHOWN, Default
from analysis.probing import ProbeSettings, record, tidy
from analysis.question import question
from mpdit_core.config import ModelConfig
from mpdit_core.runs import Run, Weights

POINTS = ("blocks.*.in", "blocks.*.resid")
DEVIATIONS = 3
"""Half width of the band around the mean, in standard deviations, as in the paper."""

QUANTITIES = {
    "resid": "residual output",
    "in": "modulated input",
}
BRANCHES = {"attn": "attention", "mlp": "MLP"}


@question(version=1)
def magnitudes(run: Run, weights: Weights, settings: ProbeSettings) -> pd.DataFrame:
    """How large are tokens where they enter each branch, and in the stream after it?

    One row per (block, branch, point, timestep, label, statistic). Columns: run, weights, block
    (from 0), branch, point (in, resid), timestep, label, statistic (mean, variance, largest, of
    the magnitude; peak, the largest absolute value of a channel; nonfinite), value, n (tokens)."""
    table = tidy(record(run, weights, POINTS, settings))
    return table[table["statistic"] != "histogram"].drop(columns="bin").reset_index(drop=True)


@question(version=2)
def magnitude_distribution(run: Run, weights: Weights, settings: ProbeSettings) -> pd.DataFrame:
    """How are the magnitudes of the tokens distributed? At the same places as `magnitudes`.

    One row per bin that is not empty. Columns: run, weights, block, branch, point, timestep, label,
    bin (log2 of the bin's lower edge, 8 bins an octave), value (tokens in the bin), n (tokens)."""
    table = tidy(record(run, weights, POINTS, settings))
    bins = table[table["statistic"] == "histogram"]
    return bins.drop(columns="statistic").reset_index(drop=True)


DEFAULTS = (
    Default(magnitudes, ProbeSettings(), weights=("initial", SHOWN)),
    Default(magnitude_distribution, ProbeSettings()),
)


def at(
    table: pd.DataFrame,
    *,
    timestep: int | None = None,
    label: Mapping[str, int] | None = None,
    point: str | None = None,
    branch: str | None = None,
) -> pd.DataFrame:
    """The rows of one timestep, label, point, branch; None takes all.

    label: run -> its number of the label; that of the null label differs from run to run."""
    number = None if label is None else table["run"].map(label)
    wanted = {"timestep": timestep, "label": number, "point": point, "branch": branch}
    keep = np.ones(len(table), dtype=bool)
    for column, value in wanted.items():
        if value is not None:
            keep &= (table[column] == value).to_numpy()
    return table[keep]


def pooled(table: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Mean and spread of token magnitude over everything but the columns `by`.

    table: rows of `magnitudes`. Columns: `by`, mean, deviation (standard deviation over tokens),
    n (tokens). Variances within and between the cells add up."""
    mean, variance = (
        table[table["statistic"] == name].reset_index(drop=True) for name in ("mean", "variance")
    )
    n = mean["n"].to_numpy(dtype=float)
    value = mean["value"].to_numpy()
    sums = mean[list(by)].assign(
        n=n, first=n * value, second=n * (variance["value"].to_numpy() + value**2)
    )
    sums = sums.groupby(list(by), sort=False, as_index=False).sum()
    average = sums["first"] / sums["n"]
    spread = np.sqrt(np.maximum(sums["second"] / sums["n"] - average**2, 0.0))
    return sums[list(by)].assign(mean=average, deviation=spread, n=sums["n"].astype(int))


def by_block(table: pd.DataFrame) -> pd.DataFrame:
    """One row per run, weights, block, branch, point: mean, deviation, n over the rest."""
    return pooled(table, ["run", "weights", "block", "branch", "point"])


def by_timestep(table: pd.DataFrame) -> pd.DataFrame:
    """One row per run, block and timestep: mean, deviation, n; table: one branch and point."""
    return pooled(table, ["run", "block", "timestep"])


def distribution(table: pd.DataFrame) -> pd.DataFrame:
    """Share of tokens in each bin, per run; table: rows of `magnitude_distribution`.

    Columns: run, bin (log2 of the lower edge), tokens, share (of the run's tokens), n."""
    counted = table.groupby(["run", "bin"], sort=True, as_index=False)["value"].sum()
    total = counted.groupby("run")["value"].transform("sum")
    tokens = counted["value"].astype(int)
    return counted[["run", "bin"]].assign(tokens=tokens, share=tokens / total, n=total.astype(int))


def growth(blocks: pd.DataFrame) -> pd.DataFrame:
    """How much the stream changes from the first block's output to the last's.

    blocks: `by_block` of trained weights. Columns: run, first, last (means), factor, n."""
    stream = blocks[(blocks["point"] == "resid") & (blocks["branch"] == "mlp")]
    rows = []
    for run, part in stream.groupby("run", sort=False):
        part = part.sort_values("block")
        first, last = float(part["mean"].iloc[0]), float(part["mean"].iloc[-1])
        rows.append(
            {"run": run, "first": first, "last": last, "factor": last / first if first else np.nan,
             "blocks": len(part), "n": int(part["n"].min())}
        )  # fmt: skip
    return pd.DataFrame(rows)


def growth_sentence(blocks: pd.DataFrame, where: str) -> str:
    """The answer in words, from a `by_block` table; where: `at t = 500`."""
    table = growth(blocks)
    table = table[np.isfinite(table["factor"])].sort_values("factor", ascending=False)
    if table.empty:
        return f"The table holds no finite magnitudes {where}, so it cannot tell."
    depth, tokens = int(table["blocks"].max()), f"{int(table['n'].min()):,} tokens each"
    if depth < 2:
        return f"With a single block, nothing can change from block to block ({tokens})."
    if len(table) > 5:
        most, least = _factor(table.iloc[0]), _factor(table.iloc[-1])
        each = f"most in {most}, least in {least}, {len(table)} runs in view"
    else:
        each = ", ".join(_factor(row) for _, row in table.iterrows())
    ends = (
        f"block 1 to {depth}" if table["blocks"].nunique() == 1 else "the first block to the last"
    )
    change = f"From {ends} the stream's magnitude is multiplied {where}"
    return f"{change} by {each} ({tokens})."


def _factor(row: pd.Series) -> str:
    return f"{row['factor']:.3g} in {row['run']}"


def labels_in_words(config: ModelConfig, label: int) -> str:
    """`3`, or `null label`."""
    return "null label" if label == config.null_label else str(label)

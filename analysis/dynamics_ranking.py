"""Which layers grow most, how far are learning rates apart, and the answer in words.

All from the table of `analysis.dynamics`, of one or several runs.
"""

import re
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from mpdit_core.words import listed

LOW, HIGH = 0.1, 0.9
"""The percentiles whose ratio is the spread: a few odd layers do not decide it."""

GROWS = 1.005
"""Growth that three digits can show; below it nothing is said to grow."""

Words = Callable[[str], str]
"""How a layer is called: `layer_words` on screen, `str` where its name is wanted."""


def layer_words(layer: str) -> str:
    """The layer of one of our models as the screen calls it, blocks counted from 1.

    >>> layer_words("blocks.0.attn.core.qkv.weight"), layer_words("condition.up.weight")
    ('attn.qkv of block 1', 'condition.up')
    """
    if match := re.fullmatch(r"blocks\.(\d+)\.(.+)", layer):
        return f"{kind_words(match[2])} of block {int(match[1]) + 1}"
    return kind_words(layer)


def kind_words(kind: str) -> str:
    """A kind of layer without what all names share.

    >>> kind_words("blocks.*.mlp.modulation.linear.weight"), kind_words("final.linear.weight")
    ('mlp.modulation', 'final.linear')
    """
    short = kind.removeprefix("blocks.*.").removesuffix(".weight").replace(".core.", ".")
    return short.removesuffix(".linear") if short.count(".") > 1 else short


def matrices(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of weight matrices that ever moved: no vectors, no buffers, nothing frozen."""
    rows = table[table["matrix"]]
    later = rows[rows["interval"] > 0]
    # A layer that was zero has no rate, but it moved when it is not zero any more.
    moved = later["effective_lr"].fillna(np.inf) > 0
    ever = moved.groupby([later["run"], later["layer"]]).any()
    still = ever.index[~ever.to_numpy(dtype=bool)]
    return rows[~pd.MultiIndex.from_frame(rows[["run", "layer"]]).isin(still)]


def ranking(table: pd.DataFrame) -> pd.DataFrame:
    """Layers by growth, the most first; one row per (run, layer), as of the last saved step.

    Columns: run, layer, since, step (what growth spans); growth (of the mean row norm, 1 =
    unchanged); before (the saved step before the last); recent (growth since it); exponent (e where
    the norm grew as step^e since then, nan if that was step 0); norm_start, norm_mean, norm_max
    (of rows: mean at `since`, mean and maximum now); effective_lr (since `before`, 1/step);
    angle_since (radians), stable_rank, n (rows)."""
    ordered = table.sort_values("step", kind="stable")
    groups = ordered.groupby(["run", "layer"], sort=False)
    last = groups.tail(1).copy()
    before = ordered[groups.cumcount(ascending=False) == 1]
    earlier = before.set_index(["run", "layer"])["norm_mean"]
    keys = pd.MultiIndex.from_frame(last[["run", "layer"]])
    norm_before = earlier.reindex(keys).to_numpy(dtype=float)
    last["before"] = last["step"] - last["interval"]
    with np.errstate(divide="ignore", invalid="ignore"):
        last["recent"] = last["norm_mean"] / np.where(norm_before > 0, norm_before, np.nan)
        passed = np.log(last["step"] / last["before"].where(last["before"] > 0))
        last["exponent"] = np.log(last["recent"]) / passed.where(passed > 0)
        last["norm_start"] = last["norm_mean"] / last["growth"]
    return last.sort_values("growth", ascending=False, kind="stable")[RANKED].reset_index(drop=True)


RANKED = [
    "run", "layer", "since", "step", "growth", "before", "recent", "exponent", "norm_start",
    "norm_mean", "norm_max", "effective_lr", "angle_since", "stable_rank", "n",
]  # fmt: skip


def ranking_in_units(table: pd.DataFrame, words: Words = str) -> pd.DataFrame:
    """The ranking as the screen shows it, titles with their units; table: `matrices`."""
    ranked = ranking(table).dropna(subset=["growth"])
    return pd.DataFrame(
        {
            "run": ranked["run"],
            "layer": ranked["layer"].map(words),
            "growth, times": ranked["growth"],
            "from step": ranked["since"],
            "to step": ranked["step"],
            "last interval, %": 100 * (ranked["recent"] - 1),
            "norm then": ranked["norm_start"],
            "norm now": ranked["norm_mean"],
            "largest row": ranked["norm_max"],
            "learning rate, 1e-6": 1e6 * ranked["effective_lr"],
            "turned, degrees": np.degrees(ranked["angle_since"]),
            "stable rank": ranked["stable_rank"],
        }
    )


def spread(table: pd.DataFrame) -> pd.DataFrame:
    """How far effective learning rates are apart; one row per (run, saved step but the first).

    table: `matrices`. Columns: run; before, step (the interval); low, middle, high (10th, 50th and
    90th percentile over layers, 1/step); value (high / low, no unit, 1 = all learn equally fast);
    slowest, fastest (layers); n (layers that have a rate)."""
    rows = []
    known = table[table["effective_lr"].notna()]
    order = {run: place for place, run in enumerate(table["run"].unique())}
    for (run, step), own in sorted(
        known.groupby(["run", "step"]), key=lambda group: (order[group[0][0]], group[0][1])
    ):
        rates = own["effective_lr"]
        low, middle, high = np.quantile(rates, [LOW, 0.5, HIGH])
        rows.append(
            {"run": run, "before": step - own["interval"].iloc[0], "step": step, "low": low,
             "middle": middle, "high": high, "value": high / low if low > 0 else np.inf,
             "slowest": own["layer"].loc[rates.idxmin()],
             "fastest": own["layer"].loc[rates.idxmax()], "n": len(own)}
        )  # fmt: skip
    return pd.DataFrame(rows, columns=SPREAD)


SPREAD = ["run", "before", "step", "low", "middle", "high", "value", "slowest", "fastest", "n"]


def dynamics_sentence(table: pd.DataFrame, words: Words = str) -> str:
    """The answer: the fastest growing weights of each run. table: `matrices`."""
    ranked = ranking(table).dropna(subset=["growth"])
    ranked = ranked[ranked["since"] < ranked["step"]]
    first = ranked.groupby("run", sort=False).head(1)
    if first.empty:
        return "The saved steps do not tell whether weights grow: that takes two of one run."
    growing = [row for row in first.to_dict("records") if row["growth"] >= GROWS]
    resting = [row["run"] for row in first.to_dict("records") if row["growth"] < GROWS]
    parts = [_most(row, words) for row in (growing if len(first) <= 5 else growing[:3])]
    if others := [row["run"] for row in growing[len(parts) :]]:
        parts.append(f"less in {listed(others)}")
    said = f"Fastest growing weights: {'; '.join(parts)}" if parts else ""
    if resting:
        many = f"the other {len(resting)} runs"
        none = f"no layer of {listed(resting) if len(first) <= 5 or not parts else many} grows"
        said = f"{said}; {none}" if said else none.capitalize()
    return f"{said}."


def _most(row: dict, words: Words) -> str:
    return (
        f"{words(row['layer'])} in {row['run']}, {row['growth']:.3g} times from step "
        f"{row['since']:,} to {row['step']:,}"
    )


def steps_sentence(table: pd.DataFrame) -> str:
    """Which saved steps the numbers come from, runs with the same ones together, unnamed if one."""
    steps = {run: tuple(sorted(set(own))) for run, own in table.groupby("run", sort=False)["step"]}
    groups: dict[tuple[int, ...], list[str]] = {}
    for run, own in steps.items():
        groups.setdefault(own, []).append(str(run))
    if len(steps) == 1:
        return f"Saved steps: {_steps(next(iter(groups)))}."
    parts = [f"{_steps(own)} ({listed(runs)})" for own, runs in groups.items()]
    return f"Saved steps: {'; '.join(parts)}."


def _steps(steps: Sequence[int]) -> str:
    if len(steps) <= 6:
        return ", ".join(f"{step:,}" for step in steps)
    return f"{steps[0]:,}, {steps[1]:,} ... {steps[-1]:,}, {len(steps)} of them"

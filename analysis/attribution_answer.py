"""What the tables of attribution say: shares with intervals, rows for figures, sentences."""

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy import stats

from analysis.attribution_pass import ALL
from analysis.channels_pass import CONFIDENCE

MEASURES = {"conductance": "what comes through", "ablation": "what its loss takes"}
SIGNAL_WORDS = {
    "scale": "scale", "shift": "shift", "angle": "rotation", "gate": "gate", "gain": "output gain"
}  # fmt: skip
PLACE = ["run", "block", "branch", "signal", "timestep"]


def shares(table: pd.DataFrame, measure: str) -> pd.DataFrame:
    """Of the label's effect, the part of every place. table: rows of `class_carriers`.

    One row per (run, block, branch, signal, timestep), labels and images together: value (sum over
    images of the measure / sum of the effect; nan where the label does nothing), low, high (95 %
    interval of a ratio of means over images), effect (mean), gap (sum of gaps / sum of effects),
    n (images)."""
    part, whole = table[measure].astype(float), table["effect"].astype(float)
    exact = table[PLACE].assign(
        part=part, whole=whole, gap=table["gap"].astype(float), n=1.0,
        squares=part**2, products=part * whole, wholes=whole**2,
    )  # fmt: skip
    sums = exact.groupby(PLACE, sort=False).sum(skipna=False).reset_index()
    n, known = sums["n"], sums["whole"].where(sums["whole"] > 0)
    ratio = sums["part"] / known
    # The sum of squared residuals part - ratio * whole; their mean is 0 (the delta method).
    rest = sums["squares"] - 2 * ratio * sums["products"] + ratio**2 * sums["wholes"]
    free = (n - 1).where(n > 1)
    quantile = stats.t.ppf((1 + CONFIDENCE) / 2, free)
    half = quantile * np.sqrt(rest.clip(lower=0) / free / n) / (known / n)
    return sums[PLACE].assign(
        value=ratio, low=ratio - half, high=ratio + half, effect=sums["whole"] / n,
        gap=sums["gap"] / known, n=n.astype(int),
    )  # fmt: skip


def whole_blocks(table: pd.DataFrame) -> pd.DataFrame:
    """The rows that speak of blocks and of the final layer as wholes."""
    return table[table["signal"] == ALL]


def single_signals(table: pd.DataFrame) -> pd.DataFrame:
    """The rows that speak of one signal."""
    return table[table["signal"] != ALL]


def of_label(table: pd.DataFrame, label: int | str) -> pd.DataFrame:
    """The rows of one label; of every label where it is `ALL`."""
    return table if label == ALL else table[table["label"] == label]


def block_words(block: int, depth: int) -> str:
    """A block of the tables in words.

    >>> block_words(2, 6), block_words(6, 6)
    ('block 3', 'the final layer')
    """
    return "the final layer" if block == depth else f"block {block + 1}"


def largest_gap(rows: pd.DataFrame) -> float:
    """The largest gap relative to the effect; nan where no label does anything."""
    gaps = rows["gap"].abs().to_numpy(float)
    gaps = gaps[np.isfinite(gaps)]
    return float(gaps.max()) if len(gaps) else math.nan


def gap_words(gap: float) -> str:
    """The completeness gap in words.

    >>> gap_words(0.00213), gap_words(1e-7), gap_words(float("nan"))
    ('0.21 %', 'below 0.01 %', 'unknown')
    """
    if math.isnan(gap):
        return "unknown"
    return "below 0.01 %" if abs(gap) < 1e-4 else f"{100 * abs(gap):.2g} %"


def at_timestep(table: pd.DataFrame, timestep: int) -> pd.DataFrame:
    """The rows of one timestep."""
    return table[table["timestep"] == timestep].reset_index(drop=True)


def of_image(table: pd.DataFrame, run: str, label: int, image: int) -> pd.DataFrame:
    """`patch_attribution` of one image at every timestep."""
    chosen = (table["run"] == run) & (table["label"] == label) & (table["image"] == image)
    return table[chosen].reset_index(drop=True)


def carriers_answer(rows: pd.DataFrame, depths: Mapping[str, int], timestep: int) -> str:
    """The block of most effect in every run; rows: `shares` of whole blocks."""
    now = rows[(rows["timestep"] == timestep) & rows["value"].notna()]
    if now.empty:
        return f"At t = {timestep} no label changes the predicted noise of the runs in view."
    best = now.sort_values("value", ascending=False, kind="stable").drop_duplicates("run")
    told = []
    for run in dict.fromkeys(now["run"]):
        row = best[best["run"] == run].iloc[0]
        place = block_words(int(row["block"]), depths[run])
        told.append(
            f"in {run} {place} carries {percent(row['value'])} "
            f"({percent(row['low'])} to {percent(row['high'])})"
        )
    if len(told) > 5:
        told = [*told[:5], f"and so on for {len(told) - 5} more runs below"]
    n = int(now["n"].iloc[0])
    return f"At t = {timestep}, of the label's effect on the predicted noise: {'; '.join(told)}; " \
           f"95 % intervals over {n} images."  # fmt: skip


def percent(share: float) -> str:
    """A share that may be negative.

    >>> percent(0.413), percent(-0.05), percent(0.004)
    ('41 %', '-5 %', '0.4 %')
    """
    if not math.isfinite(share):
        return "?"
    return f"{100 * share:.0f} %" if abs(share) >= 0.01 or share == 0 else f"{100 * share:.1f} %"


def ablation_sentence(rows: pd.DataFrame, measure: str, run: str, depth: int) -> str:
    """The signal that carries most; rows: `shares` of single signals at one timestep, one run."""
    known = rows[rows["value"].notna()]
    if known.empty:
        return f"Here no label changes the predicted noise of {run}."
    top = known.loc[known["value"].idxmax()]
    where = block_words(int(top["block"]), depth)
    branch = {"attn": "attention in ", "mlp": "the MLP in "}.get(str(top["branch"]), "")
    what = f"the {SIGNAL_WORDS[str(top['signal'])]} of {branch}{where}"
    interval = f"{percent(top['low'])} to {percent(top['high'])}"
    value = percent(top["value"])
    if measure == "conductance":
        return f"In {run} most of the effect, {value} ({interval}), comes through {what}."
    return (
        f"In {run} {what} at its null-label value takes most of the effect: {value} ({interval})."
    )


def by_patch(rows: pd.DataFrame) -> pd.DataFrame:
    """Sums over the pixels of every patch; rows: `patch_attribution` of one image and timestep.

    Columns: row, column (of the patch, from 0), value, changed (both parts of the effect)."""
    side, effect = int(rows["patch"].iloc[0]), float(rows["effect"].iloc[0])
    sums = (
        rows.assign(row=rows["row"] // side, column=rows["column"] // side)
        .groupby(["row", "column"], as_index=False)[["value", "changed"]]
        .sum()
    )
    known = math.isfinite(effect) and effect > 0
    scale = 1 / effect if known else math.nan
    return sums.assign(value=sums["value"] * scale, changed=sums["changed"] * scale)


def patch_limit(table: pd.DataFrame) -> float:
    """The largest share of a patch at any timestep: the fixed end of the colours."""
    largest = [
        by_patch(own)[["value", "changed"]].abs().to_numpy().max()
        for _, own in table.groupby(["timestep", "label", "image"], sort=False)
    ]
    finite = [value for value in largest if math.isfinite(value)]
    return float(np.quantile(finite, 0.9)) if finite else 1.0


def patch_sentence(rows: pd.DataFrame, run: str) -> str:
    """What the image adds to the effect; rows: `patch_attribution` of one image and timestep."""
    first = rows.iloc[0]
    effect, start, gap = (float(first[name]) for name in ("effect", "start", "gap"))
    moment = f"At t = {first['timestep']}, label {first['label']}, image {first['image'] + 1}"
    if not (math.isfinite(effect) and effect > 0):
        return f"{moment}: in {run} the label does not change the predicted noise."
    patches = by_patch(rows)
    top = patches.loc[patches["value"].abs().idxmax()]
    place = f"row {int(top['row']) + 1}, column {int(top['column']) + 1}"
    return (
        f"{moment}: in {run} the label's effect is {effect:.3g}; from the same noise without the "
        f"image it would be {percent(start / effect)} of that, and the patch in {place} changes it "
        f"most ({_signed(float(top['value']))}); completeness gap {gap_words(gap / effect)}."
    )


def _signed(share: float) -> str:
    return f"{'+' if share > 0 else ''}{percent(share)}"


def effect_by_label(table: pd.DataFrame) -> pd.DataFrame:
    """One row per (run, timestep, label): effect, gap (part of the effect), n (images).

    table: `embedding_attribution`."""
    each = table.drop_duplicates(["run", "timestep", "label"])
    effect = each["effect"].where(each["effect"] > 0)
    return each.assign(gap=each["gap"] / effect)[
        ["run", "timestep", "label", "effect", "gap", "n"]
    ].reset_index(drop=True)


def concentration(table: pd.DataFrame, timestep: int) -> pd.DataFrame:
    """How many channels of the embedding carry the effect; labels weigh by their effect.

    table: `embedding_attribution`. One row per (run, rank): rank (from 1, the channel with the
    largest sum over labels first), channel, share (its own), together (of the first `rank`)."""
    parts = []
    for run, own in table[table["timestep"] == timestep].groupby("run", sort=False):
        total = float(own.drop_duplicates("label")["effect"].sum())
        by_channel = own.groupby("channel")["value"].sum()
        order = np.argsort(-by_channel.to_numpy(), kind="stable")
        ordered = by_channel.iloc[order]
        share = ordered.to_numpy(float) / (total if total > 0 else math.nan)
        parts.append(
            pd.DataFrame(
                {"run": run, "rank": np.arange(1, len(order) + 1), "channel": ordered.index,
                 "share": share, "together": share.cumsum()}
            )
        )  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def mean_effect(table: pd.DataFrame) -> pd.DataFrame:
    """One row per (run, timestep): effect, n (images). table: `class_carriers`."""
    each = table.drop_duplicates(["run", "timestep", "image"])
    return each.groupby(["run", "timestep"], sort=False, as_index=False).agg(
        effect=("effect", "mean"), n=("effect", "size")
    )


def concentration_sentence(ranked: pd.DataFrame, timestep: int) -> str:
    """How many channels of the embedding carry half of the effect; ranked: `concentration`."""
    told = []
    for run, own in ranked.groupby("run", sort=False):
        enough = own[own["together"] >= 0.5]
        if len(enough):
            told.append(f"{int(enough['rank'].iloc[0])} of {len(own)} in {run}")
    if not told:
        return f"At t = {timestep} no label changes the predicted noise of the runs in view."
    return (
        f"At t = {timestep} half of the label's effect comes from so few channels of its "
        f"embedding: {', '.join(told)}."
    )


def positive_limits(table: pd.DataFrame) -> tuple[float, float] | None:
    """Smallest and largest effect above 0: the ends of a scale; None where there is none."""
    effects = table["effect"].to_numpy(float)
    known = effects[np.isfinite(effects) & (effects > 0)]
    return (float(known.min()), float(known.max())) if len(known) else None

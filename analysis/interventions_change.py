"""Before and after an intervention, compared image by image: tables, intervals and sentences.

Both tables come from `analysis.interventions`, for the same seed, so that image i is drawn from the
same noise in both.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from analysis.interventions import UNREADABLE
from mpdit_core.interventions.intervention import Intervention
from mpdit_core.words import capital

CONFIDENCE = 0.95
GRID = 10
"""Images in a grid: one a label of the digits."""


def paired(before: pd.DataFrame, after: pd.DataFrame) -> pd.DataFrame:
    """One row per run and image; tables: `intervened_samples`.

    Columns: run, label, seed, index, channels, size; read_before, read_after; pixels_before,
    pixels_after; difference (root mean square over the pixels of after - before, in the units of
    the data)."""
    keys = ["run", "index"]
    changed = after[[*keys, "read", "pixels"]]
    table = before.drop(columns="weights").merge(changed, on=keys, suffixes=("_before", "_after"))
    pairs = zip(table["pixels_before"], table["pixels_after"], strict=True)
    with np.errstate(over="ignore", invalid="ignore"):
        difference = [float(np.sqrt(np.mean(np.square(b - a)))) for a, b in pairs]
    return table.assign(difference=difference)


def chosen_images(pairs: pd.DataFrame, most_changed: bool, count: int = GRID) -> pd.DataFrame:
    """The images of a grid: the first ones, or those that changed most, most first."""
    if not most_changed:
        return pairs.sort_values("index").head(count)
    return pairs.sort_values("difference", ascending=False, na_position="first").head(count)


def recognized_change(pairs: pd.DataFrame) -> pd.DataFrame:
    """Change of the share of images read as their label; one row per run that draws digits.

    pairs: `paired`. Columns: run; before, after (shares); change, low, high (after - before, with
    its 95 % interval for paired shares: Agresti and Min's, Wald's with half an image added to each
    of the four cells of the 2 x 2 table, Statistics in Medicine 24, 2005); lost (images read right
    before only), gained (after only), n (images)."""
    rows = []
    for run, part in pairs[pairs["read_before"].notna()].groupby("run", sort=False):
        right_before = (part["read_before"] == part["label"]).to_numpy(dtype=bool)
        right_after = (part["read_after"] == part["label"]).to_numpy(dtype=bool)
        lost = int((right_before & ~right_after).sum())
        gained = int((~right_before & right_after).sum())
        low, high = paired_interval(lost, gained, len(part))
        before, after = float(right_before.mean()), float(right_after.mean())
        rows.append((run, before, after, after - before, low, high, lost, gained, len(part)))
    names = ["run", "before", "after", "change", "low", "high", "lost", "gained", "n"]
    return pd.DataFrame(rows, columns=names)


def paired_interval(lost: int, gained: int, n: int) -> tuple[float, float]:
    """95 % interval of (gained - lost) / n, see `recognized_change`.

    >>> [round(end, 3) for end in paired_interval(0, 0, 200)]
    [-0.01, 0.01]
    """
    b, c, size = lost + 0.5, gained + 0.5, n + 2
    middle = (c - b) / size
    error = np.sqrt(b + c - (c - b) ** 2 / size) / size
    half = float(stats.norm.ppf((1 + CONFIDENCE) / 2) * error)
    return max(-1.0, middle - half), min(1.0, middle + half)


def stream_change(before: pd.DataFrame, after: pd.DataFrame) -> pd.DataFrame:
    """The stream's magnitude after every branch, before and after.

    Tables: `intervened_stream`. One row per run, block, branch and timestep, and one with timestep
    <NA> for the mean over all. Columns: run, block (from 0), branch, timestep; before, after
    (geometric means over images); factor (after / before), low, high (its 95 % interval: Student's
    t of the paired differences of logarithms; nan where it cannot be told); n (images)."""
    keys = ["run", "block", "branch", "index", "timestep"]
    sides = [table.set_index(keys)["value"] for table in (before, after)]
    each = pd.concat(sides, axis=1, keys=["before", "after"], join="inner").reset_index()
    over_all = each.groupby(keys[:-1], sort=False, as_index=False)[["before", "after"]].mean()
    both = pd.concat([over_all.assign(timestep=pd.NA), each], ignore_index=True)
    return _factors(both.astype({"timestep": "Int64"}))


def at_timestep(changes: pd.DataFrame, timestep: int | None) -> pd.DataFrame:
    """The rows of `stream_change` at one timestep, or of the mean over all."""
    return changes[
        changes["timestep"].isna() if timestep is None else changes["timestep"].eq(timestep)
    ]


def _factors(pairs: pd.DataFrame) -> pd.DataFrame:
    places = ["run", "block", "branch", "timestep"]
    with np.errstate(all="ignore"):
        logs = np.log(pairs[["before", "after"]])
        logs = pairs[places].assign(**logs, change=logs["after"] - logs["before"])
        groups = logs.groupby(places, sort=False, dropna=False)
        table = groups.agg(
            before=("before", "mean"), after=("after", "mean"), factor=("change", "mean"),
            error=("change", "sem"), n=("change", "size"),
        ).reset_index()  # fmt: skip
        half = stats.t.ppf((1 + CONFIDENCE) / 2, np.maximum(table["n"] - 1, 1)) * table["error"]
        table = table.assign(low=table["factor"] - half, high=table["factor"] + half)
        told = ["before", "after", "factor", "low", "high"]
        return table.assign(**np.exp(table[told]))[[*places, *told, "n"]]


def names_of(interventions: Sequence[Intervention]) -> str:
    """All of them in words; the start of a sentence."""
    words = "; ".join(one.name for one in interventions) or "nothing changed"
    return capital(words)


def change_sentence(
    interventions: Sequence[Intervention], pairs: pd.DataFrame, stream: pd.DataFrame | None
) -> str:
    """The answer in words, of one run. pairs: `paired`; stream: `stream_change`."""
    run, n = pairs["run"].iloc[0], len(pairs)
    found = recognized_change(pairs)
    if found.empty:
        middle = float(pairs["difference"].median())
        said = f"the {n} images differ by {middle:.3g} (median root mean square, units of the data)"
    else:
        said = _recognized_words(found.iloc[0], n)
    return f"{names_of(interventions)}: in {run} {said}{_stream_words(stream)}."


def _recognized_words(row: pd.Series, n: int) -> str:
    interval = f"95 % interval {100 * row['low']:+.1f} to {100 * row['high']:+.1f}; n = {n} pairs"
    if row["low"] <= 0 <= row["high"]:
        return (
            f"no change of recognized samples can be told ({100 * row['before']:.1f} % before, "
            f"{100 * row['after']:.1f} % after; {interval})"
        )
    verb = "fall" if row["change"] < 0 else "rise"
    return (
        f"recognized samples {verb} from {100 * row['before']:.1f} to {100 * row['after']:.1f} % "
        f"({100 * row['change']:+.1f} points, {interval})"
    )


def _stream_words(stream: pd.DataFrame | None) -> str:
    """Where the stream's magnitude changed most when it first did: later the images differ too."""
    if stream is None:
        return ""
    each = stream[stream["timestep"].notna()]
    told = each[(each["low"] > 1) | (each["high"] < 1)]
    if told.empty:
        return "; no change of the stream's magnitude can be told"
    first = told[told["timestep"] == told["timestep"].max()]
    row = first.iloc[int(np.abs(np.log(first["factor"].to_numpy())).argmax())]
    branch = {"attn": "attention", "mlp": "MLP"}[row["branch"]]
    return (
        f"; at t = {row['timestep']} the stream changes most after the {branch} of block "
        f"{row['block'] + 1}, to {row['factor']:.3g} times ({row['low']:.3g} to {row['high']:.3g}, "
        f"{row['n']} images)"
    )


def reading_words(label: int, read: object) -> str:
    """What a reading says beside an image: nothing where nothing is read."""
    if read is None or read is pd.NA:
        return ""
    if read == UNREADABLE:
        return "not finite"
    return "recognized" if read == label else f"read as {read}"

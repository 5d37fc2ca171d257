"""What the tables of channels and tokens say, in rows for a figure and in sentences."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.channels import EVERY, TOP, middle_ranks
from analysis.token_mean import NEARLY_ALL
from mpdit_core.interventions import ZeroChannels

WHERE = {"resid": "stream", "in": "in", "out": "out"}
"""Point -> `where` of an intervention that acts there."""
FEW_RUNS = 5


def at(table: pd.DataFrame, **wanted: object) -> pd.DataFrame:
    """The rows that have these values in these columns."""
    keep = np.ones(len(table), dtype=bool)
    for column, value in wanted.items():
        keep &= (table[column] == value).to_numpy()
    return table[keep]


def place_words(point: str, branch: str, block: int) -> str:
    """A place in words; block from 0.

    >>> place_words("resid", "mlp", 2), place_words("in", "attn", 0)
    ('stream after the MLP of block 3', 'modulated input of attention of block 1')
    """
    of = {"attn": "attention", "mlp": "the MLP"}[branch]
    link = {"resid": "stream after", "in": "modulated input of", "out": "output of"}[point]
    return f"{link} {of} of block {block + 1}"


def largest_rows(table: pd.DataFrame) -> pd.DataFrame:
    """Per run the row with the largest finite value, the largest run first."""
    finite = table[np.isfinite(table["value"])]
    first = finite.sort_values("value", ascending=False, kind="stable")
    return first.drop_duplicates("run").reset_index(drop=True)


def concentration_sentence(table: pd.DataFrame) -> str:
    """The run and the place where one channel carries most; table: `channel_concentration`."""
    most = largest_rows(table[table["statistic"] == "share"])
    if most.empty:
        return "The table holds no finite activations, so it cannot tell."
    row = most.iloc[0]
    where = place_words(row["point"], row["branch"], row["block"])
    sentence = (
        f"In {row['run']} channel {row['which']} alone carries {percent(row['value'])} of the "
        f"square of the {where} at t = {row['timestep']} ({_interval(row)}; {row['n']} images), "
        f"where an even spread over {row['size']} channels gives {percent(1 / row['size'])}"
    )
    return f"{sentence}{_elsewhere(most)}."


def _elsewhere(most: pd.DataFrame) -> str:
    others = most.iloc[1:]
    if others.empty:
        return ""
    if len(most) > FEW_RUNS:
        last = others.iloc[-1]
        return f"; least of the {len(most)} runs in view: {last['run']}, {percent(last['value'])}"
    each = ", ".join(f"{row['run']} {percent(row['value'])}" for _, row in others.iterrows())
    return f"; the most of any channel in the others: {each}"


def mean_sentence(table: pd.DataFrame) -> str:
    """The branch that is most of all its mean over tokens; table: `token_mean`."""
    most = largest_rows(table)
    if most.empty:
        return "The table holds no finite branch outputs, so it cannot tell."
    row = most.iloc[0]
    sentence = (
        f"In {row['run']} {percent(row['value'])} of what {_branch_words(row)} writes at "
        f"t = {row['timestep']} is the same for all tokens ({_interval(row)}; {row['n']} images); "
        f"independent tokens have {percent(1 / row['tokens'])}"
    )
    return f"{sentence}. Branches above {percent(NEARLY_ALL)} at some timestep: {_counts(table)}."


def _branch_words(row: pd.Series) -> str:
    return f"{'attention' if row['branch'] == 'attn' else 'the MLP'} of block {row['block'] + 1}"


def _counts(table: pd.DataFrame) -> str:
    """`A 5 of 12, E none of 12`."""
    each = table.groupby(["run", "block", "branch"], sort=False)["value"].max().reset_index()
    said = []
    for run, part in each.groupby("run", sort=False):
        number = int((part["value"] > NEARLY_ALL).sum())
        said.append(f"{run} {number or 'none'} of {len(part)}")
    return ", ".join(said)


def with_words(table: pd.DataFrame) -> pd.DataFrame:
    """With a column `said`: what a map's hover adds to the number.

    table: `channel_concentration` of one statistic, or `token_mean`."""
    return table.assign(said=[_said(row) for row in table.to_dict("records")])


def _said(row: dict[str, Any]) -> str:
    if "without" in row:
        return f"{percent(row['without'])} without channel {row['channel']}, the largest"
    if row["statistic"] == "kurtosis":
        return "mean over tokens; 3 for a Gaussian"
    what = "channel" if row["statistic"] == "share" else "token"
    return f"{what} {row['which']} of {row['size']}, counted from 0"


def channel_words(rows: pd.DataFrame) -> dict[int, str]:
    """Rank -> what a list of choices says; rows: `top_channels` of one place and timestep."""
    return {
        int(row["rank"]): "all channels" if row["channel"] == EVERY else f"channel {row['channel']}"
        for _, row in rows[rows["rank"] <= TOP].iterrows()
    }


def on_the_image(rows: pd.DataFrame, rank: int) -> pd.DataFrame:
    """The tokens of one channel, one row per patch; rows: `top_channels` of a place and timestep.

    Columns: those of the channel; row, column (of the patch in the image, from 1), relative (mean
    |x| there divided by the mean over patches; of all channels the magnitude), value (not divided).
    """
    chosen = rows[rows["rank"] == rank]
    relative = np.asarray(chosen["tokens"].iloc[0], dtype=float)
    side = math.isqrt(len(relative))
    place = np.arange(len(relative))
    each = chosen.drop(columns="tokens").loc[chosen.index.repeat(len(relative))]
    return each.reset_index(drop=True).assign(
        row=place // side + 1, column=place % side + 1, relative=relative,
        value=relative * float(chosen["mean_abs"].iloc[0]),
    )  # fmt: skip


def biggest(rows: pd.DataFrame, count: int) -> tuple[int, ...]:
    """The channels of largest mean absolute value; rows: `top_channels` of a place and timestep."""
    chosen = rows[(rows["rank"] > 0) & (rows["rank"] <= min(count, TOP))].sort_values("rank")
    return tuple(chosen["channel"].astype(int))


def middling(rows: pd.DataFrame, count: int, width: int) -> tuple[int, ...]:
    """As many channels of middle size, none of the `count` largest; fewer where there are no more.

    width: channels there are."""
    ranks = [rank for rank in middle_ranks(width) if rank > count][:count]
    return tuple(rows[rows["rank"].isin(ranks)].sort_values("rank")["channel"].astype(int))


def zeroing(
    channels: Sequence[int], point: str, branch: str, block: int | None
) -> tuple[ZeroChannels, ...]:
    """The channels at 0 at this place (block from 0); None: at this point of every branch."""
    where = WHERE[point]
    if block is None:
        return (ZeroChannels.checked({"channels": channels, "where": where}),)
    here = {"blocks": (block,), "branches": (branch,)}
    return (ZeroChannels.checked({"channels": channels, "where": where, **here}),)


def percent(share: float) -> str:
    """Three digits; more where 100 % would be said of what is a little less.

    >>> percent(0.01562), percent(0.925), percent(0.99993), percent(1.0)
    ('1.56 %', '92.5 %', '99.993 %', '100 %')
    """
    gap = 1 - share
    nines = math.ceil(-math.log10(gap)) if 0 < gap < 1 else 0
    return f"{100 * share:.{min(max(3, nines), 9)}g} %"


def _interval(row: pd.Series) -> str:
    if not np.isfinite(row["low"]):
        return "no interval from a single image"
    return f"95 % interval {percent(row['low'])[:-2]} to {percent(row['high'])}"

"""How much do two sides differ, place by place, and where is that more than chance?

Tables of `analysis.compare`. "Base" is the side a ratio is divided by. Intervals are percentile
bootstrap intervals over pairs (Efron, Tibshirani, An Introduction to the Bootstrap, ch. 13).
Hundreds of places are asked at once, so a difference counts as clear only outside of a band that is
widened for all of them together: the 95 % quantile, over resamples of the same pairs, of the
largest deviation of any place in its own standard errors (max-t: Romano and Wolf, JASA 100, 2005).
The places share their images and are dependent; resampled together, they stay so.
"""

import numpy as np
import pandas as pd

from mpdit_core.errors import BadData

PLACE = ["statistic", "block", "branch", "timestep"]
RESAMPLES = 2000
CONFIDENCE = 0.95
SAME_IMAGE = 1e-3
"""Tolerance of the fingerprint, which is some units large: machines round differently."""


def paired(base: pd.DataFrame, other: pd.DataFrame) -> pd.DataFrame:
    """Every pair of both sides: PLACE, sample, label, base, other; one row a place and sample.

    base, other: one `compared_statistics` each. Raises BadData where they saw other images."""
    keys = [*PLACE, "sample"]
    both = base.merge(other, on=keys, suffixes=("", "_other"))
    same = np.isclose(both["seen"], both["seen_other"], rtol=0, atol=SAME_IMAGE)
    if both.empty or not same.all() or (both["label"] != both["label_other"]).any():
        raise BadData(
            f"{_side(base)} and {_side(other)} were not shown the same images, so they cannot be "
            "paired; both need the same data, labels and timesteps"
        )
    named = both.rename(columns={"value": "base", "value_other": "other"})
    return named[[*keys, "label", "base", "other"]]


def _side(table: pd.DataFrame) -> str:
    return f"{table['run'].iloc[0]} ({table['weights'].iloc[0]})" if len(table) else "An empty side"


def differences(base: pd.DataFrame, other: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """One row per place that both sides have: clear ones first, then the largest ratio either way.

    Columns: PLACE; base, other (means over pairs), ratio (other / base) and low, high (its 95 %
    interval); difference (other - base), difference_low, difference_high; wide_low, wide_high (the
    ratio's band for all places together), clear (1 outside of that band), alone (1 outside of low
    to high), n (pairs). Places where a side is not finite or not positive are left out. Raises
    BadData where the sides saw other images."""
    pairs = paired(base, other)
    tables, draws = [], []
    for rows, values in _by_size(pairs):
        table, spread = _compared(rows, values, np.random.default_rng(seed))
        tables.append(table)
        draws.append(spread)
    table = pd.concat(tables, ignore_index=True)
    table = _widened(table, np.concatenate(draws))
    size = np.log2(table["ratio"]).abs()
    order = table.assign(size=size).sort_values(["clear", "size"], ascending=False, kind="stable")
    return order.drop(columns=["size", "error"]).reset_index(drop=True)


def _by_size(pairs: pd.DataFrame) -> list[tuple[pd.DataFrame, np.ndarray]]:
    """Places with equally many pairs: their PLACE columns, and values (2, places, pairs)."""
    ordered = pairs.sort_values([*PLACE, "sample"], kind="stable")
    n = ordered.groupby(PLACE, sort=False)["sample"].transform("size")
    found = []
    for size, rows in ordered.groupby(n):
        values = rows[["base", "other"]].to_numpy(dtype=float).T.reshape(2, -1, int(str(size)))
        positive = np.isfinite(values).all(axis=(0, 2)) & (values.mean(axis=2) > 0).all(axis=0)
        places = rows[PLACE].iloc[:: int(str(size))][positive].reset_index(drop=True)
        found.append((places, values[:, positive]))
    return found


def resampled(values: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Means of resampled pairs: (..., pairs) -> (..., RESAMPLES); the same pairs everywhere."""
    n = values.shape[-1]
    counts = generator.multinomial(n, np.full(n, 1 / n), size=RESAMPLES)
    return values @ (counts.T / n)


def _compared(
    places: pd.DataFrame, values: np.ndarray, generator: np.random.Generator
) -> tuple[pd.DataFrame, np.ndarray]:
    """The table without its bands, and deviations of log ratios, (places, RESAMPLES)."""
    base, other = values.mean(axis=-1)
    drawn_base, drawn_other = resampled(values, generator)
    with np.errstate(divide="ignore", invalid="ignore"):
        drawn = np.log(drawn_other / drawn_base)
        centre = np.log(other / base)
    ends = [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]
    low, high = np.exp(np.quantile(drawn, ends, axis=-1))
    less, more = np.quantile(drawn_other - drawn_base, ends, axis=-1)
    table = places.assign(
        base=base, other=other, ratio=other / base, low=low, high=high,
        difference=other - base, difference_low=less, difference_high=more,
        error=drawn.std(axis=-1), n=values.shape[-1],
    )  # fmt: skip
    return table, drawn - centre[:, None]


ROUNDING = 1e-9
"""Of a log ratio: what is below is no spread and no difference."""


def _widened(table: pd.DataFrame, deviations: np.ndarray) -> pd.DataFrame:
    """With wide_low, wide_high, clear and alone; deviations (places, RESAMPLES)."""
    error = table["error"].to_numpy()
    spread = error > ROUNDING
    largest = np.abs(deviations[spread] / error[spread, None])
    reach = np.quantile(largest.max(axis=0), CONFIDENCE) if spread.any() else 0.0
    centre, half = np.log(table["ratio"].to_numpy()), reach * error
    differs = np.abs(centre) > np.maximum(half, ROUNDING)
    outside = (table["low"] > 1 + ROUNDING) | (table["high"] < 1 - ROUNDING)
    return table.assign(
        wide_low=np.exp(centre - half), wide_high=np.exp(centre + half), clear=differs,
        alone=outside,
    )  # fmt: skip


def largest_of_each(table: pd.DataFrame) -> pd.DataFrame:
    """Of `differences`, the first row of every statistic, in the same order."""
    return table.drop_duplicates("statistic").reset_index(drop=True)

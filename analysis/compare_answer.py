"""What a comparison says in words: places, values, the largest difference, what may be chance."""

import math
from typing import Any

import numpy as np
import pandas as pd

from analysis.compare import STATISTICS
from analysis.compare_difference import CONFIDENCE
from mpdit_core.words import capital, listed

BRANCHES = {"attn": "attention", "mlp": "MLP"}
Names = tuple[str, str]
"""Both sides in words, the base first."""


def with_words(table: pd.DataFrame) -> pd.DataFrame:
    """`differences` with columns `words` (statistic and place), `family`, `said` (both values)."""
    words = [
        f"{STATISTICS[row.statistic].words}, {place_words(row.branch, row.block)}, "
        f"t = {row.timestep}"
        for row in table.itertuples()
    ]
    said = [
        f"{value_words(row.statistic, row.other)} against {value_words(row.statistic, row.base)}"
        f"{_added(row)}"
        for row in table.itertuples()
    ]
    family = [STATISTICS[name].family for name in table["statistic"]]
    return table.assign(words=words, said=said, family=family)


def place_words(branch: str, block: int) -> str:
    """A place in words; block from 0.

    >>> place_words("mlp", 2)
    'MLP of block 3'
    """
    return f"{BRANCHES[branch]} of block {block + 1}"


def value_words(statistic: str, value: float) -> str:
    """A value with its unit.

    >>> value_words("stream", 1.2345), value_words("channel", 0.25), value_words("entropy", 2)
    ('1.23', '25 %', '2 nats')
    """
    kind = STATISTICS[statistic]
    if kind.part:
        return f"{100 * value:.3g} %"
    if kind.angle:
        return f"{np.rad2deg(value):.3g}°"
    return f"{number_words(value)} nats" if statistic == "entropy" else number_words(value)


def number_words(value: float) -> str:
    """Three significant digits, without an exponent where a reader can do without.

    >>> number_words(0.0000694), number_words(45296.9), number_words(0.5)
    ('0.0000694', '45,297', '0.5')
    """
    if 1000 <= abs(value) < 1e9:
        return f"{value:,.0f}"
    if 1e-7 < abs(value) < 1e-4:
        return f"{value:.{2 - math.floor(math.log10(abs(value)))}f}".rstrip("0")
    return f"{value:.3g}"


def _added(row: Any) -> str:
    """The difference of shares and angles, with its interval."""
    kind = STATISTICS[row.statistic]
    if not (kind.part or kind.angle):
        return ""
    factor, unit = (100, " points") if kind.part else (180 / np.pi, "°")
    ends = (row.difference, row.difference_low, row.difference_high)
    value, low, high = (f"{factor * end:+.3g}" for end in ends)
    return f": {value}{unit} [{low}, {high}]"


def _ratio(row: pd.Series) -> str:
    ratio, low, high = (number_words(row[name]) for name in ("ratio", "low", "high"))
    return f"{ratio} times [{low}, {high}]"


def unshared(base: pd.DataFrame, other: pd.DataFrame, names: Names) -> str:
    """Which statistics and blocks only one side has, in a sentence; empty where none.

    base, other: `compared_statistics` of each."""
    parts = []
    for name, own, others in ((names[0], base, other), (names[1], other, base)):
        alone = set(own["statistic"]) - set(others["statistic"])
        if alone:
            told = listed(kind.words for key, kind in STATISTICS.items() if key in alone)
            parts.append(f"only {name} has {told}")
        deeper, blocks = int(own["block"].max()) + 1, int(others["block"].max()) + 1
        if deeper > blocks:
            parts.append(f"only {name} has blocks {blocks + 1} to {deeper}")
    return f"Not compared: {'; '.join(parts)}." if parts else ""


def difference_sentence(table: pd.DataFrame, names: Names) -> str:
    """How many differences are clear, and the largest; table: `differences`."""
    base, other = names
    if table.empty:
        return f"{other} and {base} have no finite statistic in common, so the table cannot tell."
    total, clear = len(table), int(table["clear"].sum())
    if not clear:
        pairs = int(table["n"].max())
        return f"{other} against {base}: none of {total:,} differences is clear ({pairs} pairs)."
    row = with_words(table.head(1)).iloc[0]
    return (
        f"{other} against {base}: {clear:,} of {total:,} differences are clear of chance. Largest: "
        f"{row['words']}, {_ratio(row)} "
        f"({row['said'].split(':')[0]}; {row['n']} pairs)."
    )


def chance_sentence(table: pd.DataFrame) -> str:
    """How many would seem different by chance, and what was done about it."""
    total, alone, clear = len(table), int(table["alone"].sum()), int(table["clear"].sum())
    expected = (1 - CONFIDENCE) * total
    return (
        f"{total:,} places are asked at once: if nothing differed, about {expected:.0f} of their "
        f"95 % intervals would leave out 1 by chance. {alone:,} do, and {clear:,} still do when "
        "all intervals are widened so that they hold together with 95 %: those are called clear."
    )


def place_sentence(row: pd.Series, names: Names) -> str:
    """One place in full; row: of `differences` `with_words`."""
    clear = "" if row["clear"] else " (not clear of chance)"
    return (
        f"{capital(row['words'])}: {names[1]} has {_ratio(row)} "
        f"what {names[0]} has{clear}; {row['said']}; "
        f"{row['n']} pairs."
    )

"""What the tables of attention say, in words."""

import math

import numpy as np
import pandas as pd

from analysis.attention import CONFIDENCE, logit_reach
from mpdit_core.words import capital

SMALL = 0.001
"""Entropies in nats below which their digits say nothing."""


def attention_answer(rows: pd.DataFrame, everything: pd.DataFrame, when: str) -> str:
    """The most focused head, and how near logits come to their bound.

    rows: `attention_heads` at one timestep; everything: at all; when: `at t = 500`."""
    return f"{_focused(rows, when)} {_reached(logit_reach(everything))}".strip()


def lowest_in_words(table: pd.DataFrame) -> str:
    """How low the bound alone lets the entropy be; empty where runs differ or have none."""
    least = table[["bound", "entropy_least", "entropy_most"]].dropna().drop_duplicates()
    if len(least) != 1:
        return ""
    row = least.iloc[0]
    return (
        f"The bound {row['bound']:.3g} still allows entropies from {row['entropy_least']:.2g} to "
        f"{row['entropy_most']:.3g} nats."
    )


def _focused(rows: pd.DataFrame, when: str) -> str:
    finite = rows[np.isfinite(rows["entropy"])]
    if finite.empty:
        return f"The table holds no finite entropy {when}, so it cannot tell."
    lowest = finite.loc[finite["entropy"].idxmin()]
    return (
        f"{capital(when)} the most focused head is head {lowest['head'] + 1} of block "
        f"{lowest['block'] + 1} in {lowest['run']}: entropy {_with_interval(lowest)} of at most "
        f"{lowest['entropy_most']:.3g} nats ({lowest['n']} images)."
    )


def _with_interval(row: pd.Series) -> str:
    error = float(row["entropy_error"])
    if row["entropy"] < SMALL:
        return f"below {SMALL}"
    interval = "" if math.isnan(error) else f" ± {CONFIDENCE * error:.2g}"
    return f"{row['entropy']:.3g}{interval}"


def _reached(heads: pd.DataFrame) -> str:
    """One clause for the runs with cosine attention, one for those without."""
    if heads.empty:
        return ""
    top = heads.loc[heads.groupby("run", sort=False)["logit_largest"].idxmax()]
    bounded, free = top[top["bound"].notna()], top[top["bound"].isna()]
    clauses = [_bounded(bounded)] if len(bounded) else []
    clauses += [_free(free)] if len(free) else []
    images = f"{top['n'].min()} images at each timestep"
    return f"{capital('; '.join(clauses))} ({images})."


def _bounded(top: pd.DataFrame) -> str:
    bounds = top["bound"].unique()
    bound = f"its bound √d = {bounds[0]:.3g}" if len(bounds) == 1 else "its bound √d"
    most, least = top.loc[top["reached"].idxmax()], top.loc[top["reached"].idxmin()]
    share = f"{100 * most['reached']:.1f} % of {bound} in {most['run']}"
    if len(top) > 1:
        share += f", least in {least['run']} ({100 * least['reached']:.1f} %)"
    return f"with cosine attention the largest |logit| is {share}"


def _free(top: pd.DataFrame) -> str:
    if len(top) > 3:
        most = top.loc[top["logit_largest"].idxmax()]
        return f"{len(top)} runs have no bound, and {most['run']} reaches {_largest(most)}"
    each = ", ".join(f"{row['run']} reaches {_largest(row)}" for _, row in top.iterrows())
    return f"without a bound {each}"


def _largest(row: pd.Series) -> str:
    return f"{row['logit_largest']:.3g}"

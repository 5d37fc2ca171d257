"""The answer about modulation in one sentence, computed from the tables in view."""

import numpy as np
import pandas as pd

from mpdit_core.words import listed

BRANCH_WORDS = {"attn": "attention", "mlp": "the MLP", "final": "the final layer"}
SIGNAL_ORDER = ("scale", "shift", "gate", "rotation")


def modulation_answer(strength: pd.DataFrame, shares: pd.DataFrame | None, moment: str) -> str:
    """One sentence about one or two runs.

    strength: `modulation_strength` at one timestep and label of each run; shares:
    `modulation_shares` of block -1, all channels together, one choice of labels (None: not there
    yet); moment: timestep and label in words."""
    runs = list(dict.fromkeys(strength["run"]))
    parts = [
        _of_run(strength[strength["run"] == run], None if shares is None else _of(shares, run))
        for run in runs
    ]
    if not parts:
        return "The condition modulates nothing in the blocks of the runs in view."
    told = "; ".join(f"in {run} {part}" for run, part in zip(runs, parts, strict=True))
    return f"At {moment}: {told}."


def _of_run(strength: pd.DataFrame, shares: pd.DataFrame | None) -> str:
    told = [_rotation(strength), _strongest(strength)]
    sentence = " and ".join(part for part in told if part)
    return f"{sentence}; {_origin(shares)}" if shares is not None and len(shares) else sentence


def _of(shares: pd.DataFrame, run: str) -> pd.DataFrame:
    return shares[(shares["run"] == run) & (shares["statistic"] == "timestep")]


def _strongest(strength: pd.DataFrame) -> str:
    """The largest magnitude among scale, shift and gate."""
    rows = strength[strength["signal"] != "rotation"]
    if rows.empty:
        return ""
    top = rows.loc[rows["value"].idxmax()]
    return (
        f"the largest signal is the {top['signal']} of {_place(top)} "
        f"(magnitude {top['value']:.3g} over {top['n']} channels)"
    )


def _rotation(strength: pd.DataFrame) -> str:
    rows = strength[strength["signal"] == "rotation"]
    if rows.empty:
        return ""
    top = rows.loc[rows["value"].idxmax()]
    mean = np.average(rows["value"], weights=rows["n"])
    return (
        f"rotation turns pairs of channels by {np.rad2deg(mean):.3g}° on average, most in "
        f"{_place(top)} ({np.rad2deg(top['value']):.3g}° over {top['n']} pairs)"
    )


def _place(row: pd.Series) -> str:
    where = BRANCH_WORDS[row["branch"]]
    return where if row["branch"] == "final" else f"{where} in block {row['block'] + 1}"


def _origin(shares: pd.DataFrame) -> str:
    """Share of the timestep alone in the variation of each signal."""
    value = shares.set_index("signal")["value"]
    known = [signal for signal in SIGNAL_ORDER if signal in value and np.isfinite(value[signal])]
    if not known:
        return "no signal varies with timestep or label"
    explained = listed([f"{100 * value[signal]:.0f} % of {signal}" for signal in known])
    cells = int(shares["n"].iloc[0])
    over = f"n = {cells:,} pairs of timestep and label"
    return f"the timestep alone explains {explained} (of the variation, {over})"

"""What in the movement of weights is a reason to worry, in words, with its threshold."""

from typing import Any

import pandas as pd
from pydantic import Field

from analysis.dynamics import NEAR_ZERO, SPHERE_TOLERANCE
from analysis.dynamics_ranking import Words, matrices, ranking, spread
from mpdit_core.config import Settings
from mpdit_core.layers import NORM_EPS

COLUMNS = ["run", "alarm", "layer", "layers", "step", "value", "threshold", "reason"]


class Thresholds(Settings):
    """From where on an alarm is raised.

    growth: times the mean row norm of a layer has grown, while at the end it still grows at least
    as step^exponent (a random walk of steps of equal size has exponent 0.5). spread: 90th
    percentile of the layers' effective learning rates over the 10th. behind: times a single layer's
    is below the median, which percentiles do not show where such layers are few."""

    growth: float = Field(default=3.0, gt=1)
    exponent: float = Field(default=0.25, gt=0)
    spread: float = Field(default=5.0, gt=1)
    behind: float = Field(default=10.0, gt=1)


def alarms(table: pd.DataFrame, limits: Thresholds, words: Words = str) -> pd.DataFrame:
    """One row per (run, alarm) that is raised. table: `dynamics_of` with a column run.

    Columns: run; alarm (not finite, growth, spread, left behind, zero rows,
    off the sphere); layer (the worst
    one); layers (how many are concerned); step; value, threshold (of what the reason says); reason
    (one sentence). Vectors, buffers and frozen layers raise none but "not finite"."""
    moving = matrices(table)
    ranked, spreads, found = ranking(moving), spread(moving), []
    for run in table["run"].unique():
        all_rows, rows, order, rates = (
            part[part["run"] == run] for part in (table, moving, ranked, spreads)
        )
        checks = (
            _not_finite(all_rows, words),
            _growth(order, limits, words),
            _spread(rates, limits, words),
            _left_behind(order, limits, words),
            _zero_rows(rows, words),
            _off_the_sphere(rows, words),
        )
        found += [{"run": run, **alarm} for alarm in checks if alarm is not None]
    return pd.DataFrame(found, columns=COLUMNS)


def _not_finite(table: pd.DataFrame, words: Words) -> dict[str, Any] | None:
    wrong = table[~table["finite"]].sort_values("step", kind="stable")
    if wrong.empty:
        return None
    first, layers = wrong.iloc[0], wrong["layer"].nunique()
    others = f" and {layers - 1} other layers" if layers > 1 else ""
    reason = f"NaN or infinity in {words(first['layer'])}{others}, from step {first['step']:,} on."
    return _alarm("not finite", first, layers, float("nan"), float("nan"), reason)


def _growth(ranked: pd.DataFrame, limits: Thresholds, words: Words) -> dict[str, Any] | None:
    grown = (ranked["growth"] > limits.growth) & (ranked["exponent"] >= limits.exponent)
    wrong = ranked[grown]
    if wrong.empty:
        return None
    worst = wrong.iloc[0]
    reason = (
        f"Growth without bound: {len(wrong)} of {len(ranked)} weight matrices have grown more than "
        f"{limits.growth:g} times and still grow; most {words(worst['layer'])}, "
        f"{worst['growth']:.3g} times from step {worst['since']:,} to {worst['step']:,}, by "
        f"{_percent(worst['recent'] - 1)} since step {worst['before']:,}, which is step^"
        f"{worst['exponent']:.2f} (alarm from step^{limits.exponent:g} on)."
    )
    return _alarm("growth", worst, len(wrong), worst["growth"], limits.growth, reason)


def _spread(spreads: pd.DataFrame, limits: Thresholds, words: Words) -> dict[str, Any] | None:
    if spreads.empty or not spreads.iloc[-1]["value"] > limits.spread:
        return None
    last = spreads.iloc[-1]
    ratio = (
        f"the 90th percentile of {last['n']} weight matrices is {last['value']:.3g} times the 10th "
        f"(alarm above {limits.spread:g})"
    )
    if last["low"] == 0:
        ratio = f"more than a tenth of {last['n']} weight matrices did not move at all"
    reason = (
        f"Effective learning rates have drifted apart: between steps {last['before']:,} and "
        f"{last['step']:,} {ratio}; fastest {words(last['fastest'])}, slowest "
        f"{words(last['slowest'])}."
    )
    about = {"layer": last["fastest"], "step": last["step"]}
    return _alarm("spread", about, int(last["n"]), last["value"], limits.spread, reason)


def _left_behind(ranked: pd.DataFrame, limits: Thresholds, words: Words) -> dict[str, Any] | None:
    rates = ranked["effective_lr"]
    wrong = ranked[rates < rates.median() / limits.behind].sort_values("effective_lr")
    if wrong.empty:
        return None
    worst, middle = wrong.iloc[0], rates.median()
    reason = (
        f"Layers left behind: {len(wrong)} of {len(ranked)} weight matrices learn more than "
        f"{limits.behind:g} times slower than the median between steps {worst['before']:,} and "
        f"{worst['step']:,}; slowest {words(worst['layer'])}, {worst['effective_lr']:.2g} against "
        f"{middle:.2g} per step."
    )
    return _alarm("left behind", worst, len(wrong), worst["effective_lr"], middle, reason)


def _zero_rows(table: pd.DataFrame, words: Words) -> dict[str, Any] | None:
    last = table[(table["step"] == table["step"].max()) & (table["normalization"] != "none")]
    wrong = last[last["stuck"] > 0].sort_values("stuck", ascending=False, kind="stable")
    if wrong.empty:
        return None
    worst = wrong.iloc[0]
    reason = (
        f"Rows stuck at zero under weight normalization: {wrong['stuck'].sum()} in {len(wrong)} of "
        f"{len(last)} layers, most in {words(worst['layer'])}, {worst['stuck']} of {worst['n']} "
        f"(norm below {NEAR_ZERO:g} at steps {worst['step'] - worst['interval']:,} and "
        f"{worst['step']:,}, where eps {NORM_EPS:g} shortens the normalized row by over 1 %)."
    )
    return _alarm("zero rows", worst, len(wrong), int(worst["stuck"]), NEAR_ZERO, reason)


def _off_the_sphere(table: pd.DataFrame, words: Words) -> dict[str, Any] | None:
    # Step 0 stands before the first update, after which rows are forced for the first time.
    forced = table[(table["normalization"] == "forced") & (table["step"] > 0)]
    wrong = forced[forced["off_sphere"] > 0]
    wrong = wrong.sort_values("sphere_error", ascending=False, kind="stable")
    if wrong.empty:
        return None
    worst, layers = wrong.iloc[0], wrong["layer"].nunique()
    reason = (
        f"Rows off the sphere of norm sqrt(n_in) under forced normalization: in {layers} of "
        f"{forced['layer'].nunique()} layers, farthest in {words(worst['layer'])} at step "
        f"{worst['step']:,}, {worst['off_sphere']} of {worst['n']} rows, by up to "
        f"{_percent(worst['sphere_error'])} (alarm above {_percent(worst['sphere_tolerance'])}: "
        f"{SPHERE_TOLERANCE / NORM_EPS:.0f} eps of {NORM_EPS:g}, and the file's rounding)."
    )
    about = worst["sphere_error"], worst["sphere_tolerance"]
    return _alarm("off the sphere", worst, layers, *about, reason)


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.1 else f"{100 * share:.2g} %"


def _alarm(
    name: str, about: Any, layers: int, value: float, threshold: float, reason: str
) -> dict[str, Any]:
    return {
        "alarm": name, "layer": about["layer"], "layers": layers, "step": int(about["step"]),
        "value": float(value), "threshold": float(threshold), "reason": reason,
    }  # fmt: skip


def alarm_count(found: pd.DataFrame, runs: int) -> str:
    """How many alarms there are, in words; runs: in view."""
    if found.empty:
        return "No alarm." if runs == 1 else f"No alarm in any of {runs} runs."
    count = "1 alarm" if len(found) == 1 else f"{len(found)} alarms"
    where = sorted(set(found["run"]), key=list(found["run"]).index)
    return f"{count}, in {', '.join(map(str, where))}."

"""How far apart are the weights of two sides, parameter by parameter?

A question is asked of one run; this one holds the other side, whose identity is in its settings and
so in the result's key.
"""

import math

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from analysis.question import Question, question
from analysis.tables import of_run
from mpdit_core.config import Settings
from mpdit_core.progress import track
from mpdit_core.runs import Run, Weights
from mpdit_core.runs.shapes import parameter_shapes


class WeightsBase(Settings):
    """The side that distances are divided by; identity: of its weights' bytes and configuration."""

    base: str
    base_weights: str
    identity: str


def weights_base(run: Run, weights: Weights | str) -> WeightsBase:
    """The settings of `weight_differences_from(run, weights)`. Raises NoSuchWeights."""
    return WeightsBase(
        base=run.name, base_weights=str(weights), identity=run.identity(weights)[:16]
    )


def weight_differences_from(base: Run, base_weights: Weights | str) -> Question:
    """The question how far another side's weights are from these."""

    @question(version=1)
    def weight_differences(run: Run, weights: Weights | str, settings: WeightsBase) -> pd.DataFrame:
        """One row per parameter of either side, in the order of the other side's model.

        Columns: run, weights, parameter, where (both, base, other, or shape: of different shapes),
        distance (||b - a|| / ||a||, a the base), cosine (between them as vectors), rows (mean norm
        of b's rows / that of a's), n (numbers). Missing where only one side has it, and where the
        base is 0. Buffers are left out."""
        left, right = _parameters(base, base_weights), _parameters(run, weights)
        names = list(dict.fromkeys([*right, *left]))
        rows = [
            {"parameter": name, **_apart(left.get(name), right.get(name))}
            for name in track(names, "Parameters")
        ]
        return of_run(pd.DataFrame(rows), run, weights)

    return weight_differences


def _parameters(run: Run, weights: Weights | str) -> dict[str, Tensor]:
    state, shapes = run.state_dict(weights), parameter_shapes(run.config)
    return {name: state[name] for name in shapes if name in state}


def _apart(base: Tensor | None, other: Tensor | None) -> dict[str, object]:
    if base is None or other is None:
        known = other if base is None else base
        where = "other" if base is None else "base"
        return {"where": where, **_distance(None, None), "n": 0 if known is None else known.numel()}
    if base.shape != other.shape:
        return {"where": "shape", **_distance(None, None), "n": other.numel()}
    return {"where": "both", **_distance(base.double(), other.double()), "n": other.numel()}


def _distance(base: Tensor | None, other: Tensor | None) -> dict[str, float]:
    if base is None or other is None:
        return {"distance": math.nan, "cosine": math.nan, "rows": math.nan}
    size, others = float(base.norm()), float(other.norm())
    return {
        "distance": _over(float((other - base).norm()), size),
        "cosine": _over(float((base * other).sum()), size * others),
        "rows": _over(_row_norm(other), _row_norm(base)),
    }


def _row_norm(tensor: Tensor) -> float:
    """Mean norm of the rows: of all input weights of an output; of a vector or number, its size."""
    rows = tensor.flatten(1) if tensor.dim() > 1 else tensor.reshape(1, -1)
    return float(torch.linalg.vector_norm(rows, dim=1).mean())


def _over(value: float, by: float) -> float:
    return value / by if by else math.nan


def measured(table: pd.DataFrame) -> pd.DataFrame:
    """The parameters that both sides have, farthest apart first; table: `weight_differences`."""
    both = table[np.isfinite(table["distance"])]
    return both.sort_values("distance", ascending=False, kind="stable").reset_index(drop=True)


def weights_sentence(table: pd.DataFrame, names: tuple[str, str]) -> str:
    """How far apart, on the whole and at most; table: `weight_differences`; names: base, other."""
    base, other = names
    both, alone = measured(table), table["where"].value_counts()
    if both.empty:
        return f"{other} and {base} share no parameter of equal shape and finite size."
    if float(both["distance"].iloc[0]) == 0:
        return f"All {len(both)} parameters of {other} and {base} are equal."
    first, numbers = both.iloc[0], both["n"].to_numpy(dtype=float)
    cosine = float(np.average(both["cosine"].fillna(0.0), weights=numbers))
    kinds = (("base", f"only in {base}"), ("other", f"only in {other}"), ("shape", "another shape"))
    rest = ", ".join(f"{alone[key]} {words}" for key, words in kinds if key in alone)
    told = f"; {rest}" if rest else ""
    return (
        f"{len(both)} parameters in common{told}. Their mean cosine is {cosine:.3g} (0: unrelated, "
        f"1: same direction; weighed by size); farthest apart is {first['parameter']}, by "
        f"{first['distance']:.3g} times its norm in {base}."
    )

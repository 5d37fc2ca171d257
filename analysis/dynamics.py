"""How do the weights of every layer move from saved step to saved step?

Nothing here depends on the model: `dynamics_of` takes any state dicts in order of step.
"""

import math
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Literal

import pandas as pd
import torch
from torch import Tensor

from analysis.defaults import Default
from analysis.question import question
from mpdit_core.config import ModelConfig, Settings
from mpdit_core.errors import UnreadableRun
from mpdit_core.layers import NORM_EPS, Linear, NormalizedWeight
from mpdit_core.model import MPDiT
from mpdit_core.progress import track
from mpdit_core.runs import Run, Weights
from mpdit_core.runs.shapes import parameter_shapes

Normalization = Literal["none", "weight", "forced"]
"""What training does to the rows of a layer: nothing, unit norm where they are used, or in addition
norm sqrt(n_in) after every update."""

NEAR_ZERO = 100 * NORM_EPS
"""A row below this norm is used more than 1 % too short, because of the eps in |w| + eps."""

SPHERE_TOLERANCE = 2 * NORM_EPS
"""Forcing leaves a row short of sqrt(n_in) by the relative eps / |w|; twice eps allows for it, and
what a file in half precision rounds comes on top."""

EXACT = 512
"""Up to this many columns or rows the largest singular value is exact."""

COLUMNS = [
    "run", "weights", "layer", "kind", "block", "matrix", "normalization", "step", "interval",
    "since", "norm_mean", "norm_max", "growth", "effective_lr", "angle", "angle_since",
    "stable_rank", "near_zero", "stuck", "sphere_error", "sphere_tolerance", "off_sphere",
    "finite", "n",
]  # fmt: skip


MOVEMENTS = ("growth", "effective_lr", "angle", "angle_since")


class DynamicsSettings(Settings):
    """No settings: every saved step of the raw weights is read."""


@question(version=1, of="run")
def weight_dynamics(run: Run, weights: Weights | str, settings: DynamicsSettings) -> pd.DataFrame:
    """One row per (parameter, saved step); asked of the final weights, which every run has.

    Columns: run, weights; then those of `dynamics_of`. Buffers are left out."""
    names = parameter_shapes(run.config)

    def parameters(step: int) -> dict[str, Tensor]:
        state = run.read(run.raw_files[step])
        return {name: state[name] for name in names}

    states = {step: partial(parameters, step) for step in run.steps}
    table = dynamics_of(states, normalizations(run.config))
    return table.assign(run=run.name, weights=str(weights))[COLUMNS]


def normalizations(config: ModelConfig) -> dict[str, Normalization]:
    """What is done to the rows of each weight of this config, by its name."""
    with torch.device("meta"):
        parts = MPDiT(config).named_modules()
    found: dict[str, Normalization] = {}
    for name, part in parts:
        if isinstance(part, NormalizedWeight):
            forced = config.forced_weight_normalization
            forced = forced and (part.normalized or isinstance(part, Linear))
            plain = "weight" if part.normalized else "none"
            found[f"{name}.weight"] = "forced" if forced else plain
    return found


@torch.no_grad()
def dynamics_of(
    states: Mapping[int, Callable[[], Mapping[str, Tensor]]],
    normalization: Mapping[str, Normalization] | Normalization = "none",
) -> pd.DataFrame:
    """How every layer moves; one row per (layer, step). Three states are in memory at a time.

    states: step -> function that reads the state of that step, ascending; all of one model.
    normalization: of all matrices, or by name (absent ones: none).

    A row of a layer is one output's weights: (out, ...) is flattened to (out, n_in); a vector or
    scalar is one row. Columns: layer (the tensor's name), kind (its name with * for its first
    number), block (that number, -1 without), matrix (two or more dimensions), normalization, step;
    interval (steps since the saved step before, 0 at the first); since (first saved step at which
    the layer was not zero: what growth and angle_since refer to); norm_mean, norm_max (root of the
    sum of squares of a row, over rows); growth (norm_mean relative to `since`); effective_lr
    (|dw| / (|w| interval), w the weights at the saved step before, 1/step; a net movement, so no
    more than the mean over the interval); angle, angle_since (radians, between the flattened
    weights, to the saved step before and to `since`); stable_rank (|W|_F^2 / |W|_2^2, 1 for
    vectors); near_zero (rows of norm below NEAR_ZERO), stuck (those that were so at the saved step
    before, too); sphere_error (largest |norm / sqrt(n_in) - 1| of a row), sphere_tolerance
    (SPHERE_TOLERANCE and the rounding of the file), off_sphere (rows above it); finite (no NaN or
    infinity); n (rows). What cannot be told is nan: all that compares with zero, or with nothing.

    Raises UnreadableRun where the states are not of one model."""
    layers: dict[str, Layer] = {}
    rows = []
    for step in track(list(states), "measuring weights"):
        state = states[step]()
        if not layers:
            layers = {name: Layer(name, tensor, step) for name, tensor in state.items()}
        _refuse_other_model(layers, state, step)
        for name, tensor in state.items():
            given = normalization if isinstance(normalization, str) else normalization.get(name)
            rows.append(layers[name].row(step, tensor, given or "none"))
    table = pd.DataFrame(rows)
    return table[[name for name in COLUMNS if name in table]]


class Layer:
    """One tensor on its way through training: remembers where it started, and where it was last."""

    def __init__(self, name: str, tensor: Tensor, step: int) -> None:
        number = re.search(r"(?<![^.])\d+(?![^.])", name)
        self.kind = name if number is None else f"{name[: number.start()]}*{name[number.end() :]}"
        self.block = -1 if number is None else int(number[0])
        self.name, self.shape = name, tensor.shape
        self.since = self.last_step = step
        # As they were saved: in double precision two whole models would be kept twice as large.
        self.start: Tensor | None = None
        self.last: Tensor | None = None

    def row(self, step: int, tensor: Tensor, normalization: Normalization) -> dict[str, object]:
        """The table's row of this step; to be asked in order of step."""
        if self.start is None and tensor.any():
            self.start, self.since = tensor, step
        now, last, start = (exact_rows(state) for state in (tensor, self.last, self.start))
        assert now is not None
        norms = torch.linalg.vector_norm(now, dim=1)
        interval, matrix = step - self.last_step, tensor.dim() > 1
        row: dict[str, object] = {
            "layer": self.name, "kind": self.kind, "block": self.block, "matrix": matrix,
            "normalization": normalization if matrix else "none", "step": step,
            "interval": interval, "since": step if start is None else self.since,
            "norm_mean": float(norms.mean()), "norm_max": float(norms.max()),
            **_moved(start, last, now, interval),
            "stable_rank": stable_rank(now),
            **_rows_in_trouble(last, norms, now.shape[1], tensor.dtype),
            "finite": bool(now.isfinite().all()), "n": len(now),
        }  # fmt: skip
        self.last, self.last_step = tensor, step
        return row


def exact_rows(tensor: Tensor | None) -> Tensor | None:
    """(out, ...) as (out, n_in), a vector or scalar as one row, in double precision."""
    if tensor is None:
        return None
    exact = tensor.double().cpu()
    return exact.flatten(1) if exact.dim() > 1 else exact.reshape(1, -1)


def _moved(
    start: Tensor | None, last: Tensor | None, now: Tensor, interval: int
) -> dict[str, float]:
    moved: dict[str, float] = dict.fromkeys(MOVEMENTS, math.nan)
    if start is not None:
        moved["growth"] = _mean_norm(now) / _mean_norm(start)
        moved["angle_since"] = angle_between(start, now)
    if last is not None and last.any():
        moved["effective_lr"] = float((now - last).norm() / (last.norm() * interval))
        moved["angle"] = angle_between(last, now)
    return moved


def _mean_norm(rows: Tensor) -> float:
    return float(torch.linalg.vector_norm(rows, dim=1).mean())


def _rows_in_trouble(
    last: Tensor | None, norms: Tensor, inputs: int, dtype: torch.dtype
) -> dict[str, float]:
    short, tolerance = norms < NEAR_ZERO, SPHERE_TOLERANCE + torch.finfo(dtype).eps / 2
    error = (norms / math.sqrt(inputs) - 1).abs()
    before = short & False if last is None else torch.linalg.vector_norm(last, dim=1) < NEAR_ZERO
    return {
        "near_zero": int(short.sum()),
        "stuck": int((short & before).sum()),
        "sphere_error": float(error.max()),
        "sphere_tolerance": tolerance,
        "off_sphere": int((error > tolerance).sum()),
    }


def angle_between(first: Tensor, second: Tensor) -> float:
    """Angle between two flattened tensors, radians, exact also where it is small; nan if one is 0.

    Kahan's form: 2 atan2(|u - v|, |u + v|) for the unit vectors u and v."""
    lengths = first.norm(), second.norm()
    if not all(length > 0 for length in lengths):
        return math.nan
    u, v = first / lengths[0], second / lengths[1]
    return float(2 * torch.atan2((u - v).norm(), (u + v).norm()))


def stable_rank(matrix: Tensor) -> float:
    """|W|_F^2 / |W|_2^2 of a matrix (rows, columns): 1 for rank one, at most the rank.

    nan for zero or not finite matrices."""
    if not (matrix.isfinite().all() and matrix.any()):
        return math.nan
    largest = largest_singular_value(matrix)
    return float((matrix.norm() / largest) ** 2)


def largest_singular_value(matrix: Tensor) -> float:
    """|W|_2; above EXACT rows and columns by subspace iteration, at most 1 % too small."""
    if min(matrix.shape) <= EXACT:
        return float(torch.linalg.svdvals(matrix)[0])
    generator = torch.Generator().manual_seed(0)
    matrix = matrix.float()
    basis = torch.randn(matrix.shape[1], 8, generator=generator)
    for _ in range(30):
        basis = torch.linalg.qr(matrix.T @ (matrix @ basis)).Q
    return float(torch.linalg.svdvals(matrix @ basis)[0])


def _refuse_other_model(
    layers: Mapping[str, Layer], state: Mapping[str, Tensor], step: int
) -> None:
    for name in [*layers, *state]:
        if name not in layers:
            wrong = f"it has {name!r}, which that lacks"
        elif name not in state:
            wrong = f"it lacks {name!r}"
        elif state[name].shape != layers[name].shape:
            wrong = f"{name!r} is {tuple(state[name].shape)}, there {tuple(layers[name].shape)}"
        else:
            continue
        raise UnreadableRun(f"Step {step} is of another model than the first saved step: {wrong}")


DEFAULTS = (Default(weight_dynamics, DynamicsSettings(), weights=("final",)),)

"""Which steps does an average weigh, and how well do the saved snapshots reconstruct it?

Every question here is asked of one average, `ema-0.150`: of the width, at the run's last snapshot.
"""

import numpy as np
import pandas as pd
import torch
from pydantic import Field

from analysis.defaults import Default
from analysis.question import question
from analysis.samples import SampleSettings, sampled_images
from mpdit_core.config import Settings
from mpdit_core.ema import decay_factor, gamma_of
from mpdit_core.errors import NoSuchWeights
from mpdit_core.progress import track
from mpdit_core.runs import Run, Weights
from mpdit_core.runs.shapes import parameter_shapes

FIRST_WIDTH = "ema-0.150"
"""The width that the page shows first: one that no run tracks."""


class ProfileSettings(Settings):
    """points: how many steps, apart from the snapshots', a profile is drawn at."""

    points: int = Field(default=200, ge=2, le=10_000)


class DecaySettings(Settings):
    """steps: the first so many steps are shown [MP figure 3]."""

    steps: int = Field(default=1000, ge=2, le=1_000_000)


class CoefficientSettings(Settings):
    """No settings: the snapshots that are saved give the coefficients."""


class LengthSettings(Settings):
    """No settings: every weight matrix is measured."""


@question(version=1, of="run")
def ema_profile(run: Run, weights: Weights | str, settings: ProfileSettings) -> pd.DataFrame:
    """The ideal averaging profile of this width, and the one that the snapshots add up to.

    Columns: run, weights, sigma_rel; step (not always whole: a profile drops to zero right after a
    snapshot); curve (ideal, reconstructed); value (density over training time, no unit: 1 is the
    uniform average); error (distance of the curves relative to the ideal's norm); n (snapshots)."""
    sigma_rel, until = _width(weights), Weights.parse(weights).step
    made, snapshots = run.reconstruction(sigma_rel, until), run.snapshots(until)
    last = max(step for _, step, _ in snapshots)
    steps = _drawn_steps([step for _, step, _ in snapshots], last, settings.points)
    parts = zip(made.coefficients, snapshots, strict=True)
    mixed = [share * _profile(steps, step, width) for share, (width, step, _) in parts]
    curves = {"ideal": _profile(steps, last, sigma_rel), "reconstructed": np.sum(mixed, axis=0)}
    tables = [
        pd.DataFrame({"step": steps, "curve": curve, "value": values * last})
        for curve, values in curves.items()
    ]
    named = {"run": run.name, "weights": str(weights), "sigma_rel": sigma_rel}
    return _first(pd.concat(tables, ignore_index=True), named).assign(
        error=made.error, n=len(snapshots)
    )


@question(version=1, of="run")
def ema_coefficients(
    run: Run, weights: Weights | str, settings: CoefficientSettings
) -> pd.DataFrame:
    """How much of each snapshot is mixed into this average; one row per snapshot.

    Columns: run, weights, sigma_rel; snapshot_sigma_rel, snapshot_step; value (coefficient, no
    unit; they add up to 1); raw_sum (their sum before they were divided by it); error as in
    `ema_profile`; n (snapshots)."""
    sigma_rel, until = _width(weights), Weights.parse(weights).step
    made, snapshots = run.reconstruction(sigma_rel, until), run.snapshots(until)
    table = pd.DataFrame(
        {
            "snapshot_sigma_rel": [width for width, _, _ in snapshots],
            "snapshot_step": [step for _, step, _ in snapshots],
            "value": made.coefficients,
        }
    )
    named = {"run": run.name, "weights": str(weights), "sigma_rel": sigma_rel}
    return _first(table, named).assign(raw_sum=made.raw_sum, error=made.error, n=len(snapshots))


@question(version=1, of="run")
def ema_decay(run: Run, weights: Weights | str, settings: DecaySettings) -> pd.DataFrame:
    """Decay factor beta of the first steps, for this width and for those the run tracked.

    Columns: run, weights; sigma_rel, tracked (whether the run tracked it), step; value (beta of
    `ema <- beta ema + (1 - beta) theta`, from 0 = copy to 1 = keep); n (1: a formula)."""
    wanted = _width(weights)
    steps = np.unique(np.geomspace(1, settings.steps, 300).round().astype(int))
    rows = [
        {"sigma_rel": width, "tracked": width in run.ema_steps, "step": int(step),
         "value": decay_factor(gamma_of(width), int(step)), "n": 1}
        for width in sorted({*run.ema_steps, wanted})
        for step in steps
    ]  # fmt: skip
    return _first(pd.DataFrame(rows), {"run": run.name, "weights": str(weights)})


@question(version=1, of="run")
def ema_length(run: Run, weights: Weights | str, settings: LengthSettings) -> pd.DataFrame:
    """Are averaged weights shorter than raw ones? One row per weight matrix and embedding table.

    Columns: run, weights, sigma_rel; tensor (its name); normalized (whether the forward pass sets
    its rows to unit norm, so that their length does not matter); value (root mean square norm of
    its rows relative to that of the final raw weights, no unit, 1 = as long); n (rows)."""
    average, raw = run.state_dict(weights), run.state_dict("final")
    matrices = [name for name in parameter_shapes(run.config) if raw[name].dim() == 2]
    rows = [
        {"run": run.name, "weights": str(weights), "sigma_rel": _width(weights), "tensor": name,
         "normalized": _normalized(run, name), "value": _ratio(average[name], raw[name]),
         "n": raw[name].shape[0]}
        for name in track(matrices, "measuring weights")
    ]  # fmt: skip
    return pd.DataFrame(rows)


def _width(weights: Weights | str) -> float:
    chosen = Weights.parse(weights)
    if chosen.sigma_rel is None:
        raise NoSuchWeights(f"{chosen} is no average; a profile belongs to one, such as ema-0.150")
    return chosen.sigma_rel


def _drawn_steps(snapshots: list[int], last: int, points: int) -> np.ndarray:
    """Steps to draw a profile at: denser towards the end, and just before and after snapshots."""
    spread = last * (1 - (1 - np.linspace(0, 1, points)) ** 2)
    ends = np.array(sorted({step for step in snapshots if 0 < step < last}), dtype=np.float64)
    return np.unique(np.concatenate([spread, ends, np.nextafter(ends, np.inf)]))


def _profile(steps: np.ndarray, last: int, sigma_rel: float) -> np.ndarray:
    """(gamma + 1) tau^gamma / t^(gamma + 1) up to t, zero after it ([EDM2] sec. 3)."""
    gamma, share = gamma_of(sigma_rel), np.minimum(steps / last, 1.0)
    return np.where(steps <= last, (gamma + 1) * share**gamma / last, 0.0)


def _normalized(run: Run, name: str) -> bool:
    config = run.config
    if name == "condition.labels.weight":
        return config.mp_embedding
    # The `head` era's gains per sample are normalized in every configuration.
    return config.weight_normalization or "_gain.linear" in name


def _ratio(average: torch.Tensor, raw: torch.Tensor) -> float:
    return float(average.double().norm() / raw.double().norm()) if raw.any() else 1.0


def _first(table: pd.DataFrame, named: dict[str, object]) -> pd.DataFrame:
    """The table with these constant columns in front."""
    return table.assign(**named)[[*named, *table.columns]]


def compared_samples(classes: int) -> SampleSettings:
    """What the samples of an average and of the raw weights are drawn with: quick, unguided.

    Guidance hides differences between weights; of many classes the first ten are drawn."""
    labels = tuple(range(min(10, classes)))
    return SampleSettings(sampler="dpmpp", steps=25, guidance=1.0, labels=labels, frames=1)


DEFAULTS = (
    Default(ema_profile, ProfileSettings(), weights=(FIRST_WIDTH,)),
    Default(ema_coefficients, CoefficientSettings(), weights=(FIRST_WIDTH,)),
    Default(ema_decay, DecaySettings(), weights=(FIRST_WIDTH,)),
    Default(ema_length, LengthSettings(), weights=(FIRST_WIDTH,)),
    Default(sampled_images, compared_samples(10), weights=("final", FIRST_WIDTH)),
)

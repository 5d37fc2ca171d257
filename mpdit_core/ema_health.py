"""Is a file that calls itself an average one? Its distance to the raw weights tells.

An average of width sigma_rel is as old as its profile says: its mean age at step t is about
t / (gamma + 2) steps. A copy of the newest weights has no age, whatever its name.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mpdit_core.ema import gamma_of

if TYPE_CHECKING:
    from mpdit_core.runs.run import Run

ROUNDING = 1e-3
"""Relative distance that half precision alone explains (3e-4), with room."""

COPY_WITHOUT_HISTORY = 1e-2
"""Relative distance below which a lone snapshot counts as a copy of the raw weights."""

SHARE_OF_AGE = 0.5
"""An average must lag behind the raw weights by at least this share of what its width promises."""


def relative_distance(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> float:
    """|first - second| / |second|, over all weights of `second` as one vector."""
    difference = sum(
        float((first[name].double() - tensor.double()).pow(2).sum())
        for name, tensor in second.items()
    )
    size = sum(float(tensor.double().pow(2).sum()) for tensor in second.values())
    return (difference / size) ** 0.5 if size else 0.0


def mean_age(sigma_rel: float, step: int) -> float:
    """Mean age, in steps, of the weights in an average of this width at this step."""
    return step / (gamma_of(sigma_rel) + 2)


@dataclass(frozen=True)
class Health:
    """What one snapshot looks like beside the raw weights of its step.

    distance: to the raw weights, relative to their norm. movement: how far the average itself (or,
    at its first snapshot, the raw weights) moved over the last `interval` steps, on the same scale;
    None if nothing earlier is saved."""

    sigma_rel: float
    step: int
    distance: float
    movement: float | None = None
    interval: int = 0

    @property
    def lag(self) -> float | None:
        """By how many steps the average lags behind, if weights moved evenly; None if unknown."""
        return self.distance / self.movement * self.interval if self.movement else None

    @property
    def promised_lag(self) -> float:
        """The lag that the name promises, in steps; no more than the interval can show."""
        return mean_age(self.sigma_rel, self.step)

    @property
    def is_copy(self) -> bool:
        """Whether it is a near-copy of the raw weights and no average."""
        if self.lag is None:
            return self.distance < COPY_WITHOUT_HISTORY
        if (self.movement or 0) < ROUNDING:  # nothing moved enough to tell a lag
            return self.distance < ROUNDING
        return self.lag < SHARE_OF_AGE * min(self.promised_lag, self.interval)

    def __str__(self) -> str:
        name = f"sigma_rel {self.sigma_rel:.3f} at step {self.step}"
        distance = f"{self.distance:.2%} of the weights' norm away from the raw weights"
        if self.is_copy:
            return f"{name}: a near-copy, only {distance}; not an average"
        if self.lag is None:
            return f"{name}: {distance}; one snapshot alone does not tell its width"
        return (
            f"{name}: {distance}, about {self.lag:.0f} steps behind them "
            f"(its width promises {self.promised_lag:.0f}); an average"
        )


def judge(
    sigma_rel: float,
    step: int,
    average: Mapping[str, Tensor],
    raw: Mapping[str, Tensor],
    before: tuple[int, Mapping[str, Tensor]] | None = None,
) -> Health:
    """Compare a snapshot with the raw weights of its step; `before`: an earlier (step, state).

    States hold the same names; buffers may be among them, as they are the same in all."""
    with torch.no_grad():
        distance = relative_distance(average, raw)
        if before is None:
            return Health(sigma_rel, step, distance)
        movement = relative_distance(before[1], average)
        return Health(sigma_rel, step, distance, movement, step - before[0])


def examine(run: "Run") -> list[Health]:
    """Health of each tracked width, at the last step whose raw weights are saved too.

    A width without such a step is left out: it cannot be checked."""
    found = []
    for sigma_rel, files in sorted(run.ema_files.items()):
        common = [step for step in files if step > 0 and step in run.raw_files]
        if common:
            step = max(common)
            average, raw = run.read(files[step]), run.read(run.raw_files[step])
            found.append(judge(sigma_rel, step, average, raw, _earlier(run, sigma_rel, step)))
    return found


def _earlier(run: "Run", sigma_rel: float, step: int) -> tuple[int, Mapping[str, Tensor]] | None:
    for files in (run.ema_files[sigma_rel], run.raw_files):
        earlier = max((other for other in files if other < step), default=None)
        if earlier is not None:
            return earlier, run.read(files[earlier])
    return None

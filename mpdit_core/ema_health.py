"""Is a file that calls itself an average one, and of the width it is named after?

An average of width sigma_rel is as old as its profile says: its mean age at step t is about
t / (gamma + 2) steps. A copy of the newest weights has no age, whatever its name. This is the one
rule: `mpdit_core` withholds near-copies by it, and the analysis shows its verdict on every file.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import nan
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from mpdit_core.ema import gamma_of
from mpdit_core.ema_width import Comparison, WidthEstimate, compare, used_checkpoints
from mpdit_core.model import MPDiT

if TYPE_CHECKING:
    from mpdit_core.runs.run import Run

Verdict = Literal["as named", "another width", "near-copy", "foreign", "unclear"]

ROUNDING = 1e-3
"""Relative distance that half precision alone explains (3e-4), with room."""

COPY_WITHOUT_HISTORY = 1e-2
"""Relative distance below which a lone snapshot counts as a copy of the raw weights."""

COPY_SHARE = 0.25
"""A fitted width below this share of the name's is no average of another width, but a copy."""

COPY_LAG = 0.1
"""A copy lags behind the raw weights by less than this share of what its width promises, if they
moved evenly. Seen: at least 1.1 for averages of A and E on digits, 0.01 for the swapped update."""

SNAPSHOT_LAG = 0.5
"""The same share where an earlier snapshot stands in for raw weights: averages turn less than the
weights they follow, so that less movement is seen and a copy's lag seems longer."""

FARTHEST = 1.2
"""An average lies within the path it averages; farther off than its ends, it is of others."""


def mean_age(sigma_rel: float, step: int) -> float:
    """Mean age, in steps, of the weights in an average of this width at this step."""
    return step / (gamma_of(sigma_rel) + 2)


@dataclass(frozen=True)
class Health:
    """What the raw checkpoints say about one file that calls itself an average.

    distance: to the raw weights of its step, relative to their norm; nan if those are not saved.
    width: the fitted width, None where no earlier raw weights are at hand."""

    sigma_rel: float
    step: int
    verdict: Verdict
    distance: float = nan
    width: WidthEstimate | None = None

    @property
    def is_copy(self) -> bool:
        """Whether it is a near-copy of the raw weights and no average."""
        return self.verdict == "near-copy"

    def __str__(self) -> str:
        name = f"sigma_rel {self.sigma_rel:.3f} at step {self.step}"
        distance = f"{self.distance:.2%} of the weights' norm away from the raw weights"
        fitted = f"{self.width.sigma_rel:.3f}" if self.width else "not known"
        sentences: dict[str, str] = {
            "as named": f"{distance}, of fitted width {fitted}; an average",
            "another width": f"{distance}; an average, but of fitted width {fitted}",
            "near-copy": f"a near-copy, only {distance}; not an average",
            "foreign": f"{distance}, off the path of these; not an average of them",
            "unclear": f"{distance}; the raw weights that are saved do not tell its width",
        }
        return f"{name}: {sentences[self.verdict]}"


def judge(
    sigma_rel: float,
    step: int,
    average: Mapping[str, Tensor],
    raw: Mapping[int, Mapping[str, Tensor]],
    names: Sequence[str],
    before: tuple[int, Mapping[str, Tensor]] | None = None,
) -> Health:
    """Compare one average with raw weights by step; names: the parameters that are averaged.

    before: (step, state) of its snapshot before, which stands in where no raw weights are older."""
    if step not in raw:
        return Health(sigma_rel, step, "unclear")
    compared = compare(step, average, raw, names)
    if len(compared.steps) < 2:
        copy = compared.distance < COPY_WITHOUT_HISTORY
        if before is not None and (moved := _moved(before[1], average, names)) >= ROUNDING:
            lag = compared.distance / moved * (step - before[0])
            copy = lag < SNAPSHOT_LAG * _promised_lag(sigma_rel, step, step - before[0])
        return Health(sigma_rel, step, "near-copy" if copy else "unclear", compared.distance)
    width = compared.width()
    verdict = _verdict(sigma_rel, step, compared, width)
    return Health(sigma_rel, step, verdict, compared.distance, width)


def _moved(before: Mapping[str, Tensor], now: Mapping[str, Tensor], names: Sequence[str]) -> float:
    """Distance of two states relative to the norm of the second."""
    old, new = (torch.cat([s[n].float().flatten() for n in names]) for s in (before, now))
    return float((old - new).norm() / new.norm())


def _promised_lag(sigma_rel: float, step: int, interval: int) -> float:
    """The lag in steps that the name promises; no more than the interval can show."""
    return min(mean_age(sigma_rel, step), interval)


def _verdict(
    sigma_rel: float, step: int, compared: Comparison, width: WidthEstimate | None
) -> Verdict:
    moved = max(compared.moved(intervals) for intervals in range(1, len(compared.steps)))
    if width is None or moved < ROUNDING:  # training stood still
        return "unclear"
    if compared.distance > FARTHEST * moved:
        return "foreign"
    interval = step - int(compared.steps[-2])
    lag = compared.distance / max(compared.moved(1), ROUNDING) * interval
    if lag < COPY_LAG * _promised_lag(sigma_rel, step, interval):
        return "near-copy"
    if width.high < COPY_SHARE * sigma_rel:
        return "near-copy"
    return "as named" if width.allows(sigma_rel) else "another width"


def examine(run: "Run") -> list[Health]:
    """Health of each tracked width, at the last step whose raw weights are saved too.

    A width without such a step is left out: it cannot be checked."""
    found = []
    for sigma_rel, files in sorted(run.ema_files.items()):
        common = [step for step in files if step > 0 and step in run.raw_files]
        if common:
            found.append(_examined(run, sigma_rel, max(common)))
    return found


def _examined(run: "Run", sigma_rel: float, step: int) -> Health:
    with torch.device("meta"):
        names = [name for name, _ in MPDiT(run.config).named_parameters()]
    average = run.read(run.ema_files[sigma_rel][step])
    steps = used_checkpoints(run.steps, step)
    raw = {other: run.read(run.raw_files[other]) for other in steps[-2:]}
    # Two checkpoints tell a copy by its lag, as all would; only what passes is worth reading more.
    health = judge(sigma_rel, step, average, raw, names, _snapshot_before(run, sigma_rel, step))
    if health.is_copy or len(steps) <= 2:
        return health
    raw |= {other: run.read(run.raw_files[other]) for other in steps[:-2]}
    return judge(sigma_rel, step, average, raw, names)


def _snapshot_before(
    run: "Run", sigma_rel: float, step: int
) -> tuple[int, Mapping[str, Tensor]] | None:
    """The snapshot before that of this step, where raw weights before it are lacking."""
    files = run.ema_files[sigma_rel]
    earlier = max((other for other in files if other < step), default=None)
    if earlier is None or min(run.steps) < step:
        return None
    return earlier, run.read(files[earlier])

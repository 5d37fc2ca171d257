"""Is every EMA file an average of the width it is named after?"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isnan, nan
from typing import Any, Literal

import pandas as pd
from torch import Tensor

from analysis.defaults import Default
from analysis.question import question
from mpdit_core.config import Settings
from mpdit_core.ema import WIDEST
from mpdit_core.ema_health import COPY_WITHOUT_HISTORY, ROUNDING, mean_age
from mpdit_core.ema_width import NARROWEST, Comparison, WidthEstimate, compare, used_checkpoints
from mpdit_core.progress import track
from mpdit_core.runs import Run, Weights
from mpdit_core.runs.shapes import parameter_shapes

Verdict = Literal["as named", "another width", "near-copy", "foreign", "unclear"]

COPY_SHARE = 0.25
"""A fitted width below this share of the name's is no average of another width, but a copy."""

COPY_LAG = 0.1
"""A copy lags behind the raw weights by less than this share of what its width promises, if they
moved evenly. Seen: at least 1.1 for averages of A and E on digits, 0.01 for the swapped update."""

FARTHEST = 1.2
"""An average lies within the path it averages; farther off than its ends, it is of others."""


class HealthSettings(Settings):
    """No settings: every EMA file of the run is compared with the raw checkpoints there are."""


@dataclass(frozen=True)
class Finding:
    """What the raw checkpoints say about one EMA file.

    distance: to the raw weights of its step, relative to their norm; nan if those are not saved.
    width: the fitted width, None where no earlier raw weights are at hand."""

    verdict: Verdict
    distance: float = nan
    width: WidthEstimate | None = None


@question(version=1)
def ema_health(run: Run, weights: Weights | str, settings: HealthSettings) -> pd.DataFrame:
    """One row per EMA file of the run; asked of its final weights, which every run has.

    Columns: run, weights; sigma_rel (its name), step; verdict; distance (to the raw weights of the
    same step, relative to their norm, no unit); width, width_low, width_high (sigma_rel of the
    fitted profile and its range, nan if unknown); explained (share of the squared distance that the
    fit explains); checkpoints (earlier raw checkpoints compared); n (numbers compared)."""
    names = list(parameter_shapes(run.config))
    raw: dict[int, Mapping[str, Tensor]] = {}
    rows = []
    for sigma_rel, step, file in track(run.snapshots(), "comparing averages with raw weights"):
        wanted = used_checkpoints(run.steps, step)
        raw |= {other: run.read(run.raw_files[other]) for other in wanted if other not in raw}
        average = run.read(file)
        finding = judge(sigma_rel, step, average, {s: raw[s] for s in wanted}, names)
        about = {"run": run.name, "weights": str(weights), "sigma_rel": sigma_rel, "step": step}
        rows.append(about | _columns(finding) | {"n": sum(average[k].numel() for k in names)})
    return pd.DataFrame(rows, columns=COLUMNS)


COLUMNS = [
    "run", "weights", "sigma_rel", "step", "verdict", "distance", "width", "width_low",
    "width_high", "explained", "checkpoints", "n",
]  # fmt: skip


def judge(
    sigma_rel: float,
    step: int,
    average: Mapping[str, Tensor],
    raw: Mapping[int, Mapping[str, Tensor]],
    names: list[str],
) -> Finding:
    """Compare one average with raw weights by step; names: the parameters that are averaged."""
    if step not in raw:
        return Finding("unclear")
    compared = compare(step, average, raw, names)
    width = compared.width()
    return Finding(_verdict(sigma_rel, step, compared, width), compared.distance, width)


def _verdict(
    sigma_rel: float, step: int, compared: Comparison, width: WidthEstimate | None
) -> Verdict:
    if len(compared.steps) < 2:
        return "near-copy" if compared.distance < COPY_WITHOUT_HISTORY else "unclear"
    moved = max(compared.moved(intervals) for intervals in range(1, len(compared.steps)))
    if width is None or moved < ROUNDING:  # training stood still
        return "unclear"
    if compared.distance > FARTHEST * moved:
        return "foreign"
    interval = step - compared.steps[-2]
    lag = compared.distance / max(compared.moved(1), ROUNDING) * interval
    if lag < COPY_LAG * min(mean_age(sigma_rel, step), interval):
        return "near-copy"
    if width.high < COPY_SHARE * sigma_rel:
        return "near-copy"
    return "as named" if width.allows(sigma_rel) else "another width"


def _columns(finding: Finding) -> dict[str, Any]:
    width = finding.width or WidthEstimate(nan, nan, nan, nan, 0)
    return {
        "verdict": finding.verdict,
        "distance": finding.distance,
        "width": width.sigma_rel,
        "width_low": width.low,
        "width_high": width.high,
        "explained": width.explained,
        "checkpoints": width.checkpoints,
    }


def width_words(row: Mapping[str, Any]) -> str:
    """The width of one row of `ema_health` as far as it can be told.

    >>> width_words({"width": 0.049, "width_low": 0.047, "width_high": 0.0532, "checkpoints": 4})
    '0.049 (0.047 to 0.053)'
    """
    if isnan(row["width"]):
        return "not known"
    if row["width_high"] <= NARROWEST * 1.01:
        return f"below {NARROWEST:g}"
    if row["width_high"] >= WIDEST * 0.999 and row["checkpoints"] == 1:
        return f"at least {row['width_low']:.3f}"
    return f"{row['width']:.3f} ({row['width_low']:.3f} to {row['width_high']:.3f})"


def health_line(row: Mapping[str, Any]) -> str:
    """One sentence on one row of `ema_health`: what the file is, beside what it is called."""
    name, width = f"called {row['sigma_rel']:.3f}", width_words(row)
    told = (
        "1 earlier checkpoint" if row["checkpoints"] == 1 else f"{row['checkpoints']} earlier ones"
    )
    sentences: dict[str, str] = {
        "as named": f"an average; {name}, its width is {width}, told from {told}",
        "another width": f"an average, but {name}, its width is {width}, told from {told}",
        "near-copy": f"no average: {name}, it is a near-copy of the raw weights, "
        f"{row['distance']:.2g} of their norm away",
        "foreign": f"{name}, it lies off the path of these raw weights: not an average of them",
        "unclear": f"{name}; the raw weights that are saved do not tell",
    }
    return sentences[row["verdict"]]


DEFAULTS = (Default(ema_health, HealthSettings(), weights=("final",)),)

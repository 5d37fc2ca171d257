"""Is every EMA file an average of the width it is named after?"""

from collections.abc import Mapping
from math import isnan, nan
from typing import Any

import pandas as pd
from torch import Tensor

from analysis.defaults import Default
from analysis.question import question
from mpdit_core.config import Settings
from mpdit_core.ema import WIDEST
from mpdit_core.ema_health import Health, judge
from mpdit_core.ema_width import NARROWEST, WidthEstimate, used_checkpoints
from mpdit_core.progress import track
from mpdit_core.runs import Run, Weights
from mpdit_core.runs.shapes import parameter_shapes


class HealthSettings(Settings):
    """No settings: every EMA file of the run is compared with the raw checkpoints there are."""


@question(version=2, of="run")
def ema_health(run: Run, weights: Weights | str, settings: HealthSettings) -> pd.DataFrame:
    """One row per EMA file of the run; asked of its final weights, which every run has.

    Columns: run, weights; sigma_rel (its name), step; verdict; distance (to the raw weights of the
    same step, relative to their norm, no unit); width, width_low, width_high (sigma_rel of the
    fitted profile and its range, nan if unknown); explained (share of the squared distance that the
    fit explains); checkpoints (earlier raw checkpoints compared); n (numbers compared)."""
    names = list(parameter_shapes(run.config))
    raw: dict[int, Mapping[str, Tensor]] = {}
    rows, before = [], {}
    for sigma_rel, step, file in track(run.snapshots(), "comparing averages with raw weights"):
        wanted = used_checkpoints(run.steps, step)
        raw |= {other: run.read(run.raw_files[other]) for other in wanted if other not in raw}
        average = run.read(file)
        known = {other: raw[other] for other in wanted}
        health = judge(sigma_rel, step, average, known, names, before.get(sigma_rel))
        before = {sigma_rel: (step, average)}
        about = {"run": run.name, "weights": str(weights), "sigma_rel": sigma_rel, "step": step}
        rows.append(about | _columns(health) | {"n": sum(average[k].numel() for k in names)})
    return pd.DataFrame(rows, columns=COLUMNS)


COLUMNS = [
    "run", "weights", "sigma_rel", "step", "verdict", "distance", "width", "width_low",
    "width_high", "explained", "checkpoints", "n",
]  # fmt: skip


def _columns(health: Health) -> dict[str, Any]:
    width = health.width or WidthEstimate(nan, nan, nan, nan, 0)
    return {
        "verdict": health.verdict,
        "distance": health.distance,
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

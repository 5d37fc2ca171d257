"""At which timesteps is the noise of held-out images predicted well?"""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from pydantic import Field
from scipy.stats import t as student

from analysis.defaults import Default
from analysis.question import question
from analysis.tables import of_run
from mpdit_core.config import Seed, Settings
from mpdit_core.data import load_data
from mpdit_core.errors import InvalidConfig
from mpdit_core.noise import sample_noise
from mpdit_core.progress import track
from mpdit_core.runs import Run, Weights
from mpdit_core.schedule import noise_schedule

ELEVEN = (999, 900, 800, 700, 600, 500, 400, 300, 200, 100, 0)
AT_ONCE = 90


class LossSettings(Settings):
    """timesteps; n: held-out images (all of them where there are fewer). Image i carries the noise
    of (seed, i) at every timestep and in every run, so that runs can be compared in pairs."""

    timesteps: tuple[int, ...] = ELEVEN
    n: int = Field(default=360, ge=2, le=10_000)
    seed: Seed = 0


@question(version=1)
def loss_by_timestep(run: Run, weights: Weights | str, settings: LossSettings) -> pd.DataFrame:
    """Squared error of the predicted noise, mean over pixels. One row per (timestep, image).

    Columns: run, weights; timestep; index, label (of the held-out image); value (no unit: 1 is what
    predicting no noise gives, in expectation). Raises BadData, InvalidConfig."""
    config, data = run.config, load_data(run.data)
    wrong = [t for t in settings.timesteps if not 0 <= t < config.timesteps]
    if wrong:
        raise InvalidConfig(
            f"timesteps held {wrong[0]}; run {run.name!r} has 0 to {config.timesteps - 1}"
        )
    images, labels = data.heldout_images[: settings.n], data.heldout_labels[: settings.n]
    noise = sample_noise(settings.seed, range(len(images)), tuple(images.shape[1:]))
    model, schedule = run.model(weights), noise_schedule(config.timesteps)
    parts = []
    for timestep in track(settings.timesteps, "Timesteps"):
        errors = []
        for x, y, added in zip(*(p.split(AT_ONCE) for p in (images, labels, noise)), strict=True):
            moments = torch.full_like(y, timestep)
            with torch.no_grad():
                out = model(schedule.add_noise(x, added, moments), moments, y)
            errors.append((out[:, : config.channels] - added).square().flatten(1).mean(dim=1))
        values = torch.cat(errors).numpy()
        rows = {"index": np.arange(len(values)), "label": labels.numpy(), "value": values}
        parts.append(pd.DataFrame({"timestep": timestep, **rows}))
    table = pd.concat(parts, ignore_index=True)
    return of_run(table, run, weights)


def mean_losses(table: pd.DataFrame) -> pd.DataFrame:
    """One row per run and timestep; table: `loss_by_timestep` of any runs.

    Columns: run, weights, timestep; value (mean over images), error (standard error of the mean),
    n (images)."""
    groups = table.groupby(["run", "weights", "timestep"], sort=False)["value"]
    means = groups.agg(value="mean", error="sem", n="size").reset_index()
    return means.sort_values(["run", "timestep"], ascending=[True, False], ignore_index=True)


def compared_losses(table: pd.DataFrame, reference: str) -> pd.DataFrame:
    """Every other run's loss over the reference's, image by image.

    Columns: run, reference, timestep; value (ratio of the means, no unit: below 1 is better than
    the reference), low, high (95 % interval of the ratio of paired means, Student's t), n (images
    that both have)."""
    own = table[table["run"] == reference].set_index(["timestep", "index"])["value"]
    rows = []
    for (run, timestep), part in table.groupby(["run", "timestep"], sort=False):
        base = own[timestep].reindex(part["index"]).to_numpy() if timestep in own else np.array([])
        if run == reference or not len(base):
            continue
        rows.append((run, reference, timestep, *_ratio(part["value"].to_numpy(), base)))
    columns = ["run", "reference", "timestep", "value", "low", "high", "n"]
    return pd.DataFrame(rows, columns=columns).sort_values(
        ["run", "timestep"], ascending=[True, False], ignore_index=True
    )


def losses_sentence(means: pd.DataFrame, compared: pd.DataFrame, reference: str) -> str:
    """Where a run's loss departs most from the reference's, in words.

    means: `mean_losses`; compared: `compared_losses` with the reference."""
    n = int(means["n"].min())
    apart = compared[(compared["low"] > 1) | (compared["high"] < 1)]
    if compared.empty:
        own = means[means["run"] == reference].sort_values("value")
        best, worst = own.iloc[0], own.iloc[-1]
        return (
            f"{reference} predicts the noise best at t = {best.timestep} (loss {best.value:.3g}) "
            f"and worst at t = {worst.timestep} ({worst.value:.3g}; {n} held-out images)."
        )
    if apart.empty:
        return f"At no timestep is a run told apart from {reference} ({n} held-out images)."
    row = apart.loc[apart["value"].map(lambda ratio: abs(math.log(ratio))).idxmax()]
    share = 100 * (row["value"] - 1)
    return (
        f"Furthest from {reference} is {row['run']} at t = {row['timestep']}: a loss "
        f"{abs(share):.1f} % {'higher' if share > 0 else 'lower'} (95 % interval "
        f"{100 * (row['low'] - 1):+.1f} to {100 * (row['high'] - 1):+.1f} %; {n} held-out images, "
        "paired by image and noise)."
    )


def _ratio(values: np.ndarray, base: np.ndarray) -> tuple[float, float, float, int]:
    """Ratio of the means, its interval, and n; a ratio estimate's error is that of v - ratio b."""
    both = np.isfinite(values) & np.isfinite(base)
    values, base = values[both], base[both]
    if len(base) < 2:
        return (math.nan, math.nan, math.nan, len(base))
    ratio = float(values.mean() / base.mean())
    error = float((values - ratio * base).std(ddof=1)) / math.sqrt(len(base)) / float(base.mean())
    half = float(student.ppf(0.975, len(base) - 1)) * error
    return ratio, ratio - half, ratio + half, len(base)


def finite_runs(table: pd.DataFrame) -> tuple[pd.DataFrame, Sequence[str]]:
    """The rows of runs whose losses are all finite, and a sentence for each other run."""
    broken = table[~np.isfinite(table["value"])]
    sentences = [
        f"{run}: {len(rows)} of its losses are not finite; it is left out."
        for run, rows in broken.groupby("run", sort=False)
    ]
    return table[~table["run"].isin(broken["run"])], sentences


DEFAULTS = (Default(loss_by_timestep, LossSettings()),)

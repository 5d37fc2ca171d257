"""The measures that `analysis.findings` compares, each read from a table that some page shows."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pandas as pd

from analysis.attention import AttentionSettings, attention_heads
from analysis.channels import ChannelSettings, channel_concentration
from analysis.copying import CopySettings, nearest_training
from analysis.estimates import Count, Paired, Told
from analysis.findings import Measure
from analysis.interventions import (
    NO_ROTATION,
    NO_THIRD_MLP,
    InterventionSettings,
    intervened_samples,
)
from analysis.loss_by_timestep import LossSettings, loss_by_timestep
from analysis.magnitudes import magnitudes
from analysis.probing import ProbeSettings
from analysis.quality import RECOGNIZED, sample_quality
from analysis.quality_sweeps import QUICK
from analysis.token_mean import TokenMeanSettings, token_mean
from mpdit_core.config import ModelConfig
from mpdit_core.interventions import AnyIntervention

AT = 499
"""The timestep in the middle, where a measure speaks of one."""

Tables = Sequence[pd.DataFrame]


def stream_growth(tables: Tables) -> dict[str, Paired]:
    """Factor on the stream's magnitude from the first block's output to the last's; the units are
    labels, whose images and noise all runs share."""
    (table,) = tables
    rows = table[
        (table["timestep"] == AT) & (table["point"] == "resid") & (table["branch"] == "mlp")
        & (table["statistic"] == "mean")
    ]  # fmt: skip
    found = {}
    for run, part in _by_run(rows):
        values = part.pivot(index="block", columns="label", values="value")
        if len(values) > 1 and np.isfinite(values.to_numpy()).all():
            found[run] = Paired.mean(values.iloc[-1]).over(Paired.mean(values.iloc[0]))
    return found


def misread(tables: Tables) -> dict[str, Count]:
    """Share of samples that the classifier does not read as their label."""
    (table,) = tables
    rows = table[(table["images"] == "samples") & (table["statistic"] == RECOGNIZED)]
    counts = {}
    for run, part in _by_run(rows):
        n = int(part["n"].sum())
        counts[run] = Count(n - round(float((part["value"] * part["n"]).sum())), n)
    return counts


def held_out_loss(tables: Tables) -> dict[str, Paired]:
    """Squared error of the predicted noise, mean over timesteps; the units are held-out images."""
    (table,) = tables
    each = table.groupby(["run", "index"], sort=False)["value"].mean().reset_index()
    return {
        run: Paired.mean(part.set_index("index")["value"])
        for run, part in _by_run(each)
        if np.isfinite(part["value"]).all()
    }


def _at_the_last_block(table: pd.DataFrame) -> Iterator[tuple[str, pd.Series]]:
    rows = table[(table["timestep"] == AT) & (table["branch"] == "mlp")]
    for run, part in _by_run(rows):
        yield run, part.loc[part["block"].idxmax()]


def largest_channel(tables: Tables) -> dict[str, Told]:
    """Share of the stream's square that its largest channel holds after the last block."""
    (table,) = tables
    rows = table[(table["point"] == "resid") & (table["statistic"] == "share")]
    return {run: _told(row) for run, row in _at_the_last_block(rows)}


def shared_output(tables: Tables) -> dict[str, Told]:
    """Share of what the last MLP writes that is the same for every token of an image."""
    return {run: _told(row) for run, row in _at_the_last_block(tables[0])}


def spread_of_attention(tables: Tables) -> dict[str, Told]:
    """Patches that attention spreads over: the exponential of its entropy, mean over all heads.

    The heads see the same images, so their errors are taken as fully correlated."""
    (table,) = tables
    rows = table[table["timestep"] == _nearest(table["timestep"], AT)]
    found = {}
    for run, part in _by_run(rows):
        mean, error = float(part["entropy"].mean()), float(part["entropy_error"].mean())
        if np.isfinite([mean, error]).all():
            low, high = np.exp([mean - 1.96 * error, mean + 1.96 * error])
            found[run] = Told(float(np.exp(mean)), float(low), float(high), int(part["n"].min()))
    return found


def distance_to_training(tables: Tables) -> dict[str, tuple[Told, Told]]:
    """Distance to the nearest training image: of samples, and of held-out images."""
    (table,) = tables
    return {
        run: (
            _mean_told(part.loc[part["images"] == "samples", "value"]),
            _mean_told(part.loc[part["images"] == "held-out", "value"]),
        )
        for run, part in _by_run(table)
        if np.isfinite(part["value"]).all()
    }


def misread_after(tables: Tables) -> dict[str, tuple[Paired, Paired]]:
    """Share of samples misread with a change of the network, and without; the same noise."""
    before, after = (dict(_by_run(table)) for table in tables)
    return {
        run: (_wrong(after[run]), _wrong(before[run]))
        for run in before
        if run in after and before[run]["read"].notna().all()
    }


def _wrong(images: pd.DataFrame) -> Paired:
    each = images.set_index("index")
    return Paired.share((each["read"] != each["label"]).astype(float))


def _told(row: pd.Series) -> Told:
    return Told(float(row["value"]), float(row["low"]), float(row["high"]), int(row["n"]))


def _mean_told(values: pd.Series) -> Told:
    mean, half = float(values.mean()), 1.96 * float(values.sem())
    return Told(mean, mean - half, mean + half, len(values))


def _nearest(timesteps: pd.Series, wanted: int) -> int:
    return int(timesteps.iloc[(timesteps - wanted).abs().to_numpy().argmin()])


def _by_run(table: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    for run, part in table.groupby("run", sort=False):
        yield str(run), part


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _change(
    name: str,
    change: tuple[AnyIntervention, ...],
    part: str,
    applies: Callable[[ModelConfig], bool],
) -> Measure:
    """What becomes of a run's samples without a part of it."""
    return Measure(
        name,
        tuple((intervened_samples, InterventionSettings(interventions=i)) for i in ((), change)),
        misread_after,
        lambda run, _, after, before: (
            f"Without {part}, {_percent(after)} of {run}'s samples are not recognized, with it "
            f"{_percent(before)}"
        ),
        "images",
        within=True,
        applies=applies,
    )


MEASURES = (
    Measure(
        "growth of the stream",
        ((magnitudes, ProbeSettings()),),
        stream_growth,
        lambda a, b, x, y: (
            f"From the first block to the last, the stream's magnitude is "
            f"multiplied by {x:.3g} in {a} and by {y:.3g} in {b} (t = {AT})"
        ),
        "labels",
    ),
    Measure(
        "largest channel of the stream",
        ((channel_concentration, ChannelSettings()),),
        largest_channel,
        lambda a, b, x, y: (
            f"After the last block a single channel holds {_percent(x)} of the "
            f"stream's square in {a}, {_percent(y)} in {b} (t = {AT})"
        ),
        "images",
    ),
    Measure(
        "output shared by all tokens",
        ((token_mean, TokenMeanSettings()),),
        shared_output,
        lambda a, b, x, y: (
            f"Of what the last MLP writes, {_percent(x)} is the same for every "
            f"token in {a}, {_percent(y)} in {b} (t = {AT})"
        ),
        "images",
    ),
    Measure(
        "spread of attention",
        ((attention_heads, AttentionSettings()),),
        spread_of_attention,
        lambda a, b, x, y: (
            f"Attention spreads over {x:.3g} patches in {a} and over {y:.3g} in {b} "
            "(exponential of the entropy, mean over heads, t = 500)"
        ),
        "images",
    ),
    Measure(
        "samples misread",
        ((sample_quality, QUICK),),
        misread,
        lambda a, b, x, y: (
            f"Of {a}'s samples {_percent(x)} are not recognized as their label, of "
            f"{b}'s {_percent(y)} (DPM-Solver++, no guidance)"
        ),
        "images each",
    ),
    Measure(
        "held-out loss",
        ((loss_by_timestep, LossSettings()),),
        held_out_loss,
        lambda a, b, x, y: (
            f"The held-out loss, mean over timesteps, is {x:.4f} in {a} and {y:.4f} in {b}"
        ),
        "images",
    ),
    Measure(
        "distance to training images",
        ((nearest_training, CopySettings()),),
        distance_to_training,
        lambda a, _, x, y: (
            f"{a}'s samples lie {x:.3g} standard deviations from the nearest "
            f"training image, held-out images {y:.3g}"
        ),
        "images",
        within=True,
    ),
    _change(
        "skipping the MLP of block 3", NO_THIRD_MLP, "the MLP of block 3",
        lambda config: config.depth >= 3,
    ),
    _change(
        "leaving out the rotation", NO_ROTATION, "its rotation",
        lambda config: "rotation" in config.block_modulation,
    ),
)  # fmt: skip
"""All of them, as pages ask for their tables at first."""

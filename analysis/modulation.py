"""How strongly does the condition act on each block, at every timestep and label?

The modulation signals depend on timestep and label alone, not on the image: they are computed by
running the condition and each block's modulation over a grid of both, without a forward pass.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from pydantic import Field
from torch import Tensor

from analysis.defaults import Default
from analysis.question import question
from mpdit_core.config import ModelConfig, Settings, Signal
from mpdit_core.model import MPDiT
from mpdit_core.modulation import POINT_OF_SIGNAL, Modulation
from mpdit_core.probes import BRANCHES
from mpdit_core.progress import track
from mpdit_core.runs import Run, Weights

CHUNK = 4096
"""Pairs of timestep and label computed at once; a bound on memory."""


class ModulationGrid(Settings):
    """Timesteps and labels at which signals are computed.

    every: timesteps 0, every, 2 every, ... and the noisiest one. most_labels: classes, evenly
    spaced where there are more; the null label is always there besides."""

    every: int = Field(default=20, ge=1)
    most_labels: int = Field(default=10, ge=1)

    def timesteps(self, config: ModelConfig) -> tuple[int, ...]:
        """In sampling order: from the noisiest to 0."""
        last = config.timesteps - 1
        return tuple(sorted({*range(0, last, self.every), last}, reverse=True))

    def classes(self, config: ModelConfig) -> tuple[int, ...]:
        """The labels without the null label, ascending."""
        count = min(self.most_labels, config.classes)
        return tuple(int(n) for n in np.linspace(0, config.classes - 1, count).round())

    def labels(self, config: ModelConfig) -> tuple[int, ...]:
        """The classes, and the null label last."""
        return (*self.classes(config), config.null_label)


@dataclass(frozen=True)
class SignalGrid:
    """One signal of one place over a grid.

    block from 0 (the final layer counts as block `depth`); branch attn, mlp or final; signal
    scale, shift, rotation or gate; values (timesteps, labels, channels) float32, angles in
    radians, not reduced to one turn."""

    block: int
    branch: str
    signal: Signal
    values: np.ndarray

    @property
    def point(self) -> str:
        """The probe point that sees the same values in a forward pass."""
        prefix = "final" if self.branch == "final" else f"blocks.{self.block}.{self.branch}"
        return f"{prefix}.{POINT_OF_SIGNAL[self.signal]}"


def places(model: MPDiT) -> Iterator[tuple[int, str, Modulation]]:
    """(block, branch, modulation) of every place that the condition modulates, in order."""
    for index, block in enumerate(model.blocks):
        for branch in BRANCHES:
            modulation = getattr(block, branch).modulation
            if modulation is not None:
                yield index, branch, modulation
    if model.final.modulation is not None:
        yield len(model.blocks), "final", model.final.modulation


@torch.no_grad()
def conditions(model: MPDiT, timesteps: Sequence[int], labels: Sequence[int]) -> Tensor:
    """The condition c over the grid, (timesteps, labels, width)."""
    t = torch.tensor(timesteps).repeat_interleave(len(labels))
    y = torch.tensor(labels).repeat(len(timesteps))
    parts = [
        model.condition(t[start : start + CHUNK], y[start : start + CHUNK])
        for start in range(0, len(t), CHUNK)
    ]
    return torch.cat(parts).reshape(len(timesteps), len(labels), -1)


@torch.no_grad()
def signal_grids(
    model: MPDiT, timesteps: Sequence[int], labels: Sequence[int]
) -> Iterator[SignalGrid]:
    """Every modulation signal over the grid, block by block."""
    activated = model.activation(conditions(model, timesteps, labels)).flatten(0, 1)
    for block, branch, modulation in track(list(places(model)), "Modulation signals"):
        signals = [modulation(part) for part in activated.split(CHUNK)]
        for signal in modulation.signals:
            name = POINT_OF_SIGNAL[signal]
            values = torch.cat([getattr(part, name) for part in signals]).numpy()
            grid = values.reshape(len(timesteps), len(labels), -1)
            yield SignalGrid(block, branch, signal, grid)


STRENGTH_COLUMNS = (
    "run", "weights", "block", "branch", "point", "signal",
    "timestep", "label", "statistic", "value", "n",
)  # fmt: skip


@question(version=1)
def modulation_strength(run: Run, weights: Weights, settings: ModulationGrid) -> pd.DataFrame:
    """How large is each signal? One row per (block, branch, signal, timestep, label).

    Columns: run, weights, block (0 ... depth - 1, the final layer is block `depth`), branch (attn,
    mlp, final), point, signal (scale, shift, rotation, gate), timestep, label (the null label is
    the number of classes), statistic, value, n (channels). statistic is `magnitude` (root mean
    square over channels, no unit) for scale, shift and gate; for rotation `mean_absolute` (mean
    over pairs of the absolute angle, radians, not reduced to one turn)."""
    timesteps, labels = settings.timesteps(run.config), settings.labels(run.config)
    tables = [
        _strength(grid, timesteps, labels)
        for grid in signal_grids(run.model(weights), timesteps, labels)
    ]
    table = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()
    return table.assign(run=run.name, weights=str(weights)).reindex(columns=STRENGTH_COLUMNS)


def _strength(grid: SignalGrid, timesteps: Sequence[int], labels: Sequence[int]) -> pd.DataFrame:
    exact = grid.values.astype(np.float64)
    if grid.signal == "rotation":
        statistic, value = "mean_absolute", np.abs(exact).mean(axis=-1)
    else:
        statistic, value = "magnitude", np.sqrt(np.square(exact).mean(axis=-1))
    return pd.DataFrame(
        {
            "block": grid.block,
            "branch": grid.branch,
            "point": grid.point,
            "signal": grid.signal,
            "timestep": np.repeat(timesteps, len(labels)),
            "label": np.tile(labels, len(timesteps)),
            "statistic": statistic,
            "value": value.ravel(),
            "n": exact.shape[-1],
        }
    )


def largest(table: pd.DataFrame) -> dict[str, float]:
    """Signal -> its largest value in the table: the fixed end of its colour scale."""
    return table.groupby("signal")["value"].max().to_dict()


def at_label(table: pd.DataFrame, label_of: Mapping[str, int]) -> pd.DataFrame:
    """The rows of each run at its own number of a label: the null label's number differs.

    label_of: run -> label."""
    wanted = table["run"].map(label_of)
    return table[table["label"] == wanted]


DEFAULTS = (Default(modulation_strength, ModulationGrid()),)

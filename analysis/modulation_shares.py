"""How much of every signal comes from the timestep, from the label, and from both together?"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.defaults import Default
from analysis.modulation import ModulationGrid, conditions, signal_grids
from analysis.question import question
from mpdit_core.model import MPDiT
from mpdit_core.probes import BRANCHES
from mpdit_core.runs import Run, Weights

PARTS = ("timestep", "label", "both")
TOTAL = -1
"""Stands for "all channels" in `channel`, and for "all blocks" in `block`."""

SHARE_COLUMNS = (
    "run", "weights", "block", "branch", "signal", "channel", "labels", "statistic", "value", "n"
)  # fmt: skip

ROUNDING = 1e-6
"""Deviations below this part of the largest value are rounding: the signal is constant."""


class ShareGrid(ModulationGrid):
    """Every timestep by default: embeddings of neighbouring timesteps may differ freely."""

    every: int = 1


@dataclass(frozen=True)
class Split:
    """Sums of squares of a two-way analysis of variance, one number per channel.

    value[t, y] = mean + timestep[t] + label[y] + both[t, y]; every pair of t and y weighs the
    same. A signal that does not vary has zeros."""

    timestep: np.ndarray
    label: np.ndarray
    both: np.ndarray
    cells: int

    @property
    def total(self) -> np.ndarray:
        return self.timestep + self.label + self.both

    def shares(self) -> dict[str, np.ndarray]:
        """Parts of the total, which sum to 1; nan where the signal does not vary."""
        total = np.where(self.total > 0, self.total, np.nan)
        return {part: getattr(self, part) / total for part in PARTS}

    def deviation(self) -> np.ndarray:
        """Standard deviation over the grid, in the unit of the signal."""
        return np.sqrt(self.total / self.cells)

    def over_channels(self) -> "Split":
        """All channels as one: mean sums of squares, so the deviation is a root mean square."""
        means = [getattr(self, part).mean(keepdims=True) for part in PARTS]
        return Split(*means, cells=self.cells)


def two_way(values: np.ndarray) -> Split:
    """Split values (timesteps, labels, channels), one observation a cell.

    >>> import numpy as np
    >>> split = two_way(np.add.outer([0.0, 1.0], [0.0, 3.0])[..., None])
    >>> {part: float(share[0]) for part, share in split.shares().items()}
    {'timestep': 0.1, 'label': 0.9, 'both': 0.0}
    """
    exact = values.astype(np.float64)
    exact = exact - exact.mean(axis=(0, 1))
    exact[..., np.abs(exact).max(axis=(0, 1)) <= ROUNDING * np.abs(values).max(axis=(0, 1))] = 0
    of_timestep, of_label = exact.mean(axis=1), exact.mean(axis=0)
    rest = exact - of_timestep[:, None] - of_label[None]
    timesteps, labels = exact.shape[:2]
    return Split(
        labels * np.square(of_timestep).sum(axis=0),
        timesteps * np.square(of_label).sum(axis=0),
        np.square(rest).sum(axis=(0, 1)),
        timesteps * labels,
    )


def pooled(splits: list[Split]) -> Split:
    """Several splits of the same grid as one."""
    joined = [np.concatenate([getattr(split, part) for split in splits]) for part in PARTS]
    return Split(*joined, cells=splits[0].cells).over_channels()


@question(version=1)
def modulation_shares(run: Run, weights: Weights, settings: ShareGrid) -> pd.DataFrame:
    """Where do the signals come from? One row per (block, branch, signal, channel, labels,
    statistic).

    Columns: run, weights; block (the final layer is block `depth`, -1 all blocks and branches
    without the final layer); branch (attn, mlp, final, all); signal (scale, shift, rotation, gate;
    with block -1 and branch `condition` also condition, the sum before its nonlinearity, and
    activated, after it); channel (-1: all channels together); labels (`classes`: without the null
    label, `classes+null`: with it as one more label); statistic; value; n (cells of the grid).
    statistic is timestep, label or both (shares of the variation, which sum to 1; nan where the
    signal is constant), or deviation (standard deviation over the grid; radians for rotation)."""
    config = run.config
    timesteps, labels = settings.timesteps(config), settings.labels(config)
    model = run.model(weights)
    tables: list[pd.DataFrame] = []
    by_signal: dict[tuple[str, str], list[Split]] = {}
    for block, branch, signal, values in _values(model, timesteps, labels):
        for name, chosen in {"classes": values[:, :-1], "classes+null": values}.items():
            split = two_way(chosen)
            tables.append(_rows(split, block, branch, signal, name))
            if branch in BRANCHES:
                by_signal.setdefault((signal, name), []).append(split)
    for (signal, name), splits in by_signal.items():
        tables.append(_rows(pooled(splits), TOTAL, "all", signal, name))
    columns = [name for name in SHARE_COLUMNS if name in tables[0]]
    table = pd.concat(tables, ignore_index=True).melt(columns, var_name="statistic")
    return table.assign(run=run.name, weights=str(weights))[list(SHARE_COLUMNS)]


def _values(
    model: MPDiT, timesteps: tuple[int, ...], labels: tuple[int, ...]
) -> Iterator[tuple[int, str, str, np.ndarray]]:
    condition = conditions(model, timesteps, labels)
    yield TOTAL, "condition", "condition", condition.numpy()
    yield TOTAL, "condition", "activated", model.activation(condition).numpy()
    for grid in signal_grids(model, timesteps, labels):
        yield grid.block, grid.branch, grid.signal, grid.values


def _rows(split: Split, block: int, branch: str, signal: str, labels: str) -> pd.DataFrame:
    """All channels together, then one by one; the statistics still side by side."""
    channels = len(split.total)
    parts = [split.over_channels(), split] if channels > 1 else [split]
    values = [{**part.shares(), "deviation": part.deviation()} for part in parts]
    return pd.DataFrame(
        {
            "block": block,
            "branch": branch,
            "signal": signal,
            "channel": np.arange(TOTAL, channels) if channels > 1 else TOTAL,
            "labels": labels,
            "n": split.cells,
            **{name: np.concatenate([value[name] for value in values]) for name in values[0]},
        }
    )


DEFAULTS = (Default(modulation_shares, ShareGrid()),)

"""How far does the rotation turn each pair of channels, and how often does an angle wrap?"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from analysis.defaults import Default
from analysis.modulation import ModulationGrid, SignalGrid, signal_grids
from analysis.question import question
from mpdit_core.runs import Run, Weights

ANGLE_COLUMNS = (
    "run", "weights", "block", "branch", "pair", "timestep", "label", "statistic", "value", "n"
)  # fmt: skip

CIRCLE_BINS = 24
"""Sectors of the histogram on the circle, 15 degrees each."""

EVERY_TIMESTEP = ModulationGrid(every=1)


@question(version=1)
def rotation_angles(run: Run, weights: Weights, settings: ModulationGrid) -> pd.DataFrame:
    """Which angle does each pair turn by? One row per (block, branch, pair, timestep, label).

    Columns: run, weights, block (the final layer is block `depth`), branch, pair (0 ... width/2 -
    1), timestep, label, statistic (`angle`), value (radians, not reduced to one turn), n (1). No
    rows where the run has no rotation."""
    timesteps, labels = settings.timesteps(run.config), settings.labels(run.config)
    grids = _rotations(run, weights, timesteps, labels)
    return _named([_angles(grid, timesteps, labels) for grid in grids], run, weights)


@question(version=1)
def rotation_wraps(run: Run, weights: Weights, settings: ModulationGrid) -> pd.DataFrame:
    """How often does an angle wrap from timestep to timestep? Two rows per (block, branch, pair,
    label): `wraps`, see `wraps`, and `swing`, largest minus smallest angle in radians.

    Columns as `rotation_angles`; timestep is -1, for both speak of all timesteps; n is the number
    of timesteps. Use `EVERY_TIMESTEP`: a coarse grid misses wraps, as embeddings of neighbouring
    timesteps may differ freely."""
    timesteps, labels = settings.timesteps(run.config), settings.labels(run.config)
    grids = _rotations(run, weights, timesteps, labels)
    return _named([_wraps(grid, labels) for grid in grids], run, weights)


def wraps(angles: np.ndarray) -> np.ndarray:
    """How often an angle passes 180 degrees from one timestep (first axis) to the next.

    angles (timesteps, ...) in radians, not reduced; a step over k such places counts k.

    >>> import numpy as np
    >>> int(wraps(np.array([3.0, 3.3, 3.0, 0.0])))
    2
    """
    turns = np.floor((angles + np.pi) / (2 * np.pi))
    return np.abs(np.diff(turns, axis=0)).sum(axis=0).astype(int)


def within_one_turn(angles: np.ndarray) -> np.ndarray:
    """The same directions as angles in [-pi, pi), radians."""
    return (angles + np.pi) % (2 * np.pi) - np.pi


def on_circle(angles: np.ndarray, bins: int = CIRCLE_BINS) -> tuple[np.ndarray, np.ndarray]:
    """Histogram on the circle: centres of the bins (radians, the first is 0) and counts.

    The first bin is centred on "no rotation", so that small angles of either sign share it.

    >>> import numpy as np
    >>> on_circle(np.array([-0.1, 0.1, 2 * np.pi, np.pi]), bins=4)[1].tolist()
    [3, 0, 1, 0]
    """
    width = 2 * np.pi / bins
    bin_of = np.floor(angles / width + 0.5).astype(int) % bins
    return np.arange(bins) * width, np.bincount(bin_of, minlength=bins)


def most_on_circle(table: pd.DataFrame, bins: int = CIRCLE_BINS) -> int:
    """The largest count of any sector at any place, timestep and label of the table; at least 1.

    table: `rotation_angles`, in whose order the pairs of a cell follow each other from pair 0."""
    if table.empty:
        return 1
    width = 2 * np.pi / bins
    bin_of = np.floor(table["value"].to_numpy() / width + 0.5).astype(int) % bins
    cells = np.cumsum(table["pair"].to_numpy() == 0) - 1
    return int(np.bincount(cells * bins + bin_of).max())


def _rotations(
    run: Run, weights: Weights, timesteps: Sequence[int], labels: Sequence[int]
) -> list[SignalGrid]:
    signals = (*run.config.block_modulation, *run.config.final_modulation)
    if "rotation" not in signals:
        return []
    grids = signal_grids(run.model(weights), timesteps, labels)
    return [grid for grid in grids if grid.signal == "rotation"]


def _angles(grid: SignalGrid, timesteps: Sequence[int], labels: Sequence[int]) -> pd.DataFrame:
    pairs = grid.values.shape[-1]
    return pd.DataFrame(
        {
            "block": grid.block,
            "branch": grid.branch,
            "pair": np.tile(np.arange(pairs), len(timesteps) * len(labels)),
            "timestep": np.repeat(timesteps, len(labels) * pairs),
            "label": np.tile(np.repeat(labels, pairs), len(timesteps)),
            "statistic": "angle",
            "value": grid.values.ravel(),
            "n": 1,
        }
    )


def _wraps(grid: SignalGrid, labels: Sequence[int]) -> pd.DataFrame:
    pairs = grid.values.shape[-1]
    exact = grid.values.astype(np.float64)
    place = {
        "block": grid.block,
        "branch": grid.branch,
        "pair": np.tile(np.arange(pairs), len(labels)),
        "timestep": -1,
        "label": np.repeat(labels, pairs),
        "n": len(exact),
    }
    values = {"wraps": wraps(exact).astype(float), "swing": np.ptp(exact, axis=0)}
    parts = [
        pd.DataFrame({**place, "statistic": statistic, "value": value.ravel()})
        for statistic, value in values.items()
    ]
    return pd.concat(parts)


def _named(tables: list[pd.DataFrame], run: Run, weights: Weights) -> pd.DataFrame:
    """One table with the columns of this file, also where there are no rows."""
    table = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()
    return table.assign(run=run.name, weights=str(weights)).reindex(columns=ANGLE_COLUMNS)


DEFAULTS = (
    Default(rotation_angles, ModulationGrid()),
    Default(rotation_wraps, EVERY_TIMESTEP),
)

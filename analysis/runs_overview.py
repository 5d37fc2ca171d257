"""What each run is, how its training went, and in which measure runs differ most."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis.quality_answers import undiverged
from mpdit_core.config import LADDER_FLAGS
from mpdit_core.errors import MPDiTError
from mpdit_core.runs import Run
from mpdit_core.runs.shapes import parameter_count

TRAINING, HELD_OUT, AVERAGED = "training", "held-out", "held-out, EMA 10 %"
LOSSES = {"loss": TRAINING, "heldout_loss": HELD_OUT, "heldout_loss_ema_0.100": AVERAGED}
"""Fields of metrics.jsonl that are losses: mean squared error of the predicted noise, no unit."""


def overview(runs: Sequence[Run]) -> pd.DataFrame:
    """One row a run.

    Columns: run; modulation (signals of a block, in words); each flag of the ladder (bool);
    parameters; steps (of the newest weights); train_loss (running mean of the raw weights'),
    heldout_loss (of the EMA 10 % where it was tracked, else of the raw weights), both at the last
    step that has them, nan without a log."""
    return pd.DataFrame([_row(run) for run in runs])


def _row(run: Run) -> dict[str, object]:
    curves = learning_curves_of(run)
    held_out = _last(curves, AVERAGED)
    return {
        "run": run.name,
        "modulation": " ".join(run.config.block_modulation) or "none",
        **{flag: getattr(run.config, flag) for flag in LADDER_FLAGS},
        "parameters": parameter_count(run.config),
        "steps": max((*run.steps, *(step for _, step, _ in run.snapshots())), default=0),
        "train_loss": _last(curves, TRAINING),
        "heldout_loss": _last(curves, HELD_OUT) if pd.isna(held_out) else held_out,
    }


def _last(curves: pd.DataFrame, part: str) -> float:
    values = curves.loc[curves["part"] == part, "value"]
    return float(values.iloc[-1]) if len(values) else float("nan")


def log_trouble(run: Run) -> str:
    """Why the run's log cannot be read, one sentence, or ""; its weights can be looked at."""
    return _log(run)[1]


def _log(run: Run) -> tuple[list[dict[str, Any]], str]:
    """The lines of the log, or none and why."""
    try:
        return run.metrics(), ""
    except MPDiTError as error:
        return [], str(error)


def learning_curves_of(run: Run) -> pd.DataFrame:
    """The run's log: one row per (step, part), steps ascending.

    Columns: run, step, part ("training", "held-out", "held-out, EMA 10 %"), value (mean squared
    error of the noise, no unit; training is a running mean over about 50 batches)."""
    rows = [
        (run.name, line["step"], part, float(line[name]))
        for line in _log(run)[0]
        for name, part in LOSSES.items()
        if line.get(name) is not None
    ]
    return pd.DataFrame(rows, columns=["run", "step", "part", "value"])


@dataclass(frozen=True)
class Difference:
    """The measure in which runs differ most, relative to its size.

    low, high: names of the runs at its ends; spread: the larger spread over seeds of the two,
    0 where none is known."""

    measure: str
    low: str
    high: str
    low_value: float
    high_value: float
    spread: float

    @property
    def beyond_spread(self) -> bool:
        """Whether the ends lie further apart than twice the spread over sampling seeds."""
        return self.high_value - self.low_value > 2 * self.spread


def largest_difference(measures: pd.DataFrame) -> Difference | None:
    """Where do the runs differ most, as a share of the smaller value? None for fewer than two.

    A measure whose ends are no further apart than twice their spread comes after all others.

    measures: run, measure, value (above 0), spread (nan where unknown)."""
    known = measures.dropna(subset=["value"])
    found = [
        _difference(str(measure), rows)
        for measure, rows in known.groupby("measure", sort=False)
        if rows["run"].nunique() > 1 and rows["value"].min() > 0
    ]
    return max(
        found, key=lambda one: (one.beyond_spread, one.high_value / one.low_value), default=None
    )


def _difference(measure: str, rows: pd.DataFrame) -> Difference:
    low, high = rows.loc[rows["value"].idxmin()], rows.loc[rows["value"].idxmax()]
    spread = pd.Series([low["spread"], high["spread"]], dtype=float).fillna(0).max()
    return Difference(
        measure, str(low["run"]), str(high["run"]), low["value"], high["value"], float(spread)
    )


def with_quality(table: pd.DataFrame, quality: pd.DataFrame | None) -> pd.DataFrame:
    """The overview with the samples' marks: a column a statistic, and one for its spread.

    quality: `analysis.quality.summary` of some of the runs, or None. Others have nan, and so has
    a distance that a few images far outside the range of the data decide."""
    if quality is None:
        return table
    drawn = undiverged(quality[quality["images"] == "samples"])
    values = drawn.pivot(index="run", columns="statistic", values="value")
    spreads = drawn.pivot(index="run", columns="statistic", values="spread").add_suffix("_spread")
    return table.merge(values.join(spreads).reset_index(), on="run", how="left")

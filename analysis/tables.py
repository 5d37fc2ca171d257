"""What all tables of `analysis` have in common."""

import pandas as pd

from mpdit_core.runs import Run, Weights


def of_run(table: pd.DataFrame, run: Run, weights: Weights | str) -> pd.DataFrame:
    """The table with `run` and `weights` as its first columns; changed in place and returned."""
    table.insert(0, "run", run.name)
    table.insert(1, "weights", str(weights))
    return table

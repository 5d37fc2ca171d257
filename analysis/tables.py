"""What all tables of `analysis` have in common."""

from typing import Any

import numpy as np
import pandas as pd

from mpdit_core.runs import Run, Weights


def of_run(table: pd.DataFrame, run: Run, weights: Weights | str) -> pd.DataFrame:
    """The table with `run` and `weights` as its first columns; changed in place and returned."""
    table.insert(0, "run", run.name)
    table.insert(1, "weights", str(weights))
    return table


def spread_out(table: pd.DataFrame) -> pd.DataFrame:
    """The table with a column for every item of its lists, as a spreadsheet can read it."""
    for name in [name for name in table if _holds_lists(table[name])]:
        lists = [[] if item is None else list(item) for item in table[name]]
        items = pd.DataFrame(lists, index=table.index)
        table = table.drop(columns=name).join(items.add_prefix(f"{name} "))
    return table


def _holds_lists(column: pd.Series) -> bool:
    def is_list(item: Any) -> bool:
        return isinstance(item, list | tuple | np.ndarray)

    return column.dtype == object and any(map(is_list, column))

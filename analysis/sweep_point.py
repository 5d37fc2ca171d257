"""One place of a sweep: what is asked there, and where it stands in the sweep's table."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pandas as pd
from pydantic import BaseModel

if TYPE_CHECKING:
    from mpdit_core.runs import Run


@dataclass(frozen=True)
class SweepPoint:
    """A question's result for these weights and settings is stored by itself, so that a sweep
    computes only what nobody asked before. columns: what the point's rows are told apart by."""

    run: "Run"
    weights: str
    settings: BaseModel
    columns: Mapping[str, object] = field(default_factory=dict)

    def placed(self, table: pd.DataFrame) -> pd.DataFrame:
        """The point's own table with its columns."""
        return table.assign(**dict(self.columns))

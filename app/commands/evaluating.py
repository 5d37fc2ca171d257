"""`mpdit evaluate`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import typer

from analysis.quality import EvaluateSettings, sample_quality, summary
from analysis.store import store_for
from app.commands.bars import shown_progress
from app.commands.choosing import chosen_weights, numbers, runs_in, table_file, write_table
from mpdit_core.errors import BadData
from mpdit_core.progress import track


def evaluate_runs(
    folders: Sequence[Path],
    weights: str | None,
    seeds: str,
    settings: dict[str, Any],
    out: Path | None,
) -> None:
    """Judge the samples of every run; results are kept, and found again when asked once more."""
    target = None if out is None else table_file(out)
    asked = EvaluateSettings.checked(settings | {"seeds": numbers(seeds, "seeds")})
    store = store_for(folders)
    tables, left_out = [], []
    with shown_progress():
        for run in track(runs_in(folders), "Runs"):
            try:
                tables.append(
                    store.result(sample_quality, run, chosen_weights(run, weights), asked)
                )
            except BadData as error:
                left_out.append(str(error))
    if not tables:
        raise BadData("; ".join(left_out))
    for reason in left_out:
        typer.echo(f"Left out: {reason}", err=True)
    table = pd.concat(tables, ignore_index=True)
    typer.echo(_report(table))
    if target is not None:
        write_table(table, target)


def _report(table: pd.DataFrame) -> str:
    """Mean over the seeds, and their standard deviation where there are several."""
    rows = [
        {"run": row.run, "weights": row.weights, "images": row.images, "statistic": row.statistic,
         "mean": f"{row.value:.4g}", "std over seeds": "" if pd.isna(row.spread) else
         f"{row.spread:.2g}", "seeds": row.seeds, "n a seed": row.n}
        for row in summary(table).itertuples()
    ]  # fmt: skip
    return pd.DataFrame(rows).to_string(index=False)

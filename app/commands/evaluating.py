"""`mpdit evaluate`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import typer

from analysis.quality import EvaluateSettings, sample_quality, summary
from analysis.quality_sweeps import SWEEPS, widths_left_out
from analysis.store import store_for
from analysis.sweep_point import SweepPoint
from app.commands.bars import shown_progress
from app.commands.choosing import chosen_weights, numbers, runs_in, table_file, write_table
from mpdit_core.errors import BadData, InvalidConfig, NoSuchWeights
from mpdit_core.progress import track
from mpdit_core.runs import Run


def evaluate_runs(
    folders: Sequence[Path],
    weights: str | None,
    guidance: str,
    over: str | None,
    settings: dict[str, Any],
    out: Path | None,
) -> None:
    """Judge the samples of every run; results are kept, and found again when asked once more."""
    target = None if out is None else table_file(out)
    asked = _settings(settings, guidance)
    if over is not None and over not in SWEEPS:
        raise InvalidConfig(f"over was {over!r}; it should be one of {', '.join(SWEEPS)}")
    runs, store = runs_in(folders), store_for(folders)
    points = [point for run in runs for point in _points(run, weights, asked, over)]
    left_out = widths_left_out(runs) if over == "sigma" else []
    tables = []
    with shown_progress():
        for point in track(points, "Points"):
            try:
                table = store.result(sample_quality, point.run, point.weights, point.settings)
                tables.append(point.placed(table))
            except (BadData, NoSuchWeights) as error:
                left_out.append(str(error))
    if not tables:
        raise BadData("; ".join(dict.fromkeys(left_out)) or "There is nothing to judge")
    for reason in dict.fromkeys(left_out):
        typer.echo(f"Left out: {reason}", err=True)
    table = pd.concat(tables, ignore_index=True)
    typer.echo(_report(table))
    if target is not None:
        write_table(table, target)


def _settings(settings: dict[str, Any], guidance: str) -> list[EvaluateSettings]:
    """One for every guidance."""
    seeds = numbers(settings["seeds"], "seeds")
    try:
        scales = [float(part) for part in guidance.split(",")]
    except ValueError:
        raise InvalidConfig(
            f"guidance was {guidance!r}; it should be numbers joined by commas, such as 1,1.5,3"
        ) from None
    return [
        EvaluateSettings.checked(settings | {"seeds": seeds, "guidance": scale}) for scale in scales
    ]


def _points(
    run: Run, weights: str | None, asked: Sequence[EvaluateSettings], over: str | None
) -> list[SweepPoint]:
    """What is judged of a run, each point with its guidance in the table."""
    texts: list[str | None] = [None] if weights is None else list(weights.split(","))
    chosen = [chosen_weights(run, text) for text in texts]
    if over is None:
        points = [SweepPoint(run, str(each), settings) for each in chosen for settings in asked]
    else:
        sweep = SWEEPS[over]
        swept = [
            p for each in chosen for settings in asked for p in sweep.points(run, each, settings)
        ]
        points = list({(p.weights, p.settings): p for p in swept}.values())
    return [
        SweepPoint(run, p.weights, p.settings, {"guidance": _guidance(p), **p.columns})
        for p in points
    ]


def _guidance(point: SweepPoint) -> float:
    return EvaluateSettings.model_validate(point.settings).guidance


def _report(table: pd.DataFrame) -> str:
    """Mean over the seeds, and their standard deviation where there are several."""
    parts = [
        summary(rows).assign(guidance=guidance)
        for guidance, rows in table.groupby("guidance", sort=False)
    ]
    rows = [
        {"run": row.run, "weights": row.weights, "guidance": f"{row.guidance:g}",
         "images": row.images, "statistic": row.statistic,
         "mean": f"{row.value:.4g}", "std over seeds": "" if pd.isna(row.spread) else
         f"{row.spread:.2g}", "seeds": row.seeds, "n a seed": row.n}
        for part in parts for row in part.itertuples()
    ]  # fmt: skip
    return pd.DataFrame(rows).to_string(index=False)

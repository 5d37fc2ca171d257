"""`mpdit dynamics`."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import get_args

import pandas as pd
import typer

from analysis.dynamics import DynamicsSettings, Normalization, dynamics_of, weight_dynamics
from analysis.dynamics_alarms import Thresholds, alarms
from analysis.dynamics_ranking import matrices, ranking, spread, steps_sentence
from app.commands.bars import shown_progress
from app.commands.choosing import table_file, write_table
from mpdit_core.errors import InvalidConfig
from mpdit_core.runs import READERS, Run, load_run
from mpdit_core.runs.states import holds_states, read_state, state_files, without_step

INTERVALS = 5
"""How many of the last intervals between saved steps are told of."""

NO_RANKING = "No weight matrix moved between saved steps, so there is no ranking."


def show_dynamics(
    folder: Path, normalization: str | None, limits: Mapping[str, float], top: int, out: Path | None
) -> None:
    """Print ranking, spread and alarms of a run or of any folder of state dicts."""
    target = None if out is None else table_file(out)
    asked = Thresholds.checked(limits)
    scheme = None if normalization is None else _scheme(normalization)
    with shown_progress():
        table = _table(folder, scheme)
    for part in _report(table, asked, top):
        typer.echo(part)
    if target is not None:
        write_table(table, target)


def _scheme(text: str) -> Normalization:
    for scheme in get_args(Normalization):
        if text == scheme:
            return scheme
    allowed = ", ".join(get_args(Normalization))
    raise InvalidConfig(f"normalization was {text!r}; it should be one of {allowed}")


def _table(folder: Path, scheme: Normalization | None) -> pd.DataFrame:
    run = None if holds_states(folder) else _run_in(folder)
    if run is not None and scheme is None:
        return weight_dynamics(run, "final", DynamicsSettings())
    files = state_files(folder) if run is None else {s: run.raw_files[s] for s in run.steps}
    for file in without_step(folder) if run is None else []:
        typer.echo(f"Left out: {file} has no step in its name", err=True)
    read = read_state if run is None else run.read
    states = {step: partial(read, file) for step, file in files.items()}
    table = dynamics_of(states, scheme or "none")
    name = folder.resolve().name if run is None else run.name
    return table.assign(run=name)[["run", *table.columns]]


def _run_in(folder: Path) -> Run | None:
    """The run in this folder, if it looks like one."""
    looks_so = folder.is_dir() and any(reader.recognises(folder) for reader in READERS)
    return load_run(folder) if looks_so else None


def _report(table: pd.DataFrame, limits: Thresholds, top: int) -> list[str]:
    moving, name = matrices(table), str(table["run"].iloc[0])
    ranked = ranking(moving).dropna(subset=["growth"])
    ranked = ranked[ranked["since"] < ranked["step"]]
    parts = [
        f"{name}: {table['layer'].nunique()} tensors, {moving['layer'].nunique()} of them weight "
        f"matrices that moved. {steps_sentence(table)}"
    ]
    parts.append(_ranked(ranked.head(top)) if len(ranked) else NO_RANKING)
    parts += _spread_lines(moving)
    found = alarms(table, limits)
    parts.append("\nAlarms" if len(found) else "\nNo alarm.")
    return parts + [f"  {reason}" for reason in found["reason"]]


def _ranked(rows: pd.DataFrame) -> str:
    """The rows of the ranking to print; norms are means over rows."""
    shown = pd.DataFrame(
        {
            "layer": rows["layer"],
            "growth": rows["growth"].map("{:.3g}".format),
            "since step": rows["since"].map("{:,}".format),
            "norm then": rows["norm_start"].map("{:.3g}".format),
            "norm now": rows["norm_mean"].map("{:.3g}".format),
            "largest row": rows["norm_max"].map("{:.3g}".format),
            "learning rate": rows["effective_lr"].map("{:.2e}".format),
            "stable rank": rows["stable_rank"].map("{:.3g}".format),
        }
    )
    return "\nWeight matrices by growth of their mean row norm\n" + shown.to_string(index=False)


def _spread_lines(moving: pd.DataFrame) -> list[str]:
    """A line for each of the last saved steps."""
    return [
        f"{'' if place else chr(10)}Effective learning rates, steps {row['before']:,} to "
        f"{row['step']:,}: the 90th percentile of {row['n']} matrices is {row['value']:.3g} times "
        f"the 10th; fastest {row['fastest']}, slowest {row['slowest']}"
        for place, row in enumerate(spread(moving).tail(INTERVALS).to_dict("records"))
    ]

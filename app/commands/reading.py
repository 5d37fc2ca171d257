"""`mpdit import` and `mpdit inspect`."""

from pathlib import Path

import typer

from app.commands.bars import shown_progress
from app.commands.health import ema_lines
from mpdit_core.runs import load_run
from mpdit_core.runs.importing import import_run
from mpdit_core.runs.inspecting import describe


def convert(source: Path, destination: Path) -> None:
    """Convert a run and say what came over."""
    with shown_progress():
        run = import_run(source, destination)
    saved = ", ".join(str(weights) for weights in run.weights())
    typer.echo(f"{destination}: {run.config.depth} blocks of width {run.config.width}; {saved}")
    if run.ema_trap is not None:
        typer.echo(f"No averages are offered: {run.ema_trap}")


def show(folder: Path) -> None:
    """Print what a run is, and the health of its averages."""
    run = load_run(folder)
    for line in describe(run):
        typer.echo(line)
    typer.echo("\nEMA health")
    for line in ema_lines(run):
        typer.echo(f"  {line}")

"""`mpdit sample`."""

from pathlib import Path
from typing import Any

import typer

from analysis.figures.samples import samples_png
from analysis.samples import SampleSettings, grey_range, sampled_images
from app.commands.bars import shown_progress
from app.commands.choosing import chosen_weights, new_file, numbers
from mpdit_core.runs import load_run
from mpdit_core.runs.files import write_atomically


def sample_grid(
    folder: Path, weights: str | None, labels: str | None, settings: dict[str, Any], out: Path
) -> None:
    """Draw one image per label and write them side by side as a PNG."""
    new_file(out, "picture", ".png")
    run = load_run(folder)
    chosen = chosen_weights(run, weights)
    wanted = () if labels is None else numbers(labels, "labels")
    asked = SampleSettings.checked(settings | {"labels": wanted, "frames": 1})
    with shown_progress():
        table = sampled_images(run, chosen, asked)
    title = f"{chosen}, {asked.sampler}, {asked.steps} steps, guidance {asked.guidance:g}"
    png = samples_png(table, grey_range(run.data), title)
    write_atomically(out, lambda file: file.write(png))
    typer.echo(f"{out}: {len(table)} images of {run.name}, {title}, seed {asked.seed}")

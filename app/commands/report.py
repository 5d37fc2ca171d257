"""`mpdit report`."""

from collections.abc import Sequence
from pathlib import Path

import typer

from analysis.report.chapter import Part
from analysis.report.chapters import PARTS
from analysis.report.writing import Wanted, write_report
from analysis.store import store_for
from app.commands.bars import shown_progress
from app.commands.choosing import chosen_weights, left_out, refuse_missing, refuse_none
from app.library import SHIPPED, read_library
from mpdit_core.errors import InvalidConfig


def report_runs(
    folders: Sequence[Path], out: Path, weights: str | None, pages: str | None, sampling: bool
) -> None:
    """Write the report, and say where it is and what it leaves out."""
    parts = _chosen(pages)
    refuse_missing(folders)
    library = read_library(tuple(folders))
    unusable = tuple((each.name, each.reason) for each in library.unusable)
    left_out(reason for _, reason in unusable)
    refuse_none(library.runs, folders)
    reported = {run.name: str(chosen_weights(run, weights)) for run in library.runs}
    wanted = Wanted(library.runs, reported, parts, unusable, sampling)
    with shown_progress():
        index = write_report(wanted, store_for([*folders, SHIPPED]), out)
    typer.echo(f"{index}: {len(parts)} pages, {len(library.runs)} runs, {wanted.weights_words}")


def _chosen(pages: str | None) -> tuple[Part, ...]:
    """The named pages, in the dashboard's order."""
    known = [part.place for part in PARTS]
    wanted = known if pages is None else [name.strip() for name in pages.split(",")]
    for name in wanted:
        if name not in known:
            raise InvalidConfig(f"pages held {name!r}; it should be any of {', '.join(known)}")
    return tuple(part for part in PARTS if part.place in wanted)

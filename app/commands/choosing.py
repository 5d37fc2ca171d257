"""What the words of a command line mean: runs, weights, lists of numbers, files of tables."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd
import typer

from mpdit_core.errors import InvalidConfig, UnreadableRun
from mpdit_core.runs import SHOWN, BrokenRun, Run, Weights, find_runs


def chosen_weights(run: Run, text: str | None) -> Weights:
    """The weights named, or the average of sigma_rel 0.100 where there is one, else the last."""
    if text is not None:
        return Weights.parse(text)
    averaged = run.ema_steps and run.ema_trap is None
    return Weights.parse(SHOWN if averaged else "final")


def runs_in(folders: Sequence[Path]) -> list[Run]:
    """Every readable run in and below the folders; the others are named on stderr.

    Raises UnreadableRun where a folder does not exist or none holds a run."""
    refuse_missing(folders)
    found = [each for folder in folders for each in find_runs(folder)]
    runs = [each for each in found if isinstance(each, Run)]
    left_out(each.reason for each in found if isinstance(each, BrokenRun))
    refuse_none(runs, folders)
    return runs


def refuse_missing(folders: Sequence[Path]) -> None:
    """Raises UnreadableRun for the first folder that does not exist."""
    for folder in folders:
        if not folder.is_dir():
            raise UnreadableRun(f"There is no folder {folder}; name a run or a folder of runs")


def left_out(reasons: Iterable[str]) -> None:
    """Say on stderr why folders that look like runs are none."""
    for reason in reasons:
        typer.echo(f"Left out: {reason}", err=True)


def refuse_none(runs: Sequence[Run], folders: Sequence[Path]) -> None:
    """Raises UnreadableRun where there are no runs."""
    if not runs:
        raise UnreadableRun(f"There is no readable run in {', '.join(map(str, folders))}")


def numbers(text: str, what: str) -> tuple[int, ...]:
    """Whole numbers joined by commas. Raises InvalidConfig naming the option.

    >>> numbers("0, 3,7", "labels")
    (0, 3, 7)
    """
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise InvalidConfig(
            f"{what} was {text!r}; it should be whole numbers joined by commas, such as 0,1,2"
        ) from None


def table_file(file: Path) -> Path:
    """The file, if a table can be written there; see `new_file`."""
    return new_file(file, "table", ".parquet", ".csv")


def new_file(file: Path, what: str, *endings: str) -> Path:
    """The file, if it can be written; asked before the long computation, not after.

    Raises InvalidConfig for another ending, a folder, or a place where nothing can be written."""
    if file.suffix.lower() not in endings:
        raise InvalidConfig(
            f"The {what}'s file was {file}; it should end in {' or '.join(endings)}"
        )
    above = next(folder for folder in file.absolute().parents if folder.exists())
    if file.is_dir() or not above.is_dir() or not os.access(above, os.W_OK):
        raise InvalidConfig(f"The {what}'s file was {file}; no file can be written there")
    return file


def write_table(table: pd.DataFrame, file: Path) -> None:
    """Write a table as Parquet or CSV, as the file's ending says."""
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix.lower() == ".csv":
        table.to_csv(file, index=False)
    else:
        table.to_parquet(file, index=False)
    typer.echo(f"{file}: {len(table):,} rows")

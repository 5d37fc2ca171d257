"""Open runs of any known layout. A new layout: one file here, one line in `READERS`."""

from pathlib import Path

from mpdit_core.errors import MPDiTError, UnreadableRun
from mpdit_core.runs import native
from mpdit_core.runs.run import BrokenRun, Run
from mpdit_core.runs.weights import Weights

READERS = (native,)
"""Modules with `LAYOUT`, `recognises(folder)` and `read(folder)`, tried in this order."""

DEEPEST = 3
"""How many folders below the one given runs are looked for."""

__all__ = ["READERS", "BrokenRun", "Run", "Weights", "find_runs", "load_run"]


def load_run(path: str | Path) -> Run:
    """Open the run in this folder. Raises UnreadableRun with one sentence."""
    folder = Path(path)
    if not folder.is_dir():
        raise UnreadableRun(f"{folder} is no folder; a run is a folder with run.json in it")
    for reader in READERS:
        if reader.recognises(folder):
            return reader.read(folder)
    layouts = ", ".join(reader.LAYOUT for reader in READERS)
    raise UnreadableRun(f"{folder} is no run of a known layout ({layouts})")


def find_runs(path: str | Path) -> list[Run | BrokenRun]:
    """All runs in and below a folder, by path; those that cannot be read come with the reason."""
    return _found(Path(path), DEEPEST)


def _found(folder: Path, depth: int) -> list[Run | BrokenRun]:
    if any(reader.recognises(folder) for reader in READERS):
        try:
            return [load_run(folder)]
        except MPDiTError as error:
            return [BrokenRun(folder.name, folder, str(error))]
    if depth == 0 or not folder.is_dir():
        return []
    inner = sorted(child for child in folder.iterdir() if child.is_dir())
    return [run for child in inner if child.name[:1] != "." for run in _found(child, depth - 1)]

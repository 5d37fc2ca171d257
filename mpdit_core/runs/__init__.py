"""Open runs of any known layout. A new layout: one file here, one line in `READERS`."""

from pathlib import Path
from types import ModuleType

from mpdit_core.errors import MPDiTError, UnreadableRun
from mpdit_core.runs import map_dit, native
from mpdit_core.runs.run import BrokenRun, Run
from mpdit_core.runs.weights import SHOWN, Weights

READERS = (native, map_dit)
"""Modules with `LAYOUT`, `recognises(folder)` and `read(folder)`, tried in this order."""

DEEPEST = 3
"""How many folders below the one given runs are looked for."""

__all__ = ["READERS", "SHOWN", "BrokenRun", "Run", "Weights", "find_runs", "load_run"]


def load_run(path: str | Path) -> Run:
    """Open the run in this folder. Raises UnreadableRun with one sentence."""
    folder = Path(path)
    if not folder.is_dir():
        raise UnreadableRun(f"{folder} is no folder; a run is a folder with run.json in it")
    for reader in READERS:
        if reader.recognises(folder):
            return _read(reader, folder)
    layouts = ", ".join(reader.LAYOUT for reader in READERS)
    raise UnreadableRun(f"{folder} is no run of a known layout ({layouts})")


def _read(reader: ModuleType, folder: Path) -> Run:
    """The run; whatever is wrong with its files in a way nobody thought of is a refusal too, so
    that one folder does not hide the others."""
    try:
        run = reader.read(folder)
    except (MPDiTError, OSError):
        raise
    except Exception as error:
        raise UnreadableRun(
            f"{folder} cannot be read: a file in it holds what it should not "
            f"({type(error).__name__}: {str(error)[:120]})"
        ) from error
    if "](" in run.name:
        raise UnreadableRun(
            f"{folder} has a name with ]( in it, which a page would show as a link or an image; "
            "change the name in run.json"
        )
    return run


def find_runs(path: str | Path) -> list[Run | BrokenRun]:
    """All runs in and below a folder, by path; those that cannot be read come with the reason.

    A folder that links lead to twice is listed once."""
    found = _found(Path(path), DEEPEST, set())
    return sorted(found, key=lambda run: run.folder)


def _found(folder: Path, depth: int, seen: set[Path]) -> list[Run | BrokenRun]:
    try:
        place = folder.resolve()
        if place in seen or not folder.is_dir():
            return []
        seen.add(place)
        if any(reader.recognises(folder) for reader in READERS):
            return [load_run(folder)]
        inner = _folders_in(folder) if depth else []
    except MPDiTError as error:
        return [BrokenRun(folder.name, folder, str(error))]
    except OSError as error:
        return [BrokenRun(folder.name, folder, f"{folder} cannot be read: {error.strerror}")]
    return [run for child in inner for run in _found(child, depth - 1, seen)]


def _folders_in(folder: Path) -> list[Path]:
    """Folders in this one, hidden ones left out; links last, so that a run keeps its own path."""
    inner = [child for child in folder.iterdir() if child.name[:1] != "." and child.is_dir()]
    return sorted(inner, key=lambda child: (child.is_symlink(), child.name))

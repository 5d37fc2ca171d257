"""All runs the dashboard can show, from the folders of `$MPDIT_RUNS`; read when changed."""

import os
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from analysis.figures.theme import in_run_order
from analysis.store import Store, store_for
from mpdit_core.runs import BrokenRun, Run, find_runs

SHIPPED = Path(__file__).parents[1] / "checkpoints"


@dataclass(frozen=True)
class Unusable:
    """A folder that looks like a run and cannot be shown, with the reason in one sentence."""

    name: str
    folder: Path
    reason: str


@dataclass(frozen=True)
class Library:
    """The runs at one moment, in the order A to E first, and where their results are stored."""

    runs: tuple[Run, ...]
    unusable: tuple[Unusable, ...]
    store: Store
    folders: tuple[Path, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(run.name for run in self.runs)

    def run(self, name: str) -> Run:
        """The run of that name; KeyError where there is none."""
        return {run.name: run for run in self.runs}[name]


def run_folders() -> tuple[Path, ...]:
    """The folders of `$MPDIT_RUNS` (separated like `$PATH`), else the shipped checkpoints."""
    listed = os.environ.get("MPDIT_RUNS", "").split(os.pathsep)
    return tuple(Path(folder) for folder in listed if folder) or (SHIPPED,)


def read_library(folders: tuple[Path, ...]) -> Library:
    """Look through the folders. A broken run, or a second one of the same name, is `unusable`."""
    runs: dict[str, Run] = {}
    unusable: list[Unusable] = []
    for folder in folders:
        if not folder.is_dir():
            reason = f"There is no folder {folder}; name existing folders of runs."
            unusable.append(Unusable(folder.name, folder, reason))
            continue
        for found in find_runs(folder):
            if isinstance(found, BrokenRun):
                unusable.append(Unusable(found.name, found.folder, found.reason))
            elif found.name in runs:
                unusable.append(_namesake(found, runs[found.name]))
            else:
                runs[found.name] = found
    ordered = tuple(runs[name] for name in in_run_order(runs))
    return Library(ordered, tuple(unusable), store_for(folders), folders)


def _namesake(run: Run, first: Run) -> Unusable:
    reason = f"{first.folder} holds a run called {run.name!r} too and is shown; rename one of them."
    return Unusable(run.name, run.folder, reason)


class _Shelf:
    """The library of this process, read again when a folder changed; shared by all sessions."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: object = None
        self._library: Library | None = None

    def library(self) -> Library:
        folders = run_folders()
        with self._lock:
            seen = (folders, _changed_at(folders))
            if self._library is None or seen != self._seen:
                self._library, self._seen = read_library(folders), seen
            return self._library


def _changed_at(folders: tuple[Path, ...]) -> tuple[tuple[str, int], ...]:
    """When each folder under these got or lost a file; a rename in place of a file counts."""
    return tuple(sorted(change for folder in folders for change in _changes(folder)))


def _changes(folder: Path) -> Iterator[tuple[str, int]]:
    for parent, inside, _ in os.walk(folder):
        # What a training needs to go on changes all the time and shows nowhere; folders with a
        # dot are being written, and renamed when they are whole.
        inside[:] = [name for name in inside if name != "state" and not name.startswith(".")]
        with suppress(FileNotFoundError):
            yield parent, os.stat(parent).st_mtime_ns


_SHELF = _Shelf()


def current_library() -> Library:
    """The runs there are now."""
    return _SHELF.library()

"""Compute the results that ship with the runs: `python -m analysis.precompute FOLDER --out DIR`.

A result that is already there is kept, so a killed computation goes on where it was.
"""

import argparse
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import torch
from filelock import FileLock, Timeout
from tqdm import tqdm

from analysis.defaults import Default, all_defaults
from analysis.store import Store
from mpdit_core.errors import NoSuchWeights
from mpdit_core.runs import Run, find_runs, load_run


@dataclass(frozen=True)
class Task:
    """One result: default number `place` of `all_defaults()`, for one run and its weights.

    It names things and does not hold them, because it travels to another process."""

    place: int
    folder: Path
    weights: str
    out: Path


def tasks(runs: Sequence[Run], defaults: Sequence[Default], out: Path) -> list[Task]:
    """Every result that pages show first and that `out` does not hold yet."""
    store = Store(out)
    wanted = [
        (place, default, run, weights)
        for place, default in enumerate(defaults)
        for weights in default.weights
        for run in runs
        if not default.runs or run.name in default.runs
    ]
    missing = []
    for place, default, run, weights in wanted:
        try:
            key = store.key(default.question, run, weights, default.settings)
        except NoSuchWeights:
            continue  # the page leaves this run out with a sentence
        if not store.has(key):
            missing.append(Task(place, run.folder, weights, out))
    return missing


def compute(task: Task) -> str:
    """Compute and store one result; returns what it was, in words."""
    torch.set_num_threads(1)
    default = tuple(all_defaults())[task.place]
    run = load_run(task.folder)
    Store(task.out).result(default.question, run, task.weights, default.settings)
    return f"{default.question.name} of {run.name}, {task.weights}"


def precompute(folder: Path, out: Path, processes: int = 2) -> int:
    """Compute what is missing for the runs below `folder`; returns how many results that was.

    Processes, one thread each, share the work. Files appear whole or not at all."""
    runs = [found for found in find_runs(folder) if isinstance(found, Run)]
    waiting = tasks(runs, tuple(all_defaults()), out)
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        bar = tqdm(pool.map(compute, waiting), total=len(waiting), unit="result")
        for what in bar:
            bar.set_description(what)
    for lock in (out / "locks").glob("*.lock"):
        _unlink_if_free(lock)
    return len(waiting)


def _unlink_if_free(lock: Path) -> None:
    with suppress(Timeout), FileLock(lock, timeout=0):
        lock.unlink()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="folder of runs")
    parser.add_argument("--out", type=Path, default=Path("checkpoints/results"))
    parser.add_argument("--processes", type=int, default=2)
    given = parser.parse_args()
    computed = precompute(given.folder, given.out, given.processes)
    print(f"{computed} results computed; all that pages show first are in {given.out}")


if __name__ == "__main__":
    main()

"""The runs that ship with the project: what they are, their learning rates, their training.

`python -m mpdit_core.shipped` trains what is missing, two runs at a time with one thread each,
and goes on where it was killed. First a small sweep chooses each learning rate on held-out loss.
"""

import argparse
import shutil
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import torch

from mpdit_core.config import ModelConfig, Signal, TrainConfig, modulation_study, preset
from mpdit_core.data import digits
from mpdit_core.errors import Diverged
from mpdit_core.runs import native
from mpdit_core.runs.files import read_json, write_json
from mpdit_core.training import train

FULL = TrainConfig()
"""Steps, batch, seed and schedule of every shipped run; only the learning rate differs."""

SWEEP = FULL.model_copy(
    update={"steps": 600, "warmup": 7, "decay_start": 100, "evaluate_every": 600, "save_every": 0,
            "ema_every": 600, "state_every": 200}
)  # fmt: skip
"""A tenth of the full training, its schedule compressed to the same shape."""

JUDGED_BY = "heldout_loss_ema_0.100"
PLAIN_RATES = (1e-3, 5e-4, 2e-3, 4e-3)
NORMALIZED_RATES = (1e-2, 5e-3, 2e-2, 4e-2)
DENSE = ("A", "E", "scale-rotation")
"""Runs that keep every snapshot; the others keep those of `SPARSE_STEPS` and the last."""
SPARSE_STEPS = (0, 1000, 3000)

STUDY: dict[str, tuple[Signal, ...]] = {
    "shift-scale-gate": ("scale", "shift", "gate"),
    "scale-gate-rotation": ("scale", "rotation", "gate"),
    "scale-rotation": ("scale", "rotation"),
    "rotation": ("rotation",),
    "scale-gate": ("scale", "gate"),
}


def configs() -> dict[str, ModelConfig]:
    """Every shipped run by name: the ladder A-E, then the modulation study."""
    ladder = {name: preset(name) for name in "AEBCD"}
    return ladder | {name: modulation_study(signals) for name, signals in STUDY.items()}


@dataclass(frozen=True)
class Task:
    """One training of one process."""

    folder: Path
    config: ModelConfig
    training: TrainConfig


def run_task(task: Task) -> float | None:
    """Train (or finish) one run; returns the held-out loss it is judged by, None if it diverged."""
    torch.set_num_threads(1)
    try:
        train(task.folder, task.config, task.training, digits())
    except Diverged:
        return None
    return float(native.read_metrics(task.folder / "metrics.jsonl")[-1][JUDGED_BY])


def sweep_tasks(work: Path) -> list[Task]:
    """The sweep: every config at every rate of its kind."""
    return [
        Task(work / name / f"{rate:g}", config, SWEEP.model_copy(update={"learning_rate": rate}))
        for name, config in configs().items()
        for rate in (NORMALIZED_RATES if config.weight_normalization else PLAIN_RATES)
    ]


def sweep(
    shipped: Path, work: Path, run_all: Callable[[list[Task]], Iterable[float | None]]
) -> None:
    """Run the sweep and keep its table beside the runs."""
    tasks = sweep_tasks(work)
    rows = [
        {"run": task.folder.parent.name, "learning_rate": task.training.learning_rate,
         "steps": task.training.steps, JUDGED_BY: loss}
        for task, loss in zip(tasks, run_all(tasks), strict=True)
    ]  # fmt: skip
    write_json(shipped / "sweep.json", rows)


def chosen_rates(shipped: Path) -> dict[str, float]:
    """The best learning rate of each config in the sweep's table."""
    rows = [row for row in read_json(shipped / "sweep.json") if row[JUDGED_BY] is not None]
    rows.sort(key=lambda row: -row[JUDGED_BY])
    return {row["run"]: row["learning_rate"] for row in rows}


def full_tasks(shipped: Path, work: Path) -> list[Task]:
    """The trainings of the shipped runs, each at its chosen rate."""
    rates = chosen_rates(shipped)
    return [
        Task(work / name, config, FULL.model_copy(update={"learning_rate": rates[name]}))
        for name, config in configs().items()
    ]


def ship(task: Task, shipped: Path) -> None:
    """Copy a finished run without its resumable state, and thin out its snapshots."""
    target = shipped / task.folder.name
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(task.folder, target, ignore=shutil.ignore_patterns("state", ".*"))
    if target.name in DENSE:
        return
    kept = {*SPARSE_STEPS, task.training.steps}
    run = native.read(target)
    for files in (run.raw_files, *run.ema_files.values()):
        for step, file in files.items():
            if step not in kept:
                file.unlink()


def main() -> None:
    """Train everything that is missing under `--work`, then copy it to `--out`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("checkpoints/digits"))
    parser.add_argument("--work", type=Path, default=Path("checkpoints/.work"))
    parser.add_argument("--processes", type=int, default=2)
    given = parser.parse_args()
    with ProcessPoolExecutor(given.processes, get_context("spawn")) as pool:
        if not (given.out / "sweep.json").exists():
            sweep(given.out, given.work / "sweep", lambda tasks: pool.map(run_task, tasks))
        tasks = full_tasks(given.out, given.work / "full")
        for task, _ in zip(tasks, pool.map(run_task, tasks), strict=True):
            ship(task, given.out)


if __name__ == "__main__":
    main()

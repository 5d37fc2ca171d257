"""The runs that ship with the project: what they are, their learning rates, their training.

`python -m mpdit_core.shipped` trains what is missing, two runs at a time with one thread each,
and goes on where it was killed. First a small sweep chooses each learning rate on held-out loss.
"""

import argparse
import math
import shutil
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from mpdit_core.config import ModelConfig, Signal, TrainConfig, modulation_study, preset
from mpdit_core.data import digits
from mpdit_core.errors import Diverged
from mpdit_core.runs import native
from mpdit_core.runs.files import write_json
from mpdit_core.training import train

FULL = TrainConfig(steps=4000)
"""Steps, batch, seed and schedule of every shipped run; only the learning rate differs.

4,000 steps at the rates found: 98-99 % of every run's samples are recognized, and they lie farther
from the training images (2.92 to 3.05) than held-out images do (2.84): more training would copy."""

SWEEP_STEPS = 1000
"""How far each learning rate is tried: the part of the full training with the rate at its peak.

A tenth of the schedule, compressed, chose rates that failed at full length: 0.16 for D ended at
a held-out loss of 0.095, where E with 0.04 has 0.086, and shift-scale-gate fell apart at it."""

JUDGED_BY = "heldout_loss_ema_0.100"
PLAIN_START, NORMALIZED_START = 8e-3, 4e-2
"""Where the search for a learning rate starts; it doubles or halves from there."""
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
    ladder = {name: preset(name) for name in "ABCDE"}
    return ladder | {name: modulation_study(signals) for name, signals in STUDY.items()}


def climb(loss_at: Callable[[float], float], start: float) -> dict[float, float]:
    """Double the rate while the loss falls; if it did not, halve it while the loss falls.

    Returns the loss at every rate tried; the best of them has a worse neighbour on both sides."""
    losses = {start: loss_at(start)}
    for factor in (2.0, 0.5):
        rate = start
        while losses.setdefault(rate * factor, loss_at(rate * factor)) < losses[rate]:
            rate *= factor
        if rate != start:
            break
    return losses


def tried_loss(folder: Path, config: ModelConfig, training: TrainConfig) -> float:
    """Held-out loss after the sweep's steps of the full training, infinite if it diverged."""
    try:
        train(folder, config, training, digits(), until=SWEEP_STEPS)
    except Diverged:
        return math.inf
    rows = native.read_metrics(folder / "metrics.jsonl")
    return float(next(row[JUDGED_BY] for row in rows if row["step"] == SWEEP_STEPS))


def make(name: str, work: Path) -> list[dict[str, Any]]:
    """Sweep the learning rate of one config, then train on at the best that reaches the end.

    Returns the sweep's rows by rate: run, learning_rate, steps, held-out loss (None if it
    diverged)."""
    torch.set_num_threads(1)
    config = configs()[name]

    def loss_at(rate: float) -> float:
        return tried_loss(trial_folder(work, name, rate), config, at_rate(rate))

    start = NORMALIZED_START if config.weight_normalization else PLAIN_START
    losses = climb(loss_at, start)
    for rate in sorted(losses, key=losses.__getitem__):
        try:
            train(trial_folder(work, name, rate), config, at_rate(rate), digits())
            break
        except Diverged:  # after the trial, as shift-scale-gate at 0.08: the next best rate then
            losses[rate] = math.inf
    return [
        {
            "run": name,
            "learning_rate": rate,
            "steps": SWEEP_STEPS,
            JUDGED_BY: loss if math.isfinite(loss) else None,
        }
        for rate, loss in sorted(losses.items())
    ]


def at_rate(rate: float) -> TrainConfig:
    """The full training at this learning rate."""
    return FULL.model_copy(update={"learning_rate": rate})


def trial_folder(work: Path, name: str, rate: float) -> Path:
    """Where a config is trained at a rate; named as the run, whose name the folder gives."""
    return work / f"{rate:g}" / name


def ship(trained: Path, target: Path) -> None:
    """Copy a finished run without its resumable state, and thin out its snapshots."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(trained, target, ignore=shutil.ignore_patterns("state", ".*"))
    if target.name in DENSE:
        return
    run = native.read(target)
    kept = {*SPARSE_STEPS, run.steps[-1]}
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
    rows = []
    with ProcessPoolExecutor(given.processes, get_context("spawn")) as pool:
        for tried in pool.map(partial(make, work=given.work), configs()):
            rows += tried
            best = min((row for row in tried if row[JUDGED_BY]), key=lambda row: row[JUDGED_BY])
            name, rate = best["run"], best["learning_rate"]
            ship(trial_folder(given.work, name, rate), given.out / name)
    write_json(given.out / "sweep.json", rows)


if __name__ == "__main__":
    main()

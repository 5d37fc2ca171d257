"""`mpdit train`: the words of the command line become a configuration, a bar shows the training."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
from tqdm import tqdm

from mpdit_core.config import LADDER_FLAGS, ModelConfig, TrainConfig, preset
from mpdit_core.data import DataSplit, digits, latents
from mpdit_core.errors import InvalidConfig
from mpdit_core.shipped import FULL
from mpdit_core.training import train

PLAIN_RATE, NORMALIZED_RATE = 2e-3, 2e-2
"""Where the sweep of the shipped runs starts."""


@dataclass(frozen=True)
class Wanted:
    """What the command line asks for; None where it leaves the choice."""

    out: Path | None
    preset: str
    modulation: str | None
    final_modulation: str | None
    on: tuple[str, ...]
    off: tuple[str, ...]
    data: str
    sizes: dict[str, int]
    steps: int | None
    learning_rate: float | None
    training: dict[str, int]


def train_run(wanted: Wanted) -> None:
    """Train, or go on with, the run in `wanted.out`."""
    data = digits() if wanted.data == "digits" else latents(Path(wanted.data))
    config = _config(wanted, data)
    training = _training(wanted, config)
    folder = wanted.out or Path("runs") / _name(wanted)
    bar = _Bar(training.steps)
    try:
        train(folder, config, training, data, bar.show)
    except KeyboardInterrupt:
        bar.close()
        typer.echo(f"Stopped; the same command goes on with {folder}", err=True)
        raise typer.Exit(130) from None
    finally:
        bar.close()
    typer.echo(f"{folder} is finished; look at it with: mpdit dashboard {folder}")


class _Bar:
    """Steps, speed, time left and the running loss; starts where the training is taken up."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.bar: tqdm | None = None

    def show(self, step: int, loss: float) -> None:
        if self.bar is None:
            self.bar = tqdm(
                total=self.steps, initial=step - 1, desc="Training", unit="step", disable=None
            )
        self.bar.set_postfix(loss=f"{loss:.4f}", refresh=False)
        self.bar.update()

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()


def _config(wanted: Wanted, data: DataSplit) -> ModelConfig:
    _, channels, size, _ = data.train_images.shape
    flags = dict.fromkeys(wanted.on, True) | dict.fromkeys(wanted.off, False)
    if unknown := [flag for flag in flags if flag not in LADDER_FLAGS]:
        raise InvalidConfig(f"There is no flag {unknown[0]!r}; flags are {', '.join(LADDER_FLAGS)}")
    changes: dict[str, Any] = dict(wanted.sizes) | flags
    changes |= {"channels": channels, "size": size, "classes": data.classes}
    if wanted.modulation is not None:
        # As in the modulation study: without a gate the branch is as with gate 0.
        changes |= {"block_modulation": _signals(wanted.modulation), "gate_form": "one_plus_gate"}
    if wanted.final_modulation is not None:
        changes["final_modulation"] = _signals(wanted.final_modulation)
    return preset(wanted.preset, **changes)


def _signals(text: str) -> tuple[str, ...]:
    names = tuple(part.strip() for part in text.split(","))
    return () if names == ("none",) else names


def _training(wanted: Wanted, config: ModelConfig) -> TrainConfig:
    rate = wanted.learning_rate
    if rate is None:
        rate = NORMALIZED_RATE if config.weight_normalization else PLAIN_RATE
    steps = FULL.steps if wanted.steps is None else wanted.steps
    return TrainConfig.checked(wanted.training | {"steps": steps, "learning_rate": rate})


def _name(wanted: Wanted) -> str:
    """A folder's name that tells the config: E, or E-scale-rotation."""
    parts = (wanted.preset, wanted.modulation, wanted.final_modulation, *wanted.on, *wanted.off)
    return re.sub(r"[^\w-]+", "-", "-".join(part for part in parts if part))

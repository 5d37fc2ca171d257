"""How much does each step of the modulation change the magnitude of the tokens it acts on?"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from pydantic import Field
from torch import Tensor

from analysis.defaults import Default
from analysis.modulation import ModulationGrid
from analysis.question import question
from mpdit_core.config import Seed
from mpdit_core.data import DataSplit, load_data
from mpdit_core.model import MPDiT
from mpdit_core.modulation import Signals
from mpdit_core.noise import sample_noise
from mpdit_core.points import visiting
from mpdit_core.probes import BRANCHES
from mpdit_core.progress import track
from mpdit_core.runs import Run, Weights
from mpdit_core.schedule import noise_schedule

BEFORE_BRANCH = {"scale": "scale", "shift": "shift", "rotation": "angle"}
"""The steps before a branch in the order in which they act, and the names of their signals."""

TOGETHER = "together"
"""The steps before a branch as one: what enters the branch, against the normed stream."""

CHANGE_COLUMNS = (
    "run", "weights", "block", "branch", "signal", "timestep", "label", "statistic", "value", "n"
)  # fmt: skip


class ChangeSettings(ModulationGrid):
    """samples: held-out images per label, the first ones; seed: of the noise added to them."""

    samples: int = Field(default=8, ge=1)
    seed: Seed = 0


class StepMagnitudes:
    """Visitor that redoes the modulation step by step and keeps the magnitudes around each.

    kept: (place, step) -> magnitude per sample (batch,) before, and after."""

    def __init__(self, model: MPDiT) -> None:
        self.parts: dict[str, Any] = {"final": model.final}
        for index, block in enumerate(model.blocks):
            self.parts |= {f"blocks.{index}.{kind}": getattr(block, kind) for kind in BRANCHES}
        self.kept: dict[tuple[str, str], tuple[np.ndarray, np.ndarray]] = {}
        self.signals: dict[str, Tensor] = {}
        self.stream = self.branch = torch.empty(0)

    def begin(self, timesteps: Tensor, labels: Tensor) -> None:
        self.kept = {}

    def wants(self, name: str) -> bool:
        return False

    def visit(self, name: str, tensor: Tensor) -> Tensor:
        place, _, word = name.rpartition(".")
        if name == "embed" or word == "resid":
            self.stream = tensor
        elif word in BEFORE_BRANCH.values():
            self.signals[word] = tensor
        elif word == "in":
            self._steps(place, tensor)
        elif word == "out":
            self.branch = tensor
        elif word == "gated" and "gate" in self._set_of(place):
            self.kept[place, "gate"] = magnitude(self.branch), magnitude(tensor)
        return tensor

    def _steps(self, place: str, entering: Tensor) -> None:
        part = self.parts[place]
        tokens = part.norm(self.stream)
        start = before = magnitude(tokens)
        for step, name in BEFORE_BRANCH.items():
            if step in self._set_of(place):
                tokens = part.modulate(tokens, Signals(**{name: self.signals[name]}))
                after = magnitude(tokens)
                self.kept[place, step] = before, after
                before = after
        self.kept[place, TOGETHER] = start, magnitude(entering)

    def _set_of(self, place: str) -> tuple[str, ...]:
        modulation = self.parts[place].modulation
        return () if modulation is None else modulation.signals


def magnitude(tokens: Tensor) -> np.ndarray:
    """Root mean square over channels, mean over tokens: (batch, tokens, width) -> (batch,)."""
    exact = tokens.double()
    return exact.square().mean(dim=-1).sqrt().mean(dim=-1).numpy()


@question(version=1)
@torch.no_grad()
def modulation_change(run: Run, weights: Weights, settings: ChangeSettings) -> pd.DataFrame:
    """What does each step do to the magnitude? Rows per (block, branch, signal, timestep, label).

    Columns: run, weights, block (the final layer is block `depth`), branch (attn, mlp, final),
    signal (scale, shift, rotation: before the branch; together: these as one; gate: after it),
    timestep, label, statistic (`ratio`: magnitude after / before, each a mean over tokens and
    samples, 1 = unchanged; `deviation`: standard deviation of the ratio over samples, nan for a
    single one), value, n (samples). Held-out images, noised to the timestep, each with its own
    label; the null label sees the first images of all labels. Raises BadData where the data of
    the run are not at hand."""
    config, model = run.config, run.model(weights)
    timesteps, labels = settings.timesteps(config), settings.labels(config)
    images, y = _images(load_data(run.data), labels, config.null_label, settings.samples)
    noise = sample_noise(settings.seed, range(len(images)), tuple(images.shape[1:]))
    schedule, steps = noise_schedule(config.timesteps), StepMagnitudes(model)
    found = []
    for timestep in track(timesteps, "Change of magnitude"):
        t = torch.full_like(y, timestep)
        with visiting(steps):
            model(schedule.add_noise(images, noise, t), t, y)
        found += [(timestep, *name, *around) for name, around in steps.kept.items()]
    table = _table(found, y.numpy(), config.depth)
    return table.assign(run=run.name, weights=str(weights))[list(CHANGE_COLUMNS)]


def _images(
    data: DataSplit, labels: Sequence[int], null_label: int, samples: int
) -> tuple[Tensor, Tensor]:
    """The first held-out images of each label; for the null label the first of all."""
    of_label = [
        torch.arange(len(data.heldout_labels))[:samples]
        if label == null_label
        else (data.heldout_labels == label).nonzero().flatten()[:samples]
        for label in labels
    ]
    shown = [torch.full_like(found, label) for found, label in zip(of_label, labels, strict=True)]
    return data.heldout_images[torch.cat(of_label)], torch.cat(shown)


def _table(
    found: list[tuple[int, str, str, np.ndarray, np.ndarray]], shown: np.ndarray, depth: int
) -> pd.DataFrame:
    """found: (timestep, place, step, before, after), the latter two (samples,); shown: labels."""
    labels, member = np.unique(shown, return_inverse=True)
    counts = np.bincount(member)
    before, after = (np.stack([row[part] for row in found]) for part in (3, 4))
    groups = np.eye(len(labels))[member]  # (samples, labels), so that a product adds up labels
    ratio = _divided(after @ groups, before @ groups)
    each = _divided(after, before)
    mean = each @ groups / counts
    variance = np.square(each - mean[:, member]) @ groups / np.where(counts > 1, counts - 1, np.nan)
    repeated = {
        "block": [depth if row[1] == "final" else int(row[1].split(".")[1]) for row in found],
        "branch": [row[1].rpartition(".")[2] for row in found],
        "signal": [row[2] for row in found],
        "timestep": [row[0] for row in found],
    }
    wide = pd.DataFrame(
        {
            **{name: np.repeat(values, len(labels)) for name, values in repeated.items()},
            "label": np.tile(labels, len(found)),
            "n": np.tile(counts, len(found)),
            "ratio": ratio.ravel(),
            "deviation": np.sqrt(variance).ravel(),
        }
    )
    return wide.melt([*repeated, "label", "n"], var_name="statistic")


def _divided(after: np.ndarray, before: np.ndarray) -> np.ndarray:
    """The quotient; nan where there was nothing to change."""
    return after / np.where(before > 0, before, np.nan)


def change_limits(table: pd.DataFrame) -> tuple[float, float]:
    """Smallest and largest ratio in the table: the fixed ends of an axis."""
    ratios = table.loc[table["statistic"] == "ratio", "value"].dropna()
    return (float(ratios.min()), float(ratios.max())) if len(ratios) else (1.0, 1.0)


DEFAULTS = (Default(modulation_change, ChangeSettings()),)

"""Interventions carried out: a visitor of the probe points, for one context and its forward passes.

Each sample of a batch has its own timestep and label, so each intervention acts by a mask.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import cast

import torch
from torch import Tensor

from mpdit_core.branches import Branch as BranchModule
from mpdit_core.config import ModelConfig
from mpdit_core.errors import ImpossibleIntervention
from mpdit_core.interventions.intervention import Intervention, Label
from mpdit_core.model import MPDiT
from mpdit_core.modulation import Signals
from mpdit_core.points import unvisited, visiting


@contextmanager
def intervening(model: MPDiT, interventions: Sequence[Intervention]) -> Iterator[None]:
    """Carry out the interventions, in this order, in every forward pass of `model` in this context.

    Other threads that use the model see nothing of it. Raises ImpossibleIntervention at the start
    if the model lacks what one names, and at the end if one never acted on any sample (as with
    timesteps that no forward pass had): a change that silently did nothing would look like a
    finding.

    >>> from mpdit_core import ModelConfig
    >>> from mpdit_core.interventions import SkipBranch
    >>> model = MPDiT(ModelConfig(depth=2, width=16, heads=2))
    >>> with intervening(model, [SkipBranch(blocks=(1,), branches=("mlp",))]):
    ...     model(torch.zeros(1, 1, 8, 8), torch.tensor([500]), torch.tensor([3])).shape
    torch.Size([1, 2, 8, 8])
    """
    for intervention in interventions:
        intervention.check(model.config)
    visitor = _Visitor(model, interventions)
    with visiting(visitor):
        yield
    for number, intervention in enumerate(interventions):
        if number not in visitor.acted:
            raise ImpossibleIntervention(
                f"{intervention.text!r} never acted: no forward pass ran, or none had a sample "
                "at its timesteps and of its half"
            )


class _Visitor:
    """Acts at the points of the interventions; `acted` holds the numbers of those that did."""

    def __init__(self, model: MPDiT, interventions: Sequence[Intervention]) -> None:
        self.model, self.interventions = model, interventions
        self.at: dict[str, list[int]] = {}
        for number, one in enumerate(interventions):
            for block, branch in one.places(model.config):
                for word in one.points():
                    self.at.setdefault(f"blocks.{block}.{branch}.{word}", []).append(number)
        self.acted: set[int] = set()
        # A context that is copied to another thread, as asyncio does, shares its visitors.
        self.own = threading.local()

    def begin(self, timesteps: Tensor, labels: Tensor) -> None:
        self.own.forward = _Forward(self.model, self.interventions, timesteps, labels)

    def wants(self, name: str) -> bool:
        return False

    def visit(self, name: str, tensor: Tensor) -> Tensor:
        forward: _Forward | None = getattr(self.own, "forward", None)
        if forward is None:  # a part of the model called by itself: no timesteps, no labels
            return tensor
        for number in self.at.get(name, ()):
            mask = forward.masks[number]
            if mask is not None:
                self.acted.add(number)
                changed = self.interventions[number].act(name, tensor, forward)
                # Where nothing is to be done the very tensor stays: it may hold a nan.
                shaped = mask.reshape(-1, *[1] * (tensor.dim() - 1))
                tensor = torch.where(shaped, changed, tensor)
        return tensor


class _Forward:
    """One forward pass: who is acted on, and the model's signals at other labels and timesteps.

    masks: per intervention the samples it acts on, (batch,) bool; None where that is nobody."""

    def __init__(
        self, model: MPDiT, interventions: Sequence[Intervention], timesteps: Tensor, labels: Tensor
    ) -> None:
        self.model, self.timesteps, self.labels = model, timesteps, labels
        self.config: ModelConfig = model.config
        masks = [self._mask(one) for one in interventions]
        self.masks = [mask if bool(mask.any()) else None for mask in masks]
        self._activated: dict[tuple[Label, int | None], Tensor] = {}
        self._signals: dict[tuple[str, Label, int | None], Signals] = {}

    def _mask(self, one: Intervention) -> Tensor:
        chosen = torch.ones_like(self.timesteps, dtype=torch.bool)
        if one.timesteps:
            inside = [(first <= self.timesteps) & (self.timesteps <= last)
                      for first, last in one.timesteps]  # fmt: skip
            chosen = torch.stack(inside).any(dim=0)
        if one.half == "both":
            return chosen
        return chosen & ((self.labels == self.config.null_label) == (one.half == "null"))

    def signal(self, point: str, label: Label, timestep: int | None) -> Tensor:
        """The signal at a point for another label or timestep, (batch, width or half of it)."""
        _, block, branch, word = point.split(".")
        key = (f"{block}.{branch}", label, timestep)
        if key not in self._signals:
            module = cast(BranchModule, getattr(self.model.blocks[int(block)], branch))
            assert module.modulation is not None  # `check` found the signal
            with unvisited():
                self._signals[key] = module.modulation(self._condition(label, timestep))
        value = getattr(self._signals[key], word)
        assert isinstance(value, Tensor)
        return value

    def _condition(self, label: Label, timestep: int | None) -> Tensor:
        """The condition after its nonlinearity, (batch, width); once per forward pass."""
        if (label, timestep) not in self._activated:
            t, y = self.timesteps, self.labels
            number = self.config.null_label if label == "null" else label
            t = t if timestep is None else torch.full_like(t, timestep)
            y = y if number is None else torch.full_like(y, number)
            self._activated[label, timestep] = self.model.activation(self.model.condition(t, y))
        return self._activated[label, timestep]

"""What the condition does to a branch: scale, shift and rotation before it, gate after it [MP]."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mpdit_core.config import ModelConfig, Signal
from mpdit_core.layers import Linear, mp_sum, rotate, rotate_adjacent
from mpdit_core.points import Point

POINT_OF_SIGNAL: dict[Signal, str] = {
    "scale": "scale", "shift": "shift", "rotation": "angle", "gate": "gate"
}  # fmt: skip


@dataclass(frozen=True)
class Signals:
    """The modulation of one branch for a batch; None where the config has no such signal.

    scale, shift, gate (batch, width); angle (batch, width/2) in radians."""

    scale: Tensor | None = None
    shift: Tensor | None = None
    angle: Tensor | None = None
    gate: Tensor | None = None


class Modulation(nn.Module):
    """Condition -> signals of one branch: one linear, a gain per signal that starts at 0.

    Without weight normalization the weights start at 0 instead, and there are no gains."""

    def __init__(self, config: ModelConfig, signals: tuple[Signal, ...], prefix: str) -> None:
        super().__init__()
        self.signals = signals
        self.widths = [config.width // 2 if s == "rotation" else config.width for s in signals]
        normalized = config.weight_normalization
        self.linear = Linear(
            config.width, sum(self.widths), normalized=normalized, zero_start=not normalized
        )
        gained = normalized and config.modulation_form == "affine"
        self.gain = nn.Parameter(torch.zeros(len(signals))) if gained else None
        self.points = nn.ModuleList(Point(f"{prefix}.{POINT_OF_SIGNAL[s]}") for s in signals)

    def forward(self, activated: Tensor) -> Signals:
        """activated: the condition after its nonlinearity, (batch, width)."""
        values = self.linear(activated).split(self.widths, dim=-1)
        if self.gain is not None:
            values = [value * gain for value, gain in zip(values, self.gain, strict=True)]
        named = {
            POINT_OF_SIGNAL[signal]: point(value)
            for signal, point, value in zip(self.signals, self.points, values, strict=True)
        }
        return Signals(**named)


class Affine(nn.Module):
    """x (1 + scale) + shift, then rotation."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.turn = rotate if config.pairing == "half" else rotate_adjacent

    def forward(self, tokens: Tensor, signals: Signals) -> Tensor:
        """tokens (batch, tokens, width)."""
        if signals.scale is not None:
            tokens = tokens * (1 + signals.scale.unsqueeze(1))
        if signals.shift is not None:
            tokens = tokens + signals.shift.unsqueeze(1)
        if signals.angle is not None:
            tokens = self.turn(tokens, signals.angle)
        return tokens


class MagnitudePreservingSum(Affine):
    """MP-sum of x * scale with the shift, its share learned from 0; then rotation (`head` era)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.share = nn.Parameter(torch.zeros(()))

    def forward(self, tokens: Tensor, signals: Signals) -> Tensor:
        scaled = tokens if signals.scale is None else tokens * signals.scale.unsqueeze(1)
        if signals.shift is not None:
            scaled = mp_sum(scaled, signals.shift.unsqueeze(1), self.share)
        return super().forward(scaled, Signals(angle=signals.angle))


def modulator(config: ModelConfig) -> Affine:
    """How the signals of this config act on the tokens before a branch."""
    return Affine(config) if config.modulation_form == "affine" else MagnitudePreservingSum(config)


def apply_gate(branch: Tensor, gate: Tensor | None, form: str) -> Tensor:
    """`gate * branch` (adaLN-Zero), or `(1 + gate) * branch`; branch (batch, tokens, width)."""
    if gate is None:
        return branch
    factor = gate if form == "gate" else 1 + gate
    return branch * factor.unsqueeze(1)

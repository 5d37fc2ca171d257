"""What can be done to a forward pass: one class a kind."""

import math
from typing import Annotated, Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor

from mpdit_core.config import ModelConfig, Signal
from mpdit_core.interventions.intervention import (
    Intervention,
    Pass,
    numbers_text,
    numbers_words,
)
from mpdit_core.layers import STREAM_BALANCE
from mpdit_core.modulation import POINT_OF_SIGNAL
from mpdit_core.words import listed

SignalPoint = Literal["shift", "scale", "gate", "angle"]
Where = Literal["stream", "in", "out"]
Factor = Annotated[float, Field(ge=-1000, le=1000)]
Channel = Annotated[int, Field(ge=0)]

SIGNAL_OF_POINT: dict[str, Signal] = {point: signal for signal, point in POINT_OF_SIGNAL.items()}
SIGNAL_WORDS = {"shift": "shift", "scale": "scale", "gate": "gate", "angle": "rotation angles"}
WHERE_WORDS = {"stream": "the stream", "in": "its input", "out": "its output"}
_POINT_OF_WHERE = {"stream": "resid", "in": "in", "out": "out"}


class ScaleAngle(Intervention):
    """Rotation angles times a factor; 0 leaves nothing of the rotation."""

    kind: Literal["scale_angle"] = "scale_angle"
    factor: Factor

    def act(self, point: str, tensor: Tensor, forward: Pass) -> Tensor:
        return tensor * self.factor

    def points(self) -> tuple[str, ...]:
        return ("angle",)

    def what(self) -> str:
        return f"angle*{_number(self.factor)}"

    def done(self) -> str:
        return f"with rotation angles × {self.factor:g}"

    def check(self, config: ModelConfig) -> None:
        super().check(config)
        _need_signal(self, "angle", config)


class SetSignal(Intervention):
    """A signal of the modulation at its value for another label or timestep, or without effect.

    label: a class, or "null"; timestep; what is None stays the sample's own. Both None: the signal
    has no effect, see `neutral`. A gate without effect lets the branch through as it is; to remove
    the branch, skip it or scale it by 0. The values are the model's own: computed from its
    condition, which other interventions do not reach."""

    kind: Literal["set_signal"] = "set_signal"
    signal: SignalPoint
    label: Annotated[int, Field(ge=0)] | Literal["null"] | None = None
    timestep: int | None = Field(default=None, ge=0)

    def act(self, point: str, tensor: Tensor, forward: Pass) -> Tensor:
        if self.label is None and self.timestep is None:
            return torch.full_like(tensor, neutral(self.signal, forward.config))
        return forward.signal(point, self.label, self.timestep)

    def points(self) -> tuple[str, ...]:
        return (self.signal,)

    def what(self) -> str:
        label = "null" if self.label == "null" else f"y{self.label}"
        parts = [label] if self.label is not None else []
        parts += [f"t{self.timestep}"] if self.timestep is not None else []
        return f"{self.signal}={'.'.join(parts) or 'none'}"

    def done(self) -> str:
        label = "the null label" if self.label == "null" else f"label {self.label}"
        parts = [label] if self.label is not None else []
        parts += [f"t = {self.timestep}"] if self.timestep is not None else []
        value = f"as for {listed(parts)}" if parts else "without effect"
        return f"with {SIGNAL_WORDS[self.signal]} {value}"

    def check(self, config: ModelConfig) -> None:
        super().check(config)
        _need_signal(self, self.signal, config)
        if isinstance(self.label, int) and self.label > config.null_label:
            self.refuse(
                f"has no label {self.label}; its labels are 0 to {config.classes - 1}, and "
                f"{config.null_label} for the null label"
            )
        if self.timestep is not None and self.timestep >= config.timesteps:
            self.refuse(f"knows the timesteps 0 to {config.timesteps - 1} only")


class SkipBranch(Intervention):
    """The stream passes a branch as if it were not there.

    In a magnitude-preserving sum a branch of zeros would still shrink the stream, by 0.919; that
    is undone. `ScaleBranch(factor=0)` leaves it."""

    kind: Literal["skip"] = "skip"

    def act(self, point: str, tensor: Tensor, forward: Pass) -> Tensor:
        if point.endswith(".gated"):
            return torch.zeros_like(tensor)
        return tensor / _share_of_stream(forward.config)

    def points(self) -> tuple[str, ...]:
        return ("gated", "resid")

    def what(self) -> str:
        return "skip"

    def done(self) -> str:
        return "skipped"


class ScaleBranch(Intervention):
    """The branch's output after the gate, which is added to the stream, times a factor."""

    kind: Literal["scale_branch"] = "scale_branch"
    factor: Factor

    def act(self, point: str, tensor: Tensor, forward: Pass) -> Tensor:
        return tensor * self.factor

    def points(self) -> tuple[str, ...]:
        return ("gated",)

    def what(self) -> str:
        return f"branch*{_number(self.factor)}"

    def done(self) -> str:
        return f"× {self.factor:g}"


class ZeroChannels(Intervention):
    """Channels, counted from 0, at 0.

    where: the stream after the branch was added; "in", what enters the branch, modulated; or
    "out", what leaves it, before the gate."""

    kind: Literal["zero"] = "zero"
    channels: tuple[Channel, ...] = Field(min_length=1)
    where: Where = "stream"

    @field_validator("channels")
    @classmethod
    def _ascending(cls, channels: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(sorted(set(channels)))

    def act(self, point: str, tensor: Tensor, forward: Pass) -> Tensor:
        return tensor.index_fill(-1, torch.tensor(self.channels, device=tensor.device), 0.0)

    def points(self) -> tuple[str, ...]:
        return (_POINT_OF_WHERE[self.where],)

    def what(self) -> str:
        return f"zero.{self.where}={numbers_text(self.channels)}"

    def done(self) -> str:
        plural = "s" if len(self.channels) > 1 else ""
        channels = f"channel{plural} {numbers_words(self.channels)}"
        return f"with {channels} of {WHERE_WORDS[self.where]} at 0"

    def check(self, config: ModelConfig) -> None:
        super().check(config)
        if self.channels[-1] >= config.width:
            self.refuse(
                f"has no channel {self.channels[-1]}; its channels are 0 to {config.width - 1}"
            )


AnyIntervention = Annotated[
    ScaleAngle | SetSignal | SkipBranch | ScaleBranch | ZeroChannels, Field(discriminator="kind")
]


def neutral(signal: SignalPoint, config: ModelConfig) -> float:
    """The value of a signal that has no effect.

    Scale: 0 in `x (1 + scale)`, 1 in the `head` era's `x scale`. Gate: 1 in `gate * branch`, 0 in
    `(1 + gate) * branch`. Shift and angle: 0."""
    if signal == "scale":
        return 0.0 if config.modulation_form == "affine" else 1.0
    return 1.0 if signal == "gate" and config.gate_form == "gate" else 0.0


def _need_signal(intervention: Intervention, point: SignalPoint, config: ModelConfig) -> None:
    if SIGNAL_OF_POINT[point] not in config.block_modulation:
        has = listed(config.block_modulation) or "nothing"
        intervention.refuse(f"has no {SIGNAL_OF_POINT[point]}: its blocks are modulated by {has}")


def _share_of_stream(config: ModelConfig) -> float:
    """What the sum of stream and branch multiplies the stream by."""
    s = STREAM_BALANCE
    return (1 - s) / math.hypot(1 - s, s) if config.mp_residual else 1.0


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)
